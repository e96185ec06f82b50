//! A naive twin of the remote write translator, and an independent decoder of both protocols.
//!
//! The twin decodes everything with prost, keeps each point in ordered maps by its series, and lists what must be in the
//! requests. It shares the rules for names with the translator, which have golden tests of their own, and nothing else.

use std::collections::BTreeMap;

use prost::Message;

use super::metrics_proto::*;
use crate::otlp::attributes::Fields;
use crate::otlp::proto::{AnyValue, InstrumentationScope, KeyValue, Resource, Value};
use crate::prometheus::twin_parts::{bound_text, family_name, label_of, target_label_of, value_text};
use crate::prometheus::{Counts, Protocol, ResourceLabels, STALE, Settings, Translator, WriteRequest};

/// The labels of a series.
pub type Labels = BTreeMap<String, String>;

/// What requests say of one series, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    /// Time in milliseconds, bits of the value, start time.
    pub samples: Vec<(i64, u64, i64)>,
    /// Native histograms.
    pub histograms: Vec<Native>,
    /// Time, bits of the value, labels.
    pub exemplars: Vec<(i64, u64, Labels)>,
    /// Type, help and unit, with 2.0.
    pub metadata: Vec<(i32, String, String)>,
}

/// A native histogram, bucket by bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Native {
    /// Milliseconds.
    pub time_ms: i64,
    /// Milliseconds, with 2.0.
    pub start_ms: i64,
    /// Observations.
    pub count: u64,
    /// Bits of the sum.
    pub sum: u64,
    /// Resolution.
    pub schema: i32,
    /// Bits of the zero bucket's width.
    pub zero_threshold: u64,
    /// Observations in the zero bucket.
    pub zero_count: u64,
    /// Buckets that are not empty, by number.
    pub positive: BTreeMap<i32, i64>,
    /// The same below zero.
    pub negative: BTreeMap<i32, i64>,
}

/// All series of some requests.
pub type SeriesMap = BTreeMap<Labels, Series>;

/// Reads requests as a receiver does.
///
/// # Panics
/// A request breaks the protocol: labels that are not sorted, unique and non-empty, symbols that are not unique or
/// missing, samples out of order, a name missing, numbers that differ from those beside the body.
#[must_use]
pub fn decode_requests(requests: &[WriteRequest], protocol: Protocol) -> SeriesMap {
    let mut all = SeriesMap::new();
    for request in requests {
        let before = totals(&all);
        let series = match protocol {
            Protocol::V1 => decode_v1(&request.body, &mut all),
            Protocol::V2 => decode_v2(&request.body, &mut all),
        };
        let after = totals(&all);
        assert_eq!(series, request.series, "series are counted");
        assert_eq!(after.0 - before.0, request.samples, "samples are counted");
        assert_eq!(after.1 - before.1, request.histograms, "histograms are counted");
        assert_eq!(after.2 - before.2, request.exemplars, "exemplars are counted");
    }
    for series in all.values_mut() {
        series.samples.sort();
        series.histograms.sort();
        series.exemplars.sort();
        series.metadata.sort();
        series.metadata.dedup();
    }
    all
}

fn totals(all: &SeriesMap) -> (u64, u64, u64) {
    let sum = |length: fn(&Series) -> usize| all.values().map(|series| length(series) as u64).sum();
    (sum(|one| one.samples.len()), sum(|one| one.histograms.len()), sum(|one| one.exemplars.len()))
}

fn decode_v1(body: &[u8], all: &mut SeriesMap) -> u64 {
    let request = WriteV1::decode(body).expect("a request is a message");
    assert!(request.timeseries.is_empty() || request.metadata.is_empty(), "metadata has requests of its own");
    for series in &request.timeseries {
        let pairs: Vec<_> = series.labels.iter().map(|label| (label.name.clone(), label.value.clone())).collect();
        let into = all.entry(series_labels(&pairs)).or_default();
        add_samples(&series.samples, &series.histograms, into);
        for exemplar in &series.exemplars {
            let pairs: Vec<_> = exemplar.labels.iter().map(|label| (label.name.clone(), label.value.clone())).collect();
            into.exemplars.push((exemplar.timestamp, exemplar.value.to_bits(), checked_labels(&pairs)));
        }
    }
    request.timeseries.len() as u64
}

fn decode_v2(body: &[u8], all: &mut SeriesMap) -> u64 {
    let request = WriteV2::decode(body).expect("a request is a message");
    assert_eq!(request.symbols.first().map(String::as_str), Some(""), "the first symbol is the empty text");
    let mut symbols: Vec<&String> = request.symbols.iter().collect();
    symbols.sort();
    symbols.dedup();
    assert_eq!(symbols.len(), request.symbols.len(), "symbols are unique");
    let text = |reference: u32| request.symbols[reference as usize].clone();
    let pairs = |references: &[u32]| -> Vec<(String, String)> {
        let (pairs, rest) = references.as_chunks::<2>();
        assert!(rest.is_empty(), "names have values");
        pairs.iter().map(|[name, value]| (text(*name), text(*value))).collect()
    };
    for series in &request.timeseries {
        let into = all.entry(series_labels(&pairs(&series.labels_refs))).or_default();
        add_samples(&series.samples, &series.histograms, into);
        for exemplar in &series.exemplars {
            let labels = checked_labels(&pairs(&exemplar.labels_refs));
            into.exemplars.push((exemplar.timestamp, exemplar.value.to_bits(), labels));
        }
        let metadata = series.metadata.expect("each series has metadata");
        into.metadata.push((metadata.metric_type, text(metadata.help_ref), text(metadata.unit_ref)));
        let starts: Vec<i64> = series.samples.iter().map(|sample| sample.start_timestamp).collect();
        let starts = [starts, series.histograms.iter().map(|one| one.start_timestamp).collect()].concat();
        let last = starts.iter().rfind(|start| **start != 0).copied().unwrap_or_default();
        assert_eq!(series.created_timestamp, last, "both protocol versions say when a series started");
    }
    request.timeseries.len() as u64
}

