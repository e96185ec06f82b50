//! Remote write, from OTLP bytes to requests as an independent decoder reads them.

use codecs::fuzzing::metrics_proto::*;
use codecs::fuzzing::remote_write::*;
use codecs::otlp::proto::{AnyValue, InstrumentationScope, KeyValue, Resource, Value};
use codecs::prometheus::{
    DeltaSettings, DropReason, LABELS_MAX, Protocol, ResourceLabels, STALE, Settings, Translator, write_series_identity,
};
use proptest::prelude::*;
use prost::Message;
use std::collections::BTreeMap;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_translator_agrees_with_its_naive_twin(choices in prop::collection::vec(any::<u8>(), 0..700)) {
        check_choices(&choices);
    }

    #[test]
    fn any_bytes_leave_every_point_accounted_for(choices in prop::collection::vec(any::<u8>(), 0..300)) {
        check_any_bytes(&choices);
    }
}

const SECOND: u64 = 1_000_000_000;

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = Some(Value::String(value.as_bytes().to_vec()));
    KeyValue { key: key.into(), value: Some(AnyValue { value }) }
}

fn metric(name: &str, unit: &str, data: Data) -> Metric {
    Metric {
        name: name.into(),
        unit: unit.into(),
        description: b"What it is".to_vec(),
        data: Some(data),
        ..Metric::default()
    }
}

fn request(metrics: Vec<Metric>) -> MetricsRequest {
    let resource = vec![
        attribute("service.name", "cart"),
        attribute("service.namespace", "shop"),
        attribute("service.instance.id", "i1"),
        attribute("host.name", "h"),
    ];
    let scope = InstrumentationScope { name: b"meter".to_vec(), ..InstrumentationScope::default() };
    MetricsRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource { attributes: resource, dropped_attributes_count: 0 }),
            scope_metrics: vec![ScopeMetrics { scope: Some(scope), metrics }],
        }],
    }
}

/// Few labels, so that a line shows what it is about.
fn bare() -> Settings {
    Settings { has_target_info: false, has_scope_labels: false, ..Settings::default() }
}

fn number(value: f64, attributes: &[(&str, &str)]) -> NumberPoint {
    NumberPoint {
        attributes: attributes.iter().map(|(key, value)| attribute(key, value)).collect(),
        start_time_unix_nano: SECOND,
        time_unix_nano: 2 * SECOND + 1,
        value: Some(Number::Double(value)),
        ..NumberPoint::default()
    }
}

fn gauge(points: Vec<NumberPoint>) -> Data {
    Data::Gauge(Numbers { data_points: points, ..Numbers::default() })
}

fn counter(points: Vec<NumberPoint>) -> Data {
    Data::Sum(Numbers { data_points: points, aggregation_temporality: 2, is_monotonic: true })
}

fn histogram(point: HistogramPoint) -> Data {
    Data::Histogram(Histograms { data_points: vec![point], aggregation_temporality: 2 })
}

/// What is in the requests, one line for each sample, histogram and exemplar.
fn lines(request: &MetricsRequest, settings: &Settings) -> Vec<String> {
    let bytes = request.encode_to_vec();
    let (pushes, _) = translate(&[&bytes], settings);
    let mut lines = Vec::new();
    for (labels, series) in decode_requests(&pushes[0], settings.protocol) {
        let labels = labels.iter().filter(|(name, _)| !["job", "instance"].contains(&name.as_str()));
        let (name, labels): (Vec<_>, Vec<_>) = labels.partition(|(name, _)| *name == "__name__");
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let series_name = format!("{}{{{}}}", name[0].1, labels.join(","));
        for (time, bits, start) in series.samples {
            let value = if bits == STALE.to_bits() { "stale".to_owned() } else { f64::from_bits(bits).to_string() };
            let start = if start == 0 { String::new() } else { format!(" since {start}") };
            lines.push(format!("{series_name} {value} @{time}{start}"));
        }
        for native in series.histograms {
            let sum = f64::from_bits(native.sum);
            let (zero, count, schema) = (native.zero_count, native.count, native.schema);
            let buckets = format!("{:?} {:?}", native.positive, native.negative);
            lines.push(format!(
                "{series_name} native {schema}: {count} sum {sum} zero {zero} {buckets} @{}",
                native.time_ms
            ));
        }
        for (time, bits, labels) in series.exemplars {
            lines.push(format!("{series_name} # {labels:?} {} @{time}", f64::from_bits(bits)));
        }
    }
    lines
}

fn check(metrics: Vec<Metric>, settings: &Settings, expected: &[&str]) {
    assert_eq!(lines(&request(metrics), settings), expected);
}

/// How many of a request's points are dropped for which reason, and what is left.
fn check_dropped(metrics: Vec<Metric>, reason: DropReason, dropped: u64, left: &[&str]) {
    let request = request(metrics);
    let (_, counts) = translate(&[&request.encode_to_vec()], &bare());
    assert_eq!(counts.dropped[reason as usize], dropped, "{counts:?}");
    assert_eq!(counts.dropped_total(), dropped, "{counts:?}");
    assert_eq!(counts.points, counts.written + dropped, "{counts:?}");
    assert_eq!(lines(&request, &bare()), left);
}

