//! From OTLP metrics to remote write requests.
//!
//! ```text
//! resource(), scope(), metric()      each point: read, find its group in the cache, note a record
//! finish()                           each group: its records by time, its series into the request of their owner
//! ```
//!
//! The one idea: points are noted first and written per series afterwards, so that a series is in a request once, with its
//! samples in order, however the points came. A push is what lies between two calls of `finish`. Nothing is allocated per
//! point once the buffers have grown. It never decides what is sent when, and never waits.

use std::collections::HashSet;

use super::cache::{BYTES_MAX, Cache, Class, Family, Group, KEY_PREFIX_BYTES, Variant};
use super::counts::{Counts, DropReason, Notice};
use super::delta::Streams;
use super::intern::Seed;
use super::labels::{LABEL_BYTES_MAX, text_of};
use super::names::label_name;
use super::native::NativeWriter;
use super::point::{self, Header, Kind, Lists, Point};
use super::request::{Exemplar, RequestWriter, STALE, Sample, WriteRequest, write_exemplar_labels};
use super::settings::{Protocol, Settings};
use crate::wire::{Reader, WireType};

/// Characters of all names and values of an exemplar, at most (OpenMetrics, "Exemplars").
const EXEMPLAR_LETTERS_MAX: usize = 128;
/// Bytes of a point's attributes as they came, at most: twice what its labels may have leaves room for values that are
/// left out.
const ATTRIBUTE_BYTES_MAX: usize = 2 * LABEL_BYTES_MAX;
/// Requests of one push, as a multiple of a request's largest size: beyond it the push is full.
const PUSH_REQUESTS_MAX: usize = 6;
/// Points of one push, at most.
const PUSH_POINTS_MAX: usize = 1 << 19;
/// Notices that wait to be fetched, and metrics whose name is remembered so that it is told once.
const NOTICES_MAX: usize = 64;
const NOTICES_REMEMBERED_MAX: usize = 4096;

/// A point of this push.
#[derive(Clone, Copy, Debug)]
struct Record {
    time_ms: i64,
    /// 0 if it has none.
    start_ms: i64,
    value: RecordValue,
    /// Part of the exemplars of this push, by bucket.
    exemplars: (u32, u32),
    /// Of the same group.
    next: u32,
    is_stale: bool,
    /// Whether it came as a point; `target_info` did not.
    is_point: bool,
}

#[derive(Clone, Copy, Debug)]
enum RecordValue {
    Number(f64),
    /// Bucket counts are cumulative, from `first` on among the counts of this push, as many as there are bounds.
    Histogram {
        count: u64,
        sum: Option<f64>,
        bounds: u32,
        first: u32,
    },
    /// Part of the native histograms of this push.
    Native {
        start: u32,
        end: u32,
    },
    /// One value for each quantile, from `first` on among the values of this push.
    Summary {
        count: u64,
        sum: f64,
        bounds: u32,
        first: u32,
    },
}

/// An exemplar of this push.
#[derive(Clone, Copy, Debug)]
struct ExemplarRecord {
    value: f64,
    time_ms: i64,
    /// In which bucket of its point it is, 0 if there are none.
    bucket: u32,
    /// Part of the exemplar labels of this push.
    labels: (u32, u32),
}

const NONE: u32 = u32::MAX;

/// Translates pushes; one per exporter and shard.
#[derive(Debug)]
pub struct Translator {
    settings: Settings,
    cache: Cache,
    writer: RequestWriter,
    native: NativeWriter,
    lists: Lists,
    streams: Option<Streams>,
    /// What a stream is found by; reused.
    identity: Vec<u8>,
    resource: u32,
    scope: u32,
    /// The number of this push, from 1.
    stamp: u32,
    /// About how many bytes this push will fill.
    bytes: usize,
    records: Vec<Record>,
    cumulative: Vec<u64>,
    values: Vec<f64>,
    natives: Vec<u8>,
    exemplars: Vec<ExemplarRecord>,
    exemplar_labels: Vec<u8>,
    resources: Vec<u32>,
    families: Vec<u32>,
    /// Groups of this push, by owner.
    groups: Vec<Vec<u32>>,
    chain: Vec<u32>,
    counts: Counts,
    notices: Vec<Notice>,
    told: HashSet<(usize, String)>,
}

