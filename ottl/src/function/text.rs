//! Converters of text.

use std::borrow::Cow;

use super::{Arguments, Function, Kind, converter, needed, optional};
use crate::fault::Fault;
use crate::value::{Value, same};

pub(super) const TABLE: &[Function] = &[
    converter("Concat", &[needed("vals", Kind::TextLikeList), needed("delimiter", Kind::Text)], concat),
    converter(
        "ConvertCase",
        &[needed("target", Kind::Text), needed("to_case", Kind::Choice(&["lower", "upper", "snake", "camel"]))],
        convert_case,
    ),
    converter("Format", &[needed("format", Kind::TextLiteral), needed("vals", Kind::List)], format_values),
    converter("HasPrefix", &[needed("target", Kind::Text), needed("prefix", Kind::Text)], |arguments| {
        Ok(Value::Bool(arguments.text(0).starts_with(&arguments.text(1))))
    }),
    converter("HasSuffix", &[needed("target", Kind::Text), needed("suffix", Kind::Text)], |arguments| {
        Ok(Value::Bool(arguments.text(0).ends_with(&arguments.text(1))))
    }),
    converter("Index", &[needed("target", Kind::Any), needed("value", Kind::Any)], index),
    converter("IsMatch", &[needed("target", Kind::TextLike), needed("pattern", Kind::Pattern)], is_match),
    converter("Len", &[needed("target", Kind::Any)], length),
    converter("Split", &[needed("target", Kind::Text), needed("delimiter", Kind::Text)], split),
    converter(
        "Substring",
        &[
            needed("target", Kind::Text),
            needed("start", Kind::Int),
            needed("length", Kind::Int),
            optional("utf8_safe", Kind::BoolLiteral),
        ],
        substring,
    ),
    converter("ToCamelCase", &[needed("target", Kind::Text)], |arguments| Ok(owned(camel(&arguments.letters(0))))),
    converter("ToLowerCase", &[needed("target", Kind::Text)], |arguments| {
        Ok(owned(arguments.letters(0).to_lowercase()))
    }),
    converter("ToSnakeCase", &[needed("target", Kind::Text)], |arguments| Ok(owned(snake(&arguments.letters(0))))),
    converter("ToUpperCase", &[needed("target", Kind::Text)], |arguments| {
        Ok(owned(arguments.letters(0).to_uppercase()))
    }),
    converter("Trim", &[needed("target", Kind::Text), optional("replacement", Kind::TextLiteral)], trim),
    converter("TrimPrefix", &[needed("target", Kind::Text), needed("prefix", Kind::Text)], |arguments| {
        let (text, prefix) = (arguments.text(0), arguments.text(1));
        let length = if text.starts_with(&prefix) { prefix.len() } else { 0 };
        Ok(part(text, length..usize::MAX))
    }),
    converter("TrimSuffix", &[needed("target", Kind::Text), needed("suffix", Kind::Text)], |arguments| {
        let (text, suffix) = (arguments.text(0), arguments.text(1));
        let end = if text.ends_with(&suffix) { text.len() - suffix.len() } else { text.len() };
        Ok(part(text, 0..end))
    }),
];

fn owned<'v>(text: String) -> Value<'v> {
    Value::owned_text(text)
}

/// A part of `text`, borrowed if the text is.
fn part<'v>(text: Cow<'v, [u8]>, range: std::ops::Range<usize>) -> Value<'v> {
    let end = range.end.min(text.len());
    Value::Text(match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[range.start..end]),
        Cow::Owned(text) => Cow::Owned(text[range.start..end].to_vec()),
    })
}

fn concat<'v>(arguments: &mut Arguments<'v>) -> Result<Value<'v>, Fault> {
    let delimiter = arguments.text(1);
    let mut out = Vec::new();
    for (index, value) in arguments.list(0).into_iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(&delimiter);
        }
        match value {
            Value::Text(text) => out.extend_from_slice(&text),
            // As the Collector writes it.
            _ => out.extend_from_slice(b"<nil>"),
        }
    }
    Ok(Value::Text(Cow::Owned(out)))
}

fn convert_case<'v>(arguments: &mut Arguments<'v>) -> Result<Value<'v>, Fault> {
    let text = arguments.letters(0);
    Ok(owned(match &*arguments.text(1) {
        b"lower" => text.to_lowercase(),
        b"upper" => text.to_uppercase(),
        b"snake" => snake(&text),
        _ => camel(&text),
    }))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Capital,
    Small,
    Digit,
    Other,
}

