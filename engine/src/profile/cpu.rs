//! Where the CPU time of the process goes: each thread is interrupted a hundred times per second of its own time, and the
//! calls under way are counted.
//!
//! ```text
//! begin --> a timer per thread --signal--> interrupted: one stack more --> stacks --end--> profile
//!              ^ threads that start later are found once a second
//! ```
//!
//! While nobody records there is no timer and no signal: it costs nothing.

use super::raw::timers::Timers;
use super::stacks::Stacks;
use super::{DEPTH_MAX, Permit, proto};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Of a thread's own time, between two samples: a prime number of samples a second would not beat with timers of 10 ms,
/// but the kernel looks at these timers at its own tick anyway.
const PERIOD: Duration = Duration::from_millis(10);
/// Threads that are recorded. A gateway has one per core and a few more.
const THREADS_MAX: usize = 512;
/// Different stacks of one recording; more are counted together.
const STACKS_MAX: usize = 16 << 10;
/// Their frames, 32 each.
const WORDS_MAX: usize = 512 << 10;
/// How often an end or a beginning looks whether the last handler has returned.
const LAST_HANDLERS: usize = 1000;

static STACKS: Stacks<STACKS_MAX, WORDS_MAX> = Stacks::new();
static RECORDING: AtomicBool = AtomicBool::new(false);
/// Handlers that run now.
static HANDLERS: AtomicUsize = AtomicUsize::new(0);

/// A thread was interrupted; `stack` says where, if that is wanted. Runs in a signal handler: no lock, no allocation, no
/// call of the system.
pub(super) fn interrupted(stack: impl FnOnce() -> ([usize; DEPTH_MAX], usize)) {
    // Counted before the flag is read: who has put the flag down and then sees no handler knows that none writes.
    HANDLERS.fetch_add(1, Ordering::SeqCst);
    if RECORDING.load(Ordering::SeqCst) {
        let (words, length) = stack();
        STACKS.add(STACKS.place(&words[..length]), 0, 1);
    }
    HANDLERS.fetch_sub(1, Ordering::SeqCst);
}

/// Waits until no handler writes any more; false if one does not return, which would be a defect.
fn handlers_are_gone() -> bool {
    (0..LAST_HANDLERS).any(|_| {
        let gone = HANDLERS.load(Ordering::SeqCst) == 0;
        if !gone {
            std::thread::yield_now();
        }
        gone
    })
}

/// A recording under way. Dropping it ends it and forgets what it saw.
#[derive(Debug)]
pub struct Recording {
    // Dropped in this order: when the permit is given back, no timer runs.
    timers: Timers,
    flag: Flag,
    threads: Vec<Thread>,
    taken: SystemTime,
    began: Instant,
    permit: Permit,
}

/// Puts [`RECORDING`] down.
#[derive(Debug)]
struct Flag;

impl Drop for Flag {
    fn drop(&mut self) {
        RECORDING.store(false, Ordering::SeqCst);
    }
}

/// A thread that is recorded; samples carry its place in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Thread {
    system_number: u32,
    name: String,
}

impl Recording {
    /// Starts to record every thread of the process.
    ///
    /// # Errors
    /// In words for the operator: what the system does not give.
    pub fn begin(permit: Permit) -> Result<Recording, String> {
        if !handlers_are_gone() {
            return Err("the recording before has not ended; ask again".to_owned());
        }
        STACKS.clear();
        RECORDING.store(true, Ordering::SeqCst);
        let (taken, began) = (SystemTime::now(), Instant::now());
        let mut recording =
            Recording { timers: Timers::default(), flag: Flag, threads: Vec::new(), taken, began, permit };
        recording.find_threads().map_err(|error| {
            format!(
                "the CPU cannot be profiled: {error}; allow timer_create, timer_settime and timer_delete in the seccomp \
                 profile"
            )
        })?;
        Ok(recording)
    }

