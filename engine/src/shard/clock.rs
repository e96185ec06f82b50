//! The one place that reads clocks.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

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

    /// The time of day, in nanoseconds since 1970: what statements call `Now()`. It may jump; nothing is measured by it.
    pub fn unix_ns(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    }
}
