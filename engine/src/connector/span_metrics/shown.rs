//! Series as others read them: Prometheus text for `/metrics`, and an OTLP request for a metrics pipeline.
//!
//! Both read the labels back out of the keys. On a page two keys may say the same, such as the number 200 and the text
//! "200"; they are one series there, or the scraper would refuse the page. In OTLP values keep their types.

use super::{Buckets, Merged, Plan, Series, Source, Table, TablePlan};
use crate::config::checked::{DurationBuckets, DurationSettings, DurationUnit, LabelSettings, SpanMetricsSettings};
use crate::telemetry::exposition::write_escaped;
use codecs::otlp::attributes::Value;
use codecs::otlp::write_metrics::{
    ExplicitBuckets, ExponentialBuckets, PointTime, Points, Temporality, write_metric, write_resource_metrics,
    write_text_value,
};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::RangeInclusive;

/// The label of the series for what came when there was no room for another one, as in the Collector.
const OVERFLOW: &str = "otel.metric.overflow";
/// Name of the scope in OTLP, as in the Collector.
const SCOPE: &str = "spanmetricsconnector";

/// The value of a label, as it stands in a key.
enum Shown<'k> {
    /// One of our own words.
    Word(&'static str),
    /// An AnyValue.
    Encoded(&'k [u8]),
}

impl<'k> Shown<'k> {
    fn text(&self) -> Cow<'k, str> {
        match self {
            Shown::Word(word) => Cow::Borrowed(*word),
            Shown::Encoded(bytes) => match Value::read(bytes) {
                Value::String(text) => String::from_utf8_lossy(text),
                Value::Bool(truth) => Cow::Borrowed(if truth { "true" } else { "false" }),
                Value::Int(number) => Cow::Owned(number.to_string()),
                Value::Double(number) => Cow::Owned(number.to_string()),
                Value::Empty | Value::Array(_) | Value::Map(_) | Value::Bytes(_) => Cow::Borrowed(""),
            },
        }
    }

    fn any_value(&self) -> Cow<'k, [u8]> {
        match self {
            Shown::Encoded(bytes) => Cow::Borrowed(*bytes),
            Shown::Word(word) => {
                let mut bytes = Vec::new();
                write_text_value(&mut bytes, word.as_bytes());
                Cow::Owned(bytes)
            }
        }
    }
}

const KINDS: [&str; 6] = [
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
];
const STATUSES: [&str; 3] = ["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"];

impl Plan {
    /// Numbers and values of the labels in a key; absent ones are left out.
    fn labels_of<'k>(&self, table: &TablePlan, mut key: &'k [u8]) -> Vec<(usize, Shown<'k>)> {
        let mut labels = Vec::with_capacity(table.labels.len());
        for &label in &table.labels {
            let value = match self.sources[label] {
                Source::SpanKind => Some(Shown::Word(KINDS[usize::from(take_byte(&mut key))])),
                Source::StatusCode => Some(Shown::Word(STATUSES[usize::from(take_byte(&mut key))])),
                _ => take_value(&mut key).map(Shown::Encoded),
            };
            labels.extend(value.map(|value| (label, value)));
        }
        labels
    }

    /// The labels of a series on a page, without braces: equal ones are one series there.
    fn text_labels(&self, table: &TablePlan, key: &[u8]) -> String {
        let mut text = String::new();
        for (label, value) in self.labels_of(table, key) {
            // Prometheus takes an empty value for no label.
            let value = value.text();
            if !value.is_empty() {
                push_label(&mut text, &label_name(&self.settings.labels[label].name), &value);
            }
        }
        text
    }

    /// The plan and the series of the table with calls, or of that with durations.
    fn table<'m>(&self, merged: &'m Merged, wanted: fn(&TablePlan) -> bool) -> Option<(&TablePlan, &'m Table)> {
        self.tables.iter().zip(&merged.tables).find(|(plan, _)| wanted(plan))
    }
}

