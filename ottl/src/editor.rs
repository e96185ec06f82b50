//! Editors: the functions that change the item.
//!
//! `set` and the editors that remove keys work on the item's entries where they lie; the others read a whole map, change
//! it, and write it back. A target that is nil is left alone. What would be larger than a value may be is a fault.

use std::borrow::Cow;

use regex::bytes::Regex;

use crate::fault::Fault;
use crate::function::{Arguments, Function, Kind, Parameter, Prepared, needed, optional};
use crate::path::{Context, Field, Form, Path, Root, store, trace_state_with};
use crate::pattern;
use crate::program::{Environment, Expr, list_index, read_path, text_key};
use crate::value::{Entries, Text, Value, owned_entries, put};
use crate::view::{Edit, View};

/// Most bytes of text in one value that a statement may set: statements can double a value, and run on every span.
pub const VALUE_BYTES_MAX: usize = 1 << 20;

/// Longest list that setting a single element of nothing makes.
const LIST_LENGTH_MAX: usize = 1024;

/// What an editor does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    AggregateOnAttributeValue,
    AggregateOnAttributes,
    Append,
    ConvertExponential,
    ConvertGaugeToSum,
    ConvertSumToGauge,
    ConvertSummaryCount,
    ConvertSummaryQuantile,
    ConvertSummarySum,
    CopyMetric,
    DeleteIndex,
    DeleteKey,
    DeleteMatchingKeys,
    ExtractCount,
    ExtractPercentile,
    ExtractSum,
    Flatten,
    KeepKeys,
    KeepMatchingKeys,
    Limit,
    MergeBuckets,
    MergeMaps,
    ReplaceAllMatches,
    ReplaceAllPatterns,
    ReplaceMatch,
    ReplacePattern,
    ScaleMetric,
    Set,
    StringifyAll,
    TruncateAll,
}

/// A row of the table of editors; the first parameter is the target, unless the item itself is.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) verb: Verb,
    pub(crate) parameters: &'static [Parameter],
    /// The only context there is for it; it changes the item itself, and has no target.
    pub(crate) context: Option<Context>,
}

const fn row(name: &'static str, verb: Verb, parameters: &'static [Parameter]) -> Row {
    Row { name, verb, parameters, context: None }
}

/// A row of an editor of metrics.
const fn of_metrics(name: &'static str, verb: Verb, parameters: &'static [Parameter]) -> Row {
    Row { name, verb, parameters, context: Some(Context::Metric) }
}

/// A row of an editor of data points as a whole.
const fn of_points(name: &'static str, verb: Verb, parameters: &'static [Parameter]) -> Row {
    Row { name, verb, parameters, context: Some(Context::DataPoint) }
}

const REDUCTION: Parameter = needed("aggregation_function", Kind::Choice(crate::metric::REDUCTIONS));
const MONOTONIC: Parameter = needed("monotonic", Kind::BoolLiteral);
const SUFFIX: Parameter = optional("suffix", Kind::TextLiteral);
const TEMPORALITY: Parameter = needed("string_agg_temp", Kind::Choice(&["delta", "cumulative"]));
const MAP: Parameter = needed("target", Kind::MapTarget);
const ANY: Parameter = needed("target", Kind::Target);
const FUNCTION: Parameter = optional("function", Kind::Function);
const FORMAT: Parameter = optional("replacement_format", Kind::Text);

