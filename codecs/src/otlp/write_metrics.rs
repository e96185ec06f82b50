//! Metrics as the bytes of an ExportMetricsServiceRequest, for metrics that are made here.
//!
//! The one idea: the caller goes from the innermost part outwards. It writes points into a [`Points`], puts them into a
//! metric, metrics into a resource, resources into the request; each step adds a tag and a length in front of bytes that
//! are complete. Nothing is decoded and no struct per point is made. Field numbers are those of opentelemetry-proto
//! (metrics/v1). Times are nanoseconds since 1970, and given.

use crate::wire::{WireType, length_field_length, varint_length, write_length_field, write_length_prefix, write_tag};
use crate::wire::{write_varint, write_varint_field};

/// What the points of a metric are relative to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temporality {
    /// To the point before: each value is new.
    Delta,
    /// To the start time: each value contains those before.
    Cumulative,
}

impl Temporality {
    fn number(self) -> u64 {
        match self {
            Self::Delta => 1,
            Self::Cumulative => 2,
        }
    }
}

/// The span of time that a point speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PointTime {
    /// When its count began.
    pub start_unix_ns: u64,
    /// When it was read.
    pub time_unix_ns: u64,
}

/// An attribute of a point: its name and the bytes of its AnyValue.
pub type PointAttribute<'a> = (&'a str, &'a [u8]);

/// Points of one metric, as bytes. One kind of point each; reused by clearing.
#[derive(Clone, Debug, Default)]
pub struct Points {
    bytes: Vec<u8>,
    point: Vec<u8>,
}

/// Buckets of a histogram between explicit bounds.
#[derive(Clone, Copy, Debug)]
pub struct ExplicitBuckets<'a> {
    /// Upper bounds, ascending, in the metric's unit.
    pub bounds: &'a [f64],
    /// One more than bounds.
    pub counts: &'a [u64],
}

/// Buckets of an exponential histogram of values above zero: number `offset + i` holds the values above
/// `2^((offset + i) / 2^scale)` up to and with the next bound.
#[derive(Clone, Copy, Debug)]
pub struct ExponentialBuckets<'a> {
    /// -10 to 20.
    pub scale: i32,
    /// Number of the first bucket.
    pub offset: i32,
    /// Without gaps.
    pub counts: &'a [u64],
    /// Values that were 0.
    pub zero_count: u64,
}

