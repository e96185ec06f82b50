//! Backends for tests: they listen on loopback, play a list of replies, and remember what they were asked.

use crate::config::checked::PemSource;
use crate::config::checked::{
    ComponentId, Endpoint, NameSettings, OtlpExporterSettings, QueueSettings, TlsClientSettings,
};
use crate::shard::runtime::{Runtime, Stream, probe_io_uring, run, spawn};
use bytes::Bytes;
use codecs::compression::Compression;
use codecs::grpc::{Code, Status};
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Runs a test on both runtimes; io_uring is left out, and said so, where the kernel forbids it.
pub(crate) fn on_both(test: impl AsyncFn() + Clone + 'static) {
    for runtime in [Runtime::Epoll, Runtime::IoUring] {
        if runtime == Runtime::IoUring
            && let Err(why) = probe_io_uring()
        {
            eprintln!("skipped on io_uring: {why}");
            continue;
        }
        let test = test.clone();
        run(runtime, None, async move { test().await }).expect("the runtime starts");
    }
}

/// A listening socket on loopback.
pub(crate) struct Listener(std::net::TcpListener);

impl Listener {
    pub(crate) fn bind() -> Listener {
        Listener(std::net::TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub(crate) fn of(listener: std::net::TcpListener) -> Listener {
        Listener(listener)
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    /// The next connection; a thread waits for it, so that the shard does not.
    pub(crate) async fn accept(&self) -> Stream {
        let (accepted, stream) = tokio::sync::oneshot::channel();
        let listener = self.0.try_clone().unwrap();
        std::thread::spawn(move || drop(accepted.send(listener.accept().unwrap().0)));
        Stream::from_std(stream.await.unwrap()).unwrap()
    }
}

/// What a gRPC peer does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Status 0 and this response message.
    Ok(Vec<u8>),
    /// A message, then this status in trailers.
    Trailers(Status),
    /// This status in the only header block.
    TrailersOnly(Status),
    /// An answer that is no gRPC.
    Http(u16, &'static str),
    /// RST_STREAM.
    Reset(h2::Reason),
    /// No answer, ever.
    Hang,
    /// The connection ends before the body is read.
    Drop,
    /// Answers well, then leaves with a graceful GOAWAY.
    OkThenGoAway,
}

/// One request as a peer saw it.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) head: http::request::Parts,
    pub(crate) body: Vec<u8>,
}

/// The replies still to play, and what was asked so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    replies: Rc<RefCell<VecDeque<Reply>>>,
    pub(crate) asked: Rc<RefCell<Vec<Asked>>>,
}

impl Script {
    pub(crate) fn new(replies: impl IntoIterator<Item = Reply>) -> Script {
        Script { replies: Rc::new(RefCell::new(replies.into_iter().collect())), asked: Rc::default() }
    }

    /// Plays on one connection until it ends.
    pub(crate) async fn play<S>(&self, socket: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let Ok(mut connection) = h2::server::handshake(socket).await else { return };
        while let Some(Ok((request, respond))) = connection.accept().await {
            let reply = self.replies.borrow_mut().pop_front().expect("the script has a reply for every request");
            match reply {
                Reply::Drop => return,
                Reply::OkThenGoAway => connection.graceful_shutdown(),
                _ => {}
            }
            let asked = Rc::clone(&self.asked);
            spawn(async move {
                if let Some(got) = read(request).await {
                    asked.borrow_mut().push(got);
                    answer(respond, reply).await;
                }
            });
        }
    }
}

async fn read(request: Request<h2::RecvStream>) -> Option<Asked> {
    let (head, mut stream) = request.into_parts();
    let mut body = Vec::new();
    while let Some(chunk) = poll_fn(|context| stream.poll_data(context)).await {
        let chunk = chunk.ok()?;
        body.extend_from_slice(&chunk);
        stream.flow_control().release_capacity(chunk.len()).unwrap();
    }
    Some(Asked { head, body })
}

async fn answer(mut respond: SendResponse<Bytes>, reply: Reply) {
    let grpc = || Response::builder().header("content-type", "application/grpc");
    match reply {
        Reply::Ok(message) => send(&mut respond, grpc().body(()).unwrap(), message, &Status::new(Code::Ok, "")),
        Reply::OkThenGoAway => send(&mut respond, grpc().body(()).unwrap(), vec![], &Status::new(Code::Ok, "")),
        Reply::Trailers(status) => send(&mut respond, grpc().body(()).unwrap(), vec![], &status),
        Reply::TrailersOnly(status) => {
            let mut response = grpc().body(()).unwrap();
            *response.headers_mut() = status_headers(&status);
            respond.send_response(response, true).unwrap();
        }
        Reply::Http(status, text) => {
            let response = Response::builder().status(status).header("content-type", "text/html").body(()).unwrap();
            let mut stream = respond.send_response(response, false).unwrap();
            stream.send_data(Bytes::from_static(text.as_bytes()), true).unwrap();
        }
        Reply::Reset(reason) => respond.send_reset(reason),
        Reply::Hang => {
            // Holding the stream keeps it open; it ends with the runtime.
            poll_fn(|context| respond.poll_reset(context)).await.ok();
        }
        Reply::Drop => unreachable!("handled before the body"),
    }
}

fn send(respond: &mut SendResponse<Bytes>, response: Response<()>, message: Vec<u8>, status: &Status) {
    let mut stream = respond.send_response(response, false).unwrap();
    stream.send_data(framed(&message), false).unwrap();
    stream.send_trailers(status_headers(status)).unwrap();
}

fn status_headers(status: &Status) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("grpc-status", HeaderValue::from(status.code.number()));
    headers.insert("grpc-message", HeaderValue::from_str(&status.percent_encoded_message()).unwrap());
    if status.retry_delay.is_some() {
        headers.insert("grpc-status-details-bin", HeaderValue::from_str(&status.details_header()).unwrap());
    }
    headers
}

