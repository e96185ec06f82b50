//! A checked statement and how it runs: conditions, expressions, and the rule for statements that mask.
//!
//! ```text
//! Statement { editor, condition, masks }  --run(item, environment)-->  Outcome
//! ```
//!
//! Evaluation borrows from program, item and cache; what is kept is copied once, by the editor. The recursion is as deep
//! as the statement, which the parser bounded. No evaluation panics, whatever the values.

use std::borrow::Cow;

use crate::chance::Chance;
use crate::editor::{self, Editor, Verb};
use crate::fault::Fault;
use crate::function::{Arguments, Function, Kind, Prepared};
use crate::path::{Context, Field, Form, Path, Root, level_of, show, trace_state_value};
use crate::sender::{Ask, Sender};
use crate::syntax::{Comparison, MathOperator};
use crate::value::{Entries, Value, calculate, compare, entry};
use crate::view::{Edit, View};

/// Most arguments any function has.
pub(crate) const ARGUMENTS_MAX: usize = 6;

/// What a statement sees beside the item.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// What `Now()` gives: nanoseconds since 1970.
    pub now_unix_ns: i64,
    /// Where `UUID()` and `UUIDv7()` take their bits from.
    pub chance: Chance,
    /// What `otelcol.` paths give.
    pub sender: Sender,
    /// Keep a value that could not be masked, instead of deleting it.
    pub keeps_unmasked: bool,
    /// The `cache` paths. The caller clears it between items.
    pub cache: Entries<'static>,
}

/// What became of a statement on one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ran.
    Applied,
    /// Its condition was false.
    NotMatched,
    /// An argument is nil: nothing was done, and that is no error.
    Skipped,
    /// It masks a value, could not, and deleted it. Counted, and no error.
    Deleted(Fault),
    /// It failed and changed nothing.
    Failed(Fault),
}

/// A statement whose names and types were checked.
#[derive(Debug)]
pub struct Statement {
    /// The text it was made from.
    pub text: String,
    pub(crate) editor: Editor,
    pub(crate) condition: Option<Test>,
    /// It replaces a value by a masked or hashed form of itself.
    pub(crate) masks: bool,
    pub(crate) asks: Vec<Ask>,
}

impl Statement {
    /// What it asks of the sender of its items.
    #[must_use]
    pub fn asks(&self) -> &[Ask] {
        &self.asks
    }

    /// Whether a failure on an existing value deletes it: the statement is `set(X, f(..X..))` with `f` a hash or `Mask`.
    #[must_use]
    pub fn masks(&self) -> bool {
        self.masks
    }

    /// The level whose bytes the statement changes; `None`: only the cache.
    #[must_use]
    pub fn changes(&self) -> Option<Context> {
        match self.editor.target.root {
            Root::Field(field, _) => Some(level_of(field)),
            Root::Cache => None,
        }
    }

    /// Whether it copies every metric that it runs on, copies too.
    #[must_use]
    pub fn copies_whatever_it_meets(&self) -> bool {
        self.editor.row.verb == Verb::CopyMetric && self.condition.is_none()
    }

    /// Runs the statement on `item`.
    pub fn run<E: Edit>(&self, item: &mut E, environment: &mut Environment) -> Outcome {
        match self.try_run(item, environment) {
            Ok(outcome) => outcome,
            Err(fault) if self.masks && !environment.keeps_unmasked => self.delete_unmasked(item, environment, fault),
            Err(Fault::Nil) => Outcome::Skipped,
            Err(fault) => Outcome::Failed(fault),
        }
    }

    fn try_run<E: Edit>(&self, item: &mut E, environment: &mut Environment) -> Result<Outcome, Fault> {
        if let Some(condition) = &self.condition
            && !condition.holds(item, environment)?
        {
            return Ok(Outcome::NotMatched);
        }
        editor::run(&self.editor, self.masks, item, environment)?;
        Ok(Outcome::Applied)
    }

