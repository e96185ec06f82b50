//! How busy each shard is, for its peers.
//!
//! The one idea: a shard publishes a counter of the nanoseconds it was busy, not a share. A shard that sleeps publishes
//! nothing, and its counter, standing still, says rightly that it is idle. Each reader turns two looks at the counters
//! into shares of the time between them. One relaxed store per turn, one relaxed load per peer and look; no total order
//! is needed, because an old value is only an old opinion.
//!
//! Time says that a shard is busy only after the fact. The requests in its hands, taken and not answered, say it at once
//! and on any machine, however its threads are scheduled: they are published when they change.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Shortest time between two looks: shorter ones measure single requests.
const LOOK_NS_MIN: u64 = 10_000_000;
/// A shard above this share looks for a less busy peer.
pub const BUSY_SHARE: f64 = 0.7;
/// How much less busy the peer has to be: handing a request over costs both shards.
pub const MARGIN_SHARE: f64 = 0.1;

/// Requests in a shard's hands from which on it looks for a peer with fewer: a sender that waits for each answer, or a
/// few that do, are served where they are.
pub const REQUESTS_IN_HAND_MANY: u64 = 8;
/// How many fewer the peer has to have.
pub const MARGIN_REQUESTS: u64 = 2;

/// One shard's counters, alone on their cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Published {
    busy_ns: AtomicU64,
    connections: AtomicU64,
    requests_in_hand: AtomicU64,
}

/// All shards' counters, and what one shard made of them.
#[derive(Debug)]
pub struct Loads {
    shard: usize,
    published: Arc<[Published]>,
    looked_ns: u64,
    busy_ns: Vec<u64>,
    shares: Vec<f64>,
}

impl Loads {
    /// One view for each shard.
    pub(super) fn new(shards: usize) -> Vec<Loads> {
        let published: Arc<[Published]> = (0..shards).map(|_| Published::default()).collect();
        let view = |shard| Loads {
            shard,
            published: Arc::clone(&published),
            looked_ns: 0,
            busy_ns: vec![0; shards],
            shares: vec![0.0; shards],
        };
        (0..shards).map(view).collect()
    }

    /// The shard whose view this is.
    pub(super) fn shard(&self) -> usize {
        self.shard
    }

    /// Publishes this shard's busy time since it started, in nanoseconds, and its open connections. Once a turn.
    pub fn publish(&self, busy_ns: u64, connections: u64) {
        let own = &self.published[self.shard];
        own.busy_ns.store(busy_ns, Ordering::Relaxed);
        own.connections.store(connections, Ordering::Relaxed);
    }

    /// Publishes how many requests this shard has taken and not answered.
    pub fn publish_in_hand(&self, requests: u64) {
        self.published[self.shard].requests_in_hand.store(requests, Ordering::Relaxed);
    }

    /// Requests in a shard's hands, as it last said.
    pub fn in_hand(&self, shard: usize) -> u64 {
        self.published[shard].requests_in_hand.load(Ordering::Relaxed)
    }

    /// The peer with the fewest requests in hand, if this shard has many and that one clearly fewer. `sent` is how many
    /// this shard has sent to a peer and not got back: the peer may not have seen the last of them.
    pub fn emptier(&self, sent: impl Fn(usize) -> u64) -> Option<usize> {
        let own = self.in_hand(self.shard);
        if own < REQUESTS_IN_HAND_MANY {
            return None;
        }
        let peers = (0..self.published.len()).filter(|shard| *shard != self.shard);
        let held = peers.map(|peer| (self.in_hand(peer).max(sent(peer)), peer));
        held.min().filter(|(held, _)| held + MARGIN_REQUESTS <= own).map(|(_, peer)| peer)
    }

    /// Brings the shares up to date if the last look is at least 10 ms ago. `now_ns` is the monotonic clock.
    pub fn look(&mut self, now_ns: u64) {
        let elapsed_ns = now_ns.saturating_sub(self.looked_ns);
        if elapsed_ns < LOOK_NS_MIN {
            return;
        }
        self.looked_ns = now_ns;
        for (shard, published) in self.published.iter().enumerate() {
            let busy_ns = published.busy_ns.load(Ordering::Relaxed);
            let news_ns = busy_ns.saturating_sub(std::mem::replace(&mut self.busy_ns[shard], busy_ns));
            self.shares[shard] = (news_ns as f64 / elapsed_ns as f64).min(1.0);
        }
    }

