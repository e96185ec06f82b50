//! Listeners: bound before anything is promised, accepted on the control thread, served on shards.

use crate::config::checked::{Config, Endpoint};
use crate::shard::fleet::Fleet;
use std::net::{SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::time::Duration;

/// Connections that may wait for the acceptor; the kernel's own limit usually is lower.
const BACKLOG: i32 = 4096;
/// Pause after an accept failed for want of descriptors: the connection waits in the backlog.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound listener and what it is for.
#[derive(Debug)]
pub struct Listener {
    /// The configuration key of its endpoint, for messages: `receivers.otlp.protocols.grpc.endpoint`.
    pub key: String,
    /// `grpc` or `http`.
    pub protocol: &'static str,
    /// Where it listens, with the port the kernel chose.
    pub address: SocketAddr,
    /// The number by which shards know it.
    pub number: usize,
    socket: std::net::TcpListener,
}

/// A port that could not be had.
#[derive(Debug)]
pub struct BindError {
    /// The configuration key of the endpoint.
    pub key: String,
    /// What was asked for.
    pub address: String,
    /// The kernel's words.
    pub error: std::io::Error,
}

/// Binds every receiver's endpoints, in the order in which shards number their servers.
pub fn bind_all(config: &Config) -> Result<Vec<Listener>, BindError> {
    let mut listeners = Vec::new();
    let mut number = 0;
    for receiver in &config.receivers {
        let grpc = receiver.otlp.grpc.as_ref().map(|grpc| ("grpc", &grpc.endpoint));
        let http = receiver.otlp.http.as_ref().map(|http| ("http", &http.endpoint));
        for (protocol, endpoint) in grpc.into_iter().chain(http) {
            let key = format!("receivers.{}.protocols.{protocol}.endpoint", receiver.id);
            bind(&key, protocol, endpoint, number, &mut listeners)?;
            number += 1;
        }
    }
    Ok(listeners)
}

/// Binds every address that the name resolves to: `localhost` is two of them.
fn bind(
    key: &str,
    protocol: &'static str,
    endpoint: &Endpoint,
    number: usize,
    listeners: &mut Vec<Listener>,
) -> Result<(), BindError> {
    let named = format!("{}:{}", endpoint.host, endpoint.port);
    let failed = |error| BindError { key: key.to_owned(), address: named.clone(), error };
    let host = if endpoint.host.is_empty() { "::" } else { &endpoint.host };
    let addresses: Vec<SocketAddr> = (host, endpoint.port).to_socket_addrs().map_err(failed)?.collect();
    let mut bound = 0;
    let mut last_error = None;
    for mut address in addresses {
        // With port 0 the second address of a name takes the port that the first was given.
        if let Some(first) = listeners.iter().rev().take(bound).next_back() {
            address.set_port(first.address.port());
        }
        match listen(address) {
            Ok(socket) => {
                let address = socket.local_addr().map_err(failed)?;
                listeners.push(Listener { key: key.to_owned(), protocol, address, number, socket });
                bound += 1;
            }
            // A machine without IPv6 has no ::1, whatever the hosts file says.
            Err(error) if error.kind() == std::io::ErrorKind::AddrNotAvailable => last_error = Some(error),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error()) => {
                last_error = Some(error);
            }
            Err(error) => return Err(failed(error)),
        }
    }
    match last_error {
        Some(error) if bound == 0 => Err(failed(error)),
        _ => Ok(()),
    }
}

fn listen(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    // Connections of the last run in TIME_WAIT must not keep a restart from its port.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() && address.ip().is_loopback() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts until `stop` resolves, and gives every connection to a shard. Runs on the control thread.
pub async fn accept(listener: Listener, fleet: Rc<Fleet>, mut stop: tokio::sync::watch::Receiver<bool>) {
    let Listener { number, socket, .. } = listener;
    let Ok(socket) = tokio::net::TcpListener::from_std(socket) else { return };
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            _ = stop.wait_for(|stopped| *stopped) => return,
        };
        match accepted.and_then(|(stream, _)| stream.into_std()) {
            Ok(stream) => fleet.place_connection(number, stream).await,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted; raise the open files limit (ulimit -n)");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
