//! With a `storage` a queue keeps its word beyond the process: what was acknowledged is delivered after a kill, by however
//! many shards the next process has, and what was delivered is not sent again. So does a sampler: what was undecided is
//! decided by the next process.

mod common;

use codecs::grpc::Code;
use common::gateway::{Setup, wait_until_empty};
use common::traces::{Kind, SpanId, Trace, request, request_of, tail_sampling};
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

/// Every second trace has an error, in whichever of its five spans.
fn sampled_trace(number: u64) -> Trace {
    let kind = if number.is_multiple_of(2) { Kind::ErrorIn((number / 2 % 5) as u32) } else { Kind::Plain };
    Trace { number, spans: 5, kind }
}

fn sampled_traces() -> impl Iterator<Item = Trace> {
    (0..REQUESTS).map(sampled_trace)
}

/// The spans that have to arrive of these traces.
fn of_errors(traces: impl Iterator<Item = Trace>) -> BTreeSet<SpanId> {
    traces.filter(|trace| trace.kind != Kind::Plain).flat_map(|trace| trace.span_ids().collect::<Vec<_>>()).collect()
}

/// A gateway whose senders wait until undecided spans are on disk.
fn sampling(engine: Engine, sink: &Sink, directory: &Path, rules: &str) -> Gateway {
    let rules = tail_sampling(&format!("{rules}, storage: file_storage/queue"));
    setup(engine, sink, directory).ack("durable").processor("tail_sampling", rules).start()
}

fn pending_disk(gateway: &Gateway, what: &str) -> u64 {
    gateway.metrics().sum(&format!("tracegate_tail_sampling_disk_{what}"), &["processor=\"tail_sampling\""]) as u64
}

/// Files with undecided spans.
fn pending_files(directory: &Path) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(directory.join("processor.traces.tail_5fsampling")).expect("the log's directory");
    let files = files.map(|file| file.expect("a file").path());
    files.filter(|path| path.extension().is_some_and(|it| it == "segment")).collect()
}

#[test]
fn undecided_traces_are_decided_by_the_next_process_whatever_its_shards() {
    check_undecided(Engine::epoll(2), Engine::epoll(3));
    check_undecided(Engine::epoll(3), Engine::epoll(1));
    if let (Some(before), Some(after)) = (Engine::io_uring(1), Engine::io_uring(2)) {
        check_undecided(before, after);
    }
}

fn check_undecided(before: Engine, after: Engine) {
    let directory = tempfile::tempdir().expect("a directory");
    let sink = Sink::start();
    let gateway = sampling(before, &sink, directory.path(), "1h");
    let senders = [(); 3].map(|()| GrpcSender::connect(gateway.grpc));
    // Each place of all traces in another request, so that every trace is in five of them.
    for place in 0..5_u32 {
        let sender = &senders[place as usize % senders.len()];
        for numbers in [0..REQUESTS / 2, REQUESTS / 2..REQUESTS] {
            let spans = numbers.map(|number| sampled_trace(number).span(place)).collect();
            assert_eq!(sender.send(&request("shop", spans)), Answer::Taken, "place {place}");
        }
    }
    assert!(pending_disk(&gateway, "records") > 0);
    assert!(pending_disk(&gateway, "bytes") > 0);
    assert!(gateway.said().contains("before anything behind it masks them"), "{}", gateway.said());
    gateway.kill();
    assert_eq!(sink.spans_count(), 0, "nothing was due");

    // A wait that does not end: the drain decides, when all is there again.
    let gateway = sampling(after, &sink, directory.path(), "1h");
    let sent = 5 * REQUESTS;
    wait_for("all undecided spans", || (pending_disk(&gateway, "restored_spans") == sent).then_some(()));
    assert_eq!(pending_disk(&gateway, "skipped_records"), 0);
    let ledger = gateway.ledger();
    assert_eq!([ledger.account("otlp", "created"), ledger.account("otlp", "in_flight")], [sent, sent]);
    assert!(ledger.is_balanced());
    let ending = gateway.stop();
    ending.assert_nothing_lost();
    let kept = of_errors(sampled_traces());
    assert_eq!(ending.number_before(" dropped by policy"), sent - kept.len() as u64);
    assert_each_once(&sink, &kept);
    assert!(pending_files(directory.path()).is_empty(), "all is decided");

    let gateway = sampling(before, &sink, directory.path(), "1h");
    assert_eq!(pending_disk(&gateway, "found_records"), 0, "nothing is decided twice");
    gateway.stop().assert_nothing_lost();
    assert_each_once(&sink, &kept);
}

