//! One span as sampling sees it: where its bytes lie, and the few fields noted while they were checked.
//!
//! [`read_span`] is the hottest loop of the gateway: every byte of every span passes it once, before anything else is
//! known. It checks a span message completely and notes what [`SpanItem`] holds.

use super::attributes::AttributesAt;
use super::index::Index;
use super::item::{FrameNames, Item, Place};
use super::message::{
    check_attribute, check_event, check_link, read_id, split_short, take_plain_attribute, take_plain_attributes,
};
use super::signal::Signal;
use super::signal_index::SignalIndex;
use crate::wire::{Malformed, Reader, WireType};

/// A trace id; all zero means the span carries none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TraceId(pub [u8; 16]);

/// `Span.kind` (opentelemetry-proto, trace/v1). Values outside the enumeration are kept as they are; those that do not
/// fit a byte become 255.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpanKind(pub u8);

impl SpanKind {
    /// From the wire: enumerations are 32-bit numbers in a varint of up to 64 bits.
    fn from_wire(value: u64) -> Self {
        Self(u8::try_from(value as u32).unwrap_or(u8::MAX))
    }
}

/// `Status.code` (opentelemetry-proto, trace/v1): 0 unset, 1 ok, 2 error; anything else counts as unset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatusCode {
    /// Not set.
    #[default]
    Unset,
    /// Set to ok by the application.
    Ok,
    /// The operation failed.
    Error,
}

impl StatusCode {
    /// From the wire: enumerations are 32-bit numbers in a varint of up to 64 bits.
    fn from_wire(value: u64) -> Self {
        match value as u32 {
            1 => Self::Ok,
            2 => Self::Error,
            _ => Self::Unset,
        }
    }
}

/// What the index notes about one span. One cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpanItem {
    /// `trace_id`; all zero if absent.
    pub trace_id: TraceId,
    /// `span_id`; all zero if absent.
    pub span_id: [u8; 8],
    /// `start_time_unix_nano`.
    pub start_ns: u64,
    /// `end_time_unix_nano`.
    pub end_ns: u64,
    /// Where the span message starts in its segment (after its tag and length).
    pub offset: u32,
    /// Length of the span message in bytes.
    pub length: u32,
    /// Index into [`super::Index::scopes`].
    pub scope: u32,
    /// `flags`.
    pub flags: u32,
    /// Which segment of the batch holds the bytes.
    pub segment: u16,
    /// Why the span was kept: a number the sampler gave its reason, 0 if no sampler decided yet.
    pub reason: u16,
    /// `status.code`.
    pub status: StatusCode,
    /// `kind`.
    pub kind: SpanKind,
    /// Whether `parent_span_id` is present and not all zero.
    pub has_parent: bool,
    /// Where its attributes lie together, if they do. Not known of an item that was put together by hand.
    pub attributes_at: AttributesAt,
}

const _: () = assert!(size_of::<SpanItem>() == 64, "a span item fills one cache line");

impl SpanItem {
    /// Checks the span message `bytes` completely and notes its fields, for spans that were written anew. Where it lies,
    /// its scope and its reason are the caller's to fill in.
    ///
    /// # Errors
    /// The first malformed byte, with its offset in `bytes`.
    pub fn of_message(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut item = Self::default();
        read_span(bytes, 0, &mut item)?;
        Ok(item)
    }
}

