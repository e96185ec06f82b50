//! Undecided traces of an earlier life: read from disk at the start, and taken in by the shards that own them now.
//!
//! ```text
//! log --every record--> shard 0: spans of its traces into the table     each shard says `done` for a record when it has
//!     \-every record--> shard 1: the same                               decided its part; with the last one it may go
//! ```
//!
//! The one idea: nothing crosses shards and nothing is written again. Every shard reads all records and takes what it owns,
//! so that it does not matter how many shards wrote them. Their decision wait begins anew, because what their senders could
//! not send meanwhile is still to come.

use super::ShardContext;
use super::owner::owner;
use super::pipelines::{NodePlace, Pipelines};
use super::runtime;
use crate::queue::log::{Adopted, Log};
use crate::telemetry::metrics::PendingLogSeries;
use codecs::otlp::{SpanIndex, TraceId};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// How often a shard without memory for more looks again.
const MEMORY_WAIT: Duration = Duration::from_millis(10);
/// Share of the soft limit above which nothing is taken in: what comes from senders goes first.
const PRESSURE_MAX: f64 = 0.8;

/// What one shard takes from one sampler's log.
#[derive(Debug)]
pub struct Restoration {
    /// The sampler's.
    pub log: Log,
    /// What is counted.
    pub series: PendingLogSeries,
    /// Where the sampler stands in pipelines with these ids.
    pub nodes: Vec<(String, NodePlace)>,
    /// The shard's.
    pub pipelines: Rc<RefCell<Pipelines>>,
    /// The shard.
    pub shard: ShardContext,
}

impl Restoration {
    /// Takes in all records, one after the other. A drain leaves the rest to the next start.
    pub async fn run(self) {
        if self.shard.number == 0 {
            let found = self.log.found();
            self.shard.cells.add(self.series.found, found.requests);
            self.shard.cells.add(self.series.cut, found.cut);
            self.shard.cells.add(self.series.skipped, found.skipped);
        }
        let mut last = None;
        while !self.shard.draining.has_begun() {
            if self.shard.lease.pressure() > PRESSURE_MAX {
                runtime::sleep(MEMORY_WAIT).await;
                continue;
            }
            let Some(record) = self.log.read_after(last).await else { break };
            if self.shard.draining.has_begun() {
                // What is not in the table yet waits on disk for the next start.
                break;
            }
            last = Some(record.sequence);
            if !self.take(&record) {
                self.log.done(record.sequence).await;
            }
        }
    }

    /// Returns whether a trace of this shard is in it.
    fn take(&self, record: &Adopted) -> bool {
        let mut index = self.shard.indexes.take_spans();
        let segments = [record.request.clone()];
        // Its pipeline may be gone from the configuration; the sampler is the same.
        let place = self.nodes.iter().find(|(id, _)| *id == record.pipeline).or(self.nodes.first());
        let is_read = index.read_request(&record.request, 0).is_ok();
        let mine = match place {
            Some((_, place)) if is_read => {
                let mine = self.owned(&index);
                if !mine.is_empty() {
                    let mut pipelines = self.pipelines.borrow_mut();
                    pipelines.restore(*place, record.sequence, &index, &segments, &mine);
                }
                mine
            }
            _ => {
                self.skip(record.sequence);
                Vec::new()
            }
        };
        self.shard.indexes.give_back(index.into());
        !mine.is_empty()
    }

    /// The positions of the spans whose traces this shard owns. Those without a trace id belong to the first.
    fn owned(&self, index: &SpanIndex) -> Vec<u32> {
        let owner_of = |trace_id: &TraceId| if trace_id.0 == [0; 16] { 0 } else { owner(trace_id, self.shard.shards) };
        let is_mine = |trace_id: &TraceId| owner_of(trace_id) == self.shard.number;
        (0..).zip(&index.items).filter(|(_, span)| is_mine(&span.trace_id)).map(|(position, _)| position).collect()
    }

    fn skip(&self, sequence: u64) {
        if self.shard.number == 0 {
            tracing::error!(sequence, "Undecided spans on disk cannot be read and are passed over");
            self.shard.cells.add(self.series.skipped, 1);
        }
    }
}
