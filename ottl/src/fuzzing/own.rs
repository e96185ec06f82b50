//! The twin's item itself: a span, a log record or a metric as structs, and the statements that only such items take.

mod merge;

use codecs::otlp::proto;
use prost::Message;

use super::{Choices, from_value, id, text, to_value};
use crate::{Context, Fault, Field, Value};

/// Statements with holes on log records.
pub(super) const LOG_TEMPLATES: &[&str] = &[
    r#"set(body, VALUE)"#,
    r#"set(body, attributes)"#,
    r#"set(body, body)"#,
    r#"set(body["KEY"], VALUE)"#,
    r#"set(body["KEY"]["x"], VALUE)"#,
    r#"set(body[0], VALUE)"#,
    r#"set(body.string, "KEY")"#,
    r#"set(body["KEY"], SHA256(body["KEY"]))"#,
    r#"set(body, SHA256(body))"#,
    r#"set(attributes["KEY"], body)"#,
    r#"set(attributes["KEY"], body["KEY"])"#,
    r#"set(attributes["KEY"], body.string)"#,
    r#"delete_key(body, "KEY")"#,
    r#"keep_keys(body, ["KEY", "a"])"#,
    r#"merge_maps(body, attributes, "upsert")"#,
    r#"flatten(body)"#,
    r#"append(body, VALUE)"#,
    r#"replace_pattern(body, "t", "T")"#,
    r#"set(severity_number, SEVERITY_NUMBER_WARN)"#,
    r#"set(severity_number, attributes["KEY"])"#,
    r#"set(severity_text, VALUE) where severity_number < SEVERITY_NUMBER_ERROR"#,
    r#"set(time, observed_time)"#,
    r#"set(observed_time_unix_nano, 7)"#,
    r#"set(flags, 1)"#,
    r#"set(dropped_attributes_count, 9)"#,
    r#"set(event_name, severity_text)"#,
    r#"set(trace_id, TraceID(0x000102030405060708090a0b0c0d0e0f))"#,
    r#"set(span_id.string, "0102030405060708")"#,
];

/// Statements with holes on data points.
pub(super) const POINT_TEMPLATES: &[&str] = &[
    r#"set(attributes["KEY"], value_int)"#,
    r#"set(attributes["KEY"], value_double)"#,
    r#"set(attributes["KEY"], bucket_counts)"#,
    r#"set(attributes["KEY"], explicit_bounds)"#,
    r#"set(attributes["KEY"], metric.name)"#,
    r#"set(attributes["KEY"], scale)"#,
    r#"set(value_int, 7)"#,
    r#"set(value_int, value_int + 1)"#,
    r#"set(value_double, 0.5)"#,
    r#"set(value_double, 0.0)"#,
    r#"set(count, count + 1)"#,
    r#"set(sum, 2.5) where sum != nil"#,
    r#"set(min, sum)"#,
    r#"set(max, 0.0)"#,
    r#"set(bucket_counts, [1, 2])"#,
    r#"set(bucket_counts[0], 9)"#,
    r#"set(explicit_bounds, [0.5])"#,
    r#"set(scale, -3)"#,
    r#"set(zero_count, 4)"#,
    r#"set(zero_threshold, 0.25)"#,
    r#"set(start_time, time)"#,
    r#"set(time_unix_nano, 9)"#,
    r#"set(flags, FLAG_NONE)"#,
    r#"set(metric.name, attributes["KEY"])"#,
    r#"set(metric.description, "d") where metric.type == METRIC_DATA_TYPE_SUM"#,
    r#"set(resource.attributes["KEY"], value_int)"#,
    r#"merge_histogram_buckets(1.5)"#,
    r#"merge_histogram_buckets(2, "limit_buckets")"#,
    r#"convert_summary_count_val_to_sum("delta", true)"#,
    r#"convert_summary_sum_val_to_sum("cumulative", false, "KEY")"#,
];

