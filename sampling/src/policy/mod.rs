//! Policies: compiled once, asked once per trace.
//!
//! ```text
//! span arrives:    conditions of the trace |= conditions of the span     (its status; questions about its contents)
//! trace decides:   every policy looks at the trace's facts               (mask test, subtraction, hash, token bucket)
//! ```
//!
//! The idea: whatever a policy asks of *a span* becomes one bit of `Conditions` and is answered when the span
//! arrives; equal questions of several policies share a bit. A policy never sees a span.
//!
//! How verdicts become a decision: policies that drop are asked first, and the first that does decides. Then all others
//! are asked, in the order of the settings; one that wants the trace is enough. Before all of them those are asked that
//! run dry: they are counted, and nobody listens.

mod always_sample;
mod certain;
mod composite;
mod dynamic;
mod latency;
mod ottl_condition;
mod probabilistic;
mod questions;
mod searched;
mod span_count;
mod status_code;
pub(crate) mod trace_state;
mod weigh;

use std::cell::Cell;

use codecs::otlp::{SpanItem, TraceId};

use crate::consistent::{Randomness, Threshold};
use crate::counters::Verdicts;
use crate::journal::Answers;
use crate::keys::TraceKeys;
use crate::rates::{Cells, SharedRates, TokenBucket};
use crate::settings::{Goal, Rule, Settings};

use always_sample::AlwaysSample;
use composite::Composite;
use dynamic::Dynamic;
use latency::Latency;
use probabilistic::Probabilistic;
use questions::{Catalogue, Questions};
use span_count::SpanCount;
use status_code::StatusCodes;

pub(crate) use certain::Triggers;
pub(crate) use ottl_condition::SpanWithin;
pub use questions::QUESTIONS_MAX;

/// See [`Settings::questions`].
pub(crate) fn questions(settings: &Settings) -> usize {
    Catalogue::new(settings).len()
}

/// One bit per question that policies ask of a span; set in a trace once any of its spans answered yes.
///
/// ```text
/// bit   0 unset | 1 ok | 2 error | 3 W3C sampled flag | 4 to 63 the questions of this sampler's policies
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conditions(pub(crate) u64);

impl Conditions {
    /// Some span had the status ERROR.
    #[inline]
    pub(crate) fn has_error(self) -> bool {
        self.0 & status_code::condition_of(codecs::otlp::StatusCode::Error) != 0
    }
}

/// The W3C `sampled` flag, and the bit of [`Conditions`] it sets.
const FLAG_SAMPLED: u32 = 1;
const FLAG_SAMPLED_CONDITION: u64 = 1 << 3;

/// What is known of a trace when it is decided.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) trace_id: TraceId,
    /// Smallest start of its spans; [`START_UNKNOWN`] if none had one.
    pub(crate) first_start_ns: u64,
    /// Largest end of its spans; 0 if none had one.
    pub(crate) last_end_ns: u64,
    pub(crate) conditions: Conditions,
    /// How many spans it has.
    pub(crate) spans: u32,
    /// Bytes of its span messages; 0 unless [`Rules::ask_for_bytes`].
    pub(crate) bytes: u64,
    /// When it is decided.
    pub(crate) now_ns: u64,
    /// What thresholds are compared with, see [`Rules::randomness`].
    pub(crate) randomness: Randomness,
    /// Values of the attributes that keys name.
    pub(crate) keys: TraceKeys,
}

/// No span had a start. OTLP writes an unset time as 0, which must not make a trace last since 1970.
pub(crate) const START_UNKNOWN: u64 = u64::MAX;

/// The final answer for a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Keep it; the reason is the first policy that wanted it.
    Sampled { policy: u16 },
    /// Drop it: no policy wanted it.
    NotSampled,
    /// Drop it: a policy said so, whatever others want.
    Dropped,
}

/// All policies of a sampler, ready to be asked.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// Those that run dry first, then those that drop, then the others.
    policies: Vec<Asked>,
    /// By position in the settings: under which number a policy is counted and remembered.
    numbers: Vec<u16>,
    stop_at_first_match: bool,
    questions: Questions,
    /// What each policy said when it was asked last.
    answers: Cell<Answers>,
    /// Decisions have thresholds.
    weighs: bool,
    /// Any policy compares randomness with a threshold.
    compares: bool,
    /// The first policy that hashes trace ids; if there is none, one with the default salt.
    hash: Probabilistic,
    /// Any question is about more than a span's item.
    looks_into_spans: bool,
    asks_for_bytes: bool,
}

