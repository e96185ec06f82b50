//! A shard's pool of request buffers.
//!
//! ```text
//!   take(hint) -> Buffer --freeze--> Bytes, shared by batches on any shard
//!       ^                              |
//!       |  dropped on its own shard    |  dropped on another shard
//!   free lists <-----------------------+-----> return queue, emptied at home by take and shrink
//! ```
//!
//! The one idea: memory that was written once is cheap to write again (fresh pages cost more than the copy into them),
//! so a request's buffer returns to the shard that allocated it, whoever drops the last view of it. Buffers come in
//! sizes that are powers of two; each size has a free list, last in first out, so the warmest is reused first.
//!
//! One reference count and one small allocation (the owner of `Bytes`) per request, nothing per span. What is kept has a bound in bytes, and what was
//! not used for a while is freed. Never waits: if the return queue is full, the buffer is freed where it is.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use bytes::Bytes;

/// Smallest buffer in bytes.
const SIZE_MIN: usize = 4 << 10;
/// Number of sizes: 4 KiB, 8 KiB, ... 32 MiB. A larger buffer is allocated to measure and freed after use.
const SIZES: usize = 14;
/// Buffers that may wait in the return queue. The mesh sends segments home with the answer, so it is mostly empty.
const RETURNS_MAX: usize = 1024;
/// Free buffers that were not used during one window are freed at its end: within two windows, 60 s, after a burst.
const WINDOW_NS: u64 = 30_000_000_000;

/// The pool of one shard. Cloning gives another handle to the same pool.
#[derive(Clone)]
pub struct Buffers(Rc<Pool>);

struct Pool {
    home: Arc<Home>,
    returns: Receiver<Returned>,
    sizes: [RefCell<FreeList>; SIZES],
    kept_bytes: Cell<usize>,
    kept_bytes_max: usize,
    /// Capacity handed out and not seen again.
    out_bytes: Cell<usize>,
    window_started_ns: Cell<u64>,
}

#[derive(Default)]
struct FreeList {
    buffers: Vec<Vec<u8>>,
    /// Fewest free buffers during the current window: so many were not needed.
    spare: usize,
}

/// What a buffer knows of its pool wherever it goes.
struct Home {
    returns: SyncSender<Returned>,
    /// Bytes freed on other shards, which the pool has to subtract from what is out.
    lost_bytes: AtomicU64,
}

struct Returned {
    bytes: Vec<u8>,
    taken_bytes: usize,
}

/// A buffer to be filled: an empty `Vec` whose memory may have been used before. Dropping it returns it.
pub struct Buffer {
    bytes: Vec<u8>,
    /// What the pool counts as being out: the capacity when it was taken, or when it was frozen.
    taken_bytes: usize,
    home: Arc<Home>,
}

/// See [`Buffers::adopt`].
struct Adopted {
    bytes: Bytes,
    home: Arc<Home>,
}

impl AsRef<[u8]> for Adopted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Adopted {
    fn drop(&mut self) {
        let length = self.bytes.len();
        match self.home.pool_of_this_thread() {
            Some(pool) => pool.out_bytes.set(pool.out_bytes.get() - length),
            None => _ = self.home.lost_bytes.fetch_add(length as u64, Ordering::Relaxed),
        }
    }
}

impl std::fmt::Debug for Buffers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kept_bytes, out_bytes) = (self.kept_bytes(), self.out_bytes());
        f.debug_struct("Buffers")
            .field("kept_bytes", &kept_bytes)
            .field("out_bytes", &out_bytes)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buffer").field("len", &self.bytes.len()).finish_non_exhaustive()
    }
}

thread_local! {
    /// The pools of this thread: one, except in simulations that run several shards on one thread.
    static POOLS: RefCell<Vec<Weak<Pool>>> = const { RefCell::new(Vec::new()) };
}

