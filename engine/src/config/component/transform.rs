//! `processors.transform`: statements, in groups that run one after the other.
//!
//! Three ways to write them, as in the Collector: a list of statements, each of the context that its paths name; a list of
//! groups with settings of their own; and, ours, `traces:`, `metrics:` or `logs:` with a list of statements whose paths are
//! the span's, the data point's or the log record's. What is for other signals than a pipeline's is left out there.

use codecs::otlp::Signal;
use ottl::{Context, Paths};

use crate::config::checked::{ErrorMode, ProcessorKind, StatementGroup, StatementText, TransformSettings};
use crate::config::section::{Field, Idle, Section};
use crate::config::statements;
use crate::config::yaml::Value;

/// Most statements of one processor: each has metrics of its own, and runs on every item.
const STATEMENTS_MAX: usize = 512;
/// Most conditions of one group.
const CONDITIONS_MAX: usize = 64;

/// Signal, key of the short form, key of the Collector's, and the context of the short form: what the signal's books count.
const LISTS: [(Signal, &str, &str, Context); 3] = [
    (Signal::Traces, "traces", "trace_statements", Context::Span),
    (Signal::Metrics, "metrics", "metric_statements", Context::DataPoint),
    (Signal::Logs, "logs", "log_statements", Context::Log),
];

/// Reads the settings.
pub(crate) fn check(field: &Field<'_>) -> Option<ProcessorKind> {
    let section = field.section()?;
    let error_mode = statements::error_mode(&section, ErrorMode::Ignore);
    let keeps_unmasked = section.choice("on_mask_error", &[("delete", false), ("keep", true)], false);
    section.unsupported("flatten_data", Idle::Zero, "flattened logs", "remove it");
    let mut groups = Vec::new();
    for (signal, short, long, context) in LISTS {
        if let Some(list) = section.field(short) {
            short_form(&list, signal, context, error_mode, &mut groups);
        }
        if let Some(list) = section.field(long) {
            statement_list(&list, signal, error_mode, &mut groups);
        }
    }
    if let Some(list) = section.field("profile_statements") {
        of_profiles(&list);
    }
    let count: usize = groups.iter().map(|group| group.statements.len()).sum();
    if count > STATEMENTS_MAX {
        section.error(format!("more than {STATEMENTS_MAX} statements"), "split them over two processors");
    }
    if section.is_empty() {
        section
            .warning("there is no statement; nothing is changed", "add `trace_statements:` with a list of statements");
    }
    Some(ProcessorKind::Transform(TransformSettings { groups, keeps_unmasked }))
}

/// `traces: [statement, ...]`: one group in the context of spans, and so on.
fn short_form(
    list: &Field<'_>,
    signal: Signal,
    context: Context,
    error_mode: ErrorMode,
    groups: &mut Vec<StatementGroup>,
) {
    let items = list.items();
    let checked = items.iter().filter_map(|item| named(list, item, context, Paths::Bare));
    let statements: Vec<StatementText> = checked.collect();
    if !statements.is_empty() {
        let conditions = Vec::new();
        groups.push(StatementGroup { signal, context, paths: Paths::Bare, error_mode, conditions, statements });
    }
}

/// A statement with the name of its metrics: where it stands below the processor.
fn named(list: &Field<'_>, item: &Field<'_>, context: Context, paths: Paths) -> Option<StatementText> {
    let text = statements::statement(item, context, paths)?;
    // `processors.transform/x.traces[0]` -> `traces[0]`.
    let start = list.path.rfind('.').map_or(0, |dot| dot + 1);
    let start = match list.path[..start.saturating_sub(1)].rfind(['.']) {
        // Statements of a group: the list is `trace_statements[0].statements`.
        Some(dot) if list.path.ends_with("].statements") => dot + 1,
        _ => start,
    };
    Some(StatementText { text, name: item.path.get(start..).unwrap_or(&item.path).to_owned() })
}

/// `trace_statements` and so on: all statements, or all groups.
fn statement_list(list: &Field<'_>, signal: Signal, error_mode: ErrorMode, groups: &mut Vec<StatementGroup>) {
    let items = list.items();
    let is_group = |item: &Field<'_>| matches!(item.node.value, Value::Map(_));
    let structured = items.first().is_some_and(is_group);
    if let Some(other) = items.iter().find(|item| is_group(item) != structured) {
        other.error(
            "statements and groups of statements are mixed in one list",
            "put the statements into a group of their own: `- statements: [...]`",
        );
        return;
    }
    if structured {
        groups.extend(items.iter().filter_map(|item| group(item, signal, error_mode)));
        return;
    }
    for item in &items {
        let Some(context) = item.text().and_then(|text| match ottl::infer_context([text.as_str()]) {
            Ok(context) => fitting(item, context, signal),
            Err((_, mistake)) => statements::wrong(item, &text, &mistake),
        }) else {
            continue;
        };
        let Some(statement) = named(list, item, context, Paths::Prefixed) else { continue };
        match groups.last_mut() {
            // Neighbours of one context share a walk and a cache. Groups before this list have bare paths.
            Some(last) if last.signal == signal && last.context == context && last.paths == Paths::Prefixed => {
                last.statements.push(statement);
            }
            _ => groups.push(StatementGroup {
                signal,
                context,
                paths: Paths::Prefixed,
                error_mode,
                conditions: Vec::new(),
                statements: vec![statement],
            }),
        }
    }
}

