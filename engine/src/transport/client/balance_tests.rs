//! What becomes of calls to a name with several addresses, when one of them dies and when they change.
//!
//! Peers are threads on loopback addresses of their own with one port; the name is in [`test_names`].

use super::grpc::GrpcClient;
use super::http1::HttpClient;
use super::test_peers::{Listener, framed, on_both, write_http1};
use super::{ClientError, PeerSettings, Problem};
use crate::config::checked::{Balancer, Endpoint, NameSettings};
use crate::shard::runtime::{spawn, yield_now};
use crate::transport::resolve::test_names;
use bytes::Bytes;
use codecs::compression::Compression;
use codecs::otlp::Format;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use tokio::io::AsyncReadExt;
use tokio::sync::oneshot;

/// A peer that takes every message and remembers it; when dropped, its connections and its port are gone.
struct Peer {
    taken: Arc<Mutex<Vec<u64>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Peer {
    fn start(listener: TcpListener) -> Peer {
        listener.set_nonblocking(true).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let keeper = Arc::clone(&taken);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            tokio::task::LocalSet::new().block_on(&runtime, async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let serve = async {
                    while let Ok((socket, _)) = listener.accept().await {
                        tokio::task::spawn_local(serve(socket, Arc::clone(&keeper)));
                    }
                };
                tokio::select! {
                    () = serve => {}
                    _ = stopped => {}
                }
            });
        });
        Peer { taken, stop: Some(stop), thread: Some(thread) }
    }

    fn taken(&self) -> Vec<u64> {
        self.taken.lock().unwrap().clone()
    }

    fn count(&self) -> usize {
        self.taken.lock().unwrap().len()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().map(std::thread::JoinHandle::join);
    }
}

async fn serve(socket: tokio::net::TcpStream, taken: Arc<Mutex<Vec<u64>>>) {
    let Ok(mut connection) = h2::server::handshake(socket).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let taken = Arc::clone(&taken);
        tokio::task::spawn_local(async move { drop(answer(request, respond, &taken).await) });
    }
}

async fn answer(
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    taken: &Mutex<Vec<u64>>,
) -> Result<(), h2::Error> {
    let mut stream = request.into_body();
    let mut body = Vec::new();
    while let Some(chunk) = poll_fn(|context| stream.poll_data(context)).await {
        body.extend_from_slice(&chunk?);
    }
    taken.lock().unwrap().push(u64::from_be_bytes(body[5..].try_into().unwrap()));
    let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let mut stream = respond.send_response(head, false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(0));
    stream.send_trailers(trailers)
}

/// Listeners on these addresses that share a port.
fn listeners(addresses: &[&str]) -> (u16, Vec<TcpListener>) {
    loop {
        let first = TcpListener::bind((addresses[0], 0)).unwrap();
        let port = first.local_addr().unwrap().port();
        let others = addresses[1..].iter().map(|address| TcpListener::bind((*address, port)));
        // Another test may have the port at one of them.
        if let Ok(others) = others.collect::<Result<Vec<_>, _>>() {
            return (port, std::iter::once(first).chain(others).collect());
        }
    }
}

fn peers<const COUNT: usize>(addresses: [&str; COUNT]) -> (u16, [Peer; COUNT]) {
    let (port, listeners) = listeners(&addresses);
    let peers: Vec<Peer> = listeners.into_iter().map(Peer::start).collect();
    (port, peers.try_into().unwrap_or_else(|_| unreachable!()))
}

fn client(name: &str, port: u16, names: NameSettings) -> GrpcClient {
    GrpcClient::new(&settings(name, port, names)).unwrap()
}

fn settings(name: &str, port: u16, names: NameSettings) -> PeerSettings {
    PeerSettings {
        sender: "exporter otlp".to_owned(),
        endpoint: Endpoint { host: name.to_owned(), port },
        tls: None,
        authority: None,
        headers: Vec::new(),
        proxy: None,
        timeout: None,
        first_address: 1,
        names,
    }
}

