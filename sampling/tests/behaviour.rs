//! What an operator expects of tail sampling, one sentence each.

mod common;

use codecs::otlp::proto;
use common::{Attributes, ERRORS, SECOND, Span, contents, request, settings, slower_than_ms, span, take};
use prost::Message;
use sampling::settings::{BYTES_PER_DROPPED, BYTES_PER_KEPT, Relief, Rule, Settings, Shedding, StressRelief};
use sampling::{Limits, Release, Rulebook, Sampler, Select, SharedRates};

const FIRST_REASON: u16 = 7;
const WAIT: u64 = 10 * SECOND;

/// A sampler with its release and what came out of it.
struct Node {
    sampler: Sampler,
    out: Release,
    kept: Vec<(Span, u16)>,
}

impl Node {
    fn new(settings: &Settings) -> Self {
        Self { sampler: Sampler::new(settings, 11, FIRST_REASON), out: Release::default(), kept: Vec::new() }
    }

    fn insert(&mut self, now_ns: u64, spans: &[Span]) {
        let (index, segments) = request(spans);
        self.sampler.insert(now_ns, &index, &segments, Select::All, &mut self.out);
        self.kept.extend(take(&mut self.out));
    }

    fn decide(&mut self, now_ns: u64) {
        while self.sampler.decide_due(now_ns, 100, &mut self.out) {
            self.kept.extend(take(&mut self.out));
        }
        self.kept.extend(take(&mut self.out));
    }

    fn kept_traces(&self) -> Vec<u128> {
        let mut traces: Vec<u128> = self.kept.iter().map(|(span, _)| span.trace_id).collect();
        traces.sort_unstable();
        traces.dedup();
        traces
    }
}

fn lasting(trace_id: u128, span_id: u64, start_ms: u64, end_ms: u64) -> Span {
    let base = 1_700_000_000 * SECOND;
    Span { start_ns: base + start_ms * 1_000_000, end_ns: base + end_ms * 1_000_000, ..span(trace_id, span_id) }
}

fn failed(trace_id: u128, span_id: u64) -> Span {
    Span { status: 2, ..span(trace_id, span_id) }
}

#[test]
fn latency_is_that_of_the_whole_trace_however_its_spans_arrive() {
    let mut node = Node::new(&settings(&[slower_than_ms(5_000)]));
    node.insert(0, &[lasting(1, 1, 0, 4_500), lasting(2, 1, 0, 5_001), lasting(3, 1, 2_500, 5_500)]);
    node.insert(SECOND, &[lasting(3, 2, 0, 3_000), lasting(4, 1, 5_000, 0), lasting(5, 1, 0, 5_000)]);
    node.decide(WAIT + SECOND);
    assert_eq!(node.kept_traces(), [2, 3]);
}

#[test]
fn a_trace_longer_than_the_upper_threshold_is_dropped_even_if_its_first_spans_were_not() {
    let between = Rule::Latency { threshold_ms: 5_000, upper_threshold_ms: Some(10_000) };
    let mut node = Node::new(&settings(&[between]));
    node.insert(0, &[lasting(1, 1, 0, 5_000), lasting(2, 1, 0, 6_000), lasting(3, 1, 0, 6_000)]);
    node.insert(0, &[lasting(3, 2, 0, 10_001)]);
    node.decide(WAIT);
    assert_eq!(node.kept_traces(), [2]);
}

#[test]
fn a_span_without_a_start_does_not_make_its_trace_last_since_1970() {
    let mut node = Node::new(&settings(&[slower_than_ms(5_000)]));
    node.insert(0, &[Span { start_ns: 0, ..lasting(1, 1, 0, 10) }, lasting(1, 2, 5, 20)]);
    node.decide(WAIT);
    assert!(node.kept.is_empty());
}

#[test]
fn the_reason_of_a_kept_trace_is_its_first_policy_that_wanted_it() {
    let mut node = Node::new(&settings(&[ERRORS, slower_than_ms(100), Rule::AlwaysSample]));
    node.insert(0, &[lasting(1, 1, 0, 200), failed(1, 2), lasting(2, 1, 0, 200), lasting(3, 1, 0, 1)]);
    node.decide(WAIT);
    let mut reasons: Vec<_> = node.kept.iter().map(|(span, reason)| (span.trace_id, reason - FIRST_REASON)).collect();
    reasons.sort_unstable();
    assert_eq!(reasons, [(1, 0), (1, 0), (2, 1), (3, 2)]);
    let verdicts: Vec<_> = node.sampler.counters().policies.iter().map(|v| (v.sampled, v.not_sampled)).collect();
    assert_eq!(verdicts, [(1, 2), (2, 1), (3, 0)]);
}