#[test]
fn what_is_decided_is_forgotten_on_disk_while_the_gateway_runs() {
    let directory = tempfile::tempdir().expect("a directory");
    let sink = Sink::start();
    let gateway = sampling(Engine::epoll(2), &sink, directory.path(), "50ms");
    let sender = GrpcSender::connect(gateway.grpc);
    let deadline = std::time::Instant::now() + common::PATIENCE;
    // Some trace is always undecided while they are sent, and still the first records go.
    let mut sent = 0;
    let mut forgotten = false;
    while !forgotten || sent < REQUESTS {
        assert!(std::time::Instant::now() < deadline, "nothing is forgotten while spans come");
        assert_eq!(sender.send(&request_of(&[sampled_trace(sent)])), Answer::Taken);
        sent += 1;
        forgotten |= pending_disk(&gateway, "records") < sent;
    }
    wait_for("an empty disk", || (pending_disk(&gateway, "records") == 0).then_some(()));
    assert_eq!(pending_disk(&gateway, "oldest_age_seconds"), 0);
    wait_until_empty(&gateway, &["otlp"]);
    gateway.kill();
    let kept = of_errors((0..sent).map(sampled_trace));
    assert_each_once(&sink, &kept);

    let gateway = sampling(Engine::epoll(1), &sink, directory.path(), "50ms");
    assert_eq!(pending_disk(&gateway, "restored_spans"), 0);
    gateway.stop().assert_nothing_lost();
    assert_each_once(&sink, &kept);
}

#[test]
fn what_was_kept_stays_on_disk_until_the_queue_behind_has_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let silent = Sink::start();
    silent.hold();
    let rules = tail_sampling("50ms, storage: file_storage/queue");
    // What was kept waits in memory for others to leave with.
    let gateway = |engine, sink: &Sink| {
        let storage = format!("{{directory: '{}', create_directory: true, timeout: 30s}}", directory.path().display());
        Setup::new(engine)
            .ack("durable")
            .extension("file_storage/queue", storage)
            .processor("tail_sampling", rules.clone())
            .processor("batch", "{timeout: 1h, send_batch_size: 1000000}")
            .otlp("otlp", sink.address, "sending_queue: {storage: file_storage/queue}")
            .start()
    };
    let first = gateway(Engine::epoll(2), &silent);
    let sender = GrpcSender::connect(first.grpc);
    for trace in sampled_traces() {
        assert_eq!(sender.send(&request_of(&[trace])), Answer::Taken);
    }
    let kept = of_errors(sampled_traces());
    let decided = || first.metrics().sum("otelcol_processor_tail_sampling_global_count_traces_sampled", &[]) as u64;
    wait_for("decisions", || (decided() == REQUESTS).then_some(()));
    wait_for("all that is to be on disk", || (pending_disk(&first, "records") >= REQUESTS / 2).then_some(()));
    first.kill();

    let sink = Sink::start();
    let second = gateway(Engine::epoll(3), &sink);
    wait_for("what was kept and in memory only", || {
        (pending_disk(&second, "restored_spans") >= kept.len() as u64).then_some(())
    });
    second.stop().assert_nothing_lost();
    assert_each_once(&sink, &kept);
}

