//! One pipeline of every processor that changes attributes or drops spans: what leaves is what each of them says, and what
//! was to be masked is in no byte that leaves.

mod common;

use codecs::grpc::Code;
use codecs::otlp::proto::{
    AnyValue, ExportTraceServiceRequest, InstrumentationScope, KeyValue, Resource, ResourceSpans, ScopeSpans, Span,
    SpanEvent, Value,
};
use common::gateway::wait_until_empty;
use common::grpc::Call;
use common::traces::text;
use common::{Answer, Gateway, GrpcSender, Sink};
use prost::Message;

/// The SHA-256 of `10.0.0.1`.
const IP_HASHED: &str = "host.ip=f5047344122f0dee9974ba6761e61c6b8649e1f3968d13a635ebbf7be53a3a0d";

/// A gateway of `shards` shards that keeps headers, with these processors (a name and its settings, in YAML).
fn start(shards: usize, sink: &Sink, processors: &[(&str, &str)]) -> Gateway {
    let ids: Vec<&str> = processors.iter().map(|(id, _)| *id).collect();
    let settings: String = processors.iter().map(|(id, settings)| format!("  {id}: {settings}\n")).collect();
    Gateway::start(
        &format!(
            "receivers:\n  otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0', include_metadata: true}}, http: \
             {{endpoint: '127.0.0.1:0'}}}}}}\nprocessors:\n{settings}exporters:\n  otlp: {{endpoint: 'http://{}', \
             compression: none}}\nservice:\n  engine: {{cores: {shards}, pin: false, runtime: epoll, shutdown_timeout: \
             60s, admin: '127.0.0.1:0'}}\n  telemetry: {{metrics: {{address: '127.0.0.1:0', level: detailed}}}}\n  \
             pipelines:\n    traces: {{receivers: [otlp], processors: [{}], exporters: [otlp]}}\n",
            sink.address,
            ids.join(", ")
        ),
        &[],
    )
}

fn int(key: &str, value: i64) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(Value::Int(value)) }) }
}

fn span(id: u8, name: &str, attributes: Vec<KeyValue>) -> Span {
    Span { trace_id: vec![id; 16], span_id: vec![id; 8], name: name.into(), kind: 2, attributes, ..Span::default() }
}

fn event(name: &str, attributes: Vec<KeyValue>) -> SpanEvent {
    SpanEvent { name: name.into(), attributes, ..SpanEvent::default() }
}

fn resource(service: &str, spans: Vec<Span>) -> ResourceSpans {
    let attributes = vec![text("service.name", service), text("host.ip", "10.0.0.1"), text("port", "8080")];
    let scope = InstrumentationScope {
        name: b"http".to_vec(),
        attributes: vec![text("secret.scope", "x")],
        ..InstrumentationScope::default()
    };
    ResourceSpans {
        resource: Some(Resource { attributes, ..Resource::default() }),
        scope_spans: vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }],
        ..ResourceSpans::default()
    }
}

/// Everything that has come, resource by resource, in the order of the services' names.
fn arrived(sink: &Sink) -> Vec<ResourceSpans> {
    let requests = sink.requests().into_iter();
    let decoded = requests.map(|request| ExportTraceServiceRequest::decode(request).expect("a request"));
    let mut resources: Vec<ResourceSpans> = decoded.flat_map(|request| request.resource_spans).collect();
    resources.sort_by_key(|resource| shown(&resource.resource.as_ref().expect("a resource").attributes));
    resources
}

/// `key=value`, in their order.
fn shown(attributes: &[KeyValue]) -> Vec<String> {
    let value = |entry: &KeyValue| match entry.value.as_ref().and_then(|any| any.value.as_ref()) {
        Some(Value::String(text)) => String::from_utf8_lossy(text).into_owned(),
        other => format!("{other:?}"),
    };
    attributes.iter().map(|entry| format!("{}={}", String::from_utf8_lossy(&entry.key), value(entry))).collect()
}

