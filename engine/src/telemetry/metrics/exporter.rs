//! What every exporter and its queue count.
//!
//! The one idea: what concerns the queue carries the same labels in every series, so that ratios need no matching.

use super::bounds::{BATCH_SPANS, REQUEST_BYTES, REQUEST_TIME};
use super::{MemoryExporterSeries, RemoteWriteSeries};
use crate::config::checked::MetricsLevel::{Basic, Detailed, Normal};
use crate::telemetry::cells::{Counter, Gauge, Histogram, Kind, Schema};
use codecs::otlp::Signal;

metrics! {
    EXPORTERS: "Exporters", "every exporter that has a queue",
        "Size and capacity of a queue have identical labels, so that `otelcol_exporter_queue_size / \
         otelcol_exporter_queue_capacity` needs no matching.";
    for each signal {
        EXPORTER_SENT: Kind::Counter, Basic, "otelcol_exporter_sent",
            ["exporter"],
            "the backend took.";
        EXPORTER_SEND_FAILED: Kind::Counter, Basic, "otelcol_exporter_send_failed",
            ["exporter"],
            "given up after a permanent error or the last retry.";
        EXPORTER_ENQUEUE_FAILED: Kind::Counter, Basic, "otelcol_exporter_enqueue_failed",
            ["exporter"],
            "that a full queue lost.",
            "These are requests larger than the whole queue, and with `on_full: drop_oldest` the oldest; else a full one makes its input wait.";
    }
    for the gateway {
        EXPORTER_SPLIT_REQUESTS: Kind::Counter, Normal, "tracegate_exporter_split_requests",
            "requests", ["exporter"],
            "Requests sent in two halves because the backend called them too large.";
        EXPORTER_ENQUEUE_SIZE: Kind::Histogram(&BATCH_SPANS), Detailed, "otelcol_exporter_enqueue_size",
            "items", ["exporter"],
            "Items of a request when it enters the queue.";
        EXPORTER_ENQUEUE_SIZE_BYTES: Kind::Histogram(&REQUEST_BYTES), Detailed, "otelcol_exporter_enqueue_size_bytes",
            "bytes", ["exporter"],
            "Bytes of a request when it enters the queue, before compression.";
        EXPORTER_BATCH_SEND_SIZE: Kind::Histogram(&BATCH_SPANS), Detailed, "otelcol_exporter_queue_batch_send_size",
            "items", ["exporter"],
            "Items of a request when it leaves the queue's batch.",
            "The batch is `sending_queue.batch`.";
        EXPORTER_BATCH_SEND_SIZE_BYTES: Kind::Histogram(&REQUEST_BYTES), Detailed, "otelcol_exporter_queue_batch_send_size_bytes",
            "bytes", ["exporter"],
            "Bytes of a request when it leaves the queue's batch, before compression.";
        EXPORTER_QUEUE_SIZE: Kind::Gauge, Basic, "otelcol_exporter_queue_size",
            "by sizer", ["exporter", "data_type"],
            "What waits in the queue or is under way, in units of its sizer: requests, items or bytes.",
            "The sizer is `sending_queue.sizer`.";
        EXPORTER_QUEUE_CAPACITY: Kind::Gauge, Basic, "otelcol_exporter_queue_capacity",
            "by sizer", ["exporter", "data_type"],
            "What may wait in the queue or be under way, in units of its sizer.";
        EXPORTER_QUEUE_FULLEST: Kind::Highest, Normal, "tracegate_exporter_queue_fullest_shard_percent",
            "percent", ["exporter", "data_type"],
            "Fill of the fullest shard's part of the queue, 0 to 100.";
        EXPORTER_QUEUE_OLDEST: Kind::Highest, Normal, "tracegate_exporter_queue_oldest_age_seconds",
            "seconds", ["exporter", "data_type"],
            "Age of the oldest request that waits in the queue, in memory or on disk, or is under way.",
            "0 if there is none. Growing second by second: the backend takes nothing.";
        EXPORTER_IN_FLIGHT_REQUESTS: Kind::Gauge, Normal, "otelcol_exporter_in_flight_requests",
            "requests", ["exporter", "data_type"],
            "Requests sent and not yet answered.";
        EXPORTER_EXPORT: Kind::Histogram(&REQUEST_TIME), Normal, "tracegate_exporter_export_seconds",
            "seconds", ["exporter", "data_type"],
            "Seconds of one attempt to export a request, whatever became of it.",
            "An attempt that runs into the exporter's `timeout` shows as long as that.";
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
    /// Items of each request that left the queue's batch.
    pub batch_send_size: Histogram,
    /// Bytes of each request that left the queue's batch.
    pub batch_send_size_bytes: Histogram,
    /// Requests sent and not yet answered.
    pub in_flight_requests: Gauge,
    /// Requests waiting or under way on this shard.
    pub queue_size: Gauge,
    /// This shard's part of the capacity.
    pub queue_capacity: Gauge,
    /// `100 * size / capacity` of this shard.
    pub queue_fullest_percent: Gauge,
    /// Age of the oldest request of this shard, in seconds.
    pub queue_oldest_age_seconds: Gauge,
    /// Nanoseconds of each attempt.
    pub export_ns: Histogram,
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
            batch_send_size: schema.histogram(&EXPORTER_BATCH_SEND_SIZE, &own),
            batch_send_size_bytes: schema.histogram(&EXPORTER_BATCH_SEND_SIZE_BYTES, &own),
            in_flight_requests: schema.gauge(&EXPORTER_IN_FLIGHT_REQUESTS, &queue),
            queue_size: schema.gauge(&EXPORTER_QUEUE_SIZE, &queue),
            queue_capacity: schema.gauge(&EXPORTER_QUEUE_CAPACITY, &queue),
            queue_fullest_percent: schema.gauge(&EXPORTER_QUEUE_FULLEST, &queue),
            queue_oldest_age_seconds: schema.gauge(&EXPORTER_QUEUE_OLDEST, &queue),
            export_ns: schema.histogram(&EXPORTER_EXPORT, &queue),
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
