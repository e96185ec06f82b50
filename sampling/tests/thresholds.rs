//! What kept spans say they stand for: thresholds and randomness in their trace states, for every kind of policy.

#![allow(clippy::unwrap_used, reason = "the whole file is a test; clippy only knows the functions marked as such")]

mod common;

use std::collections::BTreeMap;

use codecs::otlp::attributes::Value as Read;
use codecs::otlp::proto::Value;
use codecs::otlp::{span_attributes, span_trace_state};
use common::{ERRORS, SECOND, Span, contents, request, settings, slower_than_ms, span, take};
use sampling::consistent::{Randomness, TraceState};
use sampling::settings::{CompositePart, Goal, Relief, Rule, Settings, Shedding, StressRelief};
use sampling::{Limits, Release, Sampler, Select, SharedRates};

/// Samplers that share their rates, as shards do; traces belong to one of them by their id.
struct Node {
    samplers: Vec<Sampler>,
    out: Release,
}

impl Node {
    fn new(settings: &Settings, shards: u64) -> Self {
        let rates = SharedRates::new(settings);
        let sampler = |shard| Sampler::sharing(settings, shard + 1, 0, Limits::default(), &rates);
        Self { samplers: (0..shards).map(sampler).collect(), out: Release::default() }
    }

    fn insert(&mut self, now_ns: u64, spans: &[Span]) -> Vec<Span> {
        let shards = self.samplers.len();
        let mut kept = Vec::new();
        for (shard, sampler) in self.samplers.iter_mut().enumerate() {
            let own = spans.iter().filter(|span| span.trace_id as usize % shards == shard).cloned();
            let (index, segments) = request(&own.collect::<Vec<_>>());
            sampler.insert(now_ns, &index, &segments, Select::All, &mut self.out);
            kept.extend(take(&mut self.out).into_iter().map(|(span, _)| span));
        }
        kept
    }

    fn press(&mut self, pressure: f64) {
        self.samplers.iter_mut().for_each(|sampler| sampler.tell_pressure(pressure));
    }

    fn decide(&mut self, now_ns: u64) -> Vec<Span> {
        let mut kept = Vec::new();
        for sampler in &mut self.samplers {
            loop {
                let more = sampler.decide_due(now_ns, 1_000, &mut self.out);
                kept.extend(take(&mut self.out).into_iter().map(|(span, _)| span));
                if !more {
                    break;
                }
            }
        }
        kept
    }
}

fn weighing(rules: &[Rule]) -> Settings {
    Settings { write_threshold: true, ..settings(rules) }
}

fn probabilistic(sampling_percentage: f64) -> Rule {
    Rule::Probabilistic { hash_salt: String::new(), sampling_percentage }
}

fn with_state(trace_id: u128, state: &str) -> Span {
    Span { bytes: contents(&Vec::new(), state, 10), ..span(trace_id, 1) }
}

fn state_of(span: &Span) -> String {
    String::from_utf8(span_trace_state(&span.bytes).to_vec()).unwrap()
}

/// What a span stands for.
fn adjusted_count(span: &Span) -> f64 {
    let state = TraceState::read(span_trace_state(&span.bytes)).unwrap();
    let threshold = state.threshold().expect("a kept span has a threshold");
    let id = codecs::otlp::TraceId(span.trace_id.to_be_bytes());
    let randomness = state.randomness().unwrap_or(Randomness::of_trace_id(&id));
    assert!(threshold.admits(randomness), "a kept span reaches its threshold");
    1.0 / threshold.probability()
}

/// The trace states that the spans of one trace leave with; nothing if it is not kept.
fn check(rules: &[Rule], spans: &[Span], expected: &[&str]) {
    let mut node = Node::new(&weighing(rules), 1);
    node.insert(SECOND, spans);
    let mut left: Vec<String> = node.decide(20 * SECOND).iter().map(state_of).collect();
    left.sort();
    assert_eq!(left, expected, "{rules:?}");
}

// The Collector's hash of trace 1 is e19535eed1bbaa8a, so its randomness is what is left above it: 1e6aca112e4455.
const RV: &str = "ot=rv:1e6aca112e4455";

