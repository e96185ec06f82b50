//! Metrics go to Prometheus by remote write: what was sent over OTLP is in the requests, as their decoder reads them; a
//! backend that says "not now" gets them again, one that says "never" does not, and the books know of every point. Samples
//! of a series arrive in the order in which they were sent, whichever connections and shards they came through.

mod common;

use codecs::compression::{Compression, Decompressor};
use codecs::fuzzing::metrics_proto::WriteV1;
use codecs::fuzzing::remote_write::{SeriesMap, decode_requests};
use codecs::grpc::Code;
use codecs::otlp::Signal;
use codecs::otlp::proto::{
    AnyValue, ExportMetricsServiceRequest, KeyValue, Metric, MetricData, NumberDataPoint, NumberValue, Resource,
    ResourceMetrics, ScopeMetrics, Sum, Value,
};
use codecs::prometheus::{Protocol, WriteRequest};
use common::gateway::{Engine, Gateway};
use common::grpc::Call;
use common::http_peer::Asked;
use common::{Answer, GrpcSender, HttpPeer};
use prost::Message;
use std::collections::BTreeMap;

/// A gateway that writes to this peer with these settings more.
fn start(peer: &HttpPeer, more: &str) -> Gateway {
    start_on(Engine::epoll(1), peer, more, "")
}

/// The same on such an engine, with these processors.
fn start_on(engine: Engine, peer: &HttpPeer, more: &str, processors: &str) -> Gateway {
    let (shards, runtime) = (engine.shards, engine.runtime);
    Gateway::start(
        &format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0'}}, http: {{endpoint: '127.0.0.1:0'}}}}}}}}\n\
             processors: {{batch: {{timeout: 20ms}}, batch/tenants: {{timeout: 20ms, metadata_keys: [x-tenant]}}}}\n\
             exporters:\n  prometheusremotewrite: {{endpoint: 'http://{}/api/v1/write', headers: {{x-scope-orgid: shop}}, \
             target_info: {{enabled: false}}{more}}}\nservice:\n  engine: {{cores: {shards}, pin: false, runtime: {runtime}, \
             shutdown_timeout: 60s, admin: '127.0.0.1:0'}}\n  telemetry: {{metrics: {{address: '127.0.0.1:0', names: \
             both}}}}\n  pipelines:\n    metrics: {{receivers: [otlp], processors: [{processors}], exporters: \
             [prometheusremotewrite]}}\n",
            peer.address
        ),
        &[],
    )
}

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::String(value.into())) });
    KeyValue { key: key.into(), value }
}

/// The counter `orders.created` with so many points, one for each region.
fn orders(points: i64, temporality: i32) -> Vec<u8> {
    let point = |number: i64| NumberDataPoint {
        start_time_unix_nano: 1_000_000_000,
        time_unix_nano: 2_000_000_000,
        attributes: vec![attribute("region", &format!("r{number}"))],
        value: Some(NumberValue::AsInt(10 + number)),
        ..NumberDataPoint::default()
    };
    let data_points = (0..points).map(point).collect();
    let sum = MetricData::Sum(Sum { data_points, aggregation_temporality: temporality, is_monotonic: true });
    let metric = Metric { name: b"orders.created".to_vec(), data: Some(sum), ..Metric::default() };
    let scope = ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() };
    let resource = Some(Resource { attributes: vec![attribute("service.name", "shop")], ..Resource::default() });
    let resource = ResourceMetrics { resource, scope_metrics: vec![scope], ..ResourceMetrics::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![resource] }.encode_to_vec()
}

/// One point of the counter `ticks` of each of these services, with this number as its value and its second.
fn ticks(services: &[&str], number: u64) -> Vec<u8> {
    ticks_of(2, services, number)
}

/// The same with this temporality.
fn ticks_of(temporality: i32, services: &[&str], number: u64) -> Vec<u8> {
    let of = |service: &&str| {
        let point = NumberDataPoint {
            time_unix_nano: number * 1_000_000_000,
            value: Some(NumberValue::AsInt(number as i64)),
            ..NumberDataPoint::default()
        };
        let sum =
            MetricData::Sum(Sum { data_points: vec![point], aggregation_temporality: temporality, is_monotonic: true });
        let metric = Metric { name: b"ticks".to_vec(), data: Some(sum), ..Metric::default() };
        let scope = ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() };
        // Resources of one service that differ in what is no label of their series, as pods do.
        let attributes = vec![attribute("service.name", service), attribute("k8s.pod.name", &format!("pod {number}"))];
        let resource = Some(Resource { attributes, ..Resource::default() });
        ResourceMetrics { resource, scope_metrics: vec![scope], ..ResourceMetrics::default() }
    };
    ExportMetricsServiceRequest { resource_metrics: services.iter().map(of).collect() }.encode_to_vec()
}

