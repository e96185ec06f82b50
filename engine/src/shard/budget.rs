//! The memory of the process as an amount to be spent, leased to shards.
//!
//! ```text
//! 0 ------------------ soft = limit - spike ----------- limit      (bytes, of the sum of all leases)
//! |   anybody charges   |  the edge is refused; what    |  overdraft: only for what
//! |                     |  was admitted goes on         |  was admitted before
//! ```
//!
//! The one idea: a shard leases whole steps from one central count and spends within its lease without telling anybody,
//! so the count is changed once per step (1 MiB), never per request. The sum of the leases is therefore never below what
//! is charged, and above it by less than [`SLACK_STEPS`] steps per shard: a shard that holds little leases little, and a
//! busy one can lease all the rest.
//!
//! Only the edge is refused ([`Lease::try_charge`]). An owner that takes admitted spans, and the output that empties the
//! gateway, always succeed ([`Lease::charge`]); they answer pressure by their own ladders, which start below soft.
//! Charges are exact to the byte and visible by holder. Nothing here waits, and nothing here frees memory.

mod share;

pub use share::{Refusal, Senders, Share};

use share::Intake;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The usual step of a lease in bytes. Small budgets use a smaller one, see [`Budget::new`].
pub const STEP_BYTES_MAX: u64 = 1 << 20;

/// A shard gives steps back when its lease exceeds its charges by this many; it keeps one, so that a load that swings
/// around a boundary does not touch the central count on each swing.
pub const SLACK_STEPS: u64 = 2;

/// Who holds charged bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Holder {
    /// Connections: read buffers, HTTP/2 windows, TLS.
    Connections,
    /// Requests: compressed and decompressed bodies until their last span is copied or sent.
    Requests,
    /// Request buffers that wait for reuse.
    Buffers,
    /// Parcels that wait for room, are under way or wait for reuse.
    Mesh,
    /// Pending traces and the memory of decisions.
    TraceTable,
    /// The batch processor.
    Batch,
    /// Series of `span_metrics` connectors.
    SpanMetrics,
    /// Sending queues.
    Queue,
    /// Requests being encoded and sent.
    Output,
    /// Interned envelopes, label caches and whatever else may be thrown away.
    Caches,
}

impl Holder {
    /// All holders, in the order of the enum: a holder's place is its number.
    pub const ALL: [Holder; 10] = [
        Holder::Connections,
        Holder::Requests,
        Holder::Buffers,
        Holder::Mesh,
        Holder::TraceTable,
        Holder::Batch,
        Holder::SpanMetrics,
        Holder::Queue,
        Holder::Output,
        Holder::Caches,
    ];

    /// The value of the label `holder`.
    pub fn label(self) -> &'static str {
        match self {
            Holder::Connections => "connections",
            Holder::Requests => "requests",
            Holder::Buffers => "buffers",
            Holder::Mesh => "mesh",
            Holder::TraceTable => "trace_table",
            Holder::Batch => "batch",
            Holder::SpanMetrics => "span_metrics",
            Holder::Queue => "queue",
            Holder::Output => "output",
            Holder::Caches => "caches",
        }
    }
}

/// The edge may not admit this now: the process is at its soft limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Bytes leased by all shards when it was refused.
    pub leased_bytes: u64,
    /// The soft limit in bytes.
    pub soft_bytes: u64,
}

/// The budget of the process.
#[derive(Debug)]
pub struct Budget {
    limit_bytes: u64,
    soft_bytes: u64,
    step_bytes: u64,
    /// Sum of all leases. Relaxed everywhere: it is a count and guards no other memory.
    leased_bytes: AtomicU64,
    /// One of each shard.
    intakes: Box<[Intake]>,
    /// Leases made so far.
    leases: AtomicUsize,
}

impl Budget {
    /// A budget of `limit_bytes`, refused at the edge from `limit_bytes - spike_bytes` on. The step is 1 MiB, or less
    /// where `shards` times the slack would exceed 1/32 of the soft limit, but at least 4 KiB.
    pub fn new(limit_bytes: u64, spike_bytes: u64, shards: usize) -> Arc<Budget> {
        assert!(spike_bytes < limit_bytes, "the checked configuration keeps the spike below the limit");
        assert!(shards > 0, "somebody has to lease");
        let soft_bytes = limit_bytes - spike_bytes;
        let fair_step = soft_bytes / (32 * SLACK_STEPS * shards as u64);
        let step_bytes = fair_step.clamp(4096, STEP_BYTES_MAX);
        let intakes = (0..shards).map(|_| Intake::default()).collect();
        let (leased_bytes, leases) = Default::default();
        Arc::new(Budget { limit_bytes, soft_bytes, step_bytes, leased_bytes, intakes, leases })
    }

