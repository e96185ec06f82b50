//! Which proxy an exporter's requests take: `proxy_url`, else the environment by the rules of Go's HTTP client.
//!
//! `HTTPS_PROXY` is for `https://` endpoints and for gRPC (whatever its encryption), `HTTP_PROXY` for `http://`;
//! `NO_PROXY` and everything local go straight. Small letters work too. Nothing is resolved here.

use super::authenticator::Secret;
use super::checked::{Config, Endpoint, ExporterKind};
use super::component::endpoint;
use super::conflicts;
use super::diagnostic::{Place, Report};
use super::section::Field;
use super::yaml::Node;
use crate::auth;
use std::net::IpAddr;

/// A proxy that takes plain HTTP: requests for `http://` go to it whole, everything else through `CONNECT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxySettings {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// `Proxy-Authorization`, from user and password in the URL.
    pub authorization: Option<Secret>,
}

const HELP: &str = "write `http://host:port`; `http://user:password@host:port` where the proxy wants to know";

/// Reads `proxy_url`.
pub(crate) fn proxy_url(field: &Field<'_>) -> Option<ProxySettings> {
    let text = field.text().filter(|text| !text.is_empty())?;
    match proxy(&text) {
        Ok(proxy) => Some(proxy),
        Err(Wrong::NotBuilt(scheme)) => {
            field.lacking(format!("not built yet: proxies that take {scheme}"), HELP);
            None
        }
        Err(Wrong::Url(problem)) => {
            // Not what was found: a URL may hold a password.
            field.error(format!("expected the URL of a proxy ({problem})"), HELP);
            None
        }
    }
}

/// Sets the proxy of every exporter that names none.
pub(crate) fn from_environment(
    config: &mut Config,
    environment: &dyn Fn(&str) -> Option<String>,
    tree: &Node,
    report: &Report,
) {
    let any = |names: [&'static str; 2]| {
        let set = |name: &'static str| environment(name).filter(|text| !text.is_empty()).map(|text| (name, text));
        names.into_iter().find_map(set)
    };
    let http = any(["HTTP_PROXY", "http_proxy"]);
    let https = any(["HTTPS_PROXY", "https_proxy"]);
    if http.is_none() && https.is_none() {
        return;
    }
    let exceptions = Exceptions::read(&any(["NO_PROXY", "no_proxy"]).unwrap_or_default().1);
    for exporter in &mut config.exporters {
        let (otlp, variable) = match &mut exporter.kind {
            ExporterKind::OtlpGrpc(otlp) => (otlp, &https),
            ExporterKind::OtlpHttp(otlp) if otlp.tls.is_some() => (otlp, &https),
            ExporterKind::OtlpHttp(otlp) => (otlp, &http),
            ExporterKind::RemoteWrite(settings) => {
                let variable = if settings.http.tls.is_some() { &https } else { &http };
                (&mut settings.http, variable)
            }
            _ => continue,
        };
        let Some((name, text)) = variable else { continue };
        if otlp.proxy.is_some() || !exceptions.wants_proxy(&otlp.endpoint) {
            continue;
        }
        let keys = ["exporters".to_owned(), exporter.id.to_string()];
        match proxy(text) {
            Ok(proxy) => otlp.proxy = Some(proxy),
            Err(wrong) => complain(name, &wrong, conflicts::place(tree, &keys), &keys.join("."), report),
        }
    }
}

fn complain(name: &str, wrong: &Wrong, place: &Place, path: &str, report: &Report) {
    match wrong {
        // Going straight where a proxy is prescribed would not be what was asked for.
        Wrong::NotBuilt(scheme) => report.error(
            place,
            path,
            format!("{name} names a proxy that takes {scheme}, which is not built yet"),
            "name a proxy with `http://`, or list the backend's host in NO_PROXY",
        ),
        // As Go's client does.
        Wrong::Url(problem) => {
            report.warning(place, path, format!("{name} is ignored: it is no URL of a proxy ({problem})"), HELP);
        }
    }
}

