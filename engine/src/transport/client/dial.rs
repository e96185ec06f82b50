//! From an endpoint to a connected stream: name, address, TCP, TLS - and what to say when one of them fails.
//!
//! The one idea: one dial goes to an address it is given, or tries a few of the name's addresses in turn, starting one
//! further each time, so that a lost backend is left behind at the next connection and shards spread over the addresses.
//! Never retries by itself.

use super::peer_stream::{PeerStream, Seen, Speaks, Watched};
use super::proxy::{self, NoTunnel};
use super::{ClientError, PeerSettings, Problem, host_and_port};
use crate::config::checked::ProxySettings;
use crate::shard::runtime::{Stream, timeout};
use crate::transport::resolve::resolve;
use crate::transport::tls::{Alpn, TlsClient, tls_error};
use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

/// Addresses tried by one dial: more would outlast the attempt that waits for it.
const ADDRESSES_TRIED_MAX: usize = 4;
/// How long one address may take to answer, TLS included: a dead one must not use up the others' turn.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes connections to one backend.
#[derive(Debug)]
pub(super) struct Dialer {
    sender: String,
    host: String,
    port: u16,
    /// `host:port`, for errors.
    endpoint: String,
    tls: Option<TlsClient>,
    protocol: Alpn,
    next_address: Cell<usize>,
    proxy: Option<Proxy>,
}

/// A connection that was made.
#[derive(Debug)]
pub(super) struct Dialed {
    pub(super) stream: PeerStream,
    pub(super) seen: Rc<Seen>,
    /// Of the peer, or of the proxy before it.
    pub(super) address: SocketAddr,
}

/// Where connections really go, if not to the peer.
#[derive(Debug)]
struct Proxy {
    settings: ProxySettings,
    /// `host:port`, for errors.
    endpoint: String,
    /// Whether connections are tunnels: what goes through must not be seen, or is no HTTP/1.1.
    tunnels: bool,
}

impl Dialer {
    pub(super) fn new(peer: &PeerSettings, protocol: Alpn) -> Dialer {
        Dialer {
            sender: peer.sender.clone(),
            host: peer.endpoint.host.clone(),
            port: peer.endpoint.port,
            endpoint: host_and_port(&peer.endpoint),
            tls: peer.tls.clone(),
            protocol,
            next_address: Cell::new(peer.first_address),
            proxy: peer.proxy.clone().map(|settings| Proxy {
                endpoint: host_and_port(&settings.endpoint),
                settings,
                tunnels: peer.tls.is_some() || protocol == Alpn::Http2,
            }),
        }
    }

    /// Where connections go: the addresses of the peer's name, at least one, in the resolver's order.
    pub(super) async fn addresses(&self) -> Result<Vec<SocketAddr>, ClientError> {
        // A proxy looks the peer's name up itself.
        let (host, port, what) = match &self.proxy {
            None => (self.host.as_str(), self.port, "endpoint"),
            Some(proxy) => (proxy.settings.endpoint.host.as_str(), proxy.settings.endpoint.port, "proxy"),
        };
        resolve(host, port).await.map_err(|error| {
            let text = format!("the name {host} cannot be resolved: {error}; correct the {what}");
            self.error(Problem::Resolve, &text)
        })
    }

    /// Whether the peer has a name whose addresses may be several and may change. Those of `localhost` are one machine,
    /// and behind a proxy the name is the proxy's to resolve.
    pub(super) fn has_a_name(&self) -> bool {
        self.proxy.is_none() && self.host != "localhost" && self.host.parse::<IpAddr>().is_err()
    }

