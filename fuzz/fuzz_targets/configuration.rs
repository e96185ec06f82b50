#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| engine::config::fuzzing::fuzz_configuration(bytes));
