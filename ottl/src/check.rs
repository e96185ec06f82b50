//! Tree to program: every path, function and enum resolved, arguments counted and their types checked.
//!
//! What comes out cannot name anything unknown; what is wrong is told with its place and the nearest right name.

use std::cell::RefCell;
use std::ops::Range;

use codecs::otlp::Signal;

use crate::diagnostic::{Diagnostic, nearest};
use crate::editor::{self, Editor};
use crate::fault::Fault;
use crate::function::{self, Function, Grok, Kind, Parameter, Prepared, Severities, converter_names};
use crate::parser::{parse_condition, parse_statement};
use crate::path::{Context, Field, Form, Path, Root, field, field_names};
use crate::pattern;
use crate::program::{ARGUMENTS_MAX, Call, Condition, Expr, Statement, Test};
use crate::sender::Ask;
use crate::syntax::{self, Comparison, ExprKind};
use crate::time;
use crate::value::{self, Value};
use crate::zone::Zone;

/// Whether paths name their context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paths {
    /// Each path starts with its context: `span.name`. So the flat form of a configuration.
    Prefixed,
    /// A path without a context belongs to the statement's own: `name`, `resource.attributes["a"]`.
    Bare,
}

/// Checks a statement for `context`.
///
/// # Errors
/// The first mistake, with its place.
pub fn check_statement(text: &str, context: Context, paths: Paths) -> Result<Statement, Diagnostic> {
    let parsed = parse_statement(text)?;
    let checker = Checker { context, paths, asks: RefCell::default() };
    let editor = checker.editor(&parsed.editor)?;
    let condition = parsed.condition.as_ref().map(|condition| checker.test(condition)).transpose()?;
    let value = editor.arguments.first().and_then(Option::as_ref);
    let masks = editor.row.verb == editor::Verb::Set && value.is_some_and(|value| value.masks(&editor.target));
    let asks = checker.asks.into_inner();
    Ok(Statement { text: text.to_owned(), editor, condition, masks, asks })
}

/// Checks a lone condition for `context`.
///
/// # Errors
/// The first mistake, with its place.
pub fn check_condition(text: &str, context: Context, paths: Paths) -> Result<Condition, Diagnostic> {
    let parsed = parse_condition(text)?;
    let checker = Checker { context, paths, asks: RefCell::default() };
    let test = checker.test(&parsed)?;
    Ok(Condition { text: text.to_owned(), test, asks: checker.asks.into_inner() })
}

/// Whether a statement can be read at all: for contexts whose names are not known here.
///
/// # Errors
/// The first mistake of the grammar, with its place.
pub fn check_syntax(statement: &str) -> Result<(), Diagnostic> {
    parse_statement(statement).map(|_| ())
}

/// The lowest context that the paths of `statements` name: the one they all can run in.
///
/// # Errors
/// The number of the statement that does not parse, and why; or no path names a context (number of the first one).
pub fn infer_context<'t>(statements: impl IntoIterator<Item = &'t str>) -> Result<Context, (usize, Diagnostic)> {
    infer_group_context(statements, [])
}

/// As [`infer_context`], for statements that run together under conditions.
///
/// # Errors
/// The same; conditions are numbered on from the statements.
pub fn infer_group_context<'t>(
    statements: impl IntoIterator<Item = &'t str>,
    conditions: impl IntoIterator<Item = &'t str>,
) -> Result<Context, (usize, Diagnostic)> {
    let mut lowest = None;
    let mut visit = |path: &syntax::Path| {
        let named = path.segments.first().filter(|_| path.segments.len() > 1);
        lowest = lowest.max(named.and_then(|segment| Context::named(&segment.name)));
    };
    let (mut number, mut only) = (0, None);
    for text in statements {
        let parsed = parse_statement(text).map_err(|error| (number, error))?;
        only = only.max(editor::TABLE.iter().find(|row| row.name == parsed.editor.name).and_then(|row| row.context));
        parsed.editor.arguments.iter().for_each(|argument| paths_of(&argument.value, &mut visit));
        parsed.condition.iter().for_each(|condition| paths_of(condition, &mut visit));
        number += 1;
    }
    for text in conditions {
        paths_of(&parse_condition(text).map_err(|error| (number, error))?, &mut visit);
        number += 1;
    }
    lowest.max(only).ok_or_else(|| {
        let message = "expected a path that starts with its context, found none";
        (0, Diagnostic::new(0..0, message, "write `span.attributes[\"key\"]` instead of `attributes[\"key\"]`"))
    })
}

