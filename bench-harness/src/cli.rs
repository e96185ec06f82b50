//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use codecs::compression::Compression;
use codecs::otlp::Signal;

use crate::gateway::Runtime;
use crate::load::Protocol;
use crate::sink::Contents;

/// Load, sink and judge for the gateway.
#[derive(Debug, Parser)]
#[command(version, about, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    /// What to do; without one, run at a rate and judge.
    #[command(subcommand)]
    pub(crate) command: Option<Action>,
    /// Settings of a run.
    #[command(flatten)]
    pub(crate) run: RunArguments,
}

/// Sub-commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Finds the highest rate that is sustained: no refusal, a stable backlog, ack p99 below 50 ms.
    Saturate(RunArguments),
    /// The same load into the gateway's discard mode: what receiving, checking and acknowledging cost.
    Floor(RunArguments),
    /// The promise for one instance: 50,000 spans/s, then 100,000 points/s, then 20,000 records/s, each on 1 core and
    /// 2 GiB with ack p50 2, p95 8 and p99 15 ms.
    Baseline(RunArguments),
    /// Two gateway binaries, by turns in one run: ratio of spans per CPU second, and of instructions.
    Compare(CompareArguments),
    /// Instructions per span in fixed scenarios, against a baseline file.
    Instructions(InstructionsArguments),
    /// A backend that misbehaves, a gateway that is stopped and killed: the books balance, what was promised is kept.
    Faults(FaultsArguments),
    /// What spans cost the application that makes them, with the SDK of Rust: nanoseconds, bytes and allocations of a span,
    /// a span with attributes, and a batch exported to a gateway. Needs a harness built with `--features sdk`.
    Sdk(SdkArguments),
    /// What the harness itself can offer: closed loop into a target of its own that acks and discards.
    Offer(RunArguments),
}

/// Settings of a run.
#[derive(Args, Clone, Debug)]
pub(crate) struct RunArguments {
    /// Spans offered per second.
    #[arg(long, value_name = "RATE")]
    pub(crate) spans: Option<u64>,
    /// Data points offered per second instead of spans: 100,000 active series, one point each in turn. Without a rate
    /// 100,000, or what the sub-command finds out.
    #[arg(long, value_name = "RATE", conflicts_with_all = ["spans", "logs"])]
    pub(crate) datapoints: Option<Option<u64>>,
    /// Log records of 350 bytes offered per second instead of spans. Without a rate 20,000, or what the sub-command
    /// finds out.
    #[arg(long, value_name = "RATE", conflicts_with = "spans")]
    pub(crate) logs: Option<Option<u64>>,
    /// How data points leave the gateway.
    #[arg(long, default_value = "otlp", value_enum, requires = "datapoints", conflicts_with_all = ["spans", "logs", "config", "target"])]
    pub(crate) out: Out,
    /// How long load is offered: 30s, 1500ms, 2m. Without it long enough for four decision waits.
    #[arg(long, value_parser = parse_duration)]
    pub(crate) duration: Option<Duration>,
    /// Connections to the gateway; requests take turns.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) connections: u16,
    /// Spans, points or records in each request.
    #[arg(long = "spans-per-request", visible_alias = "items-per-request", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) items_per_request: u32,
    /// Encoding of requests. Compressed requests are made before the run.
    #[arg(long, default_value = "none", value_enum)]
    pub(crate) compression: CompressionArgument,
    /// How requests travel.
    #[arg(long, default_value = "grpc", value_enum)]
    pub(crate) protocol: Protocol,
    /// Which traces are sent, and what is done with them.
    #[arg(long, default_value = "web", value_enum, conflicts_with_all = ["datapoints", "logs"])]
    pub(crate) profile: Profile,
    /// The same seed sends the same bytes.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// A gateway that already runs; judged by acks and, with --target-metrics, by its metrics.
    #[arg(long, value_name = "ADDR")]
    pub(crate) target: Option<SocketAddr>,
    /// Where the target serves its metrics.
    #[arg(long, value_name = "ADDR", requires = "target")]
    pub(crate) target_metrics: Option<SocketAddr>,
    /// A gateway configuration instead of the built-in one; its addresses are moved to free ports.
    #[arg(long, value_name = "FILE", conflicts_with = "target")]
    pub(crate) config: Option<PathBuf>,
    /// Passed to the gateway as `--set`.
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "target")]
    pub(crate) set: Vec<String>,
    /// Writes the report as JSON, and a latency plot beside it as SVG.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// The gateway's runtime.
    #[arg(long, default_value = "auto", value_enum)]
    pub(crate) runtime: Runtime,
    /// The gateway's shards. All run on its one core unless --gateway-cores gives it more.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) shards: u16,
    /// Cores the gateway is kept on, from core 0; load and sink take the next one, or share the last.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) gateway_cores: u16,
    /// A gateway binary instead of the release build of this workspace.
    #[arg(long, value_name = "FILE", conflicts_with = "target")]
    pub(crate) gateway: Option<PathBuf>,
    /// What the sink compares: all bytes, or only ids where the configuration edits spans.
    #[arg(long, default_value = "bytes", value_enum)]
    pub(crate) contents: Contents,
}

