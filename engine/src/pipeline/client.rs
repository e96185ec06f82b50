//! Who sent a batch: the headers, the identity and the address that some node behind the receiver asks for.
//!
//! The one idea: requests of one client say the same again and again, so what is kept of them is made once per distinct
//! value and shared. A request whose pipelines ask for nothing has none, and costs nothing; what follows a client
//! through a pipeline is one pointer per batch, never anything per span.

use crate::auth::Identity;
use crate::config::checked::Wanted;
use http::{HeaderMap, Uri};
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

/// Clients that a shard knows by their values; all are forgotten beyond it, batches under way keep theirs.
const KNOWN_MAX: usize = 4096;
/// The same in bytes of their values.
const KNOWN_BYTES_MAX: usize = 1 << 20;

/// What is kept of a request's sender. Never empty: a request without any of the values has no client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    metadata: Vec<Header>,
    auth: Vec<(String, String)>,
    address: Option<IpAddr>,
}

#[derive(Clone, PartialEq, Eq)]
struct Header {
    /// In small letters.
    key: String,
    /// At least one.
    values: Vec<Box<[u8]>>,
}

// A header may hold a credential.
impl std::fmt::Debug for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: [REDACTED]", self.key)
    }
}

/// The head of a request, as far as it says who sends it.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// All headers.
    pub headers: &'a HeaderMap,
    /// Path and query; for HTTP/2 the authority too.
    pub uri: &'a Uri,
}

impl<'a> Head<'a> {
    /// The values of a header. `host` is the authority where there is no such header.
    fn values(self, key: &str) -> impl Iterator<Item = &'a [u8]> {
        let found = self.headers.get_all(key).iter().map(http::HeaderValue::as_bytes);
        let is_host = key == "host" && !self.headers.contains_key(key);
        let authority = self.uri.authority().filter(|_| is_host).map(|authority| authority.as_str().as_bytes());
        found.chain(authority)
    }
}

impl Client {
    /// The values of a header (its name in small letters), in their order.
    pub fn metadata(&self, key: &str) -> &[Box<[u8]>] {
        self.metadata.iter().find(|header| header.key == key).map_or(&[], |header| &header.values)
    }

    /// What the receiver's authenticator knows under this name.
    pub fn auth(&self, name: &str) -> Option<&str> {
        self.auth.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Where the request came from.
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// A client of whom only these headers are known; `None` if it sent none of them.
    pub fn only(&self, keys: &[String]) -> Option<Client> {
        let metadata: Vec<Header> = self.metadata.iter().filter(|header| keys.contains(&header.key)).cloned().collect();
        (!metadata.is_empty()).then(|| Client { metadata, ..Client::default() })
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        let of_header =
            |header: &Header| header.key.len() + header.values.iter().map(|value| value.len() + 16).sum::<usize>();
        let auth: usize = self.auth.iter().map(|(name, value)| name.len() + value.len() + 48).sum();
        size_of::<Client>() + self.metadata.iter().map(of_header).sum::<usize>() + auth
    }

    /// A client that sent one header.
    #[cfg(test)]
    pub fn with_metadata(key: &str, values: &[&str]) -> Client {
        let values: Vec<Box<[u8]>> = values.iter().map(|value| value.as_bytes().into()).collect();
        let metadata = if values.is_empty() { Vec::new() } else { vec![Header { key: key.to_owned(), values }] };
        Client { metadata, ..Client::default() }
    }
}

/// Appends what tells two clients apart as far as these headers go: the same bytes for the same values, other bytes for
/// others.
pub fn write_key(client: Option<&Client>, keys: &[String], out: &mut Vec<u8>) {
    for key in keys {
        let values = client.map_or(&[][..], |client| client.metadata(key));
        write_values(values.iter().map(|value| &**value), out);
    }
}

/// Every value with its length in front, and their number behind them.
fn write_values<'a>(values: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    let mut count = 0_u32;
    for value in values {
        write_value(value, out);
        count += 1;
    }
    out.extend_from_slice(&count.to_le_bytes());
}

fn write_value(value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    out.extend_from_slice(value);
}

/// The clients that a shard knows. Cloning shares them within the shard.
#[derive(Clone, Debug, Default)]
pub struct Clients(Rc<RefCell<Known>>);

#[derive(Debug, Default)]
struct Known {
    by_values: HashMap<Box<[u8]>, Option<Rc<Client>>, foldhash::fast::RandomState>,
    bytes: usize,
    /// Reused between requests.
    scratch: Vec<u8>,
}

