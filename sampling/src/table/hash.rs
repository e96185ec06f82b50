//! Seeded hashes: trace ids and envelopes come from clients, who must not be able to choose colliding ones.

use std::hash::Hasher;

use codecs::otlp::TraceId;
use foldhash::SharedSeed;
use foldhash::fast::FoldHasher;

/// The secret of one sampler's hashes.
#[derive(Clone, Debug)]
pub(crate) struct Seed {
    seed: u64,
    shared: SharedSeed,
}

impl Seed {
    pub(crate) fn new(seed: u64) -> Self {
        let seed = spread(seed);
        Self { seed, shared: SharedSeed::from_u64(seed) }
    }

    #[inline]
    pub(crate) fn trace(&self, trace_id: &TraceId) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared);
        hasher.write_u128(u128::from_ne_bytes(trace_id.0));
        hasher.finish()
    }

    /// Of a resource's envelope (`owner` 0), or of a scope's envelope together with its resource's handle.
    pub(crate) fn envelope(&self, owner: u32, envelope: &[u8]) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared);
        hasher.write_u32(owner);
        hasher.write(envelope);
        hasher.finish()
    }
}

/// Makes a seed that a person may have written, 0 above all, as good as a random one. The hash multiplies a half of the id,
/// offset by the seed, by something: with a seed of 0 all ids whose first half is 0 (64-bit ids, written in 128 bits)
/// had one hash, and of traces with one hash only the first is kept together. (The finalizer of SplitMix64; never 0.)
fn spread(seed: u64) -> u64 {
    let seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let seed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let seed = (seed ^ (seed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (seed ^ (seed >> 31)) | 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_of_which_one_half_is_zero_have_hashes_of_their_own_whatever_the_seed() {
        for seed in [0, 1, 2, 0x9e37_79b9_7f4a_7c15, 0u64.wrapping_sub(0x9e37_79b9_7f4a_7c15), u64::MAX] {
            let seed = Seed::new(seed);
            let first: HashSet<u64> = (1..=10_000u128).map(|id| seed.trace(&TraceId(id.to_be_bytes()))).collect();
            let second: HashSet<u64> =
                (1..=10_000u128).map(|id| seed.trace(&TraceId((id << 64).to_be_bytes()))).collect();
            assert_eq!((first.len(), second.len()), (10_000, 10_000), "{seed:?}");
        }
    }
}
