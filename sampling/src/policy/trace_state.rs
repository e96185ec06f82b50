//! The members of a W3C trace state (Trace Context, section 3.3), read strictly: one malformed member makes the whole
//! text nobody's, as it does for the Collector.

/// Most members of a list (Trace Context, section 3.3.1.1).
pub(crate) const MEMBERS_MAX: usize = 32;
const KEY_BYTES_MAX: usize = 256;
pub(crate) const VALUE_BYTES_MAX: usize = 256;
const TENANT_BYTES_MAX: usize = 241;
const SYSTEM_BYTES_MAX: usize = 14;

/// Key and value.
pub(crate) type Member<'a> = (&'a [u8], &'a [u8]);

/// The list members of a trace state, in order; `None` if it is malformed.
pub(super) fn members(text: &[u8]) -> Option<Vec<Member<'_>>> {
    let mut members: Vec<Member<'_>> = Vec::new();
    for part in text.split(|byte| *byte == b',').filter(|part| !part.is_empty()) {
        let (key, value) = member(part)?;
        let is_new = members.iter().all(|(known, _)| *known != key);
        if !is_new || members.len() == MEMBERS_MAX {
            return None;
        }
        members.push((key, value));
    }
    Some(members)
}

/// One list member; `None` if it is malformed.
pub(crate) fn member(part: &[u8]) -> Option<Member<'_>> {
    let equals = part.iter().position(|byte| *byte == b'=')?;
    let key = trim_start(&part[..equals]);
    let value = trim_end(&part[equals + 1..]);
    (is_key(key) && is_value(value)).then_some((key, value))
}

fn trim_start(text: &[u8]) -> &[u8] {
    let spaces = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    &text[spaces..]
}

fn trim_end(text: &[u8]) -> &[u8] {
    let spaces = text.iter().rev().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    &text[..text.len() - spaces]
}

/// `key`, or `tenant@system`.
fn is_key(key: &[u8]) -> bool {
    match key.iter().position(|byte| *byte == b'@') {
        None => is_name(key, KEY_BYTES_MAX) && key[0].is_ascii_lowercase(),
        Some(at) => {
            let (tenant, system) = (&key[..at], &key[at + 1..]);
            is_name(tenant, TENANT_BYTES_MAX) && is_name(system, SYSTEM_BYTES_MAX) && system[0].is_ascii_lowercase()
        }
    }
}

/// Lower case letters, digits and `_-*/`, a letter or digit first.
fn is_name(name: &[u8], bytes_max: usize) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.first().is_some_and(is_plain)
        && name.len() <= bytes_max
        && name.iter().all(|byte| is_plain(byte) || b"_-*/".contains(byte))
}

/// Printable ASCII without `,` and `=`. That it does not end with a space was seen to by trimming.
fn is_value(value: &[u8]) -> bool {
    !value.is_empty()
        && value.len() <= VALUE_BYTES_MAX
        && value.iter().all(|byte| matches!(byte, b' '..=b'~') && !b",=".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&[(&str, &str)]>) {
        let found = members(text.as_bytes());
        let expected = expected.map(|all| all.iter().map(|(key, value)| (key.as_bytes(), value.as_bytes())).collect());
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn well_formed_lists_are_taken_apart() {
        check("", Some(&[]));
        check("a=1", Some(&[("a", "1")]));
        check("a=1,,b=2 3 , \tc*/_-9=x", Some(&[("a", "1"), ("b", "2 3"), ("c*/_-9", "x")]));
        check("0tenant@sys=v", Some(&[("0tenant@sys", "v")]));
    }

    #[test]
    fn one_malformed_member_spoils_the_list() {
        for text in
            ["a", "a=", "=1", "A=1", "0a=1", "a=1,a=2", "a=1,b", "a=b=c", "a@=1", "@a=1", "a@0=1", "a=\u{7f}", "a =1"]
        {
            check(text, None);
        }
        let many: Vec<String> = (0..33).map(|n| format!("k{n}=v")).collect();
        assert_eq!(members(many[..32].join(",").as_bytes()).map(|members| members.len()), Some(32));
        check(&many.join(","), None);
        check(&format!("{}=v", "k".repeat(257)), None);
        check(&format!("k={}", "v".repeat(257)), None);
    }
}
