//! What leaves a sampler: kept spans, copied out of the table, with their envelopes.
//!
//! A release is the caller's and is filled again and again: `clear`, hand it to the sampler, take the index and the
//! bytes. All bytes lie in one segment, so every item's `segment` is 0. Each interned scope appears once, however many
//! traces name it: the table remembers beside each envelope where it stands in the release being filled.

use codecs::otlp::{ByteRange, Item, ScopeEntry, SpanIndex, SpanItem, TraceId};

use crate::table::{EnvelopePair, Envelopes, ScopeHandle, SpanScope};

/// A sampler adds no trace from its table to a release that has this many bytes; one span may go beyond.
pub const RELEASE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What the first span of a trace ends with if its trace was decided on what was there because it grew too large to wait:
/// the attribute `tracegate.trace.cut`, true, as a field of a span message.
pub const CUT_MARK: &[u8] = b"\x4a\x19\x0a\x13tracegate.trace.cut\x12\x02\x10\x01";

/// Kept spans on their way to the next node.
///
/// Between two calls of [`Release::clear`] it belongs to one sampler.
#[derive(Debug, Default)]
pub struct Release {
    /// Where the spans lie in `bytes`, and their envelopes. `reason` is set in every item.
    pub index: SpanIndex,
    /// Span messages, back to back.
    pub bytes: Vec<u8>,
    /// Traces whose spans start leaving with this release. A trace too large for one release continues in the next
    /// without being named again; late spans and spans without a trace id name no trace.
    pub traces: Vec<KeptTrace>,
    /// The sampler that fills it; 0: none yet.
    owner: u64,
    /// Tells fillings of one sampler apart; 0: not begun.
    session: u64,
    /// The last scope whose envelopes were not interned.
    inline_scope: Option<u32>,
}

/// A trace that was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptTrace {
    /// Its id.
    pub trace_id: TraceId,
    /// The sampler's number for the first policy that sampled it.
    pub reason: u16,
    /// It was decided before its deadline, on what was there, because it grew too large to wait.
    pub is_cut: bool,
}

impl Release {
    /// Empties it, keeping its memory, for any sampler.
    pub fn clear(&mut self) {
        self.index.envelopes.clear();
        self.index.resources.clear();
        self.index.scopes.clear();
        self.index.items.clear();
        self.bytes.clear();
        self.traces.clear();
        self.owner = 0;
        self.session = 0;
        self.inline_scope = None;
    }

    /// Whether it holds no span.
    pub fn is_empty(&self) -> bool {
        self.index.items.is_empty()
    }

    /// Memory it holds, in bytes.
    pub fn bytes_held(&self) -> usize {
        self.index.envelopes.capacity()
            + self.index.resources.capacity() * size_of::<ByteRange>()
            + self.index.scopes.capacity() * size_of::<ScopeEntry>()
            + self.index.items.capacity() * size_of::<SpanItem>()
            + self.bytes.capacity()
            + self.traces.capacity() * size_of::<KeptTrace>()
    }

    /// Whether it is too full for more from a table.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() >= RELEASE_BYTES_MAX
    }

    /// The sampler `owner`, whose last session was `session`, goes on filling it or starts to.
    pub(crate) fn begin(&mut self, owner: u64, session: &mut u64) {
        assert!(self.session == 0 || self.owner == owner, "a release belongs to one sampler until it is cleared");
        if self.session == 0 || self.session != *session {
            *session += 1;
            self.owner = owner;
            self.session = *session;
        }
    }

    /// Adds a span. Of `item` everything is kept but where its bytes and its scope were.
    #[inline]
    pub(crate) fn push(&mut self, item: SpanItem, scope: u32, bytes: &[u8]) {
        let offset = u32::try_from(self.bytes.len()).expect("a release is cleared long before it has 4 GiB");
        self.bytes.extend_from_slice(bytes);
        self.index.items.push(SpanItem { scope, offset, length: bytes.len() as u32, segment: 0, ..item });
    }

    /// Marks the last span's trace as cut.
    pub(crate) fn mark_cut(&mut self) {
        let last = self.index.items.last_mut().expect("called for the span that was just added");
        last.length += CUT_MARK.len() as u32;
        last.forget_attributes();
        self.bytes.extend_from_slice(CUT_MARK);
    }

    /// As [`Release::push`], of a span whose bytes `write` appends.
    pub(crate) fn push_written(&mut self, mut item: SpanItem, scope: u32, write: impl FnOnce(&mut Vec<u8>)) {
        item.forget_attributes();
        let start = self.bytes.len();
        let offset = u32::try_from(start).expect("a release is cleared long before it has 4 GiB");
        write(&mut self.bytes);
        let length = (self.bytes.len() - start) as u32;
        self.index.items.push(SpanItem { scope, offset, length, segment: 0, ..item });
    }

    /// The position of a span's scope, written if need be.
    #[inline]
    pub(crate) fn scope(&mut self, scope: SpanScope<'_>, envelopes: &mut Envelopes) -> u32 {
        match scope {
            SpanScope::Interned(handle) => match envelopes.released_scope(handle, self.session) {
                Some(position) => position,
                None => self.add_interned(handle, envelopes),
            },
            SpanScope::Inline(pair) => self.inline(pair),
        }
    }

    fn add_interned(&mut self, handle: ScopeHandle, envelopes: &mut Envelopes) -> u32 {
        let resource = match envelopes.released_resource(handle, self.session) {
            Some(position) => position,
            None => self.add_resource(envelopes.resource_envelope(handle)),
        };
        let scope = self.add_scope(resource, envelopes.scope_envelope(handle));
        envelopes.note_released(handle, self.session, resource, scope);
        scope
    }

    /// Envelopes that were not interned are written again unless they equal the last such pair.
    fn inline(&mut self, pair: EnvelopePair<'_>) -> u32 {
        if let Some(position) = self.inline_scope {
            let last = self.index.scopes[position as usize];
            let resource = self.envelope(self.index.resources[last.resource as usize]);
            if pair == (EnvelopePair { resource, scope: self.envelope(last.envelope) }) {
                return position;
            }
        }
        let resource = self.add_resource(pair.resource);
        let position = self.add_scope(resource, pair.scope);
        self.inline_scope = Some(position);
        position
    }

    fn add_resource(&mut self, envelope: &[u8]) -> u32 {
        let envelope = self.add_envelope(envelope);
        self.index.resources.push(envelope);
        self.index.resources.len() as u32 - 1
    }

    fn add_scope(&mut self, resource: u32, envelope: &[u8]) -> u32 {
        let envelope = self.add_envelope(envelope);
        self.index.scopes.push(ScopeEntry { resource, envelope });
        self.index.scopes.len() as u32 - 1
    }

    fn add_envelope(&mut self, envelope: &[u8]) -> ByteRange {
        let position = |length: usize| u32::try_from(length).expect("a release is cleared long before it has 4 GiB");
        let start = position(self.index.envelopes.len());
        self.index.envelopes.extend_from_slice(envelope);
        ByteRange { start, end: position(self.index.envelopes.len()) }
    }

    fn envelope(&self, range: ByteRange) -> &[u8] {
        &self.index.envelopes[range.start as usize..range.end as usize]
    }
}
