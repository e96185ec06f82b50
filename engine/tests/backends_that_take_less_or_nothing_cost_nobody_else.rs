//! A backend that takes only small requests gets every span once, in halves; one that hangs does not stop the other; and
//! who waits for the result hears it from the backend.

mod common;

use codecs::grpc::Code;
use common::gateway::Setup;
use common::grpc::Call;
use common::traces::{Kind, Trace, request_of};
use common::{Answer, Engine, Gateway, GrpcSender, Sink};

const SPANS: usize = 10_000;

fn traces(numbers: std::ops::Range<u64>) -> Vec<Trace> {
    numbers.map(|number| Trace { number, spans: 20, kind: Kind::Plain }).collect()
}

/// A gateway as a backend that takes at most 1 MiB over gRPC and 64 KiB over HTTP, in front of a sink.
fn backend(sink: &Sink) -> Gateway {
    let mut setup = Setup::new(Engine::epoll(1)).otlp("otlp", sink.address, "");
    (setup.grpc, setup.http) = ("max_recv_msg_size_mib: 1", "max_request_body_size: 65536");
    setup.start()
}

#[test]
fn what_is_too_large_for_a_backend_arrives_in_halves_and_once() {
    for over_http in [false, true] {
        let sink = Sink::start();
        let backend = backend(&sink);
        let mut setup = Setup::new(Engine::epoll(1));
        setup.grpc = "max_recv_msg_size_mib: 64";
        let gateway = if over_http {
            let settings = format!("{{endpoint: 'http://{}', compression: none}}", backend.http);
            Setup { exporters: vec![("otlphttp", settings)], ..setup }.start()
        } else {
            setup.otlp("otlp", backend.grpc, "").start()
        };
        let message = request_of(&traces(0..SPANS as u64 / 20));
        assert!(message.len() > 1 << 20, "{} bytes", message.len());
        assert_eq!(GrpcSender::connect(gateway.grpc).send(&message), Answer::Taken);
        sink.wait_for_spans(SPANS);
        let split = gateway.metrics().sum("tracegate_exporter_split_requests", &[]);
        assert!(split >= 1.0, "{split}");
        gateway.stop().assert_nothing_lost();
        // The backend has rejected the whole, and says so in its own book.
        backend.stop();
        assert!(sink.spans().values().all(|count| *count == 1), "each span once");
        assert_eq!(sink.spans().len(), SPANS);
    }
}

#[test]
fn a_backend_that_hangs_does_not_stop_its_sibling() {
    let (hung, quick) = (Sink::start(), Sink::start());
    hung.hold();
    let gateway = Setup::new(Engine::epoll(2))
        .otlp("otlp/hung", hung.address, "timeout: 0s, sending_queue: {queue_size: 400, num_consumers: 2}")
        .otlp("otlp/quick", quick.address, "")
        .start();
    let sender = GrpcSender::connect(gateway.grpc);
    for number in 0..100 {
        assert_eq!(sender.send(&request_of(&traces(number..number + 1))), Answer::Taken);
    }
    quick.wait_for_spans(2000);
    assert_eq!(hung.spans_count(), 0);
    hung.take();
    hung.wait_for_spans(2000);
    drop(sender);
    gateway.stop().assert_nothing_lost();
}

#[test]
fn a_sender_that_waits_for_the_result_hears_what_became_of_it() {
    let sink = Sink::start();
    sink.hold();
    let waits = "timeout: 0s, retry_on_failure: {initial_interval: 10ms, max_interval: 50ms}, sending_queue: \
                 {wait_for_result: true}";
    let gateway = Setup::new(Engine::epoll(2)).otlp("otlp", sink.address, waits).start();
    let sender = GrpcSender::connect(gateway.grpc);
    let held = sender.begin(Call::plain(&request_of(&traces(0..1))));
    sink.wait_for_asked(1);
    assert_eq!(held.look(), None, "nobody has taken it yet");
    sink.take();
    assert_eq!(held.wait(), Answer::Taken);
    // The queue retries before it answers.
    sink.refuse(Code::Unavailable);
    let retried = sender.begin(Call::plain(&request_of(&traces(1..2))));
    sink.wait_for_asked(4);
    assert_eq!(retried.look(), None, "it is tried again");
    sink.take();
    assert_eq!(retried.wait(), Answer::Taken);
    sink.refuse(Code::PermissionDenied);
    assert_eq!(sender.send(&request_of(&traces(2..3))).status().code, Code::Internal);
    let ledger = gateway.ledger();
    assert_eq!((ledger.intake("accepted"), ledger.intake("rejected")), (40, 20));
    assert_eq!((ledger.account("otlp", "delivered"), ledger.account("otlp", "failed")), (40, 20));
    assert!(sink.spans().values().all(|count| *count == 1), "each span once");
}

#[test]
fn behind_a_batch_processor_nobody_waits_for_the_result() {
    let sink = Sink::start();
    sink.hold();
    let waits = "timeout: 0s, sending_queue: {wait_for_result: true}";
    let gateway =
        Setup::new(Engine::epoll(1)).processor("batch", "{timeout: 0s}").otlp("otlp", sink.address, waits).start();
    let warning = "nobody waits in the pipeline `traces`: `batch` before it has answered the sender";
    assert!(gateway.said().contains(warning), "{}", gateway.said());
    assert_eq!(GrpcSender::connect(gateway.grpc).send(&request_of(&traces(0..1))), Answer::Taken);
    sink.wait_for_asked(1);
    sink.take();
    gateway.stop().assert_nothing_lost();
}
