//! Whether the backends of a configuration can be reached, and speak what its exporters speak.
//!
//! ```text
//! name --resolver--> addresses --connect--> a greeting, encrypted or not --> what the peer speaks --judge--> findings
//! ```
//!
//! The idea: a peer shows what it speaks in its first bytes, and a wrong one (TLS against plain text, HTTP against gRPC)
//! differs there from the right one. Looking and judging are apart, and judging is pure. No span is sent: HTTP/2 gets
//! its preface, HTTP/1.1 a GET.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::finding::{Finding, Level};
use crate::config::checked::{Config, Endpoint, ExporterKind, ProcessorKind, TlsClientSettings, TlsPolicy};
use crate::exporter::Exporter;
use crate::transport::tls::{Alpn, TlsClient, tls_error};

/// How long connecting, a handshake or the first bytes may take, each.
const STEP_WAIT: Duration = Duration::from_secs(5);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;
/// First bytes of an answer: the head of an HTTP/2 frame, or a status line.
const ANSWER_BYTES: usize = 12;
/// What servers of HTTPS answer to HTTP.
const BAD_REQUEST: u16 = 400;
/// RFC 9113, 3.4: the preface of a client, and SETTINGS without any.
const HTTP2_GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A backend as the configuration has it.
#[derive(Clone, Debug)]
pub struct Backend {
    /// The exporter's id.
    id: String,
    endpoint: Endpoint,
    /// gRPC, which is HTTP/2; else HTTP/1.1.
    is_grpc: bool,
    /// `Err`: its certificates cannot be used.
    tls: Result<Option<TlsClient>, String>,
    /// The way leads through a proxy, which is not tried.
    has_proxy: bool,
    /// A pipeline that ends here samples by whole trace.
    is_sampled: bool,
}

/// What a peer speaks, by its first bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Speech {
    /// HTTP/2 frames.
    Http2,
    /// HTTP/1, with its status.
    Http1(u16),
    /// TLS records.
    Tls,
    /// It closed the connection.
    Closed,
    /// It said nothing.
    Silence,
    /// Anything else.
    Unknown,
}

/// What looking at a backend found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The name has no address.
    Unresolved(String),
    /// None of its addresses takes a connection.
    Unreachable(String),
    /// What it speaks below TLS: the handshake went well.
    Encrypted(Speech),
    /// TLS was configured and failed, and the peer speaks no plain text either.
    Distrusted(String),
    /// What it answers to plain text.
    Plain(Speech),
}

/// The backends of all exporters that send over the network, each once.
pub fn of(config: &Config) -> Vec<Backend> {
    let samples = |processor: &usize| matches!(config.processors[*processor].kind, ProcessorKind::TailSampling(_));
    let mut backends: Vec<Backend> = Vec::new();
    for (number, exporter) in config.exporters.iter().enumerate() {
        let Some(client) = exporter.kind.client() else { continue };
        let id = exporter.id.to_string();
        let mut pipelines = config.pipelines.iter().filter(|pipeline| pipeline.exporters.contains(&number));
        let is_sampled = pipelines.any(|pipeline| pipeline.processors.iter().any(samples));
        // One that several signals use is listed for each.
        if let Some(known) = backends.iter_mut().find(|backend| backend.id == id) {
            known.is_sampled |= is_sampled;
            continue;
        }
        backends.push(Backend {
            id,
            endpoint: client.endpoint.clone(),
            is_grpc: matches!(exporter.kind, ExporterKind::OtlpGrpc(_)),
            tls: Exporter::tls(exporter),
            has_proxy: client.proxy.is_some(),
            is_sampled,
        });
    }
    backends
}

