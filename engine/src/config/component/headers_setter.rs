//! `extensions.headers_setter`: headers of requests to backends, with values from the file or from the client.

use super::client::is_own_header;
use crate::config::checked::{AuthenticatorKind, HeaderAction, HeaderSource, HeaderVerb, Secret};
use crate::config::section::{Field, Idle, Section};

/// Most actions of one extension; each is done for every request.
const ACTIONS_MAX: usize = 128;

/// Reads the settings.
pub(crate) fn check(field: &Field<'_>) -> Option<AuthenticatorKind> {
    let section = field.section()?;
    section.unsupported(
        "additional_auth",
        Idle::Zero,
        "a second authenticator behind `headers_setter`",
        "set the credential here: `{key: authorization, value: \"Bearer ${env:TOKEN}\"}`",
    );
    let Some(headers) = section.field("headers").filter(|field| !field.node.is_null()) else {
        section.error("`headers` is missing", "add `headers:` with a list of `{action, key, value}`");
        return None;
    };
    let items = headers.items();
    if items.is_empty() {
        headers
            .error("there is no action", "add `- {action: upsert, key: x-scope-orgid, from_context: x-scope-orgid}`");
    }
    if items.len() > ACTIONS_MAX {
        headers.error(format!("more than {ACTIONS_MAX} actions"), "remove some; backends refuse that many headers");
        return None;
    }
    Some(AuthenticatorKind::HeadersSetter(items.iter().filter_map(action).collect()))
}

fn action(field: &Field<'_>) -> Option<HeaderAction> {
    const VERBS: [(&str, HeaderVerb); 4] = [
        ("insert", HeaderVerb::Insert),
        ("update", HeaderVerb::Update),
        ("upsert", HeaderVerb::Upsert),
        ("delete", HeaderVerb::Delete),
    ];
    let section = field.section()?;
    let verb = section.choice("action", &VERBS, HeaderVerb::Upsert);
    let key = key(&section, field);
    let source = source(&section, field, verb);
    let (key, source) = (key?, source?);
    if is_own_header(&key) {
        field.warning(format!("has no effect: `{key}` belongs to the protocol"), "remove it");
        return None;
    }
    Some(HeaderAction { verb, key, source })
}

fn key(section: &Section<'_>, action: &Field<'_>) -> Option<String> {
    let Some(key) = section.text("key") else {
        action.error("`key` is missing", "add `key:` with the name of the header");
        return None;
    };
    if http::HeaderName::from_bytes(key.as_bytes()).is_err() {
        action.error("`key` cannot be the name of a header", "use letters, digits and `-`");
        return None;
    }
    Some(key.to_ascii_lowercase())
}

fn source(section: &Section<'_>, action: &Field<'_>, verb: HeaderVerb) -> Option<HeaderSource> {
    let value = section.field("value").filter(|field| !field.node.is_null());
    section.unsupported("value_file", Idle::Zero, "values from a file", "write `value: ${env:NAME}`");
    let from_context = section.text("from_context");
    let from_attribute = section.text("from_attribute");
    let default = section.field("default_value").and_then(|field| header_text(&field)).unwrap_or_default();
    let given =
        usize::from(value.is_some()) + usize::from(from_context.is_some()) + usize::from(from_attribute.is_some());
    if verb == HeaderVerb::Delete {
        return Some(HeaderSource::Value(Secret::new("")));
    }
    if given != 1 {
        let message = if given == 0 { "there is nothing to set" } else { "the header has more than one source" };
        action.error(message, "give one of `value`, `from_context` (a header of the client) and `from_attribute`");
        return None;
    }
    let default = Secret::new(default);
    match (value, from_context, from_attribute) {
        (Some(value), ..) => header_text(&value).map(|text| HeaderSource::Value(Secret::new(text))),
        (_, Some(key), _) => Some(HeaderSource::Metadata { key: key.to_ascii_lowercase(), default }),
        (.., name) => name.map(|name| HeaderSource::Attribute { name, default }),
    }
}

fn header_text(field: &Field<'_>) -> Option<String> {
    let text = field.text()?;
    if http::HeaderValue::from_str(&text).is_err() {
        field.error("the value has a character that no header may have", "remove line ends and control characters");
        return None;
    }
    Some(text)
}
