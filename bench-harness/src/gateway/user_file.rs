//! Reads from a user's configuration what a judge has to know: which exporters a trace leaves by, and what the tail
//! sampler must keep. Everything else is the gateway's business; a file it would refuse is not refused here.

use std::io;
use std::path::Path;

use codecs::otlp::Signal;
use saphyr_parser::{Event, Parser};

use super::config::{ExporterEndpoint, UserFile};
use crate::load::Protocol;
use crate::traces::{Condition, Pattern, Policies, Policy, Rule};

/// Deepest nesting of a configuration.
const DEPTH_MAX: usize = 64;

/// The Collector's default.
const DECISION_WAIT: &str = "30s";

/// YAML without anchors, tags and types.
#[derive(Clone, Debug, PartialEq)]
enum Node {
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    fn key(&self, key: &str) -> Option<&Node> {
        match self {
            Node::Map(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, node)| node),
            Node::Scalar(_) | Node::List(_) => None,
        }
    }

    fn path(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, key| node.key(key))
    }

    fn text(&self) -> Option<&str> {
        match self {
            Node::Scalar(text) => Some(text),
            Node::List(_) | Node::Map(_) => None,
        }
    }

    fn items(&self) -> &[Node] {
        match self {
            Node::List(items) => items,
            Node::Scalar(_) | Node::Map(_) => &[],
        }
    }
}

/// Reads a configuration file: its pipelines of this signal.
pub(crate) fn read_user_file(path: &Path, signal: Signal) -> io::Result<UserFile> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    let wrong = |what: String| io::Error::other(format!("{}: {what}", path.display()));
    let root = parse(&text).map_err(wrong)?;
    let pipelines = match root.path(&["service", "pipelines"]) {
        Some(Node::Map(pipelines)) => pipelines.as_slice(),
        _ => return Err(wrong("no service.pipelines".to_owned())),
    };
    let wanted: Vec<&Node> = pipelines
        .iter()
        .filter(|(name, _)| name.split('/').next() == Some(signal.name()))
        .map(|(_, pipeline)| pipeline)
        .collect();
    let listed = |list: &str| -> Vec<String> {
        let lists = wanted.iter().filter_map(|pipeline| pipeline.key(list));
        lists.flat_map(Node::items).filter_map(Node::text).map(str::to_owned).collect()
    };
    let exporters = listed("exporters").into_iter().filter_map(|id| exporter(&id)).collect();
    let sampler = listed("processors").into_iter().find(|id| id.split('/').next() == Some("tail_sampling"));
    let policies = match sampler {
        None => None,
        Some(id) => {
            let settings = root.path(&["processors", &id]).ok_or_else(|| wrong(format!("no processor {id}")))?;
            Some(policies(settings).map_err(wrong)?)
        }
    };
    Ok(UserFile { path: path.to_path_buf(), exporters, policies })
}

fn exporter(id: &str) -> Option<ExporterEndpoint> {
    let protocol = match id.split('/').next()? {
        "otlp" | "otlp_grpc" => Protocol::Grpc,
        "otlphttp" | "otlp_http" => Protocol::Http,
        _ => return None,
    };
    Some(ExporterEndpoint { id: id.to_owned(), protocol })
}

/// Reads the settings of a `tail_sampling` processor.
pub(super) fn read_policies(settings: &str) -> Result<Policies, String> {
    policies(&parse(settings)?)
}

fn policies(settings: &Node) -> Result<Policies, String> {
    let wait = settings.key("decision_wait").and_then(Node::text).unwrap_or(DECISION_WAIT);
    let listed = settings.key("policies").map(Node::items).unwrap_or_default();
    Ok(Policies {
        decision_wait_ns: duration_ns(wait).ok_or_else(|| format!("decision_wait {wait} is not understood here"))?,
        policies: listed.iter().map(policy).collect::<Result<_, _>>()?,
    })
}

