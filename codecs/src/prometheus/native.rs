//! An exponential histogram's buckets as those of a native histogram.
//!
//! OpenTelemetry lists every bucket from an offset on; Prometheus lists runs ("spans") of buckets and the difference of
//! each count to the one before. Both have bucket borders at powers of the same base; Prometheus numbers a bucket by its
//! upper border, OpenTelemetry by its lower one, hence the 1 between them. A scale above 8 is merged down to 8.

use super::counts::DropReason;
use super::point::{Lists, Point};
use super::request::STALE;
use crate::wire::{WireType, write_length_field, write_length_prefix, write_tag, write_varint, write_varint_field};

/// The finest and coarsest schema of Prometheus (prompb/types.proto).
pub(super) const SCHEMA_MAX: i32 = 8;
pub(super) const SCHEMA_MIN: i32 = -4;
/// More empty buckets in a row than this start a new span: a span costs about as much as two empty buckets.
const GAP_MAX: i64 = 2;
/// Width of the zero bucket if the point says nothing, as the Collector has it.
const ZERO_THRESHOLD_DEFAULT: f64 = 1e-128;

/// A run of buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    /// Empty buckets since the span before, or the first bucket's number.
    offset: i32,
    length: u32,
}

/// Buckets of one sign, used again for each point.
#[derive(Clone, Debug, Default)]
struct Layout {
    spans: Vec<Span>,
    deltas: Vec<i64>,
}

/// Writes native histograms.
#[derive(Clone, Debug, Default)]
pub(super) struct NativeWriter {
    positive: Layout,
    negative: Layout,
    scratch: Vec<u8>,
    message: Vec<u8>,
}

impl NativeWriter {
    /// Appends a Histogram message without its timestamps, which is the same in both protocols.
    ///
    /// # Errors
    /// A scale below -4, bucket numbers beyond 32 bits, or counts that do not sum up: Prometheus would refuse the whole
    /// request for them.
    pub(super) fn write(&mut self, point: &Point, lists: &Lists, out: &mut Vec<u8>) -> Result<(), DropReason> {
        if point.scale < SCHEMA_MIN {
            return Err(DropReason::Scale);
        }
        let schema = point.scale.min(SCHEMA_MAX);
        if point.has_no_value {
            write_varint_field(out, 1, 0);
            write_double(out, 3, STALE);
            write_varint_field(out, 4, zigzag(i64::from(schema)));
            return Ok(());
        }
        let merge_bits = (point.scale - schema).unsigned_abs().min(63);
        let positive = self.positive.lay_out(point.positive_offset, &lists.counts, merge_bits);
        let negative = self.negative.lay_out(point.negative_offset, &lists.negative, merge_bits);
        let (Some(positive), Some(negative)) = (positive, negative) else {
            return Err(DropReason::Buckets);
        };
        let in_buckets = u128::from(positive) + u128::from(negative) + u128::from(point.zero_count);
        // Observations that are not a number are in no bucket, and make the sum not a number.
        let has_nan = point.sum.is_some_and(f64::is_nan);
        let fits = if has_nan { in_buckets <= point.count.into() } else { in_buckets == point.count.into() };
        let threshold = if point.zero_threshold == 0.0 { ZERO_THRESHOLD_DEFAULT } else { point.zero_threshold };
        if !fits || !(0.0..f64::INFINITY).contains(&threshold) {
            return Err(DropReason::Buckets);
        }
        write_varint_field(out, 1, point.count);
        write_double(out, 3, point.sum.unwrap_or_default());
        write_varint_field(out, 4, zigzag(i64::from(schema)));
        write_double(out, 5, threshold);
        write_varint_field(out, 6, point.zero_count);
        self.negative.write(8, &mut self.scratch, &mut self.message, out);
        self.positive.write(11, &mut self.scratch, &mut self.message, out);
        Ok(())
    }
}

