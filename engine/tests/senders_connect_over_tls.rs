//! TLS and mutual TLS in front of the gateway: the right sender gets in over both protocols on both runtimes, everybody
//! else is refused with a reason that is said once and counted, and files are swapped under load without losing a request.

mod common;

use common::gateway::{Setup, wait_until_empty};
use common::grpc::Call;
use common::tls::{Authority, Identity, Mount, Validity, client, client_of};
use common::traces::{Kind, Trace, request_of};
use common::{Answer, Engine, Gateway, GrpcSender, HttpSender, Sink, wait_for};
use rustls::{ClientConfig, NamedGroup, version};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const FAILED: &str = "tracegate_receiver_failed_handshakes";
const OPENED: &str = "tracegate_receiver_tls_handshakes";

/// An authority that the gateway trusts and is trusted by, and its mounted files.
struct House {
    authority: Authority,
    server: Identity,
    sender: Identity,
    mount: Mount,
}

fn house() -> House {
    let authority = Authority::new("house");
    let server = authority.sign("gateway", Validity::Now);
    let sender = authority.sign("sender", Validity::Now);
    let mount = Mount::new(&server, &authority.pem);
    House { authority, server, sender, mount }
}

impl House {
    fn right(&self, alpn: &str) -> Arc<ClientConfig> {
        client(&self.authority.pem, Some(&self.sender), alpn)
    }
}

fn spans(number: u64) -> bytes::Bytes {
    request_of(&[Trace { number, spans: 3, kind: Kind::Plain }])
}

fn start(engine: Engine, tls: &str, sink: &Sink) -> Gateway {
    let tls = format!("tls: {{{tls}}}");
    let mut setup = Setup::new(engine).otlp("otlp", sink.address, "");
    (setup.grpc, setup.http) = (&tls, &tls);
    setup.start()
}

#[test]
fn the_right_sender_gets_in_over_both_protocols_on_both_runtimes() {
    for engine in [Some(Engine::epoll(2)), Engine::io_uring(2)].into_iter().flatten() {
        let (house, sink) = (house(), Sink::start());
        let gateway = start(engine, &house.mount.server(true), &sink);
        let grpc = GrpcSender::connect_tls(gateway.grpc, house.right("h2"));
        for number in 0..20 {
            assert_eq!(grpc.send(&spans(number)), Answer::Taken);
        }
        // Larger than every buffer on the way.
        let large: Vec<Trace> = (0..2000).map(|number| Trace { number, spans: 5, kind: Kind::Plain }).collect();
        assert_eq!(grpc.send(&request_of(&large)), Answer::Taken);
        let mut http = HttpSender::connect_tls(gateway.http, house.right("http/1.1")).unwrap();
        for number in 20..40 {
            assert_eq!(http.send(&spans(number)).answer(), Answer::Taken);
        }
        assert_eq!(http.send(&request_of(&large)).answer(), Answer::Taken);
        sink.wait_for_spans(40 * 3 + 2 * 10_000);
        let metrics = gateway.metrics();
        assert_eq!((metrics.sum(OPENED, &["transport=\"grpc\""]), metrics.sum(FAILED, &[])), (1.0, 0.0));
        assert!(gateway.said().contains("TLS with client certificates"));
        drop((grpc, http));
        gateway.stop().assert_nothing_lost();
    }
}

#[test]
fn a_session_is_safe_from_tomorrows_quantum_computers_and_each_version_is_spoken() {
    let (house, sink) = (house(), Sink::start());
    let gateway = start(Engine::epoll(1), &house.mount.server(false), &sink);
    for version in [&version::TLS13, &version::TLS12] {
        let config = client_of(&house.authority.pem, None, "h2", &[version]);
        let mut stream = TcpStream::connect(gateway.grpc).unwrap();
        let mut session = rustls::ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut stream).unwrap();
        }
        assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));
        assert_eq!(session.protocol_version(), Some(version.version));
        if version.version == rustls::ProtocolVersion::TLSv1_3 {
            assert_eq!(session.negotiated_key_exchange_group().unwrap().name(), NamedGroup::X25519MLKEM768);
        }
    }
    gateway.stop().assert_nothing_lost();
}

