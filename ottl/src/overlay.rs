//! Spans, events, scopes and resources as they lie on the wire, with edits staged on top.
//!
//! ```text
//! bytes as they came:   [id][name][attribute 0][attribute 1][unknown][attribute 2]...
//! slots, after an edit:            Original     In arena              Gone            + new ones, in arena
//! ```
//!
//! The one idea: an edit writes protobuf into an arena and points a slot at it, so that reading a changed value is the
//! same code as reading one that came. Nothing is indexed before the first edit; the bytes are written once, at the end;
//! untouched bytes and unknown fields leave as they came. Arena and slots keep their memory from item to item.

use std::borrow::Cow;
use std::ops::Range;

use codecs::otlp::attributes::{Attribute, Fields, Value as WireValue};
use codecs::wire::{WireType, write_length_field, write_length_prefix, write_tag, write_varint_field};

use crate::path::{Context, Field};
use crate::value::{Entries, Value};
use crate::view::{Edit, View};

/// Where an attribute is.
#[derive(Clone, Debug)]
enum Slot {
    /// Where it came.
    Original,
    /// Ranges of key and AnyValue in the arena.
    Arena { key: Range<u32>, value: Range<u32> },
    /// Removed.
    Gone,
}

/// Which field numbers a kind of message has (opentelemetry-proto trace/v1, common/v1, resource/v1).
#[derive(Debug)]
struct Layout {
    /// The message lies as this field in an envelope.
    inner: Option<u32>,
    attributes: u32,
}

const RESOURCE: &Layout = &Layout { inner: Some(1), attributes: 1 };
const SCOPE: &Layout = &Layout { inner: Some(1), attributes: 3 };
const SPAN: &Layout = &Layout { inner: None, attributes: 9 };
const EVENT: &Layout = &Layout { inner: None, attributes: 3 };

/// Span.events.
const EVENTS: u32 = 11;
/// Span.links.
const LINKS: u32 = 13;
/// Span.status, a message with a message (2) and a code (3).
const STATUS: u32 = 15;

/// How a plain field is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Text,
    Bytes,
    /// A varint of 32 bits with sign.
    Int32,
    /// A varint of 32 bits without sign.
    Uint32,
    Fixed32,
    Fixed64,
}

/// Number and encoding of a plain field, and whether it lies in the envelope.
fn plain(field: Field) -> Option<(u32, Shape, bool)> {
    let (number, shape) = match field {
        Field::SchemaUrl(_) => return Some((3, Shape::Text, true)),
        Field::DroppedAttributes(Context::Resource) => (2, Shape::Uint32),
        Field::DroppedAttributes(Context::Scope | Context::SpanEvent) => (4, Shape::Uint32),
        Field::DroppedAttributes(Context::Span) => (10, Shape::Uint32),
        Field::Name(Context::Scope) => (1, Shape::Text),
        Field::Name(Context::SpanEvent) => (2, Shape::Text),
        Field::Name(_) => (5, Shape::Text),
        Field::Version => (2, Shape::Text),
        Field::TraceId => (1, Shape::Bytes),
        Field::SpanId => (2, Shape::Bytes),
        Field::TraceState => (3, Shape::Text),
        Field::ParentSpanId => (4, Shape::Bytes),
        Field::Kind => (6, Shape::Int32),
        Field::Start => (7, Shape::Fixed64),
        Field::End => (8, Shape::Fixed64),
        Field::DroppedEvents => (12, Shape::Uint32),
        Field::DroppedLinks => (14, Shape::Uint32),
        Field::Flags => (16, Shape::Fixed32),
        Field::EventTime => (1, Shape::Fixed64),
        _ => return None,
    };
    Some((number, shape, false))
}

/// One message with its staged edits.
#[derive(Clone, Debug)]
struct Message<'a> {
    layout: &'static Layout,
    /// The bytes given: the message, or the envelope it lies in.
    bytes: Cow<'a, [u8]>,
    /// The message if it lies in an envelope; several of them become one, as every protobuf reader merges them.
    inner: Cow<'a, [u8]>,
    /// One per attribute as it came, then the new ones; empty until the first edit of an attribute.
    slots: Vec<Slot>,
    is_indexed: bool,
    /// Plain fields that were set: number, whether it lies in the envelope, the whole field in the arena.
    fields: Vec<(u32, bool, Range<u32>)>,
    /// Events that were changed: number, bytes in the arena.
    events: Vec<(u32, Range<u32>)>,
    arena: Vec<u8>,
    is_changed: bool,
    /// Reused while attributes are removed.
    places: Vec<usize>,
}