/// Job, time in milliseconds and value of every sample, in the order in which they arrived.
fn samples(asked: &[Asked]) -> Vec<(String, i64, f64)> {
    let mut arrived = Vec::new();
    for request in asked {
        let mut body = Vec::new();
        Decompressor::default().decompress(Compression::Snappy, &request.body, 1 << 20, &mut body).expect("snappy");
        for series in WriteV1::decode(&body[..]).expect("a write request").timeseries {
            let job = series.labels.iter().find(|label| label.name == "job").expect("every series has a job");
            arrived.extend(series.samples.iter().map(|sample| (job.value.clone(), sample.timestamp, sample.value)));
        }
    }
    arrived
}

/// The seconds of every service's samples, in the order in which they arrived.
fn arrivals(asked: &[Asked]) -> BTreeMap<String, Vec<i64>> {
    let mut arrived: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for (job, time_ms, _) in samples(asked) {
        arrived.entry(job).or_default().push(time_ms / 1000);
    }
    arrived
}

const TICKS: u64 = 200;

/// Sends one series of each service over many connections, the next point once the last was answered.
fn check_order(engine: Engine, processors: &str) {
    let peer = HttpPeer::answering(&["503 Later\r\nretry-after: 0"]);
    let gateway = start_on(engine, &peer, ", retry_on_failure: {initial_interval: 1ms, max_interval: 1ms}", processors);
    let services = ["cart", "checkout", "mail", "search", "stock"];
    let senders: Vec<GrpcSender> = (0..3 * engine.shards).map(|_| GrpcSender::connect(gateway.grpc)).collect();
    for number in 1..=TICKS {
        let call = |message: &[u8]| Call::plain(message).to(Signal::Metrics.grpc_method());
        let sender = &senders[number as usize % senders.len()];
        assert_eq!(sender.begin(call(&ticks(&services, number))).wait(), Answer::Taken);
    }
    let metrics = gateway.metrics();
    let crossed = metrics.sum("tracegate_mesh_sent_points", &[]);
    assert!(engine.shards == 1 || crossed > 0.0, "every shard got some of the points");
    gateway.stop().assert_nothing_lost();
    // The first request was refused and sent again.
    let arrived = arrivals(&peer.asked()[1..]);
    assert_eq!(arrived.len(), services.len());
    for (service, seconds) in arrived {
        let expected: Vec<i64> = (1..=TICKS as i64).collect();
        assert_eq!(seconds, expected, "{service} with processors [{processors}]");
    }
}

#[test]
fn samples_of_a_series_arrive_in_the_order_in_which_they_were_sent_on_one_and_on_four_shards() {
    for processors in ["", "batch"] {
        check_order(Engine::epoll(1), processors);
        check_order(Engine::epoll(4), processors);
    }
}

#[test]
fn samples_of_a_series_arrive_in_order_on_io_uring_too() {
    if let Some(engine) = Engine::io_uring(4) {
        check_order(engine, "batch");
    }
}

#[test]
fn points_that_a_batch_processor_keeps_apart_by_tenant_cross_behind_it_and_none_is_lost() {
    let peer = HttpPeer::answering(&[]);
    let gateway = start_on(Engine::epoll(4), &peer, "", "batch/tenants");
    let senders: Vec<GrpcSender> = (0..8).map(|_| GrpcSender::connect(gateway.grpc)).collect();
    for number in 1..=TICKS {
        let call = Call::plain(&ticks(&["cart", "mail"], number)).to(Signal::Metrics.grpc_method());
        assert_eq!(senders[number as usize % senders.len()].begin(call).wait(), Answer::Taken);
    }
    gateway.stop().assert_nothing_lost();
    for (service, mut seconds) in arrivals(&peer.asked()) {
        seconds.sort_unstable();
        assert_eq!(seconds, (1..=TICKS as i64).collect::<Vec<_>>(), "{service}");
    }
}

