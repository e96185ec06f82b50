//! Writing sampling information into a span: its trace state, and attributes that say why it was kept.
//!
//! The span is copied anyway when it leaves; here it is copied around what changes. All else leaves byte for byte as it
//! came, in its order.

use super::attributes::{Attribute, Fields, SPAN_ATTRIBUTES, SPAN_TRACE_STATE};
use crate::wire::{WireType, length_field_length, write_length_field, write_length_prefix};

/// The last field of a span that comes before its trace state.
const SPAN_ID: u32 = 2;

/// An attribute with a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextAttribute<'a> {
    /// Its name.
    pub key: &'a [u8],
    /// Its value, UTF-8.
    pub text: &'a [u8],
}

/// Appends the span message `span` to `out` with another trace state (empty: without one; `None`: its own) and with
/// `attributes`, which take the place of those of their names. `span` was checked before.
pub fn write_marked_span(span: &[u8], trace_state: Option<&[u8]>, attributes: &[TextAttribute<'_>], out: &mut Vec<u8>) {
    let mut unwritten = trace_state.filter(|text| !text.is_empty());
    let mut write_trace_state = |out: &mut Vec<u8>| {
        if let Some(text) = unwritten.take() {
            write_length_field(out, SPAN_TRACE_STATE, text);
        }
    };
    for field in Fields::of(span) {
        if field.tag.number > SPAN_ID {
            write_trace_state(out);
        }
        let is_length = field.tag.wire_type == WireType::Length;
        let is_replaced = match field.tag.number {
            SPAN_TRACE_STATE => is_length && trace_state.is_some(),
            SPAN_ATTRIBUTES if is_length && !attributes.is_empty() => {
                let key = Attribute::read(field.body).key;
                attributes.iter().any(|attribute| attribute.key == key)
            }
            _ => false,
        };
        if !is_replaced {
            out.extend_from_slice(field.raw);
        }
    }
    write_trace_state(out);
    for attribute in attributes {
        let value_length = length_field_length(1, attribute.text.len());
        let length = length_field_length(1, attribute.key.len()) + length_field_length(2, value_length);
        write_length_prefix(out, SPAN_ATTRIBUTES, length);
        write_length_field(out, 1, attribute.key);
        write_length_prefix(out, 2, value_length);
        write_length_field(out, 1, attribute.text);
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::super::proto::{AnyValue, KeyValue, Span, Value};
    use super::*;

    fn attribute(key: &str, text: &str) -> KeyValue {
        KeyValue { key: key.into(), value: Some(AnyValue { value: Some(Value::String(text.into())) }) }
    }

    fn check(before: &Span, trace_state: &str, attributes: &[(&str, &str)], after: &Span) {
        let marks: Vec<_> =
            attributes.iter().map(|(key, text)| TextAttribute { key: key.as_bytes(), text: text.as_bytes() }).collect();
        let mut out = b"before".to_vec();
        write_marked_span(&before.encode_to_vec(), Some(trace_state.as_bytes()), &marks, &mut out);
        assert_eq!(out.strip_prefix(b"before"), Some(&*after.encode_to_vec()));
    }

    fn span() -> Span {
        Span {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            trace_state: b"a=1".to_vec(),
            parent_span_id: vec![3; 8],
            name: b"GET /".to_vec(),
            attributes: vec![attribute("k", "v"), attribute("why", "old")],
            flags: 0x101,
            ..Span::default()
        }
    }

    #[test]
    fn a_trace_state_takes_the_place_of_the_old_one_or_its_own() {
        let with = Span { trace_state: b"ot=th:8,a=1".to_vec(), ..span() };
        let without = Span { trace_state: Vec::new(), ..span() };
        check(&span(), "ot=th:8,a=1", &[], &with);
        check(&without, "ot=th:8,a=1", &[], &with);
        check(&span(), "", &[], &without);
        check(&Span::default(), "ot=th:8", &[], &Span { trace_state: b"ot=th:8".to_vec(), ..Span::default() });
        let long = "x".repeat(300);
        check(&span(), &long, &[], &Span { trace_state: long.clone().into_bytes(), ..span() });
    }

    #[test]
    fn attributes_take_the_place_of_those_of_their_names() {
        let without_flags = Span { flags: 0, ..span() };
        let attributes = vec![attribute("k", "v"), attribute("why", "new"), attribute("more", &"x".repeat(200))];
        let after = Span { attributes, ..without_flags.clone() };
        check(&without_flags, "a=1", &[("why", "new"), ("more", &"x".repeat(200))], &after);
    }

    #[test]
    fn unknown_fields_and_repeated_ones_leave_as_they_came() {
        let mut bytes = Vec::new();
        write_length_field(&mut bytes, 77, b"unknown");
        write_length_field(&mut bytes, 3, b"first");
        write_length_field(&mut bytes, 5, b"name");
        write_length_field(&mut bytes, 3, b"last");
        let mut out = Vec::new();
        write_marked_span(&bytes, Some(b"new"), &[], &mut out);
        let mut expected = Vec::new();
        write_length_field(&mut expected, 3, b"new");
        write_length_field(&mut expected, 77, b"unknown");
        write_length_field(&mut expected, 5, b"name");
        assert_eq!(out, expected);
        out.clear();
        write_marked_span(&bytes, None, &[], &mut out);
        assert_eq!(out, bytes, "nothing was asked for");
    }
}