    /// A fresh connection to any address of the peer. The error is the last address's.
    pub(super) async fn dial(&self) -> Result<Dialed, ClientError> {
        let addresses = self.addresses().await?;
        let first = self.next_address.get();
        self.next_address.set(first.wrapping_add(1));
        let turns = addresses.iter().cycle().skip(first % addresses.len());
        let mut last = None;
        for address in turns.take(addresses.len().min(ADDRESSES_TRIED_MAX)) {
            match self.dial_to(*address).await {
                Ok(dialed) => return Ok(dialed),
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("resolve returns at least one address"))
    }

    /// A fresh connection to this address.
    pub(super) async fn dial_to(&self, address: SocketAddr) -> Result<Dialed, ClientError> {
        match timeout(ADDRESS_TIMEOUT, self.connect(address)).await {
            Some(Ok((stream, seen))) => Ok(Dialed { stream, seen, address }),
            Some(Err(error)) => Err(error),
            None => Err(self.no_answer(address)),
        }
    }

    async fn connect(&self, address: SocketAddr) -> Result<(PeerStream, Rc<Seen>), ClientError> {
        let mut stream = Stream::connect(address).await.map_err(|error| self.not_connected(address, &error))?;
        if let Some(proxy) = self.proxy.as_ref().filter(|proxy| proxy.tunnels) {
            let opened = proxy::tunnel(&mut stream, &self.endpoint, &proxy.settings).await;
            opened.map_err(|error| self.no_tunnel(proxy, error))?;
        }
        let seen = Rc::new(Seen::default());
        let watched = Watched::new(stream, Rc::clone(&seen));
        let Some(tls) = &self.tls else {
            return Ok((PeerStream::Plain(watched), seen));
        };
        match tls.handshake(watched).await {
            Ok(stream) => Ok((PeerStream::Tls(Box::new(stream)), seen)),
            Err(error) => Err(self.no_session(tls, &error, &seen)),
        }
    }

    /// An error that says who could not reach whom.
    pub(super) fn error(&self, problem: Problem, text: &str) -> ClientError {
        ClientError { problem, message: format!("{} to {}: {text}", self.sender, self.endpoint) }
    }

    fn no_tunnel(&self, proxy: &Proxy, error: NoTunnel) -> ClientError {
        let endpoint = &proxy.endpoint;
        let text = match error {
            NoTunnel::Lost(error) => format!("the proxy {endpoint} left before it answered ({error}); is it a proxy?"),
            NoTunnel::Refused(line) => format!(
                "the proxy {endpoint} opens no connection to the peer: {line}; allow it there, or go straight (NO_PROXY)"
            ),
        };
        self.error(Problem::Proxy, &text)
    }

    fn not_connected(&self, address: SocketAddr, error: &io::Error) -> ClientError {
        let place = match &self.proxy {
            Some(proxy) => format!(" by the proxy {} ({address})", proxy.endpoint),
            None if address.to_string() == self.endpoint => String::new(),
            None => format!(" ({address})"),
        };
        let text = match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                format!("connection refused{place}: nothing listens there; start the peer or correct the endpoint")
            }
            _ => format!("no connection{place}: {error}"),
        };
        self.error(Problem::Connect, &text)
    }

    fn no_answer(&self, address: SocketAddr) -> ClientError {
        let seconds = ADDRESS_TIMEOUT.as_secs();
        let text = format!("{address} does not answer within {seconds}s; check the address, firewalls and the peer");
        self.error(Problem::Connect, &text)
    }

    fn no_session(&self, tls: &TlsClient, error: &io::Error, seen: &Seen) -> ClientError {
        match seen.speaks() {
            Speaks::Http1 | Speaks::Http2 | Speaks::Other => self.error(
                Problem::Tls,
                "this exporter speaks TLS, the peer answers in plain text; set tls.insecure: true here, or configure \
                 TLS on the peer",
            ),
            Speaks::Nothing => self.error(
                Problem::Tls,
                &format!(
                    "the peer ended the TLS handshake without a word ({error}); if it speaks plain text, set \
                     tls.insecure: true here, or configure TLS on the peer"
                ),
            ),
            Speaks::Tls => {
                let text = tls_error(error).map(|error| tls.explain(error));
                self.error(Problem::Tls, &text.unwrap_or_else(|| format!("TLS failed: {error}")))
            }
        }
    }

    /// Why a connection that stood gave no answer: by what the peer has said, else by `error`.
    pub(super) fn lost(&self, error: &(dyn std::error::Error + 'static), seen: &Seen) -> ClientError {
        if let (Some(tls), Some(error)) = (&self.tls, seen.tls_error()) {
            return self.error(Problem::Tls, &tls.explain(&error));
        }
        match (self.tls.is_some(), self.protocol, seen.speaks()) {
            (false, _, Speaks::Tls) => self.error(
                Problem::Tls,
                "this exporter speaks plain text, the peer speaks TLS; remove tls.insecure: true here (https:// for \
                 otlphttp), or switch TLS off on the peer",
            ),
            (false, Alpn::Http2, Speaks::Http1) => self.error(
                Problem::Protocol,
                "the peer speaks HTTP/1.1, this exporter gRPC; use the peer's gRPC port (often 4317) or an otlphttp \
                 exporter",
            ),
            (false, Alpn::Http1, Speaks::Http2) => self.error(
                Problem::Protocol,
                "the peer speaks HTTP/2 (gRPC), this exporter HTTP/1.1; use the peer's HTTP port (often 4318) or an \
                 otlp exporter",
            ),
            (false, _, Speaks::Nothing) => self.error(
                Problem::ConnectionLost,
                "the peer closed the connection without a word; if it speaks TLS, remove tls.insecure: true here \
                 (https:// for otlphttp)",
            ),
            _ => {
                let text = format!("connection lost before the answer: {}", root_cause(error));
                self.error(Problem::ConnectionLost, &text)
            }
        }
    }

    /// An attempt that ran out of time.
    pub(super) fn too_late(&self, limit: Duration, connected: bool) -> ClientError {
        let text = if connected {
            format!("no answer within {limit:?} (timeout); the peer is overloaded or hangs")
        } else {
            format!("no connection within {limit:?} (timeout); check the address, firewalls and the peer")
        };
        self.error(Problem::Timeout, &text)
    }
}

/// The innermost text: libraries wrap "connection reset" into "error reading a body".
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
