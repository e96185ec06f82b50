//! Spans, metrics, log records and what they lie in or hold, as they lie on the wire, with edits staged on top.
//!
//! ```text
//! bytes as they came:   [id][name][attribute 0][attribute 1][unknown][attribute 2]...
//! slots, after an edit:            Came         Staged                Gone            + new ones, staged in the arena
//! ```
//!
//! The one idea: an edit writes protobuf into an arena and points a slot at it, so that reading a changed value is the
//! same code as reading one that came. Nothing is indexed before the first edit; it walks over the bytes once, and every
//! further edit only over the slots. The bytes are written once, at the end: what lies between two changed fields leaves in
//! one piece, unknown fields included. Arena and slots keep their memory from item to item.
//!
//! An item may hold *parts*, which have attributes of their own: events of a span, data points of a metric.

mod aggregate;
mod derive;
mod rebucket;

use std::borrow::Cow;
use std::ops::Range;

use codecs::otlp::attributes::{Attribute, Fields, Value as WireValue};
use codecs::otlp::{MetricKind, Signal};
use codecs::wire::{WireType, write_length_field, write_length_prefix, write_tag, write_varint_field};

use crate::fault::Fault;
use crate::histogram::Rebucketing;
use crate::layout::{self, DATA_POINTS, EVENTS, Kind, LINKS, Layout, Lies, METRIC_SETTINGS, STATUS, Shape, plain};
use crate::metric::{Aggregation, Derivation};
use crate::path::{Context, Field, level_of};
use crate::value::{Entries, Value};
use crate::view::{Edit, View};
pub use derive::{CREATED_BYTES_MAX, CREATED_MAX, CreatedMetric};

/// An attribute: where it came, and where it is now.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// The whole field as it came; none of a new one.
    came: Option<Stretch>,
    state: State,
    /// In the message as it came, or in the arena.
    key: Stretch,
    /// The AnyValue, in the same.
    value: Stretch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is as it came.
    Came,
    /// Key and value are in the arena.
    Staged,
    /// Removed.
    Gone,
}

/// A range that takes half the memory: messages and arenas are far below 4 GiB.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    start: u32,
    end: u32,
}

impl Stretch {
    fn new(range: Range<usize>) -> Self {
        Self { start: range.start as u32, end: range.end as u32 }
    }

    fn length(self) -> usize {
        (self.end - self.start) as usize
    }

    #[inline]
    fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }
}

/// A plain field that was set.
#[derive(Clone, Debug)]
struct Changed {
    number: u32,
    lies: Lies,
    /// The whole field in the arena; empty if it is not to be there.
    range: Range<u32>,
}

/// The points of a metric: the message in its data field, with the settings that they share.
#[derive(Clone, Debug, Default)]
struct Data<'a> {
    /// The field's number, which says of which kind the points are; 0 without one.
    number: u32,
    /// Several of them are one, as every protobuf reader merges them.
    body: Cow<'a, [u8]>,
    is_changed: bool,
}

impl Data<'_> {
    fn into_owned<'b>(self) -> Data<'b> {
        Data { number: self.number, body: Cow::Owned(self.body.into_owned()), is_changed: self.is_changed }
    }
}

