//! Actions on attributes: insert, update, upsert, delete, hash, extract, convert.
//!
//! The idea: an action is checked when it is made, so that running a list of them cannot fail; what does not fit a value
//! leaves it as it is. The rules are those of the Collector's `attributes` and `resource` processors (contrib v0.156). What
//! a request's sender adds is handed in, so that nothing here knows of requests.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use crate::attributes::{AttributeList, Written};
use crate::editor::VALUE_BYTES_MAX;
use crate::pattern::Pattern;
use crate::value::{Value, base64_padded, hex};

/// One action, checked.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Sets an attribute.
    Set {
        /// Its key.
        key: Vec<u8>,
        /// On which condition.
        when: When,
        /// To what.
        source: Source,
        /// `default_value`: to what if the source gives nothing.
        default: Option<Value<'static>>,
    },
    /// Removes attributes.
    Delete(Keys),
    /// Replaces values by the lower-case hex SHA-256 of their bytes: a string's as they are, a bool's one, a number's
    /// eight (little endian). Lists, maps, bytes and missing values become the empty string. A key that is named and
    /// matches is hashed twice, as in the Collector.
    Hash(Keys),
    /// Sets one attribute per group of a pattern from the text of another.
    Extract(Extraction),
    /// Gives a value another type if it can be read as one; else it stays.
    Convert {
        /// The attribute.
        key: Vec<u8>,
        /// Its new type.
        target: Target,
    },
}

/// When [`Action::Set`] sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// `insert`: only if there is none.
    Absent,
    /// `update`: only if there is one.
    Present,
    /// `upsert`.
    Always,
}

/// Where [`Action::Set`] takes its value from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Written in the configuration, with its type.
    Value(Value<'static>),
    /// `from_attribute`: another attribute of the same message.
    Attribute(Vec<u8>),
    /// `from_context`: place in the texts handed to [`apply`].
    Context(usize),
    /// Only the default.
    Nothing,
}

/// Which attributes: one by name, any by pattern, or both.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Keys {
    /// By name.
    pub key: Option<Vec<u8>>,
    /// By a pattern found anywhere in the name.
    pub pattern: Option<Pattern>,
}

/// `converted_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// From texts that are whole numbers, cut from floats, 0 or 1 from bools.
    Int,
    /// From texts that are numbers, whole numbers, 0 or 1 from bools.
    Double,
    /// From everything: numbers and bools as JSON, lists and maps as JSON with sorted keys, bytes in base64.
    String,
}

/// A pattern whose groups all have names, and the attribute it is searched in.
#[derive(Clone, Debug, PartialEq)]
pub struct Extraction {
    key: Vec<u8>,
    pattern: Pattern,
    /// By the group's number less one.
    names: Vec<Vec<u8>>,
}

impl Extraction {
    /// Texts of the attribute `key` are searched for `pattern`, once.
    ///
    /// # Errors
    /// The pattern has no group, or one without a name, in words that follow "the pattern".
    pub fn new(key: &str, pattern: Pattern) -> Result<Self, &'static str> {
        let names: Vec<Option<&str>> = pattern.regex().capture_names().skip(1).collect();
        if names.is_empty() {
            return Err("has no named group");
        }
        let names: Option<Vec<_>> = names.into_iter().map(|name| name.map(|name| name.as_bytes().to_vec())).collect();
        let names = names.ok_or("has a group without a name")?;
        Ok(Self { key: key.as_bytes().to_vec(), pattern, names })
    }

    /// Key, pattern and names, for the twin.
    pub(crate) fn parts(&self) -> (&[u8], &Pattern, &[Vec<u8>]) {
        (&self.key, &self.pattern, &self.names)
    }
}

/// Runs `actions` in order on `list`. `context` holds what [`Source::Context`] names; what is not there is no value.
pub fn apply(actions: &[Action], context: &[Option<String>], list: &mut AttributeList) {
    for action in actions {
        match action {
            Action::Set { key, when, source, default } => set(key, *when, source, default.as_ref(), context, list),
            Action::Delete(keys) => each(keys, list, |list, place| list.remove(place)),
            Action::Hash(keys) => each(keys, list, |list, place| {
                let hashed = list.write_value(&Value::owned_text(hash(&list.value(place))));
                list.replace(place, hashed);
            }),
            Action::Extract(extraction) => extract(extraction, list),
            Action::Convert { key, target } => {
                let named = Keys { key: Some(key.clone()), pattern: None };
                each(&named, list, |list, place| convert(*target, place, list));
            }
        }
    }
}

