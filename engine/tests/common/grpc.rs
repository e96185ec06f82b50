//! A gRPC sender over `h2`, driven by a thread of its own; the test talks to it with plain calls.
//!
//! It can say what no exporter would say: any path, any encoding, any framing.

use super::{Answer, PATIENCE};
use bytes::{Bytes, BytesMut};
use codecs::grpc::{Code, Status};
use h2::client::SendRequest;
use http::HeaderMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc as commands;

pub const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    pub path: String,
    /// `grpc-encoding`.
    pub encoding: Option<String>,
    /// With its prefix.
    pub framed: Bytes,
    /// Further metadata.
    pub metadata: Vec<(String, String)>,
}

impl Call {
    /// What an exporter sends: one message, not compressed.
    pub fn plain(message: &[u8]) -> Call {
        Call { path: TRACES.to_owned(), encoding: None, framed: framed(false, message), metadata: Vec::new() }
    }

    pub fn encoded(encoding: &str, message: &[u8]) -> Call {
        let (encoding, framed) = (Some(encoding.to_owned()), framed(true, message));
        Call { path: TRACES.to_owned(), encoding, framed, metadata: Vec::new() }
    }

    /// The same message to another method.
    pub fn to(mut self, path: &str) -> Call {
        self.path = path.to_owned();
        self
    }

    pub fn with(mut self, name: &str, value: &str) -> Call {
        self.metadata.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A message with its five bytes in front.
pub fn framed(compressed: bool, message: &[u8]) -> Bytes {
    let prefix = codecs::grpc::prefix(compressed, message.len());
    [&prefix[..], message].concat().into()
}

/// One connection to an OTLP/gRPC receiver. Dropping it closes the connection.
#[derive(Debug)]
pub struct GrpcSender {
    calls: Option<commands::UnboundedSender<(Call, mpsc::Sender<Answer>)>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// An answer that has not been waited for.
#[derive(Debug)]
pub struct Pending(mpsc::Receiver<Answer>);

impl Pending {
    pub fn wait(self) -> Answer {
        self.0.recv_timeout(PATIENCE).expect("a request is answered, whatever the answer")
    }

    /// The answer, if it has come.
    pub fn look(&self) -> Option<Answer> {
        self.0.try_recv().ok()
    }
}

impl GrpcSender {
    pub fn connect(address: SocketAddr) -> GrpcSender {
        GrpcSender::connect_by(address, None)
    }

    /// Over TLS to `localhost`. What goes wrong is the answer of every call.
    pub fn connect_tls(address: SocketAddr, config: Arc<rustls::ClientConfig>) -> GrpcSender {
        GrpcSender::connect_by(address, Some(config))
    }

    fn connect_by(address: SocketAddr, tls: Option<Arc<rustls::ClientConfig>>) -> GrpcSender {
        let (calls, called) = commands::unbounded_channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            tokio::task::LocalSet::new().block_on(&runtime, serve(address, tls, called));
        });
        GrpcSender { calls: Some(calls), thread: Some(thread) }
    }

    /// Sends and waits for the answer.
    pub fn send(&self, message: &[u8]) -> Answer {
        self.begin(Call::plain(message)).wait()
    }

    /// Sends without waiting: as many calls at a time as the test likes.
    pub fn begin(&self, call: Call) -> Pending {
        let (answer, answered) = mpsc::channel();
        let calls = self.calls.as_ref().expect("only dropping takes it");
        calls.send((call, answer)).expect("the sender's thread runs as long as the sender");
        Pending(answered)
    }
}

impl Drop for GrpcSender {
    fn drop(&mut self) {
        drop(self.calls.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

type Called = commands::UnboundedReceiver<(Call, mpsc::Sender<Answer>)>;

async fn serve(address: SocketAddr, tls: Option<Arc<rustls::ClientConfig>>, mut called: Called) {
    let socket = tokio::net::TcpStream::connect(address).await.expect("the receiver listens");
    socket.set_nodelay(true).expect("a socket option");
    let Some(config) = tls else {
        return speak(socket, called).await;
    };
    let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
    match tokio_rustls::TlsConnector::from(config).connect(name, socket).await {
        Ok(session) => speak(session, called).await,
        Err(error) => {
            while let Some((_, answer)) = called.recv().await {
                drop(answer.send(Answer::Broken(error.to_string())));
            }
        }
    }
}

async fn speak<S: AsyncRead + AsyncWrite + Unpin + 'static>(socket: S, mut called: Called) {
    let (sender, connection) = h2::client::handshake(socket).await.expect("the receiver speaks HTTP/2");
    let connection = tokio::task::spawn_local(connection);
    while let Some((call, answer)) = called.recv().await {
        let sender = sender.clone();
        tokio::task::spawn_local(async move {
            let answered = exchange(sender, call).await.unwrap_or_else(|error| Answer::Broken(error.to_string()));
            // A test that does not wait for the answer has dropped the other end.
            drop(answer.send(answered));
        });
    }
    // Calls under way have clones of the sender, and the connection ends with the last of them.
    drop(sender);
    drop(connection.await);
}

async fn exchange(sender: SendRequest<Bytes>, call: Call) -> Result<Answer, h2::Error> {
    let mut sender = sender.ready().await?;
    let uri = format!("http://test{}", call.path);
    let mut request = http::Request::post(uri).header("content-type", "application/grpc").header("te", "trailers");
    if let Some(encoding) = &call.encoding {
        request = request.header("grpc-encoding", encoding);
    }
    for (name, value) in &call.metadata {
        request = request.header(name, value);
    }
    let request = request.body(()).expect("tests ask for sound headers");
    let (response, mut body) = sender.send_request(request, false)?;
    // An error means that the stream has ended already; the response says why.
    drop(body.send_data(call.framed, true));
    let (head, mut body) = response.await?.into_parts();
    let mut message = BytesMut::new();
    while let Some(chunk) = poll_fn(|context| body.poll_data(context)).await {
        let chunk = chunk?;
        message.extend_from_slice(&chunk);
        body.flow_control().release_capacity(chunk.len())?;
    }
    let trailers = poll_fn(|context| body.poll_trailers(context)).await?;
    assert_eq!(head.status, 200, "gRPC errors travel in grpc-status");
    let status = status_of(trailers.as_ref().unwrap_or(&head.headers));
    if status.code != Code::Ok {
        return Ok(Answer::Status(status));
    }
    assert_eq!(&message[..], [0; 5], "an empty ExportTraceServiceResponse");
    Ok(Answer::Taken)
}

fn status_of(headers: &HeaderMap) -> Status {
    let value = |name: &str| headers.get(name).map(http::HeaderValue::as_bytes);
    Status::from_trailers(value("grpc-status"), value("grpc-message"), value("grpc-status-details-bin"))
}
