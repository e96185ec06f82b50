//! Who is refused first when memory is short: senders that have brought more than their share.
//!
//! ```text
//! 0 ----------------- tight = 0.9 soft -------------------- soft
//! |  everybody comes in | senders within their share come in |  nobody
//! ```
//!
//! The one idea: the last tenth of the budget below soft is kept for those who bring little. A sender's share is what all
//! senders of all shards together have brought, divided by their number; what was brought fades by half every 8 s. One
//! loud sender therefore fills nine tenths and is then told to come back, while quiet ones find room. A sender that is alone
//! has all of it.
//!
//! Each shard writes its own sums, for the others to read when memory is tight: below that an admission costs a few
//! additions and touches no line of another core. Sums of other shards may be a moment old. Nothing here waits or frees.

use super::{Budget, Holder, Lease};
use crate::config::checked::FairShare;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// After so long what a sender has brought counts half.
const HALF_LIFE_NS: u64 = 8_000_000_000;
/// A sender is above its share when it has brought more than 5/4 of it: equals differ a little all the time.
const TOLERANCE: (u128, u128) = (5, 4);

/// What the senders of one shard have brought. Only that shard writes it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Intake {
    senders: AtomicU64,
    bytes: AtomicU64,
    half_life: AtomicU64,
}

impl Intake {
    fn brought(&self) -> Faded {
        Faded { bytes: self.bytes.load(Relaxed), half_life: self.half_life.load(Relaxed) }
    }

    fn add(&self, bytes: u64, half_life: u64) {
        let sum = self.brought().plus(bytes, half_life);
        self.bytes.store(sum.bytes, Relaxed);
        self.half_life.store(sum.half_life, Relaxed);
    }
}

/// Bytes as they counted in that half life.
#[derive(Clone, Copy, Debug, Default)]
struct Faded {
    bytes: u64,
    half_life: u64,
}

impl Faded {
    /// What they count later.
    fn at(self, half_life: u64) -> u64 {
        let age = u32::try_from(half_life.saturating_sub(self.half_life)).unwrap_or(u32::MAX);
        self.bytes.checked_shr(age).unwrap_or(0)
    }

    fn plus(self, bytes: u64, half_life: u64) -> Faded {
        Faded { bytes: self.at(half_life).saturating_add(bytes), half_life }
    }
}

/// Why the edge may not admit something now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The process is at its soft limit.
    Budget,
    /// Memory is tight, and this sender has brought more than its share.
    Share,
}

/// One sender's part of what its shard admits.
#[derive(Debug)]
pub struct Share {
    lease: Rc<Lease>,
    brought: Cell<Faded>,
    /// Where it is known, and as whom.
    known: Option<(Rc<Senders>, IpAddr)>,
}

impl Share {
    /// Charges what this sender brings, or refuses it whole.
    pub fn admit(&self, holder: Holder, bytes: u64) -> Result<(), Refusal> {
        let half_life = self.lease.half_life.get();
        let brought = self.brought.get();
        if self.lease.budget.is_tight() && self.lease.budget.is_above_share(brought.at(half_life), half_life) {
            return Err(Refusal::Share);
        }
        self.lease.try_charge(holder, bytes).map_err(|_| Refusal::Budget)?;
        self.brought.set(brought.plus(bytes, half_life));
        self.lease.intake().add(bytes, half_life);
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let senders = &self.lease.intake().senders;
        senders.store(senders.load(Relaxed) - 1, Relaxed);
        if let Some((senders, address)) = &self.known {
            senders.by_address.borrow_mut().remove(address);
        }
    }
}

/// All senders of one shard.
#[derive(Debug)]
pub struct Senders {
    by: FairShare,
    lease: Rc<Lease>,
    /// Those that have a connection.
    by_address: RefCell<BTreeMap<IpAddr, Weak<Share>>>,
}

impl Senders {
    /// None yet.
    pub fn new(by: FairShare, lease: &Rc<Lease>) -> Rc<Senders> {
        Rc::new(Senders { by, lease: Rc::clone(lease), by_address: RefCell::default() })
    }

    /// The share of a connection from this address, which may be that of others too; `None`: nobody has one.
    pub fn share_of(self: &Rc<Senders>, peer: Option<IpAddr>) -> Option<Rc<Share>> {
        match (self.by, peer) {
            (FairShare::Off, _) => None,
            (FairShare::Connection, _) | (FairShare::Address, None) => Some(self.open(None)),
            (FairShare::Address, Some(address)) => {
                let known = self.by_address.borrow().get(&address).and_then(Weak::upgrade);
                Some(known.unwrap_or_else(|| {
                    let share = self.open(Some((Rc::clone(self), address)));
                    self.by_address.borrow_mut().insert(address, Rc::downgrade(&share));
                    share
                }))
            }
        }
    }

    fn open(&self, known: Option<(Rc<Senders>, IpAddr)>) -> Rc<Share> {
        let senders = &self.lease.intake().senders;
        senders.store(senders.load(Relaxed) + 1, Relaxed);
        Rc::new(Share { lease: Rc::clone(&self.lease), brought: Cell::default(), known })
    }
}

impl Budget {
    /// Whether what is left is kept for those who bring little.
    fn is_tight(&self) -> bool {
        self.leased_bytes() >= self.soft_bytes / 10 * 9
    }

