//! Hashes, encodings, and `Mask`.

use std::borrow::Cow;

use codecs::grpc::base64;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

use super::{Arguments, Function, Kind, converter, masking, needed, optional};
use crate::fault::Fault;
use crate::value::{Value, base64_padded, hex};

const VARIANTS: Kind = Kind::Choice(&["base64", "base64-raw", "base64-url", "base64-raw-url"]);

pub(super) const TABLE: &[Function] = &[
    converter("Base64Decode", &[needed("target", Kind::Text)], |arguments| decode(&arguments.text(0))),
    converter("Base64Encode", &[needed("target", Kind::Text), optional("variant", VARIANTS)], encode),
    converter(
        "Decode",
        &[
            needed("target", Kind::BytesLike),
            needed(
                "encoding",
                Kind::Choice(&["base64", "base64-raw", "base64-url", "base64-raw-url", "utf-8", "utf8", "us-ascii"]),
            ),
        ],
        decode_as,
    ),
    masking("FNV", &[needed("target", Kind::Text)], |arguments| Ok(Value::Int(fnv(&arguments.text(0)) as i64))),
    masking("MD5", &[needed("target", Kind::Text)], digest::<Md5>),
    masking("Mask", &[needed("value", Kind::Text), needed("pattern", Kind::Text)], |arguments| {
        Ok(Value::owned_text(mask(&arguments.text(0), &arguments.letters(1))))
    }),
    masking("Murmur3Hash", &[needed("target", Kind::Text)], |arguments| {
        Ok(Value::owned_text(hex(&murmur3(&arguments.text(0)).to_le_bytes())))
    }),
    masking("SHA1", &[needed("target", Kind::Text)], digest::<Sha1>),
    masking("SHA256", &[needed("target", Kind::Text)], digest::<Sha256>),
    masking("SHA512", &[needed("target", Kind::Text)], digest::<Sha512>),
];

fn digest<'v, D: Digest>(arguments: &mut Arguments<'v>) -> Result<Value<'v>, Fault> {
    Ok(Value::owned_text(hex(&D::digest(arguments.text(0)))))
}

/// FNV-1a, 64 bits.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// MurmurHash3 x86, 32 bits, seed 0 (Austin Appleby's reference).
fn murmur3(bytes: &[u8]) -> u32 {
    let mix = |block: u32| block.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let (blocks, tail) = bytes.as_chunks::<4>();
    let mut hash = blocks.iter().fold(0_u32, |hash, block| {
        (hash ^ mix(u32::from_le_bytes(*block))).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
    });
    if !tail.is_empty() {
        let mut last = [0; 4];
        last[..tail.len()].copy_from_slice(tail);
        hash ^= mix(u32::from_le_bytes(last));
    }
    hash ^= bytes.len() as u32;
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

fn encode<'v>(arguments: &mut Arguments<'v>) -> Result<Value<'v>, Fault> {
    let text = arguments.text(0);
    let to_url = |text: String| text.replace('+', "-").replace('/', "_");
    Ok(Value::owned_text(match arguments.optional_text(1).as_deref() {
        Some(b"base64-raw") => base64::encode(&text),
        Some(b"base64-url") => to_url(base64_padded(&text)),
        Some(b"base64-raw-url") => to_url(base64::encode(&text)),
        _ => base64_padded(&text),
    }))
}

fn decode<'v>(text: &[u8]) -> Result<Value<'v>, Fault> {
    let bytes = base64::decode(text).ok_or(Fault::invalid("the string is not base64"))?;
    Ok(Value::Text(Cow::Owned(bytes)))
}

fn decode_as<'v>(arguments: &mut Arguments<'v>) -> Result<Value<'v>, Fault> {
    let Value::Bytes(text) = arguments.value(0) else {
        return Err(Fault::Nil);
    };
    match &*arguments.text(1) {
        b"utf-8" | b"utf8" => Ok(Value::Text(text)),
        b"us-ascii" if text.is_ascii() => Ok(Value::Text(text)),
        b"us-ascii" => Err(Fault::invalid("the string is not ASCII")),
        b"base64-url" | b"base64-raw-url" => {
            let plain = |byte: &u8| match byte {
                b'-' => b'+',
                b'_' => b'/',
                other => *other,
            };
            decode(&text.iter().map(plain).collect::<Vec<_>>())
        }
        _ => decode(&text),
    }
}

/// Shows only the digits of `value` that `pattern` keeps: `***-***-####` on `+1 415 555 2671` gives `***-***-2671`.
///
/// Places are the pattern's characters that are neither ASCII punctuation (but `#` and `*`) nor spaces. Places and digits
/// are both counted from the end; `#` shows the digit at its place, every other character stands for itself. If there are
/// fewer digits than places, nothing is shown: every `#` becomes `*`.
fn mask(value: &[u8], pattern: &str) -> String {
    let digits: Vec<u8> = value.iter().copied().filter(u8::is_ascii_digit).rev().collect();
    let is_place =
        |letter: char| matches!(letter, '#' | '*') || !(letter.is_ascii_punctuation() || letter.is_whitespace());
    let is_too_short = pattern.chars().filter(|letter| is_place(*letter)).count() > digits.len();
    let mut place = 0;
    let shown: Vec<char> = pattern
        .chars()
        .rev()
        .map(|letter| {
            let digit = digits.get(place).copied();
            place += usize::from(is_place(letter));
            match (letter, digit) {
                ('#', Some(digit)) if !is_too_short => char::from(digit),
                ('#', _) => '*',
                _ => letter,
            }
        })
        .collect();
    shown.into_iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_shows_only_the_digits_its_pattern_keeps() {
        let cases = [
            ("+1 415 555 2671", "***-***-####", "***-***-2671"),
            ("4155552671", "###-***-****", "415-***-****"),
            ("1 415 555 2671", "###-***-****", "415-***-****"),
            ("555-2671", "***-***-####", "***-***-****"),
            ("", "####", "****"),
            ("no digits", "##", "**"),
            ("2671", "####", "2671"),
            ("12345", "YYY##", "YYY45"),
            ("12345", "", ""),
        ];
        for (value, pattern, expected) in cases {
            assert_eq!(mask(value.as_bytes(), pattern), expected, "{pattern} on {value}");
        }
    }

    #[test]
    fn murmur_hashes_are_those_of_the_reference() {
        assert_eq!(murmur3(b""), 0);
        assert_eq!(hex(&murmur3(b"Hello World").to_le_bytes()), "ce837619");
    }
}
