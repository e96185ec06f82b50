//! The fuzz corpus, replayed, and random choices: overlay and twin agree.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

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
fn statements() {
    replay("ottl_parser", ottl::fuzzing::fuzz_parser);
}

#[test]
fn runs() {
    replay("ottl_run", ottl::fuzzing::fuzz_run);
}

#[test]
fn runs_on_logs() {
    replay("ottl_run_logs", ottl::fuzzing::fuzz_run_logs);
}

#[test]
fn runs_on_metrics() {
    replay("ottl_run_metrics", ottl::fuzzing::fuzz_run_metrics);
}

#[test]
fn unchecked_items() {
    replay("ottl_unchecked", ottl::fuzzing::fuzz_unchecked);
}

#[test]
fn actions_and_redactions() {
    replay("ottl_attributes", ottl::fuzzing::fuzz_attributes);
}

#[test]
fn unchecked_attributes() {
    replay("ottl_attributes_unchecked", ottl::fuzzing::fuzz_attributes_unchecked);
}

#[test]
fn texts() {
    replay("ottl_texts", ottl::fuzzing::fuzz_texts);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_random_edit_sequence_on_views_equals_the_same_edits_on_structs(choices in prop::collection::vec(any::<u8>(), 0..160)) {
        ottl::fuzzing::fuzz_run(&choices);
    }

    #[test]
    fn a_random_edit_sequence_on_a_log_record_equals_the_same_on_structs(choices in prop::collection::vec(any::<u8>(), 0..160)) {
        ottl::fuzzing::fuzz_run_logs(&choices);
    }

    #[test]
    fn a_random_edit_sequence_on_metrics_and_their_points_equals_the_same_on_structs(choices in prop::collection::vec(any::<u8>(), 0..240)) {
        ottl::fuzzing::fuzz_run_metrics(&choices);
    }

    #[test]
    fn actions_and_redactions_on_bytes_equal_the_same_on_structs(choices in prop::collection::vec(any::<u8>(), 0..160)) {
        ottl::fuzzing::fuzz_attributes(&choices);
    }

    #[test]
    fn of_a_cleaned_query_no_value_is_left(words in prop::collection::vec(prop::sample::select(QUERY_WORDS), 0..24)) {
        ottl::fuzzing::fuzz_texts(words.concat().as_bytes());
    }

    #[test]
    fn no_statement_panics(words in prop::collection::vec(prop::sample::select(WORDS), 0..24)) {
        ottl::fuzzing::fuzz_parser(words.join(" ").as_bytes());
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        ottl::fuzzing::fuzz_unchecked(&bytes);
        ottl::fuzzing::fuzz_parser(&bytes);
        ottl::fuzzing::fuzz_attributes_unchecked(&bytes);
        ottl::fuzzing::fuzz_texts(&bytes);
    }
}

/// What queries are made of.
const QUERY_WORDS: &[&str] = &[
    "select ", "a1", "'", "''", "\"", "`", "\\", "--", "/*", "*/", "$", "$$", "$t$", "1", ".5", "e-", "0x", "q'", "N'",
    "#", "\n", " ", ",", "(", ")", "{", "}", "[", "]", ":", "null", "\"k\":", "?", "@p1", ":b2", "\u{e4}",
];

const WORDS: &[&str] = &[
    "set",
    "(",
    ")",
    "attributes",
    "[",
    "]",
    "\"a\"",
    ",",
    "where",
    "==",
    "nil",
    "and",
    "or",
    "not",
    "1",
    "-",
    "+",
    "*",
    "/",
    "1.5",
    "SHA256",
    "(attributes[\"a\"])",
    "name",
    ".",
    "{",
    "}",
    ":",
    "STATUS_CODE_OK",
    "0x00",
    "true",
    "resource",
    "delete_key(attributes, \"a\")",
    "set(name, \"x\")",
    "Concat([name, \"x\"], \"-\")",
    "=",
    "<",
    "log.body",
    "body[\"a\"][0]",
    "datapoint",
    "metric.name",
    "convert_sum_to_gauge()",
    "=>",
];

#[test]
fn deep_nesting_and_long_chains_are_refused_or_run() {
    for (open, close) in [("(", ")"), ("[", "]"), ("Int(", ")"), ("-(", ")"), ("{\"a\":", "}"), ("not (", ")")] {
        let text = format!("set(name, {}1{}) where true", open.repeat(5000), close.repeat(5000));
        ottl::fuzzing::fuzz_parser(text.as_bytes());
    }
    ottl::fuzzing::fuzz_parser(format!("set(attributes[\"a\"], 1{})", " + 1".repeat(15_000)).as_bytes());
    ottl::fuzzing::fuzz_parser(format!("set(name, \"a\") where {}true", "true and ".repeat(7000)).as_bytes());
    ottl::fuzzing::fuzz_parser("x".repeat(100_000).as_bytes());
}
