//! `transform` as its users have it: the seed's gateway file as written, its masking file, statements that fail before
//! and after the sender's answer, and a tail sampler that decides on what statements made of a span.

mod common;

use codecs::grpc::Code;
use codecs::otlp::proto::{ExportTraceServiceRequest, Resource, ResourceSpans, ScopeSpans, Span, SpanStatus, Value};
use common::gateway::{Setup, wait_until_empty};
use common::traces::{Kind, Trace, request, text};
use common::{Answer, Engine, Gateway, GrpcSender, Sink};
use prost::Message;
use std::collections::BTreeMap;
use std::path::Path;

/// SHA-256 of `ann@example.com`.
const HASHED: &str = "71d4f55f72fa128dfb468a1a3901507c804b74316488744d769d7f4b16696476";

fn seed(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/seed").join(name)
}

/// A failed span, which every sampler keeps, with something to mask; and a sibling that has nothing.
fn spans(trace: u8) -> Vec<Span> {
    let failed = Span {
        trace_id: vec![trace; 16],
        span_id: vec![1; 8],
        name: b"pay".to_vec(),
        attributes: vec![
            text("user.email", "ann@example.com"),
            text("user.phone", "+1 415 555 2671"),
            text("http.request.header.cookie", "session=1"),
            text("password", "hunter2"),
            text("credit_card", "4111111111111111"),
            text("http.route", "/pay"),
        ],
        status: Some(SpanStatus { code: 2, ..SpanStatus::default() }),
        ..Span::default()
    };
    let plain = Span { span_id: vec![2; 8], attributes: vec![text("http.route", "/")], status: None, ..failed.clone() };
    vec![failed, plain]
}

