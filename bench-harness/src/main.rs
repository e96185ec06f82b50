//! `bench-harness`: sends realistic traces, metrics or logs to a gateway, takes what it exports, and says whether it did
//! its work and how fast. It never looks inside the gateway: it knows its command line, its addresses and the bytes it
//! must send.
//!
//! ```text
//! sent --requests--> load ====> gateway (child, core 0) ====> sink --masks--> verdict
//!                        \________ log of answers ________________________________/
//! ```

mod cli;
mod commands;
mod gateway;
mod io;
mod items;
mod load;
mod measure;
mod output;
mod report;
mod sent;
mod sink;
mod traces;
mod verdict;

use std::process::ExitCode;

use clap::Parser;

/// Large requests come and go; the system's allocator would return their pages each time.
#[cfg(not(feature = "sdk"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Counts what the system's gives: `sdk` shows it.
#[cfg(feature = "sdk")]
#[global_allocator]
static ALLOCATOR: &stats_alloc::StatsAlloc<std::alloc::System> = &stats_alloc::INSTRUMENTED_SYSTEM;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    match commands::run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench-harness: {error}");
            ExitCode::from(commands::EXIT_USAGE)
        }
    }
}
