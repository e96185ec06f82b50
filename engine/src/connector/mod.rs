//! Between pipelines: what one pipeline's batches become for somebody else.
//!
//! `forward` needs no room of its own, because pipelines of one shard hand batches to each other. What stands here makes
//! something new out of them. A connector never knows the pipelines around it.

pub mod span_metrics;