impl<'a> Message<'a> {
    fn new(layout: &'static Layout) -> Self {
        Self {
            layout,
            bytes: Cow::Borrowed(&[]),
            inner: Cow::Borrowed(&[]),
            slots: Vec::new(),
            is_indexed: false,
            fields: Vec::new(),
            events: Vec::new(),
            arena: Vec::new(),
            is_changed: false,
            places: Vec::new(),
        }
    }

    fn begin(&mut self, bytes: Cow<'a, [u8]>) {
        self.slots.clear();
        self.is_indexed = false;
        self.fields.clear();
        self.events.clear();
        self.arena.clear();
        self.is_changed = false;
        self.inner = match (self.layout.inner, &bytes) {
            (Some(number), Cow::Borrowed(bytes)) => inner_of(bytes, number),
            _ => Cow::Borrowed(&[]),
        };
        self.bytes = bytes;
    }

    fn recycle<'b>(self) -> Message<'b> {
        let mut message = Message::new(self.layout);
        message.slots = self.slots;
        message.fields = self.fields;
        message.events = self.events;
        message.arena = self.arena;
        message.places = self.places;
        message.begin(Cow::Borrowed(&[]));
        if let Cow::Owned(mut copy) = self.bytes {
            copy.clear();
            message.bytes = Cow::Owned(copy);
        }
        message
    }

    /// The message itself, without its envelope.
    fn body(&self) -> &[u8] {
        if self.layout.inner.is_some() { &self.inner } else { &self.bytes }
    }

    fn arena(&self, range: &Range<u32>) -> &[u8] {
        &self.arena[range.start as usize..range.end as usize]
    }

