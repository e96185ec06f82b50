//! Rates of the whole process: what policies that limit something per second have spent.
//!
//! One atomic word per limit, shared by the samplers of a node on all shards, because a rate belongs to the process: 1
//! span a second stays 1 on 64 shards, which shares of the rate could not give. A refusal only reads the word; it is
//! written for traces that are admitted, and their number is what is limited.
//!
//! When rules change, a policy that stays as it was keeps its words: what it has spent is spent.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::settings::{Goal, Rule, Settings};
use crate::shares::{Board, Plan, Share};
use crate::traces::{SharedTraces, TraceLease};

const NANOSECONDS_PER_SECOND: u64 = 1_000_000_000;

/// A word on its own cache line.
#[derive(Default)]
#[repr(align(64))]
struct Cell(AtomicU64);

/// What the rate limits of one `tail_sampling` node have spent, over all its samplers, and how many traces they hold.
#[derive(Clone, Default)]
pub struct SharedRates {
    cells: Arc<[Arc<Cell>]>,
    traces: SharedTraces,
    boards: Arc<[Arc<Board>]>,
}

impl SharedRates {
    /// For samplers of these settings, nothing spent yet.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let all = settings.policies.iter().map(|policy| needs_of(&policy.rule, settings.write_threshold));
        let needs = all.fold(Needs::default(), Needs::and);
        Self {
            cells: (0..needs.cells).map(|_| Arc::default()).collect(),
            boards: (0..needs.boards).map(|_| Arc::default()).collect(),
            traces: SharedTraces::new(settings.traces_max),
        }
    }

    /// For samplers whose rules become `after`; these were made for `before`. A policy that both have, by name and rule,
    /// goes on with what it has spent; all others begin anew. So does the number of traces, which counts those that are pending.
    #[must_use]
    pub fn following(&self, before: &Settings, after: &Settings) -> Self {
        let fresh = Self::new(after);
        let (mut cells, mut boards) = (fresh.cells.to_vec(), fresh.boards.to_vec());
        // Boards know keys by the columns of their attributes; thresholds need boards of their own.
        let same_meaning =
            before.write_threshold == after.write_threshold && before.key_attributes() == after.key_attributes();
        let places_before = Needs::places(before);
        for (policy, (start, needs)) in after.policies.iter().zip(Needs::places(after)) {
            let kept = before.policies.iter().position(|known| known == policy).filter(|_| same_meaning);
            let Some((from, _)) = kept.map(|kept| places_before[kept]) else {
                continue;
            };
            let (cells_before, boards_before) = (&self.cells[from.cells..], &self.boards[from.boards..]);
            cells[start.cells..][..needs.cells].clone_from_slice(&cells_before[..needs.cells]);
            boards[start.boards..][..needs.boards].clone_from_slice(&boards_before[..needs.boards]);
        }
        let same_number = before.traces_max == after.traces_max;
        let traces = if same_number { self.traces.clone() } else { fresh.traces };
        Self { cells: cells.into(), boards: boards.into(), traces }
    }

    /// Room for traces in one of the samplers.
    pub(crate) fn traces(&self) -> TraceLease {
        self.traces.lease()
    }

    /// The sampler that has this lease, and so many pending traces, shares its limit with those of these rates.
    pub(crate) fn follow_traces(&self, lease: &mut TraceLease, pending: usize) {
        lease.follow(&self.traces, pending);
    }

    pub(crate) fn cells(&self) -> Cells<'_> {
        Cells { rates: self, next: 0, next_board: 0 }
    }
}

impl fmt::Debug for SharedRates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.cells.iter().map(|cell| cell.0.load(Relaxed))).finish()
    }
}

/// What the limits and goals of a rule need: words, and boards.
#[derive(Clone, Copy, Debug, Default)]
struct Needs {
    cells: usize,
    boards: usize,
}

impl Needs {
    fn and(self, other: Self) -> Self {
        Self { cells: self.cells + other.cells, boards: self.boards + other.boards }
    }

    /// Of each policy: where its words and boards begin, and how many they are.
    fn places(settings: &Settings) -> Vec<(Self, Self)> {
        let needs = settings.policies.iter().map(|policy| needs_of(&policy.rule, settings.write_threshold));
        let mut start = Self::default();
        let place = |needs: Self| {
            let after = start.and(needs);
            (std::mem::replace(&mut start, after), needs)
        };
        needs.map(place).collect()
    }
}

/// `weighs`: limits are kept by thresholds, each with a board.
fn needs_of(rule: &Rule, weighs: bool) -> Needs {
    let limit = Needs { cells: 1, boards: usize::from(weighs) };
    let all = |rules: &[Rule]| rules.iter().map(|rule| needs_of(rule, weighs)).fold(Needs::default(), Needs::and);
    match rule {
        Rule::RateLimiting { .. } | Rule::BytesLimiting { .. } => limit,
        Rule::Dynamic { goal: Goal::OneOf(_), .. } => Needs { cells: 0, boards: 1 },
        Rule::Dynamic { goal: Goal::SpansPerSecond(_), .. } => Needs { cells: 1, boards: 1 },
        Rule::And(rules) | Rule::Drop(rules) => all(rules),
        Rule::Not(rule) | Rule::DryRun(rule) => needs_of(rule, weighs),
        Rule::Composite { parts, .. } => {
            parts.iter().map(|part| needs_of(&part.rule, weighs).and(limit)).fold(limit, Needs::and)
        }
        _ => Needs::default(),
    }
}

