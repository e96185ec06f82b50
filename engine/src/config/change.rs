//! What differs between two configurations, key by key, and what of it a running gateway can take.
//!
//! ```text
//! old tree, new tree --> changed key paths --> applied live: these processors get their new settings
//!                                          |-> of no effect: no pipeline uses the component
//!                                          \-> only a restart applies it
//! ```
//!
//! The idea: the trees are compared, not what was made of them. So a change is named as its author wrote it, and none is
//! overlooked because nobody thought of comparing a setting. What means the same and is written otherwise (`10s`, `10000ms`)
//! counts as a change. Pure; values are never shown, because some are secrets.

use super::Loaded;
use super::checked::{ComponentId, Config, ProcessorKind};
use super::yaml::{Entry, Node, Value};

/// Key paths that a message names; the rest is counted.
const NAMED_MAX: usize = 20;

/// Keys of `tail_sampling` that belong to its traces, or apply to all of them at once.
const LIVE_TAIL_SAMPLING: [&str; 17] = [
    "block_on_overflow",
    "decide_on_complete",
    "decide_when_certain",
    "decision_cache",
    "decision_wait",
    "decision_wait_after_root_received",
    "drop_pending_traces_on_shutdown",
    "maximum_trace_size_bytes",
    "num_traces",
    "policies",
    "sample_on_first_match",
    "stress_relief",
    "write_reason",
    "write_threshold",
    // Without effect here.
    "expected_new_traces_per_sec",
    "num_shards",
    "sampling_strategy",
];
/// Keys of `batch` that say when a batch leaves.
const LIVE_BATCH: [&str; 3] = ["timeout", "send_batch_size", "send_batch_max_size"];

/// What all texts of a configuration say, merged and expanded.
#[derive(Clone, Debug)]
pub struct Tree(Node);

/// Where in the tree: keys from the top; a place in a list is `[n]`.
type KeyPath = Vec<String>;

/// What differs between the configuration that runs and one that should.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Numbers of the processors whose settings differ; the same in both configurations, if nothing needs a restart.
    pub processors: Vec<usize>,
    /// Something differs, though perhaps nothing that has an effect.
    pub is_any: bool,
    /// Key paths that only a restart applies, in the order of the file.
    pub restart: Vec<String>,
}

impl Loaded {
    /// What [`Change::between`] compares; `None` if a text is no YAML.
    pub fn tree(&self) -> Option<Tree> {
        self.merged.clone().map(Tree)
    }
}

impl Change {
    /// From the configuration that runs to another.
    pub fn between(old: (&Tree, &Config), new: (&Tree, &Config)) -> Change {
        let mut paths = Vec::new();
        compare(&old.0.0, &new.0.0, &mut Vec::new(), &mut paths);
        let mut change = Change { is_any: !paths.is_empty(), ..Change::default() };
        // Receivers keep of a request what processors ask of its sender; they do not change.
        let wanted = |config: &Config| config.receivers.iter().map(|it| it.wanted.clone()).collect::<Vec<_>>();
        let asks_for_the_same = wanted(old.1) == wanted(new.1);
        for path in &paths {
            match effect(path, old.1, new.1) {
                Effect::None => {}
                Effect::Processor(id) if asks_for_the_same => {
                    let processors = new.1.processors.iter().enumerate();
                    let numbers = processors.filter(|(_, it)| it.id.to_string() == *id).map(|(number, _)| number);
                    let news: Vec<usize> = numbers.filter(|number| !change.processors.contains(number)).collect();
                    change.processors.extend(news);
                }
                Effect::Processor(_) | Effect::Restart => change.restart.push(shown(path)),
            }
        }
        if change.is_any && change.restart.is_empty() && order(old.1) != order(new.1) {
            change.restart.push("the order of `service.pipelines`".to_owned());
        }
        change
    }

    /// What to do about what only a restart applies, in one sentence that names it; `None` if there is nothing.
    pub fn needs_restart(&self) -> Option<String> {
        if self.restart.is_empty() {
            return None;
        }
        let named: Vec<&str> = self.restart.iter().take(NAMED_MAX).map(String::as_str).collect();
        let more = self.restart.len() - named.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Some(format!(
            "a running gateway cannot change {}{more}; nothing of the new configuration is applied: restart to apply it, \
             or take these changes back",
            named.join(", ")
        ))
    }
}

/// What a changed key does.
enum Effect<'p> {
    None,
    /// The settings of the processor with this id.
    Processor(&'p str),
    Restart,
}

fn effect<'p>(path: &'p [String], old: &Config, new: &Config) -> Effect<'p> {
    let keys: Vec<&str> = path.iter().map(String::as_str).collect();
    match keys.as_slice() {
        ["service", "engine", "reload", ..] => Effect::None,
        [section, id, ..] if *section != "service" && !is_used(section, id, old) && !is_used(section, id, new) => {
            Effect::None
        }
        ["processors", id, key, ..] if is_live(id, key, old) && is_used("processors", id, new) => {
            Effect::Processor(&path[1])
        }
        _ => Effect::Restart,
    }
}