    /// Attributes as they came.
    fn originals(&self) -> impl Iterator<Item = Attribute<'_>> {
        let number = self.layout.attributes;
        Fields::of(self.body())
            .filter(move |field| field.tag.number == number && field.tag.wire_type == WireType::Length)
            .map(|field| Attribute::read(field.body))
    }

    /// Attributes as they are now.
    fn attributes(&self) -> impl Iterator<Item = Attribute<'_>> {
        let mut slots = self.slots.iter();
        let mut originals = self.originals();
        std::iter::from_fn(move || {
            loop {
                if !self.is_indexed {
                    return originals.next();
                }
                match slots.next()? {
                    Slot::Original => return originals.next(),
                    Slot::Gone => drop(originals.next()),
                    Slot::Arena { key, value } => {
                        // Beyond the last one that came this is a no-op.
                        let _ = originals.next();
                        return Some(Attribute { key: self.arena(key), value: self.arena(value) });
                    }
                }
            }
        })
    }

    fn attribute(&self, key: &[u8]) -> Option<Value<'_>> {
        self.attributes().find(|attribute| attribute.key == key).map(|attribute| read_any(attribute.value))
    }

    fn index(&mut self) {
        if !self.is_indexed {
            let count = self.originals().count();
            self.slots.resize(count, Slot::Original);
            self.is_indexed = true;
        }
    }

    /// Writes an attribute into the arena.
    fn stage(&mut self, key: &[u8], value: &Value<'_>) -> Slot {
        let start = self.arena.len() as u32;
        self.arena.extend_from_slice(key);
        let middle = self.arena.len() as u32;
        write_any(&mut self.arena, value);
        self.is_changed = true;
        Slot::Arena { key: start..middle, value: middle..self.arena.len() as u32 }
    }

    fn set_attribute(&mut self, key: &[u8], value: &Value<'_>) {
        self.index();
        let mut first = None;
        let mut others = Vec::new();
        for (place, _) in self.live_slots().filter(|(_, name)| *name == key) {
            match first {
                None => first = Some(place),
                // Allocates only where a key occurs twice.
                Some(_) => others.push(place),
            }
        }
        let slot = self.stage(key, value);
        match first {
            Some(first) => self.slots[first] = slot,
            None => self.slots.push(slot),
        }
        others.into_iter().for_each(|place| self.slots[place] = Slot::Gone);
    }

    /// Places and keys of the attributes there are; indexed before.
    fn live_slots(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let mut originals = self.originals();
        self.slots.iter().enumerate().filter_map(move |(place, slot)| {
            let original = originals.next();
            match slot {
                Slot::Original => original.map(|attribute| (place, attribute.key)),
                Slot::Arena { key, .. } => Some((place, self.arena(key))),
                Slot::Gone => None,
            }
        })
    }

    fn retain(&mut self, keep: &mut dyn FnMut(&[u8]) -> bool) {
        // Mostly nothing goes: then nothing is indexed.
        let any_goes = self.attributes().any(|attribute| !keep(attribute.key));
        if !any_goes {
            return;
        }
        self.index();
        let mut places = std::mem::take(&mut self.places);
        places.extend(self.live_slots().filter(|(_, key)| !keep(key)).map(|(place, _)| place));
        places.drain(..).for_each(|place| self.slots[place] = Slot::Gone);
        self.places = places;
        self.is_changed = true;
    }

    fn replace(&mut self, entries: &Entries<'_>) {
        self.index();
        self.slots.fill(Slot::Gone);
        self.is_changed = true;
        for (key, value) in entries {
            let slot = self.stage(key, value);
            self.slots.push(slot);
        }
    }

    /// Raw fields called `number`, changed or as they came.
    fn raw(&self, number: u32, in_envelope: bool) -> Fields<'_> {
        let changed = self.fields.iter().find(|field| field.0 == number && field.1 == in_envelope);
        match changed {
            Some((_, _, range)) => Fields::of(self.arena(range)),
            None if in_envelope => Fields::of(&self.bytes),
            None => Fields::of(self.body()),
        }
    }

    fn read(&self, field: Field) -> Value<'_> {
        let Some((number, shape, in_envelope)) = plain(field) else {
            return self.read_other(field);
        };
        let last = self.raw(number, in_envelope).filter(|field| field.tag.number == number).last();
        let (body, bits) = last.map_or((&[][..], 0), |field| (field.body, field.number));
        match shape {
            Shape::Text => Value::Text(Cow::Borrowed(body)),
            Shape::Bytes => Value::Bytes(Cow::Borrowed(body)),
            Shape::Int32 => Value::Int(i64::from(bits as i32)),
            Shape::Uint32 | Shape::Fixed32 => Value::Int(i64::from(bits as u32)),
            Shape::Fixed64 => Value::Int(bits as i64),
        }
    }

    fn read_other(&self, field: Field) -> Value<'_> {
        match field {
            Field::Attributes(_) => {
                Value::Map(self.attributes().map(|found| (Cow::Borrowed(found.key), read_any(found.value))).collect())
            }
            Field::Events => Value::Int(self.count(EVENTS)),
            Field::Links => Value::Int(self.count(LINKS)),
            Field::StatusMessage => {
                let last = self.status().filter(|field| field.tag.number == 2).last();
                Value::Text(Cow::Borrowed(last.map_or(&[][..], |field| field.body)))
            }
            Field::StatusCode => {
                let last = self.status().filter(|field| field.tag.number == 3).last();
                Value::Int(i64::from(last.map_or(0, |field| field.number) as i32))
            }
            _ => Value::Nil,
        }
    }

    fn count(&self, number: u32) -> i64 {
        Fields::of(self.body()).filter(|field| field.tag.number == number).count() as i64
    }

    /// Fields of the status; several status messages are one.
    fn status(&self) -> impl Iterator<Item = codecs::otlp::attributes::Field<'_>> {
        self.raw(STATUS, false).filter(|field| field.tag.number == STATUS).flat_map(|field| Fields::of(field.body))
    }

    fn write_field(&mut self, field: Field, value: &Value<'_>) {
        let mut out = std::mem::take(&mut self.arena);
        let start = out.len() as u32;
        let (number, in_envelope) = match (plain(field), value) {
            (Some((number, shape, in_envelope)), value) => {
                write_plain(&mut out, number, shape, value);
                (number, in_envelope)
            }
            (None, value) => {
                // Status is a message of its own: what is not set now stays.
                let replaced = if field == Field::StatusCode { 3 } else { 2 };
                let shape = if field == Field::StatusCode { Shape::Int32 } else { Shape::Text };
                let mut status = Vec::new();
                self.arena = out;
                for field in self.status().filter(|field| field.tag.number != replaced) {
                    status.extend_from_slice(field.raw);
                }
                out = std::mem::take(&mut self.arena);
                write_plain(&mut status, replaced, shape, value);
                write_length_field(&mut out, STATUS, &status);
                (STATUS, false)
            }
        };
        let range = start..out.len() as u32;
        self.arena = out;
        self.is_changed = true;
        match self.fields.iter_mut().find(|field| field.0 == number && field.1 == in_envelope) {
            Some(field) => field.2 = range,
            None => self.fields.push((number, in_envelope, range)),
        }
    }

    /// Appends the message, or its envelope, after all edits.
    fn write(&self, out: &mut Vec<u8>) {
        if !self.is_changed {
            return out.extend_from_slice(&self.bytes);
        }
        let Some(inner) = self.layout.inner else {
            return self.write_body(out);
        };
        let mut body = Vec::new();
        self.write_body(&mut body);
        let had_inner = Fields::of(&self.bytes).any(|field| field.tag.number == inner);
        if had_inner || !body.is_empty() {
            write_length_prefix(out, inner, body.len());
            out.extend_from_slice(&body);
        }
        let is_set = |number| self.fields.iter().any(|field| field.1 && field.0 == number);
        for field in Fields::of(&self.bytes).filter(|field| field.tag.number != inner && !is_set(field.tag.number)) {
            out.extend_from_slice(field.raw);
        }
        self.fields.iter().filter(|field| field.1).for_each(|field| out.extend_from_slice(self.arena(&field.2)));
    }

    fn write_body(&self, out: &mut Vec<u8>) {
        let mut slots = self.slots.iter();
        let mut event = 0;
        for field in Fields::of(self.body()) {
            let number = field.tag.number;
            if number == self.layout.attributes && field.tag.wire_type == WireType::Length {
                match slots.next() {
                    None | Some(Slot::Original) => out.extend_from_slice(field.raw),
                    Some(slot) => self.write_slot(slot, out),
                }
            } else if number == EVENTS && self.layout.attributes == SPAN.attributes {
                match self.events.iter().find(|changed| changed.0 == event) {
                    Some((_, range)) => write_length_field(out, EVENTS, self.arena(range)),
                    None => out.extend_from_slice(field.raw),
                }
                event += 1;
            } else if !self.fields.iter().any(|changed| !changed.1 && changed.0 == number) {
                out.extend_from_slice(field.raw);
            }
        }
        slots.for_each(|slot| self.write_slot(slot, out));
        self.fields.iter().filter(|field| !field.1).for_each(|field| out.extend_from_slice(self.arena(&field.2)));
    }

    fn write_slot(&self, slot: &Slot, out: &mut Vec<u8>) {
        if let Slot::Arena { key, value } = slot {
            write_key_value(out, self.layout.attributes, self.arena(key), self.arena(value));
        }
    }
}

