//! Byte strings by number: equal bytes have one number as long as the table lives.
//!
//! The one idea: all bytes lie in one arena, a hash table holds `(hash, number)`, and numbers count up from 0, so that a
//! plain vector beside the table holds what is known of each. Hashes are seeded: names and attributes come from peers,
//! who must not be able to choose colliding ones. It grows until its owner clears it.

use std::hash::Hasher;

use foldhash::SharedSeed;
use foldhash::fast::FoldHasher;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// The secret of one translator's hashes.
#[derive(Clone, Debug)]
pub(super) struct Seed {
    seed: u64,
    shared: SharedSeed,
}

impl Seed {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, shared: SharedSeed::from_u64(seed) }
    }

    #[inline]
    pub(super) fn hash(&self, bytes: &[u8]) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared);
        hasher.write(bytes);
        hasher.finish()
    }
}

/// A table of byte strings.
#[derive(Clone, Debug)]
pub(super) struct Interner {
    seed: Seed,
    table: HashTable<Slot>,
    /// Where each string ends; it starts where the one before ends.
    ends: Vec<u32>,
    arena: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    hash: u64,
    number: u32,
}

impl Interner {
    pub(super) fn new(seed: Seed) -> Self {
        Self { seed, table: HashTable::new(), ends: Vec::new(), arena: Vec::new() }
    }

    /// The number of `bytes`, and whether it is new.
    ///
    /// The owner clears before the arena reaches 4 GiB, see `BYTES_MAX` in `cache.rs`.
    #[inline]
    pub(super) fn intern(&mut self, bytes: &[u8]) -> (u32, bool) {
        let hash = self.seed.hash(bytes);
        let (ends, arena) = (&self.ends, &self.arena);
        let is_equal = |slot: &Slot| slot.hash == hash && range_bytes(ends, arena, slot.number) == bytes;
        match self.table.entry(hash, is_equal, |slot| slot.hash) {
            Entry::Occupied(slot) => (slot.get().number, false),
            Entry::Vacant(slot) => {
                let number = self.ends.len() as u32;
                slot.insert(Slot { hash, number });
                self.arena.extend_from_slice(bytes);
                self.ends.push(self.arena.len() as u32);
                (number, true)
            }
        }
    }

    /// The number of `bytes`, if they are in the table.
    #[inline]
    pub(super) fn find(&self, bytes: &[u8]) -> Option<u32> {
        let hash = self.seed.hash(bytes);
        let is_equal = |slot: &Slot| slot.hash == hash && range_bytes(&self.ends, &self.arena, slot.number) == bytes;
        self.table.find(hash, is_equal).map(|slot| slot.number)
    }

    /// The bytes with that number.
    #[inline]
    pub(super) fn bytes(&self, number: u32) -> &[u8] {
        range_bytes(&self.ends, &self.arena, number)
    }

    /// Strings in the table.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of memory it holds for what is in it, slots included.
    pub(super) fn bytes_used(&self) -> usize {
        // A slot of the table costs its size and a control byte, at a load of half to seven eighths.
        self.arena.len() + self.ends.len() * (4 + 3 * size_of::<Slot>() / 2)
    }

    pub(super) fn clear(&mut self) {
        self.table.clear();
        self.ends.clear();
        self.arena.clear();
    }
}

#[inline]
fn range_bytes<'a>(ends: &[u32], arena: &'a [u8], number: u32) -> &'a [u8] {
    let number = number as usize;
    let start = if number == 0 { 0 } else { ends[number - 1] };
    &arena[start as usize..ends[number] as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_bytes_have_one_number_until_the_table_is_cleared() {
        let mut interner = Interner::new(Seed::new(7));
        let texts: Vec<String> = (0..1000).map(|number| format!("text {number}")).collect();
        for (number, text) in texts.iter().enumerate() {
            assert_eq!(interner.intern(text.as_bytes()), (number as u32, true));
        }
        for (number, text) in texts.iter().enumerate() {
            assert_eq!(interner.intern(text.as_bytes()), (number as u32, false));
            assert_eq!(interner.bytes(number as u32), text.as_bytes());
        }
        assert_eq!(interner.intern(b""), (1000, true));
        assert_eq!(interner.bytes(1000), b"");
        interner.clear();
        assert_eq!((interner.len(), interner.bytes_used()), (0, 0));
        assert_eq!(interner.intern(b"text 5"), (0, true));
    }
}
