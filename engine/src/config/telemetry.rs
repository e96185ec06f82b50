//! `service.telemetry`: how the gateway speaks about itself.
//!
//! The one trap is the names of metrics: the Collector writes them plain unless a `readers` list is written, and then
//! with `_total` and units unless the reader says otherwise. `names`, which is ours, says it in one word.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::checked::{
    LogLevel, LogOutput, LogSampling, LogSettings, MetricNames, MetricsLevel, ResourceLabel, TelemetrySettings,
};
use super::component::endpoint;
use super::scalar::Meaning;
use super::section::{Field, Idle, Section};
use super::service::loopback;

const METRICS_PORT: u16 = 8888;
/// Most outputs of the log, fields of each line, and labels of `target_info`.
const LIST_MAX: usize = 32;

const METRICS_LEVEL: [(&str, MetricsLevel); 4] = [
    ("none", MetricsLevel::None),
    ("basic", MetricsLevel::Basic),
    ("normal", MetricsLevel::Normal),
    ("detailed", MetricsLevel::Detailed),
];
/// The Collector's logger has more names above `error`.
const LOG_LEVEL: [(&str, LogLevel); 7] = [
    ("debug", LogLevel::Debug),
    ("info", LogLevel::Info),
    ("warn", LogLevel::Warn),
    ("error", LogLevel::Error),
    ("dpanic", LogLevel::Error),
    ("panic", LogLevel::Error),
    ("fatal", LogLevel::Error),
];
const NAMES: [(&str, Option<MetricNames>); 3] =
    [("plain", Some(MetricNames::PLAIN)), ("suffixed", Some(MetricNames::SUFFIXED)), ("both", Some(MetricNames::BOTH))];

/// Reads `service.telemetry`.
pub(crate) fn telemetry(service: &Section<'_>, admin_address: Option<SocketAddr>) -> TelemetrySettings {
    let section = service.section_or_empty("telemetry");
    let logs = logs(&section.section_or_empty("logs"));
    let metrics = section.section_or_empty("metrics");
    let metrics_level = metrics.choice("level", &METRICS_LEVEL, MetricsLevel::Normal);
    let (address, names) = reading(&metrics);
    metrics.no_effect("views", Idle::Zero, "remove it; drop series where they are scraped");
    let resource = resource(&section);
    if let Some(traces) = section.section("traces") {
        traces.no_effect("level", Idle::Text(&["none"]), "remove it: the gateway writes no spans of its own");
        traces.no_effect("processors", Idle::Zero, "remove it: the gateway writes no spans of its own");
        traces.ignored(&["propagators"]);
    }
    TelemetrySettings {
        metrics_address: (metrics_level != MetricsLevel::None).then_some(address).flatten(),
        metrics_level,
        metrics_names: metrics.choice("names", &NAMES, None).unwrap_or(names),
        admin_address,
        logs,
        resource,
    }
}

fn logs(logs: &Section<'_>) -> LogSettings {
    let outputs = logs.field("output_paths").map(|field| outputs(&field)).filter(|outputs| !outputs.is_empty());
    let settings = LogSettings {
        level: logs.choice("level", &LOG_LEVEL, LogLevel::Info),
        json: logs.choice("encoding", &[("console", false), ("json", true)], false),
        caller: !logs.boolean("disable_caller", false),
        sampling: sampling(&logs.section_or_empty("sampling")),
        fields: initial_fields(logs),
        outputs: outputs.unwrap_or_else(|| vec![LogOutput::Stderr]),
    };
    logs.no_effect("processors", Idle::Zero, "collect standard error instead");
    // Errors of the logger itself, stack traces and the reaction to a panic are matters of Go's logger.
    logs.ignored(&["error_output_paths", "development", "disable_stacktrace", "disable_zap_resource"]);
    settings
}

fn sampling(section: &Section<'_>) -> Option<LogSampling> {
    let default = LogSampling::default();
    let sampling = LogSampling {
        tick_ns: section.duration_ns("tick", default.tick_ns).max(1),
        initial: section.u32("initial", 0, default.initial),
        thereafter: section.u32("thereafter", 0, default.thereafter),
    };
    section.boolean("enabled", true).then_some(sampling)
}

fn outputs(field: &Field<'_>) -> Vec<LogOutput> {
    let mut outputs: Vec<LogOutput> = Vec::new();
    for (text, item) in field.texts() {
        let output = match text.as_str() {
            "stderr" => LogOutput::Stderr,
            "stdout" => LogOutput::Stdout,
            "" => continue,
            path => match path.strip_prefix("file://").unwrap_or(path) {
                path if path.contains("://") => {
                    item.expected(
                        "`stderr`, `stdout` or the path of a file",
                        "write a path such as `/var/log/gateway.log`",
                    );
                    continue;
                }
                path => LogOutput::File(PathBuf::from(path)),
            },
        };
        if outputs.len() == LIST_MAX {
            item.error(format!("more than {LIST_MAX} outputs"), "remove some of them");
            break;
        }
        if !outputs.contains(&output) {
            outputs.push(output);
        }
    }
    outputs
}

