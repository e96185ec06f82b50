//! Editors that make metrics of a metric, or one data point of several: what a statement asks for, read from its
//! arguments. The item does it ([`crate::Edit::derive`], [`crate::Edit::aggregate`]).

use crate::editor::{Editor, Verb, texts};
use crate::fault::Fault;
use crate::program::Environment;
use crate::value::{Text, Value};
use crate::view::{Edit, View};

/// A metric to be made of a metric, which itself stays as it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Derivation {
    /// The same once more.
    Copy {
        /// Another name.
        name: Option<Vec<u8>>,
        /// Another description.
        description: Option<Vec<u8>>,
        /// Another unit.
        unit: Option<Vec<u8>>,
    },
    /// A sum of one number of each histogram's or summary's point, with the temporality of what it is made of.
    Extract(Extracted),
    /// A sum of one number of the summary's point that the statement stands on.
    ConvertPoint {
        /// 1 delta, 2 cumulative.
        temporality: i64,
        /// What is taken.
        extracted: Extracted,
    },
    /// A gauge of the quantiles of each point of a summary.
    Quantiles {
        /// The attribute that says which quantile a value is.
        key: Vec<u8>,
        /// Behind the name.
        suffix: Vec<u8>,
    },
}

/// A number of a point, as a sum of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Extracted {
    /// Which number.
    pub part: Extract,
    /// Whether the sum never falls.
    pub is_monotonic: bool,
    /// Behind the name.
    pub suffix: Vec<u8>,
}

/// A number that a histogram or a summary has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extract {
    /// How much was measured.
    Count,
    /// Its sum; a histogram's point may have none, and then gives none.
    Sum,
}

/// How the values of points that become one are put together. Histograms are always added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// Their sum.
    Sum,
    /// The least.
    Min,
    /// The greatest.
    Max,
    /// Their sum, divided by their number.
    Mean,
    /// The one in the middle; between two, the mean of both.
    Median,
    /// Their number.
    Count,
}

/// What becomes of the attributes of points before those with equal ones become one.
#[derive(Clone, Debug, PartialEq)]
pub enum Relabel {
    /// They stay.
    Keep,
    /// All others go.
    Only(Vec<Vec<u8>>),
    /// An attribute that is one of these texts becomes another.
    Replace {
        /// Its key.
        key: Vec<u8>,
        /// The texts.
        values: Vec<Vec<u8>>,
        /// What they become.
        value: Vec<u8>,
    },
}

/// Points of a metric with equal attributes and time become one.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregation {
    /// What becomes of the attributes before.
    pub relabel: Relabel,
    /// How values are put together.
    pub reduction: Reduction,
}

/// The names of reductions.
pub(crate) const REDUCTIONS: &[&str] = &["count", "max", "mean", "median", "min", "sum"];

/// Runs an editor that makes metrics or merges points.
pub(crate) fn run<E: Edit>(editor: &Editor, item: &mut E, environment: &Environment) -> Result<(), Fault> {
    let arguments = Arguments { editor, item: &*item, environment };
    match editor.row.verb {
        Verb::AggregateOnAttributes => {
            let relabel = match arguments.value(1)? {
                Value::Nil => Relabel::Keep,
                keys => Relabel::Only(texts(keys)),
            };
            let aggregation = Aggregation { relabel, reduction: arguments.reduction()? };
            item.aggregate(&aggregation)
        }
        Verb::AggregateOnAttributeValue => {
            let (key, values) = (arguments.text(1, b"")?, texts(arguments.value(2)?));
            let relabel = Relabel::Replace { key, values, value: arguments.text(3, b"")? };
            let aggregation = Aggregation { relabel, reduction: arguments.reduction()? };
            item.aggregate(&aggregation)
        }
        _ => {
            let derivation = arguments.derivation()?;
            item.derive(&derivation)
        }
    }
}

/// The arguments of an editor without a target.
struct Arguments<'r, E> {
    editor: &'r Editor,
    item: &'r E,
    environment: &'r Environment,
}

impl<'r, E: View> Arguments<'r, E> {
    fn value(&self, index: usize) -> Result<Value<'r>, Fault> {
        self.editor.argument(index, self.item, self.environment)
    }

    fn text(&self, index: usize, default: &[u8]) -> Result<Vec<u8>, Fault> {
        Ok(self.optional_text(index)?.unwrap_or_else(|| default.to_vec()))
    }

    fn optional_text(&self, index: usize) -> Result<Option<Vec<u8>>, Fault> {
        Ok(match self.value(index)? {
            Value::Text(text) => Some(Text::into_owned(text)),
            // What is given has a value; what is left out has none.
            _ if self.editor.is_given(index) => return Err(Fault::Nil),
            _ => None,
        })
    }

    fn reduction(&self) -> Result<Reduction, Fault> {
        Ok(match &*self.text(0, b"")? {
            b"count" => Reduction::Count,
            b"max" => Reduction::Max,
            b"mean" => Reduction::Mean,
            b"median" => Reduction::Median,
            b"min" => Reduction::Min,
            _ => Reduction::Sum,
        })
    }

    fn derivation(&self) -> Result<Derivation, Fault> {
        Ok(match self.editor.row.verb {
            Verb::ExtractCount => Derivation::Extract(self.extracted(Extract::Count, 0)?),
            Verb::ExtractSum => Derivation::Extract(self.extracted(Extract::Sum, 0)?),
            Verb::ConvertSummaryCount | Verb::ConvertSummarySum => {
                let is_count = self.editor.row.verb == Verb::ConvertSummaryCount;
                let part = if is_count { Extract::Count } else { Extract::Sum };
                let temporality = if self.text(0, b"")? == b"delta" { 1 } else { 2 };
                Derivation::ConvertPoint { temporality, extracted: self.extracted(part, 1)? }
            }
            Verb::ConvertSummaryQuantile => {
                Derivation::Quantiles { key: self.text(0, b"quantile")?, suffix: self.text(1, b".quantiles")? }
            }
            _ => Derivation::Copy {
                name: self.optional_text(0)?,
                description: self.optional_text(1)?,
                unit: self.optional_text(2)?,
            },
        })
    }

    /// Whether it never falls at `index`, the suffix behind it.
    fn extracted(&self, part: Extract, index: usize) -> Result<Extracted, Fault> {
        let is_monotonic = self.value(index)? == Value::Bool(true);
        let usual: &[u8] = if part == Extract::Count { b"_count" } else { b"_sum" };
        Ok(Extracted { part, is_monotonic, suffix: self.text(index + 1, usual)? })
    }
}
