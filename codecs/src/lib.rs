//! Bytes <-> meaning. In the order data flows:
//!
//! ```text
//! body --compression--> bytes --json, if it is JSON--> protobuf --otlp (one checked pass)--> SpanIndex
//! SpanIndex --encode--> bytes --grpc--> frame
//! metrics   --prometheus--> remote write requests
//! ```
//!
//! Everything here is pure: no clock, no I/O, no threads, no configuration. Nothing panics on a peer's bytes:
//! a reader either proves its input and hands out a type that cannot fail, or names the offset it stumbled at.

pub mod compression;
#[doc(hidden)]
pub mod fuzzing;
pub mod grpc;
pub mod json;
pub mod otlp;
pub mod prometheus;
pub mod records;
pub mod segment;
pub mod wire;
