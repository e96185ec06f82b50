//! `tracegate top`: the figures of the admin page in a terminal, each second.
//!
//! ```text
//! /overview --each second--> the last few looks --rates--> lines --cut to the terminal--> screen
//! ```
//!
//! The one idea: everything but the terminal is a pure function of two looks, so what is shown is what the page shows.
//! Where input or output is no terminal it prints one screen and ends, as with `--once`. It changes nothing in the
//! gateway and talks to nothing but its admin address.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Read, Write as _};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use super::traces::ask;
use crate::admin::overview::{HistogramView, Overview, PipelineView};
use crate::telemetry::ledger::thousands;

/// Arguments of `tracegate top`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Admin address of the gateway.
    #[arg(long, default_value = "http://127.0.0.1:55679")]
    pub url: String,
    /// Looks twice, a second apart, prints one screen and ends
    #[arg(long)]
    pub once: bool,
}

/// Between two looks.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looks that are remembered: rates are over five seconds, so that a number can be read before it changes.
const LOOKS_MAX: usize = 6;
/// Characters of a bar.
const BAR_WIDTH: usize = 20;
/// Rows that a line may take more than one; what does not fit then is cut.
const FOLDS_MAX: usize = 3;
/// Rows of counters by reason; the rest is on the page.
const REFUSALS_SHOWN_MAX: usize = 12;

/// Runs until somebody presses `q`, or once.
pub fn run(arguments: &Arguments) -> ExitCode {
    let watched = io::stdin().is_terminal() && io::stdout().is_terminal();
    let shown = if arguments.once || !watched { once(&arguments.url) } else { watch(&arguments.url) };
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Asks a gateway once.
pub(super) fn look(url: &str) -> Result<Overview, String> {
    ask(url, "/overview")
}

fn once(url: &str) -> Result<(), String> {
    let before = look(url)?;
    std::thread::sleep(LOOK_EVERY);
    let now = look(url)?;
    let mut text = String::new();
    for line in screen(&before, &now) {
        writeln!(text, "{}", line.text.trim_end()).expect("writing to a string cannot fail");
    }
    // A closed pipe (`| head`) is not an error of this command.
    drop(io::stdout().write_all(text.as_bytes()));
    Ok(())
}

fn watch(url: &str) -> Result<(), String> {
    // The first look comes before the screen is taken, so that an error stays readable.
    let mut looks = VecDeque::from([look(url)?]);
    let terminal = Terminal::enter().map_err(|error| format!("the terminal cannot be used: {error}"))?;
    let (sender, keys) = mpsc::channel();
    read_keys(sender);
    loop {
        let (before, now) = (&looks[0], &looks[looks.len() - 1]);
        let drawn = terminal.show(&screen(before, now), "q ends; more at the admin page");
        if drawn.is_err() || wants_to_leave(&keys) {
            return Ok(());
        }
        remember(&mut looks, look(url)?);
    }
}

/// Adds a look to the last few of the same process.
pub(super) fn remember(looks: &mut VecDeque<Overview>, next: Overview) {
    if looks.back().is_some_and(|last| next.gateway.uptime_ms < last.gateway.uptime_ms) {
        // Another process answers now; its counts have nothing to do with the old ones.
        looks.clear();
    }
    looks.push_back(next);
    if looks.len() > LOOKS_MAX {
        looks.pop_front();
    }
}

/// What a terminal sends for its end, and we for the end of any other input.
pub(super) const CONTROL_D: u8 = 4;
/// What a terminal in our mode sends instead of a signal.
pub(super) const CONTROL_C: u8 = 3;

/// Bytes typed, read by a thread of their own: it ends with the process, or after [`CONTROL_D`] with the input.
pub(super) fn read_keys(sender: Sender<u8>) {
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        let mut typed = [0; 16];
        // No bytes are the end of the input.
        while let Ok(count @ 1..) = input.read(&mut typed) {
            if typed[..count].iter().any(|byte| sender.send(*byte).is_err()) {
                return;
            }
        }
        // Whoever took them is gone: then so is the reason to read.
        let _ = sender.send(CONTROL_D);
    });
}

