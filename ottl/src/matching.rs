//! Matching an item by its properties: `include` and `exclude` of the Collector's older processors.
//!
//! The rules are those of contrib v0.156: every kind of property that is given must match, of a list one, of attributes
//! all. Texts are equal (`strict`) or contain a pattern (`regexp`).

use std::borrow::Cow;

use crate::action::{as_text, float_name};
use crate::path::{Context, Field, kind_name};
use crate::pattern::Pattern;
use crate::value::{Value, same};
use crate::view::View;

/// What stands for the service's name of a resource that has none.
const NO_SERVICE: &[u8] = b"<nil-service-name>";

/// Texts, one of which must match.
#[derive(Clone, Debug, PartialEq)]
pub enum Texts {
    /// `strict`: equal to one of these.
    Strict(Vec<Vec<u8>>),
    /// `regexp`: one of these is found in it.
    Patterns(Vec<Pattern>),
}

impl Texts {
    fn match_any(&self, text: &[u8]) -> bool {
        match self {
            Self::Strict(texts) => texts.iter().any(|known| known == text),
            Self::Patterns(patterns) => patterns.iter().any(|pattern| pattern.is_found_in(text)),
        }
    }
}

/// What is asked of an attribute that is there.
#[derive(Clone, Debug, PartialEq)]
pub enum ValueTest {
    /// Nothing more.
    Any,
    /// It has this type and value.
    Equal(Value<'static>),
    /// It is a text, number or bool, and the pattern is found in its text.
    Pattern(Pattern),
}

/// An attribute that must be there.
#[derive(Clone, Debug, PartialEq)]
pub struct AttributeTest {
    /// Its key.
    pub key: Vec<u8>,
    /// And its value.
    pub value: ValueTest,
}

/// An instrumentation scope that must be the item's.
#[derive(Clone, Debug, PartialEq)]
pub struct LibraryTest {
    /// Its name.
    pub name: Texts,
    /// And its version, if that matters.
    pub version: Option<Texts>,
}

/// How severe a log record must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeverityTest {
    /// At least so much: 1 to 24.
    pub least: i64,
    /// Whether records without a severity match.
    pub matches_undefined: bool,
}

/// Properties that must all match. What is empty asks nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Properties {
    /// The resource's `service.name`.
    pub services: Option<Texts>,
    /// Names of spans.
    pub span_names: Option<Texts>,
    /// Kinds of spans as the `.proto` file names them: `SPAN_KIND_SERVER`.
    pub span_kinds: Option<Texts>,
    /// Names of metrics.
    pub metric_names: Option<Texts>,
    /// Bodies of log records that are texts; others never match.
    pub log_bodies: Option<Texts>,
    /// Severities of log records as their sources name them.
    pub severity_texts: Option<Texts>,
    /// Severities of log records.
    pub severity: Option<SeverityTest>,
    /// Attributes of the item.
    pub attributes: Vec<AttributeTest>,
    /// Attributes of its resource.
    pub resources: Vec<AttributeTest>,
    /// Its scope; all of these, as in the Collector.
    pub libraries: Vec<LibraryTest>,
}

impl Properties {
    /// Whether the item, which lies at `level`, has these properties.
    pub fn match_item<V: View>(&self, item: &V, level: Context) -> bool {
        self.match_resource(item) && self.match_scope(item) && self.match_own(item, level)
    }

    fn match_resource<V: View>(&self, item: &V) -> bool {
        let service = |services: &Texts| match item.attribute(Context::Resource, b"service.name") {
            Some(value) => services.match_any(&as_text(&value)),
            None => services.match_any(NO_SERVICE),
        };
        self.services.as_ref().is_none_or(service) && match_all(&self.resources, item, Context::Resource)
    }

    fn match_scope<V: View>(&self, item: &V) -> bool {
        self.libraries.iter().all(|library| {
            library.name.match_any(&text_of(item, Field::Name(Context::Scope)))
                && library.version.as_ref().is_none_or(|version| version.match_any(&text_of(item, Field::Version)))
        })
    }