    /// Whether a sender that has brought so much has brought more than the average sender.
    fn is_above_share(&self, own_bytes: u64, half_life: u64) -> bool {
        let (mut senders, mut bytes) = (0, 0);
        for intake in &self.intakes {
            senders += u128::from(intake.senders.load(Relaxed));
            bytes += u128::from(intake.brought().at(half_life));
        }
        u128::from(own_bytes) * senders * TOLERANCE.1 > bytes * TOLERANCE.0
    }
}

impl Lease {
    /// Lets time pass for what senders have brought. Once a turn.
    pub fn pass(&self, now_ns: u64) {
        self.half_life.set(now_ns / HALF_LIFE_NS);
    }

    fn intake(&self) -> &Intake {
        &self.budget.intakes[self.number]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const KIB: u64 = 1024;
    /// The soft limit of all tests: tight from 9000 KiB on.
    const SOFT: u64 = 10_000 * KIB;

    fn shards(count: usize) -> (Arc<Budget>, Vec<Rc<Lease>>) {
        let budget = Budget::new(2 * SOFT, SOFT, count);
        let leases = (0..count).map(|_| Rc::new(budget.lease())).collect();
        (budget, leases)
    }

    fn connections(lease: &Rc<Lease>, count: usize) -> Vec<Rc<Share>> {
        let senders = Senders::new(FairShare::Connection, lease);
        (0..count).map(|_| senders.share_of(None).unwrap()).collect()
    }

    /// Brings pieces of 10 KiB until one is refused: how many KiB came in, and why not more.
    fn fill(share: &Share) -> (u64, Refusal) {
        let mut kib = 0;
        loop {
            match share.admit(Holder::Requests, 10 * KIB) {
                Ok(()) => kib += 10,
                Err(refusal) => return (kib, refusal),
            }
        }
    }

    #[test]
    fn who_is_alone_has_the_whole_budget() {
        let (_budget, leases) = shards(1);
        let (kib, refusal) = fill(&connections(&leases[0], 1)[0]);
        assert!((9_800..=10_000).contains(&kib), "{kib}");
        assert_eq!(refusal, Refusal::Budget);
    }

    #[test]
    fn a_loud_sender_leaves_a_tenth_to_the_quiet_ones_also_on_other_shards() {
        for shards_count in [1, 4] {
            let (_budget, leases) = shards(shards_count);
            let loud = connections(&leases[0], 1);
            let quiet = connections(leases.last().unwrap(), 4);
            let (kib, refusal) = fill(&loud[0]);
            assert!((8_500..=9_100).contains(&kib), "{kib}");
            assert_eq!(refusal, Refusal::Share);
            for round in 0..10 {
                for share in &quiet {
                    assert_eq!(share.admit(Holder::Requests, 10 * KIB), Ok(()), "round {round}");
                }
                assert_eq!(loud[0].admit(Holder::Requests, KIB), Err(Refusal::Share));
            }
        }
    }

    #[test]
    fn equals_are_refused_by_the_budget_only() {
        let (_budget, leases) = shards(1);
        let equals = connections(&leases[0], 4);
        for share in equals.iter().cycle() {
            match share.admit(Holder::Requests, 10 * KIB) {
                Ok(()) => {}
                Err(refusal) => return assert_eq!(refusal, Refusal::Budget),
            }
        }
    }

    #[test]
    fn what_was_brought_long_ago_counts_no_more() {
        let (_budget, leases) = shards(1);
        let both = connections(&leases[0], 2);
        let held = fill(&both[0]).0 * KIB;
        leases[0].release(Holder::Requests, held);
        leases[0].pass(20 * HALF_LIFE_NS);
        assert_eq!(fill(&both[1]).1, Refusal::Share, "now the other one is loud");
        assert_eq!(both[0].admit(Holder::Requests, 10 * KIB), Ok(()), "and what this one did is forgotten");
    }

    #[test]
    fn who_leaves_has_no_share_any_more() {
        let (budget, leases) = shards(1);
        let mut both = connections(&leases[0], 2);
        assert_eq!(fill(&both[0]).1, Refusal::Share);
        both.pop();
        assert_eq!(fill(&both[0]).1, Refusal::Budget);
        drop(both);
        assert_eq!(budget.intakes[0].senders.load(Relaxed), 0);
    }

    #[test]
    fn connections_of_one_address_have_one_share_if_asked_for() {
        let (budget, leases) = shards(1);
        let senders = Senders::new(FairShare::Address, &leases[0]);
        let at = |last| senders.share_of(Some(IpAddr::from([10, 0, 0, last]))).unwrap();
        let (one, same, other) = (at(1), at(1), at(2));
        assert_eq!(budget.intakes[0].senders.load(Relaxed), 2);
        assert_eq!(fill(&one).1, Refusal::Share);
        assert_eq!(same.admit(Holder::Requests, KIB), Err(Refusal::Share));
        assert_eq!(other.admit(Holder::Requests, KIB), Ok(()));
        drop((one, same));
        assert_eq!(senders.by_address.borrow().len(), 1);
    }

    #[test]
    fn nobody_has_a_share_where_it_is_off() {
        let (_budget, leases) = shards(1);
        assert!(Senders::new(FairShare::Off, &leases[0]).share_of(None).is_none());
    }
}
