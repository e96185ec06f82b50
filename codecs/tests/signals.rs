//! Metrics and logs: index, transcoder and twin agree on any bytes, and a golden request keeps every byte.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use codecs::fuzzing::{fuzz_signals, fuzz_signals_shaped};
use codecs::json::{read_request, write_request};
use codecs::otlp::proto::{ExportLogsServiceRequest, ExportMetricsServiceRequest, MetricData, NumberValue};
use codecs::otlp::{Encoder, LogIndex, MetricIndex, MetricKind, Signal, SignalIndex};
use proptest::prelude::*;
use prost::Message;

fn golden(name: &str) -> Vec<u8> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/signals");
    fs::read(directory.join(name)).expect("a golden request")
}

fn protobuf_of(signal: Signal, json: &[u8]) -> Vec<u8> {
    let mut protobuf = Vec::new();
    read_request(signal, json, &mut protobuf).unwrap_or_else(|error| panic!("{error}"));
    protobuf
}

#[test]
fn a_golden_request_of_each_signal_leaves_byte_for_byte_as_it_came() {
    for (signal, name) in [(Signal::Metrics, "metrics_every_kind"), (Signal::Logs, "logs_every_field")] {
        let bytes = golden(name);
        let mut index = SignalIndex::new(signal);
        index.read_request(&bytes, 0).unwrap();
        let mut out = Vec::new();
        index.encode(&mut Encoder::default(), &[Bytes::from(bytes.clone())], &mut out);
        assert_eq!(out, bytes, "{name}");
    }
}

#[test]
fn a_request_cut_off_at_any_byte_leaves_nothing_behind() {
    for (signal, name) in [(Signal::Metrics, "metrics_every_kind"), (Signal::Logs, "logs_every_field")] {
        let bytes = golden(name);
        for end in 1..bytes.len() {
            let mut index = SignalIndex::new(signal);
            let read = index.read_request(&bytes[..end], 0);
            assert!(read.is_err() && index.is_empty(), "{name} up to byte {end}");
        }
    }
}

#[test]
fn metrics_are_counted_by_their_points() {
    let mut index = MetricIndex::default();
    index.read_request(&protobuf_of(Signal::Metrics, &golden("metrics_every_kind.json")), 0).unwrap();
    let found: Vec<_> = index.items.iter().map(|metric| (metric.kind, metric.points)).collect();
    assert_eq!(
        found,
        [
            (MetricKind::Sum, 2),
            (MetricKind::Gauge, 2),
            (MetricKind::Histogram, 2),
            (MetricKind::ExponentialHistogram, 1),
            (MetricKind::Summary, 1),
            (MetricKind::None, 0),
        ]
    );
    assert_eq!(index.count(), 9, "one without points counts as one");
}

#[test]
fn log_records_are_noted_with_severity_and_trace() {
    let mut index = LogIndex::default();
    index.read_request(&protobuf_of(Signal::Logs, &golden("logs_every_field.json")), 0).unwrap();
    let severities: Vec<u8> = index.items.iter().map(|record| record.severity).collect();
    assert_eq!(severities, [10, 24, 0]);
    assert_eq!(index.items[0].trace_id.0[..4], [0x5b, 0x8e, 0xff, 0xf7]);
}

#[test]
fn json_of_every_kind_of_metric_means_what_it_says() {
    let protobuf = protobuf_of(Signal::Metrics, &golden("metrics_every_kind.json"));
    let request = ExportMetricsServiceRequest::decode(&protobuf[..]).unwrap();
    let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
    let Some(MetricData::Sum(sum)) = &metrics[0].data else { panic!("no sum") };
    assert!(sum.is_monotonic && sum.aggregation_temporality == 2);
    assert_eq!(sum.data_points[0].value, Some(NumberValue::AsInt(-3)));
    assert_eq!(sum.data_points[0].exemplars[0].span_id, [0xee, 0xe1, 0x9b, 0x7e, 0xc3, 0xc1, 0xb1, 0x74]);
    let Some(MetricData::Gauge(gauge)) = &metrics[1].data else { panic!("no gauge") };
    assert_eq!(gauge.data_points[1].value, Some(NumberValue::AsInt(0)), "a zero in a oneof is a value");
    let Some(MetricData::Histogram(histogram)) = &metrics[2].data else { panic!("no histogram") };
    let point = &histogram.data_points[0];
    assert_eq!((point.sum, point.min, point.max), (Some(0.0), Some(-1.5), Some(f64::INFINITY)));
    assert_eq!((&point.bucket_counts[..], &point.explicit_bounds[..]), (&[1, 2, 3][..], &[0.5, 1000.0][..]));
    assert_eq!(histogram.data_points[1].sum, None);
    let Some(MetricData::ExponentialHistogram(exponential)) = &metrics[3].data else { panic!("no buckets") };
    let point = &exponential.data_points[0];
    assert_eq!((point.scale, point.zero_count, point.zero_threshold), (-2, 1, 0.001));
    let positive = point.positive.as_ref().unwrap();
    assert_eq!((positive.offset, &positive.bucket_counts[..]), (-5, &[1, 0, u64::MAX][..]));
    let Some(MetricData::Summary(summary)) = &metrics[4].data else { panic!("no summary") };
    assert_eq!(summary.data_points[0].quantile_values[1].value, 2.5);
    let mut json = Vec::new();
    write_request(Signal::Metrics, &protobuf, &mut json).unwrap();
    let again = ExportMetricsServiceRequest::decode(&protobuf_of(Signal::Metrics, &json)[..]).unwrap();
    // Through bytes: a value that is not a number is not equal to itself.
    assert_eq!(again.encode_to_vec(), request.encode_to_vec());
}

#[test]
fn json_of_a_log_record_means_what_it_says_and_is_written_again() {
    let protobuf = protobuf_of(Signal::Logs, &golden("logs_every_field.json"));
    let request = ExportLogsServiceRequest::decode(&protobuf[..]).unwrap();
    let record = &request.resource_logs[0].scope_logs[0].log_records[0];
    assert_eq!((record.severity_number, &record.severity_text[..]), (10, &b"Information"[..]));
    assert_eq!((record.flags, record.dropped_attributes_count, &record.event_name[..]), (1, 2, &b"order"[..]));
    assert_eq!(record.time_unix_nano + 1, record.observed_time_unix_nano);
    assert!(record.body.is_some() && record.attributes.len() == 2);
    let mut json = Vec::new();
    write_request(Signal::Logs, &protobuf, &mut json).unwrap();
    assert_eq!(ExportLogsServiceRequest::decode(&protobuf_of(Signal::Logs, &json)[..]), Ok(request));
}

#[test]
fn wrong_json_is_named_by_its_path() {
    let mut out = Vec::new();
    let error = read_request(Signal::Metrics, &golden("metrics_fraction_as_integer.json"), &mut out).unwrap_err();
    assert!(
        error.to_string().starts_with(
            "resourceMetrics[0].scopeMetrics[0].metrics[0].gauge.dataPoints[0].asInt: expected a whole number of 64 bits"
        ),
        "{error}"
    );
    let error = read_request(Signal::Logs, b"{\"resourceLogs\": 5}", &mut out).unwrap_err();
    assert!(error.to_string().starts_with("resourceLogs: expected a list"), "{error}");
    assert!(out.is_empty());
}

proptest! {
    #[test]
    fn index_and_twin_agree_on_requests_of_any_shape(choices in prop::collection::vec(any::<u8>(), 0..600)) {
        fuzz_signals_shaped(&choices);
    }

    #[test]
    fn any_bytes_are_taken_or_named(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        fuzz_signals(&bytes);
    }
}
