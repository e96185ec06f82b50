//! Paths: what can be read and set in each context, and how a field's raw value looks in a path's form.
//!
//! The one idea: a path is a *field* of a *level* in a *form*. `span.start_time` and `span.start_time_unix_nano` are one
//! field in two forms, so that a view knows fields and no forms. Source: reference of the Collector's contexts.

use std::borrow::Cow;
use std::fmt;

use codecs::otlp::Signal;

use crate::action::as_text;
use crate::fault::Fault;
use crate::program::Expr;
use crate::value::{Value, hex};

/// What a statement runs on; a context within another also sees those it lies in.
///
/// The order is that of inference: of the contexts that paths name, the greatest one runs the statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Context {
    /// Once per resource.
    Resource,
    /// Once per instrumentation scope.
    Scope,
    /// Once per span.
    Span,
    /// Once per event of a span.
    SpanEvent,
    /// Once per metric.
    Metric,
    /// Once per data point of a metric.
    DataPoint,
    /// Once per log record.
    Log,
}

impl Context {
    /// All contexts, in the order in which a context is inferred.
    pub const ALL: [Self; 7] =
        [Self::Log, Self::DataPoint, Self::Metric, Self::SpanEvent, Self::Span, Self::Scope, Self::Resource];

    /// The context called `name`, which is also the prefix of its paths.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "resource" => Self::Resource,
            "scope" | "instrumentation_scope" => Self::Scope,
            "span" => Self::Span,
            "spanevent" => Self::SpanEvent,
            "metric" => Self::Metric,
            "datapoint" => Self::DataPoint,
            "log" => Self::Log,
            _ => return None,
        })
    }

    /// The context of a signal's items: spans, metrics or log records.
    #[must_use]
    pub fn of_items(signal: Signal) -> Self {
        match signal {
            Signal::Traces => Self::Span,
            Signal::Metrics => Self::Metric,
            Signal::Logs => Self::Log,
        }
    }

    /// All contexts of a signal, the highest first.
    #[must_use]
    pub fn all_of(signal: Signal) -> &'static [Self] {
        match signal {
            Signal::Traces => &[Self::Resource, Self::Scope, Self::Span, Self::SpanEvent],
            Signal::Metrics => &[Self::Resource, Self::Scope, Self::Metric, Self::DataPoint],
            Signal::Logs => &[Self::Resource, Self::Scope, Self::Log],
        }
    }

    /// The signal whose items these are, or lie in; every signal has resources and scopes.
    #[must_use]
    pub fn signal(self) -> Option<Signal> {
        match self {
            Self::Resource | Self::Scope => None,
            Self::Span | Self::SpanEvent => Some(Signal::Traces),
            Self::Metric | Self::DataPoint => Some(Signal::Metrics),
            Self::Log => Some(Signal::Logs),
        }
    }

    /// The context of the item that this one lies in, or is: an event's is its span, a data point's is its metric.
    #[must_use]
    pub fn item(self) -> Self {
        match self {
            Self::SpanEvent => Self::Span,
            Self::DataPoint => Self::Metric,
            other => other,
        }
    }

    /// How deep it lies: a resource at 0, a scope at 1, an item at 2, a part of an item at 3.
    #[must_use]
    pub fn depth(self) -> u8 {
        match self {
            Self::Resource => 0,
            Self::Scope => 1,
            Self::Span | Self::Metric | Self::Log => 2,
            Self::SpanEvent | Self::DataPoint => 3,
        }
    }

    /// Whether statements of this context may name paths of `other`.
    #[must_use]
    pub fn sees(self, other: Self) -> bool {
        self == other || (other.depth() < self.depth() && (other.signal().is_none() || other.signal() == self.signal()))
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resource => "resource",
            Self::Scope => "scope",
            Self::Span => "span",
            Self::SpanEvent => "spanevent",
            Self::Metric => "metric",
            Self::DataPoint => "datapoint",
            Self::Log => "log",
        })
    }
}