pub(crate) const TABLE: &[Row] = &[
    of_metrics(
        "aggregate_on_attribute_value",
        Verb::AggregateOnAttributeValue,
        &[
            REDUCTION,
            needed("attribute", Kind::TextLiteral),
            needed("values", Kind::TextListLiteral),
            needed("new_value", Kind::TextLiteral),
        ],
    ),
    of_metrics(
        "aggregate_on_attributes",
        Verb::AggregateOnAttributes,
        &[REDUCTION, optional("attributes", Kind::TextListLiteral)],
    ),
    row("append", Verb::Append, &[ANY, optional("value", Kind::Any), optional("values", Kind::List)]),
    of_metrics(
        "convert_exponential_histogram_to_histogram",
        Verb::ConvertExponential,
        &[
            needed("distribution_fn", Kind::Choice(&["", "midpoint", "random", "uniform", "upper"])),
            needed("explicit_bounds", Kind::BoundsLiteral),
        ],
    ),
    of_metrics(
        "convert_gauge_to_sum",
        Verb::ConvertGaugeToSum,
        &[
            needed("aggregation_temporality", Kind::Choice(&["delta", "cumulative"])),
            needed("is_monotonic", Kind::BoolLiteral),
        ],
    ),
    of_metrics("convert_sum_to_gauge", Verb::ConvertSumToGauge, &[]),
    of_points("convert_summary_count_val_to_sum", Verb::ConvertSummaryCount, &[TEMPORALITY, MONOTONIC, SUFFIX]),
    of_metrics(
        "convert_summary_quantile_val_to_gauge",
        Verb::ConvertSummaryQuantile,
        &[optional("attribute_key", Kind::TextLiteral), SUFFIX],
    ),
    of_points("convert_summary_sum_val_to_sum", Verb::ConvertSummarySum, &[TEMPORALITY, MONOTONIC, SUFFIX]),
    of_metrics(
        "copy_metric",
        Verb::CopyMetric,
        &[optional("name", Kind::Text), optional("description", Kind::Text), optional("unit", Kind::Text)],
    ),
    row("delete_index", Verb::DeleteIndex, &[ANY, needed("start_index", Kind::Int), optional("end_index", Kind::Int)]),
    row("delete_key", Verb::DeleteKey, &[MAP, needed("key", Kind::Text)]),
    row("delete_matching_keys", Verb::DeleteMatchingKeys, &[MAP, needed("pattern", Kind::Pattern)]),
    of_metrics("extract_count_metric", Verb::ExtractCount, &[MONOTONIC, SUFFIX]),
    of_metrics(
        "extract_percentile_metric",
        Verb::ExtractPercentile,
        &[needed("percentile", Kind::PercentileLiteral), SUFFIX],
    ),
    of_metrics("extract_sum_metric", Verb::ExtractSum, &[MONOTONIC, SUFFIX]),
    row(
        "flatten",
        Verb::Flatten,
        &[
            MAP,
            optional("prefix", Kind::TextLiteral),
            optional("depth", Kind::CountLiteral),
            optional("resolve_conflicts", Kind::BoolLiteral),
        ],
    ),
    row("keep_keys", Verb::KeepKeys, &[MAP, needed("keys", Kind::TextList)]),
    row("keep_matching_keys", Verb::KeepMatchingKeys, &[MAP, needed("pattern", Kind::Pattern)]),
    row(
        "limit",
        Verb::Limit,
        &[MAP, needed("limit", Kind::CountLiteral), needed("priority_keys", Kind::TextListLiteral)],
    ),
    of_points(
        "merge_histogram_buckets",
        Verb::MergeBuckets,
        &[
            needed("target_value", Kind::DoubleLike),
            optional("method", Kind::Choice(&["limit_buckets", "remove_explicit_bound"])),
        ],
    ),
    row(
        "merge_maps",
        Verb::MergeMaps,
        &[MAP, needed("source", Kind::Map), needed("strategy", Kind::Choice(&["insert", "update", "upsert"]))],
    ),
    row(
        "replace_all_matches",
        Verb::ReplaceAllMatches,
        &[MAP, needed("pattern", Kind::Glob), needed("replacement", Kind::Text), FUNCTION, FORMAT],
    ),
    row(
        "replace_all_patterns",
        Verb::ReplaceAllPatterns,
        &[
            MAP,
            needed("mode", Kind::Choice(&["key", "value"])),
            needed("regex_pattern", Kind::Pattern),
            needed("replacement", Kind::Text),
            FUNCTION,
            FORMAT,
        ],
    ),
    row(
        "replace_match",
        Verb::ReplaceMatch,
        &[ANY, needed("pattern", Kind::Glob), needed("replacement", Kind::Text), FUNCTION, FORMAT],
    ),
    row(
        "replace_pattern",
        Verb::ReplacePattern,
        &[ANY, needed("regex_pattern", Kind::Pattern), needed("replacement", Kind::Text), FUNCTION, FORMAT],
    ),
    of_metrics("scale_metric", Verb::ScaleMetric, &[needed("factor", Kind::DoubleLike), optional("unit", Kind::Text)]),
    row("set", Verb::Set, &[ANY, needed("value", Kind::Any)]),
    row("stringify_all", Verb::StringifyAll, &[MAP]),
    row(
        "truncate_all",
        Verb::TruncateAll,
        &[MAP, needed("limit", Kind::CountLiteral), optional("utf8_safe", Kind::BoolLiteral)],
    ),
];

/// Names of all editors.
pub fn editor_names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|row| row.name)
}