enum Wrong {
    /// A scheme that we do not speak to proxies.
    NotBuilt(&'static str),
    Url(&'static str),
}

/// Reads the URL of a proxy; without a scheme it is `http://`.
fn proxy(text: &str) -> Result<ProxySettings, Wrong> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    match scheme.to_ascii_lowercase().as_str() {
        "http" => {}
        "https" => return Err(Wrong::NotBuilt("HTTPS")),
        "socks5" | "socks5h" => return Err(Wrong::NotBuilt("SOCKS5")),
        _ => return Err(Wrong::Url("the scheme is not `http`")),
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    let url = endpoint::http_url(&format!("http://{host}")).map_err(Wrong::Url)?;
    let authorization = user.map(|user| {
        let (name, password) = user.split_once(':').unwrap_or((user, ""));
        let decoded = |text: &str| auth::percent_decoded(text, false);
        Secret::new(auth::basic::credentials(&decoded(name), &decoded(password)))
    });
    Ok(ProxySettings { endpoint: url.endpoint, authorization })
}

/// `NO_PROXY`: what goes straight.
#[derive(Debug, Default)]
struct Exceptions {
    everything: bool,
    entries: Vec<Exception>,
}

#[derive(Debug)]
enum Exception {
    /// `10.0.0.0/8`.
    Network { address: IpAddr, bits: u8 },
    /// `10.0.0.1` or `10.0.0.1:4318`.
    Address { address: IpAddr, port: Option<String> },
    /// `example.com`, with its subdomains; only these if it is written with a dot in front.
    Domain { suffix: String, itself: bool, port: Option<String> },
}

impl Exceptions {
    fn read(text: &str) -> Exceptions {
        let mut exceptions = Exceptions::default();
        for entry in text.split(',') {
            let entry = entry.trim().to_ascii_lowercase();
            match entry.as_str() {
                "" => {}
                "*" => exceptions.everything = true,
                entry => exceptions.entries.extend(Exception::read(entry)),
            }
        }
        exceptions
    }

    fn wants_proxy(&self, endpoint: &Endpoint) -> bool {
        let host = endpoint.host.to_ascii_lowercase();
        let address: Option<IpAddr> = host.parse().ok();
        let is_local = host == "localhost" || address.is_some_and(|address| address.is_loopback());
        let port = endpoint.port.to_string();
        !is_local && !self.everything && !self.entries.iter().any(|entry| entry.matches(&host, address, &port))
    }
}

impl Exception {
    /// `None` for what says nothing.
    fn read(entry: &str) -> Option<Exception> {
        if let Some((address, bits)) = entry.split_once('/')
            && let (Ok(address), Ok(bits)) = (address.parse::<IpAddr>(), bits.parse::<u8>())
            && bits <= if address.is_ipv4() { 32 } else { 128 }
        {
            return Some(Exception::Network { address, bits });
        }
        let (host, port) = match endpoint::host_and_port(entry) {
            Ok(endpoint) => (endpoint.host, Some(endpoint.port.to_string())),
            Err(_) => (entry.to_owned(), None),
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse() {
            return Some(Exception::Address { address, port });
        }
        let host = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(&host);
        if host.is_empty() {
            return None;
        }
        let itself = !host.starts_with('.');
        let suffix = if itself { format!(".{host}") } else { host.to_owned() };
        Some(Exception::Domain { suffix, itself, port })
    }

    fn matches(&self, host: &str, address: Option<IpAddr>, port: &str) -> bool {
        let same_port = |wanted: &Option<String>| wanted.as_deref().is_none_or(|wanted| wanted == port);
        match self {
            Exception::Network { address: network, bits } => {
                address.is_some_and(|address| is_within(address, *network, *bits))
            }
            Exception::Address { address: wanted, port } => address == Some(*wanted) && same_port(port),
            Exception::Domain { suffix, itself, port } => {
                (host.ends_with(suffix.as_str()) || (*itself && host == &suffix[1..])) && same_port(port)
            }
        }
    }
}

fn is_within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let prefix = |octets: &[u8]| {
        let whole = octets.iter().fold(0_u128, |bits, &octet| bits << 8 | u128::from(octet));
        whole.checked_shr(octets.len() as u32 * 8 - u32::from(bits)).unwrap_or(0)
    };
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => prefix(&address.octets()) == prefix(&network.octets()),
        (IpAddr::V6(address), IpAddr::V6(network)) => prefix(&address.octets()) == prefix(&network.octets()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(no_proxy: &str, host: &str, port: u16) -> bool {
        Exceptions::read(no_proxy).wants_proxy(&Endpoint { host: host.to_owned(), port })
    }

    #[test]
    fn no_proxy_follows_gos_rules() {
        let straight = [
            ("", "localhost"),
            ("", "127.0.0.1"),
            ("", "127.9.9.9"),
            ("", "::1"),
            ("*", "tempo.example.com"),
            ("example.com", "example.com"),
            ("example.com", "tempo.EXAMPLE.com"),
            (".example.com", "tempo.example.com"),
            ("*.example.com", "tempo.example.com"),
            ("a, example.com:4318 ,b", "example.com"),
            ("10.0.0.0/8", "10.1.2.3"),
            ("10.1.2.3", "10.1.2.3"),
            ("10.1.2.3:4318", "10.1.2.3"),
            ("fd00::/8", "fd12::1"),
            ("[fd12::1]:4318", "fd12::1"),
            ("0.0.0.0/0", "8.8.8.8"),
        ];
        for (no_proxy, host) in straight {
            assert!(!wants(no_proxy, host, 4318), "{no_proxy} {host}");
        }
        let through = [
            ("", "tempo"),
            ("example.com", "notexample.com"),
            (".example.com", "example.com"),
            ("example.com:80", "example.com"),
            ("10.0.0.0/8", "11.1.2.3"),
            ("10.0.0.0/8", "fd12::1"),
            ("10.1.2.3:80", "10.1.2.3"),
            ("10.0.0.0/33", "10.1.2.3"),
            (",,", "tempo"),
        ];
        for (no_proxy, host) in through {
            assert!(wants(no_proxy, host, 4318), "{no_proxy} {host}");
        }
    }

    #[test]
    fn a_proxys_url_gives_its_address_and_who_asks() {
        let read = |text: &str| proxy(text).ok();
        let at = |host: &str, port: u16| Endpoint { host: host.to_owned(), port };
        assert_eq!(read("http://proxy:3128/").unwrap().endpoint, at("proxy", 3128));
        assert_eq!(read("proxy:3128").unwrap().endpoint, at("proxy", 3128));
        assert_eq!(read("http://[::1]:3128").unwrap().endpoint, at("::1", 3128));
        let known = read("http://me:p%40ss@proxy").unwrap();
        assert_eq!(known.endpoint, at("proxy", 80));
        // me:p@ss
        assert_eq!(known.authorization.unwrap().reveal(), "Basic bWU6cEBzcw==");
        for wrong in ["https://proxy:3128", "socks5://proxy:1080", "ftp://proxy", "http://", "http://a b"] {
            assert!(read(wrong).is_none(), "{wrong}");
        }
    }
}