fn paths_of(expr: &syntax::Expr, visit: &mut impl FnMut(&syntax::Path)) {
    match &expr.kind {
        ExprKind::Path(path) => {
            visit(path);
            path.segments.iter().flat_map(|segment| &segment.keys).for_each(|key| paths_of(key, visit));
        }
        ExprKind::Call(call) => {
            call.arguments.iter().for_each(|argument| paths_of(&argument.value, visit));
            call.keys.iter().for_each(|key| paths_of(key, visit));
        }
        ExprKind::List(parts) | ExprKind::And(parts) | ExprKind::Or(parts) => {
            parts.iter().for_each(|part| paths_of(part, visit));
        }
        ExprKind::Map(entries) => entries.iter().for_each(|(_, value)| paths_of(value, visit)),
        ExprKind::Negate(inner) | ExprKind::Not(inner) => paths_of(inner, visit),
        ExprKind::Math(first, rest) => {
            paths_of(first, visit);
            rest.iter().for_each(|(_, part)| paths_of(part, visit));
        }
        ExprKind::Compare(_, sides) => {
            paths_of(&sides.0, visit);
            paths_of(&sides.1, visit);
        }
        _ => {}
    }
}

struct Checker {
    context: Context,
    paths: Paths,
    /// What was found that the sender is asked for.
    asks: RefCell<Vec<Ask>>,
}

/// A call's arguments, checked, and what was made of them.
struct Checked {
    arguments: Vec<Option<Expr>>,
    prepared: Prepared,
    function: Option<&'static Function>,
    target: Option<Path>,
}

impl Checker {
    fn editor(&self, call: &syntax::Call) -> Result<Editor, Diagnostic> {
        let Some(row) = editor::TABLE.iter().find(|row| row.name == call.name) else {
            return Err(unknown(&call.name_at, "an editor", &call.name, editor::editor_names()));
        };
        if let Some(key) = call.keys.first() {
            return Err(Diagnostic::expected(key.at.clone(), "`where` or the end", "a key", "an editor has no result"));
        }
        let mut checked = self.arguments(call, row.parameters)?;
        let at_least_one = row.verb == editor::Verb::Append && checked.arguments.iter().skip(1).all(Option::is_none);
        if at_least_one {
            let help = "write `append(target, value)` or `append(target, values = [...])`";
            return Err(Diagnostic::expected(call.at.clone(), "a value to append", "none", help));
        }
        if let Some(context) = row.context {
            if self.context != context {
                let found = format!("the context {}", self.context);
                let help = format!("use the context `{context}`");
                let expected = format!("the context {context}");
                return Err(Diagnostic::expected(call.name_at.clone(), &expected, &found, help));
            }
            // It changes the metric or the point as a whole; this names the level.
            let level = if row.verb == editor::Verb::MergeBuckets { Field::BucketCounts } else { Field::MetricType };
            checked.target = Some(Path { root: Root::Field(level, Form::ReadOnly), keys: Vec::new() });
        } else {
            checked.arguments.remove(0);
        }
        let Some(target) = checked.target else {
            // Each row's first parameter is a target, and it is not optional.
            return Err(Diagnostic::expected(call.at.clone(), "a target", "none", ""));
        };
        Ok(Editor { row, target, arguments: checked.arguments, prepared: checked.prepared, function: checked.function })
    }

    fn test(&self, expr: &syntax::Expr) -> Result<Test, Diagnostic> {
        let tests = |parts: &[syntax::Expr]| parts.iter().map(|part| self.test(part)).collect::<Result<_, _>>();
        Ok(match &expr.kind {
            ExprKind::Bool(value) => Test::Constant(*value),
            ExprKind::Call(_) => Test::Converter(self.value(expr)?),
            ExprKind::Not(inner) => Test::Not(Box::new(self.test(inner)?)),
            ExprKind::And(parts) => Test::All(tests(parts)?),
            ExprKind::Or(parts) => Test::Any(tests(parts)?),
            ExprKind::Compare(operator, sides) => {
                Test::Compare(*operator, Box::new((self.value(&sides.0)?, self.value(&sides.1)?)))
            }
            other => {
                let help = "compare it, as in `... == true` or `... != nil`";
                return Err(Diagnostic::expected(expr.at.clone(), "a condition", other.describe(), help));
            }
        })
    }

