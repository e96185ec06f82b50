//! A backend that judges: it takes what the gateway exports and checks every item.
//!
//! ```text
//! port of exporter n --> grpc.rs / http.rs --> body, decompressed --> reader.rs: items --> arrivals.rs: checked, noted
//! ```
//!
//! One port for each exporter: where a span arrives says who sent it.

mod arrivals;
mod grpc;
mod http;
#[cfg(test)]
mod planted;
#[cfg(test)]
mod planted_items;
mod reader;
mod switch;

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub(crate) use arrivals::{Arrivals, Contents, ExporterArrivals};
pub(crate) use http::WRITE_PATH;
pub(crate) use reader::{AttributeValue, read_attributes, read_resource_attributes};
#[cfg(test)]
pub(crate) use reader::{read_points, read_records, read_spans};

pub(crate) use switch::Behaviour;
use switch::Switch;

use crate::load::Protocol;
use crate::measure::Clock;

/// Largest request after decompression. A batch processor without a maximum makes large ones.
const REQUEST_BYTES_MAX: usize = 256 << 20;

/// What a connection needs to handle a request.
#[derive(Clone)]
struct Intake {
    exporter: usize,
    arrivals: Rc<Arrivals>,
    clock: Clock,
    switch: Rc<Switch>,
    /// The connection was cut.
    is_cut: Rc<Cell<bool>>,
}

/// A backend for one exporter, which can be told to misbehave, to go and to come back.
pub(crate) struct Backend {
    address: SocketAddr,
    protocol: Protocol,
    intake: Intake,
    /// `None` while it is away.
    accepting: Option<JoinHandle<()>>,
}

/// Listens for exporter number `exporter` on a free port. Must run inside a `LocalSet`, where the listener lives on.
pub(crate) async fn listen(
    exporter: usize,
    protocol: Protocol,
    arrivals: Rc<Arrivals>,
    clock: Clock,
) -> io::Result<SocketAddr> {
    Ok(Backend::open(exporter, protocol, arrivals, clock).await?.address)
}

impl Backend {
    /// Listens for exporter number `exporter` on a free port. Must run inside a `LocalSet`.
    pub(crate) async fn open(
        exporter: usize,
        protocol: Protocol,
        arrivals: Rc<Arrivals>,
        clock: Clock,
    ) -> io::Result<Backend> {
        let intake = Intake { exporter, arrivals, clock, switch: Rc::new(Switch::new()), is_cut: Rc::default() };
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut backend = Backend { address: any, protocol, intake, accepting: None };
        backend.come().await?;
        Ok(backend)
    }

    /// Where it listens, or did.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its behaviour.
    pub(crate) fn switch(&self) -> &Switch {
        &self.intake.switch
    }

    /// Stops listening and ends all connections.
    pub(crate) async fn leave(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            // The listener is closed when its task has ended, by the abort that was just asked for.
            drop(accepting.await);
        }
        self.intake.switch.cut();
    }

    /// Listens, again at the address that it had.
    pub(crate) async fn come(&mut self) -> io::Result<()> {
        let listener = TcpListener::bind(self.address).await?;
        self.address = listener.local_addr()?;
        self.accepting = Some(tokio::task::spawn_local(accept(listener, self.protocol, self.intake.clone())));
        Ok(())
    }
}

async fn accept(listener: TcpListener, protocol: Protocol, intake: Intake) {
    while let Ok((socket, _)) = listener.accept().await {
        if let Err(error) = socket.set_nodelay(true) {
            eprintln!("sink: {error}");
        }
        let intake = Intake { is_cut: Rc::default(), ..intake.clone() };
        let (switch, is_cut) = (intake.switch.clone(), intake.is_cut.clone());
        let connection = tokio::task::spawn_local(serve(socket, protocol, intake));
        switch.connected(is_cut, connection.abort_handle());
    }
}

/// A connection that breaks is noted: the gateway may send again, and then the items are doubled in no one's book.
async fn serve(socket: TcpStream, protocol: Protocol, intake: Intake) {
    let arrivals = intake.arrivals.clone();
    let served = match protocol {
        Protocol::Grpc => grpc::serve(socket, intake).await,
        Protocol::Http => http::serve(socket, intake).await,
    };
    if let Err(error) = served {
        arrivals.broken_connection(&error.to_string());
    }
}