impl Translator {
    /// A translator without anything in its cache. `seed` is a secret of the process; translators that share owners must
    /// have the same, or a series would belong to two of them.
    #[must_use]
    pub fn new(settings: Settings, seed: u64) -> Self {
        let seed = Seed::new(seed);
        let owners = settings.owners.max(1);
        let settings = Settings { owners, ..settings };
        let mut translator = Self {
            cache: Cache::new(&seed),
            writer: RequestWriter::new(settings.protocol, &seed),
            native: NativeWriter::default(),
            lists: Lists::default(),
            streams: settings.delta.map(Streams::new),
            identity: Vec::new(),
            resource: 0,
            scope: 0,
            stamp: 1,
            bytes: 0,
            records: Vec::new(),
            cumulative: Vec::new(),
            values: Vec::new(),
            natives: Vec::new(),
            exemplars: Vec::new(),
            exemplar_labels: Vec::new(),
            resources: Vec::new(),
            families: Vec::new(),
            groups: vec![Vec::new(); owners as usize],
            chain: Vec::new(),
            counts: Counts::default(),
            notices: Vec::new(),
            told: HashSet::new(),
            settings,
        };
        translator.resource(b"");
        translator.scope(b"");
        translator
    }

    /// What became of all points so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Memory of the label cache in bytes.
    #[must_use]
    pub fn cache_bytes(&self) -> usize {
        self.cache.bytes_used()
    }

    /// Memory of what deltas were added up to.
    #[must_use]
    pub fn delta_bytes(&self) -> usize {
        self.streams.as_ref().map_or(0, Streams::bytes_used)
    }

    /// What follows comes at this time, of any monotonic clock in nanoseconds. Only series of deltas grow old.
    pub fn at(&mut self, now_ns: u64) {
        if let Some(streams) = &mut self.streams {
            streams.at(now_ns);
        }
    }

    /// Metrics that lost points for the first time, for the log; empty afterwards.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Takes back the buffer of a request that was sent, to be filled again.
    pub fn recycle(&mut self, body: Vec<u8>) {
        self.writer.recycle(body);
    }

    /// What follows is of the resource with this envelope: a ResourceMetrics message without its scopes.
    pub fn resource(&mut self, envelope: &[u8]) {
        self.resource = self.cache.resource(envelope, &self.settings);
    }

    /// What follows is of the scope with this envelope: a ScopeMetrics message without its metrics.
    pub fn scope(&mut self, envelope: &[u8]) {
        self.scope = self.cache.scope(envelope, &self.settings);
    }

    /// Takes the points of a Metric message that was checked before, from byte `from` of it on: 0, or what an earlier call
    /// with the same message returned.
    ///
    /// Returns where to go on if the push is full: [`Self::finish`] it, and call again.
    #[must_use = "a full push has not taken all points"]
    pub fn metric(&mut self, metric: &[u8], from: usize) -> Option<usize> {
        if self.is_full() {
            return Some(from);
        }
        if self.is_cache_full() {
            self.clear_cache();
        }
        let header = Header::read(metric);
        let kind = header.kind?;
        let family = self.cache.family(&header, kind, &self.settings);
        let prefix = self.key_prefix(family);
        let mut reader = Reader::new("checked metric", metric);
        while let Ok(Some(tag)) = reader.tag() {
            let is_data = tag.number == kind.field() && tag.wire_type == WireType::Length;
            if !is_data || tag.offset < header.data_at {
                reader.skip(tag).ok()?;
                continue;
            }
            let data = reader.length_delimited().ok()?;
            let mut data = reader.nested("checked data", data);
            while let Ok(Some(tag)) = data.tag() {
                if tag.number != 1 || tag.wire_type != WireType::Length {
                    data.skip(tag).ok()?;
                    continue;
                }
                let point = data.length_delimited().ok()?;
                if tag.offset < from {
                    continue;
                }
                if self.is_full() {
                    return Some(tag.offset);
                }
                self.point(family, kind, &prefix, data.slice(point));
            }
        }
        None
    }