fn set(
    key: &[u8],
    when: When,
    source: &Source,
    default: Option<&Value<'static>>,
    context: &[Option<String>],
    list: &mut AttributeList,
) {
    let is_present = list.find(key).is_some();
    let sets = match when {
        When::Absent => !is_present,
        When::Present => is_present,
        When::Always => true,
    };
    if sets && let Some(value) = value_of(source, default, context, list) {
        list.put(key, value);
    }
}

fn value_of(
    source: &Source,
    default: Option<&Value<'static>>,
    context: &[Option<String>],
    list: &mut AttributeList,
) -> Option<Written> {
    match source {
        Source::Value(value) => return Some(list.write_value(value)),
        Source::Attribute(key) => {
            if let Some(place) = list.find(key) {
                return Some(list.written(place));
            }
        }
        Source::Context(number) => {
            if let Some(Some(text)) = context.get(*number) {
                return Some(list.write_value(&Value::text(text)));
            }
        }
        Source::Nothing => {}
    }
    default.map(|value| list.write_value(value))
}

/// Does `change` at each place that the keys name: first those named, then those that match.
fn each(keys: &Keys, list: &mut AttributeList, mut change: impl FnMut(&mut AttributeList, usize)) {
    let tests = [keys.key.as_ref().map(|key| KeyTest::Named(key)), keys.pattern.as_ref().map(KeyTest::Matching)];
    for test in tests.into_iter().flatten() {
        for place in 0..list.places_end() {
            if list.is_there(place) && test.holds(list.key(place)) {
                change(list, place);
            }
        }
    }
}

enum KeyTest<'k> {
    Named(&'k [u8]),
    Matching(&'k Pattern),
}

impl KeyTest<'_> {
    fn holds(&self, key: &[u8]) -> bool {
        match self {
            Self::Named(name) => *name == key,
            Self::Matching(pattern) => pattern.is_found_in(key),
        }
    }
}

/// See [`Action::Hash`].
fn hash(value: &Value<'_>) -> String {
    let digest = match value {
        Value::Text(text) => Sha256::digest(text),
        Value::Bool(value) => Sha256::digest([u8::from(*value)]),
        Value::Int(value) => Sha256::digest(value.to_le_bytes()),
        Value::Double(value) => Sha256::digest(value.to_bits().to_le_bytes()),
        _ => return String::new(),
    };
    hex(&digest)
}

fn extract(extraction: &Extraction, list: &mut AttributeList) {
    let Some(place) = list.find(&extraction.key) else { return };
    let Value::Text(text) = list.value(place) else { return };
    // Every group may hold the whole text: what one attribute of a peer grows to is bounded.
    if text.len() > VALUE_BYTES_MAX {
        return;
    }
    let Some(found) = extraction.pattern.regex().captures(&text) else { return };
    // A group that took no part is the empty text.
    let group = |number| found.get(number).map_or(Vec::new(), |group| group.as_bytes().to_vec());
    let texts: Vec<Vec<u8>> = (1..=extraction.names.len()).map(group).collect();
    for (name, text) in extraction.names.iter().zip(texts) {
        let value = list.write_value(&Value::Text(Cow::Owned(text)));
        list.put(name, value);
    }
}

fn convert(target: Target, place: usize, list: &mut AttributeList) {
    let value = list.value(place);
    let converted = match target {
        Target::Int => to_int(&value).map(Value::Int),
        Target::Double => to_double(&value).map(Value::Double),
        Target::String => (!matches!(value, Value::Text(_)))
            .then(|| Value::Text(Cow::Owned(as_text(&value).into_owned())))
            .filter(|text| text.text_bytes() <= VALUE_BYTES_MAX),
    };
    if let Some(converted) = converted {
        let converted = list.write_value(&converted);
        list.replace(place, converted);
    }
}

/// `None` if it is an integer already, or cannot be read as one.
fn to_int(value: &Value<'_>) -> Option<i64> {
    match value {
        Value::Double(value) => Some(*value as i64),
        Value::Bool(value) => Some(i64::from(*value)),
        Value::Text(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    }
}

/// `None` if it is a float already, or cannot be read as one; nor what is too large for one.
fn to_double(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Int(value) => Some(*value as f64),
        Value::Bool(value) => Some(f64::from(u8::from(*value))),
        Value::Text(text) => {
            let text = std::str::from_utf8(text).ok()?;
            let number: f64 = text.parse().ok()?;
            let names_infinity = || text.trim_start_matches(['+', '-']).starts_with(['i', 'I']);
            (!number.is_infinite() || names_infinity()).then_some(number)
        }
        _ => None,
    }
}

