//! The request index against a naive twin, on good, odd and broken requests.

mod support;

use codecs::fuzzing::{
    ANY_VALUE, FieldKind, KEY_VALUE, MESSAGES, SPAN, check_merge, check_request, check_subset, request_from, wrap,
};
use codecs::otlp::proto::*;
use codecs::otlp::{SpanIndex, VALUE_DEPTH_MAX};
use codecs::wire::{
    Fault, Malformed, WireType, write_length_field, write_length_prefix, write_tag, write_varint_field,
};
use proptest::prelude::*;
use prost::Message;

fn read(bytes: &[u8]) -> Result<SpanIndex, Malformed> {
    let mut index = SpanIndex::default();
    index.read_request(bytes, 0).map(|()| index)
}

/// A request with everything that OTLP has, several resources and scopes, and unknown fields.
fn golden() -> Vec<u8> {
    let mut request = support::shop_request(2, 2);
    let list = AnyValue {
        value: Some(Value::Array(ArrayValue {
            values: vec![AnyValue { value: Some(Value::Bytes(vec![0xff])) }, AnyValue::default()],
        })),
    };
    let map = AnyValue { value: Some(Value::Map(KeyValueList { values: vec![support::whole("n", -1)] })) };
    let span = &mut request.resource_spans[0].scope_spans[0].spans[0];
    span.trace_state = b"ot=th:8".to_vec();
    span.attributes.push(KeyValue { key: b"list".to_vec(), value: Some(list) });
    span.attributes.push(KeyValue { key: b"map".to_vec(), value: Some(map) });
    span.attributes.push(support::text("long", &"statement ".repeat(13)));
    span.events = vec![SpanEvent {
        time_unix_nano: 5,
        name: b"exception".to_vec(),
        attributes: vec![support::text("exception.type", "NullPointer\u{e9}")],
        dropped_attributes_count: 300,
    }];
    span.links = vec![SpanLink {
        trace_id: vec![9; 16],
        span_id: vec![8; 8],
        attributes: vec![support::whole("w", i64::MIN)],
        flags: 3,
        ..SpanLink::default()
    }];
    span.status = Some(SpanStatus { message: b"no \xff utf-8".to_vec(), code: 2 });
    let mut bytes = request.encode_to_vec();
    // A resource without spans, then fields from the future.
    bytes.extend_from_slice(&wrap(2, &[]));
    write_varint_field(&mut bytes, 70, 7);
    bytes
}

#[test]
fn a_request_is_indexed_field_by_field() {
    let bytes = golden();
    check_request(&bytes);
    check_subset(&bytes, |number| number != 1);
    check_merge(&bytes, &request_from(&[60; 200]));
    let index = read(&bytes).unwrap();
    assert_eq!((index.resources.len(), index.scopes.len(), index.items.len()), (2, 2, 2));
}

#[test]
fn long_values_and_events_are_indexed_field_by_field() {
    let bytes = support::troubled_request(2, 6).encode_to_vec();
    check_request(&bytes);
    check_subset(&bytes, |number| number % 2 == 0);
}

#[test]
fn an_empty_request_has_no_spans_and_is_well_formed() {
    for bytes in [&[][..], &wrap(1, &[]), &wrap(3, &[])] {
        let index = read(bytes).unwrap();
        assert!(
            index.is_empty() && index.resources.is_empty() && index.scopes.is_empty() && index.envelopes.is_empty()
        );
    }
    let index = read(&wrap(SPAN, &[])).unwrap();
    assert_eq!(index.items.len(), 1, "a span without fields is a span");
}

#[test]
fn a_request_cut_at_any_byte_is_accepted_only_if_the_twin_accepts_it() {
    let bytes = golden();
    let mut accepted = 0;
    for length in 0..bytes.len() {
        check_request(&bytes[..length]);
        accepted += usize::from(read(&bytes[..length]).is_ok());
    }
    // Only cuts between two fields of the request itself leave a request.
    assert!(accepted <= 4, "{accepted} cuts accepted");
}

#[test]
fn any_flipped_bit_is_judged_as_the_twin_judges_it() {
    let bytes = golden();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        check_request(&flipped);
    }
}

#[test]
fn a_known_field_with_another_wire_type_is_malformed() {
    let wire_type = |kind| match kind {
        FieldKind::Varint | FieldKind::Varints => WireType::Varint,
        FieldKind::Fixed32 => WireType::Fixed32,
        FieldKind::Fixed64 | FieldKind::Fixed64s => WireType::Fixed64,
        FieldKind::Bytes | FieldKind::Id(_) | FieldKind::Message(_) => WireType::Length,
    };
    // Each is a whole field's value after the tag, so that a reader that does not look would accept it.
    let others = [
        (WireType::Varint, &[0][..]),
        (WireType::Fixed32, &[0; 4]),
        (WireType::Fixed64, &[0; 8]),
        (WireType::Length, &[0]),
    ];
    for (message, description) in MESSAGES.iter().enumerate() {
        for &(number, kind) in description.fields {
            for (found, value) in others {
                let mut body = Vec::new();
                write_tag(&mut body, number, found);
                body.extend_from_slice(value);
                let bytes = wrap(message, &body);
                check_request(&bytes);
                let read = read(&bytes);
                let name = description.name;
                assert_eq!(read.is_ok(), found == wire_type(kind), "{name}: field {number} as {found}");
                if let Err(malformed) = read {
                    assert_eq!(malformed.within, name);
                    assert!(matches!(malformed.what, Fault::WireType { .. }), "{malformed}");
                }
            }
            for group in [WireType::GroupStart, WireType::GroupEnd] {
                let mut body = Vec::new();
                write_tag(&mut body, number, group);
                assert!(read(&wrap(message, &body)).is_err());
            }
        }
    }
}

