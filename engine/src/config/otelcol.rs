//! The way back: a configuration of ours -> one that the Collector takes.
//!
//! The idea: the texts are merged and not expanded, so that variables stay variables and the Collector expands them where
//! it runs. What only we read is taken out by the table in `known`; where taking it out changes what the gateway does, or
//! where the Collector demands a key that we do not, a note says what was written instead. Nothing else is touched: what
//! the Collector would refuse for another reason, it refuses.

use super::diagnostic::{Place, Report};
use super::known::{OURS, Step};
use super::print::{self, Dollars};
use super::scalar::Meaning;
use super::yaml::{Entry, Node, Scalar, Value};
use super::{Diagnostic, Source, component, merge_sources, review};

/// Where the metrics page is where nothing is written; the Collector's too.
const DEFAULT_ADDRESS: &str = "localhost:8888";

/// A configuration for the Collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Translated {
    /// YAML.
    pub text: String,
    /// What was changed, one sentence each, in the order of the changes.
    pub notes: Vec<String>,
}

/// Translates texts. The error is what is wrong with them as YAML; what is wrong with keys and values is not looked for.
pub fn translate(sources: &[Source], redacted: bool) -> Result<Translated, Vec<Diagnostic>> {
    let report = Report::default();
    let merged = merge_sources(sources, &report);
    let Some(mut tree) = merged.filter(|_| !report.has_errors()) else {
        return Err(report.finish().0);
    };
    let mut notes = Vec::new();
    metrics_reader(&mut tree, &mut notes);
    replace_memory_exporters(&mut tree, &mut notes);
    transform_statements(&mut tree, &mut notes);
    remove_dry_policies(&mut tree, &mut notes);
    for (path, reason) in OURS {
        remove(&mut tree, path, "", reason, &mut notes);
    }
    demanded_keys(&mut tree, &mut notes);
    if redacted {
        let shown = print::yaml_with(&tree, Dollars::AsWritten);
        print::redact_with(&mut tree, Dollars::AsWritten);
        if print::yaml_with(&tree, Dollars::AsWritten) != shown {
            notes.push("secrets are hidden: with `--mode unredacted` the file can be used as it is".to_owned());
        }
    }
    Ok(Translated { text: print::yaml_with(&tree, Dollars::AsWritten), notes })
}

/// Removes every key that a path of steps leads to, and maps that become empty by it.
fn remove(node: &mut Node, path: &[Step], above: &str, reason: &str, notes: &mut Vec<String>) {
    if let Value::List(items) = &mut node.value {
        return items.iter_mut().for_each(|item| remove(item, path, above, reason, notes));
    }
    let (Some((step, rest)), Value::Map(entries)) = (path.split_first(), &mut node.value) else {
        return;
    };
    entries.retain_mut(|entry| {
        if !step.matches(&entry.key) {
            return true;
        }
        let full = if above.is_empty() { entry.key.clone() } else { format!("{above}.{}", entry.key) };
        if rest.is_empty() {
            notes.push(format!("`{full}` is left out: {reason}"));
            return false;
        }
        let was_empty = is_empty_map(&entry.node);
        remove(&mut entry.node, rest, &full, reason, notes);
        was_empty || !is_empty_map(&entry.node)
    });
}

/// Takes whole policies out that run dry: without `dry_run` the Collector would listen to them.
fn remove_dry_policies(tree: &mut Node, notes: &mut Vec<String>) {
    let Some(Value::Map(processors)) = child(tree, "processors").map(|node| &mut node.value) else {
        return;
    };
    let samplers = processors.iter_mut().filter(|entry| Step::Type(&["tail_sampling"]).matches(&entry.key));
    for entry in samplers {
        let Some(Value::List(policies)) = child(&mut entry.node, "policies").map(|node| &mut node.value) else {
            continue;
        };
        let before = policies.len();
        policies.retain(|policy| {
            let dry = policy.at("dry_run").map(|node| &node.value);
            !matches!(dry, Some(Value::Scalar(scalar)) if scalar.meaning() == Meaning::Bool(true))
        });
        let removed = before - policies.len();
        if removed > 0 {
            notes.push(format!(
                "{removed} of the policies of `processors.{}` are left out: they run dry, and the Collector would listen \
                 to them",
                entry.key
            ));
        }
    }
}

fn is_empty_map(node: &Node) -> bool {
    matches!(&node.value, Value::Map(entries) if entries.is_empty())
}

