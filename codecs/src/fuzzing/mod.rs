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
#[cfg(test)]
pub(crate) use json_twin::check_steps as check_json_steps;
pub use json_twin::{check_json, json_from};
pub use records::fuzz_records;
pub use schema::{ANY_VALUE, FieldKind, KEY_VALUE, MESSAGES, Message, REQUEST, SPAN, request_from, request_of, wrap};
pub use segment::{check_segment_damage, fuzz_segment, segment_of};
pub use twin::{check_merge, check_request, check_subset};

use std::io::Read;

use crate::compression::{Compression, Compressor, DecompressError, Decompressor, Step, Unpacking};
use crate::grpc::{Deframer, PREFIX_BYTES, Prefix, PrefixError, Status, base64, prefix, read_prefix};
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
    check_unpacking(compression, bytes, BYTES_MAX, read.is_ok().then_some(&out));
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

/// In steps a body becomes what it becomes at once, or nothing.
fn check_unpacking(compression: Compression, body: &[u8], bytes_max: usize, expected: Option<&Vec<u8>>) {
    let (mut unpacking, mut out) = (Unpacking::begin(compression, body, bytes_max), Vec::new());
    // Each step reads or writes something.
    for _ in 0..=2 * (body.len() + bytes_max) {
        let step = unpacking.step(&mut out);
        assert!(out.len() <= bytes_max, "the bound holds");
        match step {
            Ok(Step::More) => {}
            Ok(Step::Done) => return assert_eq!(Some(&out), expected, "{compression:?} in steps"),
            Err(_) => return assert_eq!(None, expected, "{compression:?} in steps"),
        }
    }
    panic!("{compression:?} in steps has no end");
}

/// What the one-shot decoder accepts, a streaming decoder reads as the same bytes.
fn check_streamed(streamed: impl Read, bytes_max: usize, read: Result<(), DecompressError>, plain: &[u8]) {
    if read.is_ok() {
        let mut twin = Vec::new();
        let whole = streamed.take(bytes_max as u64 + 1).read_to_end(&mut twin);
        assert!(whole.is_err() || twin == plain, "both decoders agree");
    }
}

/// Any bytes as what surrounds a gRPC message: a status, and messages that frames cut anywhere.
pub fn fuzz_grpc(bytes: &[u8]) {
    check_status(bytes);
    let (cuts, stream) = cuts_from(bytes);
    let read = gather_messages(stream, cuts);
    assert_eq!(read, gather_naively(stream), "cut by {cuts:?}");
    let (mut decompressor, mut out) = (Decompressor::default(), Vec::new());
    for (_, message) in read.messages.iter().filter(|(compressed, _)| *compressed) {
        for compression in GRPC_COMPRESSIONS {
            let _ = decompressor.decompress(compression, message, GRPC_BYTES_MAX, &mut out);
            assert!(out.len() <= GRPC_BYTES_MAX, "the bound holds");
        }
    }
    check_messages_sent(stream, cuts);
}

/// What names in `grpc-encoding` mean.
const GRPC_COMPRESSIONS: [Compression; 4] =
    [Compression::None, Compression::Gzip, Compression::Zstd, Compression::SnappyFramed];

/// Messages of a fuzzed stream are at most this long, so that it reaches the bound.
const GRPC_BYTES_MAX: usize = 1 << 12;

/// What a stream of gRPC messages holds, and how it ends.
#[derive(Debug, PartialEq, Eq)]
struct Gathered<'a> {
    messages: Vec<(bool, &'a [u8])>,
    fault: Option<PrefixError>,
    /// It ends within a prefix, or within a message that is not among the others.
    is_cut: bool,
}

/// The lengths of pieces, which repeat, and the stream that they cut: one byte says how many lengths follow it.
fn cuts_from(bytes: &[u8]) -> (&[u8], &[u8]) {
    let Some((count, rest)) = bytes.split_first() else { return (&[], &[]) };
    rest.split_at(rest.len().min(usize::from(count % 8)))
}

