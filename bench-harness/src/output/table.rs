//! The report as a table on standard output.

use std::io::Write;

use codecs::otlp::Signal;

use crate::measure::{Latency, Percentiles};
use crate::report::{DecisionFaults, Report};
use crate::verdict::{ExporterFindings, Word};

/// Lines of the gateway's output under a failed run.
const GATEWAY_LINES: usize = 15;

/// From this share of a core on, what the hypervisor took is worth a line.
const STOLEN_SHARE: f64 = 0.02;

/// Prints everything a person wants to see.
pub(crate) fn print_report(report: &Report) {
    print_line(&render(report));
}

/// Prints text and ends the line; a reader that has gone away is no reason to fail a run.
pub(crate) fn print_line(text: &str) {
    drop(writeln!(std::io::stdout(), "{text}"));
}

fn render(report: &Report) -> String {
    let mut table = Table { text: format!("\n{}\n", report.title) };
    add_speed(&mut table, report);
    add_latencies(&mut table, report);
    add_ledger(&mut table, report);
    add_verdict(&mut table, report);
    table.text.trim_end().to_owned()
}

/// Lines of a name and a value.
struct Table {
    text: String,
}

impl Table {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn row(&mut self, name: &str, value: &str) {
        self.line(&format!("  {name:<24} {value}"));
    }

    fn latency(&mut self, name: &str, latency: &Latency) {
        let Percentiles { p50, p95, p99, p999, max } = latency.percentiles();
        self.row(name, &format!("{p50:>9.3} {p95:>9.3} {p99:>9.3} {p999:>9.3} {max:>9.3}"));
    }
}

fn add_speed(table: &mut Table, report: &Report) {
    let noun = report.noun();
    table.row(&format!("{noun} per second"), &thousands(report.items_per_second));
    if let Some(rate) = report.items_per_cpu_second {
        table.row(&format!("{noun} per CPU second"), &thousands(rate));
    }
    if let Some(share) = report.gateway_cpu_share {
        table.row("gateway CPU", &format!("{:.1} % of a core", share * 100.0));
    }
    let share = report.harness_cpu_share;
    let rate = thousands(report.items_per_second / share.max(1e-9));
    table.row("harness CPU", &format!("{:.1} % of its core: {rate} {noun} per CPU second", share * 100.0));
    if let Some(bytes) = report.gateway_rss_bytes_max {
        table.row("gateway memory, most", &format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20)));
    }
    table.row(&format!("size of {noun}"), &format!("{:.0} B on average", report.item_bytes));
    table.row("measured over", &format!("{:.1} s, after a warm-up", report.window_seconds));
    let stolen = report.machine_stolen_seconds;
    if stolen > STOLEN_SHARE * report.window_seconds {
        table.row("stolen", &format!("{stolen:.2} CPU seconds went to other machines: trust no latency"));
    }
    if cfg!(debug_assertions) {
        table.row("this harness", "was built without optimisation: its own time is in every latency");
    }
}

fn add_latencies(table: &mut Table, report: &Report) {
    table.row("milliseconds", &format!("{:>9} {:>9} {:>9} {:>9} {:>9}", "p50", "p95", "p99", "p99.9", "max"));
    table.latency("ack", &report.ack);
    if report.arrival.count() > 0 {
        table.latency("arrival at the sink", &report.arrival);
    }
    if report.lateness.count() > 0 {
        table.latency("kept spans late by", &report.lateness);
    }
    if let Some(bound_ms) = report.decided_late_p99_ms {
        table.row("decisions late by", &format!("{:>9} {:>9} {:>9}", "", "", format!("< {bound_ms:.0}")));
    }
    let load = &report.findings.load;
    let late = format!("{:>9} {:>9} {:>9.3} {:>9} {:>9.3}", "", "", load.late_p99_ms, "", load.late_max_ms);
    table.row("sent late by", &late);
}

fn add_ledger(table: &mut Table, report: &Report) {
    let load = &report.findings.load;
    let other = load.offered_items - load.accepted_items - load.refused_items;
    table.row(
        &format!("{} offered", report.noun()),
        &format!(
            "{} = {} accepted + {} refused + {other} without either answer",
            load.offered_items, load.accepted_items, load.refused_items
        ),
    );
    let expected = &report.expectation;
    if !report.findings.exporters.is_empty() && expected.traces > 0 {
        let kept = format!("{} to be kept ({} spans)", expected.kept_traces, expected.kept_items);
        table.row("traces", &format!("{}, {kept}", expected.traces));
    }
    add_decisions(table, report);
    for exporter in &report.findings.exporters {
        table.row(&exporter.id, &arrivals(report, exporter));
    }
    table.row("judged by", &report.judged_by);
    for example in &report.findings.faults.1 {
        table.line(&format!("    {example}"));
    }
}

/// Kept traces by reason, and what is wrong with decisions.
fn add_decisions(table: &mut Table, report: &Report) {
    let Some(reasons) = report.kept_by_reason() else {
        return;
    };
    let share = report.expectation.kept_traces as f64 / report.expectation.traces.max(1) as f64;
    let DecisionFaults { missed, wrong, incomplete, over_limit_spans } = report.decision_faults();
    table.row("kept", &format!("{:.1} %: {missed} missed, {wrong} wrong, {incomplete} incomplete", share * 100.0));
    for (policy, traces) in reasons {
        table.row("", &format!("{traces:>9} by {policy}"));
    }
    if over_limit_spans > 0 {
        table.row("", &format!("{over_limit_spans:>9} spans more than rate limits allow"));
    }
}

fn arrivals(report: &Report, exporter: &ExporterFindings) -> String {
    let noun = report.noun();
    let mut text = format!("{} {noun} of {} arrived", exporter.items, exporter.expected_items);
    let whole = match report.findings.signal {
        Signal::Traces => vec![
            (exporter.lost_traces, "traces lost"),
            (exporter.partial_traces, "partial"),
            (exporter.wrong_traces, "wrong"),
        ],
        Signal::Metrics | Signal::Logs => vec![
            (exporter.lost_items, "lost"),
            (exporter.wrong_items, "wrong"),
            (exporter.out_of_order_items, "out of order"),
        ],
    };
    let doubled = format!("{noun} doubled");
    let each = [
        (exporter.doubled_items, doubled.as_str()),
        (exporter.foreign_items, "foreign"),
        (exporter.altered_items, "altered"),
    ];
    for (count, what) in whole.into_iter().chain(each) {
        text.push_str(&format!(", {count} {what}"));
    }
    text
}

fn add_verdict(table: &mut Table, report: &Report) {
    let word = match report.verdict.word {
        Word::Ok => "ok",
        Word::Failed => "failed",
        Word::Void => "void",
    };
    table.line(&format!("verdict: {word}"));
    for reason in &report.verdict.reasons {
        table.line(&format!("  {reason}"));
    }
    if report.verdict.word == Word::Failed && !report.gateway_output.is_empty() {
        table.line("the gateway's last lines:");
        let lines: Vec<&str> = report.gateway_output.lines().collect();
        for line in &lines[lines.len().saturating_sub(GATEWAY_LINES)..] {
            table.line(&format!("  | {line}"));
        }
    }
}

/// A rate with its thousands apart.
pub(crate) fn thousands(rate: f64) -> String {
    let digits = format!("{rate:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}
