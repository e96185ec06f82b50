//! Commands of key-value stores: the command stays, what it is told goes.

/// `SET key value` becomes `SET ?`; of `CONFIG` and what is to be done with it too.
pub(super) fn without_arguments(text: &[u8]) -> Vec<u8> {
    let mut words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let Some(command) = words.next() else { return Vec::new() };
    let mut out = command.to_vec();
    let Some(first) = words.next() else { return out };
    let is_verb = |verb: &[u8]| first.eq_ignore_ascii_case(verb);
    if command.eq_ignore_ascii_case(b"CONFIG")
        && [&b"GET"[..], b"SET", b"RESETSTAT", b"REWRITE"].into_iter().any(is_verb)
    {
        out.push(b' ');
        out.extend_from_slice(first);
        if words.next().is_none() {
            return out;
        }
    }
    out.extend_from_slice(b" ?");
    out
}

/// What is stored stands on the lines behind the command.
pub(super) fn first_line(text: &[u8]) -> Vec<u8> {
    let line = text.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    line.trim_ascii().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_and_stored_values_go() {
        let redis = [
            ("SET key value", "SET ?"),
            ("  get\nset b 2", "get ?"),
            ("PING", "PING"),
            ("AUTH secret", "AUTH ?"),
            ("CONFIG SET maxmemory 1", "CONFIG SET ?"),
            ("CONFIG REWRITE", "CONFIG REWRITE"),
            ("config secret", "config ?"),
            (" ", ""),
        ];
        for (text, expected) in redis {
            assert_eq!(String::from_utf8_lossy(&without_arguments(text.as_bytes())), expected, "{text}");
        }
        assert_eq!(first_line(b"set key 0 0 5\r\nvalue\r\n"), b"set key 0 0 5");
        assert_eq!(first_line(b"set key 0 0 5 \nvalue"), b"set key 0 0 5");
        assert_eq!(first_line(b"get key "), b"get key");
    }
}
