//! A loaded configuration -> what becomes of each part of it here, for somebody who comes from the Collector.
//!
//! The idea: whatever `validate` says about a component is what keeps it from being the same. A component with an error
//! is missing, one with a warning differs, and one without either is looked up in the table of known differences. So the
//! two commands cannot disagree. This file reads nothing and decides nothing about keys.

use super::component::{self, Kind};
use super::diagnostic::{Diagnostic, Severity};
use super::expand::UNSET;
use super::known;
use super::yaml::{Entry, Node, Value};
use super::{Loaded, checked};

/// What becomes of a part of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It does what the Collector does.
    Same,
    /// It runs, and the remarks say how it differs.
    Differs,
    /// It does not run, or not as written; the remarks say what to write instead.
    Missing,
}

/// One thing to know about a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Key path and place (`file:line:column`) where it is about one key; empty where it is about the whole part.
    pub place: String,
    /// How it differs, or what is missing.
    pub text: String,
    /// What to do; empty if nothing has to be done.
    pub help: String,
}

/// One component, one pipeline, or one section of `service`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Section it stands in: `receivers`, `pipelines`, `service`.
    pub section: &'static str,
    /// As in the file: `otlp/tempo`, `traces`, `telemetry`.
    pub id: String,
    /// Whether anything refers to it. What is defined and not used keeps nobody from moving.
    pub used: bool,
    /// The worst of its remarks.
    pub verdict: Verdict,
    /// In the order of their places.
    pub remarks: Vec<Remark>,
}

/// All parts of a configuration, in the order data flows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Review {
    /// Every component, pipeline and section.
    pub parts: Vec<Part>,
    /// What is wrong with the file itself and not with a part of it.
    pub general: Vec<Remark>,
    /// Variables that are not set where this runs.
    pub unset: Vec<String>,
    /// The longest `decision_wait` of a sampler that runs, in nanoseconds.
    pub decision_wait_ns: u64,
}

impl Review {
    /// Whether something that is used is missing: the traffic of this file cannot move as it is.
    pub fn lacks_something(&self) -> bool {
        !self.general.is_empty() || self.parts.iter().any(|part| part.used && part.verdict == Verdict::Missing)
    }
}

/// Reviews what was loaded.
pub fn review(loaded: &Loaded) -> Review {
    let mut review = Review { decision_wait_ns: decision_wait_ns(loaded), ..Review::default() };
    let mut drafts = loaded.merged.as_ref().map(drafts).unwrap_or_default();
    for diagnostic in &loaded.diagnostics {
        if let Some(variable) = unset_variable(diagnostic) {
            review.unset.push(variable);
            continue;
        }
        // Ids may contain dots, so the longest path that fits is the part that is meant.
        let fitting = drafts.iter_mut().filter(|draft| draft.holds(&diagnostic.path));
        match fitting.max_by_key(|draft| draft.path.len()) {
            Some(draft) => draft.diagnostics.push(diagnostic.clone()),
            None => review.general.extend(diagnostic.is_error().then(|| remark(diagnostic, ""))),
        }
    }
    review.unset.sort();
    review.unset.dedup();
    review.parts = drafts.into_iter().map(Draft::judged).collect();
    review
}

/// The name in a warning about a variable that is not set.
fn unset_variable(diagnostic: &Diagnostic) -> Option<String> {
    let named = diagnostic.message.strip_suffix(UNSET)?;
    named.strip_prefix("the variable ").map(str::to_owned)
}

fn decision_wait_ns(loaded: &Loaded) -> u64 {
    let processors = loaded.config.iter().flat_map(|config| &config.processors);
    let waits = processors.filter_map(|processor| match &processor.kind {
        checked::ProcessorKind::TailSampling(tail) => Some(tail.decision_wait_ns),
        _ => None,
    });
    waits.max().unwrap_or(0)
}

fn remark(diagnostic: &Diagnostic, part_path: &str) -> Remark {
    let path = diagnostic.path.as_str();
    let key = path.strip_prefix(part_path).unwrap_or(path).trim_start_matches('.');
    let place = match key.is_empty() {
        true if !part_path.is_empty() => String::new(),
        true => diagnostic.place.to_string(),
        false => format!("{key} ({})", diagnostic.place),
    };
    Remark { place, text: diagnostic.message.clone(), help: diagnostic.help.clone() }
}