    fn key_prefix(&self, family: u32) -> [u8; KEY_PREFIX_BYTES] {
        let mut prefix = [0; KEY_PREFIX_BYTES];
        for (bytes, number) in prefix.chunks_exact_mut(4).zip([self.resource, self.scope, family]) {
            bytes.copy_from_slice(&number.to_le_bytes());
        }
        prefix
    }

    /// Whether the push must be finished before it takes more.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let push_bytes_max = self.settings.request_bytes_max.saturating_mul(PUSH_REQUESTS_MAX);
        !self.records.is_empty()
            && (self.bytes > push_bytes_max || self.records.len() >= PUSH_POINTS_MAX || self.is_cache_full())
    }

    fn is_cache_full(&self) -> bool {
        self.cache.bytes_used() > self.settings.cache_bytes_max.min(BYTES_MAX)
    }

    fn point(&mut self, family: u32, kind: Kind, prefix: &[u8; KEY_PREFIX_BYTES], bytes: &[u8]) {
        self.counts.points += 1;
        if let Err(reason) = self.try_point(family, kind, prefix, bytes) {
            self.drop_point(family, reason);
        }
    }

    fn drop_point(&mut self, family: u32, reason: DropReason) {
        self.counts.dropped[reason as usize] += 1;
        let family = &mut self.cache.families[family as usize];
        let bit = 1 << reason as u16;
        if family.told & bit != 0 || self.notices.len() >= NOTICES_MAX {
            return;
        }
        family.told |= bit;
        // The cache may have been emptied since it was told.
        if self.told.len() < NOTICES_REMEMBERED_MAX && self.told.insert((reason as usize, family.original.clone())) {
            self.notices.push(Notice { reason, metric: family.original.clone() });
        }
    }

    fn try_point(
        &mut self,
        family: u32,
        kind: Kind,
        prefix: &[u8; KEY_PREFIX_BYTES],
        bytes: &[u8],
    ) -> Result<(), DropReason> {
        let (class, has_start, is_delta) = {
            let family = &self.cache.families[family as usize];
            if let Some(reason) = family.drop {
                return Err(reason);
            }
            (family.class, family.has_start, family.is_delta)
        };
        let mut point = Point::read(kind, bytes, prefix, &mut self.lists);
        if self.lists.key.len() > KEY_PREFIX_BYTES + ATTRIBUTE_BYTES_MAX {
            return Err(DropReason::Labels);
        }
        if is_delta {
            self.add_up(class, kind, &mut point)?;
        }
        let (cumulative, values, natives) = (self.cumulative.len(), self.values.len(), self.natives.len());
        let group = self.value(class, &point).and_then(|value| Ok((self.group()?, value)));
        let (group, value) = group.inspect_err(|_| {
            self.cumulative.truncate(cumulative);
            self.values.truncate(values);
            self.natives.truncate(natives);
        })?;
        // Of numbers, only counters have exemplars.
        let has_exemplars = point.has_exemplars && has_start && !point.has_no_value;
        let exemplars = if has_exemplars { self.note_exemplars(kind, value, bytes) } else { (0, 0) };
        let record = Record {
            time_ms: milliseconds(point.time_ns),
            start_ms: if has_start { milliseconds(point.start_ns) } else { 0 },
            value,
            exemplars,
            next: NONE,
            is_stale: point.has_no_value,
            is_point: true,
        };
        self.note(group, record);
        self.note_resource(point.time_ns);
        self.note_family(family);
        Ok(())
    }

    /// The group of the point that was just read.
    fn group(&mut self) -> Result<u32, DropReason> {
        if let Some(group) = self.cache.group_of_point(&self.lists.key) {
            return Ok(group);
        }
        self.counts.label_sets_built += 1;
        self.cache.add_point(&self.lists.key, &self.settings)
    }

    /// Makes a point that says what is new say everything so far.
    fn add_up(&mut self, class: Class, kind: Kind, point: &mut Point) -> Result<(), DropReason> {
        if !point.has_no_value {
            // Nothing that is dropped later may be in a total.
            let (cumulative, natives) = (self.cumulative.len(), self.natives.len());
            let checked = self.value(class, point);
            self.cumulative.truncate(cumulative);
            self.natives.truncate(natives);
            checked?;
            if class == Class::Number && !point.value.is_some_and(f64::is_finite) {
                return Err(DropReason::Empty);
            }
        }
        let group = self.group()?;
        self.identity.clear();
        self.cache.write_identity(group, self.settings.protocol, &mut self.identity);
        let streams = self.streams.as_mut().expect("without streams points of delta temporality are dropped");
        if point.has_no_value {
            streams.end(&self.identity);
            return Ok(());
        }
        streams.add(&self.identity, kind, point, &mut self.lists)
    }

    /// Checks a point's value and keeps its lists.
    fn value(&mut self, class: Class, point: &Point) -> Result<RecordValue, DropReason> {
        let lists = &mut self.lists;
        match class {
            Class::Number if point.has_no_value => Ok(RecordValue::Number(STALE)),
            Class::Number => point.value.map(RecordValue::Number).ok_or(DropReason::Empty),
            Class::Histogram => {
                let fits = lists.counts.is_empty() || lists.counts.len() == lists.bounds.len() + 1;
                if !fits && !point.has_no_value {
                    return Err(DropReason::Buckets);
                }
                merge_infinite_bound(lists);
                // Without counts there are no buckets, whatever the bounds.
                let bounds = if lists.counts.is_empty() && !point.has_no_value { &[] } else { &lists.bounds[..] };
                let bounds = self.cache.bounds(class, bounds, self.settings.protocol)?;
                let first = self.cumulative.len() as u32;
                let sums = lists.counts.iter().scan(0_u64, |sum, count| {
                    *sum = sum.saturating_add(*count);
                    Some(*sum)
                });
                let length = self.cache.bounds[bounds as usize].values.len();
                self.cumulative.extend(sums.chain(std::iter::repeat(0)).take(length));
                Ok(RecordValue::Histogram { count: point.count, sum: point.sum, bounds, first })
            }
            Class::Native => {
                let start = self.natives.len() as u32;
                self.native.write(point, lists, &mut self.natives)?;
                Ok(RecordValue::Native { start, end: self.natives.len() as u32 })
            }
            Class::Summary => {
                let bounds = self.cache.bounds(class, &lists.bounds, self.settings.protocol)?;
                let first = self.values.len() as u32;
                self.values.extend_from_slice(&lists.values);
                Ok(RecordValue::Summary { count: point.count, sum: point.sum.unwrap_or_default(), bounds, first })
            }
        }
    }

    fn note(&mut self, group: u32, record: Record) {
        let number = self.records.len() as u32;
        self.bytes += self.bytes_max(&self.cache.groups[group as usize], &record);
        self.records.push(record);
        let state = &mut self.cache.groups[group as usize];
        if state.stamp == self.stamp {
            self.records[state.last as usize].next = number;
        } else {
            (state.stamp, state.first) = (self.stamp, number);
            self.groups[state.owner as usize].push(group);
        }
        state.last = number;
    }

    fn note_resource(&mut self, time_ns: u64) {
        let resource = &mut self.cache.resources[self.resource as usize];
        if resource.stamp != self.stamp {
            (resource.stamp, resource.newest_ns) = (self.stamp, 0);
            self.resources.push(self.resource);
        }
        resource.newest_ns = resource.newest_ns.max(time_ns);
    }

    fn note_family(&mut self, family: u32) {
        let state = &mut self.cache.families[family as usize];
        if state.stamp != self.stamp {
            state.stamp = self.stamp;
            self.families.push(family);
        }
    }

    /// More than the record can take in a request: its series, exemplars and metadata.
    fn bytes_max(&self, group: &Group, record: &Record) -> usize {
        let family = &self.cache.families[group.family as usize];
        let (series, own) = match record.value {
            RecordValue::Number(_) => (1, 0),
            RecordValue::Histogram { bounds, .. } | RecordValue::Summary { bounds, .. } => {
                (3 + self.cache.bounds[bounds as usize].values.len(), 0)
            }
            RecordValue::Native { start, end } => (1, (end - start) as usize),
        };
        let labels = group.labels_count as usize + 2;
        let each = match self.settings.protocol {
            Protocol::V1 => group.label_bytes as usize + 12 * labels,
            Protocol::V2 => 10 * labels,
        };
        let once = match self.settings.protocol {
            Protocol::V1 => 0,
            // Symbols are written once, if they are in the request for the first time.
            Protocol::V2 => group.label_bytes as usize + 12 * labels + family.help.len() + family.unit.len() + 20,
        };
        let (first, end) = record.exemplars;
        let exemplars = &self.exemplars[first as usize..end as usize];
        let exemplars: usize = exemplars.iter().map(|one| (one.labels.1 - one.labels.0) as usize + 60).sum();
        // Sample, timestamps, the extra label, metadata references, tags and lengths.
        series * (each + 130) + own + once + exemplars
    }

    fn note_exemplars(&mut self, kind: Kind, value: RecordValue, bytes: &[u8]) -> (u32, u32) {
        let bounds = bounds_of(value).map_or(&[][..], |bounds| &self.cache.bounds[bounds as usize].values);
        let first = self.exemplars.len() as u32;
        for exemplar in point::exemplars(kind, bytes) {
            let labels = exemplar_labels(&exemplar, &self.settings);
            let start = self.exemplar_labels.len() as u32;
            write_exemplar_labels(&labels, &mut self.exemplar_labels);
            let labels = (start, self.exemplar_labels.len() as u32);
            let time_ms = milliseconds(exemplar.time_ns);
            // What is no number is in the last bucket, as it is in no other.
            let bucket = match exemplar.value {
                value if value.is_nan() => bounds.len(),
                value => bounds.partition_point(|bound| *bound < value),
            };
            self.exemplars.push(ExemplarRecord { value: exemplar.value, time_ms, bucket: bucket as u32, labels });
        }
        let end = self.exemplars.len() as u32;
        self.exemplars[first as usize..].sort_by_key(|exemplar| (exemplar.bucket, exemplar.time_ms));
        (first, end)
    }

    /// Appends the requests of this push to `out`, for each owner in the order in which its series first came, and starts
    /// another push.
    pub fn finish(&mut self, out: &mut Vec<WriteRequest>) {
        self.note_targets();
        let first = out.len();
        for owner in 0..self.groups.len() {
            let mut groups = std::mem::take(&mut self.groups[owner]);
            groups.iter().for_each(|group| self.write_group(*group, out));
            self.writer.finish(owner as u32, out);
            groups.clear();
            self.groups[owner] = groups;
        }
        self.write_metadata(out);
        for request in &out[first..] {
            self.counts.written += request.points;
            self.counts.samples += request.samples;
            self.counts.histograms += request.histograms;
            self.counts.exemplars += request.exemplars;
        }
        self.records.clear();
        self.cumulative.clear();
        self.values.clear();
        self.natives.clear();
        self.exemplars.clear();
        self.exemplar_labels.clear();
        self.resources.clear();
        self.families.clear();
        self.bytes = 0;
        self.stamp = self.stamp.wrapping_add(1);
        // Stamps of a past round would look like this push's.
        if self.is_cache_full() || self.stamp == 0 {
            self.clear_cache();
        }
    }

    fn clear_cache(&mut self) {
        let (resource, scope) = self.cache.envelopes(self.resource, self.scope);
        self.cache.clear();
        self.counts.cache_clears += 1;
        self.stamp = 1;
        self.resource(&resource);
        self.scope(&scope);
    }

    /// One sample of `target_info` for each resource of this push, at its newest point.
    fn note_targets(&mut self) {
        for number in 0..self.resources.len() {
            let resource = self.resources[number];
            let newest_ns = self.cache.resources[resource as usize].newest_ns;
            if newest_ns == 0 {
                continue;
            }
            if let Some(group) = self.cache.target_group(resource, &self.settings) {
                let record = Record {
                    time_ms: milliseconds(newest_ns),
                    start_ms: 0,
                    value: RecordValue::Number(1.0),
                    exemplars: (0, 0),
                    next: NONE,
                    is_stale: false,
                    is_point: false,
                };
                self.note(group, record);
                let family = self.cache.groups[group as usize].family;
                self.note_family(family);
            }
        }
    }

    fn write_metadata(&mut self, out: &mut Vec<WriteRequest>) {
        if !self.settings.sends_metadata || self.settings.protocol == Protocol::V2 {
            return;
        }
        for number in &self.families {
            let family = &self.cache.families[*number as usize];
            let bytes = family.name.len() + family.help.len() + family.unit.len() + 40;
            if self.writer.length() + bytes > self.settings.request_bytes_max {
                self.writer.finish(0, out);
            }
            self.writer.metadata(family);
        }
        self.writer.finish(0, out);
    }

    fn write_group(&mut self, number: u32, out: &mut Vec<WriteRequest>) {
        let group = self.cache.groups[number as usize];
        self.sort_records(&group);
        let bytes: usize =
            self.chain.iter().map(|record| self.bytes_max(&group, &self.records[*record as usize])).sum();
        if self.writer.length() + bytes > self.settings.request_bytes_max {
            self.writer.finish(group.owner, out);
        }
        let points = self.chain.iter().filter(|record| self.records[**record as usize].is_point).count();
        self.writer.add_points(points as u64);
        let class = self.cache.families[group.family as usize].class;
        let mut push = Push {
            group: number,
            family: &self.cache.families[group.family as usize],
            cache: &self.cache,
            chain: &self.chain,
            records: &self.records,
            cumulative: &self.cumulative,
            values: &self.values,
            natives: &self.natives,
            exemplars: &self.exemplars,
            exemplar_labels: &self.exemplar_labels,
            writer: &mut self.writer,
        };
        match class {
            Class::Number => push.write_numbers(),
            Class::Histogram => push.write_histograms(),
            Class::Native => push.write_natives(),
            Class::Summary => push.write_summaries(),
        }
    }

    /// The records of a group by time; of those with the same millisecond the last counts.
    fn sort_records(&mut self, group: &Group) {
        self.chain.clear();
        let mut next = group.first;
        while next != NONE {
            self.chain.push(next);
            next = self.records[next as usize].next;
        }
        if self.chain.len() == 1 {
            return;
        }
        let records = &self.records;
        self.chain.sort_by_key(|record| records[*record as usize].time_ms);
        let mut replaced = 0;
        // From the back, so that the last one stays.
        self.chain.reverse();
        self.chain.dedup_by(|earlier, later| {
            let (earlier, later) = (&records[*earlier as usize], &records[*later as usize]);
            let is_same = earlier.time_ms == later.time_ms;
            replaced += u64::from(is_same && earlier.is_point);
            is_same
        });
        self.chain.reverse();
        self.counts.dropped[DropReason::Replaced as usize] += replaced;
    }
}

