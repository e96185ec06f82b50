//! `exporters.prometheusremotewrite` (`prometheus_remote_write`).

use super::otlp_exporter::{self, Definition};
use super::{auth, client, endpoint};
use crate::config::checked::{Endpoint, ExporterKind, OtlpExporterSettings, QueueSettings, RemoteWriteSettings};
use crate::config::proxy;
use crate::config::section::{Field, Idle, Section};
use codecs::compression::Compression;
use codecs::otlp::Format;
use codecs::prometheus::{DeltaSettings, Protocol, ResourceLabels, Settings, TranslationStrategy, external_label_name};

const TIMEOUT_NS: u64 = 5_000_000_000;
const QUEUE_SIZE: u32 = 10_000;
const PARALLEL_REQUESTS: u32 = 5;
/// More connections than this to one backend are a misplaced number.
const PARALLEL_REQUESTS_MAX: u32 = 1000;
const REQUEST_BYTES: u32 = 3_000_000;
/// The Collector's first delay; the others are those of all exporters.
const RETRY_INITIAL_NS: u64 = 50_000_000;

/// Series whose deltas are added up on each shard, and the age after which one is forgotten: the age is that of the
/// Collector's `deltatocumulative`, which has no bound of their number unless one is written.
const DELTA_STREAMS: u32 = 100_000;
const DELTA_STREAMS_MAX: u32 = 10_000_000;
const DELTA_STALE_NS: u64 = 300_000_000_000;

const PROTOCOLS: [(&str, Protocol); 2] =
    [("prometheus.WriteRequest", Protocol::V1), ("io.prometheus.write.v2.Request", Protocol::V2)];

/// Reads the settings: an exporter of metrics only.
pub(crate) fn check(field: &Field<'_>) -> Option<Definition> {
    let section = field.section()?;
    let target = target(&section);
    let tls = client::tls(&section);
    client::keys_not_built(&section);
    otlp_exporter::http_keys_not_built(&section);
    keys_not_built(&section);
    let proxy = section.field("proxy_url").and_then(|field| proxy::proxy_url(&field));
    let (queue, parallel_requests) = queue(&section);
    let translation = translation(&section);
    let http = OtlpExporterSettings {
        endpoint: Endpoint { host: String::new(), port: 0 },
        path: String::new(),
        tls: None,
        format: Format::Protobuf,
        compression: Compression::Snappy,
        compression_level: None,
        headers: client::headers(&section),
        authenticator: auth::authenticator(&section),
        proxy,
        names: client::names(&section),
        timeout_ns: section.duration_ns("timeout", TIMEOUT_NS),
        retry: client::retry_from(&section, RETRY_INITIAL_NS),
        queue,
    };
    let mut target = target?;
    if target.path.is_empty() {
        target.path.push('/');
    }
    let http = OtlpExporterSettings {
        endpoint: target.endpoint,
        path: target.path,
        tls: target.tls.then_some(tls.settings),
        ..http
    };
    let settings = RemoteWriteSettings { http, translation, parallel_requests };
    Some(Definition::of_metrics(ExporterKind::RemoteWrite(Box::new(settings))))
}

fn target(section: &Section<'_>) -> Option<endpoint::HttpUrl> {
    const HELP: &str = "write the whole URL, as in `http://prometheus:9090/api/v1/write`";
    let Some(field) = section.field("endpoint").filter(|field| !field.node.is_null()) else {
        section.error("`endpoint` is missing", "add `endpoint: http://prometheus:9090/api/v1/write`");
        return None;
    };
    let text = field.text()?;
    match endpoint::http_url(&text) {
        Ok(url) => Some(url),
        Err(problem) => {
            field.expected(&format!("a URL ({problem})"), HELP);
            None
        }
    }
}

fn keys_not_built(section: &Section<'_>) {
    section.unsupported(
        "compression",
        Idle::Text(&["snappy"]),
        "another compression than snappy, which is the protocol's",
        "remove it",
    );
    section.unsupported(
        "wal",
        Idle::Zero,
        "a write-ahead log; what waits would be lost when the process dies",
        "remove it: the queue is in memory, and retries last as long as `retry_on_failure.max_elapsed_time` says",
    );
}

/// The queue has one consumer on each shard, so that samples of a series stay in order; requests of one batch go in
/// parallel.
fn queue(exporter: &Section<'_>) -> (QueueSettings, usize) {
    let section = exporter.section_or_empty("remote_write_queue");
    let enabled = section.boolean("enabled", true);
    let queue_size = section.u32("queue_size", 1, QUEUE_SIZE) as usize;
    let consumers = section.u32("num_consumers", 1, PARALLEL_REQUESTS);
    let parallel = exporter.u32("max_batch_request_parallelism", 1, consumers);
    if parallel > PARALLEL_REQUESTS_MAX {
        exporter.error(
            format!("more than {PARALLEL_REQUESTS_MAX} requests at the same time"),
            "5 to 50 suit most backends: see `remote_write_queue.num_consumers`",
        );
    }
    (QueueSettings { enabled, num_consumers: 1, queue_size, ..QueueSettings::default() }, parallel as usize)
}