/// Waits for the time of the next look; true if somebody asked to end.
fn wants_to_leave(keys: &Receiver<u8>) -> bool {
    match keys.recv_timeout(LOOK_EVERY) {
        Ok(key) => matches!(key, b'q' | b'Q' | CONTROL_C | CONTROL_D),
        Err(RecvTimeoutError::Timeout) => false,
        Err(RecvTimeoutError::Disconnected) => true,
    }
}

/// A terminal whose keys come one by one; given back as it was when dropped.
pub(super) struct Terminal {
    before: Termios,
}

impl Terminal {
    pub(super) fn enter() -> io::Result<Terminal> {
        let before = tcgetattr(io::stdin())?;
        let mut modes = before.clone();
        modes.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        tcsetattr(io::stdin(), OptionalActions::Now, &modes)?;
        let terminal = Terminal { before };
        // The other screen, no cursor.
        terminal.write("\x1b[?1049h\x1b[?25l")?;
        Ok(terminal)
    }

    fn write(&self, text: &str) -> io::Result<()> {
        let mut output = io::stdout().lock();
        output.write_all(text.as_bytes())?;
        output.flush()
    }

    /// Draws the lines that fit, and under them one that says which keys there are.
    pub(super) fn show(&self, lines: &[Line], keys: &str) -> io::Result<()> {
        let size = tcgetwinsize(io::stdout())?;
        // A terminal that does not know its size says 0.
        let (rows, columns) = match (size.ws_row, size.ws_col) {
            (0, _) | (_, 0) => (24, 80),
            (rows, columns) => (usize::from(rows).max(2), usize::from(columns).max(20)),
        };
        let mut text = "\x1b[H".to_owned();
        for line in fitted(lines, rows - 1, columns - 1) {
            let (begin, end) = match line.tone {
                Tone::Plain => ("", ""),
                Tone::Head => ("\x1b[1m", "\x1b[0m"),
                Tone::Bad => ("\x1b[31m", "\x1b[0m"),
            };
            let text_of = line.text;
            write!(text, "{begin}{text_of}{end}\x1b[K\r\n").expect("writing to a string cannot fail");
        }
        let keys: String = keys.chars().take(columns - 1).collect();
        write!(text, "\x1b[2m{keys}\x1b[0m\x1b[K\x1b[J").expect("writing to a string cannot fail");
        self.write(&text)
    }
}

/// The lines that fit on a screen, long ones folded between words; where they are too many, empty ones go first.
fn fitted(lines: &[Line], rows: usize, columns: usize) -> Vec<Line> {
    let folded: Vec<Line> = lines
        .iter()
        .flat_map(|line| {
            let fold = |text| Line { text, tone: line.tone };
            folded(&line.text, columns).into_iter().map(fold).collect::<Vec<Line>>()
        })
        .collect();
    let is_full = folded.len() > rows;
    folded.into_iter().filter(|line| !(is_full && line.text.is_empty())).take(rows).collect()
}

/// A line as rows of at most `columns` characters, each begun four characters further right than the first.
fn folded(text: &str, columns: usize) -> Vec<String> {
    let indent = " ".repeat((text.len() - text.trim_start_matches(' ').len() + 4).min(columns / 2));
    let mut rows = Vec::new();
    let mut rest: Vec<char> = text.chars().collect();
    while rest.len() > columns && rows.len() < FOLDS_MAX {
        // A word that is longer than the row is cut.
        let end = (1..=columns).rev().find(|at| rest[*at] == ' ' && rest[at - 1] != ' ').unwrap_or(columns);
        let later: String = rest[end..].iter().collect();
        rows.push(rest[..end].iter().collect());
        rest = indent.chars().chain(later.trim_start().chars()).collect();
    }
    rows.push(rest.into_iter().take(columns).collect());
    rows
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // If the terminal is gone there is nobody to tell.
        drop(self.write("\x1b[?25h\x1b[?1049l"));
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Head,
    Bad,
}

/// A line without control characters, whatever the answer held.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) text: String,
    tone: Tone,
}

impl Line {
    pub(super) fn new(tone: Tone, text: &str) -> Line {
        let text = text.chars().map(|character| if character.is_control() { '?' } else { character }).collect();
        Line { text, tone }
    }
}

/// Two looks at the same gateway.
#[derive(Clone, Copy)]
struct Looks<'a> {
    before: &'a Overview,
    now: &'a Overview,
}

