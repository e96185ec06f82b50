//! What a plain YAML scalar means, by the rules of go-yaml v3, which reads the Collector's files.
//!
//! The rules that surprise: a leading 0 is octal (`0123` is 83), `yes` and `on` are text, `1_000` is a number, `1e3`
//! is a float, `08` is the float 8. Dates stay text. This file never looks at style: a quoted scalar is always text.

/// The meaning of a scalar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Meaning<'a> {
    Null,
    Bool(bool),
    /// Every value fits in 64 bits, signed or not.
    Int(i128),
    Float(f64),
    Text(&'a str),
}

/// The meaning of a plain scalar.
pub(crate) fn meaning(text: &str) -> Meaning<'_> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Meaning::Null,
        "true" | "True" | "TRUE" => return Meaning::Bool(true),
        "false" | "False" | "FALSE" => return Meaning::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Meaning::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Meaning::Float(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Meaning::Float(f64::NEG_INFINITY),
        _ => {}
    }
    let starts_a_number = text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first));
    if !starts_a_number {
        return Meaning::Text(text);
    }
    let digits = text.replace('_', "");
    if let Some(number) = int(&digits) {
        return Meaning::Int(number);
    }
    match float(&digits) {
        Some(number) => Meaning::Float(number),
        None => Meaning::Text(text),
    }
}

/// Optional sign, then `0x`, `0o`, `0b`, a leading 0 for octal, or decimal.
fn int(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    // The standard library would take a second sign.
    if !digits.bytes().all(|digit| digit.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    let number = if negative { -i128::from(magnitude) } else { i128::from(magnitude) };
    (number >= i128::from(i64::MIN)).then_some(number)
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |text: &str| text.bytes().all(|digit| digit.is_ascii_digit());
    let exponent_fits = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !digits.is_empty() && all_digits(digits)
    });
    let mantissa_fits = all_digits(whole) && all_digits(fraction) && !(whole.is_empty() && fraction.is_empty());
    if !mantissa_fits || !exponent_fits {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_mean_what_go_yaml_says() {
        let table = [
            ("", Meaning::Null),
            ("~", Meaning::Null),
            ("null", Meaning::Null),
            ("NULL", Meaning::Null),
            ("nULL", Meaning::Text("nULL")),
            ("true", Meaning::Bool(true)),
            ("FALSE", Meaning::Bool(false)),
            ("yes", Meaning::Text("yes")),
            ("on", Meaning::Text("on")),
            ("y", Meaning::Text("y")),
            ("0", Meaning::Int(0)),
            ("0123", Meaning::Int(83)),
            ("0o10", Meaning::Int(8)),
            ("0x1F", Meaning::Int(31)),
            ("-0x10", Meaning::Int(-16)),
            ("0b101", Meaning::Int(5)),
            ("+7", Meaning::Int(7)),
            ("1_000", Meaning::Int(1000)),
            ("08", Meaning::Float(8.0)),
            ("1e3", Meaning::Float(1000.0)),
            ("1.", Meaning::Float(1.0)),
            (".5", Meaning::Float(0.5)),
            ("-1.5E-1", Meaning::Float(-0.15)),
            (".inf", Meaning::Float(f64::INFINITY)),
            ("18446744073709551615", Meaning::Int(u64::MAX.into())),
            ("-9223372036854775808", Meaning::Int(i64::MIN.into())),
            ("18446744073709551616", Meaning::Float(18446744073709551616.0)),
            ("10s", Meaning::Text("10s")),
            ("0.0.0.0:4317", Meaning::Text("0.0.0.0:4317")),
            ("2024-01-01", Meaning::Text("2024-01-01")),
            ("--1", Meaning::Text("--1")),
            ("-", Meaning::Text("-")),
            (".", Meaning::Text(".")),
            ("1e", Meaning::Text("1e")),
            ("0x", Meaning::Text("0x")),
            ("infinity", Meaning::Text("infinity")),
            ("+inf", Meaning::Text("+inf")),
        ];
        for (text, expected) in table {
            assert_eq!(meaning(text), expected, "{text:?}");
        }
        assert!(matches!(meaning(".nan"), Meaning::Float(number) if number.is_nan()));
    }
}
