//! What is wrong with a configuration, and where.
//!
//! The idea: a diagnostic cannot be made without a place and a remedy, so no message leaves the reader searching.
//! This file never decides what is wrong; it collects, sorts and renders.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// Diagnostics that are rendered in full; the rest is counted. Beyond it nobody reads on.
const RENDERED_MAX: usize = 100;
/// Diagnostics that are kept; an error always is, if it is the first.
const KEPT_MAX: usize = 1000;
/// Characters of a value that a message repeats.
const SHOWN_CHARS_MAX: usize = 60;
/// Bytes of a source line that are rendered; longer lines are cut around the place.
const LINE_BYTES_MAX: usize = 400;

/// One text that was read: a file or a `--set`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceText {
    /// Path as given, or `--set`.
    pub name: String,
    /// All of it.
    pub text: String,
    /// Position among the sources; orders diagnostics.
    pub order: usize,
}

/// Bytes `start..end` of a source. Both are character boundaries inside the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which text.
    pub source: Arc<SourceText>,
    /// First byte.
    pub start: usize,
    /// One past the last byte; equal to `start` for something that is not there.
    pub end: usize,
}

impl Place {
    /// A place in `source`; bounds are moved to the nearest valid ones.
    pub fn new(source: &Arc<SourceText>, range: Range<usize>) -> Place {
        let start = floor_boundary(&source.text, range.start);
        let end = floor_boundary(&source.text, range.end).max(start);
        Place { source: Arc::clone(source), start, end }
    }

    /// Line, from 1.
    pub fn line(&self) -> usize {
        1 + self.source.text[..self.start].matches('\n').count()
    }

    /// Column in characters, from 1.
    pub fn column(&self) -> usize {
        1 + self.source.text[self.line_start()..self.start].chars().count()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn line_start(&self) -> usize {
        self.source.text[..self.start].rfind('\n').map_or(0, |at| at + 1)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.source.name, self.line(), self.column())
    }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The gateway starts, and does not do everything that the file says.
    Warning,
    /// The gateway does not start.
    Error,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad.
    pub severity: Severity,
    /// Where.
    pub place: Place,
    /// Key path (`processors.batch.timeout`), empty for syntax errors.
    pub path: String,
    /// What is wrong: what was expected and what was found.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

impl Diagnostic {
    /// Whether it stops the gateway from starting.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// Collects diagnostics while a configuration is read.
#[derive(Debug, Default)]
pub(crate) struct Report {
    diagnostics: RefCell<Vec<Diagnostic>>,
    /// Every key path that was asked for, so that a test can hold the reference page against it.
    asked: RefCell<BTreeSet<String>>,
    /// Values whose text could not be made out; what is said of them later would be noise.
    unreadable: RefCell<Vec<Place>>,
}

impl Report {
    pub(crate) fn error(&self, place: &Place, path: &str, message: impl Into<String>, help: impl Into<String>) {
        self.add(Severity::Error, place, path, message.into(), help.into());
    }

    pub(crate) fn warning(&self, place: &Place, path: &str, message: impl Into<String>, help: impl Into<String>) {
        self.add(Severity::Warning, place, path, message.into(), help.into());
    }

    pub(crate) fn add(&self, severity: Severity, place: &Place, path: &str, message: String, help: String) {
        assert!(!message.is_empty(), "a diagnostic says what is wrong");
        assert!(!help.is_empty(), "a diagnostic says what to do");
        let diagnostic = Diagnostic { severity, place: place.clone(), path: path.to_owned(), message, help };
        if self.unreadable.borrow().contains(place) {
            return;
        }
        let mut diagnostics = self.diagnostics.borrow_mut();
        let full = diagnostics.len() >= KEPT_MAX;
        if full && (severity == Severity::Warning || diagnostics.iter().any(Diagnostic::is_error)) {
            return;
        }
        // An aliased node is checked at each use; one report of it is enough.
        if !diagnostics.contains(&diagnostic) {
            diagnostics.push(diagnostic);
        }
    }

    /// Reports an error of a value, and nothing more about that value.
    pub(crate) fn unreadable(&self, place: &Place, path: &str, message: impl Into<String>, help: impl Into<String>) {
        self.error(place, path, message, help);
        self.unreadable.borrow_mut().push(place.clone());
    }

