//! What the gateway says to a person: at start, after 30 quiet seconds, and when a port is taken.
//!
//! Pure: facts in, text out. Who prints it and where is the caller's business.

use std::fmt::Write;
use std::io;
use std::net::SocketAddr;

use codecs::otlp::Signal;
use codecs::otlp::proto::{
    AnyValue, ExportTraceServiceRequest, KeyValue, Resource, ResourceSpans, ScopeSpans, Span, SpanStatus, Value,
};
use prost::Message;

use super::port_owner::PortOwner;
use crate::config::checked::{ExtensionKind, ExtensionSettings, TlsServerSettings};
use crate::transport::acceptor::ListenAddress;

/// Facts of a gateway that is up.
#[derive(Clone, Debug)]
pub struct Start {
    /// Where senders may send; one per listener.
    pub receivers: Vec<Listening>,
    /// Receivers that read files.
    pub files: Vec<Reading>,
    /// `/metrics`, if it is served.
    pub metrics: Option<SocketAddr>,
    /// The admin pages, if they are served.
    pub admin: Option<SocketAddr>,
    /// Extensions that listen, and where.
    pub extensions: Vec<(ExtensionSettings, SocketAddr)>,
    /// Which runtime was taken: `io_uring` or `epoll`.
    pub runtime: String,
    /// Why that one.
    pub runtime_reason: String,
    /// Number of shards.
    pub shards: usize,
    /// The core of each shard if shards are pinned, in the order of the shards.
    pub pinned_cores: Option<Vec<usize>>,
    /// Why shards are pinned or not.
    pub pin_reason: String,
    /// The process budget.
    pub memory_limit_bytes: u64,
    /// Where the budget comes from.
    pub memory_reason: String,
    /// The configuration files, or that the built-in one is used.
    pub configuration: String,
    /// Whether a memory exporter keeps traces, so that `tracegate traces` can show them.
    pub keeps_traces: bool,
    /// Nanoseconds since 1970, for the example's timestamps.
    pub unix_ns: u64,
    /// Any number, for the example's ids.
    pub seed: u64,
}

/// One listener of a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// Receiver id.
    pub receiver: String,
    /// What it speaks.
    pub protocol: Protocol,
    /// Where, as the kernel bound it.
    pub address: ListenAddress,
    /// HTTP only: path of each signal that is taken.
    pub paths: Vec<(Signal, String)>,
    /// What connections have to pass.
    pub security: Security,
}

/// What a receiver of files reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Receiver id.
    pub receiver: String,
    /// Patterns of paths; at least one.
    pub patterns: Vec<String>,
    /// What files hold at the start is left out.
    pub starts_at_end: bool,
}

impl Reading {
    fn sentence(&self) -> String {
        const SHOWN_MAX: usize = 3;
        let shown = self.patterns[..self.patterns.len().min(SHOWN_MAX)].join(", ");
        let more = match self.patterns.len().saturating_sub(SHOWN_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let from = if self.starts_at_end { "what is added" } else { "from the beginning" };
        format!("{shown}{more}   ({}, {from})", self.receiver)
    }
}

/// What protects a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// Nothing.
    PlainText,
    /// TLS.
    Tls,
    /// TLS, and senders show certificates.
    MutualTls,
}

impl Security {
    /// What the settings of a listener say.
    pub fn of(tls: Option<&TlsServerSettings>) -> Security {
        match tls {
            None => Security::PlainText,
            Some(tls) if tls.client_ca.is_none() => Security::Tls,
            Some(_) => Security::MutualTls,
        }
    }

    fn scheme(self) -> &'static str {
        if self == Security::PlainText { "http" } else { "https" }
    }

    fn words(self) -> &'static str {
        match self {
            Security::PlainText => "",
            Security::Tls => ", TLS",
            Security::MutualTls => ", TLS with client certificates",
        }
    }
}

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP over gRPC.
    Grpc,
    /// OTLP over HTTP.
    Http,
}

