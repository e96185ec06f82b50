//! The server's half of gRPC on one connection: h2 streams become received requests, outcomes become trailers.
//!
//! ```text
//! h2 stream --headers--> which method, which encoding --DATA--> one buffer --handler--> outcome --> trailers
//! ```
//!
//! One task per connection accepts streams and looks at its peer now and then. A call is read, handled and answered within
//! the connection's own turn; one that has to wait for something becomes a task. Answers of calls that came together leave
//! in one write. A connection that nobody calls on rests without h2 (`http2_guard/rest.rs`).
//! The message's length is known after five bytes: admission is asked then, before the rest is gathered. Never
//! decompresses, never looks at a span.

use super::http2_guard::{Fault, Guard, Line, Waking};
use super::patience::{Patience, grpc_timeout};
use super::traffic::{Traffic, Watched};
use super::turn::{Turn, Turns};
use super::vigil::{Order, PROGRESS_BYTES_MIN, Pace, Sight, Vigil};
use super::{Body, Draining, ReceivedRequest, RequestHandler, Transport, make_room};
use crate::config::checked::KeepaliveSettings;
use crate::pipeline::client::{Client, Head};
use crate::shard::clock::Clock;
use crate::shard::runtime::{sleep, spawn, timeout};
use crate::telemetry::metrics::RejectReason;
use bytes::Bytes;
use codecs::compression::Compression;
use codecs::grpc::{self, Code, Deframer, Prefix, PrefixError, Status};
use codecs::otlp::{Format, Signal};
use h2::RecvStream;
use h2::server::{Connection, SendResponse};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// Bytes a sender may have under way on one stream before we must read: a usual request fits.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// The same for all streams of a connection together.
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
/// Largest DATA frame we invite: fewer frames for peers that use it; most send 16 KiB whatever we say.
const FRAME_BYTES_MAX: u32 = 256 << 10;
/// Sum of header names and values of one request: metadata of real clients is below 2 KiB.
const HEADER_LIST_BYTES_MAX: u32 = 16 << 10;
/// Streams of one connection at the same time, unless configured: real exporters have fewer than 100 in flight.
const STREAMS_MAX: u32 = 256;
/// Streams a peer may reset before we have looked at them (rapid reset).
const RESET_STREAMS_MAX: usize = 64;

/// Room for a message at first, however long it says that it is; more is taken as it comes.
const BODY_BYTES_FIRST: usize = 256 << 10;

/// What the server needs to know of its listener.
#[derive(Clone, Debug)]
pub struct GrpcServer {
    /// Signals that somebody behind it takes; methods of others do not exist.
    pub signals: Vec<Signal>,
    /// Largest message, compressed as it comes.
    pub message_bytes_max: usize,
    /// Streams of one connection at the same time; `None`: our own bound.
    pub streams_max: Option<u32>,
    /// When a connection has to go.
    pub keepalive: KeepaliveSettings,
    /// The shard's clock.
    pub clock: Clock,
}

impl GrpcServer {
    /// Serves one connection until the peer leaves, an error ends it, it has to go, or a drain has answered its last
    /// request.
    pub async fn serve<S, H>(&self, socket: S, handler: Rc<H>, draining: Draining)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
        H: RequestHandler + 'static,
    {
        self.serve_at(Pace::for_keepalive(&self.keepalive), socket, handler, draining).await;
    }

    /// What a method takes, or what the caller of an unknown one is told.
    fn signal_of(&self, method: &str) -> Result<Signal, Status> {
        let known = self.signals.iter().find(|signal| signal.grpc_method() == method);
        known.copied().ok_or_else(|| {
            let methods: Vec<&str> = self.signals.iter().map(|signal| signal.grpc_method()).collect();
            let message = format!("unknown method {method}; this server has {}", methods.join(", "));
            Status::new(Code::Unimplemented, message)
        })
    }

    async fn serve_at<S, H>(&self, pace: Pace, socket: S, handler: Rc<H>, draining: Draining)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
        H: RequestHandler + 'static,
    {
        self.serve_peer(Rc::new(Peer::new(self, pace)), socket, handler, draining).await;
    }

    async fn serve_peer<S, H>(&self, peer: Rc<Peer>, socket: S, handler: Rc<H>, draining: Draining)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
        H: RequestHandler + 'static,
    {
        let mut socket = Watched::new(socket, Rc::clone(&peer.traffic));
        if !socket.speaks(Some(peer.pace.stall_max), &draining).await {
            return;
        }
        let line = Line::new(socket.reading_ahead(), Rc::clone(&peer.guard));
        let mut vigil = Vigil::new(&self.keepalive, peer.pace, fastrand::f64());
        // On the heap: a task is as large as all that it ever holds at once, for as long as it lives.
        while Box::pin(self.serve_http2(&peer, line.clone(), &mut vigil, &handler, &draining)).await == Ending::Rest {
            peer.rests.set(peer.rests.get() + 1);
            if peer.rest(&line, &mut vigil, &draining).await == Waking::Gone {
                break;
            }
            line.wake();
        }
    }

    /// Serves calls until the connection ends, or until it is idle and its peer has agreed to a rest.
    async fn serve_http2<S, H>(
        &self,
        peer: &Rc<Peer>,
        line: Line<S>,
        vigil: &mut Vigil,
        handler: &Rc<H>,
        draining: &Draining,
    ) -> Ending
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
        H: RequestHandler + 'static,
    {
        let handshake = self.http2().handshake::<_, Bytes>(line.clone());
        // A peer that does not speak HTTP/2 is told so by h2 and closed; it is counted by the listener.
        let Some(Ok(mut connection)) = timeout(peer.pace.stall_max, handshake).await else {
            return Ending::Close;
        };
        let mut pings = connection.ping_pong();
        let mut drain = pin!(draining.started());
        let mut look = pin!(sleep(peer.pace.look_every));
        let (mut leaving, mut closing) = (vigil.is_leaving(), false);
        if leaving {
            connection.graceful_shutdown();
        }
        let mut turns = Turns::default();
        poll_fn(|context| {
            peer.traffic.begin_turn();
            if !leaving && drain.as_mut().poll(context).is_ready() {
                leaving = true;
                vigil.leave();
                connection.graceful_shutdown();
            }
            while look.as_mut().poll(context).is_ready() {
                look.set(sleep(peer.pace.look_every));
                if closing {
                    // Not even its last words could be written.
                    return Poll::Ready(Ending::Close);
                }
                match vigil.look(peer.sight(connection.has_streams())) {
                    Order::Stay if vigil.is_idle() && !leaving => line.ask_for_rest(),
                    Order::Stay => {}
                    Order::Ping => ask_for_life(pings.as_mut(), context),
                    Order::Leave => {
                        leaving = true;
                        connection.graceful_shutdown();
                    }
                    Order::Close(fault) => {
                        closing = true;
                        peer.close(&mut connection, fault);
                    }
                }
                peer.pass();
            }
            let turn = turns.begin(context);
            loop {
                let step = peer.poll_call(&mut connection, &turn);
                if let Some(fault) = peer.guard.fault()
                    && !closing
                {
                    closing = true;
                    peer.close(&mut connection, fault);
                    if matches!(step, Step::Wait) {
                        continue;
                    }
                }
                match step {
                    Step::Call(..) if closing => {}
                    Step::Call(request, respond) => {
                        let signal = self.signal_of(request.uri().path());
                        let route = Route { signal, bytes_max: self.message_bytes_max };
                        let call = Call::begin(peer);
                        serve_now(serve_stream(request, respond, Rc::clone(handler), route, call), context);
                    }
                    Step::End => return Poll::Ready(Ending::Close),
                    Step::Again => {}
                    Step::Wait if leaving || closing || connection.has_streams() => return Poll::Pending,
                    Step::Wait if peer.is_quiet() && line.may_rest() => return Poll::Ready(Ending::Rest),
                    Step::Wait => return Poll::Pending,
                }
            }
        })
        .await
    }

