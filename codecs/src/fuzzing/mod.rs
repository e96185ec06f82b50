//! What fuzz targets run and `cargo test` replays: each function takes any bytes and panics if a promise is broken.
//!
//! Not part of the interface. The checks live beside the code so that a corpus file, a property test and a fuzzer's
//! find are judged by the same lines.

mod item_twin;
mod json_twin;
#[allow(missing_docs, reason = "names and meaning are those of the .proto files")]
pub mod metrics_proto;
mod records;
pub mod remote_write;
mod schema;
mod segment;
mod twin;

pub use item_twin::{check_cut, check_logs, check_metrics};
pub use json_twin::{check_json, json_from};
pub use records::fuzz_records;
pub use schema::{ANY_VALUE, FieldKind, KEY_VALUE, MESSAGES, Message, REQUEST, SPAN, request_from, request_of, wrap};
pub use segment::{check_segment_damage, fuzz_segment, segment_of};
pub use twin::{check_merge, check_request, check_subset};

use std::io::Read;

use crate::compression::{Compression, Compressor, DecompressError, Decompressor};
use crate::grpc::{Deframer, Status, base64};
use crate::otlp::attributes::Value;
use crate::otlp::{
    Signal, TextAttribute, read_response, resource_attributes, span_attributes, span_trace_state, write_marked_span,
};
use crate::wire::Reader;

/// Any bytes as a request: the index agrees with the twin.
pub fn fuzz_index(bytes: &[u8]) {
    check_request(bytes);
    check_subset(bytes, |number| number % 3 != 1);
}

/// Any bytes as choices of a request's shape: deeper places than random bytes reach.
pub fn fuzz_index_shaped(choices: &[u8]) {
    let bytes = request_from(choices);
    check_request(&bytes);
    check_subset(&bytes, |number| choices.get(number as usize).is_some_and(|choice| choice % 2 == 0));
    check_merge(&bytes, choices);
}

/// Any bytes as a metrics request and as a logs request, in protobuf and in JSON: index and transcoder agree with the twin.
pub fn fuzz_signals(bytes: &[u8]) {
    check_metrics(bytes);
    check_logs(bytes);
    check_cut(bytes, 2, 3);
    for signal in [Signal::Metrics, Signal::Logs] {
        let mut protobuf = Vec::new();
        if crate::json::read_request(signal, bytes, &mut protobuf).is_ok() {
            match signal {
                Signal::Metrics => check_metrics(&protobuf),
                _ => check_logs(&protobuf),
            }
        }
    }
}

/// Any bytes as choices of such a request's shape: deeper places than random bytes reach.
pub fn fuzz_signals_shaped(choices: &[u8]) {
    check_logs(&request_of(Signal::Logs, choices));
    let metrics = request_of(Signal::Metrics, choices);
    check_metrics(&metrics);
    let [first, each] = [0, 1].map(|at| choices.get(at).map_or(1, |choice| u32::from(choice % 4) + 1));
    check_cut(&metrics, first, each);
}

/// Any bytes as a request in JSON: the transcoder agrees with the twin.
pub fn fuzz_json(bytes: &[u8]) {
    check_json(bytes);
    let _ = crate::json::read_response(bytes);
    let _ = Status::decode_json(bytes);
    for signal in Signal::ALL {
        let _ = crate::json::write_request(signal, bytes, &mut Vec::new());
    }
}

/// Any bytes as choices of a JSON request's shape: deeper places than random bytes reach.
pub fn fuzz_json_shaped(choices: &[u8]) {
    check_json(json_from(choices).as_bytes());
}

/// Any bytes as a metrics request on its way to remote write: no panic, and every point is accounted for.
pub fn fuzz_remote_write(bytes: &[u8]) {
    remote_write::check_any_bytes(bytes);
}

/// Any bytes as choices of a metrics request's shape: the translator agrees with the twin.
pub fn fuzz_remote_write_shaped(choices: &[u8]) {
    remote_write::check_choices(choices);
}

