//! The tail sampler: spans in, decisions when they are due, kept spans out.
//!
//! ```text
//!                  known trace ---------------------> table --certain, complete, too large--+
//! span -> id known? new trace: oldest early if full -> table --deadline--> rules --sampled--> leaving --> Release
//!                  decided: as it was decided -------------------------------------------------------->   |
//!                  no id: rules on this span alone ---------------------------------------------------> or dropped
//! ```
//!
//! A trace is decided once: when it is due; before that as soon as no later span can change its decision; when it is
//! complete and quiet; or when it grew larger than one trace may. Whatever comes of it later follows that decision.
//!
//! Rules may change while traces wait: a trace is decided by those under which it began, see [`crate::Rulebook`].
//!
//! Time is monotonic nanoseconds from any origin, passed in. Work per call is bounded by the caller; what is left is
//! done in the next call. A sampler refuses nothing: memory is the caller's to watch (`bytes_held`). Told how short it is
//! (`tell_pressure`), a sampler relieves it step by step, as its settings say: it decides what is certain, compresses what
//! waits, sheds by chance.

use bytes::Bytes;

use codecs::otlp::{ByteRange, SpanIndex, SpanItem, StatusCode, TraceId};

use crate::consistent::Threshold;
use crate::counters::{Counters, Verdicts};
use crate::generation::{Generation, Rulebook};
use crate::journal::{Answers, Entry, Journal, Outcome};
use crate::keys::NO_KEYS;
use crate::ladder::{Ladder, Steps};
use crate::marks::{self, Mark, Marks, Writes};
use crate::policy::{Conditions, Decision, Facts, START_UNKNOWN, SpanWithin, Triggers};
use crate::rates::SharedRates;
use crate::release::{KeptTrace, Release};
use crate::settings::Settings;
use crate::table::{
    CHUNK_BYTES, EnvelopePair, GENERATIONS_MAX, Known, List, Memory, NONE, Record, Run, SCOPES_MAX, ScopeHandle, Seed,
    SpanScope, TraceTable, When,
};
use crate::traces::TraceLease;

/// Spans looked up together: their cache misses overlap, and what was fetched is still near when it is used.
const BLOCK_SPANS: usize = 256;

/// Traces decided together, for the same reason.
const DECIDED_TOGETHER: usize = 128;

/// Memory of kept traces if the settings do not say: the last 131072 of them.
pub const KEPT_MEMORY_BYTES: u64 = 8 * 1024 * 1024;

/// Memory of dropped traces if the settings do not say: the last 524288 of them, but for 1 in 128.
pub const DROPPED_MEMORY_BYTES: u64 = 4 * 1024 * 1024;

/// Bytes of one pending trace if the caller does not say.
const GIANT_BYTES: u64 = 64 * 1024 * 1024;

/// Looks at traces that may be complete, in one call at most.
const LOOKS_MAX: usize = 4_096;

/// Spans are compressed when they have waited for so long, if they will for as long.
const COMPRESS_AGE_NS: u64 = 1_000_000_000;

/// Chunks compressed in one call at most: each takes a third of a millisecond.
const CHUNKS_COMPRESSED_MAX: usize = 2;

/// Unpacking one block takes as long as copying so many spans.
const SPANS_PER_BLOCK: usize = 256;

/// After a burst, memory that was not needed for one window at least and two at most is given back.
const SHRINK_WINDOW_NS: u64 = 25_000_000_000;

/// Which spans of an index to insert.
#[derive(Clone, Copy, Debug)]
pub enum Select<'a> {
    /// Every one.
    All,
    /// Those at these positions of the index's items.
    Some(&'a [u32]),
}

/// Bounds of what a sampler remembers beside its spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most distinct scopes whose envelopes are stored once; beyond it they are stored with each span.
    pub scopes_max: usize,
    /// Most bytes of one pending trace's span messages: beyond it the trace is decided at once, on what is there.
    pub giant_bytes: u64,
    /// Memory for spans comes in chunks of so many bytes, at most 1 GiB. Small ones make tests see more of them.
    pub chunk_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { scopes_max: SCOPES_MAX, giant_bytes: GIANT_BYTES, chunk_bytes: CHUNK_BYTES }
    }
}

/// One `tail_sampling` node on one shard.
#[derive(Debug)]
pub struct Sampler {
    /// The rules of the trace at hand; mostly the newest.
    at: Generation,
    /// Other generations that still have traces, or are the newest.
    others: Vec<Generation>,
    /// The generation that new traces belong to.
    newest: u8,
    block_on_overflow: bool,
    /// What kept spans are marked with under the newest rules.
    writes: Writes,
    lease: TraceLease,
    drop_pending_in_drain: bool,
    ladder: Ladder,
    /// Of every trace's bytes beyond which it is decided at once.
    giant_bytes: u64,
    first_reason: u16,
    seed: Seed,
    /// Tells this sampler from others that may fill the same release.
    name: u64,
    session: u64,
    now_ns: u64,
    table: TraceTable,
    marks: Marks,
    counters: Counters,
    lookups: [Lookup; BLOCK_SPANS],
    request: RequestScopes,
    releasing: Releasing,
    journal: Journal,
    window_ends_ns: u64,
}

/// What is known of a span's trace when its block is looked up.
#[derive(Clone, Copy, Debug)]
struct Lookup {
    hash: u64,
    known: Known,
}

/// The scopes of the request being inserted, held while it is.
#[derive(Debug, Default)]
struct RequestScopes {
    scopes: Vec<RequestScope>,
}

/// Which pending traces are due, and why.
#[derive(Clone, Copy, Debug)]
enum Due {
    /// Those whose deadline has come.
    Now,
    /// All of them.
    Drain,
}

#[derive(Clone, Copy, Debug)]
enum RequestScope {
    NotAsked,
    Interned(ScopeHandle),
    TooMany,
}

/// The sampled trace whose spans are being released: its runs, and how far it got.
#[derive(Debug, Default)]
struct Releasing {
    trace_id: TraceId,
    reason: u16,
    /// Its first span is still to be marked.
    is_cut: bool,
    runs: Vec<Run>,
    run: usize,
    offset: u32,
    /// What its spans are marked with, if they are.
    mark: Option<Mark>,
}

