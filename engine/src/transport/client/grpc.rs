//! One gRPC client per (exporter, shard): unary calls over one HTTP/2 connection, as many at a time as the caller makes.
//!
//! ```text
//!          call                       connected                     peer leaves (it had spoken)
//!  Idle ---------> Connecting ---------------------------> Up ---------------------------------> Idle
//!   ^                  |                                    |
//!   |                  | cannot connect                     | lost before the peer said a word
//!   |   backoff over   v                                    |
//!   +-------------- Resting <-------------------------------+
//! ```
//!
//! The one idea: a call waits for Connecting, uses Up, and fails at once with the last error while Resting. The caller's
//! retries space the attempts, Resting only keeps many callers from hammering a dead peer, so it is short. One spawned
//! task makes a connection, drives it and rests after it; no task is ever cancelled, and a call that runs out of time
//! only drops its own stream.
//!
//! A body goes to h2 in one piece, without waiting for window capacity: it is in memory anyway, charged to the queue
//! until the answer, and h2 cuts it as the peer's windows open. Waiting ourselves would wake the call for each window
//! update and save nothing.
//!
//! Decides nothing about retries of data, with one exception: a call that the peer certainly has not looked at (its
//! stream was never opened, or refused by a graceful GOAWAY) is sent once more on a new connection.

use super::dial::Dialer;
use super::peer_stream::{PeerStream, Seen};
use super::{ANSWER_BYTES_MAX, ClientError, PeerSettings, Problem, extra_headers, host_and_port, user_agent};
use crate::shard::runtime::{sleep, spawn, timeout};
use crate::transport::tls::Alpn;
use bytes::{Bytes, BytesMut};
use codecs::compression::Compression;
use codecs::grpc::{self, Code, Status};
use futures_util::future::{Either, select};
use h2::client::{Connection, SendRequest};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Notify;

/// Answers are small: a window of this size is never the limit, and bounds what a peer can make us hold.
const WINDOW_BYTES: u32 = 1 << 20;
/// Largest DATA frame we invite.
const FRAME_BYTES_MAX: u32 = 256 << 10;
/// Header names and values of one answer, error details included.
const HEADER_LIST_BYTES_MAX: u32 = 64 << 10;
/// Rest after a failed connection: the first, and the longest. Shorter than the usual retry interval (5 s), so that a
/// retry finds the client ready to try again.
const REST_FIRST: Duration = Duration::from_millis(200);
const REST_MAX: Duration = Duration::from_secs(3);
/// How long a silent peer may take to answer a ping once a call has timed out on it.
const PING_TIMEOUT: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 5000 });
/// Sends of one call: the second only when the peer has certainly not looked at the first.
const SENDS_MAX: usize = 2;
/// Text of an answer that is no gRPC, quoted in an error.
const QUOTE_BYTES_MAX: usize = 200;

/// What the peer answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcAnswer {
    /// `grpc-status` and its kin; made from the HTTP status when the answer was no gRPC.
    pub status: Status,
    /// The response message, unframed; empty if there was none or it was compressed, which we never ask for.
    pub message: Bytes,
}

/// See the module. Cloning shares the connection.
#[derive(Clone, Debug)]
pub struct GrpcClient(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    dialer: Dialer,
    scheme: http::uri::Scheme,
    authority: http::uri::Authority,
    headers: HeaderMap,
    timeout: Option<Duration>,
    link: RefCell<Link>,
    /// Tells waiting calls, and a closer, that `link` has changed.
    changed: Notify,
    /// Connections made so far: tells a call whether the link is still the one it used.
    connections: Cell<u64>,
    /// Connection tasks that have not ended.
    tasks: Cell<usize>,
    failures_in_a_row: Cell<u32>,
}

#[derive(Debug)]
enum Link {
    Idle,
    Connecting,
    Up(Line),
    Resting(ClientError),
    Closed,
}

/// A connection that takes calls.
#[derive(Clone, Debug)]
struct Line {
    number: u64,
    sender: SendRequest<Bytes>,
    seen: Rc<Seen>,
    watch: Rc<Watch>,
}

/// What calls tell the task of their connection.
#[derive(Debug, Default)]
struct Watch {
    /// A call has timed out in silence: is the peer still there?
    doubt: Notify,
    /// The peer has answered a call: this connection was of use.
    answered: Cell<bool>,
}

