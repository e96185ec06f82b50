//! `ExtractGrokPatterns`: a pattern of named patterns, `%{IP:client.address} %{INT:size:int}`.
//!
//! The idea: it is one regular expression, written out when the statement is checked; what runs is that, in linear time. Each
//! capture has a number, not a name, so that names may repeat and hold dots. Names, types and what they give are those of
//! the library that the Collector uses (elastic/go-grok).

use std::collections::BTreeMap;

use regex::bytes::Regex;

use super::grok_patterns::PATTERNS;
use super::{Arguments, Function, Kind, Prepared, converter, needed, optional};
use crate::fault::Fault;
use crate::pattern;
use crate::program::Expr;
use crate::value::{Entries, Value, put};

/// Deepest nesting of patterns: a definition may name itself.
const DEPTH_MAX: u32 = 24;
/// Longest expression that a pattern is written out to, in bytes: ten definitions of ten names each would be 10^10.
const EXPANDED_BYTES_MAX: usize = 64 << 10;
/// Most memory the compiled expression may take. Formats of whole log lines name addresses several times.
const COMPILED_BYTES_MAX: usize = 8 << 20;

pub(super) const TABLE: &[Function] = &[converter(
    "ExtractGrokPatterns",
    &[
        needed("target", Kind::Text),
        needed("pattern", Kind::TextLiteral),
        optional("named_captures_only", Kind::BoolLiteral),
        optional("pattern_definitions", Kind::TextListLiteral),
    ],
    extract,
)];

/// A pattern written out and compiled.
#[derive(Clone, Debug)]
pub(crate) struct Grok {
    regex: Regex,
    /// By the group's number less one; a group without a name is not told of.
    captures: Vec<Option<Capture>>,
}

#[derive(Clone, Debug)]
struct Capture {
    name: String,
    kind: CaptureType,
}

/// What a capture's text becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CaptureType {
    Text,
    Int,
    Double,
    Bool,
}

impl CaptureType {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "string" => Self::Text,
            "int" | "long" => Self::Int,
            "float" | "double" => Self::Double,
            "bool" | "boolean" => Self::Bool,
            _ => return None,
        })
    }

    fn read(self, text: &[u8]) -> Option<Value<'static>> {
        let letters = || std::str::from_utf8(text).ok();
        Some(match self {
            Self::Text => Value::Text(text.to_vec().into()),
            Self::Int => Value::Int(letters()?.parse().ok()?),
            Self::Double => Value::Double(letters()?.parse().ok()?),
            Self::Bool => match text {
                b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True" => Value::Bool(true),
                b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False" => Value::Bool(false),
                _ => return None,
            },
        })
    }
}

impl Grok {
    /// What a call's literals say.
    ///
    /// # Errors
    /// What is wrong with the pattern or a definition.
    pub(crate) fn of_literals(arguments: &[Option<Expr>]) -> Result<Self, String> {
        let literal = |place: usize| match arguments.get(place) {
            Some(Some(Expr::Literal(value))) => value,
            _ => &Value::Nil,
        };
        let text = |value: &Value<'_>| match value {
            Value::Text(text) => String::from_utf8(text.to_vec()).map_err(|_| "the pattern is not UTF-8".to_owned()),
            _ => Ok(String::new()),
        };
        let definitions = match literal(3) {
            Value::List(items) => items.iter().map(text).collect::<Result<_, _>>()?,
            _ => Vec::new(),
        };
        Self::new(&text(literal(1))?, *literal(2) == Value::Bool(true), &definitions)
    }

    fn new(pattern: &str, only_named: bool, definitions: &[String]) -> Result<Self, String> {
        let mut own = BTreeMap::new();
        for definition in definitions {
            let Some((name, text)) = definition.split_once('=') else {
                return Err(format!("expected NAME=pattern, found the definition \"{definition}\""));
            };
            if name.is_empty() || !name.chars().all(is_name_letter) {
                return Err(format!("expected a name of letters, digits and `_`, found the definition of \"{name}\""));
            }
            own.insert(name, text);
        }
        let mut writer = Writer { own, only_named, out: String::new(), captures: Vec::new(), kinds: BTreeMap::new() };
        writer.write(pattern, DEPTH_MAX)?;
        if only_named && writer.captures.iter().all(Option::is_none) {
            return Err("expected a named capture, such as %{IP:client.address}, found none".to_owned());
        }
        let kind_of = |name: &str| writer.kinds.get(name).copied().unwrap_or(CaptureType::Text);
        let captures = writer.captures.into_iter();
        let captures = captures.map(|name| name.map(|name| Capture { kind: kind_of(&name), name })).collect();
        let regex = pattern::compile_within(writer.out.as_bytes(), COMPILED_BYTES_MAX)
            .map_err(|why| format!("expected a pattern, found: {why}"))?;
        Ok(Self { regex, captures })
    }

    /// What the captures of the first match say; of equal names the last one that is not empty counts.
    fn extract(&self, text: &[u8]) -> Result<Entries<'static>, Fault> {
        let mut out = Vec::new();
        let Some(found) = self.regex.captures(text) else { return Ok(out) };
        for (number, capture) in self.captures.iter().enumerate() {
            let (Some(capture), Some(group)) = (capture, found.get(number + 1)) else { continue };
            if group.is_empty() {
                continue;
            }
            let value = capture.kind.read(group.as_bytes());
            let value = value.ok_or(Fault::invalid("the text of a capture is not of the type that it names"))?;
            put(&mut out, capture.name.clone().into_bytes().into(), value);
        }
        Ok(out)
    }
}

