//! OTLP requests as an index over their bytes.
//!
//! [`SpanIndex`] notes where each span of a request lies and what sampling asks of it. Nothing is decoded into structs;
//! untouched bytes and unknown fields leave as they came. [`Encoder`] is the way back. [`write_metrics`] writes metrics that
//! are made here. [`proto`] holds structs for the slow paths.

pub mod attributes;
mod encode;
mod format;
mod index;
mod mark;
mod message;
pub mod proto;
mod read;
mod response;
mod span;
mod span_parts;
pub mod write_metrics;

pub use attributes::{resource_attribute, resource_attributes, span_attributes, span_parent_id, span_trace_state};
pub use encode::{Encoder, Selection};
pub use format::Format;
pub use index::{ByteRange, EnvelopeMap, ScopeEntry, SpanIndex, span_bytes};
pub use mark::{TextAttribute, write_marked_span};
pub use message::VALUE_DEPTH_MAX;
pub use response::{PartialSuccess, SUCCESS, read_response, write_response};
pub use span::{SpanItem, SpanKind, StatusCode, TraceId};
pub use span_parts::{SpanPart, span_parts};
