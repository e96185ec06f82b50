//! Receivers, processors and exporters as the engine needs them; the first half, what is around them, is in
//! [`super`]. Durations are nanoseconds, sizes bytes.

use super::*;
use crate::config::glob::Pattern;
use codecs::compression::Compression;
use codecs::otlp::{Format, Signal};
use std::time::Duration;

/// A receiver.
#[derive(Clone, Debug)]
pub struct ReceiverSettings {
    /// Its id.
    pub id: ComponentId,
    /// OTLP is the only kind that listens; `nop` is one without protocols, and a receiver of files reads instead.
    pub otlp: OtlpReceiverSettings,
    /// What its pipelines ask of a request's sender.
    pub wanted: Wanted,
}

/// `otlp` receiver with at least one protocol, `otlp_json_file` with files, or `nop` without any.
#[derive(Clone, Debug)]
pub struct OtlpReceiverSettings {
    /// `protocols.grpc`.
    pub grpc: Option<GrpcServerSettings>,
    /// `protocols.http`.
    pub http: Option<HttpServerSettings>,
    /// What a receiver of files reads; it has no protocol then.
    pub files: Option<Box<FileReceiverSettings>>,
}

/// `otlp_json_file`.
#[derive(Clone, Debug)]
pub struct FileReceiverSettings {
    /// Which files; at least one pattern.
    pub include: Vec<Pattern>,
    /// And which of them not.
    pub exclude: Vec<Pattern>,
    /// `start_at: end`: what files hold at the start is left out.
    pub starts_at_end: bool,
    /// `replay_file`: files are read again from their beginning at each look.
    pub replays: bool,
    /// How requests are written.
    pub format: Format,
    /// How each is compressed; with a compression, and in protobuf, a length stands in front of it.
    pub compression: Compression,
    /// `max_log_size`: larger requests are left out, also once decompressed.
    pub record_bytes_max: usize,
    /// The pause between two looks; at least a millisecond.
    pub poll_interval_ns: u64,
    /// `exclude_older_than`: files that were not changed for longer are not begun.
    pub age_ns_max: Option<u64>,
}

/// `protocols.grpc`.
#[derive(Clone, Debug)]
pub struct GrpcServerSettings {
    /// Addresses the endpoint resolves to; all are listened on.
    pub endpoint: Endpoint,
    /// Largest message after decompression, default 4 MiB.
    pub message_bytes_max: usize,
    /// `max_concurrent_streams`; `None`: our own bound.
    pub streams_max: Option<u32>,
    /// `auth` and `include_metadata`.
    pub head: HeadSettings,
    /// `transport`: what the endpoint means.
    pub family: SocketFamily,
    /// `keepalive`.
    pub keepalive: KeepaliveSettings,
    /// `tls`; `None`: plain text.
    pub tls: Option<TlsServerSettings>,
}

/// What a server's endpoint means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SocketFamily {
    /// Host and port.
    #[default]
    Tcp,
    /// Host and port; only addresses of IPv4.
    Tcp4,
    /// Host and port; only addresses of IPv6.
    Tcp6,
    /// A Unix domain socket; the host is its path (`@` in front: an abstract name), the port 0.
    Unix,
}

/// `keepalive` of a server: when a connection is asked whether it lives, and when it has to go. `None`: never.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeepaliveSettings {
    /// A connection without a call for this long has to go.
    pub connection_idle_ns_max: Option<u64>,
    /// A connection this old has to go; 10 % more or less, so that connections do not go together.
    pub connection_age_ns_max: Option<u64>,
    /// How long a connection that has to go may take to finish its calls.
    pub connection_age_grace_ns: Option<u64>,
    /// A peer that was silent for this long is asked for a sign of life (gRPC only). At least 1 s.
    pub ping_after_ns: u64,
    /// How long it may take to give one.
    pub ping_timeout_ns: u64,
    /// How often a peer may ask us (gRPC only); `None`: as often as it likes within the bound of control frames.
    pub ping_policy: Option<PingPolicy>,
}

