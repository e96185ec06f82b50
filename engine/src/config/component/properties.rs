//! `include` and `exclude`: items by their properties, as `attributes` and the older form of `filter` have them.

use codecs::otlp::Signal;
use ottl::{AttributeTest, LibraryTest, Properties, Selection, SeverityTest, Texts, Value, ValueTest};

use super::actions;
use crate::config::section::{Field, Section};

/// Most values of one property; each may be searched for in every item.
const VALUES_MAX: usize = 1024;

/// The kinds that `match_type: strict` takes.
const SPAN_KINDS: [&str; 5] =
    ["SPAN_KIND_CLIENT", "SPAN_KIND_CONSUMER", "SPAN_KIND_INTERNAL", "SPAN_KIND_PRODUCER", "SPAN_KIND_SERVER"];

/// `match_type`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Match {
    Strict,
    Regexp,
}

/// Reads `include` and `exclude` with all properties there are.
pub(crate) fn selection(section: &Section<'_>) -> Option<Selection> {
    selection_by(section, properties)
}

/// Reads `include` and `exclude`, each by `read`.
fn selection_by(section: &Section<'_>, read: fn(&Field<'_>) -> Option<Properties>) -> Option<Selection> {
    let both = ["include", "exclude"].map(|key| match section.field(key).filter(|field| !field.node.is_null()) {
        Some(field) => read(&field).map(Some),
        None => Some(None),
    });
    let [include, exclude] = both;
    Some(Selection { include: include?, exclude: exclude? })
}

/// The names of properties in `selection` that items of `signal` do not have.
pub(crate) fn of_other_signals(selection: &Selection, signal: Signal) -> Vec<&'static str> {
    let mut found = Vec::new();
    for properties in selection.include.iter().chain(&selection.exclude) {
        let owners = [
            ("span_names", properties.span_names.is_some(), Signal::Traces),
            ("span_kinds", properties.span_kinds.is_some(), Signal::Traces),
            ("metric_names", properties.metric_names.is_some(), Signal::Metrics),
            ("log_bodies", properties.log_bodies.is_some(), Signal::Logs),
            ("log_severity_texts", properties.severity_texts.is_some(), Signal::Logs),
            ("log_severity_number", properties.severity.is_some(), Signal::Logs),
        ];
        found.extend(owners.iter().filter(|owner| owner.1 && owner.2 != signal).map(|owner| owner.0));
    }
    found.dedup();
    found
}

fn properties(field: &Field<'_>) -> Option<Properties> {
    let section = field.section()?;
    cache(&section);
    let keys = [
        "services",
        "span_names",
        "span_kinds",
        "metric_names",
        "log_bodies",
        "log_severity_texts",
        "attributes",
        "resources",
        "libraries",
    ];
    let given = keys.map(|key| section.field(key));
    let severity = section.field("log_severity_number").filter(|field| !field.node.is_null());
    if severity.is_none() && given.iter().flatten().all(|field| field.items().is_empty()) {
        let help = format!("add one of {} and log_severity_number", keys.join(", "));
        section.error("nothing is asked of an item", help);
    }
    let kind = match_type(&section);
    let [services, span_names, span_kinds, metric_names, log_bodies, severity_texts, attributes, resources, libraries] =
        given;
    let kind = kind?;
    if let (Match::Strict, Some(kinds)) = (kind, &span_kinds) {
        known_kinds(kinds);
    }
    let list = |field: Option<Field<'_>>| list(kind, field);
    let tests = |field: Option<Field<'_>>| tests(kind, field);
    let libraries = libraries.map_or(Some(Vec::new()), |field| all(&field, |item| library(kind, item)));
    let severity = severity.map_or(Some(None), |field| severity_test(&field).map(Some));
    // Each is looked at, so that one run reports everything.
    let (services, span_names, span_kinds) = (list(services), list(span_names), list(span_kinds));
    let (metric_names, log_bodies, severity_texts) = (list(metric_names), list(log_bodies), list(severity_texts));
    let (attributes, resources) = (tests(attributes), tests(resources));
    Some(Properties {
        services: services?,
        span_names: span_names?,
        span_kinds: span_kinds?,
        metric_names: metric_names?,
        log_bodies: log_bodies?,
        severity_texts: severity_texts?,
        severity: severity?,
        attributes: attributes?,
        resources: resources?,
        libraries: libraries?,
    })
}