/// Hands out the words, to every sampler in the same order.
pub(crate) struct Cells<'a> {
    rates: &'a SharedRates,
    next: usize,
    next_board: usize,
}

impl Cells<'_> {
    fn next(&mut self) -> Shared {
        let cell = self.next;
        assert!(cell < self.rates.cells.len(), "shared rates are made for the settings of their samplers");
        self.next += 1;
        Shared(Arc::clone(&self.rates.cells[cell]))
    }

    pub(crate) fn bucket(&mut self, per_second: u64, burst: u64) -> TokenBucket {
        let per_second = per_second.max(1);
        TokenBucket { shared: self.next(), per_second, burst, burst_ns: duration_ns(burst, per_second) }
    }

    pub(crate) fn pace(&mut self, per_second: f64, burst: f64) -> Pace {
        Pace {
            shared: self.next(),
            per_second,
            burst_ns: (burst / per_second * NANOSECONDS_PER_SECOND as f64).max(1.0),
        }
    }

    pub(crate) fn share(&mut self, plan: Plan) -> Share {
        let board = self.next_board;
        assert!(board < self.rates.boards.len(), "shared rates are made for the settings of their samplers");
        self.next_board += 1;
        Share::new(plan, Arc::clone(&self.rates.boards[board]))
    }

    pub(crate) fn window(&mut self, per_second: u32) -> Window {
        Window { shared: self.next(), per_second }
    }
}

#[derive(Clone, Debug)]
struct Shared(Arc<Cell>);

impl Shared {
    fn load(&self) -> u64 {
        self.0.0.load(Relaxed)
    }

    /// Replaces the word by what `next` makes of it, until it says `None`. True if it was replaced.
    fn update(&self, next: impl FnMut(u64) -> Option<u64>) -> bool {
        self.0.0.fetch_update(Relaxed, Relaxed, next).is_ok()
    }
}

impl fmt::Debug for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.load(Relaxed))
    }
}

/// A token bucket: full at first, refilled continuously.
///
/// The word is the time at which the bucket will be full again. Tokens cost time: taking `n` moves it by `n / rate`, and
/// it may lie at most `burst / rate` ahead. So a bucket needs no refilling and no second word.
#[derive(Clone, Debug)]
pub(crate) struct TokenBucket {
    shared: Shared,
    per_second: u64,
    burst: u64,
    burst_ns: u64,
}

impl TokenBucket {
    /// Takes `cost` tokens if there are so many.
    pub(crate) fn take(&self, now_ns: u64, cost: u64) -> bool {
        if cost > self.burst {
            return false;
        }
        let cost_ns = duration_ns(cost, self.per_second);
        self.shared.update(|full_at_ns| {
            let full_at_ns = full_at_ns.max(now_ns).saturating_add(cost_ns);
            (full_at_ns - now_ns <= self.burst_ns).then_some(full_at_ns)
        })
    }
}

/// A bucket for what is drawn by lot: it refuses nothing, and says by how much less is to be drawn while it is low.
///
/// The word is that of [`TokenBucket`], but it may lie further ahead than the burst: what was drawn is paid for later.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    shared: Shared,
    per_second: f64,
    burst_ns: f64,
}

impl Pace {
    /// 1 while the bucket is half full; below that less, in proportion; next to nothing when it is empty, and half of
    /// that for each bucket that is owed. Never 0.
    pub(crate) fn factor(&self, now_ns: u64) -> f64 {
        const EMPTY: f64 = 1.0 / 1024.0;
        let ahead_ns = self.shared.load().saturating_sub(now_ns) as f64;
        let level = 1.0 - ahead_ns / self.burst_ns;
        if level > 0.0 { (2.0 * level).clamp(EMPTY, 1.0) } else { EMPTY * level.max(-64.0).exp2() }
    }

    /// Takes `cost` tokens, whether they are there or not.
    pub(crate) fn spend(&self, now_ns: u64, cost: f64) {
        let cost_ns = cost / self.per_second * NANOSECONDS_PER_SECOND as f64;
        self.shared.update(|full_at_ns| Some(full_at_ns.max(now_ns).saturating_add(cost_ns as u64)));
    }
}

/// In how many nanoseconds so many tokens come back, rounded down: so that a burst of small costs is never more than one
/// large cost.
fn duration_ns(tokens: u64, per_second: u64) -> u64 {
    let duration_ns = u128::from(tokens) * u128::from(NANOSECONDS_PER_SECOND) / u128::from(per_second);
    u64::try_from(duration_ns).unwrap_or(u64::MAX)
}

/// So much in each whole second, without bursts. The word is the second and what was spent in it.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    shared: Shared,
    per_second: u32,
}

