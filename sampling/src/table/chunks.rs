//! The memory of pending spans: a pool of equal chunks, filled one after the other.
//!
//! ```text
//! chunk:  [header|span][header|span][header|resource and scope|span] ... | not filled yet
//!          interned scope            scope not interned
//! ```
//!
//! Bytes are written once, in order of arrival, and never overwritten while their chunk is in use. A chunk knows how
//! many of its bytes are live; without live bytes it goes to the free list and is filled again, warm. It is never
//! lent to anybody. A span larger than a chunk gets a chunk of its own size, given back with it.
//!
//! Each page of a new chunk is written to before it is used: the kernel clears it then, not between two requests of a
//! burst, and memory that is charged is memory that is there.

use std::collections::VecDeque;

use codecs::otlp::{SpanItem, SpanKind, StatusCode, TraceId};

use super::envelopes::{EnvelopePair, Envelopes, ScopeHandle, SpanScope};
use super::record::{NONE, Run};
use super::watermark::Watermark;

/// Size of a chunk: some 600 spans, a fraction of a millisecond of one shard's input.
pub(crate) const CHUNK_BYTES: usize = 256 * 1024;

/// Chunks given back to the allocator in one call at most: each is a system call.
const CHUNKS_GIVEN_BACK_MAX: usize = 64;

/// The smallest page of any machine.
const PAGE_BYTES: usize = 4_096;

/// A stored span as it is read back.
#[derive(Debug)]
pub(crate) struct StoredSpan<'a> {
    /// Trace id, offset, segment, scope and reason are not set.
    pub(crate) item: SpanItem,
    pub(crate) scope: SpanScope<'a>,
    pub(crate) bytes: &'a [u8],
    /// Record of its trace when it was written.
    pub(crate) slot: u32,
    /// Bytes it takes in the chunk.
    pub(crate) size: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Has no memory.
    #[default]
    Vacant,
    /// Has memory and waits to be filled.
    Free,
    /// Is being filled.
    Current,
    /// Full, with live bytes.
    Sealed,
    /// Sealed, less than half live.
    Sparse,
    /// Sparse and what could be moved was; frees itself in time.
    Evacuated,
}

#[derive(Debug, Default)]
struct Chunk {
    bytes: Box<[u8]>,
    filled: usize,
    live: usize,
    /// Each filling of a chunk has a number of its own, so that a scope is counted once per filling.
    filling: u64,
    /// Held envelopes.
    scopes: Vec<ScopeHandle>,
    state: State,
    /// Whether `sparse` lists it, perhaps for an earlier filling.
    listed: bool,
}

#[derive(Debug)]
pub(crate) struct Chunks {
    chunks: Vec<Chunk>,
    current: u32,
    free: Vec<u32>,
    vacant: Vec<u32>,
    /// Chunks to evacuate should memory be short of use; each at most once.
    sparse: VecDeque<u32>,
    fillings: u64,
    live_bytes: usize,
    /// Memory of all chunks, whatever their state and size.
    chunk_bytes: usize,
    /// Capacity of all lists of held envelopes.
    scope_slots: usize,
    /// Chunks of the common size with memory that are not free.
    in_use: usize,
    watermark: Watermark,
}

impl Chunks {
    pub(crate) fn new() -> Self {
        Self {
            chunks: Vec::new(),
            current: NONE,
            free: Vec::new(),
            vacant: Vec::new(),
            sparse: VecDeque::new(),
            fillings: 0,
            live_bytes: 0,
            chunk_bytes: 0,
            scope_slots: 0,
            in_use: 0,
            watermark: Watermark::default(),
        }
    }

    /// Copies a span of the trace in record `slot` behind all others.
    #[inline]
    pub(crate) fn write(
        &mut self,
        item: &SpanItem,
        slot: u32,
        scope: ScopeHandle,
        bytes: &[u8],
        envelopes: &mut Envelopes,
    ) -> Run {
        let run = self.room(HEADER + bytes.len(), envelopes);
        let (header, rest) = self.target(run);
        write_header(header, item, scope.0, slot);
        rest.copy_from_slice(bytes);
        self.hold_scope(run.chunk, scope, envelopes);
        run
    }

