//! What fuzz targets run and `cargo test` replays: each function takes any bytes and panics if a promise is broken.
//!
//! Not part of the interface. The twin runs the same statements on structs; what it says, the overlay over bytes must say.

mod attributes;
mod own;
mod texts;

use std::borrow::Cow;

use codecs::otlp::{Signal, proto};
use prost::Message;

use crate::{
    Context, Edit, Entries, Environment, Fault, Field, Paths, Statement, Value, View, WireItem, check_condition,
    check_statement, infer_context,
};

use own::Own;

pub use attributes::{fuzz_attributes, fuzz_attributes_unchecked};
pub use texts::fuzz_texts;

/// Any bytes as a statement: it is refused with a place that can be shown, or it runs without a panic.
pub fn fuzz_parser(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = infer_context([&*text]);
    for context in Context::ALL {
        for paths in [Paths::Bare, Paths::Prefixed] {
            if let Err(diagnostic) = check_condition(&text, context, paths) {
                assert!(!diagnostic.render(&text).is_empty());
            }
            match check_statement(&text, context, paths) {
                Ok(statement) => {
                    let mut item = WireItem::new(context.signal().unwrap_or_default());
                    statement.run(&mut item, &mut Environment::default());
                    let mut out = Vec::new();
                    item.write(context, &mut out);
                }
                Err(diagnostic) => assert!(!diagnostic.render(&text).is_empty()),
            }
        }
    }
}

/// Any bytes as choices of a span and of statements: overlay and twin agree on every outcome and on every byte's meaning.
pub fn fuzz_run(choices: &[u8]) {
    fuzz_context(choices, Context::Span);
}

/// The same of a log record.
pub fn fuzz_run_logs(choices: &[u8]) {
    fuzz_context(choices, Context::Log);
}

/// The same of a metric and of each of its data points.
pub fn fuzz_run_metrics(choices: &[u8]) {
    fuzz_context(choices, Context::DataPoint);
}

fn fuzz_context(choices: &[u8], context: Context) {
    let mut choices = Choices { bytes: choices };
    let twin = TwinItem::chosen(&mut choices, context);
    let texts: Vec<String> = (0..1 + choices.below(6)).map(|_| choices.statement(context)).collect();
    check_run(twin, &texts, context);
}

thread_local! {
    /// Every template, by context, read once: reading costs more than running.
    static READ_TEMPLATES: Vec<(Context, Vec<Statement>)> = [Context::Span, Context::Log, Context::Metric, Context::DataPoint]
        .map(|context| {
            let texts = templates(context).iter().map(|text| text.replace("KEY", "a").replace("VALUE", "\"v\""));
            let read = texts.filter_map(|text| check_statement(&text, context, Paths::Bare).ok());
            (context, read.collect())
        })
        .into();
}

/// Any bytes as an item of any signal: what was never checked is no reason to panic either.
pub fn fuzz_unchecked(bytes: &[u8]) {
    READ_TEMPLATES.with(|templates| templates.iter().for_each(|(context, read)| run_unchecked(bytes, *context, read)));
    let mut out = Vec::new();
    for signal in Signal::ALL {
        out.clear();
        crate::rewrite_parts(signal, bytes, &mut |_, _, _| crate::Child::Gone, &mut out);
    }
}

fn run_unchecked(bytes: &[u8], context: Context, statements: &[Statement]) {
    let mut item = WireItem::new(context.signal().unwrap_or_default());
    item.begin_resource(bytes);
    item.begin_scope(bytes);
    item.begin_item(bytes);
    item.begin_part(0);
    for statement in statements {
        statement.run(&mut item, &mut Environment::default());
    }
    item.finish_part();
    let mut out = Vec::new();
    Context::ALL.into_iter().for_each(|level| item.write(level, &mut out));
}