fn class(byte: u8) -> Class {
    match byte {
        b'A'..=b'Z' => Class::Capital,
        b'a'..=b'z' => Class::Small,
        b'0'..=b'9' => Class::Digit,
        _ => Class::Other,
    }
}

/// `HTTPServer2Go` -> `http_server_2_go`: a word ends where letters change their class; a run of capitals is one word
/// whose last letter starts the next if a small letter follows.
fn snake(text: &str) -> String {
    let bytes = text.trim().as_bytes();
    let mut out = Vec::with_capacity(bytes.len() + 4);
    for (index, &byte) in bytes.iter().enumerate() {
        let here = class(byte);
        let next = bytes.get(index + 1).map_or(Class::Other, |next| class(*next));
        let before = if index > 0 { class(bytes[index - 1]) } else { Class::Other };
        if matches!(byte, b' ' | b'_' | b'-' | b'.') {
            out.push(b'_');
            continue;
        }
        if here == Class::Capital && next == Class::Small && before == Class::Capital {
            out.push(b'_');
        }
        out.push(byte.to_ascii_lowercase());
        let ends = match here {
            Class::Small => matches!(next, Class::Capital | Class::Digit),
            Class::Digit => matches!(next, Class::Capital | Class::Small),
            Class::Capital => next == Class::Digit,
            Class::Other => false,
        };
        if ends {
            out.push(b'_');
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// `http_server` -> `HttpServer`: the first letter and each behind a separator or a digit is a capital; of a run of
/// capitals only the first stays.
fn camel(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut capital_next = true;
    let mut was_capital = false;
    for byte in text.trim().bytes() {
        let here = class(byte);
        let shown = if capital_next {
            byte.to_ascii_uppercase()
        } else if was_capital && here == Class::Capital {
            byte.to_ascii_lowercase()
        } else {
            byte
        };
        was_capital = here == Class::Capital;
        match here {
            Class::Capital | Class::Small => {
                out.push(char::from(shown));
                capital_next = false;
            }
            Class::Digit => {
                out.push(char::from(byte));
                capital_next = true;
            }
            Class::Other => capital_next = matches!(byte, b'_' | b' ' | b'-' | b'.'),
        }
    }
    out
}

fn index<'v>(arguments: &mut Arguments<'v>) -> Result<Value<'v>, Fault> {
    let place = match (arguments.value(0), arguments.value(1)) {
        (Value::Text(text), Value::Text(part)) => find(&text, &part),
        (Value::Text(_), other) => return Err(Fault::wrong("a string to look for", &other)),
        (Value::List(items), value) => items.iter().position(|item| same(item, &value)),
        (other, _) => return Err(Fault::wrong("a string or a list", &other)),
    };
    Ok(Value::Int(place.map_or(-1, |place| place as i64)))
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    if part.is_empty() {
        return Some(0);
    }
    text.windows(part.len()).position(|window| window == part)
}

fn is_match<'v>(arguments: &mut Arguments<'v>) -> Result<Value<'v>, Fault> {
    let pattern = arguments.pattern(1)?;
    Ok(Value::Bool(match arguments.value(0) {
        Value::Text(text) => pattern.is_match(&text),
        _ => false,
    }))
}

fn length<'v>(arguments: &mut Arguments<'v>) -> Result<Value<'v>, Fault> {
    let length = match arguments.value(0) {
        Value::Text(text) | Value::Bytes(text) => text.len(),
        Value::List(items) => items.len(),
        Value::Map(entries) => entries.len(),
        other => return Err(Fault::wrong("a string, a list or a map", &other)),
    };
    Ok(Value::Int(length as i64))
}

fn split<'v>(arguments: &mut Arguments<'v>) -> Result<Value<'v>, Fault> {
    let (text, delimiter) = (arguments.letters(0), arguments.letters(1));
    let parts = if delimiter.is_empty() {
        text.chars().map(|letter| owned(letter.to_string())).collect()
    } else {
        text.split(&*delimiter).map(|part| owned(part.to_owned())).collect()
    };
    Ok(Value::List(parts))
}

fn substring<'v>(arguments: &mut Arguments<'v>) -> Result<Value<'v>, Fault> {
    let text = arguments.text(0);
    let outside = || Fault::invalid("the part lies outside the string");
    let start = usize::try_from(arguments.int(1)).map_err(|_| outside())?;
    let length = usize::try_from(arguments.int(2)).ok().filter(|length| *length > 0).ok_or_else(outside)?;
    let end = start.checked_add(length).filter(|end| *end <= text.len()).ok_or_else(outside)?;
    if !arguments.flag(3, false) {
        return Ok(part(text, start..end));
    }
    let is_boundary = |place: usize| text.get(place).is_none_or(|byte| byte & 0xc0 != 0x80);
    let start = (start..=text.len()).find(|place| is_boundary(*place)).unwrap_or(text.len());
    let end = (start..=end.max(start)).rev().find(|place| is_boundary(*place)).unwrap_or(start);
    Ok(part(text, start..end))
}