/// Reads `include` and `exclude` of the older form of `filter` for logs, which has names of its own.
pub(crate) fn record_selection(section: &Section<'_>) -> Option<Selection> {
    selection_by(section, |field| {
        let section = field.section()?;
        let kind = match_type(&section);
        let keys = ["resource_attributes", "record_attributes", "severity_texts", "bodies"];
        let given = keys.map(|key| section.field(key));
        let severity = section.field("severity_number").filter(|field| !field.node.is_null());
        if severity.is_none() && given.iter().flatten().all(|field| field.items().is_empty()) {
            section
                .error("nothing is asked of a log record", format!("add one of {}, severity_number", keys.join(", ")));
        }
        let [resources, attributes, severity_texts, log_bodies] = given;
        let kind = kind?;
        let (resources, attributes) = (tests(kind, resources), tests(kind, attributes));
        let (severity_texts, log_bodies) = (list(kind, severity_texts), list(kind, log_bodies));
        let severity = severity.map_or(Some(None), |field| severity_test(&field).map(Some));
        Some(Properties {
            resources: resources?,
            attributes: attributes?,
            severity_texts: severity_texts?,
            log_bodies: log_bodies?,
            severity: severity?,
            ..Properties::default()
        })
    })
}

/// The same for metrics.
pub(crate) fn metric_selection(section: &Section<'_>) -> Option<Selection> {
    selection_by(section, |field| {
        let section = field.section()?;
        cache(&section);
        let kind = match_type(&section);
        let (names, resources) = (section.field("metric_names"), section.field("resource_attributes"));
        if [&names, &resources].into_iter().flatten().all(|field| field.items().is_empty()) {
            section.error("nothing is asked of a metric", "add `metric_names` or `resource_attributes`");
        }
        let kind = kind?;
        let (metric_names, resources) = (list(kind, names), tests(kind, resources));
        Some(Properties { metric_names: metric_names?, resources: resources?, ..Properties::default() })
    })
}

/// A cache of answers, which nobody needs where a pattern costs less than a look into it.
fn cache(section: &Section<'_>) {
    if let Some(regexp) = section.section("regexp") {
        regexp.boolean("cacheenabled", false);
        regexp.u32("cachemaxnumentries", 0, 0);
    }
}

fn list(kind: Match, field: Option<Field<'_>>) -> Option<Option<Texts>> {
    field.map_or(Some(None), |field| texts(kind, &field))
}

fn tests(kind: Match, field: Option<Field<'_>>) -> Option<Vec<AttributeTest>> {
    field.map_or(Some(Vec::new()), |field| attribute_tests(kind, &field))
}

/// `{min: NUMBER or NAME, match_undefined: BOOL}`.
fn severity_test(field: &Field<'_>) -> Option<SeverityTest> {
    let section = field.section()?;
    let matches_undefined = section.boolean("match_undefined", false);
    let Some(least) = section.field("min").filter(|field| !field.node.is_null()) else {
        section.error("`min` is missing", "add `min:` with a severity, from 1 (TRACE) to 24 (FATAL4), or its name");
        return None;
    };
    let text = least.written();
    let number = text.parse().ok().filter(|number| (1..=24).contains(number)).or_else(|| severity_named(text));
    if number.is_none() {
        least.expected("a severity", "write a number from 1 (TRACE) to 24 (FATAL4), or a name such as WARN");
    }
    Some(SeverityTest { least: number?, matches_undefined })
}

