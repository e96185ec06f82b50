//! Actions and redactions on bytes against the same ones on structs.

use std::collections::BTreeSet;

use codecs::otlp::proto;
use md5::{Digest, Md5};
use prost::Message;
use sha2::Sha256;

use super::{Choices, from_value, to_value};
use crate::action::{Action, Extraction, Keys, Source, Target, When, apply};
use crate::attributes::{AttributeList, Child, field, rewrite_children};
use crate::pattern::Pattern;
use crate::redaction::{Mask, Redaction, Summary};
use crate::value::{Value, hex};

/// Any bytes as choices of a span, of actions on it and of a redaction after them: lists and structs agree.
pub fn fuzz_attributes(choices: &[u8]) {
    let mut choices = Choices { bytes: choices };
    let mut twin = proto::Span { name: b"n".to_vec(), attributes: choices.entries(0), ..proto::Span::default() };
    let mut list = AttributeList::default();
    list.begin(&twin.encode_to_vec(), field::SPAN);
    let context = [Some("from the client".to_owned()), None];
    for _ in 0..choices.below(6) {
        let action = choices.action();
        apply(std::slice::from_ref(&action), &context, &mut list);
        apply_to_twin(&action, &context, &mut twin.attributes);
        assert_same(&list, &twin, &action);
    }
    let redaction = choices.redaction();
    redaction.redact(&mut list);
    redact_twin(&redaction, &mut twin.attributes);
    assert_same(&list, &twin, &redaction);
}

/// Any bytes as a span, an envelope and a list of children: no panic, and without a change nothing changes.
pub fn fuzz_attributes_unchecked(bytes: &[u8]) {
    let mut list = AttributeList::default();
    let actions: Vec<Action> = (0..=u8::MAX).map(|seed| Choices { bytes: &[seed, seed, seed] }.action()).collect();
    let redaction = Choices { bytes: &[1; 16] }.redaction();
    for number in [field::RESOURCE, field::SCOPE, field::SPAN] {
        list.begin(bytes, number);
        let mut out = Vec::new();
        list.write(&mut out);
        assert_eq!(out, bytes, "what nobody touched leaves as it came");
        apply(&actions, &[], &mut list);
        redaction.redact(&mut list);
        list.write(&mut out);
        list.begin_envelope(bytes, number);
        apply(&actions, &[], &mut list);
        list.write_envelope(bytes, &mut out);
    }
    let mut out = Vec::new();
    assert!(!rewrite_children(bytes, field::SPAN_EVENTS, &mut |_, _| Child::Kept, &mut out));
    assert_eq!(out, bytes);
    rewrite_children(bytes, field::SPAN_EVENTS, &mut |_, _| Child::Gone, &mut out);
}

fn assert_same(list: &AttributeList, twin: &proto::Span, after: &dyn std::fmt::Debug) {
    let mut out = Vec::new();
    list.write(&mut out);
    let found = proto::Span::decode(&*out).expect("a written span decodes");
    assert_eq!(found.name, twin.name);
    assert_eq!(shown(&found), shown(twin), "after {after:?}");
}

/// As text, so that a float that is no number equals itself. A missing value means the same as one that is not set.
fn shown(span: &proto::Span) -> Vec<String> {
    let text = |entry: &proto::KeyValue| match twin_value(entry) {
        Value::Text(text) => format!("{:?}", text.escape_ascii().to_string()),
        other => format!("{other:?}"),
    };
    span.attributes.iter().map(|entry| format!("{} = {}", entry.key.escape_ascii(), text(entry))).collect()
}