/// As a server gathers them: piece by piece, never looking back.
fn gather_messages<'a>(stream: &'a [u8], cuts: &[u8]) -> Gathered<'a> {
    let mut deframer = Deframer::new(GRPC_BYTES_MAX);
    let (mut messages, mut begun, mut at) = (Vec::new(), None::<Prefix>, 0);
    let mut lengths = cuts.iter().map(|cut| usize::from(*cut).max(1)).cycle();
    while at < stream.len() {
        let end = stream.len().min(at + lengths.next().unwrap_or(stream.len()));
        while at < end || begun.is_some_and(|prefix| prefix.length == 0) {
            if let Some(prefix) = begun {
                let start = messages.last().map_or(0, |(_, end)| *end) + PREFIX_BYTES;
                at = end.min(start + prefix.length);
                if at < start + prefix.length {
                    break;
                }
                messages.push((prefix.compressed, at));
                begun = None;
                continue;
            }
            let mut input = &stream[at..end];
            match deframer.take(&mut input) {
                Ok(prefix) => begun = prefix,
                Err(fault) => return gathered(stream, &messages, Some(fault), false),
            }
            at = end - input.len();
        }
    }
    gathered(stream, &messages, None, begun.is_some() || deframer.is_inside_prefix())
}

/// The messages that end at these places, each with its prefix before it.
fn gathered<'a>(stream: &'a [u8], ends: &[(bool, usize)], fault: Option<PrefixError>, is_cut: bool) -> Gathered<'a> {
    let starts = std::iter::once(0).chain(ends.iter().map(|(_, end)| *end));
    let messages =
        starts.zip(ends).map(|(start, (compressed, end))| (*compressed, &stream[start + PREFIX_BYTES..*end]));
    Gathered { messages: messages.collect(), fault, is_cut }
}

/// The same from the whole stream.
fn gather_naively(mut stream: &[u8]) -> Gathered<'_> {
    let mut messages = Vec::new();
    let (fault, is_cut) = loop {
        let Some((prefix, rest)) = stream.split_first_chunk() else { break (None, !stream.is_empty()) };
        let Some((compressed, length)) = read_prefix(prefix) else { break (Some(PrefixError::Flag(prefix[0])), false) };
        if length > GRPC_BYTES_MAX {
            break (Some(PrefixError::TooLarge { length, length_max: GRPC_BYTES_MAX }), false);
        }
        let Some((message, rest)) = rest.split_at_checked(length) else { break (None, true) };
        messages.push((compressed, message));
        stream = rest;
    };
    Gathered { messages, fault, is_cut }
}

/// What a client sends, compressed in any way or not, is read again however it is cut.
fn check_messages_sent(plain: &[u8], cuts: &[u8]) {
    let plain = &plain[..plain.len().min(GRPC_BYTES_MAX / 2)];
    let (mut compressor, mut decompressor) = (Compressor::default(), Decompressor::default());
    let (mut stream, mut message, mut out) = (Vec::new(), Vec::new(), Vec::new());
    for compression in GRPC_COMPRESSIONS {
        message.clear();
        compressor.compress(compression, None, plain, &mut message);
        stream.extend_from_slice(&prefix(compression != Compression::None, message.len()));
        stream.extend_from_slice(&message);
    }
    let read = gather_messages(&stream, cuts);
    assert!(read.fault.is_none() && !read.is_cut, "{read:?}");
    assert_eq!(read.messages.len(), GRPC_COMPRESSIONS.len());
    for (compression, (compressed, message)) in GRPC_COMPRESSIONS.into_iter().zip(read.messages) {
        assert_eq!(compressed, compression != Compression::None);
        let again = decompressor.decompress(compression, message, plain.len(), &mut out);
        again.expect("what was compressed is plain again");
        assert_eq!(out, plain);
    }
}

/// A status survives its trailers, and any bytes are read as one.
fn check_status(bytes: &[u8]) {
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
