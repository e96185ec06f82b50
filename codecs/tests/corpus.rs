//! The fuzz corpus, replayed: what once went wrong, or is worth starting from, stays right.

use std::fs;
use std::path::Path;

fn replay(target: &str, run: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut files = 0;
    for entry in fs::read_dir(&directory).expect("every target has a corpus") {
        let path = entry.expect("a corpus can be listed").path();
        // Shown only if this file fails.
        println!("{}", path.display());
        run(&fs::read(&path).expect("a corpus file can be read"));
        files += 1;
    }
    assert!(files > 0, "{} is empty", directory.display());
}

#[test]
fn requests() {
    replay("index", codecs::fuzzing::fuzz_index);
}

#[test]
fn shaped_requests() {
    replay("index_shaped", codecs::fuzzing::fuzz_index_shaped);
}

#[test]
fn requests_in_json() {
    replay("json", codecs::fuzzing::fuzz_json);
}

#[test]
fn shaped_requests_in_json() {
    replay("json_shaped", codecs::fuzzing::fuzz_json_shaped);
}

#[test]
fn other_messages() {
    replay("messages", codecs::fuzzing::fuzz_messages);
}

#[test]
fn compressed_bodies() {
    replay("compression", codecs::fuzzing::fuzz_compression);
}

#[test]
fn zlib_bodies() {
    replay("zlib", codecs::fuzzing::fuzz_zlib);
}

#[test]
fn files_of_records() {
    replay("records", codecs::fuzzing::fuzz_records);
}

#[test]
fn snappy_bodies() {
    replay("snappy", codecs::fuzzing::fuzz_snappy);
}

#[test]
fn lz4_bodies() {
    replay("lz4", codecs::fuzzing::fuzz_lz4);
}

#[test]
fn grpc() {
    replay("grpc", codecs::fuzzing::fuzz_grpc);
}

#[test]
fn metrics_on_their_way_to_remote_write() {
    replay("remote_write", codecs::fuzzing::fuzz_remote_write);
}

#[test]
fn shaped_metrics_on_their_way_to_remote_write() {
    replay("remote_write_shaped", codecs::fuzzing::fuzz_remote_write_shaped);
}

#[test]
fn metrics_and_logs() {
    replay("signals", codecs::fuzzing::fuzz_signals);
}

#[test]
fn shaped_metrics_and_logs() {
    replay("signals_shaped", codecs::fuzzing::fuzz_signals_shaped);
}

#[test]
fn segments_of_a_durable_log() {
    replay("segment", codecs::fuzzing::fuzz_segment);
}