/// A part of an item.
#[derive(Clone, Debug)]
struct Part {
    /// Where it lies as it came.
    came: Range<u32>,
    /// Its bytes in the arena, if it was changed.
    changed: Option<Range<u32>>,
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
    /// Plain fields that were set.
    fields: Vec<Changed>,
    /// Of a metric.
    data: Data<'a>,
    /// One per part; empty until the first one is asked for, so that asking for each in turn is one walk.
    parts: Vec<Part>,
    are_parts_indexed: bool,
    arena: Vec<u8>,
    is_changed: bool,
    /// Something else than attributes was changed.
    is_changed_beside_attributes: bool,
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
            data: Data::default(),
            parts: Vec::new(),
            are_parts_indexed: false,
            arena: Vec::new(),
            is_changed: false,
            is_changed_beside_attributes: false,
        }
    }

    fn begin(&mut self, bytes: Cow<'a, [u8]>) {
        self.slots.clear();
        self.is_indexed = false;
        self.fields.clear();
        self.parts.clear();
        self.are_parts_indexed = false;
        self.arena.clear();
        self.is_changed = false;
        self.is_changed_beside_attributes = false;
        self.data = match &bytes {
            Cow::Borrowed(bytes) if self.layout.has_data => data_of(bytes),
            Cow::Owned(bytes) if self.layout.has_data => data_of(bytes).into_owned(),
            _ => Data::default(),
        };
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
        message.parts = self.parts;
        message.arena = self.arena;
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
        let slots = self.slots.iter().filter(|slot| slot.state != State::Gone);
        let indexed =
            slots.map(|slot| Attribute { key: slot.key.of(self.home(slot)), value: slot.value.of(self.home(slot)) });
        // One of the two is empty.
        let originals = (!self.is_indexed).then(|| self.originals());
        originals.into_iter().flatten().chain(indexed)
    }

    /// The bytes that the slot's key and value lie in.
    #[inline]
    fn home(&self, slot: &Slot) -> &[u8] {
        if slot.state == State::Staged { &self.arena } else { self.body() }
    }

    fn attribute(&self, key: &[u8]) -> Option<Value<'_>> {
        let value = if self.is_indexed {
            let slot = &self.slots[self.find(key, 0)?];
            slot.value.of(self.home(slot))
        } else {
            self.originals().find(|attribute| attribute.key == key)?.value
        };
        Some(read_any(value))
    }

    /// The place of the first attribute called `key` at or behind the place `from`; indexed before.
    fn find(&self, key: &[u8], from: usize) -> Option<usize> {
        let mut slots = self.slots.iter().enumerate().skip(from);
        // Most keys have another length, so most bytes are never looked at.
        let found = slots.find(|(_, slot)| {
            slot.key.length() == key.len() && slot.state != State::Gone && slot.key.of(self.home(slot)) == key
        });
        found.map(|(place, _)| place)
    }

    /// Notes where each attribute lies.
    fn index(&mut self) {
        if std::mem::replace(&mut self.is_indexed, true) {
            return;
        }
        let mut slots = std::mem::take(&mut self.slots);
        let body = self.body();
        let number = self.layout.attributes;
        for field in Fields::of(body) {
            if field.tag.number != number || field.tag.wire_type != WireType::Length {
                continue;
            }
            let end = field.tag.offset + field.raw.len();
            let (key, value) = locate(field.body, end - field.body.len());
            let came = Some(Stretch::new(field.tag.offset..end));
            slots.push(Slot { came, state: State::Came, key: Stretch::new(key), value: Stretch::new(value) });
        }
        self.slots = slots;
    }

    /// Writes an attribute into the arena, for the attribute that came as `came`.
    fn stage(&mut self, came: Option<Stretch>, key: &[u8], value: &Value<'_>) -> Slot {
        let start = self.arena.len();
        self.arena.extend_from_slice(key);
        let middle = self.arena.len();
        write_any(&mut self.arena, value);
        self.is_changed = true;
        let (key, value) = (Stretch::new(start..middle), Stretch::new(middle..self.arena.len()));
        Slot { came, state: State::Staged, key, value }
    }

    fn set_attribute(&mut self, key: &[u8], value: &Value<'_>) {
        self.index();
        let Some(first) = self.find(key, 0) else {
            let slot = self.stage(None, key, value);
            return self.slots.push(slot);
        };
        self.slots[first] = self.stage(self.slots[first].came, key, value);
        self.remove_from(first + 1, key);
    }

    /// Removes the attributes called `key`.
    fn remove_attribute(&mut self, key: &[u8]) {
        self.index();
        self.remove_from(0, key);
    }

    /// Removes the attributes called `key` at or behind a place; indexed before.
    fn remove_from(&mut self, place: usize, key: &[u8]) {
        let mut from = place;
        while let Some(place) = self.find(key, from) {
            self.slots[place].state = State::Gone;
            self.is_changed = true;
            from = place + 1;
        }
    }

    fn retain(&mut self, keep: &mut dyn FnMut(&[u8]) -> bool) {
        self.index();
        for place in 0..self.slots.len() {
            let slot = self.slots[place];
            if slot.state != State::Gone && !keep(slot.key.of(self.home(&slot))) {
                self.slots[place].state = State::Gone;
                self.is_changed = true;
            }
        }
    }

    fn replace(&mut self, entries: &Entries<'_>) {
        self.index();
        self.slots.iter_mut().for_each(|slot| slot.state = State::Gone);
        self.is_changed = true;
        for (key, value) in entries {
            let slot = self.stage(None, key, value);
            self.slots.push(slot);
        }
    }

    /// Raw fields called `number`, changed or as they came.
    fn raw(&self, number: u32, lies: Lies) -> Fields<'_> {
        let changed = self.fields.iter().find(|field| field.number == number && field.lies == lies);
        match (changed, lies) {
            (Some(changed), _) => Fields::of(self.arena(&changed.range)),
            (None, Lies::Envelope) => Fields::of(&self.bytes),
            (None, Lies::Message) => Fields::of(self.body()),
            (None, Lies::Data) => Fields::of(&self.data.body),
        }
    }

    /// The last field called `number`.
    fn last(&self, number: u32, lies: Lies) -> Option<codecs::otlp::attributes::Field<'_>> {
        self.raw(number, lies).filter(|field| field.tag.number == number).last()
    }

    fn read(&self, field: Field) -> Value<'_> {
        let Some((number, shape, lies)) = plain(self.layout.kind, field) else {
            return self.read_other(field);
        };
        // What a metric of this kind cannot have.
        if lies == Lies::Data && !layout::has_setting(self.data.number, number) {
            return Value::Nil;
        }
        let last = self.last(number, lies);
        let (body, bits) = last.map_or((&[][..], 0), |field| (field.body, field.number));
        match shape {
            Shape::Text => Value::Text(Cow::Borrowed(body)),
            Shape::Bytes => Value::Bytes(Cow::Borrowed(body)),
            Shape::Int32 => Value::Int(i64::from(bits as i32)),
            Shape::Sint32 => Value::Int(i64::from(unzigzag(bits as u32))),
            Shape::Uint32 | Shape::Fixed32 => Value::Int(i64::from(bits as u32)),
            Shape::Fixed64 => Value::Int(bits as i64),
            Shape::Double => Value::Double(f64::from_bits(bits)),
            Shape::Bool => Value::Bool(bits != 0),
            Shape::Any => last.map_or(Value::Nil, |field| read_any(field.body)),
            Shape::Fixed64s | Shape::Doubles => self.read_list(number, shape),
        }
    }

    /// A repeated field of eight bytes each, packed or not.
    fn read_list(&self, number: u32, shape: Shape) -> Value<'_> {
        let item = |bits: u64| match shape {
            Shape::Doubles => Value::Double(f64::from_bits(bits)),
            _ => Value::Int(bits as i64),
        };
        let mut items = Vec::new();
        for field in self.raw(number, Lies::Message).filter(|field| field.tag.number == number) {
            if field.tag.wire_type == WireType::Length {
                let packed = field.body.as_chunks::<8>().0;
                items.extend(packed.iter().map(|bytes| item(u64::from_le_bytes(*bytes))));
            } else {
                items.push(item(field.number));
            }
        }
        Value::List(items)
    }

    fn read_other(&self, field: Field) -> Value<'_> {
        match field {
            Field::Attributes(_) => {
                Value::Map(self.attributes().map(|found| (Cow::Borrowed(found.key), read_any(found.value))).collect())
            }
            Field::Events => Value::Int(self.count(EVENTS)),
            Field::Links => Value::Int(self.count(LINKS)),
            Field::DataPoints => Value::Int(i64::from(self.parts_count())),
            Field::Exemplars | Field::QuantileValues => match layout::counted(self.layout.kind, field) {
                Some(number) => Value::Int(self.count(number)),
                None => Value::Nil,
            },
            Field::MetricType => Value::Int(layout::metric_type(self.data.number)),
            Field::IntValue | Field::DoubleValue => self.read_number(field),
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

    /// The value of a number's point: one field or the other, of both the last one.
    fn read_number(&self, field: Field) -> Value<'_> {
        let Some((double, int)) = layout::number_fields(self.layout.kind) else { return Value::Nil };
        let changed = self.fields.iter().any(|field| field.number == double);
        let is_number = |number: u32| number == double || number == int;
        let last = if changed {
            // Both were written together: one is there, the other is not.
            self.last(double, Lies::Message).or_else(|| self.last(int, Lies::Message))
        } else {
            Fields::of(self.body()).filter(|field| is_number(field.tag.number)).last()
        };
        match (field, last) {
            (Field::IntValue, Some(last)) if last.tag.number == int => Value::Int(last.number as i64),
            (Field::DoubleValue, Some(last)) if last.tag.number == double => Value::Double(f64::from_bits(last.number)),
            (Field::IntValue, _) => Value::Int(0),
            _ => Value::Double(0.0),
        }
    }

    /// Multiplies what this data point has measured, with its exemplars.
    fn scale(&mut self, factor: f64) {
        if self.layout.kind == Kind::Number {
            match (self.read_number(Field::DoubleValue), self.read_number(Field::IntValue)) {
                // Which of the two it is, says the one that is not 0; of two zeros none changes.
                (Value::Double(value), _) if value != 0.0 => {
                    self.write_number(Field::DoubleValue, &Value::Double(value * factor));
                }
                (_, Value::Int(value)) if value != 0 => {
                    self.write_number(Field::IntValue, &Value::Int((value as f64 * factor) as i64));
                }
                _ => {}
            }
        }
        for field in [Field::Sum, Field::Min, Field::Max] {
            let is_there =
                plain(self.layout.kind, field).is_some_and(|(number, _, lies)| self.last(number, lies).is_some());
            if let (true, Value::Double(value)) = (is_there, self.read(field)) {
                self.write_field(field, &Value::Double(value * factor));
            }
        }
        if let Value::List(bounds) = self.read(Field::ExplicitBounds) {
            let scaled = bounds.into_iter().map(|bound| match bound {
                Value::Double(bound) => Value::Double(bound * factor),
                other => other,
            });
            let scaled = Value::List(scaled.collect()).into_owned();
            self.write_field(Field::ExplicitBounds, &scaled);
        }
        for (field, double, int) in [(Field::QuantileValues, 2, u32::MAX), (Field::Exemplars, 3, 6)] {
            if let Some(number) = layout::counted(self.layout.kind, field) {
                self.scale_nested(number, (double, int), factor);
            }
        }
    }

    /// Multiplies a number in each message that is the field `number`.
    fn scale_nested(&mut self, number: u32, (double, int): (u32, u32), factor: f64) {
        let mut scaled = Vec::new();
        let mut message = Vec::new();
        for field in self.raw(number, Lies::Message).filter(|field| field.tag.number == number) {
            message.clear();
            for field in Fields::of(field.body) {
                let bits = match field.tag.number {
                    found if found == double => (f64::from_bits(field.number) * factor).to_bits(),
                    found if found == int => (field.number as i64 as f64 * factor) as i64 as u64,
                    _ => {
                        message.extend_from_slice(field.raw);
                        continue;
                    }
                };
                write_tag(&mut message, field.tag.number, WireType::Fixed64);
                message.extend_from_slice(&bits.to_le_bytes());
            }
            write_length_field(&mut scaled, number, &message);
        }
        if !scaled.is_empty() {
            self.change(number, Lies::Message, |out| out.extend_from_slice(&scaled));
        }
    }

    fn count(&self, number: u32) -> i64 {
        Fields::of(self.body()).filter(|field| field.tag.number == number).count() as i64
    }

    /// Where the parts lie, and which field they are.
    fn parts_in(&self) -> (&[u8], u32) {
        if self.layout.has_data { (&self.data.body, DATA_POINTS) } else { (self.body(), EVENTS) }
    }

    fn parts_count(&self) -> u32 {
        if self.are_parts_indexed {
            return self.parts.len() as u32;
        }
        let (message, number) = self.parts_in();
        let count = Fields::of(message).filter(|field| field.tag.number == number).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    fn index_parts(&mut self) {
        if std::mem::replace(&mut self.are_parts_indexed, true) {
            return;
        }
        let mut parts = std::mem::take(&mut self.parts);
        let (message, number) = self.parts_in();
        parts.extend(Fields::of(message).filter(|field| field.tag.number == number).map(|field| {
            let end = field.tag.offset + field.raw.len();
            Part { came: (end - field.body.len()) as u32..end as u32, changed: None }
        }));
        self.parts = parts;
    }

    /// Part number `index` as it is after earlier edits; empty if there is none. Parts are indexed.
    fn part(&self, index: u32) -> &[u8] {
        match self.parts.get(index as usize) {
            Some(Part { changed: Some(range), .. }) => self.arena(range),
            Some(Part { came, .. }) => &self.parts_in().0[came.start as usize..came.end as usize],
            None => &[],
        }
    }

    /// All parts as they are after earlier edits, whether they were indexed or not.
    fn current_parts(&self) -> impl Iterator<Item = &[u8]> {
        let (message, number) = self.parts_in();
        let parts = Fields::of(message).filter(move |field| field.tag.number == number).enumerate();
        parts.map(|(place, field)| match self.parts.get(place) {
            Some(Part { changed: Some(range), .. }) => self.arena(range),
            _ => field.body,
        })
    }

    /// Whether a plain field is there, be it 0.
    fn has(&self, field: Field) -> bool {
        plain(self.layout.kind, field).is_some_and(|(number, _, lies)| self.last(number, lies).is_some())
    }

    /// Gives part number `index`, which was asked for before, the bytes that `write` appends.
    fn set_part(&mut self, index: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.arena.len() as u32;
        write(&mut self.arena);
        let range = start..self.arena.len() as u32;
        if let Some(part) = self.parts.get_mut(index as usize) {
            part.changed = Some(range);
            self.is_changed = true;
            self.is_changed_beside_attributes = true;
            self.data.is_changed = true;
        }
    }

    /// Fields of the status; several status messages are one.
    fn status(&self) -> impl Iterator<Item = codecs::otlp::attributes::Field<'_>> {
        let fields = self.raw(STATUS, Lies::Message).filter(|field| field.tag.number == STATUS);
        fields.flat_map(|field| Fields::of(field.body))
    }

    fn write_field(&mut self, field: Field, value: &Value<'_>) {
        match (plain(self.layout.kind, field), field) {
            (Some((number, _, Lies::Data)), _) if !layout::has_setting(self.data.number, number) => {}
            (Some((number, shape, lies)), _) => {
                self.change(number, lies, |out| write_plain(out, number, shape, value));
            }
            (None, Field::StatusCode | Field::StatusMessage) => self.write_status(field, value),
            (None, Field::IntValue | Field::DoubleValue) => self.write_number(field, value),
            (None, Field::MetricType) => self.write_type(value),
            // What an item of this kind does not have.
            (None, _) => {}
        }
    }

    /// Notes that the field called `number` is what `write` appends.
    fn change(&mut self, number: u32, lies: Lies, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.arena.len() as u32;
        write(&mut self.arena);
        let range = start..self.arena.len() as u32;
        self.is_changed = true;
        self.is_changed_beside_attributes = true;
        self.data.is_changed |= lies == Lies::Data;
        match self.fields.iter_mut().find(|field| field.number == number && field.lies == lies) {
            Some(field) => field.range = range,
            None => self.fields.push(Changed { number, lies, range }),
        }
    }

    /// Status is a message of its own: what is not set now stays.
    fn write_status(&mut self, field: Field, value: &Value<'_>) {
        let (replaced, shape) = if field == Field::StatusCode { (3, Shape::Int32) } else { (2, Shape::Text) };
        let mut status = Vec::new();
        for field in self.status().filter(|field| field.tag.number != replaced) {
            status.extend_from_slice(field.raw);
        }
        write_plain(&mut status, replaced, shape, value);
        self.change(STATUS, Lies::Message, |out| write_length_field(out, STATUS, &status));
    }

    /// One of the two is there, also if it is 0: the field's number says what type the value has.
    fn write_number(&mut self, field: Field, value: &Value<'_>) {
        let Some((double, int)) = layout::number_fields(self.layout.kind) else { return };
        let bits = match value {
            Value::Int(value) => *value as u64,
            Value::Double(value) => value.to_bits(),
            _ => return,
        };
        let (there, gone) = if field == Field::IntValue { (int, double) } else { (double, int) };
        self.change(gone, Lies::Message, |_| {});
        self.change(there, Lies::Message, |out| {
            write_tag(out, there, WireType::Fixed64);
            out.extend_from_slice(&bits.to_le_bytes());
        });
    }

    /// Gauges and sums have points of one kind, so one can become the other.
    fn write_type(&mut self, value: &Value<'_>) {
        let Value::Int(kind) = value else { return };
        let (Some(number), Some(old)) = (layout::number_of_type(*kind), layout::points_of(self.data.number)) else {
            return;
        };
        if layout::points_of(number).is_none_or(|new| new.kind != old.kind) || number == self.data.number {
            return;
        }
        self.data.number = number;
        for setting in METRIC_SETTINGS.into_iter().filter(|setting| !layout::has_setting(number, *setting)) {
            self.change(setting, Lies::Data, |_| {});
        }
        self.is_changed = true;
        self.is_changed_beside_attributes = true;
        self.data.is_changed = true;
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
        for field in Fields::of(&self.bytes) {
            if field.tag.number != inner && !self.is_set(field.tag.number, Lies::Envelope) {
                out.extend_from_slice(field.raw);
            }
        }
        self.write_set(Lies::Envelope, out);
    }

    fn is_set(&self, number: u32, lies: Lies) -> bool {
        self.fields.iter().any(|field| field.number == number && field.lies == lies)
    }

    /// Appends the fields that were set.
    fn write_set(&self, lies: Lies, out: &mut Vec<u8>) {
        let fields = self.fields.iter().filter(|field| field.lies == lies);
        fields.for_each(|field| out.extend_from_slice(self.arena(&field.range)));
    }

    fn write_body(&self, out: &mut Vec<u8>) {
        if self.is_changed_beside_attributes {
            return self.write_fields(out);
        }
        let body = self.body();
        let mut kept = 0;
        for slot in self.slots.iter().filter(|slot| slot.state != State::Came) {
            if let Some(came) = slot.came {
                out.extend_from_slice(&body[kept..came.start as usize]);
                kept = came.end as usize;
            } else if kept < body.len() {
                // New ones are behind all that came.
                out.extend_from_slice(&body[kept..]);
                kept = body.len();
            }
            self.write_slot(slot, out);
        }
        out.extend_from_slice(&body[kept..]);
    }

    /// Appends the message where not only attributes differ: field by field.
    fn write_fields(&self, out: &mut Vec<u8>) {
        let mut slots = self.slots.iter();
        let mut event = 0;
        let body = self.body();
        // From `kept` on, nothing was appended yet; what stays is appended with all that stays before and behind it.
        let mut kept = 0;
        for field in Fields::of(body) {
            let number = field.tag.number;
            let is_attribute = number == self.layout.attributes && field.tag.wire_type == WireType::Length;
            let slot = if is_attribute { slots.next() } else { None };
            let is_event = number == EVENTS && self.layout.has_events;
            // A metric's data is written below: several of them become one.
            let is_data = self.layout.has_data && self.data.is_changed && MetricKind::of_field(number).is_some();
            let stays = match slot {
                Some(slot) => slot.state == State::Came,
                None => is_attribute || !(is_event || is_data || self.is_set(number, Lies::Message)),
            };
            if stays {
                continue;
            }
            out.extend_from_slice(&body[kept..field.tag.offset]);
            kept = field.tag.offset + field.raw.len();
            if let Some(slot) = slot {
                self.write_slot(slot, out);
            } else if is_event {
                self.write_part(EVENTS, event, field.raw, out);
                event += 1;
            }
        }
        out.extend_from_slice(&body[kept..]);
        slots.for_each(|slot| self.write_slot(slot, out));
        if self.data.is_changed && self.layout.has_data && self.data.number != 0 {
            self.write_data(out);
        }
        self.write_set(Lies::Message, out);
    }

    /// Appends a metric's data: the settings and points there are.
    fn write_data(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let mut point = 0;
        for field in Fields::of(&self.data.body) {
            if field.tag.number == DATA_POINTS {
                self.write_part(DATA_POINTS, point, field.raw, out);
                point += 1;
            } else if !self.is_set(field.tag.number, Lies::Data) {
                out.extend_from_slice(field.raw);
            }
        }
        self.write_set(Lies::Data, out);
        // How long it is, is known only now; moving it once is cheaper than going over it twice.
        let length = out.len() - start;
        write_length_prefix(out, self.data.number, length);
        let prefix = out.len() - start - length;
        out[start..].rotate_right(prefix);
    }

    fn write_part(&self, number: u32, index: u32, raw: &[u8], out: &mut Vec<u8>) {
        match self.parts.get(index as usize) {
            Some(Part { changed: Some(range), .. }) => write_length_field(out, number, self.arena(range)),
            _ => out.extend_from_slice(raw),
        }
    }

    fn write_slot(&self, slot: &Slot, out: &mut Vec<u8>) {
        if slot.state == State::Staged {
            write_key_value(out, self.layout.attributes, slot.key.of(&self.arena), slot.value.of(&self.arena));
        }
    }
}