impl Default for KeepaliveSettings {
    /// The defaults of the Collector's gRPC library.
    fn default() -> KeepaliveSettings {
        KeepaliveSettings {
            connection_idle_ns_max: None,
            connection_age_ns_max: None,
            connection_age_grace_ns: None,
            ping_after_ns: 7_200_000_000_000,
            ping_timeout_ns: 20_000_000_000,
            ping_policy: None,
        }
    }
}

/// `keepalive.enforcement_policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PingPolicy {
    /// `min_time`: pings that come sooner after one another are counted against the peer.
    pub interval_ns_min: u64,
    /// `permit_without_stream`: without it, 2 hours are the least while no call is open.
    pub without_calls: bool,
}

/// `protocols.http`.
#[derive(Clone, Debug)]
pub struct HttpServerSettings {
    /// Where to listen.
    pub endpoint: Endpoint,
    /// Largest body before and after decompression, default 20 MiB.
    pub body_bytes_max: usize,
    /// Path of each signal's requests, in the order of [`Signal::ALL`]; by default `/v1/traces` and its like.
    pub paths: [String; Signal::ALL.len()],
    /// `auth` and `include_metadata`.
    pub head: HeadSettings,
    /// `transport`: what the endpoint means.
    pub family: SocketFamily,
    /// `keepalive`: the Collector has none for HTTP; ours knows when a connection has to go.
    pub keepalive: KeepaliveSettings,
    /// How long each part of a request may take.
    pub timeouts: HttpTimeouts,
    /// `keep_alives_enabled`: a connection serves more than one request.
    pub keeps_alive: bool,
    /// `cors`; `None`: browsers of other origins get no permission.
    pub cors: Option<CorsSettings>,
    /// `response_headers`, valid by the rules of HTTP, names in lower case.
    pub response_headers: Vec<(String, String)>,
    /// `tls`; `None`: plain text.
    pub tls: Option<TlsServerSettings>,
}

/// Timeouts of an HTTP server in nanoseconds. `None`: only what bounds a hostile peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpTimeouts {
    /// `read_header_timeout`: for the head of a request.
    pub read_header_ns: Option<u64>,
    /// `read_timeout`: for the body of a request, and for its head if that has no timeout of its own.
    pub read_ns: Option<u64>,
    /// `write_timeout`: from the last byte of a request to the end of its answer.
    pub write_ns: Option<u64>,
    /// `idle_timeout`: between two requests; `read_timeout` if that is 0.
    pub idle_ns: Option<u64>,
}

/// `cors` of an HTTP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsSettings {
    /// At least one; `*` stands for anything, once in each.
    pub allowed_origins: Vec<String>,
    /// Headers that a browser may send; `*` for any. Empty: the few of the Collector.
    pub allowed_headers: Vec<String>,
    /// Headers of answers that a script may read.
    pub exposed_headers: Vec<String>,
    /// For how many seconds a browser may remember the answer; `None`: it is not told.
    pub seconds_max: Option<u64>,
}

/// `host:port` as written; `localhost` and names are resolved at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or address, without brackets.
    pub host: String,
    /// 0 asks the kernel for a free one.
    pub port: u16,
}

/// A processor in the pipelines of one signal: one that several signals use is listed for each.
#[derive(Clone, Debug)]
pub struct ProcessorSettings {
    /// Its id.
    pub id: ComponentId,
    /// What it is given.
    pub signal: Signal,
    /// What it does.
    pub kind: ProcessorKind,
    /// `storage` of `tail_sampling`: the extension whose disk keeps undecided traces; `None`: memory only.
    pub storage: Option<ComponentId>,
}

