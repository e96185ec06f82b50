//! All pipelines of one shard, and which receiver feeds which.

use crate::connector::span_metrics::{Ask, Flusher, Forgotten, Snapshot, SpanMetrics};
use crate::pipeline::ack;
use crate::pipeline::batch::Batch;
use crate::pipeline::client::Client;
use crate::pipeline::{Drain, Pipeline};
use crate::processor::explanation::Explanation;
use crate::processor::{Processor, Turn};
use crate::queue::Queue;
use crate::shard::ShardContext;
use crate::shard::parcel::{Parcel, Points};
use crate::telemetry::cells::Counter;
use bytes::Bytes;
use codecs::grpc::Status;
use codecs::otlp::{Signal, SpanIndex};
use std::cell::RefCell;
use std::rc::Rc;

/// Share of the soft limit from which on memory that is only kept for reuse goes back at once. Fresh pages cost more
/// than used ones, so not earlier; but a gateway must never refuse for memory that nobody uses.
const PRESSURE_SHORT: f64 = 0.9;

/// A turn that has not come for so long is taken between two requests: where hundreds of connections are busy, all of
/// them come before the shard's loop has its turn again.
const TURN_LATE_NS: u64 = 20_000_000;

/// A list for each signal, in the order of [`Signal::ALL`].
pub type BySignal<T> = [Vec<T>; Signal::ALL.len()];

/// The pipelines of one shard.
#[derive(Debug)]
pub struct Pipelines {
    /// Shared with the pipelines that feed them through a connector.
    pipelines: Vec<Rc<RefCell<Pipeline>>>,
    /// Pipelines of each receiver and signal, by number.
    by_receiver: Vec<BySignal<usize>>,
    /// `memory_limiter` refusal counters of the same pipelines.
    refusals: Vec<BySignal<Counter>>,
    queues: Vec<Rc<Queue>>,
    /// By number, shared with the pipelines that export to them.
    span_metrics: Vec<Rc<RefCell<SpanMetrics>>>,
    /// Connectors whose series this shard gives to pipelines.
    feeds: Vec<Feed>,
    /// When the last turn began.
    turned_ns: u64,
    shard: ShardContext,
}

/// What a shard gives to metrics pipelines for all shards: the series of one connector.
#[derive(Debug)]
pub struct Feed {
    /// The connector's number in the configuration.
    pub connector: usize,
    /// When, and what is asked of the others.
    pub flusher: Flusher,
    /// Each is given all series.
    pub targets: Vec<Rc<RefCell<Pipeline>>>,
    /// The last flush has begun.
    pub has_ended: bool,
}

/// Where a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodePlace {
    /// The number of its pipeline.
    pub pipeline: usize,
    /// Its position there.
    pub position: usize,
}

impl Pipelines {
    /// `by_receiver` and `refusals` are indexed by the receiver's number in the configuration.
    pub fn new(
        pipelines: Vec<Rc<RefCell<Pipeline>>>,
        by_receiver: Vec<BySignal<usize>>,
        refusals: Vec<BySignal<Counter>>,
        queues: Vec<Rc<Queue>>,
        span_metrics: Vec<Rc<RefCell<SpanMetrics>>>,
        shard: ShardContext,
    ) -> Pipelines {
        Pipelines { pipelines, by_receiver, refusals, queues, span_metrics, feeds: Vec::new(), turned_ns: 0, shard }
    }

    /// The connectors whose series this shard gives to pipelines, before the first batch.
    pub fn feed(&mut self, feeds: Vec<Feed>) {
        self.feeds = feeds;
    }

    /// Whether every pipeline of this receiver can take a request of this signal: it goes to all of them or to none.
    pub fn have_room(&self, receiver: usize, signal: Signal) -> bool {
        self.by_receiver[receiver][signal as usize].iter().all(|&pipeline| self.pipelines[pipeline].borrow().has_room())
    }

