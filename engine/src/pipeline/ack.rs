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
    let slot = Rc::new(Slot { parts: Cell::new(1), failure: RefCell::new(None), waker: RefCell::new(None) });
    (Ack(Some(Rc::clone(&slot))), Waiting(slot))
}

impl Ack {
    /// Another part of the same slot, for the batch that leaves this one.
    pub fn split(&self) -> Ack {
        let slot = self.0.as_ref().expect("a part is only empty after it was settled, which consumes it");
        slot.parts.set(slot.parts.get() + 1);
        Ack(Some(Rc::clone(slot)))
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
    fn one_failed_part_fails_the_request() {
        let (ack, mut waiting) = open();
        let other = ack.split();
        let failure = Outcome::Failed(Status::internal("no"));
        ack.settle(failure.clone());
        other.settle(Outcome::Taken);
        assert_eq!(poll(&mut waiting), Poll::Ready(failure));
    }
}
