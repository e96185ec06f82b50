//! Authenticators as the engine needs them, and who uses which: the checked form of the extensions `headers_setter`,
//! `bearertokenauth` and `basicauth`, found by the `auth` of receivers and exporters.
//!
//! The one idea: an extension is checked by itself; whether it fits where it is named (a receiver lets senders in, an
//! exporter shows itself to a backend) is only known here, where both are seen. Secrets are never printed.

use super::checked::{ComponentId, Config, ExporterKind};
use super::component::{self, basic_auth, bearer_token, headers_setter};
use super::conflicts;
use super::diagnostic::{Report, nearest};
use super::scalar::Meaning;
use super::section::Section;
use super::yaml::{Node, Value};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A text that no log, message or debug output repeats.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text to itself.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[REDACTED]")
    }
}

/// An authenticator that a receiver or exporter uses.
#[derive(Clone, Debug)]
pub struct AuthenticatorSettings {
    /// Its id below `extensions`.
    pub id: ComponentId,
    /// What it does.
    pub kind: AuthenticatorKind,
}

/// What an authenticator does.
#[derive(Clone, Debug)]
pub enum AuthenticatorKind {
    /// `headers_setter`: sets headers of requests to backends. In order.
    HeadersSetter(Vec<HeaderAction>),
    /// `bearertokenauth`: a token, shown to backends or asked of senders.
    BearerToken(BearerTokenSettings),
    /// `basicauth` with `htpasswd`: users and passwords asked of senders.
    BasicServer(HtpasswdSettings),
    /// `basicauth` with `client_auth`: a user and password shown to backends.
    BasicClient(BasicClientSettings),
}

/// One action of `headers_setter`.
#[derive(Clone, Debug, PartialEq)]
pub struct HeaderAction {
    /// What happens to the header.
    pub verb: HeaderVerb,
    /// The header, in small letters.
    pub key: String,
    /// Where its value comes from; meaningless for [`HeaderVerb::Delete`].
    pub source: HeaderSource,
}

/// `action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderVerb {
    /// Set only if absent or empty.
    Insert,
    /// Set only if present and not empty.
    Update,
    /// Set always.
    Upsert,
    /// Remove.
    Delete,
}

/// Where a header's value comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum HeaderSource {
    /// Written in the configuration.
    Value(Secret),
    /// `from_context`: a value of the client's metadata.
    Metadata {
        /// In small letters.
        key: String,
        /// `default_value`: where the client sent none; empty without one.
        default: Secret,
    },
    /// `from_attribute`: what the receiver's authenticator knows of the client.
    Attribute {
        /// `username`, `raw`.
        name: String,
        /// As for metadata.
        default: Secret,
    },
}

/// `bearertokenauth`.
#[derive(Clone, Debug)]
pub struct BearerTokenSettings {
    /// The header, in small letters; `authorization` by default.
    pub header: String,
    /// In front of the token, with a space; `Bearer` by default; may be empty.
    pub scheme: String,
    /// The tokens.
    pub tokens: TokenSource,
}

/// Where tokens come from. Senders may show any of them, backends are shown the first.
#[derive(Clone, Debug)]
pub enum TokenSource {
    /// `token` or `tokens`; at least one.
    Inline(Vec<Secret>),
    /// `filename`: one a line, read again when it changes.
    File(PathBuf),
}

/// `basicauth.htpasswd`: at least one of both.
#[derive(Clone, Debug)]
pub struct HtpasswdSettings {
    /// `file`.
    pub file: Option<PathBuf>,
    /// `inline`; its users win over the file's.
    pub inline: Option<Secret>,
}

/// `basicauth.client_auth`.
#[derive(Clone, Debug)]
pub struct BasicClientSettings {
    /// `username` or `username_file`.
    pub username: SecretSource,
    /// `password` or `password_file`.
    pub password: SecretSource,
}

