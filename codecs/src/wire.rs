//! The protobuf wire format: reading with offsets, and the few writers we need.
//!
//! The one idea: a message is a slice of the *whole* input that ends where the message ends, plus a position. Offsets in
//! errors are then those of the whole input, at no cost, and no read can leave its message. Reading never allocates and
//! never panics, whatever the bytes.

use std::{fmt, ops::Range};

/// How deep unknown groups may nest. Groups were deprecated before OTLP existed; the bound only protects the stack.
pub const GROUP_DEPTH_MAX: u32 = 32;

/// Longest varint: 64 bits in groups of 7.
const VARINT_BYTES_MAX: usize = 10;

/// The wire types of the protobuf encoding guide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireType {
    /// Base-128 integer of at most 64 bits.
    Varint,
    /// 8 bytes, little endian.
    Fixed64,
    /// A varint length and that many bytes.
    Length,
    /// Start of a group (deprecated, still legal).
    GroupStart,
    /// End of a group.
    GroupEnd,
    /// 4 bytes, little endian.
    Fixed32,
}

impl fmt::Display for WireType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Varint => "varint",
            Self::Fixed64 => "fixed64",
            Self::Length => "length-delimited",
            Self::GroupStart => "group start",
            Self::GroupEnd => "group end",
            Self::Fixed32 => "fixed32",
        })
    }
}

/// What is wrong with the bytes; shown to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The message ends inside a number.
    #[error("the message ends in the middle of a field")]
    Truncated,
    /// A varint with more than 10 bytes, or with more than 64 bits in 10 bytes.
    #[error("a varint is longer than 64 bits")]
    VarintTooLong,
    /// Field number 0, which protobuf does not have.
    #[error("field number 0 does not exist")]
    FieldZero,
    /// A tag above 32 bits.
    #[error("a field number is above 536870911")]
    FieldTooLarge,
    /// Wire type 6 or 7.
    #[error("wire type {0} does not exist")]
    WireTypeUnknown(u8),
    /// A field we know, encoded as something else.
    #[error("{field} is encoded as {found}, expected {expected}")]
    WireType {
        /// The field's name in the `.proto` file.
        field: &'static str,
        /// What the tag says.
        found: WireType,
        /// What the `.proto` file says.
        expected: WireType,
    },
    /// A length that leaves its message.
    #[error("a length of {length} bytes runs past the end, {left} are left")]
    LengthPastEnd {
        /// The length as written.
        length: u64,
        /// Bytes left in the enclosing message.
        left: usize,
    },
    /// An id of a size that OTLP does not have.
    #[error("{field} has {length} bytes, expected {expected} or 0")]
    IdLength {
        /// `trace_id`, `span_id` or `parent_span_id`.
        field: &'static str,
        /// Bytes found.
        length: usize,
        /// 16 or 8.
        expected: usize,
    },
    /// More nesting than the bound named in the message.
    #[error("nested deeper than {0} levels")]
    TooDeep(u32),
    /// A group that ends without a start, or with another number.
    #[error("a group ends that was not started")]
    GroupEnd,
    /// The input is larger than offsets can name.
    #[error("the request with its neighbours exceeds 4 GiB")]
    TooLarge,
}

/// Bytes that are not what they claim to be: where, in which message, and what is wrong, in words for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{within}: {what} at byte {offset}")]
pub struct Malformed {
    /// Byte of the whole input at which reading stumbled.
    pub offset: usize,
    /// The message that was being read, such as `span`.
    pub within: &'static str,
    /// What is wrong.
    pub what: Fault,
}

/// A field's number and encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Field number, 1 to 536870911.
    pub number: u32,
    /// How the value is encoded.
    pub wire_type: WireType,
    /// Where the tag starts in the whole input.
    pub offset: usize,
}

/// Reads the fields of one message.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    /// The whole input up to the end of this message.
    bytes: &'a [u8],
    position: usize,
    /// The message's name, for errors.
    within: &'static str,
}

impl<'a> Reader<'a> {
    /// A reader of the message called `within` that fills `bytes`.
    #[must_use]
    pub fn new(within: &'static str, bytes: &'a [u8]) -> Self {
        Self::from(within, bytes, 0)
    }

    /// A reader of the message that starts at `position` of `bytes` and ends where `bytes` ends.
    #[must_use]
    pub fn from(within: &'static str, bytes: &'a [u8], position: usize) -> Self {
        debug_assert!(position <= bytes.len(), "a message starts inside its input");
        Self { bytes, position, within }
    }

    /// A reader of the message in `range`, as returned by this reader; offsets stay those of the whole input.
    #[must_use]
    pub fn nested(&self, within: &'static str, range: Range<usize>) -> Self {
        Self::from(within, &self.bytes[..range.end], range.start)
    }

