//! What is wrong with a JSON body, and where.

use std::fmt;

/// A JSON body that is not what it should be: where, what was expected, what was found, in words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonError {
    /// Byte at which reading stumbled.
    pub offset: usize,
    /// Its line, from 1.
    pub line: usize,
    /// Its place in the line in bytes, from 1.
    pub column: usize,
    /// The field, such as `resourceSpans[0].resource`; empty at the top.
    pub path: String,
    /// What should stand there.
    pub expected: String,
    /// What stands there.
    pub found: String,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset, line, column, path, expected, found } = self;
        let colon = if path.is_empty() { "" } else { ": " };
        write!(f, "{path}{colon}expected {expected}, found {found} at line {line}, column {column} (byte {offset})")
    }
}

impl std::error::Error for JsonError {}

/// Longest path that is told whole; of a longer one the inner end is.
const PATH_BYTES_MAX: usize = 200;

impl JsonError {
    /// Something unexpected at `offset` of `json`.
    #[cold]
    pub(super) fn new(json: &[u8], offset: usize, expected: impl Into<String>, found: String) -> Box<Self> {
        let before = &json[..offset];
        let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
        Box::new(Self {
            offset,
            line: 1 + before.iter().filter(|&&byte| byte == b'\n').count(),
            column: 1 + offset - line_start,
            path: String::new(),
            expected: expected.into(),
            found,
        })
    }

    /// The same error seen from the message that holds field `name`.
    #[cold]
    pub(super) fn in_field(self: Box<Self>, name: &str) -> Box<Self> {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.with_outer(&format!("{name}{dot}"))
    }

    /// The same error seen from the list whose element number `index` holds it.
    #[cold]
    pub(super) fn in_element(self: Box<Self>, index: usize) -> Box<Self> {
        let dot = if self.path.is_empty() { "" } else { "." };
        self.with_outer(&format!("[{index}]{dot}"))
    }

    fn with_outer(mut self: Box<Self>, outer: &str) -> Box<Self> {
        if self.path.len() + outer.len() <= PATH_BYTES_MAX {
            self.path.insert_str(0, outer);
        } else if !self.path.starts_with("...") {
            self.path.insert_str(0, "...");
        }
        self
    }
}