impl Sampler {
    /// An empty sampler.
    ///
    /// `hash_seed` is secret, random, and another one for each sampler of the process. `first_reason` is the number
    /// written to kept spans whose reason is the first policy; the others follow.
    pub fn new(settings: &Settings, hash_seed: u64, first_reason: u16) -> Self {
        Self::with_limits(settings, hash_seed, first_reason, Limits::default())
    }

    /// As [`Sampler::new`], with other limits than the default ones.
    pub fn with_limits(settings: &Settings, hash_seed: u64, first_reason: u16, limits: Limits) -> Self {
        Self::sharing(settings, hash_seed, first_reason, limits, &SharedRates::new(settings))
    }

    /// As [`Sampler::with_limits`], one of several samplers that keep their rate limits together.
    ///
    /// # Panics
    /// `rates` were made for other settings.
    pub fn sharing(
        settings: &Settings,
        hash_seed: u64,
        first_reason: u16,
        limits: Limits,
        rates: &SharedRates,
    ) -> Self {
        let numbers: Vec<u16> = (0_u16..).take(settings.policies.len()).collect();
        Self::ruled_by(Rulebook { settings, numbers: &numbers, rates }, hash_seed, first_reason, limits)
    }

    /// As [`Sampler::sharing`], with numbers for its policies that stay theirs when the rules change: kept spans have the
    /// reason `first_reason` + number, and [`Counters::policies`] is by number.
    ///
    /// # Panics
    /// A number plus `first_reason` is 65535 or more.
    pub fn ruled_by(book: Rulebook<'_>, hash_seed: u64, first_reason: u16, limits: Limits) -> Self {
        let settings = book.settings;
        let seed = Seed::new(hash_seed);
        let (kept_bytes_max, dropped_bytes_max) = decision_memory(settings);
        let memory = Memory {
            scopes_max: limits.scopes_max.min(SCOPES_MAX),
            kept_bytes_max,
            dropped_bytes_max,
            chunk_bytes: limits.chunk_bytes.clamp(1, 1 << 30),
        };
        let mut sampler = Self {
            at: Generation::new(book, 0, 0, limits.giant_bytes),
            others: Vec::with_capacity(GENERATIONS_MAX),
            newest: 0,
            block_on_overflow: settings.block_on_overflow,
            writes: Writes::of(settings),
            lease: book.rates.traces(),
            giant_bytes: limits.giant_bytes,
            drop_pending_in_drain: settings.drop_pending_in_drain,
            first_reason,
            seed: seed.clone(),
            name: hash_seed,
            session: 0,
            now_ns: 0,
            table: TraceTable::new(seed, memory),
            marks: Marks::default(),
            ladder: Ladder::new(settings.stress_relief),
            counters: Counters::default(),
            lookups: [Lookup { hash: 0, known: Known::No }; BLOCK_SPANS],
            request: RequestScopes::default(),
            releasing: Releasing::default(),
            journal: Journal::default(),
            window_ends_ns: 0,
        };
        sampler.table.begin_generation(0, settings.complete_quiet_ns);
        sampler.learn(book);
        sampler
    }

    /// Makes room for what policies of these numbers are counted and named by.
    fn learn(&mut self, book: Rulebook<'_>) {
        let most = book.numbers.iter().copied().max().unwrap_or(0);
        assert!(
            u32::from(self.first_reason) + u32::from(most) < u32::from(u16::MAX),
            "reasons are 16 bits, and the memory of decisions uses the last value"
        );
        let counted = book.numbers.iter().map(|number| usize::from(*number) + 1).max().unwrap_or(0);
        if counted > self.counters.policies.len() {
            self.counters.policies.resize(counted, Verdicts::default());
        }
        self.marks.learn(book.settings, book.numbers);
    }

    /// Whether [`Sampler::change_rules`] may be called: fewer than four generations of rules have traces or are in force.
    pub fn may_change_rules(&mut self) -> bool {
        self.turn_to(self.newest);
        self.retire();
        self.others.len() + usize::from(self.at.traces > 0) < GENERATIONS_MAX
    }

    /// New traces are decided by other rules from now on, pending ones by those under which they began: the policies and all
    /// that belongs to a trace: waits, largest size, when it is decided early, what is written to its spans. What belongs to
    /// the sampler changes at once: its memory of decisions, which forgets none but for want of room, and the number of
    /// traces; of more than there may be now the oldest are decided in the calls of [`Sampler::decide_due`] that follow.
    ///
    /// # Panics
    /// See [`Sampler::may_change_rules`] and [`Sampler::ruled_by`].
    pub fn change_rules(&mut self, book: Rulebook<'_>) {
        assert!(self.may_change_rules(), "rules change only while there is room for another generation");
        let is_taken = |number: &u8| self.others.iter().any(|other| other.number == *number);
        let in_use = self.at.number;
        let free = (0..GENERATIONS_MAX as u8).find(|number| *number != in_use && !is_taken(number));
        // With four in use the one in force has no trace, see above.
        let number = free.unwrap_or(in_use);
        let next = Generation::new(book, number, self.at.revision.wrapping_add(1), self.giant_bytes);
        let before = std::mem::replace(&mut self.at, next);
        if before.traces > 0 {
            self.others.push(before);
        } else {
            self.table.end_generation(before.number);
        }
        self.table.begin_generation(number, book.settings.complete_quiet_ns);
        self.newest = number;
        self.block_on_overflow = book.settings.block_on_overflow;
        self.drop_pending_in_drain = book.settings.drop_pending_in_drain;
        self.writes = Writes::of(book.settings);
        let (kept_bytes_max, dropped_bytes_max) = decision_memory(book.settings);
        self.table.change_memory(kept_bytes_max, dropped_bytes_max);
        book.rates.follow_traces(&mut self.lease, self.table.traces());
        self.ladder.change(book.settings.stress_relief);
        self.press_generations();
        self.learn(book);
        self.rest_marks();
    }

