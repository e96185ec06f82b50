//! The report as JSON. Keys are promises: CI and dashboards read them.

use std::io;
use std::path::Path;

use codecs::otlp::Signal;
use serde_json::{Map, Value, json};

use super::latency_plot;
use crate::report::{DecisionFaults, Report};

/// The whole report.
pub(crate) fn report_json(report: &Report) -> Value {
    let (load, noun) = (&report.findings.load, report.noun());
    let is_traces = report.findings.signal == Signal::Traces;
    let delivered: Map<String, Value> = report
        .findings
        .exporters
        .iter()
        .map(|exporter| {
            let whole = match is_traces {
                true => json!({
                    "lost_traces": exporter.lost_traces,
                    "partial_traces": exporter.partial_traces,
                    "wrong_traces": exporter.wrong_traces,
                }),
                false => json!({
                    (format!("lost_{noun}")): exporter.lost_items,
                    (format!("wrong_{noun}")): exporter.wrong_items,
                    (format!("out_of_order_{noun}")): exporter.out_of_order_items,
                }),
            };
            let each = json!({
                (noun): exporter.items,
                (format!("expected_{noun}")): exporter.expected_items,
                (format!("doubled_{noun}")): exporter.doubled_items,
                (format!("foreign_{noun}")): exporter.foreign_items,
                (format!("altered_{noun}")): exporter.altered_items,
            });
            (exporter.id.clone(), joined(each, whole))
        })
        .collect();
    let gateway: Map<String, Value> =
        report.findings.ledger.iter().map(|line| (line.metric.clone(), json!(line.gateway))).collect();
    let mut value = json!({
        "title": report.title,
        "verdict": report.verdict.word,
        "reasons": report.verdict.reasons,
        "judged_by": report.judged_by,
        (format!("{noun}_per_second")): report.items_per_second,
        (format!("{noun}_per_cpu_second")): report.items_per_cpu_second,
        (format!("{}_bytes", noun.trim_end_matches('s'))): report.item_bytes,
        "window_seconds": report.window_seconds,
        "ack_ms": report.ack.percentiles(),
        "arrival_ms": report.arrival.percentiles(),
        "decision_late_ms": report.lateness.percentiles(),
        "decided_late_p99_ms": report.decided_late_p99_ms,
        "schedule_late_ms": {"p99": load.late_p99_ms, "max": load.late_max_ms},
        "trace_apart_ms_max": load.apart_max_ms,
        "gateway_rss_bytes_max": report.gateway_rss_bytes_max,
        "gateway_cpu_share": report.gateway_cpu_share,
        "harness_cpu_share": report.harness_cpu_share,
        "load_limited": report.load_limited,
        "machine_stolen_seconds": report.machine_stolen_seconds,
        "ledger": {
            "offered": load.offered_items,
            "accepted": load.accepted_items,
            "refused": load.refused_items,
            "rejected_requests": load.rejected_requests,
            "unanswered_requests": load.unanswered_requests,
            "traces": report.expectation.traces,
            "kept_traces": report.expectation.kept_traces,
            (format!("kept_{noun}")): report.expectation.kept_items,
            "delivered": delivered,
            "gateway": gateway,
        },
    });
    if let (Value::Object(keys), Some(reasons)) = (&mut value, report.kept_by_reason()) {
        let reasons: Map<String, Value> =
            reasons.into_iter().map(|(policy, traces)| (policy.to_owned(), json!(traces))).collect();
        let DecisionFaults { missed, wrong, incomplete, over_limit_spans } = report.decision_faults();
        keys.insert("kept_by_reason".to_owned(), reasons.into());
        keys.insert("missed".to_owned(), missed.into());
        keys.insert("wrong".to_owned(), wrong.into());
        keys.insert("incomplete".to_owned(), incomplete.into());
        keys.insert("over_limit_spans".to_owned(), over_limit_spans.into());
    }
    if let Value::Object(keys) = &mut value {
        keys.extend(report.extra.clone());
    }
    value
}

fn joined(mut one: Value, other: Value) -> Value {
    if let (Value::Object(one), Value::Object(other)) = (&mut one, other) {
        one.extend(other);
    }
    one
}

/// Writes the report, and its plot beside it.
pub(crate) fn write_json(path: &Path, report: &Report) -> io::Result<()> {
    let text = serde_json::to_string_pretty(&report_json(report))?;
    std::fs::write(path, text + "\n")?;
    std::fs::write(path.with_extension("svg"), latency_plot(report))
}
