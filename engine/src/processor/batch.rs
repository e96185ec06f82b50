//! `batch`: collects items until there are enough of them, or until they have waited long enough.
//!
//! The one idea: batches are merged by appending indexes; no byte moves, unless a metric has to be cut. Sizes and timeout have the Collector's
//! meaning (reference: batch processor): `send_batch_size` triggers, `send_batch_max_size` bounds, the timer counts from
//! the first item after a send; spans, data points or log records are counted. Unlike the Collector's, a batch that
//! cannot leave stays: nothing is dropped here.
//!
//! Where senders wait for what is behind this node, their acks leave with the last of their items; else they are answered
//! here.
//!
//! With `metadata_keys` there is one such batch per combination of the clients' values, each with its own size and
//! timer, and they never mix. Without, there is one for everybody.
//!
//! ```text
//! take --client's values--> group: pending batch --+-- enough: `full`, in the order they became so
//!                                                  +-- too long: `due`, a heap of deadlines, one entry per group
//! ```

use super::Turn;
use super::combinations::Combinations;
use crate::pipeline::ack::{Outcome, Row};
use crate::pipeline::batch::{Batch, SEGMENTS_MAX};
use crate::pipeline::client::{self, Client};
use crate::pipeline::cut::{empty, split};
use crate::telemetry::metrics::BatchSeries;
use codecs::otlp::Signal;
use slab::Slab;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::rc::Rc;

/// A combination that nobody has used for this long makes room for a new one at the limit.
const UNUSED_NS: u64 = 300_000_000_000;

/// Settings, with 0 meaning what the configuration says it means.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Longest wait of an item; 0: every batch leaves at once.
    pub timeout_ns: u64,
    /// Items that trigger sending; 0: every batch leaves at once.
    pub send_batch_size: u32,
    /// Most items of one batch; 0: no bound.
    pub send_batch_max_size: u32,
    /// Headers of clients whose values are never mixed.
    pub metadata_keys: Vec<String>,
    /// Most combinations of their values, on all shards together.
    pub metadata_combinations_max: usize,
}

/// One `batch` processor on one shard.
#[derive(Debug)]
pub struct Batcher {
    settings: Settings,
    signal: Signal,
    /// Whether senders wait for what is behind this node.
    keeps_acks: bool,
    series: BatchSeries,
    groups: Slab<Group>,
    /// Groups by the values of their clients.
    by_values: HashMap<Box<[u8]>, usize, foldhash::fast::RandomState>,
    /// The combinations that are in use on any shard.
    combinations: Combinations,
    /// The last wish for room by another shard that was met here.
    wish_met: u64,
    /// When groups must leave at the latest. An entry may be early: the group looks again.
    due: BinaryHeap<Reverse<(u64, usize)>>,
    /// Groups with enough to send.
    full: VecDeque<usize>,
    /// Groups beyond their bound, because what is behind this node has stopped.
    stopped: usize,
    items: u64,
    /// Reused between batches.
    scratch: Vec<u8>,
}

/// Items of clients with the same values.
#[derive(Debug)]
struct Group {
    /// What these clients have in common.
    client: Option<Rc<Client>>,
    pending: Batch,
    /// What is pending, as limits count it.
    items: u64,
    /// Who waits for it.
    waiting: Row,
    /// When the pending items must leave; meaningless while there are none.
    deadline_ns: u64,
    last_used_ns: u64,
    is_in_due: bool,
    is_in_full: bool,
    is_stopped: bool,
}

impl Batcher {
    /// Holds nothing yet, and is the only one of its kind.
    pub fn new(settings: Settings, signal: Signal, series: BatchSeries) -> Batcher {
        Batcher {
            combinations: Combinations::default(),
            wish_met: 0,
            settings,
            signal,
            keeps_acks: false,
            series,
            groups: Slab::new(),
            by_values: HashMap::default(),
            due: BinaryHeap::new(),
            full: VecDeque::new(),
            stopped: 0,
            items: 0,
            scratch: Vec::new(),
        }
    }