/// Bytes that are no right handshake, and what comes back until the gateway closes.
fn shout(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("the receiver listens");
    stream.set_read_timeout(Some(common::PATIENCE)).expect("a socket option");
    stream.write_all(bytes).expect("a fresh connection takes a few bytes");
    stream.shutdown(std::net::Shutdown::Write).expect("it is connected");
    let mut answer = Vec::new();
    // A reset is an answer too.
    drop(stream.read_to_end(&mut answer));
    answer
}

#[test]
fn each_refusal_is_said_once_and_counted_with_its_reason_and_disturbs_nobody() {
    let (house, sink) = (house(), Sink::start());
    let tls = format!("{}, min_version: '1.3'", house.mount.server(true));
    let gateway = start(Engine::epoll(2), &tls, &sink);
    let stranger = Authority::new("stranger");
    let ours = &house.authority.pem;
    let expired = house.authority.sign("old sender", Validity::Over);
    let strange = stranger.sign("strange sender", Validity::Now);
    let honest = GrpcSender::connect_tls(gateway.grpc, house.right("h2"));
    assert_eq!(honest.send(&spans(0)), Answer::Taken);

    let broken = |config: Arc<ClientConfig>| {
        let answer = GrpcSender::connect_tls(gateway.grpc, config).send(&spans(1));
        let Answer::Broken(words) = answer else { panic!("let in: {answer:?}") };
        words
    };
    let with = |identity: Option<&Identity>| client(ours, identity, "h2");
    let only_12 = || client_of(ours, Some(&house.sender), "h2", &[&version::TLS12]);
    let refusals: [(&str, &str, &dyn Fn() -> String); 10] = [
        ("no_certificate", "shows no client certificate", &|| broken(with(None))),
        ("unknown_authority", "client_ca_file signed its certificate", &|| broken(with(Some(&strange)))),
        ("expired", "out of date", &|| broken(with(Some(&expired)))),
        ("version", "no version of TLS that is allowed here", &|| broken(only_12())),
        ("protocol", "asks for another protocol than HTTP/2 (gRPC)", &|| broken(house.right("http/1.1"))),
        ("peer_alert", "does not trust the certificate of cert_file", &|| {
            // Here it is the peer that refuses, and knows why by itself.
            let words = broken(client(&stranger.pem, Some(&house.sender), "h2"));
            if words.contains("UnknownIssuer") { "alert".to_owned() } else { words }
        }),
        ("plain_text", "speaks plain text (HTTP/2)", &|| {
            let answer = shout(gateway.grpc, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
            String::from_utf8_lossy(&answer).into_owned()
        }),
        ("plain_text", "speaks plain text", &|| {
            let answer = shout(gateway.grpc, b"POST /v1/traces HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n\r\n");
            String::from_utf8_lossy(&answer).into_owned()
        }),
        ("malformed", "no TLS handshake", &|| {
            shout(gateway.grpc, &[22, 3, 1, 0, 4, 99, 0, 0, 0]);
            "alert".to_owned()
        }),
        ("left", "left in the middle of the handshake", &|| {
            shout(gateway.grpc, &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]);
            "alert".to_owned()
        }),
    ];
    let mut before = 0.0;
    for (reason, said, refuse) in refusals {
        let label = format!("reason=\"{reason}\"");
        let counted = || gateway.metrics().sum(FAILED, &[&label, "transport=\"grpc\""]);
        let count = counted();
        for time in [1.0, 2.0] {
            let told = refuse();
            let told_why = told.contains("alert") || told.contains("this port speaks TLS");
            assert!(told_why, "{reason}: the peer learned {told:?}");
            wait_for("a refusal that is counted", || (counted() == count + time).then_some(()));
            before += 1.0;
        }
        let lines = || gateway.said().lines().filter(|line| line.contains(&format!("\"{reason}\""))).count();
        wait_for("a line in the log", || (lines() > 0).then_some(()));
        assert_eq!(lines(), 1, "{reason}: {}", gateway.said());
        assert!(gateway.said().contains(said), "{reason}: {}", gateway.said());
        assert_eq!(honest.send(&spans(2)), Answer::Taken, "{reason}");
    }
    assert_eq!(gateway.metrics().sum(FAILED, &["transport=\"grpc\""]), before, "each counted once");
    // Somebody who only looks whether the port is open is no failure.
    shout(gateway.grpc, b"");
    assert!(HttpSender::connect_tls(gateway.http, house.right("h2")).err().unwrap().contains("alert"));
    let http = || gateway.metrics().sum(FAILED, &["transport=\"http\"", "reason=\"protocol\""]);
    wait_for("the other port's refusal", || (http() == 1.0).then_some(()));
    assert_eq!(gateway.metrics().sum(FAILED, &[]), before + 1.0);
    drop(honest);
    let ledger = wait_until_empty(&gateway, &["otlp"]);
    assert_eq!((ledger.intake("refused"), ledger.intake("rejected")), (0, 0));
    gateway.stop().assert_nothing_lost();
}

