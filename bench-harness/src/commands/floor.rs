//! The floor: the same load into the gateway's discard mode. What is left when nothing is done with a request but to
//! receive, check and acknowledge it; the ceiling of every other figure.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use super::plan::{Plan, Rate};
use super::run::measure;
use crate::cli::RunArguments;
use crate::output::{print_report, write_json};
use crate::report::Report;

/// How long a closed loop runs if nothing else is said.
const DURATION: Duration = Duration::from_secs(10);

pub(super) fn run(arguments: &RunArguments) -> io::Result<ExitCode> {
    let plan = Plan::new(arguments)?.discarding();
    let rate = arguments.rate().map_or(Rate::Closed, Rate::ItemsPerSecond);
    let mut report = measure(&plan.at(rate, arguments.duration.unwrap_or(DURATION)))?;
    note(&mut report);
    print_report(&report);
    if let Some(path) = &arguments.json {
        write_json(path, &report)?;
    }
    Ok(super::exit_code(&report))
}

fn note(report: &mut Report) {
    let noun = report.noun();
    report.extra.insert(format!("floor_{noun}_per_second"), report.items_per_second.into());
    report.extra.insert(format!("floor_{noun}_per_cpu_second"), report.items_per_cpu_second.into());
}
