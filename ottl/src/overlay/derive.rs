//! Metrics made of a metric, on bytes: what its points have in common with numbers' points is copied as it lies.

use std::borrow::Cow;

use codecs::otlp::attributes::Fields;
use codecs::wire::{WireType, write_length_field, write_tag, write_varint_field};

use super::{Message, WireItem, write_any, write_key_value};
use crate::fault::Fault;
use crate::histogram::Explicit;
use crate::layout::{self, DATA_POINTS, Kind};
use crate::metric::{Derivation, Extract, Extracted, described};
use crate::path::{Context, Field};
use crate::value::Value;

/// Most metrics that statements make between two calls of [`WireItem::recycle`]: of one batch.
pub const CREATED_MAX: usize = 4096;
/// The same in bytes.
pub const CREATED_BYTES_MAX: usize = 16 << 20;

/// A metric that a statement has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedMetric {
    /// Its fields without its data; or all of it.
    header: Vec<u8>,
    /// The data's field; 0 if the header is all.
    data_number: u32,
    settings: Vec<u8>,
    points: Vec<u8>,
}

impl CreatedMetric {
    /// Appends the Metric message.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.header);
        if self.data_number != 0 {
            write_length_field(out, self.data_number, &[&*self.points, &self.settings].concat());
        }
    }

    /// Takes in the points of `other` if it is the same but for them; else gives it back.
    ///
    /// # Errors
    /// They are two metrics.
    pub fn absorb(&mut self, other: CreatedMetric) -> Result<(), CreatedMetric> {
        let is_same = self.data_number != 0
            && self.data_number == other.data_number
            && self.header == other.header
            && self.settings == other.settings;
        if !is_same {
            return Err(other);
        }
        self.points.extend_from_slice(&other.points);
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.header.len() + self.settings.len() + self.points.len()
    }
}

/// What statements have made and nobody has taken yet, and how much of it there was.
#[derive(Clone, Debug, Default)]
pub(super) struct Created {
    metrics: Vec<CreatedMetric>,
    count: usize,
    bytes: usize,
    /// What was made of points of this item one by one, without the points: more of the same is no further metric. Bounded
    /// by the statements that made them.
    of_points: Vec<CreatedMetric>,
}

impl Created {
    /// What follows is made of another metric.
    pub(super) fn begin_item(&mut self) {
        self.of_points.clear();
    }

    /// Notes a metric made of one point of the item.
    fn push_point(&mut self, metric: CreatedMetric) -> Result<(), Fault> {
        let alike = CreatedMetric { points: Vec::new(), ..metric.clone() };
        let is_further = self.of_points.contains(&alike);
        self.push(metric)?;
        if is_further {
            self.count -= 1;
        } else {
            self.of_points.push(alike);
        }
        Ok(())
    }

    fn push(&mut self, metric: CreatedMetric) -> Result<(), Fault> {
        if self.count == CREATED_MAX || self.bytes + metric.bytes() > CREATED_BYTES_MAX {
            let most = format!("{CREATED_MAX} metrics, or {CREATED_BYTES_MAX} bytes of them");
            return Err(Fault::invalid(format!("more than {most}, would have been made of one batch")));
        }
        self.count += 1;
        self.bytes += metric.bytes();
        self.metrics.push(metric);
        Ok(())
    }
}

