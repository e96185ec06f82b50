//! The request index: which spans a request holds, where their bytes lie, and whose they are.
//!
//! ```text
//! envelopes: [resource 0][scope 0][scope 1][resource 1][scope 2] ...   bytes, back to back
//! resources: range of each resource envelope
//! scopes:    range of each scope envelope, and its resource
//! spans:     segment + offset + length of each span message, its scope, and what sampling asks
//! ```
//!
//! An *envelope* is every byte of a ResourceSpans (or ScopeSpans) message except its children: the resource (or scope)
//! message, `schema_url`, unknown fields, each with its tag. Envelopes are small and their parts may lie apart, so they
//! are copied together; span bytes are never copied here.

use super::span::SpanItem;

/// A half-open range of bytes in [`SpanIndex::envelopes`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// A scope of a request: its envelope and the resource it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScopeEntry {
    /// Index into [`SpanIndex::resources`].
    pub resource: u32,
    /// The scope envelope's bytes.
    pub envelope: ByteRange,
}

/// The spans of one or more requests as positions in shared, read-only segments.
///
/// Holding one proves: every range lies inside its buffer, every `scope` and `resource` is a valid index, every span
/// is a well-formed OTLP span message at every depth.
#[derive(Clone, Debug, Default)]
pub struct SpanIndex {
    /// Bytes of all envelopes.
    pub envelopes: Vec<u8>,
    /// Resource envelopes in order of arrival.
    pub resources: Vec<ByteRange>,
    /// Scope envelopes in order of arrival.
    pub scopes: Vec<ScopeEntry>,
    /// Spans in order of arrival.
    pub spans: Vec<SpanItem>,
}