/// Runs each text on overlay and twin; in the context of data points on one after the other, as in the gateway.
fn check_run(mut twin: TwinItem, texts: &[String], context: Context) {
    let (resource, scope, own) = (twin.resource.encode_to_vec(), twin.scope.encode_to_vec(), twin.own.encode());
    let mut item = WireItem::new(context.signal().unwrap_or_default());
    item.begin_resource(&resource);
    item.begin_scope(&scope);
    item.begin_item(&own);
    let environment = Environment { now_unix_ns: 1_700_000_000_000_000_000, ..Environment::default() };
    let (mut of_item, mut of_twin) = (environment.clone(), environment);
    for text in texts {
        // Editors of whole metrics have a context of their own.
        let context = if check_statement(text, Context::Metric, Paths::Bare)
            .is_ok_and(|it| it.changes() == Some(Context::Metric))
        {
            context.item()
        } else {
            context
        };
        // A value may not fit its hole; that every statement fits one is a test below.
        let Ok(statement) = check_statement(text, context, Paths::Bare) else { continue };
        let parts = if context == context.item() { 1 } else { item.parts_count() };
        assert_eq!(twin.own.parts_count(context), parts as usize);
        for part in 0..parts {
            item.begin_part(part);
            twin.own.begin_part(part as usize);
            let (found, expected) = (statement.run(&mut item, &mut of_item), statement.run(&mut twin, &mut of_twin));
            assert_eq!(found, expected, "{text}");
            assert_eq!(format!("{:?}", of_item.cache), format!("{:?}", of_twin.cache), "{text}");
            if context != context.item() {
                item.finish_part();
            }
        }
    }
    let written = |level| {
        let mut out = Vec::new();
        item.write(level, &mut out);
        out
    };
    let found = TwinItem {
        resource: proto::ResourceSpans::decode(&*written(Context::Resource)).expect("a written envelope decodes"),
        scope: proto::ScopeSpans::decode(&*written(Context::Scope)).expect("a written envelope decodes"),
        own: twin.own.decoded(&written(context.item())),
        created: item
            .take_created()
            .map(|created| {
                let mut bytes = Vec::new();
                created.write(&mut bytes);
                proto::Metric::decode(&*bytes).expect("a metric that was made decodes")
            })
            .collect(),
    };
    // As text, so that a float that is no number equals itself.
    assert_eq!(format!("{:#?}", found.normal()), format!("{:#?}", twin.normal()), "{texts:#?}");
}

fn templates(context: Context) -> &'static [&'static str] {
    match context {
        Context::Log => own::LOG_TEMPLATES,
        Context::DataPoint => own::POINT_TEMPLATES,
        Context::Metric => own::METRIC_TEMPLATES,
        _ => TEMPLATES,
    }
}

/// Statements with holes; on an item without events.
const TEMPLATES: &[&str] = &[
    r#"set(attributes["KEY"], VALUE)"#,
    r#"set(attributes["KEY"], VALUE) where attributes["KEY"] != nil"#,
    r#"set(attributes["KEY"]["x"], VALUE)"#,
    r#"set(attributes["KEY"][0], VALUE)"#,
    r#"set(attributes["KEY"], attributes["KEY"])"#,
    r#"set(attributes["KEY"], SHA256(attributes["KEY"]))"#,
    r#"set(attributes["KEY"], Mask(attributes["KEY"], "**-##"))"#,
    r#"set(attributes["KEY"], Concat([attributes["KEY"], name], VALUE))"#,
    r#"set(attributes["KEY"], attributes["KEY"] + 1)"#,
    r#"set(resource.attributes["KEY"], VALUE)"#,
    r#"set(resource.schema_url, "s")"#,
    r#"set(scope.attributes["KEY"], attributes["KEY"])"#,
    r#"set(scope.name, "s") where scope.name == """#,
    r#"set(attributes, resource.attributes)"#,
    r#"set(attributes, {"a": VALUE, "KEY": [1, VALUE]})"#,
    r#"set(name, attributes["KEY"])"#,
    r#"set(name, VALUE)"#,
    r#"set(status.code, STATUS_CODE_ERROR)"#,
    r#"set(status.message, name)"#,
    r#"set(kind.string, "Server") where kind == 0"#,
    r#"set(start_time, end_time - Duration("1s"))"#,
    r#"set(end_time_unix_nano, 7)"#,
    r#"set(flags, 1)"#,
    r#"set(trace_state["KEY"], "v")"#,
    r#"set(span_id.string, "0102030405060708")"#,
    r#"set(trace_id, TraceID(0x000102030405060708090a0b0c0d0e0f))"#,
    r#"set(cache["KEY"], attributes)"#,
    r#"set(attributes["KEY"], cache["KEY"]["a"])"#,
    r#"append(attributes["KEY"], VALUE)"#,
    r#"delete_index(attributes["KEY"], 0)"#,
    r#"delete_key(attributes, "KEY")"#,
    r#"delete_key(resource.attributes, "KEY")"#,
    r#"delete_key(attributes["KEY"], "x")"#,
    r#"delete_matching_keys(attributes, "^[KEYz]")"#,
    r#"keep_keys(attributes, ["KEY", "a"])"#,
    r#"keep_matching_keys(attributes, "^[abKEY]")"#,
    r#"limit(attributes, 2, ["KEY"])"#,
    r#"truncate_all(attributes, 1)"#,
    r#"merge_maps(attributes, resource.attributes, "insert")"#,
    r#"merge_maps(attributes, {"KEY": VALUE}, "upsert")"#,
    r#"flatten(attributes)"#,
    r#"flatten(attributes, "p", depth = 1, resolve_conflicts = true)"#,
    r#"replace_pattern(attributes["KEY"], "t(e)", "$$1<$1>")"#,
    r#"replace_pattern(name, ".", "$0", SHA256, "<%s>")"#,
    r#"replace_match(attributes["KEY"], "t*", "m")"#,
    r#"replace_all_patterns(attributes, "value", "e", "E")"#,
    r#"replace_all_patterns(attributes, "key", "^(.)$", "a$1")"#,
    r#"replace_all_matches(attributes, "t*", "all")"#,
    r#"stringify_all(attributes)"#,
    r#"set(attributes["KEY"], ParseCSV(attributes["KEY"], "x|y", header_delimiter = "|"))"#,
    r#"set(attributes, ExtractGrokPatterns(name, "%{WORD:a}(?: %{NUMBER:b:int})?%{GREEDYDATA}"))"#,
    r#"set(start_time, Time(attributes["KEY"], "%b %e %H:%M:%S %Z", "Europe/Berlin"))"#,
];