    /// Keeps no marks of traces if no rules ask for them any more.
    fn rest_marks(&mut self) {
        if !self.writes.threshold && self.others.iter().all(|other| !other.writes.threshold) {
            self.marks.rest();
        }
    }

    /// How many generations of rules have traces or are in force, 1 to 4.
    pub fn generations(&self) -> usize {
        1 + self.others.len()
    }

    /// Takes the rules of the trace at hand.
    #[inline]
    fn turn_to(&mut self, generation: u8) {
        if self.at.number != generation {
            self.exchange(generation);
        }
    }

    #[cold]
    fn exchange(&mut self, generation: u8) {
        let place = self.others.iter().position(|other| other.number == generation);
        let place = place.expect("a generation stays until its last trace is gone");
        std::mem::swap(&mut self.at, &mut self.others[place]);
    }

    /// Forgets rules that have no trace any more. Those in force are at hand.
    fn retire(&mut self) {
        debug_assert_eq!(self.at.number, self.newest, "rules in force are never forgotten");
        if self.others.iter().all(|other| other.traces > 0) {
            return;
        }
        for other in self.others.iter().filter(|other| other.traces == 0) {
            self.counters.evaluation_errors += other.rules.take_evaluation_errors();
            self.table.end_generation(other.number);
        }
        self.others.retain(|other| other.traces > 0);
        self.rest_marks();
    }

    /// Says what time of day it is, for conditions that ask `Now()`. Before the spans they are asked of.
    pub fn tell_time(&mut self, unix_ns: i64) {
        for generation in std::iter::once(&self.at).chain(&self.others) {
            generation.rules.tell_time(unix_ns);
        }
    }

    /// Says how short memory is: what is in use, as a part of what may be before the edge refuses. The steps of
    /// [`Settings::stress_relief`] begin and end by it; what they do is done in the calls that follow, a bounded part in
    /// each.
    pub fn tell_pressure(&mut self, pressure: f64) {
        self.ladder.press(pressure);
        self.press_generations();
    }

    fn press_generations(&mut self) {
        let is_certain_decided = self.ladder.steps().certain;
        for generation in std::iter::once(&mut self.at).chain(&mut self.others) {
            generation.press(is_certain_decided);
        }
    }

    /// What is done now because memory is short.
    pub fn stress_relief(&self) -> Steps {
        self.ladder.steps()
    }

    /// Notes from now on how traces are decided: the last `entries_max` that were sampled, as many of the others, and as
    /// many older ones. Memory for all of them is taken at once.
    pub fn keep_journal(&mut self, entries_max: usize) {
        self.journal = Journal::new(entries_max);
    }

    /// How the traces were decided whose ids begin with these hexadecimal digits, as far as it was noted: the last
    /// decisions first, at most `most`.
    pub fn explain(&self, digits: &str, most: usize) -> Vec<Entry> {
        self.journal.find(digits, most)
    }

    /// Whether the trace waits for its decision.
    pub fn is_pending(&self, trace_id: &TraceId) -> bool {
        let known = self.table.find(self.seed.trace(trace_id));
        matches!(known, Known::Pending(slot) if self.table.has_id(slot, trace_id))
    }

    /// Takes spans in. Those of undecided traces are copied into the table; late spans of kept traces, and kept spans
    /// without a trace id, are copied to `out` at once.
    ///
    /// `segments` are the ones that the items of `index` point into.
    pub fn insert(
        &mut self,
        now_ns: u64,
        index: &SpanIndex,
        segments: &[Bytes],
        select: Select<'_>,
        out: &mut Release,
    ) {
        self.now_ns = self.now_ns.max(now_ns);
        self.table.tell_time(self.now_ns);
        out.begin(self.name, &mut self.session);
        self.request.begin(index);
        for generation in std::iter::once(&mut self.at).chain(&mut self.others) {
            generation.begin_request(index);
        }
        let spans = match select {
            Select::All => index.items.len(),
            Select::Some(positions) => positions.len(),
        };
        let mut first = 0;
        while first < spans {
            let last = spans.min(first + BLOCK_SPANS);
            match select {
                Select::All => self.insert_block(index, segments, index.items[first..last].iter(), out),
                Select::Some(positions) => {
                    let items = positions[first..last].iter().map(|position| &index.items[*position as usize]);
                    self.insert_block(index, segments, items, out);
                }
            }
            first = last;
        }
        self.request.end(&mut self.table);
        for generation in std::iter::once(&self.at).chain(&self.others) {
            self.counters.evaluation_errors += generation.rules.take_evaluation_errors();
        }
        self.counters.spans_accepted += spans as u64;
        self.assert_ledger();
    }