/// `service.telemetry.metrics.address`, which the Collector has not read since 0.123 and refuses since, and our `names`
/// become a reader that gives metrics the names they have here.
fn metrics_reader(tree: &mut Node, notes: &mut Vec<String>) {
    let telemetry = child(tree, "service").and_then(|node| child(node, "telemetry"));
    let Some(Node { value: Value::Map(entries), place, .. }) = telemetry.and_then(|node| child(node, "metrics")) else {
        return;
    };
    let place = place.clone();
    let mut take = |key: &str| {
        let at = entries.iter().position(|entry| entry.key == key)?;
        (key == "address").then(|| entries.remove(at).node).or_else(|| entries.get(at).map(|entry| entry.node.clone()))
    };
    let address = take("address").map(|node| review::texts(&node).join(",")).filter(|address| !address.is_empty());
    let names = take("names").map(|node| review::texts(&node).join(",")).unwrap_or_default();
    let suffixed = names == "suffixed" || names == "both";
    let has_readers = entries.iter().any(|entry| entry.key == "readers" && !entry.node.is_null());
    let address = match address {
        // Our address wins over readers.
        Some(address) => address,
        None if suffixed && !has_readers => DEFAULT_ADDRESS.to_owned(),
        None => return,
    };
    let Some((host, port)) = address.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()) else {
        notes.push(format!(
            "`service.telemetry.metrics.address: {address}` is left out, because its port cannot be told from its host: \
             write a reader (`pull.exporter.prometheus`) with `host` and `port`"
        ));
        return;
    };
    let host = text(host.trim_start_matches('[').trim_end_matches(']'), &place);
    let mut prometheus = vec![("host", host), ("port", plain(port, &place))];
    if !suffixed {
        let plain_names = ["without_scope_info", "without_type_suffix", "without_units"];
        prometheus.extend(plain_names.map(|key| (key, plain("true", &place))));
    }
    let exporter = map(vec![("prometheus", map(prometheus, &place))], &place);
    let reader = map(vec![("pull", map(vec![("exporter", exporter)], &place))], &place);
    entries.retain(|entry| entry.key != "readers");
    entries.push(entry("readers", list(vec![reader], &place), &place));
    let named = if suffixed { "with suffixes" } else { "plain" };
    notes.push(format!(
        "`service.telemetry.metrics` has a reader at {address} instead of `address`, which newer Collectors refuse; names \
         of metrics are {named}"
    ));
}

/// `traces` of a `transform`, our short form, becomes the first group of its `trace_statements`.
fn transform_statements(tree: &mut Node, notes: &mut Vec<String>) {
    let Some(Value::Map(processors)) = child(tree, "processors").map(|node| &mut node.value) else { return };
    let is_transform = |key: &str| component::component_id(key).is_ok_and(|id| id.kind == "transform");
    for processor in processors.iter_mut().filter(|entry| is_transform(&entry.key)) {
        let place = processor.place.clone();
        let Value::Map(entries) = &mut processor.node.value else { continue };
        let mut take = |key: &str| {
            let at = entries.iter().position(|entry| entry.key == key)?;
            Some(entries.remove(at).node).filter(|node| !node.is_null())
        };
        let Some(short) = take("traces") else { continue };
        let mut groups = vec![map(vec![("context", text("span", &place)), ("statements", short)], &place)];
        match take("trace_statements") {
            Some(Node { value: Value::List(items), .. })
                if items.iter().all(|item| matches!(item.value, Value::Map(_))) =>
            {
                groups.extend(items);
            }
            Some(flat) => groups.push(map(vec![("statements", flat)], &place)),
            None => {}
        }
        entries.push(entry("trace_statements", list(groups, &place), &place));
        notes.push(format!(
            "`processors.{}.traces` is written as a group of `trace_statements`; the Collector has no `Mask`, and stops a \
             batch at a missing attribute where `error_mode` is `propagate`",
            processor.key
        ));
    }
}

