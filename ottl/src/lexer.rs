//! Text to tokens, each with its place.
//!
//! The one idea: a token is a kind and a range; what it stands for is read from the range when somebody asks. Sources:
//! the Collector's OTTL grammar (`pkg/ottl`, `buildLexer`). Identifiers are taken whole: one that starts with a capital
//! is a converter or an enum, one that starts with a small letter is an editor, a path or a keyword.

use std::ops::Range;

use crate::diagnostic::Diagnostic;

/// Longest statement in bytes: far beyond what people write, small enough to check in a moment.
pub const STATEMENT_BYTES_MAX: usize = 64 << 10;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// `set`, `attributes`, `where`: starts with a small letter.
    Lower,
    /// `SHA256`, `STATUS_CODE_OK`: starts with a capital.
    Upper,
    Int,
    Double,
    /// `0x` and digits.
    Bytes,
    /// With its quotes.
    Text,
    Nil,
    True,
    False,
    Not,
    And,
    Or,
    /// `==`, `!=`, `<`, `<=`, `>`, `>=`.
    Comparison,
    Plus,
    Minus,
    Star,
    Slash,
    Equal,
    Arrow,
    ParenOpen,
    ParenClose,
    BracketOpen,
    BracketClose,
    BraceOpen,
    BraceClose,
    Comma,
    Dot,
    Colon,
    Underscore,
    /// After the last token; its range is empty.
    End,
}

#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) at: Range<usize>,
}

/// The tokens of `text`, the last one [`TokenKind::End`].
pub(crate) fn lex(text: &str) -> Result<Vec<Token>, Diagnostic> {
    if text.len() > STATEMENT_BYTES_MAX {
        let message = format!("expected at most {STATEMENT_BYTES_MAX} bytes, found a statement of {}", text.len());
        return Err(Diagnostic::new(0..0, message, "split it into several statements"));
    }
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let mut position = 0;
    while let Some(&byte) = bytes.get(position) {
        if byte.is_ascii_whitespace() {
            position += 1;
            continue;
        }
        let (kind, length) = token_at(text, position)?;
        tokens.push(Token { kind, at: position..position + length });
        position += length;
    }
    tokens.push(Token { kind: TokenKind::End, at: text.len()..text.len() });
    Ok(tokens)
}

fn token_at(text: &str, position: usize) -> Result<(TokenKind, usize), Diagnostic> {
    let rest = &text.as_bytes()[position..];
    let symbol = |kind, length| Ok((kind, length));
    match rest {
        [b'=', b'=', ..] | [b'!', b'=', ..] | [b'<', b'=', ..] | [b'>', b'=', ..] => symbol(TokenKind::Comparison, 2),
        [b'=', b'>', ..] => symbol(TokenKind::Arrow, 2),
        [b'<' | b'>', ..] => symbol(TokenKind::Comparison, 1),
        [b'=', ..] => symbol(TokenKind::Equal, 1),
        [b'+', ..] => symbol(TokenKind::Plus, 1),
        [b'-', ..] => symbol(TokenKind::Minus, 1),
        [b'*', ..] => symbol(TokenKind::Star, 1),
        [b'/', ..] => symbol(TokenKind::Slash, 1),
        [b'(', ..] => symbol(TokenKind::ParenOpen, 1),
        [b')', ..] => symbol(TokenKind::ParenClose, 1),
        [b'[', ..] => symbol(TokenKind::BracketOpen, 1),
        [b']', ..] => symbol(TokenKind::BracketClose, 1),
        [b'{', ..] => symbol(TokenKind::BraceOpen, 1),
        [b'}', ..] => symbol(TokenKind::BraceClose, 1),
        [b',', ..] => symbol(TokenKind::Comma, 1),
        [b':', ..] => symbol(TokenKind::Colon, 1),
        [b'_', ..] => symbol(TokenKind::Underscore, 1),
        [b'"', ..] => text_at(rest, position),
        [b'0', b'x', digit, ..] if digit.is_ascii_hexdigit() => {
            symbol(TokenKind::Bytes, 2 + count(&rest[2..], |byte| byte.is_ascii_hexdigit()))
        }
        [b'0'..=b'9', ..] | [b'.', b'0'..=b'9', ..] => Ok(number_at(rest)),
        [b'.', ..] => symbol(TokenKind::Dot, 1),
        [b'a'..=b'z' | b'A'..=b'Z', ..] => Ok(word_at(rest)),
        _ => Err(stranger(text, position)),
    }
}

