//! `span_metrics`: every span is counted by service, operation, kind and status before sampling drops any, on all shards
//! together, and shown on /metrics; alerts on objectives find their series; the books know of it. Metrics pipelines get
//! the same sums, cumulative or as deltas.

mod common;

use codecs::compression::{Compression, Decompressor};
use codecs::fuzzing::metrics_proto::WriteV1;
use codecs::otlp::Signal;
use codecs::otlp::proto::{
    AnyValue, ExportMetricsServiceRequest, KeyValue, MetricData, NumberValue, Span, SpanStatus, Value,
};
use common::gateway::{Engine, Gateway, Metrics, wait_until_empty};
use common::traces::{Kind, Trace, request, text};
use common::{Answer, GrpcSender, HttpPeer, Sink};
use prost::Message;
use std::collections::BTreeMap;

const TRACES: u64 = 60;
/// Of these traces every tenth has an error, and only those are kept.
const KEPT: u64 = TRACES / 10;
const SPANS: u64 = 3;

fn whole(key: &str, number: i64) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::Int(number)) });
    KeyValue { key: key.as_bytes().to_vec(), value }
}

/// A request of a server with its two calls, 40 ms or, where it failed, 700 ms long.
fn spans(number: u64) -> Vec<Span> {
    let failed = number.is_multiple_of(10);
    let trace = Trace { number, spans: SPANS as u32, kind: Kind::Plain };
    (0..SPANS as u32)
        .map(|place| {
            let mut span = trace.span(place);
            let (name, kind) = if place == 0 { ("GET /cart", 2) } else { ("SELECT", 3) };
            span.name = name.into();
            span.kind = kind;
            let milliseconds = if failed { 700 } else { 40 };
            span.end_time_unix_nano = span.start_time_unix_nano + milliseconds * 1_000_000;
            if place == 0 {
                span.attributes = vec![
                    text("http.request.method", "GET"),
                    whole("http.response.status_code", if failed { 503 } else { 200 }),
                ];
                span.status = failed.then(|| SpanStatus { code: 2, message: Vec::new() });
            }
            span
        })
        .collect()
}

fn start(runtime: Engine, sink: &Sink, connectors: &str) -> Gateway {
    let (shards, runtime, address) = (runtime.shards, runtime.runtime, sink.address);
    Gateway::start(
        &format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0'}}, http: {{endpoint: \
             '127.0.0.1:0'}}}}}}}}\nprocessors:\n  tail_sampling: {{decision_wait: 100ms, policies: [{{name: errors, \
             type: status_code, status_code: {{status_codes: [ERROR]}}}}]}}\nexporters:\n  otlp: {{endpoint: '{address}', \
             tls: {{insecure: true}}, compression: none}}\nconnectors:\n{connectors}service:\n  engine: {{cores: \
             {shards}, pin: false, runtime: {runtime}, shutdown_timeout: 60s, admin: '127.0.0.1:0'}}\n  telemetry: \
             {{metrics: {{address: '127.0.0.1:0'}}}}\n  pipelines:\n    traces/count: {{receivers: [otlp], exporters: \
             [spanmetrics, span_metrics/http]}}\n    traces: {{receivers: [otlp], processors: [tail_sampling], \
             exporters: [otlp]}}\n"
        ),
        &[],
    )
}

/// Sends every trace over one of several connections, so that all shards count.
fn send(gateway: &Gateway) {
    let senders: Vec<GrpcSender> = (0..4).map(|_| GrpcSender::connect(gateway.grpc)).collect();
    for number in 0..TRACES {
        let answer = senders[number as usize % senders.len()].send(&request("shop", spans(number)));
        assert_eq!(answer, Answer::Taken);
    }
}

fn check_counts(metrics: &Metrics) {
    let calls = |labels: &[&str]| metrics.sum("traces_span_metrics_calls_total", labels);
    assert_eq!(calls(&[]), (TRACES * SPANS) as f64, "also what was dropped");
    let server = ["service_name=\"shop\"", "span_name=\"GET /cart\"", "span_kind=\"SPAN_KIND_SERVER\""];
    assert_eq!(calls(&server), TRACES as f64);
    assert_eq!(calls(&["status_code=\"STATUS_CODE_ERROR\""]), KEPT as f64);
    let name = "traces_span_metrics_duration_milliseconds";
    let of = |ending: &str, labels: &[&str]| metrics.sum(&format!("{name}{ending}"), labels);
    assert_eq!(of("_count", &server), TRACES as f64);
    assert_eq!(of("_bucket", &[&server[..], &["le=\"50\""]].concat()), (TRACES - KEPT) as f64);
    assert_eq!(of("_bucket", &[&server[..], &["le=\"800\""]].concat()), TRACES as f64);
    assert_eq!(of("_sum", &server), ((TRACES - KEPT) * 40 + KEPT * 700) as f64);
    // What rules on objectives compute with: availability, and a percentile below half a second.
    assert_eq!(metrics.sum("http_requests_total", &["status=\"200\""]), (TRACES - KEPT) as f64);
    assert_eq!(metrics.sum("http_requests_total", &["status=\"503\""]), KEPT as f64);
    assert_eq!(metrics.sum("http_request_duration_seconds_bucket", &["le=\"0.5\""]), (TRACES - KEPT) as f64);
    assert_eq!(metrics.sum("http_request_duration_seconds_bucket", &["le=\"+Inf\""]), TRACES as f64);
    assert_eq!(metrics.sum("tracegate_span_metrics_overflowed_spans", &[]), 0.0);
}