impl Layout {
    /// Fills spans and deltas from buckets of which 2^`merge_bits` neighbours become one; empty ones at both ends are left
    /// out. Returns the sum of counts, or `None` if a number leaves its range.
    fn lay_out(&mut self, offset: i32, counts: &[u64], merge_bits: u32) -> Option<u64> {
        self.spans.clear();
        self.deltas.clear();
        let (mut total, mut last, mut next) = (0_u64, 0_i64, 0_i64);
        let mut buckets = counts
            .iter()
            .enumerate()
            .map(|(at, count)| ((i64::from(offset) + at as i64) >> merge_bits, *count))
            .peekable();
        while let Some((number, mut count)) = buckets.next() {
            while let Some((_, more)) = buckets.next_if(|(other, _)| *other == number) {
                count = count.checked_add(more)?;
            }
            if count == 0 {
                continue;
            }
            total = total.checked_add(count)?;
            let (number, count) = (number + 1, i64::try_from(count).ok()?);
            match self.spans.last_mut() {
                Some(span) if number - next <= GAP_MAX => {
                    let gap = number - next;
                    span.length += gap as u32 + 1;
                    for _ in 0..gap {
                        self.deltas.push(-last);
                        last = 0;
                    }
                }
                Some(_) => self.spans.push(Span { offset: i32::try_from(number - next).ok()?, length: 1 }),
                None => self.spans.push(Span { offset: i32::try_from(number).ok()?, length: 1 }),
            }
            self.deltas.push(count - last);
            (last, next) = (count, number + 1);
        }
        Some(total)
    }

    /// Appends the spans as fields `number` and the deltas as field `number + 1`.
    fn write(&self, number: u32, scratch: &mut Vec<u8>, message: &mut Vec<u8>, out: &mut Vec<u8>) {
        for span in &self.spans {
            message.clear();
            write_varint_field(message, 1, zigzag(i64::from(span.offset)));
            write_varint_field(message, 2, u64::from(span.length));
            write_length_field(out, number, message);
        }
        if !self.deltas.is_empty() {
            scratch.clear();
            self.deltas.iter().for_each(|delta| write_varint(scratch, zigzag(*delta)));
            write_length_prefix(out, number + 1, scratch.len());
            out.extend_from_slice(scratch);
        }
    }
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Appends a whole double field.
pub(super) fn write_double(out: &mut Vec<u8>, number: u32, value: f64) {
    write_tag(out, number, WireType::Fixed64);
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(offset: i32, counts: &[u64], merge_bits: u32, spans: &[(i32, u32)], deltas: &[i64]) {
        let mut layout = Layout::default();
        let total = layout.lay_out(offset, counts, merge_bits);
        assert_eq!(total, Some(counts.iter().sum()));
        let found: Vec<_> = layout.spans.iter().map(|span| (span.offset, span.length)).collect();
        assert_eq!((found.as_slice(), layout.deltas.as_slice()), (spans, deltas), "{offset} {counts:?} {merge_bits}");
    }

    #[test]
    fn buckets_become_spans_and_deltas() {
        check(0, &[], 0, &[], &[]);
        check(0, &[4, 3, 2, 1], 0, &[(1, 4)], &[4, -1, -1, -1]);
        check(-5, &[1, 0, 0, 2], 0, &[(-4, 4)], &[1, -1, 0, 2]);
        check(0, &[4, 0, 0, 0, 1], 0, &[(1, 1), (3, 1)], &[4, -3]);
        check(0, &[0, 0, 5, 0, 0], 0, &[(3, 1)], &[5]);
        check(0, &[0, 0], 0, &[], &[]);
    }

    #[test]
    fn finer_buckets_are_merged() {
        check(0, &[1, 2, 3, 4], 1, &[(1, 2)], &[3, 4]);
        check(-1, &[1, 2, 3, 4], 1, &[(0, 3)], &[1, 4, -1]);
        check(0, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 1], 2, &[(1, 3)], &[1, -1, 1]);
        check(-3, &[1, 1], 63, &[(0, 1)], &[2]);
    }

    #[test]
    fn bucket_numbers_beyond_32_bits_are_refused() {
        let mut layout = Layout::default();
        assert_eq!(layout.lay_out(i32::MAX, &[1], 0), None);
        assert_eq!(layout.lay_out(0, &[u64::MAX, 1], 0), None);
        assert_eq!(layout.lay_out(i32::MIN, &[1], 0), Some(1));
    }
}