impl Buffers {
    /// An empty pool of the calling thread that keeps at most `kept_bytes_max` bytes for reuse.
    pub fn new(kept_bytes_max: usize) -> Buffers {
        let (sender, returns) = sync_channel(RETURNS_MAX);
        let pool = Rc::new(Pool {
            home: Arc::new(Home { returns: sender, lost_bytes: AtomicU64::new(0) }),
            returns,
            sizes: Default::default(),
            kept_bytes: Cell::new(0),
            kept_bytes_max,
            out_bytes: Cell::new(0),
            window_started_ns: Cell::new(0),
        });
        POOLS.with_borrow_mut(|pools| {
            pools.retain(|pool| pool.strong_count() > 0);
            pools.push(Rc::downgrade(&pool));
        });
        Buffers(pool)
    }

    /// An empty buffer with room for at least `capacity_hint` bytes without growing. It may grow beyond.
    pub fn take(&self, capacity_hint: usize) -> Buffer {
        let pool = &self.0;
        let bytes = pool.reuse(capacity_hint).unwrap_or_else(|| Vec::with_capacity(size_for(capacity_hint)));
        let taken_bytes = bytes.capacity();
        pool.out_bytes.set(pool.out_bytes.get() + taken_bytes);
        Buffer { bytes, taken_bytes, home: Arc::clone(&pool.home) }
    }

    /// Counts bytes that were received into memory of somebody else as being out, until their last view is dropped. They
    /// are freed then, not reused.
    pub fn adopt(&self, bytes: Bytes) -> Bytes {
        let pool = &self.0;
        pool.out_bytes.set(pool.out_bytes.get() + bytes.len());
        Bytes::from_owner(Adopted { bytes, home: Arc::clone(&pool.home) })
    }

    /// Frees what was not needed for a while and takes in what other shards returned. Called now and then, at least
    /// every few seconds; `now_ns` is the monotonic clock.
    pub fn shrink(&self, now_ns: u64) {
        let pool = &self.0;
        pool.collect_returns();
        if now_ns.saturating_sub(pool.window_started_ns.get()) < WINDOW_NS {
            return;
        }
        pool.window_started_ns.set(now_ns);
        for size in &pool.sizes {
            let mut list = size.borrow_mut();
            // The coldest lie in front.
            let spare = list.spare;
            let freed: usize = list.buffers.drain(..spare).map(|buffer| buffer.capacity()).sum();
            list.spare = list.buffers.len();
            pool.kept_bytes.set(pool.kept_bytes.get() - freed);
        }
    }

    /// Bytes that wait for reuse.
    pub fn kept_bytes(&self) -> usize {
        self.0.kept_bytes.get()
    }

    /// Capacity of the buffers that were taken and have not come back (as far as this shard has looked).
    pub fn out_bytes(&self) -> usize {
        self.0.out_bytes.get()
    }
}

impl Pool {
    fn reuse(&self, capacity_hint: usize) -> Option<Vec<u8>> {
        let size = size_index(size_for(capacity_hint))?;
        if self.sizes[size].borrow().buffers.is_empty() {
            self.collect_returns();
        }
        let mut list = self.sizes[size].borrow_mut();
        let buffer = list.buffers.pop()?;
        list.spare = list.spare.min(list.buffers.len());
        self.kept_bytes.set(self.kept_bytes.get() - buffer.capacity());
        Some(buffer)
    }

    /// Takes in what other shards returned; at most what the queue can hold, so it ends.
    fn collect_returns(&self) {
        for returned in self.returns.try_iter().take(RETURNS_MAX) {
            self.take_back(returned);
        }
        let lost = self.home.lost_bytes.swap(0, Ordering::Relaxed);
        self.out_bytes.set(self.out_bytes.get() - usize::try_from(lost).expect("it was a sum of capacities"));
    }

    fn take_back(&self, returned: Returned) {
        self.out_bytes.set(self.out_bytes.get() - returned.taken_bytes);
        let mut buffer = returned.bytes;
        let capacity = buffer.capacity();
        let Some(size) = size_index(capacity) else { return };
        if self.kept_bytes.get() + capacity > self.kept_bytes_max {
            return;
        }
        buffer.clear();
        self.kept_bytes.set(self.kept_bytes.get() + capacity);
        self.sizes[size].borrow_mut().buffers.push(buffer);
    }
}

