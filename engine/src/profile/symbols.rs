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
            let function = if name.contains("::") { name } else { in_module(&name, &file) };
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
    plain(&format!("{name:#}")).chars().take(NAME_MAX).collect()
}

/// Without what stands in angle brackets, which readers of profiles take for arguments of templates and leave out:
/// `<Vec<u8> as Write>::write` is `Vec::write`, `Vec<u8>::push` is `Vec::push`.
fn plain(name: &str) -> String {
    let (itself, rest) = match name.strip_prefix('<') {
        Some(inner) => {
            let end = closing(inner);
            let (implementor, rest) = (&inner[..end], inner.get(end + 1..).unwrap_or_default());
            (outside_brackets(implementor), rest)
        }
        None => (String::new(), name),
    };
    let itself = itself.split(" as ").next().unwrap_or_default();
    itself.to_owned() + &outside_brackets(rest)
}

/// Where the bracket ends whose inside this is.
fn closing(inner: &str) -> usize {
    let mut depth = 0;
    let closes = |at: usize, byte: u8| match byte {
        b'<' => {
            depth += 1;
            false
        }
        // An arrow is no bracket.
        b'>' if at > 0 && inner.as_bytes()[at - 1] == b'-' => false,
        b'>' if depth == 0 => true,
        b'>' => {
            depth -= 1;
            false
        }
        _ => false,
    };
    let mut closes = closes;
    inner.bytes().enumerate().find(|(at, byte)| closes(*at, *byte)).map_or(inner.len(), |(at, _)| at)
}

/// What stands in no bracket; `::<T>` loses its colons too.
fn outside_brackets(mut text: &str) -> String {
    let mut out = String::new();
    while let Some((before, inner)) = text.split_once('<') {
        out.push_str(before.strip_suffix("::").unwrap_or(before));
        text = inner.get(closing(inner) + 1..).unwrap_or_default();
    }
    out + text
}

/// A last name with the crate and module that its file belongs to: `engine/src/shard/run.rs` is `engine::shard::run`.
fn in_module(name: &str, file: &str) -> String {
    let Some((directory, path)) = file.strip_suffix(".rs").and_then(|file| file.rsplit_once("/src/")) else {
        return name.to_owned();
    };
    let directory = directory.rsplit('/').next().unwrap_or(directory);
    // Packages of others lie in folders with their version.
    let is_version = |at: usize| directory[at + 1..].starts_with(|it: char| it.is_ascii_digit());
    let version = directory.match_indices('-').find(|(at, _)| is_version(*at));
    let package = version.map_or(directory, |(at, _)| &directory[..at]).replace('-', "_");
    let path = path.strip_suffix("/mod").unwrap_or(path);
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
            ("poll", "/home/one/tracegate/engine/src/transport/mod.rs", "engine::transport::poll"),
            (
                "new<u8, bool>",
                "/root/.cargo/registry/src/index-1/h2-0.4.20/src/proto/go_away.rs",
                "h2::proto::go_away::new",
            ),
            ("spawn", "/cargo/registry/src/i/futures-util-0.3.34/src/lib.rs", "futures_util::spawn"),
            ("{closure#0}", "/rustc/59807616e/library/core/src/ops/function.rs", "core::ops::function::{closure#0}"),
            ("ZSTD_compress", "zstd/src/compress/zstd_compress.c", "ZSTD_compress"),
        ] {
            assert_eq!(in_module(&plain(name), file), expected);
        }
    }

    #[test]
    fn names_lose_their_brackets_and_nothing_else() {
        for (name, expected) in [
            ("engine::shard::run::Shard::connect::{{closure}}", "engine::shard::run::Shard::connect::{{closure}}"),
            ("<alloc::vec::Vec<u8> as std::io::Write>::write", "alloc::vec::Vec::write"),
            ("<alloc::raw_vec::RawVec<T, A>>::grow::<u8>", "alloc::raw_vec::RawVec::grow"),
            (
                "<fn(&mut u8) -> core::option::Option<bool> as FnOnce<()>>::call_once",
                "fn(&mut u8) -> core::option::Option::call_once",
            ),
            ("core::ptr::drop_in_place<[alloc::boxed::Box<u8>]>", "core::ptr::drop_in_place"),
            ("<unclosed", "unclosed"),
            ("a<b", "a"),
            ("", ""),
        ] {
            assert_eq!(plain(name), expected);
        }
    }
}
