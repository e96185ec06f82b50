//! `${NAME}`, `${env:NAME}`, `${env:NAME:-default}`, `${file:PATH}`, `${yaml:TEXT}`, `${https://...}` and `$$`, as the
//! Collector expands them.
//!
//! Values are expanded, keys are not. A scalar that is nothing but one expansion takes the YAML type of what it expands
//! to and keeps the text beside it; anywhere else the text is inserted. What a variable holds is expanded again.
//! `$$` is a dollar sign; a `$` before anything but `{` or `$` is itself. The environment is an argument; it is asked
//! for files and pages too, by `file:PATH` and by their addresses.

use std::sync::Arc;

use super::diagnostic::{Place, Report, SourceText, shown};
use super::yaml::{self, Node, Scalar, Value};

/// Variables that refer to variables, at most so deep; a cycle ends here.
const DEPTH_MAX: usize = 16;
/// Longest text of one scalar after expansion.
const TEXT_BYTES_MAX: usize = 1 << 20;
/// Bytes that all expansions of one configuration may produce.
const TOTAL_BYTES_MAX: usize = 16 << 20;
/// Most references that are looked up; bounds variables that multiply into nothing.
const REFERENCES_MAX: usize = 100_000;

/// End of the warning about a variable that is not set: a fact about where the file is read, not about the file.
pub(crate) const UNSET: &str = " is not set; the value is empty";

/// Expands every scalar of a tree in place.
pub(crate) fn expand(node: &mut Node, environment: &dyn Fn(&str) -> Option<String>, report: &Report) {
    let mut expansion = Expansion { environment, report, bytes: 0, references: 0 };
    expansion.node(node, &mut String::new(), 0);
}

struct Expansion<'a> {
    environment: &'a dyn Fn(&str) -> Option<String>,
    report: &'a Report,
    bytes: usize,
    references: usize,
}

/// What went wrong inside one scalar, and what to do.
struct Problem {
    message: String,
    help: String,
}

fn problem(message: impl Into<String>, help: impl Into<String>) -> Problem {
    Problem { message: message.into(), help: help.into() }
}

/// What a reference stands for.
struct Found {
    text: String,
    /// Text of a default is finished; text of a variable is expanded again.
    finished: bool,
    /// Neither set nor given a default.
    unset: bool,
}

