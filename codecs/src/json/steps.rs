//! Large bodies, JSON -> protobuf step by step: what else a thread has to do can be done between two steps.
//!
//! ```text
//! {"resourceSpans":[{"scopeSpans":[{"spans":[{ ... | ...       frames: object, list, object, list, object, list, object
//! ```
//!
//! The one idea: the transcoder of `decode.rs` keeps its place on the stack of the thread; here the same place is a list of
//! frames, so that a step can end between any two values. Single values are read by the same functions. Slower than that
//! one by some tenths, so only for bodies that are worth more than one step.
//!
//! Imperfect: one string is read in one go, however long.

use super::cursor::{Cursor, Name, Skip};
use super::decode::{LENGTH_BYTES_DEEP, Read, Transcoder, UNSIGNED, fill_in_length};
use super::error::JsonError;
use super::number::Integer;
use super::schema::{Field, Kind, Message};
use super::{Step, request};
use crate::otlp::{Signal, VALUE_DEPTH_MAX};
use crate::wire::{WireType, write_length_field, write_tag, write_varint};

/// Bytes of JSON that a step reads, and one value more: some 150 us of work.
const STEP_BYTES: usize = 32 << 10;

/// Frames around the messages that hold most of a large body: their lengths have the room that they need from the first,
/// lest megabytes be moved by a byte.
const FRAMES_OUTER: usize = 4;

/// An export request that is being transcoded. It gives what [`read_request`](super::read_request) gives, though some lengths
/// may be written in a longer form, and the same errors.
#[derive(Debug)]
pub struct Transcoding<'a> {
    cursor: Cursor<'a>,
    root: &'static Message,
    has_begun: bool,
    frames: Vec<Frame>,
    /// Strings with escapes, without them.
    scratch: Vec<u8>,
    step_bytes: usize,
}

/// What has begun and not ended.
#[derive(Debug)]
enum Frame {
    Object(Object),
    /// A list of messages.
    List {
        number: u32,
        message: &'static Message,
        depth: u32,
        elements: usize,
    },
    /// A list of numbers in one field.
    Packed {
        kind: Kind,
        start: usize,
        elements: usize,
    },
    /// A value of a field that OTLP does not know.
    Unknown(Skip),
}

#[derive(Debug)]
struct Object {
    message: &'static Message,
    is_again: bool,
    /// As in `decode.rs`.
    depth: u32,
    seen: u32,
    next: usize,
    /// The field whose value is being read, if it is known.
    field: Option<&'static Field>,
    has_fields: bool,
    /// Where its length stands in the output, and the room there; the outermost message has none.
    length: Option<(usize, usize)>,
}

impl<'a> Transcoding<'a> {
    /// Begins with a body that is to be an export request of `signal`.
    #[must_use]
    pub fn begin(signal: Signal, json: &'a [u8]) -> Self {
        Transcoding::with_steps(signal, json, STEP_BYTES)
    }

    /// The same with steps of another size, for tests.
    pub(crate) fn with_steps(signal: Signal, json: &'a [u8], step_bytes: usize) -> Self {
        Transcoding {
            cursor: Cursor::new(json),
            root: request(signal),
            has_begun: false,
            frames: Vec::new(),
            scratch: Vec::new(),
            step_bytes,
        }
    }

    /// Appends the next part of the protobuf to `out`, which holds what the steps before gave and nothing else. After an error `out`
    /// is empty, and there must be no further step.
    ///
    /// # Errors
    /// The bytes are no JSON or no such request.
    pub fn step(&mut self, out: &mut Vec<u8>) -> Result<Step, JsonError> {
        let scratch = std::mem::take(&mut self.scratch);
        let mut transcoder = Transcoder { cursor: self.cursor.clone(), out, scratch };
        let result = self.run(&mut transcoder);
        let Transcoder { cursor, out, scratch } = transcoder;
        (self.cursor, self.scratch) = (cursor, scratch);
        result.map_err(|error| {
            out.clear();
            *self.located(error)
        })
    }

    /// The error with the path of all that is open, but for the innermost: that has added its own part.
    fn located(&self, error: Box<JsonError>) -> Box<JsonError> {
        let around = self.frames.split_last().map_or(&[][..], |(_, around)| around);
        around.iter().rev().fold(error, |error, frame| match frame {
            Frame::Object(Object { field: Some(field), .. }) => error.in_field(field.name()),
            Frame::List { elements, .. } => error.in_element(elements - 1),
            Frame::Object(_) | Frame::Packed { .. } | Frame::Unknown(_) => error,
        })
    }

    fn run(&mut self, at: &mut Transcoder<'_, '_>) -> Read<Step> {
        let end = at.cursor.position().saturating_add(self.step_bytes);
        if !self.has_begun {
            self.has_begun = true;
            self.open(at, Place { message: self.root, is_again: false, depth: 0, length: None })?;
        }
        while let Some(frame) = self.frames.last_mut() {
            match frame {
                Frame::Object(object) => {
                    let opened = object.read_field(at)?;
                    match opened {
                        Opened::Nothing => {}
                        Opened::Frame(frame) => self.frames.push(frame),
                        Opened::Message(field, place) => {
                            let place = place.at(at, field.number, self.frames.len());
                            self.open(at, place).map_err(|error| error.in_field(field.name()))?;
                        }
                        Opened::End => self.close(at),
                    }
                }
                Frame::List { number, message, depth, elements } => {
                    if *elements > 0 && !at.cursor.has_next(b']')? {
                        self.frames.pop();
                        continue;
                    }
                    *elements += 1;
                    if at.cursor.take_null() {
                        write_length_field(at.out, *number, &[]);
                    } else {
                        let (number, element) = (*number, *elements - 1);
                        let place = Place { message, is_again: false, depth: *depth, length: None };
                        let place = place.at(at, number, self.frames.len());
                        self.open(at, place).map_err(|error| error.in_element(element))?;
                    }
                }
                Frame::Packed { kind, start, elements } => {
                    if *elements > 0 && !at.cursor.has_next(b']')? {
                        fill_in_length(at.out, *start, 1);
                        self.frames.pop();
                        continue;
                    }
                    *elements += 1;
                    at.packed_element(*kind).map_err(|error| error.in_element(*elements - 1))?;
                }
                Frame::Unknown(skip) => {
                    if at.cursor.skip_until(skip, end, &mut at.scratch)? {
                        self.frames.pop();
                    }
                }
            }
            if at.cursor.position() >= end {
                return Ok(Step::More);
            }
        }
        at.cursor.expect_end()?;
        Ok(Step::Done)
    }

