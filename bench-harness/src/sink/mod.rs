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
mod reader;

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::net::{TcpListener, TcpStream};

pub(crate) use arrivals::{Arrivals, Contents, ExporterArrivals};
pub(crate) use http::WRITE_PATH;
#[cfg(test)]
pub(crate) use reader::{read_points, read_records, read_spans};

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
}

/// Listens for exporter number `exporter` on a free port. Must run inside a `LocalSet`, where the listener lives on.
pub(crate) async fn listen(
    exporter: usize,
    protocol: Protocol,
    arrivals: Rc<Arrivals>,
    clock: Clock,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let intake = Intake { exporter, arrivals, clock };
    tokio::task::spawn_local(accept(listener, protocol, intake));
    Ok(address)
}

async fn accept(listener: TcpListener, protocol: Protocol, intake: Intake) {
    while let Ok((socket, _)) = listener.accept().await {
        if let Err(error) = socket.set_nodelay(true) {
            eprintln!("sink: {error}");
        }
        tokio::task::spawn_local(serve(socket, protocol, intake.clone()));
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
