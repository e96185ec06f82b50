//! Which JSON name is which protobuf field of a metrics export (opentelemetry-proto metrics/v1, collector/metrics/v1).

use super::schema::{KEY_VALUE, Kind, Message, PLAIN, RESOURCE, SCOPE, field};

/// ExportMetricsServiceRequest.
pub(super) static REQUEST: Message = Message {
    name: "an ExportMetricsServiceRequest",
    fields: &[field!("resourceMetrics", "resource_metrics", 1, Kind::Many(&RESOURCE_METRICS))],
    // A count of a bucket, a digit and a comma in JSON, takes eight bytes.
    growth_max: 4,
    ..PLAIN
};

static RESOURCE_METRICS: Message = Message {
    name: "ResourceMetrics",
    fields: &[
        field!("resource", "resource", 1, Kind::One(&RESOURCE)),
        field!("scopeMetrics", "scope_metrics", 2, Kind::Many(&SCOPE_METRICS)),
        field!("schemaUrl", "schema_url", 3, Kind::Text),
    ],
    length_bytes: 3,
    ..PLAIN
};

static SCOPE_METRICS: Message = Message {
    name: "ScopeMetrics",
    fields: &[
        field!("scope", "scope", 1, Kind::One(&SCOPE)),
        field!("metrics", "metrics", 2, Kind::Many(&METRIC)),
        field!("schemaUrl", "schema_url", 3, Kind::Text),
    ],
    length_bytes: 3,
    ..PLAIN
};

static METRIC: Message = Message {
    name: "a Metric",
    fields: &[
        field!("name", "name", 1, Kind::Text),
        field!("description", "description", 2, Kind::Text),
        field!("unit", "unit", 3, Kind::Text),
        field!("gauge", "gauge", 5, Kind::One(&GAUGE)),
        field!("sum", "sum", 7, Kind::One(&SUM)),
        field!("histogram", "histogram", 9, Kind::One(&HISTOGRAM)),
        field!("exponentialHistogram", "exponential_histogram", 10, Kind::One(&EXPONENTIAL_HISTOGRAM)),
        field!("summary", "summary", 11, Kind::One(&SUMMARY)),
        field!("metadata", "metadata", 12, Kind::Many(&KEY_VALUE)),
    ],
    length_bytes: 2,
    ..PLAIN
};

const TEMPORALITIES: [&str; 3] =
    ["AGGREGATION_TEMPORALITY_UNSPECIFIED", "AGGREGATION_TEMPORALITY_DELTA", "AGGREGATION_TEMPORALITY_CUMULATIVE"];

static GAUGE: Message = Message {
    name: "a Gauge",
    fields: &[field!("dataPoints", "data_points", 1, Kind::Many(&NUMBER_POINT))],
    length_bytes: 2,
    ..PLAIN
};

static SUM: Message = Message {
    name: "a Sum",
    fields: &[
        field!("dataPoints", "data_points", 1, Kind::Many(&NUMBER_POINT)),
        field!("aggregationTemporality", "aggregation_temporality", 2, Kind::Enum(&TEMPORALITIES)),
        field!("isMonotonic", "is_monotonic", 3, Kind::Bool),
    ],
    length_bytes: 2,
    ..PLAIN
};

static HISTOGRAM: Message = Message {
    name: "a Histogram",
    fields: &[
        field!("dataPoints", "data_points", 1, Kind::Many(&HISTOGRAM_POINT)),
        field!("aggregationTemporality", "aggregation_temporality", 2, Kind::Enum(&TEMPORALITIES)),
    ],
    length_bytes: 2,
    ..PLAIN
};

static EXPONENTIAL_HISTOGRAM: Message = Message {
    name: "an ExponentialHistogram",
    fields: &[
        field!("dataPoints", "data_points", 1, Kind::Many(&EXPONENTIAL_POINT)),
        field!("aggregationTemporality", "aggregation_temporality", 2, Kind::Enum(&TEMPORALITIES)),
    ],
    length_bytes: 2,
    ..PLAIN
};

static SUMMARY: Message = Message {
    name: "a Summary",
    fields: &[field!("dataPoints", "data_points", 1, Kind::Many(&SUMMARY_POINT))],
    length_bytes: 2,
    ..PLAIN
};

