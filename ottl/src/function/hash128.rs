//! Hashes of 128 bits, and XXH3.

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::{Function, Kind, Parameter, masking, needed};
use crate::value::{Value, hex};

const TARGET: &[Parameter] = &[needed("target", Kind::Text)];

pub(super) const TABLE: &[Function] = &[
    masking("Murmur3Hash128", TARGET, |arguments| Ok(Value::owned_text(hex(&murmur3_128(&arguments.text(0)))))),
    masking("XXH128", TARGET, |arguments| Ok(Value::owned_text(hex(&xxh3_128(&arguments.text(0)).to_be_bytes())))),
    masking("XXH3", TARGET, |arguments| Ok(Value::owned_text(hex(&xxh3_64(&arguments.text(0)).to_be_bytes())))),
];

const FIRST: u64 = 0x87c3_7b91_1142_53d5;
const SECOND: u64 = 0x4cf5_ad43_2745_937f;

/// MurmurHash3 x64, 128 bits, seed 0 (Austin Appleby's reference); both halves from the lowest byte on.
fn murmur3_128(bytes: &[u8]) -> [u8; 16] {
    let mix_low = |word: u64| word.wrapping_mul(FIRST).rotate_left(31).wrapping_mul(SECOND);
    let mix_high = |word: u64| word.wrapping_mul(SECOND).rotate_left(33).wrapping_mul(FIRST);
    let halves = |block: &[u8; 16]| {
        let word = u128::from_le_bytes(*block);
        (word as u64, (word >> 64) as u64)
    };
    let (mut low, mut high) = (0_u64, 0_u64);
    let (blocks, tail) = bytes.as_chunks::<16>();
    for block in blocks {
        let words = halves(block);
        low = (low ^ mix_low(words.0)).rotate_left(27).wrapping_add(high).wrapping_mul(5).wrapping_add(0x52dc_e729);
        high = (high ^ mix_high(words.1)).rotate_left(31).wrapping_add(low).wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }
    // Zeros behind the end mix to zero.
    let mut last = [0; 16];
    last[..tail.len()].copy_from_slice(tail);
    let words = halves(&last);
    low ^= mix_low(words.0) ^ bytes.len() as u64;
    high ^= mix_high(words.1) ^ bytes.len() as u64;
    low = low.wrapping_add(high);
    high = high.wrapping_add(low);
    (low, high) = (finished(low), finished(high));
    low = low.wrapping_add(high);
    high = high.wrapping_add(low);
    (u128::from(high) << 64 | u128::from(low)).to_le_bytes()
}

fn finished(word: u64) -> u64 {
    let word = (word ^ word >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let word = (word ^ word >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    word ^ word >> 33
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors of the reference implementations: SMHasher's for Murmur, xxHash's for the others.
    #[test]
    fn hashes_are_those_of_the_reference() {
        assert_eq!(hex(&murmur3_128(b"")), "00000000000000000000000000000000");
        assert_eq!(hex(&murmur3_128(b"hello")), "029bbd41b3a7d8cb191dae486a901e5b");
        assert_eq!(
            hex(&murmur3_128(b"The quick brown fox jumps over the lazy dog")),
            "6c1b07bc7bbc4be347939ac4a93c437a"
        );
        assert_eq!(format!("{:016x}", xxh3_64(b"")), "2d06800538d394c2");
        assert_eq!(format!("{:032x}", xxh3_128(b"")), "99aa06d3014798d86001c324468d497f");
    }
}