/// Where key and value of a KeyValue lie, which starts at `start`; of repeated fields the last one counts.
#[inline]
pub(crate) fn locate(key_value: &[u8], start: usize) -> (Range<usize>, Range<usize>) {
    // The shape that every SDK writes: key, then value, each once, with lengths of one byte.
    if let [0x0a, key_length @ 0..0x80, rest @ ..] = key_value {
        let key_length = usize::from(*key_length);
        if let Some([0x12, value_length @ 0..0x80, value @ ..]) = rest.get(key_length..)
            && value.len() == usize::from(*value_length)
        {
            let key = start + 2..start + 2 + key_length;
            return (key.clone(), key.end + 2..start + key_value.len());
        }
    }
    locate_by_the_book(key_value, start)
}

#[inline(never)]
fn locate_by_the_book(key_value: &[u8], start: usize) -> (Range<usize>, Range<usize>) {
    let (mut key, mut value) = (start..start, start..start);
    for field in Fields::of(key_value) {
        let end = start + field.tag.offset + field.raw.len();
        let body = end - field.body.len()..end;
        match field.tag.number {
            1 => key = body,
            2 => value = body,
            _ => {}
        }
    }
    (key, value)
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

/// The data that counts: the last kind of points that a metric names, with all fields of it since another kind.
fn data_of(metric: &[u8]) -> Data<'_> {
    let mut data = Data::default();
    for field in Fields::of(metric).filter(|field| MetricKind::of_field(field.tag.number).is_some()) {
        if field.tag.number == data.number {
            data.body.to_mut().extend_from_slice(field.body);
        } else {
            data = Data { number: field.tag.number, body: Cow::Borrowed(field.body), is_changed: false };
        }
    }
    data
}