/// Keys are written by us, and always whole.
const WHOLE: &str = "a key holds all of its labels";

fn take_byte(key: &mut &[u8]) -> u8 {
    let (&byte, rest) = key.split_first().expect(WHOLE);
    *key = rest;
    byte
}

fn take_value<'k>(key: &mut &'k [u8]) -> Option<&'k [u8]> {
    let (length, rest) = key.split_first_chunk().expect(WHOLE);
    *key = rest;
    let length = usize::from(u16::from_le_bytes(*length)).checked_sub(1)?;
    let (value, rest) = key.split_at(length);
    *key = rest;
    Some(value)
}

fn push_label(labels: &mut String, name: &str, value: &str) {
    if !labels.is_empty() {
        labels.push(',');
    }
    labels.push_str(name);
    labels.push_str("=\"");
    write_escaped(labels, value);
    labels.push('"');
}

/// An attribute's name as a label of Prometheus: everything but letters, digits and `_` becomes `_`.
pub fn label_name(attribute: &str) -> String {
    let allowed = |character: char| if character.is_ascii_alphanumeric() { character } else { '_' };
    let name: String = attribute.chars().map(allowed).collect();
    if name.starts_with(|first: char| first.is_ascii_digit()) { format!("key_{name}") } else { name }
}

/// A metric's name as Prometheus writes it, with this ending unless it has it.
fn metric_name(name: &str, ending: &str) -> String {
    let mut name = label_name(name);
    if !name.ends_with(&format!("_{ending}")) {
        name = format!("{name}_{ending}");
    }
    name
}

/// The names of a connector's metrics on a page: the counter of spans and, if there is one, the histogram.
pub fn metric_names(settings: &SpanMetricsSettings) -> (String, Option<String>) {
    let duration = settings.duration.as_ref();
    let duration = duration.map(|duration| metric_name(&duration.name, duration.unit.long()));
    (metric_name(&settings.calls, "total"), duration)
}

/// Appends the connector's metrics to a page in the Prometheus text format 0.0.4.
pub fn write_page(page: &mut String, plan: &Plan, merged: &Merged) {
    let (calls, duration) = metric_names(&plan.settings);
    write_head(page, &calls, "counter", "Spans, as span_metrics counts them.");
    for (labels, series) in series_of(plan, merged, |table| table.calls) {
        write_sample(page, &calls, "", &labels, format_args!("{}", series.calls));
    }
    let (Some(name), Some(settings)) = (duration, &plan.settings.duration) else {
        return;
    };
    write_head(page, &name, "histogram", "Durations of spans, as span_metrics counts them.");
    for (labels, series) in series_of(plan, merged, |table| table.duration) {
        write_histogram(page, &name, &labels, settings, &series);
    }
}

/// The series of a metric with their labels, in the order of these; those that look the same are one.
fn series_of<'m>(plan: &Plan, merged: &'m Merged, wanted: fn(&TablePlan) -> bool) -> BTreeMap<String, Cow<'m, Series>> {
    let mut shown: BTreeMap<String, Cow<'m, Series>> = BTreeMap::new();
    let Some((table, held)) = plan.table(merged, wanted) else {
        return shown;
    };
    let mut overflow = String::new();
    push_label(&mut overflow, &label_name(OVERFLOW), "true");
    let own = held.series.iter().map(|(key, series)| (plan.text_labels(table, key), series));
    for (labels, series) in own.chain(held.overflow.iter().map(|series| (overflow.clone(), series))) {
        match shown.get_mut(&labels) {
            Some(known) => known.to_mut().merge(series),
            None => {
                shown.insert(labels, Cow::Borrowed(series));
            }
        }
    }
    shown
}

