//! Why a statement could not be done on one item.

use std::borrow::Cow;

use crate::value::Value;

/// What went wrong while a checked statement ran; the statement changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// An argument that must have a value has none, mostly a missing attribute. Not an error: the statement is skipped.
    #[error("an argument is nil")]
    Nil,
    /// A value of the wrong type.
    #[error("expected {expected}, found {found}")]
    Type {
        /// What the function or operator takes.
        expected: &'static str,
        /// What it was given.
        found: &'static str,
    },
    /// Integer division by zero.
    #[error("division by zero")]
    DivisionByZero,
    /// A list has no such element.
    #[error("index {index} is out of bounds, the list has {length} elements")]
    Index {
        /// The index asked for.
        index: i64,
        /// Elements there are.
        length: usize,
    },
    /// What a function says of its arguments.
    #[error("{0}")]
    Invalid(Cow<'static, str>),
}

impl Fault {
    /// `found` is not what was `expected`; nil is a fault of its own.
    pub(crate) fn wrong(expected: &'static str, found: &Value<'_>) -> Self {
        match found {
            Value::Nil => Self::Nil,
            _ => Self::Type { expected, found: found.type_name() },
        }
    }

    pub(crate) fn invalid(what: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid(what.into())
    }
}
