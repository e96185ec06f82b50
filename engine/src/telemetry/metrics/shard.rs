//! What a shard shows of itself.

use crate::config::checked::MetricsLevel::Basic;
use crate::telemetry::cells::{Counter, Gauge, Kind, Schema};

metrics! {
    SHARDS: "Shards", "every shard",
        "";
    for the gateway {
        SHARD_CONNECTIONS: Kind::Gauge, Basic, "tracegate_shard_connections",
            "connections", [],
            "Open connections of senders.";
        SHARD_BUSIEST: Kind::Highest, Basic, "tracegate_shard_busiest_percent",
            "percent", [],
            "Busy share of the busiest shard's time, 0 to 100.";
        SHARD_CAUGHT_PANICS: Kind::Counter, Basic, "tracegate_shard_caught_panics",
            "requests", [],
            "Requests answered INTERNAL because a pure call on them panicked; each is a defect of ours.";
    }
}

/// What a shard shows of itself.
#[derive(Clone, Debug)]
pub struct ShardSeries {
    /// Open connections of senders.
    pub connections: Gauge,
    /// Busy share of its time, 0 to 100.
    pub busy_percent: Gauge,
    /// Panics caught around pure calls.
    pub caught_panics: Counter,
}

impl ShardSeries {
    /// Declares a shard's series.
    pub fn declare(schema: &mut Schema) -> ShardSeries {
        ShardSeries {
            connections: schema.gauge(&SHARD_CONNECTIONS, &[]),
            busy_percent: schema.gauge(&SHARD_BUSIEST, &[]),
            caught_panics: schema.counter(&SHARD_CAUGHT_PANICS, &[]),
        }
    }
}
