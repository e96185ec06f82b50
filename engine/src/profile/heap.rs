//! Who holds memory: a sample of the allocations, one in 512 KiB on average, and which of them are still in use.
//!
//! ```text
//! allocate n bytes: countdown -= n;  below 0? --> note the stack and the address, draw the next countdown
//! free:             page byte 0? done.            --> known address: its stack gives the bytes back
//! ```
//!
//! Countdowns are drawn from the exponential distribution, so each byte has the same chance whatever came before: a block
//! of n bytes is sampled with p = 1 - exp(-n / 512 KiB), and counts as 1 / p blocks. What is added when it is allocated and
//! what is given back when it is freed follow from n alone, so a profile returns to 0 with the memory.
//!
//! What an allocation pays is a subtraction in a thread-local and a branch, a free pays one load and a branch.

use super::live::{Block, Live};
use super::raw::frames;
use super::stacks::Stacks;
use super::{DEPTH_MAX, proto};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// Bytes between two samples, on average: what Go takes too. A gigabyte in use is 2,000 samples.
pub const INTERVAL_BYTES: u32 = 512 << 10;
/// Sampled blocks in use that are known at the same time: 8 GiB. More are counted as allocated and freed at once.
const LIVE_MAX: usize = 16 << 10;
/// Stacks that ever allocated a sampled block.
const STACKS_MAX: usize = 4 << 10;
/// Their frames, 32 each.
const WORDS_MAX: usize = 128 << 10;

static STACKS: Stacks<STACKS_MAX, WORDS_MAX> = Stacks::new();
static LIVE: Live<LIVE_MAX> = Live::new();
/// Samples that found no room among those in use.
static FORGOTTEN: AtomicU64 = AtomicU64::new(0);
/// Makes the threads' random numbers differ where the system gives their variables the same place.
static THREADS: AtomicU64 = AtomicU64::new(0);

/// The sums of a stack.
const ALLOCATED_BLOCKS: usize = 0;
const ALLOCATED_BYTES: usize = 1;
const FREED_BLOCKS: usize = 2;
const FREED_BYTES: usize = 3;

// Constant and without destructors: reading them never allocates, at any moment of a thread's life.
thread_local! {
    /// Bytes until the next sample.
    static COUNTDOWN: Cell<i64> = const { Cell::new(0) };
    /// The state of the random numbers; 0 before the thread's first allocation.
    static RANDOM: Cell<u64> = const { Cell::new(0) };
}

/// A block of memory was allocated; null if it was not.
#[inline]
pub(super) fn allocated(block: *mut u8, bytes: usize) {
    // No layout is larger than `isize::MAX`.
    let left = COUNTDOWN.get() - bytes as i64;
    COUNTDOWN.set(left);
    if left < 0 {
        sampled(block.addr(), bytes);
    }
}

/// A block of memory is about to be freed, or to be moved.
#[inline]
pub(super) fn freed(block: *mut u8) {
    if LIVE.may_hold(block.addr()) {
        forget(block.addr());
    }
}

#[cold]
#[inline(never)]
fn sampled(address: usize, bytes: usize) {
    // Nothing below allocates; if something ever did, it would not come back here.
    COUNTDOWN.set(i64::MAX);
    if RANDOM.get() == 0 {
        begin_thread();
    } else if address != 0 && bytes != 0 {
        let mut frames = [0; DEPTH_MAX];
        let depth = frames::here(&mut frames);
        note(address, &frames[..depth], bytes as u64);
    }
    COUNTDOWN.set(next_countdown());
}

/// The first allocation of a thread is where everything is learned that later must not cost anything.
fn begin_thread() {
    frames::learn_stack();
    let place = RANDOM.with(|random| std::ptr::from_ref(random).addr()) as u64;
    let thread = THREADS.fetch_add(1, Ordering::Relaxed);
    RANDOM.set((place ^ thread.wrapping_mul(0xd1b5_4a32_d192_ed03)) | 1);
}

fn note(address: usize, frames: &[usize], bytes: u64) {
    let stack = STACKS.place(frames);
    let (blocks_meant, bytes_meant) = weight(bytes);
    STACKS.add(stack, ALLOCATED_BLOCKS, blocks_meant);
    STACKS.add(stack, ALLOCATED_BYTES, bytes_meant);
    if !LIVE.insert(address, Block { stack, bytes }) {
        FORGOTTEN.fetch_add(1, Ordering::Relaxed);
        give_back(Block { stack, bytes });
    }
}

#[cold]
#[inline(never)]
fn forget(address: usize) {
    if let Some(block) = LIVE.remove(address) {
        give_back(block);
    }
}

fn give_back(block: Block) {
    let (blocks_meant, bytes_meant) = weight(block.bytes);
    STACKS.add(block.stack, FREED_BLOCKS, blocks_meant);
    STACKS.add(block.stack, FREED_BYTES, bytes_meant);
}

