//! OTLP requests as an index over their bytes.
//!
//! An [`Index`] notes where each span, metric or log record of a request lies, and a few facts of it. Nothing is decoded
//! into structs; untouched bytes and unknown fields leave as they came. [`SignalIndex`] is the index of any signal.
//! [`Encoder`] is the way back. [`write_metrics`] writes metrics that are made here. [`proto`] holds structs for the slow
//! paths.

pub mod attributes;
mod encode;
mod format;
mod index;
mod item;
mod log;
mod mark;
mod message;
mod metric;
mod point;
pub mod proto;
mod read;
mod response;
mod signal;
mod signal_index;
mod span;
mod span_parts;
pub mod write_metrics;

pub use attributes::{
    AttributesAt, resource_attribute, resource_attributes, span_attributes, span_parent_id, span_trace_state,
};
pub use encode::{Encoder, Selection};
pub use format::Format;
pub use index::{ByteRange, EnvelopeMap, Index, LogIndex, MetricIndex, ScopeEntry, SpanIndex, item_bytes, span_bytes};
pub use item::{FrameNames, Item, Place};
pub use log::LogItem;
pub use mark::{TextAttribute, write_marked_span};
pub use message::VALUE_DEPTH_MAX;
pub use metric::{MetricItem, MetricKind, Piece, cut_metric};
pub use response::{PartialSuccess, SUCCESS, read_response, write_response};
pub use signal::Signal;
pub use signal_index::SignalIndex;
pub use span::{SpanItem, SpanKind, StatusCode, TraceId};
pub use span_parts::{SpanPart, span_parts};