#[test]
fn a_policy_about_contents_gives_0_and_chance_its_threshold() {
    let error = Span { status: 2, ..with_state(1, "") };
    check(&[ERRORS], std::slice::from_ref(&error), &[&format!("{RV};th:0")]);
    check(&[ERRORS, probabilistic(90.0)], &[error], &[&format!("{RV};th:0")]);
    let plain = with_state(1, "");
    check(&[ERRORS, probabilistic(90.0)], std::slice::from_ref(&plain), &[&format!("{RV};th:19999999999998")]);
    check(&[ERRORS, probabilistic(88.11)], std::slice::from_ref(&plain), &[]);
    check(
        &[probabilistic(90.0), probabilistic(95.0)],
        std::slice::from_ref(&plain),
        &[&format!("{RV};th:0cccccccccccd")],
    );
    check(
        &[Rule::And(vec![probabilistic(90.0), probabilistic(95.0)])],
        std::slice::from_ref(&plain),
        &[&format!("{RV};th:19999999999998")],
    );
    // Below its limit everything is kept.
    check(&[Rule::RateLimiting { spans_per_second: 10, burst_spans: 20 }], &[plain], &[&format!("{RV};th:0")]);
}

#[test]
fn what_arrived_is_honoured_and_no_threshold_is_lowered() {
    // The trace's randomness is the one that a span carries, on all its spans.
    let carried = "ot=rv:f0000000000000";
    let spans = [with_state(1, carried), Span { span_id: 2, ..with_state(1, "vendor=x") }];
    check(
        &[probabilistic(10.0)],
        &spans,
        &[&format!("{carried};th:e6666666666666"), &format!("{carried};th:e6666666666666,vendor=x")],
    );
    check(&[probabilistic(6.0)], &spans, &[]);
    // A threshold that arrived stays where it is greater.
    check(&[probabilistic(50.0)], &[with_state(1, "ot=rv:f0000000000000;th:e")], &["ot=rv:f0000000000000;th:e"]);
    check(
        &[slower_than_ms(0), ERRORS, Rule::AlwaysSample],
        &[with_state(1, "ot=rv:f0000000000000;th:E")],
        &["ot=rv:f0000000000000;th:E"],
    );
    // Without randomness it was compared with the trace id's, which nobody has to write.
    check(&[Rule::AlwaysSample], &[with_state(0xf0_0000_0000_0000, "ot=th:8")], &["ot=th:8"]);
    check(&[probabilistic(25.0)], &[with_state(0xf0_0000_0000_0000, "ot=th:8")], &["ot=th:c"]);
    // One that cannot be true does not count, and what is malformed stays as it came.
    check(&[Rule::AlwaysSample], &[with_state(1, "ot=rv:10000000000000;th:8")], &["ot=rv:10000000000000;th:0"]);
    check(&[Rule::AlwaysSample], &[with_state(1, "ot=th:x")], &["ot=th:x"]);
}

#[test]
fn late_spans_carry_the_threshold_of_their_trace() {
    let mut node = Node::new(&weighing(&[probabilistic(90.0)]), 1);
    node.insert(0, &[with_state(1, "ot=rv:f0000000000000")]);
    let kept = node.decide(20 * SECOND);
    let late = node.insert(21 * SECOND, &[Span { span_id: 2, ..with_state(1, "") }]);
    assert_eq!(
        kept.iter().chain(&late).map(state_of).collect::<Vec<_>>(),
        ["ot=rv:f0000000000000;th:19999999999998"; 2]
    );
}

#[test]
fn spans_without_a_trace_id_have_a_threshold_only_where_it_is_known() {
    let mut node = Node::new(&weighing(&[ERRORS, probabilistic(99.9)]), 1);
    let error = node.insert(0, &[Span { status: 2, ..with_state(0, "") }]);
    assert_eq!(state_of(&error[0]), "ot=th:0");
    let explicit = node.insert(0, &[with_state(0, "ot=rv:f0000000000000")]);
    assert!(state_of(&explicit[0]).starts_with("ot=rv:f0000000000000;th:0"));
    for span in node.insert(0, &[with_state(0, "")]) {
        assert_eq!(state_of(&span), "");
    }
}

#[test]
fn the_root_span_tells_the_reason_and_no_other_changes() {
    let settings = Settings { write_reason: true, ..settings(&[probabilistic(0.0), ERRORS]) };
    let mut node = Node::new(&settings, 1);
    let child = Span { status: 2, ..with_state(1, "a=1") };
    let root = Span { span_id: 2, has_parent: false, ..with_state(1, "a=1") };
    node.insert(0, &[child.clone(), root]);
    let kept = node.decide(20 * SECOND);
    assert_eq!(kept[0], child);
    let attributes: Vec<_> =
        span_attributes(&kept[1].bytes).map(|found| (found.key.to_vec(), Read::read(found.value))).collect();
    assert_eq!(
        attributes,
        [
            (b"tailsampling.policy".to_vec(), Read::String(b"policy 1")),
            (b"tailsampling.reason".to_vec(), Read::String(b"status_code")),
        ]
    );
    assert_eq!(state_of(&kept[1]), "a=1");
}

