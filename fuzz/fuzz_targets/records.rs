#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| codecs::fuzzing::fuzz_records(bytes));
