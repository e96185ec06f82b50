//! What expressions evaluate to, and the rules of the language for comparing, calculating and writing as text.
//!
//! The one idea: text and bytes are borrowed from where they lie until somebody keeps them. Text is bytes, usually UTF-8:
//! a peer's text passes as it is.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::fault::Fault;
use crate::syntax::{Comparison, MathOperator};

/// Text or bytes, borrowed or owned.
pub type Text<'a> = Cow<'a, [u8]>;

/// Entries of a map in their order.
pub type Entries<'a> = Vec<(Text<'a>, Value<'a>)>;

/// A value of the language.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value<'a> {
    /// No value.
    #[default]
    Nil,
    /// Truth.
    Bool(bool),
    /// Whole number; enums are integers too.
    Int(i64),
    /// Floating point number.
    Double(f64),
    /// Text, usually UTF-8.
    Text(Text<'a>),
    /// Opaque bytes; ids are bytes.
    Bytes(Text<'a>),
    /// Nanoseconds since 1970, UTC.
    Time(i64),
    /// Nanoseconds.
    Duration(i64),
    /// List.
    List(Vec<Value<'a>>),
    /// Map; of equal keys the first counts.
    Map(Entries<'a>),
}

impl<'a> Value<'a> {
    /// Text that is already there.
    #[must_use]
    pub fn text(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text.as_bytes()))
    }

    /// The value as the Collector's `AsString` has it: text as it is, bytes in base64, all else as JSON, nil empty.
    #[must_use]
    pub fn as_text(&self) -> Text<'_> {
        crate::action::as_text(self)
    }

    pub(crate) fn owned_text(text: impl Into<String>) -> Self {
        Self::Text(Cow::Owned(text.into().into_bytes()))
    }

    /// The type as people write it.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "a bool",
            Self::Int(_) => "an integer",
            Self::Double(_) => "a float",
            Self::Text(_) => "a string",
            Self::Bytes(_) => "bytes",
            Self::Time(_) => "a time",
            Self::Duration(_) => "a duration",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }

    /// The same value, borrowing nothing.
    #[must_use]
    pub fn into_owned(self) -> Value<'static> {
        let owned = |text: Text<'a>| Cow::Owned(text.into_owned());
        match self {
            Self::Nil => Value::Nil,
            Self::Bool(value) => Value::Bool(value),
            Self::Int(value) => Value::Int(value),
            Self::Double(value) => Value::Double(value),
            Self::Text(text) => Value::Text(owned(text)),
            Self::Bytes(bytes) => Value::Bytes(owned(bytes)),
            Self::Time(time) => Value::Time(time),
            Self::Duration(duration) => Value::Duration(duration),
            Self::List(items) => Value::List(items.into_iter().map(Value::into_owned).collect()),
            Self::Map(entries) => Value::Map(owned_entries(entries)),
        }
    }

    /// The same value, borrowing from this one.
    #[must_use]
    pub fn borrowed(&self) -> Value<'_> {
        match self {
            Self::Text(text) => Value::Text(Cow::Borrowed(text)),
            Self::Bytes(bytes) => Value::Bytes(Cow::Borrowed(bytes)),
            Self::List(items) => Value::List(items.iter().map(Value::borrowed).collect()),
            Self::Map(entries) => {
                Value::Map(entries.iter().map(|(key, value)| (Cow::Borrowed(&**key), value.borrowed())).collect())
            }
            Self::Nil => Value::Nil,
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(value) => Value::Int(*value),
            Self::Double(value) => Value::Double(*value),
            Self::Time(time) => Value::Time(*time),
            Self::Duration(duration) => Value::Duration(*duration),
        }
    }

    /// How deep lists and maps nest below this value, counted until `bound`.
    pub(crate) fn depth(&self, bound: u32) -> u32 {
        let deepest = |depths: &mut dyn Iterator<Item = u32>| depths.max().map_or(1, |depth| depth + 1);
        match self {
            _ if bound == 0 => 0,
            Self::List(items) => deepest(&mut items.iter().map(|item| item.depth(bound - 1))),
            Self::Map(entries) => deepest(&mut entries.iter().map(|(_, value)| value.depth(bound - 1))),
            _ => 0,
        }
    }

    /// Bytes of all text in the value.
    pub(crate) fn text_bytes(&self) -> usize {
        match self {
            Self::Text(text) | Self::Bytes(text) => text.len(),
            Self::List(items) => items.iter().map(|item| 8 + item.text_bytes()).sum(),
            Self::Map(entries) => entries.iter().map(|(key, value)| 8 + key.len() + value.text_bytes()).sum(),
            _ => 0,
        }
    }

    /// Converts to text: numbers and bools as JSON writes them, bytes as hex, lists and maps as JSON with sorted keys,
    /// times as RFC 3339; nil stays nil.
    ///
    /// # Errors
    /// A float that is no number.
    pub(crate) fn into_text_like(self) -> Result<Value<'a>, Fault> {
        Ok(match self {
            Self::Nil | Self::Text(_) => self,
            Self::Bytes(bytes) => Value::owned_text(hex(&bytes)),
            Self::Double(value) => Value::owned_text(float_text(value)?),
            other => {
                let mut out = String::new();
                other.write_json(&mut out)?;
                Value::owned_text(out)
            }
        })
    }

    /// Appends the value as JSON the way Go writes it: keys sorted, `<`, `>` and `&` escaped, bytes in base64.
    pub(crate) fn write_json(&self, out: &mut String) -> Result<(), Fault> {
        match self {
            Self::Nil => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Int(value) | Self::Duration(value) => out.push_str(&value.to_string()),
            Self::Double(value) => out.push_str(&float_text(*value)?),
            Self::Text(text) => write_json_text(&String::from_utf8_lossy(text), out),
            Self::Bytes(bytes) => write_json_text(&base64_padded(bytes), out),
            Self::Time(time) => write_json_text(&crate::time::rfc3339(*time), out),
            Self::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    item.write_json(out)?;
                }
                out.push(']');
            }
            Self::Map(entries) => {
                let mut sorted: Vec<_> = entries.iter().collect();
                sorted.sort_by(|left, right| left.0.cmp(&right.0));
                out.push('{');
                for (index, (key, value)) in sorted.into_iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    write_json_text(&String::from_utf8_lossy(key), out);
                    out.push(':');
                    value.write_json(out)?;
                }
                out.push('}');
            }
        }
        Ok(())
    }
}

