//! Names to addresses, by the system's resolver, without holding up a shard.
//!
//! The one idea: getaddrinfo blocks, so each lookup runs on a thread of its own and its answer wakes the shard. A
//! client has at most one lookup under way per connection it makes, so the threads are bounded. Nothing is cached here:
//! whoever asks again learns of a changed DNS record.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use tokio::sync::oneshot;

/// Addresses kept of one answer: more than any client connects to, so that it can keep to the same ones when an answer
/// comes in another order.
pub(super) const ADDRESSES_MAX: usize = 256;

/// The addresses of `host` in the resolver's order: at least one, at most [`ADDRESSES_MAX`], without repeats.
///
/// `host` is a name or an address without brackets; an address is answered at once. The error is the resolver's own
/// text, or says that the name has no address.
pub(super) async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    #[cfg(test)]
    if let Some(addresses) = test_names::known(host) {
        let addresses = addresses.into_iter().map(|address| SocketAddr::new(address, port));
        return bounded(addresses).ok_or_else(|| "the name has no address".to_owned());
    }
    let (answer, answered) = oneshot::channel();
    let name = host.to_owned();
    let lookup = move || {
        // The client that asked may be gone (drain): then nobody wants the answer.
        drop(answer.send((name.as_str(), port).to_socket_addrs()));
    };
    let started = std::thread::Builder::new().name("resolve".to_owned()).spawn(lookup);
    if let Err(error) = started {
        return Err(format!("no thread for the lookup: {error}"));
    }
    match answered.await {
        Ok(Ok(found)) => bounded(found).ok_or_else(|| "the name has no address".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the resolver ended without an answer".to_owned()),
    }
}

/// Drops repeats and everything beyond the bound; `None` when nothing is left.
fn bounded(found: impl Iterator<Item = SocketAddr>) -> Option<Vec<SocketAddr>> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found {
        if addresses.len() == ADDRESSES_MAX {
            break;
        }
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    (!addresses.is_empty()).then_some(addresses)
}

/// Names that only a test knows, on its own thread.
#[cfg(test)]
pub(crate) mod test_names {
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::net::IpAddr;

    thread_local! {
        static NAMES: RefCell<BTreeMap<String, Vec<IpAddr>>> = const { RefCell::new(BTreeMap::new()) };
    }

    /// From now on `name` has these addresses.
    pub(crate) fn set(name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        NAMES.with_borrow_mut(|names| names.insert(name.to_owned(), addresses));
    }

    pub(super) fn known(name: &str) -> Option<Vec<IpAddr>> {
        NAMES.with_borrow(|names| names.get(name).cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::runtime::{Runtime, run};

    fn check(host: &'static str, expected: impl FnOnce(Result<Vec<SocketAddr>, String>) + 'static) {
        run(Runtime::Epoll, None, async move { expected(resolve(host, 4317).await) }).unwrap();
    }

    #[test]
    fn an_address_needs_no_resolver() {
        check("127.0.0.7", |found| assert_eq!(found, Ok(vec!["127.0.0.7:4317".parse().unwrap()])));
        check("::1", |found| assert_eq!(found, Ok(vec!["[::1]:4317".parse().unwrap()])));
    }

    #[test]
    fn localhost_is_a_loopback_address() {
        check("localhost", |found| {
            assert!(found.unwrap().iter().all(|address| address.ip().is_loopback()));
        });
    }

    #[test]
    fn a_name_that_cannot_exist_is_an_error_with_the_resolvers_words() {
        check("not a name", |found| assert!(!found.unwrap_err().is_empty()));
    }

    #[test]
    fn repeats_and_endless_answers_are_cut() {
        let many = (0..1000u32).map(|number| SocketAddr::new(IpAddr::from(number.to_be_bytes()), 1));
        assert_eq!(bounded(many).unwrap().len(), ADDRESSES_MAX);
        let same = std::iter::repeat_n(SocketAddr::from(([127, 0, 0, 1], 1)), 3);
        assert_eq!(bounded(same).unwrap().len(), 1);
        assert_eq!(bounded(std::iter::empty()), None);
    }
}
