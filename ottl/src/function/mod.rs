//! Converters: a table of names, parameters and functions. Each is pure: values in, a value or a fault out.
//!
//! Parameters say what they take; the evaluator converts before it calls, so that a function never meets another type.

mod chance;
mod clock;
mod container;
mod convert;
mod csv;
mod grok;
mod grok_patterns;
mod hash;
mod hash128;
mod network;
mod parse;
mod severity;
mod text;

use std::borrow::Cow;

use regex::bytes::Regex;

use crate::fault::Fault;
use crate::pattern;
use crate::program::{ARGUMENTS_MAX, Environment};
use crate::value::{Text, Value};
use crate::zone::Zone;
pub(crate) use grok::Grok;
pub(crate) use severity::Severities;

/// A converter.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) parameters: &'static [Parameter],
    /// Whether its result hides its argument: hashes and `Mask`.
    pub(crate) masks: bool,
    pub(crate) run: for<'v> fn(&mut Arguments<'v>) -> Result<Value<'v>, Fault>,
}

/// A parameter of a converter or an editor.
#[derive(Debug)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) optional: bool,
}

/// What a parameter takes. `...Like` kinds convert, and pass nil on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Any,
    Text,
    TextLike,
    Int,
    IntLike,
    DoubleLike,
    BoolLike,
    BytesLike,
    Time,
    Duration,
    List,
    TextList,
    TextLikeList,
    Map,
    /// A regular expression; compiled at load if it is a literal.
    Pattern,
    /// A glob; compiled at load if it is a literal.
    Glob,
    /// A literal string that is one of these.
    Choice(&'static [&'static str]),
    /// A literal string that is a format of times.
    TimeFormat,
    /// A literal string that names a time zone; empty is UTC.
    Location,
    /// A literal string.
    TextLiteral,
    /// A literal string of one character.
    LetterLiteral,
    /// A literal integer, not negative.
    CountLiteral,
    /// A literal bool.
    BoolLiteral,
    /// A literal map of severities.
    Severities,
    /// A list of literal strings.
    TextListLiteral,
    /// A literal number above 0 and below 100.
    PercentileLiteral,
    /// A list of literal numbers that rise.
    BoundsLiteral,
    /// The name of a converter with one parameter.
    Function,
    /// A path that can be set.
    Target,
    /// A path to a map that can be set.
    MapTarget,
}

impl Kind {
    /// What it takes, for people.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Any => "a value",
            Self::Text => "a string",
            Self::TextLike => "a value that has a text",
            Self::Int => "an integer",
            Self::IntLike | Self::DoubleLike => "a number, a string or a bool",
            Self::BoolLike => "a bool, a number or a string",
            Self::BytesLike => "bytes, a string or a number",
            Self::Time => "a time",
            Self::Duration => "a duration",
            Self::List => "a list",
            Self::TextList => "a list of strings",
            Self::TextLikeList => "a list of values that have a text",
            Self::Map => "a map",
            Self::Pattern => "a regular expression in quotes",
            Self::Glob => "a glob in quotes",
            Self::Choice(_) | Self::TextLiteral => "a literal string",
            Self::LetterLiteral => "a single character in quotes",
            Self::TimeFormat => "a format of times in quotes",
            Self::Location => "a time zone in quotes",
            Self::CountLiteral => "a literal integer of 0 or more",
            Self::BoolLiteral => "true or false",
            Self::Severities => "a literal map of severities and their criteria",
            Self::TextListLiteral => "a list of literal strings",
            Self::PercentileLiteral => "a literal number",
            Self::BoundsLiteral => "a list of literal numbers",
            Self::Function => "the name of a converter",
            Self::Target => "a path that can be set",
            Self::MapTarget => "a map that can be set",
        }
    }

    /// Whether only a literal is taken.
    pub(crate) fn is_literal(self) -> bool {
        matches!(
            self,
            Self::Choice(_)
                | Self::TimeFormat
                | Self::Location
                | Self::TextLiteral
                | Self::LetterLiteral
                | Self::CountLiteral
                | Self::BoolLiteral
                | Self::Severities
                | Self::TextListLiteral
                | Self::PercentileLiteral
                | Self::BoundsLiteral
        )
    }

    /// The value as the parameter takes it.
    pub(crate) fn admit<'v>(self, value: Value<'v>) -> Result<Value<'v>, Fault> {
        match (self, value) {
            (Self::Any | Self::Function | Self::Target | Self::MapTarget, value) => Ok(value),
            (Self::TextLike, value) => value.into_text_like(),
            (Self::IntLike, value) => convert::to_int(value),
            (Self::DoubleLike, value) => convert::to_double(value),
            (Self::BoolLike, value) => convert::to_bool(value),
            (Self::BytesLike, value) => convert::to_bytes(value),
            (Self::Text | Self::Pattern | Self::Glob, value @ Value::Text(_)) => Ok(value),
            (
                Self::Choice(_) | Self::TimeFormat | Self::Location | Self::TextLiteral | Self::LetterLiteral,
                value @ Value::Text(_),
            ) => Ok(value),
            (Self::Int, value @ Value::Int(_)) => Ok(value),
            (Self::CountLiteral, Value::Int(value)) if value >= 0 => Ok(Value::Int(value)),
            (Self::BoolLiteral, value @ Value::Bool(_)) => Ok(value),
            (Self::PercentileLiteral, Value::Int(value)) => Ok(Value::Double(value as f64)),
            (Self::PercentileLiteral, value @ Value::Double(_)) => Ok(value),
            (Self::BoundsLiteral, Value::List(items)) => admit_all(Self::PercentileLiteral, items),
            (Self::Time, value @ Value::Time(_)) => Ok(value),
            (Self::Duration, value @ Value::Duration(_)) => Ok(value),
            (Self::List, value @ Value::List(_)) => Ok(value),
            (Self::Map | Self::Severities, value @ Value::Map(_)) => Ok(value),
            (Self::TextList | Self::TextListLiteral, Value::List(items)) => admit_all(Self::Text, items),
            (Self::TextLikeList, Value::List(items)) => admit_all(Self::TextLike, items),
            (kind, other) => Err(Fault::wrong(kind.describe(), &other)),
        }
    }
}