/// A string of choices; when it ends, every choice is the first.
struct Choices<'c> {
    bytes: &'c [u8],
}

impl Choices<'_> {
    fn below(&mut self, bound: usize) -> usize {
        let Some((first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        usize::from(*first) % bound
    }

    fn one_of<'o>(&mut self, options: &[&'o str]) -> &'o str {
        options[self.below(options.len())]
    }

    /// Half of the statements on logs and data points are those that any attributes can have.
    fn statement(&mut self, context: Context) -> String {
        let key = self.one_of(&["a", "b", "c", "d", "user.email", ""]);
        let value =
            self.one_of(&["\"text\"", "7", "1.5", "true", "0x00ff", "nil", "[1, \"x\"]", "{\"x\": {\"y\": 1}}"]);
        let own = context != Context::Span && self.below(2) == 1;
        let metric = context == Context::DataPoint && self.below(4) == 3;
        let context = if metric { Context::Metric } else { context };
        self.one_of(if own || metric { templates(context) } else { TEMPLATES })
            .replace("KEY", key)
            .replace("VALUE", value)
    }

    fn value(&mut self, depth: usize) -> proto::AnyValue {
        use proto::Value as V;
        let value = match self.below(if depth < 3 { 9 } else { 7 }) {
            0 => V::String(b"test 12-345".to_vec()),
            1 => V::String("gr\u{fc}\u{df}e".into()),
            2 => V::Int(self.below(256) as i64 - 100),
            3 => V::Double(self.below(256) as f64 / 8.0 - 10.0),
            4 => V::Bool(self.below(2) == 1),
            5 => V::Bytes(vec![self.below(256) as u8; self.below(4)]),
            6 => return proto::AnyValue { value: None },
            7 => V::Array(proto::ArrayValue { values: (0..self.below(4)).map(|_| self.value(depth + 1)).collect() }),
            _ => V::Map(proto::KeyValueList { values: self.entries(depth + 1) }),
        };
        proto::AnyValue { value: Some(value) }
    }

    /// Keys repeat now and then.
    fn entries(&mut self, depth: usize) -> Vec<proto::KeyValue> {
        let entry = |choices: &mut Self| {
            let key = choices.one_of(&["a", "b", "c", "x", "user.email", "b.x"]).into();
            proto::KeyValue { key, value: Some(choices.value(depth)) }
        };
        (0..self.below(6)).map(|_| entry(self)).collect()
    }
}

