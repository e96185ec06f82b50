//! What is kept of a pending trace: two cache lines, the first with all that an arriving span asks for.
//!
//! A trace's spans lie in runs: stretches of a chunk that hold nothing else. Runs are listed here, not linked through
//! the chunks, so that dropping a trace never touches chunk memory. The newest run is `open` and grows while the
//! trace's spans arrive one after the other; the first four closed ones are here, all others in nodes of five.

use codecs::otlp::TraceId;

use super::slab::Slab;
use crate::policy::START_UNKNOWN;

/// Generations of rules that may be at work at the same time: the one in force, and three that still have traces.
pub(crate) const GENERATIONS_MAX: usize = 1 << (u8::BITS - Record::GENERATION_SHIFT);

/// No slot.
pub(crate) const NONE: u32 = u32::MAX;

/// A stretch of one chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) chunk: u32,
    pub(crate) offset: u32,
    pub(crate) length: u32,
}

/// The queue a record waits in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum List {
    /// None: the slot is free.
    #[default]
    Free,
    /// Undecided, waits since its first span.
    Waiting,
    /// Undecided, waits since its root span.
    AfterRoot,
    /// None: it is being decided or released.
    Taken {
        /// Its wait since its root span was the shorter one.
        after_root: bool,
    },
    /// Sampled, its spans are still to be released.
    Leaving,
}

impl List {
    /// Whether a trace in it waits for its decision.
    #[inline]
    pub(crate) fn is_undecided(self) -> bool {
        matches!(self, Self::Waiting | Self::AfterRoot)
    }
}

const RUNS_INLINE: usize = 4;
const RUNS_PER_NODE: usize = 5;

/// Five more runs of a trace.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Node {
    runs: [Run; RUNS_PER_NODE],
    older: u32,
}

/// One trace of the table.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(128))]
pub(crate) struct Record {
    pub(crate) trace_id: TraceId,
    /// Smallest start; [`START_UNKNOWN`] if no span had one.
    pub(crate) first_start_ns: u64,
    pub(crate) last_end_ns: u64,
    pub(crate) conditions: u64,
    /// Spans stored.
    pub(crate) spans: u32,
    /// Runs before `open`.
    closed: u32,
    open: Run,
    pub(crate) list: List,
    /// Some of [`Record::HAS_ROOT`] and its like.
    pub(crate) marks: u8,
    /// Why it was sampled; set when it starts leaving.
    pub(crate) reason: u16,

    pub(crate) deadline_ns: u64,
    /// Tells the trace from earlier ones of its slot: counts records, wrapping.
    pub(crate) birth: u32,
    newest_node: u32,
    inline: [Run; RUNS_INLINE],
}

const _: () = assert!(size_of::<Record>() == 128, "a record is two cache lines");
const _: () = assert!(std::mem::offset_of!(Record, deadline_ns) == 64, "the first line is what a span asks for");
const _: () = assert!(size_of::<Node>() == 64, "a node is one cache line");

impl Default for Record {
    fn default() -> Self {
        Self {
            trace_id: TraceId::default(),
            first_start_ns: START_UNKNOWN,
            last_end_ns: 0,
            conditions: 0,
            spans: 0,
            closed: 0,
            open: Run::default(),
            list: List::Free,
            marks: 0,
            reason: 0,
            deadline_ns: 0,
            birth: 0,
            newest_node: NONE,
            inline: [Run::default(); RUNS_INLINE],
        }
    }
}

impl Record {
    /// Mark: its root span came.
    pub(crate) const HAS_ROOT: u8 = 1;
    /// Mark: its bytes are counted, see [`crate::sizes`].
    pub(crate) const IS_LARGE: u8 = 2;
    /// Mark: it was decided on what was there, because it grew too large to wait.
    pub(crate) const IS_CUT: u8 = 4;

    #[inline]
    pub(crate) fn has(&self, mark: u8) -> bool {
        self.marks & mark != 0
    }

    /// The highest bits of the marks: the generation of rules that it is decided by.
    const GENERATION_SHIFT: u32 = 6;

    /// A trace without spans, in no list yet. `generation` is below [`GENERATIONS_MAX`].
    pub(crate) fn new(trace_id: TraceId, deadline_ns: u64, birth: u32, generation: u8) -> Self {
        Self { trace_id, deadline_ns, birth, marks: generation << Self::GENERATION_SHIFT, ..Self::default() }
    }

    /// Which rules decide it.
    #[inline]
    pub(crate) fn generation(&self) -> u8 {
        self.marks >> Self::GENERATION_SHIFT
    }

    /// Reads a word of each of its cache lines, and no more; see [`super::index::Index::touch`].
    #[inline]
    pub(crate) fn touch(&self) -> u32 {
        self.spans ^ self.newest_node
    }

    /// Reads a word of the newest node, if there is one.
    #[inline]
    pub(crate) fn touch_node(&self, nodes: &Slab<Node>) -> u32 {
        if self.newest_node == NONE { NONE } else { nodes.at(self.newest_node).older }
    }

    /// Lists bytes written for this trace after all others.
    #[inline]
    pub(crate) fn push_run(&mut self, run: Run, nodes: &mut Slab<Node>) {
        let open = &mut self.open;
        if open.chunk == run.chunk && open.offset + open.length == run.offset && open.length > 0 {
            open.length += run.length;
            return;
        }
        if open.length > 0 {
            self.close_run(nodes);
        }
        self.open = run;
    }

