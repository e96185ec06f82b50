//! What is known of resources, scopes, metrics and series: built once, looked up for every point.
//!
//! ```text
//! point key = resource number, scope number, family number, attribute bytes  -->  group number
//! group     = family name + labels, ready to be copied into a request        (one or more series)
//! ```
//!
//! The one idea: a series' labels are built, translated and sorted when its first point comes; from then on a point costs
//! one lookup by its bytes. Points that say the same in another order find the same group. Everything is numbered from 0
//! and dies together when the owner clears the cache, so nothing can be stale.

use super::counts::DropReason;
use super::intern::{Interner, Seed};
use super::labels::{Labels, ResourcePart, lossy, scope_labels, series_labels};
use super::names::{NameEnd, metric_name};
use super::point::{Header, Kind, Temporality};
use super::settings::{Protocol, Settings};
use super::text::write_bound;
use crate::wire::{length_field_length, write_length_field, write_length_prefix};

/// Offsets have 32 bits: a cache larger than this is cleared whatever the settings say.
pub(super) const BYTES_MAX: usize = 2 << 30;

/// What kind of series a group has. Gauges and sums of one name and labels are one series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Number,
    Histogram,
    Native,
    Summary,
}

impl Class {
    /// The label that tells its series apart.
    pub(super) fn extra_label(self) -> Option<&'static str> {
        match self {
            Self::Number | Self::Native => None,
            Self::Histogram => Some("le"),
            Self::Summary => Some("quantile"),
        }
    }
}

/// The series of a group have names that start alike and end in one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variant {
    Plain,
    Sum,
    Count,
    Bucket,
}

impl Variant {
    const ALL: [Self; 4] = [Self::Plain, Self::Sum, Self::Count, Self::Bucket];

    fn suffix(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Sum => "_sum",
            Self::Count => "_count",
            Self::Bucket => "_bucket",
        }
    }
}

/// Types of metadata, with their numbers in both protocols (prompb/types.proto, io/prometheus/write/v2/types.proto).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetricType {
    Unknown = 0,
    Counter = 1,
    Gauge = 2,
    Histogram = 3,
    Summary = 5,
    Info = 6,
    Stateset = 7,
}

/// A metric header, translated.
#[derive(Clone, Debug)]
pub(super) struct Family {
    pub(super) class: Class,
    /// Why all of its points are dropped, if they are.
    pub(super) drop: Option<DropReason>,
    /// The metric's name as it came.
    pub(super) original: String,
    /// Its name in Prometheus, without the suffix of a variant.
    pub(super) name: String,
    /// The label `__name__` of each variant, encoded as labels are.
    pub(super) name_labels: [Vec<u8>; 4],
    pub(super) metric_type: MetricType,
    pub(super) help: String,
    pub(super) unit: String,
    /// Symbols of help and unit, with 2.0.
    pub(super) help_symbol: u32,
    pub(super) unit_symbol: u32,
    /// Whether a start time means something.
    pub(super) has_start: bool,
    /// Whether its points say what is new, and are added up.
    pub(super) is_delta: bool,
    /// The number of the push it was last part of.
    pub(super) stamp: u32,
    /// One bit for each reason for which it was told that points of it are dropped.
    pub(super) told: u16,
}

/// A list of explicit bounds or quantiles, with a label for each.
#[derive(Clone, Debug, Default)]
pub(super) struct Bounds {
    pub(super) values: Vec<f64>,
    labels: Vec<u8>,
    ends: Vec<u32>,
}

impl Bounds {
    /// The encoded label of bound number `number`.
    pub(super) fn label(&self, number: usize) -> &[u8] {
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.labels[start as usize..self.ends[number] as usize]
    }
}

/// Series with the same labels but for `__name__`'s suffix and the class' extra label.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub(super) family: u32,
    pub(super) owner: u32,
    /// Bytes of names and values of its labels.
    pub(super) label_bytes: u32,
    pub(super) labels_count: u32,
    /// Where the labels start among its bytes in the table.
    start: u32,
    /// Where `__name__` belongs.
    name_at: u32,
    /// Where the extra label belongs.
    extra_at: u32,
    /// The number of the push it was last part of, and its records in that push.
    pub(super) stamp: u32,
    pub(super) first: u32,
    pub(super) last: u32,
}

