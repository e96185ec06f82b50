//! Listeners: bound before anything is promised, accepted on the control thread, served on shards.

use crate::cli::banner::{Listening, Protocol, Security};
use crate::config::checked::{Config, Endpoint, SocketFamily};
use crate::shard::fleet::Fleet;
use crate::shard::runtime::Socket;
use codecs::otlp::Signal;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener, UnixStream};
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
    /// HTTP only: path of each signal that somebody takes.
    pub paths: Vec<(Signal, String)>,
    /// Where it listens, with the port the kernel chose.
    pub address: ListenAddress,
    /// What connections have to pass.
    pub security: Security,
    /// The number by which shards know it.
    pub number: usize,
    socket: Bound,
}

/// Where something listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// Address and port.
    Internet(SocketAddr),
    /// Path of a Unix domain socket; `@` in front: an abstract name.
    Unix(String),
}

impl std::fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ListenAddress::Internet(address) => address.fmt(f),
            ListenAddress::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

#[derive(Debug)]
enum Bound {
    Tcp(std::net::TcpListener),
    Unix(UnixListener),
}

/// A port that could not be had.
#[derive(Debug)]
pub struct BindError {
    /// Receiver id.
    pub receiver: String,
    /// What was to be spoken on it.
    pub protocol: Protocol,
    /// What was asked for; all zero for a name without an address.
    pub address: ListenAddress,
    /// The kernel's words.
    pub error: io::Error,
}

impl Listener {
    /// For the first lines of the log.
    pub fn listening(&self) -> Listening {
        Listening {
            receiver: self.receiver.clone(),
            protocol: self.protocol,
            address: self.address.clone(),
            paths: self.paths.clone(),
            security: self.security,
        }
    }
}

/// Binds every receiver's endpoints, in the order in which shards number their servers.
pub fn bind_all(config: &Config) -> Result<Vec<Listener>, BindError> {
    let mut listeners = Vec::new();
    let mut number = 0;
    for (position, receiver) in config.receivers.iter().enumerate() {
        let signals = config.signals_of(position);
        let grpc = receiver.otlp.grpc.as_ref();
        let grpc = grpc.map(|grpc| (Protocol::Grpc, &grpc.endpoint, grpc.family, Vec::new(), grpc.tls.as_ref()));
        let http = receiver.otlp.http.as_ref();
        let http = http.map(|http| {
            let paths = signals.iter().map(|&signal| (signal, http.paths[signal as usize].clone())).collect();
            (Protocol::Http, &http.endpoint, http.family, paths, http.tls.as_ref())
        });
        for (protocol, endpoint, family, paths, tls) in grpc.into_iter().chain(http) {
            let security = Security::of(tls);
            let failed = |(address, error)| BindError { receiver: receiver.id.to_string(), protocol, address, error };
            for (address, socket) in bind_family(endpoint, family).map_err(failed)? {
                let (receiver, paths) = (receiver.id.to_string(), paths.clone());
                listeners.push(Listener { receiver, protocol, paths, address, security, number, socket });
            }
            number += 1;
        }
    }
    Ok(listeners)
}

/// Binds what an endpoint means in its family.
fn bind_family(
    endpoint: &Endpoint,
    family: SocketFamily,
) -> Result<Vec<(ListenAddress, Bound)>, (ListenAddress, io::Error)> {
    if family == SocketFamily::Unix {
        let address = ListenAddress::Unix(endpoint.host.clone());
        return match listen_unix(&endpoint.host) {
            Ok(socket) => Ok(vec![(address, Bound::Unix(socket))]),
            Err(error) => Err((address, error)),
        };
    }
    match bind(endpoint, family) {
        Ok(bound) => {
            let bound = bound.into_iter();
            Ok(bound.map(|(address, socket)| (ListenAddress::Internet(address), Bound::Tcp(socket))).collect())
        }
        Err((address, error)) => Err((ListenAddress::Internet(address), error)),
    }
}

/// Binds a Unix domain socket. A file that a gateway left behind when it was killed is replaced; one that somebody
/// listens on is not.
fn listen_unix(path: &str) -> io::Result<UnixListener> {
    let listener = if let Some(name) = path.strip_prefix('@') {
        UnixListener::bind_addr(&UnixAddress::from_abstract_name(name)?)?
    } else {
        let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
        if is_socket && UnixStream::connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
            std::fs::remove_file(path)?;
        }
        UnixListener::bind(path)?
    };
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Binds every address that the name resolves to: `localhost` is two of them.
fn bind(
    endpoint: &Endpoint,
    family: SocketFamily,
) -> Result<Vec<(SocketAddr, std::net::TcpListener)>, (SocketAddr, io::Error)> {
    let nowhere = SocketAddr::from(([0, 0, 0, 0], endpoint.port));
    let host = if endpoint.host.is_empty() { "::" } else { &endpoint.host };
    let addresses = (host, endpoint.port).to_socket_addrs().map_err(|error| (nowhere, error))?;
    let addresses = addresses.filter(|address| match family {
        SocketFamily::Tcp4 => address.is_ipv4(),
        SocketFamily::Tcp6 => address.is_ipv6(),
        SocketFamily::Tcp | SocketFamily::Unix => true,
    });
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
        None if bound.is_empty() => {
            Err((nowhere, io::Error::new(ErrorKind::AddrNotAvailable, "the name has no address of this family")))
        }
        _ => Ok(bound),
    }
}

/// Whether the machine does not have such an address at all.
fn is_missing(error: &io::Error) -> bool {
    let no_family = rustix::io::Errno::AFNOSUPPORT.raw_os_error();
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(no_family)
}

fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
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
    let Listener { number, socket, address, .. } = listener;
    let Ok(socket) = Accepting::new(socket) else { return };
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            _ = stop.wait_for(|stopped| *stopped) => break,
        };
        match accepted {
            Ok(stream) => fleet.place_connection(number, stream).await,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted; raise the open files limit (ulimit -n)");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    if let ListenAddress::Unix(path) = address
        && !path.starts_with('@')
    {
        // Whoever comes now learns at once that nobody listens.
        drop(std::fs::remove_file(path));
    }
}

/// A listener on the control thread's runtime.
enum Accepting {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl Accepting {
    fn new(socket: Bound) -> io::Result<Accepting> {
        Ok(match socket {
            Bound::Tcp(socket) => Accepting::Tcp(tokio::net::TcpListener::from_std(socket)?),
            Bound::Unix(socket) => Accepting::Unix(tokio::net::UnixListener::from_std(socket)?),
        })
    }

    async fn accept(&self) -> io::Result<Socket> {
        match self {
            Accepting::Tcp(socket) => socket.accept().await?.0.into_std().map(Socket::Tcp),
            Accepting::Unix(socket) => socket.accept().await?.0.into_std().map(Socket::Unix),
        }
    }
}
