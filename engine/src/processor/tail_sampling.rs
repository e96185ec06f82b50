//! `tail_sampling` on one shard: the pure sampler, fed with batches and with time.
//!
//! Only spans whose trace this shard owns arrive here; the pipeline has sent the others over the mesh. The trace table
//! takes ownership on arrival, so the sender is answered at once. What a decision keeps leaves as a new batch whose
//! bytes lie in one buffer of the shard. Later spans of kept traces leave with the next turn: so they wait for room
//! behind this node as all others do, and fill batches together instead of making one of each request.
//!
//! With `storage` all that comes is written to disk as well, and stays there until it is decided and what was kept is owned
//! behind this node; then senders may wait for the disk.

use std::collections::VecDeque;

use super::Turn;
use super::explanation::{Explanation, PolicyName};
use super::pending_log::{PendingLog, Table};
use crate::pipeline::ack::{self, Outcome};
use crate::pipeline::batch::Batch;
use crate::telemetry::cells::{Cells, Counter};
use crate::telemetry::metrics::{DecisionSeries, TailSamplingSeries};
use bytes::Bytes;
use codecs::otlp::{SpanIndex, TraceId};
use sampling::counters::{Lateness, Verdicts};
use sampling::release::RELEASE_BYTES_MAX;
use sampling::settings::Policy;
use sampling::{Counters, Entry, Release, Rulebook, Sampler, Select, Steps};

/// Kept spans in one outgoing batch: large enough to pay for its envelopes, small enough to leave between two requests.
const RELEASE_SPANS_MAX: usize = 4096;

/// One `tail_sampling` processor on one shard.
#[derive(Debug)]
pub struct TailSampling {
    sampler: Sampler,
    /// What leaves with the next turn.
    release: Release,
    /// What was too much for one release; leaves before it.
    full: VecDeque<Batch>,
    /// Spans that came since somebody asked for [`TailSampling::releases_owed`].
    spans_new: usize,
    series: TailSamplingSeries,
    /// What the cells already know.
    shown: Counters,
    traces_shown: u64,
    steps_shown: [bool; 4],
    /// Where the verdicts of the policy with this number are shown; of policies that are gone, too.
    policies: Vec<(u16, DecisionSeries, Counter)>,
    /// Of the last generations of rules, the newest last; empty without a journal.
    named: VecDeque<Vec<PolicyName>>,
    /// The number of the newest.
    revision: u32,
    /// What keeps undecided spans beyond the process, if something does.
    log: Option<PendingLog>,
}

/// Decisions of one sampler that are noted for people who ask why: so many of kept traces, of others, and of older ones.
/// About 1.5 MB.
const JOURNAL_ENTRIES_MAX: usize = 4096;
/// Part of the budget that the journals of all shards may take.
const JOURNAL_PART: u64 = 128;
/// Generations of rules whose decisions are explained: those of older ones are known, but not what their policies said.
const EXPLAINED_GENERATIONS: usize = 8;
/// Traces with the same first digits of which one sampler tells.
const EXPLAINED_MAX: usize = 8;

impl TailSampling {
    /// The sampler counts for itself, because it is pure; `series` is where the shard shows it.
    pub fn new(sampler: Sampler, series: TailSamplingSeries) -> TailSampling {
        let shown = sampler.counters().clone();
        let (release, full) = (Release::default(), VecDeque::new());
        let numbers: Vec<u16> = (0..).take(series.policies.len()).collect();
        let (policies, named) = (shown_by(&numbers, &series), VecDeque::new());
        TailSampling {
            sampler,
            release,
            full,
            spans_new: 0,
            series,
            shown,
            traces_shown: 0,
            steps_shown: [false; 4],
            policies,
            named,
            revision: 0,
            log: None,
        }
    }

    /// The same for a sampler whose policies have these numbers.
    pub fn numbered(mut self, numbers: &[u16]) -> TailSampling {
        self.policies = shown_by(numbers, &self.series);
        self
    }

    /// The same with undecided spans on disk. Before the first span.
    pub fn kept_in(self, log: PendingLog) -> TailSampling {
        TailSampling { log: Some(log), ..self }
    }

    /// Whether there is room for another generation of rules.
    pub fn may_change_rules(&mut self) -> bool {
        self.sampler.may_change_rules()
    }