    fn value(&self, expr: &syntax::Expr) -> Result<Expr, Diagnostic> {
        let literal = |value| Ok(Expr::Literal(value));
        match &expr.kind {
            ExprKind::Nil => literal(Value::Nil),
            ExprKind::Bool(value) => literal(Value::Bool(*value)),
            ExprKind::Int(value) => literal(Value::Int(*value)),
            ExprKind::Double(value) => literal(Value::Double(*value)),
            ExprKind::Text(text) => literal(Value::Text(text.clone().into())),
            ExprKind::Bytes(bytes) => literal(Value::Bytes(bytes.clone().into())),
            ExprKind::Name(name) => Ok(Expr::Literal(Value::Int(enumeration(name, &expr.at)?))),
            ExprKind::Path(path) if is_of_sender(path) => self.sender(path, &expr.at),
            ExprKind::Path(path) => Ok(Expr::Path(self.path(path, &expr.at)?)),
            ExprKind::Call(call) => self.call(call),
            ExprKind::List(items) => {
                let items: Vec<Expr> = items.iter().map(|item| self.value(item)).collect::<Result<_, _>>()?;
                Ok(folded(items))
            }
            ExprKind::Map(entries) => {
                let entry = |(key, value): &(Vec<u8>, syntax::Expr)| Ok((key.clone(), self.value(value)?));
                Ok(folded_map(entries.iter().map(entry).collect::<Result<_, _>>()?))
            }
            ExprKind::Negate(inner) => match self.value(inner)? {
                Expr::Literal(Value::Double(number)) => literal(Value::Double(-number)),
                inner => Ok(Expr::Negate(Box::new(inner))),
            },
            ExprKind::Math(first, rest) => {
                let part = |(operator, part): &(_, syntax::Expr)| Ok((*operator, self.value(part)?));
                let first = self.value(first)?;
                Ok(Expr::Math(Box::new(first), rest.iter().map(part).collect::<Result<_, _>>()?))
            }
            other => {
                let help = "conditions stand behind `where` only";
                Err(Diagnostic::expected(expr.at.clone(), "a value", other.describe(), help))
            }
        }
    }

    fn call(&self, call: &syntax::Call) -> Result<Expr, Diagnostic> {
        let is_editor = editor::TABLE.iter().any(|row| row.name == call.name);
        if is_editor {
            let help =
                "an editor starts a statement; values are computed by converters, whose names start with a capital";
            return Err(Diagnostic::expected(call.name_at.clone(), "a converter", "an editor", help));
        }
        if call.name == "IsRootSpan" {
            self.arguments(call, &[])?;
            return if self.context.signal() == Some(Signal::Traces) {
                Ok(Expr::IsRootSpan)
            } else {
                let found = format!("the context {}", self.context);
                Err(Diagnostic::expected(
                    call.name_at.clone(),
                    "a context with spans",
                    &found,
                    "use the context `span`",
                ))
            };
        }
        if let "HasAttrKeyOnDatapoint" | "HasAttrOnDatapoint" = &*call.name {
            return self.point_attribute(call);
        }
        let Some(function) = function::find(&call.name) else {
            return Err(unknown(&call.name_at, "a converter", &call.name, converter_names()));
        };
        let mut checked = self.arguments(call, function.parameters)?;
        if call.name == "ExtractGrokPatterns" {
            let grok = Grok::of_literals(&checked.arguments);
            let at = call.arguments.get(1).map_or(&call.at, |pattern| &pattern.value.at);
            let help = "see docs/ottl-parity.md for the patterns that are known";
            checked.prepared = Prepared::Grok(grok.map_err(|why| Diagnostic::new(at.clone(), why, help))?);
        }
        let keys = call.keys.iter().map(|key| self.key(key)).collect::<Result<_, _>>()?;
        Ok(Expr::Call(Box::new(Call { function, arguments: checked.arguments, prepared: checked.prepared, keys })))
    }

    /// The converters that ask the points of a metric.
    fn point_attribute(&self, call: &syntax::Call) -> Result<Expr, Diagnostic> {
        const KEY: Parameter = function::needed("key", Kind::TextLiteral);
        const EXPECTED: Parameter = function::needed("expected_val", Kind::TextLiteral);
        let takes_value = call.name == "HasAttrOnDatapoint";
        let checked = self.arguments(call, if takes_value { &[KEY, EXPECTED] } else { &[KEY] })?;
        if self.context != Context::Metric {
            let found = format!("the context {}", self.context);
            let help = "use the context `metric`; in `datapoint`, write `attributes[\"key\"] != nil`";
            return Err(Diagnostic::expected(call.name_at.clone(), "the context metric", &found, help));
        }
        let mut texts = checked.arguments.into_iter().map(|argument| match argument {
            Some(Expr::Literal(Value::Text(text))) => text.into_owned(),
            _ => Vec::new(),
        });
        Ok(Expr::HasPointAttribute(texts.next().unwrap_or_default(), texts.next()))
    }