/// What two looks say, line by line.
pub(super) fn screen(before: &Overview, now: &Overview) -> Vec<Line> {
    let looks = Looks { before, now };
    let mut lines = looks.head();
    // What is asked first stands first: the last ones do not fit on a small screen.
    let views: [(&str, Vec<Line>); 7] = [
        ("PIPELINES", looks.pipelines()),
        ("QUEUES", looks.queues()),
        ("SHARDS", looks.shards()),
        ("BUDGET", looks.budget()),
        ("POLICIES", looks.policies()),
        ("LATENCY AND SIZES", latency(&now.latency)),
        ("REFUSALS AND ERRORS", looks.refusals()),
    ];
    for (title, view) in views.into_iter().filter(|(_, view)| !view.is_empty()) {
        lines.push(Line::new(Tone::Plain, ""));
        lines.push(Line::new(Tone::Head, title));
        lines.extend(view);
    }
    lines
}

impl Looks<'_> {
    fn seconds(self) -> f64 {
        self.now.gateway.uptime_ms.saturating_sub(self.before.gateway.uptime_ms) as f64 / 1e3
    }

    /// Change a second of a total; `None` with one look only.
    fn rate(self, total: impl Fn(&Overview) -> Option<u64>) -> Option<f64> {
        let seconds = self.seconds();
        let grown = total(self.now)?.saturating_sub(total(self.before)?);
        (seconds > 0.0).then(|| grown as f64 / seconds)
    }

    fn head(self) -> Vec<Line> {
        let Overview { gateway, ledger, .. } = self.now;
        let cpu = gateway.cpu_seconds - self.before.gateway.cpu_seconds;
        let cores =
            if self.seconds() > 0.0 { format!("{:.2} cores", cpu / self.seconds()) } else { "… cores".to_owned() };
        let (up, memory) = (seconds_text(gateway.uptime_ms as f64 / 1e3), bytes_text(gateway.resident_bytes));
        let tone = if gateway.state == "ready" { Tone::Head } else { Tone::Bad };
        let first = format!("tracegate {}: {}, up {up}, {cores}, {memory} resident", gateway.version, gateway.state);
        let balanced = ledger["balanced"] == true;
        let sentence = ledger["sentence"].as_str().unwrap_or_default();
        let second = Line::new(if balanced { Tone::Plain } else { Tone::Bad }, sentence);
        vec![Line::new(tone, &first), second]
    }

    fn pipelines(self) -> Vec<Line> {
        let pipelines = self.now.pipelines.iter().enumerate();
        pipelines.map(|(at, pipeline)| Line::new(Tone::Plain, &self.pipeline(at, pipeline))).collect()
    }

    /// `traces: otlp 1,200/s > tail_sampling 1,200/s to 100/s > otlp/jaeger 100/s`
    fn pipeline(self, at: usize, pipeline: &PipelineView) -> String {
        let receivers = pipeline.receivers.iter().enumerate().map(|(node, receiver)| {
            let rate = self.rate(|look| Some(look.pipelines.get(at)?.receivers.get(node)?.accepted));
            if receiver.connector { receiver.id.clone() } else { format!("{} {}", receiver.id, rate_text(rate)) }
        });
        let processors = pipeline.processors.iter().enumerate().map(|(node, processor)| {
            let incoming = self.rate(|look| Some(look.pipelines.get(at)?.processors.get(node)?.incoming));
            let outgoing = self.rate(|look| Some(look.pipelines.get(at)?.processors.get(node)?.outgoing));
            let (incoming, outgoing) = (rate_text(incoming), rate_text(outgoing));
            let flow = if incoming == outgoing { outgoing } else { format!("{incoming} to {outgoing}") };
            format!("{} {flow}", processor.id)
        });
        let exporters = pipeline.exporters.iter().enumerate().map(|(node, exporter)| {
            let rate = self.rate(|look| Some(look.pipelines.get(at)?.exporters.get(node)?.delivered));
            let waiting = match exporter.in_flight {
                0 => String::new(),
                held => format!(" ({} in flight)", thousands(held)),
            };
            format!("{} {}{waiting}", exporter.id, rate_text(rate))
        });
        let mut columns = vec![receivers.collect::<Vec<_>>().join(", ")];
        columns.extend(processors);
        columns.push(exporters.collect::<Vec<_>>().join(", "));
        format!("  {}: {}", pipeline.id, columns.join(" > "))
    }

    fn shards(self) -> Vec<Line> {
        let shards = self.now.shards.iter().enumerate();
        let lines = shards.map(|(at, shard)| {
            let busy = shard.busy_percent;
            let rate = self.rate(|look| Some(look.shards.get(at)?.accepted));
            let text = format!(
                "  {at:>3} {} {busy:>3} % busy  {} connections  {} taken  {} pending traces  {}",
                bar(busy as f64 / 100.0),
                thousands(shard.connections),
                rate_text(rate),
                thousands(shard.traces),
                bytes_text(shard.held_bytes),
            );
            Line::new(if busy > 90 { Tone::Bad } else { Tone::Plain }, &text)
        });
        lines.collect()
    }

    fn budget(self) -> Vec<Line> {
        let budget = &self.now.budget;
        let share = part(budget.held_bytes, budget.limit_bytes);
        let growth = self.rate(|look| Some(look.budget.held_bytes));
        let text = format!(
            "  {} {:.1} %  {} of {}, {}",
            bar(share),
            share * 100.0,
            bytes_text(budget.held_bytes),
            bytes_text(budget.limit_bytes),
            until_full(budget.held_bytes, budget.limit_bytes, growth),
        );
        let holders = budget.holders.iter().filter(|holder| holder.bytes > 0);
        let held: Vec<String> =
            holders.map(|holder| format!("{} {}", holder.holder, bytes_text(holder.bytes))).collect();
        let mut lines = vec![Line::new(if share > 0.8 { Tone::Bad } else { Tone::Plain }, &text)];
        if !held.is_empty() {
            lines.push(Line::new(Tone::Plain, &format!("  {}", held.join(", "))));
        }
        lines
    }

    fn queues(self) -> Vec<Line> {
        let queues = self.now.queues.iter().enumerate();
        let lines = queues.map(|(at, queue)| {
            let share = part(queue.size, queue.capacity);
            let growth = self.rate(|look| Some(look.queues.get(at)?.size));
            let sent = self.rate(|look| Some(look.queues.get(at)?.sent));
            let held = match queue.unit.as_str() {
                "bytes" => format!("{} of {}", bytes_text(queue.size), bytes_text(queue.capacity)),
                unit => format!("{} of {} {unit}", thousands(queue.size), thousands(queue.capacity)),
            };
            let text = format!(
                "  {} {} {held}, {} under way, {}, oldest {}, {} sent, {} failed",
                bar(share),
                queue.exporter,
                thousands(queue.under_way),
                until_full(queue.size, queue.capacity, growth),
                seconds_text(queue.oldest_age_seconds as f64),
                rate_text(sent),
                thousands(queue.failed),
            );
            Line::new(if share > 0.8 { Tone::Bad } else { Tone::Plain }, &text)
        });
        lines.collect()
    }

    fn policies(self) -> Vec<Line> {
        let policies = &self.now.policies;
        if policies.policies.is_empty() {
            return Vec::new();
        }
        let decided = policies.kept + policies.not_kept;
        let (pending, kept) = (thousands(policies.pending), thousands(policies.kept));
        let first = format!("  {pending} traces pending; of {} decided {kept} kept", thousands(decided));
        let lines = policies.policies.iter().enumerate().map(|(at, policy)| {
            let asked = policy.sampled + policy.not_sampled + policy.dropped;
            let share = part(policy.sampled, asked);
            let rate = self.rate(|look| Some(look.policies.policies.get(at)?.sampled));
            let (bar, rate, wanted) = (bar(share), rate_text(rate), thousands(policy.sampled));
            let wants = if policy.dry_run { "would have kept" } else { "wanted kept" };
            Line::new(
                Tone::Plain,
                &format!("  {bar} {}: {wants} {wanted} ({:.1} %), {rate}", policy.policy, share * 100.0),
            )
        });
        std::iter::once(Line::new(Tone::Plain, &first)).chain(lines).collect()
    }

    fn refusals(self) -> Vec<Line> {
        let counts = self.now.refusals.iter().enumerate().filter(|(_, count)| count.count > 0);
        let lines = counts.take(REFUSALS_SHOWN_MAX).map(|(at, count)| {
            let rate = self.rate(|look| Some(look.refusals.get(at)?.count));
            let labels: Vec<String> = count.labels.iter().map(|(name, value)| format!("{name} {value}")).collect();
            let (total, rate) = (thousands(count.count), rate_text(rate));
            Line::new(Tone::Bad, &format!("  {total} ({rate})  {} [{}]", count.help, labels.join(", ")))
        });
        lines.collect()
    }
}