/// Labels of a group in three parts: `__name__` stands between the first two, the extra label between the last two.
#[derive(Clone, Copy, Debug)]
pub(super) struct LabelParts<'a> {
    pub(super) before: &'a [u8],
    pub(super) between: &'a [u8],
    pub(super) after: &'a [u8],
}

/// What is known of a resource.
#[derive(Clone, Debug)]
pub(super) struct Resource {
    part: ResourcePart,
    /// The group of its `target_info`, once it was built.
    target_group: Option<u32>,
    /// The number of the push it was last part of, and the newest point then.
    pub(super) stamp: u32,
    pub(super) newest_ns: u64,
}

/// The tables.
#[derive(Debug)]
pub(super) struct Cache {
    seed: Seed,
    resource_keys: Interner,
    pub(super) resources: Vec<Resource>,
    scope_keys: Interner,
    scopes: Vec<Vec<(String, String)>>,
    family_keys: Interner,
    pub(super) families: Vec<Family>,
    bound_keys: Interner,
    pub(super) bounds: Vec<Bounds>,
    point_keys: Interner,
    point_groups: Vec<u32>,
    group_keys: Interner,
    pub(super) groups: Vec<Group>,
    /// Texts of labels and metadata, with 2.0.
    pub(super) symbols: Interner,
    /// Memory outside the tables, roughly.
    bytes_beside: usize,
    scratch: Vec<u8>,
    /// The label of the "+Inf" bucket.
    pub(super) infinity_label: Vec<u8>,
}

impl Cache {
    pub(super) fn new(seed: &Seed) -> Self {
        let table = || Interner::new(seed.clone());
        Self {
            seed: seed.clone(),
            resource_keys: table(),
            resources: Vec::new(),
            scope_keys: table(),
            scopes: Vec::new(),
            family_keys: table(),
            families: Vec::new(),
            bound_keys: table(),
            bounds: Vec::new(),
            point_keys: table(),
            point_groups: Vec::new(),
            group_keys: table(),
            groups: Vec::new(),
            symbols: table(),
            bytes_beside: 0,
            scratch: Vec::new(),
            infinity_label: Vec::new(),
        }
    }

    /// Memory in bytes of what is in it.
    pub(super) fn bytes_used(&self) -> usize {
        let tables = [
            &self.resource_keys,
            &self.scope_keys,
            &self.family_keys,
            &self.bound_keys,
            &self.point_keys,
            &self.group_keys,
            &self.symbols,
        ];
        let tables: usize = tables.map(Interner::bytes_used).iter().sum();
        tables + self.point_groups.len() * 4 + self.groups.len() * size_of::<Group>() + self.bytes_beside
    }

    /// Forgets everything and keeps the tables' memory.
    pub(super) fn clear(&mut self) {
        for table in [
            &mut self.resource_keys,
            &mut self.scope_keys,
            &mut self.family_keys,
            &mut self.bound_keys,
            &mut self.point_keys,
            &mut self.group_keys,
            &mut self.symbols,
        ] {
            table.clear();
        }
        self.resources.clear();
        self.scopes.clear();
        self.families.clear();
        self.bounds.clear();
        self.point_groups.clear();
        self.groups.clear();
        self.infinity_label.clear();
        self.bytes_beside = 0;
    }

    /// The envelopes of a resource and a scope, to find them again after the cache was cleared.
    pub(super) fn envelopes(&self, resource: u32, scope: u32) -> (Vec<u8>, Vec<u8>) {
        (self.resource_keys.bytes(resource).to_vec(), self.scope_keys.bytes(scope).to_vec())
    }

    pub(super) fn resource(&mut self, envelope: &[u8], settings: &Settings) -> u32 {
        let (number, is_new) = self.resource_keys.intern(envelope);
        if is_new {
            let part = ResourcePart::read(envelope, settings);
            self.resources.push(Resource { part, target_group: None, stamp: 0, newest_ns: 0 });
            self.bytes_beside += size_of::<Resource>() + 2 * envelope.len();
        }
        number
    }

    pub(super) fn scope(&mut self, envelope: &[u8], settings: &Settings) -> u32 {
        let (number, is_new) = self.scope_keys.intern(envelope);
        if is_new {
            self.scopes.push(scope_labels(envelope, settings));
            self.bytes_beside += 2 * envelope.len();
        }
        number
    }

