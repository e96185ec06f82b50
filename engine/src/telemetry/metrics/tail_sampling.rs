//! What a `tail_sampling` processor counts: decisions, verdicts of each policy, and what it did about short memory.
//!
//! The sampler counts for itself, because it is pure; a shard copies what is new into these.

use super::bounds::{DECISION_TICK, LATENESS};
use super::head_sampling::SampledSeries;
use crate::config::checked::MetricsLevel::Normal;
use crate::telemetry::cells::{Counter, Gauge, Histogram, Kind, Schema};

metrics! {
    TAIL_SAMPLING: "Tail sampling", "`tail_sampling`",
        "The Collector's carry no `processor` label: a processor with a name shows it in the policy label \
         (`tail_sampling/eu` gives `policy=\"eu.errors\"`). Ours carry `processor`. What is missing: [what the \
         Collector shows and we do not](#what-the-collector-shows-and-we-do-not).";
    for the gateway {
        TAIL_COUNT_TRACES_SAMPLED: Kind::Counter, Normal, "otelcol_processor_tail_sampling_count_traces_sampled",
            "traces", ["policy", "sampled", "decision"],
            "Verdicts of one policy, one per decided trace.";
        TAIL_GLOBAL_COUNT_TRACES_SAMPLED: Kind::Counter, Normal, "otelcol_processor_tail_sampling_global_count_traces_sampled",
            "traces", ["sampled", "decision"],
            "Decisions about traces; late spans are not counted again.";
        TAIL_EARLY_RELEASES: Kind::Counter, Normal, "otelcol_processor_tail_sampling_early_releases_from_cache_decision",
            "spans", ["sampled"],
            "Late spans kept or dropped at once because the decision about their trace was remembered.",
            "Late ones, and those after an early decision.";
        TAIL_NEW_TRACE_ID_RECEIVED: Kind::Counter, Normal, "otelcol_processor_tail_sampling_new_trace_id_received",
            "traces", [],
            "Traces that entered the trace table.";
        TAIL_DECISION_TIMER_LATENCY: Kind::Histogram(&DECISION_TICK), Normal, "otelcol_processor_tail_sampling_sampling_decision_timer_latency",
            "milliseconds", [],
            "Milliseconds one tick spent deciding.";
        TAIL_LATENESS: Kind::Histogram(&LATENESS), Normal, "tracegate_tail_sampling_decision_lateness_seconds",
            "seconds", ["processor"],
            "Seconds between the end of a trace's decision wait and its decision.",
            "Traces that are decided before their time are not in it. Growing: the shards do not keep up.";
        TAIL_POLICY_EVALUATION_ERROR: Kind::Counter, Normal, "otelcol_processor_tail_sampling_sampling_policy_evaluation_error",
            "conditions", [],
            "Policies that failed on a trace and had no say in its decision.",
            "These are conditions of an `ottl_condition` policy with `error_mode: propagate` that failed on a span.";
        TAIL_POLICY_EXECUTION_COUNT: Kind::Counter, Normal, "otelcol_processor_tail_sampling_sampling_policy_execution_count",
            "traces", ["policy"],
            "Traces that a policy had a say in, whatever it said.";
        TAIL_DROPPED_TOO_EARLY: Kind::Counter, Normal, "otelcol_processor_tail_sampling_sampling_trace_dropped_too_early",
            "traces", [],
            "Traces that left the trace table undecided; their spans are lost.",
            "Stays 0: a full table decides its oldest trace early instead of losing it.";
        TAIL_TRACES_ON_MEMORY: Kind::Gauge, Normal, "otelcol_processor_tail_sampling_sampling_traces_on_memory",
            "traces", [],
            "Traces in the trace table.",
            "Decided ones are not in it.";
        TAIL_TRACES_DROPPED_TOO_LARGE: Kind::Counter, Normal, "otelcol_processor_tail_sampling_traces_dropped_too_large",
            "traces", [],
            "Traces decided without their policies because they grew beyond the largest size.",
            "The size is `maximum_trace_size_bytes`.";
        TAIL_DECIDED_EARLY: Kind::Counter, Normal, "tracegate_tail_sampling_traces_decided_early",
            "traces", ["processor"],
            "Traces decided before their decision wait was over because the trace table was full.",
            "Or because `num_traces` became less.";
        TAIL_DECIDED_BEFORE_TIME: Kind::Counter, Normal, "tracegate_tail_sampling_traces_decided_before_time",
            "traces", ["processor", "because"],
            "Traces decided before their decision wait was over, by why they could be.",
            "`because`: `certain` (no later span could change it), `complete` (`decide_on_complete`), `root` \
             (`decision_wait_after_root_received`), `size` (it outgrew what is held of one trace), `stress` \
             (certain, and memory was short: `stress_relief`).";
        TAIL_LATE_SPANS: Kind::Counter, Normal, "tracegate_tail_sampling_late_spans",
            "spans", ["processor", "sampled"],
            "Spans that came after their trace was decided when it was due, and were kept or dropped as it was.",
            "Many: raise `decision_wait`.";
        TAIL_SPANS_WITHOUT_TRACE_ID: Kind::Counter, Normal, "tracegate_tail_sampling_spans_without_trace_id",
            "spans", ["processor"],
            "Spans with a zero trace id, decided one by one.";
        TAIL_STRESS_RELIEF: Kind::Gauge, Normal, "tracegate_tail_sampling_stress_relief_shards",
            "shards", ["processor", "step"],
            "Shards that relieve memory by this step now.",
            "`step`: `certain`, `compress`, `shed`, `shed_errors`, one after the other. Above 0 for long: more \
             memory, or a shorter wait.";
        TAIL_TRACES_SHED: Kind::Counter, Normal, "tracegate_tail_sampling_traces_shed",
            "traces", ["processor"],
            "Traces given up by chance, undecided, because memory was short.",
            "They count as not sampled too.";
        TAIL_COMPRESSED_BYTES: Kind::Counter, Normal, "tracegate_tail_sampling_compressed_bytes",
            "bytes", ["processor"],
            "Bytes of pending spans that were compressed because memory was short, before.";
        TAIL_COMPRESSED_TO_BYTES: Kind::Counter, Normal, "tracegate_tail_sampling_compressed_to_bytes",
            "bytes", ["processor"],
            "Bytes that compressed pending spans took.";
    }
}

