//! `batch`: collects spans until there are enough of them, or until they have waited long enough.
//!
//! The one idea: batches are merged by appending indexes; no span byte moves. Sizes and timeout have the Collector's
//! meaning (reference: batch processor): `send_batch_size` triggers, `send_batch_max_size` bounds, the timer counts from
//! the first span after a send. Unlike the Collector's, a batch that cannot leave stays: nothing is dropped here.
//!
//! With `metadata_keys` there is one such batch per combination of the clients' values, each with its own size and
//! timer, and they never mix. Without, there is one for everybody.
//!
//! ```text
//! take --client's values--> group: pending batch --+-- enough: `full`, in the order they became so
//!                                                  +-- too long: `due`, a heap of deadlines, one entry per group
//! ```

use super::Turn;
use crate::pipeline::ack::Outcome;
use crate::pipeline::batch::{Batch, SEGMENTS_MAX};
use crate::pipeline::client::{self, Client};
use crate::telemetry::metrics::BatchSeries;
use codecs::otlp::SpanIndex;
use slab::Slab;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::rc::Rc;

/// A combination that nobody has used for this long makes room for a new one at the limit.
const UNUSED_NS: u64 = 300_000_000_000;

/// Settings, with 0 meaning what the configuration says it means.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Longest wait of a span; 0: every batch leaves at once.
    pub timeout_ns: u64,
    /// Spans that trigger sending; 0: every batch leaves at once.
    pub send_batch_size: u32,
    /// Most spans of one batch; 0: no bound.
    pub send_batch_max_size: u32,
    /// Headers of clients whose values are never mixed.
    pub metadata_keys: Vec<String>,
    /// Most combinations of their values.
    pub metadata_combinations_max: usize,
}

/// One `batch` processor on one shard.
#[derive(Debug)]
pub struct Batcher {
    settings: Settings,
    series: BatchSeries,
    groups: Slab<Group>,
    /// Groups by the values of their clients.
    by_values: HashMap<Box<[u8]>, usize, foldhash::fast::RandomState>,
    /// When groups must leave at the latest. An entry may be early: the group looks again.
    due: BinaryHeap<Reverse<(u64, usize)>>,
    /// Groups with enough to send.
    full: VecDeque<usize>,
    /// Groups beyond their bound, because what is behind this node has stopped.
    stopped: usize,
    spans: u64,
    /// Reused between batches.
    scratch: Vec<u8>,
}

/// Spans of clients with the same values.
#[derive(Debug)]
struct Group {
    /// What these clients have in common.
    client: Option<Rc<Client>>,
    pending: Batch,
    /// When the pending spans must leave; meaningless while there are none.
    deadline_ns: u64,
    last_used_ns: u64,
    is_in_due: bool,
    is_in_full: bool,
    is_stopped: bool,
}

impl Batcher {
    /// Holds nothing yet.
    pub fn new(settings: Settings, series: BatchSeries) -> Batcher {
        Batcher {
            settings,
            series,
            groups: Slab::new(),
            by_values: HashMap::default(),
            due: BinaryHeap::new(),
            full: VecDeque::new(),
            stopped: 0,
            spans: 0,
            scratch: Vec::new(),
        }
    }

    /// Whether a batch of this client would be taken: its combination is known, or there is room for another.
    pub fn admits(&mut self, now_ns: u64, client: Option<&Client>) -> bool {
        if self.settings.metadata_keys.is_empty() {
            return true;
        }
        self.scratch.clear();
        client::write_key(client, &self.settings.metadata_keys, &mut self.scratch);
        if self.by_values.contains_key(&self.scratch[..]) {
            return true;
        }
        if self.groups.len() >= self.settings.metadata_combinations_max {
            self.forget_unused(now_ns);
        }
        self.groups.len() < self.settings.metadata_combinations_max
    }

    /// Takes ownership: the senders are answered here. The spans leave at the next `turn` that finds them due.
    pub fn take(&mut self, turn: Turn<'_>, mut batch: Batch) {
        let number = self.group_of(turn, batch.client.as_deref());
        batch.settle(&Outcome::Taken);
        self.spans += batch.spans();
        let group = &mut self.groups[number];
        group.last_used_ns = turn.now_ns;
        if group.pending.index.spans.is_empty() {
            group.deadline_ns = turn.now_ns.saturating_add(self.settings.timeout_ns);
        }
        group.pending.append(batch);
        self.note(number);
    }

    /// The group for batches of this client.
    fn group_of(&mut self, turn: Turn<'_>, client: Option<&Client>) -> usize {
        let keys = &self.settings.metadata_keys;
        self.scratch.clear();
        client::write_key(client, keys, &mut self.scratch);
        if let Some(&number) = self.by_values.get(&self.scratch[..]) {
            return number;
        }
        let client = client.and_then(|client| client.only(keys)).map(Rc::new);
        let number = self.groups.insert(Group {
            pending: Batch { client: client.clone(), ..Batch::default() },
            client,
            deadline_ns: 0,
            last_used_ns: turn.now_ns,
            is_in_due: false,
            is_in_full: false,
            is_stopped: false,
        });
        self.by_values.insert(self.scratch.as_slice().into(), number);
        turn.cells.set(self.series.metadata_cardinality, self.groups.len() as u64);
        number
    }