fn policy(node: &Node) -> Result<Policy, String> {
    let text = |path: &[&str]| node.path(path).and_then(Node::text);
    let name = text(&["name"]).unwrap_or_default().to_owned();
    let number = |path: &[&str]| text(path).and_then(|text| text.parse::<f64>().ok());
    let unknown = || format!("policy {name}: the harness cannot tell what it must keep");
    let rule = match text(&["type"]) {
        Some("always_sample") => Rule::Always,
        Some("status_code") => {
            let codes = node.path(&["status_code", "status_codes"]).map(Node::items).unwrap_or_default();
            let only_error = codes.len() == 1 && codes[0].text() == Some("ERROR");
            only_error.then_some(Rule::Error).ok_or_else(unknown)?
        }
        Some("latency") if node.path(&["latency", "upper_threshold_ms"]).is_none() => {
            Rule::LatencyMs(number(&["latency", "threshold_ms"]).ok_or_else(unknown)? as u64)
        }
        Some("probabilistic") => {
            let percentage = number(&["probabilistic", "sampling_percentage"]).ok_or_else(unknown)?;
            Rule::probabilistic(percentage, text(&["probabilistic", "hash_salt"]).unwrap_or_default())
        }
        Some("string_attribute") => {
            let settings = node.key("string_attribute").ok_or_else(unknown)?;
            attribute(settings, text_condition(settings)).ok_or_else(unknown)?
        }
        Some("numeric_attribute") => {
            let settings = node.key("numeric_attribute").ok_or_else(unknown)?;
            attribute(settings, number_condition(settings)).ok_or_else(unknown)?
        }
        Some("rate_limiting") => {
            let spans_per_second = number(&["rate_limiting", "spans_per_second"]).ok_or_else(unknown)? as u64;
            // Without a capacity, the Collector's: twice the rate.
            let burst_spans = match number(&["rate_limiting", "burst_capacity"]).unwrap_or(0.0) as u64 {
                0 => 2 * spans_per_second,
                capacity => capacity,
            };
            Rule::Limited { spans_per_second, burst_spans }
        }
        _ => return Err(unknown()),
    };
    Ok(Policy { name, rule })
}

/// A rule about an attribute; `None` if it is not understood here.
fn attribute(settings: &Node, condition: Option<Condition>) -> Option<Rule> {
    let is_inverted = settings.key("invert_match").and_then(Node::text).is_some_and(|text| text != "false");
    let key = settings.key("key").and_then(Node::text)?.to_owned();
    condition.filter(|_| !is_inverted).map(|condition| Rule::Attribute { key, condition })
}

fn text_condition(settings: &Node) -> Option<Condition> {
    // An empty text never matches.
    let values = settings.key("values").map(Node::items)?.iter().map(Node::text);
    let values = values.filter(|value| *value != Some("")).collect::<Option<Vec<&str>>>()?;
    match settings.key("enabled_regex_matching").and_then(Node::text).unwrap_or("false") {
        "true" => {
            values.into_iter().map(|value| Pattern::new(value).ok()).collect::<Option<_>>().map(Condition::Patterns)
        }
        "false" => Some(Condition::Texts(values.into_iter().map(str::to_owned).collect())),
        _ => None,
    }
}

/// Whole bounds only: nothing else is sent.
fn number_condition(settings: &Node) -> Option<Condition> {
    let bound = |key: &str, unset: i64| match settings.key(key).and_then(Node::text) {
        Some(text) => text.parse().ok(),
        None => Some(unset),
    };
    Some(Condition::Integer { min: bound("min_value", i64::MIN)?, max: bound("max_value", i64::MAX)? })
}

/// One number with one unit; what configurations write for a decision wait.
fn duration_ns(text: &str) -> Option<u64> {
    let unit = text.find(|character: char| character.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit);
    let unit_ns = match unit {
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        _ => return None,
    };
    Some((number.parse::<f64>().ok()? * unit_ns) as u64)
}

fn parse(text: &str) -> Result<Node, String> {
    let mut events = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, _) = event.map_err(|error| error.to_string())?;
        match event {
            Event::Scalar(..) | Event::Alias(_) => events.push(event),
            Event::SequenceStart(..) | Event::SequenceEnd | Event::MappingStart(..) | Event::MappingEnd => {
                events.push(event);
            }
            _ => {}
        }
    }
    let mut events = events.into_iter();
    node(&mut events, 0)?.ok_or_else(|| "an empty file".to_owned())
}

