//! What flows between nodes, for any signal: shared read-only segments, the index over them, and the parts of requests
//! to answer.

use super::ack::{Ack, Outcome};
use super::client::Client;
use bytes::Bytes;
use codecs::otlp::{Index, Item, SignalIndex, SpanIndex};
use std::rc::Rc;

/// Most segments of one batch: an item names its segment in 16 bits.
pub const SEGMENTS_MAX: usize = u16::MAX as usize;

/// Whoever asks has looked at the signal, or works in pipelines of one.
const OTHER_SIGNAL: &str = "a batch is asked for items of its own signal";

const SPANS_ONLY: &str = "the checked configuration has this node in traces pipelines only";

/// Spans, metrics or log records on their way through a pipeline.
#[derive(Debug, Default)]
pub struct Batch {
    /// Where the items lie and whose they are.
    pub index: SignalIndex,
    /// Their bytes. Shared: a fan-out clones the handles, never the bytes.
    pub segments: Vec<Bytes>,
    /// The parts of requests that wait for this batch.
    pub acks: Vec<Ack>,
    /// Who sent all of it; `None` if nobody asks, or if nobody can say.
    pub client: Option<Rc<Client>>,
}

impl Batch {
    /// Number of spans, data points or log records.
    pub fn items(&self) -> u64 {
        self.index.count()
    }

    /// Bytes of its items and envelopes, close to what a request of it weighs before compression.
    pub fn bytes(&self) -> u64 {
        self.index.bytes()
    }

    /// The index of a batch of traces, for nodes that work on spans: the checked configuration has them in traces pipelines
    /// only.
    ///
    /// # Panics
    /// The batch is of another signal.
    pub fn span_index(&self) -> &SpanIndex {
        self.index.spans().expect(SPANS_ONLY)
    }

    /// As [`Batch::span_index`], to change it.
    ///
    /// # Panics
    /// The batch is of another signal.
    pub fn span_index_mut(&mut self) -> &mut SpanIndex {
        self.index.spans_mut().expect(SPANS_ONLY)
    }

    /// The index of a batch of these items.
    ///
    /// # Panics
    /// The batch is of another signal.
    pub fn index_of<I: Item>(&self) -> &Index<I> {
        I::index_in(&self.index).expect(OTHER_SIGNAL)
    }

    /// As [`Batch::index_of`], to change it.
    ///
    /// # Panics
    /// The batch is of another signal.
    pub fn index_of_mut<I: Item>(&mut self) -> &mut Index<I> {
        I::index_in_mut(&mut self.index).expect(OTHER_SIGNAL)
    }

    /// A second batch over the same bytes, with parts of its own: one for each branch of a fan-out.
    pub fn fork(&self) -> Batch {
        Batch {
            index: self.index.clone(),
            segments: self.segments.clone(),
            acks: self.acks.iter().map(Ack::split).collect(),
            client: self.client.clone(),
        }
    }

    /// Answers everybody who waits for this batch.
    pub fn settle(&mut self, outcome: &Outcome) {
        super::ack::settle_all(self.acks.drain(..), outcome);
    }

    /// Appends `other`; the caller has checked that the segments fit ([`SEGMENTS_MAX`]) and that the clients may be mixed.
    pub fn append(&mut self, mut other: Batch) {
        let first = self.segments.len();
        assert!(first + other.segments.len() <= SEGMENTS_MAX, "the caller keeps a batch under {SEGMENTS_MAX} segments");
        let first = u16::try_from(first).expect("bounded just above");
        self.index.append(&other.index, first);
        self.segments.append(&mut other.segments);
        self.acks.append(&mut other.acks);
    }

    /// Memory this batch holds beside its segments, in bytes.
    pub fn index_bytes(&self) -> usize {
        self.index.memory_bytes()
    }
}
