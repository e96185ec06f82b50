//! A tree -> YAML text that reads back as the same tree, and the list of keys whose values nobody should see.
//!
//! The idea: text is written plain only if it would be read back as that text; otherwise it is quoted. Dollar signs that
//! would be expanded again are doubled. This file never looks at what a key means, except whether it is a secret.

use super::expand;
use super::scalar::{self, Meaning};
use super::yaml::{Entry, Node, Scalar, Value};

/// What stands in for a secret; the Collector writes the same.
const REDACTED: &str = "[REDACTED]";

/// Keys whose value is a secret wherever they stand.
const SECRET_KEYS: [&str; 16] = [
    "access_key",
    "api_key",
    "apikey",
    "authorization",
    "bearer_token",
    "client_secret",
    "hmac_key",
    "key_pem",
    "password",
    "private_key",
    "sas_token",
    "secret",
    "secret_access_key",
    "secret_key",
    "session_token",
    "token",
];
/// Keys under which every value is a secret: a header may carry a token.
const SECRET_MAPS: [&str; 5] = ["headers", "response_headers", "params", "htpasswd", "tokens"];
/// Keys of the maps in a list of headers that say which header is meant, not what is in it.
const NAMES: [&str; 5] = ["name", "key", "action", "from_context", "from_attribute"];

/// Whether the value of `key` is a secret.
pub(crate) fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    SECRET_KEYS.contains(&key.as_str()) || key.ends_with("_password") || key.ends_with("_secret")
}

/// Whether every value below `key` is a secret.
pub(crate) fn is_secret_map(key: &str) -> bool {
    SECRET_MAPS.contains(&key)
}

/// What a dollar sign in the text of a tree means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dollars {
    /// The tree is expanded: a dollar sign is one, and is doubled where it would be expanded again.
    Doubled,
    /// The tree is as written: references are printed as they are, and one that stands for a whole secret hides nothing.
    AsWritten,
}

/// Replaces every secret of an expanded tree.
pub(crate) fn redact(node: &mut Node) {
    redact_with(node, Dollars::Doubled);
}

/// Replaces every secret of a tree.
pub(crate) fn redact_with(node: &mut Node, dollars: Dollars) {
    match &mut node.value {
        Value::Scalar(scalar) => {
            if let Some(redacted) = without_user(&scalar.text) {
                *scalar = text(redacted);
            }
        }
        Value::List(items) => items.iter_mut().for_each(|item| redact_with(item, dollars)),
        Value::Map(entries) => {
            for Entry { key, node, .. } in entries {
                if is_secret_map(key) {
                    hide_values(node, false, dollars);
                } else if is_secret_key(key) {
                    hide(node, dollars);
                } else {
                    redact_with(node, dollars);
                }
            }
        }
    }
}

/// Every value of a tree that is a secret and stands in the text itself, not in a variable.
pub(crate) fn secrets<'n>(node: &'n Node, found: &mut Vec<&'n Node>) {
    match &node.value {
        Value::Scalar(scalar) => found.extend(without_user(&scalar.text).map(|_| node)),
        Value::List(items) => items.iter().for_each(|item| secrets(item, found)),
        Value::Map(entries) => {
            for Entry { key, node, .. } in entries {
                match is_secret_map(key) || is_secret_key(key) {
                    true => values(node, false, found),
                    false => secrets(node, found),
                }
            }
        }
    }
}

/// Every scalar that [`hide_values`] would hide.
fn values<'n>(node: &'n Node, in_list: bool, found: &mut Vec<&'n Node>) {
    match &node.value {
        Value::Scalar(_) if node.expanded.is_some() => {}
        Value::Scalar(_) => found.push(node),
        Value::List(items) => items.iter().for_each(|item| values(item, true, found)),
        Value::Map(entries) => {
            let shown = |key: &str| in_list && NAMES.contains(&key);
            entries.iter().filter(|entry| !shown(&entry.key)).for_each(|entry| values(&entry.node, false, found));
        }
    }
}

