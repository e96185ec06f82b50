//! What data points say: services with ten metrics each and ten series of each metric, so many that the label sets of a
//! remote write exporter are a working set of their own. Gauges and monotonic sums: one point is one sample.
//!
//! Names are chosen so that every rule that turns them into Prometheus' has work to do; what must come of it is written
//! beside them, by hand, and not computed by the gateway's rules.

use crate::traces::wire::{self, Value};

/// The attribute that says which series a point belongs to.
pub(crate) const SERIES_KEY: &str = "series";

/// Series of one metric of one resource.
const METRIC_SERIES: usize = 10;

/// Series of one resource.
const RESOURCE_SERIES: usize = METRIC_SERIES * METRICS.len();

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: u64 = 2;

/// A point's bytes before its attributes: start time, time and value, each a tag and eight bytes.
pub(super) const TIME_AT: usize = 10;
/// Where its value is.
pub(super) const VALUE_AT: usize = 19;

const SCOPE: (&str, &str) = ("io.opentelemetry.http-server", "2.6.0");
const ROUTES: [&str; 4] =
    ["/api/v1/orders", "/api/v1/cart/items", "/api/v1/products/{id}", "/api/v1/users/{id}/profile"];
const METHODS: [&str; 3] = ["GET", "POST", "PUT"];
const STATUSES: [u64; 4] = [200, 201, 404, 503];

/// A metric, and what Prometheus must call it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Metric {
    name: &'static str,
    unit: &'static str,
    /// A monotonic cumulative sum of integers; otherwise a gauge of doubles.
    pub(super) is_sum: bool,
    prometheus: &'static str,
}

const fn sum(name: &'static str, unit: &'static str, prometheus: &'static str) -> Metric {
    Metric { name, unit, is_sum: true, prometheus }
}

const fn gauge(name: &'static str, unit: &'static str, prometheus: &'static str) -> Metric {
    Metric { name, unit, is_sum: false, prometheus }
}

pub(super) const METRICS: [Metric; 10] = [
    sum("http.server.requests", "{request}", "http_server_requests_total"),
    sum("http.server.errors", "1", "http_server_errors_total"),
    sum("http.server.request.size", "By", "http_server_request_size_bytes_total"),
    sum("http.server.response.bytes", "By", "http_server_response_bytes_total"),
    sum("jvm.gc.pause", "ms", "jvm_gc_pause_milliseconds_total"),
    gauge("http.server.active_requests", "{request}", "http_server_active_requests"),
    gauge("process.memory.usage", "By", "process_memory_usage_bytes"),
    gauge("process.cpu.utilization", "1", "process_cpu_utilization_ratio"),
    gauge("queue.oldest.age", "s", "queue_oldest_age_seconds"),
    gauge("cache-entries", "", "cache_entries"),
];

/// The metric of a series.
pub(super) fn metric_of(series: usize) -> usize {
    series / METRIC_SERIES % METRICS.len()
}

/// The resource of a series.
pub(super) fn resource_of(series: usize) -> usize {
    series / RESOURCE_SERIES
}

/// The envelope of a ResourceMetrics: its `resource` field, with its tag.
pub(super) fn resource_envelope(resource: usize) -> Vec<u8> {
    let mut message = Vec::new();
    let mut add = |key: &str, value: String| wire::attribute(&mut message, 1, key, &Value::Text(value));
    add("service.name", service(resource));
    add("service.namespace", "shop".to_owned());
    add("service.version", format!("1.{}.3", resource % 7));
    add("service.instance.id", instance(resource));
    add("host.name", format!("node-{}", resource % 40));
    add("deployment.environment", "production".to_owned());
    add("telemetry.sdk.language", "java".to_owned());
    add("telemetry.sdk.name", "opentelemetry".to_owned());
    let mut envelope = Vec::new();
    wire::bytes(&mut envelope, 1, &message);
    envelope
}

fn service(resource: usize) -> String {
    format!("service-{:02}", resource % 50)
}

fn instance(resource: usize) -> String {
    format!("service-{:02}-7d9f{resource:05x}", resource % 50)
}

/// The envelope of every ScopeMetrics: its `scope` field, with its tag.
pub(super) fn scope_envelope() -> Vec<u8> {
    let mut message = Vec::new();
    wire::bytes(&mut message, 1, SCOPE.0.as_bytes());
    wire::bytes(&mut message, 2, SCOPE.1.as_bytes());
    let mut envelope = Vec::new();
    wire::bytes(&mut envelope, 1, &message);
    envelope
}

