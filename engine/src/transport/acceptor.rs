//! Listeners: bound before anything is promised, accepted on the control thread, served on shards.

use crate::cli::banner::{Listening, Protocol};
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
    /// Receiver id.
    pub receiver: String,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// HTTP only: path of traces requests.
    pub traces_path: String,
    /// Where it listens, with the port the kernel chose.
    pub address: SocketAddr,
    /// The number by which shards know it.
    pub number: usize,
    socket: std::net::TcpListener,
}

/// A port that could not be had.
#[derive(Debug)]
pub struct BindError {
    /// Receiver id.
    pub receiver: String,
    /// What was to be spoken on it.
    pub protocol: Protocol,
    /// What was asked for; all zero for a name without an address.
    pub address: SocketAddr,
    /// The kernel's words.
    pub error: std::io::Error,
}

impl Listener {
    /// For the first lines of the log.
    pub fn listening(&self) -> Listening {
        Listening {
            receiver: self.receiver.clone(),
            protocol: self.protocol,
            address: self.address,
            traces_path: self.traces_path.clone(),
        }
    }
}

/// Binds every receiver's endpoints, in the order in which shards number their servers.
pub fn bind_all(config: &Config) -> Result<Vec<Listener>, BindError> {
    let mut listeners = Vec::new();
    let mut number = 0;
    for receiver in &config.receivers {
        let grpc = receiver.otlp.grpc.as_ref().map(|grpc| (Protocol::Grpc, &grpc.endpoint, ""));
        let http = receiver.otlp.http.as_ref();
        let http = http.map(|http| (Protocol::Http, &http.endpoint, http.traces_path.as_str()));
        for (protocol, endpoint, traces_path) in grpc.into_iter().chain(http) {
            let failed = |(address, error)| BindError { receiver: receiver.id.to_string(), protocol, address, error };
            for (address, socket) in bind(endpoint).map_err(failed)? {
                let (receiver, traces_path) = (receiver.id.to_string(), traces_path.to_owned());
                listeners.push(Listener { receiver, protocol, traces_path, address, number, socket });
            }
            number += 1;
        }
    }
    Ok(listeners)
}

/// Binds every address that the name resolves to: `localhost` is two of them.
fn bind(endpoint: &Endpoint) -> Result<Vec<(SocketAddr, std::net::TcpListener)>, (SocketAddr, std::io::Error)> {
    let nowhere = SocketAddr::from(([0, 0, 0, 0], endpoint.port));
    let host = if endpoint.host.is_empty() { "::" } else { &endpoint.host };
    let addresses = (host, endpoint.port).to_socket_addrs().map_err(|error| (nowhere, error))?;
    let mut bound: Vec<(SocketAddr, std::net::TcpListener)> = Vec::new();
    let mut missing = None;
    for mut address in addresses {
        // With port 0 the second address of a name takes the port that the first was given.
        if let Some((first, _)) = bound.first() {
            address.set_port(first.port());
        }
        match listen(address).and_then(|socket| Ok((socket.local_addr()?, socket))) {
            Ok(listening) => bound.push(listening),
            // A machine without IPv6 has no ::1, whatever the hosts file says.
            Err(error) if is_missing(&error) => missing = Some((address, error)),
            Err(error) => return Err((address, error)),
        }
    }
    match missing {
        Some(missing) if bound.is_empty() => Err(missing),
        _ => Ok(bound),
    }
}

/// Whether the machine does not have such an address at all.
fn is_missing(error: &std::io::Error) -> bool {
    let no_family = rustix::io::Errno::AFNOSUPPORT.raw_os_error();
    error.kind() == std::io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(no_family)
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
