//! Decisions with a threshold: from which randomness on would this trace be kept?
//!
//! ```text
//! about contents (errors, latency, ...):   0, or never
//! by chance (probabilistic, dynamic, limits):  the threshold of their share now
//! and: the greatest of its parts          all policies: the least of theirs
//! ```
//!
//! Each policy wants the trace if its threshold admits the trace's one randomness; so a trace is kept if the least
//! threshold does, and that is what its spans carry away. A trace that two policies may keep is counted once.
//!
//! `not` and `drop` turn content round and never chance: of what chance did not keep there is no threshold.

use super::{Asked, Compiled, Decision, Facts, Rules};
use crate::consistent::Threshold;
use crate::counters::Verdicts;
use crate::journal::Answers;

impl Rules {
    /// As [`Rules::decide`], with the threshold of the whole decision; [`Threshold::NEVER`] if the trace is not kept.
    pub(super) fn weigh(&self, facts: &Facts, mut counts: Option<&mut [Verdicts]>) -> (Decision, Threshold) {
        let mut decision = Decision::NotSampled;
        let mut least = Threshold::NEVER;
        let mut answers = Answers::default();
        for Asked { position, number, is_dry, drops, policy } in &self.policies {
            let threshold = policy.threshold(facts);
            let wanted = threshold.admits(facts.randomness);
            if self.stop_at_first_match && decision != Decision::NotSampled {
                // Not asked any more; but it might have kept the trace if another had not.
                least = least.min(threshold);
                continue;
            }
            policy.note(facts, wanted);
            answers.note(*position, wanted);
            if let Some(counts) = counts.as_deref_mut() {
                counts[usize::from(*number)].count(wanted, *drops);
            }
            if *is_dry {
                continue;
            }
            if *drops {
                if wanted {
                    decision = Decision::Dropped;
                    break;
                }
                continue;
            }
            least = least.min(threshold);
            if wanted && decision == Decision::NotSampled {
                decision = Decision::Sampled { policy: *position };
            }
        }
        self.answers.set(answers);
        match decision {
            Decision::Sampled { .. } => (decision, least),
            Decision::NotSampled | Decision::Dropped => (decision, Threshold::NEVER),
        }
    }
}

impl Compiled {
    /// From which randomness on it wants such a trace.
    pub(super) fn threshold(&self, facts: &Facts) -> Threshold {
        match self {
            Self::Probabilistic(policy) => policy.threshold(),
            Self::Dynamic(policy) => policy.threshold(facts),
            Self::DryRun(policy) => policy.threshold(facts),
            Self::And(policies) | Self::Drop(policies) => greatest(policies, facts),
            Self::PacedComposite { total, parts } => {
                let Some((policy, pace)) = first_part(parts, facts) else {
                    return Threshold::NEVER;
                };
                policy.threshold(facts).max(pace.threshold(facts)).max(total.threshold(facts))
            }
            content => {
                if content.wants(facts) {
                    Threshold::ALWAYS
                } else {
                    Threshold::NEVER
                }
            }
        }
    }

    /// Counts a trace that was asked about, and spends what it costs if it was wanted.
    pub(super) fn note(&self, facts: &Facts, wanted: bool) {
        match self {
            Self::Dynamic(policy) => policy.note(facts, wanted),
            Self::DryRun(policy) => policy.note(facts, wanted),
            Self::And(policies) => {
                for policy in policies {
                    // Noting may change it.
                    let threshold = policy.threshold(facts);
                    policy.note(facts, wanted);
                    if threshold == Threshold::NEVER {
                        break;
                    }
                }
            }
            Self::PacedComposite { total, parts } => {
                if let Some((policy, pace)) = first_part(parts, facts) {
                    policy.note(facts, wanted);
                    pace.note(facts, wanted);
                    total.note(facts, wanted);
                }
            }
            _ => {}
        }
    }
}

fn greatest(policies: &[Compiled], facts: &Facts) -> Threshold {
    let mut greatest = Threshold::ALWAYS;
    for policy in policies {
        greatest = greatest.max(policy.threshold(facts));
        if greatest == Threshold::NEVER {
            break;
        }
    }
    greatest
}

/// A trace belongs to the first part that may want it, by contents: if chance turned it over to the next, what is kept
/// would have no threshold.
fn first_part<'a, P>(parts: &'a [(Compiled, P)], facts: &Facts) -> Option<&'a (Compiled, P)> {
    parts.iter().find(|(policy, _)| policy.threshold(facts) != Threshold::NEVER)
}

