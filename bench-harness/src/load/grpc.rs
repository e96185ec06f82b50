//! OTLP over gRPC as a client that does nothing but send: one h2 connection, one stream for each request.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use codecs::compression::Compression;
use codecs::otlp::Signal;
use h2::client::SendRequest;
use http::{HeaderMap, HeaderValue, Method, Request};

use super::Outcome;
use super::compressor::encoding_name;

/// A request that is not answered by then counts as lost.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// `UNAVAILABLE`.
const STATUS_UNAVAILABLE: &[u8] = b"14";

/// `RESOURCE_EXHAUSTED`: not now if the answer says when, never otherwise; the load does not retry and calls both refused.
const STATUS_EXHAUSTED: &[u8] = b"8";

/// An open connection.
pub(crate) struct Connection {
    sender: SendRequest<Bytes>,
    request: Request<()>,
}

impl Connection {
    /// Connects and greets. Must run inside a `LocalSet`, where the connection lives on.
    pub(crate) async fn open(address: SocketAddr, signal: Signal, compression: Compression) -> io::Result<Connection> {
        let socket = tokio::net::TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let handshake = h2::client::Builder::new()
            .initial_window_size(1 << 20)
            .initial_connection_window_size(8 << 20)
            .max_concurrent_reset_streams(0)
            .handshake(socket);
        let (sender, connection) = handshake.await.map_err(io::Error::other)?;
        // Its end shows as an error of every request on it.
        tokio::task::spawn_local(async move { drop(connection.await) });
        Ok(Connection { sender, request: export_request(address, signal, compression).map_err(io::Error::other)? })
    }

    /// Sends one length-prefixed message and waits for its status.
    pub(crate) async fn export(&self, message: Bytes) -> Outcome {
        let exchange = exchange(self.sender.clone(), self.request.clone(), message);
        match tokio::time::timeout(ANSWER_TIMEOUT, exchange).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => Outcome::Unknown,
        }
    }
}

async fn exchange(mut sender: SendRequest<Bytes>, request: Request<()>, message: Bytes) -> Result<Outcome, h2::Error> {
    let (response, mut stream) = sender.send_request(request, false)?;
    stream.send_data(message, true)?;
    let response = response.await?;
    if let Some(status) = response.headers().get("grpc-status") {
        return Ok(outcome(status));
    }
    let mut body = response.into_body();
    while let Some(data) = body.data().await {
        body.flow_control().release_capacity(data?.len())?;
    }
    let trailers = body.trailers().await?;
    let status = trailers.as_ref().and_then(|trailers: &HeaderMap| trailers.get("grpc-status"));
    Ok(status.map_or(Outcome::Rejected, outcome))
}

fn outcome(status: &HeaderValue) -> Outcome {
    match status.as_bytes() {
        b"0" => Outcome::Accepted,
        STATUS_UNAVAILABLE | STATUS_EXHAUSTED => Outcome::Refused,
        _ => Outcome::Rejected,
    }
}

fn export_request(address: SocketAddr, signal: Signal, compression: Compression) -> Result<Request<()>, http::Error> {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://{address}{}", signal.grpc_method()))
        .version(http::Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "bench-harness");
    if let Some(encoding) = encoding_name(compression) {
        request = request.header("grpc-encoding", encoding);
    }
    request.body(())
}
