//! Why a trace was kept or dropped, in words: what the page `/explain` and `tracegate explain` show.

use sampling::settings::{Policy, Rule};
use sampling::{Answer, Entry, Outcome};
use serde::{Deserialize, Serialize};

/// How one trace was decided by one `tail_sampling`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The pipeline whose sampler decided.
    pub pipeline: String,
    /// In hexadecimal digits.
    pub trace_id: String,
    /// `sampled`, `not sampled`, `dropped`, `too large`, `shed`, `dropped by a drain`, `pending`.
    pub outcome: String,
    /// The policy that decided; empty if none did.
    pub policy: String,
    /// Spans when it was decided.
    pub spans: u32,
    /// From its first start to its last end; `None` if its spans have no times.
    pub duration_ms: Option<f64>,
    /// How long ago it was decided.
    pub decided_ms_ago: u64,
    /// What each policy said, in the order of the settings.
    pub policies: Vec<Said>,
}

/// What one policy said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Its name.
    pub policy: String,
    /// `sample`, `drop`, `no` or `not asked`.
    pub answer: String,
    /// Nobody listened to it.
    pub dry_run: bool,
}

/// What has to be known of a policy to tell what it said.
#[derive(Clone, Debug)]
pub struct PolicyName {
    name: String,
    drops: bool,
    dry_run: bool,
}

impl PolicyName {
    /// Of each policy.
    pub fn of(policies: &[Policy]) -> Vec<PolicyName> {
        let of = |policy: &Policy| {
            let (rule, dry_run) = match &policy.rule {
                Rule::DryRun(rule) => (&**rule, true),
                rule => (rule, false),
            };
            PolicyName { name: policy.name.clone(), drops: matches!(rule, Rule::Drop(_)), dry_run }
        };
        policies.iter().map(of).collect()
    }

    fn said(&self, answer: Answer) -> Said {
        let answer = match answer {
            Answer::NotAsked => "not asked",
            Answer::No => "no",
            Answer::Yes if self.drops => "drop",
            Answer::Yes => "sample",
        };
        Said { policy: self.name.clone(), answer: answer.to_owned(), dry_run: self.dry_run }
    }
}

impl Explanation {
    /// Of what a sampler noted; `pipeline` is left to the caller.
    pub fn new(entry: &Entry, policies: &[PolicyName], now_ns: u64) -> Explanation {
        let (outcome, policy) = match entry.outcome {
            Outcome::Sampled { policy } => ("sampled", policies.get(usize::from(policy))),
            Outcome::Dropped => ("dropped", dropping(entry, policies)),
            Outcome::NotSampled => ("not sampled", None),
            Outcome::TooLarge => ("too large", None),
            Outcome::Shed => ("shed", None),
            Outcome::Drained => ("dropped by a drain", None),
        };
        let said = (0_u16..).zip(policies).map(|(place, policy)| policy.said(entry.answers.of(place)));
        Explanation {
            pipeline: String::new(),
            trace_id: crate::exporter::memory::hex(&entry.trace_id.0),
            outcome: outcome.to_owned(),
            policy: policy.map(|policy| policy.name.clone()).unwrap_or_default(),
            spans: entry.spans,
            duration_ms: entry.duration_ns.map(|duration_ns| duration_ns as f64 / 1e6),
            decided_ms_ago: now_ns.saturating_sub(entry.decided_ns) / 1_000_000,
            policies: said.collect(),
        }
    }

    /// Of a trace that waits for its decision.
    pub fn pending(trace_id: &[u8]) -> Explanation {
        let trace_id = crate::exporter::memory::hex(trace_id);
        Explanation { trace_id, outcome: "pending".to_owned(), ..Explanation::default() }
    }
}

/// The policy that dropped the trace.
fn dropping<'p>(entry: &Entry, policies: &'p [PolicyName]) -> Option<&'p PolicyName> {
    let drops = |(place, policy): &(u16, &PolicyName)| {
        policy.drops && !policy.dry_run && entry.answers.of(*place) == Answer::Yes
    };
    (0_u16..).zip(policies).find(drops).map(|(_, policy)| policy)
}
