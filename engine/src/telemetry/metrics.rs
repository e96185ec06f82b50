//! Every metric, declared once, and the groups of series that one component counts into.
//!
//! Names: `otelcol_*` are the Collector's own (or sit in one of its families), so its dashboards and alerts work;
//! `tracegate_*` are ours; `process_*` are Prometheus' conventional ones. A component declares its group once from its
//! id, before any shard starts, and shards count into their own cells with it. `docs/metrics.md` describes each
//! metric; a test compares. No series ever carries `job`, `instance` or `pod`: those belong to the scraper.

use super::cells::{Bounds, Cells, Counter, Gauge, Histogram, Kind, Metric, Schema};
use crate::config::checked::MetricsLevel::{self, Basic, Detailed, Normal};
use crate::shard::budget::Holder;
use crate::transport::gate::FaultKind;
use codecs::otlp::Signal;

const fn declare(name: &'static str, kind: Kind, level: MetricsLevel, help: &'static str) -> Metric {
    Metric { name, help, kind, level }
}

/// Declares metrics as statics and lists them in [`ALL`], so that none can be forgotten in the documentation's test.
macro_rules! metrics {
    (
        for each signal { $($by_signal:ident: $item_kind:expr, $item_level:expr, $prefix:literal, $about:literal;)+ }
        for the gateway { $($static:ident: $kind:expr, $level:expr, $name:literal, $help:literal;)+ }
    ) => {
        $(
            #[doc = concat!("For each signal: items ", $about)]
            pub static $by_signal: [Metric; Signal::ALL.len()] = [
                declare(concat!($prefix, "_spans"), $item_kind, $item_level, concat!("Spans ", $about)),
                declare(concat!($prefix, "_metric_points"), $item_kind, $item_level, concat!("Data points ", $about)),
                declare(concat!($prefix, "_log_records"), $item_kind, $item_level, concat!("Log records ", $about)),
            ];
        )+
        $(
            #[doc = $help]
            pub static $static: Metric = declare($name, $kind, $level, $help);
        )+
        /// Every metric there is.
        pub static ALL: &[&Metric] = &[
            $(&$by_signal[0], &$by_signal[1], &$by_signal[2],)+
            $(&$static),+
        ];
    };
}

/// Spans of a batch when it is sent (the Collector's bounds).
static BATCH_SPANS: Bounds = Bounds {
    upper: &[
        10, 25, 50, 75, 100, 250, 500, 750, 1_000, 2_000, 3_000, 4_000, 5_000, 6_000, 7_000, 8_000, 9_000, 10_000,
        20_000, 30_000, 50_000, 100_000,
    ],
    per_unit: 1,
};

/// Bytes of a batch or of a request in a queue (the Collector's bounds: powers of two).
static REQUEST_BYTES: Bounds = Bounds {
    upper: &[
        1 << 7,
        1 << 8,
        1 << 9,
        1 << 10,
        1 << 11,
        1 << 12,
        1 << 13,
        1 << 14,
        1 << 15,
        1 << 16,
        1 << 17,
        1 << 18,
        1 << 19,
        1 << 20,
        1 << 21,
        1 << 22,
        1 << 23,
        1 << 24,
    ],
    per_unit: 1,
};

const MICROSECOND_NS: u64 = 1_000;
const MILLISECOND_NS: u64 = 1_000_000;
const SECOND_NS: u64 = 1_000_000_000;

/// Time of one batch in one processor, observed in ns, shown in s. The Collector's bounds begin at 5 s and say nothing.
static NODE_TIME: Bounds = Bounds {
    upper: &[
        MICROSECOND_NS,
        10 * MICROSECOND_NS,
        100 * MICROSECOND_NS,
        MILLISECOND_NS,
        10 * MILLISECOND_NS,
        100 * MILLISECOND_NS,
        SECOND_NS,
    ],
    per_unit: SECOND_NS,
};

/// Duration of one decision tick, observed in ns, shown in ms (the Collector's bounds).
static DECISION_TICK: Bounds = Bounds {
    upper: &[
        MILLISECOND_NS,
        2 * MILLISECOND_NS,
        5 * MILLISECOND_NS,
        10 * MILLISECOND_NS,
        25 * MILLISECOND_NS,
        50 * MILLISECOND_NS,
        75 * MILLISECOND_NS,
        100 * MILLISECOND_NS,
        150 * MILLISECOND_NS,
        200 * MILLISECOND_NS,
        300 * MILLISECOND_NS,
        400 * MILLISECOND_NS,
        500 * MILLISECOND_NS,
        750 * MILLISECOND_NS,
        SECOND_NS,
        2 * SECOND_NS,
        3 * SECOND_NS,
        4 * SECOND_NS,
        5 * SECOND_NS,
        10 * SECOND_NS,
        20 * SECOND_NS,
        30 * SECOND_NS,
        50 * SECOND_NS,
    ],
    per_unit: MILLISECOND_NS,
};

