//! Reading one map of the file: every value by its key, with its type, its bounds and its default.
//!
//! The idea: the keys that are asked for are the keys that are known. When a section goes out of scope it reports every
//! key that nobody asked for, with the nearest known one; so there is no second list that could disagree. A wrong value
//! is reported and replaced by the default, so that one run reports everything.

use std::cell::RefCell;
use std::ops::RangeInclusive;

use super::diagnostic::{Place, Report, Severity, nearest, shown};
use super::scalar::Meaning;
use super::yaml::{Entry, Node, Value};
use super::{duration, print};

/// A value with its key path.
#[derive(Clone)]
pub(crate) struct Field<'a> {
    pub(crate) node: &'a Node,
    pub(crate) path: String,
    /// Place of the key, for values that are not there.
    pub(crate) key_place: Place,
    pub(crate) report: &'a Report,
    /// Whether a pipeline uses what this value describes.
    pub(crate) used: bool,
    /// Its text must not be repeated.
    secret: bool,
}

/// A map whose keys are being read.
pub(crate) struct Section<'a> {
    pub(crate) report: &'a Report,
    pub(crate) path: String,
    /// Place of the key that opened the section.
    pub(crate) place: Place,
    pub(crate) used: bool,
    entries: &'a [Entry],
    asked: RefCell<Vec<&'static str>>,
    secret: bool,
}

/// A value that changes nothing, so that a setting without effect can be passed over in silence.
#[derive(Clone, Copy)]
pub(crate) enum Idle {
    /// 0, 0s, false, empty text, empty list or map, null.
    Zero,
    /// This boolean.
    Bool(bool),
    /// This number.
    Int(i128),
    /// One of these texts, in any case.
    Text(&'static [&'static str]),
    /// This duration.
    Nanoseconds(i64),
    /// A map without `enabled: true`.
    Disabled,
}

