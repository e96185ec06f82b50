//! Which files a receiver reads: patterns of paths, as shells know them.
//!
//! ```text
//! *  any characters of a name     ?  one      [a-z] [!a-z]  one of these, none of these      \  the next as it is
//! ** any number of directories    {a,b}  either
//! ```
//!
//! The one idea: a pattern is cut into the names between its slashes, and directories are only listed where a name has
//! wildcards. What one look may list is bounded. Never follows a link that `**` finds, so there are no circles.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Entries of directories that one look goes through, at most.
const ENTRIES_MAX: usize = 100_000;
/// Patterns that the braces of one may stand for, at most.
const ALTERNATIVES_MAX: usize = 64;
/// Directories below each other that `**` goes down, at most.
const DEPTH_MAX: usize = 32;

/// A pattern without braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    begins_at_root: bool,
    names: Vec<String>,
}

impl Pattern {
    /// Reads a pattern; with braces it is several. The error says what is wrong with it.
    pub fn read(text: &str) -> Result<Vec<Pattern>, String> {
        let mut texts = vec![text.to_owned()];
        let mut patterns = Vec::new();
        while let Some(text) = texts.pop() {
            match alternatives(&text)? {
                Some(several) => texts.extend(several.into_iter().rev()),
                None => patterns.push(Pattern::without_braces(&text)?),
            }
            if texts.len() + patterns.len() > ALTERNATIVES_MAX {
                return Err(format!("its braces stand for more than {ALTERNATIVES_MAX} patterns"));
            }
        }
        Ok(patterns)
    }

    fn without_braces(text: &str) -> Result<Pattern, String> {
        let names: Vec<String> =
            text.split('/').filter(|name| !name.is_empty() && *name != ".").map(str::to_owned).collect();
        if names.is_empty() || text.ends_with('/') {
            return Err("it names no file".to_owned());
        }
        for name in &names {
            if name != "**" && name.contains("**") {
                return Err("`**` stands for directories, alone between two slashes".to_owned());
            }
            is_well_formed(name)?;
        }
        Ok(Pattern { begins_at_root: text.starts_with('/'), names })
    }

    /// Whether the pattern means this path.
    pub fn matches(&self, path: &Path) -> bool {
        let names: Vec<&str> = path
            .components()
            .filter_map(|component| match component {
                Component::Normal(name) => name.to_str(),
                Component::ParentDir => Some(".."),
                _ => None,
            })
            .collect();
        self.begins_at_root == path.has_root() && match_path(&self.names, &names)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.begins_at_root { "/" } else { "" })?;
        f.write_str(&self.names.join("/"))
    }
}

/// The first pair of braces as what it stands for; `None` without any.
fn alternatives(text: &str) -> Result<Option<Vec<String>>, String> {
    let Some(opened) = text.find('{') else { return Ok(None) };
    let mut depth = 0;
    let (mut begin, mut choices) = (opened + 1, Vec::new());
    for (at, character) in text.char_indices().skip_while(|(at, _)| *at < opened) {
        match character {
            '{' => depth += 1,
            ',' if depth == 1 => {
                choices.push(&text[begin..at]);
                begin = at + 1;
            }
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            choices.push(&text[begin..at]);
            let whole = |choice: &&str| format!("{}{choice}{}", &text[..opened], &text[at + 1..]);
            return Ok(Some(choices.iter().map(whole).collect()));
        }
    }
    Err("a `{` has no `}`".to_owned())
}

fn is_well_formed(name: &str) -> Result<(), String> {
    let mut rest = name.chars();
    while let Some(character) = rest.next() {
        match character {
            '\\' if rest.next().is_none() => return Err("nothing follows the last `\\`".to_owned()),
            '[' if Class::read(&mut rest).is_none() => return Err("a `[` has no `]`".to_owned()),
            _ => {}
        }
    }
    Ok(())
}