    /// A path below `otelcol.`.
    fn sender(&self, path: &syntax::Path, at: &Range<usize>) -> Result<Expr, Diagnostic> {
        let name = path.segments.iter().map(|segment| segment.name.as_str()).collect::<Vec<_>>().join(".");
        if !SENDER_PATHS.contains(&&*name) {
            return Err(unknown(at, "what is known of a sender", &name, SENDER_PATHS.iter().copied()));
        }
        let (last, parents) =
            path.segments.split_last().map_or((None, &[][..]), |(last, parents)| (Some(last), parents));
        if let Some(key) = parents.iter().find_map(|segment| segment.keys.first()) {
            return Err(Diagnostic::expected(key.at.clone(), "`.`", "a key", "only the last part of a path has keys"));
        }
        let mut keys = last.map_or(&[][..], |last| &last.keys).iter();
        let ask = if name == "otelcol.client.addr" {
            Ask::Address
        } else {
            let key = keys.next().map(|key| (&key.at, &key.kind));
            let Some((_, ExprKind::Text(key))) = key else {
                let help = format!("write `{name}[\"key\"]`: nothing is kept of a sender but what is named");
                let (place, found) = key.map_or((at, "none"), |(place, kind)| (place, kind.describe()));
                return Err(Diagnostic::expected(place.clone(), "a key in quotes", found, help));
            };
            let key = String::from_utf8_lossy(key);
            if name == "otelcol.client.auth.attributes" {
                Ask::Auth(key.into_owned())
            } else {
                Ask::Metadata(key.to_ascii_lowercase())
            }
        };
        let keys = keys.map(|key| self.key(key)).collect::<Result<_, _>>()?;
        self.asks.borrow_mut().push(ask.clone());
        Ok(Expr::Sender(ask, keys))
    }

    fn arguments(&self, call: &syntax::Call, parameters: &'static [Parameter]) -> Result<Checked, Diagnostic> {
        debug_assert!(parameters.len() <= ARGUMENTS_MAX, "every table row fits");
        let mut checked = Checked {
            arguments: vec![None; parameters.len()],
            prepared: Prepared::Nothing,
            function: None,
            target: None,
        };
        let mut is_given = vec![false; parameters.len()];
        let mut has_names = false;
        for (index, argument) in call.arguments.iter().enumerate() {
            let at = argument.value.at.clone();
            let place = match &argument.name {
                Some((name, name_at)) => {
                    has_names = true;
                    let names = || parameters.iter().map(|parameter| parameter.name);
                    names()
                        .position(|known| known == name)
                        .ok_or_else(|| unknown(name_at, "an argument", name, names()))?
                }
                None if has_names => {
                    let help = "arguments with a name come last";
                    return Err(Diagnostic::expected(at, "an argument with a name", "one without", help));
                }
                None if index >= parameters.len() => {
                    let expected = count_of(parameters.len());
                    return Err(Diagnostic::expected(at, &expected, "one more", signature(&call.name, parameters)));
                }
                None => index,
            };
            if is_given[place] {
                let message = format!("expected `{}` once, found it again", parameters[place].name);
                return Err(Diagnostic::new(at, message, "remove one of the two"));
            }
            is_given[place] = true;
            self.argument(&parameters[place], &argument.value, &mut checked, place)?;
        }
        let missing = parameters.iter().zip(&is_given).find(|(parameter, is_given)| !parameter.optional && !**is_given);
        if let Some((parameter, _)) = missing {
            let expected = format!("`{}` ({})", parameter.name, parameter.kind.describe());
            let end = call.at.end.saturating_sub(1)..call.at.end;
            return Err(Diagnostic::expected(end, &expected, "no more arguments", signature(&call.name, parameters)));
        }
        Ok(checked)
    }

