//! An OTLP/gRPC backend: a thread that takes requests and remembers them, and can be told not to.

use super::traces::{SpanId, spans_of};
use super::{PATIENCE, wait_for};
use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex};
use tokio::sync::watch;

/// What a sink does with the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Take,
    /// Leaves requests unanswered until told otherwise.
    Hold,
    /// Answers with this status, for ever.
    Refuse(u16),
}

#[derive(Debug, Default)]
struct Taken {
    /// Messages as they came, without their prefix.
    requests: Vec<Bytes>,
    /// The method of each of them.
    methods: Vec<String>,
    /// The headers of each of them.
    headers: Vec<HeaderMap>,
    spans: usize,
    /// Requests that have come, answered or not.
    asked: usize,
}

/// See the module. Dropping it closes all its connections.
#[derive(Debug)]
pub struct Sink {
    pub address: SocketAddr,
    taken: Arc<(Mutex<Taken>, Condvar)>,
    manner: watch::Sender<Option<Manner>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Sink {
    /// Takes everything.
    pub fn start() -> Sink {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        listener.set_nonblocking(true).expect("a socket option");
        let address = listener.local_addr().expect("it is bound");
        let (manner, manners) = watch::channel(Some(Manner::Take));
        let taken = Arc::new((Mutex::new(Taken::default()), Condvar::new()));
        let keeper = Arc::clone(&taken);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            tokio::task::LocalSet::new().block_on(&runtime, listen(listener, keeper, manners));
        });
        Sink { address, taken, manner, thread: Some(thread) }
    }

    /// From now on requests are left without an answer.
    pub fn hold(&self) {
        self.set(Manner::Hold);
    }

    /// From now on requests are refused with a gRPC status.
    pub fn refuse(&self, status: codecs::grpc::Code) {
        self.set(Manner::Refuse(u16::try_from(status.number()).expect("17 codes")));
    }

    /// Takes everything, also what it held.
    pub fn take(&self) {
        self.set(Manner::Take);
    }

    fn set(&self, manner: Manner) {
        self.manner.send_replace(Some(manner));
    }

    /// Messages taken so far, as they came.
    pub fn requests(&self) -> Vec<Bytes> {
        self.lock().requests.clone()
    }

    /// Messages of this method taken so far, as they came.
    pub fn requests_of(&self, method: &str) -> Vec<Bytes> {
        let taken = self.lock();
        let all = taken.requests.iter().zip(&taken.methods);
        all.filter(|(_, called)| *called == method).map(|(request, _)| request.clone()).collect()
    }

    /// The headers of the messages taken so far.
    pub fn headers(&self) -> Vec<HeaderMap> {
        self.lock().headers.clone()
    }

    /// How often each span has come.
    pub fn spans(&self) -> BTreeMap<SpanId, usize> {
        let mut spans = BTreeMap::new();
        for request in self.requests() {
            for span in spans_of(&request) {
                *spans.entry(span).or_default() += 1;
            }
        }
        spans
    }

    /// Spans taken so far.
    pub fn spans_count(&self) -> usize {
        self.lock().spans
    }

    /// Waits until so many spans have been taken.
    pub fn wait_for_spans(&self, spans: usize) {
        let (taken, more) = &*self.taken;
        let locked = taken.lock().expect("nobody panics with it");
        let (taken, _) =
            more.wait_timeout_while(locked, PATIENCE, |taken| taken.spans < spans).expect("nobody panics with it");
        assert!(taken.spans >= spans, "the sink has {} of {spans} spans", taken.spans);
    }

    /// Waits until so many requests have come, answered or not.
    pub fn wait_for_asked(&self, requests: usize) {
        wait_for("requests at the sink", || (self.lock().asked >= requests).then_some(()));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Taken> {
        self.taken.0.lock().expect("nobody panics with it")
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.manner.send_replace(None);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

type Shared = Arc<(Mutex<Taken>, Condvar)>;

async fn listen(listener: std::net::TcpListener, taken: Shared, mut manners: watch::Receiver<Option<Manner>>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    let served = manners.clone();
    let accept = async move {
        loop {
            let (socket, _) = listener.accept().await.expect("the sink accepts");
            let (taken, manners) = (Arc::clone(&taken), served.clone());
            tokio::task::spawn_local(async move {
                // A connection that breaks is the gateway's business.
                drop(serve(socket, taken, manners).await);
            });
        }
    };
    tokio::select! {
        () = accept => {}
        _ = manners.wait_for(Option::is_none) => {}
    }
}

async fn serve(
    socket: tokio::net::TcpStream,
    taken: Shared,
    manners: watch::Receiver<Option<Manner>>,
) -> Result<(), h2::Error> {
    let mut builder = h2::server::Builder::new();
    builder.initial_window_size(1 << 24).initial_connection_window_size(1 << 26);
    let mut connection = builder.handshake::<_, Bytes>(socket).await?;
    let taken = Rc::new(taken);
    while let Some(stream) = connection.accept().await {
        let (request, respond) = stream?;
        let (taken, manners) = (Rc::clone(&taken), manners.clone());
        tokio::task::spawn_local(async move { drop(answer(request, respond, &taken, manners).await) });
    }
    Ok(())
}

async fn answer(
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    taken: &Shared,
    mut manners: watch::Receiver<Option<Manner>>,
) -> Result<(), h2::Error> {
    let (head, mut body) = request.into_parts();
    let mut framed = BytesMut::new();
    while let Some(chunk) = poll_fn(|context| body.poll_data(context)).await {
        let chunk = chunk?;
        framed.extend_from_slice(&chunk);
        body.flow_control().release_capacity(chunk.len())?;
    }
    let (taken, more) = &**taken;
    taken.lock().expect("nobody panics with it").asked += 1;
    // A call that its sender has given up is not taken, whatever the sink is told later.
    let manner = tokio::select! {
        manner = manners.wait_for(|manner| *manner != Some(Manner::Hold)) => manner.map_or(None, |manner| *manner),
        _ = poll_fn(|context| respond.poll_reset(context)) => None,
    };
    let status = match manner {
        None | Some(Manner::Hold) => return Ok(()),
        Some(Manner::Take) => 0,
        Some(Manner::Refuse(status)) => status,
    };
    if status == 0 {
        assert_eq!(framed[0], 0, "the exporter was told not to compress");
        let message = framed.freeze().slice(5..);
        let mut taken = taken.lock().expect("nobody panics with it");
        if head.uri.path() == super::grpc::TRACES {
            taken.spans += spans_of(&message).len();
        }
        taken.requests.push(message);
        taken.methods.push(head.uri.path().to_owned());
        taken.headers.push(head.headers);
        more.notify_all();
    }
    let head = Response::builder().header("content-type", "application/grpc").body(()).expect("sound headers");
    let mut stream = respond.send_response(head, false)?;
    if status == 0 {
        stream.send_data(Bytes::from_static(&[0; 5]), false)?;
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(status));
    stream.send_trailers(trailers)
}