/// The senders of every shard are told to come back, not only those of the shard whose queue is full; what was taken
/// arrives in the end, once.
#[test]
fn a_backend_that_does_not_answer_stops_the_senders_of_every_shard() {
    let peer = HttpPeer::answering(&[]);
    peer.hold(true);
    let more = ", timeout: 80s, remote_write_queue: {queue_size: 4, num_consumers: 1}";
    let gateway = start_on(Engine::epoll(4), &peer, more, "");
    let senders: Vec<GrpcSender> = (0..8).map(|_| GrpcSender::connect(gateway.grpc)).collect();
    let (mut number, mut taken) = (0, Vec::new());
    let mut pending = Vec::new();
    let mut told_to_come_back = [false; 8];
    common::wait_for("every sender to be told to come back", || {
        for (place, sender) in senders.iter().enumerate() {
            number += 1;
            let call = Call::plain(&ticks(&["cart"], number)).to(Signal::Metrics.grpc_method());
            pending.push((place, number as i64, sender.begin(call)));
        }
        pending.retain(|(place, number, answer)| match answer.look() {
            None => true,
            Some(Answer::Taken) => {
                taken.push(*number);
                false
            }
            Some(answer) => {
                assert_eq!(answer.status().code, Code::Unavailable);
                told_to_come_back[*place] = true;
                false
            }
        });
        told_to_come_back.iter().all(|told| *told).then_some(())
    });
    peer.hold(false);
    for (_, number, answer) in pending {
        if answer.wait() == Answer::Taken {
            taken.push(number);
        }
    }
    gateway.stop().assert_nothing_lost();
    let mut arrived = arrivals(&peer.asked()).remove("cart").expect("some were taken");
    taken.sort_unstable();
    arrived.sort_unstable();
    assert_eq!(arrived, taken);
}

/// A backend's time and the gateway's do not add up, and the order stays.
#[test]
fn the_next_batch_is_translated_while_the_backend_works_on_the_one_before() {
    let peer = HttpPeer::answering(&[]);
    peer.hold(true);
    let gateway = start(&peer, ", timeout: 80s");
    let sender = GrpcSender::connect(gateway.grpc);
    for number in 1..=3 {
        let call = Call::plain(&ticks(&["cart"], number)).to(Signal::Metrics.grpc_method());
        assert_eq!(sender.begin(call).wait(), Answer::Taken, "the queue answers, not the backend");
    }
    common::wait_for("the second batch to be translated, behind the first that has no answer", || {
        let name = "otelcol_exporter_prometheusremotewrite_translated_time_series";
        let translated = gateway.metrics().sum(name, &[]);
        assert!(translated < 3.0, "one batch ahead, and no more");
        (translated == 2.0).then_some(())
    });
    peer.hold(false);
    gateway.stop().assert_nothing_lost();
    assert_eq!(arrivals(&peer.asked())["cart"], [1, 2, 3]);
}

#[test]
fn deltas_of_one_series_over_many_connections_are_one_total_where_they_are_added_up() {
    let peer = HttpPeer::answering(&[]);
    let gateway = start_on(Engine::epoll(4), &peer, ", delta_to_cumulative: {enabled: true}", "batch");
    let senders: Vec<GrpcSender> = (0..8).map(|_| GrpcSender::connect(gateway.grpc)).collect();
    for number in 1..=TICKS {
        let call = Call::plain(&ticks_of(1, &["cart", "mail"], number)).to(Signal::Metrics.grpc_method());
        assert_eq!(senders[number as usize % senders.len()].begin(call).wait(), Answer::Taken);
    }
    let metrics = common::wait_for("labels to be charged to the budget", || {
        let metrics = gateway.metrics();
        (metrics.sum("tracegate_budget_bytes", &["holder=\"caches\""]) > 0.0).then_some(metrics)
    });
    assert!(metrics.sum("tracegate_remote_write_delta_bytes", &[]) > 0.0);
    assert_eq!(metrics.sum("tracegate_remote_write_dropped_points_total", &[]), 0.0);
    gateway.stop().assert_nothing_lost();
    let mut totals: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (job, _, value) in samples(&peer.asked()) {
        totals.entry(job).or_default().push(value);
    }
    let expected: Vec<f64> = (1..=TICKS).map(|number| (number * (number + 1) / 2) as f64).collect();
    assert_eq!(totals, BTreeMap::from([("cart".to_owned(), expected.clone()), ("mail".to_owned(), expected)]));
}

