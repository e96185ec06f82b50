//! Finds the highest rate that is sustained: no refusal, a stable backlog, ack p99 below 50 ms.
//!
//! ```text
//! closed loop: about what is possible --> open loop, short: up or down until the edge is between two rates
//!   --> open loop, 20 s at the highest rate that held; lower if it does not hold that long
//! ```
//!
//! Every probe has a gateway of its own, so that none inherits another's memory, and each is judged.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use super::plan::{Plan, Rate};
use super::run::measure;
use crate::cli::RunArguments;
use crate::output::{print_line, print_report, thousands, write_json};
use crate::report::Report;
use crate::verdict::Word;

/// How long a rate must hold.
const SUSTAINED: Duration = Duration::from_secs(20);

/// Ack p99 of a sustained rate.
const ACK_P99_MS_MAX: f64 = 50.0;

/// Between two neighbouring rates.
const STEP: f64 = 1.06;

/// Of what a gateway managed while it fell behind, what it may sustain.
const MANAGED: f64 = 0.97;

/// How often a rate is tried at which the load was late.
const TRIES: usize = 3;

/// Most open-loop probes.
const PROBES_MAX: usize = 10;

pub(super) fn run(arguments: &RunArguments) -> io::Result<ExitCode> {
    let plan = Plan::new(arguments)?;
    let sustained = plan.duration_or(SUSTAINED);
    // Long enough for decisions to be made as fast as traces come.
    let probe = (sustained / 2).max(Duration::from_secs(4)).max(3 * plan.decision_wait()).min(sustained);
    let floor = measure(&plan.discarding().at(Rate::Closed, probe))?;
    if floor.verdict.word == Word::Failed {
        print_report(&floor);
        return Ok(super::exit_code(&floor));
    }
    let closed = measure(&plan.at(Rate::Closed, probe))?;
    let possible = match arguments.rate() {
        Some(rate) => rate as f64,
        None => closed.items_per_second,
    };
    let noun = closed.noun();
    eprintln!("closed loop: {} {noun}/s; floor: {}", thousands(possible), thousands(floor.items_per_second));
    let mut report = search(&plan, possible, probe, sustained)?;
    report.extra.insert(format!("saturation_{noun}_per_second"), report.items_per_second.into());
    report.extra.insert(format!("floor_{noun}_per_second"), floor.items_per_second.into());
    report.extra.insert(format!("floor_{noun}_per_cpu_second"), floor.items_per_cpu_second.into());
    report.extra.insert(format!("closed_loop_{noun}_per_second"), closed.items_per_second.into());
    report.extra.insert(format!("closed_loop_{noun}_per_cpu_second"), closed.items_per_cpu_second.into());
    print_report(&report);
    if report.load_limited || closed.load_limited {
        print_line("  load and sink had no time left on their core: the gateway may be able to do more");
    }
    print_shares(&report, &closed, &floor);
    if let Some(path) = &arguments.json {
        write_json(path, &report)?;
    }
    Ok(super::exit_code(&report))
}

/// Steps until the edge is found, then holds it.
fn search(plan: &Plan, possible: f64, probe: Duration, sustained: Duration) -> io::Result<Report> {
    let mut rate = possible / STEP;
    let (mut held, mut broke) = (None::<f64>, None::<f64>);
    for _ in 0..PROBES_MAX {
        let (holds, report) = attempt(plan, rate, probe)?;
        if report.verdict.word == Word::Failed {
            return Ok(report);
        }
        match holds {
            true => held = Some(rate),
            false => broke = Some(rate),
        }
        rate = match (held, broke) {
            (Some(_), Some(_)) => break,
            (Some(held), None) => held * STEP,
            // A gateway that fell behind says with what it managed where to look next.
            (None, _) => (report.items_per_second * MANAGED).clamp(rate / 2.0, rate / STEP),
        };
    }
    let mut rate = held.unwrap_or(rate);
    let (mut holds, mut report) = attempt(plan, rate, sustained)?;
    for _ in 0..PROBES_MAX {
        if holds || report.verdict.word == Word::Failed {
            break;
        }
        rate /= STEP;
        (holds, report) = attempt(plan, rate, sustained)?;
    }
    Ok(report)
}

/// Tries a rate; again if the load itself was late, which says nothing about the gateway.
fn attempt(plan: &Plan, rate: f64, duration: Duration) -> io::Result<(bool, Report)> {
    let mut tries = 0;
    loop {
        let report = measure(&plan.at(Rate::ItemsPerSecond(rate as u64), duration))?;
        let holds = show(rate, &report);
        tries += 1;
        let is_load_late = report.verdict.word == Word::Void && report.findings.load.held_back_requests == 0;
        if !is_load_late || tries == TRIES {
            return Ok((holds, report));
        }
    }
}

/// Whether the rate was sustained; says why not.
fn show(rate: f64, report: &Report) -> bool {
    let why = if report.verdict.word != Word::Ok {
        Some(report.verdict.reasons.join("; "))
    } else if report.findings.load.refused_items > 0 {
        Some(format!("{} {} refused", report.findings.load.refused_items, report.noun()))
    } else if report.ack_ms().p99 > ACK_P99_MS_MAX {
        Some(format!("ack p99 {:.1} ms", report.ack_ms().p99))
    } else if report.backlog.1 > 4 * report.backlog.0.max(16) {
        Some(format!("backlog grew from {} to {} requests", report.backlog.0, report.backlog.1))
    } else {
        None
    };
    let (ack, noun) = (report.ack_ms().p99, report.noun());
    match &why {
        None => eprintln!("{:>12} {noun}/s held, ack p99 {ack:.2} ms", thousands(rate)),
        Some(why) => eprintln!("{:>12} {noun}/s did not hold: {why}", thousands(rate)),
    }
    why.is_none()
}

fn print_shares(report: &Report, closed: &Report, floor: &Report) {
    let noun = report.noun();
    print_line(&format!("  {:<24} {:>14} {:>20}", "", format!("{noun}/s"), format!("{noun}/CPU second")));
    for (name, report) in [("sustained", report), ("closed loop", closed), ("floor", floor)] {
        let cpu = report.items_per_cpu_second.unwrap_or(0.0);
        print_line(&format!("  {name:<24} {:>14} {:>20}", thousands(report.items_per_second), thousands(cpu)));
    }
    if let (Some(own), Some(floor)) = (report.items_per_cpu_second, floor.items_per_cpu_second) {
        print_line(&format!("  {:.2} of the floor per CPU second", own / floor));
    }
}