impl Points {
    /// Whether there is no point.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Adds a NumberDataPoint with a whole number. A value above `i64::MAX`, which OTLP cannot say, is written as that.
    pub fn number<'a>(&mut self, attributes: impl Iterator<Item = PointAttribute<'a>>, time: PointTime, value: u64) {
        self.begin(7, attributes, time);
        write_fixed64(&mut self.point, 6, value.min(i64::MAX as u64));
        self.end();
    }

    /// Adds a HistogramDataPoint. `sum` is in the metric's unit.
    pub fn explicit<'a>(
        &mut self,
        attributes: impl Iterator<Item = PointAttribute<'a>>,
        time: PointTime,
        sum: f64,
        buckets: ExplicitBuckets<'_>,
    ) {
        assert_eq!(buckets.counts.len(), buckets.bounds.len() + 1, "one bucket lies above the last bound");
        self.begin(9, attributes, time);
        write_fixed64(&mut self.point, 4, buckets.counts.iter().sum());
        write_fixed64(&mut self.point, 5, sum.to_bits());
        write_length_prefix(&mut self.point, 6, 8 * buckets.counts.len());
        self.point.extend(buckets.counts.iter().flat_map(|count| count.to_le_bytes()));
        write_length_prefix(&mut self.point, 7, 8 * buckets.bounds.len());
        self.point.extend(buckets.bounds.iter().flat_map(|bound| bound.to_le_bytes()));
        self.end();
    }

    /// Adds an ExponentialHistogramDataPoint. `sum` is in the metric's unit.
    pub fn exponential<'a>(
        &mut self,
        attributes: impl Iterator<Item = PointAttribute<'a>>,
        time: PointTime,
        sum: f64,
        buckets: ExponentialBuckets<'_>,
    ) {
        self.begin(1, attributes, time);
        let count = buckets.counts.iter().sum::<u64>() + buckets.zero_count;
        write_fixed64(&mut self.point, 4, count);
        write_fixed64(&mut self.point, 5, sum.to_bits());
        write_varint_field(&mut self.point, 6, zigzag(buckets.scale));
        write_fixed64(&mut self.point, 7, buckets.zero_count);
        if !buckets.counts.is_empty() {
            let counts: usize = buckets.counts.iter().map(|&count| varint_length(count)).sum();
            let offset = zigzag(buckets.offset);
            let length = 1 + varint_length(offset) + length_field_length(2, counts);
            write_length_prefix(&mut self.point, 8, length);
            write_varint_field(&mut self.point, 1, offset);
            write_length_prefix(&mut self.point, 2, counts);
            for &count in buckets.counts {
                write_varint(&mut self.point, count);
            }
        }
        self.end();
    }

    /// Begins a point whose attributes have this field number; its times have the same numbers in every kind of point.
    fn begin<'a>(&mut self, number: u32, attributes: impl Iterator<Item = PointAttribute<'a>>, time: PointTime) {
        self.point.clear();
        for (name, value) in attributes {
            write_attribute(&mut self.point, number, name, value);
        }
        write_fixed64(&mut self.point, 2, time.start_unix_ns);
        write_fixed64(&mut self.point, 3, time.time_unix_ns);
    }

    fn end(&mut self) {
        write_length_field(&mut self.bytes, 1, &self.point);
    }

    /// Ends a sum that only grows.
    #[must_use]
    pub fn into_sum(mut self, temporality: Temporality) -> MetricPoints {
        write_varint_field(&mut self.bytes, 2, temporality.number());
        write_varint_field(&mut self.bytes, 3, 1);
        MetricPoints { number: 7, bytes: self.bytes }
    }

    /// Ends a histogram of [`Self::explicit`] points.
    #[must_use]
    pub fn into_histogram(mut self, temporality: Temporality) -> MetricPoints {
        write_varint_field(&mut self.bytes, 2, temporality.number());
        MetricPoints { number: 9, bytes: self.bytes }
    }

    /// Ends a histogram of [`Self::exponential`] points.
    #[must_use]
    pub fn into_exponential_histogram(mut self, temporality: Temporality) -> MetricPoints {
        write_varint_field(&mut self.bytes, 2, temporality.number());
        MetricPoints { number: 10, bytes: self.bytes }
    }
}

/// All points of a metric, with what kind they are.
#[derive(Clone, Debug)]
pub struct MetricPoints {
    /// Field of Metric.
    number: u32,
    bytes: Vec<u8>,
}

/// Appends a Metric to the metrics of a resource. Without a unit `unit` is empty.
pub fn write_metric(metrics: &mut Vec<u8>, name: &str, unit: &str, points: &MetricPoints) {
    let mut length = length_field_length(1, name.len()) + length_field_length(points.number, points.bytes.len());
    if !unit.is_empty() {
        length += length_field_length(3, unit.len());
    }
    write_length_prefix(metrics, 2, length);
    write_length_field(metrics, 1, name.as_bytes());
    if !unit.is_empty() {
        write_length_field(metrics, 3, unit.as_bytes());
    }
    write_length_field(metrics, points.number, &points.bytes);
}

/// Appends a ResourceMetrics to the request: the attributes of the resource, and what [`write_metric`] wrote, all of the
/// scope `scope`.
pub fn write_resource_metrics<'a>(
    request: &mut Vec<u8>,
    attributes: impl Iterator<Item = PointAttribute<'a>>,
    scope: &str,
    metrics: &[u8],
) {
    let mut resource = Vec::new();
    for (name, value) in attributes {
        write_attribute(&mut resource, 1, name, value);
    }
    let scope_body = length_field_length(1, scope.len());
    let scope_metrics = length_field_length(1, scope_body) + metrics.len();
    let length = length_field_length(1, resource.len()) + length_field_length(2, scope_metrics);
    write_length_prefix(request, 1, length);
    write_length_field(request, 1, &resource);
    write_length_prefix(request, 2, scope_metrics);
    write_length_prefix(request, 1, scope_body);
    write_length_field(request, 1, scope.as_bytes());
    request.extend_from_slice(metrics);
}

/// The bytes of an AnyValue that holds a text.
pub fn write_text_value(out: &mut Vec<u8>, text: &[u8]) {
    write_length_field(out, 1, text);
}