    /// Passes over a block of spans, so that the cache misses of many overlap: each touches what the next looks at. A pass
    /// that touches does little else and takes no branch on what it reads: the processor looks a few hundred
    /// instructions ahead, and does not go on behind a guess that it has to take back after a miss.
    ///
    /// 1. hash; 2. touch the buckets; 3. look them up; 4. touch the records; 5. compare ids; 6. touch the newest nodes;
    /// 7. copy the spans.
    fn insert_block<'a>(
        &mut self,
        index: &'a SpanIndex,
        segments: &[Bytes],
        items: impl Iterator<Item = &'a SpanItem> + Clone,
        out: &mut Release,
    ) {
        let decisions = self.counters.traces_decided();
        let mut spans = 0;
        for (item, lookup) in items.clone().zip(&mut self.lookups) {
            lookup.hash = self.seed.trace(&item.trace_id);
            spans += 1;
        }
        let lookups = &mut self.lookups[..spans];
        let mut touched = 0;
        for lookup in &*lookups {
            touched ^= self.table.touch(lookup.hash);
        }
        for lookup in &mut *lookups {
            lookup.known = self.table.find(lookup.hash);
        }
        for lookup in &*lookups {
            touched ^= match lookup.known {
                Known::Pending(slot) => self.table.record(slot).touch(),
                Known::No => self.table.touch_dropped(lookup.hash),
                Known::Decided { .. } | Known::Shed => 0,
            };
        }
        for (item, lookup) in items.clone().zip(&mut *lookups) {
            if let Known::Pending(slot) = lookup.known
                && !self.table.has_id(slot, &item.trace_id)
            {
                lookup.known = Known::No;
            }
        }
        for lookup in &*lookups {
            if let Known::Pending(slot) = lookup.known {
                touched ^= self.table.touch_node(slot);
            }
        }
        std::hint::black_box(touched);

        for (position, item) in items.enumerate() {
            let start = item.offset as usize;
            let bytes = &segments[usize::from(item.segment)][start..start + item.length as usize];
            if item.trace_id == TraceId::default() {
                self.decide_alone(index, item, bytes, out);
                continue;
            }
            let Lookup { hash, mut known } = self.lookups[position];
            // Spans before this one may have changed what is known of its trace.
            let is_still_true = match known {
                Known::Pending(slot) => {
                    self.counters.traces_decided() == decisions || self.table.is_pending(slot, &item.trace_id)
                }
                Known::Decided { .. } | Known::Shed | Known::No => false,
            };
            if !is_still_true {
                known = self.find_or_create(hash, item, bytes);
            }
            match known {
                Known::Pending(slot) => self.store(slot, hash, index, item, bytes),
                Known::Decided { decision, early } => {
                    self.table.refresh(hash, decision);
                    self.follow_decision(decision, early, index, item, bytes, out);
                }
                Known::Shed => self.follow_shedding(hash),
                // It was shed.
                Known::No => {}
            }
        }
    }

    /// For a span whose trace was unknown when its block was looked up, or has been decided since. It is not known after
    /// this if it was shed, with the span.
    fn find_or_create(&mut self, hash: u64, item: &SpanItem, bytes: &[u8]) -> Known {
        let trace_id = &item.trace_id;
        match self.table.find(hash) {
            Known::Pending(slot) if self.table.has_id(slot, trace_id) => return Known::Pending(slot),
            decided @ (Known::Decided { .. } | Known::Shed) => return decided,
            Known::Pending(_) => {}
            Known::No => {
                let dropped = self.table.find_dropped(hash);
                if dropped != Known::No {
                    return dropped;
                }
            }
        }
        let threshold = self.ladder.threshold(item.status == StatusCode::Error);
        if let Some(threshold) = threshold
            && self.shed_arriving(threshold, hash, item, bytes)
        {
            return Known::No;
        }
        if !self.lease.make_room(self.table.traces()) && !self.block_on_overflow {
            self.decide_first_early();
        }
        self.counters.traces_new += 1;
        self.turn_to(self.newest);
        let slot = self.table.create(hash, *trace_id, self.now_ns.saturating_add(self.at.decision_wait_ns));
        self.at.begin(slot);
        if self.marks.are_kept() {
            self.marks.begin(slot);
            self.marks.survive(slot, threshold.unwrap_or(Threshold::ALWAYS));
        }
        Known::Pending(slot)
    }

    /// Whether a trace whose first span this is is given up: nothing of it is stored.
    #[cold]
    fn shed_arriving(&mut self, threshold: Threshold, hash: u64, item: &SpanItem, bytes: &[u8]) -> bool {
        self.turn_to(self.newest);
        let facts = self.facts_of_span(item, bytes);
        if threshold.admits(facts.randomness) {
            return false;
        }
        self.journal.note(&facts, Outcome::Shed, Answers::default(), self.at.revision);
        self.table.drop_unseen(hash);
        self.counters.traces_new += 1;
        self.counters.traces_not_sampled += 1;
        self.counters.traces_shed += 1;
        self.counters.spans_shed += 1;
        self.counters.spans_dropped += 1;
        true
    }

    /// What is known of a trace by one span of it. Not what the span answers, and no keys.
    fn facts_of_span(&self, item: &SpanItem, bytes: &[u8]) -> Facts {
        let arrived = if self.at.writes.threshold { marks::arrived_with(item, bytes) } else { None };
        Facts {
            trace_id: item.trace_id,
            first_start_ns: start_of(item),
            last_end_ns: item.end_ns,
            conditions: self.at.rules.conditions_of(item),
            spans: 1,
            bytes: bytes.len() as u64,
            now_ns: self.now_ns,
            randomness: arrived.unwrap_or_else(|| self.at.rules.randomness(&item.trace_id)),
            keys: NO_KEYS,
        }
    }

    /// Gives the trace up, undecided; its rules are at hand. Returns the number of its spans.
    fn shed(&mut self, slot: u32, hash: u64) -> usize {
        self.journal.note(&self.facts(slot), Outcome::Shed, Answers::default(), self.at.revision);
        self.counters.traces_not_sampled += 1;
        self.counters.traces_shed += 1;
        let spans = self.drop_trace(slot, hash, When::Shed);
        self.counters.spans_shed += spans as u64;
        spans
    }

    /// Does a part of what the steps against short memory ask for. True if there is more.
    fn relieve(&mut self) -> bool {
        for slot in self.ladder.next_slots(self.table.slots()) {
            self.relieve_of(slot);
        }
        self.ladder.is_sweeping() || self.ladder.steps().compress && self.compress()
    }

    /// Decides the trace in this slot, if there is one and it is certain, or sheds it if it is its turn.
    fn relieve_of(&mut self, slot: u32) {
        let Some(record) = self.table.find_undecided(slot) else { return };
        let (trace_id, generation) = (record.trace_id, record.generation());
        let has_error = Conditions(record.conditions).has_error();
        let hash = self.seed.trace(&trace_id);
        self.turn_to(generation);
        if self.at.triggers != Triggers::default() && self.decide_if_certain(slot, hash) {
            return;
        }
        let Some(threshold) = self.ladder.threshold(has_error) else { return };
        let randomness = self.marks.arrived(slot).unwrap_or_else(|| self.at.rules.randomness(&trace_id));
        if !threshold.admits(randomness) {
            self.table.take_undecided(slot);
            self.shed(slot, hash);
        } else if self.at.writes.threshold {
            self.marks.survive(slot, threshold);
        }
    }

    /// Compresses some spans that have waited for a while and will for another. True if there may be more.
    fn compress(&mut self) -> bool {
        self.turn_to(self.newest);
        let age_ns = COMPRESS_AGE_NS..self.at.decision_wait_ns.saturating_sub(COMPRESS_AGE_NS);
        let compressed = !age_ns.is_empty() && (0..CHUNKS_COMPRESSED_MAX).all(|_| self.table.pack_next(&age_ns));
        let packing = self.table.packing();
        self.counters.bytes_compressed = packing.bytes_before;
        self.counters.bytes_compressed_to = packing.bytes_after;
        compressed
    }

    #[cold]
    fn decide_first_early(&mut self) {
        // Other samplers may hold all there may be: then one more begins.
        let Some(first) = self.table.take_first_undecided() else {
            return;
        };
        let hash = self.seed.trace(&self.table.record(first).trace_id);
        self.counters.traces_decided_early += 1;
        self.decide(first, hash, When::Due);
    }

    #[inline]
    fn store(&mut self, slot: u32, hash: u64, index: &SpanIndex, item: &SpanItem, bytes: &[u8]) {
        self.turn_to(self.table.record(slot).generation());
        let scope = self.request.scope(index, item.scope, &mut self.table);
        let record = self.table.append(slot, item, scope, bytes, || envelopes(index, item.scope));
        let met_before = record.conditions;
        record.conditions |= self.at.rules.conditions_of(item).0;
        if self.at.rules.look_into_spans() {
            record.conditions |= self.at.resource_conditions(index, item.scope).0;
            record.conditions |= self.at.rules.look_into(item, bytes, Conditions(record.conditions)).0;
        }
        if self.at.rules.ask_conditions() {
            let span = SpanWithin { index, scope: item.scope, bytes };
            record.conditions |= self.at.rules.conditions_true_of(span, Conditions(record.conditions)).0;
        }
        record.first_start_ns = record.first_start_ns.min(start_of(item));
        record.last_end_ns = record.last_end_ns.max(item.end_ns);
        let met = record.conditions & !met_before;
        let mut may_be_giant = self.at.sizes.may_be_giant(record, bytes.len());
        if self.at.keys.are_kept() {
            self.at.keys.add(slot, index, item, bytes);
        }
        if self.at.writes.threshold {
            self.marks.add(slot, item, bytes);
        }
        if self.at.asks_for_root && !item.has_parent {
            self.note_root(slot);
        }
        if self.at.sizes.are_kept() {
            let sum = self.at.sizes.add(slot, bytes.len());
            if sum > self.at.trace_bytes_max {
                return self.drop_too_large(slot, hash);
            }
            // The span that makes it one may be small.
            may_be_giant |= sum > self.giant_bytes;
        }
        let may_be_certain = met & self.at.triggers.conditions != 0 || self.at.triggers.any_span;
        if may_be_certain && self.decide_if_certain(slot, hash) {
            return;
        }
        if may_be_giant && self.at.sizes.is_giant(slot, bytes.len(), &mut self.table) {
            self.cut(slot, hash);
        }
    }

    fn note_root(&mut self, slot: u32) {
        if let Some(wait_ns) = self.at.decision_wait_after_root_ns {
            self.table.shorten_wait(slot, self.now_ns.saturating_add(wait_ns));
        }
        self.table.note_root(self.now_ns, slot);
    }

    /// Decides the trace if no later span can change its decision. True if it did.
    #[inline(never)]
    fn decide_if_certain(&mut self, slot: u32, hash: u64) -> bool {
        let Some(decision) = self.at.rules.foresee(&self.facts(slot), self.at.may_keep_early) else {
            return false;
        };
        self.table.take_undecided(slot);
        self.counters.traces_certain_under_stress += u64::from(!self.at.always_early);
        match decision {
            Decision::Sampled { .. } => self.counters.traces_certainly_sampled += 1,
            Decision::NotSampled | Decision::Dropped => self.counters.traces_certainly_dropped += 1,
        }
        self.decide(slot, hash, When::Early);
        true
    }

    /// Decides a giant on what is there.
    #[cold]
    fn cut(&mut self, slot: u32, hash: u64) {
        self.table.take_undecided(slot);
        self.table.record_mut(slot).marks |= Record::IS_CUT;
        self.counters.traces_cut += 1;
        self.decide(slot, hash, When::Due);
    }

    #[cold]
    fn drop_too_large(&mut self, slot: u32, hash: u64) {
        self.table.take_undecided(slot);
        self.journal.note(&self.facts(slot), Outcome::TooLarge, Answers::default(), self.at.revision);
        self.counters.traces_too_large += 1;
        self.counters.traces_not_sampled += 1;
        self.drop_trace(slot, hash, When::Due);
    }

    /// A late span shares its trace's fate.
    #[inline(never)]
    fn follow_decision(
        &mut self,
        decision: Decision,
        early: bool,
        index: &SpanIndex,
        item: &SpanItem,
        bytes: &[u8],
        out: &mut Release,
    ) {
        match decision {
            Decision::Sampled { policy } => {
                self.counters.late_spans_kept += u64::from(!early);
                self.counters.early_spans_kept += u64::from(early);
                self.pass_on(policy, None, index, item, bytes, out);
            }
            Decision::NotSampled | Decision::Dropped => {
                self.counters.late_spans_dropped += u64::from(!early);
                self.counters.early_spans_dropped += u64::from(early);
                self.counters.spans_dropped += 1;
            }
        }
    }

    /// A late span of a trace that was shed.
    #[cold]
    fn follow_shedding(&mut self, hash: u64) {
        self.table.refresh(hash, Decision::NotSampled);
        self.counters.early_spans_dropped += 1;
        self.counters.spans_shed += 1;
        self.counters.spans_dropped += 1;
    }

    /// A span without a trace id is a trace of its own: nothing tells what else would belong to it.
    #[cold]
    fn decide_alone(&mut self, index: &SpanIndex, item: &SpanItem, bytes: &[u8], out: &mut Release) {
        self.turn_to(self.newest);
        let mut conditions = self.at.rules.conditions_of(item);
        if self.at.rules.look_into_spans() {
            conditions.0 |= self.at.resource_conditions(index, item.scope).0;
            conditions.0 |= self.at.rules.look_into(item, bytes, conditions).0;
        }
        if self.at.rules.ask_conditions() {
            let span = SpanWithin { index, scope: item.scope, bytes };
            conditions.0 |= self.at.rules.conditions_true_of(span, conditions).0;
        }
        let keys = self.at.keys.of_span(index, item, bytes);
        let facts = Facts { conditions, keys, ..self.facts_of_span(item, bytes) };
        let (decision, threshold) = self.at.rules.decide(&facts, None);
        match decision {
            Decision::Sampled { policy } => {
                self.counters.idless_spans_kept += 1;
                self.pass_on(self.at.rules.number_of(policy), Some(threshold), index, item, bytes, out);
            }
            Decision::NotSampled | Decision::Dropped => {
                self.counters.idless_spans_dropped += 1;
                self.counters.spans_dropped += 1;
            }
        }
    }

    /// Copies a span from its request straight to the release.
    fn pass_on(
        &mut self,
        policy: u16,
        decided_alone: Option<Threshold>,
        index: &SpanIndex,
        item: &SpanItem,
        bytes: &[u8],
        out: &mut Release,
    ) {
        let scope = match self.request.scope(index, item.scope, &mut self.table) {
            Some(handle) => SpanScope::Interned(handle),
            None => SpanScope::Inline(envelopes(index, item.scope)),
        };
        let scope = out.scope(scope, &mut self.table.envelopes);
        let kept = SpanItem { reason: self.first_reason + policy, ..*item };
        if self.writes.is_any() || self.marks.remember_any() {
            let mark = match decided_alone {
                Some(threshold) => Marks::of_lone(item, bytes, policy, threshold, self.writes),
                None => self.marks.of_late(&item.trace_id, policy, self.writes),
            };
            out.push_written(kept, scope, |out| self.marks.write(&mark, item, bytes, out));
        } else {
            out.push(kept, scope, bytes);
        }
        self.counters.spans_kept += 1;
    }

    /// Decides traces whose deadline is not after `now_ns` and releases what was sampled, until `spans_max` spans were
    /// dropped or released or `out` is full. True if more is due.
    pub fn decide_due(&mut self, now_ns: u64, spans_max: usize, out: &mut Release) -> bool {
        self.now_ns = self.now_ns.max(now_ns);
        self.table.tell_time(self.now_ns);
        let is_relieving = self.relieve();
        let is_too_much = self.decide_what_is_too_much();
        self.decide_until(Due::Now, spans_max, out) || is_relieving || is_too_much
    }

    /// Decides the oldest traces while there are more than there may be since the rules changed. True if there may be more
    /// of them.
    fn decide_what_is_too_much(&mut self) -> bool {
        if self.block_on_overflow || !self.lease.is_too_much() {
            return false;
        }
        for _ in 0..DECIDED_TOGETHER {
            // Of those that were too many some may have been decided for another reason.
            self.lease.trim(self.table.traces());
            if !self.lease.is_too_much() || self.table.traces() == 0 {
                return false;
            }
            self.decide_first_early();
        }
        true
    }

    /// As [`Sampler::decide_due`], but every pending trace is due: for a drain. With `drop_pending_in_drain` they are
    /// dropped and no policy is asked. True if more is pending.
    pub fn decide_all(&mut self, now_ns: u64, spans_max: usize, out: &mut Release) -> bool {
        self.now_ns = self.now_ns.max(now_ns);
        self.decide_until(Due::Drain, spans_max, out)
    }

    fn decide_until(&mut self, due: Due, spans_max: usize, out: &mut Release) -> bool {
        out.begin(self.name, &mut self.session);
        let due_ns = match due {
            Due::Now => self.now_ns,
            Due::Drain => u64::MAX,
        };
        let mut spans_left = spans_max;
        let mut looks_left = LOOKS_MAX;
        let is_more = loop {
            spans_left = spans_left.saturating_sub(self.release(spans_left, out));
            let is_released = self.releasing.is_done() && self.table.first_leaving().is_none();
            let is_look_due = self.table.first_look_ns().is_some_and(|look_ns| look_ns <= self.now_ns);
            let is_due = self.table.first_deadline_ns().is_some_and(|deadline_ns| deadline_ns <= due_ns);
            if spans_left == 0 || looks_left == 0 || !is_released || !(is_look_due || is_due) {
                break is_look_due || is_due || !is_released;
            }
            let spans_dropped = if is_look_due {
                self.decide_one_complete(&mut looks_left)
            } else {
                self.decide_some(due, due_ns, spans_left)
            };
            spans_left = spans_left.saturating_sub(spans_dropped);
        };
        self.turn_to(self.newest);
        self.retire();
        self.table.evacuate();
        self.lease.trim(self.table.traces());
        self.assert_ledger();
        is_more
    }

    /// Decides the next trace that is complete and quiet, if one of those that may be is. Returns the number of spans
    /// dropped.
    fn decide_one_complete(&mut self, looks_left: &mut usize) -> usize {
        let Some(slot) = self.table.take_complete(self.now_ns, looks_left) else {
            return 0;
        };
        self.counters.traces_complete += 1;
        let hash = self.seed.trace(&self.table.record(slot).trace_id);
        self.decide(slot, hash, When::Due)
    }

    /// Decides a few due traces of about `spans_max` spans together. Returns the number of spans dropped.
    ///
    /// Passes, as in `insert_block`: those that touch, then the one that finds all near.
    fn decide_some(&mut self, due: Due, due_ns: u64, spans_max: usize) -> usize {
        let drops = self.drop_pending_in_drain && matches!(due, Due::Drain);
        let mut taken = [NONE; DECIDED_TOGETHER];
        let taken = self.table.take_due(due_ns, spans_max, &mut taken);
        let mut hashes = [0; DECIDED_TOGETHER];
        for (slot, hash) in taken.iter().zip(&mut hashes) {
            *hash = self.seed.trace(&self.table.record(*slot).trace_id);
        }
        let mut touched = 0;
        for (slot, hash) in taken.iter().zip(hashes) {
            touched ^= self.table.touch(hash) ^ self.table.touch_dropped(hash) ^ self.table.touch_node(*slot);
        }
        std::hint::black_box(touched);
        let mut spans_dropped = 0;
        for (slot, hash) in taken.iter().zip(hashes) {
            self.note_deadline(*slot);
            spans_dropped += if drops { self.drop_undecided(*slot, hash) } else { self.decide(*slot, hash, When::Due) };
        }
        spans_dropped
    }

    fn note_deadline(&mut self, slot: u32) {
        let record = self.table.record(slot);
        match self.now_ns.checked_sub(record.deadline_ns) {
            Some(late_ns) => {
                self.counters.lateness.record(late_ns);
                self.counters.traces_decided_after_root += u64::from(record.list == List::Taken { after_root: true });
            }
            None => self.counters.traces_decided_by_drain += 1,
        }
    }

    fn facts(&self, slot: u32) -> Facts {
        let record = self.table.record(slot);
        Facts {
            trace_id: record.trace_id,
            first_start_ns: record.first_start_ns,
            last_end_ns: record.last_end_ns,
            conditions: Conditions(record.conditions),
            spans: record.spans,
            bytes: self.at.sizes.of(slot),
            now_ns: self.now_ns,
            randomness: self.marks.arrived(slot).unwrap_or_else(|| self.at.rules.randomness(&record.trace_id)),
            keys: if self.at.keys.are_kept() { self.at.keys.of(slot) } else { NO_KEYS },
        }
    }

    /// Decides one trace. Returns the number of spans dropped.
    fn decide(&mut self, slot: u32, hash: u64, when: When) -> usize {
        self.turn_to(self.table.record(slot).generation());
        let facts = self.facts(slot);
        let survived = self.marks.survived(slot);
        if !survived.admits(facts.randomness) {
            // Its randomness came after it was compared with another one.
            return self.shed(slot, hash);
        }
        let (decision, threshold) = self.at.rules.decide(&facts, Some(&mut self.counters.policies));
        self.journal.note(&facts, decision.into(), self.at.rules.answers(), self.at.revision);
        match decision {
            Decision::Sampled { policy } => {
                self.counters.traces_sampled += 1;
                self.at.sizes.end(slot, self.table.record(slot));
                if self.at.writes.threshold {
                    let randomness = self.at.rules.randomness(&facts.trace_id);
                    self.marks.decide(slot, &facts.trace_id, threshold.max(survived), randomness);
                } else if self.marks.remember_any() {
                    self.marks.forget(&facts.trace_id);
                }
                let number = self.at.rules.number_of(policy);
                self.table.start_leaving(slot, hash, number, self.first_reason + number, when);
                0
            }
            Decision::NotSampled => {
                self.counters.traces_not_sampled += 1;
                self.drop_trace(slot, hash, when)
            }
            Decision::Dropped => {
                self.counters.traces_dropped += 1;
                self.drop_trace(slot, hash, when)
            }
        }
    }

    #[cold]
    fn drop_undecided(&mut self, slot: u32, hash: u64) -> usize {
        self.turn_to(self.table.record(slot).generation());
        self.journal.note(&self.facts(slot), Outcome::Drained, Answers::default(), self.at.revision);
        self.counters.traces_not_sampled += 1;
        self.drop_trace(slot, hash, When::Due)
    }

    /// Its rules are at hand. Returns the number of its spans.
    fn drop_trace(&mut self, slot: u32, hash: u64, when: When) -> usize {
        self.at.sizes.end(slot, self.table.record(slot));
        self.at.traces -= 1;
        let spans = self.table.drop_trace(slot, hash, when);
        self.counters.spans_dropped += u64::from(spans);
        spans as usize
    }

    /// Copies spans of sampled traces to `out`, at most `spans_max`. Returns how many, and for what was unpacked as many
    /// as could have been copied meanwhile.
    fn release(&mut self, spans_max: usize, out: &mut Release) -> usize {
        let (mut released, mut blocks) = (0, 0);
        let opened = self.table.blocks_opened();
        while released + blocks * SPANS_PER_BLOCK < spans_max && !out.is_full() {
            if self.releasing.is_done() {
                let Some(slot) = self.table.first_leaving() else {
                    break;
                };
                self.turn_to(self.table.record(slot).generation());
                self.at.traces -= 1;
                self.releasing.start(slot, &mut self.table, out);
                self.releasing.mark = self.at.writes.is_any().then(|| {
                    let policy = self.releasing.reason - self.first_reason;
                    let hashed = self.at.rules.randomness(&self.releasing.trace_id);
                    self.marks.of(slot, policy, hashed, self.at.writes)
                });
            }
            self.releasing.step(&mut self.table, &mut self.marks, out);
            released += 1;
            blocks = (self.table.blocks_opened() - opened) as usize;
        }
        self.counters.spans_kept += released as u64;
        released + blocks * SPANS_PER_BLOCK
    }

    /// When [`Sampler::decide_due`] has something to do next; a time in the past if it has now.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        if !self.releasing.is_done() || self.table.first_leaving().is_some() || self.ladder.is_sweeping() {
            return Some(0);
        }
        [self.table.first_deadline_ns(), self.table.first_look_ns()].into_iter().flatten().min()
    }

    /// Whether every trace that was due by then is decided, and released as far as it was kept: what is still held belongs
    /// to traces whose deadline is later.
    pub fn has_released_due(&self, now_ns: u64) -> bool {
        self.releasing.is_done()
            && self.table.first_leaving().is_none()
            && self.table.first_deadline_ns().is_none_or(|deadline_ns| deadline_ns > now_ns)
    }

    /// Whether it should be given spans. No: `block_on_overflow` is set and the process holds as many traces as it may.
    /// Nothing breaks if it is given some all the same: they are taken, and the limit is passed.
    pub fn has_room(&self) -> bool {
        !self.block_on_overflow || self.lease.has_room(self.table.traces())
    }

    /// Gives back memory that a burst left over: after 25 to 50 s, a bounded part per call. True if there is more.
    /// To be called every second or so.
    pub fn shrink(&mut self, now_ns: u64) -> bool {
        self.now_ns = self.now_ns.max(now_ns);
        if self.now_ns >= self.window_ends_ns {
            self.window_ends_ns = self.now_ns.saturating_add(SHRINK_WINDOW_NS);
            self.table.rotate_window();
            self.request.scopes.shrink_to(BLOCK_SPANS);
            self.at.resources.shrink_to(BLOCK_SPANS);
            self.releasing.runs.shrink_to(BLOCK_SPANS);
        }
        self.table.shrink()
    }

    /// Forgets what bursts needed: the next calls of [`Sampler::shrink`] give back all that is not in use. For a caller
    /// whose memory is short: kept for later, it would keep others from theirs now.
    pub fn forget_bursts(&mut self) {
        // What neither of two windows needed is surplus.
        self.table.rotate_window();
        self.table.rotate_window();
    }

    /// Undecided traces.
    pub fn pending_traces(&self) -> usize {
        self.table.traces()
    }

    /// Spans stored: of undecided traces, and of sampled ones that are still to be released.
    pub fn pending_spans(&self) -> u64 {
        self.table.spans()
    }

    /// Memory held, in bytes: whole chunks, records, envelopes, the memory of decisions.
    pub fn bytes_held(&self) -> usize {
        self.table.bytes()
            + std::iter::once(&self.at).chain(&self.others).map(Generation::bytes).sum::<usize>()
            + self.marks.bytes()
            + self.request.scopes.capacity() * size_of::<RequestScope>()
            + self.releasing.runs.capacity() * size_of::<Run>()
            + self.journal.bytes()
    }

    /// What was done so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn assert_ledger(&self) {
        let counters = &self.counters;
        assert_eq!(
            counters.spans_accepted,
            counters.spans_kept + counters.spans_dropped + self.pending_spans(),
            "every accepted span is kept, dropped or pending"
        );
    }
}

