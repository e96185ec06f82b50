//! The promise for one instance, from the document this project starts from: 50,000 spans/s on 1 core and 2 GiB, with
//! ack p50 of 2, p95 of 8 and p99 of 15 ms.

use std::io;
use std::process::ExitCode;

use super::plan::{Plan, Rate};
use super::run::measure;
use crate::cli::RunArguments;
use crate::output::{print_report, write_json};
use crate::report::Report;
use crate::verdict::Word;

const SPANS_PER_SECOND: u64 = 50_000;
const MEMORY_MIB: u64 = 2_048;
const P50_MS: f64 = 2.0;
const P95_MS: f64 = 8.0;
const P99_MS: f64 = 15.0;

pub(super) fn run(arguments: &RunArguments) -> io::Result<ExitCode> {
    let mut plan = Plan::new(arguments)?;
    plan.rate = Rate::SpansPerSecond(SPANS_PER_SECOND);
    plan.memory_limit_mib = Some(MEMORY_MIB);
    let mut report = measure(&plan)?;
    let broken = broken_promises(&report);
    if report.verdict.word == Word::Ok && !broken.is_empty() {
        report.verdict.word = Word::Failed;
    }
    report.verdict.reasons.extend(broken);
    print_report(&report);
    if let Some(path) = &arguments.json {
        write_json(path, &report)?;
    }
    Ok(super::exit_code(&report))
}

fn broken_promises(report: &Report) -> Vec<String> {
    let ack = report.ack_ms();
    let mut broken = Vec::new();
    for (name, value, bound) in [("p50", ack.p50, P50_MS), ("p95", ack.p95, P95_MS), ("p99", ack.p99, P99_MS)] {
        if value > bound {
            broken.push(format!("ack {name} is {value:.2} ms, promised {bound} ms"));
        }
    }
    if report.findings.load.refused_spans > 0 {
        broken.push(format!("{} spans refused at the promised rate", report.findings.load.refused_spans));
    }
    let rss = report.gateway_rss_bytes_max.unwrap_or(0);
    if rss > MEMORY_MIB << 20 {
        broken.push(format!("{} MiB resident, promised {MEMORY_MIB}", rss >> 20));
    }
    broken
}
