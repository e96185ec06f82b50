//! `include` and `exclude`: items by their properties, as `attributes` and the older form of `filter` have them.

use ottl::{AttributeTest, LibraryTest, Properties, Selection, Texts, Value, ValueTest};

use super::actions;
use crate::config::section::{Field, Idle, Section};

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

/// Reads `include` and `exclude` of a processor for spans.
pub(crate) fn selection(section: &Section<'_>) -> Option<Selection> {
    let both = ["include", "exclude"].map(|key| match section.field(key).filter(|field| !field.node.is_null()) {
        Some(field) => properties(&field).map(Some),
        None => Some(None),
    });
    let [include, exclude] = both;
    Some(Selection { include: include?, exclude: exclude? })
}

fn properties(field: &Field<'_>) -> Option<Properties> {
    let section = field.section()?;
    // A cache of answers, which nobody needs where a pattern costs less than a look into it.
    if let Some(regexp) = section.section("regexp") {
        regexp.boolean("cacheenabled", false);
        regexp.u32("cachemaxnumentries", 0, 0);
    }
    for key in ["log_bodies", "log_severity_texts", "log_severity_number", "metric_names"] {
        section.unsupported(key, Idle::Zero, "matching logs and metrics", "remove it: spans have none of these");
    }
    let given =
        ["services", "span_names", "span_kinds", "attributes", "resources", "libraries"].map(|key| section.field(key));
    if given.iter().flatten().all(|field| field.items().is_empty()) {
        let help = "add one of services, span_names, span_kinds, attributes, resources and libraries";
        section.error("nothing is asked of a span", help);
    }
    let kind = match_type(&section);
    let [services, span_names, span_kinds, attributes, resources, libraries] = given;
    let kind = kind?;
    if let (Match::Strict, Some(kinds)) = (kind, &span_kinds) {
        known_kinds(kinds);
    }
    let list = |field: Option<Field<'_>>| field.map_or(Some(None), |field| texts(kind, &field));
    let tests = |field: Option<Field<'_>>| field.map_or(Some(Vec::new()), |field| attribute_tests(kind, &field));
    let libraries = libraries.map_or(Some(Vec::new()), |field| all(&field, |item| library(kind, item)));
    // Each is looked at, so that one run reports everything.
    let (services, span_names, span_kinds) = (list(services), list(span_names), list(span_kinds));
    let (attributes, resources) = (tests(attributes), tests(resources));
    Some(Properties {
        services: services?,
        span_names: span_names?,
        span_kinds: span_kinds?,
        attributes: attributes?,
        resources: resources?,
        libraries: libraries?,
    })
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
