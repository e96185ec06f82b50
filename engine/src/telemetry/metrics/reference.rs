//! `docs/metrics.md`: its reference is this table, written out.
//!
//! The test compares; `UPDATE_CASES=1 cargo test -p tracegate --lib reference` writes. What stands before and behind the
//! two marks of the page is written by people and stays.

use super::{GROUPS, Group};
use crate::telemetry::cells::{Kind, Metric};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
const BEGIN: &str = "<!-- reference: written from engine/src/telemetry/metrics by UPDATE_CASES=1 -->\n";
const END: &str = "<!-- end of the reference -->\n";

fn reference() -> String {
    GROUPS.iter().map(|group| section(group)).collect()
}

fn section(group: &Group) -> String {
    let about = if group.about.is_empty() { String::new() } else { format!(" {}", group.about) };
    let rows: String = group.metrics.iter().map(|metric| row(metric)).collect();
    format!(
        "\n## {}\n\nOf {}.{about}\n\n\
         | metric | kind | level | unit | labels | meaning |\n|---|---|---|---|---|---|\n{rows}",
        group.title, group.of
    )
}

fn row(metric: &Metric) -> String {
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge | Kind::Highest => "gauge",
        Kind::Histogram(_) => "histogram",
    };
    let level = format!("{:?}", metric.level).to_lowercase();
    let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
    let labels = labels.join(", ");
    let highest = match metric.kind {
        Kind::Highest => " The highest shard's value.",
        _ => "",
    };
    let more = if metric.more.is_empty() { String::new() } else { format!(" {}", metric.more) };
    let Metric { name, unit, help, .. } = metric;
    format!("| `{name}` | {kind} | {level} | {unit} | {labels} | {help}{more}{highest} |\n")
}

#[test]
fn the_reference_of_the_documentation_is_the_table() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page marks where the reference begins");
    let (written, behind) = rest.split_once(END).expect("the page marks where the reference ends");
    let expected = reference() + "\n";
    if std::env::var_os("UPDATE_CASES").is_some() {
        return std::fs::write(PAGE, [before, BEGIN, &expected, END, behind].concat()).unwrap();
    }
    for (written, expected) in written.lines().zip(expected.lines()) {
        assert_eq!(written, expected, "UPDATE_CASES=1 writes docs/metrics.md; then read the difference");
    }
    assert_eq!(written.len(), expected.len());
}

#[test]
fn no_cell_of_the_reference_breaks_its_table() {
    for line in reference().lines().filter(|line| line.starts_with("| `")) {
        assert_eq!(line.matches('|').count(), 7, "{line}");
    }
}