/// What a processor does.
#[derive(Clone, Debug)]
pub enum ProcessorKind {
    /// Refuses at the edge above the soft limit.
    MemoryLimiter {
        /// Hard limit.
        limit_bytes: u64,
        /// Soft limit = limit - spike.
        spike_bytes: u64,
    },
    /// Collects items into larger batches.
    Batch {
        /// 0: no timer, every batch leaves at once.
        timeout_ns: u64,
        /// Items that trigger sending; 0: every batch leaves at once.
        send_batch_size: u32,
        /// Most items of one batch; 0: no bound.
        send_batch_max_size: u32,
        /// Client metadata that batches never mix; in small letters, without repeats.
        metadata_keys: Vec<String>,
        /// Most combinations of their values at the same time, on each shard.
        metadata_combinations_max: usize,
    },
    /// Edits resource attributes.
    Resource(ActionSettings),
    /// Edits attributes of spans, data points and log records.
    Attributes {
        /// Of which of them.
        selection: Box<ottl::Selection>,
        /// How.
        actions: ActionSettings,
    },
    /// Drops spans and their events, metrics and their points, and log records.
    Filter(FilterSettings),
    /// Removes and masks attributes.
    Redaction(ottl::Redaction),
    /// Passes everything on: traces are put together where they are sampled.
    GroupByTrace,
    /// Samples span by span, or record by record.
    ProbabilisticSampler(SamplerSettings),
    /// Samples by whole trace.
    TailSampling(sampling::settings::Settings),
    /// Edits resources, scopes, items and their parts by statements.
    Transform(TransformSettings),
}

impl ProcessorKind {
    /// The settings as a pipeline of `signal` needs them: without what is written for other signals.
    pub(crate) fn for_signal(&self, signal: Signal) -> ProcessorKind {
        match self.clone() {
            ProcessorKind::Transform(mut settings) => {
                settings.groups.retain(|group| group.signal == signal);
                ProcessorKind::Transform(settings)
            }
            ProcessorKind::Filter(mut settings) => {
                settings.groups.retain(|group| group.signal == signal);
                settings.keeps.retain(|(of, _)| *of == signal);
                ProcessorKind::Filter(settings)
            }
            other => other,
        }
    }
}

/// `probabilistic_sampler`.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplerSettings {
    /// What is drawn, and how.
    pub head: sampling::head::HeadSettings,
    /// Where log records have what decides about them.
    pub records: RecordSettings,
}

/// What only matters to log records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordSettings {
    /// `attribute_source: traceID`: the trace id is hashed where there is one.
    pub uses_trace_id: bool,
    /// `from_attribute`: the attribute that is hashed else.
    pub from_attribute: Option<Vec<u8>>,
    /// `sampling_priority`: the attribute that holds a percentage.
    pub priority: Option<Vec<u8>>,
}

/// `transform`. Every text in it was checked: it can be read again without an error.
#[derive(Clone, Debug)]
pub struct TransformSettings {
    /// In the order in which they run.
    pub groups: Vec<StatementGroup>,
    /// `on_mask_error: keep`: a value that could not be masked stays as it is.
    pub keeps_unmasked: bool,
}

/// Statements that run together on each item of their context.
#[derive(Clone, Debug)]
pub struct StatementGroup {
    /// In pipelines of which signal.
    pub signal: Signal,
    /// What they run on.
    pub context: ottl::Context,
    /// How their paths are written.
    pub paths: ottl::Paths,
    /// What a failure does.
    pub error_mode: ErrorMode,
    /// The statements run where one of these is true; empty: everywhere.
    pub conditions: Vec<String>,
    /// At least one.
    pub statements: Vec<StatementText>,
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementText {
    /// As written.
    pub text: String,
    /// Label of its metrics: its place below the processor, `trace_statements[0].statements[2]`.
    pub name: String,
}

/// `error_mode`: what happens when a statement or condition fails on an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorMode {
    /// It is logged, and the next one goes on.
    Ignore,
    /// The next one goes on.
    Silent,
    /// The whole batch fails.
    Propagate,
}

/// Actions on attributes.
#[derive(Clone, Debug, PartialEq)]
pub struct ActionSettings {
    /// In the order in which they run.
    pub actions: Vec<ottl::Action>,
    /// What [`ottl::Source::Context`] counts: values that come from the request's sender.
    pub from_context: Vec<ContextSource>,
}

