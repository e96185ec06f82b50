//! Metrics and logs go the ways that traces go: over both protocols and both encodings, through the same processors, to
//! the same exporters, each signal by its own pipelines; and the books count data points and log records.

mod common;

use codecs::compression::{Compression, Decompressor};
use codecs::grpc::Code;
use codecs::json;
use codecs::otlp::Signal;
use codecs::otlp::proto::{
    AnyValue, ExportLogsServiceRequest, ExportMetricsServiceRequest, Gauge, KeyValue, LogRecord, Metric, MetricData,
    NumberDataPoint, NumberValue, Resource, ResourceLogs, ResourceMetrics, ScopeLogs, ScopeMetrics, Sum, Value,
};
use common::gateway::{Engine, Gateway, wait_until_empty};
use common::grpc::{Call, framed};
use common::traces::{Kind, Trace, request_of};
use common::{Answer, GrpcSender, HttpPeer, HttpSender, Sink};
use prost::Message;

/// A gateway with these exporters (YAML below `exporters`) and pipelines.
fn start(exporters: &str, pipelines: &str) -> Gateway {
    let (shards, runtime) = (2, Engine::epoll(2).runtime);
    Gateway::start(
        &format!(
            "receivers:\n  otlp:\n    protocols:\n      grpc: {{endpoint: '127.0.0.1:0'}}\n      http: {{endpoint: \
             '127.0.0.1:0'}}\nprocessors:\n  memory_limiter: {{check_interval: 1s, limit_mib: 512}}\n  batch: {{timeout: \
             1h}}\n  batch/four: {{timeout: 1h, send_batch_size: 4, send_batch_max_size: 4}}\n  resource: {{attributes: \
             [{{key: region, value: eu, action: insert}}]}}\nconnectors: {{forward: }}\nexporters:\n  \
             nop:\n{exporters}\nservice:\n  engine: {{cores: {shards}, pin: false, runtime: {runtime}, \
             shutdown_timeout: 60s, admin: '127.0.0.1:0'}}\n  telemetry: {{metrics: {{address: '127.0.0.1:0', names: \
             both}}}}\n  pipelines:\n{pipelines}"
        ),
        &[],
    )
}

fn otlp(sink: &Sink) -> String {
    format!("  otlp: {{endpoint: '{}', tls: {{insecure: true}}, compression: none}}\n", sink.address)
}

fn resource() -> Option<Resource> {
    let value = Some(AnyValue { value: Some(Value::String(b"shop".to_vec())) });
    Some(Resource { attributes: vec![KeyValue { key: b"service.name".to_vec(), value }], ..Resource::default() })
}

fn point(value: i64) -> NumberDataPoint {
    NumberDataPoint { time_unix_nano: 7, value: Some(NumberValue::AsInt(value)), ..NumberDataPoint::default() }
}

/// A gauge of one point and a sum of so many.
fn metrics(points: i64) -> Vec<u8> {
    let named =
        |name: &str, data| Metric { name: name.into(), unit: b"1".to_vec(), data: Some(data), ..Metric::default() };
    let gauge = named("up", MetricData::Gauge(Gauge { data_points: vec![point(1)] }));
    let data_points = (0..points).map(point).collect();
    let sum = named("orders", MetricData::Sum(Sum { data_points, aggregation_temporality: 2, is_monotonic: true }));
    let scope = ScopeMetrics { metrics: vec![gauge, sum], ..ScopeMetrics::default() };
    let resource = ResourceMetrics { resource: resource(), scope_metrics: vec![scope], ..ResourceMetrics::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![resource] }.encode_to_vec()
}

fn logs(records: usize) -> Vec<u8> {
    let record = |number: usize| LogRecord {
        time_unix_nano: 1 + number as u64,
        severity_number: 9,
        body: Some(AnyValue { value: Some(Value::String(format!("order {number}").into())) }),
        trace_id: vec![7; 16],
        ..LogRecord::default()
    };
    let scope = ScopeLogs { log_records: (0..records).map(record).collect(), ..ScopeLogs::default() };
    let resource = ResourceLogs { resource: resource(), scope_logs: vec![scope], ..ResourceLogs::default() };
    ExportLogsServiceRequest { resource_logs: vec![resource] }.encode_to_vec()
}

fn send(gateway: &Gateway, signal: Signal, message: &[u8]) -> Answer {
    GrpcSender::connect(gateway.grpc).begin(Call::plain(message).to(signal.grpc_method())).wait()
}