impl Choices<'_> {
    fn key(&mut self) -> Vec<u8> {
        self.one_of(&["a", "b", "c", "x", "user.email", "redaction.masked.count"]).into()
    }

    fn keys(&mut self) -> Keys {
        let pattern = |choices: &mut Self| choices.pattern(&["^[ab]", "user", ".", "^$", "z"]);
        match self.below(3) {
            0 => Keys { key: Some(self.key()), pattern: None },
            1 => Keys { key: None, pattern: Some(pattern(self)) },
            _ => Keys { key: Some(self.key()), pattern: Some(pattern(self)) },
        }
    }

    fn pattern(&mut self, patterns: &[&str]) -> Pattern {
        Pattern::new(self.one_of(patterns)).expect("these patterns compile")
    }

    fn action(&mut self) -> Action {
        match self.below(7) {
            0 => Action::Delete(self.keys()),
            1 => Action::Hash(self.keys()),
            2 => {
                let pattern = self.pattern(&["(?P<a>t.)(?P<c>.*)", "(?P<b>[0-9]+)|(?P<x>gr)", "^(?P<a>)$"]);
                let key = String::from_utf8(self.key()).expect("these keys are ASCII");
                Action::Extract(Extraction::new(&key, pattern).expect("these patterns have named groups"))
            }
            3 => {
                let target = [Target::Int, Target::Double, Target::String][self.below(3)];
                Action::Convert { key: self.key(), target }
            }
            _ => {
                let when = [When::Absent, When::Present, When::Always][self.below(3)];
                let source = match self.below(4) {
                    0 => Source::Value(to_value(Some(&self.value(0))).into_owned()),
                    1 => Source::Attribute(self.key()),
                    2 => Source::Context(self.below(3)),
                    _ => Source::Nothing,
                };
                let default = (self.below(2) == 1).then_some(Value::Int(7));
                Action::Set { key: self.key(), when, source, default }
            }
        }
    }

    fn redaction(&mut self) -> Redaction {
        let keys = |choices: &mut Self| (0..choices.below(4)).map(|_| choices.key()).collect::<BTreeSet<_>>();
        let allowed_keys = match self.below(2) {
            0 => None,
            _ => Some(keys(self)),
        };
        let ignored_keys = keys(self);
        let patterns =
            |choices: &mut Self, of: &[&str]| (0..choices.below(3)).map(|_| choices.pattern(of)).collect::<Vec<_>>();
        Redaction {
            allowed_keys,
            ignored_keys,
            ignored_key_patterns: patterns(self, &["^b$", "email"]),
            blocked_key_patterns: patterns(self, &["^[bc]$", "email", "."]),
            blocked_values: patterns(self, &["[0-9]", "t", "e*", ".+"]),
            allowed_values: patterns(self, &["gr", "^$"]),
            redacts_all_types: self.below(2) == 1,
            // Their own target takes any bytes.
            urls: None,
            databases: None,
            mask: if self.below(2) == 1 { Mask::Md5 } else { Mask::Stars },
            summary: [Summary::Silent, Summary::Info, Summary::Debug][self.below(3)],
        }
    }
}

type Entries = Vec<proto::KeyValue>;

fn twin_value(entry: &proto::KeyValue) -> Value<'_> {
    to_value(entry.value.as_ref())
}

fn twin_find(entries: &Entries, key: &[u8]) -> Option<Value<'static>> {
    entries.iter().find(|entry| entry.key == key).map(|entry| twin_value(entry).into_owned())
}

fn twin_put(entries: &mut Entries, key: &[u8], value: &Value<'_>) {
    let value = Some(from_value(value));
    if entries.iter().any(|entry| entry.key == key) {
        entries.iter_mut().filter(|entry| entry.key == key).for_each(|entry| entry.value.clone_from(&value));
    } else {
        entries.push(proto::KeyValue { key: key.to_vec(), value });
    }
}

fn apply_to_twin(action: &Action, context: &[Option<String>], entries: &mut Entries) {
    match action {
        Action::Set { key, when, source, default } => {
            let found = match source {
                Source::Value(value) => Some(value.clone()),
                Source::Attribute(from) => twin_find(entries, from),
                Source::Context(number) => context.get(*number).cloned().flatten().map(Value::owned_text),
                Source::Nothing => None,
            };
            let is_there = entries.iter().any(|entry| entry.key == *key);
            let sets = *when == When::Always || is_there == (*when == When::Present);
            if let Some(value) = found.or_else(|| default.clone()).filter(|_| sets) {
                twin_put(entries, key, &value);
            }
        }
        Action::Delete(Keys { key, pattern }) => entries.retain(|entry| {
            key.as_ref() != Some(&entry.key) && !pattern.as_ref().is_some_and(|pattern| pattern.is_found_in(&entry.key))
        }),
        Action::Hash(Keys { key, pattern }) => {
            for entry in entries {
                let named = usize::from(key.as_ref() == Some(&entry.key));
                let matching = usize::from(pattern.as_ref().is_some_and(|pattern| pattern.is_found_in(&entry.key)));
                for _ in 0..named + matching {
                    let hashed = match twin_value(entry) {
                        Value::Text(text) => hex(&Sha256::digest(&*text)),
                        Value::Bool(value) => hex(&Sha256::digest([u8::from(value)])),
                        Value::Int(value) => hex(&Sha256::digest(value.to_le_bytes())),
                        Value::Double(value) => hex(&Sha256::digest(value.to_le_bytes())),
                        _ => String::new(),
                    };
                    entry.value = Some(from_value(&Value::text(&hashed)));
                }
            }
        }
        Action::Extract(extraction) => {
            let (key, pattern, names) = extraction.parts();
            let Some(Value::Text(text)) = twin_find(entries, key) else { return };
            let Some(found) = pattern.regex().captures(&text) else { return };
            for name in names {
                let name = std::str::from_utf8(name).expect("group names are text");
                let group = found.name(name).map_or(&b""[..], |group| group.as_bytes());
                twin_put(entries, name.as_bytes(), &Value::Text(group.into()));
            }
        }
        Action::Convert { key, target } => {
            for entry in entries.iter_mut().filter(|entry| entry.key == *key) {
                if let Some(value) = twin_converted(&twin_value(entry), *target) {
                    entry.value = Some(from_value(&value));
                }
            }
        }
    }
}