fn write_histogram(page: &mut String, name: &str, labels: &str, settings: &DurationSettings, series: &Series) {
    let per_unit = settings.unit.nanoseconds() as f64;
    let mut bucket = |bound: &str, count: u64| {
        let mut labels = labels.to_owned();
        push_label(&mut labels, "le", bound);
        write_sample(page, name, "_bucket", &labels, format_args!("{count}"));
    };
    match (&series.buckets, &settings.buckets) {
        (Buckets::Explicit(counts), DurationBuckets::Explicit(bounds)) => {
            let mut count = 0;
            for (bound, more) in bounds.iter().zip(counts) {
                count += more;
                bucket(&(*bound as f64 / per_unit).to_string(), count);
            }
        }
        (Buckets::Exponential(histogram), _) => {
            for power in powers(settings.unit) {
                bucket(&2f64.powi(power).to_string(), histogram.count_up_to(power));
            }
        }
        _ => {}
    }
    bucket("+Inf", series.calls);
    write_sample(page, name, "_sum", labels, format_args!("{}", series.duration_sum_ns as f64 / per_unit));
    write_sample(page, name, "_count", labels, format_args!("{}", series.calls));
}

/// Bounds that an exponential histogram has on a page, as powers of two of its unit: 1 ms (or 1/1024 s) to 70 minutes.
/// Text has no other way to show it, and bounds that came and went would confuse who computes with them.
fn powers(unit: DurationUnit) -> RangeInclusive<i32> {
    match unit {
        DurationUnit::Milliseconds => 0..=22,
        DurationUnit::Seconds => -10..=12,
    }
}

fn write_head(page: &mut String, name: &str, kind: &str, help: &str) {
    push(page, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
}

fn write_sample(page: &mut String, name: &str, ending: &str, labels: &str, value: std::fmt::Arguments<'_>) {
    match labels {
        "" => push(page, format_args!("{name}{ending} {value}\n")),
        _ => push(page, format_args!("{name}{ending}{{{labels}}} {value}\n")),
    }
}

fn push(page: &mut String, what: std::fmt::Arguments<'_>) {
    page.write_fmt(what).expect("writing to a string cannot fail");
}

/// The points of one resource, with its attributes.
#[derive(Default)]
struct ResourcePoints {
    attributes: Vec<(usize, Vec<u8>)>,
    calls: Points,
    durations: Points,
}

/// Since when points count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// All since this time, in nanoseconds since 1970: what they say is new.
    Then(u64),
    /// Each since its first span. This is when the monotonic clock showed 0, in nanoseconds since 1970.
    FirstSpan {
        /// See there.
        clock_zero_unix_ns: u64,
    },
}

/// What all points of a request say of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// When their counts began.
    pub since: Since,
    /// When they were read, in nanoseconds since 1970.
    pub time_unix_ns: u64,
}

impl Stamp {
    fn temporality(&self) -> Temporality {
        match self.since {
            Since::Then(_) => Temporality::Delta,
            Since::FirstSpan { .. } => Temporality::Cumulative,
        }
    }

    fn of(&self, series: &Series) -> PointTime {
        let start_unix_ns = match self.since {
            Since::Then(unix_ns) => unix_ns,
            Since::FirstSpan { clock_zero_unix_ns } => clock_zero_unix_ns.saturating_add(series.first_ns),
        };
        // A clock that was set back must not make a count end before it began.
        PointTime { start_unix_ns: start_unix_ns.min(self.time_unix_ns), time_unix_ns: self.time_unix_ns }
    }
}

