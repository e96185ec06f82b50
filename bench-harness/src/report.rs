//! The figures of one run.

use std::collections::BTreeMap;

use crate::measure::{Latency, Percentiles};
use crate::sent::noun;
use crate::verdict::{Expectation, ExporterFindings, Findings, Verdict};

/// Everything that is said about a run.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// What was run, in words.
    pub(crate) title: String,
    /// The word and why.
    pub(crate) verdict: Verdict,
    /// What it follows from.
    pub(crate) findings: Findings,
    /// The names of the policies of tail sampling, in their order; `None` without one, or where nobody saw what was kept.
    pub(crate) policies: Option<Vec<String>>,
    /// What had to be done.
    pub(crate) expectation: Expectation,
    /// Who judged: our sink, or acks and metrics alone.
    pub(crate) judged_by: String,
    /// Accepted items by wall second, in the measured window.
    pub(crate) items_per_second: f64,
    /// Accepted items by CPU second of the gateway, in the same window; `None` if its process is not ours.
    pub(crate) items_per_cpu_second: Option<f64>,
    /// CPU by wall second of the gateway, in the same window.
    pub(crate) gateway_cpu_share: Option<f64>,
    /// CPU by wall second of load and sink together; near 1, the figures say more about them than about the gateway.
    pub(crate) harness_cpu_share: f64,
    /// That was the case.
    pub(crate) load_limited: bool,
    /// CPU seconds of the measured window that the hypervisor gave to others.
    pub(crate) machine_stolen_seconds: f64,
    /// Most memory the gateway had resident.
    pub(crate) gateway_rss_bytes_max: Option<u64>,
    /// From intended send to ack.
    pub(crate) ack: Latency,
    /// From intended send to arrival at the sink.
    pub(crate) arrival: Latency,
    /// From the end of the decision wait to arrival: waits of a batch and of the sender are in it.
    pub(crate) lateness: Latency,
    /// 99 of 100 decisions were late by less, as the gateway counts them; a bound of its histogram, in milliseconds.
    pub(crate) decided_late_p99_ms: Option<f64>,
    /// Length of the measured window.
    pub(crate) window_seconds: f64,
    /// Most requests under way in the first and in the second half of the window.
    pub(crate) backlog: (u64, u64),
    /// Bytes of an item on average.
    pub(crate) item_bytes: f64,
    /// The gateway's last words.
    pub(crate) gateway_output: String,
    /// More keys for the JSON of a sub-command.
    pub(crate) extra: BTreeMap<String, serde_json::Value>,
}

/// What is wrong with decisions: all 0 in a run that is ok.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DecisionFaults {
    /// Traces to be kept of which nothing arrived.
    pub(crate) missed: u64,
    /// Traces to be dropped of which something arrived.
    pub(crate) wrong: u64,
    /// Kept traces of which some spans are missing.
    pub(crate) incomplete: u64,
    /// Spans that rate limits let through beyond what they allow.
    pub(crate) over_limit_spans: u64,
}

impl Report {
    /// What is counted: `spans`, `points` or `records`.
    pub(crate) fn noun(&self) -> &'static str {
        noun(self.findings.signal)
    }

    /// Kept traces by the first policy that wants them.
    pub(crate) fn kept_by_reason(&self) -> Option<Vec<(&str, u64)>> {
        let names = self.policies.as_ref()?.iter().map(String::as_str);
        Some(names.zip(self.expectation.reasons.iter().copied()).collect())
    }

    /// What is wrong with decisions, over all exporters.
    pub(crate) fn decision_faults(&self) -> DecisionFaults {
        let sum = |count: fn(&ExporterFindings) -> u64| self.findings.exporters.iter().map(count).sum();
        let limited = self.findings.limited;
        let over = limited.map_or(0, |limited| limited.spans.saturating_sub(limited.spans_max));
        DecisionFaults {
            missed: sum(|exporter| exporter.lost_traces),
            wrong: sum(|exporter| exporter.wrong_traces),
            incomplete: sum(|exporter| exporter.partial_traces),
            over_limit_spans: over,
        }
    }

    /// The figures of the ack histogram.
    pub(crate) fn ack_ms(&self) -> Percentiles {
        self.ack.percentiles()
    }
}
