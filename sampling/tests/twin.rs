//! The sampler against a naive twin: a map of vectors that walks all spans of a trace to decide it.

#![allow(clippy::unwrap_used, reason = "the whole file is a test; clippy only knows the functions marked as such")]

mod common;

use std::collections::{BTreeSet, HashMap};

use codecs::otlp::proto::{self, KeyValue, Value};
use codecs::otlp::{ByteRange, ScopeEntry};
use common::{ERRORS, SECOND, Span, contents, request, resource, settings, slower_than_ms, take};
use proptest::prelude::*;
use prost::Message;
use sampling::counters::{Counters, Verdicts};
use sampling::settings::{AttributeTest, CompositePart, Number, Pattern, Rule, Settings};
use sampling::{Limits, Release, Sampler, Select};

const FIRST_REASON: u16 = 40;

/// What the sampler should do, without any of its structures.
struct Twin {
    settings: Settings,
    decisions_max: usize,
    now_ns: u64,
    arrivals: u64,
    traces: HashMap<u128, Pending>,
    /// With the number of the decision.
    decided: HashMap<u128, (Option<u16>, u64)>,
    kept: Vec<(Span, u16)>,
    /// Sampled traces in the order of their decisions, with their reasons.
    named: Vec<(u128, u16)>,
    counters: Counters,
    spent: Spent,
}

/// What policies with a rate have spent, by their place among the policies.
#[derive(Default)]
struct Spent {
    /// Token buckets: billionths of tokens left, and when.
    tokens: HashMap<String, (u128, u64)>,
    /// Spans of a second.
    windows: HashMap<String, (u64, u64)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Sampled(u16),
    NotSampled,
    Dropped,
}

struct Pending {
    spans: Vec<Span>,
    deadline_ns: u64,
    after_root: bool,
    /// Order among equal deadlines: of arrival, or of the root's arrival.
    order: u64,
}

impl Twin {
    fn new(settings: &Settings, decisions_max: usize) -> Self {
        let counters = Counters { policies: vec![Verdicts::default(); settings.policies.len()], ..Counters::default() };
        Self {
            settings: settings.clone(),
            decisions_max,
            now_ns: 0,
            arrivals: 0,
            traces: HashMap::new(),
            decided: HashMap::new(),
            kept: Vec::new(),
            named: Vec::new(),
            counters,
            spent: Spent::default(),
        }
    }

    fn insert(&mut self, span: &Span) {
        self.counters.spans_accepted += 1;
        if span.trace_id == 0 {
            match self.decide_spans(std::slice::from_ref(span), false) {
                Fate::Sampled(policy) => {
                    self.counters.idless_spans_kept += 1;
                    self.keep(span, policy);
                }
                Fate::NotSampled | Fate::Dropped => {
                    self.counters.idless_spans_dropped += 1;
                    self.counters.spans_dropped += 1;
                }
            }
            return;
        }
        if !self.traces.contains_key(&span.trace_id) {
            let decisions = self.counters.traces_decided();
            let is_remembered = |at: u64| decisions - at < self.decisions_max as u64;
            let decided = self.decided.get(&span.trace_id).filter(|(_, at)| is_remembered(*at));
            match decided.map(|(policy, _)| *policy) {
                Some(Some(policy)) => {
                    self.counters.late_spans_kept += 1;
                    return self.keep(span, policy);
                }
                Some(None) => {
                    self.counters.late_spans_dropped += 1;
                    self.counters.spans_dropped += 1;
                    return;
                }
                None => {}
            }
            if self.traces.len() >= self.settings.traces_max.map_or(usize::MAX, |traces| traces as usize) {
                self.counters.traces_decided_early += 1;
                let first = self.first().expect("a full twin has a trace");
                self.decide(first);
            }
            self.counters.traces_new += 1;
        }
        self.arrivals += 1;
        let pending = self.traces.entry(span.trace_id).or_insert(Pending {
            spans: Vec::new(),
            deadline_ns: self.now_ns + self.settings.decision_wait_ns,
            after_root: false,
            order: self.arrivals,
        });
        pending.spans.push(span.clone());
        if let Some(wait_ns) = self.settings.decision_wait_after_root_ns
            && !span.has_parent
            && !pending.after_root
            && self.now_ns + wait_ns < pending.deadline_ns
        {
            pending.deadline_ns = self.now_ns + wait_ns;
            pending.after_root = true;
            pending.order = self.arrivals;
        }
        let bytes: usize = pending.spans.iter().map(|span| span.bytes.len()).sum();
        if self.settings.trace_bytes_max.is_some_and(|bytes_max| bytes as u64 > bytes_max) {
            self.counters.traces_too_large += 1;
            self.drop_undecided(span.trace_id);
        }
    }

