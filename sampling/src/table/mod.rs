//! The trace table: every pending trace, found by its id, ordered by its deadline.
//!
//! ```text
//! index: hash -> slot     records: slot -> what is known of the trace, its runs --> chunks: bytes of its spans
//!             or kept              waiting in one of some queues                    envelopes: what chunks refer to
//! dropped: hash -> yes
//! ```
//!
//! All waits of one kind and one generation of rules are equally long and time does not go back, so each queue is in the
//! order of its deadlines and a new record goes to its end. The table decides nothing: it stores, finds, and remembers what was decided.

mod chunks;
mod dropped;
mod envelopes;
mod hash;
mod index;
mod packed;
mod queue;
mod quiet;
mod record;
mod slab;
mod watermark;

use codecs::otlp::{SpanItem, TraceId, span_parent_id};

use crate::policy::Decision;

use chunks::Chunks;
use dropped::Dropped;
use index::Index;
use queue::Queue;
use quiet::{Look, Quiet};
use record::Node;
use slab::Slab;

pub use dropped::{BYTES_PER_DROPPED, FALSE_POSITIVES_MAX};
pub use index::BYTES_PER_KEPT;

pub(crate) use chunks::{CHUNK_BYTES, Packing, StoredSpan};
pub(crate) use envelopes::{EnvelopePair, Envelopes, SCOPES_MAX, ScopeHandle, SpanScope};
pub(crate) use hash::Seed;
pub(crate) use index::Known;
pub(crate) use record::{GENERATIONS_MAX, List, NONE, Record, Run};

/// A trace of more runs stays where it is when its chunk is evacuated: finding one of its runs would take long.
const RUNS_SEARCHED_MAX: usize = 64;

/// A trace of more spans is not looked through for missing parents: it waits for its deadline.
pub(crate) const SPANS_RESOLVED_MAX: u32 = 4_096;

/// Unpacking a block of a packed chunk takes as long as so many looks at other traces.
const LOOKS_PER_BLOCK: usize = 64;

/// Sizes of what the table remembers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) scopes_max: usize,
    /// Bytes for kept traces.
    pub(crate) kept_bytes_max: usize,
    /// Bytes for dropped ones.
    pub(crate) dropped_bytes_max: usize,
    /// Size of a chunk of span bytes.
    pub(crate) chunk_bytes: usize,
}

/// The ids of one trace's spans and of their parents, for [`TraceTable::is_complete`].
#[derive(Debug, Default)]
struct Family {
    spans: Vec<[u8; 8]>,
    parents: Vec<[u8; 8]>,
    runs: Vec<Run>,
}

/// When a trace is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// At its deadline, or because the caller or a limit asks for it.
    Due,
    /// As soon as nothing could change the decision.
    Early,
    /// It was not: it was shed.
    Shed,
}

/// Undecided traces of one generation of rules.
#[derive(Debug)]
struct Waits {
    generation: u8,
    waiting: Queue,
    after_root: Queue,
    /// Those that may be complete.
    quiet: Option<Quiet>,
}

impl Waits {
    fn new(generation: u8, quiet_ns: Option<u64>) -> Self {
        let (waiting, after_root) = (Queue::new(List::Waiting), Queue::new(List::AfterRoot));
        Self { generation, waiting, after_root, quiet: quiet_ns.map(Quiet::new) }
    }

    /// The earliest deadline, and whether it is one after a root span.
    #[inline]
    fn first(&self) -> Option<(u64, bool)> {
        match (self.waiting.first(), self.after_root.first()) {
            (Some((waiting_ns, _)), Some((after_root_ns, _))) if after_root_ns < waiting_ns => {
                Some((after_root_ns, true))
            }
            (Some((waiting_ns, _)), _) => Some((waiting_ns, false)),
            (None, after_root) => after_root.map(|(after_root_ns, _)| (after_root_ns, true)),
        }
    }
}

/// Those of the traces that are decided by these rules. There are a few generations, mostly one.
#[inline]
fn waits_of(waits: &mut [Waits], generation: u8) -> &mut Waits {
    let of = |waits: &&mut Waits| waits.generation == generation;
    waits.iter_mut().rev().find(of).expect("a generation has queues until its last trace is decided")
}

#[derive(Debug)]
pub(crate) struct TraceTable {
    index: Index,
    dropped: Dropped,
    records: Slab<Record>,
    nodes: Slab<Node>,
    chunks: Chunks,
    pub(crate) envelopes: Envelopes,
    /// Of each generation of rules, the newest last.
    waits: Vec<Waits>,
    leaving: Queue,
    family: Family,
    births: u32,
    spans: u64,
}

