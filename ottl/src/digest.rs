//! Two digests that the crates of `sha2`'s family here do not bring: SHA3-256 and HMAC.
//!
//! Each is a page of its standard and used in one place, on short texts; a crate of its own pays for neither.

use sha2::Digest;

/// Rotations of the step rho, in the order in which pi visits the lanes (FIPS 202, section 3.2).
const ROTATIONS: [u32; 24] =
    [1, 3, 6, 10, 15, 21, 28, 36, 45, 55, 2, 14, 27, 41, 56, 8, 25, 43, 62, 18, 39, 61, 20, 44];
/// Where pi takes each lane to, starting at lane 1.
const LANES: [usize; 24] = [10, 7, 11, 17, 18, 3, 5, 16, 8, 21, 24, 4, 15, 23, 19, 13, 12, 2, 20, 14, 22, 9, 6, 1];
/// Bytes absorbed at once: 1600 bits less twice the digest's.
const RATE: usize = 136;

/// SHA3-256 (FIPS 202).
pub(crate) fn sha3_256(text: &[u8]) -> [u8; 32] {
    let mut state = [0_u64; 25];
    let (blocks, tail) = text.as_chunks::<RATE>();
    blocks.iter().for_each(|block| absorb(&mut state, block));
    let mut last = [0; RATE];
    last[..tail.len()].copy_from_slice(tail);
    last[tail.len()] ^= 0x06;
    last[RATE - 1] ^= 0x80;
    absorb(&mut state, &last);
    let mut digest = [0; 32];
    for (bytes, lane) in digest.as_chunks_mut::<8>().0.iter_mut().zip(state) {
        *bytes = lane.to_le_bytes();
    }
    digest
}

fn absorb(state: &mut [u64; 25], block: &[u8; RATE]) {
    for (lane, bytes) in state.iter_mut().zip(block.as_chunks::<8>().0) {
        *lane ^= u64::from_le_bytes(*bytes);
    }
    // The constants of iota are what a shift register gives (FIPS 202, section 3.2.5).
    let mut register = 1_u8;
    for _ in 0..24 {
        theta(state);
        rho_and_pi(state);
        chi(state);
        for step in 0..7 {
            state[0] ^= u64::from(register & 1) << ((1_u32 << step) - 1);
            register = (register << 1) ^ ((register >> 7) * 0x71);
        }
    }
}

fn theta(state: &mut [u64; 25]) {
    let columns: [u64; 5] = std::array::from_fn(|x| (0..5).fold(0, |sum, y| sum ^ state[x + 5 * y]));
    for (place, lane) in state.iter_mut().enumerate() {
        *lane ^= columns[(place + 4) % 5] ^ columns[(place + 1) % 5].rotate_left(1);
    }
}

fn rho_and_pi(state: &mut [u64; 25]) {
    let mut moving = state[1];
    for (lane, rotation) in LANES.into_iter().zip(ROTATIONS) {
        moving = std::mem::replace(&mut state[lane], moving.rotate_left(rotation));
    }
}

fn chi(state: &mut [u64; 25]) {
    for row in state.as_chunks_mut::<5>().0 {
        let before = *row;
        for (x, lane) in row.iter_mut().enumerate() {
            *lane ^= !before[(x + 1) % 5] & before[(x + 2) % 5];
        }
    }
}

/// HMAC (RFC 2104) with a digest whose blocks are `BLOCK` bytes.
pub(crate) fn hmac<D: Digest, const BLOCK: usize>(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut padded = [0; BLOCK];
    if key.len() > BLOCK {
        let digest = D::digest(key);
        padded[..digest.len()].copy_from_slice(&digest);
    } else {
        padded[..key.len()].copy_from_slice(key);
    }
    let inner = D::new().chain_update(padded.map(|byte| byte ^ 0x36)).chain_update(text).finalize();
    D::new().chain_update(padded.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize().to_vec()
}

#[cfg(test)]
mod tests {
    use sha2::{Sha256, Sha512};

    use super::*;
    use crate::value::hex;

    /// Calculated by Python's hashlib; bytes are 0, 7, 14 and so on. 136 is the size of a block.
    #[test]
    fn sha3_is_that_of_another_program_around_every_block_border() {
        let cases = [
            (0, "a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a"),
            (1, "5d53469f20fef4f8eab52b88044ede69c77a6a68a60728609fc4a65ff531e7d0"),
            (135, "2f6d0ed38ad614af2b245d79dba7a473731762188697602e4da5c39125c8a9a6"),
            (136, "1c33504292f84699c382b4e53645f483c6cc5cf0fdb78ff87a1c4d12c26915a7"),
            (137, "328e173469e331b025dda12fbccbe0d076084af1a7b1d0bb1bad27ad738b6677"),
            (300, "c87546fd20d13b902ade349f6e67c3b1085d6a746ae0e9a01dfa62c26297b2a7"),
        ];
        for (length, expected) in cases {
            let text: Vec<u8> = (0..length).map(|number: u32| (number * 7) as u8).collect();
            assert_eq!(hex(&sha3_256(&text)), expected, "{length} bytes");
        }
    }

    /// Calculated by Python's hmac; keys are the letter k so many times.
    #[test]
    fn hmac_is_that_of_another_program_with_short_and_long_keys() {
        let text = b"what do ya want for nothing?";
        let cases = [
            (
                4,
                "ebba0c3f005f735419cfdb28872bd82245e14cadb430535f8298fa5a717bc120",
                "bee39064a483f406b4cb2e63ef737debe498f5c042f2292e6faa785fe93772b375a2a2f8eb5bca43b8ecec2984c4d20ece6fb452fa8e9f5d09826eed2c4db9a7",
            ),
            (
                64,
                "63f12563e45dcef7c354a6ba71d0c713aa28eea869b5a199da814b225867f54c",
                "1ecccfef82248404a6aad1c0e1f2869876ee3c5793fecc0e5bee05ad9cfb30c49bf6a9927dfe559ce86b3f59191774e67298a482c62b253088e5fe0002f95306",
            ),
            (
                65,
                "58b6aa8aff9a0a75db8f453becc657e29cdde625b22acf3febfb296484223f22",
                "541a087618f1ce5d7c11950a93587e302aa56b9a0d6d8bdd4e541f0ccfb7891193fc6325c0c92357b72259e97e867fa1705ba2bef0441ea6f985f4fcf1470193",
            ),
            (
                128,
                "39aa47dbde256c5c11cf45d2734d0014b89e4ac4aeb9863ed6e532a6e0827416",
                "17809ffde81fb68aa0814c77831a5550d614e72ab1048bc4be0ebfd6101f251361cd1344cc0dfa061f08e3498372f8529780db5371006f9a4f43a3b4726c8126",
            ),
            (
                200,
                "a2bd1bf68ab6f90daa9cd982a1df2a8788ff6986b6e9569b3c053ebd26e1892e",
                "eebf5aa85776a2e413a2377ebaca38b196315b356f17f266586a7cfc00aa891bc317b53e5bf89ce76c8e8f567a77ea7f0cf5ee590485db606197338b7d1745b6",
            ),
        ];
        for (length, sha256, sha512) in cases {
            let key = vec![b'k'; length];
            assert_eq!(hex(&hmac::<Sha256, 64>(&key, text)), sha256, "{length} bytes");
            assert_eq!(hex(&hmac::<Sha512, 128>(&key, text)), sha512, "{length} bytes");
        }
    }
}