    fn drop_undecided(&mut self, id: u128) {
        let pending = self.traces.remove(&id).expect("only pending traces are dropped");
        self.counters.traces_not_sampled += 1;
        self.counters.spans_dropped += pending.spans.len() as u64;
        self.decided.insert(id, (None, self.counters.traces_decided()));
    }

    fn first(&self) -> Option<u128> {
        let key = |pending: &Pending| (pending.deadline_ns, pending.after_root, pending.order);
        self.traces.iter().min_by_key(|(_, pending)| key(pending)).map(|(id, _)| *id)
    }

    fn tick(&mut self, everything: bool) {
        while let Some(id) = self.first() {
            let pending = &self.traces[&id];
            if pending.deadline_ns <= self.now_ns {
                self.counters.traces_decided_after_root += u64::from(pending.after_root);
                let late_ns = self.now_ns - pending.deadline_ns;
                self.counters.lateness.max_ns = self.counters.lateness.max_ns.max(late_ns);
                let bucket = if late_ns == 0 { 0 } else { late_ns.ilog2() as usize + 1 };
                self.counters.lateness.buckets[bucket] += 1;
            } else if everything {
                self.counters.traces_decided_by_drain += 1;
            } else {
                break;
            }
            if everything && self.settings.drop_pending_in_drain {
                self.drop_undecided(id);
            } else {
                self.decide(id);
            }
        }
    }

    fn decide(&mut self, id: u128) {
        let pending = self.traces.remove(&id).expect("only pending traces are decided");
        let fate = self.decide_spans(&pending.spans, true);
        let mut kept_by = None;
        match fate {
            Fate::Sampled(policy) => {
                kept_by = Some(policy);
                self.counters.traces_sampled += 1;
                self.named.push((id, FIRST_REASON + policy));
                pending.spans.iter().for_each(|span| self.keep(span, policy));
            }
            Fate::NotSampled => self.counters.traces_not_sampled += 1,
            Fate::Dropped => self.counters.traces_dropped += 1,
        }
        if kept_by.is_none() {
            self.counters.spans_dropped += pending.spans.len() as u64;
        }
        self.decided.insert(id, (kept_by, self.counters.traces_decided()));
    }

    fn decide_spans(&mut self, spans: &[Span], count: bool) -> Fate {
        let mut fate = Fate::NotSampled;
        let policies = self.settings.policies.iter().enumerate();
        let (dry, policies): (Vec<_>, Vec<_>) =
            policies.partition(|(_, policy)| matches!(policy.rule, Rule::DryRun(_)));
        let (drops, others): (Vec<_>, Vec<_>) =
            policies.into_iter().partition(|(_, policy)| matches!(policy.rule, Rule::Drop(_)));
        for (position, policy) in dry.into_iter().chain(drops).chain(others) {
            let wanted = self.spent.samples(&policy.rule, &position.to_string(), spans, self.now_ns);
            let is_dry = matches!(policy.rule, Rule::DryRun(_));
            let drops = match &policy.rule {
                Rule::DryRun(rule) => matches!(**rule, Rule::Drop(_)),
                rule => matches!(rule, Rule::Drop(_)),
            };
            if count {
                let verdicts = &mut self.counters.policies[position];
                *match (wanted, drops) {
                    (true, true) => &mut verdicts.dropped,
                    (true, false) => &mut verdicts.sampled,
                    (false, _) => &mut verdicts.not_sampled,
                } += 1;
            }
            if is_dry {
                continue;
            }
            if wanted && drops {
                return Fate::Dropped;
            }
            if wanted && fate == Fate::NotSampled {
                fate = Fate::Sampled(position as u16);
                if self.settings.sample_on_first_match {
                    break;
                }
            }
        }
        fate
    }

