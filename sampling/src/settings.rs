//! What a tail sampler is told. Checked: holding one proves the ranges written here.

pub use crate::keys::KEY_ATTRIBUTES_MAX;
pub use crate::pattern::{PATTERN_BYTES_MAX, Pattern, PatternError};
pub use crate::policy::QUESTIONS_MAX;
pub use crate::table::{BYTES_PER_DROPPED, BYTES_PER_KEPT, FALSE_POSITIVES_MAX};

/// Settings of one `tail_sampling` processor. The default ones have no policy, which is for tests only.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// From a trace's first span to its decision.
    pub decision_wait_ns: u64,
    /// From a trace's root span to its decision, if that is earlier. `None`: the root changes nothing.
    pub decision_wait_after_root_ns: Option<u64>,
    /// Decide as soon as no later span could change the decision or its reason.
    pub decide_when_certain: bool,
    /// Decide when the root span and the parent of every span are there and no span came for so long: after once to
    /// twice this time. `None`: wait for the deadline.
    pub complete_quiet_ns: Option<u64>,
    /// Most pending traces of all samplers that share their limits; the oldest is decided early beyond it. `None`: only
    /// bytes limit.
    pub traces_max: Option<u32>,
    /// At `traces_max` no trace is decided early: the sampler has no room until one is due, see
    /// [`crate::Sampler::has_room`].
    pub block_on_overflow: bool,
    /// Bytes to remember kept traces in, for their late spans.
    pub kept_memory_bytes: Option<u64>,
    /// Bytes to remember dropped traces in, for their late spans.
    pub dropped_memory_bytes: Option<u64>,
    /// Most bytes of the span messages of one pending trace: beyond it the trace is not sampled, whatever the policies
    /// say, and its memory is free at once. `None`: no such limit.
    pub trace_bytes_max: Option<u64>,
    /// A drain drops what is pending instead of deciding it.
    pub drop_pending_in_drain: bool,
    /// Kept spans carry the threshold and the randomness of their trace's decision in their trace state. Then no rule may
    /// turn round what samples by chance, see [`Rule::turns_chance_round`].
    pub write_threshold: bool,
    /// Kept root spans carry name and type of the policy that kept their trace, as attributes.
    pub write_reason: bool,
    /// What is done as memory gets short, see [`crate::Sampler::tell_pressure`].
    pub stress_relief: StressRelief,
    /// Stop at the first policy that says sampled.
    pub sample_on_first_match: bool,
    /// At least one; names are unique and not empty. They ask at most [`QUESTIONS_MAX`] different questions of a span,
    /// see [`Settings::questions`].
    pub policies: Vec<Policy>,
}

impl Settings {
    /// The settings of one of `shards` equal samplers: together they remember as many decisions as one would. Rates and
    /// the number of traces stay whole: the samplers share them, see [`crate::SharedRates`].
    #[must_use]
    pub fn share_of(&self, shards: usize) -> Self {
        let shards = u64::try_from(shards).unwrap_or(u64::MAX).max(1);
        let share = |bytes: Option<u64>| bytes.map(|bytes| bytes.div_ceil(shards));
        Self {
            kept_memory_bytes: share(self.kept_memory_bytes),
            dropped_memory_bytes: share(self.dropped_memory_bytes),
            ..self.clone()
        }
    }

    /// The different attributes that keys of dynamic policies name, at most [`KEY_ATTRIBUTES_MAX`].
    #[must_use]
    pub fn key_attributes(&self) -> Vec<String> {
        crate::keys::attributes(self)
    }

    /// How many different questions the policies ask about attributes and trace states of a span. Equal ones count once.
    #[must_use]
    pub fn questions(&self) -> usize {
        crate::policy::questions(self)
    }
}

/// Steps against short memory, each optional.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StressRelief {
    /// Traces are decided as soon as no later span can change the decision, as with `decide_when_certain`. Nothing is
    /// done with `write_threshold`.
    pub certain: Option<Relief>,
    /// Spans that have been pending for more than a second, and will be for more than one, are compressed.
    pub compress: Option<Relief>,
    /// Traces are given up by chance, those with errors last.
    pub shed: Option<Shedding>,
}

/// When a step begins and ends, in parts of the memory from which on the edge refuses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Relief {
    /// It begins here, above 0 and below 1.
    pub from: f64,
    /// It ends below this, at most `from`.
    pub until: f64,
}

/// How traces are given up: more of them the nearer memory is to its end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shedding {
    /// When.
    pub relief: Relief,
    /// The least share that is still taken, above 0 and at most 1/2. It is reached in halves.
    pub probability_min: f64,
}

