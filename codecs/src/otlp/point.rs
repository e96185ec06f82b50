//! Checks of the data points that metrics are made of (opentelemetry-proto, metrics/v1), each at every depth.
//!
//! Nothing is kept of them but their number: what a point says is read where it lies, by whoever asks. The shapes that
//! every SDK writes are recognised first, by the first byte of each field, as in a span.

use super::message::{check_attributes, read_id, split_short, take_plain_attribute, take_plain_attributes};
use crate::wire::{Fault, Malformed, Reader, Tag, WireType};

/// Checks a NumberDataPoint.
pub(super) fn check_number_point(mut reader: Reader<'_>) -> Result<(), Malformed> {
    loop {
        reader.continue_with(take_plain_fields(reader.rest(), take_plain_number_field));
        let Some(tag) = reader.tag()? else {
            return Ok(());
        };
        match tag.number {
            2 => reader.check_field(tag, "start_time_unix_nano", WireType::Fixed64)?,
            3 => reader.check_field(tag, "time_unix_nano", WireType::Fixed64)?,
            4 => reader.check_field(tag, "as_double", WireType::Fixed64)?,
            5 => check_exemplar_field(&mut reader, tag)?,
            6 => reader.check_field(tag, "as_int", WireType::Fixed64)?,
            7 => check_attributes(&mut reader, tag)?,
            8 => reader.check_field(tag, "flags", WireType::Varint)?,
            _ => reader.skip(tag)?,
        }
    }
}

/// Steps over one field of a NumberDataPoint in plain shape, which goes on with `field` after its first tag byte.
#[inline(always)]
fn take_plain_number_field(tag: u8, field: &[u8]) -> Option<&[u8]> {
    const ATTRIBUTES: u8 = 7 << 3 | LENGTH;
    match tag {
        // Start, time, as_double, as_int.
        0x11 | 0x19 | 0x21 | 0x31 => field.get(8..),
        ATTRIBUTES => take_plain_attribute(field).map(|rest| take_plain_attributes(rest, ATTRIBUTES)),
        _ => None,
    }
}

/// Steps over fields as long as `take` knows them.
#[inline(always)]
fn take_plain_fields(mut rest: &[u8], take: impl Fn(u8, &[u8]) -> Option<&[u8]>) -> &[u8] {
    while let [tag, field @ ..] = rest
        && let Some(after) = take(*tag, field)
    {
        rest = after;
    }
    rest
}

/// Wire type of a length-delimited field.
const LENGTH: u8 = 2;

/// Checks a HistogramDataPoint.
pub(super) fn check_histogram_point(mut reader: Reader<'_>) -> Result<(), Malformed> {
    loop {
        reader.continue_with(take_plain_fields(reader.rest(), take_plain_histogram_field));
        let Some(tag) = reader.tag()? else {
            return Ok(());
        };
        match tag.number {
            2 => reader.check_field(tag, "start_time_unix_nano", WireType::Fixed64)?,
            3 => reader.check_field(tag, "time_unix_nano", WireType::Fixed64)?,
            4 => reader.check_field(tag, "count", WireType::Fixed64)?,
            5 => reader.check_field(tag, "sum", WireType::Fixed64)?,
            6 => check_fixed64s(&mut reader, tag, "bucket_counts")?,
            7 => check_fixed64s(&mut reader, tag, "explicit_bounds")?,
            8 => check_exemplar_field(&mut reader, tag)?,
            9 => check_attributes(&mut reader, tag)?,
            10 => reader.check_field(tag, "flags", WireType::Varint)?,
            11 => reader.check_field(tag, "min", WireType::Fixed64)?,
            12 => reader.check_field(tag, "max", WireType::Fixed64)?,
            _ => reader.skip(tag)?,
        }
    }
}

/// Steps over one field of a HistogramDataPoint in plain shape: up to fifteen buckets, packed.
#[inline(always)]
fn take_plain_histogram_field(tag: u8, field: &[u8]) -> Option<&[u8]> {
    const ATTRIBUTES: u8 = 9 << 3 | LENGTH;
    const BUCKET_COUNTS: u8 = 6 << 3 | LENGTH;
    const EXPLICIT_BOUNDS: u8 = 7 << 3 | LENGTH;
    match tag {
        // Start, time, count, sum, min, max.
        0x11 | 0x19 | 0x21 | 0x29 | 0x59 | 0x61 => field.get(8..),
        BUCKET_COUNTS | EXPLICIT_BOUNDS => {
            split_short(field).and_then(|(numbers, rest)| numbers.len().is_multiple_of(8).then_some(rest))
        }
        ATTRIBUTES => take_plain_attribute(field).map(|rest| take_plain_attributes(rest, ATTRIBUTES)),
        _ => None,
    }
}