    fn keep(&mut self, span: &Span, policy: u16) {
        self.counters.spans_kept += 1;
        self.kept.push((span.clone(), FIRST_REASON + policy));
    }
}

impl Spent {
    /// `place` names the rule among all.
    fn samples(&mut self, rule: &Rule, place: &str, spans: &[Span], now_ns: u64) -> bool {
        let all = |spent: &mut Self, rules: &[Rule]| {
            let mut rules = rules.iter().enumerate();
            rules.all(|(at, rule)| spent.samples(rule, &format!("{place}.{at}"), spans, now_ns))
        };
        match rule {
            Rule::And(rules) | Rule::Drop(rules) => all(self, rules),
            Rule::Not(rule) => !self.samples(rule, &format!("{place}.not"), spans, now_ns),
            Rule::DryRun(rule) => self.samples(rule, &format!("{place}.dry"), spans, now_ns),
            Rule::RateLimiting { spans_per_second, burst_spans } => {
                self.take_tokens(place, now_ns, *spans_per_second, *burst_spans, spans.len() as u64)
            }
            Rule::BytesLimiting { bytes_per_second, burst_bytes } => {
                let bytes: usize = spans.iter().map(|span| span.bytes.len()).sum();
                self.take_tokens(place, now_ns, *bytes_per_second, *burst_bytes, bytes as u64)
            }
            Rule::Composite { spans_per_second_max, parts } => {
                let wanting = parts
                    .iter()
                    .enumerate()
                    .find(|(at, part)| self.samples(&part.rule, &format!("{place}.{at}"), spans, now_ns));
                let Some((at, part)) = wanting else {
                    return false;
                };
                let second = now_ns / SECOND;
                let mut spent = |place: &str| {
                    let window = self.windows.entry(place.to_owned()).or_default();
                    if window.0 != second {
                        *window = (second, 0);
                    }
                    window.1
                };
                let (own_place, cost) = (format!("{place}.{at} spent"), spans.len() as u64);
                let fits = spent(&own_place) + cost <= part.spans_per_second.into()
                    && spent(place) + cost <= (*spans_per_second_max).into();
                if fits {
                    self.windows.entry(own_place).or_default().1 += cost;
                    self.windows.entry(place.to_owned()).or_default().1 += cost;
                }
                fits
            }
            rule => samples(rule, spans),
        }
    }

    /// Exact for rates that divide a billion.
    fn take_tokens(&mut self, place: &str, now_ns: u64, per_second: u64, burst: u64, cost: u64) -> bool {
        let full = u128::from(burst) * u128::from(SECOND);
        let (left, at_ns) = self.tokens.entry(place.to_owned()).or_insert((full, now_ns));
        *left = full.min(*left + u128::from(now_ns - *at_ns) * u128::from(per_second));
        *at_ns = now_ns;
        let cost = u128::from(cost) * u128::from(SECOND);
        let fits = cost <= *left;
        if fits {
            *left -= cost;
        }
        fits
    }
}