/// A value as text, as the Collector's `AsString` has it.
pub(crate) fn as_text<'v>(value: &'v Value<'_>) -> Cow<'v, [u8]> {
    let json = |value: &Value<'_>| {
        let mut out = String::new();
        value.write_json(&mut out).map(|()| out)
    };
    let text = match value {
        Value::Text(text) => return Cow::Borrowed(text),
        Value::Nil => String::new(),
        Value::Bytes(bytes) => base64_padded(bytes),
        Value::Double(number) if !number.is_finite() => format!("json: unsupported value: {}", float_name(*number)),
        // A list or map with such a number inside has no text.
        other => json(other).unwrap_or_default(),
    };
    Cow::Owned(text.into_bytes())
}

/// How Go writes a float that is no finite number.
pub(crate) fn float_name(number: f64) -> &'static str {
    match number {
        f64::INFINITY => "+Inf",
        f64::NEG_INFINITY => "-Inf",
        _ => "NaN",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attributes::field;

    /// A span with `before` has `after` once `actions` ran.
    fn check(before: &[(&str, Value<'_>)], actions: &[Action], after: &[(&str, Value<'_>)]) {
        check_with(before, actions, &[], after);
    }

    fn check_with(
        before: &[(&str, Value<'_>)],
        actions: &[Action],
        context: &[Option<String>],
        after: &[(&str, Value<'_>)],
    ) {
        let mut list = AttributeList::default();
        list.begin(&[], field::SPAN);
        for (key, value) in before {
            let value = list.write_value(value);
            list.push(key.as_bytes(), value);
        }
        let mut message = Vec::new();
        list.write(&mut message);
        list.begin(&message, field::SPAN);
        apply(actions, context, &mut list);
        let mut out = Vec::new();
        list.write(&mut out);
        list.begin(&out, field::SPAN);
        let found: Vec<_> =
            list.places().map(|place| (std::str::from_utf8(list.key(place)).unwrap(), list.value(place))).collect();
        assert_eq!(found, after, "{actions:?}");
    }

    fn text(text: &str) -> Value<'_> {
        Value::text(text)
    }

    fn set(key: &str, when: When, source: Source) -> Action {
        Action::Set { key: key.into(), when, source, default: None }
    }

    fn key(key: &str) -> Keys {
        Keys { key: Some(key.into()), pattern: None }
    }

    fn matching(pattern: &str) -> Keys {
        Keys { key: None, pattern: Some(Pattern::new(pattern).unwrap()) }
    }

    fn value() -> Source {
        Source::Value(Value::text("new"))
    }

    #[test]
    fn insert_sets_what_is_absent_update_what_is_present_upsert_both() {
        let before = [("a", text("1"))];
        check(&before, &[set("a", When::Absent, value())], &before);
        check(&before, &[set("b", When::Absent, value())], &[("a", text("1")), ("b", text("new"))]);
        check(&before, &[set("a", When::Present, value())], &[("a", text("new"))]);
        check(&before, &[set("b", When::Present, value())], &before);
        check(&before, &[set("a", When::Always, value())], &[("a", text("new"))]);
        check(&before, &[set("b", When::Always, value())], &[("a", text("1")), ("b", text("new"))]);
    }

    #[test]
    fn values_keep_their_type() {
        for value in [
            Value::Int(0),
            Value::Double(0.0),
            Value::Bool(false),
            Value::List(vec![Value::Int(1), text("x")]),
            Value::Map(vec![(b"k"[..].into(), Value::Nil)]),
        ] {
            let source = Source::Value(value.clone().into_owned());
            check(&[], &[set("a", When::Always, source)], &[("a", value)]);
        }
    }

    #[test]
    fn a_value_comes_from_another_attribute_the_context_or_the_default() {
        let before = [("a", Value::Int(1))];
        let copy = |from: &str| Source::Attribute(from.into());
        check(&before, &[set("b", When::Always, copy("a"))], &[("a", Value::Int(1)), ("b", Value::Int(1))]);
        check(&before, &[set("a", When::Always, copy("missing"))], &before);
        let with_default =
            |source| Action::Set { key: "b".into(), when: When::Always, source, default: Some(Value::Bool(true)) };
        let after = [("a", Value::Int(1)), ("b", Value::Bool(true))];
        check(&before, &[with_default(copy("missing"))], &after);
        check(&before, &[with_default(Source::Nothing)], &after);
        check_with(&before, &[with_default(Source::Context(0))], &[None], &after);
        let tenant = [Some("acme".to_owned())];
        check_with(&[], &[with_default(Source::Context(0))], &tenant, &[("b", text("acme"))]);
        check_with(&[], &[set("b", When::Always, Source::Context(3))], &tenant, &[]);
    }

    #[test]
    fn actions_see_what_earlier_actions_did() {
        let copy = |from: &str| Source::Attribute(from.into());
        let actions = [
            set("b", When::Absent, copy("a")),
            Action::Delete(key("a")),
            set("c", When::Always, copy("b")),
            set("d", When::Always, copy("a")),
        ];
        check(&[("a", text("1"))], &actions, &[("b", text("1")), ("c", text("1"))]);
    }

    #[test]
    fn delete_removes_by_name_and_by_pattern() {
        let before = [("token", text("1")), ("b", text("2")), ("db.token.x", text("3")), ("b", text("4"))];
        check(&before, &[Action::Delete(matching("token"))], &[("b", text("2")), ("b", text("4"))]);
        check(&before, &[Action::Delete(key("b"))], &[("token", text("1")), ("db.token.x", text("3"))]);
        let both = Keys { key: Some("b".into()), ..matching("^token$") };
        check(&before, &[Action::Delete(both)], &[("db.token.x", text("3"))]);
    }

    #[test]
    fn hash_is_the_sha_256_of_the_bytes() {
        let cases = [
            (text("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (text(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (Value::Bool(true), "4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a"),
            (Value::Int(0), "af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc"),
            (Value::Double(0.0), "af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc"),
            (Value::List(vec![Value::Int(1)]), ""),
            (Value::Nil, ""),
        ];
        for (value, hashed) in cases {
            check(&[("user.id", value.clone())], &[Action::Hash(key("user.id"))], &[("user.id", text(hashed))]);
            check(&[("user.id", value)], &[Action::Hash(matching("^user"))], &[("user.id", text(hashed))]);
        }
    }

    #[test]
    fn extract_sets_one_attribute_per_group() {
        let extraction = |pattern| Action::Extract(Extraction::new("url", Pattern::new(pattern).unwrap()).unwrap());
        let action = extraction(r"^(?P<protocol>.*):\/\/(?P<domain>[^/?]*)(?:/(?P<path>\w+))?");
        let before = [("url", text("http://example.com")), ("domain", Value::Int(1))];
        let after = [
            ("url", text("http://example.com")),
            ("domain", text("example.com")),
            ("protocol", text("http")),
            ("path", text("")),
        ];
        check(&before, std::slice::from_ref(&action), &after);
        check(&[("url", text("nothing"))], std::slice::from_ref(&action), &[("url", text("nothing"))]);
        check(&[("url", Value::Int(7))], std::slice::from_ref(&action), &[("url", Value::Int(7))]);
        let long = "x://".to_owned() + &"y".repeat(VALUE_BYTES_MAX);
        check(&[("url", text(&long))], &[action], &[("url", text(&long))]);
        for (pattern, wrong) in [("a", "has no named group"), ("(?P<a>.)(.)", "has a group without a name")] {
            assert_eq!(Extraction::new("a", Pattern::new(pattern).unwrap()), Err(wrong));
        }
    }

    #[test]
    fn convert_gives_another_type_or_leaves_the_value() {
        use Target::{Double, Int, String};
        let map =
            || Value::Map(vec![(b"b"[..].into(), Value::Int(1)), (b"a"[..].into(), Value::List(vec![Value::Nil]))]);
        let cases = [
            (Int, text("12"), Value::Int(12)),
            (Int, text("+5"), Value::Int(5)),
            (Int, text("1.5"), text("1.5")),
            (Int, text(" 1"), text(" 1")),
            (Int, text("9223372036854775808"), text("9223372036854775808")),
            (Int, Value::Double(-2.9), Value::Int(-2)),
            (Int, Value::Bool(true), Value::Int(1)),
            (Int, map(), map()),
            (Double, text("1.5"), Value::Double(1.5)),
            (Double, text("1e999"), text("1e999")),
            (Double, text("-Inf"), Value::Double(f64::NEG_INFINITY)),
            (Double, Value::Int(3), Value::Double(3.0)),
            (Double, Value::Bool(false), Value::Double(0.0)),
            (String, Value::Int(-3), text("-3")),
            (String, Value::Double(1.5), text("1.5")),
            (String, Value::Double(1e21), text("1e+21")),
            (String, Value::Double(f64::INFINITY), text("json: unsupported value: +Inf")),
            (String, Value::Bool(true), text("true")),
            (String, Value::Bytes(b"ab"[..].into()), text("YWI=")),
            (String, map(), text(r#"{"a":[null],"b":1}"#)),
            (String, Value::Nil, text("")),
            (String, text("x"), text("x")),
        ];
        for (target, before, after) in cases {
            let action = Action::Convert { key: "k".into(), target };
            check(&[("k", before)], &[action], &[("k", after)]);
        }
    }
}