/// A checked editor.
#[derive(Debug)]
pub(crate) struct Editor {
    pub(crate) row: &'static Row,
    pub(crate) target: Path,
    /// By position, without the target; what was left out is `None`.
    pub(crate) arguments: Vec<Option<Expr>>,
    pub(crate) prepared: Prepared,
    /// The converter for replacements.
    pub(crate) function: Option<&'static Function>,
}

/// Runs `editor` on `item`; on a fault nothing was changed.
pub(crate) fn run<E: Edit>(
    editor: &Editor,
    is_masking: bool,
    item: &mut E,
    environment: &mut Environment,
) -> Result<(), Fault> {
    let target = &editor.target;
    match editor.row.verb {
        Verb::Set => {
            let Some(Some(value)) = editor.arguments.first() else { return Ok(()) };
            // A value that stands in the statement is not copied.
            if let Expr::Literal(literal @ (Value::Text(_) | Value::Int(_) | Value::Bool(_) | Value::Double(_))) = value
            {
                return assign(target, literal, item, environment);
            }
            let found = if is_masking {
                value.evaluate_masking(item, environment)?
            } else {
                value.evaluate(item, environment)?
            };
            match found {
                Value::Nil if is_masking => Err(Fault::Nil),
                Value::Nil => Ok(()),
                value => assign(target, &value.into_owned(), item, environment),
            }
        }
        Verb::DeleteKey => {
            // The usual key is written in the statement: nothing is copied.
            if let Some(Some(Expr::Literal(Value::Text(key)))) = editor.arguments.first() {
                if let (Root::Field(Field::Attributes(level), _), []) = (target.root, &*target.keys) {
                    item.remove_attribute(level, key);
                    return Ok(());
                }
                return retain(target, &mut |name| *name != **key, item, environment);
            }
            let key = editor.text(0, item, environment)?.into_owned();
            retain(target, &mut |name| *name != *key, item, environment)
        }
        Verb::DeleteMatchingKeys => {
            let pattern = editor.pattern(0, item, environment)?.into_owned();
            retain(target, &mut |name| !pattern.is_match(name), item, environment)
        }
        Verb::KeepMatchingKeys => {
            let pattern = editor.pattern(0, item, environment)?.into_owned();
            retain(target, &mut |name| pattern.is_match(name), item, environment)
        }
        Verb::KeepKeys => {
            let keys = texts(editor.argument(0, item, environment)?);
            retain(target, &mut |name| keys.iter().any(|key| **key == *name), item, environment)
        }
        Verb::ConvertGaugeToSum | Verb::ConvertSumToGauge => convert_metric(editor, item, environment),
        Verb::ScaleMetric => scale_metric(editor, item, environment),
        Verb::AggregateOnAttributeValue
        | Verb::AggregateOnAttributes
        | Verb::ConvertExponential
        | Verb::ConvertSummaryCount
        | Verb::ConvertSummaryQuantile
        | Verb::ConvertSummarySum
        | Verb::CopyMetric
        | Verb::ExtractCount
        | Verb::ExtractPercentile
        | Verb::ExtractSum
        | Verb::MergeBuckets => crate::metric::run(editor, item, environment),
        Verb::Append | Verb::DeleteIndex => edit_list(editor, item, environment),
        Verb::ReplaceMatch | Verb::ReplacePattern => replace_text(editor, item, environment),
        _ => edit_map(editor, item, environment),
    }
}

impl Editor {
    /// The argument behind the target at `index`, converted; nil if it was left out.
    pub(crate) fn argument<'v, V: View>(
        &'v self,
        index: usize,
        item: &'v V,
        environment: &'v Environment,
    ) -> Result<Value<'v>, Fault> {
        match self.arguments.get(index) {
            Some(Some(argument)) => self.kind(index).admit(argument.evaluate(item, environment)?),
            _ => Ok(Value::Nil),
        }
    }

    /// Whether the argument at `index` was given.
    pub(crate) fn is_given(&self, index: usize) -> bool {
        self.arguments.get(index).is_some_and(Option::is_some)
    }

    /// What the argument behind the target at `index` takes.
    fn kind(&self, index: usize) -> Kind {
        self.row.parameters[index + usize::from(self.row.context.is_none())].kind
    }

    fn text<'v, V: View>(&'v self, index: usize, item: &'v V, environment: &'v Environment) -> Result<Text<'v>, Fault> {
        match self.argument(index, item, environment)? {
            Value::Text(text) => Ok(text),
            other => Err(Fault::wrong("a string", &other)),
        }
    }

    fn pattern<'v, V: View>(
        &'v self,
        index: usize,
        item: &'v V,
        environment: &'v Environment,
    ) -> Result<Cow<'v, Regex>, Fault> {
        if let Prepared::Pattern(regex) = &self.prepared {
            return Ok(Cow::Borrowed(regex));
        }
        let text = self.text(index, item, environment)?;
        let compile = match self.kind(index) {
            Kind::Glob => pattern::compile_glob,
            _ => pattern::compile,
        };
        compile(&text).map(Cow::Owned).map_err(Fault::invalid)
    }
}