fn series_labels(pairs: &[(String, String)]) -> Labels {
    let labels = checked_labels(pairs);
    assert!(labels.contains_key("__name__"), "{labels:?}: a series has a name");
    labels
}

fn checked_labels(pairs: &[(String, String)]) -> Labels {
    assert!(pairs.is_sorted_by(|left, right| left.0 < right.0), "{pairs:?}: labels are sorted and unique");
    assert!(pairs.iter().all(|(name, value)| !name.is_empty() && !value.is_empty()), "{pairs:?}: none is empty");
    pairs.iter().cloned().collect()
}

fn add_samples(samples: &[SampleOut], histograms: &[HistogramOut], into: &mut Series) {
    assert!(samples.is_sorted_by_key(|sample| sample.timestamp), "samples are in order");
    assert!(histograms.is_sorted_by_key(|histogram| histogram.timestamp), "histograms are in order");
    assert!(samples.is_empty() || histograms.is_empty(), "a series has one or the other");
    let sample = |sample: &SampleOut| (sample.timestamp, sample.value.to_bits(), sample.start_timestamp);
    into.samples.extend(samples.iter().map(sample));
    into.histograms.extend(histograms.iter().map(|histogram| Native {
        time_ms: histogram.timestamp,
        start_ms: histogram.start_timestamp,
        count: histogram.count_int.expect("counts are integers"),
        sum: histogram.sum.to_bits(),
        schema: histogram.schema,
        zero_threshold: histogram.zero_threshold.to_bits(),
        zero_count: histogram.zero_count_int.unwrap_or_default(),
        positive: expand(&histogram.positive_spans, &histogram.positive_deltas),
        negative: expand(&histogram.negative_spans, &histogram.negative_deltas),
    }));
}

fn expand(spans: &[SpanOut], deltas: &[i64]) -> BTreeMap<i32, i64> {
    let (mut buckets, mut number, mut count) = (BTreeMap::new(), 0_i64, 0);
    let mut deltas = deltas.iter();
    for span in spans {
        number += i64::from(span.offset);
        for _ in 0..span.length {
            count += deltas.next().expect("each bucket has a delta");
            if count != 0 {
                buckets.insert(i32::try_from(number).expect("bucket numbers have 32 bits"), count);
            }
            number += 1;
        }
    }
    assert_eq!(deltas.next(), None, "each delta has a bucket");
    buckets
}

/// What must be in the requests for `request` if it is one push, and how many points must not.
#[must_use]
pub fn expected(request: &MetricsRequest, settings: &Settings) -> (SeriesMap, u64) {
    let mut twin = Twin { settings, groups: BTreeMap::new(), targets: BTreeMap::new(), dropped: 0 };
    for resource in &request.resource_metrics {
        for scope in &resource.scope_metrics {
            scope.metrics.iter().for_each(|metric| twin.metric(resource, scope, metric));
        }
    }
    twin.finish()
}

/// A point of any kind.
#[derive(Clone, Debug)]
enum AnyPoint {
    Number(NumberPoint, bool),
    Histogram(HistogramPoint),
    Exponential(ExponentialPoint),
    Summary(SummaryPoint),
}

/// Class, name and labels.
type GroupKey = (u8, String, Labels);
/// Points by time, and the metadata of the first.
type TwinGroup = (BTreeMap<i64, AnyPoint>, (i32, String, String));

struct Twin<'a> {
    settings: &'a Settings,
    /// By class, name and labels; then by time. With the metadata of the first point.
    groups: BTreeMap<GroupKey, TwinGroup>,
    /// The newest point of each resource.
    targets: BTreeMap<Vec<u8>, (Resource, u64)>,
    dropped: u64,
}

