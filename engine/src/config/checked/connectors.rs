//! Connectors as the engine needs them. `forward` has no settings and stands in the pipelines that it joins.

use super::ComponentId;
pub use codecs::otlp::write_metrics::Temporality;

/// A `span_metrics` connector.
#[derive(Clone, Debug)]
pub struct SpanMetricsConnector {
    /// Its id.
    pub id: ComponentId,
    /// What it counts.
    pub settings: SpanMetricsSettings,
    /// When pipelines are given its series.
    pub flush: FlushSettings,
    /// Metrics pipelines that receive them; indices into [`super::Config::pipelines`]. On `/metrics` they are anyway.
    pub targets: Vec<usize>,
}

/// When and how a connector gives its series to pipelines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushSettings {
    /// Whether a point says what is new or everything.
    pub temporality: Temporality,
    /// Time between two flushes, at least 100 ms.
    pub interval_ns: u64,
}

/// `span_metrics`: what is counted of spans, and by what.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanMetricsSettings {
    /// OTLP name of the counter of spans.
    pub calls: String,
    /// The histogram of durations; `None` if disabled.
    pub duration: Option<DurationSettings>,
    /// In the order in which they are shown; names are unique, also as Prometheus writes them.
    pub labels: Vec<LabelSettings>,
    /// Which spans count.
    pub spans: SpanChoice,
    /// Series of each metric that a shard keeps beside the one for all others. At least 1.
    pub series_max: usize,
    /// A series without spans for this long is forgotten; 0: never.
    pub expiration_ns: u64,
}

/// The histogram of durations.
#[derive(Clone, Debug, PartialEq)]
pub struct DurationSettings {
    /// OTLP name.
    pub name: String,
    /// Of the bounds and of the sum.
    pub unit: DurationUnit,
    /// How it is divided.
    pub buckets: DurationBuckets,
}

/// Unit of durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DurationUnit {
    /// `ms`.
    Milliseconds,
    /// `s`.
    Seconds,
}

impl DurationUnit {
    /// Nanoseconds in one.
    pub fn nanoseconds(self) -> u64 {
        match self {
            DurationUnit::Milliseconds => 1_000_000,
            DurationUnit::Seconds => 1_000_000_000,
        }
    }

    /// As OTLP writes it.
    pub fn short(self) -> &'static str {
        match self {
            DurationUnit::Milliseconds => "ms",
            DurationUnit::Seconds => "s",
        }
    }

    /// As names on `/metrics` end.
    pub fn long(self) -> &'static str {
        match self {
            DurationUnit::Milliseconds => "milliseconds",
            DurationUnit::Seconds => "seconds",
        }
    }
}

/// How a histogram of durations is divided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DurationBuckets {
    /// Upper bounds in nanoseconds, ascending; at least one.
    Explicit(Vec<u64>),
    /// So many buckets at most, 2 or more, each wider than the one before by the same factor.
    Exponential(u32),
}

/// One label of the series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelSettings {
    /// As an attribute of OTLP.
    pub name: String,
    /// Where its value comes from.
    pub source: LabelSource,
    /// Its value where a span has none; `None`: the series goes without the label.
    pub default: Option<String>,
    /// Whether the counter of spans has it.
    pub on_calls: bool,
    /// Whether the histogram has it.
    pub on_duration: bool,
    /// In OTLP: whether it is an attribute of the point,
    pub of_point: bool,
    /// and whether of the resource. A page of Prometheus knows no difference.
    pub of_resource: bool,
}

/// Where a label's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelSource {
    /// An attribute of the resource.
    Resource(String),
    /// The span's name.
    SpanName,
    /// `SPAN_KIND_SERVER` and its like.
    SpanKind,
    /// `STATUS_CODE_ERROR` and its like.
    StatusCode,
    /// The first of these attributes that the span has, else that the resource has.
    Attribute(Vec<String>),
    /// The same; without any, 500 for a span that failed.
    HttpStatus(Vec<String>),
}

/// Which spans are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanChoice {
    /// Every span.
    All,
    /// Server spans that do not say `rpc.system`.
    HttpServers,
}
