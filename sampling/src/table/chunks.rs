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
//! Under pressure a full chunk may be packed (see [`super::packed`]): it gives its memory to the next one, and its spans
//! are read back from the packed bytes.
//!
//! Each page of a new chunk is written to before it is used: the kernel clears it then, not between two requests of a
//! burst, and memory that is charged is memory that is there.

use std::collections::VecDeque;

use codecs::otlp::{AttributesAt, SpanItem, SpanKind, StatusCode, TraceId};

use super::envelopes::{EnvelopePair, Envelopes, ScopeHandle, SpanScope};
use super::packed::{Packed, Packer, open_max};
use super::record::{NONE, Run};
use super::watermark::Watermark;

/// Size of a chunk: some 600 spans, a fraction of a millisecond of one shard's input.
pub(crate) const CHUNK_BYTES: usize = 256 * 1024;

/// Chunks looked at in one call, in search of one to pack.
const PACK_LOOKS_MAX: usize = 1_024;

/// Free chunks that packing leaves for the next spans; beyond them the memory of a packed chunk goes back at once.
const FREE_AFTER_PACKING: usize = 4;

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
    /// Packed: has packed bytes instead of memory of its own.
    Packed,
    /// Packed, and what is live in it would take less than its packed bytes.
    Thin,
    /// Thin and what could be moved was.
    Drained,
}

#[derive(Debug, Default)]
struct Chunk {
    bytes: Box<[u8]>,
    packed: Option<Box<Packed>>,
    /// Packing it would save nothing.
    is_dense: bool,
    /// When it was full.
    sealed_ns: u64,
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
    chunk_bytes_each: usize,
    now_ns: u64,
    packer: Packer,
    packing: Packing,
    chunks: Vec<Chunk>,
    current: u32,
    free: Vec<u32>,
    vacant: Vec<u32>,
    /// Chunks to evacuate should memory be short of use; each at most once.
    sparse: VecDeque<u32>,
    /// Packed chunks to unpack what is live in them; each filling at most once.
    thin: VecDeque<u32>,
    fillings: u64,
    /// In chunks that are not packed.
    live_bytes: usize,
    /// Memory of all chunks, whatever their state and size.
    chunk_bytes: usize,
    /// Capacity of all lists of held envelopes.
    scope_slots: usize,
    /// Chunks of the common size with memory that are not free.
    in_use: usize,
    watermark: Watermark,
}

/// What packing did, and what is packed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Packing {
    /// Bytes of chunks packed so far, before and after.
    pub(crate) bytes_before: u64,
    pub(crate) bytes_after: u64,
    /// Chunks packed now, and their memory.
    chunks: usize,
    bytes: usize,
    /// The next chunk to look at.
    next: usize,
}

