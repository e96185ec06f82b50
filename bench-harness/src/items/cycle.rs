//! A cycle of points or records: a few requests, written once, that are sent again and again with fresh numbers.
//!
//! ```text
//! request number = round * requests per cycle + template
//! points:  template t has series t * items per request ...; each round is one more point of every series
//! records: every template has as many records; the number is in the trace id
//! ```
//!
//! Times follow from request numbers: request r says that it is r intervals after the first, whenever it is sent.
//! `fill` never allocates and never looks at the clock.

use std::sync::OnceLock;

use codecs::otlp::{Signal, TraceId};

use super::{points, records};
use crate::traces::{FRAME_PREFIX, Identity, SERVICES, resource_envelope, wire};

/// Fewest records of one cycle: enough that neighbouring requests differ.
const RECORDS_MIN: usize = 4_096;

/// One hour: how long before the run a sum began.
const SUM_AGE_NS: u64 = 3_600_000_000_000;

const MS: u64 = 1_000_000;

/// What a cycle is made from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ItemSettings {
    /// Metrics or logs.
    pub(crate) signal: Signal,
    /// The same seed makes the same bytes.
    pub(crate) seed: u64,
    /// Items of every request, at least 1.
    pub(crate) items_per_request: usize,
    /// Series of points, at least.
    pub(crate) series_min: usize,
    /// A cycle has a multiple of so many requests: all points of a series take the same connection.
    pub(crate) connections: usize,
    /// Planned time between two requests.
    pub(crate) request_interval_ns: u64,
    /// Wall time of the first request, nanoseconds since 1970; a whole millisecond.
    pub(crate) start_unix_ns: u64,
}

/// Requests to send, and what every item of them must arrive as.
#[derive(Debug)]
pub(crate) struct ItemCycle {
    settings: ItemSettings,
    identity: Identity,
    templates: Vec<Template>,
    resource_envelopes: Vec<Vec<u8>>,
    scope_envelope: Vec<u8>,
    /// Of each metric; empty for records.
    metric_envelopes: Vec<Vec<u8>>,
    /// Of each series, made when they are first asked for.
    labels: OnceLock<Vec<Vec<u8>>>,
}

/// One request as it is before its numbers are written.
#[derive(Debug, Default)]
struct Template {
    bytes: Vec<u8>,
    slots: Vec<Slot>,
}

/// Where one item lies in its request, and in which envelopes.
#[derive(Clone, Copy, Debug)]
struct Slot {
    start: u32,
    end: u32,
    resource: u32,
    metric: u32,
}

/// An item as it must arrive.
#[derive(Debug)]
pub(crate) struct ExpectedItem<'a> {
    pub(crate) item: &'a [u8],
    pub(crate) resource_envelope: &'a [u8],
    pub(crate) scope_envelope: &'a [u8],
    /// Everything a metric says beside its points; empty for records.
    pub(crate) metric_envelope: &'a [u8],
}

impl ItemCycle {
    /// Writes the requests.
    pub(crate) fn new(settings: ItemSettings) -> ItemCycle {
        assert!(settings.items_per_request >= 1 && settings.connections >= 1);
        assert!(settings.start_unix_ns.is_multiple_of(MS));
        let is_points = settings.signal == Signal::Metrics;
        let items_min = if is_points { settings.series_min } else { RECORDS_MIN };
        let requests = items_min.div_ceil(settings.items_per_request).next_multiple_of(settings.connections);
        let series = requests * settings.items_per_request;
        let resources = if is_points { points::resource_of(series - 1) + 1 } else { SERVICES };
        let mut cycle = ItemCycle {
            settings,
            identity: Identity::new(settings.seed),
            templates: Vec::with_capacity(requests),
            resource_envelopes: (0..resources)
                .map(|resource| match is_points {
                    true => points::resource_envelope(resource),
                    false => resource_envelope(resource as u8),
                })
                .collect(),
            scope_envelope: if is_points { points::scope_envelope() } else { records::scope_envelope() },
            metric_envelopes: Vec::new(),
            labels: OnceLock::new(),
        };
        if is_points {
            cycle.metric_envelopes = (0..points::METRICS.len()).map(points::metric_envelope).collect();
        }
        let mut random = fastrand::Rng::with_seed(settings.seed);
        for number in 0..requests {
            let template = if is_points { cycle.points_template(number) } else { cycle.records_template(&mut random) };
            assert_eq!(template.slots.len(), settings.items_per_request);
            cycle.templates.push(template);
        }
        assert!(!is_points || cycle.cycle_ns() >= MS, "two points of a series are never in one millisecond");
        cycle
    }

