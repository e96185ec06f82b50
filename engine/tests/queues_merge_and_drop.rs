//! A queue that makes batches of what waits in it, and one that drops its oldest rather than refuse.

mod common;

use codecs::grpc::Code;
use common::gateway::{Setup, wait_until_empty};
use common::grpc::Call;
use common::traces::{Kind, SpanId, Trace, request_of, spans_of};
use common::{Answer, Engine, GrpcSender, Sink, wait_for};
use std::collections::BTreeSet;

const SPANS: u32 = 10;

fn trace(number: u64) -> Trace {
    Trace { number, spans: SPANS, kind: Kind::Plain }
}

fn request(number: u64) -> Vec<u8> {
    request_of(&[trace(number)]).to_vec()
}

fn engines() -> impl Iterator<Item = Engine> {
    [Some(Engine::epoll(1)), Engine::io_uring(1)].into_iter().flatten()
}

#[test]
fn requests_leave_together_and_their_senders_hear_the_same() {
    for engine in engines() {
        let sink = Sink::start();
        let queue = "timeout: 0s, sending_queue: {batch: {flush_timeout: 1h, min_size: 30, max_size: 35}}";
        let gateway = Setup::new(engine).ack("delivered").otlp("otlp", sink.address, queue).start();
        let sender = GrpcSender::connect(gateway.grpc);
        let begin = |numbers: std::ops::Range<u64>| {
            numbers.map(|number| sender.begin(Call::plain(&request(number)))).collect::<Vec<_>>()
        };
        let first = begin(0..3);
        assert!(first.into_iter().all(|pending| pending.wait() == Answer::Taken));
        assert_eq!(sink.requests().iter().map(|request| spans_of(request).len()).collect::<Vec<_>>(), [30]);
        sink.refuse(Code::InvalidArgument);
        for pending in begin(3..6) {
            assert_eq!(pending.wait().status().code, Code::InvalidArgument);
        }
        sink.take();
        // A request larger than a batch may be is cut, and answered when all of it has arrived.
        let large = Trace { number: 6, spans: 80, kind: Kind::Plain };
        assert_eq!(sender.send(&request_of(&[large])), Answer::Taken);
        let mut sizes: Vec<usize> = sink.requests().iter().skip(1).map(|request| spans_of(request).len()).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [10, 35, 35]);
        // A stop does not wait for company.
        let last = begin(7..8);
        wait_for("a request in the queue", || {
            (gateway.metrics().sum("otelcol_exporter_queue_size", &[]) == 1.0).then_some(())
        });
        gateway.terminate();
        assert!(last.into_iter().all(|pending| pending.wait() == Answer::Taken));
        drop(sender);
        let ending = gateway.ended();
        assert_eq!(ending.status.code(), Some(0), "{}", ending.said);
        assert!(sink.spans().values().all(|times| *times == 1));
        assert_eq!(sink.spans_count(), 30 + 80 + 10);
    }
}

#[test]
fn what_waits_long_enough_leaves_alone() {
    for sizer in ["items", "bytes", "requests"] {
        let sink = Sink::start();
        let queue = format!(
            "sending_queue: {{sizer: bytes, queue_size: 100000000, batch: {{flush_timeout: 50ms, min_size: 1000000, sizer: {sizer}}}}}"
        );
        let gateway = Setup::new(Engine::epoll(2)).otlp("otlp", sink.address, &queue).start();
        assert_eq!(GrpcSender::connect(gateway.grpc).send(&request(0)), Answer::Taken);
        sink.wait_for_spans(SPANS as usize);
        wait_until_empty(&gateway, &["otlp"]);
        gateway.stop().assert_nothing_lost();
    }
}

#[test]
fn merged_requests_are_kept_on_disk_one_by_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let storage = format!("{{directory: '{}', timeout: 30s}}", directory.path().display());
    let setup = |sink: &Sink| {
        let queue = "timeout: 0s, sending_queue: {storage: file_storage, batch: {flush_timeout: 10ms, min_size: 50}}";
        let setup = Setup::new(Engine::epoll(1)).ack("durable").extension("file_storage", storage.clone());
        setup.otlp("otlp", sink.address, queue).start()
    };
    let silent = Sink::start();
    silent.hold();
    let gateway = setup(&silent);
    let sender = GrpcSender::connect(gateway.grpc);
    assert!((0..12).all(|number| sender.send(&request(number)) == Answer::Taken));
    assert_eq!(gateway.metrics().sum("tracegate_queue_disk_requests", &[]), 12.0);
    drop(sender);
    gateway.kill();
    let sink = Sink::start();
    let gateway = setup(&sink);
    sink.wait_for_spans(120);
    let ledger = wait_until_empty(&gateway, &["otlp"]);
    assert_eq!(["created", "delivered"].map(|term| ledger.account("otlp", term)), [120, 120]);
    let on_disk = || gateway.metrics().sum("tracegate_queue_disk_requests", &[]);
    wait_for("marks of what was delivered", || (on_disk() == 0.0).then_some(()));
    gateway.stop().assert_nothing_lost();
    assert!(sink.spans().values().all(|times| *times == 1));
}

#[test]
fn a_full_queue_drops_its_oldest_and_counts_them() {
    for (engine, batch) in engines().zip(["", "batch: {flush_timeout: 1h, min_size: 20, sizer: items}"]) {
        let sink = Sink::start();
        sink.hold();
        let queue = format!(
            "timeout: 0s, sending_queue: {{on_full: drop_oldest, sizer: items, queue_size: 60, num_consumers: 1, {batch}}}"
        );
        let gateway = Setup::new(engine).otlp("otlp", sink.address, &queue).start();
        let sender = GrpcSender::connect(gateway.grpc);
        assert!((0..2).all(|number| sender.send(&request(number)) == Answer::Taken));
        sink.wait_for_asked(1);
        assert!((2..40).all(|number| sender.send(&request(number)) == Answer::Taken), "nobody is refused");
        let ledger = gateway.ledger();
        let (shed, in_flight) = (ledger.account("otlp", "shed"), ledger.account("otlp", "in_flight"));
        assert_eq!((shed + in_flight, ledger.intake("refused")), (400, 0));
        assert!((40..=80).contains(&in_flight), "{in_flight}");
        assert_eq!(gateway.metrics().sum("otelcol_exporter_enqueue_failed_spans", &[]), shed as f64);
        sink.take();
        let gone = wait_for("a queue that is all but empty", || {
            let ledger = gateway.ledger();
            (ledger.account("otlp", "in_flight") < 20).then(|| ledger.account("otlp", "shed"))
        });
        assert_eq!(gone, shed);
        drop(sender);
        let ending = gateway.stop();
        assert_eq!(ending.number_before(" shed by overload"), shed, "{}", ending.sentence);
        // What was under way first, and the newest.
        let arrived: BTreeSet<SpanId> = sink.spans().into_keys().collect();
        assert_eq!(arrived.len() as u64, 400 - shed);
        assert!(trace(0).span_ids().chain(trace(39).span_ids()).all(|span| arrived.contains(&span)));
        assert!(trace(20).span_ids().all(|span| !arrived.contains(&span)));
    }
}
