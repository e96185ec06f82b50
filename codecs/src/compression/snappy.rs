//! A snappy block, decompressed step by step.
//!
//! ```text
//! length (varint) | element | element | ...      an element: bytes as they are, or a copy of what was written before
//! ```
//!
//! The format has no frames to stop at, and its usual decoder wants all at once. Elements are short or plain copies, so
//! this one stops between any two, and within a literal. Source: snappy's `format_description.txt`.
//!
//! Slower than the usual decoder, so only for bodies that are worth more than one step.

use super::SNAPPY_RATIO_MAX;
use super::steps::{Broken, STEP_BYTES, Step};

/// Elements that a step looks at, at most: some 50 us.
const STEP_ELEMENTS: usize = 8 << 10;

/// A block of which a part has been written.
#[derive(Debug)]
pub(super) struct Block<'a> {
    rest: &'a [u8],
    /// Bytes of the whole plain body, once its head was read.
    announced: Option<usize>,
    /// Bytes of the literal that was begun.
    literal: usize,
}

impl<'a> Block<'a> {
    pub(super) fn begin(body: &'a [u8]) -> Self {
        Block { rest: body, announced: None, literal: 0 }
    }

    /// Whether the block says of itself, before anything was read, that it becomes more than so many bytes.
    pub(super) fn announces_more_than(&self, bytes_max: usize) -> bool {
        self.announced.is_none() && snap::raw::decompress_len(self.rest).is_ok_and(|announced| announced > bytes_max)
    }

    /// Appends the next part of the body to `out`, which holds nothing but what this block gave.
    pub(super) fn step(&mut self, out: &mut Vec<u8>) -> Result<Step, Broken> {
        let announced = match self.announced {
            Some(announced) => announced,
            None => {
                let announced = snap::raw::decompress_len(self.rest).map_err(|_| Broken)?;
                // A few bytes must not get us megabytes.
                if self.rest.is_empty() || announced > self.rest.len().saturating_mul(SNAPPY_RATIO_MAX) {
                    return Err(Broken);
                }
                // The head is a varint.
                while self.byte()? & 0x80 != 0 {}
                out.reserve(announced);
                *self.announced.insert(announced)
            }
        };
        let end = announced.min(out.len() + STEP_BYTES);
        for _ in 0..STEP_ELEMENTS {
            if self.literal > 0 {
                let count = self.literal.min(STEP_BYTES);
                out.extend_from_slice(self.take(count)?);
                self.literal -= count;
            } else if self.rest.is_empty() {
                return if out.len() == announced { Ok(Step::Done) } else { Err(Broken) };
            } else {
                self.element(out)?;
            }
            if out.len() > announced {
                return Err(Broken);
            }
            if out.len() >= end && !self.rest.is_empty() {
                break;
            }
        }
        Ok(Step::More)
    }

    fn element(&mut self, out: &mut Vec<u8>) -> Result<(), Broken> {
        let tag = usize::from(self.byte()?);
        let (length, distance) = match tag & 3 {
            0 => {
                self.literal = match tag >> 2 {
                    short @ 0..60 => short + 1,
                    long => self.number(long - 59)? + 1,
                };
                return Ok(());
            }
            1 => ((tag >> 2 & 7) + 4, (tag >> 5) << 8 | self.number(1)?),
            2 => ((tag >> 2) + 1, self.number(2)?),
            _ => ((tag >> 2) + 1, self.number(4)?),
        };
        if distance == 0 || distance > out.len() {
            return Err(Broken);
        }
        // A copy may repeat what it has just written.
        let start = out.len() - distance;
        let mut left = length;
        while left > 0 {
            let count = left.min(out.len() - start);
            out.extend_from_within(start..start + count);
            left -= count;
        }
        Ok(())
    }

    /// A number of so many bytes, the least first.
    fn number(&mut self, length: usize) -> Result<usize, Broken> {
        let mut bytes = [0; 4];
        bytes[..length].copy_from_slice(self.take(length)?);
        Ok(u32::from_le_bytes(bytes) as usize)
    }

    fn byte(&mut self) -> Result<u8, Broken> {
        let (first, rest) = self.rest.split_first().ok_or(Broken)?;
        self.rest = rest;
        Ok(*first)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Broken> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Broken)?;
        self.rest = rest;
        Ok(taken)
    }
}