    /// Never leak: what exists and could not be masked is deleted.
    fn delete_unmasked<E: Edit>(&self, item: &mut E, environment: &mut Environment, fault: Fault) -> Outcome {
        let target = &self.editor.target;
        match read_path(target, item, environment) {
            Ok(Value::Nil) => Outcome::Skipped,
            // A body that is a text has no such key: there is nothing of that name to leak, and the text is not it.
            Err(_) if matches!(target.root, Root::Field(Field::Body, _)) => Outcome::Failed(fault),
            _ => match editor::delete(target, item, environment) {
                Ok(()) => Outcome::Deleted(fault),
                Err(_) => Outcome::Failed(fault),
            },
        }
    }
}

/// A lone condition whose names and types were checked.
#[derive(Debug)]
pub struct Condition {
    /// The text it was made from.
    pub text: String,
    pub(crate) test: Test,
    pub(crate) asks: Vec<Ask>,
}

impl Condition {
    /// What it asks of the sender of its items.
    #[must_use]
    pub fn asks(&self) -> &[Ask] {
        &self.asks
    }

    /// Whether the condition is true of `item`.
    ///
    /// # Errors
    /// A function or operator met a value it does not take; [`Fault::Nil`] if that value is nil.
    pub fn holds<V: View>(&self, item: &V, environment: &Environment) -> Result<bool, Fault> {
        self.test.holds(item, environment)
    }
}

#[derive(Debug)]
pub(crate) enum Test {
    Constant(bool),
    /// A converter that gives a bool.
    Converter(Expr),
    Compare(Comparison, Box<(Expr, Expr)>),
    Not(Box<Test>),
    /// From left to right until one is false.
    All(Vec<Test>),
    /// From left to right until one is true.
    Any(Vec<Test>),
}

