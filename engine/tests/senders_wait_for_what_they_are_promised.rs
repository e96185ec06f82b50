//! `ack: delivered`: a sender is answered when every backend has taken what it sent, also behind a batch processor; it hears
//! what went wrong, its own deadline ends its wait, and nothing stays behind when it goes away.

mod common;

use codecs::grpc::Code;
use common::gateway::{Setup, wait_until_empty};
use common::grpc::{Call, TRACES, framed};
use common::traces::{Kind, Trace, request_of};
use common::{Answer, Engine, Gateway, GrpcSender, HttpSender, Sink, wait_for};

const SPANS: u32 = 20;
const FAST: &str = "timeout: 0s, retry_on_failure: {initial_interval: 10ms, max_interval: 50ms}";
/// Its batches leave when they are full, or when the gateway stops.
const SIZED: &str = "{timeout: 1h, send_batch_size: 30, send_batch_max_size: 30}";

fn request(number: u64) -> Vec<u8> {
    request_of(&[Trace { number, spans: SPANS, kind: Kind::Plain }]).to_vec()
}

fn engines() -> impl Iterator<Item = Engine> {
    [Some(Engine::epoll(1)), Some(Engine::epoll(2)), Engine::io_uring(2)].into_iter().flatten()
}

fn delivered(engine: Engine) -> Setup<'static> {
    Setup::new(engine).ack("delivered")
}

fn unanswered(gateway: &Gateway) -> f64 {
    gateway.metrics().sum("otelcol_receiver_unanswered_spans", &[])
}

fn wait_for_unanswered(gateway: &Gateway, requests: u32) {
    let spans = f64::from(requests * SPANS);
    wait_for("requests that wait for their answer", || (unanswered(gateway) == spans).then_some(()));
}

#[test]
fn the_answer_waits_for_every_backend() {
    for engine in engines() {
        let (quick, slow) = (Sink::start(), Sink::start());
        slow.hold();
        let gateway = delivered(engine).otlp("otlp/a", quick.address, FAST).otlp("otlp/b", slow.address, FAST).start();
        let sender = GrpcSender::connect(gateway.grpc);
        let pending = sender.begin(Call::plain(&request(0)));
        quick.wait_for_spans(SPANS as usize);
        slow.wait_for_asked(1);
        assert_eq!(pending.look(), None, "one backend has not taken it");
        slow.take();
        assert_eq!(pending.wait(), Answer::Taken);
        assert_eq!(slow.spans_count(), SPANS as usize, "it had arrived when its sender was told so");
        drop(sender);
        gateway.stop().assert_nothing_lost();
    }
}

#[test]
fn behind_a_batch_processor_each_request_waits_for_its_own_items() {
    for engine in [Some(Engine::epoll(1)), Engine::io_uring(1)].into_iter().flatten() {
        let sink = Sink::start();
        let gateway = delivered(engine).processor("batch", SIZED).otlp("otlp", sink.address, FAST).start();
        let sender = GrpcSender::connect(gateway.grpc);
        // 20 spans wait for more; with 40 there, 30 leave and 10 of the second request stay.
        let first = sender.begin(Call::plain(&request(0)));
        wait_for_unanswered(&gateway, 1);
        assert_eq!(sink.spans_count(), 0);
        let second = sender.begin(Call::plain(&request(1)));
        assert_eq!(first.wait(), Answer::Taken);
        assert_eq!((sink.spans_count(), second.look()), (30, None));
        let third = sender.begin(Call::plain(&request(2)));
        assert_eq!([second.wait(), third.wait()], [Answer::Taken, Answer::Taken]);
        assert_eq!(sink.spans_count(), 60);
        // A stop does not wait for the batch to be full, and the sender still hears of it.
        let last = sender.begin(Call::plain(&request(3)));
        wait_for_unanswered(&gateway, 1);
        gateway.terminate();
        assert_eq!(last.wait(), Answer::Taken);
        drop(sender);
        gateway.ended().assert_nothing_lost();
        assert!(sink.spans().values().all(|times| *times == 1) && sink.spans_count() == 80);
    }
}

#[test]
fn a_failure_is_told_to_every_sender_of_the_batch_with_its_status() {
    let sink = Sink::start();
    let gives_up =
        "timeout: 0s, retry_on_failure: {initial_interval: 10ms, max_interval: 10ms, max_elapsed_time: 50ms}";
    let batch = "{timeout: 1h, send_batch_size: 40}";
    let gateway = delivered(Engine::epoll(1)).processor("batch", batch).otlp("otlp", sink.address, gives_up).start();
    let sender = GrpcSender::connect(gateway.grpc);
    let mut number = 0;
    for (backend, told) in [
        (Code::InvalidArgument, Code::InvalidArgument),
        (Code::PermissionDenied, Code::Internal),
        (Code::Unavailable, Code::Unavailable),
    ] {
        sink.refuse(backend);
        let pending = [number, number + 1].map(|number| sender.begin(Call::plain(&request(number))));
        number += 2;
        for answer in pending.map(|pending| pending.wait()) {
            let status = answer.status();
            assert_eq!((status.code, status.retry_delay.is_some()), (told, told == Code::Unavailable), "{status:?}");
        }
    }
    sink.take();
    let pending = [number, number + 1].map(|number| sender.begin(Call::plain(&request(number))));
    assert!(pending.into_iter().all(|pending| pending.wait() == Answer::Taken));
    let ledger = wait_until_empty(&gateway, &["otlp"]);
    let spans = |requests: u64| requests * u64::from(SPANS);
    let intake = ["accepted", "refused", "rejected"].map(|term| ledger.intake(term));
    assert_eq!(intake, [spans(2), spans(2), spans(4)]);
    assert_eq!(["delivered", "failed"].map(|term| ledger.account("otlp", term)), [spans(2), spans(6)]);
    assert!(ledger.is_balanced());
    // Over HTTP the same answers are 400, 500 and 503; here the first of them.
    sink.refuse(Code::InvalidArgument);
    let alone = sender.begin(Call::plain(&request(number + 2)));
    assert_eq!(HttpSender::connect(gateway.http).send(&request(number + 3)).status, 400);
    assert_eq!(alone.wait().status().code, Code::InvalidArgument);
}

