//! The promise for one instance, from the document this project starts from: 50,000 spans/s, 100,000 points/s and 20,000
//! records/s on 1 core and 2 GiB, with ack p50 of 2, p95 of 8 and p99 of 15 ms. One signal after the other, each with a
//! gateway of its own.

use std::io;
use std::process::ExitCode;

use codecs::otlp::Signal;

use super::plan::{Plan, Rate};
use super::rate::everyday;
use super::run::measure;
use crate::cli::RunArguments;
use crate::output::{print_report, report_json, write_json};
use crate::report::Report;
use crate::verdict::Word;

const MEMORY_MIB: u64 = 2_048;
const P50_MS: f64 = 2.0;
const P95_MS: f64 = 8.0;
const P99_MS: f64 = 15.0;

pub(super) fn run(arguments: &RunArguments) -> io::Result<ExitCode> {
    let mut reports = Vec::new();
    for signal in signals(arguments) {
        let report = promise(arguments, signal)?;
        print_report(&report);
        reports.push(report);
    }
    // The worst word stands for all: failed before void before ok.
    let worst = [Word::Failed, Word::Void].into_iter();
    let worst = worst.filter_map(|word| reports.iter().position(|report| report.verdict.word == word)).next();
    let code = super::exit_code(&reports[worst.unwrap_or(0)]);
    if let Some(path) = &arguments.json {
        let mut first = reports.remove(0);
        for report in &reports {
            first.extra.insert(report.findings.signal.name().to_owned(), report_json(report));
        }
        write_json(path, &first)?;
    }
    Ok(code)
}

/// All three, or the one that the command line names.
fn signals(arguments: &RunArguments) -> Vec<Signal> {
    let is_named = arguments.spans.is_some() || arguments.signal() != Signal::Traces;
    let is_fixed = arguments.config.is_some() || arguments.target.is_some();
    if is_named || is_fixed { vec![arguments.signal()] } else { Signal::ALL.to_vec() }
}

fn promise(arguments: &RunArguments, signal: Signal) -> io::Result<Report> {
    let mut arguments = arguments.clone();
    let rate = Some(everyday(signal));
    (arguments.spans, arguments.datapoints, arguments.logs) = match signal {
        Signal::Traces => (rate, None, None),
        Signal::Metrics => (None, Some(rate), None),
        Signal::Logs => (None, None, Some(rate)),
    };
    let mut plan = Plan::new(&arguments)?;
    plan.rate = Rate::ItemsPerSecond(everyday(signal));
    plan.memory_limit_mib = Some(MEMORY_MIB);
    let mut report = measure(&plan)?;
    let broken = broken_promises(&report);
    if report.verdict.word == Word::Ok && !broken.is_empty() {
        report.verdict.word = Word::Failed;
    }
    report.verdict.reasons.extend(broken);
    Ok(report)
}

fn broken_promises(report: &Report) -> Vec<String> {
    let ack = report.ack_ms();
    let mut broken = Vec::new();
    for (name, value, bound) in [("p50", ack.p50, P50_MS), ("p95", ack.p95, P95_MS), ("p99", ack.p99, P99_MS)] {
        if value > bound {
            broken.push(format!("ack {name} is {value:.2} ms, promised {bound} ms"));
        }
    }
    if report.findings.load.refused_items > 0 {
        let noun = report.noun();
        broken.push(format!("{} {noun} refused at the promised rate", report.findings.load.refused_items));
    }
    let rss = report.gateway_rss_bytes_max.unwrap_or(0);
    if rss > MEMORY_MIB << 20 {
        broken.push(format!("{} MiB resident, promised {MEMORY_MIB}", rss >> 20));
    }
    broken
}
