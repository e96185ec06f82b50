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
//! are copied together; span bytes are never copied here. Unknown fields of the request itself have no place and are
//! left out: requests are merged and split, resources are not.

use bytes::Bytes;

use super::span::SpanItem;

/// A half-open range of bytes in [`SpanIndex::envelopes`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl ByteRange {
    /// Number of bytes.
    #[must_use]
    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }
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

impl SpanIndex {
    /// Forgets all spans and keeps the memory.
    pub fn clear(&mut self) {
        self.envelopes.clear();
        self.resources.clear();
        self.scopes.clear();
        self.spans.clear();
    }

    /// Whether there are no spans.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Appends the spans of `other`, whose segments become those from `segment_offset` on.
    ///
    /// # Panics
    /// The merged index would have segments above 65535 or 4 GiB of envelopes: the caller bounds its batches.
    pub fn append(&mut self, other: &Self, segment_offset: u16) {
        let envelope_offset = self.envelopes.len();
        let resource_offset = self.resources.len() as u32;
        let scope_offset = self.scopes.len() as u32;
        assert!(
            u32::try_from(envelope_offset + other.envelopes.len()).is_ok(),
            "the envelopes of a merged batch exceed 4 GiB"
        );
        let moved = |range: ByteRange| ByteRange {
            start: range.start + envelope_offset as u32,
            end: range.end + envelope_offset as u32,
        };
        self.envelopes.extend_from_slice(&other.envelopes);
        self.resources.extend(other.resources.iter().map(|&range| moved(range)));
        self.scopes.extend(
            other.scopes.iter().map(|scope| ScopeEntry {
                resource: scope.resource + resource_offset,
                envelope: moved(scope.envelope),
            }),
        );
        self.spans.extend(other.spans.iter().map(|span| {
            let segment = span.segment.checked_add(segment_offset);
            SpanItem {
                scope: span.scope + scope_offset,
                segment: segment.expect("a merged batch has fewer than 65536 segments"),
                ..*span
            }
        }));
    }

    /// Appends a resource envelope that was checked before (it comes out of another index, or was written) and returns its
    /// number.
    ///
    /// # Panics
    /// The envelopes would exceed 4 GiB: the caller bounds its batches.
    pub fn push_resource(&mut self, envelope: &[u8]) -> u32 {
        let start = self.envelopes.len();
        self.envelopes.extend_from_slice(envelope);
        let range = self.envelope_since(start);
        self.resources.push(range);
        self.resources.len() as u32 - 1
    }

    /// Appends a scope envelope that was checked before, under `resource`, and returns its number.
    ///
    /// # Panics
    /// There is no such resource, or the envelopes would exceed 4 GiB.
    pub fn push_scope(&mut self, resource: u32, envelope: &[u8]) -> u32 {
        assert!((resource as usize) < self.resources.len(), "a scope belongs to a resource of its index");
        let start = self.envelopes.len();
        self.envelopes.extend_from_slice(envelope);
        let envelope = self.envelope_since(start);
        self.scopes.push(ScopeEntry { resource, envelope });
        self.scopes.len() as u32 - 1
    }

    /// Appends a span that was checked before; `scope`, `segment`, `offset` and `length` are already those of this
    /// index and its segments.
    ///
    /// # Panics
    /// There is no such scope.
    pub fn push_span(&mut self, span: SpanItem) {
        assert!((span.scope as usize) < self.scopes.len(), "a span belongs to a scope of its index");
        self.spans.push(span);
    }

    /// Appends the spans numbered in `spans`, in that order, to `into`, with copies of the envelopes they use and of
    /// no others. Segments stay as they are; see [`Self::relocate`].
    ///
    /// # Panics
    /// A number in `spans` is no span of this index.
    pub fn select(&self, spans: &[u32], into: &mut Self) {
        self.select_with(&mut EnvelopeMap::default(), spans, into);
    }

    /// [`Self::select`] with memory of the caller's, for where it happens with every batch.
    ///
    /// # Panics
    /// A number in `spans` is no span of this index.
    pub fn select_with(&self, map: &mut EnvelopeMap, spans: &[u32], into: &mut Self) {
        map.reset(self);
        for &number in spans {
            let span = self.spans[number as usize];
            let scope = match map.scopes[span.scope as usize] {
                NOT_COPIED => self.copy_scope(span.scope, map, into),
                scope => scope,
            };
            into.spans.push(SpanItem { scope, ..span });
        }
    }

    fn copy_scope(&self, scope: u32, map: &mut EnvelopeMap, into: &mut Self) -> u32 {
        let entry = self.scopes[scope as usize];
        let resource = &mut map.resources[entry.resource as usize];
        if *resource == NOT_COPIED {
            *resource = into.push_resource(self.envelope(self.resources[entry.resource as usize]));
        }
        let copy = into.push_scope(*resource, self.envelope(entry.envelope));
        map.scopes[scope as usize] = copy;
        copy
    }

    /// Copies the bytes of the spans from number `first` on to the end of `out` and points the spans there, as
    /// segment number `segment`.
    ///
    /// # Panics
    /// `out` would exceed 4 GiB, or `segments` are not those of the spans.
    pub fn relocate(&mut self, first: usize, segments: &[Bytes], out: &mut Vec<u8>, segment: u16) {
        for span in &mut self.spans[first..] {
            let offset = u32::try_from(out.len()).expect("a segment stays below 4 GiB");
            out.extend_from_slice(span_bytes(span, segments));
            span.offset = offset;
            span.segment = segment;
        }
    }

    /// The envelope that was appended since the envelopes had `start` bytes.
    pub(super) fn envelope_since(&self, start: usize) -> ByteRange {
        let end = u32::try_from(self.envelopes.len()).expect("the envelopes of one index stay below 4 GiB");
        ByteRange { start: start as u32, end }
    }

    /// The bytes of an envelope.
    #[must_use]
    pub fn envelope(&self, range: ByteRange) -> &[u8] {
        &self.envelopes[range.start as usize..range.end as usize]
    }

    /// The resource envelope of scope number `scope`.
    #[must_use]
    pub fn resource_envelope(&self, scope: u32) -> &[u8] {
        self.envelope(self.resources[self.scopes[scope as usize].resource as usize])
    }

    /// The scope envelope of scope number `scope`.
    #[must_use]
    pub fn scope_envelope(&self, scope: u32) -> &[u8] {
        self.envelope(self.scopes[scope as usize].envelope)
    }
}

/// The bytes of a span message, without tag and length.
///
/// # Panics
/// `segments` are not those of the index the item comes from.
#[inline]
#[must_use]
pub fn span_bytes<'a>(item: &SpanItem, segments: &'a [Bytes]) -> &'a [u8] {
    let start = item.offset as usize;
    &segments[usize::from(item.segment)][start..start + item.length as usize]
}

/// Which envelopes [`SpanIndex::select_with`] has copied, and where to. Kept by the caller to be reused.
#[derive(Clone, Debug, Default)]
pub struct EnvelopeMap {
    resources: Vec<u32>,
    scopes: Vec<u32>,
}

impl EnvelopeMap {
    fn reset(&mut self, index: &SpanIndex) {
        self.resources.clear();
        self.resources.resize(index.resources.len(), NOT_COPIED);
        self.scopes.clear();
        self.scopes.resize(index.scopes.len(), NOT_COPIED);
    }
}

const NOT_COPIED: u32 = u32::MAX;
