//! Exporters: batch -> request -> outcome.

pub mod memory;