/// The naive twin: the same item as structs. Resources and scopes are the same messages for every signal.
#[derive(Clone, Debug)]
struct TwinItem {
    resource: proto::ResourceSpans,
    scope: proto::ScopeSpans,
    own: Own,
    /// What statements have made.
    created: Vec<proto::Metric>,
}

impl TwinItem {
    fn chosen(choices: &mut Choices<'_>, context: Context) -> Self {
        let mut resource = proto::ResourceSpans::default();
        if choices.below(4) > 0 {
            resource.resource = Some(proto::Resource { attributes: choices.entries(0), dropped_attributes_count: 3 });
        }
        let mut scope = proto::ScopeSpans { schema_url: b"schema".to_vec(), ..proto::ScopeSpans::default() };
        if choices.below(4) > 0 {
            let attributes = choices.entries(0);
            scope.scope = Some(proto::InstrumentationScope { attributes, ..proto::InstrumentationScope::default() });
        }
        Self { resource, scope, own: Own::chosen(choices, context), created: Vec::new() }
    }

    /// An empty resource or scope means the same as none.
    fn normal(&self) -> Self {
        let mut normal = self.clone();
        normal.resource.resource = normal.resource.resource.filter(|resource| *resource != proto::Resource::default());
        normal.scope.scope = normal.scope.scope.filter(|scope| *scope != proto::InstrumentationScope::default());
        normal.own.normalize();
        normal
    }

    fn entries(&self, level: Context) -> &[proto::KeyValue] {
        match level {
            Context::Resource => self.resource.resource.as_ref().map_or(&[], |resource| &resource.attributes),
            Context::Scope => self.scope.scope.as_ref().map_or(&[], |scope| &scope.attributes),
            _ => self.own.entries(level),
        }
    }

    fn entries_mut(&mut self, level: Context) -> &mut Vec<proto::KeyValue> {
        match level {
            Context::Resource => &mut self.resource.resource.get_or_insert_default().attributes,
            Context::Scope => &mut self.scope.scope.get_or_insert_default().attributes,
            _ => self.own.entries_mut(level),
        }
    }
}

fn to_value(any: Option<&proto::AnyValue>) -> Value<'_> {
    use proto::Value as V;
    match any.and_then(|any| any.value.as_ref()) {
        None => Value::Nil,
        Some(V::String(text)) => Value::Text(Cow::Borrowed(text)),
        Some(V::Bool(value)) => Value::Bool(*value),
        Some(V::Int(value)) => Value::Int(*value),
        Some(V::Double(value)) => Value::Double(*value),
        Some(V::Bytes(bytes)) => Value::Bytes(Cow::Borrowed(bytes)),
        Some(V::Array(list)) => Value::List(list.values.iter().map(|item| to_value(Some(item))).collect()),
        Some(V::Map(map)) => Value::Map(map.values.iter().map(to_entry).collect()),
    }
}

fn to_entry(entry: &proto::KeyValue) -> (Cow<'_, [u8]>, Value<'_>) {
    (Cow::Borrowed(&entry.key), to_value(entry.value.as_ref()))
}

fn from_value(value: &Value<'_>) -> proto::AnyValue {
    use proto::Value as V;
    let value = match value {
        Value::Nil => None,
        Value::Text(text) => Some(V::String(text.to_vec())),
        Value::Bool(value) => Some(V::Bool(*value)),
        Value::Int(value) | Value::Time(value) | Value::Duration(value) => Some(V::Int(*value)),
        Value::Double(value) => Some(V::Double(*value)),
        Value::Bytes(bytes) => Some(V::Bytes(bytes.to_vec())),
        Value::List(items) => Some(V::Array(proto::ArrayValue { values: items.iter().map(from_value).collect() })),
        Value::Map(entries) => Some(V::Map(proto::KeyValueList { values: entries.iter().map(from_entry).collect() })),
    };
    proto::AnyValue { value }
}

fn from_entry((key, value): &(Cow<'_, [u8]>, Value<'_>)) -> proto::KeyValue {
    proto::KeyValue { key: key.to_vec(), value: Some(from_value(value)) }
}

fn text(bytes: &[u8]) -> Value<'_> {
    Value::Text(Cow::Borrowed(bytes))
}

fn id(bytes: &[u8]) -> Value<'_> {
    Value::Bytes(Cow::Borrowed(bytes))
}