/// Statements with holes on metrics.
pub(super) const METRIC_TEMPLATES: &[&str] = &[
    r#"set(name, "KEY")"#,
    r#"set(description, metadata["KEY"])"#,
    r#"set(unit, "By")"#,
    r#"set(metadata["KEY"], VALUE)"#,
    r#"set(metadata["KEY"], type)"#,
    r#"delete_key(metadata, "KEY")"#,
    r#"set(aggregation_temporality, AGGREGATION_TEMPORALITY_DELTA)"#,
    r#"set(is_monotonic, false)"#,
    r#"convert_sum_to_gauge()"#,
    r#"convert_gauge_to_sum("cumulative", true)"#,
    r#"scale_metric(2.0)"#,
    r#"scale_metric(0.5, "s")"#,
    r#"convert_exponential_histogram_to_histogram("upper", [0.0, 0.5, 1.0])"#,
    r#"convert_exponential_histogram_to_histogram("midpoint", [-1, 1])"#,
    r#"convert_exponential_histogram_to_histogram("uniform", [0.001, 0.1, 10])"#,
    r#"convert_exponential_histogram_to_histogram("random", [0.5, 1, 2, 4])"#,
    r#"extract_percentile_metric(99.5)"#,
    r#"extract_percentile_metric(50, "KEY")"#,
    r#"copy_metric()"#,
    r#"copy_metric(name = "KEY", unit = "u") where HasAttrKeyOnDatapoint("KEY")"#,
    r#"extract_count_metric(true)"#,
    r#"extract_sum_metric(false, "KEY") where HasAttrOnDatapoint("KEY", "t")"#,
    r#"convert_summary_quantile_val_to_gauge("KEY")"#,
    r#"aggregate_on_attributes("sum")"#,
    r#"aggregate_on_attributes("mean", ["KEY"])"#,
    r#"aggregate_on_attributes("median", [])"#,
    r#"aggregate_on_attributes("count", ["KEY"])"#,
    r#"aggregate_on_attributes("max", ["KEY", "a"])"#,
    r#"aggregate_on_attribute_value("min", "KEY", ["t", "te"], "T")"#,
];

/// A span, a log record, or a metric with the number of the point that statements stand on.
#[derive(Clone, Debug)]
pub(super) enum Own {
    Span(proto::Span),
    Log(proto::LogRecord),
    Metric(proto::Metric, usize),
}

