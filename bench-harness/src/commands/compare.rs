//! Two gateways, or one at two works, by turns in one run: the machine's mood hits both alike, and the ratio of spans per CPU second is what
//! is left. Instruction counts beside it, where they can be had.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use super::instructions;
use super::plan::{Plan, Rate, Subject};
use super::run::measure;
use crate::cli::{CompareArguments, Profile};
use crate::gateway::Work;
use crate::output::{print_line, print_report, thousands};
use crate::sent::noun;
use crate::verdict::Word;

/// Length of a turn if nothing else is said.
const TURN: Duration = Duration::from_secs(10);

pub(super) fn run(arguments: &CompareArguments) -> io::Result<ExitCode> {
    let rate = arguments.run.rate().map_or(Rate::Closed, Rate::ItemsPerSecond);
    let noun = noun(arguments.run.signal());
    let gateways = [&arguments.old, &arguments.new];
    let mut rates = [Vec::new(), Vec::new()];
    let profile = arguments.run.profile;
    let old_profile = arguments.old_profile.unwrap_or(profile);
    let plans = [plan(arguments, &arguments.old, old_profile)?, plan(arguments, &arguments.new, profile)?];
    let turn = plans[0].duration_or(TURN).max(plans[1].duration_or(TURN));
    // A run that does not count: a machine that has been at rest gives its memory back to its host, and the first run
    // takes it again, page by page.
    measure(&plans[0].at(rate, turn))?;
    for round in 0..arguments.rounds {
        // The second place in a round goes to each in turn.
        let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        for which in order {
            let report = measure(&plans[which].at(rate, turn))?;
            if report.verdict.word == Word::Failed {
                print_report(&report);
                return Ok(super::exit_code(&report));
            }
            let per_cpu = report.items_per_cpu_second.unwrap_or(0.0);
            let (gateway, work) = (gateways[which].display(), &report.title);
            eprintln!("{gateway:<40} {} {noun} per CPU second ({work})", thousands(per_cpu));
            rates[which].push(per_cpu);
        }
    }
    print_line(&format!(
        "{:<26} {:>14} {:>15} {:>15}",
        format!("{noun} per CPU second"),
        "median",
        "lowest",
        "highest"
    ));
    for (name, rates) in ["old", "new"].iter().zip(&mut rates) {
        rates.sort_by(f64::total_cmp);
        let [low, high] = [rates[0], rates[rates.len() - 1]].map(thousands);
        print_line(&format!("  {name:<16} {:>14} {low:>15} {high:>15}", thousands(median(rates))));
    }
    let ratio = median(&rates[1]) / median(&rates[0]);
    print_line(&format!("  new / old        {ratio:>14.3}"));
    if arguments.old != arguments.new {
        print_instructions(&gateways.map(|gateway| gateway.as_path()))?;
    }
    Ok(match arguments.ratio_min {
        Some(least) if ratio < least => {
            print_line(&format!("new / old is {ratio:.3}, at least {least} is wanted"));
            ExitCode::from(super::EXIT_FAILED)
        }
        _ => ExitCode::SUCCESS,
    })
}

fn plan(arguments: &CompareArguments, binary: &Path, profile: Profile) -> io::Result<Plan> {
    let mut run = arguments.run.clone();
    run.profile = profile;
    run.gateway = Some(binary.to_path_buf());
    run.target = None;
    let plan = Plan::new(&run)?;
    match plan.subject {
        Subject::Child { work: Work::Discard(_), .. } | Subject::Running { .. } => {
            Err(io::Error::other("two binaries are compared at their work"))
        }
        Subject::Child { .. } => Ok(plan),
    }
}

fn print_instructions(gateways: &[&Path; 2]) -> io::Result<()> {
    if !instructions::is_available() {
        print_line("instructions: not counted, valgrind is not installed");
        return Ok(());
    }
    let [old, new] = [instructions::count(gateways[0])?, instructions::count(gateways[1])?];
    print_line(&format!("instructions per span ({})", instructions::COUNTER));
    for (name, old) in &old {
        let new = new.get(name).copied().unwrap_or(0.0);
        print_line(&format!("  {name:<16} {old:>14.1} {new:>15.1} {:>15.3}", new / old));
    }
    Ok(())
}

/// Of a sorted, non-empty list.
fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}
