//! `span_metrics`: calls and durations of every span that leaves a pipeline, by service, operation, kind, status and
//! what else is configured. Standing before sampling, it counts what sampling will drop.
//!
//! ```text
//! each shard:       batch -> labels of a span -> key -> its series        here: one table look-up a span, nothing shared
//! on a scrape:      a copy of every shard's series -> merged               `merged`
//! every interval:   the same, asked for by the shard that feeds pipelines  `flush`
//! what is shown:    Prometheus text, or the bytes of an OTLP request       `shown`
//! ```
//!
//! The key of a series is its labels, one after the other in the order of the settings: kind and status as one byte, any
//! other as the length of its AnyValue plus one in two bytes and then its bytes, or 0 where it is absent. So equal labels are equal bytes,
//! no label is made into text before somebody asks, and a known series costs no allocation. The number of series is
//! bounded: the spans of those that come too late are counted together, in a series that says so, and by a counter.

mod exponential;
mod flush;
mod merged;
mod shown;

pub use exponential::Exponential;
pub use flush::{Ask, Flusher};
pub use merged::{Forgotten, Merged};
pub use shown::{Since, Stamp, label_name, metric_names, to_otlp, write_page};

use crate::config::checked::{DurationBuckets, DurationSettings, LabelSource, SpanChoice, SpanMetricsSettings};
use crate::pipeline::batch::Batch;
use crate::telemetry::cells::Cells;
use crate::telemetry::metrics::SpanMetricsSeries;
use codecs::otlp::attributes::Value as AnyValue;
use codecs::otlp::{SpanItem, SpanKind, SpanPart, StatusCode, resource_attributes, span_bytes, span_parts};
use codecs::wire::{varint_length, write_varint};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of one label's value, encoded; longer texts are cut. Bounds what a sender can make a series cost.
pub const VALUE_BYTES_MAX: usize = 512;

/// Memory of a series beside its key and its buckets, about: the entry, its two boxes, the table's slack.
const SERIES_BYTES: usize = size_of::<Series>() + 64;

/// Memory of one connector's series on one shard; beyond it there is no new one, as beyond their number.
const HELD_BYTES_MAX: usize = 64 << 20;

/// What is counted, prepared for being asked about every span. Made once per connector, shared by all shards.
#[derive(Debug)]
pub struct Plan {
    settings: SpanMetricsSettings,
    /// Attributes that are looked for in spans, and then in their resource.
    span_keys: Vec<Vec<u8>>,
    /// Attributes that are looked for in resources only.
    resource_keys: Vec<Vec<u8>>,
    /// Of each label of the settings.
    sources: Vec<Source>,
    /// The attribute that says that a server span is no HTTP request.
    other_protocol: Option<usize>,
    /// One, or two if calls and durations have different labels.
    tables: Vec<TablePlan>,
}

/// Where a label's value comes from: places among the keys of the plan.
#[derive(Clone, Debug)]
enum Source {
    Resource(usize),
    SpanName,
    SpanKind,
    StatusCode,
    Attribute(Range<usize>),
    HttpStatus(Range<usize>),
}

/// What one table holds.
#[derive(Clone, Debug)]
pub struct TablePlan {
    /// Numbers of the labels in its keys.
    labels: Vec<usize>,
    calls: bool,
    duration: bool,
    /// Memory of one series beside its key.
    series_bytes: usize,
}

