//! Actions on attributes, as `attributes.actions` and `resource.attributes` have them.
//!
//! The rules of contrib v0.156: which keys an action needs, and which it must not have.

use ottl::{Action, Extraction, Keys, Pattern, Source, Target, Value, When};

use crate::config::checked::{ActionSettings, ContextSource};
use crate::config::scalar::Meaning;
use crate::config::section::{Field, Section};
use crate::config::yaml::{self, Node};

/// Most actions of one processor; each costs time for every item.
const ACTIONS_MAX: usize = 256;
/// How deep lists and maps may nest in a value.
const VALUE_DEPTH_MAX: u32 = 16;

/// The Collector's words for what an action does.
#[derive(Clone, Copy)]
enum Word {
    Set(When),
    Delete,
    Hash,
    Extract,
    Convert,
}

const WORDS: [(&str, Word); 7] = [
    ("insert", Word::Set(When::Absent)),
    ("update", Word::Set(When::Present)),
    ("upsert", Word::Set(When::Always)),
    ("delete", Word::Delete),
    ("hash", Word::Hash),
    ("extract", Word::Extract),
    ("convert", Word::Convert),
];

const TARGETS: [(&str, Target); 3] = [("int", Target::Int), ("double", Target::Double), ("string", Target::String)];

/// Reads the list under `key` of a processor.
pub(crate) fn check(section: &Section<'_>, key: &'static str) -> Option<ActionSettings> {
    let Some(list) = section.field(key) else {
        section.error(format!("`{key}` is missing"), format!("add `{key}:` with a list of `{{key, value, action}}`"));
        return None;
    };
    let items = list.items();
    if items.is_empty() {
        list.error("there is no action", "add `- {key: name, value: text, action: upsert}`");
    }
    if items.len() > ACTIONS_MAX {
        list.error(format!("more than {ACTIONS_MAX} actions"), "split them over two processors");
        return None;
    }
    let mut from_context = Vec::new();
    let actions = items.iter().filter_map(|item| action(item, &mut from_context)).collect();
    Some(ActionSettings { actions, from_context })
}

/// Every key of one action. All are read before anything is said: a wrong action must not make the other keys unknown.
struct Written<'a> {
    key: Option<String>,
    pattern: Option<Field<'a>>,
    converted_type: Option<Field<'a>>,
    /// `value`, `from_attribute`, `from_context` as far as they are given.
    sources: Vec<(&'static str, Field<'a>)>,
    default: Option<Field<'a>>,
}

impl<'a> Written<'a> {
    fn of(section: &Section<'a>) -> Self {
        // A variable that is not set is empty, and warned about already; it is given all the same.
        let given = |field: &Field<'_>| !field.node.is_null() || field.node.expanded.is_some();
        let text = |key| {
            section.field(key).filter(|field| !field.node.is_null() && field.text().is_some_and(|it| !it.is_empty()))
        };
        let sources = [
            ("value", section.field("value").filter(given)),
            ("from_attribute", text("from_attribute")),
            ("from_context", text("from_context")),
        ];
        Written {
            key: section.text("key"),
            pattern: text("pattern"),
            converted_type: text("converted_type"),
            sources: sources.into_iter().filter_map(|(name, field)| field.map(|field| (name, field))).collect(),
            default: section.field("default_value").filter(given),
        }
    }

    /// Reports the keys that `word` does not use.
    fn forbid(&self, word: &str, keys: &[&str]) {
        let named =
            [("pattern", &self.pattern), ("converted_type", &self.converted_type), ("default_value", &self.default)];
        let named = named.into_iter().filter_map(|(name, field)| field.as_ref().map(|field| (name, field)));
        let sources = self.sources.iter().map(|(name, field)| (*name, field));
        for (name, field) in named.chain(sources).filter(|(name, _)| keys.contains(name)) {
            field.error(format!("the action `{word}` does not use `{name}`"), format!("remove `{name}`"));
        }
    }
}

fn action(field: &Field<'_>, from_context: &mut Vec<ContextSource>) -> Option<Action> {
    const SOURCES: [&str; 4] = ["value", "from_attribute", "from_context", "default_value"];
    let section = field.section()?;
    let word_field = section.field("action").filter(|field| !field.node.is_null());
    let written = Written::of(&section);
    let Some(word_field) = word_field else {
        let words = "insert, update, upsert, delete, hash, extract or convert";
        field.error("`action` is missing", format!("add `action:` with {words}"));
        return None;
    };
    let word = section.choice("action", &WORDS.map(|(word, meaning)| (word, Some(meaning))), None)?;
    let name = word_field.written().to_ascii_lowercase();
    let key = || {
        if written.key.is_none() {
            field.error("`key` is missing", "add `key:` with the name of the attribute");
        }
        written.key.clone()
    };
    match word {
        Word::Set(when) => {
            written.forbid(&name, &["pattern", "converted_type"]);
            let source = source(field, &written, from_context);
            let default = written.default.as_ref().map(value);
            Some(Action::Set {
                key: key()?.into(),
                when,
                source: source?,
                default: default.map_or(Some(None), |it| it.map(Some))?,
            })
        }
        Word::Delete => {
            written.forbid(&name, &[&SOURCES[..], &["converted_type"]].concat());
            keys(field, &written).map(Action::Delete)
        }
        Word::Hash => {
            written.forbid(&name, &[&SOURCES[..], &["converted_type"]].concat());
            keys(field, &written).map(Action::Hash)
        }
        Word::Extract => {
            written.forbid(&name, &[&SOURCES[..], &["converted_type"]].concat());
            extraction(field, &written, key()?).map(Action::Extract)
        }
        Word::Convert => {
            written.forbid(&name, &[&SOURCES[..], &["pattern"]].concat());
            let key = key()?;
            if written.converted_type.is_none() {
                field.error("`converted_type` is missing", "add `converted_type:` with int, double or string");
            }
            let target = section.choice("converted_type", &TARGETS.map(|(word, target)| (word, Some(target))), None)?;
            Some(Action::Convert { key: key.into(), target })
        }
    }
}