/// Settings of `compare`.
#[derive(Args, Clone, Debug)]
pub(crate) struct CompareArguments {
    /// The gateway to compare with.
    pub(crate) old: PathBuf,
    /// The gateway in question.
    pub(crate) new: PathBuf,
    /// Profile of the old gateway's turns instead of --profile. With the same binary twice: what its policies cost,
    /// with `--old-profile tail3 --profile tail10`.
    #[arg(long, value_enum)]
    pub(crate) old_profile: Option<Profile>,
    /// Exit code 1 if the new gateway's spans per CPU second are below this share of the old one's.
    #[arg(long, value_name = "SHARE")]
    pub(crate) ratio_min: Option<f64>,
    /// Turns of each.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) rounds: u16,
    /// Settings of each turn.
    #[command(flatten)]
    pub(crate) run: RunArguments,
}

/// Settings of `instructions`.
#[derive(Args, Clone, Debug)]
pub(crate) struct InstructionsArguments {
    /// A gateway binary instead of the release build of this workspace.
    #[arg(long, value_name = "FILE")]
    pub(crate) gateway: Option<PathBuf>,
    /// Compared with; a difference of more than 2 % is exit code 1.
    #[arg(long, value_name = "FILE", default_value = "perf/baselines/instructions.json")]
    pub(crate) baseline: PathBuf,
    /// Only this scenario.
    #[arg(long, value_name = "NAME", conflicts_with = "update")]
    pub(crate) only: Option<String>,
    /// Writes the measured figures as the new baseline. It comes with a note in perf/notes/.
    #[arg(long)]
    pub(crate) update: bool,
}

impl RunArguments {
    /// What is sent.
    pub(crate) fn signal(&self) -> Signal {
        match (self.datapoints, self.logs) {
            (Some(_), _) => Signal::Metrics,
            (None, Some(_)) => Signal::Logs,
            (None, None) => Signal::Traces,
        }
    }

    /// Items per second, if a rate was given.
    pub(crate) fn rate(&self) -> Option<u64> {
        self.spans.or(self.datapoints.flatten()).or(self.logs.flatten())
    }
}

/// How data points leave the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Out {
    /// As they came.
    Otlp,
    /// As samples of Prometheus remote write 1.0.
    RemoteWrite,
}

