//! A stop that is asked for loses nothing that was acknowledged: what is pending is decided, what is kept or batched is
//! delivered, and where a backend makes that impossible, the last line says how much was lost, in time.

mod common;

use common::gateway::Setup;
use common::traces::{Kind, SpanId, Trace, request_of, tail_sampling};
use common::{Answer, Engine, GrpcSender, HttpSender, Sink, wait_for};
use std::collections::BTreeSet;

/// `count` traces from number `first` on; one in three has an error.
fn traces(first: u64, count: u64) -> Vec<Trace> {
    let kind = |number: u64| if number.is_multiple_of(3) { Kind::ErrorIn(1) } else { Kind::Plain };
    (first..first + count).map(|number| Trace { number, spans: 4, kind: kind(number) }).collect()
}

fn spans(traces: &[Trace]) -> BTreeSet<SpanId> {
    traces.iter().flat_map(Trace::span_ids).collect()
}

fn kept(traces: &[Trace]) -> BTreeSet<SpanId> {
    traces.iter().filter(|trace| trace.kind != Kind::Plain).flat_map(Trace::span_ids).collect()
}

#[test]
fn pending_traces_are_decided_and_waiting_batches_leave() {
    for engine in [Some(Engine::epoll(1)), Some(Engine::epoll(3)), Engine::io_uring(2)].into_iter().flatten() {
        let sink = Sink::start();
        let gateway = Setup::new(engine)
            .processor("tail_sampling", tail_sampling("1h"))
            .processor("batch", "{timeout: 1h, send_batch_size: 100000}")
            .otlp("otlp", sink.address, "")
            .start();
        let sender = GrpcSender::connect(gateway.grpc);
        let traces = traces(0, 90);
        for chunk in traces.chunks(9) {
            assert_eq!(sender.send(&request_of(chunk)), Answer::Taken);
        }
        let ledger = gateway.ledger();
        assert_eq!(ledger.account("otlp", "in_flight"), 90 * 4, "nothing is due for an hour");
        assert_eq!(sink.spans_count(), 0);
        let ending = gateway.stop();
        ending.assert_nothing_lost();
        let kept = kept(&traces);
        assert_eq!(sink.spans_count(), kept.len(), "{engine:?}: each once");
        assert_eq!(sink.spans().into_keys().collect::<BTreeSet<_>>(), kept, "{engine:?}");
        assert_eq!(ending.number_before(" kept and delivered to otlp"), kept.len() as u64);
        assert_eq!(ending.number_before(" dropped by policy"), 90 * 4 - kept.len() as u64);
    }
}

/// The first line and the signal may come right behind one another: a supervisor that changes its mind.
#[test]
fn a_gateway_that_is_stopped_as_soon_as_it_is_up_has_a_last_word() {
    let sink = Sink::start();
    for _ in 0..12 {
        let gateway = Setup::new(Engine::epoll(2)).otlp("otlp", sink.address, "").start();
        gateway.stop().assert_nothing_lost();
    }
}

#[test]
fn pending_traces_are_dropped_and_counted_where_that_was_asked() {
    let sink = Sink::start();
    let drops = tail_sampling("1h").replacen('{', "{drop_pending_traces_on_shutdown: true, ", 1);
    let gateway = Setup::new(Engine::epoll(2)).processor("tail_sampling", drops).otlp("otlp", sink.address, "").start();
    let sender = GrpcSender::connect(gateway.grpc);
    assert_eq!(sender.send(&request_of(&traces(0, 30))), Answer::Taken);
    let ending = gateway.stop();
    ending.assert_nothing_lost();
    assert_eq!(sink.spans_count(), 0);
    assert_eq!(ending.number_before(" dropped by policy"), 30 * 4);
}

#[test]
fn whatever_was_acknowledged_while_it_stopped_arrives() {
    let sink = Sink::start();
    let gateway = Setup::new(Engine::epoll(2))
        .processor("batch", "{timeout: 50ms, send_batch_size: 64}")
        .otlp("otlp", sink.address, "")
        .start();
    let (grpc, http) = (gateway.grpc, gateway.http);
    let over_grpc = std::thread::spawn(move || {
        let sender = GrpcSender::connect(grpc);
        send_until_it_ends(0, |trace| sender.send(&request_of(&[*trace])))
    });
    let over_http = std::thread::spawn(move || {
        let mut sender = Some(HttpSender::connect(http));
        send_until_it_ends(1 << 30, |trace| {
            let mut connection = sender.take().expect("the last answer left it open");
            // A connection that ends in the middle of an exchange is a panic of this sender: it is one more ending.
            let sent = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let response = connection.send(&request_of(&[*trace]));
                let stays = response.headers.get("connection").is_none_or(|value| value != "close");
                (response.answer(), stays.then_some(connection))
            }));
            let Ok((answer, connection)) = sent else { return Answer::Broken("the connection ended".to_owned()) };
            sender = connection;
            if answer == Answer::Taken && sender.is_none() { Answer::Broken(LAST.to_owned()) } else { answer }
        })
    });
    sink.wait_for_spans(500);
    let ending = gateway.stop();
    ending.assert_nothing_lost();
    let (over_grpc, over_http) = (over_grpc.join().expect("it ends"), over_http.join().expect("it ends"));
    let acknowledged: BTreeSet<SpanId> = over_grpc.union(&over_http).copied().collect();
    let arrived = sink.spans();
    assert!(arrived.values().all(|&times| times == 1), "a span came twice");
    let arrived: BTreeSet<SpanId> = arrived.into_keys().collect();
    assert!(!over_grpc.is_empty() && !over_http.is_empty(), "both protocols took part");
    assert!(arrived.is_superset(&acknowledged), "{} acknowledged, {} arrived", acknowledged.len(), arrived.len());
    assert_eq!(ending.number_before(" kept and delivered to otlp"), arrived.len() as u64);
}

