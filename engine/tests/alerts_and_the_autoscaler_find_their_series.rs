//! Every selector of the seed's alert rules and of its autoscaler, of our own rules and of the dashboard finds its series
//! on the metrics page of the seed's agent and of its gateway, from the first scrape on and with the labels that the
//! expressions need.
//!
//! Expressions are read from the seed's own files where they lie beside the checkout (`../shared/seed`), else from
//! `data/seed_selectors.txt`, which must say the same.

mod common;

use common::Gateway;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Labels that the scraper adds, and nobody who is scraped.
const OF_THE_SCRAPER: [&str; 4] = ["job", "instance", "pod", "namespace"];
/// Words of PromQL before a list of labels.
const LISTS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
/// Words of PromQL that are no metric, and stand before no parenthesis either.
const KEYWORDS: [&str; 5] = ["and", "or", "unless", "offset", "bool"];
/// What span metrics make of the applications' requests, and what recording rules make of that.
const OF_THE_APPLICATIONS: [&str; 5] = [
    "http_requests_total",
    "http_request_duration_seconds_bucket",
    "slo:availability:ratio",
    "slo:latency:p95",
    "slo:error_rate:ratio",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A metric with label matchers (`name="value"`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Selector {
    name: String,
    labels: Vec<String>,
}

/// Every selector of an expression: each identifier that is neither a function nor a keyword, with its braces.
fn selectors(expression: &str) -> Vec<Selector> {
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(at) = rest.find(|first: char| first.is_ascii_alphabetic() || "_:\"[0123456789".contains(first)) {
        rest = &rest[at..];
        let first = rest.chars().next().expect("something was found");
        let is_word = |character: char| character.is_ascii_alphanumeric() || "_:".contains(character);
        let end = match first {
            '"' => rest[1..].find('"').expect("quotes are closed") + 2,
            '[' => rest.find(']').expect("brackets are closed") + 1,
            _ => rest.find(|character| !is_word(character)).unwrap_or(rest.len()),
        };
        let (word, after) = rest.split_at(end);
        rest = after;
        let is_grouped = ["by (", "without ("].iter().any(|list| after.trim_start().starts_with(list));
        let is_function = after.trim_start().starts_with('(') || is_grouped;
        if LISTS.contains(&word) && is_function {
            rest = &after[after.find(')').expect("a list of labels ends")..];
            continue;
        }
        if first == '"' || first == '[' || first.is_ascii_digit() || is_function || KEYWORDS.contains(&word) {
            continue;
        }
        let (labels, after) = match after.strip_prefix('{').and_then(|inside| inside.split_once('}')) {
            Some((inside, after)) => (inside.split(',').map(|label| label.trim().to_owned()).collect(), after),
            None => (Vec::new(), after),
        };
        rest = after;
        found.push(Selector { name: word.to_owned(), labels });
    }
    found
}

/// `FILE EXPRESSION` lines of the copy.
fn copied() -> Vec<(String, String)> {
    let text = include_str!("data/seed_selectors.txt");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split_once(' ').expect("a file and an expression")).map(owned).collect()
}

fn owned((file, expression): (&str, &str)) -> (String, String) {
    (file.to_owned(), expression.to_owned())
}

/// The expressions of the seed's own files: what follows `expr:`, on its line or on the next, and the name of an
/// autoscaler's metric.
fn written() -> Option<Vec<(String, String)>> {
    let folder = root().join("../shared/seed");
    let mut expressions = Vec::new();
    for file in ["alert-rules.prometheus.yaml", "hpa.k8s.yaml"] {
        let text = std::fs::read_to_string(folder.join(file)).ok()?;
        let mut lines = text.lines().map(str::trim).peekable();
        while let Some(line) = lines.next() {
            let next = lines.peek().copied().unwrap_or_default();
            let expression = match line.strip_prefix("expr:").map(str::trim) {
                Some("|") => next,
                Some(expression) => expression,
                None if line == "metric:" => next.strip_prefix("name: ").unwrap_or_default(),
                None => continue,
            };
            expressions.push((file.to_owned(), expression.to_owned()));
        }
    }
    Some(expressions)
}

#[test]
fn the_copy_says_what_the_seed_says() {
    match written() {
        Some(written) => assert_eq!(copied(), written),
        None => eprintln!("skipped: the seed's files are not beside this checkout"),
    }
}

#[test]
fn selectors_are_read_out_of_expressions() {
    let names = |expression| selectors(expression).into_iter().map(|selector| selector.name).collect::<Vec<_>>();
    assert_eq!(names("sum(rate(a_bucket{x=\"b c\"}[5m])) / e:f > 0.9 and 1 < c"), ["a_bucket", "e:f", "c"]);
    assert_eq!(names("sum by (b, c) (rate(a[5m])) / on (d) e"), ["a", "e"]);
    assert_eq!(selectors("a{x=\"1\", y=\"2\"}")[0].labels, ["x=\"1\"", "y=\"2\""]);
}

/// Each selector of each expression has a series; returns the names that were looked up.
fn look_up(gateway: &Gateway, expressions: Vec<(String, String)>, but: &[&str]) -> BTreeSet<String> {
    let metrics = gateway.metrics();
    let mut looked = BTreeSet::new();
    for (file, expression) in expressions {
        for selector in selectors(&expression) {
            if but.contains(&selector.name.as_str()) {
                continue;
            }
            let own = |label: &&String| !OF_THE_SCRAPER.iter().any(|theirs| label.starts_with(&format!("{theirs}=")));
            let labels: Vec<&String> = selector.labels.iter().filter(own).collect();
            let series = metrics.series(&selector.name);
            let fitting = series.iter().filter(|series| labels.iter().all(|label| series.contains(label.as_str())));
            assert!(fitting.count() > 0, "{file}: no series for {selector:?} of {expression}; there are {series:?}");
            looked.insert(selector.name);
        }
    }
    looked
}

fn check(gateway: Gateway) {
    let looked = look_up(&gateway, copied(), &[]);
    assert_eq!(looked.len(), 7, "{looked:?}");
    let metrics = gateway.metrics();
    // A division of two vectors pairs series with equal labels.
    let labels = |name: &str| -> BTreeSet<String> {
        metrics.series(name).iter().map(|series| series.replace(name, "")).collect()
    };
    assert_eq!(labels("otelcol_exporter_queue_size"), labels("otelcol_exporter_queue_capacity"));
    let ending = gateway.stop();
    assert_eq!(ending.status.code(), Some(0), "{}", ending.said);
}

/// The seed's file as it is, but for ports, cores, and `more`.
fn seed(file: &str, more: &[&str]) -> Gateway {
    let sets = [
        "receivers.otlp.protocols.grpc.endpoint=127.0.0.1:0",
        "receivers.otlp.protocols.http.endpoint=127.0.0.1:0",
        "service.telemetry.metrics.address=127.0.0.1:0",
        "service.engine={cores: 2, pin: false, runtime: epoll, admin: '127.0.0.1:0'}",
    ];
    Gateway::of_file(&root().join("configs/seed").join(file), &[&sets[..], more].concat())
}

#[test]
fn the_agent_shows_every_series_that_alerts_and_the_autoscaler_select() {
    check(seed("agent.config.yaml", &[]));
}

#[test]
fn the_gateway_shows_every_series_that_alerts_and_the_autoscaler_select() {
    check(seed("gateway.config.yaml", &[]));
}

/// The expressions of a file whose lines say `key` and then the expression, in quotes or not, or in the lines below.
fn expressions_of(file: &str, key: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(root().join("configs").join(file)).expect("the file is part of the checkout");
    let mut lines = text.lines().peekable();
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        let Some(expression) = line.trim().strip_prefix(key) else { continue };
        let depth = |line: &str| line.len() - line.trim_start().len();
        let mut expression = expression.trim().trim_end_matches(',').to_owned();
        if expression == ">-" {
            expression.clear();
            while let Some(next) = lines.next_if(|next| depth(next) > depth(line)) {
                expression = format!("{expression} {}", next.trim());
            }
        }
        let json = expression.strip_prefix('"').and_then(|inside| inside.strip_suffix('"'));
        found.push((file.to_owned(), json.map_or(expression.clone(), |inside| inside.replace("\\\"", "\""))));
    }
    found
}

#[test]
fn our_alerts_and_every_panel_of_the_dashboard_find_their_series() {
    let gateway =
        seed("gateway.config.yaml", &["service.pipelines.traces.processors=[memory_limiter,tail_sampling,batch]"]);
    let rules = expressions_of("k8s/collector/rules.yaml", "expr:");
    let panels = expressions_of("grafana/tracegate.json", "\"expr\":");
    assert!(rules.len() >= 12 && panels.len() >= 25, "{} rules and {} queries were read", rules.len(), panels.len());
    let looked = look_up(&gateway, [rules, panels].concat(), &OF_THE_APPLICATIONS);
    assert!(looked.len() >= 20, "{looked:?}");
    let ending = gateway.stop();
    assert_eq!(ending.status.code(), Some(0), "{}", ending.said);
}
