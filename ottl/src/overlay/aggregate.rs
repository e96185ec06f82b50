//! One data point of several: the first of them, with values put together; what it has that nobody knows stays.
//!
//! Points become one if all that tells them apart is what they measured: equal attributes, equal times, of deltas equal
//! starts too, and of histograms equal buckets. The first of each set stays in its place.

use std::borrow::Cow;
use std::collections::HashMap;

use codecs::otlp::attributes::Fields;
use codecs::otlp::proto::Buckets;
use codecs::wire::write_length_field;
use prost::Message as _;

use super::{Lies, Message, read_any, write_any};
use crate::fault::Fault;
use crate::layout::{self, DATA_POINTS, Kind};
use crate::metric::{Aggregation, Reduction, Relabel};
use crate::path::{Context, Field};
use crate::value::Value;

/// Most buckets of an exponential histogram made of several: offsets may be far apart, and a sender chooses them.
const BUCKETS_MAX: i64 = 16_384;
/// Buckets of an exponential histogram above and below zero.
const BUCKETS: [u32; 2] = [8, 9];

const START: Field = Field::Start(Context::DataPoint);
const DELTA: Value<'static> = Value::Int(1);

impl Message<'_> {
    /// Makes one of those points of a metric that differ only in what they measured.
    pub(super) fn merge_points(&mut self, aggregation: &Aggregation) -> Result<(), Fault> {
        let Some(layout) = layout::points_of(self.data.number).filter(|_| self.layout.has_data) else { return Ok(()) };
        if layout.kind == Kind::Summary {
            return Err(Fault::invalid("summaries cannot be aggregated"));
        }
        let starts_apart = self.read(Field::Temporality) == DELTA;
        let mut sets: Vec<Vec<Message<'_>>> = Vec::new();
        let mut places: HashMap<Vec<u8>, usize> = HashMap::new();
        let mut changes = false;
        for part in self.current_parts() {
            let mut point = Message::new(layout);
            point.begin(Cow::Borrowed(part));
            point.relabel(&aggregation.relabel);
            changes |= point.is_changed;
            match places.entry(point.identity(starts_apart)) {
                std::collections::hash_map::Entry::Occupied(place) => {
                    sets[*place.get()].push(point);
                    changes = true;
                }
                std::collections::hash_map::Entry::Vacant(place) => {
                    place.insert(sets.len());
                    sets.push(vec![point]);
                }
            }
        }
        if !changes && aggregation.reduction != Reduction::Count {
            return Ok(());
        }
        let mut body = Vec::new();
        for field in Fields::of(&self.data.body).filter(|field| field.tag.number != DATA_POINTS) {
            body.extend_from_slice(field.raw);
        }
        let mut point = Vec::new();
        for set in sets {
            point.clear();
            merged(set, aggregation.reduction)?.write(&mut point);
            write_length_field(&mut body, DATA_POINTS, &point);
        }
        self.data.body = Cow::Owned(body);
        self.data.is_changed = true;
        self.parts.clear();
        self.are_parts_indexed = false;
        self.is_changed = true;
        self.is_changed_beside_attributes = true;
        Ok(())
    }

    fn relabel(&mut self, relabel: &Relabel) {
        match relabel {
            Relabel::Keep => {}
            Relabel::Only(keys) => self.retain(&mut |key| keys.iter().any(|kept| kept == key)),
            Relabel::Replace { key, values, value } => {
                let is_one =
                    matches!(self.attribute(key), Some(Value::Text(found)) if values.iter().any(|one| **one == *found));
                if is_one {
                    self.set_attribute(key, &Value::Text(Cow::Borrowed(value)));
                }
            }
        }
    }

    /// The same bytes for points that become one.
    fn identity(&self, starts_apart: bool) -> Vec<u8> {
        let mut attributes: Vec<(&[u8], Vec<u8>)> =
            self.attributes().map(|attribute| (attribute.key, sorted_any(read_any(attribute.value)))).collect();
        attributes.sort_unstable();
        let mut out = Vec::new();
        for (key, value) in attributes {
            write_length_field(&mut out, 1, key);
            write_length_field(&mut out, 2, &value);
        }
        let mut fields = vec![Field::Time(Context::DataPoint)];
        if starts_apart {
            fields.push(START);
        }
        if self.layout.kind != Kind::Number {
            fields.extend([
                Field::Flags(Context::DataPoint),
                Field::ExplicitBounds,
                Field::Scale,
                Field::ZeroThreshold,
            ]);
            for field in [Field::Min, Field::Max] {
                out.push(u8::from(self.has(field)));
            }
            if let Value::List(counts) = self.read(Field::BucketCounts) {
                out.extend_from_slice(&counts.len().to_le_bytes());
            }
        }
        for field in fields {
            let mut any = Vec::new();
            write_any(&mut any, &self.read(field));
            write_length_field(&mut out, 3, &any);
        }
        out
    }

    /// The value of a number's point, if it has one.
    fn number(&self) -> Option<Number> {
        let (double, int) = layout::number_fields(self.layout.kind)?;
        let last = Fields::of(self.body()).filter(|field| [double, int].contains(&field.tag.number)).last()?;
        Some(if last.tag.number == int {
            Number::Int(last.number as i64)
        } else {
            Number::Double(f64::from_bits(last.number))
        })
    }

    pub(super) fn count_of(&self, field: Field) -> u64 {
        match self.read(field) {
            Value::Int(count) => count as u64,
            _ => 0,
        }
    }

    pub(super) fn double_of(&self, field: Field) -> Option<f64> {
        match self.read(field) {
            Value::Double(value) if self.has(field) => Some(value),
            _ => None,
        }
    }

    /// Buckets of an exponential histogram; several fields are one, as every protobuf reader merges them.
    pub(super) fn buckets(&self, number: u32) -> Buckets {
        let mut buckets = Buckets::default();
        for field in self.raw(number, Lies::Message).filter(|field| field.tag.number == number) {
            // Bytes were checked when they came; what is no such message counts nothing.
            let _ = buckets.merge(field.body);
        }
        buckets
    }
}