    /// Whether every pipeline of this receiver takes requests of this client: there is no limit to distinct ones that it
    /// would go beyond.
    pub fn admit(&self, receiver: usize, signal: Signal, client: Option<&Client>) -> bool {
        let now_ns = self.shard.clock.now_ns();
        let mut pipelines = self.by_receiver[receiver][signal as usize].iter();
        pipelines.all(|&pipeline| self.pipelines[pipeline].borrow_mut().admits(now_ns, client))
    }

    /// Counts refused items for the memory limiters of this receiver's pipelines.
    pub fn count_refused(&self, receiver: usize, signal: Signal, items: u64) {
        for &counter in &self.refusals[receiver][signal as usize] {
            self.shard.cells.add(counter, items);
        }
    }

    /// Gives a batch to every pipeline of this receiver and its signal.
    pub fn consume(&mut self, receiver: usize, signal: Signal, batch: Batch) {
        self.wake();
        let now_ns = self.shard.clock.now_ns();
        self.consume_at(now_ns, receiver, signal, batch);
        self.turn_if_late(now_ns);
    }

    fn consume_at(&mut self, now_ns: u64, receiver: usize, signal: Signal, mut batch: Batch) {
        let turn = turn_of(&self.shard, now_ns);
        let Some((&last, others)) = self.by_receiver[receiver][signal as usize].split_last() else {
            return batch.settle(&ack::Outcome::Taken);
        };
        for &pipeline in others {
            self.pipelines[pipeline].borrow_mut().consume(turn, batch.fork());
        }
        self.pipelines[last].borrow_mut().consume(turn, batch);
    }

    /// There is something that may become due: the next turn comes soon again.
    fn wake(&self) {
        if self.shard.pace.work() {
            self.shard.room.notify_one();
        }
    }

    /// Takes another shard's spans into the trace table of the pipeline that the parcel names. What the answer waits for, if
    /// something.
    pub fn take_parcel(&mut self, parcel: &Parcel) -> Option<ack::Waiting> {
        self.wake();
        let now_ns = self.shard.clock.now_ns();
        let turn = turn_of(&self.shard, now_ns);
        let waiting = self.pipelines[parcel.node as usize].borrow_mut().take_parcel(turn, parcel);
        self.turn_if_late(now_ns);
        waiting
    }

    /// A parcel of this shard has been taken by its owner, or it says why its spans are not on disk.
    pub fn parcel_answered(&mut self, parcel: &Parcel, result: &Result<(), Status>) {
        self.pipelines[parcel.node as usize].borrow_mut().parcel_answered(parcel, result);
    }

    /// Takes spans that an earlier life left undecided in a record with this number: those of this shard, at `mine`, into the
    /// node at this place.
    pub fn restore(&mut self, node: NodePlace, sequence: u64, index: &SpanIndex, segments: &[Bytes], mine: &[u32]) {
        self.wake();
        let turn = turn_of(&self.shard, self.shard.clock.now_ns());
        let mut pipeline = self.pipelines[node.pipeline].borrow_mut();
        pipeline.restore(turn, node.position, sequence, index, segments, mine);
    }

    /// Whether points that another shard sent may come in now.
    pub fn has_room_for(&self, points: &Points) -> bool {
        self.pipelines[points.pipeline as usize].borrow().has_room_for_points()
    }

    /// Takes another shard's points into the pipeline that they name. `ack` answers it.
    pub fn take_points(&mut self, points: &Points, ack: ack::Ack) {
        self.wake();
        let turn = turn_of(&self.shard, self.shard.clock.now_ns());
        self.pipelines[points.pipeline as usize].borrow_mut().take_points(turn, points, ack);
    }

    /// Books points that another shard sent and gave up before there was room for them.
    pub fn book_given_up(&self, points: &Points) {
        let turn = turn_of(&self.shard, self.shard.clock.now_ns());
        self.pipelines[points.pipeline as usize].borrow().book_given_up(turn, points);
    }

    /// Points of this shard have been taken by their owner, or it says why not.
    pub fn points_answered(&mut self, points: &Points, result: Result<(), Status>) {
        self.pipelines[points.pipeline as usize].borrow_mut().points_answered(points, result);
    }