#[test]
fn tls_at_a_port_of_plain_text_is_named() {
    let (house, sink) = (house(), Sink::start());
    let gateway = Setup::new(Engine::epoll(1)).otlp("otlp", sink.address, "").start();
    for address in [gateway.grpc, gateway.http] {
        assert!(HttpSender::connect_tls(address, house.right("h2")).is_err());
    }
    let counted = || gateway.metrics().sum(FAILED, &["reason=\"tls_at_plain_port\""]);
    wait_for("both to be counted", || (counted() == 2.0).then_some(()));
    wait_for("a line in the log", || gateway.said().contains("speaks TLS at a port of plain text").then_some(()));
    assert_eq!(GrpcSender::connect(gateway.grpc).send(&spans(1)), Answer::Taken);
    gateway.stop().assert_nothing_lost();
}

/// Sends on a new connection each time, and on one that stays, until told to stop; returns how many were taken.
fn load(gateway: &Gateway, config: Arc<ClientConfig>, stop: &AtomicBool, taken: &AtomicU64) {
    let standing = GrpcSender::connect_tls(gateway.grpc, Arc::clone(&config));
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        assert_eq!(standing.send(&spans(number)), Answer::Taken, "on the connection that stays");
        let fresh = GrpcSender::connect_tls(gateway.grpc, Arc::clone(&config));
        assert_eq!(fresh.send(&spans(number)), Answer::Taken, "on a new connection");
        taken.fetch_add(2, Ordering::Relaxed);
    }
}

/// Whether a sender who trusts only this authority is let in.
fn is_trusted(gateway: &Gateway, authority: &str, identity: &Identity) -> bool {
    let sender = GrpcSender::connect_tls(gateway.grpc, client(authority, Some(identity), "h2"));
    sender.begin(Call::plain(&spans(7))).wait() == Answer::Taken
}

#[test]
fn certificates_are_swapped_under_load_and_no_request_is_lost() {
    for engine in [Some(Engine::epoll(2)), Engine::io_uring(2)].into_iter().flatten() {
        let (mut house, sink) = (house(), Sink::start());
        let gateway = start(engine, &house.mount.server(true), &sink);
        let next = Authority::new("next");
        let next_server = next.sign("gateway", Validity::Now);
        let next_sender = next.sign("sender", Validity::Now);
        // As authorities are changed in the field: for a while senders know both, and so does the gateway.
        let both = format!("{}{}", house.authority.pem, next.pem);
        let (stop, taken) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let roots = both.clone();
            let config = common::tls::client(&roots, Some(&house.sender), "h2");
            let running = scope.spawn(|| load(&gateway, config, &stop, &taken));
            let many = |least: u64| {
                wait_for("requests", || (running.is_finished() || taken.load(Ordering::Relaxed) >= least).then_some(()))
            };
            many(10);
            assert!(!is_trusted(&gateway, &house.authority.pem, &next_sender));
            house.mount.swap(&next_server, &both);
            wait_for("the next certificate", || is_trusted(&gateway, &next.pem, &next_sender).then_some(()));
            many(taken.load(Ordering::Relaxed) + 10);
            let server = house.server.clone();
            house.mount.swap(&server, &both);
            wait_for("the old certificate", || is_trusted(&gateway, &house.authority.pem, &house.sender).then_some(()));
            many(taken.load(Ordering::Relaxed) + 10);
            stop.store(true, Ordering::Relaxed);
            running.join().expect("every request was taken");
        });
        assert_eq!(gateway.metrics().sum("tracegate_tls_failed_reloads", &[]), 0.0);
        // Two listeners, two swaps.
        assert_eq!(gateway.metrics().sum("tracegate_tls_reloads", &[]), 4.0);
        gateway.stop().assert_nothing_lost();
    }
}

