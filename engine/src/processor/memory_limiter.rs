//! `memory_limiter`: its limit is the process budget, kept at the edge, where a whole request is admitted or refused.
//!
//! So in the pipeline nothing is left to do but to count what was admitted on its behalf; refusals are counted by the
//! receiver, which makes them. Nothing that was admitted is ever refused half way.

use super::Turn;
use crate::pipeline::batch::Batch;
use crate::telemetry::cells::Counter;

/// One `memory_limiter` on one shard.
#[derive(Debug)]
pub struct MemoryLimiter {
    accepted: Counter,
}

impl MemoryLimiter {
    /// `accepted` is `otelcol_processor_memory_limiter_accepted_spans` (or its like for another signal) of this component.
    pub fn new(accepted: Counter) -> MemoryLimiter {
        MemoryLimiter { accepted }
    }

    /// Counts and passes on.
    pub fn take(&mut self, turn: Turn<'_>, batch: Batch, out: &mut Vec<Batch>) {
        turn.cells.add(self.accepted, batch.items());
        out.push(batch);
    }
}
