//! `latency`: traces that lasted long enough, from the first start to the last end over all their spans.
//!
//! The Collector compares while it walks the spans, so with an upper threshold a trace that is too long can still be
//! sampled because a prefix of its spans was not. Here the whole trace is judged, whatever order its spans came in.

use super::{Facts, START_UNKNOWN};

const NANOSECONDS_PER_MILLISECOND: u64 = 1_000_000;

#[derive(Clone, Debug)]
pub(super) struct Latency {
    /// Whole milliseconds, both ends included.
    shortest_ms: u64,
    longest_ms: u64,
}

impl Latency {
    /// With an upper threshold the lower one is exclusive, as in the Collector.
    pub(super) fn new(threshold_ms: u64, upper_threshold_ms: Option<u64>) -> Self {
        match upper_threshold_ms {
            None => Self { shortest_ms: threshold_ms, longest_ms: u64::MAX },
            Some(upper) => Self { shortest_ms: threshold_ms.saturating_add(1), longest_ms: upper },
        }
    }

    #[inline]
    pub(super) fn samples(&self, facts: &Facts) -> bool {
        match duration_ms(facts) {
            Some(duration) => self.shortest_ms <= duration && duration <= self.longest_ms,
            None => false,
        }
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
    use crate::policy::Conditions;
    use codecs::otlp::TraceId;

    const START_NS: u64 = 1_700_000_000_000_000_000;

    fn check(policy: &Latency, first_start_ns: u64, last_end_ns: u64, expected: bool) {
        let conditions = Conditions::default();
        let facts = Facts { trace_id: TraceId([1; 16]), first_start_ns, last_end_ns, conditions };
        assert_eq!(policy.samples(&facts), expected, "{first_start_ns}..{last_end_ns}");
    }

    fn check_ms(policy: &Latency, duration_ms: u64, expected: bool) {
        check(policy, START_NS, START_NS + duration_ms * NANOSECONDS_PER_MILLISECOND, expected);
    }

    #[test]
    fn the_threshold_itself_is_long_enough() {
        let policy = Latency::new(5_000, None);
        check_ms(&policy, 4_500, false);
        check_ms(&policy, 4_999, false);
        check_ms(&policy, 5_000, true);
        check_ms(&policy, 5_500, true);
        check(&policy, START_NS, START_NS + 4_999_999_999, false);
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
    fn a_threshold_of_zero_takes_a_trace_without_duration() {
        check_ms(&Latency::new(0, None), 0, true);
    }
}