    /// The next byte to be read, counted from the start of the whole input.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }

    /// The bytes of `range`, as returned by this reader.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> &'a [u8] {
        &self.bytes[range]
    }

    /// What is left of the message.
    #[inline]
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.position..]
    }

    /// Goes on where `rest`, an end of [`Reader::rest`], begins: the caller has checked what is before it.
    #[inline]
    pub fn continue_with(&mut self, rest: &[u8]) {
        debug_assert!(rest.len() <= self.bytes.len() - self.position, "a reader never goes back");
        self.position = self.bytes.len() - rest.len();
    }

    /// The next field's tag; `None` at the end of the message.
    ///
    /// # Errors
    /// Field number 0 or above 2^29 - 1, an unknown wire type, a broken varint.
    #[inline]
    pub fn tag(&mut self) -> Result<Option<Tag>, Malformed> {
        if self.position == self.bytes.len() {
            return Ok(None);
        }
        let offset = self.position;
        let key = self.varint()?;
        let wire_type = match key & 7 {
            0 => WireType::Varint,
            1 => WireType::Fixed64,
            2 => WireType::Length,
            3 => WireType::GroupStart,
            4 => WireType::GroupEnd,
            5 => WireType::Fixed32,
            other => return Err(self.fault_at(offset, Fault::WireTypeUnknown(other as u8))),
        };
        let Ok(number) = u32::try_from(key).map(|key| key >> 3) else {
            return Err(self.fault_at(offset, Fault::FieldTooLarge));
        };
        if number == 0 {
            return Err(self.fault_at(offset, Fault::FieldZero));
        }
        Ok(Some(Tag { number, wire_type, offset }))
    }

    /// Steps over `tag`, a whole tag of one byte, if it is what comes next: the short way for a field that repeats.
    #[inline]
    pub fn take_tag(&mut self, tag: u8) -> bool {
        let is_next = self.bytes.get(self.position) == Some(&tag);
        self.position += usize::from(is_next);
        is_next
    }

    /// A varint value.
    ///
    /// # Errors
    /// The message ends first, or the value has more than 64 bits.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        match &self.bytes[self.position..] {
            [byte, ..] if *byte < 0x80 => {
                self.position += 1;
                Ok(u64::from(*byte))
            }
            // Lengths of spans mostly take two bytes.
            [low, high, ..] if *high < 0x80 => {
                self.position += 2;
                Ok(u64::from(*low & 0x7f) | u64::from(*high) << 7)
            }
            _ => self.varint_long(),
        }
    }

    #[inline(never)]
    fn varint_long(&mut self) -> Result<u64, Malformed> {
        let start = self.position;
        let mut value = 0_u64;
        for (index, &byte) in self.bytes[start..].iter().take(VARINT_BYTES_MAX).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                // The tenth byte holds the 64th bit only.
                if index == VARINT_BYTES_MAX - 1 && byte > 1 {
                    break;
                }
                self.position = start + index + 1;
                return Ok(value);
            }
        }
        let fault = if self.bytes.len() - start < VARINT_BYTES_MAX { Fault::Truncated } else { Fault::VarintTooLong };
        Err(self.fault_at(start, fault))
    }

    /// A fixed 32-bit value.
    ///
    /// # Errors
    /// The message ends first.
    #[inline]
    pub fn fixed32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.fixed()?))
    }

    /// A fixed 64-bit value.
    ///
    /// # Errors
    /// The message ends first.
    #[inline]
    pub fn fixed64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.fixed()?))
    }

    #[inline]
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        match self.bytes[self.position..].first_chunk::<N>() {
            Some(chunk) => {
                self.position += N;
                Ok(*chunk)
            }
            None => Err(self.fault_at(self.position, Fault::Truncated)),
        }
    }

    /// The range of a length-delimited value in the whole input.
    ///
    /// # Errors
    /// The length is broken or leaves the message.
    #[inline]
    pub fn length_delimited(&mut self) -> Result<Range<usize>, Malformed> {
        let offset = self.position;
        let length = self.varint()?;
        let left = self.bytes.len() - self.position;
        match usize::try_from(length) {
            Ok(length) if length <= left => {
                let start = self.position;
                self.position += length;
                Ok(start..self.position)
            }
            _ => Err(self.fault_at(offset, Fault::LengthPastEnd { length, left })),
        }
    }

    /// Checks the known field `field`, which must be encoded as `expected`, and steps over it.
    ///
    /// # Errors
    /// Another wire type, or a broken value.
    #[inline]
    pub fn check_field(&mut self, tag: Tag, field: &'static str, expected: WireType) -> Result<(), Malformed> {
        self.expect(tag, field, expected)?;
        // The caller's constant: only its own way is left of the choice.
        match expected {
            WireType::Length => self.length_delimited().map(|_| ()),
            _ => self.skip(tag),
        }
    }

    /// The range of the known field `field`, which must be length-delimited.
    ///
    /// # Errors
    /// Another wire type, or a length that leaves the message.
    #[inline]
    pub fn length_field(&mut self, tag: Tag, field: &'static str) -> Result<Range<usize>, Malformed> {
        self.expect(tag, field, WireType::Length)?;
        self.length_delimited()
    }

    /// The value of the known field `field`, which must be a varint.
    ///
    /// # Errors
    /// Another wire type, or a broken varint.
    #[inline]
    pub fn varint_field(&mut self, tag: Tag, field: &'static str) -> Result<u64, Malformed> {
        self.expect(tag, field, WireType::Varint)?;
        self.varint()
    }

    /// The value of the known field `field`, which must be a fixed64.
    ///
    /// # Errors
    /// Another wire type, or the message ends first.
    #[inline]
    pub fn fixed64_field(&mut self, tag: Tag, field: &'static str) -> Result<u64, Malformed> {
        self.expect(tag, field, WireType::Fixed64)?;
        self.fixed64()
    }

    /// The value of the known field `field`, which must be a fixed32.
    ///
    /// # Errors
    /// Another wire type, or the message ends first.
    #[inline]
    pub fn fixed32_field(&mut self, tag: Tag, field: &'static str) -> Result<u32, Malformed> {
        self.expect(tag, field, WireType::Fixed32)?;
        self.fixed32()
    }

    #[inline]
    fn expect(&self, tag: Tag, field: &'static str, expected: WireType) -> Result<(), Malformed> {
        if tag.wire_type == expected {
            return Ok(());
        }
        Err(self.fault_at(tag.offset, Fault::WireType { field, found: tag.wire_type, expected }))
    }

    /// Steps over the value of any field.
    ///
    /// # Errors
    /// The value is broken, leaves the message, or nests groups deeper than [`GROUP_DEPTH_MAX`].
    #[inline]
    pub fn skip(&mut self, tag: Tag) -> Result<(), Malformed> {
        match tag.wire_type {
            WireType::Varint => self.varint().map(|_| ()),
            WireType::Fixed64 => self.fixed64().map(|_| ()),
            WireType::Fixed32 => self.fixed32().map(|_| ()),
            WireType::Length => self.length_delimited().map(|_| ()),
            WireType::GroupStart => self.skip_group(tag.number),
            WireType::GroupEnd => Err(self.fault_at(tag.offset, Fault::GroupEnd)),
        }
    }

    /// Groups nest; the open ones' numbers are kept in a fixed array, so that depth costs no stack.
    fn skip_group(&mut self, number: u32) -> Result<(), Malformed> {
        let mut open = [0_u32; GROUP_DEPTH_MAX as usize];
        open[0] = number;
        let mut depth = 1;
        while depth > 0 {
            let Some(tag) = self.tag()? else {
                return Err(self.fault_at(self.position, Fault::Truncated));
            };
            match tag.wire_type {
                WireType::GroupStart if depth == open.len() => {
                    return Err(self.fault_at(tag.offset, Fault::TooDeep(GROUP_DEPTH_MAX)));
                }
                WireType::GroupStart => {
                    open[depth] = tag.number;
                    depth += 1;
                }
                WireType::GroupEnd if open[depth - 1] == tag.number => depth -= 1,
                _ => self.skip(tag)?,
            }
        }
        Ok(())
    }

    /// The error for `fault` at `offset` of the whole input.
    #[cold]
    #[must_use]
    pub fn fault_at(&self, offset: usize, what: Fault) -> Malformed {
        Malformed { offset, within: self.within, what }
    }
}

