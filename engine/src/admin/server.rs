//! Sockets of the control thread: HTTP/1.1 by hyper, one request a connection, few connections at a time.
//!
//! Scrapers come every few seconds and people seldom, so a connection is not kept alive: nothing idle has to be bounded
//! or drained.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::rt::ReadBufCursor;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::pages::{Face, Page};
use super::{Shards, View, grpc_health, host, profiles};
use crate::config::checked::{Config, ExtensionKind, ExtensionSettings};
use crate::shard::clock::Clock;
use crate::transport::gate::{Fault, Gate, GateStream};
use crate::transport::tls::Alpn;

/// Connections served at the same time; more wait in the listener's backlog.
const CONNECTIONS_MAX: usize = 32;
/// Request line and headers; hyper's smallest buffer is 8 KiB.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// For a handshake, and from its end to the last byte of the answer, unless that takes longer by its nature
/// ([`Patience`]).
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(15);
/// After an accept failed, for instance because the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where pages are served, as the kernel bound it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Serving {
    /// `/metrics`.
    pub metrics: Option<SocketAddr>,
    /// The admin pages.
    pub admin: Option<SocketAddr>,
    /// Extensions with what they are, in the order of the configuration.
    pub extensions: Vec<(ExtensionSettings, SocketAddr)>,
}

/// An address that could not be listened on.
#[derive(Debug, thiserror::Error)]
#[error("{address}: {error}")]
pub struct BindError {
    /// What it was wanted for.
    pub face: Face,
    /// The address.
    pub address: SocketAddr,
    /// Why not.
    #[source]
    pub error: io::Error,
}

/// Listens on the configured addresses and answers in the background; `gates` are those of the extensions, by their
/// number. Must run inside a tokio `LocalSet`.
///
/// # Errors
/// If an address cannot be listened on; then nothing is served.
pub async fn serve<S: Shards + 'static>(
    config: &Config,
    gates: &[Gate],
    view: &Rc<View<S>>,
) -> Result<Serving, BindError> {
    let metrics = bind(Face::Metrics, config.telemetry.metrics_address).await?;
    let admin = bind(Face::Admin, config.telemetry.admin_address).await?;
    let mut bound = Vec::new();
    for (number, extension) in config.extensions.iter().enumerate() {
        let address = match &extension.kind {
            ExtensionKind::HealthCheck(health) => health.address,
            ExtensionKind::HealthCheckV2(health) => health.address,
            // The admin listener serves these pages already.
            ExtensionKind::Zpages(address)
                if Some(*address) == config.telemetry.admin_address && extension.tls.is_none() =>
            {
                continue;
            }
            ExtensionKind::HealthCheckGrpc(address)
            | ExtensionKind::Zpages(address)
            | ExtensionKind::Pprof(address) => *address,
        };
        bound.push((number, bind(Face::Extension(number), Some(address)).await?));
    }
    let start = |face: Face, bound: Option<(TcpListener, SocketAddr)>| {
        bound.map(|(listener, address)| {
            let gate = match face {
                Face::Extension(number) => gates[number].clone(),
                Face::Metrics => Gate::open("metrics".to_owned(), Alpn::Http1),
                Face::Admin => Gate::open("admin".to_owned(), Alpn::Http1),
            };
            tokio::task::spawn_local(accept(listener, face, gate, Rc::clone(view)));
            address
        })
    };
    let extensions = bound.into_iter().filter_map(|(number, bound)| {
        let address = start(Face::Extension(number), bound)?;
        Some((config.extensions[number].clone(), address))
    });
    let extensions = extensions.collect();
    Ok(Serving { metrics: start(Face::Metrics, metrics), admin: start(Face::Admin, admin), extensions })
}

async fn bind(face: Face, address: Option<SocketAddr>) -> Result<Option<(TcpListener, SocketAddr)>, BindError> {
    let Some(address) = address else { return Ok(None) };
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    let bound = bound.await.map_err(|error| BindError { face, address, error });
    bound.map(Some)
}