/// Numbers of metric types and temporalities, as statements have them.
const GAUGE: i64 = 1;
const SUM: i64 = 2;
const DELTA: i64 = 1;
const CUMULATIVE: i64 = 2;

/// Of another type than the editor's a metric is left alone.
fn convert_metric<E: Edit>(editor: &Editor, item: &mut E, environment: &Environment) -> Result<(), Fault> {
    let kind = item.read(Field::MetricType);
    if editor.row.verb == Verb::ConvertSumToGauge {
        if kind == Value::Int(SUM) {
            item.write(Field::MetricType, &Value::Int(GAUGE));
        }
        return Ok(());
    }
    let temporality = if &*editor.text(0, item, environment)? == b"delta" { DELTA } else { CUMULATIVE };
    let is_monotonic = editor.argument(1, item, environment)?.into_owned();
    if kind == Value::Int(GAUGE) {
        item.write(Field::MetricType, &Value::Int(SUM));
        item.write(Field::Temporality, &Value::Int(temporality));
        item.write(Field::IsMonotonic, &is_monotonic);
    }
    Ok(())
}

fn scale_metric<E: Edit>(editor: &Editor, item: &mut E, environment: &Environment) -> Result<(), Fault> {
    let Value::Double(factor) = editor.argument(0, item, environment)? else { return Err(Fault::Nil) };
    let unit = editor.argument(1, item, environment)?.into_owned();
    item.scale_points(factor)?;
    if unit != Value::Nil {
        item.write(Field::Unit, &unit);
    }
    Ok(())
}

/// The texts of a list.
pub(crate) fn texts(value: Value<'_>) -> Vec<Vec<u8>> {
    let Value::List(items) = value else { return Vec::new() };
    let text = |item| match item {
        Value::Text(text) => Some(Text::into_owned(text)),
        _ => None,
    };
    items.into_iter().filter_map(text).collect()
}

/// Deletes what is at `target`: an attribute goes, a field becomes empty or 0.
pub(crate) fn delete<E: Edit>(target: &Path, item: &mut E, environment: &mut Environment) -> Result<(), Fault> {
    let Some((last, parents)) = target.keys.split_last() else {
        return match target.root {
            Root::Cache => {
                environment.cache.clear();
                Ok(())
            }
            Root::Field(Field::Attributes(level), _) => {
                item.retain_attributes(level, &mut |_| false);
                Ok(())
            }
            Root::Field(field, Form::Any | Form::AnyText) => {
                item.write(field, &Value::Nil);
                Ok(())
            }
            Root::Field(field, _) => {
                let empty = match item.read(field) {
                    Value::Text(_) => Value::Text(Cow::Borrowed(&[])),
                    Value::Bytes(_) => Value::Bytes(Cow::Borrowed(&[])),
                    Value::Double(_) => Value::Double(0.0),
                    Value::Bool(_) => Value::Bool(false),
                    Value::List(_) => Value::List(Vec::new()),
                    _ => Value::Int(0),
                };
                item.write(field, &empty);
                Ok(())
            }
        };
    };
    if let Root::Field(field, Form::TraceState) = target.root {
        item.write(field, &Value::Text(Cow::Borrowed(&[])));
        return Ok(());
    }
    let parent = Path { root: target.root, keys: parents.to_vec() };
    match read_path(&parent, item, environment)? {
        Value::Map(_) => {
            let key = text_key(last, item, environment)?.into_owned();
            retain(&parent, &mut |name| *name != *key, item, environment)
        }
        // An element cannot be missing without moving the others: the whole list goes.
        _ => delete(&parent, item, environment),
    }
}

