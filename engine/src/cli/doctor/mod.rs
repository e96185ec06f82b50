//! `tracegate doctor`: what on this machine would keep this configuration from running well; with `--url`, where a
//! gateway that runs loses spans or holds them up.
//!
//! ```text
//! configuration + machine + ports + backends --> findings (ok, warning, problem)
//! two readings of a metrics page             --> findings, and which of them to begin with
//! ```
//!
//! The idea: every finding says what was expected, what was found and what to do, and the judgement is pure. Nothing is
//! started, changed or sent but greetings.

pub mod backends;
pub mod finding;
pub mod machine;
pub mod pages;
pub mod ports;
pub mod running;

use std::time::{Duration, Instant};

use tokio::time::sleep;

use self::finding::{Examination, Finding, Level};
use super::{ConfigArguments, Report, migrate, port_owner, run as start};
use crate::config::checked::{Config, ProcessorKind};
use crate::config::{self, duration};

/// Arguments of `tracegate doctor`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Arguments {
    /// Examines a running gateway, this one or a Collector, by its metrics page: `http://127.0.0.1:8888/metrics`
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// With --url: time between the two readings of the page
    #[arg(long = "for", value_name = "DURATION", default_value = "5s")]
    pub duration: String,
    /// A name by which senders reach this gateway: one that stands for several processes splits traces
    #[arg(long = "service", value_name = "NAME")]
    pub services: Vec<String>,
    /// JSON instead of lines
    #[arg(long)]
    pub json: bool,
}

/// Longest and shortest time between two readings.
const READING_MAX: Duration = Duration::from_secs(3600);
const READING_MIN: Duration = Duration::from_millis(100);
/// Exit code when there is nothing to examine.
const NO_ANSWER: u8 = 2;

/// Examines this machine for the configuration, or a running gateway.
pub fn run(
    sources: &ConfigArguments,
    arguments: &Arguments,
    environment: &dyn Fn(&str) -> Option<String>,
    machine: &config::Machine,
    color: bool,
) -> Report {
    let examined = match &arguments.url {
        Some(url) => examine_running(url, &arguments.duration).map(|examination| (examination, String::new())),
        None => examine_here(sources, arguments, environment, machine, color),
    };
    match examined {
        Ok((examination, errors)) => {
            let output = if arguments.json { examination.json() } else { examination.text() };
            Report { exit_code: examination.exit_code(), output, errors }
        }
        Err(error) => Report { exit_code: NO_ANSWER, output: String::new(), errors: error },
    }
}

fn examine_here(
    sources: &ConfigArguments,
    arguments: &Arguments,
    environment: &dyn Fn(&str) -> Option<String>,
    machine: &config::Machine,
    color: bool,
) -> Result<(Examination, String), String> {
    let read = sources.sources().map_err(|error| format!("error: {error}\n"))?;
    let loaded = config::load(&read, environment, machine);
    let rendered = config::render(&loaded.diagnostics, color);
    let Some(config) = loaded.config else {
        let wrong = Finding::new(
            Level::Problem,
            "configuration",
            [
                format!("{} runs", sources.names()),
                "it has errors, or no service: see above".to_owned(),
                "correct it; `tracegate validate` says the same, `tracegate migrate` what to write instead".to_owned(),
            ],
        );
        return Ok((Examination::new(vec![wrong], "Nothing else was looked at.".to_owned()), rendered));
    };
    let mut findings = vec![Finding::ok("configuration", format!("{} is valid", sources.names()))];
    let facts = machine::Facts::read();
    let ((limit_bytes, _), setting) = start::budget_of(&config, facts.memory_bytes());
    findings.extend(machine::examine(&facts, &config.engine, (limit_bytes, setting)));
    findings.extend(ports::wanted(&config).iter().map(|wanted| {
        let tried = ports::try_port(&wanted.endpoint, &port_owner::find);
        ports::judge(wanted, &tried, config.telemetry.metrics_address)
    }));
    findings.extend(around(&config, &arguments.services)?);
    let conclusion = match findings.iter().find(|finding| finding.level == Level::Problem) {
        Some(first) => format!("Begin with: {}.", first.place),
        None => "This configuration can run here.".to_owned(),
    };
    Ok((Examination::new(findings, conclusion), rendered))
}

/// Backends, and names of this gateway: everything that asks the network, at the same time.
fn around(config: &Config, services: &[String]) -> Result<Vec<Finding>, String> {
    let backends = backends::of(config);
    let samples = config.processors.iter().any(|processor| matches!(processor.kind, ProcessorKind::TailSampling(_)));
    let runtime = runtime()?;
    let findings = runtime.block_on(async {
        let examined = futures_util::future::join_all(backends.iter().map(backends::examine)).await;
        let named = services.iter().map(|name| backends::examine_service(name, samples));
        let named = futures_util::future::join_all(named).await;
        examined.into_iter().flatten().chain(named).collect()
    });
    // A resolver that does not answer is not waited for.
    runtime.shutdown_background();
    Ok(findings)
}

fn examine_running(url: &str, written: &str) -> Result<Examination, String> {
    let wait = duration::parse(written).and_then(|nanoseconds| u64::try_from(nanoseconds).ok());
    let wait = wait.map(Duration::from_nanos).filter(|wait| (READING_MIN..=READING_MAX).contains(wait));
    let wait =
        wait.ok_or_else(|| format!("error: --for {written}: expected a duration from 100ms to 1h, such as 5s\n"))?;
    let pages = runtime()?.block_on(async {
        let before = migrate::fetch(url).await?;
        let begun = Instant::now();
        sleep(wait).await;
        let after = migrate::fetch(url).await?;
        pages::Pages::new(&before, &after, begun.elapsed().as_secs_f64())
    });
    let pages = pages.map_err(|error| {
        format!("error: {url}: {error}\nIs it the address of service.telemetry.metrics? `curl {url}` shows the page.\n")
    })?;
    Ok(running::examine(&pages))
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| format!("error: no runtime to ask with: {error}\n"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    #[test]
    fn every_command_of_the_troubleshooting_page_is_one() {
        let page = include_str!("../../../../docs/troubleshooting.md");
        let mut commands = 0;
        for block in page.split("```sh\n").skip(1) {
            let block = block.split("```").next().unwrap();
            for line in block.lines().flat_map(|line| line.split('#').next().unwrap().split(" && ")) {
                let Some((_, arguments)) = line.split_once("tracegate ") else { continue };
                if line.contains("pidof") {
                    continue;
                }
                let words = std::iter::once("tracegate").chain(arguments.split_whitespace());
                crate::cli::Arguments::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
                commands += 1;
            }
        }
        assert!(commands > 10, "{commands}");
    }

    #[test]
    fn a_duration_that_is_none_is_an_error_before_anything_is_asked() {
        for wrong in ["5", "0s", "2h", "-1s", "soon"] {
            let error = super::examine_running("http://127.0.0.1:1/metrics", wrong).unwrap_err();
            assert!(error.contains("expected a duration"), "{wrong}: {error}");
        }
    }
}