metrics! {
    for each signal {
        RECEIVER_OFFERED: Kind::Counter, Basic, "otelcol_receiver_offered",
            "of requests whose items could be counted, before accept, refuse or reject.";
        RECEIVER_ACCEPTED: Kind::Counter, Basic, "otelcol_receiver_accepted",
            "taken into a pipeline.";
        RECEIVER_REFUSED: Kind::Counter, Basic, "otelcol_receiver_refused",
            "answered with a temporary error; the sender may retry.";
        RECEIVER_REJECTED: Kind::Counter, Basic, "otelcol_receiver_rejected",
            "that could be counted and were answered with a permanent error.";
        RECEIVER_FAILED: Kind::Counter, Basic, "otelcol_receiver_failed",
            "that stand for requests that could not be read, one for each: what they held is not known.";
        RECEIVER_UNANSWERED: Kind::Gauge, Basic, "otelcol_receiver_unanswered",
            "that were offered and whose request has no answer yet.";
        PROCESSOR_DROPPED: Kind::Counter, Basic, "otelcol_processor_dropped",
            "lost inside a processor by overload or failure; never those that a policy dropped.";
        PROCESSOR_FAILED: Kind::Counter, Basic, "tracegate_processor_failed",
            "lost inside a processor by failure, by reason.";
        MEMORY_LIMITER_ACCEPTED: Kind::Counter, Basic, "otelcol_processor_memory_limiter_accepted",
            "admitted while memory was below the soft limit.";
        MEMORY_LIMITER_REFUSED: Kind::Counter, Basic, "otelcol_processor_memory_limiter_refused",
            "that stand for requests refused at the soft limit, one for each: what they held is not known yet.";
        EXPORTER_SENT: Kind::Counter, Basic, "otelcol_exporter_sent",
            "the backend took.";
        EXPORTER_SEND_FAILED: Kind::Counter, Basic, "otelcol_exporter_send_failed",
            "given up after a permanent error or the last retry.";
        EXPORTER_ENQUEUE_FAILED: Kind::Counter, Basic, "otelcol_exporter_enqueue_failed",
            "that a full queue did not take.";
        PIPELINE_ACCEPTED: Kind::Counter, Basic, "tracegate_pipeline_accepted",
            "that entered the pipeline on their way to this exporter.";
        PIPELINE_CREATED: Kind::Counter, Basic, "tracegate_pipeline_created",
            "that a processor made.";
        PIPELINE_DELIVERED: Kind::Counter, Basic, "tracegate_pipeline_delivered",
            "the exporter delivered.";
        PIPELINE_DROPPED: Kind::Counter, Basic, "tracegate_pipeline_dropped",
            "dropped by policy.";
        PIPELINE_SHED: Kind::Counter, Basic, "tracegate_pipeline_shed",
            "given up by overload.";
        PIPELINE_FAILED: Kind::Counter, Basic, "tracegate_pipeline_failed",
            "that could not be delivered.";
        PIPELINE_IN_FLIGHT: Kind::Gauge, Basic, "tracegate_pipeline_in_flight",
            "held by nodes, rings, the queue or an export.";
        PIPELINE_KEPT: Kind::Gauge, Basic, "tracegate_pipeline_kept_on_disk",
            "of those held that the durable queue keeps for the next start.";
    }
    for the gateway {
        RECEIVER_REFUSED_REQUESTS: Kind::Counter, Basic, "otelcol_receiver_refused_requests",
            "Requests refused before their items could be counted.";
        RECEIVER_REJECTED_REQUESTS: Kind::Counter, Basic, "otelcol_receiver_rejected_requests",
            "Requests rejected before their items could be counted.";

        PROCESSOR_INCOMING_ITEMS: Kind::Counter, Basic, "otelcol_processor_incoming_items",
            "Items that entered a processor.";
        PROCESSOR_OUTGOING_ITEMS: Kind::Counter, Basic, "otelcol_processor_outgoing_items",
            "Items that left a processor towards the next node.";
        PROCESSOR_INTERNAL_DURATION: Kind::Histogram(&NODE_TIME), Detailed, "otelcol_processor_internal_duration",
            "Seconds a processor worked on one batch.";
        RECEIVER_TLS_HANDSHAKES: Kind::Counter, Normal, "tracegate_receiver_tls_handshakes",
            "TLS sessions that senders opened.";
        RECEIVER_FAILED_HANDSHAKES: Kind::Counter, Normal, "tracegate_receiver_failed_handshakes",
            "Connections refused before their first request, for a reason of TLS.";
        TRANSFORM_STATEMENT_FAILURES: Kind::Counter, Normal, "tracegate_transform_statement_failures",
            "Items on which a statement failed and changed nothing.";
        TRANSFORM_UNMASKED_DELETED: Kind::Counter, Normal, "tracegate_transform_unmasked_deleted",
            "Values that a statement deleted because it could not mask them.";
        FILTER_SPANS_FILTERED: Kind::Counter, Normal, "otelcol_processor_filter_spans_filtered",
            "Spans that a filter dropped.";
        FILTER_POINTS_FILTERED: Kind::Counter, Normal, "otelcol_processor_filter_datapoints_filtered",
            "Data points that a filter dropped.";
        FILTER_LOGS_FILTERED: Kind::Counter, Normal, "otelcol_processor_filter_logs_filtered",
            "Log records that a filter dropped.";
        FILTER_CONDITION_FAILURES: Kind::Counter, Normal, "tracegate_filter_condition_failures",
            "Items on which a condition failed and counted as not true.";


        BATCH_SEND_SIZE: Kind::Histogram(&BATCH_SPANS), Normal, "otelcol_processor_batch_batch_send_size",
            "Items of a batch when it is sent.";
        BATCH_SEND_SIZE_BYTES: Kind::Histogram(&REQUEST_BYTES), Detailed, "otelcol_processor_batch_batch_send_size_bytes",
            "Bytes of a batch when it is sent.";
        BATCH_SIZE_TRIGGER_SEND: Kind::Counter, Normal, "otelcol_processor_batch_batch_size_trigger_send",
            "Batches sent because they were large enough.";
        BATCH_METADATA_CARDINALITY: Kind::Highest, Normal, "otelcol_processor_batch_metadata_cardinality",
            "Combinations of client metadata that are kept apart, on the shard with the most.";
        BATCH_TIMEOUT_TRIGGER_SEND: Kind::Counter, Normal, "otelcol_processor_batch_timeout_trigger_send",
            "Batches sent because their time was over.";

        TAIL_COUNT_TRACES_SAMPLED: Kind::Counter, Normal, "otelcol_processor_tail_sampling_count_traces_sampled",
            "Verdicts of one policy, one per decided trace.";
        TAIL_GLOBAL_COUNT_TRACES_SAMPLED: Kind::Counter, Normal,
            "otelcol_processor_tail_sampling_global_count_traces_sampled",
            "Decisions about traces; late spans are not counted again.";
        TAIL_EARLY_RELEASES: Kind::Counter, Normal, "otelcol_processor_tail_sampling_early_releases_from_cache_decision",
            "Late spans kept or dropped at once because the decision about their trace was remembered.";
        TAIL_NEW_TRACE_ID_RECEIVED: Kind::Counter, Normal, "otelcol_processor_tail_sampling_new_trace_id_received",
            "Traces that entered the trace table.";
        TAIL_DECISION_TIMER_LATENCY: Kind::Histogram(&DECISION_TICK), Normal,
            "otelcol_processor_tail_sampling_sampling_decision_timer_latency",
            "Milliseconds one tick spent deciding.";
        TAIL_POLICY_EVALUATION_ERROR: Kind::Counter, Normal,
            "otelcol_processor_tail_sampling_sampling_policy_evaluation_error",
            "Policies that failed on a trace and had no say in its decision.";
        TAIL_POLICY_EXECUTION_COUNT: Kind::Counter, Normal,
            "otelcol_processor_tail_sampling_sampling_policy_execution_count",
            "Traces that a policy had a say in, whatever it said.";
        TAIL_DROPPED_TOO_EARLY: Kind::Counter, Normal,
            "otelcol_processor_tail_sampling_sampling_trace_dropped_too_early",
            "Traces that left the trace table undecided; their spans are lost.";
        TAIL_TRACES_ON_MEMORY: Kind::Gauge, Normal, "otelcol_processor_tail_sampling_sampling_traces_on_memory",
            "Traces in the trace table.";
        TAIL_TRACES_DROPPED_TOO_LARGE: Kind::Counter, Normal, "otelcol_processor_tail_sampling_traces_dropped_too_large",
            "Traces decided without their policies because they grew beyond the largest size.";
        TAIL_DECIDED_EARLY: Kind::Counter, Normal, "tracegate_tail_sampling_traces_decided_early",
            "Traces decided before their decision wait was over because the trace table was full.";
        TAIL_SPANS_WITHOUT_TRACE_ID: Kind::Counter, Normal, "tracegate_tail_sampling_spans_without_trace_id",
            "Spans with a zero trace id, decided one by one.";

        EXPORTER_ENQUEUE_SIZE: Kind::Histogram(&BATCH_SPANS), Detailed, "otelcol_exporter_enqueue_size",
            "Items of a request when it enters the queue.";
        EXPORTER_ENQUEUE_SIZE_BYTES: Kind::Histogram(&REQUEST_BYTES), Detailed, "otelcol_exporter_enqueue_size_bytes",
            "Bytes of a request when it enters the queue, before compression.";
        EXPORTER_QUEUE_SIZE: Kind::Gauge, Basic, "otelcol_exporter_queue_size",
            "What waits in the queue or is under way, in units of its sizer: requests, items or bytes.";
        EXPORTER_QUEUE_CAPACITY: Kind::Gauge, Basic, "otelcol_exporter_queue_capacity",
            "What may wait in the queue or be under way, in units of its sizer.";
        EXPORTER_QUEUE_FULLEST: Kind::Highest, Normal, "tracegate_exporter_queue_fullest_shard_percent",
            "Fill of the fullest shard's part of the queue, 0 to 100.";
        EXPORTER_IN_FLIGHT_REQUESTS: Kind::Gauge, Normal, "otelcol_exporter_in_flight_requests",
            "Requests sent and not yet answered.";
        PROBABILISTIC_COUNT_TRACES_SAMPLED: Kind::Counter, Normal,
            "otelcol_processor_probabilistic_sampler_count_traces_sampled",
            "Spans that were decided, by what decided about them.";
        PROBABILISTIC_COUNT_LOGS_SAMPLED: Kind::Counter, Normal,
            "otelcol_processor_probabilistic_sampler_count_logs_sampled",
            "Log records that were decided, by what decided about them.";
        TAIL_DECIDED_BEFORE_TIME: Kind::Counter, Normal, "tracegate_tail_sampling_traces_decided_before_time",
            "Traces decided before their decision wait was over, by why they could be.";
        TAIL_STRESS_RELIEF: Kind::Gauge, Normal, "tracegate_tail_sampling_stress_relief_shards",
            "Shards that relieve memory by this step now.";
        TAIL_TRACES_SHED: Kind::Counter, Normal, "tracegate_tail_sampling_traces_shed",
            "Traces given up by chance, undecided, because memory was short.";
        TAIL_COMPRESSED_BYTES: Kind::Counter, Normal, "tracegate_tail_sampling_compressed_bytes",
            "Bytes of pending spans that were compressed because memory was short, before.";
        TAIL_COMPRESSED_TO_BYTES: Kind::Counter, Normal, "tracegate_tail_sampling_compressed_to_bytes",
            "Bytes that compressed pending spans took.";
        TAIL_LATE_SPANS: Kind::Counter, Normal, "tracegate_tail_sampling_late_spans",
            "Spans that came after their trace was decided when it was due, and were kept or dropped as it was.";
        EXPORTER_SPLIT_REQUESTS: Kind::Counter, Normal, "tracegate_exporter_split_requests",
            "Requests sent in two halves because the backend called them too large.";


        BUDGET_BYTES: Kind::Gauge, Basic, "tracegate_budget_bytes",
            "Bytes charged to the budget, by holder.";
        BUDGET_LEASED_BYTES: Kind::Gauge, Basic, "tracegate_budget_leased_bytes",
            "Bytes that shards leased from the central pool.";
        BUDGET_LIMIT_BYTES: Kind::Gauge, Basic, "tracegate_budget_limit_bytes",
            "The process budget in bytes.";

        MESH_SENT_SPANS: Kind::Counter, Normal, "tracegate_mesh_sent_spans",
            "Spans that crossed to the shard owning their trace.";
        MESH_SENT_BYTES: Kind::Counter, Normal, "tracegate_mesh_sent_bytes",
            "Bytes of spans and data points that crossed.";
        MESH_RECEIVED_SPANS: Kind::Counter, Normal, "tracegate_mesh_received_spans",
            "Spans taken out of rings.";
        MESH_SENT_POINTS: Kind::Counter, Normal, "tracegate_mesh_sent_points",
            "Data points that crossed to the shard owning their series.";
        MESH_RECEIVED_POINTS: Kind::Counter, Normal, "tracegate_mesh_received_points",
            "Data points of other shards taken out of rings.";
        MESH_WAITS: Kind::Counter, Normal, "tracegate_mesh_waits",
            "Turns of a shard at whose end parts waited for room in a ring.";
        MESH_BALANCED_REQUESTS: Kind::Counter, Normal, "tracegate_mesh_balanced_requests",
            "Whole requests handed to a less busy shard.";

        SHARD_CONNECTIONS: Kind::Gauge, Basic, "tracegate_shard_connections",
            "Open connections of senders.";
        SHARD_BUSIEST: Kind::Highest, Basic, "tracegate_shard_busiest_percent",
            "Busy share of the busiest shard's time, 0 to 100.";
        SHARD_CAUGHT_PANICS: Kind::Counter, Basic, "tracegate_shard_caught_panics",
            "Requests answered INTERNAL because a pure call on them panicked; each is a defect of ours.";

        QUEUE_DISK_BYTES: Kind::Gauge, Normal, "tracegate_queue_disk_bytes",
            "Bytes of a durable queue's files.";
        QUEUE_DISK_REQUESTS: Kind::Gauge, Normal, "tracegate_queue_disk_requests",
            "Requests on disk that are not delivered yet.";
        QUEUE_DISK_OLDEST: Kind::Highest, Normal, "tracegate_queue_disk_oldest_age_seconds",
            "Age of the oldest request on disk, also if an earlier process took it.";
        QUEUE_DISK_FOUND: Kind::Counter, Normal, "tracegate_queue_disk_found_requests",
            "Requests that an earlier process left on disk.";
        QUEUE_DISK_CUT: Kind::Counter, Normal, "tracegate_queue_disk_cut_tails",
            "Torn ends of files that were cut off at the start.";
        QUEUE_DISK_SKIPPED: Kind::Counter, Normal, "tracegate_queue_disk_skipped_records",
            "Damaged records on disk that were passed over.";
        QUEUE_DISK_NOT_WRITTEN: Kind::Counter, Normal, "tracegate_queue_disk_not_written_requests",
            "Requests that could not be written to disk: refused, or in memory only if nobody can send them again.";

        KEPT_TRACES: Kind::Gauge, Normal, "tracegate_kept_traces",
            "Traces held by the memory exporter.";
        KEPT_BYTES: Kind::Gauge, Normal, "tracegate_kept_bytes",
            "Bytes held by the memory exporter.";
        KEPT_TRACES_EVICTED: Kind::Counter, Normal, "tracegate_kept_traces_evicted",
            "Traces the memory exporter gave up for younger ones.";
        KEPT_SPANS_LEFT_OUT: Kind::Counter, Normal, "tracegate_kept_spans_left_out",
            "Spans the memory exporter did not keep because their trace was too large.";

        REMOTE_WRITE_FAILED: Kind::Counter, Normal, "otelcol_exporter_prometheusremotewrite_failed_translations",
            "Data points that could not become samples.";
        REMOTE_WRITE_SERIES: Kind::Counter, Normal, "otelcol_exporter_prometheusremotewrite_translated_time_series",
            "Series in requests, each request counting its own.";
        REMOTE_WRITE_BATCHES: Kind::Counter, Normal, "otelcol_exporter_prometheusremotewrite_sent_batches",
            "Remote write requests that were answered with success.";
        REMOTE_WRITE_SAMPLES: Kind::Counter, Normal, "otelcol_exporter_prometheusremotewrite_written_samples",
            "Samples in requests that were answered with success.";
        REMOTE_WRITE_HISTOGRAMS: Kind::Counter, Normal, "otelcol_exporter_prometheusremotewrite_written_histograms",
            "Native histograms in requests that were answered with success.";
        REMOTE_WRITE_EXEMPLARS: Kind::Counter, Normal, "otelcol_exporter_prometheusremotewrite_written_exemplars",
            "Exemplars in requests that were answered with success.";
        REMOTE_WRITE_DROPPED: Kind::Counter, Basic, "tracegate_remote_write_dropped_points",
            "Data points that could not become samples, by reason.";
        REMOTE_WRITE_REJECTED: Kind::Counter, Basic, "tracegate_remote_write_rejected_points",
            "Data points in requests that the backend will never take, by status.";
        REMOTE_WRITE_CACHE_BYTES: Kind::Gauge, Normal, "tracegate_remote_write_label_cache_bytes",
            "Bytes of label sets that are remembered.";
        REMOTE_WRITE_DELTA_BYTES: Kind::Gauge, Normal, "tracegate_remote_write_delta_bytes",
            "Bytes of what deltas were added up to.";
        REMOTE_WRITE_CACHE_CLEARS: Kind::Counter, Normal, "tracegate_remote_write_label_cache_clears",
            "How often the label cache was full and was emptied.";
        REMOTE_WRITE_BUILT: Kind::Counter, Normal, "tracegate_remote_write_label_sets_built",
            "Label sets that were not remembered and had to be built.";

        LOG_LINES_SUPPRESSED: Kind::Counter, Normal, "tracegate_log_lines_suppressed",
            "Log lines not written because equal ones were.";
        LOG_LINES_LOST: Kind::Counter, Normal, "tracegate_log_lines_lost",
            "Log lines lost because the writer was behind.";
        SPAN_METRICS_OVERFLOWED: Kind::Counter, Basic, "tracegate_span_metrics_overflowed_spans",
            "Spans counted in the series of all that came when there was no room for another series.";
        SPAN_METRICS_FULLEST: Kind::Highest, Basic, "tracegate_span_metrics_series_of_fullest_shard",
            "Series that the shard with the most of them holds.";
        TLS_RELOADS: Kind::Counter, Normal, "tracegate_tls_reloads",
            "Times that changed certificates, keys or authorities were taken into use.";
        TLS_FAILED_RELOADS: Kind::Counter, Normal, "tracegate_tls_failed_reloads",
            "Times that changed certificates, keys or authorities could not be used, and the old ones stayed.";
        CONFIG_RELOADS: Kind::Counter, Basic, "tracegate_config_reloads",
            "Times that a changed configuration was applied while the gateway ran.";
        CONFIG_FAILED_RELOADS: Kind::Counter, Basic, "tracegate_config_failed_reloads",
            "Times that a changed configuration had errors or could not be read, and the old one stayed.";
        CONFIG_REFUSED_RELOADS: Kind::Counter, Basic, "tracegate_config_refused_reloads",
            "Times that a changed configuration held what only a restart applies, and the old one stayed.";
        CONFIG_IS_CURRENT: Kind::Gauge, Basic, "tracegate_config_is_current",
            "1 if the configuration in force is the one that was read last, 0 if that one waits or was not taken.";
        CONFIG_GENERATION: Kind::Gauge, Basic, "tracegate_config_generation",
            "Number of the configuration in force: 1 at the start, one more with each that is applied.";
        CONFIG_APPLIED_TIME: Kind::Gauge, Basic, "tracegate_config_last_applied_timestamp_seconds",
            "When the configuration in force was applied, in seconds since 1970.";


        PROCESS_UPTIME: Kind::Counter, Basic, "otelcol_process_uptime",
            "Seconds since the process started.";
        PROCESS_CPU_SECONDS: Kind::Counter, Basic, "otelcol_process_cpu_seconds",
            "Seconds of CPU, user and system.";
        PROCESS_MEMORY_RSS: Kind::Gauge, Basic, "otelcol_process_memory_rss",
            "Bytes resident in memory.";
        PROCESS_RUNTIME_TOTAL_ALLOC: Kind::Counter, Basic, "otelcol_process_runtime_total_alloc_bytes",
            "Bytes of fresh pages the kernel gave to the process (minor page faults).";
        PROCESS_RUNTIME_HEAP_ALLOC: Kind::Gauge, Basic, "otelcol_process_runtime_heap_alloc_bytes",
            "Bytes of anonymous memory that are resident.";
        PROCESS_RUNTIME_TOTAL_SYS: Kind::Gauge, Basic, "otelcol_process_runtime_total_sys_memory_bytes",
            "Bytes of address space reserved for data.";
        PROMETHEUS_RESIDENT_MEMORY: Kind::Gauge, Basic, "process_resident_memory_bytes",
            "Bytes resident in memory.";
        PROMETHEUS_CPU_SECONDS: Kind::Counter, Basic, "process_cpu_seconds_total",
            "Seconds of CPU, user and system.";
        PROMETHEUS_START_TIME: Kind::Gauge, Basic, "process_start_time_seconds",
            "Start of the process in seconds since 1970.";
    }
}

