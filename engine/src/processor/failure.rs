//! A batch that a processor could not finish: counted as failed, answered, and told.

use super::Turn;
use crate::pipeline::ack::Outcome;
use crate::pipeline::batch::Batch;
use crate::telemetry::cells::Counter;
use codecs::grpc::{Code, Status};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Why a batch goes no further.
#[derive(Debug)]
pub enum Failure {
    /// What the configuration asks for failed, and it says that this stops the batch.
    Asked(String),
    /// A defect of ours.
    Defect(String),
}

/// What failures are counted into.
#[derive(Clone, Copy, Debug)]
pub struct FailureSeries {
    /// The processor's failed items.
    pub failed_spans: Counter,
    /// The processor's lost items.
    pub lost_spans: Counter,
    /// The shard's caught panics.
    pub caught_panics: Counter,
}

/// The failures of one processor on one shard.
#[derive(Debug)]
pub struct Failures {
    id: String,
    series: FailureSeries,
    spans_failed: u64,
}

impl Failures {
    /// Those of the processor `id`.
    pub fn new(id: String, series: FailureSeries) -> Failures {
        Failures { id, series, spans_failed: 0 }
    }

    /// The processor's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Ends a batch. Who waits for it is told never to repeat it; who has had the answer lost these items.
    pub fn stop(&mut self, turn: Turn<'_>, mut batch: Batch, failure: &Failure) {
        let items = batch.items();
        self.spans_failed += items;
        turn.cells.add(self.series.failed_spans, items);
        turn.cells.add(self.series.lost_spans, items);
        let (code, message) = match failure {
            Failure::Asked(what) => (Code::InvalidArgument, format!("{}: {what}", self.id)),
            Failure::Defect(what) => {
                turn.cells.add(self.series.caught_panics, 1);
                (Code::Internal, format!("{}: {what}; please report this", self.id))
            }
        };
        tracing::error!(processor = %self.id, failed_items = items, message, "A processor could not finish a batch.");
        batch.settle(&Outcome::Failed(Status::new(code, message)));
        turn.indexes.give_back(batch.index);
    }

    /// Items of batches that went no further, ever.
    pub fn spans_failed(&self) -> u64 {
        self.spans_failed
    }
}

/// Does pure work on one batch; a panic in it is a defect that costs this batch and nothing else.
pub fn guarded(work: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(Failure::Defect("its work panicked".to_owned())))
}

/// What was written is no item of its signal: a defect of ours, since what was read was one.
pub fn no_item(malformed: impl std::fmt::Display) -> Failure {
    Failure::Defect(format!("an item was written that is none: {malformed}"))
}