/// A policy, with all that is needed to combine its verdict with others.
#[derive(Clone, Debug)]
struct Asked {
    /// In the settings.
    position: u16,
    /// What it is counted under.
    number: u16,
    is_dry: bool,
    /// What it wants, it wants dropped; or would, if it did not run dry.
    drops: bool,
    policy: Compiled,
}

#[derive(Clone, Debug)]
enum Compiled {
    AlwaysSample(AlwaysSample),
    Latency(Latency),
    Probabilistic(Probabilistic),
    StatusCode(StatusCodes),
    /// Some span meets the condition.
    Some(u64),
    /// No span meets the condition.
    None(u64),
    SpanCount(SpanCount),
    RateLimiting(TokenBucket),
    BytesLimiting(TokenBucket),
    Dynamic(Dynamic),
    And(Vec<Compiled>),
    Not(Box<Compiled>),
    Drop(Vec<Compiled>),
    DryRun(Box<Compiled>),
    Composite(Composite),
    /// As a composite, each part and all of them kept by thresholds.
    PacedComposite {
        total: Dynamic,
        parts: Vec<(Compiled, Dynamic)>,
    },
}

impl Rules {
    /// `rates` were made for these settings. Policies are numbered in their order.
    #[cfg(test)]
    pub(crate) fn new(settings: &Settings, rates: &SharedRates) -> Self {
        let numbers: Vec<u16> = (0_u16..).take(settings.policies.len()).collect();
        Self::numbered(settings, &numbers, rates)
    }

