//! Call stacks that were seen, each once, with sums. A table of a fixed size that many threads write without a lock.
//!
//! ```text
//! hash of the words --> slot: [key | where its words are | four sums]
//!                                          |
//! words:  [.... one stack's words, one after the other ....]
//! ```
//!
//! A slot is claimed by one compare-and-swap and never given up before [`Stacks::clear`], so who found a stack once may
//! keep its number. A thread that meets a slot while another fills it goes on to the next one: then a stack is in the table
//! twice, which its reader adds up. Nothing here allocates, waits or calls the system, so it may run inside an allocator
//! and inside a signal handler.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// How many sums a stack has; what they mean is the owner's.
pub(super) const SUMS: usize = 4;
/// Slots looked at before a stack counts as one too many.
const PROBES_MAX: usize = 64;
/// Keys that are no hash: nobody's slot, and one that is being filled.
const FREE: u64 = 0;
const CLAIMED: u64 = 1;

/// At most `SLOTS` stacks with together at most `WORDS` words.
pub(super) struct Stacks<const SLOTS: usize, const WORDS: usize> {
    slots: [Slot; SLOTS],
    words: [AtomicUsize; WORDS],
    /// Words given out, and those that were asked for in vain.
    words_taken: AtomicUsize,
    /// What no slot was left for.
    beyond: [AtomicU64; SUMS],
}

struct Slot {
    key: AtomicU64,
    start: AtomicU32,
    length: AtomicU32,
    sums: [AtomicU64; SUMS],
}

/// A stack with its sums, copied out of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// As they were given; empty for all that the table had no room for.
    pub(super) words: Vec<usize>,
    pub(super) sums: [u64; SUMS],
}

impl<const SLOTS: usize, const WORDS: usize> Stacks<SLOTS, WORDS> {
    /// The number under which everything is counted that found no room.
    pub(super) const BEYOND: usize = SLOTS;

    pub(super) const fn new() -> Self {
        assert!(SLOTS.is_power_of_two(), "a hash is cut to a slot's number");
        assert!(WORDS <= u32::MAX as usize, "where a stack lies is kept in 32 bits");
        Stacks {
            slots: [const {
                Slot {
                    key: AtomicU64::new(FREE),
                    start: AtomicU32::new(0),
                    length: AtomicU32::new(0),
                    sums: [const { AtomicU64::new(0) }; SUMS],
                }
            }; SLOTS],
            words: [const { AtomicUsize::new(0) }; WORDS],
            words_taken: AtomicUsize::new(0),
            beyond: [const { AtomicU64::new(0) }; SUMS],
        }
    }

    /// The number of this stack, which it gets if it has none; [`Stacks::BEYOND`] if there is no room.
    pub(super) fn place(&self, words: &[usize]) -> usize {
        let key = hash(words).max(CLAIMED + 1);
        for probe in 0..PROBES_MAX {
            let number = (key as usize).wrapping_add(probe) & (SLOTS - 1);
            let slot = &self.slots[number];
            let mut found = slot.key.load(Ordering::Acquire);
            if found == FREE {
                match slot.key.compare_exchange(FREE, CLAIMED, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => return if self.fill(slot, key, words) { number } else { Self::BEYOND },
                    Err(other) => found = other,
                }
            }
            if found == key && self.words_of(slot).eq(words.iter().copied()) {
                return number;
            }
        }
        Self::BEYOND
    }

