//! The configuration as the engine needs it. Holding a [`Config`] proves: every reference resolves, every value is in
//! its range, every pipeline has a receiver and an exporter. Durations are nanoseconds, sizes bytes.

mod components;
mod connectors;

pub use super::authenticator::*;
pub use super::proxy::ProxySettings;
use codecs::otlp::Signal;
pub use components::*;
pub use connectors::*;
use std::net::SocketAddr;
use std::path::PathBuf;

/// `type[/name]`, as written in the file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ComponentId {
    /// The component's type in the spelling of the file (`otlp`, `otlp_grpc`, `batch`, ...).
    pub kind: String,
    /// What follows the slash.
    pub name: Option<String>,
}

impl std::fmt::Display for ComponentId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{}/{name}", self.kind),
            None => f.write_str(&self.kind),
        }
    }
}

/// A whole checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// `service.engine`.
    pub engine: EngineSettings,
    /// `service.telemetry` and the admin address.
    pub telemetry: TelemetrySettings,
    /// Receivers that a pipeline uses.
    pub receivers: Vec<ReceiverSettings>,
    /// Processors that a pipeline uses (instantiated once per pipeline and shard).
    pub processors: Vec<ProcessorSettings>,
    /// Exporters that a pipeline uses.
    pub exporters: Vec<ExporterSettings>,
    /// `span_metrics` connectors that a pipeline uses.
    pub span_metrics: Vec<SpanMetricsConnector>,
    /// Authenticators that a receiver or an exporter names.
    pub authenticators: Vec<AuthenticatorSettings>,
    /// `file_storage` extensions that a queue or a sampler names.
    pub storages: Vec<StorageSettings>,
    /// Extensions that `service.extensions` lists and that run beside the pipelines, in its order.
    pub extensions: Vec<ExtensionSettings>,
    /// Pipelines in the file's order.
    pub pipelines: Vec<PipelineSettings>,
}

impl Config {
    /// What the pipelines of this receiver take, in the order of [`Signal::ALL`].
    pub fn signals_of(&self, receiver: usize) -> Vec<Signal> {
        let feeds = |signal| {
            let mut pipelines = self.pipelines.iter().filter(|pipeline| pipeline.signal == signal);
            pipelines.any(|pipeline| pipeline.receivers.contains(&receiver))
        };
        Signal::ALL.into_iter().filter(|signal| feeds(*signal)).collect()
    }
}

/// One pipeline; numbers are indices into the lists of [`Config`].
#[derive(Clone, Debug)]
pub struct PipelineSettings {
    /// `traces`, `metrics/name`, ...
    pub id: ComponentId,
    /// What flows through it.
    pub signal: Signal,
    /// At least one, unless a connector feeds the pipeline.
    pub receivers: Vec<usize>,
    /// In order.
    pub processors: Vec<usize>,
    /// At least one, unless a connector takes what leaves.
    pub exporters: Vec<usize>,
    /// `forward` connectors that take what leaves.
    pub forwards: Vec<Forward>,
    /// `span_metrics` connectors that count what leaves.
    pub span_metrics: Vec<usize>,
    /// `ack`.
    pub ack: AckMode,
}

/// `service.pipelines.<name>.ack`: what has happened when a sender is told that its request was taken. Each promises what
/// those before it promise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum AckMode {
    /// A node has taken ownership: a batch, a trace table, a queue.
    #[default]
    Received,
    /// The request is in the log of every exporter's queue, synced.
    Durable,
    /// Every exporter's backend has taken it.
    Delivered,
}

impl AckMode {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            AckMode::Received => "received",
            AckMode::Durable => "durable",
            AckMode::Delivered => "delivered",
        }
    }
}

/// A `forward` connector as one pipeline's exporter. Pipelines and their forwards have no cycle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Its id.
    pub id: ComponentId,
    /// Pipelines of the same signal that it feeds, at least one; indices into [`Config::pipelines`].
    pub targets: Vec<usize>,
}

/// An extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtensionSettings {
    /// Its id.
    pub id: ComponentId,
    /// What it does.
    pub kind: ExtensionKind,
    /// `tls`; `None`: plain text.
    pub tls: Option<TlsServerSettings>,
}

/// What an extension does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExtensionKind {
    /// Says over HTTP whether the gateway is ready.
    HealthCheck(HealthCheckSettings),
    /// The same with a status of every pipeline.
    HealthCheckV2(HealthCheckV2Settings),
    /// The same over gRPC; an extension beside the one over HTTP, with the same id.
    HealthCheckGrpc(SocketAddr),
    /// The admin pages at an address of their own.
    Zpages(SocketAddr),
    /// Says what profiles there are.
    Pprof(SocketAddr),
}

/// `health_check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheckSettings {
    /// Where it listens.
    pub address: SocketAddr,
    /// Starts with `/`; with a `/` at its end everything below it.
    pub path: String,
    /// Answer of a ready gateway instead of the Collector's JSON.
    pub healthy_body: Option<String>,
    /// Answer of one that is not.
    pub unhealthy_body: Option<String>,
}

