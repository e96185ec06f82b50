//! One gRPC client per (exporter, shard): unary calls over one HTTP/2 connection to each address of the peer, as many at
//! a time as the caller makes.
//!
//! The one idea: a call takes the connection whose turn it is (`balance`), waits for one that is being made
//! (`way`), and fails at once with the last error while the peer is left alone after a failure. The caller's
//! retries space the attempts. A call that runs out of time only drops its own stream.
//!
//! A body goes to h2 in one piece, without waiting for window capacity: it is in memory anyway, charged to the queue
//! until the answer, and h2 cuts it as the peer's windows open. Waiting ourselves would wake the call for each window
//! update and save nothing.
//!
//! Decides nothing about retries of data, with one exception: a call that the peer certainly has not looked at (its
//! stream was never opened, or refused by a graceful GOAWAY) is sent once more on another connection.

use super::balance::Balance;
use super::dial::Dialer;
use super::way::Line;
use super::{ANSWER_BYTES_MAX, ClientError, PeerSettings, extra_headers, host_and_port, user_agent};
use crate::shard::runtime::timeout;
use crate::transport::tls::Alpn;
use bytes::{Bytes, BytesMut};
use codecs::compression::Compression;
use codecs::grpc::{self, Code, Status};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

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

/// See the module. Cloning shares the connections.
#[derive(Clone, Debug)]
pub struct GrpcClient(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    balance: Rc<Balance>,
    scheme: http::uri::Scheme,
    authority: http::uri::Authority,
    headers: HeaderMap,
    timeout: Option<Duration>,
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
            balance: Balance::new(peer, Dialer::new(peer, Alpn::Http2)),
            scheme: if peer.tls.is_some() { http::uri::Scheme::HTTPS } else { http::uri::Scheme::HTTP },
            authority,
            headers,
            timeout: peer.timeout,
        })))
    }

    /// What every call sends beside its encoding.
    pub fn headers(&self) -> &HeaderMap {
        &self.0.headers
    }

    /// Begins to connect without waiting, so that the first call finds a connection.
    pub fn connect(&self) {
        self.0.balance.connect();
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
        Err(self.0.balance.dialer.too_late(limit, used.is_some()))
    }

    /// Takes no more calls, lets those under way finish, and resolves when every connection has ended. The caller
    /// bounds the wait.
    pub async fn close(&self) {
        self.0.balance.close().await;
    }

    async fn exchange(
        &self,
        head: Request<()>,
        framed: Bytes,
        used: &RefCell<Option<(Line, u64)>>,
    ) -> Result<GrpcAnswer, ClientError> {
        let mut sends = 0;
        loop {
            let line = self.0.balance.line().await?;
            used.replace(Some((line.clone(), line.seen.bytes())));
            sends += 1;
            match self.0.send(&line, head.clone(), framed.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(Failure::Untouched(_)) if sends < SENDS_MAX => self.0.balance.forget(line.number),
                Err(Failure::Untouched(error) | Failure::Unknown(error)) => {
                    return Err(self.0.balance.dialer.lost(&error, &line.seen));
                }
            }
        }
    }
}

impl Inner {
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