fn unzigzag(bits: u32) -> i32 {
    (bits >> 1) as i32 ^ -((bits & 1) as i32)
}

fn zigzag(value: i32) -> u32 {
    (value << 1 ^ value >> 31) as u32
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
        (Shape::Sint32, Value::Int(value)) if *value != 0 => {
            write_varint_field(out, number, u64::from(zigzag(*value as i32)));
        }
        (Shape::Bool, Value::Bool(true)) => write_varint_field(out, number, 1),
        // Optional fields: 0 is a value.
        (Shape::Double, Value::Double(value)) => {
            write_tag(out, number, WireType::Fixed64);
            out.extend_from_slice(&value.to_bits().to_le_bytes());
        }
        (Shape::Any, Value::Nil) => {}
        (Shape::Any, value) => {
            let mut any = Vec::new();
            write_any(&mut any, value);
            write_length_field(out, number, &any);
        }
        (Shape::Fixed64s | Shape::Doubles, Value::List(items)) if !items.is_empty() => {
            write_length_prefix(out, number, 8 * items.len());
            for item in items {
                let bits = match item {
                    Value::Double(value) => value.to_bits(),
                    Value::Int(value) => *value as u64,
                    _ => 0,
                };
                out.extend_from_slice(&bits.to_le_bytes());
            }
        }
        _ => {}
    }
}