fn stranger(text: &str, position: usize) -> Diagnostic {
    let found = text[position..].chars().next().unwrap_or(' ');
    let help = match found {
        '\'' | '`' | '\u{201c}' | '\u{201d}' => "strings stand in double quotes: \"text\"",
        '!' => "negation is written `not`, inequality `!=`",
        '&' | '|' => "conditions are joined by `and` and `or`",
        _ => "remove it, or put text in double quotes",
    };
    Diagnostic::expected(
        position..position + found.len_utf8(),
        "a name, a value or an operator",
        &format!("`{found}`"),
        help,
    )
}

fn word_at(rest: &[u8]) -> (TokenKind, usize) {
    let length = count(rest, |byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let kind = match &rest[..length] {
        b"nil" => TokenKind::Nil,
        b"true" => TokenKind::True,
        b"false" => TokenKind::False,
        b"not" => TokenKind::Not,
        b"and" => TokenKind::And,
        b"or" => TokenKind::Or,
        [b'A'..=b'Z', ..] => TokenKind::Upper,
        _ => TokenKind::Lower,
    };
    (kind, length)
}

/// `1`, `1.5`, `1.`, `.5`, each of the last three with an exponent.
fn number_at(rest: &[u8]) -> (TokenKind, usize) {
    let digit = |byte: u8| byte.is_ascii_digit();
    let whole = count(rest, digit);
    if rest.get(whole) != Some(&b'.') {
        return (TokenKind::Int, whole);
    }
    let mut length = whole + 1 + count(&rest[whole + 1..], digit);
    if let [b'e' | b'E', exponent @ ..] = &rest[length..] {
        let sign = usize::from(matches!(exponent.first(), Some(b'+' | b'-')));
        let digits = count(&exponent[sign..], digit);
        length += if digits > 0 { 1 + sign + digits } else { 0 };
    }
    (TokenKind::Double, length)
}

fn text_at(rest: &[u8], position: usize) -> Result<(TokenKind, usize), Diagnostic> {
    let mut length = 1;
    loop {
        match rest.get(length) {
            Some(b'"') => return Ok((TokenKind::Text, length + 1)),
            Some(b'\\') => length += 2,
            Some(_) => length += 1,
            None => {
                let at = position..position + 1;
                return Err(Diagnostic::expected(at, "a closing `\"`", "the end of the statement", "close the string"));
            }
        }
    }
}

fn count(bytes: &[u8], is: impl Fn(u8) -> bool) -> usize {
    bytes.iter().take_while(|byte| is(**byte)).count()
}

/// What a quoted string at `at` of `text` stands for, its escapes those of Go: `\n \t \r \a \b \f \v \\ \" \x41 \101
/// \u00e9 \U0001f600`.
pub(crate) fn unquote(text: &str, at: &Range<usize>) -> Result<Vec<u8>, Diagnostic> {
    let inner = &text.as_bytes()[at.start + 1..at.end - 1];
    let mut out = Vec::with_capacity(inner.len());
    let mut position = 0;
    while let Some(&byte) = inner.get(position) {
        if byte != b'\\' {
            out.push(byte);
            position += 1;
            continue;
        }
        match escape(&inner[position + 1..], &mut out) {
            Some(length) => position += 1 + length,
            None => {
                let start = at.start + 1 + position;
                let end = (start + 2..=at.end).find(|&end| text.is_char_boundary(end)).unwrap_or(at.end);
                let found = format!("`{}`", &text[start..end]);
                let help = format!("a backslash is itself written `\\\\`: did you mean `\\{}`?", &text[start..end]);
                return Err(Diagnostic::expected(start..end, "an escape such as `\\n`", &found, help));
            }
        }
    }
    Ok(out)
}

/// Appends what the escape at the start of `rest` (behind its backslash) stands for; returns its length.
fn escape(rest: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let simple = match rest.first()? {
        b'n' => b'\n',
        b't' => b'\t',
        b'r' => b'\r',
        b'a' => 7,
        b'b' => 8,
        b'f' => 12,
        b'v' => 11,
        b'\\' => b'\\',
        b'"' => b'"',
        b'x' => {
            out.push(u8::try_from(digits(rest.get(1..3)?, 16)?).ok()?);
            return Some(3);
        }
        b'0'..=b'7' => {
            out.push(u8::try_from(digits(rest.get(..3)?, 8)?).ok()?);
            return Some(3);
        }
        b'u' => return letter(rest.get(1..5)?, out),
        b'U' => return letter(rest.get(1..9)?, out),
        _ => return None,
    };
    out.push(simple);
    Some(1)
}

fn letter(hex: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let letter = char::from_u32(digits(hex, 16)?)?;
    out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
    Some(1 + hex.len())
}

fn digits(bytes: &[u8], radix: u32) -> Option<u32> {
    bytes.iter().try_fold(0_u32, |value, byte| {
        let digit = char::from(*byte).to_digit(radix)?;
        value.checked_mul(radix)?.checked_add(digit)
    })
}
