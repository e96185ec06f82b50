//! The attributes of one message, taken apart to be changed and put together again.
//!
//! ```text
//! bytes:    [message as it came ............................][keys and values that were written ....]
//! entries:     [0: here]   [1: gone]        [2: key here, value there] ---------^
//! ```
//!
//! The one idea: the message is copied once and everything is a range of that buffer, so that a list is plain memory
//! which its owner uses again for the next message, and copying one attribute's value to another copies a range. What no
//! edit touched leaves byte for byte as it came, unknown fields included. Works on any message with attributes, whatever
//! the signal: the caller says which field they are.

use std::ops::Range;

use codecs::otlp::attributes::Fields;
use codecs::otlp::{MetricKind, Signal};
use codecs::wire::{WireType, length_field_length, write_length_field, write_length_prefix};

use crate::layout;
use crate::overlay::{locate, read_any, write_any};
use crate::value::Value;

/// Which field of a message its attributes are (opentelemetry-proto).
pub mod field {
    /// Resource.attributes; the resource is field 1 of its envelope.
    pub const RESOURCE: u32 = 1;
    /// InstrumentationScope.attributes; the scope is field 1 of its envelope.
    pub const SCOPE: u32 = 3;
    /// Span.attributes.
    pub const SPAN: u32 = 9;
    /// Span.Event.attributes.
    pub const EVENT: u32 = 3;
    /// LogRecord.attributes.
    pub const LOG: u32 = 6;
    /// LogRecord.body, for [`super::rewrite_children`].
    pub const LOG_BODY: u32 = 5;
    /// Metric.metadata.
    pub const METRIC: u32 = 12;
    /// Span.events, for [`super::rewrite_children`].
    pub const SPAN_EVENTS: u32 = 11;
}

/// The message of a resource or scope is this field of its envelope.
const INNER: u32 = 1;

/// Memory for text and for attributes that a list keeps from message to message: more than nearly all of them need.
const KEPT_BYTES_MAX: usize = 64 << 10;
const KEPT_ENTRIES_MAX: usize = 1024;

/// Attributes of one message. Kept by the caller to be used again; `begin` starts over.
///
/// Where a key occurs more than once (OTLP forbids it), finding finds the first; callers that change by key walk over
/// [`Self::places`] and change each.
#[derive(Clone, Debug, Default)]
pub struct AttributeList {
    bytes: Vec<u8>,
    /// The part of `bytes` that is the message as it came.
    came: usize,
    /// The field that attributes are.
    number: u32,
    entries: Vec<Entry>,
    is_changed: bool,
}

#[derive(Clone, Debug)]
struct Entry {
    /// The whole field as it came; empty at the message's end if it was added.
    came: Range<usize>,
    key: Range<usize>,
    value: Range<usize>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Untouched,
    Written,
    Gone,
}

/// The bytes of an AnyValue in an [`AttributeList`]; good until its next `begin`.
#[derive(Clone, Debug)]
pub struct Written(Range<usize>);

impl AttributeList {
    /// Starts over with `message`, whose attributes are field `number`. Bytes that were never checked end at their first
    /// malformed field; the rest leaves as it came.
    pub fn begin(&mut self, message: &[u8], number: u32) {
        self.clear();
        self.bytes.extend_from_slice(message);
        self.index(number);
    }