/// A span, metric or log record (with what it lies in) with its edits: what statements run on in the gateway.
///
/// Bytes given to the `begin_...` methods were checked before. On bytes that were not, fields end at the first malformed
/// one, and what is behind it leaves as it came; nothing panics. What a context does not have reads as empty.
#[derive(Clone, Debug)]
pub struct WireItem<'a> {
    resource: Message<'a>,
    scope: Message<'a>,
    item: Message<'a>,
    part: Message<'a>,
    part_index: u32,
    created: derive::Created,
}

impl Default for WireItem<'_> {
    /// A span.
    fn default() -> Self {
        Self::new(Signal::Traces)
    }
}

impl<'a> WireItem<'a> {
    /// An item of `signal` without bytes.
    #[must_use]
    pub fn new(signal: Signal) -> Self {
        Self {
            resource: Message::new(&layout::RESOURCE),
            scope: Message::new(&layout::SCOPE),
            item: Message::new(layout::of_items(signal)),
            part: Message::new(&layout::EVENT),
            part_index: 0,
            created: derive::Created::default(),
        }
    }

    /// Starts over with a resource envelope (ResourceSpans without its scopes, and so on).
    pub fn begin_resource(&mut self, envelope: &'a [u8]) {
        self.resource.begin(Cow::Borrowed(envelope));
    }