impl Plan {
    /// Prepares what the settings say.
    pub fn new(settings: SpanMetricsSettings) -> Plan {
        let (mut span_keys, mut resource_keys): (Vec<Vec<u8>>, Vec<Vec<u8>>) = Default::default();
        let mut span_places = |names: &[String]| {
            let first = span_keys.len();
            span_keys.extend(names.iter().map(|name| name.clone().into_bytes()));
            first..span_keys.len()
        };
        let sources = settings.labels.iter().map(|label| match &label.source {
            LabelSource::Resource(name) => {
                resource_keys.push(name.clone().into_bytes());
                Source::Resource(resource_keys.len() - 1)
            }
            LabelSource::SpanName => Source::SpanName,
            LabelSource::SpanKind => Source::SpanKind,
            LabelSource::StatusCode => Source::StatusCode,
            LabelSource::Attribute(names) => Source::Attribute(span_places(names)),
            LabelSource::HttpStatus(names) => Source::HttpStatus(span_places(names)),
        });
        let sources = sources.collect();
        let other_protocol = match settings.spans {
            SpanChoice::All => None,
            SpanChoice::HttpServers => Some(span_places(&["rpc.system".to_owned()]).start),
        };
        let labels = |wanted: fn(&crate::config::checked::LabelSettings) -> bool| -> Vec<usize> {
            let labels = settings.labels.iter().enumerate();
            labels.filter(|(_, label)| wanted(label)).map(|(number, _)| number).collect()
        };
        let (calls, duration) = (labels(|label| label.on_calls), labels(|label| label.on_duration));
        let histogram_bytes = match settings.duration.as_ref().map(|duration| &duration.buckets) {
            None => 0,
            Some(DurationBuckets::Explicit(bounds)) => (bounds.len() + 1) * size_of::<u64>(),
            Some(DurationBuckets::Exponential(buckets_max)) => {
                size_of::<Exponential>() + *buckets_max as usize * size_of::<u64>()
            }
        };
        let table = |labels, calls, duration| {
            let series_bytes = SERIES_BYTES + if duration { histogram_bytes } else { 0 };
            TablePlan { labels, calls, duration, series_bytes }
        };
        let tables = match &settings.duration {
            None => vec![table(calls, true, false)],
            Some(_) if calls == duration => vec![table(calls, true, true)],
            Some(_) => vec![table(calls, true, false), table(duration, false, true)],
        };
        Plan { sources, span_keys, resource_keys, other_protocol, tables, settings }
    }

    fn empty_series(&self, table: &TablePlan, now_ns: u64) -> Series {
        let duration = self.settings.duration.as_ref().filter(|_| table.duration);
        let buckets = match duration.map(|duration| &duration.buckets) {
            None => Buckets::None,
            Some(DurationBuckets::Explicit(bounds)) => Buckets::Explicit(vec![0; bounds.len() + 1].into()),
            Some(DurationBuckets::Exponential(buckets_max)) => {
                Buckets::Exponential(Box::new(Exponential::new(*buckets_max)))
            }
        };
        Series { calls: 0, duration_sum_ns: 0, buckets, first_ns: now_ns, last_ns: now_ns }
    }
}

/// What is counted of spans with equal labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    calls: u64,
    /// Wide enough for any number of spans of any length.
    duration_sum_ns: u128,
    buckets: Buckets,
    /// Monotonic time of the first span: with it the count began. One that was forgotten and came again has another.
    first_ns: u64,
    /// Monotonic time of the last span.
    last_ns: u64,
}

#[derive(Clone, Debug, PartialEq)]
enum Buckets {
    None,
    Explicit(Box<[u64]>),
    Exponential(Box<Exponential>),
}

impl Series {
    fn observe(&mut self, now_ns: u64, duration_ns: u64, settings: Option<&DurationSettings>) {
        self.last_ns = now_ns;
        self.calls += 1;
        let Some(settings) = settings else {
            return;
        };
        match (&mut self.buckets, &settings.buckets) {
            (Buckets::Explicit(counts), DurationBuckets::Explicit(bounds)) => {
                counts[bounds.partition_point(|bound| *bound < duration_ns)] += 1;
            }
            (Buckets::Exponential(histogram), _) => {
                histogram.observe(duration_ns as f64 / settings.unit.nanoseconds() as f64);
            }
            _ => return,
        }
        self.duration_sum_ns += u128::from(duration_ns);
    }

    /// Adds another series with the same labels, of the same settings.
    fn merge(&mut self, other: &Series) {
        self.first_ns = self.first_ns.min(other.first_ns);
        self.last_ns = self.last_ns.max(other.last_ns);
        self.calls += other.calls;
        self.duration_sum_ns += other.duration_sum_ns;
        match (&mut self.buckets, &other.buckets) {
            (Buckets::Explicit(counts), Buckets::Explicit(more)) => {
                counts.iter_mut().zip(more).for_each(|(count, more)| *count += more);
            }
            (Buckets::Exponential(histogram), Buckets::Exponential(more)) => histogram.merge(more),
            _ => {}
        }
    }

