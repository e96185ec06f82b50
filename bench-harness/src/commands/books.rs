//! The gateway's books beside ours.

use crate::gateway::Metrics;
use crate::traces::Policies;
use crate::verdict::{Expectation, Findings, LedgerLine};

/// What the gateway's counters grew by in this run, and what we counted.
///
/// `delivered` is what each exporter's sink had when the gateway was asked; every request had `items_per_request` items.
pub(super) fn ledger(
    findings: &Findings,
    items_per_request: u64,
    delivered: &[u64],
    expectation: &Expectation,
    policies: Option<&Policies>,
    before: &Metrics,
    after: &Metrics,
) -> Vec<LedgerLine> {
    let line = |name: &str, labels: &[(&str, &str)], ours: u64| {
        let shown: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let gateway = after.sum(name, labels).map(|after| after - before.sum(name, labels).unwrap_or(0).min(after));
        LedgerLine {
            metric: if shown.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", shown.join(",")) },
            ours,
            gateway,
        }
    };
    let items = findings.signal.items();
    let mut refused = line(&format!("otelcol_receiver_refused_{items}"), &[], findings.load.refused_items);
    // A gateway short of memory refuses requests before it reads what is in them, and counts these by the request.
    let unread = line("otelcol_receiver_refused_requests", &[], 0).gateway.unwrap_or(0);
    refused.gateway = refused.gateway.map(|refused| refused + unread * items_per_request);
    let accepted = line(&format!("otelcol_receiver_accepted_{items}"), &[], findings.load.accepted_items);
    let mut lines = vec![accepted, refused];
    for (exporter, delivered) in findings.exporters.iter().zip(delivered) {
        let labels = [("exporter", exporter.id.as_str())];
        lines.push(line(&format!("otelcol_exporter_sent_{items}"), &labels, *delivered));
        lines.push(line(&format!("otelcol_exporter_send_failed_{items}"), &labels, 0));
    }
    let Some(policies) = policies else {
        return lines;
    };
    // Traces nobody knows the end of cannot be counted from here.
    if expectation.uncertain_traces == 0 {
        let prefix = "otelcol_processor_tail_sampling";
        let decided = format!("{prefix}_global_count_traces_sampled");
        let dropped = expectation.traces - expectation.kept_traces;
        lines.push(line(&decided, &[("sampled", "true")], expectation.kept_traces));
        lines.push(line(&decided, &[("sampled", "false")], dropped));
        for (policy, votes) in policies.policies.iter().zip(&expectation.votes) {
            let labels = [("policy", policy.name.as_str()), ("sampled", "true")];
            lines.push(line(&format!("{prefix}_count_traces_sampled"), &labels, *votes));
        }
    }
    lines
}