/// One group of a push, about to be written.
struct Push<'a> {
    group: u32,
    family: &'a Family,
    cache: &'a Cache,
    chain: &'a [u32],
    records: &'a [Record],
    cumulative: &'a [u64],
    values: &'a [f64],
    natives: &'a [u8],
    exemplars: &'a [ExemplarRecord],
    exemplar_labels: &'a [u8],
    writer: &'a mut RequestWriter,
}

impl<'a> Push<'a> {
    /// The records to write, by time.
    fn records(&self) -> impl Iterator<Item = &'a Record> + Clone + use<'a> {
        let records = self.records;
        self.chain.iter().map(move |number| &records[*number as usize])
    }

    fn end_series(&mut self, variant: Variant, extra: &[u8]) {
        let parts = self.cache.label_parts(self.group);
        let name = &self.family.name_labels[variant as usize];
        self.writer.end_series(parts, name, extra, self.family, self.cache);
    }

    fn sample(&mut self, record: &Record, value: f64) {
        let value = if record.is_stale { STALE } else { value };
        self.writer.sample(Sample { value, time_ms: record.time_ms, start_ms: record.start_ms });
    }

    /// The exemplars of a record that are in its bucket number `bucket`.
    fn exemplars(&mut self, record: &Record, bucket: usize) {
        let (first, end) = record.exemplars;
        let all = &self.exemplars[first as usize..end as usize];
        let from = all.partition_point(|exemplar| (exemplar.bucket as usize) < bucket);
        for exemplar in all[from..].iter().take_while(|exemplar| exemplar.bucket as usize == bucket) {
            let labels = &self.exemplar_labels[exemplar.labels.0 as usize..exemplar.labels.1 as usize];
            let exemplar = Exemplar { labels, value: exemplar.value, time_ms: exemplar.time_ms };
            self.writer.exemplar(exemplar, self.cache);
        }
    }

