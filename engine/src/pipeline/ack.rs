//! Who is answered, and when.
//!
//! A request opens a *slot*; every batch that carries some of its spans holds an [`Ack`], one part of that slot. Parts
//! follow the spans through merge, split, mesh, table and queue; whoever takes ownership settles the part. When the last
//! part is settled, the waiting receiver learns the worst outcome.
//!
//! ```text
//! receiver --opens--> slot <--settle-- batch / trace table / queue / exporter
//!     ^                |
//!     +---- outcome ---+   (after the last part)
//! ```
//!
//! A part cannot be forgotten: dropping it unsettled stops the process in debug builds and counts as a failure else.

use codecs::grpc::Status;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// What became of a part of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A node took ownership: the sender may forget it.
    Taken,
    /// Not now, or never, with the status that the sender sees.
    Failed(Status),
}

#[derive(Debug)]
struct Slot {
    parts: Cell<u32>,
    failure: RefCell<Option<Status>>,
    /// Nobody waits for the answer any more.
    abandoned: Cell<bool>,
    /// Who waits is no sender, and cannot bring the request again.
    is_watched: bool,
    waker: RefCell<Option<Waker>>,
}

/// One part of a request's answer. Not `Clone`: [`Ack::split`] says that one part becomes two.
#[derive(Debug)]
#[must_use = "an ack must be settled"]
pub struct Ack(Option<Rc<Slot>>);

/// The receiver's end: resolves when the last part is settled.
#[derive(Debug)]
pub struct Waiting(Rc<Slot>);

/// Opens a slot with one part.
pub fn open() -> (Ack, Waiting) {
    begin(false)
}

/// The same for items that nobody sends again, where somebody wants to know when they are owned by another: a part of it
/// is not heard, and never abandoned.
pub fn watch() -> (Ack, Waiting) {
    begin(true)
}

fn begin(is_watched: bool) -> (Ack, Waiting) {
    let slot = Rc::new(Slot {
        parts: Cell::new(1),
        failure: RefCell::new(None),
        abandoned: Cell::new(false),
        is_watched,
        waker: RefCell::new(None),
    });
    (Ack(Some(Rc::clone(&slot))), Waiting(slot))
}

impl Ack {
    /// Of items that nobody waits for and nobody sends again: their sender was answered, or they were made here. It is never
    /// abandoned, and keeps those who wait for others in the same batch from giving up these.
    pub fn nobody() -> Ack {
        Ack(None)
    }

    /// Whether a sender is told what it is settled with.
    pub fn is_heard(&self) -> bool {
        self.0.as_ref().is_some_and(|slot| !slot.is_watched)
    }

    /// Another part of the same slot, for the batch that leaves this one.
    pub fn split(&self) -> Ack {
        let Some(slot) = &self.0 else { return Ack(None) };
        slot.parts.set(slot.parts.get() + 1);
        Ack(Some(Rc::clone(slot)))
    }

    /// Whether the sender has been answered without waiting for this part: it sends the request again.
    pub fn is_abandoned(&self) -> bool {
        self.0.as_ref().is_some_and(|slot| slot.abandoned.get() && !slot.is_watched)
    }

    /// Settles this part.
    pub fn settle(mut self, outcome: Outcome) {
        if let Some(slot) = self.0.take() {
            slot.settle(outcome);
        }
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        if let Some(slot) = self.0.take() {
            debug_assert!(std::thread::panicking(), "a part of a request was dropped without an answer");
            slot.settle(Outcome::Failed(Status::internal("the gateway lost track of this request; please report it")));
        }
    }
}

impl Waiting {
    /// Whether the last part is settled.
    pub fn is_settled(&self) -> bool {
        self.0.parts.get() == 0
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.abandoned.set(true);
    }
}

impl Slot {
    fn settle(&self, outcome: Outcome) {
        if let Outcome::Failed(status) = outcome {
            // The first failure is what the sender sees: later ones are usually its consequence.
            self.failure.borrow_mut().get_or_insert(status);
        }
        let left = self.parts.get() - 1;
        self.parts.set(left);
        if left == 0
            && let Some(waker) = self.waker.borrow_mut().take()
        {
            waker.wake();
        }
    }
}

impl Future for Waiting {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        if self.0.parts.get() == 0 {
            let failure = self.0.failure.borrow_mut().take();
            return Poll::Ready(failure.map_or(Outcome::Taken, Outcome::Failed));
        }
        *self.0.waker.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }
}

