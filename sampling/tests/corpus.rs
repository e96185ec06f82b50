//! Trace states of the fuzz corpus, replayed, and any others that look like some.

#![allow(clippy::unwrap_used, reason = "the whole file is a test; clippy only knows the functions marked as such")]

use std::path::Path;

use proptest::prelude::*;
use sampling::fuzzing::fuzz_trace_state;

#[test]
fn the_corpus_is_read_and_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/trace_state");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        fuzz_trace_state(&std::fs::read(path).unwrap());
        files += 1;
    }
    assert!(files > 0);
}

proptest! {
    #[test]
    fn any_members_are_read_and_written(
        members in prop::collection::vec("[a-c]{0,2}(ot)?=((rv:[0-9a-fA-F]{13,15}|th:[0-9a-f]{0,15}|[a-z]{1,3}:[a-zA-Z0-9._-]{0,200});?){0,3}", 0..5),
        between in prop_oneof![Just(","), Just(" , "), Just(",,")],
    ) {
        fuzz_trace_state(members.join(between).as_bytes());
    }
}