    fn write_numbers(&mut self) {
        for record in self.records() {
            if let RecordValue::Number(value) = record.value {
                self.sample(record, value);
            }
        }
        for record in self.records() {
            self.exemplars(record, 0);
        }
        self.end_series(Variant::Plain, &[]);
    }

    fn write_natives(&mut self) {
        for record in self.records() {
            if let RecordValue::Native { start, end } = record.value {
                let message = &self.natives[start as usize..end as usize];
                self.writer.histogram(message, record.time_ms, record.start_ms);
            }
        }
        for record in self.records() {
            self.exemplars(record, 0);
        }
        self.end_series(Variant::Plain, &[]);
    }

    fn write_histograms(&mut self) {
        let mut has_sum = false;
        for record in self.records() {
            if let RecordValue::Histogram { sum: Some(sum), .. } = record.value {
                self.sample(record, sum);
                has_sum = true;
            }
        }
        if has_sum {
            self.end_series(Variant::Sum, &[]);
        }
        self.write_counts();
        self.end_series(Variant::Count, &[]);
        let cache = self.cache;
        for (bounds, number) in self.all_bounds() {
            self.write_bucket(cache.bounds[bounds as usize].values[number], number);
            self.end_series(Variant::Bucket, cache.bounds[bounds as usize].label(number));
        }
        self.write_counts();
        for record in self.records() {
            if let RecordValue::Histogram { bounds, .. } = record.value {
                self.exemplars(record, cache.bounds[bounds as usize].values.len());
            }
        }
        self.end_series(Variant::Bucket, &cache.infinity_label);
    }

