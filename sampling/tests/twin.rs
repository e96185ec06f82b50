//! The sampler against a naive twin, in any order of operations.

#![allow(clippy::unwrap_used, reason = "the whole file is a test; clippy only knows the functions marked as such")]

mod common;

use std::collections::BTreeSet;

use codecs::otlp::proto::Value;
use codecs::otlp::{ByteRange, ScopeEntry};
use common::twin::{FIRST_REASON, Memory, PATTERNS, Twin};
use common::{ERRORS, SECOND, Span, contents, named, request, resource, settings, slower_than_ms, take, with_parent};
use proptest::prelude::*;
use sampling::settings::{AttributeTest, CompositePart, Number, Pattern, Rule, Settings};
use sampling::{Limits, Release, Sampler, Select};

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
    (0..14u128, 1..30u16, times, 0..3u8, any::<bool>(), sizes, contents_of, 0..3usize).prop_map(
        |(trace, span_id, (start_ms, end_ms), status, has_parent, size, (of_span, of_resource, state), scope)| Span {
            trace_id: trace.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835),
            span_id: u64::from(span_id),
            start_ns: start_ms * 1_000_000,
            end_ns: end_ms * 1_000_000,
            flags: u32::from(span_id) * 3,
            status: if status == 2 && size % 3 > 0 { 0 } else { status },
            kind: (span_id % 7) as u8,
            has_parent,
            bytes: with_parent(contents(&of_span, state, size), if has_parent { u64::from(span_id / 2) } else { 0 }),
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
    let waits = (prop::option::of(1..15_000u64), prop::option::of(1..8_000u64));
    (rules, limits, waits, any::<bool>(), prop::bool::weighted(0.1)).prop_map(
        |(rules, (traces_max, trace_bytes_max), (after_root_ms, quiet_ms), sample_on_first_match, in_drain)| {
            let drop_pending_in_drain = in_drain;
            Settings {
                complete_quiet_ns: quiet_ms.map(|ms| ms * 1_000_000),
                block_on_overflow: in_drain && sample_on_first_match,
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
    named: Vec<(u128, u16, bool)>,
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
        if self.twin.settings.complete_quiet_ns.is_none() {
            assert_eq!(self.sampler.next_deadline_ns(), self.twin.first().map(|id| self.twin.traces[&id].deadline_ns));
        }
    }

    fn take(&mut self) {
        self.named.extend(named(&self.out));
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
        memory in prop_oneof![Just(Memory::Little { kept_max: 3 }), Just(Memory::All)],
        giant_bytes in prop_oneof![1 => 1_000..300_000u64, 2 => Just(1 << 40)],
        hash_seed in any::<u64>(),
    ) {
        let limits = Limits { scopes_max, giant_bytes, ..Limits::default() };
        let mut settings = settings;
        memory.apply(&mut settings);
        let mut pair = Pair {
            sampler: Sampler::with_limits(&settings, hash_seed, FIRST_REASON, limits),
            twin: Twin::new(&settings, memory, giant_bytes),
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
