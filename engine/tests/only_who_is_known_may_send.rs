//! A receiver with an authenticator takes nothing from anybody else, before it looks at a body; an exporter with one
//! shows its credential. No secret is ever written to the log.

mod common;

use codecs::grpc::Code;
use common::gateway::wait_until_empty;
use common::grpc::Call;
use common::traces::{Kind, Trace, request_of};
use common::{Answer, Gateway, GrpcSender, HttpPeer, HttpSender, Sink, wait_for};
use std::io::Write;

/// A gateway whose gRPC asks for `grpc` and whose HTTP asks for `http`, ids of `extensions`.
fn start(extensions: &str, grpc: &str, http: &str, listed: &str, exporter: &str) -> Gateway {
    Gateway::start(
        &format!(
            "extensions:\n{extensions}receivers:\n  otlp:\n    protocols:\n      grpc: {{endpoint: '127.0.0.1:0', auth: \
             {grpc}}}\n      http: {{endpoint: '127.0.0.1:0', auth: {http}}}\nexporters:\n  {exporter}\nservice:\n  \
             extensions: [{listed}]\n  engine: {{cores: 1, pin: false, runtime: epoll, shutdown_timeout: 60s, admin: \
             '127.0.0.1:0'}}\n  telemetry: {{metrics: {{address: '127.0.0.1:0', level: detailed}}}}\n  pipelines:\n    \
             traces: {{receivers: [otlp], exporters: [{}]}}\n",
            exporter.split(':').next().expect("an id")
        ),
        &[],
    )
}

fn request(number: u64) -> bytes::Bytes {
    request_of(&[Trace { number, spans: 2, kind: Kind::Plain }])
}

fn post(sender: &mut HttpSender, path: &str, authorization: Option<&str>, number: u64) -> common::http::Response {
    let mut headers = vec![("content-type", "application/x-protobuf")];
    headers.extend(authorization.map(|value| ("Authorization", value)));
    sender.request("POST", path, &headers, &request(number))
}

#[test]
fn a_wrong_token_or_password_is_refused_on_both_protocols_and_nothing_of_it_is_accepted() {
    let sink = Sink::start();
    let gateway = start(
        "  bearertokenauth: {tokens: [first-t0ken, second-t0ken]}\n  basicauth: {htpasswd: {inline: \"ann:s3cret\"}}\n",
        "{authenticator: bearertokenauth}",
        "{authenticator: basicauth, request_params: [Authorization]}",
        "bearertokenauth, basicauth",
        &format!("otlp: {{endpoint: 'http://{}', compression: none}}", sink.address),
    );
    let grpc = GrpcSender::connect(gateway.grpc);
    let mut http = HttpSender::connect(gateway.http);
    for shown in [None, Some("Bearer wr0ng"), Some("first-t0ken"), Some("Basic YW5uOnMzY3JldA==")] {
        let call = Call::plain(&request(100));
        let answer = grpc.begin(shown.map_or(call.clone(), |shown| call.with("authorization", shown))).wait();
        assert_eq!(answer.status().code, Code::Unauthenticated, "{shown:?}");
        assert!(!answer.status().message.contains("t0ken"), "{answer:?}");
    }
    for shown in [None, Some("Basic YW5uOndyb25n"), Some("Bearer first-t0ken"), Some("Basic !")] {
        let response = post(&mut http, "/v1/traces", shown, 100);
        assert_eq!(response.status, 401, "{shown:?}");
        assert_eq!(response.answer().status().code, Code::Unauthenticated);
    }
    // Who may not send learns nothing of the paths either.
    assert_eq!(post(&mut http, "/nowhere", None, 100).status, 401);

    for (number, token) in ["Bearer first-t0ken", "Bearer second-t0ken"].iter().enumerate() {
        let call = Call::plain(&request(number as u64)).with("authorization", token);
        assert_eq!(grpc.begin(call).wait(), Answer::Taken);
    }
    assert_eq!(post(&mut http, "/v1/traces", Some("Basic YW5uOnMzY3JldA=="), 2).status, 200);
    assert_eq!(post(&mut http, "/v1/traces?Authorization=Basic+YW5uOnMzY3JldA%3D%3D", None, 3).status, 200);

    sink.wait_for_spans(8);
    let ledger = wait_until_empty(&gateway, &["otlp"]);
    let intake = ["offered", "accepted", "refused", "rejected"].map(|term| ledger.intake(term));
    assert_eq!(intake, [8, 8, 0, 0]);
    let rejected = |transport: &str| {
        let labels = [&format!("transport=\"{transport}\""), "reason=\"auth\""];
        gateway.metrics().sum("otelcol_receiver_rejected_requests", &labels)
    };
    assert_eq!((rejected("grpc"), rejected("http")), (4.0, 5.0));
    let ending = gateway.stop();
    ending.assert_nothing_lost();
    for secret in ["t0ken", "s3cret", "YW5u"] {
        assert!(!ending.said.contains(secret), "{secret} in {}", ending.said);
    }
}

