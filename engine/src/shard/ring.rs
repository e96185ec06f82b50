//! A ring: one direction between two shards. A bounded queue with one writer and one reader, and a wake-up at each end.
//!
//! The one idea: *publish, then wake; register, then look again.* Whoever adds or removes something makes it visible
//! before it wakes; whoever waits leaves its waker before it looks a last time. One of the two sees the other, so no
//! wake-up is lost, and neither side ever holds a lock.
//!
//! ```text
//!   sender shard                                        receiver shard
//!   push push push  -- queue (bounded, in order) -->    pop pop pop
//!   flush           -- data is there: one wake ---->    poll_pop / has_data
//!   poll_room       <- room is there, if asked for --   flush
//! ```
//!
//! Wakes are batched: pushes and pops are silent, `flush` wakes at most once. A sender is woken for room only if it
//! asked, because most of the time it does not wait and the wake would cost it an empty loop turn. A waker belongs to a
//! shard, not to a ring ([`ShardWaker`]), so a shard waits for all its rings at once.
//!
//! A ring never blocks, never drops a value it took, and never allocates after `ring()`.
//! The tests at the end run twice: on threads, and in every interleaving (`ring_model.rs`).

use std::task::{Context, Poll};

use super::sync::{Arc, AtomicBool, AtomicWaker, Consumer, Ordering, Producer, queue};

/// The place where a shard leaves its waker before it sleeps. All rings that begin or end at the shard share it.
#[derive(Clone)]
pub struct ShardWaker(Arc<AtomicWaker>);

impl ShardWaker {
    /// With nobody waiting.
    pub fn new() -> ShardWaker {
        ShardWaker(Arc::new(AtomicWaker::new()))
    }

    /// Leaves the waker of the task that is about to sleep; only the owning shard calls it. Every state change that a
    /// peer published before a wake that this call misses is visible to the look that must follow.
    pub fn register(&self, context: &Context<'_>) {
        self.0.register(context.waker());
    }

    /// Wakes the shard if it left a waker; each registration is woken at most once.
    pub fn wake(&self) {
        self.0.wake();
    }
}

impl Default for ShardWaker {
    fn default() -> ShardWaker {
        ShardWaker::new()
    }
}

/// What both ends see.
struct Shared {
    /// The sender found the ring full and sleeps, or is about to.
    wants_room: AtomicBool,
    sender_gone: AtomicBool,
    receiver_gone: AtomicBool,
}

/// The writing end.
pub struct Sender<T> {
    queue: Producer<T>,
    shared: Arc<Shared>,
    here: ShardWaker,
    there: ShardWaker,
    /// Something was pushed since the last wake.
    unannounced: bool,
}

/// The reading end.
pub struct Receiver<T> {
    queue: Consumer<T>,
    shared: Arc<Shared>,
    here: ShardWaker,
    there: ShardWaker,
    /// Something was popped since the last time room was offered.
    unannounced: bool,
}

/// A ring for `capacity` values (at least 1) between the shards that own the two wakers.
pub fn ring<T>(capacity: usize, sender: &ShardWaker, receiver: &ShardWaker) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a ring without room can never pass a value on");
    let (producer, consumer) = queue(capacity);
    let shared = Arc::new(Shared {
        wants_room: AtomicBool::new(false),
        sender_gone: AtomicBool::new(false),
        receiver_gone: AtomicBool::new(false),
    });
    let sending = Sender {
        queue: producer,
        shared: shared.clone(),
        here: sender.clone(),
        there: receiver.clone(),
        unannounced: false,
    };
    let receiving =
        Receiver { queue: consumer, shared, here: receiver.clone(), there: sender.clone(), unannounced: false };
    (sending, receiving)
}

