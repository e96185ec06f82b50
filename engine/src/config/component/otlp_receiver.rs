//! `receivers.otlp`: OTLP over gRPC and over HTTP.
//!
//! A protocol is served if its key is there, even without a value; its defaults are the Collector's.

use super::{auth, client, endpoint, tls};
use crate::config::checked::{
    CorsSettings, Endpoint, GrpcServerSettings, HttpServerSettings, HttpTimeouts, KeepaliveSettings,
    OtlpReceiverSettings, PingPolicy, SocketFamily,
};
use crate::config::section::{Field, Idle, Section};
use codecs::otlp::Signal;

const GRPC_PORT: u16 = 4317;
const HTTP_PORT: u16 = 4318;
const GRPC_MESSAGE_MIB: u32 = 4;
const HTTP_BODY_BYTES: usize = 20 << 20;
/// Largest bounds that may be asked for; a length has to fit in 31 bits on the wire.
const MESSAGE_MIB_MAX: i128 = 2047;
/// The least silence before a sign of life is asked for, as in the Collector's gRPC library.
const PING_AFTER_NS_MIN: u64 = 1_000_000_000;
/// `min_time` unless written, as in the Collector's gRPC library.
const PING_INTERVAL_NS_MIN: u64 = 300_000_000_000;

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
    Some(OtlpReceiverSettings { grpc, http, files: None })
}

fn grpc(field: &Field<'_>) -> Option<GrpcServerSettings> {
    let section = field.section()?;
    let (endpoint, family) = server_endpoint(&section, GRPC_PORT);
    let message_mib = section
        .field("max_recv_msg_size_mib")
        .and_then(|field| field.int(0..=MESSAGE_MIB_MAX))
        .filter(|mib| *mib > 0)
        .unwrap_or(GRPC_MESSAGE_MIB.into());
    let streams_max = Some(section.u32("max_concurrent_streams", 0, 0)).filter(|streams| *streams > 0);
    // Buffers here grow with what arrives; what they hold does not depend on it.
    section.ignored(&["read_buffer_size", "write_buffer_size"]);
    let keepalive = section.section("keepalive").map_or_else(KeepaliveSettings::default, |keepalive| {
        let ping_policy = keepalive.section("enforcement_policy").map(|policy| ping_policy(&policy));
        KeepaliveSettings { ping_policy, ..server_parameters(&keepalive) }
    });
    shared_server_keys(&section);
    let head = auth::head(&section, false);
    Some(GrpcServerSettings {
        endpoint,
        message_bytes_max: usize::try_from(message_mib << 20).expect("at most 2047 MiB"),
        streams_max,
        head,
        family,
        keepalive,
        tls: tls::server(&section),
    })
}

/// `keepalive.server_parameters`; 0 is the default of the Collector's gRPC library.
fn server_parameters(keepalive: &Section<'_>) -> KeepaliveSettings {
    let default = KeepaliveSettings::default();
    let Some(section) = keepalive.section("server_parameters") else {
        return default;
    };
    let age_ns_max = nonzero_ns(&section, "max_connection_age");
    KeepaliveSettings {
        connection_idle_ns_max: nonzero_ns(&section, "max_connection_idle"),
        connection_age_ns_max: age_ns_max,
        connection_age_grace_ns: nonzero_ns(&section, "max_connection_age_grace"),
        ping_after_ns: nonzero_ns(&section, "time").map_or(default.ping_after_ns, |ns| ns.max(PING_AFTER_NS_MIN)),
        ping_timeout_ns: nonzero_ns(&section, "timeout").unwrap_or(default.ping_timeout_ns),
        ping_policy: None,
    }
}

fn ping_policy(section: &Section<'_>) -> PingPolicy {
    PingPolicy {
        interval_ns_min: nonzero_ns(section, "min_time").unwrap_or(PING_INTERVAL_NS_MIN),
        without_calls: section.boolean("permit_without_stream", false),
    }
}

/// A duration that is there and not 0.
fn nonzero_ns(section: &Section<'_>, key: &'static str) -> Option<u64> {
    Some(section.duration_ns(key, 0)).filter(|ns| *ns > 0)
}

