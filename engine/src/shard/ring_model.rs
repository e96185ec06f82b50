//! `ring.rs` under the model checker: the same text, the same tests, in every interleaving that needs up to two forced
//! switches between threads. Each line of the protocol that was taken out or put in the wrong order is found with two;
//! three find no more and take minutes.
//!
//! The parts of `sync.rs` are replaced by parts that the checker instruments. The queue keeps rtrb's promise and no
//! more: its two positions are published with release and read with acquire, so a stale look is possible where it is
//! possible for rtrb. A lost wake-up shows as a deadlock, which the checker reports with its path.
//!
//! Run: `cargo test -p tracegate --lib ring_model`.

/// The checker's parts, by the names `ring.rs` uses.
mod sync {
    use std::task::Waker;

    pub(super) use loom::sync::Arc;
    pub(super) use loom::sync::atomic::{AtomicBool, Ordering};

    use loom::sync::Mutex;
    use loom::sync::atomic::AtomicUsize;

    pub(super) struct AtomicWaker(loom::future::AtomicWaker);

    impl AtomicWaker {
        pub(super) fn new() -> AtomicWaker {
            AtomicWaker(loom::future::AtomicWaker::new())
        }

        pub(super) fn register(&self, waker: &Waker) {
            self.0.register_by_ref(waker);
        }

        pub(super) fn wake(&self) {
            self.0.wake();
        }
    }

    /// The lock of a slot orders nothing that the positions have not ordered before.
    struct Queue<T> {
        slots: Vec<Mutex<Option<T>>>,
        head: AtomicUsize,
        tail: AtomicUsize,
    }

    pub(super) struct Producer<T>(Arc<Queue<T>>);
    pub(super) struct Consumer<T>(Arc<Queue<T>>);

    pub(super) fn queue<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
        let queue = Arc::new(Queue {
            slots: (0..capacity).map(|_| Mutex::new(None)).collect(),
            head: AtomicUsize::new(0),
            tail: AtomicUsize::new(0),
        });
        (Producer(queue.clone()), Consumer(queue))
    }

    impl<T> Producer<T> {
        pub(super) fn is_full(&self) -> bool {
            let tail = self.0.tail.load(Ordering::Relaxed);
            tail - self.0.head.load(Ordering::Acquire) == self.0.slots.len()
        }

        pub(super) fn push(&mut self, value: T) -> Result<(), rtrb::PushError<T>> {
            if self.is_full() {
                return Err(rtrb::PushError::Full(value));
            }
            let tail = self.0.tail.load(Ordering::Relaxed);
            *self.0.slots[tail % self.0.slots.len()].lock().unwrap() = Some(value);
            self.0.tail.store(tail + 1, Ordering::Release);
            Ok(())
        }
    }

    impl<T> Consumer<T> {
        pub(super) fn is_empty(&self) -> bool {
            let head = self.0.head.load(Ordering::Relaxed);
            head == self.0.tail.load(Ordering::Acquire)
        }

        pub(super) fn pop(&mut self) -> Result<T, rtrb::PopError> {
            if self.is_empty() {
                return Err(rtrb::PopError::Empty);
            }
            let head = self.0.head.load(Ordering::Relaxed);
            let value = self.0.slots[head % self.0.slots.len()].lock().unwrap().take();
            self.0.head.store(head + 1, Ordering::Release);
            Ok(value.expect("the position says that the slot is filled"))
        }
    }

    pub(super) mod test {
        pub(in super::super) use loom::future::block_on;
        pub(in super::super) use loom::thread;

        pub(in super::super) fn check(scenario: fn()) {
            let mut model = loom::model::Builder::new();
            model.preemption_bound = Some(2);
            model.check(scenario);
        }
    }
}

#[path = "ring.rs"]
#[expect(clippy::duplicate_mod, reason = "the same text over other parts is the point")]
#[expect(unreachable_pub, reason = "a public item of the real module is private to this one")]
mod ring;