    /// Starts over with a scope envelope (ScopeSpans without its spans, and so on).
    pub fn begin_scope(&mut self, envelope: &'a [u8]) {
        self.scope.begin(Cow::Borrowed(envelope));
    }

    /// Starts over with a span, metric or log record.
    pub fn begin_item(&mut self, message: &'a [u8]) {
        self.item.begin(Cow::Borrowed(message));
        self.created.begin_item();
    }

    /// As [`Self::begin_item`], with a message that the item keeps.
    pub fn begin_owned_item(&mut self, message: Vec<u8>) {
        self.item.begin(Cow::Owned(message));
        self.created.begin_item();
    }

    /// Parts of the item: events of a span, data points of a metric, none of a log record.
    #[must_use]
    pub fn parts_count(&self) -> u32 {
        if self.item.layout.has_events || self.item.layout.has_data { self.item.parts_count() } else { 0 }
    }

    /// Starts over with the item's part number `index`, as it is after earlier edits; one that is not there is empty.
    pub fn begin_part(&mut self, index: u32) {
        // A copy, because the item may change while the part is open; in the memory of the part before.
        let mut copy = match std::mem::replace(&mut self.part.bytes, Cow::Borrowed(&[])) {
            Cow::Owned(copy) => copy,
            Cow::Borrowed(_) => Vec::new(),
        };
        copy.clear();
        self.item.index_parts();
        copy.extend_from_slice(self.item.part(index));
        self.part.layout = match layout::points_of(self.item.data.number) {
            Some(layout) if self.item.layout.has_data => layout,
            _ => &layout::EVENT,
        };
        self.part.begin(Cow::Owned(copy));
        self.part_index = index;
    }