/// Writes a pattern out: names become what they stand for.
struct Writer<'d> {
    own: BTreeMap<&'d str, &'d str>,
    only_named: bool,
    out: String,
    /// Names of groups, by their number less one.
    captures: Vec<Option<String>>,
    kinds: BTreeMap<String, CaptureType>,
}

impl Writer<'_> {
    fn write(&mut self, pattern: &str, depth: u32) -> Result<(), String> {
        let mut rest = pattern;
        let mut in_class = false;
        while let Some(letter) = rest.chars().next() {
            if self.out.len() > EXPANDED_BYTES_MAX {
                return Err(format!("the pattern is longer than {EXPANDED_BYTES_MAX} bytes written out"));
            }
            if let Some((reference, after)) = Reference::read(rest) {
                self.refer(&reference, depth)?;
                rest = after;
                continue;
            }
            if letter == '(' && !in_class {
                rest = self.open_group(rest);
                continue;
            }
            in_class = match letter {
                '[' => true,
                ']' => false,
                _ => in_class,
            };
            let quoted = if letter == '\\' { rest[1..].chars().next().map_or(0, char::len_utf8) } else { 0 };
            let (token, after) = rest.split_at(letter.len_utf8() + quoted);
            self.out.push_str(token);
            rest = after;
        }
        Ok(())
    }

    /// A group of the pattern itself: `(?<name>`, `(?P<name>`, `(`, or one that captures nothing.
    fn open_group<'p>(&mut self, text: &'p str) -> &'p str {
        let named = text.strip_prefix("(?P<").or_else(|| text.strip_prefix("(?<"));
        let named = named.and_then(|named| named.split_once('>')).filter(|(name, _)| name.chars().all(is_name_letter));
        let (name, rest) = match named {
            // Names of groups cannot have dots: three underscores stand for one.
            Some((name, rest)) => (Some(name.replace("___", ".")), rest),
            None => (None, &text[1..]),
        };
        self.out.push('(');
        if named.is_some() || !rest.starts_with('?') {
            self.captures.push(name);
        }
        rest
    }

    fn refer(&mut self, reference: &Reference<'_>, depth: u32) -> Result<(), String> {
        let known = || PATTERNS.iter().find(|(name, _)| *name == reference.pattern).map(|(_, text)| *text);
        let Some(text) = self.own.get(reference.pattern).copied().or_else(known) else {
            return Err(format!("expected a known pattern, found `%{{{}}}`", reference.pattern));
        };
        if depth == 0 {
            return Err(format!("`%{{{}}}` lies deeper than {DEPTH_MAX} patterns, or in itself", reference.pattern));
        }
        let name = reference.capture.or_else(|| (!self.only_named).then_some(reference.pattern));
        if let (Some(name), Some(kind)) = (name, reference.kind) {
            let Some(kind) = CaptureType::named(kind) else {
                return Err(format!(
                    "expected one of the types string, int, long, float, double, bool, boolean, found {kind}"
                ));
            };
            self.kinds.insert(name.to_owned(), kind);
        }
        match name {
            Some(name) => {
                self.captures.push(Some(name.to_owned()));
                self.out.push('(');
            }
            None => self.out.push_str("(?:"),
        }
        self.write(text, depth - 1)?;
        self.out.push(')');
        Ok(())
    }
}

/// `%{PATTERN}`, `%{PATTERN:capture}` or `%{PATTERN:capture:type}`.
struct Reference<'p> {
    pattern: &'p str,
    capture: Option<&'p str>,
    kind: Option<&'p str>,
}

impl<'p> Reference<'p> {
    fn read(text: &'p str) -> Option<(Self, &'p str)> {
        let (inside, rest) = text.strip_prefix("%{")?.split_once('}')?;
        let mut parts = inside.split(':');
        let (pattern, capture, kind) = (parts.next()?, parts.next(), parts.next());
        let is_name = |name: &str| !name.is_empty() && name.chars().all(is_name_letter);
        let is_capture =
            |name: &str| !name.is_empty() && name.chars().all(|letter| letter == '.' || is_name_letter(letter));
        let is_reference =
            is_name(pattern) && capture.is_none_or(is_capture) && kind.is_none_or(is_name) && parts.next().is_none();
        is_reference.then_some((Self { pattern, capture, kind }, rest))
    }
}

fn is_name_letter(letter: char) -> bool {
    letter == '_' || letter.is_ascii_alphanumeric()
}

fn extract<'v>(arguments: &mut Arguments<'v>) -> Result<Value<'v>, Fault> {
    let Prepared::Grok(grok) = arguments.prepared else {
        return Err(Fault::invalid("the pattern was not prepared"));
    };
    grok.extract(&arguments.text(0)).map(Value::Map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_pattern_compiles_and_matches_nothing_of_an_empty_line_that_it_should_not() {
        for (name, _) in PATTERNS {
            if let Err(why) = Grok::new(&format!("^%{{{name}}}$"), false, &[]) {
                panic!("{name}: {why}");
            }
        }
    }

    #[test]
    fn a_pattern_that_names_itself_or_grows_without_end_is_refused() {
        let definitions = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let itself = Grok::new("%{A}", false, &definitions(&["A=x%{B}", "B=%{A}"]));
        assert!(itself.is_err_and(|why| why.contains("in itself")));
        let many: Vec<String> =
            (0..10).map(|number| format!("P{number}={}", format!("%{{P{}}}", number + 1).repeat(10))).collect();
        let many = [many, definitions(&["P10=x"])].concat();
        assert!(Grok::new("%{P0}", false, &many).is_err_and(|why| why.contains("written out")));
        assert!(Grok::new("%{A}", false, &definitions(&["A=(?:a{1000}){1000}"])).is_err());
    }
}
