//! Paths: what can be read and set in each context, and how a field's raw value looks in a path's form.
//!
//! The one idea: a path is a *field* of a *level* in a *form*. `span.start_time` and `span.start_time_unix_nano` are one
//! field in two forms, so that a view knows 27 fields and no forms. Source: reference of the Collector's contexts.

use std::borrow::Cow;
use std::fmt;

use crate::fault::Fault;
use crate::program::Expr;
use crate::value::{Value, hex};

/// What a statement runs on; a lower context also sees those it lies in.
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
}

impl Context {
    /// All contexts, the lowest first: the order in which a context is inferred.
    pub const ALL: [Self; 4] = [Self::SpanEvent, Self::Span, Self::Scope, Self::Resource];

    /// The context called `name`, which is also the prefix of its paths.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "resource" => Self::Resource,
            "scope" | "instrumentation_scope" => Self::Scope,
            "span" => Self::Span,
            "spanevent" => Self::SpanEvent,
            _ => return None,
        })
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resource => "resource",
            Self::Scope => "scope",
            Self::Span => "span",
            Self::SpanEvent => "spanevent",
        })
    }
}

/// A field as a view knows it; [`Context`] names the level. Raw values: text as text, ids and trace state as they lie,
/// numbers as integers, times as integers (nanoseconds since 1970).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// All attributes of the level, a map.
    Attributes(Context),
    /// Count of attributes the producer left out.
    DroppedAttributes(Context),
    /// Schema of a resource or a scope.
    SchemaUrl(Context),
    /// Name of a scope, a span or an event.
    Name(Context),
    /// Version of a scope.
    Version,
    /// 16 bytes or none.
    TraceId,
    /// 8 bytes or none.
    SpanId,
    /// 8 bytes or none.
    ParentSpanId,
    /// W3C trace state, text.
    TraceState,
    /// Kind of a span, an integer.
    Kind,
    /// When a span began.
    Start,
    /// When a span ended.
    End,
    /// Status code of a span, an integer.
    StatusCode,
    /// Status message of a span.
    StatusMessage,
    /// Flags of a span, an integer.
    Flags,
    /// Count of events the producer left out.
    DroppedEvents,
    /// Count of links the producer left out.
    DroppedLinks,
    /// Number of events of a span; only its length can be asked.
    Events,
    /// Number of links of a span; only its length can be asked.
    Links,
    /// When an event happened.
    EventTime,
    /// Number of the event in its span, from 0.
    EventIndex,
}

/// How a field's raw value is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Attributes.
    Map,
    /// Text as it is.
    Text,
    /// An integer of this many bits.
    Int(u32),
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

/// Where a path starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Root {
    Field(Field, Form),
    /// Values that live as long as a group of statements works on one item.
    Cache,
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
    ("flags", Field::Flags, Form::Int(32)),
    ("kind", Field::Kind, Form::Int(32)),
    ("kind.deprecated_string", Field::Kind, Form::KindDeprecatedText),
    ("kind.string", Field::Kind, Form::KindText),
    ("links", Field::Links, Form::Count),
    ("name", Field::Name(Context::Span), Form::Text),
    ("parent_span_id", Field::ParentSpanId, Form::Id(8)),
    ("parent_span_id.string", Field::ParentSpanId, Form::IdText(8)),
    ("span_id", Field::SpanId, Form::Id(8)),
    ("span_id.string", Field::SpanId, Form::IdText(8)),
    ("start_time", Field::Start, Form::Time),
    ("start_time_unix_nano", Field::Start, Form::Int(64)),
    ("status.code", Field::StatusCode, Form::Int(32)),
    ("status.message", Field::StatusMessage, Form::Text),
    ("trace_id", Field::TraceId, Form::Id(16)),
    ("trace_id.string", Field::TraceId, Form::IdText(16)),
    ("trace_state", Field::TraceState, Form::TraceState),
];

const SPAN_EVENT: &[Row] = &[
    ("attributes", Field::Attributes(Context::SpanEvent), Form::Map),
    ("dropped_attributes_count", Field::DroppedAttributes(Context::SpanEvent), Form::Int(32)),
    ("event_index", Field::EventIndex, Form::ReadOnly),
    ("name", Field::Name(Context::SpanEvent), Form::Text),
    ("time", Field::EventTime, Form::Time),
    ("time_unix_nano", Field::EventTime, Form::Int(64)),
];

fn rows(context: Context) -> &'static [Row] {
    match context {
        Context::Resource => RESOURCE,
        Context::Scope => SCOPE,
        Context::Span => SPAN,
        Context::SpanEvent => SPAN_EVENT,
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
        (Form::Count, Value::Int(count)) => Value::List(vec![Value::Nil; usize::try_from(count).unwrap_or(0)]),
        (_, raw) => raw,
    }
}

/// The raw value to store for `value`, which a statement sets through a path in `form`.
pub(crate) fn store<'v>(form: Form, value: Value<'v>) -> Result<Value<'v>, Fault> {
    match (form, value) {
        (Form::Text | Form::TraceState, value @ Value::Text(_)) => Ok(value),
        (Form::Text | Form::TraceState, other) => Err(Fault::wrong("a string", &other)),
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
