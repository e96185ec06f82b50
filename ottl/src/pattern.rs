//! Patterns: the regular expressions of Go and globs, as expressions of the `regex` crate. Both run in linear time.
//!
//! The two dialects differ in what is translated here: Go's `\d \w \s \b` know ASCII only, `\Q...\E` quotes, and inside a
//! class `[`, `&` and `~` are letters.

use regex::bytes::{Regex, RegexBuilder};

/// Memory a compiled pattern may take: a bound on patterns like `(a{1000}){1000}`.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// Longest pattern of a configuration, in bytes.
pub const PATTERN_BYTES_MAX: usize = 4096;

/// A regular expression of a configuration, in the language of Go. Holding one proves that it compiles within its memory.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    regex: Regex,
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// It is too long, too large, or not well-formed: what is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err(format!("the pattern has more than {PATTERN_BYTES_MAX} bytes"));
        }
        Ok(Self { text: text.to_owned(), regex: compile(text.as_bytes())? })
    }

    /// Whether it is found anywhere in `text`.
    #[must_use]
    pub fn is_found_in(&self, text: &[u8]) -> bool {
        self.regex.is_match(text)
    }

    /// As written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn regex(&self) -> &Regex {
        &self.regex
    }
}

/// Equal texts compile to the same.
impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// Compiles a regular expression.
pub(crate) fn compile(pattern: &[u8]) -> Result<Regex, String> {
    compile_within(pattern, COMPILED_BYTES_MAX)
}

/// The same with another bound of the memory it takes compiled.
pub(crate) fn compile_within(pattern: &[u8], bytes_max: usize) -> Result<Regex, String> {
    let pattern = std::str::from_utf8(pattern).map_err(|_| "the pattern is not UTF-8".to_owned())?;
    build(&translate(pattern), bytes_max)
}

/// Compiles a glob that must match a whole text: `*`, `?`, `[abc]`, `[!abc]`, `{a,b}`, `\` quotes.
pub(crate) fn compile_glob(pattern: &[u8]) -> Result<Regex, String> {
    let pattern = std::str::from_utf8(pattern).map_err(|_| "the pattern is not UTF-8".to_owned())?;
    let mut out = "(?s)^(?:".to_owned();
    let mut letters = pattern.chars().peekable();
    let mut alternatives = 0_u32;
    while let Some(letter) = letters.next() {
        match letter {
            '*' => out.push_str(".*"),
            '?' => out.push('.'),
            '[' => {
                out.push('[');
                if letters.next_if_eq(&'!').is_some() {
                    out.push('^');
                }
                for letter in letters.by_ref().take_while(|letter| *letter != ']') {
                    out.push_str(if matches!(letter, '[' | '&' | '~' | '\\' | '^') { "\\" } else { "" });
                    out.push(letter);
                }
                out.push(']');
            }
            '{' => {
                alternatives += 1;
                out.push_str("(?:");
            }
            '}' if alternatives > 0 => {
                alternatives -= 1;
                out.push(')');
            }
            ',' if alternatives > 0 => out.push('|'),
            '\\' => out.push_str(&regex::escape(letters.next().unwrap_or('\\').encode_utf8(&mut [0; 4]))),
            other => out.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
    }
    out.push_str(")$");
    build(&out, COMPILED_BYTES_MAX)
}

fn build(pattern: &str, bytes_max: usize) -> Result<Regex, String> {
    let built = RegexBuilder::new(pattern).size_limit(bytes_max).nest_limit(100).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => format!("the pattern needs more than {bytes_max} bytes"),
        // The last line says what is wrong; the lines before draw the pattern.
        other => other.to_string().lines().last().unwrap_or("").trim_start_matches("error: ").to_owned(),
    })
}

fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    let mut in_class = false;
    while let Some(letter) = rest.chars().next() {
        let length =
            if letter == '\\' { 1 + rest[1..].chars().next().map_or(0, char::len_utf8) } else { letter.len_utf8() };
        let (token, after) = rest.split_at(length);
        rest = after;
        match token {
            "\\Q" => {
                let (quoted, after) = rest.split_once("\\E").unwrap_or((rest, ""));
                out.push_str(&regex::escape(quoted));
                rest = after;
            }
            "\\d" => out.push_str("[0-9]"),
            "\\D" => out.push_str("[^0-9]"),
            "\\w" => out.push_str("[0-9A-Za-z_]"),
            "\\W" => out.push_str("[^0-9A-Za-z_]"),
            "\\s" => out.push_str("[\\t\\n\\f\\r ]"),
            "\\S" => out.push_str("[^\\t\\n\\f\\r ]"),
            "\\b" if !in_class => out.push_str("(?-u:\\b)"),
            "\\B" if !in_class => out.push_str("(?-u:\\B)"),
            "[" if in_class && !rest.starts_with(':') => out.push_str("\\["),
            "&" | "~" if in_class => {
                out.push('\\');
                out.push_str(token);
            }
            "[" => {
                let is_posix = in_class;
                in_class = true;
                out.push('[');
                if is_posix {
                    // `[:alpha:]` inside a class: taken as it is up to its end.
                    let end = rest.find(":]").map_or(rest.len(), |end| end + 2);
                    out.push_str(&rest[..end]);
                    rest = &rest[end..];
                } else {
                    rest = open_class(rest, &mut out);
                }
            }
            "]" => {
                in_class = false;
                out.push(']');
            }
            other => out.push_str(other),
        }
    }
    out
}

/// Takes `^` and a `]` that stands first, which is a letter.
fn open_class<'p>(rest: &'p str, out: &mut String) -> &'p str {
    let after = rest.strip_prefix('^').unwrap_or(rest);
    out.push_str(&rest[..rest.len() - after.len()]);
    match after.strip_prefix(']') {
        Some(after) => {
            out.push_str("\\]");
            after
        }
        None => after,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, text: &str, expected: bool) {
        let regex = compile(pattern.as_bytes()).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        assert_eq!(regex.is_match(text.as_bytes()), expected, "{pattern} on {text}");
    }

    #[test]
    fn patterns_mean_what_they_mean_in_go() {
        check(r"^\d+$", "12", true);
        check(r"^\d+$", "\u{0661}", false);
        check(r"^[\d.]+$", "1.2", true);
        check(r"^[[a]+$", "[a", true);
        check(r"^[a&&b]+$", "&", true);
        check(r"^[]a]+$", "]", true);
        check(r"^[^]a]+$", "b", true);
        check(r"^[[:alpha:]_]+$", "a_", true);
        check(r"\Qa.b\E", "axb", false);
        check(r"\bcat\b", "a cat.", true);
        check(r"(?i)GET", "get", true);
        check(r"^.$", "é", true);
        assert!(compile(b"(").is_err());
        assert!(compile(b"(?:a{1000}){1000}").is_err());
    }

    #[test]
    fn globs_match_whole_texts() {
        let cases = [
            ("/user/*/list/*", "/user/7/list/9", true),
            ("/user/*", "x/user/7", false),
            ("a?c", "abc", true),
            ("{a,b}c", "bc", true),
            ("[!a]x", "bx", true),
            ("[!a]x", "ax", false),
            ("a\\*", "a*", true),
            ("a.c", "abc", false),
        ];
        for (pattern, text, expected) in cases {
            let regex = compile_glob(pattern.as_bytes()).expect("compiles");
            assert_eq!(regex.is_match(text.as_bytes()), expected, "{pattern} on {text}");
        }
    }
}
