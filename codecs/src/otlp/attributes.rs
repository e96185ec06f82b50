//! Reading attributes where they lie: names and values of a resource, scope or span whose bytes were checked before.
//!
//! Nothing is decoded ahead of a question. On bytes that were never checked the iterators stop at the first malformed
//! field; they never panic.

use crate::wire::{Reader, Tag, WireType};

/// ResourceSpans.resource.
const RESOURCE: u32 = 1;
/// Resource.attributes.
const RESOURCE_ATTRIBUTES: u32 = 1;
/// Span.attributes.
pub(super) const SPAN_ATTRIBUTES: u32 = 9;
/// Span.trace_state.
pub(super) const SPAN_TRACE_STATE: u32 = 3;
/// Span.parent_span_id.
const SPAN_PARENT_ID: u32 = 4;

/// One attribute of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// The name, usually UTF-8.
    pub key: &'a [u8],
    /// The bytes of the AnyValue, see [`Value::read`].
    pub value: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// Reads a KeyValue; of repeated fields the last one counts.
    #[must_use]
    #[inline]
    pub fn read(key_value: &'a [u8]) -> Self {
        Self::read_plain(key_value).unwrap_or_else(|| Self::read_any(key_value))
    }

    /// The shape that every SDK writes: key, then value, each once, with lengths of one byte.
    #[inline]
    fn read_plain(key_value: &'a [u8]) -> Option<Self> {
        let [0x0a, key_length @ 0..0x80, rest @ ..] = key_value else {
            return None;
        };
        let (key, rest) = rest.split_at_checked(usize::from(*key_length))?;
        let [0x12, value_length @ 0..0x80, value @ ..] = rest else {
            return None;
        };
        (value.len() == usize::from(*value_length)).then_some(Self { key, value })
    }

    fn read_any(key_value: &'a [u8]) -> Self {
        let mut attribute = Self { key: &[], value: &[] };
        for field in Fields::of(key_value) {
            match field.tag.number {
                1 => attribute.key = field.body,
                2 => attribute.value = field.body,
                _ => {}
            }
        }
        attribute
    }
}

/// An AnyValue, looked at but not copied.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Value<'a> {
    /// No value is set.
    #[default]
    Empty,
    /// Text, usually UTF-8.
    String(&'a [u8]),
    /// Truth.
    Bool(bool),
    /// Whole number.
    Int(i64),
    /// Floating point number.
    Double(f64),
    /// The bytes of an ArrayValue.
    Array(&'a [u8]),
    /// The bytes of a KeyValueList.
    Map(&'a [u8]),
    /// Opaque bytes.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// Reads the bytes of an AnyValue; if several values are set, the last one counts.
    #[must_use]
    #[inline]
    pub fn read(any_value: &'a [u8]) -> Self {
        Self::read_plain(any_value).unwrap_or_else(|| Self::read_any(any_value))
    }

    /// One value of a scalar type, which nearly all are.
    #[inline]
    fn read_plain(any_value: &'a [u8]) -> Option<Self> {
        match any_value {
            [0x0a, length @ 0..0x80, text @ ..] if text.len() == usize::from(*length) => Some(Self::String(text)),
            [0x10, number @ 0..0x80] => Some(Self::Bool(*number != 0)),
            [0x18, number @ 0..0x80] => Some(Self::Int(i64::from(*number))),
            [0x18, low @ 0x80..=0xff, high @ 0..0x80] => {
                Some(Self::Int(i64::from(*low & 0x7f) | i64::from(*high) << 7))
            }
            [0x21, double @ ..] => Some(Self::Double(f64::from_le_bytes(double.try_into().ok()?))),
            _ => None,
        }
    }

    #[inline(never)]
    fn read_any(any_value: &'a [u8]) -> Self {
        let mut value = Self::Empty;
        for field in Fields::of(any_value) {
            value = match field.tag.number {
                1 => Self::String(field.body),
                2 => Self::Bool(field.number != 0),
                3 => Self::Int(field.number as i64),
                4 => Self::Double(f64::from_bits(field.number)),
                5 => Self::Array(field.body),
                6 => Self::Map(field.body),
                7 => Self::Bytes(field.body),
                _ => value,
            };
        }
        value
    }
}

/// The attributes of a resource envelope, in order.
pub fn resource_attributes(envelope: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    key_values(envelope, RESOURCE).flat_map(|resource| attributes(resource, RESOURCE_ATTRIBUTES))
}

/// The attributes of a span message, in order.
pub fn span_attributes(span: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    SpanAttributes { rest: span }
}

/// Where the attributes of a span lie, if all of them follow each other in the plain shape and begin among its first
/// bytes: what reads them then need not walk over the span to find them. Nothing is known until the span was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttributesAt(u8);

impl AttributesAt {
    /// Not together, not plain, or too far behind.
    const SCATTERED: Self = Self(u8::MAX);

    /// A run of plain attributes begins `offset` bytes behind the start of the span.
    #[inline(always)]
    pub(super) fn note_run(&mut self, offset: usize) {
        let is_known = *self == Self::default() && (1..usize::from(u8::MAX)).contains(&offset);
        *self = if is_known { Self(offset as u8) } else { Self::SCATTERED };
    }

    /// There is an attribute in another shape.
    pub(super) fn note_other(&mut self) {
        *self = Self::SCATTERED;
    }

    /// The attributes of the span message, in order; `None` if they do not lie together: [`span_attributes`] finds them.
    ///
    /// `span` must be the message that was checked.
    #[must_use]
    #[inline]
    pub fn in_span(self, span: &[u8]) -> Option<PlainAttributes<'_>> {
        let is_known = self != Self::default() && self != Self::SCATTERED;
        let rest = if is_known { span.get(usize::from(self.0)..)? } else { return None };
        Some(PlainAttributes { rest })
    }
}

/// Attributes of a span that follow each other in the plain shape: key, then value, each once, with lengths of one byte.
#[derive(Clone, Debug)]
pub struct PlainAttributes<'a> {
    rest: &'a [u8],
}