/// What a tail_sampling processor counts besides [`super::ProcessorSeries`].
///
/// As in the Collector these series carry no `processor` label; a processor with a name shows it in the policy label.
#[derive(Clone, Debug)]
pub struct TailSamplingSeries {
    /// Verdicts of each policy, in the order of the settings.
    pub policies: Vec<DecisionSeries>,
    /// Verdicts of whatever kind, per policy, in the same order.
    pub policy_executions: Vec<Counter>,
    /// Decisions.
    pub decisions: DecisionSeries,
    /// Spans answered from the remembered decision.
    pub early_releases: SampledSeries,
    /// Of them: those that came after their trace was due.
    pub late_spans: SampledSeries,
    /// Traces decided before their time, and why.
    pub decided_before_time: BeforeTimeSeries,
    /// Shards that take a step of the stress relief: certain, compress, shed, shed errors.
    pub stress_relief: [Gauge; 4],
    /// Traces shed.
    pub traces_shed: Counter,
    /// Bytes of pending spans before they were compressed.
    pub compressed_bytes: Counter,
    /// And after.
    pub compressed_to_bytes: Counter,
    /// Traces new to the table.
    pub new_trace_id_received: Counter,
    /// Nanoseconds one tick spent deciding.
    pub decision_timer_latency_ns: Histogram,
    /// Nanoseconds that traces were decided after they were due.
    pub lateness_ns: Histogram,
    /// Policies that failed on a trace.
    pub policy_evaluation_error: Counter,
    /// Traces evicted undecided.
    pub trace_dropped_too_early: Counter,
    /// Traces in the table.
    pub traces_on_memory: Gauge,
    /// Traces that outgrew the largest size.
    pub traces_dropped_too_large: Counter,
    /// Traces decided before their time because the table was full.
    pub traces_decided_early: Counter,
    /// Spans with a zero trace id.
    pub spans_without_trace_id: Counter,
}

/// Why traces were decided before their decision wait was over.
#[derive(Clone, Copy, Debug)]
pub struct BeforeTimeSeries {
    /// No later span could change the decision.
    pub certain: Counter,
    /// Every parent was there, and no span came for a while.
    pub complete: Counter,
    /// The wait after the root span was over.
    pub root: Counter,
    /// They grew larger than what is held of one trace.
    pub size: Counter,
    /// No later span could change the decision, and memory was short.
    pub stress: Counter,
}

