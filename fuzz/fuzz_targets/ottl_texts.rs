#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ottl::fuzzing::fuzz_texts(bytes));
