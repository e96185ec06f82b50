//! Which traces to keep. Pure: bytes and time in, decisions out.
pub mod settings;
