#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sampling::fuzzing::fuzz_trace_state(bytes));