fn write_attribute(out: &mut Vec<u8>, number: u32, name: &str, value: &[u8]) {
    let length = length_field_length(1, name.len()) + length_field_length(2, value.len());
    write_length_prefix(out, number, length);
    write_length_field(out, 1, name.as_bytes());
    write_length_field(out, 2, value);
}

fn write_fixed64(out: &mut Vec<u8>, number: u32, bits: u64) {
    write_tag(out, number, WireType::Fixed64);
    out.extend_from_slice(&bits.to_le_bytes());
}

/// A signed number in the order 0, -1, 1, -2, so that small ones are short (`sint32`).
fn zigzag(number: i32) -> u64 {
    u64::from(((number << 1) ^ (number >> 31)) as u32)
}

#[cfg(test)]
mod tests {
    use prost::{Message, Oneof};

    use super::super::proto::{AnyValue, InstrumentationScope, KeyValue, Resource, Value};
    use super::*;

    // Decoded by another implementation of the format: prost, with the field numbers of metrics/v1.
    #[derive(Clone, PartialEq, Message)]
    struct Request {
        #[prost(message, repeated, tag = "1")]
        resource_metrics: Vec<ResourceMetrics>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct ResourceMetrics {
        #[prost(message, optional, tag = "1")]
        resource: Option<Resource>,
        #[prost(message, repeated, tag = "2")]
        scope_metrics: Vec<ScopeMetrics>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct ScopeMetrics {
        #[prost(message, optional, tag = "1")]
        scope: Option<InstrumentationScope>,
        #[prost(message, repeated, tag = "2")]
        metrics: Vec<Metric>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Metric {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(string, tag = "3")]
        unit: String,
        #[prost(oneof = "Contents", tags = "7, 9, 10")]
        contents: Option<Contents>,
    }

    #[derive(Clone, PartialEq, Oneof)]
    enum Contents {
        #[prost(message, tag = "7")]
        Sum(Sum),
        #[prost(message, tag = "9")]
        Histogram(Histogram),
        #[prost(message, tag = "10")]
        Exponential(Exponential),
    }

    #[derive(Clone, PartialEq, Message)]
    struct Sum {
        #[prost(message, repeated, tag = "1")]
        points: Vec<NumberPoint>,
        #[prost(int32, tag = "2")]
        temporality: i32,
        #[prost(bool, tag = "3")]
        is_monotonic: bool,
    }

    #[derive(Clone, PartialEq, Message)]
    struct NumberPoint {
        #[prost(message, repeated, tag = "7")]
        attributes: Vec<KeyValue>,
        #[prost(fixed64, tag = "2")]
        start: u64,
        #[prost(fixed64, tag = "3")]
        time: u64,
        #[prost(sfixed64, tag = "6")]
        value: i64,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Histogram {
        #[prost(message, repeated, tag = "1")]
        points: Vec<HistogramPoint>,
        #[prost(int32, tag = "2")]
        temporality: i32,
    }

    #[derive(Clone, PartialEq, Message)]
    struct HistogramPoint {
        #[prost(message, repeated, tag = "9")]
        attributes: Vec<KeyValue>,
        #[prost(fixed64, tag = "2")]
        start: u64,
        #[prost(fixed64, tag = "3")]
        time: u64,
        #[prost(fixed64, tag = "4")]
        count: u64,
        #[prost(double, tag = "5")]
        sum: f64,
        #[prost(fixed64, repeated, tag = "6")]
        counts: Vec<u64>,
        #[prost(double, repeated, tag = "7")]
        bounds: Vec<f64>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Exponential {
        #[prost(message, repeated, tag = "1")]
        points: Vec<ExponentialPoint>,
        #[prost(int32, tag = "2")]
        temporality: i32,
    }

    #[derive(Clone, PartialEq, Message)]
    struct ExponentialPoint {
        #[prost(message, repeated, tag = "1")]
        attributes: Vec<KeyValue>,
        #[prost(fixed64, tag = "2")]
        start: u64,
        #[prost(fixed64, tag = "3")]
        time: u64,
        #[prost(fixed64, tag = "4")]
        count: u64,
        #[prost(double, tag = "5")]
        sum: f64,
        #[prost(sint32, tag = "6")]
        scale: i32,
        #[prost(fixed64, tag = "7")]
        zero_count: u64,
        #[prost(message, optional, tag = "8")]
        positive: Option<Buckets>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Buckets {
        #[prost(sint32, tag = "1")]
        offset: i32,
        #[prost(uint64, repeated, tag = "2")]
        counts: Vec<u64>,
    }

    const TIME: PointTime = PointTime { start_unix_ns: 7, time_unix_ns: 9 };

    fn text(key: &str, value: &str) -> KeyValue {
        KeyValue { key: key.into(), value: Some(AnyValue { value: Some(Value::String(value.into())) }) }
    }

    fn any_value(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        write_text_value(&mut out, text.as_bytes());
        out
    }

    #[test]
    fn a_request_of_every_kind_of_metric_is_read_back_as_it_was_meant() {
        let (shop, get, long) = (any_value("shop"), any_value("GET"), any_value(&"x".repeat(300)));
        let attributes = || [("span.name", &get[..]), ("other", &long[..])].into_iter();
        let mut numbers = Points::default();
        numbers.number(attributes(), TIME, 5);
        numbers.number(std::iter::empty(), TIME, u64::MAX);
        let mut explicit = Points::default();
        let bounds = [0.5, 1.0];
        explicit.explicit(attributes(), TIME, 3.25, ExplicitBuckets { bounds: &bounds, counts: &[1, 0, 300] });
        let mut exponential = Points::default();
        let buckets = ExponentialBuckets { scale: -3, offset: -200, counts: &[1, 0, 1 << 40], zero_count: 2 };
        exponential.exponential(attributes(), TIME, 0.1, buckets);
        let none = ExponentialBuckets { scale: 20, offset: 0, counts: &[], zero_count: 1 };
        exponential.exponential(std::iter::empty(), TIME, 0.0, none);

        let mut metrics = Vec::new();
        write_metric(&mut metrics, "calls", "", &numbers.into_sum(Temporality::Cumulative));
        write_metric(&mut metrics, "duration", "ms", &explicit.into_histogram(Temporality::Delta));
        let points = exponential.into_exponential_histogram(Temporality::Cumulative);
        write_metric(&mut metrics, "duration", "s", &points);
        let mut bytes = Vec::new();
        write_resource_metrics(&mut bytes, [("service.name", &shop[..])].into_iter(), "spans", &metrics);
        write_resource_metrics(&mut bytes, std::iter::empty(), "spans", &[]);

        let long = "x".repeat(300);
        let both = vec![text("span.name", "GET"), text("other", &long)];
        let metric = |name: &str, unit: &str, contents| Metric {
            name: name.into(),
            unit: unit.into(),
            contents: Some(contents),
        };
        let number = |attributes, value| NumberPoint { attributes, start: 7, time: 9, value };
        let sum = Sum {
            points: vec![number(both.clone(), 5), number(Vec::new(), i64::MAX)],
            temporality: 2,
            is_monotonic: true,
        };
        let histogram = HistogramPoint {
            attributes: both.clone(),
            start: 7,
            time: 9,
            count: 301,
            sum: 3.25,
            counts: vec![1, 0, 300],
            bounds: vec![0.5, 1.0],
        };
        let point = ExponentialPoint {
            attributes: both,
            start: 7,
            time: 9,
            count: (1 << 40) + 3,
            sum: 0.1,
            scale: -3,
            zero_count: 2,
            positive: Some(Buckets { offset: -200, counts: vec![1, 0, 1 << 40] }),
        };
        let zeros = ExponentialPoint { start: 7, time: 9, count: 1, scale: 20, zero_count: 1, ..Default::default() };
        let scope = Some(InstrumentationScope { name: b"spans".to_vec(), ..Default::default() });
        let resource = |attributes| Some(Resource { attributes, dropped_attributes_count: 0 });
        let metrics = vec![
            metric("calls", "", Contents::Sum(sum)),
            metric("duration", "ms", Contents::Histogram(Histogram { points: vec![histogram], temporality: 1 })),
            metric("duration", "s", Contents::Exponential(Exponential { points: vec![point, zeros], temporality: 2 })),
        ];
        let first = ResourceMetrics {
            resource: resource(vec![text("service.name", "shop")]),
            scope_metrics: vec![ScopeMetrics { scope: scope.clone(), metrics }],
        };
        let second = ResourceMetrics {
            resource: resource(Vec::new()),
            scope_metrics: vec![ScopeMetrics { scope, metrics: Vec::new() }],
        };
        assert_eq!(Request::decode(&bytes[..]).unwrap(), Request { resource_metrics: vec![first, second] });
    }
}
