//! Converters between types, and tests of types.

use std::borrow::Cow;
use std::net::IpAddr;

use super::{Arguments, Function, Kind, converter, needed};
use crate::fault::Fault;
use crate::path::id_from_hex;
use crate::value::{Value, hex};

pub(super) const TABLE: &[Function] = &[
    converter("Bool", &[needed("target", Kind::BoolLike)], first),
    converter("Double", &[needed("target", Kind::DoubleLike)], first),
    converter("Hex", &[needed("target", Kind::BytesLike)], |arguments| Ok(Value::owned_text(hex(&arguments.text(0))))),
    converter("Int", &[needed("target", Kind::IntLike)], first),
    converter("IsBool", &[needed("target", Kind::Any)], |arguments| {
        Ok(Value::Bool(matches!(arguments.value(0), Value::Bool(_))))
    }),
    converter("IsDouble", &[needed("target", Kind::Any)], |arguments| {
        Ok(Value::Bool(matches!(arguments.value(0), Value::Double(_))))
    }),
    converter("IsInCIDR", &[needed("target", Kind::Text), needed("networks", Kind::TextList)], is_in_cidr),
    converter("IsInt", &[needed("target", Kind::Any)], |arguments| {
        Ok(Value::Bool(matches!(arguments.value(0), Value::Int(_))))
    }),
    converter("IsList", &[needed("target", Kind::Any)], |arguments| {
        Ok(Value::Bool(matches!(arguments.value(0), Value::List(_))))
    }),
    converter("IsMap", &[needed("target", Kind::Any)], |arguments| {
        Ok(Value::Bool(matches!(arguments.value(0), Value::Map(_))))
    }),
    converter("IsString", &[needed("target", Kind::Any)], |arguments| {
        Ok(Value::Bool(matches!(arguments.value(0), Value::Text(_))))
    }),
    converter("IsValidLuhn", &[needed("target", Kind::TextLike)], is_valid_luhn),
    converter("ParseInt", &[needed("target", Kind::Text), needed("base", Kind::Int)], parse_int),
    converter("ProfileID", &[needed("target", Kind::BytesLike)], |arguments| id(arguments, 16)),
    converter("SpanID", &[needed("target", Kind::BytesLike)], |arguments| id(arguments, 8)),
    converter("String", &[needed("target", Kind::TextLike)], first),
    converter("TraceID", &[needed("target", Kind::BytesLike)], |arguments| id(arguments, 16)),
];

/// The parameter's kind did the work.
fn first<'v>(arguments: &mut Arguments<'v>) -> Result<Value<'v>, Fault> {
    Ok(arguments.value(0))
}