fn twin_converted(value: &Value<'_>, target: Target) -> Option<Value<'static>> {
    Some(match (target, value) {
        (Target::Int, Value::Bool(value)) => Value::Int(i64::from(*value)),
        (Target::Int, Value::Double(value)) => Value::Int(value.trunc() as i64),
        (Target::Double, Value::Bool(value)) => Value::Double(if *value { 1.0 } else { 0.0 }),
        (Target::Double, Value::Int(value)) => Value::Double(*value as f64),
        (Target::Int, Value::Text(text)) => Value::Int(String::from_utf8(text.to_vec()).ok()?.parse().ok()?),
        (Target::Double, Value::Text(text)) => Value::Double(String::from_utf8(text.to_vec()).ok()?.parse().ok()?),
        (Target::String, Value::Text(_)) | (Target::Int | Target::Double, _) => return None,
        (Target::String, value) => Value::owned_text(twin_text(value)),
    })
}

fn twin_text(value: &Value<'_>) -> String {
    match value {
        Value::Text(text) => String::from_utf8_lossy(text).into_owned(),
        Value::Nil => String::new(),
        Value::Bytes(bytes) => crate::value::base64_padded(bytes),
        other => {
            let mut out = String::new();
            other.write_json(&mut out).expect("chosen floats are numbers");
            out
        }
    }
}

/// Redaction by the book: two copies of the map, the old one read and the new one written.
fn redact_twin(redaction: &Redaction, entries: &mut Entries) {
    let before = std::mem::take(entries);
    let mut told: [(&str, Vec<String>); 4] =
        ["redacted", "masked", "allowed", "ignored"].map(|fate| (fate, Vec::new()));
    for mut entry in before {
        let key = String::from_utf8_lossy(&entry.key).into_owned();
        let is_in =
            |patterns: &[Pattern], text: &str| patterns.iter().any(|pattern| pattern.is_found_in(text.as_bytes()));
        let text = match twin_value(&entry) {
            Value::Text(text) => String::from_utf8_lossy(&text).into_owned(),
            other if redaction.redacts_all_types => twin_text(&other),
            _ => String::new(),
        };
        let stays = redaction.allowed_keys.as_ref().is_none_or(|allowed| allowed.contains(&entry.key))
            || ["redacted.keys", "redacted.count", "masked.keys", "masked.count", "ignored.count"]
                .iter()
                .any(|name| key == format!("redaction.{name}"));
        let fate = if redaction.ignored_keys.contains(&entry.key) || is_in(&redaction.ignored_key_patterns, &key) {
            Some(3)
        } else if !stays {
            Some(0)
        } else if is_in(&redaction.allowed_values, &text) {
            Some(2)
        } else {
            let masked = if is_in(&redaction.blocked_key_patterns, &key) {
                Some(twin_mask(redaction, &Pattern::new(".*").expect("it compiles"), &text))
            } else {
                let mut masked = text.clone();
                for pattern in &redaction.blocked_values {
                    masked = twin_mask(redaction, pattern, &masked);
                }
                (masked != text).then_some(masked)
            };
            masked.map(|masked| {
                entry.value = Some(from_value(&Value::text(&masked)));
                1
            })
        };
        if let Some(fate) = fate {
            told[fate].1.push(key);
        }
        if fate != Some(0) {
            entries.push(entry);
        }
    }
    for (fate, mut keys) in told.into_iter().filter(|(_, keys)| !keys.is_empty()) {
        let mut count = keys.len() as i64;
        if redaction.summary == Summary::Debug && fate != "ignored" {
            keys.sort();
            twin_put(entries, format!("redaction.{fate}.keys").as_bytes(), &Value::owned_text(keys.join(",")));
        }
        if redaction.summary != Summary::Silent {
            let name = format!("redaction.{fate}.count");
            if let Some(Value::Int(earlier)) = twin_find(entries, name.as_bytes()) {
                count += earlier;
            }
            twin_put(entries, name.as_bytes(), &Value::Int(count));
        }
    }
}

fn twin_mask(redaction: &Redaction, pattern: &Pattern, text: &str) -> String {
    let regex = regex::Regex::new(pattern.text()).expect("these patterns compile");
    let mask = |found: &regex::Captures<'_>| match redaction.mask {
        Mask::Md5 => hex(&Md5::digest(&found[0])),
        _ => "****".to_owned(),
    };
    regex.replace_all(text, mask).into_owned()
}