    fn argument(
        &self,
        parameter: &Parameter,
        value: &syntax::Expr,
        checked: &mut Checked,
        place: usize,
    ) -> Result<(), Diagnostic> {
        let wrong = |found: &str, help: String| {
            let expected = format!("{} as `{}`", parameter.kind.describe(), parameter.name);
            Err(Diagnostic::expected(value.at.clone(), &expected, found, help))
        };
        match (parameter.kind, &value.kind) {
            (Kind::Function, ExprKind::Name(name)) => {
                checked.function = Some(replacing_function(name, &value.at)?);
                return Ok(());
            }
            (Kind::Function, other) => return wrong(other.describe(), "write its name alone: `SHA256`".to_owned()),
            (Kind::Target | Kind::MapTarget, ExprKind::Path(path)) if is_of_sender(path) => {
                return wrong("one that can only be read", "who sent an item cannot be changed".to_owned());
            }
            (Kind::Target | Kind::MapTarget, ExprKind::Path(path)) => {
                checked.target = Some(self.target(path, &value.at, parameter.kind)?);
                return Ok(());
            }
            (Kind::Target | Kind::MapTarget, other) => {
                return wrong(other.describe(), "name what is changed".to_owned());
            }
            _ => {}
        }
        let expr = self.value(value)?;
        let Expr::Literal(literal) = &expr else {
            if parameter.kind.is_literal() {
                return wrong(value.kind.describe(), "it must be known when the statement is read".to_owned());
            }
            checked.arguments[place] = Some(expr);
            return Ok(());
        };
        match parameter.kind.admit(literal.clone()) {
            // Nil, or a text that is no number, fails when it runs, as if it came from an attribute.
            Ok(_) => {}
            Err(Fault::Nil) if !parameter.kind.is_literal() => {}
            Err(Fault::Type { .. } | Fault::Nil) => return wrong(value.kind.describe(), String::new()),
            Err(_) => {}
        }
        if let Err(why) = prepare(parameter.kind, literal, checked) {
            return Err(Diagnostic::new(value.at.clone(), why.0, why.1));
        }
        checked.arguments[place] = Some(expr);
        Ok(())
    }

    fn target(&self, path: &syntax::Path, at: &Range<usize>, kind: Kind) -> Result<Path, Diagnostic> {
        let target = self.path(path, at)?;
        if let Root::Field(_, Form::Count | Form::ReadOnly) = target.root {
            return Err(Diagnostic::expected(at.clone(), "a path that can be set", "one that can only be read", ""));
        }
        let holds_maps = matches!(target.root, Root::Cache | Root::Field(_, Form::Map | Form::Any));
        if kind == Kind::MapTarget && !holds_maps {
            let help = "maps are `attributes`, `cache` and what lies in them";
            return Err(Diagnostic::expected(at.clone(), "a map", "a single value", help));
        }
        Ok(target)
    }

    fn path(&self, path: &syntax::Path, at: &Range<usize>) -> Result<Path, Diagnostic> {
        let (context, segments) = self.split_context(path, at)?;
        let Some((last, parents)) = segments.split_last() else {
            let help = format!("name a field, such as `{context}.attributes`");
            return Err(Diagnostic::expected(at.clone(), "a field", "a context alone", help));
        };
        let name = segments.iter().map(|segment| segment.name.as_str()).collect::<Vec<_>>().join(".");
        let Some(root) = field(context, &name) else {
            let names = field_names(context);
            let found = unknown(&(segments[0].at.start..last.at.end), &format!("a field of {context}"), &name, names);
            return Err(found);
        };
        if let Some(key) = parents.iter().find_map(|segment| segment.keys.first()) {
            return Err(Diagnostic::expected(key.at.clone(), "`.`", "a key", "only the last part of a path has keys"));
        }
        if root == Root::Cache && context != self.context {
            let help = format!("each context has a cache of its own: `{}.cache`", self.context);
            return Err(Diagnostic::expected(at.clone(), "the statement's own cache", "another context's", help));
        }
        let (takes_keys, may_be_list) = match root {
            Root::Cache => (true, false),
            Root::Field(_, form) => (form.takes_keys(), form.may_be_list()),
        };
        if let (Some(key), false) = (last.keys.first(), takes_keys) {
            let help = format!("`{name}` is a single value");
            return Err(Diagnostic::expected(key.at.clone(), "no key", "a key", help));
        }
        let mut keys = Vec::with_capacity(last.keys.len());
        for (index, key) in last.keys.iter().enumerate() {
            let checked = self.key(key)?;
            if let (0, false, Expr::Literal(Value::Int(_))) = (index, may_be_list, &checked) {
                return Err(Diagnostic::expected(key.at.clone(), "a string as key", "an integer", "put it in quotes"));
            }
            keys.push(checked);
        }
        let extra = keys.get(1).filter(|_| matches!(root, Root::Field(_, Form::TraceState)));
        if extra.is_some() {
            let help = "the entries of a trace state are strings";
            return Err(Diagnostic::expected(last.keys[1].at.clone(), "one key", "a second", help));
        }
        Ok(Path { root, keys })
    }