    pub(super) fn family(&mut self, header: &Header<'_>, kind: Kind, settings: &Settings) -> u32 {
        let mut key = std::mem::take(&mut self.scratch);
        key.clear();
        key.extend([kind as u8, header.temporality as u8, u8::from(header.is_monotonic)]);
        for text in [header.name, header.description, header.unit, header.prometheus_type] {
            key.extend((text.len() as u32).to_le_bytes());
            key.extend_from_slice(text);
        }
        let (number, is_new) = self.family_keys.intern(&key);
        self.scratch = key;
        if is_new {
            let family = self.build_family(header, kind, settings);
            self.push_family(family);
        }
        number
    }

    fn push_family(&mut self, family: Family) {
        let texts = [&family.original, &family.name, &family.help, &family.unit];
        self.bytes_beside += size_of::<Family>() + texts.map(String::len).iter().sum::<usize>();
        self.bytes_beside += family.name_labels.iter().map(Vec::len).sum::<usize>();
        self.families.push(family);
    }

    fn build_family(&mut self, header: &Header<'_>, kind: Kind, settings: &Settings) -> Family {
        let (original, unit) = (lossy(header.name), lossy(header.unit));
        let is_counter = kind == Kind::Sum && header.is_monotonic;
        let is_gauge = kind == Kind::Gauge || kind == Kind::Sum && !header.is_monotonic;
        let end = match kind {
            _ if is_counter => NameEnd::Total,
            _ if is_gauge && unit == "1" => NameEnd::Ratio,
            _ => NameEnd::Plain,
        };
        let name = metric_name(&original, &unit, end, &settings.namespace, settings.strategy);
        let drop = match (&name, kind, header.temporality) {
            (None, _, _) => Some(DropReason::Name),
            (_, Kind::Gauge | Kind::Summary, _) | (_, _, Temporality::Cumulative) => None,
            (_, Kind::Sum | Kind::Histogram | Kind::Exponential, Temporality::Delta) if settings.delta.is_some() => {
                None
            }
            (_, _, Temporality::Delta) => Some(DropReason::Delta),
            (_, _, Temporality::Unspecified) => Some(DropReason::Temporality),
        };
        let (class, metric_type) = match kind {
            Kind::Gauge | Kind::Sum if is_counter => (Class::Number, MetricType::Counter),
            Kind::Gauge | Kind::Sum => (Class::Number, type_in_metadata(header.prometheus_type)),
            Kind::Histogram => (Class::Histogram, MetricType::Histogram),
            Kind::Exponential => (Class::Native, MetricType::Histogram),
            Kind::Summary => (Class::Summary, MetricType::Summary),
        };
        let help = lossy(header.description);
        let mut family = Family {
            class,
            drop,
            original,
            name: name.unwrap_or_default(),
            name_labels: Default::default(),
            metric_type,
            help,
            unit,
            help_symbol: 0,
            unit_symbol: 0,
            has_start: !is_gauge,
            is_delta: header.temporality == Temporality::Delta,
            stamp: 0,
            told: 0,
        };
        if drop.is_none() {
            self.name_family(&mut family, settings.protocol);
        }
        family
    }

    fn name_family(&mut self, family: &mut Family, protocol: Protocol) {
        for variant in Variant::ALL {
            let is_used = match family.class {
                Class::Number | Class::Native => variant == Variant::Plain,
                Class::Histogram => variant != Variant::Plain,
                Class::Summary => variant != Variant::Bucket,
            };
            if is_used {
                let name = format!("{}{}", family.name, variant.suffix());
                let mut label = Vec::new();
                self.encode_label(protocol, "__name__", &name, &mut label);
                family.name_labels[variant as usize] = label;
            }
        }
        if protocol == Protocol::V2 {
            family.help_symbol = self.symbols.intern(family.help.as_bytes()).0;
            family.unit_symbol = self.symbols.intern(family.unit.as_bytes()).0;
        }
    }

    /// Appends a label as it will stand in a request: with 1.0 the whole field, with 2.0 the numbers of its two symbols.
    fn encode_label(&mut self, protocol: Protocol, name: &str, value: &str, out: &mut Vec<u8>) {
        match protocol {
            Protocol::V1 => write_label(name.as_bytes(), value.as_bytes(), out),
            Protocol::V2 => {
                for text in [name, value] {
                    out.extend(self.symbols.intern(text.as_bytes()).0.to_le_bytes());
                }
            }
        }
    }

