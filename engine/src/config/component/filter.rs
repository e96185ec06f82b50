//! `processors.filter`: conditions under which spans, metrics and log records, and the parts of them, are dropped.
//!
//! Three ways to write them, as in the Collector: `trace_conditions`, whose paths name their context, as a list or in
//! groups; `traces` with a list for each context; and `spans` with `include` and `exclude`. So for each signal.

use codecs::otlp::Signal;
use ottl::{Context, Paths, Selection};

use super::{properties, transform};
use crate::config::checked::{ConditionGroup, ErrorMode, FilterSettings, ProcessorKind};
use crate::config::section::{Field, Section};
use crate::config::statements;
use crate::config::yaml::Value;

/// Most conditions of one processor: each is asked of every item.
const CONDITIONS_MAX: usize = 512;

/// How the conditions of one signal are written.
struct Form {
    signal: Signal,
    /// The newer form.
    conditions: &'static str,
    /// The older one, a list for each context.
    by_context: &'static str,
    lists: &'static [(&'static str, Context)],
    /// The oldest one, `include` and `exclude` below this key.
    properties: &'static str,
    selection: fn(&Section<'_>) -> Option<Selection>,
}

const FORMS: [Form; 3] = [
    Form {
        signal: Signal::Traces,
        conditions: "trace_conditions",
        by_context: "traces",
        lists: &[("resource", Context::Resource), ("span", Context::Span), ("spanevent", Context::SpanEvent)],
        properties: "spans",
        selection: properties::selection,
    },
    Form {
        signal: Signal::Metrics,
        conditions: "metric_conditions",
        by_context: "metrics",
        lists: &[("resource", Context::Resource), ("metric", Context::Metric), ("datapoint", Context::DataPoint)],
        properties: "metrics",
        selection: properties::metric_selection,
    },
    Form {
        signal: Signal::Logs,
        conditions: "log_conditions",
        by_context: "logs",
        lists: &[("resource", Context::Resource), ("log_record", Context::Log)],
        properties: "logs",
        selection: properties::record_selection,
    },
];

/// Reads the settings.
pub(crate) fn check(field: &Field<'_>) -> Option<ProcessorKind> {
    let section = field.section()?;
    let error_mode = statements::error_mode(&section, ErrorMode::Ignore);
    section.ignored(&["profiles", "profile_conditions"]);
    let (mut groups, mut keeps) = (Vec::new(), Vec::new());
    for form in &FORMS {
        of_signal(&section, form, error_mode, &mut groups, &mut keeps);
    }
    if groups.iter().map(|group: &ConditionGroup| group.conditions.len()).sum::<usize>() > CONDITIONS_MAX {
        section.error(format!("more than {CONDITIONS_MAX} conditions"), "combine some of them by `or`");
        return None;
    }
    if section.is_empty() {
        section
            .warning("there is no condition; nothing is dropped", "add `trace_conditions:` with a list of conditions");
    }
    Some(ProcessorKind::Filter(FilterSettings { groups, keeps }))
}

fn of_signal(
    section: &Section<'_>,
    form: &Form,
    error_mode: ErrorMode,
    groups: &mut Vec<ConditionGroup>,
    keeps: &mut Vec<(Signal, Selection)>,
) {
    let Form { signal, by_context, conditions, .. } = form;
    let older = section.section(by_context);
    let is_by_context = older.as_ref().is_some_and(|older| lists(older, form, error_mode, groups));
    let newer = section.field(conditions).filter(|list| !list.node.is_null());
    if let Some(list) = &newer {
        all_conditions(list, *signal, error_mode, groups);
        if is_by_context {
            list.error(
                format!("both `{conditions}` and `{by_context}` are given"),
                format!("move all conditions to `{conditions}`"),
            );
        }
    }
    let oldest = if form.properties == *by_context { older } else { section.section(form.properties) };
    let selection = oldest.and_then(|oldest| {
        let selection = (form.selection)(&oldest)?;
        if is_by_context && !selection.is_everything() {
            let (properties, help) = match form.signal {
                Signal::Traces => ("`spans`", "write `spans` as conditions: `name == \"GET /health\"`"),
                _ => ("`include` or `exclude`", "write all of them as conditions"),
            };
            oldest.error(format!("both `{by_context}` and {properties} are given"), help);
        }
        (!selection.is_everything()).then_some(selection)
    });
    // As in the Collector, conditions win over properties.
    keeps.extend(selection.filter(|_| newer.is_none()).map(|selection| (*signal, selection)));
}

/// `traces: {resource, span, spanevent}` and so on; returns whether any list is there.
fn lists(section: &Section<'_>, form: &Form, error_mode: ErrorMode, groups: &mut Vec<ConditionGroup>) -> bool {
    let mut is_given = false;
    for (key, context) in form.lists {
        let Some(list) = section.field(key).filter(|list| !list.node.is_null()) else { continue };
        is_given = true;
        groups.extend(group_of(&list.items(), form.signal, *context, Paths::Bare, error_mode));
    }
    is_given
}

/// `trace_conditions` and so on: all conditions, or all groups.
fn all_conditions(list: &Field<'_>, signal: Signal, error_mode: ErrorMode, groups: &mut Vec<ConditionGroup>) {
    let items = list.items();
    let is_group = |item: &Field<'_>| matches!(item.node.value, Value::Map(_));
    let structured = items.first().is_some_and(is_group);
    if let Some(other) = items.iter().find(|item| is_group(item) != structured) {
        other.error(
            "conditions and groups of conditions are mixed in one list",
            "put the conditions into a group of their own: `- conditions: [...]`",
        );
    } else if structured {
        groups.extend(items.iter().filter_map(|item| group(item, signal, error_mode)));
    } else if let Some(context) = (!items.is_empty()).then(|| inferred(&items, signal)).flatten() {
        groups.extend(group_of(&items, signal, context, Paths::Prefixed, error_mode));
    }
}

fn group(field: &Field<'_>, signal: Signal, error_mode: ErrorMode) -> Option<ConditionGroup> {
    let section = field.section()?;
    let error_mode = statements::error_mode(&section, error_mode);
    let items = section.field("conditions").map(|list| list.items()).unwrap_or_default();
    if items.is_empty() {
        section.error("the group has no condition", "add `conditions:` with a list of conditions");
    }
    match transform::context(&section, signal) {
        transform::Written::Is(context) => group_of(&items, signal, context, Paths::Bare, error_mode),
        transform::Written::Not => group_of(&items, signal, inferred(&items, signal)?, Paths::Prefixed, error_mode),
        transform::Written::Wrong => None,
    }
}

/// `None` if there is none, or one was reported.
fn group_of(
    items: &[Field<'_>],
    signal: Signal,
    context: Context,
    paths: Paths,
    error_mode: ErrorMode,
) -> Option<ConditionGroup> {
    // Each is looked at, so that one run reports everything.
    let checked: Vec<Option<String>> = items.iter().map(|item| statements::condition(item, context, paths)).collect();
    let conditions: Vec<String> = checked.into_iter().collect::<Option<_>>()?;
    (!conditions.is_empty()).then_some(ConditionGroup { signal, context, paths, error_mode, conditions })
}

/// The lowest context that the conditions name: the one they all can be asked in.
fn inferred(items: &[Field<'_>], signal: Signal) -> Option<Context> {
    let texts: Vec<String> = items.iter().map(Field::text).collect::<Option<_>>()?;
    match ottl::infer_group_context([], texts.iter().map(String::as_str)) {
        Ok(context) => transform::fitting(items.first()?, context, signal),
        Err((at, mistake)) => statements::wrong(items.get(at)?, &texts[at], &mistake),
    }
}
