//! Metrics and their data points, read where they lie (opentelemetry-proto metrics/v1).
//!
//! The one idea: one walk over a point's bytes notes every number, and lists go to buffers that are used again; nothing is
//! allocated per point once the buffers have grown. Bytes that were never checked end the walk early; nothing panics.
//! Nothing here knows Prometheus.

use crate::otlp::attributes::{Attribute, Fields, Value};
use crate::wire::{Reader, WireType};

/// What a metric measures: which field of `Metric` holds its points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Gauge,
    Sum,
    Histogram,
    Exponential,
    Summary,
}

impl Kind {
    fn from_field(number: u32) -> Option<Self> {
        [Self::Gauge, Self::Sum, Self::Histogram, Self::Exponential, Self::Summary]
            .into_iter()
            .find(|kind| kind.field() == number)
    }

    /// Number of the field of `Metric` that holds its points.
    pub(super) fn field(self) -> u32 {
        match self {
            Self::Gauge => 5,
            Self::Sum => 7,
            Self::Histogram => 9,
            Self::Exponential => 10,
            Self::Summary => 11,
        }
    }

    /// Number of the field `attributes` in points of this kind.
    fn attributes_field(self) -> u32 {
        match self {
            Self::Gauge | Self::Sum | Self::Summary => 7,
            Self::Histogram => 9,
            Self::Exponential => 1,
        }
    }

    /// Number of the field `exemplars`; 0, which no field has, if points of this kind have none.
    fn exemplars_field(self) -> u32 {
        match self {
            Self::Gauge | Self::Sum => 5,
            Self::Histogram => 8,
            Self::Exponential => 11,
            Self::Summary => 0,
        }
    }
}

/// `AggregationTemporality`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Temporality {
    #[default]
    Unspecified,
    Delta,
    Cumulative,
}

/// A Metric without its points.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Header<'a> {
    pub(super) name: &'a [u8],
    pub(super) description: &'a [u8],
    pub(super) unit: &'a [u8],
    /// `None` if the metric has no data of a kind we know.
    pub(super) kind: Option<Kind>,
    pub(super) temporality: Temporality,
    pub(super) is_monotonic: bool,
    /// Where the data starts that counts: another kind of data in front of it was replaced.
    pub(super) data_at: usize,
    /// The text of `metadata["prometheus.type"]`.
    pub(super) prometheus_type: &'a [u8],
}

impl<'a> Header<'a> {
    /// Reads a Metric message; points in it are stepped over. Of repeated fields the last one counts.
    pub(super) fn read(metric: &'a [u8]) -> Self {
        let mut header = Self::default();
        for field in Fields::of(metric) {
            match field.tag.number {
                1 => header.name = field.body,
                2 => header.description = field.body,
                3 => header.unit = field.body,
                12 => header.read_metadata(field.body),
                number => {
                    if let Some(kind) = Kind::from_field(number) {
                        header.read_data(kind, field.tag.offset, field.body);
                    }
                }
            }
        }
        header
    }

    fn read_metadata(&mut self, key_value: &'a [u8]) {
        let attribute = Attribute::read(key_value);
        if let (b"prometheus.type", Value::String(text)) = (attribute.key, Value::read(attribute.value)) {
            self.prometheus_type = text;
        }
    }

    /// Parts of one message field are merged; another kind starts afresh.
    fn read_data(&mut self, kind: Kind, at: usize, data: &[u8]) {
        if self.kind != Some(kind) {
            (self.kind, self.data_at) = (Some(kind), at);
            (self.temporality, self.is_monotonic) = (Temporality::default(), false);
        }
        for field in Fields::of(data) {
            match (kind, field.tag.number) {
                (Kind::Sum | Kind::Histogram | Kind::Exponential, 2) => {
                    self.temporality = match field.number {
                        1 => Temporality::Delta,
                        2 => Temporality::Cumulative,
                        _ => Temporality::Unspecified,
                    };
                }
                (Kind::Sum, 3) => self.is_monotonic = field.number != 0,
                _ => {}
            }
        }
    }
}

/// A data point of any kind: which numbers mean something depends on the kind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Point {
    pub(super) start_ns: u64,
    pub(super) time_ns: u64,
    pub(super) has_no_value: bool,
    pub(super) has_exemplars: bool,
    /// Of a gauge or sum.
    pub(super) value: Option<f64>,
    pub(super) count: u64,
    pub(super) sum: Option<f64>,
    pub(super) scale: i32,
    pub(super) zero_count: u64,
    pub(super) zero_threshold: f64,
    pub(super) positive_offset: i32,
    pub(super) negative_offset: i32,
}

/// The lists of a point, used again for each.
#[derive(Clone, Debug, Default)]
pub(super) struct Lists {
    /// Who the point is: the prefix given when it was read, then its fields `attributes`, tags included.
    pub(super) key: Vec<u8>,
    /// Bucket counts of a histogram, or the positive ones of an exponential histogram.
    pub(super) counts: Vec<u64>,
    pub(super) negative: Vec<u64>,
    /// Explicit bounds, or quantiles.
    pub(super) bounds: Vec<f64>,
    /// Values of quantiles.
    pub(super) values: Vec<f64>,
}

impl Lists {
    fn start(&mut self, key_prefix: &[u8]) {
        self.key.clear();
        self.key.extend_from_slice(key_prefix);
        self.counts.clear();
        self.negative.clear();
        self.bounds.clear();
        self.values.clear();
    }
}