/// A field as a view knows it; [`Context`] names the level. Raw values: text as text, ids and trace state as they lie,
/// numbers as integers or floats, times as integers (nanoseconds since 1970). What an item of this kind does not have is nil.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// All attributes of the level, a map; a metric's are its metadata.
    Attributes(Context),
    /// Count of attributes the producer left out.
    DroppedAttributes(Context),
    /// Schema of a resource or a scope.
    SchemaUrl(Context),
    /// Name of a scope, a span, an event of a span or a metric.
    Name(Context),
    /// Version of a scope.
    Version,
    /// 16 bytes or none, of a span or a log record.
    TraceId(Context),
    /// 8 bytes or none, of a span or a log record.
    SpanId(Context),
    /// 8 bytes or none.
    ParentSpanId,
    /// W3C trace state, text.
    TraceState,
    /// Kind of a span, an integer.
    Kind,
    /// When a span, or what a data point sums up, began.
    Start(Context),
    /// When a span ended.
    End,
    /// Status code of a span, an integer.
    StatusCode,
    /// Status message of a span.
    StatusMessage,
    /// Flags of a span, a data point or a log record, an integer.
    Flags(Context),
    /// Count of events the producer left out.
    DroppedEvents,
    /// Count of links the producer left out.
    DroppedLinks,
    /// Number of events of a span; only its length can be asked.
    Events,
    /// Number of links of a span; only its length can be asked.
    Links,
    /// When an event, a data point or a log record happened.
    Time(Context),
    /// Number of the event in its span, from 0.
    EventIndex,
    /// When a log record was seen.
    ObservedTime,
    /// Severity of a log record, an integer.
    SeverityNumber,
    /// Severity of a log record as its source names it.
    SeverityText,
    /// Body of a log record, any value.
    Body,
    /// Name of a log record that is an event.
    EventName,
    /// Description of a metric.
    Description,
    /// Unit of a metric.
    Unit,
    /// Which kind of points a metric has, an integer.
    MetricType,
    /// Aggregation temporality of a metric, an integer; nil for gauges and summaries.
    Temporality,
    /// Whether a sum never falls, a bool; nil for all that is no sum.
    IsMonotonic,
    /// Number of data points of a metric; only its length can be asked.
    DataPoints,
    /// Value of a gauge or a sum as an integer; 0 if it is a float.
    IntValue,
    /// Value of a gauge or a sum as a float; 0 if it is an integer.
    DoubleValue,
    /// Count of what a histogram or a summary has seen, an integer.
    Count,
    /// Sum of what a histogram or a summary has seen, a float.
    Sum,
    /// Least value of a histogram, a float.
    Min,
    /// Greatest value of a histogram, a float.
    Max,
    /// Counts by bucket of a histogram, a list of integers.
    BucketCounts,
    /// Bounds of the buckets of a histogram, a list of floats.
    ExplicitBounds,
    /// Scale of an exponential histogram, an integer.
    Scale,
    /// Count of zeros of an exponential histogram, an integer.
    ZeroCount,
    /// Width of what counts as zero in an exponential histogram, a float.
    ZeroThreshold,
    /// Number of exemplars of a data point; only its length can be asked.
    Exemplars,
    /// Number of quantiles of a summary; only its length can be asked.
    QuantileValues,
}

/// How a field's raw value is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Attributes.
    Map,
    /// Any value, as it is.
    Any,
    /// Any value as text.
    AnyText,
    /// Text as it is.
    Text,
    /// An integer of this many bits.
    Int(u32),
    /// An integer of 32 bits with sign.
    SignedInt,
    /// A float.
    Double,
    /// A bool.
    Bool,
    /// A list of integers of 64 bits.
    Ints,
    /// A list of floats.
    Doubles,
    /// An id of this many bytes.
    Id(usize),
    /// An id as hexadecimal text.
    IdText(usize),
    /// A kind by its name in the `.proto` file without prefix: `Server`.
    KindText,
    /// A kind by its name in the `.proto` file.
    KindDeprecatedText,
    /// A moment.
    Time,
    /// Text that can be asked by key.
    TraceState,
    /// A list of which only the length is known.
    Count,
    /// An integer that cannot be set.
    ReadOnly,
}

impl Form {
    /// Whether a value of this form may hold others.
    pub(crate) fn takes_keys(self) -> bool {
        matches!(self, Self::Map | Self::TraceState | Self::Any | Self::Ints | Self::Doubles)
    }