/// Removes the keys that `keep` refuses from the map at `target`.
fn retain<E: Edit>(
    target: &Path,
    keep: &mut dyn FnMut(&[u8]) -> bool,
    item: &mut E,
    environment: &mut Environment,
) -> Result<(), Fault> {
    match target.root {
        Root::Field(Field::Attributes(level), _) if target.keys.is_empty() => {
            item.retain_attributes(level, keep);
            Ok(())
        }
        Root::Cache if target.keys.is_empty() => {
            environment.cache.retain(|(key, _)| keep(key));
            Ok(())
        }
        _ => {
            let mut entries = read_map(target, item, environment)?;
            entries.retain(|(key, _)| keep(key));
            assign(target, &Value::Map(entries), item, environment)
        }
    }
}

fn read_map<E: Edit>(target: &Path, item: &E, environment: &Environment) -> Result<Entries<'static>, Fault> {
    match read_path(target, item, environment)? {
        Value::Map(entries) => Ok(owned_entries(entries)),
        other => Err(Fault::wrong("a map", &other)),
    }
}

/// Sets what is at `target`.
fn assign<E: Edit>(target: &Path, value: &Value<'_>, item: &mut E, environment: &mut Environment) -> Result<(), Fault> {
    if value.text_bytes() > VALUE_BYTES_MAX {
        return Err(Fault::invalid(format!("the value would have more than {VALUE_BYTES_MAX} bytes")));
    }
    if value.depth(codecs::otlp::VALUE_DEPTH_MAX) >= codecs::otlp::VALUE_DEPTH_MAX {
        return Err(Fault::invalid("the value would nest too deep"));
    }
    if matches!(target.root, Root::Field(_, Form::Map | Form::Any)) {
        refuse_times(value)?;
    }
    let Some((first, rest)) = target.keys.split_first() else {
        return assign_whole(target, value, item, environment);
    };
    if let (Expr::Literal(Value::Text(key)), [], Root::Field(Field::Attributes(level), _)) = (first, rest, target.root)
    {
        item.set_attribute(level, key, value);
        return Ok(());
    }
    if let Root::Field(field, form) = target.root
        && form.may_be_list()
    {
        let current = item.read(field).into_owned();
        let value = with_nested(current, &target.keys, value.clone().into_owned(), item, environment)?;
        item.write(field, &store(form, value)?);
        return Ok(());
    }
    let key = text_key(first, item, environment)?.into_owned();
    match target.root {
        Root::Field(Field::Attributes(level), _) => {
            let current = item.attribute(level, &key).unwrap_or_default().into_owned();
            let value = with_nested(current, rest, value.clone().into_owned(), item, environment)?;
            item.set_attribute(level, &key, &value);
        }
        Root::Field(field, _) => {
            let (Value::Text(state), Value::Text(value)) = (item.read(field), value) else {
                return Err(Fault::invalid("a trace state holds strings"));
            };
            let state = trace_state_with(&state, &key, value);
            item.write(field, &Value::Text(Cow::Owned(state)));
        }
        Root::Cache => {
            let current = crate::value::entry(&environment.cache, &key).cloned().unwrap_or_default();
            let value = with_nested(current, rest, value.clone().into_owned(), item, environment)?;
            put(&mut environment.cache, Cow::Owned(key), value);
        }
    }
    Ok(())
}

/// OTLP has no times: only the cache holds them.
fn refuse_times(value: &Value<'_>) -> Result<(), Fault> {
    match value {
        Value::Time(_) | Value::Duration(_) => Err(Fault::wrong("a value that an attribute can hold", value)),
        Value::List(items) => items.iter().try_for_each(refuse_times),
        Value::Map(entries) => entries.iter().try_for_each(|(_, value)| refuse_times(value)),
        _ => Ok(()),
    }
}

fn assign_whole<E: Edit>(
    target: &Path,
    value: &Value<'_>,
    item: &mut E,
    environment: &mut Environment,
) -> Result<(), Fault> {
    match (target.root, value) {
        (Root::Cache, Value::Map(entries)) => environment.cache = owned_entries(entries.clone()),
        (Root::Cache, other) => return Err(Fault::wrong("a map", other)),
        (Root::Field(Field::Attributes(level), _), Value::Map(entries)) => item.replace_attributes(level, entries),
        (Root::Field(field, form), value) => item.write(field, &store(form, value.borrowed())?),
    }
    Ok(())
}

