//! A place in JSON text: steps over tokens, hands out strings and numbers, says what it stumbled at.
//!
//! Never recurses and never allocates but for a string with escapes, which goes to the caller's scratch.

use super::error::JsonError;
use super::number;
use super::schema::Field;

type Read<T> = Result<T, Box<JsonError>>;

/// How deep values that OTLP does not know may nest; one bit each.
pub(super) const UNKNOWN_DEPTH_MAX: u32 = u128::BITS;

/// Characters of one number; what is exact of a double has fewer than 800. A number is read in one go, so this bounds how
/// long that takes: a millisecond or two.
const NUMBER_BYTES_MAX: usize = 2 << 20;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    json: &'a [u8],
    position: usize,
}

/// A value that is being stepped over: the open objects and lists are bits of a number, so that depth costs no stack.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Skip {
    /// The innermost last, 1 for an object.
    open: u128,
    depth: u32,
}

/// What a field's name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// The field with this place in the table.
    Known(usize),
    /// No field's.
    Unknown,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(json: &'a [u8]) -> Self {
        Self { json, position: 0 }
    }

    fn rest(&self) -> &'a [u8] {
        &self.json[self.position..]
    }

    /// The next byte that is no white space, without stepping over it.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        while let Some(&byte) = self.json.get(self.position) {
            if byte > b' ' {
                return Some(byte);
            }
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
            self.position += 1;
        }
        None
    }

    /// Steps over `byte` if it is next.
    #[inline]
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.position += usize::from(is_next);
        is_next
    }

    /// Steps over `null` if it is next.
    #[inline]
    pub(super) fn take_null(&mut self) -> bool {
        let is_next = self.peek() == Some(b'n') && self.rest().starts_with(b"null");
        self.position += if is_next { 4 } else { 0 };
        is_next
    }

    /// Steps over `byte`.
    #[inline]
    pub(super) fn expect(&mut self, byte: u8, expected: &'static str) -> Read<()> {
        if self.take(byte) { Ok(()) } else { Err(self.unexpected(expected)) }
    }

    /// Nothing but white space may follow.
    pub(super) fn expect_end(&mut self) -> Read<()> {
        if self.peek().is_none() { Ok(()) } else { Err(self.unexpected("the end of the body")) }
    }

    /// After an element of an object or list that ends with `close`: whether another follows.
    #[inline]
    pub(super) fn has_next(&mut self, close: u8) -> Read<bool> {
        match self.peek() {
            Some(b',') => {
                self.position += 1;
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.position += 1;
                Ok(false)
            }
            _ => Err(self.unexpected(if close == b'}' { "`,` or `}`" } else { "`,` or `]`" })),
        }
    }

    /// The name of a field and the colon behind it. Looks first at the field numbered `next`, then at those after it: one
    /// comparison finds a field that stands where it usually does.
    #[inline]
    pub(super) fn name(&mut self, fields: &'static [Field], next: usize, scratch: &mut Vec<u8>) -> Read<Name> {
        let name = match self.peek() {
            Some(b'"') => {
                let rest = &self.json[self.position + 1..];
                let (before, after) = fields.split_at(next.min(fields.len()));
                let is_here = |field: &Field| rest.starts_with(field.quoted.as_bytes());
                let found = after.iter().position(is_here).map(|place| before.len() + place);
                match found.or_else(|| before.iter().position(is_here)) {
                    Some(place) => {
                        self.position += 1 + fields[place].quoted.len();
                        Name::Known(place)
                    }
                    None => self.unusual_name(fields, scratch)?,
                }
            }
            _ => return Err(self.unexpected("a field's name in quotes")),
        };
        self.expect(b':', "`:`")?;
        Ok(name)
    }

    /// A name as the `.proto` file has it, one with escapes, or an unknown one.
    fn unusual_name(&mut self, fields: &'static [Field], scratch: &mut Vec<u8>) -> Read<Name> {
        let name = self.string(scratch)?;
        let found =
            fields.iter().position(|field| name == field.original.as_bytes() || name == field.name().as_bytes());
        Ok(found.map_or(Name::Unknown, Name::Known))
    }

    /// A string's bytes: those of the body, or in `scratch` where it has escapes.
    #[inline]
    pub(super) fn string<'s>(&mut self, scratch: &'s mut Vec<u8>) -> Read<&'s [u8]>
    where
        'a: 's,
    {
        self.expect(b'"', "a string")?;
        let rest = self.rest();
        let length = plain_length(rest);
        if rest.get(length) == Some(&b'"') {
            self.position += length + 1;
            return Ok(&rest[..length]);
        }
        self.string_with_escapes(scratch)?;
        Ok(scratch)
    }

    /// The rest of a string, up to and with its closing quote.
    fn string_with_escapes(&mut self, scratch: &mut Vec<u8>) -> Read<()> {
        scratch.clear();
        loop {
            let rest = self.rest();
            let length = plain_length(rest);
            scratch.extend_from_slice(&rest[..length]);
            self.position += length;
            match rest.get(length) {
                Some(b'"') => {
                    self.position += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape(scratch)?,
                None => return Err(self.unexpected("`\"` at the end of a string")),
                Some(_) => return Err(self.unexpected("an escape such as `\\n` inside a string")),
            }
        }
    }

    fn escape(&mut self, scratch: &mut Vec<u8>) -> Read<()> {
        let escaped = match self.json.get(self.position + 1) {
            Some(byte @ (b'"' | b'\\' | b'/')) => *byte,
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => return self.unicode_escape(scratch),
            _ => {
                self.position += 1;
                return Err(self.unexpected("one of `\"\\/bfnrtu` after a backslash"));
            }
        };
        scratch.push(escaped);
        self.position += 2;
        Ok(())
    }

    /// `\uXXXX`, or two of them for a character beyond 16 bits. A half that has lost the other becomes the replacement
    /// character: JavaScript writes such text, and a span is worth more than its last letter.
    fn unicode_escape(&mut self, scratch: &mut Vec<u8>) -> Read<()> {
        let Some(unit) = hex_unit(self.rest()) else {
            self.position += 1;
            return Err(self.unexpected("`u` and four hex digits after a backslash"));
        };
        self.position += 6;
        let mut code = u32::from(unit);
        if (0xd800..0xdc00).contains(&code)
            && let Some(low) = hex_unit(self.rest()).filter(|low| (0xdc00..0xe000).contains(low))
        {
            self.position += 6;
            code = 0x1_0000 + ((code - 0xd800) << 10) + (u32::from(low) - 0xdc00);
        }
        let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
        scratch.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(())
    }

    /// The text of a number.
    #[inline]
    pub(super) fn number(&mut self) -> Read<&'a [u8]> {
        let start = self.position;
        let rest = self.rest();
        // One character more than allowed tells "the longest" from "longer".
        match number::length(&rest[..rest.len().min(NUMBER_BYTES_MAX + 1)]) {
            Some(length) if length > NUMBER_BYTES_MAX => {
                let expected = format!("a number of at most {NUMBER_BYTES_MAX} characters");
                Err(JsonError::new(self.json, start, expected, self.found_at(start)))
            }
            Some(length) => {
                self.position += length;
                Ok(&self.json[start..self.position])
            }
            None => Err(JsonError::new(self.json, start, "a number as JSON writes it", self.found_at(start))),
        }
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self) -> Read<bool> {
        self.peek();
        for (text, value) in [("true", true), ("false", false)] {
            if self.rest().starts_with(text.as_bytes()) {
                self.position += text.len();
                return Ok(value);
            }
        }
        Err(self.unexpected("`true` or `false`"))
    }

    /// Steps over any value.
    pub(super) fn skip_value(&mut self, scratch: &mut Vec<u8>) -> Read<()> {
        let is_over = self.skip_until(&mut Skip::default(), usize::MAX, scratch)?;
        debug_assert!(is_over, "nothing stopped it");
        Ok(())
    }

    /// Steps over any value, or over as much of it as ends at `end` or begins before; whether it is over.
    pub(super) fn skip_until(&mut self, skip: &mut Skip, end: usize, scratch: &mut Vec<u8>) -> Read<bool> {
        let Skip { mut open, mut depth } = *skip;
        loop {
            if self.position >= end {
                *skip = Skip { open, depth };
                return Ok(false);
            }
            match self.peek() {
                Some(byte @ (b'{' | b'[')) => {
                    if depth == UNKNOWN_DEPTH_MAX {
                        return Err(self.too_deep("values of unknown fields", UNKNOWN_DEPTH_MAX));
                    }
                    self.position += 1;
                    let is_object = byte == b'{';
                    if !self.take(if is_object { b'}' } else { b']' }) {
                        open = open << 1 | u128::from(is_object);
                        depth += 1;
                        if is_object {
                            self.skip_name(scratch)?;
                        }
                        continue;
                    }
                }
                Some(b'"') => {
                    self.string(scratch)?;
                }
                Some(b'-' | b'0'..=b'9') => {
                    self.number()?;
                }
                Some(b't' | b'f') => {
                    self.boolean()?;
                }
                _ if self.take_null() => {}
                _ => return Err(self.unexpected("a value")),
            }
            loop {
                if depth == 0 {
                    return Ok(true);
                }
                let is_object = open & 1 == 1;
                if self.has_next(if is_object { b'}' } else { b']' })? {
                    if is_object {
                        self.skip_name(scratch)?;
                    }
                    break;
                }
                open >>= 1;
                depth -= 1;
            }
        }
    }

    fn skip_name(&mut self, scratch: &mut Vec<u8>) -> Read<()> {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("a field's name in quotes"));
        }
        self.string(scratch)?;
        self.expect(b':', "`:`")
    }

    /// Where the cursor stands.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// The error for what stands next.
    #[cold]
    pub(super) fn unexpected(&mut self, expected: impl Into<String>) -> Box<JsonError> {
        self.unexpected_at(self.position, expected)
    }

    /// The error for what stands at `offset`.
    #[cold]
    pub(super) fn unexpected_at(&self, offset: usize, expected: impl Into<String>) -> Box<JsonError> {
        JsonError::new(self.json, offset, expected, self.found_at(offset))
    }

    /// The error for what was read from `offset` on and is called `found`.
    #[cold]
    pub(super) fn refused(&self, offset: usize, expected: impl Into<String>, found: String) -> Box<JsonError> {
        JsonError::new(self.json, offset, expected, found)
    }

    /// The error for one level too many.
    #[cold]
    pub(super) fn too_deep(&self, what: &str, depth_max: u32) -> Box<JsonError> {
        let expected = format!("{what} nested at most {depth_max} deep");
        JsonError::new(self.json, self.position, expected, "one level more".to_owned())
    }

    /// What stands at `offset`, in a few words.
    fn found_at(&self, offset: usize) -> String {
        let Some(&byte) = self.json.get(offset) else {
            return "the end of the body".to_owned();
        };
        match byte {
            b'{' => "an object".to_owned(),
            b'[' => "a list".to_owned(),
            b'"' => "a string".to_owned(),
            b'-' | b'0'..=b'9' => {
                let text = &self.json[offset..self.json.len().min(offset + 41)];
                let end = text.iter().position(|byte| !matches!(byte, b'-' | b'+' | b'.' | b'0'..=b'9' | b'e' | b'E'));
                let text = &text[..end.unwrap_or(text.len())];
                if text.len() <= 40 { format!("`{}`", text.escape_ascii()) } else { "a long number".to_owned() }
            }
            b'a'..=b'z' | b'A'..=b'Z' => {
                let word = self.json[offset..].iter().take(12).take_while(|byte| byte.is_ascii_alphanumeric());
                format!("`{}`", word.map(|&byte| char::from(byte)).collect::<String>())
            }
            b'!'..=b'~' => format!("`{}`", char::from(byte)),
            _ => format!("byte {byte:#04x}"),
        }
    }
}