    fn write_counts(&mut self) {
        for record in self.records() {
            let (RecordValue::Histogram { count, .. } | RecordValue::Summary { count, .. }) = record.value else {
                continue;
            };
            self.sample(record, count as f64);
        }
    }

    /// The samples and exemplars of the bucket up to `bound`, which is number `number` in the lists that have most.
    fn write_bucket(&mut self, bound: f64, number: usize) {
        let cache = self.cache;
        let buckets = self.records().filter_map(|record| {
            let RecordValue::Histogram { bounds, first, .. } = record.value else {
                return None;
            };
            let own = position(&cache.bounds[bounds as usize].values, bound, number)?;
            Some((record, first as usize, own))
        });
        for (record, first, own) in buckets.clone() {
            self.sample(record, self.cumulative[first + own] as f64);
        }
        for (record, _, own) in buckets {
            self.exemplars(record, own);
        }
    }

    /// Every bound or quantile that a record of the group has, in order: where it is found.
    fn all_bounds(&self) -> Vec<(u32, usize)> {
        let mut lists: Vec<u32> = self.records().filter_map(|record| bounds_of(record.value)).collect();
        lists.sort_unstable();
        lists.dedup();
        let values = |list: u32| self.cache.bounds[list as usize].values.len();
        let mut all: Vec<(u32, usize)> =
            lists.iter().flat_map(|list| (0..values(*list)).map(|number| (*list, number))).collect();
        if lists.len() > 1 {
            let value = |place: &(u32, usize)| self.cache.bounds[place.0 as usize].values[place.1];
            all.sort_by(|left, right| value(left).total_cmp(&value(right)));
            all.dedup_by(|left, right| value(left) == value(right));
        }
        all
    }