    /// The same, one of several on different shards whose combinations are limited together.
    pub fn sharing(self, combinations: Combinations) -> Batcher {
        Batcher { combinations, ..self }
    }

    /// The same, answering senders itself or leaving that to what is behind it.
    pub fn keeping_acks(self, keeps_acks: bool) -> Batcher {
        Batcher { keeps_acks, ..self }
    }

    /// Lets items that come from now on wait under these settings; those that wait keep their deadline. The metadata keys
    /// stay as they were: by them is known who waits.
    pub fn change(&mut self, settings: Settings) {
        let Settings { timeout_ns, send_batch_size, send_batch_max_size, .. } = settings;
        self.settings = Settings { timeout_ns, send_batch_size, send_batch_max_size, ..self.settings.clone() };
    }

    /// Whether a batch of this client would be taken: its combination is known, or there is room for another.
    pub fn admits(&mut self, now_ns: u64, client: Option<&Client>) -> bool {
        if self.settings.metadata_keys.is_empty() {
            return true;
        }
        self.scratch.clear();
        client::write_key(client, &self.settings.metadata_keys, &mut self.scratch);
        if self.by_values.contains_key(&self.scratch[..]) {
            return true;
        }
        let max = self.settings.metadata_combinations_max;
        if self.combinations.has_room(&self.scratch, max) {
            return true;
        }
        self.forget_unused(now_ns);
        let has_room = self.combinations.has_room(&self.scratch, max);
        if !has_room {
            self.combinations.wish_for_room();
        }
        has_room
    }

    /// Takes ownership: the senders are answered here, unless acks are kept. The items leave at the next `turn` that finds them due.
    pub fn take(&mut self, turn: Turn<'_>, mut batch: Batch) {
        let number = self.group_of(turn, batch.client.as_deref());
        let items = batch.items();
        self.items += items;
        let group = &mut self.groups[number];
        match self.keeps_acks {
            true => group.waiting.push(items, std::mem::take(&mut batch.acks)),
            false => batch.settle(&Outcome::Taken),
        }
        group.last_used_ns = turn.now_ns;
        group.items += items;
        if group.pending.index.is_empty() {
            group.deadline_ns = turn.now_ns.saturating_add(self.settings.timeout_ns);
        }
        group.pending.append(batch);
        self.note(number);
    }

    /// The group for batches of this client.
    fn group_of(&mut self, turn: Turn<'_>, client: Option<&Client>) -> usize {
        let keys = &self.settings.metadata_keys;
        self.scratch.clear();
        client::write_key(client, keys, &mut self.scratch);
        if let Some(&number) = self.by_values.get(&self.scratch[..]) {
            return number;
        }
        let client = client.and_then(|client| client.only(keys)).map(Rc::new);
        let number = self.groups.insert(Group {
            pending: empty(self.signal, client.clone()),
            items: 0,
            waiting: Row::default(),
            client,
            deadline_ns: 0,
            last_used_ns: turn.now_ns,
            is_in_due: false,
            is_in_full: false,
            is_stopped: false,
        });
        if !keys.is_empty() {
            self.combinations.join(&self.scratch);
        }
        self.by_values.insert(self.scratch.as_slice().into(), number);
        turn.cells.set(self.series.metadata_cardinality, self.groups.len() as u64);
        number
    }

    /// Brings the lists up to date with a group that has changed.
    fn note(&mut self, number: usize) {
        let (trigger, bound) = (self.trigger(), self.bound());
        let group = &mut self.groups[number];
        let (items, segments) = (group.items, group.pending.segments.len());
        if is_full(items, segments, trigger) && !group.is_in_full {
            group.is_in_full = true;
            self.full.push_back(number);
        }
        if items > 0 && !group.is_in_due {
            group.is_in_due = true;
            self.due.push(Reverse((group.deadline_ns, number)));
        }
        let is_stopped = items >= bound || segments >= SEGMENTS_MAX / 2;
        if is_stopped != group.is_stopped {
            group.is_stopped = is_stopped;
            self.stopped = if is_stopped { self.stopped + 1 } else { self.stopped - 1 };
        }
    }

