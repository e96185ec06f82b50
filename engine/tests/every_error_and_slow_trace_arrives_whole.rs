//! The gateway's promise: traces with an error and slow traces arrive whole, once, at every backend; nothing of the
//! others does. However their spans are spread over requests, connections, protocols and shards.
//!
//! A span that comes after its trace's decision shares the trace's fate, so an error that comes too late changes
//! nothing. Whether the machine can send everything within the decision wait is not for this test to assume: it sends,
//! looks how long it took, and starts over with twice the wait if that was too long.

mod common;

use common::gateway::{Setup, wait_until_empty};
use common::grpc::Call;
use common::traces::{Kind, SpanId, Trace, request, tail_sampling};
use common::{Answer, Engine, Gateway, GrpcSender, HttpSender, Sink};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const TRACES: u64 = 240;
const SPANS_PER_TRACE: u32 = 7;
/// Requests that one trace's spans are spread over at most, because each place has one.
const REQUESTS_PER_GROUP: u32 = SPANS_PER_TRACE;
/// Traces whose spans share requests.
const GROUP: u64 = 12;
const WAIT_FIRST_MS: u64 = 500;
const WAIT_MAX_MS: u64 = 64_000;

#[test]
fn with_one_shard_on_epoll() {
    check(Engine::epoll(1));
}

#[test]
fn with_two_shards_on_epoll() {
    check(Engine::epoll(2));
}

#[test]
fn with_four_shards_on_epoll() {
    check(Engine::epoll(4));
}

#[test]
fn with_one_shard_on_io_uring() {
    if let Some(engine) = Engine::io_uring(1) {
        check(engine);
    }
}

#[test]
fn with_two_shards_on_io_uring() {
    if let Some(engine) = Engine::io_uring(2) {
        check(engine);
    }
}

#[test]
fn with_four_shards_on_io_uring() {
    if let Some(engine) = Engine::io_uring(4) {
        check(engine);
    }
}

fn check(engine: Engine) {
    let mut wait_ms = WAIT_FIRST_MS;
    while !is_kept_whole(engine, wait_ms) {
        wait_ms *= 2;
        assert!(wait_ms <= WAIT_MAX_MS, "this machine cannot send {TRACES} traces within a minute");
    }
}

/// One in four traces has an error, one in four is slow; the span that tells comes at every place.
fn traces() -> Vec<Trace> {
    let kind = |number: u64| {
        let place = (number / 4 % u64::from(SPANS_PER_TRACE)) as u32;
        match number % 4 {
            0 => Kind::ErrorIn(place),
            // A root that begins late makes its children early, which is as slow.
            1 => Kind::SlowIn(place),
            _ => Kind::Plain,
        }
    };
    (0..TRACES).map(|number| Trace { number, spans: SPANS_PER_TRACE, kind: kind(number) }).collect()
}

/// Returns `false` when sending took longer than the wait, so that nothing can be said.
fn is_kept_whole(engine: Engine, wait_ms: u64) -> bool {
    let (first, second) = (Sink::start(), Sink::start());
    let gateway = Setup::new(engine)
        .processor("tail_sampling", tail_sampling(&format!("{wait_ms}ms")))
        .otlp("otlp/first", first.address, "")
        .otlp("otlp/second", second.address, "")
        .start();
    let traces = traces();
    let took = send(&gateway, &traces);
    if took >= Duration::from_millis(wait_ms) {
        eprintln!(
            "{engine:?}: sending took {took:?}, so a wait of {wait_ms} ms says nothing; once more with twice that"
        );
        return false;
    }
    let kept: BTreeSet<SpanId> =
        traces.iter().filter(|trace| trace.kind != Kind::Plain).flat_map(Trace::span_ids).collect();
    let sent = TRACES * u64::from(SPANS_PER_TRACE);
    let ledger = wait_until_empty(&gateway, &["otlp/first", "otlp/second"]);
    assert_eq!((ledger.intake("offered"), ledger.intake("accepted")), (sent, sent));
    assert!(ledger.intake_over("http", "accepted") > 0, "both protocols took part");
    for exporter in ["otlp/first", "otlp/second"] {
        let terms = ["accepted", "delivered", "dropped", "shed", "failed"];
        let kept = kept.len() as u64;
        assert_eq!(terms.map(|term| ledger.account(exporter, term)), [sent, kept, sent - kept, 0, 0], "{exporter}");
    }
    let metrics = gateway.metrics();
    let crossed = metrics.sum("tracegate_mesh_sent_spans", &[]);
    let received = metrics.sum("tracegate_mesh_received_spans", &[]);
    assert_eq!(crossed, received, "what crosses arrives");
    assert_eq!(crossed > 0.0, engine.shards > 1, "with several shards spans have to cross");
    for sink in [&first, &second] {
        let arrived = sink.spans();
        assert!(arrived.values().all(|&times| times == 1), "a span came twice");
        assert_eq!(arrived.into_keys().collect::<BTreeSet<_>>(), kept);
    }
    let ending = gateway.stop();
    ending.assert_nothing_lost();
    assert_eq!(ending.number_before(" kept and delivered to each of otlp/first, otlp/second"), kept.len() as u64);
    assert_eq!(ending.number_before(" dropped by policy"), sent - kept.len() as u64);
    true
}

/// Sends each place of a group's traces in another request, and requests in turn over three connections of gRPC and one
/// of HTTP. Returns how long it took from the first request to the last answer.
fn send(gateway: &Gateway, traces: &[Trace]) -> Duration {
    let senders = [(); 3].map(|()| GrpcSender::connect(gateway.grpc));
    let mut http = HttpSender::connect(gateway.http);
    let mut requests = Vec::new();
    for place in 0..REQUESTS_PER_GROUP {
        for group in traces.chunks(GROUP as usize) {
            requests.push(request(&format!("service {place}"), group.iter().map(|trace| trace.span(place)).collect()));
        }
    }
    let started = Instant::now();
    let mut pending = Vec::new();
    for (turn, request) in requests.iter().enumerate() {
        // Five is prime to the number of groups, so that every trace's spans come over every connection.
        match turn % 7 {
            6 => assert_eq!(http.send(request).answer(), Answer::Taken),
            other => pending.push(senders[other % 3].begin(Call::plain(request))),
        }
    }
    for answer in pending {
        assert_eq!(answer.wait(), Answer::Taken);
    }
    started.elapsed()
}
