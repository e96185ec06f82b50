//! One pipeline of every processor that changes attributes or drops spans: what leaves is what each of them says, and what
//! was to be masked is in no byte that leaves.

mod common;

use codecs::grpc::Code;
use codecs::otlp::Signal;
use codecs::otlp::proto::{
    AnyValue, ExportLogsServiceRequest, ExportMetricsServiceRequest, ExportTraceServiceRequest, Gauge, Histogram,
    HistogramDataPoint, InstrumentationScope, KeyValue, LogRecord, Metric, MetricData, NumberDataPoint, NumberValue,
    Resource, ResourceLogs, ResourceMetrics, ResourceSpans, ScopeLogs, ScopeMetrics, ScopeSpans, Span, SpanEvent, Sum,
    Summary, SummaryDataPoint, Value, ValueAtQuantile,
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
    start_for(Signal::Traces, shards, sink, processors)
}

/// The same with a pipeline of this signal.
fn start_for(signal: Signal, shards: usize, sink: &Sink, processors: &[(&str, &str)]) -> Gateway {
    let ids: Vec<&str> = processors.iter().map(|(id, _)| *id).collect();
    let settings: String = processors.iter().map(|(id, settings)| format!("  {id}: {settings}\n")).collect();
    Gateway::start(
        &format!(
            "receivers:\n  otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0', include_metadata: true}}, http: \
             {{endpoint: '127.0.0.1:0'}}}}}}\nprocessors:\n{settings}exporters:\n  otlp: {{endpoint: 'http://{}', \
             compression: none}}\nservice:\n  engine: {{cores: {shards}, pin: false, runtime: epoll, shutdown_timeout: \
             60s, admin: '127.0.0.1:0'}}\n  telemetry: {{metrics: {{address: '127.0.0.1:0', level: detailed}}}}\n  \
             pipelines:\n    {signal}: {{receivers: [otlp], processors: [{}], exporters: [otlp]}}\n",
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

fn send_to(gateway: &Gateway, signal: Signal, message: &[u8]) {
    let answer = GrpcSender::connect(gateway.grpc).begin(Call::plain(message).to(signal.grpc_method())).wait();
    assert_eq!(answer, Answer::Taken);
}

#[test]
fn log_records_are_dropped_edited_masked_and_sampled_and_the_books_balance() {
    let sink = Sink::start();
    let gateway = start_for(
        Signal::Logs,
        2,
        &sink,
        &[
            ("filter", "{logs: {log_record: ['severity_number < SEVERITY_NUMBER_INFO']}}"),
            ("filter/new", "{log_conditions: ['IsMatch(log.body.string, \"^GET /health\")']}"),
            ("filter/old", "{logs: {exclude: {match_type: strict, bodies: [noise], severity_number: {min: INFO}}}}"),
            ("resource", "{attributes: [{key: host.ip, action: hash}]}"),
            (
                "attributes",
                "{include: {match_type: regexp, log_severity_texts: ['^I']}, actions: [{key: env, value: prod, action: insert}]}",
            ),
            (
                "transform",
                "{logs: ['set(attributes[\"mail\"], SHA256(attributes[\"mail\"]))', 'set(body[\"pin\"], \
                 SHA256(body[\"pin\"])) where IsMap(body)'], log_statements: ['set(log.severity_text, \"WARNING\") where \
                 log.severity_number >= SEVERITY_NUMBER_WARN', 'set(resource.attributes[\"seen\"], true)'], \
                 trace_statements: ['set(span.name, \"never\")']}",
            ),
            (
                "redaction",
                "{allow_all_keys: true, blocked_key_patterns: ['^secret'], blocked_values: ['4[0-9]{12}'], summary: info}",
            ),
            ("probabilistic_sampler", "{sampling_percentage: 0, sampling_priority: keep}"),
        ],
    );
    let record = |severity_number, body: Value, attributes: Vec<KeyValue>| LogRecord {
        severity_number,
        severity_text: b"I".to_vec(),
        body: Some(AnyValue { value: Some(body) }),
        attributes,
        ..LogRecord::default()
    };
    let says = |text: &str| Value::String(text.into());
    let map = Value::Map(codecs::otlp::proto::KeyValueList {
        values: vec![text("pin", "1234"), text("secret.word", "s3sam"), text("card", "no 4111111111111.")],
    });
    let log_records = vec![
        record(5, says("debugging"), vec![int("keep", 100)]),
        record(9, says("GET /health HTTP/1.1"), vec![int("keep", 100)]),
        record(9, says("noise"), vec![int("keep", 100)]),
        record(9, says("paid with 4111111111111"), vec![text("mail", "ann@example.com"), int("keep", 100)]),
        record(13, map, vec![int("keep", 100)]),
        record(9, says("not drawn"), vec![]),
    ];
    let attributes = vec![text("service.name", "shop"), text("host.ip", "10.0.0.1")];
    let resource = ResourceLogs {
        resource: Some(Resource { attributes, ..Resource::default() }),
        scope_logs: vec![ScopeLogs { log_records, ..ScopeLogs::default() }],
        ..ResourceLogs::default()
    };
    let message = ExportLogsServiceRequest { resource_logs: vec![resource] }.encode_to_vec();
    send_to(&gateway, Signal::Logs, &message);
    wait_until_empty(&gateway, &["otlp"]);
    let page = gateway.metrics();
    assert_eq!(page.sum("otelcol_processor_filter_logs_filtered", &[]), 3.0);
    assert_eq!(page.sum("otelcol_processor_probabilistic_sampler_count_logs_sampled", &["sampled=\"true\""]), 2.0);
    let ending = gateway.stop();
    ending.assert_nothing_lost();

    let arrived = sink.requests_of(Signal::Logs.grpc_method()).concat();
    for secret in ["ann@example.com", "4111111111111", "1234", "s3sam", "10.0.0.1"] {
        assert!(!arrived.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret} left the gateway");
    }
    let arrived = ExportLogsServiceRequest::decode(&*arrived).unwrap();
    let [resource] = arrived.resource_logs.as_slice() else { panic!("{arrived:#?}") };
    let found = shown(&resource.resource.as_ref().unwrap().attributes);
    assert_eq!(found, ["service.name=shop", IP_HASHED, "seen=Some(Bool(true))"]);
    let [paid, map] = resource.scope_logs[0].log_records.as_slice() else { panic!("{resource:#?}") };
    assert_eq!(paid.body, Some(AnyValue { value: Some(says("paid with ****")) }));
    assert_eq!(paid.severity_text, b"I");
    let found = shown(&paid.attributes);
    assert!(found[0].starts_with("mail=") && found[0].len() == 69, "{found:?}");
    assert_eq!(
        &found[1..],
        ["keep=Some(Int(100))", "env=prod", "redaction.body.masked.count=Some(Int(1))", "sampling.threshold=0"]
    );
    assert_eq!(map.severity_text, b"WARNING");
    let Some(Value::Map(body)) = map.body.clone().unwrap().value else { panic!("{map:#?}") };
    let found = shown(&body.values);
    assert!(found[0].len() == 68 && found[1..] == ["secret.word=****", "card=no ****."], "{found:?}");
}

#[test]
fn metrics_and_data_points_are_dropped_edited_and_masked_and_the_books_balance() {
    let sink = Sink::start();
    let gateway = start_for(
        Signal::Metrics,
        2,
        &sink,
        &[
            ("filter", "{metrics: {metric: ['name == \"debug\"'], datapoint: ['attributes[\"region\"] == \"test\"']}}"),
            ("filter/old", "{metrics: {exclude: {match_type: regexp, metric_names: ['^go\\.']}}}"),
            (
                "attributes",
                "{include: {match_type: strict, metric_names: [orders]}, actions: [{key: env, value: prod, action: insert}, \
                 {key: tmp, action: delete}]}",
            ),
            (
                "transform",
                "{metrics: ['set(attributes[\"mail\"], SHA256(attributes[\"mail\"]))'], metric_statements: \
                 ['set(metric.name, \"shop.orders\") where metric.name == \"orders\"', 'set(datapoint.attributes[\"of\"], \
                 metric.name)', 'convert_sum_to_gauge() where metric.name == \"level\"']}",
            ),
            (
                "transform/two",
                "{metric_statements: [{context: metric, statements: ['set(unit, \"{order}\") where name == \
              \"shop.orders\"']}]}",
            ),
            ("redaction", "{allow_all_keys: true, blocked_values: ['4[0-9]{12}']}"),
        ],
    );
    let point = |value, attributes: Vec<KeyValue>| NumberDataPoint {
        time_unix_nano: 7,
        value: Some(NumberValue::AsInt(value)),
        attributes,
        ..NumberDataPoint::default()
    };
    let sum = |name: &str, data_points: Vec<NumberDataPoint>| Metric {
        name: name.into(),
        data: Some(MetricData::Sum(Sum { data_points, aggregation_temporality: 2, is_monotonic: true })),
        ..Metric::default()
    };
    let metrics = vec![
        sum(
            "orders",
            vec![
                point(1, vec![text("region", "eu"), text("mail", "ann@example.com"), text("tmp", "x")]),
                point(2, vec![text("region", "test")]),
                point(3, vec![text("region", "us"), text("card", "4111111111111")]),
            ],
        ),
        sum("debug", vec![point(1, vec![]), point(2, vec![])]),
        sum("go.routines", vec![point(1, vec![])]),
        sum("tested", vec![point(1, vec![text("region", "test")])]),
        sum("level", vec![point(4, vec![text("tmp", "kept")])]),
    ];
    let message = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            scope_metrics: vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }],
            ..ResourceMetrics::default()
        }],
    };
    send_to(&gateway, Signal::Metrics, &message.encode_to_vec());
    wait_until_empty(&gateway, &["otlp"]);
    assert_eq!(gateway.metrics().sum("otelcol_processor_filter_datapoints_filtered", &[]), 5.0);
    gateway.stop().assert_nothing_lost();

    let arrived = sink.requests_of(Signal::Metrics.grpc_method()).concat();
    for secret in ["ann@example.com", "4111111111111"] {
        assert!(!arrived.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret} left the gateway");
    }
    let arrived = ExportMetricsServiceRequest::decode(&*arrived).unwrap();
    let [orders, level] = arrived.resource_metrics[0].scope_metrics[0].metrics.as_slice() else {
        panic!("{arrived:#?}")
    };
    assert_eq!((orders.name.as_slice(), orders.unit.as_slice()), (&b"shop.orders"[..], &b"{order}"[..]));
    let Some(MetricData::Sum(sum)) = &orders.data else { panic!("{orders:#?}") };
    assert!(sum.is_monotonic && sum.aggregation_temporality == 2);
    let [eu, us] = sum.data_points.as_slice() else { panic!("{sum:#?}") };
    assert_eq!((eu.value, us.value), (Some(NumberValue::AsInt(1)), Some(NumberValue::AsInt(3))));
    let found = shown(&eu.attributes);
    assert!(found[1].starts_with("mail=") && found[1].len() == 69, "{found:?}");
    assert_eq!([&found[0], &found[2], &found[3]], ["region=eu", "env=prod", "of=shop.orders"]);
    assert_eq!(shown(&us.attributes), ["region=us", "card=****", "env=prod", "of=shop.orders"]);
    let data_points = vec![point(4, vec![text("tmp", "kept"), text("of", "level")])];
    assert_eq!(level.data, Some(MetricData::Gauge(Gauge { data_points })));
}

