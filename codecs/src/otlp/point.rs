//! Checks of the data points that metrics are made of (opentelemetry-proto, metrics/v1), each at every depth.
//!
//! Nothing is kept of them but their number: what a point says is read where it lies, by whoever asks.

use super::message::{check_attribute, read_id};
use crate::wire::{Fault, Malformed, Reader, Tag, WireType};

/// Checks a NumberDataPoint.
pub(super) fn check_number_point(mut reader: Reader<'_>) -> Result<(), Malformed> {
    while let Some(tag) = reader.tag()? {
        match tag.number {
            2 => reader.check_field(tag, "start_time_unix_nano", WireType::Fixed64)?,
            3 => reader.check_field(tag, "time_unix_nano", WireType::Fixed64)?,
            4 => reader.check_field(tag, "as_double", WireType::Fixed64)?,
            5 => check_exemplar_field(&mut reader, tag)?,
            6 => reader.check_field(tag, "as_int", WireType::Fixed64)?,
            7 => check_attribute(&mut reader, tag)?,
            8 => reader.check_field(tag, "flags", WireType::Varint)?,
            _ => reader.skip(tag)?,
        }
    }
    Ok(())
}

/// Checks a HistogramDataPoint.
pub(super) fn check_histogram_point(mut reader: Reader<'_>) -> Result<(), Malformed> {
    while let Some(tag) = reader.tag()? {
        match tag.number {
            2 => reader.check_field(tag, "start_time_unix_nano", WireType::Fixed64)?,
            3 => reader.check_field(tag, "time_unix_nano", WireType::Fixed64)?,
            4 => reader.check_field(tag, "count", WireType::Fixed64)?,
            5 => reader.check_field(tag, "sum", WireType::Fixed64)?,
            6 => check_fixed64s(&mut reader, tag, "bucket_counts")?,
            7 => check_fixed64s(&mut reader, tag, "explicit_bounds")?,
            8 => check_exemplar_field(&mut reader, tag)?,
            9 => check_attribute(&mut reader, tag)?,
            10 => reader.check_field(tag, "flags", WireType::Varint)?,
            11 => reader.check_field(tag, "min", WireType::Fixed64)?,
            12 => reader.check_field(tag, "max", WireType::Fixed64)?,
            _ => reader.skip(tag)?,
        }
    }
    Ok(())
}

/// Checks an ExponentialHistogramDataPoint.
pub(super) fn check_exponential_point(mut reader: Reader<'_>) -> Result<(), Malformed> {
    while let Some(tag) = reader.tag()? {
        match tag.number {
            1 => check_attribute(&mut reader, tag)?,
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
            7 => check_attribute(&mut reader, tag)?,
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
            7 => check_attribute(&mut reader, tag)?,
            _ => reader.skip(tag)?,
        }
    }
    Ok(())
}
