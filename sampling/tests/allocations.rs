//! No allocation per span: once warm, a sampler inserts, decides and releases with the memory it has. And what it says it
//! holds is what it holds.

// A global allocator can only be counted by implementing an unsafe trait; it does nothing but forward and count.
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "the whole file is a test; clippy only knows the functions marked as such")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use codecs::otlp::TraceId;
use codecs::otlp::proto::Value;
use common::{Attributes, ERRORS, SECOND, Span, contents, request, settings, slower_than_ms, span};
use sampling::settings::{AttributeTest, Number, Pattern, Rule, Settings};
use sampling::{Release, Sampler, Select};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    /// Bytes allocated and not freed.
    static LIVE_BYTES: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is forwarded unchanged to the system allocator, which keeps the contract of the trait; counting
// touches a thread-local cell without a destructor and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        LIVE_BYTES.set(LIVE_BYTES.get().wrapping_add(layout.size()));
        // SAFETY: the caller's obligations are those of `System.alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // Another thread may have allocated it.
        LIVE_BYTES.set(LIVE_BYTES.get().wrapping_sub(layout.size()));
        // SAFETY: the pointer came from `System`, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        LIVE_BYTES.set(LIVE_BYTES.get().wrapping_sub(layout.size()).wrapping_add(size));
        // SAFETY: the pointer came from `System`, with this layout, and the caller promises the size.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_warm_sampler_does_not_allocate() {
    check(&settings(&[ERRORS, slower_than_ms(100)]));
}

#[test]
fn one_that_decides_early_does_not_either() {
    let rules = [ERRORS, slower_than_ms(100)];
    check(&Settings { decide_when_certain: true, complete_quiet_ns: Some(SECOND), ..settings(&rules) });
}

/// Four texts with one pattern, two numbers, duration, status, chance and a rate.
fn ten_policies() -> Settings {
    let pattern = AttributeTest::Pattern(vec![Pattern::new("^/api/v[0-9]+/orders").unwrap()]);
    let rules = [
        text("http.route", &["/admin"]),
        Rule::Attribute { key: "url.path".into(), test: pattern, invert_match: false },
        text("app.tenant", &["acme", "globex"]),
        text("service.name", &["payment"]),
        at_least("http.response.status_code", 500),
        at_least("db.response.returned_rows", 10_000),
        slower_than_ms(100),
        ERRORS,
        Rule::Probabilistic { hash_salt: String::new(), sampling_percentage: 1.0 },
        Rule::RateLimiting { spans_per_second: 10, burst_spans: 20 },
    ];
    settings(&rules)
}

fn text(key: &str, values: &[&str]) -> Rule {
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    Rule::Attribute { key: key.into(), test: AttributeTest::Text(values), invert_match: false }
}

fn at_least(key: &str, least: i64) -> Rule {
    let test = AttributeTest::Number { min: Some(Number::Int(least)), max: None };
    Rule::Attribute { key: key.into(), test, invert_match: false }
}

#[test]
fn ten_policies_that_look_into_every_span_do_not_either() {
    check(&ten_policies());
}

/// What the policies above ask for, and do not find in most spans.
fn attributes(number: u64) -> Attributes {
    let text = |text: &str| Value::String(text.into());
    vec![
        ("http.route".to_owned(), text("/api/v1/products")),
        (
            "url.path".to_owned(),
            text(if number.is_multiple_of(50) { "/api/v1/orders/7" } else { "/api/v1/products/7" }),
        ),
        ("app.tenant".to_owned(), text("initech")),
        ("http.response.status_code".to_owned(), Value::Int(200)),
        ("db.response.returned_rows".to_owned(), Value::Int(number as i64)),
    ]
}

fn check(settings: &Settings) {
    let settings = Settings { kept_memory_bytes: Some(6_400), dropped_memory_bytes: Some(8_000), ..settings.clone() };
    let mut sampler = Sampler::new(&settings, 5, 1);
    let mut out = Release::default();
    let spans: Vec<Span> = (0..512u64)
        .map(|n| Span {
            status: if n % 100 == 0 { 2 } else { 0 },
            bytes: contents(&attributes(n), "", 200),
            has_parent: n >= 256,
            resource: vec![(n / 128) as u8; 300],
            ..span(1 + u128::from(n % 256), n)
        })
        .collect();
    let (mut index, segments) = request(&spans);

    let (mut now_ns, mut allocations, mut spans_measured) = (0, 0, 0);
    for cycle in 0..400u64 {
        for (position, item) in index.items.iter_mut().enumerate() {
            let trace = 1 + u128::from(cycle / 4) * 1_000 + position as u128 % 256;
            item.trace_id = TraceId(trace.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes());
        }
        now_ns += SECOND;
        let before = ALLOCATIONS.get();
        sampler.insert(now_ns, &index, &segments, Select::All, &mut out);
        while sampler.decide_due(now_ns, 300, &mut out) {
            out.clear();
        }
        out.clear();
        sampler.shrink(now_ns);
        if cycle >= 200 {
            allocations += ALLOCATIONS.get() - before;
            spans_measured += 512;
        }
    }
    assert!(sampler.counters().spans_kept > 1_000);
    assert_eq!(allocations, 0, "for {spans_measured} spans");
}

/// What the allocator counts for 100,000 pending spans of 8 a trace, which come two at a time, is at most what the sampler
/// says it holds, and that is at most a seventh and 24 bytes more than their bytes.
#[test]
fn what_is_pending_takes_what_the_sampler_says_and_no_more_than_its_bytes_and_a_seventh_and_24_bytes() {
    let bytes = contents(&attributes(1), "", 200);
    let before = LIVE_BYTES.get();
    let mut sampler = Sampler::new(&ten_policies(), 5, 1);
    let (mut out, empty) = (Release::default(), (LIVE_BYTES.get() - before, sampler.bytes_held()));
    let mut others = LIVE_BYTES.get();
    for request_number in 0..200u128 {
        // Traces of four requests, 250 of them at a time.
        let first = 1 + request_number / 4 * 250;
        let id = |n: u64| (first + u128::from(n / 2)).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        let spans: Vec<Span> = (0..500).map(|n| Span { bytes: bytes.clone(), ..span(id(n), n) }).collect();
        let (index, segments) = request(&spans);
        drop(spans);
        let around = LIVE_BYTES.get();
        sampler.insert(request_number as u64, &index, &segments, Select::All, &mut out);
        let taken = LIVE_BYTES.get() - around;
        others += taken;
    }
    assert_eq!(sampler.pending_spans(), 100_000);
    let taken = (others - before - empty.0) as f64 / 100_000.0;
    let held = (sampler.bytes_held() - empty.1) as f64 / 100_000.0;
    println!("{} bytes a span: {taken:.1} taken, {held:.1} said to be held", bytes.len());
    assert!(taken <= held * 1.01, "{taken} bytes a span are taken, {held} are said to be");
    assert!(held <= bytes.len() as f64 * 1.15 + 24.0, "{held} bytes a span of {}", bytes.len());
}
