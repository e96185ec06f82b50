//! HTTP/1.1 by hand: a sender that can say anything, and a look at a page.

use super::{Answer, PATIENCE};
use codecs::grpc::Status;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

/// An answer as it came.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    /// Names in small letters.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Response {
    /// Whether its body says to be JSON.
    pub fn is_json(&self) -> bool {
        self.headers.get("content-type").is_some_and(|kind| kind == "application/json")
    }

    /// What it says of a trace request: the status is read from the body, as an exporter does.
    pub fn answer(&self) -> Answer {
        if self.status == 200 {
            return Answer::Taken;
        }
        let status = if self.is_json() { Status::decode_json(&self.body) } else { Status::decode(&self.body) };
        match status {
            Some(status) => Answer::Status(status),
            None => Answer::Broken(format!("HTTP {} without a status", self.status)),
        }
    }
}

/// One connection to an OTLP/HTTP receiver.
pub struct HttpSender {
    stream: BufReader<Box<dyn Connection>>,
}

/// A socket, or a session over one.
trait Connection: Read + Write {}
impl<T: Read + Write> Connection for T {}

impl HttpSender {
    pub fn connect(address: SocketAddr) -> HttpSender {
        let stream = TcpStream::connect(address).expect("the receiver listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        stream.set_nodelay(true).expect("a socket option");
        HttpSender { stream: BufReader::new(Box::new(stream)) }
    }

    /// Over TLS to `localhost`; the error of the handshake if there is one.
    pub fn connect_tls(address: SocketAddr, config: Arc<rustls::ClientConfig>) -> Result<HttpSender, String> {
        let mut stream = TcpStream::connect(address).expect("the receiver listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
        let mut session = rustls::ClientConnection::new(config, name).expect("a session");
        while session.is_handshaking() {
            session.complete_io(&mut stream).map_err(|error| error.to_string())?;
        }
        let stream = rustls::StreamOwned::new(session, stream);
        Ok(HttpSender { stream: BufReader::new(Box::new(stream)) })
    }

    /// A request as an exporter sends it.
    pub fn send(&mut self, body: &[u8]) -> Response {
        self.send_encoded(body, None)
    }

    pub fn send_encoded(&mut self, body: &[u8], encoding: Option<&str>) -> Response {
        self.send_typed(body, "application/x-protobuf", encoding)
    }

    pub fn send_typed(&mut self, body: &[u8], content_type: &str, encoding: Option<&str>) -> Response {
        let mut headers = vec![("content-type", content_type)];
        headers.extend(encoding.map(|encoding| ("content-encoding", encoding)));
        self.request("POST", "/v1/traces", &headers, body)
    }

    pub fn request(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let socket = self.stream.get_mut();
        socket.write_all(head.as_bytes()).expect("the connection is open");
        socket.write_all(body).expect("the connection is open");
        socket.flush().expect("the connection is open");
        self.read_response()
    }

    fn read_response(&mut self) -> Response {
        let status_line = self.line();
        let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {status_line:?}"));
        let mut headers = BTreeMap::new();
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").map_or(0, |length| length.parse().expect("a number"));
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("the whole answer");
        Response { status, headers, body }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("an answer");
        line.trim_end().to_owned()
    }
}

/// The body of a page that must be there.
pub fn page(address: SocketAddr, path: &str) -> String {
    let mut connection = HttpSender::connect(address);
    let response = connection.request("GET", path, &[], b"");
    assert_eq!(response.status, 200, "{path}");
    String::from_utf8(response.body).expect("pages are text")
}