impl WireItem<'_> {
    /// Whether statements have made metrics that were not taken yet.
    #[must_use]
    pub fn has_created(&self) -> bool {
        !self.created.metrics.is_empty()
    }

    /// Takes the metrics that statements have made, in their order.
    pub fn take_created(&mut self) -> impl Iterator<Item = CreatedMetric> + use<'_> {
        self.created.metrics.drain(..)
    }

    pub(super) fn derived(&mut self, derivation: &Derivation) -> Result<(), Fault> {
        let metric = match derivation {
            Derivation::Copy { name, description, unit } => Some(self.copied([name, description, unit])),
            Derivation::Extract(extracted) => {
                let kind = self.points_kind();
                if !matches!(kind, Some(Kind::Histogram | Kind::ExponentialHistogram | Kind::Summary)) {
                    return Err(Fault::invalid("only histograms and summaries have a count and a sum"));
                }
                // Summaries sum up what was since the start.
                let temporality = match self.item.read(Field::Temporality) {
                    Value::Int(temporality) if kind != Some(Kind::Summary) => temporality,
                    _ => 2,
                };
                if temporality == 0 {
                    return Err(Fault::invalid("the metric has no aggregation temporality"));
                }
                let points = self.item.current_parts().filter_map(|part| self.extracted_point(part, extracted.part));
                // What is counted has no unit.
                let unit = (extracted.part == Extract::Count).then_some(&b"1"[..]);
                self.sum_of(extracted, temporality, unit, points)
            }
            Derivation::ConvertPoint { temporality, extracted } => {
                if self.points_kind() != Some(Kind::Summary) {
                    return Ok(());
                }
                let mut part = Vec::new();
                self.part.write(&mut part);
                self.sum_of(extracted, *temporality, None, self.extracted_point(&part, extracted.part).into_iter())
            }
            Derivation::Quantiles { key, suffix } => {
                if self.points_kind() != Some(Kind::Summary) {
                    return Ok(());
                }
                self.quantiles(key, suffix)
            }
            Derivation::Percentile { percentile, suffix } => self.percentiles(*percentile, suffix)?,
        };
        match metric {
            None => Ok(()),
            Some(metric) if matches!(derivation, Derivation::ConvertPoint { .. }) => self.created.push_point(metric),
            Some(metric) => self.created.push(metric),
        }
    }

    fn points_kind(&self) -> Option<Kind> {
        layout::points_of(self.item.data.number).filter(|_| self.item.layout.has_data).map(|layout| layout.kind)
    }

    fn copied(&self, texts: [&Option<Vec<u8>>; 3]) -> CreatedMetric {
        let mut bytes = Vec::new();
        self.item.write(&mut bytes);
        let mut copy = Message::new(self.item.layout);
        copy.begin(Cow::Borrowed(&bytes));
        for (field, text) in [Field::Name(Context::Metric), Field::Description, Field::Unit].into_iter().zip(texts) {
            if let Some(text) = text {
                copy.write_field(field, &Value::Text(Cow::Borrowed(text)));
            }
        }
        let mut header = Vec::new();
        copy.write(&mut header);
        CreatedMetric { header, data_number: 0, settings: Vec::new(), points: Vec::new() }
    }

    /// Name with a suffix, description and unit.
    fn header(&self, suffix: &[u8], unit: Option<&[u8]>) -> Vec<u8> {
        let name = [&*self.text_of(Field::Name(Context::Metric)), suffix].concat();
        let unit = unit.map_or_else(|| self.text_of(Field::Unit), <[u8]>::to_vec);
        written_header(&name, &self.text_of(Field::Description), &unit)
    }

    /// None without points.
    fn sum_of(
        &self,
        extracted: &Extracted,
        temporality: i64,
        unit: Option<&[u8]>,
        points: impl Iterator<Item = Vec<u8>>,
    ) -> Option<CreatedMetric> {
        let mut all = Vec::new();
        points.for_each(|point| write_length_field(&mut all, DATA_POINTS, &point));
        if all.is_empty() {
            return None;
        }
        let mut settings = Vec::new();
        write_varint_field(&mut settings, 2, temporality as u64);
        if extracted.is_monotonic {
            write_varint_field(&mut settings, 3, 1);
        }
        let header = self.header(&extracted.suffix, unit);
        Some(CreatedMetric { header, data_number: layout::SUM, settings, points: all })
    }

    /// A number's point of a point that has a count and a sum.
    fn extracted_point(&self, part: &[u8], extract: Extract) -> Option<Vec<u8>> {
        let point = self.point(part);
        let field = if extract == Extract::Count { Field::Count } else { Field::Sum };
        let is_optional = extract == Extract::Sum && point.layout.kind != Kind::Summary;
        if is_optional && !point.has(field) {
            return None;
        }
        Some(number_point(&point, &point.read(field), None))
    }

    fn quantiles(&self, key: &[u8], suffix: &[u8]) -> Option<CreatedMetric> {
        const QUANTILES: u32 = 6;
        let mut points = Vec::new();
        for part in self.item.current_parts() {
            let point = self.point(part);
            for quantile in Fields::of(part).filter(|field| field.tag.number == QUANTILES) {
                let number = |number| {
                    let last = Fields::of(quantile.body).filter(|field| field.tag.number == number).last();
                    f64::from_bits(last.map_or(0, |field| field.number))
                };
                let named = number_point(&point, &Value::Double(number(2)), Some((key, number(1))));
                write_length_field(&mut points, DATA_POINTS, &named);
            }
        }
        let header = self.header(suffix, None);
        let metric = CreatedMetric { header, data_number: layout::GAUGE, settings: Vec::new(), points };
        (!metric.points.is_empty()).then_some(metric)
    }

    /// None of what is no histogram, or has no points of which anything can be said.
    fn percentiles(&self, percentile: f64, suffix: &[u8]) -> Result<Option<CreatedMetric>, Fault> {
        let kind = self.points_kind();
        if !matches!(kind, Some(Kind::Histogram | Kind::ExponentialHistogram)) {
            return Ok(None);
        }
        let mut points = Vec::new();
        for part in self.item.current_parts() {
            let point = self.point(part);
            let value = match kind {
                Some(Kind::Histogram) => point.explicit().percentile(percentile)?,
                _ => point.exponential().percentile(percentile)?,
            };
            if let Some(value) = value {
                write_length_field(&mut points, DATA_POINTS, &number_point(&point, &Value::Double(value), None));
            }
        }
        if points.is_empty() {
            return Ok(None);
        }
        let name = self.text_of(Field::Name(Context::Metric));
        let description = described(&self.text_of(Field::Description), percentile);
        let header = written_header(&[&*name, suffix].concat(), &description, &self.text_of(Field::Unit));
        Ok(Some(CreatedMetric { header, data_number: layout::GAUGE, settings: Vec::new(), points }))
    }

    fn text_of(&self, field: Field) -> Vec<u8> {
        match self.item.read(field) {
            Value::Text(text) => text.into_owned(),
            _ => Vec::new(),
        }
    }

    /// A part of this metric.
    fn point<'p>(&self, part: &'p [u8]) -> Message<'p> {
        let mut point = Message::new(layout::points_of(self.item.data.number).unwrap_or(&layout::EVENT));
        point.begin(Cow::Borrowed(part));
        point
    }
}