#[test]
fn a_gauge_is_a_series_of_its_point() {
    let points = vec![number(0.5, &[("cpu.id", "1")]), number(f64::NAN, &[("cpu.id", "2")])];
    check(
        vec![metric("cpu.utilization", "1", gauge(points))],
        &bare(),
        &["cpu_utilization_ratio{cpu_id=1} 0.5 @2000", "cpu_utilization_ratio{cpu_id=2} NaN @2000"],
    );
}

#[test]
fn a_counter_ends_in_total_and_has_exemplars() {
    let exemplar = Exemplar {
        filtered_attributes: vec![attribute("user.id", "u7")],
        time_unix_nano: 2 * SECOND,
        value: Some(ExemplarValue::Int(3)),
        span_id: vec![0xab; 8],
        trace_id: vec![0xcd; 16],
    };
    let point = NumberPoint { exemplars: vec![exemplar], ..number(7.0, &[("order.type", "new"), ("region", "eu")]) };
    let exemplar = "orders_created_total{order_type=new,region=eu} # {\"span_id\": \"abababababababab\", \
                    \"trace_id\": \"cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd\", \"user_id\": \"u7\"} 3 @2000";
    let metrics = || vec![metric("orders.created", "", counter(vec![point.clone()]))];
    check(metrics(), &bare(), &["orders_created_total{order_type=new,region=eu} 7 @2000", exemplar]);
    let with_starts = Settings { protocol: Protocol::V2, ..bare() };
    let sample = "orders_created_total{order_type=new,region=eu} 7 @2000 since 1000";
    check(metrics(), &with_starts, &[sample, exemplar]);
}

#[test]
fn a_long_exemplar_keeps_its_ids_only() {
    let exemplar = Exemplar {
        filtered_attributes: vec![attribute("query", &"x".repeat(100))],
        trace_id: vec![0xcd; 16],
        ..Exemplar::default()
    };
    let point = NumberPoint { exemplars: vec![exemplar], ..number(7.0, &[]) };
    let expected = ["a_total{} 7 @2000", "a_total{} # {\"trace_id\": \"cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd\"} 0 @0"];
    check(vec![metric("a", "", counter(vec![point]))], &bare(), &expected);
}

#[test]
fn a_histogram_is_its_sum_its_count_and_a_series_for_each_bucket() {
    let exemplar = |value| Exemplar { value: Some(ExemplarValue::Double(value)), ..Exemplar::default() };
    let point = HistogramPoint {
        time_unix_nano: 2 * SECOND,
        count: 6,
        sum: Some(21.5),
        bucket_counts: vec![1, 2, 3],
        explicit_bounds: vec![0.005, 10.0],
        exemplars: vec![exemplar(3.0), exemplar(11.0)],
        ..HistogramPoint::default()
    };
    check(
        vec![metric("orders.duration", "ms", histogram(point))],
        &bare(),
        &[
            "orders_duration_milliseconds_bucket{le=+Inf} 6 @2000",
            "orders_duration_milliseconds_bucket{le=+Inf} # {} 11 @0",
            "orders_duration_milliseconds_bucket{le=0.005} 1 @2000",
            "orders_duration_milliseconds_bucket{le=10} 3 @2000",
            "orders_duration_milliseconds_bucket{le=10} # {} 3 @0",
            "orders_duration_milliseconds_count{} 6 @2000",
            "orders_duration_milliseconds_sum{} 21.5 @2000",
        ],
    );
}

#[test]
fn an_exponential_histogram_is_a_native_one() {
    let point = ExponentialPoint {
        time_unix_nano: 2 * SECOND,
        count: 10,
        sum: Some(4.0),
        scale: 9,
        zero_count: 1,
        positive: Some(Buckets { offset: 0, bucket_counts: vec![1, 2, 0, 3] }),
        negative: Some(Buckets { offset: -2, bucket_counts: vec![3] }),
        ..ExponentialPoint::default()
    };
    let data = Data::Exponential(Exponentials { data_points: vec![point], aggregation_temporality: 2 });
    let expected = "latency_seconds{} native 8: 10 sum 4 zero 1 {1: 3, 2: 3} {0: 3} @2000";
    check(vec![metric("latency", "s", data)], &bare(), &[expected]);
}

#[test]
fn a_summary_is_its_sum_its_count_and_a_series_for_each_quantile() {
    let point = SummaryPoint {
        time_unix_nano: 2 * SECOND,
        count: 3,
        sum: 6.0,
        quantile_values: vec![
            ValueAtQuantile { quantile: 0.5, value: 2.0 },
            ValueAtQuantile { quantile: 1.0, value: 3.0 },
        ],
        ..SummaryPoint::default()
    };
    check(
        vec![metric("gc", "s", Data::Summary(Summaries { data_points: vec![point] }))],
        &bare(),
        &[
            "gc_seconds{quantile=0.5} 2 @2000",
            "gc_seconds{quantile=1} 3 @2000",
            "gc_seconds_count{} 3 @2000",
            "gc_seconds_sum{} 6 @2000",
        ],
    );
}

#[test]
fn a_point_without_recorded_value_ends_its_series() {
    let point = NumberPoint { value: None, flags: 1, ..number(0.0, &[]) };
    let ended = HistogramPoint { flags: 1, time_unix_nano: 2 * SECOND, ..HistogramPoint::default() };
    let native = ExponentialPoint { flags: 1, time_unix_nano: 2 * SECOND, ..ExponentialPoint::default() };
    let native = Data::Exponential(Exponentials { data_points: vec![native], aggregation_temporality: 2 });
    check(
        vec![metric("a", "", gauge(vec![point])), metric("b", "", histogram(ended)), metric("c", "", native)],
        &bare(),
        &[
            "a{} stale @2000",
            "b_bucket{le=+Inf} stale @2000",
            "b_count{} stale @2000",
            "c{} native 0: 0 sum NaN zero 0 {} {} @2000",
        ],
    );
}

