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