impl View for TwinItem {
    fn read(&self, field: Field) -> Value<'_> {
        let (resource, scope) = (self.resource.resource.as_ref(), self.scope.scope.as_ref());
        let count = |count: u32| Value::Int(i64::from(count));
        match field {
            Field::Attributes(level) => Value::Map(self.entries(level).iter().map(to_entry).collect()),
            Field::DroppedAttributes(Context::Resource) => count(resource.map_or(0, |it| it.dropped_attributes_count)),
            Field::DroppedAttributes(Context::Scope) => count(scope.map_or(0, |it| it.dropped_attributes_count)),
            Field::SchemaUrl(Context::Resource) => text(&self.resource.schema_url),
            Field::SchemaUrl(_) => text(&self.scope.schema_url),
            Field::Name(Context::Scope) => text(scope.map_or(&[], |scope| &scope.name)),
            Field::Version => text(scope.map_or(&[], |scope| &scope.version)),
            own => self.own.read(own),
        }
    }

    fn first_point_attribute(&self, key: &[u8]) -> Option<Value<'_>> {
        let mut points = self.own.attributes_of_points().into_iter();
        let entry = points.find_map(|attributes| attributes.iter().find(|entry| entry.key == key))?;
        Some(to_value(entry.value.as_ref()))
    }

    fn attribute(&self, level: Context, key: &[u8]) -> Option<Value<'_>> {
        let entry = self.entries(level).iter().find(|entry| entry.key == key)?;
        Some(to_value(entry.value.as_ref()))
    }
}

impl Edit for TwinItem {
    fn write(&mut self, field: Field, value: &Value<'_>) {
        let bytes = match value {
            Value::Text(text) | Value::Bytes(text) => text.to_vec(),
            _ => Vec::new(),
        };
        match field {
            Field::SchemaUrl(Context::Resource) => self.resource.schema_url = bytes,
            Field::SchemaUrl(_) => self.scope.schema_url = bytes,
            Field::Name(Context::Scope) => self.scope.scope.get_or_insert_default().name = bytes,
            Field::Version => self.scope.scope.get_or_insert_default().version = bytes,
            own => self.own.write(own, value),
        }
    }

    fn scale_points(&mut self, factor: f64) -> Result<(), Fault> {
        self.own.scale_points(factor)
    }

    fn derive(&mut self, derivation: &crate::Derivation) -> Result<(), Fault> {
        let made = self.own.derive(derivation)?;
        self.created.extend(made);
        Ok(())
    }

    fn aggregate(&mut self, aggregation: &crate::Aggregation) -> Result<(), Fault> {
        self.own.aggregate(aggregation)
    }

    fn rebucket(&mut self, rebucketing: &crate::Rebucketing) -> Result<(), Fault> {
        self.own.rebucket(rebucketing)
    }

    fn set_attribute(&mut self, level: Context, key: &[u8], value: &Value<'_>) {
        let entries = self.entries_mut(level);
        let value = Some(from_value(value));
        let Some(first) = entries.iter().position(|entry| entry.key == key) else {
            return entries.push(proto::KeyValue { key: key.to_vec(), value });
        };
        let mut kept: Vec<_> = entries.drain(..=first).collect();
        kept[first].value = value;
        kept.extend(entries.drain(..).filter(|entry| entry.key != key));
        *entries = kept;
    }

    fn retain_attributes(&mut self, level: Context, keep: &mut dyn FnMut(&[u8]) -> bool) {
        self.entries_mut(level).retain(|entry| keep(&entry.key));
    }

    fn replace_attributes(&mut self, level: Context, entries: &Entries<'_>) {
        let mut unique: Vec<proto::KeyValue> = Vec::new();
        for entry in entries.iter().map(from_entry) {
            if !unique.iter().any(|other| other.key == entry.key) {
                unique.push(entry);
            }
        }
        *self.entries_mut(level) = unique;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_a_statement() {
        for context in [Context::Span, Context::Log, Context::Metric, Context::DataPoint] {
            for template in templates(context) {
                let text = template.replace("KEY", "a").replace("VALUE", "\"v\"");
                if let Err(diagnostic) = check_statement(&text, context, Paths::Bare) {
                    panic!("{}", diagnostic.render(&text));
                }
            }
        }
    }
}
