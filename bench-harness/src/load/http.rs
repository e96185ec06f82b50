//! OTLP over HTTP/1.1: one request at a time on each connection, in the order they are due.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use codecs::compression::Compression;
use codecs::otlp::Signal;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use tokio::sync::Mutex;

use super::Outcome;
use super::compressor::encoding_name;
use crate::io::HyperStream;
use crate::traces::FRAME_PREFIX;

/// A request that is not answered by then counts as lost. It includes the wait for its turn.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// An open connection.
pub(crate) struct Connection {
    /// Held while a request is under way; waiters get it in the order they asked.
    sender: Mutex<SendRequest<Full<Bytes>>>,
    address: SocketAddr,
    signal: Signal,
    compression: Compression,
}

impl Connection {
    /// Connects. Must run inside a `LocalSet`, where the connection lives on.
    pub(crate) async fn open(address: SocketAddr, signal: Signal, compression: Compression) -> io::Result<Connection> {
        let socket = tokio::net::TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let handshake = hyper::client::conn::http1::handshake(HyperStream(socket));
        let (sender, connection) = handshake.await.map_err(io::Error::other)?;
        // Its end shows as an error of every request on it.
        tokio::task::spawn_local(async move { drop(connection.await) });
        Ok(Connection { sender: Mutex::new(sender), address, signal, compression })
    }

    /// Posts one message, given with the prefix that gRPC would need, and waits for the answer.
    pub(crate) async fn export(&self, message: Bytes) -> Outcome {
        match tokio::time::timeout(ANSWER_TIMEOUT, self.exchange(message)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => Outcome::Unknown,
        }
    }

    async fn exchange(&self, message: Bytes) -> io::Result<Outcome> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.signal.http_path())
            .header("host", self.address.to_string())
            .header("content-type", "application/x-protobuf")
            .header("user-agent", "bench-harness");
        if let Some(encoding) = encoding_name(self.compression) {
            request = request.header("content-encoding", encoding);
        }
        let body = Full::new(message.slice(FRAME_PREFIX..));
        let request = request.body(body).map_err(io::Error::other)?;
        let mut sender = self.sender.lock().await;
        sender.ready().await.map_err(io::Error::other)?;
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = response.status();
        response.into_body().collect().await.map_err(io::Error::other)?;
        Ok(match status {
            StatusCode::OK => Outcome::Accepted,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => Outcome::Refused,
            _ => Outcome::Rejected,
        })
    }
}
