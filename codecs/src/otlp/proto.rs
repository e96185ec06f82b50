//! OTLP messages as structs, for slow paths: the debug and memory exporters, tests, responses.
//!
//! Never on the trace path: decoding costs about ten times the index. Field numbers and types are those of
//! opentelemetry-proto 1.x (trace/v1, metrics/v1, logs/v1, common/v1, resource/v1, collector/*/v1) and google/rpc. One difference: where
//! the `.proto` files say `string`, this says `bytes` (`Vec<u8>`), because prost refuses a `string` that is not UTF-8
//! and a peer's text must pass as it is. Unknown fields are lost here.

mod logs;
mod metrics;

use std::borrow::Cow;

use prost::{Message, Oneof};

pub use logs::*;
pub use metrics::*;

/// `ExportTraceServiceRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct ExportTraceServiceRequest {
    /// Spans by resource.
    #[prost(message, repeated, tag = "1")]
    pub resource_spans: Vec<ResourceSpans>,
}

/// `ExportTraceServiceResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct ExportTraceServiceResponse {
    /// Present if not everything was taken.
    #[prost(message, optional, tag = "1")]
    pub partial_success: Option<ExportTracePartialSuccess>,
}

/// `ExportTracePartialSuccess`.
#[derive(Clone, PartialEq, Message)]
pub struct ExportTracePartialSuccess {
    /// Spans the peer did not take.
    #[prost(int64, tag = "1")]
    pub rejected_spans: i64,
    /// Why, or a warning if none was rejected.
    #[prost(bytes = "vec", tag = "2")]
    pub error_message: Vec<u8>,
}

/// `ResourceSpans`.
#[derive(Clone, PartialEq, Message)]
pub struct ResourceSpans {
    /// Who produced the spans.
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    /// Spans by instrumentation scope.
    #[prost(message, repeated, tag = "2")]
    pub scope_spans: Vec<ScopeSpans>,
    /// Schema of the resource.
    #[prost(bytes = "vec", tag = "3")]
    pub schema_url: Vec<u8>,
}

/// `Resource`.
#[derive(Clone, PartialEq, Message)]
pub struct Resource {
    /// Attributes such as `service.name`.
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
    /// Attributes the producer left out.
    #[prost(uint32, tag = "2")]
    pub dropped_attributes_count: u32,
}

/// `ScopeSpans`.
#[derive(Clone, PartialEq, Message)]
pub struct ScopeSpans {
    /// Which library produced the spans.
    #[prost(message, optional, tag = "1")]
    pub scope: Option<InstrumentationScope>,
    /// The spans.
    #[prost(message, repeated, tag = "2")]
    pub spans: Vec<Span>,
    /// Schema of the scope and its spans.
    #[prost(bytes = "vec", tag = "3")]
    pub schema_url: Vec<u8>,
}

/// `InstrumentationScope`.
#[derive(Clone, PartialEq, Message)]
pub struct InstrumentationScope {
    /// Name of the library.
    #[prost(bytes = "vec", tag = "1")]
    pub name: Vec<u8>,
    /// Its version.
    #[prost(bytes = "vec", tag = "2")]
    pub version: Vec<u8>,
    /// Its attributes.
    #[prost(message, repeated, tag = "3")]
    pub attributes: Vec<KeyValue>,
    /// Attributes the producer left out.
    #[prost(uint32, tag = "4")]
    pub dropped_attributes_count: u32,
}

/// `Span`.
#[derive(Clone, PartialEq, Message)]
pub struct Span {
    /// 16 bytes, or none.
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    /// 8 bytes, or none.
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    /// W3C `tracestate`.
    #[prost(bytes = "vec", tag = "3")]
    pub trace_state: Vec<u8>,
    /// 8 bytes, or none for a root span.
    #[prost(bytes = "vec", tag = "4")]
    pub parent_span_id: Vec<u8>,
    /// Operation name.
    #[prost(bytes = "vec", tag = "5")]
    pub name: Vec<u8>,
    /// 0 unspecified, 1 internal, 2 server, 3 client, 4 producer, 5 consumer.
    #[prost(int32, tag = "6")]
    pub kind: i32,
    /// Start, in nanoseconds since 1970.
    #[prost(fixed64, tag = "7")]
    pub start_time_unix_nano: u64,
    /// End, in nanoseconds since 1970.
    #[prost(fixed64, tag = "8")]
    pub end_time_unix_nano: u64,
    /// Attributes.
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    /// Attributes the producer left out.
    #[prost(uint32, tag = "10")]
    pub dropped_attributes_count: u32,
    /// Events.
    #[prost(message, repeated, tag = "11")]
    pub events: Vec<SpanEvent>,
    /// Events the producer left out.
    #[prost(uint32, tag = "12")]
    pub dropped_events_count: u32,
    /// Links to other spans.
    #[prost(message, repeated, tag = "13")]
    pub links: Vec<SpanLink>,
    /// Links the producer left out.
    #[prost(uint32, tag = "14")]
    pub dropped_links_count: u32,
    /// How the operation ended.
    #[prost(message, optional, tag = "15")]
    pub status: Option<SpanStatus>,
    /// W3C trace flags in the lowest 8 bits, then `has_is_remote` and `is_remote`.
    #[prost(fixed32, tag = "16")]
    pub flags: u32,
}

