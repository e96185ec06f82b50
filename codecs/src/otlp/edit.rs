//! Changing the attributes of a resource: envelope in, envelope out.
//!
//! The resource message is taken apart into its fields; attributes that no edit touches, unknown fields and the rest
//! of the envelope leave byte for byte as they came. Nothing is done in place: envelopes are shared.

use sha2::{Digest, Sha256};

use super::attributes::{Attribute, Fields, RESOURCE, RESOURCE_ATTRIBUTES, Value};
use crate::wire::{
    WireType, length_field_length, write_length_field, write_length_prefix, write_tag, write_varint_field,
};

/// One change to a map of attributes. Where a key occurs more than once (OTLP forbids it), the change applies to each.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit {
    /// The attribute.
    pub key: String,
    /// What happens to it.
    pub change: EditChange,
}

/// What an edit does to an attribute (an action of the Collector's `attributes` and `resource` processors).
#[derive(Clone, Debug, PartialEq)]
pub enum EditChange {
    /// Set only if absent.
    Insert(EditSource),
    /// Set only if present.
    Update(EditSource),
    /// Set always.
    Upsert(EditSource),
    /// Remove.
    Delete,
    /// Replace by the lower-case hex SHA-256 of its bytes: a string's as they are, a bool's one, a number's eight
    /// (little endian). Empty strings, lists, maps and bytes become the empty string.
    Hash,
}

/// Where an edit's value comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum EditSource {
    /// Written in the configuration, with its type.
    Value(Scalar),
    /// Copied from another attribute of the same map; absent: no change.
    FromAttribute(String),
    /// Nothing, and so no change: what the caller would have filled in is not there.
    Nothing,
}

/// A typed scalar.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// Text.
    String(String),
    /// Integer.
    Int(i64),
    /// Double.
    Double(f64),
    /// Boolean.
    Bool(bool),
}

impl Scalar {
    /// The bytes of an AnyValue with this value; numbers are written even if zero, because a oneof field is set or not.
    fn any_value(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::String(text) => write_length_field(&mut out, 1, text.as_bytes()),
            Self::Bool(value) => write_varint_field(&mut out, 2, u64::from(*value)),
            Self::Int(value) => write_varint_field(&mut out, 3, *value as u64),
            Self::Double(value) => {
                write_tag(&mut out, 4, WireType::Fixed64);
                out.extend_from_slice(&value.to_bits().to_le_bytes());
            }
        }
        out
    }
}

/// Appends to `out` the resource envelope `envelope` after `edits`, done in order. `envelope` was checked before; if
/// it has no resource message, one is made for what the edits add. Several resource messages become one, which means
/// the same to every protobuf reader.
pub fn edit_resource(envelope: &[u8], edits: &[Edit], out: &mut Vec<u8>) {
    let is_resource = |number| number == RESOURCE;
    let mut entries: Vec<Entry<'_>> = Fields::of(envelope)
        .filter(|field| is_resource(field.tag.number))
        .flat_map(|field| Fields::of(field.body))
        .map(|field| match field.tag.number {
            RESOURCE_ATTRIBUTES => Entry::Attribute { raw: field.raw, attribute: Attribute::read(field.body) },
            _ => Entry::Other(field.raw),
        })
        .collect();
    let had_resource = Fields::of(envelope).any(|field| is_resource(field.tag.number));
    for edit in edits {
        apply(edit, &mut entries);
    }
    if had_resource || !entries.is_empty() {
        write_length_prefix(out, RESOURCE, entries.iter().map(Entry::length).sum());
        for entry in &entries {
            entry.write(out);
        }
    }
    for field in Fields::of(envelope).filter(|field| !is_resource(field.tag.number)) {
        out.extend_from_slice(field.raw);
    }
}

fn apply<'a>(edit: &'a Edit, entries: &mut Vec<Entry<'a>>) {
    let key = edit.key.as_bytes();
    let present = entries.iter().any(|entry| entry.is(key));
    match &edit.change {
        EditChange::Insert(source) if !present => insert(key, source, entries),
        EditChange::Upsert(source) if !present => insert(key, source, entries),
        EditChange::Insert(_) => {}
        EditChange::Update(source) | EditChange::Upsert(source) => {
            let Some(value) = value_of(source, entries) else {
                return;
            };
            for entry in entries.iter_mut().filter(|entry| entry.is(key)) {
                *entry = Entry::Changed { key, value: value.clone() };
            }
        }
        EditChange::Delete => entries.retain(|entry| !entry.is(key)),
        EditChange::Hash => {
            for entry in entries.iter_mut().filter(|entry| entry.is(key)) {
                let value = Scalar::String(hash(Value::read(entry.value()))).any_value();
                *entry = Entry::Changed { key, value };
            }
        }
    }
}

