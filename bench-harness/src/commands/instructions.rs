//! Instructions per span, point or record in fixed scenarios: the one measure of speed that a shared machine repeats.
//!
//! A gateway runs under `valgrind --tool=callgrind`, which counts every instruction executed in user space. Each
//! scenario runs twice, with few and with many requests; the difference leaves out what starting and stopping cost.
//! One request at a time on one connection, the epoll runtime, one seed, and waits so long that every decision is made
//! by the drain and every batch is full: nothing depends on how fast the machine is.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use clap::Parser;
use codecs::otlp::Signal;

use super::plan::{Plan, Rate, Subject};
use super::run::measure;
use crate::cli::{Arguments, CompressionArgument, InstructionsArguments, Out, Profile, RunArguments};
use crate::gateway::{PassThrough, Runtime, Work, release_binary};
use crate::output::print_line;
use crate::sink::Contents;
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

/// A batch leaves when it is full, or with the drain.
const BATCHES_WITHOUT_HURRY: &str = "processors.batch.timeout=600s";

struct Scenario {
    name: &'static str,
    kind: Kind,
    items_per_request: u32,
    compression: CompressionArgument,
    /// Requests of the short and of the long run.
    requests: (u64, u64),
}

/// What a scenario's gateway does.
#[derive(Clone, Copy)]
enum Kind {
    /// The speed targets' pipeline.
    Sample,
    /// The same with ten policies, and the traces that they want.
    SampleTen,
    /// Memory limiter, batch, one exporter.
    Pass(Signal),
    /// The same for spans with one statement on each; the row less `spans_pass` is what the statement costs.
    Statement(&'static str),
}

const SCENARIOS: [Scenario; 12] = [
    sample("plain_512", 512, CompressionArgument::None, (40, 160)),
    sample("plain_10", 10, CompressionArgument::None, (500, 2_500)),
    sample("gzip_512", 512, CompressionArgument::Gzip, (40, 160)),
    Scenario { kind: Kind::SampleTen, ..sample("tail10_512", 512, CompressionArgument::None, (40, 160)) },
    pass("spans_pass", Kind::Pass(Signal::Traces)),
    pass("points_pass", Kind::Pass(Signal::Metrics)),
    pass("records_pass", Kind::Pass(Signal::Logs)),
    statement("ottl_where", r#"set(name, "none") where attributes["http.route"] == "/none""#),
    statement("ottl_set", r#"set(attributes["deployment.region"], "eu-west-1")"#),
    statement("ottl_delete_key", r#"delete_key(attributes, "thread.id")"#),
    statement("ottl_replace_pattern", REPLACE_PATTERN),
    statement("ottl_hash", HASH),
];

/// Of the spans, those that served a request have a path, half of these with a number in it.
const REPLACE_PATTERN: &str =
    r#"replace_pattern(attributes["url.path"], "/[0-9]+", "/{id}") where attributes["url.path"] != nil"#;

/// Of the spans, those that served a request have a peer.
const HASH: &str = r#"set(attributes["network.peer.address"], SHA256(attributes["network.peer.address"])) where attributes["network.peer.address"] != nil"#;

const fn sample(
    name: &'static str,
    items_per_request: u32,
    compression: CompressionArgument,
    requests: (u64, u64),
) -> Scenario {
    Scenario { name, kind: Kind::Sample, items_per_request, compression, requests }
}

/// One full batch of 8192 in the short run, seven in the long.
const fn pass(name: &'static str, kind: Kind) -> Scenario {
    Scenario { name, kind, items_per_request: 512, compression: CompressionArgument::None, requests: (16, 112) }
}

/// One full batch in the short run, three in the long.
const fn statement(name: &'static str, statement: &'static str) -> Scenario {
    Scenario { requests: (16, 48), ..pass(name, Kind::Statement(statement)) }
}

/// Instructions per item by scenario.
pub(super) type Figures = BTreeMap<String, f64>;

pub(super) fn run(arguments: &InstructionsArguments) -> io::Result<ExitCode> {
    let binary = match &arguments.gateway {
        Some(binary) => binary.clone(),
        None => release_binary()?,
    };
    let figures = count_some(&binary, |name| arguments.only.as_deref().is_none_or(|only| only == name))?;
    if figures.is_empty() {
        let names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        return Err(io::Error::other(format!("--only names no scenario; there are {}", names.join(", "))));
    }
    print_line(&format!("instructions per span, point or record ({COUNTER})"));
    if arguments.update {
        figures.iter().for_each(|(name, figure)| print_line(&format!("  {name:<20} {figure:>10.1}")));
        let text = serde_json::to_string_pretty(&figures)? + "\n";
        std::fs::write(&arguments.baseline, text)?;
        print_line(&format!("written to {}", arguments.baseline.display()));
        return Ok(ExitCode::SUCCESS);
    }
    let baseline = read_baseline(&arguments.baseline)?;
    let mut outside = false;
    for (name, figure) in &figures {
        let Some(before) = baseline.get(name) else {
            print_line(&format!("  {name:<20} {figure:>10.1}  no baseline"));
            outside = true;
            continue;
        };
        let change = figure / before - 1.0;
        let wrong = change.abs() > TOLERANCE;
        outside |= wrong;
        let mark = if wrong { "  outside 2 %: explain it in perf/notes/ and update the baseline" } else { "" };
        print_line(&format!("  {name:<20} {figure:>10.1}  baseline {before:>10.1}  {:>+6.2} %{mark}", change * 100.0));
    }
    Ok(if outside { ExitCode::from(super::EXIT_FAILED) } else { ExitCode::SUCCESS })
}

/// Counts all scenarios of a gateway.
pub(super) fn count(binary: &Path) -> io::Result<Figures> {
    count_some(binary, |_| true)
}

fn count_some(binary: &Path, is_wanted: impl Fn(&str) -> bool) -> io::Result<Figures> {
    if !is_available() {
        return Err(io::Error::other("valgrind is needed to count instructions (Debian: apt-get install valgrind)"));
    }
    let wanted = SCENARIOS.iter().filter(|scenario| is_wanted(scenario.name));
    wanted.map(|scenario| Ok((scenario.name.to_owned(), count_scenario(binary, scenario)?))).collect()
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
    let items = (long - short) * u64::from(scenario.items_per_request);
    Ok((many as f64 - few as f64) / items as f64)
}

fn count_run(binary: &Path, scenario: &Scenario, requests: u64) -> io::Result<u64> {
    let rate = Some(SPREAD_SPANS_PER_SECOND);
    let mut arguments = RunArguments {
        connections: 1,
        items_per_request: scenario.items_per_request,
        compression: scenario.compression,
        runtime: Runtime::Epoll,
        set: vec![DRAIN_WITHOUT_HURRY.to_owned()],
        ..defaults()
    };
    if !matches!(scenario.kind, Kind::Sample | Kind::SampleTen) {
        arguments.set.push(BATCHES_WITHOUT_HURRY.to_owned());
    }
    match scenario.kind {
        Kind::Pass(Signal::Metrics) => arguments.datapoints = Some(rate),
        Kind::Pass(Signal::Logs) => arguments.logs = Some(rate),
        Kind::Sample | Kind::Pass(Signal::Traces) => arguments.spans = rate,
        Kind::SampleTen => {
            arguments.spans = rate;
            arguments.profile = Profile::Tail10;
        }
        Kind::Statement(_) => {
            arguments.spans = rate;
            arguments.contents = Contents::Ids;
        }
    }
    let plan = Plan {
        arguments,
        rate: Rate::Counted { requests },
        duration: DURATION,
        subject: Subject::Child {
            binary: binary.to_path_buf(),
            work: work(scenario.kind),
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

fn work(kind: Kind) -> Work {
    let pass = |signal, before_batch| Work::Pass(PassThrough { signal, out: Out::Otlp, before_batch });
    match kind {
        Kind::Sample => Work::three_policies(DECISION_WAIT_S),
        Kind::SampleTen => Work::ten_policies(DECISION_WAIT_S),
        Kind::Pass(signal) => pass(signal, None),
        Kind::Statement(statement) => {
            let settings = format!("{{trace_statements: [{{context: span, statements: ['{statement}']}}]}}");
            pass(Signal::Traces, Some(("transform".to_owned(), settings)))
        }
    }
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