const CONNECTORS: &str = "  spanmetrics:\n  span_metrics/http: {names: http}\n";

fn check_engine(engine: Engine) {
    let sink = Sink::start();
    let gateway = start(engine, &sink, CONNECTORS);
    send(&gateway);
    let ledger = wait_until_empty(&gateway, &["otlp", "spanmetrics", "span_metrics/http"]);
    check_counts(&gateway.metrics());
    for connector in ["spanmetrics", "span_metrics/http"] {
        assert_eq!(ledger.account(connector, "accepted"), TRACES * SPANS, "{connector}");
        assert_eq!(ledger.account(connector, "delivered"), TRACES * SPANS, "{connector}");
    }
    assert_eq!(ledger.account("otlp", "delivered"), KEPT * SPANS);
    gateway.stop().assert_nothing_lost();
    assert_eq!(sink.spans_count() as u64, KEPT * SPANS);
}

#[test]
fn every_span_is_counted_whatever_sampling_drops_on_two_shards() {
    check_engine(Engine::epoll(2));
}

#[test]
fn every_span_is_counted_on_io_uring_too() {
    if let Some(engine) = Engine::io_uring(2) {
        check_engine(engine);
    }
}

#[test]
fn more_series_than_allowed_are_counted_together_and_by_a_counter() {
    let sink = Sink::start();
    let connectors = "  spanmetrics: {aggregation_cardinality_limit: 5, dimensions: [{name: user}]}\n  span_metrics/http: \
                      {names: http}\n";
    let gateway = start(Engine::epoll(2), &sink, connectors);
    let sender = GrpcSender::connect(gateway.grpc);
    for number in 0..TRACES {
        let mut spans = spans(number);
        spans.iter_mut().for_each(|span| span.attributes.push(text("user", &format!("user {number}"))));
        assert_eq!(sender.send(&request("shop", spans)), Answer::Taken);
    }
    wait_until_empty(&gateway, &["otlp", "spanmetrics"]);
    let metrics = gateway.metrics();
    let calls = "traces_span_metrics_calls_total";
    assert_eq!(metrics.sum(calls, &[]), (TRACES * SPANS) as f64);
    let overflowed = metrics.sum(calls, &["otel_metric_overflow=\"true\""]);
    assert!(overflowed > 0.0);
    assert_eq!(metrics.sum("tracegate_span_metrics_overflowed_spans", &["connector=\"spanmetrics\""]), overflowed);
    assert!(metrics.series(calls).len() <= 2 * 5 + 1, "five on each shard, and one for all others");
    assert_eq!(metrics.sum("tracegate_span_metrics_series_of_fullest_shard", &["connector=\"spanmetrics\""]), 5.0);
    gateway.stop().assert_nothing_lost();
}

