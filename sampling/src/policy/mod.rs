//! Policies: compiled once, asked once per trace.
//!
//! ```text
//! span arrives:    conditions of the trace |= conditions of the span     (one table lookup)
//! trace decides:   every policy looks at the trace's facts               (mask test, subtraction or hash)
//! ```
//!
//! The idea: whatever a policy asks of *a span* becomes one bit of `Conditions` and is answered when the span
//! arrives; equal questions of several policies share a bit. A policy never sees a span.

mod always_sample;
mod latency;
mod probabilistic;
mod status_code;

use codecs::otlp::{SpanItem, TraceId};

use crate::counters::Verdicts;
use crate::settings::{Rule, Settings};

use always_sample::AlwaysSample;
use latency::Latency;
use probabilistic::Probabilistic;
use status_code::StatusCodes;

/// One bit per question that policies ask of a span; set in a trace once any of its spans answered yes.
///
/// Today only the three status codes are asked for; a set of 256 fits the trace record when attributes come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conditions(pub(crate) u64);

/// What is known of a trace when it is decided.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) trace_id: TraceId,
    /// Smallest start of its spans; [`START_UNKNOWN`] if none had one.
    pub(crate) first_start_ns: u64,
    /// Largest end of its spans; 0 if none had one.
    pub(crate) last_end_ns: u64,
    pub(crate) conditions: Conditions,
}

/// No span had a start. OTLP writes an unset time as 0, which must not make a trace last since 1970.
pub(crate) const START_UNKNOWN: u64 = u64::MAX;

/// The final answer for a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Keep it; the reason is the first policy that wanted it.
    Sampled { policy: u16 },
    /// Drop it.
    NotSampled,
}

/// All policies of a sampler, ready to be asked.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    policies: Vec<Compiled>,
    stop_at_first_match: bool,
}

#[derive(Clone, Debug)]
enum Compiled {
    AlwaysSample(AlwaysSample),
    Latency(Latency),
    Probabilistic(Probabilistic),
    StatusCode(StatusCodes),
}

impl Rules {
    pub(crate) fn new(settings: &Settings) -> Self {
        let policies = settings.policies.iter().map(|policy| Compiled::new(&policy.rule));
        Self { policies: policies.collect(), stop_at_first_match: settings.sample_on_first_match }
    }

    pub(crate) fn len(&self) -> usize {
        self.policies.len()
    }

    /// What `span` answers to every question asked of spans.
    #[inline]
    pub(crate) fn conditions_of(&self, span: &SpanItem) -> Conditions {
        Conditions(status_code::condition_of(span.status))
    }

    /// Asks the policies in order and combines their verdicts: sampled if any says so, and the first that does is the
    /// reason. All are asked, so that each one's counts are true, unless the settings stop at the first match.
    pub(crate) fn decide(&self, facts: &Facts, mut counts: Option<&mut [Verdicts]>) -> Decision {
        let mut decision = Decision::NotSampled;
        for (position, policy) in self.policies.iter().enumerate() {
            let sampled = policy.samples(facts);
            if let Some(counts) = counts.as_deref_mut() {
                counts[position].sampled += u64::from(sampled);
                counts[position].not_sampled += u64::from(!sampled);
            }
            if sampled && decision == Decision::NotSampled {
                decision = Decision::Sampled { policy: position as u16 };
                if self.stop_at_first_match {
                    break;
                }
            }
        }
        decision
    }
}

impl Compiled {
    fn new(rule: &Rule) -> Self {
        match rule {
            Rule::AlwaysSample => Self::AlwaysSample(AlwaysSample),
            Rule::Latency { threshold_ms, upper_threshold_ms } => {
                Self::Latency(Latency::new(*threshold_ms, *upper_threshold_ms))
            }
            Rule::Probabilistic { hash_salt, sampling_percentage } => {
                Self::Probabilistic(Probabilistic::new(hash_salt, *sampling_percentage))
            }
            Rule::StatusCode { ok, error, unset } => Self::StatusCode(StatusCodes::new(*ok, *error, *unset)),
        }
    }

    #[inline]
    fn samples(&self, facts: &Facts) -> bool {
        match self {
            Self::AlwaysSample(policy) => policy.samples(facts),
            Self::Latency(policy) => policy.samples(facts),
            Self::Probabilistic(policy) => policy.samples(facts),
            Self::StatusCode(policy) => policy.samples(facts),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Policy;

    const EVERY: Rule = Rule::AlwaysSample;
    const ERRORS: Rule = Rule::StatusCode { ok: false, error: true, unset: false };

    fn check(rules: &[Rule], stop_at_first_match: bool, expected: Decision, expected_counts: &[(u64, u64)]) {
        let policies = rules.iter().map(|rule| Policy { name: format!("{rule:?}"), rule: rule.clone() });
        let rules = Rules::new(&Settings {
            decision_wait_ns: 1,
            decision_wait_after_root_ns: None,
            traces_max: None,
            sample_on_first_match: stop_at_first_match,
            policies: policies.collect(),
        });
        let facts =
            Facts { trace_id: TraceId([1; 16]), first_start_ns: 0, last_end_ns: 0, conditions: Conditions::default() };
        let mut counts = vec![Verdicts::default(); rules.len()];
        assert_eq!(rules.decide(&facts, Some(&mut counts)), expected);
        let counts: Vec<_> = counts.iter().map(|count| (count.sampled, count.not_sampled)).collect();
        assert_eq!(counts, expected_counts);
    }

    #[test]
    fn one_sampled_verdict_keeps_the_trace_and_every_policy_is_asked_once() {
        check(
            &[ERRORS, EVERY, ERRORS, EVERY],
            false,
            Decision::Sampled { policy: 1 },
            &[(0, 1), (1, 0), (0, 1), (1, 0)],
        );
    }

    #[test]
    fn no_sampled_verdict_drops_the_trace() {
        check(&[ERRORS, ERRORS], false, Decision::NotSampled, &[(0, 1), (0, 1)]);
    }

    #[test]
    fn sample_on_first_match_stops_asking() {
        check(&[ERRORS, EVERY, EVERY], true, Decision::Sampled { policy: 1 }, &[(0, 1), (1, 0), (0, 0)]);
    }
}