/// A data point of any kind.
enum Point<'p> {
    Number(&'p proto::NumberDataPoint),
    Histogram(&'p proto::HistogramDataPoint),
    Exponential(&'p proto::ExponentialHistogramDataPoint),
    Summary(&'p proto::SummaryDataPoint),
}

/// The same, to be changed.
enum PointMut<'p> {
    Number(&'p mut proto::NumberDataPoint),
    Histogram(&'p mut proto::HistogramDataPoint),
    Exponential(&'p mut proto::ExponentialHistogramDataPoint),
    Summary(&'p mut proto::SummaryDataPoint),
}

impl Own {
    pub(super) fn chosen(choices: &mut Choices<'_>, context: Context) -> Self {
        match context {
            Context::Log => Self::Log(record(choices)),
            Context::Metric | Context::DataPoint => Self::Metric(metric(choices), 0),
            _ => Self::Span(span(choices)),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Span(span) => span.encode_to_vec(),
            Self::Log(record) => record.encode_to_vec(),
            Self::Metric(metric, _) => metric.encode_to_vec(),
        }
    }

    /// What `bytes` say, as the same kind of item.
    pub(super) fn decoded(&self, bytes: &[u8]) -> Self {
        const DECODES: &str = "a written item decodes";
        match self {
            Self::Span(_) => Self::Span(proto::Span::decode(bytes).expect(DECODES)),
            Self::Log(_) => Self::Log(proto::LogRecord::decode(bytes).expect(DECODES)),
            Self::Metric(_, place) => Self::Metric(proto::Metric::decode(bytes).expect(DECODES), *place),
        }
    }

    /// A body without a value means the same as none.
    pub(super) fn normalize(&mut self) {
        if let Self::Log(record) = self {
            record.body = record.body.take().filter(|body| body.value.is_some());
        }
    }

    pub(super) fn parts_count(&self, context: Context) -> usize {
        use proto::MetricData as Data;
        match self {
            Self::Metric(metric, _) if context == Context::DataPoint => match &metric.data {
                None => 0,
                Some(Data::Gauge(data)) => data.data_points.len(),
                Some(Data::Sum(data)) => data.data_points.len(),
                Some(Data::Histogram(data)) => data.data_points.len(),
                Some(Data::ExponentialHistogram(data)) => data.data_points.len(),
                Some(Data::Summary(data)) => data.data_points.len(),
            },
            _ => 1,
        }
    }

    pub(super) fn begin_part(&mut self, part: usize) {
        if let Self::Metric(_, place) = self {
            *place = part;
        }
    }

    fn point(&self) -> Option<Point<'_>> {
        use proto::MetricData as Data;
        let Self::Metric(metric, place) = self else { return None };
        Some(match metric.data.as_ref()? {
            Data::Gauge(data) => Point::Number(data.data_points.get(*place)?),
            Data::Sum(data) => Point::Number(data.data_points.get(*place)?),
            Data::Histogram(data) => Point::Histogram(data.data_points.get(*place)?),
            Data::ExponentialHistogram(data) => Point::Exponential(data.data_points.get(*place)?),
            Data::Summary(data) => Point::Summary(data.data_points.get(*place)?),
        })
    }

    fn point_mut(&mut self) -> Option<PointMut<'_>> {
        use proto::MetricData as Data;
        let Self::Metric(metric, place) = self else { return None };
        Some(match metric.data.as_mut()? {
            Data::Gauge(data) => PointMut::Number(data.data_points.get_mut(*place)?),
            Data::Sum(data) => PointMut::Number(data.data_points.get_mut(*place)?),
            Data::Histogram(data) => PointMut::Histogram(data.data_points.get_mut(*place)?),
            Data::ExponentialHistogram(data) => PointMut::Exponential(data.data_points.get_mut(*place)?),
            Data::Summary(data) => PointMut::Summary(data.data_points.get_mut(*place)?),
        })
    }

    pub(super) fn entries(&self, level: Context) -> &[proto::KeyValue] {
        match (self, level) {
            (Self::Span(span), _) => &span.attributes,
            (Self::Log(record), _) => &record.attributes,
            (Self::Metric(metric, _), Context::Metric) => &metric.metadata,
            (Self::Metric(..), _) => match self.point() {
                None => &[],
                Some(Point::Number(point)) => &point.attributes,
                Some(Point::Histogram(point)) => &point.attributes,
                Some(Point::Exponential(point)) => &point.attributes,
                Some(Point::Summary(point)) => &point.attributes,
            },
        }
    }

    pub(super) fn entries_mut(&mut self, level: Context) -> &mut Vec<proto::KeyValue> {
        match (self, level) {
            (Self::Span(span), _) => &mut span.attributes,
            (Self::Log(record), _) => &mut record.attributes,
            (Self::Metric(metric, _), Context::Metric) => &mut metric.metadata,
            (own, _) => match own.point_mut().expect("statements stand on a point that is there") {
                PointMut::Number(point) => &mut point.attributes,
                PointMut::Histogram(point) => &mut point.attributes,
                PointMut::Exponential(point) => &mut point.attributes,
                PointMut::Summary(point) => &mut point.attributes,
            },
        }
    }

    pub(super) fn read(&self, field: Field) -> Value<'_> {
        match self {
            Self::Span(span) => read_span(span, field),
            Self::Log(record) => read_record(record, field),
            Self::Metric(metric, _) => match read_metric(metric, field) {
                Some(value) => value,
                None => self.point().map_or(Value::Nil, |point| read_point(&point, field)),
            },
        }
    }

    pub(super) fn write(&mut self, field: Field, value: &Value<'_>) {
        match self {
            Self::Span(span) => write_span(span, field, value),
            Self::Log(record) => write_record(record, field, value),
            Self::Metric(metric, _) => {
                if !write_metric(metric, field, value)
                    && let Some(point) = self.point_mut()
                {
                    write_point(point, field, value);
                }
            }
        }
    }

    pub(super) fn scale_points(&mut self, factor: f64) -> Result<(), Fault> {
        use proto::MetricData as Data;
        let Self::Metric(metric, _) = self else { return Err(Fault::invalid("only metrics are scaled")) };
        let numbers = |points: &mut [proto::NumberDataPoint]| {
            for point in points {
                point.value = point.value.take().map(|value| match value {
                    proto::NumberValue::AsInt(value) => proto::NumberValue::AsInt((value as f64 * factor) as i64),
                    proto::NumberValue::AsDouble(value) => proto::NumberValue::AsDouble(value * factor),
                });
            }
        };
        match &mut metric.data {
            None => return Err(Fault::invalid("a metric without points cannot be scaled")),
            Some(Data::ExponentialHistogram(_)) => {
                return Err(Fault::invalid("exponential histograms cannot be scaled"));
            }
            Some(Data::Gauge(data)) => numbers(&mut data.data_points),
            Some(Data::Sum(data)) => numbers(&mut data.data_points),
            Some(Data::Histogram(data)) => {
                for point in &mut data.data_points {
                    for value in [&mut point.sum, &mut point.min, &mut point.max].into_iter().flatten() {
                        *value *= factor;
                    }
                    point.explicit_bounds.iter_mut().for_each(|bound| *bound *= factor);
                }
            }
            Some(Data::Summary(data)) => {
                for point in &mut data.data_points {
                    point.sum *= factor;
                    point.quantile_values.iter_mut().for_each(|quantile| quantile.value *= factor);
                }
            }
        }
        Ok(())
    }
}

fn span(choices: &mut Choices<'_>) -> proto::Span {
    let mut span = proto::Span {
        trace_id: vec![1; 16],
        trace_state: choices.one_of(&["", "a=1,b=2", "b=x , c", "user.email=="]).into(),
        name: choices.one_of(&["test", "GET /", "", "t"]).into(),
        kind: choices.below(7) as i32,
        start_time_unix_nano: choices.below(256) as u64,
        end_time_unix_nano: 5_000_000_000,
        attributes: choices.entries(0),
        ..proto::Span::default()
    };
    if choices.below(2) == 1 {
        span.status = Some(proto::SpanStatus { message: b"m".to_vec(), code: 1 });
    }
    span
}

fn record(choices: &mut Choices<'_>) -> proto::LogRecord {
    let body = match choices.below(3) {
        0 => None,
        1 => Some(choices.value(0)),
        _ => {
            Some(proto::AnyValue { value: Some(proto::Value::Map(proto::KeyValueList { values: choices.entries(1) })) })
        }
    };
    proto::LogRecord {
        time_unix_nano: choices.below(256) as u64,
        observed_time_unix_nano: 5_000_000_000,
        severity_number: choices.below(25) as i32,
        severity_text: choices.one_of(&["", "Info", "t"]).into(),
        body,
        attributes: choices.entries(0),
        flags: choices.below(2) as u32,
        trace_id: if choices.below(2) == 1 { vec![1; 16] } else { Vec::new() },
        event_name: choices.one_of(&["", "login"]).into(),
        ..proto::LogRecord::default()
    }
}

fn metric(choices: &mut Choices<'_>) -> proto::Metric {
    use proto::MetricData as Data;
    let points = choices.below(4);
    let temporality = choices.below(3) as i32;
    let (start, time) = (choices.below(256) as u64, 7_000);
    let data = match choices.below(7) {
        0 => Some(Data::Gauge(proto::Gauge { data_points: (0..points).map(|_| number(choices, start)).collect() })),
        1 | 2 => Some(Data::Sum(proto::Sum {
            data_points: (0..points).map(|_| number(choices, start)).collect(),
            aggregation_temporality: temporality,
            is_monotonic: choices.below(2) == 1,
        })),
        3 => {
            let point = |choices: &mut Choices<'_>| proto::HistogramDataPoint {
                attributes: choices.entries(0),
                start_time_unix_nano: start,
                time_unix_nano: time,
                count: choices.below(9) as u64,
                sum: (choices.below(2) == 1).then_some(2.5),
                min: (choices.below(2) == 1).then_some(0.0),
                bucket_counts: vec![1; choices.below(4)],
                explicit_bounds: vec![1.5; choices.below(3)],
                ..Default::default()
            };
            let data_points = (0..points).map(|_| point(choices)).collect();
            Some(Data::Histogram(proto::Histogram { data_points, aggregation_temporality: temporality }))
        }
        4 => {
            let buckets = |choices: &mut Choices<'_>| proto::Buckets {
                offset: choices.below(9) as i32 - 4,
                bucket_counts: vec![2; choices.below(4)],
            };
            let point = |choices: &mut Choices<'_>| proto::ExponentialHistogramDataPoint {
                attributes: choices.entries(0),
                time_unix_nano: time,
                scale: choices.below(3) as i32 - 20,
                count: choices.below(3) as u64,
                zero_count: choices.below(3) as u64,
                positive: (choices.below(2) == 1).then(|| buckets(choices)),
                negative: (choices.below(4) == 1).then(|| buckets(choices)),
                max: (choices.below(2) == 1).then_some(9.0),
                ..Default::default()
            };
            let data_points = (0..points).map(|_| point(choices)).collect();
            let data = proto::ExponentialHistogram { data_points, aggregation_temporality: temporality };
            Some(Data::ExponentialHistogram(data))
        }
        5 => {
            let point = |choices: &mut Choices<'_>| proto::SummaryDataPoint {
                attributes: choices.entries(0),
                time_unix_nano: time,
                count: 3,
                sum: choices.below(9) as f64,
                quantile_values: vec![proto::ValueAtQuantile { quantile: 0.5, value: 7.0 }; choices.below(3)],
                ..Default::default()
            };
            Some(Data::Summary(proto::Summary { data_points: (0..points).map(|_| point(choices)).collect() }))
        }
        _ => None,
    };
    proto::Metric {
        name: choices.one_of(&["orders", "", "t"]).into(),
        description: b"d".to_vec(),
        data,
        metadata: choices.entries(2),
        ..proto::Metric::default()
    }
}

