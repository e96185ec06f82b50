//! Protobuf -> JSON, by the same table.
//!
//! A list has to stand together in JSON and need not in protobuf, so each field of the table looks through its message
//! for itself. That is plain and correct, and fast enough for an exporter.

use std::borrow::Cow;
use std::io::Write;

use super::schema::{Field, Kind, Message};
use crate::grpc::base64;
use crate::otlp::VALUE_DEPTH_MAX;
use crate::wire::{Fault, Malformed, Reader, Tag, WireType};

/// Appends `protobuf`, which is a `message`, as JSON.
pub(super) fn write(message: &'static Message, protobuf: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    object(message, Reader::new(message.name, protobuf), 0, out)
}

/// One message. `depth` counts lists and maps around it inside an attribute value.
fn object(message: &'static Message, mut reader: Reader<'_>, depth: u32, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let depth = depth + u32::from(message.deepens);
    // The index bounds the values inside a list, so one more list without any is well-formed.
    if depth > VALUE_DEPTH_MAX + 1 {
        return Err(reader.fault_at(reader.position(), Fault::TooDeep(VALUE_DEPTH_MAX)));
    }
    out.push(b'{');
    if message.is_one_of {
        let mut last: Option<(&Field, Found<'_>)> = None;
        while let Some(tag) = reader.tag()? {
            if let Some(field) = message.fields.iter().find(|field| field.number == tag.number) {
                let before = last.take().filter(|(same, _)| same.number == field.number).map(|(_, found)| found);
                last = Some((field, find(field, &reader, tag, before)?));
            }
            reader.skip(tag)?;
        }
        if let Some((field, found)) = last {
            name(field, out);
            value(field, found, depth, out)?;
        }
    } else {
        for field in message.fields {
            match field.kind {
                Kind::Many(element) => list(field, element, reader.clone(), depth, out)?,
                Kind::Fixed64s | Kind::Uint64s | Kind::Doubles => numbers(field, reader.clone(), out)?,
                _ => last_of(field, reader.clone(), depth, out)?,
            }
        }
    }
    out.push(b'}');
    Ok(())
}

/// The elements of a repeated field, wherever they stand in the message; nothing if there is none.
fn list(
    field: &Field,
    element: &'static Message,
    mut reader: Reader<'_>,
    depth: u32,
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    let mut is_open = false;
    while let Some(tag) = reader.tag()? {
        if tag.number != field.number {
            reader.skip(tag)?;
            continue;
        }
        let range = reader.length_field(tag, field.original)?;
        if is_open {
            out.push(b',');
        } else {
            name(field, out);
            out.push(b'[');
            is_open = true;
        }
        object(element, reader.nested(element.name, range), depth, out)?;
    }
    if is_open {
        out.push(b']');
    }
    Ok(())
}

/// The numbers of a repeated field, packed or not, wherever they stand in the message; nothing if there is none.
fn numbers(field: &'static Field, mut reader: Reader<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut is_open = false;
    let mut write = |bits: u64, out: &mut Vec<u8>| {
        if is_open {
            out.push(b',');
        } else {
            name(field, out);
            out.push(b'[');
            is_open = true;
        }
        match field.kind {
            Kind::Doubles => double(f64::from_bits(bits), out),
            _ => write_to(out, format_args!("\"{bits}\"")),
        }
    };
    let one = |reader: &mut Reader<'_>| match field.kind {
        Kind::Uint64s => reader.varint(),
        _ => reader.fixed64(),
    };
    while let Some(tag) = reader.tag()? {
        if tag.number != field.number {
            reader.skip(tag)?;
        } else if tag.wire_type == WireType::Length {
            let range = reader.length_delimited()?;
            let mut packed = reader.nested(field.original, range.clone());
            while packed.position() < range.end {
                write(one(&mut packed)?, out);
            }
        } else {
            let expected = if matches!(field.kind, Kind::Uint64s) { WireType::Varint } else { WireType::Fixed64 };
            reader.clone().check_field(tag, field.original, expected)?;
            write(one(&mut reader)?, out);
        }
    }
    if is_open {
        out.push(b']');
    }
    Ok(())
}

/// Any other field; nothing if it does not occur.
fn last_of(field: &'static Field, mut reader: Reader<'_>, depth: u32, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut found = None;
    while let Some(tag) = reader.tag()? {
        if tag.number == field.number {
            found = Some(find(field, &reader, tag, found)?);
        }
        reader.skip(tag)?;
    }
    if let Some(found) = found {
        name(field, out);
        value(field, found, depth, out)?;
    }
    Ok(())
}