/// `health_check` with `use_v2`, and `healthcheckv2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheckV2Settings {
    /// Where it listens.
    pub address: SocketAddr,
    /// Path of the status; `None` if disabled.
    pub status_path: Option<String>,
}

/// `service.engine`.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineSettings {
    /// Which cores, and so how many shards.
    pub cores: Cores,
    /// Whether shards are pinned.
    pub pin: Pin,
    /// Which runtime.
    pub runtime: RuntimeChoice,
    /// `memory_limit_mib` in bytes; `None`: the smallest `memory_limiter` limit, else 75 % of the cgroup.
    pub memory_limit_bytes: Option<u64>,
    /// Who is refused first when memory is short.
    pub fair_share: FairShare,
    /// How long a drain may take.
    pub shutdown_timeout_ns: u64,
    /// `reload.watch`: files of the configuration are looked at every second.
    pub watches_files: bool,
}

/// `service.engine.fair_share`: who has a share of the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FairShare {
    /// Each connection.
    Connection,
    /// Each address on each shard, however many connections it has.
    Address,
    /// Nobody.
    Off,
}

/// `service.engine.cores`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cores {
    /// As many as the cgroup quota and the cpuset allow.
    Auto,
    /// This many shards, at least 1.
    Count(usize),
    /// These cores, one shard each, in order, without repeats.
    List(Vec<usize>),
}

/// `service.engine.pin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// Only on an exclusive cpuset or named cores.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// `service.engine.runtime`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeChoice {
    /// io_uring where the kernel lets it, else epoll.
    Auto,
    /// io_uring or an error.
    IoUring,
    /// epoll.
    Epoll,
}

/// `service.telemetry` and ours: where to look.
#[derive(Clone, Debug, PartialEq)]
pub struct TelemetrySettings {
    /// Where `/metrics` is served; `None` at level `none`.
    pub metrics_address: Option<SocketAddr>,
    /// How much is shown.
    pub metrics_level: MetricsLevel,
    /// How metrics are named.
    pub metrics_names: MetricNames,
    /// `service.engine.admin`, default 127.0.0.1:55679; `None` if set to `none`.
    pub admin_address: Option<SocketAddr>,
    /// `service.telemetry.logs`.
    pub logs: LogSettings,
    /// `service.telemetry.resource`, in the file's order.
    pub resource: Vec<ResourceLabel>,
}

/// How metrics are named on `/metrics`: plain, with suffixes, or each metric under both names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricNames {
    /// As the Collector writes them without `readers`.
    pub plain: bool,
    /// A spelling with `_total` behind counters.
    pub type_suffix: bool,
    /// A spelling with the unit behind the name, before `_total`.
    pub units: bool,
    /// Labels `otel_scope_name`, `otel_scope_version` and `otel_scope_schema_url` on every series.
    pub scope_info: bool,
}

impl MetricNames {
    /// The Collector's default.
    pub const PLAIN: MetricNames = MetricNames { plain: true, type_suffix: false, units: false, scope_info: false };
    /// Units and `_total`.
    pub const SUFFIXED: MetricNames = MetricNames { plain: false, type_suffix: true, units: true, scope_info: false };
    /// Every metric twice where the two names differ: for the time in which dashboards move from one to the other.
    pub const BOTH: MetricNames = MetricNames { plain: true, type_suffix: true, units: true, scope_info: false };
}

/// An entry of `service.telemetry.resource`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceLabel {
    /// As written, with its dots.
    pub name: String,
    /// `None` takes an attribute of ours away.
    pub value: Option<String>,
}

/// `service.telemetry.logs`.
#[derive(Clone, Debug, PartialEq)]
pub struct LogSettings {
    /// Least severe log line shown.
    pub level: LogLevel,
    /// JSON lines instead of console lines.
    pub json: bool,
    /// Whether a line says where in the code it was written.
    pub caller: bool,
    /// How equal lines are bounded; `None`: not at all.
    pub sampling: Option<LogSampling>,
    /// Fields of every line, before its own.
    pub fields: Vec<(String, serde_json::Value)>,
    /// Where lines go; at least one.
    pub outputs: Vec<LogOutput>,
}

/// `service.telemetry.logs.sampling`: of equal lines in one tick the first so many, then each so-manyth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSampling {
    /// At least 1.
    pub tick_ns: u64,
    /// Equal lines written in a tick.
    pub initial: u32,
    /// Of the lines after these each so-manyth is written; 0: none.
    pub thereafter: u32,
}

impl Default for LogSampling {
    fn default() -> LogSampling {
        LogSampling { tick_ns: 10_000_000_000, initial: 10, thereafter: 100 }
    }
}

/// One entry of `service.telemetry.logs.output_paths`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOutput {
    /// `stderr`, the default.
    Stderr,
    /// `stdout`.
    Stdout,
    /// A file that is appended to.
    File(PathBuf),
}

/// `service.telemetry.metrics.level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MetricsLevel {
    /// Nothing is served.
    None,
    /// What every component counts.
    Basic,
    /// The default.
    Normal,
    /// Adds per-shard series.
    Detailed,
}

/// `service.telemetry.logs.level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// The default.
    Info,
    /// What needs attention.
    Warn,
    /// What failed.
    Error,
}
