//! What a `probabilistic_sampler` counts: its decisions, by what made them.

use crate::config::checked::MetricsLevel::Normal;
use crate::telemetry::cells::{Counter, Kind, Schema};
use codecs::otlp::Signal;

metrics! {
    HEAD_SAMPLING: "Head sampling", "`probabilistic_sampler`",
        "As in the Collector there is no `processor` label, and the name says traces and counts spans, or log \
         records.";
    for the gateway {
        PROBABILISTIC_COUNT_TRACES_SAMPLED: Kind::Counter, Normal, "otelcol_processor_probabilistic_sampler_count_traces_sampled",
            "spans", ["policy", "sampled"],
            "Spans that were decided, by what decided about them.",
            "`policy`: what decided, one of `trace_id_hash`, `trace_id_w3c`, `sampling_randomness`, \
             `sampling_priority`, `missing_randomness`.";
        PROBABILISTIC_COUNT_LOGS_SAMPLED: Kind::Counter, Normal, "otelcol_processor_probabilistic_sampler_count_logs_sampled",
            "log records", ["policy", "sampled"],
            "Log records that were decided, by what decided about them.",
            "`policy` is also the name of `from_attribute`.";
    }
}

/// A pair of counters for what was sampled and what was not.
#[derive(Clone, Copy, Debug)]
pub struct SampledSeries {
    /// `sampled="true"`.
    pub sampled: Counter,
    /// `sampled="false"`.
    pub not_sampled: Counter,
}

/// What a probabilistic_sampler counts besides [`super::ProcessorSeries`]. As in the Collector, without a `processor` label.
#[derive(Clone, Debug)]
pub struct ProbabilisticSamplerSeries {
    /// Decisions about items, by the number of [`sampling::head::Policy`].
    pub decisions: Vec<SampledSeries>,
}

impl ProbabilisticSamplerSeries {
    /// Values of the label `policy`, in the order of [`sampling::head::Policy::ALL`]; the last of those is the name of the
    /// attribute.
    const POLICIES: [&str; 5] =
        ["trace_id_hash", "trace_id_w3c", "sampling_randomness", "sampling_priority", "missing_randomness"];

    /// Declares the series for pipelines of one signal; processors share them. Log records may be decided by an attribute.
    pub fn declare(schema: &mut Schema, signal: Signal, attribute: Option<&str>) -> ProbabilisticSamplerSeries {
        let metric = match signal {
            Signal::Logs => &PROBABILISTIC_COUNT_LOGS_SAMPLED,
            Signal::Traces | Signal::Metrics => &PROBABILISTIC_COUNT_TRACES_SAMPLED,
        };
        let mut counter = |policy, sampled| schema.counter(metric, &[("policy", policy), ("sampled", sampled)]);
        let policies = Self::POLICIES.into_iter().chain(attribute.filter(|_| signal == Signal::Logs));
        let decisions = policies
            .map(|policy| SampledSeries { sampled: counter(policy, "true"), not_sampled: counter(policy, "false") });
        ProbabilisticSamplerSeries { decisions: decisions.collect() }
    }
}