fn inner_of(envelope: &[u8], number: u32) -> Cow<'_, [u8]> {
    let mut inner = Fields::of(envelope).filter(|field| field.tag.number == number);
    match (inner.next(), inner.next()) {
        (None, _) => Cow::Borrowed(&[]),
        (Some(only), None) => Cow::Borrowed(only.body),
        _ => {
            let all = Fields::of(envelope).filter(|field| field.tag.number == number);
            Cow::Owned(all.flat_map(|field| field.body.iter().copied()).collect())
        }
    }
}

/// The AnyValue `bytes` as a value; of equal keys in a map the first counts.
pub(crate) fn read_any(bytes: &[u8]) -> Value<'_> {
    match WireValue::read(bytes) {
        WireValue::Empty => Value::Nil,
        WireValue::String(text) => Value::Text(Cow::Borrowed(text)),
        WireValue::Bool(value) => Value::Bool(value),
        WireValue::Int(value) => Value::Int(value),
        WireValue::Double(value) => Value::Double(value),
        WireValue::Bytes(bytes) => Value::Bytes(Cow::Borrowed(bytes)),
        WireValue::Array(list) => {
            let items = Fields::of(list).filter(|field| field.tag.number == 1);
            Value::List(items.map(|field| read_any(field.body)).collect())
        }
        WireValue::Map(map) => {
            let entries = Fields::of(map).filter(|field| field.tag.number == 1);
            let read = entries.map(|field| Attribute::read(field.body));
            Value::Map(read.map(|found| (Cow::Borrowed(found.key), read_any(found.value))).collect())
        }
    }
}

