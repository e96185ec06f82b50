//! Deltas of an exponential histogram, added up.
//!
//! ```text
//! total at scale 3   | | | |||||| |        both at the finest scale that both have, or, where the buckets
//! delta at scale 5         |||| |||   ->   between the outermost ones would be too many, at a coarser one
//! ```
//!
//! The one idea: halving the scale joins neighbours, so two histograms always have a scale in common, and a total never
//! has more than [`BUCKETS_MAX`] buckets of a sign, however its values spread. It only ever becomes coarser. Values that
//! are no number are in no bucket, and so in no total.

use super::counts::DropReason;
use super::native::{SCHEMA_MAX, SCHEMA_MIN};
use super::point::{Lists, Point};

/// Buckets of one sign, from the first to the last that is not empty: twice what SDKs make of one interval.
pub(super) const BUCKETS_MAX: i64 = 320;

/// Everything so far.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Exponential {
    scale: i32,
    zero_threshold: f64,
    zero_count: u64,
    /// In all buckets and in the zero bucket.
    count: u64,
    sum: Option<f64>,
    positive: Buckets,
    negative: Buckets,
}

/// Of one sign; the first and the last are not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Buckets {
    first: i64,
    counts: Vec<u64>,
}

impl Exponential {
    /// Nothing yet, of the kind of this point.
    pub(super) fn like(point: &Point) -> Self {
        Self {
            scale: point.scale.min(SCHEMA_MAX),
            zero_threshold: point.zero_threshold,
            zero_count: 0,
            count: 0,
            sum: Some(0.0),
            positive: Buckets::default(),
            negative: Buckets::default(),
        }
    }

    /// Adds a point whose counts sum up. Returns whether it could: one with another zero bucket, or beyond what can be
    /// counted, is another histogram.
    ///
    /// # Errors
    /// Its buckets lie too far from the others for the coarsest scale. Nothing was added then.
    pub(super) fn add(&mut self, point: &Point, lists: &Lists) -> Result<bool, DropReason> {
        if point.zero_threshold.to_bits() != self.zero_threshold.to_bits() {
            return Ok(false);
        }
        let in_buckets =
            lists.counts.iter().chain(&lists.negative).try_fold(point.zero_count, |sum, more| sum.checked_add(*more));
        let Some(count) = in_buckets.and_then(|more| self.count.checked_add(more)) else { return Ok(false) };
        let scale = self.scale_with(point, lists).ok_or(DropReason::Buckets)?;
        let (own, theirs) = (shift(self.scale, scale), shift(point.scale, scale));
        self.scale = scale;
        self.count = count;
        self.zero_count += point.zero_count;
        self.sum = self.sum.zip(point.sum.filter(|sum| sum.is_finite())).map(|(sum, more)| sum + more);
        for (buckets, offset, counts) in [
            (&mut self.positive, point.positive_offset, &lists.counts),
            (&mut self.negative, point.negative_offset, &lists.negative),
        ] {
            buckets.coarsen(own);
            buckets.add(offset, counts, theirs);
        }
        Ok(true)
    }

    /// The finest scale at which both have few enough buckets.
    fn scale_with(&self, point: &Point, lists: &Lists) -> Option<i32> {
        let sides = [
            (self.positive.range(), range(point.positive_offset, &lists.counts)),
            (self.negative.range(), range(point.negative_offset, &lists.negative)),
        ];
        let fits = |scale: i32| {
            let (own, theirs) = (shift(self.scale, scale), shift(point.scale, scale));
            sides.iter().all(|(total, delta)| {
                let total = total.map(|(first, last)| (first >> own, last >> own));
                let delta = delta.map(|(first, last)| (first >> theirs, last >> theirs));
                match (total, delta) {
                    (Some(one), Some(two)) => one.1.max(two.1) - one.0.min(two.0) < BUCKETS_MAX,
                    (Some(one), None) | (None, Some(one)) => one.1 - one.0 < BUCKETS_MAX,
                    (None, None) => true,
                }
            })
        };
        (SCHEMA_MIN..=self.scale.min(point.scale)).rev().find(|scale| fits(*scale))
    }

    /// Makes a point say it.
    pub(super) fn write(&self, point: &mut Point, lists: &mut Lists) {
        (point.scale, point.zero_count) = (self.scale, self.zero_count);
        (point.count, point.sum) = (self.count, self.sum);
        for (buckets, offset, counts) in [
            (&self.positive, &mut point.positive_offset, &mut lists.counts),
            (&self.negative, &mut point.negative_offset, &mut lists.negative),
        ] {
            // A bucket comes from a number of 32 bits, and from one beyond them only where the point was refused.
            *offset = i32::try_from(buckets.first).unwrap_or(i32::MAX);
            counts.clear();
            counts.extend_from_slice(&buckets.counts);
        }
    }

    /// Memory of the buckets.
    pub(super) fn bytes(&self) -> usize {
        8 * (self.positive.counts.capacity() + self.negative.counts.capacity())
    }
}

impl Buckets {
    fn range(&self) -> Option<(i64, i64)> {
        (!self.counts.is_empty()).then(|| (self.first, self.first + self.counts.len() as i64 - 1))
    }

    /// Joins 2^`bits` neighbours.
    fn coarsen(&mut self, bits: u32) {
        if bits == 0 || self.counts.is_empty() {
            return;
        }
        let first = self.first >> bits;
        let mut kept = 0;
        for at in 0..self.counts.len() {
            let place = (((self.first + at as i64) >> bits) - first) as usize;
            let count = std::mem::take(&mut self.counts[at]);
            // A place is never behind the bucket that goes there.
            self.counts[place] += count;
            kept = place + 1;
        }
        self.counts.truncate(kept);
        self.first = first;
    }

    /// Adds buckets of which 2^`bits` neighbours become one; the caller has seen that there is room.
    fn add(&mut self, offset: i32, counts: &[u64], bits: u32) {
        let Some((first, last)) = range(offset, counts).map(|(first, last)| (first >> bits, last >> bits)) else {
            return;
        };
        if self.counts.is_empty() {
            self.first = first;
        }
        if first < self.first {
            let more = (self.first - first) as usize;
            drop(self.counts.splice(..0, std::iter::repeat_n(0, more)));
            self.first = first;
        }
        let length = (last - self.first + 1) as usize;
        if length > self.counts.len() {
            self.counts.resize(length, 0);
        }
        for (at, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let number = (i64::from(offset) + at as i64) >> bits;
            self.counts[(number - self.first) as usize] += count;
        }
    }
}

/// The first and the last bucket that is not empty.
fn range(offset: i32, counts: &[u64]) -> Option<(i64, i64)> {
    let first = counts.iter().position(|count| *count > 0)?;
    let last = counts.iter().rposition(|count| *count > 0)?;
    Some((i64::from(offset) + first as i64, i64::from(offset) + last as i64))
}

/// By how many bits numbers of buckets become shorter; 63 leave nothing of any.
fn shift(from: i32, to: i32) -> u32 {
    (i64::from(from) - i64::from(to)).clamp(0, 63) as u32
}
