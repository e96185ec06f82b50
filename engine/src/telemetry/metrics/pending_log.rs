//! What a sampler shows of the files that keep its undecided traces.

use crate::config::checked::MetricsLevel::Normal;
use crate::telemetry::cells::{Counter, Gauge, Kind, Schema};

metrics! {
    PENDING_LOGS: "Undecided traces on disk", "`tail_sampling` with `storage`",
        "";
    for the gateway {
        PENDING_DISK_BYTES: Kind::Gauge, Normal, "tracegate_tail_sampling_disk_bytes",
            "bytes", ["processor"],
            "Bytes of the files with undecided spans.",
            "They go as a whole file, when all in it and before it is decided and owned by the queues behind.";
        PENDING_DISK_RECORDS: Kind::Gauge, Normal, "tracegate_tail_sampling_disk_records",
            "records", ["processor"],
            "Records on disk with spans that may be undecided.",
            "Those of an earlier process included.";
        PENDING_DISK_OLDEST: Kind::Highest, Normal, "tracegate_tail_sampling_disk_oldest_age_seconds",
            "seconds", ["processor"],
            "Age of the oldest of these records, also if an earlier process took it.",
            "On any shard; 0 if there is none. Far above the decision wait, what was kept finds no room behind.";
        PENDING_DISK_FOUND: Kind::Counter, Normal, "tracegate_tail_sampling_disk_found_records",
            "records", ["processor"],
            "Records that an earlier process left.";
        PENDING_DISK_RESTORED: Kind::Counter, Normal, "tracegate_tail_sampling_disk_restored_spans",
            "spans", ["processor"],
            "Spans of these records that were taken in again.",
            "They are `created` in the books. Some may belong to traces that were decided before, and come twice.";
        PENDING_DISK_CUT: Kind::Counter, Normal, "tracegate_tail_sampling_disk_cut_tails",
            "ends", ["processor"],
            "Torn ends of files that were cut off at the start.",
            "One after a kill in the middle of a write is usual, and nothing that was acknowledged.";
        PENDING_DISK_SKIPPED: Kind::Counter, Normal, "tracegate_tail_sampling_disk_skipped_records",
            "records", ["processor"],
            "Damaged records on disk that were passed over.",
            "The disk has changed bytes.";
        PENDING_DISK_NOT_WRITTEN: Kind::Counter, Normal, "tracegate_tail_sampling_disk_not_written_spans",
            "spans", ["processor"],
            "Undecided spans that could not be written to disk: in memory only.",
            "With `ack: durable` their senders are told to send them again.";
    }
}

/// What a sampler shows of the files that keep its undecided traces.
#[derive(Clone, Debug)]
pub struct PendingLogSeries {
    /// Bytes of its files; set by one shard only, because gauges are summed. So are the next two.
    pub bytes: Gauge,
    /// Records still needed.
    pub records: Gauge,
    /// Age of the oldest in seconds.
    pub oldest_age_seconds: Gauge,
    /// Records that an earlier process left.
    pub found: Counter,
    /// Torn ends.
    pub cut: Counter,
    /// Spans of these records that were taken in again.
    pub restored_spans: Counter,
    /// Damaged records.
    pub skipped: Counter,
    /// Spans that could not be written.
    pub not_written_spans: Counter,
}

impl PendingLogSeries {
    /// Declares the series of one processor.
    pub fn declare(schema: &mut Schema, processor_id: &str) -> PendingLogSeries {
        let own = [("processor", processor_id)];
        PendingLogSeries {
            bytes: schema.gauge(&PENDING_DISK_BYTES, &own),
            records: schema.gauge(&PENDING_DISK_RECORDS, &own),
            oldest_age_seconds: schema.gauge(&PENDING_DISK_OLDEST, &own),
            found: schema.counter(&PENDING_DISK_FOUND, &own),
            cut: schema.counter(&PENDING_DISK_CUT, &own),
            restored_spans: schema.counter(&PENDING_DISK_RESTORED, &own),
            skipped: schema.counter(&PENDING_DISK_SKIPPED, &own),
            not_written_spans: schema.counter(&PENDING_DISK_NOT_WRITTEN, &own),
        }
    }
}
