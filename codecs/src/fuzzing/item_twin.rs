//! A naive twin of the index for metrics and logs: prost decodes everything, plain loops regroup it. That of spans is in
//! [`super::twin`].
//!
//! Where the two may differ by design: prost counts nesting in another way, so bytes that either finds too deep are not
//! compared.

use bytes::Bytes;
use prost::Message;

use super::twin::{NaiveResource, Twin, check_ids, naive_encode, naive_resources};
use crate::otlp::proto::{self, ExportLogsServiceRequest, ExportMetricsServiceRequest, MetricData};
use crate::otlp::{
    Encoder, Index, Item, LogItem, MetricItem, MetricKind, Selection, Signal, TraceId, cut_metric, item_bytes,
};
use crate::wire::Fault;

/// Any bytes as a metrics request: the index agrees with the twin.
///
/// # Panics
/// They disagree.
pub fn check_metrics(bytes: &[u8]) {
    check_items::<MetricItem, _>(bytes, decode_metrics, |item, metric: &proto::Metric| {
        let (kind, points) = match &metric.data {
            None => (MetricKind::None, 0),
            Some(MetricData::Gauge(gauge)) => (MetricKind::Gauge, gauge.data_points.len()),
            Some(MetricData::Sum(sum)) => (MetricKind::Sum, sum.data_points.len()),
            Some(MetricData::Histogram(data)) => (MetricKind::Histogram, data.data_points.len()),
            Some(MetricData::ExponentialHistogram(data)) => (MetricKind::ExponentialHistogram, data.data_points.len()),
            Some(MetricData::Summary(summary)) => (MetricKind::Summary, summary.data_points.len()),
        };
        assert_eq!((item.kind, item.points as usize), (kind, points));
    });
}

/// Any bytes as a logs request: the index agrees with the twin.
///
/// # Panics
/// They disagree.
pub fn check_logs(bytes: &[u8]) {
    check_items::<LogItem, _>(bytes, decode_logs, |item, record: &proto::LogRecord| {
        assert_eq!(item.trace_id, TraceId(record.trace_id.as_slice().try_into().unwrap_or_default()));
        assert_eq!(item.severity, u8::try_from(record.severity_number).unwrap_or(u8::MAX));
    });
}

/// A metric that is cut keeps every point once, in order, and its names in each piece.
///
/// # Panics
/// It does not.
pub fn check_cut(bytes: &[u8], first: u32, each: u32) {
    let mut index = Index::<MetricItem>::default();
    if index.read_request(bytes, 0).is_err() {
        return;
    }
    let segments = [Bytes::copy_from_slice(bytes)];
    for item in index.items.iter().filter(|item| item.points > 0) {
        let mut out = Vec::new();
        let whole = item_bytes(item, &segments);
        let Some(pieces) = cut_metric(whole, first, each, &mut out) else { continue };
        let counts: Vec<u32> = pieces.iter().map(|piece| piece.1).collect();
        assert_eq!(counts.iter().sum::<u32>(), item.points);
        assert!(counts[0] <= first && counts[1..].iter().all(|count| *count <= each), "{counts:?}");
        // Prost merges what it reads one after the other: all pieces together are the whole again, but for names.
        let mut merged = proto::Metric::default();
        for (range, points) in pieces {
            let mut piece = MetricItem::default();
            piece.read(&out[..range.end], range.start).expect("a piece is a metric");
            assert_eq!((piece.points, piece.kind), (points, item.kind));
            merged.metadata.clear();
            merged.merge(&out[range]).expect("a piece is a metric");
        }
        let expected = proto::Metric::decode(whole).expect("checked before");
        assert_eq!(merged.encode_to_vec(), expected.encode_to_vec());
    }
}