/// The bytes of an ExportMetricsServiceRequest with all series; empty without any.
///
/// Series are grouped by the labels that belong to the resource. What had no series of its own has no resource either.
pub fn to_otlp(plan: &Plan, merged: &Merged, stamp: Stamp) -> Vec<u8> {
    // By the bytes of the resource's labels, so that the same series give the same request.
    let mut resources: BTreeMap<Vec<u8>, ResourcePoints> = BTreeMap::new();
    for (table, held) in plan.tables.iter().zip(&merged.tables) {
        let mut sorted: Vec<(&[u8], &Series)> = held.series.iter().map(|(key, series)| (&**key, series)).collect();
        sorted.sort_unstable_by_key(|(key, _)| *key);
        for (key, series) in sorted {
            let labels = plan.labels_of(table, key).into_iter().map(|(label, value)| (label, value.any_value()));
            let labels: Vec<(usize, Cow<'_, [u8]>)> = labels.collect();
            let of = |wanted: fn(&LabelSettings) -> bool| {
                labels.iter().filter(move |(label, _)| wanted(&plan.settings.labels[*label]))
            };
            let of_resource = || of(|label| label.of_resource);
            let identity = of_resource().flat_map(|(label, value)| [&[*label as u8], &value[..]].concat());
            let resource = resources.entry(identity.collect()).or_insert_with(|| ResourcePoints {
                attributes: of_resource().map(|(label, value)| (*label, value.to_vec())).collect(),
                ..ResourcePoints::default()
            });
            let attributes: Vec<(&str, &[u8])> = of(|label| label.of_point)
                .map(|(label, value)| (&*plan.settings.labels[*label].name, &value[..]))
                .collect();
            resource.add(plan, table, &attributes, stamp.of(series), series);
        }
        if let Some(series) = &held.overflow {
            // AnyValue.bool_value: field 2, true.
            let attributes: [(&str, &[u8]); 1] = [(OVERFLOW, &[0x10, 1])];
            resources.entry(Vec::new()).or_default().add(plan, table, &attributes, stamp.of(series), series);
        }
    }
    let mut request = Vec::new();
    for resource in resources.into_values() {
        resource.write(plan, stamp.temporality(), &mut request);
    }
    request
}

impl ResourcePoints {
    fn add(&mut self, plan: &Plan, table: &TablePlan, attributes: &[(&str, &[u8])], time: PointTime, series: &Series) {
        let attributes = || attributes.iter().copied();
        if table.calls {
            self.calls.number(attributes(), time, series.calls);
        }
        let Some(settings) = plan.settings.duration.as_ref().filter(|_| table.duration) else {
            return;
        };
        let per_unit = settings.unit.nanoseconds() as f64;
        let sum = series.duration_sum_ns as f64 / per_unit;
        match (&series.buckets, &settings.buckets) {
            (Buckets::Explicit(counts), DurationBuckets::Explicit(bounds)) => {
                let bounds: Vec<f64> = bounds.iter().map(|bound| *bound as f64 / per_unit).collect();
                self.durations.explicit(attributes(), time, sum, ExplicitBuckets { bounds: &bounds, counts });
            }
            (Buckets::Exponential(histogram), _) => {
                let buckets = ExponentialBuckets {
                    scale: histogram.scale(),
                    offset: histogram.offset(),
                    counts: histogram.counts(),
                    zero_count: histogram.zero_count(),
                };
                self.durations.exponential(attributes(), time, sum, buckets);
            }
            _ => {}
        }
    }

    fn write(self, plan: &Plan, temporality: Temporality, request: &mut Vec<u8>) {
        let mut metrics = Vec::new();
        if !self.calls.is_empty() {
            write_metric(&mut metrics, &plan.settings.calls, "", &self.calls.into_sum(temporality));
        }
        if let Some(settings) = plan.settings.duration.as_ref().filter(|_| !self.durations.is_empty()) {
            let points = match settings.buckets {
                DurationBuckets::Explicit(_) => self.durations.into_histogram(temporality),
                DurationBuckets::Exponential(_) => self.durations.into_exponential_histogram(temporality),
            };
            write_metric(&mut metrics, &settings.name, settings.unit.short(), &points);
        }
        let name = |label: usize| plan.settings.labels[label].name.as_str();
        let attributes = self.attributes.iter().map(|(label, value)| (name(*label), &value[..]));
        write_resource_metrics(request, attributes, SCOPE, &metrics);
    }
}