    /// The same for a span whose envelopes are stored with it.
    #[cold]
    pub(crate) fn write_inline(
        &mut self,
        item: &SpanItem,
        slot: u32,
        pair: EnvelopePair<'_>,
        bytes: &[u8],
        envelopes: &mut Envelopes,
    ) -> Run {
        let size = HEADER + INLINE_LENGTHS + pair.resource.len() + pair.scope.len() + bytes.len();
        let run = self.room(size, envelopes);
        let (header, mut rest) = self.target(run);
        write_header(header, item, NONE, slot);
        let length = |envelope: &[u8]| {
            u32::try_from(envelope.len()).expect("envelopes of an index are addressed by 32 bits").to_le_bytes()
        };
        for part in [&length(pair.resource)[..], &length(pair.scope), pair.resource, pair.scope, bytes] {
            let (place, after) = rest.split_at_mut(part.len());
            place.copy_from_slice(part);
            rest = after;
        }
        run
    }

    #[inline]
    fn target(&mut self, run: Run) -> (&mut [u8; HEADER], &mut [u8]) {
        let chunk = &mut self.chunks[run.chunk as usize];
        let target = &mut chunk.bytes[run.offset as usize..][..run.length as usize];
        target.split_first_chunk_mut().expect("a run has room for a header")
    }

    /// Makes `size` bytes live, in the current chunk or in one of their own.
    #[inline]
    fn room(&mut self, size: usize, envelopes: &mut Envelopes) -> Run {
        let fits = match self.chunks.get(self.current as usize) {
            Some(chunk) => chunk.filled + size <= CHUNK_BYTES,
            None => false,
        };
        let target = if fits { self.current } else { self.next_chunk(size, envelopes) };
        let chunk = &mut self.chunks[target as usize];
        let offset = chunk.filled;
        chunk.filled += size;
        chunk.live += size;
        self.live_bytes += size;
        let length = u32::try_from(size).expect("a request is far below 4 GiB, and so is each of its spans");
        Run { chunk: target, offset: offset as u32, length }
    }

    #[cold]
    fn next_chunk(&mut self, size: usize, envelopes: &mut Envelopes) -> u32 {
        if size > CHUNK_BYTES {
            return self.add_chunk(size, State::Sealed);
        }
        self.seal_current(envelopes);
        let next = match self.free.pop() {
            Some(free) => free,
            None => self.add_chunk(CHUNK_BYTES, State::Free),
        };
        self.in_use += 1;
        self.watermark.observe(self.in_use);
        self.fillings += 1;
        let chunk = &mut self.chunks[next as usize];
        assert_eq!(chunk.live, 0, "a free chunk has no live bytes");
        chunk.state = State::Current;
        chunk.filled = 0;
        chunk.filling = self.fillings;
        self.current = next;
        next
    }

    fn add_chunk(&mut self, size: usize, state: State) -> u32 {
        self.fillings += 1;
        let chunk = Chunk { bytes: memory(size), filling: self.fillings, state, ..Chunk::default() };
        self.chunk_bytes += size;
        match self.vacant.pop() {
            Some(vacant) => {
                let listed = self.chunks[vacant as usize].listed;
                self.chunks[vacant as usize] = Chunk { listed, ..chunk };
                vacant
            }
            None => {
                self.chunks.push(chunk);
                u32::try_from(self.chunks.len() - 1).expect("memory ends long before 2^32 chunks")
            }
        }
    }

    fn seal_current(&mut self, envelopes: &mut Envelopes) {
        let sealed = self.current;
        let Some(chunk) = self.chunks.get_mut(sealed as usize) else {
            return;
        };
        self.current = NONE;
        chunk.state = State::Sealed;
        if chunk.live == 0 {
            self.free_chunk(sealed, envelopes);
        } else {
            self.note_if_sparse(sealed);
        }
    }

    #[inline]
    fn hold_scope(&mut self, chunk: u32, handle: ScopeHandle, envelopes: &mut Envelopes) {
        let chunk = &mut self.chunks[chunk as usize];
        if envelopes.hold_for_chunk(handle, chunk.filling) {
            let slots = chunk.scopes.capacity();
            chunk.scopes.push(handle);
            self.scope_slots += chunk.scopes.capacity() - slots;
        }
    }

    /// The bytes of a run are not needed any more. Touches the chunk's numbers, never its memory.
    #[inline]
    pub(crate) fn release(&mut self, run: Run, envelopes: &mut Envelopes) {
        let length = run.length as usize;
        let chunk = &mut self.chunks[run.chunk as usize];
        assert!(chunk.live >= length, "live bytes of a chunk are the lengths of its runs");
        chunk.live -= length;
        self.live_bytes -= length;
        if chunk.live == 0 {
            self.without_live_bytes(run.chunk, envelopes);
        } else if chunk.state == State::Sealed {
            self.note_if_sparse(run.chunk);
        }
    }