/// Checks that the index accepts `bytes` exactly if `decode` does, finds the same items, keeps every byte, writes what a
/// naive writer writes, and that all of it can be written as JSON and read again.
fn check_items<I: Item, M>(bytes: &[u8], decode: impl Fn(&[u8]) -> Result<Vec<M>, Twin>, check_facts: impl Fn(&I, &M)) {
    let mut index = Index::<I>::default();
    let resource = index.push_resource(b"\x0a\x00");
    index.push_scope(resource, b"");
    let before = index.envelopes.clone();
    match (index.read_request(bytes, 1), decode(bytes)) {
        (Ok(()), Ok(decoded)) => {
            let segments = [Bytes::new(), Bytes::copy_from_slice(bytes)];
            let naive = naive_resources(bytes);
            check_places(&index, &segments, &naive);
            assert_eq!(index.items.len(), decoded.len());
            index.items.iter().zip(&decoded).for_each(|(item, decoded)| check_facts(item, decoded));
            let mut out = Vec::new();
            Encoder::default().encode(&index, &segments, &Selection::All, &mut out);
            assert_eq!(out, naive_encode(&naive));
            check_json_of(I::SIGNAL, bytes);
        }
        (Err(malformed), decoded) => {
            assert!(malformed.offset <= bytes.len(), "{malformed}: outside the {} bytes", bytes.len());
            assert!(index.is_empty() && index.envelopes == before, "a malformed request leaves nothing behind");
            let too_deep = matches!(malformed.what, Fault::TooDeep(_));
            assert!(too_deep || decoded.is_err(), "the twin accepts what we find malformed: {malformed}");
        }
        (Ok(()), Err(Twin::TooDeep)) => {}
        (Ok(()), Err(error)) => panic!("the twin rejects what we accept: {error:?}"),
    }
}