fn number(choices: &mut Choices<'_>, start: u64) -> proto::NumberDataPoint {
    let value = match choices.below(3) {
        0 => Some(proto::NumberValue::AsInt(choices.below(256) as i64 - 9)),
        1 => Some(proto::NumberValue::AsDouble(choices.below(256) as f64 / 8.0)),
        _ => None,
    };
    proto::NumberDataPoint {
        attributes: choices.entries(0),
        start_time_unix_nano: start,
        flags: choices.below(2) as u32,
        value,
        ..Default::default()
    }
}

fn count(count: u32) -> Value<'static> {
    Value::Int(i64::from(count))
}

fn read_span(span: &proto::Span, field: Field) -> Value<'_> {
    match field {
        Field::DroppedAttributes(_) => count(span.dropped_attributes_count),
        Field::Name(_) => text(&span.name),
        Field::TraceId(_) => id(&span.trace_id),
        Field::SpanId(_) => id(&span.span_id),
        Field::ParentSpanId => id(&span.parent_span_id),
        Field::TraceState => text(&span.trace_state),
        Field::Kind => Value::Int(i64::from(span.kind)),
        Field::Start(_) => Value::Int(span.start_time_unix_nano as i64),
        Field::End => Value::Int(span.end_time_unix_nano as i64),
        Field::StatusCode => Value::Int(i64::from(span.status.as_ref().map_or(0, |status| status.code))),
        Field::StatusMessage => text(span.status.as_ref().map_or(&[], |status| &status.message)),
        Field::Flags(_) => count(span.flags),
        Field::DroppedEvents => count(span.dropped_events_count),
        Field::DroppedLinks => count(span.dropped_links_count),
        Field::Events => count(span.events.len() as u32),
        Field::Links => count(span.links.len() as u32),
        _ => Value::Nil,
    }
}

