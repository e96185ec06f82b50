//! What a tail sampler is told. Checked: holding one proves the ranges written here.

/// Settings of one `tail_sampling` processor.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// From a trace's first span to its decision.
    pub decision_wait_ns: u64,
    /// From a trace's root span to its decision, if that is earlier. `None`: the root changes nothing.
    pub decision_wait_after_root_ns: Option<u64>,
    /// Most pending traces of this sampler; the oldest is decided early beyond it. `None`: only bytes limit.
    pub traces_max: Option<u32>,
    /// Stop at the first policy that says sampled.
    pub sample_on_first_match: bool,
    /// At least one; names are unique and not empty.
    pub policies: Vec<Policy>,
}

impl Settings {
    /// The settings of one of `shards` equal samplers: together they hold the traces that one would.
    #[must_use]
    pub fn share_of(&self, shards: usize) -> Self {
        let shards = u32::try_from(shards).unwrap_or(u32::MAX).max(1);
        let traces_max = self.traces_max.map(|traces| traces.div_ceil(shards).max(1));
        Self { traces_max, ..self.clone() }
    }
}

/// One named policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Name in the configuration, label of its metrics, reason of its traces.
    pub name: String,
    /// What it asks of a trace.
    pub rule: Rule,
}

/// What a policy asks of a trace.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// Every trace.
    AlwaysSample,
    /// Traces whose duration (last end - first start, whole milliseconds) is at least `threshold_ms` or, with an upper
    /// threshold, more than `threshold_ms` and at most the upper one.
    Latency {
        /// Shortest kept duration; with an upper threshold, longest duration that is too short.
        threshold_ms: u64,
        /// Longest kept duration.
        upper_threshold_ms: Option<u64>,
    },
    /// A fixed share of all trace ids, by the Collector's hash (FNV-1a 64 over salt, then trace id).
    Probabilistic {
        /// Bytes hashed before the trace id; empty: the Collector's `default-hash-seed`.
        hash_salt: String,
        /// 0 to 100; what is outside counts as the nearer of them.
        sampling_percentage: f64,
    },
    /// Traces with a span of one of these statuses.
    StatusCode {
        /// OK is wanted.
        ok: bool,
        /// ERROR is wanted.
        error: bool,
        /// UNSET is wanted.
        unset: bool,
    },
}