/// Number points of this name and the counts of histogram points of it: labels, start, time and value, as they arrived.
fn points_of(sink: &Sink, name: &str) -> Vec<(String, u64, u64, u64)> {
    let mut found = Vec::new();
    for request in sink.requests_of(Signal::Metrics.grpc_method()) {
        let request = ExportMetricsServiceRequest::decode(&request[..]).expect("a sound request");
        for resource in request.resource_metrics {
            let service = resource.resource.expect("a resource").attributes;
            assert_eq!(service, [text("service.name", "shop")], "what tells services apart belongs to the resource");
            let metrics = resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics);
            for metric in metrics.filter(|metric| metric.name == name.as_bytes()) {
                match metric.data.expect("data") {
                    MetricData::Sum(sum) => found.extend(sum.data_points.into_iter().map(|point| {
                        let value = match point.value {
                            Some(NumberValue::AsInt(value)) => value as u64,
                            other => panic!("{other:?}"),
                        };
                        let labels = format!("{:?}", point.attributes);
                        (labels, point.start_time_unix_nano, point.time_unix_nano, value)
                    })),
                    MetricData::Histogram(histogram) => found.extend(histogram.data_points.into_iter().map(|point| {
                        let labels = format!("{:?}", point.attributes);
                        (labels, point.start_time_unix_nano, point.time_unix_nano, point.count)
                    })),
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    found
}

/// Spans of all shards go into metrics pipelines: the last points of cumulative series, and all deltas together, are what
/// was sent.
fn check_pipelines(engine: Engine) {
    let (sink, prometheus) = (Sink::start(), HttpPeer::answering(&[]));
    let (shards, runtime) = (engine.shards, engine.runtime);
    let gateway = Gateway::start(
        &format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0'}}, http: {{endpoint: \
             '127.0.0.1:0'}}}}}}}}\nprocessors: {{batch: }}\nexporters:\n  otlp: {{endpoint: '{}', tls: {{insecure: \
             true}}, compression: none}}\n  prometheusremotewrite: {{endpoint: 'http://{}/api/v1/write'}}\n  nop:\n\
             connectors:\n  spanmetrics: {{metrics_flush_interval: 100ms}}\n  spanmetrics/delta: {{namespace: news, \
             metrics_flush_interval: 100ms, aggregation_temporality: AGGREGATION_TEMPORALITY_DELTA}}\nservice:\n  \
             engine: {{cores: {shards}, pin: false, runtime: {runtime}, shutdown_timeout: 60s, admin: '127.0.0.1:0'}}\n  \
             telemetry: {{metrics: {{address: '127.0.0.1:0'}}}}\n  pipelines:\n    traces: {{receivers: [otlp], \
             exporters: [spanmetrics, spanmetrics/delta, nop]}}\n    metrics: {{receivers: [spanmetrics, \
             spanmetrics/delta], processors: [batch], exporters: [otlp]}}\n    metrics/prometheus: {{receivers: \
             [spanmetrics], exporters: [prometheusremotewrite]}}\n",
            sink.address, prometheus.address
        ),
        &[],
    );
    send(&gateway);
    // Some flushes on the way, with news and without.
    prometheus.wait_for(2);
    send(&gateway);
    let calls = gateway.metrics().sum("traces_span_metrics_calls_total", &[]);
    assert_eq!(calls, (2 * TRACES * SPANS) as f64, "pages show them as before");
    gateway.stop().assert_nothing_lost();

    let sent = 2 * TRACES * SPANS;
    for metric in ["calls", "duration"] {
        let mut last = BTreeMap::new();
        for (labels, start, time, value) in points_of(&sink, &format!("traces.span.metrics.{metric}")) {
            assert!(start <= time);
            if let Some((known_start, known_time, known)) = last.insert(labels, (start, time, value)) {
                assert_eq!(start, known_start, "a series begins once");
                assert!(time > known_time && value >= known);
            }
        }
        assert_eq!(last.len(), 3, "a server that answered, one that failed, and its calls: {last:?}");
        assert_eq!(last.values().map(|(_, _, value)| value).sum::<u64>(), sent, "{metric}");

        let mut ends = BTreeMap::new();
        let mut told = 0;
        for (labels, start, time, value) in points_of(&sink, &format!("news.{metric}")) {
            assert!(value > 0, "only what is new");
            let before = ends.insert(labels, time).unwrap_or(0);
            assert!(before <= start && start <= time, "news begin where the last ended or later");
            told += value;
        }
        assert_eq!(told, sent, "{metric}");
    }
    let mut last = BTreeMap::new();
    for request in prometheus.asked() {
        let mut body = Vec::new();
        Decompressor::default().decompress(Compression::Snappy, &request.body, 1 << 20, &mut body).expect("snappy");
        for series in WriteV1::decode(&body[..]).expect("a write request").timeseries {
            let labels: Vec<String> =
                series.labels.iter().map(|label| format!("{}={}", label.name, label.value)).collect();
            let sample = series.samples.last().expect("a sample");
            let known = last.insert(labels.join(","), (sample.timestamp, sample.value));
            assert!(known.is_none_or(|known| known.0 < sample.timestamp && known.1 <= sample.value));
        }
    }
    let of_calls = last.iter().filter(|(labels, _)| labels.starts_with("__name__=traces_span_metrics_calls_total,"));
    assert_eq!(of_calls.map(|(_, sample)| sample.1).sum::<f64>(), sent as f64);
}

#[test]
fn metrics_pipelines_get_the_sums_of_all_spans_on_one_and_on_four_shards() {
    check_pipelines(Engine::epoll(1));
    check_pipelines(Engine::epoll(4));
}

#[test]
fn metrics_pipelines_get_the_sums_on_io_uring_too() {
    if let Some(engine) = Engine::io_uring(4) {
        check_pipelines(engine);
    }
}

/// The metrics that the seed's rules on objectives name, read from its own file where it lies beside the checkout.
#[test]
fn the_rules_on_objectives_find_their_series() {
    let sink = Sink::start();
    let gateway = start(Engine::epoll(1), &sink, CONNECTORS);
    send(&gateway);
    wait_until_empty(&gateway, &["otlp"]);
    let metrics = gateway.metrics();
    let rules = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/seed/slo-rules.k8s.yaml");
    let named = ["http_requests_total", "http_request_duration_seconds_bucket"];
    match std::fs::read_to_string(rules) {
        Ok(rules) => named.iter().for_each(|name| assert!(rules.contains(name), "the rules ask for {name}")),
        Err(_) => eprintln!("the seed's rules are not beside this checkout; their names are known"),
    }
    for (name, label) in named.iter().zip(["status=\"", "le=\""]) {
        let series = metrics.series(name);
        assert!(!series.is_empty() && series.iter().all(|series| series.contains(label)), "{name}: {series:?}");
    }
    gateway.stop().assert_nothing_lost();
}