/// Why a request was refused: not now, retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefuseReason {
    /// The budget is at its soft limit.
    Memory,
    /// A queue that the request waits for is full.
    Queue,
    /// The gateway is draining.
    Draining,
}

impl RefuseReason {
    /// All of them; the position is the index into [`ReceiverSeries`].
    pub const ALL: [RefuseReason; 3] = [RefuseReason::Memory, RefuseReason::Queue, RefuseReason::Draining];

    /// Value of the label `reason`.
    pub fn label(self) -> &'static str {
        match self {
            RefuseReason::Memory => "memory",
            RefuseReason::Queue => "queue",
            RefuseReason::Draining => "draining",
        }
    }
}

/// Why a request was rejected: malformed, never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectReason {
    /// Not the protobuf message it should be, or a broken gRPC frame.
    Malformed,
    /// Larger than the limit, before or after decompression.
    TooLarge,
    /// An encoding we do not speak, or a broken compressed body.
    Compression,
    /// An unknown path, method, service or content type.
    Route,
    /// The sender showed no credential, or a wrong one.
    Auth,
    /// A pure call on it panicked: a defect of ours.
    Internal,
}

impl RejectReason {
    /// All of them; the position is the index into [`ReceiverSeries`].
    pub const ALL: [RejectReason; 6] = [
        RejectReason::Malformed,
        RejectReason::TooLarge,
        RejectReason::Compression,
        RejectReason::Route,
        RejectReason::Auth,
        RejectReason::Internal,
    ];

