//! Queries that are JSON: keys stay, each value becomes `"?"`.

/// `None` if it is no JSON.
pub(super) fn cleaned(text: &[u8]) -> Option<Vec<u8>> {
    // What follows need not expect anything else then.
    serde_json::from_slice::<serde::de::IgnoredAny>(text).ok()?;
    let mut out = Vec::with_capacity(text.len());
    // Whether each container around is an object, and whether what comes is a key.
    let mut objects = Vec::new();
    let mut is_key = false;
    let mut rest = text;
    while let Some(byte) = rest.first() {
        let length = match byte {
            b'"' => quoted_length(rest),
            b'{' | b'}' | b'[' | b']' | b',' | b':' => 1,
            byte if byte.is_ascii_whitespace() => 1,
            _ => rest.iter().position(|byte| b",]} \t\r\n".contains(byte)).unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at(length.clamp(1, rest.len()));
        rest = after;
        match byte {
            b'{' | b'[' => objects.push(*byte == b'{'),
            b'}' | b']' => drop(objects.pop()),
            _ => {}
        }
        match byte {
            b'"' if is_key => out.extend_from_slice(token),
            b'{' | b'}' | b'[' | b']' | b',' | b':' => out.push(*byte),
            byte if byte.is_ascii_whitespace() => {}
            _ => out.extend_from_slice(b"\"?\""),
        }
        is_key = match byte {
            b'{' => true,
            b',' => objects.last() == Some(&true),
            byte if byte.is_ascii_whitespace() => is_key,
            _ => false,
        };
    }
    Some(out)
}

/// Bytes of the string that `text` begins with.
fn quoted_length(text: &[u8]) -> usize {
    let mut is_escaped = true;
    for (place, byte) in text.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return place + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_and_values_go() {
        let cases = [
            (
                r#"{"find": "users", "filter": {"name": "a\"}nn", "age": [1, 2, {"x": null}], "e": [], "o": {}}, "n": 1.5}"#,
                Some(r#"{"find":"?","filter":{"name":"?","age":["?","?",{"x":"?"}],"e":[],"o":{}},"n":"?"}"#),
            ),
            ("[1,-2e5]", Some(r#"["?","?"]"#)),
            (r#"["a", "b"]"#, Some(r#"["?","?"]"#)),
            ("\"x\"", Some("\"?\"")),
            ("{\"a\\\\\":true}", Some("{\"a\\\\\":\"?\"}")),
            ("not json", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let found = cleaned(text.as_bytes());
            assert_eq!(found.as_deref().map(String::from_utf8_lossy).as_deref(), expected, "{text}");
        }
        assert_eq!(cleaned("[".repeat(10_000).as_bytes()), None);
    }
}