impl<T> Sender<T> {
    /// Adds a value, or gives it back if the ring is full or the receiver is gone. Silent until [`Sender::flush`].
    pub fn push(&mut self, value: T) -> Result<(), T> {
        if self.is_closed() {
            return Err(value);
        }
        match self.queue.push(value) {
            Ok(()) => {
                self.unannounced = true;
                Ok(())
            }
            Err(rtrb::PushError::Full(value)) => Err(value),
        }
    }

    /// Wakes the receiver if something was pushed since the last call.
    pub fn flush(&mut self) {
        if std::mem::take(&mut self.unannounced) {
            self.there.wake();
        }
    }

    /// Whether a push would be taken now.
    pub fn has_room(&self) -> bool {
        !self.queue.is_full()
    }

    /// Whether the receiver is gone: what was not popped never will be.
    pub fn is_closed(&self) -> bool {
        self.shared.receiver_gone.load(Ordering::Acquire)
    }

    /// For a shard that has registered its waker: true if there is room now (or never will be); false means that the
    /// receiver's next [`Receiver::flush`] that made room wakes this shard.
    pub fn ask_for_room(&mut self) -> bool {
        self.flush(); // A receiver that sleeps on silent pushes would never make room.
        if self.has_room() {
            return true;
        }
        // A swap on both sides: the two are ordered, so either the receiver's swap finds this request, or this one
        // finds all the room that was made before the receiver's.
        self.shared.wants_room.swap(true, Ordering::AcqRel);
        self.has_room() || self.is_closed()
    }

    /// Ready when a push would be taken, or the receiver is gone.
    pub fn poll_room(&mut self, context: &Context<'_>) -> Poll<()> {
        self.here.register(context);
        if self.ask_for_room() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.shared.sender_gone.store(true, Ordering::Release);
        self.there.wake();
    }
}

impl<T> Receiver<T> {
    /// Takes the oldest value. The sender learns of the room at [`Receiver::flush`].
    pub fn pop(&mut self) -> Option<T> {
        let value = self.queue.pop().ok()?;
        self.unannounced = true;
        Some(value)
    }

    /// Wakes the sender if it asked for room and something was popped since the last call.
    pub fn flush(&mut self) {
        if !std::mem::take(&mut self.unannounced) {
            return;
        }
        // Not a load before the swap: it could miss a request that in turn misses the room just made.
        if self.shared.wants_room.swap(false, Ordering::AcqRel) {
            self.there.wake();
        }
    }

