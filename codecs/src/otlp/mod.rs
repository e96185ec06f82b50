//! OTLP requests as an index over their bytes.
//!
//! [`SpanIndex`] notes where each span of a request lies and what sampling asks of it. Nothing is decoded into structs;
//! untouched bytes and unknown fields leave as they came.

mod index;
mod span;

pub use index::{ByteRange, ScopeEntry, SpanIndex};
pub use span::{SpanItem, SpanKind, StatusCode, TraceId};