/// One of them: its value is read only if its key is of interest.
#[derive(Clone, Copy, Debug)]
pub struct PlainAttribute<'a> {
    /// The name, usually UTF-8.
    pub key: &'a [u8],
    /// The field of the value: its tag, its length, and the bytes of the AnyValue.
    value_field: &'a [u8],
}

impl<'a> PlainAttribute<'a> {
    /// The bytes of the AnyValue, see [`Value::read`].
    #[must_use]
    #[inline]
    pub fn value(self) -> &'a [u8] {
        self.value_field.get(2..).unwrap_or_default()
    }
}

impl<'a> Iterator for PlainAttributes<'a> {
    type Item = PlainAttribute<'a>;

    /// Their shape was proved when the span was checked, so nothing is looked at but the two lengths.
    #[inline(always)]
    fn next(&mut self) -> Option<PlainAttribute<'a>> {
        let [ATTRIBUTES, length @ 0..0x80, rest @ ..] = self.rest else { return None };
        let (body, rest) = rest.split_at_checked(usize::from(*length))?;
        self.rest = rest;
        let [_, key_length, body @ ..] = body else { return None };
        let (key, value_field) = body.split_at_checked(usize::from(*key_length))?;
        Some(PlainAttribute { key, value_field })
    }
}

/// The tag of a span's attributes as it stands on the wire.
const ATTRIBUTES: u8 = (SPAN_ATTRIBUTES << 3 | 2) as u8;
const _: () = assert!(SPAN_ATTRIBUTES < 16, "its tag is one byte");

/// The two bytes of the tag of `flags`, field 16 of 4 bytes: 16 << 3 | 5 = 133.
const FLAGS_LOW: u8 = 133;
const FLAGS_HIGH: u8 = 1;

/// The W3C trace state of a span message; empty if it has none.
#[must_use]
pub fn span_trace_state(span: &[u8]) -> &[u8] {
    key_values(span, SPAN_TRACE_STATE).last().unwrap_or_default()
}

/// The id of a span message's parent; `None` if it has none, which an id of zeros says too.
#[must_use]
pub fn span_parent_id(span: &[u8]) -> Option<[u8; 8]> {
    let id: [u8; 8] = key_values(span, SPAN_PARENT_ID).last()?.try_into().ok()?;
    (id != [0; 8]).then_some(id)
}

/// Steps over fields with tags and lengths of one byte, which are nearly all, without looking at what they are.
struct SpanAttributes<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for SpanAttributes<'a> {
    type Item = Attribute<'a>;

    #[inline]
    fn next(&mut self) -> Option<Attribute<'a>> {
        loop {
            let (tag, field) = self.rest.split_first()?;
            // By the wire type: varint, 8 bytes, length-delimited, 4 bytes.
            let size = match (*tag, field) {
                // The only field of a span whose tag takes two bytes; nearly every span has it.
                (FLAGS_LOW, [FLAGS_HIGH, ..]) => Some(1 + 4),
                (0..8 | 0x80.., _) => None,
                (tag, [length @ 0..0x80, ..]) if tag & 7 == 2 => Some(1 + usize::from(*length)),
                (tag, [0..0x80, ..]) if tag & 7 == 0 => Some(1),
                (tag, _) if tag & 7 == 1 => Some(8),
                (tag, _) if tag & 7 == 5 => Some(4),
                _ => None,
            };
            let Some(size) = size else {
                let field = Fields::of(self.rest).next()?;
                self.rest = &self.rest[field.raw.len()..];
                if field.tag.number == SPAN_ATTRIBUTES && field.tag.wire_type == WireType::Length {
                    return Some(Attribute::read(field.body));
                }
                continue;
            };
            let (field, rest) = field.split_at_checked(size)?;
            self.rest = rest;
            if *tag == ATTRIBUTES {
                return Some(Attribute::read(&field[1..]));
            }
        }
    }
}