/// Hides every scalar, except the names in a list of `{name, value}`.
fn hide_values(node: &mut Node, in_list: bool, dollars: Dollars) {
    match &mut node.value {
        Value::Scalar(_) => hide(node, dollars),
        Value::List(items) => items.iter_mut().for_each(|item| hide_values(item, true, dollars)),
        Value::Map(entries) => {
            for Entry { key, node, .. } in entries {
                if !(in_list && NAMES.contains(&key.as_str())) {
                    hide_values(node, false, dollars);
                }
            }
        }
    }
}

fn hide(node: &mut Node, dollars: Dollars) {
    let refers = dollars == Dollars::AsWritten && is_reference(node);
    if !node.is_null() && !refers {
        node.value = Value::Scalar(text(REDACTED.to_owned()));
    }
}

/// Whether a scalar is nothing but a reference, perhaps behind the scheme of an `Authorization` header.
fn is_reference(node: &Node) -> bool {
    let Value::Scalar(Scalar { text, .. }) = &node.value else {
        return false;
    };
    let credential = ["Bearer ", "Basic "].into_iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(text);
    // A default in it would be the secret itself.
    expand::is_reference(credential) && !credential.contains(":-")
}

fn text(text: String) -> Scalar {
    Scalar { text, plain: false }
}

/// A URL without the user and password in it; `None` if it has none.
fn without_user(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let at = rest[..authority_end].rfind('@')?;
    Some(format!("{scheme}://{REDACTED}{}", &rest[at..]))
}

/// An expanded tree as YAML.
pub(crate) fn yaml(node: &Node) -> String {
    yaml_with(node, Dollars::Doubled)
}

/// A tree as YAML.
pub(crate) fn yaml_with(node: &Node, dollars: Dollars) -> String {
    let mut out = Out { text: String::new(), dollars };
    match &node.value {
        Value::Map(entries) if !entries.is_empty() => map(entries, 0, &mut out),
        Value::List(items) if !items.is_empty() => list(items, 0, &mut out),
        _ => {
            out.text.push_str(&inline(node, dollars));
            out.text.push('\n');
        }
    }
    out.text
}

/// What is being written.
struct Out {
    text: String,
    dollars: Dollars,
}

fn map(entries: &[Entry], indent: usize, out: &mut Out) {
    for entry in entries {
        out.text.push_str(&" ".repeat(indent));
        out.text.push_str(&quoted_if_needed(&entry.key));
        out.text.push(':');
        value(&entry.node, indent + 2, out);
    }
}

fn list(items: &[Node], indent: usize, out: &mut Out) {
    for item in items {
        out.text.push_str(&" ".repeat(indent));
        out.text.push('-');
        match &item.value {
            // The first entry of a map stands on the line of the dash.
            Value::Map(entries) if !entries.is_empty() => {
                let mut inner = Out { text: String::new(), dollars: out.dollars };
                map(entries, indent + 2, &mut inner);
                out.text.push(' ');
                out.text.push_str(&inner.text[indent + 2..]);
            }
            _ => value(item, indent + 2, out),
        }
    }
}

/// What follows a key or a dash, with the end of the line.
fn value(node: &Node, indent: usize, out: &mut Out) {
    match &node.value {
        Value::Map(entries) if !entries.is_empty() => {
            out.text.push('\n');
            map(entries, indent, out);
        }
        Value::List(items) if !items.is_empty() => {
            out.text.push('\n');
            list(items, indent, out);
        }
        _ => {
            out.text.push(' ');
            out.text.push_str(&inline(node, out.dollars));
            out.text.push('\n');
        }
    }
}

fn inline(node: &Node, dollars: Dollars) -> String {
    match &node.value {
        Value::Map(_) => "{}".to_owned(),
        Value::List(_) => "[]".to_owned(),
        Value::Scalar(scalar) => match scalar.meaning() {
            Meaning::Null => "null".to_owned(),
            Meaning::Text(text) if dollars == Dollars::Doubled => quoted_if_needed(&escape_dollars(text)),
            Meaning::Text(text) => quoted_if_needed(text),
            _ => scalar.text.clone(),
        },
    }
}