#[test]
fn a_resource_is_job_instance_and_target_info() {
    let settings = Settings { external_labels: vec![("cluster".into(), "c1".into())], ..Settings::default() };
    let metrics = vec![metric("a", "", gauge(vec![number(1.0, &[("cluster", "own")])]))];
    let bytes = request(metrics).encode_to_vec();
    let (pushes, counts) = translate(&[&bytes], &settings);
    let found = decode_requests(&pushes[0], Protocol::V1);
    let labels: Vec<String> = found.keys().map(|labels| format!("{labels:?}")).collect();
    assert_eq!(
        labels,
        [
            r#"{"__name__": "a", "cluster": "own", "instance": "i1", "job": "shop/cart", "otel_scope_name": "meter"}"#,
            r#"{"__name__": "target_info", "cluster": "c1", "host_name": "h", "instance": "i1", "job": "shop/cart"}"#,
        ]
    );
    assert_eq!((counts.points, counts.written, counts.samples), (1, 1, 2), "target_info is no point that came in");
}

#[test]
fn attributes_of_resources_become_labels_as_configured() {
    let check = |resource_labels: ResourceLabels, expected: &str| {
        let settings = Settings { resource_labels, ..bare() };
        let metrics = vec![metric("a", "", gauge(vec![number(1.0, &[("host.name", "own")])]))];
        check(metrics, &settings, &[expected]);
    };
    check(ResourceLabels::None, "a{host_name=own} 1 @2000");
    check(ResourceLabels::Promoted(vec!["host.name".into()]), "a{host_name=own} 1 @2000");
    check(
        ResourceLabels::Promoted(vec!["service.name".into(), "absent".into()]),
        "a{host_name=own,service_name=cart} 1 @2000",
    );
    check(ResourceLabels::All { excludes_service: true }, "a{host_name=h} 1 @2000");
    check(
        ResourceLabels::All { excludes_service: false },
        "a{host_name=h,service_instance_id=i1,service_name=cart,service_namespace=shop} 1 @2000",
    );
}

#[test]
fn labels_that_meet_are_joined_and_duplicates_are_one() {
    let pairs =
        [("a.b", "2"), ("a_b", "1"), ("a-b", "2"), ("c", "x"), ("c", "x"), ("c", "y"), ("empty", ""), ("...", "z")];
    check(vec![metric("m", "", gauge(vec![number(1.0, &pairs)]))], &bare(), &["m{a_b=2;1,c=x;y} 1 @2000"]);
}

#[test]
fn samples_of_a_series_come_in_order_and_once_per_millisecond() {
    let at = |time_ns, value| NumberPoint { time_unix_nano: time_ns, ..number(value, &[("b", "1"), ("a", "1")]) };
    let turned = NumberPoint { time_unix_nano: SECOND, ..number(9.0, &[("a", "1"), ("b", "1")]) };
    let far_future = at(u64::MAX, 3.0);
    check_dropped(
        vec![metric(
            "m",
            "",
            gauge(vec![at(5 * SECOND, 2.0), far_future, turned, at(SECOND, 1.0), at(SECOND + 9, 4.0)]),
        )],
        DropReason::Replaced,
        2,
        &["m{a=1,b=1} 4 @1000", "m{a=1,b=1} 2 @5000", "m{a=1,b=1} 3 @18446744073709"],
    );
}

#[test]
fn delta_is_dropped_counted_and_told_once() {
    let delta = |name: &str| {
        let data = Numbers {
            data_points: vec![number(1.0, &[]), number(2.0, &[])],
            aggregation_temporality: 1,
            is_monotonic: true,
        };
        metric(name, "", Data::Sum(data))
    };
    let metrics = vec![delta("clicks"), delta("views"), metric("kept", "", gauge(vec![number(1.0, &[])]))];
    check_dropped(metrics.clone(), DropReason::Delta, 4, &["kept{} 1 @2000"]);
    let mut translator = Translator::new(bare(), 1);
    let bytes = request(metrics).encode_to_vec();
    let _ = push(&mut translator, &bytes);
    let told: Vec<_> = translator.take_notices().into_iter().map(|notice| (notice.reason, notice.metric)).collect();
    assert_eq!(told, [(DropReason::Delta, "clicks".to_owned()), (DropReason::Delta, "views".to_owned())]);
    let _ = push(&mut translator, &bytes);
    assert_eq!(translator.take_notices(), []);
}

