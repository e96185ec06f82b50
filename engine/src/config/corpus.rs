//! The corpus: configurations as people bring them (`configs/corpus/`), each with the outcome that is expected of it.
//!
//! The first lines of a file say what it is, which variables it is read with (`# variable: NAME=value`), and what becomes of
//! it: `# tracegate: loads`, or one line `# tracegate: error at PATH: MESSAGE` for each error. After a change that is meant,
//! run this test with `UPDATE_CASES=1` and read the difference. `# otelcol: accepts|refuses: REASON` stands where the
//! Collector says otherwise; the interop scenarios hold a real one against it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::*;

/// Prefix of the lines with the outcome.
const OUTCOME: &str = "# tracegate: ";
const MACHINE: Machine = Machine { memory_bytes: 4 << 30 };

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/corpus")
}

/// All files below the folder, in order.
fn files() -> Vec<PathBuf> {
    let mut folders = vec![folder()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            match path.extension() {
                None => folders.push(path),
                Some(end) if end == "yaml" => files.push(path),
                Some(_) => {}
            }
        }
    }
    files.sort();
    files
}

fn loaded(text: &str) -> Loaded {
    let lines = text.lines().filter_map(|line| line.strip_prefix("# variable: "));
    let variables: BTreeMap<&str, &str> = lines.map(|line| line.split_once('=').unwrap()).collect();
    let file = Source::File { name: "gateway.yaml".into(), text: text.into() };
    load(&[file], &|name| variables.get(name).map(|value| (*value).to_owned()), &MACHINE)
}

/// The outcome as lines of the file's head.
fn outcome(loaded: &Loaded) -> Vec<String> {
    let errors = loaded.diagnostics.iter().filter(|diagnostic| diagnostic.is_error());
    let lines: Vec<String> =
        errors.map(|error| format!("{OUTCOME}error at {}: {}", error.path, error.message)).collect();
    if lines.is_empty() { vec![format!("{OUTCOME}loads")] } else { lines }
}

/// The text with the outcome at the end of its head.
fn rewritten(text: &str, outcome: &[String]) -> String {
    let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with(OUTCOME)).collect();
    let head = kept.iter().take_while(|line| line.starts_with('#')).count();
    let outcome = outcome.iter().map(String::as_str);
    let lines: Vec<&str> = kept[..head].iter().copied().chain(outcome).chain(kept[head..].iter().copied()).collect();
    lines.join("\n") + "\n"
}

#[test]
fn each_file_of_the_corpus_loads_or_says_exactly_why_not() {
    let files = files();
    let (mut loads, mut refused) = (0, 0);
    for path in &files {
        let text = std::fs::read_to_string(path).unwrap();
        let loaded = loaded(&text);
        let outcome = outcome(&loaded);
        if std::env::var_os("UPDATE_CASES").is_some() {
            std::fs::write(path, rewritten(&text, &outcome)).unwrap();
        } else {
            let kept: Vec<&str> = text.lines().filter(|line| line.starts_with(OUTCOME)).collect();
            assert_eq!(outcome, kept, "{}", path.display());
        }
        assert_eq!(loaded.config.is_some(), !loaded.has_errors(), "{}", path.display());
        for diagnostic in &loaded.diagnostics {
            assert!(!diagnostic.help.is_empty() && diagnostic.place.line() > 1, "{}: {diagnostic:?}", path.display());
        }
        if loaded.has_errors() { refused += 1 } else { loads += 1 }
    }
    let gateways = files.iter().filter(|path| path.parent() == Some(folder().as_path())).count();
    assert!(gateways >= 30, "only {gateways} gateway files");
    assert!(loads >= 20 && refused >= 5, "{loads} load, {refused} are refused");
}

#[test]
fn migrate_says_that_something_is_missing_exactly_where_a_file_does_not_load() {
    for path in files() {
        let loaded = loaded(&std::fs::read_to_string(&path).unwrap());
        let review = review::review(&loaded);
        // An extension that we lack keeps nobody from starting, and is still missing.
        let extension =
            |part: &review::Part| part.section == "extensions" && part.used && part.verdict == review::Verdict::Missing;
        let expected = loaded.has_errors() || review.parts.iter().any(extension);
        assert_eq!(review.lacks_something(), expected, "{}: {review:?}", path.display());
    }
}

#[test]
fn what_is_printed_for_the_collector_is_the_same_configuration_here() {
    for path in files() {
        let text = std::fs::read_to_string(&path).unwrap();
        let file = Source::File { name: "gateway.yaml".into(), text: text.clone() };
        let printed = otelcol::translate(&[file], false).unwrap().text;
        let variables: String =
            text.lines().filter(|line| line.starts_with("# variable")).map(|line| format!("{line}\n")).collect();
        // The address of the metrics page is written differently, and nothing else.
        let config = |text: &str| loaded(text).config.map(|config| format!("{config:?}"));
        assert_eq!(config(&format!("{variables}{printed}")), config(&text), "{}\n{printed}", path.display());
    }
}
