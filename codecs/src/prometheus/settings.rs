//! What the exporter's configuration says about translation, checked once.

use super::delta::DeltaSettings;
use super::names::{TranslationStrategy, label_name};

/// The messages of the two protocols.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// `prometheus.WriteRequest`, remote write 1.0.
    #[default]
    V1,
    /// `io.prometheus.write.v2.Request`, remote write 2.0.
    V2,
}

impl Protocol {
    /// The protocol whose message is called `name`: `protobuf_message` of the exporter.
    #[must_use]
    pub fn from_message(name: &str) -> Option<Self> {
        match name {
            "prometheus.WriteRequest" => Some(Self::V1),
            "io.prometheus.write.v2.Request" => Some(Self::V2),
            _ => None,
        }
    }

    /// The header `Content-Type` of its requests.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::V1 => "application/x-protobuf",
            Self::V2 => "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        }
    }

    /// The header `X-Prometheus-Remote-Write-Version` of its requests.
    #[must_use]
    pub fn version(self) -> &'static str {
        match self {
            Self::V1 => "0.1.0",
            Self::V2 => "2.0.0",
        }
    }
}

/// Which attributes of a resource become labels of its points' series.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ResourceLabels {
    /// None but `job` and `instance`.
    #[default]
    None,
    /// All of them; over attributes of the point with the same name.
    All {
        /// Leaves out `service.name`, `service.namespace` and `service.instance.id`.
        excludes_service: bool,
    },
    /// Those with these names; under attributes of the point with the same name.
    Promoted(Vec<String>),
}

/// How metrics are translated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The message to write.
    pub protocol: Protocol,
    /// How names are translated.
    pub strategy: TranslationStrategy,
    /// First word of each metric's name; empty for none.
    pub namespace: String,
    /// Labels of every series that has none of that name, see [`external_label_name`].
    pub external_labels: Vec<(String, String)>,
    /// Which attributes of a resource become labels.
    pub resource_labels: ResourceLabels,
    /// Whether there is a series `target_info` for each resource.
    pub has_target_info: bool,
    /// Whether series say which instrumentation scope they are from.
    pub has_scope_labels: bool,
    /// Whether requests of metadata are written with 1.0; 2.0 always has metadata.
    pub sends_metadata: bool,
    /// How many bytes a request has before compression, at most; a single point may exceed it.
    pub request_bytes_max: usize,
    /// Over how many owners series are spread, at least 1.
    pub owners: u32,
    /// How sums and histograms of delta temporality are added up; `None`: they are dropped.
    pub delta: Option<DeltaSettings>,
    /// Memory of the label cache in bytes; when it is full, it is emptied.
    pub cache_bytes_max: usize,
}

impl Default for Settings {
    /// The Collector's defaults, for one owner, with [`CACHE_BYTES_DEFAULT`].
    fn default() -> Self {
        Self {
            protocol: Protocol::V1,
            strategy: TranslationStrategy::default(),
            namespace: String::new(),
            external_labels: Vec::new(),
            resource_labels: ResourceLabels::None,
            has_target_info: true,
            has_scope_labels: true,
            sends_metadata: false,
            request_bytes_max: 3_000_000,
            owners: 1,
            delta: None,
            cache_bytes_max: CACHE_BYTES_DEFAULT,
        }
    }
}

/// Holds the labels of about 200,000 series of 10 labels.
pub const CACHE_BYTES_DEFAULT: usize = 128 << 20;

/// The label that `key` of `external_labels` becomes, or `None` if nothing of it can be a label.
#[must_use]
pub fn external_label_name(key: &str, strategy: TranslationStrategy) -> Option<String> {
    label_name(key, strategy)
}
