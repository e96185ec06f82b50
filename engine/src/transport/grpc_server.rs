//! The server's half of gRPC on one connection: h2 streams become received requests, outcomes become trailers.
//!
//! ```text
//! h2 stream --headers--> which method, which encoding --DATA--> one buffer --handler--> outcome --> trailers
//! ```
//!
//! One task per connection accepts streams, one task per stream reads and answers it. The message's length is known
//! after five bytes: admission is asked then, before the rest is gathered. Never decompresses, never looks at a span.

use super::{Body, Draining, ReceivedRequest, RequestHandler, Transport};
use crate::pipeline::client::{Client, Head};
use crate::telemetry::metrics::RejectReason;
use bytes::Bytes;
use codecs::compression::Compression;
use codecs::grpc::{self, Code, Deframer, Prefix, PrefixError, Status};
use codecs::otlp::Format;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use tokio::io::{AsyncRead, AsyncWrite};

/// The one method of this signal (opentelemetry-proto, collector/trace/v1).
pub const TRACES_METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

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

/// What the server needs to know of its listener.
#[derive(Clone, Debug)]
pub struct GrpcServer {
    /// Largest message, compressed as it comes.
    pub message_bytes_max: usize,
    /// Streams of one connection at the same time; `None`: our own bound.
    pub streams_max: Option<u32>,
}

impl GrpcServer {
    /// Serves one connection until the peer leaves, an error ends it, or a drain has answered its last request.
    pub async fn serve<S, H>(&self, socket: S, handler: Rc<H>, draining: Draining)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
        H: RequestHandler + 'static,
    {
        let handshake = h2::server::Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES_MAX)
            .max_header_list_size(HEADER_LIST_BYTES_MAX)
            .max_concurrent_streams(self.streams_max.unwrap_or(STREAMS_MAX))
            .max_concurrent_reset_streams(RESET_STREAMS_MAX)
            .max_pending_accept_reset_streams(RESET_STREAMS_MAX)
            .handshake::<_, Bytes>(socket)
            .await;
        // A peer that does not speak HTTP/2 is told so by h2 and closed; it is counted by the listener.
        let Ok(mut connection) = handshake else { return };
        let mut drain = pin!(draining.started());
        let mut leaving = false;
        loop {
            let next = poll_fn(|context| {
                if !leaving && drain.as_mut().poll(context).is_ready() {
                    leaving = true;
                    connection.graceful_shutdown();
                }
                connection.poll_accept(context)
            });
            let Some(Ok((request, respond))) = next.await else { return };
            let handler = Rc::clone(&handler);
            let bytes_max = self.message_bytes_max;
            crate::shard::runtime::spawn(async move { serve_stream(request, respond, &*handler, bytes_max).await });
        }
    }
}

/// Reads one request, has it handled, and answers it. Errors of the stream itself mean that nobody listens any more.
async fn serve_stream<H: RequestHandler>(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    handler: &H,
    bytes_max: usize,
) {
    if !speaks_grpc(&request) {
        handler.rejected(RejectReason::Route);
        drop(answer_not_grpc(&mut respond));
        return;
    }
    let outcome = match enter(&request, handler).await {
        Err(status) => Err(status),
        Ok((compression, client)) => {
            let mut body = request.into_body();
            match gather(&mut body, handler, bytes_max, compression).await {
                Err(Broken::Stream) => return,
                Err(Broken::Refused(status)) => Err(status),
                Ok(received) => handler.handle(ReceivedRequest { client, ..received }).await,
            }
        }
    };
    let sent = match outcome {
        Ok(()) => answer_ok(&mut respond),
        Err(status) => answer_error(&mut respond, &status),
    };
    // An answer that cannot be sent belongs to a stream that the peer has reset: nothing is left to do.
    drop(sent);
}