/// Randomness that fills its range evenly, so that chance itself makes next to no error: multiples of the golden ratio.
fn even(number: u64) -> String {
    format!("ot=rv:{:014x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8)
}

fn keyed(goal: Goal) -> Rule {
    Rule::Dynamic { goal, keys: vec!["route".into()], interval_ns: 5 * SECOND, keys_max: 100 }
}

/// What came of a route, what its kept spans say came, and what was kept.
type Counts = BTreeMap<&'static str, (f64, f64, f64)>;

/// Traces that arrive together, and are decided before others arrive.
const TOGETHER: u64 = 32;

/// `per_second` traces for `seconds`, on four shards: one in a hundred has a rare route, one in twenty an error.
fn counted(settings: &Settings, shards: u64, seconds: u64, per_second: u64, state: fn(u64) -> String) -> Counts {
    let mut node = Node::new(&Settings { decision_wait_ns: SECOND / 100, ..settings.clone() }, shards);
    let mut counts = Counts::new();
    for first in (0..seconds * per_second).step_by(TOGETHER as usize) {
        let now_ns = first * SECOND / per_second;
        let traces = first..first + TOGETHER;
        for number in traces.clone() {
            counts.entry(route_of(number)).or_default().0 += 1.0;
        }
        node.insert(now_ns, &traces.flat_map(|number| trace(number, &state(number))).collect::<Vec<_>>());
        for span in node.decide(now_ns + SECOND / 100).iter().filter(|span| span.span_id == 1) {
            let counts = counts.get_mut(route_of((span.trace_id >> 96) as u64)).unwrap();
            counts.1 += if settings.write_threshold { adjusted_count(span) } else { 1.0 };
            counts.2 += 1.0;
        }
    }
    counts
}

fn route_of(number: u64) -> &'static str {
    match number % 100 {
        0 => "rare",
        1..=9 => "some",
        _ => "many",
    }
}

/// One or two spans.
fn trace(number: u64, state: &str) -> Vec<Span> {
    let attributes = vec![("route".to_owned(), Value::String(route_of(number).into()))];
    let bytes = contents(&attributes, state, 5);
    let status = if number % 20 == 3 { 2 } else { 0 };
    // As senders draw it: the hash of the policies does not mix what only counts up.
    let random = |number: u64| u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15).swap_bytes());
    let trace_id = u128::from(number) << 96 | random(number ^ 0x5555) << 32 | random(number + 1) >> 32;
    let span = |n| Span { bytes: bytes.clone(), status, ..span(trace_id, n) };
    (1..=1 + number % 2).map(span).collect()
}

/// The decisions' own arithmetic is held to a tighter bound where it is written; here they pass through all of a sampler.
#[test]
fn what_kept_spans_say_adds_up_to_what_came() {
    let part = |rule, spans_per_second| CompositePart { rule, spans_per_second };
    for rules in [
        vec![ERRORS, probabilistic(50.0)],
        vec![ERRORS, Rule::RateLimiting { spans_per_second: 500, burst_spans: 1_000 }],
        vec![Rule::BytesLimiting { bytes_per_second: 20_000, burst_bytes: 40_000 }],
        vec![Rule::Composite {
            spans_per_second_max: 700,
            parts: vec![part(ERRORS, 100), part(Rule::AlwaysSample, 600)],
        }],
        vec![keyed(Goal::OneOf(3.0))],
        vec![keyed(Goal::SpansPerSecond(500.0)), ERRORS],
    ] {
        let counts = counted(&weighing(&rules), 4, 10, 1_000, even);
        let sum = |of: fn(&(f64, f64, f64)) -> f64| counts.values().map(of).sum::<f64>();
        let (came, adjusted, kept) = (sum(|counts| counts.0), sum(|counts| counts.1), sum(|counts| counts.2));
        assert!(kept < 0.8 * came, "something is left out: {rules:?} {counts:?}");
        assert!((adjusted / came - 1.0).abs() < 0.03, "{rules:?}: {came} came, {adjusted} are told: {counts:?}");
    }
}