fn check_places<I: Item>(index: &Index<I>, segments: &[Bytes], naive: &[NaiveResource<'_>]) {
    let mut items = index.items.iter();
    for resource in naive {
        for scope in &resource.scopes {
            for expected in &scope.items {
                let item = items.next().expect("as many items as the twin finds");
                assert_eq!(item_bytes(item, segments), *expected);
                assert_eq!(index.scope_envelope(item.place().scope), scope.envelope);
                assert_eq!(index.resource_envelope(item.place().scope), resource.envelope);
            }
        }
    }
    assert!(items.next().is_none(), "no more items than the twin finds");
}

/// What the index takes can be written as JSON, is read again, and is then written as the same JSON.
fn check_json_of(signal: Signal, bytes: &[u8]) {
    let (mut json, mut again, mut protobuf) = (Vec::new(), Vec::new(), Vec::new());
    crate::json::write_request(signal, bytes, &mut json).expect("what the index takes can be written as JSON");
    let read = crate::json::read_request(signal, &json, &mut protobuf);
    read.unwrap_or_else(|error| panic!("{error}: {}", json.escape_ascii()));
    crate::json::write_request(signal, &protobuf, &mut again).expect("what was transcoded is well-formed");
    // A default that is written in protobuf is left out on the way back, so only the second pass is exact.
    protobuf.clear();
    crate::json::read_request(signal, &again, &mut protobuf).expect("what we write we read");
    let mut third = Vec::new();
    crate::json::write_request(signal, &protobuf, &mut third).expect("what was transcoded is well-formed");
    assert_eq!(third.escape_ascii().to_string(), again.escape_ascii().to_string());
}

fn decode_metrics(bytes: &[u8]) -> Result<Vec<proto::Metric>, Twin> {
    let request = ExportMetricsServiceRequest::decode(bytes)?;
    check_all_exemplars(bytes)?;
    let scopes = request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
    Ok(scopes.flat_map(|scope| scope.metrics).collect())
}

fn decode_logs(bytes: &[u8]) -> Result<Vec<proto::LogRecord>, Twin> {
    let request = ExportLogsServiceRequest::decode(bytes)?;
    let ids = AllIdsLogs::decode(bytes)?;
    let records = ids.resource.iter().flat_map(|resource| &resource.scope).flat_map(|scope| &scope.records);
    for record in records {
        check_ids(&record.trace_ids, 16)?;
        check_ids(&record.span_ids, 8)?;
    }
    let scopes = request.resource_logs.into_iter().flat_map(|resource| resource.scope_logs);
    Ok(scopes.flat_map(|scope| scope.log_records).collect())
}

// The same messages with ids as repeated fields, so that each occurrence is seen and not only the last.

#[derive(Clone, PartialEq, Message)]
struct AllIdsLogs {
    #[prost(message, repeated, tag = "1")]
    resource: Vec<AllIdsResourceLogs>,
}

#[derive(Clone, PartialEq, Message)]
struct AllIdsResourceLogs {
    #[prost(message, repeated, tag = "2")]
    scope: Vec<AllIdsScopeLogs>,
}

#[derive(Clone, PartialEq, Message)]
struct AllIdsScopeLogs {
    #[prost(message, repeated, tag = "2")]
    records: Vec<AllIdsRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct AllIdsRecord {
    #[prost(bytes = "vec", repeated, tag = "9")]
    trace_ids: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "10")]
    span_ids: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct AllIdsMetrics {
    #[prost(message, repeated, tag = "1")]
    resource: Vec<AllIdsResourceMetrics>,
}

#[derive(Clone, PartialEq, Message)]
struct AllIdsResourceMetrics {
    #[prost(message, repeated, tag = "2")]
    scope: Vec<AllIdsScopeMetrics>,
}

#[derive(Clone, PartialEq, Message)]
struct AllIdsScopeMetrics {
    #[prost(message, repeated, tag = "2")]
    metrics: Vec<AllIdsMetric>,
}

/// Every data field on its own, so that those that a later one replaces are seen as well.
#[derive(Clone, PartialEq, Message)]
struct AllIdsMetric {
    #[prost(message, repeated, tag = "5")]
    gauges: Vec<AllIdsNumbers>,
    #[prost(message, repeated, tag = "7")]
    sums: Vec<AllIdsNumbers>,
    #[prost(message, repeated, tag = "9")]
    histograms: Vec<AllIdsHistograms>,
    #[prost(message, repeated, tag = "10")]
    exponentials: Vec<AllIdsExponentials>,
}

#[derive(Clone, PartialEq, Message)]
struct AllIdsNumbers {
    #[prost(message, repeated, tag = "1")]
    points: Vec<AllIdsNumber>,
}

#[derive(Clone, PartialEq, Message)]
struct AllIdsNumber {
    #[prost(message, repeated, tag = "5")]
    exemplars: Vec<AllIdsExemplar>,
}

#[derive(Clone, PartialEq, Message)]
struct AllIdsHistograms {
    #[prost(message, repeated, tag = "1")]
    points: Vec<AllIdsHistogram>,
}

#[derive(Clone, PartialEq, Message)]
struct AllIdsHistogram {
    #[prost(message, repeated, tag = "8")]
    exemplars: Vec<AllIdsExemplar>,
}

#[derive(Clone, PartialEq, Message)]
struct AllIdsExponentials {
    #[prost(message, repeated, tag = "1")]
    points: Vec<AllIdsExponential>,
}

#[derive(Clone, PartialEq, Message)]
struct AllIdsExponential {
    #[prost(message, repeated, tag = "11")]
    exemplars: Vec<AllIdsExemplar>,
}

#[derive(Clone, PartialEq, Message)]
struct AllIdsExemplar {
    #[prost(bytes = "vec", repeated, tag = "4")]
    span_ids: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "5")]
    trace_ids: Vec<Vec<u8>>,
}

fn check_all_exemplars(bytes: &[u8]) -> Result<(), Twin> {
    let all = AllIdsMetrics::decode(bytes)?;
    let scopes = all.resource.iter().flat_map(|resource| &resource.scope);
    for metric in scopes.flat_map(|scope| &scope.metrics) {
        let numbers = metric.gauges.iter().chain(&metric.sums).flat_map(|data| &data.points);
        let numbers = numbers.flat_map(|point| &point.exemplars);
        let histograms = metric.histograms.iter().flat_map(|data| &data.points).flat_map(|point| &point.exemplars);
        let exponentials = metric.exponentials.iter().flat_map(|data| &data.points);
        let exponentials = exponentials.flat_map(|point| &point.exemplars);
        for exemplar in numbers.chain(histograms).chain(exponentials) {
            check_ids(&exemplar.trace_ids, 16)?;
            check_ids(&exemplar.span_ids, 8)?;
        }
    }
    Ok(())
}
