//! Nanoseconds per span of the two things a sampler does all day: insert, and decide.
//!
//! `cargo bench -p sampling [-- PENDING_TRACES]`. Spans of 370 bytes, 512 a request, 8 a trace; a trace is spread over
//! 4 requests, a few requests apart. The table is filled, then every measured round inserts as many traces as it
//! decides, so that memory is warm and the number of pending traces stays. Figures are medians over
//! groups of requests, and in brackets what one group in ten stays under: a machine with other work shows the second. 1 % of the traces have an error and are kept.
//!
//! The last run has ten policies, most of them about attributes: what they cost beyond the other runs is `insert`; a
//! decision is to take less than 300 ns a trace, 37 ns for each of its spans.

use std::time::{Duration, Instant};

use bytes::Bytes;
use codecs::otlp::proto::{AnyValue, KeyValue, Span, Value};
use codecs::otlp::{ByteRange, ScopeEntry, SpanIndex, SpanItem, SpanKind, StatusCode, TraceId};
use prost::Message;
use sampling::settings::{AttributeTest, Number, Pattern, Policy, Rule, Settings};
use sampling::{Release, Sampler, Select};

const SPAN_BYTES: usize = 370;
const SPANS_PER_REQUEST: usize = 512;
const SPANS_PER_TRACE: usize = 8;
const REQUESTS_PER_TRACE: usize = 4;
/// Consecutive spans of one trace in a request.
const SPANS_TOGETHER: usize = SPANS_PER_TRACE / REQUESTS_PER_TRACE;
const SERVICES: usize = 4;
/// A group of requests holds whole traces: each of its requests a part of every trace.
const TRACES_PER_GROUP: usize = SPANS_PER_REQUEST / SPANS_TOGETHER;
const ROUNDS: usize = 3;

/// Requests whose trace ids are written anew for each use.
struct Load {
    requests: Vec<SpanIndex>,
    segments: Vec<Bytes>,
    traces: u64,
}

impl Load {
    fn new() -> Self {
        let span = span();
        let attributes_at = SpanItem::of_message(&span).expect("a span message").attributes_at;
        let index = |service: usize| {
            let mut index = SpanIndex { envelopes: vec![b'a' + service as u8; 400], ..SpanIndex::default() };
            index.resources.push(ByteRange { start: 0, end: 340 });
            index.scopes.push(ScopeEntry { resource: 0, envelope: ByteRange { start: 340, end: 400 } });
            for position in 0..SPANS_PER_REQUEST {
                index.items.push(SpanItem {
                    span_id: [7; 8],
                    start_ns: 1_000_000_000,
                    end_ns: 1_002_000_000,
                    offset: (position * (SPAN_BYTES + 3) + 3) as u32,
                    length: SPAN_BYTES as u32,
                    kind: SpanKind(2),
                    has_parent: position % SPANS_TOGETHER != 0,
                    attributes_at,
                    ..SpanItem::default()
                });
            }
            index
        };
        Self {
            requests: (0..SERVICES).map(index).collect(),
            segments: vec![Bytes::from([b"tag".as_slice(), &span].concat().repeat(SPANS_PER_REQUEST))],
            traces: 0,
        }
    }

    /// Makes the next group's requests, one of each service.
    fn next_group(&mut self) {
        for request in &mut self.requests {
            for (position, span) in request.items.iter_mut().enumerate() {
                let trace = self.traces + (position / SPANS_TOGETHER) as u64;
                let id = u128::from(mix(trace)) << 64 | u128::from(mix(!trace));
                span.trace_id = TraceId(id.to_be_bytes());
                span.status = if trace.is_multiple_of(100) { StatusCode::Error } else { StatusCode::Unset };
            }
        }
        self.traces += TRACES_PER_GROUP as u64;
    }
}

/// A span message of [`SPAN_BYTES`] with eight attributes, as a server's.
fn span() -> Vec<u8> {
    let text = |value: &str| Value::String(value.into());
    let attributes = [
        ("http.request.method", text("GET")),
        ("http.route", text("/api/v1/products/{id}")),
        ("url.path", text("/api/v1/products/271828")),
        ("url.scheme", text("https")),
        ("http.response.status_code", Value::Int(200)),
        ("network.peer.address", text("10.4.7.19")),
        ("app.tenant", text("initech")),
        ("thread.id", Value::Int(31)),
    ];
    let key_value = |(key, value): (&str, Value)| KeyValue {
        key: key.as_bytes().to_vec(),
        value: Some(AnyValue { value: Some(value) }),
    };
    let mut span = Span { attributes: attributes.map(key_value).to_vec(), ..Span::default() };
    while span.encoded_len() < SPAN_BYTES {
        let missing = SPAN_BYTES - span.encoded_len();
        // The field's tag and length come with its first byte.
        span.name.resize(span.name.len() + missing.saturating_sub(3).max(1), b'n');
    }
    assert_eq!(span.encoded_len(), SPAN_BYTES);
    span.encode_to_vec()
}

