//! A statement as it was written: the tree between parser and checker. It knows places, and no meaning.
//!
//! Conditions and values share one tree, so that a parenthesis needs no second try; which of the two is allowed where
//! is the checker's question. Chains (`a + b + c`, `x and y and z`) are lists, so that only nesting makes depth.

use std::cmp::Ordering;
use std::ops::Range;

/// `editor(arguments) where condition`.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub(crate) editor: Call,
    pub(crate) condition: Option<Expr>,
}

#[derive(Clone, Debug)]
pub(crate) struct Expr {
    pub(crate) at: Range<usize>,
    pub(crate) kind: ExprKind,
}

#[derive(Clone, Debug)]
pub(crate) enum ExprKind {
    Nil,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(Vec<u8>),
    Bytes(Vec<u8>),
    /// An enum, or the name of a converter handed to a function.
    Name(String),
    Path(Path),
    Call(Call),
    List(Vec<Expr>),
    Map(Vec<(Vec<u8>, Expr)>),
    Negate(Box<Expr>),
    Math(Box<Expr>, Vec<(MathOperator, Expr)>),
    Compare(Comparison, Box<(Expr, Expr)>),
    Not(Box<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
}

impl ExprKind {
    /// What it is, for people.
    pub(crate) fn describe(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "a bool",
            Self::Int(_) => "an integer",
            Self::Double(_) => "a float",
            Self::Text(_) => "a string",
            Self::Bytes(_) => "bytes",
            Self::Name(_) => "a name in capitals",
            Self::Path(_) => "a path",
            Self::Call(_) => "a function call",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
            Self::Negate(_) | Self::Math(..) => "arithmetic",
            Self::Compare(..) | Self::Not(_) | Self::And(_) | Self::Or(_) => "a condition",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) at: Range<usize>,
    pub(crate) name: String,
    pub(crate) name_at: Range<usize>,
    pub(crate) arguments: Vec<Argument>,
    pub(crate) keys: Vec<Expr>,
}

#[derive(Clone, Debug)]
pub(crate) struct Argument {
    pub(crate) name: Option<(String, Range<usize>)>,
    pub(crate) value: Expr,
}

/// `span.attributes["a"][0]`: segments, each with keys.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    pub(crate) segments: Vec<Segment>,
}

#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) at: Range<usize>,
    pub(crate) name: String,
    pub(crate) keys: Vec<Expr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MathOperator {
    Add,
    Subtract,
    Multiply,
    Divide,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    /// Whether the operator is true of two sides that stand in this order.
    pub(crate) fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}