impl RequestScopes {
    fn begin(&mut self, index: &SpanIndex) {
        self.scopes.clear();
        self.scopes.resize(index.scopes.len(), RequestScope::NotAsked);
    }

    /// The scope's handle; `None` if its envelopes are not interned.
    #[inline]
    fn scope(&mut self, index: &SpanIndex, scope: u32, table: &mut TraceTable) -> Option<ScopeHandle> {
        match self.scopes[scope as usize] {
            RequestScope::Interned(handle) => Some(handle),
            RequestScope::NotAsked => self.ask(index, scope, table),
            RequestScope::TooMany => None,
        }
    }

    #[cold]
    fn ask(&mut self, index: &SpanIndex, scope: u32, table: &mut TraceTable) -> Option<ScopeHandle> {
        let held = table.envelopes.hold(envelopes(index, scope));
        self.scopes[scope as usize] = held.map_or(RequestScope::TooMany, RequestScope::Interned);
        held
    }

    fn end(&mut self, table: &mut TraceTable) {
        for scope in &self.scopes {
            if let RequestScope::Interned(handle) = scope {
                table.envelopes.release(*handle);
            }
        }
    }
}

fn envelopes(index: &SpanIndex, scope: u32) -> EnvelopePair<'_> {
    let entry = index.scopes[scope as usize];
    let resource = index.resources[entry.resource as usize];
    EnvelopePair { resource: envelope(index, resource), scope: envelope(index, entry.envelope) }
}

