//! `tail_sampling` on one shard: the pure sampler, fed with batches and with time.
//!
//! Only spans whose trace this shard owns arrive here; the pipeline has sent the others over the mesh. The trace table
//! takes ownership on arrival, so the sender is answered at once. What a decision keeps leaves as a new batch whose
//! bytes lie in one buffer of the shard.

use super::Turn;
use crate::pipeline::ack::Outcome;
use crate::pipeline::batch::Batch;
use crate::telemetry::cells::{Cells, Counter};
use crate::telemetry::metrics::TailSamplingSeries;
use bytes::Bytes;
use codecs::otlp::SpanIndex;
use sampling::{Counters, Release, Sampler, Select};

/// Kept spans in one outgoing batch: large enough to pay for its envelopes, small enough to leave between two requests.
const RELEASE_SPANS_MAX: usize = 4096;

/// One `tail_sampling` processor on one shard.
#[derive(Debug)]
pub struct TailSampling {
    sampler: Sampler,
    release: Release,
    series: TailSamplingSeries,
    /// What the cells already know.
    shown: Counters,
    traces_shown: u64,
}

impl TailSampling {
    /// The sampler counts for itself, because it is pure; `series` is where the shard shows it.
    pub fn new(sampler: Sampler, series: TailSamplingSeries) -> TailSampling {
        let shown = sampler.counters().clone();
        TailSampling { sampler, release: Release::default(), series, shown, traces_shown: 0 }
    }

    /// Copies the spans into the trace table; late spans of kept traces leave at once.
    pub fn take(&mut self, turn: Turn<'_>, mut batch: Batch, out: &mut Vec<Batch>) {
        let index = batch.index.spans().expect("the checked configuration has tail_sampling in traces pipelines only");
        self.insert(turn, index, &batch.segments, out);
        batch.settle(&Outcome::Taken);
        turn.indexes.give_back(batch.index);
    }

    /// The same for spans that come from another shard.
    pub fn insert(&mut self, turn: Turn<'_>, index: &SpanIndex, segments: &[Bytes], out: &mut Vec<Batch>) {
        self.sampler.insert(turn.now_ns, index, segments, Select::All, &mut self.release);
        self.emit(turn, out);
    }

    /// Decides what is due; in a drain, everything.
    pub fn turn(&mut self, turn: Turn<'_>, drain: bool, out: &mut Vec<Batch>) -> bool {
        let decided_before = self.shown.traces_decided();
        let more = if drain {
            self.sampler.decide_all(turn.now_ns, RELEASE_SPANS_MAX, &mut self.release)
        } else {
            self.sampler.decide_due(turn.now_ns, RELEASE_SPANS_MAX, &mut self.release)
        };
        self.emit(turn, out);
        if turn.memory_is_short {
            self.sampler.forget_bursts();
        }
        self.sampler.shrink(turn.now_ns);
        self.show(turn.cells);
        if self.shown.traces_decided() > decided_before {
            let spent_ns = turn.clock.now_ns() - turn.now_ns;
            turn.cells.observe(self.series.decision_timer_latency_ns, spent_ns);
        }
        more
    }

    /// Adds to the cells what the sampler has counted since the last time.
    fn show(&mut self, cells: &Cells) {
        let (now, series) = (self.sampler.counters(), &self.series);
        let news = |counter: Counter, of: fn(&Counters) -> u64| cells.add(counter, of(now) - of(&self.shown));
        news(series.new_trace_id_received, |counters| counters.traces_new);
        news(series.decisions.sampled, |counters| counters.traces_sampled);
        news(series.decisions.not_sampled, |counters| counters.traces_not_sampled);
        news(series.decisions.dropped, |counters| counters.traces_dropped);
        news(series.traces_dropped_too_large, |counters| counters.traces_too_large);
        news(series.early_releases.sampled, |counters| counters.late_spans_kept);
        news(series.early_releases.not_sampled, |counters| counters.late_spans_dropped);
        news(series.policy_evaluation_error, |counters| counters.evaluation_errors);
        news(series.traces_decided_early, |counters| counters.traces_decided_early);
        news(series.spans_without_trace_id, |counters| counters.idless_spans_kept + counters.idless_spans_dropped);
        for (policy, (series, executions)) in series.policies.iter().zip(&series.policy_executions).enumerate() {
            let (now, shown) = (&now.policies[policy], &self.shown.policies[policy]);
            cells.add(series.sampled, now.sampled - shown.sampled);
            cells.add(series.not_sampled, now.not_sampled - shown.not_sampled);
            cells.add(series.dropped, now.dropped - shown.dropped);
            let before = shown.sampled + shown.not_sampled + shown.dropped;
            cells.add(*executions, now.sampled + now.not_sampled + now.dropped - before);
        }
        // Raised and lowered, not set: two pipelines may share one tail_sampling, and so its series.
        let pending = self.sampler.pending_traces() as u64;
        cells.raise(series.traces_on_memory, pending.saturating_sub(self.traces_shown));
        cells.lower(series.traces_on_memory, self.traces_shown.saturating_sub(pending));
        self.traces_shown = pending;
        self.shown.clone_from(now);
    }

    /// Turns what was released into a batch of its own buffer.
    fn emit(&mut self, turn: Turn<'_>, out: &mut Vec<Batch>) {
        if self.release.is_empty() {
            return;
        }
        let mut bytes = turn.buffers.take(self.release.bytes.len());
        bytes.extend_from_slice(&self.release.bytes);
        let index = std::mem::replace(&mut self.release.index, turn.indexes.take_spans());
        self.release.clear();
        // Spans of one trace come from several clients, so these have none.
        out.push(Batch { index: index.into(), segments: vec![bytes.freeze()], ..Batch::default() });
    }

    /// Spans without a decision.
    pub fn spans_held(&self) -> u64 {
        self.sampler.pending_spans()
    }

    /// Spans of traces that no policy wanted, ever.
    pub fn spans_dropped(&self) -> u64 {
        let counters = self.sampler.counters();
        counters.spans_dropped
    }

    /// Memory of the trace table and everything around it.
    pub fn bytes_held(&self) -> u64 {
        self.sampler.bytes_held() as u64
    }
}