    /// The number of a list of bounds or quantiles.
    ///
    /// # Errors
    /// Bounds do not rise, a quantile comes twice, or one is not a number.
    pub(super) fn bounds(&mut self, class: Class, values: &[f64], protocol: Protocol) -> Result<u32, DropReason> {
        let mut key = std::mem::take(&mut self.scratch);
        key.clear();
        key.push(class as u8);
        key.extend(values.iter().flat_map(|value| value.to_bits().to_le_bytes()));
        let found = match self.bound_keys.find(&key) {
            Some(number) => Ok(number),
            None if is_valid(class, values) => Ok(self.bound_keys.intern(&key).0),
            None => Err(DropReason::Buckets),
        };
        self.scratch = key;
        if found.is_ok_and(|number| number as usize == self.bounds.len()) {
            let bounds = self.build_bounds(class, values, protocol);
            self.bytes_beside += size_of::<Bounds>() + bounds.labels.len() + 12 * values.len();
            self.bounds.push(bounds);
        }
        found
    }

    fn build_bounds(&mut self, class: Class, values: &[f64], protocol: Protocol) -> Bounds {
        let name = class.extra_label().unwrap_or_default();
        let mut bounds = Bounds { values: values.to_vec(), ..Bounds::default() };
        let mut text = String::new();
        for value in values {
            text.clear();
            write_bound(*value, &mut text);
            self.encode_label(protocol, name, &text, &mut bounds.labels);
            bounds.ends.push(bounds.labels.len() as u32);
        }
        if self.infinity_label.is_empty() {
            let mut label = Vec::new();
            self.encode_label(protocol, "le", "+Inf", &mut label);
            self.infinity_label = label;
        }
        bounds
    }

    /// The group of the point with this key: resource, scope and family, then the attribute fields.
    #[inline]
    pub(super) fn group_of_point(&self, key: &[u8]) -> Option<u32> {
        self.point_keys.find(key).map(|number| self.point_groups[number as usize])
    }

    /// Builds the labels of a point that is not in the cache, and remembers them.
    ///
    /// # Errors
    /// There are too many labels.
    pub(super) fn add_point(&mut self, key: &[u8], settings: &Settings) -> Result<u32, DropReason> {
        let (context, attributes) = key.split_at(KEY_PREFIX_BYTES);
        let number = |at: usize| u32::from_le_bytes([context[at], context[at + 1], context[at + 2], context[at + 3]]);
        let resource = &self.resources[number(0) as usize].part;
        let scope = &self.scopes[number(4) as usize];
        let labels = series_labels(attributes, resource, scope, settings)?;
        let group = self.group(number(8), &labels, settings);
        self.point_keys.intern(key);
        self.point_groups.push(group);
        Ok(group)
    }

    /// The group of `target_info` for a resource, if it has one.
    pub(super) fn target_group(&mut self, resource: u32, settings: &Settings) -> Option<u32> {
        let known = &mut self.resources[resource as usize];
        let Some(labels) = known.part.target.take() else {
            return known.target_group;
        };
        let family = self.target_family(settings);
        let group = self.group(family, &labels, settings);
        self.resources[resource as usize].target_group = Some(group);
        Some(group)
    }

    fn target_family(&mut self, settings: &Settings) -> u32 {
        const NAME: &str = "target_info";
        // No metric has this key: theirs start with their kind.
        let (number, is_new) = self.family_keys.intern(NAME.as_bytes());
        if is_new {
            let name = metric_name(NAME, "", NameEnd::Plain, &settings.namespace, settings.strategy);
            let mut family = Family {
                class: Class::Number,
                drop: None,
                original: NAME.to_owned(),
                name: name.unwrap_or_default(),
                name_labels: Default::default(),
                metric_type: MetricType::Gauge,
                help: "Target metadata".to_owned(),
                unit: String::new(),
                help_symbol: 0,
                unit_symbol: 0,
                has_start: false,
                is_delta: false,
                stamp: 0,
                told: 0,
            };
            self.name_family(&mut family, settings.protocol);
            self.push_family(family);
        }
        number
    }

