//! Exporters take the proxy that the configuration or the environment names. The backends' names exist nowhere but at the
//! proxy, so what arrives came through it.

mod common;

use common::traces::{Kind, Trace, request_of};
use common::{Answer, Gateway, GrpcSender, HttpPeer, Sink};

fn start(exporter: &str, environment: &[(&str, &str)]) -> Gateway {
    Gateway::start(
        &format!(
            "receivers:\n  otlp:\n    protocols:\n      grpc: {{endpoint: '127.0.0.1:0'}}\n      http: {{endpoint: \
             '127.0.0.1:0'}}\nexporters:\n  {exporter}\nservice:\n  engine: {{cores: 1, pin: false, runtime: epoll, \
             shutdown_timeout: 60s, admin: '127.0.0.1:0'}}\n  telemetry: {{metrics: {{address: '127.0.0.1:0'}}}}\n  \
             pipelines:\n    traces: {{receivers: [otlp], exporters: [{}]}}\n",
            exporter.split(':').next().expect("an id")
        ),
        environment,
    )
}

fn send(gateway: &Gateway) {
    let request = request_of(&[Trace { number: 1, spans: 2, kind: Kind::Plain }]);
    assert_eq!(GrpcSender::connect(gateway.grpc).send(&request), Answer::Taken);
}

#[test]
fn grpc_goes_through_the_tunnel_that_https_proxy_names() {
    let sink = Sink::start();
    let proxy = HttpPeer::start(Some(sink.address));
    let url = format!("http://me:pass@{}", proxy.address);
    let gateway =
        start("otlp: {endpoint: 'http://tempo.invalid:4317', compression: none}", &[("HTTPS_PROXY", url.as_str())]);
    send(&gateway);
    sink.wait_for_spans(2);
    gateway.stop().assert_nothing_lost();
    let asked = &proxy.asked()[0];
    assert_eq!(asked.line, "CONNECT tempo.invalid:4317 HTTP/1.1");
    assert_eq!(asked.header("host"), Some("tempo.invalid:4317"));
    // me:pass
    assert_eq!(asked.header("proxy-authorization"), Some("Basic bWU6cGFzcw=="));
}

#[test]
fn plain_http_is_sent_to_the_proxy_with_its_whole_url() {
    let proxy = HttpPeer::start(None);
    let exporter = format!(
        "otlphttp: {{endpoint: 'http://tempo.invalid:4318/otlp', compression: none, proxy_url: 'http://{}'}}",
        proxy.address
    );
    // What the file says wins.
    let gateway = start(&exporter, &[("HTTP_PROXY", "http://127.0.0.1:1"), ("NO_PROXY", "*")]);
    send(&gateway);
    let asked = &proxy.wait_for(1)[0];
    gateway.stop().assert_nothing_lost();
    assert_eq!(asked.line, "POST http://tempo.invalid:4318/otlp/v1/traces HTTP/1.1");
    assert_eq!(asked.header("host"), Some("tempo.invalid:4318"));
    assert_eq!(asked.header("proxy-authorization"), None);
}

#[test]
fn encrypted_http_is_not_shown_to_the_proxy_and_its_refusal_is_said() {
    let proxy = HttpPeer::start(None);
    let url = format!("http://{}", proxy.address);
    let gateway = start(
        "otlphttp: {endpoint: 'https://tempo.invalid', compression: none, retry_on_failure: {enabled: false}}",
        &[("https_proxy", url.as_str()), ("NO_PROXY", "elsewhere.invalid")],
    );
    send(&gateway);
    assert_eq!(proxy.wait_for(1)[0].line, "CONNECT tempo.invalid:443 HTTP/1.1");
    let ending = gateway.stop();
    assert!(ending.said.contains("opens no connection to the peer: HTTP/1.1 403 Not here"), "{}", ending.said);
}