    /// What was counted since `before`, an earlier copy; `None` if nothing was.
    fn since(&self, before: Option<&Series>) -> Option<Series> {
        let Some(before) = before.filter(|before| before.first_ns == self.first_ns) else {
            return Some(self.clone());
        };
        if before.calls == self.calls {
            return None;
        }
        let mut news = self.clone();
        news.calls -= before.calls;
        news.duration_sum_ns -= before.duration_sum_ns;
        match (&mut news.buckets, &before.buckets) {
            (Buckets::Explicit(counts), Buckets::Explicit(less)) => {
                counts.iter_mut().zip(less).for_each(|(count, less)| *count -= less);
            }
            (Buckets::Exponential(histogram), Buckets::Exponential(less)) => **histogram = histogram.since(less),
            _ => {}
        }
        Some(news)
    }
}

/// The series of one table on one shard, or a copy of them.
#[derive(Clone, Debug, Default)]
pub struct Table {
    series: HashMap<Box<[u8]>, Series, foldhash::fast::RandomState>,
    /// What came when the table was full.
    overflow: Option<Series>,
}

impl Table {
    /// What was counted since `before`, an earlier copy.
    fn since(&self, before: &Table) -> Table {
        let news = self.series.iter().filter_map(|(key, series)| {
            let series = series.since(before.series.get(key))?;
            Some((key.clone(), series))
        });
        let overflow = self.overflow.as_ref().and_then(|series| series.since(before.overflow.as_ref()));
        Table { series: news.collect(), overflow }
    }
}

/// A copy of one connector's series on one shard.
#[derive(Clone, Debug)]
pub struct Snapshot {
    tables: Vec<Table>,
    /// Monotonic time of the copy; the clock is the same for all shards.
    now_ns: u64,
}

/// One `span_metrics` connector on one shard.
#[derive(Debug)]
pub struct SpanMetrics {
    plan: Arc<Plan>,
    counters: SpanMetricsSeries,
    tables: Vec<Table>,
    bytes_held: usize,
    /// The series as they were when their news were last taken, and their memory; empty if nobody takes news.
    told: Vec<Table>,
    told_bytes: usize,
    /// Reused between spans.
    key: Vec<u8>,
}

/// What is known of the span at hand.
struct Facts<'a> {
    name: &'a [u8],
    kind: SpanKind,
    status: StatusCode,
    /// AnyValues by the plan's span keys.
    found: &'a [Option<&'a [u8]>],
    /// The same of its resource, then those by the plan's resource keys.
    resource: &'a [Option<&'a [u8]>],
}

impl SpanMetrics {
    /// Without series.
    pub fn new(plan: Arc<Plan>, counters: SpanMetricsSeries) -> SpanMetrics {
        let tables = vec![Table::default(); plan.tables.len()];
        let told = tables.clone();
        SpanMetrics { plan, counters, tables, bytes_held: 0, told, told_bytes: 0, key: Vec::new() }
    }

    /// Counts every span of the batch.
    pub fn take(&mut self, now_ns: u64, cells: &Cells, batch: &Batch) {
        let plan = Arc::clone(&self.plan);
        let mut overflowed = 0;
        let mut found = vec![None; plan.span_keys.len()];
        let mut resource = vec![None; plan.span_keys.len() + plan.resource_keys.len()];
        let mut of_resource = None;
        for span in &batch.span_index().items {
            if plan.other_protocol.is_some() && span.kind != SERVER {
                continue;
            }
            let number = batch.span_index().scopes[span.scope as usize].resource;
            if of_resource != Some(number) {
                of_resource = Some(number);
                plan.look_into_resource(batch.span_index().resource_envelope(span.scope), &mut resource);
            }
            let name = plan.look_into_span(span_bytes(span, &batch.segments), &mut found);
            if plan.other_protocol.is_some_and(|place| found[place].is_some()) {
                continue;
            }
            let facts = Facts { name, kind: span.kind, status: span.status, found: &found, resource: &resource };
            overflowed += u64::from(!self.count(now_ns, &plan, span, &facts));
        }
        cells.add(self.counters.overflowed_spans, overflowed);
        let fullest = self.tables.iter().map(|table| table.series.len()).max().unwrap_or(0);
        cells.set(self.counters.fullest_series, fullest as u64);
    }

