//! JSON -> protobuf in one pass.
//!
//! ```text
//! message: '{' name ':' value ... '}'    each value goes straight to the output as its field
//! length of a message: unknown before its end, so room is left for it and filled in afterwards
//! ```
//!
//! What it relies on: names mostly come in the table's order, text mostly has no escapes, and the room left for a length
//! mostly fits (where it does not, the message is moved by a byte or two). The output has no more bytes than the JSON,
//! because a name in JSON is longer than a tag and a length, but for lists of numbers that protobuf writes in full length.

use super::cursor::{Cursor, Name};
use super::error::JsonError;
use super::number::{self, Integer};
use super::schema::{Field, Kind, Message};
use crate::grpc::base64;
use crate::otlp::VALUE_DEPTH_MAX;
use crate::wire::{WireType, varint_length, write_length_field, write_tag, write_varint, write_varint_field};

pub(super) type Read<T> = Result<T, Box<JsonError>>;

/// Appends `json`, which is to be `message`, as protobuf.
pub(super) fn transcode(message: &'static Message, json: &[u8], out: &mut Vec<u8>) -> Result<(), JsonError> {
    let before = out.len();
    let mut transcoder = Transcoder { cursor: Cursor::new(json), out, scratch: Vec::new() };
    let read = transcoder.message(message, false, 0).and_then(|()| transcoder.cursor.expect_end());
    if let Err(error) = read {
        out.truncate(before);
        return Err(*error);
    }
    assert!(out.len() - before <= json.len() * message.growth_max, "protobuf is bounded by its JSON");
    Ok(())
}

pub(super) struct Transcoder<'a, 'o> {
    pub(super) cursor: Cursor<'a>,
    pub(super) out: &'o mut Vec<u8>,
    /// Strings with escapes, without them.
    pub(super) scratch: Vec<u8>,
}

impl Transcoder<'_, '_> {
    /// The fields of an object; those with their default only if `is_again`: then the same message was there before, and
    /// this one may take back what that one said. `depth` counts lists and maps around it inside an attribute value.
    fn message(&mut self, message: &'static Message, is_again: bool, depth: u32) -> Read<()> {
        let depth = depth + u32::from(message.deepens);
        if depth > VALUE_DEPTH_MAX {
            return Err(self.cursor.too_deep("lists and maps in a value", VALUE_DEPTH_MAX));
        }
        if !self.cursor.take(b'{') {
            return Err(self.cursor.unexpected(format!("an object: {}", message.name)));
        }
        if self.cursor.take(b'}') {
            return Ok(());
        }
        let mut seen = 0_u32;
        let mut next = 0;
        loop {
            match self.cursor.name(message.fields, next, &mut self.scratch)? {
                Name::Known(place) => {
                    let field = &message.fields[place];
                    // A default is left out, unless it takes back what the same field said before.
                    let is_wanted = is_again || message.is_one_of || seen >> place & 1 == 1;
                    seen |= 1 << place;
                    next = place + 1;
                    if !self.cursor.take_null() {
                        self.value(field, is_wanted, depth).map_err(|error| error.in_field(field.name()))?;
                    }
                }
                Name::Unknown => self.cursor.skip_value(&mut self.scratch)?,
            }
            if !self.cursor.has_next(b'}')? {
                return Ok(());
            }
        }
    }