impl TraceTable {
    /// Without queues: the first generation of rules brings its own.
    pub(crate) fn new(seed: Seed, memory: Memory) -> Self {
        Self {
            index: Index::new(memory.kept_bytes_max / BYTES_PER_KEPT),
            dropped: Dropped::new(memory.dropped_bytes_max),
            records: Slab::new(),
            nodes: Slab::new(),
            chunks: Chunks::new(memory.chunk_bytes),
            envelopes: Envelopes::new(seed, memory.scopes_max),
            waits: Vec::with_capacity(GENERATIONS_MAX),
            leaving: Queue::new(List::Leaving),
            family: Family::default(),
            births: 0,
            spans: 0,
        }
    }

    /// New traces are decided by these rules from now on. `quiet_ns`: how long one is quiet before it is looked through
    /// for missing parents; `None`: never.
    pub(crate) fn begin_generation(&mut self, generation: u8, quiet_ns: Option<u64>) {
        assert!(self.waits.len() < GENERATIONS_MAX, "rules change only while there is room for another generation");
        self.waits.push(Waits::new(generation, quiet_ns));
    }

    /// The last trace of these rules was decided, and others are in force.
    pub(crate) fn end_generation(&mut self, generation: u8) {
        assert!(waits_of(&mut self.waits, generation).first().is_none(), "a generation ends without traces");
        self.waits.retain(|waits| waits.generation != generation);
    }

    /// Undecided traces.
    #[inline]
    pub(crate) fn traces(&self) -> usize {
        self.index.pending()
    }

    /// Spans stored, those of leaving traces included.
    #[inline]
    pub(crate) fn spans(&self) -> u64 {
        self.spans
    }

    /// What is known of a trace with this hash. If it is pending, [`TraceTable::has_id`] says whether it is the one.
    #[inline]
    pub(crate) fn find(&self, hash: u64) -> Known {
        self.index.find(hash)
    }

    /// As [`TraceTable::find`] for a trace of which the index knows nothing: it may have been dropped.
    #[inline]
    pub(crate) fn find_dropped(&self, hash: u64) -> Known {
        match self.dropped.find(hash) {
            Some(When::Shed) => Known::Shed,
            Some(when) => Known::Decided { decision: Decision::NotSampled, early: when == When::Early },
            None => Known::No,
        }
    }

    /// See [`Index::touch`].
    #[inline]
    pub(crate) fn touch_dropped(&self, hash: u64) -> u32 {
        self.dropped.touch(hash)
    }

    /// A late span came of a trace that was decided so: it is remembered for longer.
    pub(crate) fn refresh(&mut self, hash: u64, decision: Decision) {
        match decision {
            Decision::Sampled { .. } => self.index.refresh(hash),
            Decision::NotSampled | Decision::Dropped => self.dropped.refresh(hash),
        }
    }

    /// As many bytes as these remember decisions from now on.
    pub(crate) fn change_memory(&mut self, kept_bytes_max: usize, dropped_bytes_max: usize) {
        self.index.change_kept_max(kept_bytes_max / BYTES_PER_KEPT);
        self.dropped.resize(dropped_bytes_max);
    }

    /// See [`Index::touch`].
    #[inline]
    pub(crate) fn touch(&self, hash: u64) -> u32 {
        self.index.touch(hash)
    }

    /// Reads a word of the record's newest node; see [`Index::touch`].
    #[inline]
    pub(crate) fn touch_node(&self, slot: u32) -> u32 {
        self.records.at(slot).touch_node(&self.nodes)
    }

    /// Whether the record in `slot` is of this trace.
    #[inline]
    pub(crate) fn has_id(&self, slot: u32, trace_id: &TraceId) -> bool {
        self.records.at(slot).trace_id == *trace_id
    }

    /// Whether the record in `slot` is of this trace, and the trace undecided.
    #[inline]
    pub(crate) fn is_pending(&self, slot: u32, trace_id: &TraceId) -> bool {
        let record = self.records.at(slot);
        record.list.is_undecided() && record.trace_id == *trace_id
    }

    #[inline]
    pub(crate) fn record(&self, slot: u32) -> &Record {
        self.records.at(slot)
    }

    #[inline]
    pub(crate) fn record_mut(&mut self, slot: u32) -> &mut Record {
        self.records.at_mut(slot)
    }