/// The text at start: where to send, where to look, what it runs on, and a line to try it.
pub fn start(facts: &Start) -> String {
    let mut lines = vec![format!("Tracegate {} is up ({}).", env!("CARGO_PKG_VERSION"), facts.configuration)];
    if !facts.receivers.is_empty() {
        lines.push("  Send to".to_owned());
    }
    for listening in &facts.receivers {
        let Listening { receiver, protocol, address, security, .. } = listening;
        let (scheme, words) = (security.scheme(), security.words());
        let shown = match (protocol, address) {
            (Protocol::Grpc, _) => format!("OTLP/gRPC  {address}"),
            (Protocol::Http, ListenAddress::Internet(address)) => {
                format!("OTLP/HTTP  {scheme}://{address}{}", paths(listening))
            }
            (Protocol::Http, ListenAddress::Unix(_)) => {
                format!("OTLP/HTTP  {address}, path {}", paths(listening))
            }
        };
        lines.push(format!("    {shown}   ({receiver}{words})"));
    }
    if !facts.files.is_empty() {
        lines.push("  Reads files".to_owned());
        lines.extend(facts.files.iter().map(|reading| format!("    {}", reading.sentence())));
    }
    lines.push("  Look at".to_owned());
    if let Some(metrics) = facts.metrics {
        lines.push(format!("    metrics    http://{metrics}/metrics"));
    }
    if let Some(admin) = facts.admin {
        lines.push(format!("    admin      http://{admin}/"));
    }
    for (extension, address) in &facts.extensions {
        let path = match &extension.kind {
            ExtensionKind::HealthCheck(health) => health.path.as_str(),
            ExtensionKind::HealthCheckV2(health) => health.status_path.as_deref().unwrap_or("/"),
            ExtensionKind::HealthCheckGrpc(_) => " (gRPC)",
            ExtensionKind::Zpages(_) => "/",
            ExtensionKind::Pprof(_) => "/debug/pprof/",
        };
        let scheme = Security::of(extension.tls.as_ref()).scheme();
        lines.push(format!("    {:<10} {scheme}://{address}{path}", extension.id.to_string()));
    }
    lines.push("  Runs on".to_owned());
    lines.push(format!("    runtime    {} ({})", facts.runtime, facts.runtime_reason));
    lines.push(format!("    shards     {} ({})", shards(facts), facts.pin_reason));
    let mebibytes = facts.memory_limit_bytes >> 20;
    lines.push(format!("    memory     {mebibytes} MiB ({})", facts.memory_reason));
    if let Some(try_it) = try_it(facts) {
        lines.push("  Try it: this sends a trace with an error".to_owned());
        lines.push(format!("    {try_it}"));
        if facts.keeps_traces && facts.admin.is_some() {
            lines.push("  and after its decision wait this shows it and why it was kept".to_owned());
            lines.push(format!("    {}", traces_command(facts)));
        }
    }
    lines.join("\n") + "\n"
}

fn paths(listening: &Listening) -> String {
    let paths: Vec<&str> = listening.paths.iter().map(|(_, path)| path.as_str()).collect();
    paths.join(", ")
}

fn shards(facts: &Start) -> String {
    let plural = if facts.shards == 1 { "" } else { "s" };
    match &facts.pinned_cores {
        Some(cores) => {
            let cores: Vec<String> = cores.iter().map(usize::to_string).collect();
            format!("{} shard{plural}, pinned to core {}", facts.shards, cores.join(", "))
        }
        None => format!("{} shard{plural}, not pinned", facts.shards),
    }
}

fn traces_command(facts: &Start) -> String {
    const DEFAULT_PORT: u16 = 55679;
    match facts.admin {
        Some(admin) if admin.port() != DEFAULT_PORT || !admin.ip().is_loopback() => {
            format!("tracegate traces --url http://{}", reachable(admin))
        }
        _ => "tracegate traces".to_owned(),
    }
}