    /// One field; a default only if `is_wanted`.
    pub(super) fn value(&mut self, field: &'static Field, is_wanted: bool, depth: u32) -> Read<()> {
        let number = field.number;
        match field.kind {
            Kind::Text => {
                let text = self.cursor.string(&mut self.scratch)?;
                if is_wanted || !text.is_empty() {
                    write_length_field(self.out, number, text);
                }
            }
            Kind::Id(length) => self.id(number, length, is_wanted)?,
            Kind::Bytes => self.bytes(number)?,
            Kind::Bool => write_varint_field(self.out, number, u64::from(self.cursor.boolean()?)),
            Kind::Double => {
                let value = self.double()?;
                self.fixed(number, WireType::Fixed64, &value.to_le_bytes());
            }
            Kind::Int64 => {
                let value = self.integer("a whole number of 64 bits", Integer::to_i64)?;
                self.varint(number, value as u64, is_wanted);
            }
            Kind::Uint32 => {
                let value = self.integer("a whole number from 0 to 4294967295", to_u32)?;
                self.varint(number, value.into(), is_wanted);
            }
            Kind::Enum(names) => {
                let value = self.enumerated(names)?;
                // Negative numbers of an enum take ten bytes, as in protobuf.
                self.varint(number, i64::from(value) as u64, is_wanted);
            }
            Kind::Fixed32 => {
                let value = self.integer("a whole number from 0 to 4294967295", to_u32)?;
                if is_wanted || value != 0 {
                    self.fixed(number, WireType::Fixed32, &value.to_le_bytes());
                }
            }
            Kind::Fixed64 => {
                let value = self.integer(UNSIGNED, Integer::to_u64)?;
                if is_wanted || value != 0 {
                    self.fixed(number, WireType::Fixed64, &value.to_le_bytes());
                }
            }
            Kind::Sint32 => {
                let narrow = |value: Integer| value.to_i64().and_then(|value| i32::try_from(value).ok());
                let value = self.integer("a whole number of 32 bits", narrow)?;
                self.varint(number, u64::from((value << 1 ^ value >> 31) as u32), is_wanted);
            }
            Kind::SignedFixed64 => {
                let value = self.integer("a whole number of 64 bits", Integer::to_i64)?;
                self.fixed(number, WireType::Fixed64, &value.to_le_bytes());
            }
            Kind::Fixed64s => self.packed(number, |this| {
                let value = this.integer(UNSIGNED, Integer::to_u64)?;
                this.out.extend_from_slice(&value.to_le_bytes());
                Ok(())
            })?,
            Kind::Uint64s => self.packed(number, |this| {
                let value = this.integer(UNSIGNED, Integer::to_u64)?;
                write_varint(this.out, value);
                Ok(())
            })?,
            Kind::Doubles => self.packed(number, |this| {
                let value = this.double()?;
                this.out.extend_from_slice(&value.to_le_bytes());
                Ok(())
            })?,
            Kind::One(message) => self.nested(number, message, is_wanted, depth)?,
            Kind::Many(message) => self.list(number, message, depth)?,
        }
        Ok(())
    }

    fn list(&mut self, number: u32, message: &'static Message, depth: u32) -> Read<()> {
        self.cursor.expect(b'[', "a list")?;
        if self.cursor.take(b']') {
            return Ok(());
        }
        for index in 0.. {
            if self.cursor.take_null() {
                write_length_field(self.out, number, &[]);
            } else {
                self.nested(number, message, false, depth).map_err(|error| error.in_element(index))?;
            }
            if !self.cursor.has_next(b']')? {
                break;
            }
        }
        Ok(())
    }

    /// A list of numbers in one field, as `element` appends them; nothing for none.
    fn packed(&mut self, number: u32, element: impl Fn(&mut Self) -> Read<()>) -> Read<()> {
        self.cursor.expect(b'[', "a list")?;
        if self.cursor.take(b']') {
            return Ok(());
        }
        write_tag(self.out, number, WireType::Length);
        let start = self.out.len();
        self.out.push(0);
        for index in 0.. {
            element(self).map_err(|error| error.in_element(index))?;
            if !self.cursor.has_next(b']')? {
                break;
            }
        }
        fill_in_length(self.out, start, 1);
        Ok(())
    }