/// Names below each other against names with wildcards.
fn match_path(pattern: &[String], names: &[&str]) -> bool {
    match (pattern.split_first(), names.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "**" => {
            (0..=names.len()).any(|skipped| match_path(rest, &names[skipped..]))
        }
        (Some((first, pattern)), Some((name, names))) => match_name(first, name) && match_path(pattern, names),
        _ => false,
    }
}

/// A name against one with wildcards. The last `*` is the only one that is ever tried again, so this is no worse than
/// one length times the other.
fn match_name(pattern: &str, name: &str) -> bool {
    let (mut pattern, mut name) = (pattern.chars(), name.chars());
    let mut star = None;
    loop {
        let name_before = name.clone();
        let matches = match (pattern.next(), name.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                star = Some((pattern.clone(), name_before.clone()));
                name = name_before;
                continue;
            }
            (Some('?'), Some(_)) => true,
            (Some('['), Some(character)) => Class::read(&mut pattern).is_some_and(|class| class.has(character)),
            (Some('\\'), Some(character)) => pattern.next() == Some(character),
            (Some(expected), Some(character)) => expected == character,
            (None, Some(_)) | (Some(_), None) => false,
        };
        if matches {
            continue;
        }
        // One character more for the star.
        let Some((behind, mut rest)) = star.take() else { return false };
        if rest.next().is_none() {
            return false;
        }
        star = Some((behind.clone(), rest.clone()));
        (pattern, name) = (behind, rest);
    }
}

/// What stands between `[` and `]`.
struct Class {
    negated: bool,
    ranges: Vec<(char, char)>,
}

impl Class {
    /// Reads behind the `[`; `None` without an end.
    fn read(rest: &mut std::str::Chars<'_>) -> Option<Class> {
        let mut class = Class { negated: false, ranges: Vec::new() };
        let mut next = rest.next()?;
        if matches!(next, '!' | '^') {
            class.negated = true;
            next = rest.next()?;
        }
        loop {
            let first = if next == '\\' { rest.next()? } else { next };
            let mut last = first;
            next = rest.next()?;
            if next == '-' {
                last = match rest.next()? {
                    '\\' => rest.next()?,
                    other => other,
                };
                next = rest.next()?;
            }
            class.ranges.push((first, last));
            if next == ']' {
                return Some(class);
            }
        }
    }

    fn has(&self, character: char) -> bool {
        self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&character)) != self.negated
    }
}

/// The files that `include` means and `exclude` does not, sorted by path, each once; and whether everything could be looked
/// at, so that what is not found is not there.
pub fn find(include: &[Pattern], exclude: &[Pattern]) -> (Vec<PathBuf>, bool) {
    let mut look = Look { found: Vec::new(), entries_left: ENTRIES_MAX, saw_all: true };
    for pattern in include {
        let root = if pattern.begins_at_root { PathBuf::from("/") } else { PathBuf::new() };
        look.walk(&root, &pattern.names, 0);
    }
    let mut found = look.found;
    found.retain(|path| !exclude.iter().any(|pattern| pattern.matches(path)));
    found.sort_unstable();
    found.dedup();
    (found, look.saw_all)
}

struct Look {
    found: Vec<PathBuf>,
    entries_left: usize,
    saw_all: bool,
}

impl Look {
    fn walk(&mut self, directory: &Path, names: &[String], depth: usize) {
        let Some((first, rest)) = names.split_first() else { return };
        if first == "**" {
            self.walk_all(directory, rest, depth);
        } else if first.contains(['*', '?', '[', '\\']) {
            for name in self.list(directory).into_iter().filter(|name| match_name(first, name)) {
                self.step(&directory.join(name), rest, depth);
            }
        } else {
            self.step(&directory.join(first), rest, depth);
        }
    }

    fn step(&mut self, path: &Path, rest: &[String], depth: usize) {
        if !rest.is_empty() {
            self.walk(path, rest, depth);
        } else {
            match fs::metadata(path) {
                Ok(metadata) if metadata.is_file() => self.found.push(path.to_owned()),
                Ok(_) => {}
                Err(error) => self.missed(&error),
            }
        }
    }

