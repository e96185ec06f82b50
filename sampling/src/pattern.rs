//! Regular expressions of a configuration, as the Collector's language reads them, searched in time linear in the text.
//!
//! The Collector is written in Go and its patterns follow RE2; `regex` follows RE2 too, with a few differences that would
//! change what is kept. `translate` writes them out: `\d`, `\w`, `\s` and `\b` are ASCII, `\Q..\E` quotes, a brace that
//! is no repetition and `[`, `&`, `~` in a class stand for themselves.

use std::borrow::Cow;

use regex::bytes::{Regex, RegexBuilder};

/// Longest pattern, in bytes.
pub const PATTERN_BYTES_MAX: usize = 4096;
/// Memory of one compiled pattern, and again of its search, per sampler.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// A pattern that can be searched. Holding one proves that it compiles within its memory.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    regex: Regex,
}

/// Why a text is no pattern, in words that follow "the pattern".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PatternError {
    /// It has more than [`PATTERN_BYTES_MAX`] bytes.
    TooLong,
    /// It would need too much memory.
    TooLarge,
    /// It is not well-formed: what is wrong with it.
    Syntax(String),
}

impl std::fmt::Display for PatternError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLong => write!(f, "has more than {PATTERN_BYTES_MAX} bytes"),
            Self::TooLarge => write!(f, "needs more than {COMPILED_BYTES_MAX} bytes when it is compiled"),
            Self::Syntax(what) => write!(f, "is not well-formed: {what}"),
        }
    }
}

impl std::error::Error for PatternError {}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// It is too long, too large, or not well-formed.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err(PatternError::TooLong);
        }
        let regex = RegexBuilder::new(&translate(text))
            .size_limit(COMPILED_BYTES_MAX)
            .dfa_size_limit(COMPILED_BYTES_MAX)
            .build()
            .map_err(|error| match error {
                regex::Error::CompiledTooBig(_) => PatternError::TooLarge,
                other => PatternError::Syntax(last_line(&other.to_string())),
            })?;
        Ok(Self { text: text.to_owned(), regex })
    }

    /// Whether it is found anywhere in `text`.
    #[inline]
    pub(crate) fn is_found_in(&self, text: &[u8]) -> bool {
        self.regex.is_match(text)
    }
}

/// Equal texts compile to the same.
impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// The library shows the pattern with a mark below and then says what is wrong. We have translated the pattern, so only
/// the last is of use.
fn last_line(message: &str) -> String {
    let line = message.lines().last().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// The same pattern in the syntax of `regex`. What is malformed stays so.
fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut rest = pattern;
    let mut in_class = false;
    while let Some(first) = rest.chars().next() {
        let (one, behind_one) = rest.split_at(first.len_utf8());
        let (piece, behind) = match first {
            '\\' => escape(rest, in_class),
            '[' if !in_class => {
                in_class = true;
                // A bracket that closes at once stands for itself.
                let opening = ["[^]", "[]", "[^"].into_iter().find(|opening| rest.starts_with(opening));
                let opening = opening.unwrap_or(one);
                (opening.into(), &rest[opening.len()..])
            }
            '[' => match named_class(rest) {
                Some(name) => (name.into(), &rest[name.len()..]),
                None => ("\\[".into(), behind_one),
            },
            ']' if in_class => {
                in_class = false;
                (one.into(), behind_one)
            }
            '&' if in_class => ("\\&".into(), behind_one),
            '~' if in_class => ("\\~".into(), behind_one),
            '{' if !in_class && !is_repetition(rest) => ("\\{".into(), behind_one),
            _ => (one.into(), behind_one),
        };
        out.push_str(&piece);
        rest = behind;
    }
    out
}

/// What the escape at the start of `rest` becomes, and what is behind it.
fn escape(rest: &str, in_class: bool) -> (Cow<'_, str>, &str) {
    let Some(escaped) = rest[1..].chars().next() else {
        return (rest.into(), "");
    };
    let (whole, behind) = rest.split_at(1 + escaped.len_utf8());
    let piece = match escaped {
        'd' => "[0-9]",
        'D' => "[^0-9]",
        'w' => "[0-9A-Za-z_]",
        'W' => "[^0-9A-Za-z_]",
        's' => "[\\t\\n\\f\\r ]",
        'S' => "[^\\t\\n\\f\\r ]",
        'b' if !in_class => "(?-u:\\b)",
        'B' if !in_class => "(?-u:\\B)",
        'Q' if !in_class => {
            let (quoted, behind) = behind.split_once("\\E").unwrap_or((behind, ""));
            return (regex::escape(quoted).into(), behind);
        }
        _ => whole,
    };
    (piece.into(), behind)
}