    /// Begins a message, which may be over at once.
    fn open(&mut self, at: &mut Transcoder<'_, '_>, place: Place) -> Read<()> {
        let Place { message, is_again, depth, length } = place;
        let depth = depth + u32::from(message.deepens);
        if depth > VALUE_DEPTH_MAX {
            return Err(at.cursor.too_deep("lists and maps in a value", VALUE_DEPTH_MAX));
        }
        if !at.cursor.take(b'{') {
            return Err(at.cursor.unexpected(format!("an object: {}", message.name)));
        }
        let (seen, next, field, has_fields) = (0, 0, None, false);
        self.frames.push(Frame::Object(Object { message, is_again, depth, seen, next, field, has_fields, length }));
        if at.cursor.take(b'}') {
            self.close(at);
        }
        Ok(())
    }

    /// Ends the innermost message.
    fn close(&mut self, at: &mut Transcoder<'_, '_>) {
        if let Some(Frame::Object(Object { length: Some((start, room)), .. })) = self.frames.pop() {
            fill_in_length(at.out, start, room);
        }
    }
}

/// Where a message stands.
struct Place {
    message: &'static Message,
    is_again: bool,
    depth: u32,
    length: Option<(usize, usize)>,
}

impl Place {
    /// Writes the tag, and leaves room for the length.
    fn at(self, at: &mut Transcoder<'_, '_>, number: u32, frames: usize) -> Place {
        let is_outer = frames <= FRAMES_OUTER;
        let room = if is_outer || self.depth > 1 { LENGTH_BYTES_DEEP } else { self.message.length_bytes };
        write_tag(at.out, number, WireType::Length);
        let start = at.out.len();
        at.out.extend_from_slice(&[0; LENGTH_BYTES_DEEP][..room]);
        Place { length: Some((start, room)), ..self }
    }
}

/// What a field has begun.
enum Opened {
    Nothing,
    Frame(Frame),
    Message(&'static Field, Place),
    /// There was no further field.
    End,
}

impl Object {
    /// One field, as in `decode.rs`.
    fn read_field(&mut self, at: &mut Transcoder<'_, '_>) -> Read<Opened> {
        self.field = None;
        if self.has_fields && !at.cursor.has_next(b'}')? {
            return Ok(Opened::End);
        }
        self.has_fields = true;
        let Name::Known(place) = at.cursor.name(self.message.fields, self.next, &mut at.scratch)? else {
            return Ok(Opened::Frame(Frame::Unknown(Skip::default())));
        };
        let field = &self.message.fields[place];
        let is_wanted = self.is_again || self.message.is_one_of || self.seen >> place & 1 == 1;
        self.seen |= 1 << place;
        self.next = place + 1;
        self.field = Some(field);
        if at.cursor.take_null() {
            return Ok(Opened::Nothing);
        }
        self.read_value(at, field, is_wanted).map_err(|error| error.in_field(field.name()))
    }

    fn read_value(&self, at: &mut Transcoder<'_, '_>, field: &'static Field, is_wanted: bool) -> Read<Opened> {
        let (number, depth) = (field.number, self.depth);
        Ok(match field.kind {
            Kind::One(message) => Opened::Message(field, Place { message, is_again: is_wanted, depth, length: None }),
            Kind::Many(_) | Kind::Fixed64s | Kind::Uint64s | Kind::Doubles => {
                at.cursor.expect(b'[', "a list")?;
                if at.cursor.take(b']') {
                    return Ok(Opened::Nothing);
                }
                if let Kind::Many(message) = field.kind {
                    return Ok(Opened::Frame(Frame::List { number, message, depth, elements: 0 }));
                }
                write_tag(at.out, number, WireType::Length);
                let start = at.out.len();
                at.out.push(0);
                Opened::Frame(Frame::Packed { kind: field.kind, start, elements: 0 })
            }
            _ => {
                at.value(field, is_wanted, depth)?;
                Opened::Nothing
            }
        })
    }
}

impl Transcoder<'_, '_> {
    /// One number of a list of them.
    fn packed_element(&mut self, kind: Kind) -> Read<()> {
        match kind {
            Kind::Doubles => {
                let value = self.double()?;
                self.out.extend_from_slice(&value.to_le_bytes());
            }
            Kind::Uint64s => {
                let value = self.integer(UNSIGNED, Integer::to_u64)?;
                write_varint(self.out, value);
            }
            _ => {
                let value = self.integer(UNSIGNED, Integer::to_u64)?;
                self.out.extend_from_slice(&value.to_le_bytes());
            }
        }
        Ok(())
    }
}
