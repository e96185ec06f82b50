//! What was decided, for spans that come late.
//!
//! Two generations of fingerprints: decisions enter the young one; when it is full it becomes the old one and the old
//! one is forgotten. A decision is therefore remembered for at least one generation's worth of later decisions. A
//! fingerprint is the seeded 64-bit hash of the trace id: among two million remembered traces a new one is taken for
//! another once in 10^13.

use hashbrown::HashTable;

use crate::policy::Decision;

/// Decisions per generation: 13 MiB for both at most, reached only after as many decisions.
pub(crate) const DECISIONS_PER_GENERATION: usize = 400_000;

/// Not sampled. Any other outcome is the number of the policy.
const NOT_SAMPLED: u16 = u16::MAX;

#[derive(Clone, Copy, Debug)]
struct Remembered {
    /// Upper and lower half; apart they need no padding.
    fingerprint: [u32; 2],
    outcome: u16,
}

const _: () = assert!(size_of::<Remembered>() == 12, "a decision takes 12 bytes and one of the table's own");

#[derive(Debug)]
pub(crate) struct DecisionMemory {
    young: HashTable<Remembered>,
    old: HashTable<Remembered>,
    decisions_max: usize,
}

impl DecisionMemory {
    pub(crate) fn new(decisions_max: usize) -> Self {
        Self { young: HashTable::new(), old: HashTable::new(), decisions_max }
    }

    pub(crate) fn remember(&mut self, hash: u64, decision: Decision) {
        if self.young.len() >= self.decisions_max {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        let outcome = match decision {
            Decision::Sampled { policy } => policy,
            Decision::NotSampled => NOT_SAMPLED,
        };
        let remembered = Remembered { fingerprint: halves(hash), outcome };
        self.young.insert_unique(hash, remembered, |remembered| whole(remembered.fingerprint));
    }

    #[inline]
    pub(crate) fn find(&self, hash: u64) -> Option<Decision> {
        let fingerprint = halves(hash);
        let same = |remembered: &Remembered| remembered.fingerprint == fingerprint;
        let found = self.young.find(hash, same).or_else(|| self.old.find(hash, same))?;
        Some(match found.outcome {
            NOT_SAMPLED => Decision::NotSampled,
            policy => Decision::Sampled { policy },
        })
    }

    pub(crate) fn bytes(&self) -> usize {
        self.young.allocation_size() + self.old.allocation_size()
    }
}

#[inline]
fn halves(hash: u64) -> [u32; 2] {
    [(hash >> 32) as u32, hash as u32]
}

#[inline]
fn whole([upper, lower]: [u32; 2]) -> u64 {
    u64::from(upper) << 32 | u64::from(lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_remembered_for_a_generation_and_then_forgotten() {
        let mut memory = DecisionMemory::new(10);
        let hash = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let decision = |n: u64| match n % 3 {
            0 => Decision::NotSampled,
            policy => Decision::Sampled { policy: policy as u16 },
        };
        for n in 0..1_000 {
            assert_eq!(memory.find(hash(n)), None);
            memory.remember(hash(n), decision(n));
            for recent in n.saturating_sub(9)..=n {
                assert_eq!(memory.find(hash(recent)), Some(decision(recent)));
            }
            if n >= 20 {
                assert_eq!(memory.find(hash(n - 20)), None);
            }
        }
        assert!(memory.bytes() < 1_000);
    }
}
