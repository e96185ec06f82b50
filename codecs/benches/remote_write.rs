//! Points per second from OTLP metrics to remote write: `cargo bench -p codecs --bench remote_write`.
//!
//! 100,000 active series (1000 resources of 100 counters with three attributes each), one request per resource, as agents
//! send them; then histograms. Each figure is the fastest of some rounds over all of them, on one thread, in time on a processor.

use std::hint::black_box;
use std::time::{Duration, Instant};

use codecs::compression::{Compression, Compressor};
use codecs::fuzzing::metrics_proto::*;
use codecs::fuzzing::remote_write::push;
use codecs::otlp::proto::{AnyValue, InstrumentationScope, KeyValue, Resource, Value};
use codecs::prometheus::{Protocol, Settings, Translator};
use prost::Message;

const RESOURCES: usize = 1000;
const POINTS: usize = 100;
const ROUNDS: usize = 6;

fn main() {
    let counters: Vec<Vec<u8>> =
        (0..RESOURCES).map(|number| request(number, counter_points()).encode_to_vec()).collect();
    let histograms: Vec<Vec<u8>> =
        (0..RESOURCES / 10).map(|number| request(number, histogram_points()).encode_to_vec()).collect();
    for protocol in [Protocol::V1, Protocol::V2] {
        measure(&format!("{protocol:?}, counters"), protocol, &counters, RESOURCES * POINTS);
        measure(&format!("{protocol:?}, histograms of 15 buckets"), protocol, &histograms, RESOURCES / 10 * POINTS);
    }
}

fn measure(name: &str, protocol: Protocol, requests: &[Vec<u8>], points: usize) {
    let mut translator = Translator::new(Settings { protocol, ..Settings::default() }, 1);
    let mut compressor = Compressor::default();
    let (mut translated, mut compressed) = (Duration::MAX, Duration::MAX);
    let mut bytes = (0, 0);
    for _ in 0..ROUNDS {
        bytes = (0, 0);
        let mut out = Vec::new();
        let start = busy();
        for request in requests {
            out.extend(push(&mut translator, black_box(request)));
        }
        let between = busy();
        let mut body = Vec::new();
        for request in &out {
            body.clear();
            compressor.compress(Compression::Snappy, None, &request.body, &mut body);
            bytes = (bytes.0 + request.body.len(), bytes.1 + body.len());
        }
        compressed = compressed.min(busy() - between);
        translated = translated.min(between - start);
        out.into_iter().for_each(|request| translator.recycle(request.body));
    }
    let each = |time: Duration| time.as_nanos() as f64 / points as f64;
    let rate = points as f64 / (translated + compressed).as_secs_f64();
    println!(
        "{name:32} {:6.0} ns a point, snappy {:6.0} ns, {rate:9.0} points/s; {} bytes a point, {} compressed; cache {} MiB, {} clears",
        each(translated),
        each(compressed),
        bytes.0 / points,
        bytes.1 / points,
        translator.cache_bytes() >> 20,
        translator.counts().cache_clears,
    );
}

/// What this thread has run so far: on a shared machine a clock on the wall says little. (`/proc/self/schedstat`: nanoseconds
/// on a processor come first.)
fn busy() -> Duration {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanoseconds = text.split_whitespace().next().and_then(|number| number.parse().ok());
    nanoseconds.map_or_else(|| START.elapsed(), Duration::from_nanos)
}

static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = Some(Value::String(value.as_bytes().to_vec()));
    KeyValue { key: key.into(), value: Some(AnyValue { value }) }
}

fn request(number: usize, metrics: Vec<Metric>) -> MetricsRequest {
    let resource = vec![
        attribute("service.name", "checkout"),
        attribute("service.namespace", "shop"),
        attribute("service.instance.id", &format!("checkout-7f9c6d5b4d-{number:05}")),
        attribute("k8s.node.name", "node-17"),
        attribute("telemetry.sdk.language", "go"),
    ];
    let scope = InstrumentationScope { name: b"io.shop.checkout".to_vec(), ..InstrumentationScope::default() };
    MetricsRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource { attributes: resource, dropped_attributes_count: 0 }),
            scope_metrics: vec![ScopeMetrics { scope: Some(scope), metrics }],
        }],
    }
}

fn attributes(number: usize) -> Vec<KeyValue> {
    vec![
        attribute("http.request.method", ["GET", "POST"][number % 2]),
        attribute("http.route", &format!("/api/v1/orders/{number}")),
        attribute("http.response.status_code", "200"),
    ]
}

/// Ten metrics of ten points each.
fn counter_points() -> Vec<Metric> {
    let point = |number: usize| NumberPoint {
        attributes: attributes(number),
        start_time_unix_nano: 1_760_000_000_000_000_000,
        time_unix_nano: 1_760_000_015_000_000_000,
        value: Some(Number::Int(number as i64)),
        ..NumberPoint::default()
    };
    let numbers =
        |_| Numbers { data_points: (0..10).map(point).collect(), aggregation_temporality: 2, is_monotonic: true };
    metrics(|number| Data::Sum(numbers(number)))
}

fn histogram_points() -> Vec<Metric> {
    let point = |number: usize| HistogramPoint {
        attributes: attributes(number),
        start_time_unix_nano: 1_760_000_000_000_000_000,
        time_unix_nano: 1_760_000_015_000_000_000,
        count: 16,
        sum: Some(16.5),
        bucket_counts: vec![1; 16],
        explicit_bounds: (0..15).map(|bound| f64::from(bound) * 2.5).collect(),
        ..HistogramPoint::default()
    };
    metrics(|_| Data::Histogram(Histograms { data_points: (0..10).map(point).collect(), aggregation_temporality: 2 }))
}

fn metrics(data: impl Fn(usize) -> Data) -> Vec<Metric> {
    let metric = |number: usize| Metric {
        name: format!("http.server.requests.kind{number}").into(),
        description: b"Number of requests by their kind".to_vec(),
        unit: b"{request}".to_vec(),
        data: Some(data(number)),
        ..Metric::default()
    };
    (0..10).map(metric).collect()
}