    fn write_summaries(&mut self) {
        for record in self.records() {
            if let RecordValue::Summary { sum, .. } = record.value {
                self.sample(record, sum);
            }
        }
        self.end_series(Variant::Sum, &[]);
        self.write_counts();
        self.end_series(Variant::Count, &[]);
        let cache = self.cache;
        for (bounds, number) in self.all_bounds() {
            let quantile = cache.bounds[bounds as usize].values[number];
            for record in self.records() {
                if let RecordValue::Summary { bounds, first, .. } = record.value
                    && let Some(own) = position(&cache.bounds[bounds as usize].values, quantile, number)
                {
                    self.sample(record, self.values[first as usize + own]);
                }
            }
            self.end_series(Variant::Plain, cache.bounds[bounds as usize].label(number));
        }
    }
}

fn bounds_of(value: RecordValue) -> Option<u32> {
    match value {
        RecordValue::Histogram { bounds, .. } | RecordValue::Summary { bounds, .. } => Some(bounds),
        RecordValue::Number(_) | RecordValue::Native { .. } => None,
    }
}

/// Where `value` is in a list; mostly at `guess`.
fn position(values: &[f64], value: f64, guess: usize) -> Option<usize> {
    if values.get(guess) == Some(&value) {
        return Some(guess);
    }
    values.iter().position(|other| *other == value)
}

