//! What a `span_metrics` connector shows of itself, beside the metrics that it makes.

use crate::config::checked::MetricsLevel::Basic;
use crate::telemetry::cells::{Counter, Gauge, Kind, Schema};

metrics! {
    SPAN_METRICS: "Metrics of spans", "`span_metrics` connectors",
        "What these connectors count stands behind all other metrics of the page, under the names that their \
         settings give ([span_metrics](components/connectors/span_metrics.md)), at every level but `none`, and \
         always as the sum over shards. Here is what they show of themselves.";
    for the gateway {
        SPAN_METRICS_OVERFLOWED: Kind::Counter, Basic, "tracegate_span_metrics_overflowed_spans",
            "spans", ["connector"],
            "Spans counted in the series of all that came when there was no room for another series.",
            "They are in the series with `otel_metric_overflow=\"true\"`.";
        SPAN_METRICS_FULLEST: Kind::Highest, Basic, "tracegate_span_metrics_series_of_fullest_shard",
            "series", ["connector"],
            "Series that the shard with the most of them holds.",
            "Its bound is `aggregation_cardinality_limit`.";
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