impl Expansion<'_> {
    fn node(&mut self, node: &mut Node, path: &mut String, depth: usize) {
        match &mut node.value {
            Value::List(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.child(item, path, &format!("[{index}]"), depth);
                }
            }
            Value::Map(entries) => {
                for entry in entries {
                    let step = match path.is_empty() {
                        true => entry.key.clone(),
                        false => format!(".{}", entry.key),
                    };
                    self.child(&mut entry.node, path, &step, depth);
                }
            }
            Value::Scalar(scalar) if scalar.text.contains('$') => {
                let text = scalar.text.clone();
                if let Err(problem) = self.scalar(node, &text, path, depth) {
                    self.report.unreadable(&node.place, path, problem.message, problem.help);
                }
            }
            Value::Scalar(_) => {}
        }
    }

    fn child(&mut self, node: &mut Node, path: &mut String, step: &str, depth: usize) {
        let length = path.len();
        path.push_str(step);
        self.node(node, path, depth);
        path.truncate(length);
    }

    fn scalar(&mut self, node: &mut Node, text: &str, path: &mut String, depth: usize) -> Result<(), Problem> {
        let place = node.place.clone();
        let Some(inner) = whole_reference(text) else {
            let expanded = self.text(text, &place, path, depth)?;
            node.value = Value::Scalar(Scalar { text: expanded, plain: false });
            return Ok(());
        };
        let found = self.reference(inner, &place, path, depth)?;
        if found.unset {
            *node = Node { expanded: Some(String::new()), ..Node::null(place) };
            return Ok(());
        }
        let mut value = as_yaml(&found.text, &place);
        if !found.finished {
            if depth == DEPTH_MAX {
                return Err(too_deep());
            }
            self.node(&mut value, path, depth + 1);
        }
        let original = match value.expanded.take() {
            Some(inner) => inner,
            None if found.finished => found.text,
            None => self.text(&found.text, &place, path, depth + 1)?,
        };
        *node = Node { expanded: Some(original), ..value };
        Ok(())
    }

    /// Text with every reference in it replaced by text.
    fn text(&mut self, text: &str, place: &Place, path: &str, depth: usize) -> Result<String, Problem> {
        if depth > DEPTH_MAX {
            return Err(too_deep());
        }
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            expanded.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(tail) = rest.strip_prefix("$$") {
                expanded.push('$');
                rest = tail;
            } else if let Some((inner, tail)) = reference_at(rest) {
                let found = self.reference(inner, place, path, depth)?;
                if found.finished {
                    expanded.push_str(&found.text);
                } else {
                    expanded.push_str(&self.text(&found.text, place, path, depth + 1)?);
                }
                rest = tail;
            } else {
                expanded.push('$');
                rest = &rest[1..];
            }
            self.charge(expanded.len())?;
        }
        expanded.push_str(rest);
        self.charge(expanded.len())?;
        self.bytes += expanded.len();
        Ok(expanded)
    }

    fn charge(&self, length: usize) -> Result<(), Problem> {
        if length <= TEXT_BYTES_MAX && self.bytes + length <= TOTAL_BYTES_MAX {
            return Ok(());
        }
        Err(problem("the expanded text is too long", "shorten the variable, or put the text into a file"))
    }

    /// What stands between `${` and `}`.
    fn reference(&mut self, inner: &str, place: &Place, path: &str, depth: usize) -> Result<Found, Problem> {
        if depth == DEPTH_MAX {
            return Err(too_deep());
        }
        self.references += 1;
        if self.references > REFERENCES_MAX {
            return Err(problem(
                format!("more than {REFERENCES_MAX} variables are looked up"),
                "look for variables that refer to one another many times",
            ));
        }
        let inner = self.text(inner, place, path, depth + 1)?;
        let (name, default) = match inner.split_once(':') {
            None => (inner.as_str(), None),
            Some(("env", rest)) => match rest.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (rest, None),
            },
            // What stands in it was expanded with the reference.
            Some(("yaml", text)) => return Ok(Found { text: text.to_owned(), finished: true, unset: false }),
            Some(("file" | "http" | "https", _)) => return self.fetched(&inner),
            Some((name, rest)) => return Err(other_scheme(name, rest)),
        };
        if !is_name(name) {
            return Err(problem(
                format!("{} cannot be the name of a variable", shown(name)),
                "names have letters, digits and `_` and start with no digit; a literal `${` is written `$${`",
            ));
        }
        if let Some(text) = (self.environment)(name) {
            self.charge(text.len())?;
            return Ok(Found { text, finished: false, unset: false });
        }
        if default.is_none() {
            self.report.warning(
                place,
                path,
                format!("the variable {name}{UNSET}"),
                format!("set {name}, or give a default: `${{env:{name}:-value}}`"),
            );
        }
        Ok(Found { text: default.unwrap_or_default().to_owned(), finished: true, unset: default.is_none() })
    }
}

impl Expansion<'_> {
    /// The text of a file or page.
    fn fetched(&self, uri: &str) -> Result<Found, Problem> {
        let Some(text) = (self.environment)(uri) else {
            let help = "check that it is there and may be read, and that it is UTF-8 text of at most 1 MiB";
            return Err(problem(format!("cannot read {}", shown(uri)), help));
        };
        self.charge(text.len())?;
        // Whoever writes a token into a file ends the line.
        let length = text.trim_end_matches(['\n', '\r']).len();
        Ok(Found { text: text[..length].to_owned(), finished: false, unset: false })
    }
}

fn too_deep() -> Problem {
    problem(
        format!("variables refer to variables more than {DEPTH_MAX} times"),
        "look for a variable that refers to itself",
    )
}

fn other_scheme(scheme: &str, rest: &str) -> Problem {
    if let (Some(default), true) = (rest.strip_prefix('-'), is_name(scheme)) {
        return problem("a default needs `env:` before the name", format!("write `${{env:{scheme}:-{default}}}`"));
    }
    problem(
        format!("{} is no source of values here", shown(scheme)),
        "use `${env:NAME}`, `${file:PATH}` or `${yaml:TEXT}`; a literal `${` is written `$${`",
    )
}

