//! Addresses, as written in the file, to host and port.
//!
//! Nothing is resolved here: names are looked up at start, where waiting is allowed.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::config::checked::Endpoint;
use crate::config::section::Field;

/// Reads `host:port`, `[v6]:port` or `:port` to listen on. An empty host is every interface (IPv4).
pub(crate) fn listen(field: &Field<'_>) -> Option<Endpoint> {
    let text = field.text()?;
    if text.contains("://") {
        field.expected("an address without a scheme", "write `host:port`, as in `0.0.0.0:4317`");
        return None;
    }
    match host_and_port(&text) {
        Ok(endpoint) if endpoint.host.is_empty() => Some(Endpoint { host: "0.0.0.0".to_owned(), ..endpoint }),
        Ok(endpoint) => Some(endpoint),
        Err(problem) => {
            field.expected(
                &format!("`host:port` ({problem})"),
                "write an address such as `0.0.0.0:4317`, `localhost:4317` or `[::]:4317`",
            );
            None
        }
    }
}

/// Reads an address that is served by the control thread: a numeric one, or `localhost`.
pub(crate) fn listen_numeric(field: &Field<'_>) -> Option<SocketAddr> {
    let endpoint = listen(field)?;
    let address = numeric(&endpoint);
    if address.is_none() {
        field.expected("a numeric address", "write an address such as `127.0.0.1:8888` or `0.0.0.0:8888`");
    }
    address
}

/// The address, if nothing has to be looked up for it.
pub(crate) fn numeric(endpoint: &Endpoint) -> Option<SocketAddr> {
    let host = match endpoint.host.as_str() {
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        host => host.parse().ok()?,
    };
    Some(SocketAddr::new(host, endpoint.port))
}

/// Splits `host:port`; brackets around an IPv6 address are dropped.
pub(crate) fn host_and_port(text: &str) -> Result<Endpoint, &'static str> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once("]:").ok_or("the port is missing")?;
            if host.parse::<std::net::Ipv6Addr>().is_err() && !host.contains('%') {
                return Err("brackets hold an IPv6 address");
            }
            (host, port)
        }
        None => text.rsplit_once(':').ok_or("the port is missing")?,
    };
    if !text.starts_with('[') && host.contains(':') {
        return Err("an IPv6 address needs brackets");
    }
    if host.contains(['/', '?', '#', '@', ' ']) || host.chars().any(char::is_control) {
        return Err("the host has a character that no host has");
    }
    // `parse` would take a plus sign.
    if !port.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err("the port is no number");
    }
    let port = port.parse().map_err(|_| "the port is no number up to 65535")?;
    Ok(Endpoint { host: host.to_owned(), port })
}

/// A URL's parts, as far as exporters need them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpUrl {
    /// `https`.
    pub(crate) tls: bool,
    pub(crate) endpoint: Endpoint,
    /// Path and query, without a fragment; empty or starting with `/`.
    pub(crate) path: String,
}

/// Reads an absolute `http://` or `https://` URL.
pub(crate) fn http_url(text: &str) -> Result<HttpUrl, &'static str> {
    let (scheme, rest) = text.split_once("://").ok_or("the scheme `http://` or `https://` is missing")?;
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        _ => return Err("the scheme is neither `http` nor `https`"),
    };
    let rest = rest.split('#').next().unwrap_or("");
    let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(authority_end);
    if authority.contains('@') {
        return Err("a user and password in a URL are not sent: use `headers`");
    }
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
    let endpoint = if has_port {
        host_and_port(authority)?
    } else {
        host_and_port(&format!("{authority}:{}", if tls { 443 } else { 80 }))?
    };
    if endpoint.host.is_empty() {
        return Err("the host is missing");
    }
    let path = match path.strip_prefix('?') {
        Some(_) => format!("/{path}"),
        None => path.to_owned(),
    };
    if path.chars().any(|character| character.is_control() || character == ' ') {
        return Err("the path has a space or control character");
    }
    Ok(HttpUrl { tls, endpoint, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(host: &str, port: u16) -> Endpoint {
        Endpoint { host: host.into(), port }
    }

    #[test]
    fn addresses_are_split_into_host_and_port() {
        let table = [
            ("0.0.0.0:4317", "0.0.0.0", 4317),
            ("localhost:0", "localhost", 0),
            (":4317", "", 4317),
            ("[::1]:4317", "::1", 4317),
            ("otel-gateway.observability:4317", "otel-gateway.observability", 4317),
        ];
        for (text, host, port) in table {
            assert_eq!(host_and_port(text), Ok(endpoint(host, port)), "{text}");
        }
        let wrong =
            ["", "tempo", "::1:4317", "tempo:+1", "tempo:65536", "[::1]", "[x]:1", "a b:1", "http://x:1", "u@h:1"];
        for text in wrong {
            assert!(host_and_port(text).is_err(), "{text}");
        }
    }

    #[test]
    fn urls_give_scheme_host_port_and_path() {
        let table = [
            ("http://tempo:4318", false, "tempo", 4318, ""),
            ("https://tempo", true, "tempo", 443, ""),
            ("HTTP://tempo/", false, "tempo", 80, "/"),
            ("https://[::1]/otlp?x=1#f", true, "::1", 443, "/otlp?x=1"),
            ("http://[::1]:99/a/b", false, "::1", 99, "/a/b"),
            ("http://tempo?x=1", false, "tempo", 80, "/?x=1"),
        ];
        for (text, tls, host, port, path) in table {
            let expected = HttpUrl { tls, endpoint: endpoint(host, port), path: path.into() };
            assert_eq!(http_url(text), Ok(expected), "{text}");
        }
        let wrong =
            ["tempo:4318", "ftp://tempo", "http://", "http://:80", "http://u:p@h", "http://h:x", "http://h/a b"];
        for text in wrong {
            assert!(http_url(text).is_err(), "{text}");
        }
    }
}
