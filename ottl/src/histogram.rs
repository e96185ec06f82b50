//! What histograms say of the values that they no longer have: where in a bucket a value lies is a guess, made here.
//!
//! Plain numbers in, plain numbers out. A bucket holds what is above its lower and not above its upper bound; an explicit
//! histogram has one more bucket than bounds. Counts are a peer's: they may be as large as they can be, and need not add up.

use codecs::otlp::proto::Buckets;

use crate::fault::Fault;

/// How what one bucket counts is spread over the buckets that take its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// All of it lies at the upper bound.
    Upper,
    /// All of it lies in the middle.
    Midpoint,
    /// The same to each bucket that the old one reaches, and what remains to the first ones.
    Uniform,
    /// By chance, in the proportion in which the old bucket lies in the new ones.
    Random,
}

/// An exponential histogram becomes an explicit one.
#[derive(Clone, Debug, PartialEq)]
pub struct Rebucketing {
    /// Bounds of the new buckets, ascending; at least one.
    pub bounds: Vec<f64>,
    /// What becomes of a bucket that lies in several.
    pub spread: Spread,
    /// For [`Spread::Random`].
    pub seed: u64,
}

/// What an exponential histogram's point has counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exponential {
    pub(crate) count: u64,
    pub(crate) scale: i32,
    pub(crate) zero_count: u64,
    pub(crate) zero_threshold: f64,
    pub(crate) positive: Buckets,
    pub(crate) negative: Buckets,
}

/// What a histogram's point has counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Explicit {
    pub(crate) count: u64,
    pub(crate) counts: Vec<u64>,
    pub(crate) bounds: Vec<f64>,
    pub(crate) min: Option<f64>,
    pub(crate) max: Option<f64>,
}

impl Exponential {
    /// The lower bound of the bucket with this index, of absolute values.
    fn bound(&self, index: i64) -> f64 {
        (index as f64 * (-f64::from(self.scale)).exp2()).exp2()
    }

    /// Buckets from the least value to the greatest, with lower and upper bound.
    fn buckets(&self) -> impl Iterator<Item = (f64, f64, u64)> {
        let index = |buckets: &Buckets, place: usize| i64::from(buckets.offset) + place as i64;
        let negative = self.negative.bucket_counts.iter().enumerate().rev().map(move |(place, count)| {
            let index = index(&self.negative, place);
            (-self.bound(index + 1), -self.bound(index), *count)
        });
        let positive = self.positive.bucket_counts.iter().enumerate().map(move |(place, count)| {
            let index = index(&self.positive, place);
            (self.bound(index), self.bound(index + 1), *count)
        });
        negative.chain([(0.0, 0.0, self.zero_count)]).chain(positive).filter(|(_, _, count)| *count > 0)
    }

    /// The value that `percentile` percent of all are not above; `None` if nothing was counted.
    ///
    /// # Errors
    /// The counts do not add up.
    pub(crate) fn percentile(&self, percentile: f64) -> Result<Option<f64>, Fault> {
        let has = |buckets: &Buckets| !buckets.bucket_counts.is_empty();
        if self.count == 0 || !(has(&self.negative) || has(&self.positive) || self.zero_count > 0) {
            return Ok(None);
        }
        let rank = rank(self.count, percentile);
        let mut before = 0_u64;
        for (lower, upper, count) in self.buckets() {
            let reached = before.saturating_add(count);
            if reached < rank {
                before = reached;
                continue;
            }
            let part = (rank - before) as f64 / count as f64;
            let value = if lower == 0.0 && upper == 0.0 {
                // What is on one side of zero only, says on which side of it the zeros are.
                let lower = if has(&self.positive) && !has(&self.negative) { 0.0 } else { -self.zero_threshold };
                let upper = if has(&self.negative) && !has(&self.positive) { 0.0 } else { self.zero_threshold };
                lower + part * (upper - lower)
            } else {
                // Buckets are equally wide as logarithms.
                let (from, to) = (lower.abs().log2(), upper.abs().log2());
                (from + (to - from) * part).exp2().copysign(upper)
            };
            let is_number = value.is_finite();
            return if is_number { Ok(Some(value)) } else { Err(Fault::invalid("a bucket lies beyond all numbers")) };
        }
        Err(Fault::invalid("the buckets hold less than the histogram has counted"))
    }
}