impl Item for SpanItem {
    const SIGNAL: Signal = Signal::Traces;
    const NAMES: FrameNames = FrameNames {
        resources: "resource_spans",
        resource: "resource spans",
        scopes: "scope_spans",
        scope: "scope spans",
        items: "spans",
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

    #[inline(always)]
    fn read(&mut self, bytes: &[u8], start: usize) -> Result<(), Malformed> {
        read_span(bytes, start, self)
    }

    fn take_over(&mut self, old: &Self) {
        self.reason = old.reason;
    }

    fn forget_attributes(&mut self) {
        self.attributes_at = AttributesAt::default();
    }

    fn index_in(index: &SignalIndex) -> Option<&Index<Self>> {
        if let SignalIndex::Spans(index) = index { Some(index) } else { None }
    }

    fn index_in_mut(index: &mut SignalIndex) -> Option<&mut Index<Self>> {
        if let SignalIndex::Spans(index) = index { Some(index) } else { None }
    }
}

/// Checks the span message in `bytes[start..]` and notes its fields in `item`; position fields stay as they are.
///
/// ```text
/// until the end of the message:
///     by the first byte of the field: is it in the shape every SDK writes?
///         yes: take it and what follows it in the same shape
///         no:  read it by the book (any wire type, any length, unknown fields, or the error)
/// ```
///
/// Tricks, and what each bought on spans of 353 bytes with 8 attributes (Zen 4, 45 ns a span with all of them):
/// - A tag is compared as one byte, which holds number and wire type: a wrong wire type is simply not plain, and only
///   the slow way needs to know. One jump table instead of a chain of comparisons: 820 -> 767 instructions a span.
/// - An attribute in plain shape is proved by comparing lengths, with no loop over its fields. Its check does not feed
///   the position of what follows, so the processor overlaps them: the only chain is length byte -> next field.
/// - Attributes, and spans in `Index::read_scope`, repeat in loops of their own, without the jump: 767 -> 678
///   instructions, 58 -> 48 ns.
/// - The plain shapes return what is behind them, or nothing: no error travels through the fast path.
///
/// Not tried: comparing keys of an attribute with those of the span before.
///
/// # Errors
/// The first malformed byte, with its offset in `bytes`.
pub(super) fn read_span(bytes: &[u8], start: usize, item: &mut SpanItem) -> Result<(), Malformed> {
    let mut rest = &bytes[start..];
    while let [tag, field @ ..] = rest {
        let position = bytes.len() - start - rest.len();
        rest = match read_plain_field(*tag, field, position, item) {
            Some(rest) => rest,
            None => read_any_field(bytes, bytes.len() - rest.len(), item)?,
        };
    }
    Ok(())
}

/// Takes the field that goes on with `field` after its first tag byte, if it has a plain shape, and returns what is
/// behind it. It begins at `position` of the message.
#[inline(always)]
fn read_plain_field<'a>(tag: u8, field: &'a [u8], position: usize, item: &mut SpanItem) -> Option<&'a [u8]> {
    match tag {
        ATTRIBUTES => take_plain_attribute(field).map(|rest| {
            item.attributes_at.note_run(position);
            take_plain_attributes(rest, ATTRIBUTES)
        }),
        NAME | TRACE_STATE => split_short(field).map(|(_, rest)| rest),
        TRACE_ID => take(field, |[length, id @ ..]: [u8; 17]| {
            item.trace_id = TraceId(id);
            length == 16
        }),
        SPAN_ID => take(field, |[length, id @ ..]: [u8; 9]| {
            item.span_id = id;
            length == 8
        }),
        PARENT_SPAN_ID => take(field, |[length, id @ ..]: [u8; 9]| {
            item.has_parent = id != [0; 8];
            length == 8
        }),
        START => take(field, |time| {
            item.start_ns = u64::from_le_bytes(time);
            true
        }),
        END => take(field, |time| {
            item.end_ns = u64::from_le_bytes(time);
            true
        }),
        // Another second byte is another field: nothing may be noted then.
        FLAGS_LOW => take(field.strip_prefix(&[FLAGS_HIGH])?, |flags| {
            item.flags = u32::from_le_bytes(flags);
            true
        }),
        KIND => take(field, |[kind]| {
            item.kind = SpanKind(kind);
            kind < 0x80
        }),
        DROPPED_ATTRIBUTES | DROPPED_EVENTS | DROPPED_LINKS => take(field, |[count]| count < 0x80),
        STATUS => match field {
            [0, rest @ ..] => Some(rest),
            [2, STATUS_CODE, code, rest @ ..] if *code < 0x80 => {
                item.status = StatusCode::from_wire(u64::from(*code));
                Some(rest)
            }
            _ => None,
        },
        _ => None,
    }
}