    /// Records threads that were started since, and learns the names of all. To be called about once a second.
    ///
    /// # Errors
    /// The system gives no timer.
    pub fn find_threads(&mut self) -> std::io::Result<()> {
        for entry in std::fs::read_dir("/proc/self/task")? {
            let path = entry?.path();
            let number = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
            let Some(system_number) = number else { continue };
            // A thread may end before it is looked at.
            let Ok(name) = std::fs::read_to_string(path.join("comm")) else { continue };
            let name = name.trim().to_owned();
            if let Some(known) = self.threads.iter_mut().find(|it| it.system_number == system_number) {
                // A young thread has its parent's name until it takes its own.
                known.name = name;
                continue;
            }
            if self.threads.len() == THREADS_MAX {
                continue;
            }
            match self.timers.add(system_number, self.threads.len() as u32, PERIOD) {
                Ok(()) => self.threads.push(Thread { system_number, name }),
                Err(_) if !path.exists() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Ends it: what was seen, and the permit for what is still to be done with it.
    pub fn end(self) -> (proto::Profile, Permit) {
        let Recording { timers, flag, threads, taken, began, permit } = self;
        drop(timers);
        drop(flag);
        let duration = began.elapsed();
        // If one does not return, a count may be missing.
        handlers_are_gone();
        let period_ns = PERIOD.as_nanos() as i64;
        let samples = STACKS.seen().into_iter().map(|seen| {
            let count = i64::try_from(seen.sums[0]).unwrap_or(i64::MAX);
            let (thread, stack) = seen.words.split_first().unzip();
            let name = thread.and_then(|number| threads.get(*number)).map(|thread| thread.name.clone());
            proto::Sample {
                addresses: stack.map(call_sites).unwrap_or_default(),
                values: vec![count, count.saturating_mul(period_ns)],
                labels: name.map(|name| ("thread", name)).into_iter().collect(),
            }
        });
        let profile = proto::Profile {
            kinds: &[("samples", "count"), ("cpu", "nanoseconds")],
            shown: None,
            period: (("cpu", "nanoseconds"), period_ns),
            taken,
            duration,
            frames_dropped: None,
            comments: Vec::new(),
            samples: samples.collect(),
        };
        (profile, permit)
    }
}

/// The first address is the interrupted instruction, the others are where calls return to: the call is before.
fn call_sites(stack: &[usize]) -> Vec<u64> {
    stack.iter().enumerate().map(|(depth, address)| *address as u64 - u64::from(depth > 0)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::raw::frames;
    use super::*;

    /// Burns CPU time until it was seen, however slow the machine is.
    #[inline(never)]
    fn burn(samples: u64) {
        let seen = || STACKS.seen().iter().map(|seen| seen.sums[0]).sum::<u64>();
        while seen() < samples {
            std::hint::black_box((0..100_000_u64).fold(1, |value, next| value ^ next.wrapping_mul(value | 1)));
        }
    }

    /// One test for all, since a process records once at a time.
    #[test]
    fn a_recording_sees_who_works_and_ends_when_it_is_dropped() {
        frames::learn_stack();
        let permit = Permit::take().expect("this is the only test that takes it");
        for _ in 0..2 {
            assert!(Permit::take().is_none(), "one at a time, and asking in vain changes nothing");
        }
        let mut recording = Recording::begin(permit).unwrap();
        let working = std::thread::Builder::new().name("hard-worker".to_owned());
        let done = std::sync::Arc::new(AtomicBool::new(false));
        let told = std::sync::Arc::clone(&done);
        let worker = working.spawn(move || {
            frames::learn_stack();
            while !told.load(Ordering::Relaxed) {
                std::hint::black_box((0..10_000_u64).sum::<u64>());
            }
        });
        burn(20);
        let by_worker = |profile: &proto::Profile| {
            let labels = profile.samples.iter().flat_map(|sample| &sample.labels);
            labels.filter(|(_, name)| name == "hard-worker").count()
        };
        // The other thread takes its name, and gets its share of the CPU, sooner or later.
        loop {
            recording.find_threads().unwrap();
            let number = recording.threads.iter().position(|thread| thread.name == "hard-worker");
            if number.is_some() && STACKS.seen().iter().any(|seen| seen.words.first().copied() == number) {
                break;
            }
            std::thread::yield_now();
        }
        done.store(true, Ordering::Relaxed);
        worker.unwrap().join().unwrap();
        let (profile, permit) = recording.end();
        assert!(by_worker(&profile) > 0);
        assert!(profile.samples.iter().any(|sample| sample.addresses.len() > 3), "calls are followed outwards");
        for sample in &profile.samples {
            assert_eq!(sample.values[1], sample.values[0] * 10_000_000);
        }
        let again = Recording::begin(permit).unwrap();
        drop(again);
        assert!(!RECORDING.load(Ordering::SeqCst));
        assert!(Permit::take().is_some(), "given back with the recording");
    }
}