fn translation(section: &Section<'_>) -> Settings {
    let protocol = section.choice("protobuf_message", &PROTOCOLS, Protocol::V1);
    let strategy = strategy(section, protocol);
    let target_info = section.section_or_empty("target_info");
    Settings {
        protocol,
        strategy,
        namespace: section.text("namespace").unwrap_or_default(),
        external_labels: external_labels(section, strategy),
        resource_labels: resource_labels(section),
        has_target_info: target_info.boolean("enabled", true),
        has_scope_labels: !section.boolean("disable_scope_info", false),
        sends_metadata: section.boolean("send_metadata", false),
        request_bytes_max: section.u32("max_batch_size_bytes", 1, REQUEST_BYTES) as usize,
        delta: delta(section),
        ..Settings::default()
    }
}

/// Not a key of the Collector, which has a processor for it.
fn delta(exporter: &Section<'_>) -> Option<DeltaSettings> {
    let section = exporter.section("delta_to_cumulative")?;
    let is_enabled = section.boolean("enabled", false);
    let stale_ns = section.duration_ns("max_stale", DELTA_STALE_NS);
    let streams = section.u32("max_streams", 1, DELTA_STREAMS);
    if streams > DELTA_STREAMS_MAX
        && let Some(field) = section.field("max_streams")
    {
        field.error(format!("more than {DELTA_STREAMS_MAX} series"), "each takes about 300 bytes on its shard");
    }
    is_enabled.then_some(DeltaSettings { streams_max: streams as usize, stale_ns })
}

fn strategy(section: &Section<'_>, protocol: Protocol) -> TranslationStrategy {
    let has_suffixes = section.boolean("add_metric_suffixes", true);
    let default = match has_suffixes {
        true => TranslationStrategy::UnderscoreEscapingWithSuffixes,
        false => TranslationStrategy::UnderscoreEscapingWithoutSuffixes,
    };
    let Some(field) = section.field("translation_strategy").filter(|field| !field.node.is_null()) else {
        return default;
    };
    let text = field.text().unwrap_or_default();
    if text.is_empty() {
        return default;
    }
    let Some(strategy) = TranslationStrategy::from_name(&text) else {
        field.expected(
            "UnderscoreEscapingWithSuffixes, UnderscoreEscapingWithoutSuffixes, NoUTF8EscapingWithSuffixes or NoTranslation",
            "write one of these words",
        );
        return default;
    };
    if strategy.is_utf8() && protocol == Protocol::V1 {
        field.error(
            "names with any letter need remote write 2.0",
            "add `protobuf_message: io.prometheus.write.v2.Request`, or choose one of the UnderscoreEscaping strategies",
        );
    }
    strategy
}

fn external_labels(section: &Section<'_>, strategy: TranslationStrategy) -> Vec<(String, String)> {
    let mut labels: Vec<(String, String)> = Vec::new();
    let Some(section) = section.section("external_labels") else {
        return labels;
    };
    for (key, field) in section.entries() {
        let Some(value) = field.text() else { continue };
        match external_label_name(key, strategy) {
            Some(name) if !value.is_empty() => {
                if labels.iter().any(|(other, _)| *other == name) {
                    field.error(format!("another label is called `{name}` too"), "remove one of them");
                }
                labels.push((name, value));
            }
            _ => field.error("a label has a name and a value", "write `name: value`, both not empty"),
        }
    }
    section.keys_are_names();
    labels
}

fn resource_labels(section: &Section<'_>) -> ResourceLabels {
    let conversion = section.section_or_empty("resource_to_telemetry_conversion");
    let copies_all = conversion.boolean("enabled", false);
    let excludes_service = conversion.boolean("exclude_service_attributes", false);
    let promoted = section.field("promote_resource_attributes");
    if copies_all {
        if let Some(field) = promoted {
            field.error(
                "`resource_to_telemetry_conversion` makes labels of all resource attributes already",
                "remove one of the two",
            );
        }
        return ResourceLabels::All { excludes_service };
    }
    match promoted.map(|field| field.texts()) {
        Some(keys) if !keys.is_empty() => ResourceLabels::Promoted(keys.into_iter().map(|(key, _)| key).collect()),
        _ => ResourceLabels::None,
    }
}