/// The capacity to allocate for a hint: the next size, or the hint itself where there is none.
fn size_for(capacity_hint: usize) -> usize {
    if capacity_hint > SIZE_MIN << (SIZES - 1) {
        return capacity_hint;
    }
    capacity_hint.max(SIZE_MIN).next_power_of_two()
}

/// The free list whose takers a buffer of this capacity satisfies, if one does.
fn size_index(capacity: usize) -> Option<usize> {
    let size = (capacity / SIZE_MIN).checked_ilog2()? as usize;
    (size < SIZES).then_some(size)
}

impl Buffer {
    /// Frees the memory instead of keeping it for the next request: it grew for something that nobody should send again.
    pub fn discard(mut self) {
        self.bytes = Vec::new();
    }

    /// The bytes as a shared view. When the last clone or slice of it is dropped, the memory returns to its shard.
    pub fn freeze(mut self) -> Bytes {
        let capacity = self.bytes.capacity();
        if capacity != self.taken_bytes
            && let Some(pool) = self.home.pool_of_this_thread()
        {
            pool.out_bytes.set(pool.out_bytes.get() - self.taken_bytes + capacity);
            self.taken_bytes = capacity;
        }
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl std::ops::Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let returned = Returned { bytes: std::mem::take(&mut self.bytes), taken_bytes: self.taken_bytes };
        match self.home.pool_of_this_thread() {
            Some(pool) => pool.take_back(returned),
            None => self.home.send_back(returned),
        }
    }
}

impl Home {
    /// The pool, if this is its shard.
    fn pool_of_this_thread(&self) -> Option<Rc<Pool>> {
        let find = |pools: &RefCell<Vec<Weak<Pool>>>| {
            let pools = pools.borrow();
            pools.iter().filter_map(Weak::upgrade).find(|pool| std::ptr::eq(Arc::as_ptr(&pool.home), self))
        };
        // The thread may be past the end of its locals: then it is nobody's shard.
        POOLS.try_with(find).ok().flatten()
    }

