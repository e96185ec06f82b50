//! `tracegate capacity`: how many cores, how much memory and how much storage a load needs.
//!
//! Two answers beside each other: the rule of thumb that people know (50,000 spans/s an instance, half as much again, one
//! core and 2 GiB each, a kilobyte a span for seven days), and what this gateway was measured to need: the table of
//! `perf/BUDGET.md`, or your own run of the harness (`--measured`). Pure but for that file.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Report;
use super::old_gateway::{COSTS, PENDING_SPAN_BYTES, REST_BYTES};

/// Arguments of `tracegate capacity`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Requests of your users each second
    #[arg(long, value_name = "NUMBER", default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub qps: u64,
    /// Spans that one of them makes
    #[arg(long, value_name = "NUMBER", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub spans_per_request: u64,
    /// Seconds that tail sampling waits for a trace
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    pub decision_wait: f64,
    /// Percent of spans that sampling keeps
    #[arg(long, value_name = "PERCENT", default_value_t = 10.0)]
    pub kept: f64,
    /// Days that backends keep spans
    #[arg(long, value_name = "DAYS", default_value_t = 7)]
    pub days: u64,
    /// Bytes of a stored span
    #[arg(long, value_name = "BYTES", default_value_t = 1_024)]
    pub span_bytes: u64,
    /// Busy share of a core to plan for, in percent; the rest is for bursts and for replicas that are missing
    #[arg(long, value_name = "PERCENT", default_value_t = 60.0)]
    pub busy: f64,
    /// What your own run measured: the file of `bench-harness --json FILE`
    #[arg(long, value_name = "FILE")]
    pub measured: Option<PathBuf>,
    /// Prints JSON
    #[arg(long)]
    pub json: bool,
}

/// Spans each second that the rule of thumb gives one instance.
const RULE_SPANS_PER_INSTANCE: u64 = 50_000;
/// What it adds for bursts.
const RULE_SAFETY: f64 = 1.5;

/// The rule of thumb.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Instances.
    pub collectors: u64,
    /// Cores of all of them.
    pub cpu: u64,
    /// Memory of all of them, in GiB.
    pub memory_gib: u64,
    /// Everything unsampled, in units of 10^9 bytes.
    pub storage_gb: u64,
}

impl Rule {
    /// For `qps` requests of `spans_per_request` spans.
    pub fn new(qps: u64, spans_per_request: u64) -> Rule {
        let spans = qps.saturating_mul(spans_per_request);
        let collectors = (spans as f64 / RULE_SPANS_PER_INSTANCE as f64 * RULE_SAFETY).ceil() as u64;
        let week = u128::from(spans) * 1_024 * 86_400 * 7;
        let storage_gb = u64::try_from(week / 1_000_000_000).unwrap_or(u64::MAX);
        Rule { collectors, cpu: collectors, memory_gib: collectors.saturating_mul(2), storage_gb }
    }
}

/// What a run of the harness says.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
struct Measured {
    spans_per_cpu_second: f64,
}

/// What this gateway needs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Needs {
    /// Spans each second.
    pub spans_per_second: u64,
    /// Spans that one second of one core carries.
    pub spans_per_cpu_second: f64,
    /// Cores at the planned busy share, whole.
    pub cores: u64,
    /// Bytes of spans that wait for their decision.
    pub pending_bytes: u64,
    /// Bytes to give `memory_limiter`: pending spans, the process at rest, a fifth for bursts.
    pub memory_bytes: u64,
    /// Stored after sampling, in units of 10^9 bytes.
    pub storage_gb: u64,
    /// Spans each second of one core at which an autoscaler adds a replica.
    pub autoscaler_spans_per_core: u64,
}

impl Needs {
    fn new(arguments: &Arguments, spans_per_cpu_second: f64) -> Needs {
        let spans_per_second = arguments.qps.saturating_mul(arguments.spans_per_request);
        let spans = spans_per_second as f64;
        let busy = arguments.busy / 100.0;
        let pending_bytes = (spans * arguments.decision_wait * PENDING_SPAN_BYTES as f64) as u64;
        let stored = spans * arguments.kept / 100.0 * arguments.span_bytes as f64 * 86_400.0 * arguments.days as f64;
        Needs {
            spans_per_second,
            spans_per_cpu_second,
            cores: (spans / spans_per_cpu_second / busy).ceil() as u64,
            pending_bytes,
            memory_bytes: pending_bytes.saturating_add(REST_BYTES).saturating_mul(6) / 5,
            storage_gb: (stored / 1e9) as u64,
            autoscaler_spans_per_core: (spans_per_cpu_second * busy) as u64,
        }
    }
}

/// Computes and prints both.
pub fn run(arguments: &Arguments) -> Report {
    match told(arguments) {
        Ok(output) => Report { output, ..Report::default() },
        Err(why) => Report { exit_code: 1, errors: format!("error: {why}\n"), ..Report::default() },
    }
}