/// A text or the file that holds it; the file is read again when it changes.
#[derive(Clone, Debug)]
pub enum SecretSource {
    /// In the configuration; may be empty.
    Inline(Secret),
    /// In a file, without the white space around it.
    File(PathBuf),
}

/// What a receiver does with the head of a request, before its body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeadSettings {
    /// `auth.authenticator`: who may send; everybody without one.
    pub authenticator: Option<ComponentId>,
    /// `auth.request_params`: parameters of the query that count as headers, for the authenticator only.
    pub request_params: Vec<String>,
    /// `include_metadata`.
    pub include_metadata: bool,
}

/// What the pipelines behind a receiver ask of a request's sender; nothing else is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Names of headers, in small letters, sorted, without repeats.
    pub metadata: Vec<String>,
    /// What the authenticator knows: names of its attributes, sorted, without repeats.
    pub auth: Vec<String>,
    /// The sender's address.
    pub address: bool,
}

impl Wanted {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.metadata.is_empty() && self.auth.is_empty() && !self.address
    }
}

/// Which side of a connection an authenticator is named for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Receiver,
    /// Over gRPC in plain text, or not.
    Exporter {
        plain_grpc: bool,
    },
}

/// One `auth.authenticator`.
struct Reference {
    keys: Vec<String>,
    id: ComponentId,
    side: Side,
}

/// Types of authenticators.
const KINDS: [&str; 5] = ["headers_setter", "bearertokenauth", "bearer_token_auth", "basicauth", "basic_auth"];

/// Extensions that are defined; without settings if they are no authenticator, or a wrong one.
pub(crate) type Definitions = BTreeMap<ComponentId, Option<AuthenticatorKind>>;

/// Reads `extensions`. What is no authenticator is somebody else's to read.
pub(crate) fn definitions(root: &Section<'_>, tree: &Node) -> Definitions {
    let mut definitions = Definitions::new();
    // A section of the wrong type is reported by who reads the other extensions.
    let Some(section) = root.field("extensions").filter(|field| matches!(field.node.value, Value::Map(_))) else {
        return definitions;
    };
    let Some(section) = section.section() else { return definitions };
    let listed = listed(tree);
    for (name, mut field) in section.entries() {
        let Ok(id) = component::component_id(name) else { continue };
        field.used = listed.contains(&id);
        let kind = match id.kind.as_str() {
            "headers_setter" => headers_setter::check(&field),
            "bearertokenauth" | "bearer_token_auth" => bearer_token::check(&field),
            "basicauth" | "basic_auth" => basic_auth::check(&field),
            _ => None,
        };
        definitions.insert(id, kind);
    }
    section.keys_are_names();
    definitions
}

/// The ids of `service.extensions`.
pub(super) fn listed(tree: &Node) -> Vec<ComponentId> {
    let text_of = |node: &Node| match &node.value {
        Value::Scalar(scalar) => match scalar.meaning() {
            Meaning::Text(text) => Some(text.to_owned()),
            _ => None,
        },
        _ => None,
    };
    let texts = match tree.at("service").and_then(|service| service.at("extensions")) {
        None => Vec::new(),
        Some(node) => match &node.value {
            Value::List(items) => items.iter().filter_map(text_of).collect(),
            _ => text_of(node).iter().flat_map(|text| text.split(',')).map(|part| part.trim().to_owned()).collect(),
        },
    };
    texts.iter().filter_map(|text| component::component_id(text).ok()).collect()
}