/// Text is read as decimal digits, and gives nil if it is none; floats are cut.
pub(super) fn to_int(value: Value<'_>) -> Result<Value<'_>, Fault> {
    Ok(match value {
        Value::Nil | Value::Int(_) => value,
        Value::Double(value) => Value::Int(value as i64),
        Value::Bool(value) => Value::Int(i64::from(value)),
        Value::Text(text) => ascii(&text).and_then(|text| text.parse().ok()).map_or(Value::Nil, Value::Int),
        other => return Err(Fault::wrong(Kind::IntLike.describe(), &other)),
    })
}

/// Text that is no number is a fault, as in the Collector.
pub(super) fn to_double(value: Value<'_>) -> Result<Value<'_>, Fault> {
    Ok(match value {
        Value::Nil | Value::Double(_) => value,
        Value::Int(value) => Value::Double(value as f64),
        Value::Bool(value) => Value::Double(f64::from(u8::from(value))),
        Value::Text(text) => match ascii(&text).and_then(|text| text.parse().ok()) {
            Some(value) => Value::Double(value),
            None => return Err(Fault::invalid("the string is no number")),
        },
        other => return Err(Fault::wrong(Kind::DoubleLike.describe(), &other)),
    })
}

/// Text as Go's `ParseBool` reads it.
pub(super) fn to_bool(value: Value<'_>) -> Result<Value<'_>, Fault> {
    Ok(match value {
        Value::Nil | Value::Bool(_) => value,
        Value::Int(value) => Value::Bool(value != 0),
        Value::Double(value) => Value::Bool(value != 0.0),
        Value::Text(text) => match &*text {
            b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True" => Value::Bool(true),
            b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False" => Value::Bool(false),
            _ => return Err(Fault::invalid("the string is no bool")),
        },
        other => return Err(Fault::wrong(Kind::BoolLike.describe(), &other)),
    })
}

/// Numbers as eight bytes, the highest first.
pub(super) fn to_bytes(value: Value<'_>) -> Result<Value<'_>, Fault> {
    Ok(Value::Bytes(match value {
        Value::Nil => return Ok(Value::Nil),
        Value::Bytes(bytes) | Value::Text(bytes) => bytes,
        Value::Bool(value) => Cow::Owned(vec![u8::from(value)]),
        Value::Int(value) => Cow::Owned(value.to_be_bytes().to_vec()),
        Value::Double(value) => Cow::Owned(value.to_be_bytes().to_vec()),
        other => return Err(Fault::wrong(Kind::BytesLike.describe(), &other)),
    }))
}

fn ascii(text: &[u8]) -> Option<&str> {
    std::str::from_utf8(text).ok()
}

fn id<'v>(arguments: &mut Arguments<'v>, length: usize) -> Result<Value<'v>, Fault> {
    match arguments.value(0) {
        Value::Bytes(bytes) if bytes.len() == length => Ok(Value::Bytes(bytes)),
        Value::Bytes(digits) => id_from_hex(&digits, length).map(|id| Value::Bytes(Cow::Owned(id))),
        other => Err(Fault::wrong("an id", &other)),
    }
}

fn parse_int<'v>(arguments: &mut Arguments<'v>) -> Result<Value<'v>, Fault> {
    let (text, base) = (arguments.letters(0), arguments.int(1));
    let unsigned = text.trim_start_matches(['+', '-']).to_ascii_lowercase();
    let (radix, prefix) = match base {
        0 if unsigned.starts_with("0x") => (16, 2),
        0 if unsigned.starts_with("0b") => (2, 2),
        0 if unsigned.starts_with("0o") => (8, 2),
        0 if unsigned.len() > 1 && unsigned.starts_with('0') => (8, 1),
        0 => (10, 0),
        2..=36 => (base as u32, 0),
        _ => return Err(Fault::invalid("a base is 0 or 2 to 36")),
    };
    let sign = if text.starts_with('-') { "-" } else { "" };
    let digits = &unsigned[prefix..];
    let is_signed_twice = text.len() > unsigned.len() + 1 || digits.starts_with(['+', '-']);
    let value = if is_signed_twice { None } else { i64::from_str_radix(&format!("{sign}{digits}"), radix).ok() };
    value.map(Value::Int).ok_or(Fault::invalid("the string is no integer of that base"))
}

fn is_in_cidr<'v>(arguments: &mut Arguments<'v>) -> Result<Value<'v>, Fault> {
    // What is no address lies in no network.
    let Ok(address) = arguments.letters(0).parse::<IpAddr>() else {
        return Ok(Value::Bool(false));
    };
    let mut is_inside = false;
    for network in arguments.list(1) {
        let Value::Text(network) = network else { continue };
        let network = super::letters(network);
        let parsed = network
            .split_once('/')
            .and_then(|(base, length)| Some((base.parse::<IpAddr>().ok()?, length.parse::<u32>().ok()?)));
        let (base, length) = parsed.ok_or(Fault::invalid("a network is written 10.0.0.0/8"))?;
        is_inside |= shares_prefix(address.to_canonical(), base.to_canonical(), length)?;
    }
    Ok(Value::Bool(is_inside))
}

fn shares_prefix(address: IpAddr, base: IpAddr, length: u32) -> Result<bool, Fault> {
    let (left, right, bits) = match (address, base) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(u32::from(a)), u128::from(u32::from(b)), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (u128::from(a), u128::from(b), 128),
        _ => return Ok(false),
    };
    if length > bits {
        return Err(Fault::invalid("the prefix of a network is longer than its address"));
    }
    Ok((left ^ right).checked_shr(bits - length).unwrap_or(0) == 0)
}

fn is_valid_luhn<'v>(arguments: &mut Arguments<'v>) -> Result<Value<'v>, Fault> {
    let Some(text) = arguments.optional_text(0) else {
        return Err(Fault::Nil);
    };
    let mut sum = 0_u64;
    let digits = text.iter().rev().filter(|byte| **byte != b' ');
    let mut count = 0;
    for (index, byte) in digits.enumerate() {
        let digit = char::from(*byte).to_digit(10).ok_or(Fault::invalid("expected digits and spaces"))?;
        let doubled = if index % 2 == 1 { digit * 2 } else { digit };
        sum += u64::from(doubled / 10 + doubled % 10);
        count += 1;
    }
    Ok(Value::Bool(count > 0 && sum.is_multiple_of(10)))
}
