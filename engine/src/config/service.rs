//! `service.engine`, which is ours, and `service.telemetry`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::checked::{Cores, EngineSettings, LogLevel, MetricsLevel, Pin, RuntimeChoice, TelemetrySettings};
use super::component::endpoint;
use super::scalar::Meaning;
use super::section::{Field, Idle, Section};

/// Below the 30 s after which Kubernetes kills.
const SHUTDOWN_TIMEOUT_NS: u64 = 25_000_000_000;
const ADMIN_PORT: u16 = 55679;
const METRICS_PORT: u16 = 8888;
/// Rings grow with the square of it.
const SHARDS_MAX: usize = 256;
const CORE_NUMBER_MAX: usize = 4095;
const CORES_HELP: &str = "write `auto`, a number of shards such as `4`, or core numbers such as \"0-3,6\"";

const PIN: [(&str, Pin); 3] = [("auto", Pin::Auto), ("true", Pin::Always), ("false", Pin::Never)];
const RUNTIME: [(&str, RuntimeChoice); 3] =
    [("auto", RuntimeChoice::Auto), ("io_uring", RuntimeChoice::IoUring), ("epoll", RuntimeChoice::Epoll)];
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

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// Reads `service.engine`, and the admin address in it.
pub(crate) fn engine(service: &Section<'_>) -> (EngineSettings, Option<SocketAddr>) {
    let section = service.section_or_empty("engine");
    let cores = section.field("cores").and_then(|field| cores(&field));
    let memory_limit_mib = section.field("memory_limit_mib").and_then(|field| field.int(1..=u32::MAX.into()));
    let settings = EngineSettings {
        cores: cores.unwrap_or(Cores::Auto),
        pin: pin(&section),
        runtime: section.choice("runtime", &RUNTIME, RuntimeChoice::Auto),
        memory_limit_bytes: memory_limit_mib.map(|mib| u64::try_from(mib << 20).expect("the range says so")),
        shutdown_timeout_ns: section.duration_ns("shutdown_timeout", SHUTDOWN_TIMEOUT_NS),
    };
    let admin = match section.field("admin").filter(|field| !field.node.is_null()) {
        None => Some(loopback(ADMIN_PORT)),
        Some(field) if matches!(field.meaning(), Some(Meaning::Text("none"))) => None,
        Some(field) => endpoint::listen_numeric(&field),
    };
    (settings, admin)
}

/// `auto`, or a boolean with or without quotes.
fn pin(section: &Section<'_>) -> Pin {
    match section.field("pin").and_then(|field| field.meaning()) {
        Some(Meaning::Bool(true)) => Pin::Always,
        Some(Meaning::Bool(false)) => Pin::Never,
        _ => section.choice("pin", &PIN, Pin::Auto),
    }
}

fn cores(field: &Field<'_>) -> Option<Cores> {
    let text = match field.meaning() {
        Some(Meaning::Null | Meaning::Text("auto")) => return Some(Cores::Auto),
        Some(Meaning::Int(_)) => return field.int(1..=SHARDS_MAX as i128).map(count),
        Some(Meaning::Text(text)) => text,
        _ => {
            field.expected("cores", CORES_HELP);
            return None;
        }
    };
    // A number in quotes is still a number of shards; one core by its number is written "6-6".
    if let Ok(number) = text.trim().parse::<usize>() {
        if (1..=SHARDS_MAX).contains(&number) {
            return Some(Cores::Count(number));
        }
        field.expected(&format!("from 1 to {SHARDS_MAX} shards"), CORES_HELP);
        return None;
    }
    match core_list(text) {
        Ok(list) => Some(Cores::List(list)),
        Err(problem) => {
            field.expected(&format!("cores ({problem})"), CORES_HELP);
            None
        }
    }
}

fn count(number: i128) -> Cores {
    Cores::Count(usize::try_from(number).expect("the range says so"))
}

/// Core numbers with commas and ranges, in order, without repeats.
fn core_list(text: &str) -> Result<Vec<usize>, &'static str> {
    let number = |text: &str| {
        let number: usize = text.trim().parse().map_err(|_| "a part is no core number")?;
        if number > CORE_NUMBER_MAX { Err("a core number is too large") } else { Ok(number) }
    };
    let mut list = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if last < first {
            return Err("a range ends before it starts");
        }
        for core in first..=last {
            if list.contains(&core) {
                return Err("a core is named twice");
            }
            list.push(core);
        }
        if list.len() > SHARDS_MAX {
            return Err("more than 256 cores");
        }
    }
    list.sort_unstable();
    Ok(list)
}

