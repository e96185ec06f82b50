//! What is wrong with a statement, and how a person is told: expected, found, where, and what to do.
//!
//! A diagnostic holds a place in the statement and two sentences; it never holds the statement, which its owner has.

use std::fmt::Write as _;
use std::ops::Range;

/// Characters of the statement's line that are shown; a longer line is cut around the caret.
const SHOWN_MAX: usize = 120;

/// One mistake in a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The bytes of the statement it is about; empty at the place where something is missing.
    pub at: Range<usize>,
    /// What was expected and what was found.
    pub message: String,
    /// What to do; may be empty.
    pub help: String,
}

impl Diagnostic {
    pub(crate) fn new(at: Range<usize>, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { at, message: message.into(), help: help.into() }
    }

    pub(crate) fn expected(at: Range<usize>, expected: &str, found: &str, help: impl Into<String>) -> Self {
        Self::new(at, format!("expected {expected}, found {found}"), help)
    }

    /// The message, the line of `statement` with carets below the place, and the help.
    #[must_use]
    pub fn render(&self, statement: &str) -> String {
        let start = floor_boundary(statement, self.at.start);
        let end = floor_boundary(statement, self.at.end).max(start);
        let line_start = statement[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = statement[start..].find('\n').map_or(statement.len(), |newline| start + newline);
        let before = statement[line_start..start].chars().count();
        let width = statement[start..end.min(line_end)].chars().count().max(1);
        let skipped = before.saturating_sub(SHOWN_MAX / 2);
        let line = statement[line_start..line_end].chars();
        let shown: String = line.skip(skipped).take(SHOWN_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
        let (dots, indent) = if skipped > 0 { ("...", before - skipped + 3) } else { ("", before) };
        let carets = width.min((SHOWN_MAX + dots.len()).saturating_sub(indent).max(1));
        let mut out = format!("{}\n  {dots}{shown}\n  {}{}", self.message, " ".repeat(indent), "^".repeat(carets));
        if !self.help.is_empty() {
            // Writing to a string cannot fail.
            let _ = write!(out, "\n  help: {}", self.help);
        }
        out
    }
}

fn floor_boundary(text: &str, position: usize) -> usize {
    let position = position.min(text.len());
    (0..=position).rev().find(|&place| text.is_char_boundary(place)).unwrap_or(0)
}

/// The name among `names` that `wrong` was probably meant to be: at most a third of its letters are wrong.
pub(crate) fn nearest<'n>(wrong: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let bound = wrong.len().div_ceil(3).min(4);
    names
        .map(|name| (distance(&wrong.to_ascii_lowercase(), &name.to_ascii_lowercase()), name))
        .filter(|(distance, _)| *distance <= bound)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Letters to change, add or remove to get from `left` to `right` (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    // Names are short; what is longer is no slip of the finger.
    if left.len() > 64 || right.len() > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_below_the_place_even_behind_wide_letters() {
        let statement = "first\nset(é, x)";
        let at = statement.find('x').expect("there is one");
        let shown = Diagnostic::new(at..at + 1, "m", "h").render(statement);
        assert_eq!(shown, "m\n  set(é, x)\n         ^\n  help: h");
    }

    #[test]
    fn a_long_line_is_cut_around_the_caret() {
        let statement = "y".repeat(500);
        let shown = Diagnostic::new(400..401, "m", "").render(&statement);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[1].len() < 140);
        assert_eq!(lines[2].find('^'), Some(2 + 3 + SHOWN_MAX / 2));
    }

    #[test]
    fn slips_of_the_finger_are_recognised() {
        let names = ["delete_key", "set", "SHA256"];
        assert_eq!(nearest("delet_key", names.into_iter()), Some("delete_key"));
        assert_eq!(nearest("sha256", names.into_iter()), Some("SHA256"));
        assert_eq!(nearest("completely_other", names.into_iter()), None);
    }
}