fn samples(rule: &Rule, spans: &[Span]) -> bool {
    let decoded = || spans.iter().map(|span| proto::Span::decode(&*span.bytes).expect("spans here are well-formed"));
    match rule {
        Rule::AlwaysSample => true,
        Rule::TraceFlags => spans.iter().any(|span| span.flags % 2 == 1),
        Rule::SpanCount { spans_min, spans_max } => {
            spans.len() >= *spans_min as usize && spans_max.is_none_or(|most| spans.len() <= most as usize)
        }
        Rule::TraceState { key, values } => decoded().any(|span| {
            let text = String::from_utf8(span.trace_state).unwrap();
            let members: Vec<_> = text.split(',').map(|member| member.trim().split_once('=')).collect();
            let is_wanted = |(found, value): (&str, &str)| found == key && values.iter().any(|wanted| wanted == value);
            members.iter().all(|member| member.is_some()) && members.into_iter().flatten().any(is_wanted)
        }),
        Rule::Attribute { key, test, invert_match } => {
            let passes = |attributes: &[KeyValue]| {
                let found = attributes.iter().find(|attribute| attribute.key == key.as_bytes());
                let value = found.and_then(|attribute| attribute.value.as_ref()?.value.as_ref());
                value.is_some_and(|value| passes(test, value))
            };
            let resource = |span: &Span| proto::ResourceSpans::decode(&*span.resource).unwrap().resource;
            let found = decoded().any(|span| passes(&span.attributes))
                || spans.iter().filter_map(resource).any(|resource| passes(&resource.attributes));
            found != *invert_match
        }
        Rule::StatusCode { ok, error, unset } => {
            spans.iter().any(|span| [*unset, *ok, *error][usize::from(span.status)])
        }
        Rule::Latency { threshold_ms, upper_threshold_ms } => {
            let starts = spans.iter().map(|span| span.start_ns).filter(|start_ns| *start_ns > 0);
            let Some(start_ns) = starts.min() else {
                return false;
            };
            let end_ns = spans.iter().map(|span| span.end_ns).max().unwrap_or(0);
            let duration_ms = (i128::from(end_ns) - i128::from(start_ns)).div_euclid(1_000_000);
            match upper_threshold_ms {
                None => duration_ms > i128::from(*threshold_ms),
                Some(upper) => duration_ms > i128::from(*threshold_ms) && duration_ms <= i128::from(*upper),
            }
        }
        Rule::Probabilistic { hash_salt, sampling_percentage } => {
            let id = spans[0].trace_id.to_be_bytes();
            let bytes = hash_salt.bytes().chain(id);
            let hash = bytes
                .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
            hash as f64 / u64::MAX as f64 <= sampling_percentage / 100.0
        }
        rule => unreachable!("{rule:?} has a rate or parts"),
    }
}

fn passes(test: &AttributeTest, value: &Value) -> bool {
    let double = |number: &Number| match number {
        Number::Int(number) => *number as f64,
        Number::Double(number) => *number,
    };
    let is_between = |number: f64, min: &Option<Number>, max: &Option<Number>| {
        min.as_ref().is_none_or(|min| double(min) <= number) && max.as_ref().is_none_or(|max| number <= double(max))
    };
    match (test, value) {
        (AttributeTest::Bool(wanted), Value::Bool(value)) => wanted == value,
        (AttributeTest::Number { min, max }, Value::Int(number)) => is_between(*number as f64, min, max),
        (AttributeTest::Number { min, max }, Value::Double(number)) => is_between(*number, min, max),
        (AttributeTest::Text(wanted), Value::String(text)) => {
            !text.is_empty() && wanted.iter().any(|wanted| wanted.as_bytes() == text)
        }
        (AttributeTest::Pattern(patterns), Value::String(text)) => {
            let text = String::from_utf8(text.clone()).unwrap();
            let is_found =
                |pattern: &Pattern| match PATTERNS.iter().find(|known| *pattern == Pattern::new(known).unwrap()) {
                    Some(&"^a") => text.starts_with('a'),
                    Some(&"b$") => text.ends_with('b'),
                    Some(&r"\d") => text.bytes().any(|byte| byte.is_ascii_digit()),
                    _ => panic!("the twin does not know this pattern"),
                };
            !text.is_empty() && patterns.iter().any(is_found)
        }
        _ => false,
    }
}

const PATTERNS: [&str; 3] = ["^a", "b$", r"\d"];
const KEYS: [&str; 3] = ["kind", "http.route", "kind.of"];

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        prop::sample::select(vec!["", "a", "ab", "b", "c1", "x"]).prop_map(|text| Value::String(text.into())),
        any::<bool>().prop_map(Value::Bool),
        (-2..3i64).prop_map(Value::Int),
        (-4..5i32).prop_map(|half| Value::Double(f64::from(half) / 2.0)),
    ]
}

