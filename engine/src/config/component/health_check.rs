//! `extensions.health_check` and `extensions.healthcheckv2`: one set of keys, two behaviours chosen by `use_v2`.
//!
//! `auth`, the key of an HTTP server that says who may ask, is an error where the extension is listed.

use crate::config::checked::{ExtensionKind, HealthCheckSettings, HealthCheckV2Settings, TlsServerSettings};
use crate::config::component::{endpoint, tls};
use crate::config::section::{Field, Idle, Section};
use crate::config::service::loopback;

const PORT: u16 = 13133;
const GRPC_PORT: u16 = 13132;
/// The Collector's default.
const STATUS_PATH: &str = "/status";
/// Longest text of a `response_body`.
const BODY_BYTES_MAX: usize = 16 << 10;

/// A listener, and its `tls`.
type Listening = (ExtensionKind, Option<TlsServerSettings>);

/// Reads the settings: one listener, or with `use_v2` one for HTTP, one for gRPC, or both.
pub(crate) fn check(field: &Field<'_>) -> Option<Vec<Listening>> {
    let section = field.section()?;
    let v2 = section.boolean("use_v2", false);
    let first = first_version(&section);
    let first_tls = tls::server(&section);
    section.ignored(&["check_collector_pipeline"]);
    if let Some(health) = section.section("component_health") {
        for key in ["include_permanent_errors", "include_recoverable_errors"] {
            health.no_effect(
                key,
                Idle::Bool(false),
                "remove it: an exporter that fails does not make the gateway unhealthy",
            );
        }
        health.ignored(&["recovery_duration"]);
    }
    let http = section.section("http").map(|http| {
        let (kind, tls) = (second_version(&http).map(ExtensionKind::HealthCheckV2), tls::server(&http));
        kind.map(|kind| (kind, tls))
    });
    let grpc = section.section("grpc").map(|grpc| {
        let (kind, tls) = (address_of_grpc(&grpc).map(ExtensionKind::HealthCheckGrpc), tls::server(&grpc));
        kind.map(|kind| (kind, tls))
    });
    if !v2 {
        if http.is_some() || grpc.is_some() {
            section.warning("`http` and `grpc` need `use_v2: true`", "add `use_v2: true`, or remove them");
        }
        return first.map(|first| vec![(ExtensionKind::HealthCheck(first), first_tls)]);
    }
    if http.is_none() && grpc.is_none() {
        section.error("`use_v2` needs `http` or `grpc`", "add `http: {endpoint: localhost:13133}`");
    }
    http.into_iter().chain(grpc).collect()
}

fn first_version(section: &Section<'_>) -> Option<HealthCheckSettings> {
    // Every key is asked for even if one of them is wrong.
    let address = address(section);
    let (mut healthy_body, mut unhealthy_body) = (None, None);
    if let Some(body) = section.section("response_body") {
        healthy_body = text(&body, "healthy");
        unhealthy_body = text(&body, "unhealthy");
    }
    let path = path(section, "/");
    Some(HealthCheckSettings { address: address?, path, healthy_body, unhealthy_body })
}

fn second_version(http: &Section<'_>) -> Option<HealthCheckV2Settings> {
    let address = address(http);
    let status = http.section_or_empty("status");
    let enabled = status.boolean("enabled", true);
    let status_path = path(&status, STATUS_PATH);
    if let Some(config) = http.section("config") {
        config.no_effect("enabled", Idle::Bool(false), "print it instead: `tracegate print-config --config FILE`");
        config.ignored(&["path"]);
    }
    Some(HealthCheckV2Settings { address: address?, status_path: enabled.then_some(status_path) })
}

fn address_of_grpc(grpc: &Section<'_>) -> Option<std::net::SocketAddr> {
    grpc.unsupported("auth", Idle::Zero, "authentication on a health check", "remove it: the answer is no secret");
    let address = match grpc.field("endpoint").filter(|field| !field.node.is_null()) {
        Some(field) => endpoint::listen_numeric(&field),
        None => Some(loopback(GRPC_PORT)),
    };
    grpc.ignored(&[
        "transport",
        "keepalive",
        "max_recv_msg_size_mib",
        "max_concurrent_streams",
        "read_buffer_size",
        "write_buffer_size",
        "include_metadata",
        "middlewares",
    ]);
    address
}

/// `endpoint`, and what else a server of the Collector has.
fn address(section: &Section<'_>) -> Option<std::net::SocketAddr> {
    section.unsupported("auth", Idle::Zero, "authentication on a health check", "remove it: the answer is no secret");
    section.ignored(&[
        "transport",
        "cors",
        "max_request_body_size",
        "include_metadata",
        "response_headers",
        "compression_algorithms",
        "read_timeout",
        "read_header_timeout",
        "write_timeout",
        "idle_timeout",
        "keep_alives_enabled",
        "middlewares",
    ]);
    match section.field("endpoint").filter(|field| !field.node.is_null()) {
        Some(field) => endpoint::listen_numeric(&field),
        None => Some(loopback(PORT)),
    }
}

fn path(section: &Section<'_>, default: &str) -> String {
    let path = section.text("path").unwrap_or_else(|| default.to_owned());
    if path.starts_with('/') { path } else { format!("/{path}") }
}

fn text(section: &Section<'_>, key: &'static str) -> Option<String> {
    let field = section.field(key)?;
    let text = field.text().filter(|text| !text.is_empty())?;
    if text.len() > BODY_BYTES_MAX {
        field.error(format!("the text has {} bytes, more than {BODY_BYTES_MAX}", text.len()), "shorten it");
        return None;
    }
    Some(text)
}