    /// Memory that the list holds.
    #[must_use]
    pub fn bytes_held(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    /// What one huge message needed is not kept for ever.
    fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES_MAX);
        self.entries.clear();
        self.entries.shrink_to(KEPT_ENTRIES_MAX);
    }

    /// Starts over with the resource or scope message of `envelope`. Several of them become one, which means the same to
    /// every protobuf reader.
    pub fn begin_envelope(&mut self, envelope: &[u8], number: u32) {
        self.clear();
        for field in Fields::of(envelope).filter(|field| field.tag.number == INNER) {
            self.bytes.extend_from_slice(field.body);
        }
        self.index(number);
    }

    fn index(&mut self, number: u32) {
        self.came = self.bytes.len();
        self.number = number;
        self.is_changed = false;
        for field in Fields::of(&self.bytes) {
            if field.tag.number != number || field.tag.wire_type != WireType::Length {
                continue;
            }
            let came = field.tag.offset..field.tag.offset + field.raw.len();
            let (key, value) = locate(field.body, came.end - field.body.len());
            self.entries.push(Entry { came, key, value, state: State::Untouched });
        }
    }

    /// Whether anything differs from the message as it came.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// Places of the attributes there are, in order. A place stays good until the next `begin`; removing one moves no
    /// other.
    pub fn places(&self) -> impl Iterator<Item = usize> {
        (0..self.entries.len()).filter(|place| self.entries[*place].state != State::Gone)
    }

    /// One past the last place, live or not: for loops that change while they walk, see [`Self::is_there`].
    #[must_use]
    pub fn places_end(&self) -> usize {
        self.entries.len()
    }

    /// Whether the attribute at `place` was not removed.
    ///
    /// # Panics
    /// There never was such a place.
    #[must_use]
    pub fn is_there(&self, place: usize) -> bool {
        self.entries[place].state != State::Gone
    }

    /// The first attribute called `key`.
    #[must_use]
    pub fn find(&self, key: &[u8]) -> Option<usize> {
        self.places().find(|place| self.key(*place) == key)
    }

    /// The key at `place`.
    ///
    /// # Panics
    /// There never was such a place.
    #[must_use]
    pub fn key(&self, place: usize) -> &[u8] {
        &self.bytes[self.entries[place].key.clone()]
    }

    /// The value at `place`.
    ///
    /// # Panics
    /// There never was such a place.
    #[must_use]
    pub fn value(&self, place: usize) -> Value<'_> {
        read_any(&self.bytes[self.entries[place].value.clone()])
    }

    /// The value at `place`, to be given to another attribute.
    ///
    /// # Panics
    /// There never was such a place.
    #[must_use]
    pub fn written(&self, place: usize) -> Written {
        Written(self.entries[place].value.clone())
    }

    /// Writes a value, to be given to attributes.
    pub fn write_value(&mut self, value: &Value<'_>) -> Written {
        let start = self.bytes.len();
        write_any(&mut self.bytes, value);
        Written(start..self.bytes.len())
    }

    /// Gives the attribute at `place` another value.
    ///
    /// # Panics
    /// There never was such a place.
    pub fn replace(&mut self, place: usize, value: Written) {
        let entry = &mut self.entries[place];
        entry.value = value.0;
        entry.state = State::Written;
        self.is_changed = true;
    }

    /// Adds an attribute at the end, whether its key is there or not.
    pub fn push(&mut self, key: &[u8], value: Written) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        let key = start..self.bytes.len();
        self.entries.push(Entry { came: self.came..self.came, key, value: value.0, state: State::Written });
        self.is_changed = true;
    }

    /// Sets every attribute called `key`, or adds one.
    pub fn put(&mut self, key: &[u8], value: Written) {
        let mut is_there = false;
        for place in 0..self.entries.len() {
            if self.is_there(place) && self.key(place) == key {
                self.replace(place, value.clone());
                is_there = true;
            }
        }
        if !is_there {
            self.push(key, value);
        }
    }

    /// Removes the attribute at `place`.
    ///
    /// # Panics
    /// There never was such a place.
    pub fn remove(&mut self, place: usize) {
        self.entries[place].state = State::Gone;
        self.is_changed = true;
    }

    /// Appends the message after all edits.
    pub fn write(&self, out: &mut Vec<u8>) {
        // Everything from `kept` up to the next changed attribute leaves in one piece.
        let mut kept = 0;
        for entry in self.entries.iter().filter(|entry| entry.state != State::Untouched) {
            out.extend_from_slice(&self.bytes[kept..entry.came.start]);
            kept = entry.came.end;
            if entry.state == State::Written {
                self.write_entry(entry, out);
            }
        }
        out.extend_from_slice(&self.bytes[kept..self.came]);
    }

    /// Appends `envelope`, the one that [`Self::begin_envelope`] was given, after all edits.
    pub fn write_envelope(&self, envelope: &[u8], out: &mut Vec<u8>) {
        if !self.is_changed {
            return out.extend_from_slice(envelope);
        }
        let had_inner = Fields::of(envelope).any(|field| field.tag.number == INNER);
        let length = self.length();
        if had_inner || length > 0 {
            write_length_prefix(out, INNER, length);
            self.write(out);
        }
        for field in Fields::of(envelope).filter(|field| field.tag.number != INNER) {
            out.extend_from_slice(field.raw);
        }
    }

    /// Bytes that [`Self::write`] appends.
    fn length(&self) -> usize {
        let changes = self.entries.iter().map(|entry| match entry.state {
            State::Untouched => (0, 0),
            State::Gone => (entry.came.len(), 0),
            State::Written => (entry.came.len(), length_field_length(self.number, Self::body_length(entry))),
        });
        let (lost, won) = changes.fold((0, 0), |sum, change| (sum.0 + change.0, sum.1 + change.1));
        self.came - lost + won
    }

    fn body_length(entry: &Entry) -> usize {
        length_field_length(1, entry.key.len()) + length_field_length(2, entry.value.len())
    }

    fn write_entry(&self, entry: &Entry, out: &mut Vec<u8>) {
        write_length_prefix(out, self.number, Self::body_length(entry));
        write_length_field(out, 1, &self.bytes[entry.key.clone()]);
        write_length_field(out, 2, &self.bytes[entry.value.clone()]);
    }
}