    /// Lets what is due leave, in pieces of at most `send_batch_max_size`.
    pub fn turn(&mut self, turn: Turn<'_>, drain: bool, out: &mut Vec<Batch>) -> bool {
        let full = self.next_full();
        let Some(number) = full.or_else(|| self.next_due(turn.now_ns, drain)) else {
            self.meet_wish(turn.now_ns);
            return false;
        };
        let trigger = if full.is_some() { self.series.size_trigger } else { self.series.timeout_trigger };
        turn.cells.add(trigger, 1);
        let group = &mut self.groups[number];
        let rest = split(&mut group.pending, self.settings.send_batch_max_size, group.client.clone(), turn.buffers);
        let mut leaving = std::mem::replace(&mut group.pending, rest);
        let items = leaving.items();
        leaving.acks = group.waiting.take(items);
        group.items -= items;
        group.deadline_ns = turn.now_ns.saturating_add(self.settings.timeout_ns);
        self.items -= items;
        turn.cells.observe(self.series.send_size, items);
        turn.cells.observe(self.series.send_size_bytes, leaving.bytes());
        out.push(leaving);
        self.note(number);
        !self.full.is_empty() || (drain && self.items > 0) || self.is_due(turn.now_ns)
    }

    fn next_full(&mut self) -> Option<usize> {
        let number = self.full.pop_front()?;
        self.groups[number].is_in_full = false;
        Some(number)
    }

    /// The group whose time is over; in a drain, any that holds something.
    fn next_due(&mut self, now_ns: u64, drain: bool) -> Option<usize> {
        while let Some(&Reverse((deadline_ns, number))) = self.due.peek() {
            if deadline_ns > now_ns && !drain {
                return None;
            }
            self.due.pop();
            let group = &mut self.groups[number];
            group.is_in_due = false;
            if group.pending.index.is_empty() {
                continue;
            }
            if drain || group.deadline_ns <= now_ns {
                return Some(number);
            }
            // It has left since for want of space, and waits anew.
            group.is_in_due = true;
            self.due.push(Reverse((group.deadline_ns, number)));
        }
        None
    }

    fn is_due(&self, now_ns: u64) -> bool {
        self.due.peek().is_some_and(|Reverse((deadline_ns, _))| *deadline_ns <= now_ns)
    }

    /// Whether there is enough to send, whatever the time.
    pub fn is_full(&self) -> bool {
        !self.full.is_empty()
    }

    /// Items that must leave at once: 1 where nothing is to wait.
    fn trigger(&self) -> u64 {
        if self.settings.timeout_ns == 0 { 1 } else { self.settings.send_batch_size.max(1).into() }
    }

    /// Items of one group at which this node takes no more: twice what triggers sending.
    fn bound(&self) -> u64 {
        self.trigger().saturating_mul(2).max(8192)
    }

    /// Room until a group is beyond its bound: then what is behind this node has stopped.
    pub fn has_room(&self) -> bool {
        self.stopped == 0
    }

    /// Makes room for other combinations: those that hold nothing and that nobody uses any more are forgotten.
    fn forget_unused(&mut self, now_ns: u64) {
        if self.settings.metadata_keys.is_empty() {
            return;
        }
        let (groups, combinations) = (&mut self.groups, &self.combinations);
        self.by_values.retain(|values, &mut number| {
            let group = &groups[number];
            let is_listed = group.is_in_due || group.is_in_full;
            let unused = now_ns.saturating_sub(group.last_used_ns) >= UNUSED_NS;
            let forget = unused && !is_listed && group.pending.index.is_empty();
            if forget {
                combinations.leave(values);
                groups.remove(number);
            }
            !forget
        });
    }