/// The next node, or `None` at the end of its parent.
fn node<'a>(events: &mut impl Iterator<Item = Event<'a>>, depth: usize) -> Result<Option<Node>, String> {
    if depth > DEPTH_MAX {
        return Err(format!("nested deeper than {DEPTH_MAX}"));
    }
    let Some(event) = events.next() else {
        return Ok(None);
    };
    match event {
        Event::Scalar(text, ..) => Ok(Some(Node::Scalar(text.into_owned()))),
        Event::SequenceStart(..) => {
            let mut items = Vec::new();
            while let Some(item) = node(events, depth + 1)? {
                items.push(item);
            }
            Ok(Some(Node::List(items)))
        }
        Event::MappingStart(..) => {
            let mut entries = Vec::new();
            while let Some(key) = node(events, depth + 1)? {
                let value = node(events, depth + 1)?.ok_or("a key without a value")?;
                entries.push((key.text().unwrap_or_default().to_owned(), value));
            }
            Ok(Some(Node::Map(entries)))
        }
        Event::SequenceEnd | Event::MappingEnd => Ok(None),
        // Aliases are the gateway's to follow; what they hold is not looked at here.
        _ => Ok(Some(Node::Scalar(String::new()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exporters_and_policies_are_found_in_a_collector_configuration() {
        let file = tempfile(
            "
processors:
  batch: {timeout: 30s}
  tail_sampling:
    decision_wait: 10s
    policies:
    - {name: errors, type: status_code, status_code: {status_codes: [ERROR]}}
    - {name: slow, type: latency, latency: {threshold_ms: 1000}}
    - {name: random, type: probabilistic, probabilistic: {sampling_percentage: 5}}
exporters:
  otlp/jaeger: {endpoint: 'jaeger:4317'}
service:
  pipelines:
    traces:
      receivers: [otlp]
      processors: [memory_limiter, tail_sampling, batch]
      exporters: [otlp/jaeger, otlphttp, debug]
    metrics:
      exporters: [otlp/other]
",
        );
        let read = read_user_file(&file, Signal::Traces).unwrap();
        std::fs::remove_file(&file).unwrap();
        let exporters: Vec<(&str, Protocol)> =
            read.exporters.iter().map(|exporter| (exporter.id.as_str(), exporter.protocol)).collect();
        assert_eq!(exporters, [("otlp/jaeger", Protocol::Grpc), ("otlphttp", Protocol::Http)]);
        let policies = read.policies.unwrap();
        assert_eq!(policies.decision_wait_ns, 10_000_000_000);
        let rules: Vec<Rule> = policies.policies.into_iter().map(|policy| policy.rule).collect();
        assert_eq!(rules, [Rule::Error, Rule::LatencyMs(1_000), Rule::probabilistic(5.0, "default-hash-seed")]);
    }

    #[test]
    fn a_policy_whose_outcome_cannot_be_foretold_is_named() {
        let node = parse("{name: fast, type: rate_limiting, rate_limiting: {items_per_second: 5}}").unwrap();
        assert!(policy(&node).unwrap_err().contains("fast"));
    }

    #[test]
    fn policies_about_attributes_and_rates_are_understood() {
        let rule = |text: &str| policy(&parse(text).unwrap()).map(|policy| policy.rule);
        let attribute = |condition| Ok(Rule::Attribute { key: "a".to_owned(), condition });
        let string = |settings: &str| rule(&format!("{{type: string_attribute, string_attribute: {{{settings}}}}}"));
        let numeric = |settings: &str| rule(&format!("{{type: numeric_attribute, numeric_attribute: {{{settings}}}}}"));
        assert_eq!(
            string("key: a, values: [x, '', y]"),
            attribute(Condition::Texts(vec!["x".to_owned(), "y".to_owned()]))
        );
        assert_eq!(
            string("key: a, values: ['^x+$'], enabled_regex_matching: true"),
            attribute(Condition::Patterns(vec![Pattern::new("^x+$").unwrap()]))
        );
        assert_eq!(numeric("key: a, min_value: 0"), attribute(Condition::Integer { min: 0, max: i64::MAX }));
        assert_eq!(
            rule("{type: rate_limiting, rate_limiting: {spans_per_second: 5}}"),
            Ok(Rule::Limited { spans_per_second: 5, burst_spans: 10 })
        );
        assert!(string("key: a, values: ['('], enabled_regex_matching: true").is_err());
        assert!(string("key: a, values: [x], invert_match: true").is_err());
        assert!(numeric("key: a, min_value: 0.5").is_err());
    }

    fn tempfile(text: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("bench-harness-test-{}.yaml", fastrand::u64(..)));
        std::fs::write(&path, text).unwrap();
        path
    }
}
