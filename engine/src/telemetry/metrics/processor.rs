//! What every processor counts, whatever its kind.
//!
//! The one idea: what a policy drops is never counted as lost; that word belongs to overload and failure.

use super::bounds::NODE_TIME;
use crate::config::checked::MetricsLevel::{self, Basic, Detailed};
use crate::telemetry::cells::{Counter, Histogram, Kind, Schema};
use codecs::otlp::Signal;

metrics! {
    PROCESSORS: "Processors", "every processor",
        "";
    for each signal {
        PROCESSOR_DROPPED: Kind::Counter, Basic, "otelcol_processor_dropped",
            ["processor"],
            "lost inside a processor by overload or failure; never those that a policy dropped.";
        PROCESSOR_FAILED: Kind::Counter, Basic, "tracegate_processor_failed",
            ["processor", "reason"],
            "lost inside a processor by failure, by reason.",
            "`reason`: `ottl` (a condition or statement failed and `error_mode` is `propagate`), `defect` (of ours).";
    }
    for the gateway {
        PROCESSOR_INCOMING_ITEMS: Kind::Counter, Basic, "otelcol_processor_incoming_items",
            "items", ["processor", "otel_signal"],
            "Items that entered a processor.";
        PROCESSOR_OUTGOING_ITEMS: Kind::Counter, Basic, "otelcol_processor_outgoing_items",
            "items", ["processor", "otel_signal"],
            "Items that left a processor towards the next node.";
        PROCESSOR_INTERNAL_DURATION: Kind::Histogram(&NODE_TIME), Detailed, "otelcol_processor_internal_duration",
            "seconds", ["processor", "otel_signal"],
            "Seconds a processor worked on one batch.",
            "Buckets from a microsecond to a second; the Collector's begin at 5 s.";
    }
}

/// What every processor counts.
#[derive(Clone, Debug)]
pub struct ProcessorSeries {
    /// Items in.
    pub incoming_items: Counter,
    /// Items out.
    pub outgoing_items: Counter,
    /// Items shed or failed inside; never dropped by policy.
    pub dropped: Counter,
    /// Nanoseconds of each batch; only where somebody looks, because it takes two readings of the clock.
    pub internal_duration_ns: Option<Histogram>,
}

impl ProcessorSeries {
    /// Declares the series of one processor in pipelines of one signal.
    pub fn declare(schema: &mut Schema, processor_id: &str, signal: Signal) -> ProcessorSeries {
        let items = [("processor", processor_id), ("otel_signal", signal.name())];
        ProcessorSeries {
            incoming_items: schema.counter(&PROCESSOR_INCOMING_ITEMS, &items),
            outgoing_items: schema.counter(&PROCESSOR_OUTGOING_ITEMS, &items),
            dropped: schema.counter(&PROCESSOR_DROPPED[signal as usize], &items[..1]),
            internal_duration_ns: None,
        }
    }

    /// Declares the series that are measured only if they are shown.
    pub fn measured(
        self,
        schema: &mut Schema,
        processor_id: &str,
        signal: Signal,
        level: MetricsLevel,
    ) -> ProcessorSeries {
        let items = [("processor", processor_id), ("otel_signal", signal.name())];
        let shown = level >= PROCESSOR_INTERNAL_DURATION.level;
        let internal_duration_ns = shown.then(|| schema.histogram(&PROCESSOR_INTERNAL_DURATION, &items));
        ProcessorSeries { internal_duration_ns, ..self }
    }
}

/// Declares the failed items of one processor in pipelines of one signal, by why.
pub fn failed_items(schema: &mut Schema, processor_id: &str, signal: Signal, reason: &str) -> Counter {
    schema.counter(&PROCESSOR_FAILED[signal as usize], &[("processor", processor_id), ("reason", reason)])
}