/// Appends the AnyValue for `value`. Numbers are written even if zero, because a oneof field is set or not; times and
/// durations, which the editors keep out of attributes, as their nanoseconds.
pub(crate) fn write_any(out: &mut Vec<u8>, value: &Value<'_>) {
    match value {
        Value::Nil => {}
        Value::Text(text) => write_length_field(out, 1, text),
        Value::Bool(value) => write_varint_field(out, 2, u64::from(*value)),
        Value::Int(value) | Value::Time(value) | Value::Duration(value) => write_varint_field(out, 3, *value as u64),
        Value::Double(value) => {
            write_tag(out, 4, WireType::Fixed64);
            out.extend_from_slice(&value.to_bits().to_le_bytes());
        }
        Value::List(items) => {
            let mut list = Vec::new();
            for item in items {
                let mut inner = Vec::new();
                write_any(&mut inner, item);
                write_length_field(&mut list, 1, &inner);
            }
            write_length_field(out, 5, &list);
        }
        Value::Map(entries) => {
            let mut map = Vec::new();
            for (key, value) in entries {
                let mut inner = Vec::new();
                write_any(&mut inner, value);
                write_key_value(&mut map, 1, key, &inner);
            }
            write_length_field(out, 6, &map);
        }
        Value::Bytes(bytes) => write_length_field(out, 7, bytes),
    }
}

fn write_key_value(out: &mut Vec<u8>, number: u32, key: &[u8], any_value: &[u8]) {
    use codecs::wire::length_field_length;
    write_length_prefix(out, number, length_field_length(1, key.len()) + length_field_length(2, any_value.len()));
    write_length_field(out, 1, key);
    write_length_field(out, 2, any_value);
}

/// Appends a plain field; what is empty or 0 is left out, as protobuf does.
fn write_plain(out: &mut Vec<u8>, number: u32, shape: Shape, value: &Value<'_>) {
    match (shape, value) {
        (Shape::Text | Shape::Bytes, Value::Text(text) | Value::Bytes(text)) if !text.is_empty() => {
            write_length_field(out, number, text);
        }
        (Shape::Int32, Value::Int(value)) if *value != 0 => {
            write_varint_field(out, number, i64::from(*value as i32) as u64);
        }
        (Shape::Uint32, Value::Int(value)) if *value != 0 => write_varint_field(out, number, u64::from(*value as u32)),
        (Shape::Fixed32, Value::Int(value)) if *value != 0 => {
            write_tag(out, number, WireType::Fixed32);
            out.extend_from_slice(&(*value as u32).to_le_bytes());
        }
        (Shape::Fixed64, Value::Int(value)) if *value != 0 => {
            write_tag(out, number, WireType::Fixed64);
            out.extend_from_slice(&value.to_le_bytes());
        }
        _ => {}
    }
}

/// A span (or what it lies in) with its edits: what statements run on in the gateway.
///
/// Bytes given to the `begin_...` methods were checked before. On bytes that were not, fields end at the first malformed
/// one; nothing panics. What a context does not have reads as empty.
#[derive(Clone, Debug)]
pub struct TraceItem<'a> {
    resource: Message<'a>,
    scope: Message<'a>,
    span: Message<'a>,
    event: Message<'a>,
    event_index: u32,
}

impl Default for TraceItem<'_> {
    fn default() -> Self {
        Self {
            resource: Message::new(RESOURCE),
            scope: Message::new(SCOPE),
            span: Message::new(SPAN),
            event: Message::new(EVENT),
            event_index: 0,
        }
    }
}

impl<'a> TraceItem<'a> {
    /// Starts over with a resource envelope (ResourceSpans without its scopes).
    pub fn begin_resource(&mut self, envelope: &'a [u8]) {
        self.resource.begin(Cow::Borrowed(envelope));
    }

    /// Starts over with a scope envelope (ScopeSpans without its spans).
    pub fn begin_scope(&mut self, envelope: &'a [u8]) {
        self.scope.begin(Cow::Borrowed(envelope));
    }

    /// Starts over with a span.
    pub fn begin_span(&mut self, span: &'a [u8]) {
        self.span.begin(Cow::Borrowed(span));
    }

    /// Events of the span.
    #[must_use]
    pub fn events_count(&self) -> u32 {
        u32::try_from(self.span.count(EVENTS)).unwrap_or(u32::MAX)
    }

