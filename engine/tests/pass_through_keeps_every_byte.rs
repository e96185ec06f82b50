//! What no component was asked to change leaves as it came: unknown fields on every level, text that is no UTF-8, the
//! order and encoding inside a span. And where no node takes ownership, the sender is answered by the export itself.

mod common;

use codecs::grpc::Code;
use codecs::otlp::proto::{ExportTraceServiceRequest, Value};
use common::gateway::Setup;
use common::grpc::Call;
use common::traces::{Kind, Trace, request_of};
use common::{Answer, Engine, GrpcSender, HttpSender, Sink};
use prost::Message;

/// A field as it lies on the wire, with a length of one byte.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let length = u8::try_from(value.len()).expect("shorter than 128");
    assert!(number < 16 && length < 128);
    [&[number << 3 | 2, length], value].concat()
}

/// Numbers that OTLP does not have, of every wire type: 1000 as a varint, 1001 as 32 and 1002 as 64 bits, 1003 as bytes.
fn unknown(mark: u8) -> Vec<u8> {
    let varint = [0xc0, 0x3e, 0xff, 0x01];
    let fixed32 = [0xcd, 0x3e, mark, 0, 0, 1];
    let fixed64 = [0xd1, 0x3e, mark, 0, 0, 0, 0, 0, 0, 2];
    let bytes = [0xda, 0x3e, 3, mark, 0xfe, mark];
    [&varint[..], &fixed32, &fixed64, &bytes].concat()
}

/// Not UTF-8, whatever comes before or behind.
const TEXT: &[u8] = b"caf\xe9 \xff\xfe";

