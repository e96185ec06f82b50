//! `exporters.otlp` (`otlp_grpc`) and `exporters.otlphttp` (`otlp_http`).

use super::{auth, client, endpoint};
use crate::config::checked::{Balancer, Endpoint, ExporterKind, NameSettings, OtlpExporterSettings};
use crate::config::proxy;
use crate::config::section::{Field, Idle, Section};
use codecs::compression::Compression;
use codecs::otlp::{Format, Signal};

const GRPC_TIMEOUT_NS: u64 = 5_000_000_000;
const HTTP_TIMEOUT_NS: u64 = 30_000_000_000;
const IDLE_CONNECTION_NS: i64 = 90_000_000_000;
const HTTP2_PING_NS: i64 = 15_000_000_000;

/// An exporter as defined: what it is for each signal, in the order of [`Signal::ALL`]; `None` where it has no endpoint for
/// that signal.
#[derive(Clone, Debug)]
pub(crate) struct Definition {
    kinds: [Option<ExporterKind>; Signal::ALL.len()],
}

impl Definition {
    /// The same for every signal.
    pub(crate) fn of(kind: ExporterKind) -> Definition {
        Definition { kinds: [Some(kind.clone()), Some(kind.clone()), Some(kind)] }
    }

    /// For metrics only.
    pub(crate) fn of_metrics(kind: ExporterKind) -> Definition {
        Definition { kinds: [None, Some(kind), None] }
    }

    /// What it is for this signal.
    pub(crate) fn kind(&self, signal: Signal) -> Option<&ExporterKind> {
        self.kinds[signal as usize].as_ref()
    }
}

/// Reads the settings of an exporter over gRPC.
pub(crate) fn check_grpc(field: &Field<'_>) -> Option<Definition> {
    let section = field.section()?;
    let target = grpc_target(&section);
    let tls = client::tls(&section);
    grpc_keys_not_built(&section);
    let shared = shared(&section, GRPC_TIMEOUT_NS, &client::GRPC_COMPRESSIONS);
    let balancer = balancer(&section);
    let target = target?;
    let plain_text = match target.scheme {
        Scheme::Http => true,
        Scheme::Https => false,
        Scheme::None => tls.insecure,
    };
    Some(Definition::of(ExporterKind::OtlpGrpc(OtlpExporterSettings {
        endpoint: target.endpoint,
        path: String::new(),
        tls: (!plain_text).then_some(tls.settings),
        names: NameSettings { balancer: target.balancer.unwrap_or(balancer), ..shared.names },
        ..shared
    })))
}

/// Reads the settings of an exporter over HTTP.
pub(crate) fn check_http(field: &Field<'_>) -> Option<Definition> {
    let section = field.section()?;
    let targets = http_targets(&section);
    let tls = client::tls(&section);
    http_keys_not_built(&section);
    let proxy = section.field("proxy_url").and_then(|field| proxy::proxy_url(&field));
    let shared = shared(&section, HTTP_TIMEOUT_NS, &client::HTTP_COMPRESSIONS);
    let format = format(&section);
    let kinds = targets?.map(|target| {
        let target = target?;
        Some(ExporterKind::OtlpHttp(OtlpExporterSettings {
            endpoint: target.endpoint,
            path: target.path,
            format,
            // The scheme decides, as in the Collector; `tls.insecure` does not.
            tls: target.tls.then(|| tls.settings.clone()),
            proxy: proxy.clone(),
            ..shared.clone()
        }))
    });
    Some(Definition { kinds })
}

/// What both protocols have; endpoint, path and TLS are filled in by the caller.
fn shared(section: &Section<'_>, timeout_ns: u64, compressions: &[(&str, Compression)]) -> OtlpExporterSettings {
    client::keys_not_built(section);
    let (compression, compression_level) = client::compression(section, compressions);
    OtlpExporterSettings {
        endpoint: Endpoint { host: String::new(), port: 0 },
        path: String::new(),
        tls: None,
        format: Format::Protobuf,
        compression,
        compression_level,
        headers: client::headers(section),
        authenticator: auth::authenticator(section),
        proxy: None,
        names: client::names(section),
        timeout_ns: section.duration_ns("timeout", timeout_ns),
        retry: client::retry(section),
        queue: super::sending_queue::queue(section),
    }
}

/// What a gRPC endpoint's prefix says about encryption.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    None,
    Http,
    Https,
}

struct GrpcTarget {
    scheme: Scheme,
    endpoint: Endpoint,
    /// What the target leaves no choice of: behind `passthrough` gRPC sees one address, whatever the name has.
    balancer: Option<Balancer>,
}

/// `balancer_name`, by default as the Collector has it.
fn balancer(section: &Section<'_>) -> Balancer {
    const KNOWN: [(&str, Balancer); 3] =
        [("round_robin", Balancer::RoundRobin), ("pick_first", Balancer::PickFirst), ("", Balancer::RoundRobin)];
    section.choice("balancer_name", &KNOWN, Balancer::RoundRobin)
}