fn latency(histograms: &[HistogramView]) -> Vec<Line> {
    let some = histograms.iter().filter(|histogram| histogram.count > 0);
    let lines = some.map(|histogram| {
        let told = |share: f64| match histogram.quantile(share) {
            Some(bound) => format!("<= {}", measured(bound, &histogram.unit)),
            None => format!("> {}", measured(histogram.bounds.last().copied().unwrap_or_default(), &histogram.unit)),
        };
        let of: Vec<&str> = histogram.labels.values().map(String::as_str).collect();
        let (name, of, seen) = (&histogram.name, of.join(" "), thousands(histogram.count));
        Line::new(Tone::Plain, &format!("  {name} {of}: p50 {}, p99 {}, {seen} observations", told(0.5), told(0.99)))
    });
    lines.collect()
}

/// A size in a unit in which people read it: times below a second in smaller ones.
fn measured(size: f64, unit: &str) -> String {
    let (size, unit) = match unit {
        "s" if size < 0.001 => (size * 1e6, "us"),
        "s" if size < 1.0 => (size * 1e3, "ms"),
        _ => (size, unit),
    };
    // Bounds that are powers of two have many digits, which say nothing.
    format!("{} {unit}", (size * 10.0).round() / 10.0)
}

fn part(amount: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { amount as f64 / whole as f64 }
}