#[test]
fn bad_points_are_dropped_one_by_one() {
    let good = || metric("good", "", gauge(vec![number(1.0, &[])]));
    let left = ["good{} 1 @2000"];
    check_dropped(vec![metric("", "s", gauge(vec![number(1.0, &[])])), good()], DropReason::Name, 1, &left);
    check_dropped(vec![metric("...", "", gauge(vec![number(1.0, &[])])), good()], DropReason::Name, 1, &left);
    let empty = NumberPoint { value: None, ..number(0.0, &[]) };
    check_dropped(vec![metric("a", "", gauge(vec![empty])), good()], DropReason::Empty, 1, &left);
    let bounds = |bounds: &[f64], counts: &[u64]| {
        let point = HistogramPoint {
            explicit_bounds: bounds.into(),
            bucket_counts: counts.into(),
            ..HistogramPoint::default()
        };
        metric("a", "", histogram(point))
    };
    for bad in [
        bounds(&[2.0, 1.0], &[1, 1, 1]),
        bounds(&[1.0, 1.0], &[1, 1, 1]),
        bounds(&[f64::NAN], &[1, 1]),
        bounds(&[1.0], &[1, 1, 1]),
        bounds(&[], &[1, 1]),
    ] {
        check_dropped(vec![bad, good()], DropReason::Buckets, 1, &left);
    }
    let exponential = |scale, count| {
        let positive = Some(Buckets { offset: 0, bucket_counts: vec![1] });
        let point = ExponentialPoint { scale, count, positive, ..ExponentialPoint::default() };
        metric("a", "", Data::Exponential(Exponentials { data_points: vec![point], aggregation_temporality: 2 }))
    };
    check_dropped(vec![exponential(-5, 1), good()], DropReason::Scale, 1, &left);
    check_dropped(vec![exponential(0, 2), good()], DropReason::Buckets, 1, &left);
    let many: Vec<(String, String)> = (0..10_000).map(|number| (format!("k{number}"), "v".to_owned())).collect();
    let many: Vec<_> = many.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert!(many.len() > LABELS_MAX);
    check_dropped(vec![metric("a", "", gauge(vec![number(1.0, &many)])), good()], DropReason::Labels, 1, &left);
    let long = "x".repeat(1 << 20);
    check_dropped(
        vec![metric("a", "", gauge(vec![number(1.0, &[("k", &long)])])), good()],
        DropReason::Labels,
        1,
        &left,
    );
}

#[test]
fn infinities_and_other_texts_arrive_as_they_are() {
    let points = vec![number(f64::INFINITY, &[("k", "a\u{0}b")]), number(f64::NEG_INFINITY, &[("k", "größe")])];
    check(vec![metric("m", "", gauge(points))], &bare(), &["m{k=a\u{0}b} inf @2000", "m{k=größe} -inf @2000"]);
}

#[test]
fn more_series_than_the_cache_holds_empty_it_and_nothing_is_lost() {
    let points: Vec<NumberPoint> = (0..5000).map(|number_| number(1.0, &[("id", &number_.to_string())])).collect();
    let bytes = request(vec![metric("attack", "", gauge(points))]).encode_to_vec();
    let settings = Settings { cache_bytes_max: 100_000, ..bare() };
    let (pushes, counts) = translate(&[&bytes, &bytes], &settings);
    assert!(counts.cache_clears > 10, "{counts:?}");
    assert_eq!((counts.written, counts.label_sets_built), (10_000, 10_000));
    assert_eq!(decode_requests(&pushes[1], Protocol::V1).len(), 5000);
    let (_, counts) = translate(&[&bytes, &bytes], &bare());
    assert_eq!((counts.label_sets_built, counts.cache_clears), (5000, 0), "the second push finds every series");
}

#[test]
fn requests_stay_below_their_size() {
    let points: Vec<NumberPoint> = (0..5000).map(|number_| number(1.0, &[("id", &number_.to_string())])).collect();
    let bytes = request(vec![metric("m", "", counter(points))]).encode_to_vec();
    for protocol in [Protocol::V1, Protocol::V2] {
        let settings = Settings { request_bytes_max: 20_000, protocol, ..bare() };
        let (pushes, _) = translate(&[&bytes], &settings);
        assert!(pushes[0].iter().all(|request| request.body.len() <= 20_000));
        assert!(pushes[0].len() > 3);
        assert_eq!(decode_requests(&pushes[0], protocol).len(), 5000);
    }
}

#[test]
fn metadata_has_requests_of_its_own_with_the_first_protocol() {
    let settings = Settings { sends_metadata: true, ..bare() };
    let metrics =
        vec![metric("a", "By", counter(vec![number(1.0, &[])])), metric("b", "", gauge(vec![number(1.0, &[])]))];
    let (pushes, _) = translate(&[&request(metrics).encode_to_vec()], &settings);
    assert_eq!((pushes[0].len(), pushes[0][1].series), (2, 0));
    let found = WriteV1::decode(&pushes[0][1].body[..]).unwrap().metadata;
    let found: Vec<_> =
        found.iter().map(|one| (one.metric_type, &one.metric_family_name[..], &one.help[..], &one.unit[..])).collect();
    assert_eq!(found, [(1, "a_bytes_total", "What it is", "By"), (2, "b", "What it is", "")]);
}