/// `filter`. Every text in it was checked: it can be read again without an error.
#[derive(Clone, Debug)]
pub struct FilterSettings {
    /// In the order in which they are asked; what one is true of is dropped.
    pub groups: Vec<ConditionGroup>,
    /// By signal: items that it does not select are dropped.
    pub keeps: Vec<(Signal, ottl::Selection)>,
}

impl FilterSettings {
    /// What selects the items of `signal` that stay; `None`: all do.
    pub fn keeps_of(&self, signal: Signal) -> Option<&ottl::Selection> {
        self.keeps.iter().find(|(of, _)| *of == signal).map(|(_, selection)| selection)
    }
}

/// Conditions that are asked together of each item of their context; one of them must be true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionGroup {
    /// In pipelines of which signal.
    pub signal: Signal,
    /// What they are asked of.
    pub context: ottl::Context,
    /// How their paths are written.
    pub paths: ottl::Paths,
    /// What a failure does.
    pub error_mode: ErrorMode,
    /// At least one.
    pub conditions: Vec<String>,
}

/// `from_context`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContextSource {
    /// `metadata.KEY` or `KEY`: a header, in small letters; several values with `;` between them.
    Metadata(String),
    /// `auth.NAME`: what the receiver's authenticator knows.
    Auth(String),
    /// `client.address`.
    Address,
}

/// An exporter of one signal: one that several signals use is listed for each, and has a queue and connections for each.
#[derive(Clone, Debug)]
pub struct ExporterSettings {
    /// Its id.
    pub id: ComponentId,
    /// What it sends.
    pub signal: Signal,
    /// Where it sends.
    pub kind: ExporterKind,
}

impl ExporterSettings {
    /// `sending_queue`, for those that have one.
    pub fn queue(&self) -> Option<&QueueSettings> {
        self.kind.client().map(|client| &client.queue)
    }
}

/// Where an exporter sends.
#[derive(Clone, Debug)]
pub enum ExporterKind {
    /// OTLP over gRPC.
    OtlpGrpc(OtlpExporterSettings),
    /// OTLP over HTTP.
    OtlpHttp(OtlpExporterSettings),
    /// Prometheus remote write; metrics only.
    RemoteWrite(Box<RemoteWriteSettings>),
    /// Lines on standard error.
    Debug {
        /// How much of each batch.
        verbosity: Verbosity,
    },
    /// Requests in a file.
    File(FileSettings),
    /// Ours: the last kept traces, in memory, for `tracegate traces`.
    Memory {
        /// Oldest traces leave beyond it.
        traces_max: usize,
    },
    /// Ours: the documented discard mode, the harness's floor.
    Nop,
}

impl ExporterKind {
    /// How it reaches its backend; `None` if it has none.
    pub fn client(&self) -> Option<&OtlpExporterSettings> {
        match self {
            ExporterKind::OtlpGrpc(otlp) | ExporterKind::OtlpHttp(otlp) => Some(otlp),
            ExporterKind::RemoteWrite(settings) => Some(&settings.http),
            ExporterKind::Debug { .. } | ExporterKind::File(_) | ExporterKind::Memory { .. } | ExporterKind::Nop => {
                None
            }
        }
    }
}

/// `prometheusremotewrite` exporter.
#[derive(Clone, Debug)]
pub struct RemoteWriteSettings {
    /// Where requests go and how; the path is the endpoint's, the compression snappy.
    pub http: OtlpExporterSettings,
    /// How metrics become series.
    pub translation: codecs::prometheus::Settings,
    /// How many requests of one batch are under way at the same time, at least 1.
    pub parallel_requests: usize,
}

/// `file` exporter.
#[derive(Clone, Debug)]
pub struct FileSettings {
    /// The file.
    pub path: PathBuf,
    /// Whether what it holds stays.
    pub append: bool,
    /// When a new one is begun; `None`: never.
    pub rotation: Option<Rotation>,
    /// What a request is written as.
    pub format: FileFormat,
    /// Of each request by itself; plain or zstd.
    pub compression: codecs::compression::Compression,
    /// Whether missing directories are made, and with which permissions.
    pub create_directory: Option<u32>,
}