    /// Puts the part back into its item, if it was changed.
    pub fn finish_part(&mut self) {
        if self.part.is_changed {
            let part = &self.part;
            self.item.set_part(self.part_index, |out| part.write(out));
        }
    }

    /// Whether the level's bytes differ from those given.
    #[must_use]
    pub fn is_changed(&self, level: Context) -> bool {
        self.message(level).is_changed
    }

    /// Whether nothing but attributes of the level was changed: whatever else was noted of the message still holds.
    #[must_use]
    pub fn has_only_attributes_changed(&self, level: Context) -> bool {
        !self.message(level).is_changed_beside_attributes
    }

    /// Appends the level's bytes after all edits: the envelope of a resource or scope, the message of an item or part.
    pub fn write(&self, level: Context, out: &mut Vec<u8>) {
        self.message(level).write(out);
    }

    /// The memory without the bytes, for items of another request of the same signal.
    #[must_use]
    pub fn recycle<'b>(self) -> WireItem<'b> {
        WireItem {
            resource: self.resource.recycle(),
            scope: self.scope.recycle(),
            item: self.item.recycle(),
            part: self.part.recycle(),
            part_index: 0,
            created: derive::Created::default(),
        }
    }

    fn message(&self, level: Context) -> &Message<'a> {
        match level.depth() {
            0 => &self.resource,
            1 => &self.scope,
            2 => &self.item,
            _ => &self.part,
        }
    }

    fn message_mut(&mut self, level: Context) -> &mut Message<'a> {
        match level.depth() {
            0 => &mut self.resource,
            1 => &mut self.scope,
            2 => &mut self.item,
            _ => &mut self.part,
        }
    }
}

