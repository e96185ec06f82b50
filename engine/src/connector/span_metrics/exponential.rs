//! An exponential histogram that keeps as much resolution as fits a number of buckets.
//!
//! Bucket `i` at scale `s` holds the values above `2^(i / 2^s)` up to and with `2^((i + 1) / 2^s)`, as in OTLP. One step
//! down in scale joins neighbours in pairs, so two histograms always have a common scale, and the order in which values
//! or histograms come changes nothing: the scale is the finest at which all of them fit.

/// The finest scale, as in the Collector: a bucket is one millionth wide.
const SCALE_MAX: i32 = 20;

/// Counts of values of zero and above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exponential {
    /// Most buckets.
    buckets_max: u32,
    scale: i32,
    /// Number of the first bucket.
    offset: i32,
    /// The first and the last are not 0.
    counts: Vec<u64>,
    zero_count: u64,
}

impl Exponential {
    /// Without values. `buckets_max` is at least 2: values on both sides of a power of two never share a bucket.
    pub fn new(buckets_max: u32) -> Exponential {
        assert!(buckets_max >= 2, "one bucket cannot hold all values");
        Exponential { buckets_max, scale: SCALE_MAX, offset: 0, counts: Vec::new(), zero_count: 0 }
    }

    /// Counts a value of 0 or more that is finite.
    pub fn observe(&mut self, value: f64) {
        if value <= 0.0 {
            self.zero_count += 1;
            return;
        }
        let mut index = index_of(value, self.scale);
        let shift = self.shift_to_fit(index, index);
        if shift > 0 {
            self.coarsen(shift);
            index >>= shift;
        }
        self.add(index, 1);
    }

    /// Adds all values of another one.
    pub fn merge(&mut self, other: &Exponential) {
        self.zero_count += other.zero_count;
        let Some(last) = other.last() else {
            return;
        };
        let mut other_shift = 0;
        if other.scale < self.scale {
            self.coarsen((self.scale - other.scale) as u32);
        } else {
            other_shift = (other.scale - self.scale) as u32;
        }
        let more = self.shift_to_fit(other.offset >> other_shift, last >> other_shift);
        self.coarsen(more);
        other_shift += more;
        for (index, &count) in (other.offset..).zip(&other.counts) {
            if count > 0 {
                self.add(index >> other_shift, count);
            }
        }
    }

    /// What has been counted since `before`, which was a copy of this one. Resolution that was lost since is lost in it too.
    pub fn since(&self, before: &Exponential) -> Exponential {
        debug_assert!(before.scale >= self.scale, "a histogram only becomes coarser");
        let mut before = before.clone();
        before.coarsen((before.scale - self.scale).max(0) as u32);
        let mut news = self.clone();
        news.zero_count = news.zero_count.saturating_sub(before.zero_count);
        for (index, &count) in (before.offset..).zip(&before.counts) {
            let place = usize::try_from(index - news.offset).ok();
            if let Some(own) = place.and_then(|place| news.counts.get_mut(place)) {
                *own = own.saturating_sub(count);
            }
        }
        news.trim();
        news
    }

    /// Takes away the empty buckets at both ends.
    fn trim(&mut self) {
        let end = self.counts.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        self.counts.truncate(end);
        let before = self.counts.iter().position(|count| *count > 0).unwrap_or(0);
        self.counts.drain(..before);
        self.offset = if self.counts.is_empty() { 0 } else { self.offset + before as i32 };
    }

    /// 20 down to -10.
    pub fn scale(&self) -> i32 {
        self.scale
    }

    /// Number of the first bucket.
    pub fn offset(&self) -> i32 {
        self.offset
    }

    /// Buckets from the first to the last that holds something.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Values of 0.
    pub fn zero_count(&self) -> u64 {
        self.zero_count
    }

    /// All values.
    pub fn count(&self) -> u64 {
        self.zero_count + self.counts.iter().sum::<u64>()
    }

    /// Values up to and with 2 to the `power`. Where buckets are wider than a factor of two, those whose bucket ends
    /// above it are left out.
    pub fn count_up_to(&self, power: i32) -> u64 {
        let ends_by = |index: i32| {
            let end = i64::from(index) + 1;
            match self.scale {
                scale @ 0.. => end <= i64::from(power) << scale,
                scale => end << -scale <= i64::from(power),
            }
        };
        let buckets = (self.offset..).zip(&self.counts).take_while(|(index, _)| ends_by(*index));
        self.zero_count + buckets.map(|(_, count)| count).sum::<u64>()
    }

    fn last(&self) -> Option<i32> {
        let length = i32::try_from(self.counts.len()).expect("buckets are bounded");
        (length > 0).then(|| self.offset + length - 1)
    }

    /// How many steps coarser it has to be to hold the buckets `first` to `last` of its scale too.
    fn shift_to_fit(&self, first: i32, last: i32) -> u32 {
        let (first, last) = match self.last() {
            Some(own) => (first.min(self.offset), last.max(own)),
            None => (first, last),
        };
        let fits = |shift: &u32| ((last >> shift) - (first >> shift)) < self.buckets_max as i32;
        (0..31).find(fits).expect("after 31 steps there are two buckets")
    }

    fn coarsen(&mut self, shift: u32) {
        if shift == 0 {
            return;
        }
        self.scale -= shift as i32;
        let first = self.offset >> shift;
        for place in 0..self.counts.len() {
            let index = self.offset + place as i32;
            let count = std::mem::take(&mut self.counts[place]);
            self.counts[((index >> shift) - first) as usize] += count;
        }
        if let Some(last) = self.last() {
            self.counts.truncate(((last >> shift) - first) as usize + 1);
        }
        self.offset = first;
    }