impl Test {
    pub(crate) fn holds<V: View>(&self, item: &V, environment: &Environment) -> Result<bool, Fault> {
        match self {
            Self::Constant(value) => Ok(*value),
            Self::Converter(expr) => match expr.evaluate(item, environment)? {
                Value::Bool(value) => Ok(value),
                other => Err(Fault::wrong("a bool", &other)),
            },
            Self::Compare(operator, sides) => {
                let left = sides.0.evaluate(item, environment)?;
                let right = sides.1.evaluate(item, environment)?;
                Ok(compare(*operator, &left, &right))
            }
            Self::Not(inner) => Ok(!inner.holds(item, environment)?),
            Self::All(parts) => {
                for part in parts {
                    if !part.holds(item, environment)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Self::Any(parts) => {
                for part in parts {
                    if part.holds(item, environment)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }
}

/// A checked expression.
#[derive(Clone, Debug)]
pub(crate) enum Expr {
    /// A value as written; enums are integers.
    Literal(Value<'static>),
    /// A field, perhaps with keys.
    Path(Path),
    /// A converter with its arguments.
    Call(Box<Call>),
    /// `-x`.
    Negate(Box<Expr>),
    /// Operands and operators from left to right.
    Math(Box<Expr>, Vec<(MathOperator, Expr)>),
    /// `[a, b]`.
    List(Vec<Expr>),
    /// `{"a": b}`.
    Map(Vec<(Vec<u8>, Expr)>),
    /// `IsRootSpan()`, which asks the item itself.
    IsRootSpan,
    /// `HasAttrKeyOnDatapoint(key)`, and `HasAttrOnDatapoint(key, value)`: they ask the points of a metric.
    HasPointAttribute(Vec<u8>, Option<Vec<u8>>),
    /// A path of who sent the item.
    Sender(Ask, Vec<Expr>),
}

/// A checked call of a converter.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) function: &'static Function,
    /// By position; what was left out is `None`.
    pub(crate) arguments: Vec<Option<Expr>>,
    pub(crate) prepared: Prepared,
    pub(crate) keys: Vec<Expr>,
}

impl Expr {
    pub(crate) fn evaluate<'v, V: View>(
        &'v self,
        item: &'v V,
        environment: &'v Environment,
    ) -> Result<Value<'v>, Fault> {
        match self {
            Self::Literal(value) => Ok(value.borrowed()),
            Self::Path(path) => read_path(path, item, environment),
            Self::Call(call) => call.evaluate(item, environment, false),
            Self::Negate(inner) => match inner.evaluate(item, environment)? {
                Value::Int(value) => Ok(Value::Int(value.wrapping_neg())),
                Value::Double(value) => Ok(Value::Double(-value)),
                other => Err(Fault::wrong("a number", &other)),
            },
            Self::Math(first, rest) => {
                let mut total = first.evaluate(item, environment)?;
                for (operator, operand) in rest {
                    total = calculate(*operator, total, operand.evaluate(item, environment)?)?;
                }
                Ok(total)
            }
            Self::List(items) => {
                let values: Result<_, _> = items.iter().map(|value| value.evaluate(item, environment)).collect();
                Ok(Value::List(values?))
            }
            Self::Map(entries) => {
                let entries: Result<_, _> = entries
                    .iter()
                    .map(|(key, value)| Ok((Cow::Borrowed(&**key), value.evaluate(item, environment)?)))
                    .collect();
                Ok(Value::Map(entries?))
            }
            Self::IsRootSpan => {
                let parent = item.read(Field::ParentSpanId);
                Ok(Value::Bool(matches!(parent, Value::Bytes(id) if id.iter().all(|byte| *byte == 0))))
            }
            Self::HasPointAttribute(key, expected) => {
                Ok(Value::Bool(item.first_point_attribute(key).is_some_and(|found| match (expected, found) {
                    (None, _) => true,
                    (Some(expected), Value::Text(found)) => *found == **expected,
                    _ => false,
                })))
            }
            Self::Sender(ask, keys) => match environment.sender.value(ask) {
                Value::Nil => Ok(Value::Nil),
                value => index(value, keys, item, environment),
            },
        }
    }

    /// Like [`Self::evaluate`] in a statement that masks: masking functions take numbers, lists and maps as text.
    pub(crate) fn evaluate_masking<'v, V: View>(
        &'v self,
        item: &'v V,
        environment: &'v Environment,
    ) -> Result<Value<'v>, Fault> {
        match self {
            Self::Call(call) => call.evaluate(item, environment, true),
            _ => self.evaluate(item, environment),
        }
    }

    /// Whether the expression asks for `path`, or for a part or the whole of it.
    pub(crate) fn mentions(&self, path: &Path) -> bool {
        match self {
            Self::Literal(_) | Self::IsRootSpan | Self::HasPointAttribute(..) => false,
            Self::Sender(_, keys) => keys.iter().any(|key| key.mentions(path)),
            Self::Path(other) => other.root.is_same_place(path.root) && keys_overlap(&other.keys, &path.keys),
            Self::Call(call) => call.arguments.iter().flatten().chain(&call.keys).any(|part| part.mentions(path)),
            Self::Negate(inner) => inner.mentions(path),
            Self::Math(first, rest) => first.mentions(path) || rest.iter().any(|(_, part)| part.mentions(path)),
            Self::List(items) => items.iter().any(|item| item.mentions(path)),
            Self::Map(entries) => entries.iter().any(|(_, value)| value.mentions(path)),
        }
    }

    /// Whether somewhere in the expression a masking function is given `path`.
    pub(crate) fn masks(&self, path: &Path) -> bool {
        match self {
            Self::Call(call) => {
                (call.function.masks && self.mentions(path))
                    || call.arguments.iter().flatten().any(|argument| argument.masks(path))
            }
            Self::List(items) => items.iter().any(|item| item.masks(path)),
            Self::Map(entries) => entries.iter().any(|(_, value)| value.masks(path)),
            _ => false,
        }
    }
}

/// Keys that are computed may be anything, so only two different literals are apart.
fn keys_overlap(left: &[Expr], right: &[Expr]) -> bool {
    left.iter().zip(right).all(|pair| match pair {
        (Expr::Literal(a), Expr::Literal(b)) => a == b,
        _ => true,
    })
}

impl Call {
    fn evaluate<'v, V: View>(
        &'v self,
        item: &'v V,
        environment: &'v Environment,
        is_masking: bool,
    ) -> Result<Value<'v>, Fault> {
        let mut values: [Value<'v>; ARGUMENTS_MAX] = Default::default();
        for ((argument, parameter), value) in self.arguments.iter().zip(self.function.parameters).zip(&mut values) {
            let Some(argument) = argument else { continue };
            let found = if is_masking {
                argument.evaluate_masking(item, environment)?
            } else {
                argument.evaluate(item, environment)?
            };
            let as_text = is_masking && self.function.masks && matches!(parameter.kind, Kind::Text);
            let kind = if as_text { &Kind::TextLike } else { &parameter.kind };
            *value = kind.admit(found)?;
            if as_text && *value == Value::Nil {
                return Err(Fault::Nil);
            }
        }
        let mut arguments = Arguments { values, prepared: &self.prepared, environment };
        let value = (self.function.run)(&mut arguments)?;
        if self.keys.is_empty() { Ok(value) } else { index(value, &self.keys, item, environment) }
    }
}

