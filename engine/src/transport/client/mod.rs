//! The client's half of the transport: one backend of one exporter on one shard.
//!
//! A client sends whole, encoded requests and hands back the peer's answer, or what went wrong on the way in words that
//! an operator can act on. Whether that is worth a retry is the exporter's to say.

mod balance;
#[cfg(test)]
mod balance_tests;
mod dial;
pub mod grpc;
pub mod http1;
mod peer_stream;
mod proxy;
mod way;

#[cfg(test)]
pub(crate) mod test_peers;

use crate::config::checked::{Endpoint, NameSettings, ProxySettings};
use crate::transport::tls::TlsClient;
use std::time::Duration;

/// Bytes of an answer that are looked at; the rest is read and forgotten.
pub const ANSWER_BYTES_MAX: usize = 64 << 10;

/// What a client needs to know of its backend.
#[derive(Clone, Debug)]
pub struct PeerSettings {
    /// Who is sending, as errors name it: `exporter otlp/primary`.
    pub sender: String,
    /// Where to.
    pub endpoint: Endpoint,
    /// `None`: plain text.
    pub tls: Option<TlsClient>,
    /// `:authority` of gRPC requests, if it is not the endpoint's host and port.
    pub authority: Option<String>,
    /// Sent with each request.
    pub headers: Vec<(String, String)>,
    /// The way there, if it leads through a proxy.
    pub proxy: Option<ProxySettings>,
    /// For one attempt, the connection it may need included; `None`: as long as it takes.
    pub timeout: Option<Duration>,
    /// Which of several addresses comes first: the shard's number, so that shards spread over a name's addresses.
    pub first_address: usize,
    /// What to make of a name with several addresses.
    pub names: NameSettings,
}

/// An attempt that got no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientError {
    /// In one word, for a label.
    pub problem: Problem,
    /// Who, where, what to do.
    pub message: String,
}

impl std::fmt::Display for ClientError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// Why an attempt got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Problem {
    /// The name has no address.
    Resolve,
    /// Nobody took the connection.
    Connect,
    /// The proxy on the way refused.
    Proxy,
    /// No TLS session, or one side speaks TLS and the other does not.
    Tls,
    /// No answer in time.
    Timeout,
    /// The connection ended before the answer.
    ConnectionLost,
    /// The peer speaks another protocol.
    Protocol,
    /// The client was closed.
    Closed,
}

/// `Tracegate/<version> (linux/<arch>)`, with the architecture as Go spells it, like the Collector's.
pub fn user_agent() -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("Tracegate/{} ({}/{architecture})", env!("CARGO_PKG_VERSION"), std::env::consts::OS)
}

/// `host:port`, with brackets around an IPv6 address.
pub fn host_and_port(endpoint: &Endpoint) -> String {
    if endpoint.host.contains(':') {
        format!("[{}]:{}", endpoint.host, endpoint.port)
    } else {
        format!("{}:{}", endpoint.host, endpoint.port)
    }
}

/// Headers of the settings as HTTP wants them. The error names the header.
fn extra_headers(headers: &[(String, String)]) -> Result<http::HeaderMap, String> {
    let mut map = http::HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let checked = http::HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| format!("headers: {name:?} is not a header name"))?;
        let value = http::HeaderValue::from_str(value)
            .map_err(|_| format!("headers.{name}: holds a character that a header cannot carry"))?;
        if !OWN_HEADERS.contains(&checked.as_str()) && !checked.as_str().starts_with("grpc-") {
            map.append(checked, value);
        }
    }
    Ok(map)
}

/// Headers that belong to the protocol: the Collector's clients ignore them in `headers` as well.
pub const OWN_HEADERS: [&str; 7] =
    ["connection", "content-encoding", "content-length", "content-type", "host", "te", "transfer-encoding"];