/// The text of the first resource attribute called `key`; `None` if there is none or it is no string.
#[must_use]
pub fn resource_attribute<'a>(envelope: &'a [u8], key: &str) -> Option<&'a [u8]> {
    let attribute = resource_attributes(envelope).find(|attribute| attribute.key == key.as_bytes())?;
    match Value::read(attribute.value) {
        Value::String(text) => Some(text),
        _ => None,
    }
}

fn attributes(message: &[u8], number: u32) -> impl Iterator<Item = Attribute<'_>> {
    key_values(message, number).map(Attribute::read)
}

/// Bodies of the length-delimited fields called `number`.
fn key_values(message: &[u8], number: u32) -> impl Iterator<Item = &[u8]> {
    Fields::of(message)
        .filter(move |field| field.tag.number == number && field.tag.wire_type == WireType::Length)
        .map(|field| field.body)
}

/// A field of a checked message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Number and encoding.
    pub tag: Tag,
    /// The whole field, tag included.
    pub raw: &'a [u8],
    /// The contents of a length-delimited field, else empty.
    pub body: &'a [u8],
    /// The bits of a number, else 0.
    pub number: u64,
}

/// The fields of a checked message, in order.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    reader: Reader<'a>,
}

impl<'a> Fields<'a> {
    /// The fields of `message`; on bytes that were never checked they end at the first malformed one.
    #[must_use]
    pub fn of(message: &'a [u8]) -> Self {
        Self { reader: Reader::new("checked message", message) }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    /// Nearly every field has a tag of one byte, and what it holds is a short text, a time or a small number: those are
    /// read here, with one look at the first bytes, and all others by the book. In the loop of the one who walks, which then
    /// computes of a field no more than it asks for.
    #[inline(always)]
    fn next(&mut self) -> Option<Field<'a>> {
        let rest = self.reader.rest();
        let [key @ 8..0x80, value @ ..] = rest else { return self.next_by_the_book() };
        let plain = match (*key & 7, value) {
            (2, [length @ 0..0x80, value @ ..]) => {
                let body = value.get(..usize::from(*length))?;
                (WireType::Length, 1 + body.len(), body, 0)
            }
            (1, value) => (WireType::Fixed64, 8, &[][..], u64::from_le_bytes(*value.first_chunk()?)),
            (0, [number @ 0..0x80, ..]) => (WireType::Varint, 1, &[][..], u64::from(*number)),
            _ => return self.next_by_the_book(),
        };
        let (wire_type, length, body, number) = plain;
        let tag = Tag { number: u32::from(*key >> 3), wire_type, offset: self.reader.position() };
        let (raw, rest) = rest.split_at_checked(1 + length)?;
        self.reader.continue_with(rest);
        Some(Field { tag, raw, body, number })
    }
}

impl<'a> Fields<'a> {
    #[inline(never)]
    fn next_by_the_book(&mut self) -> Option<Field<'a>> {
        let tag = self.reader.tag().ok()??;
        let (mut body, mut number): (&[u8], u64) = (&[], 0);
        match tag.wire_type {
            WireType::Length => {
                let range = self.reader.length_delimited().ok()?;
                body = self.reader.slice(range);
            }
            WireType::Varint => number = self.reader.varint().ok()?,
            WireType::Fixed64 => number = self.reader.fixed64().ok()?,
            WireType::Fixed32 => number = u64::from(self.reader.fixed32().ok()?),
            _ => self.reader.skip(tag).ok()?,
        }
        let raw = self.reader.slice(tag.offset..self.reader.position());
        Some(Field { tag, raw, body, number })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::super::proto;
    use super::*;

    fn any_value(value: proto::Value) -> Vec<u8> {
        proto::AnyValue { value: Some(value) }.encode_to_vec()
    }

    #[test]
    fn every_kind_of_value_is_read() {
        assert_eq!(Value::read(&[]), Value::Empty);
        assert_eq!(Value::read(&any_value(proto::Value::String(b"x\xff".to_vec()))), Value::String(b"x\xff"));
        assert_eq!(Value::read(&any_value(proto::Value::Bool(true))), Value::Bool(true));
        assert_eq!(Value::read(&any_value(proto::Value::Int(-5))), Value::Int(-5));
        assert_eq!(Value::read(&any_value(proto::Value::Double(-0.5))), Value::Double(-0.5));
        assert_eq!(Value::read(&any_value(proto::Value::Bytes(vec![1, 2]))), Value::Bytes(&[1, 2]));
        let list = proto::ArrayValue { values: vec![proto::AnyValue::default()] };
        assert_eq!(Value::read(&any_value(proto::Value::Array(list))), Value::Array(&[0x0a, 0]));
    }