fn escape_dollars(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        escaped.push(character);
        // A dollar at the end is doubled too: nothing is known of what may be appended by a merge, and it is harmless.
        if character == '$' && characters.peek().is_none_or(|next| "{$".contains(*next)) {
            escaped.push('$');
        }
    }
    escaped
}

/// Text as a plain scalar where that reads back as the same text, else in double quotes.
fn quoted_if_needed(text: &str) -> String {
    let safe_character = |character: char| character.is_alphanumeric() || "-_./:=+%*@$(),".contains(character);
    let safe = matches!(scalar::meaning(text), Meaning::Text(_))
        && text != "<<"
        && text.starts_with(|first: char| first.is_alphanumeric() || first == '/')
        && text.chars().all(safe_character)
        && !text.ends_with(':')
        // Inside brackets a comma would end the value; nothing is printed in brackets, but people copy lines.
        && !text.contains(',');
    if safe {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            character if character.is_control() || "\u{feff}\u{2028}\u{2029}".contains(character) => {
                quoted.push_str(&format!("\\U{:08X}", u32::from(character)));
            }
            character => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::config::diagnostic::{Place, Report, SourceText};
    use crate::config::{expand, yaml as reader};

    fn read(text: &str) -> Node {
        let source = Arc::new(SourceText { name: "f.yaml".into(), text: text.into(), order: 0 });
        let report = Report::default();
        let node = reader::parse(&source, 0, &report);
        let (diagnostics, _) = report.finish();
        assert_eq!(diagnostics, [], "{text}");
        node.unwrap()
    }

    #[test]
    fn secrets_are_hidden_and_nothing_else() {
        let mut node = read(
            "exporters:\n  otlp:\n    headers: {authorization: Bearer x, x-team: [a]}\n    tls: {key_pem: p, key_file: f}\n\
             e:\n  headers:\n    - {name: n, value: v}\n  endpoint: http://me:pw@host/x@y\n  password:\n  key: k\n",
        );
        redact(&mut node);
        let printed = yaml(&node);
        for gone in ["Bearer", "[a]", ": p\n", "me:pw", ": v\n"] {
            assert!(!printed.contains(gone), "{gone} in\n{printed}");
        }
        for kept in ["key_file: f", "name: n", "key: k", "@host/x@y", "password: null", "x-team:"] {
            assert!(printed.contains(kept), "{kept} not in\n{printed}");
        }
    }

    #[test]
    fn what_is_printed_reads_back_as_the_same() {
        let text = "a: 0123\nb: \"0123\"\nc: [x, {d: 1, e: [2, [3]]}, []]\nf: {}\ng:\nh: 'yes'\ni: \"true\"\n\
                    \"<<\": \"a: b\"\n\"-\": \"#\"\n\"\": \"\"\nj: \"\\t\\0\\x7f\\u2028\"\n";
        let first = yaml(&read(text));
        assert_eq!(yaml(&read(&first)), first);
        assert!(first.contains("a: 0123\nb: \"0123\"\n"), "{first}");
    }

    proptest! {
        #[test]
        fn any_text_survives_printing_reading_and_expanding(written in "\\PC{0,12}|[\\x00-\\x7f]{0,12}|[$\\{\\}a]{0,6}") {
            let source = Arc::new(SourceText { name: String::new(), text: String::new(), order: 0 });
            let node = Node {
                value: Value::Scalar(text(written.clone())),
                place: Place::new(&source, 0..0),
                expanded: None,
            };
            let place = Place::new(&source, 0..0);
            let tree = Node {
                value: Value::Map(vec![Entry { key: "k".into(), place: place.clone(), node }]),
                place,
                expanded: None,
            };
            let mut again = read(&yaml(&tree));
            expand::expand(&mut again, &|_| None, &Report::default());
            let Some(Value::Scalar(scalar)) = again.at("k").map(|node| &node.value) else { panic!() };
            prop_assert_eq!(scalar.meaning(), Meaning::Text(&written));
        }
    }
}