/// The 16 bits of a `\uXXXX` at the front.
fn hex_unit(text: &[u8]) -> Option<u16> {
    let [b'\\', b'u', digits @ ..] = text else { return None };
    let digits = digits.first_chunk::<4>()?;
    digits.iter().try_fold(0_u16, |value, &digit| Some(value << 4 | u16::from(hex_digit(digit)?)))
}

/// The value of a hex digit in any case.
pub(super) fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// Bytes at the front of `text` that stand for themselves in a string: no quote, no backslash, no control character.
///
/// Eight bytes at a time: a byte of a word becomes zero where it is the one looked for, and `(x - 1) & !x` has its high
/// bit set where `x` is zero; a borrow makes mistakes only above the first hit, and the lowest is taken.
#[inline]
fn plain_length(text: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let below = |word: u64, bound: u8| word.wrapping_sub(ONES * u64::from(bound)) & !word & HIGHS;
    let mut at = 0;
    while let Some(chunk) = text[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let quotes = below(word ^ (ONES * u64::from(b'"')), 1);
        let backslashes = below(word ^ (ONES * u64::from(b'\\')), 1);
        let found = quotes | backslashes | below(word, b' ');
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    text[at..].iter().position(is_special).map_or(text.len(), |place| at + place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_ends_at_the_first_special_byte_wherever_it_stands() {
        for special in 0..=255_u8 {
            for at in 0..20 {
                for behind in [b'"', b'x', 0x1f, 0xff] {
                    let mut text = vec![b'a'; at];
                    text.push(special);
                    text.extend([behind; 9]);
                    let expected = text.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
                    assert_eq!(plain_length(&text), expected.unwrap_or(text.len()), "{text:?}");
                }
            }
        }
    }

    fn check_string(json: &str, expected: Option<&[u8]>) {
        let mut scratch = Vec::new();
        let mut cursor = Cursor::new(json.as_bytes());
        assert_eq!(cursor.string(&mut scratch).ok(), expected, "{json}");
    }

    #[test]
    fn strings_are_unescaped() {
        check_string(r#""plain""#, Some(b"plain"));
        check_string(r#"" a \"b\" \\ \/ \b\f\n\r\t""#, Some(b" a \"b\" \\ / \x08\x0c\n\r\t"));
        check_string(r#""\u00e9\u20AC\ud83d\ude00""#, Some("é€😀".as_bytes()));
        check_string(r#""\ud83d!\ude00""#, Some("\u{fffd}!\u{fffd}".as_bytes()));
        check_string(r#""\ud83d\u0041""#, Some("\u{fffd}A".as_bytes()));
        for broken in [r#"""#, r#""\"#, r#""\x""#, r#""\u12""#, r#""\u12g4""#, "\"line\nend\"", "plain", r#""open"#] {
            check_string(broken, None);
        }
    }

    #[test]
    fn any_value_is_stepped_over_up_to_the_bound() {
        let skip = |json: &str| {
            let mut cursor = Cursor::new(json.as_bytes());
            cursor.skip_value(&mut Vec::new()).and_then(|()| cursor.expect_end()).map_err(|error| error.to_string())
        };
        for json in ["1", " null ", "[]", "{}", r#"{"a":[1,{"b":null},[]],"c":{}}"#, r#"[true,false,"x\n",-1.5e3]"#] {
            assert_eq!(skip(json), Ok(()), "{json}");
        }
        for json in ["", "[", "[1", "[1,", "[,]", "[1]]", "{1:2}", r#"{"a"}"#, r#"{"a":}"#, r#"{"a":1,}"#, "nul", "[}"]
        {
            assert!(skip(json).is_err(), "{json}");
        }
        let nested = |depth: usize| ["[".repeat(depth), "]".repeat(depth)].concat();
        assert_eq!(skip(&nested(128)), Ok(()));
        assert_eq!(
            skip(&nested(129)).unwrap_err(),
            "expected values of unknown fields nested at most 128 deep, found one level more at line 1, column 129 (byte 128)"
        );
        assert!(skip(&"[{\"a\":".repeat(1 << 20)).is_err());
    }
}