    /// Brings the lists up to date with a group that has changed.
    fn note(&mut self, number: usize) {
        let (trigger, bound) = (self.trigger(), self.bound());
        let group = &mut self.groups[number];
        let (spans, segments) = (group.pending.index.spans.len(), group.pending.segments.len());
        if is_full(spans, segments, trigger) && !group.is_in_full {
            group.is_in_full = true;
            self.full.push_back(number);
        }
        if spans > 0 && !group.is_in_due {
            group.is_in_due = true;
            self.due.push(Reverse((group.deadline_ns, number)));
        }
        let is_stopped = spans >= bound || segments >= SEGMENTS_MAX / 2;
        if is_stopped != group.is_stopped {
            group.is_stopped = is_stopped;
            self.stopped = if is_stopped { self.stopped + 1 } else { self.stopped - 1 };
        }
    }

    /// Lets what is due leave, in pieces of at most `send_batch_max_size`.
    pub fn turn(&mut self, turn: Turn<'_>, drain: bool, out: &mut Vec<Batch>) -> bool {
        let full = self.next_full();
        let Some(number) = full.or_else(|| self.next_due(turn.now_ns, drain)) else { return false };
        let trigger = if full.is_some() { self.series.size_trigger } else { self.series.timeout_trigger };
        turn.cells.add(trigger, 1);
        let group = &mut self.groups[number];
        let rest = split(&mut group.pending, self.settings.send_batch_max_size as usize, group.client.clone());
        let leaving = std::mem::replace(&mut group.pending, rest);
        group.deadline_ns = turn.now_ns.saturating_add(self.settings.timeout_ns);
        self.spans -= leaving.spans();
        turn.cells.observe(self.series.send_size, leaving.spans());
        out.push(leaving);
        self.note(number);
        !self.full.is_empty() || (drain && self.spans > 0) || self.is_due(turn.now_ns)
    }

    fn next_full(&mut self) -> Option<usize> {
        let number = self.full.pop_front()?;
        self.groups[number].is_in_full = false;
        Some(number)
    }

    /// The group whose time is over; in a drain, any that holds something.
    fn next_due(&mut self, now_ns: u64, drain: bool) -> Option<usize> {
        while let Some(&Reverse((deadline_ns, number))) = self.due.peek() {
            if deadline_ns > now_ns && !drain {
                return None;
            }
            self.due.pop();
            let group = &mut self.groups[number];
            group.is_in_due = false;
            if group.pending.index.spans.is_empty() {
                continue;
            }
            if drain || group.deadline_ns <= now_ns {
                return Some(number);
            }
            // It has left since for want of space, and waits anew.
            group.is_in_due = true;
            self.due.push(Reverse((group.deadline_ns, number)));
        }
        None
    }

    fn is_due(&self, now_ns: u64) -> bool {
        self.due.peek().is_some_and(|Reverse((deadline_ns, _))| *deadline_ns <= now_ns)
    }

    /// Whether there is enough to send, whatever the time.
    pub fn is_full(&self) -> bool {
        !self.full.is_empty()
    }

    /// Spans that must leave at once: 1 where nothing is to wait.
    fn trigger(&self) -> usize {
        if self.settings.timeout_ns == 0 { 1 } else { self.settings.send_batch_size.max(1) as usize }
    }

    /// Spans of one group at which this node takes no more: twice what triggers sending.
    fn bound(&self) -> usize {
        self.trigger().saturating_mul(2).max(8192)
    }

    /// Room until a group is beyond its bound: then what is behind this node has stopped.
    pub fn has_room(&self) -> bool {
        self.stopped == 0
    }

    /// Makes room for other combinations: those that hold nothing and that nobody uses any more are forgotten.
    fn forget_unused(&mut self, now_ns: u64) {
        let groups = &mut self.groups;
        self.by_values.retain(|_, &mut number| {
            let group = &groups[number];
            let is_listed = group.is_in_due || group.is_in_full;
            let unused = now_ns.saturating_sub(group.last_used_ns) >= UNUSED_NS;
            let forget = unused && !is_listed && group.pending.index.spans.is_empty();
            if forget {
                groups.remove(number);
            }
            !forget
        });
    }

    /// Spans waiting.
    pub fn spans_held(&self) -> u64 {
        self.spans
    }

    /// Memory of the pending indexes and of what is known of clients; the segments are request buffers.
    pub fn bytes_held(&self) -> u64 {
        let of_group = |group: &Group| {
            let client = group.client.as_ref().map_or(0, |client| client.bytes());
            (group.pending.index_bytes() + client) as u64
        };
        self.groups.iter().map(|(_, group)| of_group(group)).sum()
    }
}

fn is_full(spans: usize, segments: usize, trigger: usize) -> bool {
    spans >= trigger || segments >= SEGMENTS_MAX / 2
}

/// Cuts a pending batch to its bound, if there is one; returns what stays.
fn split(pending: &mut Batch, bound: usize, client: Option<Rc<Client>>) -> Batch {
    let spans = pending.index.spans.len();
    if bound == 0 || spans <= bound {
        return Batch { client, ..Batch::default() };
    }
    let cut = |from: usize, to: usize| {
        let chosen: Vec<u32> = (from..to).map(|span| u32::try_from(span).expect("an index holds u32 spans")).collect();
        let mut index = SpanIndex::default();
        pending.index.select(&chosen, &mut index);
        index
    };
    let (first, rest) = (cut(0, bound), cut(bound, spans));
    pending.index = first;
    Batch { index: rest, segments: pending.segments.clone(), acks: Vec::new(), client }
}
