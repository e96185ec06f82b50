//! `latency`: traces that lasted long enough, from the first start to the last end over all their spans.
//!
//! The Collector compares while it walks the spans, so with an upper threshold a trace that is too long can still be
//! sampled because a prefix of its spans was not. Here the whole trace is judged, whatever order its spans came in.
//! A duration that equals the threshold is too short, as it is in the Collector since 0.158; before that it was so only
//! with an upper threshold.

use super::{Facts, START_UNKNOWN};

const NANOSECONDS_PER_MILLISECOND: u64 = 1_000_000;

#[derive(Clone, Debug)]
pub(super) struct Latency {
    /// Whole milliseconds; the first is too short, the second is not too long.
    threshold_ms: u64,
    longest_ms: u64,
}

impl Latency {
    pub(super) fn new(threshold_ms: u64, upper_threshold_ms: Option<u64>) -> Self {
        Self { threshold_ms, longest_ms: upper_threshold_ms.unwrap_or(u64::MAX) }
    }

    #[inline]
    pub(super) fn samples(&self, facts: &Facts) -> bool {
        duration_ms(facts).is_some_and(|duration| self.threshold_ms < duration && duration <= self.longest_ms)
    }

    /// Whether a trace can last too long.
    pub(super) fn is_bounded(&self) -> bool {
        self.longest_ms < u64::MAX
    }

    /// Whether it does.
    pub(super) fn is_exceeded(&self, facts: &Facts) -> bool {
        duration_ms(facts).is_some_and(|duration| duration > self.longest_ms)
    }
}

/// `None` if the trace ended before it started (clocks of several machines) or no span says when it started.
fn duration_ms(facts: &Facts) -> Option<u64> {
    if facts.first_start_ns == START_UNKNOWN {
        return None;
    }
    let duration_ns = facts.last_end_ns.checked_sub(facts.first_start_ns)?;
    Some(duration_ns / NANOSECONDS_PER_MILLISECOND)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::facts;

    const START_NS: u64 = 1_700_000_000_000_000_000;

    fn check(policy: &Latency, first_start_ns: u64, last_end_ns: u64, expected: bool) {
        let facts = Facts { first_start_ns, last_end_ns, ..facts() };
        assert_eq!(policy.samples(&facts), expected, "{first_start_ns}..{last_end_ns}");
    }

    fn check_ms(policy: &Latency, duration_ms: u64, expected: bool) {
        check(policy, START_NS, START_NS + duration_ms * NANOSECONDS_PER_MILLISECOND, expected);
    }

    #[test]
    fn the_threshold_itself_is_too_short() {
        let policy = Latency::new(5_000, None);
        check_ms(&policy, 4_500, false);
        check_ms(&policy, 5_000, false);
        check_ms(&policy, 5_001, true);
        check_ms(&policy, 5_500, true);
        check(&policy, START_NS, START_NS + 5_000_999_999, false);
    }

    #[test]
    fn between_two_thresholds_the_lower_is_too_short_and_the_upper_is_not_too_long() {
        let policy = Latency::new(5_000, Some(10_000));
        check_ms(&policy, 5_000, false);
        check_ms(&policy, 5_001, true);
        check_ms(&policy, 10_000, true);
        check_ms(&policy, 10_001, false);
    }

    #[test]
    fn a_trace_that_ends_before_it_starts_is_not_long() {
        for policy in [Latency::new(0, None), Latency::new(0, Some(u64::MAX)), Latency::new(u64::MAX, None)] {
            check(&policy, START_NS, START_NS - 1, false);
            check(&policy, START_UNKNOWN, START_NS, false);
        }
    }

    #[test]
    fn a_threshold_of_zero_takes_traces_that_last_at_all() {
        check_ms(&Latency::new(0, None), 0, false);
        check_ms(&Latency::new(0, None), 1, true);
    }
}