impl Twin<'_> {
    fn metric(&mut self, resource: &ResourceMetrics, scope: &ScopeMetrics, metric: &Metric) {
        let (class, temporality, points): (u8, i32, Vec<AnyPoint>) = match metric.data.clone() {
            None => return,
            Some(Data::Gauge(data)) => (0, 2, numbers(data.data_points, false)),
            Some(Data::Sum(data)) => (0, data.aggregation_temporality, numbers(data.data_points, data.is_monotonic)),
            Some(Data::Histogram(data)) => {
                let points = data.data_points.into_iter().map(AnyPoint::Histogram);
                (1, data.aggregation_temporality, points.collect())
            }
            Some(Data::Exponential(data)) => {
                let points = data.data_points.into_iter().map(AnyPoint::Exponential);
                (2, data.aggregation_temporality, points.collect())
            }
            Some(Data::Summary(data)) => (3, 2, data.data_points.into_iter().map(AnyPoint::Summary).collect()),
        };
        let end = match &metric.data {
            Some(Data::Sum(data)) if data.is_monotonic => "total",
            Some(Data::Gauge(_) | Data::Sum(_)) if metric.unit == b"1" => "ratio",
            _ => "",
        };
        let name = family_name(&text(&metric.name), &text(&metric.unit), end, self.settings);
        for point in points {
            let (Some(name), 2, true) = (&name, temporality, is_valid(&point)) else {
                self.dropped += 1;
                continue;
            };
            let attributes = attributes_of(&point);
            let resource = resource.resource.clone().unwrap_or_default();
            let labels = self.labels(attributes, &resource, scope.scope.as_ref(), class);
            let (time_ns, time_ms) = (time_of(&point), (time_of(&point) / 1_000_000) as i64);
            let key = ResourceMetrics { resource: Some(resource.clone()), ..ResourceMetrics::default() };
            let newest = self.targets.entry(key.encode_to_vec()).or_insert((resource, 0));
            newest.1 = newest.1.max(time_ns);
            let metric_type = match (class, end) {
                (0, "total") => 1,
                (0, _) => 2,
                (3, _) => 5,
                _ => 3,
            };
            let metadata = (metric_type, text(&metric.description), text(&metric.unit));
            let group = self.groups.entry((class, name.clone(), labels)).or_insert((BTreeMap::new(), metadata));
            self.dropped += u64::from(group.0.insert(time_ms, point).is_some());
        }
    }

    fn labels(
        &self,
        attributes: &[KeyValue],
        resource: &Resource,
        scope: Option<&InstrumentationScope>,
        class: u8,
    ) -> Labels {
        let mut pairs: Vec<(String, String)> = attributes.iter().map(pair).collect();
        let service = ["service.name", "service.namespace", "service.instance.id"];
        for (key, value) in resource.attributes.iter().map(pair) {
            match &self.settings.resource_labels {
                ResourceLabels::All { excludes_service } if !(*excludes_service && service.contains(&key.as_str())) => {
                    pairs.retain(|(other, _)| *other != key);
                    pairs.push((key, value));
                }
                ResourceLabels::Promoted(keys)
                    if keys.contains(&key) && !pairs.iter().any(|(other, _)| *other == key) =>
                {
                    pairs.push((key, value));
                }
                _ => {}
            }
        }
        let mut labels = joined(pairs, |key| label_of(key, self.settings));
        self.identify(resource, &mut labels);
        let scope = scope.filter(|_| self.settings.has_scope_labels);
        if let Some(scope) = scope {
            let mut own = vec![
                ("otel_scope_name".to_owned(), text(&scope.name)),
                ("otel_scope_version".to_owned(), text(&scope.version)),
            ];
            for (key, value) in scope.attributes.iter().map(pair) {
                let is_special = ["name", "version", "schema_url"].contains(&key.as_str());
                if let Some(name) = label_of(&format!("otel_scope_{key}"), self.settings).filter(|_| !is_special) {
                    own.push((name, value));
                }
            }
            labels.extend(own.into_iter().filter(|(_, value)| !value.is_empty()));
        }
        let extra = ["", "le", "", "quantile"][usize::from(class)];
        labels.remove(extra);
        labels.remove("__name__");
        labels
    }

    fn identify(&self, resource: &Resource, labels: &mut Labels) {
        let value = |key: &str| {
            let found = resource.attributes.iter().map(pair).find(|(name, _)| name == key);
            found.map(|(_, value)| value).filter(|value| !value.is_empty())
        };
        match (value("service.namespace"), value("service.name")) {
            (Some(namespace), Some(name)) => labels.insert("job".to_owned(), format!("{namespace}/{name}")),
            (None, Some(name)) => labels.insert("job".to_owned(), name),
            _ => None,
        };
        if let Some(instance) = value("service.instance.id") {
            labels.insert("instance".to_owned(), instance);
        }
        for (name, value) in &self.settings.external_labels {
            labels.entry(name.clone()).or_insert(value.clone());
        }
    }

    fn finish(mut self) -> (SeriesMap, u64) {
        self.add_targets();
        let mut all = SeriesMap::new();
        for ((class, name, labels), (points, metadata)) in &self.groups {
            let written = Written { class: *class, name, labels, metadata, protocol: self.settings.protocol };
            points.iter().for_each(|(time_ms, point)| written.point(*time_ms, point, &mut all));
        }
        for series in all.values_mut() {
            series.samples.sort();
            series.histograms.sort();
            series.exemplars.sort();
            series.metadata.sort();
            series.metadata.dedup();
        }
        (all, self.dropped)
    }

    fn add_targets(&mut self) {
        let service = ["service.name", "service.namespace", "service.instance.id"];
        for (resource, newest_ns) in std::mem::take(&mut self.targets).into_values() {
            let pairs: Vec<_> =
                resource.attributes.iter().map(pair).filter(|(key, _)| !service.contains(&key.as_str())).collect();
            let mut identity = Labels::new();
            let without_external = Settings { external_labels: Vec::new(), ..self.settings.clone() };
            Twin { settings: &without_external, groups: BTreeMap::new(), targets: BTreeMap::new(), dropped: 0 }
                .identify(&resource, &mut identity);
            if !self.settings.has_target_info || newest_ns == 0 || pairs.is_empty() || identity.is_empty() {
                continue;
            }
            let mut labels = joined(pairs, |key| target_label_of(key, self.settings));
            self.identify(&resource, &mut labels);
            let name = family_name("target_info", "", "", self.settings).expect("it has letters");
            let point = NumberPoint { value: Some(Number::Int(1)), ..NumberPoint::default() };
            let metadata = (2, "Target metadata".to_owned(), String::new());
            let group = self.groups.entry((0, name, labels)).or_insert((BTreeMap::new(), metadata));
            group.0.insert((newest_ns / 1_000_000) as i64, AnyPoint::Number(point, false));
        }
    }
}

