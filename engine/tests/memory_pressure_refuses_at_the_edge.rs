//! A gateway whose budget is spent refuses whole requests at its edge, with a hint when to come back; what it took is
//! decided and delivered as ever, and then it takes requests again. Its resident memory stays near its budget.
//!
//! Before it refuses, a sampler relieves memory by steps; the first tests switch them off, the last one is about them.
//!
//! Memory is held by undecided traces. Whether this machine can fill the budget within the decision wait is not for the
//! test to assume: if the first decision comes before the first refusal, it starts over with twice the wait.

mod common;

use codecs::grpc::Code;
use common::gateway::{Setup, wait_until_empty};
use common::traces::{Kind, SpanId, Trace, request_of, tail_sampling};
use common::{Answer, Engine, GrpcSender, HttpSender, Sink, wait_for};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const LIMIT_MIB: u64 = 12;
const SPIKE_MIB: u64 = 2;
const SPANS_PER_REQUEST: u32 = 400;
/// What the process takes beside its budget: stacks, allocator, the kernel's page granularity. Pages of the program's
/// own file are not counted: an unoptimised program has 20 MiB of them, more with every line.
const OVERHEAD_BYTES: u64 = 29_616 << 10;
/// An empty gateway takes requests within a few turns of its shards. Kept memory grows old after 25 s at the earliest, so
/// a gateway that only waited for that would be found out.
const SOON: Duration = Duration::from_secs(20);
const WAIT_FIRST_MS: u64 = 4_000;
const WAIT_MAX_MS: u64 = 64_000;

#[test]
fn on_one_shard() {
    check(Engine::epoll(1));
}

#[test]
fn on_two_shards() {
    check(Engine::epoll(2));
}

#[test]
fn on_one_shard_of_io_uring() {
    if let Some(engine) = Engine::io_uring(1) {
        check(engine);
    }
}

fn check(engine: Engine) {
    let mut wait_ms = WAIT_FIRST_MS;
    while !is_refused_and_recovers(engine, wait_ms) {
        wait_ms *= 2;
        assert!(wait_ms <= WAIT_MAX_MS, "{LIMIT_MIB} MiB were not filled within a minute");
    }
}

const WITHOUT_RELIEF: &str = "{certain: {enabled: false}, compress: {enabled: false}}";

fn relieved(decision_wait: &str, stress_relief: &str) -> String {
    tail_sampling(decision_wait).replacen('{', &format!("{{stress_relief: {stress_relief}, "), 1)
}

/// One trace per request; one in five has an error.
fn trace(number: u64) -> Trace {
    let kind = if number.is_multiple_of(5) { Kind::ErrorIn(7) } else { Kind::Plain };
    Trace { number, spans: SPANS_PER_REQUEST, kind }
}

/// Returns `false` when decisions made room before the budget was spent.
fn is_refused_and_recovers(engine: Engine, wait_ms: u64) -> bool {
    let sink = Sink::start();
    let gateway = Setup::new(engine)
        .processor(
            "memory_limiter",
            format!("{{check_interval: 1s, limit_mib: {LIMIT_MIB}, spike_limit_mib: {SPIKE_MIB}}}"),
        )
        .processor("tail_sampling", relieved(&format!("{wait_ms}ms"), WITHOUT_RELIEF))
        .otlp("otlp", sink.address, "")
        .start();
    let idle_bytes = gateway.own_bytes();
    let mut resident_bytes_max = idle_bytes;
    let grpc = GrpcSender::connect(gateway.grpc);
    let mut acknowledged = Vec::new();
    let mut sent_bytes = 0;
    let mut numbers = 0..u64::MAX;
    let refused = loop {
        let trace = trace(numbers.next().expect("numbers do not end"));
        let request = request_of(&[trace]);
        sent_bytes += request.len() as u64;
        resident_bytes_max = resident_bytes_max.max(gateway.own_bytes());
        match grpc.send(&request) {
            Answer::Taken => acknowledged.push(trace),
            other => break other.status().clone(),
        }
        if sink.spans_count() > 0 {
            eprintln!("{engine:?}: only {sent_bytes} bytes came within {wait_ms} ms; once more with twice that");
            return false;
        }
    };
    assert_eq!(refused.code, Code::Unavailable);
    assert!(refused.retry_delay.is_some(), "it says when to come back");
    assert!(sent_bytes > (LIMIT_MIB - SPIKE_MIB) << 19, "half the budget was of use: {sent_bytes} bytes");

    // While traces wait for their decisions, HTTP says the same in its own words.
    let mut http = HttpSender::connect(gateway.http);
    let response = http.send(&request_of(&[trace(numbers.next().expect("numbers do not end"))]));
    // Unless the decisions were faster: then it is taken.
    if response.status != 200 {
        assert_eq!(response.status, 503);
        assert!(response.headers.contains_key("retry-after"), "it says when to come back");
        assert_eq!(response.answer().status().code, Code::Unavailable);
    } else {
        acknowledged.push(trace(numbers.start - 1));
    }

    // Once all is decided nothing is in use, and what is only kept for reuse must not keep requests out.
    wait_until_empty(&gateway, &["otlp"]);
    let empty_since = Instant::now();
    let again = wait_for("room after the decisions", || {
        resident_bytes_max = resident_bytes_max.max(gateway.own_bytes());
        let trace = trace(numbers.next()?);
        (grpc.send(&request_of(&[trace])) == Answer::Taken).then_some(trace)
    });
    assert!(empty_since.elapsed() < SOON, "an empty gateway refused for {:?}", empty_since.elapsed());
    acknowledged.push(again);
    let ledger = wait_until_empty(&gateway, &["otlp"]);
    let taken = acknowledged.iter().map(|trace| u64::from(trace.spans)).sum::<u64>();
    assert_eq!((ledger.intake("accepted"), ledger.account("otlp", "accepted")), (taken, taken));
    assert!(ledger.intake("refused_requests") >= 1, "each refusal is counted");
    let refusals = gateway.metrics().sum("otelcol_processor_memory_limiter_refused_spans", &[]);
    assert!(refusals > 0.0, "the memory_limiter shows that it refused");
    gateway.stop().assert_nothing_lost();

    let kept: BTreeSet<SpanId> =
        acknowledged.iter().filter(|trace| trace.kind != Kind::Plain).flat_map(Trace::span_ids).collect();
    let arrived = sink.spans();
    assert!(arrived.values().all(|&times| times == 1), "a span came twice");
    assert_eq!(
        arrived.into_keys().collect::<BTreeSet<_>>(),
        kept,
        "whole traces, and only those that were acknowledged"
    );
    let bound = idle_bytes.max(OVERHEAD_BYTES) + (LIMIT_MIB << 20);
    assert!(resident_bytes_max < bound, "{resident_bytes_max} bytes of its own with a budget of {LIMIT_MIB} MiB");
    true
}

