//! Numbers of JSON as text: what is one, and which.

/// An integer by sign and magnitude, before its field's range is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Integer {
    pub(super) is_negative: bool,
    pub(super) magnitude: u64,
}

impl Integer {
    /// As an `int64`, if it is in its range.
    pub(super) fn to_i64(self) -> Option<i64> {
        if self.is_negative { 0_i64.checked_sub_unsigned(self.magnitude) } else { i64::try_from(self.magnitude).ok() }
    }

    /// As an unsigned number, if it is one.
    pub(super) fn to_u64(self) -> Option<u64> {
        (!self.is_negative || self.magnitude == 0).then_some(self.magnitude)
    }
}

/// Digits at the front of `text`. Usual numbers have a few, which a plain loop is best for; of one that has more than any
/// number needs, many are looked at without a branch, which the compiler makes wide.
fn digits(text: &[u8]) -> usize {
    const USUAL: usize = 64;
    const BLOCK: usize = 64;
    let is_other = |byte: &u8| !byte.is_ascii_digit();
    if let Some(place) = text.iter().take(USUAL).position(is_other) {
        return place;
    }
    let mut at = text.len().min(USUAL);
    while let Some(block) = text[at..].first_chunk::<BLOCK>()
        && block.iter().fold(true, |all, byte| all & byte.is_ascii_digit())
    {
        at += BLOCK;
    }
    at + text[at..].iter().position(is_other).unwrap_or(text.len() - at)
}

/// Bytes of the number at the front of `text` by the grammar of RFC 8259, section 6; `None` if there is none.
pub(super) fn length(text: &[u8]) -> Option<usize> {
    let mut at = usize::from(text.first() == Some(&b'-'));
    let whole = digits(&text[at..]);
    let has_leading_zero = whole > 1 && text[at] == b'0';
    if whole == 0 || has_leading_zero {
        return None;
    }
    at += whole;
    if text.get(at) == Some(&b'.') {
        let fraction = digits(&text[at + 1..]);
        if fraction == 0 {
            return None;
        }
        at += 1 + fraction;
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(text.get(at + 1), Some(b'+' | b'-')));
        let exponent = digits(&text[at + 1 + sign..]);
        if exponent == 0 {
            return None;
        }
        at += 1 + sign + exponent;
    }
    Some(at)
}

/// The integer that a number is; a fraction or exponent is fine as long as nothing is left behind the point. `None` if it
/// is none or has more than 64 bits.
pub(super) fn integer(number: &[u8]) -> Option<Integer> {
    let (is_negative, unsigned) = match number {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, number),
    };
    let whole = digits(unsigned);
    if whole < unsigned.len() {
        return integer_of_double(double(number)?);
    }
    let magnitude = match unsigned.len() {
        0 => return None,
        // 19 digits always fit.
        1..=19 => unsigned.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0')),
        // No number of JSON begins with a zero, but for one that is all of it.
        21.. if unsigned[0] != b'0' => return None,
        _ => str::from_utf8(unsigned).ok()?.parse().ok()?,
    };
    Some(Integer { is_negative, magnitude })
}

fn integer_of_double(value: f64) -> Option<Integer> {
    /// 2 to the power of 64.
    const BEYOND: f64 = 18_446_744_073_709_551_616.0;
    let magnitude = value.abs();
    // A double of -2^63 may stand for a number just below it, which no integer of 64 bits is.
    if value.fract() != 0.0 || magnitude >= BEYOND || value <= -BEYOND / 2.0 {
        return None;
    }
    Some(Integer { is_negative: value < 0.0, magnitude: magnitude as u64 })
}

/// The double nearest to a number; `None` if it is beyond what a double holds.
pub(super) fn double(number: &[u8]) -> Option<f64> {
    let value: f64 = str::from_utf8(number).ok()?.parse().ok()?;
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_end_where_the_grammar_says() {
        for (text, expected) in [
            ("0", Some(1)),
            ("-0,", Some(2)),
            ("12.50e+3]", Some(8)),
            ("1E5", Some(3)),
            ("", None),
            ("-", None),
            ("01", None),
            ("-01", None),
            ("1.", None),
            ("1.e5", None),
            (".5", None),
            ("1e", None),
            ("1e+", None),
            ("+1", None),
            ("NaN", None),
        ] {
            assert_eq!(length(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn digits_end_at_the_first_other_byte_wherever_it_stands() {
        for length in 0..300 {
            for behind in ["", "x", "/1", ":1", "\u{b2}"] {
                let text = ["7".repeat(length).as_bytes(), behind.as_bytes()].concat();
                assert_eq!(digits(&text), length, "{}", text.escape_ascii());
            }
        }
    }

    #[test]
    fn integers_are_exact_up_to_64_bits() {
        let of = |text: &str| integer(text.as_bytes());
        let plus = |magnitude| Some(Integer { is_negative: false, magnitude });
        let minus = |magnitude| Some(Integer { is_negative: true, magnitude });
        assert_eq!(of("18446744073709551615"), plus(u64::MAX));
        assert_eq!(of("18446744073709551616"), None);
        assert_eq!(of("-9223372036854775808"), minus(1 << 63));
        assert_eq!(of("1760000000000000001"), plus(1_760_000_000_000_000_001));
        assert_eq!(of("2e3"), plus(2000));
        assert_eq!(of("-5.0"), minus(5));
        assert_eq!(of("0.5"), None);
        assert_eq!(of("1e20"), None);
        assert_eq!(of("-9.223372036854775808e18"), None);
        assert_eq!(of("1e999999999"), None);
        assert_eq!(of(&"9".repeat(1 << 20)), None);
        assert_eq!(minus(1 << 63).and_then(Integer::to_i64), Some(i64::MIN));
        assert_eq!(minus((1 << 63) + 1).and_then(Integer::to_i64), None);
        assert_eq!(plus(1 << 63).and_then(Integer::to_i64), None);
        assert_eq!(minus(0).and_then(Integer::to_u64), Some(0));
        assert_eq!(minus(1).and_then(Integer::to_u64), None);
    }

    #[test]
    fn a_double_is_the_nearest_or_none() {
        assert_eq!(double(b"0.1"), Some(0.1));
        assert_eq!(double(b"-1e-400"), Some(0.0));
        assert_eq!(double(b"1e309"), None);
        let long = ["1", &"0".repeat(1 << 20)].concat();
        assert_eq!(double(long.as_bytes()), None);
        let long = ["0.", &"3".repeat(1 << 20)].concat();
        assert_eq!(double(long.as_bytes()), Some(1.0 / 3.0));
    }
}
