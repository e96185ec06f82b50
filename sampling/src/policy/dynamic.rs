//! `dynamic` and `throughput`: a share of each key's traces, so that all keys together meet a goal; and limits that are
//! kept by a threshold.
//!
//! A trace is kept if its randomness reaches the threshold of its key's share ([`crate::shares`]). The shares follow what
//! came before, so they miss the goal while traffic changes; a throughput is held all the same, by its [`Pace`]. Whatever
//! makes a threshold, it is known before the trace's randomness is compared, and above no trace's reach: so what is kept
//! stands for exactly what came, on average.
//!
//! With `write_threshold` a rate limit is such a policy with one key: first come, first served has no threshold.

use std::cell::RefCell;

use super::Facts;
use crate::consistent::Threshold;
use crate::keys;
use crate::rates::{Cells, Pace};
use crate::shares::{Goal, Plan, Share};

/// Digits of thresholds, beside leading zeros and `f`s: an error of 1 in 8192 of what is rejected or kept, and 10 bytes
/// less in each span.
const PRECISION: u8 = 4;

/// A share this small has still a threshold, and a trace that reaches it.
const SHARE_MIN: f64 = 1.0 / (1u64 << 48) as f64;

/// A limit is what it says over such a time: traces are not cut to fit a second.
const BURST_SECONDS: f64 = 10.0;

/// Limits have one key, so their averages are quick to learn.
const LIMIT_INTERVAL_NS: u64 = 1_000_000_000;

/// What is counted, and spent, of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Trace,
    Spans,
    Bytes,
}

#[derive(Clone, Debug)]
pub(super) struct Dynamic {
    /// Which of the trace's keys make up its key here.
    columns: u8,
    unit: Unit,
    /// A trace that costs more is never kept.
    cost_max: u64,
    pace: Option<Pace>,
    share: RefCell<Share>,
}

impl Dynamic {
    /// One of so many traces.
    pub(super) fn one_of(number: f64, columns: u8, interval_ns: u64, keys_max: usize, cells: &mut Cells<'_>) -> Self {
        let plan = Plan { goal: Goal::OneOf(number), interval_ns, keys_max };
        let share = RefCell::new(cells.share(plan));
        Self { columns, unit: Unit::Trace, cost_max: u64::MAX, pace: None, share }
    }

    /// So many spans in a second.
    pub(super) fn throughput(
        spans_per_second: f64,
        columns: u8,
        interval_ns: u64,
        keys_max: usize,
        cells: &mut Cells<'_>,
    ) -> Self {
        let plan = Plan { goal: Goal::PerSecond(spans_per_second), interval_ns, keys_max };
        let pace = cells.pace(spans_per_second, spans_per_second * BURST_SECONDS);
        let share = RefCell::new(cells.share(plan));
        Self { columns, unit: Unit::Spans, cost_max: u64::MAX, pace: Some(pace), share }
    }

    /// So many spans in a second, and no trace of more than `burst`.
    pub(super) fn spans_limit(per_second: u64, burst: u64, cells: &mut Cells<'_>) -> Self {
        Self::limit(Unit::Spans, per_second, burst, cells)
    }

    /// The same with bytes.
    pub(super) fn bytes_limit(per_second: u64, burst: u64, cells: &mut Cells<'_>) -> Self {
        Self::limit(Unit::Bytes, per_second, burst, cells)
    }

    fn limit(unit: Unit, per_second: u64, burst: u64, cells: &mut Cells<'_>) -> Self {
        let per_second = per_second as f64;
        let plan = Plan { goal: Goal::PerSecond(per_second), interval_ns: LIMIT_INTERVAL_NS, keys_max: 1 };
        let pace = cells.pace(per_second, burst as f64);
        let share = RefCell::new(cells.share(plan));
        Self { columns: 0, unit, cost_max: burst, pace: Some(pace), share }
    }

    fn cost(&self, facts: &Facts) -> u64 {
        match self.unit {
            Unit::Trace => 1,
            Unit::Spans => u64::from(facts.spans),
            Unit::Bytes => facts.bytes,
        }
    }

    /// From which randomness on it wants such a trace now.
    pub(super) fn threshold(&self, facts: &Facts) -> Threshold {
        if self.cost(facts) > self.cost_max {
            return Threshold::NEVER;
        }
        let mut share = self.share.borrow_mut();
        share.refresh(facts.now_ns);
        let share = share.of(keys::combined(&facts.keys, self.columns));
        let pace = self.pace.as_ref().map_or(1.0, |pace| pace.factor(facts.now_ns));
        Threshold::of_probability_rounded((share * pace).max(SHARE_MIN), PRECISION)
    }

    /// A trace came, and was wanted or not.
    pub(super) fn note(&self, facts: &Facts, wanted: bool) {
        let cost = self.cost(facts);
        if cost > self.cost_max {
            return;
        }
        if let Some(pace) = self.pace.as_ref().filter(|_| wanted) {
            pace.spend(facts.now_ns, cost as f64);
        }
        let key = keys::combined(&facts.keys, self.columns);
        self.share.borrow_mut().count(key, cost as f64);
    }
}