fn bar(share: f64) -> String {
    let filled = (share.clamp(0.0, 1.0) * BAR_WIDTH as f64).round() as usize;
    format!("[{}{}]", "#".repeat(filled), ".".repeat(BAR_WIDTH - filled))
}

fn rate_text(rate: Option<f64>) -> String {
    match rate {
        None => "…/s".to_owned(),
        Some(rate) if rate > 0.0 && rate < 10.0 => format!("{rate:.1}/s"),
        Some(rate) => format!("{}/s", thousands(rate.round() as u64)),
    }
}

/// When a level that grows so much a second reaches its limit.
fn until_full(level: u64, limit: u64, growth: Option<f64>) -> String {
    match growth {
        _ if limit > 0 && level >= limit => "full".to_owned(),
        None => "…".to_owned(),
        Some(growth) if growth <= limit as f64 / 1e5 => "not filling".to_owned(),
        Some(growth) => format!("full in {}", seconds_text(limit.saturating_sub(level) as f64 / growth)),
    }
}

fn seconds_text(seconds: f64) -> String {
    match seconds {
        ..90.0 => format!("{seconds:.0} s"),
        ..5_400.0 => format!("{:.0} min", seconds / 60.0),
        ..129_600.0 => format!("{:.0} h", seconds / 3_600.0),
        _ => format!("{:.0} d", seconds / 86_400.0),
    }
}

