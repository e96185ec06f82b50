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

use super::{Draining, ReceivedRequest, RequestHandler, Transport};
use crate::shard::hyper_io::HyperIo;
use crate::shard::runtime::sleep;
use bytes::Bytes;
use codecs::compression::Compression;
use codecs::grpc::{Code, Status};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Largest head of a request (431 beyond it), and hyper's read buffer: a body arrives in pieces of this size.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Headers of one request (431 beyond it): real exporters send about ten.
const HEADERS_MAX: usize = 64;
/// Room for a body of unknown length at first; it doubles from there, asking for admission each time.
const CHUNKED_BYTES_FIRST: usize = 64 << 10;
/// Bytes of a refused body that are read and forgotten. A longer one may see a reset instead of the answer.
const FORGOTTEN_BYTES_MAX: usize = 64 << 20;
/// How often a connection is looked at, and how many looks without progress it gets: 30 to 40 s for a head to become
/// complete, as long for the next byte of a body.
const LOOK_EVERY: Duration = Duration::from_secs(10);
const LOOKS_WITHOUT_PROGRESS_MAX: u32 = 3;

const PROTOBUF: &str = "application/x-protobuf";

/// What the server needs to know of its listener.
#[derive(Clone, Debug)]
pub struct HttpServer {
    /// Largest body, compressed as it comes.
    pub body_bytes_max: usize,
    /// The one path, `/v1/traces` unless configured.
    pub traces_path: String,
}

impl HttpServer {
    /// Serves one connection until the peer leaves, stalls or breaks the protocol, or a drain has answered its last
    /// request.
    pub async fn serve<S, H>(&self, socket: S, handler: Rc<H>, draining: Draining)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
        H: RequestHandler + 'static,
    {
        self.serve_looking(socket, handler, draining, LOOK_EVERY).await;
    }

    async fn serve_looking<S, H>(&self, socket: S, handler: Rc<H>, draining: Draining, look_every: Duration)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
        H: RequestHandler + 'static,
    {
        let progress = Rc::new(Progress::default());
        let watched = HyperIo(Watched { socket, progress: Rc::clone(&progress) });
        let service = hyper::service::service_fn(async |request| {
            let response = self.answer(request, &*handler, &progress).await;
            progress.enter(Phase::Head);
            Ok::<_, Infallible>(response)
        });
        let mut connection = pin!(
            hyper::server::conn::http1::Builder::new()
                .max_buf_size(HEAD_BYTES_MAX)
                .max_headers(HEADERS_MAX)
                // hyper's own timer would have to be Send; `stalled` bounds the head and the body as well.
                .header_read_timeout(None)
                .pipeline_flush(true)
                .serve_connection(watched, service)
        );
        let mut drain = pin!(draining.started());
        let mut stalled = pin!(progress.stalled(look_every));
        let mut leaving = false;
        poll_fn(|context| {
            if !leaving && drain.as_mut().poll(context).is_ready() {
                leaving = true;
                connection.as_mut().graceful_shutdown();
            }
            // What ended the connection concerns nobody else; its requests have been counted by the handler.
            if connection.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
            if leaving && progress.is_untouched() {
                return Poll::Ready(());
            }
            stalled.as_mut().poll(context)
        })
        .await;
    }

