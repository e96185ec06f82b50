//! Requests to test and measure with.

use codecs::otlp::proto::*;

/// A request as a busy shop's SDKs write it: `spans` spans of about 370 bytes with 8 attributes, spread over
/// `resources` resources. Ids are different in every span; nothing is random.
pub(crate) fn shop_request(resources: usize, spans: usize) -> ExportTraceServiceRequest {
    let per_resource = spans / resources;
    let resource_spans = (0..resources).map(|service| ResourceSpans {
        resource: Some(Resource {
            attributes: vec![
                text("service.name", ["cart", "checkout", "payment", "shipping"][service % 4]),
                text("service.version", "1.14.2"),
                text("k8s.pod.name", "checkout-7f9c6d5b4d-x2x9k"),
                text("telemetry.sdk.language", "java"),
            ],
            dropped_attributes_count: 0,
        }),
        scope_spans: vec![ScopeSpans {
            scope: Some(InstrumentationScope {
                name: b"io.opentelemetry.tomcat-10.0".to_vec(),
                version: b"2.9.0-alpha".to_vec(),
                ..InstrumentationScope::default()
            }),
            spans: (0..per_resource).map(|number| shop_span((service * per_resource + number) as u64)).collect(),
            schema_url: b"https://opentelemetry.io/schemas/1.24.0".to_vec(),
        }],
        schema_url: Vec::new(),
    });
    ExportTraceServiceRequest { resource_spans: resource_spans.collect() }
}

fn shop_span(number: u64) -> Span {
    let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let start = 1_760_000_000_000_000_000 + number * 1_000_003;
    Span {
        trace_id: [mixed.to_le_bytes(), mixed.rotate_left(31).to_be_bytes()].concat(),
        span_id: mixed.rotate_left(17).to_le_bytes().to_vec(),
        parent_span_id: if number.is_multiple_of(8) { Vec::new() } else { mixed.rotate_left(9).to_le_bytes().to_vec() },
        flags: 0x101,
        name: b"POST /api/checkout/{id}".to_vec(),
        kind: 2 + (number % 2) as i32,
        start_time_unix_nano: start,
        end_time_unix_nano: start + 1_500_000 + mixed % 1_000_000,
        attributes: vec![
            text("http.request.method", "POST"),
            text("url.path", &format!("/api/checkout/{}", mixed % 100_000)),
            text("server.address", "shop.example.internal"),
            whole("server.port", 8443),
            whole("http.response.status_code", 200 + (mixed % 5) as i64),
            text("user_agent.original", "okhttp/4.12.0"),
            text("thread.name", "http-nio-8080-exec-7"),
            whole("thread.id", 40 + (mixed % 30) as i64),
        ],
        status: Some(SpanStatus { code: if number.is_multiple_of(100) { 2 } else { 0 }, ..SpanStatus::default() }),
        ..Span::default()
    }
}

/// The same request as a shop in trouble writes it: each span with a long statement and an exception with its trace.
pub(crate) fn troubled_request(resources: usize, spans: usize) -> ExportTraceServiceRequest {
    let mut request = shop_request(resources, spans);
    let scopes = request.resource_spans.iter_mut().flat_map(|resource| &mut resource.scope_spans);
    for span in scopes.flat_map(|scope| &mut scope.spans) {
        span.attributes.push(text("db.query.text", &"SELECT name, price FROM products ".repeat(6)));
        span.events.push(SpanEvent {
            time_unix_nano: span.end_time_unix_nano,
            name: b"exception".to_vec(),
            attributes: vec![
                text("exception.type", "java.net.SocketTimeoutException"),
                text("exception.stacktrace", &"at io.shop.cart.Client.call(Client.java:117)\n".repeat(20)),
            ],
            dropped_attributes_count: 0,
        });
    }
    request
}

/// A string attribute.
pub(crate) fn text(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(Value::String(value.into())) }) }
}

/// An integer attribute.
pub(crate) fn whole(key: &str, value: i64) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(Value::Int(value)) }) }
}