/// `key`, `pattern` or both.
fn keys(field: &Field<'_>, written: &Written<'_>) -> Option<Keys> {
    if written.key.is_none() && written.pattern.is_none() {
        field.error(
            "neither `key` nor `pattern` is given",
            "add `key:` with a name, or `pattern:` with a regular expression over names",
        );
        return None;
    }
    let pattern = written.pattern.as_ref().map(pattern);
    Some(Keys {
        key: written.key.clone().map(String::into_bytes),
        pattern: pattern.map_or(Some(None), |it| it.map(Some))?,
    })
}

fn extraction(field: &Field<'_>, written: &Written<'_>, key: String) -> Option<Extraction> {
    let Some(text) = &written.pattern else {
        field.error(
            "`pattern` is missing",
            "add `pattern:` with a group for each attribute: `^(?P<user>[^@]+)@(?P<domain>.+)$`",
        );
        return None;
    };
    match Extraction::new(&key, pattern(text)?) {
        Ok(extraction) => Some(extraction),
        Err(wrong) => {
            text.error(
                format!("the pattern {wrong}"),
                "write each group as `(?P<name>...)`, after the attribute it sets, or as `(?:...)`",
            );
            None
        }
    }
}

/// A regular expression; `None` was reported.
pub(crate) fn pattern(field: &Field<'_>) -> Option<Pattern> {
    match Pattern::new(&field.text()?) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            field.error(
                format!("this is no regular expression: {error}"),
                "write it in the syntax of RE2, as for the Collector",
            );
            None
        }
    }
}

fn source(field: &Field<'_>, written: &Written<'_>, from_context: &mut Vec<ContextSource>) -> Option<Source> {
    match written.sources.as_slice() {
        [] if written.default.is_some() => Some(Source::Nothing),
        [] => {
            field.error(
                "there is nothing to set",
                "add `value:`, `from_attribute:` with the name of another attribute, or `from_context:`",
            );
            None
        }
        [("value", field)] => value(field).map(Source::Value),
        [("from_attribute", field)] => field.text().map(|key| Source::Attribute(key.into_bytes())),
        [(_, field)] => {
            from_context.push(context_source(&field.text()?));
            Some(Source::Context(from_context.len() - 1))
        }
        [(first, _), (second, field), ..] => {
            field.error(format!("both `{first}` and `{second}` are given"), "remove one of them");
            None
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

/// A value with its type; `None` was reported.
pub(crate) fn value(field: &Field<'_>) -> Option<Value<'static>> {
    match value_of(field.node, VALUE_DEPTH_MAX) {
        Ok(value) => Some(value),
        Err((expected, help)) => {
            field.expected(expected, help);
            None
        }
    }
}

/// Expected and help if it is none.
type NoValue = (&'static str, &'static str);

fn value_of(node: &Node, depth: u32) -> Result<Value<'static>, NoValue> {
    if depth == 0 {
        return Err(("lists and maps of 16 levels at most", "make the value flatter"));
    }
    Ok(match &node.value {
        yaml::Value::Scalar(scalar) => match scalar.meaning() {
            Meaning::Text(text) => Value::Text(text.as_bytes().to_vec().into()),
            // A variable that is not set: empty, and warned about already.
            Meaning::Null if node.expanded.is_some() => Value::Text(Vec::new().into()),
            Meaning::Null => Value::Nil,
            Meaning::Bool(value) => Value::Bool(value),
            Meaning::Float(value) => Value::Double(value),
            Meaning::Int(value) => Value::Int(
                i64::try_from(value)
                    .map_err(|_| ("an integer of 64 bits", "put the value into quotes to send it as text"))?,
            ),
        },
        yaml::Value::List(items) => {
            Value::List(items.iter().map(|item| value_of(item, depth - 1)).collect::<Result<_, _>>()?)
        }
        yaml::Value::Map(entries) => {
            let entry =
                |entry: &yaml::Entry| Ok((entry.key.clone().into_bytes().into(), value_of(&entry.node, depth - 1)?));
            Value::Map(entries.iter().map(entry).collect::<Result<_, NoValue>>()?)
        }
    })
}
