//! The one place that reads the monotonic clock.

use std::time::Instant;

/// Monotonic time since the process began, in nanoseconds. Copies agree with each other, on every thread.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Starts at 0.
    pub fn start() -> Clock {
        Clock(Instant::now())
    }

    /// Nanoseconds since the start; 584 years fit.
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}
