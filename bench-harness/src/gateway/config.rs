//! The configuration a gateway runs with: the one of the speed targets, written here, or a user's file whose addresses
//! are moved by `--set`.

use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::Addresses;
use crate::load::Protocol;
use crate::traces::{Policies, Policy, Rule};

/// Memory limit of the speed targets.
const MEMORY_LIMIT_MIB: u64 = 4_096;

/// What the gateway is to do.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// The speed targets' pipeline: tail sampling by error, latency and 5 %, two exporters.
    Sample {
        /// 2 for every figure of speed.
        decision_wait_s: u64,
    },
    /// The documented discard mode: requests are received, checked, acknowledged and discarded.
    Discard,
    /// A user's file.
    File(UserFile),
}

/// A configuration file and what the harness has to know of it.
#[derive(Clone, Debug)]
pub(crate) struct UserFile {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Exporters of its traces pipelines, `type/name`.
    pub(crate) exporters: Vec<ExporterEndpoint>,
    /// What its tail sampler keeps; `None` without one.
    pub(crate) policies: Option<Policies>,
}

/// An exporter and the protocol it speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExporterEndpoint {
    /// `type/name`, as in the gateway's metrics.
    pub(crate) id: String,
    /// `otlp` or `otlphttp`.
    pub(crate) protocol: Protocol,
}

/// Which runtime the gateway takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Runtime {
    /// Its own choice.
    Auto,
    /// io_uring or an error.
    #[value(name = "io_uring")]
    IoUring,
    /// epoll.
    Epoll,
}

/// Everything a gateway is told.
#[derive(Clone, Debug)]
pub(crate) struct Configuration {
    /// What it does.
    pub(crate) work: Work,
    /// Where it listens.
    pub(crate) addresses: Addresses,
    /// Where its exporters send, in the order of [`Work::exporters`].
    pub(crate) sinks: Vec<SocketAddr>,
    /// Its runtime.
    pub(crate) runtime: Runtime,
    /// How many shards.
    pub(crate) shards: usize,
    /// Its whole memory, in MiB; `None`: what the work says.
    pub(crate) memory_limit_mib: Option<u64>,
    /// More `--set` arguments, `key=value`.
    pub(crate) sets: Vec<String>,
}

impl Work {
    /// The exporters a sink is needed for.
    pub(crate) fn exporters(&self) -> Vec<ExporterEndpoint> {
        let otlp = |name: &str| ExporterEndpoint { id: format!("otlp/{name}"), protocol: Protocol::Grpc };
        match self {
            Work::Sample { .. } => vec![otlp("first"), otlp("second")],
            Work::Discard => Vec::new(),
            Work::File(file) => file.exporters.clone(),
        }
    }

    /// What its tail sampler keeps; `None`: everything arrives.
    pub(crate) fn policies(&self) -> Option<Policies> {
        match self {
            Work::Sample { decision_wait_s } => Some(speed_policies(*decision_wait_s)),
            Work::Discard => None,
            Work::File(file) => file.policies.clone(),
        }
    }
}

impl Configuration {
    /// Writes what is needed into `folder` and returns the gateway's arguments.
    pub(crate) fn write(&self, folder: &Path) -> io::Result<Vec<String>> {
        let file = match &self.work {
            Work::File(file) => file.path.clone(),
            work => {
                let path = folder.join("gateway.yaml");
                std::fs::write(&path, self.text(work))?;
                path
            }
        };
        let mut arguments = vec!["--config".to_owned(), file.display().to_string()];
        for set in self.moved().into_iter().chain(self.engine()).chain(self.sets.iter().cloned()) {
            arguments.extend(["--set".to_owned(), set]);
        }
        Ok(arguments)
    }

