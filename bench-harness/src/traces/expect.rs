//! What must become of a trace: the policies of the gateway's configuration, asked of the spans that were accepted.
//!
//! Written for the harness alone: a gateway that misreads a policy cannot mislead its own judge.

use codecs::otlp::TraceId;

use super::cycle::{Cycle, Place};
use super::ids::{fate, fnv1a};

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
pub(crate) struct Votes(pub(crate) u64);

impl Votes {
    /// Some policy wants it.
    pub(crate) fn kept(self) -> bool {
        self.0 != 0
    }

    /// Policy number `policy` wants it.
    pub(crate) fn of(self, policy: usize) -> bool {
        self.0 >> policy & 1 == 1
    }
}

impl Policies {
    /// Asks every policy about a trace of which the spans in `accepted` (one bit each, not 0) reached the gateway.
    pub(crate) fn votes(&self, cycle: &Cycle, sequence: u64, accepted: u16) -> Votes {
        assert!(accepted != 0);
        let id = cycle.trace_id(sequence);
        let mut votes = 0;
        for (number, policy) in self.policies.iter().enumerate() {
            let wants = match &policy.rule {
                Rule::Always => true,
                Rule::Error => has_error(cycle, sequence, id, accepted),
                Rule::LatencyMs(threshold) => lasted_ms(cycle, sequence, accepted) > *threshold,
                Rule::Probabilistic { salt, threshold } => fnv1a(salt.as_bytes(), id) <= *threshold,
            };
            votes |= u64::from(wants) << number;
        }
        Votes(votes)
    }
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