fn group(field: &Field<'_>, signal: Signal, error_mode: ErrorMode) -> Option<StatementGroup> {
    let section = field.section()?;
    let error_mode = statements::error_mode(&section, error_mode);
    section.unsupported("shared_cache", Idle::Zero, "a cache that groups share", "put the statements into one group");
    let written = context(&section, signal);
    let (list, conditions) = (section.field("statements"), section.field("conditions"));
    let statement_fields = list.as_ref().map(|list| list.items()).unwrap_or_default();
    let condition_fields = conditions.as_ref().map(|list| list.items()).unwrap_or_default();
    if condition_fields.len() > CONDITIONS_MAX {
        section.error(format!("more than {CONDITIONS_MAX} conditions"), "combine some of them by `or`");
        return None;
    }
    let Some(list) = list.filter(|_| !statement_fields.is_empty()) else {
        section.error("the group has no statement", "add `statements:` with a list of statements");
        return None;
    };
    let (context, paths) = match written {
        Written::Is(context) => (context, Paths::Bare),
        Written::Not => (inferred(&statement_fields, &condition_fields, signal)?, Paths::Prefixed),
        Written::Wrong => return None,
    };
    // Each is looked at, so that one run reports everything.
    let checked = statement_fields.iter().map(|item| named(&list, item, context, paths));
    let statements: Vec<Option<StatementText>> = checked.collect();
    let checked = condition_fields.iter().map(|item| statements::condition(item, context, paths));
    let conditions: Vec<Option<String>> = checked.collect();
    Some(StatementGroup {
        signal,
        context,
        paths,
        error_mode,
        conditions: conditions.into_iter().collect::<Option<_>>()?,
        statements: statements.into_iter().collect::<Option<_>>()?,
    })
}

/// What `context` says.
pub(crate) enum Written {
    Is(Context),
    Not,
    Wrong,
}

/// The context that a group for `signal` names.
pub(crate) fn context(section: &Section<'_>, signal: Signal) -> Written {
    let Some(field) = section.field("context").filter(|field| !field.node.is_null()) else { return Written::Not };
    let Some(text) = field.text() else { return Written::Wrong };
    match Context::named(&text).filter(|context| Context::all_of(signal).contains(context)) {
        Some(context) => Written::Is(context),
        None => {
            field.expected(
                &format!("one of {}", contexts(signal)),
                "name what the statements run on; statements for other signals stand in lists of their own",
            );
            Written::Wrong
        }
    }
}

/// The contexts of a signal, for people.
fn contexts(signal: Signal) -> String {
    Context::all_of(signal).iter().map(Context::to_string).collect::<Vec<_>>().join(", ")
}

/// The context that paths name, if items of `signal` have it.
pub(crate) fn fitting(item: &Field<'_>, context: Context, signal: Signal) -> Option<Context> {
    if context.signal().is_none_or(|of| of == signal) {
        return Some(context);
    }
    item.error(
        format!("its paths are of the context {context}, and this list is for {signal}"),
        format!("name one of {}, or move it to the list of its signal", contexts(signal)),
    );
    None
}

fn inferred(statement_fields: &[Field<'_>], condition_fields: &[Field<'_>], signal: Signal) -> Option<Context> {
    let texts = |fields: &[Field<'_>]| -> Option<Vec<String>> { fields.iter().map(Field::text).collect() };
    let (statements, conditions) = (texts(statement_fields)?, texts(condition_fields)?);
    let of = |texts: &[String], at: usize| texts.get(at).cloned().unwrap_or_default();
    match ottl::infer_group_context(statements.iter().map(String::as_str), conditions.iter().map(String::as_str)) {
        Ok(context) => fitting(statement_fields.first()?, context, signal),
        Err((at, mistake)) if at < statements.len() => {
            statements::wrong(&statement_fields[at], &of(&statements, at), &mistake)
        }
        Err((at, mistake)) => {
            let at = at - statements.len();
            statements::wrong(condition_fields.get(at)?, &of(&conditions, at), &mistake)
        }
    }
}

/// Profiles flow through no pipeline here: the grammar of their statements is checked, and that is all that can be known of
/// them.
fn of_profiles(list: &Field<'_>) {
    let syntax = |item: &Field<'_>| {
        let Some(text) = item.text() else { return };
        if let Err(mistake) = ottl::check_syntax(&text) {
            statements::wrong::<()>(item, &text, &mistake);
        }
    };
    for item in list.items() {
        if !matches!(item.node.value, Value::Map(_)) {
            syntax(&item);
            continue;
        }
        let Some(section) = item.section() else { continue };
        statements::error_mode(&section, ErrorMode::Ignore);
        section.ignored(&["context", "conditions", "shared_cache"]);
        let statement_fields = section.field("statements").map(|list| list.items()).unwrap_or_default();
        statement_fields.iter().for_each(syntax);
    }
}