/// The value at `path`; nil if a map has no such key.
pub(crate) fn read_path<'v, V: View>(
    path: &'v Path,
    item: &'v V,
    environment: &'v Environment,
) -> Result<Value<'v>, Fault> {
    let Some((first, rest)) = path.keys.split_first() else {
        return Ok(match path.root {
            Root::Field(field, form) => show(form, item.read(field)),
            Root::Cache => Value::Map(
                environment.cache.iter().map(|(key, value)| (Cow::Borrowed(&**key), value.borrowed())).collect(),
            ),
        });
    };
    if let Root::Field(field, form) = path.root
        && form.may_be_list()
    {
        return match item.read(field) {
            Value::Nil => Ok(Value::Nil),
            value => index(value, &path.keys, item, environment),
        };
    }
    let key = text_key(first, item, environment)?;
    let found = match path.root {
        Root::Field(Field::Attributes(level), _) => item.attribute(level, &key),
        Root::Field(field, Form::TraceState) => match item.read(field) {
            Value::Text(state) => {
                let value = trace_state_value(&state, &key).unwrap_or_default();
                Some(Value::Text(Cow::Owned(value.to_vec())))
            }
            _ => None,
        },
        Root::Field(field, form) => return index(show(form, item.read(field)), &path.keys, item, environment),
        Root::Cache => entry(&environment.cache, &key).map(Value::borrowed),
    };
    match found {
        Some(value) if !rest.is_empty() => index(value, rest, item, environment),
        found => Ok(found.unwrap_or_default()),
    }
}

/// A key that must be text. A literal is borrowed, so that the usual key costs nothing.
pub(crate) fn text_key<'v, V: View>(
    key: &'v Expr,
    item: &'v V,
    environment: &'v Environment,
) -> Result<Cow<'v, [u8]>, Fault> {
    match key {
        Expr::Literal(Value::Text(text)) => Ok(Cow::Borrowed(text)),
        _ => match key.evaluate(item, environment)? {
            Value::Text(text) => Ok(text),
            other => Err(Fault::wrong("a string as key", &other)),
        },
    }
}

fn index<'v, V: View>(
    value: Value<'v>,
    keys: &'v [Expr],
    item: &'v V,
    environment: &'v Environment,
) -> Result<Value<'v>, Fault> {
    let mut value = value;
    for key in keys {
        value = match value {
            Value::Map(entries) => {
                let key = text_key(key, item, environment)?;
                match entries.into_iter().find(|(name, _)| **name == *key) {
                    Some((_, value)) => value,
                    None => return Ok(Value::Nil),
                }
            }
            Value::List(mut items) => {
                let index = list_index(key, items.len(), item, environment)?;
                items.swap_remove(index)
            }
            other => return Err(Fault::wrong("a map or list to take a key of", &other)),
        };
    }
    Ok(value)
}

/// An index into a list of `length` elements.
pub(crate) fn list_index<V: View>(
    key: &Expr,
    length: usize,
    item: &V,
    environment: &Environment,
) -> Result<usize, Fault> {
    match key.evaluate(item, environment)? {
        Value::Int(index) => {
            let place = usize::try_from(index).ok().filter(|place| *place < length);
            place.ok_or(Fault::Index { index, length })
        }
        other => Err(Fault::wrong("an integer as index", &other)),
    }
}