#[test]
fn a_slow_hash_is_checked_and_its_user_is_let_in() {
    let sink = Sink::start();
    let mut users = tempfile::NamedTempFile::new().unwrap();
    writeln!(users, "ann:{}", bcrypt::hash("s3cret", 4).unwrap()).unwrap();
    let gateway = start(
        &format!("  basicauth: {{htpasswd: {{file: '{}'}}}}\n", users.path().display()),
        "{authenticator: basicauth}",
        "{authenticator: basicauth}",
        "basicauth",
        &format!("otlp: {{endpoint: 'http://{}', compression: none}}", sink.address),
    );
    let grpc = GrpcSender::connect(gateway.grpc);
    for number in 0..3 {
        let right = Call::plain(&request(number)).with("authorization", "Basic YW5uOnMzY3JldA==");
        let wrong = Call::plain(&request(100)).with("authorization", "Basic YW5uOndyb25n");
        let (right, wrong) = (grpc.begin(right), grpc.begin(wrong));
        assert_eq!(right.wait(), Answer::Taken);
        assert_eq!(wrong.wait().status().code, Code::Unauthenticated);
    }
    gateway.stop().assert_nothing_lost();
    assert_eq!(sink.spans_count(), 6);
}

#[test]
fn a_token_in_a_file_is_shown_to_the_backend_and_a_new_one_after_the_file_has_changed() {
    let peer = HttpPeer::start(None);
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "0ld\n").unwrap();
    let gateway = start(
        &format!(
            "  bearertokenauth: {{filename: '{}'}}\n  basicauth: {{htpasswd: {{inline: 'ann:x'}}}}\n",
            token.path().display()
        ),
        "{}",
        "{}",
        "bearertokenauth, basicauth",
        &format!(
            "otlphttp: {{endpoint: 'http://{}', compression: none, auth: {{authenticator: bearertokenauth}}}}",
            peer.address
        ),
    );
    let grpc = GrpcSender::connect(gateway.grpc);
    assert_eq!(grpc.send(&request(0)), Answer::Taken);
    assert_eq!(peer.wait_for(1)[0].header("authorization"), Some("Bearer 0ld"));
    std::fs::write(token.path(), "n3w\n").unwrap();
    let mut number = 0;
    wait_for("the new token", || {
        number += 1;
        assert_eq!(grpc.send(&request(number)), Answer::Taken);
        let asked = peer.wait_for(number as usize + 1);
        (asked.last()?.header("authorization") == Some("Bearer n3w")).then_some(())
    });
    let ending = gateway.stop();
    ending.assert_nothing_lost();
    assert!(!ending.said.contains("n3w"), "{}", ending.said);
}

#[test]
fn a_file_without_a_token_stops_the_start_with_a_reason() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    let mut configuration = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    write!(
        configuration,
        "extensions: {{bearertokenauth: {{filename: '{}'}}}}\nreceivers: {{otlp: {{protocols: {{grpc: {{endpoint: \
         '127.0.0.1:0', auth: {{authenticator: bearertokenauth}}}}}}}}}}\nexporters: {{nop: }}\nservice: {{extensions: \
         [bearertokenauth], engine: {{cores: 1, admin: none}}, telemetry: {{metrics: {{level: none}}}}, pipelines: \
         {{traces: {{receivers: [otlp], exporters: [nop]}}}}}}\n",
        empty.path().display()
    )
    .unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tracegate"));
    let output = command.arg("--config").arg(configuration.path()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("extension bearertokenauth: ") && said.contains("holds no token"), "{said}");
}
