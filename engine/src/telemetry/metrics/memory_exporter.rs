//! What a `memory` exporter shows of the traces it keeps.

use crate::config::checked::MetricsLevel::Normal;
use crate::telemetry::cells::{Counter, Gauge, Kind, Schema};

metrics! {
    KEPT: "Traces kept in memory", "`memory` exporters",
        "";
    for the gateway {
        KEPT_TRACES: Kind::Gauge, Normal, "tracegate_kept_traces",
            "traces", ["exporter"],
            "Traces held by the memory exporter.";
        KEPT_BYTES: Kind::Gauge, Normal, "tracegate_kept_bytes",
            "bytes", ["exporter"],
            "Bytes held by the memory exporter.";
        KEPT_TRACES_EVICTED: Kind::Counter, Normal, "tracegate_kept_traces_evicted",
            "traces", ["exporter"],
            "Traces the memory exporter gave up for younger ones.";
        KEPT_SPANS_LEFT_OUT: Kind::Counter, Normal, "tracegate_kept_spans_left_out",
            "spans", ["exporter"],
            "Spans the memory exporter did not keep because their trace was too large.";
    }
}

/// What a memory exporter counts besides [`super::ExporterSeries`].
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