    fn http2(&self) -> h2::server::Builder {
        let mut builder = h2::server::Builder::new();
        builder
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES_MAX)
            .max_header_list_size(HEADER_LIST_BYTES_MAX)
            .max_concurrent_streams(self.streams_max.unwrap_or(STREAMS_MAX))
            .max_concurrent_reset_streams(RESET_STREAMS_MAX)
            .max_pending_accept_reset_streams(RESET_STREAMS_MAX);
        builder
    }
}

/// How the serving of calls ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// For good.
    Close,
    /// Until the peer calls again.
    Rest,
}

/// What a poll of h2 brings.
#[expect(clippy::large_enum_variant, reason = "it is matched at once and never kept")]
enum Step {
    /// Somebody calls.
    Call(Request<RecvStream>, SendResponse<Bytes>),
    /// No call, and answers that are ready now.
    Again,
    /// Nothing, until the task is woken.
    Wait,
    /// The connection has ended.
    End,
}

/// Serves a call as far as it goes at once, which is to its end unless it has to wait: only then it becomes a task.
fn serve_now(call: impl Future<Output = ()> + 'static, context: &mut Context<'_>) {
    // In a box from the first: a runtime moves a task several times until it runs, and once more when it ends.
    let mut call = Box::pin(call);
    if call.as_mut().poll(context).is_pending() {
        // Polled again as a task, it waits with the task's waker.
        spawn(call);
    }
}

/// Sends a PING, whose answer is seen as bytes that are read.
fn ask_for_life(pings: Option<&mut h2::PingPong>, context: &mut Context<'_>) {
    if let Some(pings) = pings {
        // The answer to the ping before has to be taken, or there cannot be another.
        let _ = pings.poll_pong(context);
        drop(pings.send_ping(h2::Ping::opaque()));
    }
}

/// What the tasks of one connection share.
#[derive(Debug)]
struct Peer {
    pace: Pace,
    traffic: Rc<Traffic>,
    guard: Rc<Guard>,
    /// Time since the connection began, as the sum of looks.
    passed: Cell<Duration>,
    /// Calls that wait for bytes; each look wakes them.
    waiting: RefCell<Slab<Waker>>,
    /// How often the connection has rested.
    rests: Cell<u64>,
}

impl Peer {
    fn new(server: &GrpcServer, pace: Pace) -> Peer {
        Peer {
            pace,
            traffic: Rc::default(),
            guard: Rc::new(Guard::new(server.clock, server.keepalive.ping_policy)),
            passed: Cell::default(),
            waiting: RefCell::default(),
            rests: Cell::default(),
        }
    }

    /// Polls h2 once. While more calls wait, what it writes waits too, for their answers.
    fn poll_call<S>(&self, connection: &mut Connection<S, Bytes>, turn: &Turn<'_>) -> Step
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if self.guard.call_waits() {
            self.traffic.hold_writes();
        }
        let polled = connection.poll_accept(&mut turn.context());
        let withheld = self.traffic.release_writes();
        self.guard.note_handed_out(matches!(polled, Poll::Ready(Some(Ok(_)))));
        match polled {
            Poll::Ready(Some(Ok((request, respond)))) => Step::Call(request, respond),
            Poll::Ready(_) => Step::End,
            Poll::Pending if withheld => Step::Again,
            Poll::Pending => Step::Wait,
        }
    }

    fn sight(&self, has_streams: bool) -> Sight {
        Sight {
            bytes_read: self.traffic.bytes_read(),
            bytes_written: self.traffic.bytes_written(),
            write_waits: self.traffic.write_waits(),
            calls: self.guard.calls(),
            calls_begun: self.guard.calls_begun(),
            has_streams,
            inside_frame: self.guard.inside_frame(),
        }
    }

    /// Whether nothing is under way here.
    fn is_quiet(&self) -> bool {
        self.guard.calls() == 0 && !self.traffic.write_waits()
    }

    /// Waits, without h2, until it is needed again or the connection has ended.
    async fn rest<S>(&self, line: &Line<S>, vigil: &mut Vigil, draining: &Draining) -> Waking
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut drain = pin!(draining.started());
        let mut look = pin!(sleep(self.pace.look_every));
        let waking = poll_fn(|context| {
            self.traffic.begin_turn();
            if drain.as_mut().poll(context).is_ready() {
                return Poll::Ready(Waking::Wake);
            }
            while look.as_mut().poll(context).is_ready() {
                look.set(sleep(self.pace.look_every));
                let order = vigil.look(self.sight(false));
                self.pass();
                match order {
                    Order::Stay => {}
                    Order::Ping => line.ping(),
                    Order::Leave => return Poll::Ready(Waking::Wake),
                    Order::Close(fault) => {
                        self.guard.say_last(fault);
                        return Poll::Ready(Waking::Gone);
                    }
                }
            }
            line.poll_rest(context)
        })
        .await;
        if waking == Waking::Gone {
            timeout(self.pace.look_every, line.say_last_words()).await;
        }
        waking
    }

    /// A look is over.
    fn pass(&self) {
        self.passed.set(self.passed.get() + self.pace.look_every);
        self.guard.pass(self.pace.look_every);
        for (_, waker) in self.waiting.borrow().iter() {
            waker.wake_by_ref();
        }
    }

    /// Ends the connection with the last words of `fault`.
    fn close<S: AsyncRead + AsyncWrite + Unpin>(&self, connection: &mut Connection<S, Bytes>, fault: Fault) {
        self.guard.say_last(fault);
        // h2's own GOAWAY makes it write, which lets the guard speak instead of it.
        connection.abrupt_shutdown(fault.reason());
    }
}