    #[test]
    fn the_last_of_several_values_counts() {
        let bytes = [any_value(proto::Value::Int(1)), any_value(proto::Value::String(b"last".to_vec()))].concat();
        assert_eq!(Value::read(&bytes), Value::String(b"last"));
    }

    #[test]
    fn span_attributes_come_in_order() {
        let attribute =
            |key: &str, value| proto::KeyValue { key: key.into(), value: Some(proto::AnyValue { value: Some(value) }) };
        let span = proto::Span {
            name: b"GET /".to_vec(),
            attributes: vec![attribute("b", proto::Value::Int(1)), attribute("a", proto::Value::Bool(false))],
            ..proto::Span::default()
        };
        let bytes = span.encode_to_vec();
        let found: Vec<_> = span_attributes(&bytes).map(|found| (found.key, Value::read(found.value))).collect();
        assert_eq!(found, [(&b"b"[..], Value::Int(1)), (b"a", Value::Bool(false))]);
    }

    /// Many fields with tags and lengths of one byte, some without, some cut off.
    fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
        let body = prop_oneof![
            8 => prop::collection::vec(any::<u8>(), 0..12),
            2 => (0..4u8, 0..6u8).prop_map(|(key, value)| {
                let mut body = vec![0x0a, key];
                body.resize(body.len() + usize::from(key), b'k');
                body.extend([0x12, value]);
                body.resize(body.len() + usize::from(value), 7);
                body
            }),
            1 => prop::collection::vec(any::<u8>(), 120..140),
        ];
        let length_delimited = (prop_oneof![3 => Just(0x4au8), 1 => any::<u8>()], body).prop_map(|(tag, body)| {
            let mut field = vec![tag];
            match u8::try_from(body.len()).unwrap() {
                length @ 0..0x80 => field.push(length),
                length => field.extend([length, 1]),
            }
            field.extend(body);
            field
        });
        let field = prop_oneof![4 => length_delimited, 2 => prop::collection::vec(any::<u8>(), 0..10)];
        prop::collection::vec(field, 0..8).prop_map(|fields| fields.concat())
    }

    proptest! {
        #[test]
        fn the_short_way_over_fields_finds_what_the_book_says(bytes in any_bytes()) {
            let (mut by_the_book, mut quickly) = (Fields::of(&bytes), Fields::of(&bytes));
            while let Some(field) = by_the_book.next_by_the_book() {
                prop_assert_eq!(Some(field), quickly.next());
            }
            prop_assert_eq!(quickly.next(), None);
        }

        #[test]
        fn the_short_way_over_a_span_finds_what_the_long_way_does(bytes in any_bytes()) {
            let by_the_book: Vec<_> = key_values(&bytes, SPAN_ATTRIBUTES).map(Attribute::read_any).collect();
            prop_assert_eq!(span_attributes(&bytes).collect::<Vec<_>>(), by_the_book);
        }
    }

    #[test]
    fn the_trace_state_is_the_last_one_written() {
        let span = proto::Span { trace_state: b"a=1".to_vec(), name: b"x".to_vec(), ..proto::Span::default() };
        assert_eq!(span_trace_state(&span.encode_to_vec()), b"a=1");
        assert_eq!(span_trace_state(&[0x1a, 1, b'a', 0x1a, 1, b'b']), b"b");
        assert_eq!(span_trace_state(&[]), b"");
    }

    #[test]
    fn lookups_find_strings_only() {
        let attribute =
            |key: &str, value| proto::KeyValue { key: key.into(), value: Some(proto::AnyValue { value: Some(value) }) };
        let attributes = vec![
            attribute("service.name", proto::Value::String(b"shop".to_vec())),
            attribute("service.name", proto::Value::String(b"later".to_vec())),
            attribute("port", proto::Value::Int(1)),
        ];
        let resource = proto::Resource { attributes, ..proto::Resource::default() };
        let envelope =
            proto::ResourceSpans { resource: Some(resource), ..proto::ResourceSpans::default() }.encode_to_vec();
        assert_eq!(resource_attribute(&envelope, "service.name"), Some(&b"shop"[..]));
        assert_eq!(resource_attribute(&envelope, "service"), None);
        assert_eq!(resource_attribute(&envelope, "port"), None);
    }

    #[test]
    fn unchecked_garbage_ends_the_iteration() {
        assert_eq!(span_attributes(&[0x4a, 0x7f, 1]).count(), 0);
        assert_eq!(resource_attribute(&[0xff; 20], "service.name"), None);
    }
}