fn told(arguments: &Arguments) -> Result<String, String> {
    check(arguments)?;
    let (spans_per_cpu_second, source) = match &arguments.measured {
        None => (1e9 / COSTS[0].span_ns as f64, "measured at an everyday rate, perf/BUDGET.md".to_owned()),
        Some(path) => (measured(path)?, format!("measured by you, {}", path.display())),
    };
    let rule = Rule::new(arguments.qps, arguments.spans_per_request);
    let needs = Needs::new(arguments, spans_per_cpu_second);
    if arguments.json {
        let both = serde_json::json!({ "rule_of_thumb": rule, "tracegate": needs });
        return Ok(format!("{both:#}\n"));
    }
    Ok(text(arguments, rule, needs, &source))
}

fn check(arguments: &Arguments) -> Result<(), String> {
    let percents = [("--kept", arguments.kept), ("--busy", arguments.busy)];
    for (name, percent) in percents {
        if !(percent > 0.0 && percent <= 100.0) {
            return Err(format!("{name} {percent}: expected more than 0 and at most 100 percent"));
        }
    }
    if !(0.0..=86_400.0).contains(&arguments.decision_wait) {
        return Err(format!("--decision-wait {}: expected 0 to 86400 seconds", arguments.decision_wait));
    }
    Ok(())
}

fn measured(path: &std::path::Path) -> Result<f64, String> {
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("--measured {name}: {error}"))?;
    let measured: Measured = serde_json::from_str(&text)
        .map_err(|error| format!("--measured {name} is not what `bench-harness --json FILE` writes: {error}"))?;
    let rate = measured.spans_per_cpu_second;
    if rate.is_finite() && rate > 0.0 {
        Ok(rate)
    } else {
        Err(format!("--measured {name}: spans_per_cpu_second is {rate}"))
    }
}

fn text(arguments: &Arguments, rule: Rule, needs: Needs, source: &str) -> String {
    let mut text = format!(
        "{} requests/s of {} spans: {} spans/s\n\n",
        arguments.qps, arguments.spans_per_request, needs.spans_per_second
    );
    let mut row = |what: &str, rule: String, here: String| {
        writeln!(text, "{what:<34}{rule:>16}{here:>16}").expect("writing to a string cannot fail");
    };
    let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
    row("", "rule of thumb".to_owned(), "here".to_owned());
    row("instances", rule.collectors.to_string(), "-".to_owned());
    row("cores", rule.cpu.to_string(), needs.cores.to_string());
    row("memory", format!("{}Gi", rule.memory_gib), gib(needs.memory_bytes));
    let wait = format!("  of it spans that wait {} s", arguments.decision_wait);
    row(&wait, "-".to_owned(), gib(needs.pending_bytes));
    row("storage, everything, 7 days", format!("{} GB", rule.storage_gb), "-".to_owned());
    let stored = format!("storage, {} % kept, {} days", arguments.kept, arguments.days);
    row(&stored, "-".to_owned(), format!("{} GB", needs.storage_gb));
    row("autoscaler, spans/s of a core", "40000".to_owned(), needs.autoscaler_spans_per_core.to_string());
    let rate = needs.spans_per_cpu_second as u64;
    let lines = format!(
        "\nOne core carries {rate} spans/s ({source}); planned at {} % busy.\n\
         Yours: bench-harness --spans RATE --json run.json, then --measured run.json.\n\
         A trace has to reach one replica whole: prefer few replicas of several cores to many of one.\n",
        arguments.busy
    );
    text.push_str(&lines);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn arguments(line: &str) -> Arguments {
        Line::parse_from(std::iter::once("capacity").chain(line.split_whitespace())).arguments
    }

    #[test]
    fn the_rule_of_thumb_is_the_documents_to_the_digit() {
        let rule = Rule::new(50_000, 10);
        assert_eq!(rule, Rule { collectors: 15, cpu: 15, memory_gib: 30, storage_gb: 309_657 });
        assert_eq!(Rule::new(1, 1).collectors, 1, "a part of an instance is one");
    }

    #[test]
    fn both_answers_stand_beside_each_other() {
        let text = told(&arguments("--qps 50000 --spans-per-request 10")).unwrap();
        for part in ["500000 spans/s", "15", "30Gi", "309657 GB", "2.7 GiB", "30965 GB", "555555 spans/s"] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }

    #[test]
    fn a_run_of_the_harness_replaces_our_figure() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        std::fs::write(&path, r#"{"spans_per_cpu_second": 1000000.0, "verdict": "ok"}"#).unwrap();
        let line = format!("--measured {} --json --busy 50", path.display());
        let json: serde_json::Value = serde_json::from_str(&told(&arguments(&line)).unwrap()).unwrap();
        assert_eq!(json["tracegate"]["cores"], 1);
        assert_eq!(json["tracegate"]["autoscaler_spans_per_core"], 500_000);
        std::fs::write(&path, "{}").unwrap();
        assert!(told(&arguments(&line)).unwrap_err().contains("bench-harness --json"));
    }

    #[test]
    fn shares_out_of_range_are_errors_that_name_the_option() {
        for (line, name) in
            [("--kept 0", "--kept"), ("--busy 101", "--busy"), ("--decision-wait -1", "--decision-wait")]
        {
            let line = line.replace(' ', "=");
            assert!(told(&arguments(&line)).unwrap_err().contains(name), "{line}");
        }
    }
}
