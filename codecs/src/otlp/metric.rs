//! One metric as the index sees it: where its bytes lie, of which kind it is, and how many data points it has.
//!
//! A metric is one item, however many points it has: a pass-through then copies it in one piece, and whoever works on
//! points finds them where they lie. Limits and books count points, so a metric can be cut ([`cut_metric`]).

use std::ops::Range;

use super::attributes::Fields;
use super::index::Index;
use super::item::{FrameNames, Item, Place};
use super::message::check_attribute;
use super::point::{check_exponential_point, check_histogram_point, check_number_point, check_summary_point};
use super::signal::Signal;
use super::signal_index::SignalIndex;
use crate::wire::{Malformed, Reader, Tag, WireType, length_field_length, write_length_prefix};

/// `Metric.data`: which kind of points a metric has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetricKind {
    /// None that we know.
    #[default]
    None,
    /// Values of the moment.
    Gauge,
    /// Sums, perhaps monotonic.
    Sum,
    /// Counts between bounds.
    Histogram,
    /// Counts between powers of a base.
    ExponentialHistogram,
    /// Quantiles computed by the sender.
    Summary,
}

impl MetricKind {
    /// The kind of the data field called `number` of a Metric, if it is one.
    #[must_use]
    pub fn of_field(number: u32) -> Option<Self> {
        match number {
            5 => Some(Self::Gauge),
            7 => Some(Self::Sum),
            9 => Some(Self::Histogram),
            10 => Some(Self::ExponentialHistogram),
            11 => Some(Self::Summary),
            _ => None,
        }
    }
}

/// What the index notes about one metric.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetricItem {
    /// Where the Metric message starts in its segment (after its tag and length).
    pub offset: u32,
    /// Length of the message in bytes.
    pub length: u32,
    /// Index into [`super::Index::scopes`].
    pub scope: u32,
    /// Data points; 0 if there are none, or none that we know.
    pub points: u32,
    /// Which segment of the batch holds the bytes.
    pub segment: u16,
    /// Of which kind they are.
    pub kind: MetricKind,
}

impl Item for MetricItem {
    const SIGNAL: Signal = Signal::Metrics;
    const NAMES: FrameNames = FrameNames {
        resources: "resource_metrics",
        resource: "resource metrics",
        scopes: "scope_metrics",
        scope: "scope metrics",
        items: "metrics",
    };

    #[inline]
    fn place(&self) -> Place {
        Place { offset: self.offset, length: self.length, scope: self.scope, segment: self.segment }
    }

    #[inline]
    fn set_place(&mut self, place: Place) {
        let Place { offset, length, scope, segment } = place;
        *self = Self { offset, length, scope, segment, ..*self };
    }

    /// A metric without points (its name may be all that it says) counts as one, so that nothing goes uncounted.
    #[inline]
    fn count(&self) -> u64 {
        u64::from(self.points.max(1))
    }

    fn read(&mut self, bytes: &[u8], start: usize) -> Result<(), Malformed> {
        let mut reader = Reader::from("metric", bytes, start);
        while let Some(tag) = reader.tag()? {
            match tag.number {
                1 => reader.check_field(tag, "name", WireType::Length)?,
                2 => reader.check_field(tag, "description", WireType::Length)?,
                3 => reader.check_field(tag, "unit", WireType::Length)?,
                12 => check_attribute(&mut reader, tag)?,
                number => match MetricKind::of_field(number) {
                    Some(kind) => self.read_data(kind, &mut reader, tag)?,
                    None => reader.skip(tag)?,
                },
            }
        }
        Ok(())
    }

    fn index_in(index: &SignalIndex) -> Option<&Index<Self>> {
        if let SignalIndex::Metrics(index) = index { Some(index) } else { None }
    }

    fn index_in_mut(index: &mut SignalIndex) -> Option<&mut Index<Self>> {
        if let SignalIndex::Metrics(index) = index { Some(index) } else { None }
    }
}