fn envelope(index: &SpanIndex, range: ByteRange) -> &[u8] {
    &index.envelopes[range.start as usize..range.end as usize]
}

impl Releasing {
    fn is_done(&self) -> bool {
        self.run == self.runs.len()
    }

    fn start(&mut self, slot: u32, table: &mut TraceTable, out: &mut Release) {
        let record = table.record(slot);
        (self.trace_id, self.reason) = (record.trace_id, record.reason);
        self.is_cut = record.has(Record::IS_CUT);
        out.traces.push(KeptTrace { trace_id: self.trace_id, reason: self.reason, is_cut: self.is_cut });
        (self.run, self.offset) = (0, 0);
        self.runs.clear();
        table.take_runs(&mut self.runs);
    }

    /// Copies one span.
    fn step(&mut self, table: &mut TraceTable, marks: &mut Marks, out: &mut Release) {
        let run = self.runs[self.run];
        let (stored, envelopes) = table.stored(run, self.offset);
        let scope = out.scope(stored.scope, envelopes);
        let size = stored.size;
        let item = SpanItem { trace_id: self.trace_id, reason: self.reason, ..stored.item };
        match &self.mark {
            None => out.push(item, scope, stored.bytes),
            Some(mark) => out.push_written(item, scope, |out| marks.write(mark, &item, stored.bytes, out)),
        }
        if std::mem::take(&mut self.is_cut) {
            out.mark_cut();
        }
        self.offset += size as u32;
        table.count_released();
        if self.offset == run.length {
            table.release_run(run);
            self.run += 1;
            self.offset = 0;
        }
    }
}

/// Bytes to remember kept and dropped traces in.
fn decision_memory(settings: &Settings) -> (usize, usize) {
    let kept_bytes_max = bytes_of(settings.kept_memory_bytes, KEPT_MEMORY_BYTES);
    (kept_bytes_max, bytes_of(settings.dropped_memory_bytes, DROPPED_MEMORY_BYTES))
}

/// `None`: the default. At most what a machine of 32 bits could address, too.
fn bytes_of(configured: Option<u64>, default: u64) -> usize {
    usize::try_from(configured.unwrap_or(default)).unwrap_or(usize::MAX)
}

/// When a span started, for the trace's smallest start: unset is no time.
#[inline]
fn start_of(item: &SpanItem) -> u64 {
    if item.start_ns == 0 { START_UNKNOWN } else { item.start_ns }
}
