//! What the fuzz target of the configuration runs and `cargo test` replays.
//!
//! Not part of the interface. Any bytes as the text of a file: reading them ends, and either gives a configuration or says
//! what is wrong with them, in words that can be shown.

use super::{Machine, Source, load, render};

/// Any bytes as a configuration.
///
/// # Panics
/// A promise of [`load`] is broken.
pub fn fuzz_configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let source = Source::File { name: "fuzz.yaml".to_owned(), text: text.to_owned() };
    // A variable may stand for anything, also for what refers to another.
    let environment = |name: &str| (!name.starts_with('N')).then(|| format!("${{N{name}}}"));
    let loaded = load(&[source], &environment, &Machine { memory_bytes: 1 << 30 });
    assert!(loaded.config.is_none() || !loaded.has_errors(), "what has errors must not run");
    let said = render(&loaded.diagnostics, false);
    assert_eq!(said.is_empty(), loaded.diagnostics.is_empty(), "what is wrong is said");
    for redacted in [false, true] {
        // Printing what was read must not fail, whatever it means.
        drop(loaded.print(redacted));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    #[test]
    fn the_corpus_of_configurations_is_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/configuration");
        let files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!files.is_empty(), "{} is empty", folder.display());
        for file in files {
            // Shown only if this file fails.
            println!("{}", file.display());
            fuzz_configuration(&fs::read(&file).unwrap());
        }
    }

    #[test]
    fn a_configuration_that_ends_or_is_spoiled_anywhere_is_read() {
        let whole = crate::config::BUILTIN.as_bytes();
        for end in 0..whole.len() {
            fuzz_configuration(&whole[..end]);
            let mut spoiled = whole.to_vec();
            spoiled[end] = b"{[&*!|>'\"%:-#\t\n$"[end % 16];
            fuzz_configuration(&spoiled);
        }
    }
}