    /// Adds to a bucket that fits beside those that there are.
    fn add(&mut self, index: i32, count: u64) {
        if self.counts.is_empty() {
            self.offset = index;
        }
        if index < self.offset {
            let before = (self.offset - index) as usize;
            self.counts.splice(0..0, std::iter::repeat_n(0, before));
            self.offset = index;
        }
        let place = (index - self.offset) as usize;
        if place >= self.counts.len() {
            self.counts.resize(place + 1, 0);
        }
        debug_assert!(self.counts.len() <= self.buckets_max as usize, "the caller has made it fit");
        self.counts[place] += count;
    }
}

/// The bucket of a value above 0 at a scale. Powers of two end their bucket exactly, whatever the logarithm rounds to.
fn index_of(value: f64, scale: i32) -> i32 {
    const MANTISSA_BITS: u32 = 52;
    let bits = value.to_bits();
    let exponent = ((bits >> MANTISSA_BITS) & 0x7ff) as i32 - 1023;
    let is_power = bits & ((1 << MANTISSA_BITS) - 1) == 0;
    if scale <= 0 {
        let index = if is_power { exponent - 1 } else { exponent };
        return index >> -scale;
    }
    if is_power {
        return (exponent << scale) - 1;
    }
    let index = (value.log2() * f64::from(1 << scale)).ceil() as i32 - 1;
    index.clamp(exponent << scale, ((exponent + 1) << scale) - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[f64], buckets_max: u32) -> Exponential {
        let mut histogram = Exponential::new(buckets_max);
        values.iter().for_each(|&value| histogram.observe(value));
        histogram
    }

    #[test]
    fn powers_of_two_end_their_bucket_at_every_scale() {
        for scale in -4..=SCALE_MAX {
            for power in -20..40 {
                let value = 2f64.powi(power);
                let end = i64::from(index_of(value, scale)) + 1;
                let expected = if scale >= 0 {
                    i64::from(power) << scale
                } else {
                    (i64::from(power) + (1 << -scale) - 1) >> -scale
                };
                assert_eq!(end, expected, "2^{power} at {scale}");
                assert_eq!(
                    i64::from(index_of(value * 1.000_000_1, scale)) + 1,
                    if scale >= 0 { expected + 1 } else { (i64::from(power) >> -scale) + 1 },
                    "above 2^{power} at {scale}"
                );
            }
        }
    }

    #[test]
    fn equal_values_keep_the_finest_scale_and_far_ones_take_a_coarser() {
        let equal = of(&[3.0, 3.0], 2);
        assert_eq!((equal.scale(), equal.counts()), (SCALE_MAX, &[2][..]));
        let far = of(&[1e-6, 1e13], 2);
        assert!(far.scale() < 0 && far.counts().len() <= 2, "{far:?}");
        assert_eq!(far.count(), 2);
    }

    #[test]
    fn counts_up_to_a_power_of_two_are_exact() {
        let histogram = of(&[0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 100.0], 160);
        assert!(histogram.scale() >= 0);
        let counts: Vec<u64> = [-2, -1, 0, 1, 2, 6, 7].map(|power| histogram.count_up_to(power)).to_vec();
        assert_eq!(counts, [1, 2, 3, 5, 6, 6, 7]);
        assert_eq!(histogram.count(), 7);
    }

    proptest! {
        #[test]
        fn what_came_since_a_copy_and_the_copy_are_the_whole(
            values in prop::collection::vec(prop_oneof![Just(0.0), 1e-6..1e13, 0.1..10.0], 0..60),
            cut in 0..60usize, buckets_max in 2..200u32,
        ) {
            let (early, late) = values.split_at(cut.min(values.len()));
            let before = of(early, buckets_max);
            let mut whole = before.clone();
            late.iter().for_each(|&value| whole.observe(value));
            let news = whole.since(&before);
            prop_assert_eq!(news.count(), late.len() as u64);
            prop_assert!(news.counts().first() != Some(&0) && news.counts().last() != Some(&0));
            let mut again = before;
            again.merge(&news);
            prop_assert_eq!(again, whole);
        }

        #[test]
        fn any_order_and_any_division_gives_the_same(
            values in prop::collection::vec(prop_oneof![Just(0.0), 1e-6..1e13, 0.1..10.0], 1..60),
            cut in 0..60usize, buckets_max in 2..200u32,
        ) {
            let whole = of(&values, buckets_max);
            let (left, right) = values.split_at(cut.min(values.len()));
            let mut merged = of(right, buckets_max);
            merged.merge(&of(left, buckets_max));
            prop_assert_eq!(&merged, &whole);
            prop_assert_eq!(whole.count(), values.len() as u64);
            prop_assert!(whole.counts().len() <= buckets_max as usize);
            // Each value lies in its bucket, but for the rounding of the logarithm.
            let base = 2f64.powf(2f64.powi(-whole.scale()));
            for &value in values.iter().filter(|value| **value > 0.0) {
                let index = index_of(value, whole.scale());
                let (low, high) = (base.powi(index), base.powi(index + 1));
                prop_assert!(low * 0.999_99 <= value && value <= high * 1.000_01, "{} in {} to {}", value, low, high);
            }
        }
    }
}
