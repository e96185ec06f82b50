//! The transformation language (OTTL): text -> checked program -> run over views.
//!
//! ```text
//! text --lexer, parser--> tree --check--> Statement --run(item, environment)--> Outcome
//!                                                       |
//!                                       WireItem: bytes as they came + staged edits, written once
//! ```
//!
//! Beside the language, on the same bytes: [`Action`]s on attributes, [`Redaction`] of them, [`Selection`] by properties.
//!
//! Pure: no clock, no I/O, no threads; the time of day is given. A statement is checked completely when it is read, so that
//! what fails later is a value, never a name. Start reading at [`check_statement`], then [`Statement::run`].

mod action;
mod attributes;
mod chance;
mod check;
mod diagnostic;
mod digest;
mod editor;
mod fault;
mod function;
pub mod fuzzing;
mod histogram;
mod layout;
mod lexer;
mod matching;
mod metric;
mod overlay;
mod parser;
mod path;
mod pattern;
mod program;
mod redaction;
mod sanitize;
mod sender;
mod syntax;
mod time;
mod value;
mod view;
mod zone;

pub use action::{Action, Extraction, Keys, Source, Target, When, apply};
pub use attributes::{AttributeList, Child, EditPart, Written, field, rewrite_children, rewrite_parts};
pub use chance::Chance;
pub use check::{
    NOT_SUPPORTED, Paths, check_condition, check_statement, check_syntax, infer_context, infer_group_context,
};
pub use diagnostic::Diagnostic;
pub use editor::{VALUE_BYTES_MAX, editor_names};
pub use fault::Fault;
pub use function::converter_names;
pub use histogram::{Rebucketing, Spread};
pub use lexer::STATEMENT_BYTES_MAX;
pub use matching::{AttributeTest, LibraryTest, Properties, Selection, SeverityTest, Texts, ValueTest};
pub use metric::{Aggregation, Derivation, Extract, Extracted, Reduction, Relabel};
pub use overlay::{CREATED_BYTES_MAX, CREATED_MAX, CreatedMetric, WireItem};
pub use parser::DEPTH_MAX;
pub use path::{Context, Field};
pub use pattern::{PATTERN_BYTES_MAX, Pattern};
pub use program::{Condition, Environment, Outcome, Statement};
pub use redaction::{HmacKey, Mask, Redaction, Summary};
pub use sanitize::{Database, DatabaseSanitizer, UrlSanitizer};
pub use sender::{Ask, Sender};
pub use value::{Entries, Text, Value};
pub use view::{Edit, View};