fn http(field: &Field<'_>) -> Option<HttpServerSettings> {
    let section = field.section()?;
    let (endpoint, family) = server_endpoint(&section, HTTP_PORT);
    let body_bytes_max = section
        .field("max_request_body_size")
        .and_then(|field| field.int(0..=MESSAGE_MIB_MAX << 20))
        .and_then(|bytes| usize::try_from(bytes).ok())
        .filter(|bytes| *bytes > 0)
        .unwrap_or(HTTP_BODY_BYTES);
    let paths =
        [(Signal::Traces, "traces_url_path"), (Signal::Metrics, "metrics_url_path"), (Signal::Logs, "logs_url_path")];
    let paths = paths.map(|(signal, key)| {
        let written = section.field(key).and_then(|field| url_path(&field));
        written.unwrap_or_else(|| signal.http_path().to_owned())
    });
    compression_algorithms(&section);
    let timeouts = HttpTimeouts {
        read_header_ns: nonzero_ns(&section, "read_header_timeout"),
        read_ns: nonzero_ns(&section, "read_timeout"),
        write_ns: nonzero_ns(&section, "write_timeout"),
        idle_ns: nonzero_ns(&section, "idle_timeout"),
    };
    let keepalive = section.section("keepalive");
    shared_server_keys(&section);
    let head = auth::head(&section, true);
    Some(HttpServerSettings {
        head,
        endpoint,
        body_bytes_max,
        paths,
        family,
        keepalive: keepalive.map_or_else(KeepaliveSettings::default, |keepalive| server_parameters(&keepalive)),
        timeouts,
        keeps_alive: section.boolean("keep_alives_enabled", true),
        cors: section.field("cors").and_then(|field| cors(&field)),
        response_headers: client::headers_of(&section, "response_headers"),
        tls: tls::server(&section),
    })
}

/// Permission for browsers of other origins. Without an origin the rest is idle, as in the Collector.
fn cors(field: &Field<'_>) -> Option<CorsSettings> {
    let section = field.section()?;
    let texts = |key| {
        let field = section.field(key);
        field.map_or_else(Vec::new, |field| field.texts().into_iter().map(|(text, _)| text).collect::<Vec<String>>())
    };
    let (allowed_origins, allowed_headers) = (texts("allowed_origins"), texts("allowed_headers"));
    let exposed_headers = header_names(&section, "exposed_headers");
    let seconds_max = section.field("max_age").and_then(|field| field.int(0..=i32::MAX.into()));
    if allowed_origins.is_empty() {
        if !section.is_empty() {
            field
                .warning("has no effect without `allowed_origins`", "add `allowed_origins: [https://app.example.com]`");
        }
        return None;
    }
    let seconds_max = seconds_max.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0);
    Some(CorsSettings { allowed_origins, allowed_headers, exposed_headers, seconds_max })
}

/// Names that can stand in a header of an answer.
fn header_names(section: &Section<'_>, key: &'static str) -> Vec<String> {
    let listed = section.field(key).map_or_else(Vec::new, |field| field.texts());
    let valid = |(name, item): &(String, Field<'_>)| {
        let valid = http::HeaderName::from_bytes(name.as_bytes()).is_ok();
        if !valid {
            item.expected("the name of a header", "use letters, digits and `-`");
        }
        valid
    };
    listed.into_iter().filter(valid).map(|(name, _)| name).collect()
}

/// Keys that both protocols have.
fn shared_server_keys(section: &Section<'_>) {
    section.unsupported("middlewares", Idle::Zero, NO_MIDDLEWARE, "remove it");
}

/// `transport` and `endpoint`: where to listen.
fn server_endpoint(section: &Section<'_>, port: u16) -> (Endpoint, SocketFamily) {
    let families = [
        ("", SocketFamily::Tcp),
        ("tcp", SocketFamily::Tcp),
        ("tcp4", SocketFamily::Tcp4),
        ("tcp6", SocketFamily::Tcp6),
        ("unix", SocketFamily::Unix),
    ];
    let family = section.choice("transport", &families, SocketFamily::Tcp);
    let written = section.field("endpoint").filter(|field| !field.node.is_null());
    let default = Endpoint { host: "localhost".to_owned(), port };
    let endpoint = match (written, family) {
        (Some(field), SocketFamily::Unix) => socket_path(&field),
        (Some(field), SocketFamily::Tcp6) => endpoint::listen(&field).map(|endpoint| match endpoint.host.as_str() {
            "0.0.0.0" => Endpoint { host: "::".to_owned(), ..endpoint },
            _ => endpoint,
        }),
        (Some(field), _) => endpoint::listen(&field),
        (None, SocketFamily::Unix) => {
            section.error("`endpoint` is missing", "add `endpoint: /run/tracegate/otlp.sock`, the path of the socket");
            None
        }
        (None, _) => None,
    };
    (endpoint.unwrap_or(default), family)
}

/// The kernel's limit for the path of a socket, with the zero byte at its end.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The path of a Unix domain socket.
fn socket_path(field: &Field<'_>) -> Option<Endpoint> {
    let text = field.text()?;
    let path = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:")).unwrap_or(&text);
    if path.is_empty() || path.len() > SOCKET_PATH_BYTES_MAX || path.contains('\0') {
        let what = format!("the path of a socket of 1 to {SOCKET_PATH_BYTES_MAX} bytes");
        field.expected(&what, "write a path such as `/run/tracegate/otlp.sock`");
        return None;
    }
    Some(Endpoint { host: path.to_owned(), port: 0 })
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
