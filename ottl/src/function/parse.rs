//! Converters that take text apart, and put maps together as text.

use std::borrow::Cow;

use super::{Arguments, Function, Kind, converter, letters, needed, optional};
use crate::fault::Fault;
use crate::value::{Entries, Value, entry, put};

pub(super) const TABLE: &[Function] = &[
    converter("ExtractPatterns", &[needed("target", Kind::Text), needed("pattern", Kind::Pattern)], extract_patterns),
    converter("ParseJSON", &[needed("target", Kind::Text)], parse_json),
    converter(
        "ParseKeyValue",
        &[
            needed("target", Kind::Text),
            optional("delimiter", Kind::TextLiteral),
            optional("pair_delimiter", Kind::TextLiteral),
        ],
        parse_key_value,
    ),
    converter(
        "SliceToMap",
        &[
            needed("target", Kind::List),
            optional("key_path", Kind::TextListLiteral),
            optional("value_path", Kind::TextListLiteral),
        ],
        slice_to_map,
    ),
    converter(
        "ToKeyValueString",
        &[
            needed("target", Kind::Map),
            optional("delimiter", Kind::TextLiteral),
            optional("pair_delimiter", Kind::TextLiteral),
            optional("sort_output", Kind::BoolLiteral),
        ],
        to_key_value_string,
    ),
    converter("URL", &[needed("uri", Kind::Text)], url),
];

fn named<'v>(key: impl Into<String>, value: Value<'v>) -> (Cow<'v, [u8]>, Value<'v>) {
    (Cow::Owned(key.into().into_bytes()), value)
}

/// No match is an empty map; a group that took no part is empty text.
fn extract_patterns<'v>(arguments: &mut Arguments<'v>) -> Result<Value<'v>, Fault> {
    let pattern = arguments.pattern(1)?;
    if pattern.capture_names().flatten().next().is_none() {
        return Err(Fault::invalid("the pattern has no named group"));
    }
    let text = arguments.text(0);
    let Some(captures) = pattern.captures(&text) else {
        return Ok(Value::Map(Vec::new()));
    };
    let groups = pattern.capture_names().flatten().map(|name| {
        let found = captures.name(name).map_or(Vec::new(), |found| found.as_bytes().to_vec());
        named(name, Value::Text(Cow::Owned(found)))
    });
    Ok(Value::Map(groups.collect()))
}

/// Lists and maps only; numbers become floats.
fn parse_json<'v>(arguments: &mut Arguments<'v>) -> Result<Value<'v>, Fault> {
    match serde_json::from_slice(&arguments.text(0)) {
        Ok(value @ (serde_json::Value::Array(_) | serde_json::Value::Object(_))) => Ok(from_json(value)),
        Ok(_) => Err(Fault::invalid("expected a JSON list or object, found another value")),
        Err(error) => Err(Fault::invalid(format!("the string is not JSON: {error}"))),
    }
}

/// The parser bounds the depth.
fn from_json(value: serde_json::Value) -> Value<'static> {
    match value {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(value) => Value::Bool(value),
        serde_json::Value::Number(number) => Value::Double(number.as_f64().unwrap_or(0.0)),
        serde_json::Value::String(text) => Value::owned_text(text),
        serde_json::Value::Array(items) => Value::List(items.into_iter().map(from_json).collect()),
        serde_json::Value::Object(entries) => {
            Value::Map(entries.into_iter().map(|(key, value)| named(key, from_json(value))).collect())
        }
    }
}

/// The two delimiters of a key-value text, both given or the usual ones.
fn delimiters(arguments: &mut Arguments<'_>) -> Result<(String, String), Fault> {
    let between = arguments.optional_text(1).map_or("=".to_owned(), |text| letters(text).into_owned());
    let pairs = arguments.optional_text(2).map_or(" ".to_owned(), |text| letters(text).into_owned());
    if between.is_empty() || pairs.is_empty() || between == pairs {
        return Err(Fault::invalid("the delimiters must be two different strings that are not empty"));
    }
    Ok((between, pairs))
}

fn parse_key_value<'v>(arguments: &mut Arguments<'v>) -> Result<Value<'v>, Fault> {
    let (between, pairs) = delimiters(arguments)?;
    let text = arguments.letters(0);
    if text.is_empty() {
        return Err(Fault::invalid("expected pairs of keys and values, found an empty string"));
    }
    let mut entries: Entries<'v> = Vec::new();
    for pair in split_quoted(&text, &pairs)? {
        let (key, value) = pair.split_once(&between).ok_or(Fault::invalid("a pair has no delimiter"))?;
        put(&mut entries, Cow::Owned(key.trim().as_bytes().to_vec()), Value::owned_text(value.trim().to_owned()));
    }
    Ok(Value::Map(entries))
}

/// Splits where `delimiter` stands outside quotes; quotes go, a backslash keeps the letter behind it from ending one, and
/// empty parts are left out.
fn split_quoted(text: &str, delimiter: &str) -> Result<Vec<String>, Fault> {
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut quote = None;
    let mut is_escaped = false;
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        if let (None, Some(after)) = (quote, rest.strip_prefix(delimiter)) {
            if !part.is_empty() {
                parts.push(std::mem::take(&mut part));
            }
            rest = after;
            continue;
        }
        rest = &rest[letter.len_utf8()..];
        if !is_escaped {
            if quote.is_none() && matches!(letter, '"' | '\'') {
                quote = Some(letter);
                continue;
            }
            if quote == Some(letter) {
                quote = None;
                continue;
            }
        }
        is_escaped = !is_escaped && letter == '\\';
        part.push(letter);
    }
    if quote.is_some() {
        return Err(Fault::invalid("a quote is not closed"));
    }
    if !part.is_empty() {
        parts.push(part);
    }
    Ok(parts)
}