fn insert<'a>(key: &'a [u8], source: &EditSource, entries: &mut Vec<Entry<'a>>) {
    if let Some(value) = value_of(source, entries) {
        entries.push(Entry::Changed { key, value });
    }
}

/// The bytes of the AnyValue that `source` gives, if it gives one.
fn value_of(source: &EditSource, entries: &[Entry<'_>]) -> Option<Vec<u8>> {
    match source {
        EditSource::Value(value) => Some(value.any_value()),
        EditSource::FromAttribute(key) => {
            let entry = entries.iter().find(|entry| entry.is(key.as_bytes()))?;
            Some(entry.value().to_vec())
        }
        EditSource::Nothing => None,
    }
}

fn hash(value: Value<'_>) -> String {
    let digest = match value {
        Value::String(text) if !text.is_empty() => Sha256::digest(text),
        Value::Bool(value) => Sha256::digest([u8::from(value)]),
        Value::Int(value) => Sha256::digest(value.to_le_bytes()),
        Value::Double(value) => Sha256::digest(value.to_bits().to_le_bytes()),
        _ => return String::new(),
    };
    digest
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(HEX_DIGITS[usize::from(digit)]))
        .collect()
}

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

/// A field of the resource message.
enum Entry<'a> {
    /// An attribute as it came: `raw` is the whole field.
    Attribute { raw: &'a [u8], attribute: Attribute<'a> },
    /// An attribute that an edit wrote; `value` is an AnyValue.
    Changed { key: &'a [u8], value: Vec<u8> },
    /// Anything else.
    Other(&'a [u8]),
}

impl Entry<'_> {
    fn is(&self, name: &[u8]) -> bool {
        match self {
            Self::Attribute { attribute, .. } => attribute.key == name,
            Self::Changed { key, .. } => *key == name,
            Self::Other(_) => false,
        }
    }

    fn value(&self) -> &[u8] {
        match self {
            Self::Attribute { attribute, .. } => attribute.value,
            Self::Changed { value, .. } => value,
            Self::Other(_) => &[],
        }
    }

    fn length(&self) -> usize {
        match self {
            Self::Attribute { raw, .. } | Self::Other(raw) => raw.len(),
            Self::Changed { key, value } => length_field_length(RESOURCE_ATTRIBUTES, key_value_length(key, value)),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Attribute { raw, .. } | Self::Other(raw) => out.extend_from_slice(raw),
            Self::Changed { key, value } => {
                write_length_prefix(out, RESOURCE_ATTRIBUTES, key_value_length(key, value));
                write_length_field(out, 1, key);
                write_length_field(out, 2, value);
            }
        }
    }
}

fn key_value_length(key: &[u8], value: &[u8]) -> usize {
    length_field_length(1, key.len()) + length_field_length(2, value.len())
}

#[cfg(test)]
mod tests {
    use super::super::attributes::{resource_attribute, resource_attributes};
    use super::*;

    fn action(key: &str, change: EditChange) -> Edit {
        Edit { key: key.to_owned(), change }
    }

    fn text(value: &str) -> EditSource {
        EditSource::Value(Scalar::String(value.to_owned()))
    }

    /// An envelope whose resource has string attributes, a dropped count and an unknown field, and a schema URL.
    fn envelope(attributes: &[(&str, &str)]) -> Vec<u8> {
        let mut resource = Vec::new();
        for (key, value) in attributes {
            let mut key_value = Vec::new();
            write_length_field(&mut key_value, 1, key.as_bytes());
            write_length_field(&mut key_value, 2, &Scalar::String((*value).to_owned()).any_value());
            write_length_field(&mut resource, 1, &key_value);
        }
        write_varint_field(&mut resource, 2, 3);
        write_length_field(&mut resource, 77, b"unknown");
        let mut out = Vec::new();
        write_length_field(&mut out, 1, &resource);
        write_length_field(&mut out, 3, b"https://schema");
        out
    }

