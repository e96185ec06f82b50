//! From the series of all shards to metrics for pipelines: what the one shard that feeds them does at every flush.
//!
//! ```text
//! due --begin--> own copy; every other shard is asked over the mesh
//!                   answered, by each of them  -->  merged  -->  the bytes of a request
//! ```
//!
//! The one idea: a flush is one question that every shard answers once, so that all of their cells are summed, each
//! exactly once. The next flush waits for the last answer. What is cumulative is asked for as it stands; of deltas each
//! shard tells what is new to it, so no shard needs to know what another one had. It never sees a ring or a pipeline.

use super::{Forgotten, Merged, Plan, Since, Snapshot, Stamp, to_otlp};
use codecs::otlp::write_metrics::Temporality;
use std::sync::Arc;

/// What a flush asks of every shard.
#[derive(Clone, Debug)]
pub struct Ask {
    /// What is new since the last flush; else everything.
    pub is_delta: bool,
    /// Series to give up before the answer, because no shard had spans of them.
    pub forget: Option<Arc<Forgotten>>,
}

/// The flushes of one connector, on the shard that feeds its pipelines.
#[derive(Debug)]
pub struct Flusher {
    plan: Arc<Plan>,
    temporality: Temporality,
    interval_ns: u64,
    shards: usize,
    next_ns: u64,
    /// Of the flush under way.
    answers: Vec<Snapshot>,
    is_under_way: bool,
    forget: Option<Arc<Forgotten>>,
    clock_zero_unix_ns: u64,
    /// Time of the last flush, or the start: deltas count from here.
    told_unix_ns: u64,
}

impl Flusher {
    /// `clock_zero_unix_ns` is when the monotonic clock of all `shards` showed 0, in nanoseconds since 1970. The first
    /// flush is one interval after that.
    pub fn new(
        plan: Arc<Plan>,
        temporality: Temporality,
        interval_ns: u64,
        shards: usize,
        clock_zero_unix_ns: u64,
    ) -> Flusher {
        Flusher {
            plan,
            temporality,
            interval_ns,
            shards,
            next_ns: interval_ns,
            answers: Vec::new(),
            is_under_way: false,
            forget: None,
            clock_zero_unix_ns,
            told_unix_ns: clock_zero_unix_ns,
        }
    }

    /// When the next flush begins, if none is under way.
    pub fn next_ns(&self) -> Option<u64> {
        (!self.is_under_way).then_some(self.next_ns)
    }

    /// Begins a flush: every shard, this one included, gets the question.
    pub fn begin(&mut self, now_ns: u64) -> Ask {
        assert!(!self.is_under_way, "a flush begins when the last one has ended");
        self.is_under_way = true;
        let planned_ns = self.next_ns.saturating_add(self.interval_ns);
        // Late by more than an interval, it does not make up for those that it missed.
        self.next_ns = if planned_ns > now_ns { planned_ns } else { now_ns.saturating_add(self.interval_ns) };
        Ask { is_delta: self.temporality == Temporality::Delta, forget: self.forget.take() }
    }

    /// Takes a shard's answer. With the last one come the bytes of a request, which may be empty; `unix_ns` is the time
    /// of day.
    pub fn answered(&mut self, answer: Snapshot, unix_ns: u64) -> Option<Vec<u8>> {
        assert!(self.is_under_way, "nobody answers before being asked");
        self.answers.push(answer);
        if self.answers.len() < self.shards {
            return None;
        }
        self.is_under_way = false;
        let mut merged = Merged::of(self.answers.drain(..));
        let time_unix_ns = unix_ns.max(self.told_unix_ns);
        let since = match self.temporality {
            Temporality::Delta => Since::Then(self.told_unix_ns),
            Temporality::Cumulative => {
                // What is new to a shard says nothing of how long the others have been silent.
                self.forget = merged.forget_idle(&self.plan).map(Arc::new);
                Since::FirstSpan { clock_zero_unix_ns: self.clock_zero_unix_ns }
            }
        };
        self.told_unix_ns = time_unix_ns;
        Some(to_otlp(&self.plan, &merged, Stamp { since, time_unix_ns }))
    }
}
