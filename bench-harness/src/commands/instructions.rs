//! Instructions per span in fixed scenarios: the one measure of speed that a shared machine repeats.
//!
//! A gateway runs under `valgrind --tool=callgrind`, which counts every instruction executed in user space. Each
//! scenario runs twice, with few and with many requests; the difference leaves out what starting and stopping cost.
//! One request at a time on one connection, the epoll runtime, one seed, and a decision wait so long that every
//! decision is made by the drain: nothing depends on how fast the machine is.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use clap::Parser;

use super::plan::{Plan, Rate, Subject};
use super::run::measure;
use crate::cli::{Arguments, CompressionArgument, InstructionsArguments, RunArguments};
use crate::gateway::{Runtime, Work, release_binary};
use crate::output::print_line;
use crate::verdict::Word;

/// Largest difference from the baseline.
const TOLERANCE: f64 = 0.02;

/// Decisions are left to the drain.
const DECISION_WAIT_S: u64 = 600;

/// A run under valgrind ends by its number of requests, not by this.
const DURATION: Duration = Duration::from_secs(600);

/// Traces are spread as if requests came at this rate: over some twenty requests of 512 spans.
const SPREAD_SPANS_PER_SECOND: u64 = 25_000;

/// The drain makes all decisions, fifty times slower than usual.
const DRAIN_WITHOUT_HURRY: &str = "service.engine.shutdown_timeout=300s";

/// What is counted.
pub(super) const COUNTER: &str = "valgrind --tool=callgrind, instructions in user space";

struct Scenario {
    name: &'static str,
    items_per_request: u32,
    compression: CompressionArgument,
    /// Requests of the short and of the long run.
    requests: (u64, u64),
}

const SCENARIOS: [Scenario; 3] = [
    Scenario { name: "plain_512", items_per_request: 512, compression: CompressionArgument::None, requests: (40, 160) },
    Scenario {
        name: "plain_10",
        items_per_request: 10,
        compression: CompressionArgument::None,
        requests: (500, 2_500),
    },
    Scenario { name: "gzip_512", items_per_request: 512, compression: CompressionArgument::Gzip, requests: (40, 160) },
];

/// Instructions per span by scenario.
pub(super) type Figures = BTreeMap<String, f64>;

pub(super) fn run(arguments: &InstructionsArguments) -> io::Result<ExitCode> {
    let binary = match &arguments.gateway {
        Some(binary) => binary.clone(),
        None => release_binary()?,
    };
    let figures = count(&binary)?;
    print_line(&format!("instructions per span ({COUNTER})"));
    if arguments.update {
        figures.iter().for_each(|(name, figure)| print_line(&format!("  {name:<12} {figure:>10.1}")));
        let text = serde_json::to_string_pretty(&figures)? + "\n";
        std::fs::write(&arguments.baseline, text)?;
        print_line(&format!("written to {}", arguments.baseline.display()));
        return Ok(ExitCode::SUCCESS);
    }
    let baseline = read_baseline(&arguments.baseline)?;
    let mut outside = false;
    for (name, figure) in &figures {
        let Some(before) = baseline.get(name) else {
            print_line(&format!("  {name:<12} {figure:>10.1}  no baseline"));
            outside = true;
            continue;
        };
        let change = figure / before - 1.0;
        let wrong = change.abs() > TOLERANCE;
        outside |= wrong;
        let mark = if wrong { "  outside 2 %: explain it in perf/notes/ and update the baseline" } else { "" };
        print_line(&format!("  {name:<12} {figure:>10.1}  baseline {before:>10.1}  {:>+6.2} %{mark}", change * 100.0));
    }
    Ok(if outside { ExitCode::from(super::EXIT_FAILED) } else { ExitCode::SUCCESS })
}

/// Counts all scenarios of a gateway.
pub(super) fn count(binary: &Path) -> io::Result<Figures> {
    if !is_available() {
        return Err(io::Error::other("valgrind is needed to count instructions (Debian: apt-get install valgrind)"));
    }
    SCENARIOS.iter().map(|scenario| Ok((scenario.name.to_owned(), count_scenario(binary, scenario)?))).collect()
}

/// Whether valgrind is installed.
pub(super) fn is_available() -> bool {
    let status = Command::new("valgrind").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn count_scenario(binary: &Path, scenario: &Scenario) -> io::Result<f64> {
    let (short, long) = scenario.requests;
    let few = count_run(binary, scenario, short)?;
    let many = count_run(binary, scenario, long)?;
    let spans = (long - short) * u64::from(scenario.items_per_request);
    Ok((many as f64 - few as f64) / spans as f64)
}

fn count_run(binary: &Path, scenario: &Scenario, requests: u64) -> io::Result<u64> {
    let plan = Plan {
        arguments: RunArguments {
            spans: Some(SPREAD_SPANS_PER_SECOND),
            connections: 1,
            items_per_request: scenario.items_per_request,
            compression: scenario.compression,
            runtime: Runtime::Epoll,
            set: vec![DRAIN_WITHOUT_HURRY.to_owned()],
            ..defaults()
        },
        rate: Rate::Counted { requests },
        duration: DURATION,
        subject: Subject::Child {
            binary: binary.to_path_buf(),
            work: Work::Sample { decision_wait_s: DECISION_WAIT_S },
            wrapper: ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"].map(str::to_owned).to_vec(),
        },
        memory_limit_mib: None,
        prepared: Default::default(),
    };
    let report = measure(&plan)?;
    if report.verdict.word != Word::Ok {
        let reasons = report.verdict.reasons.join("; ");
        return Err(io::Error::other(format!("{}: {reasons}\n{}", scenario.name, report.gateway_output)));
    }
    collected(&report.gateway_output).ok_or_else(|| io::Error::other("callgrind did not say what it collected"))
}

/// `==7== Collected : 123`
fn collected(output: &str) -> Option<u64> {
    let line = output.lines().rev().find(|line| line.contains("Collected :"))?;
    line.rsplit(' ').next()?.parse().ok()
}

fn read_baseline(path: &Path) -> io::Result<Figures> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    Ok(serde_json::from_str(&text)?)
}

/// The defaults of the command line.
fn defaults() -> RunArguments {
    Arguments::parse_from(["bench-harness"]).run
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_read_from_callgrinds_last_words() {
        let output = "==5== Events    : Ir\n==5== Collected : 4120031\n==5== \n==5== I   refs:      4,120,031\n";
        assert_eq!(collected(output), Some(4_120_031));
        assert_eq!(collected("nothing"), None);
    }
}
