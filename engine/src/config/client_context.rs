//! What pipelines ask of a request's sender, and whether it still is known where they ask.
//!
//! The one idea: walk each pipeline once from its receivers to its exporters. What is asked for before it is lost is what
//! the receivers keep; what is asked for afterwards is empty at run time, and so is said at load.
//!
//! ```text
//! receiver (include_metadata) --> resource --> batch (metadata_keys) ----> tail_sampling ----> exporter (headers_setter)
//!    all headers, address, auth                only these headers             nothing
//! ```

use super::authenticator::{AuthenticatorKind, HeaderSource, Wanted};
use super::checked::{
    ActionSettings, ComponentId, Config, ContextSource, FilterSettings, PipelineSettings, ProcessorKind,
    TransformSettings,
};
use super::conflicts;
use super::diagnostic::Report;
use super::statements;
use super::yaml::Node;
use codecs::otlp::Signal;
use ottl::Ask;
use std::collections::BTreeSet;

/// Fills in what each receiver keeps, and warns of values that will always be empty.
pub(crate) fn check(config: &mut Config, tree: &Node, report: &Report) {
    let mut warnings = BTreeSet::new();
    for number in 0..config.pipelines.len() {
        let mut walk =
            Walk { held: Held::at_start(config, number), wanted: Wanted::default(), warnings: &mut warnings };
        walk.pipeline(config, &config.pipelines[number]);
        let wanted = walk.wanted;
        for receiver in receivers_of(config, number) {
            config.receivers[receiver].wanted.add(&wanted);
        }
    }
    for warning in warnings {
        report.warning(conflicts::place(tree, &warning.keys), &warning.keys.join("."), warning.message, warning.help);
    }
}

/// Receivers of a pipeline and of those that feed it through a connector. What such a pipeline loses on the way is not
/// looked at: it is empty at run time without a warning.
fn receivers_of(config: &Config, pipeline: usize) -> BTreeSet<usize> {
    let mut feeders = BTreeSet::from([pipeline]);
    loop {
        let feeds = |settings: &PipelineSettings| {
            settings.forwards.iter().flat_map(|forward| &forward.targets).any(|target| feeders.contains(target))
        };
        let pipelines = config.pipelines.iter().enumerate();
        let more: Vec<usize> = pipelines.filter(|(_, settings)| feeds(settings)).map(|(number, _)| number).collect();
        let known = feeders.len();
        feeders.extend(more);
        if feeders.len() == known {
            return feeders.iter().flat_map(|&number| config.pipelines[number].receivers.iter().copied()).collect();
        }
    }
}

impl Wanted {
    fn add(&mut self, other: &Wanted) {
        for (list, more) in [(&mut self.metadata, &other.metadata), (&mut self.auth, &other.auth)] {
            list.extend(more.iter().cloned());
            list.sort_unstable();
            list.dedup();
        }
        self.address |= other.address;
    }
}

/// Why something is not known any more, and what to do.
#[derive(Clone)]
struct Loss {
    why: String,
    help: String,
}

/// What is known of the sender at one place of a pipeline.
struct Held {
    metadata: Metadata,
    /// The authenticator's attributes.
    auth: Option<Loss>,
    address: Option<Loss>,
}

enum Metadata {
    All,
    /// What this batch processor keeps.
    Kept {
        keys: Vec<String>,
        batch: ComponentId,
    },
    Lost(Loss),
}

impl Held {
    fn at_start(config: &Config, pipeline: usize) -> Held {
        let numbers = receivers_of(config, pipeline);
        let receivers = || numbers.iter().map(|&number| &config.receivers[number].otlp);
        let heads = || {
            let both = |otlp: &'_ super::checked::OtlpReceiverSettings| {
                [otlp.grpc.as_ref().map(|grpc| grpc.head.clone()), otlp.http.as_ref().map(|http| http.head.clone())]
            };
            receivers().flat_map(both).flatten()
        };
        let lost = |why: &str, help: &str| Loss { why: why.to_owned(), help: help.to_owned() };
        let metadata = match heads().any(|head| head.include_metadata) {
            true => Metadata::All,
            false => Metadata::Lost(lost(
                "no receiver of the pipeline keeps the headers of requests",
                "add `include_metadata: true` to the receiver's protocols",
            )),
        };
        let auth = (!heads().any(|head| head.authenticator.is_some())).then(|| {
            lost(
                "no receiver of the pipeline has an authenticator",
                "add `auth: {authenticator: ...}` to the receiver's protocols",
            )
        });
        Held { metadata, auth, address: None }
    }

    fn lose_all(&mut self, loss: &Loss) {
        self.metadata = Metadata::Lost(loss.clone());
        self.lose_sender(loss);
    }

    fn lose_sender(&mut self, loss: &Loss) {
        self.auth.get_or_insert_with(|| loss.clone());
        self.address.get_or_insert_with(|| loss.clone());
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Warning {
    keys: Vec<String>,
    message: String,
    help: String,
}

struct Walk<'a> {
    held: Held,
    wanted: Wanted,
    warnings: &'a mut BTreeSet<Warning>,
}

