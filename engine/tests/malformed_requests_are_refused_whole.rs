//! Bytes that are no request get the documented answer (the Collector's receiver), nothing of them is accepted, and
//! nobody else notices: good requests on other connections go on between any two bad ones.

mod common;

use bytes::Bytes;
use codecs::compression::{Compression, Compressor};
use codecs::grpc::Code;
use codecs::otlp::proto::ExportTraceServiceRequest;
use common::gateway::{Setup, wait_until_empty};
use common::grpc::{Call, framed};
use common::traces::{Kind, Trace, request_of};
use common::{Answer, Engine, Gateway, GrpcSender, HttpSender, Sink};
use prost::Message;
use std::collections::BTreeSet;

/// The receivers' limits in this test, after decompression.
const GRPC_BYTES_MAX: usize = 1 << 20;
const HTTP_BYTES_MAX: usize = 1 << 20;

/// A gateway with a connection that sends good requests between the bad ones.
struct Bench {
    gateway: Gateway,
    sink: Sink,
    good: GrpcSender,
    good_traces: Vec<Trace>,
    /// Bad requests that came far enough to be counted by the receiver.
    rejected: u64,
}

impl Bench {
    fn start() -> Bench {
        let sink = Sink::start();
        let gateway = Setup {
            grpc: "max_recv_msg_size_mib: 1",
            http: "max_request_body_size: 1048576",
            ..Setup::new(Engine::epoll(2))
        };
        let gateway = gateway.otlp("otlp", sink.address, "").start();
        let good = GrpcSender::connect(gateway.grpc);
        Bench { gateway, sink, good, good_traces: Vec::new(), rejected: 0 }
    }

    fn send_good(&mut self) {
        let trace = Trace { number: self.good_traces.len() as u64, spans: 2, kind: Kind::Plain };
        assert_eq!(self.good.send(&request_of(&[trace])), Answer::Taken, "a good request beside bad ones");
        self.good_traces.push(trace);
    }

    /// Exactly the good requests are in the books and at the sink.
    fn end(mut self) {
        self.send_good();
        let sent: BTreeSet<_> = self.good_traces.iter().flat_map(Trace::span_ids).collect();
        self.sink.wait_for_spans(sent.len());
        let ledger = wait_until_empty(&self.gateway, &["otlp"]);
        let spans = sent.len() as u64;
        let intake = ["offered", "accepted", "refused", "rejected"].map(|term| ledger.intake(term));
        assert_eq!(intake, [spans, spans, 0, 0], "nothing of a bad request is accepted");
        assert!(ledger.intake("rejected_requests") >= self.rejected, "each rejected request is counted");
        if self.rejected > 0 {
            let said = self.gateway.said();
            let line = said.lines().find(|line| line.contains("A request was rejected: "));
            let line = line.unwrap_or_else(|| panic!("the first of a kind is said: {said}"));
            assert!(line.contains("127.0.0.1") && line.contains("otlp"), "who sent it, and to whom: {line}");
        }
        assert_eq!(ledger.account("otlp", "delivered"), spans);
        assert_eq!(self.sink.spans().into_keys().collect::<BTreeSet<_>>(), sent);
        self.gateway.stop().assert_nothing_lost();
    }
}

/// What a request would be that the next cases spoil.
fn sound() -> Bytes {
    request_of(&[Trace { number: 1 << 40, spans: 2, kind: Kind::ErrorIn(1) }])
}

/// One message with one field changed.
fn spoiled(spoil: impl FnOnce(&mut codecs::otlp::proto::Span)) -> Vec<u8> {
    let mut request = ExportTraceServiceRequest::decode(sound()).expect("it is sound");
    spoil(&mut request.resource_spans[0].scope_spans[0].spans[0]);
    request.encode_to_vec()
}

