//! The request index: which items a request holds, where their bytes lie, and whose they are.
//!
//! ```text
//! envelopes: [resource 0][scope 0][scope 1][resource 1][scope 2] ...   bytes, back to back
//! resources: range of each resource envelope
//! scopes:    range of each scope envelope, and its resource
//! items:     segment + offset + length of each span, metric or log record, its scope, and the facts noted of it
//! ```
//!
//! An *envelope* is every byte of a ResourceSpans (or ScopeSpans, ResourceLogs, ...) message except its children: the
//! resource (or scope) message, `schema_url`, unknown fields, each with its tag. Envelopes are small and their parts may
//! lie apart, so they are copied together; items are never copied here. Unknown fields of the request itself have no
//! place and are left out: requests are merged and split, resources are not.

use bytes::Bytes;

use super::item::{Item, Place};
use super::log::LogItem;
use super::metric::MetricItem;
use super::span::SpanItem;

/// The index of a traces request.
pub type SpanIndex = Index<SpanItem>;
/// The index of a metrics request.
pub type MetricIndex = Index<MetricItem>;
/// The index of a logs request.
pub type LogIndex = Index<LogItem>;

/// A half-open range of bytes in [`Index::envelopes`].
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
    /// Index into [`Index::resources`].
    pub resource: u32,
    /// The scope envelope's bytes.
    pub envelope: ByteRange,
}

/// The items of one or more requests as positions in shared, read-only segments.
///
/// Holding one proves: every range lies inside its buffer, every `scope` and `resource` is a valid index, every item
/// is a well-formed OTLP message of its kind at every depth.
#[derive(Clone, Debug, Default)]
pub struct Index<I> {
    /// Bytes of all envelopes.
    pub envelopes: Vec<u8>,
    /// Resource envelopes in order of arrival.
    pub resources: Vec<ByteRange>,
    /// Scope envelopes in order of arrival.
    pub scopes: Vec<ScopeEntry>,
    /// Items in order of arrival.
    pub items: Vec<I>,
}

impl<I: Item> Index<I> {
    /// Forgets all items and keeps the memory.
    pub fn clear(&mut self) {
        self.envelopes.clear();
        self.resources.clear();
        self.scopes.clear();
        self.items.clear();
    }

    /// Whether there are no items.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Appends the items of `other`, whose segments become those from `segment_offset` on.
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
        self.items.extend(other.items.iter().map(|item| {
            let place = item.place();
            let segment = place.segment.checked_add(segment_offset);
            let segment = segment.expect("a merged batch has fewer than 65536 segments");
            let mut moved = *item;
            moved.set_place(Place { scope: place.scope + scope_offset, segment, ..place });
            moved
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

    /// Appends an item that was checked before; its place is already one of this index and its segments.
    ///
    /// # Panics
    /// There is no such scope.
    pub fn push_item(&mut self, item: I) {
        assert!((item.place().scope as usize) < self.scopes.len(), "an item belongs to a scope of its index");
        self.items.push(item);
    }

    /// Appends the items numbered in `numbers`, in that order, to `into`, with copies of the envelopes they use and of
    /// no others. Segments stay as they are; see [`Self::relocate`].
    ///
    /// # Panics
    /// A number in `numbers` is no item of this index.
    pub fn select(&self, numbers: &[u32], into: &mut Self) {
        self.select_with(&mut EnvelopeMap::default(), numbers, into);
    }

    /// [`Self::select`] with memory of the caller's, for where it happens with every batch.
    ///
    /// # Panics
    /// A number in `numbers` is no item of this index.
    pub fn select_with(&self, map: &mut EnvelopeMap, numbers: &[u32], into: &mut Self) {
        map.reset(self);
        for &number in numbers {
            let mut item = self.items[number as usize];
            let place = item.place();
            let scope = match map.scopes[place.scope as usize] {
                NOT_COPIED => self.copy_scope(place.scope, map, into),
                scope => scope,
            };
            item.set_place(Place { scope, ..place });
            into.items.push(item);
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

    /// Copies the bytes of the items from number `first` on to the end of `out` and points the items there, as
    /// segment number `segment`.
    ///
    /// # Panics
    /// `out` would exceed 4 GiB, or `segments` are not those of the items.
    pub fn relocate(&mut self, first: usize, segments: &[Bytes], out: &mut Vec<u8>, segment: u16) {
        for item in &mut self.items[first..] {
            let offset = u32::try_from(out.len()).expect("a segment stays below 4 GiB");
            out.extend_from_slice(item_bytes(item, segments));
            item.set_place(Place { offset, segment, ..item.place() });
        }
    }

    /// Replaces every resource envelope by what `edit` appends for it. The old bytes stay behind, unreferenced, until the
    /// index is written out.
    ///
    /// # Panics
    /// The envelopes would exceed 4 GiB: the caller bounds its batches.
    pub fn edit_resources(&mut self, mut edit: impl FnMut(&[u8], &mut Vec<u8>)) {
        let mut edited = Vec::new();
        for number in 0..self.resources.len() {
            edited.clear();
            edit(self.envelope(self.resources[number]), &mut edited);
            let start = self.envelopes.len();
            self.envelopes.extend_from_slice(&edited);
            self.resources[number] = self.envelope_since(start);
        }
    }

    /// What the items count as together: spans, data points or log records.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.items.iter().map(Item::count).sum()
    }

    /// Bytes of items and envelopes, close to what a request of them weighs before compression.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let items: u64 = self.items.iter().map(|item| u64::from(item.place().length)).sum();
        items + self.envelopes.len() as u64
    }

    /// Memory of the index itself in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.envelopes.capacity()
            + self.resources.capacity() * size_of::<ByteRange>()
            + self.scopes.capacity() * size_of::<ScopeEntry>()
            + self.items.capacity() * size_of::<I>()
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
    item_bytes(item, segments)
}

/// The bytes of an item's message, without tag and length.
///
/// # Panics
/// `segments` are not those of the index the item comes from.
#[inline]
#[must_use]
pub fn item_bytes<'a, I: Item>(item: &I, segments: &'a [Bytes]) -> &'a [u8] {
    let Place { offset, length, segment, .. } = item.place();
    let start = offset as usize;
    &segments[usize::from(segment)][start..start + length as usize]
}

/// Which envelopes [`Index::select_with`] has copied, and where to. Kept by the caller to be reused.
#[derive(Clone, Debug, Default)]
pub struct EnvelopeMap {
    resources: Vec<u32>,
    scopes: Vec<u32>,
}

impl EnvelopeMap {
    fn reset<I>(&mut self, index: &Index<I>) {
        self.resources.clear();
        self.resources.resize(index.resources.len(), NOT_COPIED);
        self.scopes.clear();
        self.scopes.resize(index.scopes.len(), NOT_COPIED);
    }
}

const NOT_COPIED: u32 = u32::MAX;
