//! Configuration: text -> raw (exactly what the file says) -> checked (exactly what the engine needs).
//!
//! ```text
//! files, --set -> yaml -> merge -> expand -> check -> Config
//!                            every node keeps its place  \-> diagnostics
//! what runs, what was read again --change--> what a running gateway can take, and what needs a restart
//! ```
//!
//! Everything here is a function of its arguments: texts, the environment and the machine are given. Only `sources`
//! touches files and the network.

pub mod change;
pub mod checked;

mod authenticator;
mod check;
mod client_context;
mod component;
mod conflicts;
mod diagnostic;
pub(crate) mod duration;
mod expand;
pub(crate) mod fetch;
mod forwards;
pub mod fuzzing;
pub mod glob;
mod known;
mod merge;
pub mod otelcol;
mod print;
mod promises;
mod proxy;
pub mod review;
mod scalar;
mod section;
mod service;
mod signals;
mod sources;
mod statements;
mod storage;
mod telemetry;
mod waiting;
mod yaml;

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod decided;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use checked::Config;
pub use diagnostic::{Diagnostic, Place, Severity, SourceText, render};
pub use sources::{file_of, look_up, read_sources};
use yaml::{Node, Value};

/// Most sources of one configuration.
const SOURCES_MAX: usize = 256;

/// The configuration that runs when none is given.
pub const BUILTIN: &str = include_str!("../../../configs/builtin.yaml");
/// The name of [`BUILTIN`] in messages.
pub const BUILTIN_NAME: &str = "built-in configuration";

/// One text of the configuration. Later ones win.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file, or what a URI of `--config` stands for.
    File {
        /// As given, for messages.
        name: String,
        /// All of it.
        text: String,
    },
    /// The `a.b.c=value` of a `--set`.
    Set(String),
}

/// What the configuration may depend on besides its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Memory of the container or machine, of which `limit_percentage` is a share.
    pub memory_bytes: u64,
}

/// What loading gave.
#[derive(Debug)]
pub struct Loaded {
    /// `None` if there are errors, or if the texts have no `service`.
    pub config: Option<Config>,
    /// The texts have no `service`: they are part of a configuration. Wrong only if diagnostics have errors.
    pub fragment: bool,
    /// Errors and warnings, in the order of their places.
    pub diagnostics: Vec<Diagnostic>,
    merged: Option<Node>,
    #[cfg_attr(not(test), expect(dead_code, reason = "tests hold the reference page against it"))]
    asked: BTreeSet<String>,
}

impl Loaded {
    /// Whether something stops the gateway from starting.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }

    /// All texts merged and expanded, as YAML; `None` if one of them is not YAML. With `redacted`, values of headers,
    /// keys and passwords are hidden.
    pub fn print(&self, redacted: bool) -> Option<String> {
        let mut tree = self.merged.clone()?;
        if redacted {
            print::redact(&mut tree);
        }
        Some(print::yaml(&tree))
    }
}

/// Reads a configuration. Never fails: what is wrong is in the diagnostics.
///
/// `environment` gives what references in values name: variables by their names, files by `file:PATH`, pages by their
/// addresses, as [`look_up`] does.
pub fn load(sources: &[Source], environment: &dyn Fn(&str) -> Option<String>, machine: &Machine) -> Loaded {
    let report = diagnostic::Report::default();
    let mut merged = merge_sources(sources, &report);
    if let Some(tree) = &mut merged {
        expand::expand(tree, environment, &report);
    }
    let mut outcome = match &merged {
        Some(tree) => check::check(tree, machine, &report),
        // Without one of the texts, keys would be reported as missing that are there.
        None => check::Outcome::default(),
    };
    if let (Some(tree), Some(config)) = (&merged, &mut outcome.config) {
        proxy::from_environment(config, environment, tree, &report);
    }
    let check::Outcome { config, fragment } = outcome;
    let config = config.filter(|_| !report.has_errors());
    let (mut diagnostics, asked) = report.finish();
    if let Some(tree) = &merged {
        // What is said quotes lines of the files, and a log is no place for a password.
        let mut secrets = Vec::new();
        print::secrets(tree, &mut secrets);
        diagnostic::hide(&mut diagnostics, secrets.into_iter().map(|node| &node.place));
    }
    Loaded { config, fragment, diagnostics, merged, asked }
}

/// One tree of all texts; `None` if one of them is broken. Every text is read even if an earlier one is broken.
fn merge_sources(sources: &[Source], report: &diagnostic::Report) -> Option<Node> {
    let mut merged = empty_tree();
    let mut broken = false;
    for (order, source) in sources.iter().enumerate() {
        let (name, text) = match source {
            Source::File { name, text } => (name.as_str(), text),
            Source::Set(text) => ("--set", text),
        };
        let source_text = Arc::new(SourceText { name: name.to_owned(), text: text.clone(), order });
        if order == SOURCES_MAX {
            report.error(
                &Place::new(&source_text, 0..0),
                "",
                format!("more than {SOURCES_MAX} files and --set"),
                "put several values into one file",
            );
            return None;
        }
        let tree = match source {
            Source::File { .. } => file_tree(&source_text, report),
            Source::Set(_) => merge::set(&source_text, report),
        };
        match tree {
            // The place of the whole stays that of the first file, which has something at the top.
            Some(tree) if order == 0 => merged = tree,
            Some(tree) => merge::merge(&mut merged, tree),
            None => broken = true,
        }
    }
    (!broken).then_some(merged)
}

fn file_tree(source: &Arc<SourceText>, report: &diagnostic::Report) -> Option<Node> {
    let tree = yaml::parse(source, 0, report)?;
    match &tree.value {
        Value::Map(_) => Some(merge::split_keys(tree)),
        _ if tree.is_null() => Some(Node { value: Value::Map(Vec::new()), ..tree }),
        _ => {
            report.error(
                &tree.place,
                "",
                "a configuration is a map, and this is something else",
                "start with `receivers:`, `processors:`, `exporters:` and `service:`",
            );
            None
        }
    }
}

fn empty_tree() -> Node {
    let source = Arc::new(SourceText { name: "configuration".to_owned(), text: String::new(), order: 0 });
    Node { value: Value::Map(Vec::new()), place: Place::new(&source, 0..0), expanded: None }
}

/// Entry for fuzzing: any bytes are loaded as a file and everything said about them is rendered.
pub fn fuzz(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let file = Source::File { name: "fuzz.yaml".to_owned(), text };
    let environment = |name: &str| (name.len() < 4).then(|| format!("${{env:{name}{name}:-x}}"));
    let machine = Machine { memory_bytes: 1 << 30 };
    let loaded = load(&[file], &environment, &machine);
    let rendered = render(&loaded.diagnostics, true);
    assert_eq!(rendered.is_empty(), loaded.diagnostics.is_empty());
    assert!(loaded.config.is_none() || !loaded.has_errors());
    loaded.print(true);
}

/// Components that run, as `section/type`, both spellings of renamed ones.
pub fn built_components() -> impl Iterator<Item = String> {
    component::built()
}
