//! gRPC senders are few and their connections last for hours. The requests of a single one are shared by all shards.
//!
//! Nothing here depends on how fast anybody is: the backend holds its answers, and without a queue each request stays
//! in its shard's hands until it answers. So the requests can be counted while all of them are in hand.

mod common;

use common::gateway::Setup;
use common::grpc::Call;
use common::traces::{Kind, SpanId, Trace, request_of};
use common::{Answer, Engine, GrpcSender, Sink};
use std::collections::BTreeSet;

const SHARDS: usize = 4;
const REQUESTS: u64 = 120;
const SPANS_PER_REQUEST: u32 = 10;
/// Every shard does at least this share.
const SHARE_MIN: f64 = 0.15;

#[test]
fn on_epoll() {
    check(Engine::epoll(SHARDS));
}

#[test]
fn on_io_uring() {
    if let Some(engine) = Engine::io_uring(SHARDS) {
        check(engine);
    }
}

fn check(engine: Engine) {
    let sink = Sink::start();
    sink.hold();
    let more = "timeout: 0s, sending_queue: {enabled: false, num_consumers: 1000, queue_size: 1000}";
    let gateway = Setup::new(engine).otlp("otlp", sink.address, more).start();
    let sender = GrpcSender::connect(gateway.grpc);
    let traces: Vec<Trace> =
        (0..REQUESTS).map(|number| Trace { number, spans: SPANS_PER_REQUEST, kind: Kind::Plain }).collect();
    let pending: Vec<_> = traces.iter().map(|&trace| sender.begin(Call::plain(&request_of(&[trace])))).collect();
    sink.wait_for_asked(REQUESTS as usize);
    sink.take();
    for answer in pending {
        assert_eq!(answer.wait(), Answer::Taken);
    }
    let metrics = gateway.metrics();
    let accepted = |shard: usize| {
        metrics.sum("otelcol_receiver_accepted_spans", &[&format!("shard=\"{shard}\""), "transport=\"grpc\""])
    };
    let all = REQUESTS as f64 * f64::from(SPANS_PER_REQUEST);
    let shares: Vec<f64> = (0..SHARDS).map(|shard| accepted(shard) / all).collect();
    assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "all shards together did all: {shares:?}");
    assert!(shares.iter().all(|&share| share >= SHARE_MIN), "every shard does its part: {shares:?}");
    let handed_over = metrics.sum("tracegate_mesh_balanced_requests", &[]);
    assert!(handed_over > 0.0 && handed_over < REQUESTS as f64, "{handed_over} requests were handed over");
    gateway.stop().assert_nothing_lost();
    let arrived = sink.spans();
    assert!(arrived.values().all(|&times| times == 1), "a span came twice");
    let sent: BTreeSet<SpanId> = traces.iter().flat_map(Trace::span_ids).collect();
    assert_eq!(arrived.into_keys().collect::<BTreeSet<_>>(), sent);
}