async fn accept<S: Shards + 'static>(listener: TcpListener, face: Face, gate: Gate, view: Rc<View<S>>) -> Infallible {
    let clock = Clock::start();
    let places = Rc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = hold(Rc::clone(&places)).await;
        match listener.accept().await {
            Ok((stream, peer)) => {
                let (view, gate) = (Rc::clone(&view), gate.clone());
                tokio::task::spawn_local(async move {
                    let _place = place;
                    let (caller, patience) = (Caller { face, peer: peer.ip() }, Patience::default());
                    // A peer that leaves early or stalls is no news for anybody.
                    if let Some(fault) = serve_one(stream, caller, &gate, view, &patience).await {
                        gate.say(&fault, Some(peer.ip()), clock.now_ns());
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "The admin server could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Where a connection came from, and where to.
#[derive(Clone, Copy, Debug)]
struct Caller {
    face: Face,
    peer: IpAddr,
}

/// How much longer than [`CONNECTION_TIME_MAX`] a connection may take.
#[derive(Debug, Default)]
pub(super) struct Patience(Cell<Duration>);

impl Patience {
    /// The answer takes this much longer, because the request says so.
    pub(super) fn extend(&self, more: Duration) {
        self.0.set(self.0.get() + more);
    }

    /// Waits for `work` to its end, or until it took too long.
    async fn limit<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let over = async {
            tokio::time::sleep(CONNECTION_TIME_MAX).await;
            while !self.0.get().is_zero() {
                tokio::time::sleep(self.0.take()).await;
            }
        };
        tokio::select! {
            done = work => Some(done),
            () = over => None,
        }
    }
}

/// Serves a connection to its end; what is returned is why it was not let in.
async fn serve_one<S: Shards + 'static>(
    stream: TcpStream,
    caller: Caller,
    gate: &Gate,
    view: Rc<View<S>>,
    patience: &Patience,
) -> Option<Fault> {
    let entering = tokio::time::timeout(CONNECTION_TIME_MAX, gate.enter(stream, std::future::pending()));
    let stream = match entering.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(fault)) => return fault,
        Err(_) => return None,
    };
    let first = stream.first_bytes();
    match view.is_grpc(caller.face) {
        // It hangs up by itself, unless somebody watches.
        true => drop(grpc_health::answer(stream, view).await),
        false => drop(patience.limit(answer(stream, caller, &view, patience)).await),
    }
    gate.leave(&first)
}

/// A place among the connections, given back when dropped.
struct Place(Rc<Semaphore>);

async fn hold(places: Rc<Semaphore>) -> Place {
    let permit = places.acquire().await.expect("the semaphore is never closed");
    permit.forget();
    Place(places)
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

async fn answer<S: Shards>(
    stream: GateStream<TcpStream>,
    Caller { face, peer }: Caller,
    view: &View<S>,
    patience: &Patience,
) -> Result<(), hyper::Error> {
    let service = service_fn(|request: Request<Incoming>| async move {
        let (headers, uri) = (request.headers(), request.uri());
        let target = uri.path_and_query().map_or(uri.path(), |target| target.as_str());
        let is_profile = profiles::serves(view, face, uri.path());
        let is_private = is_profile || face.is_private(view, uri.path());
        let response = match *request.method() {
            _ if is_private && !host::may_see(headers, uri) => response(Page::error(403, host::REFUSAL)),
            // When the peer leaves, hyper drops this future, and what it recorded ends.
            Method::GET if is_profile => profile(profiles::answer(view, face, peer, target, patience).await),
            Method::GET | Method::HEAD if !is_profile => response(face.page(view, target).await),
            _ => response(Page::method_not_allowed()),
        };
        Ok::<_, Infallible>(response)
    });
    let mut server = http1::Builder::new();
    server.keep_alive(false).max_buf_size(HEAD_BYTES_MAX);
    server.serve_connection(HyperStream(stream), service).await
}

/// On every answer. The page takes its script, its style and its figures from where it came from and nothing from
/// anywhere else, and nobody shows it inside another page: names that peers sent can do nothing even if a defect of ours
/// wrote one as markup.
const HEADERS: [(HeaderName, &str); 5] = [
    (header::CACHE_CONTROL, "no-store"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

fn response(page: Page) -> Response<Full<Bytes>> {
    with_headers(page.status, page.content_type, Bytes::from(page.body))
}

fn profile(answer: profiles::Answer) -> Response<Full<Bytes>> {
    let mut response = with_headers(answer.status, answer.content_type, Bytes::from(answer.body));
    if let Some(file) = answer.file {
        let value = format!("attachment; filename=\"{file}\"");
        let value = HeaderValue::try_from(value).expect("profiles have short names of letters");
        response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
    }
    response
}

fn with_headers(status: u16, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = StatusCode::from_u16(status).expect("pages have valid statuses");
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A tokio stream as hyper reads and writes it. It copies each read once: these pages are small, and the copy needs no
/// uninitialised memory.
struct HyperStream(GateStream<TcpStream>);

impl hyper::rt::Read for HyperStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut target: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = [0; 2048];
        let room = target.remaining().min(bytes.len());
        let mut source = ReadBuf::new(&mut bytes[..room]);
        ready!(Pin::new(&mut self.0).poll_read(context, &mut source))?;
        target.put_slice(source.filled());
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for HyperStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::connector::span_metrics::{Forgotten, Snapshot};
    use crate::exporter::memory::KeptTrace;
    use crate::processor::explanation::Explanation;
    use crate::profile::tasks::Tasks;
    use crate::telemetry::cells::Schema;
    use std::future::Future;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    struct NoShards;

    impl Shards for NoShards {
        async fn snapshot(&self) -> Vec<Vec<u64>> {
            Vec::new()
        }

        async fn traces(&self) -> Vec<KeptTrace> {
            Vec::new()
        }

        async fn explain(&self, _: &str) -> Vec<(usize, Explanation)> {
            Vec::new()
        }

        async fn span_metrics(&self) -> Vec<Vec<Snapshot>> {
            Vec::new()
        }

        async fn tasks(&self) -> Tasks {
            Tasks(Vec::new())
        }

        fn forget(&self, _: usize, _: Forgotten) {}
    }

    fn on_the_control_thread<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, work)
    }

    fn configuration(admin: &str) -> Config {
        let text = format!(
            "receivers: {{nop: }}\nexporters: {{nop: }}\nextensions: {{health_check: {{endpoint: '127.0.0.1:0'}}}}\n\
             service:\n  extensions: [health_check]\n  engine: {{admin: '{admin}'}}\n  \
             telemetry: {{metrics: {{address: '127.0.0.1:0'}}}}\n  \
             pipelines: {{traces: {{receivers: [nop], exporters: [nop]}}}}\n"
        );
        let file = config::Source::File { name: "test.yaml".to_owned(), text };
        let loaded = config::load(&[file], &|_| None, &config::Machine { memory_bytes: 1 << 30 });
        loaded.config.expect("it is right")
    }

    fn gates() -> [Gate; 1] {
        [Gate::open("extension health_check".to_owned(), Alpn::Http1)]
    }

    fn view() -> Rc<View<NoShards>> {
        Rc::new(View::new(NoShards, Schema::default(), &configuration("127.0.0.1:0"), None, 7))
    }

    async fn exchange(address: Option<SocketAddr>, request: &str) -> String {
        exchange_as("localhost", address, request).await
    }

    async fn exchange_as(host: &str, address: Option<SocketAddr>, request: &str) -> String {
        let mut stream = TcpStream::connect(address.unwrap()).await.unwrap();
        stream.write_all(format!("{request} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[test]
    fn pages_are_served_over_http_and_the_connection_is_closed() {
        on_the_control_thread(async {
            let serving = serve(&configuration("127.0.0.1:0"), &gates(), &view()).await.unwrap();
            let metrics = exchange(serving.metrics, "GET /metrics?x=1").await;
            assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"));
            assert!(metrics.contains("content-type: text/plain; version=0.0.4"));
            assert!(metrics.contains("service_name=\"tracegate\""));
            assert!(exchange(serving.admin, "GET /ledger").await.ends_with("}\n"));
            let page = exchange(serving.admin, "GET /").await;
            assert!(page.contains("\r\ncontent-security-policy: default-src 'none'; script-src 'self';"), "{page}");
            assert!(page.contains("\r\nx-content-type-options: nosniff\r\n"));
            let health = serving.extensions.first().map(|(_, address)| *address);
            assert!(exchange(health, "GET /any").await.starts_with("HTTP/1.1 503"), "it is still starting");
            assert!(exchange(serving.admin, "HEAD /").await.ends_with("\r\n\r\n"), "no body");
            assert!(exchange(serving.admin, "POST /ledger").await.starts_with("HTTP/1.1 405"));
            assert!(exchange(serving.admin, "nonsense").await.starts_with("HTTP/1.1 400"));
        });
    }

    #[test]
    fn a_page_of_somebody_else_cannot_read_ours_under_its_own_name() {
        on_the_control_thread(async {
            let serving = serve(&configuration("127.0.0.1:0"), &gates(), &view()).await.unwrap();
            let admin = serving.admin;
            for request in ["GET /", "GET /ledger", "GET /traces", "HEAD /overview"] {
                let refused = exchange_as("evil.example", admin, request).await;
                assert!(refused.starts_with("HTTP/1.1 403"), "{request}: {refused}");
            }
            assert!(exchange_as("evil.example", admin, "GET /").await.contains("write the address instead"));
            assert!(exchange_as(&admin.unwrap().to_string(), admin, "GET /ledger").await.starts_with("HTTP/1.1 200"));
            // Probes and scrapers use names of services, and learn nothing but this.
            assert!(exchange_as("gateway.svc", admin, "GET /ready").await.starts_with("HTTP/1.1 503"));
            assert!(exchange_as("gateway.svc", serving.metrics, "GET /metrics").await.starts_with("HTTP/1.1 200"));
        });
    }

    #[test]
    fn a_taken_address_is_an_error_that_names_it_and_nothing_is_served() {
        on_the_control_thread(async {
            let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let taken = other.local_addr().unwrap();
            let error = serve(&configuration(&taken.to_string()), &gates(), &view()).await.unwrap_err();
            assert_eq!((error.face, error.address), (Face::Admin, taken));
            assert_eq!(error.error.kind(), io::ErrorKind::AddrInUse);
        });
    }

    #[test]
    fn more_peers_than_places_are_all_answered() {
        on_the_control_thread(async {
            let serving = serve(&configuration("127.0.0.1:0"), &gates(), &view()).await.unwrap();
            let idle = (0..CONNECTIONS_MAX - 1).map(|_| TcpStream::connect(serving.admin.unwrap()));
            let _idle = futures_util::future::join_all(idle).await;
            for _ in 0..2 * CONNECTIONS_MAX {
                assert!(exchange(serving.admin, "GET /ready").await.starts_with("HTTP/1.1 503"));
            }
        });
    }
}
