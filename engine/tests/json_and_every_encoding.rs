//! Senders may write JSON or protobuf and compress with whatever the Collector takes: what arrives at the backend is the
//! same. And the other way: what an exporter is told to write, another gateway reads.

mod common;

use codecs::compression::{Compression, Compressor};
use codecs::grpc::Code;
use codecs::json;
use codecs::otlp::proto::*;
use codecs::otlp::{Format, Signal};
use common::gateway::{Setup, wait_until_empty};
use common::grpc::Call;
use common::traces::{Kind, Trace, request_of};
use common::{Answer, Engine, GrpcSender, HttpSender, Sink};
use prost::Message;
use std::collections::BTreeSet;

const HTTP: [Compression; 8] = [
    Compression::None,
    Compression::Gzip,
    Compression::Zstd,
    Compression::Zlib,
    Compression::Deflate,
    Compression::Snappy,
    Compression::SnappyFramed,
    Compression::Lz4,
];

fn compressed(compression: Compression, plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Compressor::default().compress(compression, None, plain, &mut out);
    out
}

fn in_json(protobuf: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    json::write_request(Signal::Traces, protobuf, &mut out).expect("a sound request");
    out
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }) }
}

fn text(text: &str) -> Value {
    Value::String(text.into())
}

/// What a browser's exporter writes, with a bit of everything.
const REQUEST: &str = r#"{"resourceSpans":[{
  "resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop ☕"}}],"droppedAttributesCount":0},
  "scopeSpans":[{"scope":{"name":"web","version":"1.2"},"spans":[{
    "traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"eee19b7ec3c1b174","parentSpanId":"EEE19B7EC3C1B173",
    "traceState":"ot=th:8","flags":257,"name":"GET \"\/cart\"","kind":3,
    "startTimeUnixNano":"1544712660000000001","endTimeUnixNano":1544712661000000003,
    "attributes":[{"key":"count","value":{"intValue":"-9007199254740993"}},{"key":"ratio","value":{"doubleValue":0.1}},
      {"key":"ok","value":{"boolValue":true}},{"key":"raw","value":{"bytesValue":"AP8="}},
      {"key":"list","value":{"arrayValue":{"values":[{"stringValue":"a"},{"intValue":1}]}}},
      {"key":"map","value":{"kvlistValue":{"values":[{"key":"k","value":{"stringValue":""}}]}}}],
    "droppedAttributesCount":1,
    "events":[{"timeUnixNano":"1544712660500000000","name":"click","attributes":[],"droppedAttributesCount":2}],
    "droppedEventsCount":3,
    "links":[{"traceId":"5b8efff798038103d269b633813fc60d","spanId":"eee19b7ec3c1b175","traceState":"x=y",
      "attributes":[{"key":"why","value":{"stringValue":"retry"}}],"droppedAttributesCount":4,"flags":1}],
    "droppedLinksCount":5,"status":{"code":"STATUS_CODE_ERROR","message":"no"},"fromTheFuture":{"deep":[1,{}]}}],
  "schemaUrl":"https://example/scope"}],
"schemaUrl":"https://example/resource"}]}"#;

fn expected() -> ExportTraceServiceRequest {
    let map = KeyValueList { values: vec![attribute("k", text(""))] };
    let list = [text("a"), Value::Int(1)].map(|value| AnyValue { value: Some(value) });
    let span = Span {
        trace_id: 0x5b8e_fff7_9803_8103_d269_b633_813f_c60c_u128.to_be_bytes().to_vec(),
        span_id: 0xeee1_9b7e_c3c1_b174_u64.to_be_bytes().to_vec(),
        parent_span_id: 0xeee1_9b7e_c3c1_b173_u64.to_be_bytes().to_vec(),
        trace_state: b"ot=th:8".to_vec(),
        flags: 257,
        name: b"GET \"/cart\"".to_vec(),
        kind: 3,
        start_time_unix_nano: 1_544_712_660_000_000_001,
        end_time_unix_nano: 1_544_712_661_000_000_003,
        attributes: vec![
            attribute("count", Value::Int(-9_007_199_254_740_993)),
            attribute("ratio", Value::Double(0.1)),
            attribute("ok", Value::Bool(true)),
            attribute("raw", Value::Bytes(vec![0, 0xff])),
            attribute("list", Value::Array(ArrayValue { values: list.into() })),
            attribute("map", Value::Map(map)),
        ],
        dropped_attributes_count: 1,
        events: vec![SpanEvent {
            time_unix_nano: 1_544_712_660_500_000_000,
            name: b"click".to_vec(),
            attributes: Vec::new(),
            dropped_attributes_count: 2,
        }],
        dropped_events_count: 3,
        links: vec![SpanLink {
            trace_id: 0x5b8e_fff7_9803_8103_d269_b633_813f_c60d_u128.to_be_bytes().to_vec(),
            span_id: 0xeee1_9b7e_c3c1_b175_u64.to_be_bytes().to_vec(),
            trace_state: b"x=y".to_vec(),
            attributes: vec![attribute("why", text("retry"))],
            dropped_attributes_count: 4,
            flags: 1,
        }],
        dropped_links_count: 5,
        status: Some(SpanStatus { message: b"no".to_vec(), code: 2 }),
    };
    let scope = InstrumentationScope { name: b"web".to_vec(), version: b"1.2".to_vec(), ..Default::default() };
    let scope_spans =
        ScopeSpans { scope: Some(scope), spans: vec![span], schema_url: b"https://example/scope".to_vec() };
    let resource =
        Resource { attributes: vec![attribute("service.name", text("shop ☕"))], dropped_attributes_count: 0 };
    let resource_spans = ResourceSpans {
        resource: Some(resource),
        scope_spans: vec![scope_spans],
        schema_url: b"https://example/resource".to_vec(),
    };
    ExportTraceServiceRequest { resource_spans: vec![resource_spans] }
}