/// `current` with `value` at `keys`; maps and lists that are missing on the way are made.
fn with_nested<V: View>(
    current: Value<'static>,
    keys: &[Expr],
    value: Value<'static>,
    item: &V,
    environment: &Environment,
) -> Result<Value<'static>, Fault> {
    let Some((key, rest)) = keys.split_first() else {
        return Ok(value);
    };
    let key_value = key.evaluate(item, environment)?;
    match (current, key_value) {
        (Value::Map(mut entries), Value::Text(key)) => {
            let inner = crate::value::entry(&entries, &key).cloned().unwrap_or_default();
            let inner = with_nested(inner, rest, value, item, environment)?;
            put(&mut entries, Cow::Owned(key.into_owned()), inner);
            Ok(Value::Map(entries))
        }
        (Value::Nil, Value::Text(key)) => {
            let inner = with_nested(Value::Nil, rest, value, item, environment)?;
            Ok(Value::Map(vec![(Cow::Owned(key.into_owned()), inner)]))
        }
        (Value::List(mut items), Value::Int(_)) => {
            let index = list_index(key, items.len(), item, environment)?;
            let inner = std::mem::take(&mut items[index]);
            items[index] = with_nested(inner, rest, value, item, environment)?;
            Ok(Value::List(items))
        }
        (Value::Nil, Value::Int(index)) => {
            let index = usize::try_from(index).ok().filter(|index| *index < LIST_LENGTH_MAX);
            let index = index.ok_or(Fault::invalid("the index is negative or too large for a new list"))?;
            let mut items = vec![Value::Nil; index];
            items.push(with_nested(Value::Nil, rest, value, item, environment)?);
            Ok(Value::List(items))
        }
        (other, _) => Err(Fault::wrong("a map or list that has the key", &other)),
    }
}

fn edit_list<E: Edit>(editor: &Editor, item: &mut E, environment: &mut Environment) -> Result<(), Fault> {
    let current = read_path(&editor.target, item, environment)?;
    let items = if editor.row.verb == Verb::Append {
        let mut items = match current {
            Value::Nil => Vec::new(),
            Value::List(items) => items,
            map @ Value::Map(_) => return Err(Fault::wrong("a list or a single value", &map)),
            single => vec![single],
        };
        if editor.arguments.first().is_some_and(Option::is_some) {
            items.push(editor.argument(0, item, environment)?);
        }
        if let Value::List(more) = editor.argument(1, item, environment)? {
            items.extend(more);
        }
        Value::List(items)
    } else {
        let Value::List(mut items) = current else {
            return Err(Fault::wrong("a list", &current));
        };
        let (start, end) = match (editor.argument(0, item, environment)?, editor.argument(1, item, environment)?) {
            (Value::Int(start), Value::Int(end)) => (start, end),
            (Value::Int(start), _) => (start, start.saturating_add(1)),
            _ => return Err(Fault::Nil),
        };
        let length = items.len();
        let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
        let is_all = start == 0 && usize::try_from(end) == Ok(length);
        let range = range.filter(|(start, end)| is_all || (*start < length && start <= end && *end <= length));
        let (start, end) = range.ok_or(Fault::Index { index: start, length })?;
        items.drain(start..end);
        Value::List(items)
    };
    let items = items.into_owned();
    assign(&editor.target, &items, item, environment)
}

/// `replace_match` and `replace_pattern`: values that are no text are left alone.
fn replace_text<E: Edit>(editor: &Editor, item: &mut E, environment: &mut Environment) -> Result<(), Fault> {
    let Value::Text(text) = read_path(&editor.target, item, environment)? else {
        return Ok(());
    };
    let replacement = Replacement::of(editor, 1, item, environment)?;
    let pattern = editor.pattern(0, item, environment)?;
    let replaced = match editor.row.verb {
        Verb::ReplaceMatch => pattern.is_match(&text).then(|| replacement.whole()).transpose()?,
        _ => replacement.replaced(&pattern, &text)?,
    };
    match replaced {
        Some(text) => assign(&editor.target, &Value::Text(Cow::Owned(text)), item, environment),
        None => Ok(()),
    }
}

/// What a match is replaced by.
struct Replacement<'v> {
    text: Text<'v>,
    function: Option<&'static Function>,
    format: Option<Text<'v>>,
    environment: &'v Environment,
}

impl<'v> Replacement<'v> {
    /// Reads the arguments from `index` on: replacement, function, format.
    fn of<V: View>(editor: &'v Editor, index: usize, item: &'v V, environment: &'v Environment) -> Result<Self, Fault> {
        let format = match editor.argument(index + 2, item, environment)? {
            Value::Text(format) => Some(format),
            _ => None,
        };
        if format
            .as_deref()
            .is_some_and(|format| format.split(|byte| *byte == b'%').count() != 2 || !holds_verb(format))
        {
            return Err(Fault::invalid("the replacement format must hold %s once and no other verb"));
        }
        let text = editor.text(index, item, environment)?;
        Ok(Self { text, function: editor.function, format, environment })
    }