    /// Value of the label `reason`.
    pub fn label(self) -> &'static str {
        match self {
            RejectReason::Malformed => "malformed",
            RejectReason::TooLarge => "too_large",
            RejectReason::Compression => "compression",
            RejectReason::Route => "route",
            RejectReason::Auth => "auth",
            RejectReason::Internal => "internal",
        }
    }
}

/// What one receiver counts for one transport: an intake book for each signal that it takes, and requests.
#[derive(Clone, Debug)]
pub struct ReceiverSeries {
    books: [Option<IntakeSeries>; Signal::ALL.len()],
    refused_requests: [Counter; RefuseReason::ALL.len()],
    rejected_requests: [Counter; RejectReason::ALL.len()],
}

/// The intake book of one receiver, transport and signal, in spans, data points or log records:
/// `offered = accepted + refused + rejected`, and while a request waits for its answer its items are `unanswered`.
#[derive(Clone, Debug)]
pub struct IntakeSeries {
    /// Counted when the request's items are known.
    pub offered: Counter,
    /// Counted when the sender was told that it may forget them.
    pub accepted: Counter,
    /// Counted when the sender was told to come back with them.
    pub refused: Counter,
    /// Counted when the sender was told never to come back with them.
    pub rejected: Counter,
    /// Offered and not answered yet; 0 after a drain.
    pub unanswered: Gauge,
    failed: Counter,
}

impl ReceiverSeries {
    /// Declares the series of one receiver and transport (`grpc` or `http`) for the signals that it takes.
    pub fn declare(schema: &mut Schema, receiver_id: &str, transport: &str, signals: &[Signal]) -> ReceiverSeries {
        let own = [("receiver", receiver_id), ("transport", transport)];
        let because = |reason: &'static str| [own[0], own[1], ("reason", reason)];
        let mut books = [None, None, None];
        for &signal in signals {
            let at = signal as usize;
            books[at] = Some(IntakeSeries {
                offered: schema.counter(&RECEIVER_OFFERED[at], &own),
                accepted: schema.counter(&RECEIVER_ACCEPTED[at], &own),
                refused: schema.counter(&RECEIVER_REFUSED[at], &own),
                rejected: schema.counter(&RECEIVER_REJECTED[at], &own),
                unanswered: schema.gauge(&RECEIVER_UNANSWERED[at], &own),
                failed: schema.counter(&RECEIVER_FAILED[at], &own),
            });
        }
        ReceiverSeries {
            books,
            refused_requests: RefuseReason::ALL
                .map(|reason| schema.counter(&RECEIVER_REFUSED_REQUESTS, &because(reason.label()))),
            rejected_requests: RejectReason::ALL
                .map(|reason| schema.counter(&RECEIVER_REJECTED_REQUESTS, &because(reason.label()))),
        }
    }

    /// The book of a signal that the receiver takes.
    pub fn of(&self, signal: Signal) -> &IntakeSeries {
        self.books[signal as usize].as_ref().expect("a receiver is only asked for signals of its pipelines")
    }

    /// Requests refused for `reason` before their items could be counted.
    pub fn refused_requests(&self, reason: RefuseReason) -> Counter {
        self.refused_requests[reason as usize]
    }

    /// Requests rejected for `reason` before their items could be counted.
    pub fn rejected_requests(&self, reason: RejectReason) -> Counter {
        self.rejected_requests[reason as usize]
    }

    /// Counts a request that is rejected for `reason`, under our name and under the Collector's; one whose signal nobody
    /// knows with the first signal that the receiver takes.
    pub fn count_rejected(&self, cells: &Cells, signal: Option<Signal>, reason: RejectReason) {
        cells.add(self.rejected_requests(reason), 1);
        let mut books = self.books.iter().flatten();
        if let Some(book) = signal.map(|signal| self.of(signal)).or_else(|| books.next()) {
            cells.add(book.failed, 1);
        }
    }
}

/// What a listener counts of connections that have not sent a request yet.
#[derive(Clone, Debug)]
pub struct HandshakeSeries {
    /// Sessions opened; only where TLS is spoken.
    pub opened: Option<Counter>,
    failed: [Option<Counter>; FaultKind::ALL.len()],
}

impl HandshakeSeries {
    /// Declares the series of one receiver and transport; without TLS only what can fail then.
    pub fn declare(schema: &mut Schema, receiver_id: &str, transport: &str, has_tls: bool) -> HandshakeSeries {
        let own = [("receiver", receiver_id), ("transport", transport)];
        let opened = has_tls.then(|| schema.counter(&RECEIVER_TLS_HANDSHAKES, &own));
        let failed = FaultKind::ALL.map(|kind| {
            let labels = [own[0], own[1], ("reason", kind.label())];
            let can_fail = has_tls != (kind == FaultKind::TlsAtPlainPort);
            can_fail.then(|| schema.counter(&RECEIVER_FAILED_HANDSHAKES, &labels))
        });
        HandshakeSeries { opened, failed }
    }

    /// Connections refused for this reason.
    pub fn failed(&self, kind: FaultKind) -> Option<Counter> {
        self.failed[kind as usize]
    }
}

/// What every processor counts.
#[derive(Clone, Debug)]
pub struct ProcessorSeries {
    /// Items in.
    pub incoming_items: Counter,
    /// Items out.
    pub outgoing_items: Counter,
    /// Items shed or failed inside; never dropped by policy.
    pub dropped: Counter,
    /// Nanoseconds of each batch; only where somebody looks, because it takes two readings of the clock.
    pub internal_duration_ns: Option<Histogram>,
}

impl ProcessorSeries {
    /// Declares the series of one processor in pipelines of one signal.
    pub fn declare(schema: &mut Schema, processor_id: &str, signal: Signal) -> ProcessorSeries {
        let items = [("processor", processor_id), ("otel_signal", signal.name())];
        ProcessorSeries {
            incoming_items: schema.counter(&PROCESSOR_INCOMING_ITEMS, &items),
            outgoing_items: schema.counter(&PROCESSOR_OUTGOING_ITEMS, &items),
            dropped: schema.counter(&PROCESSOR_DROPPED[signal as usize], &items[..1]),
            internal_duration_ns: None,
        }
    }

    /// Declares the series that are measured only if they are shown.
    pub fn measured(
        self,
        schema: &mut Schema,
        processor_id: &str,
        signal: Signal,
        level: MetricsLevel,
    ) -> ProcessorSeries {
        let items = [("processor", processor_id), ("otel_signal", signal.name())];
        let shown = level >= PROCESSOR_INTERNAL_DURATION.level;
        let internal_duration_ns = shown.then(|| schema.histogram(&PROCESSOR_INTERNAL_DURATION, &items));
        ProcessorSeries { internal_duration_ns, ..self }
    }
}

/// What a memory_limiter counts besides [`ProcessorSeries`].
#[derive(Clone, Debug)]
pub struct MemoryLimiterSeries {
    /// Items admitted.
    pub accepted: Counter,
    /// Items refused.
    pub refused: Counter,
}

impl MemoryLimiterSeries {
    /// Declares the series of one memory_limiter in pipelines of one signal.
    pub fn declare(schema: &mut Schema, processor_id: &str, signal: Signal) -> MemoryLimiterSeries {
        let own = [("processor", processor_id)];
        MemoryLimiterSeries {
            accepted: schema.counter(&MEMORY_LIMITER_ACCEPTED[signal as usize], &own),
            refused: schema.counter(&MEMORY_LIMITER_REFUSED[signal as usize], &own),
        }
    }
}