/// One call of a connection, from its headers to its answer.
#[derive(Debug)]
struct Call {
    peer: Rc<Peer>,
    answered: bool,
    /// Bytes of the body since the last progress, and when that was.
    gained: u64,
    progress_at: Duration,
    /// The place among those that wait.
    place: Option<usize>,
}

impl Call {
    fn begin(peer: &Rc<Peer>) -> Call {
        peer.guard.begin_call();
        let progress_at = peer.passed.get();
        Call { peer: Rc::clone(peer), answered: false, gained: 0, progress_at, place: None }
    }

    /// The next bytes of the body, `None` at its end.
    fn poll_data(&mut self, body: &mut RecvStream, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Broken>> {
        match body.poll_data(context) {
            Poll::Ready(None) => Poll::Ready(Ok(None)),
            Poll::Ready(Some(Err(_))) => Poll::Ready(Err(Broken::Stream)),
            Poll::Ready(Some(Ok(chunk))) => {
                self.gained += chunk.len() as u64;
                if self.gained >= PROGRESS_BYTES_MIN {
                    self.gained = 0;
                    self.progress_at = self.peer.passed.get();
                }
                Poll::Ready(Ok(Some(chunk)))
            }
            Poll::Pending if self.peer.passed.get() - self.progress_at >= self.peer.pace.stall_max => {
                Poll::Ready(Err(Broken::Stalled))
            }
            Poll::Pending => {
                self.wait(context.waker());
                Poll::Pending
            }
        }
    }

    fn wait(&mut self, waker: &Waker) {
        let mut waiting = self.peer.waiting.borrow_mut();
        match self.place {
            Some(place) => waiting[place].clone_from(waker),
            None => self.place = Some(waiting.insert(waker.clone())),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.peer.waiting.borrow_mut().remove(place);
        }
        self.peer.guard.end_call(self.answered);
    }
}

/// Where a call leads.
#[derive(Debug)]
struct Route {
    signal: Result<Signal, Status>,
    /// Largest message.
    bytes_max: usize,
}

/// Reads one request, has it handled, and answers it. Errors of the stream itself mean that nobody listens any more.
async fn serve_stream<H: RequestHandler>(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    handler: Rc<H>,
    route: Route,
    mut call: Call,
) {
    if let Some((http, status)) = not_grpc(&request) {
        handler.rejected(None, RejectReason::Route);
        drop(answer_not_grpc(&mut respond, http, &status));
        return;
    }
    let bytes_max = route.bytes_max;
    let wait_max = grpc_timeout(request.headers().get(&GRPC_TIMEOUT));
    let outcome = match enter(&request, route.signal, &*handler).await {
        Err(status) => Err(status),
        Ok((signal, compression, client)) => {
            let mut body = request.into_body();
            match gather(&mut body, Expected { signal, compression, bytes_max }, &*handler, &mut call).await {
                Err(Broken::Stream) => return,
                Err(Broken::Refused(status)) => Err(status),
                Err(Broken::Stalled) => {
                    handler.rejected(Some(signal), RejectReason::Malformed);
                    let message = "the message came too slowly: fewer than 4096 bytes in 30 s, and not its end";
                    Err(Status::new(Code::DeadlineExceeded, message))
                }
                Ok(received) => {
                    let (patience, presence) = Patience::of_sender(wait_max);
                    let mut handled = pin!(handler.handle(ReceivedRequest { client, patience, ..received }));
                    let mut presence = Some(presence);
                    poll_fn(|context| {
                        let polled = handled.as_mut().poll(context);
                        if polled.is_pending() && presence.is_some() && respond.poll_reset(context).is_ready() {
                            presence = None;
                            return handled.as_mut().poll(context);
                        }
                        polled
                    })
                    .await
                }
            }
        }
    };
    let sent = match outcome {
        Ok(()) => answer_ok(&mut respond),
        Err(status) => answer_error(&mut respond, &status),
    };
    // An answer that cannot be sent belongs to a stream that the peer has reset: nothing is left to do.
    call.answered = sent.is_ok();
}

/// What a client is told that does not speak gRPC, in the words of the Collector's library.
fn not_grpc(request: &Request<RecvStream>) -> Option<(StatusCode, Status)> {
    if !speaks_grpc(request) {
        let content_type = request.headers().get(http::header::CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let message = format!("invalid gRPC request content-type {content_type:?}");
        return Some((StatusCode::UNSUPPORTED_MEDIA_TYPE, Status::new(Code::InvalidArgument, message)));
    }
    if request.method() != Method::POST {
        let method = request.method().as_str();
        let message = format!("Received a HEADERS frame with :method {method:?} which should be POST");
        return Some((StatusCode::METHOD_NOT_ALLOWED, Status::new(Code::Internal, message)));
    }
    None
}

/// Whether the request says that it is gRPC (gRPC over HTTP/2, "Requests": `application/grpc`, `application/grpc+proto`).
fn speaks_grpc(request: &Request<RecvStream>) -> bool {
    let content_type = request.headers().get(http::header::CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
    content_type.strip_prefix(b"application/grpc").is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Looks at the head: what is asked, how it is encoded, and whether the sender may.
async fn enter<H: RequestHandler>(
    request: &Request<RecvStream>,
    signal: Result<Signal, Status>,
    handler: &H,
) -> Result<(Signal, Compression, Option<Rc<Client>>), Status> {
    let signal = signal.inspect_err(|_| handler.rejected(None, RejectReason::Route))?;
    let compression = compression_of(request);
    let compression = compression.inspect_err(|_| handler.rejected(Some(signal), RejectReason::Route))?;
    let client = handler.enter(Head { headers: request.headers(), uri: request.uri() }).await?;
    Ok((signal, compression, client))
}

/// Checks the headers, before a byte of the body is read.
fn compression_of(request: &Request<RecvStream>) -> Result<Compression, Status> {
    let encoding = match request.headers().get(&GRPC_ENCODING) {
        None => return Ok(Compression::None),
        Some(value) => value.to_str().unwrap_or_default(),
    };
    Compression::from_grpc_name(encoding).ok_or_else(|| {
        let message = format!("grpc-encoding {encoding:?} is not supported; use gzip, snappy, zstd or identity");
        Status::new(Code::Unimplemented, message)
    })
}

enum Broken {
    /// The peer reset the stream or the connection ended.
    Stream,
    /// The body does not come.
    Stalled,
    /// The answer is already known.
    Refused(Status),
}

impl From<h2::Error> for Broken {
    fn from(_: h2::Error) -> Broken {
        Broken::Stream
    }
}

/// A message of this many bytes or more that fills one frame stays where it was received: one copy less. A smaller one is
/// copied, lest a few bytes that wait in a queue hold the memory of all frames that were read together with them.
const WHOLE_BYTES_MIN: usize = 64 << 10;

/// What the head of a call says of its message.
#[derive(Clone, Copy, Debug)]
struct Expected {
    signal: Signal,
    /// What a message that is flagged as compressed is compressed with.
    compression: Compression,
    bytes_max: usize,
}

/// Gathers the one message of a unary call.
async fn gather<H: RequestHandler>(
    body: &mut RecvStream,
    expected: Expected,
    handler: &H,
    call: &mut Call,
) -> Result<ReceivedRequest, Broken> {
    let Expected { signal, compression: named, bytes_max } = expected;
    let reject = |reason| handler.rejected(Some(signal), reason);
    let mut deframer = Deframer::new(bytes_max);
    let mut message: Option<(Body, Prefix)> = None;
    while let Some(chunk) = poll_fn(|context| call.poll_data(body, context)).await? {
        let mut rest = &chunk[..];
        if message.is_none()
            && let Some(prefix) = deframer.take(&mut rest).map_err(|error| reject_prefix(&error, reject))?
        {
            admit(prefix, expected, handler).map_err(Broken::Refused)?;
            let body = if rest.len() == prefix.length && rest.len() >= WHOLE_BYTES_MIN {
                Body::Whole(chunk.slice_ref(std::mem::take(&mut rest)))
            } else {
                Body::Gathered(handler.take_buffer(prefix.length.min(BODY_BYTES_FIRST)))
            };
            message = Some((body, prefix));
        }
        if let Some((body, prefix)) = &mut message {
            append(body, rest, prefix.length, handler).map_err(|status| {
                reject(RejectReason::Malformed);
                Broken::Refused(status)
            })?;
        }
        // The window opens again as soon as the bytes are memory that admission has paid for.
        body.flow_control().release_capacity(chunk.len())?;
    }
    match message {
        Some((body, prefix)) if body.len() == prefix.length => {
            let compression = if prefix.compressed { named } else { Compression::None };
            let format = Format::Protobuf;
            let (transport, patience) = (Transport::Grpc, Patience::default());
            Ok(ReceivedRequest { signal, body, compression, format, transport, client: None, patience })
        }
        Some((body, prefix)) => {
            reject(RejectReason::Malformed);
            let message = format!("the message ends after {} of {} bytes", body.len(), prefix.length);
            Err(Broken::Refused(Status::new(Code::InvalidArgument, message)))
        }
        None => {
            reject(RejectReason::Malformed);
            let message = "the call carries no message";
            Err(Broken::Refused(Status::new(Code::InvalidArgument, message)))
        }
    }
}

/// Adds bytes of the message, which is to have `length` in all.
fn append<H: RequestHandler>(body: &mut Body, bytes: &[u8], length: usize, handler: &H) -> Result<(), Status> {
    match body {
        _ if bytes.is_empty() => Ok(()),
        Body::Gathered(buffer) if buffer.len() + bytes.len() <= length => {
            make_room(buffer, bytes.len(), length, handler);
            buffer.extend_from_slice(bytes);
            Ok(())
        }
        _ => {
            let message = "more bytes than the message prefix announces: a unary call carries one message";
            Err(Status::new(Code::InvalidArgument, message))
        }
    }
}

/// The message's length is known: asks for admission.
fn admit<H: RequestHandler>(prefix: Prefix, expected: Expected, handler: &H) -> Result<(), Status> {
    if prefix.compressed && expected.compression == Compression::None {
        handler.rejected(Some(expected.signal), RejectReason::Compression);
        let message = "the message is flagged as compressed but grpc-encoding names no encoding";
        return Err(Status::new(Code::Internal, message));
    }
    handler.admit(expected.signal, prefix.length)
}

fn reject_prefix(error: &PrefixError, reject: impl Fn(RejectReason)) -> Broken {
    reject(match error {
        PrefixError::Flag(_) => RejectReason::Malformed,
        PrefixError::TooLarge { .. } => RejectReason::TooLarge,
    });
    Broken::Refused(prefix_status(error))
}

/// grpc-go's codes: a message beyond the limit is RESOURCE_EXHAUSTED without a retry hint, which senders do not repeat.
fn prefix_status(error: &PrefixError) -> Status {
    let code = match error {
        PrefixError::Flag(_) => Code::Internal,
        PrefixError::TooLarge { .. } => Code::ResourceExhausted,
    };
    Status::new(code, error.to_string())
}

/// Names are made once: one from text is looked up and copied each time.
static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
static GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// An empty export response: a prefix that announces no bytes.
const EMPTY_RESPONSE: Bytes = Bytes::from_static(&[0; grpc::PREFIX_BYTES]);

fn answer_ok(respond: &mut SendResponse<Bytes>) -> Result<(), h2::Error> {
    let mut stream = respond.send_response(head(), false)?;
    stream.send_data(EMPTY_RESPONSE, false)?;
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(&GRPC_STATUS, HeaderValue::from_static("0"));
    stream.send_trailers(trailers)
}

/// A client that does not speak gRPC understands an HTTP status.
fn answer_not_grpc(respond: &mut SendResponse<Bytes>, http: StatusCode, status: &Status) -> Result<(), h2::Error> {
    let mut response = head();
    *response.status_mut() = http;
    response.headers_mut().insert(&GRPC_STATUS, HeaderValue::from(status.code.number()));
    if let Ok(message) = HeaderValue::from_str(&status.percent_encoded_message()) {
        response.headers_mut().insert("grpc-message", message);
    }
    respond.send_response(response, true).map(drop)
}

/// The "trailers only" form: the status travels in the one header block.
fn answer_error(respond: &mut SendResponse<Bytes>, status: &Status) -> Result<(), h2::Error> {
    let mut response = head();
    let headers = response.headers_mut();
    headers.insert(&GRPC_STATUS, HeaderValue::from(status.code.number()));
    if let Ok(message) = HeaderValue::from_str(&status.percent_encoded_message()) {
        headers.insert("grpc-message", message);
    }
    if status.retry_delay.is_some()
        && let Ok(details) = HeaderValue::from_str(&status.details_header())
    {
        headers.insert("grpc-status-details-bin", details);
    }
    if status.code == Code::Unimplemented {
        headers.insert("grpc-accept-encoding", HeaderValue::from_static("identity,gzip,snappy,zstd"));
    }
    respond.send_response(response, true).map(drop)
}

fn head() -> Response<()> {
    let mut response = Response::new(());
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::checked::PingPolicy;
    use crate::shard::buffers::{Buffer, Buffers};
    use crate::shard::runtime::{Runtime, run, yield_now};
    use std::io;
    use std::pin::Pin;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf};
    use tokio::sync::Notify;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const LOOK_EVERY: Duration = Duration::from_millis(2);
    const PACE: Pace = Pace { look_every: LOOK_EVERY, stall_max: Duration::from_millis(6) };
    const PATIENT: Pace = Pace { look_every: Duration::from_secs(10), stall_max: Duration::from_secs(30) };
    const MESSAGE_BYTES_MAX: usize = 4 << 20;

    /// A receiver that takes everything, unless told to wait.
    #[derive(Default)]
    struct Receiver {
        taken: Cell<usize>,
        rejected: Cell<usize>,
        room: Cell<usize>,
        gate: Option<Rc<Notify>>,
    }

    impl RequestHandler for Receiver {
        fn admit(&self, _signal: Signal, _bytes: usize) -> Result<(), Status> {
            Ok(())
        }

        fn take_buffer(&self, bytes: usize) -> Buffer {
            self.room.set(bytes);
            Buffers::new(0).take(bytes)
        }

        fn rejected(&self, _signal: Option<Signal>, _reason: RejectReason) {
            self.rejected.set(self.rejected.get() + 1);
        }

        async fn handle(&self, _request: ReceivedRequest) -> Result<(), Status> {
            if let Some(gate) = &self.gate {
                gate.notified().await;
            }
            self.taken.set(self.taken.get() + 1);
            Ok(())
        }
    }

    fn server(keepalive: KeepaliveSettings) -> GrpcServer {
        GrpcServer {
            signals: vec![Signal::Traces],
            message_bytes_max: MESSAGE_BYTES_MAX,
            streams_max: None,
            keepalive,
            clock: Clock::start(),
        }
    }

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags];
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    /// HPACK without its tables: literal names and values.
    fn headers(fields: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        for (name, value) in fields {
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).unwrap());
                block.extend(text.bytes());
            }
        }
        block
    }

    fn call(stream: u32, method: &str, content_type: &str) -> Vec<u8> {
        let fields = [
            (":method", method),
            (":scheme", "http"),
            (":path", Signal::Traces.grpc_method()),
            ("content-type", content_type),
        ];
        frame(1, 4, stream, &headers(&fields))
    }

    fn export(stream: u32) -> Vec<u8> {
        [call(stream, "POST", "application/grpc"), frame(0, 1, stream, &[0, 0, 0, 0, 0])].concat()
    }

    fn hello() -> Vec<u8> {
        [PREFACE.to_vec(), frame(4, 0, 0, &[])].concat()
    }

    /// Whole frames as (kind, flags, stream, payload).
    fn frames(mut bytes: &[u8]) -> Vec<(u8, u8, u32, Vec<u8>)> {
        let mut found = Vec::new();
        while bytes.len() >= 9 {
            let length = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
            let stream = u32::from_be_bytes([bytes[5], bytes[6], bytes[7], bytes[8]]);
            let end = 9 + length;
            if end > bytes.len() {
                break;
            }
            found.push((bytes[3], bytes[4], stream, bytes[9..end].to_vec()));
            bytes = &bytes[end..];
        }
        found
    }

    /// The error code and the words of the last GOAWAY.
    fn goaway(bytes: &[u8]) -> Option<(u32, String)> {
        let (_, _, _, payload) = frames(bytes).into_iter().rfind(|(kind, ..)| *kind == 7)?;
        let code = u32::from_be_bytes(payload[4..8].try_into().unwrap());
        Some((code, String::from_utf8_lossy(&payload[8..]).into_owned()))
    }

    fn connect(server: GrpcServer, pace: Pace, receiver: &Rc<Receiver>, room: usize) -> DuplexStream {
        let (near, far) = tokio::io::duplex(room);
        let receiver = Rc::clone(receiver);
        spawn(async move { server.serve_at(pace, far, receiver, Draining::default()).await });
        near
    }

    /// Sends `bytes`, whatever becomes of them, and returns everything that comes until the server closes.
    fn exchange(keepalive: KeepaliveSettings, pace: Pace, bytes: Vec<u8>) -> (Vec<u8>, Rc<Receiver>) {
        let receiver = Rc::new(Receiver::default());
        let serving = Rc::clone(&receiver);
        let answer = run(Runtime::Epoll, None, async move {
            let (mut reading, mut sending) = tokio::io::split(connect(server(keepalive), pace, &serving, 1 << 20));
            spawn(async move {
                drop(sending.write_all(&bytes).await);
                std::future::pending::<()>().await;
            });
            let mut answer = Vec::new();
            reading.read_to_end(&mut answer).await.unwrap();
            answer
        });
        (answer.unwrap(), receiver)
    }

    /// The far end of a connection, whose writes are counted.
    struct Counted {
        stream: DuplexStream,
        writes: Rc<Cell<usize>>,
    }

    impl AsyncRead for Counted {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_read(context, buffer)
        }
    }

    impl AsyncWrite for Counted {
        fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.writes.set(self.writes.get() + 1);
            Pin::new(&mut self.stream).poll_write(context, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_flush(context)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_shutdown(context)
        }
    }

    /// Reads until so many calls are answered.
    async fn read_answers(peer: &mut DuplexStream, answer: &mut Vec<u8>, calls: usize) {
        let answered =
            |answer: &[u8]| frames(answer).iter().filter(|(kind, flags, ..)| (*kind, flags & 1) == (1, 1)).count();
        while answered(answer) < calls {
            assert_ne!(peer.read_buf(answer).await.unwrap(), 0, "closed after {} answers", answered(answer));
        }
    }

    #[test]
    fn calls_that_came_together_are_answered_in_one_write() {
        for runtime in [Runtime::Epoll, Runtime::IoUring] {
            if runtime == Runtime::IoUring && crate::shard::runtime::probe_io_uring().is_err() {
                continue;
            }
            let receiver = Rc::new(Receiver::default());
            let serving = Rc::clone(&receiver);
            let writes = run(runtime, None, async move {
                let (mut peer, stream) = tokio::io::duplex(1 << 20);
                let writes = Rc::new(Cell::new(0));
                let counted = Counted { stream, writes: Rc::clone(&writes) };
                let server = server(KeepaliveSettings::default());
                spawn(async move { server.serve_at(PATIENT, counted, serving, Draining::default()).await });
                let mut answer = Vec::new();
                peer.write_all(&[hello(), export(1)].concat()).await.unwrap();
                read_answers(&mut peer, &mut answer, 1).await;
                let before = writes.get();
                let calls: Vec<u8> = (1..=20).flat_map(|number| export(2 * number + 1)).collect();
                peer.write_all(&calls).await.unwrap();
                read_answers(&mut peer, &mut answer, 21).await;
                writes.get() - before
            });
            assert_eq!((writes.unwrap(), receiver.taken.get()), (1, 21), "on {}", runtime.name());
        }
    }

    #[test]
    fn an_answer_does_not_wait_for_a_call_whose_headers_are_not_whole() {
        let receiver = Rc::new(Receiver::default());
        let serving = Rc::clone(&receiver);
        run(Runtime::Epoll, None, async move {
            let mut peer = connect(server(KeepaliveSettings::default()), PATIENT, &serving, 1 << 20);
            let begun = frame(1, 0, 3, &headers(&[(":method", "POST")]));
            peer.write_all(&[hello(), export(1), begun].concat()).await.unwrap();
            read_answers(&mut peer, &mut Vec::new(), 1).await;
        })
        .unwrap();
        assert_eq!(receiver.taken.get(), 1);
    }

    #[test]
    fn a_call_that_waits_keeps_no_other_waiting() {
        let gate = Rc::new(Notify::new());
        let receiver = Rc::new(Receiver { gate: Some(Rc::clone(&gate)), ..Receiver::default() });
        let serving = Rc::clone(&receiver);
        run(Runtime::Epoll, None, async move {
            let mut peer = connect(server(KeepaliveSettings::default()), PATIENT, &serving, 1 << 20);
            let refused = [call(3, "GET", "application/grpc"), frame(0, 1, 3, &[])].concat();
            peer.write_all(&[hello(), export(1), refused].concat()).await.unwrap();
            let mut answer = Vec::new();
            read_answers(&mut peer, &mut answer, 1).await;
            assert_eq!(serving.taken.get(), 0);
            gate.notify_one();
            read_answers(&mut peer, &mut answer, 2).await;
        })
        .unwrap();
        assert_eq!(receiver.taken.get(), 1);
    }

    const ENHANCE_YOUR_CALM: u32 = 11;

    fn check_flood(bytes: Vec<u8>, words: &str) {
        let (answer, _) = exchange(KeepaliveSettings::default(), PATIENT, [hello(), bytes].concat());
        assert_eq!(goaway(&answer), Some((ENHANCE_YOUR_CALM, words.to_owned())));
    }

    #[test]
    fn a_flood_of_frames_that_carry_nothing_ends_the_connection() {
        let words = "too_many_control_frames";
        check_flood(frame(6, 0, 0, &[7; 8]).repeat(2_100), words);
        check_flood(frame(4, 0, 0, &[]).repeat(2_100), words);
        check_flood(frame(8, 0, 0, &[0, 0, 0, 1]).repeat(2_100), words);
        check_flood(frame(200, 0, 0, &[]).repeat(2_100), words);
    }

    #[test]
    fn empty_data_ends_the_connection() {
        let bytes = [call(1, "POST", "application/grpc"), frame(0, 0, 1, &[]).repeat(1000)].concat();
        let (answer, _) = exchange(KeepaliveSettings::default(), PATIENT, [hello(), bytes].concat());
        assert_eq!(goaway(&answer).map(|(code, _)| code), Some(ENHANCE_YOUR_CALM));
    }

    #[test]
    fn rapid_reset_ends_the_connection() {
        let reset = |stream| [call(stream, "POST", "application/grpc"), frame(3, 0, stream, &[0, 0, 0, 8])].concat();
        let bytes: Vec<u8> = (0..20_000).flat_map(|number| reset(2 * number + 1)).collect();
        let (answer, receiver) = exchange(KeepaliveSettings::default(), PATIENT, [hello(), bytes].concat());
        assert_eq!(goaway(&answer).map(|(code, _)| code), Some(ENHANCE_YOUR_CALM));
        assert_eq!(receiver.taken.get(), 0);
    }

    #[test]
    fn a_list_of_headers_that_never_ends_ends_the_connection() {
        let fields = headers(&[("x", "y"); 100]);
        let bytes = [frame(1, 0, 1, &fields), frame(9, 0, 1, &fields).repeat(10_000)].concat();
        let (answer, _) = exchange(KeepaliveSettings::default(), PATIENT, [hello(), bytes].concat());
        assert_eq!(goaway(&answer).map(|(code, _)| code), Some(ENHANCE_YOUR_CALM));
    }

    #[test]
    fn headers_that_are_too_many_are_refused_and_the_next_call_is_served() {
        let many: Vec<(String, String)> = (0..200).map(|number| (format!("x-{number}"), "y".repeat(100))).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let block = headers(&many);
        let (first, rest) = block.split_at(16_000);
        let bomb = [frame(1, 1, 1, first), frame(9, 4, 1, rest)].concat();
        let receiver = Rc::new(Receiver::default());
        let serving = Rc::clone(&receiver);
        run(Runtime::Epoll, None, async move {
            let mut peer = connect(server(KeepaliveSettings::default()), PATIENT, &serving, 1 << 20);
            peer.write_all(&[hello(), bomb, export(3)].concat()).await.unwrap();
            while serving.taken.get() == 0 {
                yield_now().await;
            }
        })
        .unwrap();
    }

    #[test]
    fn pings_beyond_the_policy_end_the_connection_in_the_words_that_clients_know() {
        let ping_policy = Some(PingPolicy { interval_ns_min: 3_600_000_000_000, without_calls: true });
        let keepalive = KeepaliveSettings { ping_policy, ..KeepaliveSettings::default() };
        let (answer, _) = exchange(keepalive, PATIENT, [hello(), frame(6, 0, 0, &[7; 8]).repeat(4)].concat());
        assert_eq!(goaway(&answer), Some((ENHANCE_YOUR_CALM, "too_many_pings".to_owned())));
    }

    #[test]
    fn a_connection_has_to_go_with_goaway_when_it_is_old_or_without_calls() {
        let short_ns = Some(4_000_000);
        for keepalive in [
            KeepaliveSettings { connection_age_ns_max: short_ns, ..KeepaliveSettings::default() },
            KeepaliveSettings { connection_idle_ns_max: short_ns, ..KeepaliveSettings::default() },
        ] {
            // This peer does not answer the ping that asks whether it has heard: the bound for that ends it.
            let (answer, receiver) = exchange(keepalive, PACE, [hello(), export(1)].concat());
            assert_eq!(goaway(&answer).map(|(code, _)| code), Some(0));
            assert_eq!(receiver.taken.get(), 1);
        }
    }

    #[test]
    fn a_call_under_way_is_answered_before_an_old_connection_closes() {
        let keepalive = KeepaliveSettings { connection_age_ns_max: Some(4_000_000), ..KeepaliveSettings::default() };
        let gate = Rc::new(Notify::new());
        let receiver = Rc::new(Receiver { gate: Some(Rc::clone(&gate)), ..Receiver::default() });
        run(Runtime::Epoll, None, async move {
            let mut peer =
                connect(server(keepalive), Pace { stall_max: Duration::from_secs(30), ..PACE }, &receiver, 1 << 20);
            peer.write_all(&[hello(), export(1)].concat()).await.unwrap();
            let mut answer = Vec::new();
            while goaway(&answer).is_none() {
                peer.read_buf(&mut answer).await.unwrap();
            }
            gate.notify_one();
            peer.read_to_end(&mut answer).await.unwrap();
            let trailers = frames(&answer).into_iter().filter(|(kind, flags, ..)| (*kind, flags & 1) == (1, 1));
            assert_eq!(trailers.count(), 1, "the call's answer");
        })
        .unwrap();
    }

    #[test]
    fn a_peer_that_says_nothing_or_stops_within_a_frame_is_closed() {
        let keepalive = KeepaliveSettings::default;
        assert_eq!(exchange(keepalive(), PACE, Vec::new()).0, b"");
        let (answer, _) = exchange(keepalive(), PACE, PREFACE[..9].to_vec());
        assert!(!frames(&answer).iter().any(|(kind, ..)| *kind == 1), "no call was answered");
        let half = call(1, "POST", "application/grpc");
        let (answer, _) = exchange(keepalive(), PACE, [hello(), half[..half.len() - 1].to_vec()].concat());
        assert_eq!(goaway(&answer), Some((ENHANCE_YOUR_CALM, "stalled".to_owned())));
    }

    #[test]
    fn a_peer_that_asks_for_no_sign_of_life_and_gives_none_is_closed() {
        let keepalive =
            KeepaliveSettings { ping_after_ns: 4_000_000, ping_timeout_ns: 4_000_000, ..KeepaliveSettings::default() };
        let (answer, _) = exchange(keepalive, PACE, hello());
        assert!(frames(&answer).iter().any(|(kind, flags, ..)| (*kind, flags & 1) == (6, 0)), "a PING");
        assert_eq!(goaway(&answer), Some((0, String::new())));
    }

    #[test]
    fn a_message_that_does_not_come_is_refused_and_holds_little() {
        let receiver = Rc::new(Receiver::default());
        let serving = Rc::clone(&receiver);
        run(Runtime::Epoll, None, async move {
            let mut peer = connect(server(KeepaliveSettings::default()), PACE, &serving, 1 << 20);
            let begun = frame(0, 0, 1, &[0, 0, 0x3f, 0xff, 0xff]);
            peer.write_all(&[hello(), call(1, "POST", "application/grpc"), begun].concat()).await.unwrap();
            let mut answer = Vec::new();
            while !frames(&answer).iter().any(|(kind, ..)| *kind == 1) {
                peer.read_buf(&mut answer).await.unwrap();
            }
        })
        .unwrap();
        assert_eq!((receiver.rejected.get(), receiver.taken.get()), (1, 0));
        assert_eq!(receiver.room.get(), BODY_BYTES_FIRST, "4 MiB were announced");
    }

    #[test]
    fn a_peer_that_opens_no_window_is_closed() {
        let no_window = [PREFACE.to_vec(), frame(4, 0, 0, &[0, 4, 0, 0, 0, 0])].concat();
        let (answer, receiver) = exchange(KeepaliveSettings::default(), PACE, [no_window, export(1)].concat());
        assert_eq!(receiver.taken.get(), 1);
        assert_eq!(goaway(&answer), Some((ENHANCE_YOUR_CALM, "stalled".to_owned())));
    }

    #[test]
    fn a_peer_that_never_reads_is_closed_and_what_it_sends_stays_bounded() {
        let receiver = Rc::new(Receiver::default());
        run(Runtime::Epoll, None, async move {
            let near = connect(server(KeepaliveSettings::default()), PACE, &receiver, 4 << 10);
            let (_unread, mut sending) = tokio::io::split(near);
            sending.write_all(&hello()).await.unwrap();
            let mut stream = 1;
            while sending.write_all(&export(stream)).await.is_ok() {
                stream += 2;
            }
            assert!(receiver.taken.get() < 2000, "{} calls taken without an answer read", receiver.taken.get());
        })
        .unwrap();
    }

    /// The answer to a request of any kind, by h2's client.
    fn answer_to(method: &str, content_type: &str) -> http::response::Parts {
        let request = Request::builder().method(method).uri(format!("http://x{}", Signal::Traces.grpc_method()));
        let request = request.header("content-type", content_type).body(()).unwrap();
        run(Runtime::Epoll, None, async move {
            let near = connect(server(KeepaliveSettings::default()), PATIENT, &Rc::default(), 1 << 20);
            let (mut client, connection) = h2::client::handshake(near).await.unwrap();
            spawn(async move { drop(connection.await) });
            let (response, _) = client.send_request(request, true).unwrap();
            response.await.unwrap().into_parts().0
        })
        .unwrap()
    }

    #[test]
    fn who_does_not_speak_grpc_is_told_so_in_http() {
        let check = |method, content_type, status: u16, grpc_status, message: &str| {
            let answer = answer_to(method, content_type);
            assert_eq!(
                (answer.status.as_u16(), &answer.headers["grpc-status"]),
                (status, &HeaderValue::from(grpc_status))
            );
            assert_eq!(answer.headers["grpc-message"], message);
        };
        let grpc = "application/grpc";
        check("GET", grpc, 405, 13, "Received a HEADERS frame with :method \"GET\" which should be POST");
        check("POST", "text/plain", 415, 3, "invalid gRPC request content-type \"text/plain\"");
        check("GET", "application/grpcx", 415, 3, "invalid gRPC request content-type \"application/grpcx\"");
    }

    /// Looks often, and has patience with a machine that is slow.
    const RESTFUL: Pace = Pace { look_every: LOOK_EVERY, stall_max: Duration::from_secs(600) };

    /// A connection whose rests can be counted.
    fn connect_restful(receiver: &Rc<Receiver>, draining: &Draining) -> (DuplexStream, Rc<Peer>) {
        let server = server(KeepaliveSettings::default());
        let (near, far) = tokio::io::duplex(1 << 20);
        let peer = Rc::new(Peer::new(&server, RESTFUL));
        let (serving, receiver, draining) = (Rc::clone(&peer), Rc::clone(receiver), draining.clone());
        spawn(async move { server.serve_peer(serving, far, receiver, draining).await });
        (near, peer)
    }

    const SETTINGS_ANSWER: (u8, u8, u32, &[u8]) = (4, 1, 0, &[]);
    const NO_TABLE: (u8, u8, u32, &[u8]) = (4, 0, 0, &[0, 1, 0, 0, 0, 0]);
    const A_TABLE: (u8, u8, u32, &[u8]) = (4, 0, 0, &[0, 1, 0, 0, 16, 0]);
    const PING_ANSWER: (u8, u8, u32, &[u8]) = (6, 1, 0, &[7; 8]);

    /// A peer that writes frames in pieces and takes them one by one.
    struct RawPeer {
        stream: DuplexStream,
        piece_bytes: usize,
        read: Vec<u8>,
        taken: Vec<(u8, u8, u32, Vec<u8>)>,
    }

    impl RawPeer {
        fn new(stream: DuplexStream, piece_bytes: usize) -> RawPeer {
            RawPeer { stream, piece_bytes, read: Vec::new(), taken: Vec::new() }
        }

        async fn send(&mut self, bytes: &[u8]) {
            for piece in bytes.chunks(self.piece_bytes) {
                self.stream.write_all(piece).await.unwrap();
                yield_now().await;
            }
        }

        /// Takes frames until this one has come.
        async fn expect(&mut self, expected: (u8, u8, u32, &[u8])) {
            let (kind, flags, stream, payload) = expected;
            let expected = (kind, flags, stream, payload.to_vec());
            while !self.taken.contains(&expected) {
                self.take().await;
            }
            self.taken.clear();
        }

        async fn take(&mut self) {
            while frames(&self.read).is_empty() {
                assert_ne!(self.stream.read_buf(&mut self.read).await.unwrap(), 0, "closed after {:?}", self.taken);
            }
            let first = frames(&self.read).swap_remove(0);
            self.read.drain(..9 + first.3.len());
            self.taken.push(first);
        }

        /// Brings the connection to rest: after its answer to the ping, h2 is gone.
        async fn rest(&mut self) {
            self.expect(NO_TABLE).await;
            self.send(&[frame(4, 1, 0, &[]), frame(6, 0, 0, &[7; 8])].concat()).await;
            self.expect(PING_ANSWER).await;
        }
    }

    /// Its peer has emptied the table, and says so (RFC 7541, 6.3).
    fn export_without_table(stream: u32) -> Vec<u8> {
        let (whole, mut block) = (call(stream, "POST", "application/grpc"), vec![0x20]);
        block.extend(&whole[9..]);
        [frame(1, 4, stream, &block), frame(0, 1, stream, &[0, 0, 0, 0, 0])].concat()
    }

    #[test]
    fn an_idle_connection_rests_and_calls_are_served_whenever_they_come() {
        for piece_bytes in [1, 3, 8, 1000] {
            let receiver = Rc::new(Receiver::default());
            let serving = Rc::clone(&receiver);
            run(Runtime::Epoll, None, async move {
                let (stream, peer) = connect_restful(&serving, &Draining::default());
                let mut raw = RawPeer::new(stream, piece_bytes);
                raw.send(&[hello(), export(1), frame(4, 1, 0, &[])].concat()).await;
                raw.expect((8, 0, 0, &(CONNECTION_WINDOW_BYTES - 65_535).to_be_bytes())).await;
                for round in 1..5 {
                    raw.rest().await;
                    assert_eq!(peer.rests.get(), u64::from(round), "in pieces of {piece_bytes}");
                    // What concerns a call that has ended, and a sign of life, need no h2.
                    let late = [frame(3, 0, 1, &[0, 0, 0, 8]), frame(8, 0, 0, &[0, 0, 0, 9])].concat();
                    raw.send(&[late, frame(6, 0, 0, &[7; 8])].concat()).await;
                    raw.expect(PING_ANSWER).await;
                    raw.send(&export_without_table(2 * round + 1)).await;
                    raw.expect(A_TABLE).await;
                    raw.expect((8, 0, 0, &[0, 0, 0, 5])).await;
                    while serving.taken.get() <= round as usize {
                        raw.take().await;
                    }
                    raw.send(&frame(4, 1, 0, &[])).await;
                    let (kind, flags, stream, payload) = SETTINGS_ANSWER;
                    assert!(!raw.taken.contains(&(kind, flags, stream, payload.to_vec())), "it was answered long ago");
                }
            })
            .unwrap();
            assert_eq!(receiver.taken.get(), 5);
        }
    }

    #[test]
    fn windows_and_compressed_headers_survive_many_rests() {
        let receiver = Rc::new(Receiver::default());
        run(Runtime::Epoll, None, async move {
            let (near, peer) = connect_restful(&receiver, &Draining::default());
            let mut builder = h2::client::Builder::new();
            builder.header_table_size(2_000).initial_window_size(100_000).initial_connection_window_size(300_000);
            let (client, connection) = builder.handshake::<_, Bytes>(near).await.unwrap();
            spawn(async move { drop(connection.await) });
            let mut client = client.ready().await.unwrap();
            // 16 MiB, twice what fits into the connection's window.
            for round in 0..40u32 {
                for metadata in ["first", "second"] {
                    let request = Request::builder().method("POST").header("content-type", "application/grpc");
                    let request = request.uri(format!("http://x{}", Signal::Traces.grpc_method()));
                    let request = request.header("x-round", round).header("x-metadata", metadata).body(()).unwrap();
                    let (response, mut body) = client.send_request(request, false).unwrap();
                    let mut message = vec![0; 200_000];
                    message[1..5].copy_from_slice(&199_995u32.to_be_bytes());
                    body.send_data(message.into(), true).unwrap();
                    let mut answer = response.await.unwrap().into_body();
                    while let Some(data) = answer.data().await {
                        answer.flow_control().release_capacity(data.unwrap().len()).unwrap();
                    }
                    let trailers = answer.trailers().await.unwrap().unwrap();
                    assert_eq!(trailers["grpc-status"], "0", "round {round}");
                }
                while peer.rests.get() <= u64::from(round) {
                    sleep(LOOK_EVERY).await;
                }
            }
            assert_eq!(receiver.taken.get(), 80);
        })
        .unwrap();
    }

    #[test]
    fn a_drain_reaches_a_connection_that_rests() {
        let receiver = Rc::new(Receiver::default());
        run(Runtime::Epoll, None, async move {
            let draining = Draining::default();
            let (stream, peer) = connect_restful(&receiver, &draining);
            let mut raw = RawPeer::new(stream, 1000);
            raw.send(&[hello(), export(1), frame(4, 1, 0, &[])].concat()).await;
            raw.rest().await;
            assert_eq!(peer.rests.get(), 1);
            draining.begin();
            raw.expect((7, 0, 0, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0])).await;
        })
        .unwrap();
    }

    #[test]
    fn a_resting_peer_that_floods_or_stops_within_a_frame_is_closed() {
        let half_a_ping = frame(6, 0, 0, &[7; 8])[..12].to_vec();
        for (pace, bytes, words) in [
            (PATIENT, frame(6, 0, 0, &[7; 8]).repeat(2_100), "too_many_control_frames"),
            (PACE, half_a_ping, "stalled"),
        ] {
            let receiver = Rc::new(Receiver::default());
            run(Runtime::Epoll, None, async move {
                let server = server(KeepaliveSettings::default());
                let (near, far) = tokio::io::duplex(1 << 20);
                let peer = Rc::new(Peer::new(&server, Pace { look_every: LOOK_EVERY, ..pace }));
                let serving = Rc::clone(&peer);
                spawn(async move { server.serve_peer(serving, far, receiver, Draining::default()).await });
                let mut raw = RawPeer::new(near, 100_000);
                raw.send(&[hello(), export(1), frame(4, 1, 0, &[])].concat()).await;
                raw.rest().await;
                raw.send(&bytes).await;
                let mut answer = std::mem::take(&mut raw.read);
                raw.stream.read_to_end(&mut answer).await.unwrap();
                assert_eq!(goaway(&answer), Some((ENHANCE_YOUR_CALM, words.to_owned())));
            })
            .unwrap();
        }
    }
}