/// What a number in a configuration stands for; that of pipelines follows the file, in which keys may change places.
fn order(config: &Config) -> [Vec<String>; 3] {
    let pipelines = config.pipelines.iter().map(|it| it.id.to_string());
    let processors = config.processors.iter().map(|it| it.id.to_string());
    let exporters = config.exporters.iter().map(|it| it.id.to_string());
    [pipelines.collect(), processors.collect(), exporters.collect()]
}

/// Whether anything runs that was defined there.
fn is_used(section: &str, id: &str, config: &Config) -> bool {
    let is = |known: &ComponentId| known.to_string() == id;
    match section {
        "receivers" => config.receivers.iter().any(|it| is(&it.id)),
        "processors" => config.processors.iter().any(|it| is(&it.id)),
        "exporters" => config.exporters.iter().any(|it| is(&it.id)),
        "connectors" => {
            config.span_metrics.iter().any(|it| is(&it.id))
                || config.pipelines.iter().flat_map(|pipeline| &pipeline.forwards).any(|it| is(&it.id))
        }
        "extensions" => {
            config.extensions.iter().any(|it| is(&it.id))
                || config.authenticators.iter().any(|it| is(&it.id))
                || config.storages.iter().any(|it| is(&it.id))
        }
        _ => true,
    }
}

/// Whether this key of a processor that runs can be changed while it does.
fn is_live(id: &str, key: &str, config: &Config) -> bool {
    let Some(processor) = config.processors.iter().find(|it| it.id.to_string() == id) else {
        return false;
    };
    match processor.kind {
        ProcessorKind::TailSampling(_) => LIVE_TAIL_SAMPLING.contains(&key),
        ProcessorKind::Batch { .. } => LIVE_BATCH.contains(&key),
        ProcessorKind::Resource(_)
        | ProcessorKind::Attributes { .. }
        | ProcessorKind::Filter(_)
        | ProcessorKind::Redaction(_)
        | ProcessorKind::ProbabilisticSampler(_)
        | ProcessorKind::Transform(_)
        | ProcessorKind::GroupByTrace => true,
        // Its limit is the budget of the process, of which shards hold leases.
        ProcessorKind::MemoryLimiter { .. } => false,
    }
}

/// Adds every path below `at` where the trees differ.
fn compare(old: &Node, new: &Node, at: &mut KeyPath, paths: &mut Vec<KeyPath>) {
    match (&old.value, &new.value) {
        (Value::Map(_), _) | (_, Value::Map(_)) if entries(old).is_some() && entries(new).is_some() => {
            for entry in entries(old).unwrap_or_default() {
                at.push(entry.key.clone());
                match new.at(&entry.key) {
                    Some(node) => compare(&entry.node, node, at, paths),
                    None => paths.push(at.clone()),
                }
                at.pop();
            }
            let added = entries(new).unwrap_or_default().iter();
            for entry in added.filter(|entry| old.at(&entry.key).is_none()) {
                at.push(entry.key.clone());
                paths.push(at.clone());
                at.pop();
            }
        }
        (Value::List(before), Value::List(after)) if before.len() == after.len() => {
            for (place, (old, new)) in before.iter().zip(after).enumerate() {
                at.push(format!("[{place}]"));
                compare(old, new, at, paths);
                at.pop();
            }
        }
        (Value::Scalar(before), Value::Scalar(after)) => {
            // Text that a variable gave is taken as text by fields that want it, whatever it means.
            let same = before.meaning() == after.meaning() && old.expanded == new.expanded;
            if !same {
                paths.push(at.clone());
            }
        }
        _ => paths.push(at.clone()),
    }
}

/// Of a map, of which `key:` is an empty one; `None` of everything else.
fn entries(node: &Node) -> Option<&[Entry]> {
    match &node.value {
        Value::Map(entries) => Some(entries),
        _ if node.is_null() => Some(&[]),
        _ => None,
    }
}

