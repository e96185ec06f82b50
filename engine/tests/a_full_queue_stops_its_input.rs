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
        check(Setup::new(engine), QUEUE);
    }
}

#[test]
fn measured_in_items_or_in_bytes() {
    let in_items = "timeout: 0s, sending_queue: {sizer: items, queue_size: 3000, num_consumers: 2}";
    let in_bytes = "timeout: 0s, sending_queue: {sizer: bytes, queue_size: 300000, num_consumers: 2}";
    check(Setup::new(Engine::epoll(1)), in_items);
    check(Setup::new(Engine::epoll(2)), in_items);
    check(Setup::new(Engine::epoll(1)), in_bytes);
    check(Setup::new(Engine::epoll(1)).processor("batch", "{timeout: 10ms, send_batch_size: 1000}"), in_items);
}

#[test]
fn behind_a_batch_processor() {
    check(Setup::new(Engine::epoll(1)).processor("batch", "{timeout: 10ms, send_batch_size: 1000}"), QUEUE);
    check(
        Setup::new(Engine::epoll(2))
            .processor("batch", "{timeout: 10ms, send_batch_size: 1000, send_batch_max_size: 1000}"),
        QUEUE,
    );
}

fn check(setup: Setup<'_>, queue: &str) {
    let sink = Sink::start();
    sink.hold();
    let gateway = setup.otlp("otlp", sink.address, queue).start();
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

#[test]
fn its_metrics_are_in_the_unit_of_its_sizer() {
    for (sizer, capacity) in [("requests", 40_000), ("items", 40_000), ("bytes", 40_000_000)] {
        let sink = Sink::start();
        sink.hold();
        let queue = format!("timeout: 0s, sending_queue: {{sizer: {sizer}, queue_size: {capacity}}}");
        let gateway = Setup::new(Engine::epoll(2)).otlp("otlp", sink.address, &queue).start();
        let sender = GrpcSender::connect(gateway.grpc);
        let requests = [trace(0), trace(1), trace(2)].map(|trace| request_of(&[trace]));
        assert!(requests.iter().all(|request| sender.send(request) == Answer::Taken));
        let bytes: usize = requests.iter().map(|request| request.len()).sum();
        let least = match sizer {
            "requests" => 3.0,
            "items" => f64::from(3 * SPANS_PER_REQUEST),
            // What holds spans and resources together is not counted, so it is a little less.
            _ => bytes as f64 * 0.9,
        };
        let most = if sizer == "bytes" { bytes as f64 } else { least };
        let metrics = gateway.metrics();
        let size = metrics.sum("otelcol_exporter_queue_size", &[]);
        assert!((least..=most).contains(&size), "{size} {sizer}, not {least} to {most}");
        assert_eq!(metrics.sum("otelcol_exporter_queue_capacity", &[]), f64::from(capacity));
        sink.take();
        gateway.stop().assert_nothing_lost();
    }
}

#[test]
fn a_request_larger_than_the_whole_queue_is_refused_for_good() {
    let sink = Sink::start();
    let queue = "sending_queue: {sizer: items, queue_size: 400}";
    let gateway = Setup::new(Engine::epoll(2)).otlp("otlp", sink.address, queue).start();
    let sender = GrpcSender::connect(gateway.grpc);
    let answer = sender.send(&request_of(&[trace(0)]));
    let refused = answer.status();
    assert_eq!((refused.code, refused.retry_delay), (Code::InvalidArgument, None));
    assert!(refused.message.contains("500 items is larger than the whole queue of the exporter `otlp`"), "{refused:?}");
    let response = HttpSender::connect(gateway.http).send(&request_of(&[trace(1)]));
    assert_eq!(response.status, 400);
    let fits = Trace { spans: 400, ..trace(2) };
    assert_eq!(sender.send(&request_of(&[fits])), Answer::Taken);
    sink.wait_for_spans(400);
    let ledger = wait_until_empty(&gateway, &["otlp"]);
    assert_eq!((ledger.intake("accepted"), ledger.intake("rejected")), (400, 1000));
    assert_eq!((ledger.account("otlp", "delivered"), ledger.account("otlp", "failed")), (400, 1000));
    assert_eq!(gateway.metrics().sum("otelcol_exporter_enqueue_failed_spans", &[]), 1000.0);
}
