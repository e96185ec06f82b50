//! JSON requests against a naive twin and the examples of real exporters.

mod support;

use codecs::fuzzing::{check_json, json_from};
use codecs::json::{read_request, write_request};
use codecs::otlp::Signal;
use codecs::otlp::proto::ExportTraceServiceRequest;
use proptest::prelude::*;
use prost::Message;

fn json_of(request: &ExportTraceServiceRequest) -> Vec<u8> {
    let mut json = Vec::new();
    write_request(Signal::Traces, &request.encode_to_vec(), &mut json).expect("a sound request");
    json
}

#[test]
fn a_real_request_survives_the_way_there_and_back() {
    for request in [support::shop_request(4, 64), support::troubled_request(2, 16)] {
        let json = json_of(&request);
        check_json(&json);
        let mut protobuf = Vec::new();
        read_request(Signal::Traces, &json, &mut protobuf).unwrap();
        assert_eq!(ExportTraceServiceRequest::decode(&protobuf[..]).unwrap(), request);
        // Indented, as people write files.
        let tree: serde_json::Value = serde_json::from_slice(&json).unwrap();
        check_json(&serde_json::to_vec_pretty(&tree).unwrap());
    }
}

#[test]
fn a_request_with_any_byte_changed_is_judged_like_the_twin_judges_it() {
    let json = json_of(&support::shop_request(1, 1));
    for place in 0..json.len() {
        for byte in *b"\"\\{}[]:,0x-e. n\xff\x01" {
            let mut changed = json.clone();
            changed[place] = byte;
            check_json(&changed);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn shaped_requests_agree_with_the_twin(choices in prop::collection::vec(any::<u8>(), 0..1500)) {
        check_json(json_from(&choices).as_bytes());
    }

    #[test]
    fn shaped_requests_cut_or_changed_agree_with_the_twin(
        choices in prop::collection::vec(any::<u8>(), 0..600),
        place in any::<prop::sample::Index>(),
        byte in prop::sample::select(b"\"\\{}[]:,0159-+e.ntu \n\x00\xff".to_vec()),
        is_cut in any::<bool>(),
    ) {
        let mut json = json_from(&choices).into_bytes();
        let place = place.index(json.len());
        json[place] = byte;
        if is_cut {
            json.truncate(place);
        }
        check_json(&json);
    }

    #[test]
    fn doubles_and_integers_survive_the_way_through_json(double in any::<f64>(), whole in any::<i64>()) {
        use codecs::otlp::proto::*;
        let value = |value| KeyValue { key: b"k".to_vec(), value: Some(AnyValue { value: Some(value) }) };
        let attributes = vec![value(Value::Double(double)), value(Value::Int(whole))];
        let resource = Resource { attributes, dropped_attributes_count: 0 };
        let resource_spans = vec![ResourceSpans { resource: Some(resource), ..ResourceSpans::default() }];
        let request = ExportTraceServiceRequest { resource_spans };
        let mut protobuf = Vec::new();
        read_request(Signal::Traces, &json_of(&request), &mut protobuf).unwrap();
        let again = ExportTraceServiceRequest::decode(&protobuf[..]).unwrap();
        if !double.is_nan() {
            prop_assert_eq!(again, request);
        }
    }
}
