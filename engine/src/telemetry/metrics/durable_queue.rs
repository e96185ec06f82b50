//! What a durable queue shows of its files.

use crate::config::checked::MetricsLevel::Normal;
use crate::telemetry::cells::{Counter, Gauge, Kind, Schema};
use codecs::otlp::Signal;

metrics! {
    DURABLE_QUEUES: "Durable queues", "exporters with `sending_queue.storage`",
        "";
    for the gateway {
        QUEUE_DISK_BYTES: Kind::Gauge, Normal, "tracegate_queue_disk_bytes",
            "bytes", ["exporter", "data_type"],
            "Bytes of a durable queue's files.",
            "They go as a whole file, when all in it and before it is delivered.";
        QUEUE_DISK_REQUESTS: Kind::Gauge, Normal, "tracegate_queue_disk_requests",
            "requests", ["exporter", "data_type"],
            "Requests on disk that are not delivered yet.",
            "Those of an earlier process included.";
        QUEUE_DISK_OLDEST: Kind::Highest, Normal, "tracegate_queue_disk_oldest_age_seconds",
            "seconds", ["exporter", "data_type"],
            "Age of the oldest request on disk, also if an earlier process took it.",
            "On any shard; 0 if there is none.";
        QUEUE_DISK_FOUND: Kind::Counter, Normal, "tracegate_queue_disk_found_requests",
            "requests", ["exporter", "data_type"],
            "Requests that an earlier process left on disk.";
        QUEUE_DISK_CUT: Kind::Counter, Normal, "tracegate_queue_disk_cut_tails",
            "ends", ["exporter", "data_type"],
            "Torn ends of files that were cut off at the start.",
            "One after a kill in the middle of a write is usual, and nothing that was acknowledged.";
        QUEUE_DISK_SKIPPED: Kind::Counter, Normal, "tracegate_queue_disk_skipped_records",
            "records", ["exporter", "data_type"],
            "Damaged records on disk that were passed over.",
            "The disk has changed bytes.";
        QUEUE_DISK_NOT_WRITTEN: Kind::Counter, Normal, "tracegate_queue_disk_not_written_requests",
            "requests", ["exporter", "data_type"],
            "Requests that could not be written to disk: refused, or in memory only if nobody can send them again.";
        QUEUE_DISK_DROPPED: Kind::Counter, Normal, "tracegate_queue_disk_dropped_requests",
            "requests", ["exporter", "data_type"],
            "Requests that the disk forgot to make room for newer ones: in memory only, or lost if an earlier process left them.",
            "Only with `on_full: drop_oldest`.";
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
    /// Requests whose place on disk newer ones took.
    pub dropped: Counter,
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
            dropped: schema.counter(&QUEUE_DISK_DROPPED, &own),
        }
    }
}