    /// New traces are decided by these rules, pending ones by those under which they began. `series` has those of the new
    /// policies.
    pub fn change_rules(&mut self, book: Rulebook<'_>, series: TailSamplingSeries) {
        self.sampler.change_rules(book);
        if let Some(log) = &mut self.log {
            log.follow_wait(book.settings.decision_wait_ns);
        }
        for (number, decisions, executions) in shown_by(book.numbers, &series) {
            if !self.policies.iter().any(|(known, ..)| *known == number) {
                self.policies.push((number, decisions, executions));
            }
        }
        self.series = series;
        self.revision = self.revision.wrapping_add(1);
        if !self.named.is_empty() {
            self.named.push_back(PolicyName::of(&book.settings.policies));
        }
        if self.named.len() > EXPLAINED_GENERATIONS {
            self.named.pop_front();
        }
    }

    /// Notes from now on what each policy says; these are those of the sampler. `budget_bytes` is this shard's part of the
    /// process budget.
    pub fn with_journal(mut self, policies: &[Policy], budget_bytes: u64) -> TailSampling {
        // Three rings of equal length.
        let fitting = budget_bytes / JOURNAL_PART / (3 * size_of::<Entry>() as u64);
        self.sampler.keep_journal(
            usize::try_from(fitting).map_or(JOURNAL_ENTRIES_MAX, |fitting| fitting.clamp(16, JOURNAL_ENTRIES_MAX)),
        );
        self.named.push_back(PolicyName::of(policies));
        self
    }

    /// How traces were decided whose ids begin with these hexadecimal digits, without their pipeline.
    pub fn explain(&self, digits: &str, now_ns: u64) -> Vec<Explanation> {
        let noted = self.sampler.explain(digits, EXPLAINED_MAX);
        let policies = |entry: &Entry| {
            let age = self.revision.wrapping_sub(entry.revision) as usize;
            let place = self.named.len().checked_sub(1 + age)?;
            self.named.get(place)
        };
        let told = noted.iter().map(|entry| Explanation::new(entry, policies(entry).map_or(&[], |all| all), now_ns));
        let mut told: Vec<Explanation> = told.collect();
        // Only a whole id can be looked up among those that wait.
        if let Ok(id) = u128::from_str_radix(digits, 16)
            && digits.len() == 32
            && self.sampler.is_pending(&TraceId(id.to_be_bytes()))
        {
            told.push(Explanation::pending(&id.to_be_bytes()));
        }
        told
    }

    /// Copies the spans into the trace table; later spans of kept traces leave with the next turn.
    pub fn take(&mut self, turn: Turn<'_>, mut batch: Batch) {
        if let Some(log) = &mut self.log {
            let awaited = if log.is_awaited() { std::mem::take(&mut batch.acks) } else { Vec::new() };
            log.enter(turn.now_ns, batch.span_index(), &batch.segments, awaited);
        }
        self.insert(turn, batch.span_index(), &batch.segments, Select::All);
        batch.settle(&Outcome::Taken);
        turn.indexes.give_back(batch.index);
    }

    /// The same for spans that come from another shard. What their sender waits for, if it has to.
    pub fn take_parcel(&mut self, turn: Turn<'_>, index: &SpanIndex, segments: &[Bytes]) -> Option<ack::Waiting> {
        let mut waits = None;
        if let Some(log) = &mut self.log {
            let (awaited, waiting) = log.is_awaited().then(ack::open).unzip();
            log.enter(turn.now_ns, index, segments, awaited.into_iter().collect());
            waits = waiting;
        }
        self.insert(turn, index, segments, Select::All);
        waits
    }

    /// The same for those spans of a record of an earlier life that are at these positions; it has this number on disk.
    pub fn restore(&mut self, turn: Turn<'_>, sequence: u64, index: &SpanIndex, segments: &[Bytes], mine: &[u32]) {
        if let Some(log) = &mut self.log {
            log.restored(turn.now_ns, sequence, mine.len() as u64);
        }
        self.insert(turn, index, segments, Select::Some(mine));
    }

