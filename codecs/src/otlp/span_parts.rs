//! The name and the attributes of a span in one pass: what metrics of spans are made of.
//!
//! Nearly every field of a span has a tag and a length of one byte, so most steps are one look at two bytes; any other
//! field is read by the book. It never reads ahead of what was asked for, and on bytes that were never checked it stops
//! at the first malformed field.

use super::attributes::{Attribute, Fields};
use crate::wire::WireType;

/// A field of a span that names or describes what it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanPart<'a> {
    /// `name`; of several the last one counts.
    Name(&'a [u8]),
    /// One of `attributes`.
    Attribute(Attribute<'a>),
}

/// The name and the attributes of a span message, in the order in which they were written.
pub fn span_parts(span: &[u8]) -> impl Iterator<Item = SpanPart<'_>> {
    SpanParts { rest: span }
}

/// Span.name and Span.attributes: number << 3 | length-delimited (opentelemetry-proto, trace/v1).
const NAME: u8 = 5 << 3 | 2;
const ATTRIBUTES: u8 = 9 << 3 | 2;

struct SpanParts<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for SpanParts<'a> {
    type Item = SpanPart<'a>;

    #[inline]
    fn next(&mut self) -> Option<SpanPart<'a>> {
        loop {
            let (tag, field) = self.rest.split_first()?;
            // Where the body begins and how long it is, by the wire type: varint, 8 bytes, length-delimited, 4 bytes.
            let plain = match (*tag, field) {
                (0..8 | 0x80.., _) => None,
                (tag, [length @ 0..0x80, ..]) if tag & 7 == 2 => Some((1, usize::from(*length))),
                (tag, [0..0x80, ..]) if tag & 7 == 0 => Some((0, 1)),
                (tag, _) if tag & 7 == 1 => Some((0, 8)),
                (tag, _) if tag & 7 == 5 => Some((0, 4)),
                _ => None,
            };
            let (tag, body) = match plain {
                Some((start, length)) => {
                    let (field, rest) = field.split_at_checked(start + length)?;
                    self.rest = rest;
                    (*tag, &field[start..])
                }
                None => {
                    let field = Fields::of(self.rest).next()?;
                    self.rest = &self.rest[field.raw.len()..];
                    match (field.tag.number, field.tag.wire_type) {
                        (5, WireType::Length) => (NAME, field.body),
                        (9, WireType::Length) => (ATTRIBUTES, field.body),
                        _ => continue,
                    }
                }
            };
            match tag {
                NAME => return Some(SpanPart::Name(body)),
                ATTRIBUTES => return Some(SpanPart::Attribute(Attribute::read(body))),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::super::proto;
    use super::*;

    /// The same by the book.
    fn slowly(span: &[u8]) -> Vec<SpanPart<'_>> {
        let part = |field: super::super::attributes::Field<'_>| match (field.tag.number, field.tag.wire_type) {
            (5, WireType::Length) => Some((field.body.as_ptr() as usize, field.body.len(), true)),
            (9, WireType::Length) => Some((field.body.as_ptr() as usize, field.body.len(), false)),
            _ => None,
        };
        let start = span.as_ptr() as usize;
        let found: Vec<_> = Fields::of(span).filter_map(part).collect();
        let body = |at: usize, length: usize| &span[at - start..at - start + length];
        let parts = found.into_iter().map(|(at, length, is_name)| match is_name {
            true => SpanPart::Name(body(at, length)),
            false => SpanPart::Attribute(Attribute::read(body(at, length))),
        });
        parts.collect()
    }

    #[test]
    fn name_and_attributes_are_found_among_all_other_fields_however_long_they_are() {
        for length in [0, 5, 127, 128, 300] {
            let attribute = |key: &str| proto::KeyValue {
                key: key.into(),
                value: Some(proto::AnyValue { value: Some(proto::Value::String(vec![b'v'; length])) }),
            };
            let span = proto::Span {
                trace_id: vec![1; 16],
                span_id: vec![2; 8],
                parent_span_id: vec![3; 8],
                name: vec![b'n'; length],
                kind: 2,
                start_time_unix_nano: 4,
                end_time_unix_nano: 5,
                attributes: vec![attribute("a"), attribute("b")],
                dropped_attributes_count: 200,
                events: vec![proto::SpanEvent { name: b"event".to_vec(), ..Default::default() }],
                flags: 0x101,
                ..proto::Span::default()
            };
            let bytes = span.encode_to_vec();
            let parts: Vec<SpanPart<'_>> = span_parts(&bytes).collect();
            assert_eq!(parts, slowly(&bytes));
            let keys: Vec<&[u8]> = parts
                .iter()
                .filter_map(|part| match part {
                    SpanPart::Attribute(attribute) => Some(attribute.key),
                    SpanPart::Name(_) => None,
                })
                .collect();
            assert_eq!(keys, [b"a", b"b"]);
            assert_eq!(parts.len(), if length == 0 { 2 } else { 3 });
        }
    }

    proptest! {
        #[test]
        fn the_short_way_finds_what_the_long_way_does(bytes in prop::collection::vec(
            prop_oneof![3 => Just(NAME), 3 => Just(ATTRIBUTES), 4 => 0..20u8, 1 => any::<u8>()], 0..60,
        )) {
            prop_assert_eq!(span_parts(&bytes).collect::<Vec<_>>(), slowly(&bytes));
        }
    }
}
