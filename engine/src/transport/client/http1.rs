//! One HTTP/1.1 client per (exporter, shard): POSTs over a pool of kept-alive connections.
//!
//! ```text
//! post --take--> idle connection, else dial --> request, answer --give back--> idle (bounded) --90 s--> closed
//! ```
//!
//! The one idea: a connection belongs to one post at a time, so their number is bounded by the caller's posts; between
//! posts it waits in a bounded list. The newest is taken first, so that the spare ones grow old and leave. A connection to a name is used for as long as its addresses are believed, then the next one asks again and goes one
//! address further. Decides nothing about retries, with one exception: a request that an idle connection could not even begin to send, because
//! the peer had closed it, goes to a fresh one.

use super::dial::{Dialed, Dialer};
use super::peer_stream::Seen;
use super::{ANSWER_BYTES_MAX, ClientError, PeerSettings, Problem, extra_headers, host_and_port, proxy, user_agent};
use crate::shard::hyper_io::HyperIo;
use crate::shard::runtime::{sleep, spawn, timeout};
use crate::transport::tls::Alpn;
use bytes::{Bytes, BytesMut};
use codecs::compression::Compression;
use codecs::otlp::Format;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::time::Duration;

/// Idle connections kept: as many as the queue's default number of consumers can use, and some.
const IDLE_CONNECTIONS_MAX: usize = 16;
/// How often idle connections grow older.
const IDLE_TICK: Duration = Duration::from_secs(30);
/// Ticks after which one is closed: between 60 s and 90 s, the Collector's `idle_conn_timeout` at most.
const IDLE_TICKS_MAX: u8 = 3;
/// Largest head of an answer, and hyper's read buffer.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// What the peer answered.
#[derive(Debug)]
pub struct HttpResponse {
    /// Of the status line.
    pub status: StatusCode,
    /// All headers.
    pub headers: HeaderMap,
    /// The body, at most [`ANSWER_BYTES_MAX`] of it.
    pub body: Bytes,
}

/// See the module. Cloning shares the pool.
#[derive(Clone, Debug)]
pub struct HttpClient(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    dialer: Dialer,
    uri: Uri,
    headers: HeaderMap,
    timeout: Option<Duration>,
    /// How long the addresses of the peer's name are believed; `None`: for ever, or it has no name.
    believed: Option<Duration>,
    idle: RefCell<Vec<Idle>>,
    ageing: Cell<bool>,
    closed: Cell<bool>,
}

#[derive(Debug)]
struct Idle {
    line: Line,
    ticks: u8,
}

/// A connection that takes one request at a time.
#[derive(Debug)]
struct Line {
    sender: SendRequest<Full<Bytes>>,
    seen: Rc<Seen>,
    /// Made so long ago that the next request should ask for addresses again.
    old: Rc<Cell<bool>>,
}

impl HttpClient {
    /// Checks the settings; connects at the first post. `path` is absolute, a query included; all bodies are in `format`.
    /// Errors name the setting.
    pub fn new(peer: &PeerSettings, path: &str, format: Format) -> Result<HttpClient, String> {
        let uri = path.parse::<Uri>().ok().filter(|uri| uri.host().is_none() && uri.path().starts_with('/'));
        let mut uri = uri.ok_or_else(|| format!("endpoint: {path:?} is no path of a URL"))?;
        let mut headers = extra_headers(&peer.headers)?;
        // A proxy takes requests in plain text itself and has to know where they go; what is encrypted goes through.
        if peer.tls.is_none()
            && let Some(proxy) = &peer.proxy
        {
            uri = proxy::absolute(&uri, &host_and_port(&peer.endpoint))?;
            headers.extend(proxy::authorization(proxy));
        }
        // `Host` is the one header of the protocol that the Collector lets `headers` replace.
        let wanted = peer.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host"));
        let host = wanted.map_or_else(|| host_header(peer), |(_, host)| host.clone());
        let host = HeaderValue::from_str(&host).map_err(|_| format!("endpoint: {host:?} is no host and port"))?;
        headers.insert(header::HOST, host);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
        if !headers.contains_key(header::USER_AGENT) {
            let agent = HeaderValue::from_str(&user_agent()).expect("the user agent is ASCII");
            headers.insert(header::USER_AGENT, agent);
        }
        let dialer = Dialer::new(peer, Alpn::Http1);
        Ok(HttpClient(Rc::new(Inner {
            believed: peer.names.interval().filter(|_| dialer.has_a_name()),
            dialer,
            uri,
            headers,
            timeout: peer.timeout,
            idle: RefCell::new(Vec::new()),
            ageing: Cell::new(false),
            closed: Cell::new(false),
        })))
    }

    /// What every post sends beside its encoding.
    pub fn headers(&self) -> &HeaderMap {
        &self.0.headers
    }

    /// Sends one body, compressed as `compression` says, and waits for the answer, at most the timeout. `headers` are
    /// sent instead of [`HttpClient::headers`]. Every error means that no answer came.
    pub async fn post(
        &self,
        body: Bytes,
        compression: Compression,
        headers: Option<HeaderMap>,
    ) -> Result<HttpResponse, ClientError> {
        let connected = Cell::new(false);
        let request = self.0.request(body, compression, headers);
        let exchange = self.exchange(request, &connected);
        match self.0.timeout {
            None => exchange.await,
            Some(limit) => match timeout(limit, exchange).await {
                Some(result) => result,
                None => Err(self.0.dialer.too_late(limit, connected.get())),
            },
        }
    }

