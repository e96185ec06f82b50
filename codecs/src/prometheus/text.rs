//! Attribute values as the text of a label.
//!
//! The forms are Go's, because the Collector's are: numbers as its JSON writes them, lists and maps as JSON, bytes in
//! base64. What is not UTF-8 gets replacement characters: a server refuses a whole request for one such byte.

use std::fmt::Write as _;

use crate::grpc::base64;
use crate::otlp::attributes::{Attribute, Fields, Value};

/// How deep lists and maps are written; what lies deeper is `null`. Bytes that were checked end before.
const DEPTH_MAX: u32 = 100;

/// Appends the text of the AnyValue in `bytes`; nothing for one without a value.
pub(super) fn write_value(bytes: &[u8], out: &mut String) {
    match Value::read(bytes) {
        Value::Empty => {}
        Value::String(text) => out.push_str(&String::from_utf8_lossy(text)),
        Value::Bool(value) => out.push_str(if value { "true" } else { "false" }),
        Value::Int(value) => write_display(value, out),
        Value::Double(value) if value.is_finite() => write_double(value, out),
        Value::Double(value) => {
            out.push_str("json: unsupported value: ");
            out.push_str(if value.is_nan() {
                "NaN"
            } else if value > 0.0 {
                "+Inf"
            } else {
                "-Inf"
            });
        }
        Value::Bytes(bytes) => write_base64(bytes, out),
        Value::Array(_) | Value::Map(_) => write_json(bytes, 0, out),
    }
}

/// An explicit bound or a quantile as the value of its label: the shortest decimal, never with an exponent.
pub(super) fn write_bound(bound: f64, out: &mut String) {
    match bound {
        f64::INFINITY => out.push_str("+Inf"),
        f64::NEG_INFINITY => out.push_str("-Inf"),
        // Zero is one bound: the sum is positive zero whatever its sign was.
        _ => write_display(bound + 0.0, out),
    }
}

fn write_display(value: impl std::fmt::Display, out: &mut String) {
    // Writing to a String cannot fail.
    let _ = write!(out, "{value}");
}

fn write_double(value: f64, out: &mut String) {
    let size = value.abs();
    if size == 0.0 || (1e-6..1e21).contains(&size) {
        return write_display(value, out);
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let sign = if exponent.starts_with('-') { "" } else { "+" };
    let _ = write!(out, "{digits}e{sign}{exponent}");
}

fn write_base64(bytes: &[u8], out: &mut String) {
    let text = base64::encode(bytes);
    out.push_str(&text);
    out.extend(std::iter::repeat_n('=', (4 - text.len() % 4) % 4));
}

fn write_json(bytes: &[u8], depth: u32, out: &mut String) {
    match Value::read(bytes) {
        _ if depth > DEPTH_MAX => out.push_str("null"),
        Value::Empty => out.push_str("null"),
        Value::String(text) => write_json_text(&String::from_utf8_lossy(text), out),
        Value::Bytes(bytes) => {
            out.push('"');
            write_base64(bytes, out);
            out.push('"');
        }
        Value::Double(value) if !value.is_finite() => out.push_str("null"),
        Value::Bool(_) | Value::Int(_) | Value::Double(_) => write_value(bytes, out),
        Value::Array(list) => {
            out.push('[');
            for (number, field) in children(list).enumerate() {
                out.push_str(if number == 0 { "" } else { "," });
                write_json(field, depth + 1, out);
            }
            out.push(']');
        }
        Value::Map(map) => write_json_map(map, depth, out),
    }
}

/// Names in order; of equal ones the last counts.
fn write_json_map(map: &[u8], depth: u32, out: &mut String) {
    let mut entries: Vec<Attribute<'_>> = children(map).map(Attribute::read).collect();
    entries.sort_by_key(|entry| entry.key);
    out.push('{');
    let mut is_first = true;
    for (number, entry) in entries.iter().enumerate() {
        if entries.get(number + 1).is_some_and(|next| next.key == entry.key) {
            continue;
        }
        out.push_str(if is_first { "" } else { "," });
        is_first = false;
        write_json_text(&String::from_utf8_lossy(entry.key), out);
        out.push(':');
        write_json(entry.value, depth + 1, out);
    }
    out.push('}');
}

/// The values of an ArrayValue or KeyValueList.
fn children(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    Fields::of(message).filter(|field| field.tag.number == 1).map(|field| field.body)
}

fn write_json_text(text: &str, out: &mut String) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(letter));
            }
            _ => out.push(letter),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::otlp::proto;

    fn check(value: proto::Value, expected: &str) {
        let mut out = String::new();
        write_value(&proto::AnyValue { value: Some(value) }.encode_to_vec(), &mut out);
        assert_eq!(out, expected);
    }

    fn any(value: proto::Value) -> proto::AnyValue {
        proto::AnyValue { value: Some(value) }
    }

    #[test]
    fn values_are_written_as_go_writes_them() {
        use proto::Value::{Array, Bool, Bytes, Double, Int, Map, String as Text};
        check(Text(b"x\xff".to_vec()), "x\u{fffd}");
        check(Bool(true), "true");
        check(Int(-5), "-5");
        check(Double(0.5), "0.5");
        check(Double(1e21), "1e+21");
        check(Double(1.5e-7), "1.5e-7");
        check(Double(f64::NAN), "json: unsupported value: NaN");
        check(Bytes(b"hi!?".to_vec()), "aGkhPw==");
        let values = vec![any(Int(1)), any(Text(b"<\"a\">".to_vec())), proto::AnyValue::default()];
        check(Array(proto::ArrayValue { values }), r#"[1,"\u003c\"a\"\u003e",null]"#);
        let entry = |key: &str, value| proto::KeyValue { key: key.into(), value: Some(any(value)) };
        let values = vec![entry("b", Int(1)), entry("a", Bool(false)), entry("b", Int(2))];
        check(Map(proto::KeyValueList { values }), r#"{"a":false,"b":2}"#);
    }

    #[test]
    fn bounds_have_no_exponent() {
        let check = |bound: f64, expected: &str| {
            let mut out = String::new();
            write_bound(bound, &mut out);
            assert_eq!(out, expected);
        };
        check(0.005, "0.005");
        check(10.0, "10");
        check(1e21, "1000000000000000000000");
        check(-0.0, "0");
        check(f64::INFINITY, "+Inf");
    }
}