fn admit_all<'v>(kind: Kind, items: Vec<Value<'v>>) -> Result<Value<'v>, Fault> {
    items.into_iter().map(|item| kind.admit(item)).collect::<Result<_, _>>().map(Value::List)
}

/// What was made of a call's literals when it was checked.
#[derive(Clone, Debug)]
pub(crate) enum Prepared {
    Nothing,
    Pattern(Regex),
    Severities(Severities),
    Zone(Zone),
    Grok(Grok),
}

/// Arguments of one call, converted; what was left out is nil.
#[derive(Debug)]
pub(crate) struct Arguments<'v> {
    pub(crate) values: [Value<'v>; ARGUMENTS_MAX],
    pub(crate) prepared: &'v Prepared,
    pub(crate) environment: &'v Environment,
}

impl<'v> Arguments<'v> {
    /// Takes the argument at `index`.
    fn value(&mut self, index: usize) -> Value<'v> {
        std::mem::take(&mut self.values[index])
    }

    /// Takes a text; empty if it was left out.
    fn text(&mut self, index: usize) -> Text<'v> {
        match self.value(index) {
            Value::Text(text) | Value::Bytes(text) => text,
            _ => Cow::Borrowed(&[]),
        }
    }

    /// Takes a text that was perhaps left out.
    fn optional_text(&mut self, index: usize) -> Option<Text<'v>> {
        match self.value(index) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Takes text as letters; what is not UTF-8 becomes the replacement character.
    fn letters(&mut self, index: usize) -> Cow<'v, str> {
        letters(self.text(index))
    }

    fn int(&mut self, index: usize) -> i64 {
        match self.value(index) {
            Value::Int(value) | Value::Time(value) | Value::Duration(value) => value,
            _ => 0,
        }
    }

    fn list(&mut self, index: usize) -> Vec<Value<'v>> {
        match self.value(index) {
            Value::List(items) => items,
            _ => Vec::new(),
        }
    }

    fn flag(&mut self, index: usize, default: bool) -> bool {
        match self.value(index) {
            Value::Bool(value) => value,
            _ => default,
        }
    }

    /// The regular expression that is the argument at `index`: as prepared, or compiled now.
    fn pattern(&mut self, index: usize) -> Result<Cow<'v, Regex>, Fault> {
        let text = self.text(index);
        match self.prepared {
            Prepared::Pattern(regex) => Ok(Cow::Borrowed(regex)),
            _ => pattern::compile(&text).map(Cow::Owned).map_err(Fault::invalid),
        }
    }
}

fn letters(text: Text<'_>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
        Cow::Owned(bytes) => Cow::Owned(match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        }),
    }
}

/// A converter's row.
const fn converter(
    name: &'static str,
    parameters: &'static [Parameter],
    run: for<'v> fn(&mut Arguments<'v>) -> Result<Value<'v>, Fault>,
) -> Function {
    Function { name, parameters, masks: false, run }
}

/// A converter's row whose result hides its argument.
const fn masking(
    name: &'static str,
    parameters: &'static [Parameter],
    run: for<'v> fn(&mut Arguments<'v>) -> Result<Value<'v>, Fault>,
) -> Function {
    Function { name, parameters, masks: true, run }
}

/// A parameter that must be given.
pub(crate) const fn needed(name: &'static str, kind: Kind) -> Parameter {
    Parameter { name, kind, optional: false }
}

/// A parameter that may be left out.
pub(crate) const fn optional(name: &'static str, kind: Kind) -> Parameter {
    Parameter { name, kind, optional: true }
}

fn tables() -> [&'static [Function]; 12] {
    [
        chance::TABLE,
        clock::TABLE,
        container::TABLE,
        convert::TABLE,
        csv::TABLE,
        grok::TABLE,
        hash::TABLE,
        hash128::TABLE,
        network::TABLE,
        parse::TABLE,
        severity::TABLE,
        text::TABLE,
    ]
}

/// The converter called `name`.
pub(crate) fn find(name: &str) -> Option<&'static Function> {
    tables().into_iter().flatten().find(|function| function.name == name)
}

/// Names of all converters.
pub fn converter_names() -> impl Iterator<Item = &'static str> {
    tables().into_iter().flatten().map(|function| function.name).chain([
        "HasAttrKeyOnDatapoint",
        "HasAttrOnDatapoint",
        "IsRootSpan",
    ])
}
