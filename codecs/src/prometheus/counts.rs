//! What became of the points: every point is either in a request or counted under a reason.

/// Why a point is in no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum DropReason {
    /// Its metric has no name that Prometheus could have.
    Name,
    /// A sum or histogram of delta temporality.
    Delta,
    /// A sum or histogram of no temporality.
    Temporality,
    /// A gauge or sum without a number that does not say it is meant to have none.
    Empty,
    /// Bounds that do not rise or are not numbers, counts that do not fit them, buckets that do not sum up to the count
    /// of an exponential histogram, a quantile twice.
    Buckets,
    /// An exponential histogram with fewer buckets than Prometheus' coarsest: scale below -4.
    Scale,
    /// More labels than [`super::LABELS_MAX`], or more bytes than [`super::LABEL_BYTES_MAX`].
    Labels,
    /// A later point of the same series with the same millisecond took its place.
    Replaced,
    /// A delta that is not newer than what its series has.
    DeltaOrder,
    /// A delta of a series for which there is no room.
    DeltaLimit,
}

impl DropReason {
    /// All of them; the position is `reason as usize`.
    pub const ALL: [DropReason; 10] = [
        Self::Name,
        Self::Delta,
        Self::Temporality,
        Self::Empty,
        Self::Buckets,
        Self::Scale,
        Self::Labels,
        Self::Replaced,
        Self::DeltaOrder,
        Self::DeltaLimit,
    ];

    /// As metrics call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Delta => "delta",
            Self::Temporality => "temporality",
            Self::Empty => "empty",
            Self::Buckets => "buckets",
            Self::Scale => "scale",
            Self::Labels => "labels",
            Self::Replaced => "replaced",
            Self::DeltaOrder => "delta_order",
            Self::DeltaLimit => "delta_limit",
        }
    }

    /// What is wrong and what to do, for the log.
    #[must_use]
    pub fn explanation(self) -> &'static str {
        match self {
            Self::Name => "the metric's name has no letter or digit that Prometheus takes",
            Self::Delta => {
                "Prometheus takes cumulative temporality only, this is delta: \
                 set OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=cumulative in the sender, or \
                 delta_to_cumulative in the exporter"
            }
            Self::Temporality => "Prometheus takes cumulative temporality only, this has none",
            Self::Empty => "the point has no value",
            Self::Buckets => "bounds do not rise, or counts do not fit them",
            Self::Scale => "an exponential histogram's scale is below -4, Prometheus' coarsest",
            Self::Labels => "a series has more than 1024 labels or more than 64 KiB of them",
            Self::DeltaOrder => "a delta is not newer than the one before it in its series",
            Self::DeltaLimit => {
                "deltas of so many series are added up that there is no room for another: raise \
                 delta_to_cumulative.max_streams"
            }
            Self::Replaced => "two points of one series have the same millisecond; the later one counts",
        }
    }
}

/// Counters since the translator was made. `points = written + dropped`, once all requests were finished.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Data points that came in.
    pub points: u64,
    /// Data points that are in requests.
    pub written: u64,
    /// Data points that are in none, by [`DropReason`].
    pub dropped: [u64; DropReason::ALL.len()],
    /// Samples in requests, those of `target_info` included.
    pub samples: u64,
    /// Native histograms in requests.
    pub histograms: u64,
    /// Exemplars in requests.
    pub exemplars: u64,
    /// Label sets that were not in the cache and had to be built.
    pub label_sets_built: u64,
    /// How often the cache was full and was emptied.
    pub cache_clears: u64,
}

impl Counts {
    /// Points in no request, whatever the reason.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }
}

/// A metric that lost points for a reason, told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Why.
    pub reason: DropReason,
    /// The metric's name as it came.
    pub metric: String,
}