fn initial_fields(logs: &Section<'_>) -> Vec<(String, serde_json::Value)> {
    let Some(section) = logs.section("initial_fields") else { return Vec::new() };
    let mut fields = Vec::new();
    for (name, field) in section.entries() {
        let value = match field.meaning() {
            Some(Meaning::Bool(value)) => value.into(),
            Some(Meaning::Int(number)) if i64::try_from(number).is_ok() => {
                i64::try_from(number).expect("the guard says so").into()
            }
            Some(Meaning::Float(number)) => number.into(),
            Some(Meaning::Null) => serde_json::Value::Null,
            Some(_) => field.text().unwrap_or_default().into(),
            None => {
                field.expected("one value", "write a text, a number or a boolean; a field of a log line is flat");
                continue;
            }
        };
        if fields.len() == LIST_MAX {
            field.error(format!("more than {LIST_MAX} fields"), "remove some of them: each line carries them all");
            break;
        }
        fields.push((name.to_owned(), value));
    }
    section.keys_are_names();
    fields
}

/// Labels of `target_info`; a null takes one of ours away.
fn resource(telemetry: &Section<'_>) -> Vec<ResourceLabel> {
    let Some(section) = telemetry.section("resource") else { return Vec::new() };
    let mut labels = Vec::new();
    for (name, field) in section.entries() {
        if matches!(name, "attributes" | "schema_url" | "detectors") && field.meaning().is_none() {
            field.warning("has no effect yet", "write the attributes directly below `resource`: `name: value`");
            continue;
        }
        let value = match field.meaning() {
            Some(Meaning::Null) if field.node.expanded.is_none() => None,
            // Numbers and booleans are labels as they are written.
            Some(_) => Some(field.written().to_owned()),
            None => {
                field.expected("text", "write one value");
                continue;
            }
        };
        if labels.len() == LIST_MAX {
            field.error(format!("more than {LIST_MAX} attributes"), "remove some of them");
            break;
        }
        labels.push(ResourceLabel { name: name.to_owned(), value });
    }
    section.keys_are_names();
    labels
}

/// Where `/metrics` is and how metrics are named there: `address`, or the first Prometheus reader.
fn reading(metrics: &Section<'_>) -> (Option<SocketAddr>, MetricNames) {
    let readers = metrics.field("readers");
    let read = readers.iter().flat_map(|field| field.items()).filter_map(|item| reader(&item));
    let read: Vec<(Option<SocketAddr>, MetricNames)> = read.collect();
    if let Some(field) = readers.as_ref().filter(|_| read.len() > 1) {
        field.warning("only the first Prometheus reader is served", "remove the others");
    }
    // An empty list or none but pushing readers: the Collector serves nothing, which would blind the alerts.
    let (address, names) = read.into_iter().next().unwrap_or((Some(loopback(METRICS_PORT)), MetricNames::PLAIN));
    let written = metrics.field("address").filter(|field| !field.node.is_null());
    match written {
        Some(field) => (endpoint::listen_numeric(&field), names),
        None => (address, names),
    }
}

/// `None` if it is no Prometheus reader.
fn reader(field: &Field<'_>) -> Option<(Option<SocketAddr>, MetricNames)> {
    let section = field.section()?;
    section.no_effect("periodic", Idle::Zero, "scrape `/metrics` instead; the gateway does not push its own metrics");
    let pull = section.section("pull")?;
    let exporter = pull.section("exporter")?;
    let prometheus = exporter.section("prometheus")?;
    let host = prometheus.text("host").unwrap_or_else(|| "localhost".to_owned());
    let port = prometheus.field("port").and_then(|field| field.int(0..=65535)).unwrap_or(METRICS_PORT.into());
    let names = reader_names(&prometheus);
    let host = if host == "localhost" { "127.0.0.1".to_owned() } else { host };
    let address = match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(host) => Some(SocketAddr::new(host, u16::try_from(port).expect("the range says so"))),
        Err(_) => {
            if let Some(field) = prometheus.field("host") {
                field.expected("a numeric address", "write an address such as `127.0.0.1` or `0.0.0.0`");
            }
            None
        }
    };
    Some((address, names))
}

/// With a reader the Collector adds suffixes and scope labels unless it is told not to.
fn reader_names(prometheus: &Section<'_>) -> MetricNames {
    let mut names = MetricNames {
        type_suffix: !prometheus.boolean("without_type_suffix", false),
        units: !prometheus.boolean("without_units", false),
        scope_info: !prometheus.boolean("without_scope_info", false),
        plain: false,
    };
    names.plain = !names.type_suffix && !names.units;
    prometheus.no_effect("with_resource_constant_labels", Idle::Zero, "set these labels where the metrics are scraped");
    prometheus.ignored(&["translation_strategy"]);
    names
}