/// Whether the request says that it is gRPC (gRPC over HTTP/2, "Requests": `application/grpc`, `application/grpc+proto`).
fn speaks_grpc(request: &Request<RecvStream>) -> bool {
    let content_type = request.headers().get(http::header::CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
    content_type.strip_prefix(b"application/grpc").is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Looks at the head: what is asked, how it is encoded, and whether the sender may.
async fn enter<H: RequestHandler>(
    request: &Request<RecvStream>,
    handler: &H,
) -> Result<(Compression, Option<Rc<Client>>), Status> {
    let compression = compression_of(request).inspect_err(|_| handler.rejected(RejectReason::Route))?;
    let client = handler.enter(Head { headers: request.headers(), uri: request.uri() }).await?;
    Ok((compression, client))
}

/// Checks method and headers, before a byte of the body is read.
fn compression_of(request: &Request<RecvStream>) -> Result<Compression, Status> {
    if request.uri().path() != TRACES_METHOD {
        let message = format!("unknown method {}; this server has {TRACES_METHOD}", request.uri().path());
        return Err(Status::new(Code::Unimplemented, message));
    }
    let encoding = match request.headers().get("grpc-encoding") {
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

/// Gathers the one message of a unary call.
async fn gather<H: RequestHandler>(
    body: &mut RecvStream,
    handler: &H,
    bytes_max: usize,
    named: Compression,
) -> Result<ReceivedRequest, Broken> {
    let mut deframer = Deframer::new(bytes_max);
    let mut message: Option<(Body, Prefix)> = None;
    while let Some(chunk) = poll_fn(|context| body.poll_data(context)).await {
        let chunk = chunk?;
        let mut rest = &chunk[..];
        if message.is_none()
            && let Some(prefix) = deframer.take(&mut rest).map_err(|error| reject_prefix(handler, &error))?
        {
            admit(prefix, handler, named).map_err(Broken::Refused)?;
            let body = if rest.len() == prefix.length && rest.len() >= WHOLE_BYTES_MIN {
                Body::Whole(chunk.slice_ref(std::mem::take(&mut rest)))
            } else {
                Body::Gathered(handler.take_buffer(prefix.length))
            };
            message = Some((body, prefix));
        }
        if let Some((body, prefix)) = &mut message {
            append(body, rest, prefix.length).map_err(|status| {
                handler.rejected(RejectReason::Malformed);
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
            Ok(ReceivedRequest { body, compression, format, transport: Transport::Grpc, client: None })
        }
        Some((body, prefix)) => {
            handler.rejected(RejectReason::Malformed);
            let message = format!("the message ends after {} of {} bytes", body.len(), prefix.length);
            Err(Broken::Refused(Status::new(Code::InvalidArgument, message)))
        }
        None => {
            handler.rejected(RejectReason::Malformed);
            let message = "the call carries no message";
            Err(Broken::Refused(Status::new(Code::InvalidArgument, message)))
        }
    }
}

/// Adds bytes of the message, which is to have `length` in all.
fn append(body: &mut Body, bytes: &[u8], length: usize) -> Result<(), Status> {
    match body {
        _ if bytes.is_empty() => Ok(()),
        Body::Gathered(buffer) if buffer.len() + bytes.len() <= length => {
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
fn admit<H: RequestHandler>(prefix: Prefix, handler: &H, named: Compression) -> Result<(), Status> {
    if prefix.compressed && named == Compression::None {
        handler.rejected(RejectReason::Compression);
        let message = "the message is flagged as compressed but grpc-encoding names no encoding";
        return Err(Status::new(Code::Internal, message));
    }
    handler.admit(prefix.length)
}

fn reject_prefix<H: RequestHandler>(handler: &H, error: &PrefixError) -> Broken {
    handler.rejected(match error {
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

/// An empty `ExportTraceServiceResponse`: a prefix that announces no bytes.
const EMPTY_RESPONSE: Bytes = Bytes::from_static(&[0; grpc::PREFIX_BYTES]);

fn answer_ok(respond: &mut SendResponse<Bytes>) -> Result<(), h2::Error> {
    let mut stream = respond.send_response(head(), false)?;
    stream.send_data(EMPTY_RESPONSE, false)?;
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    stream.send_trailers(trailers)
}

/// A client that does not speak gRPC understands an HTTP status.
fn answer_not_grpc(respond: &mut SendResponse<Bytes>) -> Result<(), h2::Error> {
    let mut response = head();
    *response.status_mut() = http::StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response.headers_mut().insert("grpc-status", HeaderValue::from(Code::Internal.number()));
    let message = HeaderValue::from_static("content-type is not application/grpc");
    response.headers_mut().insert("grpc-message", message);
    respond.send_response(response, true).map(drop)
}

/// The "trailers only" form: the status travels in the one header block.
fn answer_error(respond: &mut SendResponse<Bytes>, status: &Status) -> Result<(), h2::Error> {
    let mut response = head();
    let headers = response.headers_mut();
    headers.insert("grpc-status", HeaderValue::from(status.code.number()));
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
