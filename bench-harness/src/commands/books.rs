//! The gateway's books beside ours.

use crate::gateway::Metrics;
use crate::traces::{Policies, Policy, Rule};
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
        // A rate limit is asked of traces that others keep, too: how often it agreed is known to the gateway alone.
        let is_known = |(policy, _): &(&Policy, &u64)| !matches!(policy.rule, Rule::Limited { .. });
        for (policy, votes) in policies.policies.iter().zip(&expectation.votes).filter(is_known) {
            let labels = [("policy", policy.name.as_str()), ("sampled", "true")];
            lines.push(line(&format!("{prefix}_count_traces_sampled"), &labels, *votes));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::Work;
    use crate::verdict::{Word, judge};

    const TRACES: u64 = 100;

    /// A run of a hundred traces in which each policy but the last, a rate limit, wanted ten for itself.
    fn lines(change: impl Fn(&str) -> String) -> Vec<LedgerLine> {
        let policies = Work::ten_policies(10).policies().unwrap();
        let names: Vec<&str> = policies.policies.iter().map(|policy| policy.name.as_str()).collect();
        let prefix = "otelcol_processor_tail_sampling";
        let mut text = format!("otelcol_receiver_accepted_spans {TRACES}\notelcol_receiver_refused_spans 0\n");
        text += &format!("{prefix}_global_count_traces_sampled{{sampled=\"true\"}} 93\n");
        text += &format!("{prefix}_global_count_traces_sampled{{sampled=\"false\"}} 7\n");
        for name in &names {
            text += &format!("{prefix}_count_traces_sampled{{policy=\"{name}\",sampled=\"true\"}} 10\n");
        }
        let findings = Findings::default();
        let findings = Findings {
            load: crate::verdict::LoadFindings { accepted_items: TRACES, ..findings.load.clone() },
            ..findings
        };
        let mut votes = vec![10; names.len()];
        votes[names.len() - 1] = 0;
        let expectation = Expectation { traces: TRACES, kept_traces: 93, votes, ..Expectation::default() };
        let after = Metrics::parse(&change(&text));
        ledger(&findings, 1, &[], &expectation, Some(&policies), &Metrics::default(), &after)
    }

    fn word(lines: Vec<LedgerLine>) -> (Word, Vec<String>) {
        let mut findings = Findings { ledger: lines, ..Findings::default() };
        findings.load.accepted_items = TRACES;
        let verdict = judge(&findings);
        (verdict.word, verdict.reasons)
    }

    #[test]
    fn a_trace_that_was_kept_for_another_reason_is_found_in_the_books() {
        assert_eq!(word(lines(str::to_owned)), (Word::Ok, Vec::new()));
        let exchanged = |text: &str| {
            let vote = |policy: &str, count: u64| format!("{{policy=\"{policy}\",sampled=\"true\"}} {count}");
            text.replace(&vote("refunds", 10), &vote("refunds", 9)).replace(&vote("exports", 10), &vote("exports", 11))
        };
        let (word, reasons) = word(lines(exchanged));
        assert_eq!(word, Word::Failed);
        assert_eq!(reasons.len(), 2, "{reasons:?}");
        assert!(reasons[0].contains("policy=refunds") && reasons[1].contains("policy=exports"), "{reasons:?}");
    }

    #[test]
    fn how_often_a_rate_limit_agreed_is_left_to_the_gateway() {
        let lines = lines(str::to_owned);
        assert!(lines.iter().any(|line| line.metric.contains("policy=random")));
        assert!(lines.iter().all(|line| !line.metric.contains("policy=trickle")), "{lines:?}");
    }
}