fn send(gateway: &Gateway, message: &[u8]) {
    let answer = GrpcSender::connect(gateway.grpc).begin(Call::plain(message).to(Signal::Metrics.grpc_method())).wait();
    assert_eq!(answer, Answer::Taken);
}

/// What the requests say, each of so many series of one sample.
fn series(asked: &[Asked], protocol: Protocol, each: u64) -> SeriesMap {
    let mut all = SeriesMap::new();
    for request in asked {
        let mut body = Vec::new();
        Decompressor::default().decompress(Compression::Snappy, &request.body, 1 << 20, &mut body).expect("snappy");
        let request = WriteRequest { body, series: each, samples: each, ..WriteRequest::default() };
        all.extend(decode_requests(&[request], protocol));
    }
    all
}

#[test]
fn a_counter_arrives_under_its_prometheus_name_with_the_headers_of_each_protocol() {
    for (protocol, more, version, content_type) in [
        (Protocol::V1, "", "0.1.0", "application/x-protobuf"),
        (
            Protocol::V2,
            ", protobuf_message: io.prometheus.write.v2.Request",
            "2.0.0",
            "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        ),
    ] {
        let peer = HttpPeer::answering(&["204 No Content"]);
        let gateway = start(&peer, more);
        send(&gateway, &orders(1, 2));
        let asked = peer.wait_for(1);
        assert_eq!(asked[0].line, "POST /api/v1/write HTTP/1.1");
        assert_eq!(asked[0].header("x-prometheus-remote-write-version"), Some(version));
        assert_eq!(asked[0].header("content-type"), Some(content_type));
        assert_eq!(asked[0].header("content-encoding"), Some("snappy"));
        assert_eq!(asked[0].header("x-scope-orgid"), Some("shop"));
        let found = series(&asked, protocol, 1);
        let (labels, series) = found.first_key_value().expect("one series");
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(labels, ["__name__=orders_created_total", "job=shop", "region=r0"]);
        let start = if protocol == Protocol::V2 { 1000 } else { 0 };
        assert_eq!(series.samples, [(2000, 10_f64.to_bits(), start)]);
        gateway.stop().assert_nothing_lost();
    }
}

#[test]
fn what_is_left_is_sent_again_until_it_is_taken() {
    let peer = HttpPeer::answering(&["503 Later\r\nretry-after: 0", "429 Slowly", "500 Oh"]);
    let gateway = start(&peer, ", retry_on_failure: {initial_interval: 1ms, max_interval: 1ms}");
    send(&gateway, &orders(3, 2));
    let asked = peer.wait_for(4);
    assert!(asked.iter().all(|request| request.body == asked[0].body), "the same bytes each time");
    assert_eq!(series(&asked, Protocol::V1, 3).len(), 3);
    gateway.stop().assert_nothing_lost();
}

#[test]
fn what_the_backend_refuses_for_good_is_counted_by_status() {
    let peer = HttpPeer::answering(&["400 Bad Request"]);
    let gateway = start(&peer, "");
    send(&gateway, &orders(3, 2));
    peer.wait_for(1);
    common::wait_for("the rejected points to be counted", || {
        let metrics = gateway.metrics();
        let counted = metrics.sum("tracegate_remote_write_rejected_points_total", &["status=\"400\""]);
        (counted == 3.0).then_some(())
    });
    let ledger = gateway.ledger();
    assert_eq!(ledger.account("prometheusremotewrite", "failed"), 3);
    assert_eq!(peer.asked().len(), 1, "never means never");
    assert!(ledger.is_balanced());
    assert_eq!(gateway.stop().status.code(), Some(0));
}

#[test]
fn delta_points_are_dropped_and_named_once() {
    let peer = HttpPeer::answering(&[]);
    let gateway = start(&peer, "");
    for _ in 0..2 {
        send(&gateway, &orders(3, 1));
    }
    send(&gateway, &orders(1, 2));
    peer.wait_for(1);
    common::wait_for("the dropped points to be counted", || {
        let metrics = gateway.metrics();
        let counted = metrics.sum("tracegate_remote_write_dropped_points_total", &["reason=\"delta\""]);
        (counted == 6.0).then_some(())
    });
    assert_eq!(gateway.ledger().account("prometheusremotewrite", "dropped"), 6);
    let ending = gateway.stop();
    assert_eq!(ending.said.matches("Prometheus takes cumulative temporality only").count(), 1, "{}", ending.said);
}