impl Shedding {
    /// How often the share is halved, 1 to 20.
    pub(crate) fn halvings(&self) -> u8 {
        const HALVINGS_MAX: f64 = 20.0;
        // A float becomes the nearest integer within range.
        (1.0 / self.probability_min).log2().clamp(1.0, HALVINGS_MAX) as u8
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
///
/// An attribute is looked for in a span and in its resource; the first of a name counts. One span or resource that
/// matches is enough.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// Every trace.
    AlwaysSample,
    /// Traces whose duration (last end - first start, whole milliseconds) is more than `threshold_ms` and at most the
    /// upper one.
    Latency {
        /// Longest duration that is too short.
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
    /// Traces with an attribute of this name that passes the test.
    Attribute {
        /// Its name.
        key: String,
        /// What is asked of its value.
        test: AttributeTest,
        /// Instead: traces without any such attribute.
        invert_match: bool,
    },
    /// Traces with a span whose W3C trace state has this key with one of these values.
    TraceState {
        /// Key of a list member.
        key: String,
        /// Wanted values, whole.
        values: Vec<String>,
    },
    /// Traces with a span, or an event of a span, of which one of these conditions of the transformation language is true.
    /// Each was checked for its context, with bare paths.
    OttlCondition {
        /// Asked of each span.
        spans: Vec<String>,
        /// Asked of each event of each span.
        span_events: Vec<String>,
        /// A condition that fails on a span is counted as an evaluation error; it is not true either way.
        counts_errors: bool,
    },
    /// Traces with a span whose W3C `sampled` flag is set.
    TraceFlags,
    /// Traces of so many spans.
    SpanCount {
        /// Least.
        spans_min: u32,
        /// Most. `None`: any number.
        spans_max: Option<u32>,
    },
    /// Traces as long as a bucket has a token for each of their spans: all of them or none.
    RateLimiting {
        /// Tokens that come back, at least 1.
        spans_per_second: u64,
        /// Tokens of the full bucket. A trace with more spans never passes.
        burst_spans: u64,
    },
    /// The same with the bytes of their span messages.
    BytesLimiting {
        /// Tokens that come back, at least 1.
        bytes_per_second: u64,
        /// Tokens of the full bucket. A trace with more bytes never passes.
        burst_bytes: u64,
    },
    /// A share of the traces of each key: rare keys whole, frequent ones less, so that all together meet the goal.
    Dynamic {
        /// What is wanted of all keys together.
        goal: Goal,
        /// Attributes whose values are the key; none: all traces have one.
        keys: Vec<String>,
        /// From one adjustment of the shares to the next, above 0.
        interval_ns: u64,
        /// Most keys that are told apart, at least 1; all others are one.
        keys_max: usize,
    },
    /// Traces that every rule wants, asked in order until one does not.
    And(Vec<Rule>),
    /// Traces that the rule does not want.
    Not(Box<Rule>),
    /// Asked of every trace and counted, but not listened to: what it would say changes no decision. Only as a whole
    /// policy.
    DryRun(Box<Rule>),
    /// Traces that every rule wants are dropped, whatever other policies say. Only as a whole policy.
    Drop(Vec<Rule>),
    /// Traces of the first part that wants them, as long as this part and all together stay below their rates.
    Composite {
        /// Most spans of all parts in a second.
        spans_per_second_max: u32,
        /// Asked in this order.
        parts: Vec<CompositePart>,
    },
}

impl Rule {
    /// Its type in a configuration.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::AlwaysSample => "always_sample",
            Self::Latency { .. } => "latency",
            Self::Probabilistic { .. } => "probabilistic",
            Self::StatusCode { .. } => "status_code",
            Self::Attribute { test: AttributeTest::Text(_) | AttributeTest::Pattern(_), .. } => "string_attribute",
            Self::Attribute { test: AttributeTest::Number { .. }, .. } => "numeric_attribute",
            Self::Attribute { test: AttributeTest::Bool(_), .. } => "boolean_attribute",
            Self::TraceState { .. } => "trace_state",
            Self::TraceFlags => "trace_flags",
            Self::SpanCount { .. } => "span_count",
            Self::RateLimiting { .. } => "rate_limiting",
            Self::BytesLimiting { .. } => "bytes_limiting",
            Self::Dynamic { goal: Goal::OneOf(_), .. } => "dynamic",
            Self::Dynamic { goal: Goal::SpansPerSecond(_), .. } => "throughput",
            Self::And(_) => "and",
            Self::Not(_) => "not",
            Self::Drop(_) => "drop",
            Self::OttlCondition { .. } => "ottl_condition",
            Self::DryRun(rule) => rule.kind(),
            Self::Composite { .. } => "composite",
        }
    }

    /// Whether chance, or what came before, has a part in what it wants.
    #[must_use]
    pub fn is_by_chance(&self) -> bool {
        match self {
            Self::Probabilistic { .. }
            | Self::RateLimiting { .. }
            | Self::BytesLimiting { .. }
            | Self::Dynamic { .. }
            | Self::Composite { .. } => true,
            Self::And(rules) | Self::Drop(rules) => rules.iter().any(Self::is_by_chance),
            Self::Not(rule) => rule.is_by_chance(),
            _ => false,
        }
    }

    /// Whether it wants, or lets through, what was left over by chance: of that there is no threshold.
    #[must_use]
    pub fn turns_chance_round(&self) -> bool {
        match self {
            Self::Not(rule) => rule.is_by_chance(),
            Self::Drop(rules) => rules.iter().any(Self::is_by_chance),
            Self::And(rules) => rules.iter().any(Self::turns_chance_round),
            Self::Composite { parts, .. } => parts.iter().any(|part| part.rule.turns_chance_round()),
            _ => false,
        }
    }
}

/// What a [`Rule::Dynamic`] wants of all keys together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// One of so many traces, at least 1.
    OneOf(f64),
    /// So many spans in a second, above 0, over some seconds.
    SpansPerSecond(f64),
}

/// One part of [`Rule::Composite`].
#[derive(Clone, Debug, PartialEq)]
pub struct CompositePart {
    /// Which traces are its.
    pub rule: Rule,
    /// Most spans of it in a second.
    pub spans_per_second: u32,
}

/// What is asked of an attribute's value. A value of another type never passes.
#[derive(Clone, Debug, PartialEq)]
pub enum AttributeTest {
    /// A text that is one of these. The empty text never passes.
    Text(Vec<String>),
    /// A text in which one of these is found. The empty text never passes.
    Pattern(Vec<Pattern>),
    /// An integer or a double between these, ends included.
    Number {
        /// Least.
        min: Option<Number>,
        /// Most.
        max: Option<Number>,
    },
    /// This truth.
    Bool(bool),
}

/// A number as attributes have it, so that large integers stay exact.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Whole.
    Int(i64),
    /// Any.
    Double(f64),
}
