//! The way through a proxy: a tunnel by `CONNECT` for what it must not see, whole requests for what it may.
//!
//! Pure, but for the two bytes streams: never decides whether there is a proxy.

use super::user_agent;
use crate::config::checked::ProxySettings;
use http::{HeaderName, HeaderValue, Uri, header};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Largest answer to a `CONNECT`, its head alone.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Text of an answer that is quoted in an error.
const QUOTE_CHARS_MAX: usize = 100;

/// Why there is no tunnel.
#[derive(Debug)]
pub(super) enum NoTunnel {
    /// The proxy left, or the network failed.
    Lost(io::Error),
    /// The proxy's status line, as far as it is one.
    Refused(String),
}

/// Asks the proxy behind `stream` for a tunnel to `target` (`host:port`). Afterwards the stream is the target's.
pub(super) async fn tunnel<S>(stream: &mut S, target: &str, proxy: &ProxySettings) -> Result<(), NoTunnel>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: {}\r\n", user_agent());
    if let Some(secret) = &proxy.authorization {
        request.push_str(&format!("Proxy-Authorization: {}\r\n", secret.reveal()));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await.map_err(NoTunnel::Lost)?;
    stream.flush().await.map_err(NoTunnel::Lost)?;
    let mut head = Vec::new();
    // Byte by byte: what follows the head is the target's, who may speak first.
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == HEAD_BYTES_MAX {
            return Err(NoTunnel::Refused("an endless answer".to_owned()));
        }
        head.push(stream.read_u8().await.map_err(NoTunnel::Lost)?);
    }
    let line = String::from_utf8_lossy(head.split(|&byte| byte == b'\r').next().unwrap_or_default()).into_owned();
    let mut words = line.split(' ');
    let is_http1 = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
    let status = words.next().unwrap_or_default();
    if is_http1 && status.len() == 3 && status.starts_with('2') {
        return Ok(());
    }
    let quote = line.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    Err(NoTunnel::Refused(quote.take(QUOTE_CHARS_MAX).collect()))
}

/// The whole URL of a request in plain text, as a proxy wants it. `host` is `host:port`.
pub(super) fn absolute(path: &Uri, host: &str) -> Result<Uri, String> {
    let path = path.path_and_query().map_or("/", |path| path.as_str());
    let built = Uri::builder().scheme("http").authority(host).path_and_query(path).build();
    built.map_err(|error| format!("endpoint: {host:?} is no host and port: {error}"))
}

/// What tells the proxy who asks.
pub(super) fn authorization(proxy: &ProxySettings) -> Option<(HeaderName, HeaderValue)> {
    let mut value = HeaderValue::from_str(proxy.authorization.as_ref()?.reveal()).expect("base64 is ASCII");
    value.set_sensitive(true);
    Some((header::PROXY_AUTHORIZATION, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::checked::{Endpoint, Secret};
    use crate::shard::runtime::{Runtime, run};

    fn check(answer: &'static str, expected: Result<&'static str, &'static str>) {
        run(Runtime::Epoll, None, async move {
            let (mut near, mut far) = tokio::io::duplex(64 << 10);
            let endpoint = Endpoint { host: "proxy".to_owned(), port: 3128 };
            let proxy = ProxySettings { endpoint, authorization: Some(Secret::new("Basic eA==")) };
            far.write_all(answer.as_bytes()).await.unwrap();
            far.shutdown().await.unwrap();
            let done = tunnel(&mut near, "tempo:4317", &proxy).await;
            let mut asked = vec![0; 256];
            let count = far.read(&mut asked).await.unwrap();
            let asked = String::from_utf8_lossy(&asked[..count]).into_owned();
            assert!(asked.starts_with("CONNECT tempo:4317 HTTP/1.1\r\nHost: tempo:4317\r\n"), "{asked}");
            assert!(asked.ends_with("\r\nProxy-Authorization: Basic eA==\r\n\r\n"), "{asked}");
            match (done, expected) {
                (Ok(()), Ok(rest)) => {
                    let mut found = String::new();
                    near.read_to_string(&mut found).await.unwrap();
                    assert_eq!(found, rest);
                }
                (Err(NoTunnel::Refused(line)), Err(expected)) => assert_eq!(line, expected),
                (Err(NoTunnel::Lost(_)), Err("lost")) => {}
                (other, _) => panic!("{answer:?}: {other:?}"),
            }
        })
        .unwrap();
    }

    #[test]
    fn a_tunnel_opens_with_any_2xx_and_leaves_the_targets_bytes_alone() {
        check("HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\nhello", Ok("hello"));
        check("HTTP/1.0 204 No\r\n\r\n", Ok(""));
    }

    #[test]
    fn a_refusal_is_quoted_and_an_end_is_no_tunnel() {
        check("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", Err("HTTP/1.1 407 Proxy Authentication Required"));
        check("SSH-2.0-x\r\n\r\n", Err("SSH-2.0-x"));
        check("HTTP/1.1 20 \u{1}\r\n\r\n", Err("HTTP/1.1 20  "));
        check("HTTP/1.1 200 OK\r\n", Err("lost"));
        check("", Err("lost"));
    }

    #[test]
    fn a_proxy_is_told_the_whole_url() {
        let uri = absolute(&Uri::from_static("/v1/traces?x=1"), "tempo:4318").unwrap();
        assert_eq!(uri.to_string(), "http://tempo:4318/v1/traces?x=1");
    }
}