/// Addresses are looked up again only when a connection fails or ends.
const WHEN_NEEDED: NameSettings = NameSettings { balancer: Balancer::RoundRobin, interval_ns: 0 };
/// They are looked up as often as tests may.
const ALWAYS: NameSettings = NameSettings { balancer: Balancer::RoundRobin, interval_ns: 1 };

async fn send(client: &GrpcClient, number: u64) -> Result<(), ClientError> {
    let answer = client.call("/a.B/C", framed(&number.to_be_bytes()), Compression::None, None).await?;
    assert_eq!(answer.status.code.number(), 0);
    Ok(())
}

/// Sends as a queue does, until it is taken; how often it was not.
async fn deliver(client: &GrpcClient, number: u64) -> usize {
    let mut failures = 0;
    while send(client, number).await.is_err() {
        failures += 1;
        yield_now().await;
    }
    failures
}

/// Numbers its messages and goes on until something is so.
async fn deliver_until(client: &GrpcClient, number: &mut u64, mut done: impl FnMut() -> bool) {
    while !done() {
        deliver(client, *number).await;
        *number += 1;
    }
}

#[test]
fn all_addresses_of_a_name_get_the_same_share() {
    on_both(async || {
        let (port, [one, two, three]) = peers(["127.0.0.1", "127.0.0.2", "127.0.0.3"]);
        test_names::set("tempo.test", &["127.0.0.1", "127.0.0.2", "127.0.0.3"]);
        let client = client("tempo.test", port, WHEN_NEEDED);
        let all = [&one, &two, &three];
        let mut number = 0;
        deliver_until(&client, &mut number, || all.iter().all(|peer| peer.count() > 0)).await;
        let before = all.map(Peer::count);
        for number in 0..30 {
            assert_eq!(deliver(&client, number).await, 0);
        }
        assert_eq!(all.map(Peer::count), before.map(|count| count + 10));
        client.close().await;
    });
}

#[test]
fn an_address_that_dies_costs_nothing_and_one_that_is_new_gets_its_share() {
    on_both(async || {
        let (port, [one, two, three, new]) = peers(["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"]);
        test_names::set("tempo.test", &["127.0.0.1", "127.0.0.2", "127.0.0.3"]);
        let client = client("tempo.test", port, ALWAYS);
        let mut number = 0;
        deliver_until(&client, &mut number, || [&one, &two, &three].iter().all(|peer| peer.count() > 0)).await;

        drop(two);
        let (first, mut failures) = (number, 0);
        for _ in 0..40 {
            failures += deliver(&client, number).await;
            number += 1;
        }
        assert!(failures <= 1, "{failures} calls went to a dead address");
        let taken: BTreeSet<u64> = one.taken().into_iter().chain(three.taken()).collect();
        assert!((first..number).all(|number| taken.contains(&number)), "something is lost");

        test_names::set("tempo.test", &["127.0.0.4", "127.0.0.1"]);
        deliver_until(&client, &mut number, || new.count() > 0).await;
        let before = three.count();
        for _ in 0..10 {
            assert_eq!(deliver(&client, number).await, 0);
            number += 1;
        }
        assert_eq!(three.count(), before, "an address that is gone gets nothing more");
        assert!(new.count() >= 5, "{}", new.count());
        client.close().await;
    });
}

#[test]
fn a_connection_that_ends_has_the_name_looked_up_again() {
    on_both(async || {
        let (port, [old, new]) = peers(["127.0.0.1", "127.0.0.2"]);
        test_names::set("tempo.test", &["127.0.0.1"]);
        let client = client("tempo.test", port, WHEN_NEEDED);
        assert_eq!(deliver(&client, 1).await, 0);
        test_names::set("tempo.test", &["127.0.0.2"]);
        assert_eq!(deliver(&client, 2).await, 0);
        assert_eq!(old.taken(), [1, 2], "nothing has happened that would make it ask");
        drop(old);
        deliver(&client, 3).await;
        assert_eq!(new.taken(), [3]);
        client.close().await;
    });
}

