//! The report as JSON. Keys are promises: CI and dashboards read them.

use std::io;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::latency_plot;
use crate::report::Report;

/// The whole report.
pub(crate) fn report_json(report: &Report) -> Value {
    let load = &report.findings.load;
    let delivered: Map<String, Value> = report
        .findings
        .exporters
        .iter()
        .map(|exporter| {
            let figures = json!({
                "spans": exporter.spans,
                "expected_spans": exporter.expected_spans,
                "lost_traces": exporter.lost_traces,
                "partial_traces": exporter.partial_traces,
                "wrong_traces": exporter.wrong_traces,
                "doubled_spans": exporter.doubled_spans,
                "foreign_spans": exporter.foreign_spans,
                "altered_spans": exporter.altered_spans,
            });
            (exporter.id.clone(), figures)
        })
        .collect();
    let gateway: Map<String, Value> =
        report.findings.ledger.iter().map(|line| (line.metric.clone(), json!(line.gateway))).collect();
    let mut value = json!({
        "title": report.title,
        "verdict": report.verdict.word,
        "reasons": report.verdict.reasons,
        "judged_by": report.judged_by,
        "spans_per_second": report.spans_per_second,
        "spans_per_cpu_second": report.spans_per_cpu_second,
        "span_bytes": report.span_bytes,
        "window_seconds": report.window_seconds,
        "ack_ms": report.ack.percentiles(),
        "arrival_ms": report.arrival.percentiles(),
        "decision_late_ms": report.lateness.percentiles(),
        "schedule_late_ms": {"p99": load.late_p99_ms, "max": load.late_max_ms},
        "trace_apart_ms_max": load.apart_max_ms,
        "gateway_rss_bytes_max": report.gateway_rss_bytes_max,
        "gateway_cpu_share": report.gateway_cpu_share,
        "harness_cpu_share": report.harness_cpu_share,
        "load_limited": report.load_limited,
        "machine_stolen_seconds": report.machine_stolen_seconds,
        "ledger": {
            "offered": load.offered_spans,
            "accepted": load.accepted_spans,
            "refused": load.refused_spans,
            "rejected_requests": load.rejected_requests,
            "unanswered_requests": load.unanswered_requests,
            "traces": report.expectation.traces,
            "kept_traces": report.expectation.kept_traces,
            "kept_spans": report.expectation.kept_spans,
            "delivered": delivered,
            "gateway": gateway,
        },
    });
    if let Value::Object(keys) = &mut value {
        keys.extend(report.extra.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    }
    value
}

/// Writes the report, and its plot beside it.
pub(crate) fn write_json(path: &Path, report: &Report) -> io::Result<()> {
    let text = serde_json::to_string_pretty(&report_json(report))?;
    std::fs::write(path, text + "\n")?;
    std::fs::write(path.with_extension("svg"), latency_plot(report))
}
