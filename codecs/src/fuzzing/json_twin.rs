//! A naive twin of the JSON transcoder: serde_json makes a tree, plain code walks it into prost's structs.
//!
//! Where the two may differ by design, nothing is compared: serde_json refuses text that is not UTF-8, halves of
//! surrogate pairs and more than 128 levels; the transcoder passes, replaces and bounds them in its own way. A number that
//! is no double is refused by serde_json even where nobody reads it.

use std::fmt;
use std::fmt::Write as _;

use prost::Message;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::grpc::base64;
use crate::json::{JsonError, Step, Transcoding, read_request, write_request};
use crate::otlp::proto::*;
use crate::otlp::{Signal, SpanIndex, VALUE_DEPTH_MAX};

/// Checks that `json` is transcoded exactly if the twin reads it, to a message that decodes to what the twin makes, and that the
/// way back to JSON and again leaves the same message.
///
/// # Panics
/// They disagree.
pub fn check_json(json: &[u8]) {
    let mut out = b"kept".to_vec();
    let read = read_request(Signal::Traces, json, &mut out);
    assert!(out.starts_with(b"kept"), "what was there stays");
    let protobuf = &out[4..];
    assert!(protobuf.len() <= json.len(), "the output is bounded by the input");
    check_steps(json, &read, protobuf);
    let tree = serde_json::from_slice::<Tree>(json);
    match (read, tree) {
        (Ok(()), tree) => {
            SpanIndex::default().read_request(protobuf, 0).expect("the index takes what was transcoded");
            // prost bounds nesting more tightly.
            let Ok(request) = ExportTraceServiceRequest::decode(protobuf) else { return };
            if let Ok(tree) = tree {
                let twin = read_tree(&tree).unwrap_or_else(|| panic!("the twin refuses what we accept: {tree:?}"));
                check_equal(&request, &twin);
            }
            check_way_back(&request, protobuf);
        }
        (Err(error), tree) => {
            assert!(protobuf.is_empty(), "an error leaves nothing behind");
            assert!(error.offset <= json.len() && error.to_string().len() < 1000);
            let Ok(tree) = tree else { return };
            let accepted = read_tree(&tree).is_some();
            assert!(!accepted, "the twin accepts what we refuse: {error}");
        }
    }
}

/// In steps, however short, a body becomes the same request, or is refused in the same words.
pub(crate) fn check_steps(json: &[u8], expected: &Result<(), JsonError>, protobuf: &[u8]) {
    for step_bytes in [1, 1 + json.len() / 3, usize::MAX] {
        let (mut transcoding, mut out) = (Transcoding::with_steps(Signal::Traces, json, step_bytes), Vec::new());
        let mut steps = 0;
        let read = loop {
            match transcoding.step(&mut out) {
                Ok(Step::More) => steps += 1,
                Ok(Step::Done) => break Ok(()),
                Err(error) => break Err(error),
            }
            assert!(steps <= json.len(), "each step reads something");
        };
        assert_eq!(&read, expected, "in steps of {step_bytes}");
        assert!(read.is_ok() || out.is_empty(), "an error leaves nothing behind");
        // Lengths may be longer than they need to be, so the bytes may differ.
        match (ExportTraceServiceRequest::decode(&out[..]), ExportTraceServiceRequest::decode(protobuf)) {
            (Ok(stepped), Ok(whole)) => check_equal(&stepped, &whole),
            (stepped, whole) => assert_eq!(stepped.is_ok(), whole.is_ok()),
        }
    }
}

/// Equal as messages; compared as bytes, because a double that is not a number is not equal to itself.
fn check_equal(ours: &ExportTraceServiceRequest, twin: &ExportTraceServiceRequest) {
    assert_eq!(ours.encode_to_vec(), twin.encode_to_vec(), "ours {ours:?}\ntwin {twin:?}");
}

fn check_way_back(request: &ExportTraceServiceRequest, protobuf: &[u8]) {
    let mut json = Vec::new();
    write_request(Signal::Traces, protobuf, &mut json).expect("what was transcoded is well-formed");
    serde_json::from_slice::<serde::de::IgnoredAny>(&json).expect("what we write is JSON to others");
    let mut again = Vec::new();
    read_request(Signal::Traces, &json, &mut again).unwrap_or_else(|error| panic!("{error}: {}", json.escape_ascii()));
    // Text that is not UTF-8 was replaced.
    if !holds_replacement(&json) {
        check_equal(&ExportTraceServiceRequest::decode(&again[..]).expect("it was decoded before"), request);
    }
}

