//! The messages of export requests as tables, and a builder of requests that follow them.
//!
//! The builder turns a string of choices into a request: known fields in any order and number, unknown fields of every
//! wire type at every level, and now and then a mistake. Written from opentelemetry-proto, apart from the reader.

use crate::otlp::Signal;
use crate::wire::{WireType, write_length_field, write_length_prefix, write_tag, write_varint, write_varint_field};

/// A message's name and known fields.
#[derive(Debug)]
pub struct Message {
    /// Name in the `.proto` files.
    pub name: &'static str,
    /// Number and kind of each known field.
    pub fields: &'static [(u32, FieldKind)],
}

/// How a field is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// A varint.
    Varint,
    /// A fixed32.
    Fixed32,
    /// A fixed64 or double.
    Fixed64,
    /// A string or bytes.
    Bytes,
    /// Bytes of this length, or none.
    Id(usize),
    /// Numbers of eight bytes, packed or not.
    Fixed64s,
    /// Varints, packed or not.
    Varints,
    /// The message with this number in the same table.
    Message(usize),
}

use FieldKind::{Bytes, Fixed32, Fixed64, Fixed64s, Id, Message as Sub, Varint, Varints};

/// Number of ExportTraceServiceRequest in [`MESSAGES`].
pub const REQUEST: usize = 0;
/// Number of Span.
pub const SPAN: usize = 5;
/// Number of KeyValue.
pub const KEY_VALUE: usize = 9;
/// Number of AnyValue.
pub const ANY_VALUE: usize = 10;

/// All messages that a traces export is made of.
pub const MESSAGES: [Message; 13] = [
    Message { name: "request", fields: &[(1, Sub(1))] },
    Message { name: "resource spans", fields: &[(1, Sub(2)), (2, Sub(3)), (3, Bytes)] },
    Message { name: "resource", fields: &[(1, Sub(KEY_VALUE)), (2, Varint)] },
    Message { name: "scope spans", fields: &[(1, Sub(4)), (2, Sub(SPAN)), (3, Bytes)] },
    Message { name: "scope", fields: &[(1, Bytes), (2, Bytes), (3, Sub(KEY_VALUE)), (4, Varint)] },
    Message {
        name: "span",
        fields: &[
            (1, Id(16)),
            (2, Id(8)),
            (3, Bytes),
            (4, Id(8)),
            (5, Bytes),
            (6, Varint),
            (7, Fixed64),
            (8, Fixed64),
            (9, Sub(KEY_VALUE)),
            (10, Varint),
            (11, Sub(6)),
            (12, Varint),
            (13, Sub(7)),
            (14, Varint),
            (15, Sub(8)),
            (16, Fixed32),
        ],
    },
    Message { name: "span event", fields: &[(1, Fixed64), (2, Bytes), (3, Sub(KEY_VALUE)), (4, Varint)] },
    Message {
        name: "span link",
        fields: &[(1, Id(16)), (2, Id(8)), (3, Bytes), (4, Sub(KEY_VALUE)), (5, Varint), (6, Fixed32)],
    },
    Message { name: "span status", fields: &[(2, Bytes), (3, Varint)] },
    Message { name: "attribute", fields: &[(1, Bytes), (2, Sub(ANY_VALUE))] },
    Message {
        name: "attribute value",
        fields: &[(1, Bytes), (2, Varint), (3, Varint), (4, Fixed64), (5, Sub(11)), (6, Sub(12)), (7, Bytes)],
    },
    Message { name: "array value", fields: &[(1, Sub(ANY_VALUE))] },
    Message { name: "kvlist value", fields: &[(1, Sub(KEY_VALUE))] },
];