#[test]
fn a_trace_is_decided_at_its_deadline_and_not_before() {
    let mut node = Node::new(&settings(&[Rule::AlwaysSample]));
    node.insert(SECOND, &[span(1, 1)]);
    node.insert(3 * SECOND, &[span(1, 2), span(2, 1)]);
    assert_eq!(node.sampler.next_deadline_ns(), Some(SECOND + WAIT));
    node.decide(SECOND + WAIT - 1);
    assert!(node.kept.is_empty());
    node.decide(SECOND + WAIT);
    assert_eq!(node.kept.len(), 2);
    assert_eq!(node.sampler.next_deadline_ns(), Some(3 * SECOND + WAIT));
    node.decide(3 * SECOND + WAIT + 1_000);
    assert_eq!(node.sampler.next_deadline_ns(), None);
    let lateness = &node.sampler.counters().lateness;
    assert_eq!((lateness.max_ns, lateness.count(), lateness.buckets[0], lateness.buckets[10]), (1_000, 2, 1, 1));
}

#[test]
fn a_root_span_shortens_the_wait_and_never_lengthens_it() {
    let mut node =
        Node::new(&Settings { decision_wait_after_root_ns: Some(2 * SECOND), ..settings(&[Rule::AlwaysSample]) });
    let root = |trace_id| Span { has_parent: false, ..span(trace_id, 1) };
    node.insert(0, &[root(1), span(2, 1), span(3, 1)]);
    node.insert(9 * SECOND, &[root(3)]);
    node.decide(2 * SECOND);
    assert_eq!(node.kept_traces(), [1]);
    node.decide(WAIT - 1);
    assert_eq!(node.kept_traces(), [1]);
    node.decide(WAIT);
    assert_eq!(node.kept_traces(), [1, 2, 3]);
    assert_eq!(node.sampler.counters().traces_decided_after_root, 1);
}

#[test]
fn late_spans_share_the_fate_of_their_trace_whatever_they_say_themselves() {
    let mut node = Node::new(&settings(&[ERRORS]));
    node.insert(0, &[failed(1, 1), span(2, 1)]);
    node.decide(WAIT);
    node.kept.clear();
    node.insert(WAIT + SECOND, &[span(1, 2), failed(2, 2), span(3, 1), span(1, 3)]);
    assert_eq!(node.kept, [(span(1, 2), FIRST_REASON), (span(1, 3), FIRST_REASON)]);
    let counters = node.sampler.counters();
    assert_eq!((counters.late_spans_kept, counters.late_spans_dropped), (2, 1));
    assert_eq!((counters.traces_new, counters.traces_sampled, counters.traces_not_sampled), (3, 1, 1));
    assert_eq!(node.sampler.pending_spans(), 1);
}

#[test]
fn spans_without_a_trace_id_are_decided_alone_and_never_wait() {
    let mut node = Node::new(&settings(&[ERRORS]));
    node.insert(0, &[failed(0, 1), span(0, 2), failed(0, 3)]);
    assert_eq!(node.kept, [(failed(0, 1), FIRST_REASON), (failed(0, 3), FIRST_REASON)]);
    let counters = node.sampler.counters();
    assert_eq!((counters.idless_spans_kept, counters.idless_spans_dropped, counters.traces_new), (2, 1, 0));
    assert_eq!(node.sampler.pending_spans(), 0);
}

#[test]
fn a_full_table_decides_its_oldest_trace_early_and_loses_none() {
    let mut node = Node::new(&Settings { traces_max: Some(100), ..settings(&[ERRORS]) });
    for trace in 1..=210 {
        node.insert(trace as u64, &[failed(trace, 1)]);
        assert!(node.sampler.pending_traces() <= 100);
    }
    assert_eq!(node.sampler.counters().traces_decided_early, 110);
    node.decide(210);
    assert_eq!(node.kept_traces(), (1..=110).collect::<Vec<_>>());
    node.decide(WAIT + 210);
    assert_eq!(node.kept_traces(), (1..=210).collect::<Vec<_>>());
}

