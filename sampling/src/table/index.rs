//! What is known of each trace id: pending in a record, or kept.
//!
//! ```text
//! hash -> home bucket -> [fingerprint | state | decided at] ... linear probing; four buckets a cache line
//! ```
//!
//! One table for both questions, because a span that arrives asks both and each table is a cache miss: a trace that is
//! kept leaves its bucket where it is, turned from pending to decided. It answers for late spans until `kept_max` later
//! traces were kept; then it counts as empty, and a hand that sweeps over some buckets with each decision takes it out.
//! Its late spans keep it alive. A trace that is dropped gives its bucket back at once: there are many more of them, and
//! [`super::dropped`] remembers them in a quarter of the memory. Compared with a table that keeps tags apart from
//! entries, a lookup is one miss instead of two, and short enough that the processor overlaps those of many spans.
//!
//! A fingerprint is the seeded 64-bit hash of the trace id; among a million traces two share one about once in 10^7
//! such millions. Then the later one follows the decision of the earlier, or, while that is pending (the caller compares
//! the id itself), its spans are decided one by one.

use super::watermark::Watermark;
use crate::policy::Decision;

/// What is known of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Nothing: it is new, or was forgotten.
    No,
    /// It is pending in this record, if that record has its id.
    Pending(u32),
    /// It was decided, not long ago.
    Decided {
        /// So.
        decision: Decision,
        /// Before its deadline, because nothing could change the decision.
        early: bool,
    },
    /// It was shed, not long ago.
    Shed,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    fingerprint: u64,
    /// [`EMPTY`], a slot, or [`DECIDED`] with the outcome.
    state: u32,
    /// Number of the decision, if decided.
    decided_at: u32,
}

/// Bytes that a kept trace takes in the table at most, on average: buckets are doubled when 5 of 8 are filled, and a
/// quarter of what is forgotten lies about.
pub const BYTES_PER_KEPT: usize = 64;

/// Set in the state of a kept trace; the low 16 bits are the policy.
const DECIDED: u32 = 1 << 31;
/// The largest state that is not decided.
const EMPTY: u32 = DECIDED - 1;
/// Set beside [`DECIDED`] if the trace was decided before its deadline.
const EARLY: u32 = 1 << 16;

const VACANT: Bucket = Bucket { fingerprint: 0, state: EMPTY, decided_at: 0 };

const _: () = assert!(size_of::<Bucket>() == 16, "four buckets fill a cache line");

/// Buckets that are never given back.
const BUCKETS_MIN: usize = 1_024;

/// The hand goes round this often while `kept_max` traces are kept, so a quarter of them lies about forgotten.
const SWEEPS: usize = 4;

#[derive(Debug)]
pub(crate) struct Index {
    /// A power of two.
    buckets: Vec<Bucket>,
    /// Buckets that are not empty.
    filled: usize,
    pending: usize,
    kept_max: u32,
    /// Traces kept or remembered anew, wrapping.
    decisions: u32,
    hand: usize,
    watermark: Watermark,
}

impl Index {
    pub(crate) fn new(kept_max: usize) -> Self {
        Self {
            buckets: vec![VACANT; BUCKETS_MIN],
            filled: 0,
            pending: 0,
            kept_max: kept_max_of(kept_max),
            decisions: 0,
            hand: 0,
            watermark: Watermark::default(),
        }
    }

    /// Pending traces.
    #[inline]
    pub(crate) fn pending(&self) -> usize {
        self.pending
    }

