//! `ParseCSV`: one record of comma-separated values (RFC 4180, as Go reads it) under the names of its header.
//!
//! A text is one record even where it breaks off: the first field of a further line continues the last one of the line
//! before, as in the Collector.

use std::borrow::Cow;

use super::{Arguments, Function, Kind, converter, needed, optional};
use crate::fault::Fault;
use crate::value::{Entries, Value, put};

const MODES: Kind = Kind::Choice(&["strict", "lazyQuotes", "ignoreQuotes"]);

pub(super) const TABLE: &[Function] = &[converter(
    "ParseCSV",
    &[
        needed("target", Kind::Text),
        needed("header", Kind::Text),
        optional("delimiter", Kind::LetterLiteral),
        optional("header_delimiter", Kind::LetterLiteral),
        optional("mode", MODES),
    ],
    parse_csv,
)];

fn parse_csv<'v>(arguments: &mut Arguments<'v>) -> Result<Value<'v>, Fault> {
    let letter = |text: Option<Cow<'_, [u8]>>| {
        text.and_then(|text| str::from_utf8(&text).ok().and_then(|text| text.chars().next()))
    };
    let delimiter = letter(arguments.optional_text(2)).unwrap_or(',');
    let header_delimiter = letter(arguments.optional_text(3)).unwrap_or(delimiter);
    let mode = arguments.optional_text(4);
    let (text, header) = (arguments.letters(0), arguments.letters(1));
    if header.is_empty() {
        return Err(Fault::invalid("the header is an empty string"));
    }
    let names: Vec<&str> = header.split(header_delimiter).collect();
    let mode = mode.as_deref();
    // Counted before they are made: a text of commas has millions.
    let fields_max = names.len();
    if mode == Some(b"ignoreQuotes") && text.split(delimiter).nth(fields_max).is_some() {
        return Err(too_many(fields_max));
    }
    let fields = match mode {
        Some(b"ignoreQuotes") => text.split(delimiter).map(str::to_owned).collect(),
        mode => Reader { rest: &text, delimiter, is_lazy: mode == Some(b"lazyQuotes"), fields_max }.record()?,
    };
    if names.len() != fields.len() {
        let message = format!("the header has {} names, the string {} fields", names.len(), fields.len());
        return Err(Fault::invalid(message));
    }
    let mut entries: Entries<'v> = Vec::with_capacity(fields.len());
    for (name, field) in names.into_iter().zip(fields) {
        put(&mut entries, Cow::Owned(name.as_bytes().to_vec()), Value::owned_text(field));
    }
    Ok(Value::Map(entries))
}

fn too_many(names: usize) -> Fault {
    Fault::invalid(format!("the header has {names} names, the string more fields"))
}

/// What is still to be read of a text.
struct Reader<'t> {
    rest: &'t str,
    delimiter: char,
    /// A quote in the wrong place is a letter like any other.
    is_lazy: bool,
    /// More are an error.
    fields_max: usize,
}

/// What follows a field.
enum End {
    Field,
    Line,
}

impl Reader<'_> {
    /// All fields of all lines.
    fn record(mut self) -> Result<Vec<String>, Fault> {
        let mut fields: Vec<String> = Vec::new();
        let mut continues = false;
        self.skip_empty_lines();
        while !self.rest.is_empty() {
            loop {
                let (field, end) = self.field()?;
                let is_full = fields.len() == self.fields_max;
                match fields.last_mut().filter(|_| std::mem::take(&mut continues)) {
                    Some(last) => {
                        last.push('\n');
                        last.push_str(&field);
                    }
                    None if is_full => return Err(too_many(self.fields_max)),
                    None => fields.push(field),
                }
                if let End::Line = end {
                    break;
                }
            }
            continues = true;
            self.skip_empty_lines();
        }
        if fields.is_empty() {
            return Err(Fault::invalid("the string has no fields"));
        }
        Ok(fields)
    }

    fn skip_empty_lines(&mut self) {
        while let Some(after) = self.rest.strip_prefix('\n').or(self.rest.strip_prefix("\r\n")) {
            self.rest = after;
        }
    }

    fn field(&mut self) -> Result<(String, End), Fault> {
        match self.rest.strip_prefix('"') {
            Some(after) => {
                self.rest = after;
                self.quoted()
            }
            None => self.plain(),
        }
    }

    fn plain(&mut self) -> Result<(String, End), Fault> {
        let length = self.rest.find([self.delimiter, '\n']).unwrap_or(self.rest.len());
        let (field, rest) = self.rest.split_at(length);
        if !self.is_lazy && field.contains('"') {
            return Err(Fault::invalid("a quote stands in a field that does not start with one"));
        }
        self.rest = rest;
        let end = self.end().unwrap_or(End::Line);
        // The carriage return belongs to the end of the line.
        let field = if let End::Line = end { field.strip_suffix('\r').unwrap_or(field) } else { field };
        Ok((field.to_owned(), end))
    }

    /// Behind the first quote.
    fn quoted(&mut self) -> Result<(String, End), Fault> {
        let mut field = String::new();
        loop {
            let Some((before, after)) = self.rest.split_once('"') else {
                if !self.is_lazy {
                    return Err(Fault::invalid("a quote is not closed"));
                }
                field.push_str(&self.rest.replace("\r\n", "\n"));
                self.rest = "";
                return Ok((field, End::Line));
            };
            field.push_str(&before.replace("\r\n", "\n"));
            self.rest = after;
            if let Some(after) = self.rest.strip_prefix('"') {
                self.rest = after;
                field.push('"');
            } else if let Some(end) = self.end() {
                return Ok((field, end));
            } else if self.is_lazy {
                field.push('"');
            } else {
                return Err(Fault::invalid("something stands behind the closing quote of a field"));
            }
        }
    }

    /// Passes over what ends a field, if that is what comes.
    fn end(&mut self) -> Option<End> {
        if let Some(after) = self.rest.strip_prefix(self.delimiter) {
            self.rest = after;
            // A delimiter at the very end has an empty field behind it, which `plain` reads.
            return Some(End::Field);
        }
        if self.rest.is_empty() || self.rest == "\r" {
            self.rest = "";
            return Some(End::Line);
        }
        self.rest = self.rest.strip_prefix('\n').or(self.rest.strip_prefix("\r\n"))?;
        Some(End::Line)
    }
}