#[test]
fn a_request_with_more_traces_than_the_table_holds_is_taken_whole() {
    let mut node = Node::new(&Settings { traces_max: Some(2), ..settings(&[Rule::AlwaysSample]) });
    let spans: Vec<Span> = (0..300).map(|n| span(1 + n % 7, n as u64)).collect();
    node.insert(0, &spans);
    node.decide(WAIT);
    let mut kept: Vec<Span> = node.kept.into_iter().map(|(span, _)| span).collect();
    kept.sort_by_key(|span| span.span_id);
    assert_eq!(kept, spans);
}

#[test]
fn kept_spans_keep_their_resource_scope_and_every_byte_of_their_envelopes() {
    let mut node = Node::new(&settings(&[Rule::AlwaysSample]));
    let spans: Vec<Span> = (0..8u64)
        .map(|n| Span {
            resource: format!("resource {} schema_url=https://example.test/r\u{1}unknown", n % 2).into_bytes(),
            scope: format!("scope {} schema_url=https://example.test/s", n / 2).into_bytes(),
            ..span(1 + u128::from(n % 4), n)
        })
        .collect();
    spans.chunks(3).for_each(|part| node.insert(0, part));
    let is_more = node.sampler.decide_due(WAIT, 100, &mut node.out);
    assert!(!is_more);
    assert_eq!((node.out.index.resources.len(), node.out.index.scopes.len()), (2, 8));
    let mut kept: Vec<Span> = take(&mut node.out).into_iter().map(|(span, _)| span).collect();
    kept.sort_by_key(|span| span.span_id);
    assert_eq!(kept, spans);
}

#[test]
fn spans_of_a_trace_leave_in_the_order_they_came() {
    let mut node = Node::new(&settings(&[Rule::AlwaysSample]));
    for n in 0..500 {
        node.insert(n, &[span(1 + u128::from(n % 3), n)]);
    }
    node.decide(WAIT + 500);
    for trace in 1..=3 {
        let ids: Vec<u64> =
            node.kept.iter().filter(|(span, _)| span.trace_id == trace).map(|(s, _)| s.span_id).collect();
        assert_eq!(ids.len(), 167 - usize::from(trace == 3));
        assert!(ids.is_sorted());
    }
}

#[test]
fn a_giant_trace_leaves_in_parts_and_complete() {
    let mut node = Node::new(&settings(&[ERRORS]));
    let giant: Vec<Span> = (0..3_000u64).map(|n| Span { bytes: vec![n as u8; 5_000], ..failed(1, n) }).collect();
    for part in giant.chunks(100) {
        let others: Vec<Span> = (0..100).map(|n| span(2 + n, 1)).collect();
        let mixed: Vec<Span> = part.iter().zip(&others).flat_map(|(a, b)| [a.clone(), b.clone()]).collect();
        node.insert(0, &mixed);
    }
    let (mut parts, mut names, mut kept) = (0, 0, Vec::new());
    loop {
        let is_more = node.sampler.decide_due(WAIT, 1_000, &mut node.out);
        assert!(node.out.index.items.len() <= 1_000);
        names += node.out.traces.len();
        parts += usize::from(!node.out.is_empty());
        kept.extend(take(&mut node.out).into_iter().map(|(span, _)| span));
        if !is_more {
            break;
        }
        assert!(node.sampler.next_deadline_ns().is_some());
    }
    assert_eq!((parts, names), (3, 1));
    assert!(kept == giant, "the giant trace is complete and in order");
    assert_eq!(node.sampler.pending_spans(), 0);
}

#[test]
fn a_release_stays_small_even_when_spans_are_large() {
    let mut node = Node::new(&settings(&[Rule::AlwaysSample]));
    for n in 0..30 {
        node.insert(0, &[Span { bytes: vec![n as u8; 1_000_000], ..span(u128::from(n) + 1, n) }]);
    }
    let mut kept = 0;
    loop {
        let is_more = node.sampler.decide_due(WAIT, 1_000_000, &mut node.out);
        assert!(node.out.bytes.len() <= sampling::release::RELEASE_BYTES_MAX + 1_000_000);
        kept += node.out.index.items.len();
        node.out.clear();
        if !is_more {
            break;
        }
    }
    assert_eq!(kept, 30);
}