    fn insert(&mut self, turn: Turn<'_>, index: &SpanIndex, segments: &[Bytes], select: Select<'_>) {
        self.spans_new += match &select {
            Select::All => index.items.len(),
            Select::Some(positions) => positions.len(),
        };
        self.sampler.tell_time(turn.clock.unix_ns());
        self.sampler.insert(turn.now_ns, index, segments, select, &mut self.release);
        if self.release.index.items.len() >= RELEASE_SPANS_MAX || self.release.bytes.len() >= RELEASE_BYTES_MAX {
            let batch = self.batch(turn);
            self.full.push_back(batch);
        }
    }

    /// Whether the edge may let spans in.
    pub fn has_room(&self) -> bool {
        self.sampler.has_room() && self.log.as_ref().is_none_or(PendingLog::has_room)
    }

    /// Whether nothing that came here is needed on disk any more.
    pub fn is_settled(&self) -> bool {
        self.log.as_ref().is_none_or(PendingLog::is_settled)
    }

    /// Shows what is on disk, for a scrape.
    pub fn show_log(&self) {
        if let Some(log) = &self.log {
            log.show();
        }
    }

    /// Turns that decide twice the spans that came since this was asked last: so decisions keep pace with what comes, and
    /// catch up.
    pub fn releases_owed(&mut self) -> usize {
        (2 * std::mem::take(&mut self.spans_new)).div_ceil(RELEASE_SPANS_MAX)
    }