    /// `rates` were made for these settings; `numbers` has one for each policy.
    pub(crate) fn numbered(settings: &Settings, numbers: &[u16], rates: &SharedRates) -> Self {
        assert_eq!(numbers.len(), settings.policies.len(), "each policy has a number");
        let catalogue = Catalogue::new(settings);
        let mut compiler = Compiler {
            catalogue: &catalogue,
            keys: settings.key_attributes(),
            weighs: settings.write_threshold,
            cells: rates.cells(),
            looks_into_spans: false,
            asks_for_bytes: false,
            hash: None,
            compares: settings.write_threshold || settings.stress_relief.shed.is_some(),
        };
        let policies = settings.policies.iter().zip(numbers).enumerate().map(|(position, (policy, number))| {
            let policy = compiler.compile(&policy.rule);
            let is_dry = matches!(policy, Compiled::DryRun(_));
            Asked { position: position as u16, number: *number, is_dry, drops: policy.drops(), policy }
        });
        let mut policies: Vec<_> = policies.collect();
        // The sort is stable: each kind stays in the order of the settings.
        policies.sort_by_key(|asked| match (asked.is_dry, asked.drops) {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) => 2,
        });
        Self {
            policies,
            numbers: numbers.to_vec(),
            stop_at_first_match: settings.sample_on_first_match,
            weighs: settings.write_threshold,
            compares: compiler.compares,
            hash: compiler.hash.unwrap_or_else(|| Probabilistic::new("", 100.0)),
            looks_into_spans: compiler.looks_into_spans,
            asks_for_bytes: compiler.asks_for_bytes,
            questions: Questions::new(&catalogue),
            answers: Cell::default(),
        }
    }

    /// The number of the policy at this position.
    #[inline]
    pub(crate) fn number_of(&self, position: u16) -> u16 {
        self.numbers[usize::from(position)]
    }

    /// Whether [`Facts::bytes`] matter.
    pub(crate) fn ask_for_bytes(&self) -> bool {
        self.asks_for_bytes
    }

    /// A trace's randomness if none arrived; nothing is hashed if nobody compares it.
    #[inline]
    pub(crate) fn randomness(&self, trace_id: &TraceId) -> Randomness {
        if self.compares { self.hash.randomness(trace_id) } else { Randomness::MAX }
    }

    /// What `span` answers to questions about its item.
    #[inline]
    pub(crate) fn conditions_of(&self, span: &SpanItem) -> Conditions {
        Conditions(status_code::condition_of(span.status))
    }

    /// Whether [`Rules::look_into`] would find anything: if not, spans are stored unread.
    #[inline]
    pub(crate) fn look_into_spans(&self) -> bool {
        self.looks_into_spans
    }

    /// What a span answers to all other questions but those `answered` with yes already.
    pub(crate) fn look_into(&self, span: &SpanItem, bytes: &[u8], answered: Conditions) -> Conditions {
        let is_flagged = span.flags & FLAG_SAMPLED != 0;
        let flag = if is_flagged { FLAG_SAMPLED_CONDITION } else { 0 };
        Conditions(flag | self.questions.ask_span(span, bytes, answered.0))
    }

    /// Whether spans are asked conditions of the transformation language.
    #[inline]
    pub(crate) fn ask_conditions(&self) -> bool {
        !self.questions.conditions().is_empty()
    }

    /// Which of these conditions are true of the span, except those `answered` with yes already.
    pub(crate) fn conditions_true_of(&self, span: SpanWithin<'_>, answered: Conditions) -> Conditions {
        Conditions(self.questions.conditions().ask(span, answered.0))
    }

    /// The time of day that conditions are told.
    pub(crate) fn tell_time(&self, unix_ns: i64) {
        self.questions.conditions().tell_time(unix_ns);
    }

    /// How often conditions failed since this was asked last.
    pub(crate) fn take_evaluation_errors(&self) -> u64 {
        self.questions.conditions().take_errors()
    }

    /// Memory of what was found in texts lately, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.questions.bytes()
    }

    /// Whether resources have answers: if not, they need not be asked.
    pub(crate) fn ask_about_resources(&self) -> bool {
        self.questions.ask_about_resources()
    }

    /// What a resource answers for all its spans.
    pub(crate) fn look_into_resource(&self, envelope: &[u8]) -> Conditions {
        Conditions(self.questions.ask_resource(envelope))
    }

    /// Asks the policies and combines their verdicts, with the threshold of the decision where decisions have one. `counts`
    /// are by the policies' numbers, the decision names one by its position.
    #[inline]
    pub(crate) fn decide(&self, facts: &Facts, counts: Option<&mut [Verdicts]>) -> (Decision, Threshold) {
        if self.weighs { self.weigh(facts, counts) } else { (self.judge(facts, counts), Threshold::NEVER) }
    }

    /// Asks the policies and combines their verdicts. All are asked, so that each one's counts are true, unless one drops
    /// the trace or the settings stop at the first match.
    fn judge(&self, facts: &Facts, mut counts: Option<&mut [Verdicts]>) -> Decision {
        let mut decision = Decision::NotSampled;
        let mut answers = Answers::default();
        for asked in &self.policies {
            let wanted = asked.policy.wants(facts);
            answers.note(asked.position, wanted);
            if let Some(counts) = counts.as_deref_mut() {
                counts[usize::from(asked.number)].count(wanted, asked.drops);
            }
            if !wanted || asked.is_dry {
                continue;
            }
            if asked.drops {
                decision = Decision::Dropped;
                break;
            }
            if decision == Decision::NotSampled {
                decision = Decision::Sampled { policy: asked.position };
                if self.stop_at_first_match {
                    break;
                }
            }
        }
        self.answers.set(answers);
        decision
    }

    /// What each policy said in the last call of [`Rules::decide`].
    pub(crate) fn answers(&self) -> Answers {
        self.answers.get()
    }
}

/// Compiles rules, and notes what they will ask for.
struct Compiler<'a> {
    catalogue: &'a Catalogue<'a>,
    /// The attributes that keys name.
    keys: Vec<String>,
    /// Limits are kept by thresholds.
    weighs: bool,
    cells: Cells<'a>,
    looks_into_spans: bool,
    asks_for_bytes: bool,
    hash: Option<Probabilistic>,
    compares: bool,
}