static NUMBER_POINT: Message = Message {
    name: "a NumberDataPoint",
    fields: &[
        field!("attributes", "attributes", 7, Kind::Many(&KEY_VALUE)),
        field!("startTimeUnixNano", "start_time_unix_nano", 2, Kind::Fixed64),
        field!("timeUnixNano", "time_unix_nano", 3, Kind::Fixed64),
        field!("asDouble", "as_double", 4, Kind::Double),
        field!("asInt", "as_int", 6, Kind::SignedFixed64),
        field!("exemplars", "exemplars", 5, Kind::Many(&EXEMPLAR)),
        field!("flags", "flags", 8, Kind::Uint32),
    ],
    length_bytes: 2,
    ..PLAIN
};

static HISTOGRAM_POINT: Message = Message {
    name: "a HistogramDataPoint",
    fields: &[
        field!("attributes", "attributes", 9, Kind::Many(&KEY_VALUE)),
        field!("startTimeUnixNano", "start_time_unix_nano", 2, Kind::Fixed64),
        field!("timeUnixNano", "time_unix_nano", 3, Kind::Fixed64),
        field!("count", "count", 4, Kind::Fixed64),
        field!("sum", "sum", 5, Kind::Double),
        field!("bucketCounts", "bucket_counts", 6, Kind::Fixed64s),
        field!("explicitBounds", "explicit_bounds", 7, Kind::Doubles),
        field!("exemplars", "exemplars", 8, Kind::Many(&EXEMPLAR)),
        field!("flags", "flags", 10, Kind::Uint32),
        field!("min", "min", 11, Kind::Double),
        field!("max", "max", 12, Kind::Double),
    ],
    length_bytes: 2,
    ..PLAIN
};

static EXPONENTIAL_POINT: Message = Message {
    name: "an ExponentialHistogramDataPoint",
    fields: &[
        field!("attributes", "attributes", 1, Kind::Many(&KEY_VALUE)),
        field!("startTimeUnixNano", "start_time_unix_nano", 2, Kind::Fixed64),
        field!("timeUnixNano", "time_unix_nano", 3, Kind::Fixed64),
        field!("count", "count", 4, Kind::Fixed64),
        field!("sum", "sum", 5, Kind::Double),
        field!("scale", "scale", 6, Kind::Sint32),
        field!("zeroCount", "zero_count", 7, Kind::Fixed64),
        field!("positive", "positive", 8, Kind::One(&BUCKETS)),
        field!("negative", "negative", 9, Kind::One(&BUCKETS)),
        field!("flags", "flags", 10, Kind::Uint32),
        field!("exemplars", "exemplars", 11, Kind::Many(&EXEMPLAR)),
        field!("min", "min", 12, Kind::Double),
        field!("max", "max", 13, Kind::Double),
        field!("zeroThreshold", "zero_threshold", 14, Kind::Double),
    ],
    length_bytes: 2,
    ..PLAIN
};

static BUCKETS: Message = Message {
    name: "Buckets",
    fields: &[field!("offset", "offset", 1, Kind::Sint32), field!("bucketCounts", "bucket_counts", 2, Kind::Uint64s)],
    ..PLAIN
};

static SUMMARY_POINT: Message = Message {
    name: "a SummaryDataPoint",
    fields: &[
        field!("attributes", "attributes", 7, Kind::Many(&KEY_VALUE)),
        field!("startTimeUnixNano", "start_time_unix_nano", 2, Kind::Fixed64),
        field!("timeUnixNano", "time_unix_nano", 3, Kind::Fixed64),
        field!("count", "count", 4, Kind::Fixed64),
        field!("sum", "sum", 5, Kind::Double),
        field!("quantileValues", "quantile_values", 6, Kind::Many(&QUANTILE)),
        field!("flags", "flags", 8, Kind::Uint32),
    ],
    length_bytes: 2,
    ..PLAIN
};

static QUANTILE: Message = Message {
    name: "a ValueAtQuantile",
    fields: &[field!("quantile", "quantile", 1, Kind::Double), field!("value", "value", 2, Kind::Double)],
    ..PLAIN
};

static EXEMPLAR: Message = Message {
    name: "an Exemplar",
    fields: &[
        field!("filteredAttributes", "filtered_attributes", 7, Kind::Many(&KEY_VALUE)),
        field!("timeUnixNano", "time_unix_nano", 2, Kind::Fixed64),
        field!("asDouble", "as_double", 3, Kind::Double),
        field!("asInt", "as_int", 6, Kind::SignedFixed64),
        field!("spanId", "span_id", 4, Kind::Id(8)),
        field!("traceId", "trace_id", 5, Kind::Id(16)),
    ],
    ..PLAIN
};