#[test]
fn files_that_cannot_be_used_leave_the_old_ones_in_force_and_are_named_once() {
    let (mut house, sink) = (house(), Sink::start());
    let gateway = start(Engine::epoll(1), &house.mount.server(true), &sink);
    let other = house.authority.sign("gateway", Validity::Now);
    let torn = Identity { cert: other.cert.clone(), key: house.server.key.clone() };
    house.mount.swap(&torn, &house.authority.pem);
    let failed = || gateway.metrics().sum("tracegate_tls_failed_reloads", &[]);
    wait_for("both listeners to see them", || (failed() == 2.0).then_some(()));
    assert!(is_trusted(&gateway, &house.authority.pem, &house.sender));
    house.mount.swap(&other, &house.authority.pem);
    wait_for("good files", || (gateway.metrics().sum("tracegate_tls_reloads", &[]) == 2.0).then_some(()));
    assert!(is_trusted(&gateway, &house.authority.pem, &house.sender));
    assert_eq!(failed(), 2.0);
    let said = gateway.said();
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("cannot be used")).collect();
    assert_eq!(lines.len(), 2, "one a listener: {said}");
    assert!(lines[0].contains("tls.crt") && lines[0].contains("does not fit"), "{said}");
    assert!(!said.contains("PRIVATE KEY"));
    gateway.stop().assert_nothing_lost();
}

#[test]
fn the_seeds_mutual_tls_runs_over_the_seeds_gateway_and_feeds_a_backend_that_demands_certificates() {
    let (house, sink) = (house(), Sink::start());
    let backend = start(Engine::epoll(1), &house.mount.server(true), &sink);
    let mount = Mount::new(&house.sender, &house.authority.pem);
    let seed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/seed");
    let file = |mount: &Mount, name: &str| mount.path(name).display().to_string();
    let sets = [
        "receivers.otlp.protocols.grpc.endpoint=127.0.0.1:0".to_owned(),
        "receivers.otlp.protocols.http.endpoint=127.0.0.1:0".to_owned(),
        "service.telemetry.metrics.address=127.0.0.1:0".to_owned(),
        "service.engine={cores: 2, pin: false, runtime: epoll, admin: '127.0.0.1:0', shutdown_timeout: 60s}".to_owned(),
        format!("receivers.otlp.protocols.grpc.tls.cert_file={}", file(&house.mount, "tls.crt")),
        format!("receivers.otlp.protocols.grpc.tls.key_file={}", file(&house.mount, "tls.key")),
        format!("receivers.otlp.protocols.grpc.tls.client_ca_file={}", file(&house.mount, "ca.crt")),
        format!("exporters.otlp.endpoint=localhost:{}", backend.grpc.port()),
        format!("exporters.otlp.tls.cert_file={}", file(&mount, "tls.crt")),
        format!("exporters.otlp.tls.key_file={}", file(&mount, "tls.key")),
        format!("exporters.otlp.tls.ca_file={}", file(&mount, "ca.crt")),
        "processors.tail_sampling.decision_wait=100ms".to_owned(),
        "processors.batch.timeout=100ms".to_owned(),
        // `transform` is left out until it is built.
        "service.pipelines.traces.processors=[memory_limiter,tail_sampling,batch]".to_owned(),
        "service.pipelines.traces.exporters=[otlp]".to_owned(),
    ];
    let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
    let (first, over) = (seed.join("gateway.config.yaml"), seed.join("mtls.config.yaml"));
    let gateway = Gateway::of_files(&first, &[&over], &sets);
    let sender = GrpcSender::connect_tls(gateway.grpc, house.right("h2"));
    let traces: Vec<Trace> = (0..50).map(|number| Trace { number, spans: 4, kind: Kind::ErrorIn(1) }).collect();
    assert_eq!(sender.send(&request_of(&traces)), Answer::Taken);
    sink.wait_for_spans(200);
    drop(sender);
    gateway.stop().assert_nothing_lost();
    backend.stop().assert_nothing_lost();
}