/// The acks of batches whose items lie in a row, the oldest first. Each leaves with its items; where they are torn apart,
/// each piece has a part of it.
#[derive(Debug, Default)]
pub struct Row(VecDeque<(u64, Vec<Ack>)>);

impl Row {
    /// So many items, at least one, join the row, with their acks, if somebody waits for them.
    pub fn push(&mut self, items: u64, mut acks: Vec<Ack>) {
        if acks.is_empty() {
            acks.push(Ack::nobody());
        }
        self.0.push_back((items, acks));
    }

    /// So many items leave: the acks that go with them.
    pub fn take(&mut self, mut items: u64) -> Vec<Ack> {
        let mut taken = Vec::new();
        while items > 0 {
            let Some((left, acks)) = self.0.front_mut() else { break };
            if *left > items {
                *left -= items;
                taken.extend(acks.iter().map(Ack::split));
                break;
            }
            items -= *left;
            taken.append(acks);
            self.0.pop_front();
        }
        taken
    }
}

/// Settles all parts alike.
pub fn settle_all(acks: impl IntoIterator<Item = Ack>, outcome: &Outcome) {
    for ack in acks {
        ack.settle(outcome.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(waiting: &mut Waiting) -> Poll<Outcome> {
        Pin::new(waiting).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_request_is_answered_when_its_last_part_is_settled() {
        let (ack, mut waiting) = open();
        let other = ack.split();
        ack.settle(Outcome::Taken);
        assert_eq!(poll(&mut waiting), Poll::Pending);
        other.settle(Outcome::Taken);
        assert_eq!(poll(&mut waiting), Poll::Ready(Outcome::Taken));
    }

    #[test]
    fn an_ack_leaves_a_row_with_the_last_of_its_items() {
        let (first, mut first_waits) = open();
        let (second, mut second_waits) = open();
        let mut row = Row::default();
        row.push(3, vec![first]);
        row.push(4, vec![second]);
        settle_all(row.take(2), &Outcome::Taken);
        assert_eq!(poll(&mut first_waits), Poll::Pending, "one of its items is still there");
        settle_all(row.take(2), &Outcome::Taken);
        assert_eq!(poll(&mut first_waits), Poll::Ready(Outcome::Taken));
        assert_eq!(poll(&mut second_waits), Poll::Pending);
        let failure = Outcome::Failed(Status::internal("no"));
        settle_all(row.take(3), &failure);
        assert_eq!(poll(&mut second_waits), Poll::Ready(failure));
        assert!(row.take(1).is_empty());
    }

    #[test]
    fn a_part_knows_that_nobody_waits_any_more() {
        let (ack, waiting) = open();
        assert!(!ack.is_abandoned());
        drop(waiting);
        assert!(ack.is_abandoned());
        ack.settle(Outcome::Taken);
    }

    #[test]
    fn who_only_watches_is_told_when_all_parts_are_settled_and_nobody_counts_on_a_retry() {
        let (ack, waiting) = watch();
        let other = ack.split();
        assert!(!ack.is_heard() && !other.is_abandoned());
        ack.settle(Outcome::Taken);
        assert!(!waiting.is_settled());
        other.settle(Outcome::Taken);
        assert!(waiting.is_settled());
    }

    #[test]
    fn items_that_nobody_sends_again_are_never_abandoned() {
        let (ack, waiting) = open();
        let mut row = Row::default();
        row.push(3, vec![ack]);
        row.push(2, Vec::new());
        drop(waiting);
        assert!(row.take(2).into_iter().all(|ack| settled(ack, true)));
        let mixed = row.take(2);
        assert_eq!(mixed.iter().map(Ack::is_abandoned).collect::<Vec<_>>(), [true, false]);
        assert_eq!(mixed.iter().map(Ack::is_heard).collect::<Vec<_>>(), [true, false]);
        settle_all(mixed, &Outcome::Taken);
        assert!(row.take(1).into_iter().all(|ack| settled(ack, false)));
    }

    fn settled(ack: Ack, abandoned: bool) -> bool {
        let is_as_said = ack.is_abandoned() == abandoned;
        ack.settle(Outcome::Taken);
        is_as_said
    }

    #[test]
    fn one_failed_part_fails_the_request() {
        let (ack, mut waiting) = open();
        let other = ack.split();
        let failure = Outcome::Failed(Status::internal("no"));
        ack.settle(failure.clone());
        other.settle(Outcome::Taken);
        assert_eq!(poll(&mut waiting), Poll::Ready(failure));
    }
}