/// The AnyValue of a value, with the keys of maps in order: equal values have equal bytes.
fn sorted_any(value: Value<'_>) -> Vec<u8> {
    fn sort(value: &mut Value<'_>) {
        match value {
            Value::List(items) => items.iter_mut().for_each(sort),
            Value::Map(entries) => {
                entries.iter_mut().for_each(|(_, value)| sort(value));
                entries.sort_by(|left, right| left.0.cmp(&right.0));
            }
            _ => {}
        }
    }
    let mut value = value;
    sort(&mut value);
    let mut out = Vec::new();
    write_any(&mut out, &value);
    out
}

/// The first point of a set, which is never empty, with what all of it measured.
fn merged<'m>(set: Vec<Message<'m>>, reduction: Reduction) -> Result<Message<'m>, Fault> {
    let mut points = set.into_iter();
    let Some(mut first) = points.next() else { return Err(Fault::invalid("there is no point")) };
    let mut others: Vec<Message<'m>> = points.collect();
    if first.layout.kind == Kind::Number {
        let numbers: Vec<Number> = std::iter::once(&first).chain(&others).filter_map(Message::number).collect();
        match reduced(&numbers, reduction) {
            Some(Number::Int(value)) if first.number() != Some(Number::Int(value)) => {
                first.write_number(Field::IntValue, &Value::Int(value));
            }
            Some(Number::Double(value)) => first.write_number(Field::DoubleValue, &Value::Double(value)),
            _ => {}
        }
    } else {
        // Who measured nothing adds nothing.
        others.retain(|other| other.count_of(Field::Count) != 0);
        add_histograms(&mut first, &others)?;
    }
    let starts = std::iter::once(&first).chain(&others).map(|point| point.count_of(START));
    let start = starts.min().unwrap_or_default();
    if start != first.count_of(START) {
        first.write_field(START, &Value::Int(start as i64));
    }
    Ok(first)
}