fn trim<'v>(arguments: &mut Arguments<'v>) -> Result<Value<'v>, Fault> {
    let text = arguments.letters(0);
    let letters = arguments.optional_text(1).map_or(Cow::Borrowed(" "), super::letters);
    Ok(owned(text.trim_matches(|letter| letters.contains(letter)).to_owned()))
}

/// Go's `Sprintf` for the verbs `%s %v %d %t %f %x %X %q %%` with `-`, `0`, width and precision.
fn format_values<'v>(arguments: &mut Arguments<'v>) -> Result<Value<'v>, Fault> {
    let format = arguments.letters(0);
    let mut values = arguments.list(1).into_iter();
    let mut out = String::new();
    let mut letters = format.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        if letters.next_if_eq(&'%').is_some() {
            out.push('%');
            continue;
        }
        let mut flags = Flags::default();
        while let Some(flag) = letters.next_if(|letter| matches!(letter, '-' | '0')) {
            flags.is_left |= flag == '-';
            flags.is_zero |= flag == '0';
        }
        let mut digits = || -> Option<usize> {
            let mut number = None;
            while let Some(digit) = letters.peek().and_then(|letter| letter.to_digit(10)) {
                letters.next();
                number = Some((number.unwrap_or(0) * 10 + digit as usize).min(WIDTH_MAX));
            }
            number
        };
        flags.width = digits().unwrap_or(0);
        if letters.next_if_eq(&'.').is_some() {
            let mut precision = 0;
            while let Some(digit) = letters.peek().and_then(|letter| letter.to_digit(10)) {
                letters.next();
                precision = (precision * 10 + digit as usize).min(WIDTH_MAX);
            }
            flags.precision = Some(precision);
        }
        let verb = letters.next().unwrap_or('%');
        let value = values.next().ok_or(Fault::invalid("the format has more verbs than there are values"))?;
        flags.write(verb, value, &mut out)?;
    }
    if values.next().is_some() {
        return Err(Fault::invalid("there are more values than the format has verbs"));
    }
    Ok(owned(out))
}

/// Widest field a format may ask for.
const WIDTH_MAX: usize = 256;

#[derive(Default)]
struct Flags {
    is_left: bool,
    is_zero: bool,
    width: usize,
    precision: Option<usize>,
}

impl Flags {
    fn write(&self, verb: char, value: Value<'_>, out: &mut String) -> Result<(), Fault> {
        let text = match (verb, value) {
            ('s' | 'v', Value::Nil) => if verb == 's' { "%!s(<nil>)" } else { "<nil>" }.to_owned(),
            ('d' | 'v', Value::Int(value)) => value.to_string(),
            ('x', Value::Int(value)) => format!("{value:x}"),
            ('X', Value::Int(value)) => format!("{value:X}"),
            ('t' | 'v', Value::Bool(value)) => value.to_string(),
            ('f', Value::Double(value)) => format!("{value:.*}", self.precision.unwrap_or(6)),
            ('x', Value::Text(text) | Value::Bytes(text)) => crate::value::hex(&text),
            ('q', Value::Text(text)) => format!("{:?}", String::from_utf8_lossy(&text)),
            ('s', value @ Value::Text(_)) => {
                let text = text_of(value)?;
                text.chars().take(self.precision.unwrap_or(usize::MAX)).collect()
            }
            ('v', value) => text_of(value)?,
            (_, value) => return Err(Fault::wrong("a value that fits the verb of the format", &value)),
        };
        let missing = self.width.saturating_sub(text.chars().count());
        match text.strip_prefix('-') {
            Some(digits) if self.is_zero && !self.is_left => {
                out.push('-');
                out.push_str(&"0".repeat(missing));
                out.push_str(digits);
            }
            _ => {
                let fill = if self.is_zero { "0" } else { " " };
                out.push_str(&if self.is_left { String::new() } else { fill.repeat(missing) });
                out.push_str(&text);
                out.push_str(&if self.is_left { " ".repeat(missing) } else { String::new() });
            }
        }
        Ok(())
    }
}

fn text_of(value: Value<'_>) -> Result<String, Fault> {
    match value.into_text_like()? {
        Value::Text(text) => Ok(super::letters(text).into_owned()),
        _ => Ok(String::new()),
    }
}