#[test]
fn a_request_in_json_arrives_field_by_field() {
    for processor in [None, Some("{decision_wait: 1h, policies: [{name: all, type: always_sample}]}")] {
        let sink = Sink::start();
        let setup = Setup::new(Engine::epoll(1)).otlp("otlp", sink.address, "");
        let gateway = processor.into_iter().fold(setup, |setup, keep| setup.processor("tail_sampling", keep)).start();
        let mut sender = HttpSender::connect(gateway.http);
        let response = sender.send_typed(REQUEST.as_bytes(), "Application/JSON; charset=utf-8", None);
        assert_eq!(response.status, 200, "{response:?}");
        assert_eq!((response.is_json(), &response.body[..]), (true, &b"{}"[..]));
        gateway.stop().assert_nothing_lost();
        let requests = sink.requests();
        assert_eq!(requests.len(), 1);
        assert_eq!(ExportTraceServiceRequest::decode(&requests[0][..]).expect("protobuf"), expected());
    }
}

#[test]
fn every_encoding_that_the_collector_takes_is_taken() {
    let sink = Sink::start();
    // Two shards, so that whole requests may change hands as they are.
    let gateway = Setup::new(Engine::epoll(2)).otlp("otlp", sink.address, "").start();
    let mut sent = BTreeSet::new();
    let mut http = HttpSender::connect(gateway.http);
    // Bodies that are read in one go, and such that are read in steps.
    let sizes = [3, 2_000];
    let mut number = 0;
    let mut next = || {
        number += 1;
        let trace = Trace { number, spans: sizes[number as usize / 2 % 2], kind: Kind::ErrorIn(1) };
        sent.extend(trace.span_ids());
        request_of(&[trace])
    };
    for compression in HTTP.into_iter().flat_map(|compression| [compression; 2]) {
        let name = Some(compression.name()).filter(|_| compression != Compression::None);
        let response = http.send_encoded(&compressed(compression, &next()), name);
        assert_eq!((response.status, response.body.len()), (200, 0), "{compression:?}");
        let response = http.send_typed(&compressed(compression, &in_json(&next())), "application/json", name);
        assert_eq!((response.status, &response.body[..]), (200, &b"{}"[..]), "{compression:?} of JSON");
    }
    let response = http.send_encoded(&compressed(Compression::SnappyFramed, &next()), Some("snappy"));
    assert_eq!(response.status, 200, "framed snappy under the name of the block format");
    let grpc = GrpcSender::connect(gateway.grpc);
    for (name, compression) in
        [("gzip", Compression::Gzip), ("zstd", Compression::Zstd), ("snappy", Compression::SnappyFramed)]
    {
        let answer = grpc.begin(Call::encoded(name, &compressed(compression, &next()))).wait();
        assert_eq!(answer, Answer::Taken, "{name} over gRPC");
    }
    sink.wait_for_spans(sent.len());
    let arrived = sink.spans();
    assert_eq!(arrived.keys().copied().collect::<BTreeSet<_>>(), sent);
    assert!(arrived.values().all(|times| *times == 1));
    gateway.stop().assert_nothing_lost();
}

