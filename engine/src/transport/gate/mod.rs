//! What a connection passes before its protocol is spoken: TLS where the listener has it, and a look at its first bytes.
//!
//! ```text
//! socket --first bytes--> plain port --------------------------------------------> protocol
//!             |           TLS port: a hello? --handshake--> session -------------> protocol
//!             |                        no         no: alert, time to read it, closed
//!             +-- plain text at a TLS port: told in its own protocol, closed
//!                                                  each failure: counted by reason, said once a kind and hour
//! ```
//!
//! The one idea: whoever fails here has failed alone. A failure is a reason out of a closed list with the words of the
//! library or of the peer; it costs its own connection and nothing else. Never knows a request.

mod fault;
mod opening;

pub use fault::{Fault, FaultKind};
pub use opening::{FirstBytes, Opening, Speaks};

use super::tls::{Alpn, Certificates, TlsServer};
use crate::config::checked::{Config, ExtensionKind, TlsServerSettings};
use futures_util::future::{Either, select};
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_rustls::server::TlsStream;

/// From accept to the end of a handshake, unless the listener's head timeout says it.
const HANDSHAKE_MAX: Duration = Duration::from_secs(30);
/// A kind of failure is said again after this long.
const SAY_AGAIN_NS: u64 = 3_600_000_000_000;
/// Bytes of a failed peer that are read and forgotten, so that it gets to reading the alert.
const FORGOTTEN_BYTES_MAX: usize = 256 << 10;

/// The gate of one listener. Cloning shares it; it may go to any thread.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// `receiver otlp, gRPC`.
    name: String,
    alpn: Alpn,
    tls: Option<TlsServer>,
    handshake_max: Duration,
    /// When each kind of failure was said last, in nanoseconds of the process's clock; 0: never.
    said_at_ns: [AtomicU64; FaultKind::ALL.len()],
}

/// What protocols are spoken over.
#[derive(Debug)]
pub enum GateStream<S> {
    /// As it comes.
    Plain(Opening<S>),
    /// Through a session.
    Tls(Box<TlsStream<Opening<S>>>),
}

impl<S> GateStream<S> {
    /// The first bytes of the socket, to look at when the connection has ended.
    pub fn first_bytes(&self) -> Rc<FirstBytes> {
        match self {
            GateStream::Plain(opening) => opening.first(),
            GateStream::Tls(session) => session.get_ref().0.first(),
        }
    }
}

impl Gate {
    /// The gates of every receiver, in the order in which shards number their servers. Reads certificates and keys.
    pub fn of_receivers(config: &Config, certificates: &Certificates) -> Result<Vec<Gate>, String> {
        let mut gates = Vec::new();
        for receiver in &config.receivers {
            let id = &receiver.id;
            if let Some(grpc) = &receiver.otlp.grpc {
                let (name, tls) = (format!("receiver {id}, gRPC"), grpc.tls.as_ref());
                gates.push(Gate::new(name, Alpn::Http2, tls, None, certificates)?);
            }
            if let Some(http) = &receiver.otlp.http {
                let (name, tls) = (format!("receiver {id}, HTTP"), http.tls.as_ref());
                let head_ns = http.timeouts.read_header_ns.or(http.timeouts.read_ns);
                gates.push(Gate::new(name, Alpn::Http1, tls, head_ns, certificates)?);
            }
        }
        Ok(gates)
    }

    /// The gates of every extension, in the order of the configuration.
    pub fn of_extensions(config: &Config, certificates: &Certificates) -> Result<Vec<Gate>, String> {
        let gates = config.extensions.iter().map(|extension| {
            let alpn = match extension.kind {
                ExtensionKind::HealthCheckGrpc(_) => Alpn::Http2,
                _ => Alpn::Http1,
            };
            Gate::new(format!("extension {}", extension.id), alpn, extension.tls.as_ref(), None, certificates)
        });
        gates.collect()
    }

    /// A gate that asks for nothing.
    pub fn open(name: String, alpn: Alpn) -> Gate {
        let said_at_ns = FaultKind::ALL.map(|_| AtomicU64::new(0));
        Gate(Arc::new(Inner { name, alpn, tls: None, handshake_max: HANDSHAKE_MAX, said_at_ns }))
    }

    fn new(
        name: String,
        alpn: Alpn,
        settings: Option<&TlsServerSettings>,
        handshake_max_ns: Option<u64>,
        certificates: &Certificates,
    ) -> Result<Gate, String> {
        let tls = settings.map(|settings| TlsServer::new(settings, alpn)).transpose();
        let tls = tls.map_err(|error| format!("{name}: {error}"))?;
        if let Some(tls) = &tls {
            certificates.watch_server(name.clone(), tls.clone());
        }
        let handshake_max = handshake_max_ns.map_or(HANDSHAKE_MAX, Duration::from_nanos);
        let said_at_ns = FaultKind::ALL.map(|_| AtomicU64::new(0));
        Ok(Gate(Arc::new(Inner { name, alpn, tls, handshake_max, said_at_ns })))
    }

    /// Whether TLS is spoken here.
    pub fn has_tls(&self) -> bool {
        self.0.tls.is_some()
    }

    /// How long a peer may take to pass.
    pub fn handshake_max(&self) -> Duration {
        self.0.handshake_max
    }

    /// Lets a connection in at a port without TLS.
    pub fn plain<S>(&self, socket: S) -> GateStream<S> {
        GateStream::Plain(Opening::new(socket))
    }

