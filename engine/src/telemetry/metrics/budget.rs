//! What the memory budget shows: who holds how much of it.

use crate::config::checked::MetricsLevel::Basic;
use crate::shard::budget::Holder;
use crate::telemetry::cells::{Gauge, Kind, Schema};

metrics! {
    BUDGET: "Memory", "the budget of the process",
        "";
    for the gateway {
        BUDGET_BYTES: Kind::Gauge, Basic, "tracegate_budget_bytes",
            "bytes", ["holder"],
            "Bytes charged to the budget, by holder.";
        BUDGET_LEASED_BYTES: Kind::Gauge, Basic, "tracegate_budget_leased_bytes",
            "bytes", [],
            "Bytes that shards leased from the central pool.";
        BUDGET_LIMIT_BYTES: Kind::Gauge, Basic, "tracegate_budget_limit_bytes",
            "bytes", [],
            "The process budget in bytes.";
    }
}

/// The budget by holder.
#[derive(Clone, Debug)]
pub struct BudgetSeries {
    /// Bytes leased by this shard.
    pub leased_bytes: Gauge,
    /// The process limit; set by one shard only, because gauges are summed.
    pub limit_bytes: Gauge,
    bytes: [Gauge; Holder::ALL.len()],
}

impl BudgetSeries {
    /// Declares the budget's series.
    pub fn declare(schema: &mut Schema) -> BudgetSeries {
        BudgetSeries {
            leased_bytes: schema.gauge(&BUDGET_LEASED_BYTES, &[]),
            limit_bytes: schema.gauge(&BUDGET_LIMIT_BYTES, &[]),
            bytes: Holder::ALL.map(|holder| schema.gauge(&BUDGET_BYTES, &[("holder", holder.label())])),
        }
    }

    /// Bytes that `holder` holds.
    pub fn bytes(&self, holder: Holder) -> Gauge {
        self.bytes[holder as usize]
    }
}