    /// Moves a user's file to our addresses.
    fn moved(&self) -> Vec<String> {
        let Work::File(file) = &self.work else {
            return Vec::new();
        };
        let mut sets = vec![
            format!("receivers.otlp.protocols.grpc.endpoint={}", self.addresses.grpc),
            format!("receivers.otlp.protocols.http.endpoint={}", self.addresses.http),
        ];
        for (exporter, sink) in file.exporters.iter().zip(&self.sinks) {
            let id = &exporter.id;
            match exporter.protocol {
                Protocol::Grpc => sets.push(format!("exporters.{id}.endpoint={sink}")),
                Protocol::Http => sets.push(format!("exporters.{id}.endpoint=http://{sink}")),
            }
            sets.push(format!("exporters.{id}.tls.insecure=true"));
        }
        sets
    }

    /// One core, its memory, its addresses.
    fn engine(&self) -> Vec<String> {
        let runtime = match self.runtime {
            Runtime::Auto => "auto",
            Runtime::IoUring => "io_uring",
            Runtime::Epoll => "epoll",
        };
        let Addresses { metrics, admin, .. } = self.addresses;
        let reader = format!(
            "{{pull: {{exporter: {{prometheus: {{host: {}, port: {}, without_type_suffix: true, without_units: true, \
             without_scope_info: true}}}}}}}}",
            metrics.ip(),
            metrics.port()
        );
        let mut sets = vec![
            format!("service.engine.cores={}", self.shards),
            format!("service.engine.runtime={runtime}"),
            format!("service.engine.admin={admin}"),
            format!("service.telemetry.metrics.readers=[{reader}]"),
        ];
        let work_limit = (!matches!(self.work, Work::File(_))).then_some(MEMORY_LIMIT_MIB);
        if let Some(limit) = self.memory_limit_mib.or(work_limit) {
            sets.push(format!("service.engine.memory_limit_mib={limit}"));
        }
        sets
    }

    fn text(&self, work: &Work) -> String {
        let mut text = format!(
            "receivers:\n  otlp:\n    protocols:\n      grpc:\n        endpoint: {}\n      http:\n        endpoint: {}\n",
            self.addresses.grpc, self.addresses.http
        );
        let Work::Sample { decision_wait_s } = work else {
            text.push_str(DISCARD);
            return text;
        };
        let limit = self.memory_limit_mib.unwrap_or(MEMORY_LIMIT_MIB);
        let filled = [("LIMIT", limit), ("SPIKE", limit / 8), ("WAIT", *decision_wait_s)];
        let fill = |text: String, (place, value): &(&str, u64)| text.replace(place, &value.to_string());
        text.push_str(&filled.iter().fold(SAMPLE.to_owned(), fill));
        text.push_str("exporters:\n");
        let exporters = self.work.exporters();
        for (exporter, sink) in exporters.iter().zip(&self.sinks) {
            let _infallible = write!(
                text,
                "  {}:\n    endpoint: {sink}\n    compression: none\n    tls:\n      insecure: true\n",
                exporter.id
            );
        }
        text.push_str(
            "service:\n  pipelines:\n    traces:\n      receivers: [otlp]\n      \
             processors: [memory_limiter, tail_sampling, batch]\n      exporters: [otlp/first, otlp/second]\n",
        );
        text
    }
}

/// The discard mode.
const DISCARD: &str = "exporters:
  nop:
service:
  pipelines:
    traces:
      receivers: [otlp]
      exporters: [nop]
";

/// Processors of the speed targets; must say what [`speed_policies`] says.
const SAMPLE: &str = "processors:
  memory_limiter:
    check_interval: 1s
    limit_mib: LIMIT
    spike_limit_mib: SPIKE
  tail_sampling:
    decision_wait: WAITs
    num_traces: 10000000
    policies:
      - name: errors
        type: status_code
        status_code:
          status_codes: [ERROR]
      - name: slow
        type: latency
        latency:
          threshold_ms: 1000
      - name: random
        type: probabilistic
        probabilistic:
          sampling_percentage: 5
  batch:
";

fn speed_policies(decision_wait_s: u64) -> Policies {
    let policy = |name: &str, rule| Policy { name: name.to_owned(), rule };
    Policies {
        decision_wait_ns: decision_wait_s * 1_000_000_000,
        policies: vec![
            policy("errors", Rule::Error),
            policy("slow", Rule::LatencyMs(1_000)),
            policy("random", Rule::probabilistic(5.0, "")),
        ],
    }
}
