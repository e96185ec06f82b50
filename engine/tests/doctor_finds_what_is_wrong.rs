//! `tracegate doctor` names what keeps a configuration from running, and the stage where a running gateway loses spans.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::Arc;

use common::traces::{Kind, Trace, request_of};
use common::{Answer, Gateway, GrpcSender, HttpPeer, Sink, wait_for};
use serde_json::Value;

/// Runs it with `--json`: exit code and what it said.
fn doctor(arguments: &[&str]) -> (i32, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracegate"));
    for proxy in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"] {
        command.env_remove(proxy);
    }
    let output = command.args(["doctor", "--json"]).args(arguments).output().expect("it starts");
    let said = serde_json::from_slice(&output.stdout);
    let said = said.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().expect("it ends by itself"), said)
}

/// Level, what was found and what to do, of the finding at `place` that is worst.
fn finding(said: &Value, place: &str) -> (String, String) {
    let findings = said["findings"].as_array().expect("a list");
    let mut here: Vec<&Value> = findings.iter().filter(|finding| finding["place"] == place).collect();
    here.sort_by_key(|finding| ["problem", "warning", "ok"].iter().position(|level| finding["level"] == *level));
    let found = here.first().unwrap_or_else(|| panic!("nothing about {place}: {said:#}"));
    let word = |key: &str| found[key].as_str().expect("a string").to_owned();
    (word("level"), format!("{} | {}", word("found"), word("remedy")))
}

/// A configuration whose ports are free, with these exporters.
fn configuration(exporters: &[(&str, String)]) -> tempfile::NamedTempFile {
    let lines: String = exporters.iter().map(|(id, settings)| format!("  {id}: {settings}\n")).collect();
    let ids: Vec<&str> = exporters.iter().map(|(id, _)| *id).collect();
    let text = format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0'}}}}}}}}\nexporters:\n{lines}service:\n  engine: \
         {{cores: 1, pin: false, runtime: epoll, memory_limit_mib: 64, admin: none}}\n  telemetry: {{metrics: {{level: \
         none}}}}\n  pipelines: {{traces: {{receivers: [otlp], exporters: [{}]}}}}\n",
        ids.join(", ")
    );
    let mut file = tempfile::Builder::new().suffix(".yaml").tempfile().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("a temporary file can be written");
    file
}

/// A peer that speaks TLS and ends each connection after the handshake's answer to the first bytes.
fn start_tls_peer() -> SocketAddr {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("they fit");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).expect("a session");
            let mut session = rustls::StreamOwned::new(connection, stream);
            // Drives the handshake, or sends the alert.
            let _ = session.read(&mut [0; 64]);
        }
    });
    address
}

#[test]
fn each_backend_is_asked_what_it_speaks() {
    let (sink, http, tls) = (Sink::start(), HttpPeer::start(None), start_tls_peer());
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        listener.local_addr().expect("it is bound")
    };
    let grpc_plain = |address| format!("{{endpoint: '{address}', tls: {{insecure: true}}}}");
    let grpc_tls = |address| format!("{{endpoint: '{address}', tls: {{insecure_skip_verify: true}}}}");
    let http_plain = |address| format!("{{endpoint: 'http://{address}'}}");
    let file = configuration(&[
        ("otlp/right", grpc_plain(sink.address)),
        ("otlp/encrypts_for_plain", grpc_tls(sink.address)),
        ("otlp/plain_for_tls", grpc_plain(tls)),
        ("otlp/to_http", grpc_plain(http.address)),
        ("otlphttp/right", http_plain(http.address)),
        ("otlphttp/to_grpc", http_plain(sink.address)),
        ("otlphttp/plain_for_tls", http_plain(tls)),
        ("otlp/nobody", grpc_plain(nobody)),
    ]);
    let (exit_code, said) = doctor(&["--config", &file.path().display().to_string()]);
    assert_eq!(exit_code, 1);
    let expected = [
        ("otlp/right", "ok", "in plain text"),
        ("otlp/encrypts_for_plain", "problem", "it speaks plain text, and this exporter wants TLS"),
        ("otlp/plain_for_tls", "problem", "it speaks TLS, and this exporter sends plain text"),
        ("otlp/to_http", "problem", "it speaks HTTP/1.1, so no gRPC"),
        ("otlphttp/right", "ok", "in plain text"),
        ("otlphttp/to_grpc", "problem", "HTTP/2 only"),
        ("otlphttp/plain_for_tls", "problem", "it speaks TLS"),
        ("otlp/nobody", "problem", "no connection"),
    ];
    for (id, level, words) in expected {
        let (found, text) = finding(&said, &format!("exporter {id}"));
        assert!(found == level && text.contains(words), "{id}: {found} {text}");
    }
    assert_eq!(sink.spans_count(), 0, "no span is sent");
}

