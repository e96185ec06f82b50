//! Names for addresses: functions, files and lines, from the debug information of the program itself.
//!
//! A program without it (stripped) gives none; then `go tool pprof PROGRAM FILE` finds them in a copy that has them.

use super::proto::Line;
use std::collections::HashMap;

/// Characters of a name that are kept: those of generic functions grow without end.
const NAME_MAX: usize = 1024;

/// The functions at each address, the innermost of those that were built into one another first.
pub(super) fn resolve(addresses: impl Iterator<Item = u64>) -> HashMap<u64, Vec<Line>> {
    let mut found = HashMap::new();
    for address in addresses {
        found.entry(address).or_insert_with(|| lines(address));
    }
    // The library keeps what it has read; it would be in use for ever.
    backtrace::clear_symbol_cache();
    found
}

fn lines(address: u64) -> Vec<Line> {
    let mut lines = Vec::new();
    // The library expects a return address, and looks at the byte before it.
    let after = std::ptr::without_provenance_mut(address as usize + 1);
    backtrace::resolve(after, |symbol| {
        let name = symbol.name().map(|name| format!("{name:#}")).unwrap_or_default();
        let file = symbol.filename().map(|file| file.display().to_string()).unwrap_or_default();
        if !name.is_empty() {
            let function = name.chars().take(NAME_MAX).collect();
            lines.push(Line { function, file, line: symbol.lineno().unwrap_or_default() });
        }
    });
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_the_name_of_its_function() {
        let address = lines as *const () as u64 + 1;
        let found = resolve([address, 16].into_iter());
        let names: Vec<&str> = found[&address].iter().map(|line| line.function.as_str()).collect();
        assert!(names.iter().any(|name| name.ends_with("profile::symbols::lines")), "{names:?}");
        assert!(found[&address].iter().any(|line| line.file.ends_with("symbols.rs") && line.line > 0));
        assert!(found[&16].is_empty());
    }
}