/// Traces arrive under one pressure, are pending under another, and are decided under a third.
#[test]
fn what_shedding_leaves_says_what_it_stands_for() {
    let relief = Relief { from: 0.9, until: 0.88 };
    let shed = Some(Shedding { relief, probability_min: 0.125 });
    for (rules, late_error) in [
        (vec![Rule::AlwaysSample], false),
        (vec![ERRORS, probabilistic(50.0)], false),
        (vec![ERRORS, probabilistic(50.0)], true),
        (vec![keyed(Goal::OneOf(3.0))], false),
    ] {
        let stress_relief = StressRelief { shed, ..StressRelief::default() };
        let mut node = Node::new(&Settings { stress_relief, ..weighing(&rules) }, 2);
        let pressures = [0.5, 0.9, 0.94, 0.97, 0.92, 0.99, 0.6, 0.93];
        let press = |node: &mut Node, at: u64| node.press(pressures[at as usize % pressures.len()]);
        // All, and of those with errors: came, are told, were kept.
        let (mut all, mut errors) = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0));
        for round in 0..400u64 {
            let now_ns = round * 20 * SECOND;
            press(&mut node, round);
            let traces = (0..32).map(|n| trace(round * 32 + n, &even(round * 32 + n)));
            let (mut first, mut second) = (Vec::new(), Vec::new());
            for mut spans in traces {
                all.0 += 1.0;
                let has_error = spans[0].status == 2;
                errors.0 += f64::from(u8::from(has_error));
                if late_error {
                    // What fails comes as a second span, when others of its trace may have been shed.
                    second.push(Span { span_id: 9, ..spans[0].clone() });
                    spans.iter_mut().for_each(|span| span.status = 0);
                }
                first.extend(spans);
            }
            node.insert(now_ns, &first);
            press(&mut node, round / 8 + round);
            let mut kept = node.decide(now_ns + SECOND);
            kept.extend(node.insert(now_ns + SECOND, &second));
            press(&mut node, round / 3);
            kept.extend(node.decide(now_ns + 11 * SECOND));
            for span in kept.iter().filter(|span| span.span_id == 1) {
                let told = adjusted_count(span);
                (all.1, all.2) = (all.1 + told, all.2 + 1.0);
                let number = (span.trace_id >> 96) as u64;
                if number % 20 == 3 {
                    (errors.1, errors.2) = (errors.1 + told, errors.2 + 1.0);
                }
            }
        }
        let shed: u64 = node.samplers.iter().map(|sampler| sampler.counters().traces_shed).sum();
        assert!(shed as f64 > 0.2 * all.0, "{rules:?}: {shed} of {} are shed", all.0);
        assert!((all.1 / all.0 - 1.0).abs() < 0.03, "{rules:?}: {all:?}");
        assert!((errors.1 / errors.0 - 1.0).abs() < 0.12, "{rules:?}, errors: {errors:?}");
        if !late_error && rules.contains(&ERRORS) {
            assert!(errors.2 / errors.0 > 1.5 * all.2 / all.0, "errors are shed last: {errors:?} {all:?}");
        }
    }
}

#[test]
fn randomness_from_the_policies_hash_is_as_good_as_chance() {
    let counts = counted(&weighing(&[probabilistic(20.0)]), 1, 8, 1_000, |_| String::new());
    let (came, adjusted): (f64, f64) =
        counts.values().fold((0.0, 0.0), |(came, adjusted), counts| (came + counts.0, adjusted + counts.1));
    // Four standard deviations of the number that is kept.
    let spread = 4.0 * (came * 0.2 * 0.8).sqrt() / 0.2;
    assert!((adjusted - came).abs() < spread, "{came} came, {adjusted} say those that were kept");
}

#[test]
fn a_goal_of_one_in_ten_keeps_rare_keys_whole() {
    let counts = counted(&settings(&[keyed(Goal::OneOf(10.0))]), 4, 40, 256, |_| String::new());
    let share = |route| counts[route].2 / counts[route].0;
    assert!(share("rare") > 0.9, "{counts:?}");
    assert!(share("many") < 0.1, "{counts:?}");
    let (came, kept) = counts.values().fold((0.0, 0.0), |sums, counts| (sums.0 + counts.0, sums.1 + counts.2));
    assert!((0.08..0.12).contains(&(kept / came)), "one in ten: {counts:?}");
}

#[test]
fn one_span_a_second_is_one_span_a_second_on_four_shards() {
    let seconds = 200;
    for shards in [1, 4] {
        for write_threshold in [false, true] {
            let settings = Settings { write_threshold, ..settings(&[keyed(Goal::SpansPerSecond(1.0))]) };
            let counts = counted(&settings, shards, seconds, 32, |_| String::new());
            // Traces have one span or two.
            let kept: f64 = counts.values().map(|counts| counts.2 * 1.5).sum();
            let goal = seconds as f64;
            assert!((0.75 * goal..1.25 * goal).contains(&kept), "{shards} shards, {write_threshold}: {counts:?}");
            let share = |route| counts[route].2 / counts[route].0;
            assert!(share("rare") > 10.0 * share("many"), "the rare route is there: {counts:?}");
        }
    }
}
