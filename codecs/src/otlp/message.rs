//! Checks of the messages that spans, scopes and resources are made of (opentelemetry-proto common/v1, resource/v1).
//!
//! Each function proves one message at every depth and keeps nothing: known fields have the wire type of the `.proto`
//! files, lengths stay inside, ids have their size. Strings are not looked at: invalid UTF-8 passes. Unknown fields are
//! stepped over. The plain shapes that make up nearly all traffic are recognised first, see [`is_plain_key_value`].

use crate::wire::{Fault, Malformed, Reader, Tag, WireType};

/// How deep arrays and maps in attribute values may nest. Peers build them with recursion limits of 100 messages; an
/// attribute level takes two or three.
pub const VALUE_DEPTH_MAX: u32 = 64;

/// Steps over attributes in the plain shape, each behind `tag`, as long as they follow each other, and returns what is
/// behind them.
#[inline(always)]
pub(super) fn take_plain_attributes(mut rest: &[u8], tag: u8) -> &[u8] {
    while let [first, field @ ..] = rest
        && *first == tag
        && let Some(after) = take_plain_attribute(field)
    {
        rest = after;
    }
    rest
}

/// Steps over one attribute in the plain shape, whose length and body begin `field`; `None`: it may have another one.
#[inline(always)]
pub(super) fn take_plain_attribute(field: &[u8]) -> Option<&[u8]> {
    let (body, rest) = split_short(field)?;
    is_plain_key_value(body).then_some(rest)
}

/// The body and the rest of a length-delimited field whose length takes one byte.
#[inline(always)]
pub(super) fn split_short(field: &[u8]) -> Option<(&[u8], &[u8])> {
    let [length, after @ ..] = field else {
        return None;
    };
    if *length < 0x80 { after.split_at_checked(usize::from(*length)) } else { None }
}

/// Whether `body` is a KeyValue in the shape that every SDK writes: key, then value, each once, all lengths below 128
/// (one byte), the value a string, a bool, an integer, a double or empty.
///
/// `false` says nothing about the bytes: the caller then takes [`check_key_value`]. The bounds make themselves: in a
/// body shorter than 128 bytes no inner length of 128 or more can fit.
#[inline(always)]
pub(super) fn is_plain_key_value(body: &[u8]) -> bool {
    debug_assert!(body.len() < 0x80, "one-byte lengths only");
    let [0x0a, key_length, after_key_length @ ..] = body else {
        return false;
    };
    let Some(value_field) = after_key_length.get(usize::from(*key_length)..) else {
        return false;
    };
    // Most values are text, which four bytes at once prove: tag and length of the value, tag and length of its text.
    let length = value_field.len() as u8;
    if value_field.first_chunk() == Some(&[0x12, length.wrapping_sub(2), 0x0a, length.wrapping_sub(4)]) {
        return true;
    }
    let [0x12, value_length, value @ ..] = value_field else {
        return false;
    };
    value.len() == usize::from(*value_length) && is_plain_value(value)
}

/// Whether `value`, shorter than 128 bytes, is an AnyValue as described at [`is_plain_key_value`].
#[inline(always)]
fn is_plain_value(value: &[u8]) -> bool {
    match value {
        [0x0a, length, text @ ..] => text.len() == usize::from(*length),
        [0x10, number] => *number < 0x80,
        [0x18, number @ ..] => is_short_varint(number),
        [0x21, double @ ..] => double.len() == 8,
        [] => true,
        _ => false,
    }
}

/// Steps over an AnyValue whose length and body begin `field`, if it is plain: as in an attribute, or a text of up to
/// 16 KiB, as bodies of log records are. `None`: it may have another shape.
#[inline(always)]
pub(super) fn take_plain_body(field: &[u8]) -> Option<&[u8]> {
    if let Some((value, rest)) = split_short(field) {
        return is_plain_value(value).then_some(rest);
    }
    let (value, rest) = split_long(field)?;
    let [0x0a, text @ ..] = value else {
        return None;
    };
    let (_, behind) = split_short(text).or_else(|| split_long(text))?;
    behind.is_empty().then_some(rest)
}

/// The body and the rest of a length-delimited field whose length takes two bytes.
#[inline(always)]
fn split_long(field: &[u8]) -> Option<(&[u8], &[u8])> {
    match field {
        [low @ 0x80..=0xff, high @ 0..0x80, after @ ..] => {
            after.split_at_checked(usize::from(*low & 0x7f) | usize::from(*high) << 7)
        }
        _ => None,
    }
}