    /// What is known of the trace with this hash.
    #[inline]
    pub(crate) fn find(&self, hash: u64) -> Known {
        let mask = self.buckets.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let bucket = self.buckets[at];
            if bucket.state == EMPTY {
                return Known::No;
            }
            if bucket.fingerprint == hash {
                return self.known(bucket);
            }
            at = (at + 1) & mask;
        }
    }

    /// Reads where [`Index::find`] will begin, and no more: a caller that asks this for many traces, without looking at
    /// the answers, has their cache misses overlap.
    #[inline]
    pub(crate) fn touch(&self, hash: u64) -> u32 {
        self.buckets[hash as usize & (self.buckets.len() - 1)].state
    }

    #[inline]
    fn known(&self, bucket: Bucket) -> Known {
        if bucket.state & DECIDED == 0 {
            return Known::Pending(bucket.state);
        }
        if self.is_forgotten(bucket) {
            return Known::No;
        }
        let decision = Decision::Sampled { policy: bucket.state as u16 };
        Known::Decided { decision, early: bucket.state & EARLY != 0 }
    }

    #[inline]
    fn is_forgotten(&self, bucket: Bucket) -> bool {
        bucket.state & DECIDED != 0 && self.decisions.wrapping_sub(bucket.decided_at) >= self.kept_max
    }

    /// Notes a trace of which nothing is known as pending in `slot`.
    pub(crate) fn insert(&mut self, hash: u64, slot: u32) {
        if (self.filled + 1) * 8 > self.buckets.len() * 5 {
            self.rebuild(self.buckets.len());
        }
        assert!(slot < EMPTY, "memory ends long before 2^31 traces");
        self.pending += 1;
        self.watermark.observe(self.pending);
        let mask = self.buckets.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let bucket = self.buckets[at];
            // What was forgotten of this very trace must not be found before the new entry.
            if bucket.state == EMPTY || (bucket.fingerprint == hash && self.is_forgotten(bucket)) {
                break;
            }
            at = (at + 1) & mask;
        }
        self.filled += usize::from(self.buckets[at].state == EMPTY);
        self.buckets[at] = Bucket { fingerprint: hash, state: slot, decided_at: 0 };
    }

    /// The trace pending in `slot` is kept; `early`: before its deadline.
    #[inline]
    pub(crate) fn keep(&mut self, hash: u64, slot: u32, policy: u16, early: bool) {
        self.decisions = self.decisions.wrapping_add(1);
        self.pending -= 1;
        let at = self.bucket_of(hash, slot);
        self.buckets[at].state = DECIDED | u32::from(policy) | if early { EARLY } else { 0 };
        self.buckets[at].decided_at = self.decisions;
        self.sweep();
    }

    /// The trace pending in `slot` is dropped: nothing of it is known here any more.
    #[inline]
    pub(crate) fn drop(&mut self, hash: u64, slot: u32) {
        self.pending -= 1;
        let at = self.bucket_of(hash, slot);
        self.remove(at);
    }

    /// So many kept traces are remembered from now on.
    pub(crate) fn change_kept_max(&mut self, kept_max: usize) {
        let kept_max = kept_max_of(kept_max);
        if kept_max > self.kept_max {
            // What was forgotten and still lies about stays forgotten.
            self.rebuild(BUCKETS_MIN);
        }
        let is_less = kept_max < self.kept_max;
        self.kept_max = kept_max;
        if is_less {
            // What is forgotten at once would else be swept, bit by bit, by every trace that is kept.
            self.rebuild(BUCKETS_MIN);
        }
    }

    fn bucket_of(&self, hash: u64, slot: u32) -> usize {
        let mask = self.buckets.len() - 1;
        let mut at = hash as usize & mask;
        while self.buckets[at].state != slot {
            assert_ne!(self.buckets[at].state, EMPTY, "an undecided trace is listed under its hash");
            at = (at + 1) & mask;
        }
        at
    }

    /// A late span of a kept trace came. It is remembered as if it had been kept now, once it is half forgotten: so each
    /// span need not push another trace out.
    pub(crate) fn refresh(&mut self, hash: u64) {
        let mask = self.buckets.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let bucket = self.buckets[at];
            if bucket.state == EMPTY {
                return;
            }
            if bucket.fingerprint == hash && bucket.state & DECIDED != 0 {
                break;
            }
            at = (at + 1) & mask;
        }
        if self.decisions.wrapping_sub(self.buckets[at].decided_at) >= self.kept_max.div_ceil(2) {
            self.decisions = self.decisions.wrapping_add(1);
            self.buckets[at].decided_at = self.decisions;
        }
    }

    /// Takes forgotten decisions out of a few buckets.
    fn sweep(&mut self) {
        let mask = self.buckets.len() - 1;
        for _ in 0..(self.buckets.len() * SWEEPS / self.kept_max as usize + 1).min(self.buckets.len()) {
            if self.is_forgotten(self.buckets[self.hand]) {
                self.remove(self.hand);
            } else {
                self.hand = (self.hand + 1) & mask;
            }
        }
    }

    /// Empties a bucket, moving those behind it that had to give way to it.
    fn remove(&mut self, at: usize) {
        let mask = self.buckets.len() - 1;
        let mut hole = at;
        let mut next = (hole + 1) & mask;
        while self.buckets[next].state != EMPTY {
            let home = self.buckets[next].fingerprint as usize & mask;
            let distance_from_home = next.wrapping_sub(home) & mask;
            let distance_from_hole = next.wrapping_sub(hole) & mask;
            if distance_from_home >= distance_from_hole {
                self.buckets[hole] = self.buckets[next];
                hole = next;
            }
            next = (next + 1) & mask;
        }
        self.buckets[hole] = VACANT;
        self.filled -= 1;
    }

    /// Moves everything that is not forgotten to new buckets: twice `buckets_min` of them, or fewer if few are filled.
    #[cold]
    fn rebuild(&mut self, buckets_min: usize) {
        let remembered = self.buckets.iter().filter(|bucket| bucket.state != EMPTY && !self.is_forgotten(**bucket));
        let remembered = remembered.count();
        let mut buckets = buckets_min.max(BUCKETS_MIN);
        while (remembered + 1) * 2 > buckets {
            buckets *= 2;
        }
        let old = std::mem::replace(&mut self.buckets, vec![VACANT; buckets]);
        let mask = buckets - 1;
        for bucket in old {
            if bucket.state == EMPTY || self.is_forgotten(bucket) {
                continue;
            }
            let mut at = bucket.fingerprint as usize & mask;
            while self.buckets[at].state != EMPTY {
                at = (at + 1) & mask;
            }
            self.buckets[at] = bucket;
        }
        self.filled = remembered;
        self.hand = 0;
    }

    /// Starts a new window and gives back buckets that no recent one needed.
    pub(crate) fn rotate_window(&mut self) {
        self.watermark.rotate(self.pending);
        let needed = self.watermark.needed() + self.filled - self.pending;
        if needed * 8 < self.buckets.len() && self.buckets.len() > BUCKETS_MIN {
            self.rebuild((needed * 2).next_power_of_two());
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<Bucket>()
    }
}