    fn send_back(&self, returned: Returned) {
        let taken_bytes = returned.taken_bytes as u64;
        if self.returns.try_send(returned).is_err() {
            // Full, or the shard is gone: the buffer is freed here.
            self.lost_bytes.fetch_add(taken_bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn filled(buffers: &Buffers, bytes: &[u8]) -> Bytes {
        let mut buffer = buffers.take(bytes.len());
        buffer.extend_from_slice(bytes);
        buffer.freeze()
    }

    #[test]
    fn the_last_view_dropped_at_home_makes_the_memory_free_for_the_next_request() {
        let buffers = Buffers::new(1 << 20);
        let bytes = filled(&buffers, b"span");
        let memory = bytes.as_ptr();
        let slice = bytes.slice(1..3);
        drop(bytes);
        assert_eq!((&slice[..], buffers.kept_bytes(), buffers.out_bytes()), (&b"pa"[..], 0, SIZE_MIN));
        drop(slice);
        assert_eq!((buffers.kept_bytes(), buffers.out_bytes()), (SIZE_MIN, 0));
        let next = buffers.take(SIZE_MIN);
        assert_eq!((next.as_ptr(), next.len()), (memory, 0));
    }

    #[test]
    fn what_is_discarded_is_neither_kept_nor_out() {
        let buffers = Buffers::new(1 << 20);
        let mut buffer = buffers.take(1);
        buffer.resize(100_000, 0);
        buffer.discard();
        assert_eq!((buffers.kept_bytes(), buffers.out_bytes()), (0, 0));
    }

    #[test]
    fn a_buffer_dropped_on_another_shard_comes_home() {
        let buffers = Buffers::new(1 << 20);
        let bytes = filled(&buffers, &[7; 10_000]);
        let memory = bytes.as_ptr() as usize;
        std::thread::spawn(move || {
            let other = Buffers::new(1 << 20);
            drop(bytes);
            assert_eq!((other.kept_bytes(), other.out_bytes()), (0, 0), "it is not the other shard's memory");
        })
        .join()
        .unwrap();
        assert_eq!(buffers.out_bytes(), 16 << 10);
        let next = buffers.take(9_000);
        assert_eq!(next.as_ptr() as usize, memory);
    }

    #[test]
    fn two_shards_on_one_thread_keep_their_own_memory() {
        let (one, two) = (Buffers::new(1 << 20), Buffers::new(1 << 20));
        let bytes = filled(&one, b"one");
        drop(filled(&two, b"two"));
        drop(bytes);
        assert_eq!((one.kept_bytes(), two.kept_bytes()), (SIZE_MIN, SIZE_MIN));
    }

    #[test]
    fn a_full_return_queue_frees_the_buffer_and_the_count_stays_exact() {
        let buffers = Buffers::new(usize::MAX);
        let all: Vec<Bytes> = (0..RETURNS_MAX + 10).map(|_| filled(&buffers, b"x")).collect();
        std::thread::spawn(move || drop(all)).join().unwrap();
        buffers.shrink(0);
        assert_eq!((buffers.kept_bytes(), buffers.out_bytes()), (RETURNS_MAX * SIZE_MIN, 0));
    }

    #[test]
    fn a_buffer_that_outlives_its_shard_is_just_freed() {
        let buffers = Buffers::new(1 << 20);
        let bytes = filled(&buffers, b"late");
        drop(buffers);
        assert_eq!(&bytes[..], b"late");
        drop(bytes);
    }

    #[test]
    fn adopted_bytes_count_as_out_until_they_are_dropped_wherever_that_is() {
        let buffers = Buffers::new(1 << 20);
        let received = Bytes::from(vec![7; 1000]);
        let (here, there) = (buffers.adopt(received.slice(100..)), buffers.adopt(received));
        assert_eq!((here.len(), here[0], buffers.out_bytes()), (900, 7, 1900));
        let view = here.slice(1..2);
        drop(here);
        assert_eq!(buffers.out_bytes(), 1900);
        drop(view);
        assert_eq!((buffers.out_bytes(), buffers.kept_bytes()), (1000, 0));
        std::thread::spawn(move || drop(there)).join().unwrap();
        buffers.shrink(0);
        assert_eq!(buffers.out_bytes(), 0);
    }

    #[test]
    fn no_more_is_kept_than_allowed() {
        let buffers = Buffers::new(10 * SIZE_MIN);
        drop((0..100).map(|_| buffers.take(1)).collect::<Vec<_>>());
        assert_eq!((buffers.kept_bytes(), buffers.out_bytes()), (10 * SIZE_MIN, 0));
    }

    #[test]
    fn a_buffer_that_grew_serves_the_size_it_has_now() {
        let buffers = Buffers::new(1 << 20);
        let mut buffer = buffers.take(1);
        buffer.resize(100_000, 0);
        let bytes = buffer.freeze();
        assert!(buffers.out_bytes() >= 100_000, "the growth counts once it is frozen");
        drop(bytes);
        assert_eq!(buffers.out_bytes(), 0);
        assert!(buffers.take(60_000).capacity() >= 100_000);
    }

    #[test]
    fn sizes_serve_every_hint() {
        for hint in [0, 1, SIZE_MIN, SIZE_MIN + 1, (32 << 20) - 1, 32 << 20] {
            let capacity = size_for(hint);
            assert!(capacity >= hint);
            assert_eq!(size_for(capacity), capacity);
            assert_eq!(SIZE_MIN << size_index(capacity).unwrap(), capacity);
        }
        assert_eq!(size_for((32 << 20) + 1), (32 << 20) + 1);
        assert_eq!(size_index(64 << 20), None);
        assert_eq!(size_index(100), None);
    }

    #[test]
    fn what_a_burst_needed_is_freed_within_a_minute_and_what_the_load_needs_stays() {
        let buffers = Buffers::new(1 << 30);
        let burst = |count: usize| drop((0..count).map(|_| buffers.take(1)).collect::<Vec<_>>());
        burst(1000);
        for second in 0..=60 {
            burst(10);
            buffers.shrink(second * SECOND_NS);
        }
        assert_eq!(buffers.kept_bytes(), 10 * SIZE_MIN);
    }
}