/// What a request in a file is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// OTLP/JSON.
    Json,
    /// Protobuf.
    Proto,
}

/// When a file is full, and what becomes of it then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Bytes of a file, at least one request.
    pub bytes_max: u64,
    /// Days after which a full file is removed; `None`: never.
    pub days_max: Option<u32>,
    /// Full files that are kept; `None`: all.
    pub backups_max: Option<usize>,
}

/// `debug.verbosity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// One line a batch.
    Basic,
    /// One line a span.
    Normal,
    /// Every field.
    Detailed,
}

/// `otlp` and `otlphttp` exporters.
#[derive(Clone, Debug)]
pub struct OtlpExporterSettings {
    /// Host and port. For HTTP the port defaults by scheme.
    pub endpoint: Endpoint,
    /// HTTP only: path of requests (`/v1/traces` or its like appended to the base, or `traces_endpoint` literally).
    pub path: String,
    /// `None`: plain text.
    pub tls: Option<TlsClientSettings>,
    /// HTTP only: `encoding`. gRPC is always protobuf.
    pub format: codecs::otlp::Format,
    /// How requests are compressed.
    pub compression: codecs::compression::Compression,
    /// `compression_params.level`; `None`: the codec's default.
    pub compression_level: Option<i32>,
    /// Sent with each request.
    pub headers: Vec<(String, String)>,
    /// `auth.authenticator`: what is shown to the backend.
    pub authenticator: Option<ComponentId>,
    /// The way out, if it leads through a proxy.
    pub proxy: Option<ProxySettings>,
    /// What to make of a name with several addresses.
    pub names: NameSettings,
    /// Per attempt; 0: none.
    pub timeout_ns: u64,
    /// `retry_on_failure`; `None` if disabled.
    pub retry: Option<RetrySettings>,
    /// `sending_queue`.
    pub queue: QueueSettings,
}

/// A backend's name and its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameSettings {
    /// gRPC only: `balancer_name`.
    pub balancer: Balancer,
    /// `resolve_interval`: the name is looked up again after so long; 0: only when a connection fails or ends.
    pub interval_ns: u64,
}

impl NameSettings {
    /// How long addresses are believed; `None`: until a connection fails or ends.
    pub fn interval(&self) -> Option<Duration> {
        (self.interval_ns > 0).then_some(Duration::from_nanos(self.interval_ns))
    }
}

impl Default for NameSettings {
    fn default() -> NameSettings {
        NameSettings { balancer: Balancer::RoundRobin, interval_ns: 30_000_000_000 }
    }
}

/// Which of a name's addresses get requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balancer {
    /// All that work, in turn.
    RoundRobin,
    /// One, until it fails.
    PickFirst,
}

/// TLS towards a backend. By default the system's roots are trusted, and nobody is shown a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsClientSettings {
    /// PEM text of trusted roots; `None`: the system's.
    pub ca: Option<PemSource>,
    /// System roots beside `ca`.
    pub include_system_roots: bool,
    /// Client certificate.
    pub cert: Option<PemSource>,
    /// Its key.
    pub key: Option<PemSource>,
    /// Accept any certificate.
    pub insecure_skip_verify: bool,
    /// Name to verify and to send in SNI instead of the host.
    pub server_name: Option<String>,
    /// What both sides have.
    pub policy: TlsPolicy,
}

/// TLS towards senders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsServerSettings {
    /// What senders are shown.
    pub cert: PemSource,
    /// Its key.
    pub key: PemSource,
    /// `client_ca_file`: a sender must show a certificate that one of these authorities signed.
    pub client_ca: Option<PemSource>,
    /// What both sides have.
    pub policy: TlsPolicy,
}