/// What a transform counts besides [`ProcessorSeries`].
#[derive(Clone, Debug)]
pub struct TransformSeries {
    /// Items of batches that a failed statement stopped, reason `ottl`.
    pub failed_spans: Counter,
    /// By the statement's number.
    pub statements: Vec<StatementSeries>,
}

/// What is counted of one statement.
#[derive(Clone, Copy, Debug)]
pub struct StatementSeries {
    /// Items on which it failed.
    pub failures: Counter,
    /// Values it deleted because it could not mask them.
    pub unmasked_deleted: Counter,
}

impl TransformSeries {
    /// Declares the series of one transform with these statements.
    pub fn declare<'s>(
        schema: &mut Schema,
        processor_id: &str,
        signal: Signal,
        statements: impl Iterator<Item = &'s str>,
    ) -> TransformSeries {
        let own = ("processor", processor_id);
        let failed_spans = failed_items(schema, processor_id, signal, "ottl");
        let statements = statements.map(|statement| {
            let labels = [own, ("statement", statement)];
            StatementSeries {
                failures: schema.counter(&TRANSFORM_STATEMENT_FAILURES, &labels),
                unmasked_deleted: schema.counter(&TRANSFORM_UNMASKED_DELETED, &labels),
            }
        });
        TransformSeries { failed_spans, statements: statements.collect() }
    }
}

/// What a filter counts besides [`ProcessorSeries`].
#[derive(Clone, Copy, Debug)]
pub struct FilterSeries {
    /// Spans, data points or log records dropped.
    pub items_filtered: Counter,
    /// Items on which a condition failed.
    pub condition_failures: Counter,
}

impl FilterSeries {
    /// Declares the series of one filter in pipelines of one signal.
    pub fn declare(schema: &mut Schema, processor_id: &str, signal: Signal) -> FilterSeries {
        let own = [("processor", processor_id)];
        let filtered = match signal {
            Signal::Traces => &FILTER_SPANS_FILTERED,
            Signal::Metrics => &FILTER_POINTS_FILTERED,
            Signal::Logs => &FILTER_LOGS_FILTERED,
        };
        FilterSeries {
            items_filtered: schema.counter(filtered, &own),
            condition_failures: schema.counter(&FILTER_CONDITION_FAILURES, &own),
        }
    }
}

/// Declares the failed items of one processor in pipelines of one signal, by why.
pub fn failed_items(schema: &mut Schema, processor_id: &str, signal: Signal, reason: &str) -> Counter {
    schema.counter(&PROCESSOR_FAILED[signal as usize], &[("processor", processor_id), ("reason", reason)])
}

/// What a batch processor counts besides [`ProcessorSeries`].
#[derive(Clone, Debug)]
pub struct BatchSeries {
    /// Items of each batch sent.
    pub send_size: Histogram,
    /// Bytes of each batch sent.
    pub send_size_bytes: Histogram,
    /// Batches sent because they were large enough.
    pub size_trigger: Counter,
    /// Batches sent because their time was over.
    pub timeout_trigger: Counter,
    /// Combinations of client metadata.
    pub metadata_cardinality: Gauge,
}

impl BatchSeries {
    /// Declares the series of one batch processor.
    pub fn declare(schema: &mut Schema, processor_id: &str) -> BatchSeries {
        let own = [("processor", processor_id)];
        BatchSeries {
            send_size: schema.histogram(&BATCH_SEND_SIZE, &own),
            send_size_bytes: schema.histogram(&BATCH_SEND_SIZE_BYTES, &own),
            size_trigger: schema.counter(&BATCH_SIZE_TRIGGER_SEND, &own),
            timeout_trigger: schema.counter(&BATCH_TIMEOUT_TRIGGER_SEND, &own),
            metadata_cardinality: schema.gauge(&BATCH_METADATA_CARDINALITY, &own),
        }
    }
}

/// A pair of counters for what was sampled and what was not.
#[derive(Clone, Copy, Debug)]
pub struct SampledSeries {
    /// `sampled="true"`.
    pub sampled: Counter,
    /// `sampled="false"`.
    pub not_sampled: Counter,
}

/// What a probabilistic_sampler counts besides [`ProcessorSeries`]. As in the Collector, without a `processor` label.
#[derive(Clone, Debug)]
pub struct ProbabilisticSamplerSeries {
    /// Decisions about items, by the number of [`sampling::head::Policy`].
    pub decisions: Vec<SampledSeries>,
}

impl ProbabilisticSamplerSeries {
    /// Values of the label `policy`, in the order of [`sampling::head::Policy::ALL`]; the last of those is the name of the
    /// attribute.
    const POLICIES: [&str; 5] =
        ["trace_id_hash", "trace_id_w3c", "sampling_randomness", "sampling_priority", "missing_randomness"];

    /// Declares the series for pipelines of one signal; processors share them. Log records may be decided by an attribute.
    pub fn declare(schema: &mut Schema, signal: Signal, attribute: Option<&str>) -> ProbabilisticSamplerSeries {
        let metric = match signal {
            Signal::Logs => &PROBABILISTIC_COUNT_LOGS_SAMPLED,
            Signal::Traces | Signal::Metrics => &PROBABILISTIC_COUNT_TRACES_SAMPLED,
        };
        let mut counter = |policy, sampled| schema.counter(metric, &[("policy", policy), ("sampled", sampled)]);
        let policies = Self::POLICIES.into_iter().chain(attribute.filter(|_| signal == Signal::Logs));
        let decisions = policies
            .map(|policy| SampledSeries { sampled: counter(policy, "true"), not_sampled: counter(policy, "false") });
        ProbabilisticSamplerSeries { decisions: decisions.collect() }
    }
}

/// What a tail_sampling processor counts besides [`ProcessorSeries`].
///
/// As in the Collector these series carry no `processor` label; a processor with a name shows it in the policy label.
#[derive(Clone, Debug)]
pub struct TailSamplingSeries {
    /// Verdicts of each policy, in the order of the settings.
    pub policies: Vec<DecisionSeries>,
    /// Verdicts of whatever kind, per policy, in the same order.
    pub policy_executions: Vec<Counter>,
    /// Decisions.
    pub decisions: DecisionSeries,
    /// Spans answered from the remembered decision.
    pub early_releases: SampledSeries,
    /// Of them: those that came after their trace was due.
    pub late_spans: SampledSeries,
    /// Traces decided before their time, and why.
    pub decided_before_time: BeforeTimeSeries,
    /// Shards that take a step of the stress relief: certain, compress, shed, shed errors.
    pub stress_relief: [Gauge; 4],
    /// Traces shed.
    pub traces_shed: Counter,
    /// Bytes of pending spans before they were compressed.
    pub compressed_bytes: Counter,
    /// And after.
    pub compressed_to_bytes: Counter,
    /// Traces new to the table.
    pub new_trace_id_received: Counter,
    /// Nanoseconds one tick spent deciding.
    pub decision_timer_latency_ns: Histogram,
    /// Policies that failed on a trace.
    pub policy_evaluation_error: Counter,
    /// Traces evicted undecided.
    pub trace_dropped_too_early: Counter,
    /// Traces in the table.
    pub traces_on_memory: Gauge,
    /// Traces that outgrew the largest size.
    pub traces_dropped_too_large: Counter,
    /// Traces decided before their time because the table was full.
    pub traces_decided_early: Counter,
    /// Spans with a zero trace id.
    pub spans_without_trace_id: Counter,
}

/// Why traces were decided before their decision wait was over.
#[derive(Clone, Copy, Debug)]
pub struct BeforeTimeSeries {
    /// No later span could change the decision.
    pub certain: Counter,
    /// Every parent was there, and no span came for a while.
    pub complete: Counter,
    /// The wait after the root span was over.
    pub root: Counter,
    /// They grew larger than what is held of one trace.
    pub size: Counter,
    /// No later span could change the decision, and memory was short.
    pub stress: Counter,
}

/// What was said of traces.
#[derive(Clone, Debug)]
pub struct DecisionSeries {
    /// Keep it.
    pub sampled: Counter,
    /// Nobody asks for it.
    pub not_sampled: Counter,
    /// Drop it, whoever asks for it.
    pub dropped: Counter,
}

impl DecisionSeries {
    /// `counter` is given the labels `sampled` and `decision`.
    fn declare(mut counter: impl FnMut(&str, &str) -> Counter) -> DecisionSeries {
        DecisionSeries {
            sampled: counter("true", "sampled"),
            not_sampled: counter("false", "not_sampled"),
            dropped: counter("false", "dropped"),
        }
    }
}