/// One group's way into series.
struct Written<'a> {
    class: u8,
    name: &'a str,
    labels: &'a Labels,
    metadata: &'a (i32, String, String),
    protocol: Protocol,
}

impl Written<'_> {
    fn series<'b>(&self, suffix: &str, extra: Option<&str>, all: &'b mut SeriesMap) -> &'b mut Series {
        let mut labels = self.labels.clone();
        labels.insert("__name__".to_owned(), format!("{}{suffix}", self.name));
        if let Some(value) = extra {
            labels.insert(if self.class == 1 { "le" } else { "quantile" }.to_owned(), value.to_owned());
        }
        let series = all.entry(labels).or_default();
        if self.protocol == Protocol::V2 {
            series.metadata.push(self.metadata.clone());
        }
        series
    }

    fn start(&self, start_ns: u64) -> i64 {
        if self.protocol == Protocol::V2 { (start_ns / 1_000_000) as i64 } else { 0 }
    }

    fn point(&self, time_ms: i64, point: &AnyPoint, all: &mut SeriesMap) {
        match point {
            AnyPoint::Number(point, is_counter) => {
                let value = if is_stale(point.flags) { STALE } else { number(point.value.as_ref()) };
                let start = if *is_counter { self.start(point.start_time_unix_nano) } else { 0 };
                let series = self.series("", None, all);
                series.samples.push((time_ms, value.to_bits(), start));
                if *is_counter && !is_stale(point.flags) {
                    series.exemplars.extend(point.exemplars.iter().map(exemplar));
                }
            }
            AnyPoint::Histogram(point) => self.histogram(time_ms, point, all),
            AnyPoint::Exponential(point) => {
                let native = native(time_ms, self.start(point.start_time_unix_nano), point);
                let series = self.series("", None, all);
                series.histograms.push(native);
                if !is_stale(point.flags) {
                    series.exemplars.extend(point.exemplars.iter().map(exemplar));
                }
            }
            AnyPoint::Summary(point) => {
                let start = self.start(point.start_time_unix_nano);
                let value = |value: f64| if is_stale(point.flags) { STALE } else { value }.to_bits();
                self.series("_sum", None, all).samples.push((time_ms, value(point.sum), start));
                self.series("_count", None, all).samples.push((time_ms, value(point.count as f64), start));
                for at in &point.quantile_values {
                    let series = self.series("", Some(&bound_text(at.quantile)), all);
                    series.samples.push((time_ms, value(at.value), start));
                }
            }
        }
    }

    fn histogram(&self, time_ms: i64, point: &HistogramPoint, all: &mut SeriesMap) {
        let start = self.start(point.start_time_unix_nano);
        let value = |value: f64| if is_stale(point.flags) { STALE } else { value }.to_bits();
        if let Some(sum) = point.sum {
            self.series("_sum", None, all).samples.push((time_ms, value(sum), start));
        }
        self.series("_count", None, all).samples.push((time_ms, value(point.count as f64), start));
        let has_buckets = !point.bucket_counts.is_empty() || is_stale(point.flags);
        let bounds: &[f64] = if has_buckets { &point.explicit_bounds } else { &[] };
        let mut bounds = bounds.to_vec();
        bounds.retain(|bound| *bound != f64::INFINITY);
        let mut exemplars: Vec<&Exemplar> = point.exemplars.iter().filter(|_| !is_stale(point.flags)).collect();
        for (number, bound) in bounds.iter().enumerate() {
            let count = point.bucket_counts.iter().take(number + 1).fold(0_u64, |sum, one| sum.saturating_add(*one));
            let series = self.series("_bucket", Some(&bound_text(*bound)), all);
            series.samples.push((time_ms, value(count as f64), start));
            let (inside, rest) = exemplars.into_iter().partition(|one| exemplar_value(one) <= *bound);
            series.exemplars.extend(Vec::into_iter(inside).map(exemplar));
            exemplars = rest;
        }
        let series = self.series("_bucket", Some("+Inf"), all);
        series.samples.push((time_ms, value(point.count as f64), start));
        series.exemplars.extend(exemplars.into_iter().map(exemplar));
    }
}