/// What a message says of a field.
enum Found<'a> {
    /// Of a scalar the last occurrence counts; the reader stands behind its tag.
    Scalar(Reader<'a>, Tag),
    /// Parts of a message are one message.
    Message(Cow<'a, [u8]>),
}

fn find<'a>(field: &Field, reader: &Reader<'a>, tag: Tag, before: Option<Found<'a>>) -> Result<Found<'a>, Malformed> {
    let Kind::One(_) = field.kind else {
        return Ok(Found::Scalar(reader.clone(), tag));
    };
    let range = reader.clone().length_field(tag, field.original)?;
    let body = reader.slice(range);
    Ok(Found::Message(match before {
        Some(Found::Message(mut whole)) => {
            whole.to_mut().extend_from_slice(body);
            whole
        }
        _ => Cow::Borrowed(body),
    }))
}

fn name(field: &Field, out: &mut Vec<u8>) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    write_to(out, format_args!("\"{}\":", field.name()));
}

fn value(field: &'static Field, found: Found<'_>, depth: u32, out: &mut Vec<u8>) -> Result<(), Malformed> {
    match (found, field.kind) {
        (Found::Scalar(reader, tag), _) => scalar(field, reader, tag, out),
        (Found::Message(body), Kind::One(part)) => object(part, Reader::new(part.name, &body), depth, out),
        (Found::Message(_), _) => unreachable!("only a message is found as one"),
    }
}

fn scalar(field: &'static Field, mut reader: Reader<'_>, tag: Tag, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let name = field.original;
    match field.kind {
        Kind::Text => {
            let range = reader.length_field(tag, name)?;
            text(reader.slice(range), out);
        }
        Kind::Bytes => {
            let range = reader.length_field(tag, name)?;
            let encoded = base64::encode(reader.slice(range));
            let padding = (4 - encoded.len() % 4) % 4;
            write_to(out, format_args!("\"{encoded}{}\"", &"=="[..padding]));
        }
        Kind::Id(_) => {
            let range = reader.length_field(tag, name)?;
            out.push(b'"');
            reader.slice(range).iter().for_each(|byte| write_to(out, format_args!("{byte:02x}")));
            out.push(b'"');
        }
        Kind::Bool => write_to(out, format_args!("{}", reader.varint_field(tag, name)? != 0)),
        Kind::Int64 => write_to(out, format_args!("\"{}\"", reader.varint_field(tag, name)? as i64)),
        Kind::Uint32 => write_to(out, format_args!("{}", reader.varint_field(tag, name)? as u32)),
        Kind::Enum(_) => write_to(out, format_args!("{}", reader.varint_field(tag, name)? as i32)),
        Kind::Fixed32 => write_to(out, format_args!("{}", reader.fixed32_field(tag, name)?)),
        Kind::Fixed64 => write_to(out, format_args!("\"{}\"", reader.fixed64_field(tag, name)?)),
        Kind::Double => double(f64::from_bits(reader.fixed64_field(tag, name)?), out),
        Kind::SignedFixed64 => write_to(out, format_args!("\"{}\"", reader.fixed64_field(tag, name)? as i64)),
        Kind::Sint32 => {
            let bits = reader.varint_field(tag, name)? as u32;
            write_to(out, format_args!("{}", (bits >> 1) as i32 ^ -((bits & 1) as i32)));
        }
        Kind::One(_) | Kind::Many(_) | Kind::Fixed64s | Kind::Uint64s | Kind::Doubles => {
            unreachable!("a message or a list is no scalar")
        }
    }
    Ok(())
}

fn double(value: f64, out: &mut Vec<u8>) {
    if value.is_finite() {
        // The shortest digits that read back as the same double.
        write_to(out, format_args!("{value:?}"));
    } else if value.is_nan() {
        out.extend_from_slice(b"\"NaN\"");
    } else {
        out.extend_from_slice(if value > 0.0 { b"\"Infinity\"" } else { b"\"-Infinity\"" });
    }
}

/// `bytes` in quotes, escaped; what is not UTF-8 becomes the replacement character.
pub(super) fn text(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in String::from_utf8_lossy(bytes).bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 => write_to(out, format_args!("\\u{byte:04x}")),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

fn write_to(out: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    out.write_fmt(arguments).expect("memory takes everything");
}
