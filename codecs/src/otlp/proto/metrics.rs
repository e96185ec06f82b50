//! Messages of metrics (opentelemetry-proto, metrics/v1 and collector/metrics/v1).

use prost::{Message, Oneof};

use super::{InstrumentationScope, KeyValue, Resource};

/// `ExportMetricsServiceRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct ExportMetricsServiceRequest {
    /// Metrics by resource.
    #[prost(message, repeated, tag = "1")]
    pub resource_metrics: Vec<ResourceMetrics>,
}

/// `ResourceMetrics`.
#[derive(Clone, PartialEq, Message)]
pub struct ResourceMetrics {
    /// Who produced the metrics.
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    /// Metrics by instrumentation scope.
    #[prost(message, repeated, tag = "2")]
    pub scope_metrics: Vec<ScopeMetrics>,
    /// Schema of the resource.
    #[prost(bytes = "vec", tag = "3")]
    pub schema_url: Vec<u8>,
}

/// `ScopeMetrics`.
#[derive(Clone, PartialEq, Message)]
pub struct ScopeMetrics {
    /// Which library produced the metrics.
    #[prost(message, optional, tag = "1")]
    pub scope: Option<InstrumentationScope>,
    /// The metrics.
    #[prost(message, repeated, tag = "2")]
    pub metrics: Vec<Metric>,
    /// Schema of the scope and its metrics.
    #[prost(bytes = "vec", tag = "3")]
    pub schema_url: Vec<u8>,
}

/// `Metric`.
#[derive(Clone, PartialEq, Message)]
pub struct Metric {
    /// Name.
    #[prost(bytes = "vec", tag = "1")]
    pub name: Vec<u8>,
    /// For people.
    #[prost(bytes = "vec", tag = "2")]
    pub description: Vec<u8>,
    /// In UCUM.
    #[prost(bytes = "vec", tag = "3")]
    pub unit: Vec<u8>,
    /// The points.
    #[prost(oneof = "MetricData", tags = "5, 7, 9, 10, 11")]
    pub data: Option<MetricData>,
    /// Of the metric itself.
    #[prost(message, repeated, tag = "12")]
    pub metadata: Vec<KeyValue>,
}

/// `Metric.data`.
#[derive(Clone, PartialEq, Oneof)]
pub enum MetricData {
    /// Values of the moment.
    #[prost(message, tag = "5")]
    Gauge(Gauge),
    /// Sums.
    #[prost(message, tag = "7")]
    Sum(Sum),
    /// Counts between bounds.
    #[prost(message, tag = "9")]
    Histogram(Histogram),
    /// Counts between powers of a base.
    #[prost(message, tag = "10")]
    ExponentialHistogram(ExponentialHistogram),
    /// Quantiles computed by the sender.
    #[prost(message, tag = "11")]
    Summary(Summary),
}

/// `Gauge`.
#[derive(Clone, PartialEq, Message)]
pub struct Gauge {
    /// The points.
    #[prost(message, repeated, tag = "1")]
    pub data_points: Vec<NumberDataPoint>,
}

/// `Sum`.
#[derive(Clone, PartialEq, Message)]
pub struct Sum {
    /// The points.
    #[prost(message, repeated, tag = "1")]
    pub data_points: Vec<NumberDataPoint>,
    /// 1 delta, 2 cumulative.
    #[prost(int32, tag = "2")]
    pub aggregation_temporality: i32,
    /// Whether it never falls.
    #[prost(bool, tag = "3")]
    pub is_monotonic: bool,
}

/// `Histogram`.
#[derive(Clone, PartialEq, Message)]
pub struct Histogram {
    /// The points.
    #[prost(message, repeated, tag = "1")]
    pub data_points: Vec<HistogramDataPoint>,
    /// 1 delta, 2 cumulative.
    #[prost(int32, tag = "2")]
    pub aggregation_temporality: i32,
}

/// `ExponentialHistogram`.
#[derive(Clone, PartialEq, Message)]
pub struct ExponentialHistogram {
    /// The points.
    #[prost(message, repeated, tag = "1")]
    pub data_points: Vec<ExponentialHistogramDataPoint>,
    /// 1 delta, 2 cumulative.
    #[prost(int32, tag = "2")]
    pub aggregation_temporality: i32,
}

/// `Summary`.
#[derive(Clone, PartialEq, Message)]
pub struct Summary {
    /// The points.
    #[prost(message, repeated, tag = "1")]
    pub data_points: Vec<SummaryDataPoint>,
}

/// `NumberDataPoint`.
#[derive(Clone, PartialEq, Message)]
pub struct NumberDataPoint {
    /// What the value is of.
    #[prost(message, repeated, tag = "7")]
    pub attributes: Vec<KeyValue>,
    /// Since when it counts.
    #[prost(fixed64, tag = "2")]
    pub start_time_unix_nano: u64,
    /// When it was taken.
    #[prost(fixed64, tag = "3")]
    pub time_unix_nano: u64,
    /// The value.
    #[prost(oneof = "NumberValue", tags = "4, 6")]
    pub value: Option<NumberValue>,
    /// Measurements behind it.
    #[prost(message, repeated, tag = "5")]
    pub exemplars: Vec<Exemplar>,
    /// 1: there is no value.
    #[prost(uint32, tag = "8")]
    pub flags: u32,
}

/// `NumberDataPoint.value`.
#[derive(Clone, Copy, PartialEq, Oneof)]
pub enum NumberValue {
    /// Floating point number.
    #[prost(double, tag = "4")]
    AsDouble(f64),
    /// Whole number.
    #[prost(sfixed64, tag = "6")]
    AsInt(i64),
}