fn numbers(points: Vec<NumberPoint>, is_counter: bool) -> Vec<AnyPoint> {
    points.into_iter().map(|point| AnyPoint::Number(point, is_counter)).collect()
}

fn native(time_ms: i64, start_ms: i64, point: &ExponentialPoint) -> Native {
    let schema = point.scale.min(8);
    if is_stale(point.flags) {
        return Native { time_ms, start_ms, sum: STALE.to_bits(), schema, ..Native::default() };
    }
    let width = 1_i128 << (point.scale - schema).min(63);
    let buckets = |side: &Option<Buckets>| {
        let mut merged = BTreeMap::new();
        for (at, count) in side.iter().flat_map(|side| side.bucket_counts.iter().enumerate()) {
            let number = i128::from(side.as_ref().map_or(0, |side| side.offset)) + at as i128;
            if *count != 0 {
                *merged.entry((number.div_euclid(width) + 1) as i32).or_default() += *count as i64;
            }
        }
        merged
    };
    let threshold = if point.zero_threshold == 0.0 { 1e-128 } else { point.zero_threshold };
    Native {
        time_ms,
        start_ms,
        count: point.count,
        sum: point.sum.unwrap_or_default().to_bits(),
        schema,
        zero_threshold: threshold.to_bits(),
        zero_count: point.zero_count,
        positive: buckets(&point.positive),
        negative: buckets(&point.negative),
    }
}

fn is_valid(point: &AnyPoint) -> bool {
    match point {
        AnyPoint::Number(point, _) => point.value.is_some() || is_stale(point.flags),
        AnyPoint::Histogram(point) => {
            let bounds = &point.explicit_bounds;
            let rises = bounds.windows(2).all(|pair| pair[0] < pair[1]) && !bounds.iter().any(|bound| bound.is_nan());
            let fits = point.bucket_counts.len() == bounds.len() + 1;
            match (point.bucket_counts.is_empty(), is_stale(point.flags)) {
                (true, false) => true,
                (_, true) => rises,
                (false, false) => rises && fits,
            }
        }
        AnyPoint::Exponential(point) => {
            let sides = [&point.positive, &point.negative];
            let counts = sides.iter().filter_map(|side| side.as_ref()).flat_map(|side| &side.bucket_counts);
            let total: u128 = counts.map(|count| u128::from(*count)).sum::<u128>() + u128::from(point.zero_count);
            let is_nan = point.sum.is_some_and(f64::is_nan);
            let fits = total == point.count.into() || is_nan && total < point.count.into();
            let threshold = point.zero_threshold >= 0.0 && point.zero_threshold.is_finite();
            point.scale >= -4 && (is_stale(point.flags) || fits && threshold)
        }
        AnyPoint::Summary(point) => {
            let mut quantiles: Vec<f64> = point.quantile_values.iter().map(|at| at.quantile).collect();
            quantiles.sort_by(f64::total_cmp);
            quantiles.windows(2).all(|pair| pair[0] < pair[1]) && !quantiles.iter().any(|one| one.is_nan())
        }
    }
}

fn attributes_of(point: &AnyPoint) -> &[KeyValue] {
    match point {
        AnyPoint::Number(point, _) => &point.attributes,
        AnyPoint::Histogram(point) => &point.attributes,
        AnyPoint::Exponential(point) => &point.attributes,
        AnyPoint::Summary(point) => &point.attributes,
    }
}

fn time_of(point: &AnyPoint) -> u64 {
    match point {
        AnyPoint::Number(point, _) => point.time_unix_nano,
        AnyPoint::Histogram(point) => point.time_unix_nano,
        AnyPoint::Exponential(point) => point.time_unix_nano,
        AnyPoint::Summary(point) => point.time_unix_nano,
    }
}

fn is_stale(flags: u32) -> bool {
    flags & 1 == 1
}

fn number(value: Option<&Number>) -> f64 {
    match value {
        Some(Number::Double(value)) => *value,
        Some(Number::Int(value)) => *value as f64,
        None => 0.0,
    }
}

fn exemplar_value(exemplar: &Exemplar) -> f64 {
    match exemplar.value {
        Some(ExemplarValue::Double(value)) => value,
        Some(ExemplarValue::Int(value)) => value as f64,
        None => 0.0,
    }
}

fn exemplar(exemplar: &Exemplar) -> (i64, u64, Labels) {
    let hex = |id: &[u8]| -> String { id.iter().map(|byte| format!("{byte:02x}")).collect() };
    let mut labels = Labels::new();
    if exemplar.trace_id.len() == 16 && exemplar.trace_id != [0; 16] {
        labels.insert("trace_id".to_owned(), hex(&exemplar.trace_id));
    }
    if exemplar.span_id.len() == 8 && exemplar.span_id != [0; 8] {
        labels.insert("span_id".to_owned(), hex(&exemplar.span_id));
    }
    let mut with_attributes = labels.clone();
    for (key, value) in exemplar.filtered_attributes.iter().map(pair).filter(|(_, value)| !value.is_empty()) {
        if let Some(name) = label_of(&key, &Settings::default()) {
            with_attributes.entry(name).or_insert(value);
        }
    }
    let letters: usize = with_attributes.iter().flat_map(|(name, value)| name.chars().chain(value.chars())).count();
    let labels = if letters <= 128 { with_attributes } else { labels };
    ((exemplar.time_unix_nano / 1_000_000) as i64, exemplar_value(exemplar).to_bits(), labels)
}