/// Reads `service.telemetry`.
pub(crate) fn telemetry(service: &Section<'_>, admin_address: Option<SocketAddr>) -> TelemetrySettings {
    let section = service.section_or_empty("telemetry");
    let logs = section.section_or_empty("logs");
    let log_level = logs.choice("level", &LOG_LEVEL, LogLevel::Info);
    let log_json = logs.choice("encoding", &[("console", false), ("json", true)], false);
    logs_not_built(&logs);
    let metrics = section.section_or_empty("metrics");
    let metrics_level = metrics.choice("level", &METRICS_LEVEL, MetricsLevel::Normal);
    let address = metrics_address(&metrics);
    metrics.no_effect("views", Idle::Zero, "remove it; drop series where they are scraped");
    section.no_effect("resource", Idle::Zero, "set these labels where the metrics are scraped");
    if let Some(traces) = section.section("traces") {
        traces.no_effect("level", Idle::Text(&["none"]), "remove it: the gateway writes no spans of its own");
        traces.no_effect("processors", Idle::Zero, "remove it: the gateway writes no spans of its own");
        traces.ignored(&["propagators"]);
    }
    TelemetrySettings {
        metrics_address: (metrics_level != MetricsLevel::None).then_some(address).flatten(),
        metrics_level,
        admin_address,
        log_level,
        log_json,
    }
}

fn logs_not_built(logs: &Section<'_>) {
    let stderr = "remove it: logs go to standard error";
    logs.no_effect("output_paths", Idle::Zero, stderr);
    logs.no_effect("error_output_paths", Idle::Zero, stderr);
    logs.no_effect("sampling", Idle::Zero, "remove it: what repeats is logged once in a while");
    logs.no_effect("initial_fields", Idle::Zero, "add fields where the logs are collected");
    logs.no_effect("processors", Idle::Zero, "collect standard error instead");
    logs.no_effect("development", Idle::Bool(false), "write `level: debug`");
    // Our lines have neither.
    logs.ignored(&["disable_caller", "disable_stacktrace", "disable_zap_resource"]);
}

/// `address`, or the first Prometheus reader's host and port.
fn metrics_address(metrics: &Section<'_>) -> Option<SocketAddr> {
    let readers = metrics.field("readers");
    let read = readers.iter().flat_map(|field| field.items()).filter_map(|item| reader(&item));
    let mut addresses: Vec<SocketAddr> = read.collect();
    let written = metrics.field("address").filter(|field| !field.node.is_null());
    if let Some(field) = written {
        return endpoint::listen_numeric(&field);
    }
    match addresses.len() {
        // An empty list or none but pushing readers: the Collector serves nothing, which would blind the alerts.
        0 => Some(loopback(METRICS_PORT)),
        1 => addresses.pop(),
        _ => {
            if let Some(field) = readers {
                field.warning("only the first Prometheus reader is served", "remove the others");
            }
            addresses.into_iter().next()
        }
    }
}

fn reader(field: &Field<'_>) -> Option<SocketAddr> {
    let section = field.section()?;
    section.no_effect("periodic", Idle::Zero, "scrape `/metrics` instead; the gateway does not push its own metrics");
    let pull = section.section("pull")?;
    let exporter = pull.section("exporter")?;
    let prometheus = exporter.section("prometheus")?;
    let host = prometheus.text("host").unwrap_or_else(|| "localhost".to_owned());
    let port = prometheus.field("port").and_then(|field| field.int(0..=65535)).unwrap_or(METRICS_PORT.into());
    reader_names(&prometheus);
    let host = if host == "localhost" { "127.0.0.1".to_owned() } else { host };
    match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(host) => Some(SocketAddr::new(host, u16::try_from(port).expect("the range says so"))),
        Err(_) => {
            if let Some(field) = prometheus.field("host") {
                field.expected("a numeric address", "write an address such as `127.0.0.1` or `0.0.0.0`");
            }
            None
        }
    }
}

/// With a reader the Collector adds suffixes to names unless told not to; ours are always the plain ones.
fn reader_names(prometheus: &Section<'_>) {
    for key in ["without_type_suffix", "without_units", "without_scope_info"] {
        let plain = prometheus.boolean(key, false);
        if !plain && let Some(field) = prometheus.field(key) {
            field.warning("has no effect yet: names are written without suffixes", format!("write `{key}: true`"));
        }
    }
    prometheus.no_effect("with_resource_constant_labels", Idle::Zero, "set these labels where the metrics are scraped");
    prometheus.ignored(&["translation_strategy"]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_lists_have_ranges_and_no_repeats() {
        assert_eq!(core_list("0-3,6"), Ok(vec![0, 1, 2, 3, 6]));
        assert_eq!(core_list("6-6"), Ok(vec![6]));
        assert_eq!(core_list("5, 1"), Ok(vec![1, 5]));
        for wrong in ["", "a", "1-", "-1", "3-1", "1,1", "0-3,2", "0-4095", "5000", "1..3"] {
            assert!(core_list(wrong).is_err(), "{wrong}");
        }
    }
}
