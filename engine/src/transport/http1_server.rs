//! The server's half of OTLP/HTTP on one connection: HTTP/1.1 requests become received requests, outcomes responses.
//!
//! ```text
//! hyper --head--> which path, method, type, encoding --body--> one buffer --handler--> outcome --> status, Status body
//! ```
//!
//! One task per connection; requests on it come one after the other. A length that is announced is judged before a
//! byte of the body is read, one that is not (chunked) as the body grows. Whatever the answer, the rest of the body is
//! read and forgotten first: a peer that is still sending when its connection closes gets a reset instead of the answer.
//! Never decompresses, never looks at a span. An HTTP/2 peer (a gRPC client on the wrong port) is closed without an
//! answer, which its library reports as a wrong protocol.

use super::cors::Cors;
use super::patience::Patience;
use super::traffic::{Traffic, Watched};
use super::vigil::{PROGRESS_BYTES_MIN, Pace};
use super::{Draining, ReceivedRequest, RequestHandler, Transport, make_room};
use crate::config::checked::HttpServerSettings;
use crate::pipeline::client::{Client, Head};
use crate::shard::buffers::Buffer;
use crate::shard::hyper_io::HyperIo;
use crate::shard::runtime::{sleep, spawn};
use crate::telemetry::metrics::RejectReason;
use bytes::Bytes;
use codecs::compression::Compression;
use codecs::grpc::{Code, Status};
use codecs::json;
use codecs::otlp::{self, Format, Signal};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

/// Largest head of a request (431 beyond it).
const HEAD_BYTES_MAX: usize = 32 << 10;
/// hyper's read buffer: a body arrives in pieces of at most this size.
const READ_BYTES_MAX: usize = 64 << 10;
/// Headers of one request (431 beyond it): real exporters send about ten.
const HEADERS_MAX: usize = 64;
/// Room for a body of unknown length at first; it doubles from there, asking for admission each time.
const CHUNKED_BYTES_FIRST: usize = 64 << 10;
/// Bytes of a refused body that are read and forgotten. A longer one may see a reset instead of the answer.
const FORGOTTEN_BYTES_MAX: usize = 64 << 20;
/// Room for a body at first, however long it says that it is; more is taken as it comes.
const BODY_BYTES_FIRST: usize = 256 << 10;

/// What the server needs to know of its listener.
#[derive(Clone, Debug)]
pub struct HttpServer {
    /// Largest body, compressed as it comes.
    pub body_bytes_max: usize,
    /// Signals that somebody behind it takes, with their paths; others do not exist.
    paths: Vec<(Signal, String)>,
    cors: Option<Cors>,
    response_headers: HeaderMap,
    keeps_alive: bool,
    limits: Limits,
}

/// What a connection may take its time for. `None`: as long as it likes.
#[derive(Clone, Debug)]
struct Limits {
    pace: Pace,
    head_max: Duration,
    body_max: Option<Duration>,
    /// From the last byte of a request to the end of its answer.
    answer_max: Option<Duration>,
    idle_max: Option<Duration>,
    age_max: Option<Duration>,
    grace: Option<Duration>,
}

impl Limits {
    fn new(settings: &HttpServerSettings) -> Limits {
        let (timeouts, keepalive) = (&settings.timeouts, &settings.keepalive);
        let head_ns = timeouts.read_header_ns.or(timeouts.read_ns);
        let idle_ns = timeouts.idle_ns.or(keepalive.connection_idle_ns_max).or(timeouts.read_ns);
        let (age_ns, grace_ns) = (keepalive.connection_age_ns_max, keepalive.connection_age_grace_ns);
        let pace = Pace::for_limits([head_ns, timeouts.read_ns, timeouts.write_ns, idle_ns, age_ns, grace_ns]);
        Limits {
            pace,
            head_max: head_ns.map_or(pace.stall_max, Duration::from_nanos),
            body_max: timeouts.read_ns.map(Duration::from_nanos),
            answer_max: timeouts.write_ns.map(Duration::from_nanos),
            idle_max: idle_ns.map(Duration::from_nanos),
            age_max: age_ns.map(Duration::from_nanos),
            grace: grace_ns.map(Duration::from_nanos),
        }
    }
}

