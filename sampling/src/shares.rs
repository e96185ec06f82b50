//! A goal divided among keys: how often traces of each key come, and which share of them is to be kept.
//!
//! ```text
//! samplers --counts, ten times a second--> board: average per key --once an interval--> share per key --> samplers
//! ```
//!
//! The goal belongs to the process, so the board does: samplers of all shards count for themselves, bring what they
//! counted to the board, and take the shares from it. Nothing is shared between two such exchanges.
//!
//! The division: each key may have a part of the goal that grows with the logarithm of how often it comes, and what a key
//! cannot use is divided among the others. So a key that is rare is kept whole, and one that comes a thousand times as
//! often as another gets a few times its part. (The idea of Refinery's dynamic samplers.)
//!
//! Bounded: so many keys are told apart, all others are one. A key that does not come any more is forgotten.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

const NANOSECONDS_PER_SECOND: f64 = 1e9;

/// How often samplers bring their counts: a hundredth of most intervals, and no burden.
const EXCHANGE_NS: u64 = 100_000_000;

/// How much of an average is new after one interval.
const WEIGHT: f64 = 0.5;

/// A key of which so little came in an interval, on average, is forgotten.
const FORGOTTEN_BELOW: f64 = 0.01;

/// What came in less than this says little of how often it comes.
const LEARNING_SECONDS: f64 = 1.0;

/// When so many times what an interval brings came already, the shares are adjusted before its end.
const BURST: f64 = 2.0;

/// The key of all that are not told apart.
pub(crate) const OTHER: u64 = u64::MAX;

/// What is wanted of all keys together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goal {
    /// One of so many.
    OneOf(f64),
    /// So much in a second.
    PerSecond(f64),
}

/// A goal, and how it is pursued.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) goal: Goal,
    /// From one adjustment to the next.
    pub(crate) interval_ns: u64,
    /// Most keys that are told apart.
    pub(crate) keys_max: usize,
}

/// Which share of each key is kept.
#[derive(Debug)]
struct Shares {
    by_key: BTreeMap<u64, f64>,
    /// Of keys that are not listed.
    unlisted: f64,
}

impl Shares {
    fn of(&self, key: u64) -> f64 {
        self.by_key.get(&key).copied().unwrap_or(self.unlisted)
    }
}

/// What samplers of one policy share.
#[derive(Debug, Default)]
pub(crate) struct Board {
    /// Grows with each adjustment, so that a sampler that has the newest shares need not lock.
    adjustments: AtomicU64,
    averages: Mutex<Averages>,
}

#[derive(Debug, Default)]
struct Averages {
    /// The last adjustment; `None` before anything came.
    since_ns: Option<u64>,
    /// What came since.
    fresh: BTreeMap<u64, f64>,
    per_second: BTreeMap<u64, f64>,
    shares: Option<Arc<Shares>>,
}

impl Averages {
    fn add(&mut self, counts: &mut BTreeMap<u64, f64>, keys_max: usize) {
        for (key, count) in std::mem::take(counts) {
            let is_known = self.fresh.contains_key(&key) || self.per_second.contains_key(&key);
            let key = if is_known || self.fresh.len().max(self.per_second.len()) < keys_max { key } else { OTHER };
            *self.fresh.entry(key).or_default() += count;
        }
    }

    fn is_due(&self, now_ns: u64, plan: &Plan) -> bool {
        let Some(since_ns) = self.since_ns else {
            return false;
        };
        let interval = plan.interval_ns as f64 / NANOSECONDS_PER_SECOND;
        let usual: f64 = self.per_second.values().sum::<f64>() * interval;
        now_ns.saturating_sub(since_ns) >= plan.interval_ns
            || (now_ns > since_ns && self.fresh.values().sum::<f64>() > BURST * usual)
    }