    /// Whether its first key may be an integer.
    pub(crate) fn may_be_list(self) -> bool {
        matches!(self, Self::Any | Self::Ints | Self::Doubles)
    }
}

/// Where a path starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Root {
    Field(Field, Form),
    /// Values that live as long as a group of statements works on one item.
    Cache,
}

impl Root {
    /// Whether both lead to the same bytes, in whatever form: `body` and `body.string`.
    pub(crate) fn is_same_place(self, other: Self) -> bool {
        match (self, other) {
            (Self::Field(one, _), Self::Field(other, _)) => one == other,
            (Self::Cache, Self::Cache) => true,
            _ => false,
        }
    }
}

/// A checked path.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    pub(crate) root: Root,
    pub(crate) keys: Vec<Expr>,
}

/// A row of the table of paths: name without prefix, field, form.
type Row = (&'static str, Field, Form);

const RESOURCE: &[Row] = &[
    ("attributes", Field::Attributes(Context::Resource), Form::Map),
    ("dropped_attributes_count", Field::DroppedAttributes(Context::Resource), Form::Int(32)),
    ("schema_url", Field::SchemaUrl(Context::Resource), Form::Text),
];

const SCOPE: &[Row] = &[
    ("attributes", Field::Attributes(Context::Scope), Form::Map),
    ("dropped_attributes_count", Field::DroppedAttributes(Context::Scope), Form::Int(32)),
    ("name", Field::Name(Context::Scope), Form::Text),
    ("schema_url", Field::SchemaUrl(Context::Scope), Form::Text),
    ("version", Field::Version, Form::Text),
];

const SPAN: &[Row] = &[
    ("attributes", Field::Attributes(Context::Span), Form::Map),
    ("dropped_attributes_count", Field::DroppedAttributes(Context::Span), Form::Int(32)),
    ("dropped_events_count", Field::DroppedEvents, Form::Int(32)),
    ("dropped_links_count", Field::DroppedLinks, Form::Int(32)),
    ("end_time", Field::End, Form::Time),
    ("end_time_unix_nano", Field::End, Form::Int(64)),
    ("events", Field::Events, Form::Count),
    ("flags", Field::Flags(Context::Span), Form::Int(32)),
    ("kind", Field::Kind, Form::Int(32)),
    ("kind.deprecated_string", Field::Kind, Form::KindDeprecatedText),
    ("kind.string", Field::Kind, Form::KindText),
    ("links", Field::Links, Form::Count),
    ("name", Field::Name(Context::Span), Form::Text),
    ("parent_span_id", Field::ParentSpanId, Form::Id(8)),
    ("parent_span_id.string", Field::ParentSpanId, Form::IdText(8)),
    ("span_id", Field::SpanId(Context::Span), Form::Id(8)),
    ("span_id.string", Field::SpanId(Context::Span), Form::IdText(8)),
    ("start_time", Field::Start(Context::Span), Form::Time),
    ("start_time_unix_nano", Field::Start(Context::Span), Form::Int(64)),
    ("status.code", Field::StatusCode, Form::Int(32)),
    ("status.message", Field::StatusMessage, Form::Text),
    ("trace_id", Field::TraceId(Context::Span), Form::Id(16)),
    ("trace_id.string", Field::TraceId(Context::Span), Form::IdText(16)),
    ("trace_state", Field::TraceState, Form::TraceState),
];

const SPAN_EVENT: &[Row] = &[
    ("attributes", Field::Attributes(Context::SpanEvent), Form::Map),
    ("dropped_attributes_count", Field::DroppedAttributes(Context::SpanEvent), Form::Int(32)),
    ("event_index", Field::EventIndex, Form::ReadOnly),
    ("name", Field::Name(Context::SpanEvent), Form::Text),
    ("time", Field::Time(Context::SpanEvent), Form::Time),
    ("time_unix_nano", Field::Time(Context::SpanEvent), Form::Int(64)),
];

const METRIC: &[Row] = &[
    ("aggregation_temporality", Field::Temporality, Form::Int(32)),
    ("data_points", Field::DataPoints, Form::Count),
    ("description", Field::Description, Form::Text),
    ("is_monotonic", Field::IsMonotonic, Form::Bool),
    ("metadata", Field::Attributes(Context::Metric), Form::Map),
    ("name", Field::Name(Context::Metric), Form::Text),
    ("type", Field::MetricType, Form::ReadOnly),
    ("unit", Field::Unit, Form::Text),
];

const DATA_POINT: &[Row] = &[
    ("attributes", Field::Attributes(Context::DataPoint), Form::Map),
    ("bucket_counts", Field::BucketCounts, Form::Ints),
    ("count", Field::Count, Form::Int(64)),
    ("exemplars", Field::Exemplars, Form::Count),
    ("explicit_bounds", Field::ExplicitBounds, Form::Doubles),
    ("flags", Field::Flags(Context::DataPoint), Form::Int(32)),
    ("max", Field::Max, Form::Double),
    ("min", Field::Min, Form::Double),
    ("quantile_values", Field::QuantileValues, Form::Count),
    ("scale", Field::Scale, Form::SignedInt),
    ("start_time", Field::Start(Context::DataPoint), Form::Time),
    ("start_time_unix_nano", Field::Start(Context::DataPoint), Form::Int(64)),
    ("sum", Field::Sum, Form::Double),
    ("time", Field::Time(Context::DataPoint), Form::Time),
    ("time_unix_nano", Field::Time(Context::DataPoint), Form::Int(64)),
    ("value_double", Field::DoubleValue, Form::Double),
    ("value_int", Field::IntValue, Form::Int(64)),
    ("zero_count", Field::ZeroCount, Form::Int(64)),
    ("zero_threshold", Field::ZeroThreshold, Form::Double),
];

const LOG: &[Row] = &[
    ("attributes", Field::Attributes(Context::Log), Form::Map),
    ("body", Field::Body, Form::Any),
    ("body.string", Field::Body, Form::AnyText),
    ("dropped_attributes_count", Field::DroppedAttributes(Context::Log), Form::Int(32)),
    ("event_name", Field::EventName, Form::Text),
    ("flags", Field::Flags(Context::Log), Form::Int(32)),
    ("observed_time", Field::ObservedTime, Form::Time),
    ("observed_time_unix_nano", Field::ObservedTime, Form::Int(64)),
    ("severity_number", Field::SeverityNumber, Form::Int(32)),
    ("severity_text", Field::SeverityText, Form::Text),
    ("span_id", Field::SpanId(Context::Log), Form::Id(8)),
    ("span_id.string", Field::SpanId(Context::Log), Form::IdText(8)),
    ("time", Field::Time(Context::Log), Form::Time),
    ("time_unix_nano", Field::Time(Context::Log), Form::Int(64)),
    ("trace_id", Field::TraceId(Context::Log), Form::Id(16)),
    ("trace_id.string", Field::TraceId(Context::Log), Form::IdText(16)),
];

fn rows(context: Context) -> &'static [Row] {
    match context {
        Context::Resource => RESOURCE,
        Context::Scope => SCOPE,
        Context::Span => SPAN,
        Context::SpanEvent => SPAN_EVENT,
        Context::Metric => METRIC,
        Context::DataPoint => DATA_POINT,
        Context::Log => LOG,
    }
}