#[test]
fn what_can_run_here_exits_with_success_and_a_port_of_somebody_else_does_not() {
    let sink = Sink::start();
    let file = configuration(&[("otlp", format!("{{endpoint: '{}', tls: {{insecure: true}}}}", sink.address))]);
    let path = file.path().display().to_string();
    let (exit_code, said) = doctor(&["--config", &path]);
    assert_eq!(exit_code, 0, "{said:#}");
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = taken.local_addr().expect("it is bound");
    let set = format!("receivers.otlp.protocols.grpc.endpoint={address}");
    let (exit_code, said) = doctor(&["--config", &path, "--set", &set]);
    assert_eq!(exit_code, 1);
    let (level, text) = finding(&said, "receiver otlp (grpc)");
    assert_eq!(level, "problem");
    assert!(text.contains(&format!("stop process {}", std::process::id())), "{text}");
    let (exit_code, said) = doctor(&["--config", &path, "--set", "exporters.otlp.endpint=x"]);
    assert_eq!((exit_code, finding(&said, "configuration").0.as_str()), (1, "problem"));
}

#[test]
fn a_gateway_whose_backend_takes_nothing_is_told_so_and_a_page_of_nobody_is_an_error() {
    let sink = Sink::start();
    sink.hold();
    let gateway = Gateway::start(
        &format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0'}}, http: {{endpoint: \
             '127.0.0.1:0'}}}}}}}}\nexporters: {{otlp: {{endpoint: '{}', compression: none, tls: {{insecure: true}}}}}}\nservice:\n  engine: \
             {{cores: 1, pin: false, runtime: epoll, admin: '127.0.0.1:0'}}\n  telemetry: {{metrics: {{address: \
             '127.0.0.1:0'}}}}\n  pipelines: {{traces: {{receivers: [otlp], exporters: [otlp]}}}}\n",
            sink.address
        ),
        &[],
    );
    let request = request_of(&[Trace { number: 1, spans: 2, kind: Kind::Plain }]);
    assert_eq!(GrpcSender::connect(gateway.grpc).send(&request), Answer::Taken);
    let waits = || (gateway.metrics().sum("otelcol_exporter_queue_size", &[]) > 0.0).then_some(());
    wait_for("a request that waits", waits);
    let url = format!("http://{}/metrics", gateway.metrics_address());
    let (exit_code, said) = doctor(&["--url", &url, "--for", "200ms"]);
    assert_eq!(exit_code, 1, "{said:#}");
    let (level, text) = finding(&said, "exporter otlp");
    assert!(level == "problem" && text.contains("1 requests wait"), "{text}");
    assert_eq!(said["conclusion"], "Begin with exporter otlp.");
    sink.take();
    sink.wait_for_spans(2);
    gateway.stop().assert_nothing_lost();
    let gone =
        Command::new(env!("CARGO_BIN_EXE_tracegate")).args(["doctor", "--url", &url]).output().expect("it starts");
    assert_eq!(gone.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("cannot connect"));
}