fn holds_replacement(json: &[u8]) -> bool {
    json.windows(3).any(|bytes| bytes == "\u{fffd}".as_bytes())
}

/// A JSON value; objects keep every entry, also those with the same name.
#[derive(Debug)]
enum Tree {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Double(f64),
    Text(String),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Signed(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Double(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = access.next_element()? {
            list.push(element);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Tree::Object(entries))
    }
}

/// The request that a tree stands for; `None` if it is none.
fn read_tree(tree: &Tree) -> Option<ExportTraceServiceRequest> {
    let Tree::Object(entries) = tree else { return None };
    let mut request = ExportTraceServiceRequest::default();
    read_request_into(&mut request, entries)?;
    Some(request)
}

type Entries = [(String, Tree)];

/// Entries with a value: `null` is the same as no entry.
fn present(entries: &Entries) -> impl Iterator<Item = (&str, &Tree)> {
    entries.iter().filter(|(_, tree)| !matches!(tree, Tree::Null)).map(|(name, tree)| (&name[..], tree))
}

/// Appends the elements of a list of messages.
fn many<M: Default>(into: &mut Vec<M>, tree: &Tree, read: impl Fn(&mut M, &Entries) -> Option<()>) -> Option<()> {
    let Tree::List(list) = tree else { return None };
    for element in list {
        let mut message = M::default();
        if !matches!(element, Tree::Null) {
            one(&mut message, element, &read)?;
        }
        into.push(message);
    }
    Some(())
}

fn one<M>(into: &mut M, tree: &Tree, read: impl Fn(&mut M, &Entries) -> Option<()>) -> Option<()> {
    let Tree::Object(entries) = tree else { return None };
    read(into, entries)
}

fn read_request_into(request: &mut ExportTraceServiceRequest, entries: &Entries) -> Option<()> {
    for (name, tree) in present(entries) {
        match name {
            "resourceSpans" | "resource_spans" => many(&mut request.resource_spans, tree, read_resource_spans)?,
            _ => {}
        }
    }
    Some(())
}

fn read_resource_spans(into: &mut ResourceSpans, entries: &Entries) -> Option<()> {
    for (name, tree) in present(entries) {
        match name {
            "resource" => one(into.resource.get_or_insert_default(), tree, |resource: &mut Resource, entries| {
                for (name, tree) in present(entries) {
                    match name {
                        "attributes" => attributes(&mut resource.attributes, tree)?,
                        "droppedAttributesCount" | "dropped_attributes_count" => {
                            resource.dropped_attributes_count = unsigned(tree)?;
                        }
                        _ => {}
                    }
                }
                Some(())
            })?,
            "scopeSpans" | "scope_spans" => many(&mut into.scope_spans, tree, read_scope_spans)?,
            "schemaUrl" | "schema_url" => into.schema_url = text(tree)?,
            _ => {}
        }
    }
    Some(())
}

fn read_scope_spans(into: &mut ScopeSpans, entries: &Entries) -> Option<()> {
    for (name, tree) in present(entries) {
        match name {
            "scope" => one(into.scope.get_or_insert_default(), tree, |scope: &mut InstrumentationScope, entries| {
                for (name, tree) in present(entries) {
                    match name {
                        "name" => scope.name = text(tree)?,
                        "version" => scope.version = text(tree)?,
                        "attributes" => attributes(&mut scope.attributes, tree)?,
                        "droppedAttributesCount" | "dropped_attributes_count" => {
                            scope.dropped_attributes_count = unsigned(tree)?;
                        }
                        _ => {}
                    }
                }
                Some(())
            })?,
            "spans" => many(&mut into.spans, tree, read_span)?,
            "schemaUrl" | "schema_url" => into.schema_url = text(tree)?,
            _ => {}
        }
    }
    Some(())
}

fn read_span(span: &mut Span, entries: &Entries) -> Option<()> {
    const KINDS: [&str; 6] = ["UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"];
    for (name, tree) in present(entries) {
        match name {
            "traceId" | "trace_id" => span.trace_id = id(tree, 16)?,
            "spanId" | "span_id" => span.span_id = id(tree, 8)?,
            "traceState" | "trace_state" => span.trace_state = text(tree)?,
            "parentSpanId" | "parent_span_id" => span.parent_span_id = id(tree, 8)?,
            "flags" => span.flags = unsigned(tree)?,
            "name" => span.name = text(tree)?,
            "kind" => span.kind = enumerated(tree, "SPAN_KIND_", &KINDS)?,
            "startTimeUnixNano" | "start_time_unix_nano" => span.start_time_unix_nano = unsigned(tree)?,
            "endTimeUnixNano" | "end_time_unix_nano" => span.end_time_unix_nano = unsigned(tree)?,
            "attributes" => attributes(&mut span.attributes, tree)?,
            "droppedAttributesCount" | "dropped_attributes_count" => span.dropped_attributes_count = unsigned(tree)?,
            "events" => many(&mut span.events, tree, read_event)?,
            "droppedEventsCount" | "dropped_events_count" => span.dropped_events_count = unsigned(tree)?,
            "links" => many(&mut span.links, tree, read_link)?,
            "droppedLinksCount" | "dropped_links_count" => span.dropped_links_count = unsigned(tree)?,
            "status" => one(span.status.get_or_insert_default(), tree, |status: &mut SpanStatus, entries| {
                for (name, tree) in present(entries) {
                    match name {
                        "message" => status.message = text(tree)?,
                        "code" => status.code = enumerated(tree, "STATUS_CODE_", &["UNSET", "OK", "ERROR"])?,
                        _ => {}
                    }
                }
                Some(())
            })?,
            _ => {}
        }
    }
    Some(())
}

fn read_event(event: &mut SpanEvent, entries: &Entries) -> Option<()> {
    for (name, tree) in present(entries) {
        match name {
            "timeUnixNano" | "time_unix_nano" => event.time_unix_nano = unsigned(tree)?,
            "name" => event.name = text(tree)?,
            "attributes" => attributes(&mut event.attributes, tree)?,
            "droppedAttributesCount" | "dropped_attributes_count" => event.dropped_attributes_count = unsigned(tree)?,
            _ => {}
        }
    }
    Some(())
}

fn read_link(link: &mut SpanLink, entries: &Entries) -> Option<()> {
    for (name, tree) in present(entries) {
        match name {
            "traceId" | "trace_id" => link.trace_id = id(tree, 16)?,
            "spanId" | "span_id" => link.span_id = id(tree, 8)?,
            "traceState" | "trace_state" => link.trace_state = text(tree)?,
            "attributes" => attributes(&mut link.attributes, tree)?,
            "droppedAttributesCount" | "dropped_attributes_count" => link.dropped_attributes_count = unsigned(tree)?,
            "flags" => link.flags = unsigned(tree)?,
            _ => {}
        }
    }
    Some(())
}

fn attributes(into: &mut Vec<KeyValue>, tree: &Tree) -> Option<()> {
    many(into, tree, |pair, entries| read_key_value(pair, entries, 0))
}

fn read_key_value(pair: &mut KeyValue, entries: &Entries, depth: u32) -> Option<()> {
    for (name, tree) in present(entries) {
        match name {
            "key" => pair.key = text(tree)?,
            "value" => {
                one(pair.value.get_or_insert_default(), tree, |value, entries| read_any_value(value, entries, depth))?
            }
            _ => {}
        }
    }
    Some(())
}

fn read_any_value(any: &mut AnyValue, entries: &Entries, depth: u32) -> Option<()> {
    for (name, tree) in present(entries) {
        match name {
            "stringValue" | "string_value" => any.value = Some(Value::String(text(tree)?)),
            "boolValue" | "bool_value" => {
                let Tree::Bool(value) = tree else { return None };
                any.value = Some(Value::Bool(*value));
            }
            "intValue" | "int_value" => any.value = Some(Value::Int(i64::try_from(integer(tree)?).ok()?)),
            "doubleValue" | "double_value" => any.value = Some(Value::Double(double(tree)?)),
            "bytesValue" | "bytes_value" => any.value = Some(Value::Bytes(base64::decode(&text(tree)?)?)),
            "arrayValue" | "array_value" => {
                let mut list = match any.value.take() {
                    Some(Value::Array(list)) => list,
                    _ => ArrayValue::default(),
                };
                read_list(&mut list.values, tree, depth + 1, read_any_value)?;
                any.value = Some(Value::Array(list));
            }
            "kvlistValue" | "kvlist_value" => {
                let mut map = match any.value.take() {
                    Some(Value::Map(map)) => map,
                    _ => KeyValueList::default(),
                };
                read_list(&mut map.values, tree, depth + 1, read_key_value)?;
                any.value = Some(Value::Map(map));
            }
            _ => {}
        }
    }
    Some(())
}

fn read_list<M: Default>(
    into: &mut Vec<M>,
    tree: &Tree,
    depth: u32,
    read: impl Fn(&mut M, &Entries, u32) -> Option<()>,
) -> Option<()> {
    let Tree::Object(entries) = tree else { return None };
    if depth > VALUE_DEPTH_MAX {
        return None;
    }
    for (_, tree) in present(entries).filter(|(name, _)| *name == "values") {
        many(into, tree, |message, entries| read(message, entries, depth))?;
    }
    Some(())
}

fn text(tree: &Tree) -> Option<Vec<u8>> {
    let Tree::Text(text) = tree else { return None };
    Some(text.clone().into_bytes())
}

fn id(tree: &Tree, length: usize) -> Option<Vec<u8>> {
    let text = text(tree)?;
    let bytes: Option<Vec<u8>> = text
        .chunks(2)
        .map(|pair| {
            let digit = |digit: u8| char::from(digit).to_digit(16);
            pair.iter().try_fold(0, |byte, &next| Some(byte * 16 + digit(next)?)).map(|byte| byte as u8)
        })
        .collect();
    bytes.filter(|_| text.is_empty() || text.len() == length * 2)
}

/// A whole number, in a string or not.
fn integer(tree: &Tree) -> Option<i128> {
    match tree {
        Tree::Unsigned(value) => Some((*value).into()),
        Tree::Signed(value) => Some((*value).into()),
        // Beyond 64 bits serde_json makes a double of a whole number, -2^63 - 1 becomes -2^63.
        Tree::Double(value) if value.fract() == 0.0 && *value < u64::MAX as f64 && *value > i64::MIN as f64 => {
            Some(*value as i128)
        }
        Tree::Text(text) => integer(&number_in(text)?),
        _ => None,
    }
}

/// The number that fills a string.
fn number_in(text: &str) -> Option<Tree> {
    let is_number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit())
        && text.ends_with(|last: char| last.is_ascii_digit());
    let tree = is_number.then(|| serde_json::from_str(text).ok()).flatten()?;
    matches!(tree, Tree::Unsigned(_) | Tree::Signed(_) | Tree::Double(_)).then_some(tree)
}

