//! Which field numbers each kind of message has, and how its plain fields are encoded (opentelemetry-proto trace/v1,
//! metrics/v1, logs/v1, common/v1, resource/v1).
//!
//! The one idea: one overlay serves every kind of message, and all that differs between them is here, as tables.

use codecs::otlp::Signal;

use crate::path::{Context, Field};

/// A kind of message that statements run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Resource,
    Scope,
    Span,
    Event,
    Metric,
    /// A data point of a gauge or a sum.
    Number,
    Histogram,
    ExponentialHistogram,
    Summary,
    Log,
}

/// What the overlay has to know of a kind of message.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) kind: Kind,
    /// The message lies as this field in an envelope.
    pub(crate) inner: Option<u32>,
    pub(crate) attributes: u32,
    /// Its parts are events.
    pub(crate) has_events: bool,
    /// Its parts are points, in a message of their own.
    pub(crate) has_data: bool,
}

const fn layout(kind: Kind, inner: Option<u32>, attributes: u32) -> Layout {
    Layout { kind, inner, attributes, has_events: matches!(kind, Kind::Span), has_data: matches!(kind, Kind::Metric) }
}

pub(crate) static RESOURCE: Layout = layout(Kind::Resource, Some(1), 1);
pub(crate) static SCOPE: Layout = layout(Kind::Scope, Some(1), 3);
static SPAN: Layout = layout(Kind::Span, None, 9);
pub(crate) static EVENT: Layout = layout(Kind::Event, None, 3);
static METRIC: Layout = layout(Kind::Metric, None, 12);
static NUMBER: Layout = layout(Kind::Number, None, 7);
static HISTOGRAM: Layout = layout(Kind::Histogram, None, 9);
static EXPONENTIAL_HISTOGRAM: Layout = layout(Kind::ExponentialHistogram, None, 1);
static SUMMARY: Layout = layout(Kind::Summary, None, 7);
static LOG: Layout = layout(Kind::Log, None, 6);

/// The layout of a signal's items.
pub(crate) fn of_items(signal: Signal) -> &'static Layout {
    match signal {
        Signal::Traces => &SPAN,
        Signal::Metrics => &METRIC,
        Signal::Logs => &LOG,
    }
}

/// Span.events.
pub(crate) const EVENTS: u32 = 11;
/// Span.links.
pub(crate) const LINKS: u32 = 13;
/// Span.status, a message with a message (2) and a code (3).
pub(crate) const STATUS: u32 = 15;
/// The points in each kind of a metric's data.
pub(crate) const DATA_POINTS: u32 = 1;
/// What lies beside the points in a metric's data: temporality, and whether a sum is monotonic.
pub(crate) const METRIC_SETTINGS: [u32; 2] = [2, 3];

/// Where a plain field lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lies {
    Message,
    /// Of a resource or scope.
    Envelope,
    /// Beside the points of a metric.
    Data,
}

/// How a plain field is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Text,
    Bytes,
    /// A varint of 32 bits with sign.
    Int32,
    /// The same in zigzag.
    Sint32,
    /// A varint of 32 bits without sign.
    Uint32,
    Bool,
    Fixed32,
    Fixed64,
    Double,
    /// An AnyValue.
    Any,
    /// Integers of 8 bytes each.
    Fixed64s,
    /// Floats of 8 bytes each.
    Doubles,
}

/// Number, encoding and place of a plain field of such a message; `None` if it has none, or if the field is not plain.
pub(crate) fn plain(kind: Kind, field: Field) -> Option<(u32, Shape, Lies)> {
    if let (Kind::Resource | Kind::Scope, Field::SchemaUrl(_)) = (kind, field) {
        return Some((3, Shape::Text, Lies::Envelope));
    }
    let found = match kind {
        Kind::Resource => resource(field),
        Kind::Scope => scope(field),
        Kind::Span => span(field),
        Kind::Event => event(field),
        Kind::Log => log(field),
        Kind::Metric => return metric(field),
        Kind::Number | Kind::Histogram | Kind::ExponentialHistogram | Kind::Summary => point(kind, field),
    };
    found.map(|(number, shape)| (number, shape, Lies::Message))
}

fn resource(field: Field) -> Option<(u32, Shape)> {
    matches!(field, Field::DroppedAttributes(Context::Resource)).then_some((2, Shape::Uint32))
}

fn scope(field: Field) -> Option<(u32, Shape)> {
    Some(match field {
        Field::Name(Context::Scope) => (1, Shape::Text),
        Field::Version => (2, Shape::Text),
        Field::DroppedAttributes(Context::Scope) => (4, Shape::Uint32),
        _ => return None,
    })
}

fn span(field: Field) -> Option<(u32, Shape)> {
    Some(match field {
        Field::TraceId(_) => (1, Shape::Bytes),
        Field::SpanId(_) => (2, Shape::Bytes),
        Field::TraceState => (3, Shape::Text),
        Field::ParentSpanId => (4, Shape::Bytes),
        Field::Name(Context::Span) => (5, Shape::Text),
        Field::Kind => (6, Shape::Int32),
        Field::Start(_) => (7, Shape::Fixed64),
        Field::End => (8, Shape::Fixed64),
        Field::DroppedAttributes(Context::Span) => (10, Shape::Uint32),
        Field::DroppedEvents => (12, Shape::Uint32),
        Field::DroppedLinks => (14, Shape::Uint32),
        Field::Flags(_) => (16, Shape::Fixed32),
        _ => return None,
    })
}