/// Messages that are no `ExportTraceServiceRequest`, by what is wrong with them.
fn malformed() -> Vec<(String, Vec<u8>)> {
    let sound = sound();
    let mut all: Vec<(String, Vec<u8>)> =
        (1..sound.len()).map(|end| (format!("cut after {end} bytes"), sound[..end].to_vec())).collect();
    let mut add = |what: &str, bytes: Vec<u8>| all.push((what.to_owned(), bytes));
    add("resource_spans as a varint", vec![0x08, 0x01]);
    add("resource_spans as 64 bits", vec![0x09, 1, 2, 3, 4, 5, 6, 7, 8]);
    add("resource_spans as a group", vec![0x0b, 0x0c]);
    add("a group that nobody opened", vec![0x0c]);
    add("wire type 6", vec![0x0e, 0x00]);
    add("field number 0", vec![0x02, 0x00]);
    add("a length past the end", vec![0x0a, 0x7f, 0x00]);
    add("a length of 64 bits", vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    add("a varint of eleven bytes", [&[0x0a][..], &[0x80; 10], &[0x00]].concat());
    // Two messages around a span whose first field, the trace id, is a number.
    add("a trace id as a varint", vec![0x0a, 0x06, 0x12, 0x04, 0x12, 0x02, 0x08, 0x01]);
    add("a trace id of 15 bytes", spoiled(|span| span.trace_id.truncate(15)));
    add("a trace id of 17 bytes", spoiled(|span| span.trace_id.push(0)));
    add("a span id of 7 bytes", spoiled(|span| span.span_id.truncate(7)));
    add("a parent id of 9 bytes", spoiled(|span| span.parent_span_id = vec![1; 9]));
    add("plain text", b"hello, is this the gateway?".to_vec());
    all
}

fn compressed(compression: Compression, plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Compressor::default().compress(compression, None, plain, &mut out);
    out
}

type Encodings = [(Compression, &'static str)];

const GRPC_ENCODINGS: [(Compression, &str); 3] =
    [(Compression::Gzip, "gzip"), (Compression::Zstd, "zstd"), (Compression::SnappyFramed, "snappy")];
const HTTP_ENCODINGS: [(Compression, &str); 6] = [
    (Compression::Gzip, "gzip"),
    (Compression::Zstd, "zstd"),
    (Compression::Deflate, "deflate"),
    (Compression::Snappy, "snappy"),
    (Compression::SnappyFramed, "x-snappy-framed"),
    (Compression::Lz4, "lz4"),
];

/// Encoded bodies that must not be unpacked to their end, and those that cannot be.
fn bombs(encodings: &Encodings) -> Vec<(&'static str, Vec<u8>)> {
    // Snappy needs a twentieth of it.
    let zeros = vec![0; 16 << 20];
    encodings.iter().map(|(compression, name)| (*name, compressed(*compression, &zeros))).collect()
}

fn broken(encodings: &Encodings) -> Vec<(String, &'static str, Vec<u8>)> {
    let mut all = Vec::new();
    for &(compression, name) in encodings {
        let sound = compressed(compression, &sound());
        // Nothing at all is a zstd stream of no frames, so a request without spans: the cuts begin behind it. So is what
        // every framed snappy stream begins with.
        let is_empty = |end: &usize| compression == Compression::SnappyFramed && *end == 10;
        for end in (1..sound.len()).filter(|end| !is_empty(end)) {
            all.push((format!("{name} cut after {end} bytes"), name, sound[..end].to_vec()));
        }
        all.push((format!("{name} that is none"), name, b"certainly not compressed".to_vec()));
    }
    all
}

#[test]
fn over_grpc() {
    let mut bench = Bench::start();
    let bad = GrpcSender::connect(bench.gateway.grpc);
    let answer = |call: Call, code: Code, what: &str| {
        let Answer::Status(status) = bad.begin(call).wait() else { panic!("{what}: taken, or broken") };
        assert_eq!(status.code, code, "{what}: {status}");
        assert_eq!(status.retry_delay, None, "{what}: nobody shall send that again");
    };
    for (number, (what, message)) in malformed().into_iter().enumerate() {
        answer(Call::plain(&message), Code::InvalidArgument, &what);
        bench.rejected += 1;
        if number % 50 == 0 {
            bench.send_good();
        }
    }
    for (number, (what, name, message)) in broken(&GRPC_ENCODINGS).into_iter().enumerate() {
        answer(Call::encoded(name, &message), Code::InvalidArgument, &what);
        bench.rejected += 1;
        if number % 50 == 0 {
            bench.send_good();
        }
    }
    for (name, bomb) in bombs(&GRPC_ENCODINGS) {
        assert!(bomb.len() < GRPC_BYTES_MAX, "it is small when it comes");
        answer(Call::encoded(name, &bomb), Code::ResourceExhausted, name);
        bench.rejected += 1;
        bench.send_good();
    }
    let call = |framed: Bytes| Call { framed, ..Call::plain(b"") };
    let encoding = |name: &str| Call { encoding: Some(name.to_owned()), ..call(framed(true, &sound())) };
    answer(encoding("deflate"), Code::Unimplemented, "deflate, which HTTP has and gRPC has not");
    answer(encoding("no such thing"), Code::Unimplemented, "an encoding nobody has heard of");
    answer(call(framed(true, &sound())), Code::Internal, "compressed, but nothing says how");
    answer(call([&[2][..], &framed(false, &sound())[1..]].concat().into()), Code::Internal, "a flag of 2");
    answer(call(framed(false, &vec![0; GRPC_BYTES_MAX + 1])), Code::ResourceExhausted, "a message beyond the limit");
    answer(call(framed(false, &[0; 9]).slice(..10)), Code::InvalidArgument, "less than the prefix announces");
    let more = [&framed(false, &sound())[..], &[0]].concat();
    answer(call(more.into()), Code::InvalidArgument, "more than the prefix announces");
    answer(call(Bytes::new()), Code::InvalidArgument, "no message at all");
    answer(call(Bytes::from_static(&[0, 0])), Code::InvalidArgument, "a prefix cut short");
    let path = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export".to_owned();
    answer(Call { path, ..Call::plain(&sound()) }, Code::Unimplemented, "a signal that is not configured");
    // The connection that said all this is as good as any other; a request without spans asks for nothing.
    assert_eq!(bad.send(b""), Answer::Taken, "a request without spans");
    bench.end();
}

#[test]
fn over_http() {
    let mut bench = Bench::start();
    let mut bad = HttpSender::connect(bench.gateway.http);
    let mut answer = |body: &[u8], encoding: Option<&str>, what: &str| {
        let response = bad.send_encoded(body, encoding);
        assert_eq!(response.status, 400, "{what}");
        assert_eq!(response.headers["content-type"], "application/x-protobuf", "{what}");
        assert!(!response.headers.contains_key("retry-after"), "{what}: nobody shall send that again");
        assert_eq!(response.answer().status().code, Code::InvalidArgument, "{what}");
    };
    for (number, (what, message)) in malformed().into_iter().enumerate() {
        answer(&message, None, &what);
        bench.rejected += 1;
        if number % 50 == 0 {
            bench.send_good();
        }
    }
    for (what, name, message) in broken(&HTTP_ENCODINGS) {
        answer(&message, Some(name), &what);
        bench.rejected += 1;
    }
    for (name, bomb) in bombs(&HTTP_ENCODINGS) {
        assert!(bomb.len() < HTTP_BYTES_MAX, "it is small when it comes");
        answer(&bomb, Some(name), name);
        bench.rejected += 1;
    }
    answer(&sound(), Some("br"), "an encoding of browsers");
    answer(&sound(), Some("no such thing"), "an encoding nobody has heard of");
    answer(&vec![0; HTTP_BYTES_MAX + 1], None, "a body beyond the limit");
    let protobuf = [("content-type", "application/x-protobuf")];
    type Headers<'a> = &'a [(&'a str, &'a str)];
    let rows: [(&str, &str, Headers<'_>, u16, &str); 5] = [
        ("POST", "/v1/trace", &protobuf, 404, "404 page not found"),
        ("GET", "/v1/traces", &protobuf, 405, "405 method not allowed, supported: [POST]"),
        ("PUT", "/v1/traces", &protobuf, 405, "405 method not allowed, supported: [POST]"),
        ("POST", "/v1/traces", &[("content-type", "text/plain")], 415, "415 unsupported media type"),
        ("POST", "/v1/traces", &[], 415, "415 unsupported media type"),
    ];
    for (method, path, headers, status, text) in rows {
        let response = bad.request(method, path, headers, &sound());
        assert_eq!(response.status, status, "{method} {path}");
        assert!(response.headers["content-type"].starts_with("text/plain"), "{method} {path}");
        let body = String::from_utf8_lossy(&response.body).into_owned();
        assert!(body.starts_with(text), "{method} {path}: {body}");
        bench.send_good();
    }
    assert_eq!(bad.send(b"").answer(), Answer::Taken, "a request without spans, on the same connection");
    bench.end();
}