/// gRPC's prefix and the message.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap();
    [&[0][..], &length.to_be_bytes(), message].concat().into()
}

/// Reads one HTTP/1.1 request with a `Content-Length`: its head, in lower case, and its body.
pub(crate) async fn read_http1(socket: &mut (impl AsyncRead + Unpin)) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    socket.read_exact(&mut body).await.unwrap();
    (head, body)
}

/// Answers with these bytes.
pub(crate) async fn write_http1(socket: &mut (impl AsyncWrite + Unpin), answer: &str) {
    socket.write_all(answer.as_bytes()).await.unwrap();
    socket.flush().await.unwrap();
}

/// A self-signed certificate for `localhost`, its own authority, with the server that shows it.
pub(crate) struct Certificate {
    pub(crate) pem: String,
    server: tokio_rustls::TlsAcceptor,
}

impl Certificate {
    /// `client_ca`: client certificates are required.
    pub(crate) fn new(alpn: &[u8], client_ca: Option<&Certificate>) -> Certificate {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match client_ca {
            None => builder.with_no_client_auth(),
            Some(certificate) => {
                use rustls_pki_types::pem::PemObject;
                let mut roots = rustls::RootCertStore::empty();
                let pem = certificate.pem.as_bytes();
                roots.add(rustls_pki_types::CertificateDer::from_pem_slice(pem).unwrap()).unwrap();
                let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = made.signing_key.serialize_der().try_into().unwrap();
        let mut config = builder.with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        config.alpn_protocols = vec![alpn.to_vec()];
        Certificate { pem: made.cert.pem(), server: Arc::new(config).into() }
    }

    /// The server's side of a session; `None` when the client did not want it.
    pub(crate) async fn accept(&self, stream: Stream) -> Option<tokio_rustls::server::TlsStream<Stream>> {
        match self.server.accept(stream).into_fallible().await {
            Ok(session) => Some(session),
            Err((_, mut stream)) => {
                // Closing with bytes unread would reset the connection, and the alert with it.
                stream.read_to_end(&mut Vec::new()).await.ok();
                None
            }
        }
    }

    /// Settings of a client that trusts this certificate.
    pub(crate) fn trusted(&self) -> TlsClientSettings {
        TlsClientSettings { ca: Some(PemSource::Inline(self.pem.clone())), ..tls_settings() }
    }
}

/// The system's roots, nothing else.
pub(crate) fn tls_settings() -> TlsClientSettings {
    TlsClientSettings::default()
}

/// Settings of a plain exporter towards `localhost` without a timeout.
pub(crate) fn exporter_settings(port: u16) -> OtlpExporterSettings {
    OtlpExporterSettings {
        endpoint: Endpoint { host: "127.0.0.1".to_owned(), port },
        path: "/v1/traces".to_owned(),
        tls: None,
        compression: Compression::None,
        compression_level: None,
        format: codecs::otlp::Format::Protobuf,
        headers: Vec::new(),
        authenticator: None,
        proxy: None,
        names: NameSettings::default(),
        timeout_ns: 0,
        retry: None,
        queue: QueueSettings { enabled: false, num_consumers: 1, queue_size: 1, ..QueueSettings::default() },
    }
}

/// The id errors name.
pub(crate) fn id(kind: &str) -> ComponentId {
    ComponentId { kind: kind.to_owned(), name: Some("primary".to_owned()) }
}