#[test]
fn every_processor_does_its_part_and_nothing_that_is_masked_leaves() {
    for shards in [1, 2] {
        let sink = Sink::start();
        let gateway = start(
            shards,
            &sink,
            &[
                (
                    "filter",
                    "{traces: {resource: ['attributes[\"service.name\"] == \"test\"'], span: ['name == \"GET /health\"'], \
                     spanevent: ['name == \"debug\"']}}",
                ),
                (
                    "resource",
                    "{attributes: [{key: port, action: convert, converted_type: int}, {key: host.ip, action: hash}, {key: \
                     tenant, from_context: metadata.x-tenant, action: upsert, default_value: nobody}]}",
                ),
                (
                    "attributes",
                    "{include: {match_type: strict, services: [shop]}, exclude: {match_type: regexp, span_names: \
                     [^internal]}, actions: [{key: env, value: prod, action: insert}, {key: url, pattern: \
                     \"^(?P<scheme>[a-z]+)://(?P<host>[^/]+)\", action: extract}, {pattern: \"^tmp\\\\.\", action: delete}]}",
                ),
                (
                    "redaction",
                    "{allow_all_keys: true, blocked_key_patterns: ['^secret'], blocked_values: ['4[0-9]{12}'], \
                     redact_all_types: true, summary: info}",
                ),
                ("groupbytrace", "{wait_duration: 1s}"),
            ],
        );
        let sender = GrpcSender::connect(gateway.grpc);
        let message = ExportTraceServiceRequest {
            resource_spans: vec![
                resource(
                    "shop",
                    vec![
                        span(1, "GET /health", vec![]),
                        Span {
                            events: vec![
                                event("debug", vec![]),
                                event("paid", vec![text("secret.pin", "1234"), text("card", "no 4111111111111.")]),
                            ],
                            ..span(
                                2,
                                "POST /pay",
                                vec![
                                    text("url", "https://shop.example/pay"),
                                    int("card", 4_111_111_111_111),
                                    text("tmp.x", "1"),
                                ],
                            )
                        },
                        span(3, "internal", vec![text("tmp.x", "1")]),
                    ],
                ),
                resource("cart", vec![span(4, "GET /", vec![text("tmp.x", "kept")])]),
                resource("test", vec![span(5, "GET /", vec![]), span(6, "GET /", vec![])]),
            ],
        };
        let call = Call::plain(&message.encode_to_vec()).with("x-tenant", "acme");
        assert_eq!(sender.begin(call).wait(), Answer::Taken);
        sink.wait_for_spans(3);

        let arrived = arrived(&sink);
        let [cart, shop] = arrived.as_slice() else { panic!("{arrived:#?}") };
        for (resource, service) in [(cart, "service.name=cart"), (shop, "service.name=shop")] {
            let found = shown(&resource.resource.as_ref().expect("a resource").attributes);
            assert_eq!(found, [service, IP_HASHED, "port=Some(Int(8080))", "tenant=acme"]);
            let scope = resource.scope_spans[0].scope.as_ref().expect("a scope");
            assert_eq!(shown(&scope.attributes), ["secret.scope=****", "redaction.masked.count=Some(Int(1))"]);
        }
        let spans = &shop.scope_spans[0].spans;
        assert_eq!(spans.len(), 2);
        let masked = "redaction.masked.count=Some(Int(1))";
        let expected =
            ["url=https://shop.example/pay", "card=****", "env=prod", "scheme=https", "host=shop.example", masked];
        assert_eq!(shown(&spans[0].attributes), expected);
        assert_eq!(spans[0].events.len(), 1);
        let expected = ["secret.pin=****", "card=no ****.", "redaction.masked.count=Some(Int(2))"];
        assert_eq!(shown(&spans[0].events[0].attributes), expected);
        assert_eq!(shown(&spans[1].attributes), ["tmp.x=1"], "excluded");
        assert_eq!(shown(&cart.scope_spans[0].spans[0].attributes), ["tmp.x=kept"], "not included");
        for request in sink.requests() {
            for secret in [&b"4111111111111"[..], b"1234", b"10.0.0.1"] {
                assert!(!request.windows(secret.len()).any(|window| window == secret), "nothing of it leaves");
            }
        }

        let ledger = wait_until_empty(&gateway, &["otlp"]);
        assert!(ledger.is_balanced());
        let terms = ["accepted", "delivered", "dropped", "failed"].map(|term| ledger.account("otlp", term));
        assert_eq!(terms, [6, 3, 3, 0]);
        assert_eq!(gateway.metrics().sum("otelcol_processor_filter_spans_filtered", &[]), 3.0);
        gateway.stop().assert_nothing_lost();
    }
}

#[test]
fn a_request_of_which_nothing_is_left_is_taken_and_nothing_is_sent() {
    let sink = Sink::start();
    let filter = "{trace_conditions: ['span.name == \"a\"', 'resource.attributes[\"service.name\"] == \"b\"']}";
    let gateway = start(1, &sink, &[("filter", filter)]);
    let sender = GrpcSender::connect(gateway.grpc);
    for service in ["a", "b"] {
        let spans = vec![span(1, if service == "a" { "a" } else { "x" }, vec![])];
        let message = ExportTraceServiceRequest { resource_spans: vec![resource(service, spans)] };
        assert_eq!(sender.send(&message.encode_to_vec()), Answer::Taken);
    }
    let ledger = wait_until_empty(&gateway, &["otlp"]);
    assert_eq!((ledger.account("otlp", "dropped"), ledger.account("otlp", "delivered")), (2, 0));
    gateway.stop().assert_nothing_lost();
    assert_eq!(sink.requests().len(), 0);
}

#[test]
fn a_condition_that_fails_is_not_true_or_stops_the_batch_as_asked() {
    // A number has no substring.
    let condition = "'Substring(attributes[\"n\"], 0, 1) == \"x\"'";
    for (mode, stops) in [("ignore", false), ("propagate", true)] {
        let sink = Sink::start();
        let filter = format!("{{error_mode: {mode}, traces: {{span: [{condition}]}}}}");
        let gateway = start(1, &sink, &[("filter", &filter)]);
        let spans = vec![span(1, "a", vec![int("n", 1)]), span(2, "b", vec![])];
        let message = ExportTraceServiceRequest { resource_spans: vec![resource("a", spans)] };
        let answer = GrpcSender::connect(gateway.grpc).send(&message.encode_to_vec());
        let ledger = wait_until_empty(&gateway, &["otlp"]);
        if stops {
            assert_eq!(answer.status().code, Code::InvalidArgument);
            assert!(answer.status().message.contains("filter: the condition"), "{answer:?}");
        } else {
            assert_eq!(answer, Answer::Taken);
        }
        let terms = ["delivered", "dropped", "failed"].map(|term| ledger.account("otlp", term));
        assert_eq!(terms, if stops { [0, 0, 2] } else { [2, 0, 0] }, "{mode}");
        let failures = gateway.metrics().sum("tracegate_filter_condition_failures", &[]);
        assert_eq!(failures, 1.0, "{mode}: a span without the attribute is no failure");
        gateway.stop();
    }
}