    fn adjust(&mut self, now_ns: u64, plan: &Plan) {
        let since_ns = self.since_ns.replace(now_ns).unwrap_or(now_ns);
        let interval = plan.interval_ns as f64 / NANOSECONDS_PER_SECOND;
        let mut passed = (now_ns - since_ns) as f64 / NANOSECONDS_PER_SECOND;
        if self.per_second.is_empty() {
            passed = passed.max(LEARNING_SECONDS.min(interval));
        }
        let is_first = self.per_second.is_empty();
        let weight = if is_first { 1.0 } else { 1.0 - (1.0 - WEIGHT).powf(passed / interval) };
        for average in self.per_second.values_mut() {
            *average *= 1.0 - weight;
        }
        for (key, count) in std::mem::take(&mut self.fresh) {
            *self.per_second.entry(key).or_default() += weight * count / passed;
        }
        self.per_second.retain(|_, average| *average * interval >= FORGOTTEN_BELOW);
        self.shares = Some(Arc::new(self.divide(plan, interval)));
    }

    /// Gives each key its part of what is left, those that can use least first.
    fn divide(&self, plan: &Plan, interval: f64) -> Shares {
        let mut left = match plan.goal {
            Goal::OneOf(number) => self.per_second.values().sum::<f64>() / number,
            Goal::PerSecond(goal) => goal,
        };
        let claim = |average: f64| (average * interval).ln_1p();
        let mut claims: f64 = self.per_second.values().map(|average| claim(*average)).sum();
        // What a key needs for each part of its claim grows with what comes of it.
        let mut keys: Vec<(u64, f64)> = self.per_second.iter().map(|(key, average)| (*key, *average)).collect();
        keys.sort_by(|(_, a), (_, b)| a.total_cmp(b));
        let mut by_key = BTreeMap::new();
        for (key, average) in keys {
            let part = (left * claim(average) / claims).clamp(0.0, average);
            left -= part;
            claims -= claim(average);
            by_key.insert(key, (part / average).min(1.0));
        }
        let is_full = by_key.len() >= plan.keys_max;
        let unlisted = by_key.get(&OTHER).copied().filter(|_| is_full).unwrap_or(1.0);
        Shares { by_key, unlisted }
    }
}

/// One sampler's end of a board.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    plan: Plan,
    board: Arc<Board>,
    counts: BTreeMap<u64, f64>,
    exchange_at_ns: u64,
    adjustments: u64,
    shares: Arc<Shares>,
}

impl Share {
    pub(crate) fn new(plan: Plan, board: Arc<Board>) -> Self {
        // Before anything is known, all keys are equal.
        let unlisted = match plan.goal {
            Goal::OneOf(number) => (1.0 / number).min(1.0),
            Goal::PerSecond(_) => 1.0,
        };
        Self {
            plan,
            board,
            counts: BTreeMap::new(),
            exchange_at_ns: 0,
            adjustments: 0,
            shares: Arc::new(Shares { by_key: BTreeMap::new(), unlisted }),
        }
    }

    /// Which share of this key's traces is to be kept, above 0 to 1.
    pub(crate) fn of(&self, key: u64) -> f64 {
        self.shares.of(key)
    }

    /// Counts what came of a key, kept or not.
    pub(crate) fn count(&mut self, key: u64, amount: f64) {
        let key = if self.counts.len() < self.plan.keys_max || self.counts.contains_key(&key) { key } else { OTHER };
        *self.counts.entry(key).or_default() += amount;
    }

    /// Exchanges with the board if it is time.
    pub(crate) fn refresh(&mut self, now_ns: u64) {
        if now_ns >= self.exchange_at_ns {
            self.exchange_at_ns = now_ns.saturating_add(EXCHANGE_NS);
            self.exchange(now_ns);
        }
    }