fn in_environment(env: &str, spans: Vec<Span>) -> Vec<u8> {
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource = Some(Resource { attributes: vec![text("env", env)], ..Resource::default() });
    let resource_spans = vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

/// Attributes of each span that arrived, by trace and span.
fn arrived(sink: &Sink) -> BTreeMap<(u8, u8), BTreeMap<String, String>> {
    let mut arrived = BTreeMap::new();
    for request in sink.requests() {
        let request = ExportTraceServiceRequest::decode(request).expect("the gateway sends sound requests");
        let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        for span in scopes.flat_map(|scope| scope.spans) {
            let attributes = span.attributes.into_iter().map(|attribute| {
                let Some(Value::String(value)) = attribute.value.and_then(|value| value.value) else { panic!() };
                (String::from_utf8_lossy(&attribute.key).into_owned(), String::from_utf8_lossy(&value).into_owned())
            });
            let came_before = arrived.insert((span.trace_id[0], span.span_id[0]), attributes.collect());
            assert_eq!(came_before, None, "a span came twice");
        }
    }
    arrived
}

fn keys(attributes: &BTreeMap<String, String>) -> Vec<&str> {
    attributes.keys().map(String::as_str).collect()
}

#[test]
fn the_seeds_gateway_hashes_in_production_and_deletes_everywhere() {
    let (jaeger, tempo) = (Sink::start(), Sink::start());
    let sets = [
        "receivers.otlp.protocols.grpc.endpoint=127.0.0.1:0".to_owned(),
        "receivers.otlp.protocols.http.endpoint=127.0.0.1:0".to_owned(),
        "service.telemetry.metrics.address=127.0.0.1:0".to_owned(),
        "service.engine={cores: 2, pin: false, runtime: epoll, admin: '127.0.0.1:0'}".to_owned(),
        format!("exporters.otlp/jaeger={{endpoint: '{}', tls: {{insecure: true}}, compression: none}}", jaeger.address),
        format!("exporters.otlp/tempo={{endpoint: '{}', tls: {{insecure: true}}, compression: none}}", tempo.address),
    ];
    let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
    let gateway = Gateway::of_file(&seed("gateway.config.yaml"), &sets);
    let sender = GrpcSender::connect(gateway.grpc);
    for (trace, env) in [(1, "prod"), (2, "dev")] {
        assert_eq!(sender.send(&in_environment(env, spans(trace))), Answer::Taken);
    }
    // A drain decides every trace and sends every batch: nobody waits for the file's 10 s and 30 s.
    gateway.stop().assert_nothing_lost();
    for sink in [&jaeger, &tempo] {
        let arrived = arrived(sink);
        assert_eq!(arrived.len(), 4);
        let (production, other) = (&arrived[&(1, 1)], &arrived[&(2, 1)]);
        let left = ["http.request.header.cookie", "http.route", "user.email", "user.phone"];
        assert_eq!((keys(production), keys(other)), (left.to_vec(), left.to_vec()));
        assert_eq!(production["user.email"], HASHED);
        assert_eq!(other["user.email"], "ann@example.com", "the statement is for production");
        assert_eq!(keys(&arrived[&(1, 2)]), ["http.route"], "a span with nothing to mask stays as it was");
    }
}

#[test]
fn the_seeds_masking_leaves_nothing_of_what_it_masks() {
    let sink = Sink::start();
    let masking = std::fs::read_to_string(seed("masking.config.yaml")).expect("the seed's file");
    let gateway = Gateway::start(
        &format!(
            "{masking}\nreceivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0'}}, http: {{endpoint: \
             '127.0.0.1:0'}}}}}}}}\nexporters: {{otlp: {{endpoint: '{}', tls: {{insecure: true}}, compression: \
             none}}}}\nservice:\n  engine: {{cores: 1, pin: false, runtime: epoll, admin: '127.0.0.1:0'}}\n  telemetry: \
             {{metrics: {{address: '127.0.0.1:0'}}}}\n  pipelines: {{traces: {{receivers: [otlp], processors: \
             [transform], exporters: [otlp]}}}}\n",
            sink.address
        ),
        &[],
    );
    assert_eq!(GrpcSender::connect(gateway.grpc).send(&in_environment("prod", spans(1))), Answer::Taken);
    gateway.stop().assert_nothing_lost();
    let arrived = arrived(&sink);
    let masked = &arrived[&(1, 1)];
    assert_eq!(keys(masked), ["http.route", "user.email", "user.phone"]);
    assert_eq!(masked["user.phone"], "***-***-2671");
    assert_eq!(masked["user.email"], HASHED);
}

const FAILS: &str = r#"{error_mode: propagate, traces: ['set(attributes["n"], 1 / 0) where name == "pay"']}"#;

#[test]
fn a_batch_that_statements_stop_is_refused_for_ever_if_its_sender_still_waits() {
    let sink = Sink::start();
    let gateway = Setup::new(Engine::epoll(1)).processor("transform", FAILS).otlp("otlp", sink.address, "").start();
    let sender = GrpcSender::connect(gateway.grpc);
    let answer = sender.send(&in_environment("prod", spans(1)));
    assert_eq!(answer.status().code, Code::InvalidArgument);
    assert!(answer.status().message.contains("traces[0] failed: division by zero"), "{answer:?}");
    let ledger = wait_until_empty(&gateway, &["otlp"]);
    assert!(ledger.is_balanced());
    assert_eq!((ledger.intake("rejected"), ledger.account("otlp", "failed")), (2, 2));
    assert_eq!(gateway.metrics().sum("tracegate_processor_failed_spans", &["reason=\"ottl\""]), 2.0);
    gateway.stop();
    assert_eq!(sink.spans_count(), 0);
}

#[test]
fn a_batch_that_statements_stop_after_the_answer_is_counted_as_failed() {
    let sink = Sink::start();
    let gateway = Setup::new(Engine::epoll(1))
        .processor("batch", "{timeout: 0s}")
        .processor("transform", FAILS)
        .otlp("otlp", sink.address, "")
        .start();
    assert_eq!(GrpcSender::connect(gateway.grpc).send(&in_environment("prod", spans(1))), Answer::Taken);
    let ledger = wait_until_empty(&gateway, &["otlp"]);
    assert!(ledger.is_balanced());
    assert_eq!((ledger.intake("accepted"), ledger.account("otlp", "failed")), (2, 2));
    assert_eq!(gateway.metrics().sum("tracegate_transform_statement_failures", &["statement=\"traces[0]\""]), 1.0);
    gateway.stop();
    assert_eq!(sink.spans_count(), 0);
}

#[test]
fn a_sampler_decides_on_what_statements_made_of_a_span() {
    let sink = Sink::start();
    let marks = r#"{traces: ['set(status.code, STATUS_CODE_ERROR) where name == "operation 1 of trace 3"']}"#;
    let asks = "{decision_wait: 50ms, policies: [{name: asked, type: ottl_condition, ottl_condition: {span: \
                ['name == \"operation 0 of trace 5\" and resource.attributes[\"service.name\"] == \"shop\"']}}, {name: \
                errors, type: status_code, status_code: {status_codes: [ERROR]}}]}";
    let gateway = Setup::new(Engine::epoll(2))
        .processor("transform", marks)
        .processor("tail_sampling", asks)
        .otlp("otlp", sink.address, "")
        .start();
    let traces: Vec<Trace> = (0..8).map(|number| Trace { number, spans: 3, kind: Kind::Plain }).collect();
    let sender = GrpcSender::connect(gateway.grpc);
    for trace in &traces {
        assert_eq!(sender.send(&request("shop", (0..3).map(|place| trace.span(place)).collect())), Answer::Taken);
    }
    gateway.stop().assert_nothing_lost();
    let mut kept: Vec<_> = sink.spans().into_keys().collect();
    let mut expected: Vec<_> = [3, 5].iter().flat_map(|number| traces[*number].span_ids()).collect();
    kept.sort_unstable();
    expected.sort_unstable();
    assert_eq!(kept, expected);
}