    fn key(&self, key: &syntax::Expr) -> Result<Expr, Diagnostic> {
        let checked = self.value(key)?;
        match &checked {
            Expr::Literal(Value::Text(_) | Value::Int(_)) => Ok(checked),
            Expr::Literal(other) => {
                let expected = "a string or an integer as key";
                Err(Diagnostic::expected(key.at.clone(), expected, other.type_name(), ""))
            }
            _ => Ok(checked),
        }
    }

    /// The context a path belongs to, and what is behind its prefix.
    fn split_context<'p>(
        &self,
        path: &'p syntax::Path,
        at: &Range<usize>,
    ) -> Result<(Context, &'p [syntax::Segment]), Diagnostic> {
        let Some((first, rest)) = path.segments.split_first() else {
            return Err(Diagnostic::expected(at.clone(), "a path", "nothing", ""));
        };
        let named = Context::named(&first.name).filter(|_| first.keys.is_empty());
        if let Some(context) = named {
            if !self.context.sees(context) {
                let expected = format!("a path that the context {} sees", self.context);
                let help = match (context.signal(), self.context.signal()) {
                    (Some(one), Some(other)) if one != other => {
                        format!("paths of {context} belong into statements for {one}")
                    }
                    _ => format!("use the context `{context}`: a context sees itself and what it lies in"),
                };
                return Err(Diagnostic::expected(at.clone(), &expected, &format!("`{context}`"), help));
            }
            return Ok((context, rest));
        }
        if let ("exemplar" | "profile", true) = (&*first.name, !rest.is_empty()) {
            let found = format!("`{}`", first.name);
            let help = "see docs/ottl-parity.md for what is supported";
            let seen: Vec<String> =
                Context::ALL.iter().rev().filter(|other| self.context.sees(**other)).map(Context::to_string).collect();
            let expected = format!("a path of {}", seen.join(", "));
            return Err(Diagnostic::expected(first.at.clone(), &expected, &found, help));
        }
        if self.paths == Paths::Prefixed {
            let found = format!("`{}`", first.name);
            let help = format!("write `{}.{}`", self.context, first.name);
            return Err(Diagnostic::expected(first.at.clone(), "a path that starts with its context", &found, help));
        }
        Ok((self.context, &path.segments))
    }
}

/// A list of literals is a literal.
fn folded(items: Vec<Expr>) -> Expr {
    let is_literal = items.iter().all(|item| matches!(item, Expr::Literal(_)));
    if !is_literal {
        return Expr::List(items);
    }
    let values = items.into_iter().map(|item| match item {
        Expr::Literal(value) => value,
        _ => Value::Nil,
    });
    Expr::Literal(Value::List(values.collect()))
}

/// A map of literals is a literal.
fn folded_map(entries: Vec<(Vec<u8>, Expr)>) -> Expr {
    let is_literal = entries.iter().all(|(_, value)| matches!(value, Expr::Literal(_)));
    if !is_literal {
        return Expr::Map(entries);
    }
    let values = entries.into_iter().map(|(key, value)| match value {
        Expr::Literal(value) => (key.into(), value),
        _ => (key.into(), Value::Nil),
    });
    Expr::Literal(Value::Map(values.collect()))
}

