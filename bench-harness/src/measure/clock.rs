//! One clock for a run: nanoseconds since its start, and a timer that wakes at such a time.
//!
//! tokio's own timer wakes on whole milliseconds, which is half of the latency that is to be measured; a timerfd on the
//! monotonic clock is right to some ten microseconds.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// The time of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// A run that starts now.
    pub(crate) fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    /// Nanoseconds since the start.
    pub(crate) fn now_ns(self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }
}

/// Wakes at times of a [`Clock`].
pub(crate) struct Ticker {
    clock: Clock,
    timer: AsyncFd<OwnedFd>,
}

impl Ticker {
    /// A timer on the run's clock. Needs a tokio runtime.
    pub(crate) fn new(clock: Clock) -> io::Result<Ticker> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe to call; what it asks for, that the descriptor stays open and the same, an \
                      OwnedFd gives"
        )]
        let timer = AsyncFd::new(timer)?;
        Ok(Ticker { clock, timer })
    }

    /// Waits until `at_ns`, or lets others have a turn if that has passed.
    pub(crate) async fn until(&self, at_ns: u64) -> io::Result<()> {
        let now = self.clock.now_ns();
        if at_ns <= now {
            tokio::task::yield_now().await;
            return Ok(());
        }
        let wait = at_ns - now;
        let once = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec { tv_sec: (wait / 1_000_000_000) as i64, tv_nsec: (wait % 1_000_000_000) as i64 },
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        loop {
            let mut ready = self.timer.readable().await?;
            let mut expirations = [0; 8];
            let read = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut expirations)?));
            match read {
                Ok(result) => return result.map(drop),
                Err(_would_block) => continue,
            }
        }
    }
}