/// A last bound of infinity says what every histogram says anyway.
fn merge_infinite_bound(lists: &mut Lists) {
    if lists.bounds.last() != Some(&f64::INFINITY) {
        return;
    }
    lists.bounds.pop();
    if lists.counts.len() == lists.bounds.len() + 2 {
        let beyond = lists.counts.pop().unwrap_or_default();
        if let Some(last) = lists.counts.last_mut() {
            *last = last.saturating_add(beyond);
        }
    }
}

/// Sorted by name. Attributes are left out if they make it too long, all of them.
fn exemplar_labels(exemplar: &point::Exemplar<'_>, settings: &Settings) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    for (name, id, length) in [("trace_id", exemplar.trace_id, 16), ("span_id", exemplar.span_id, 8)] {
        if id.len() == length && id.iter().any(|byte| *byte != 0) {
            labels.push((name.to_owned(), id.iter().map(|byte| format!("{byte:02x}")).collect()));
        }
    }
    let ids = labels.len();
    for attribute in exemplar.filtered_attributes() {
        let (key, value) = text_of(attribute);
        let Some(name) = label_name(&key, settings.strategy) else {
            continue;
        };
        if !value.is_empty() && labels.iter().all(|(other, _)| *other != name) {
            labels.push((name, value));
        }
    }
    let letters: usize = labels.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum();
    if letters > EXEMPLAR_LETTERS_MAX {
        labels.truncate(ids);
    }
    labels.sort();
    labels
}

fn milliseconds(time_ns: u64) -> i64 {
    (time_ns / 1_000_000) as i64
}