/// A part before it is judged.
struct Draft {
    section: &'static str,
    /// `None` for pipelines and sections of `service`.
    kind: Option<Kind>,
    id: String,
    path: String,
    used: bool,
    diagnostics: Vec<Diagnostic>,
}

impl Draft {
    fn holds(&self, path: &str) -> bool {
        path.strip_prefix(&self.path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    }

    fn judged(self) -> Part {
        let mut remarks: Vec<Remark> = self.diagnostics.iter().map(|it| remark(it, &self.path)).collect();
        let name = component::component_id(&self.id).map_or_else(|_| self.id.clone(), |id| id.kind);
        let difference = self.kind.and_then(|kind| known::difference(kind, &name));
        let lacking = self.kind.is_some_and(|kind| !known::runs(kind, &name));
        remarks.splice(
            0..0,
            difference.map(|text| Remark { place: String::new(), text: text.to_owned(), help: String::new() }),
        );
        // What is not used may have been passed over in silence.
        if let (true, Some((kind, instead))) =
            (remarks.is_empty(), self.kind.and_then(|kind| known::instead(kind, &name).map(|instead| (kind, instead))))
        {
            let text = format!("the {} `{name}` does not run here", kind.word());
            remarks.push(Remark { place: String::new(), text, help: instead.to_owned() });
        }
        let wrong = self.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
        let verdict = match (lacking || wrong, remarks.is_empty()) {
            (true, _) => Verdict::Missing,
            (false, false) => Verdict::Differs,
            (false, true) => Verdict::Same,
        };
        Part { section: self.section, id: self.id, used: self.used, verdict, remarks }
    }
}

fn drafts(tree: &Node) -> Vec<Draft> {
    let mut drafts = Vec::new();
    let used = used_ids(tree);
    for kind in [Kind::Receiver, Kind::Processor, Kind::Connector, Kind::Exporter, Kind::Extension] {
        let section = kind.section();
        for entry in tree.at(section).map(entries).unwrap_or_default() {
            let id = entry.key.trim().to_owned();
            let is_used = used.iter().any(|(list, named)| *named == id && lists_of(kind).contains(list));
            let path = format!("{section}.{}", entry.key);
            drafts.push(Draft { section, kind: Some(kind), id, path, used: is_used, diagnostics: Vec::new() });
        }
    }
    let part = |section, id: &str, path| Draft {
        section,
        kind: None,
        id: id.to_owned(),
        path,
        used: true,
        diagnostics: Vec::new(),
    };
    let Some(service) = tree.at("service") else {
        return drafts;
    };
    for entry in service.at("pipelines").map(entries).unwrap_or_default() {
        drafts.push(part("pipelines", &entry.key, format!("service.pipelines.{}", entry.key)));
    }
    // A component that is listed as an extension has its own line; the list itself is only wrong.
    for entry in entries(service).iter().filter(|entry| entry.key != "pipelines" && entry.key != "extensions") {
        drafts.push(part("service", &entry.key, format!("service.{}", entry.key)));
    }
    drafts
}

fn entries(node: &Node) -> &[Entry] {
    match &node.value {
        Value::Map(entries) => entries,
        _ => &[],
    }
}

/// Lists in which components of a kind are named.
fn lists_of(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Receiver => &["receivers"],
        Kind::Processor => &["processors"],
        Kind::Exporter => &["exporters"],
        Kind::Connector => &["receivers", "exporters"],
        Kind::Extension => &["extensions"],
    }
}

/// Every id that a pipeline or the list of extensions names, with the name of the list.
fn used_ids(tree: &Node) -> Vec<(&'static str, String)> {
    let Some(service) = tree.at("service") else {
        return Vec::new();
    };
    let mut used = Vec::new();
    let mut note = |list: &'static str, holder: &Node| {
        used.extend(holder.at(list).map(texts).unwrap_or_default().into_iter().map(|id| (list, id)));
    };
    note("extensions", service);
    for pipeline in service.at("pipelines").map(entries).unwrap_or_default() {
        for list in ["receivers", "processors", "exporters"] {
            note(list, &pipeline.node);
        }
    }
    used
}