/// Checks an ExponentialHistogramDataPoint.
pub(super) fn check_exponential_point(mut reader: Reader<'_>) -> Result<(), Malformed> {
    while let Some(tag) = reader.tag()? {
        match tag.number {
            1 => check_attributes(&mut reader, tag)?,
            2 => reader.check_field(tag, "start_time_unix_nano", WireType::Fixed64)?,
            3 => reader.check_field(tag, "time_unix_nano", WireType::Fixed64)?,
            4 => reader.check_field(tag, "count", WireType::Fixed64)?,
            5 => reader.check_field(tag, "sum", WireType::Fixed64)?,
            6 => reader.check_field(tag, "scale", WireType::Varint)?,
            7 => reader.check_field(tag, "zero_count", WireType::Fixed64)?,
            8 => check_buckets(&mut reader, tag, "positive")?,
            9 => check_buckets(&mut reader, tag, "negative")?,
            10 => reader.check_field(tag, "flags", WireType::Varint)?,
            11 => check_exemplar_field(&mut reader, tag)?,
            12 => reader.check_field(tag, "min", WireType::Fixed64)?,
            13 => reader.check_field(tag, "max", WireType::Fixed64)?,
            14 => reader.check_field(tag, "zero_threshold", WireType::Fixed64)?,
            _ => reader.skip(tag)?,
        }
    }
    Ok(())
}

/// Checks a SummaryDataPoint.
pub(super) fn check_summary_point(mut reader: Reader<'_>) -> Result<(), Malformed> {
    while let Some(tag) = reader.tag()? {
        match tag.number {
            2 => reader.check_field(tag, "start_time_unix_nano", WireType::Fixed64)?,
            3 => reader.check_field(tag, "time_unix_nano", WireType::Fixed64)?,
            4 => reader.check_field(tag, "count", WireType::Fixed64)?,
            5 => reader.check_field(tag, "sum", WireType::Fixed64)?,
            6 => {
                let range = reader.length_field(tag, "quantile_values")?;
                check_quantile(reader.nested("value at quantile", range))?;
            }
            7 => check_attributes(&mut reader, tag)?,
            8 => reader.check_field(tag, "flags", WireType::Varint)?,
            _ => reader.skip(tag)?,
        }
    }
    Ok(())
}

fn check_quantile(mut reader: Reader<'_>) -> Result<(), Malformed> {
    while let Some(tag) = reader.tag()? {
        match tag.number {
            1 => reader.check_field(tag, "quantile", WireType::Fixed64)?,
            2 => reader.check_field(tag, "value", WireType::Fixed64)?,
            _ => reader.skip(tag)?,
        }
    }
    Ok(())
}

fn check_buckets(reader: &mut Reader<'_>, tag: Tag, field: &'static str) -> Result<(), Malformed> {
    let range = reader.length_field(tag, field)?;
    let mut reader = reader.nested("buckets", range);
    while let Some(tag) = reader.tag()? {
        match tag.number {
            1 => reader.check_field(tag, "offset", WireType::Varint)?,
            2 if tag.wire_type == WireType::Length => {
                let range = reader.length_delimited()?;
                let mut counts = reader.nested("bucket counts", range.clone());
                while counts.position() < range.end {
                    counts.varint()?;
                }
            }
            2 => reader.check_field(tag, "bucket_counts", WireType::Varint)?,
            _ => reader.skip(tag)?,
        }
    }
    Ok(())
}

/// A repeated field of eight bytes each: packed, as every SDK writes it, or one by one, as protobuf allows.
fn check_fixed64s(reader: &mut Reader<'_>, tag: Tag, field: &'static str) -> Result<(), Malformed> {
    if tag.wire_type != WireType::Length {
        return reader.check_field(tag, field, WireType::Fixed64);
    }
    let range = reader.length_delimited()?;
    if range.len().is_multiple_of(8) { Ok(()) } else { Err(reader.fault_at(tag.offset, Fault::Truncated)) }
}

fn check_exemplar_field(reader: &mut Reader<'_>, tag: Tag) -> Result<(), Malformed> {
    let range = reader.length_field(tag, "exemplars")?;
    let mut reader = reader.nested("exemplar", range);
    while let Some(tag) = reader.tag()? {
        match tag.number {
            2 => reader.check_field(tag, "time_unix_nano", WireType::Fixed64)?,
            3 => reader.check_field(tag, "as_double", WireType::Fixed64)?,
            4 => drop(read_id::<8>(&mut reader, tag, "span_id")?),
            5 => drop(read_id::<16>(&mut reader, tag, "trace_id")?),
            6 => reader.check_field(tag, "as_int", WireType::Fixed64)?,
            7 => check_attributes(&mut reader, tag)?,
            _ => reader.skip(tag)?,
        }
    }
    Ok(())
}