impl Compiler<'_> {
    fn compile(&mut self, rule: &Rule) -> Compiled {
        match rule {
            Rule::AlwaysSample => Compiled::AlwaysSample(AlwaysSample),
            Rule::Latency { threshold_ms, upper_threshold_ms } => {
                Compiled::Latency(Latency::new(*threshold_ms, *upper_threshold_ms))
            }
            Rule::Probabilistic { hash_salt, sampling_percentage } => {
                let policy = Probabilistic::new(hash_salt, *sampling_percentage);
                self.hash.get_or_insert_with(|| policy.clone());
                Compiled::Probabilistic(policy)
            }
            Rule::StatusCode { ok, error, unset } => Compiled::StatusCode(StatusCodes::new(*ok, *error, *unset)),
            Rule::Attribute { invert_match: true, .. } => Compiled::None(self.question(rule)),
            Rule::Attribute { .. } | Rule::TraceState { .. } => Compiled::Some(self.question(rule)),
            Rule::OttlCondition { .. } => Compiled::Some(self.catalogue.condition(rule)),
            Rule::TraceFlags => {
                self.looks_into_spans = true;
                Compiled::Some(FLAG_SAMPLED_CONDITION)
            }
            Rule::SpanCount { spans_min, spans_max } => Compiled::SpanCount(SpanCount::new(*spans_min, *spans_max)),
            Rule::RateLimiting { spans_per_second, burst_spans } if self.weighs => {
                Compiled::Dynamic(Dynamic::spans_limit(*spans_per_second, *burst_spans, &mut self.cells))
            }
            Rule::RateLimiting { spans_per_second, burst_spans } => {
                Compiled::RateLimiting(self.cells.bucket(*spans_per_second, *burst_spans))
            }
            Rule::BytesLimiting { bytes_per_second, burst_bytes } => {
                self.asks_for_bytes = true;
                if self.weighs {
                    return Compiled::Dynamic(Dynamic::bytes_limit(*bytes_per_second, *burst_bytes, &mut self.cells));
                }
                Compiled::BytesLimiting(self.cells.bucket(*bytes_per_second, *burst_bytes))
            }
            Rule::Dynamic { goal, keys, interval_ns, keys_max } => {
                let columns = self.columns(keys);
                self.compares = true;
                Compiled::Dynamic(match goal {
                    Goal::OneOf(number) => Dynamic::one_of(*number, columns, *interval_ns, *keys_max, &mut self.cells),
                    Goal::SpansPerSecond(goal) => {
                        Dynamic::throughput(*goal, columns, *interval_ns, *keys_max, &mut self.cells)
                    }
                })
            }
            Rule::And(rules) => Compiled::And(self.compile_all(rules)),
            Rule::Not(rule) => Compiled::Not(Box::new(self.compile(rule))),
            Rule::Drop(rules) => Compiled::Drop(self.compile_all(rules)),
            Rule::DryRun(rule) => Compiled::DryRun(Box::new(self.compile(rule))),
            Rule::Composite { spans_per_second_max, parts } if self.weighs => {
                let per_second = u64::from(*spans_per_second_max);
                let total = Dynamic::spans_limit(per_second, per_second, &mut self.cells);
                let parts = parts.iter().map(|part| {
                    let per_second = u64::from(part.spans_per_second);
                    let pace = Dynamic::spans_limit(per_second, per_second, &mut self.cells);
                    (self.compile(&part.rule), pace)
                });
                Compiled::PacedComposite { total, parts: parts.collect() }
            }
            Rule::Composite { spans_per_second_max, parts } => {
                let total = self.cells.window(*spans_per_second_max);
                let parts = parts.iter().map(|part| {
                    let window = self.cells.window(part.spans_per_second);
                    (self.compile(&part.rule), window)
                });
                Compiled::Composite(Composite::new(total, parts.collect()))
            }
        }
    }

    fn compile_all(&mut self, rules: &[Rule]) -> Vec<Compiled> {
        rules.iter().map(|rule| self.compile(rule)).collect()
    }

    /// The columns of these attributes, as bits.
    fn columns(&self, keys: &[String]) -> u8 {
        keys.iter().filter_map(|key| self.keys.iter().position(|known| known == key)).fold(0, |bits, at| bits | 1 << at)
    }

    fn question(&mut self, rule: &Rule) -> u64 {
        self.looks_into_spans = true;
        self.catalogue.condition(rule)
    }
}