    /// Metrics or logs.
    pub(crate) fn signal(&self) -> Signal {
        self.settings.signal
    }

    /// Items of each request.
    pub(crate) fn items_per_request(&self) -> usize {
        self.settings.items_per_request
    }

    /// Bytes of an item, on average, without its envelopes.
    pub(crate) fn item_bytes(&self) -> f64 {
        let lengths = self.templates.iter().flat_map(|template| &template.slots).map(|slot| slot.end - slot.start);
        let items = self.templates.len() * self.settings.items_per_request;
        lengths.map(u64::from).sum::<u64>() as f64 / items as f64
    }

    /// Which template request number `request` is written from.
    pub(crate) fn template(&self, request: u64) -> usize {
        (request % self.templates.len() as u64) as usize
    }

    /// How many templates there are.
    pub(crate) fn templates(&self) -> usize {
        self.templates.len()
    }

    /// The bytes of a template: a gRPC message with its prefix.
    pub(crate) fn template_bytes(&self, template: usize) -> &[u8] {
        &self.templates[template].bytes
    }

    /// Writes the numbers of request number `request` into a copy of its template.
    pub(crate) fn fill(&self, request: u64, bytes: &mut [u8]) {
        let template = &self.templates[self.template(request)];
        assert_eq!(bytes.len(), template.bytes.len(), "the bytes are a copy of the template");
        let first = request * self.settings.items_per_request as u64;
        for (place, slot) in template.slots.iter().enumerate() {
            self.write(first + place as u64, slot, &mut bytes[slot.start as usize..slot.end as usize]);
        }
    }

    /// The request that carries an item.
    pub(crate) fn request(&self, number: u64) -> u64 {
        number / self.settings.items_per_request as u64
    }

    /// The number of the record with this trace id; `None` if it is none of ours.
    pub(crate) fn record(&self, trace_id: TraceId) -> Option<u64> {
        self.identity.sequence(trace_id)
    }

    /// The number of the point of this series at this time; `None` if there is none.
    pub(crate) fn point(&self, series: u64, time_unix_ns: u64) -> Option<u64> {
        let elapsed_ns = time_unix_ns.checked_sub(self.settings.start_unix_ns)?;
        let request = elapsed_ns / self.settings.request_interval_ns;
        (elapsed_ns % self.settings.request_interval_ns == 0).then_some(())?;
        self.point_of(series, request)
    }

    /// The number of the point of this series in this millisecond; `None` if there is none.
    pub(crate) fn sample(&self, series: u64, time_unix_ms: i64) -> Option<u64> {
        let elapsed_ns = u64::try_from(time_unix_ms).ok()?.checked_mul(MS)?.checked_sub(self.settings.start_unix_ns)?;
        let requests = self.templates.len() as u64;
        let template = series / self.settings.items_per_request as u64;
        let earliest = elapsed_ns.div_ceil(self.settings.request_interval_ns);
        let round = earliest.saturating_sub(template).div_ceil(requests);
        let request = round * requests + template;
        (self.time(request) / MS == time_unix_ms as u64).then_some(())?;
        self.point_of(series, request)
    }

    /// The value of a point.
    pub(crate) fn value(&self, number: u64) -> f64 {
        let slot = self.slot(number);
        let round = self.request(number) / self.templates.len() as u64;
        points::value(points::METRICS[slot.metric as usize].is_sum, round, self.mixed(number))
    }

    /// How many series there are.
    pub(crate) fn series(&self) -> u64 {
        (self.templates.len() * self.settings.items_per_request) as u64
    }

    /// The series of a point.
    pub(crate) fn series_of(&self, number: u64) -> u64 {
        number % self.series()
    }

    /// The labels of a series, as `Label` messages with their tags, sorted by name.
    pub(crate) fn labels(&self, series: u64) -> &[u8] {
        let all = self.labels.get_or_init(|| (0..self.series() as usize).map(points::labels).collect());
        &all[series as usize]
    }

    /// Makes the labels of all series.
    pub(crate) fn make_labels(&self) {
        self.labels(0);
    }

    /// What an item and its envelopes look like, written into `scratch`.
    pub(crate) fn expected<'a>(&'a self, number: u64, scratch: &'a mut Vec<u8>) -> ExpectedItem<'a> {
        let slot = self.slot(number);
        let template = &self.templates[self.template(self.request(number))];
        scratch.clear();
        scratch.extend_from_slice(&template.bytes[slot.start as usize..slot.end as usize]);
        self.write(number, slot, scratch);
        ExpectedItem {
            item: scratch,
            resource_envelope: &self.resource_envelopes[slot.resource as usize],
            scope_envelope: &self.scope_envelope,
            metric_envelope: self.metric_envelopes.get(slot.metric as usize).map_or(&[], Vec::as_slice),
        }
    }