    #[inline]
    fn note_if_sparse(&mut self, chunk: u32) {
        let entry = &mut self.chunks[chunk as usize];
        if entry.live * 2 < entry.filled && entry.bytes.len() == CHUNK_BYTES {
            entry.state = State::Sparse;
            if !entry.listed {
                entry.listed = true;
                self.sparse.push_back(chunk);
            }
        }
    }

    fn without_live_bytes(&mut self, chunk: u32, envelopes: &mut Envelopes) {
        if chunk != self.current {
            self.free_chunk(chunk, envelopes);
            return;
        }
        // Under light load one chunk serves for ever.
        self.fillings += 1;
        let current = &mut self.chunks[chunk as usize];
        current.filled = 0;
        current.filling = self.fillings;
        for handle in current.scopes.drain(..) {
            envelopes.release(handle);
        }
    }

    fn free_chunk(&mut self, number: u32, envelopes: &mut Envelopes) {
        let chunk = &mut self.chunks[number as usize];
        for handle in chunk.scopes.drain(..) {
            envelopes.release(handle);
        }
        chunk.filled = 0;
        if chunk.bytes.len() == CHUNK_BYTES {
            chunk.state = State::Free;
            self.in_use -= 1;
            self.free.push(number);
        } else {
            self.give_back(number);
        }
    }

    fn give_back(&mut self, number: u32) {
        let vacant = Chunk { listed: self.chunks[number as usize].listed, ..Chunk::default() };
        let chunk = std::mem::replace(&mut self.chunks[number as usize], vacant);
        self.chunk_bytes -= chunk.bytes.len();
        self.scope_slots -= chunk.scopes.capacity();
        self.vacant.push(number);
    }

    /// The span at `offset` of `chunk`.
    #[inline]
    pub(crate) fn read(&self, chunk: u32, offset: u32) -> StoredSpan<'_> {
        let chunk = &self.chunks[chunk as usize];
        read(&chunk.bytes[offset as usize..chunk.filled])
    }

    /// A chunk to evacuate, if unused bytes of chunks in use exceed a quarter of the live ones. Below that it is
    /// cheaper to wait: nearly all traces of a chunk are decided within the time that their spans took to arrive.
    pub(crate) fn next_sparse(&mut self) -> Option<u32> {
        while self.in_use * CHUNK_BYTES > self.live_bytes + self.live_bytes / 4 + CHUNKS_UNUSED_MIN * CHUNK_BYTES {
            let number = self.sparse.pop_front()?;
            let chunk = &mut self.chunks[number as usize];
            chunk.listed = false;
            // It may have been freed since it was listed, and be in another use by now.
            if chunk.state == State::Sparse {
                chunk.state = State::Evacuated;
                return Some(number);
            }
        }
        None
    }

    /// Bytes filled in `chunk`.
    pub(crate) fn filled(&self, chunk: u32) -> u32 {
        self.chunks[chunk as usize].filled as u32
    }

    /// Copies a run to the end of the current chunk and releases it where it was.
    pub(crate) fn relocate(&mut self, run: Run, envelopes: &mut Envelopes) -> Run {
        let moved = self.room(run.length as usize, envelopes);
        assert_ne!(moved.chunk, run.chunk, "a sealed chunk is not written to");
        let (source, target) = pair_mut(&mut self.chunks, run.chunk, moved.chunk);
        let bytes = &source.bytes[run.offset as usize..(run.offset + run.length) as usize];
        target.bytes[moved.offset as usize..(moved.offset + moved.length) as usize].copy_from_slice(bytes);
        let mut offset = moved.offset;
        while offset < moved.offset + moved.length {
            let stored = self.read(moved.chunk, offset);
            offset += stored.size as u32;
            if let SpanScope::Interned(handle) = stored.scope {
                self.hold_scope(moved.chunk, handle, envelopes);
            }
        }
        self.release(run, envelopes);
        moved
    }

    pub(crate) fn rotate_window(&mut self) {
        self.watermark.rotate(self.in_use);
    }

    /// Gives back free chunks that no recent window needed. True if there are more than one call gives back.
    pub(crate) fn shrink(&mut self) -> bool {
        let kept = self.watermark.needed().saturating_sub(self.in_use);
        let surplus = self.free.len().saturating_sub(kept);
        for _ in 0..surplus.min(CHUNKS_GIVEN_BACK_MAX) {
            let number = self.free.pop().expect("surplus counts free chunks");
            self.give_back(number);
        }
        surplus > CHUNKS_GIVEN_BACK_MAX
    }

    pub(crate) fn bytes(&self) -> usize {
        self.chunk_bytes
            + self.scope_slots * size_of::<ScopeHandle>()
            + self.chunks.capacity() * size_of::<Chunk>()
            + (self.free.capacity() + self.vacant.capacity() + self.sparse.capacity()) * size_of::<u32>()
    }
}

