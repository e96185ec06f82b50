//! Messages of logs (opentelemetry-proto, logs/v1 and collector/logs/v1).

use prost::Message;

use super::{AnyValue, InstrumentationScope, KeyValue, Resource};

/// `ExportLogsServiceRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct ExportLogsServiceRequest {
    /// Log records by resource.
    #[prost(message, repeated, tag = "1")]
    pub resource_logs: Vec<ResourceLogs>,
}

/// `ResourceLogs`.
#[derive(Clone, PartialEq, Message)]
pub struct ResourceLogs {
    /// Who wrote the records.
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    /// Records by instrumentation scope.
    #[prost(message, repeated, tag = "2")]
    pub scope_logs: Vec<ScopeLogs>,
    /// Schema of the resource.
    #[prost(bytes = "vec", tag = "3")]
    pub schema_url: Vec<u8>,
}

/// `ScopeLogs`.
#[derive(Clone, PartialEq, Message)]
pub struct ScopeLogs {
    /// Which library wrote the records.
    #[prost(message, optional, tag = "1")]
    pub scope: Option<InstrumentationScope>,
    /// The records.
    #[prost(message, repeated, tag = "2")]
    pub log_records: Vec<LogRecord>,
    /// Schema of the scope and its records.
    #[prost(bytes = "vec", tag = "3")]
    pub schema_url: Vec<u8>,
}

/// `LogRecord`.
#[derive(Clone, PartialEq, Message)]
pub struct LogRecord {
    /// When it happened.
    #[prost(fixed64, tag = "1")]
    pub time_unix_nano: u64,
    /// When it was seen.
    #[prost(fixed64, tag = "11")]
    pub observed_time_unix_nano: u64,
    /// 1 (trace) to 24 (fatal).
    #[prost(int32, tag = "2")]
    pub severity_number: i32,
    /// As the source names it.
    #[prost(bytes = "vec", tag = "3")]
    pub severity_text: Vec<u8>,
    /// What is said.
    #[prost(message, optional, tag = "5")]
    pub body: Option<AnyValue>,
    /// What is said beside it.
    #[prost(message, repeated, tag = "6")]
    pub attributes: Vec<KeyValue>,
    /// Attributes the producer left out.
    #[prost(uint32, tag = "7")]
    pub dropped_attributes_count: u32,
    /// W3C trace flags in the low byte.
    #[prost(fixed32, tag = "8")]
    pub flags: u32,
    /// 16 bytes, or none.
    #[prost(bytes = "vec", tag = "9")]
    pub trace_id: Vec<u8>,
    /// 8 bytes, or none.
    #[prost(bytes = "vec", tag = "10")]
    pub span_id: Vec<u8>,
    /// Name of the event, if it is one.
    #[prost(bytes = "vec", tag = "12")]
    pub event_name: Vec<u8>,
}
