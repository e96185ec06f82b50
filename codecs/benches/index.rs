//! Nanoseconds per span of the trace path's pure parts: `cargo bench -p codecs`, or `cargo bench -p codecs -- read_request` for one of them.
//!
//! Each figure is the fastest of many rounds on one thread: what the code costs, not what the machine was doing. Bodies
//! stay in the second-level cache or close to it, as they do right after a socket read.

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use codecs::compression::{Compression, Compressor, Decompressor};
use codecs::otlp::proto::ExportTraceServiceRequest;
use codecs::otlp::{Encoder, Selection, SpanIndex};
use prost::Message;

const ROUNDS: usize = 300;

fn main() {
    for (resources, spans) in [(4, 512), (2, 100), (1, 10)] {
        measure("plain", &support::shop_request(resources, spans), spans);
    }
    measure("with long values and events", &support::troubled_request(4, 128), 128);
}

fn measure(name: &str, request: &ExportTraceServiceRequest, spans: usize) {
    let bytes = Bytes::from(request.encode_to_vec());
    println!("{spans} spans, {name}, {} bytes a span", bytes.len() / spans);
    measure_index(&bytes, spans);
    measure_compression(&bytes, spans);
}

fn measure_index(bytes: &Bytes, spans: usize) {
    let mut index = SpanIndex::default();
    report("read_request", spans, || {
        index.clear();
        index.read_request(black_box(bytes), 0).expect("the request is well-formed");
        black_box(&index);
    });
    let segments = [bytes.clone()];
    let mut encoder = Encoder::default();
    let mut out = Vec::new();
    report("encode all", spans, || {
        out.clear();
        encoder.encode(black_box(&index), &segments, &Selection::All, &mut out);
        black_box(&out);
    });
    let all: Vec<u32> = (0..spans as u32).collect();
    let mut half = SpanIndex::default();
    report("select all", spans, || {
        half.clear();
        index.select(black_box(&all), &mut half);
        black_box(&half);
    });
}

fn measure_compression(bytes: &Bytes, spans: usize) {
    let mut compressor = Compressor::default();
    let mut decompressor = Decompressor::default();
    for (compression, levels) in [(Compression::Gzip, [1, 3, 6]), (Compression::Zstd, [-1, 1, 3])] {
        for level in levels {
            let name = compression.name();
            let mut body = Vec::new();
            report(&format!("{name} level {level}"), spans, || {
                body.clear();
                compressor.compress(compression, Some(level), black_box(bytes), &mut body);
            });
            println!("    {:24} {:8.2} : 1", "ratio", bytes.len() as f64 / body.len() as f64);
            let mut plain = Vec::new();
            report(&format!("un-{name}"), spans, || {
                let result = decompressor.decompress(compression, black_box(&body), 64 << 20, &mut plain);
                result.expect("the body was just compressed");
            });
        }
    }
}

/// Prints nanoseconds per span of the fastest round. With arguments, only what they name runs more than once.
fn report(name: &str, spans: usize, mut round: impl FnMut()) {
    let mut names = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).peekable();
    if names.peek().is_some() && !names.any(|wanted| name.contains(&wanted)) {
        return round();
    }
    let fastest = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        round();
        start.elapsed()
    });
    let fastest = fastest.min().unwrap_or_default();
    println!("    {name:24} {:8.1} ns a span", fastest.as_nanos() as f64 / spans as f64);
}