    /// A lease of nothing, for one shard.
    pub fn lease(self: &Arc<Budget>) -> Lease {
        Lease {
            budget: Arc::clone(self),
            number: self.leases.fetch_add(1, Ordering::Relaxed) % self.intakes.len(),
            half_life: Cell::new(0),
            leased_bytes: Cell::new(0),
            charged_bytes: Cell::new(0),
            by_holder: Default::default(),
        }
    }

    /// The hard limit in bytes.
    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    /// The soft limit in bytes: limit less spike.
    pub fn soft_bytes(&self) -> u64 {
        self.soft_bytes
    }

    /// Bytes leased by all shards: at least what they charged, and above it by less than [`SLACK_STEPS`] steps a shard.
    pub fn leased_bytes(&self) -> u64 {
        self.leased_bytes.load(Ordering::Relaxed)
    }

    /// Leased share of the soft limit: the ladder of owners starts at 0.8, the edge is refused at 1.
    pub fn pressure(&self) -> f64 {
        self.leased_bytes() as f64 / self.soft_bytes as f64
    }

    /// Takes `bytes` if the sum stays within the soft limit.
    fn try_take(&self, bytes: u64) -> Result<(), Refused> {
        let within_soft = |leased: u64| leased.checked_add(bytes).filter(|sum| *sum <= self.soft_bytes);
        match self.leased_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within_soft) {
            Ok(_) => Ok(()),
            Err(leased_bytes) => Err(Refused { leased_bytes, soft_bytes: self.soft_bytes }),
        }
    }

    fn take(&self, bytes: u64) {
        self.leased_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn give_back(&self, bytes: u64) {
        let before = self.leased_bytes.fetch_sub(bytes, Ordering::Relaxed);
        assert!(before >= bytes, "a shard gave back {bytes} of {before} leased bytes");
    }
}

/// A shard's share of the budget. It stays on its shard.
#[derive(Debug)]
pub struct Lease {
    budget: Arc<Budget>,
    /// Whose intake it is.
    number: usize,
    /// The half life of what senders have brought that is now.
    half_life: Cell<u64>,
    /// A multiple of the step.
    leased_bytes: Cell<u64>,
    /// Sum of `by_holder`, at most `leased_bytes`.
    charged_bytes: Cell<u64>,
    by_holder: [Cell<u64>; Holder::ALL.len()],
}

impl Lease {
    /// Charges what the edge is about to admit, or refuses it whole. Refused while the leases of all shards are above
    /// the soft limit, and if this charge would bring them there.
    pub fn try_charge(&self, holder: Holder, bytes: u64) -> Result<(), Refused> {
        if self.admit(bytes).is_err() {
            self.settle(); // The spare step may be just what is missing.
            self.admit(bytes)?;
        }
        self.add(holder, bytes);
        Ok(())
    }

    /// Charges what must go on: admitted spans at their owner, and output. Succeeds beyond every limit; who calls it
    /// looks at [`Lease::pressure`] and works its ladder.
    pub fn charge(&self, holder: Holder, bytes: u64) {
        let missing = self.missing(bytes);
        if missing > 0 {
            self.budget.take(missing);
            self.leased_bytes.set(self.leased_bytes.get() + missing);
        }
        self.add(holder, bytes);
    }

    /// Gives charged bytes back. Steps beyond the slack return to the process.
    pub fn release(&self, holder: Holder, bytes: u64) {
        let held = &self.by_holder[holder as usize];
        assert!(held.get() >= bytes, "{} released {bytes} of {} charged bytes", holder.label(), held.get());
        held.set(held.get() - bytes);
        self.charged_bytes.set(self.charged_bytes.get() - bytes);
        if self.leased_bytes.get() - self.charged_bytes.get() >= SLACK_STEPS * self.budget.step_bytes {
            self.keep_steps(1);
        }
    }

    /// Charges or releases so that `holder` holds exactly `bytes`: for holders that are measured once a turn.
    pub fn set(&self, holder: Holder, bytes: u64) {
        let held = self.held(holder);
        if bytes > held {
            self.charge(holder, bytes - held);
        } else {
            self.release(holder, held - bytes);
        }
    }

    /// Returns all that is not charged, down to a whole step: for a shard about to sleep.
    pub fn settle(&self) {
        self.keep_steps(0);
    }

    /// Bytes a holder has charged on this shard.
    pub fn held(&self, holder: Holder) -> u64 {
        self.by_holder[holder as usize].get()
    }

    /// Bytes charged on this shard.
    pub fn charged_bytes(&self) -> u64 {
        self.charged_bytes.get()
    }

    /// Leased share of the soft limit over all shards.
    pub fn pressure(&self) -> f64 {
        self.budget.pressure()
    }