/// The texts of a list, or of text with commas.
pub(crate) fn texts(node: &Node) -> Vec<String> {
    match &node.value {
        Value::List(items) => items.iter().flat_map(texts).collect(),
        Value::Scalar(scalar) => {
            scalar.text.split(',').map(|id| id.trim().to_owned()).filter(|id| !id.is_empty()).collect()
        }
        Value::Map(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Machine, Source, load};

    fn reviewed(text: &str) -> Review {
        let file = Source::File { name: "gateway.yaml".into(), text: text.into() };
        review(&load(&[file], &|_| None, &Machine { memory_bytes: 4 << 30 }))
    }

    const GATEWAY: &str = "\
receivers:
  otlp: {protocols: {grpc: {endpoint: '${env:MY_POD_IP}:4317'}}}
  zipkin:
processors:
  batch: {metadata_cardinality_limit: 7}
  resource: {attributes: [{key: a, value: b, action: insert}]}
  k8sattributes/a.b: {}
exporters:
  otlp/v1.2: {endpoint: 'tempo:4317', user_agent: shop}
  nop:
service:
  pipelines:
    traces: {receivers: [otlp], processors: 'resource, batch', exporters: [otlp/v1.2]}
    traces/masked: {receivers: [otlp], processors: [k8sattributes/a.b], exporters: [nop]}
";

    fn verdict(review: &Review, id: &str) -> (bool, Verdict) {
        let part = review.parts.iter().find(|part| part.id == id).unwrap_or_else(|| panic!("no {id}"));
        (part.used, part.verdict)
    }

    #[test]
    fn every_part_has_the_verdict_that_its_diagnostics_give() {
        let review = reviewed(GATEWAY);
        assert_eq!(verdict(&review, "otlp"), (true, Verdict::Same));
        assert_eq!(verdict(&review, "zipkin"), (false, Verdict::Missing));
        assert_eq!(verdict(&review, "batch"), (true, Verdict::Differs));
        assert_eq!(verdict(&review, "resource"), (true, Verdict::Same));
        assert_eq!(verdict(&review, "k8sattributes/a.b"), (true, Verdict::Missing));
        assert_eq!(verdict(&review, "otlp/v1.2"), (true, Verdict::Differs));
        assert_eq!(verdict(&review, "traces"), (true, Verdict::Same));
        assert!(review.lacks_something());
        assert_eq!(review.general, []);
    }

    #[test]
    fn a_variable_that_is_not_set_here_makes_no_difference() {
        assert_eq!(reviewed(GATEWAY).unset, ["MY_POD_IP"]);
    }

    #[test]
    fn what_no_pipeline_uses_keeps_nobody_from_moving() {
        let text = "receivers: {otlp: {protocols: {grpc: }}, zipkin: }\nexporters: {nop: }\n\
                    service: {pipelines: {traces: {receivers: [otlp], exporters: [nop]}}}\n";
        let review = reviewed(text);
        assert_eq!(verdict(&review, "zipkin"), (false, Verdict::Missing));
        assert!(!review.lacks_something());
    }

    #[test]
    fn pipelines_of_other_signals_and_broken_files_lack_something() {
        let metrics = "receivers: {otlp: {protocols: {grpc: }}}\nexporters: {nop: }\n\
                       service: {pipelines: {profiles: {receivers: [otlp], exporters: [nop]}}}\n";
        assert_eq!(verdict(&reviewed(metrics), "profiles"), (true, Verdict::Missing));
        let broken = reviewed("a: [");
        assert!(broken.lacks_something());
        assert!(!broken.general[0].place.is_empty(), "{broken:?}");
    }

    #[test]
    fn the_words_are_those_of_validate() {
        let file = Source::File { name: "gateway.yaml".into(), text: GATEWAY.into() };
        let loaded = load(&[file], &|_| None, &Machine { memory_bytes: 4 << 30 });
        let review = review(&loaded);
        let said: Vec<(&str, &str)> = review
            .parts
            .iter()
            .flat_map(|part| &part.remarks)
            .map(|remark| (remark.text.as_str(), remark.help.as_str()))
            .collect();
        for diagnostic in loaded.diagnostics.iter().filter(|it| unset_variable(it).is_none()) {
            assert!(said.contains(&(diagnostic.message.as_str(), diagnostic.help.as_str())), "{}", diagnostic.message);
        }
    }
}
