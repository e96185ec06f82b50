//! Configuration: text -> raw (exactly what the file says) -> checked (exactly what the engine needs).

pub mod checked;