#[test]
fn six_copies_of_a_metric_are_six_and_a_summary_of_many_points_makes_one_metric() {
    const POINTS: usize = 5000;
    let sink = Sink::start();
    let copies: Vec<String> = (1..=6).map(|number| format!("'copy_metric(name = \"copy.{number}\")'")).collect();
    let sums = "convert_summary_sum_val_to_sum(\"cumulative\", true) where metric.name == \"latency\"";
    let statements = format!(
        "{{error_mode: propagate, metric_statements: [{{context: datapoint, statements: ['{sums}']}}, \
         {{context: metric, statements: [{}]}}]}}",
        copies.join(", ")
    );
    let gateway = start_for(Signal::Metrics, 1, &sink, &[("transform", statements.as_str())]);
    let point = SummaryDataPoint { sum: 1.5, ..SummaryDataPoint::default() };
    let data = MetricData::Summary(Summary { data_points: vec![point; POINTS] });
    let latency = Metric { name: b"latency".to_vec(), data: Some(data), ..Metric::default() };
    let message = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            scope_metrics: vec![ScopeMetrics { metrics: vec![latency], ..ScopeMetrics::default() }],
            ..ResourceMetrics::default()
        }],
    };
    send_to(&gateway, Signal::Metrics, &message.encode_to_vec());
    wait_until_empty(&gateway, &["otlp"]);
    let ledger = gateway.ledger();
    assert!(ledger.is_balanced());
    // A sum of as many points, and six copies of each of the two: none of a copy.
    let terms = ["accepted", "created", "dropped", "delivered"].map(|term| ledger.account("otlp", term));
    let points = POINTS as u64;
    assert_eq!(terms, [points, 13 * points, 0, 14 * points]);
    gateway.stop().assert_nothing_lost();
    let arrived = sink.requests_of(Signal::Metrics.grpc_method()).concat();
    let arrived = ExportMetricsServiceRequest::decode(&*arrived).unwrap();
    let metrics =
        arrived.resource_metrics.iter().flat_map(|group| &group.scope_metrics).flat_map(|group| &group.metrics);
    let names: Vec<_> = metrics.map(|metric| String::from_utf8_lossy(&metric.name)).collect();
    let six = ["copy.1", "copy.2", "copy.3", "copy.4", "copy.5", "copy.6"];
    assert_eq!(names, [&["latency", "latency_sum"][..], &six, &six].concat());
}

