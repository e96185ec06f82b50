//! Consistent probability sampling: randomness that an item carries, and thresholds that it has to reach.
//!
//! An item is kept if its randomness is at least the threshold. Randomness is 56 uniform bits, the same for all spans of
//! a trace; a threshold counts the values that are rejected. Who compares the same randomness agrees with all others
//! who do, and a kept item that carries its threshold says for how many it stands: `2^56 / (2^56 - threshold)`.
//! (OpenTelemetry, "TraceState: Probability Sampling", keys `rv` and `th` of the trace state's member `ot`.)
//!
//! Nothing here draws a random number: randomness arrives, or is computed from an id.

mod trace_state;

use codecs::otlp::TraceId;

pub use trace_state::{TraceState, Update};

/// Hexadecimal digits of 56 bits: the largest precision of a threshold.
pub const DIGITS_MAX: u8 = 14;

/// How many values randomness has.
const VALUES: u64 = 1 << 56;

const BITS_PER_DIGIT: u32 = 4;

/// The least probability that a threshold can have.
pub const PROBABILITY_MIN: f64 = 1.0 / VALUES as f64;

/// 56 uniform bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Randomness(u64);

impl Randomness {
    /// Reaches every threshold but [`Threshold::NEVER`].
    pub const MAX: Self = Self(VALUES - 1);

    /// From the lower 56 bits of `bits`.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits & (VALUES - 1))
    }

    /// The last 7 bytes of a trace id: what they are where nothing explicit arrived (W3C Trace Context level 2).
    #[must_use]
    pub fn of_trace_id(id: &TraceId) -> Self {
        let [.., a, b, c, d, e, f, g] = id.0;
        Self(u64::from_be_bytes([0, a, b, c, d, e, f, g]))
    }

    /// From a 64-bit hash by which items with *small* hashes are kept.
    #[must_use]
    pub(crate) fn of_hash(hash: u64) -> Self {
        Self(!hash >> 8)
    }

    /// Exactly 14 hexadecimal digits of either case.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() == usize::from(DIGITS_MAX) { left_aligned(text).map(Self) } else { None }
    }

    /// Appends 14 digits.
    pub fn write(self, out: &mut Vec<u8>) {
        out.extend(digits(self.0));
    }
}

/// How many values of randomness are rejected, 0 to 2^56. Greater means fewer items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Threshold(u64);

impl Threshold {
    /// Rejects nothing: probability 1.
    pub const ALWAYS: Self = Self(0);
    /// Rejects everything. It has no text.
    pub const NEVER: Self = Self(VALUES);

    /// Rejecting so many values; beyond all of them: [`Threshold::NEVER`].
    #[must_use]
    pub fn rejecting(values: u64) -> Self {
        Self(values.min(VALUES))
    }

    /// For a probability, to the nearest of 2^56 values. What is not above 0 (or not a number) is never, from 1 on always.
    #[must_use]
    pub fn of_probability(probability: f64) -> Self {
        if probability.is_nan() || probability <= 0.0 {
            return Self::NEVER;
        }
        if probability >= 1.0 {
            return Self::ALWAYS;
        }
        Self(VALUES - (probability * VALUES as f64).round() as u64)
    }

    /// For a probability, rounded to `precision` hexadecimal digits (1 to 14), which do not count leading zeros and `f`s:
    /// each makes one digit more, so that the relative error stays where probabilities are small or nearly 1.
    #[must_use]
    pub fn of_probability_rounded(probability: f64, precision: u8) -> Self {
        let exact = Self::of_probability(probability);
        if exact == Self::ALWAYS || exact == Self::NEVER {
            return exact;
        }
        let precision = u32::from(precision) + leading_digits(probability).max(leading_digits(1.0 - probability));
        let shift = BITS_PER_DIGIT * u32::from(DIGITS_MAX).saturating_sub(precision);
        if shift == 0 {
            return exact;
        }
        let half = 1 << (shift - 1);
        Self(((exact.0 + half) >> shift) << shift)
    }

    /// 1 to 14 hexadecimal digits of either case; those left out are zeros.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        left_aligned(text).map(Self)
    }

    /// Appends the digits without trailing zeros. Nothing for [`Threshold::NEVER`].
    pub fn write(self, out: &mut Vec<u8>) {
        if self == Self::NEVER {
            return;
        }
        let digits = digits(self.0);
        let last = digits.iter().rposition(|digit| *digit != b'0').unwrap_or(0);
        out.extend_from_slice(&digits[..=last]);
    }

    /// Whether an item of this randomness is kept.
    #[inline]
    #[must_use]
    pub fn admits(self, randomness: Randomness) -> bool {
        self.0 <= randomness.0
    }

    /// The share of all randomness that is kept, 0 to 1.
    #[must_use]
    pub fn probability(self) -> f64 {
        (VALUES - self.0) as f64 / VALUES as f64
    }
}

/// How many zeros a fraction below 1 has behind its point in base 16, taken from its binary exponent.
fn leading_digits(fraction: f64) -> u32 {
    const EXPONENT_BIAS: u32 = 1022;
    const FRACTION_BITS: u32 = 52;
    // As in C's frexp: fraction = m * 2^exponent with m from 1/2 to 1; below 1 the exponent is 0 or less.
    let biased = (fraction.to_bits() >> FRACTION_BITS) as u32;
    EXPONENT_BIAS.saturating_sub(biased) / BITS_PER_DIGIT
}