fn any_attributes() -> impl Strategy<Value = common::Attributes> {
    let key = prop::sample::select(KEYS.to_vec()).prop_map(str::to_owned);
    prop::collection::vec((key, any_value()), 0..4)
}

fn any_question() -> impl Strategy<Value = Rule> {
    let texts = prop::sample::subsequence(vec!["", "a", "ab", "c1"], 1..4);
    let patterns = prop::sample::subsequence(PATTERNS.to_vec(), 1..3);
    let number = prop_oneof![
        (-2..3i64).prop_map(Number::Int),
        (-4..5i32).prop_map(|half| Number::Double(f64::from(half) / 2.0))
    ];
    let test = prop_oneof![
        texts.prop_map(|texts| AttributeTest::Text(texts.into_iter().map(str::to_owned).collect())),
        patterns
            .prop_map(|all| AttributeTest::Pattern(all.into_iter().map(|one| Pattern::new(one).unwrap()).collect())),
        (prop::option::of(number.clone()), prop::option::of(number))
            .prop_map(|(min, max)| AttributeTest::Number { min, max }),
        any::<bool>().prop_map(AttributeTest::Bool),
    ];
    let state = prop::sample::select(vec!["a", "b"]);
    prop_oneof![
        6 => (prop::sample::select(KEYS.to_vec()), test, any::<bool>()).prop_map(|(key, test, invert_match)| {
            Rule::Attribute { key: key.into(), test, invert_match }
        }),
        1 => state.prop_map(|key| Rule::TraceState { key: key.into(), values: vec!["1".into(), "2".into()] }),
        1 => Just(Rule::TraceFlags),
    ]
}

#[derive(Clone, Debug)]
enum Operation {
    /// A request, inserted in as many parts as there are owners named.
    Insert {
        spans: Vec<Span>,
        owners: Vec<u8>,
    },
    Wait {
        ms: u64,
    },
    Decide {
        spans_max: usize,
    },
    Drain {
        spans_max: usize,
    },
    Shrink,
}

fn any_span() -> impl Strategy<Value = Span> {
    let sizes = prop_oneof![8 => 0..600usize, 3 => 10_000..90_000usize, 1 => 260_000..300_000usize];
    let times = prop_oneof![1 => Just((0u64, 5u64)), 8 => (1..3_000u64, 1..3_000u64)];
    let states = prop::sample::select(vec!["", "", "a=1", "a=3, b=2", "b=1,a=2", "a=1,broken"]);
    let contents_of = (any_attributes(), any_attributes(), states);
    (0..14u128, any::<u16>(), times, 0..3u8, any::<bool>(), sizes, contents_of, 0..3usize).prop_map(
        |(trace, span_id, (start_ms, end_ms), status, has_parent, size, (of_span, of_resource, state), scope)| Span {
            trace_id: trace.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835),
            span_id: u64::from(span_id),
            start_ns: start_ms * 1_000_000,
            end_ns: end_ms * 1_000_000,
            flags: u32::from(span_id) * 3,
            status: if status == 2 && size % 3 > 0 { 0 } else { status },
            kind: (span_id % 7) as u8,
            has_parent,
            bytes: contents(&of_span, state, size),
            // Few different ones, so that some are interned.
            resource: resource(&of_resource.into_iter().take(usize::from(status)).take(1).collect()),
            scope: vec![b's'; scope * 20],
        },
    )
}

fn any_operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => (prop::collection::vec(any_span(), 0..90), prop::collection::vec(0..3u8, 0..90))
            .prop_map(|(spans, owners)| Operation::Insert { spans, owners }),
        4 => (0..8_000u64).prop_map(|ms| Operation::Wait { ms }),
        4 => (1..40usize).prop_map(|spans_max| Operation::Decide { spans_max }),
        1 => (1..40usize).prop_map(|spans_max| Operation::Drain { spans_max }),
        1 => Just(Operation::Shrink),
    ]
}

