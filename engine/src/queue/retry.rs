//! When to try again: exponential backoff with jitter, bounded by the time since the first attempt.
//!
//! Pure: the caller brings the time and the random number. Keys and meaning are the Collector's `retry_on_failure`.

use crate::config::checked::RetrySettings;

/// The waiting times of one request.
#[derive(Debug)]
pub struct Backoff<'a> {
    settings: &'a RetrySettings,
    interval_ns: u64,
    started_ns: u64,
}

impl<'a> Backoff<'a> {
    /// Starts at the first failure's request time.
    pub fn new(settings: &'a RetrySettings, started_ns: u64) -> Backoff<'a> {
        Backoff { settings, interval_ns: settings.initial_interval_ns, started_ns }
    }

    /// How long to wait before the next attempt, or `None` when that attempt would come after `max_elapsed_ns`.
    ///
    /// `throttle_ns` is what the peer asked for (the longer of the two waits counts); `random` is uniform in [0, 1).
    pub fn next(&mut self, now_ns: u64, throttle_ns: u64, random: f64) -> Option<u64> {
        let interval = self.interval_ns as f64;
        let spread = interval * self.settings.randomization_factor;
        let delay = (interval - spread + 2.0 * spread * random) as u64;
        let grown = (interval * self.settings.multiplier) as u64;
        self.interval_ns = grown.min(self.settings.max_interval_ns);
        let delay = delay.max(throttle_ns);
        let elapsed = now_ns.saturating_sub(self.started_ns).saturating_add(delay);
        let allowed = self.settings.max_elapsed_ns == 0 || elapsed <= self.settings.max_elapsed_ns;
        allowed.then_some(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn settings() -> RetrySettings {
        RetrySettings {
            initial_interval_ns: 5 * SECOND,
            randomization_factor: 0.5,
            multiplier: 1.5,
            max_interval_ns: 30 * SECOND,
            max_elapsed_ns: 300 * SECOND,
        }
    }

    #[test]
    fn waits_grow_from_the_initial_interval_to_the_longest() {
        let settings = settings();
        let mut backoff = Backoff::new(&settings, 0);
        let waits: Vec<u64> = (0..7).map(|_| backoff.next(0, 0, 0.5).unwrap() / SECOND).collect();
        assert_eq!(waits, [5, 7, 11, 16, 25, 30, 30]);
    }

    #[test]
    fn jitter_stays_within_its_share() {
        let settings = settings();
        assert_eq!(Backoff::new(&settings, 0).next(0, 0, 0.0), Some(5 * SECOND / 2));
        assert_eq!(Backoff::new(&settings, 0).next(0, 0, 1.0), Some(15 * SECOND / 2));
    }

    #[test]
    fn what_the_peer_asks_for_is_a_lower_bound() {
        let settings = settings();
        assert_eq!(Backoff::new(&settings, 0).next(0, 60 * SECOND, 0.5), Some(60 * SECOND));
        assert_eq!(Backoff::new(&settings, 0).next(0, SECOND, 0.5), Some(5 * SECOND));
    }

    #[test]
    fn gives_up_when_the_next_attempt_would_come_too_late() {
        let settings = settings();
        assert_eq!(Backoff::new(&settings, 0).next(296 * SECOND, 0, 0.5), None);
        let forever = RetrySettings { max_elapsed_ns: 0, ..settings };
        assert!(Backoff::new(&forever, 0).next(1_000_000 * SECOND, 0, 0.5).is_some());
    }
}