#[test]
fn the_bytes_of_both_protocols_are_as_they_always_were() {
    let metrics = || {
        let metrics = vec![metric("a", "", counter(vec![number(1.5, &[("k", "v")])]))];
        let scope = ScopeMetrics { metrics, ..ScopeMetrics::default() };
        MetricsRequest {
            resource_metrics: vec![ResourceMetrics { scope_metrics: vec![scope], ..ResourceMetrics::default() }],
        }
    };
    let body = |protocol| {
        let (pushes, _) = translate(&[&metrics().encode_to_vec()], &Settings { protocol, ..bare() });
        pushes[0][0].body.clone()
    };
    let first = b"\x0a\x2b\x0a\x13\x0a\x08__name__\x12\x07a_total\x0a\x06\x0a\x01k\x12\x01v\
                  \x12\x0c\x09\0\0\0\0\0\0\xf8\x3f\x10\xd0\x0f";
    let second = b"\x22\x00\x22\x08__name__\x22\x07a_total\x22\x01k\x22\x01v\x22\x0aWhat it is\
                   \x2a\x22\x0a\x04\x01\x02\x03\x04\x12\x0f\x09\0\0\0\0\0\0\xf8\x3f\x10\xd0\x0f\x18\xe8\x07\
                   \x2a\x06\x08\x01\x18\x05\x20\x00\x30\xe8\x07";
    assert_eq!(body(Protocol::V1).escape_ascii().to_string(), first.escape_ascii().to_string());
    assert_eq!(body(Protocol::V2).escape_ascii().to_string(), second.escape_ascii().to_string());
}

#[test]
fn a_request_cut_anywhere_is_translated_as_far_as_it_goes() {
    let bytes = request(vec![metric("a", "", counter(vec![number(1.0, &[("k", "v")]); 3]))]).encode_to_vec();
    for end in 0..bytes.len() {
        check_any_bytes(&[&[0; 4], &bytes[..end]].concat());
    }
}

/// Deltas of up to so many series, each forgotten after 1000 ns.
fn adding_up(streams_max: usize, protocol: Protocol) -> Settings {
    Settings { delta: Some(DeltaSettings { streams_max, stale_ns: 1000 }), protocol, ..bare() }
}

fn deltas(name: &str, data_points: Vec<NumberPoint>) -> Metric {
    metric(name, "", Data::Sum(Numbers { data_points, aggregation_temporality: 1, is_monotonic: true }))
}

/// The samples of one push: series without its metric's name, time, value, start.
fn samples(translator: &mut Translator, metrics: Vec<Metric>, protocol: Protocol) -> Vec<(String, i64, f64, i64)> {
    let requests = push(translator, &request(metrics).encode_to_vec());
    let mut found = Vec::new();
    for (labels, series) in decode_requests(&requests, protocol) {
        let name = labels.iter().filter(|(name, _)| !["job", "instance"].contains(&name.as_str()));
        let name: Vec<_> = name.map(|(name, value)| format!("{name}={value}")).collect();
        let all = series.samples.iter().map(|(time, bits, start)| (*time, f64::from_bits(*bits), *start));
        found.extend(all.map(|(time, value, start)| (name.join(","), time, value, start)));
    }
    found
}

/// A point of these milliseconds.
fn news(value: f64, start_ms: u64, end_ms: u64) -> NumberPoint {
    NumberPoint { start_time_unix_nano: start_ms * 1_000_000, time_unix_nano: end_ms * 1_000_000, ..number(value, &[]) }
}

#[test]
fn deltas_are_added_up_where_that_is_asked_for() {
    let mut translator = Translator::new(adding_up(10, Protocol::V2), 1);
    let mut send = |points: Vec<NumberPoint>| -> Vec<(i64, f64, i64)> {
        let samples = samples(&mut translator, vec![deltas("clicks", points)], Protocol::V2);
        samples.into_iter().map(|(_, time, value, start)| (time, value, start)).collect()
    };
    assert_eq!(send(vec![news(2.0, 1, 5), news(3.0, 5, 6)]), [(5, 2.0, 1), (6, 5.0, 1)]);
    assert_eq!(send(vec![news(10.0, 6, 9)]), [(9, 15.0, 1)]);
    assert_eq!(send(vec![news(1.0, 6, 9), news(1.0, 0, 3), news(f64::NAN, 9, 10)]), [], "nothing is counted twice");
    assert_eq!(send(vec![news(1.0, 9, 20)]), [(20, 16.0, 1)], "and what was dropped is in no total");
    let ended = NumberPoint { flags: 1, value: None, ..news(0.0, 20, 30) };
    let stale = send(vec![ended]);
    assert_eq!((stale.len(), stale[0].1.to_bits()), (1, STALE.to_bits()));
    assert_eq!(send(vec![news(7.0, 40, 50)]), [(50, 7.0, 40)], "after its end it begins anew");
    let counts = translator.counts();
    assert_eq!((counts.dropped[DropReason::DeltaOrder as usize], counts.dropped[DropReason::Empty as usize]), (2, 1));
    assert_eq!(counts.points, counts.written + counts.dropped_total());
}

#[test]
fn deltas_of_histograms_are_added_up_bucket_by_bucket_until_their_bounds_change() {
    let mut translator = Translator::new(adding_up(10, Protocol::V1), 1);
    let mut send = |time: u64, bounds: &[f64], counts: &[u64]| -> Vec<String> {
        let point = HistogramPoint {
            time_unix_nano: time * 1_000_000,
            count: counts.iter().sum(),
            sum: Some(1.5),
            bucket_counts: counts.into(),
            explicit_bounds: bounds.into(),
            ..HistogramPoint::default()
        };
        let data = Data::Histogram(Histograms { data_points: vec![point], aggregation_temporality: 1 });
        let samples = samples(&mut translator, vec![metric("h", "", data)], Protocol::V1);
        samples.into_iter().map(|(name, _, value, _)| format!("{} {value}", &name["__name__=h_".len()..])).collect()
    };
    let first = ["bucket,le=+Inf 6", "bucket,le=1 1", "bucket,le=2 3", "count 6", "sum 1.5"];
    assert_eq!(send(5, &[1.0, 2.0], &[1, 2, 3]), first);
    let second = ["bucket,le=+Inf 7", "bucket,le=1 2", "bucket,le=2 4", "count 7", "sum 3"];
    assert_eq!(send(6, &[1.0, 2.0], &[1, 0, 0]), second);
    assert_eq!(send(7, &[1.0, 2.0], &[1, 0]), [""; 0], "counts that do not fit are in no total");
    assert_eq!(send(8, &[1.0], &[1, 0]), ["bucket,le=+Inf 1", "bucket,le=1 1", "count 1", "sum 1.5"]);
}