#[test]
fn a_drain_decides_everything_with_what_has_arrived() {
    let mut node = Node::new(&settings(&[ERRORS]));
    node.insert(SECOND, &[failed(1, 1), span(2, 1), span(3, 1), failed(3, 2)]);
    while node.sampler.decide_all(2 * SECOND, 1, &mut node.out) {}
    node.kept.extend(take(&mut node.out));
    assert_eq!(node.kept_traces(), [1, 3]);
    assert_eq!(node.sampler.pending_spans(), 0);
    assert_eq!(node.sampler.counters().traces_decided_by_drain, 3);
    assert_eq!(node.sampler.counters().lateness.count(), 0);
}

#[test]
fn only_selected_spans_are_taken() {
    let mut node = Node::new(&settings(&[Rule::AlwaysSample]));
    let spans: Vec<Span> = (0..10).map(|n| span(1 + u128::from(n % 2), n)).collect();
    let (index, segments) = request(&spans);
    node.sampler.insert(0, &index, &segments, Select::Some(&[1, 3, 9]), &mut node.out);
    node.sampler.insert(0, &index, &segments, Select::Some(&[]), &mut node.out);
    node.decide(WAIT);
    let ids: Vec<u64> = node.kept.iter().map(|(span, _)| span.span_id).collect();
    assert_eq!(ids, [1, 3, 9]);
    assert_eq!(node.sampler.counters().spans_accepted, 3);
}

#[test]
fn time_that_goes_back_is_taken_as_standing_still() {
    let mut node = Node::new(&settings(&[Rule::AlwaysSample]));
    node.insert(5 * SECOND, &[span(1, 1)]);
    node.insert(SECOND, &[span(2, 1)]);
    node.decide(4 * SECOND + WAIT);
    assert!(node.kept.is_empty());
    node.decide(5 * SECOND + WAIT);
    assert_eq!(node.kept_traces(), [1, 2]);
}

#[test]
#[should_panic(expected = "a release belongs to one sampler until it is cleared")]
fn two_samplers_do_not_fill_one_release() {
    let settings = settings(&[Rule::AlwaysSample]);
    let mut out = Release::default();
    Sampler::new(&settings, 1, 1).decide_due(0, 1, &mut out);
    Sampler::new(&settings, 2, 1).decide_due(0, 1, &mut out);
}

#[test]
fn one_shard_may_hold_all_the_traces_of_the_process_and_no_more_of_them_are_pending() {
    let settings = Settings { traces_max: Some(10), ..settings(&[Rule::AlwaysSample]) };
    let rates = SharedRates::new(&settings);
    let shard = |seed| {
        let sampler = Sampler::sharing(&settings.share_of(2), seed, FIRST_REASON, Limits::default(), &rates);
        Node { sampler, out: Release::default(), kept: Vec::new() }
    };
    let (mut busy, mut idle) = (shard(1), shard(2));
    (1..=10).for_each(|id| busy.insert(id.try_into().unwrap(), &[span(id, 1)]));
    assert_eq!(busy.sampler.counters().traces_decided_early, 0, "an idle shard takes no room");
    busy.insert(11, &[span(11, 1)]);
    assert_eq!((busy.sampler.pending_traces(), busy.sampler.counters().traces_decided_early), (10, 1));
    idle.insert(12, &[span(20, 1), span(21, 1)]);
    assert_eq!((idle.sampler.pending_traces(), idle.sampler.counters().traces_decided_early), (1, 1));
    busy.decide(12 + WAIT);
    idle.insert(13 + WAIT, &[span(22, 1), span(23, 1), span(24, 1)]);
    assert_eq!((idle.sampler.pending_traces(), idle.sampler.counters().traces_decided_early), (4, 1), "room came back");
}

#[test]
fn decisions_remembered_are_divided_among_shards() {
    let whole = Settings { kept_memory_bytes: Some(100), dropped_memory_bytes: None, ..settings(&[ERRORS]) };
    assert_eq!(whole.share_of(3).kept_memory_bytes, Some(34));
    assert_eq!(whole.share_of(3).dropped_memory_bytes, None);
}