/// Looks at a backend and says what it means.
pub async fn examine(backend: &Backend) -> Vec<Finding> {
    let place = format!("exporter {}", backend.id);
    let tls = match &backend.tls {
        Ok(tls) => tls.as_ref(),
        Err(error) => {
            let said =
                ["certificates that can be used".to_owned(), error.clone(), "correct the file or the setting".into()];
            return vec![Finding::new(Level::Problem, place, said)];
        }
    };
    if backend.has_proxy {
        return vec![Finding::ok(place, "sends through a proxy; not tried")];
    }
    let addresses = resolve(&backend.endpoint).await;
    let seen = match &addresses {
        Err(error) => Seen::Unresolved(error.clone()),
        Ok(addresses) => look(backend, tls, addresses).await,
    };
    let mut findings = vec![judge(backend, &seen)];
    if let Ok(addresses) = addresses {
        findings.extend(judge_replicas(&place, backend.is_sampled, &addresses));
    }
    findings
}

/// Whether senders that reach this gateway by `name` reach one process.
pub async fn examine_service(name: &str, samples: bool) -> Finding {
    let place = format!("service {name}");
    let endpoint = Endpoint { host: name.to_owned(), port: 4317 };
    let addresses = match resolve(&endpoint).await {
        Ok(addresses) => addresses,
        Err(error) => return judge_unresolved(&place, &endpoint.host, &error),
    };
    match (samples, replicas(&addresses)) {
        (true, count @ 2..) => Finding::new(
            Level::Problem,
            place,
            [
                "one process decides on a whole trace".to_owned(),
                format!("{count} processes behind one name; each decides on the spans that happen to reach it"),
                FRAGMENTS_REMEDY.to_owned(),
            ],
        ),
        (_, count) => Finding::ok(place, format!("{count} address{}", if count == 1 { "" } else { "es" })),
    }
}

const FRAGMENTS_REMEDY: &str = "one gateway process for tail_sampling (it uses all cores), or a layer before it that \
     sends all spans of a trace to the same one (the Collector's loadbalancing exporter with routing_key: traceID)";

async fn resolve(endpoint: &Endpoint) -> Result<Vec<SocketAddr>, String> {
    let lookup = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port));
    match timeout(STEP_WAIT, lookup).await {
        Ok(Ok(addresses)) => Ok(addresses.take(64).collect::<BTreeSet<_>>().into_iter().collect()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("the resolver gave no answer within {} s", STEP_WAIT.as_secs())),
    }
}

/// Processes that a name stands for: a machine with two families of addresses has one of each.
fn replicas(addresses: &[SocketAddr]) -> usize {
    let far = |is_ipv4| addresses.iter().filter(|at| at.is_ipv4() == is_ipv4 && !at.ip().is_loopback()).count();
    far(true).max(far(false)).max(usize::from(!addresses.is_empty()))
}

fn judge_replicas(place: &str, is_sampled: bool, addresses: &[SocketAddr]) -> Option<Finding> {
    let count = replicas(addresses);
    if count < 2 {
        return None;
    }
    let found = match is_sampled {
        true => format!(
            "tail_sampling here, and {count} processes behind it: if this is an agent, it decides on the spans of its \
             own node only"
        ),
        false => format!("{count} processes behind one name: if they sample by whole trace, each sees fragments"),
    };
    let remedy = match is_sampled {
        true => {
            format!("take tail_sampling out of the agent; then: {FRAGMENTS_REMEDY}; nothing, if these are backends")
        }
        false => format!("{FRAGMENTS_REMEDY}; nothing, if they only store"),
    };
    Some(Finding::new(Level::Warning, place, ["all spans of a trace meet in one place".to_owned(), found, remedy]))
}

async fn look(backend: &Backend, tls: Option<&TlsClient>, addresses: &[SocketAddr]) -> Seen {
    let mut refusals = Vec::new();
    for address in addresses.iter().take(ADDRESSES_MAX) {
        match connect(*address).await {
            Ok(stream) => {
                return match tls {
                    Some(tls) => look_with_tls(backend, tls, *address, stream).await,
                    None => look_in_plain_text(backend, *address, stream).await,
                };
            }
            Err(error) => refusals.push(format!("{address}: {error}")),
        }
    }
    Seen::Unreachable(refusals.join(", "))
}