/// What the `tls` of clients and of servers have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsPolicy {
    /// `min_version`.
    pub min_version: TlsVersion,
    /// `max_version`; not below the least.
    pub max_version: TlsVersion,
    /// `cipher_suites` of TLS 1.2; empty: every strong one. Those of 1.3 are always offered.
    pub cipher_suites: Vec<rustls::CipherSuite>,
    /// `curve_preferences`, the best first; empty: ours.
    pub curves: Vec<rustls::NamedGroup>,
    /// `reload_interval`: how often files are looked at; 0: every second.
    pub reload_interval_ns: u64,
}

impl Default for TlsPolicy {
    fn default() -> TlsPolicy {
        TlsPolicy {
            min_version: TlsVersion::Tls12,
            max_version: TlsVersion::Tls13,
            cipher_suites: Vec::new(),
            curves: Vec::new(),
            reload_interval_ns: 0,
        }
    }
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// 1.2.
    Tls12,
    /// 1.3.
    Tls13,
}

/// A PEM text or the file that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PemSource {
    /// `*_file`.
    File(PathBuf),
    /// `*_pem`.
    Inline(String),
}

/// `retry_on_failure`.
#[derive(Clone, Debug, PartialEq)]
pub struct RetrySettings {
    /// First delay.
    pub initial_interval_ns: u64,
    /// Share of the delay that is random, 0 to 1.
    pub randomization_factor: f64,
    /// Growth of the delay, at least 1.
    pub multiplier: f64,
    /// Longest delay.
    pub max_interval_ns: u64,
    /// When to give up; 0: never.
    pub max_elapsed_ns: u64,
}

/// `sending_queue`.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueSettings {
    /// Without it the pipeline waits for the export.
    pub enabled: bool,
    /// Requests exported at the same time, over all shards.
    pub num_consumers: usize,
    /// What may wait or be under way, over all shards, as `sizer` counts.
    pub queue_size: usize,
    /// What `queue_size` counts; requests where the queue is not enabled.
    pub sizer: Sizer,
    /// The export's outcome is the sender's answer, though the queue holds and retries.
    pub wait_for_result: bool,
    /// `storage`: the extension whose disk keeps what waits; `None`: memory only. Only where the queue is enabled.
    pub storage: Option<ComponentId>,
    /// What becomes of more than it holds.
    pub on_full: OnFull,
    /// `batch`; `None`: requests leave as they came.
    pub batch: Option<QueueBatchSettings>,
}

/// `sending_queue.on_full`, ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFull {
    /// What is in front stops, and at last the edge refuses.
    Refuse,
    /// What has waited longest is shed.
    DropOldest,
}

/// `sending_queue.batch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueBatchSettings {
    /// Longest wait for company; above 0.
    pub flush_timeout_ns: u64,
    /// What is this large, as `sizer` counts, waits no longer.
    pub min_size: usize,
    /// Nothing larger is sent, as far as one item fits; at least `min_size`. `None`: no bound.
    pub max_size: Option<usize>,
    /// What the sizes count.
    pub sizer: Sizer,
}

impl Default for QueueSettings {
    /// The Collector's.
    fn default() -> QueueSettings {
        QueueSettings {
            enabled: true,
            num_consumers: 10,
            queue_size: 1000,
            sizer: Sizer::Requests,
            wait_for_result: false,
            storage: None,
            on_full: OnFull::Refuse,
            batch: None,
        }
    }
}

/// What the size of a queue counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizer {
    /// Requests.
    Requests,
    /// Spans, data points or log records.
    Items,
    /// Bytes of items and their envelopes, before compression.
    Bytes,
}

/// `extensions.file_storage`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageSettings {
    /// Its id below `extensions`.
    pub id: ComponentId,
    /// Where the logs of its queues lie, each in a directory of its own.
    pub directory: PathBuf,
    /// Make the directory, and those above it, if it is missing.
    pub create_directory: bool,
    /// Permissions of a directory that is made.
    pub directory_mode: u32,
    /// `timeout`: how long another process may still hold a log.
    pub lock_timeout_ns: u64,
    /// `max_size`: bytes of one queue's log.
    pub log_bytes_max: u64,
}