impl Walk<'_> {
    fn pipeline(&mut self, config: &Config, pipeline: &PipelineSettings) {
        for &processor in &pipeline.processors {
            let processor = &config.processors[processor];
            let id = &processor.id;
            match &processor.kind {
                ProcessorKind::Batch { metadata_keys, .. } => self.batch(id, metadata_keys),
                ProcessorKind::Resource(actions) => self.actions(id, "attributes", actions),
                ProcessorKind::Attributes { actions, .. } => self.actions(id, "actions", actions),
                ProcessorKind::Transform(settings) => self.statements(id, pipeline.signal, settings),
                ProcessorKind::Filter(settings) => self.conditions(id, pipeline.signal, settings),
                ProcessorKind::TailSampling(_) => self.held.lose_all(&Loss {
                    why: format!("`{id}` before it puts traces together whose spans came from several clients"),
                    help:
                        "set the value before `tail_sampling`, as a resource attribute, or give each client a pipeline"
                            .to_owned(),
                }),
                ProcessorKind::MemoryLimiter { .. }
                | ProcessorKind::Redaction(_)
                | ProcessorKind::GroupByTrace
                | ProcessorKind::ProbabilisticSampler(_) => {}
            }
        }
        for &exporter in &pipeline.exporters {
            let exporter = &config.exporters[exporter];
            let Some(client) = exporter.kind.client() else { continue };
            let named = client.authenticator.as_ref();
            let found = config.authenticators.iter().find(|known| Some(&known.id) == named);
            let Some(AuthenticatorKind::HeadersSetter(actions)) = found.map(|found| &found.kind) else { continue };
            for action in actions {
                let source = match &action.source {
                    HeaderSource::Value(_) => continue,
                    HeaderSource::Metadata { key, .. } => ContextSource::Metadata(key.clone()),
                    HeaderSource::Attribute { name, .. } => ContextSource::Auth(name.clone()),
                };
                self.ask(&source, &["exporters", &exporter.id.to_string(), "auth", "authenticator"]);
            }
        }
    }

    fn actions(&mut self, id: &ComponentId, key: &str, settings: &ActionSettings) {
        for source in &settings.from_context {
            self.ask(source, &["processors", &id.to_string(), key]);
        }
    }

    fn statements(&mut self, id: &ComponentId, signal: Signal, settings: &TransformSettings) {
        for group in settings.groups.iter().filter(|group| group.signal == signal) {
            let statements = group.statements.iter();
            for asks in
                statements.map(|statement| statements::asks_of_statement(&statement.text, group.context, group.paths))
            {
                self.ask_all(id, &asks);
            }
            for text in &group.conditions {
                self.ask_all(id, &statements::asks_of_condition(text, group.context, group.paths));
            }
        }
    }

    fn conditions(&mut self, id: &ComponentId, signal: Signal, settings: &FilterSettings) {
        for group in settings.groups.iter().filter(|group| group.signal == signal) {
            for text in &group.conditions {
                self.ask_all(id, &statements::asks_of_condition(text, group.context, group.paths));
            }
        }
    }

    fn ask_all(&mut self, id: &ComponentId, asks: &[Ask]) {
        for ask in asks {
            let source = match ask {
                Ask::Metadata(key) => ContextSource::Metadata(key.clone()),
                Ask::Auth(name) => ContextSource::Auth(name.clone()),
                Ask::Address => ContextSource::Address,
            };
            self.ask(&source, &["processors", &id.to_string()]);
        }
    }

    /// Keeps what its keys name, and forgets everything else.
    fn batch(&mut self, id: &ComponentId, metadata_keys: &[String]) {
        for key in metadata_keys {
            self.ask(&ContextSource::Metadata(key.clone()), &["processors", &id.to_string(), "metadata_keys"]);
        }
        let loss = Loss {
            why: format!("`{id}` before it mixes the requests of all clients"),
            help: format!("add `KEY` to `metadata_keys` of `{id}`"),
        };
        if matches!(self.held.metadata, Metadata::Lost(_)) {
            // The first loss is the one to repair.
        } else if metadata_keys.is_empty() {
            self.held.metadata = Metadata::Lost(loss.clone());
        } else {
            self.held.metadata = Metadata::Kept { keys: metadata_keys.to_vec(), batch: id.clone() };
        }
        self.held.lose_sender(&Loss { help: format!("move what needs it before `{id}`"), ..loss });
    }

    /// Somebody at `keys` asks for a value.
    fn ask(&mut self, source: &ContextSource, keys: &[&str]) {
        let (name, loss) = match source {
            ContextSource::Metadata(key) => (format!("the header `{key}`"), self.metadata_loss(key)),
            ContextSource::Auth(name) => (format!("`auth.{name}`"), self.held.auth.clone()),
            ContextSource::Address => ("`client.address`".to_owned(), self.held.address.clone()),
        };
        if let Some(Loss { why, help }) = loss {
            let keys = keys.iter().map(|key| (*key).to_owned()).collect();
            self.warnings.insert(Warning { keys, message: format!("{name} is never known here: {why}"), help });
            return;
        }
        match source {
            ContextSource::Metadata(key) => self.wanted.metadata.push(key.clone()),
            ContextSource::Auth(name) => self.wanted.auth.push(name.clone()),
            ContextSource::Address => self.wanted.address = true,
        }
    }

    fn metadata_loss(&self, key: &str) -> Option<Loss> {
        match &self.held.metadata {
            Metadata::All => None,
            Metadata::Kept { keys, .. } if keys.iter().any(|kept| kept == key) => None,
            Metadata::Kept { batch, .. } => Some(Loss {
                why: format!("`{batch}` before it keeps other headers only"),
                help: format!("add `{key}` to `metadata_keys` of `{batch}`"),
            }),
            Metadata::Lost(loss) => Some(Loss { help: loss.help.replace("KEY", key), ..loss.clone() }),
        }
    }
}