/// Hands the first `N` bytes to `note` and returns the rest, unless there are fewer or `note` finds them not plain.
#[inline(always)]
fn take<const N: usize>(field: &[u8], note: impl FnOnce([u8; N]) -> bool) -> Option<&[u8]> {
    let (chunk, rest) = field.split_first_chunk::<N>()?;
    note(*chunk).then_some(rest)
}

/// Reads the field at `position` by the book and returns what is behind it. What the plain path noted of a field that
/// turned out not to be plain is noted again here, or the span is malformed.
#[inline(never)]
fn read_any_field<'a>(bytes: &'a [u8], position: usize, item: &mut SpanItem) -> Result<&'a [u8], Malformed> {
    let mut reader = Reader::from("span", bytes, position);
    let Some(tag) = reader.tag()? else {
        return Ok(&[]);
    };
    match tag.number {
        1 => item.trace_id = TraceId(read_id(&mut reader, tag, "trace_id")?),
        2 => item.span_id = read_id(&mut reader, tag, "span_id")?,
        3 => reader.check_field(tag, "trace_state", WireType::Length)?,
        4 => item.has_parent = read_id::<8>(&mut reader, tag, "parent_span_id")? != [0; 8],
        5 => reader.check_field(tag, "name", WireType::Length)?,
        6 => item.kind = SpanKind::from_wire(reader.varint_field(tag, "kind")?),
        7 => item.start_ns = reader.fixed64_field(tag, "start_time_unix_nano")?,
        8 => item.end_ns = reader.fixed64_field(tag, "end_time_unix_nano")?,
        9 => {
            item.attributes_at.note_other();
            check_attribute(&mut reader, tag)?;
        }
        10 => reader.check_field(tag, "dropped_attributes_count", WireType::Varint)?,
        11 => {
            let range = reader.length_field(tag, "events")?;
            check_event(reader.nested("span event", range))?;
        }
        12 => reader.check_field(tag, "dropped_events_count", WireType::Varint)?,
        13 => {
            let range = reader.length_field(tag, "links")?;
            check_link(reader.nested("span link", range))?;
        }
        14 => reader.check_field(tag, "dropped_links_count", WireType::Varint)?,
        15 => {
            let range = reader.length_field(tag, "status")?;
            read_status(reader.nested("span status", range), item)?;
        }
        16 => item.flags = reader.fixed32_field(tag, "flags")?,
        _ => reader.skip(tag)?,
    }
    Ok(&bytes[reader.position()..])
}

/// Checks a Status and notes its code, if it has one: a repeated status is merged, so one without keeps the last.
fn read_status(mut reader: Reader<'_>, item: &mut SpanItem) -> Result<(), Malformed> {
    while let Some(tag) = reader.tag()? {
        match tag.number {
            2 => reader.check_field(tag, "message", WireType::Length)?,
            3 => item.status = StatusCode::from_wire(reader.varint_field(tag, "code")?),
            _ => reader.skip(tag)?,
        }
    }
    Ok(())
}

// Tags as they stand on the wire: field number << 3 | wire type (opentelemetry-proto, trace/v1, Span and Status).
const TRACE_ID: u8 = 1 << 3 | 2;
const SPAN_ID: u8 = 2 << 3 | 2;
const TRACE_STATE: u8 = 3 << 3 | 2;
const PARENT_SPAN_ID: u8 = 4 << 3 | 2;
const NAME: u8 = 5 << 3 | 2;
const KIND: u8 = 6 << 3;
const START: u8 = 7 << 3 | 1;
const END: u8 = 8 << 3 | 1;
const ATTRIBUTES: u8 = 9 << 3 | 2;
const DROPPED_ATTRIBUTES: u8 = 10 << 3;
const DROPPED_EVENTS: u8 = 12 << 3;
const DROPPED_LINKS: u8 = 14 << 3;
const STATUS: u8 = 15 << 3 | 2;
const STATUS_CODE: u8 = 3 << 3;
// `flags` is field 16, whose tag takes two bytes: 16 << 3 | 5 = 133.
const FLAGS_LOW: u8 = 133;
const FLAGS_HIGH: u8 = 1;
