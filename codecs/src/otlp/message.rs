//! Checks of the messages that spans, scopes and resources are made of (opentelemetry-proto common/v1, resource/v1).
//!
//! Each function proves one message at every depth and keeps nothing: known fields have the wire type of the `.proto`
//! files, lengths stay inside, ids have their size. Strings are not looked at: invalid UTF-8 passes. Unknown fields are
//! stepped over. The plain shapes that make up nearly all traffic are recognised first, see [`is_plain_key_value`].

use crate::wire::{Fault, Malformed, Reader, Tag, WireType};

/// How deep arrays and maps in attribute values may nest. Peers build them with recursion limits of 100 messages; an
/// attribute level takes two or three.
pub const VALUE_DEPTH_MAX: u32 = 64;

/// Whether `body` is a KeyValue in the shape that every SDK writes: key, then value, each once, all lengths below 128
/// (one byte), the value a string, a bool, a small integer, a double or empty.
///
/// `false` says nothing about the bytes: the caller then takes [`check_key_value`]. The bounds make themselves: in a
/// body shorter than 128 bytes no inner length of 128 or more can fit.
#[inline(always)]
pub(super) fn is_plain_key_value(body: &[u8]) -> bool {
    debug_assert!(body.len() < 0x80, "one-byte lengths only");
    let [0x0a, key_length, after_key_length @ ..] = body else {
        return false;
    };
    let Some([0x12, value_length, value @ ..]) = after_key_length.get(usize::from(*key_length)..) else {
        return false;
    };
    if value.len() != usize::from(*value_length) {
        return false;
    }
    match value {
        [0x0a, length, text @ ..] => text.len() == usize::from(*length),
        [0x10 | 0x18, number] => *number < 0x80,
        [0x18, low, high] => *low >= 0x80 && *high < 0x80,
        [0x21, double @ ..] => double.len() == 8,
        [] => true,
        _ => false,
    }
}

/// Checks the field `attributes` whose tag was just read.
pub(super) fn check_attribute(reader: &mut Reader<'_>, tag: Tag) -> Result<(), Malformed> {
    let range = reader.length_field(tag, "attributes")?;
    if range.len() < 0x80 && is_plain_key_value(reader.slice(range.clone())) {
        return Ok(());
    }
    check_key_value(reader.nested("attribute", range), 0)
}

/// Checks a KeyValue whose value lies `depth` arrays or maps deep.
fn check_key_value(mut reader: Reader<'_>, depth: u32) -> Result<(), Malformed> {
    while let Some(tag) = reader.tag()? {
        match tag.number {
            1 => reader.check_field(tag, "key", WireType::Length)?,
            2 => {
                let range = reader.length_field(tag, "value")?;
                check_any_value(reader.nested("attribute value", range), depth)?;
            }
            _ => reader.skip(tag)?,
        }
    }
    Ok(())
}

/// Checks an AnyValue that lies `depth` arrays or maps deep.
pub(super) fn check_any_value(mut reader: Reader<'_>, depth: u32) -> Result<(), Malformed> {
    if depth > VALUE_DEPTH_MAX {
        return Err(reader.fault_at(reader.position(), Fault::TooDeep(VALUE_DEPTH_MAX)));
    }
    while let Some(tag) = reader.tag()? {
        match tag.number {
            1 => reader.check_field(tag, "string_value", WireType::Length)?,
            2 => reader.check_field(tag, "bool_value", WireType::Varint)?,
            3 => reader.check_field(tag, "int_value", WireType::Varint)?,
            4 => reader.check_field(tag, "double_value", WireType::Fixed64)?,
            5 => {
                let range = reader.length_field(tag, "array_value")?;
                check_array(reader.nested("array value", range), depth + 1)?;
            }
            6 => {
                let range = reader.length_field(tag, "kvlist_value")?;
                check_map(reader.nested("kvlist value", range), depth + 1)?;
            }
            7 => reader.check_field(tag, "bytes_value", WireType::Length)?,
            _ => reader.skip(tag)?,
        }
    }
    Ok(())
}