/// Settings of `faults`.
#[derive(Args, Clone, Debug)]
pub(crate) struct FaultsArguments {
    /// Both runtimes, 200 kills, a backend that is away for a minute, 40 changed records, and the last file cut at every
    /// byte: an hour or two.
    #[arg(long)]
    pub(crate) long: bool,
    /// Only this: so many kills -9 under load, at random moments.
    #[arg(long, value_name = "N", conflicts_with = "long", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) kills: Option<u32>,
    /// A gateway binary instead of the release build of this workspace.
    #[arg(long, value_name = "FILE")]
    pub(crate) gateway: Option<PathBuf>,
    /// The gateway's runtime.
    #[arg(long, default_value = "auto", value_enum)]
    pub(crate) runtime: Runtime,
    /// The same seed sends the same bytes and draws the same numbers.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Writes what came of each scenario.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// Settings of `sdk`.
#[derive(Args, Clone, Debug)]
#[cfg_attr(not(feature = "sdk"), allow(dead_code, reason = "read only with the SDK"))]
pub(crate) struct SdkArguments {
    /// A gateway binary instead of the release build of this workspace.
    #[arg(long, value_name = "FILE")]
    pub(crate) gateway: Option<PathBuf>,
    /// The gateway's runtime.
    #[arg(long, default_value = "auto", value_enum)]
    pub(crate) runtime: Runtime,
    /// Writes the figures.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// Which traces are sent, and what is done with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// A shop: about 8 spans over 3 to 5 services, 8 to 12 attributes, 370 bytes a span. Three policies, 7 % kept, a
    /// decision wait of 2 s, 4 GiB.
    Web,
    /// The same, and 6 % of traces have a mark for a policy about attributes. Ten policies, 10 % kept, 10 s, 8 GiB.
    Tail10,
    /// The traces of tail10 with the three policies of web: what to compare it with.
    Tail3,
}

/// Encoding of requests, as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CompressionArgument {
    /// As they are.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl From<CompressionArgument> for Compression {
    fn from(argument: CompressionArgument) -> Compression {
        match argument {
            CompressionArgument::None => Compression::None,
            CompressionArgument::Gzip => Compression::Gzip,
            CompressionArgument::Zstd => Compression::Zstd,
        }
    }
}

/// `30s`, `1500ms`, `2m`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let unit = text.find(|character: char| !character.is_ascii_digit()).ok_or("a unit is missing: s, ms or m")?;
    let (number, unit) = text.split_at(unit);
    let number: u64 = number.parse().map_err(|_| "a whole number is needed before the unit")?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        _ => Err(format!("the unit {unit} is not one of s, ms, m")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn one_signal_is_sent_with_or_without_a_rate() {
        let parse = |words: &[&str]| Arguments::try_parse_from([&["bench-harness"], words].concat());
        let run = |words: &[&str]| {
            let run = parse(words).unwrap().run;
            (run.signal(), run.rate())
        };
        assert_eq!(run(&[]), (Signal::Traces, None));
        assert_eq!(run(&["--spans", "5"]), (Signal::Traces, Some(5)));
        assert_eq!(run(&["--datapoints"]), (Signal::Metrics, None));
        assert_eq!(run(&["--datapoints", "7", "--out", "remote-write"]), (Signal::Metrics, Some(7)));
        assert_eq!(run(&["--logs", "9"]), (Signal::Logs, Some(9)));
        assert!(parse(&["--logs", "--spans", "1"]).is_err());
        assert!(parse(&["--logs", "--datapoints"]).is_err());
        assert!(parse(&["--spans", "1", "--out", "remote-write"]).is_err());
    }

    #[test]
    fn profiles_are_of_spans() {
        let parse = |words: &[&str]| Arguments::try_parse_from([&["bench-harness"], words].concat());
        assert_eq!(parse(&["--profile", "tail10"]).unwrap().run.profile, Profile::Tail10);
        assert!(parse(&["--profile", "tail10", "--logs"]).is_err());
        assert!(parse(&["compare", "a", "b", "--old-profile", "tail3", "--profile", "tail10"]).is_ok());
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_duration("1500ms"), Ok(Duration::from_millis(1_500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert!(parse_duration("30").is_err());
        assert!(parse_duration("s").is_err());
        assert!(parse_duration("3h").is_err());
    }
}
