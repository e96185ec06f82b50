//! The symbol table of the running program: which function lies at an address.
//!
//! Read from `/proc/self/exe`: the section headers, one section of symbols, one of their names. Layouts are those of the ELF
//! specification for 64 bits, little-endian, which is what Linux runs on everywhere we do; anything else gives no table.
//! What is not as expected ends the reading, and profiles have shorter names.

use std::fs::File;
use std::os::unix::fs::FileExt;

const PROGRAM: &str = "/proc/self/exe";
/// "ELF" for 64 bits, little-endian.
const MAGIC: [u8; 6] = [0x7f, b'E', b'L', b'F', 2, 1];
const HEADER_BYTES: usize = 64;
const SECTION_BYTES: usize = 64;
const SEGMENT_BYTES: usize = 56;
const SYMBOL_BYTES: usize = 24;
/// Kinds of sections, segments and symbols.
const SYMBOL_TABLE: u32 = 2;
const LOADED: u32 = 1;
const FUNCTION: u8 = 2;
/// A program's table has some tens of MiB without optimisation, a few with.
const TABLE_BYTES_MAX: u64 = 256 << 20;

/// Functions by their addresses.
#[derive(Debug)]
pub(super) struct SymbolTable {
    /// Sorted by address.
    functions: Vec<Function>,
    names: Vec<u8>,
    /// Where the program was loaded, less where its file says.
    moved: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Function {
    start: u64,
    bytes: u64,
    /// Where its name begins.
    name: u32,
}

impl SymbolTable {
    /// That of this process; `None` if it has none, or another kind.
    pub(super) fn of_this_program() -> Option<SymbolTable> {
        let file = File::open(PROGRAM).ok()?;
        let header = read(&file, 0, HEADER_BYTES as u64)?;
        if !header.starts_with(&MAGIC) {
            return None;
        }
        let table = |start: usize, count: usize, bytes: usize| {
            let count = u64::from(half(&header, count)?);
            read(&file, long(&header, start)?, count * bytes as u64)
        };
        let (segments, sections) = (table(32, 56, SEGMENT_BYTES)?, table(40, 60, SECTION_BYTES)?);
        let lowest = segments.chunks_exact(SEGMENT_BYTES).find(|segment| word(segment, 0) == Some(LOADED))?;
        let moved = loaded_at()?.wrapping_sub(long(lowest, 16)? & !0xfff);
        let section = |number: usize| sections.chunks_exact(SECTION_BYTES).nth(number);
        let bytes_of = |section: &[u8]| read(&file, long(section, 24)?, long(section, 32)?);
        let symbols = sections.chunks_exact(SECTION_BYTES).find(|section| word(section, 4) == Some(SYMBOL_TABLE))?;
        let names = bytes_of(section(word(symbols, 40)? as usize)?)?;
        Some(SymbolTable { functions: functions(&bytes_of(symbols)?), names, moved })
    }

    /// The name of the function at `address` as the linker knows it.
    pub(super) fn name(&self, address: u64) -> Option<&[u8]> {
        let address = address.wrapping_sub(self.moved);
        let after = self.functions.partition_point(|function| function.start <= address);
        let function = self.functions[..after].last()?;
        let name = self.names.get(function.name as usize..)?;
        let name = name.split(|byte| *byte == 0).next()?;
        (address - function.start < function.bytes && !name.is_empty()).then_some(name)
    }
}

/// Every function of a symbol table with a place and a size, sorted.
fn functions(symbols: &[u8]) -> Vec<Function> {
    let parse = |symbol: &[u8]| {
        let is_function = symbol[4] & 0xf == FUNCTION;
        let function = Function { start: long(symbol, 8)?, bytes: long(symbol, 16)?, name: word(symbol, 0)? };
        (is_function && function.bytes > 0).then_some(function)
    };
    let mut functions: Vec<Function> = symbols.chunks_exact(SYMBOL_BYTES).filter_map(parse).collect();
    functions.sort_unstable();
    functions
}

/// Where the program's file begins in memory.
fn loaded_at() -> Option<u64> {
    let program = std::fs::read_link(PROGRAM).ok()?;
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.ends_with(&*program.to_string_lossy()))?;
    u64::from_str_radix(line.split('-').next()?, 16).ok()
}

/// So many bytes of the file, if it has them and they are not absurdly many.
fn read(file: &File, start: u64, bytes: u64) -> Option<Vec<u8>> {
    if bytes > TABLE_BYTES_MAX {
        return None;
    }
    let mut read = vec![0; usize::try_from(bytes).ok()?];
    file.read_exact_at(&mut read, start).ok()?;
    Some(read)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_function_is_in_the_table() {
        let table = SymbolTable::of_this_program().expect("tests are not stripped");
        let name = table.name(loaded_at as *const () as u64 + 3).expect("it is a function");
        assert!(String::from_utf8_lossy(name).contains("loaded_at"));
        assert_eq!(table.name(16), None);
        assert_eq!(table.name(u64::MAX), None);
    }

    #[test]
    fn symbols_that_are_no_functions_are_left_out() {
        let symbol = |kind: u8, start: u64, bytes: u64| {
            let mut symbol = [0; SYMBOL_BYTES];
            symbol[4] = kind;
            symbol[8..16].copy_from_slice(&start.to_le_bytes());
            symbol[16..24].copy_from_slice(&bytes.to_le_bytes());
            symbol
        };
        let table = [symbol(0x12, 200, 5), symbol(0x11, 50, 5), symbol(0x02, 100, 5), symbol(0x12, 300, 0)].concat();
        let starts: Vec<u64> = functions(&table).iter().map(|function| function.start).collect();
        assert_eq!(starts, [100, 200]);
        assert!(functions(&table[..SYMBOL_BYTES - 1]).is_empty());
    }
}