/// A request by hand: what a sender of a later version could send. Returns it with the span, the unknown bytes of its
/// envelopes, and the attribute of its resource.
struct Sample {
    request: Vec<u8>,
    parts: Vec<(&'static str, Vec<u8>)>,
}

fn sample() -> Sample {
    let attribute = |key: &[u8], value: &[u8]| [field(1, key), field(2, &field(1, value))].concat();
    let span = [
        field(1, &[7; 16]),
        field(2, &[9; 8]),
        field(5, TEXT),
        // A varint written longer than it must be: canonical or not, it is the sender's.
        vec![0x30, 0x82, 0x80, 0x00],
        unknown(0xa1),
        field(9, &attribute(b"note", TEXT)),
        // A status twice: the last code counts, both stay.
        field(15, &[0x18, 0x01]),
        field(15, &[0x18, 0x02]),
    ]
    .concat();
    let resource_attribute = field(1, &attribute(b"service.name", TEXT));
    let resource = [resource_attribute.clone(), unknown(0xb2)].concat();
    let scope = [field(1, TEXT), unknown(0xc3)].concat();
    let scope_spans = [long_field(1, &scope), long_field(2, &span), field(3, b"schema"), unknown(0xd4)].concat();
    let resource_spans =
        [long_field(1, &resource), long_field(2, &scope_spans), field(3, b"schema"), unknown(0xe5)].concat();
    let request = long_field(1, &resource_spans);
    let parts = vec![
        ("the span", long_field(2, &span)),
        ("unknown fields of the resource", unknown(0xb2)),
        ("the resource's attribute", resource_attribute),
        ("the scope", long_field(1, &scope)),
        ("unknown fields of ScopeSpans", unknown(0xd4)),
        ("unknown fields of ResourceSpans", unknown(0xe5)),
        ("the schema", field(3, b"schema")),
    ];
    Sample { request, parts }
}

fn long_field(number: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    prost::encoding::encode_varint(value.len() as u64, &mut out);
    out.extend_from_slice(value);
    out
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// The one request at the sink after `sample` went through these processors, over both protocols.
fn through(setup: impl Fn() -> Setup<'static>) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for http in [false, true] {
        let sink = Sink::start();
        let gateway = setup().otlp("otlp", sink.address, "").start();
        let request = sample().request;
        let answer = match http {
            false => GrpcSender::connect(gateway.grpc).send(&request),
            true => HttpSender::connect(gateway.http).send(&request).answer(),
        };
        assert_eq!(answer, Answer::Taken);
        gateway.stop().assert_nothing_lost();
        let requests = sink.requests();
        assert_eq!(requests.len(), 1);
        out.push(requests[0].to_vec());
    }
    out
}

#[test]
fn without_processors() {
    let Sample { request, parts } = sample();
    for arrived in through(|| Setup::new(Engine::epoll(1))) {
        for (what, part) in &parts {
            assert!(contains(&arrived, part), "{what} is not as it came");
        }
        assert_eq!(arrived.len(), request.len(), "and nothing was added");
    }
}

#[test]
fn through_tail_sampling() {
    let keep = "{decision_wait: 1h, policies: [{name: all, type: always_sample}]}";
    for arrived in through(|| Setup::new(Engine::epoll(2)).processor("tail_sampling", keep)) {
        for (what, part) in sample().parts {
            assert!(contains(&arrived, &part), "{what} is not as it came");
        }
        assert_eq!(arrived.len(), sample().request.len(), "and nothing was added");
    }
}

#[test]
fn through_batch_and_a_resource_processor_that_changes_something_else() {
    let setup = || {
        Setup::new(Engine::epoll(1))
            .processor("batch", "{timeout: 1h}")
            .processor("resource", "{attributes: [{key: region, value: eu, action: upsert}]}")
    };
    for arrived in through(setup) {
        for (what, part) in sample().parts {
            assert!(contains(&arrived, &part), "{what} is not as it came");
        }
        let decoded = ExportTraceServiceRequest::decode(&arrived[..]).expect("a sound request");
        let resource = decoded.resource_spans[0].resource.as_ref().expect("a resource");
        let region = resource.attributes.iter().find(|attribute| attribute.key == b"region").expect("was added");
        let value = region.value.as_ref().and_then(|value| value.value.clone());
        assert_eq!(value, Some(Value::String(b"eu".to_vec())));
    }
}

#[test]
fn without_an_owner_the_sender_is_answered_by_the_export() {
    let sink = Sink::start();
    sink.hold();
    let more = "timeout: 0s, sending_queue: {enabled: false}, retry_on_failure: {enabled: false}";
    let gateway = Setup::new(Engine::epoll(1)).otlp("otlp", sink.address, more).start();
    let sender = GrpcSender::connect(gateway.grpc);
    let trace = |number| Trace { number, spans: 3, kind: Kind::Plain };
    let pending = sender.begin(Call::plain(&request_of(&[trace(1)])));
    sink.wait_for_asked(1);
    assert_eq!(pending.look(), None, "the backend has not answered, so the gateway has not");
    assert_eq!(gateway.ledger().intake("accepted"), 0);
    sink.take();
    assert_eq!(pending.wait(), Answer::Taken);

    sink.refuse(Code::InvalidArgument);
    let refused = sender.send(&request_of(&[trace(2)]));
    assert_eq!(refused.status().code, Code::InvalidArgument, "the data is at fault, and who sent it hears that");
    assert_eq!(refused.status().retry_delay, None);
    sink.refuse(Code::PermissionDenied);
    let refused = sender.send(&request_of(&[trace(2)]));
    assert_eq!(refused.status().code, Code::Internal, "permanent behind us, permanent in front");
    assert_eq!(refused.status().retry_delay, None);
    sink.refuse(Code::Unavailable);
    let refused = sender.send(&request_of(&[trace(3)]));
    assert_eq!(refused.status().code, Code::Unavailable, "not now behind us, not now in front");
    sink.take();
    assert_eq!(sender.send(&request_of(&[trace(3)])), Answer::Taken, "the sender comes back with it");
    let ending = gateway.stop();
    assert_eq!(ending.status.code(), Some(0));
    assert!(!ending.sentence.contains("DOES NOT BALANCE"), "{}", ending.said);
    let arrived: Vec<usize> = sink.spans().into_values().collect();
    assert_eq!(arrived, [1; 6], "two traces, each span once");
}