impl Compiled {
    /// Whether it drops what it wants, or would.
    fn drops(&self) -> bool {
        match self {
            Self::Drop(_) => true,
            Self::DryRun(policy) => policy.drops(),
            _ => false,
        }
    }

    /// Whether it wants the trace; for a policy that drops: whether it wants it dropped.
    #[inline(always)]
    fn wants(&self, facts: &Facts) -> bool {
        // Most policies are masks: they are tested where they are asked, all others are called.
        match self {
            Self::StatusCode(policy) => policy.samples(facts),
            Self::Some(condition) => facts.conditions.0 & condition != 0,
            other => other.wants_by_other_facts(facts),
        }
    }

    #[inline(never)]
    fn wants_by_other_facts(&self, facts: &Facts) -> bool {
        match self {
            Self::StatusCode(policy) => policy.samples(facts),
            Self::Some(condition) => facts.conditions.0 & condition != 0,
            Self::None(condition) => facts.conditions.0 & condition == 0,
            Self::AlwaysSample(policy) => policy.samples(facts),
            Self::Latency(policy) => policy.samples(facts),
            Self::Probabilistic(policy) => policy.samples(facts),
            Self::SpanCount(policy) => policy.samples(facts),
            Self::RateLimiting(bucket) => bucket.take(facts.now_ns, facts.spans.into()),
            Self::BytesLimiting(bucket) => bucket.take(facts.now_ns, facts.bytes),
            Self::And(policies) | Self::Drop(policies) => policies.iter().all(|policy| policy.wants(facts)),
            Self::Not(policy) => !policy.wants(facts),
            Self::DryRun(policy) => policy.wants(facts),
            Self::Composite(policy) => policy.samples(facts),
            Self::Dynamic(policy) => {
                let wanted = policy.threshold(facts).admits(facts.randomness);
                policy.note(facts, wanted);
                wanted
            }
            Self::PacedComposite { .. } => self.threshold(facts).admits(facts.randomness),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::settings::Policy;

    /// A trace of one span that says nothing of itself.
    pub(crate) fn facts() -> Facts {
        Facts {
            trace_id: TraceId([1; 16]),
            first_start_ns: 0,
            last_end_ns: 0,
            conditions: Conditions::default(),
            spans: 1,
            bytes: 0,
            now_ns: 0,
            randomness: Randomness::MAX,
            keys: crate::keys::NO_KEYS,
        }
    }

    pub(crate) fn settings(policies: Vec<Policy>) -> Settings {
        Settings { decision_wait_ns: 1, policies, ..Settings::default() }
    }

    const EVERY: Rule = Rule::AlwaysSample;
    const ERRORS: Rule = Rule::StatusCode { ok: false, error: true, unset: false };

    fn check(rules: &[Rule], stop_at_first_match: bool, expected: Decision, expected_counts: &[(u64, u64)]) {
        let policies = rules.iter().map(|rule| Policy { name: format!("{rule:?}"), rule: rule.clone() });
        let settings = Settings { sample_on_first_match: stop_at_first_match, ..settings(policies.collect()) };
        let rules = Rules::new(&settings, &SharedRates::new(&settings));
        let facts = facts();
        let mut counts = vec![Verdicts::default(); settings.policies.len()];
        assert_eq!(rules.decide(&facts, Some(&mut counts)).0, expected);
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
    fn what_runs_dry_is_counted_in_its_place_and_changes_nothing() {
        let dry = |rule| Rule::DryRun(Box::new(rule));
        check(&[ERRORS, dry(EVERY)], false, Decision::NotSampled, &[(0, 1), (1, 0)]);
        check(&[EVERY, dry(ERRORS)], true, Decision::Sampled { policy: 0 }, &[(1, 0), (0, 1)]);
        // One that drops counts as dropped.
        check(&[EVERY, dry(Rule::Drop(vec![EVERY]))], false, Decision::Sampled { policy: 0 }, &[(1, 0), (0, 0)]);
    }

    #[test]
    fn sample_on_first_match_stops_asking() {
        check(&[ERRORS, EVERY, EVERY], true, Decision::Sampled { policy: 1 }, &[(0, 1), (1, 0), (0, 0)]);
    }
}
