//! Megabytes of JSON per second on one core: `cargo bench -p codecs --bench json`.
//!
//! The promise is 250 MB/s. Beside the transcoder stand its three steps by others: serde_json over the same bytes without
//! keeping anything, and the index that follows in the receiver.

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use codecs::json::{read_request, write_request};
use codecs::otlp::proto::ExportTraceServiceRequest;
use codecs::otlp::{Signal, SpanIndex};
use prost::Message;

const ROUNDS: usize = 300;

fn main() {
    measure("512 spans", &support::shop_request(4, 512));
    measure("10 spans", &support::shop_request(1, 10));
    measure("128 spans with long values and events", &support::troubled_request(4, 128));
}

fn measure(name: &str, request: &ExportTraceServiceRequest) {
    let mut json = Vec::new();
    write_request(Signal::Traces, &request.encode_to_vec(), &mut json).expect("a sound request");
    let tree: serde_json::Value = serde_json::from_slice(&json).expect("sound JSON");
    let pretty = serde_json::to_vec_pretty(&tree).expect("memory takes everything");
    println!("{name}: {} bytes, {} indented", json.len(), pretty.len());
    let mut protobuf = Vec::new();
    report("JSON to protobuf", json.len(), || {
        protobuf.clear();
        read_request(Signal::Traces, black_box(&json), &mut protobuf).expect("a sound request");
    });
    report("indented JSON to protobuf", pretty.len(), || {
        protobuf.clear();
        read_request(Signal::Traces, black_box(&pretty), &mut protobuf).expect("a sound request");
    });
    let protobuf = Bytes::from(protobuf);
    let mut index = SpanIndex::default();
    report("JSON to index", json.len(), || {
        let mut protobuf = Vec::with_capacity(json.len());
        read_request(Signal::Traces, black_box(&json), &mut protobuf).expect("a sound request");
        index.clear();
        index.read_request(&Bytes::from(protobuf), 0).expect("a sound request");
    });
    report("serde_json, nothing kept", json.len(), || {
        black_box(serde_json::from_slice::<serde::de::IgnoredAny>(black_box(&json)).expect("sound JSON"));
    });
    let mut out = Vec::new();
    report("protobuf to JSON", json.len(), || {
        out.clear();
        write_request(Signal::Traces, black_box(&protobuf), &mut out).expect("a sound request");
    });
}

/// Prints the fastest round.
fn report(name: &str, bytes: usize, mut round: impl FnMut()) {
    let fastest = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        round();
        start.elapsed()
    });
    let fastest = fastest.min().unwrap_or_default();
    println!("    {name:28} {:8.0} MB/s", bytes as f64 / fastest.as_nanos() as f64 * 1000.0);
}
