//! What is certain before a trace is complete: decisions that no later span can change.
//!
//! ```text
//! policies in their order:   no   no   yes          -> kept for this reason, now
//!                            no   open ...          -> wait: the open one may still want it, and be the reason
//!                            no   no   no           -> dropped, now
//!                            open open yes, drops   -> dropped, now: one that drops is enough
//! ```
//!
//! Facts of a trace only grow: conditions are met and stay met, durations and counts become larger. So each policy is
//! certain to want the trace, certain not to, or open. A policy that spends from a rate is always open: who gets tokens
//! depends on the order of decisions. And where every policy is asked, so that each one's spending is true, one that
//! spends keeps others from deciding early at all.
//!
//! Most rules can never be certain, or only if one condition is met. `Triggers` says which, so that all other spans cost
//! one mask.

use super::{Asked, Compiled, Decision, Facts, Rules};

/// What a policy will have said when its trace is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Foresight {
    /// It will want the trace.
    Yes,
    /// It will not.
    No,
    /// Not known yet.
    Open,
}

/// What must happen to a trace so that its decision may have become certain. Nothing: nothing ever makes it certain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Triggers {
    /// One of these conditions is met for the first time.
    pub(crate) conditions: u64,
    /// Any span comes: durations or counts matter.
    pub(crate) any_span: bool,
}

/// The conditions of statuses: the first span of a trace meets one of them.
const FIRST_SPAN: Triggers = Triggers { conditions: 0b111, any_span: false };

const ANY_SPAN: Triggers = Triggers { conditions: 0, any_span: true };

impl Triggers {
    fn and(self, other: Self) -> Self {
        Self { conditions: self.conditions | other.conditions, any_span: self.any_span || other.any_span }
    }
}

/// Which answers of a policy can become certain, and when.
#[derive(Clone, Copy, Debug)]
struct Prospects {
    yes: bool,
    no: bool,
    triggers: Triggers,
}

impl Prospects {
    const NONE: Self = Self { yes: false, no: false, triggers: Triggers { conditions: 0, any_span: false } };

    fn met(conditions: u64) -> Triggers {
        Triggers { conditions, any_span: false }
    }
}

impl Rules {
    /// When to ask [`Rules::foresee`]. `may_keep`: whether traces may be kept early.
    pub(crate) fn triggers(&self, may_keep: bool) -> Triggers {
        // A policy that runs dry is counted on whole traces, or its count says nothing.
        if self.policies.iter().any(|asked| asked.is_dry) {
            return Triggers::default();
        }
        let may_keep = may_keep && (self.stop_at_first_match || !self.spend());
        let prospects: Vec<(bool, Prospects)> =
            self.policies.iter().map(|asked| (asked.drops, asked.policy.prospects())).collect();
        // Policies up to here may all be certain not to want the trace; the one here is the first that cannot be.
        let open = prospects.iter().position(|(_, prospects)| !prospects.no).unwrap_or(prospects.len());
        let keeps_at = |at: usize| {
            let (drops, prospects) = prospects[at];
            may_keep && !drops && prospects.yes
        };
        let decisive = if open == prospects.len() {
            open
        } else {
            (0..=open).rev().find(|at| keeps_at(*at)).map_or(0, |at| at + 1)
        };
        let drops = prospects.iter().filter(|(drops, prospects)| *drops && prospects.yes);
        let all = prospects[..decisive].iter().chain(drops);
        all.fold(Triggers::default(), |triggers, (_, prospects)| triggers.and(prospects.triggers))
    }

    /// The decision, if nothing can change it any more: neither the outcome nor the reason. `may_keep` as above.
    pub(crate) fn foresee(&self, facts: &Facts, may_keep: bool) -> Option<Decision> {
        let mut is_open = false;
        for Asked { position, drops, policy, .. } in &self.policies {
            if is_open && !drops {
                return None;
            }
            match policy.foresee(facts) {
                Foresight::No => {}
                Foresight::Open if policy.spends() => return None,
                Foresight::Open => is_open = true,
                Foresight::Yes if *drops => return Some(Decision::Dropped),
                Foresight::Yes => {
                    let may_keep = may_keep && (self.stop_at_first_match || !self.spend());
                    return may_keep.then_some(Decision::Sampled { policy: *position });
                }
            }
        }
        (!is_open).then_some(Decision::NotSampled)
    }

    fn spend(&self) -> bool {
        self.policies.iter().any(|asked| asked.policy.spends())
    }
}

