//! Which JSON name is which protobuf field (opentelemetry-proto trace/v1, common/v1, resource/v1, collector/trace/v1, and
//! google/rpc/status).
//!
//! Fields stand in the order in which SDKs write them, since the reader looks first where it found the last one.

/// A message.
#[derive(Debug)]
pub(super) struct Message {
    /// Name for errors.
    pub(super) name: &'static str,
    pub(super) fields: &'static [Field],
    /// Bytes that the length of such a message usually takes.
    pub(super) length_bytes: usize,
    /// All fields are one oneof: the last one counts, and its default is not the same as its absence.
    pub(super) is_one_of: bool,
    /// A list or map inside an attribute value: one level of nesting.
    pub(super) deepens: bool,
    /// How many times the bytes of its JSON it takes as protobuf, at most.
    pub(super) growth_max: usize,
}

/// A field of a message.
#[derive(Debug)]
pub(super) struct Field {
    /// Name in JSON, with the quote that ends it: comparing it with the input finds the end as well.
    pub(super) quoted: &'static str,
    /// Name in the `.proto` file.
    pub(super) original: &'static str,
    pub(super) number: u32,
    pub(super) kind: Kind,
}

impl Field {
    /// Name in JSON.
    pub(super) fn name(&self) -> &'static str {
        &self.quoted[..self.quoted.len() - 1]
    }
}