/// Promised are 40 MiB for a gateway that waits for its first span; an optimised program's own file takes 13 of them.
#[test]
fn a_gateway_at_rest_holds_little() {
    const OWN_BYTES_MAX: u64 = 20 << 20;
    for engine in [Some(Engine::epoll(2)), Engine::io_uring(2)].into_iter().flatten() {
        let sink = Sink::start();
        let gateway =
            Setup::new(engine).processor("tail_sampling", tail_sampling("10s")).otlp("otlp", sink.address, "").start();
        let own_bytes = gateway.own_bytes();
        assert!(own_bytes < OWN_BYTES_MAX, "{own_bytes} bytes of its own on {engine:?}");
        gateway.stop().assert_nothing_lost();
    }
}

/// Before the edge refuses: what is certain leaves, what waits is compressed, and then traces are shed, whole.
#[test]
fn a_gateway_under_pressure_takes_one_step_after_the_other_and_every_span_is_in_its_books() {
    let sink = Sink::start();
    let gateway = Setup::new(Engine::epoll(2))
        .processor(
            "memory_limiter",
            format!("{{check_interval: 1s, limit_mib: {LIMIT_MIB}, spike_limit_mib: {SPIKE_MIB}}}"),
        )
        .processor("tail_sampling", relieved("600s", "{shed: {enabled: true, from_percentage: 88}}"))
        .otlp("otlp", sink.address, "")
        .start();
    let grpc = GrpcSender::connect(gateway.grpc);
    let mut acknowledged = Vec::new();
    let mut numbers = 0..u64::MAX;
    // Nothing is due for ten minutes: whatever leaves the table does so because memory is short.
    wait_for("every step of the ladder", || {
        for trace in numbers.by_ref().take(10).map(trace) {
            if grpc.send(&request_of(&[trace])) == Answer::Taken {
                acknowledged.push(trace);
            }
        }
        let metrics = gateway.metrics();
        let certain = metrics.sum("tracegate_tail_sampling_traces_decided_before_time", &["because=\"stress\""]);
        let compressed = metrics.sum("tracegate_tail_sampling_compressed_bytes", &[]);
        let shed = metrics.sum("tracegate_tail_sampling_traces_shed", &[]);
        (certain > 0.0 && compressed > 0.0 && shed > 0.0).then_some(())
    });
    let metrics = gateway.metrics();
    let (before, after) = (
        metrics.sum("tracegate_tail_sampling_compressed_bytes", &[]),
        metrics.sum("tracegate_tail_sampling_compressed_to_bytes", &[]),
    );
    assert!(after < before / 2.0, "{before} bytes became {after}");
    let ending = gateway.stop();
    let taken: u64 = acknowledged.iter().map(|trace| u64::from(trace.spans)).sum();
    let [delivered, dropped, shed] =
        ["kept and delivered", "dropped by policy", "shed by overload"].map(|words| ending.number_before(words));
    assert!(shed > 0, "{}", ending.sentence);
    assert_eq!(taken, delivered + dropped + shed, "{}", ending.sentence);

    let arrived = sink.spans();
    assert!(arrived.values().all(|&times| times == 1), "a span came twice");
    for trace in &acknowledged {
        let spans: Vec<SpanId> = trace.span_ids().collect();
        let here = spans.iter().filter(|id| arrived.contains_key(*id)).count();
        assert!(here == 0 || here == spans.len(), "{here} of {} spans: whole traces or nothing", spans.len());
        assert!(here == 0 || trace.kind != Kind::Plain, "what no policy wants does not leave");
    }
    assert_eq!(arrived.len() as u64, delivered);
}
