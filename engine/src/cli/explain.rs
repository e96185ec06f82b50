//! `tracegate explain TRACE_ID`: why a running gateway kept a trace or dropped it, and what each policy said.
//!
//! Asks the gateway's admin address with one plain HTTP request, as `tracegate traces` does.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;

use super::traces::{ask, checked_id};
use crate::processor::explanation::Explanation;

/// Arguments of `tracegate explain`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The trace; its first digits suffice.
    pub trace_id: String,
    /// Admin address of the gateway.
    #[arg(long, default_value = "http://127.0.0.1:55679")]
    pub url: String,
}

/// Prints what was noted of the trace.
pub fn run(arguments: &Arguments) -> ExitCode {
    let found = checked_id(&arguments.trace_id)
        .and_then(|id| ask::<Vec<Explanation>>(&arguments.url, &format!("/explain/{id}")));
    match found {
        Ok(explanations) => {
            let texts: Vec<String> = explanations.iter().map(told).collect();
            // A closed pipe (`| head`) is not an error of this command.
            let _ = io::stdout().write_all(texts.join("\n").as_bytes());
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

fn told(explanation: &Explanation) -> String {
    let Explanation { pipeline, trace_id, outcome, policy, spans, duration_ms, decided_ms_ago, policies } = explanation;
    if outcome == "pending" {
        return format!("Trace {trace_id}: not decided yet in {pipeline}\n");
    }
    let by = if policy.is_empty() { String::new() } else { format!(" by policy \"{policy}\"") };
    let plural = if *spans == 1 { "" } else { "s" };
    let long = duration_ms.map_or_else(|| "without times".to_owned(), |long| format!("{long} ms long"));
    let ago = *decided_ms_ago as f64 / 1e3;
    let mut text =
        format!("Trace {trace_id}: {outcome}{by} in {pipeline}, {ago} s ago\n{spans} span{plural}, {long}\n");
    let width = policies.iter().map(|said| said.policy.chars().count()).max().unwrap_or(0);
    for said in policies {
        let (name, answer) = (&said.policy, &said.answer);
        let dry = if said.dry_run { "  (dry run: nobody listens)" } else { "" };
        writeln!(text, "  {name:width$}  {answer}{dry}").expect("writing to a string cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processor::explanation::Said;

    #[test]
    fn a_decision_is_told_with_what_each_policy_said() {
        let said = |policy: &str, answer: &str, dry_run| Said { policy: policy.into(), answer: answer.into(), dry_run };
        let explanation = Explanation {
            pipeline: "traces".into(),
            trace_id: "ab".into(),
            outcome: "sampled".into(),
            policy: "slow".into(),
            spans: 3,
            duration_ms: Some(1500.5),
            decided_ms_ago: 2500,
            policies: vec![said("errors", "no", false), said("slow", "sample", false), said("new", "drop", true)],
        };
        assert_eq!(
            told(&explanation),
            "Trace ab: sampled by policy \"slow\" in traces, 2.5 s ago\n3 spans, 1500.5 ms long\n  errors  no\n  slow    \
             sample\n  new     drop  (dry run: nobody listens)\n"
        );
        let pending = Explanation { pipeline: "traces".into(), ..Explanation::pending(&[0xab]) };
        assert_eq!(told(&pending), "Trace ab: not decided yet in traces\n");
    }
}
