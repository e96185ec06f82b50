//! What a `batch` processor counts: how large its batches are, and what made it send them.

use super::bounds::{BATCH_SPANS, REQUEST_BYTES};
use crate::config::checked::MetricsLevel::{Detailed, Normal};
use crate::telemetry::cells::{Counter, Gauge, Histogram, Kind, Schema};

metrics! {
    BATCHES: "Batches", "`batch`",
        "";
    for the gateway {
        BATCH_SEND_SIZE: Kind::Histogram(&BATCH_SPANS), Normal, "otelcol_processor_batch_batch_send_size",
            "items", ["processor"],
            "Items of a batch when it is sent.";
        BATCH_SEND_SIZE_BYTES: Kind::Histogram(&REQUEST_BYTES), Detailed, "otelcol_processor_batch_batch_send_size_bytes",
            "bytes", ["processor"],
            "Bytes of a batch when it is sent.";
        BATCH_SIZE_TRIGGER_SEND: Kind::Counter, Normal, "otelcol_processor_batch_batch_size_trigger_send",
            "batches", ["processor"],
            "Batches sent because they were large enough.";
        BATCH_METADATA_CARDINALITY: Kind::Highest, Normal, "otelcol_processor_batch_metadata_cardinality",
            "combinations", ["processor"],
            "Combinations of client metadata that are kept apart, on the shard with the most.";
        BATCH_TIMEOUT_TRIGGER_SEND: Kind::Counter, Normal, "otelcol_processor_batch_timeout_trigger_send",
            "batches", ["processor"],
            "Batches sent because their time was over.";
    }
}

/// What a batch processor counts besides [`super::ProcessorSeries`].
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