/// How many blocks and bytes one sample of this size stands for.
fn weight(bytes: u64) -> (u64, u64) {
    let chance = -(-(bytes as f64) / f64::from(INTERVAL_BYTES)).exp_m1();
    ((1.0 / chance).round() as u64, (bytes as f64 / chance).round() as u64)
}

/// Bytes until the next sample, exponentially distributed.
fn next_countdown() -> i64 {
    // Splitmix64: a counter, well mixed.
    let state = RANDOM.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    RANDOM.set(state.max(1));
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let mixed = mixed ^ (mixed >> 31);
    // Above 0 and at most 1, with 53 bits.
    let even = ((mixed >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    (-even.ln() * f64::from(INTERVAL_BYTES)) as i64
}

/// Which sum `go tool pprof` shows if it is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// What is in use: the heap.
    InUse,
    /// What was ever allocated.
    Allocated,
}

/// The heap as it is now. Without the process's allocator it is empty. Takes time where there are many names to find.
pub fn profile(shown: Shown) -> proto::Profile {
    let samples = STACKS.seen().into_iter().map(|seen| {
        let sum = |index: usize| i64::try_from(seen.sums[index]).unwrap_or(i64::MAX);
        let (blocks, bytes) = (sum(ALLOCATED_BLOCKS), sum(ALLOCATED_BYTES));
        let in_use = [blocks - sum(FREED_BLOCKS), bytes - sum(FREED_BYTES)];
        proto::Sample {
            addresses: seen.words.iter().map(|return_address| *return_address as u64 - 1).collect(),
            values: vec![blocks, bytes, in_use[0].max(0), in_use[1].max(0)],
            labels: Vec::new(),
        }
    });
    let mut comments = vec![format!("one sample in {INTERVAL_BYTES} bytes")];
    let forgotten = FORGOTTEN.load(Ordering::Relaxed);
    if forgotten > 0 {
        comments.push(format!("{forgotten} samples found no room: more is in use than is shown"));
    }
    proto::Profile {
        kinds: &[
            ("alloc_objects", "count"),
            ("alloc_space", "bytes"),
            ("inuse_objects", "count"),
            ("inuse_space", "bytes"),
        ],
        shown: Some(if shown == Shown::InUse { "inuse_space" } else { "alloc_space" }),
        period: (("space", "bytes"), i64::from(INTERVAL_BYTES)),
        taken: SystemTime::now(),
        duration: Duration::ZERO,
        // Where the caller's own frames end and those of every allocation begin.
        frames_dropped: Some(
            "(.*profile::raw::allocator.*|.*__rust_(re|de)?alloc.*|.*__rg_.*|alloc::alloc::.*|alloc::raw_vec::.*)",
        ),
        comments,
        samples: samples.filter(|sample| sample.values.iter().any(|value| *value != 0)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn countdowns_are_exponential() {
        RANDOM.set(1);
        let drawn: Vec<f64> = (0..100_000).map(|_| next_countdown() as f64 / f64::from(INTERVAL_BYTES)).collect();
        let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
        // Half of them lie below ln 2. The bounds are six standard errors wide, and the seed is fixed.
        let below = drawn.iter().filter(|it| **it < std::f64::consts::LN_2).count();
        assert!((0.98..1.02).contains(&mean), "{mean}");
        assert!((49_000..51_000).contains(&below), "{below}");
        assert!(drawn.iter().all(|it| *it >= 0.0));
    }

    #[test]
    fn samples_stand_for_everything_that_was_allocated() {
        for bytes in [1_u64, 100, 4096, 100_000, 512 << 10, 10 << 20] {
            let chance = -(-(bytes as f64) / f64::from(INTERVAL_BYTES)).exp_m1();
            let (blocks_meant, bytes_meant) = weight(bytes);
            let expected = chance * bytes_meant as f64;
            assert!((expected / bytes as f64 - 1.0).abs() < 0.5 / bytes_meant as f64 + 1e-9, "{bytes}: {expected}");
            assert!(blocks_meant >= 1, "{bytes}");
        }
    }

    /// The tables are the process's, so one test uses them: as the allocator would.
    #[test]
    fn what_is_freed_is_in_use_no_more_and_still_was_allocated() {
        let find = |profile: &proto::Profile| {
            let sample = profile.samples.iter().find(|sample| sample.addresses == [0xf00, 0xba0]);
            sample.map(|sample| sample.values.clone())
        };
        note(0x7000, &[0xf01, 0xba1], 10 << 20);
        note(0x8000, &[0xf01, 0xba1], 10 << 20);
        let held = find(&profile(Shown::InUse)).unwrap();
        assert_eq!(held, [2, 20 << 20, 2, 20 << 20]);
        freed(std::ptr::without_provenance_mut(0x7000));
        freed(std::ptr::without_provenance_mut(0x7010));
        assert_eq!(find(&profile(Shown::InUse)).unwrap(), [2, 20 << 20, 1, 10 << 20]);
        freed(std::ptr::without_provenance_mut(0x8000));
        assert_eq!(find(&profile(Shown::Allocated)).unwrap(), [2, 20 << 20, 0, 0]);
    }
}
