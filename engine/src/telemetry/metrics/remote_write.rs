//! What a remote write exporter counts: samples that left, and points that could not become any.

use crate::config::checked::MetricsLevel::{Basic, Normal};
use crate::telemetry::cells::{Counter, Gauge, Kind, Schema};

metrics! {
    REMOTE_WRITE: "Prometheus remote write", "`prometheusremotewrite`",
        "Each dropped metric is also named once in the log, with what to do.";
    for the gateway {
        REMOTE_WRITE_FAILED: Kind::Counter, Normal, "otelcol_exporter_prometheusremotewrite_failed_translations",
            "data points", ["exporter"],
            "Data points that could not become samples.";
        REMOTE_WRITE_SERIES: Kind::Counter, Normal, "otelcol_exporter_prometheusremotewrite_translated_time_series",
            "series", ["exporter"],
            "Series in requests, each request counting its own.";
        REMOTE_WRITE_BATCHES: Kind::Counter, Normal, "otelcol_exporter_prometheusremotewrite_sent_batches",
            "requests", ["exporter"],
            "Remote write requests that were answered with success.";
        REMOTE_WRITE_SAMPLES: Kind::Counter, Normal, "otelcol_exporter_prometheusremotewrite_written_samples",
            "samples", ["exporter"],
            "Samples in requests that were answered with success.";
        REMOTE_WRITE_HISTOGRAMS: Kind::Counter, Normal, "otelcol_exporter_prometheusremotewrite_written_histograms",
            "histograms", ["exporter"],
            "Native histograms in requests that were answered with success.";
        REMOTE_WRITE_EXEMPLARS: Kind::Counter, Normal, "otelcol_exporter_prometheusremotewrite_written_exemplars",
            "exemplars", ["exporter"],
            "Exemplars in requests that were answered with success.";
        REMOTE_WRITE_DROPPED: Kind::Counter, Basic, "tracegate_remote_write_dropped_points",
            "data points", ["exporter", "reason"],
            "Data points that could not become samples, by reason.",
            "`reason`: `name`, `delta`, `temporality`, `empty`, `buckets`, `scale`, `labels`, `replaced`, \
             `delta_order`, `delta_limit`.";
        REMOTE_WRITE_REJECTED: Kind::Counter, Basic, "tracegate_remote_write_rejected_points",
            "data points", ["exporter", "status"],
            "Data points in requests that the backend will never take, by status.";
        REMOTE_WRITE_CACHE_BYTES: Kind::Gauge, Normal, "tracegate_remote_write_label_cache_bytes",
            "bytes", ["exporter"],
            "Bytes of label sets that are remembered.";
        REMOTE_WRITE_DELTA_BYTES: Kind::Gauge, Normal, "tracegate_remote_write_delta_bytes",
            "bytes", ["exporter"],
            "Bytes of what deltas were added up to.",
            "With `delta_to_cumulative`.";
        REMOTE_WRITE_CACHE_CLEARS: Kind::Counter, Normal, "tracegate_remote_write_label_cache_clears",
            "times", ["exporter"],
            "How often the label cache was full and was emptied.",
            "More series than it holds, or an attack.";
        REMOTE_WRITE_BUILT: Kind::Counter, Normal, "tracegate_remote_write_label_sets_built",
            "label sets", ["exporter"],
            "Label sets that were not remembered and had to be built.";
    }
}

/// What a remote write exporter counts besides [`super::ExporterSeries`].
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