/// Whether `bytes` are one varint of at most 63 bits: more need a look at the last one.
#[inline(always)]
fn is_short_varint(bytes: &[u8]) -> bool {
    match bytes.split_last() {
        Some((last, before)) => *last < 0x80 && before.len() < 9 && before.iter().all(|byte| *byte >= 0x80),
        None => false,
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

/// As [`check_attribute`], and steps over those that follow it as long as they are plain.
pub(super) fn check_attributes(reader: &mut Reader<'_>, tag: Tag) -> Result<(), Malformed> {
    debug_assert!(tag.number < 16, "its tag is one byte");
    check_attribute(reader, tag)?;
    reader.continue_with(take_plain_attributes(reader.rest(), (tag.number << 3 | 2) as u8));
    Ok(())
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
            1 => check_attributes(&mut reader, tag)?,
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
            3 => check_attributes(&mut reader, tag)?,
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
            3 => check_attributes(&mut reader, tag)?,
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
            4 => check_attributes(&mut reader, tag)?,
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{write_length_field, write_varint_field};

    fn key_value(key: usize, value: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        write_length_field(&mut body, 1, &vec![b'k'; key]);
        write_length_field(&mut body, 2, value);
        body
    }

    fn text(length: usize) -> Vec<u8> {
        let mut value = Vec::new();
        write_length_field(&mut value, 1, &vec![b'x'; length]);
        value
    }

    fn number(number: u64) -> Vec<u8> {
        let mut value = Vec::new();
        write_varint_field(&mut value, 3, number);
        value
    }

    #[test]
    fn texts_and_numbers_of_usual_sizes_are_plain() {
        assert!((0..110).all(|length| is_plain_key_value(&key_value(9, &text(length)))));
        assert!((0..63).all(|bit| is_plain_key_value(&key_value(9, &number(1 << bit)))));
        assert!(!is_plain_key_value(&key_value(9, &number(u64::MAX))));
        let is_plain_body = |length| {
            let mut field = Vec::new();
            write_length_field(&mut field, 5, &text(length));
            take_plain_body(&field[1..]).is_some_and(<[u8]>::is_empty)
        };
        assert!([0, 125, 126, 127, 128, 300, 16_380].into_iter().all(is_plain_body));
        assert!(!is_plain_body(16_384));
    }

    proptest! {
        /// Bytes close to a plain attribute: some are replaced, most of them lengths and tags.
        #[test]
        fn what_looks_plain_is_well_formed(
            key in 0..6usize,
            value in prop_oneof![(0..100usize).prop_map(text), any::<u64>().prop_map(number), (0..300u64).prop_map(number)],
            changes in prop::collection::vec((0..20usize, prop_oneof![any::<u8>(), 0..20u8]), 0..3),
        ) {
            let mut body = key_value(key, &value);
            for (at, byte) in changes {
                if let Some(place) = body.get_mut(at) {
                    *place = byte;
                }
            }
            if is_plain_key_value(&body) {
                prop_assert_eq!(check_key_value(Reader::new("attribute", &body), 0), Ok(()));
            }
        }

        /// The same for bodies of log records, with what follows them.
        #[test]
        fn a_body_that_looks_plain_is_well_formed(
            value in prop_oneof![(0..140usize).prop_map(text), (16_300..16_500usize).prop_map(text), any::<u64>().prop_map(number)],
            changes in prop::collection::vec((0..20usize, prop_oneof![any::<u8>(), 0..20u8]), 0..3),
        ) {
            let mut field = Vec::new();
            write_length_field(&mut field, 5, &value);
            field.extend_from_slice(b"behind");
            for (at, byte) in changes {
                if let Some(place) = field.get_mut(at + 1) {
                    *place = byte;
                }
            }
            if let Some(rest) = take_plain_body(&field[1..]) {
                let mut reader = Reader::new("record", &field);
                let tag = reader.tag().unwrap().unwrap();
                let range = reader.length_field(tag, "body").unwrap();
                prop_assert_eq!(reader.rest(), rest);
                prop_assert_eq!(check_any_value(reader.nested("body", range), 0), Ok(()));
            }
        }
    }
}