async fn look_with_tls(backend: &Backend, tls: &TlsClient, address: SocketAddr, stream: TcpStream) -> Seen {
    let explained = |error: &io::Error| match tls_error(error) {
        Some(error) => tls.explain(error),
        None => format!("the connection broke: {error}"),
    };
    let failure = match timeout(STEP_WAIT, tls.handshake(stream)).await {
        // A peer that wants our certificate says so only now.
        Ok(Ok(session)) => match greet(backend, session).await {
            Ok(speech) => return Seen::Encrypted(speech),
            Err(error) => return Seen::Distrusted(explained(&error)),
        },
        Ok(Err(error)) => explained(&error),
        Err(_) => format!("no handshake within {} s", STEP_WAIT.as_secs()),
    };
    // Servers of plain text close such a connection, or answer in plain text: ask them so.
    match plain_speech(backend, address).await {
        speech @ (Speech::Http1(_) | Speech::Http2) if !speaks_tls(backend, address).await => Seen::Plain(speech),
        _ => Seen::Distrusted(failure),
    }
}

async fn look_in_plain_text(backend: &Backend, address: SocketAddr, stream: TcpStream) -> Seen {
    let speech = greet(backend, stream).await.unwrap_or(Speech::Closed);
    match speech {
        Speech::Tls | Speech::Http2 => Seen::Plain(speech),
        Speech::Http1(status) if status != BAD_REQUEST => Seen::Plain(speech),
        // A server of TLS closes, sends an alert, or answers 400 in plain text.
        _ if speaks_tls(backend, address).await => Seen::Plain(Speech::Tls),
        _ => Seen::Plain(speech),
    }
}

async fn plain_speech(backend: &Backend, address: SocketAddr) -> Speech {
    match connect(address).await {
        Ok(stream) => greet(backend, stream).await.unwrap_or(Speech::Closed),
        Err(_) => Speech::Closed,
    }
}

