//! The sub-commands, one file each, and the run they are all made of: `plan.rs` says what, `run.rs` does it, `window.rs`
//! and `books.rs` hold its figures.

mod baseline;
mod books;
mod compare;
mod faults;
mod floor;
mod instructions;
mod offer;
mod plan;
mod rate;
mod run;
mod saturate;
mod sdk;
mod window;

use std::io;
use std::process::ExitCode;

use crate::cli::{Action, Arguments};
use crate::report::Report;
use crate::verdict::Word;

/// Something was lost, doubled, partial or wrong, or a promise was not kept.
pub(crate) const EXIT_FAILED: u8 = 1;

/// The command could not run at all.
pub(crate) const EXIT_USAGE: u8 = 2;

/// The run says nothing.
pub(crate) const EXIT_VOID: u8 = 3;

/// Does what the command line says.
pub(crate) fn run(arguments: &Arguments) -> io::Result<ExitCode> {
    match &arguments.command {
        None => rate::run(&arguments.run),
        Some(Action::Saturate(run)) => saturate::run(run),
        Some(Action::Floor(run)) => floor::run(run),
        Some(Action::Baseline(run)) => baseline::run(run),
        Some(Action::Offer(run)) => offer::run(run),
        Some(Action::Compare(compare)) => compare::run(compare),
        Some(Action::Faults(faults)) => faults::run(faults),
        Some(Action::Sdk(sdk)) => sdk::run(sdk),
        Some(Action::Instructions(instructions)) => instructions::run(instructions),
    }
}

/// The exit code of a report.
fn exit_code(report: &Report) -> ExitCode {
    match report.verdict.word {
        Word::Ok => ExitCode::SUCCESS,
        Word::Failed => ExitCode::from(EXIT_FAILED),
        Word::Void => ExitCode::from(EXIT_VOID),
    }
}