fn check_array(mut reader: Reader<'_>, depth: u32) -> Result<(), Malformed> {
    while let Some(tag) = reader.tag()? {
        match tag.number {
            1 => {
                let range = reader.length_field(tag, "values")?;
                check_any_value(reader.nested("attribute value", range), depth)?;
            }
            _ => reader.skip(tag)?,
        }
    }
    Ok(())
}

fn check_map(mut reader: Reader<'_>, depth: u32) -> Result<(), Malformed> {
    while let Some(tag) = reader.tag()? {
        match tag.number {
            1 => {
                let range = reader.length_field(tag, "values")?;
                check_key_value(reader.nested("attribute", range), depth)?;
            }
            _ => reader.skip(tag)?,
        }
    }
    Ok(())
}

/// Checks a Resource.
pub(super) fn check_resource(mut reader: Reader<'_>) -> Result<(), Malformed> {
    while let Some(tag) = reader.tag()? {
        match tag.number {
            1 => check_attribute(&mut reader, tag)?,
            2 => reader.check_field(tag, "dropped_attributes_count", WireType::Varint)?,
            _ => reader.skip(tag)?,
        }
    }
    Ok(())
}

/// Checks an InstrumentationScope.
pub(super) fn check_scope(mut reader: Reader<'_>) -> Result<(), Malformed> {
    while let Some(tag) = reader.tag()? {
        match tag.number {
            1 => reader.check_field(tag, "name", WireType::Length)?,
            2 => reader.check_field(tag, "version", WireType::Length)?,
            3 => check_attribute(&mut reader, tag)?,
            4 => reader.check_field(tag, "dropped_attributes_count", WireType::Varint)?,
            _ => reader.skip(tag)?,
        }
    }
    Ok(())
}

/// Checks a Span.Event.
pub(super) fn check_event(mut reader: Reader<'_>) -> Result<(), Malformed> {
    while let Some(tag) = reader.tag()? {
        match tag.number {
            1 => reader.check_field(tag, "time_unix_nano", WireType::Fixed64)?,
            2 => reader.check_field(tag, "name", WireType::Length)?,
            3 => check_attribute(&mut reader, tag)?,
            4 => reader.check_field(tag, "dropped_attributes_count", WireType::Varint)?,
            _ => reader.skip(tag)?,
        }
    }
    Ok(())
}

/// Checks a Span.Link.
pub(super) fn check_link(mut reader: Reader<'_>) -> Result<(), Malformed> {
    while let Some(tag) = reader.tag()? {
        match tag.number {
            1 => check_id::<16>(&mut reader, tag, "trace_id")?,
            2 => check_id::<8>(&mut reader, tag, "span_id")?,
            3 => reader.check_field(tag, "trace_state", WireType::Length)?,
            4 => check_attribute(&mut reader, tag)?,
            5 => reader.check_field(tag, "dropped_attributes_count", WireType::Varint)?,
            6 => reader.check_field(tag, "flags", WireType::Fixed32)?,
            _ => reader.skip(tag)?,
        }
    }
    Ok(())
}

fn check_id<const N: usize>(reader: &mut Reader<'_>, tag: Tag, field: &'static str) -> Result<(), Malformed> {
    read_id::<N>(reader, tag, field).map(|_| ())
}

/// An id of `N` bytes; all zero if the field is empty.
///
/// # Errors
/// The field has another length than `N` or 0.
pub(super) fn read_id<const N: usize>(
    reader: &mut Reader<'_>,
    tag: Tag,
    field: &'static str,
) -> Result<[u8; N], Malformed> {
    let range = reader.length_field(tag, field)?;
    match <[u8; N]>::try_from(reader.slice(range.clone())) {
        Ok(id) => Ok(id),
        Err(_) if range.is_empty() => Ok([0; N]),
        Err(_) => {
            let fault = Fault::IdLength { field, length: range.len(), expected: N };
            Err(reader.fault_at(tag.offset, fault))
        }
    }
}
