//! Editors that make metrics of a metric, or one data point of several: what a statement asks for, read from its
//! arguments. The item does it ([`crate::Edit::derive`], [`crate::Edit::aggregate`]).

use crate::editor::{Editor, Verb, texts};
use crate::fault::Fault;
use crate::histogram::{Rebucketing, Spread};
use crate::path::Field;
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
    /// A gauge of a percentile of each point of a histogram.
    Percentile {
        /// Above 0 and below 100.
        percentile: f64,
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
        Verb::ConvertExponential => {
            let rebucketing = arguments.rebucketing()?;
            item.rebucket(&rebucketing)
        }
        Verb::MergeBuckets => {
            let Some((counts, bounds)) = arguments.merged_buckets()? else { return Ok(()) };
            item.write(Field::BucketCounts, &counts);
            item.write(Field::ExplicitBounds, &bounds);
            Ok(())
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
            Verb::ExtractPercentile => {
                let Value::Double(percentile) = self.value(0)? else { return Err(Fault::Nil) };
                let suffix = self.text(1, b"")?;
                let suffix = if suffix.is_empty() { format!("_p{percentile}").into_bytes() } else { suffix };
                Derivation::Percentile { percentile, suffix }
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

    fn rebucketing(&self) -> Result<Rebucketing, Fault> {
        let spread = match &*self.text(0, b"")? {
            b"upper" => Spread::Upper,
            b"midpoint" => Spread::Midpoint,
            b"uniform" => Spread::Uniform,
            _ => Spread::Random,
        };
        let seed = if spread == Spread::Random { self.environment.chance.next_u64() } else { 0 };
        Ok(Rebucketing { bounds: doubles(&self.value(1)?), spread, seed })
    }

    /// Counts and bounds of the histogram's point with fewer buckets; `None`: it stays as it is.
    fn merged_buckets(&self) -> Result<Option<(Value<'static>, Value<'static>)>, Fault> {
        let Value::Double(target) = self.value(0)? else { return Err(Fault::Nil) };
        let limits = self.text(1, b"remove_explicit_bound")? == b"limit_buckets";
        let is_limit = target >= 1.0 && target.fract() == 0.0;
        if limits && !is_limit {
            return Err(Fault::invalid("a limit of buckets is a whole number of 1 or more"));
        }
        let mut bounds = doubles(&self.item.read(Field::ExplicitBounds));
        let Value::List(counts) = self.item.read(Field::BucketCounts) else { return Ok(None) };
        let mut counts: Vec<u64> = counts.iter().map(count).collect();
        if counts.len() != bounds.len() + 1 || counts.len() == 1 {
            return Ok(None);
        }
        if limits {
            let is_rising = bounds.windows(2).all(|pair| pair[0] < pair[1]);
            let Some(width) = width(counts.len(), target).filter(|_| is_rising) else { return Ok(None) };
            counts = counts
                .chunks(width)
                .map(|group| group.iter().fold(0_u64, |sum, count| sum.wrapping_add(*count)))
                .collect();
            bounds = bounds.chunks_exact(width).map(|group| group[width - 1]).collect();
        } else {
            const TOLERANCE: f64 = 1e-12;
            let Some(place) = bounds.iter().position(|bound| (bound - target).abs() < TOLERANCE) else {
                return Ok(None);
            };
            bounds.remove(place);
            let merged = counts.remove(place);
            counts[place] = counts[place].wrapping_add(merged);
        }
        let counts = counts.into_iter().map(|count| Value::Int(count as i64)).collect();
        let bounds = bounds.into_iter().map(Value::Double).collect();
        Ok(Some((Value::List(counts), Value::List(bounds))))
    }

    /// Whether it never falls at `index`, the suffix behind it.
    fn extracted(&self, part: Extract, index: usize) -> Result<Extracted, Fault> {
        let is_monotonic = self.value(index)? == Value::Bool(true);
        let usual: &[u8] = if part == Extract::Count { b"_count" } else { b"_sum" };
        Ok(Extracted { part, is_monotonic, suffix: self.text(index + 1, usual)? })
    }
}

/// The numbers of a list.
fn doubles(list: &Value<'_>) -> Vec<f64> {
    let Value::List(items) = list else { return Vec::new() };
    let double = |item: &Value<'_>| match item {
        Value::Double(number) => *number,
        Value::Int(number) => *number as f64,
        _ => 0.0,
    };
    items.iter().map(double).collect()
}

fn count(item: &Value<'_>) -> u64 {
    match item {
        Value::Int(count) => *count as u64,
        _ => 0,
    }
}

/// How many neighbours become one, so that at most `limit` are left; `None` if they are that few.
fn width(buckets: usize, limit: f64) -> Option<usize> {
    // A float becomes the nearest size there is.
    let limit = (limit as usize).max(1);
    (buckets > limit).then(|| buckets.div_ceil(limit))
}

/// What the description of a metric of a percentile says.
pub(crate) fn described(description: &[u8], percentile: f64) -> Vec<u8> {
    let own = format!("p{percentile}").into_bytes();
    if description.is_empty() { own } else { [description, b" (", &*own, b")"].concat() }
}