fn post(gateway: &Gateway, signal: Signal, content_type: &str, body: &[u8]) -> common::http::Response {
    let headers = [("content-type", content_type)];
    HttpSender::connect(gateway.http).request("POST", signal.http_path(), &headers, body)
}

const PROTOBUF: &str = "application/x-protobuf";

#[test]
fn requests_of_each_protocol_and_encoding_arrive_byte_for_byte() {
    for (signal, message) in [(Signal::Metrics, metrics(3)), (Signal::Logs, logs(3))] {
        let sink = Sink::start();
        let pipelines =
            format!("    {signal}: {{receivers: [otlp], processors: [memory_limiter, batch], exporters: [otlp]}}\n");
        let gateway = start(&otlp(&sink), &pipelines);
        let mut text = Vec::new();
        json::write_request(signal, &message, &mut text).unwrap();
        assert_eq!(send(&gateway, signal, &message), Answer::Taken);
        let answer = post(&gateway, signal, PROTOBUF, &message);
        assert_eq!((answer.status, answer.body.as_slice()), (200, &b""[..]));
        let answer = post(&gateway, signal, "application/json", &text);
        assert_eq!((answer.status, answer.body.as_slice()), (200, &b"{}"[..]));
        gateway.stop().assert_nothing_lost();
        let arrived = sink.requests_of(signal.grpc_method()).concat();
        // Requests are lists of resources: those of all requests one after the other, whichever shard had them.
        assert_eq!(arrived, message.repeat(3), "{signal}");
    }
}

#[test]
fn pipelines_of_all_signals_share_a_receiver_and_an_exporter_and_have_books_of_their_own() {
    let sink = Sink::start();
    let pipelines = "    traces: {receivers: [otlp], processors: [batch], exporters: [otlp]}\n    \
                     metrics: {receivers: [otlp], processors: [memory_limiter, batch/four, resource], exporters: [otlp]}\n    \
                     metrics/too: {receivers: [otlp], exporters: [forward, nop]}\n    \
                     metrics/behind: {receivers: [forward], exporters: [nop]}\n    \
                     logs: {receivers: [otlp], processors: [memory_limiter, batch], exporters: [otlp, nop]}\n";
    let gateway = start(&otlp(&sink), pipelines);
    let page = gateway.metrics();
    for name in ["metric_points", "log_records"] {
        for series in [
            format!("otelcol_receiver_accepted_{name}"),
            format!("otelcol_receiver_refused_{name}"),
            format!("otelcol_processor_memory_limiter_refused_{name}"),
            format!("otelcol_exporter_sent_{name}"),
            format!("otelcol_exporter_send_failed_{name}"),
        ] {
            assert!(!page.series(&series).is_empty(), "{series} is there from the start");
            assert!(!page.series(&format!("{series}_total")).is_empty(), "{series}_total is there from the start");
            assert_eq!(page.sum(&series, &[]), 0.0, "{series}");
        }
    }
    assert_eq!(
        send(&gateway, Signal::Traces, &request_of(&[Trace { number: 1, spans: 3, kind: Kind::Plain }])),
        Answer::Taken
    );
    assert_eq!(send(&gateway, Signal::Metrics, &metrics(10)), Answer::Taken);
    assert_eq!(post(&gateway, Signal::Logs, PROTOBUF, &logs(5)).status, 200);
    let told = gateway.metrics();
    let accepted = |items: &str| told.sum(&format!("otelcol_receiver_accepted_{items}"), &[]);
    assert_eq!((accepted("spans"), accepted("metric_points"), accepted("log_records")), (3.0, 11.0, 5.0));
    let ending = gateway.stop();
    ending.assert_nothing_lost();
    assert!(ending.sentence.starts_with("Received 3 spans, 11 data points and 5 log records"), "{}", ending.sentence);

    let batches = sink.requests_of(Signal::Metrics.grpc_method());
    let decode = |batch: &bytes::Bytes| ExportMetricsServiceRequest::decode(&batch[..]).expect("a sound request");
    let mut values = Vec::new();
    let mut sizes = Vec::new();
    for resource in batches.iter().flat_map(|batch| decode(batch).resource_metrics) {
        let attributes = &resource.resource.as_ref().expect("a resource").attributes;
        assert!(attributes.iter().any(|attribute| attribute.key == b"region"), "the resource was edited");
        let before = values.len();
        for metric in resource.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
            match metric.data.as_ref().expect("data") {
                MetricData::Sum(sum) => {
                    assert!(sum.is_monotonic && metric.name == b"orders", "a part has all that its metric says");
                    values.extend(sum.data_points.iter().map(|point| point.value));
                }
                MetricData::Gauge(gauge) => values.extend(gauge.data_points.iter().map(|_| None)),
                other => panic!("{other:?}"),
            }
        }
        sizes.push(values.len() - before);
    }
    assert_eq!(sizes, [4, 4, 3], "batches of four points, the metric cut");
    let expected = (0..10).map(|value| Some(NumberValue::AsInt(value)));
    assert_eq!(values, std::iter::once(None).chain(expected).collect::<Vec<_>>(), "every point once, in order");
    assert_eq!(sink.requests_of(Signal::Logs.grpc_method()), [logs(5)]);
    assert_eq!(sink.spans_count(), 3);
}

