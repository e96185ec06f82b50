//! By which names the admin pages may be asked for.
//!
//! The one idea: a page of somebody else can make its own name mean our address (DNS rebinding), and a browser then lets it
//! read ours. It cannot make its name one of ours. An address is no name, so whoever asks by address is no such page.

use http::uri::Authority;
use http::{HeaderMap, Uri, header};
use std::net::IpAddr;

/// Where Linux says what the machine, or the pod, is called.
const MACHINE_NAME_FILE: &str = "/proc/sys/kernel/hostname";

/// What who asks by another name is told.
pub(super) const REFUSAL: &str = "these pages are given to who asks for them by an address, by `localhost` or by this \
     machine's name, so that no site can read them through somebody's browser: write the address instead of the name, or \
     have the proxy in front set `Host: localhost`";

/// Whether a request with this head may see a page. One that names no host comes from no browser.
pub(super) fn may_see(headers: &HeaderMap, uri: &Uri) -> bool {
    let named = headers.get(header::HOST).map(|host| host.to_str().unwrap_or_default());
    match named.or_else(|| uri.authority().map(Authority::as_str)) {
        Some(host) => is_own(host, || std::fs::read_to_string(MACHINE_NAME_FILE).unwrap_or_default()),
        None => true,
    }
}

fn is_own(host: &str, machine_name: impl FnOnce() -> String) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name);
    let is_local = name == "localhost" || name.ends_with(".localhost");
    is_local || name.parse::<IpAddr>().is_ok() || (!name.is_empty() && machine_name().trim().eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_our_own_names_are_ours_and_no_others() {
        let own = |host: &str| is_own(host, || "gateway-0\n".to_owned());
        for host in ["localhost", "LOCALHOST:8888", "localhost.", "a.localhost:1", "127.0.0.1:55679", "[::1]:55679"] {
            assert!(own(host), "{host}");
        }
        for host in ["10.0.0.7", "10.0.0.7:80", "[fe80::1]", "gateway-0", "Gateway-0:55679"] {
            assert!(own(host), "{host}");
        }
        for host in ["evil.example", "evil.example:55679", "localhost.evil.example", "127.0.0.1.evil.example"] {
            assert!(!own(host), "{host}");
        }
        for host in ["", "notlocalhost", "a b", "gateway-0.evil.example", ":80", "localhost@evil.example"] {
            assert!(!own(host), "{host}");
        }
        assert!(!is_own("evil.example", String::new));
    }

    #[test]
    fn a_request_that_names_nobody_comes_from_no_browser() {
        assert!(may_see(&HeaderMap::new(), &Uri::from_static("/ledger")));
        assert!(!may_see(&HeaderMap::new(), &Uri::from_static("http://evil.example/ledger")));
    }
}