    async fn answer<H: RequestHandler>(
        &self,
        request: Request<Incoming>,
        handler: &H,
        progress: &Progress,
    ) -> Response<Full<Bytes>> {
        progress.enter(Phase::Body);
        let (head, mut body) = request.into_parts();
        let refusal = match self.check(&head) {
            Err(refusal) => refusal,
            Ok(compression) => match self.gather(&mut body, handler).await {
                Err(status) => Refusal::Status(status),
                Ok(body) => {
                    progress.enter(Phase::Answer);
                    let received = ReceivedRequest { body, compression, transport: Transport::Http };
                    return match handler.handle(received).await {
                        Ok(()) => protobuf(StatusCode::OK, Bytes::new()),
                        Err(status) => status_response(&status, http_status(status.code)),
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

    /// Checks the head, before a byte of the body is read.
    fn check(&self, head: &http::request::Parts) -> Result<Compression, Refusal> {
        if head.uri.path() != self.traces_path {
            return Err(Refusal::Text(StatusCode::NOT_FOUND, "404 page not found"));
        }
        if head.method != Method::POST {
            let text = "405 method not allowed, supported: [POST]";
            return Err(Refusal::Text(StatusCode::METHOD_NOT_ALLOWED, text));
        }
        let text_of = |name| head.headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("?"));
        let content_type = text_of(header::CONTENT_TYPE).unwrap_or_default();
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case(PROTOBUF) {
            let text = "415 unsupported media type, supported: [application/x-protobuf]";
            return Err(Refusal::Text(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
        }
        let encoding = text_of(header::CONTENT_ENCODING).unwrap_or_default().trim().to_ascii_lowercase();
        if encoding.is_empty() {
            return Ok(Compression::None);
        }
        Compression::from_name(&encoding).ok_or_else(|| {
            let message = format!("unsupported Content-Encoding: {encoding:?}; use gzip, zstd or none");
            Refusal::Status(Status::new(Code::InvalidArgument, message))
        })
    }

    /// Gathers the body into a buffer of the shard.
    async fn gather<H: RequestHandler>(&self, body: &mut Incoming, handler: &H) -> Result<Vec<u8>, Status> {
        let announced = body.size_hint().exact().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
        let mut room = announced.unwrap_or(CHUNKED_BYTES_FIRST.min(self.body_bytes_max));
        if room > self.body_bytes_max {
            return Err(self.too_large());
        }
        handler.admit(room)?;
        let mut buffer = handler.take_buffer(room);
        match self.fill(body, &mut buffer, &mut room, handler).await {
            Ok(()) => Ok(buffer),
            Err(status) => {
                handler.give_back(buffer);
                Err(status)
            }
        }
    }

    async fn fill<H: RequestHandler>(
        &self,
        body: &mut Incoming,
        buffer: &mut Vec<u8>,
        room: &mut usize,
        handler: &H,
    ) -> Result<(), Status> {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                Status::new(Code::InvalidArgument, format!("the body ends too early or is malformed: {error}"))
            })?;
            // Trailers say nothing that OTLP knows.
            let Ok(piece) = frame.into_data() else { continue };
            let length = buffer.len() + piece.len();
            if length > self.body_bytes_max {
                return Err(self.too_large());
            }
            if length > *room {
                *room = length.max(*room * 2).min(self.body_bytes_max);
                handler.admit(*room)?;
            }
            buffer.extend_from_slice(&piece);
        }
        Ok(())
    }

    fn too_large(&self) -> Status {
        let limit = self.body_bytes_max;
        Status::new(Code::InvalidArgument, format!("request body too large, the limit is {limit} bytes (max_request_body_size)"))
    }
}

/// An answer that needs no handler.
enum Refusal {
    Text(StatusCode, &'static str),
    Status(Status),
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
            Refusal::Status(status) => status_response(&status, http_status(status.code)),
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

/// An error: `google.rpc.Status` in the body, `Retry-After` where the status says when to come back.
fn status_response(status: &Status, http: StatusCode) -> Response<Full<Bytes>> {
    let mut response = protobuf(http, status.encode().into());
    let hinted = matches!(http, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    if let (true, Some(delay)) = (hinted, status.retry_delay) {
        // Whole seconds, rounded up: a peer must not come back before the time.
        let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn protobuf(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROTOBUF));
    response
}

/// The HTTP status of a gRPC code, as the Collector's receiver maps it.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => StatusCode::SERVICE_UNAVAILABLE,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::InvalidArgument => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unimplemented => StatusCode::NOT_FOUND,
        Code::Unknown | Code::NotFound | Code::AlreadyExists | Code::FailedPrecondition | Code::Internal => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
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
    phase: Cell<Phase>,
    /// Phases entered so far.
    phases: Cell<u64>,
    bytes_read: Cell<u64>,
    bytes_read_before_phase: Cell<u64>,
}

impl Progress {
    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.phases.set(self.phases.get() + 1);
        self.bytes_read_before_phase.set(self.bytes_read.get());
    }

    /// Whether nothing has come on this connection yet.
    fn is_untouched(&self) -> bool {
        self.bytes_read.get() == 0
    }

    /// What must have changed by the next look, if anything must.
    fn owed(&self) -> Option<(u64, u64)> {
        match self.phase.get() {
            Phase::Answer => None,
            Phase::Body => Some((self.phases.get(), self.bytes_read.get())),
            Phase::Head => {
                let begun = self.bytes_read.get() > self.bytes_read_before_phase.get();
                let first = self.phases.get() == 0;
                // A head that has begun must become complete, however many bytes trickle in; between requests a
                // connection may wait as long as its peer likes.
                (begun || first).then_some((self.phases.get(), 0))
            }
        }
    }

    /// Resolves when the peer has made no progress for too long.
    async fn stalled(&self, look_every: Duration) {
        let mut looks = 0;
        let mut before = self.owed();
        while looks < LOOKS_WITHOUT_PROGRESS_MAX {
            sleep(look_every).await;
            let now = self.owed();
            looks = if now.is_some() && now == before { looks + 1 } else { 0 };
            before = now;
        }
    }
}

/// A socket that counts what is read.
#[derive(Debug)]
struct Watched<S> {
    socket: S,
    progress: Rc<Progress>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(context, buffer))?;
        let count = buffer.filled().len() - before;
        self.progress.bytes_read.set(self.progress.bytes_read.get() + count as u64);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