fn event(field: Field) -> Option<(u32, Shape)> {
    Some(match field {
        Field::Time(_) => (1, Shape::Fixed64),
        Field::Name(Context::SpanEvent) => (2, Shape::Text),
        Field::DroppedAttributes(Context::SpanEvent) => (4, Shape::Uint32),
        _ => return None,
    })
}

fn log(field: Field) -> Option<(u32, Shape)> {
    Some(match field {
        Field::Time(_) => (1, Shape::Fixed64),
        Field::SeverityNumber => (2, Shape::Int32),
        Field::SeverityText => (3, Shape::Text),
        Field::Body => (5, Shape::Any),
        Field::DroppedAttributes(Context::Log) => (7, Shape::Uint32),
        Field::Flags(_) => (8, Shape::Fixed32),
        Field::TraceId(_) => (9, Shape::Bytes),
        Field::SpanId(_) => (10, Shape::Bytes),
        Field::ObservedTime => (11, Shape::Fixed64),
        Field::EventName => (12, Shape::Text),
        _ => return None,
    })
}

fn metric(field: Field) -> Option<(u32, Shape, Lies)> {
    Some(match field {
        Field::Name(Context::Metric) => (1, Shape::Text, Lies::Message),
        Field::Description => (2, Shape::Text, Lies::Message),
        Field::Unit => (3, Shape::Text, Lies::Message),
        Field::Temporality => (2, Shape::Int32, Lies::Data),
        Field::IsMonotonic => (3, Shape::Bool, Lies::Data),
        _ => return None,
    })
}

fn point(kind: Kind, field: Field) -> Option<(u32, Shape)> {
    let is_histogram = matches!(kind, Kind::Histogram | Kind::ExponentialHistogram);
    Some(match field {
        Field::Start(_) => (2, Shape::Fixed64),
        Field::Time(_) => (3, Shape::Fixed64),
        Field::Flags(_) => (if is_histogram { 10 } else { 8 }, Shape::Uint32),
        Field::Count if kind != Kind::Number => (4, Shape::Fixed64),
        Field::Sum if kind != Kind::Number => (5, Shape::Double),
        Field::BucketCounts if kind == Kind::Histogram => (6, Shape::Fixed64s),
        Field::ExplicitBounds if kind == Kind::Histogram => (7, Shape::Doubles),
        Field::Min if is_histogram => (if kind == Kind::Histogram { 11 } else { 12 }, Shape::Double),
        Field::Max if is_histogram => (if kind == Kind::Histogram { 12 } else { 13 }, Shape::Double),
        Field::Scale if kind == Kind::ExponentialHistogram => (6, Shape::Sint32),
        Field::ZeroCount if kind == Kind::ExponentialHistogram => (7, Shape::Fixed64),
        Field::ZeroThreshold if kind == Kind::ExponentialHistogram => (14, Shape::Double),
        _ => return None,
    })
}

/// The two fields of which one is the value of a number's point: as float, as integer.
pub(crate) fn number_fields(kind: Kind) -> Option<(u32, u32)> {
    (kind == Kind::Number).then_some((4, 6))
}

/// The number of a repeated message whose length can be asked.
pub(crate) fn counted(kind: Kind, field: Field) -> Option<u32> {
    Some(match (field, kind) {
        (Field::Exemplars, Kind::Number) => 5,
        (Field::Exemplars, Kind::Histogram) => 8,
        (Field::Exemplars, Kind::ExponentialHistogram) => 11,
        (Field::QuantileValues, Kind::Summary) => 6,
        _ => return None,
    })
}

/// The layout of the points in a metric's data field called `number`.
pub(crate) fn points_of(number: u32) -> Option<&'static Layout> {
    Some(match number {
        GAUGE | SUM => &NUMBER,
        9 => &HISTOGRAM,
        10 => &EXPONENTIAL_HISTOGRAM,
        11 => &SUMMARY,
        _ => return None,
    })
}

/// The data of a gauge.
pub(crate) const GAUGE: u32 = 5;
/// The data of a sum.
pub(crate) const SUM: u32 = 7;

/// The data of an explicit histogram.
pub(crate) const HISTOGRAM_DATA: u32 = 9;

/// Whether a metric's data field called `number` may have the setting called `setting`.
pub(crate) fn has_setting(number: u32, setting: u32) -> bool {
    match setting {
        2 => matches!(number, SUM | 9 | 10),
        _ => number == SUM,
    }
}

/// Types as statements number them, by the number of the data field.
const TYPES: [(u32, i64); 5] = [(GAUGE, 1), (SUM, 2), (9, 3), (10, 4), (11, 5)];

/// The type of a metric by its data field; 0 without one.
pub(crate) fn metric_type(number: u32) -> i64 {
    TYPES.iter().find(|known| known.0 == number).map_or(0, |known| known.1)
}

/// And back.
pub(crate) fn number_of_type(kind: i64) -> Option<u32> {
    TYPES.iter().find(|known| known.1 == kind).map(|known| known.0)
}