    fn group(&mut self, family: u32, labels: &Labels, settings: &Settings) -> u32 {
        let (class, name) = {
            let family = &self.families[family as usize];
            (family.class, family.name.clone())
        };
        let mut key = vec![class as u8];
        key.extend((name.len() as u32).to_le_bytes());
        key.extend_from_slice(name.as_bytes());
        let start = key.len() as u32;
        let (mut name_at, mut extra_at, mut label_bytes, mut labels_count) = (0, 0, name.len() + 16, 1);
        let extra = class.extra_label();
        for (label, value) in labels.iter().filter(|(label, _)| Some(label.as_str()) != extra) {
            self.encode_label(settings.protocol, label, value, &mut key);
            let end = key.len() as u32 - start;
            if label.as_str() < "__name__" {
                name_at = end;
            }
            if extra.is_some_and(|extra| label.as_str() < extra) {
                extra_at = end;
            }
            label_bytes += label.len() + value.len();
            labels_count += 1;
        }
        let (number, is_new) = self.group_keys.intern(&key);
        if is_new {
            // "__name__" sorts before both extra labels.
            let extra_at = extra_at.max(name_at);
            self.groups.push(Group {
                family,
                owner: self.owner(&name, labels, settings.owners),
                label_bytes: label_bytes as u32,
                labels_count,
                start,
                name_at,
                extra_at,
                stamp: 0,
                first: 0,
                last: 0,
            });
        }
        number
    }

    /// Who sends a series: the same for all series of a histogram, and for a series whatever metric it is made from.
    fn owner(&self, name: &str, labels: &Labels, owners: u32) -> u32 {
        let suffixes = ["_sum", "_count", "_bucket"];
        let mut text = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name).to_owned();
        for (label, value) in labels.iter().filter(|(label, _)| !matches!(label.as_str(), "le" | "quantile")) {
            // A zero byte parts them: whatever else holds one is only spread less well.
            text.extend(["\0", label, "\0", value]);
        }
        let hash = self.seed.hash(text.as_bytes());
        ((u128::from(hash) * u128::from(owners)) >> 64) as u32
    }

    /// Appends what a group is, in bytes that mean the same after the cache was emptied.
    pub(super) fn write_identity(&self, number: u32, protocol: Protocol, out: &mut Vec<u8>) {
        let key = self.group_keys.bytes(number);
        let (names, labels) = key.split_at(self.groups[number as usize].start as usize);
        out.extend_from_slice(names);
        match protocol {
            Protocol::V1 => out.extend_from_slice(labels),
            Protocol::V2 => {
                for symbol in labels.as_chunks::<4>().0 {
                    write_length_field(out, 1, self.symbols.bytes(u32::from_le_bytes(*symbol)));
                }
            }
        }
    }

    /// The labels of a group, as they stand in a request.
    #[inline]
    pub(super) fn label_parts(&self, number: u32) -> LabelParts<'_> {
        let group = &self.groups[number as usize];
        let labels = &self.group_keys.bytes(number)[group.start as usize..];
        let (front, after) = labels.split_at(group.extra_at as usize);
        let (before, between) = front.split_at(group.name_at as usize);
        LabelParts { before, between, after }
    }
}

/// Bytes before the attributes in a point's key: the numbers of its resource, scope and family.
pub(super) const KEY_PREFIX_BYTES: usize = 12;

fn is_valid(class: Class, values: &[f64]) -> bool {
    if class == Class::Histogram {
        return !values.iter().any(|bound| bound.is_nan()) && values.is_sorted_by(|left, right| left < right);
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    !values.iter().any(|quantile| quantile.is_nan()) && sorted.windows(2).all(|pair| pair[0] < pair[1])
}

/// What a Prometheus receiver or scraper wrote beside a gauge that was something else once.
fn type_in_metadata(text: &[u8]) -> MetricType {
    match text {
        b"unknown" => MetricType::Unknown,
        b"info" => MetricType::Info,
        b"stateset" => MetricType::Stateset,
        _ => MetricType::Gauge,
    }
}

/// Appends a label as field 1: of a TimeSeries and of an Exemplar alike.
pub(super) fn write_label(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let length = length_field_length(1, name.len()) + length_field_length(2, value.len());
    write_length_prefix(out, 1, length);
    write_length_field(out, 1, name);
    write_length_field(out, 2, value);
}