/// Why one send of a call failed.
enum Failure {
    /// The peer has not looked at it.
    Untouched(h2::Error),
    /// Nobody knows.
    Unknown(h2::Error),
}

impl GrpcClient {
    /// Checks the settings; connects at the first call, or at [`GrpcClient::connect`]. Errors name the setting.
    pub fn new(peer: &PeerSettings) -> Result<GrpcClient, String> {
        let authority = peer.authority.clone().unwrap_or_else(|| host_and_port(&peer.endpoint));
        let authority =
            authority.parse().map_err(|error| format!("endpoint: {authority:?} is no host and port: {error}"))?;
        let mut headers = extra_headers(&peer.headers)?;
        let agent = HeaderValue::from_str(&user_agent()).expect("the user agent is ASCII");
        headers.insert(http::header::USER_AGENT, agent);
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(http::header::TE, HeaderValue::from_static("trailers"));
        headers.insert(HeaderName::from_static("grpc-accept-encoding"), HeaderValue::from_static("identity"));
        if let Some(limit) = peer.timeout {
            headers.insert(HeaderName::from_static("grpc-timeout"), grpc_timeout(limit));
        }
        Ok(GrpcClient(Rc::new(Inner {
            dialer: Dialer::new(peer, Alpn::Http2),
            scheme: if peer.tls.is_some() { http::uri::Scheme::HTTPS } else { http::uri::Scheme::HTTP },
            authority,
            headers,
            timeout: peer.timeout,
            link: RefCell::new(Link::Idle),
            changed: Notify::new(),
            connections: Cell::new(0),
            tasks: Cell::new(0),
            failures_in_a_row: Cell::new(0),
        })))
    }

    /// What every call sends beside its encoding.
    pub fn headers(&self) -> &HeaderMap {
        &self.0.headers
    }

    /// Begins to connect without waiting, so that the first call finds a connection.
    pub fn connect(&self) {
        let idle = matches!(*self.0.link.borrow(), Link::Idle);
        if idle {
            start(&self.0);
        }
    }

    /// Sends one message to `path` (`/package.Service/Method`) and waits for the answer, at most the timeout.
    ///
    /// `framed` is the 5-byte prefix with the message behind it, compressed as `compression` says; `headers` are sent
    /// instead of [`GrpcClient::headers`]. Every error means that no answer came.
    pub async fn call(
        &self,
        path: &'static str,
        framed: Bytes,
        compression: Compression,
        headers: Option<HeaderMap>,
    ) -> Result<GrpcAnswer, ClientError> {
        // The line this call uses and the bytes seen on it before: what a timeout is judged by.
        let used: RefCell<Option<(Line, u64)>> = RefCell::new(None);
        let head = self.0.head(path, compression, headers);
        let exchange = self.exchange(head, framed, &used);
        let Some(limit) = self.0.timeout else {
            return exchange.await;
        };
        if let Some(result) = timeout(limit, exchange).await {
            return result;
        }
        let used = used.into_inner();
        if let Some((line, bytes_before)) = &used
            && line.seen.bytes() == *bytes_before
        {
            line.watch.doubt.notify_one();
        }
        Err(self.0.dialer.too_late(limit, used.is_some()))
    }

    /// Takes no more calls, lets those under way finish, and resolves when every connection has ended. The caller
    /// bounds the wait.
    pub async fn close(&self) {
        self.0.set(Link::Closed);
        while self.0.tasks.get() > 0 {
            self.0.changed.notified().await;
        }
    }

    async fn exchange(
        &self,
        head: Request<()>,
        framed: Bytes,
        used: &RefCell<Option<(Line, u64)>>,
    ) -> Result<GrpcAnswer, ClientError> {
        let mut sends = 0;
        loop {
            let line = self.line().await?;
            used.replace(Some((line.clone(), line.seen.bytes())));
            sends += 1;
            match self.0.send(&line, head.clone(), framed.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(Failure::Untouched(_)) if sends < SENDS_MAX => self.0.forget(line.number),
                Err(Failure::Untouched(error) | Failure::Unknown(error)) => {
                    return Err(self.0.dialer.lost(&error, &line.seen));
                }
            }
        }
    }