impl Explicit {
    /// As [`Exponential::percentile`]; `None` too where nothing is known of where the values lie.
    ///
    /// # Errors
    /// There are not as many buckets as bounds and one more, or the counts do not add up.
    pub(crate) fn percentile(&self, percentile: f64) -> Result<Option<f64>, Fault> {
        if self.count == 0 || self.counts.is_empty() {
            return Ok(None);
        }
        if self.counts.len() != self.bounds.len() + 1 {
            return Err(Fault::invalid("a histogram has one more bucket than bounds, this one has not"));
        }
        let rank = rank(self.count, percentile);
        let mut before = 0_u64;
        for (place, count) in self.counts.iter().enumerate() {
            let reached = before.saturating_add(*count);
            if reached < rank {
                before = reached;
                continue;
            }
            let part = (rank - before) as f64 / *count as f64;
            return Ok(self.ends(place).map(|(lower, upper)| lower + part * (upper - lower)));
        }
        Err(Fault::invalid("the buckets hold less than the histogram has counted"))
    }

    /// Between what the values of a bucket lie, as far as is known; the same twice where only one end is.
    fn ends(&self, place: usize) -> Option<(f64, f64)> {
        let lower = place.checked_sub(1).and_then(|place| self.bounds.get(place)).copied();
        let upper = self.bounds.get(place).copied();
        match (lower, upper) {
            (Some(lower), Some(upper)) => Some((lower, upper)),
            // The first: from the least value if that is known, else from zero if that lies in it.
            (None, Some(upper)) => Some(match self.min.filter(|min| *min < upper) {
                Some(min) => (min, upper),
                None => (upper.min(0.0), upper),
            }),
            (Some(lower), None) => Some((lower, self.max.filter(|max| *max > lower).unwrap_or(lower))),
            (None, None) => self.min.zip(self.max),
        }
    }
}

/// Which of `count` values, in their order, is the percentile: 1 is the first.
fn rank(count: u64, percentile: f64) -> u64 {
    (count as f64 * (percentile / 100.0)).ceil() as u64
}

impl Rebucketing {
    /// What each bucket counts: one more than there are bounds.
    pub(crate) fn counts(&self, histogram: &Exponential) -> Vec<u64> {
        let mut counts = vec![0_u64; self.bounds.len() + 1];
        let mut chance = self.seed;
        for (lower, upper, count) in histogram.buckets() {
            let (first, last) = (self.bucket_of(lower), self.bucket_of(upper));
            let place = match self.spread {
                Spread::Upper => last,
                Spread::Midpoint => self.bucket_of(lower + (upper - lower) / 2.0),
                _ if first == last => last,
                Spread::Uniform => {
                    spread_evenly(count, &mut counts[first..=last]);
                    continue;
                }
                Spread::Random => {
                    self.spread_by_chance((lower, upper, count), first, &mut chance, &mut counts[first..=last]);
                    continue;
                }
            };
            counts[place] = counts[place].saturating_add(count);
        }
        counts
    }

    /// The bucket that a value lies in.
    fn bucket_of(&self, value: f64) -> usize {
        self.bounds.partition_point(|bound| *bound < value)
    }

    /// Each bucket gets a share of its part by chance; what is left then goes where chance says.
    fn spread_by_chance(
        &self,
        (lower, upper, count): (f64, f64, u64),
        first: usize,
        chance: &mut u64,
        counts: &mut [u64],
    ) {
        let mut left = count;
        for (place, bucket) in counts.iter_mut().enumerate() {
            let bound = |place: Option<usize>| place.and_then(|place| self.bounds.get(place)).copied();
            let from = bound((first + place).checked_sub(1)).map_or(lower, |bound| bound.max(lower));
            let to = bound(Some(first + place)).map_or(upper, |bound| bound.min(upper));
            let part = (to - from) / (upper - lower) * fraction(chance);
            // A float of no number, as of infinite bounds, is 0.
            let share = ((count as f64 * part) as u64).min(left);
            *bucket = bucket.saturating_add(share);
            left -= share;
        }
        let place = (fraction(chance) * counts.len() as f64) as usize;
        if let Some(bucket) = counts.get_mut(place) {
            *bucket = bucket.saturating_add(left);
        }
    }
}

