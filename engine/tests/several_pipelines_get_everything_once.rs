//! Several pipelines over one receiver, exporters shared by several pipelines, and connectors between them: each way
//! gets every span exactly once, and the books say so.

mod common;

use common::gateway::{Engine, Gateway, wait_until_empty};
use common::traces::{Kind, Trace, request_of};
use common::{Answer, GrpcSender, Sink, http};
use std::collections::BTreeMap;

const TRACES: u64 = 40;
const SPANS: u32 = 3;

/// A gateway on two shards over these components and pipelines, both in YAML.
fn start(sinks: &[(&str, &Sink)], more: &str, pipelines: &str) -> Gateway {
    start_with(sinks, more, pipelines, "")
}

/// The same with more processors.
fn start_with(sinks: &[(&str, &Sink)], more: &str, pipelines: &str, processors: &str) -> Gateway {
    let exporters: String = sinks
        .iter()
        .map(|(id, sink)| {
            let address = sink.address;
            format!("  {id}: {{endpoint: '{address}', tls: {{insecure: true}}, compression: none}}\n")
        })
        .collect();
    let (shards, runtime) = (2, Engine::epoll(2).runtime);
    Gateway::start(
        &format!(
            "receivers:\n  nop:\n  otlp:\n    protocols:\n      grpc: {{endpoint: '127.0.0.1:0'}}\n      http: {{endpoint: \
         '127.0.0.1:0'}}\nprocessors:\n  batch: {{timeout: 50ms}}\n  tail_sampling: {{decision_wait: 100ms, policies: \
         [{{name: all, type: always_sample}}]}}\n{processors}exporters:\n  nop:\n{exporters}{more}\nservice:\n  engine: {{cores: \
         {shards}, pin: false, runtime: {runtime}, shutdown_timeout: 60s, admin: '127.0.0.1:0'}}\n  telemetry: \
         {{metrics: {{address: '127.0.0.1:0', names: both}}}}\n  extensions: [health_check]\n  \
         pipelines:\n{pipelines}extensions: {{health_check: {{endpoint: '127.0.0.1:0'}}}}\n"
        ),
        &[],
    )
}

/// Sends every trace in a request of its own, over several connections, so that both shards take part.
fn send(gateway: &Gateway) {
    let senders: Vec<GrpcSender> = (0..4).map(|_| GrpcSender::connect(gateway.grpc)).collect();
    for number in 0..TRACES {
        let trace = Trace { number, spans: SPANS, kind: Kind::Plain };
        let request = request_of(&[trace]);
        let sender = &senders[number as usize % 4];
        assert_eq!(sender.send(&request), Answer::Taken);
    }
}

fn assert_each_span_came(sink: &Sink, times: usize) {
    let traces = (0..TRACES).map(|number| Trace { number, spans: SPANS, kind: Kind::Plain });
    let ids: Vec<_> = traces.flat_map(|trace| trace.span_ids().collect::<Vec<_>>()).collect();
    let expected: BTreeMap<_, _> = ids.into_iter().map(|id| (id, times)).collect();
    assert_eq!(sink.spans(), expected);
}

const SENT: u64 = TRACES * SPANS as u64;

#[test]
fn pipelines_over_one_receiver_get_every_span_and_so_does_an_exporter_for_each_pipeline_it_serves() {
    let (own, shared) = (Sink::start(), Sink::start());
    let pipelines = "    traces/a: {receivers: [otlp], processors: [batch], exporters: [otlp/own, otlp/shared]}\n    \
                     traces/b: {receivers: [otlp, nop], processors: [tail_sampling, batch], exporters: [otlp/shared]}\n    \
                     traces/c: {receivers: [otlp], exporters: [nop]}\n";
    let gateway = start(&[("otlp/own", &own), ("otlp/shared", &shared)], "", pipelines);
    send(&gateway);
    let ledger = wait_until_empty(&gateway, &["otlp/own", "otlp/shared", "nop"]);
    assert_eq!(ledger.intake("accepted"), SENT, "taken once, however many pipelines there are");
    assert_eq!(ledger.account("otlp/own", "delivered"), SENT);
    assert_eq!(ledger.account("otlp/shared", "delivered"), 2 * SENT);
    assert_eq!(ledger.account("nop", "delivered"), SENT);
    gateway.stop().assert_nothing_lost();
    assert_each_span_came(&own, 1);
    assert_each_span_came(&shared, 2);
}