/// Compiles and checks what a literal can be checked for; the error is a message and what to do.
fn prepare(kind: Kind, literal: &Value<'static>, checked: &mut Checked) -> Result<(), (String, String)> {
    match (kind, literal) {
        (Kind::Pattern, Value::Text(text)) => {
            let help = "see https://github.com/google/re2/wiki/Syntax";
            let compiled = pattern::compile(text);
            let regex =
                compiled.map_err(|why| (format!("expected a regular expression, found: {why}"), help.to_owned()))?;
            checked.prepared = Prepared::Pattern(regex);
        }
        (Kind::Glob, Value::Text(text)) => {
            let compiled = pattern::compile_glob(text);
            let regex = compiled.map_err(|why| (format!("expected a glob, found: {why}"), String::new()))?;
            checked.prepared = Prepared::Pattern(regex);
        }
        (Kind::Choice(choices), Value::Text(text)) if !choices.iter().any(|choice| choice.as_bytes() == &**text) => {
            let found = String::from_utf8_lossy(text);
            let listed = choices.iter().map(|choice| format!("\"{choice}\"")).collect::<Vec<_>>().join(", ");
            let help = nearest(&found, choices.iter().copied()).filter(|near| !near.is_empty());
            let help = help.map_or(String::new(), |near| format!("did you mean \"{near}\"?"));
            return Err((format!("expected one of {listed}, found \"{found}\""), help));
        }
        (Kind::PercentileLiteral, other) if !is_percentile(other) => {
            let found = other.as_text();
            let found = String::from_utf8_lossy(&found).into_owned();
            return Err((format!("expected a percentile above 0 and below 100, found {found}"), String::new()));
        }
        (Kind::BoundsLiteral, Value::List(bounds)) => {
            let is_rising = bounds.windows(2).all(|pair| value::compare(Comparison::Less, &pair[0], &pair[1]));
            if bounds.is_empty() || !is_rising {
                let help = "such as [0.1, 1.0, 10.0]".to_owned();
                return Err(("expected at least one bound, each greater than the one before".to_owned(), help));
            }
        }
        (Kind::LetterLiteral, Value::Text(text)) => {
            let letters = String::from_utf8_lossy(text).chars().count();
            if letters != 1 {
                return Err((format!("expected a single character, found {letters}"), String::new()));
            }
        }
        (Kind::Severities, Value::Map(mapping)) => {
            let help = "such as {\"info\": [{\"equals\": [\"inf\"]}, {\"range\": {\"min\": 200, \"max\": 299}}]}";
            checked.prepared = Prepared::Severities(Severities::of(mapping).map_err(|why| (why, help.to_owned()))?);
        }
        (Kind::Location, Value::Text(text)) if !text.is_empty() => {
            let name = String::from_utf8_lossy(text);
            let Some(zone) = Zone::named(&name) else {
                let near = nearest(&name, Zone::names());
                let help = near.map_or("such as Europe/Berlin".to_owned(), |near| format!("did you mean \"{near}\"?"));
                return Err((format!("expected a time zone of the IANA's database, found \"{name}\""), help));
            };
            checked.prepared = Prepared::Zone(zone);
        }
        (Kind::TimeFormat, Value::Text(text)) => {
            time::check_format(&String::from_utf8_lossy(text)).map_err(|directive| {
                let help = format!("supported are, behind a %: {}", time::DIRECTIVES);
                (format!("expected a known directive, found `{directive}`"), help)
            })?;
        }
        _ => {}
    }
    Ok(())
}

fn is_percentile(value: &Value<'_>) -> bool {
    match value {
        Value::Double(value) => *value > 0.0 && *value < 100.0,
        Value::Int(value) => (1..100).contains(value),
        _ => false,
    }
}

/// A converter that can be applied to a replacement: one needed argument, a text.
fn replacing_function(name: &str, at: &Range<usize>) -> Result<&'static Function, Diagnostic> {
    let Some(function) = function::find(name) else {
        return Err(unknown(at, "a converter", name, converter_names()));
    };
    let (first, rest) = match function.parameters.split_first() {
        Some((first, rest)) => (Some(first), rest),
        None => (None, function.parameters),
    };
    let takes_text = first.is_some_and(|first| first.kind.admit(Value::text("")).is_ok());
    if !takes_text || rest.iter().any(|parameter| !parameter.optional) {
        let expected = "a converter of one string";
        return Err(Diagnostic::expected(at.clone(), expected, &format!("`{name}`"), "such as SHA256 or ToUpperCase"));
    }
    Ok(function)
}

fn signature(name: &str, parameters: &[Parameter]) -> String {
    let shown = parameters.iter().map(|parameter| {
        let mark = if parameter.optional { "?" } else { "" };
        format!("{}{mark}", parameter.name)
    });
    format!("it is written {name}({})", shown.collect::<Vec<_>>().join(", "))
}

fn count_of(count: usize) -> String {
    match count {
        0 => "no arguments".to_owned(),
        1 => "one argument".to_owned(),
        count => format!("at most {count} arguments"),
    }
}

fn unknown<'n>(at: &Range<usize>, expected: &str, name: &str, names: impl Iterator<Item = &'n str>) -> Diagnostic {
    let help = match nearest(name, names) {
        _ if NOT_SUPPORTED.contains(&name) => "it is not supported yet, see docs/ottl-parity.md".to_owned(),
        Some(near) => format!("did you mean `{near}`?"),
        None => "see docs/ottl-parity.md for what is supported".to_owned(),
    };
    Diagnostic::expected(at.clone(), expected, &format!("`{name}`, which is unknown"), help)
}

