//! The middle of a pipeline: batch in, batches out.
//!
//! Every kind has the same verbs: `take` is given a batch and puts what leaves now into `out`; what it keeps, it owns,
//! and settles the batch's acks. `turn` is called every turn of the shard with the time and puts what has become due
//! into `out`. A processor never knows its neighbours.

pub mod attributes;
pub mod batch;
pub mod combinations;
mod context;
pub mod explanation;
pub mod failure;
pub mod filter;
pub mod memory_limiter;
pub mod pending_log;
pub mod probabilistic_sampler;
pub mod redaction;
pub mod resource;
pub mod tail_sampling;
pub mod transform;

use crate::pipeline::batch::Batch;

/// A processor of one pipeline on one shard.
#[derive(Debug)]
pub enum Processor {
    /// Counts what the edge admitted on its behalf.
    MemoryLimiter(memory_limiter::MemoryLimiter),
    /// Collects items into larger batches.
    Batch(Box<batch::Batcher>),
    /// Edits resource attributes.
    Resource(Box<resource::ResourceEditor>),
    /// Edits attributes of spans, data points and log records.
    Attributes(Box<attributes::AttributesEditor>),
    /// Drops spans and their events, metrics and their points, and log records.
    Filter(Box<filter::Filter>),
    /// Removes and masks attributes.
    Redaction(Box<redaction::Redactor>),
    /// `groupbytrace`: passes everything on.
    GroupByTrace,
    /// Samples span by span, or record by record.
    ProbabilisticSampler(Box<probabilistic_sampler::ProbabilisticSampler>),
    /// Samples by whole trace.
    TailSampling(Box<tail_sampling::TailSampling>),
    /// Edits by statements.
    Transform(Box<transform::Transform>),
}

/// What a processor is told about the moment.
#[derive(Clone, Copy, Debug)]
pub struct Turn<'a> {
    /// Monotonic time of this turn.
    pub now_ns: u64,
    /// The edge is about to refuse, or does: nobody keeps memory for later.
    pub memory_is_short: bool,
    /// Memory leased by all shards, as a part of what may be before the edge refuses.
    pub pressure: f64,
    /// For measuring how long the turn itself takes.
    pub clock: crate::shard::clock::Clock,
    /// The shard's counters.
    pub cells: &'a crate::telemetry::cells::Cells,
    /// The shard's request buffers, for what leaves as new bytes.
    pub buffers: &'a crate::shard::buffers::Buffers,
    /// Indexes to use again.
    pub indexes: &'a crate::shard::Indexes,
}

impl Processor {
    /// Whether this node takes ownership of what it is given (and so answers the sender).
    pub fn owns(&self) -> bool {
        matches!(self, Processor::Batch(_) | Processor::TailSampling(_))
    }

    /// Passes a batch in; what leaves now is appended to `out`.
    pub fn take(&mut self, turn: Turn<'_>, batch: Batch, out: &mut Vec<Batch>) {
        match self {
            Processor::MemoryLimiter(node) => node.take(turn, batch, out),
            Processor::Batch(node) => node.take(turn, batch),
            Processor::TailSampling(node) => node.take(turn, batch),
            Processor::Resource(node) => node.take(turn, batch, out),
            Processor::Attributes(node) => node.take(turn, batch, out),
            Processor::Filter(node) => node.take(turn, batch, out),
            Processor::Redaction(node) => node.take(turn, batch, out),
            Processor::GroupByTrace => out.push(batch),
            Processor::Transform(node) => node.take(turn, batch, out),
            Processor::ProbabilisticSampler(node) => node.take(turn, batch, out),
        }
    }

    /// Lets time pass. `drain` asks for everything that is held, due or not. Returns whether more would leave at once.
    pub fn turn(&mut self, turn: Turn<'_>, drain: bool, out: &mut Vec<Batch>) -> bool {
        match self {
            Processor::Batch(node) => node.turn(turn, drain, out),
            Processor::TailSampling(node) => node.turn(turn, drain, out),
            _ => false,
        }
    }

    /// Turns in a row that keep pace with what was passed in since it was asked last.
    pub fn releases_owed(&mut self) -> usize {
        match self {
            Processor::TailSampling(node) => node.releases_owed(),
            _ => 0,
        }
    }

    /// Lets go what need not wait for a turn because there is enough of it.
    pub fn leave_if_full(&mut self, turn: Turn<'_>, out: &mut Vec<Batch>) {
        if let Processor::Batch(node) = self {
            while node.is_full() {
                node.turn(turn, false, out);
            }
        }
    }

    /// Spans, data points or log records it has dropped by policy, ever.
    pub fn items_dropped(&self) -> u64 {
        match self {
            Processor::ProbabilisticSampler(node) => node.items_dropped(),
            Processor::TailSampling(node) => node.spans_dropped(),
            Processor::Filter(node) => node.items_dropped(),
            Processor::Transform(node) => node.items_dropped(),
            _ => 0,
        }
    }

    /// Spans, data points or log records it has made, ever.
    pub fn items_created(&self) -> u64 {
        match self {
            Processor::Transform(node) => node.items_created(),
            _ => 0,
        }
    }

    /// Spans that it gave up because memory was short, ever.
    pub fn spans_shed(&self) -> u64 {
        match self {
            Processor::TailSampling(node) => node.spans_shed(),
            _ => 0,
        }
    }

    /// Spans that were lost in it because its work on them failed, ever.
    pub fn spans_failed(&self) -> u64 {
        match self {
            Processor::Transform(node) => node.spans_failed(),
            Processor::Resource(node) => node.spans_failed(),
            Processor::Attributes(node) => node.spans_failed(),
            Processor::Filter(node) => node.spans_failed(),
            Processor::Redaction(node) => node.spans_failed(),
            _ => 0,
        }
    }

    /// Whether it can be given more without growing past its bound.
    pub fn has_room(&self) -> bool {
        match self {
            Processor::Batch(node) => node.has_room(),
            Processor::TailSampling(node) => node.has_room(),
            _ => true,
        }
    }

    /// Spans, data points or log records it holds.
    pub fn items_held(&self) -> u64 {
        match self {
            Processor::Batch(node) => node.items_held(),
            Processor::TailSampling(node) => node.items_held(),
            _ => 0,
        }
    }

    /// Whether nothing that it keeps on disk is needed there any more.
    pub fn is_settled(&self) -> bool {
        match self {
            Processor::TailSampling(node) => node.is_settled(),
            _ => true,
        }
    }

    /// Bytes it holds beside request buffers.
    pub fn bytes_held(&self) -> u64 {
        match self {
            Processor::Batch(node) => node.bytes_held(),
            Processor::TailSampling(node) => node.bytes_held(),
            Processor::Transform(node) => node.bytes_held(),
            Processor::Resource(node) => node.bytes_held(),
            Processor::Attributes(node) => node.bytes_held(),
            Processor::Filter(node) => node.bytes_held(),
            Processor::Redaction(node) => node.bytes_held(),
            Processor::ProbabilisticSampler(node) => node.bytes_held(),
            Processor::MemoryLimiter(_) | Processor::GroupByTrace => 0,
        }
    }
}