    /// Closes idle connections and takes no more posts; those under way finish and close theirs.
    pub async fn close(&self) {
        self.0.closed.set(true);
        self.0.idle.borrow_mut().clear();
    }

    /// Waits until the peer's end of every idle connection has arrived.
    #[cfg(test)]
    pub(crate) async fn all_idle_are_closed(&self) {
        while self.0.idle.borrow().iter().any(|idle| !idle.line.sender.is_closed()) {
            crate::shard::runtime::yield_now().await;
        }
    }

    async fn exchange(
        &self,
        mut request: Request<Full<Bytes>>,
        connected: &Cell<bool>,
    ) -> Result<HttpResponse, ClientError> {
        if self.0.closed.get() {
            return Err(self.0.dialer.error(Problem::Closed, "the exporter is shut down"));
        }
        while let Some(mut line) = self.0.take_idle() {
            connected.set(true);
            if line.sender.ready().await.is_err() {
                continue;
            }
            match line.sender.try_send_request(request).await {
                Ok(response) => return self.finish(line, response).await,
                Err(mut error) => match error.take_message() {
                    // Closed by the peer while it was idle, not a byte sent: the next connection gets the request.
                    Some(unsent) => request = unsent,
                    None => return Err(self.0.dialer.lost(error.error(), &line.seen)),
                },
            }
        }
        connected.set(false);
        let mut line = self.0.dial().await?;
        connected.set(true);
        match line.sender.send_request(request).await {
            Ok(response) => self.finish(line, response).await,
            Err(error) => Err(self.0.dialer.lost(&error, &line.seen)),
        }
    }

    /// Reads the answer's body, and keeps the connection if nothing is left on it.
    async fn finish(&self, line: Line, response: http::Response<Incoming>) -> Result<HttpResponse, ClientError> {
        let (head, mut incoming) = response.into_parts();
        let mut body = BytesMut::new();
        let mut whole = true;
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(|error| self.0.dialer.lost(&error, &line.seen))?;
            let Ok(data) = frame.into_data() else { continue };
            let room = ANSWER_BYTES_MAX - body.len();
            body.extend_from_slice(&data[..data.len().min(room)]);
            if data.len() > room {
                whole = false;
                break;
            }
        }
        if whole {
            Inner::give_back(&self.0, line);
        }
        Ok(HttpResponse { status: head.status, headers: head.headers, body: body.freeze() })
    }
}

impl Inner {
    fn request(&self, body: Bytes, compression: Compression, headers: Option<HeaderMap>) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = headers.unwrap_or_else(|| self.headers.clone());
        if compression != Compression::None {
            let encoding = HeaderValue::from_static(compression.name());
            request.headers_mut().insert(header::CONTENT_ENCODING, encoding);
        }
        request
    }

    fn take_idle(&self) -> Option<Line> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { line, .. }) = idle.pop() {
            if !line.sender.is_closed() && !line.old.get() {
                return Some(line);
            }
        }
        None
    }

    fn give_back(inner: &Rc<Inner>, line: Line) {
        let mut idle = inner.idle.borrow_mut();
        let spare = idle.len() < IDLE_CONNECTIONS_MAX;
        if inner.closed.get() || line.sender.is_closed() || line.old.get() || !spare {
            return;
        }
        idle.push(Idle { line, ticks: 0 });
        if !inner.ageing.replace(true) {
            let inner = Rc::downgrade(inner);
            spawn(async move { age(&inner).await });
        }
    }

    async fn dial(&self) -> Result<Line, ClientError> {
        let Dialed { stream, seen, .. } = self.dialer.dial().await?;
        let handshake = hyper::client::conn::http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .handshake::<_, Full<Bytes>>(HyperIo(stream));
        let (sender, connection) = handshake.await.map_err(|error| self.dialer.lost(&error, &seen))?;
        // The connection ends when its sender is dropped or the peer leaves; posts learn about errors themselves.
        let old = Rc::new(Cell::new(false));
        let (believed, grown_old) = (self.believed, Rc::clone(&old));
        spawn(async move {
            let mut connection = pin!(connection);
            if let Some(believed) = believed {
                // Shards do not ask all at once.
                let believed = believed.mul_f64(0.8 + 0.2 * fastrand::f64());
                if timeout(believed, connection.as_mut()).await.is_some() {
                    return;
                }
                grown_old.set(true);
            }
            drop(connection.await);
        });
        Ok(Line { sender, seen, old })
    }
}

/// Closes connections that nobody has used for a while; ends with the last of them, or with the client.
async fn age(inner: &Weak<Inner>) {
    loop {
        sleep(IDLE_TICK).await;
        let Some(inner) = inner.upgrade() else { return };
        let mut idle = inner.idle.borrow_mut();
        idle.retain_mut(|entry| {
            entry.ticks += 1;
            entry.ticks < IDLE_TICKS_MAX && !entry.line.sender.is_closed()
        });
        if idle.is_empty() {
            inner.ageing.set(false);
            return;
        }
    }
}

/// `Host`: without the port where the scheme implies it.
fn host_header(peer: &PeerSettings) -> String {
    let implied = if peer.tls.is_some() { 443 } else { 80 };
    let whole = host_and_port(&peer.endpoint);
    if peer.endpoint.port != implied {
        return whole;
    }
    whole.rsplit_once(':').map_or(whole.clone(), |(host, _)| host.to_owned())
}