#[test]
fn pick_first_keeps_to_one_address_until_the_name_has_it_no_more() {
    on_both(async || {
        let (port, [one, two, three]) = peers(["127.0.0.1", "127.0.0.2", "127.0.0.3"]);
        test_names::set("tempo.test", &["127.0.0.1", "127.0.0.2"]);
        let client = client("tempo.test", port, NameSettings { balancer: Balancer::PickFirst, ..ALWAYS });
        for number in 0..20 {
            assert_eq!(deliver(&client, number).await, 0);
        }
        assert_eq!((one.count(), two.count()), (0, 20));
        test_names::set("tempo.test", &["127.0.0.3"]);
        let mut number = 20;
        deliver_until(&client, &mut number, || three.count() > 0).await;
        assert_eq!(one.count() + two.count() + three.count(), usize::try_from(number).unwrap());
        client.close().await;
    });
}

#[test]
fn both_families_of_addresses_are_used() {
    if TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: no IPv6 here");
        return;
    }
    on_both(async || {
        let (port, [four, six]) = peers(["127.0.0.1", "::1"]);
        test_names::set("tempo.test", &["::1", "127.0.0.1"]);
        let client = client("tempo.test", port, WHEN_NEEDED);
        let mut number = 0;
        deliver_until(&client, &mut number, || four.count() > 0 && six.count() > 0).await;
        client.close().await;
    });
}

#[test]
fn a_name_that_cannot_be_resolved_fails_calls_until_it_can() {
    on_both(async || {
        let (port, [peer]) = peers(["127.0.0.1"]);
        test_names::set("tempo.test", &[]);
        let client = client("tempo.test", port, WHEN_NEEDED);
        let error = send(&client, 1).await.unwrap_err();
        assert_eq!(error.problem, Problem::Resolve);
        assert!(error.message.contains("the name tempo.test cannot be resolved"), "{error}");
        test_names::set("tempo.test", &["127.0.0.1"]);
        while let Err(error) = send(&client, 2).await {
            assert_eq!(error.problem, Problem::Resolve);
            yield_now().await;
        }
        assert_eq!(peer.taken(), [2]);
        client.close().await;
    });
}

#[test]
fn when_no_address_answers_a_call_says_why() {
    on_both(async || {
        let (port, listeners) = listeners(&["127.0.0.1", "127.0.0.2"]);
        drop(listeners);
        test_names::set("tempo.test", &["127.0.0.1", "127.0.0.2"]);
        let client = client("tempo.test", port, WHEN_NEEDED);
        let error = send(&client, 1).await.unwrap_err();
        assert_eq!(error.problem, Problem::Connect);
        let address: SocketAddr = error.message.split(['(', ')']).nth(1).unwrap().parse().unwrap();
        assert!(address.ip().is_loopback() && address.port() == port, "{error}");
        client.close().await;
    });
}

/// Answers posts on each connection it gets, and counts them.
async fn serve_http1(listener: TcpListener, taken: Rc<Cell<usize>>) {
    let accepting = Listener::of(listener);
    loop {
        let mut stream = accepting.accept().await;
        let taken = Rc::clone(&taken);
        spawn(async move {
            let mut request = Vec::new();
            while let Ok(byte) = stream.read_u8().await {
                request.push(byte);
                if request.ends_with(b"\r\n\r\n.") {
                    request.clear();
                    taken.set(taken.get() + 1);
                    write_http1(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                }
            }
        });
    }
}

#[test]
fn an_http_connection_grows_old_and_the_next_goes_to_the_next_address() {
    on_both(async || {
        let (port, listeners) = listeners(&["127.0.0.1", "127.0.0.2"]);
        test_names::set("tempo.test", &["127.0.0.1", "127.0.0.2"]);
        let taken: [Rc<Cell<usize>>; 2] = Default::default();
        for (listener, taken) in listeners.into_iter().zip(&taken) {
            spawn(serve_http1(listener, Rc::clone(taken)));
        }
        let client = HttpClient::new(&settings("tempo.test", port, ALWAYS), "/v1/traces", Format::Protobuf).unwrap();
        while taken.iter().any(|taken| taken.get() == 0) {
            let answer = client.post(Bytes::from_static(b"."), Compression::None, None).await.unwrap();
            assert_eq!(answer.status, 200);
        }
        client.close().await;
    });
}