impl HttpServer {
    /// A server of these signals, by these settings.
    pub fn new(settings: &HttpServerSettings, signals: &[Signal]) -> HttpServer {
        let headers = settings.response_headers.iter();
        let valid = headers.filter_map(|(name, value)| {
            Some((header::HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
        });
        HttpServer {
            body_bytes_max: settings.body_bytes_max,
            paths: signals.iter().map(|&signal| (signal, settings.paths[signal as usize].clone())).collect(),
            cors: settings.cors.as_ref().map(Cors::new),
            response_headers: valid.collect(),
            keeps_alive: settings.keeps_alive,
            limits: Limits::new(settings),
        }
    }

    /// Serves one connection until the peer leaves, stalls or breaks the protocol, it has to go, or a drain has answered
    /// its last request.
    pub async fn serve<S, H>(&self, socket: S, handler: Rc<H>, draining: Draining)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
        H: RequestHandler + 'static,
    {
        let progress = Rc::new(Progress::default());
        let mut socket = Watched::new(socket, Rc::clone(&progress.traffic));
        while socket.speaks(progress.patience(&self.limits), &draining).await {
            // On the heap: a task is as large as all that it ever holds at once, for as long as it lives.
            match Box::pin(self.serve_http1(socket, &handler, &draining, &progress)).await {
                None => return,
                Some(parked) => socket = parked,
            }
        }
    }

    /// Serves requests until the connection ends, or until it is idle, when it gives its socket back: hyper's buffers
    /// are 16 KiB, and most connections are idle most of the time.
    async fn serve_http1<S, H>(
        &self,
        socket: Watched<S>,
        handler: &Rc<H>,
        draining: &Draining,
        progress: &Progress,
    ) -> Option<Watched<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
        H: RequestHandler + 'static,
    {
        let service = hyper::service::service_fn(async |request: Request<Incoming>| {
            let response = self.answer_any(request, handler, progress).await;
            progress.enter(Phase::Head);
            Ok::<_, Infallible>(response)
        });
        let mut connection = hyper::server::conn::http1::Builder::new()
            .max_buf_size(READ_BYTES_MAX)
            .max_header_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .keep_alive(self.keeps_alive)
            // hyper's own timer would have to be Send; `watch` bounds the head and the body as well.
            .header_read_timeout(None)
            // A peer that has sent its last request and closed its half still gets the answer.
            .half_close(true)
            .serve_connection(HyperIo(socket), service);
        let ending = {
            let mut drain = pin!(draining.started());
            let mut watch = pin!(progress.watch(&self.limits));
            let mut leaving = false;
            poll_fn(|context| {
                progress.traffic.begin_turn();
                if let Poll::Ready(ending) = watch.as_mut().poll(context) {
                    return Poll::Ready(ending);
                }
                if !leaving && (progress.has_to_leave.get() || drain.as_mut().poll(context).is_ready()) {
                    leaving = true;
                    Pin::new(&mut connection).graceful_shutdown();
                }
                // What ended the connection concerns nobody else; its requests have been counted by the handler.
                Pin::new(&mut connection).poll(context).map(|_| Ending::Close)
            })
            .await
        };
        if ending == Ending::Close {
            return None;
        }
        let parts = connection.into_parts();
        let mut socket = parts.io.0;
        socket.put_back(parts.read_buf);
        Some(socket)
    }

    /// What stands in front of every answer: headers of the configuration, and permission for other origins.
    async fn answer_any<H: RequestHandler + 'static>(
        &self,
        request: Request<Incoming>,
        handler: &Rc<H>,
        progress: &Progress,
    ) -> Response<Full<Bytes>> {
        let (method, headers) = (request.method(), request.headers());
        let preflight = self.cors.as_ref().and_then(|cors| cors.preflight(method, headers));
        let permission = self.cors.as_ref().filter(|_| preflight.is_none()).map(|cors| cors.of_answer(method, headers));
        let mut response = match preflight {
            Some(headers) => {
                let mut response = Response::new(Full::new(Bytes::new()));
                *response.status_mut() = StatusCode::NO_CONTENT;
                *response.headers_mut() = headers;
                response
            }
            None => self.answer(request, handler, progress).await,
        };
        let headers = response.headers_mut();
        headers.extend(permission.unwrap_or_default());
        for (name, value) in &self.response_headers {
            // What an answer says of itself wins, as in the Collector.
            headers.entry(name).or_insert_with(|| value.clone());
        }
        response
    }

    async fn answer<H: RequestHandler + 'static>(
        &self,
        request: Request<Incoming>,
        handler: &Rc<H>,
        progress: &Progress,
    ) -> Response<Full<Bytes>> {
        progress.enter(Phase::Body);
        let (head, mut body) = request.into_parts();
        let refusal = match self.enter(&head, &**handler).await {
            Err(refusal) => refusal,
            Ok((signal, compression, format, client)) => match self.gather(&mut body, signal, &**handler).await {
                Err(status) => Refusal::Status(status, format),
                Ok(body) => {
                    progress.enter(Phase::Answer);
                    let body = super::Body::Gathered(body);
                    let transport = Transport::Http;
                    // Dropped with this future when the connection breaks.
                    let (patience, _presence) = Patience::of_sender(None);
                    let received = ReceivedRequest { signal, body, compression, format, transport, client, patience };
                    return match handle(handler, received).await {
                        Ok(()) => success(format),
                        Err(status) => status_response(&status, format),
                    };
                }
            },
        };
        let forgotten = forget(&head.headers, &mut body).await;
        let mut response = refusal.into_response();
        if !forgotten {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// Looks at the head: whether the sender may, then what is asked and how it is encoded.
    async fn enter<H: RequestHandler>(
        &self,
        head: &http::request::Parts,
        handler: &H,
    ) -> Result<(Signal, Compression, Format, Option<Rc<Client>>), Refusal> {
        let client = handler.enter(Head { headers: &head.headers, uri: &head.uri }).await;
        // Who is not let in may have sent anything.
        let client = client.map_err(|status| Refusal::Status(status, format_of(head).unwrap_or_default()))?;
        let path = head.uri.path();
        let signal = self.paths.iter().find(|(_, known)| known == path).map(|(signal, _)| *signal);
        let reject = |refusal: &Refusal| {
            let reason = match refusal {
                Refusal::Text(..) => RejectReason::Route,
                Refusal::Status(..) => RejectReason::Compression,
            };
            handler.rejected(signal, reason);
        };
        let unknown = Refusal::Text(StatusCode::NOT_FOUND, "404 page not found");
        let signal = signal.ok_or(unknown).inspect_err(reject)?;
        let (compression, format) = self.check(head).inspect_err(reject)?;
        Ok((signal, compression, format, client))
    }

    /// Checks the head of a request with a known path, before a byte of the body is read.
    fn check(&self, head: &http::request::Parts) -> Result<(Compression, Format), Refusal> {
        if head.method != Method::POST {
            let text = "405 method not allowed, supported: [POST]";
            return Err(Refusal::Text(StatusCode::METHOD_NOT_ALLOWED, text));
        }
        let text_of = |name| head.headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("?"));
        let Some(format) = format_of(head) else {
            let text = "415 unsupported media type, supported: [application/json, application/x-protobuf]";
            return Err(Refusal::Text(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
        };
        let encoding = text_of(header::CONTENT_ENCODING).unwrap_or_default().trim().to_ascii_lowercase();
        if encoding.is_empty() {
            return Ok((Compression::None, format));
        }
        let compression = Compression::from_name(&encoding).ok_or_else(|| {
            let known = "gzip, zstd, zlib, deflate, snappy, x-snappy-framed, lz4 or none";
            let message = format!("unsupported Content-Encoding: {encoding:?}; use {known}");
            Refusal::Status(Status::new(Code::InvalidArgument, message), format)
        })?;
        Ok((compression, format))
    }

    /// Gathers the body into a buffer of the shard.
    async fn gather<H: RequestHandler>(
        &self,
        body: &mut Incoming,
        signal: Signal,
        handler: &H,
    ) -> Result<Buffer, Status> {
        let announced = body.size_hint().exact().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
        let mut room = announced.unwrap_or(CHUNKED_BYTES_FIRST.min(self.body_bytes_max));
        if room > self.body_bytes_max {
            return Err(self.too_large(signal, handler));
        }
        handler.admit(signal, room)?;
        let mut buffer = handler.take_buffer(room.min(BODY_BYTES_FIRST));
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                handler.rejected(Some(signal), RejectReason::Malformed);
                Status::new(Code::InvalidArgument, format!("the body ends too early or is malformed: {error}"))
            })?;
            // Trailers say nothing that OTLP knows.
            let Ok(piece) = frame.into_data() else { continue };
            let length = buffer.len() + piece.len();
            if length > self.body_bytes_max {
                return Err(self.too_large(signal, handler));
            }
            if length > room {
                room = length.max(room * 2).min(self.body_bytes_max);
                handler.admit(signal, room)?;
            }
            make_room(&mut buffer, piece.len(), room, handler);
            buffer.extend_from_slice(&piece);
        }
        Ok(buffer)
    }