    fn slot(&self, number: u64) -> &Slot {
        let place = number % self.settings.items_per_request as u64;
        &self.templates[self.template(self.request(number))].slots[place as usize]
    }

    fn cycle_ns(&self) -> u64 {
        self.settings.request_interval_ns * self.templates.len() as u64
    }

    /// When request number `request` says that it is.
    fn time(&self, request: u64) -> u64 {
        self.settings.start_unix_ns + request * self.settings.request_interval_ns
    }

    /// 64 bits that follow from an item's number.
    fn mixed(&self, number: u64) -> u64 {
        u64::from_be_bytes(self.identity.span(number, 0))
    }

    fn point_of(&self, series: u64, request: u64) -> Option<u64> {
        let items = self.settings.items_per_request as u64;
        let is_there = series < self.series() && request % self.templates.len() as u64 == series / items;
        is_there.then(|| request * items + series % items)
    }

    /// Writes what varies of one item.
    fn write(&self, number: u64, slot: &Slot, item: &mut [u8]) {
        let time = self.time(self.request(number)).to_le_bytes();
        let mut put = |at: usize, bytes: &[u8]| item[at..at + bytes.len()].copy_from_slice(bytes);
        if self.settings.signal == Signal::Metrics {
            let is_sum = points::METRICS[slot.metric as usize].is_sum;
            put(points::TIME_AT, &time);
            put(points::VALUE_AT, &points::value_bytes(is_sum, self.value(number)));
            return;
        }
        let length = (slot.end - slot.start) as usize;
        put(records::TIME_AT, &time);
        put(records::trace_id_at(length), &self.identity.trace(number).0);
        put(records::span_id_at(length), &self.identity.span(number, 0));
        put(records::observed_at(length), &time);
    }

    fn points_template(&self, number: usize) -> Template {
        let first = number * self.settings.items_per_request;
        let started = self.settings.start_unix_ns - SUM_AGE_NS;
        let series: Vec<usize> = (first..first + self.settings.items_per_request).collect();
        let mut writer = Writer::default();
        for of_resource in series.chunk_by(|one, other| points::resource_of(*one) == points::resource_of(*other)) {
            let resource = points::resource_of(of_resource[0]);
            let mut scope = Nest::new(self.scope_envelope.clone());
            for of_metric in of_resource.chunk_by(|one, other| points::metric_of(*one) == points::metric_of(*other)) {
                let metric = points::metric_of(of_metric[0]);
                let mut data = Nest::new(Vec::new());
                of_metric
                    .iter()
                    .for_each(|series| data.add_item(1, &points::point(*series, started), resource, metric));
                scope.add_metric(metric, data);
            }
            writer.add_resource(&self.resource_envelopes[resource], scope);
        }
        writer.finish()
    }

    fn records_template(&self, random: &mut fastrand::Rng) -> Template {
        let mut writer = Writer::default();
        let items = self.settings.items_per_request;
        for service in 0..SERVICES {
            let count = (service + 1) * items / SERVICES - service * items / SERVICES;
            if count == 0 {
                continue;
            }
            let mut scope = Nest::new(self.scope_envelope.clone());
            (0..count).for_each(|_| scope.add_item(2, &records::record(random), service, 0));
            writer.add_resource(&self.resource_envelopes[service], scope);
        }
        writer.finish()
    }
}

/// A message that grows, and where the items in it start.
#[derive(Default)]
struct Nest {
    bytes: Vec<u8>,
    slots: Vec<Slot>,
}

impl Nest {
    fn new(envelope: Vec<u8>) -> Nest {
        Nest { bytes: envelope, slots: Vec::new() }
    }

    fn add_item(&mut self, field: u32, item: &[u8], resource: usize, metric: usize) {
        wire::bytes(&mut self.bytes, field, item);
        let end = self.bytes.len() as u32;
        let start = end - item.len() as u32;
        self.slots.push(Slot { start, end, resource: resource as u32, metric: metric as u32 });
    }

    /// Appends a message that holds `inner.bytes`, which begin at `inner_at` in it.
    fn add(&mut self, field: u32, message: &[u8], inner: Nest, inner_at: usize) {
        wire::bytes(&mut self.bytes, field, message);
        let by = (self.bytes.len() - message.len() + inner_at) as u32;
        self.slots.extend(inner.slots.into_iter().map(|slot| Slot {
            start: slot.start + by,
            end: slot.end + by,
            ..slot
        }));
    }

