//! The configuration a gateway runs with: the one of the speed targets, written here, or a user's file whose addresses
//! are moved by `--set`.

use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use codecs::otlp::Signal;

use super::Addresses;
use super::user_file::read_policies;
use crate::cli::Out;
use crate::load::Protocol;
use crate::sink::WRITE_PATH;
use crate::traces::Policies;

/// Memory limit of the speed targets.
const MEMORY_LIMIT_MIB: u64 = 4_096;

/// Memory limit where traces wait for longer than the speed targets' 2 s: what 1.2 million spans/s are in 10 s, and
/// some.
const LONG_WAIT_MEMORY_LIMIT_MIB: u64 = 8_192;

/// What the gateway is to do.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// The speed targets' pipeline: tail sampling, two exporters.
    Sample(Sampling),
    /// Everything arrives: memory limiter, batch, one exporter.
    Pass(PassThrough),
    /// The documented discard mode: requests of this signal are received, checked, acknowledged and discarded.
    Discard(Signal),
    /// A pipeline without processors and one exporter whose queue is looked at.
    Queue(QueueWork),
    /// A user's file.
    File(UserFile),
}

/// A tail sampler of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sampling {
    /// From a trace's first span to its decision.
    pub(crate) decision_wait_s: u64,
    /// What it keeps.
    pub(crate) policies: PolicySet,
    memory_limit_mib: u64,
}

/// The policies of a tail sampler of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PolicySet {
    /// Error, latency, and 5 %.
    Three,
    /// These with 2 %, and what marked traces have: four texts, one of them by a pattern, and two numbers; and a rate limit.
    Ten,
}

/// A queue and the exporter behind it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct QueueWork {
    /// What is sent.
    pub(crate) signal: Signal,
    /// What its exporter speaks.
    pub(crate) protocol: Protocol,
    /// How long an attempt may take, in milliseconds; 0: for ever.
    pub(crate) timeout_ms: u64,
    /// Where the queue is kept; `None`: in memory.
    pub(crate) storage: Option<PathBuf>,
}

/// A pipeline that keeps everything.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PassThrough {
    /// Its signal.
    pub(crate) signal: Signal,
    /// What its exporter speaks; remote write for metrics only.
    pub(crate) out: Out,
    /// A processor in front of `batch`: its id and its settings, YAML in flow style.
    pub(crate) before_batch: Option<(String, String)>,
}

/// A configuration file and what the harness has to know of it.
#[derive(Clone, Debug)]
pub(crate) struct UserFile {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Exporters of its pipelines of the signal that is sent, `type/name`.
    pub(crate) exporters: Vec<ExporterEndpoint>,
    /// What its tail sampler keeps; `None` without one.
    pub(crate) policies: Option<Policies>,
}