    /// One turn of every pipeline. Returns whether more is due right away.
    pub fn turn(&mut self, drain: bool) -> bool {
        self.turn_at(self.shard.clock.now_ns(), drain)
    }

    /// Takes the turn that the shard's loop is late with. What is due is decided however many connections are busy.
    fn turn_if_late(&mut self, now_ns: u64) {
        if now_ns.saturating_sub(self.turned_ns) >= TURN_LATE_NS {
            self.turn_at(now_ns, false);
        }
    }

    fn turn_at(&mut self, now_ns: u64, drain: bool) -> bool {
        self.turned_ns = now_ns;
        let turn = turn_of(&self.shard, now_ns);
        let mut more = false;
        let drain = match (drain, self.shard.draining.has_begun()) {
            (true, _) => Drain::All,
            // Connections end when their requests are answered, and these may wait for what nodes hold.
            (false, true) => Drain::WhatSendersWaitFor,
            (false, false) => Drain::Nothing,
        };
        for pipeline in &self.pipelines {
            more |= pipeline.borrow_mut().turn(turn, drain);
        }
        more
    }

    /// Whether the node at this position of this pipeline can take other settings now.
    pub fn may_change(&self, pipeline: usize, position: usize) -> bool {
        self.pipelines[pipeline].borrow_mut().may_change(position)
    }

    /// Gives that node other settings.
    pub fn change_node(&self, pipeline: usize, position: usize, change: impl FnOnce(&mut Processor)) {
        let turn = turn_of(&self.shard, self.shard.clock.now_ns());
        self.pipelines[pipeline].borrow_mut().change_node(turn, position, change);
    }

    /// Shows what is in flight, for a scrape.
    pub fn show_in_flight(&self) {
        let turn = turn_of(&self.shard, 0);
        for pipeline in &self.pipelines {
            pipeline.borrow().show_in_flight(turn);
        }
        for queue in &self.queues {
            queue.show_held();
        }
    }

    /// Memory held: (trace tables, other nodes).
    pub fn bytes_held(&self) -> (u64, u64) {
        let held = self.pipelines.iter().map(|pipeline| pipeline.borrow().bytes_held());
        held.fold((0, 0), |sum, held| (sum.0 + held.0, sum.1 + held.1))
    }

    /// How samplers decided the traces whose ids begin with these digits, with the pipeline's number.
    pub fn explain(&self, digits: &str) -> Vec<(usize, Explanation)> {
        let now_ns = self.shard.clock.now_ns();
        let pipelines = self.pipelines.iter().enumerate();
        pipelines
            .flat_map(|(number, pipeline)| {
                pipeline.borrow().explain(digits, now_ns).into_iter().map(move |it| (number, it))
            })
            .collect()
    }

    /// Memory held by connectors.
    pub fn span_metrics_bytes(&self) -> u64 {
        self.span_metrics.iter().map(|connector| connector.borrow().bytes_held()).sum()
    }

    /// The series of every `span_metrics` connector.
    pub fn span_metrics(&self) -> Vec<Snapshot> {
        let now_ns = self.shard.clock.now_ns();
        self.span_metrics.iter().map(|connector| connector.borrow().snapshot(now_ns)).collect()
    }

    /// Monotonic time of the next flush, if this shard has one to begin.
    pub fn next_flush_ns(&self) -> Option<u64> {
        self.feeds.iter().filter_map(|feed| feed.flusher.next_ns()).min()
    }

    /// Begins the flushes that are due, or with `is_last` all of them: connectors with what every other shard is to be
    /// asked. One whose pipelines have no room waits for it.
    pub fn begin_flushes(&mut self, is_last: bool) -> Vec<(usize, Ask)> {
        let now_ns = self.shard.clock.now_ns();
        let mut begun = Vec::new();
        for feed in self.feeds.iter_mut().filter(|feed| !feed.has_ended) {
            let is_due = feed.flusher.next_ns().is_some_and(|next_ns| is_last || next_ns <= now_ns);
            if is_due && feed.targets.iter().all(|target| target.borrow().has_room()) {
                feed.has_ended = is_last;
                begun.push((feed.connector, feed.flusher.begin(now_ns)));
            }
        }
        for (connector, ask) in &begun {
            let own = self.answer_flush(*connector, ask);
            self.flush_answered(*connector, own);
        }
        begun
    }

