//! Names for addresses: functions, files and lines, from the program's own symbol table and debug information.
//!
//! The build keeps line tables only. They know every function that was built into another one, but by its last name
//! (`poll`), so the outermost function of an address takes its full name from the symbol table, and the others take their
//! module from the file they are written in.
//!
//! A program without symbols (stripped) gives none; then `go tool pprof PROGRAM FILE` finds them in a copy that has them.

use super::elf::SymbolTable;
use super::proto::Line;
use backtrace::SymbolName;
use std::collections::HashMap;

/// Characters of a name that are kept: those of generic functions grow without end.
const NAME_MAX: usize = 1024;

/// The functions at each address, the innermost of those that were built into one another first.
pub(super) fn resolve(addresses: impl Iterator<Item = u64>) -> HashMap<u64, Vec<Line>> {
    let table = SymbolTable::of_this_program();
    let mut found = HashMap::new();
    for address in addresses {
        found.entry(address).or_insert_with(|| lines(address, table.as_ref()));
    }
    // The library keeps what it has read; it would be in use for ever.
    backtrace::clear_symbol_cache();
    found
}

fn lines(address: u64, table: Option<&SymbolTable>) -> Vec<Line> {
    let mut lines = Vec::new();
    // The library expects a return address, and looks at the byte before it.
    let after = std::ptr::without_provenance_mut(address as usize + 1);
    backtrace::resolve(after, |symbol| {
        let name = symbol.name().map(|name| demangled(&name)).unwrap_or_default();
        let file = symbol.filename().map(|file| file.display().to_string()).unwrap_or_default();
        if !name.is_empty() {
            let function = if name.contains("::") { name } else { in_module(name, &file) };
            lines.push(Line { function, file, line: symbol.lineno().unwrap_or_default() });
        }
    });
    if let Some(name) = table.and_then(|table| table.name(address)) {
        let function = demangled(&SymbolName::new(name));
        match lines.last_mut() {
            Some(outermost) => outermost.function = function,
            None => lines.push(Line { function, ..Line::default() }),
        }
    }
    lines
}

/// As people write it, without the hash that tells versions apart.
fn demangled(name: &SymbolName<'_>) -> String {
    format!("{name:#}").chars().take(NAME_MAX).collect()
}

/// A last name with the crate and module that its file belongs to: `engine/src/shard/run.rs` is `engine::shard::run`.
fn in_module(name: String, file: &str) -> String {
    let Some((directory, path)) = file.rsplit_once("/src/") else { return name };
    let directory = directory.rsplit('/').next().unwrap_or(directory);
    // Packages of others lie in folders with their version.
    let package = directory.split_once("-").filter(|(_, rest)| rest.starts_with(|it: char| it.is_ascii_digit()));
    let package = package.map_or(directory, |(package, _)| package).replace('-', "_");
    let path = path.trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    // Arguments of a generic function are long and say little.
    let name = if name.starts_with('<') { name.as_str() } else { name.split('<').next().unwrap_or(&name) };
    match path {
        "lib" | "main" | "mod" => format!("{package}::{name}"),
        path => format!("{package}::{}::{name}", path.replace('/', "::")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_the_name_of_its_function() {
        let address = lines as *const () as u64 + 1;
        let found = resolve([address, 16].into_iter());
        let names: Vec<&str> = found[&address].iter().map(|line| line.function.as_str()).collect();
        assert_eq!(names.last(), Some(&"engine::profile::symbols::lines"), "{names:?}");
        assert!(found[&address].iter().any(|line| line.file.ends_with("symbols.rs") && line.line > 0));
        assert!(found[&16].is_empty());
    }

    #[test]
    fn last_names_get_the_module_of_their_file() {
        for (name, file, expected) in [
            ("poll", "engine/src/shard/run.rs", "engine::shard::run::poll"),
            ("poll", "/work/engine/src/transport/mod.rs", "engine::transport::poll"),
            (
                "new<u8, bool>",
                "/root/.cargo/registry/src/index-1/h2-0.4.20/src/proto/go_away.rs",
                "h2::proto::go_away::new",
            ),
            ("spawn", "/cargo/registry/src/i/futures-util-0.3.34/src/lib.rs", "futures_util::spawn"),
            ("{closure#0}", "/rustc/59807616e/library/core/src/ops/function.rs", "core::ops::function::{closure#0}"),
            ("ZSTD_compress", "zstd/lib/compress/zstd_compress.c", "ZSTD_compress"),
        ] {
            assert_eq!(in_module(name.to_owned(), file), expected);
        }
    }
}
