//! What a `memory_limiter` counts: what the edge admitted or refused for its pipelines.

use crate::config::checked::MetricsLevel::Basic;
use crate::telemetry::cells::{Counter, Kind, Schema};
use codecs::otlp::Signal;

metrics! {
    MEMORY_LIMITERS: "Memory limiters", "`memory_limiter`",
        "";
    for each signal {
        MEMORY_LIMITER_ACCEPTED: Kind::Counter, Basic, "otelcol_processor_memory_limiter_accepted",
            ["processor"],
            "admitted while memory was below the soft limit.";
        MEMORY_LIMITER_REFUSED: Kind::Counter, Basic, "otelcol_processor_memory_limiter_refused",
            ["processor"],
            "that stand for requests refused at the soft limit, one for each: what they held is not known yet.";
    }
}

/// What a memory_limiter counts besides [`super::ProcessorSeries`].
#[derive(Clone, Debug)]
pub struct MemoryLimiterSeries {
    /// Items admitted.
    pub accepted: Counter,
    /// Items refused.
    pub refused: Counter,
}

impl MemoryLimiterSeries {
    /// Declares the series of one memory_limiter in pipelines of one signal.
    pub fn declare(schema: &mut Schema, processor_id: &str, signal: Signal) -> MemoryLimiterSeries {
        let own = [("processor", processor_id)];
        MemoryLimiterSeries {
            accepted: schema.counter(&MEMORY_LIMITER_ACCEPTED[signal as usize], &own),
            refused: schema.counter(&MEMORY_LIMITER_REFUSED[signal as usize], &own),
        }
    }
}