/// What becomes of a child in [`rewrite_children`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Child {
    /// It stays as it came.
    Kept,
    /// It becomes what was appended.
    Written,
    /// It goes.
    Gone,
}

/// Shows each length-delimited field `number` of `message` (events of a span, say) to `edit`, which may append another
/// body to the buffer it is given, and appends the message with what became of them to `out`. Returns whether it differs.
pub fn rewrite_children(
    message: &[u8],
    number: u32,
    edit: &mut dyn FnMut(&[u8], &mut Vec<u8>) -> Child,
    out: &mut Vec<u8>,
) -> bool {
    let mut body = Vec::new();
    let mut kept = 0;
    let mut is_changed = false;
    for field in Fields::of(message) {
        if field.tag.number != number || field.tag.wire_type != WireType::Length {
            continue;
        }
        body.clear();
        let child = edit(field.body, &mut body);
        if child == Child::Kept {
            continue;
        }
        is_changed = true;
        out.extend_from_slice(&message[kept..field.tag.offset]);
        kept = field.tag.offset + field.raw.len();
        if child == Child::Written {
            write_length_field(out, number, &body);
        }
    }
    out.extend_from_slice(&message[kept..]);
    is_changed
}

/// What [`rewrite_parts`] asks of each part: the field that its attributes are, its bytes, and where to append others.
pub type EditPart<'e> = &'e mut dyn FnMut(u32, &[u8], &mut Vec<u8>) -> Child;

/// Shows each part of an item of `signal` (event of a span, data point of a metric) to `edit`, with the number of the field
/// that its attributes are, and appends the item with what became of them to `out`, as [`rewrite_children`] does.
///
/// A metric may name several kinds of points, of which the last one counts; what no reader sees goes, so that nothing
/// hides there.
pub fn rewrite_parts(signal: Signal, item: &[u8], edit: EditPart<'_>, out: &mut Vec<u8>) -> bool {
    match signal {
        Signal::Traces => {
            rewrite_children(item, field::SPAN_EVENTS, &mut |event, out| edit(field::EVENT, event, out), out)
        }
        Signal::Metrics => rewrite_points(item, edit, out),
        Signal::Logs => {
            out.extend_from_slice(item);
            false
        }
    }
}

fn rewrite_points(metric: &[u8], edit: EditPart<'_>, out: &mut Vec<u8>) -> bool {
    let is_data = |number| MetricKind::of_field(number).is_some();
    let last = Fields::of(metric).filter(|field| is_data(field.tag.number)).last();
    let number = last.map_or(0, |field| field.tag.number);
    let attributes = layout::points_of(number).map_or(0, |layout| layout.attributes);
    // One kind after another, and then the first again: what came before the last change of kind does not count.
    let others = Fields::of(metric).filter(|field| is_data(field.tag.number) && field.tag.number != number);
    let counts_from = others.last().map_or(0, |other| other.tag.offset + other.raw.len());
    let mut data = Vec::new();
    let mut is_changed = false;
    for field in Fields::of(metric) {
        if !is_data(field.tag.number) {
            out.extend_from_slice(field.raw);
        } else if field.tag.offset < counts_from {
            is_changed = true;
        } else {
            data.clear();
            let mut edit = |point: &[u8], out: &mut Vec<u8>| edit(attributes, point, out);
            if rewrite_children(field.body, layout::DATA_POINTS, &mut edit, &mut data) {
                write_length_field(out, number, &data);
                is_changed = true;
            } else {
                out.extend_from_slice(field.raw);
            }
        }
    }
    is_changed
}