    fn too_large<H: RequestHandler>(&self, signal: Signal, handler: &H) -> Status {
        handler.rejected(Some(signal), RejectReason::TooLarge);
        let limit = self.body_bytes_max;
        Status::new(
            Code::InvalidArgument,
            format!("request body too large, the limit is {limit} bytes (max_request_body_size)"),
        )
    }
}

/// The encoding that the request says its body is in.
fn format_of(head: &http::request::Parts) -> Option<Format> {
    let content_type = head.headers.get(header::CONTENT_TYPE)?;
    Format::from_content_type(content_type.to_str().ok()?)
}

/// Has the request handled in a task of its own: hyper drops what answers a request when the connection breaks, and
/// a request that was taken must be seen through.
async fn handle<H: RequestHandler + 'static>(handler: &Rc<H>, request: ReceivedRequest) -> Result<(), Status> {
    let (answer, answered) = oneshot::channel();
    let handler = Rc::clone(handler);
    spawn(async move { drop(answer.send(handler.handle(request).await)) });
    answered.await.expect("a spawned task runs to its end")
}

/// An answer that needs no handler.
enum Refusal {
    Text(StatusCode, &'static str),
    /// In the encoding of the request.
    Status(Status, Format),
}

impl Refusal {
    fn into_response(self) -> Response<Full<Bytes>> {
        match self {
            Refusal::Text(status, text) => {
                let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
                *response.status_mut() = status;
                let plain = HeaderValue::from_static("text/plain; charset=utf-8");
                response.headers_mut().insert(header::CONTENT_TYPE, plain);
                if status == StatusCode::METHOD_NOT_ALLOWED {
                    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
                }
                response
            }
            Refusal::Status(status, format) => status_response(&status, format),
        }
    }
}

/// Reads what is left of a body, so that the peer gets to reading the answer. `false`: it was too much, or the peer
/// waits for `100 Continue` before it sends any; then the connection cannot be used again.
async fn forget(headers: &HeaderMap, body: &mut Incoming) -> bool {
    if headers.contains_key(header::EXPECT) && !body.is_end_stream() {
        return false;
    }
    let mut forgotten = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        forgotten += frame.data_ref().map_or(0, Bytes::len);
        if forgotten > FORGOTTEN_BYTES_MAX {
            return false;
        }
    }
    true
}

/// An error: `google.rpc.Status` in the body, in the encoding of the request; `Retry-After` where the status says when to
/// come back.
fn status_response(status: &Status, format: Format) -> Response<Full<Bytes>> {
    let http = StatusCode::from_u16(status.code.http_status()).expect("the table holds HTTP statuses");
    let body = match format {
        Format::Protobuf => status.encode(),
        Format::Json => status.encode_json(),
    };
    let mut response = typed(http, format, body.into());
    if let Some(seconds) = status.retry_after_seconds() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Everything was taken: an empty export response, which is the same for all signals.
fn success(format: Format) -> Response<Full<Bytes>> {
    let body = match format {
        Format::Protobuf => otlp::SUCCESS,
        Format::Json => json::SUCCESS,
    };
    typed(StatusCode::OK, format, Bytes::from_static(body))
}

fn typed(status: StatusCode, format: Format, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    response
}

/// What a connection is waiting for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// A request's head, or nothing in particular.
    #[default]
    Head,
    /// The rest of a request's body.
    Body,
    /// Our own answer.
    Answer,
}

/// How far a connection has come, to tell a slow peer from a stalled one.
#[derive(Debug, Default)]
struct Progress {
    traffic: Rc<Traffic>,
    phase: Cell<Phase>,
    /// Phases entered so far.
    phases: Cell<u64>,
    bytes_read_before_phase: Cell<u64>,
    /// The connection is too old for another request.
    has_to_leave: Cell<bool>,
    /// How old it is, as far as it was looked at.
    age: Cell<Duration>,
}

/// How a look at a connection ends the serving of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// For good.
    Close,
    /// Until the peer speaks again.
    Park,
}