    /// The replacement for a whole text.
    fn whole(&self) -> Result<Vec<u8>, Fault> {
        self.finished(self.text.to_vec())
    }

    /// `text` with every match replaced; `None` without a match.
    fn replaced(&self, pattern: &Regex, text: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        let mut out = Vec::new();
        let mut last = 0;
        for captures in pattern.captures_iter(text) {
            let Some(whole) = captures.get(0) else { continue };
            out.extend_from_slice(&text[last..whole.start()]);
            let mut expanded = Vec::new();
            captures.expand(&self.text, &mut expanded);
            out.extend_from_slice(&self.finished(expanded)?);
            last = whole.end();
            if out.len() > VALUE_BYTES_MAX {
                return Err(Fault::invalid(format!("the value would have more than {VALUE_BYTES_MAX} bytes")));
            }
        }
        if last == 0 && out.is_empty() && !pattern.is_match(text) {
            return Ok(None);
        }
        out.extend_from_slice(&text[last..]);
        Ok(Some(out))
    }

    /// Through the function, then the format, which counts only with a function.
    fn finished(&self, text: Vec<u8>) -> Result<Vec<u8>, Fault> {
        let Some(function) = self.function else {
            return Ok(text);
        };
        let mut values: [Value<'_>; crate::program::ARGUMENTS_MAX] = Default::default();
        values[0] = function.parameters[0].kind.admit(Value::Text(Cow::Owned(text)))?;
        let mut arguments = Arguments { values, prepared: &Prepared::Nothing, environment: self.environment };
        let text = match (function.run)(&mut arguments)? {
            Value::Text(text) => text.into_owned(),
            other => return Err(Fault::wrong("a function that gives a string", &other)),
        };
        Ok(match &self.format {
            Some(format) => {
                let place = format.windows(2).position(|window| window == b"%s").unwrap_or(0);
                [&format[..place], &text[..], &format[place + 2..]].concat()
            }
            None => text,
        })
    }
}

fn holds_verb(format: &[u8]) -> bool {
    format.windows(2).any(|window| window == b"%s")
}

/// The editors that read a whole map, change it and write it back.
fn edit_map<E: Edit>(editor: &Editor, item: &mut E, environment: &mut Environment) -> Result<(), Fault> {
    let mut entries = read_map(&editor.target, item, environment)?;
    let argument = |index| editor.argument(index, item, environment);
    let count = |index| match argument(index) {
        Ok(Value::Int(count)) => usize::try_from(count).unwrap_or(usize::MAX),
        _ => usize::MAX,
    };
    let flag = |index| match argument(index) {
        Ok(Value::Bool(flag)) => Some(flag),
        _ => None,
    };
    match editor.row.verb {
        Verb::Limit => limit(&mut entries, count(0), &texts(argument(1)?)),
        Verb::TruncateAll => truncate_all(&mut entries, count(0), flag(1).unwrap_or(true)),
        Verb::StringifyAll => stringify_all(&mut entries)?,
        Verb::MergeMaps => {
            let Value::Map(source) = argument(0)? else { return Err(Fault::Nil) };
            let source = owned_entries(source);
            merge(&mut entries, source, &editor.text(1, item, environment)?);
        }
        Verb::Flatten => {
            let prefix = match argument(0)? {
                Value::Text(prefix) => prefix.into_owned(),
                _ => Vec::new(),
            };
            let mut flat = Flat {
                entries: Vec::new(),
                depth_max: count(1),
                counts: Vec::new(),
                numbers_all: flag(2) == Some(true),
            };
            flat.map(entries, &prefix, 0);
            entries = flat.entries;
        }
        Verb::ReplaceAllMatches => {
            let replacement = Replacement::of(editor, 1, item, environment)?;
            let pattern = editor.pattern(0, item, environment)?;
            let whole = replacement.whole()?;
            for (_, value) in &mut entries {
                if matches!(value, Value::Text(text) if pattern.is_match(text)) {
                    *value = Value::Text(Cow::Owned(whole.clone()));
                }
            }
        }
        _ => {
            let replacement = Replacement::of(editor, 2, item, environment)?;
            let pattern = editor.pattern(1, item, environment)?;
            let is_key = &*editor.text(0, item, environment)? == b"key";
            entries = replace_all(entries, is_key, &pattern, &replacement)?;
        }
    }
    assign(&editor.target, &Value::Map(entries), item, environment)
}

fn limit(entries: &mut Entries<'static>, most: usize, priority: &[Vec<u8>]) {
    if entries.len() <= most {
        return;
    }
    let is_priority = |key: &[u8]| priority.iter().any(|name| **name == *key);
    let mut kept = entries.iter().filter(|(key, _)| is_priority(key)).count();
    entries.retain(|(key, _)| {
        if is_priority(key) {
            return true;
        }
        kept += 1;
        kept <= most
    });
}

fn truncate_all(entries: &mut Entries<'static>, most: usize, is_utf8_safe: bool) {
    for (_, value) in entries {
        if let Value::Text(text) = value
            && text.len() > most
        {
            let is_boundary = |end: &usize| !is_utf8_safe || text[*end] & 0xc0 != 0x80;
            let end = (0..=most).rev().find(is_boundary).unwrap_or(0);
            text.to_mut().truncate(end);
        }
    }
}

fn stringify_all(entries: &mut Entries<'static>) -> Result<(), Fault> {
    for (_, value) in entries {
        *value = match std::mem::take(value) {
            Value::Nil => Value::text(""),
            Value::Bytes(bytes) => Value::owned_text(crate::value::base64_padded(&bytes)),
            other => other.into_text_like()?,
        };
    }
    Ok(())
}

fn merge(entries: &mut Entries<'static>, source: Entries<'static>, strategy: &[u8]) {
    for (key, value) in source {
        let is_present = crate::value::entry(entries, &key).is_some();
        let is_wanted = match strategy {
            b"insert" => !is_present,
            b"update" => is_present,
            _ => true,
        };
        if is_wanted {
            put(entries, key, value);
        }
    }
}

fn replace_all(
    entries: Entries<'static>,
    is_key: bool,
    pattern: &Regex,
    replacement: &Replacement<'_>,
) -> Result<Entries<'static>, Fault> {
    let mut out: Entries<'static> = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        match value {
            value if is_key => {
                let replaced = replacement.replaced(pattern, &key)?;
                put(&mut out, replaced.map_or(key, Cow::Owned), value);
            }
            Value::Text(text) => {
                let replaced = replacement.replaced(pattern, &text)?;
                out.push((key, Value::Text(replaced.map_or(text, Cow::Owned))));
            }
            value => out.push((key, value)),
        }
    }
    Ok(out)
}

