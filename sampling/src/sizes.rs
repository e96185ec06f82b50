//! Bytes of pending traces, for settings that ask for them; nothing is kept for those that do not.
//!
//! They lie beside the table, not in its records: a record is two cache lines, full, and most configurations never ask.

/// Bytes of span messages by the trace's slot.
#[derive(Debug)]
pub(crate) struct Sizes {
    are_kept: bool,
    /// 8 bytes for each of the most traces that were ever pending.
    bytes: Vec<u64>,
}

impl Sizes {
    pub(crate) fn new(are_kept: bool) -> Self {
        Self { are_kept, bytes: Vec::new() }
    }

    #[inline]
    pub(crate) fn are_kept(&self) -> bool {
        self.are_kept
    }

    /// A trace begins in this slot.
    pub(crate) fn begin(&mut self, slot: u32) {
        if !self.are_kept {
            return;
        }
        let slot = slot as usize;
        if slot >= self.bytes.len() {
            self.bytes.resize(slot + 1, 0);
        }
        self.bytes[slot] = 0;
    }

    /// Adds a span and returns the new sum.
    pub(crate) fn add(&mut self, slot: u32, span_bytes: usize) -> u64 {
        let sum = &mut self.bytes[slot as usize];
        *sum += span_bytes as u64;
        *sum
    }

    /// 0 if they are not kept.
    #[inline]
    pub(crate) fn of(&self, slot: u32) -> u64 {
        if self.are_kept { self.bytes[slot as usize] } else { 0 }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.capacity() * size_of::<u64>()
    }
}