fn left_aligned(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > usize::from(DIGITS_MAX) {
        return None;
    }
    let mut value = 0;
    for digit in text {
        value = value << BITS_PER_DIGIT | u64::from(char::from(*digit).to_digit(16)?);
    }
    Some(value << (BITS_PER_DIGIT as usize * (usize::from(DIGITS_MAX) - text.len())))
}

fn digits(value: u64) -> [u8; DIGITS_MAX as usize] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    std::array::from_fn(|at| {
        let shift = BITS_PER_DIGIT as usize * (usize::from(DIGITS_MAX) - 1 - at);
        DIGITS[(value >> shift) as usize & 15]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(threshold: Threshold) -> String {
        let mut out = Vec::new();
        threshold.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// Percent, then the threshold at 1, 2, 3, 4, 6 and 14 digits of precision.
    #[test]
    fn thresholds_of_percentages_are_the_collectors_at_every_precision() {
        for (percent, expected) in [
            (99.0f32, ["03", "029", "028f", "028f6", "028f5c3", "028f5c28f5c29"]),
            (90.0, ["2", "1a", "19a", "199a", "19999a", "19999999999998"]),
            (66.6667, ["5", "55", "555", "5555", "55554f", "55554f5c28f5c"]),
            (40.0, ["a", "9a", "99a", "999a", "99999a", "99999999999998"]),
            (10.0, ["e", "e6", "e66", "e666", "e66666", "e6666666666666"]),
            (5.0, ["f3", "f33", "f333", "f3333", "f333333", "f3333333333333"]),
            (1.0, ["fd", "fd7", "fd71", "fd70a", "fd70a3d", "fd70a3d70a3d71"]),
            (0.1, ["ffc", "ffbe", "ffbe7", "ffbe77", "ffbe76c9", "ffbe76c8a3d70a"]),
            (50.0, ["8"; 6]),
            (25.0, ["c"; 6]),
            (75.0, ["4"; 6]),
            (12.5, ["e"; 6]),
            (100.0, ["0"; 6]),
            (0.0, [""; 6]),
        ] {
            let probability = f64::from(percent) / 100.0;
            for (precision, expected) in [1, 2, 3, 4, 6, 14].into_iter().zip(expected) {
                let found = text(Threshold::of_probability_rounded(probability, precision));
                assert_eq!(found, expected, "{percent} % at {precision} digits");
            }
        }
    }

    #[test]
    fn texts_are_read_left_aligned_and_written_without_trailing_zeros() {
        for (read, written) in [
            ("0", "0"),
            ("8", "8"),
            ("80000000000000", "8"),
            ("FD70A", "fd70a"),
            ("00000000000001", "00000000000001"),
            ("000", "0"),
        ] {
            assert_eq!(text(Threshold::parse(read.as_bytes()).unwrap()), written);
        }
        for wrong in ["", "800000000000000", "-1", "g", " 8", "8 "] {
            assert_eq!(Threshold::parse(wrong.as_bytes()), None, "{wrong:?}");
        }
        assert_eq!(Randomness::parse(b"fffffffffffffF"), Some(Randomness::MAX));
        for wrong in ["", "fffffffffffff", "fffffffffffffff", "fffffffffffffg"] {
            assert_eq!(Randomness::parse(wrong.as_bytes()), None, "{wrong:?}");
        }
    }

    #[test]
    fn an_item_is_kept_from_its_threshold_on() {
        let half = Threshold::parse(b"8").unwrap();
        assert!(half.admits(Randomness::parse(b"80000000000000").unwrap()));
        assert!(!half.admits(Randomness::parse(b"7fffffffffffff").unwrap()));
        assert!(Threshold::ALWAYS.admits(Randomness::from_bits(0)));
        assert!(!Threshold::NEVER.admits(Randomness::MAX));
        assert_eq!((half.probability(), Threshold::NEVER.probability()), (0.5, 0.0));
        let id = TraceId(0xfefe_fefe_fefe_fefe_fe80_0000_0000_0000_u128.to_be_bytes());
        assert_eq!(Randomness::of_trace_id(&id), Randomness::parse(b"80000000000000").unwrap());
    }

    #[test]
    fn probabilities_at_their_ends_stay_within_bounds() {
        assert_eq!(Threshold::of_probability_rounded(PROBABILITY_MIN, 1), Threshold(VALUES - 1));
        assert_eq!(Threshold::of_probability(PROBABILITY_MIN / 4.0), Threshold::NEVER);
        assert_eq!(Threshold::of_probability(f64::NAN), Threshold::NEVER);
        assert_eq!(Threshold::of_probability(1.0 - f64::EPSILON / 2.0), Threshold(8));
        for digits in 1..=14 {
            let threshold = Threshold::of_probability_rounded(0.999_999_999, digits);
            assert!(threshold < Threshold::of_probability(0.9), "{digits}: {threshold:?}");
        }
    }
}
