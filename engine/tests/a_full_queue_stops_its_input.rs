//! Behind an acknowledgement nothing is dropped: a backend that stops answering fills its queue, a full queue stops what
//! feeds it, and at last the edge refuses with a hint to come back. When the backend answers again, all that was
//! acknowledged arrives, and the gateway takes requests again.

mod common;

use codecs::grpc::Code;
use common::gateway::{Setup, wait_until_empty};
use common::traces::{Kind, SpanId, Trace, request_of};
use common::{Answer, Engine, GrpcSender, HttpSender, Sink, wait_for};
use std::collections::BTreeSet;

/// Requests until the gateway must have refused: far more than queue and batch hold.
const REQUESTS_MAX: u64 = 2000;
const SPANS_PER_REQUEST: u32 = 500;
const QUEUE: &str = "timeout: 0s, sending_queue: {queue_size: 6, num_consumers: 2}";

fn trace(number: u64) -> Trace {
    Trace { number, spans: SPANS_PER_REQUEST, kind: Kind::Plain }
}

#[test]
fn directly_behind_the_receiver() {
    for engine in [Some(Engine::epoll(1)), Some(Engine::epoll(2)), Engine::io_uring(1)].into_iter().flatten() {
        check(Setup::new(engine));
    }
}

#[test]
fn behind_a_batch_processor() {
    check(Setup::new(Engine::epoll(1)).processor("batch", "{timeout: 10ms, send_batch_size: 1000}"));
    check(
        Setup::new(Engine::epoll(2))
            .processor("batch", "{timeout: 10ms, send_batch_size: 1000, send_batch_max_size: 1000}"),
    );
}

fn check(setup: Setup<'_>) {
    let sink = Sink::start();
    sink.hold();
    let gateway = setup.otlp("otlp", sink.address, QUEUE).start();
    let sender = GrpcSender::connect(gateway.grpc);
    let mut acknowledged = BTreeSet::new();
    let mut numbers = 0..REQUESTS_MAX;
    let refused = loop {
        let trace = trace(numbers.next().expect("a full queue refuses"));
        match sender.send(&request_of(&[trace])) {
            Answer::Taken => acknowledged.extend(trace.span_ids()),
            other => break other.status().clone(),
        }
    };
    assert_eq!(refused.code, Code::Unavailable);
    assert!(refused.retry_delay.is_some(), "it says when to come back");
    let ledger = gateway.ledger();
    let taken = acknowledged.len() as u64;
    assert_eq!(ledger.intake("accepted"), taken);
    assert_eq!(ledger.intake("refused"), u64::from(SPANS_PER_REQUEST));
    assert_eq!((ledger.account("otlp", "accepted"), ledger.account("otlp", "in_flight")), (taken, taken));
    let metrics = gateway.metrics();
    let [size, capacity] = ["size", "capacity"].map(|what| metrics.sum(&format!("otelcol_exporter_queue_{what}"), &[]));
    assert!(size > 0.0 && capacity >= 6.0, "the queue shows: {size} of {capacity}");

    sink.take();
    // Soon there is room again; until then the answer stays the same.
    let again = wait_for("room for one more request", || {
        let trace = trace(numbers.next()?);
        match sender.send(&request_of(&[trace])) {
            Answer::Taken => Some(trace),
            other => {
                assert_eq!(other.status().code, Code::Unavailable);
                None
            }
        }
    });
    acknowledged.extend(again.span_ids());
    sink.wait_for_spans(acknowledged.len());
    let ledger = wait_until_empty(&gateway, &["otlp"]);
    let terms = ["delivered", "dropped", "shed", "failed"].map(|term| ledger.account("otlp", term));
    assert_eq!(terms, [acknowledged.len() as u64, 0, 0, 0]);
    assert_eq!(gateway.metrics().sum("otelcol_exporter_enqueue_failed_spans", &[]), 0.0);
    gateway.stop().assert_nothing_lost();
    let arrived: Vec<(SpanId, usize)> = sink.spans().into_iter().collect();
    assert!(arrived.iter().all(|(_, times)| *times == 1), "a span came twice");
    assert_eq!(arrived.into_iter().map(|(span, _)| span).collect::<BTreeSet<_>>(), acknowledged);
}

#[test]
fn over_http_the_refusal_is_503_with_retry_after() {
    let sink = Sink::start();
    sink.hold();
    let gateway = Setup::new(Engine::epoll(1)).otlp("otlp", sink.address, QUEUE).start();
    let mut sender = HttpSender::connect(gateway.http);
    let refused = (0..REQUESTS_MAX)
        .map(|number| sender.send(&request_of(&[trace(number)])))
        .find(|response| response.status != 200)
        .expect("a full queue refuses");
    assert_eq!(refused.status, 503);
    let seconds: u64 = refused.headers["retry-after"].parse().expect("whole seconds");
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert_eq!(refused.answer().status().code, Code::Unavailable);
    sink.take();
    gateway.stop().assert_nothing_lost();
}
