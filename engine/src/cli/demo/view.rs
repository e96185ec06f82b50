//! What the demo shows: a line, the head of its screen, and the last words. Pure: figures in, text out.

use std::collections::VecDeque;
use std::fmt::{self, Display};
use std::time::Duration;

use super::super::top::{Line, Tone};
use super::accounts::Balance;
use super::shop::Reason;
use crate::admin::overview::Overview;
use crate::telemetry::ledger::thousands;

/// One moment of the demo.
pub(super) struct Figures<'a> {
    /// Since it began.
    pub(super) seconds: u64,
    /// At the gateway: the oldest that is remembered, and the last.
    pub(super) looks: Option<(&'a Overview, &'a Overview)>,
    /// What was sent, and what arrived.
    pub(super) balance: Balance,
    /// From a request to its acknowledgement.
    pub(super) p99: Option<Duration>,
    /// Whether the sink refuses.
    pub(super) sink_fails: bool,
    /// Requests that the sink refused so far.
    pub(super) sink_refused: u64,
    /// How often the gateway was killed.
    pub(super) kills: u32,
    /// The admin page of the gateway that runs now.
    pub(super) page: String,
}

impl Figures<'_> {
    /// All of it.
    pub(super) fn line(&self) -> String {
        format!("{:>4} s  {}  {}  {}  {}", self.seconds, self.incoming(), self.kept(), self.outgoing(), self.state())
    }

    /// Over the screen of `top`.
    pub(super) fn head(&self, events: &VecDeque<String>) -> Vec<Line> {
        let wrong = self.balance.wrong + self.balance.strangers > 0;
        let mut lines = vec![
            Line::new(Tone::Head, &format!("DEMO  {} s   page {}", self.seconds, self.page)),
            Line::new(Tone::Plain, &format!("  {}", self.incoming())),
            Line::new(if wrong { Tone::Bad } else { Tone::Plain }, &format!("  {}", self.kept())),
            Line::new(Tone::Plain, &format!("  {}", self.outgoing())),
            Line::new(if self.sink_fails { Tone::Bad } else { Tone::Plain }, &format!("  {}", self.state())),
        ];
        lines.extend(events.iter().map(|event| Line::new(Tone::Plain, &format!("  - {event}"))));
        lines.push(Line::new(Tone::Plain, ""));
        lines
    }

    fn incoming(&self) -> String {
        let rate = self.looks.and_then(|(before, now)| {
            let seconds = now.gateway.uptime_ms.saturating_sub(before.gateway.uptime_ms) as f64 / 1e3;
            (seconds > 0.0).then(|| accepted(now).saturating_sub(accepted(before)) as f64 / seconds)
        });
        let rate = rate.map_or("…".to_owned(), |rate| thousands(rate.round() as u64));
        format!("in {} acknowledged ({rate}/s)", thousands(self.balance.taken))
    }

    fn kept(&self) -> String {
        kept(&self.balance)
    }

    fn outgoing(&self) -> String {
        format!("out {} archived, {} waiting", thousands(self.balance.archived), thousands(self.balance.missing))
    }

    fn state(&self) -> String {
        let books = match self.looks {
            Some((_, now)) if now.ledger["balanced"] == true => "books balanced",
            _ => "books moving",
        };
        let cores = self.looks.and_then(|(before, now)| {
            let cpu = now.gateway.cpu_seconds - before.gateway.cpu_seconds;
            per_million(cpu, accepted(now).saturating_sub(accepted(before)))
        });
        let sink = if self.sink_fails { "sink FAILS" } else { "sink takes" };
        let refused = match self.sink_refused {
            0 => String::new(),
            refused => format!(" ({} refused)", thousands(refused)),
        };
        let kills = match self.kills {
            0 => String::new(),
            kills => format!("  killed {kills}"),
        };
        format!("{books}  {}  {}  {sink}{refused}{kills}", p99_text(self.p99), cores_text(cores))
    }
}