#[test]
fn unknown_fields_of_every_wire_type_pass_in_every_message() {
    let mut unknown = Vec::new();
    write_varint_field(&mut unknown, 88, u64::MAX);
    write_tag(&mut unknown, 89, WireType::Fixed32);
    unknown.extend_from_slice(&[1; 4]);
    write_tag(&mut unknown, 90, WireType::Fixed64);
    unknown.extend_from_slice(&[1; 8]);
    write_length_field(&mut unknown, 91, b"\xff\xff");
    write_tag(&mut unknown, 92, WireType::GroupStart);
    write_varint_field(&mut unknown, 1, 1);
    write_tag(&mut unknown, 92, WireType::GroupEnd);
    for (message, description) in MESSAGES.iter().enumerate() {
        let bytes = wrap(message, &unknown);
        check_request(&bytes);
        assert!(read(&bytes).is_ok(), "{}", description.name);
    }
}

#[test]
fn a_length_that_leaves_its_message_is_malformed() {
    for (message, description) in MESSAGES.iter().enumerate() {
        for &(number, _) in description.fields {
            for length in [1, 127, 128, 1 << 20, usize::MAX >> 1] {
                let mut body = Vec::new();
                write_length_prefix(&mut body, number, length);
                let bytes = wrap(message, &body);
                check_request(&bytes);
                assert!(read(&bytes).is_err(), "{}: field {number}", description.name);
            }
        }
    }
}

#[test]
fn ids_have_their_size_or_are_absent() {
    for (message, description) in MESSAGES.iter().enumerate() {
        for &(number, kind) in description.fields {
            let FieldKind::Id(expected) = kind else {
                continue;
            };
            for length in 0..=40 {
                let mut body = Vec::new();
                write_length_field(&mut body, number, &vec![1; length]);
                let bytes = wrap(message, &body);
                check_request(&bytes);
                assert_eq!(read(&bytes).is_ok(), length == 0 || length == expected, "{length} bytes");
            }
        }
    }
    let mut body = Vec::new();
    write_length_field(&mut body, 1, &[1; 15]);
    let malformed = read(&wrap(SPAN, &body)).unwrap_err();
    assert_eq!(malformed.to_string(), "span: trace_id has 15 bytes, expected 16 or 0 at byte 6");
}

#[test]
fn an_all_zero_or_empty_parent_is_no_parent() {
    let has_parent = |parents: &[&[u8]]| {
        let mut body = Vec::new();
        parents.iter().for_each(|parent| write_length_field(&mut body, 4, parent));
        read(&wrap(SPAN, &body)).unwrap().items[0].has_parent
    };
    assert!(has_parent(&[&[0, 0, 0, 0, 0, 0, 0, 1]]));
    assert!(!has_parent(&[&[0; 8]]));
    assert!(!has_parent(&[&[]]));
    assert!(!has_parent(&[]));
    assert!(!has_parent(&[&[1; 8], &[]]), "the last one counts");
}

#[test]
fn nested_values_pass_up_to_the_bound_and_never_cost_the_stack() {
    let nested = |levels: usize, field: u32| {
        // Built from the inside, with one buffer: field 5 is a list, field 6 a map of one entry without a key.
        let mut body = Vec::new();
        for _ in 0..levels {
            let mut outer = Vec::new();
            write_length_field(&mut outer, if field == 5 { 1 } else { 2 }, &body);
            if field == 6 {
                let entry = std::mem::take(&mut outer);
                write_length_field(&mut outer, 1, &entry);
            }
            body.clear();
            write_length_field(&mut body, field, &outer);
        }
        wrap(ANY_VALUE, &body)
    };
    let bound = VALUE_DEPTH_MAX as usize;
    for field in [5, 6] {
        check_request(&nested(20, field));
        assert!(read(&nested(bound, field)).is_ok());
        for levels in [bound + 1, bound + 2, 5000] {
            let malformed = read(&nested(levels, field)).unwrap_err();
            assert_eq!(malformed.what, Fault::TooDeep(VALUE_DEPTH_MAX));
        }
    }
}

#[test]
fn a_malformed_request_leaves_the_index_as_it_was() {
    let good = golden();
    let mut bad = golden();
    write_length_prefix(&mut bad, 1, 10);
    let mut index = read(&good).unwrap();
    let before = format!("{index:?}");
    index.read_request(&bad, 1).unwrap_err();
    assert_eq!(format!("{index:?}"), before);
}

#[test]
fn attributes_of_any_length_are_accepted() {
    for key_length in [0, 1, 50, 120, 127, 128, 300] {
        for value_length in [0, 1, 60, 115, 119, 120, 127, 128, 20_000] {
            let attribute = support::text(&"k".repeat(key_length), &"v".repeat(value_length));
            let bytes = wrap(KEY_VALUE, &attribute.encode_to_vec());
            check_request(&bytes);
            assert_eq!(read(&bytes).unwrap().items.len(), 1);
        }
    }
}

proptest! {
    #[test]
    fn requests_of_any_shape_are_judged_and_written_as_the_twin_does(
        choices in proptest::collection::vec(any::<u8>(), 0..600),
        other in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let (first, second) = (request_from(&choices), request_from(&other));
        check_request(&first);
        check_subset(&first, |number| choices[number as usize % choices.len()] % 2 == 0);
        check_merge(&first, &second);
    }

    #[test]
    fn plausible_choices_make_deep_requests(choices in proptest::collection::vec(49_u8..=255, 0..2000)) {
        let bytes = request_from(&choices);
        check_request(&bytes);
        check_subset(&bytes, |number| number % 2 == 0);
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        check_request(&bytes);
        check_request(&wrap(SPAN, &bytes));
        check_request(&wrap(KEY_VALUE, &bytes));
    }
}