impl<'a> Field<'a> {
    /// The root of a tree.
    pub(crate) fn root(node: &'a Node, report: &'a Report) -> Field<'a> {
        Field { node, path: String::new(), key_place: node.place.clone(), report, used: true, secret: false }
    }

    /// Where the value is, or its key if the value is empty.
    pub(crate) fn place(&self) -> &Place {
        if self.node.place.is_empty() { &self.key_place } else { &self.node.place }
    }

    pub(crate) fn error(&self, message: impl Into<String>, help: impl Into<String>) {
        self.report.error(self.place(), &self.path, message, help);
    }

    pub(crate) fn warning(&self, message: impl Into<String>, help: impl Into<String>) {
        self.report.warning(self.place(), &self.path, message, help);
    }

    /// Reports that we lack something: an error if a pipeline would go without it, else a warning.
    pub(crate) fn lacking(&self, message: impl Into<String>, help: impl Into<String>) {
        let (severity, message) = lacking(self.used, message.into());
        self.report.add(severity, self.place(), &self.path, message, help.into());
    }

    /// Reports a wrong type.
    pub(crate) fn expected(&self, what: &str, help: impl Into<String>) {
        self.error(format!("expected {what}, found {}", self.found()), help);
    }

    /// What is there, in words.
    pub(crate) fn found(&self) -> String {
        let word = match &self.node.value {
            Value::List(_) => return "a list".to_owned(),
            Value::Map(_) => return "a map".to_owned(),
            Value::Scalar(scalar) => match scalar.meaning() {
                Meaning::Null => return "nothing".to_owned(),
                Meaning::Bool(_) => "the boolean",
                Meaning::Int(_) => "the number",
                Meaning::Float(_) => "the decimal number",
                Meaning::Text(_) => "the text",
            },
        };
        match &self.node.value {
            Value::Scalar(scalar) if !self.secret => format!("{word} {}", shown(&scalar.text)),
            _ => format!("a value of another type ({})", word.trim_start_matches("the ")),
        }
    }

    pub(crate) fn meaning(&self) -> Option<Meaning<'a>> {
        match &self.node.value {
            Value::Scalar(scalar) => Some(scalar.meaning()),
            _ => None,
        }
    }

    /// Text. Expanded values give the variable's own text, whatever it means as YAML.
    pub(crate) fn text(&self) -> Option<String> {
        if let Some(expanded) = &self.node.expanded {
            return Some(expanded.clone());
        }
        match self.meaning() {
            Some(Meaning::Text(text)) => Some(text.to_owned()),
            Some(Meaning::Null) => Some(String::new()),
            Some(_) => {
                self.expected("text", "put the value into quotes");
                None
            }
            None => {
                self.expected("text", "write one value");
                None
            }
        }
    }

    /// The text of a scalar as it is written, whatever it means; empty for lists and maps.
    pub(crate) fn written(&self) -> &'a str {
        match (&self.node.expanded, &self.node.value) {
            (Some(expanded), _) => expanded,
            (None, Value::Scalar(scalar)) => &scalar.text,
            (None, _) => "",
        }
    }

    pub(crate) fn boolean(&self) -> Option<bool> {
        match self.meaning() {
            Some(Meaning::Bool(value)) => Some(value),
            Some(Meaning::Null) => None,
            _ => {
                self.expected("a boolean", "write `true` or `false`, without quotes");
                None
            }
        }
    }

    /// A whole number within bounds. A float without a fraction is one, as in the Collector.
    pub(crate) fn int(&self, range: RangeInclusive<i128>) -> Option<i128> {
        let number = match self.meaning() {
            Some(Meaning::Int(number)) => number,
            Some(Meaning::Float(number)) if number.fract() == 0.0 && number.abs() < 1e18 => number as i128,
            Some(Meaning::Null) => return None,
            _ => {
                self.expected("a whole number", format!("write a number {}", in_words(&range)));
                return None;
            }
        };
        if range.contains(&number) {
            return Some(number);
        }
        self.error(
            format!("expected a number {}, found {}", in_words(&range), shown(&number.to_string())),
            "write a number within these bounds",
        );
        None
    }

    pub(crate) fn float(&self) -> Option<f64> {
        match self.meaning() {
            Some(Meaning::Int(number)) => Some(number as f64),
            Some(Meaning::Float(number)) if number.is_finite() => Some(number),
            Some(Meaning::Null) => None,
            _ => {
                self.expected("a number", "write a number such as `5` or `0.5`, without quotes");
                None
            }
        }
    }

    /// Nanoseconds, 0 or more. A whole number without unit is nanoseconds, as in the Collector.
    pub(crate) fn duration_ns(&self) -> Option<u64> {
        const HELP: &str = "write a number with its unit: `200ms`, `10s`, `5m`, `1h30m`";
        let nanoseconds = match self.meaning() {
            Some(Meaning::Int(number)) => i64::try_from(number).ok(),
            Some(Meaning::Text(text)) => duration::parse(text),
            Some(Meaning::Null) => return None,
            _ => None,
        };
        let Some(nanoseconds) = nanoseconds else {
            self.expected("a duration", HELP);
            return None;
        };
        if matches!(self.meaning(), Some(Meaning::Int(1..=999_999))) {
            self.warning(
                format!("{nanoseconds} without a unit means {nanoseconds} nanoseconds"),
                format!("write the unit: `{nanoseconds}ms` or `{nanoseconds}s`"),
            );
        }
        match u64::try_from(nanoseconds) {
            Ok(nanoseconds) => Some(nanoseconds),
            Err(_) => {
                self.error("a duration here is 0 or more", HELP);
                None
            }
        }
    }

    /// Items of a list. A null is an empty list; a text is its parts between commas, as in the Collector.
    pub(crate) fn items(&self) -> Vec<Field<'a>> {
        match &self.node.value {
            Value::List(items) => {
                let item = |(index, node): (usize, &'a Node)| {
                    let key_place = if node.place.is_empty() { &self.key_place } else { &node.place };
                    self.child(format!("[{index}]"), node, key_place)
                };
                items.iter().enumerate().map(item).collect()
            }
            _ if self.node.is_null() => Vec::new(),
            _ => {
                self.expected("a list", "write `[one, two]`, or one `- item` in a line");
                Vec::new()
            }
        }
    }

    /// A list of texts, each with its place.
    pub(crate) fn texts(&self) -> Vec<(String, Field<'a>)> {
        if let Some(Meaning::Text(text)) = self.meaning() {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            return parts.map(|part| (part.to_owned(), self.clone())).collect();
        }
        let items = self.items();
        items.into_iter().filter_map(|item| item.text().map(|text| (text, item))).collect()
    }

    /// A map; null is an empty one.
    pub(crate) fn section(&self) -> Option<Section<'a>> {
        let entries: &[Entry] = match &self.node.value {
            Value::Map(entries) => entries,
            _ if self.node.is_null() => &[],
            _ => {
                self.expected("a map", "write `key: value` lines below this key");
                return None;
            }
        };
        Some(Section {
            report: self.report,
            path: self.path.clone(),
            place: self.key_place.clone(),
            used: self.used,
            entries,
            asked: RefCell::new(Vec::new()),
            secret: self.secret,
        })
    }

    fn child(&self, step: String, node: &'a Node, key_place: &Place) -> Field<'a> {
        Field {
            node,
            path: format!("{}{step}", self.path),
            key_place: key_place.clone(),
            report: self.report,
            used: self.used,
            secret: self.secret,
        }
    }

    /// Whether the value changes nothing.
    fn is_idle(&self, idle: Idle) -> bool {
        if self.node.is_null() {
            return true;
        }
        match (idle, self.meaning()) {
            (Idle::Zero, Some(meaning)) => match meaning {
                Meaning::Text(text) => text.is_empty() || duration::parse(text) == Some(0),
                other => matches!(other, Meaning::Bool(false) | Meaning::Int(0)) || other == Meaning::Float(0.0),
            },
            (Idle::Zero, None) => match &self.node.value {
                Value::List(items) => items.is_empty(),
                Value::Map(entries) => entries.is_empty(),
                Value::Scalar(_) => false,
            },
            (Idle::Bool(expected), Some(Meaning::Bool(value))) => value == expected,
            (Idle::Int(expected), Some(Meaning::Int(value))) => value == expected,
            (Idle::Text(expected), Some(Meaning::Text(text))) => {
                text.is_empty() || expected.iter().any(|known| known.eq_ignore_ascii_case(text))
            }
            (Idle::Nanoseconds(expected), Some(Meaning::Text(text))) => duration::parse(text) == Some(expected),
            (Idle::Nanoseconds(expected), Some(Meaning::Int(value))) => value == i128::from(expected),
            (Idle::Disabled, None) => {
                let enabled = self.node.at("enabled");
                enabled.is_none_or(
                    |node| !matches!(&node.value, Value::Scalar(scalar) if scalar.meaning() == Meaning::Bool(true)),
                )
            }
            _ => false,
        }
    }
}