/// A Metric message with these points, each with its tag and length.
pub(super) fn metric_message(metric: usize, points: &[u8]) -> Vec<u8> {
    let mut message = metric_head(metric);
    let mut data = points.to_vec();
    data.extend_from_slice(&metric_tail(metric));
    wire::bytes(&mut message, u32::from(data_field(metric)), &data);
    message
}

/// Everything a metric says beside its points: its own fields, the field number of its data, the fields of its data.
pub(super) fn metric_envelope(metric: usize) -> Vec<u8> {
    let mut envelope = metric_head(metric);
    envelope.push(data_field(metric));
    envelope.extend_from_slice(&metric_tail(metric));
    envelope
}

/// `sum` or `gauge` of a Metric.
fn data_field(metric: usize) -> u8 {
    if METRICS[metric].is_sum { 7 } else { 5 }
}

fn metric_head(metric: usize) -> Vec<u8> {
    let Metric { name, unit, .. } = METRICS[metric];
    let mut head = Vec::new();
    wire::bytes(&mut head, 1, name.as_bytes());
    if !unit.is_empty() {
        wire::bytes(&mut head, 3, unit.as_bytes());
    }
    head
}

fn metric_tail(metric: usize) -> Vec<u8> {
    let mut tail = Vec::new();
    if METRICS[metric].is_sum {
        wire::integer(&mut tail, 2, CUMULATIVE);
        wire::integer(&mut tail, 3, 1);
    }
    tail
}

/// A NumberDataPoint whose time and value are still 0.
pub(super) fn point(series: usize, start_unix_ns: u64) -> Vec<u8> {
    let mut point = Vec::with_capacity(256);
    wire::fixed64(&mut point, 2, start_unix_ns);
    wire::fixed64(&mut point, 3, 0);
    // as_int of a sum, as_double of a gauge: both are eight bytes.
    wire::fixed64(&mut point, if METRICS[metric_of(series)].is_sum { 6 } else { 4 }, 0);
    for (key, value) in attributes(series) {
        wire::attribute(&mut point, 7, key, &value);
    }
    point
}

fn attributes(series: usize) -> [(&'static str, Value); 4] {
    [
        (SERIES_KEY, Value::Text(format!("{series:08}"))),
        ("http.request.method", Value::Text(METHODS[series % METHODS.len()].to_owned())),
        ("http.route", Value::Text(ROUTES[series % ROUTES.len()].to_owned())),
        ("http.response.status_code", Value::Int(STATUSES[series % STATUSES.len()])),
    ]
}

/// The value of point number `round` of a series, of which `mixed` are 64 bits of chance: whole, and rising if it is a
/// sum; else a multiple of 1/8, which a double holds exactly.
pub(super) fn value(is_sum: bool, round: u64, mixed: u64) -> f64 {
    if is_sum { (round * 1_000 + mixed % 1_000) as f64 } else { (mixed % 8_000_000) as f64 / 8.0 }
}

/// The eight bytes of a value in a point.
pub(super) fn value_bytes(is_sum: bool, value: f64) -> [u8; 8] {
    if is_sum { (value as i64).to_le_bytes() } else { value.to_le_bytes() }
}

/// The labels of a series as a remote write request has them: `Label` messages with their tags, sorted by name.
pub(super) fn labels(series: usize) -> Vec<u8> {
    let resource = resource_of(series);
    let mut labels = vec![
        ("__name__".to_owned(), METRICS[metric_of(series)].prometheus.to_owned()),
        ("instance".to_owned(), instance(resource)),
        ("job".to_owned(), format!("shop/{}", service(resource))),
        ("otel_scope_name".to_owned(), SCOPE.0.to_owned()),
        ("otel_scope_version".to_owned(), SCOPE.1.to_owned()),
    ];
    labels.extend(attributes(series).into_iter().map(|(key, value)| {
        let text = match value {
            Value::Text(text) => text,
            Value::Int(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
        };
        (key.replace('.', "_"), text)
    }));
    labels.sort();
    let mut bytes = Vec::with_capacity(512);
    for (name, value) in labels {
        let mut label = Vec::new();
        wire::bytes(&mut label, 1, name.as_bytes());
        wire::bytes(&mut label, 2, value.as_bytes());
        wire::bytes(&mut bytes, 1, &label);
    }
    bytes
}