impl View for WireItem<'_> {
    fn read(&self, field: Field) -> Value<'_> {
        match field {
            Field::EventIndex => Value::Int(i64::from(self.part_index)),
            _ => self.message(level_of(field)).read(field),
        }
    }

    fn attribute(&self, level: Context, key: &[u8]) -> Option<Value<'_>> {
        self.message(level).attribute(key)
    }

    fn first_point_attribute(&self, key: &[u8]) -> Option<Value<'_>> {
        let layout = layout::points_of(self.item.data.number).filter(|_| self.item.layout.has_data)?;
        self.item.current_parts().find_map(|part| attribute_in(part, layout.attributes, key))
    }
}

/// The value of the first attribute called `key` of a message whose attributes are the field `number`.
fn attribute_in<'m>(message: &'m [u8], number: u32, key: &[u8]) -> Option<Value<'m>> {
    let fields =
        Fields::of(message).filter(|field| field.tag.number == number && field.tag.wire_type == WireType::Length);
    let found = fields.map(|field| Attribute::read(field.body)).find(|attribute| attribute.key == key)?;
    Some(read_any(found.value))
}

impl Edit for WireItem<'_> {
    fn write(&mut self, field: Field, value: &Value<'_>) {
        self.message_mut(level_of(field)).write_field(field, value);
    }

    fn set_attribute(&mut self, level: Context, key: &[u8], value: &Value<'_>) {
        self.message_mut(level).set_attribute(key, value);
    }

    fn remove_attribute(&mut self, level: Context, key: &[u8]) {
        self.message_mut(level).remove_attribute(key);
    }

    fn retain_attributes(&mut self, level: Context, keep: &mut dyn FnMut(&[u8]) -> bool) {
        self.message_mut(level).retain(keep);
    }

    fn scale_points(&mut self, factor: f64) -> Result<(), Fault> {
        let kind = layout::points_of(self.item.data.number).map(|layout| layout.kind);
        match kind.filter(|_| self.item.layout.has_data) {
            Some(Kind::Number | Kind::Histogram | Kind::Summary) => {}
            Some(_) => return Err(Fault::invalid("exponential histograms cannot be scaled")),
            None => return Err(Fault::invalid("a metric without points cannot be scaled")),
        }
        for index in 0..self.parts_count() {
            self.begin_part(index);
            self.part.scale(factor);
            self.finish_part();
        }
        Ok(())
    }

    fn derive(&mut self, derivation: &Derivation) -> Result<(), Fault> {
        self.derived(derivation)
    }

    fn aggregate(&mut self, aggregation: &Aggregation) -> Result<(), Fault> {
        self.item.merge_points(aggregation)
    }

    fn rebucket(&mut self, rebucketing: &Rebucketing) -> Result<(), Fault> {
        self.item.rebucket_points(rebucketing)
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
