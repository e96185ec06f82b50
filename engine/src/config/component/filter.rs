//! `processors.filter`: conditions under which spans and their events are dropped.
//!
//! Three ways to write them, as in the Collector: `trace_conditions`, whose paths name their context, as a list or in
//! groups; `traces` with a list for each context; and `spans` with `include` and `exclude`.

use ottl::{Context, Paths};

use super::{properties, transform};
use crate::config::checked::{ConditionGroup, ErrorMode, FilterSettings, ProcessorKind};
use crate::config::section::{Field, Section};
use crate::config::statements;
use crate::config::yaml::Value;

/// Most conditions of one processor: each is asked of every item.
const CONDITIONS_MAX: usize = 512;

/// Reads the settings.
pub(crate) fn check(field: &Field<'_>) -> Option<ProcessorKind> {
    let section = field.section()?;
    let error_mode = statements::error_mode(&section, ErrorMode::Ignore);
    // Those of other signals are for pipelines of theirs.
    section.ignored(&["metrics", "logs", "profiles", "metric_conditions", "log_conditions", "profile_conditions"]);
    let mut groups = Vec::new();
    let by_context = section.section("traces").is_some_and(|traces| by_context(&traces, error_mode, &mut groups));
    let inferred = section.field("trace_conditions").filter(|list| !list.node.is_null());
    if let Some(list) = &inferred {
        conditions(list, error_mode, &mut groups);
        if by_context {
            list.error("both `trace_conditions` and `traces` are given", "move all conditions to `trace_conditions`");
        }
    }
    let keeps = section.section("spans").and_then(|spans| {
        let selection = properties::selection(&spans)?;
        if by_context {
            spans
                .error("both `traces` and `spans` are given", "write `spans` as conditions: `name == \"GET /health\"`");
        }
        (!selection.is_everything()).then_some(selection)
    });
    if groups.iter().map(|group| group.conditions.len()).sum::<usize>() > CONDITIONS_MAX {
        section.error(format!("more than {CONDITIONS_MAX} conditions"), "combine some of them by `or`");
        return None;
    }
    if section.is_empty() {
        section
            .warning("there is no condition; nothing is dropped", "add `trace_conditions:` with a list of conditions");
    }
    // As in the Collector, conditions win over properties.
    let keeps = keeps.filter(|_| inferred.is_none());
    Some(ProcessorKind::Filter(FilterSettings { groups, keeps }))
}

/// `traces: {resource, span, spanevent}`; returns whether any list is there.
fn by_context(traces: &Section<'_>, error_mode: ErrorMode, groups: &mut Vec<ConditionGroup>) -> bool {
    let lists = [("resource", Context::Resource), ("span", Context::Span), ("spanevent", Context::SpanEvent)];
    let mut is_given = false;
    for (key, context) in lists {
        let Some(list) = traces.field(key).filter(|list| !list.node.is_null()) else { continue };
        is_given = true;
        groups.extend(group_of(&list.items(), context, Paths::Bare, error_mode));
    }
    is_given
}

/// `trace_conditions`: all conditions, or all groups.
fn conditions(list: &Field<'_>, error_mode: ErrorMode, groups: &mut Vec<ConditionGroup>) {
    let items = list.items();
    let is_group = |item: &Field<'_>| matches!(item.node.value, Value::Map(_));
    let structured = items.first().is_some_and(is_group);
    if let Some(other) = items.iter().find(|item| is_group(item) != structured) {
        other.error(
            "conditions and groups of conditions are mixed in one list",
            "put the conditions into a group of their own: `- conditions: [...]`",
        );
    } else if structured {
        groups.extend(items.iter().filter_map(|item| group(item, error_mode)));
    } else if let Some(context) = (!items.is_empty()).then(|| inferred(&items)).flatten() {
        groups.extend(group_of(&items, context, Paths::Prefixed, error_mode));
    }
}

fn group(field: &Field<'_>, error_mode: ErrorMode) -> Option<ConditionGroup> {
    let section = field.section()?;
    let error_mode = statements::error_mode(&section, error_mode);
    let items = section.field("conditions").map(|list| list.items()).unwrap_or_default();
    if items.is_empty() {
        section.error("the group has no condition", "add `conditions:` with a list of conditions");
    }
    match transform::context(&section) {
        transform::Written::Is(context) => group_of(&items, context, Paths::Bare, error_mode),
        transform::Written::Not => group_of(&items, inferred(&items)?, Paths::Prefixed, error_mode),
        transform::Written::Wrong => None,
    }
}

/// `None` if there is none, or one was reported.
fn group_of(items: &[Field<'_>], context: Context, paths: Paths, error_mode: ErrorMode) -> Option<ConditionGroup> {
    // Each is looked at, so that one run reports everything.
    let checked: Vec<Option<String>> = items.iter().map(|item| statements::condition(item, context, paths)).collect();
    let conditions: Vec<String> = checked.into_iter().collect::<Option<_>>()?;
    (!conditions.is_empty()).then_some(ConditionGroup { context, paths, error_mode, conditions })
}

/// The lowest context that the conditions name: the one they all can be asked in.
fn inferred(items: &[Field<'_>]) -> Option<Context> {
    let texts: Vec<String> = items.iter().map(Field::text).collect::<Option<_>>()?;
    match ottl::infer_group_context([], texts.iter().map(String::as_str)) {
        Ok(context) => Some(context),
        Err((at, mistake)) => statements::wrong(items.get(at)?, &texts[at], &mistake),
    }
}