/// The label of a policy: behind the name of its tail_sampling processor, if that has one.
pub fn policy_label(processor_id: &str, policy: &str) -> String {
    match processor_id.split_once('/') {
        Some((_, name)) => format!("{name}.{policy}"),
        None => policy.to_owned(),
    }
}

impl TailSamplingSeries {
    /// Declares the series of one tail_sampling processor (`tail_sampling` or `tail_sampling/name`) and its policies.
    pub fn declare(schema: &mut Schema, processor_id: &str, policies: &[String]) -> TailSamplingSeries {
        let own = [("processor", processor_id)];
        let shown = |policy: &String| policy_label(processor_id, policy);
        let policy_executions = policies
            .iter()
            .map(|policy| schema.counter(&TAIL_POLICY_EXECUTION_COUNT, &[("policy", &shown(policy))]))
            .collect();
        let mut verdicts = |policy: &String| {
            let policy = shown(policy);
            DecisionSeries::declare(|sampled, decision| {
                let labels = [("policy", policy.as_str()), ("sampled", sampled), ("decision", decision)];
                schema.counter(&TAIL_COUNT_TRACES_SAMPLED, &labels)
            })
        };
        let policies = policies.iter().map(&mut verdicts).collect();
        let decided = &TAIL_GLOBAL_COUNT_TRACES_SAMPLED;
        TailSamplingSeries {
            policies,
            policy_executions,
            decisions: DecisionSeries::declare(|sampled, decision| {
                schema.counter(decided, &[("sampled", sampled), ("decision", decision)])
            }),
            early_releases: SampledSeries {
                sampled: schema.counter(&TAIL_EARLY_RELEASES, &[("sampled", "true")]),
                not_sampled: schema.counter(&TAIL_EARLY_RELEASES, &[("sampled", "false")]),
            },
            late_spans: {
                let mut late =
                    |sampled| schema.counter(&TAIL_LATE_SPANS, &[("processor", processor_id), ("sampled", sampled)]);
                SampledSeries { sampled: late("true"), not_sampled: late("false") }
            },
            decided_before_time: {
                let mut why =
                    |why| schema.counter(&TAIL_DECIDED_BEFORE_TIME, &[("processor", processor_id), ("because", why)]);
                BeforeTimeSeries {
                    certain: why("certain"),
                    complete: why("complete"),
                    root: why("root"),
                    size: why("size"),
                    stress: why("stress"),
                }
            },
            stress_relief: ["certain", "compress", "shed", "shed_errors"]
                .map(|step| schema.gauge(&TAIL_STRESS_RELIEF, &[("processor", processor_id), ("step", step)])),
            traces_shed: schema.counter(&TAIL_TRACES_SHED, &own),
            compressed_bytes: schema.counter(&TAIL_COMPRESSED_BYTES, &own),
            compressed_to_bytes: schema.counter(&TAIL_COMPRESSED_TO_BYTES, &own),
            new_trace_id_received: schema.counter(&TAIL_NEW_TRACE_ID_RECEIVED, &[]),
            decision_timer_latency_ns: schema.histogram(&TAIL_DECISION_TIMER_LATENCY, &[]),
            policy_evaluation_error: schema.counter(&TAIL_POLICY_EVALUATION_ERROR, &[]),
            trace_dropped_too_early: schema.counter(&TAIL_DROPPED_TOO_EARLY, &[]),
            traces_on_memory: schema.gauge(&TAIL_TRACES_ON_MEMORY, &[]),
            traces_dropped_too_large: schema.counter(&TAIL_TRACES_DROPPED_TOO_LARGE, &[]),
            traces_decided_early: schema.counter(&TAIL_DECIDED_EARLY, &own),
            spans_without_trace_id: schema.counter(&TAIL_SPANS_WITHOUT_TRACE_ID, &own),
        }
    }
}

/// What every exporter counts. Queue size and capacity have the same labels, so their ratio needs no label matching.
#[derive(Clone, Debug)]
pub struct ExporterSeries {
    /// Items the backend took.
    pub sent: Counter,
    /// Items given up.
    pub send_failed: Counter,
    /// Requests sent in halves.
    pub split: Counter,
    /// Items a full queue did not take.
    pub enqueue_failed: Counter,
    /// Items of each request that entered the queue.
    pub enqueue_size: Histogram,
    /// Bytes of each request that entered the queue.
    pub enqueue_size_bytes: Histogram,
    /// Requests sent and not yet answered.
    pub in_flight_requests: Gauge,
    /// Requests waiting or under way on this shard.
    pub queue_size: Gauge,
    /// This shard's part of the capacity.
    pub queue_capacity: Gauge,
    /// `100 * size / capacity` of this shard.
    pub queue_fullest_percent: Gauge,
}

impl ExporterSeries {
    /// Declares the series of one exporter for one signal.
    pub fn declare(schema: &mut Schema, exporter_id: &str, signal: Signal) -> ExporterSeries {
        let own = [("exporter", exporter_id)];
        let queue = [("exporter", exporter_id), ("data_type", signal.name())];
        let at = signal as usize;
        ExporterSeries {
            sent: schema.counter(&EXPORTER_SENT[at], &own),
            send_failed: schema.counter(&EXPORTER_SEND_FAILED[at], &own),
            split: schema.counter(&EXPORTER_SPLIT_REQUESTS, &own),
            enqueue_failed: schema.counter(&EXPORTER_ENQUEUE_FAILED[at], &own),
            enqueue_size: schema.histogram(&EXPORTER_ENQUEUE_SIZE, &own),
            enqueue_size_bytes: schema.histogram(&EXPORTER_ENQUEUE_SIZE_BYTES, &own),
            in_flight_requests: schema.gauge(&EXPORTER_IN_FLIGHT_REQUESTS, &queue),
            queue_size: schema.gauge(&EXPORTER_QUEUE_SIZE, &queue),
            queue_capacity: schema.gauge(&EXPORTER_QUEUE_CAPACITY, &queue),
            queue_fullest_percent: schema.gauge(&EXPORTER_QUEUE_FULLEST, &queue),
        }
    }
}

/// The book of one pipeline and exporter: `accepted + created = delivered + dropped + shed + failed + in flight`.
#[derive(Clone, Debug)]
pub struct BookSeries {
    /// Entered the pipeline.
    pub accepted: Counter,
    /// Made by a processor.
    pub created: Counter,
    /// Taken by the backend.
    pub delivered: Counter,
    /// Dropped by policy.
    pub dropped: Counter,
    /// Given up by overload.
    pub shed: Counter,
    /// Could not be delivered.
    pub failed: Counter,
    /// Held by nodes, rings, the queue or an export; the sum over these holders, set before a scrape.
    pub in_flight: Gauge,
    /// Of those in flight, what a durable queue keeps for the next start; set when a drain gives up.
    pub kept: Gauge,
}

impl BookSeries {
    /// Declares the book of one pipeline, whose signal this is, and exporter.
    pub fn declare(schema: &mut Schema, pipeline_id: &str, exporter_id: &str, signal: Signal) -> BookSeries {
        let own = [("pipeline", pipeline_id), ("exporter", exporter_id)];
        let at = signal as usize;
        BookSeries {
            accepted: schema.counter(&PIPELINE_ACCEPTED[at], &own),
            created: schema.counter(&PIPELINE_CREATED[at], &own),
            delivered: schema.counter(&PIPELINE_DELIVERED[at], &own),
            dropped: schema.counter(&PIPELINE_DROPPED[at], &own),
            shed: schema.counter(&PIPELINE_SHED[at], &own),
            failed: schema.counter(&PIPELINE_FAILED[at], &own),
            in_flight: schema.gauge(&PIPELINE_IN_FLIGHT[at], &own),
            kept: schema.gauge(&PIPELINE_KEPT[at], &own),
        }
    }
}

/// The budget by holder.
#[derive(Clone, Debug)]
pub struct BudgetSeries {
    /// Bytes leased by this shard.
    pub leased_bytes: Gauge,
    /// The process limit; set by one shard only, because gauges are summed.
    pub limit_bytes: Gauge,
    bytes: [Gauge; Holder::ALL.len()],
}

impl BudgetSeries {
    /// Declares the budget's series.
    pub fn declare(schema: &mut Schema) -> BudgetSeries {
        BudgetSeries {
            leased_bytes: schema.gauge(&BUDGET_LEASED_BYTES, &[]),
            limit_bytes: schema.gauge(&BUDGET_LIMIT_BYTES, &[]),
            bytes: Holder::ALL.map(|holder| schema.gauge(&BUDGET_BYTES, &[("holder", holder.label())])),
        }
    }

    /// Bytes that `holder` holds.
    pub fn bytes(&self, holder: Holder) -> Gauge {
        self.bytes[holder as usize]
    }
}