/// A line for a shell that sends the example to the first HTTP listener that takes traces; `None` without one.
fn try_it(facts: &Start) -> Option<String> {
    let (path, address) = facts.receivers.iter().find_map(|listening| {
        let (_, path) = listening.paths.iter().find(|(signal, _)| *signal == Signal::Traces)?;
        match &listening.address {
            // With TLS a line for curl needs an authority, and perhaps a certificate.
            ListenAddress::Internet(address) if listening.security == Security::PlainText => Some((path, *address)),
            _ => None,
        }
    })?;
    let body = base64(&example_request(facts.unix_ns, facts.seed).encode_to_vec());
    let address = reachable(address);
    Some(format!(
        "printf %s {body} | base64 -d | curl -sS -o /dev/null -w '%{{http_code}}\\n' \
         -H 'Content-Type: application/x-protobuf' --data-binary @- http://{address}{path}"
    ))
}

/// An address that a client on this machine can use: "any address" becomes loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// Two spans that ended just now, the inner one with an error.
fn example_request(unix_ns: u64, seed: u64) -> ExportTraceServiceRequest {
    const MILLISECOND_NS: u64 = 1_000_000;
    let trace_id = [unix_ns.to_be_bytes(), seed.to_be_bytes()].concat();
    let id = |number: u64| (seed.wrapping_add(number) | 1 << 63).to_be_bytes().to_vec();
    let span = |name: &str, kind: i32, from_ms: u64, to_ms: u64| Span {
        trace_id: trace_id.clone(),
        name: name.into(),
        kind,
        start_time_unix_nano: unix_ns.saturating_sub(from_ms * MILLISECOND_NS),
        end_time_unix_nano: unix_ns.saturating_sub(to_ms * MILLISECOND_NS),
        ..Span::default()
    };
    const SERVER: i32 = 2;
    const CLIENT: i32 = 3;
    const ERROR: i32 = 2;
    let root = Span { span_id: id(0), ..span("GET /hello", SERVER, 250, 10) };
    let failed = Span {
        span_id: id(1),
        parent_span_id: id(0),
        status: Some(SpanStatus { message: "connection refused".into(), code: ERROR }),
        ..span("SELECT greetings", CLIENT, 200, 50)
    };
    let service =
        KeyValue { key: "service.name".into(), value: Some(AnyValue { value: Some(Value::String("hello".into())) }) };
    let scope_spans = ScopeSpans { spans: vec![root, failed], ..ScopeSpans::default() };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes: vec![service], ..Resource::default() }),
            scope_spans: vec![scope_spans],
            ..ResourceSpans::default()
        }],
    }
}

/// RFC 4648 base64 with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().enumerate().fold(0u32, |group, (at, byte)| group | u32::from(*byte) << (16 - 8 * at));
        for at in 0..4 {
            let sextet = group >> (18 - 6 * at) & 63;
            text.push(if at <= chunk.len() { ALPHABET[sextet as usize] as char } else { '=' });
        }
    }
    text
}

/// The hint after 30 s without a request.
pub fn nothing_received(facts: &Start) -> String {
    let mut text = "Nothing was received in the first 30 s.".to_owned();
    let receivers = one_per_endpoint(&facts.receivers);
    for listening in &receivers {
        let (protocol, ListenAddress::Internet(address)) = (listening.protocol, &listening.address) else {
            let address = &listening.address;
            write!(text, "\n  A sender on this machine reaches {address}").expect("writing to a string cannot fail");
            continue;
        };
        let endpoint = reachable(*address);
        let scheme = listening.security.scheme();
        let word = match protocol {
            Protocol::Grpc => "grpc",
            Protocol::Http => "http/protobuf",
        };
        let hint = format!("OTEL_EXPORTER_OTLP_PROTOCOL={word} OTEL_EXPORTER_OTLP_ENDPOINT={scheme}://{endpoint}");
        write!(text, "\n  An OpenTelemetry SDK sends here with {hint}").expect("writing to a string cannot fail");
    }
    let ports: Vec<(&Listening, SocketAddr)> = receivers
        .iter()
        .filter_map(|listening| match listening.address {
            ListenAddress::Internet(address) => Some((*listening, address)),
            ListenAddress::Unix(_) => None,
        })
        .collect();
    for reading in &facts.files {
        write!(text, "\n  No record came from {}", reading.sentence()).expect("writing to a string cannot fail");
    }
    let only_loopback = ports.iter().all(|(_, address)| address.ip().is_loopback());
    if only_loopback && !ports.is_empty() {
        text.push_str("\n  All listeners are on loopback: senders in other containers or machines cannot reach them.");
        for (listening, address) in &ports {
            let (key, port) = (endpoint_key(listening), address.port());
            write!(text, "\n    --set {key}=0.0.0.0:{port}").expect("writing to a string cannot fail");
        }
    }
    text.push('\n');
    text
}

