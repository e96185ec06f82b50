//! With a `storage` a queue keeps its word beyond the process: what was acknowledged is delivered after a kill, by however
//! many shards the next process has, and what was delivered is not sent again.

mod common;

use codecs::grpc::Code;
use common::gateway::{Setup, wait_until_empty};
use common::traces::{Kind, SpanId, Trace, request_of};
use common::{Answer, Engine, Gateway, GrpcSender, Sink, wait_for};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

const REQUESTS: u64 = 20;

fn trace(number: u64) -> Trace {
    Trace { number, spans: 5, kind: Kind::Plain }
}

fn start(engine: Engine, sink: &Sink, directory: &Path) -> Gateway {
    setup(engine, sink, directory).start()
}

fn setup(engine: Engine, sink: &Sink, directory: &Path) -> Setup<'static> {
    let storage = format!("{{directory: '{}', create_directory: true, timeout: 30s}}", directory.display());
    let exporter = "retry_on_failure: {initial_interval: 10ms, max_interval: 50ms}, sending_queue: {storage: \
                    file_storage/queue}";
    Setup::new(engine).extension("file_storage/queue", storage).otlp("otlp", sink.address, exporter)
}

/// Sends these requests one after the other; all of them are taken.
fn send_all(gateway: &Gateway, numbers: std::ops::Range<u64>) -> BTreeSet<SpanId> {
    let sender = GrpcSender::connect(gateway.grpc);
    let mut sent = BTreeSet::new();
    for number in numbers {
        assert_eq!(sender.send(&request_of(&[trace(number)])), Answer::Taken, "request {number}");
        sent.extend(trace(number).span_ids());
    }
    sent
}

fn assert_each_once(sink: &Sink, sent: &BTreeSet<SpanId>) {
    let arrived = sink.spans();
    assert!(arrived.values().all(|times| *times == 1), "a span came twice");
    assert_eq!(arrived.keys().copied().collect::<BTreeSet<_>>(), *sent);
}

fn disk(gateway: &Gateway, what: &str) -> f64 {
    gateway.metrics().sum(&format!("tracegate_queue_disk_{what}"), &["exporter=\"otlp\""])
}

#[test]
fn what_was_acknowledged_before_a_kill_is_delivered_by_the_next_process() {
    check_kill(Engine::epoll(2), Engine::epoll(3));
    if let (Some(before), Some(after)) = (Engine::io_uring(2), Engine::io_uring(1)) {
        check_kill(before, after);
    }
}

#[test]
fn behind_a_batch_processor_a_sender_waits_for_the_disk() {
    for engine in [Some(Engine::epoll(2)), Engine::io_uring(2)].into_iter().flatten() {
        let directory = tempfile::tempdir().expect("a directory");
        let sink = Sink::start();
        sink.hold();
        let batched = |engine, sink: &Sink| {
            let setup = setup(engine, sink, directory.path()).ack("durable");
            setup.processor("batch", "{timeout: 10ms, send_batch_size: 30, send_batch_max_size: 30}").start()
        };
        let gateway = batched(engine, &sink);
        let sent = send_all(&gateway, 0..REQUESTS);
        assert!(disk(&gateway, "requests") > 0.0);
        gateway.kill();

        let sink = Sink::start();
        let gateway = batched(Engine::epoll(1), &sink);
        sink.wait_for_spans(sent.len());
        let ledger = wait_until_empty(&gateway, &["otlp"]);
        assert_eq!(ledger.account("otlp", "created"), sent.len() as u64);
        gateway.stop().assert_nothing_lost();
        assert_each_once(&sink, &sent);
    }
}

fn check_kill(before: Engine, after: Engine) {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path().join("made/by/the/gateway");
    let silent = Sink::start();
    silent.hold();
    let gateway = start(before, &silent, &root);
    let sent = send_all(&gateway, 0..REQUESTS);
    assert_eq!(disk(&gateway, "requests"), REQUESTS as f64);
    assert!(disk(&gateway, "bytes") > 0.0);
    gateway.kill();

    let sink = Sink::start();
    let gateway = start(after, &sink, &root);
    sink.wait_for_spans(sent.len());
    let ledger = wait_until_empty(&gateway, &["otlp"]);
    assert_eq!(ledger.account("otlp", "created"), sent.len() as u64);
    assert_eq!(ledger.account("otlp", "delivered"), sent.len() as u64);
    let found = ["found_requests", "skipped_records"].map(|what| disk(&gateway, what));
    assert_eq!(found, [REQUESTS as f64, 0.0]);
    wait_for("marks of what was delivered", || (disk(&gateway, "requests") == 0.0).then_some(()));
    gateway.stop().assert_nothing_lost();
    assert_each_once(&sink, &sent);

    let gateway = start(before, &sink, &root);
    assert_eq!(disk(&gateway, "found_requests"), 0.0, "nothing is sent again");
    gateway.stop().assert_nothing_lost();
    assert_each_once(&sink, &sent);
}

#[test]
fn a_drain_that_runs_out_of_time_leaves_the_rest_on_disk() {
    let directory = tempfile::tempdir().expect("a directory");
    let sink = Sink::start();
    sink.refuse(Code::Unavailable);
    let engine = Engine { shutdown_timeout: "1s", ..Engine::epoll(2) };
    let gateway = start(engine, &sink, directory.path());
    let sent = send_all(&gateway, 0..REQUESTS);
    let ending = gateway.stop();
    ending.assert_nothing_lost();
    assert_eq!(ending.number_before(" kept on disk for the next start"), sent.len() as u64, "{}", ending.sentence);

    sink.take();
    let gateway = start(Engine::epoll(1), &sink, directory.path());
    sink.wait_for_spans(sent.len());
    wait_until_empty(&gateway, &["otlp"]);
    gateway.stop().assert_nothing_lost();
    assert_each_once(&sink, &sent);
}

#[test]
fn a_kill_under_load_loses_nothing_that_was_acknowledged() {
    let directory = tempfile::tempdir().expect("a directory");
    let sink = Sink::start();
    let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
    let mut first = 0;
    for shards in [1, 3, 2] {
        let gateway = start(Engine::epoll(shards), &sink, directory.path());
        let sender = GrpcSender::connect(gateway.grpc);
        let taken = Arc::clone(&acknowledged);
        let sending = std::thread::spawn(move || {
            for number in first.. {
                match sender.send(&request_of(&[trace(number)])) {
                    Answer::Taken => taken.lock().expect("nobody panics with it").extend(trace(number).span_ids()),
                    _ => return number + 1,
                }
            }
            first
        });
        let enough = acknowledged.lock().expect("nobody panics with it").len() + 40 * 5;
        wait_for("requests that were acknowledged", || {
            (acknowledged.lock().expect("nobody panics with it").len() >= enough).then_some(())
        });
        gateway.kill();
        first = sending.join().expect("the sender does not panic");
    }
    let gateway = start(Engine::epoll(2), &sink, directory.path());
    let acknowledged = acknowledged.lock().expect("nobody panics with it").clone();
    wait_for("all that was acknowledged", || {
        let arrived = sink.spans();
        acknowledged.iter().all(|span| arrived.contains_key(span)).then_some(())
    });
    wait_until_empty(&gateway, &["otlp"]);
    gateway.stop().assert_nothing_lost();
}