fn spread_evenly(count: u64, counts: &mut [u64]) {
    let (each, rest) = (count / counts.len() as u64, count % counts.len() as u64);
    for (place, bucket) in counts.iter_mut().enumerate() {
        *bucket = bucket.saturating_add(each + u64::from((place as u64) < rest));
    }
}

/// The next number from 0 to below 1 (SplitMix64).
fn fraction(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut bits = *state;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exponential(scale: i32, offset: i32, counts: &[u64]) -> Exponential {
        let positive = Buckets { offset, bucket_counts: counts.to_vec() };
        Exponential { count: counts.iter().sum(), scale, positive, ..Exponential::default() }
    }

    #[test]
    fn no_value_is_lost_wherever_it_goes() {
        let mut histogram = exponential(0, 0, &[10, 22, 12, u64::from(u32::MAX)]);
        histogram.zero_count = 3;
        histogram.negative = Buckets { offset: 1, bucket_counts: vec![4, 5] };
        for spread in [Spread::Upper, Spread::Midpoint, Spread::Uniform, Spread::Random] {
            for bounds in [vec![0.0], vec![-3.0, 0.0, 1.5, 4.0, 6.5, 7.0], vec![100.0], vec![f64::INFINITY]] {
                let counts = Rebucketing { bounds: bounds.clone(), spread, seed: 7 }.counts(&histogram);
                assert_eq!(counts.len(), bounds.len() + 1);
                assert_eq!(counts.iter().sum::<u64>(), 56 + u64::from(u32::MAX), "{spread:?} {bounds:?}");
            }
        }
    }

    #[test]
    fn powers_of_two_are_exact_bounds() {
        // (1, 2], (2, 4], (4, 8]
        let counts = |spread| {
            Rebucketing { bounds: vec![1.0, 2.0, 4.0, 8.0], spread, seed: 7 }.counts(&exponential(0, 0, &[10, 22, 12]))
        };
        assert_eq!(counts(Spread::Upper), [0, 10, 22, 12, 0]);
        assert_eq!(counts(Spread::Midpoint), [0, 10, 22, 12, 0]);
    }

    #[test]
    fn hostile_scales_and_counts_are_no_reason_to_stop() {
        for scale in [i32::MIN, -20, 0, 20, i32::MAX] {
            for offset in [i32::MIN, 0, i32::MAX] {
                let mut histogram = exponential(scale, offset, &[1, 0, 2]);
                histogram.positive.bucket_counts.push(u64::MAX);
                histogram.count = u64::MAX;
                let _ = histogram.percentile(99.0);
                for spread in [Spread::Upper, Spread::Midpoint, Spread::Uniform, Spread::Random] {
                    Rebucketing { bounds: vec![1.0, 2.0], spread, seed: 1 }.counts(&histogram);
                }
            }
        }
        let few = Explicit { count: 9, counts: vec![1, 1], bounds: vec![1.0], ..Explicit::default() };
        assert!(few.percentile(99.0).is_err());
    }

    #[test]
    fn a_percentile_lies_in_its_bucket_in_proportion() {
        let histogram =
            Explicit { count: 10, counts: vec![2, 4, 4], bounds: vec![10.0, 20.0], min: Some(5.0), max: Some(60.0) };
        assert_eq!(histogram.percentile(50.0), Ok(Some(17.5)));
        assert_eq!(histogram.percentile(10.0), Ok(Some(7.5)));
        assert_eq!(histogram.percentile(99.0), Ok(Some(60.0)));
        let open = Explicit { min: None, max: None, ..histogram };
        assert_eq!(open.percentile(10.0), Ok(Some(5.0)));
        assert_eq!(open.percentile(99.0), Ok(Some(20.0)));
        assert_eq!(exponential(0, 0, &[0, 4]).percentile(50.0), Ok(Some(2.0_f64.powf(1.5))));
        assert_eq!(Exponential::default().percentile(50.0), Ok(None));
    }
}
