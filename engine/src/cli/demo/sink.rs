//! The backend of the demo: a small OTLP/HTTP receiver on a thread of its own, which can be told to fail.
//!
//! Each path is a way through the gateway: `/archive/v1/traces` and `/kept/v1/traces`. It answers once it has written
//! down in [`Accounts`] what came. It keeps no span.

use super::accounts::{Accounts, Way};
use crate::shard::hyper_io::HyperIo;
use crate::shard::runtime::{self, Runtime, spawn};
use bytes::Bytes;
use codecs::otlp::proto::ExportTraceServiceRequest;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use prost::Message;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Largest request: more than the gateway is told to send.
const REQUEST_BYTES_MAX: usize = 64 << 20;
/// After an accept failed, for instance because the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the sink and who commands it share.
#[derive(Debug, Default)]
pub(super) struct Sink {
    failing: AtomicBool,
    refused: AtomicU64,
}

impl Sink {
    /// Listens on a free port of loopback, and takes what comes until the process ends.
    pub(super) fn start(accounts: Arc<Mutex<Accounts>>) -> io::Result<(Arc<Sink>, SocketAddr)> {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let sink = Arc::new(Sink::default());
        let served = Arc::clone(&sink);
        let name = std::thread::Builder::new().name("demo-sink".to_owned());
        name.spawn(move || {
            if let Err(why) = runtime::run(Runtime::Epoll, None, accept(listener, served, accounts)) {
                eprintln!("error: the sink of the demo does not run: {why}");
            }
        })?;
        Ok((sink, address))
    }

    /// From now on requests are refused, or taken.
    pub(super) fn fail(&self, failing: bool) {
        self.failing.store(failing, Ordering::Relaxed);
    }

    /// Whether it refuses.
    pub(super) fn fails(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Requests refused so far.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

async fn accept(listener: std::net::TcpListener, sink: Arc<Sink>, accounts: Arc<Mutex<Accounts>>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return eprintln!("error: the sink of the demo cannot listen: {error}"),
    };
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            runtime::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (sink, accounts) = (Arc::clone(&sink), Arc::clone(&accounts));
        spawn(async move {
            let service = service_fn(|request| answer(request, &sink, &accounts));
            // A gateway that leaves in the middle of a request sends it again.
            drop(http1::Builder::new().serve_connection(HyperIo(stream), service).await);
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    sink: &Sink,
    accounts: &Mutex<Accounts>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let way = match request.uri().path() {
        "/archive/v1/traces" => Way::Archive,
        "/kept/v1/traces" => Way::Kept,
        _ => return Ok(response(StatusCode::NOT_FOUND)),
    };
    let body = Limited::new(request.into_body(), REQUEST_BYTES_MAX).collect().await;
    if sink.fails() {
        sink.refused.fetch_add(1, Ordering::Relaxed);
        return Ok(response(StatusCode::SERVICE_UNAVAILABLE));
    }
    let decoded = body.ok().and_then(|body| ExportTraceServiceRequest::decode(body.to_bytes()).ok());
    let Some(request) = decoded else { return Ok(response(StatusCode::BAD_REQUEST)) };
    let mut accounts = accounts.lock().expect("nobody panics with it");
    for span in request.resource_spans.iter().flat_map(|group| &group.scope_spans).flat_map(|group| &group.spans) {
        accounts.arrived(way, &span.trace_id, &span.span_id);
    }
    Ok(response(StatusCode::OK))
}

/// An empty body is a whole answer in OTLP.
fn response(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = status;
    let kind = http::HeaderValue::from_static("application/x-protobuf");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}