/// Checks one data point.
type CheckPoint = fn(Reader<'_>) -> Result<(), Malformed>;

impl MetricItem {
    /// Checks one of the data fields and counts its points. Of several kinds the last one counts; of several fields of
    /// one kind, all do, because protobuf merges them.
    fn read_data(&mut self, kind: MetricKind, reader: &mut Reader<'_>, tag: Tag) -> Result<(), Malformed> {
        let (field, check): (&'static str, CheckPoint) = match kind {
            MetricKind::Gauge => ("gauge", check_number_point),
            MetricKind::Sum => ("sum", check_number_point),
            MetricKind::Histogram => ("histogram", check_histogram_point),
            MetricKind::ExponentialHistogram => ("exponential_histogram", check_exponential_point),
            MetricKind::Summary | MetricKind::None => ("summary", check_summary_point),
        };
        if kind != self.kind {
            (self.kind, self.points) = (kind, 0);
        }
        let range = reader.length_field(tag, field)?;
        let mut reader = reader.nested(field, range);
        while let Some(tag) = reader.tag()? {
            match (tag.number, kind) {
                (1, _) => {
                    let range = reader.length_field(tag, "data_points")?;
                    check(reader.nested("data point", range))?;
                    self.points += 1;
                }
                (2, MetricKind::Sum | MetricKind::Histogram | MetricKind::ExponentialHistogram) => {
                    reader.check_field(tag, "aggregation_temporality", WireType::Varint)?;
                }
                (3, MetricKind::Sum) => reader.check_field(tag, "is_monotonic", WireType::Varint)?,
                _ => reader.skip(tag)?,
            }
        }
        Ok(())
    }
}

/// Bytes that the pieces of one metric may take beyond its own: each repeats its names.
const CUT_GROWTH_BYTES_MAX: usize = 1 << 20;

/// One piece of a metric that was cut: where it lies in the output, and its points.
pub type Piece = (Range<usize>, u32);

/// Cuts a checked Metric into pieces of `first` and then of `each` points, all at least 1: appends them to `out` one
/// after the other and returns where they lie. Every piece has all that the metric says beside its points.
///
/// `None`, with nothing appended, if its names weigh so much that the pieces would take 1 MiB more than the metric: a
/// hostile sender must not multiply its bytes.
#[must_use]
pub fn cut_metric(metric: &[u8], first: u32, each: u32, out: &mut Vec<u8>) -> Option<Vec<Piece>> {
    assert!(first > 0 && each > 0, "a piece has points");
    let parts = Parts::of(metric);
    let (first, each) = (first as usize, each as usize);
    let rest = parts.points.len().saturating_sub(first);
    let count = 1 + rest.div_ceil(each);
    let own = parts.names_length() + PREFIX_BYTES_MAX;
    if count.saturating_mul(own) > CUT_GROWTH_BYTES_MAX + metric.len() {
        return None;
    }
    let (head, tail) = parts.points.split_at(first.min(parts.points.len()));
    let pieces = std::iter::once(head).chain(tail.chunks(each)).filter(|points| !points.is_empty());
    Some(pieces.map(|points| (parts.write(points, out), points.len() as u32)).collect())
}

/// Tag and length of the data field, at most.
const PREFIX_BYTES_MAX: usize = 11;

/// A metric taken apart into fields as they came.
#[derive(Default)]
struct Parts<'a> {
    /// Fields of the metric that are no data.
    names: Vec<&'a [u8]>,
    /// Number of the data field.
    data: u32,
    /// Fields of the data that are no points.
    settings: Vec<&'a [u8]>,
    points: Vec<&'a [u8]>,
}

impl<'a> Parts<'a> {
    fn of(metric: &'a [u8]) -> Self {
        let mut parts = Self::default();
        for field in Fields::of(metric) {
            if MetricKind::of_field(field.tag.number).is_none() {
                parts.names.push(field.raw);
                continue;
            }
            if field.tag.number != parts.data {
                (parts.settings, parts.points) = (Vec::new(), Vec::new());
            }
            parts.data = field.tag.number;
            for inner in Fields::of(field.body) {
                if inner.tag.number == 1 { parts.points.push(inner.raw) } else { parts.settings.push(inner.raw) }
            }
        }
        parts
    }

