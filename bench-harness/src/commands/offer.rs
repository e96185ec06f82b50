//! What the harness itself can offer: a closed loop into a target of its own, on the other core, that reads, acks and
//! discards. A gateway's figure near this one says more about the harness than about the gateway.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use super::plan::{Plan, Rate};
use super::run::measure;
use crate::cli::RunArguments;
use crate::measure::pin_this_thread;
use crate::output::{print_report, write_json};

/// How long the loop runs if nothing else is said.
const DURATION: Duration = Duration::from_secs(5);

pub(super) fn run(arguments: &RunArguments) -> io::Result<ExitCode> {
    let mut arguments = arguments.clone();
    arguments.target = Some(start_target()?);
    let plan = Plan::new(&arguments)?;
    let rate = arguments.rate().map_or(Rate::Closed, Rate::ItemsPerSecond);
    let report = measure(&plan.at(rate, arguments.duration.unwrap_or(DURATION)))?;
    print_report(&report);
    if let Some(path) = &arguments.json {
        write_json(path, &report)?;
    }
    Ok(super::exit_code(&report))
}

/// Starts the target on a thread of its own; it ends with the process.
fn start_target() -> io::Result<SocketAddr> {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let served = serve(&tell);
        if let Err(error) = served {
            eprintln!("the discarding target ended: {error}");
        }
    });
    told.recv().map_err(|_| io::Error::other("the discarding target did not start"))
}

fn serve(tell: &std::sync::mpsc::Sender<SocketAddr>) -> io::Result<()> {
    pin_this_thread(&[0])?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        tell.send(listener.local_addr()?).map_err(io::Error::other)?;
        loop {
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            tokio::task::spawn_local(connection(socket));
        }
    })
}

async fn connection(socket: TcpStream) -> Result<(), h2::Error> {
    let mut connection = h2::server::Builder::new()
        .initial_window_size(4 << 20)
        .initial_connection_window_size(64 << 20)
        .max_frame_size(256 << 10)
        .handshake(socket)
        .await?;
    while let Some(stream) = connection.accept().await {
        let (request, respond) = stream?;
        tokio::task::spawn_local(discard(request, respond));
    }
    Ok(())
}

async fn discard(request: Request<h2::RecvStream>, mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let mut body = request.into_body();
    while let Some(data) = body.data().await {
        body.flow_control().release_capacity(data?.len())?;
    }
    let mut response = Response::new(());
    let content_type = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(http::header::CONTENT_TYPE, content_type);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let mut stream = respond.send_response(response, false)?;
    stream.send_data(Bytes::from_static(&[0; 5]), false)?;
    stream.send_trailers(trailers)
}