#[test]
fn books_of_a_connector_and_of_exporters_count_points_and_records() {
    let pipelines = "    metrics: {receivers: [otlp], exporters: [forward]}\n    \
                     metrics/behind: {receivers: [forward], exporters: [nop]}\n    \
                     logs: {receivers: [otlp], exporters: [nop]}\n";
    let gateway = start("", pipelines);
    assert_eq!(send(&gateway, Signal::Metrics, &metrics(4)), Answer::Taken);
    assert_eq!(send(&gateway, Signal::Logs, &logs(2)), Answer::Taken);
    let ledger = wait_until_empty(&gateway, &["forward", "nop"]);
    assert_eq!(ledger.account("forward", "delivered"), 5);
    assert_eq!(ledger.account("nop", "delivered"), 5 + 2);
    gateway.stop().assert_nothing_lost();
}

#[test]
fn an_http_exporter_sends_each_signal_to_its_own_path_or_endpoint() {
    let (base, own) = (HttpPeer::start(None), HttpPeer::start(None));
    let exporters = format!(
        "  otlphttp: {{endpoint: 'http://{}/otlp', logs_endpoint: 'http://{}/loki', compression: none}}\n",
        base.address, own.address
    );
    let pipelines = "    metrics: {receivers: [otlp], exporters: [otlphttp]}\n    \
                     logs: {receivers: [otlp], exporters: [otlphttp]}\n";
    let gateway = start(&exporters, pipelines);
    assert_eq!(send(&gateway, Signal::Metrics, &metrics(2)), Answer::Taken);
    assert_eq!(send(&gateway, Signal::Logs, &logs(2)), Answer::Taken);
    let (to_base, to_own) = (base.wait_for(1), own.wait_for(1));
    assert_eq!((to_base[0].line.as_str(), &to_base[0].body), ("POST /otlp/v1/metrics HTTP/1.1", &metrics(2)));
    assert_eq!((to_own[0].line.as_str(), &to_own[0].body), ("POST /loki HTTP/1.1", &logs(2)));
    gateway.stop().assert_nothing_lost();
}

#[test]
fn what_is_malformed_is_refused_whole_and_what_nobody_takes_does_not_exist() {
    let sink = Sink::start();
    let pipelines = "    metrics: {receivers: [otlp], exporters: [otlp]}\n";
    let gateway = start(&otlp(&sink), pipelines);
    let sound = metrics(3);
    for broken in [&sound[..sound.len() - 1], &[&sound[..], b"\x0a\x02\x12\x05"].concat()] {
        let status = send(&gateway, Signal::Metrics, broken);
        assert_eq!(status.status().code, Code::InvalidArgument);
        assert!(status.status().message.starts_with("not an ExportMetricsServiceRequest: "), "{status:?}");
        assert_eq!(post(&gateway, Signal::Metrics, PROTOBUF, broken).status, 400);
    }
    let answer = post(&gateway, Signal::Metrics, "application/json", b"{\"resourceMetrics\": [{\"scopeMetrics\": 1}]}");
    assert_eq!(answer.status, 400);
    assert!(answer.answer().status().message.contains("resourceMetrics[0].scopeMetrics: expected a list"));

    for method in [
        Signal::Logs.grpc_method(),
        Signal::Traces.grpc_method(),
        "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export",
    ] {
        let call = Call { framed: framed(false, b""), ..Call::plain(b"").to(method) };
        let answer = GrpcSender::connect(gateway.grpc).begin(call).wait();
        assert_eq!(answer.status().code, Code::Unimplemented, "{method}");
    }
    for path in ["/v1/logs", "/v1/traces", "/v1development/profiles"] {
        let headers = [("content-type", PROTOBUF)];
        assert_eq!(HttpSender::connect(gateway.http).request("POST", path, &headers, b"").status, 404, "{path}");
    }
    assert_eq!(gateway.metrics().sum("otelcol_receiver_failed_metric_points", &[]), 5.0 + 6.0);
    assert_eq!(send(&gateway, Signal::Metrics, b""), Answer::Taken, "a request of nothing is taken");
    assert_eq!(send(&gateway, Signal::Metrics, &sound), Answer::Taken);
    gateway.stop().assert_nothing_lost();
    assert_eq!(sink.requests().concat(), sound, "nothing of the broken ones arrived");
}