/// A delta of these milliseconds with buckets from `offset` on, and their counts as its count.
fn exponential_news(scale: i32, offset: i32, counts: &[u64], end_ms: u64) -> ExponentialPoint {
    ExponentialPoint {
        start_time_unix_nano: 1_000_000,
        time_unix_nano: end_ms * 1_000_000,
        scale,
        count: counts.iter().sum::<u64>() + 1,
        sum: Some(1.5),
        zero_count: 1,
        positive: Some(Buckets { offset, bucket_counts: counts.into() }),
        ..ExponentialPoint::default()
    }
}

/// The native histograms of one push of deltas of one metric.
fn natives(translator: &mut Translator, data_points: Vec<ExponentialPoint>, protocol: Protocol) -> Vec<Native> {
    let data = Data::Exponential(Exponentials { data_points, aggregation_temporality: 1 });
    let requests = push(translator, &request(vec![metric("h", "", data)]).encode_to_vec());
    decode_requests(&requests, protocol).into_values().flat_map(|series| series.histograms).collect()
}

#[test]
fn deltas_of_exponential_histograms_are_added_up_at_a_scale_that_all_have() {
    let mut translator = Translator::new(adding_up(10, Protocol::V2), 1);
    let mut send = |points: Vec<ExponentialPoint>| -> Vec<String> {
        let line = |native: Native| {
            let (count, zero, sum) = (native.count, native.zero_count, f64::from_bits(native.sum));
            let (schema, positive, negative) = (native.schema, native.positive, native.negative);
            format!("{schema}: {count} sum {sum} zero {zero} {positive:?} {negative:?} since {}", native.start_ms)
        };
        natives(&mut translator, points, Protocol::V2).into_iter().map(line).collect()
    };
    let two = vec![exponential_news(2, 0, &[1, 2, 0, 3], 5), exponential_news(2, 2, &[4, 0, 5], 6)];
    assert_eq!(
        send(two),
        [
            "2: 7 sum 1.5 zero 1 {1: 1, 2: 2, 4: 3} {} since 1",
            "2: 17 sum 3 zero 2 {1: 1, 2: 2, 3: 4, 4: 3, 5: 5} {} since 1"
        ]
    );
    assert_eq!(
        send(vec![exponential_news(1, -1, &[7], 7)]),
        ["1: 25 sum 4.5 zero 3 {0: 7, 1: 3, 2: 7, 3: 5} {} since 1"]
    );
    let negative = Some(Buckets { offset: -3, bucket_counts: vec![2] });
    let finer = ExponentialPoint { negative, count: 4, ..exponential_news(9, 0, &[1], 8) };
    assert_eq!(
        send(vec![finer]),
        ["1: 29 sum 6 zero 4 {0: 7, 1: 4, 2: 7, 3: 5} {0: 2} since 1"],
        "scale 9 counts as 8 and becomes 1"
    );
    let late = exponential_news(1, 0, &[9], 8);
    let wrong = ExponentialPoint { count: 50, ..exponential_news(1, 0, &[9], 9) };
    let coarse = exponential_news(-5, 0, &[9], 9);
    assert_eq!(send(vec![late, wrong, coarse]), [""; 0], "what is dropped is in no total");
    let nan = ExponentialPoint { sum: Some(f64::NAN), count: 3, ..exponential_news(1, 0, &[1], 10) };
    assert_eq!(
        send(vec![nan]),
        ["1: 31 sum 0 zero 5 {0: 7, 1: 5, 2: 7, 3: 5} {0: 2} since 1"],
        "what is no number is in no bucket, and leaves no sum"
    );
    let far = exponential_news(1, 3000, &[1], 11);
    assert_eq!(
        send(vec![far]),
        ["-3: 33 sum 0 zero 6 {0: 7, 1: 17, 188: 1} {0: 2} since 1"],
        "320 buckets at most, so it is coarser"
    );
    let wider = ExponentialPoint { zero_threshold: 0.5, ..exponential_news(1, 0, &[1], 12) };
    assert_eq!(
        send(vec![wider]),
        ["1: 2 sum 1.5 zero 1 {1: 1} {} since 1"],
        "another zero bucket is another histogram"
    );
    let counts = translator.counts();
    assert_eq!(counts.dropped[DropReason::DeltaOrder as usize], 1);
    assert_eq!((counts.dropped[DropReason::Buckets as usize], counts.dropped[DropReason::Scale as usize]), (1, 1));
    assert_eq!(counts.points, counts.written + counts.dropped_total());
}