fn any_settings() -> impl Strategy<Value = Settings> {
    let leaf = prop_oneof![
        1 => Just(Rule::AlwaysSample),
        4 => Just(ERRORS),
        4 => (0..3_000u64).prop_map(slower_than_ms),
        2 => (0..1_500u64, 1..3_000u64).prop_map(|(threshold_ms, upper)| Rule::Latency {
            threshold_ms,
            upper_threshold_ms: Some(upper)
        }),
        4 => (0.0..100.0f64).prop_map(|sampling_percentage| Rule::Probabilistic {
            hash_salt: "salt".into(),
            sampling_percentage
        }),
        12 => any_question(),
        2 => (0..4u32, prop::option::of(2..8u32))
            .prop_map(|(spans_min, spans_max)| Rule::SpanCount { spans_min, spans_max }),
        3 => (prop::sample::select(vec![1u64, 2, 4, 5, 10]), 1..30u64)
            .prop_map(|(spans_per_second, burst_spans)| Rule::RateLimiting { spans_per_second, burst_spans }),
        2 => (prop::sample::select(vec![1_000u64, 50_000]), 1..300_000u64)
            .prop_map(|(bytes_per_second, burst_bytes)| Rule::BytesLimiting { bytes_per_second, burst_bytes }),
    ];
    let shared = leaf.clone();
    let not = shared.clone().prop_map(|rule| Rule::Not(Box::new(rule)));
    let and = prop::collection::vec(prop_oneof![3 => shared.clone(), 1 => not.clone()], 1..4).prop_map(Rule::And);
    let drop = prop::collection::vec(prop_oneof![3 => shared.clone(), 1 => not.clone()], 2..4).prop_map(Rule::Drop);
    let part = (prop_oneof![3 => shared, 1 => and.clone()], 0..20u32)
        .prop_map(|(rule, spans_per_second)| CompositePart { rule, spans_per_second });
    let composite = (prop::collection::vec(part, 1..4), 0..30u32)
        .prop_map(|(parts, spans_per_second_max)| Rule::Composite { spans_per_second_max, parts });
    let rule = prop_oneof![10 => leaf, 1 => not, 2 => and, 2 => drop, 2 => composite];
    let dry = rule.clone().prop_map(|rule| Rule::DryRun(Box::new(rule)));
    let rule = prop_oneof![9 => rule, 1 => dry];
    let rules = prop::collection::vec(rule, 1..5);
    let limits = (prop::option::of(1..10u32), prop::option::weighted(0.2, 1_000..400_000u64));
    (rules, limits, prop::option::of(1..15_000u64), any::<bool>(), prop::bool::weighted(0.1)).prop_map(
        |(rules, (traces_max, trace_bytes_max), after_root_ms, sample_on_first_match, drop_pending_in_drain)| {
            Settings {
                traces_max,
                trace_bytes_max,
                drop_pending_in_drain,
                decision_wait_after_root_ns: after_root_ms.map(|ms| ms * 1_000_000),
                sample_on_first_match,
                ..settings(&rules)
            }
        },
    )
}

struct Pair {
    sampler: Sampler,
    twin: Twin,
    out: Release,
    released: Vec<(Span, u16)>,
    named: Vec<(u128, u16)>,
    all_interned: bool,
}

impl Pair {
    fn run(&mut self, operation: &Operation) {
        match operation {
            Operation::Insert { spans, owners } => self.insert(spans, owners),
            Operation::Wait { ms } => self.twin.now_ns += ms * 1_000_000,
            Operation::Decide { spans_max } => self.decide(*spans_max, false),
            Operation::Drain { spans_max } => self.decide(*spans_max, true),
            Operation::Shrink => while self.sampler.shrink(self.twin.now_ns) {},
        }
        assert_eq!(self.sampler.pending_traces(), self.twin.traces.len());
        let pending = self.twin.traces.values().flat_map(|pending| &pending.spans);
        let live_bytes: usize = pending.map(|span| span.bytes.len()).sum();
        assert!(self.sampler.bytes_held() >= live_bytes);
    }