pub(crate) fn owned_entries(entries: Entries<'_>) -> Entries<'static> {
    entries.into_iter().map(|(key, value)| (Cow::Owned(key.into_owned()), value.into_owned())).collect()
}

/// The value of the first entry called `key`.
pub(crate) fn entry<'e, 'a>(entries: &'e Entries<'a>, key: &[u8]) -> Option<&'e Value<'a>> {
    entries.iter().find(|(name, _)| **name == *key).map(|(_, value)| value)
}

/// Sets the first entry called `key` and removes any other; absent, it is added at the end.
pub(crate) fn put<'a>(entries: &mut Entries<'a>, key: Text<'a>, value: Value<'a>) {
    let Some(first) = entries.iter().position(|(name, _)| *name == key) else {
        return entries.push((key, value));
    };
    entries[first].1 = value;
    let mut index = 0;
    entries.retain(|(name, _)| {
        index += 1;
        index <= first + 1 || *name != key
    });
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Standard base64 with padding.
pub(crate) fn base64_padded(bytes: &[u8]) -> String {
    let mut text = codecs::grpc::base64::encode(bytes);
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}

/// A float as JSON: the shortest digits, with an exponent below 1e-6 and from 1e21 on.
fn float_text(value: f64) -> Result<String, Fault> {
    if !value.is_finite() {
        return Err(Fault::invalid("a float that is no number has no text"));
    }
    let size = value.abs();
    if size == 0.0 || (1e-6..1e21).contains(&size) {
        return Ok(format!("{value}"));
    }
    let text = format!("{value:e}");
    // Two digits of exponent at least.
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let sign = if exponent.starts_with('-') { '-' } else { '+' };
    Ok(format!("{digits}e{sign}{:0>2}", exponent.trim_start_matches('-')))
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
                out.push_str(&format!("\\u{:04x}", u32::from(letter)));
            }
            _ => out.push(letter),
        }
    }
    out.push('"');
}