/// Takes `memory` exporters out of pipelines; a pipeline that has no other gets `debug`, because it needs one.
fn replace_memory_exporters(tree: &mut Node, notes: &mut Vec<String>) {
    let place = tree.place.clone();
    let Some(Value::Map(pipelines)) =
        child(tree, "service").and_then(|node| child(node, "pipelines")).map(|node| &mut node.value)
    else {
        return;
    };
    let mut debug_needed = false;
    for pipeline in pipelines {
        let Some(exporters) = child(&mut pipeline.node, "exporters") else {
            continue;
        };
        let written = review::texts(exporters);
        let is_memory = |id: &String| component::component_id(id).is_ok_and(|id| id.kind == "memory");
        let mut kept: Vec<String> = written.iter().filter(|id| !is_memory(id)).cloned().collect();
        if kept.len() == written.len() {
            continue;
        }
        if kept.is_empty() {
            debug_needed = true;
            kept.push("debug".to_owned());
            notes.push(format!(
                "`service.pipelines.{}` exports to `debug`: it had no exporter but `memory`, which the Collector lacks, and \
                 it needs one",
                pipeline.key
            ));
        }
        *exporters = list(kept.iter().map(|id| text(id, &place)).collect(), &place);
    }
    let Some(Value::Map(exporters)) = child(tree, "exporters").map(|node| &mut node.value) else {
        return;
    };
    if debug_needed && !exporters.iter().any(|entry| entry.key == "debug") {
        exporters.push(entry("debug", map(Vec::new(), &place), &place));
    }
}

/// Keys that the Collector demands or fills with another default than ours.
fn demanded_keys(tree: &mut Node, notes: &mut Vec<String>) {
    let Some(Value::Map(processors)) = child(tree, "processors").map(|node| &mut node.value) else {
        return;
    };
    for Entry { key, node, place } in processors {
        let id = component::component_id(key).ok();
        match id.as_ref().map(|id| id.kind.as_str()) {
            Some("memory_limiter") if lacks(node, "check_interval") => {
                let value = text("1s", place);
                set(node, entry("check_interval", value, place));
                notes.push(format!("`processors.{key}.check_interval` is written: the Collector demands it"));
            }
            Some("tail_sampling") if lacks(node, "num_traces") => notes.push(format!(
                "`processors.{key}` has no `num_traces`: the Collector keeps 50000 traces and loses older ones undecided; \
                 write new traces a second times `decision_wait`"
            )),
            _ => {}
        }
    }
}

fn lacks(node: &Node, key: &str) -> bool {
    node.at(key).is_none_or(Node::is_null)
}

fn set(node: &mut Node, entry: Entry) {
    if node.is_null() {
        node.value = Value::Map(Vec::new());
    }
    if let Value::Map(entries) = &mut node.value {
        entries.retain(|other| other.key != entry.key);
        entries.push(entry);
    }
}

fn child<'n>(node: &'n mut Node, key: &str) -> Option<&'n mut Node> {
    match &mut node.value {
        Value::Map(entries) => entries.iter_mut().find(|entry| entry.key == key).map(|entry| &mut entry.node),
        _ => None,
    }
}

fn text(text: &str, place: &Place) -> Node {
    Node { value: Value::Scalar(Scalar { text: text.to_owned(), plain: false }), place: place.clone(), expanded: None }
}

fn plain(text: &str, place: &Place) -> Node {
    Node::plain(text.to_owned(), place.clone())
}

fn list(items: Vec<Node>, place: &Place) -> Node {
    Node { value: Value::List(items), place: place.clone(), expanded: None }
}

fn map(entries: Vec<(&str, Node)>, place: &Place) -> Node {
    let entries = entries.into_iter().map(|(key, node)| entry(key, node, place)).collect();
    Node { value: Value::Map(entries), place: place.clone(), expanded: None }
}