impl Window {
    /// Spends `cost` if the second has so much left.
    pub(crate) fn take(&self, now_ns: u64, cost: u32) -> bool {
        let now = second(now_ns);
        self.shared.update(|word| {
            let (of, spent) = unpack(word);
            // Another shard may have begun the next second already.
            let (of, spent) = if of >= now { (of, spent) } else { (now, 0) };
            let spent = spent.checked_add(cost)?;
            (spent <= self.per_second).then_some(pack(of, spent))
        })
    }

    /// Takes back what was spent at `now_ns`, if its second still runs.
    pub(crate) fn give_back(&self, now_ns: u64, cost: u32) {
        let now = second(now_ns);
        self.shared.update(|word| {
            let (of, spent) = unpack(word);
            (of == now).then(|| pack(of, spent.saturating_sub(cost)))
        });
    }
}

/// 32 bits of seconds are 136 years.
fn second(now_ns: u64) -> u32 {
    (now_ns / NANOSECONDS_PER_SECOND) as u32
}

fn pack(second: u32, spent: u32) -> u64 {
    u64::from(second) << 32 | u64::from(spent)
}

fn unpack(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = NANOSECONDS_PER_SECOND;

    fn rates(cells: usize) -> SharedRates {
        SharedRates { cells: (0..cells).map(|_| Arc::default()).collect(), ..SharedRates::default() }
    }

    #[test]
    fn a_bucket_starts_full_and_refills_with_time() {
        let rates = rates(1);
        let bucket = rates.cells().bucket(3, 6);
        let taken = |now_ns, cost| bucket.take(now_ns, cost);
        assert!((0..6).all(|_| taken(SECOND, 1)), "a burst of single tokens");
        assert!(!taken(SECOND, 1));
        assert!(!taken(SECOND + SECOND / 3 - 10, 1));
        assert!(taken(SECOND + SECOND / 3, 1));
        assert!(taken(10 * SECOND, 6), "never more than the burst, and all of it at once");
        assert!(!taken(10 * SECOND, 1));
        assert!(!taken(1_000 * SECOND, 7), "more than the burst never passes");
    }

    #[test]
    fn a_bucket_admits_its_rate_for_any_rate() {
        for per_second in [1, 3, 7, 1_000, 999_983, 1_000_000_007, 40_000_000_000] {
            let rates = rates(1);
            let bucket = rates.cells().bucket(per_second, per_second);
            let cost = per_second.div_ceil(50);
            let admitted: u64 = (0..10_000).map(|ms| u64::from(bucket.take(ms * 1_000_000, cost)) * cost).sum();
            let expected = 11 * per_second;
            assert!(admitted.abs_diff(expected) <= expected / 100 + 2 * cost, "{per_second}: {admitted}");
        }
    }

    #[test]
    fn samplers_that_share_a_bucket_share_its_tokens() {
        let rates = rates(1);
        let shards: Vec<_> = (0..4).map(|_| rates.clone().cells().bucket(1, 1)).collect();
        let admitted =
            (0..100u64).map(|tick| shards.iter().filter(|bucket| bucket.take(tick * SECOND / 10, 1)).count());
        assert_eq!(admitted.sum::<usize>(), 10);
    }

    #[test]
    fn a_policy_that_stays_as_it_was_goes_on_with_what_it_has_spent() {
        let limit = |spans_per_second| Rule::RateLimiting { spans_per_second, burst_spans: 1 };
        let settings = |rules: &[(&str, u64)]| Settings {
            policies: rules
                .iter()
                .map(|(name, rate)| crate::settings::Policy { name: (*name).to_owned(), rule: limit(*rate) })
                .collect(),
            ..Settings::default()
        };
        let (before, after) = (settings(&[("a", 1), ("b", 1)]), settings(&[("new", 1), ("b", 1), ("a", 2)]));
        let rates = SharedRates::new(&before);
        let mut cells = rates.cells();
        let spent = [cells.bucket(1, 1), cells.bucket(1, 1)].map(|bucket| bucket.take(SECOND, 1));
        assert_eq!(spent, [true, true]);
        let following = rates.following(&before, &after);
        let mut cells = following.cells();
        let left = [cells.bucket(1, 1), cells.bucket(1, 1), cells.bucket(2, 1)].map(|bucket| bucket.take(SECOND, 1));
        assert_eq!(left, [true, false, true], "only the one that stayed has nothing left");
        assert!(rates.cells().bucket(1, 1).take(3 * SECOND, 1));
    }

    #[test]
    fn a_window_starts_anew_with_each_second_and_not_for_a_clock_behind() {
        let rates = rates(1);
        let window = rates.cells().window(10);
        assert!(window.take(SECOND, 10));
        assert!(!window.take(2 * SECOND - 1, 1));
        assert!(window.take(2 * SECOND, 9));
        assert!(!window.take(SECOND, 2), "another shard is in the next second");
        window.give_back(2 * SECOND, 4);
        assert!(window.take(2 * SECOND, 5));
        window.give_back(SECOND, 5);
        assert!(!window.take(2 * SECOND, 1), "what was spent in another second does not come back");
    }
}