impl Compiled {
    /// Whether asking it may spend from a rate.
    fn spends(&self) -> bool {
        match self {
            Self::RateLimiting(_)
            | Self::BytesLimiting(_)
            | Self::Composite(_)
            | Self::Dynamic(_)
            | Self::PacedComposite { .. } => true,
            Self::And(policies) | Self::Drop(policies) => policies.iter().any(Self::spends),
            Self::Not(policy) | Self::DryRun(policy) => policy.spends(),
            Self::AlwaysSample(_)
            | Self::Latency(_)
            | Self::Probabilistic(_)
            | Self::StatusCode(_)
            | Self::Some(_)
            | Self::None(_)
            | Self::SpanCount(_) => false,
        }
    }

    fn prospects(&self) -> Prospects {
        match self {
            Self::AlwaysSample(_) => Prospects { yes: true, no: false, triggers: FIRST_SPAN },
            Self::Probabilistic(_) => Prospects { yes: true, no: true, triggers: FIRST_SPAN },
            Self::Latency(policy) => {
                Prospects { yes: !policy.is_bounded(), no: policy.is_bounded(), triggers: ANY_SPAN }
            }
            Self::SpanCount(policy) => {
                Prospects { yes: !policy.is_bounded(), no: policy.is_bounded(), triggers: ANY_SPAN }
            }
            Self::StatusCode(policy) => {
                Prospects { yes: true, no: false, triggers: Prospects::met(policy.conditions()) }
            }
            Self::Some(condition) => Prospects { yes: true, no: false, triggers: Prospects::met(*condition) },
            Self::None(condition) => Prospects { yes: false, no: true, triggers: Prospects::met(*condition) },
            Self::Not(policy) => {
                let inner = policy.prospects();
                Prospects { yes: inner.no, no: inner.yes, triggers: inner.triggers }
            }
            Self::And(policies) | Self::Drop(policies) => {
                // What stands behind one that spends is not asked before it.
                let asked = policies.iter().take_while(|policy| !policy.spends());
                let all = asked.map(Self::prospects).fold(
                    Prospects { yes: true, no: false, ..Prospects::NONE },
                    |all, one| Prospects {
                        yes: all.yes && one.yes,
                        no: all.no || one.no,
                        triggers: all.triggers.and(one.triggers),
                    },
                );
                // An empty list wants every trace, from its first span on.
                let triggers = if policies.is_empty() { FIRST_SPAN } else { all.triggers };
                Prospects { yes: all.yes && !self.spends(), triggers, ..all }
            }
            Self::RateLimiting(_)
            | Self::BytesLimiting(_)
            | Self::Composite(_)
            | Self::DryRun(_)
            | Self::Dynamic(_)
            | Self::PacedComposite { .. } => Prospects::NONE,
        }
    }

    fn foresee(&self, facts: &Facts) -> Foresight {
        let grows = |is_wanted: bool| if is_wanted { Foresight::Yes } else { Foresight::Open };
        let shrinks = |is_wanted: bool| if is_wanted { Foresight::Open } else { Foresight::No };
        match self {
            Self::AlwaysSample(_) => Foresight::Yes,
            Self::Probabilistic(policy) => {
                if policy.samples(facts) {
                    Foresight::Yes
                } else {
                    Foresight::No
                }
            }
            Self::Latency(policy) if policy.is_bounded() => shrinks(!policy.is_exceeded(facts)),
            Self::Latency(policy) => grows(policy.samples(facts)),
            Self::SpanCount(policy) if policy.is_bounded() => shrinks(!policy.is_exceeded(facts)),
            Self::SpanCount(policy) => grows(policy.samples(facts)),
            Self::StatusCode(policy) => grows(policy.samples(facts)),
            Self::Some(condition) => grows(facts.conditions.0 & condition != 0),
            Self::None(condition) => shrinks(facts.conditions.0 & condition == 0),
            Self::Not(policy) => match policy.foresee(facts) {
                Foresight::Yes => Foresight::No,
                Foresight::No => Foresight::Yes,
                Foresight::Open => Foresight::Open,
            },
            Self::And(policies) | Self::Drop(policies) => foresee_all(policies, facts),
            Self::RateLimiting(_)
            | Self::BytesLimiting(_)
            | Self::Composite(_)
            | Self::DryRun(_)
            | Self::Dynamic(_)
            | Self::PacedComposite { .. } => Foresight::Open,
        }
    }
}