#[test]
fn an_exporter_shows_its_new_certificate_at_its_next_connection() {
    let (mut house, sink) = (house(), Sink::start());
    let next = Authority::new("next");
    // Connections that have to go soon, so that there is a next one.
    let soon = "keepalive: {server_parameters: {max_connection_age: 100ms, max_connection_age_grace: 100ms}}";
    let tls = format!("tls: {{{}}}, {soon}", house.mount.server(true));
    let mut setup = Setup::new(Engine::epoll(1)).otlp("otlp", sink.address, "");
    setup.grpc = &tls;
    let backend = setup.start();
    let mut mount = Mount::new(&house.sender, &house.authority.pem);
    let settings = format!(
        "{{endpoint: 'localhost:{}', compression: none, tls: {{{}}}, retry_on_failure: {{initial_interval: 50ms, \
         max_interval: 50ms}}}}",
        backend.grpc.port(),
        mount.client()
    );
    let gateway = Setup { exporters: vec![("otlp", settings)], ..Setup::new(Engine::epoll(1)) }.start();
    let sender = GrpcSender::connect(gateway.grpc);
    assert_eq!(sender.send(&spans(0)), Answer::Taken);
    sink.wait_for_spans(3);
    // The exporter's certificate, then whom the backend lets in: its own certificate stays.
    mount.swap(&next.sign("exporter", Validity::Now), &house.authority.pem);
    let server = house.server.clone();
    house.mount.swap(&server, &next.pem);
    for gateway in [&gateway, &backend] {
        wait_for("the new files", || (gateway.metrics().sum("tracegate_tls_reloads", &[]) == 1.0).then_some(()));
    }
    let opened = || backend.metrics().sum(OPENED, &[]);
    let before = opened();
    let mut number = 0;
    wait_for("a connection with the new certificate", || {
        number += 1;
        assert_eq!(sender.send(&spans(number)), Answer::Taken);
        (opened() > before).then_some(())
    });
    sink.wait_for_spans(usize::try_from(3 * (number + 1)).unwrap());
    drop(sender);
    gateway.stop().assert_nothing_lost();
    backend.stop().assert_nothing_lost();
}

#[test]
fn extensions_that_serve_pages_speak_tls_too() {
    let (house, sink) = (house(), Sink::start());
    let (plain, mutual) = (house.mount.server(false), house.mount.server(true));
    let address = sink.address;
    let gateway = Gateway::start(
        &format!(
            "receivers:\n  otlp:\n    protocols: {{grpc: {{endpoint: '127.0.0.1:0'}}, http: {{endpoint: '127.0.0.1:0'}}}}\n\
             exporters:\n  otlp: {{endpoint: 'http://{address}', compression: none}}\nextensions:\n  health_check: \
             {{endpoint: '127.0.0.1:0', tls: {{{plain}}}}}\n  zpages: {{endpoint: '127.0.0.1:0', tls: {{{mutual}}}}}\n\
             service:\n  extensions: [health_check, zpages]\n  engine: {{cores: 1, pin: false, runtime: epoll, admin: \
             '127.0.0.1:0'}}\n  telemetry: {{metrics: {{address: '127.0.0.1:0'}}}}\n  pipelines:\n    traces: \
             {{receivers: [otlp], exporters: [otlp]}}\n"
        ),
        &[],
    );
    let ask = |extension: &str, config: Arc<ClientConfig>| {
        let mut connection = HttpSender::connect_tls(gateway.address_of(extension), config)?;
        Ok::<u16, String>(connection.request("GET", "/", &[], b"").status)
    };
    let nobody = || client(&house.authority.pem, None, "http/1.1");
    assert_eq!(ask("health_check", nobody()), Ok(200));
    assert_eq!(ask("zpages", house.right("http/1.1")), Ok(200));
    let answer = shout(gateway.address_of("zpages"), b"GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    assert!(String::from_utf8_lossy(&answer).contains("this port speaks TLS"), "{answer:?}");
    wait_for("a line in the log", || gateway.said().contains("extension zpages").then_some(()));
    gateway.stop().assert_nothing_lost();
}