/// How the demo ended.
#[derive(Clone, Debug)]
pub(super) struct Summary {
    /// Span by span.
    pub(super) balance: Balance,
    /// The gateway was empty, its own books balanced, and it ended as told.
    pub(super) gateway_balanced: bool,
    /// Cores that the last process would need for a million spans a second, at the cost of this load.
    pub(super) cores_per_million: Option<f64>,
    /// The last process's last words.
    pub(super) ledger: String,
    /// Requests of the load that were answered with something else than success.
    pub(super) refused: u64,
    /// Requests of the load that were not answered.
    pub(super) unanswered: u64,
    /// Requests that the sink refused.
    pub(super) sink_refused: u64,
    /// How often the gateway was killed.
    pub(super) kills: u32,
    /// From a request to its acknowledgement.
    pub(super) p99: Option<Duration>,
}

impl Summary {
    /// Whether everything is where it should be.
    pub(super) fn is_even(&self) -> bool {
        self.balance.is_even() && self.gateway_balanced
    }
}

impl Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Balance { offered, taken, archived, missing, undecided_at_kill, repeated, .. } = self.balance;
        let (offered, taken, archived) = (thousands(offered), thousands(taken), thousands(archived));
        writeln!(f, "in: {offered} spans sent, {taken} acknowledged")?;
        if self.refused + self.unanswered > 0 {
            let (refused, unanswered) = (thousands(self.refused), thousands(self.unanswered));
            writeln!(f, "    {refused} requests refused, {unanswered} unanswered, sent again")?;
        }
        writeln!(f, "{}", kept(&self.balance))?;
        writeln!(f, "out: {archived} archived, {} missing, {} twice", thousands(missing), thousands(repeated))?;
        if self.sink_refused > 0 {
            writeln!(f, "sink: refused {} requests, which were sent again", thousands(self.sink_refused))?;
        }
        if self.kills > 0 {
            let (kills, undecided) = (self.kills, thousands(undecided_at_kill));
            let times = if kills == 1 { "once" } else { &format!("{kills} times") };
            writeln!(
                f,
                "kill -9: {times}; {undecided} spans of traces not decided then were not kept; all are archived"
            )?;
        }
        writeln!(f, "{}; {}", p99_text(self.p99), cores_text(self.cores_per_million))?;
        writeln!(f, "gateway: {}", self.ledger)?;
        f.write_str(&self.verdict())
    }
}

impl Summary {
    fn verdict(&self) -> String {
        if self.is_even() {
            return "The balance is even: every acknowledged span arrived, and what was kept is what should be.\n"
                .to_owned();
        }
        let Balance { missing, kept_missing, wrong, strangers, .. } = self.balance;
        let faults = [
            (missing, "acknowledged spans did not arrive"),
            (kept_missing, "spans that a policy wants were not kept"),
            (wrong, "spans were kept that no policy wants"),
            (strangers, "spans arrived that were never sent"),
        ];
        let mut said: Vec<String> = faults
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{} {what}", thousands(*count)))
            .collect();
        if !self.gateway_balanced {
            said.push("the gateway's own books did not balance, or it did not end as told".to_owned());
        }
        format!("The balance is off: {}.\n", said.join("; "))
    }
}

/// Of a process since its start.
pub(super) fn cores_per_million_since_start(look: &Overview) -> Option<f64> {
    per_million(look.gateway.cpu_seconds, accepted(look))
}

fn per_million(cpu_seconds: f64, spans: u64) -> Option<f64> {
    (spans > 0).then(|| cpu_seconds * 1e6 / spans as f64)
}

/// Spans that the receiver took; it stands in both pipelines.
fn accepted(look: &Overview) -> u64 {
    let receivers = look.pipelines.iter().flat_map(|pipeline| &pipeline.receivers);
    receivers.map(|receiver| receiver.accepted).max().unwrap_or_default()
}