/// The inside of a text that is one reference and nothing else.
fn whole_reference(text: &str) -> Option<&str> {
    match reference_at(text) {
        Some((inner, "")) => Some(inner),
        _ => None,
    }
}

/// Whether a text is nothing but one reference.
pub(crate) fn is_reference(text: &str) -> bool {
    whole_reference(text).is_some()
}

/// The inside of the reference at the start of a text, and what follows it. References inside are skipped over.
fn reference_at(text: &str) -> Option<(&str, &str)> {
    let body = text.strip_prefix("${")?;
    let bytes = body.as_bytes();
    let mut open = 1_usize;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'$' if bytes.get(at + 1) == Some(&b'$') => at += 1,
            b'$' if bytes.get(at + 1) == Some(&b'{') => {
                open += 1;
                at += 1;
            }
            b'}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some((&body[..at], &body[at + 1..]));
        }
        at += 1;
    }
    None
}

fn is_name(text: &str) -> bool {
    let starts_well = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    starts_well && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A variable's text as YAML, every node of it placed where the reference is; text that is no YAML is a string.
fn as_yaml(text: &str, place: &Place) -> Node {
    let source = Arc::new(SourceText { name: String::new(), text: text.to_owned(), order: 0 });
    let attempt = Report::default();
    let parsed = yaml::parse(&source, 0, &attempt).filter(|_| !attempt.has_errors());
    match parsed {
        Some(mut node) => {
            move_to(&mut node, place);
            node
        }
        None => Node {
            value: Value::Scalar(Scalar { text: text.to_owned(), plain: false }),
            place: place.clone(),
            expanded: None,
        },
    }
}

fn move_to(node: &mut Node, place: &Place) {
    node.place = place.clone();
    match &mut node.value {
        Value::Scalar(_) => {}
        Value::List(items) => items.iter_mut().for_each(|item| move_to(item, place)),
        Value::Map(entries) => {
            for entry in entries {
                entry.place = place.clone();
                move_to(&mut entry.node, place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::diagnostic::Diagnostic;

    fn environment(name: &str) -> Option<String> {
        let value = match name {
            "HOST" => "tempo",
            "PORT" => "4317",
            "OCTAL" => "0123",
            "YES" => "true",
            "EMPTY" => "",
            "MAP" => "{a: 1, b: [x]}",
            "COLON" => "a: b: c",
            "NESTED" => "${env:HOST}:${PORT}",
            "NAME_OF" => "HOST",
            "LOOP" => "x${LOOP}",
            "SELF" => "${SELF}",
            "DOLLARS" => "pa$$word",
            "file:/token" => "secret\n",
            "file:/part.yaml" => "host: ${HOST}\nport: 4317\n",
            "https://config/x" => "[a, b]",
            _ => return None,
        };
        Some(value.to_owned())
    }

    fn expanded(value: &str) -> (Node, Vec<Diagnostic>) {
        let source = Arc::new(SourceText { name: "f.yaml".into(), text: format!("key: {value}"), order: 0 });
        let report = Report::default();
        let mut node = yaml::parse(&source, 0, &report).unwrap();
        expand(&mut node, &environment, &report);
        (node.at("key").unwrap().clone(), report.finish().0)
    }

    fn check(value: &str, text: &str, plain: bool) {
        let (node, diagnostics) = expanded(value);
        assert_eq!(diagnostics, [], "{value}");
        let Value::Scalar(scalar) = &node.value else {
            panic!("{value} gives no scalar");
        };
        assert_eq!((scalar.text.as_str(), scalar.plain), (text, plain), "{value}");
    }

    #[test]
    fn references_inside_a_text_give_text() {
        check("http://${HOST}:${env:PORT}/x", "http://tempo:4317/x", false);
        check("${env:NONE:-a}b", "ab", false);
        check("x${${NAME_OF}}", "xtempo", false);
        check("x${env:${env:NONE:-HOST}}", "xtempo", false);
        check("x${NESTED}", "xtempo:4317", false);
    }

    #[test]
    fn a_reference_alone_keeps_the_type_and_the_text() {
        for value in ["${PORT}", "'${PORT}'", "${env:NONE:-4317}"] {
            check(value, "4317", true);
        }
        check("${YES}", "true", true);
        let (node, _) = expanded("${OCTAL}");
        assert_eq!(node.expanded.as_deref(), Some("0123"));
        let (node, _) = expanded("${MAP}");
        assert!(node.at("b").is_some());
        assert_eq!(node.at("b").unwrap().place.to_string(), "f.yaml:1:6");
        assert_eq!(node.expanded.as_deref(), Some("{a: 1, b: [x]}"));
        check("${COLON}", "a: b: c", false);
        check("${EMPTY}", "", true);
        let (node, _) = expanded("${NESTED}");
        assert_eq!(node.expanded.as_deref(), Some("tempo:4317"));
    }

    #[test]
    fn files_pages_and_texts_are_values_too() {
        check("${file:/token}", "secret", true);
        check("Bearer ${file:/token}", "Bearer secret", false);
        check("${yaml:7}", "7", true);
        let (node, _) = expanded("${file:/part.yaml}");
        assert_eq!(node.at("host").unwrap().expanded.as_deref(), Some("tempo"));
        let (node, _) = expanded("${https://config/x}");
        assert!(matches!(&node.value, Value::List(items) if items.len() == 2));
        let (node, _) = expanded("'${yaml:[${PORT}, b]}'");
        let Value::List(items) = &node.value else { panic!("a list") };
        assert!(matches!(&items[0].value, Value::Scalar(scalar) if scalar.text == "4317" && scalar.plain));
    }

    #[test]
    fn dollars_that_are_no_reference_stay() {
        check("$$", "$", false);
        check("$${HOST}", "${HOST}", false);
        check("$$${HOST}", "$tempo", false);
        check("^a$", "^a$", false);
        check("$HOST", "$HOST", false);
        check("${HOST", "${HOST", false);
        check("x${DOLLARS}", "xpa$word", false);
    }

    #[test]
    fn an_unset_variable_is_empty_with_a_warning() {
        for (value, text) in [("${NONE}", ""), ("a${NONE}b", "ab")] {
            let (node, diagnostics) = expanded(value);
            assert_eq!(diagnostics.len(), 1);
            assert_eq!(diagnostics[0].path, "key");
            assert!(diagnostics[0].message.contains("NONE is not set"));
            let Value::Scalar(scalar) = node.value else { panic!() };
            assert_eq!(scalar.text, text);
        }
    }

    #[test]
    fn what_cannot_be_expanded_is_an_error_at_its_place() {
        let table = [
            ("${HOST:-x}", "needs `env:`"),
            ("${file:/nowhere}", "cannot read `file:/nowhere`"),
            ("${vault:x}", "no source of values"),
            ("${1A}", "name of a variable"),
            ("${}", "name of a variable"),
            ("${LOOP}", "refer to variables more than"),
            ("${SELF}", "refer to variables more than"),
            ("x${SELF}", "refer to variables more than"),
        ];
        for (value, words) in table {
            let (_, diagnostics) = expanded(value);
            assert_eq!(diagnostics.len(), 1, "{value}: {diagnostics:?}");
            assert!(diagnostics[0].message.contains(words), "{value}: {diagnostics:?}");
            assert_eq!(diagnostics[0].place.to_string(), "f.yaml:1:6");
        }
    }

    #[test]
    fn variables_that_multiply_are_bounded() {
        for last in ["", "x"] {
            check_bounded(last);
        }
    }

    fn check_bounded(last: &str) {
        let environment = |name: &str| {
            let level: usize = name.strip_prefix('V')?.parse().ok()?;
            Some(match level {
                12 => last.to_owned(),
                _ => format!("${{V{}}}", level + 1).repeat(10),
            })
        };
        let source = Arc::new(SourceText { name: "f.yaml".into(), text: "key: ${V0}".into(), order: 0 });
        let report = Report::default();
        let mut node = yaml::parse(&source, 0, &report).unwrap();
        expand(&mut node, &environment, &report);
        assert!(report.has_errors());
    }
}