/// The level a field lies in.
pub(crate) fn level_of(field: Field) -> Context {
    match field {
        Field::Attributes(level)
        | Field::DroppedAttributes(level)
        | Field::SchemaUrl(level)
        | Field::Name(level)
        | Field::TraceId(level)
        | Field::SpanId(level)
        | Field::Start(level)
        | Field::Flags(level)
        | Field::Time(level) => level,
        Field::Version => Context::Scope,
        Field::ParentSpanId
        | Field::TraceState
        | Field::Kind
        | Field::End
        | Field::StatusCode
        | Field::StatusMessage
        | Field::DroppedEvents
        | Field::DroppedLinks
        | Field::Events
        | Field::Links => Context::Span,
        Field::EventIndex => Context::SpanEvent,
        Field::ObservedTime | Field::SeverityNumber | Field::SeverityText | Field::Body | Field::EventName => {
            Context::Log
        }
        Field::Description
        | Field::Unit
        | Field::MetricType
        | Field::Temporality
        | Field::IsMonotonic
        | Field::DataPoints => Context::Metric,
        Field::IntValue
        | Field::DoubleValue
        | Field::Count
        | Field::Sum
        | Field::Min
        | Field::Max
        | Field::BucketCounts
        | Field::ExplicitBounds
        | Field::Scale
        | Field::ZeroCount
        | Field::ZeroThreshold
        | Field::Exemplars
        | Field::QuantileValues => Context::DataPoint,
    }
}