#[test]
fn metrics_that_statements_make_and_points_that_they_merge_are_in_the_books() {
    for shards in [1, 2] {
        let sink = Sink::start();
        let gateway = start_for(
            Signal::Metrics,
            shards,
            &sink,
            &[(
                "transform",
                "{error_mode: propagate, metric_statements: [\
                 'copy_metric(name = \"orders.by.host\") where metric.name == \"orders\"', \
                 'aggregate_on_attributes(\"sum\", [\"region\"]) where metric.name == \"orders\"', \
                 'extract_count_metric(true) where metric.type == METRIC_DATA_TYPE_HISTOGRAM', \
                 'convert_summary_quantile_val_to_gauge() where metric.name == \"latency\"', \
                 'convert_summary_sum_val_to_sum(\"cumulative\", true) where metric.name == \"latency\"', \
                 'set(datapoint.attributes[\"made\"], true) where IsMatch(metric.name, \"(count|sum|host|quantiles)$\")', \
                 'set(datapoint.attributes[\"mail\"], SHA256(datapoint.attributes[\"mail\"]))']}",
            )],
        );
        let orders = |region: &str, host: &str, value| NumberDataPoint {
            time_unix_nano: 7,
            value: Some(NumberValue::AsInt(value)),
            attributes: vec![text("region", region), text("host", host), text("mail", "ann@example.com")],
            ..NumberDataPoint::default()
        };
        let named = |name: &str, data| Metric { name: name.into(), data: Some(data), ..Metric::default() };
        let data_points = vec![orders("eu", "a", 1), orders("us", "b", 10), orders("eu", "c", 100)];
        let histogram = HistogramDataPoint { count: 5, time_unix_nano: 7, ..HistogramDataPoint::default() };
        let quantile_values =
            [(0.5, 2.0), (0.99, 8.0)].map(|(quantile, value)| ValueAtQuantile { quantile, value }).to_vec();
        let summary =
            |sum| SummaryDataPoint { sum, quantile_values: quantile_values.clone(), ..SummaryDataPoint::default() };
        let metrics = vec![
            named("orders", MetricData::Sum(Sum { data_points, aggregation_temporality: 2, is_monotonic: true })),
            named(
                "sizes",
                MetricData::Histogram(Histogram { data_points: vec![histogram], aggregation_temporality: 1 }),
            ),
            named("latency", MetricData::Summary(Summary { data_points: vec![summary(1.5), summary(2.5)] })),
        ];
        let message = ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                scope_metrics: vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }],
                ..ResourceMetrics::default()
            }],
        };
        send_to(&gateway, Signal::Metrics, &message.encode_to_vec());
        wait_until_empty(&gateway, &["otlp"]);
        let ledger = gateway.ledger();
        assert!(ledger.is_balanced());
        // Three copied points, a count, four quantiles and two sums; one of the points that came is merged away.
        let terms = ["accepted", "created", "dropped", "delivered"].map(|term| ledger.account("otlp", term));
        assert_eq!(terms, [6, 10, 1, 15], "{shards} shards");
        gateway.stop().assert_nothing_lost();

        let arrived = sink.requests_of(Signal::Metrics.grpc_method()).concat();
        assert!(!arrived.windows(3).any(|window| window == b"ann"), "a copy is masked like what it is made of");
        let arrived = ExportMetricsServiceRequest::decode(&*arrived).unwrap();
        let metrics = &arrived.resource_metrics[0].scope_metrics[0].metrics;
        let names: Vec<_> = metrics.iter().map(|metric| String::from_utf8_lossy(&metric.name)).collect();
        let made = ["orders.by.host", "sizes_count", "latency.quantiles", "latency_sum"];
        assert_eq!(names, [&["orders", "sizes", "latency"][..], &made].concat());
        let numbers = |metric: &Metric| match metric.data.clone() {
            Some(MetricData::Sum(Sum { data_points, .. }) | MetricData::Gauge(Gauge { data_points })) => {
                data_points.into_iter().map(|point| (point.value, shown(&point.attributes).len())).collect()
            }
            _ => Vec::new(),
        };
        let (int, double) = (|value| Some(NumberValue::AsInt(value)), |value| Some(NumberValue::AsDouble(value)));
        assert_eq!(numbers(&metrics[0]), [(int(101), 1), (int(10), 1)]);
        assert_eq!(numbers(&metrics[3]), [(int(1), 4), (int(10), 4), (int(100), 4)]);
        assert_eq!(numbers(&metrics[4]), [(int(5), 1)]);
        assert_eq!(numbers(&metrics[5]), [(double(2.0), 2), (double(8.0), 2), (double(2.0), 2), (double(8.0), 2)]);
        assert_eq!(numbers(&metrics[6]), [(double(1.5), 1), (double(2.5), 1)]);
    }
}