/// All messages that a metrics export is made of.
const METRICS_MESSAGES: [Message; 22] = [
    Message { name: "request", fields: &[(1, Sub(1))] },
    Message { name: "resource metrics", fields: &[(1, Sub(2)), (2, Sub(3)), (3, Bytes)] },
    Message { name: "resource", fields: &[(1, Sub(18)), (2, Varint)] },
    Message { name: "scope metrics", fields: &[(1, Sub(4)), (2, Sub(5)), (3, Bytes)] },
    Message { name: "scope", fields: &[(1, Bytes), (2, Bytes), (3, Sub(18)), (4, Varint)] },
    Message {
        name: "metric",
        fields: &[
            (1, Bytes),
            (2, Bytes),
            (3, Bytes),
            (5, Sub(6)),
            (7, Sub(7)),
            (9, Sub(8)),
            (10, Sub(9)),
            (11, Sub(10)),
            (12, Sub(18)),
        ],
    },
    Message { name: "gauge", fields: &[(1, Sub(11))] },
    Message { name: "sum", fields: &[(1, Sub(11)), (2, Varint), (3, Varint)] },
    Message { name: "histogram", fields: &[(1, Sub(12)), (2, Varint)] },
    Message { name: "exponential histogram", fields: &[(1, Sub(13)), (2, Varint)] },
    Message { name: "summary", fields: &[(1, Sub(14))] },
    Message {
        name: "number point",
        fields: &[(2, Fixed64), (3, Fixed64), (4, Fixed64), (5, Sub(17)), (6, Fixed64), (7, Sub(18)), (8, Varint)],
    },
    Message {
        name: "histogram point",
        fields: &[
            (2, Fixed64),
            (3, Fixed64),
            (4, Fixed64),
            (5, Fixed64),
            (6, Fixed64s),
            (7, Fixed64s),
            (8, Sub(17)),
            (9, Sub(18)),
            (10, Varint),
            (11, Fixed64),
            (12, Fixed64),
        ],
    },
    Message {
        name: "exponential histogram point",
        fields: &[
            (1, Sub(18)),
            (2, Fixed64),
            (3, Fixed64),
            (4, Fixed64),
            (5, Fixed64),
            (6, Varint),
            (7, Fixed64),
            (8, Sub(16)),
            (9, Sub(16)),
            (10, Varint),
            (11, Sub(17)),
            (12, Fixed64),
            (13, Fixed64),
            (14, Fixed64),
        ],
    },
    Message {
        name: "summary point",
        fields: &[(2, Fixed64), (3, Fixed64), (4, Fixed64), (5, Fixed64), (6, Sub(15)), (7, Sub(18)), (8, Varint)],
    },
    Message { name: "value at quantile", fields: &[(1, Fixed64), (2, Fixed64)] },
    Message { name: "buckets", fields: &[(1, Varint), (2, Varints)] },
    Message {
        name: "exemplar",
        fields: &[(2, Fixed64), (3, Fixed64), (4, Id(8)), (5, Id(16)), (6, Fixed64), (7, Sub(18))],
    },
    Message { name: "attribute", fields: &[(1, Bytes), (2, Sub(19))] },
    Message {
        name: "attribute value",
        fields: &[(1, Bytes), (2, Varint), (3, Varint), (4, Fixed64), (5, Sub(20)), (6, Sub(21)), (7, Bytes)],
    },
    Message { name: "array value", fields: &[(1, Sub(19))] },
    Message { name: "kvlist value", fields: &[(1, Sub(18))] },
];

/// All messages that a logs export is made of.
const LOGS_MESSAGES: [Message; 10] = [
    Message { name: "request", fields: &[(1, Sub(1))] },
    Message { name: "resource logs", fields: &[(1, Sub(2)), (2, Sub(3)), (3, Bytes)] },
    Message { name: "resource", fields: &[(1, Sub(6)), (2, Varint)] },
    Message { name: "scope logs", fields: &[(1, Sub(4)), (2, Sub(5)), (3, Bytes)] },
    Message { name: "scope", fields: &[(1, Bytes), (2, Bytes), (3, Sub(6)), (4, Varint)] },
    Message {
        name: "log record",
        fields: &[
            (1, Fixed64),
            (2, Varint),
            (3, Bytes),
            (5, Sub(7)),
            (6, Sub(6)),
            (7, Varint),
            (8, Fixed32),
            (9, Id(16)),
            (10, Id(8)),
            (11, Fixed64),
            (12, Bytes),
        ],
    },
    Message { name: "attribute", fields: &[(1, Bytes), (2, Sub(7))] },
    Message {
        name: "attribute value",
        fields: &[(1, Bytes), (2, Varint), (3, Varint), (4, Fixed64), (5, Sub(8)), (6, Sub(9)), (7, Bytes)],
    },
    Message { name: "array value", fields: &[(1, Sub(7))] },
    Message { name: "kvlist value", fields: &[(1, Sub(6))] },
];

/// A request with one message number `message` whose bytes are `body`: attributes are those of a span, anything else
/// lies in the first place that can hold it.
#[must_use]
pub fn wrap(message: usize, body: &[u8]) -> Vec<u8> {
    let holds =
        |fields: &[(u32, FieldKind)]| fields.iter().find(|(_, kind)| *kind == Sub(message)).map(|field| field.0);
    // Messages stand in the table after those that hold them, except where they hold each other.
    let first = if message == KEY_VALUE { SPAN } else { REQUEST };
    let parent = (first..message).find_map(|parent| Some((parent, holds(MESSAGES[parent].fields)?)));
    let Some((parent, number)) = parent else {
        return body.to_vec();
    };
    let mut outer = Vec::new();
    write_length_field(&mut outer, number, body);
    wrap(parent, &outer)
}

/// A traces request whose shape follows `choices`; once they run out, everything ends.
#[must_use]
pub fn request_from(choices: &[u8]) -> Vec<u8> {
    request_of(Signal::Traces, choices)
}

/// The same for any signal.
#[must_use]
pub fn request_of(signal: Signal, choices: &[u8]) -> Vec<u8> {
    let messages: &'static [Message] = match signal {
        Signal::Traces => &MESSAGES,
        Signal::Metrics => &METRICS_MESSAGES,
        Signal::Logs => &LOGS_MESSAGES,
    };
    let mut out = Vec::new();
    Choices { rest: choices, messages }.fill(REQUEST, 0, &mut out);
    out
}

