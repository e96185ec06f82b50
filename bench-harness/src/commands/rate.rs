//! A run at a rate: the harness's main work.

use std::io;
use std::process::ExitCode;

use codecs::otlp::Signal;

use super::plan::Plan;
use super::run::measure;
use crate::cli::RunArguments;
use crate::output::{print_report, write_json};

/// Rate where none is given: the baseline's.
pub(super) fn everyday(signal: Signal) -> u64 {
    match signal {
        Signal::Traces => 50_000,
        Signal::Metrics => 100_000,
        Signal::Logs => 20_000,
    }
}

pub(super) fn run(arguments: &RunArguments) -> io::Result<ExitCode> {
    let plan = Plan::new(arguments)?;
    let report = measure(&plan)?;
    print_report(&report);
    if let Some(path) = &arguments.json {
        write_json(path, &report)?;
    }
    Ok(super::exit_code(&report))
}