    /// Starts a trace of which nothing is known.
    pub(crate) fn create(&mut self, hash: u64, trace_id: TraceId, deadline_ns: u64) -> u32 {
        let slot = self.records.allocate();
        let record = self.records.at_mut(slot);
        let waits = self.waits.last_mut().expect("the rules in force have queues");
        *record = Record::new(trace_id, deadline_ns, self.births, waits.generation);
        self.births = self.births.wrapping_add(1);
        waits.waiting.push(slot, record);
        self.index.insert(hash, slot);
        slot
    }

    /// Stores a span of the trace, whose record is returned. Its envelopes are asked for if they are not interned.
    #[inline]
    pub(crate) fn append<'a>(
        &mut self,
        slot: u32,
        item: &SpanItem,
        scope: Option<ScopeHandle>,
        bytes: &[u8],
        envelopes: impl FnOnce() -> EnvelopePair<'a>,
    ) -> &mut Record {
        let run = match scope {
            Some(scope) => self.chunks.write(item, slot, scope, bytes, &mut self.envelopes),
            None => self.chunks.write_inline(item, slot, envelopes(), bytes, &mut self.envelopes),
        };
        let record = self.records.at_mut(slot);
        record.spans += 1;
        record.push_run(run, &mut self.nodes);
        self.spans += 1;
        record
    }

    /// The deadline moves to the wait after the root span, if that is earlier.
    pub(crate) fn shorten_wait(&mut self, slot: u32, deadline_ns: u64) {
        let record = self.records.at_mut(slot);
        if record.list != List::Waiting || deadline_ns >= record.deadline_ns {
            return;
        }
        record.deadline_ns = deadline_ns;
        let waits = waits_of(&mut self.waits, record.generation());
        waits.after_root.push(slot, record);
        waits.waiting.leave(slot, &self.records);
    }

    /// The root span of the trace came, perhaps not for the first time: from now on it may be complete.
    pub(crate) fn note_root(&mut self, now_ns: u64, slot: u32) {
        let record = self.records.at_mut(slot);
        if let Some(quiet) = &mut waits_of(&mut self.waits, record.generation()).quiet
            && !record.has(Record::HAS_ROOT)
        {
            record.marks |= Record::HAS_ROOT;
            quiet.watch(now_ns, slot, record);
        }
    }

    /// Bytes of the span messages of an undecided trace, counted where they lie.
    pub(crate) fn span_bytes(&mut self, slot: u32) -> u64 {
        let (mut sum, chunks) = (0, &mut self.chunks);
        self.records.at(slot).for_each_run(&self.nodes, |run| {
            let mut offset = 0;
            while offset < run.length {
                let stored = chunks.read(run.chunk, run.offset + offset);
                sum += stored.bytes.len() as u64;
                offset += stored.size as u32;
            }
        });
        sum
    }

    /// When the next trace is to be looked at: is it complete?
    #[inline]
    pub(crate) fn first_look_ns(&self) -> Option<u64> {
        self.waits.iter().filter_map(|waits| waits.quiet.as_ref().and_then(Quiet::first_due_ns)).min()
    }

    /// Takes the next trace that is quiet and complete, of `looks_max` that are looked at. `None` also if there may be
    /// more.
    pub(crate) fn take_complete(&mut self, now_ns: u64, looks_max: &mut usize) -> Option<u32> {
        while *looks_max > 0 && self.first_look_ns().is_some_and(|due_ns| due_ns <= now_ns) {
            *looks_max -= 1;
            let quiets = self.waits.iter_mut().filter_map(|waits| waits.quiet.as_mut());
            let quiets = quiets.filter_map(|quiet| quiet.first_due_ns().map(|due_ns| (due_ns, quiet)));
            let first = quiets.min_by_key(|(due_ns, _)| *due_ns);
            let look = first.and_then(|(_, quiet)| quiet.look(now_ns, &self.records));
            let Some(Look::Quiet(slot)) = look else {
                continue;
            };
            let opened = self.chunks.blocks_opened();
            let is_complete = self.is_complete(slot);
            let opened = usize::try_from(self.chunks.blocks_opened() - opened).unwrap_or(usize::MAX);
            *looks_max = looks_max.saturating_sub(opened.saturating_mul(LOOKS_PER_BLOCK));
            if is_complete {
                self.take_undecided(slot);
                return Some(slot);
            }
            let record = self.records.at(slot);
            if let Some(quiet) = &mut waits_of(&mut self.waits, record.generation()).quiet {
                quiet.is_incomplete(now_ns, slot, record);
            }
        }
        None
    }

    /// Whether the parent of every span of the trace is among its spans.
    fn is_complete(&mut self, slot: u32) -> bool {
        let record = self.records.at(slot);
        if record.spans > SPANS_RESOLVED_MAX {
            return false;
        }
        let Family { spans, parents, runs } = &mut self.family;
        spans.clear();
        parents.clear();
        runs.clear();
        record.runs_in_order(&self.nodes, runs);
        for run in runs {
            let mut offset = 0;
            while offset < run.length {
                let stored = self.chunks.read(run.chunk, run.offset + offset);
                spans.push(stored.item.span_id);
                parents.extend(span_parent_id(stored.bytes));
                offset += stored.size as u32;
            }
        }
        spans.sort_unstable();
        parents.iter().all(|parent| spans.binary_search(parent).is_ok())
    }

    /// The earliest deadline of an undecided trace.
    #[inline]
    pub(crate) fn first_deadline_ns(&self) -> Option<u64> {
        self.waits.iter().filter_map(Waits::first).map(|(deadline_ns, _)| deadline_ns).min()
    }

    /// Takes the undecided trace with the earliest deadline out of its queue: the caller decides it now.
    pub(crate) fn take_first_undecided(&mut self) -> Option<u32> {
        let firsts = self.waits.iter_mut().filter_map(|waits| waits.first().map(|first| (first, waits)));
        let ((_, is_after_root), waits) = firsts.min_by_key(|(first, _)| *first)?;
        let queue = if is_after_root { &mut waits.after_root } else { &mut waits.waiting };
        queue.pop(&mut self.records)
    }

    /// Takes this undecided trace out of its queue.
    pub(crate) fn take_undecided(&mut self, slot: u32) {
        let record = self.records.at_mut(slot);
        let list = record.list;
        record.list = List::Taken { after_root: list == List::AfterRoot };
        let waits = waits_of(&mut self.waits, record.generation());
        match list {
            List::Waiting => waits.waiting.leave(slot, &self.records),
            List::AfterRoot => waits.after_root.leave(slot, &self.records),
            List::Free | List::Taken { .. } | List::Leaving => unreachable!("an undecided trace waits in a queue"),
        }
    }

    /// As [`TraceTable::take_first_undecided`] for those whose deadline is not after `due_ns`, earliest first: no more
    /// than have room in `slots`, none after the first `spans_max` spans.
    pub(crate) fn take_due<'a>(&mut self, due_ns: u64, spans_max: usize, slots: &'a mut [u32]) -> &'a [u32] {
        let (mut found, mut spans) = (0, 0);
        while found < slots.len()
            && spans < spans_max
            && self.first_deadline_ns().is_some_and(|deadline_ns| deadline_ns <= due_ns)
            && let Some(slot) = self.take_first_undecided()
        {
            spans += self.records.at(slot).spans as usize;
            slots[found] = slot;
            found += 1;
        }
        &slots[..found]
    }

    /// The trace that was sampled first and is still here.
    #[inline]
    pub(crate) fn first_leaving(&self) -> Option<u32> {
        self.leaving.first().map(|(_, slot)| slot)
    }

    /// The trace was sampled and waits to be released; from now on it is found as decided.
    pub(crate) fn start_leaving(&mut self, slot: u32, hash: u64, policy: u16, reason: u16, when: When) {
        self.index.keep(hash, slot, policy, when == When::Early);
        let record = self.records.at_mut(slot);
        record.reason = reason;
        self.leaving.push(slot, record);
    }

    /// The trace was not sampled: its bytes are free. Touches its record and its chunks' numbers only. Returns the number
    /// of its spans.
    pub(crate) fn drop_trace(&mut self, slot: u32, hash: u64, when: When) -> u32 {
        self.index.drop(hash, slot);
        self.dropped.insert(hash, when);
        let (chunks, envelopes) = (&mut self.chunks, &mut self.envelopes);
        let record = self.records.at_mut(slot);
        record.for_each_run(&self.nodes, |run| chunks.release(run, envelopes));
        let spans = record.spans;
        self.free_record(slot);
        self.spans -= u64::from(spans);
        spans
    }

    /// Takes the first leaving trace apart: its runs, oldest first, now belong to the caller, who releases each.
    pub(crate) fn take_runs(&mut self, runs: &mut Vec<Run>) {
        let slot = self.leaving.pop(&mut self.records).expect("asked only while a trace is leaving");
        self.records.at(slot).runs_in_order(&self.nodes, runs);
        self.free_record(slot);
    }

    fn free_record(&mut self, slot: u32) {
        let record = self.records.at_mut(slot);
        record.release_nodes(&mut self.nodes);
        record.list = List::Free;
        self.records.release(slot);
    }

    /// The span at `offset` of a run, and the envelopes that its scope may refer to.
    #[inline]
    pub(crate) fn stored(&mut self, run: Run, offset: u32) -> (StoredSpan<'_>, &mut Envelopes) {
        (self.chunks.read(run.chunk, run.offset + offset), &mut self.envelopes)
    }

    /// A span of a taken run was released.
    #[inline]
    pub(crate) fn count_released(&mut self) {
        self.spans -= 1;
    }

    /// A taken run was released to its end.
    #[inline]
    pub(crate) fn release_run(&mut self, run: Run) {
        self.chunks.release(run, &mut self.envelopes);
    }

    /// Moves what lives in one sparse chunk to the current one, if too much memory lies idle.
    pub(crate) fn evacuate(&mut self) {
        if let Some(chunk) = self.chunks.next_sparse() {
            self.evacuate_chunk(chunk);
        }
        if let Some(chunk) = self.chunks.next_thin() {
            self.evacuate_chunk(chunk);
        }
    }

    fn evacuate_chunk(&mut self, chunk: u32) {
        let mut offset = 0;
        // The chunk may become free, with nothing filled, while its last run moves.
        while offset < self.chunks.filled(chunk) {
            let stored = self.chunks.read(chunk, offset);
            let (slot, size) = (stored.slot, stored.size as u32);
            // The bytes of a dropped trace lie here until the chunk is free; its record may be gone with its page.
            let record = self.records.find_mut(slot);
            // Runs of leaving traces have a place in a release already and go soon.
            let record = record.filter(|record| record.list.is_undecided() && record.runs() <= RUNS_SEARCHED_MAX);
            let run = record.and_then(|record| record.run_mut(&mut self.nodes, chunk, offset));
            match run {
                Some(run) => {
                    offset += run.length;
                    *run = self.chunks.relocate(*run, &mut self.envelopes);
                }
                None => offset += size,
            }
        }
    }

    /// Says what time it is, before anything that depends on it.
    #[inline]
    pub(crate) fn tell_time(&mut self, now_ns: u64) {
        self.chunks.tell_time(now_ns);
    }

    /// See [`Chunks::pack_next`].
    pub(crate) fn pack_next(&mut self, age_ns: &std::ops::Range<u64>) -> bool {
        self.chunks.pack_next(age_ns)
    }

    pub(crate) fn packing(&self) -> Packing {
        self.chunks.packing()
    }

    pub(crate) fn blocks_opened(&self) -> u64 {
        self.chunks.blocks_opened()
    }

    /// Slots that records may be in are below this.
    pub(crate) fn slots(&self) -> u32 {
        self.records.slots()
    }

    /// The undecided trace in this slot.
    pub(crate) fn find_undecided(&self, slot: u32) -> Option<&Record> {
        self.records.find(slot).filter(|record| record.list.is_undecided())
    }

    /// A trace of which nothing is known is dropped before it begins.
    pub(crate) fn drop_unseen(&mut self, hash: u64) {
        self.dropped.insert(hash, When::Shed);
    }

    /// What a burst needed and nothing after it is surplus from the second call on.
    pub(crate) fn rotate_window(&mut self) {
        self.chunks.rotate_window();
        self.records.rotate_window();
        self.nodes.rotate_window();
        self.index.rotate_window();
        self.records.shrink();
        self.nodes.shrink();
        self.leaving.rotate_window();
        for waits in &mut self.waits {
            waits.waiting.rotate_window();
            waits.after_root.rotate_window();
            if let Some(quiet) = &mut waits.quiet {
                quiet.rotate_window();
            }
        }
    }

    /// Gives back surplus chunks, some of them. True if there are more.
    pub(crate) fn shrink(&mut self) -> bool {
        self.chunks.shrink()
    }

    pub(crate) fn bytes(&self) -> usize {
        let of = |waits: &Waits| {
            waits.waiting.bytes() + waits.after_root.bytes() + waits.quiet.as_ref().map_or(0, Quiet::bytes)
        };
        let queues = self.waits.iter().map(of).sum::<usize>() + self.leaving.bytes();
        let records = self.records.bytes() + self.nodes.bytes();
        let family = (self.family.spans.capacity() + self.family.parents.capacity()) * size_of::<[u8; 8]>()
            + self.family.runs.capacity() * size_of::<Run>();
        let remembered = self.index.bytes() + self.dropped.bytes();
        remembered + queues + family + records + self.chunks.bytes() + self.envelopes.bytes()
    }
}