    /// Whether a pop would find something now.
    pub fn has_data(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether the sender is gone. What it pushed before can still be popped.
    pub fn is_closed(&self) -> bool {
        self.shared.sender_gone.load(Ordering::Acquire)
    }

    /// Ready with the oldest value, or with `None` once the ring is empty and the sender is gone.
    pub fn poll_pop(&mut self, context: &Context<'_>) -> Poll<Option<T>> {
        if let Some(value) = self.pop() {
            return Poll::Ready(Some(value));
        }
        self.flush(); // Before sleeping: a sender that waits for the room just made would never push.
        self.here.register(context);
        let closed = self.is_closed(); // Read before the last look: what came before the end is seen by it.
        match self.pop() {
            Some(value) => Poll::Ready(Some(value)),
            None if closed => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.receiver_gone.store(true, Ordering::Release);
        self.there.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::super::sync::test::{block_on, check, thread};
    use super::*;

    fn pair(capacity: usize) -> (Sender<u32>, Receiver<u32>) {
        ring(capacity, &ShardWaker::new(), &ShardWaker::new())
    }

    async fn send(sender: &mut Sender<u32>, value: u32) -> bool {
        loop {
            poll_fn(|context| sender.poll_room(context)).await;
            if sender.push(value).is_ok() {
                return true;
            }
            if sender.is_closed() {
                return false;
            }
        }
    }

    async fn receive(receiver: &mut Receiver<u32>) -> Option<u32> {
        poll_fn(|context| receiver.poll_pop(context)).await
    }

    #[test]
    fn both_sides_wait_and_every_value_arrives_in_order() {
        check(|| {
            let (mut sender, mut receiver) = pair(1);
            let sending = thread::spawn(move || {
                block_on(async {
                    for value in 1..=3 {
                        assert!(send(&mut sender, value).await);
                    }
                });
            });
            block_on(async {
                for value in 1..=3 {
                    assert_eq!(receive(&mut receiver).await, Some(value));
                }
                assert_eq!(receive(&mut receiver).await, None);
            });
            sending.join().unwrap();
        });
    }

    #[test]
    fn one_wake_announces_a_whole_batch() {
        check(|| {
            let (mut sender, mut receiver) = pair(2);
            let sending = thread::spawn(move || {
                sender.push(1).unwrap();
                sender.push(2).unwrap();
                sender.flush();
                sender
            });
            block_on(async {
                assert_eq!(receive(&mut receiver).await, Some(1));
                assert_eq!(receive(&mut receiver).await, Some(2));
            });
            sending.join().unwrap();
        });
    }

    #[test]
    fn a_sender_that_ends_wakes_its_receiver_after_all_it_pushed() {
        check(|| {
            let (mut sender, mut receiver) = pair(2);
            let sending = thread::spawn(move || sender.push(7).unwrap());
            block_on(async {
                assert_eq!(receive(&mut receiver).await, Some(7));
                assert_eq!(receive(&mut receiver).await, None);
            });
            sending.join().unwrap();
        });
    }

    #[test]
    fn a_receiver_that_ends_wakes_a_sender_that_waits_for_room() {
        check(|| {
            let (mut sender, receiver) = pair(1);
            sender.push(1).unwrap();
            let receiving = thread::spawn(move || drop(receiver));
            block_on(async { assert!(!send(&mut sender, 2).await) });
            assert_eq!(sender.push(3), Err(3), "a value that cannot arrive comes back");
            receiving.join().unwrap();
        });
    }

    /// The mesh in small: each shard has one waker for its data and for its room.
    fn exchange(mut out: Sender<u32>, mut inbound: Receiver<u32>, waker: ShardWaker, count: u32) {
        let mut sent = 0;
        let mut received = 0;
        block_on(poll_fn(|context| {
            loop {
                waker.register(context);
                while inbound.pop().is_some() {
                    received += 1;
                }
                inbound.flush();
                while sent < count && out.push(sent).is_ok() {
                    sent += 1;
                }
                out.flush();
                if sent == count && received == count {
                    return Poll::Ready(());
                }
                let can_push = sent < count && out.ask_for_room();
                if !can_push && !inbound.has_data() {
                    return Poll::Pending;
                }
            }
        }));
    }

    #[test]
    fn two_shards_with_full_rings_facing_each_other_make_progress() {
        check(|| {
            let (left, right) = (ShardWaker::new(), ShardWaker::new());
            let (to_right, from_left) = ring(1, &left, &right);
            let (to_left, from_right) = ring(1, &right, &left);
            let other = thread::spawn(move || exchange(to_left, from_left, right, 2));
            exchange(to_right, from_right, left, 2);
            other.join().unwrap();
        });
    }

    #[test]
    fn one_waker_serves_rings_from_two_peers() {
        check(|| {
            let home = ShardWaker::new();
            let (mut first, mut from_first) = ring(1, &ShardWaker::new(), &home);
            let (mut second, mut from_second) = ring(1, &ShardWaker::new(), &home);
            let one = thread::spawn(move || {
                first.push(1).unwrap();
                first.flush();
                first
            });
            let two = thread::spawn(move || {
                second.push(2).unwrap();
                second.flush();
                second
            });
            let mut sum = 0;
            block_on(poll_fn(|context| {
                home.register(context);
                sum += from_first.pop().unwrap_or(0) + from_second.pop().unwrap_or(0);
                if sum == 3 { Poll::Ready(()) } else { Poll::Pending }
            }));
            drop((one.join().unwrap(), two.join().unwrap()));
        });
    }
}