#[test]
fn buckets_too_far_apart_for_any_scale_are_dropped_and_leave_the_total_as_it_was() {
    let mut translator = Translator::new(adding_up(10, Protocol::V1), 1);
    let first = exponential_news(0, 0, &[1], 5);
    assert_eq!(natives(&mut translator, vec![first.clone()], Protocol::V1).len(), 1);
    for (offset, time) in [(i32::MAX - 1, 6), (i32::MIN, 7)] {
        assert!(natives(&mut translator, vec![exponential_news(0, offset, &[1], time)], Protocol::V1).is_empty());
    }
    let after = natives(&mut translator, vec![exponential_news(0, 0, &[1], 8)], Protocol::V1);
    assert_eq!((after[0].count, after[0].positive.clone()), (4, BTreeMap::from([(1, 2)])));
    let huge = ExponentialPoint { count: u64::MAX, zero_count: u64::MAX, positive: None, ..first };
    let huge = ExponentialPoint { time_unix_nano: 9_000_000, ..huge };
    let after = natives(&mut translator, vec![huge], Protocol::V1);
    assert_eq!(after[0].count, u64::MAX, "a count beyond 64 bits begins anew");
    assert_eq!(translator.counts().dropped[DropReason::Buckets as usize], 2);
}

#[test]
fn series_of_deltas_are_bounded_and_make_room_with_their_age() {
    let mut translator = Translator::new(adding_up(2, Protocol::V1), 1);
    let mut send = |now_ns, names: &[&str], at: u64| -> Vec<(String, f64)> {
        translator.at(now_ns);
        let metrics = names.iter().map(|name| deltas(name, vec![news(1.0, at, at + 1)])).collect();
        let samples = samples(&mut translator, metrics, Protocol::V1);
        samples.into_iter().map(|(name, _, value, _)| (name["__name__=".len()..].to_owned(), value)).collect()
    };
    let told = |name: &str, value| (format!("{name}_total"), value);
    assert_eq!(send(0, &["a", "b", "c"], 1), [told("a", 1.0), told("b", 1.0)]);
    assert_eq!(send(900, &["a", "c"], 10), [told("a", 2.0)]);
    assert_eq!(send(1500, &["a", "b", "c"], 20), [told("a", 3.0), told("b", 1.0)], "b was forgotten and came first");
    assert_eq!(translator.counts().dropped[DropReason::DeltaLimit as usize], 3);
    let told: Vec<_> = translator.take_notices().into_iter().map(|notice| notice.metric).collect();
    assert_eq!(told, ["c"], "once");
    assert!(translator.delta_bytes() > 0);
    translator.at(10_000);
    assert_eq!(translator.delta_bytes(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Against the simplest way: a map of totals by name and label, whatever the cache forgets meanwhile.
    #[test]
    fn any_deltas_are_added_up_as_the_simplest_way_adds_them_up(
        pushes in prop::collection::vec(prop::collection::vec((0..3_usize, 0..3_u64, 0..9_u32, 0..20_u64), 0..6), 0..8),
        cache_bytes_max in prop_oneof![Just(1_usize << 20), Just(1000)],
        second_protocol in any::<bool>(),
    ) {
        let protocol = if second_protocol { Protocol::V2 } else { Protocol::V1 };
        let mut translator = Translator::new(Settings { cache_bytes_max, ..adding_up(100, protocol) }, 1);
        let mut totals: BTreeMap<(usize, u64), (f64, u64, u64)> = BTreeMap::new();
        for (round, points) in pushes.into_iter().enumerate() {
            let mut expected = Vec::new();
            let mut metrics = Vec::new();
            for (name, label, value, time) in points {
                let time = 1 + 10 * round as u64 + time;
                let name_text = ["a", "b", "c"][name];
                let mut point = news(f64::from(value), 0, time);
                point.attributes = vec![attribute("k", &format!("v{label}")), attribute("l", "x")];
                if value % 2 == 1 {
                    // In another order it is the same series.
                    point.attributes.reverse();
                }
                metrics.push(deltas(name_text, vec![point]));
                let total = totals.entry((name, label)).or_insert((0.0, 0, time));
                if time > total.1 {
                    (total.0, total.1) = (total.0 + f64::from(value), time);
                    let start = if second_protocol { total.2 as i64 } else { 0 };
                    let series = format!("__name__={name_text}_total,k=v{label},l=x");
                    expected.push((series, time as i64, total.0, start));
                }
            }
            let mut found = samples(&mut translator, metrics, protocol);
            let order = |one: &(String, i64, f64, i64), two: &(String, i64, f64, i64)| {
                (&one.0, one.1).cmp(&(&two.0, two.1))
            };
            found.sort_by(order);
            expected.sort_by(order);
            prop_assert_eq!(found, expected);
        }
        let counts = translator.counts();
        prop_assert_eq!(counts.points, counts.written + counts.dropped_total());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Against the simplest way: every bucket ever sent is kept as it was, and counted where the total says it belongs.
    #[test]
    fn any_deltas_of_exponential_histograms_are_added_up_as_the_simplest_way_adds_them_up(
        points in prop::collection::vec(
            (0..12_i32, -600..600_i32, prop::collection::vec(0..4_u64, 0..12), any::<bool>()), 1..12),
        second_protocol in any::<bool>(),
    ) {
        let protocol = if second_protocol { Protocol::V2 } else { Protocol::V1 };
        let mut translator = Translator::new(adding_up(10, protocol), 1);
        let mut sent: Vec<(i32, i64, u64, bool)> = Vec::new();
        let mut finest = 8;
        for (round, (scale, offset, counts, is_negative)) in points.into_iter().enumerate() {
            let mut point = exponential_news(scale, offset, &counts, 5 + round as u64);
            if is_negative {
                std::mem::swap(&mut point.positive, &mut point.negative);
            }
            let buckets = counts.iter().enumerate().map(|(at, count)| (i64::from(offset) + at as i64, *count));
            sent.extend(buckets.map(|(number, count)| (scale, number, count, is_negative)));
            let found = natives(&mut translator, vec![point], protocol);
            prop_assert_eq!(found.len(), 1);
            prop_assert!(found[0].schema <= finest.min(scale), "never finer than anything in it");
            finest = found[0].schema;
            let expected = |negative: bool| {
                let mut buckets: BTreeMap<i32, i64> = BTreeMap::new();
                for (scale, number, count, _) in sent.iter().filter(|one| one.3 == negative && one.2 > 0) {
                    let number = number.div_euclid(1 << (scale - finest)) + 1;
                    *buckets.entry(number as i32).or_default() += *count as i64;
                }
                buckets
            };
            prop_assert_eq!(&found[0].positive, &expected(false));
            prop_assert_eq!(&found[0].negative, &expected(true));
            let rounds = round as u64 + 1;
            prop_assert_eq!(found[0].count, sent.iter().map(|one| one.2).sum::<u64>() + rounds);
            prop_assert_eq!((found[0].zero_count, f64::from_bits(found[0].sum)), (rounds, 1.5 * rounds as f64));
            // Spread no further than a total may be, and coarser only where it had to be.
            for buckets in [&found[0].positive, &found[0].negative] {
                if let (Some((first, _)), Some((last, _))) = (buckets.first_key_value(), buckets.last_key_value()) {
                    prop_assert!(last - first < 320);
                }
            }
        }
        prop_assert_eq!(translator.counts().dropped_total(), 0);
    }
}

/// Every pair of resources whose points share a series has the same identity, and only those.
#[test]
fn resources_that_share_a_series_share_an_identity() {
    let texts = ["", "a", "b", "a/b", "7"];
    let mut all = Vec::new();
    for namespace in texts {
        for name in texts {
            for instance in texts {
                for host in ["", "h"] {
                    let texts = [("host", host), ("service.instance.id", instance), ("service.namespace", namespace)];
                    let written = texts.iter().filter(|(_, value)| !value.is_empty());
                    let mut attributes: Vec<KeyValue> = written.map(|(key, value)| attribute(key, value)).collect();
                    let value = if name == "7" { Value::Int(7) } else { Value::String(name.into()) };
                    let value = Some(AnyValue { value: Some(value) });
                    attributes.push(KeyValue { key: "service.name".into(), value });
                    attributes.push(attribute("service.name", "later ones do not count"));
                    let mut request = request(vec![metric("m", "", gauge(vec![number(1.0, &[])]))]);
                    let resource = &mut request.resource_metrics[0].resource;
                    *resource = Some(Resource { attributes, dropped_attributes_count: 0 });
                    let bytes = request.encode_to_vec();
                    let (pushes, _) = translate(&[&bytes], &bare());
                    let labels = decode_requests(&pushes[0], Protocol::V1).into_keys().next().expect("a series");
                    let mut identity = String::new();
                    let envelope = ResourceMetrics { resource: resource_of(&bytes), ..ResourceMetrics::default() };
                    write_series_identity(&envelope.encode_to_vec(), &mut identity);
                    all.push((labels, identity));
                }
            }
        }
    }
    for (labels, identity) in &all {
        for (other_labels, other_identity) in &all {
            assert_eq!(labels == other_labels, identity == other_identity, "{labels:?} {other_labels:?}");
        }
    }
}

fn resource_of(request: &[u8]) -> Option<Resource> {
    MetricsRequest::decode(request).expect("a request").resource_metrics.remove(0).resource
}

#[test]
fn what_is_behind_what_is_there_passes_on_for_the_backend_to_judge() {
    let mut translator = Translator::new(bare(), 1);
    for (time, value) in [(5, 1.0), (3, 2.0), (u64::MAX / 1_000_000, 3.0)] {
        let found = samples(&mut translator, vec![metric("m", "", gauge(vec![news(value, 0, time)]))], Protocol::V1);
        assert_eq!(found, [("__name__=m".to_owned(), time as i64, value, 0)]);
    }
}

#[test]
fn an_attack_on_the_label_cache_leaves_others_as_they_are_and_its_memory_bounded() {
    let settings = Settings { cache_bytes_max: 100_000, ..bare() };
    let mut translator = Translator::new(settings, 1);
    for round in 0..50_u64 {
        let attack: Vec<NumberPoint> = (0..500).map(|id| number(1.0, &[("id", &format!("{round} {id}"))])).collect();
        let metrics = vec![
            metric("attack", "", gauge(attack)),
            metric("honest", "", counter(vec![news(round as f64, 0, round + 1)])),
        ];
        let found = samples(&mut translator, metrics, Protocol::V1);
        let honest: Vec<_> = found.iter().filter(|sample| sample.0 == "__name__=honest_total").collect();
        assert_eq!((honest.len(), honest[0].1, honest[0].2), (1, round as i64 + 1, round as f64));
        assert_eq!(found.len(), 501);
        assert!(translator.cache_bytes() < 200_000, "{}", translator.cache_bytes());
    }
    assert!(translator.counts().cache_clears > 10, "and it says so");
}