/// The field called `name` (dotted, without prefix) of `context`.
pub(crate) fn field(context: Context, name: &str) -> Option<Root> {
    if name == "cache" {
        return Some(Root::Cache);
    }
    rows(context).iter().find(|row| row.0 == name).map(|row| Root::Field(row.1, row.2))
}

/// All names of fields of `context`, without prefix.
pub(crate) fn field_names(context: Context) -> impl Iterator<Item = &'static str> {
    rows(context).iter().map(|row| row.0).chain(["cache"])
}

/// Names of kinds in the order of their numbers (trace/v1, SpanKind).
const KINDS: [(&str, &str); 6] = [
    ("Unspecified", "SPAN_KIND_UNSPECIFIED"),
    ("Internal", "SPAN_KIND_INTERNAL"),
    ("Server", "SPAN_KIND_SERVER"),
    ("Client", "SPAN_KIND_CLIENT"),
    ("Producer", "SPAN_KIND_PRODUCER"),
    ("Consumer", "SPAN_KIND_CONSUMER"),
];

/// The name of a kind as the `.proto` file has it; empty if there is no such kind.
pub(crate) fn kind_name(kind: i64) -> &'static str {
    usize::try_from(kind).ok().and_then(|kind| KINDS.get(kind)).map_or("", |kind| kind.1)
}

/// What a path in `form` shows of a field's raw value.
pub(crate) fn show<'v>(form: Form, raw: Value<'v>) -> Value<'v> {
    match (form, raw) {
        (Form::Id(length), Value::Bytes(id)) => {
            Value::Bytes(if id.is_empty() { Cow::Owned(vec![0; length]) } else { id })
        }
        (Form::IdText(length), Value::Bytes(id)) if id.is_empty() => Value::owned_text("00".repeat(length)),
        (Form::IdText(_), Value::Bytes(id)) => Value::owned_text(hex(&id)),
        (Form::KindText, Value::Int(kind)) => usize::try_from(kind)
            .ok()
            .and_then(|kind| KINDS.get(kind))
            .map_or(Value::text(""), |kind| Value::text(kind.0)),
        (Form::KindDeprecatedText, Value::Int(kind)) => usize::try_from(kind)
            .ok()
            .and_then(|kind| KINDS.get(kind))
            .map_or(Value::text(""), |kind| Value::text(kind.1)),
        (Form::Time, Value::Int(time)) => Value::Time(time),
        // No body has no text.
        (Form::AnyText, Value::Nil) => Value::Nil,
        (Form::AnyText, raw) => Value::Text(Cow::Owned(as_text(&raw).into_owned())),
        (Form::Count, Value::Int(count)) => Value::List(vec![Value::Nil; usize::try_from(count).unwrap_or(0)]),
        (_, raw) => raw,
    }
}

