//! Which sampled blocks are still in use: address -> what is given back when it is freed.
//!
//! ```text
//! free(address) --> one byte for its 4 KiB page: 0 --> not sampled     (nearly always; pages in use are near each other,
//!                        |                                              so their bytes share cache lines)
//!                        v
//!                   bucket of the address: sixteen slots, scanned
//! ```
//!
//! A slot belongs to one address from its insertion to its removal, and nobody moves it: the thread that frees a block got
//! its pointer from the thread that allocated it, so it sees the slot. No lock, no allocation, no waiting.

use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

/// One byte for each page that a gigabyte in use puts side by side; pages further apart share them.
const PAGES: usize = 1 << 16;
/// A sampled address is one in 512 KiB, so a page's byte says no for all but few addresses.
const PAGE_BITS: u32 = 12;
/// Slots of a bucket: two cache lines of addresses.
const BUCKET: usize = 16;
/// Bits of a slot's value that say how many bytes were asked for; the others say which stack did.
const BYTES_BITS: u32 = 44;
const BYTES_MAX: u64 = (1 << BYTES_BITS) - 1;

/// At most `SLOTS` blocks; a bucket may be full before.
pub(super) struct Live<const SLOTS: usize> {
    pages: [AtomicU8; PAGES],
    addresses: [AtomicUsize; SLOTS],
    values: [AtomicU64; SLOTS],
}

/// What is known of a sampled block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// The number of the stack that allocated it, below 2^20.
    pub(super) stack: usize,
    /// What was asked for; counted as 16 TiB if it was more.
    pub(super) bytes: u64,
}

impl<const SLOTS: usize> Live<SLOTS> {
    pub(super) const fn new() -> Self {
        assert!(SLOTS.is_power_of_two(), "a hash is cut to a bucket's number");
        assert!(SLOTS >= BUCKET, "there is at least one bucket");
        Live {
            pages: [const { AtomicU8::new(0) }; PAGES],
            addresses: [const { AtomicUsize::new(0) }; SLOTS],
            values: [const { AtomicU64::new(0) }; SLOTS],
        }
    }

    /// Whether this address may be in the table: asked at every free, so it is one load.
    #[inline]
    pub(super) fn may_hold(&self, address: usize) -> bool {
        self.page(address).load(Ordering::Relaxed) != 0
    }

    #[inline]
    fn page(&self, address: usize) -> &AtomicU8 {
        &self.pages[(address >> PAGE_BITS) % PAGES]
    }

    fn bucket(address: usize) -> usize {
        // Addresses of blocks differ in their middle bits.
        let hash = (address >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        hash % (SLOTS / BUCKET) * BUCKET
    }

    /// Notes a block that was just allocated, not 0 and not in the table; false if there is no room.
    pub(super) fn insert(&self, address: usize, block: Block) -> bool {
        debug_assert_ne!(address, 0);
        debug_assert!(block.stack < 1 << (u64::BITS - BYTES_BITS));
        let bucket = Self::bucket(address);
        for slot in bucket..bucket + BUCKET {
            let claimed = self.addresses[slot].compare_exchange(0, address, Ordering::Acquire, Ordering::Relaxed);
            if claimed.is_ok() {
                // Whoever frees the block learned its address after this.
                let value = (block.stack as u64) << BYTES_BITS | block.bytes.min(BYTES_MAX);
                self.values[slot].store(value, Ordering::Relaxed);
                // A byte that is full stays so: then its page is always looked up.
                let more = |count: u8| count.checked_add(1);
                let _ = self.page(address).fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
                return true;
            }
        }
        false
    }

    /// Takes a block out that is about to be freed.
    pub(super) fn remove(&self, address: usize) -> Option<Block> {
        let bucket = Self::bucket(address);
        let slot = (bucket..bucket + BUCKET).find(|slot| self.addresses[*slot].load(Ordering::Relaxed) == address)?;
        let value = self.values[slot].load(Ordering::Relaxed);
        let fewer = |count: u8| (count != u8::MAX).then(|| count.saturating_sub(1));
        let _ = self.page(address).fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
        self.addresses[slot].store(0, Ordering::Release);
        Some(Block { stack: (value >> BYTES_BITS) as usize, bytes: value & BYTES_MAX })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn random_blocks_come_out_as_they_went_in() {
        let (live, mut twin) = (Box::new(Live::<256>::new()), HashMap::new());
        let mut random = fastrand::Rng::with_seed(11);
        let mut without_room = 0;
        for _ in 0..50_000 {
            let address = random.usize(1..400) << random.u32(4..20);
            match twin.remove(&address) {
                Some(block) => {
                    assert!(live.may_hold(address));
                    assert_eq!(live.remove(address), Some(block));
                }
                None => {
                    assert_eq!(live.remove(address), None);
                    let block = Block { stack: random.usize(..1 << 20), bytes: random.u64(..1 << 40) };
                    match live.insert(address, block) {
                        true => assert!(twin.insert(address, block).is_none()),
                        false => without_room += 1,
                    }
                }
            }
        }
        assert!(without_room < 50_000 && twin.len() > 100, "{without_room} without room, {} in it", twin.len());
        for (address, block) in twin {
            assert_eq!(live.remove(address), Some(block));
        }
        assert!(live.pages.iter().all(|count| count.load(Ordering::Relaxed) == 0), "no page is looked up in vain");
    }

    #[test]
    fn a_page_with_very_many_blocks_is_always_looked_up() {
        let live = Box::new(Live::<8192>::new());
        let page = 1 << 20;
        let inserted: Vec<usize> =
            (0..400).map(|at| page + at * 8).filter(|at| live.insert(*at, Block { stack: 1, bytes: 8 })).collect();
        assert!(inserted.len() > 255);
        for address in &inserted {
            assert!(live.may_hold(*address));
            assert!(live.remove(*address).is_some());
        }
        assert!(live.may_hold(page));
    }

    #[test]
    fn blocks_that_other_threads_free_are_found() {
        let live = Box::new(Live::<4096>::new());
        let (sender, receiver) = std::sync::mpsc::sync_channel(64);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 1..20_000 {
                    let (address, block) = (round * 64, Block { stack: round % 99, bytes: round as u64 });
                    if live.insert(address, block) {
                        sender.send((address, block)).unwrap();
                    }
                }
                drop(sender);
            });
            for (address, block) in receiver {
                assert!(live.may_hold(address));
                assert_eq!(live.remove(address), Some(block));
            }
        });
    }
}