fn grpc_target(section: &Section<'_>) -> Option<GrpcTarget> {
    const HELP: &str =
        "write `host:port`, as in `tempo:4317`; `http://` in front means plain text, `https://` means TLS";
    let Some(field) = section.field("endpoint") else {
        section.error("`endpoint` is missing", "add `endpoint: host:4317`");
        return None;
    };
    let text = field.text()?;
    if text.is_empty() {
        field.error("the endpoint is empty", HELP);
        return None;
    }
    if text.starts_with("unix:") {
        field.lacking("not built yet: Unix sockets", HELP);
        return None;
    }
    let (scheme, rest) = match text.split_once("://") {
        None => (Scheme::None, text.as_str()),
        Some((scheme, rest)) => match scheme.to_ascii_lowercase().as_str() {
            "http" => (Scheme::Http, rest),
            "https" => (Scheme::Https, rest),
            // `dns://authority/host:port`; the name server in the middle is ours to choose.
            "dns" => (Scheme::None, rest.rsplit_once('/').map_or(rest, |(_, host)| host)),
            "passthrough" => (Scheme::None, rest.trim_start_matches('/')),
            _ => {
                field.expected("`host:port`", HELP);
                return None;
            }
        },
    };
    let balancer = text.starts_with("passthrough:").then_some(Balancer::PickFirst);
    let rest = rest.strip_prefix("dns:").unwrap_or(rest);
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    match endpoint::host_and_port(rest) {
        Ok(endpoint) if !endpoint.host.is_empty() && endpoint.port > 0 => {
            Some(GrpcTarget { scheme, endpoint, balancer })
        }
        Ok(_) => {
            field.expected("`host:port` with both parts", HELP);
            None
        }
        Err(problem) => {
            field.expected(&format!("`host:port` ({problem})"), HELP);
            None
        }
    }
}

fn grpc_keys_not_built(section: &Section<'_>) {
    if let Some(keepalive) = section.section("keepalive") {
        for key in ["time", "timeout"] {
            keepalive.no_effect(key, Idle::Zero, "remove it; a broken connection is noticed by the request's timeout");
        }
        keepalive.no_effect("permit_without_stream", Idle::Bool(false), "remove it");
    }
    // A request waits for its connection up to its timeout, as with this set.
    section.ignored(&["wait_for_ready"]);
    section.no_effect("user_agent", Idle::Zero, "remove it");
    section.unsupported("authority", Idle::Zero, "an `:authority` of your own", "name the host in `endpoint`");
    section.no_effect("batcher", Idle::Disabled, "put a `batch` processor at the end of the pipeline");
}

/// Where each signal goes, in the order of [`Signal::ALL`]; `None` for one that has neither a base nor an endpoint of its
/// own.
fn http_targets(section: &Section<'_>) -> Option<[Option<endpoint::HttpUrl>; Signal::ALL.len()]> {
    let written = |key| section.field(key).filter(|field| !field.node.is_null());
    let base = written("endpoint");
    if let Some(field) = section.field("profiles_endpoint") {
        http_url(&field);
    }
    let own = ["traces_endpoint", "metrics_endpoint", "logs_endpoint"].map(written);
    if base.is_none() && own.iter().all(Option::is_none) {
        section.error(
            "`endpoint` is missing",
            "add `endpoint: http://host:4318`, or `traces_endpoint` with the whole URL",
        );
        return None;
    }
    let base = match base {
        None => None,
        Some(field) => {
            let url = http_url(&field)?;
            if url.path.contains('?') && own.iter().any(Option::is_none) {
                field.expected("a base URL without `?`", "write the whole URL into `traces_endpoint`");
                return None;
            }
            Some(url)
        }
    };
    let below_base = |signal: Signal| {
        base.as_ref().map(|url| {
            let path = url.path.strip_suffix('/').unwrap_or(&url.path);
            endpoint::HttpUrl { path: format!("{path}{}", signal.http_path()), ..url.clone() }
        })
    };
    let mut targets = Signal::ALL.map(below_base);
    for (target, field) in targets.iter_mut().zip(&own) {
        let Some(field) = field else { continue };
        let mut url = http_url(field)?;
        if url.path.is_empty() {
            url.path.push('/');
        }
        *target = Some(url);
    }
    Some(targets)
}

fn http_url(field: &Field<'_>) -> Option<endpoint::HttpUrl> {
    let text = field.text().filter(|text| !text.is_empty())?;
    let read = endpoint::http_url(&text);
    if let Err(problem) = &read {
        field
            .expected(&format!("a URL ({problem})"), "write a URL such as `http://tempo:4318` or `https://tempo:4318`");
    }
    read.ok()
}

/// `encoding` of requests.
fn format(section: &Section<'_>) -> Format {
    let Some(field) = section.field("encoding").filter(|field| !field.node.is_null()) else {
        return Format::Protobuf;
    };
    match field.text().as_deref() {
        Some("json") => Format::Json,
        Some("proto") | None => Format::Protobuf,
        Some(_) => {
            field.expected("`proto` or `json`", "write `encoding: proto`, or remove it");
            Format::Protobuf
        }
    }
}

pub(super) fn http_keys_not_built(section: &Section<'_>) {
    section.unsupported("cookies", Idle::Disabled, "cookies", "remove it");
    let instead = "remove it: each shard keeps the connections it needs";
    section.no_effect("max_idle_conns", Idle::Int(100), instead);
    section.no_effect("max_idle_conns_per_host", Idle::Zero, instead);
    section.no_effect("max_conns_per_host", Idle::Zero, "bound requests with `sending_queue.num_consumers`");
    section.no_effect("idle_conn_timeout", Idle::Nanoseconds(IDLE_CONNECTION_NS), instead);
    section.no_effect("disable_keep_alives", Idle::Bool(false), instead);
    section.no_effect("http2_read_idle_timeout", Idle::Zero, instead);
    section.no_effect("http2_ping_timeout", Idle::Nanoseconds(HTTP2_PING_NS), instead);
    // Which version of HTTP is spoken changes nothing in what arrives.
    section.ignored(&["force_attempt_http2"]);
}