/// An exporter and the protocol it speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExporterEndpoint {
    /// `type/name`, as in the gateway's metrics.
    pub(crate) id: String,
    /// `otlp`, or what goes over HTTP: `otlphttp` and `prometheusremotewrite`.
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
    /// The sampler of the speed targets: 2 s for every figure.
    pub(crate) fn three_policies(decision_wait_s: u64) -> Work {
        let memory_limit_mib = MEMORY_LIMIT_MIB;
        Work::Sample(Sampling { decision_wait_s, policies: PolicySet::Three, memory_limit_mib })
    }

    /// Three policies where traces wait for longer.
    pub(crate) fn three_policies_long(decision_wait_s: u64) -> Work {
        let memory_limit_mib = LONG_WAIT_MEMORY_LIMIT_MIB;
        Work::Sample(Sampling { decision_wait_s, policies: PolicySet::Three, memory_limit_mib })
    }

    /// Ten policies, with the same memory.
    pub(crate) fn ten_policies(decision_wait_s: u64) -> Work {
        let memory_limit_mib = LONG_WAIT_MEMORY_LIMIT_MIB;
        Work::Sample(Sampling { decision_wait_s, policies: PolicySet::Ten, memory_limit_mib })
    }

    /// The gateway's memory if nothing else is said; `None` where that is the file's to say.
    fn memory_limit_mib(&self) -> Option<u64> {
        match self {
            Work::Sample(sampling) => Some(sampling.memory_limit_mib),
            Work::Pass(_) | Work::Discard(_) | Work::Queue(_) => Some(MEMORY_LIMIT_MIB),
            Work::File(_) => None,
        }
    }

    /// The exporters a sink is needed for.
    pub(crate) fn exporters(&self) -> Vec<ExporterEndpoint> {
        let otlp = |name: &str| ExporterEndpoint { id: format!("otlp/{name}"), protocol: Protocol::Grpc };
        match self {
            Work::Sample(_) => vec![otlp("first"), otlp("second")],
            Work::Pass(PassThrough { out: Out::Otlp, .. }) => vec![otlp("first")],
            Work::Pass(PassThrough { out: Out::RemoteWrite, .. }) => {
                vec![ExporterEndpoint { id: "prometheusremotewrite".to_owned(), protocol: Protocol::Http }]
            }
            Work::Queue(QueueWork { protocol: Protocol::Grpc, .. }) => vec![otlp("first")],
            Work::Queue(_) => {
                vec![ExporterEndpoint { id: "otlphttp/first".to_owned(), protocol: Protocol::Http }]
            }
            Work::Discard(_) => Vec::new(),
            Work::File(file) => file.exporters.clone(),
        }
    }

    /// What its tail sampler keeps; `None`: everything arrives.
    pub(crate) fn policies(&self) -> Option<Policies> {
        match self {
            Work::Sample(sampling) => {
                let policies = read_policies(&sampling.settings());
                Some(policies.expect("the texts below are understood: a test reads both"))
            }
            Work::Pass(_) | Work::Discard(_) | Work::Queue(_) => None,
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
        if let Some(limit) = self.memory_limit_mib.or(self.work.memory_limit_mib()) {
            sets.push(format!("service.engine.memory_limit_mib={limit}"));
        }
        sets
    }

    fn text(&self, work: &Work) -> String {
        let mut text = format!(
            "receivers:\n  otlp:\n    protocols:\n      grpc:\n        endpoint: {}\n      http:\n        endpoint: {}\n",
            self.addresses.grpc, self.addresses.http
        );
        let (signal, processors) = match work {
            Work::Discard(signal) => {
                text.push_str(&DISCARD.replace("SIGNAL", signal.name()));
                return text;
            }
            Work::Pass(pass) => {
                text.push_str(LIMITED);
                let before_batch = pass.before_batch.as_ref();
                let _infallible = before_batch.map(|(id, settings)| writeln!(text, "  {id}: {settings}"));
                (pass.signal, before_batch.map(|(id, _)| id.as_str()))
            }
            Work::Sample(sampling) => {
                text.push_str(LIMITED);
                text.push_str("  tail_sampling:\n");
                text.push_str(&sampling.settings());
                (Signal::Traces, Some("tail_sampling"))
            }
            Work::Queue(queue) => {
                text.push_str(&self.queue_text(queue));
                return text;
            }
            Work::File(_) => return text,
        };
        let limit = self.memory_limit_mib.or(work.memory_limit_mib()).unwrap_or(MEMORY_LIMIT_MIB);
        text = text.replace("LIMIT", &limit.to_string()).replace("SPIKE", &(limit / 8).to_string());
        text.push_str("exporters:\n");
        let exporters = work.exporters();
        for (exporter, sink) in exporters.iter().zip(&self.sinks) {
            let id = &exporter.id;
            let _infallible = match exporter.protocol {
                Protocol::Http => write!(text, "  {id}:\n    endpoint: http://{sink}{WRITE_PATH}\n"),
                Protocol::Grpc => write!(
                    text,
                    "  {id}:\n    endpoint: {sink}\n    compression: none\n    tls:\n      insecure: true\n"
                ),
            };
        }
        let processors: Vec<&str> = ["memory_limiter"].into_iter().chain(processors).chain(["batch"]).collect();
        let exporters: Vec<&str> = exporters.iter().map(|exporter| exporter.id.as_str()).collect();
        let _infallible = write!(
            text,
            "service:\n  pipelines:\n    {}:\n      receivers: [otlp]\n      processors: [{}]\n      exporters: [{}]\n",
            signal.name(),
            processors.join(", "),
            exporters.join(", ")
        );
        text
    }
}