/// The parts of a raw value that are asked for.
fn raw(value: &Value<'_>) -> (Vec<u8>, i64, f64) {
    match value {
        Value::Text(text) | Value::Bytes(text) => (text.to_vec(), 0, 0.0),
        Value::Int(number) => (Vec::new(), *number, 0.0),
        Value::Double(number) => (Vec::new(), 0, *number),
        _ => (Vec::new(), 0, 0.0),
    }
}

fn write_span(span: &mut proto::Span, field: Field, value: &Value<'_>) {
    let (bytes, number, _) = raw(value);
    match field {
        Field::Name(_) => span.name = bytes,
        Field::TraceId(_) => span.trace_id = bytes,
        Field::SpanId(_) => span.span_id = bytes,
        Field::ParentSpanId => span.parent_span_id = bytes,
        Field::TraceState => span.trace_state = bytes,
        Field::Kind => span.kind = number as i32,
        Field::Start(_) => span.start_time_unix_nano = number as u64,
        Field::End => span.end_time_unix_nano = number as u64,
        Field::StatusCode => span.status.get_or_insert_default().code = number as i32,
        Field::StatusMessage => span.status.get_or_insert_default().message = bytes,
        Field::Flags(_) => span.flags = number as u32,
        other => panic!("no statement of the twin writes {other:?}"),
    }
}

fn read_record(record: &proto::LogRecord, field: Field) -> Value<'_> {
    match field {
        Field::Time(_) => Value::Int(record.time_unix_nano as i64),
        Field::ObservedTime => Value::Int(record.observed_time_unix_nano as i64),
        Field::SeverityNumber => Value::Int(i64::from(record.severity_number)),
        Field::SeverityText => text(&record.severity_text),
        Field::Body => to_value(record.body.as_ref()),
        Field::DroppedAttributes(_) => count(record.dropped_attributes_count),
        Field::Flags(_) => count(record.flags),
        Field::TraceId(_) => id(&record.trace_id),
        Field::SpanId(_) => id(&record.span_id),
        Field::EventName => text(&record.event_name),
        _ => Value::Nil,
    }
}