    /// Lets a connection in. `until` ends the wait: with a fault when time is over, with `None` when nobody is to be let
    /// in any more. An error of `None` is nothing to speak of: the peer left without a word.
    pub async fn enter<S>(
        &self,
        socket: S,
        until: impl Future<Output = Option<Fault>>,
    ) -> Result<GateStream<S>, Option<Fault>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let opening = Opening::new(socket);
        let Some(tls) = &self.0.tls else { return Ok(GateStream::Plain(opening)) };
        let mut until = pin!(until);
        let passing = pin!(self.pass(tls, opening));
        match select(passing, until.as_mut()).await {
            Either::Left((Ok(session), _)) => Ok(GateStream::Tls(session)),
            Either::Left((Err((fault, socket)), _)) => {
                if let Some(socket) = socket {
                    // Closing with bytes unread would reset the connection, and the peer would not learn why.
                    select(pin!(forget(socket)), until).await;
                }
                Err(fault)
            }
            Either::Right((fault, _)) => Err(fault),
        }
    }

    async fn pass<S>(
        &self,
        tls: &TlsServer,
        mut opening: Opening<S>,
    ) -> Result<Box<TlsStream<Opening<S>>>, (Option<Fault>, Option<Opening<S>>)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match opening.look().await {
            // A probe of the port, or somebody who thought better of it.
            Err(_) | Ok(Speaks::Nothing) => return Err((None, None)),
            Ok(Speaks::Tls) => {}
            Ok(plain) => {
                let answer = fault::answer_to_plain_text(plain);
                // The peer may be gone already.
                drop(opening.write_all(&answer).await);
                return Err((Some(Fault::plain_text(plain)), Some(opening)));
            }
        }
        tls.accept(opening).await.map_err(|(error, opening)| (Some(Fault::of(&error)), opening))
    }

    /// What a connection that was let in turned out to be: a fault where TLS came to a port of plain text.
    pub fn leave(&self, first: &FirstBytes) -> Option<Fault> {
        (!self.has_tls() && first.speaks() == Speaks::Tls).then(Fault::tls_at_plain_port)
    }

    /// Says in the log what happened, unless it was said within the hour.
    pub fn say(&self, fault: &Fault, peer: Option<IpAddr>, now_ns: u64) {
        let said_at_ns = &self.0.said_at_ns[fault.kind as usize];
        let last_ns = said_at_ns.load(Ordering::Relaxed);
        // Two shards may say it at the same moment; the bound is for people.
        if last_ns != 0 && now_ns.saturating_sub(last_ns) < SAY_AGAIN_NS {
            return;
        }
        said_at_ns.store(now_ns.max(1), Ordering::Relaxed);
        let peer = peer.map_or_else(|| "a peer without address".to_owned(), |peer| peer.to_string());
        let demands = self.0.tls.as_ref().is_some_and(TlsServer::demands_certificates);
        let (reason, what) = (fault.kind.label(), fault.sentence(demands, self.0.alpn));
        tracing::warn!(
            listener = self.0.name,
            peer,
            reason,
            "A connection was refused: {what} The next of this kind are only counted, for an hour."
        );
    }
}

/// Reads until the peer closes, within bounds.
async fn forget<S: AsyncRead + AsyncWrite + Unpin>(mut socket: S) {
    drop(socket.shutdown().await);
    let (mut buffer, mut forgotten) = ([0; 1024], 0);
    while let Ok(count) = socket.read(&mut buffer).await {
        forgotten += count;
        if count == 0 || forgotten > FORGOTTEN_BYTES_MAX {
            break;
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for GateStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            GateStream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            GateStream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for GateStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            GateStream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            GateStream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            GateStream::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            GateStream::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            GateStream::Plain(stream) => stream.is_write_vectored(),
            GateStream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            GateStream::Plain(stream) => Pin::new(stream).poll_flush(context),
            GateStream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            GateStream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            GateStream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::checked::{PemSource, TlsPolicy};

    fn with_tls() -> Gate {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let settings = TlsServerSettings {
            cert: PemSource::Inline(own.cert.pem()),
            key: PemSource::Inline(own.signing_key.serialize_pem()),
            client_ca: None,
            policy: TlsPolicy::default(),
        };
        Gate::new("receiver otlp, gRPC".to_owned(), Alpn::Http2, Some(&settings), None, &Certificates::default())
            .unwrap()
    }

    /// What becomes of a peer that sends `bytes` and then nothing, once `until` is over.
    fn enter(gate: &Gate, bytes: &[u8], until: impl Future<Output = Option<Fault>>) -> Option<Fault> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut near, far) = tokio::io::duplex(1 << 16);
            near.write_all(bytes).await.unwrap();
            gate.enter(far, until).await.expect_err("nobody gets in")
        })
    }

    #[test]
    fn a_peer_that_stops_at_any_byte_of_its_hello_is_let_go_when_time_is_over() {
        let hello = [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];
        for said in 0..=hello.len() {
            let fault = enter(&with_tls(), &hello[..said], async { Some(Fault::timeout()) });
            assert_eq!(fault, Some(Fault::timeout()), "after {said} bytes");
        }
    }

    #[test]
    fn a_drain_ends_a_handshake_without_a_word() {
        assert_eq!(enter(&with_tls(), &[22, 3, 1], async { None }), None);
    }

    #[test]
    fn a_port_of_plain_text_lets_everybody_in_and_knows_later_who_spoke_tls() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            for (bytes, expected) in [(&[22, 3, 1, 0][..], Some(Fault::tls_at_plain_port())), (b"POST", None)] {
                let gate = Gate::open("receiver otlp, HTTP".to_owned(), Alpn::Http1);
                let (mut near, far) = tokio::io::duplex(64);
                near.write_all(bytes).await.unwrap();
                drop(near);
                let mut stream = gate.enter(far, std::future::pending()).await.unwrap();
                let first = stream.first_bytes();
                let mut read = Vec::new();
                stream.read_to_end(&mut read).await.unwrap();
                assert_eq!((&read[..], gate.leave(&first)), (bytes, expected));
            }
        });
    }
}