/// Nesting at which the builder stops to nest.
const DEPTH_MAX: usize = 20;

struct Choices<'a> {
    rest: &'a [u8],
    messages: &'static [Message],
}

impl Choices<'_> {
    fn next(&mut self) -> u8 {
        match self.rest.split_first() {
            Some((&first, rest)) => {
                self.rest = rest;
                first
            }
            None => 0,
        }
    }

    /// Appends fields of the message until the choice is to end.
    fn fill(&mut self, message: usize, depth: usize, out: &mut Vec<u8>) {
        loop {
            let fields = self.messages[message].fields;
            match self.next() {
                0..=31 => return,
                32..=47 => self.unknown(out),
                48 => self.mistake(fields, out),
                choice => {
                    let (number, kind) = fields[usize::from(choice) % fields.len()];
                    self.known(number, kind, depth, out);
                }
            }
        }
    }

    fn known(&mut self, number: u32, kind: FieldKind, depth: usize, out: &mut Vec<u8>) {
        match kind {
            Varint => write_varint_field(out, number, self.number()),
            Fixed32 => self.fixed(number, WireType::Fixed32, 4, out),
            Fixed64 => self.fixed(number, WireType::Fixed64, 8, out),
            Fixed64s | Varints => self.numbers(number, kind, out),
            Bytes => {
                let length = self.length();
                self.bytes(number, length, out);
            }
            Id(length) => {
                let length = if self.next().is_multiple_of(8) { 0 } else { length };
                self.bytes(number, length, out);
            }
            Sub(message) => {
                let mut body = Vec::new();
                if depth < DEPTH_MAX {
                    self.fill(message, depth + 1, &mut body);
                }
                write_length_field(out, number, &body);
            }
        }
    }

    /// Up to seven numbers in one field, or one without a length; now and then a byte too many.
    fn numbers(&mut self, number: u32, kind: FieldKind, out: &mut Vec<u8>) {
        let choice = self.next();
        match (choice % 8, kind) {
            (0, Varints) => write_varint_field(out, number, self.number()),
            (0, _) => self.fixed(number, WireType::Fixed64, 8, out),
            (count, Varints) => {
                let mut body = Vec::new();
                (0..count).for_each(|_| write_varint(&mut body, self.number()));
                write_length_field(out, number, &body);
            }
            (count, _) => self.bytes(number, usize::from(count) * 8 + usize::from(choice == 255), out),
        }
    }

    /// A field that no `.proto` file names: numbers between and beyond the known ones.
    fn unknown(&mut self, out: &mut Vec<u8>) {
        let number = [17, 99, 1000, (1 << 29) - 1][usize::from(self.next() % 4)];
        match self.next() % 5 {
            0 => write_varint_field(out, number, self.number()),
            1 => self.fixed(number, WireType::Fixed32, 4, out),
            2 => self.fixed(number, WireType::Fixed64, 8, out),
            3 => {
                let length = self.length();
                self.bytes(number, length, out);
            }
            _ => {
                write_tag(out, number, WireType::GroupStart);
                if self.next().is_multiple_of(2) {
                    self.unknown(out);
                }
                write_tag(out, number, WireType::GroupEnd);
            }
        }
    }

    /// Something that no reader should accept, or nearly.
    fn mistake(&mut self, fields: &[(u32, FieldKind)], out: &mut Vec<u8>) {
        let (number, kind) = fields[usize::from(self.next()) % fields.len()];
        match (self.next() % 6, kind) {
            (0, Id(_)) => {
                let length = self.length();
                self.bytes(number, length, out);
            }
            (1, _) => write_length_prefix(out, number, 200),
            (2, _) => out.push(self.next()),
            (3, _) => write_varint_field(out, number, self.number()),
            (4, _) => self.fixed(number, WireType::Fixed32, 4, out),
            _ => self.bytes(number, 3, out),
        }
    }

    fn number(&mut self) -> u64 {
        let low = u64::from(self.next());
        match self.next() % 5 {
            0 => low,
            1 => low << 8 | 1,
            2 => low << 56 | 3,
            3 => u64::MAX - low,
            _ => (1 << 32) + low % 3,
        }
    }

    /// Mostly short, sometimes with a length of two bytes.
    fn length(&mut self) -> usize {
        let choice = usize::from(self.next());
        if choice > 240 { choice } else { choice % 24 }
    }

    fn fixed(&mut self, number: u32, wire_type: WireType, length: usize, out: &mut Vec<u8>) {
        write_tag(out, number, wire_type);
        out.extend((0..length).map(|_| self.next()));
    }

    fn bytes(&mut self, number: u32, length: usize, out: &mut Vec<u8>) {
        write_tag(out, number, WireType::Length);
        write_varint(out, length as u64);
        out.extend((0..length).map(|_| self.next()));
    }
}