#[test]
fn statements_ask_who_sent_a_span_and_give_each_an_id_of_its_own() {
    let sink = Sink::start();
    let statements = "{traces: ['set(attributes[\"tenant\"], otelcol.client.metadata[\"X-Tenant\"][0])', \
                      'set(attributes[\"from\"], otelcol.client.addr)', 'set(attributes[\"id\"], UUID())']}";
    let drops = "{trace_conditions: ['otelcol.grpc.metadata[\"x-drop\"][0] == span.name']}";
    let gateway = start(2, &sink, &[("filter", drops), ("transform", statements)]);
    let sender = GrpcSender::connect(gateway.grpc);
    for (id, tenant) in [(1, "blue"), (2, "green"), (3, "")] {
        let spans = vec![span(id, "kept", vec![]), span(id, "gone", vec![])];
        let message = ExportTraceServiceRequest { resource_spans: vec![resource("shop", spans)] }.encode_to_vec();
        let call = Call::plain(&message).with("x-drop", "gone");
        let call = if tenant.is_empty() { call } else { call.with("x-tenant", tenant) };
        assert_eq!(sender.begin(call).wait(), Answer::Taken);
    }
    wait_until_empty(&gateway, &["otlp"]);
    gateway.stop().assert_nothing_lost();
    let mut ids = std::collections::BTreeSet::new();
    let mut found: Vec<Vec<String>> = Vec::new();
    for message in sink.requests() {
        for span in
            ExportTraceServiceRequest::decode(&*message).unwrap().resource_spans.remove(0).scope_spans.remove(0).spans
        {
            let mut attributes = shown(&span.attributes);
            let id = attributes.pop().unwrap();
            assert!(id.starts_with("id=") && id.len() == 39, "{id}");
            ids.insert(id);
            found.push(attributes);
        }
    }
    found.sort();
    assert_eq!(
        found,
        [&["from=127.0.0.1"][..], &["tenant=blue", "from=127.0.0.1"], &["tenant=green", "from=127.0.0.1"]]
    );
    assert_eq!(ids.len(), 3, "each id is given once");
}