/// The first address of each endpoint: `localhost` is two addresses, but one thing to tell.
fn one_per_endpoint(receivers: &[Listening]) -> Vec<&Listening> {
    let mut first: Vec<&Listening> = Vec::new();
    for listening in receivers {
        let same = |known: &&Listening| known.receiver == listening.receiver && known.protocol == listening.protocol;
        if !first.iter().any(same) {
            first.push(listening);
        }
    }
    first
}

fn endpoint_key(listening: &Listening) -> String {
    PortUse::Receiver { receiver: listening.receiver.clone(), protocol: listening.protocol }.key()
}

/// What a port was wanted for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortUse {
    /// A receiver's protocol.
    Receiver {
        /// Receiver id.
        receiver: String,
        /// Which of its protocols.
        protocol: Protocol,
    },
    /// `/metrics`.
    Metrics,
    /// The admin pages.
    Admin,
    /// An extension.
    Extension(Box<ExtensionSettings>),
}

impl PortUse {
    /// The key that moves it, for `--set`.
    fn key(&self) -> String {
        match self {
            PortUse::Receiver { receiver, protocol } => {
                let protocol = match protocol {
                    Protocol::Grpc => "grpc",
                    Protocol::Http => "http",
                };
                format!("receivers.{receiver}.protocols.{protocol}.endpoint")
            }
            PortUse::Metrics => "service.telemetry.metrics.address".to_owned(),
            PortUse::Admin => "service.engine.admin".to_owned(),
            PortUse::Extension(extension) => match extension.kind {
                ExtensionKind::HealthCheckV2(_) => format!("extensions.{}.http.endpoint", extension.id),
                ExtensionKind::HealthCheckGrpc(_) => format!("extensions.{}.grpc.endpoint", extension.id),
                _ => format!("extensions.{}.endpoint", extension.id),
            },
        }
    }

    fn what(&self) -> &'static str {
        match self {
            PortUse::Receiver { protocol: Protocol::Grpc, .. } => "OTLP/gRPC",
            PortUse::Receiver { protocol: Protocol::Http, .. } => "OTLP/HTTP",
            PortUse::Metrics => "metrics",
            PortUse::Admin => "the admin pages",
            PortUse::Extension(extension) => match extension.kind {
                ExtensionKind::HealthCheck(_) | ExtensionKind::HealthCheckV2(_) | ExtensionKind::HealthCheckGrpc(_) => {
                    "the health check"
                }
                ExtensionKind::Zpages(_) => "zpages",
                ExtensionKind::Pprof(_) => "pprof",
            },
        }
    }
}

/// The error for an address that cannot be listened on. If somebody else has the port: whose it is and what moves ours.
pub fn cannot_listen(
    wanted: &PortUse,
    address: SocketAddr,
    error: &io::Error,
    owner_of: impl Fn(SocketAddr) -> Option<PortOwner>,
) -> String {
    let (what, key) = (wanted.what(), wanted.key());
    if error.kind() != io::ErrorKind::AddrInUse {
        return format!("{address}, wanted for {what}, cannot be listened on: {error}.\nThe setting is {key}.");
    }
    let whose = match owner_of(address) {
        Some(PortOwner { pid, command }) => format!("process {pid} ({command}) listens there"),
        None => "a process of another user or container listens there".to_owned(),
    };
    let free = SocketAddr::new(address.ip(), neighbour(address.port()));
    format!("{address}, wanted for {what}, is taken: {whose}.\nStop it, or move ours: --set {key}={free}")
}

