//! What [`super::ring`] is built from: the queue, the waker cell and the atomics of a real run.
//!
//! The one idea: `ring.rs` names these parts only through this module, so `ring_model.rs` can put the model checker's
//! parts in their place and walk every interleaving of the very same text. Nothing here has behaviour of its own.

pub(super) use std::sync::Arc;
pub(super) use std::sync::atomic::{AtomicBool, Ordering};

pub(super) use futures_util::task::AtomicWaker;
pub(super) use rtrb::{Consumer, Producer};

/// A queue for one writer and one reader.
pub(super) fn queue<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    rtrb::RingBuffer::new(capacity)
}

/// What the tests of `ring.rs` run on: threads of the system.
#[cfg(test)]
pub(super) mod test {
    pub(in super::super) use futures_lite::future::block_on;
    pub(in super::super) use std::thread;

    /// Runs a scenario often: the model checker is the proof, this shows that the real parts behave like its parts.
    pub(in super::super) fn check(scenario: fn()) {
        for _ in 0..200 {
            scenario();
        }
    }
}