fn unsigned<T: TryFrom<i128>>(tree: &Tree) -> Option<T> {
    T::try_from(integer(tree)?).ok()
}

fn enumerated(tree: &Tree, prefix: &str, names: &[&str]) -> Option<i32> {
    if let Tree::Text(text) = tree
        && let Some(name) = text.strip_prefix(prefix)
    {
        return names.iter().position(|known| *known == name).map(|value| value as i32);
    }
    unsigned(tree)
}

fn double(tree: &Tree) -> Option<f64> {
    match tree {
        Tree::Unsigned(value) => Some(*value as f64),
        Tree::Signed(value) => Some(*value as f64),
        Tree::Double(value) => Some(*value),
        Tree::Text(text) => match &text[..] {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            text => double(&number_in(text)?),
        },
        _ => None,
    }
}

/// A request in JSON whose shape follows `choices`: names that OTLP has with values of every kind, mostly the right one.
#[must_use]
pub fn json_from(choices: &[u8]) -> String {
    let mut out = String::new();
    Choices { rest: choices }.object(&["resourceSpans"], 0, &mut out);
    out
}

/// Nesting at which the builder stops to nest.
const DEPTH_MAX: u32 = 24;

struct Choices<'a> {
    rest: &'a [u8],
}

impl Choices<'_> {
    fn next(&mut self) -> usize {
        match self.rest.split_first() {
            Some((&first, rest)) => {
                self.rest = rest;
                first.into()
            }
            None => 0,
        }
    }

    fn pick<'t>(&mut self, from: &[&'t str]) -> &'t str {
        from[self.next() % from.len()]
    }

    /// An object with some of the names, in any order and number.
    fn object(&mut self, names: &[&'static str], depth: u32, out: &mut String) {
        out.push('{');
        let mut first = true;
        loop {
            let choice = self.next();
            if choice < 24 {
                break;
            }
            if !first {
                out.push_str(if choice % 16 == 3 { " ,\n " } else { "," });
            }
            first = false;
            let name = if choice < 32 { "future" } else { names[choice % names.len()] };
            let _ = write!(out, "\"{name}\":");
            self.value(name, depth + 1, out);
        }
        out.push('}');
    }

    fn value(&mut self, name: &str, depth: u32, out: &mut String) {
        let choice = self.next();
        if choice < 8 || depth > DEPTH_MAX {
            return out.push_str("null");
        }
        if choice == 8 {
            return out.push_str(self.pick(&["5", "\"x\"", "[]", "{}", "true", "[null,{\"a\":[1.5]}]", ""]));
        }
        match name {
            "resourceSpans" => self.list(&["resource", "scopeSpans", "schemaUrl", "scope_spans"], depth, out),
            "scopeSpans" | "scope_spans" => self.list(&["scope", "spans", "schemaUrl"], depth, out),
            "spans" => self.list(&SPAN_NAMES, depth, out),
            "events" => self.list(&["timeUnixNano", "name", "attributes", "droppedAttributesCount"], depth, out),
            "links" => self.list(&["traceId", "spanId", "traceState", "attributes", "flags"], depth, out),
            "attributes" => self.list(&["key", "value"], depth, out),
            "values" => {
                // Of a list and of a map alike; the wrong ones are unknown fields.
                let names = ["key", "value", "stringValue", "arrayValue", "kvlistValue", "intValue"];
                self.list(&names, depth, out);
            }
            "resource" => self.object(&["attributes", "droppedAttributesCount"], depth, out),
            "scope" => self.object(&["name", "version", "attributes"], depth, out),
            "status" => self.object(&["message", "code"], depth, out),
            "value" => self.object(&VALUE_NAMES, depth, out),
            "arrayValue" | "kvlistValue" => self.object(&["values"], depth, out),
            "traceId" | "spanId" | "parentSpanId" => self.id(name, out),
            "boolValue" => out.push_str(self.pick(&["true", "false"])),
            "kind" => out.push_str(self.pick(&["0", "2", "\"SPAN_KIND_CLIENT\"", "\"4\"", "-1", "99"])),
            "code" => out.push_str(self.pick(&["0", "1", "2", "\"STATUS_CODE_OK\"", "\"OK\""])),
            "doubleValue" => {
                out.push_str(self.pick(&["0.5", "-1e3", "7", "\"NaN\"", "\"-Infinity\"", "\"2.5\"", "1E-7"]))
            }
            "bytesValue" => out.push_str(self.pick(&["\"\"", "\"/w==\"", "\"AAEC\"", "\"AAE\"", "\"?\""])),
            "key" | "name" | "version" | "message" | "stringValue" | "schemaUrl" | "traceState" => self.text(out),
            _ => out.push_str(self.pick(&[
                "0",
                "1",
                "\"7\"",
                "300",
                "1760000000000000001",
                "\"18446744073709551615\"",
                "-5",
                "1e3",
            ])),
        }
    }

    fn list(&mut self, names: &[&'static str], depth: u32, out: &mut String) {
        out.push('[');
        let elements = self.next() % 4;
        for place in 0..elements {
            out.push_str(if place > 0 { "," } else { "" });
            if self.next() < 8 {
                out.push_str("null");
            } else {
                self.object(names, depth, out);
            }
        }
        out.push(']');
    }

    fn id(&mut self, name: &str, out: &mut String) {
        let digits = if name == "traceId" { 32 } else { 16 };
        let digits = match self.next() {
            0..=15 => 0,
            16 => digits - 1,
            _ => digits,
        };
        out.push('"');
        (0..digits).for_each(|_| out.push(b"0123456789abcdefABCDEF"[self.next() % 22].into()));
        out.push('"');
    }

    fn text(&mut self, out: &mut String) {
        out.push('"');
        let length = self.next();
        let length = if length > 250 { length } else { length % 12 };
        for _ in 0..length {
            match self.next() {
                0 => out.push_str("\\n"),
                1 => out.push_str("\\u00e9"),
                2 => out.push_str("\\ud83d\\ude00"),
                3 => out.push_str("\\\""),
                4 => out.push('€'),
                letter => out.push(char::from(b'a' + (letter % 26) as u8)),
            }
        }
        out.push('"');
    }
}

const SPAN_NAMES: [&str; 18] = [
    "traceId",
    "spanId",
    "traceState",
    "parentSpanId",
    "flags",
    "name",
    "kind",
    "startTimeUnixNano",
    "endTimeUnixNano",
    "attributes",
    "droppedAttributesCount",
    "events",
    "droppedEventsCount",
    "links",
    "droppedLinksCount",
    "status",
    "start_time_unix_nano",
    "attributes",
];

const VALUE_NAMES: [&str; 7] =
    ["stringValue", "boolValue", "intValue", "doubleValue", "arrayValue", "kvlistValue", "bytesValue"];