/// Memory whose pages are there. The kernel gives them cleared and the allocator knows it, so one byte of each is all that
/// is written; not a zero, which a compiler may leave out.
fn memory(size: usize) -> Box<[u8]> {
    let mut bytes = vec![0; size].into_boxed_slice();
    bytes.iter_mut().step_by(PAGE_BYTES).for_each(|first| *first = 1);
    bytes
}

/// Unused memory that is not worth a copy, in chunks.
const CHUNKS_UNUSED_MIN: usize = 16;

fn pair_mut(chunks: &mut [Chunk], source: u32, target: u32) -> (&Chunk, &mut Chunk) {
    let [source, target] =
        chunks.get_disjoint_mut([source as usize, target as usize]).expect("two different chunks of the pool");
    (source, target)
}

/// Header of a stored span, little endian: span id, start, end, length, flags, scope, slot, status, kind, parent.
const HEADER: usize = 44;
/// Lengths of resource and scope envelope before an inline pair.
const INLINE_LENGTHS: usize = 8;

#[inline]
fn write_header(header: &mut [u8; HEADER], item: &SpanItem, scope: u32, slot: u32) {
    header[0..8].copy_from_slice(&item.span_id);
    header[8..16].copy_from_slice(&item.start_ns.to_le_bytes());
    header[16..24].copy_from_slice(&item.end_ns.to_le_bytes());
    header[24..28].copy_from_slice(&item.length.to_le_bytes());
    header[28..32].copy_from_slice(&item.flags.to_le_bytes());
    header[32..36].copy_from_slice(&scope.to_le_bytes());
    header[36..40].copy_from_slice(&slot.to_le_bytes());
    let status = match item.status {
        StatusCode::Unset => 0,
        StatusCode::Ok => 1,
        StatusCode::Error => 2,
    };
    header[40..44].copy_from_slice(&[status, item.kind.0, u8::from(item.has_parent), 0]);
}

#[inline]
fn read(stored: &[u8]) -> StoredSpan<'_> {
    let (header, rest) = stored.split_first_chunk::<HEADER>().expect("a run consists of whole stored spans");
    let u64_at = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("8 bytes"));
    let u32_at = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("4 bytes"));
    let length = u32_at(24);
    let item = SpanItem {
        trace_id: TraceId::default(),
        span_id: header[0..8].try_into().expect("8 bytes"),
        start_ns: u64_at(8),
        end_ns: u64_at(16),
        offset: 0,
        length,
        scope: 0,
        flags: u32_at(28),
        segment: 0,
        reason: 0,
        status: match header[40] {
            1 => StatusCode::Ok,
            2 => StatusCode::Error,
            _ => StatusCode::Unset,
        },
        kind: SpanKind(header[41]),
        has_parent: header[42] != 0,
    };
    let handle = u32_at(32);
    let (scope, envelope_bytes) =
        if handle == NONE { read_inline(rest) } else { (SpanScope::Interned(ScopeHandle(handle)), 0) };
    let bytes = &rest[envelope_bytes..envelope_bytes + length as usize];
    StoredSpan { item, scope, bytes, slot: u32_at(36), size: HEADER + envelope_bytes + bytes.len() }
}

fn read_inline(rest: &[u8]) -> (SpanScope<'_>, usize) {
    let length_at = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().expect("4 bytes")) as usize;
    let resource_end = INLINE_LENGTHS + length_at(0);
    let scope_end = resource_end + length_at(4);
    let pair = EnvelopePair { resource: &rest[INLINE_LENGTHS..resource_end], scope: &rest[resource_end..scope_end] };
    (SpanScope::Inline(pair), scope_end)
}