/// What was said of traces.
#[derive(Clone, Debug)]
pub struct DecisionSeries {
    /// Keep it.
    pub sampled: Counter,
    /// Nobody asks for it.
    pub not_sampled: Counter,
    /// Drop it, whoever asks for it.
    pub dropped: Counter,
}

impl DecisionSeries {
    /// `counter` is given the labels `sampled` and `decision`.
    fn declare(mut counter: impl FnMut(&str, &str) -> Counter) -> DecisionSeries {
        DecisionSeries {
            sampled: counter("true", "sampled"),
            not_sampled: counter("false", "not_sampled"),
            dropped: counter("false", "dropped"),
        }
    }
}

/// The label of a policy: behind the name of its tail_sampling processor, if that has one.
pub fn policy_label(processor_id: &str, policy: &str) -> String {
    match processor_id.split_once('/') {
        Some((_, name)) => format!("{name}.{policy}"),
        None => policy.to_owned(),
    }
}

impl TailSamplingSeries {
    /// Declares the series of one tail_sampling processor (`tail_sampling` or `tail_sampling/name`) and its policies.
    pub fn declare(schema: &mut Schema, processor_id: &str, policies: &[String]) -> TailSamplingSeries {
        let own = [("processor", processor_id)];
        let shown = |policy: &String| policy_label(processor_id, policy);
        let policy_executions = policies
            .iter()
            .map(|policy| schema.counter(&TAIL_POLICY_EXECUTION_COUNT, &[("policy", &shown(policy))]))
            .collect();
        let mut verdicts = |policy: &String| {
            let policy = shown(policy);
            DecisionSeries::declare(|sampled, decision| {
                let labels = [("policy", policy.as_str()), ("sampled", sampled), ("decision", decision)];
                schema.counter(&TAIL_COUNT_TRACES_SAMPLED, &labels)
            })
        };
        let policies = policies.iter().map(&mut verdicts).collect();
        let decided = &TAIL_GLOBAL_COUNT_TRACES_SAMPLED;
        TailSamplingSeries {
            policies,
            policy_executions,
            decisions: DecisionSeries::declare(|sampled, decision| {
                schema.counter(decided, &[("sampled", sampled), ("decision", decision)])
            }),
            early_releases: SampledSeries {
                sampled: schema.counter(&TAIL_EARLY_RELEASES, &[("sampled", "true")]),
                not_sampled: schema.counter(&TAIL_EARLY_RELEASES, &[("sampled", "false")]),
            },
            late_spans: {
                let mut late =
                    |sampled| schema.counter(&TAIL_LATE_SPANS, &[("processor", processor_id), ("sampled", sampled)]);
                SampledSeries { sampled: late("true"), not_sampled: late("false") }
            },
            decided_before_time: {
                let mut why =
                    |why| schema.counter(&TAIL_DECIDED_BEFORE_TIME, &[("processor", processor_id), ("because", why)]);
                BeforeTimeSeries {
                    certain: why("certain"),
                    complete: why("complete"),
                    root: why("root"),
                    size: why("size"),
                    stress: why("stress"),
                }
            },
            stress_relief: ["certain", "compress", "shed", "shed_errors"]
                .map(|step| schema.gauge(&TAIL_STRESS_RELIEF, &[("processor", processor_id), ("step", step)])),
            traces_shed: schema.counter(&TAIL_TRACES_SHED, &own),
            compressed_bytes: schema.counter(&TAIL_COMPRESSED_BYTES, &own),
            compressed_to_bytes: schema.counter(&TAIL_COMPRESSED_TO_BYTES, &own),
            new_trace_id_received: schema.counter(&TAIL_NEW_TRACE_ID_RECEIVED, &[]),
            decision_timer_latency_ns: schema.histogram(&TAIL_DECISION_TIMER_LATENCY, &[]),
            lateness_ns: schema.histogram(&TAIL_LATENESS, &own),
            policy_evaluation_error: schema.counter(&TAIL_POLICY_EVALUATION_ERROR, &[]),
            trace_dropped_too_early: schema.counter(&TAIL_DROPPED_TOO_EARLY, &[]),
            traces_on_memory: schema.gauge(&TAIL_TRACES_ON_MEMORY, &[]),
            traces_dropped_too_large: schema.counter(&TAIL_TRACES_DROPPED_TOO_LARGE, &[]),
            traces_decided_early: schema.counter(&TAIL_DECIDED_EARLY, &own),
            spans_without_trace_id: schema.counter(&TAIL_SPANS_WITHOUT_TRACE_ID, &own),
        }
    }
}