#[cfg(test)]
mod tests {
    use super::super::tests::facts;
    use super::*;
    use crate::consistent::Randomness;
    use crate::policy::Conditions;
    use crate::rates::SharedRates;
    use crate::settings::{CompositePart, Goal, Policy, Rule, Settings};
    use codecs::otlp::TraceId;

    const ERRORS: Rule = Rule::StatusCode { ok: false, error: true, unset: false };
    const ERROR: u64 = 1 << 2;
    const TRACES: u64 = 200_000;
    const PER_SECOND: u64 = 1_000;

    fn rules(rules: &[Rule]) -> Rules {
        let policy = |rule: &Rule| Policy { name: format!("{rule:?}"), rule: rule.clone() };
        let settings = Settings {
            decision_wait_ns: 1,
            write_threshold: true,
            policies: rules.iter().map(policy).collect(),
            ..Settings::default()
        };
        Rules::new(&settings, &SharedRates::new(&settings))
    }

    /// One trace in a hundred is of a rare key, one in twenty has an error, and each has its own size. Their randomness
    /// fills its range evenly (multiples of the golden ratio), so that chance itself makes next to no error.
    fn trace(number: u64) -> Facts {
        let mut facts = Facts {
            trace_id: TraceId(u128::from(number + 1).to_be_bytes()),
            conditions: Conditions(if number % 20 == 3 { ERROR } else { 1 }),
            spans: 1 + (number % 7) as u32,
            bytes: 100 + number % 300,
            now_ns: number * (1_000_000_000 / PER_SECOND),
            randomness: Randomness::from_bits(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8),
            ..facts()
        };
        facts.keys[0] = if number.is_multiple_of(100) { 1 } else { 2 };
        facts
    }

    /// What kept traces say came, in parts of what came, is 1; and something is left out.
    fn check(all: &[Rule]) {
        let rules = rules(all);
        let (mut kept, mut adjusted) = (0, 0.0);
        for number in 0..TRACES {
            if let (Decision::Sampled { .. }, threshold) = rules.decide(&trace(number), None) {
                kept += 1;
                adjusted += 1.0 / threshold.probability();
            }
        }
        assert!(kept < TRACES * 9 / 10, "{all:?} kept {kept}");
        let bias = adjusted / TRACES as f64 - 1.0;
        assert!(bias.abs() < 0.001, "{all:?} kept {kept} with a bias of {:.4} %", bias * 100.0);
    }

    fn probabilistic(sampling_percentage: f64) -> Rule {
        Rule::Probabilistic { hash_salt: String::new(), sampling_percentage }
    }

    fn keyed(goal: Goal) -> Rule {
        Rule::Dynamic { goal, keys: vec!["key".into()], interval_ns: 5_000_000_000, keys_max: 100 }
    }

    #[test]
    fn counts_of_shares_are_unbiased() {
        check(&[probabilistic(10.0)]);
        check(&[ERRORS, probabilistic(1.0)]);
        check(&[probabilistic(3.3), Rule::And(vec![ERRORS, probabilistic(60.0)]), probabilistic(7.0)]);
    }

    #[test]
    fn counts_under_limits_are_unbiased() {
        check(&[Rule::RateLimiting { spans_per_second: 400, burst_spans: 800 }]);
        check(&[ERRORS, Rule::BytesLimiting { bytes_per_second: 50_000, burst_bytes: 100_000 }]);
        let part = |rule, spans_per_second| CompositePart { rule, spans_per_second };
        let parts = vec![part(ERRORS, 100), part(Rule::AlwaysSample, 500)];
        check(&[Rule::Composite { spans_per_second_max: 600, parts }]);
    }

    #[test]
    fn counts_of_goals_by_key_are_unbiased() {
        check(&[keyed(Goal::OneOf(10.0))]);
        check(&[ERRORS, keyed(Goal::SpansPerSecond(400.0))]);
    }

    #[test]
    fn a_limit_kept_by_thresholds_is_still_a_limit() {
        let rules = rules(&[Rule::RateLimiting { spans_per_second: 100, burst_spans: 200 }]);
        let mut spans = 0;
        for number in 0..TRACES {
            let trace = trace(number);
            if let (Decision::Sampled { .. }, _) = rules.decide(&trace, None) {
                spans += trace.spans;
            }
        }
        let limit = 100 * (TRACES / PER_SECOND) as u32 + 200;
        assert!((limit * 9 / 10..limit * 11 / 10).contains(&spans), "{spans} of {limit}");
    }
}