fn entry(key: &str, node: Node, place: &Place) -> Entry {
    Entry { key: key.to_owned(), place: place.clone(), node }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(file: &str) -> Translated {
        let file = Source::File { name: "gateway.yaml".into(), text: file.into() };
        translate(&[file], true).expect("it is YAML")
    }

    const ALL_OF_OURS: &str = "\
exporters:
  otlp: {endpoint: '${env:TEMPO}', compression: zstd, compression_params: {level: 3}, headers: {authorization: 'Bearer ${env:TOKEN}', x-key: abc}}
  memory/last: {traces_max: 10}
  memory:
processors:
  memory_limiter: {limit_mib: 400}
  tail_sampling: {decision_wait: 5s, policies: [{name: dry, type: trace_flags, dry_run: true}, {name: all, type: always_sample, dry_run: false}]}
receivers:
  otlp: {protocols: {grpc: }}
service:
  engine: {cores: 2}
  telemetry: {metrics: {address: '[::1]:9999', names: plain, level: detailed}}
  pipelines:
    traces: {receivers: [otlp], processors: [memory_limiter, tail_sampling], exporters: [otlp, memory]}
    traces/kept: {receivers: [otlp], exporters: 'memory/last'}
";

    #[test]
    fn nothing_of_ours_is_left_and_variables_stay_variables() {
        let Translated { text, notes } = translated(ALL_OF_OURS);
        for gone in
            ["engine", "memory/last", "memory:", "compression_params", "names:", "address:", "abc", "- memory\n", "dry"]
        {
            assert!(!text.contains(gone), "{gone} in\n{text}");
        }
        for kept in [
            "endpoint: \"${env:TEMPO}\"",
            "authorization: \"Bearer ${env:TOKEN}\"",
            "compression: zstd",
            "check_interval: 1s",
            "host: \"::1\"\n",
            "port: 9999\n",
            "without_type_suffix: true",
            "level: detailed",
            "debug: {}",
        ] {
            assert!(text.contains(kept), "{kept} not in\n{text}");
        }
        let said = notes.join("\n");
        for told in [
            "`service.engine`",
            "names",
            "num_traces",
            "check_interval",
            "`debug`",
            "secrets",
            "memory/last",
            "run dry",
        ] {
            assert!(said.contains(told), "{told} not in\n{said}");
        }
    }

    #[test]
    fn a_configuration_of_the_collector_stays_as_it_is() {
        let file = "exporters:\n  otlp:\n    endpoint: tempo:4317\nprocessors:\n  batch: {}\nreceivers:\n  otlp:\n    \
                    protocols:\n      grpc: null\nservice:\n  pipelines:\n    traces:\n      exporters:\n        - otlp\n      \
                    processors:\n        - batch\n      receivers:\n        - otlp\n  telemetry: {}\n";
        let Translated { text, notes } = translated(file);
        assert_eq!((text.as_str(), notes.as_slice()), (file, &[][..]));
    }

    #[test]
    fn dollars_and_text_survive_as_written() {
        let file = "a: \"$$x ${env:Y:-z}\"\nb: \"0123\"\nc: 0123\n";
        assert_eq!(translated(file).text, file);
    }

    #[test]
    fn names_with_suffixes_keep_them() {
        for metrics in ["names: suffixed", "names: both, address: 'localhost:8888'"] {
            let Translated { text, .. } = translated(&format!("service: {{telemetry: {{metrics: {{{metrics}}}}}}}"));
            assert!(text.contains("host: localhost\n") && text.contains("port: 8888\n"), "{text}");
            assert!(!text.contains("without") && !text.contains("names"), "{text}");
        }
    }

    #[test]
    fn a_port_that_cannot_be_told_is_said_and_not_guessed() {
        let Translated { text, notes } =
            translated("service: {telemetry: {metrics: {level: basic, address: '${env:METRICS}'}}}");
        assert!(!text.contains("address") && text.contains("level: basic"), "{text}");
        assert!(notes[0].contains("${env:METRICS}"), "{notes:?}");
    }

    #[test]
    fn the_short_form_of_statements_is_written_out() {
        for (more, expected) in [
            ("", 1),
            (", trace_statements: ['set(span.name, \"b\")']", 2),
            (", trace_statements: [{context: resource, statements: ['set(schema_url, \"b\")']}]", 2),
        ] {
            let file = format!(
                "processors: {{transform/x: {{on_mask_error: keep, traces: ['set(name, \"a\")']{more}}}}}\nreceivers: \
                 {{otlp: {{protocols: {{grpc: }}}}}}\nexporters: {{nop: }}\nservice: {{pipelines: {{traces: {{receivers: \
                 [otlp], processors: [transform/x], exporters: [nop]}}}}}}\n"
            );
            let Translated { text, notes } = translated(&file);
            assert!(!text.contains("on_mask_error") && text.contains("context: span"), "{text}");
            assert_eq!(text.matches("statements:\n").count(), expected + 1, "{text}");
            assert!(notes.iter().any(|note| note.contains("`processors.transform/x.traces`")), "{notes:?}");
            let source = Source::File { name: "otelcol.yaml".into(), text };
            let loaded = super::super::load(&[source], &|_| None, &super::super::Machine { memory_bytes: 1 << 30 });
            assert!(!loaded.has_errors(), "{:?}", loaded.diagnostics);
        }
    }

    #[test]
    fn broken_texts_are_errors_with_their_place() {
        let broken = Source::File { name: "f".into(), text: "a: [".into() };
        assert!(!translate(&[broken], true).unwrap_err().is_empty());
    }
}