#[test]
fn a_trace_that_is_certain_to_be_dropped_holds_nothing_and_one_certain_to_be_kept_leaves_with_the_next_decisions() {
    let share = Rule::Probabilistic { hash_salt: String::new(), sampling_percentage: 50.0 };
    let mut node = Node::new(&Settings { decide_when_certain: true, ..settings(&[share]) });
    let spread = |n: u128| n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let spans: Vec<Span> = (1..=1_000).map(|n| span(spread(n), 1)).collect();
    node.insert(0, &spans);
    assert_eq!(node.sampler.pending_traces(), 0);
    assert_eq!(node.sampler.next_deadline_ns(), Some(0), "what is kept leaves now");
    node.decide(0);
    let kept = node.kept_traces();
    assert!(kept.len() > 400 && kept.len() < 600, "{}", kept.len());
    node.insert(1, &spans);
    assert_eq!(node.kept_traces(), kept);
    assert_eq!(node.kept.len(), 2 * kept.len(), "later spans pass through");
    assert_eq!(node.sampler.counters().early_spans_dropped, 1_000 - kept.len() as u64);
}

#[test]
fn a_giant_that_is_kept_says_in_its_first_span_that_it_was_decided_on_what_was_there() {
    let limits = Limits { giant_bytes: 1_000, ..Limits::default() };
    let sampler = Sampler::with_limits(&settings(&[Rule::AlwaysSample]), 11, FIRST_REASON, limits);
    let mut node = Node { sampler, out: Release::default(), kept: Vec::new() };
    let sized = |id| Span { bytes: contents(&Attributes::new(), "", 600), ..span(1, id) };
    node.insert(0, &[sized(1), sized(2), sized(3)]);
    node.decide(0);
    let attributes = node.kept.iter().map(|(kept, _)| {
        let decoded = proto::Span::decode(&*kept.bytes).expect("the mark is a field like any other");
        (kept.span_id, decoded.attributes.into_iter().map(|attribute| attribute.key).collect::<Vec<_>>())
    });
    let mut attributes: Vec<_> = attributes.collect();
    attributes.sort();
    assert_eq!(attributes, [(1, vec![b"tracegate.trace.cut".to_vec()]), (2, vec![]), (3, vec![])]);
}

/// The rules of a node change to these, all of whose policies have the number 0 or the next ones.
fn change(nodes: &mut [Node], rates: &mut SharedRates, from: &Settings, to: &Settings) {
    *rates = rates.following(from, to);
    let numbers: Vec<u16> = (0..to.policies.len() as u16).collect();
    for node in nodes {
        node.sampler.change_rules(Rulebook { settings: to, numbers: &numbers, rates });
    }
}

#[test]
fn another_number_of_traces_is_kept_at_once_by_all_shards_and_the_oldest_are_decided_never_thrown_away() {
    let limited = |traces_max| Settings { traces_max, ..settings(&[Rule::AlwaysSample]) };
    for before in [None, Some(100)] {
        let mut rates = SharedRates::new(&limited(before));
        let shard = |seed| {
            let sampler = Sampler::sharing(&limited(before), seed, FIRST_REASON, Limits::default(), &rates);
            Node { sampler, out: Release::default(), kept: Vec::new() }
        };
        let mut nodes = [shard(1), shard(2)];
        for id in 1..=20 {
            nodes[0].insert(id, &[span(id.into(), 1)]);
            nodes[1].insert(id, &[span(u128::from(id) + 100, 1)]);
        }
        change(&mut nodes, &mut rates, &limited(before), &limited(Some(6)));
        nodes[0].insert(30, &[span(30, 1)]);
        nodes.iter_mut().for_each(|node| node.decide(31));
        let pending: usize = nodes.iter().map(|node| node.sampler.pending_traces()).sum();
        assert_eq!(pending, 6, "before: {before:?}");
        let kept: Vec<u128> = nodes.iter().flat_map(|node| node.kept_traces()).collect();
        assert_eq!(kept.len(), 35, "what is too much is decided: {kept:?}");
        for node in &nodes {
            let mut oldest: Vec<u128> = node.kept.iter().map(|(span, _)| span.trace_id % 100).collect();
            assert!(oldest.is_sorted(), "the oldest first: {oldest:?}");
            oldest.dedup();
            assert!(oldest.iter().zip(1..).all(|(id, place)| *id == place || *id == 30), "{oldest:?}");
        }
        // And more than before again.
        change(&mut nodes, &mut rates, &limited(Some(6)), &limited(None));
        (50..90).for_each(|id| nodes[1].insert(40, &[span(id, 1)]));
        nodes.iter_mut().for_each(|node| node.decide(41));
        assert_eq!(nodes.iter().map(|node| node.sampler.pending_traces()).sum::<usize>(), 46);
        nodes.iter_mut().for_each(|node| node.decide(100 + WAIT));
        assert_eq!(nodes.iter().map(|node| node.kept_traces().len()).sum::<usize>(), 81, "nothing is lost");
    }
}