/// What crosses shards.
#[derive(Clone, Debug)]
pub struct MeshSeries {
    /// Spans sent to their owner.
    pub sent_spans: Counter,
    /// Bytes of them.
    pub sent_bytes: Counter,
    /// Spans taken out of rings.
    pub received_spans: Counter,
    /// Data points sent to the owner of their series.
    pub sent_points: Counter,
    /// Data points of other shards taken out of rings.
    pub received_points: Counter,
    /// Parts that waited for room.
    pub waits: Counter,
    /// Whole requests handed to a less busy shard.
    pub balanced_requests: Counter,
}

impl MeshSeries {
    /// Declares the mesh's series.
    pub fn declare(schema: &mut Schema) -> MeshSeries {
        MeshSeries {
            sent_spans: schema.counter(&MESH_SENT_SPANS, &[]),
            sent_bytes: schema.counter(&MESH_SENT_BYTES, &[]),
            received_spans: schema.counter(&MESH_RECEIVED_SPANS, &[]),
            sent_points: schema.counter(&MESH_SENT_POINTS, &[]),
            received_points: schema.counter(&MESH_RECEIVED_POINTS, &[]),
            waits: schema.counter(&MESH_WAITS, &[]),
            balanced_requests: schema.counter(&MESH_BALANCED_REQUESTS, &[]),
        }
    }
}

/// What a shard shows of itself.
#[derive(Clone, Debug)]
pub struct ShardSeries {
    /// Open connections of senders.
    pub connections: Gauge,
    /// Busy share of its time, 0 to 100.
    pub busy_percent: Gauge,
    /// Panics caught around pure calls.
    pub caught_panics: Counter,
}

impl ShardSeries {
    /// Declares a shard's series.
    pub fn declare(schema: &mut Schema) -> ShardSeries {
        ShardSeries {
            connections: schema.gauge(&SHARD_CONNECTIONS, &[]),
            busy_percent: schema.gauge(&SHARD_BUSIEST, &[]),
            caught_panics: schema.counter(&SHARD_CAUGHT_PANICS, &[]),
        }
    }
}

/// What a durable queue shows of its files.
#[derive(Clone, Debug)]
pub struct QueueDiskSeries {
    /// Bytes of its files; set by one shard only, because gauges are summed. So are the next two.
    pub bytes: Gauge,
    /// Requests not delivered yet.
    pub requests: Gauge,
    /// Age of the oldest in seconds.
    pub oldest_age_seconds: Gauge,
    /// Requests that an earlier process left.
    pub found: Counter,
    /// Torn ends.
    pub cut: Counter,
    /// Damaged records.
    pub skipped: Counter,
    /// Requests that could not be written.
    pub not_written: Counter,
}

impl QueueDiskSeries {
    /// Declares the series of one exporter's queue.
    pub fn declare(schema: &mut Schema, exporter_id: &str, signal: Signal) -> QueueDiskSeries {
        let own = [("exporter", exporter_id), ("data_type", signal.name())];
        QueueDiskSeries {
            bytes: schema.gauge(&QUEUE_DISK_BYTES, &own),
            requests: schema.gauge(&QUEUE_DISK_REQUESTS, &own),
            oldest_age_seconds: schema.gauge(&QUEUE_DISK_OLDEST, &own),
            found: schema.counter(&QUEUE_DISK_FOUND, &own),
            cut: schema.counter(&QUEUE_DISK_CUT, &own),
            skipped: schema.counter(&QUEUE_DISK_SKIPPED, &own),
            not_written: schema.counter(&QUEUE_DISK_NOT_WRITTEN, &own),
        }
    }
}

/// What a `span_metrics` connector shows of itself, beside what it counts.
#[derive(Clone, Debug)]
pub struct SpanMetricsSeries {
    /// Spans without a series of their own.
    pub overflowed_spans: Counter,
    /// Series held.
    pub fullest_series: Gauge,
}

impl SpanMetricsSeries {
    /// Declares the series of one connector.
    pub fn declare(schema: &mut Schema, connector_id: &str) -> SpanMetricsSeries {
        let own = [("connector", connector_id)];
        SpanMetricsSeries {
            overflowed_spans: schema.counter(&SPAN_METRICS_OVERFLOWED, &own),
            fullest_series: schema.gauge(&SPAN_METRICS_FULLEST, &own),
        }
    }
}

/// What an exporter shows besides [`ExporterSeries`].
#[derive(Clone, Debug)]
pub enum OwnExporterSeries {
    /// Nothing.
    None,
    /// Of a memory exporter.
    Memory(MemoryExporterSeries),
    /// Of a remote write exporter.
    RemoteWrite(Box<RemoteWriteSeries>),
}

/// What a remote write exporter counts besides [`ExporterSeries`].
#[derive(Clone, Debug)]
pub struct RemoteWriteSeries {
    /// Points that could not become samples.
    pub failed_translations: Counter,
    /// Series written.
    pub series: Counter,
    /// Requests taken.
    pub batches: Counter,
    /// Samples taken.
    pub samples: Counter,
    /// Native histograms taken.
    pub histograms: Counter,
    /// Exemplars taken.
    pub exemplars: Counter,
    /// By [`codecs::prometheus::DropReason`].
    pub dropped: [Counter; codecs::prometheus::DropReason::ALL.len()],
    /// By place in [`REJECTING_STATUSES`]; the last is any other.
    pub rejected: [Counter; REJECTING_STATUSES.len()],
    /// Memory of the label cache.
    pub cache_bytes: Gauge,
    /// Memory of what deltas were added up to.
    pub delta_bytes: Gauge,
    /// Times it was emptied.
    pub cache_clears: Counter,
    /// Label sets built.
    pub label_sets_built: Counter,
}

/// Statuses with a series of their own; the last stands for all others.
pub const REJECTING_STATUSES: [&str; 8] = ["400", "401", "403", "404", "413", "415", "422", "other"];

impl RemoteWriteSeries {
    /// Declares the series of one remote write exporter.
    pub fn declare(schema: &mut Schema, exporter_id: &str) -> RemoteWriteSeries {
        let own = [("exporter", exporter_id)];
        let dropped = codecs::prometheus::DropReason::ALL.map(|reason| {
            schema.counter(&REMOTE_WRITE_DROPPED, &[("exporter", exporter_id), ("reason", reason.name())])
        });
        let rejected = REJECTING_STATUSES
            .map(|status| schema.counter(&REMOTE_WRITE_REJECTED, &[("exporter", exporter_id), ("status", status)]));
        RemoteWriteSeries {
            failed_translations: schema.counter(&REMOTE_WRITE_FAILED, &own),
            series: schema.counter(&REMOTE_WRITE_SERIES, &own),
            batches: schema.counter(&REMOTE_WRITE_BATCHES, &own),
            samples: schema.counter(&REMOTE_WRITE_SAMPLES, &own),
            histograms: schema.counter(&REMOTE_WRITE_HISTOGRAMS, &own),
            exemplars: schema.counter(&REMOTE_WRITE_EXEMPLARS, &own),
            dropped,
            rejected,
            cache_bytes: schema.gauge(&REMOTE_WRITE_CACHE_BYTES, &own),
            delta_bytes: schema.gauge(&REMOTE_WRITE_DELTA_BYTES, &own),
            cache_clears: schema.counter(&REMOTE_WRITE_CACHE_CLEARS, &own),
            label_sets_built: schema.counter(&REMOTE_WRITE_BUILT, &own),
        }
    }
}

/// What a memory exporter counts besides [`ExporterSeries`].
#[derive(Clone, Debug)]
pub struct MemoryExporterSeries {
    /// Traces held.
    pub traces: Gauge,
    /// Bytes held.
    pub bytes: Gauge,
    /// Traces given up for younger ones.
    pub traces_evicted: Counter,
    /// Spans not kept because their trace was too large.
    pub spans_left_out: Counter,
}