fn to_key_value_string<'v>(arguments: &mut Arguments<'v>) -> Result<Value<'v>, Fault> {
    let (between, pairs) = delimiters(arguments)?;
    let Value::Map(mut entries) = arguments.value(0) else {
        return Err(Fault::Nil);
    };
    if arguments.flag(3, false) {
        entries.sort_by(|left, right| left.0.cmp(&right.0));
    }
    let quoted = |text: Cow<'_, str>| {
        let text = text.replace('"', "\\\"");
        if text.contains(&pairs) || text.contains(&between) { format!("\"{text}\"") } else { text }
    };
    let mut out = String::new();
    for (index, (key, value)) in entries.into_iter().enumerate() {
        let value = match value {
            // An attribute's bytes are base64 as text.
            Value::Bytes(bytes) => crate::value::base64_padded(&bytes),
            other => match other.into_text_like()? {
                Value::Text(text) => letters(text).into_owned(),
                _ => String::new(),
            },
        };
        out.push_str(if index > 0 { &pairs } else { "" });
        out.push_str(&quoted(letters(key)));
        out.push_str(&between);
        out.push_str(&quoted(Cow::Owned(value)));
    }
    Ok(Value::owned_text(out))
}

/// Each element under the text at its `key_path` (or its index), whole or what is at `value_path`.
fn slice_to_map<'v>(arguments: &mut Arguments<'v>) -> Result<Value<'v>, Fault> {
    let (key_path, value_path) = (arguments.list(1), arguments.list(2));
    let mut entries: Entries<'v> = Vec::new();
    for (index, item) in arguments.list(0).into_iter().enumerate() {
        let key = if key_path.is_empty() {
            Cow::Owned(index.to_string().into_bytes())
        } else {
            match follow(&item, &key_path) {
                Some(Value::Text(key)) => Cow::Owned(key.to_vec()),
                _ => return Err(Fault::invalid("an element has no string at key_path")),
            }
        };
        let value = if value_path.is_empty() {
            item
        } else {
            follow(&item, &value_path).cloned().ok_or(Fault::invalid("an element has no value at value_path"))?
        };
        put(&mut entries, key, value);
    }
    Ok(Value::Map(entries))
}

fn follow<'e, 'v>(item: &'e Value<'v>, path: &[Value<'_>]) -> Option<&'e Value<'v>> {
    path.iter().try_fold(item, |item, key| match (item, key) {
        (Value::Map(entries), Value::Text(key)) => entry(entries, key),
        _ => None,
    })
}

/// The parts of a URL under the names of the semantic conventions (`url.scheme`, `url.domain`, ...).
fn url<'v>(arguments: &mut Arguments<'v>) -> Result<Value<'v>, Fault> {
    let text = arguments.letters(0).into_owned();
    let wrong = || Fault::invalid("the string is no URL");
    if text.is_empty() || text.contains(|letter: char| letter.is_ascii_control() || letter == ' ') {
        return Err(wrong());
    }
    let (rest, fragment) = text.split_once('#').unwrap_or((&text, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (scheme, rest) = match rest.split_once(':') {
        Some((scheme, after)) if is_scheme(scheme) => (scheme.to_ascii_lowercase(), after),
        _ => (String::new(), rest),
    };
    let (authority, path) = match rest.strip_prefix("//") {
        Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        None => ("", rest),
    };
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    let (domain, port) = split_port(host).ok_or_else(wrong)?;
    let path = percent_decoded(path).ok_or_else(wrong)?;
    let text_entry = |key: &str, value: &str| named(key, Value::owned_text(value));
    let mut entries = vec![
        text_entry("url.original", &text),
        text_entry("url.domain", domain),
        text_entry("url.scheme", &scheme),
        text_entry("url.path", &path),
    ];
    if !port.is_empty() {
        entries.push(named("url.port", Value::Int(port.parse::<u16>().map_err(|_| wrong())?.into())));
    }
    if !fragment.is_empty() {
        entries.push(text_entry("url.fragment", &percent_decoded(fragment).ok_or_else(wrong)?));
    }
    if let Some(user) = user {
        let (name, password) = user.split_once(':').map_or((user, None), |(name, password)| (name, Some(password)));
        entries.push(text_entry("url.user_info", user));
        if !name.is_empty() {
            entries.push(text_entry("url.username", &percent_decoded(name).ok_or_else(wrong)?));
        }
        if let Some(password) = password {
            entries.push(text_entry("url.password", &percent_decoded(password).ok_or_else(wrong)?));
        }
    }
    if !query.is_empty() {
        entries.push(text_entry("url.query", query));
    }
    if let Some((_, extension)) = path.rsplit_once('.').filter(|(_, extension)| !extension.is_empty()) {
        entries.push(text_entry("url.extension", extension));
    }
    Ok(Value::Map(entries))
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '+' | '-' | '.'))
}

/// Host and port of `host:port`; an IPv6 address stands in brackets, which go.
fn split_port(host: &str) -> Option<(&str, &str)> {
    if let Some(rest) = host.strip_prefix('[') {
        let (address, after) = rest.split_once(']')?;
        return if after.is_empty() { Some((address, "")) } else { Some((address, after.strip_prefix(':')?)) };
    }
    let (name, port) = host.split_once(':').unwrap_or((host, ""));
    port.bytes().all(|byte| byte.is_ascii_digit()).then_some((name, port))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        match rest {
            [] => break,
            [b'%', high, low, after @ ..] => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                out.push((digit(*high)? << 4 | digit(*low)?) as u8);
                rest = after;
            }
            [b'%', ..] => return None,
            [byte, after @ ..] => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}