    /// Starts over with the span's event number `index`, as it is after earlier edits; one that is not there is empty.
    pub fn begin_event(&mut self, index: u32) {
        let changed =
            self.span.events.iter().find(|changed| changed.0 == index).map(|changed| self.span.arena(&changed.1));
        let mut events = Fields::of(self.span.body()).filter(|field| field.tag.number == EVENTS);
        let bytes = changed.or_else(|| events.nth(index as usize).map(|field| field.body)).unwrap_or(&[]);
        // A copy, because the span may change while the event is open; in the memory of the event before.
        let mut copy = match std::mem::replace(&mut self.event.bytes, Cow::Borrowed(&[])) {
            Cow::Owned(copy) => copy,
            Cow::Borrowed(_) => Vec::new(),
        };
        copy.clear();
        copy.extend_from_slice(bytes);
        self.event.begin(Cow::Owned(copy));
        self.event_index = index;
    }

    /// Puts the event back into its span, if it was changed.
    pub fn finish_event(&mut self) {
        if !self.event.is_changed {
            return;
        }
        let start = self.span.arena.len() as u32;
        self.event.write(&mut self.span.arena);
        let range = start..self.span.arena.len() as u32;
        self.span.is_changed = true;
        let index = self.event_index;
        match self.span.events.iter_mut().find(|changed| changed.0 == index) {
            Some(changed) => changed.1 = range,
            None => self.span.events.push((index, range)),
        }
    }

    /// Whether the level's bytes differ from those given.
    #[must_use]
    pub fn is_changed(&self, level: Context) -> bool {
        self.message(level).is_changed
    }

    /// Appends the level's bytes after all edits: the envelope of a resource or scope, the message of a span or event.
    pub fn write(&self, level: Context, out: &mut Vec<u8>) {
        self.message(level).write(out);
    }

    /// The memory without the bytes, for items of another request.
    #[must_use]
    pub fn recycle<'b>(self) -> TraceItem<'b> {
        TraceItem {
            resource: self.resource.recycle(),
            scope: self.scope.recycle(),
            span: self.span.recycle(),
            event: self.event.recycle(),
            event_index: 0,
        }
    }

    fn message(&self, level: Context) -> &Message<'a> {
        match level {
            Context::Resource => &self.resource,
            Context::Scope => &self.scope,
            Context::Span => &self.span,
            Context::SpanEvent => &self.event,
        }
    }

    fn message_mut(&mut self, level: Context) -> &mut Message<'a> {
        match level {
            Context::Resource => &mut self.resource,
            Context::Scope => &mut self.scope,
            Context::Span => &mut self.span,
            Context::SpanEvent => &mut self.event,
        }
    }
}

/// The level a field lies in.
pub(crate) fn level_of(field: Field) -> Context {
    match field {
        Field::Attributes(level) | Field::DroppedAttributes(level) | Field::SchemaUrl(level) | Field::Name(level) => {
            level
        }
        Field::Version => Context::Scope,
        Field::EventTime | Field::EventIndex => Context::SpanEvent,
        _ => Context::Span,
    }
}

impl View for TraceItem<'_> {
    fn read(&self, field: Field) -> Value<'_> {
        match field {
            Field::EventIndex => Value::Int(i64::from(self.event_index)),
            _ => self.message(level_of(field)).read(field),
        }
    }

    fn attribute(&self, level: Context, key: &[u8]) -> Option<Value<'_>> {
        self.message(level).attribute(key)
    }
}

impl Edit for TraceItem<'_> {
    fn write(&mut self, field: Field, value: &Value<'_>) {
        self.message_mut(level_of(field)).write_field(field, value);
    }

    fn set_attribute(&mut self, level: Context, key: &[u8], value: &Value<'_>) {
        self.message_mut(level).set_attribute(key, value);
    }

    fn retain_attributes(&mut self, level: Context, keep: &mut dyn FnMut(&[u8]) -> bool) {
        self.message_mut(level).retain(keep);
    }

    fn replace_attributes(&mut self, level: Context, entries: &Entries<'_>) {
        let mut unique: Entries<'_> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            if crate::value::entry(&unique, key).is_none() {
                unique.push((Cow::Borrowed(key), value.borrowed()));
            }
        }
        self.message_mut(level).replace(&unique);
    }
}
