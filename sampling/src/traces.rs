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
//!
//! Another limit for samplers that run has a word of its own: each brings the room its pending traces take, whether there is
//! any or not, and while that is too much, each decides its oldest.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// Room leased at once is this part of the whole.
const STEPS: u64 = 1_024;
/// The most room leased at once, in traces.
const STEP_MAX: u64 = 256;

/// Room of one `tail_sampling` node that none of its samplers has leased.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedTraces {
    /// `None`: no limit. Below 0: so many traces too many are pending.
    left: Option<Arc<AtomicI64>>,
    step: u64,
}

impl SharedTraces {
    pub(crate) fn new(traces_max: Option<u32>) -> Self {
        let traces_max = traces_max.map(|traces| u64::from(traces.max(1)));
        Self {
            left: traces_max.map(|traces| Arc::new(AtomicI64::new(traces as i64))),
            step: (traces_max.unwrap_or(0) / STEPS).clamp(1, STEP_MAX),
        }
    }

    /// A lease of nothing yet.
    pub(crate) fn lease(&self) -> TraceLease {
        self.lease_for(0)
    }

    /// A lease for traces that are pending, though there may be no room for them.
    fn lease_for(&self, pending: usize) -> TraceLease {
        let pending = pending as u64;
        let leased = self.left.as_ref().map_or(u64::MAX, |left| {
            left.fetch_sub(pending as i64, Relaxed);
            pending
        });
        TraceLease { shared: self.clone(), leased, settles: self.left.is_some() }
    }

    fn is(&self, other: &Self) -> bool {
        match (&self.left, &other.left) {
            (Some(left), Some(other)) => Arc::ptr_eq(left, other),
            (None, None) => true,
            _ => false,
        }
    }
}

/// Room of one sampler.
#[derive(Debug)]
pub(crate) struct TraceLease {
    shared: SharedTraces,
    /// Traces that may be pending here.
    leased: u64,
    /// The limit changed, and when it was last looked at more were pending than there may be now.
    settles: bool,
}

impl TraceLease {
    /// Makes room for one more trace beside `pending` ones. False: the limit is reached.
    #[inline]
    pub(crate) fn make_room(&mut self, pending: usize) -> bool {
        if self.settles {
            self.settle(pending);
        }
        (pending as u64) < self.leased || self.lease_more()
    }

    /// While there are too many, a trace that ends makes no room for another.
    #[cold]
    fn settle(&mut self, pending: usize) {
        self.trim(pending);
        self.settles = self.is_too_much();
    }

    #[cold]
    fn lease_more(&mut self) -> bool {
        let Some(left) = &self.shared.left else {
            return true;
        };
        let part = |left: i64| left.clamp(0, self.shared.step as i64);
        let taken = left.fetch_update(Relaxed, Relaxed, |left| Some(left - part(left))).map_or(0, part);
        self.leased += taken as u64;
        taken > 0
    }

    /// Whether there is room for one more trace, here or in what nobody has leased.
    pub(crate) fn has_room(&self, pending: usize) -> bool {
        let left = self.shared.left.as_ref().map_or(i64::MAX, |left| left.load(Relaxed));
        (pending as u64) < self.leased || left > 0
    }

    /// Whether all samplers together have more pending traces than they may.
    pub(crate) fn is_too_much(&self) -> bool {
        self.shared.left.as_ref().is_some_and(|left| left.load(Relaxed) < 0)
    }

    /// The limit is that of `shared` from now on; `pending` traces are there.
    pub(crate) fn follow(&mut self, shared: &SharedTraces, pending: usize) {
        if !self.shared.is(shared) {
            *self = shared.lease_for(pending);
        }
    }

    /// Gives back room that `pending` traces do not need, but for one step if there is enough.
    pub(crate) fn trim(&mut self, pending: usize) {
        let Some(left) = &self.shared.left else {
            return;
        };
        let spare = if self.is_too_much() { 0 } else { self.shared.step };
        let needed = pending as u64 + spare;
        if self.leased > needed + spare {
            left.fetch_add((self.leased - needed) as i64, Relaxed);
            self.leased = needed;
        }
    }
}

impl Drop for TraceLease {
    /// The room of a sampler that ends is the others'.
    fn drop(&mut self) {
        if let Some(left) = &self.shared.left {
            left.fetch_add(self.leased as i64, Relaxed);
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
    fn another_limit_counts_what_is_pending_and_is_kept_as_soon_as_that_fits() {
        let [before, after] = [100, 4].map(|traces_max| SharedTraces::new(Some(traces_max)));
        let mut leases = [before.lease(), before.lease()];
        let mut pending = [5, 3];
        for (lease, pending) in leases.iter_mut().zip(pending) {
            (0..pending).for_each(|pending| assert!(lease.make_room(pending)));
            lease.follow(&after, pending);
            lease.follow(&after, pending);
        }
        assert!(before.lease().has_room(0), "what was leased of the old limit is given back");
        while leases[0].is_too_much() {
            assert!(!leases[0].make_room(pending[0]) && !leases[1].has_room(pending[1]));
            pending[0] -= 1;
            leases[0].trim(pending[0]);
        }
        assert_eq!(pending, [1, 3]);
        leases[1].trim(0);
        assert!((1..3).all(|pending| leases[0].make_room(pending)) && leases[1].make_room(0), "there is room for four");
        assert!(!leases[0].make_room(3) && !leases[1].make_room(1), "and for no more");
        leases[1].follow(&SharedTraces::new(None), 2);
        assert!(leases[1].make_room(usize::MAX - 1) && leases[0].make_room(3), "one without a limit has room");
    }

    #[test]
    fn while_there_are_too_many_a_trace_that_ends_makes_no_room_for_another() {
        let [before, after] = [100, 4].map(|traces_max| SharedTraces::new(Some(traces_max)));
        let mut lease = before.lease();
        (0..7).for_each(|pending| assert!(lease.make_room(pending)));
        lease.follow(&after, 7);
        assert!(!lease.make_room(6), "six are pending");
        assert!(!lease.make_room(4), "four are: one has to go first");
        assert!(lease.make_room(3));
    }

    #[test]
    fn without_a_limit_there_is_always_room() {
        let mut lease = SharedTraces::new(None).lease();
        assert!(lease.make_room(usize::MAX) && lease.has_room(usize::MAX));
    }
}
