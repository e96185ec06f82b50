//! An exponential histogram as an explicit one: its fields under other numbers, and buckets made of its buckets.

use std::borrow::Cow;

use codecs::otlp::attributes::Fields;
use codecs::wire::{WireType, write_length_field, write_tag};

use super::{CREATED_BYTES_MAX, Message, write_plain};
use crate::fault::Fault;
use crate::histogram::{Exponential, Rebucketing};
use crate::layout::{self, DATA_POINTS, Kind, Shape};
use crate::path::Field;
use crate::value::Value;

/// Fields of an exponential histogram's point, and their numbers in that of an explicit one: attributes, exemplars, the
/// least and the greatest value.
const RENUMBERED: [(u32, u32); 4] = [(1, 9), (11, 8), (12, 11), (13, 12)];
/// Start, time, count, sum and flags have the same.
const SAME: [u32; 5] = [2, 3, 4, 5, 10];
/// Counts and bounds of an explicit one.
const COUNTS: u32 = 6;
const BOUNDS: u32 = 7;
/// Most that a metric may grow by: points are a sender's, and each one gets all bounds.
const GROWTH_BYTES_MAX: usize = CREATED_BYTES_MAX;

impl Message<'_> {
    /// Makes the points of an exponential histogram those of an explicit one; another metric stays.
    pub(super) fn rebucket_points(&mut self, rebucketing: &Rebucketing) -> Result<(), Fault> {
        let layout = layout::points_of(self.data.number).filter(|_| self.layout.has_data);
        let Some(layout) = layout.filter(|layout| layout.kind == Kind::ExponentialHistogram) else { return Ok(()) };
        let most = self.data.body.len() + GROWTH_BYTES_MAX;
        let mut body = Vec::new();
        for field in Fields::of(&self.data.body).filter(|field| field.tag.number != DATA_POINTS) {
            body.extend_from_slice(field.raw);
        }
        let mut bounds = Vec::new();
        let values = rebucketing.bounds.iter().copied().map(Value::Double).collect();
        write_plain(&mut bounds, BOUNDS, Shape::Doubles, &Value::List(values));
        for part in self.current_parts() {
            let mut point = Message::new(layout);
            point.begin(Cow::Borrowed(part));
            let mut explicit = renumbered(part);
            let counts = rebucketing.counts(&point.exponential()).into_iter().map(|count| Value::Int(count as i64));
            write_plain(&mut explicit, COUNTS, Shape::Fixed64s, &Value::List(counts.collect()));
            explicit.extend_from_slice(&bounds);
            write_length_field(&mut body, DATA_POINTS, &explicit);
            if body.len() > most {
                return Err(Fault::invalid(format!("the histogram would grow by more than {GROWTH_BYTES_MAX} bytes")));
            }
        }
        self.data.number = layout::HISTOGRAM_DATA;
        self.data.body = Cow::Owned(body);
        self.data.is_changed = true;
        self.parts.clear();
        self.are_parts_indexed = false;
        self.is_changed = true;
        self.is_changed_beside_attributes = true;
        Ok(())
    }

    /// What a point of an exponential histogram has counted.
    pub(super) fn exponential(&self) -> Exponential {
        let double = |field| match self.read(field) {
            Value::Double(value) => value,
            _ => 0.0,
        };
        let scale = match self.read(Field::Scale) {
            Value::Int(scale) => scale as i32,
            _ => 0,
        };
        Exponential {
            count: self.count_of(Field::Count),
            scale,
            zero_count: self.count_of(Field::ZeroCount),
            zero_threshold: double(Field::ZeroThreshold),
            positive: self.buckets(8),
            negative: self.buckets(9),
        }
    }
}

/// What both kinds of points have, under the numbers of an explicit histogram's.
fn renumbered(point: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(point.len());
    for field in Fields::of(point) {
        let number = field.tag.number;
        let renumbered = RENUMBERED.iter().find(|known| known.0 == number).map(|known| known.1);
        match (renumbered, field.tag.wire_type) {
            (Some(renumbered), WireType::Length) => write_length_field(&mut out, renumbered, field.body),
            (Some(renumbered), WireType::Fixed64) => {
                write_tag(&mut out, renumbered, WireType::Fixed64);
                out.extend_from_slice(&field.number.to_le_bytes());
            }
            // What nobody knows may mean something else in the other kind.
            _ if SAME.contains(&number) => out.extend_from_slice(field.raw),
            _ => {}
        }
    }
    out
}
