//! What fuzz targets run and `cargo test` replays. Not part of the interface.

use crate::consistent::{Randomness, Threshold, TraceState, Update};

/// Any text as a trace state: what is written is read again, says what was asked for, and nothing that arrived is lost.
///
/// # Panics
/// One of these promises is broken.
pub fn fuzz_trace_state(text: &[u8]) {
    let Some(state) = TraceState::read(text) else {
        return;
    };
    let (randomness, threshold) = (Randomness::from_bits(text.len() as u64), Threshold::rejecting(1 << 55));
    for update in [Update::Raise(threshold), Update::Replace(threshold), Update::Raise(Threshold::ALWAYS)] {
        let mut out = Vec::new();
        state.write(Some(randomness), update, &mut out);
        // What is added may make it longer than what is read.
        if out.len() > text.len() && out.len() > 1024 {
            continue;
        }
        let written = TraceState::read(&out).expect("what is written can be read");
        assert_eq!(written.randomness(), Some(state.randomness().unwrap_or(randomness)));
        let expected = match update {
            Update::Raise(threshold) => state.threshold().map_or(threshold, |arrived| arrived.max(threshold)),
            Update::Replace(threshold) => threshold,
        };
        assert_eq!(written.threshold(), Some(expected));
        let mut again = Vec::new();
        written.write(Some(randomness), Update::Raise(Threshold::ALWAYS), &mut again);
        assert_eq!(again, out, "written twice is written once");
    }
}