/// The work of `flatten`.
struct Flat {
    entries: Entries<'static>,
    depth_max: usize,
    /// Next number for each key that was met again.
    counts: Vec<(Vec<u8>, usize)>,
    numbers_all: bool,
}

impl Flat {
    fn map(&mut self, entries: Entries<'static>, prefix: &[u8], depth: usize) {
        for (key, value) in entries {
            let name = if prefix.is_empty() { key.into_owned() } else { [prefix, &b"."[..], &key].concat() };
            self.value(name, value, depth);
        }
    }

    fn value(&mut self, name: Vec<u8>, value: Value<'static>, depth: usize) {
        match value {
            Value::Map(entries) if depth < self.depth_max => self.map(entries, &name, depth + 1),
            Value::List(items) if depth < self.depth_max => {
                for (index, item) in items.into_iter().enumerate() {
                    let numbered = [&name[..], b".", index.to_string().as_bytes()].concat();
                    match item {
                        item @ (Value::Map(_) | Value::List(_)) if depth + 1 < self.depth_max => {
                            self.value(numbered, item, depth + 1);
                        }
                        item if self.numbers_all => self.put(name.clone(), item),
                        item => put(&mut self.entries, Cow::Owned(numbered), item),
                    }
                }
            }
            value => self.put(name, value),
        }
    }

    /// With `resolve_conflicts`, a key that is taken gets a number.
    fn put(&mut self, name: Vec<u8>, value: Value<'static>) {
        let is_taken = self.numbers_all && crate::value::entry(&self.entries, &name).is_some();
        let key = if is_taken {
            let met = self.counts.iter().position(|(key, _)| *key == name);
            let place = met.unwrap_or(self.counts.len());
            if met.is_none() {
                self.counts.push((name.clone(), 0));
            }
            let number = self.counts[place].1;
            self.counts[place].1 += 1;
            [&name[..], b".", number.to_string().as_bytes()].concat()
        } else {
            name
        };
        put(&mut self.entries, Cow::Owned(key), value);
    }
}