    /// The answer of this shard.
    pub fn answer_flush(&self, connector: usize, ask: &Ask) -> Snapshot {
        self.span_metrics[connector].borrow_mut().answer(ask, self.shard.clock.now_ns())
    }

    /// An answer to a flush of this shard. With the last one the series go into the pipelines.
    pub fn flush_answered(&mut self, connector: usize, answer: Snapshot) {
        let feed = self.feeds.iter_mut().find(|feed| feed.connector == connector);
        let feed = feed.expect("only the shard that feeds pipelines asks");
        let unix_ns = u64::try_from(self.shard.clock.unix_ns()).unwrap_or(0);
        let Some(request) = feed.flusher.answered(answer, unix_ns).filter(|request| !request.is_empty()) else {
            return;
        };
        let mut index = self.shard.indexes.take(Signal::Metrics);
        index.read_request(&request, 0).expect("it was just written");
        let segments = vec![self.shard.buffers.adopt(request.into())];
        let mut batch = Batch { index, segments, ..Batch::default() };
        let turn = turn_of(&self.shard, self.shard.clock.now_ns());
        for target in &feed.targets {
            target.borrow_mut().consume(turn, batch.fork());
        }
        batch.settle(&ack::Outcome::Taken);
        self.wake();
    }

    /// Whether every last flush of this shard is over.
    pub fn flushes_have_ended(&self) -> bool {
        self.feeds.iter().all(|feed| feed.has_ended && feed.flusher.next_ns().is_some())
    }

    /// Lets a connector give up series.
    pub fn forget(&self, connector: usize, forgotten: &Forgotten) {
        self.span_metrics[connector].borrow_mut().forget(forgotten);
    }

    /// Whether no node holds anything.
    pub fn nodes_are_empty(&self) -> bool {
        self.pipelines.iter().all(|pipeline| pipeline.borrow().is_empty())
    }

    /// Whether every queue is empty.
    pub fn queues_are_empty(&self) -> bool {
        self.queues.iter().all(|queue| queue.is_empty())
    }

    /// One queue per exporter.
    pub fn queues(&self) -> &[Rc<Queue>] {
        &self.queues
    }
}

