//! `processors.resource`: edits of resource attributes.

use crate::config::checked::{ContextSource, ContextValue, ProcessorKind};
use crate::config::scalar::Meaning;
use crate::config::section::{Field, Idle, Section};
use codecs::otlp::{Edit, EditChange, EditSource, Scalar};

/// Most actions of one processor; each costs time for every resource.
const ACTIONS_MAX: usize = 256;

/// The Collector's words for what an action does.
#[derive(Clone, Copy)]
enum Word {
    Insert,
    Update,
    Upsert,
    Delete,
    Hash,
    NotBuilt(&'static str),
}

const WORDS: [(&str, Word); 7] = [
    ("insert", Word::Insert),
    ("update", Word::Update),
    ("upsert", Word::Upsert),
    ("delete", Word::Delete),
    ("hash", Word::Hash),
    ("extract", Word::NotBuilt("the action `extract`")),
    ("convert", Word::NotBuilt("the action `convert`")),
];

/// Reads the settings.
pub(crate) fn check(field: &Field<'_>) -> Option<ProcessorKind> {
    let section = field.section()?;
    let Some(attributes) = section.field("attributes") else {
        section.error("`attributes` is missing", "add `attributes:` with a list of `{key, value, action}`");
        return None;
    };
    let items = attributes.items();
    if items.is_empty() {
        attributes.error("there is no action", "add `- {key: name, value: text, action: upsert}`");
    }
    if items.len() > ACTIONS_MAX {
        attributes.error(format!("more than {ACTIONS_MAX} actions"), "split them over two processors");
        return None;
    }
    let mut from_context = Vec::new();
    let mut edits = Vec::with_capacity(items.len());
    for item in &items {
        if let Some((edit, context)) = action(item) {
            let place = edits.len();
            from_context.extend(context.map(|(source, default)| ContextValue { place, source, default }));
            edits.push(edit);
        }
    }
    Some(ProcessorKind::Resource { edits, from_context })
}

/// What `from_context` names, and what is set where the client gave nothing.
type Context = (ContextSource, Option<Scalar>);

/// An edit; one whose value comes from the client has nothing to set yet.
fn action(field: &Field<'_>) -> Option<(Edit, Option<Context>)> {
    let section = field.section()?;
    // Every key is read first: a wrong action must not make the other keys unknown.
    let word_field = section.field("action");
    let key = section.text("key");
    let source = source(&section);
    let no_pattern = "keys by pattern";
    section.unsupported("pattern", Idle::Zero, no_pattern, "name each key in an action of its own");
    section.unsupported("converted_type", Idle::Zero, "conversions", "convert at the source");
    let word = word(&section, word_field.as_ref())?;
    let Some(key) = key else {
        if word_is_built(word) {
            section_error(field, "`key` is missing", "add `key:` with the name of the attribute");
        }
        return None;
    };
    let needs_source = |change: fn(EditSource) -> EditChange| match &source {
        Source::One(source) => Some(change(source.clone())),
        Source::Context(_) => Some(change(EditSource::Nothing)),
        Source::Wrong => None,
        Source::Missing => {
            section_error(
                field,
                "there is nothing to set",
                "add `value:`, `from_attribute:` with the name of another attribute, or `from_context:`",
            );
            None
        }
    };
    let change = match word {
        Word::Insert => needs_source(EditChange::Insert)?,
        Word::Update => needs_source(EditChange::Update)?,
        Word::Upsert => needs_source(EditChange::Upsert)?,
        Word::Delete => EditChange::Delete,
        Word::Hash => EditChange::Hash,
        Word::NotBuilt(_) => return None,
    };
    let context = match (source, word) {
        (Source::Context(context), Word::Insert | Word::Update | Word::Upsert) => Some(context),
        _ => None,
    };
    Some((Edit { key, change }, context))
}

fn section_error(field: &Field<'_>, message: &str, help: &str) {
    field.error(message, help);
}

fn word_is_built(word: Word) -> bool {
    !matches!(word, Word::NotBuilt(_))
}

fn word(section: &Section<'_>, written: Option<&Field<'_>>) -> Option<Word> {
    let Some(field) = written.filter(|field| !field.node.is_null()) else {
        section.error("`action` is missing", "add `action:` with insert, update, upsert, delete or hash");
        return None;
    };
    let word = section.choice("action", &WORDS.map(|(word, meaning)| (word, Some(meaning))), None)?;
    if let Word::NotBuilt(what) = word {
        field.lacking(format!("not built yet: {what}"), "do this at the source, or keep a Collector behind");
    }
    Some(word)
}

/// Where an action's value comes from.
enum Source {
    One(EditSource),
    Context(Context),
    Missing,
    /// Reported already.
    Wrong,
}

fn source(section: &Section<'_>) -> Source {
    let from_attribute = section.text("from_attribute");
    let from_context = section.text("from_context");
    let default = section.field("default_value").filter(|field| !field.node.is_null());
    if from_context.is_none()
        && let Some(field) = &default
    {
        field.lacking("not built yet: default values of other attributes", "use a second action with `insert`");
    }
    let value = section.field("value");
    let written = value.as_ref().filter(|field| !field.node.is_null() || field.node.expanded.is_some());
    match (written, from_attribute, from_context) {
        (Some(value), None, None) => scalar(value).map_or(Source::Wrong, |value| Source::One(EditSource::Value(value))),
        (None, Some(key), None) => Source::One(EditSource::FromAttribute(key)),
        (None, None, Some(name)) => {
            let default = default.as_ref().and_then(scalar);
            Source::Context((context_source(&name), default))
        }
        (None, None, None) => Source::Missing,
        (Some(value), Some(_), _) => {
            value.error("both `value` and `from_attribute` are given", "remove one of them");
            Source::Wrong
        }
        _ => {
            if let Some(field) = section.field("from_context") {
                field.error("another source is given beside `from_context`", "remove one of them");
            }
            Source::Wrong
        }
    }
}

/// Without a prefix it is a header, as in the Collector.
fn context_source(name: &str) -> ContextSource {
    if name == "client.address" {
        return ContextSource::Address;
    }
    match name.strip_prefix("auth.") {
        Some(attribute) => ContextSource::Auth(attribute.to_owned()),
        None => ContextSource::Metadata(name.strip_prefix("metadata.").unwrap_or(name).to_ascii_lowercase()),
    }
}

fn scalar(field: &Field<'_>) -> Option<Scalar> {
    match field.meaning() {
        Some(Meaning::Text(text)) => Some(Scalar::String(text.to_owned())),
        // A variable that is not set: empty, and warned about already.
        Some(Meaning::Null) => Some(Scalar::String(String::new())),
        Some(Meaning::Bool(value)) => Some(Scalar::Bool(value)),
        Some(Meaning::Float(value)) => Some(Scalar::Double(value)),
        Some(Meaning::Int(value)) => match i64::try_from(value) {
            Ok(value) => Some(Scalar::Int(value)),
            Err(_) => {
                field.expected("an integer of 64 bits", "put the value into quotes to send it as text");
                None
            }
        },
        None => {
            field.expected("text, a number or a boolean", "lists and maps as values are not built yet");
            None
        }
    }
}
