//! One span as sampling sees it: where its bytes lie, and the few fields noted while they were checked.

/// A trace id; all zero means the span carries none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TraceId(pub [u8; 16]);

/// `Span.kind` (opentelemetry-proto, trace/v1). Values outside the enumeration are kept as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpanKind(pub u8);

/// `Status.code` (opentelemetry-proto, trace/v1): 0 unset, 1 ok, 2 error; anything else counts as unset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatusCode {
    /// Not set.
    #[default]
    Unset,
    /// Set to ok by the application.
    Ok,
    /// The operation failed.
    Error,
}

/// What the index notes about one span. One cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpanItem {
    /// `trace_id`; all zero if absent.
    pub trace_id: TraceId,
    /// `span_id`; all zero if absent.
    pub span_id: [u8; 8],
    /// `start_time_unix_nano`.
    pub start_ns: u64,
    /// `end_time_unix_nano`.
    pub end_ns: u64,
    /// Where the span message starts in its segment (after its tag and length).
    pub offset: u32,
    /// Length of the span message in bytes.
    pub length: u32,
    /// Index into [`super::SpanIndex::scopes`].
    pub scope: u32,
    /// `flags`.
    pub flags: u32,
    /// Which segment of the batch holds the bytes.
    pub segment: u16,
    /// Why the span was kept: a number the sampler gave its reason, 0 if no sampler decided yet.
    pub reason: u16,
    /// `status.code`.
    pub status: StatusCode,
    /// `kind`.
    pub kind: SpanKind,
    /// Whether `parent_span_id` is present and not all zero.
    pub has_parent: bool,
}

const _: () = assert!(
    size_of::<SpanItem>() == 64,
    "a span item fills one cache line"
);