    /// Busy share of a shard at the last look, 0 to 1.
    pub fn share(&self, shard: usize) -> f64 {
        self.shares[shard]
    }

    /// Open connections of a shard.
    pub fn connections(&self, shard: usize) -> u64 {
        self.published[shard].connections.load(Ordering::Relaxed)
    }

    /// The peer with the smallest share plus `penalty`, a share that the caller expects to have added since the look.
    pub fn least_busy(&self, penalty: impl Fn(usize) -> f64) -> Option<usize> {
        let cost = |shard: usize| self.shares[shard] + penalty(shard);
        let peers = (0..self.shares.len()).filter(|shard| *shard != self.shard);
        peers.min_by(|one, two| cost(*one).total_cmp(&cost(*two)))
    }

    /// Whether `peer` is so much less busy than this busy shard that handing it a request pays.
    pub fn relieves(&self, peer: usize) -> bool {
        let own = self.shares[self.shard];
        own > BUSY_SHARE && self.shares[peer] + MARGIN_SHARE <= own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_shard_that_sleeps_is_idle_although_it_publishes_nothing() {
        let mut loads = Loads::new(3);
        loads[0].publish(90 * MS, 1);
        loads[1].publish(50 * MS, 2);
        loads[0].look(100 * MS);
        assert_eq!((loads[0].share(0), loads[0].share(1), loads[0].share(2)), (0.9, 0.5, 0.0));
        assert_eq!(loads[0].least_busy(|_| 0.0), Some(2));
        assert_eq!(loads[0].connections(1), 2);
        loads[0].look(200 * MS);
        assert_eq!((loads[0].share(0), loads[0].share(1)), (0.0, 0.0));
    }

    #[test]
    fn a_look_too_soon_keeps_the_last_opinion() {
        let mut loads = Loads::new(2);
        loads[1].publish(10 * MS, 0);
        loads[0].look(20 * MS);
        loads[1].publish(20 * MS, 0);
        loads[0].look(29 * MS);
        assert_eq!(loads[0].share(1), 0.5);
    }

    #[test]
    fn what_was_just_handed_over_counts_against_a_peer() {
        let mut loads = Loads::new(3);
        loads[1].publish(10 * MS, 0);
        loads[0].look(100 * MS);
        assert_eq!(loads[0].least_busy(|shard| if shard == 2 { 0.2 } else { 0.0 }), Some(1));
    }

    #[test]
    fn only_a_busy_shard_hands_over_and_only_to_one_that_is_clearly_less_busy() {
        for (own, peer, relieved) in [(95, 50, true), (95, 90, false), (70, 0, false), (71, 0, true)] {
            let mut loads = Loads::new(2);
            loads[0].publish(own * MS, 0);
            loads[1].publish(peer * MS, 0);
            loads[0].look(100 * MS);
            assert_eq!(loads[0].relieves(1), relieved, "{own} % and {peer} %");
        }
    }

    #[test]
    fn a_shard_alone_has_no_peer() {
        let loads = Loads::new(1);
        loads[0].publish_in_hand(1000);
        assert_eq!(loads[0].least_busy(|_| 0.0), None);
        assert_eq!(loads[0].emptier(|_| 0), None);
    }

    #[test]
    fn a_shard_with_many_requests_in_hand_looks_for_the_peer_with_the_fewest() {
        let loads = Loads::new(3);
        loads[1].publish_in_hand(5);
        for (own, found) in [(0, None), (7, None), (8, Some(2)), (100, Some(2))] {
            loads[0].publish_in_hand(own);
            assert_eq!(loads[0].emptier(|_| 0), found, "{own} in hand");
        }
        let sent = |peer| if peer == 2 { 50 } else { 0 };
        assert_eq!(loads[0].emptier(sent), Some(1), "what is under way counts before the peer says so");
        loads[0].publish_in_hand(8);
        loads[1].publish_in_hand(7);
        assert_eq!(loads[0].emptier(sent), None, "one fewer is not worth the way");
    }

    #[test]
    fn requests_that_stay_in_hand_spread_over_all_shards() {
        let loads = Loads::new(4);
        let mut held = [0_u64; 4];
        for _ in 0..120 {
            let shard = loads[0].emptier(|peer| held[peer]).unwrap_or(0);
            held[shard] += 1;
            loads[0].publish_in_hand(held[0]);
        }
        assert!(held.iter().all(|requests| (28..=32).contains(requests)), "{held:?}");
    }
}