/// Four texts with one pattern, two numbers, duration, status, chance and a rate.
fn ten() -> Vec<Rule> {
    let attribute = |key: &str, test| Rule::Attribute { key: key.into(), test, invert_match: false };
    let text = |key: &str, value: &str| attribute(key, AttributeTest::Text(vec![value.into()]));
    let pattern = Pattern::new("^/api/v[0-9]+/orders").expect("a pattern");
    let at_least =
        |key: &str, least| attribute(key, AttributeTest::Number { min: Some(Number::Int(least)), max: None });
    vec![
        text("http.route", "/admin"),
        attribute("url.path", AttributeTest::Pattern(vec![pattern])),
        text("app.tenant", "acme"),
        text("service.name", "payment"),
        at_least("http.response.status_code", 500),
        at_least("db.response.returned_rows", 10_000),
        slow(),
        error(),
        share(),
        Rule::RateLimiting { spans_per_second: 10, burst_spans: 20 },
    ]
}

fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

/// Time of each group of requests, so that a median can leave out those in which others had the core.
#[derive(Default)]
struct Spent {
    insert: Vec<Duration>,
    decide: Vec<Duration>,
}

fn main() {
    let pending: u64 = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(500_000);
    let runs =
        [("errors", vec![error()]), ("errors, slow, 1 %", vec![error(), slow(), share()]), ("ten policies", ten())];
    for (name, rules) in runs {
        run(name, pending, rules);
    }
}

fn run(name: &str, pending: u64, rules: Vec<Rule>) {
    let policies = rules.into_iter().map(|rule| Policy { name: format!("{rule:?}"), rule });
    let settings = Settings {
        decision_wait_ns: pending,
        decide_when_certain: true,
        policies: policies.collect(),
        ..Settings::default()
    };
    let mut sampler = Sampler::new(&settings, 0x5eed, 1);
    let mut load = Load::new();
    let mut out = Release::default();
    println!("{name}: {pending} pending traces of {SPANS_PER_TRACE} spans, {SPAN_BYTES} bytes a span");
    let mut fill = step(&mut sampler, &mut load, &mut out, pending);
    print_line("fill, memory new", &mut fill, &sampler);
    for round in 0..ROUNDS {
        let mut spent = step(&mut sampler, &mut load, &mut out, pending);
        print_line(&format!("round {round}, memory warm"), &mut spent, &sampler);
    }
}

/// Inserts `traces` traces; time is the number of traces begun, so a trace is decided when `pending` others came.
fn step(sampler: &mut Sampler, load: &mut Load, out: &mut Release, traces: u64) -> Spent {
    let mut spent = Spent::default();
    for _ in 0..traces / TRACES_PER_GROUP as u64 {
        load.next_group();
        let now_ns = load.traces;
        let (mut insert, mut decide) = (Duration::ZERO, Duration::ZERO);
        for request in &load.requests {
            let start = Instant::now();
            sampler.insert(now_ns, request, &load.segments, Select::All, out);
            insert += start.elapsed();
            let start = Instant::now();
            while sampler.decide_due(now_ns, 1_024, out) {
                out.clear();
            }
            out.clear();
            decide += start.elapsed();
        }
        spent.insert.push(insert);
        spent.decide.push(decide);
    }
    spent
}

fn print_line(name: &str, spent: &mut Spent, sampler: &Sampler) {
    println!(
        "  {name:<22} insert {:5.1} ({:5.1})   decide {:5.1} ({:5.1}) ns/span   {} pending, {} MiB held, {} kept",
        per_span(&mut spent.insert, 2),
        per_span(&mut spent.insert, 10),
        per_span(&mut spent.decide, 2),
        per_span(&mut spent.decide, 10),
        sampler.pending_traces(),
        sampler.bytes_held() >> 20,
        sampler.counters().spans_kept,
    );
}

/// The smallest time that one group in `part` stays under.
fn per_span(groups: &mut [Duration], part: usize) -> f64 {
    groups.sort_unstable();
    groups[groups.len() / part].as_nanos() as f64 / (TRACES_PER_GROUP * SPANS_PER_TRACE) as f64
}

fn error() -> Rule {
    Rule::StatusCode { ok: false, error: true, unset: false }
}

fn slow() -> Rule {
    Rule::Latency { threshold_ms: 2_000, upper_threshold_ms: None }
}

fn share() -> Rule {
    Rule::Probabilistic { hash_salt: String::new(), sampling_percentage: 1.0 }
}