/// Equal names get their values joined; sorted by the original name, each value once.
fn joined(mut pairs: Vec<(String, String)>, rename: impl Fn(&str) -> Option<String>) -> Labels {
    pairs.sort_by(|left, right| left.0.cmp(&right.0));
    let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, value) in pairs.into_iter().filter(|(_, value)| !value.is_empty()) {
        if let Some(name) = rename(&key) {
            let list = values.entry(name).or_default();
            let is_known = list.iter().any(|other| other.split(';').any(|part| part == value));
            if !is_known {
                list.push(value);
            }
        }
    }
    values.into_iter().map(|(name, list)| (name, list.join(";"))).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn pair(attribute: &KeyValue) -> (String, String) {
    let value = attribute.value.clone().unwrap_or_default().encode_to_vec();
    (text(&attribute.key), value_text(&value))
}

/// Translates the requests in `bytes`, each a push of its own.
#[must_use]
pub fn translate(bytes: &[&[u8]], settings: &Settings) -> (Vec<Vec<WriteRequest>>, Counts) {
    let mut translator = Translator::new(settings.clone(), 0x7472_6163_6567_6174);
    let pushes = bytes.iter().map(|bytes| push(&mut translator, bytes)).collect();
    let counts = translator.counts().clone();
    (pushes, counts)
}

/// Translates one request; what is malformed in it ends what it is part of.
pub fn push(translator: &mut Translator, bytes: &[u8]) -> Vec<WriteRequest> {
    let mut out = Vec::new();
    for resource in children(bytes, 1) {
        translator.resource(&others(resource, 2));
        for scope in children(resource, 2) {
            translator.scope(&others(scope, 2));
            for metric in children(scope, 2) {
                let mut at = 0;
                while let Some(next) = translator.metric(metric, at) {
                    translator.finish(&mut out);
                    at = next;
                }
            }
        }
    }
    translator.finish(&mut out);
    out
}

fn children(message: &[u8], number: u32) -> impl Iterator<Item = &[u8]> {
    Fields::of(message).filter(move |field| field.tag.number == number).map(|field| field.body)
}

fn others(message: &[u8], child: u32) -> Vec<u8> {
    Fields::of(message).filter(|field| field.tag.number != child).flat_map(|field| field.raw).copied().collect()
}

/// Checks that `request` is translated as the twin does it, and that every point is accounted for.
///
/// # Panics
/// It is not.
pub fn check_translation(request: &MetricsRequest, settings: &Settings) {
    let bytes = request.encode_to_vec();
    let (pushes, counts) = translate(&[&bytes, &bytes], settings);
    check_counts(&pushes, &counts);
    // Through the wire, where a negative zero is not written.
    let request = MetricsRequest::decode(&bytes[..]).expect("it was just encoded");
    let (series, dropped) = expected(&request, settings);
    for requests in &pushes {
        let found = decode_requests(requests, settings.protocol);
        if counts.cache_clears == 0 && settings.request_bytes_max > LARGE {
            for labels in found.keys().chain(series.keys()) {
                assert_eq!(found.get(labels), series.get(labels), "{labels:?}");
            }
            let written: u64 = requests.iter().map(|request| request.points).sum();
            assert_eq!(written + dropped, counts.points / 2);
        } else {
            // A push that is cut in two has a series twice, and cannot know what is replaced later.
            for (labels, series) in &series {
                let found = found.get(labels).unwrap_or_else(|| panic!("{labels:?} is missing"));
                let is_in = series.samples.iter().all(|sample| found.samples.contains(sample));
                assert!(is_in, "{labels:?}: {series:?} is not in {found:?}");
            }
        }
    }
    let owner = |request: &WriteRequest| {
        let series = decode_requests(std::slice::from_ref(request), settings.protocol);
        series.into_keys().map(|labels| (labels, request.owner)).collect::<Vec<_>>()
    };
    let mut owners = BTreeMap::new();
    for (labels, owner) in pushes.iter().flatten().flat_map(owner) {
        assert_eq!(*owners.entry(labels).or_insert(owner), owner, "a series has one owner");
        assert!(owner < settings.owners.max(1));
    }
}

/// A request's limit that no request of the builder reaches.
const LARGE: usize = 1 << 20;

fn check_counts(pushes: &[Vec<WriteRequest>], counts: &Counts) {
    let requests = || pushes.iter().flatten();
    assert_eq!(counts.points, counts.written + counts.dropped_total(), "every point is accounted for: {counts:?}");
    assert_eq!(counts.written, requests().map(|request| request.points).sum::<u64>());
    assert_eq!(counts.samples, requests().map(|request| request.samples).sum::<u64>());
    assert_eq!(counts.histograms, requests().map(|request| request.histograms).sum::<u64>());
    assert_eq!(counts.exemplars, requests().map(|request| request.exemplars).sum::<u64>());
}

