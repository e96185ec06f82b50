//! What must become of a trace: the policies of the gateway's configuration, asked of the spans that were accepted.
//!
//! ```text
//! policies + cycle --Policies::judge--> Judge   (attributes of every shape, asked once)
//! Judge + sequence number + accepted spans --> Votes: kept, dropped, or either (a rate limit has the last word)
//! ```
//!
//! Written for the harness alone: a gateway that misreads a policy cannot mislead its own judge.

use codecs::otlp::TraceId;

use super::cycle::{Cycle, Place};
use super::ids::{fate, fnv1a};
use crate::sink::{AttributeValue, read_attributes, read_resource_attributes};

/// Salt of a `probabilistic` policy that sets none.
const DEFAULT_SALT: &str = "default-hash-seed";

/// The policies of a `tail_sampling` processor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Policies {
    /// From a trace's first span to its decision.
    pub(crate) decision_wait_ns: u64,
    /// At most 64.
    pub(crate) policies: Vec<Policy>,
}

/// One policy.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Policy {
    /// Its name in the configuration.
    pub(crate) name: String,
    /// What it asks.
    pub(crate) rule: Rule,
}

/// What a policy asks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Rule {
    /// Every trace.
    Always,
    /// A span with status ERROR.
    Error,
    /// Last end - first start, in whole milliseconds, is more than this.
    LatencyMs(u64),
    /// FNV-1a of salt and trace id is at most this.
    Probabilistic {
        /// Hashed first.
        salt: String,
        /// Share of 2^64.
        threshold: u64,
    },
    /// A span, or the resource of one, with an attribute of which the condition holds.
    Attribute {
        /// Its name.
        key: String,
        /// What must hold.
        condition: Condition,
    },
    /// Traces while there are tokens for all their spans. Which these are is the gateway's to choose: a trace that no
    /// other policy wants may be kept or not, as long as all such traces together stay within the limit.
    Limited {
        /// Tokens that come each second.
        spans_per_second: u64,
        /// Tokens there are at first, and the most there ever are.
        burst_spans: u64,
    },
}

/// What must hold of an attribute's value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Condition {
    /// It is one of these texts.
    Texts(Vec<String>),
    /// It is a text, not empty, and one of these is found in it.
    Patterns(Vec<Pattern>),
    /// It is an integer within these bounds.
    Integer {
        /// At least.
        min: i64,
        /// At most.
        max: i64,
    },
}

/// A regular expression; holding one proves that it is one.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(regex::Regex);

impl Pattern {
    /// Compiles it, or says what is wrong with it.
    pub(crate) fn new(text: &str) -> Result<Pattern, String> {
        regex::Regex::new(text).map(Pattern).map_err(|error| error.to_string())
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Condition {
    fn holds(&self, value: AttributeValue<'_>) -> bool {
        match (self, value) {
            (Condition::Texts(texts), AttributeValue::Text(text)) => texts.iter().any(|wanted| wanted == text),
            (Condition::Patterns(patterns), AttributeValue::Text(text)) => {
                !text.is_empty() && patterns.iter().any(|pattern| pattern.0.is_match(text))
            }
            (Condition::Integer { min, max }, AttributeValue::Integer(number)) => (*min..=*max).contains(&number),
            _ => false,
        }
    }
}

impl Rule {
    /// A share of all traces in percent; an empty salt is the Collector's default.
    pub(crate) fn probabilistic(percentage: f64, salt: &str) -> Rule {
        // Millionths of a percent: exact for every percentage that people write.
        let millionths = (percentage.clamp(0.0, 100.0) * 1e6).round() as u128;
        Rule::Probabilistic {
            salt: if salt.is_empty() { DEFAULT_SALT } else { salt }.to_owned(),
            threshold: (u128::from(u64::MAX) * millionths / 100_000_000) as u64,
        }
    }
}

/// Which policies voted for a trace, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Votes {
    /// Those that want it, whatever else came.
    pub(crate) certain: u64,
    /// Those that may want it: rate limits.
    pub(crate) possible: u64,
}

impl Votes {
    /// It must be kept.
    pub(crate) fn kept(self) -> bool {
        self.certain != 0
    }

    /// It may be kept or not.
    pub(crate) fn optional(self) -> bool {
        self.certain == 0 && self.possible != 0
    }

    /// Policy number `policy` wants it, whatever else came.
    pub(crate) fn of(self, policy: usize) -> bool {
        self.certain >> policy & 1 == 1
    }

