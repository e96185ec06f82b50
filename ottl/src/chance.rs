//! Chance that is given: a seed from outside and a count. The same seed gives the same bits in the same order.

use std::cell::Cell;
use std::fmt;

use sha2::{Digest, Sha256};

/// Bits for `UUID()`, `UUIDv7()` and what statements do by chance: the hash of a seed and of how often it was asked. Who does not know the seed cannot
/// tell them from chance; two seeds that differ give ids that differ.
#[derive(Clone, Default)]
pub struct Chance {
    seed: [u8; 32],
    asked: Cell<u64>,
}

// What comes of the seed is meant to be unknown to others.
impl fmt::Debug for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chance(asked {} times)", self.asked.get())
    }
}

impl Chance {
    /// Chance that comes of `seed`, of which no two users in the world have the same.
    #[must_use]
    pub fn of(seed: [u8; 32]) -> Self {
        Self { seed, asked: Cell::new(0) }
    }

    /// The next 16 bytes.
    pub(crate) fn next(&self) -> [u8; 16] {
        let asked = self.asked.get();
        self.asked.set(asked.wrapping_add(1));
        let hash = Sha256::new().chain_update(self.seed).chain_update(asked.to_le_bytes()).finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash[..16]);
        bytes
    }

    /// The next 8 bytes, as a number.
    pub(crate) fn next_u64(&self) -> u64 {
        u128::from_le_bytes(self.next()) as u64
    }
}