/// The answer was good, and the server says that it was the last on this connection.
const LAST: &str = "taken, and closed";

/// Sends one trace after the other until the gateway takes no more; returns the acknowledged spans.
fn send_until_it_ends(first: u64, mut send: impl FnMut(&Trace) -> Answer) -> BTreeSet<SpanId> {
    let mut acknowledged = BTreeSet::new();
    for number in first.. {
        let trace = Trace { number, spans: 4, kind: Kind::Plain };
        let answer = send(&trace);
        if answer == Answer::Taken || answer == Answer::Broken(LAST.to_owned()) {
            acknowledged.extend(trace.span_ids());
        }
        if answer != Answer::Taken {
            break;
        }
    }
    acknowledged
}

/// An address where nobody listens and nobody else can: it is bound.
fn nobody() -> (socket2::Socket, std::net::SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).expect("loopback has a free port");
    let address = socket.local_addr().ok().and_then(|address| address.as_socket()).expect("it is bound");
    (socket, address)
}

#[test]
fn a_backend_that_is_down_costs_the_time_allowed_and_is_told() {
    let (_held, address) = nobody();
    let engine = Engine { shutdown_timeout: "2s", ..Engine::epoll(2) };
    let gateway = Setup::new(engine).otlp("otlp", address, "").start();
    let sender = GrpcSender::connect(gateway.grpc);
    let traces = traces(0, 20);
    for trace in &traces {
        assert_eq!(sender.send(&request_of(&[*trace])), Answer::Taken, "the queue takes it");
    }
    let lost = spans(&traces).len() as u64;
    // The exporter alone would try for 300 s, longer than this test waits for the end.
    let ending = gateway.stop();
    assert_eq!(ending.status.code(), Some(0), "{}", ending.said);
    assert_eq!(ending.number_before(" not deliverable"), lost, "{}", ending.said);
    assert_eq!(ending.number_before(" lost"), lost, "{}", ending.said);
    assert!(!ending.sentence.contains("DOES NOT BALANCE"), "{}", ending.said);
}

#[test]
fn a_backend_that_does_not_answer_costs_the_time_allowed_and_is_told() {
    let (silent, well) = (Sink::start(), Sink::start());
    silent.hold();
    let engine = Engine { shutdown_timeout: "2s", ..Engine::epoll(1) };
    let gateway = Setup::new(engine)
        .otlp("otlp/silent", silent.address, "timeout: 0s, sending_queue: {num_consumers: 2}")
        .otlp("otlp/well", well.address, "")
        .start();
    let sender = GrpcSender::connect(gateway.grpc);
    let traces = traces(0, 20);
    for trace in &traces {
        assert_eq!(sender.send(&request_of(&[*trace])), Answer::Taken);
    }
    silent.wait_for_asked(2);
    well.wait_for_spans(spans(&traces).len());
    let ending = gateway.stop();
    let sent = spans(&traces).len() as u64;
    assert_eq!(ending.status.code(), Some(0), "{}", ending.said);
    assert_eq!(ending.number_before(" lost"), sent, "{}", ending.said);
    assert!(!ending.sentence.contains("DOES NOT BALANCE"), "{}", ending.said);
    let untold = ending.number_before(" not deliverable") + ending.number_before(" still in flight");
    assert_eq!(untold, sent, "{}", ending.said);
    assert_eq!(well.spans().into_keys().collect::<BTreeSet<_>>(), spans(&traces), "the other backend has everything");
}

#[test]
fn a_backend_that_comes_back_during_the_stop_gets_everything() {
    let sink = Sink::start();
    sink.hold();
    let gateway = Setup::new(Engine::epoll(2)).otlp("otlp", sink.address, "timeout: 0s").start();
    let sender = GrpcSender::connect(gateway.grpc);
    let traces = traces(0, 30);
    for trace in &traces {
        assert_eq!(sender.send(&request_of(&[*trace])), Answer::Taken);
    }
    gateway.terminate();
    // The listeners are closed first: who sees that knows that the stop has begun.
    wait_for("closed listeners", || std::net::TcpStream::connect(gateway.grpc).is_err().then_some(()));
    assert_eq!(sink.spans_count(), 0);
    sink.take();
    gateway.ended().assert_nothing_lost();
    assert_eq!(sink.spans().into_keys().collect::<BTreeSet<_>>(), spans(&traces));
}