    pub(crate) fn has_errors(&self) -> bool {
        let diagnostics = self.diagnostics.borrow();
        diagnostics.iter().any(Diagnostic::is_error)
    }

    pub(crate) fn note_asked(&self, path: &str) {
        self.asked.borrow_mut().insert(path.to_owned());
    }

    /// Diagnostics in the order of their places, and every key path that was asked for.
    pub(crate) fn finish(self) -> (Vec<Diagnostic>, BTreeSet<String>) {
        let mut diagnostics = self.diagnostics.into_inner();
        diagnostics.sort_by_key(|diagnostic| (diagnostic.place.source.order, diagnostic.place.start));
        (diagnostics, self.asked.into_inner())
    }
}

/// Diagnostics as text, each with its source line; ends with a line that counts them. Empty if there are none.
pub fn render(diagnostics: &[Diagnostic], color: bool) -> String {
    if diagnostics.is_empty() {
        return String::new();
    }
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let renderer = renderer.decor_style(DecorStyle::Ascii);
    let mut text = String::new();
    for diagnostic in diagnostics.iter().take(RENDERED_MAX) {
        text.push_str(&render_one(diagnostic, &renderer));
        text.push_str("\n\n");
    }
    if diagnostics.len() > RENDERED_MAX {
        let more = diagnostics.len() - RENDERED_MAX;
        text.push_str(&format!("... and {more} more\n\n"));
    }
    text.push_str(&count_line(diagnostics));
    text
}

fn render_one(diagnostic: &Diagnostic, renderer: &Renderer) -> String {
    let place = &diagnostic.place;
    let (line, span) = cut_line(place);
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = match diagnostic.path.as_str() {
        "" => diagnostic.message.clone(),
        path => format!("{path}: {}", diagnostic.message),
    };
    let snippet = Snippet::source(line)
        .line_start(place.line())
        .path(place.source.name.as_str())
        .annotation(AnnotationKind::Primary.span(span));
    let report: &[Group<'_>] =
        &[level.primary_title(title).element(snippet).element(Level::HELP.message(diagnostic.help.as_str()))];
    renderer.render(report)
}

/// Puts asterisks over these places wherever diagnostics quote them.
pub(crate) fn hide<'p>(diagnostics: &mut [Diagnostic], secrets: impl Iterator<Item = &'p Place>) {
    let mut hidden: BTreeMap<usize, SourceText> = BTreeMap::new();
    for Place { source, start, end } in secrets {
        let text = &mut hidden.entry(source.order).or_insert_with(|| (**source).clone()).text;
        // As many bytes as before, so that places stay where they are.
        let covered: String = text[*start..*end].bytes().map(|byte| if byte == b'\n' { '\n' } else { '*' }).collect();
        text.replace_range(*start..*end, &covered);
    }
    let hidden: BTreeMap<usize, Arc<SourceText>> =
        hidden.into_iter().map(|(order, text)| (order, Arc::new(text))).collect();
    for diagnostic in diagnostics {
        if let Some(source) = hidden.get(&diagnostic.place.source.order) {
            diagnostic.place.source = Arc::clone(source);
        }
    }
}

/// The line of a place without its end, cut at its length's bound, and the place within it.
fn cut_line(place: &Place) -> (&str, Range<usize>) {
    let text = &place.source.text;
    let start = place.line_start();
    let end = text[start..].find('\n').map_or(text.len(), |length| start + length);
    let span_end = place.end.clamp(place.start, end);
    // Cutting the head of a line would show a wrong column, so only its tail is cut.
    let cut = floor_boundary(text, end.min((start + LINE_BYTES_MAX).max(place.start + 1))).max(place.start);
    let line = text[start..cut].trim_end_matches('\r');
    let span_start = (place.start - start).min(line.len());
    (line, span_start..(span_end - start).clamp(span_start, line.len()))
}

fn count_line(diagnostics: &[Diagnostic]) -> String {
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count();
    let words = |count: usize, word: &str| match count {
        1 => format!("1 {word}"),
        _ => format!("{count} {word}s"),
    };
    let warnings = diagnostics.len() - errors;
    match (errors, warnings) {
        (0, _) => format!("{}\n", words(warnings, "warning")),
        (_, 0) => format!("{}\n", words(errors, "error")),
        _ => format!("{}, {}\n", words(errors, "error"), words(warnings, "warning")),
    }
}

/// A value as a message repeats it: without control characters, cut, in backticks.
pub(crate) fn shown(text: &str) -> String {
    let mut shown = String::from("`");
    for (count, character) in text.chars().enumerate() {
        if count == SHOWN_CHARS_MAX {
            shown.push_str("...");
            break;
        }
        if character.is_control() {
            shown.extend(character.escape_debug());
        } else {
            shown.push(character);
        }
    }
    shown.push('`');
    shown
}

/// The candidate that `written` most likely meant, if one is near.
pub(crate) fn nearest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_lowercase();
    let length = written.chars().count();
    // Nothing that long is a misspelled key, and the distance costs the product of the lengths.
    if length > 64 {
        return None;
    }
    let allowed = (length / 3).clamp(1, 4);
    candidates
        .into_iter()
        .map(|candidate| (distance(&written, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one text into the other.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().collect();
    let width = right.len() + 1;
    let mut before_last = vec![0; width];
    let mut last: Vec<usize> = (0..width).collect();
    for (row, left_char) in left.iter().enumerate() {
        let mut current = vec![row + 1; width];
        for (column, right_char) in right.iter().enumerate() {
            let replaced = last[column] + usize::from(left_char != right_char);
            let mut best = replaced.min(last[column + 1] + 1).min(current[column] + 1);
            let swapped = row > 0 && column > 0 && left[row - 1] == *right_char && right[column - 1] == *left_char;
            if swapped {
                best = best.min(before_last[column - 1] + 1);
            }
            current[column + 1] = best;
        }
        before_last = last;
        last = current;
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Arc<SourceText> {
        Arc::new(SourceText { name: "gateway.yaml".into(), text: text.into(), order: 0 })
    }

    #[test]
    fn the_nearest_key_is_found_and_far_ones_are_not() {
        let keys = ["send_batch_size", "send_batch_max_size", "timeout"];
        assert_eq!(nearest("send_batch_sise", keys), Some("send_batch_size"));
        assert_eq!(nearest("tiemout", keys), Some("timeout"));
        assert_eq!(nearest("Timeout", keys), Some("timeout"));
        assert_eq!(nearest("compression", keys), None);
        assert_eq!(nearest("", keys), None);
        assert_eq!(nearest("a", ["b"]), None);
    }

    #[test]
    fn lines_and_columns_count_characters_from_one() {
        let source = source("a: 1\n# 采样\n采样: x\n");
        let at = source.text.rfind('x').unwrap();
        let place = Place::new(&source, at..at + 1);
        assert_eq!(place.to_string(), "gateway.yaml:3:5");
    }

    #[test]
    fn places_outside_the_text_are_moved_inside() {
        let source = source("é");
        assert_eq!(Place::new(&source, 1..9).to_string(), "gateway.yaml:1:1");
        assert_eq!(Place::new(&source, 9..9).to_string(), "gateway.yaml:1:2");
    }

    #[test]
    fn every_place_of_an_awkward_text_renders() {
        let source = source("\r\n\ta: \u{7}\u{202e}é\r\n\n采样\n");
        for start in 0..=source.text.len() {
            for end in start..=source.text.len() {
                let report = Report::default();
                report.error(&Place::new(&source, start..end), "", "m", "h");
                let (diagnostics, _) = report.finish();
                assert!(render(&diagnostics, false).contains("gateway.yaml:"));
            }
        }
    }

    #[test]
    fn a_long_line_is_cut() {
        let source = source(&"x".repeat(100_000));
        let report = Report::default();
        report.error(&Place::new(&source, 50_000..100_000), "", "m", "h");
        report.error(&Place::new(&source, 0..100_000), "", "m", "h");
        let (diagnostics, _) = report.finish();
        assert!(render(&diagnostics[..1], false).len() < 2000);
    }
}
