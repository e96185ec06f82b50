//! What crosses shards.

use crate::config::checked::MetricsLevel::Normal;
use crate::telemetry::cells::{Counter, Kind, Schema};

metrics! {
    MESH: "Mesh", "all links between shards",
        "";
    for the gateway {
        MESH_SENT_SPANS: Kind::Counter, Normal, "tracegate_mesh_sent_spans",
            "spans", [],
            "Spans that crossed to the shard owning their trace.";
        MESH_SENT_BYTES: Kind::Counter, Normal, "tracegate_mesh_sent_bytes",
            "bytes", [],
            "Bytes of spans and data points that crossed.";
        MESH_RECEIVED_SPANS: Kind::Counter, Normal, "tracegate_mesh_received_spans",
            "spans", [],
            "Spans taken out of rings.";
        MESH_SENT_POINTS: Kind::Counter, Normal, "tracegate_mesh_sent_points",
            "data points", [],
            "Data points that crossed to the shard owning their series.";
        MESH_RECEIVED_POINTS: Kind::Counter, Normal, "tracegate_mesh_received_points",
            "data points", [],
            "Data points of other shards taken out of rings.";
        MESH_WAITS: Kind::Counter, Normal, "tracegate_mesh_waits",
            "turns", [],
            "Turns of a shard at whose end parts waited for room in a ring.";
        MESH_BALANCED_REQUESTS: Kind::Counter, Normal, "tracegate_mesh_balanced_requests",
            "requests", [],
            "Whole requests handed to a less busy shard.";
    }
}

/// What crosses shards.
#[derive(Clone, Debug)]
pub struct MeshSeries {
    /// Spans sent to their owner.
    pub sent_spans: Counter,
    /// Bytes of them.
    pub sent_bytes: Counter,
    /// Spans taken out of rings.
    pub received_spans: Counter,
    /// Data points sent to the owner of their series.
    pub sent_points: Counter,
    /// Data points of other shards taken out of rings.
    pub received_points: Counter,
    /// Parts that waited for room.
    pub waits: Counter,
    /// Whole requests handed to a less busy shard.
    pub balanced_requests: Counter,
}

impl MeshSeries {
    /// Declares the mesh's series.
    pub fn declare(schema: &mut Schema) -> MeshSeries {
        MeshSeries {
            sent_spans: schema.counter(&MESH_SENT_SPANS, &[]),
            sent_bytes: schema.counter(&MESH_SENT_BYTES, &[]),
            received_spans: schema.counter(&MESH_RECEIVED_SPANS, &[]),
            sent_points: schema.counter(&MESH_SENT_POINTS, &[]),
            received_points: schema.counter(&MESH_RECEIVED_POINTS, &[]),
            waits: schema.counter(&MESH_WAITS, &[]),
            balanced_requests: schema.counter(&MESH_BALANCED_REQUESTS, &[]),
        }
    }
}