/// Far below 2^31, so that numbers of decisions may wrap.
fn kept_max_of(traces: usize) -> u32 {
    traces.clamp(1, 1 << 28) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn kept(n: u64) -> Known {
        Known::Decided { decision: Decision::Sampled { policy: n as u16 % 3 }, early: n.is_multiple_of(2) }
    }

    fn keep(index: &mut Index, hash: u64, slot: u32, n: u64) {
        index.keep(hash, slot, n as u16 % 3, n.is_multiple_of(2));
    }

    #[test]
    fn a_kept_trace_is_remembered_until_as_many_others_were_kept_and_then_gives_its_bucket_back() {
        let mut index = Index::new(10);
        let hash = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for n in 0..3_000 {
            assert_eq!(index.find(hash(n)), Known::No);
            index.insert(hash(n), n as u32);
            assert_eq!(index.find(hash(n)), Known::Pending(n as u32));
            keep(&mut index, hash(n), n as u32, n);
            for recent in n.saturating_sub(9)..=n {
                assert_eq!(index.find(hash(recent)), kept(recent));
            }
            if n >= 10 {
                assert_eq!(index.find(hash(n - 10)), Known::No);
            }
            assert!(index.filled <= 20);
        }
        assert_eq!(index.buckets.len(), BUCKETS_MIN);
    }

    #[test]
    fn another_number_of_kept_traces_forgets_the_oldest_and_never_wakes_what_was_forgotten() {
        let hash = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut index = Index::new(10);
        let fill = |index: &mut Index, numbers: std::ops::Range<u64>| {
            for n in numbers {
                index.insert(hash(n), n as u32);
                keep(index, hash(n), n as u32, n);
            }
        };
        let known =
            |index: &Index, end: u64| -> Vec<u64> { (0..end).filter(|n| index.find(hash(*n)) != Known::No).collect() };
        fill(&mut index, 0..30);
        index.change_kept_max(20);
        assert_eq!(known(&index, 30), (20..30).collect::<Vec<_>>());
        fill(&mut index, 30..45);
        assert_eq!(known(&index, 45), (25..45).collect::<Vec<_>>());
        index.change_kept_max(3);
        assert_eq!(known(&index, 45), (42..45).collect::<Vec<_>>());
    }

    #[test]
    fn a_kept_trace_whose_spans_still_come_is_not_forgotten() {
        let mut index = Index::new(10);
        index.insert(7, 1);
        keep(&mut index, 7, 1, 4);
        for n in 0..1_000 {
            index.insert(1_000_000 + n, 2);
            keep(&mut index, 1_000_000 + n, 2, n);
            index.refresh(7);
            assert_eq!(index.find(7), kept(4));
            assert!(index.filled <= 20);
        }
    }

    /// Few distinct hashes, many of them with the same home, against a map.
    #[test]
    fn any_order_of_inserts_and_decisions_is_found_as_a_map_finds_it() {
        for (kept_max, homes) in [(3, 5), (40, 700), (1_000_000, 1_500)] {
            let mut index = Index::new(kept_max);
            let mut map: HashMap<u64, (Known, u64)> = HashMap::new();
            let mut pending: Vec<(u64, u32)> = Vec::new();
            let (mut state, mut decisions) = (1u64, 0u64);
            for step in 0..10_000u32 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let hash = ((state >> 33) % homes * 41) | ((state >> 62) << 40);
                let expected = match map.get(&hash) {
                    Some((Known::Decided { .. }, at)) if decisions - at >= kept_max as u64 => Known::No,
                    Some((known, _)) => *known,
                    None => Known::No,
                };
                assert_eq!(index.find(hash), expected);
                if expected == Known::No {
                    index.insert(hash, step);
                    map.insert(hash, (Known::Pending(step), 0));
                    pending.push((hash, step));
                }
                if state >> 32 & 1 == 0 && !pending.is_empty() {
                    let (hash, slot) = pending.swap_remove((state >> 40) as usize % pending.len());
                    if state >> 50 & 1 == 0 {
                        decisions += 1;
                        keep(&mut index, hash, slot, hash);
                        map.insert(hash, (kept(hash), decisions));
                    } else {
                        index.drop(hash, slot);
                        map.remove(&hash);
                    }
                }
                if step % 1_500 == 0 {
                    index.rotate_window();
                }
                assert_eq!(index.pending(), pending.len());
            }
        }
    }

    #[test]
    fn buckets_of_a_burst_are_given_back_after_two_windows() {
        let mut index = Index::new(1_000);
        let hash = |n: u32| u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (0..30_000).for_each(|n| index.insert(hash(n), n));
        let bytes = index.bytes();
        (0..29_999).for_each(|n| index.drop(hash(n), n));
        index.rotate_window();
        assert_eq!(index.bytes(), bytes);
        index.rotate_window();
        index.rotate_window();
        assert!(index.bytes() <= bytes / 16);
        assert_eq!(index.find(hash(29_999)), Known::Pending(29_999));
    }
}