    /// Returns whether the span found a series of its own in every table.
    fn count(&mut self, now_ns: u64, plan: &Plan, span: &SpanItem, facts: &Facts<'_>) -> bool {
        let duration_ns = span.end_ns.saturating_sub(span.start_ns);
        let mut own = true;
        for (table, of) in self.tables.iter_mut().zip(&plan.tables) {
            self.key.clear();
            of.labels.iter().for_each(|&label| plan.write_label(label, facts, &mut self.key));
            let has_room = table.series.len() < plan.settings.series_max && self.bytes_held < HELD_BYTES_MAX;
            let series = match table.series.get_mut(&self.key[..]) {
                Some(series) => series,
                None if has_room => {
                    let series = plan.empty_series(of, now_ns);
                    self.bytes_held += self.key.len() + of.series_bytes;
                    table.series.entry(self.key.as_slice().into()).or_insert(series)
                }
                None => {
                    own = false;
                    table.overflow.get_or_insert_with(|| plan.empty_series(of, now_ns))
                }
            };
            series.observe(now_ns, duration_ns, plan.settings.duration.as_ref());
        }
        own
    }

    /// A copy of all series.
    pub fn snapshot(&self, now_ns: u64) -> Snapshot {
        Snapshot { tables: self.tables.clone(), now_ns }
    }

    /// The answer to the question of a flush.
    pub fn answer(&mut self, ask: &Ask, now_ns: u64) -> Snapshot {
        if let Some(forgotten) = &ask.forget {
            self.forget(forgotten);
        }
        if ask.is_delta { self.take_news(now_ns) } else { self.snapshot(now_ns) }
    }

    /// What was counted since the last call. Every span is in exactly one of these copies.
    pub fn take_news(&mut self, now_ns: u64) -> Snapshot {
        let tables = self.tables.iter().zip(&self.told).map(|(table, told)| table.since(told)).collect();
        self.told.clone_from(&self.tables);
        self.told_bytes = self.bytes_held;
        Snapshot { tables, now_ns }
    }

    /// Gives up series that no shard has seen spans of for long, unless spans have come in the meantime.
    pub fn forget(&mut self, forgotten: &Forgotten) {
        let plan = Arc::clone(&self.plan);
        for ((table, of), keys) in self.tables.iter_mut().zip(&plan.tables).zip(&forgotten.keys) {
            for key in keys {
                let is_idle = |series: &Series| series.last_ns <= forgotten.idle_since_ns;
                if table.series.get(key).is_some_and(is_idle) {
                    table.series.remove(key);
                    self.bytes_held -= key.len() + of.series_bytes;
                }
            }
        }
    }

    /// Memory, about.
    pub fn bytes_held(&self) -> u64 {
        (self.bytes_held + self.told_bytes) as u64
    }
}

/// `SPAN_KIND_SERVER` (opentelemetry-proto, trace/v1).
const SERVER: SpanKind = SpanKind(2);
/// The last kind that has a name.
const KIND_MAX: u8 = 5;

impl Plan {
    fn look_into_resource<'a>(&self, envelope: &'a [u8], found: &mut [Option<&'a [u8]>]) {
        found.fill(None);
        for attribute in resource_attributes(envelope) {
            let keys = self.span_keys.iter().chain(&self.resource_keys);
            for (key, found) in keys.zip(found.iter_mut()) {
                if found.is_none() && key == attribute.key && is_scalar(attribute.value) {
                    *found = Some(attribute.value);
                }
            }
        }
    }