/// Whether all will want the trace, asked in their order until one does not.
fn foresee_all(policies: &[Compiled], facts: &Facts) -> Foresight {
    let mut all = Foresight::Yes;
    for policy in policies {
        match policy.foresee(facts) {
            Foresight::Yes => {}
            Foresight::No => return Foresight::No,
            // Whether what stands behind it is asked does not matter: the tokens are spent.
            Foresight::Open if policy.spends() => return Foresight::Open,
            Foresight::Open => all = Foresight::Open,
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Conditions, tests};
    use crate::rates::SharedRates;
    use crate::settings::{Policy, Rule, Settings};

    const ERROR: u64 = 1 << 2;
    const ERRORS: Rule = Rule::StatusCode { ok: false, error: true, unset: false };
    const SLOW: Rule = Rule::Latency { threshold_ms: 5, upper_threshold_ms: None };
    const RATE: Rule = Rule::RateLimiting { spans_per_second: 1, burst_spans: 1 };

    fn share(sampling_percentage: f64) -> Rule {
        Rule::Probabilistic { hash_salt: String::new(), sampling_percentage }
    }

    fn rules(rules: &[Rule], sample_on_first_match: bool) -> Rules {
        let policies = rules.iter().map(|rule| Policy { name: format!("{rule:?}"), rule: rule.clone() });
        let settings = Settings { sample_on_first_match, ..tests::settings(policies.collect()) };
        Rules::new(&settings, &SharedRates::new(&settings))
    }

    fn check(asked: &[Rule], conditions: u64, duration_ms: u64, expected: Option<Decision>) {
        let rules = rules(asked, false);
        let facts = Facts {
            conditions: Conditions(conditions),
            first_start_ns: 1,
            last_end_ns: 1 + duration_ms * 1_000_000,
            ..tests::facts()
        };
        assert_eq!(rules.foresee(&facts, true), expected, "{asked:?}");
    }

    #[test]
    fn the_reason_is_certain_too() {
        check(&[ERRORS, SLOW], ERROR, 0, Some(Decision::Sampled { policy: 0 }));
        check(&[SLOW, ERRORS], ERROR, 0, None);
        check(&[SLOW, ERRORS], ERROR, 9, Some(Decision::Sampled { policy: 0 }));
        check(&[share(0.0), ERRORS], ERROR, 0, Some(Decision::Sampled { policy: 1 }));
    }

    #[test]
    fn what_is_open_is_not_dropped() {
        check(&[ERRORS, share(0.0)], 0, 0, None);
        check(&[share(0.0), share(0.0)], 0, 0, Some(Decision::NotSampled));
        check(&[Rule::And(vec![ERRORS, share(0.0)])], 0, 0, Some(Decision::NotSampled));
        check(&[Rule::And(vec![ERRORS, share(100.0)])], 0, 0, None);
    }

    #[test]
    fn one_that_drops_is_enough_and_all_that_drop_are_asked_before_a_trace_is_kept() {
        let health = || Rule::Drop(vec![ERRORS]);
        check(&[Rule::AlwaysSample, health()], 0, 0, None);
        check(&[Rule::AlwaysSample, health()], ERROR, 0, Some(Decision::Dropped));
        check(&[Rule::Drop(vec![SLOW]), health()], ERROR, 0, Some(Decision::Dropped));
        check(&[Rule::Drop(vec![RATE]), health()], ERROR, 0, None);
        check(&[Rule::Drop(vec![share(0.0)]), Rule::AlwaysSample], 0, 0, Some(Decision::Sampled { policy: 1 }));
    }

    #[test]
    fn where_tokens_would_be_spent_nothing_is_kept_early() {
        check(&[ERRORS, RATE], ERROR, 0, None);
        check(&[RATE, ERRORS], ERROR, 0, None);
        check(&[Rule::And(vec![share(0.0), RATE])], 0, 0, Some(Decision::NotSampled));
        check(&[Rule::And(vec![RATE, share(0.0)])], 0, 0, None);
        let facts = Facts { conditions: Conditions(ERROR), ..tests::facts() };
        let first_match = rules(&[ERRORS, RATE], true);
        assert_eq!(first_match.foresee(&facts, true), Some(Decision::Sampled { policy: 0 }), "the rate is not asked");
    }

    fn check_triggers(asked: &[Rule], conditions: u64, any_span: bool) {
        assert_eq!(rules(asked, false).triggers(true), Triggers { conditions, any_span }, "{asked:?}");
    }

    #[test]
    fn spans_that_cannot_make_a_decision_certain_are_not_asked() {
        check_triggers(&[ERRORS, SLOW, share(1.0)], ERROR, false);
        check_triggers(&[SLOW, ERRORS], 0, true);
        check_triggers(&[share(10.0)], 0b111, false);
        check_triggers(&[share(10.0), ERRORS, SLOW], 0b111, false);
        check_triggers(&[ERRORS, RATE], 0, false);
        check_triggers(&[Rule::AlwaysSample, RATE], 0, false);
        check_triggers(&[Rule::Not(Box::new(ERRORS)), SLOW], ERROR, true);
        check_triggers(&[Rule::Drop(vec![ERRORS]), Rule::AlwaysSample], ERROR, false);
        check_triggers(&[Rule::Drop(vec![RATE]), RATE], 0, false);
    }
}
