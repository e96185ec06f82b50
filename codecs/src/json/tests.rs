use prost::Message;

use super::*;
use crate::otlp::VALUE_DEPTH_MAX;
use crate::otlp::proto::{ExportTraceServiceRequest, Value};
use crate::otlp::{Signal, SpanIndex};

fn read(json: &str) -> Result<ExportTraceServiceRequest, String> {
    let mut out = b"kept".to_vec();
    let read = read_request(Signal::Traces, json.as_bytes(), &mut out);
    assert!(out.starts_with(b"kept"));
    crate::fuzzing::check_json_steps(json.as_bytes(), &read, &out[4..]);
    match read {
        Ok(()) => {
            SpanIndex::default().read_request(&out[4..], 0).expect("the index takes what was transcoded");
            Ok(ExportTraceServiceRequest::decode(&out[4..]).expect("protobuf"))
        }
        Err(error) => {
            assert_eq!(out, b"kept", "an error leaves nothing behind");
            Err(error.to_string())
        }
    }
}

/// A request with one span that has these fields.
fn span(fields: &str) -> String {
    format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{fields}}}]}}]}}]}}"#)
}

fn read_span(fields: &str) -> crate::otlp::proto::Span {
    let mut request = read(&span(fields)).unwrap_or_else(|error| panic!("{fields}: {error}"));
    request.resource_spans.remove(0).scope_spans.remove(0).spans.remove(0)
}