fn shown(path: &[String]) -> String {
    let mut shown = String::new();
    for key in path {
        if !shown.is_empty() && !key.starts_with('[') {
            shown.push('.');
        }
        shown.push_str(key);
    }
    format!("`{shown}`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Machine, Source, load};

    const GATEWAY: &str = "\
receivers: {otlp: {protocols: {grpc: {endpoint: 'localhost:4317'}}}}
processors:
  memory_limiter: {check_interval: 1s, limit_mib: 100}
  batch: {timeout: 1s}
  tail_sampling:
    decision_wait: 10s
    num_traces: 100
    policies: [{name: errors, type: status_code, status_code: {status_codes: [ERROR]}}]
  attributes/unused: {actions: [{key: a, value: b, action: insert}]}
exporters:
  otlp/a: {endpoint: 'tempo:4317', headers: {authorization: secret}}
  nop:
service: {pipelines: {traces: {receivers: [otlp], processors: [memory_limiter, tail_sampling, batch], exporters: [otlp/a]}}}
";

    fn loaded(text: &str) -> (Tree, Config) {
        let file = Source::File { name: "gateway.yaml".into(), text: text.into() };
        let loaded = load(&[file], &|_| None, &Machine { memory_bytes: 4 << 30 });
        (loaded.tree().unwrap(), loaded.config.unwrap())
    }

    /// Of [`GATEWAY`] with one text replaced by another.
    fn change(from: &str, to: &str) -> Change {
        assert!(GATEWAY.contains(from), "{from}");
        let (old, new) = (loaded(GATEWAY), loaded(&GATEWAY.replacen(from, to, 1)));
        Change::between((&old.0, &old.1), (&new.0, &new.1))
    }

    fn check(from: &str, to: &str, processors: &[usize], restart: &[&str]) {
        let found = change(from, to);
        assert_eq!((found.processors.as_slice(), found.restart.len()), (processors, restart.len()), "{found:?}");
        assert!(restart.iter().all(|path| found.restart.contains(&format!("`{path}`"))), "{found:?}");
    }

    #[test]
    fn rules_and_timings_are_live() {
        check("ERROR", "OK", &[1], &[]);
        check("decision_wait: 10s", "decision_wait: 20s", &[1], &[]);
        check("decision_wait: 10s", "decision_wait: 20s\n    decide_on_complete: {quiet: 2s}", &[1], &[]);
        check("timeout: 1s", "timeout: 2s", &[2], &[]);
    }

    /// Every key of `tail_sampling` that means anything.
    #[test]
    fn all_of_tail_sampling_is_live() {
        for other in [
            "num_traces: 200",
            "decision_cache: {sampled_cache_size: 1000, non_sampled_cache_size: 5000}",
            "write_threshold: true",
            "write_reason: true",
            "stress_relief: {shed: {enabled: true}}",
            "block_on_overflow: true",
            "maximum_trace_size_bytes: 1000000",
        ] {
            check("num_traces: 100", other, &[1], &[]);
        }
    }

    #[test]
    fn what_only_a_restart_applies_is_named_by_its_key() {
        check("localhost:4317", "localhost:4318", &[], &["receivers.otlp.protocols.grpc.endpoint"]);
        check("limit_mib: 100", "limit_mib: 200", &[], &["processors.memory_limiter.limit_mib"]);
        check("exporters: [otlp/a]", "exporters: [otlp/a, nop]", &[], &["service.pipelines.traces.exporters"]);
        check(
            "tail_sampling, batch]",
            "batch, tail_sampling]",
            &[],
            &["service.pipelines.traces.processors[1]", "service.pipelines.traces.processors[2]"],
        );
    }

    #[test]
    fn what_receivers_must_keep_for_a_processor_needs_a_restart() {
        let tagged = |action: &str| {
            GATEWAY
                .replace("actions: [{key: a, value: b, action: insert}]", &format!("actions: [{action}]"))
                .replace("tail_sampling, batch]", "attributes/unused, tail_sampling, batch]")
        };
        let between = |old: &str, new: &str| {
            let (old, new) = (loaded(&tagged(old)), loaded(&tagged(new)));
            Change::between((&old.0, &old.1), (&new.0, &new.1))
        };
        let (plain, other) = ("{key: a, value: b, action: insert}", "{key: a, value: c, action: insert}");
        assert_eq!(between(plain, other).processors.len(), 1);
        let change = between(plain, "{key: a, from_context: client.address, action: insert}");
        assert!(change.processors.is_empty() && !change.restart.is_empty(), "{change:?}");
    }

    #[test]
    fn what_no_pipeline_uses_has_no_effect() {
        let found = change("value: b", "value: c");
        assert_eq!(found, Change { is_any: true, ..Change::default() });
        assert_eq!(change("receivers: [otlp]", "receivers: ['otlp']"), Change::default());
        assert_eq!(change("nop:\n", "nop: {}\n"), Change::default());
    }

    #[test]
    fn the_sentence_names_keys_and_never_values() {
        let found = change("authorization: secret", "authorization: hidden");
        let sentence = found.needs_restart().unwrap();
        assert!(sentence.contains("`exporters.otlp/a.headers.authorization`"), "{sentence}");
        assert!(sentence.contains("restart to apply"), "{sentence}");
        assert!(!sentence.contains("secret") && !sentence.contains("hidden"), "{sentence}");
    }
}