#[test]
fn a_kill_under_load_loses_no_error_trace_that_was_acknowledged() {
    let directory = tempfile::tempdir().expect("a directory");
    let sink = Sink::start();
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let mut first = 0;
    for shards in [1, 3, 2] {
        let gateway = sampling(Engine::epoll(shards), &sink, directory.path(), "20ms");
        let sender = GrpcSender::connect(gateway.grpc);
        let taken = Arc::clone(&acknowledged);
        let sending = std::thread::spawn(move || {
            for number in first.. {
                match sender.send(&request_of(&[sampled_trace(number)])) {
                    Answer::Taken => taken.lock().expect("nobody panics with it").push(sampled_trace(number)),
                    _ => return number + 1,
                }
            }
            first
        });
        let enough = acknowledged.lock().expect("nobody panics with it").len() + 40;
        wait_for("requests that were acknowledged", || {
            (acknowledged.lock().expect("nobody panics with it").len() >= enough).then_some(())
        });
        gateway.kill();
        first = sending.join().expect("the sender does not panic");
    }
    let gateway = sampling(Engine::epoll(2), &sink, directory.path(), "20ms");
    let promised = of_errors(acknowledged.lock().expect("nobody panics with it").iter().copied());
    wait_for("all that was promised", || {
        let arrived = sink.spans();
        promised.iter().all(|span| arrived.contains_key(span)).then_some(())
    });
    wait_until_empty(&gateway, &["otlp"]);
    gateway.stop().assert_nothing_lost();
    assert!(pending_files(directory.path()).is_empty());
}

#[test]
fn a_drain_that_drops_what_is_pending_forgets_it_on_disk() {
    let directory = tempfile::tempdir().expect("a directory");
    let sink = Sink::start();
    let gateway = sampling(Engine::epoll(2), &sink, directory.path(), "1h, drop_pending_traces_on_shutdown: true");
    let sender = GrpcSender::connect(gateway.grpc);
    for trace in sampled_traces() {
        assert_eq!(sender.send(&request_of(&[trace])), Answer::Taken);
    }
    let ending = gateway.stop();
    ending.assert_nothing_lost();
    assert_eq!(ending.number_before(" dropped by policy"), 5 * REQUESTS);
    assert!(pending_files(directory.path()).is_empty(), "nobody decides them later");
    assert_eq!(sink.spans_count(), 0);
}

#[test]
fn a_full_disk_refuses_at_the_edge_and_keeps_what_it_took() {
    let directory = tempfile::tempdir().expect("a directory");
    let sink = Sink::start();
    let start = |engine, wait: &str| {
        let place = directory.path().display();
        let storage = format!("{{directory: '{place}', timeout: 30s, max_size: 1048576}}");
        Setup::new(engine)
            .ack("durable")
            .extension("file_storage/queue", storage)
            .processor("tail_sampling", tail_sampling(&format!("{wait}, storage: file_storage/queue")))
            .otlp("otlp", sink.address, "sending_queue: {storage: file_storage/queue}")
            .start()
    };
    let gateway = start(Engine::epoll(2), "1h");
    let sender = GrpcSender::connect(gateway.grpc);
    let mut taken = Vec::new();
    for first in (0..).step_by(40) {
        let traces: Vec<Trace> = (first..first + 40).map(sampled_trace).collect();
        if sender.send(&request_of(&traces)) != Answer::Taken {
            break;
        }
        taken.extend(traces);
        assert!(taken.len() < 20_000, "the disk has a bound");
    }
    assert!(!taken.is_empty());
    assert!(gateway.ledger().intake("refused") > 0);
    assert_eq!(pending_disk(&gateway, "not_written_spans"), 0, "nothing was taken that had no room");
    gateway.kill();

    let gateway = start(Engine::epoll(1), "20ms");
    let promised = of_errors(taken.iter().copied());
    sink.wait_for_spans(promised.len());
    wait_for("an empty disk", || (pending_disk(&gateway, "records") == 0).then_some(()));
    let sender = GrpcSender::connect(gateway.grpc);
    assert_eq!(sender.send(&request_of(&[sampled_trace(1_000_000)])), Answer::Taken, "there is room again");
    gateway.stop().assert_nothing_lost();
    let arrived = sink.spans();
    assert!(promised.iter().all(|span| arrived.get(span) == Some(&1)));
}