fn write_record(record: &mut proto::LogRecord, field: Field, value: &Value<'_>) {
    let (bytes, number, _) = raw(value);
    match field {
        Field::Time(_) => record.time_unix_nano = number as u64,
        Field::ObservedTime => record.observed_time_unix_nano = number as u64,
        Field::SeverityNumber => record.severity_number = number as i32,
        Field::SeverityText => record.severity_text = bytes,
        Field::Body => record.body = Some(from_value(value)),
        Field::DroppedAttributes(_) => record.dropped_attributes_count = number as u32,
        Field::Flags(_) => record.flags = number as u32,
        Field::TraceId(_) => record.trace_id = bytes,
        Field::SpanId(_) => record.span_id = bytes,
        Field::EventName => record.event_name = bytes,
        other => panic!("no statement of the twin writes {other:?}"),
    }
}

/// `None`: the field is one of a point's.
fn read_metric(metric: &proto::Metric, field: Field) -> Option<Value<'_>> {
    use proto::MetricData as Data;
    Some(match field {
        Field::Name(_) => text(&metric.name),
        Field::Description => text(&metric.description),
        Field::Unit => text(&metric.unit),
        Field::MetricType => Value::Int(match &metric.data {
            None => 0,
            Some(Data::Gauge(_)) => 1,
            Some(Data::Sum(_)) => 2,
            Some(Data::Histogram(_)) => 3,
            Some(Data::ExponentialHistogram(_)) => 4,
            Some(Data::Summary(_)) => 5,
        }),
        Field::Temporality => match &metric.data {
            Some(Data::Sum(data)) => Value::Int(i64::from(data.aggregation_temporality)),
            Some(Data::Histogram(data)) => Value::Int(i64::from(data.aggregation_temporality)),
            Some(Data::ExponentialHistogram(data)) => Value::Int(i64::from(data.aggregation_temporality)),
            _ => Value::Nil,
        },
        Field::IsMonotonic => match &metric.data {
            Some(Data::Sum(data)) => Value::Bool(data.is_monotonic),
            _ => Value::Nil,
        },
        _ => return None,
    })
}

/// Whether the field is one of a metric's.
fn write_metric(metric: &mut proto::Metric, field: Field, value: &Value<'_>) -> bool {
    use proto::MetricData as Data;
    let (bytes, number, _) = raw(value);
    match (field, &mut metric.data) {
        (Field::Name(_), _) => metric.name = bytes,
        (Field::Description, _) => metric.description = bytes,
        (Field::Unit, _) => metric.unit = bytes,
        (Field::MetricType, data) => {
            *data = match (data.take(), number) {
                (Some(Data::Gauge(gauge)), 2) => {
                    Some(Data::Sum(proto::Sum { data_points: gauge.data_points, ..Default::default() }))
                }
                (Some(Data::Sum(sum)), 1) => Some(Data::Gauge(proto::Gauge { data_points: sum.data_points })),
                (data, _) => data,
            };
        }
        (Field::Temporality, Some(Data::Sum(data))) => data.aggregation_temporality = number as i32,
        (Field::Temporality, Some(Data::Histogram(data))) => data.aggregation_temporality = number as i32,
        (Field::Temporality, Some(Data::ExponentialHistogram(data))) => data.aggregation_temporality = number as i32,
        (Field::IsMonotonic, Some(Data::Sum(data))) => data.is_monotonic = *value == Value::Bool(true),
        (Field::Temporality | Field::IsMonotonic, _) => {}
        _ => return false,
    }
    true
}