    fn names_length(&self) -> usize {
        self.names.iter().chain(&self.settings).map(|raw| raw.len()).sum()
    }

    fn write(&self, points: &[&[u8]], out: &mut Vec<u8>) -> Range<usize> {
        let start = out.len();
        let data: usize = points.iter().chain(&self.settings).map(|raw| raw.len()).sum();
        let names: usize = self.names.iter().map(|raw| raw.len()).sum();
        out.reserve(names + length_field_length(self.data, data));
        self.names.iter().for_each(|raw| out.extend_from_slice(raw));
        write_length_prefix(out, self.data, data);
        points.iter().chain(&self.settings).for_each(|raw| out.extend_from_slice(raw));
        start..out.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::index::MetricIndex;
    use super::super::proto;
    use super::*;
    use prost::Message;

    fn sum_of(points: u64) -> proto::Metric {
        let point = |value| proto::NumberDataPoint {
            time_unix_nano: value,
            value: Some(proto::NumberValue::AsInt(value as i64)),
            ..proto::NumberDataPoint::default()
        };
        proto::Metric {
            name: b"orders".to_vec(),
            unit: b"1".to_vec(),
            data: Some(proto::MetricData::Sum(proto::Sum {
                data_points: (0..points).map(point).collect(),
                aggregation_temporality: 2,
                is_monotonic: true,
            })),
            ..proto::Metric::default()
        }
    }

    #[test]
    fn a_cut_metric_keeps_its_names_and_each_point_once() {
        for (points, first, each, expected) in
            [(10, 4, 3, vec![4, 3, 3]), (10, 10, 1, vec![10]), (3, 1, 1, vec![1, 1, 1]), (7, 2, 10, vec![2, 5])]
        {
            let whole = sum_of(points);
            let mut out = b"before".to_vec();
            let pieces = cut_metric(&whole.encode_to_vec(), first, each, &mut out).unwrap();
            assert_eq!(pieces.iter().map(|piece| piece.1).collect::<Vec<_>>(), expected);
            let mut found = Vec::new();
            for (range, _) in pieces {
                let piece = proto::Metric::decode(&out[range]).unwrap();
                let Some(proto::MetricData::Sum(sum)) = piece.data else { panic!("another kind") };
                assert_eq!((piece.name.as_slice(), piece.unit.as_slice()), (&b"orders"[..], &b"1"[..]));
                assert!(sum.is_monotonic && sum.aggregation_temporality == 2);
                found.extend(sum.data_points);
            }
            let Some(proto::MetricData::Sum(sum)) = whole.data else { unreachable!() };
            assert_eq!(found, sum.data_points);
        }
    }

    #[test]
    fn a_metric_whose_names_outweigh_its_points_is_not_multiplied() {
        let metric = proto::Metric { description: vec![b'x'; 100_000], ..sum_of(100) }.encode_to_vec();
        let mut out = Vec::new();
        assert_eq!(cut_metric(&metric, 1, 1, &mut out), None);
        assert!(out.is_empty());
        assert_eq!(cut_metric(&metric, 50, 50, &mut out).unwrap().len(), 2);
    }

    #[test]
    fn of_several_kinds_the_last_one_counts() {
        let mut bytes = sum_of(3).encode_to_vec();
        let gauge = proto::Gauge { data_points: vec![proto::NumberDataPoint::default()] };
        let gauge = proto::Metric { data: Some(proto::MetricData::Gauge(gauge)), ..proto::Metric::default() };
        bytes.extend(gauge.encode_to_vec());
        bytes.extend(gauge.encode_to_vec());
        let mut item = MetricItem::default();
        item.read(&bytes, 0).unwrap();
        assert_eq!((item.kind, item.points), (MetricKind::Gauge, 2));
        assert_eq!(cut_metric(&bytes, 1, 1, &mut Vec::new()).unwrap().len(), 2);
    }

    #[test]
    fn a_metric_without_points_counts_as_one() {
        assert_eq!(MetricItem::default().count(), 1);
        assert_eq!(MetricIndex::default().count(), 0);
    }
}
