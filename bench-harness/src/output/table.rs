//! The report as a table on standard output.

use crate::measure::Percentiles;
use crate::report::Report;
use crate::verdict::Word;

/// Prints everything a person wants to see.
pub(crate) fn print_report(report: &Report) {
    let load = &report.findings.load;
    println!();
    println!("{}", report.title);
    let row = |name: &str, value: String| println!("  {name:<24} {value}");
    row("spans per second", thousands(report.spans_per_second));
    if let Some(rate) = report.spans_per_cpu_second {
        row("spans per CPU second", thousands(rate));
    }
    if let Some(share) = report.gateway_cpu_share {
        row("gateway CPU", format!("{:.1} % of a core", share * 100.0));
    }
    let own = report.harness_cpu_share;
    let own_rate = thousands(report.spans_per_second / own.max(1e-9));
    row("harness CPU", format!("{:.1} % of the other core: {own_rate} spans per CPU second", own * 100.0));
    if let Some(bytes) = report.gateway_rss_bytes_max {
        row("gateway memory, most", format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20)));
    }
    row("span size", format!("{:.0} B on average", report.span_bytes));
    row("measured over", format!("{:.1} s, after a warm-up", report.window_seconds));
    println!("  {:<24} {:>9} {:>9} {:>9} {:>9} {:>9}", "milliseconds", "p50", "p95", "p99", "p99.9", "max");
    print_latency("ack", report.ack.percentiles());
    if report.arrival.count() > 0 {
        print_latency("arrival at the sink", report.arrival.percentiles());
        print_latency("decision late by", report.lateness.percentiles());
    }
    println!(
        "  {:<24} {:>9} {:>9} {:>9.2} {:>9} {:>9.2}",
        "sent late by", "", "", load.late_p99_ms, "", load.late_max_ms
    );
    row(
        "spans offered",
        format!(
            "{} = {} accepted + {} refused + {} in other requests",
            load.offered_spans,
            load.accepted_spans,
            load.refused_spans,
            load.offered_spans - load.accepted_spans - load.refused_spans
        ),
    );
    if !report.findings.exporters.is_empty() {
        row(
            "traces",
            format!(
                "{}, {} to be kept ({} spans)",
                report.expectation.traces, report.expectation.kept_traces, report.expectation.kept_spans
            ),
        );
    }
    for exporter in &report.findings.exporters {
        row(
            &exporter.id,
            format!(
                "{} spans of {}; traces lost {}, partial {}, wrong {}; spans doubled {}, foreign {}, altered {}",
                exporter.spans,
                exporter.expected_spans,
                exporter.lost_traces,
                exporter.partial_traces,
                exporter.wrong_traces,
                exporter.doubled_spans,
                exporter.foreign_spans,
                exporter.altered_spans
            ),
        );
    }
    row("judged by", report.judged_by.clone());
    for example in &report.findings.faults.1 {
        println!("    {example}");
    }
    let word = match report.verdict.word {
        Word::Ok => "ok",
        Word::Failed => "failed",
        Word::Void => "void",
    };
    println!("verdict: {word}");
    for reason in &report.verdict.reasons {
        println!("  {reason}");
    }
    if report.verdict.word == Word::Failed && !report.gateway_output.is_empty() {
        println!("the gateway's last lines:");
        let lines: Vec<&str> = report.gateway_output.lines().collect();
        for line in &lines[lines.len().saturating_sub(15)..] {
            println!("  | {line}");
        }
    }
}

fn print_latency(name: &str, latency: Percentiles) {
    println!(
        "  {name:<24} {:>9.3} {:>9.3} {:>9.3} {:>9.3} {:>9.3}",
        latency.p50, latency.p95, latency.p99, latency.p999, latency.max
    );
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