impl Configuration {
    fn queue_text(&self, queue: &QueueWork) -> String {
        let exporters = self.work.exporters();
        let (id, sink) = (&exporters[0].id, self.sinks[0]);
        let scheme = if queue.protocol == Protocol::Http { "http://" } else { "" };
        let mut text = String::new();
        let mut keys = format!("queue_size: {QUEUE_REQUESTS}");
        if let Some(storage) = &queue.storage {
            let _infallible = write!(
                text,
                "extensions:\n  file_storage/queue: {{directory: '{}', create_directory: true, timeout: 30s}}\n",
                storage.display()
            );
            keys.push_str(", storage: file_storage/queue");
        }
        let _infallible = write!(
            text,
            "exporters:\n  {id}:\n    endpoint: {scheme}{sink}\n    compression: none\n    tls: {{insecure: true}}\n    \
             timeout: {}ms\n    retry_on_failure: {{initial_interval: 10ms, max_interval: 50ms, max_elapsed_time: 0}}\n    \
             sending_queue: {{{keys}}}\nservice:\n",
            queue.timeout_ms
        );
        if queue.storage.is_some() {
            text.push_str("  extensions: [file_storage/queue]\n");
        }
        let _infallible = write!(
            text,
            "  pipelines:\n    {}:\n      receivers: [otlp]\n      exporters: [{id}]\n",
            queue.signal.name()
        );
        text
    }
}

/// Requests a queue may hold: more than any run of faults leaves in it.
const QUEUE_REQUESTS: u64 = 100_000;

/// The discard mode.
const DISCARD: &str = "exporters:
  nop:
service:
  pipelines:
    SIGNAL:
      receivers: [otlp]
      exporters: [nop]
";

/// Processors of every pipeline that does something.
const LIMITED: &str = "processors:
  memory_limiter:
    check_interval: 1s
    limit_mib: LIMIT
    spike_limit_mib: SPIKE
  batch:
";

impl Sampling {
    /// What stands under `tail_sampling`. The judge reads the same text.
    fn settings(&self) -> String {
        let policies = match self.policies {
            PolicySet::Three => THREE_POLICIES,
            PolicySet::Ten => TEN_POLICIES,
        };
        SAMPLE.replace("WAIT", &self.decision_wait_s.to_string()) + policies
    }
}

/// A sampler's settings, all but its policies.
const SAMPLE: &str = "    decision_wait: WAITs
    num_traces: 10000000
    policies:
";

/// The policies of the speed targets.
const THREE_POLICIES: &str = "      - name: errors
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
";

/// Each about attributes wants one mark of `traces/content.rs`, about 1 % of traces. The last one keeps 100 spans/s beside
/// all that: less than 1 % at any rate worth a measurement, and at a rate of which a drain under valgrind sees no effect.
const TEN_POLICIES: &str = "      - name: errors
        type: status_code
        status_code: {status_codes: [ERROR]}
      - name: slow
        type: latency
        latency: {threshold_ms: 1000}
      - name: refunds
        type: string_attribute
        string_attribute: {key: http.route, values: [/api/v1/refunds, /api/v1/chargebacks]}
      - name: tenants
        type: string_attribute
        string_attribute: {key: app.tenant, values: [umbrella, tyrell, cyberdyne]}
      - name: probers
        type: string_attribute
        string_attribute: {key: user_agent.original, values: [prober/2.1]}
      - name: exports
        type: string_attribute
        string_attribute: {key: url.path, values: ['/(exports|imports)/[0-9]+$'], enabled_regex_matching: true}
      - name: failures
        type: numeric_attribute
        numeric_attribute: {key: http.response.status_code, min_value: 500, max_value: 599}
      - name: large
        type: numeric_attribute
        numeric_attribute: {key: app.items.count, min_value: 100}
      - name: random
        type: probabilistic
        probabilistic: {sampling_percentage: 2}
      - name: trickle
        type: rate_limiting
        rate_limiting: {spans_per_second: 100, burst_capacity: 1000}
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traces::Rule;

    #[test]
    fn the_judge_understands_the_policies_that_the_gateway_is_given() {
        let three = Work::three_policies(2).policies().unwrap();
        assert_eq!(three.decision_wait_ns, 2_000_000_000);
        let rules: Vec<Rule> = three.policies.into_iter().map(|policy| policy.rule).collect();
        assert_eq!(rules, [Rule::Error, Rule::LatencyMs(1_000), Rule::probabilistic(5.0, "")]);
        let ten = Work::ten_policies(10).policies().unwrap();
        assert_eq!(ten.decision_wait_ns, 10_000_000_000);
        let count = |is_wanted: fn(&Rule) -> bool| ten.policies.iter().filter(|policy| is_wanted(&policy.rule)).count();
        assert_eq!(ten.policies.len(), 10);
        assert_eq!(count(|rule| matches!(rule, Rule::Attribute { .. })), 6);
        assert_eq!(count(|rule| matches!(rule, Rule::Limited { spans_per_second: 100, burst_spans: 1_000 })), 1);
    }
}
