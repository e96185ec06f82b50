//! A backend that takes only small requests gets every span once, in halves; one that hangs does not stop the other.

mod common;

use common::gateway::Setup;
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
