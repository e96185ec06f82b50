//! The figures of `bench-harness sdk` as a table and as JSON, beside those that the design started from. Pure.

use serde_json::{Value, json};
use std::fmt::Write;

/// One benchmark.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    /// Its key in JSON.
    pub(super) key: &'static str,
    /// What one operation is.
    pub(super) operation: &'static str,
    /// Operations in each round.
    pub(super) operations: u64,
    /// What one costs: the round in the middle.
    pub(super) cost: Cost,
    /// Another SDK's figures for the same, which were given to the design.
    pub(super) expected: Option<Cost>,
}

/// Of one operation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cost {
    pub(super) ns: f64,
    /// Allocated, whether or not it was given back.
    pub(super) bytes: f64,
    pub(super) allocations: f64,
}

impl Cost {
    /// Of one of so many equal parts.
    pub(super) fn divided(self, parts: f64) -> Cost {
        Cost { ns: self.ns / parts, bytes: self.bytes / parts, allocations: self.allocations / parts }
    }

    /// What one more attribute costs, of two rows and the number of attributes in the second.
    pub(super) fn beyond(self, less: Cost, attributes: f64) -> Cost {
        Cost { ns: self.ns - less.ns, bytes: self.bytes - less.bytes, allocations: self.allocations - less.allocations }
            .divided(attributes)
    }

    fn json(self) -> Value {
        let rounded = |figure: f64| (figure * 10.0).round() / 10.0;
        json!({
            "ns": rounded(self.ns),
            "bytes": rounded(self.bytes),
            "allocations": rounded(self.allocations),
        })
    }
}

/// For people.
pub(super) fn text(rows: &[Row]) -> String {
    let mut text =
        format!("{:<46} {:>10} {:>10} {:>7}   {}\n", "operation", "ns", "bytes", "allocs", "Go SDK, as given");
    for row in rows {
        let Cost { ns, bytes, allocations } = row.cost;
        let expected = row.expected.map_or(String::new(), |Cost { ns, bytes, allocations }| {
            format!("{ns:.0} ns, {bytes:.0} B, {allocations:.0} allocs")
        });
        let line = format!("{:<46} {ns:>10.1} {bytes:>10.1} {allocations:>7.1}   {expected}", row.operation);
        writeln!(text, "{}", line.trim_end()).expect("writing to a string cannot fail");
    }
    text
}

/// For programs.
pub(super) fn json(rows: &[Row], accepted_spans: u64) -> Value {
    let benchmarks: serde_json::Map<String, Value> = rows
        .iter()
        .map(|row| {
            let expected = row.expected.map_or(Value::Null, Cost::json);
            let figures = json!({
                "operation": row.operation,
                "operations": row.operations,
                "cost": row.cost.json(),
                "go_sdk_as_given": expected,
            });
            (row.key.to_owned(), figures)
        })
        .collect();
    json!({ "benchmarks": benchmarks, "accepted_spans": accepted_spans })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(ns: f64, bytes: f64, allocations: f64) -> Cost {
        Cost { ns, bytes, allocations }
    }

    fn rows() -> [Row; 2] {
        let row = |key, cost, expected| Row { key, operation: "a span", operations: 7, cost, expected };
        [
            row("creation", cost(300.0, 512.0, 2.0), Some(cost(1_200.0, 480.0, 8.0))),
            row("other", cost(1.25, 0.0, 0.0), None),
        ]
    }

    #[test]
    fn figures_stand_beside_those_that_were_given() {
        let text = text(&rows());
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].ends_with("300.0      512.0     2.0   1200 ns, 480 B, 8 allocs"), "{text}");
        assert!(lines[2].ends_with("1.2        0.0     0.0"), "{text}");
        let json = json(&rows(), 9);
        assert_eq!(json["benchmarks"]["creation"]["cost"], json!({ "ns": 300.0, "bytes": 512.0, "allocations": 2.0 }));
        assert_eq!(json["benchmarks"]["creation"]["go_sdk_as_given"]["allocations"], 8.0);
        assert_eq!(
            (&json["benchmarks"]["other"]["go_sdk_as_given"], &json["accepted_spans"]),
            (&Value::Null, &json!(9))
        );
    }

    #[test]
    fn an_attribute_costs_what_a_span_with_some_costs_more() {
        let per_attribute = cost(800.0, 1_000.0, 7.0).beyond(cost(300.0, 500.0, 2.0), 5.0);
        assert_eq!(per_attribute, cost(100.0, 100.0, 1.0));
    }
}