    /// The connection in use; makes one if there is none.
    async fn line(&self) -> Result<Line, ClientError> {
        loop {
            let idle = match &*self.0.link.borrow() {
                Link::Up(line) => return Ok(line.clone()),
                Link::Resting(error) => return Err(error.clone()),
                Link::Closed => return Err(self.0.dialer.error(Problem::Closed, "the exporter is shut down")),
                Link::Connecting => false,
                Link::Idle => true,
            };
            if idle {
                start(&self.0);
            }
            self.0.changed.notified().await;
        }
    }
}

impl Inner {
    fn set(&self, link: Link) {
        let mut current = self.link.borrow_mut();
        // A closed client stays closed, whatever a connection's task finds out later.
        if !matches!(*current, Link::Closed) {
            *current = link;
        }
        drop(current);
        self.changed.notify_waiters();
    }

    /// Takes no new calls on connection `number`; those under way on it finish.
    fn forget(&self, number: u64) {
        let current = matches!(&*self.link.borrow(), Link::Up(line) if line.number == number);
        if current {
            self.set(Link::Idle);
        }
    }

    async fn send(&self, line: &Line, head: Request<()>, framed: Bytes) -> Result<GrpcAnswer, Failure> {
        let mut sender = line.sender.clone().ready().await.map_err(Failure::Untouched)?;
        let (response, mut body) = sender.send_request(head, false).map_err(Failure::Untouched)?;
        // An error here means that the stream has ended already: the response knows why.
        drop(body.send_data(framed, true));
        let response = response.await.map_err(failure)?;
        line.watch.answered.set(true);
        let (head, mut body) = response.into_parts();
        let mut message = BytesMut::new();
        while let Some(chunk) = poll_fn(|context| body.poll_data(context)).await {
            let chunk = chunk.map_err(failure)?;
            let room = ANSWER_BYTES_MAX - message.len();
            message.extend_from_slice(&chunk[..chunk.len().min(room)]);
            body.flow_control().release_capacity(chunk.len()).map_err(Failure::Unknown)?;
        }
        let trailers = poll_fn(|context| body.poll_trailers(context)).await.map_err(failure)?;
        Ok(answer(&head, message.freeze(), trailers.as_ref()))
    }

    fn head(&self, path: &'static str, compression: Compression, headers: Option<HeaderMap>) -> Request<()> {
        let uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(http::uri::PathAndQuery::from_static(path))
            .build()
            .expect("scheme, authority and path are each checked");
        let mut request = Request::new(());
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers.unwrap_or_else(|| self.headers.clone());
        if compression != Compression::None {
            let name = HeaderName::from_static("grpc-encoding");
            request.headers_mut().insert(name, HeaderValue::from_static(compression.grpc_name()));
        }
        request
    }
}

/// Sets out for a connection: one task from here to the end of its life.
fn start(inner: &Rc<Inner>) {
    inner.set(Link::Connecting);
    inner.tasks.set(inner.tasks.get() + 1);
    let inner = Rc::clone(inner);
    spawn(async move {
        live(&inner).await;
        inner.tasks.set(inner.tasks.get() - 1);
        inner.changed.notify_waiters();
    });
}

/// A connection's whole life: dial, serve calls, and rest if it was of no use.
async fn live(inner: &Inner) {
    let failed = match inner.dialer.dial().await {
        Err(error) => error,
        Ok((stream, seen)) => match serve(inner, stream, &seen).await {
            Err(error) => inner.dialer.lost(&error, &seen),
            Ok(()) => return,
        },
    };
    rest(inner, failed).await;
}

/// Offers a fresh connection to calls until it ends. The error says why it was never of use.
async fn serve(inner: &Inner, stream: PeerStream, seen: &Rc<Seen>) -> Result<(), h2::Error> {
    let (sender, connection) = handshake(stream).await?;
    let number = inner.connections.get() + 1;
    inner.connections.set(number);
    let watch = Rc::new(Watch::default());
    inner.set(Link::Up(Line { number, sender, seen: Rc::clone(seen), watch: Rc::clone(&watch) }));
    let ended = drive(connection, &watch.doubt).await;
    let current = matches!(&*inner.link.borrow(), Link::Up(line) if line.number == number);
    if watch.answered.get() {
        inner.failures_in_a_row.set(0);
    } else if current && ended.is_err() {
        return ended;
    }
    inner.forget(number);
    Ok(())
}