impl Point {
    /// Reads a point of `kind`; its lists replace what is in `lists`.
    pub(super) fn read(kind: Kind, bytes: &[u8], key_prefix: &[u8], lists: &mut Lists) -> Self {
        lists.start(key_prefix);
        let mut point = Self::default();
        let (attributes, exemplars) = (kind.attributes_field(), kind.exemplars_field());
        for field in Fields::of(bytes) {
            let number = field.tag.number;
            if number == attributes {
                lists.key.extend_from_slice(field.raw);
            } else if number == exemplars {
                point.has_exemplars = true;
            } else {
                match (kind, number) {
                    (_, 2) => point.start_ns = field.number,
                    (_, 3) => point.time_ns = field.number,
                    (Kind::Gauge | Kind::Sum, 4) => point.value = Some(f64::from_bits(field.number)),
                    (Kind::Gauge | Kind::Sum, 6) => point.value = Some(field.number as i64 as f64),
                    (Kind::Gauge | Kind::Sum | Kind::Summary, 8) => point.has_no_value = field.number & 1 != 0,
                    (Kind::Histogram | Kind::Exponential, 10) => point.has_no_value = field.number & 1 != 0,
                    (Kind::Gauge | Kind::Sum, _) => {}
                    (_, 4) => point.count = field.number,
                    (_, 5) => point.sum = Some(f64::from_bits(field.number)),
                    (Kind::Histogram, 6) => {
                        read_fixed(field.body, field.number, field.tag.wire_type, &mut lists.counts, |bits| bits)
                    }
                    (Kind::Histogram, 7) => {
                        read_fixed(field.body, field.number, field.tag.wire_type, &mut lists.bounds, f64::from_bits);
                    }
                    (Kind::Summary, 6) => read_quantile(field.body, lists),
                    (Kind::Exponential, 6) => point.scale = zigzag(field.number),
                    (Kind::Exponential, 7) => point.zero_count = field.number,
                    (Kind::Exponential, 8) => read_buckets(field.body, &mut point.positive_offset, &mut lists.counts),
                    (Kind::Exponential, 9) => read_buckets(field.body, &mut point.negative_offset, &mut lists.negative),
                    (Kind::Exponential, 14) => point.zero_threshold = f64::from_bits(field.number),
                    _ => {}
                }
            }
        }
        point
    }
}

/// A repeated fixed64 or double: packed, or one at a time.
fn read_fixed<T>(body: &[u8], number: u64, wire_type: WireType, out: &mut Vec<T>, value: fn(u64) -> T) {
    if wire_type == WireType::Length {
        let (numbers, _) = body.as_chunks::<8>();
        out.extend(numbers.iter().map(|bytes| value(u64::from_le_bytes(*bytes))));
    } else {
        out.push(value(number));
    }
}

fn read_quantile(body: &[u8], lists: &mut Lists) {
    let (mut quantile, mut value) = (0.0, 0.0);
    for field in Fields::of(body) {
        match field.tag.number {
            1 => quantile = f64::from_bits(field.number),
            2 => value = f64::from_bits(field.number),
            _ => {}
        }
    }
    lists.bounds.push(quantile);
    lists.values.push(value);
}

fn read_buckets(body: &[u8], offset: &mut i32, counts: &mut Vec<u64>) {
    for field in Fields::of(body) {
        match field.tag.number {
            1 => *offset = zigzag(field.number),
            2 if field.tag.wire_type == WireType::Length => {
                let mut reader = Reader::new("bucket counts", field.body);
                while reader.position() < field.body.len() {
                    let Ok(count) = reader.varint() else {
                        break;
                    };
                    counts.push(count);
                }
            }
            2 => counts.push(field.number),
            _ => {}
        }
    }
}

/// A `sint32`; what is above 32 bits is cut off, as protobuf does.
fn zigzag(number: u64) -> i32 {
    let number = number as u32;
    (number >> 1) as i32 ^ -((number & 1) as i32)
}

/// The key-values of the fields that [`Lists::key`] ends in.
pub(super) fn attributes(fields: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    let length_delimited = Fields::of(fields).filter(|field| field.tag.wire_type == WireType::Length);
    length_delimited.map(|field| Attribute::read(field.body))
}

/// An example of a measurement.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Exemplar<'a> {
    pub(super) value: f64,
    pub(super) time_ns: u64,
    /// Not of 16 bytes if there is none.
    pub(super) trace_id: &'a [u8],
    /// Not of 8 bytes if there is none.
    pub(super) span_id: &'a [u8],
    /// The whole message, for its attributes.
    bytes: &'a [u8],
}

impl<'a> Exemplar<'a> {
    fn read(bytes: &'a [u8]) -> Self {
        let mut exemplar = Self { bytes, ..Self::default() };
        for field in Fields::of(bytes) {
            match field.tag.number {
                2 => exemplar.time_ns = field.number,
                3 => exemplar.value = f64::from_bits(field.number),
                4 => exemplar.span_id = field.body,
                5 => exemplar.trace_id = field.body,
                6 => exemplar.value = field.number as i64 as f64,
                _ => {}
            }
        }
        exemplar
    }

    /// What the measurement had that its series has not.
    pub(super) fn filtered_attributes(self) -> impl Iterator<Item = Attribute<'a>> {
        Fields::of(self.bytes).filter(|field| field.tag.number == 7).map(|field| Attribute::read(field.body))
    }
}

/// The exemplars of a point of `kind`.
pub(super) fn exemplars(kind: Kind, point: &[u8]) -> impl Iterator<Item = Exemplar<'_>> {
    let number = kind.exemplars_field();
    Fields::of(point).filter(move |field| field.tag.number == number).map(|field| Exemplar::read(field.body))
}