/// `INFO` is 9, `INFO2` is 10.
fn severity_named(name: &str) -> Option<i64> {
    const NAMES: [&str; 6] = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];
    let upper = name.to_ascii_uppercase();
    let place = NAMES.iter().position(|known| upper.starts_with(known))?;
    let step = match &upper[NAMES[place].len()..] {
        "" => 1,
        "2" => 2,
        "3" => 3,
        "4" => 4,
        _ => return None,
    };
    Some(4 * place as i64 + step)
}

fn match_type(section: &Section<'_>) -> Option<Match> {
    if section.field("match_type").is_none_or(|field| field.node.is_null()) {
        section.error("`match_type` is missing", "add `match_type: strict` for equal texts, or `regexp` for patterns");
        return None;
    }
    section.choice("match_type", &[("strict", Some(Match::Strict)), ("regexp", Some(Match::Regexp))], None)
}

fn known_kinds(field: &Field<'_>) {
    for (kind, item) in field.texts().iter().filter(|(kind, _)| !SPAN_KINDS.contains(&kind.as_str())) {
        item.error(format!("a span has no kind {kind:?}"), format!("write one of {}", SPAN_KINDS.join(", ")));
    }
}

/// What `read` makes of every item; `None` if one was reported.
fn all<T>(field: &Field<'_>, read: impl Fn(&Field<'_>) -> Option<T>) -> Option<Vec<T>> {
    let items = field.items();
    if items.len() > VALUES_MAX {
        field.error(format!("more than {VALUES_MAX} values"), "combine some of them into one pattern");
        return None;
    }
    let read: Vec<Option<T>> = items.iter().map(read).collect();
    read.into_iter().collect()
}

/// `None` inside: an empty list asks nothing.
fn texts(kind: Match, field: &Field<'_>) -> Option<Option<Texts>> {
    Some(match kind {
        Match::Strict => Some(all(field, |item| item.text().map(String::into_bytes))?)
            .filter(|texts| !texts.is_empty())
            .map(Texts::Strict),
        Match::Regexp => Some(all(field, actions::pattern)?).filter(|texts| !texts.is_empty()).map(Texts::Patterns),
    })
}

fn one_text(kind: Match, field: &Field<'_>) -> Option<Texts> {
    Some(match kind {
        Match::Strict => Texts::Strict(vec![field.text()?.into_bytes()]),
        Match::Regexp => Texts::Patterns(vec![actions::pattern(field)?]),
    })
}

fn attribute_tests(kind: Match, field: &Field<'_>) -> Option<Vec<AttributeTest>> {
    all(field, |item| {
        let section = item.section()?;
        let value = section.field("value").filter(|field| !field.node.is_null());
        let Some(key) = section.text("key") else {
            item.error("`key` is missing", "add `key:` with the name of the attribute");
            return None;
        };
        let value = match (&value, kind) {
            (None, _) => ValueTest::Any,
            (Some(field), Match::Strict) => ValueTest::Equal(actions::value(field)?),
            (Some(field), Match::Regexp) => {
                if !matches!(actions::value(field)?, Value::Text(_)) {
                    field.expected("a pattern in quotes", "`match_type: regexp` searches in the text of a value");
                    return None;
                }
                ValueTest::Pattern(actions::pattern(field)?)
            }
        };
        Some(AttributeTest { key: key.into_bytes(), value })
    })
}

fn library(kind: Match, field: &Field<'_>) -> Option<LibraryTest> {
    let section = field.section()?;
    let (name, version) = (section.field("name"), section.field("version").filter(|field| !field.node.is_null()));
    let Some(name) = name else {
        field.error("`name` is missing", "add `name:` with the name of the instrumentation scope");
        return None;
    };
    let version = version.map_or(Some(None), |field| one_text(kind, &field).map(Some));
    Some(LibraryTest { name: one_text(kind, &name)?, version: version? })
}
