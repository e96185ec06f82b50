//! Who may be complete: traces whose root span came, in the order in which they are looked at.
//!
//! A trace is looked at one `quiet` after its root span and every `quiet` from then on. If spans came since the last
//! look it was not quiet; if none came, the caller sees whether every parent is there. So an arriving span costs nothing,
//! and a complete trace is found after one `quiet` to two of them.

use std::collections::VecDeque;

use super::record::Record;
use super::slab::Slab;
use super::watermark::Watermark;

#[derive(Clone, Copy, Debug)]
struct Entry {
    due_ns: u64,
    slot: u32,
    birth: u32,
    /// How many spans the trace had at the last look.
    spans: u32,
    /// Those spans were looked through: parents are missing.
    incomplete: bool,
}

/// Traces with a root span, first due in front. Entries of traces that were decided meanwhile are found out when due.
#[derive(Debug)]
pub(crate) struct Quiet {
    quiet_ns: u64,
    entries: VecDeque<Entry>,
    watermark: Watermark,
}

/// What a look at a trace finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Nothing to do: it was decided, was not quiet, or is known to be incomplete.
    Later,
    /// No span came since the last look: see whether it is complete, and say if it is not.
    Quiet(u32),
}

impl Quiet {
    pub(crate) fn new(quiet_ns: u64) -> Self {
        Self { quiet_ns, entries: VecDeque::new(), watermark: Watermark::default() }
    }

    /// The root span of the trace in `slot` came.
    pub(crate) fn watch(&mut self, now_ns: u64, slot: u32, record: &Record) {
        self.push(now_ns, Entry { due_ns: 0, slot, birth: record.birth, spans: record.spans, incomplete: false });
    }

    fn push(&mut self, now_ns: u64, entry: Entry) {
        self.entries.push_back(Entry { due_ns: now_ns.saturating_add(self.quiet_ns), ..entry });
        self.watermark.observe(self.entries.len());
    }

    /// When the first is due.
    #[inline]
    pub(crate) fn first_due_ns(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.due_ns)
    }

    /// Looks at the first, which is due.
    pub(crate) fn look(&mut self, now_ns: u64, records: &Slab<Record>) -> Option<Look> {
        let first = self.entries.pop_front()?;
        // The trace may be gone, and its record with its page.
        let pending =
            records.find(first.slot).filter(|record| record.birth == first.birth && record.list.is_undecided());
        let Some(record) = pending.filter(|record| record.deadline_ns > now_ns) else {
            return Some(Look::Later);
        };
        if record.spans == first.spans && !first.incomplete {
            return Some(Look::Quiet(first.slot));
        }
        let incomplete = first.incomplete && record.spans == first.spans;
        self.push(now_ns, Entry { spans: record.spans, incomplete, ..first });
        Some(Look::Later)
    }

    /// The trace that a look found quiet misses parents: it is looked at again when more spans came.
    pub(crate) fn is_incomplete(&mut self, now_ns: u64, slot: u32, record: &Record) {
        self.push(now_ns, Entry { due_ns: 0, slot, birth: record.birth, spans: record.spans, incomplete: true });
    }

    /// Starts a new window and gives back what no recent one needed.
    pub(crate) fn rotate_window(&mut self) {
        self.watermark.rotate(self.entries.len());
        let needed = self.watermark.needed();
        if needed * 2 < self.entries.capacity() {
            self.entries.shrink_to(needed);
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }
}