    fn exchange(&mut self, now_ns: u64) {
        let board = &*self.board;
        let mut averages = board.averages.lock().unwrap_or_else(PoisonError::into_inner);
        averages.add(&mut self.counts, self.plan.keys_max);
        averages.since_ns.get_or_insert(now_ns);
        if averages.is_due(now_ns, &self.plan) {
            averages.adjust(now_ns, &self.plan);
            board.adjustments.fetch_add(1, Relaxed);
        }
        let adjustments = board.adjustments.load(Relaxed);
        if adjustments != self.adjustments
            && let Some(shares) = &averages.shares
        {
            self.adjustments = adjustments;
            self.shares = Arc::clone(shares);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> Arc<Board> {
        Arc::default()
    }

    fn come(sampler: &mut Share, now_ns: u64, key: u64) {
        sampler.refresh(now_ns);
        sampler.count(key, 1.0);
    }

    fn averages(per_second: &[(u64, f64)]) -> Averages {
        Averages { per_second: per_second.iter().copied().collect(), ..Averages::default() }
    }

    fn divided(goal: Goal, per_second: &[(u64, f64)]) -> Vec<f64> {
        let plan = Plan { goal, interval_ns: 1_000_000_000, keys_max: 100 };
        let shares = averages(per_second).divide(&plan, 1.0);
        per_second.iter().map(|(key, _)| shares.of(*key)).collect()
    }

    #[test]
    fn the_goal_is_divided_completely_and_rare_keys_are_kept_whole() {
        let keys = [(1, 10_000.0), (2, 100.0), (3, 1.0), (4, 0.1)];
        let kept = |shares: &[f64]| keys.iter().zip(shares).map(|((_, average), share)| average * share).sum::<f64>();
        let shares = divided(Goal::PerSecond(50.0), &keys);
        assert!((kept(&shares) - 50.0).abs() < 1e-9, "{shares:?}");
        assert_eq!(shares[2..], [1.0, 1.0]);
        let parts = [10_000.0 * shares[0], 100.0 * shares[1]];
        assert!(
            parts[0] > parts[1] && parts[0] < 3.0 * parts[1],
            "a hundred times as many get twice as much: {parts:?}"
        );

        let shares = divided(Goal::OneOf(10.0), &keys);
        assert!((kept(&shares) - 1_010.11).abs() < 1e-9, "{shares:?}");
        assert_eq!(divided(Goal::PerSecond(1e9), &keys), [1.0; 4], "no more than there is");
        assert_eq!(divided(Goal::PerSecond(1.0), &[]), [0.0; 0]);
        assert!(divided(Goal::PerSecond(1e-6), &keys).iter().all(|share| *share > 0.0), "nobody is left out for ever");
    }

    #[test]
    fn samplers_see_each_others_counts() {
        let plan = Plan { goal: Goal::PerSecond(10.0), interval_ns: 1_000_000_000, keys_max: 10 };
        let board = board();
        let mut samplers: Vec<Share> = (0..4).map(|_| Share::new(plan, Arc::clone(&board))).collect();
        for tick in 0..1_000u64 {
            for sampler in &mut samplers {
                come(sampler, tick * 10_000_000, 7);
            }
        }
        // Four times a hundred in a second come, ten are wanted.
        for sampler in &samplers {
            let share = sampler.of(7);
            assert!((share - 10.0 / 400.0).abs() < 0.002, "{share}");
        }
        assert_eq!(samplers[0].of(8), 1.0, "an unknown key is kept");
    }

    #[test]
    fn keys_beyond_the_limit_are_one_and_keys_that_stay_away_are_forgotten() {
        let plan = Plan { goal: Goal::OneOf(10.0), interval_ns: 1_000_000_000, keys_max: 5 };
        let mut sampler = Share::new(plan, board());
        assert_eq!(sampler.of(1), 0.1, "before anything is known");
        for tick in 0..2_000u64 {
            come(&mut sampler, tick * 10_000_000, tick);
        }
        assert!(sampler.shares.by_key.len() <= 6, "{:?}", sampler.shares);
        let unlisted = sampler.of(u64::MAX / 2);
        assert!(unlisted < 0.2, "{unlisted}");
        for tick in 2_000..6_000u64 {
            come(&mut sampler, tick * 10_000_000, 1);
        }
        assert_eq!(sampler.shares.by_key.keys().copied().collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn a_burst_is_noticed_before_the_interval_ends() {
        let plan = Plan { goal: Goal::PerSecond(10.0), interval_ns: 60_000_000_000, keys_max: 5 };
        let mut sampler = Share::new(plan, board());
        for tick in 0..600u64 {
            come(&mut sampler, tick * 1_000_000_000, 1);
        }
        let before = sampler.of(1);
        for tick in 0..100_000u64 {
            come(&mut sampler, 600_000_000_000 + tick * 100_000, 1);
        }
        assert_eq!(before, 1.0);
        assert!(sampler.of(1) < 0.1, "{}", sampler.of(1));
    }
}