#[test]
fn a_connector_feeds_every_pipeline_behind_it_and_its_books_balance() {
    let (before, behind) = (Sink::start(), Sink::start());
    // Two pipelines feed two, one of which feeds a third.
    let pipelines = "    traces/in: {receivers: [otlp], processors: [batch], exporters: [otlp/before, forward]}\n    \
                     traces/in2: {receivers: [otlp], exporters: [forward]}\n    \
                     traces/out: {receivers: [forward], processors: [tail_sampling], exporters: [forward/last]}\n    \
                     traces/out2: {receivers: [forward], exporters: [nop]}\n    \
                     traces/last: {receivers: [forward/last], processors: [batch], exporters: [otlp/behind]}\n";
    let connectors = "connectors: {forward: , forward/last: }";
    let gateway = start(&[("otlp/before", &before), ("otlp/behind", &behind)], connectors, pipelines);
    send(&gateway);
    let ledger = wait_until_empty(&gateway, &["otlp/before", "otlp/behind", "forward", "forward/last", "nop"]);
    assert_eq!(ledger.intake("accepted"), SENT);
    assert_eq!(ledger.account("forward", "delivered"), 2 * SENT, "from both pipelines");
    assert_eq!(ledger.account("nop", "delivered"), 2 * SENT);
    assert_eq!(ledger.account("forward/last", "delivered"), 2 * SENT);
    gateway.stop().assert_nothing_lost();
    assert_each_span_came(&before, 1);
    assert_each_span_came(&behind, 2);
}

#[test]
fn what_waits_behind_a_connector_leaves_when_the_gateway_stops() {
    let behind = Sink::start();
    let pipelines = "    traces/in: {receivers: [otlp], processors: [batch/slow], exporters: [forward]}\n    \
                     traces/out: {receivers: [forward], processors: [tail_sampling/slow, batch/slow], exporters: \
                     [otlp/behind]}\n";
    let more = "connectors: {forward: }\n";
    let text = "  tail_sampling/slow: {decision_wait: 1h, policies: [{name: all, type: always_sample}]}\n  batch/slow: \
                {timeout: 1h, send_batch_size: 100000}\n";
    let gateway = start_with(&[("otlp/behind", &behind)], more, pipelines, text);
    send(&gateway);
    gateway.stop().assert_nothing_lost();
    assert_each_span_came(&behind, 1);
}

#[test]
fn a_full_queue_behind_a_connector_stops_the_receiver_in_front_of_it() {
    let behind = Sink::start();
    behind.hold();
    let pipelines = "    traces/in: {receivers: [otlp], exporters: [forward]}\n    \
                     traces/out: {receivers: [forward], exporters: [otlp/behind]}\n";
    let gateway = start_with(&[("otlp/behind", &behind)], "connectors: {forward: }\n", pipelines, "");
    let sender = GrpcSender::connect(gateway.grpc);
    // More requests than the queue holds: it takes 1000 over both shards, and one connection feeds at most both.
    let answers: Vec<Answer> =
        (0..1_100).map(|number| sender.send(&request_of(&[Trace { number, spans: 1, kind: Kind::Plain }]))).collect();
    let taken = answers.iter().filter(|answer| **answer == Answer::Taken).count() as u64;
    assert!((500..=1_000).contains(&taken), "{taken}");
    assert_eq!(gateway.ledger().intake("refused"), 1_100 - taken);
    behind.take();
    wait_until_empty(&gateway, &["forward", "otlp/behind"]);
    gateway.stop().assert_nothing_lost();
    assert_eq!(behind.spans_count() as u64, taken);
}

#[test]
fn a_running_gateway_is_healthy_and_shows_its_metrics_under_both_names() {
    let sink = Sink::start();
    let pipelines = "    traces: {receivers: [otlp], exporters: [otlp/own]}\n";
    let gateway = start(&[("otlp/own", &sink)], "", pipelines);
    send(&gateway);
    wait_until_empty(&gateway, &["otlp/own"]);
    let health = http::page(gateway.address_of("health_check"), "/");
    assert!(health.starts_with("{\"status\":\"Server available\",\"upSince\":\"20"), "{health}");
    let metrics = gateway.metrics();
    for name in ["otelcol_exporter_sent_spans", "otelcol_exporter_sent_spans_total"] {
        assert_eq!(metrics.sum(name, &["exporter=\"otlp/own\""]), SENT as f64, "{name}");
    }
    gateway.stop().assert_nothing_lost();
}