    /// The budget it is a lease of.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Makes sure of a lease for `bytes` more, within the soft limit.
    fn admit(&self, bytes: u64) -> Result<(), Refused> {
        let missing = self.missing(bytes);
        if missing > 0 {
            self.budget.try_take(missing)?;
            self.leased_bytes.set(self.leased_bytes.get() + missing);
            return Ok(());
        }
        // A read of a word that changes once per step: it stays in this core's cache.
        let leased_bytes = self.budget.leased_bytes();
        if leased_bytes > self.budget.soft_bytes {
            return Err(Refused { leased_bytes, soft_bytes: self.budget.soft_bytes });
        }
        Ok(())
    }

    /// Bytes to lease, in whole steps, before `bytes` more can be charged.
    fn missing(&self, bytes: u64) -> u64 {
        let wanted = self.charged_bytes.get().saturating_add(bytes);
        let beyond = wanted.saturating_sub(self.leased_bytes.get());
        beyond.div_ceil(self.budget.step_bytes).saturating_mul(self.budget.step_bytes)
    }

    fn add(&self, holder: Holder, bytes: u64) {
        let held = &self.by_holder[holder as usize];
        held.set(held.get() + bytes);
        self.charged_bytes.set(self.charged_bytes.get() + bytes);
        debug_assert!(self.charged_bytes.get() <= self.leased_bytes.get());
    }