/// Checks that any bytes are translated without a panic into well-formed requests, and that every point is accounted for.
///
/// # Panics
/// They are not.
pub fn check_any_bytes(bytes: &[u8]) {
    let (choices, bytes) = bytes.split_at(bytes.len().min(4));
    let settings = Choices { rest: choices }.settings();
    let (pushes, counts) = translate(&[bytes, bytes], &settings);
    check_counts(&pushes, &counts);
    pushes.iter().for_each(|requests| drop(decode_requests(requests, settings.protocol)));
}

/// Checks the request that `choices` stand for.
///
/// # Panics
/// The translator and the twin disagree.
pub fn check_choices(choices: &[u8]) {
    let mut choices = Choices { rest: choices };
    let settings = choices.settings();
    check_translation(&choices.request(), &settings);
}

/// Builds settings and requests; once the choices run out, everything ends.
struct Choices<'a> {
    rest: &'a [u8],
}

impl Choices<'_> {
    fn next(&mut self) -> u8 {
        match self.rest.split_first() {
            Some((&first, rest)) => {
                self.rest = rest;
                first
            }
            None => 0,
        }
    }

    fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[usize::from(self.next()) % all.len()].clone()
    }

    fn list<T>(&mut self, length_max: u8, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let length = self.next() % (length_max + 1);
        (0..length).map(|_| one(self)).collect()
    }

    fn settings(&mut self) -> Settings {
        use crate::prometheus::TranslationStrategy::{
            UnderscoreEscapingWithSuffixes, UnderscoreEscapingWithoutSuffixes,
        };
        let flags = self.next();
        let promoted = vec!["b".to_owned(), "service.name".to_owned()];
        let resource_labels = [
            ResourceLabels::None,
            ResourceLabels::All { excludes_service: false },
            ResourceLabels::All { excludes_service: true },
            ResourceLabels::Promoted(promoted),
        ];
        let external = vec![("job".to_owned(), "outside".to_owned()), ("zone".to_owned(), "eu".to_owned())];
        Settings {
            protocol: if flags & 1 == 0 { Protocol::V1 } else { Protocol::V2 },
            strategy: if flags & 2 == 0 { UnderscoreEscapingWithSuffixes } else { UnderscoreEscapingWithoutSuffixes },
            namespace: if flags & 4 == 0 { String::new() } else { "ns".to_owned() },
            external_labels: if flags & 8 == 0 { Vec::new() } else { external },
            has_target_info: flags & 16 == 0,
            has_scope_labels: flags & 32 == 0,
            sends_metadata: flags & 64 != 0,
            resource_labels: self.pick(&resource_labels),
            request_bytes_max: self.pick(&[3_000_000, 3_000_000, 300]),
            cache_bytes_max: if flags & 128 == 0 { 1 << 20 } else { 1000 },
            owners: 1 + u32::from(self.next() % 3),
            delta: None,
        }
    }

    fn request(&mut self) -> MetricsRequest {
        MetricsRequest { resource_metrics: self.list(3, Self::resource) }
    }

    fn resource(&mut self) -> ResourceMetrics {
        let attributes = self.list(4, |choices| {
            let key = choices.pick(&["service.name", "service.namespace", "service.instance.id", "b", "c.d"]);
            choices.key_value(key)
        });
        let resource = Some(Resource { attributes, dropped_attributes_count: 0 });
        ResourceMetrics { resource, scope_metrics: self.list(2, Self::scope) }
    }

    fn scope(&mut self) -> ScopeMetrics {
        let scope = InstrumentationScope {
            name: self.pick(&["", "meter"]).into(),
            version: self.pick(&["", "1.0"]).into(),
            attributes: self.list(1, Self::attribute),
            ..InstrumentationScope::default()
        };
        ScopeMetrics { scope: Some(scope), metrics: self.list(4, Self::metric) }
    }

    fn metric(&mut self) -> Metric {
        Metric {
            name: self.pick(&["a", "a.b", "1x", "a_count", "", "...", "total"]).into(),
            description: Vec::new(),
            unit: self.pick(&["", "1", "s", "By/s"]).into(),
            data: Some(self.data()),
            metadata: Vec::new(),
        }
    }

    fn data(&mut self) -> Data {
        let aggregation_temporality = self.pick(&[2, 2, 2, 1, 0]);
        match self.next() % 5 {
            0 => Data::Gauge(Numbers { data_points: self.list(4, Self::number), ..Numbers::default() }),
            1 => Data::Sum(Numbers {
                data_points: self.list(4, Self::number),
                aggregation_temporality,
                is_monotonic: !self.next().is_multiple_of(3),
            }),
            2 => Data::Histogram(Histograms { data_points: self.list(4, Self::histogram), aggregation_temporality }),
            3 => {
                let data_points = self.list(4, Self::exponential);
                Data::Exponential(Exponentials { data_points, aggregation_temporality })
            }
            _ => Data::Summary(Summaries { data_points: self.list(4, Self::summary) }),
        }
    }

    fn time(&mut self) -> u64 {
        self.pick(&[0, 1, 5_000_000, 7_000_000, 7_000_001, 1_760_000_000_000_000_000, u64::MAX])
    }

    fn double(&mut self) -> f64 {
        self.pick(&[0.0, -0.0, 1.0, -1.5, 2.5, 1e300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY])
    }

    fn number(&mut self) -> NumberPoint {
        NumberPoint {
            attributes: self.list(3, Self::attribute),
            start_time_unix_nano: self.time(),
            time_unix_nano: self.time(),
            value: match self.next() % 8 {
                0 => None,
                1..4 => Some(Number::Int(i64::from(self.next()) - 100)),
                _ => Some(Number::Double(self.double())),
            },
            exemplars: self.list(2, Self::exemplar),
            flags: u32::from(self.next() % 8 == 7),
        }
    }

    fn histogram(&mut self) -> HistogramPoint {
        let mut explicit_bounds = self.list(4, Self::double);
        if self.next() % 8 < 7 {
            explicit_bounds.retain(|bound| !bound.is_nan());
            explicit_bounds.sort_by(f64::total_cmp);
            explicit_bounds.dedup();
        }
        let length = explicit_bounds.len() + usize::from(self.next() % 8 < 7);
        let bucket_counts = if self.next() % 8 == 7 { Vec::new() } else { (0..length).map(|_| self.count()).collect() };
        HistogramPoint {
            attributes: self.list(3, Self::attribute),
            start_time_unix_nano: self.time(),
            time_unix_nano: self.time(),
            count: self.count(),
            sum: if self.next().is_multiple_of(4) { None } else { Some(self.double()) },
            bucket_counts,
            explicit_bounds,
            exemplars: self.list(3, Self::exemplar),
            flags: u32::from(self.next() % 8 == 7),
        }
    }

    fn count(&mut self) -> u64 {
        match self.next() {
            255 => u64::MAX,
            small => u64::from(small % 5),
        }
    }

    fn exponential(&mut self) -> ExponentialPoint {
        let (positive, negative) = (self.buckets(), self.buckets());
        let zero_count = self.count();
        let sides = [&positive, &negative];
        let counts = sides.iter().filter_map(|side| side.as_ref()).flat_map(|side| &side.bucket_counts);
        let total = counts.fold(zero_count, |sum, count| sum.wrapping_add(*count));
        ExponentialPoint {
            attributes: self.list(3, Self::attribute),
            start_time_unix_nano: self.time(),
            time_unix_nano: self.time(),
            count: total + u64::from(self.next() % 8 == 7 && total < u64::MAX),
            sum: if self.next().is_multiple_of(4) { None } else { Some(self.double()) },
            scale: self.pick(&[0, 8, 9, 10, 20, -4, -5, i32::MAX]),
            zero_count,
            positive,
            negative,
            flags: u32::from(self.next() % 8 == 7),
            exemplars: self.list(2, Self::exemplar),
            zero_threshold: self.pick(&[0.0, 0.0, 0.001, -1.0, f64::NAN]),
        }
    }

    fn buckets(&mut self) -> Option<Buckets> {
        let offset = self.pick(&[0, -3, 100, -1000, i32::MIN]);
        match self.next() % 4 {
            0 => None,
            _ => Some(Buckets { offset, bucket_counts: self.list(12, |choices| u64::from(choices.next() % 4)) }),
        }
    }

    fn summary(&mut self) -> SummaryPoint {
        SummaryPoint {
            attributes: self.list(3, Self::attribute),
            start_time_unix_nano: self.time(),
            time_unix_nano: self.time(),
            count: self.count(),
            sum: self.double(),
            quantile_values: self.list(3, |choices| {
                let quantile = choices.pick(&[0.0, 0.5, 0.99, 1.0, f64::NAN]);
                ValueAtQuantile { quantile, value: choices.double() }
            }),
            flags: u32::from(self.next() % 8 == 7),
        }
    }

    fn exemplar(&mut self) -> Exemplar {
        let value =
            if self.next().is_multiple_of(2) { ExemplarValue::Int(1) } else { ExemplarValue::Double(self.double()) };
        Exemplar {
            filtered_attributes: self.list(2, Self::attribute),
            time_unix_nano: self.time(),
            value: Some(value),
            span_id: if self.next().is_multiple_of(2) { Vec::new() } else { vec![7; 8] },
            trace_id: if self.next().is_multiple_of(2) { vec![0; 16] } else { vec![9; 16] },
        }
    }

    fn attribute(&mut self) -> KeyValue {
        let key = self.pick(&["a", "b", "b.c", "b_c", "le", "quantile", "job", "__name__", "", "_", "9", "é"]);
        self.key_value(key)
    }

    fn key_value(&mut self, key: &str) -> KeyValue {
        let value = match self.next() % 10 {
            0 => None,
            1 => Some(Value::Int(7)),
            2 => Some(Value::Bool(true)),
            3 => Some(Value::Double(self.double())),
            4 => Some(Value::String(b"bad \xff text".to_vec())),
            5 => Some(Value::String(vec![b'x'; 130])),
            6 => Some(Value::String(Vec::new())),
            other => Some(Value::String(format!("v{}", other % 2).into_bytes())),
        };
        KeyValue { key: key.into(), value: Some(AnyValue { value }) }
    }
}