/// Functions of the Collector that are not here, each with its reason in `docs/ottl-parity.md`.
pub const NOT_SUPPORTED: &[&str] = &[
    "ConvertAttributesToElementsXML",
    "ConvertTextToElementsXML",
    "GetXML",
    "InsertXML",
    "ParseSimplifiedXML",
    "ParseXML",
    "RemoveXML",
    "UserAgent",
    "set_semconv_span_name",
];

/// What can be asked of a sender.
const SENDER_PATHS: &[&str] =
    &["otelcol.client.addr", "otelcol.client.auth.attributes", "otelcol.client.metadata", "otelcol.grpc.metadata"];

fn is_of_sender(path: &syntax::Path) -> bool {
    path.segments.len() > 1 && path.segments[0].name == "otelcol" && path.segments[0].keys.is_empty()
}

/// The number of an enum (values of opentelemetry-proto).
fn enumeration(name: &str, at: &Range<usize>) -> Result<i64, Diagnostic> {
    match ENUMS.iter().find(|(known, _)| *known == name) {
        Some((_, number)) => Ok(*number),
        None if function::find(name).is_some() => {
            let help = "call it with its arguments in parentheses";
            Err(Diagnostic::expected(at.clone(), "`(`", &format!("the name `{name}` alone"), help))
        }
        None => Err(unknown(at, "an enum", name, ENUMS.iter().map(|(name, _)| *name))),
    }
}

const ENUMS: &[(&str, i64)] = &[
    ("AGGREGATION_TEMPORALITY_CUMULATIVE", 2),
    ("AGGREGATION_TEMPORALITY_DELTA", 1),
    ("AGGREGATION_TEMPORALITY_UNSPECIFIED", 0),
    ("FLAG_NONE", 0),
    ("FLAG_NO_RECORDED_VALUE", 1),
    ("METRIC_DATA_TYPE_EXPONENTIAL_HISTOGRAM", 4),
    ("METRIC_DATA_TYPE_GAUGE", 1),
    ("METRIC_DATA_TYPE_HISTOGRAM", 3),
    ("METRIC_DATA_TYPE_NONE", 0),
    ("METRIC_DATA_TYPE_SUM", 2),
    ("METRIC_DATA_TYPE_SUMMARY", 5),
    ("SEVERITY_NUMBER_DEBUG", 5),
    ("SEVERITY_NUMBER_DEBUG2", 6),
    ("SEVERITY_NUMBER_DEBUG3", 7),
    ("SEVERITY_NUMBER_DEBUG4", 8),
    ("SEVERITY_NUMBER_ERROR", 17),
    ("SEVERITY_NUMBER_ERROR2", 18),
    ("SEVERITY_NUMBER_ERROR3", 19),
    ("SEVERITY_NUMBER_ERROR4", 20),
    ("SEVERITY_NUMBER_FATAL", 21),
    ("SEVERITY_NUMBER_FATAL2", 22),
    ("SEVERITY_NUMBER_FATAL3", 23),
    ("SEVERITY_NUMBER_FATAL4", 24),
    ("SEVERITY_NUMBER_INFO", 9),
    ("SEVERITY_NUMBER_INFO2", 10),
    ("SEVERITY_NUMBER_INFO3", 11),
    ("SEVERITY_NUMBER_INFO4", 12),
    ("SEVERITY_NUMBER_TRACE", 1),
    ("SEVERITY_NUMBER_TRACE2", 2),
    ("SEVERITY_NUMBER_TRACE3", 3),
    ("SEVERITY_NUMBER_TRACE4", 4),
    ("SEVERITY_NUMBER_UNSPECIFIED", 0),
    ("SEVERITY_NUMBER_WARN", 13),
    ("SEVERITY_NUMBER_WARN2", 14),
    ("SEVERITY_NUMBER_WARN3", 15),
    ("SEVERITY_NUMBER_WARN4", 16),
    ("SPAN_KIND_CLIENT", 3),
    ("SPAN_KIND_CONSUMER", 5),
    ("SPAN_KIND_INTERNAL", 1),
    ("SPAN_KIND_PRODUCER", 4),
    ("SPAN_KIND_SERVER", 2),
    ("SPAN_KIND_UNSPECIFIED", 0),
    ("STATUS_CODE_ERROR", 2),
    ("STATUS_CODE_OK", 1),
    ("STATUS_CODE_UNSET", 0),
];