fn bytes_text(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.iter().find(|(_, size)| bytes >= *size) {
        Some((unit, size)) => format!("{:.1} {unit}", bytes as f64 / *size as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::overview::{
        BudgetView, Count, ExporterView, Identity, PoliciesView, PolicyView, ProcessorView, QueueView, ReceiverView,
        ShardView,
    };
    use serde_json::json;

    /// A gateway after so many seconds in which it took 100 spans each, and kept one trace of ten.
    fn after(seconds: u64) -> Overview {
        let spans = 100 * seconds;
        let named = |id: &str| id.to_owned();
        Overview {
            gateway: Identity {
                version: named("1.0"),
                state: named("ready"),
                uptime_ms: seconds * 1_000,
                cpu_seconds: seconds as f64 / 2.0,
                resident_bytes: 3 << 20,
            },
            pipelines: vec![PipelineView {
                id: named("traces"),
                signal: named("traces"),
                receivers: vec![ReceiverView { id: named("otlp"), accepted: spans, ..ReceiverView::default() }],
                processors: vec![ProcessorView { id: named("tail_sampling"), incoming: spans, outgoing: spans / 10 }],
                exporters: vec![ExporterView {
                    id: named("otlp/jaeger"),
                    delivered: spans / 10,
                    in_flight: 1_234,
                    ..ExporterView::default()
                }],
            }],
            ledger: json!({ "balanced": true, "sentence": "Received spans; nothing lost." }),
            shards: vec![ShardView { busy_percent: 50, connections: 2, accepted: spans, ..ShardView::default() }],
            budget: BudgetView { limit_bytes: 1 << 20, held_bytes: seconds << 10, ..BudgetView::default() },
            queues: vec![QueueView {
                unit: "items".to_owned(),
                exporter: named("otlp/jaeger"),
                capacity: 100,
                size: 100,
                oldest_age_seconds: 120,
                ..QueueView::default()
            }],
            policies: PoliciesView {
                kept: seconds,
                not_kept: 9 * seconds,
                policies: vec![PolicyView {
                    policy: named("errors"),
                    dry_run: false,
                    sampled: seconds,
                    not_sampled: 9 * seconds,
                    dropped: 0,
                }],
                ..PoliciesView::default()
            },
            refusals: vec![Count { help: named("Refused.\u{1b}[2J"), count: seconds, ..Count::default() }],
            ..Overview::default()
        }
    }

    fn shown(before: u64, now: u64) -> String {
        let lines = screen(&after(before), &after(now));
        lines.iter().map(|line| format!("{}\n", line.text)).collect()
    }

    #[test]
    fn rates_are_made_of_two_looks() {
        let text = shown(10, 12);
        for expected in [
            "tracegate 1.0: ready, up 12 s, 0.50 cores, 3.0 MiB resident\nReceived spans; nothing lost.\n",
            "  traces: otlp 100/s > tail_sampling 100/s to 10/s > otlp/jaeger 10/s (1,234 in flight)\n",
            "  0 [##########..........]  50 % busy  2 connections  100/s taken",
            "  [....................] 1.2 %  12.0 KiB of 1.0 MiB, full in 17 min\n",
            "otlp/jaeger 100 of 100 items, 0 under way, full, oldest 2 min, ",
            "  [##..................] errors: wanted kept 12 (10.0 %), 1.0/s\n",
        ] {
            assert!(text.contains(expected), "{expected}\nis not in\n{text}");
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_folded_between_words_and_cut_after_a_few_rows() {
        let rows = |text: &str, columns| folded(text, columns).join("|");
        assert_eq!(rows("as it is", 8), "as it is");
        assert_eq!(rows("  one two three", 10), "  one two|     three");
        assert_eq!(rows("", 20), "");
        let long = "word ".repeat(30);
        let all = folded(&long, 20);
        assert!(all.len() == FOLDS_MAX + 1 && all.iter().all(|row| row.chars().count() <= 20), "{all:?}");
        let lines = ["one", "", "two", "three"].map(|text| Line::new(Tone::Plain, text));
        let shown = |rows| fitted(&lines, rows, 20).into_iter().map(|line| line.text).collect::<Vec<_>>().join("|");
        assert_eq!([4, 3, 2].map(shown), ["one||two|three", "one|two|three", "one|two"]);
    }

    #[test]
    fn bounds_are_told_as_people_say_them() {
        let told = [(0.000_25, "s"), (0.001_048_576, "s"), (0.5, "s"), (34.359_738_368, "s"), (2_000.0, "items")];
        let told = told.map(|(size, unit)| measured(size, unit));
        assert_eq!(told, ["250 us", "1 ms", "500 ms", "34.4 s", "2000 items"]);
    }

    #[test]
    fn the_first_look_has_no_rates_yet() {
        assert!(shown(10, 10).contains("otlp …/s > tail_sampling …/s > otlp/jaeger …/s"));
    }

    #[test]
    fn control_characters_of_an_answer_do_not_reach_the_terminal() {
        let text = shown(1, 2);
        assert!(text.contains("Refused.?[2J"));
        assert!(!text.contains('\u{1b}'));
    }
}
