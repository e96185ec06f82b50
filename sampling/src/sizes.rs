//! Bytes of pending traces, beside the table: a record is two cache lines, full.
//!
//! If settings ask for them, every trace's are counted. Otherwise only those of large traces are, to notice giants: a
//! trace of few spans, none of them large, cannot be one, so its spans cost two comparisons.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use crate::table::{Record, TraceTable};

/// A trace of so many spans is large.
const LARGE_SPANS: u32 = 1_024;

/// Bytes of span messages by the trace's slot.
#[derive(Debug)]
pub(crate) struct Sizes {
    /// Every trace is counted in `every`, otherwise large ones in `large`.
    are_kept: bool,
    /// 8 bytes for each of the most traces that were ever pending.
    every: Vec<u64>,
    large: HashMap<u32, u64, foldhash::fast::FixedState>,
    /// Beyond it a trace is a giant.
    giant_bytes: u64,
    /// A span of more bytes makes its trace large: so that one that is not has less than `giant_bytes`.
    large_span_bytes: u64,
}

impl Sizes {
    /// `are_kept`: of every trace. A trace of more than `giant_bytes` is a giant.
    pub(crate) fn new(are_kept: bool, giant_bytes: u64) -> Self {
        Self {
            are_kept,
            every: Vec::new(),
            large: HashMap::default(),
            giant_bytes,
            large_span_bytes: giant_bytes / u64::from(LARGE_SPANS),
        }
    }

    #[inline]
    pub(crate) fn are_kept(&self) -> bool {
        self.are_kept
    }

    /// A trace begins in this slot.
    #[inline]
    pub(crate) fn begin(&mut self, slot: u32) {
        if !self.are_kept {
            return;
        }
        let slot = slot as usize;
        if slot >= self.every.len() {
            self.every.resize(slot + 1, 0);
        }
        self.every[slot] = 0;
    }

    /// Adds a span to a trace whose bytes are kept and returns the new sum.
    #[inline]
    pub(crate) fn add(&mut self, slot: u32, span_bytes: usize) -> u64 {
        let sum = &mut self.every[slot as usize];
        *sum += span_bytes as u64;
        *sum
    }

    /// Whether a trace of so many spans, with a span of so many bytes, must be asked whether it is a giant.
    #[inline]
    pub(crate) fn may_be_giant(&self, record: &Record, span_bytes: usize) -> bool {
        record.spans >= LARGE_SPANS || span_bytes as u64 > self.large_span_bytes || record.has(Record::IS_LARGE)
    }

    /// Whether the trace, to which a span was just added, is a giant.
    #[cold]
    pub(crate) fn is_giant(&mut self, slot: u32, span_bytes: usize, table: &mut TraceTable) -> bool {
        if self.are_kept {
            return self.every[slot as usize] > self.giant_bytes;
        }
        let sum = match self.large.entry(slot) {
            Entry::Occupied(mut sum) => {
                *sum.get_mut() += span_bytes as u64;
                *sum.get()
            }
            Entry::Vacant(place) => {
                table.record_mut(slot).marks |= Record::IS_LARGE;
                *place.insert(table.span_bytes(slot))
            }
        };
        sum > self.giant_bytes
    }

    /// The trace in this slot is decided.
    #[inline]
    pub(crate) fn end(&mut self, slot: u32, record: &Record) {
        if record.has(Record::IS_LARGE) {
            self.large.remove(&slot);
            if self.large.is_empty() {
                self.large.shrink_to(0);
            }
        }
    }

    /// 0 if they are not kept.
    #[inline]
    pub(crate) fn of(&self, slot: u32) -> u64 {
        if self.are_kept { self.every[slot as usize] } else { 0 }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.every.capacity() * size_of::<u64>() + self.large.allocation_size()
    }
}