#[cfg(test)]
mod tests {
    use codecs::otlp::proto;
    use prost::Message;

    use super::*;

    fn span(entries: &[(&str, &str)]) -> Vec<u8> {
        let attribute = |(key, text): &(&str, &str)| proto::KeyValue {
            key: key.as_bytes().to_vec(),
            value: Some(proto::AnyValue { value: Some(proto::Value::String(text.as_bytes().to_vec())) }),
        };
        let event = |name: &str| proto::SpanEvent { name: name.into(), ..proto::SpanEvent::default() };
        proto::Span {
            name: b"GET /".to_vec(),
            attributes: entries.iter().map(attribute).collect(),
            events: vec![event("one"), event("two")],
            flags: 7,
            ..proto::Span::default()
        }
        .encode_to_vec()
    }

    fn written(list: &AttributeList) -> Vec<u8> {
        let mut out = Vec::new();
        list.write(&mut out);
        assert_eq!(out.len(), list.length());
        out
    }

    #[test]
    fn what_nobody_touches_leaves_as_it_came() {
        let mut message = span(&[("a", "1"), ("long", &"x".repeat(300))]);
        message.extend([0xf8, 0x07, 0x01]);
        let mut list = AttributeList::default();
        list.begin(&message, field::SPAN);
        assert!(!list.is_changed());
        assert_eq!(written(&list), message);
        let value = list.written(0);
        list.put(b"a", value);
        list.remove(1);
        assert!(written(&list).ends_with(&[0xf8, 0x07, 0x01]), "unknown fields stay");
    }

    #[test]
    fn changes_removals_and_additions_come_out_in_order() {
        let mut list = AttributeList::default();
        list.begin(&span(&[("a", "1"), ("b", "2"), ("c", "3")]), field::SPAN);
        let value = list.write_value(&Value::text("new"));
        list.replace(0, value.clone());
        list.remove(1);
        list.push(b"d", value);
        assert_eq!(list.find(b"b"), None);
        assert_eq!(list.value(3), Value::text("new"));
        let expected = proto::Span::decode(&*span(&[("a", "new"), ("c", "3"), ("d", "new")])).unwrap();
        assert_eq!(proto::Span::decode(&*written(&list)).unwrap(), expected);
    }

    #[test]
    fn an_envelope_without_a_resource_gets_one_when_something_is_added() {
        let mut schema_only = Vec::new();
        write_length_field(&mut schema_only, 3, b"schema");
        let mut list = AttributeList::default();
        list.begin_envelope(&schema_only, field::RESOURCE);
        let mut out = Vec::new();
        list.write_envelope(&schema_only, &mut out);
        assert_eq!(out, schema_only);
        let value = list.write_value(&Value::Int(1));
        list.put(b"a", value);
        out.clear();
        list.write_envelope(&schema_only, &mut out);
        let read = proto::ResourceSpans::decode(&*out).unwrap();
        assert_eq!(read.resource.unwrap().attributes.len(), 1);
        assert_eq!(read.schema_url, b"schema");
    }

    #[test]
    fn several_resource_messages_become_one() {
        let mut envelope = Vec::new();
        for key in ["a", "b"] {
            let attribute = proto::KeyValue { key: key.into(), value: None };
            let resource = proto::Resource { attributes: vec![attribute], ..proto::Resource::default() };
            write_length_field(&mut envelope, 1, &resource.encode_to_vec());
        }
        let mut list = AttributeList::default();
        list.begin_envelope(&envelope, field::RESOURCE);
        assert_eq!(list.places().count(), 2);
        list.remove(0);
        let mut out = Vec::new();
        list.write_envelope(&envelope, &mut out);
        let read = proto::ResourceSpans::decode(&*out).unwrap().resource.unwrap();
        assert_eq!(read.attributes.iter().map(|entry| entry.key.as_slice()).collect::<Vec<_>>(), [b"b"]);
    }

