//! Durations as the Collector writes them: Go's `time.ParseDuration`.
//!
//! A sign, then one or more numbers with a unit: `300ms`, `1.5h`, `2h45m`, `0`. Units are ns, us (also with a micro
//! sign), ms, s, m, h. Fractions below a nanosecond are cut.

/// Nanoseconds of a written duration; `None` if it is not one or does not fit in 64 bits.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let (nanoseconds, tail) = term(rest)?;
        rest = tail;
        total = total.checked_add(nanoseconds)?;
        if total > i128::from(i64::MAX) + 1 {
            return None;
        }
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// One number with its unit, and what follows it.
fn term(text: &str) -> Option<(i128, &str)> {
    let (whole, rest) = split_digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => split_digits(rest),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let unit_end = rest.find(|character: char| character == '.' || character.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_end);
    let unit_ns = unit_ns(unit)?;
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let whole_ns = i128::from(whole) * unit_ns;
    if whole_ns > i128::from(i64::MAX) + 1 {
        return None;
    }
    Some((whole_ns + fraction_ns(fraction, unit_ns), rest))
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

fn unit_ns(unit: &str) -> Option<i128> {
    Some(match unit {
        "ns" => 1,
        // U+00B5 is the micro sign, U+03BC the Greek letter.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// Digits after the point, as nanoseconds. Go multiplies in floating point and ignores digits past 63 bits; so do we,
/// or a third of an hour would differ by a nanosecond.
fn fraction_ns(digits: &str, unit_ns: i128) -> i128 {
    let mut value: u64 = 0;
    let mut scale = 1.0;
    for digit in digits.bytes() {
        let next = value.checked_mul(10).and_then(|value| value.checked_add(u64::from(digit - b'0')));
        let Some(next) = next.filter(|next| *next <= 1 << 63) else {
            break;
        };
        value = next;
        scale *= 10.0;
    }
    (value as f64 * (unit_ns as f64 / scale)) as i128
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_like_go() {
        const SECOND: i64 = 1_000_000_000;
        let table = [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("5s", Some(5 * SECOND)),
            ("+5s", Some(5 * SECOND)),
            ("-5s", Some(-5 * SECOND)),
            ("1478s", Some(1478 * SECOND)),
            ("5.0s", Some(5 * SECOND)),
            ("5.s", Some(5 * SECOND)),
            (".5s", Some(SECOND / 2)),
            ("1.004s", Some(1_004_000_000)),
            ("200ms", Some(200_000_000)),
            ("11us", Some(11_000)),
            ("12\u{b5}s", Some(12_000)),
            ("12\u{3bc}s", Some(12_000)),
            ("3h30m", Some(12_600 * SECOND)),
            ("10.5s4m", Some(250 * SECOND + SECOND / 2)),
            ("52763797000ns", Some(52_763_797_000)),
            ("0.3333333333333333333h", Some(1200 * SECOND)),
            ("0.100000000000000000000h", Some(360 * SECOND)),
            ("9223372036854775807ns", Some(i64::MAX)),
            ("-9223372036854775808ns", Some(i64::MIN)),
            ("9223372036854775808ns", None),
            ("9223372036854775.808us", None),
            ("3000000h", None),
            ("", None),
            ("3", None),
            ("-", None),
            ("s", None),
            (".", None),
            (".s", None),
            ("1 s", None),
            ("1d", None),
            ("1S", None),
            ("--1s", None),
            ("10 000ms", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn whole_units_add_up(hours in 0_i64..1000, minutes in 0_i64..600, seconds in 0_i64..600, ms in 0_i64..5000) {
            let expected = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000_000 + ms * 1_000_000;
            prop_assert_eq!(parse(&format!("{hours}h{minutes}m{seconds}s{ms}ms")), Some(expected));
        }

        #[test]
        fn no_text_panics(text in "[-+]?([0-9]{0,25}\\.?[0-9]{0,25}(ns|us|ms|s|m|h|x)?){0,3}") {
            let _ = parse(&text);
        }
    }
}
