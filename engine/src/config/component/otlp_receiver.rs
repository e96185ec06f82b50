//! `receivers.otlp`: OTLP over gRPC and over HTTP.
//!
//! A protocol is served if its key is there, even without a value; its defaults are the Collector's.

use super::{auth, endpoint};
use crate::config::checked::{Endpoint, GrpcServerSettings, HttpServerSettings, OtlpReceiverSettings};
use crate::config::section::{Field, Idle, Section};

const GRPC_PORT: u16 = 4317;
const HTTP_PORT: u16 = 4318;
const GRPC_MESSAGE_MIB: u32 = 4;
const HTTP_BODY_BYTES: usize = 20 << 20;
/// Largest bounds that may be asked for; a length has to fit in 31 bits on the wire.
const MESSAGE_MIB_MAX: i128 = 2047;
const HTTP_TRACES_PATH: &str = "/v1/traces";

const NO_TLS: &str = "TLS on a receiver; connections would be in plain text";
const NO_TLS_INSTEAD: &str = "terminate TLS in front of the gateway and remove `tls` here";
const NO_MIDDLEWARE: &str = "middlewares";

/// Reads the settings of one receiver.
pub(crate) fn check(field: &Field<'_>) -> Option<OtlpReceiverSettings> {
    let section = field.section()?;
    let Some(protocols) = section.section("protocols") else {
        section.error(
            "no protocol is given",
            "add `protocols:` with `grpc:` and `http:` below it; each listens on its default port",
        );
        return None;
    };
    let grpc = protocols.field("grpc").and_then(|field| grpc(&field));
    let http = protocols.field("http").and_then(|field| http(&field));
    if grpc.is_none() && http.is_none() {
        // With a wrong protocol an error is there already, and this one does not hurt.
        protocols.error("no protocol is given", "add `grpc:` or `http:` below this key; both may be empty");
        return None;
    }
    Some(OtlpReceiverSettings { grpc, http })
}

fn grpc(field: &Field<'_>) -> Option<GrpcServerSettings> {
    let section = field.section()?;
    let endpoint = server_endpoint(&section, GRPC_PORT);
    let message_mib = section
        .field("max_recv_msg_size_mib")
        .and_then(|field| field.int(0..=MESSAGE_MIB_MAX))
        .filter(|mib| *mib > 0)
        .unwrap_or(GRPC_MESSAGE_MIB.into());
    let streams_max = Some(section.u32("max_concurrent_streams", 0, 0)).filter(|streams| *streams > 0);
    let instead = "remove it: buffers size themselves";
    section.no_effect("read_buffer_size", Idle::Int(512 << 10), instead);
    section.no_effect("write_buffer_size", Idle::Zero, instead);
    if let Some(keepalive) = section.section("keepalive") {
        grpc_keepalive(&keepalive);
    }
    shared_server_keys(&section);
    let head = auth::head(&section, false);
    Some(GrpcServerSettings {
        endpoint,
        message_bytes_max: usize::try_from(message_mib << 20).expect("at most 2047 MiB"),
        streams_max,
        head,
    })
}

fn grpc_keepalive(section: &Section<'_>) {
    let instead = "remove it; connections stay open until the peer closes them";
    if let Some(server) = section.section("server_parameters") {
        for key in ["max_connection_idle", "max_connection_age", "max_connection_age_grace", "time", "timeout"] {
            server.no_effect(key, Idle::Zero, instead);
        }
    }
    if let Some(policy) = section.section("enforcement_policy") {
        // Pings are answered whatever their rate; the transport bounds floods itself.
        policy.ignored(&["min_time", "permit_without_stream"]);
    }
}

fn http(field: &Field<'_>) -> Option<HttpServerSettings> {
    let section = field.section()?;
    let endpoint = server_endpoint(&section, HTTP_PORT);
    let body_bytes_max = section
        .field("max_request_body_size")
        .and_then(|field| field.int(0..=MESSAGE_MIB_MAX << 20))
        .and_then(|bytes| usize::try_from(bytes).ok())
        .filter(|bytes| *bytes > 0)
        .unwrap_or(HTTP_BODY_BYTES);
    let traces_path = section
        .field("traces_url_path")
        .and_then(|field| url_path(&field))
        .unwrap_or_else(|| HTTP_TRACES_PATH.to_owned());
    // Paths of signals that no pipeline has.
    for key in ["metrics_url_path", "logs_url_path"] {
        if let Some(field) = section.field(key) {
            url_path(&field);
        }
    }
    compression_algorithms(&section);
    section.no_effect(
        "cors",
        Idle::Zero,
        "browsers from other origins are refused; send through the page's own origin",
    );
    section.no_effect("response_headers", Idle::Zero, "let a proxy in front add headers to answers");
    for key in ["read_timeout", "read_header_timeout", "write_timeout", "idle_timeout"] {
        section.no_effect(key, Idle::Zero, "remove it");
    }
    section.no_effect("keep_alives_enabled", Idle::Bool(true), "remove it; connections are kept alive");
    shared_server_keys(&section);
    let head = auth::head(&section, true);
    Some(HttpServerSettings { endpoint, body_bytes_max, traces_path, head })
}

/// Keys that both protocols have.
fn shared_server_keys(section: &Section<'_>) {
    section.unsupported(
        "transport",
        Idle::Text(&["tcp", "tcp4", "tcp6"]),
        "transports other than TCP",
        "write `transport: tcp` and an address in `endpoint`",
    );
    section.unsupported("tls", Idle::Zero, NO_TLS, NO_TLS_INSTEAD);
    section.unsupported("middlewares", Idle::Zero, NO_MIDDLEWARE, "remove it");
}

fn server_endpoint(section: &Section<'_>, port: u16) -> Endpoint {
    let written = section.field("endpoint").filter(|field| !field.node.is_null());
    written
        .and_then(|field| endpoint::listen(&field))
        .unwrap_or_else(|| Endpoint { host: "localhost".to_owned(), port })
}

/// A path of a URL; a leading `/` is added where it is missing.
fn url_path(field: &Field<'_>) -> Option<String> {
    let text = field.text().filter(|text| !text.is_empty())?;
    let path = if text.starts_with('/') { text } else { format!("/{text}") };
    let allowed = |byte: u8| byte.is_ascii_graphic() && !b"?#%".contains(&byte);
    if path.bytes().all(allowed) {
        return Some(path);
    }
    field.expected("the path of a URL", "write a path such as `/v1/traces`, without `?`, `#`, `%` or spaces");
    None
}

/// Which compressions of requests are taken: all that the Collector has, and they cannot be narrowed.
fn compression_algorithms(section: &Section<'_>) {
    const TAKEN: [&str; 8] = ["", "gzip", "zstd", "zlib", "snappy", "deflate", "lz4", "x-snappy-framed"];
    let Some(field) = section.field("compression_algorithms") else {
        return;
    };
    let listed = field.texts();
    for (text, item) in &listed {
        if !TAKEN.contains(&text.as_str()) {
            item.expected(&format!("one of {}", TAKEN[1..].join(", ")), "remove it");
        }
    }
    let narrowed = TAKEN.iter().any(|taken| !listed.iter().any(|(text, _)| text == taken));
    if narrowed && !listed.is_empty() {
        field.warning("has no effect yet", format!("remove it; {} and none are always taken", TAKEN[1..].join(", ")));
    }
}