    /// Decides what is due; in a drain, everything.
    pub fn turn(&mut self, turn: Turn<'_>, drain: bool, out: &mut Vec<Batch>) -> bool {
        if let Some(batch) = self.full.pop_front() {
            self.let_go(batch, out);
            return true;
        }
        self.sampler.tell_pressure(turn.pressure);
        let decided_before = self.shown.traces_decided();
        let more = if drain {
            self.sampler.decide_all(turn.now_ns, RELEASE_SPANS_MAX, &mut self.release)
        } else {
            self.sampler.decide_due(turn.now_ns, RELEASE_SPANS_MAX, &mut self.release)
        };
        self.emit(turn, out);
        self.pass_log(turn.now_ns);
        if turn.memory_is_short {
            self.sampler.forget_bursts();
        }
        self.sampler.shrink(turn.now_ns);
        self.show(turn.cells);
        if self.shown.traces_decided() > decided_before {
            let spent_ns = turn.clock.now_ns().saturating_sub(turn.now_ns);
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
        news(series.early_releases.sampled, |counters| counters.late_spans_kept + counters.early_spans_kept);
        news(series.early_releases.not_sampled, |counters| counters.late_spans_dropped + counters.early_spans_dropped);
        news(series.late_spans.sampled, |counters| counters.late_spans_kept);
        news(series.late_spans.not_sampled, |counters| counters.late_spans_dropped);
        news(series.decided_before_time.certain, |counters| {
            counters.traces_certainly_sampled + counters.traces_certainly_dropped - counters.traces_certain_under_stress
        });
        news(series.decided_before_time.stress, |counters| counters.traces_certain_under_stress);
        news(series.traces_shed, |counters| counters.traces_shed);
        news(series.compressed_bytes, |counters| counters.bytes_compressed);
        news(series.compressed_to_bytes, |counters| counters.bytes_compressed_to);
        news(series.decided_before_time.complete, |counters| counters.traces_complete);
        news(series.decided_before_time.root, |counters| counters.traces_decided_after_root);
        news(series.decided_before_time.size, |counters| counters.traces_cut);
        news(series.policy_evaluation_error, |counters| counters.evaluation_errors);
        news(series.traces_decided_early, |counters| counters.traces_decided_early);
        news(series.spans_without_trace_id, |counters| counters.idless_spans_kept + counters.idless_spans_dropped);
        for (number, series, executions) in &self.policies {
            let of = |counters: &Counters| counters.policies.get(usize::from(*number)).copied();
            let (now, shown): (Verdicts, Verdicts) = (of(now).unwrap_or_default(), of(&self.shown).unwrap_or_default());
            cells.add(series.sampled, now.sampled - shown.sampled);
            cells.add(series.not_sampled, now.not_sampled - shown.not_sampled);
            cells.add(series.dropped, now.dropped - shown.dropped);
            let before = shown.sampled + shown.not_sampled + shown.dropped;
            cells.add(*executions, now.sampled + now.not_sampled + now.dropped - before);
        }
        if now.traces_decided() > self.shown.traces_decided() {
            let (lateness, shown) = (&now.lateness, &self.shown.lateness);
            let buckets = lateness.buckets.iter().zip(&shown.buckets).map(|(now, shown)| now - shown).enumerate();
            let counts = buckets.filter(|(_, count)| *count > 0).map(|(at, count)| (Lateness::upper_ns(at), count));
            cells.observe_counted(series.lateness_ns, counts, lateness.sum_ns.wrapping_sub(shown.sum_ns));
        }
        // Raised and lowered, not set: two pipelines may share one tail_sampling, and so its series.
        let pending = self.sampler.pending_traces() as u64;
        cells.raise(series.traces_on_memory, pending.saturating_sub(self.traces_shown));
        cells.lower(series.traces_on_memory, self.traces_shown.saturating_sub(pending));
        self.traces_shown = pending;
        self.shown.clone_from(now);
        self.show_steps(cells);
    }

    fn show_steps(&mut self, cells: &Cells) {
        let Steps { certain, compress, shed, shed_errors } = self.sampler.stress_relief();
        let steps = [certain, compress, shed > 0, shed_errors > 0];
        for ((gauge, shown), now) in self.series.stress_relief.iter().zip(&mut self.steps_shown).zip(steps) {
            cells.raise(*gauge, u64::from(now && !*shown));
            cells.lower(*gauge, u64::from(*shown && !now));
            *shown = now;
        }
    }

    fn emit(&mut self, turn: Turn<'_>, out: &mut Vec<Batch>) {
        if !self.release.is_empty() {
            let batch = self.batch(turn);
            self.let_go(batch, out);
        }
    }

    /// A batch leaves; what keeps its spans on disk learns when somebody else owns them.
    fn let_go(&mut self, mut batch: Batch, out: &mut Vec<Batch>) {
        if let Some(log) = &mut self.log {
            batch.acks.push(log.leaves());
        }
        out.push(batch);
    }

    /// Lets what is on disk know what the table still holds. All that was released has left.
    fn pass_log(&mut self, now_ns: u64) {
        debug_assert!(self.full.is_empty(), "what is full leaves before others are decided");
        debug_assert!(self.release.is_empty(), "what was released has just left");
        let Some(log) = &mut self.log else { return };
        let table = match self.sampler.pending_spans() {
            0 => Table::Empty,
            _ if self.sampler.has_released_due(now_ns) => Table::NothingDue,
            _ => Table::Behind,
        };
        log.pass(now_ns, table);
    }

    /// Turns what was released into a batch of its own buffer.
    fn batch(&mut self, turn: Turn<'_>) -> Batch {
        let mut bytes = turn.buffers.take(self.release.bytes.len());
        bytes.extend_from_slice(&self.release.bytes);
        let index = std::mem::replace(&mut self.release.index, turn.indexes.take_spans());
        self.release.clear();
        // Spans of one trace come from several clients, so these have none.
        Batch { index: index.into(), segments: vec![bytes.freeze()], ..Batch::default() }
    }

    /// Spans without a decision, and kept ones that leave with the next turns.
    pub fn items_held(&self) -> u64 {
        let full: u64 = self.full.iter().map(Batch::items).sum();
        self.sampler.pending_spans() + self.release.index.items.len() as u64 + full
    }

    /// Spans of traces that no policy wanted, ever.
    pub fn spans_dropped(&self) -> u64 {
        let counters = self.sampler.counters();
        counters.spans_dropped - counters.spans_shed
    }

    /// Spans given up because memory was short, ever. Later ones of their traces count as dropped.
    pub fn spans_shed(&self) -> u64 {
        self.sampler.counters().spans_shed
    }

    /// Memory of the trace table and everything around it.
    pub fn bytes_held(&self) -> u64 {
        // Batches lie in the shard's buffers, which are charged where they are taken.
        let log = self.log.as_ref().map_or(0, PendingLog::bytes_held);
        (self.sampler.bytes_held() + self.release.bytes_held() + log) as u64
    }
}

/// Where the verdicts of policies with these numbers are shown, whose series are in the same order.
fn shown_by(numbers: &[u16], series: &TailSamplingSeries) -> Vec<(u16, DecisionSeries, Counter)> {
    let series = series.policies.iter().zip(&series.policy_executions);
    numbers
        .iter()
        .zip(series)
        .map(|(&number, (decisions, executions))| (number, decisions.clone(), *executions))
        .collect()
}