    /// `**`: here, and in every directory below.
    fn walk_all(&mut self, directory: &Path, rest: &[String], depth: usize) {
        if depth > DEPTH_MAX {
            return;
        }
        let everything = ["*".to_owned()];
        self.walk(directory, if rest.is_empty() { &everything } else { rest }, depth);
        for name in self.list(directory) {
            let path = directory.join(name);
            if path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
                self.walk_all(&path, rest, depth + 1);
            }
        }
    }

    /// Names in a directory; none of one that cannot be read, and of what is not UTF-8.
    fn list(&mut self, directory: &Path) -> Vec<String> {
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) => {
                self.missed(&error);
                return Vec::new();
            }
        };
        let mut names = Vec::new();
        for entry in entries.take(self.entries_left) {
            match entry {
                Ok(entry) => names.extend(entry.file_name().into_string().ok()),
                Err(error) => self.missed(&error),
            }
        }
        self.entries_left = self.entries_left.saturating_sub(names.len());
        self.saw_all &= self.entries_left > 0;
        names
    }

    /// Something could not be looked at; what is not there is no such thing.
    fn missed(&mut self, error: &io::Error) {
        self.saw_all &= matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, path: &str, expected: bool) {
        let patterns = Pattern::read(pattern).unwrap();
        let found = patterns.iter().any(|pattern| pattern.matches(Path::new(path)));
        assert_eq!(found, expected, "{pattern} and {path}");
    }

    #[test]
    fn patterns_mean_paths_as_in_a_shell() {
        check("/var/*.json", "/var/a.json", true);
        check("/var/*.json", "var/a.json", false);
        check("/var/*.json", "/var/b/a.json", false);
        check("/var/a-*-*.json", "/var/a-b-c-d.json", true);
        check("/var/a-*-*.json", "/var/a-b.json", false);
        check("/var/a?.json", "/var/ab.json", true);
        check("/var/[a-c][!x].json", "/var/bx.json", false);
        check("/var/[a-c][^x].json", "/var/by.json", true);
        check("/var/**/a.json", "/var/a.json", true);
        check("/var/**/a.json", "/var/b/c/a.json", true);
        check("/var/**", "/var/b/c/a.json", true);
        check("/var/{a,b{c,d}}.json", "/var/bd.json", true);
        check("/var/{a,b{c,d}}.json", "/var/b.json", false);
        check("/var/\\*", "/var/*", true);
        check("/var/\\*", "/var/a", false);
        check("./a.json", "a.json", true);
    }

    #[test]
    fn patterns_that_mean_nothing_are_refused_with_the_reason() {
        for (pattern, word) in
            [("", "no file"), ("/var/", "no file"), ("a[b", "`]`"), ("{a", "`}`"), ("a\\", "`\\`"), ("a**", "alone")]
        {
            let error = Pattern::read(pattern).unwrap_err();
            assert!(error.contains(word), "{pattern}: {error}");
        }
        assert!(Pattern::read(&"{a,b}".repeat(10)).is_err(), "1024 patterns");
    }

    #[test]
    fn files_are_found_once_and_sorted_and_what_is_excluded_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_str().unwrap();
        for name in ["b/c", "b/d"] {
            fs::create_dir_all(directory.path().join(name)).unwrap();
        }
        for name in ["b.json", "a.json", "a.txt", "b/c/d.json", "b/d/no.json"] {
            fs::write(directory.path().join(name), "").unwrap();
        }
        let read = |texts: &[&str]| -> Vec<Pattern> {
            texts.iter().flat_map(|text| Pattern::read(&format!("{root}/{text}")).unwrap()).collect()
        };
        let (found, saw_all) = find(&read(&["**/*.json", "a.*", "missing/*"]), &read(&["**/no*"]));
        assert!(saw_all, "a directory that is not there holds nothing");
        let names = ["a.json", "a.txt", "b/c/d.json", "b.json"].map(|name| directory.path().join(name));
        assert_eq!(found, names);
    }
}