/// `Span.Event`.
#[derive(Clone, PartialEq, Message)]
pub struct SpanEvent {
    /// When, in nanoseconds since 1970.
    #[prost(fixed64, tag = "1")]
    pub time_unix_nano: u64,
    /// Name.
    #[prost(bytes = "vec", tag = "2")]
    pub name: Vec<u8>,
    /// Attributes.
    #[prost(message, repeated, tag = "3")]
    pub attributes: Vec<KeyValue>,
    /// Attributes the producer left out.
    #[prost(uint32, tag = "4")]
    pub dropped_attributes_count: u32,
}

/// `Span.Link`.
#[derive(Clone, PartialEq, Message)]
pub struct SpanLink {
    /// 16 bytes, or none.
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    /// 8 bytes, or none.
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    /// W3C `tracestate` of the linked span.
    #[prost(bytes = "vec", tag = "3")]
    pub trace_state: Vec<u8>,
    /// Attributes.
    #[prost(message, repeated, tag = "4")]
    pub attributes: Vec<KeyValue>,
    /// Attributes the producer left out.
    #[prost(uint32, tag = "5")]
    pub dropped_attributes_count: u32,
    /// Like `Span.flags`.
    #[prost(fixed32, tag = "6")]
    pub flags: u32,
}

/// `Status` of a span.
#[derive(Clone, PartialEq, Message)]
pub struct SpanStatus {
    /// For people.
    #[prost(bytes = "vec", tag = "2")]
    pub message: Vec<u8>,
    /// 0 unset, 1 ok, 2 error.
    #[prost(int32, tag = "3")]
    pub code: i32,
}

/// `KeyValue`.
#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    /// Name.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// Value; absent is the empty value.
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

/// `AnyValue`.
#[derive(Clone, PartialEq, Message)]
pub struct AnyValue {
    /// The value; absent is the empty value.
    #[prost(oneof = "Value", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub value: Option<Value>,
}

/// What an [`AnyValue`] can hold.
#[derive(Clone, PartialEq, Oneof)]
pub enum Value {
    /// Text.
    #[prost(bytes = "vec", tag = "1")]
    String(Vec<u8>),
    /// Truth.
    #[prost(bool, tag = "2")]
    Bool(bool),
    /// Whole number.
    #[prost(int64, tag = "3")]
    Int(i64),
    /// Floating point number.
    #[prost(double, tag = "4")]
    Double(f64),
    /// List.
    #[prost(message, tag = "5")]
    Array(ArrayValue),
    /// Map.
    #[prost(message, tag = "6")]
    Map(KeyValueList),
    /// Opaque bytes.
    #[prost(bytes = "vec", tag = "7")]
    Bytes(Vec<u8>),
}

/// `ArrayValue`.
#[derive(Clone, PartialEq, Message)]
pub struct ArrayValue {
    /// Elements.
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<AnyValue>,
}

/// `KeyValueList`.
#[derive(Clone, PartialEq, Message)]
pub struct KeyValueList {
    /// Entries.
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<KeyValue>,
}

/// `google.rpc.Status`: the body of an error.
#[derive(Clone, PartialEq, Message)]
pub struct RpcStatus {
    /// A gRPC status code.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// For people.
    #[prost(bytes = "vec", tag = "2")]
    pub message: Vec<u8>,
    /// Typed details such as [`RetryInfo`].
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
pub struct Any {
    /// Which message `value` holds, such as [`RETRY_INFO_URL`].
    #[prost(bytes = "vec", tag = "1")]
    pub type_url: Vec<u8>,
    /// The message's bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// Type of a [`RetryInfo`] inside an [`Any`].
pub const RETRY_INFO_URL: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
pub struct RetryInfo {
    /// Wait at least this long.
    #[prost(message, optional, tag = "1")]
    pub retry_delay: Option<ProtoDuration>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
pub struct ProtoDuration {
    /// Whole seconds.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Nanoseconds of the same sign.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// A peer's text for people: what is not UTF-8 becomes the replacement character.
#[must_use]
pub fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