/// How a field is written in either encoding.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// `string`.
    Text,
    /// `bytes` in base64.
    Bytes,
    /// `bytes` in hex, this many or none.
    Id(usize),
    /// `bool`.
    Bool,
    /// `int64`.
    Int64,
    /// `double`.
    Double,
    /// `uint32`.
    Uint32,
    /// `fixed32`.
    Fixed32,
    /// `fixed64`.
    Fixed64,
    /// `sint32`.
    Sint32,
    /// `sfixed64`, in a oneof.
    SignedFixed64,
    /// `repeated fixed64`.
    Fixed64s,
    /// `repeated uint64`.
    Uint64s,
    /// `repeated double`.
    Doubles,
    /// An enum or `int32`; names in order of their numbers.
    Enum(&'static [&'static str]),
    /// A message.
    One(&'static Message),
    /// `repeated`, a message.
    Many(&'static Message),
}

/// A field: name in JSON, in the `.proto` file, number, kind.
macro_rules! field {
    ($name:literal, $original:literal, $number:literal, $kind:expr) => {
        $crate::json::schema::Field { quoted: concat!($name, "\""), original: $original, number: $number, kind: $kind }
    };
}

pub(super) use field;

/// What most messages have.
pub(super) const PLAIN: Message =
    Message { name: "", fields: &[], length_bytes: 1, is_one_of: false, deepens: false, growth_max: 1 };

/// ExportTraceServiceRequest.
pub(super) static REQUEST: Message = Message {
    name: "an ExportTraceServiceRequest",
    fields: &[field!("resourceSpans", "resource_spans", 1, Kind::Many(&RESOURCE_SPANS))],
    ..PLAIN
};

static RESOURCE_SPANS: Message = Message {
    name: "ResourceSpans",
    fields: &[
        field!("resource", "resource", 1, Kind::One(&RESOURCE)),
        field!("scopeSpans", "scope_spans", 2, Kind::Many(&SCOPE_SPANS)),
        field!("schemaUrl", "schema_url", 3, Kind::Text),
    ],
    length_bytes: 3,
    ..PLAIN
};

pub(super) static RESOURCE: Message = Message {
    name: "a Resource",
    fields: &[
        field!("attributes", "attributes", 1, Kind::Many(&KEY_VALUE)),
        field!("droppedAttributesCount", "dropped_attributes_count", 2, Kind::Uint32),
    ],
    length_bytes: 2,
    ..PLAIN
};

static SCOPE_SPANS: Message = Message {
    name: "ScopeSpans",
    fields: &[
        field!("scope", "scope", 1, Kind::One(&SCOPE)),
        field!("spans", "spans", 2, Kind::Many(&SPAN)),
        field!("schemaUrl", "schema_url", 3, Kind::Text),
    ],
    length_bytes: 3,
    ..PLAIN
};

pub(super) static SCOPE: Message = Message {
    name: "an InstrumentationScope",
    fields: &[
        field!("name", "name", 1, Kind::Text),
        field!("version", "version", 2, Kind::Text),
        field!("attributes", "attributes", 3, Kind::Many(&KEY_VALUE)),
        field!("droppedAttributesCount", "dropped_attributes_count", 4, Kind::Uint32),
    ],
    ..PLAIN
};

static SPAN: Message = Message {
    name: "a Span",
    fields: &[
        field!("traceId", "trace_id", 1, Kind::Id(16)),
        field!("spanId", "span_id", 2, Kind::Id(8)),
        field!("traceState", "trace_state", 3, Kind::Text),
        field!("parentSpanId", "parent_span_id", 4, Kind::Id(8)),
        field!("flags", "flags", 16, Kind::Fixed32),
        field!("name", "name", 5, Kind::Text),
        field!("kind", "kind", 6, Kind::Enum(&SPAN_KINDS)),
        field!("startTimeUnixNano", "start_time_unix_nano", 7, Kind::Fixed64),
        field!("endTimeUnixNano", "end_time_unix_nano", 8, Kind::Fixed64),
        field!("attributes", "attributes", 9, Kind::Many(&KEY_VALUE)),
        field!("droppedAttributesCount", "dropped_attributes_count", 10, Kind::Uint32),
        field!("events", "events", 11, Kind::Many(&EVENT)),
        field!("droppedEventsCount", "dropped_events_count", 12, Kind::Uint32),
        field!("links", "links", 13, Kind::Many(&LINK)),
        field!("droppedLinksCount", "dropped_links_count", 14, Kind::Uint32),
        field!("status", "status", 15, Kind::One(&SPAN_STATUS)),
    ],
    length_bytes: 2,
    ..PLAIN
};

const SPAN_KINDS: [&str; 6] = [
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
];

static EVENT: Message = Message {
    name: "a Span.Event",
    fields: &[
        field!("timeUnixNano", "time_unix_nano", 1, Kind::Fixed64),
        field!("name", "name", 2, Kind::Text),
        field!("attributes", "attributes", 3, Kind::Many(&KEY_VALUE)),
        field!("droppedAttributesCount", "dropped_attributes_count", 4, Kind::Uint32),
    ],
    ..PLAIN
};

static LINK: Message = Message {
    name: "a Span.Link",
    fields: &[
        field!("traceId", "trace_id", 1, Kind::Id(16)),
        field!("spanId", "span_id", 2, Kind::Id(8)),
        field!("traceState", "trace_state", 3, Kind::Text),
        field!("attributes", "attributes", 4, Kind::Many(&KEY_VALUE)),
        field!("droppedAttributesCount", "dropped_attributes_count", 5, Kind::Uint32),
        field!("flags", "flags", 6, Kind::Fixed32),
    ],
    ..PLAIN
};

static SPAN_STATUS: Message = Message {
    name: "a Status",
    fields: &[
        field!("message", "message", 2, Kind::Text),
        field!("code", "code", 3, Kind::Enum(&["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"])),
    ],
    ..PLAIN
};

pub(super) static KEY_VALUE: Message = Message {
    name: "a KeyValue",
    fields: &[field!("key", "key", 1, Kind::Text), field!("value", "value", 2, Kind::One(&ANY_VALUE))],
    ..PLAIN
};

pub(super) static ANY_VALUE: Message = Message {
    name: "an AnyValue",
    fields: &[
        field!("stringValue", "string_value", 1, Kind::Text),
        field!("boolValue", "bool_value", 2, Kind::Bool),
        field!("intValue", "int_value", 3, Kind::Int64),
        field!("doubleValue", "double_value", 4, Kind::Double),
        field!("arrayValue", "array_value", 5, Kind::One(&ARRAY_VALUE)),
        field!("kvlistValue", "kvlist_value", 6, Kind::One(&KVLIST_VALUE)),
        field!("bytesValue", "bytes_value", 7, Kind::Bytes),
    ],
    is_one_of: true,
    ..PLAIN
};

static ARRAY_VALUE: Message = Message {
    name: "an ArrayValue",
    fields: &[field!("values", "values", 1, Kind::Many(&ANY_VALUE))],
    deepens: true,
    ..PLAIN
};

static KVLIST_VALUE: Message = Message {
    name: "a KeyValueList",
    fields: &[field!("values", "values", 1, Kind::Many(&KEY_VALUE))],
    deepens: true,
    ..PLAIN
};

/// ExportTraceServiceResponse.
pub(super) static RESPONSE: Message = Message {
    name: "an ExportTraceServiceResponse",
    fields: &[field!("partialSuccess", "partial_success", 1, Kind::One(&PARTIAL_SUCCESS))],
    ..PLAIN
};

static PARTIAL_SUCCESS: Message = Message {
    name: "an ExportTracePartialSuccess",
    fields: &[
        field!("rejectedSpans", "rejected_spans", 1, Kind::Int64),
        field!("errorMessage", "error_message", 2, Kind::Text),
    ],
    ..PLAIN
};

/// The answer to any signal, to be read: they differ in one name.
pub(super) static ANY_RESPONSE: Message = Message {
    name: "an export response",
    fields: &[field!("partialSuccess", "partial_success", 1, Kind::One(&ANY_PARTIAL_SUCCESS))],
    ..PLAIN
};

static ANY_PARTIAL_SUCCESS: Message = Message {
    name: "a partial success",
    fields: &[
        field!("rejectedSpans", "rejected_spans", 1, Kind::Int64),
        field!("rejectedDataPoints", "rejected_data_points", 1, Kind::Int64),
        field!("rejectedLogRecords", "rejected_log_records", 1, Kind::Int64),
        field!("errorMessage", "error_message", 2, Kind::Text),
    ],
    ..PLAIN
};

/// google.rpc.Status without its details.
pub(super) static STATUS: Message = Message {
    name: "a google.rpc.Status",
    fields: &[field!("code", "code", 1, Kind::Enum(&[])), field!("message", "message", 2, Kind::Text)],
    ..PLAIN
};
