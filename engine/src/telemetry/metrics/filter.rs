//! What a `filter` counts: items it dropped as it was told, and conditions that failed.

use crate::config::checked::MetricsLevel::Normal;
use crate::telemetry::cells::{Counter, Kind, Schema};
use codecs::otlp::Signal;

metrics! {
    FILTERS: "Filters", "`filter`",
        "";
    for the gateway {
        FILTER_SPANS_FILTERED: Kind::Counter, Normal, "otelcol_processor_filter_spans_filtered",
            "spans", ["processor"],
            "Spans that a filter dropped.";
        FILTER_POINTS_FILTERED: Kind::Counter, Normal, "otelcol_processor_filter_datapoints_filtered",
            "data points", ["processor"],
            "Data points that a filter dropped.",
            "Alone or with their metric.";
        FILTER_LOGS_FILTERED: Kind::Counter, Normal, "otelcol_processor_filter_logs_filtered",
            "log records", ["processor"],
            "Log records that a filter dropped.";
        FILTER_CONDITION_FAILURES: Kind::Counter, Normal, "tracegate_filter_condition_failures",
            "items", ["processor"],
            "Items on which a condition failed and counted as not true.";
    }
}

/// What a filter counts besides [`super::ProcessorSeries`].
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