fn read_value(json: &str) -> Result<Option<Value>, String> {
    let request = read(&span(&format!(r#""attributes":[{{"key":"k","value":{json}}}]"#)))?;
    let attribute = request.resource_spans[0].scope_spans[0].spans[0].attributes[0].clone();
    Ok(attribute.value.and_then(|value| value.value))
}

/// The example of opentelemetry-proto, every field of a span written by hand.
#[test]
fn a_request_is_read_field_by_field() {
    let json = r#"
    { "resourceSpans": [ {
        "resource": { "attributes": [ { "key": "service.name", "value": { "stringValue": "my.service" } } ],
                      "droppedAttributesCount": 7 },
        "scopeSpans": [ {
            "scope": { "name": "my.library", "version": "1.0.0", "attributes": [], "droppedAttributesCount": "1" },
            "spans": [ {
                "traceId": "5B8EFFF798038103d269b633813fc60c",
                "spanId": "EEE19B7EC3C1B174",
                "parentSpanId": "eee19b7ec3c1b173",
                "traceState": "ot=th:8",
                "flags": 769,
                "name": "I'm a \"server\" span\u2026",
                "kind": 2,
                "startTimeUnixNano": "1544712660000000001",
                "endTimeUnixNano": 1544712661000000003,
                "attributes": [ { "key": "n", "value": { "intValue": "-5" } } ],
                "droppedAttributesCount": 1,
                "events": [ { "timeUnixNano": "5", "name": "e", "attributes": [ { "key": "x" } ], "droppedAttributesCount": 2 } ],
                "droppedEventsCount": 3,
                "links": [ { "traceId": "5b8efff798038103d269b633813fc60d", "spanId": "eee19b7ec3c1b175",
                             "traceState": "a=b", "attributes": [ {} ], "droppedAttributesCount": 4, "flags": 1 } ],
                "droppedLinksCount": 5,
                "status": { "message": "no", "code": 2 }
            } ],
            "schemaUrl": "scope/1"
        } ],
        "schemaUrl": "resource/1"
    } ] }
    "#;
    let request = read(json).unwrap();
    let resource = &request.resource_spans[0];
    let (scope, envelope) = (&resource.scope_spans[0], resource.resource.as_ref().unwrap());
    assert_eq!((&envelope.attributes[0].key[..], envelope.dropped_attributes_count), (&b"service.name"[..], 7));
    assert_eq!((&resource.schema_url[..], &scope.schema_url[..]), (&b"resource/1"[..], &b"scope/1"[..]));
    let library = scope.scope.as_ref().unwrap();
    let library = (&library.name[..], &library.version[..], library.dropped_attributes_count);
    assert_eq!(library, (&b"my.library"[..], &b"1.0.0"[..], 1));
    let span = &scope.spans[0];
    assert_eq!(span.trace_id, 0x5b8e_fff7_9803_8103_d269_b633_813f_c60c_u128.to_be_bytes());
    assert_eq!(span.span_id, 0xeee1_9b7e_c3c1_b174_u64.to_be_bytes());
    assert_eq!(span.parent_span_id, 0xeee1_9b7e_c3c1_b173_u64.to_be_bytes());
    assert_eq!((&span.trace_state[..], span.flags, span.kind), (&b"ot=th:8"[..], 769, 2));
    assert_eq!(span.name, "I'm a \"server\" span…".as_bytes());
    assert_eq!(span.start_time_unix_nano, 1_544_712_660_000_000_001);
    assert_eq!(span.end_time_unix_nano, 1_544_712_661_000_000_003);
    assert_eq!(span.attributes[0].value.as_ref().unwrap().value, Some(Value::Int(-5)));
    let dropped = [span.dropped_attributes_count, span.dropped_events_count, span.dropped_links_count];
    assert_eq!(dropped, [1, 3, 5]);
    let event = &span.events[0];
    assert_eq!((event.time_unix_nano, &event.name[..], event.dropped_attributes_count), (5, &b"e"[..], 2));
    assert_eq!((&event.attributes[0].key[..], &event.attributes[0].value), (&b"x"[..], &None));
    let link = &span.links[0];
    assert_eq!(link.trace_id, 0x5b8e_fff7_9803_8103_d269_b633_813f_c60d_u128.to_be_bytes());
    assert_eq!(link.span_id, 0xeee1_9b7e_c3c1_b175_u64.to_be_bytes());
    assert_eq!((&link.trace_state[..], link.attributes.len()), (&b"a=b"[..], 1));
    assert_eq!((link.dropped_attributes_count, link.flags), (4, 1));
    let status = span.status.as_ref().unwrap();
    assert_eq!((&status.message[..], status.code), (&b"no"[..], 2));
}

#[test]
fn values_of_every_type_are_read() {
    for (json, expected) in [
        (r#"{"stringValue":""}"#, Some(Value::String(Vec::new()))),
        (r#"{"string_value":"x"}"#, Some(Value::String(b"x".to_vec()))),
        (r#"{"boolValue":false}"#, Some(Value::Bool(false))),
        (r#"{"intValue":"-9223372036854775808"}"#, Some(Value::Int(i64::MIN))),
        (r#"{"intValue":0}"#, Some(Value::Int(0))),
        (r#"{"intValue":1.5e3}"#, Some(Value::Int(1500))),
        (r#"{"doubleValue":0.1}"#, Some(Value::Double(0.1))),
        (r#"{"doubleValue":"-1e3"}"#, Some(Value::Double(-1000.0))),
        (r#"{"doubleValue":"Infinity"}"#, Some(Value::Double(f64::INFINITY))),
        (r#"{"doubleValue":"-Infinity"}"#, Some(Value::Double(f64::NEG_INFINITY))),
        (r#"{"bytesValue":"/+8="}"#, Some(Value::Bytes(vec![0xff, 0xef]))),
        (r#"{"bytesValue":""}"#, Some(Value::Bytes(Vec::new()))),
        (r#"{"stringValue":"first","boolValue":true}"#, Some(Value::Bool(true))),
        (r#"{"stringValue":null}"#, None),
        ("{}", None),
        ("null", None),
    ] {
        assert_eq!(read_value(json).as_ref(), Ok(&expected), "{json}");
    }
    let Ok(Some(Value::Double(double))) = read_value(r#"{"doubleValue":"NaN"}"#) else { panic!("a double") };
    assert!(double.is_nan());
    let Ok(Some(Value::Array(list))) = read_value(r#"{"arrayValue":{"values":[{"intValue":1},null,{}]}}"#) else {
        panic!("a list")
    };
    assert_eq!(list.values.len(), 3);
    let json = r#"{"kvlistValue":{"values":[{"key":"a","value":{"arrayValue":{"values":[]}}},{"key":"b"}]}}"#;
    let Ok(Some(Value::Map(map))) = read_value(json) else { panic!("a map") };
    assert_eq!(map.values.len(), 2);
}

#[test]
fn names_of_the_proto_files_and_of_enum_values_are_read() {
    let span = read_span(
        r#""trace_id":"00000000000000000000000000000001","kind":"SPAN_KIND_CONSUMER","dropped_events_count":4,"status":{"code":"STATUS_CODE_ERROR"}"#,
    );
    assert_eq!((span.trace_id[15], span.kind, span.dropped_events_count), (1, 5, 4));
    assert_eq!(span.status.unwrap().code, 2);
    assert_eq!(read_span(r#""kind":-1"#).kind, -1);
    assert_eq!(read_span(r#""kind":"3""#).kind, 3);
    assert_eq!(read_span(r#""\u006bind":4"#).kind, 4, "a name with an escape");
}

#[test]
fn null_is_a_default_and_what_is_unknown_is_ignored() {
    let nulls = r#""traceId":null,"name":null,"kind":null,"startTimeUnixNano":null,"attributes":null,"status":null"#;
    assert_eq!(read_span(nulls), read_span(""));
    let unknown = r#""future":{"a":[1,{"name":"inner"}],"kind":9},"name":"n","x":null,"names":"","":1"#;
    assert_eq!(read_span(unknown), read_span(r#""name":"n""#));
    assert_eq!(read(r#"{"resourceSpans":null}"#), Ok(ExportTraceServiceRequest::default()));
    assert_eq!(read("{}"), Ok(ExportTraceServiceRequest::default()));
    assert_eq!(read(" \r\n\t{ } \n"), Ok(ExportTraceServiceRequest::default()));
}

#[test]
fn of_a_field_written_twice_the_last_counts() {
    let span = read_span(
        r#""kind":2,"name":"a","flags":1,"spanId":"0000000000000001","kind":0,"name":"","flags":0,"spanId":"""#,
    );
    assert_eq!((span.kind, span.flags), (0, 0));
    assert!(span.name.is_empty() && span.span_id.is_empty());
    assert_eq!(read_span(r#""status":{"code":2},"status":{"code":0}"#).status.unwrap().code, 0);
    assert_eq!(read_span(r#""attributes":[{"key":"a"}],"attributes":[{"key":"b"}]"#).attributes.len(), 2);
}

#[test]
fn defaults_take_no_bytes() {
    let mut out = Vec::new();
    let fields = r#""parentSpanId":"","kind":0,"droppedLinksCount":0,"startTimeUnixNano":"0","attributes":[]"#;
    read_request(Signal::Traces, span(fields).as_bytes(), &mut out).unwrap();
    assert_eq!(out, [0x0a, 4, 0x12, 2, 0x12, 0]);
}

#[test]
fn long_texts_lists_and_maps_are_whole() {
    for length in [0, 127, 128, 16_383, 16_384, 300_000] {
        let text = "x".repeat(length);
        let value = read_value(&format!(r#"{{"stringValue":"{text}"}}"#)).unwrap();
        assert_eq!(value, Some(Value::String(text.clone().into_bytes())));
        let inner = format!(r#"{{"arrayValue":{{"values":[{{"stringValue":"{text}"}}]}}}}"#);
        let outer = nested(&inner, 5);
        let mut found = read_value(&outer).unwrap().unwrap();
        while let Value::Array(list) = found {
            found = list.values.into_iter().next().unwrap().value.unwrap();
        }
        assert_eq!(found, Value::String(text.into_bytes()));
    }
}

/// `value` inside this many lists.
fn nested(value: &str, depth: usize) -> String {
    let (open, close) = (r#"{"arrayValue":{"values":["#, "]}}");
    [&open.repeat(depth), value, &close.repeat(depth)].concat()
}

#[test]
fn values_nest_up_to_the_bound() {
    let bound = VALUE_DEPTH_MAX as usize;
    // prost gives up earlier, the index does not.
    let json = span(&format!(r#""attributes":[{{"value":{}}}]"#, nested("{}", bound)));
    let mut out = Vec::new();
    read_request(Signal::Traces, json.as_bytes(), &mut out).unwrap();
    SpanIndex::default().read_request(&out, 0).unwrap();
    let mut again = Vec::new();
    write_request(Signal::Traces, &out, &mut again).unwrap();
    assert_eq!(String::from_utf8(again).unwrap(), json);
    let error = read_value(&nested("{}", bound + 1)).unwrap_err();
    assert!(
        error.contains("expected lists and maps in a value nested at most 64 deep, found one level more"),
        "{error}"
    );
    assert!(error.len() < 500, "{error}");
    let endless = r#"{"arrayValue":{"values":["#.repeat(100_000);
    assert!(read_value(&endless).is_err());
    let endless = r#"{"kvlistValue":{"values":[{"value":"#.repeat(100_000);
    assert!(read_value(&endless).is_err());
}

#[test]
fn lists_of_numbers_end_a_step_too() {
    let numbers = vec!["4"; 5_000].join(",");
    let points = format!(r#"[{{"bucketCounts":[{numbers}],"explicitBounds":[{numbers}]}}]"#);
    let metric = format!(r#"{{"name":"m","histogram":{{"dataPoints":{points}}}}}"#);
    let json = format!(r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{metric}]}}]}}]}}"#);
    let mut whole = Vec::new();
    read_request(Signal::Metrics, json.as_bytes(), &mut whole).unwrap();
    let (mut transcoding, mut out) = (Transcoding::with_steps(Signal::Metrics, json.as_bytes(), 100), Vec::new());
    let mut steps = 0;
    while transcoding.step(&mut out).unwrap() == Step::More {
        steps += 1;
    }
    assert!(steps >= json.len() / 110, "{steps} steps for {} bytes", json.len());
    assert_eq!(out.len() - whole.len(), 2, "the lengths of the outer two messages are one byte longer");
}

#[test]
fn a_number_has_an_end() {
    let of = |digits: usize| read_span(&format!(r#""unknown":{}"#, "1".repeat(digits)));
    of(2 << 20);
    let long = span(&format!(r#""unknown":{}"#, "1".repeat((2 << 20) + 1)));
    let expected = "expected a number of at most 2097152 characters, found a long number";
    assert!(read(&long).unwrap_err().contains(expected));
}

fn check_error(json: &str, expected: &str) {
    assert_eq!(read(json).unwrap_err(), expected, "{json}");
}

#[test]
fn errors_name_field_place_and_expectation() {
    check_error(
        "",
        "expected an object: an ExportTraceServiceRequest, found the end of the body at line 1, column 1 (byte 0)",
    );
    check_error("[]", "expected an object: an ExportTraceServiceRequest, found a list at line 1, column 1 (byte 0)");
    check_error(
        "{\n  \"resourceSpans\": [{}, {\"scopeSpans\":\n[{\"spans\": [ {\"name\": 5} ]}]}]}",
        "resourceSpans[1].scopeSpans[0].spans[0].name: expected a string, found `5` at line 3, column 23 (byte 63)",
    );
    check_error(
        &span(r#""traceId":"abc""#),
        "resourceSpans[0].scopeSpans[0].spans[0].traceId: expected 32 hex digits or an empty string, \
         found a string of 3 bytes at line 1, column 55 (byte 54)",
    );
    check_error(
        &span(r#""spanId":"000000000000000g""#),
        "resourceSpans[0].scopeSpans[0].spans[0].spanId: expected 16 hex digits or an empty string, \
         found something else at line 1, column 54 (byte 53)",
    );
    check_error(
        &span(r#""kind":"SPAN_KIND_BOSS""#),
        "resourceSpans[0].scopeSpans[0].spans[0].kind: expected a whole number of 32 bits or the name of a value, \
         found a string at line 1, column 52 (byte 51)",
    );
    check_error(
        &span(r#""startTimeUnixNano":-1"#),
        "resourceSpans[0].scopeSpans[0].spans[0].startTimeUnixNano: \
         expected a whole number from 0 to 18446744073709551615, found `-1` at line 1, column 65 (byte 64)",
    );
    check_error("{} {}", "expected the end of the body, found an object at line 1, column 4 (byte 3)");
    check_error("{\"a\":1", "expected `,` or `}`, found the end of the body at line 1, column 7 (byte 6)");
    check_error("{\"a\" 1}", "expected `:`, found `1` at line 1, column 6 (byte 5)");
    check_error("{a:1}", "expected a field's name in quotes, found `a` at line 1, column 2 (byte 1)");
    check_error("{\"a\":01}", "expected a number as JSON writes it, found `01` at line 1, column 6 (byte 5)");
    check_error("{\"a\":\u{1}}", "expected a value, found byte 0x01 at line 1, column 6 (byte 5)");
}

#[test]
fn wrong_types_and_numbers_out_of_range_are_refused() {
    for fields in [
        r#""flags":4294967296"#,
        r#""flags":-1"#,
        r#""flags":1.5"#,
        r#""flags":"1 ""#,
        r#""flags":"""#,
        r#""flags":true"#,
        r#""kind":2147483648"#,
        r#""startTimeUnixNano":18446744073709551616"#,
        r#""startTimeUnixNano":"0x10""#,
        r#""attributes":{}"#,
        r#""attributes":[[]]"#,
        r#""status":[]"#,
        r#""traceId":5"#,
        r#""name":["a"]"#,
        r#""name":nul"#,
    ] {
        assert!(read(&span(fields)).is_err(), "{fields}");
    }
    for value in [
        r#"{"intValue":9223372036854775808}"#,
        r#"{"doubleValue":1e309}"#,
        r#"{"doubleValue":"inf"}"#,
        r#"{"doubleValue":"1e5x"}"#,
        r#"{"boolValue":1}"#,
        r#"{"boolValue":"true"}"#,
        r#"{"bytesValue":"%%"}"#,
    ] {
        assert!(read_value(value).is_err(), "{value}");
    }
}

#[test]
fn a_request_cut_anywhere_is_refused_whole() {
    let json = span(
        r#""traceId":"5b8efff798038103d269b633813fc60c","name":"\u00e9","attributes":[{"key":"a","value":{"doubleValue":-1.5e3}}],"x":[null]"#,
    );
    for end in 0..json.len() {
        assert!(read(&json[..end]).is_err(), "{}", &json[..end]);
    }
}

#[test]
fn numbers_of_a_million_digits_cost_no_more_than_reading_them() {
    let long = "7".repeat(1 << 20);
    assert!(read(&span(&format!(r#""flags":{long}"#))).is_err());
    assert!(read_value(&format!(r#"{{"doubleValue":{long}}}"#)).is_err());
    assert!(read_value(&format!(r#"{{"doubleValue":0.{long}}}"#)).is_ok());
    assert!(read_value(&format!(r#"{{"intValue":1e{long}}}"#)).is_err());
    assert!(read(&span(&format!(r#""unknown":{long}"#))).is_ok());
}

#[test]
fn answers_survive_the_round_trip() {
    assert_eq!(read_response(SUCCESS), Ok(None));
    assert_eq!(read_response(br#"{"partialSuccess":{}}"#), Ok(None));
    let partial = PartialSuccess { rejected_items: 7, error_message: "ids \"reused\"\n\u{1}é".to_owned() };
    let mut out = Vec::new();
    write_response(&partial, &mut out);
    assert_eq!(
        String::from_utf8(out.clone()).unwrap(),
        r#"{"partialSuccess":{"rejectedSpans":"7","errorMessage":"ids \"reused\"\n\u0001é"}}"#
    );
    assert_eq!(read_response(&out), Ok(Some(partial)));
    assert!(read_response(b"").is_err());
}

#[test]
fn a_request_is_written_as_the_specification_says() {
    let json = concat!(
        r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"a","value":{"stringValue":"é\"\\"}}]},"#,
        r#""scopeSpans":[{"scope":{"name":"lib"},"spans":[{"traceId":"5b8efff798038103d269b633813fc60c","#,
        r#""spanId":"eee19b7ec3c1b174","flags":257,"name":"n","kind":2,"startTimeUnixNano":"1544712660000000001","#,
        r#""attributes":[{"key":"i","value":{"intValue":"-5"}},{"key":"d","value":{"doubleValue":1e300}},"#,
        r#"{"key":"n","value":{"doubleValue":"NaN"}},{"key":"b","value":{"bytesValue":"/w=="}},{"key":"e","value":{}},"#,
        r#"{"key":"l","value":{"arrayValue":{"values":[{"boolValue":true},{"kvlistValue":{}}]}}}],"#,
        r#""status":{"code":2}}]}]}]}"#
    );
    let mut protobuf = Vec::new();
    read_request(Signal::Traces, json.as_bytes(), &mut protobuf).unwrap();
    let mut out = Vec::new();
    write_request(Signal::Traces, &protobuf, &mut out).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), json);
}

#[test]
fn scattered_and_repeated_fields_are_gathered() {
    let parts = [r#"{"resourceSpans":[{"schemaUrl":"a"}]}"#, r#"{"resourceSpans":[{"schemaUrl":"b"}]}"#];
    let mut protobuf = Vec::new();
    for (number, part) in parts.iter().enumerate() {
        read_request(Signal::Traces, part.as_bytes(), &mut protobuf).unwrap();
        crate::wire::write_varint_field(&mut protobuf, 99, number as u64);
    }
    let mut out = Vec::new();
    write_request(Signal::Traces, &protobuf, &mut out).unwrap();
    assert_eq!(out, br#"{"resourceSpans":[{"schemaUrl":"a"},{"schemaUrl":"b"}]}"#);
}