/// Whether a handshake, with whatever certificate, gets somewhere.
async fn speaks_tls(backend: &Backend, address: SocketAddr) -> bool {
    let settings = TlsClientSettings {
        ca: None,
        include_system_roots: false,
        cert: None,
        key: None,
        insecure_skip_verify: true,
        server_name: None,
        policy: TlsPolicy::default(),
    };
    let alpn = if backend.is_grpc { Alpn::Http2 } else { Alpn::Http1 };
    let Ok(tls) = TlsClient::new(&settings, &backend.endpoint.host, alpn) else { return false };
    let Ok(stream) = connect(address).await else { return false };
    match timeout(STEP_WAIT, tls.handshake(stream)).await {
        Ok(Ok(_)) => true,
        // Who sends an alert speaks TLS.
        Ok(Err(error)) => matches!(tls_error(&error), Some(rustls::Error::AlertReceived(_))),
        Err(_) => false,
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    timeout(STEP_WAIT, TcpStream::connect(address)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Says the first words of the protocol, and hears the peer's.
async fn greet<S: AsyncRead + AsyncWrite + Unpin>(backend: &Backend, mut stream: S) -> io::Result<Speech> {
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", backend.endpoint.host);
    let greeting = if backend.is_grpc { HTTP2_GREETING } else { request.as_bytes() };
    let mut answer = [0; ANSWER_BYTES];
    let mut heard = 0;
    let conversation = async {
        stream.write_all(greeting).await?;
        stream.flush().await?;
        while heard < ANSWER_BYTES {
            match stream.read(&mut answer[heard..]).await? {
                0 => return Ok(Speech::Closed),
                more => heard += more,
            }
        }
        Ok(Speech::Unknown)
    };
    let ended: io::Result<Speech> = timeout(STEP_WAIT, conversation).await.unwrap_or(Ok(Speech::Silence));
    match (heard, ended) {
        (0, ended) => ended,
        (heard, _) => Ok(understand(&answer[..heard])),
    }
}

/// What protocol begins with these bytes.
fn understand(answer: &[u8]) -> Speech {
    // RFC 9113, 3.4: a server begins with SETTINGS (type 4), on stream 0.
    let is_settings = answer.len() >= 9 && answer[3] == 4 && answer[5..9] == [0; 4];
    // RFC 8446, 5.1: alert or handshake, then a version 3.x.
    let is_record = matches!(answer, [21 | 22, 3, ..]);
    if let Some(rest) = answer.strip_prefix(b"HTTP/1.") {
        let status = rest.get(2..5).and_then(|digits| std::str::from_utf8(digits).ok());
        return Speech::Http1(status.and_then(|digits| digits.parse().ok()).unwrap_or(0));
    }
    match (is_record, is_settings) {
        (true, _) => Speech::Tls,
        (false, true) => Speech::Http2,
        (false, false) => Speech::Unknown,
    }
}

fn judge_unresolved(place: &str, host: &str, error: &str) -> Finding {
    Finding::new(
        Level::Problem,
        place,
        [
            format!("{host} is a name that resolves"),
            error.to_owned(),
            format!("`getent hosts {host}` on this machine; in Kubernetes SERVICE.NAMESPACE.svc"),
        ],
    )
}

fn judge(backend: &Backend, seen: &Seen) -> Finding {
    let Backend { id, endpoint: Endpoint { host, port }, is_grpc, tls, .. } = backend;
    let place = format!("exporter {id}");
    let wants_tls = matches!(tls, Ok(Some(_)));
    let words = |is_grpc: bool| if is_grpc { "gRPC" } else { "HTTP" };
    let wanted =
        format!("{host}:{port} answers {} {}", words(*is_grpc), if wants_tls { "over TLS" } else { "in plain text" });
    let problem = |found: String, remedy: String| Finding::new(Level::Problem, &place, [wanted.clone(), found, remedy]);
    let (speech, has_tls) = match seen {
        Seen::Unresolved(error) => return judge_unresolved(&place, host, error),
        Seen::Unreachable(error) => {
            let remedy = format!(
                "start the backend, correct exporters.{id}.endpoint, or let a NetworkPolicy or firewall pass port {port}"
            );
            return problem(format!("no connection: {error}"), remedy);
        }
        Seen::Distrusted(error) => {
            let remedy = format!("correct exporters.{id}.tls");
            return problem(error.clone(), remedy);
        }
        Seen::Encrypted(speech) => (speech, true),
        Seen::Plain(speech) => (speech, false),
    };
    match speech {
        Speech::Tls => problem(
            "it speaks TLS, and this exporter sends plain text".to_owned(),
            format!(
                "take `insecure: true` (or http://) out of exporters.{id}, and set tls.ca_file if its authority is your own"
            ),
        ),
        Speech::Http1(_) | Speech::Http2 if wants_tls && !has_tls => problem(
            "it speaks plain text, and this exporter wants TLS".to_owned(),
            format!("exporters.{id}.tls.insecure: true (or http://), or give the peer a certificate"),
        ),
        Speech::Http2 if *is_grpc => Finding::ok(place, wanted),
        Speech::Http1(_) if !is_grpc => Finding::ok(place, wanted),
        Speech::Http1(_) => problem(
            "it speaks HTTP/1.1, so no gRPC".to_owned(),
            format!("the port for gRPC (4317 by custom, not {port}), or the exporter otlphttp"),
        ),
        Speech::Http2 => problem(
            "it speaks HTTP/2 only, as gRPC does".to_owned(),
            format!("the port for HTTP (4318 by custom, not {port}), or the exporter otlp"),
        ),
        Speech::Closed | Speech::Silence | Speech::Unknown => {
            let found = match speech {
                Speech::Closed => "it takes the connection and closes it",
                Speech::Silence => "it takes the connection and says nothing",
                _ => "it answers with neither HTTP nor TLS",
            };
            let remedy = format!("is {port} the port of an OTLP receiver? its log says more");
            problem(found.to_owned(), remedy)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(is_grpc: bool, has_tls: bool) -> Backend {
        let settings = TlsClientSettings {
            ca: None,
            include_system_roots: false,
            cert: None,
            key: None,
            insecure_skip_verify: true,
            server_name: None,
            policy: TlsPolicy::default(),
        };
        let tls = has_tls.then(|| TlsClient::new(&settings, "localhost", Alpn::Http2).unwrap());
        Backend {
            id: "otlp/tempo".into(),
            endpoint: Endpoint { host: "tempo".into(), port: 4318 },
            is_grpc,
            tls: Ok(tls),
            has_proxy: false,
            is_sampled: false,
        }
    }

    #[test]
    fn what_a_peer_speaks_is_in_its_first_bytes() {
        let cases: [(&[u8], Speech); 8] = [
            (b"\0\0\x12\x04\0\0\0\0\0\0\x03\0", Speech::Http2),
            (b"\0\0\x06\x04\0\0\0\0\0", Speech::Http2),
            (b"HTTP/1.1 405 ", Speech::Http1(405)),
            (b"HTTP/1.0 400", Speech::Http1(400)),
            (b"HTTP/1.1", Speech::Http1(0)),
            (&[21, 3, 1, 0, 2, 2, 80], Speech::Tls),
            (b"SSH-2.0-Open", Speech::Unknown),
            (b"\0", Speech::Unknown),
        ];
        for (bytes, expected) in cases {
            assert_eq!(understand(bytes), expected, "{bytes:?}");
            (0..bytes.len()).for_each(|end| _ = understand(&bytes[..end]));
        }
    }

    #[test]
    fn each_mismatch_says_what_to_change() {
        let check = |is_grpc, has_tls, seen: Seen, words: &str| {
            let finding = judge(&backend(is_grpc, has_tls), &seen);
            assert_eq!(finding.level, if words.is_empty() { Level::Ok } else { Level::Problem }, "{finding:?}");
            assert!(format!("{} {}", finding.found, finding.remedy).contains(words), "{finding:?}");
        };
        check(true, false, Seen::Plain(Speech::Http2), "");
        check(false, false, Seen::Plain(Speech::Http1(405)), "");
        check(true, true, Seen::Encrypted(Speech::Http2), "");
        check(true, false, Seen::Plain(Speech::Tls), "take `insecure: true`");
        check(true, true, Seen::Plain(Speech::Http2), "tls.insecure: true");
        check(false, true, Seen::Plain(Speech::Http1(404)), "tls.insecure: true");
        check(true, false, Seen::Plain(Speech::Http1(400)), "4317");
        check(false, false, Seen::Plain(Speech::Http2), "4318");
        check(true, true, Seen::Encrypted(Speech::Http1(404)), "4317");
        check(true, true, Seen::Distrusted("signed by nobody".into()), "signed by nobody");
        check(true, false, Seen::Unreachable("refused".into()), "NetworkPolicy");
        check(true, false, Seen::Unresolved("no such name".into()), "getent hosts tempo");
        check(true, false, Seen::Plain(Speech::Silence), "says nothing");
    }

    #[test]
    fn several_addresses_of_one_family_are_several_processes() {
        let addresses = |list: &[&str]| list.iter().map(|at| at.parse().unwrap()).collect::<Vec<SocketAddr>>();
        assert_eq!(replicas(&addresses(&["10.0.0.1:1", "[fd00::1]:1"])), 1);
        assert_eq!(replicas(&addresses(&["127.0.0.1:1", "127.0.0.2:1"])), 1);
        let two = addresses(&["10.0.0.1:1", "10.0.0.2:1"]);
        assert_eq!(judge_replicas("exporter x", false, &two[..1]), None);
        let agent = judge_replicas("exporter x", true, &two).unwrap();
        assert!(agent.found.contains("its own node only") && agent.level == Level::Warning, "{agent:?}");
        let relay = judge_replicas("exporter x", false, &two).unwrap();
        assert!(relay.remedy.contains("routing_key: traceID"), "{relay:?}");
    }
}
