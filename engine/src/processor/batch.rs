//! `batch`: collects spans until there are enough of them, or until they have waited long enough.
//!
//! The one idea: batches are merged by appending indexes; no span byte moves. Sizes and timeout have the Collector's
//! meaning (reference: batch processor): `send_batch_size` triggers, `send_batch_max_size` bounds, the timer counts from
//! the first span after a send. Unlike the Collector's, a batch that cannot leave stays: nothing is dropped here.

use super::Turn;
use crate::pipeline::ack::Outcome;
use crate::pipeline::batch::{Batch, SEGMENTS_MAX};
use crate::telemetry::metrics::BatchSeries;
use codecs::otlp::SpanIndex;

/// Settings, with 0 meaning what the configuration says it means.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Longest wait of a span; 0: every batch leaves at once.
    pub timeout_ns: u64,
    /// Spans that trigger sending; 0: every batch leaves at once.
    pub send_batch_size: u32,
    /// Most spans of one batch; 0: no bound.
    pub send_batch_max_size: u32,
}

/// One `batch` processor on one shard.
#[derive(Debug)]
pub struct Batcher {
    settings: Settings,
    series: BatchSeries,
    pending: Batch,
    /// When the pending spans must leave; meaningless while there are none.
    deadline_ns: u64,
}

impl Batcher {
    /// Holds nothing yet.
    pub fn new(settings: Settings, series: BatchSeries) -> Batcher {
        Batcher { settings, series, pending: Batch::default(), deadline_ns: 0 }
    }

    /// Takes ownership: the senders are answered here. The spans leave at the next `turn` that finds them due.
    pub fn take(&mut self, turn: Turn<'_>, mut batch: Batch) {
        if self.pending.index.spans.is_empty() {
            self.deadline_ns = turn.now_ns.saturating_add(self.settings.timeout_ns);
        }
        batch.settle(&Outcome::Taken);
        self.pending.append(batch);
    }

    /// Lets what is due leave, in pieces of at most `send_batch_max_size`.
    pub fn turn(&mut self, turn: Turn<'_>, drain: bool, out: &mut Vec<Batch>) -> bool {
        let spans = self.pending.index.spans.len();
        if spans == 0 {
            return false;
        }
        let full = self.is_full();
        if !full && !drain && turn.now_ns < self.deadline_ns {
            return false;
        }
        turn.cells.add(if full { self.series.size_trigger } else { self.series.timeout_trigger }, 1);
        let rest = self.split();
        turn.cells.observe(self.series.send_size, self.pending.spans());
        out.push(std::mem::replace(&mut self.pending, rest));
        self.deadline_ns = turn.now_ns.saturating_add(self.settings.timeout_ns);
        self.pending.index.spans.len() >= self.trigger() || (drain && !self.pending.index.spans.is_empty())
    }

    /// Whether there is enough to send, whatever the time.
    pub fn is_full(&self) -> bool {
        self.pending.index.spans.len() >= self.trigger() || self.pending.segments.len() >= SEGMENTS_MAX / 2
    }

    /// Spans that must leave at once: 1 where nothing is to wait.
    fn trigger(&self) -> usize {
        if self.settings.timeout_ns == 0 { 1 } else { self.settings.send_batch_size.max(1) as usize }
    }

    /// Cuts the pending batch to its bound; returns what stays.
    fn split(&mut self) -> Batch {
        let bound = self.settings.send_batch_max_size as usize;
        let spans = self.pending.index.spans.len();
        if bound == 0 || spans <= bound {
            return Batch::default();
        }
        let cut = |from: usize, to: usize| {
            let chosen: Vec<u32> =
                (from..to).map(|span| u32::try_from(span).expect("an index holds u32 spans")).collect();
            let mut index = SpanIndex::default();
            self.pending.index.select(&chosen, &mut index);
            index
        };
        let (first, rest) = (cut(0, bound), cut(bound, spans));
        self.pending.index = first;
        Batch { index: rest, segments: self.pending.segments.clone(), acks: Vec::new() }
    }

    /// Room until the pending spans are twice what triggers sending: beyond that, what is behind this node has stopped.
    pub fn has_room(&self) -> bool {
        self.pending.index.spans.len() < self.trigger().saturating_mul(2).max(8192)
            && self.pending.segments.len() < SEGMENTS_MAX / 2
    }

    /// Spans waiting.
    pub fn spans_held(&self) -> u64 {
        self.pending.spans()
    }

    /// Memory of the pending index; the segments are request buffers.
    pub fn bytes_held(&self) -> u64 {
        self.pending.index_bytes() as u64
    }
}