    fn add_metric(&mut self, metric: usize, data: Nest) {
        let message = points::metric_message(metric, &data.bytes);
        let at = message.windows(data.bytes.len()).rposition(|window| window == data.bytes);
        self.add(2, &message, data, at.expect("the message holds its points"));
    }
}

/// Puts the parts of one request together.
#[derive(Default)]
struct Writer {
    request: Nest,
}

impl Writer {
    fn add_resource(&mut self, envelope: &[u8], scope: Nest) {
        let mut message = envelope.to_vec();
        wire::bytes(&mut message, 2, &scope.bytes);
        let at = message.len() - scope.bytes.len();
        self.request.add(1, &message, scope, at);
    }

    fn finish(self) -> Template {
        let mut bytes = vec![0];
        bytes.extend_from_slice(&(self.request.bytes.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&self.request.bytes);
        let by = FRAME_PREFIX as u32;
        let moved = |slot: Slot| Slot { start: slot.start + by, end: slot.end + by, ..slot };
        Template { bytes, slots: self.request.slots.into_iter().map(moved).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::{read_points, read_records};

    fn cycle(signal: Signal, items_per_request: usize) -> ItemCycle {
        ItemCycle::new(ItemSettings {
            signal,
            seed: 3,
            items_per_request,
            series_min: 2_000,
            connections: 4,
            request_interval_ns: items_per_request as u64 * 100_000,
            start_unix_ns: 1_700_000_000_000_000_000,
        })
    }

    fn request(cycle: &ItemCycle, number: u64) -> Vec<u8> {
        let mut bytes = cycle.template_bytes(cycle.template(number)).to_vec();
        cycle.fill(number, &mut bytes);
        bytes[FRAME_PREFIX..].to_vec()
    }

    #[test]
    fn every_point_says_which_it_is_and_is_as_the_sink_expects_it() {
        for items_per_request in [7, 512] {
            let cycle = cycle(Signal::Metrics, items_per_request);
            assert!(cycle.series() >= 2_000);
            let requests = cycle.templates() as u64;
            let mut scratch = Vec::new();
            for number in [0, 1, requests - 1, requests, 3 * requests + 2] {
                let mut next = number * items_per_request as u64;
                let read = read_points(&request(&cycle, number), |point| {
                    assert_eq!(cycle.point(point.series, point.time_unix_ns), Some(next));
                    assert_eq!(cycle.sample(point.series, (point.time_unix_ns / MS) as i64), Some(next));
                    assert_eq!(cycle.series_of(next), point.series);
                    assert_eq!(cycle.point(point.series, point.time_unix_ns + 1), None);
                    assert_eq!(cycle.sample(point.series, (point.time_unix_ns / MS) as i64 + 1), None);
                    let expected = cycle.expected(next, &mut scratch);
                    assert_eq!(expected.item, point.point);
                    assert_eq!(expected.resource_envelope, point.resource_envelope);
                    assert_eq!(expected.scope_envelope, point.scope_envelope);
                    assert_eq!(expected.metric_envelope, point.metric_envelope);
                    next += 1;
                });
                read.unwrap();
                assert_eq!(next, (number + 1) * items_per_request as u64);
            }
        }
    }

    #[test]
    fn every_record_says_which_it_is_and_is_as_the_sink_expects_it() {
        for items_per_request in [1, 5, 512] {
            let cycle = cycle(Signal::Logs, items_per_request);
            let mut scratch = Vec::new();
            for number in 0..3 * cycle.templates() as u64 {
                let mut next = number * items_per_request as u64;
                let read = read_records(&request(&cycle, number), |record| {
                    assert_eq!(cycle.record(record.trace_id), Some(next));
                    let expected = cycle.expected(next, &mut scratch);
                    assert_eq!(expected.item, record.record);
                    assert_eq!(expected.resource_envelope, record.resource_envelope);
                    assert_eq!(expected.scope_envelope, record.scope_envelope);
                    next += 1;
                });
                read.unwrap();
                assert_eq!(next, (number + 1) * items_per_request as u64);
            }
        }
    }

    #[test]
    fn a_record_has_350_bytes_and_a_sum_never_falls() {
        let records = cycle(Signal::Logs, 512);
        assert!((340.0..=360.0).contains(&records.item_bytes()), "{}", records.item_bytes());
        let points = cycle(Signal::Metrics, 512);
        for series in 0..100 {
            let values: Vec<f64> = (0..50).map(|round| points.value(round * points.series() + series)).collect();
            let is_sum = points::METRICS[points::metric_of(series as usize)].is_sum;
            assert_eq!(values.is_sorted(), is_sum, "{values:?}");
        }
    }
}