    /// Gives back whole steps beyond what is charged and `spare` steps more.
    fn keep_steps(&self, spare: u64) {
        let step = self.budget.step_bytes;
        let kept = (self.charged_bytes.get().div_ceil(step) + spare) * step;
        if let Some(surplus) = self.leased_bytes.get().checked_sub(kept).filter(|surplus| *surplus > 0) {
            self.budget.give_back(surplus);
            self.leased_bytes.set(kept);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.give_back(self.leased_bytes.get());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_edge_is_refused_at_soft_and_admitted_work_goes_on() {
        let budget = Budget::new(1000 * MIB, 200 * MIB, 1);
        let lease = budget.lease();
        lease.try_charge(Holder::Requests, 800 * MIB).unwrap();
        let refused = lease.try_charge(Holder::Requests, 1).unwrap_err();
        assert_eq!(refused, Refused { leased_bytes: 800 * MIB, soft_bytes: 800 * MIB });
        lease.charge(Holder::Output, 300 * MIB);
        assert_eq!(lease.charged_bytes(), 1100 * MIB);
        lease.release(Holder::Requests, 300 * MIB + 1);
        lease.try_charge(Holder::Requests, 1).expect("room again, and within the lease");
    }

    #[test]
    fn a_lease_within_its_step_does_not_admit_while_others_are_over_soft() {
        let budget = Budget::new(100 * MIB, 20 * MIB, 2);
        let (edge, owner) = (budget.lease(), budget.lease());
        edge.try_charge(Holder::Requests, 1).unwrap();
        owner.charge(Holder::TraceTable, 90 * MIB);
        edge.try_charge(Holder::Requests, 1).unwrap_err();
    }

    #[test]
    fn a_busy_shard_leases_what_idle_ones_do_not_need() {
        let budget = Budget::new(4096 * MIB, 512 * MIB, 16);
        let leases: Vec<Lease> = (0..16).map(|_| budget.lease()).collect();
        for lease in &leases {
            lease.try_charge(Holder::Requests, 100 * MIB).unwrap();
        }
        for lease in &leases {
            lease.release(Holder::Requests, 100 * MIB - 10);
        }
        assert!(budget.leased_bytes() <= 16 * SLACK_STEPS * MIB, "idle shards hold their slack and no more");
        leases[0].try_charge(Holder::Requests, 3500 * MIB).unwrap();
    }

    #[test]
    fn a_shard_about_to_sleep_returns_all_that_is_not_charged() {
        let budget = Budget::new(4096 * MIB, 512 * MIB, 1);
        let lease = budget.lease();
        lease.charge(Holder::Batch, 5 * MIB + 1);
        lease.release(Holder::Batch, 5 * MIB + 1);
        assert_eq!(budget.leased_bytes(), MIB, "one spare step: the next request leases nothing");
        lease.settle();
        assert_eq!(budget.leased_bytes(), 0);
    }

    #[test]
    fn a_load_that_swings_around_a_step_does_not_touch_the_process_count() {
        let budget = Budget::new(4096 * MIB, 512 * MIB, 1);
        let lease = budget.lease();
        lease.charge(Holder::Requests, 3 * MIB - 1);
        lease.charge(Holder::Requests, 10);
        let leased = budget.leased_bytes();
        for _ in 0..100 {
            lease.release(Holder::Requests, 900_000);
            assert_eq!(budget.leased_bytes(), leased);
            lease.charge(Holder::Requests, 900_000);
            assert_eq!(budget.leased_bytes(), leased);
        }
    }

    #[test]
    #[should_panic(expected = "queue released 2 of 1 charged bytes")]
    fn releasing_more_than_was_charged_stops_the_process() {
        let lease = Budget::new(MIB, 1, 1).lease();
        lease.charge(Holder::Queue, 1);
        lease.release(Holder::Queue, 2);
    }

    #[test]
    fn holders_are_numbered_in_the_order_of_the_list() {
        for (number, holder) in Holder::ALL.into_iter().enumerate() {
            assert_eq!(holder as usize, number);
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Try { shard: usize, holder: usize, bytes: u64 },
        Charge { shard: usize, holder: usize, bytes: u64 },
        Release { shard: usize, holder: usize, share: f64 },
        Settle { shard: usize },
    }

    const SHARDS: usize = 3;

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let (shard, holder) = (0..SHARDS, 0..Holder::ALL.len());
        let bytes = prop_oneof![0..5000_u64, 0..4 * MIB];
        let step = prop_oneof![
            4 => (shard.clone(), holder.clone(), bytes.clone())
                .prop_map(|(shard, holder, bytes)| Step::Try { shard, holder, bytes }),
            1 => (shard.clone(), holder.clone(), bytes)
                .prop_map(|(shard, holder, bytes)| Step::Charge { shard, holder, bytes }),
            3 => (shard.clone(), holder, 0.0..=1.0)
                .prop_map(|(shard, holder, share)| Step::Release { shard, holder, share }),
            1 => shard.prop_map(|shard| Step::Settle { shard }),
        ];
        proptest::collection::vec(step, 0..200)
    }

    proptest! {
        /// The twin is a table of plain numbers. It knows nothing of steps: it says which answers are allowed.
        #[test]
        fn charges_are_exact_and_leases_stay_close_to_them(steps in steps()) {
            let budget = Budget::new(24 * MIB, 4 * MIB, SHARDS);
            let slack = SHARDS as u64 * SLACK_STEPS * budget.step_bytes;
            let leases: Vec<Lease> = (0..SHARDS).map(|_| budget.lease()).collect();
            let mut twin = [[0_u64; Holder::ALL.len()]; SHARDS];
            for step in steps {
                let before: u64 = twin.iter().flatten().sum();
                match step {
                    Step::Try { shard, holder, bytes } => match leases[shard].try_charge(Holder::ALL[holder], bytes) {
                        Ok(()) => {
                            prop_assert!(before + bytes <= budget.soft_bytes());
                            twin[shard][holder] += bytes;
                        }
                        Err(_) => prop_assert!(before + bytes + slack > budget.soft_bytes(), "refused for nothing"),
                    },
                    Step::Charge { shard, holder, bytes } => {
                        leases[shard].charge(Holder::ALL[holder], bytes);
                        twin[shard][holder] += bytes;
                    }
                    Step::Release { shard, holder, share } => {
                        let bytes = (twin[shard][holder] as f64 * share) as u64;
                        leases[shard].release(Holder::ALL[holder], bytes);
                        twin[shard][holder] -= bytes;
                    }
                    Step::Settle { shard } => leases[shard].settle(),
                }
                let charged: u64 = twin.iter().flatten().sum();
                prop_assert!(charged <= budget.leased_bytes());
                prop_assert!(budget.leased_bytes() <= charged + slack);
                for (lease, holders) in leases.iter().zip(&twin) {
                    prop_assert_eq!(Holder::ALL.map(|holder| lease.held(holder)), *holders);
                }
            }
            drop(leases);
            prop_assert_eq!(budget.leased_bytes(), 0);
        }
    }

    #[test]
    fn shards_that_race_for_the_last_bytes_never_pass_soft_together() {
        let budget = Budget::new(64 * MIB, 16 * MIB, 4);
        let race = |seed: u64| {
            let lease = budget.lease();
            let mut random = fastrand::Rng::with_seed(seed);
            let mut held = Vec::new();
            for _ in 0..20_000 {
                let bytes = random.u64(1..2 * MIB);
                if random.bool() && lease.try_charge(Holder::Requests, bytes).is_ok() {
                    held.push(bytes);
                } else if !held.is_empty() {
                    lease.release(Holder::Requests, held.swap_remove(random.usize(..held.len())));
                }
                assert!(budget.leased_bytes() <= budget.soft_bytes());
                assert_eq!(lease.charged_bytes(), held.iter().sum::<u64>());
            }
        };
        std::thread::scope(|scope| {
            for seed in 0..4 {
                scope.spawn(move || race(seed));
            }
        });
        assert_eq!(budget.leased_bytes(), 0, "every lease went back");
    }
}