/// `[:name:]` inside a class.
fn named_class(rest: &str) -> Option<&str> {
    let end = rest.strip_prefix("[:")?.find(":]")?;
    let name = &rest[..end + 4];
    name[2..end + 2].bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'^').then_some(name)
}

/// `{2}`, `{2,}` or `{2,5}`.
fn is_repetition(rest: &str) -> bool {
    let Some((inside, _)) = rest[1..].split_once('}') else {
        return false;
    };
    let (least, most) = inside.split_once(',').unwrap_or((inside, ""));
    !least.is_empty() && [least, most].iter().all(|number| number.bytes().all(|digit| digit.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(pattern: &str, matching: &[&str], others: &[&str]) {
        let compiled = Pattern::new(pattern).unwrap();
        for text in matching {
            assert!(compiled.is_found_in(text.as_bytes()), "{pattern} in {text}");
        }
        for text in others {
            assert!(!compiled.is_found_in(text.as_bytes()), "{pattern} in {text}");
        }
    }

    #[test]
    fn a_pattern_is_searched_anywhere_in_the_text() {
        check("v[0-9]+.HealthCheck$", &["grpc.health.v1.HealthCheck"], &["HealthCheck.v1", "v.HealthCheck1"]);
        check("^/api/", &["/api/users"], &["x/api/users"]);
        check("", &["", "anything"], &[]);
    }

    #[test]
    fn classes_and_word_ends_are_those_of_ascii() {
        check(r"^\d+$", &["12"], &["١٢", "a"]);
        check(r"^[\d-]+$", &["1-2"], &["١"]);
        check(r"^[^\d]$", &["a", "١"], &["1"]);
        check(r"^\w$", &["a", "_"], &["ä"]);
        check(r"^\W$", &["ä", "-"], &["a"]);
        check(r"a\b", &["a", "aä"], &["ab"]);
        check(r"^\s$", &[" ", "\t"], &["\u{a0}", "\u{b}"]);
    }

    #[test]
    fn what_stands_for_itself_in_the_collector_does_so_here() {
        check(r"\Qa.b[\E+", &["a.b[", "a.b[["], &["axb["]);
        check(r"\Q(", &["("], &[]);
        check("a{b", &["a{b"], &["ab"]);
        check("^a{2}$", &["aa"], &["a{2}"]);
        check("a{,2}", &["a{,2}"], &["aa"]);
        check("^[[]$", &["["], &["]"]);
        check("^[a&&b]$", &["a", "&", "b"], &["c"]);
        check("^[]a]$", &["]", "a"], &["b"]);
        check("^[^]]$", &["a"], &["]"]);
        check("^[[:alpha:]~]$", &["x", "~"], &["1", ":"]);
        check("(?i)^ÄB$", &["äb"], &["a"]);
    }

    #[test]
    fn wrong_patterns_say_what_is_wrong_in_one_line() {
        for (pattern, expected) in [
            ("(", "is not well-formed: unclosed group"),
            ("a**", ""),
            (r"(a)\1", "is not well-formed: backreferences are not supported"),
            ("(?=a)", "is not well-formed: look-around, including look-ahead and look-behind, is not supported"),
            (r"((\pL{100}){100}){100}", "needs more than 1048576 bytes when it is compiled"),
        ] {
            match Pattern::new(pattern) {
                Err(error) => assert_eq!(error.to_string(), expected, "{pattern}"),
                Ok(_) => assert_eq!("", expected, "{pattern}"),
            }
        }
        assert_eq!(Pattern::new(&"a".repeat(PATTERN_BYTES_MAX + 1)).unwrap_err(), PatternError::TooLong);
    }

    proptest! {
        #[test]
        fn any_text_compiles_or_is_refused(text in r"[a-e\\QEdwsbB{}\[\]^:,0-9&~|()*+?.ä-]{0,24}") {
            let _ = Pattern::new(&text);
        }

        #[test]
        fn a_quoted_text_is_found_as_it_is(text in "[^\\\\]{0,20}") {
            let pattern = Pattern::new(&format!("^\\Q{text}\\E$")).unwrap();
            prop_assert!(pattern.is_found_in(text.as_bytes()));
        }
    }
}