impl Clients {
    /// The client of a request: `wanted` of what its head, its authenticator and its connection say.
    pub fn of(
        &self,
        wanted: &Wanted,
        head: Head<'_>,
        identity: Option<&Identity>,
        address: Option<IpAddr>,
    ) -> Option<Rc<Client>> {
        if wanted.is_empty() {
            return None;
        }
        let mut known = self.0.borrow_mut();
        let Known { by_values, bytes, scratch } = &mut *known;
        let address = address.filter(|_| wanted.address);
        let attributes = || {
            let of = |name: &'_ String| identity.and_then(|identity| identity.attribute(name));
            wanted.auth.iter().map(move |name| (name, of(name)))
        };
        scratch.clear();
        // Receivers may want different things of equal requests: what is wanted is part of the key.
        for count in [wanted.metadata.len(), wanted.auth.len()] {
            scratch.extend_from_slice(&(count as u64).to_le_bytes());
        }
        for key in &wanted.metadata {
            write_value(key.as_bytes(), scratch);
            write_values(head.values(key), scratch);
        }
        for (name, value) in attributes() {
            write_value(name.as_bytes(), scratch);
            write_values(value.map(str::as_bytes).into_iter(), scratch);
        }
        if let Some(address) = address {
            write_value(address.to_canonical().to_string().as_bytes(), scratch);
        }
        if let Some(client) = by_values.get(&scratch[..]) {
            return client.clone();
        }
        let values = |key: &String| -> Vec<Box<[u8]>> { head.values(key).map(Into::into).collect() };
        let header = |key: &String| Header { key: key.clone(), values: values(key) };
        let metadata = wanted.metadata.iter().map(header).filter(|header| !header.values.is_empty()).collect();
        let auth = attributes().filter_map(|(name, value)| Some((name.clone(), value?.to_owned()))).collect();
        let client = Client { metadata, auth, address: address.map(|address| address.to_canonical()) };
        let client = (client != Client::default()).then(|| Rc::new(client));
        let costs = scratch.len() + client.as_ref().map_or(0, |client| client.bytes());
        if by_values.len() >= KNOWN_MAX || *bytes + costs > KNOWN_BYTES_MAX {
            by_values.clear();
            *bytes = 0;
        }
        *bytes += costs;
        by_values.insert(scratch.as_slice().into(), client.clone());
        client
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(metadata: &[&str]) -> Wanted {
        Wanted { metadata: metadata.iter().map(|key| (*key).to_owned()).collect(), ..Wanted::default() }
    }

    fn client(clients: &Clients, wanted: &Wanted, headers: &[(&'static str, &str)]) -> Option<Rc<Client>> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let uri = Uri::from_static("http://gateway:4317/x");
        clients.of(wanted, Head { headers: &map, uri: &uri }, None, None)
    }

    #[test]
    fn only_what_is_asked_for_is_kept_and_equal_senders_share_it() {
        let clients = Clients::default();
        let tenant = wanted(&["tenant"]);
        let first = client(&clients, &tenant, &[("tenant", "a"), ("other", "1")]).unwrap();
        let again = client(&clients, &tenant, &[("other", "2"), ("tenant", "a")]).unwrap();
        assert!(Rc::ptr_eq(&first, &again));
        assert_eq!(first.metadata("tenant"), [Box::from(*b"a")]);
        assert!(first.metadata("other").is_empty());
        let other = client(&clients, &tenant, &[("tenant", "b")]).unwrap();
        assert!(!Rc::ptr_eq(&first, &other));
        let both = client(&clients, &tenant, &[("tenant", "a"), ("tenant", "b")]).unwrap();
        assert_eq!(both.metadata("tenant").len(), 2);
    }

    #[test]
    fn a_request_without_the_values_has_no_client() {
        let clients = Clients::default();
        assert_eq!(client(&clients, &wanted(&["tenant"]), &[("other", "1")]), None);
        assert_eq!(client(&clients, &Wanted::default(), &[("other", "1")]), None);
    }

    #[test]
    fn the_host_is_the_authority_where_no_header_says_it() {
        let clients = Clients::default();
        let host = |headers| client(&clients, &wanted(&["host"]), headers).unwrap().metadata("host").to_vec();
        assert_eq!(host(&[]), [Box::from(*b"gateway:4317")]);
        assert_eq!(host(&[("host", "me")]), [Box::from(*b"me")]);
    }

    #[test]
    fn values_that_run_together_make_other_keys() {
        let keys = vec!["a".to_owned(), "b".to_owned()];
        let key = |values: &[&[&str]]| {
            let header = |(key, values): (&String, &&[&str])| Client::with_metadata(key, values).metadata;
            let client = Client { metadata: keys.iter().zip(values).flat_map(header).collect(), ..Client::default() };
            let mut out = Vec::new();
            write_key(Some(&client), &keys, &mut out);
            out
        };
        let all = [
            key(&[&["x"], &["y"]]),
            key(&[&["xy"], &[]]),
            key(&[&["x", "y"], &[]]),
            key(&[&[], &["x", "y"]]),
            key(&[&["x"], &[""]]),
            key(&[&["x"], &[]]),
        ];
        for (place, one) in all.iter().enumerate() {
            assert!(!all[..place].contains(one), "{place}");
        }
    }

    #[test]
    fn memory_stays_bounded_whatever_senders_invent() {
        let clients = Clients::default();
        for number in 0..3 * KNOWN_MAX {
            client(&clients, &wanted(&["tenant"]), &[("tenant", &number.to_string())]);
        }
        assert!(clients.0.borrow().by_values.len() <= KNOWN_MAX);
        for number in 0..300 {
            client(&clients, &wanted(&["tenant"]), &[("tenant", &format!("{number}{}", "x".repeat(16 << 10)))]);
        }
        assert!(clients.0.borrow().bytes <= KNOWN_BYTES_MAX);
    }

    #[test]
    fn values_are_not_in_debug_output() {
        assert!(!format!("{:?}", Client::with_metadata("authorization", &["hidden"])).contains("hidden"));
    }
}