/// How bad it is to lack something, and the message that says so.
pub(crate) fn lacking(used: bool, message: String) -> (Severity, String) {
    if used {
        (Severity::Error, message)
    } else {
        (Severity::Warning, format!("{message}; skipped, because no pipeline uses it"))
    }
}

fn in_words(range: &RangeInclusive<i128>) -> String {
    let (start, end) = (range.start(), range.end());
    // Bounds of the machine's types say nothing to a reader.
    if *end >= i128::from(u32::MAX) { format!("of {start} or more") } else { format!("from {start} to {end}") }
}

impl<'a> Section<'a> {
    /// The value of a key. Every key that is known goes through here.
    pub(crate) fn field(&self, key: &'static str) -> Option<Field<'a>> {
        self.asked.borrow_mut().push(key);
        self.report.note_asked(&self.join(key));
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        Some(self.field_of(entry))
    }

    /// All entries, for maps whose keys are names.
    pub(crate) fn entries(&self) -> Vec<(&'a str, Field<'a>)> {
        let entries = self.entries.iter();
        entries.map(|entry| (entry.key.as_str(), self.field_of(entry))).collect()
    }

    /// Ends the section without looking at unknown keys: its keys are names.
    pub(crate) fn keys_are_names(self) {
        self.accept_any_key();
    }

    /// Nothing more is said of this section's keys.
    pub(crate) fn accept_any_key(&self) {
        self.asked.borrow_mut().clear();
        self.asked.borrow_mut().push(ANY_KEY);
    }

    fn field_of(&self, entry: &'a Entry) -> Field<'a> {
        Field {
            node: &entry.node,
            path: self.join(&entry.key),
            key_place: entry.place.clone(),
            report: self.report,
            used: self.used,
            secret: self.secret || print::is_secret_key(&entry.key) || print::is_secret_map(&entry.key),
        }
    }

    fn join(&self, key: &str) -> String {
        match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }

    pub(crate) fn error(&self, message: impl Into<String>, help: impl Into<String>) {
        self.report.error(&self.place, &self.path, message, help);
    }

    pub(crate) fn warning(&self, message: impl Into<String>, help: impl Into<String>) {
        self.report.warning(&self.place, &self.path, message, help);
    }

    pub(crate) fn section(&self, key: &'static str) -> Option<Section<'a>> {
        self.field(key)?.section()
    }

    /// Whether nothing is written in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The section of a key, empty if the key is absent, so that its defaults are read by the same lines.
    pub(crate) fn section_or_empty(&self, key: &'static str) -> Section<'a> {
        self.section(key).unwrap_or_else(|| Section {
            report: self.report,
            path: self.join(key),
            place: self.place.clone(),
            used: self.used,
            entries: &[],
            asked: RefCell::new(Vec::new()),
            secret: self.secret,
        })
    }

    pub(crate) fn text(&self, key: &'static str) -> Option<String> {
        self.field(key)?.text().filter(|text| !text.is_empty())
    }

    pub(crate) fn boolean(&self, key: &'static str, default: bool) -> bool {
        self.field(key).and_then(|field| field.boolean()).unwrap_or(default)
    }

    pub(crate) fn u32(&self, key: &'static str, least: u32, default: u32) -> u32 {
        let number = self.field(key).and_then(|field| field.int(least.into()..=u32::MAX.into()));
        number.map_or(default, |number| u32::try_from(number).expect("the range says so"))
    }

    pub(crate) fn float(&self, key: &'static str, default: f64) -> f64 {
        self.field(key).and_then(|field| field.float()).unwrap_or(default)
    }

    pub(crate) fn duration_ns(&self, key: &'static str, default: u64) -> u64 {
        self.field(key).and_then(|field| field.duration_ns()).unwrap_or(default)
    }

    /// One of some words, in any case.
    pub(crate) fn choice<T: Copy>(&self, key: &'static str, choices: &[(&str, T)], default: T) -> T {
        let Some(field) = self.field(key).filter(|field| !field.node.is_null()) else {
            return default;
        };
        let Some(text) = field.text() else {
            return default;
        };
        let chosen = choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(&text));
        if let Some((_, value)) = chosen {
            return *value;
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).filter(|word| !word.is_empty()).collect();
        let help = match nearest(&text, words.iter().copied()) {
            Some(word) => format!("did you mean `{word}`?"),
            None => "write one of these words".to_owned(),
        };
        field.expected(&format!("one of {}", words.join(", ")), help);
        default
    }

    /// A setting of the Collector that changes nothing here, whatever its value.
    pub(crate) fn ignored(&self, keys: &[&'static str]) {
        for key in keys {
            self.field(key);
        }
    }

    /// A setting of the Collector that is not built: a warning, unless the value is idle.
    pub(crate) fn no_effect(&self, key: &'static str, idle: Idle, instead: &str) {
        if let Some(field) = self.field(key).filter(|field| !field.is_idle(idle)) {
            field.warning("has no effect yet", instead);
        }
    }

    /// A setting of the Collector whose absence would change results, or who may do what: an error where a pipeline
    /// uses it, unless the value is idle.
    pub(crate) fn unsupported(&self, key: &'static str, idle: Idle, why: &str, instead: &str) {
        if let Some(field) = self.field(key).filter(|field| !field.is_idle(idle)) {
            field.lacking(format!("not built yet: {why}"), instead);
        }
    }
}

/// Stands for "every key is known".
const ANY_KEY: &str = "*";

impl Drop for Section<'_> {
    /// Reports the keys that nobody asked for.
    fn drop(&mut self) {
        let asked = self.asked.borrow();
        if asked.contains(&ANY_KEY) {
            return;
        }
        for entry in self.entries {
            if asked.contains(&entry.key.as_str()) {
                continue;
            }
            let help = match nearest(&entry.key, asked.iter().copied()) {
                Some(key) => format!("did you mean `{key}`?"),
                None if asked.is_empty() => "remove it; this section has no keys".to_owned(),
                None => format!("remove it; known here: {}", known_keys(&asked)),
            };
            self.report.error(&entry.place, &self.join(&entry.key), "unknown key", help);
        }
    }
}

fn known_keys(asked: &[&'static str]) -> String {
    let mut keys = asked.to_vec();
    keys.sort_unstable();
    keys.dedup();
    keys.join(", ")
}