fn written_header(name: &[u8], description: &[u8], unit: &[u8]) -> Vec<u8> {
    let mut header = Vec::new();
    for (number, text) in [(1, name), (2, description), (3, unit)] {
        if !text.is_empty() {
            write_length_field(&mut header, number, text);
        }
    }
    header
}

impl Message<'_> {
    /// What a point of a histogram has counted.
    fn explicit(&self) -> Explicit {
        let list = |field| match self.read(field) {
            Value::List(items) => items,
            _ => Vec::new(),
        };
        let count = |item: Value<'_>| if let Value::Int(count) = item { count as u64 } else { 0 };
        let bound = |item: Value<'_>| if let Value::Double(bound) = item { bound } else { 0.0 };
        Explicit {
            count: self.count_of(Field::Count),
            counts: list(Field::BucketCounts).into_iter().map(count).collect(),
            bounds: list(Field::ExplicitBounds).into_iter().map(bound).collect(),
            min: self.double_of(Field::Min),
            max: self.double_of(Field::Max),
        }
    }
}

/// A number's point with the times and attributes of another one, and perhaps one more attribute.
fn number_point(of: &Message<'_>, value: &Value<'_>, more: Option<(&[u8], f64)>) -> Vec<u8> {
    const ATTRIBUTES: u32 = 7;
    let mut out = Vec::new();
    for field in Fields::of(of.body()).filter(|field| matches!(field.tag.number, 2 | 3)) {
        out.extend_from_slice(field.raw);
    }
    for attribute in of.attributes().filter(|attribute| more.is_none_or(|(key, _)| attribute.key != key)) {
        write_key_value(&mut out, ATTRIBUTES, attribute.key, attribute.value);
    }
    if let Some((key, number)) = more {
        let mut any = Vec::new();
        write_any(&mut any, &Value::Double(number));
        write_key_value(&mut out, ATTRIBUTES, key, &any);
    }
    let (number, bits) = match value {
        Value::Int(value) => (6, *value as u64),
        Value::Double(value) => (4, value.to_bits()),
        _ => return out,
    };
    write_tag(&mut out, number, WireType::Fixed64);
    out.extend_from_slice(&bits.to_le_bytes());
    out
}