    /// Returns the span's name. Two labels may ask for one attribute.
    fn look_into_span<'a>(&self, span: &'a [u8], found: &mut [Option<&'a [u8]>]) -> &'a [u8] {
        found.fill(None);
        let mut name: &[u8] = &[];
        for part in span_parts(span) {
            match part {
                SpanPart::Name(text) => name = text,
                SpanPart::Attribute(attribute) => {
                    for (key, found) in self.span_keys.iter().zip(found.iter_mut()) {
                        if found.is_none() && key == attribute.key && is_scalar(attribute.value) {
                            *found = Some(attribute.value);
                        }
                    }
                }
            }
        }
        name
    }

    fn write_label(&self, label: usize, facts: &Facts<'_>, key: &mut Vec<u8>) {
        let default = || self.settings.labels[label].default.as_ref().map(|text| Value::Text(text.as_bytes()));
        let attribute = |places: &Range<usize>| {
            let mut found = facts.found[places.clone()].iter().chain(&facts.resource[places.clone()]);
            found.find_map(|value| *value).map(Value::Encoded)
        };
        let value = match &self.sources[label] {
            Source::SpanKind => return key.push(if facts.kind.0 > KIND_MAX { 0 } else { facts.kind.0 }),
            Source::StatusCode => return key.push(facts.status as u8),
            Source::SpanName => Some(Value::Text(facts.name)),
            Source::Resource(place) => {
                facts.resource[self.span_keys.len() + place].map(Value::Encoded).or_else(default)
            }
            Source::Attribute(places) => attribute(places).or_else(default),
            // A server that failed without an answer has no status to tell; its caller saw a failure.
            Source::HttpStatus(places) => attribute(places).or_else(|| match facts.status {
                StatusCode::Error => Some(Value::Text(b"500")),
                StatusCode::Unset | StatusCode::Ok => default(),
            }),
        };
        write_value(value, key);
    }
}

/// A label's value before it is written into a key.
#[derive(Clone, Copy)]
enum Value<'a> {
    /// An AnyValue.
    Encoded(&'a [u8]),
    /// What a text holds.
    Text(&'a [u8]),
}

/// First byte of an AnyValue that holds a text: `string_value`, field 1, length-delimited.
const TEXT: u8 = 1 << 3 | 2;

/// Whether an AnyValue is a text, a truth or a number: lists, maps and bytes are no labels.
fn is_scalar(any_value: &[u8]) -> bool {
    matches!(
        AnyValue::read(any_value),
        AnyValue::String(_) | AnyValue::Bool(_) | AnyValue::Int(_) | AnyValue::Double(_)
    )
}

fn write_value(value: Option<Value<'_>>, key: &mut Vec<u8>) {
    match value {
        None => write_length(None, key),
        Some(Value::Encoded(bytes)) if bytes.len() <= VALUE_BYTES_MAX => {
            write_length(Some(bytes.len()), key);
            key.extend_from_slice(bytes);
        }
        Some(Value::Encoded(bytes)) => match AnyValue::read(bytes) {
            AnyValue::String(text) => write_text(text, key),
            // A number among bytes that no reader knows.
            _ => write_length(None, key),
        },
        Some(Value::Text(text)) => write_text(text, key),
    }
}

fn write_length(length: Option<usize>, key: &mut Vec<u8>) {
    const _: () = assert!(VALUE_BYTES_MAX < u16::MAX as usize);
    let number = length.map_or(0, |length| length as u16 + 1);
    key.extend_from_slice(&number.to_le_bytes());
}

/// Writes a text as an AnyValue, cut between two characters if it is too long.
fn write_text(text: &[u8], key: &mut Vec<u8>) {
    // Tag and length of a text this long.
    const TEXT_BYTES_MAX: usize = VALUE_BYTES_MAX - 3;
    let mut end = text.len().min(TEXT_BYTES_MAX);
    if end < text.len() {
        // Bytes of a character after its first: at most three.
        let inside = text[..=end].iter().rev().take(3).take_while(|byte| **byte & 0xc0 == 0x80);
        end -= inside.count();
    }
    let text = &text[..end];
    write_length(Some(1 + varint_length(text.len() as u64) + text.len()), key);
    key.push(TEXT);
    write_varint(key, text.len() as u64);
    key.extend_from_slice(text);
}

#[cfg(test)]
mod tests;