impl MemoryExporterSeries {
    /// Declares the series of one memory exporter.
    pub fn declare(schema: &mut Schema, exporter_id: &str) -> MemoryExporterSeries {
        let own = [("exporter", exporter_id)];
        MemoryExporterSeries {
            traces: schema.gauge(&KEPT_TRACES, &own),
            bytes: schema.gauge(&KEPT_BYTES, &own),
            traces_evicted: schema.counter(&KEPT_TRACES_EVICTED, &own),
            spans_left_out: schema.counter(&KEPT_SPANS_LEFT_OUT, &own),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::checked::MetricNames;
    use crate::telemetry::exposition::Exposition;
    use crate::telemetry::naming::Spelling;
    use std::collections::BTreeSet;

    /// Words in backticks that look like metric names.
    fn names_in(page: &str) -> BTreeSet<&str> {
        let words =
            page.split('`').skip(1).step_by(2).flat_map(|code| code.split(|character: char| !is_name(character)));
        words.filter(|word| PREFIXES.iter().any(|prefix| word.starts_with(prefix))).collect()
    }

    const PREFIXES: [&str; 4] = ["otelcol_", "tracegate_", "process_c", "process_r"];

    fn is_name(character: char) -> bool {
        character.is_ascii_alphanumeric() || character == '_'
    }

    #[test]
    fn the_oldest_request_on_disk_is_as_old_as_on_the_shard_with_the_oldest() {
        let mut schema = Schema::default();
        let series = QueueDiskSeries::declare(&mut schema, "otlp", Signal::Traces);
        let shard = |age: u64| {
            let cells = crate::telemetry::cells::Cells::new(&schema);
            cells.set(series.oldest_age_seconds, age);
            cells.set(series.requests, 1);
            cells.snapshot()
        };
        let total = schema.fold(&[shard(40), shard(300), shard(0)]);
        assert!(total.contains(&300) && total.contains(&3), "{total:?}");
    }

    #[test]
    fn every_metric_has_a_row_in_its_documentation_with_its_kind_and_level() {
        let page = include_str!("../../../docs/metrics.md");
        for metric in ALL {
            let kind = match metric.kind {
                Kind::Counter => "counter",
                Kind::Gauge | Kind::Highest => "gauge",
                Kind::Histogram(_) => "histogram",
            };
            let level = format!("{:?}", metric.level).to_lowercase();
            let row = format!("| `{}` | {kind} | {level} | ", metric.name);
            assert!(page.contains(&row), "docs/metrics.md has no row {row:?}");
        }
    }

    #[test]
    fn documentation_names_no_metric_that_does_not_exist() {
        let mut known: BTreeSet<&str> = ALL.iter().map(|metric| metric.name).collect();
        let suffixed =
            Spelling::all(MetricNames::SUFFIXED).flat_map(|spelling| ALL.iter().map(move |it| spelling.name(it)));
        let suffixed: Vec<_> = suffixed.collect();
        known.extend(suffixed.iter().map(|name| &**name));
        // Pages also say which of the Collector's metrics are left out.
        let left_out = ["otelcol_", "otelcol_processor_batch_metadata_cardinality"];
        for page in [include_str!("../../../docs/metrics.md"), include_str!("../../../docs/ledger.md")] {
            for name in names_in(page) {
                let family = name == "tracegate_" || left_out.contains(&name);
                assert!(known.contains(name) || family, "{name} is documented and does not exist");
            }
        }
    }

    #[test]
    fn a_scrape_with_every_series_is_as_written_in_the_golden_file() {
        let schema = all_groups();
        let cells = Cells::new(&schema);
        let declared = |metric: &Metric| schema.series().iter().any(|series| std::ptr::eq(series.metric, metric));
        let process: Vec<(&'static Metric, f64)> =
            ALL.iter().filter(|metric| !declared(metric)).map(|metric| (*metric, 0.0)).collect();
        let exposition = Exposition {
            schema: &schema,
            shards: &[cells.snapshot()],
            process: &process,
            resource: &[],
            level: Detailed,
            names: MetricNames::BOTH,
        };
        let mut text = exposition.text();
        let mut metrics = ALL.to_vec();
        metrics.sort_by_key(|metric| metric.name);
        for metric in metrics {
            text += &format!("# LEVEL {} {:?}\n", metric.name, metric.level).to_lowercase();
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/telemetry/golden/every_series.txt");
        if std::env::var_os("UPDATE_CASES").is_some() {
            std::fs::write(path, &text).unwrap();
            return;
        }
        let golden = std::fs::read_to_string(path).unwrap();
        for (written, expected) in text.lines().zip(golden.lines()) {
            assert_eq!(written, expected, "UPDATE_CASES=1 writes the file; then read the difference");
        }
        assert_eq!(text.len(), golden.len());
    }

    #[test]
    fn names_are_unique_and_plain() {
        let names: BTreeSet<&str> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len());
        for metric in ALL {
            assert!(metric.name.chars().all(is_name), "{}", metric.name);
            let prometheus_own = metric.name == "process_cpu_seconds_total";
            assert!(prometheus_own || !metric.name.ends_with("_total"), "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
    }

    /// Every group of series, as a configuration with one of each component declares them.
    fn all_groups() -> Schema {
        let mut schema = Schema::default();
        ReceiverSeries::declare(&mut schema, "otlp", "grpc", &Signal::ALL);
        for signal in Signal::ALL {
            let processor = ProcessorSeries::declare(&mut schema, "batch", signal);
            let _ = processor.measured(&mut schema, "batch", signal, Detailed);
            MemoryLimiterSeries::declare(&mut schema, "memory_limiter", signal);
            ExporterSeries::declare(&mut schema, "otlp/jaeger", signal);
            BookSeries::declare(&mut schema, signal.name(), "otlp/jaeger", signal);
            QueueDiskSeries::declare(&mut schema, "otlp/jaeger", signal);
            FilterSeries::declare(&mut schema, "filter", signal);
            TransformSeries::declare(&mut schema, "transform", signal, ["traces[0]"].into_iter());
            ProbabilisticSamplerSeries::declare(&mut schema, signal, Some("request.id"));
        }
        BatchSeries::declare(&mut schema, "batch");
        TailSamplingSeries::declare(&mut schema, "tail_sampling/eu", &["errors".to_owned()]);
        BudgetSeries::declare(&mut schema);
        MeshSeries::declare(&mut schema);
        ShardSeries::declare(&mut schema);
        HandshakeSeries::declare(&mut schema, "otlp", "grpc", true);
        HandshakeSeries::declare(&mut schema, "otlp", "http", false);
        MemoryExporterSeries::declare(&mut schema, "memory");
        SpanMetricsSeries::declare(&mut schema, "span_metrics");
        RemoteWriteSeries::declare(&mut schema, "prometheusremotewrite");
        schema
    }

    /// Metric and labels of every group, as the Collector's table has them.
    #[test]
    fn series_carry_the_collectors_names_and_labels_and_none_of_the_scrapers() {
        let schema = all_groups();
        let shown = |series: &crate::telemetry::cells::Series| {
            let labels: Vec<String> = series.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{}{{{}}}", series.metric.name, labels.join(","))
        };
        let all: BTreeSet<String> = schema.series().iter().map(shown).collect();
        for expected in [
            "otelcol_receiver_accepted_spans{receiver=otlp,transport=grpc}",
            "otelcol_receiver_refused_spans{receiver=otlp,transport=grpc}",
            "otelcol_processor_incoming_items{processor=batch,otel_signal=traces}",
            "otelcol_processor_dropped_spans{processor=batch}",
            "otelcol_processor_memory_limiter_refused_spans{processor=memory_limiter}",
            "otelcol_processor_batch_timeout_trigger_send{processor=batch}",
            "otelcol_processor_tail_sampling_count_traces_sampled{policy=eu.errors,sampled=true,decision=sampled}",
            "otelcol_processor_tail_sampling_global_count_traces_sampled{sampled=false,decision=not_sampled}",
            "tracegate_processor_failed_spans{processor=transform,reason=ottl}",
            "tracegate_transform_unmasked_deleted{processor=transform,statement=traces[0]}",
            "otelcol_exporter_sent_spans{exporter=otlp/jaeger}",
            "otelcol_exporter_send_failed_spans{exporter=otlp/jaeger}",
            "otelcol_exporter_enqueue_failed_spans{exporter=otlp/jaeger}",
            "otelcol_exporter_in_flight_requests{exporter=otlp/jaeger,data_type=traces}",
            "otelcol_exporter_queue_size{exporter=otlp/jaeger,data_type=traces}",
            "otelcol_exporter_queue_capacity{exporter=otlp/jaeger,data_type=traces}",
            "otelcol_receiver_accepted_metric_points{receiver=otlp,transport=grpc}",
            "otelcol_receiver_refused_log_records{receiver=otlp,transport=grpc}",
            "otelcol_processor_incoming_items{processor=batch,otel_signal=logs}",
            "otelcol_processor_memory_limiter_accepted_metric_points{processor=memory_limiter}",
            "otelcol_exporter_sent_metric_points{exporter=otlp/jaeger}",
            "otelcol_exporter_send_failed_log_records{exporter=otlp/jaeger}",
            "otelcol_exporter_queue_size{exporter=otlp/jaeger,data_type=metrics}",
        ] {
            assert!(all.contains(expected), "{expected} is missing");
        }
        for series in schema.series() {
            for label in ["job", "instance", "pod", "shard"] {
                assert_eq!(series.label(label), None, "{}", series.metric.name);
            }
        }
        let declared: BTreeSet<&str> = schema.series().iter().map(|series| series.metric.name).collect();
        let of_process = ["otelcol_process_", "process_", "tracegate_log_", "tracegate_tls_", "tracegate_config_"];
        let process = |name: &str| of_process.iter().any(|prefix| name.starts_with(prefix));
        for metric in ALL.iter().filter(|metric| !process(metric.name)) {
            assert!(declared.contains(metric.name), "no group declares {}", metric.name);
        }
    }
}