#[test]
fn the_senders_deadline_ends_its_wait_and_what_it_will_send_again_is_given_up() {
    for engine in engines() {
        let sink = Sink::start();
        sink.hold();
        let queue = format!("{FAST}, sending_queue: {{num_consumers: 1}}");
        let gateway = delivered(Engine { shards: 1, ..engine }).otlp("otlp", sink.address, &queue).start();
        let sender = GrpcSender::connect(gateway.grpc);
        let patient = sender.begin(Call::plain(&request(0)));
        sink.wait_for_asked(1);
        let hasty = sender.begin(Call::plain(&request(1)).with("grpc-timeout", "100m"));
        assert_eq!(hasty.wait().status().code, Code::DeadlineExceeded);
        assert_eq!(unanswered(&gateway), f64::from(SPANS));
        sink.take();
        assert_eq!(patient.wait(), Answer::Taken);
        let ledger = wait_until_empty(&gateway, &["otlp"]);
        assert_eq!(["accepted", "refused"].map(|term| ledger.intake(term)), [u64::from(SPANS); 2]);
        assert_eq!(["delivered", "failed"].map(|term| ledger.account("otlp", term)), [u64::from(SPANS); 2]);
        assert_eq!(sink.spans_count(), SPANS as usize, "nobody waited for the second, so it was not sent");
        assert_eq!(sender.send(&request(1)), Answer::Taken, "it comes again");
        assert!(sink.spans().values().all(|times| *times == 1));
    }
}

/// Sends requests over a connection of its own, and closes that once all of them wait for their answer.
fn send_and_go_away(gateway: &Gateway, messages: &[Vec<u8>]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let socket = tokio::net::TcpStream::connect(gateway.grpc).await.expect("the receiver listens");
        let (sender, connection) = h2::client::handshake(socket).await.expect("it speaks HTTP/2");
        let connection = tokio::spawn(connection);
        let mut sender = sender.ready().await.expect("a stream");
        let mut under_way = Vec::new();
        for message in messages {
            let request =
                http::Request::post(format!("http://test{TRACES}")).header("content-type", "application/grpc");
            sender = sender.ready().await.expect("a stream");
            let (response, mut body) = sender.send_request(request.body(()).expect("sound"), false).expect("a stream");
            body.send_data(framed(false, message), true).expect("a stream");
            under_way.push((response, body));
        }
        while unanswered(gateway) < messages.len() as f64 * f64::from(SPANS) {
            tokio::task::yield_now().await;
        }
        connection.abort();
        drop((under_way, sender, connection.await));
    });
}

#[test]
fn a_sender_that_goes_away_leaves_nothing_behind() {
    for engine in engines() {
        let sink = Sink::start();
        sink.hold();
        let gateway = delivered(engine).otlp("otlp", sink.address, FAST).start();
        send_and_go_away(&gateway, &[request(0)]);
        sink.wait_for_asked(1);
        wait_for("no request that waits for an answer", || (unanswered(&gateway) == 0.0).then_some(()));
        assert_eq!(gateway.ledger().intake("refused"), u64::from(SPANS));
        sink.take();
        wait_until_empty(&gateway, &["otlp"]);
        assert_eq!(GrpcSender::connect(gateway.grpc).send(&request(1)), Answer::Taken);
        assert!(wait_until_empty(&gateway, &["otlp"]).is_balanced());
    }
}

#[test]
fn requests_that_another_shard_took_over_are_given_up_with_their_sender() {
    for engine in [Some(Engine::epoll(2)), Engine::io_uring(2)].into_iter().flatten() {
        let sink = Sink::start();
        // They are tried again and again, for as long as somebody waits.
        sink.refuse(Code::Unavailable);
        let queue = format!("{FAST}, sending_queue: {{num_consumers: 1000}}");
        let gateway = delivered(engine).otlp("otlp", sink.address, &queue).start();
        let requests: Vec<Vec<u8>> = (0..60).map(request).collect();
        send_and_go_away(&gateway, &requests);
        let handed_over = gateway.metrics().sum("tracegate_mesh_balanced_requests", &[]);
        assert!(handed_over > 0.0, "one shard has kept them all");
        let ledger = wait_until_empty(&gateway, &["otlp"]);
        assert_eq!(
            ledger.intake("refused"),
            60 * u64::from(SPANS),
            "the backend was never there, nobody waits any more"
        );
        sink.take();
        let sender = GrpcSender::connect(gateway.grpc);
        for request in &requests {
            assert_eq!(sender.send(request), Answer::Taken);
        }
        assert!(sink.spans().values().all(|times| *times == 1), "what was given up did not come besides");
        assert!(wait_until_empty(&gateway, &["otlp"]).is_balanced());
    }
}