/// Bytes that `value` takes as a varint, 1 to 10.
#[inline]
#[must_use]
pub const fn varint_length(value: u64) -> usize {
    // Each 7 bits take a byte: ceil(bits / 7), with 64 / 9 as a close enough fraction for 1..=64 bits.
    let bits = 64 - (value | 1).leading_zeros() as usize;
    (bits * 9 + 64) / 64
}

/// Bytes that a length-delimited field takes with its tag.
#[inline]
#[must_use]
pub const fn length_field_length(number: u32, body_length: usize) -> usize {
    varint_length((number as u64) << 3) + varint_length(body_length as u64) + body_length
}

/// Appends `value` as a varint.
#[inline]
pub fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends the tag of field `number`.
#[inline]
pub fn write_tag(out: &mut Vec<u8>, number: u32, wire_type: WireType) {
    let wire_type = match wire_type {
        WireType::Varint => 0,
        WireType::Fixed64 => 1,
        WireType::Length => 2,
        WireType::GroupStart => 3,
        WireType::GroupEnd => 4,
        WireType::Fixed32 => 5,
    };
    write_varint(out, u64::from(number) << 3 | wire_type);
}

/// Appends tag and length of a length-delimited field whose `body_length` bytes follow.
#[inline]
pub fn write_length_prefix(out: &mut Vec<u8>, number: u32, body_length: usize) {
    write_tag(out, number, WireType::Length);
    write_varint(out, body_length as u64);
}