    /// A message with its tag and length.
    fn nested(&mut self, number: u32, message: &'static Message, is_again: bool, depth: u32) -> Read<()> {
        // Inside nested values a wrong guess would move the same bytes at every level.
        let room = if depth > 1 { LENGTH_BYTES_DEEP } else { message.length_bytes };
        write_tag(self.out, number, WireType::Length);
        let start = self.out.len();
        self.out.extend_from_slice(&[0; LENGTH_BYTES_DEEP][..room]);
        self.message(message, is_again, depth)?;
        fill_in_length(self.out, start, room);
        Ok(())
    }

    fn varint(&mut self, number: u32, value: u64, is_wanted: bool) {
        if is_wanted || value != 0 {
            write_varint_field(self.out, number, value);
        }
    }

    fn fixed(&mut self, number: u32, wire_type: WireType, bytes: &[u8]) {
        write_tag(self.out, number, wire_type);
        self.out.extend_from_slice(bytes);
    }

    /// `length` bytes in hex, or none.
    fn id(&mut self, number: u32, length: usize, is_wanted: bool) -> Read<()> {
        self.cursor.peek();
        let start = self.cursor.position();
        let text = self.cursor.string(&mut self.scratch)?;
        if text.is_empty() {
            if is_wanted {
                write_length_field(self.out, number, &[]);
            }
            return Ok(());
        }
        let mut id = [0; ID_BYTES_MAX];
        let id = &mut id[..length];
        let mut all = 0;
        for (byte, [high, low]) in id.iter_mut().zip(text.as_chunks().0) {
            let (high, low) = (HEX[usize::from(*high)], HEX[usize::from(*low)]);
            *byte = high << 4 | low & 0xf;
            all |= high | low;
        }
        if text.len() != length * 2 || all == NOT_HEX {
            let found = format!("a string of {} bytes", text.len());
            let found = if text.len() == length * 2 { "something else".to_owned() } else { found };
            return Err(self.cursor.refused(start, format!("{} hex digits or an empty string", length * 2), found));
        }
        write_length_field(self.out, number, id);
        Ok(())
    }

    /// Bytes in base64, padded or not; only in attribute values, where empty is not absent.
    fn bytes(&mut self, number: u32) -> Read<()> {
        self.cursor.peek();
        let start = self.cursor.position();
        let text = self.cursor.string(&mut self.scratch)?;
        let Some(bytes) = base64::decode(text) else {
            return Err(self.cursor.refused(start, "bytes in base64", "something else".to_owned()));
        };
        write_length_field(self.out, number, &bytes);
        Ok(())
    }

    /// A number, or a string that holds one.
    pub(super) fn integer<T>(&mut self, expected: &'static str, narrow: impl Fn(Integer) -> Option<T>) -> Read<T> {
        let next = self.cursor.peek();
        let start = self.cursor.position();
        let text = match next {
            Some(b'"') => {
                let text = self.cursor.string(&mut self.scratch)?;
                if number::length(text) == Some(text.len()) { text } else { &[] }
            }
            Some(b'-' | b'0'..=b'9') => self.cursor.number()?,
            _ => return Err(self.cursor.unexpected_at(start, expected)),
        };
        let value = number::integer(text).and_then(narrow);
        value.ok_or_else(|| self.cursor.unexpected_at(start, expected))
    }