#[test]
fn requests_of_all_signals_lie_whole_in_one_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let exporters = format!(
        "  file/lines: {{path: '{}'}}\n  file/proto: {{path: '{}', format: proto}}\n  file/zstd: {{path: '{}', \
         compression: zstd, create_directory: true, rotation: {{max_megabytes: 1}}}}\n",
        path("lines.json").display(),
        path("spans.binary").display(),
        path("made/for/it/lines.zstd").display()
    );
    let all = "{receivers: [otlp], exporters: [file/lines, file/proto, file/zstd]}";
    let gateway = start(&exporters, &format!("    traces: {all}\n    metrics: {all}\n    logs: {all}\n"));
    let spans = request_of(&[Trace { number: 1, spans: 3, kind: Kind::Plain }]).to_vec();
    let sent = [(Signal::Traces, spans), (Signal::Metrics, metrics(2)), (Signal::Logs, logs(2))];
    for (signal, message) in &sent {
        // No node takes ownership: who is answered can read the file.
        assert_eq!(send(&gateway, *signal, message), Answer::Taken);
    }
    let lines = |text: &[u8]| text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>();
    let as_json = |signal: Signal, message: &[u8]| {
        let mut text = Vec::new();
        json::write_request(signal, message, &mut text).unwrap();
        text
    };
    let expected: Vec<Vec<u8>> = sent.iter().map(|(signal, message)| as_json(*signal, message)).collect();
    let read = lines(&std::fs::read(path("lines.json")).unwrap());
    assert_eq!(read, expected.iter().map(|line| [&line[..], b"\n"].concat()).collect::<Vec<_>>());
    let records = records(&std::fs::read(path("spans.binary")).unwrap());
    assert_eq!(records, sent.map(|(_, message)| message));
    let compressed = self::records(&std::fs::read(path("made/for/it/lines.zstd")).unwrap());
    let plain = compressed.iter().map(|record| unpacked(record)).collect::<Vec<_>>();
    assert_eq!(plain, expected);
    gateway.stop().assert_nothing_lost();
}

fn unpacked(record: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    Decompressor::default().decompress(Compression::Zstd, record, 1 << 20, &mut plain).expect("zstd");
    plain
}

/// What lies behind lengths of four bytes.
fn records(mut file: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while let Some((length, rest)) = file.split_first_chunk() {
        let (record, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        records.push(record.to_vec());
        file = rest;
    }
    assert!(file.is_empty(), "half a length at the end");
    records
}

#[test]
fn senders_hear_of_a_full_disk_and_others_do_not() {
    let sink = Sink::start();
    let exporters = format!("  file: {{path: /dev/full}}\n{}", otlp(&sink));
    let pipelines =
        "    metrics: {receivers: [otlp], exporters: [otlp]}\n    logs: {receivers: [otlp], exporters: [file]}\n";
    let gateway = start(&exporters, pipelines);
    let answer = send(&gateway, Signal::Logs, &logs(3));
    assert_eq!(answer.status().code, Code::Unavailable, "{answer:?}");
    assert!(answer.status().message.contains("/dev/full takes nothing"), "{answer:?}");
    assert_eq!(send(&gateway, Signal::Metrics, &metrics(3)), Answer::Taken);
    assert_eq!(gateway.metrics().sum("otelcol_exporter_send_failed_log_records", &["exporter=\"file\""]), 3.0);
    let ending = gateway.stop();
    assert_eq!(ending.status.code(), Some(0), "{}", ending.said);
    assert_eq!(sink.requests().concat(), metrics(3));
}
