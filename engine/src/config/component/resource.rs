//! `processors.resource`: edits of resource attributes.

use crate::config::checked::ProcessorKind;
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
    let edits = items.iter().filter_map(action).collect();
    Some(ProcessorKind::Resource { edits })
}

fn action(field: &Field<'_>) -> Option<Edit> {
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
        Source::Wrong => None,
        Source::Missing => {
            section_error(
                field,
                "there is nothing to set",
                "add `value:`, or `from_attribute:` with the name of another attribute",
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
    Some(Edit { key, change })
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
    Missing,
    /// Reported already.
    Wrong,
}

fn source(section: &Section<'_>) -> Source {
    let from_attribute = section.text("from_attribute");
    section.unsupported("from_context", Idle::Zero, "values from the request's context", "set the value at the source");
    let from_context = section.field("from_context").is_some_and(|field| !field.node.is_null());
    section.unsupported("default_value", Idle::Zero, "default values", "use a second action with `insert`");
    let value = section.field("value");
    let written = value.as_ref().filter(|field| !field.node.is_null() || field.node.expanded.is_some());
    match (written, from_attribute) {
        (Some(value), Some(_)) => {
            value.error("both `value` and `from_attribute` are given", "remove one of them");
            Source::Wrong
        }
        (Some(value), None) => scalar(value).map_or(Source::Wrong, |value| Source::One(EditSource::Value(value))),
        (None, Some(key)) => Source::One(EditSource::FromAttribute(key)),
        (None, None) if from_context => Source::Wrong,
        (None, None) => Source::Missing,
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