/// Looks up every `auth.authenticator`, and puts what is used into the configuration.
pub(crate) fn resolve(config: &mut Config, definitions: &Definitions, tree: &Node, report: &Report) {
    let listed = listed(tree);
    for reference in references(config) {
        let place = conflicts::place(tree, &reference.keys);
        let error = |message: String, help: String| report.error(place, &reference.keys.join("."), message, help);
        let id = &reference.id;
        let Some(kind) = definitions.get(id) else {
            let known: Vec<String> = definitions.keys().map(ComponentId::to_string).collect();
            let help = match nearest(&id.to_string(), known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("add `extensions:` with `{id}:` below it, and `{id}` to `service.extensions`"),
            };
            error(format!("the authenticator `{id}` is not defined"), help);
            continue;
        };
        let Some(kind) = kind else {
            // A wrong one of ours has been reported where it is defined.
            if !KINDS.contains(&id.kind.as_str()) {
                let help = "use one of these: basicauth, bearertokenauth, headers_setter".to_owned();
                error(format!("the extension `{id}` is no authenticator that works here"), help);
            }
            continue;
        };
        if !listed.contains(id) {
            let help = format!("add it to `service.extensions`: `extensions: [{id}]`");
            error(format!("the authenticator `{id}` is not started"), help);
        }
        if let Some((message, help)) = misfit(kind, reference.side) {
            error(format!("`{id}` {message}"), help.to_owned());
        }
        if !config.authenticators.iter().any(|known| known.id == *id) {
            config.authenticators.push(AuthenticatorSettings { id: id.clone(), kind: kind.clone() });
        }
    }
}

fn references(config: &Config) -> Vec<Reference> {
    let mut references = Vec::new();
    let mut add = |keys: &[&str], id: &Option<ComponentId>, side: Side| {
        if let Some(id) = id {
            let keys = keys.iter().chain(&["auth", "authenticator"]).map(|key| (*key).to_owned()).collect();
            references.push(Reference { keys, id: id.clone(), side });
        }
    };
    for receiver in &config.receivers {
        let id = receiver.id.to_string();
        if let Some(grpc) = &receiver.otlp.grpc {
            add(&["receivers", &id, "protocols", "grpc"], &grpc.head.authenticator, Side::Receiver);
        }
        if let Some(http) = &receiver.otlp.http {
            add(&["receivers", &id, "protocols", "http"], &http.head.authenticator, Side::Receiver);
        }
    }
    for exporter in &config.exporters {
        let id = exporter.id.to_string();
        match &exporter.kind {
            ExporterKind::OtlpGrpc(otlp) => {
                let side = Side::Exporter { plain_grpc: otlp.tls.is_none() };
                add(&["exporters", &id], &otlp.authenticator, side);
            }
            ExporterKind::OtlpHttp(http) => {
                add(&["exporters", &id], &http.authenticator, Side::Exporter { plain_grpc: false });
            }
            ExporterKind::RemoteWrite(settings) => {
                add(&["exporters", &id], &settings.http.authenticator, Side::Exporter { plain_grpc: false });
            }
            _ => {}
        }
    }
    references
}

/// Why an authenticator cannot do what it is named for, and what to do; `None` if it can.
fn misfit(kind: &AuthenticatorKind, side: Side) -> Option<(&'static str, &'static str)> {
    use AuthenticatorKind::{BasicClient, BasicServer, BearerToken, HeadersSetter};
    match (kind, side) {
        (HeadersSetter(_), Side::Receiver) => Some((
            "sets headers of requests to backends and lets nobody in",
            "name a `bearertokenauth` or a `basicauth` with `htpasswd`",
        )),
        (BasicClient(_), Side::Receiver) => Some((
            "has `client_auth`, which is shown to backends; a receiver needs to know users",
            "define a second one with `htpasswd`",
        )),
        (BasicServer(_), Side::Exporter { .. }) => Some((
            "has `htpasswd`, which is asked of senders; an exporter needs a user to show",
            "define a second one with `client_auth`",
        )),
        // As in gRPC itself: such a Collector does not start either.
        (BearerToken(_) | BasicClient(_), Side::Exporter { plain_grpc: true }) => Some((
            "would be shown in plain text: gRPC credentials need TLS",
            "remove `tls.insecure`, or put the credential into `headers` where the network is trusted",
        )),
        _ => None,
    }
}