/// The raw value to store for `value`, which a statement sets through a path in `form`.
pub(crate) fn store<'v>(form: Form, value: Value<'v>) -> Result<Value<'v>, Fault> {
    match (form, value) {
        (Form::Text | Form::TraceState, value @ Value::Text(_)) => Ok(value),
        (Form::Text | Form::TraceState, other) => Err(Fault::wrong("a string", &other)),
        (Form::Any, value) => Ok(value),
        (Form::AnyText, value @ Value::Text(_)) => Ok(value),
        (Form::AnyText, other) => Err(Fault::wrong("a string", &other)),
        (Form::Bool, value @ Value::Bool(_)) => Ok(value),
        (Form::Bool, other) => Err(Fault::wrong("a bool", &other)),
        (Form::Double, value @ Value::Double(_)) => Ok(value),
        (Form::Double, other) => Err(Fault::wrong("a float", &other)),
        (Form::Ints | Form::Doubles, Value::List(items)) => store_list(form, items),
        (Form::Ints | Form::Doubles, other) => Err(Fault::wrong("a list", &other)),
        (Form::SignedInt, Value::Int(value)) if i32::try_from(value).is_ok() => Ok(Value::Int(value)),
        (Form::SignedInt, Value::Int(_)) => Err(Fault::invalid("expected an integer of 32 bits")),
        (Form::SignedInt, other) => Err(Fault::wrong("an integer", &other)),
        (Form::Int(64), value @ Value::Int(_)) => Ok(value),
        // Go converts by cutting; a number that does not fit is a mistake that had better be seen.
        (Form::Int(_), Value::Int(value)) if (0..=i64::from(u32::MAX)).contains(&value) => Ok(Value::Int(value)),
        (Form::Int(_), Value::Int(_)) => Err(Fault::invalid("expected an integer of 32 bits without sign")),
        (Form::Int(_), other) => Err(Fault::wrong("an integer", &other)),
        (Form::Time, Value::Time(time)) => Ok(Value::Int(time)),
        (Form::Time, other) => Err(Fault::wrong("a time", &other)),
        (Form::Id(length), Value::Bytes(id)) if id.len() == length => Ok(Value::Bytes(id)),
        (Form::Id(_), Value::Bytes(_)) => Err(Fault::invalid("an id has 16 bytes (trace) or 8 (span)")),
        (Form::Id(_), other) => Err(Fault::wrong("an id", &other)),
        (Form::IdText(length), Value::Text(digits)) => {
            id_from_hex(&digits, length).map(|id| Value::Bytes(Cow::Owned(id)))
        }
        (Form::IdText(_), other) => Err(Fault::wrong("an id as a string", &other)),
        (Form::KindText | Form::KindDeprecatedText, Value::Text(name)) => {
            let is = |kind: &&(&str, &str)| if form == Form::KindText { kind.0 } else { kind.1 }.as_bytes() == &*name;
            let number = KINDS.iter().position(|kind| is(&kind));
            number.map(|number| Value::Int(number as i64)).ok_or(Fault::invalid("a span has no such kind"))
        }
        (Form::KindText | Form::KindDeprecatedText, other) => Err(Fault::wrong("a kind as a string", &other)),
        (Form::Map, value @ Value::Map(_)) => Ok(value),
        (Form::Map, other) => Err(Fault::wrong("a map", &other)),
        // The checker lets nobody set these.
        (Form::Count | Form::ReadOnly, _) => Err(Fault::invalid("the path cannot be set")),
    }
}

/// A list whose items are all integers, or all floats.
fn store_list(form: Form, items: Vec<Value<'_>>) -> Result<Value<'_>, Fault> {
    let wrong = items.iter().find(|item| match form {
        Form::Ints => !matches!(item, Value::Int(_)),
        _ => !matches!(item, Value::Double(_)),
    });
    match wrong {
        Some(other) => Err(Fault::wrong(if form == Form::Ints { "integers only" } else { "floats only" }, other)),
        None => Ok(Value::List(items)),
    }
}

/// The `length` bytes that `digits` spell.
pub(crate) fn id_from_hex(digits: &[u8], length: usize) -> Result<Vec<u8>, Fault> {
    let wrong = || Fault::invalid("expected an id of 32 (trace) or 16 (span) hexadecimal digits");
    if digits.len() != 2 * length {
        return Err(wrong());
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    digits
        .chunks_exact(2)
        .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
        .collect::<Option<_>>()
        .ok_or_else(wrong)
}

/// The value of `key` in a W3C trace state.
pub(crate) fn trace_state_value<'t>(state: &'t [u8], key: &[u8]) -> Option<&'t [u8]> {
    trace_state_members(state).find(|(name, _)| *name == key).map(|(_, value)| value)
}

/// The trace state with `key` set, in front as the specification wants of what was changed.
pub(crate) fn trace_state_with(state: &[u8], key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = [key, b"=", value].concat();
    for (name, value) in trace_state_members(state).filter(|(name, _)| *name != key) {
        out.extend_from_slice(b",");
        out.extend_from_slice(name);
        out.extend_from_slice(b"=");
        out.extend_from_slice(value);
    }
    out
}

fn trace_state_members(state: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    state.split(|byte| *byte == b',').filter_map(|member| {
        let member = member.trim_ascii();
        let middle = member.iter().position(|byte| *byte == b'=')?;
        Some((&member[..middle], &member[middle + 1..]))
    })
}