    /// The first policy that wants it, or that may if none does; `None` if it must be dropped.
    pub(crate) fn reason(self) -> Option<usize> {
        let wanted = if self.kept() { self.certain } else { self.possible };
        (wanted != 0).then(|| wanted.trailing_zeros() as usize)
    }
}

/// Policies, and what they find in the shapes of a cycle.
#[derive(Debug)]
pub(crate) struct Judge<'a> {
    policies: &'a Policies,
    cycle: &'a Cycle,
    /// For each policy about attributes and each shape, the spans that have what it wants; empty for other policies.
    matches: Vec<Vec<u16>>,
}

impl Policies {
    /// Asks the policies about attributes of every shape. Attributes are the same in all traces of a shape.
    pub(crate) fn judge<'a>(&'a self, cycle: &'a Cycle) -> Judge<'a> {
        let matches = |policy: &Policy| match &policy.rule {
            Rule::Attribute { key, condition } => {
                let shapes = 0..cycle.trace_shapes() as u64;
                shapes.map(|sequence| spans_with(cycle, sequence, key, condition)).collect()
            }
            _ => Vec::new(),
        };
        Judge { policies: self, cycle, matches: self.policies.iter().map(matches).collect() }
    }

    /// Spans that all rate limits together let through in this time at most, from full buckets.
    pub(crate) fn limited_spans_max(&self, elapsed_ns: u64) -> Option<u64> {
        let limit = |policy: &Policy| match policy.rule {
            Rule::Limited { spans_per_second, burst_spans } => {
                let refilled = u128::from(spans_per_second) * u128::from(elapsed_ns) / 1_000_000_000;
                Some(burst_spans + refilled as u64 + 1)
            }
            _ => None,
        };
        let limits: Vec<u64> = self.policies.iter().filter_map(limit).collect();
        (!limits.is_empty()).then(|| limits.iter().sum())
    }
}

impl Judge<'_> {
    /// Asks every policy about a trace of which the spans in `accepted` (one bit each, not 0) reached the gateway.
    pub(crate) fn votes(&self, sequence: u64, accepted: u16) -> Votes {
        assert!(accepted != 0);
        let cycle = self.cycle;
        let id = cycle.trace_id(sequence);
        let mut votes = Votes::default();
        for (number, policy) in self.policies.policies.iter().enumerate() {
            let wants = match &policy.rule {
                Rule::Always => true,
                Rule::Error => has_error(cycle, sequence, id, accepted),
                Rule::LatencyMs(threshold) => lasted_ms(cycle, sequence, accepted) > *threshold,
                Rule::Probabilistic { salt, threshold } => fnv1a(salt.as_bytes(), id) <= *threshold,
                Rule::Attribute { .. } => {
                    let shape = sequence % cycle.trace_shapes() as u64;
                    self.matches[number][shape as usize] & accepted != 0
                }
                Rule::Limited { burst_spans, .. } => {
                    votes.possible |= u64::from(u64::from(accepted.count_ones()) <= *burst_spans) << number;
                    false
                }
            };
            votes.certain |= u64::from(wants) << number;
        }
        votes
    }
}

/// Which spans of a trace have such an attribute, or a resource that has.
fn spans_with(cycle: &Cycle, sequence: u64, key: &str, condition: &Condition) -> u16 {
    let (mut mask, mut scratch) = (0, Vec::new());
    for span in 0..cycle.spans(sequence) as u8 {
        let expected = cycle.expected(Place { sequence, span }, &mut scratch);
        let mut found = false;
        let mut ask = |name: &[u8], value: AttributeValue<'_>| {
            found |= name == key.as_bytes() && condition.holds(value);
        };
        let read = read_attributes(expected.span, &mut ask);
        assert!(read.is_ok(), "a span that the harness wrote itself");
        let read = read_resource_attributes(expected.resource_envelope, &mut ask);
        assert!(read.is_ok(), "a resource that the harness wrote itself");
        mask |= u16::from(found) << span;
    }
    mask
}

fn has_error(cycle: &Cycle, sequence: u64, id: TraceId, accepted: u16) -> bool {
    let spans = cycle.spans(sequence) as u16;
    fate(id).error_span.is_some_and(|error| accepted >> (error % spans) & 1 == 1)
}

fn lasted_ms(cycle: &Cycle, sequence: u64, accepted: u16) -> u64 {
    let spans = (0..cycle.spans(sequence) as u8).filter(|span| accepted >> span & 1 == 1);
    let times = spans.map(|span| cycle.times(Place { sequence, span }));
    let (first, last) = times.fold((u64::MAX, 0), |(first, last), (start, end)| (first.min(start), last.max(end)));
    last.saturating_sub(first) / 1_000_000
}