/// `HistogramDataPoint`.
#[derive(Clone, PartialEq, Message)]
pub struct HistogramDataPoint {
    /// What the counts are of.
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    /// Since when it counts.
    #[prost(fixed64, tag = "2")]
    pub start_time_unix_nano: u64,
    /// When it was taken.
    #[prost(fixed64, tag = "3")]
    pub time_unix_nano: u64,
    /// Measurements.
    #[prost(fixed64, tag = "4")]
    pub count: u64,
    /// Their sum.
    #[prost(double, optional, tag = "5")]
    pub sum: Option<f64>,
    /// Measurements up to each bound, and above the last.
    #[prost(fixed64, repeated, tag = "6")]
    pub bucket_counts: Vec<u64>,
    /// Rising.
    #[prost(double, repeated, tag = "7")]
    pub explicit_bounds: Vec<f64>,
    /// Measurements behind it.
    #[prost(message, repeated, tag = "8")]
    pub exemplars: Vec<Exemplar>,
    /// 1: there is no value.
    #[prost(uint32, tag = "10")]
    pub flags: u32,
    /// Least measurement.
    #[prost(double, optional, tag = "11")]
    pub min: Option<f64>,
    /// Largest measurement.
    #[prost(double, optional, tag = "12")]
    pub max: Option<f64>,
}

/// `ExponentialHistogramDataPoint`.
#[derive(Clone, PartialEq, Message)]
pub struct ExponentialHistogramDataPoint {
    /// What the counts are of.
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
    /// Since when it counts.
    #[prost(fixed64, tag = "2")]
    pub start_time_unix_nano: u64,
    /// When it was taken.
    #[prost(fixed64, tag = "3")]
    pub time_unix_nano: u64,
    /// Measurements.
    #[prost(fixed64, tag = "4")]
    pub count: u64,
    /// Their sum.
    #[prost(double, optional, tag = "5")]
    pub sum: Option<f64>,
    /// The base is `2^(2^-scale)`.
    #[prost(sint32, tag = "6")]
    pub scale: i32,
    /// Measurements at or near zero.
    #[prost(fixed64, tag = "7")]
    pub zero_count: u64,
    /// Of measurements above zero.
    #[prost(message, optional, tag = "8")]
    pub positive: Option<Buckets>,
    /// Of measurements below zero.
    #[prost(message, optional, tag = "9")]
    pub negative: Option<Buckets>,
    /// 1: there is no value.
    #[prost(uint32, tag = "10")]
    pub flags: u32,
    /// Measurements behind it.
    #[prost(message, repeated, tag = "11")]
    pub exemplars: Vec<Exemplar>,
    /// Least measurement.
    #[prost(double, optional, tag = "12")]
    pub min: Option<f64>,
    /// Largest measurement.
    #[prost(double, optional, tag = "13")]
    pub max: Option<f64>,
    /// How far from zero `zero_count` reaches.
    #[prost(double, tag = "14")]
    pub zero_threshold: f64,
}

/// `ExponentialHistogramDataPoint.Buckets`.
#[derive(Clone, PartialEq, Message)]
pub struct Buckets {
    /// Index of the first bucket.
    #[prost(sint32, tag = "1")]
    pub offset: i32,
    /// Measurements in each.
    #[prost(uint64, repeated, tag = "2")]
    pub bucket_counts: Vec<u64>,
}

/// `SummaryDataPoint`.
#[derive(Clone, PartialEq, Message)]
pub struct SummaryDataPoint {
    /// What the quantiles are of.
    #[prost(message, repeated, tag = "7")]
    pub attributes: Vec<KeyValue>,
    /// Since when it counts.
    #[prost(fixed64, tag = "2")]
    pub start_time_unix_nano: u64,
    /// When it was taken.
    #[prost(fixed64, tag = "3")]
    pub time_unix_nano: u64,
    /// Measurements.
    #[prost(fixed64, tag = "4")]
    pub count: u64,
    /// Their sum.
    #[prost(double, tag = "5")]
    pub sum: f64,
    /// Values at quantiles.
    #[prost(message, repeated, tag = "6")]
    pub quantile_values: Vec<ValueAtQuantile>,
    /// 1: there is no value.
    #[prost(uint32, tag = "8")]
    pub flags: u32,
}

/// `SummaryDataPoint.ValueAtQuantile`.
#[derive(Clone, PartialEq, Message)]
pub struct ValueAtQuantile {
    /// 0 to 1.
    #[prost(double, tag = "1")]
    pub quantile: f64,
    /// The value there.
    #[prost(double, tag = "2")]
    pub value: f64,
}

/// `Exemplar`.
#[derive(Clone, PartialEq, Message)]
pub struct Exemplar {
    /// Attributes of the measurement that its point does not have.
    #[prost(message, repeated, tag = "7")]
    pub filtered_attributes: Vec<KeyValue>,
    /// When it was measured.
    #[prost(fixed64, tag = "2")]
    pub time_unix_nano: u64,
    /// What was measured.
    #[prost(oneof = "ExemplarValue", tags = "3, 6")]
    pub value: Option<ExemplarValue>,
    /// 8 bytes, or none.
    #[prost(bytes = "vec", tag = "4")]
    pub span_id: Vec<u8>,
    /// 16 bytes, or none.
    #[prost(bytes = "vec", tag = "5")]
    pub trace_id: Vec<u8>,
}

/// `Exemplar.value`.
#[derive(Clone, Copy, PartialEq, Oneof)]
pub enum ExemplarValue {
    /// Floating point number.
    #[prost(double, tag = "3")]
    AsDouble(f64),
    /// Whole number.
    #[prost(sfixed64, tag = "6")]
    AsInt(i64),
}
