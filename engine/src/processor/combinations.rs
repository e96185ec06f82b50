//! The combinations of client metadata that `batch` keeps apart, counted for all shards together.
//!
//! The one idea: a shard asks here only for a combination that is new to it, so the lock costs no request of a known
//! client anything. A combination that several shards use counts once. Keeps hashes, never a value of a client.

use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The combinations of one node. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Combinations(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    hashes: RandomState,
    /// How many shards use each, by the hash of its values. Two that share a hash count once, which harms nobody.
    shards: Mutex<HashMap<u64, usize>>,
    /// How often somebody found no room.
    wishes: AtomicU64,
}

impl Combinations {
    /// Whether these values are in use on some shard, or fewer than `max` are. Shards that ask at the same moment may
    /// together exceed it by one each.
    pub fn has_room(&self, values: &[u8], max: usize) -> bool {
        let shards = self.shards();
        shards.len() < max || shards.contains_key(&self.hash(values))
    }

    /// One shard more uses these values.
    pub fn join(&self, values: &[u8]) {
        *self.shards().entry(self.hash(values)).or_default() += 1;
    }

    /// One shard fewer uses these values.
    pub fn leave(&self, values: &[u8]) {
        let mut shards = self.shards();
        let hash = self.hash(values);
        if let Some(users) = shards.get_mut(&hash) {
            *users -= 1;
            if *users == 0 {
                shards.remove(&hash);
            }
        }
    }

    /// Asks all shards to look for combinations that they do not use any more.
    pub fn wish_for_room(&self) {
        self.0.wishes.fetch_add(1, Ordering::Relaxed);
    }

    /// How often that was asked.
    pub fn wishes(&self) -> u64 {
        self.0.wishes.load(Ordering::Relaxed)
    }

    fn hash(&self, values: &[u8]) -> u64 {
        self.0.hashes.hash_one(values)
    }

    fn shards(&self) -> MutexGuard<'_, HashMap<u64, usize>> {
        // A count is whole at every moment, whatever happened to who held the lock.
        self.0.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