#[test]
fn what_an_exporter_writes_another_gateway_reads() {
    let sink = Sink::start();
    let backend = Setup::new(Engine::epoll(1)).otlp("otlp", sink.address, "").start();
    let url = format!("endpoint: 'http://{}'", backend.http);
    let mut setup = Setup::new(Engine::epoll(1));
    let ids: Vec<(String, String)> = HTTP
        .into_iter()
        .flat_map(|compression| [("json", compression), ("proto", compression)])
        .map(|(encoding, compression)| {
            let name = if compression == Compression::None { "none" } else { compression.name() };
            let id = format!("otlphttp/{encoding}-{name}");
            (id, format!("{{{url}, encoding: {encoding}, compression: {name}}}"))
        })
        .collect();
    setup.exporters.extend(ids.iter().map(|(id, settings)| (&id[..], settings.clone())));
    let grpc = format!("{{endpoint: '{}', tls: {{insecure: true}}, compression: snappy}}", backend.grpc);
    setup.exporters.push(("otlp/snappy", grpc));
    let copies = setup.exporters.len();
    let gateway = setup.start();
    let response = HttpSender::connect(gateway.http).send_typed(REQUEST.as_bytes(), "application/json", None);
    assert_eq!(response.status, 200);
    sink.wait_for_spans(copies);
    gateway.stop().assert_nothing_lost();
    backend.stop().assert_nothing_lost();
    let requests = sink.requests();
    assert_eq!(requests.len(), copies);
    for request in requests {
        assert_eq!(ExportTraceServiceRequest::decode(&request[..]).expect("protobuf"), expected());
    }
}

#[test]
fn malformed_json_is_refused_whole_and_the_answer_says_where_in_json() {
    let sink = Sink::start();
    let gateway = Setup { http: "max_request_body_size: 1048576", ..Setup::new(Engine::epoll(1)) };
    let gateway = gateway.otlp("otlp", sink.address, "").start();
    let mut sender = HttpSender::connect(gateway.http);
    let span = |fields: &str| {
        format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"name":"sound"}},{{{fields}}}]}}]}}]}}"#)
    };
    let bodies = [
        String::new(),
        "null".to_owned(),
        "[]".to_owned(),
        "spans".to_owned(),
        REQUEST[..REQUEST.len() - 1].to_owned(),
        format!("{REQUEST}{REQUEST}"),
        span(r#""traceId":"5b8efff798038103""#),
        span(r#""startTimeUnixNano":"yesterday""#),
        span(r#""attributes":{"a":1}"#),
        span(&format!(r#""flags":{}"#, "9".repeat(500_000))),
        span(&format!(r#""attributes":[{{"value":{}"#, r#"{"arrayValue":{"values":["#.repeat(10_000))),
        format!(r#"{{"x":{}"#, "[".repeat(1_000_000)),
        "[".repeat(1_000_000),
    ];
    for (number, body) in bodies.iter().enumerate() {
        let what = &body[..body.len().min(60)];
        let response = sender.send_typed(body.as_bytes(), "application/json", None);
        assert_eq!((response.status, response.is_json()), (400, true), "{what}");
        let tree: serde_json::Value = serde_json::from_slice(&response.body).expect("JSON");
        assert_eq!(tree["code"], 3, "{what}");
        let message = tree["message"].as_str().expect("a text");
        assert!(message.starts_with("not an ExportTraceServiceRequest in JSON: "), "{what}: {message}");
        assert!(message.contains(" at line ") && message.len() < 600, "{what}: {message}");
        // On the same connection, and of the bad one nothing.
        let trace = Trace { number: number as u64, spans: 1, kind: Kind::Plain };
        let good = sender.send_typed(&in_json(&request_of(&[trace])), "application/json", None);
        assert_eq!(good.status, 200, "{what}");
    }
    let bomb = compressed(Compression::Deflate, &vec![b'['; 16 << 20]);
    let response = sender.send_typed(&bomb, "application/json", Some("deflate"));
    assert_eq!(response.answer().status().code, Code::InvalidArgument);
    assert!(response.answer().status().message.contains("larger than 1048576 bytes"), "{response:?}");
    let response = sender.send_typed(b"{}", Format::Json.content_type(), Some("br"));
    assert_eq!((response.status, response.is_json()), (400, true));
    let good = bodies.len();
    sink.wait_for_spans(good);
    let ledger = wait_until_empty(&gateway, &["otlp"]);
    let intake = ["offered", "accepted", "refused", "rejected"].map(|term| ledger.intake(term));
    assert_eq!(intake, [good as u64, good as u64, 0, 0]);
    assert_eq!(ledger.intake("rejected_requests"), good as u64 + 2);
    assert_eq!(sink.spans_count(), good);
    gateway.stop().assert_nothing_lost();
}