/// Any bytes as a resource envelope and as the answer of a server.
pub fn fuzz_messages(bytes: &[u8]) {
    let _ = read_response(bytes);
    let _ = Status::decode(bytes);
    for attribute in resource_attributes(bytes) {
        let _ = Value::read(attribute.value);
    }
    let mut reader = Reader::new("unchecked", bytes);
    while let Ok(Some(tag)) = reader.tag() {
        if reader.skip(tag).is_err() {
            break;
        }
    }
    let mark = TextAttribute { key: b"why", text: b"errors" };
    let mut marked = Vec::new();
    write_marked_span(bytes, Some(b"ot=th:8"), &[mark], &mut marked);
    assert_eq!(span_trace_state(&marked), b"ot=th:8", "a span has the trace state that was written");
    assert_eq!(span_attributes(&marked).filter(|attribute| attribute.key == mark.key).count(), 1);
}

/// Any bytes as a compressed body and as a plain one.
pub fn fuzz_compression(bytes: &[u8]) {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        check_compression(compression, bytes);
    }
}

/// Any bytes as a zlib body and as a plain one.
pub fn fuzz_zlib(bytes: &[u8]) {
    check_compression(Compression::Deflate, bytes);
}

/// Any bytes as a snappy body, framed or not, and as a plain one.
pub fn fuzz_snappy(bytes: &[u8]) {
    check_compression(Compression::Snappy, bytes);
    check_compression(Compression::SnappyFramed, bytes);
}

/// Any bytes as an LZ4 body and as a plain one.
pub fn fuzz_lz4(bytes: &[u8]) {
    check_compression(Compression::Lz4, bytes);
}

fn check_compression(compression: Compression, bytes: &[u8]) {
    const BYTES_MAX: usize = 1 << 16;
    let mut decompressor = Decompressor::default();
    let mut out = Vec::new();
    let read = decompressor.decompress(compression, bytes, BYTES_MAX, &mut out);
    assert!(out.len() <= BYTES_MAX, "the bound holds");
    match compression {
        Compression::Gzip => check_streamed(flate2::read::MultiGzDecoder::new(bytes), BYTES_MAX, read, &out),
        Compression::Deflate => check_streamed(flate2::read::ZlibDecoder::new(bytes), BYTES_MAX, read, &out),
        _ => {}
    }
    let mut body = Vec::new();
    Compressor::default().compress(compression, None, bytes, &mut body);
    decompressor.decompress(compression, &body, bytes.len(), &mut out).expect("what was compressed is plain again");
    assert_eq!(out, bytes);
}

/// What the one-shot decoder accepts, a streaming decoder reads as the same bytes.
fn check_streamed(streamed: impl Read, bytes_max: usize, read: Result<(), DecompressError>, plain: &[u8]) {
    if read.is_ok() {
        let mut twin = Vec::new();
        let whole = streamed.take(bytes_max as u64 + 1).read_to_end(&mut twin);
        assert!(whole.is_err() || twin == plain, "both decoders agree");
    }
}

/// Any bytes as what surrounds a gRPC message.
pub fn fuzz_grpc(bytes: &[u8]) {
    let mut deframer = Deframer::new(1 << 20);
    let mut rest = bytes;
    while let Ok(Some(prefix)) = deframer.take(&mut rest) {
        assert!(prefix.length <= 1 << 20, "the bound holds");
        rest = &rest[rest.len().min(prefix.length)..];
    }
    let text = String::from_utf8_lossy(bytes);
    let status = Status::from_trailers(Some(bytes), Some(bytes), Some(bytes));
    let again = Status { message: text.into_owned(), ..status };
    let read = Status::from_trailers(
        Some(again.code.number().to_string().as_bytes()),
        Some(again.percent_encoded_message().as_bytes()),
        Some(again.details_header().as_bytes()),
    );
    assert_eq!(read, again, "a status survives its trailers");
    assert_eq!(base64::decode(base64::encode(bytes).as_bytes()).as_deref(), Some(bytes));
}