fn turn_of(shard: &ShardContext, now_ns: u64) -> Turn<'_> {
    let pressure = shard.lease.pressure();
    Turn {
        now_ns,
        memory_is_short: pressure >= PRESSURE_SHORT,
        pressure,
        cells: &shard.cells,
        clock: shard.clock,
        buffers: &shard.buffers,
        indexes: &shard.indexes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processor::tail_sampling::TailSampling;
    use crate::shard::budget::Budget;
    use crate::shard::buffers::Buffers;
    use crate::shard::clock::Clock;
    use crate::telemetry::cells::{Cells, Kind, Schema};
    use crate::telemetry::metrics::{ProcessorSeries, TailSamplingSeries};
    use codecs::otlp::proto::{ExportTraceServiceRequest, ResourceSpans, ScopeSpans, Span};
    use codecs::otlp::{SignalIndex, TraceId};
    use prost::Message;
    use sampling::settings::{Policy, Rule, Settings};
    use sampling::{Limits, Sampler};

    const MS: u64 = 1_000_000;
    /// Two million spans a second.
    const SPAN_NS: u64 = 500;
    const REQUEST_SPANS: u64 = 512;
    const WAIT_NS: u64 = 40 * MS;

    /// A shard's pipelines, one that samples, and time that passes with its work alone.
    struct Shard {
        pipelines: Pipelines,
        schema: Schema,
        request: (SignalIndex, bytes::Bytes),
        traces: u64,
        now_ns: u64,
    }

    impl Shard {
        fn new(rule: Rule) -> Shard {
            let mut schema = Schema::default();
            let names = ["it".to_owned()];
            let series = TailSamplingSeries::declare(&mut schema, "tail_sampling", &names);
            let items = ProcessorSeries::declare(&mut schema, "tail_sampling", Signal::Traces);
            let policies = vec![Policy { name: names[0].clone(), rule }];
            let settings = Settings { decision_wait_ns: WAIT_NS, policies, ..Settings::default() };
            let node = TailSampling::new(Sampler::with_limits(&settings, 1, 0, Limits::default()), series);
            let nodes = vec![Processor::TailSampling(Box::new(node))];
            let pipeline = Pipeline::new(Signal::Traces, nodes, vec![items], Vec::new(), None);
            let lease = Budget::new(8 << 30, 1 << 30, 1).lease();
            let shard = ShardContext::new(0, 1, Clock::start(), Cells::new(&schema), Buffers::new(1 << 20), lease);
            let fed = || [vec![0], Vec::new(), Vec::new()];
            let pipelines = vec![Rc::new(RefCell::new(pipeline))];
            let pipelines = Pipelines::new(pipelines, vec![fed()], Vec::new(), Vec::new(), Vec::new(), shard);
            Shard { pipelines, schema, request: request(), traces: 0, now_ns: 0 }
        }

        /// One request is taken: ten spans of each trace.
        fn take(&mut self) {
            let (mut index, segment) = self.request.clone();
            let SignalIndex::Spans(spans) = &mut index else { unreachable!("it is one of spans") };
            for (position, item) in spans.items.iter_mut().enumerate() {
                let trace = self.traces + position as u64 / 10;
                item.trace_id = TraceId(u128::from(trace + 1).to_be_bytes());
            }
            self.traces += REQUEST_SPANS / 10 + 1;
            let batch = Batch { index, segments: vec![segment], ..Batch::default() };
            self.pipelines.consume_at(self.now_ns, 0, Signal::Traces, batch);
            self.now_ns += REQUEST_SPANS * SPAN_NS;
            self.pipelines.turn_if_late(self.now_ns);
        }

        /// How many traces were late by so much at most, as the metric's bounds tell, and how many perhaps by more.
        fn late(&self, than_ns: u64) -> (u64, u64) {
            let name = "tracegate_tail_sampling_decision_lateness_seconds";
            let series = self.schema.series().iter().find(|series| series.metric.name == name).expect("declared");
            let Kind::Histogram(bounds) = series.metric.kind else { unreachable!("it is one") };
            let cells = self.pipelines.shard.cells.snapshot();
            let counts = &series.values(&cells)[..=bounds.upper.len()];
            let (within, beyond) = counts.split_at(bounds.upper.partition_point(|upper| *upper <= than_ns));
            (within.iter().sum(), beyond.iter().sum())
        }
    }

    fn request() -> (SignalIndex, bytes::Bytes) {
        let span = |id: u64| Span { trace_id: vec![1; 16], span_id: (id + 1).to_be_bytes().into(), ..Span::default() };
        let scope_spans = vec![ScopeSpans { spans: (0..REQUEST_SPANS).map(span).collect(), ..ScopeSpans::default() }];
        let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
        let bytes = bytes::Bytes::from(ExportTraceServiceRequest { resource_spans }.encode_to_vec());
        let mut index = SignalIndex::new(Signal::Traces);
        index.read_request(&bytes, 0).expect("well-formed");
        (index, bytes)
    }

    #[test]
    fn a_decision_is_late_by_two_turns_at_most_however_many_connections_are_busy_and_spans_come() {
        let nothing = || Rule::Probabilistic { hash_salt: String::new(), sampling_percentage: 0.0 };
        for (connections, rule) in [(1, nothing()), (400, nothing()), (400, Rule::AlwaysSample)] {
            let mut shard = Shard::new(rule);
            while shard.now_ns < 3 * WAIT_NS {
                // Every connection has another request, always, and the loop comes after all of them.
                (0..connections).for_each(|_| shard.take());
                shard.pipelines.turn_at(shard.now_ns, false);
            }
            let (in_time, too_late) = shard.late(2 * TURN_LATE_NS);
            assert!(in_time > 5_000, "{in_time} decisions");
            assert_eq!(too_late, 0, "{connections} connections");
        }
    }
}
