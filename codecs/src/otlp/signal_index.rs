//! The index of a request of any signal, for whoever treats all signals alike: batches, queues, exporters.
//!
//! Whoever works on items matches on it once per batch; nothing here is decided per item.

use bytes::Bytes;

use super::encode::{Encoder, Selection};
use super::index::{Index, LogIndex, MetricIndex, SpanIndex};
use super::item::Item;
use super::signal::Signal;
use crate::wire::Malformed;

/// An [`Index`] of one of the signals.
#[derive(Clone, Debug)]
pub enum SignalIndex {
    /// Of a traces request.
    Spans(SpanIndex),
    /// Of a metrics request.
    Metrics(MetricIndex),
    /// Of a logs request.
    Logs(LogIndex),
}

impl Default for SignalIndex {
    fn default() -> Self {
        Self::Spans(SpanIndex::default())
    }
}

impl From<SpanIndex> for SignalIndex {
    fn from(index: SpanIndex) -> Self {
        Self::Spans(index)
    }
}

impl From<MetricIndex> for SignalIndex {
    fn from(index: MetricIndex) -> Self {
        Self::Metrics(index)
    }
}

impl From<LogIndex> for SignalIndex {
    fn from(index: LogIndex) -> Self {
        Self::Logs(index)
    }
}

/// The same expression for the index of each signal.
macro_rules! each {
    ($any:expr, $index:ident => $what:expr) => {
        match $any {
            SignalIndex::Spans($index) => $what,
            SignalIndex::Metrics($index) => $what,
            SignalIndex::Logs($index) => $what,
        }
    };
}

/// The same expression for two indexes of one signal.
macro_rules! both {
    ($any:expr, $other:expr, ($index:ident, $same:ident) => $what:expr) => {
        match ($any, $other) {
            (SignalIndex::Spans($index), SignalIndex::Spans($same)) => $what,
            (SignalIndex::Metrics($index), SignalIndex::Metrics($same)) => $what,
            (SignalIndex::Logs($index), SignalIndex::Logs($same)) => $what,
            (one, other) => panic!("{} and {} do not mix in one batch", one.signal(), other.signal()),
        }
    };
}

impl SignalIndex {
    /// An index of this signal without items.
    #[must_use]
    pub fn new(signal: Signal) -> Self {
        match signal {
            Signal::Traces => Self::Spans(SpanIndex::default()),
            Signal::Metrics => Self::Metrics(MetricIndex::default()),
            Signal::Logs => Self::Logs(LogIndex::default()),
        }
    }

    /// Whose items it holds.
    #[must_use]
    pub fn signal(&self) -> Signal {
        match self {
            Self::Spans(_) => Signal::Traces,
            Self::Metrics(_) => Signal::Metrics,
            Self::Logs(_) => Signal::Logs,
        }
    }

    /// The spans, if it is an index of spans.
    #[must_use]
    pub fn spans(&self) -> Option<&SpanIndex> {
        if let Self::Spans(index) = self { Some(index) } else { None }
    }

    /// The spans to be changed, if it is an index of spans.
    #[must_use]
    pub fn spans_mut(&mut self) -> Option<&mut SpanIndex> {
        if let Self::Spans(index) = self { Some(index) } else { None }
    }

    /// See [`Index::read_request`].
    ///
    /// # Errors
    /// The first malformed byte; nothing of the request is accepted.
    pub fn read_request(&mut self, bytes: &[u8], segment: u16) -> Result<(), Malformed> {
        each!(self, index => index.read_request(bytes, segment))
    }

    /// Entries of the index: spans, metrics or log records.
    #[must_use]
    pub fn len(&self) -> usize {
        each!(self, index => index.items.len())
    }

    /// Whether there are no items.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the items count as together: spans, data points or log records; see [`Item::count`].
    #[must_use]
    pub fn count(&self) -> u64 {
        match self {
            Self::Spans(index) => index.items.len() as u64,
            Self::Metrics(index) => index.count(),
            Self::Logs(index) => index.items.len() as u64,
        }
    }

    /// See [`Index::bytes`].
    #[must_use]
    pub fn bytes(&self) -> u64 {
        each!(self, index => index.bytes())
    }

    /// See [`Index::memory_bytes`].
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        each!(self, index => index.memory_bytes())
    }

    /// Number of resources.
    #[must_use]
    pub fn resources(&self) -> usize {
        each!(self, index => index.resources.len())
    }

    /// Forgets all items and keeps the memory.
    pub fn clear(&mut self) {
        each!(self, index => index.clear());
    }

    /// See [`Index::append`].
    ///
    /// # Panics
    /// The other is of another signal, or the merged index would grow beyond its numbers: the caller bounds its batches.
    pub fn append(&mut self, other: &Self, segment_offset: u16) {
        both!(self, other, (index, same) => index.append(same, segment_offset));
    }

    /// See [`Index::select`].
    ///
    /// # Panics
    /// The other is of another signal, or a number is no item of this index.
    pub fn select(&self, numbers: &[u32], into: &mut Self) {
        both!(self, into, (index, same) => index.select(numbers, same));
    }

    /// See [`Index::edit_resources`].
    pub fn edit_resources(&mut self, edit: impl FnMut(&[u8], &mut Vec<u8>)) {
        each!(self, index => index.edit_resources(edit));
    }

    /// How many of the first items count as `bound` at most together; at least one, if there is any.
    #[must_use]
    pub fn items_within(&self, bound: u64) -> usize {
        each!(self, index => within(index, bound))
    }

    /// See [`Encoder::encode`].
    ///
    /// # Panics
    /// `segments` are not those of the index.
    pub fn encode(&self, encoder: &mut Encoder, segments: &[Bytes], out: &mut Vec<u8>) {
        each!(self, index => encoder.encode(index, segments, &Selection::All, out));
    }
}

fn within<I: Item>(index: &Index<I>, bound: u64) -> usize {
    let mut left = bound;
    let fits = |item: &&I| {
        let next = left.checked_sub(item.count());
        left = next.unwrap_or(0);
        next.is_some()
    };
    let items = index.items.iter().take_while(fits).count();
    items.max(1).min(index.items.len())
}