async fn handshake(stream: PeerStream) -> Result<(SendRequest<Bytes>, Connection<PeerStream, Bytes>), h2::Error> {
    h2::client::Builder::new()
        .initial_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .enable_push(false)
        .handshake(stream)
        .await
}

/// Moves the connection's bytes until it ends. When a call doubts the peer, a ping must come back in time: a peer that
/// vanished without a word would otherwise hold every call until TCP gives up, many minutes later.
async fn drive(mut connection: Connection<PeerStream, Bytes>, doubt: &Notify) -> Result<(), h2::Error> {
    let mut ping_pong = connection.ping_pong().expect("nobody has taken it before");
    let mut connection = pin!(connection);
    loop {
        match select(connection.as_mut(), pin!(doubt.notified())).await {
            Either::Left((ended, _)) => return ended,
            Either::Right(_) => {
                let pong = pin!(timeout(PING_TIMEOUT, ping_pong.ping(h2::Ping::opaque())));
                match select(connection.as_mut(), pong).await {
                    Either::Left((ended, _)) => return ended,
                    Either::Right((Some(Ok(_)), _)) => {}
                    // Dropping the connection ends its calls: they are told that it was lost.
                    Either::Right(_) => return Ok(()),
                }
            }
        }
    }
}

/// Keeps the error for calls until the next connection may be tried.
async fn rest(inner: &Inner, error: ClientError) {
    let failures = inner.failures_in_a_row.get();
    inner.failures_in_a_row.set(failures.saturating_add(1));
    inner.set(Link::Resting(error));
    let longest = REST_FIRST.saturating_mul(1 << failures.min(8)).min(REST_MAX);
    // Shards that lost the same peer come back at different moments.
    sleep(longest.mul_f64(0.8 + 0.2 * fastrand::f64())).await;
    if matches!(&*inner.link.borrow(), Link::Resting(_)) {
        inner.set(Link::Idle);
    }
}

fn failure(error: h2::Error) -> Failure {
    // RFC 9113, 6.8 and 8.7: streams refused, or beyond the last one of a graceful GOAWAY, were not processed.
    let graceful = error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR);
    let refused = error.is_reset() && error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    if graceful || refused { Failure::Untouched(error) } else { Failure::Unknown(error) }
}

/// The answer's status: from the trailers, from the one header block of a "trailers only" answer, or from HTTP.
fn answer(head: &http::response::Parts, body: Bytes, trailers: Option<&HeaderMap>) -> GrpcAnswer {
    let status = trailers.and_then(status_of).or_else(|| status_of(&head.headers));
    let status = status.unwrap_or_else(|| status_from_http(head, &body));
    GrpcAnswer { status, message: unframed(&body) }
}

fn status_of(headers: &HeaderMap) -> Option<Status> {
    let value = |name| headers.get(name).map(HeaderValue::as_bytes);
    let status = value("grpc-status")?;
    Some(Status::from_trailers(Some(status), value("grpc-message"), value("grpc-status-details-bin")))
}

/// A peer, or a proxy before it, that answers without `grpc-status`: the code is gRPC's own mapping of HTTP statuses.
fn status_from_http(head: &http::response::Parts, body: &Bytes) -> Status {
    let code = match head.status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    };
    let quote = String::from_utf8_lossy(&body[..body.len().min(QUOTE_BYTES_MAX)]);
    let quote: String = quote.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    Status::new(code, format!("the answer is no gRPC: HTTP status {} {}", head.status.as_u16(), quote.trim()))
}

fn unframed(body: &Bytes) -> Bytes {
    let prefix: Option<&[u8; grpc::PREFIX_BYTES]> = body.first_chunk();
    match prefix.and_then(grpc::read_prefix) {
        Some((false, length)) if body.len() == grpc::PREFIX_BYTES + length => body.slice(grpc::PREFIX_BYTES..),
        _ => Bytes::new(),
    }
}

/// `grpc-timeout`: at most eight digits and a unit.
fn grpc_timeout(limit: Duration) -> HeaderValue {
    let (count, unit) = match limit.as_millis() {
        millis if millis < 100_000_000 => (millis.max(1), 'm'),
        millis => ((millis / 1000).min(99_999_999), 'S'),
    };
    HeaderValue::from_str(&format!("{count}{unit}")).expect("digits and a letter")
}