/// The same for a Unix domain socket.
pub fn cannot_listen_at_path(wanted: &PortUse, path: &str, error: &io::Error) -> String {
    let (what, key) = (wanted.what(), wanted.key());
    let why = match error.kind() {
        io::ErrorKind::AddrInUse => "a file with this name exists, and it is no socket or somebody listens on it",
        io::ErrorKind::NotFound => "its directory does not exist",
        io::ErrorKind::PermissionDenied => "its directory may not be written to",
        _ => return format!("unix:{path}, wanted for {what}, cannot be listened on: {error}.\nThe setting is {key}."),
    };
    format!("unix:{path}, wanted for {what}, cannot be listened on: {why}.\nThe setting is {key}.")
}

/// A port that is easily remembered with `port`: ten thousand higher where that exists.
fn neighbour(port: u16) -> u16 {
    port.checked_add(10_000).unwrap_or_else(|| port - 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use codecs::otlp::{SpanIndex, StatusCode};

    fn internet(address: &str) -> ListenAddress {
        ListenAddress::Internet(address.parse().unwrap())
    }

    fn facts() -> Start {
        Start {
            receivers: vec![
                Listening {
                    receiver: "otlp".to_owned(),
                    protocol: Protocol::Grpc,
                    address: internet("127.0.0.1:4317"),
                    paths: Vec::new(),
                    security: Security::PlainText,
                },
                Listening {
                    receiver: "otlp".to_owned(),
                    protocol: Protocol::Http,
                    address: internet("0.0.0.0:4318"),
                    paths: vec![(Signal::Traces, "/v1/traces".to_owned())],
                    security: Security::PlainText,
                },
            ],
            files: Vec::new(),
            metrics: Some("127.0.0.1:8888".parse().unwrap()),
            admin: Some("127.0.0.1:55679".parse().unwrap()),
            extensions: Vec::new(),
            runtime: "epoll".to_owned(),
            runtime_reason: "the kernel forbids io_uring".to_owned(),
            shards: 2,
            pinned_cores: None,
            pin_reason: "cores may be shared under a quota".to_owned(),
            memory_limit_bytes: 3 << 30,
            memory_reason: "memory_limiter".to_owned(),
            configuration: "built-in configuration".to_owned(),
            keeps_traces: true,
            unix_ns: 1_700_000_000_000_000_000,
            seed: 42,
        }
    }

    #[test]
    fn the_start_says_where_to_send_where_to_look_and_what_it_runs_on() {
        let text = start(&facts());
        let before_example = text.split("    printf").next().unwrap();
        assert_eq!(
            before_example,
            "\
Tracegate 0.1.0 is up (built-in configuration).
  Send to
    OTLP/gRPC  127.0.0.1:4317   (otlp)
    OTLP/HTTP  http://0.0.0.0:4318/v1/traces   (otlp)
  Look at
    metrics    http://127.0.0.1:8888/metrics
    admin      http://127.0.0.1:55679/
  Runs on
    runtime    epoll (the kernel forbids io_uring)
    shards     2 shards, not pinned (cores may be shared under a quota)
    memory     3072 MiB (memory_limiter)
  Try it: this sends a trace with an error
"
        );
        assert!(text.ends_with("    tracegate traces\n"));
    }

    #[test]
    fn receivers_of_files_are_named_with_what_they_read() {
        let reading = |receiver: &str, patterns: &[&str], starts_at_end| Reading {
            receiver: receiver.to_owned(),
            patterns: patterns.iter().map(|pattern| (*pattern).to_owned()).collect(),
            starts_at_end,
        };
        let files = vec![
            reading("otlp_json_file", &["/var/log/otel/*.json"], true),
            reading("otlp_json_file/old", &["/a", "/b", "/c", "/d", "/e"], false),
        ];
        let facts = Start { receivers: Vec::new(), files, ..facts() };
        let text = start(&facts);
        assert!(
            text.contains(
                "  Reads files
    /var/log/otel/*.json   (otlp_json_file, what is added)
    /a, /b, /c and 2 more   (otlp_json_file/old, from the beginning)
  Look at
"
            ),
            "{text}"
        );
        assert!(!text.contains("Send to"), "{text}");
        assert!(nothing_received(&facts).contains("No record came from /var/log/otel/*.json"));
    }

    #[test]
    fn the_example_line_posts_to_loopback_and_holds_a_fresh_trace_with_an_error() {
        let line = try_it(&facts()).unwrap();
        assert!(line.ends_with("--data-binary @- http://127.0.0.1:4318/v1/traces"));
        assert!(line.lines().count() == 1 && line.len() < 900, "{}", line.len());
        let bytes = example_request(1_700_000_000_000_000_000, 42).encode_to_vec();
        let mut index = SpanIndex::default();
        index.read_request(&bytes, 0).unwrap();
        assert_eq!(index.items.len(), 2);
        assert_eq!(index.items[1].status, StatusCode::Error);
        assert!(!index.items[0].has_parent && index.items[1].has_parent);
        assert_eq!(index.items[0].trace_id, index.items[1].trace_id);
        let other = example_request(1_700_000_000_000_000_001, 42).encode_to_vec();
        assert_ne!(bytes, other, "each start has a trace id of its own");
    }

    #[test]
    fn without_an_http_listener_there_is_no_line_to_paste() {
        let mut facts = facts();
        facts.receivers.pop();
        assert!(!start(&facts).contains("curl"));
    }

    #[test]
    fn base64_agrees_with_the_vectors_of_rfc_4648() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn a_taken_port_names_its_owner_and_the_setting_that_moves_ours() {
        let owner = |_| Some(PortOwner { pid: 77, command: "otelcol --config a.yaml".to_owned() });
        let wanted = PortUse::Receiver { receiver: "otlp/eu".to_owned(), protocol: Protocol::Grpc };
        let taken = io::Error::from(io::ErrorKind::AddrInUse);
        assert_eq!(
            cannot_listen(&wanted, "127.0.0.1:4317".parse().unwrap(), &taken, owner),
            "127.0.0.1:4317, wanted for OTLP/gRPC, is taken: process 77 (otelcol --config a.yaml) listens there.\n\
             Stop it, or move ours: --set receivers.otlp/eu.protocols.grpc.endpoint=127.0.0.1:14317"
        );
        let text = cannot_listen(&PortUse::Admin, "127.0.0.1:55679".parse().unwrap(), &taken, |_| None);
        assert!(text.contains("of another user or container"));
        assert!(text.contains("--set service.engine.admin=127.0.0.1:45679"));
    }

    #[test]
    fn an_address_that_is_not_ours_is_told_apart_from_a_taken_port() {
        let error = io::Error::from(io::ErrorKind::AddrNotAvailable);
        let text = cannot_listen(&PortUse::Metrics, "192.0.2.1:8888".parse().unwrap(), &error, |_| None);
        assert!(text.contains("cannot be listened on"), "{text}");
        assert!(text.contains("service.telemetry.metrics"), "{text}");
    }

    #[test]
    fn a_quiet_gateway_tells_how_to_send_and_that_loopback_is_not_reachable_from_outside() {
        let mut facts = facts();
        assert!(!nothing_received(&facts).contains("loopback"), "one listener is open to others");
        facts.receivers[1].address = internet("127.0.0.1:4318");
        let text = nothing_received(&facts);
        assert!(text.contains("OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317"));
        assert!(text.contains("--set receivers.otlp.protocols.http.endpoint=0.0.0.0:4318"));
        let second = Listening { address: internet("[::1]:4318"), ..facts.receivers[1].clone() };
        facts.receivers.push(second);
        assert_eq!(nothing_received(&facts), text, "both addresses of localhost are one endpoint");
    }
}