    fn insert(&mut self, spans: &[Span], owners: &[u8]) {
        let (index, segments) = request(spans);
        let owner_of = |position: usize| owners.get(position).copied().unwrap_or(0);
        let everything = (0..spans.len()).all(|position| owner_of(position) == 0);
        for owner in 0..3 {
            let mine: Vec<u32> =
                (0..spans.len()).filter(|position| owner_of(*position) == owner).map(|at| at as u32).collect();
            mine.iter().for_each(|position| self.twin.insert(&spans[*position as usize]));
            let select = if everything && owner == 0 { Select::All } else { Select::Some(&mine) };
            self.sampler.insert(self.twin.now_ns, &index, &segments, select, &mut self.out);
        }
        self.take();
    }

    fn decide(&mut self, spans_max: usize, everything: bool) {
        let now_ns = self.twin.now_ns;
        self.twin.tick(everything);
        loop {
            let before = self.sampler.counters().clone();
            let more = if everything {
                self.sampler.decide_all(now_ns, spans_max, &mut self.out)
            } else {
                self.sampler.decide_due(now_ns, spans_max, &mut self.out)
            };
            let after = self.sampler.counters();
            assert!(after.spans_kept - before.spans_kept <= spans_max as u64);
            if self.all_interned {
                self.assert_each_scope_appears_once();
            }
            self.take();
            if !more {
                break;
            }
        }
        self.released.sort();
        self.twin.kept.sort();
        assert!(self.released == self.twin.kept, "released other spans than the twin");
        assert_eq!(self.named, self.twin.named);
        self.released.clear();
        self.twin.kept.clear();
        assert_eq!(self.sampler.counters(), &self.twin.counters);
        let pending: usize = self.twin.traces.values().map(|pending| pending.spans.len()).sum();
        assert_eq!(self.sampler.pending_spans(), pending as u64);
        assert_eq!(self.sampler.next_deadline_ns(), self.twin.first().map(|id| self.twin.traces[&id].deadline_ns));
    }

    fn take(&mut self) {
        let traces = self.out.traces.iter().map(|trace| (u128::from_be_bytes(trace.trace_id.0), trace.reason));
        self.named.extend(traces);
        self.released.extend(take(&mut self.out));
    }

    /// Of a release of decided traces; late spans may name a scope that was freed and interned again meanwhile.
    fn assert_each_scope_appears_once(&self) {
        let index = &self.out.index;
        let bytes = |range: ByteRange| &index.envelopes[range.start as usize..range.end as usize];
        let resource = |scope: &ScopeEntry| bytes(index.resources[scope.resource as usize]);
        let scopes: BTreeSet<_> = index.scopes.iter().map(|scope| (resource(scope), bytes(scope.envelope))).collect();
        assert_eq!(scopes.len(), index.scopes.len());
        let resources: BTreeSet<_> = index.resources.iter().map(|resource| bytes(*resource)).collect();
        assert_eq!(resources.len(), index.resources.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, max_shrink_iters: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn any_operations_keep_count_and_release_what_the_naive_twin_does(
        settings in any_settings(),
        operations in prop::collection::vec(any_operation(), 1..40),
        scopes_max in prop_oneof![Just(2usize), Just(65_536)],
        decisions_max in prop_oneof![Just(3usize), Just(1_000)],
        hash_seed in any::<u64>(),
    ) {
        let limits = Limits { scopes_max, decisions_max };
        let mut pair = Pair {
            sampler: Sampler::with_limits(&settings, hash_seed, FIRST_REASON, limits),
            twin: Twin::new(&settings, decisions_max),
            out: Release::default(),
            released: Vec::new(),
            named: Vec::new(),
            all_interned: scopes_max > 9,
        };
        pair.twin.now_ns = SECOND;
        operations.iter().for_each(|operation| pair.run(operation));
        pair.run(&Operation::Drain { spans_max: 7 });
        prop_assert_eq!(pair.sampler.pending_spans(), 0);
        prop_assert_eq!(pair.sampler.pending_traces(), 0);
    }
}
