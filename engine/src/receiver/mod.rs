//! The start of a pipeline: a request becomes a batch, or a refusal with its reason.

pub mod complaint;
pub mod door;
pub mod file;
pub mod otlp;
