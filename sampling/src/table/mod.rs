//! The trace table: every pending trace, found by its id, ordered by its deadline.
//!
//! ```text
//! index: hash -> slot     records: slot -> what is known of the trace, its runs --> chunks: bytes of its spans
//!             or kept              waiting in one of three queues                   envelopes: what chunks refer to
//! dropped: hash -> yes
//! ```
//!
//! All waits of one kind are equally long and time does not go back, so each queue is in the order of its deadlines and
//! a new record goes to its end. The table decides nothing: it stores, finds, and remembers what was decided.

mod chunks;
mod dropped;
mod envelopes;
mod hash;
mod index;
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

pub(crate) use chunks::StoredSpan;
pub(crate) use envelopes::{EnvelopePair, Envelopes, SCOPES_MAX, ScopeHandle, SpanScope};
pub(crate) use hash::Seed;
pub(crate) use index::Known;
pub(crate) use record::{List, NONE, Record, Run};

/// A trace of more runs stays where it is when its chunk is evacuated: finding one of its runs would take long.
const RUNS_SEARCHED_MAX: usize = 64;

/// A trace of more spans is not looked through for missing parents: it waits for its deadline.
pub(crate) const SPANS_RESOLVED_MAX: u32 = 4_096;

/// Sizes of what the table remembers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) scopes_max: usize,
    /// Bytes for kept traces.
    pub(crate) kept_bytes_max: usize,
    /// Bytes for dropped ones.
    pub(crate) dropped_bytes_max: usize,
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
}

#[derive(Debug)]
pub(crate) struct TraceTable {
    index: Index,
    dropped: Dropped,
    records: Slab<Record>,
    nodes: Slab<Node>,
    chunks: Chunks,
    pub(crate) envelopes: Envelopes,
    waiting: Queue,
    after_root: Queue,
    leaving: Queue,
    quiet: Option<Quiet>,
    family: Family,
    births: u32,
    spans: u64,
}

impl TraceTable {
    /// `quiet_ns`: how long a trace is quiet before it is looked through for missing parents; `None`: never.
    pub(crate) fn new(seed: Seed, memory: Memory, quiet_ns: Option<u64>) -> Self {
        Self {
            index: Index::new(memory.kept_bytes_max / BYTES_PER_KEPT),
            dropped: Dropped::new(memory.dropped_bytes_max),
            records: Slab::new(),
            nodes: Slab::new(),
            chunks: Chunks::new(),
            envelopes: Envelopes::new(seed, memory.scopes_max),
            waiting: Queue::new(List::Waiting),
            after_root: Queue::new(List::AfterRoot),
            leaving: Queue::new(List::Leaving),
            quiet: quiet_ns.map(Quiet::new),
            family: Family::default(),
            births: 0,
            spans: 0,
        }
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
            Some(early) => Known::Decided { decision: Decision::NotSampled, early },
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
        *record = Record::new(trace_id, deadline_ns, self.births);
        self.births = self.births.wrapping_add(1);
        self.waiting.push(slot, record);
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
        self.after_root.push(slot, record);
        self.waiting.leave(slot, &self.records);
    }

    /// The root span of the trace came, perhaps not for the first time: from now on it may be complete.
    pub(crate) fn note_root(&mut self, now_ns: u64, slot: u32) {
        let record = self.records.at_mut(slot);
        if let Some(quiet) = &mut self.quiet
            && !record.has(Record::HAS_ROOT)
        {
            record.marks |= Record::HAS_ROOT;
            quiet.watch(now_ns, slot, record);
        }
    }

    /// Bytes of the span messages of an undecided trace, counted where they lie.
    pub(crate) fn span_bytes(&self, slot: u32) -> u64 {
        let mut sum = 0;
        self.records.at(slot).for_each_run(&self.nodes, |run| {
            let mut offset = 0;
            while offset < run.length {
                let stored = self.chunks.read(run.chunk, run.offset + offset);
                sum += stored.bytes.len() as u64;
                offset += stored.size as u32;
            }
        });
        sum
    }

    /// When the next trace is to be looked at: is it complete?
    #[inline]
    pub(crate) fn first_look_ns(&self) -> Option<u64> {
        self.quiet.as_ref().and_then(Quiet::first_due_ns)
    }

    /// Takes the next trace that is quiet and complete, of `looks_max` that are looked at. `None` also if there may be
    /// more.
    pub(crate) fn take_complete(&mut self, now_ns: u64, looks_max: &mut usize) -> Option<u32> {
        while *looks_max > 0 && self.first_look_ns().is_some_and(|due_ns| due_ns <= now_ns) {
            *looks_max -= 1;
            let look = self.quiet.as_mut().and_then(|quiet| quiet.look(now_ns, &self.records));
            let Some(Look::Quiet(slot)) = look else {
                continue;
            };
            if self.is_complete(slot) {
                self.take_undecided(slot);
                return Some(slot);
            }
            if let Some(quiet) = &mut self.quiet {
                quiet.is_incomplete(now_ns, slot, self.records.at(slot));
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
        let (waiting, after_root) = (self.waiting.first(), self.after_root.first());
        [waiting, after_root].into_iter().flatten().map(|(deadline_ns, _)| deadline_ns).min()
    }

    /// Takes the undecided trace with the earliest deadline out of its queue: the caller decides it now.
    pub(crate) fn take_first_undecided(&mut self) -> Option<u32> {
        let is_after_root = match (self.waiting.first(), self.after_root.first()) {
            (Some((waiting_ns, _)), Some((after_root_ns, _))) => after_root_ns < waiting_ns,
            (waiting, _) => waiting.is_none(),
        };
        let queue = if is_after_root { &mut self.after_root } else { &mut self.waiting };
        queue.pop(&mut self.records)
    }

    /// Takes this undecided trace out of its queue.
    pub(crate) fn take_undecided(&mut self, slot: u32) {
        let record = self.records.at_mut(slot);
        let list = record.list;
        record.list = List::Taken { after_root: list == List::AfterRoot };
        match list {
            List::Waiting => self.waiting.leave(slot, &self.records),
            List::AfterRoot => self.after_root.leave(slot, &self.records),
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
        self.dropped.insert(hash, when == When::Early);
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
        let Some(chunk) = self.chunks.next_sparse() else {
            return;
        };
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

    /// What a burst needed and nothing after it is surplus from the second call on.
    pub(crate) fn rotate_window(&mut self) {
        self.chunks.rotate_window();
        self.records.rotate_window();
        self.nodes.rotate_window();
        self.index.rotate_window();
        self.records.shrink();
        self.nodes.shrink();
        for queue in [&mut self.waiting, &mut self.after_root, &mut self.leaving] {
            queue.rotate_window();
        }
        if let Some(quiet) = &mut self.quiet {
            quiet.rotate_window();
        }
    }

    /// Gives back surplus chunks, some of them. True if there are more.
    pub(crate) fn shrink(&mut self) -> bool {
        self.chunks.shrink()
    }

    pub(crate) fn bytes(&self) -> usize {
        let queues = self.waiting.bytes() + self.after_root.bytes() + self.leaving.bytes();
        let records = self.records.bytes() + self.nodes.bytes();
        let family = (self.family.spans.capacity() + self.family.parents.capacity()) * size_of::<[u8; 8]>()
            + self.family.runs.capacity() * size_of::<Run>();
        let quiet = family + self.quiet.as_ref().map_or(0, Quiet::bytes);
        let remembered = self.index.bytes() + self.dropped.bytes();
        remembered + queues + quiet + records + self.chunks.bytes() + self.envelopes.bytes()
    }
}