    /// Writes a stack into a slot that this thread has claimed; gives the slot back if there is no room for the words.
    fn fill(&self, slot: &Slot, key: u64, words: &[usize]) -> bool {
        let room = self.words_taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
            taken.checked_add(words.len()).filter(|end| *end <= WORDS)
        });
        let Ok(start) = room else {
            slot.key.store(FREE, Ordering::Release);
            return false;
        };
        for (word, target) in words.iter().zip(&self.words[start..]) {
            target.store(*word, Ordering::Relaxed);
        }
        slot.start.store(start as u32, Ordering::Relaxed);
        slot.length.store(words.len() as u32, Ordering::Relaxed);
        slot.key.store(key, Ordering::Release);
        true
    }

    fn words_of(&self, slot: &Slot) -> impl Iterator<Item = usize> {
        let start = slot.start.load(Ordering::Relaxed) as usize;
        let length = slot.length.load(Ordering::Relaxed) as usize;
        self.words[start..start + length].iter().map(|word| word.load(Ordering::Relaxed))
    }

    /// Adds to one sum of the stack with this number, which [`Stacks::place`] gave.
    pub(super) fn add(&self, number: usize, sum: usize, value: u64) {
        let sums = self.slots.get(number).map_or(&self.beyond, |slot| &slot.sums);
        sums[sum].fetch_add(value, Ordering::Relaxed);
    }

    /// Every stack. While others write, a sum may miss what is just being added.
    pub(super) fn seen(&self) -> Vec<Seen> {
        let filled = self.slots.iter().filter(|slot| slot.key.load(Ordering::Acquire) > CLAIMED);
        let mut seen: Vec<Seen> =
            filled.map(|slot| Seen { words: self.words_of(slot).collect(), sums: read(&slot.sums) }).collect();
        let beyond = read(&self.beyond);
        if beyond.iter().any(|sum| *sum > 0) {
            seen.push(Seen { words: Vec::new(), sums: beyond });
        }
        seen
    }

    /// Forgets everything. Nobody may write meanwhile: a stack would be lost, or counted for another one.
    pub(super) fn clear(&self) {
        for slot in self.slots.iter().filter(|slot| slot.key.load(Ordering::Relaxed) != FREE) {
            slot.sums.iter().for_each(|sum| sum.store(0, Ordering::Relaxed));
            slot.key.store(FREE, Ordering::Relaxed);
        }
        self.beyond.iter().for_each(|sum| sum.store(0, Ordering::Relaxed));
        self.words_taken.store(0, Ordering::Release);
    }
}

/// The last sums first: whoever counts "taken" in an early one and "given back" in a late one never reads more given back
/// than taken.
fn read(sums: &[AtomicU64; SUMS]) -> [u64; SUMS] {
    let mut values = [0; SUMS];
    for (value, sum) in values.iter_mut().zip(sums).rev() {
        *value = sum.load(Ordering::Acquire);
    }
    values
}

/// Spreads addresses, which differ in few bits, over all bits. The multiplier is the golden ratio's 64-bit fraction.
fn hash(words: &[usize]) -> u64 {
    let mix = |hash: u64, word: &usize| {
        let mixed = (hash ^ *word as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 29)
    };
    words.iter().fold(words.len() as u64, mix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    type Small = Stacks<64, 256>;

    fn sums_of(stacks: &Small) -> HashMap<Vec<usize>, u64> {
        let mut sums = HashMap::new();
        for seen in stacks.seen() {
            *sums.entry(seen.words).or_default() += seen.sums[0];
        }
        sums
    }

    #[test]
    fn random_stacks_add_up_as_in_a_map() {
        let (stacks, mut twin) = (Box::new(Small::new()), HashMap::new());
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..10_000 {
            // Forty stacks of at most six words: there is room for all of them.
            let word = random.usize(1..=40);
            let stack = vec![word; 1 + word % 6];
            let value = random.u64(..1000);
            stacks.add(stacks.place(&stack), 0, value);
            *twin.entry(stack).or_insert(0) += value;
        }
        assert_eq!(sums_of(&stacks), twin);
        stacks.clear();
        assert!(stacks.seen().is_empty());
        assert_ne!(stacks.place(&[1, 2]), Small::BEYOND);
    }

    #[test]
    fn what_finds_no_room_is_still_counted() {
        let stacks = Box::new(Small::new());
        for stack in 0..1000 {
            stacks.add(stacks.place(&[stack, stack, stack]), 0, 1);
        }
        let sums = sums_of(&stacks);
        assert_eq!(sums.values().sum::<u64>(), 1000);
        assert_eq!((sums.len(), sums[&Vec::new()]), (65, 1000 - 64), "one stack in each slot, and the rest");
    }

    #[test]
    fn too_many_words_are_no_stack_and_take_no_slot() {
        let stacks = Box::new(Small::new());
        assert_eq!(stacks.place(&[1; 257]), Small::BEYOND);
        assert_ne!(stacks.place(&[1; 256]), Small::BEYOND);
    }

    #[test]
    fn threads_that_write_the_same_stacks_lose_nothing() {
        let stacks = Box::new(Small::new());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..5000 {
                        stacks.add(stacks.place(&[round % 7, round % 7]), 0, 1);
                    }
                });
            }
        });
        let sums = sums_of(&stacks);
        assert_eq!(sums.values().sum::<u64>(), 20_000);
        assert_eq!(sums.len(), 7);
    }
}