    fn check(before: &[(&str, &str)], edits: &[Edit], after: &[(&str, &str)]) {
        let mut out = Vec::new();
        edit_resource(&envelope(before), edits, &mut out);
        let found: Vec<_> = resource_attributes(&out)
            .map(|attribute| match Value::read(attribute.value) {
                Value::String(value) => (attribute.key, value),
                other => panic!("not a string: {other:?}"),
            })
            .collect();
        let after: Vec<_> = after.iter().map(|(key, value)| (key.as_bytes(), value.as_bytes())).collect();
        assert_eq!(found, after);
    }

    #[test]
    fn insert_sets_only_what_is_absent() {
        let actions = [action("a", EditChange::Insert(text("new"))), action("b", EditChange::Insert(text("new")))];
        check(&[("a", "old")], &actions, &[("a", "old"), ("b", "new")]);
    }

    #[test]
    fn update_sets_only_what_is_present() {
        let actions = [action("a", EditChange::Update(text("new"))), action("b", EditChange::Update(text("new")))];
        check(&[("a", "old")], &actions, &[("a", "new")]);
    }

    #[test]
    fn upsert_sets_always() {
        let actions = [action("a", EditChange::Upsert(text("new"))), action("b", EditChange::Upsert(text("new")))];
        check(&[("a", "old"), ("z", "stays")], &actions, &[("a", "new"), ("z", "stays"), ("b", "new")]);
    }

    #[test]
    fn delete_removes_every_entry_of_the_key() {
        let actions = [action("a", EditChange::Delete), action("none", EditChange::Delete)];
        check(&[("a", "1"), ("b", "2"), ("a", "3")], &actions, &[("b", "2")]);
    }

    #[test]
    fn actions_see_what_earlier_actions_did() {
        let copy = |key: &str| EditSource::FromAttribute(key.to_owned());
        let actions = [
            action("b", EditChange::Insert(copy("a"))),
            action("a", EditChange::Delete),
            action("c", EditChange::Upsert(copy("b"))),
            action("d", EditChange::Upsert(copy("a"))),
            action("b", EditChange::Update(copy("missing"))),
        ];
        check(&[("a", "1")], &actions, &[("b", "1"), ("c", "1")]);
    }

    #[test]
    fn hash_is_the_sha_256_of_the_bytes() {
        let hashed = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        check(&[("a", "abc"), ("e", "")], &[action("a", EditChange::Hash)], &[("a", hashed), ("e", "")]);
        check(&[("e", "")], &[action("e", EditChange::Hash)], &[("e", "")]);
        assert_eq!(hash(Value::Bool(true)), "4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a");
        assert_eq!(hash(Value::Int(0)), hash(Value::Double(0.0)));
        assert_eq!(hash(Value::Array(&[1])), "");
    }

    #[test]
    fn values_keep_their_type() {
        let set = |key, value| action(key, EditChange::Upsert(EditSource::Value(value)));
        let mut out = Vec::new();
        let actions = [
            set("i", Scalar::Int(-1)),
            set("z", Scalar::Int(0)),
            set("d", Scalar::Double(0.0)),
            set("b", Scalar::Bool(false)),
        ];
        edit_resource(&[], &actions, &mut out);
        let found: Vec<_> = resource_attributes(&out).map(|attribute| Value::read(attribute.value)).collect();
        assert_eq!(found, [Value::Int(-1), Value::Int(0), Value::Double(0.0), Value::Bool(false)]);
    }

    #[test]
    fn an_envelope_without_a_resource_gets_one_when_something_is_added() {
        let mut schema_only = Vec::new();
        write_length_field(&mut schema_only, 3, b"schema");
        let mut out = Vec::new();
        edit_resource(&schema_only, &[action("a", EditChange::Delete)], &mut out);
        assert_eq!(out, schema_only, "nothing to remove, nothing made");
        out.clear();
        edit_resource(&schema_only, &[action("a", EditChange::Insert(text("x")))], &mut out);
        assert_eq!(resource_attribute(&out, "a"), Some(&b"x"[..]));
        assert!(out.ends_with(&schema_only));
    }

    #[test]
    fn untouched_bytes_leave_as_they_came() {
        let before = envelope(&[("a", "1"), ("b", "2")]);
        let mut out = Vec::new();
        edit_resource(&before, &[action("c", EditChange::Update(text("x")))], &mut out);
        assert_eq!(out, before);
    }

    #[test]
    fn lookups_find_strings_only() {
        let before = envelope(&[("service.name", "shop"), ("service.name", "later")]);
        assert_eq!(resource_attribute(&before, "service.name"), Some(&b"shop"[..]));
        assert_eq!(resource_attribute(&before, "service"), None);
    }
}