fn kept(balance: &Balance) -> String {
    let by_reason: Vec<String> = Reason::ALL
        .iter()
        .zip(balance.kept)
        .map(|(reason, spans)| format!("{} {}", reason.name(), thousands(spans)))
        .collect();
    format!("kept {}: {}", thousands(balance.kept.iter().sum()), by_reason.join(", "))
}

fn p99_text(p99: Option<Duration>) -> String {
    p99.map_or("p99 …".to_owned(), |p99| format!("p99 {:.1} ms", p99.as_secs_f64() * 1e3))
}

fn cores_text(cores: Option<f64>) -> String {
    cores.map_or("… cores per million spans/s".to_owned(), |cores| format!("{cores:.1} cores per million spans/s"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::overview::{Identity, PipelineView, ReceiverView};
    use serde_json::json;

    fn after(seconds: u64) -> Overview {
        let receivers = vec![ReceiverView { accepted: 4_000 * seconds, ..ReceiverView::default() }];
        Overview {
            gateway: Identity {
                uptime_ms: 1_000 * seconds,
                cpu_seconds: 0.008 * seconds as f64,
                ..Identity::default()
            },
            pipelines: vec![PipelineView { receivers, ..PipelineView::default() }; 2],
            ledger: json!({ "balanced": true }),
            ..Overview::default()
        }
    }

    fn balance() -> Balance {
        Balance {
            offered: 9_000,
            taken: 9_000,
            archived: 8_900,
            missing: 100,
            kept: [30, 20, 10],
            ..Balance::default()
        }
    }

    #[test]
    fn a_line_says_what_came_what_was_kept_and_why_what_left_and_what_it_cost() {
        let (before, now) = (after(10), after(12));
        let figures = Figures {
            seconds: 12,
            looks: Some((&before, &now)),
            balance: balance(),
            p99: Some(Duration::from_micros(3_140)),
            sink_fails: true,
            sink_refused: 7,
            kills: 1,
            page: "http://127.0.0.1:55679/".to_owned(),
        };
        assert_eq!(
            figures.line(),
            "  12 s  in 9,000 acknowledged (4,000/s)  kept 60: errors 30, slow 20, tenant 10  out 8,900 archived, 100 waiting  \
             books balanced  p99 3.1 ms  2.0 cores per million spans/s  sink FAILS (7 refused)  killed 1"
        );
        let first = Figures { looks: None, p99: None, sink_fails: false, sink_refused: 0, kills: 0, ..figures };
        assert!(
            first.line().contains("(…/s)") && first.line().ends_with("p99 …  … cores per million spans/s  sink takes")
        );
    }

    #[test]
    fn the_last_words_name_each_fault() {
        let mut summary = Summary {
            balance: Balance { missing: 0, archived: 9_000, undecided_at_kill: 40, repeated: 5, ..balance() },
            gateway_balanced: true,
            cores_per_million: Some(2.5),
            ledger: "Received 9,000 spans.".to_owned(),
            refused: 1,
            unanswered: 2,
            sink_refused: 7,
            kills: 1,
            p99: None,
        };
        assert_eq!(
            summary.to_string(),
            "in: 9,000 spans sent, 9,000 acknowledged\n    1 requests refused, 2 unanswered, sent again\n\
             kept 60: errors 30, slow 20, tenant 10\nout: 9,000 archived, 0 missing, 5 twice\n\
             sink: refused 7 requests, which were sent again\n\
             kill -9: once; 40 spans of traces not decided then were not kept; all are archived\n\
             p99 …; 2.5 cores per million spans/s\ngateway: Received 9,000 spans.\n\
             The balance is even: every acknowledged span arrived, and what was kept is what should be.\n"
        );
        summary.balance.missing = 3;
        summary.gateway_balanced = false;
        assert!(!summary.is_even());
        assert!(summary.to_string().ends_with(
            "The balance is off: 3 acknowledged spans did not arrive; the gateway's own books did not balance, or it did not end as told.\n"
        ));
    }
}
