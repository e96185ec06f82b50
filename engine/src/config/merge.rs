//! Several sources -> one tree: maps are merged key by key, everything else is replaced by the later one.
//!
//! A `--set a.b.c=value` is a source with one value. Its nodes keep their places inside that text, so an error points
//! at the argument. This file never expands and never checks.

use std::sync::Arc;

use super::diagnostic::{Place, Report, SourceText, shown};
use super::yaml::{self, Entry, Node, Value};

/// Deepest path of a `--set`; nothing known is deeper than 10.
const STEPS_MAX: usize = 32;

/// Puts `over` on top of `base`.
pub(crate) fn merge(base: &mut Node, over: Node) {
    let (Value::Map(entries), Value::Map(_)) = (&mut base.value, &over.value) else {
        *base = over;
        return;
    };
    let Value::Map(later) = over.value else {
        return;
    };
    for entry in later {
        match entries.iter_mut().find(|known| known.key == entry.key) {
            None => entries.push(entry),
            Some(known) => {
                merge(&mut known.node, entry.node);
                known.place = entry.place;
            }
        }
    }
}

/// A map at whose top `a::b: x` stands for `a: {b: x}`, as in the Collector. Keys with nothing between colons stay.
pub(crate) fn split_keys(tree: Node) -> Node {
    let Value::Map(entries) = tree.value else { return tree };
    let mut split = Node { value: Value::Map(Vec::new()), ..tree };
    for entry in entries {
        let steps: Vec<&str> = entry.key.split("::").collect();
        let plain = steps.len() == 1 || steps.len() > STEPS_MAX || steps.iter().any(|step| step.is_empty());
        let (first, rest) = if plain { (entry.key.as_str(), [].as_slice()) } else { (steps[0], &steps[1..]) };
        let mut node = entry.node;
        for step in rest.iter().rev() {
            let inner = Entry { key: (*step).to_owned(), place: entry.place.clone(), node };
            node = Node { value: Value::Map(vec![inner]), place: entry.place.clone(), expanded: None };
        }
        let outer = Entry { key: first.to_owned(), place: entry.place.clone(), node };
        merge(&mut split, Node { value: Value::Map(vec![outer]), place: entry.place, expanded: None });
    }
    split
}

/// The tree of one `--set`. Keys are split at `.`, or at `::` if one is there, so that a name may contain a dot.
pub(crate) fn set(source: &Arc<SourceText>, report: &Report) -> Option<Node> {
    let text = &source.text;
    let Some(equals) = text.find('=') else {
        report.error(
            &Place::new(source, 0..text.len()),
            "",
            format!("{} has no `=`", shown(text)),
            "write `--set key.key=value`, as in `--set 'exporters.otlp/tempo.endpoint=tempo:4317'`",
        );
        return None;
    };
    let separator = if text[..equals].contains("::") { "::" } else { "." };
    let steps: Vec<&str> = text[..equals].split(separator).collect();
    if steps.len() > STEPS_MAX || steps.iter().any(|step| step.is_empty()) {
        report.error(
            &Place::new(source, 0..equals),
            "",
            format!("{} is no key path", shown(&text[..equals])),
            "write keys with a `.` between them, as in `processors.batch.timeout=1s`",
        );
        return None;
    }
    let mut node = yaml::parse(source, equals + 1, report)?;
    let mut end = equals;
    for step in steps.iter().rev() {
        let place = Place::new(source, end - step.len()..end);
        end = end.saturating_sub(step.len() + separator.len());
        node = Node {
            place: place.clone(),
            value: Value::Map(vec![Entry { key: (*step).to_owned(), place, node }]),
            expanded: None,
        };
    }
    Some(node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::print;

    fn source(text: &str, order: usize) -> Arc<SourceText> {
        Arc::new(SourceText { name: "--set".into(), text: text.into(), order })
    }

    fn check(base: &str, sets: &[&str], expected: &str) -> Node {
        let report = Report::default();
        let mut node = yaml::parse(&source(base, 0), 0, &report).unwrap();
        for (index, text) in sets.iter().enumerate() {
            merge(&mut node, set(&source(text, index + 1), &report).unwrap());
        }
        assert!(!report.has_errors());
        assert_eq!(print::yaml(&node), expected);
        node
    }

    #[test]
    fn maps_merge_deep_and_lists_and_scalars_are_replaced() {
        check(
            "a: {b: {c: 1, d: [1, 2]}}\n",
            &["a.b.d=[3]", "a.b.e=x", "a.f={g: 1}"],
            "a:\n  b:\n    c: 1\n    d:\n      - 3\n    e: x\n  f:\n    g: 1\n",
        );
        check("a: {b: 1}\n", &["a=2"], "a: 2\n");
        check("a: {b: 1}\n", &["a=null"], "a: null\n");
        check("a: 1\n", &["a.b=2"], "a:\n  b: 2\n");
    }

    #[test]
    fn a_slash_is_literal_and_two_colons_allow_dots_in_names() {
        check("", &["exporters.otlp/jaeger.endpoint=j:4317"], "exporters:\n  otlp/jaeger:\n    endpoint: j:4317\n");
        check("", &["exporters::otlp/v1.2::endpoint=j:4317"], "exporters:\n  otlp/v1.2:\n    endpoint: j:4317\n");
        check("", &["a=b=c"], "a: b=c\n");
    }

    #[test]
    fn two_colons_in_a_key_at_the_top_are_a_path() {
        let text = "service::telemetry::logs::level: debug\nservice: {telemetry: {logs: {encoding: json}}}\n::a: 1\n";
        let report = Report::default();
        let node = split_keys(yaml::parse(&source(text, 0), 0, &report).unwrap());
        let expected = "service:\n  telemetry:\n    logs:\n      level: debug\n      encoding: json\n";
        assert!(print::yaml(&node).starts_with(expected), "{}", print::yaml(&node));
        assert!(node.at("::a").is_some());
    }

    #[test]
    fn places_point_into_the_argument() {
        let node = check("a: {b: 1}", &["a.bb=xyz"], "a:\n  b: 1\n  bb: xyz\n");
        let value = node.at("a").unwrap().at("bb").unwrap();
        assert_eq!(value.place.to_string(), "--set:1:6");
        let Value::Map(entries) = &node.at("a").unwrap().value else { panic!() };
        assert_eq!(entries[1].place.to_string(), "--set:1:3");
    }

    #[test]
    fn what_is_no_assignment_is_refused() {
        for text in ["a.b", "", "a..b=1", ".a=1", "=1", "a=[", &format!("{}a=1", "a.".repeat(40))] {
            let report = Report::default();
            assert!(set(&source(text, 0), &report).is_none(), "{text}");
            assert!(report.has_errors(), "{text}");
        }
    }
}
