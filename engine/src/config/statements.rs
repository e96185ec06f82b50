//! What components that hold statements or conditions of the transformation language share: reading and checking them, and
//! telling a mistake by its place in the file.
//!
//! The idea: the language says where in a statement a mistake is; here that becomes a place in the file, whatever the
//! file did to the text: quotes, folded lines, indentation. A text that passed is kept as text: each shard reads it again,
//! because what it becomes holds memory that shards must not share.

use std::ops::Range;

use ottl::{Ask, Context, Paths};

use super::checked::ErrorMode;
use super::diagnostic::{Place, shown};
use super::section::{Field, Section};

/// What `error_mode` may say; what it says where nothing is written differs by component.
const ERROR_MODES: [(&str, ErrorMode); 3] =
    [("ignore", ErrorMode::Ignore), ("silent", ErrorMode::Silent), ("propagate", ErrorMode::Propagate)];

/// Reads `error_mode`.
pub(crate) fn error_mode(section: &Section<'_>, default: ErrorMode) -> ErrorMode {
    section.choice("error_mode", &ERROR_MODES, default)
}

/// A statement that `context` can run; `None` was reported.
pub(crate) fn statement(field: &Field<'_>, context: Context, paths: Paths) -> Option<String> {
    let text = field.text()?;
    match ottl::check_statement(&text, context, paths) {
        Ok(_) => Some(text),
        Err(mistake) => wrong(field, &text, &mistake),
    }
}

/// A condition that `context` can ask; `None` was reported.
pub(crate) fn condition(field: &Field<'_>, context: Context, paths: Paths) -> Option<String> {
    let text = field.text()?;
    match ottl::check_condition(&text, context, paths) {
        Ok(_) => Some(text),
        Err(mistake) => wrong(field, &text, &mistake),
    }
}

/// What a statement that passed asks of the sender of its items.
pub(crate) fn asks_of_statement(text: &str, context: Context, paths: Paths) -> Vec<Ask> {
    ottl::check_statement(text, context, paths).map_or(Vec::new(), |statement| statement.asks().to_vec())
}

/// What a condition that passed asks of the sender of its items.
pub(crate) fn asks_of_condition(text: &str, context: Context, paths: Paths) -> Vec<Ask> {
    ottl::check_condition(text, context, paths).map_or(Vec::new(), |condition| condition.asks().to_vec())
}

/// As [`condition`] without context prefixes, where items of several senders are put together.
pub(crate) fn senderless_condition(field: &Field<'_>, context: Context) -> Option<String> {
    let text = condition(field, context, Paths::Bare)?;
    if asks_of_condition(&text, context, Paths::Bare).is_empty() {
        return Some(text);
    }
    field.error(
        "the condition asks who sent a span, and a trace has several senders",
        "set an attribute from `otelcol.` in a `transform` before it, and ask for that",
    );
    None
}

/// Reports a mistake in the text of `field`.
pub(crate) fn wrong<T>(field: &Field<'_>, text: &str, mistake: &ottl::Diagnostic) -> Option<T> {
    let help = match mistake.help.as_str() {
        "" => "see docs/ottl-parity.md for the language as it is here",
        help => help,
    };
    match place_within(field, text, &mistake.at) {
        Some(place) => field.report.error(&place, &field.path, &mistake.message, help),
        // The file says it in another way, as by a variable: then the words are quoted.
        None => {
            let at = text.get(mistake.at.clone()).filter(|at| !at.is_empty()).unwrap_or(text);
            field.error(format!("{} (at {})", mistake.message, shown(at)), help);
        }
    }
    None
}

/// Where the bytes `at` of a scalar's `text` stand in the file.
fn place_within(field: &Field<'_>, text: &str, at: &Range<usize>) -> Option<Place> {
    let place = &field.node.place;
    let raw = place.source.text.get(place.start..place.end)?;
    let starts = starts_in(raw, text)?;
    let start = *starts.get(at.start.min(text.len()))?;
    let last = text.get(..at.end)?.char_indices().next_back().map_or(0, |(last, _)| last);
    let last = starts.get(last).filter(|_| at.end > at.start);
    let end = last.map_or(start, |last| last + raw[*last..].chars().next().map_or(0, char::len_utf8));
    Some(Place::new(&place.source, place.start + start..place.start + end.max(start)))
}

/// For each byte of `text`, and for its end, where in `raw` its character is written. White space is not compared: YAML
/// folds lines and takes indentation away. `None`: the texts differ in more.
fn starts_in(raw: &str, text: &str) -> Option<Vec<usize>> {
    let quote = raw.chars().next().filter(|first| matches!(first, '"' | '\'') && !text.starts_with(*first));
    let mut rest = match (quote, raw.chars().next()) {
        (Some(quote), _) => quote.len_utf8(),
        // A block begins behind the line of its `|` or `>`.
        (None, Some('|' | '>')) => raw.find('\n')? + 1,
        _ => 0,
    };
    let mut starts = Vec::with_capacity(text.len() + 1);
    for wanted in text.chars() {
        let is_space = wanted.is_whitespace();
        if !is_space {
            rest += raw[rest..].len() - raw[rest..].trim_start().len();
        }
        let mut found = raw[rest..].chars();
        let mut first = found.next();
        let doubled = (quote == Some('"') && first == Some('\\')) || (quote == Some('\'') && first == Some('\''));
        if doubled {
            rest += 1;
            first = found.next();
        }
        starts.resize(starts.len() + wanted.len_utf8(), rest);
        match first {
            Some(first) if first == wanted => rest += first.len_utf8(),
            // One space may stand for a line's end and indentation, or for nothing that is left.
            _ if is_space => {}
            _ => return None,
        }
    }
    starts.push(rest);
    Some(starts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(raw: &str, text: &str, word: &str) {
        let starts = starts_in(raw, text).expect("the same text");
        assert_eq!(starts.len(), text.len() + 1);
        let start = starts[text.find(word).unwrap()];
        // A quote may be written with one character more.
        assert!(raw[start..].starts_with(&word[..1]), "{:?} for {word:?}", &raw[start..]);
        assert_eq!(
            raw[..start].matches(&word[1..]).count(),
            text[..text.find(word).unwrap()].matches(&word[1..]).count()
        );
    }

    #[test]
    fn a_place_in_a_statement_is_found_in_the_file_whatever_yaml_made_of_the_text() {
        let text = r#"set(a["k"], "x") where b == nil"#;
        check(text, text, "where");
        check("set(a[\"k\"], \"x\")\n      where b == nil", text, "where");
        check("set(a[\"k\"], \"x\")\n      where b == nil", text, "nil");
        check(r#"'set(a["k"], "x") where b == nil'"#, text, "b ==");
        check(r#""set(a[\"k\"], \"x\") where b == nil""#, text, "where");
        check("|\n        set(a[\"k\"], \"x\")\n        where b == nil\n", &text.replace(") w", ")\nw"), "where");
        check("'set(a, ''é'') where x'", "set(a, 'é') where x", "where");
        assert_eq!(starts_in("${env:STATEMENT}", text), None);
    }
}
