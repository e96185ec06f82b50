//! The second book of the ledger: what became of the items of each pipeline on their way to each exporter.

use crate::config::checked::MetricsLevel::Basic;
use crate::telemetry::cells::{Counter, Gauge, Kind, Schema};
use codecs::otlp::Signal;

metrics! {
    PIPELINES: "The ledger", "every pipeline and exporter",
        "`accepted + created = delivered + dropped + shed + failed + in flight`. A span on its way to two exporters \
         is in two books.";
    for each signal {
        PIPELINE_ACCEPTED: Kind::Counter, Basic, "tracegate_pipeline_accepted",
            ["pipeline", "exporter"],
            "that entered the pipeline on their way to this exporter.";
        PIPELINE_CREATED: Kind::Counter, Basic, "tracegate_pipeline_created",
            ["pipeline", "exporter"],
            "that a processor made.";
        PIPELINE_DELIVERED: Kind::Counter, Basic, "tracegate_pipeline_delivered",
            ["pipeline", "exporter"],
            "the exporter delivered.";
        PIPELINE_DROPPED: Kind::Counter, Basic, "tracegate_pipeline_dropped",
            ["pipeline", "exporter"],
            "dropped by policy.";
        PIPELINE_SHED: Kind::Counter, Basic, "tracegate_pipeline_shed",
            ["pipeline", "exporter"],
            "given up by overload.";
        PIPELINE_FAILED: Kind::Counter, Basic, "tracegate_pipeline_failed",
            ["pipeline", "exporter"],
            "that could not be delivered.";
        PIPELINE_IN_FLIGHT: Kind::Gauge, Basic, "tracegate_pipeline_in_flight",
            ["pipeline", "exporter"],
            "held by nodes, rings, the queue or an export.";
        PIPELINE_KEPT: Kind::Gauge, Basic, "tracegate_pipeline_kept_on_disk",
            ["pipeline", "exporter"],
            "of those held that the durable queue keeps for the next start.",
            "0 until a drain gives up.";
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
