//! One blocking GET at an `http://` or `https://` address: a text of the configuration before anything runs, or a trace for
//! a command.
//!
//! Bounded in time and size; the status must be 200; the system's roots are trusted. It follows no redirect, keeps
//! nothing and never asks again: a change of the text is not seen.

use std::io;
use std::net::ToSocketAddrs;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::checked::TlsClientSettings;
use super::component::endpoint::{self, HttpUrl};
use crate::shard::hyper_io::HyperIo;
use crate::transport::tls::{Alpn, TlsClient};

/// From the first connect to the last byte.
const WAIT_MAX: Duration = Duration::from_secs(15);

/// The body at `url`, at most `bytes_max` long. The error says why not, without naming the address.
pub(crate) fn get(url: &str, bytes_max: usize) -> Result<Vec<u8>, String> {
    get_as(url, "*/*", bytes_max)
}

/// As [`get`], asking for a content type.
pub(crate) fn get_as(url: &str, accept: &'static str, bytes_max: usize) -> Result<Vec<u8>, String> {
    let url = endpoint::http_url(url)?;
    // Looked up here and not by the runtime, which would start a thread for it.
    let addresses = (url.endpoint.host.as_str(), url.endpoint.port).to_socket_addrs();
    let addresses: Vec<_> = addresses.map_err(|error| error.to_string())?.collect();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let exchange = async {
            let stream = TcpStream::connect(addresses.as_slice()).await.map_err(|error| error.to_string())?;
            if !url.tls {
                return exchange(stream, &url, accept, bytes_max).await;
            }
            let tls = TlsClient::new(&TlsClientSettings::default(), &url.endpoint.host, Alpn::Http1)?;
            let stream = tls.handshake(stream).await.map_err(|error| tls_failure(&tls, &error))?;
            exchange(stream, &url, accept, bytes_max).await
        };
        let waited = tokio::time::timeout(WAIT_MAX, exchange).await;
        waited.unwrap_or_else(|_| Err(format!("there was no answer within {} s", WAIT_MAX.as_secs())))
    })
}

fn tls_failure(tls: &TlsClient, error: &io::Error) -> String {
    crate::transport::tls::tls_error(error).map_or_else(|| error.to_string(), |error| tls.explain(error))
}

async fn exchange<S>(stream: S, url: &HttpUrl, accept: &'static str, bytes_max: usize) -> Result<Vec<u8>, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = http1::handshake(HyperIo(stream)).await.map_err(|error| error.to_string())?;
    let path = if url.path.is_empty() { "/" } else { url.path.as_str() };
    let request = Request::get(path)
        .header(header::HOST, host(url))
        .header(header::CONNECTION, "close")
        .header(header::ACCEPT, accept)
        .header(header::USER_AGENT, concat!("tracegate/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        if response.status() != StatusCode::OK {
            return Err(format!("the server answered {}", response.status()));
        }
        let body = Limited::new(response.into_body(), bytes_max).collect().await;
        drop(sender);
        body.map(|body| body.to_bytes().to_vec()).map_err(|error| error.to_string())
    };
    // The connection ends by itself once the answer has been read; how is of no interest then.
    let (_, answer) = future::join(connection, answer).await;
    answer
}

fn host(url: &HttpUrl) -> String {
    let endpoint = &url.endpoint;
    match endpoint.host.contains(':') {
        true => format!("[{}]:{}", endpoint.host, endpoint.port),
        false => format!("{}:{}", endpoint.host, endpoint.port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// A server for one request; returns what it was asked.
    fn answering(answer: String) -> (String, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/gateway.yaml?v=1", listener.local_addr().unwrap());
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            let mut byte = [0];
            while !asked.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                asked.push(byte[0]);
            }
            // The client may hang up at the limit.
            let _ = stream.write_all(answer.as_bytes());
            String::from_utf8(asked).unwrap()
        });
        (url, served)
    }

    #[test]
    fn the_body_of_a_good_answer_is_the_text() {
        let (url, served) = answering("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\na: 1\n".to_owned());
        assert_eq!(get(&url, 100).unwrap(), b"a: 1\n");
        assert!(served.join().unwrap().starts_with("GET /gateway.yaml?v=1 HTTP/1.1\r\n"));
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\na:\r\n2\r\n 1\r\n0\r\n\r\n";
        let (url, _served) = answering(chunked.to_owned());
        assert_eq!(get(&url, 100).unwrap(), b"a: 1");
    }

    #[test]
    fn another_status_a_long_body_and_a_closed_port_are_errors() {
        let (url, _served) = answering("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned());
        assert!(get(&url, 100).unwrap_err().contains("404"));
        let (url, _served) = answering(format!("HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n{}", "x".repeat(101)));
        assert!(get(&url, 100).is_err());
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(get(&format!("http://{free}/"), 100).is_err());
        assert!(get("ftp://127.0.0.1/", 100).is_err());
    }
}