#[test]
fn a_lower_number_of_traces_stops_the_input_until_the_oldest_are_due_where_that_was_asked() {
    let limited = |traces_max| Settings {
        traces_max: Some(traces_max),
        block_on_overflow: true,
        ..settings(&[Rule::AlwaysSample])
    };
    let mut rates = SharedRates::new(&limited(10));
    let sampler = Sampler::sharing(&limited(10), 1, FIRST_REASON, Limits::default(), &rates);
    let mut nodes = [Node { sampler, out: Release::default(), kept: Vec::new() }];
    (0..8).for_each(|id| nodes[0].insert(id * SECOND, &[span(u128::from(id) + 1, 1)]));
    change(&mut nodes, &mut rates, &limited(10), &limited(3));
    let [node] = &mut nodes;
    let room = (8..20).map(|second| {
        node.decide(second * SECOND);
        (node.sampler.has_room(), node.sampler.pending_traces())
    });
    let room: Vec<_> = room.collect();
    assert!(room.iter().all(|(has_room, pending)| *has_room == (*pending < 3)), "{room:?}");
    assert_eq!(node.sampler.counters().traces_decided_early, 0);
    assert_eq!(node.kept_traces().len(), 8);
}

#[test]
fn decisions_outlive_a_change_of_their_memory() {
    let remembering = |traces: u64| Settings {
        kept_memory_bytes: Some(traces * BYTES_PER_KEPT as u64),
        dropped_memory_bytes: Some(traces * BYTES_PER_DROPPED as u64),
        ..settings(&[ERRORS])
    };
    for (before, after) in [(1_000, 50_000), (50_000, 1_000)] {
        let mut rates = SharedRates::new(&remembering(before));
        let mut nodes = [Node::new(&remembering(before))];
        (1..=100).for_each(|id| nodes[0].insert(0, &[if id % 2 == 0 { failed(id, 1) } else { span(id, 1) }]));
        nodes[0].decide(WAIT);
        change(&mut nodes, &mut rates, &remembering(before), &remembering(after));
        (1..=100).for_each(|id| nodes[0].insert(WAIT, &[span(id, 2)]));
        assert_eq!(nodes[0].sampler.pending_traces(), 0, "no late span begins a trace");
        let counters = nodes[0].sampler.counters();
        assert_eq!((counters.late_spans_kept, counters.late_spans_dropped), (50, 50));
    }
}

#[test]
fn late_spans_of_shed_traces_are_shed() {
    let shed = Some(Shedding { relief: Relief { from: 0.8, until: 0.7 }, probability_min: 0.5 });
    let stress_relief = StressRelief { shed, ..StressRelief::default() };
    let mut node = Node::new(&Settings { stress_relief, ..settings(&[ERRORS]) });
    let spread = |n: u128| n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let spans = |number| (1..=1_000).map(|n| span(spread(n), number)).collect::<Vec<_>>();
    // A half is shed while it waits, then the first span of another half.
    node.insert(0, &spans(1)[..500]);
    node.sampler.tell_pressure(0.8);
    node.decide(1);
    node.insert(2, &spans(1)[500..]);
    let shed = node.sampler.counters().spans_shed;
    assert!((400..600).contains(&shed), "{shed}");
    node.sampler.tell_pressure(0.1);
    node.insert(3, &spans(2));
    node.decide(20 * SECOND);
    node.insert(21 * SECOND, &spans(3));
    let counters = node.sampler.counters();
    assert_eq!(counters.spans_shed, 3 * shed, "each has two late ones");
    assert_eq!(counters.spans_dropped - counters.spans_shed, 3 * (1_000 - shed), "no policy wanted the others");
    assert_eq!(counters.late_spans_dropped, 1_000 - shed);
}