    /// Makes room where another shard has asked for it.
    fn meet_wish(&mut self, now_ns: u64) {
        let wish = self.combinations.wishes();
        if wish != self.wish_met {
            self.wish_met = wish;
            self.forget_unused(now_ns);
        }
    }

    /// Items waiting.
    pub fn items_held(&self) -> u64 {
        self.items
    }

    /// Memory of the pending indexes and of what is known of clients; the segments are request buffers.
    pub fn bytes_held(&self) -> u64 {
        let of_group = |group: &Group| {
            let client = group.client.as_ref().map_or(0, |client| client.bytes());
            (group.pending.index_bytes() + client) as u64
        };
        self.groups.iter().map(|(_, group)| of_group(group)).sum()
    }
}

fn is_full(items: u64, segments: usize, trigger: u64) -> bool {
    items >= trigger || segments >= SEGMENTS_MAX / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::Indexes;
    use crate::shard::buffers::Buffers;
    use crate::shard::clock::Clock;
    use crate::telemetry::cells::{Cells, Schema};
    use codecs::otlp::SignalIndex;
    use codecs::otlp::proto::{
        ExportMetricsServiceRequest, ExportTraceServiceRequest, Gauge, Metric, MetricData, NumberDataPoint,
        NumberValue, ResourceMetrics, ResourceSpans, ScopeMetrics, ScopeSpans, Span,
    };
    use proptest::prelude::*;
    use prost::Message;

    const MS: u64 = 1_000_000;
    const CLIENTS: [&str; 3] = ["a", "b", ""];

    /// A batcher of its own, and time that a test moves.
    struct Bench {
        batcher: Batcher,
        cells: Cells,
        buffers: Buffers,
        indexes: Indexes,
        now_ns: u64,
        sent: u64,
    }

    impl Bench {
        fn new(timeout_ms: u64, send_batch_size: u32, send_batch_max_size: u32, combinations: usize) -> Bench {
            let mut schema = Schema::default();
            let series = BatchSeries::declare(&mut schema, "batch");
            let settings = Settings {
                timeout_ns: timeout_ms * MS,
                send_batch_size,
                send_batch_max_size,
                metadata_keys: vec!["tenant".to_owned()],
                metadata_combinations_max: combinations,
            };
            Bench {
                batcher: Batcher::new(settings, Signal::Traces, series),
                cells: Cells::new(&schema),
                buffers: Buffers::new(0),
                indexes: Indexes::default(),
                now_ns: 0,
                sent: 0,
            }
        }

        fn turn<T>(&mut self, work: impl FnOnce(&mut Batcher, Turn<'_>) -> T) -> T {
            let turn = Turn {
                now_ns: self.now_ns,
                memory_is_short: false,
                pressure: 0.0,
                cells: &self.cells,
                clock: Clock::start(),
                buffers: &self.buffers,
                indexes: &self.indexes,
            };
            work(&mut self.batcher, turn)
        }

        /// Gives it `spans` spans of a client; their ids count up.
        fn take(&mut self, client: &str, spans: u64) {
            let ids = self.sent..self.sent + spans;
            self.sent += spans;
            let spans = ids.map(|id| Span { span_id: (id + 1).to_be_bytes().into(), ..Span::default() }).collect();
            let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
            let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
            let bytes = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
            let mut index = SignalIndex::new(Signal::Traces);
            index.read_request(&bytes, 0).unwrap();
            let client = (!client.is_empty()).then(|| Rc::new(Client::with_metadata("tenant", &[client])));
            let batch = Batch { index, segments: vec![bytes.into()], client, ..Batch::default() };
            self.turn(|batcher, turn| batcher.take(turn, batch));
        }

        /// All that leaves now: whose it is, and the spans' ids.
        fn leaving(&mut self, drain: bool) -> Vec<(String, Vec<u64>)> {
            let mut out = Vec::new();
            while self.turn(|batcher, turn| batcher.turn(turn, drain, &mut out)) {}
            out.iter().map(|batch| (whose(batch.client.as_deref()), ids(batch))).collect()
        }

        fn admits(&mut self, client: &str) -> bool {
            let now_ns = self.now_ns;
            self.batcher.admits(now_ns, Some(&Client::with_metadata("tenant", &[client])))
        }
    }

    fn whose(client: Option<&Client>) -> String {
        let value = client.and_then(|client| client.metadata("tenant").first());
        value.map_or(String::new(), |value| String::from_utf8(value.to_vec()).unwrap())
    }

    fn ids(batch: &Batch) -> Vec<u64> {
        batch.index.spans().unwrap().items.iter().map(|span| u64::from_be_bytes(span.span_id) - 1).collect()
    }

    /// Metrics with so many points each, as a batch.
    fn metrics(points: &[i64]) -> Batch {
        let metric = |points: &i64| {
            let point =
                |value| NumberDataPoint { value: Some(NumberValue::AsInt(value)), ..NumberDataPoint::default() };
            let gauge = Gauge { data_points: (0..*points).map(point).collect() };
            Metric { name: b"m".to_vec(), data: Some(MetricData::Gauge(gauge)), ..Metric::default() }
        };
        let metrics = points.iter().map(metric).collect();
        let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
        let resource_metrics = vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }];
        let bytes = ExportMetricsServiceRequest { resource_metrics }.encode_to_vec();
        let mut index = SignalIndex::new(Signal::Metrics);
        index.read_request(&bytes, 0).unwrap();
        Batch { index, segments: vec![bytes.into()], ..Batch::default() }
    }

    #[test]
    fn batches_of_metrics_have_exactly_as_many_points_as_they_may() {
        let buffers = Buffers::new(0);
        for (points, bound, expected) in [
            (&[10][..], 4, &[4, 4, 2][..]),
            (&[1, 10, 1], 4, &[4, 4, 4]),
            (&[4, 4], 4, &[4, 4]),
            (&[3, 0, 3], 4, &[4, 3]),
            (&[1, 1, 1], 1, &[1, 1, 1]),
            (&[7], 0, &[7]),
        ] {
            let mut pending = metrics(points);
            let mut sizes = Vec::new();
            while !pending.index.is_empty() {
                let rest = split(&mut pending, bound, None, &buffers);
                let leaving = std::mem::replace(&mut pending, rest);
                let mut request = Vec::new();
                leaving.index.encode(&mut codecs::otlp::Encoder::default(), &leaving.segments, &mut request);
                let mut again = SignalIndex::new(Signal::Metrics);
                again.read_request(&request, 0).unwrap();
                assert_eq!(again.count(), leaving.items());
                sizes.push(leaving.items());
            }
            assert_eq!(sizes, expected, "{points:?} in batches of {bound}");
        }
    }

    #[test]
    fn each_client_has_its_own_size_and_its_own_timer() {
        let mut bench = Bench::new(10, 3, 0, 10);
        bench.take("a", 2);
        bench.now_ns = 5 * MS;
        bench.take("b", 2);
        assert_eq!(bench.leaving(false), []);
        bench.take("b", 1);
        assert_eq!(bench.leaving(false), [("b".to_owned(), vec![2, 3, 4])]);
        bench.now_ns = 10 * MS;
        assert_eq!(bench.leaving(false), [("a".to_owned(), vec![0, 1])]);
        assert_eq!(bench.batcher.items_held(), 0);
    }

    #[test]
    fn a_combination_beyond_the_limit_is_not_admitted_until_another_was_unused_for_long() {
        let mut bench = Bench::new(10, 3, 0, 2);
        bench.take("a", 1);
        bench.take("b", 1);
        assert!(bench.admits("a") && bench.admits("b"));
        assert!(!bench.admits("c"));
        bench.now_ns = UNUSED_NS;
        assert!(!bench.admits("c"), "both still hold spans");
        bench.leaving(false);
        bench.take("b", 1);
        assert!(bench.admits("c"));
        assert!(bench.admits("b"));
        bench.take("c", 1);
        assert!(!bench.admits("a"));
        assert_eq!(bench.leaving(true).len(), 2);
    }

    #[test]
    fn shards_limit_combinations_together_and_make_room_for_each_other() {
        let shared = Combinations::default();
        let mut benches = [(); 2].map(|()| {
            let bench = Bench::new(10, 1, 0, 2);
            Bench { batcher: bench.batcher.sharing(shared.clone()), ..bench }
        });
        let [here, there] = &mut benches;
        here.take("a", 1);
        there.take("a", 1);
        assert!(there.admits("b"), "a combination that both use counts once");
        there.take("b", 1);
        assert!(here.admits("b"), "it is in use already");
        assert!(!here.admits("c") && !there.admits("c"));
        for bench in [&mut *here, &mut *there] {
            bench.leaving(false);
            bench.now_ns = UNUSED_NS;
        }
        assert!(!here.admits("c"), "the other shard has not looked for what it does not use");
        there.leaving(false);
        assert!(here.admits("c"), "now it has");
    }

    #[test]
    fn a_group_that_cannot_leave_stops_the_input_and_only_until_it_has_left() {
        let mut bench = Bench::new(10, 5000, 0, 10);
        bench.take("a", 9_999);
        assert!(bench.batcher.has_room());
        bench.take("a", 1);
        assert!(!bench.batcher.has_room());
        bench.leaving(false);
        assert!(bench.batcher.has_room());
    }

    /// What a test does next.
    #[derive(Clone, Debug)]
    enum Step {
        Take(usize, u64),
        Wait(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..CLIENTS.len(), 1..9_u64).prop_map(|(client, spans)| Step::Take(client, spans)),
            (0..8_u64).prop_map(Step::Wait),
        ];
        prop::collection::vec(step, 1..60)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// The naive twin is a list of (client, id, arrival): batches are its first entries of one client.
        #[test]
        fn whatever_comes_leaves_once_in_order_with_its_own_client_and_in_time(
            steps in steps(), size in 1..12_u32, timeout in 0..12_u64, bound in 0..3_u32,
        ) {
            let bound = if bound == 0 { 0 } else { size * bound };
            let mut bench = Bench::new(timeout, size, bound, 10);
            let mut waiting: Vec<(String, u64, u64)> = Vec::new();
            let leave = |bench: &mut Bench, waiting: &mut Vec<(String, u64, u64)>, drain: bool| {
                for (client, ids) in bench.leaving(drain) {
                    prop_assert!(!ids.is_empty());
                    prop_assert!(bound == 0 || ids.len() <= bound as usize);
                    for id in ids {
                        let first = waiting.iter().position(|(whose, ..)| *whose == client).unwrap();
                        prop_assert_eq!(waiting.remove(first).1, id);
                    }
                }
                Ok(())
            };
            for step in steps {
                match step {
                    Step::Wait(ms) => bench.now_ns += ms * MS,
                    Step::Take(client, spans) => {
                        let first = bench.sent;
                        bench.take(CLIENTS[client], spans);
                        waiting.extend((first..first + spans).map(|id| (CLIENTS[client].to_owned(), id, bench.now_ns)));
                    }
                }
                leave(&mut bench, &mut waiting, false)?;
                prop_assert_eq!(bench.batcher.items_held(), waiting.len() as u64);
                for client in CLIENTS {
                    let held = waiting.iter().filter(|(whose, ..)| whose == client).count();
                    prop_assert!(held < size as usize, "enough to leave at once");
                }
                // Whoever stays behind a full batch waits anew, so a span waits twice the timeout at most.
                for (_, _, arrival) in &waiting {
                    prop_assert!(bench.now_ns < arrival + 2 * timeout.max(1) * MS);
                }
            }
            leave(&mut bench, &mut waiting, true)?;
            prop_assert!(waiting.is_empty());
        }
    }
}