    fn match_own<V: View>(&self, item: &V, level: Context) -> bool {
        let kind = || match item.read(Field::Kind) {
            Value::Int(kind) => kind_name(kind),
            _ => "",
        };
        self.span_names.as_ref().is_none_or(|names| names.match_any(&text_of(item, Field::Name(Context::Span))))
            && self.span_kinds.as_ref().is_none_or(|kinds| kinds.match_any(kind().as_bytes()))
            && self
                .metric_names
                .as_ref()
                .is_none_or(|names| names.match_any(&text_of(item, Field::Name(Context::Metric))))
            && self.severity_texts.as_ref().is_none_or(|texts| texts.match_any(&text_of(item, Field::SeverityText)))
            && self.log_bodies.as_ref().is_none_or(|bodies| match item.read(Field::Body) {
                Value::Text(body) => bodies.match_any(&body),
                _ => false,
            })
            && self.severity.is_none_or(|test| match item.read(Field::SeverityNumber) {
                Value::Int(0) => test.matches_undefined,
                Value::Int(severity) => severity >= test.least,
                _ => false,
            })
            && match_all(&self.attributes, item, level)
    }
}

/// Which items something is done to: those that `include` matches, without those that `exclude` does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    /// `None`: all.
    pub include: Option<Properties>,
    /// `None`: none.
    pub exclude: Option<Properties>,
}

impl Selection {
    /// Whether every item is selected, without looking.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.include.is_none() && self.exclude.is_none()
    }

    /// Whether the item, which lies at `level`, is selected.
    pub fn selects<V: View>(&self, item: &V, level: Context) -> bool {
        self.include.as_ref().is_none_or(|include| include.match_item(item, level))
            && !self.exclude.as_ref().is_some_and(|exclude| exclude.match_item(item, level))
    }
}

fn text_of<V: View>(item: &V, field: Field) -> Cow<'_, [u8]> {
    match item.read(field) {
        Value::Text(text) => text,
        _ => Cow::Borrowed(&[]),
    }
}

fn match_all<V: View>(tests: &[AttributeTest], item: &V, level: Context) -> bool {
    tests.iter().all(|test| {
        let Some(value) = item.attribute(level, &test.key) else { return false };
        match &test.value {
            ValueTest::Any => true,
            ValueTest::Equal(expected) => is_equal(expected, &value),
            ValueTest::Pattern(pattern) => scalar_text(&value).is_some_and(|text| pattern.is_found_in(&text)),
        }
    })
}

/// Of the same type, and equal: 1 and 1.0 are not.
fn is_equal(expected: &Value<'_>, value: &Value<'_>) -> bool {
    std::mem::discriminant(expected) == std::mem::discriminant(value) && same(expected, value)
}