fn add_histograms(first: &mut Message<'_>, others: &[Message<'_>]) -> Result<(), Fault> {
    if others.is_empty() {
        return Ok(());
    }
    let mut exponential = Vec::new();
    if first.layout.kind == Kind::ExponentialHistogram {
        for number in BUCKETS {
            let mut buckets = first.buckets(number);
            for other in others {
                buckets = added(buckets, other.buckets(number))?;
            }
            exponential.push((number, buckets));
        }
    }
    for field in [Field::Count, Field::ZeroCount] {
        let total = others.iter().fold(first.count_of(field), |total, other| total.wrapping_add(other.count_of(field)));
        first.write_field(field, &Value::Int(total as i64));
    }
    type Fold = fn(f64, f64) -> f64;
    let folds: [(Field, Fold); 3] = [(Field::Sum, |a, b| a + b), (Field::Min, f64::min), (Field::Max, f64::max)];
    for (field, fold) in folds {
        let values = std::iter::once(&*first).chain(others).filter_map(|point| point.double_of(field));
        if let Some(value) = values.reduce(fold) {
            first.write_field(field, &Value::Double(value));
        }
    }
    if let Value::List(counts) = first.read(Field::BucketCounts) {
        let mut counts: Vec<i64> = counts.into_iter().map(int).collect();
        for other in others {
            if let Value::List(more) = other.read(Field::BucketCounts) {
                counts.iter_mut().zip(more).for_each(|(count, more)| *count = count.wrapping_add(int(more)));
            }
        }
        first.write_field(Field::BucketCounts, &Value::List(counts.into_iter().map(Value::Int).collect()));
    }
    for (number, buckets) in exponential.into_iter().filter(|(_, buckets)| *buckets != Buckets::default()) {
        let message = buckets.encode_to_vec();
        first.change(number, Lies::Message, |out| write_length_field(out, number, &message));
    }
    if let Some(number) = layout::counted(first.layout.kind, Field::Exemplars) {
        let mut all = Vec::new();
        for point in std::iter::once(&*first).chain(others) {
            let exemplars = point.raw(number, Lies::Message).filter(|field| field.tag.number == number);
            exemplars.for_each(|field| all.extend_from_slice(field.raw));
        }
        if !all.is_empty() {
            first.change(number, Lies::Message, |out| out.extend_from_slice(&all));
        }
    }
    Ok(())
}

fn int(value: Value<'_>) -> i64 {
    match value {
        Value::Int(value) => value,
        _ => 0,
    }
}

/// Buckets of the same scale, added up where they lie.
fn added(one: Buckets, other: Buckets) -> Result<Buckets, Fault> {
    if other.bucket_counts.is_empty() {
        return Ok(one);
    }
    if one.bucket_counts.is_empty() {
        return Ok(other);
    }
    let end = |buckets: &Buckets| i64::from(buckets.offset) + buckets.bucket_counts.len() as i64;
    let offset = one.offset.min(other.offset);
    let length = end(&one).max(end(&other)) - i64::from(offset);
    if length > BUCKETS_MAX {
        return Err(Fault::invalid(format!("the histograms lie so far apart that they would have {length} buckets")));
    }
    // In the range of 1..=BUCKETS_MAX.
    let mut bucket_counts = vec![0_u64; length as usize];
    for buckets in [one, other] {
        let start = (i64::from(buckets.offset) - i64::from(offset)) as usize;
        for (sum, count) in bucket_counts[start..].iter_mut().zip(buckets.bucket_counts) {
            *sum = sum.wrapping_add(count);
        }
    }
    Ok(Buckets { offset, bucket_counts })
}

/// The value of a number's point.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    Int(i64),
    Double(f64),
}

impl Number {
    fn as_int(self) -> i64 {
        match self {
            Self::Int(value) => value,
            Self::Double(value) => value as i64,
        }
    }

    fn as_double(self) -> f64 {
        match self {
            Self::Int(value) => value as f64,
            Self::Double(value) => value,
        }
    }
}

/// One number of several, of the type of the first; none of none.
fn reduced(numbers: &[Number], reduction: Reduction) -> Option<Number> {
    let count = numbers.len();
    Some(match numbers.first()? {
        Number::Int(_) => {
            let mut values: Vec<i64> = numbers.iter().map(|number| number.as_int()).collect();
            let sum = || values.iter().fold(0_i64, |sum, value| sum.wrapping_add(*value));
            Number::Int(match reduction {
                Reduction::Sum => sum(),
                Reduction::Mean => sum() / i64::try_from(count).ok()?,
                Reduction::Min => *values.iter().min()?,
                Reduction::Max => *values.iter().max()?,
                Reduction::Count => i64::try_from(count).ok()?,
                Reduction::Median => {
                    values.sort_unstable();
                    let (low, high) = (values[(count - 1) / 2], values[count / 2]);
                    if count % 2 == 1 { high } else { low.wrapping_add(high) / 2 }
                }
            })
        }
        Number::Double(_) => {
            let mut values: Vec<f64> = numbers.iter().map(|number| number.as_double()).collect();
            Number::Double(match reduction {
                Reduction::Sum => values.iter().sum(),
                Reduction::Mean => values.iter().sum::<f64>() / count as f64,
                Reduction::Min => values.iter().copied().reduce(f64::min)?,
                Reduction::Max => values.iter().copied().reduce(f64::max)?,
                Reduction::Count => count as f64,
                Reduction::Median => {
                    values.sort_unstable_by(f64::total_cmp);
                    let (low, high) = (values[(count - 1) / 2], values[count / 2]);
                    if count % 2 == 1 { high } else { (low + high) / 2.0 }
                }
            })
        }
    })
}