/// Whether `left operator right` is true. Values of different types are unequal and in no order, but integers and floats
/// compare as floats, and nil equals nil.
pub(crate) fn compare(operator: Comparison, left: &Value<'_>, right: &Value<'_>) -> bool {
    let is_equality = matches!(operator, Comparison::Equal | Comparison::NotEqual);
    let order = match (left, right) {
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Int(a), Value::Int(b))
        | (Value::Time(a), Value::Time(b))
        | (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
        (Value::Int(a), Value::Double(b)) => (*a as f64).partial_cmp(b),
        (Value::Double(a), Value::Int(b)) => a.partial_cmp(&(*b as f64)),
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Text(a), Value::Text(b)) | (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
        (Value::Nil, Value::Nil) => Some(Ordering::Equal),
        (Value::List(_), Value::List(_)) | (Value::Map(_), Value::Map(_)) if is_equality => {
            same(left, right).then_some(Ordering::Equal)
        }
        _ => None,
    };
    order.map_or(operator == Comparison::NotEqual, |order| operator.holds(order))
}

/// Deep equality; maps are equal whatever the order of their entries.
pub(crate) fn same(left: &Value<'_>, right: &Value<'_>) -> bool {
    match (left, right) {
        (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len() && a.iter().all(|(key, value)| entry(b, key).is_some_and(|other| same(value, other)))
        }
        _ => compare(Comparison::Equal, left, right),
    }
}

/// `left operator right` for numbers, times and durations. Integers wrap around, as Go's do.
pub(crate) fn calculate(operator: MathOperator, left: Value<'_>, right: Value<'_>) -> Result<Value<'static>, Fault> {
    use MathOperator::{Add, Divide, Multiply, Subtract};
    Ok(match (operator, left, right) {
        (Divide, Value::Int(_), Value::Int(0)) => return Err(Fault::DivisionByZero),
        (_, Value::Int(a), Value::Int(b)) => Value::Int(match operator {
            Add => a.wrapping_add(b),
            Subtract => a.wrapping_sub(b),
            Multiply => a.wrapping_mul(b),
            Divide => a.wrapping_div(b),
        }),
        (_, Value::Double(a), Value::Double(b)) => Value::Double(float(operator, a, b)?),
        (_, Value::Int(a), Value::Double(b)) => Value::Double(float(operator, a as f64, b)?),
        (_, Value::Double(a), Value::Int(b)) => Value::Double(float(operator, a, b as f64)?),
        (Subtract, Value::Time(a), Value::Time(b)) => Value::Duration(a.saturating_sub(b)),
        (Add, Value::Time(a), Value::Duration(b)) | (Add, Value::Duration(b), Value::Time(a)) => {
            Value::Time(a.saturating_add(b))
        }
        (Subtract, Value::Time(a), Value::Duration(b)) => Value::Time(a.saturating_sub(b)),
        (Add, Value::Duration(a), Value::Duration(b)) => Value::Duration(a.wrapping_add(b)),
        (Subtract, Value::Duration(a), Value::Duration(b)) => Value::Duration(a.wrapping_sub(b)),
        (_, Value::Nil, _) | (_, _, Value::Nil) => return Err(Fault::Nil),
        (_, Value::Int(_) | Value::Double(_) | Value::Time(_) | Value::Duration(_), other) => {
            return Err(Fault::wrong("a number, or a time or duration that fits", &other));
        }
        (_, other, _) => return Err(Fault::wrong("a number, a time or a duration", &other)),
    })
}

fn float(operator: MathOperator, left: f64, right: f64) -> Result<f64, Fault> {
    Ok(match operator {
        MathOperator::Add => left + right,
        MathOperator::Subtract => left - right,
        MathOperator::Multiply => left * right,
        MathOperator::Divide if right == 0.0 => return Err(Fault::DivisionByZero),
        MathOperator::Divide => left / right,
    })
}