impl Chunks {
    /// `chunk_bytes_each`: size of a chunk.
    pub(crate) fn new(chunk_bytes_each: usize) -> Self {
        Self {
            chunk_bytes_each,
            now_ns: 0,
            packer: Packer::default(),
            packing: Packing::default(),
            thin: VecDeque::new(),
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
            Some(chunk) => chunk.filled + size <= self.chunk_bytes_each,
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
        if size > self.chunk_bytes_each {
            return self.add_chunk(size, State::Sealed);
        }
        self.seal_current(envelopes);
        let next = match self.free.pop() {
            Some(free) => free,
            None => self.add_chunk(self.chunk_bytes_each, State::Free),
        };
        self.in_use += 1;
        self.watermark.observe(self.in_use);
        self.fillings += 1;
        let chunk = &mut self.chunks[next as usize];
        assert_eq!(chunk.live, 0, "a free chunk has no live bytes");
        chunk.state = State::Current;
        chunk.filled = 0;
        chunk.filling = self.fillings;
        chunk.is_dense = false;
        self.current = next;
        next
    }

    fn add_chunk(&mut self, size: usize, state: State) -> u32 {
        self.fillings += 1;
        let chunk = Chunk { bytes: memory(size), filling: self.fillings, state, ..Chunk::default() };
        self.chunk_bytes += size;
        self.enlist(chunk)
    }

    fn enlist(&mut self, chunk: Chunk) -> u32 {
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
        chunk.sealed_ns = self.now_ns;
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
        if chunk.packed.is_some() {
            return self.release_packed(run.chunk, envelopes);
        }
        self.live_bytes -= length;
        if chunk.live == 0 {
            self.without_live_bytes(run.chunk, envelopes);
        } else if chunk.state == State::Sealed {
            self.note_if_sparse(run.chunk);
        }
    }

    #[cold]
    fn release_packed(&mut self, number: u32, envelopes: &mut Envelopes) {
        let chunk = &mut self.chunks[number as usize];
        if chunk.live == 0 {
            return self.free_chunk(number, envelopes);
        }
        let packed_bytes = chunk.packed.as_ref().map_or(0, |packed| packed.bytes());
        if chunk.state == State::Packed && chunk.live * 2 < packed_bytes {
            chunk.state = State::Thin;
            self.thin.push_back(number);
        }
    }

    #[inline]
    fn note_if_sparse(&mut self, chunk: u32) {
        let entry = &mut self.chunks[chunk as usize];
        if entry.live * 2 < entry.filled && entry.bytes.len() == self.chunk_bytes_each {
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
        if chunk.bytes.len() == self.chunk_bytes_each {
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
        if let Some(packed) = chunk.packed {
            self.packing.chunks -= 1;
            self.packing.bytes -= packed.bytes();
        }
        self.vacant.push(number);
    }

    /// The span at `offset` of `chunk`.
    #[inline]
    pub(crate) fn read(&mut self, chunk: u32, offset: u32) -> StoredSpan<'_> {
        let chunk = &mut self.chunks[chunk as usize];
        if let Some(packed) = &mut chunk.packed {
            let open_max = open_max(self.packing.chunks, self.chunk_bytes_each);
            let (block, start) = self.packer.open(packed, offset, open_max);
            return read(&block[(offset - start) as usize..]);
        }
        read(&chunk.bytes[offset as usize..chunk.filled])
    }

    /// Says what time it is: a chunk that is full from now on was full then.
    pub(crate) fn tell_time(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
    }

    /// Packs the next chunk that was full for a time within `age_ns`. False: none was found in one look around.
    pub(crate) fn pack_next(&mut self, age_ns: &std::ops::Range<u64>) -> bool {
        for _ in 0..self.chunks.len().min(PACK_LOOKS_MAX) {
            let number = self.packing.next % self.chunks.len();
            self.packing.next = number + 1;
            let chunk = &self.chunks[number];
            let is_full = matches!(chunk.state, State::Sealed | State::Sparse | State::Evacuated);
            let may_shrink = !chunk.is_dense && chunk.bytes.len() == self.chunk_bytes_each;
            if is_full && may_shrink && age_ns.contains(&self.now_ns.saturating_sub(chunk.sealed_ns)) {
                self.pack(number);
                return true;
            }
        }
        false
    }

    fn pack(&mut self, number: usize) {
        let chunk = &mut self.chunks[number];
        let packed = self.packer.pack(&chunk.bytes[..chunk.filled], |span| read(span).size);
        let Some(packed) = packed else {
            chunk.is_dense = true;
            return;
        };
        self.packing.bytes_before += chunk.filled as u64;
        self.packing.bytes_after += packed.bytes() as u64;
        self.packing.chunks += 1;
        self.packing.bytes += packed.bytes();
        chunk.packed = Some(Box::new(packed));
        chunk.state = State::Packed;
        let bytes = std::mem::take(&mut chunk.bytes);
        self.live_bytes -= chunk.live;
        self.in_use -= 1;
        if self.free.len() >= FREE_AFTER_PACKING {
            self.chunk_bytes -= bytes.len();
            return;
        }
        let free = self.enlist(Chunk { bytes, state: State::Free, ..Chunk::default() });
        self.free.push(free);
    }

    pub(crate) fn packing(&self) -> Packing {
        self.packing
    }

    /// Blocks of packed chunks that were unpacked so far.
    pub(crate) fn blocks_opened(&self) -> u64 {
        self.packer.opened()
    }

    /// A packed chunk whose live spans would take less memory as they were.
    pub(crate) fn next_thin(&mut self) -> Option<u32> {
        loop {
            let number = self.thin.pop_front()?;
            let chunk = &mut self.chunks[number as usize];
            if chunk.state == State::Thin {
                chunk.state = State::Drained;
                return Some(number);
            }
        }
    }

    /// A chunk to evacuate, if unused bytes of chunks in use exceed a quarter of the live ones. Below that it is
    /// cheaper to wait: nearly all traces of a chunk are decided within the time that their spans took to arrive.
    pub(crate) fn next_sparse(&mut self) -> Option<u32> {
        let each = self.chunk_bytes_each;
        while self.in_use * each > self.live_bytes + self.live_bytes / 4 + CHUNKS_UNUSED_MIN * each {
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
        self.copy(run, moved);
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

    fn copy(&mut self, run: Run, moved: Run) {
        let open_max = open_max(self.packing.chunks, self.chunk_bytes_each);
        let (source, target) = pair_mut(&mut self.chunks, run.chunk, moved.chunk);
        let target = &mut target.bytes[moved.offset as usize..(moved.offset + moved.length) as usize];
        let Some(packed) = &mut source.packed else {
            return target.copy_from_slice(&source.bytes[run.offset as usize..(run.offset + run.length) as usize]);
        };
        let mut copied = 0;
        while copied < target.len() {
            let offset = run.offset + copied as u32;
            let (block, start) = self.packer.open(packed, offset, open_max);
            let block = &block[(offset - start) as usize..];
            let part = block.len().min(target.len() - copied);
            target[copied..copied + part].copy_from_slice(&block[..part]);
            copied += part;
        }
    }

    pub(crate) fn rotate_window(&mut self) {
        self.watermark.rotate(self.in_use);
        if self.packing.chunks == 0 {
            self.packer.rest();
        }
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
            + self.packing.bytes
            + self.packer.bytes()
            + self.scope_slots * size_of::<ScopeHandle>()
            + self.chunks.capacity() * size_of::<Chunk>()
            + (self.free.capacity() + self.vacant.capacity() + self.sparse.capacity() + self.thin.capacity())
                * size_of::<u32>()
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

fn pair_mut(chunks: &mut [Chunk], source: u32, target: u32) -> (&mut Chunk, &mut Chunk) {
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
        attributes_at: AttributesAt::default(),
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