    fn close_run(&mut self, nodes: &mut Slab<Node>) {
        let closed = self.closed as usize;
        self.closed += 1;
        if let Some(place) = self.inline.get_mut(closed) {
            *place = self.open;
            return;
        }
        let in_node = (closed - RUNS_INLINE) % RUNS_PER_NODE;
        if in_node == 0 {
            let node = nodes.allocate();
            nodes.at_mut(node).older = self.newest_node;
            self.newest_node = node;
        }
        nodes.at_mut(self.newest_node).runs[in_node] = self.open;
    }

    /// Number of runs.
    pub(crate) fn runs(&self) -> usize {
        self.closed as usize + usize::from(self.open.length > 0)
    }

    /// Calls `each` for every run, in no order.
    #[inline]
    pub(crate) fn for_each_run(&self, nodes: &Slab<Node>, mut each: impl FnMut(Run)) {
        if self.open.length > 0 {
            each(self.open);
        }
        let closed = self.closed as usize;
        self.inline.iter().take(closed).for_each(|run| each(*run));
        let mut left = closed.saturating_sub(RUNS_INLINE);
        let mut node = self.newest_node;
        while left > 0 {
            let in_node = (left - 1) % RUNS_PER_NODE + 1;
            let current = nodes.at(node);
            current.runs[..in_node].iter().for_each(|run| each(*run));
            left -= in_node;
            node = current.older;
        }
    }

    /// The run that starts there.
    pub(crate) fn run_mut<'a>(&'a mut self, nodes: &'a mut Slab<Node>, chunk: u32, offset: u32) -> Option<&'a mut Run> {
        let starts_there = |run: &&mut Run| run.chunk == chunk && run.offset == offset && run.length > 0;
        let closed = self.closed as usize;
        let here = self.inline.iter_mut().take(closed).chain(std::iter::once(&mut self.open));
        if let Some(run) = here.into_iter().find(starts_there) {
            return Some(run);
        }
        let mut left = closed.saturating_sub(RUNS_INLINE);
        let mut node = self.newest_node;
        while left > 0 {
            let in_node = (left - 1) % RUNS_PER_NODE + 1;
            let found =
                nodes.at(node).runs[..in_node].iter().position(|run| run.chunk == chunk && run.offset == offset);
            if let Some(position) = found {
                return Some(&mut nodes.at_mut(node).runs[position]);
            }
            left -= in_node;
            node = nodes.at(node).older;
        }
        None
    }

    /// Appends all runs to `runs`, oldest first.
    pub(crate) fn runs_in_order(&self, nodes: &Slab<Node>, runs: &mut Vec<Run>) {
        let closed = self.closed as usize;
        runs.extend(self.inline.iter().take(closed));
        let first_of_nodes = runs.len();
        let mut left = closed.saturating_sub(RUNS_INLINE);
        let mut node = self.newest_node;
        while left > 0 {
            let in_node = (left - 1) % RUNS_PER_NODE + 1;
            let current = nodes.at(node);
            runs.extend(current.runs[..in_node].iter().rev());
            left -= in_node;
            node = current.older;
        }
        runs[first_of_nodes..].reverse();
        if self.open.length > 0 {
            runs.push(self.open);
        }
    }

    /// Gives the nodes back. The record lists nothing any more.
    #[inline]
    pub(crate) fn release_nodes(&mut self, nodes: &mut Slab<Node>) {
        let mut left = (self.closed as usize).saturating_sub(RUNS_INLINE);
        while left > 0 {
            let node = self.newest_node;
            self.newest_node = nodes.at(node).older;
            nodes.release(node);
            left -= (left - 1) % RUNS_PER_NODE + 1;
        }
        self.closed = 0;
        self.open = Run::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_come_out_as_they_went_in_for_any_number() {
        for count in 0..40u32 {
            let mut nodes = Slab::new();
            let mut record = Record::default();
            let expected: Vec<Run> = (0..count).map(|n| Run { chunk: n / 3, offset: n * 100, length: 10 }).collect();
            for run in &expected {
                record.push_run(*run, &mut nodes);
            }
            assert_eq!(record.runs(), count as usize);

            let mut runs = Vec::new();
            record.runs_in_order(&nodes, &mut runs);
            assert_eq!(runs, expected);

            runs.clear();
            record.for_each_run(&nodes, |run| runs.push(run));
            runs.sort_by_key(|run| run.offset);
            assert_eq!(runs, expected);

            for run in &expected {
                assert_eq!(record.run_mut(&mut nodes, run.chunk, run.offset).map(|run| *run), Some(*run));
                assert!(record.run_mut(&mut nodes, run.chunk, run.offset + 1).is_none());
            }
            record.release_nodes(&mut nodes);
            assert_eq!(record.runs(), 0);
        }
    }

    #[test]
    fn neighbours_become_one_run() {
        let mut nodes = Slab::new();
        let mut record = Record::default();
        for offset in [0, 10, 20, 40, 50] {
            record.push_run(Run { chunk: 1, offset, length: 10 }, &mut nodes);
        }
        record.push_run(Run { chunk: 2, offset: 60, length: 10 }, &mut nodes);
        let mut runs = Vec::new();
        record.runs_in_order(&nodes, &mut runs);
        let expected = [(1, 0, 30), (1, 40, 20), (2, 60, 10)];
        assert_eq!(runs, expected.map(|(chunk, offset, length)| Run { chunk, offset, length }));
    }
}