    #[test]
    fn children_are_kept_written_or_gone() {
        let message = span(&[]);
        let mut out = Vec::new();
        assert!(!rewrite_children(&message, field::SPAN_EVENTS, &mut |_, _| Child::Kept, &mut out));
        assert_eq!(out, message);
        let names = |edit: &mut dyn FnMut(&[u8], &mut Vec<u8>) -> Child| {
            let mut out = Vec::new();
            assert!(rewrite_children(&message, field::SPAN_EVENTS, edit, &mut out));
            let read = proto::Span::decode(&*out).unwrap();
            assert_eq!(read.flags, 7);
            read.events.into_iter().map(|event| String::from_utf8(event.name).unwrap()).collect::<Vec<_>>()
        };
        let mut number = 0;
        let gone = names(&mut |_, _| {
            number += 1;
            if number == 1 { Child::Gone } else { Child::Kept }
        });
        assert_eq!(gone, ["two"]);
        let changed = names(&mut |_, out| {
            out.extend_from_slice(
                &proto::SpanEvent { name: b"x".to_vec(), ..proto::SpanEvent::default() }.encode_to_vec(),
            );
            Child::Written
        });
        assert_eq!(changed, ["x", "x"]);
    }

    #[test]
    fn unchecked_garbage_is_no_reason_to_panic() {
        let mut list = AttributeList::default();
        for garbage in [&[0x4a, 0x7f, 1][..], &[0x4a, 3, 0x0a, 0x7f, 1], &[0xff; 20]] {
            list.begin(garbage, field::SPAN);
            let value = list.write_value(&Value::Nil);
            list.put(b"a", value);
            assert!(written(&list).ends_with(garbage) || !garbage.is_empty());
        }
    }

    #[test]
    fn points_of_a_metric_are_rewritten_and_nothing_hides_behind_them() {
        let point = |value: i64| proto::NumberDataPoint {
            value: Some(proto::NumberValue::AsInt(value)),
            ..proto::NumberDataPoint::default()
        };
        let gauge = |values: &[i64]| {
            let data_points = values.iter().copied().map(point).collect();
            let data = Some(proto::MetricData::Gauge(proto::Gauge { data_points }));
            proto::Metric { data, ..proto::Metric::default() }.encode_to_vec()
        };
        let summary = proto::Summary { data_points: vec![proto::SummaryDataPoint::default()] };
        let other = proto::Metric { data: Some(proto::MetricData::Summary(summary)), ..proto::Metric::default() };
        let named = proto::Metric { name: b"n".to_vec(), ..proto::Metric::default() }.encode_to_vec();
        let values = |bytes: &[u8]| {
            let metric = proto::Metric::decode(bytes).unwrap();
            assert_eq!(metric.name, b"n");
            let Some(proto::MetricData::Gauge(gauge)) = metric.data else { panic!("{metric:?}") };
            gauge.data_points.into_iter().map(|point| point.value).collect::<Vec<_>>()
        };
        let rewritten = |metric: &[u8]| {
            let (mut out, mut number) = (Vec::new(), 0);
            let mut edit = |attributes: u32, _: &[u8], _: &mut Vec<u8>| {
                assert_eq!(attributes, 7);
                number += 1;
                if number == 2 { Child::Gone } else { Child::Kept }
            };
            let is_changed = rewrite_parts(Signal::Metrics, metric, &mut edit, &mut out);
            (is_changed, out)
        };
        let int = |value| Some(proto::NumberValue::AsInt(value));
        let one = [named.clone(), gauge(&[1])].concat();
        assert_eq!(rewritten(&one), (false, one.clone()));
        let (is_changed, out) = rewritten(&[gauge(&[1, 2]), named.clone(), gauge(&[3])].concat());
        assert!(is_changed);
        assert_eq!(values(&out), [int(1), int(3)]);
        // What no reader sees, because another kind came after it, is not let through.
        let (is_changed, out) = rewritten(&[gauge(&[7]), other.encode_to_vec(), named, gauge(&[1])].concat());
        assert!(is_changed);
        assert_eq!(values(&out), [int(1)]);
        assert!(!out.windows(gauge(&[7]).len()).any(|window| window == gauge(&[7])));
    }
}
