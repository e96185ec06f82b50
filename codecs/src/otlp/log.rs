//! One log record as the index sees it: where its bytes lie, and the few fields noted while they were checked.
//!
//! Its fields are read as those of a span are, see [`super::span`]: by their first byte if they are plain, else by the book.

use super::index::Index;
use super::item::{FrameNames, Item, Place};
use super::message::{
    check_any_value, check_attributes, read_id, split_short, take_plain_attribute, take_plain_attributes,
    take_plain_body,
};
use super::signal::Signal;
use super::signal_index::SignalIndex;
use super::span::TraceId;
use crate::wire::{Malformed, Reader, WireType};

/// What the index notes about one log record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogItem {
    /// `trace_id`; all zero if absent.
    pub trace_id: TraceId,
    /// Where the LogRecord message starts in its segment (after its tag and length).
    pub offset: u32,
    /// Length of the message in bytes.
    pub length: u32,
    /// Index into [`super::Index::scopes`].
    pub scope: u32,
    /// Which segment of the batch holds the bytes.
    pub segment: u16,
    /// `severity_number`, 1 (trace) to 24 (fatal), 0 if absent; 255 if it does not fit a byte.
    pub severity: u8,
}

const _: () = assert!(size_of::<LogItem>() == 32, "two log items fill a cache line");

impl Item for LogItem {
    const SIGNAL: Signal = Signal::Logs;
    const NAMES: FrameNames = FrameNames {
        resources: "resource_logs",
        resource: "resource logs",
        scopes: "scope_logs",
        scope: "scope logs",
        items: "log_records",
    };

    #[inline]
    fn place(&self) -> Place {
        Place { offset: self.offset, length: self.length, scope: self.scope, segment: self.segment }
    }

    #[inline]
    fn set_place(&mut self, place: Place) {
        let Place { offset, length, scope, segment } = place;
        *self = Self { offset, length, scope, segment, ..*self };
    }

    #[inline]
    fn count(&self) -> u64 {
        1
    }

    #[inline]
    fn read(&mut self, bytes: &[u8], start: usize) -> Result<(), Malformed> {
        let mut rest = &bytes[start..];
        while let [tag, field @ ..] = rest {
            rest = match self.read_plain_field(*tag, field) {
                Some(rest) => rest,
                None => self.read_any_field(bytes, bytes.len() - rest.len())?,
            };
        }
        Ok(())
    }

    fn index_in(index: &SignalIndex) -> Option<&Index<Self>> {
        if let SignalIndex::Logs(index) = index { Some(index) } else { None }
    }

    fn index_in_mut(index: &mut SignalIndex) -> Option<&mut Index<Self>> {
        if let SignalIndex::Logs(index) = index { Some(index) } else { None }
    }
}

impl LogItem {
    /// Takes the field that goes on with `field` after its first tag byte, if it has a plain shape, and returns what is
    /// behind it.
    #[inline(always)]
    fn read_plain_field<'a>(&mut self, tag: u8, field: &'a [u8]) -> Option<&'a [u8]> {
        match tag {
            ATTRIBUTES => take_plain_attribute(field).map(|rest| take_plain_attributes(rest, ATTRIBUTES)),
            TIME | OBSERVED_TIME => field.get(8..),
            SEVERITY => match field {
                [severity @ 0..0x80, rest @ ..] => {
                    self.severity = *severity;
                    Some(rest)
                }
                _ => None,
            },
            SEVERITY_TEXT | EVENT_NAME => split_short(field).map(|(_, rest)| rest),
            BODY => take_plain_body(field),
            FLAGS => field.get(4..),
            TRACE_ID => match field.split_first_chunk::<17>()? {
                ([16, id @ ..], rest) => {
                    self.trace_id = TraceId(*id);
                    Some(rest)
                }
                _ => None,
            },
            SPAN_ID if field.first() == Some(&8) => field.get(9..),
            _ => None,
        }
    }

    /// Reads the field at `position` by the book and returns what is behind it.
    #[inline(never)]
    fn read_any_field<'a>(&mut self, bytes: &'a [u8], position: usize) -> Result<&'a [u8], Malformed> {
        let mut reader = Reader::from("log record", bytes, position);
        let Some(tag) = reader.tag()? else {
            return Ok(&[]);
        };
        match tag.number {
            1 => reader.check_field(tag, "time_unix_nano", WireType::Fixed64)?,
            2 => {
                let severity = reader.varint_field(tag, "severity_number")? as u32;
                self.severity = u8::try_from(severity).unwrap_or(u8::MAX);
            }
            3 => reader.check_field(tag, "severity_text", WireType::Length)?,
            5 => {
                let range = reader.length_field(tag, "body")?;
                check_any_value(reader.nested("log body", range), 0)?;
            }
            6 => check_attributes(&mut reader, tag)?,
            7 => reader.check_field(tag, "dropped_attributes_count", WireType::Varint)?,
            8 => reader.check_field(tag, "flags", WireType::Fixed32)?,
            9 => self.trace_id = TraceId(read_id(&mut reader, tag, "trace_id")?),
            10 => drop(read_id::<8>(&mut reader, tag, "span_id")?),
            11 => reader.check_field(tag, "observed_time_unix_nano", WireType::Fixed64)?,
            12 => reader.check_field(tag, "event_name", WireType::Length)?,
            _ => reader.skip(tag)?,
        }
        Ok(reader.rest())
    }
}

// First bytes of the plain fields: number and wire type.
const TIME: u8 = 1 << 3 | 1;
const SEVERITY: u8 = 2 << 3;
const SEVERITY_TEXT: u8 = 3 << 3 | 2;
const BODY: u8 = 5 << 3 | 2;
const ATTRIBUTES: u8 = 6 << 3 | 2;
const FLAGS: u8 = 8 << 3 | 5;
const TRACE_ID: u8 = 9 << 3 | 2;
const SPAN_ID: u8 = 10 << 3 | 2;
const OBSERVED_TIME: u8 = 11 << 3 | 1;
const EVENT_NAME: u8 = 12 << 3 | 2;