/// The text of a scalar; floats without an exponent.
fn scalar_text<'v>(value: &'v Value<'_>) -> Option<Cow<'v, [u8]>> {
    match value {
        Value::Double(number) if number.is_finite() => Some(Cow::Owned(number.to_string().into_bytes())),
        Value::Double(number) => Some(Cow::Borrowed(float_name(*number).as_bytes())),
        Value::Text(_) | Value::Bool(_) | Value::Int(_) => Some(as_text(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use codecs::otlp::proto;
    use prost::Message;

    use super::*;
    use crate::overlay::WireItem;

    fn entry(key: &str, value: proto::Value) -> proto::KeyValue {
        proto::KeyValue { key: key.into(), value: Some(proto::AnyValue { value: Some(value) }) }
    }

    /// Whether `properties` match a server span `GET /` of the service `shop` in the scope `http` 1.2.
    fn matches(properties: &Properties) -> bool {
        let resource = proto::Resource {
            attributes: vec![entry("service.name", proto::Value::String(b"shop".to_vec()))],
            ..proto::Resource::default()
        };
        let resource = proto::ResourceSpans { resource: Some(resource), ..proto::ResourceSpans::default() };
        let scope = proto::InstrumentationScope {
            name: b"http".to_vec(),
            version: b"1.2".to_vec(),
            ..proto::InstrumentationScope::default()
        };
        let scope = proto::ScopeSpans { scope: Some(scope), ..proto::ScopeSpans::default() };
        let attributes = vec![
            entry("status", proto::Value::Int(200)),
            entry("ratio", proto::Value::Double(1e21)),
            entry("ok", proto::Value::Bool(true)),
            entry("list", proto::Value::Array(proto::ArrayValue::default())),
        ];
        let span = proto::Span { name: b"GET /".to_vec(), kind: 2, attributes, ..proto::Span::default() };
        let (resource, scope, span) = (resource.encode_to_vec(), scope.encode_to_vec(), span.encode_to_vec());
        let mut item = WireItem::default();
        item.begin_resource(&resource);
        item.begin_scope(&scope);
        item.begin_item(&span);
        properties.match_item(&item, Context::Span)
    }

    fn strict(texts: &[&str]) -> Option<Texts> {
        Some(Texts::Strict(texts.iter().map(|text| text.as_bytes().to_vec()).collect()))
    }

    fn regexp(texts: &[&str]) -> Option<Texts> {
        Some(Texts::Patterns(texts.iter().map(|text| Pattern::new(text).unwrap()).collect()))
    }

    #[test]
    fn of_a_list_one_must_match() {
        for (services, expected) in [
            (strict(&["other", "shop"]), true),
            (strict(&["sho"]), false),
            (regexp(&["^sh"]), true),
            (regexp(&["^op"]), false),
        ] {
            assert_eq!(
                matches(&Properties { services: services.clone(), ..Properties::default() }),
                expected,
                "{services:?}"
            );
        }
    }

    #[test]
    fn every_kind_of_property_must_match() {
        let all = Properties {
            services: strict(&["shop"]),
            span_names: regexp(&["^GET"]),
            span_kinds: strict(&["SPAN_KIND_SERVER"]),
            attributes: vec![AttributeTest { key: b"ok".to_vec(), value: ValueTest::Any }],
            resources: vec![AttributeTest { key: b"service.name".to_vec(), value: ValueTest::Any }],
            libraries: vec![LibraryTest { name: Texts::Strict(vec![b"http".to_vec()]), version: strict(&["1.2"]) }],
            ..Properties::default()
        };
        assert!(matches(&all));
        assert!(matches(&Properties::default()));
        assert!(!matches(&Properties { span_names: strict(&["GET"]), ..all.clone() }));
        assert!(!matches(&Properties { span_kinds: strict(&["SPAN_KIND_CLIENT"]), ..all.clone() }));
        assert!(!matches(&Properties { services: strict(&["<nil-service-name>"]), ..all.clone() }));
        let other = LibraryTest { name: Texts::Strict(vec![b"http".to_vec()]), version: strict(&[""]) };
        assert!(!matches(&Properties { libraries: vec![other], ..all }));
    }

    #[test]
    fn attributes_are_compared_with_their_type() {
        let equal = |value: Value<'static>| ValueTest::Equal(value);
        let pattern = |text: &str| ValueTest::Pattern(Pattern::new(text).unwrap());
        for (key, value, expected) in [
            ("status", equal(Value::Int(200)), true),
            ("status", equal(Value::Double(200.0)), false),
            ("status", equal(Value::text("200")), false),
            ("status", pattern("^2..$"), true),
            ("ratio", pattern("^10{21}$"), true),
            ("ok", pattern("true"), true),
            ("list", equal(Value::List(Vec::new())), true),
            ("list", pattern(""), false),
            ("missing", ValueTest::Any, false),
        ] {
            let test = AttributeTest { key: key.as_bytes().to_vec(), value };
            let properties = Properties { attributes: vec![test], ..Properties::default() };
            assert_eq!(matches(&properties), expected, "{properties:?}");
        }
    }
}
