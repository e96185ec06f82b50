//! How many traces are pending in the whole process, where that is limited.
//!
//! ```text
//! traces_max --lease some--> sampler of shard 0        begins traces within its lease; asks for more only when it is
//!            <--give back--  sampler of shard 1 ...    used up, and gives back what it has not needed
//! ```
//!
//! One atomic word holds what nobody has leased; it is touched once per some traces, and never where nothing is limited.
//! While a sampler holds room it does not use, another may reach the limit: by twice [`TraceLease`]'s step for each
//! other sampler, 1 in 512 of all traces. The limit itself is kept, but for one trace of each sampler: one that holds
//! none can decide none to make room.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Room leased at once is this part of the whole.
const STEPS: u64 = 1_024;
/// The most room leased at once, in traces.
const STEP_MAX: u64 = 256;

/// Room of one `tail_sampling` node that none of its samplers has leased.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedTraces {
    /// `None`: no limit.
    left: Option<Arc<AtomicU64>>,
    step: u64,
}

impl SharedTraces {
    pub(crate) fn new(traces_max: Option<u32>) -> Self {
        let traces_max = traces_max.map(|traces| u64::from(traces.max(1)));
        Self {
            left: traces_max.map(|traces| Arc::new(AtomicU64::new(traces))),
            step: (traces_max.unwrap_or(0) / STEPS).clamp(1, STEP_MAX),
        }
    }

    /// A lease of nothing yet.
    pub(crate) fn lease(&self) -> TraceLease {
        let leased = if self.left.is_some() { 0 } else { u64::MAX };
        TraceLease { shared: self.clone(), leased }
    }
}

/// Room of one sampler.
#[derive(Debug)]
pub(crate) struct TraceLease {
    shared: SharedTraces,
    /// Traces that may be pending here.
    leased: u64,
}

impl TraceLease {
    /// Makes room for one more trace beside `pending` ones. False: the limit is reached.
    #[inline]
    pub(crate) fn make_room(&mut self, pending: usize) -> bool {
        (pending as u64) < self.leased || self.lease_more()
    }

    #[cold]
    fn lease_more(&mut self) -> bool {
        let Some(left) = &self.shared.left else {
            return true;
        };
        let taken = left.fetch_update(Relaxed, Relaxed, |left| Some(left - left.min(self.shared.step)));
        let taken = taken.map_or(0, |before| before.min(self.shared.step));
        self.leased += taken;
        taken > 0
    }

    /// Whether there is room for one more trace, here or in what nobody has leased.
    pub(crate) fn has_room(&self, pending: usize) -> bool {
        let left = self.shared.left.as_ref().map_or(u64::MAX, |left| left.load(Relaxed));
        (pending as u64) < self.leased || left > 0
    }

    /// Gives back room that `pending` traces do not need, but for one step.
    pub(crate) fn trim(&mut self, pending: usize) {
        let Some(left) = &self.shared.left else {
            return;
        };
        let needed = pending as u64 + self.shared.step;
        if self.leased > needed + self.shared.step {
            left.fetch_add(self.leased - needed, Relaxed);
            self.leased = needed;
        }
    }
}

impl Drop for TraceLease {
    /// The room of a sampler that ends is the others'.
    fn drop(&mut self) {
        if let Some(left) = &self.shared.left {
            left.fetch_add(self.leased, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sampler_may_use_all_of_it_and_two_together_no_more() {
        for traces_max in [1, 2, 5, 3_000, 1_000_000] {
            let shared = SharedTraces::new(Some(traces_max));
            let mut lease = shared.lease();
            let fits = (0..).take_while(|pending| lease.make_room(*pending)).count();
            assert_eq!(fits, traces_max as usize);
            let mut other = shared.lease();
            assert!(!other.has_room(0) && !other.make_room(0));
            lease.trim(0);
            let fits = (0..).take_while(|pending| other.make_room(*pending)).count();
            assert!(fits + fits / 256 + 2 >= traces_max as usize, "{fits} of {traces_max}");
            assert!(fits <= traces_max as usize);
        }
    }

    #[test]
    fn the_room_of_a_sampler_that_ends_is_the_others() {
        let shared = SharedTraces::new(Some(2));
        let mut lease = shared.lease();
        assert!(lease.make_room(0) && lease.make_room(1));
        drop(lease);
        assert!(shared.lease().make_room(0));
    }

    #[test]
    fn without_a_limit_there_is_always_room() {
        let mut lease = SharedTraces::new(None).lease();
        assert!(lease.make_room(usize::MAX) && lease.has_room(usize::MAX));
    }
}
