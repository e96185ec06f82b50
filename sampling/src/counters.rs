//! What a sampler counts. Plain numbers that only grow; the caller copies them into its metrics.
//!
//! The ledger of a sampler, true after every call: `spans_accepted = spans_kept + spans_dropped + pending spans`.

/// Everything one sampler has done since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Spans given to the sampler.
    pub spans_accepted: u64,
    /// Spans written to a release, late ones and those without a trace id included.
    pub spans_kept: u64,
    /// Spans dropped by policy or shed, late ones and those without a trace id included.
    pub spans_dropped: u64,
    /// Of the dropped: their trace was shed, whether they came before that, because of it or later. Later ones are told from
    /// those of other dropped traces as long as the memory of decisions is.
    pub spans_shed: u64,
    /// Of the kept: arrived after their trace was decided when it was due.
    pub late_spans_kept: u64,
    /// Of the dropped: arrived after their trace was decided when it was due.
    pub late_spans_dropped: u64,
    /// Of the kept: arrived after their trace was decided before its deadline because its decision was certain.
    pub early_spans_kept: u64,
    /// The same of the dropped, and of those whose trace had been shed.
    pub early_spans_dropped: u64,
    /// Of the kept: had no trace id and were decided alone.
    pub idless_spans_kept: u64,
    /// Of the dropped: had no trace id and were decided alone.
    pub idless_spans_dropped: u64,
    /// Traces that entered the table.
    pub traces_new: u64,
    /// Traces decided: sampled. Late spans do not count again.
    pub traces_sampled: u64,
    /// Traces decided: not sampled, because no policy wanted them.
    pub traces_not_sampled: u64,
    /// Traces decided: dropped by a policy, whatever others wanted.
    pub traces_dropped: u64,
    /// Of the not sampled: before their deadline, because they outgrew `trace_bytes_max`. No policy was asked.
    pub traces_too_large: u64,
    /// Of the not sampled: shed because memory was short. No policy was asked.
    pub traces_shed: u64,
    /// Of the certainly sampled, and of those certainly not sampled or dropped: decided early only because memory was
    /// short.
    pub traces_certain_under_stress: u64,
    /// Of the decided: before their deadline, because the table held `traces_max` traces, or more than
    /// a new `traces_max`.
    pub traces_decided_early: u64,
    /// Of the decided: before their deadline, because the caller asked for everything (drain).
    pub traces_decided_by_drain: u64,
    /// Of the decided: a wait after the root span ended before the decision wait.
    pub traces_decided_after_root: u64,
    /// Of the sampled: before their deadline, because no later span could change that.
    pub traces_certainly_sampled: u64,
    /// Of those not sampled or dropped: the same.
    pub traces_certainly_dropped: u64,
    /// Of the decided: before their deadline, because every parent was there and no span came for a while.
    pub traces_complete: u64,
    /// Of the decided: before their deadline, on what was there, because they grew larger than a sampler holds of one.
    pub traces_cut: u64,
    /// Spans of which a condition could not be asked because it failed, and whose policy counts that.
    pub evaluation_errors: u64,
    /// Bytes of chunks that were compressed because memory was short.
    pub bytes_compressed: u64,
    /// What they took then.
    pub bytes_compressed_to: u64,
    /// Verdicts per policy, by its number: its place in the settings, unless it was given another. Spans without a trace id
    /// are not counted here.
    pub policies: Vec<Verdicts>,
    /// How long after their deadline traces were decided.
    pub lateness: Lateness,
}

impl Counters {
    /// Traces decided so far.
    pub fn traces_decided(&self) -> u64 {
        self.traces_sampled + self.traces_not_sampled + self.traces_dropped
    }
}

/// How often a policy said what; one evaluation counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// The policy wanted the trace.
    pub sampled: u64,
    /// The policy did not ask for the trace.
    pub not_sampled: u64,
    /// The policy wanted the trace dropped.
    pub dropped: u64,
}

impl Verdicts {
    /// `drops`: what the policy wants, it wants dropped.
    #[inline]
    pub(crate) fn count(&mut self, wanted: bool, drops: bool) {
        self.sampled += u64::from(wanted && !drops);
        self.dropped += u64::from(wanted && drops);
        self.not_sampled += u64::from(!wanted);
    }
}

/// A histogram of `now - deadline` over all traces decided because their deadline had come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lateness {
    /// The worst, in nanoseconds.
    pub max_ns: u64,
    /// All together, in nanoseconds.
    pub sum_ns: u64,
    /// `buckets[0]`: exactly on time; `buckets[b]`: from `2^(b-1)` to below `2^b` nanoseconds.
    pub buckets: [u64; LATENESS_BUCKETS],
}

/// 2^47 ns are 39 hours; whatever is later counts in the last bucket.
pub const LATENESS_BUCKETS: usize = 48;

impl Default for Lateness {
    fn default() -> Self {
        Self { max_ns: 0, sum_ns: 0, buckets: [0; LATENESS_BUCKETS] }
    }
}

impl Lateness {
    /// The largest lateness that counts in a bucket, in nanoseconds; of the last bucket the largest there is.
    pub fn upper_ns(bucket: usize) -> u64 {
        if bucket + 1 < LATENESS_BUCKETS { (1 << bucket) - 1 } else { u64::MAX }
    }

    pub(crate) fn record(&mut self, late_ns: u64) {
        self.sum_ns = self.sum_ns.wrapping_add(late_ns);
        let bits = (u64::BITS - late_ns.leading_zeros()) as usize;
        self.buckets[bits.min(LATENESS_BUCKETS - 1)] += 1;
        self.max_ns = self.max_ns.max(late_ns);
    }

    /// Traces recorded.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}