    fn enumerated(&mut self, names: &'static [&'static str]) -> Read<i32> {
        const EXPECTED: &str = "a whole number of 32 bits or the name of a value";
        let narrow = |value: Integer| value.to_i64().and_then(|value| i32::try_from(value).ok());
        if self.cursor.peek() != Some(b'"') {
            return self.integer(EXPECTED, narrow);
        }
        let start = self.cursor.position();
        let text = self.cursor.string(&mut self.scratch)?;
        if let Some(value) = names.iter().position(|name| name.as_bytes() == text) {
            return Ok(value as i32);
        }
        let number = Some(text).filter(|text| number::length(text) == Some(text.len()));
        let value = number.and_then(number::integer).and_then(narrow);
        value.ok_or_else(|| self.cursor.unexpected_at(start, EXPECTED))
    }

    pub(super) fn double(&mut self) -> Read<f64> {
        const EXPECTED: &str = "a number that fits a double, \"NaN\", \"Infinity\" or \"-Infinity\"";
        let next = self.cursor.peek();
        let start = self.cursor.position();
        let text = match next {
            Some(b'"') => match self.cursor.string(&mut self.scratch)? {
                b"NaN" => return Ok(f64::NAN),
                b"Infinity" => return Ok(f64::INFINITY),
                b"-Infinity" => return Ok(f64::NEG_INFINITY),
                text if number::length(text) == Some(text.len()) => text,
                _ => &[],
            },
            Some(b'-' | b'0'..=b'9') => self.cursor.number()?,
            _ => &[],
        };
        number::double(text).ok_or_else(|| self.cursor.unexpected_at(start, EXPECTED))
    }
}

pub(super) const UNSIGNED: &str = "a whole number from 0 to 18446744073709551615";

fn to_u32(value: Integer) -> Option<u32> {
    value.to_u64().and_then(|value| u32::try_from(value).ok())
}

/// Room left for the length of a message deep inside a value; enough for 256 MiB.
pub(super) const LENGTH_BYTES_DEEP: usize = 4;

/// Writes the length of the message that ends `out` into the `room` bytes left for it at `start`. Room that is too small
/// moves the message; room that is too large moves a short message and is filled with a longer form of the number, which
/// protobuf allows, before a long one.
#[inline]
pub(super) fn fill_in_length(out: &mut Vec<u8>, start: usize, room: usize) {
    let body = start + room;
    let length = out.len() - body;
    let needed = varint_length(length as u64);
    let taken = if needed < room && length >= 0x80 { room } else { needed };
    if taken > room {
        let end = out.len();
        out.resize(end + taken - room, 0);
        out.copy_within(body..end, start + taken);
    } else if taken < room {
        out.copy_within(body.., start + taken);
        out.truncate(out.len() - (room - taken));
    }
    let mut rest = length;
    for (place, byte) in out[start..start + taken].iter_mut().enumerate() {
        let more = place + 1 < taken;
        *byte = (rest & 0x7f) as u8 | if more { 0x80 } else { 0 };
        rest >>= 7;
    }
    debug_assert_eq!(rest, 0, "the whole length is written");
}

/// Longest id: a trace id.
const ID_BYTES_MAX: usize = 16;

/// In [`HEX`]: no hex digit. Its bits survive an or with any digit.
const NOT_HEX: u8 = 0xff;

/// The value of each byte as a hex digit.
static HEX: [u8; 256] = {
    let mut table = [NOT_HEX; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            digit @ b'0'..=b'9' => digit - b'0',
            digit @ b'a'..=b'f' => digit - b'a' + 10,
            digit @ b'A'..=b'F' => digit - b'A' + 10,
            _ => NOT_HEX,
        };
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::super::cursor::hex_digit;
    use super::*;

    #[test]
    fn the_hex_table_knows_both_cases() {
        for byte in 0..=255_u8 {
            assert_eq!(HEX[usize::from(byte)], hex_digit(byte).unwrap_or(NOT_HEX));
        }
    }

    #[test]
    fn a_length_is_filled_in_whatever_room_was_left() {
        for room in 1..=LENGTH_BYTES_DEEP {
            for length in [0, 1, 127, 128, 16_383, 16_384, 2_097_152] {
                let mut out = b"kept".to_vec();
                out.extend(vec![0; room]);
                out.extend((0..length).map(|index| index as u8));
                fill_in_length(&mut out, 4, room);
                let mut reader = crate::wire::Reader::from("test", &out, 4);
                let range = reader.length_delimited().unwrap();
                assert_eq!(range.len(), length, "room for {room}");
                assert_eq!(range.end, out.len());
                assert!(out[range].iter().enumerate().all(|(index, byte)| *byte == index as u8));
            }
        }
    }
}