/// Appends a whole length-delimited field.
#[inline]
pub fn write_length_field(out: &mut Vec<u8>, number: u32, body: &[u8]) {
    write_length_prefix(out, number, body.len());
    out.extend_from_slice(body);
}

/// Appends a whole varint field.
#[inline]
pub fn write_varint_field(out: &mut Vec<u8>, number: u32, value: u64) {
    write_tag(out, number, WireType::Varint);
    write_varint(out, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_skip(bytes: &[u8], expected: Result<usize, Fault>) {
        let mut reader = Reader::new("test", bytes);
        let found = (|| {
            while let Some(tag) = reader.tag()? {
                reader.skip(tag)?;
            }
            Ok(reader.position())
        })();
        assert_eq!(found.map_err(|error: Malformed| error.what), expected, "{bytes:02x?}");
    }

    #[test]
    fn varints_survive_the_round_trip_and_their_length_is_known() {
        let edges = (0..64).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        for value in edges.chain([u64::MAX]) {
            let mut bytes = Vec::new();
            write_varint(&mut bytes, value);
            assert_eq!(bytes.len(), varint_length(value), "{value}");
            assert_eq!(Reader::new("test", &bytes).varint(), Ok(value));
        }
    }

    #[test]
    fn varints_beyond_64_bits_are_malformed() {
        let mut bytes = [0xff_u8; 11];
        for last in 0..=0x7f {
            bytes[9] = last;
            let found = Reader::new("test", &bytes[..10]).varint();
            assert_eq!(found.is_ok(), last <= 1, "tenth byte {last}");
        }
        bytes[9] = 0x80;
        bytes[10] = 0;
        let error = Reader::new("test", &bytes).varint().unwrap_err();
        assert_eq!(error.what, Fault::VarintTooLong);
    }

    #[test]
    fn unknown_fields_of_every_wire_type_are_stepped_over() {
        check_skip(&[0x08, 0x96, 0x01], Ok(3));
        check_skip(&[0x09, 1, 2, 3, 4, 5, 6, 7, 8], Ok(9));
        check_skip(&[0x0a, 2, 0xff, 0xff], Ok(4));
        check_skip(&[0x0d, 1, 2, 3, 4], Ok(5));
        check_skip(&[0x0b, 0x13, 0x18, 1, 0x14, 0x0c], Ok(6));
    }

    #[test]
    fn broken_fields_are_named() {
        check_skip(&[0x00, 0], Err(Fault::FieldZero));
        check_skip(&[0x0e], Err(Fault::WireTypeUnknown(6)));
        check_skip(&[0x0f], Err(Fault::WireTypeUnknown(7)));
        check_skip(&[0x80, 0x80, 0x80, 0x80, 0x10, 0], Err(Fault::FieldTooLarge));
        check_skip(&[0x08], Err(Fault::Truncated));
        check_skip(&[0x09, 1, 2], Err(Fault::Truncated));
        check_skip(&[0x0a, 3, 1], Err(Fault::LengthPastEnd { length: 3, left: 1 }));
        check_skip(&[0x0c], Err(Fault::GroupEnd));
        check_skip(&[0x0b, 0x14], Err(Fault::GroupEnd));
        check_skip(&[0x0b], Err(Fault::Truncated));
    }

    #[test]
    fn groups_nest_up_to_the_bound() {
        let nested = |depth: usize| [vec![0x0b; depth], vec![0x0c; depth]].concat();
        let bound = GROUP_DEPTH_MAX as usize;
        check_skip(&nested(bound), Ok(2 * bound));
        check_skip(&nested(bound + 1), Err(Fault::TooDeep(GROUP_DEPTH_MAX)));
        check_skip(&vec![0x0b; 1 << 20], Err(Fault::TooDeep(GROUP_DEPTH_MAX)));
    }

    #[test]
    fn errors_read_like_sentences() {
        let bytes = [0x12, 0x05, 0x0a, 0x7f];
        let error = Reader::new("scope", &bytes).tag().and_then(|tag| {
            let mut reader = Reader::from("scope", &bytes, 1);
            reader.length_field(tag.expect("one field"), "name")
        });
        assert_eq!(
            error.unwrap_err().to_string(),
            "scope: a length of 5 bytes runs past the end, 2 are left at byte 1"
        );
    }
}
