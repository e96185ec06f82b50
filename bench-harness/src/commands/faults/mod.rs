//! Faults: a backend that misbehaves in every way that is known, a gateway that is stopped and killed. After each the
//! books must balance and what was promised must have been kept.
//!
//! ```text
//! scenarios.rs: what is done, step by step     ground.rs: sender, gateway, backend, and what may be asked of them
//! ```
//!
//! Nothing here measures time: a step waits for a state of the gateway or the backend, however long that takes, up to a
//! patience that no machine reaches.

mod ground;
mod scenarios;

use std::io;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;
use tokio::task::LocalSet;

use crate::cli::FaultsArguments;
use crate::gateway::{Runtime, release_binary};
use crate::output::print_line;
use ground::{Account, Ground, Launcher};
use scenarios::Scenario;

/// Kills of the short and of the long form.
const KILLS: (u32, u32) = (4, 200);

/// Lines of the gateway's output under a failed scenario.
const GATEWAY_LINES: usize = 12;

pub(super) fn run(arguments: &FaultsArguments) -> io::Result<ExitCode> {
    let binary = match &arguments.gateway {
        Some(binary) => binary.clone(),
        None => release_binary()?,
    };
    let mut results = Vec::new();
    for runtime in runtimes(arguments) {
        let launcher = Launcher { binary: binary.clone(), runtime, seed: arguments.seed, is_long: arguments.long };
        for scenario in Scenario::all(arguments) {
            results.push(play(&launcher, scenario)?);
        }
    }
    let failed = results.iter().filter(|result| !result.reasons.is_empty()).count();
    print_line(&format!("verdict: {} ({failed} of {} failed)", word(failed == 0), results.len()));
    if let Some(path) = &arguments.json {
        write_json(path, &results)?;
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(super::EXIT_FAILED) })
}

/// The long form plays on both runtimes.
fn runtimes(arguments: &FaultsArguments) -> Vec<Runtime> {
    match (arguments.long, arguments.runtime) {
        (true, Runtime::Auto) => vec![Runtime::Auto, Runtime::Epoll],
        (_, runtime) => vec![runtime],
    }
}

/// What came of one scenario.
struct Played {
    name: String,
    account: Account,
    /// Empty if every promise was kept.
    reasons: Vec<String>,
}

/// Plays a scenario with a backend and gateways of its own, and says what came of it.
fn play(launcher: &Launcher, scenario: Scenario) -> io::Result<Played> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let played = LocalSet::new().block_on(&runtime, async {
        let mut ground = Ground::new(launcher, scenario.protocol()).await?;
        let outcome = scenario.play(&mut ground).await;
        let mut reasons = ground.broken_promises(scenario.may_double());
        reasons.extend(outcome.err().map(|error| error.to_string()));
        let name = format!("{} ({:?})", scenario.name(), launcher.runtime);
        io::Result::Ok((Played { name, account: ground.account(), reasons }, ground.last_words()))
    });
    let (played, last_words) = played?;
    let Account { accepted, arrived, doubled, failed } = played.account;
    print_line(&format!(
        "{:<7} {:<52} {accepted} accepted = {arrived} arrived + {failed} failed; {doubled} doubled",
        word(played.reasons.is_empty()),
        played.name
    ));
    for reason in &played.reasons {
        print_line(&format!("        {reason}"));
    }
    if !played.reasons.is_empty() {
        let lines: Vec<&str> = last_words.lines().collect();
        lines[lines.len().saturating_sub(GATEWAY_LINES)..]
            .iter()
            .for_each(|line| print_line(&format!("        | {line}")));
    }
    Ok(played)
}

fn word(is_ok: bool) -> &'static str {
    if is_ok { "ok" } else { "failed" }
}

fn write_json(path: &Path, results: &[Played]) -> io::Result<()> {
    let result = |played: &Played| {
        json!({
            "scenario": played.name,
            "verdict": word(played.reasons.is_empty()),
            "reasons": played.reasons,
            "accepted_records": played.account.accepted,
            "arrived_records": played.account.arrived,
            "failed_records": played.account.failed,
            "doubled_records": played.account.doubled,
        })
    };
    let all: Vec<serde_json::Value> = results.iter().map(result).collect();
    std::fs::write(path, serde_json::to_string_pretty(&all)? + "\n")
}