/// What a peer keeps a connection for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// The next request, if it likes.
    Idle,
    Head,
    Body,
    Answer,
}

impl Progress {
    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.phases.set(self.phases.get() + 1);
        self.bytes_read_before_phase.set(self.traffic.bytes_read());
    }

    fn waits_for(&self) -> Wait {
        match self.phase.get() {
            Phase::Answer => Wait::Answer,
            Phase::Body => Wait::Body,
            Phase::Head => {
                let begun = self.traffic.bytes_read() > self.bytes_read_before_phase.get();
                let first = self.phases.get() == 0;
                // A head that has begun must become complete, however many bytes trickle in; between requests a
                // connection may wait. A head whose beginning came in one read with the request before it passes for
                // that: it holds a connection, nothing more.
                if begun || first { Wait::Head } else { Wait::Idle }
            }
        }
    }

    /// How long the peer may take to speak. The looks before a connection is parked are given to it.
    fn patience(&self, limits: &Limits) -> Option<Duration> {
        if self.phases.get() == 0 {
            return Some(limits.head_max);
        }
        let age_left = limits.age_max.map(|age_max| age_max.saturating_sub(self.age.get()));
        limits.idle_max.into_iter().chain(age_left).min()
    }

    /// Looks at the connection now and then. Resolves when the peer has taken too long, or has nothing to say for a whole
    /// look; says when it has to leave.
    async fn watch(&self, limits: &Limits) -> Ending {
        let step = limits.pace.look_every;
        let mut before = (self.phases.get(), self.waits_for());
        let (mut waited, mut untaken) = (Duration::ZERO, Duration::ZERO);
        let (mut starved, mut gained_from, mut written) = (Duration::ZERO, 0, 0);
        loop {
            sleep(step).await;
            let age = self.age.get() + step;
            self.age.set(age);
            let now = (self.phases.get(), self.waits_for());
            let lasts = now == before;
            waited = if lasts { waited + step } else { Duration::ZERO };
            let gained = self.traffic.bytes_read() - gained_from;
            starved = if lasts && gained < PROGRESS_BYTES_MIN { starved + step } else { Duration::ZERO };
            if starved.is_zero() {
                gained_from = self.traffic.bytes_read();
            }
            let stuck = self.traffic.write_waits() && self.traffic.bytes_written() == written;
            untaken = if stuck { untaken + step } else { Duration::ZERO };
            (before, written) = (now, self.traffic.bytes_written());
            let over = |limit: Option<Duration>| limit.is_some_and(|limit| waited >= limit);
            let too_long = match now.1 {
                Wait::Idle => over(limits.idle_max),
                Wait::Head => over(Some(limits.head_max)),
                Wait::Body => over(limits.body_max) || starved >= limits.pace.stall_max,
                Wait::Answer => over(limits.answer_max),
            };
            let age_max = limits.age_max.filter(|age_max| age >= *age_max);
            self.has_to_leave.set(age_max.is_some());
            let overstayed = age_max.zip(limits.grace).is_some_and(|(age_max, grace)| age >= age_max + grace);
            if too_long || overstayed || untaken >= limits.answer_max.unwrap_or(limits.pace.stall_max) {
                return Ending::Close;
            }
            if now.1 == Wait::Idle && lasts && !self.traffic.write_waits() && !self.has_to_leave.get() {
                return Ending::Park;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::checked::{CorsSettings, Endpoint, HeadSettings, HttpTimeouts, KeepaliveSettings, SocketFamily};
    use crate::shard::buffers::Buffers;
    use crate::shard::runtime::{Runtime, run, yield_now};
    use std::cell::RefCell;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::sync::Notify;

    const BODY_BYTES_MAX: usize = 1000;
    const LOOK_EVERY: Duration = Duration::from_secs(10);

    /// A receiver that takes everything, unless told otherwise.
    #[derive(Default)]
    struct Receiver {
        taken: RefCell<Vec<(Vec<u8>, Compression)>>,
        formats: RefCell<Vec<Format>>,
        refuse_admission: Option<Status>,
        refuse: Option<Status>,
        /// While set, requests wait for the notification.
        gate: Option<Rc<Notify>>,
    }

    impl RequestHandler for Receiver {
        fn admit(&self, _signal: Signal, _bytes: usize) -> Result<(), Status> {
            self.refuse_admission.clone().map_or(Ok(()), Err)
        }

        fn take_buffer(&self, bytes: usize) -> Buffer {
            assert!(bytes <= BODY_BYTES_MAX);
            Buffers::new(0).take(bytes)
        }

        async fn handle(&self, request: ReceivedRequest) -> Result<(), Status> {
            assert_eq!(request.transport, Transport::Http);
            if let Some(gate) = &self.gate {
                gate.notified().await;
            }
            self.taken.borrow_mut().push((request.body.to_vec(), request.compression));
            self.formats.borrow_mut().push(request.format);
            self.refuse.clone().map_or(Ok(()), Err)
        }
    }

    fn settings() -> HttpServerSettings {
        HttpServerSettings {
            endpoint: Endpoint { host: "localhost".to_owned(), port: 4318 },
            body_bytes_max: BODY_BYTES_MAX,
            paths: Signal::ALL.map(|signal| signal.http_path().to_owned()),
            head: HeadSettings::default(),
            family: SocketFamily::Tcp,
            keepalive: KeepaliveSettings::default(),
            timeouts: HttpTimeouts::default(),
            keeps_alive: true,
            cors: None,
            response_headers: Vec::new(),
            tls: None,
        }
    }

    /// A connection to a server with this receiver.
    fn connect(receiver: &Rc<Receiver>, draining: &Draining, look_every: Duration) -> DuplexStream {
        let mut server = HttpServer::new(&settings(), &[Signal::Traces]);
        let stall_max = 3 * look_every;
        server.limits.pace = Pace { look_every, stall_max };
        server.limits.head_max = stall_max;
        connect_to(server, receiver, draining)
    }

    fn connect_to(server: HttpServer, receiver: &Rc<Receiver>, draining: &Draining) -> DuplexStream {
        let (near, far) = tokio::io::duplex(1 << 20);
        let (receiver, draining) = (Rc::clone(receiver), draining.clone());
        spawn(async move {
            server.serve(far, receiver, draining).await;
        });
        near
    }

    /// Sends `bytes` on one connection and returns everything that comes back until the server closes.
    fn exchange(receiver: Receiver, bytes: impl AsRef<[u8]>) -> (String, Rc<Receiver>) {
        let bytes = bytes.as_ref().to_vec();
        let receiver = Rc::new(receiver);
        let serving = Rc::clone(&receiver);
        let answer = run(Runtime::Epoll, None, async move {
            let mut peer = connect(&serving, &Draining::default(), LOOK_EVERY);
            peer.write_all(&bytes).await.unwrap();
            let mut answer = Vec::new();
            peer.read_to_end(&mut answer).await.unwrap();
            // One letter a byte, so that nothing of a binary body is lost.
            answer.into_iter().map(char::from).collect::<String>()
        })
        .unwrap();
        (answer, receiver)
    }

    fn post(headers: &str, body: &str) -> String {
        let length = body.len();
        format!(
            "POST /v1/traces HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        )
    }

    const TYPED: &str = "content-type: application/x-protobuf\r\n";

    /// A request that is answered without a handler: the status line's beginning and a part of the rest.
    fn check(request: impl AsRef<[u8]>, status: &str, part: &str) {
        let request = request.as_ref();
        let (answer, receiver) = exchange(Receiver::default(), request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert!(answer.contains(part), "{answer} should contain {part}");
        assert!(receiver.taken.borrow().is_empty());
    }

    #[test]
    fn a_request_is_taken_and_answered_with_an_empty_response() {
        for content_type in ["application/x-protobuf", "Application/X-Protobuf; charset=utf-8"] {
            let (answer, receiver) =
                exchange(Receiver::default(), post(&format!("content-type: {content_type}\r\n"), "spans"));
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert!(answer.contains("content-type: application/x-protobuf\r\n"), "{answer}");
            assert!(answer.contains("content-length: 0\r\n"), "{answer}");
            assert_eq!(*receiver.taken.borrow(), [(b"spans".to_vec(), Compression::None)]);
        }
    }

    #[test]
    fn the_encoding_is_handed_on_and_an_unknown_one_is_a_bad_request() {
        for (name, expected) in [
            ("gzip", Compression::Gzip),
            ("zstd", Compression::Zstd),
            ("GZIP", Compression::Gzip),
            ("deflate", Compression::Deflate),
            ("zlib", Compression::Zlib),
            ("snappy", Compression::Snappy),
            ("x-snappy-framed", Compression::SnappyFramed),
            ("lz4", Compression::Lz4),
            ("", Compression::None),
        ] {
            let (_, receiver) =
                exchange(Receiver::default(), post(&format!("{TYPED}content-encoding: {name}\r\n"), "spans"));
            assert_eq!(receiver.taken.borrow()[0].1, expected);
        }
        let request = post(&format!("{TYPED}content-encoding: br\r\n"), "spans");
        check(&request, "400", "unsupported Content-Encoding: \"br\"");
        check(&request, "400", "content-type: application/x-protobuf\r\n");
    }

    #[test]
    fn a_json_request_is_answered_in_json() {
        for content_type in ["application/json", "Application/JSON; charset=utf-8"] {
            let headers = format!("content-type: {content_type}\r\n");
            let (answer, receiver) = exchange(Receiver::default(), post(&headers, "{}"));
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert!(answer.contains("content-type: application/json\r\n"), "{answer}");
            assert!(answer.ends_with("\r\n\r\n{}"), "{answer}");
            assert_eq!(receiver.formats.take(), [Format::Json]);
        }
        let headers = "content-type: application/json\r\n";
        let busy = Status::new(Code::Unavailable, "not \"now\"").retry_after(Duration::from_secs(2));
        let (answer, _) = exchange(Receiver { refuse: Some(busy), ..Receiver::default() }, post(headers, "{}"));
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.contains("content-type: application/json\r\n"), "{answer}");
        assert!(answer.contains("retry-after: 2\r\n"), "{answer}");
        assert!(answer.contains(r#"{"code":14,"message":"not \"now\"","details":["#), "{answer}");
        let request = post(&format!("{headers}content-encoding: br\r\n"), "{}");
        check(&request, "400", r#"{"code":3,"message":"unsupported Content-Encoding: \"br\""#);
        check(post(headers, &"x".repeat(BODY_BYTES_MAX + 1)), "400", r#"{"code":3,"message":"request body too large"#);
    }

    #[test]
    fn another_path_is_not_found() {
        let request = post(TYPED, "spans").replace("/v1/traces", "/v1/tracks");
        check(&request, "404", "content-type: text/plain; charset=utf-8\r\n");
        check(&request, "404", "\r\n\r\n404 page not found");
    }

    #[test]
    fn a_query_does_not_change_the_path() {
        let (answer, _) = exchange(Receiver::default(), post(TYPED, "x").replace("traces ", "traces?a=b "));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    #[test]
    fn another_method_is_not_allowed() {
        let request = post(TYPED, "spans").replace("POST", "PUT");
        check(&request, "405", "\r\n\r\n405 method not allowed, supported: [POST]");
        check(&request, "405", "allow: POST\r\n");
        check("GET /v1/traces HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "405", "");
    }

    #[test]
    fn another_content_type_is_unsupported() {
        for headers in ["", "content-type: text/plain\r\n", "content-type: \u{ff}\r\n"] {
            let text = "\r\n\r\n415 unsupported media type, supported: [application/json, application/x-protobuf]";
            check(post(headers, "{}"), "415", text);
        }
    }

    #[test]
    fn an_announced_body_that_is_too_large_is_refused_before_it_is_read() {
        let exact = post(TYPED, &"x".repeat(BODY_BYTES_MAX));
        let (answer, receiver) = exchange(Receiver::default(), exact);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(receiver.taken.borrow()[0].0.len(), BODY_BYTES_MAX);
        check(post(TYPED, &"x".repeat(BODY_BYTES_MAX + 1)), "400", "request body too large, the limit is 1000 bytes");
    }

    fn chunked(chunks: &[usize], end: &str) -> String {
        let mut request = format!(
            "POST /v1/traces HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n{TYPED}\r\n"
        );
        for length in chunks {
            request.push_str(&format!("{length:x}\r\n{}\r\n", "y".repeat(*length)));
        }
        request + end
    }

    #[test]
    fn a_chunked_body_is_taken_whole_or_refused_as_it_grows() {
        let (answer, receiver) = exchange(Receiver::default(), chunked(&[400, 1, 599], "0\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(receiver.taken.borrow()[0].0, vec![b'y'; BODY_BYTES_MAX]);
        check(chunked(&[400, 400, 400], "0\r\n\r\n"), "400", "request body too large");
    }

    #[test]
    fn a_body_that_ends_early_or_is_malformed_is_never_taken() {
        check(chunked(&[10], "not a length\r\n"), "400", "malformed");
        for request in [post(TYPED, "spans"), chunked(&[10], "0\r\n\r\n")] {
            for end in 0..request.len() {
                let part = request.as_bytes()[..end].to_vec();
                let receiver = Rc::new(Receiver::default());
                let serving = Rc::clone(&receiver);
                run(Runtime::Epoll, None, async move {
                    let mut peer = connect(&serving, &Draining::default(), LOOK_EVERY);
                    peer.write_all(&part).await.unwrap();
                    peer.shutdown().await.unwrap();
                    peer.read_to_end(&mut Vec::new()).await.unwrap();
                })
                .unwrap();
                assert!(receiver.taken.borrow().is_empty(), "cut after {end} bytes");
            }
        }
    }

    #[test]
    fn a_refusal_carries_the_status_and_when_to_come_back() {
        let check = |code, delay: Option<Duration>, line: &str, retry_after: Option<&str>| {
            let status = Status { retry_delay: delay, ..Status::new(code, "because") };
            let (answer, _) =
                exchange(Receiver { refuse: Some(status.clone()), ..Receiver::default() }, post(TYPED, "x"));
            assert!(answer.starts_with(&format!("HTTP/1.1 {line}")), "{code:?}: {answer}");
            let header = answer.lines().find_map(|line| line.strip_prefix("retry-after: "));
            assert_eq!(header, retry_after, "{code:?}");
            let (_, body) = answer.split_once("\r\n\r\n").unwrap();
            let body: Vec<u8> = body.chars().map(|letter| letter as u8).collect();
            assert_eq!(Status::decode(&body).unwrap(), status);
        };
        let seconds = |count| Some(Duration::from_secs(count));
        check(Code::DeadlineExceeded, None, "503", None);
        check(Code::Unavailable, seconds(1), "503", Some("1"));
        check(Code::ResourceExhausted, seconds(0), "429", Some("0"));
        check(Code::ResourceExhausted, seconds(13), "429", Some("13"));
        check(Code::Unavailable, Some(Duration::from_millis(1500)), "503", Some("2"));
        check(Code::Unknown, seconds(12), "500", None);
        check(Code::Internal, None, "500", None);
        check(Code::InvalidArgument, None, "400", None);
        check(Code::Unauthenticated, None, "401", None);
        check(Code::PermissionDenied, None, "403", None);
        check(Code::Unimplemented, None, "404", None);
    }

    #[test]
    fn a_full_gateway_refuses_before_the_body_and_the_connection_lives_on() {
        let mut status = Status::new(Code::Unavailable, "memory");
        status.retry_delay = Some(Duration::from_secs(1));
        let receiver = Receiver { refuse_admission: Some(status), ..Receiver::default() };
        let first = post(TYPED, "spans").replace("connection: close\r\n", "");
        let (answer, receiver) = exchange(receiver, format!("{first}{}", post(TYPED, "spans")));
        assert_eq!(answer.matches("HTTP/1.1 503").count(), 2, "{answer}");
        assert_eq!(answer.matches("retry-after: 1").count(), 2, "{answer}");
        assert!(receiver.taken.borrow().is_empty());
    }

    #[test]
    fn a_peer_that_waits_for_continue_is_told_to_go_on() {
        let (answer, receiver) = exchange(Receiver::default(), post(&format!("{TYPED}expect: 100-continue\r\n"), "x"));
        assert!(answer.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"), "{answer}");
        assert_eq!(receiver.taken.borrow().len(), 1);
    }

    #[test]
    fn a_peer_that_waits_for_continue_is_refused_without_its_body() {
        let request = format!(
            "POST /v1/traces HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2000\r\n{TYPED}\r\n"
        );
        check(request, "400", "connection: close");
    }

    #[test]
    fn pipelined_requests_are_answered_in_order_on_one_connection() {
        let kept = |body| post(TYPED, body).replace("connection: close\r\n", "");
        let bad = kept("two").replace("/v1/traces", "/nowhere");
        let requests = format!("{}{bad}{}{}", kept("one"), kept("three"), post(TYPED, "four"));
        let (answer, receiver) = exchange(Receiver::default(), requests);
        let statuses: Vec<&str> = answer.match_indices("HTTP/1.1 ").map(|(at, _)| &answer[at + 9..at + 12]).collect();
        assert_eq!(statuses, ["200", "404", "200", "200"]);
        let bodies: Vec<Vec<u8>> = receiver.taken.borrow().iter().map(|(body, _)| body.clone()).collect();
        assert_eq!(bodies, [b"one".to_vec(), b"three".to_vec(), b"four".to_vec()]);
    }

    #[test]
    fn a_head_that_is_too_large_or_malformed_gets_its_own_status() {
        let many: String = (0..=HEADERS_MAX).map(|number| format!("x-{number}: y\r\n")).collect();
        check(post(&many, ""), "431", "");
        let long = format!("x: {}\r\n", "y".repeat(HEAD_BYTES_MAX));
        check(post(&long, ""), "431", "");
        check("no request at all\r\n\r\n", "400", "");
    }

    #[test]
    fn an_http2_peer_is_closed_without_an_answer() {
        let (answer, _) = exchange(Receiver::default(), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
        assert_eq!(answer, "");
    }

    /// A peer that sends `whole` and, once that is answered, `part`, and then nothing more: it is closed.
    fn check_stalled(whole: Option<&str>, part: &str) {
        let (whole, part) = (whole.map(str::to_owned), part.to_owned());
        let closed = run(Runtime::Epoll, None, async move {
            let receiver = Rc::new(Receiver::default());
            let mut peer = connect(&receiver, &Draining::default(), Duration::from_millis(2));
            if let Some(whole) = whole {
                peer.write_all(whole.as_bytes()).await.unwrap();
                let mut status = [0; 12];
                peer.read_exact(&mut status).await.unwrap();
            }
            peer.write_all(part.as_bytes()).await.unwrap();
            peer.read_to_end(&mut Vec::new()).await
        });
        closed.unwrap().unwrap();
    }

    #[test]
    fn a_peer_that_stalls_within_a_request_is_closed() {
        check_stalled(None, "");
        check_stalled(None, "POST /v1/tra");
        check_stalled(None, &post(TYPED, "half of it").replace("half of it", "half"));
        let kept = post(TYPED, "x").replace("connection: close\r\n", "");
        check_stalled(Some(&kept), "POST");
    }

    #[test]
    fn a_drain_finishes_the_request_under_way_and_closes() {
        run(Runtime::Epoll, None, async {
            let gate = Rc::new(Notify::new());
            let receiver = Rc::new(Receiver { gate: Some(Rc::clone(&gate)), ..Receiver::default() });
            let draining = Draining::default();
            let mut peer = connect(&receiver, &draining, LOOK_EVERY);
            let kept = post(TYPED, "spans").replace("connection: close\r\n", "");
            peer.write_all(format!("{kept}{kept}").as_bytes()).await.unwrap();
            let mut idle = connect(&receiver, &draining, LOOK_EVERY);
            let mut between = connect(&receiver, &draining, LOOK_EVERY);
            between.write_all(kept.replace("/v1/traces", "/nowhere").as_bytes()).await.unwrap();
            let mut first = [0; 12];
            between.read_exact(&mut first).await.unwrap();
            for _ in 0..10 {
                yield_now().await;
            }
            draining.begin();
            gate.notify_one();
            let mut answer = String::new();
            peer.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer.matches("HTTP/1.1 200").count(), 1, "{answer}");
            assert!(answer.contains("connection: close\r\n"), "{answer}");
            assert_eq!(receiver.taken.borrow().len(), 1);
            idle.read_to_end(&mut Vec::new()).await.unwrap();
            between.read_to_end(&mut Vec::new()).await.unwrap();
        })
        .unwrap();
    }
    /// What comes back for `bytes` from a server with these settings.
    fn exchange_with(settings: HttpServerSettings, bytes: String) -> String {
        run(Runtime::Epoll, None, async move {
            let server = HttpServer::new(&settings, &[Signal::Traces]);
            let mut peer = connect_to(server, &Rc::new(Receiver::default()), &Draining::default());
            peer.write_all(bytes.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            peer.read_to_end(&mut answer).await.unwrap();
            String::from_utf8_lossy(&answer).into_owned()
        })
        .unwrap()
    }

    #[test]
    fn configured_headers_are_on_every_answer_and_never_replace_its_own() {
        let pairs = [("strict-transport-security", "max-age=1"), ("content-type", "text/html")];
        let response_headers = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        for (request, status) in [(post(TYPED, "x"), "200"), (post(TYPED, "x").replace("/v1", "/v2"), "404")] {
            let answer =
                exchange_with(HttpServerSettings { response_headers: response_headers.clone(), ..settings() }, request);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
            assert!(answer.contains("strict-transport-security: max-age=1\r\n"), "{answer}");
            assert!(!answer.contains("text/html"), "{answer}");
        }
    }

    fn with_cors() -> HttpServerSettings {
        let cors = CorsSettings {
            allowed_origins: vec!["https://*.example.com".to_owned()],
            allowed_headers: Vec::new(),
            exposed_headers: Vec::new(),
            seconds_max: Some(600),
        };
        HttpServerSettings { cors: Some(cors), ..settings() }
    }

    #[test]
    fn a_preflight_is_answered_whatever_its_path() {
        let request = "OPTIONS /any HTTP/1.1\r\nhost: x\r\nconnection: close\r\norigin: https://a.example.com\r\n\
                       access-control-request-method: POST\r\naccess-control-request-headers: content-type\r\n\r\n";
        let answer = exchange_with(with_cors(), request.to_owned());
        assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
        assert!(answer.contains("access-control-allow-origin: https://a.example.com\r\n"), "{answer}");
        assert!(answer.contains("access-control-max-age: 600\r\n"), "{answer}");
        let without = exchange_with(settings(), request.replace("/any", "/v1/traces"));
        assert!(without.starts_with("HTTP/1.1 405"), "{without}");
    }

    #[test]
    fn a_script_of_an_allowed_origin_may_read_the_answer() {
        let origin = |origin: &str| exchange_with(with_cors(), post(&format!("{TYPED}origin: {origin}\r\n"), "spans"));
        let allowed = origin("https://a.example.com");
        assert!(allowed.starts_with("HTTP/1.1 200"), "{allowed}");
        assert!(allowed.contains("access-control-allow-origin: https://a.example.com\r\n"), "{allowed}");
        assert!(allowed.contains("vary: Origin\r\n"), "{allowed}");
        assert!(!origin("https://evil.org").contains("access-control-allow-origin"));
    }

    #[test]
    fn without_keep_alives_a_connection_serves_one_request() {
        let kept = post(TYPED, "x").replace("connection: close\r\n", "");
        let answer = exchange_with(HttpServerSettings { keeps_alive: false, ..settings() }, format!("{kept}{kept}"));
        assert_eq!(answer.matches("HTTP/1.1 200").count(), 1, "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
    }

    const SHORT_NS: Option<u64> = Some(20_000_000);

    /// A peer that sends `bytes` and waits: it is closed after `answers`.
    fn check_timeout(settings: HttpServerSettings, bytes: &str, answers: usize) {
        let answer = exchange_with(settings, bytes.to_owned());
        assert_eq!(answer.matches("HTTP/1.1").count(), answers, "{answer}");
    }

    #[test]
    fn configured_timeouts_end_a_connection() {
        let with = |timeouts| HttpServerSettings { timeouts, ..settings() };
        let kept = post(TYPED, "x").replace("connection: close\r\n", "");
        let half = post(TYPED, "spans").replace("\r\n\r\nspans", "\r\n\r\nsp");
        let (head, body) = ("POST /v1/tr", half.as_str());
        check_timeout(with(HttpTimeouts { read_header_ns: SHORT_NS, ..HttpTimeouts::default() }), head, 0);
        check_timeout(with(HttpTimeouts { read_ns: SHORT_NS, ..HttpTimeouts::default() }), head, 0);
        check_timeout(with(HttpTimeouts { read_ns: SHORT_NS, ..HttpTimeouts::default() }), body, 0);
        check_timeout(with(HttpTimeouts { idle_ns: SHORT_NS, ..HttpTimeouts::default() }), &kept, 1);
        check_timeout(with(HttpTimeouts { read_ns: SHORT_NS, ..HttpTimeouts::default() }), &kept, 1);
    }

    #[test]
    fn an_answer_that_takes_too_long_ends_the_connection_and_not_the_request() {
        let timeouts = HttpTimeouts { write_ns: SHORT_NS, ..HttpTimeouts::default() };
        run(Runtime::Epoll, None, async move {
            let gate = Rc::new(Notify::new());
            let receiver = Rc::new(Receiver { gate: Some(Rc::clone(&gate)), ..Receiver::default() });
            let server = HttpServer::new(&HttpServerSettings { timeouts, ..settings() }, &[Signal::Traces]);
            let mut peer = connect_to(server, &receiver, &Draining::default());
            peer.write_all(post(TYPED, "spans").as_bytes()).await.unwrap();
            assert_eq!(peer.read_to_end(&mut Vec::new()).await.unwrap(), 0);
            gate.notify_one();
            while receiver.taken.borrow().is_empty() {
                yield_now().await;
            }
        })
        .unwrap();
    }

    #[test]
    fn a_connection_that_is_too_old_closes_between_requests() {
        let keepalive = KeepaliveSettings { connection_age_ns_max: SHORT_NS, ..KeepaliveSettings::default() };
        check_timeout(
            HttpServerSettings { keepalive, ..settings() },
            &post(TYPED, "x").replace("connection: close\r\n", ""),
            1,
        );
    }

    #[test]
    fn a_peer_that_never_reads_is_closed_and_what_it_sends_stays_bounded() {
        run(Runtime::Epoll, None, async {
            let receiver = Rc::new(Receiver::default());
            let (near, far) = tokio::io::duplex(4 << 10);
            let mut server = HttpServer::new(&settings(), &[Signal::Traces]);
            server.limits.pace = Pace { look_every: Duration::from_millis(2), stall_max: Duration::from_millis(6) };
            let serving = Rc::clone(&receiver);
            spawn(async move { server.serve(far, serving, Draining::default()).await });
            let (_unread, mut sending) = tokio::io::split(near);
            let kept = post(TYPED, "x").replace("connection: close\r\n", "");
            while sending.write_all(kept.as_bytes()).await.is_ok() {}
            let taken = receiver.taken.borrow().len();
            assert!(taken < 10_000, "{taken} requests taken without an answer read");
        })
        .unwrap();
    }
    #[test]
    fn a_connection_that_was_parked_serves_the_next_request() {
        run(Runtime::Epoll, None, async {
            let receiver = Rc::new(Receiver::default());
            let mut peer = connect(&receiver, &Draining::default(), Duration::from_millis(2));
            let kept = post(TYPED, "spans").replace("connection: close\r\n", "");
            for _ in 0..5 {
                peer.write_all(kept.as_bytes()).await.unwrap();
                let mut answer = Vec::new();
                while !answer.ends_with(b"\r\n\r\n") {
                    peer.read_buf(&mut answer).await.unwrap();
                }
                assert!(answer.starts_with(b"HTTP/1.1 200"));
                // Longer than it takes to be parked; however long it is, the answer must be the same.
                sleep(Duration::from_millis(10)).await;
            }
            peer.write_all(post(TYPED, "last").as_bytes()).await.unwrap();
            peer.read_to_end(&mut Vec::new()).await.unwrap();
            assert_eq!(receiver.taken.borrow().len(), 6);
        })
        .unwrap();
    }
}