fn read_point<'p>(point: &Point<'p>, field: Field) -> Value<'p> {
    let double = |value: Option<f64>| Value::Double(value.unwrap_or(0.0));
    let (start, time, flags) = match point {
        Point::Number(it) => (it.start_time_unix_nano, it.time_unix_nano, it.flags),
        Point::Histogram(it) => (it.start_time_unix_nano, it.time_unix_nano, it.flags),
        Point::Exponential(it) => (it.start_time_unix_nano, it.time_unix_nano, it.flags),
        Point::Summary(it) => (it.start_time_unix_nano, it.time_unix_nano, it.flags),
    };
    match (field, point) {
        (Field::Start(_), _) => Value::Int(start as i64),
        (Field::Time(_), _) => Value::Int(time as i64),
        (Field::Flags(_), _) => count(flags),
        (Field::IntValue, Point::Number(it)) => match it.value {
            Some(proto::NumberValue::AsInt(value)) => Value::Int(value),
            _ => Value::Int(0),
        },
        (Field::DoubleValue, Point::Number(it)) => match it.value {
            Some(proto::NumberValue::AsDouble(value)) => Value::Double(value),
            _ => Value::Double(0.0),
        },
        (Field::Count, Point::Histogram(it)) => Value::Int(it.count as i64),
        (Field::Count, Point::Exponential(it)) => Value::Int(it.count as i64),
        (Field::Count, Point::Summary(it)) => Value::Int(it.count as i64),
        (Field::Sum, Point::Histogram(it)) => double(it.sum),
        (Field::Sum, Point::Exponential(it)) => double(it.sum),
        (Field::Sum, Point::Summary(it)) => Value::Double(it.sum),
        (Field::Min, Point::Histogram(it)) => double(it.min),
        (Field::Min, Point::Exponential(it)) => double(it.min),
        (Field::Max, Point::Histogram(it)) => double(it.max),
        (Field::Max, Point::Exponential(it)) => double(it.max),
        (Field::BucketCounts, Point::Histogram(it)) => {
            Value::List(it.bucket_counts.iter().map(|count| Value::Int(*count as i64)).collect())
        }
        (Field::ExplicitBounds, Point::Histogram(it)) => {
            Value::List(it.explicit_bounds.iter().map(|bound| Value::Double(*bound)).collect())
        }
        (Field::Scale, Point::Exponential(it)) => Value::Int(i64::from(it.scale)),
        (Field::ZeroCount, Point::Exponential(it)) => Value::Int(it.zero_count as i64),
        (Field::ZeroThreshold, Point::Exponential(it)) => Value::Double(it.zero_threshold),
        _ => Value::Nil,
    }
}

fn write_point(point: PointMut<'_>, field: Field, value: &Value<'_>) {
    let (_, number, double) = raw(value);
    let items = || match value {
        Value::List(items) => items.iter().map(raw).collect::<Vec<_>>(),
        _ => Vec::new(),
    };
    let (start, time, flags) = match point {
        PointMut::Number(it) => match field {
            Field::IntValue => return it.value = Some(proto::NumberValue::AsInt(number)),
            Field::DoubleValue => return it.value = Some(proto::NumberValue::AsDouble(double)),
            _ => (&mut it.start_time_unix_nano, &mut it.time_unix_nano, &mut it.flags),
        },
        PointMut::Histogram(it) => match field {
            Field::Count => return it.count = number as u64,
            Field::Sum => return it.sum = Some(double),
            Field::Min => return it.min = Some(double),
            Field::Max => return it.max = Some(double),
            Field::BucketCounts => return it.bucket_counts = items().iter().map(|item| item.1 as u64).collect(),
            Field::ExplicitBounds => return it.explicit_bounds = items().iter().map(|item| item.2).collect(),
            _ => (&mut it.start_time_unix_nano, &mut it.time_unix_nano, &mut it.flags),
        },
        PointMut::Exponential(it) => match field {
            Field::Count => return it.count = number as u64,
            Field::Sum => return it.sum = Some(double),
            Field::Min => return it.min = Some(double),
            Field::Max => return it.max = Some(double),
            Field::Scale => return it.scale = number as i32,
            Field::ZeroCount => return it.zero_count = number as u64,
            Field::ZeroThreshold => return it.zero_threshold = double,
            _ => (&mut it.start_time_unix_nano, &mut it.time_unix_nano, &mut it.flags),
        },
        PointMut::Summary(it) => match field {
            Field::Count => return it.count = number as u64,
            Field::Sum => return it.sum = double,
            _ => (&mut it.start_time_unix_nano, &mut it.time_unix_nano, &mut it.flags),
        },
    };
    match field {
        Field::Start(_) => *start = number as u64,
        Field::Time(_) => *time = number as u64,
        Field::Flags(_) => *flags = number as u32,
        // What a point of this kind does not have.
        _ => {}
    }
}
