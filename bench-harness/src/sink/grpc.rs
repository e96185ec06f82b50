//! OTLP over gRPC as a server with large windows, so that the sink is never what the gateway waits for.

use std::io;

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::TcpStream;

use super::reader::decompress;
use super::switch::Reply;
use super::{Intake, REQUEST_BYTES_MAX};

/// An empty ExportTraceServiceResponse with its prefix.
const EMPTY_MESSAGE: &[u8] = &[0; 5];

pub(super) async fn serve(socket: TcpStream, intake: Intake) -> io::Result<()> {
    let handshake = h2::server::Builder::new()
        .initial_window_size(16 << 20)
        .initial_connection_window_size(64 << 20)
        .max_frame_size(1 << 20)
        .handshake(socket);
    let mut connection = handshake.await.map_err(io::Error::other)?;
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = match accepted {
            Ok(stream) => stream,
            Err(error) if error.is_io() || error.is_go_away() => return Ok(()),
            Err(error) => return Err(io::Error::other(error)),
        };
        let intake = intake.clone();
        tokio::task::spawn_local(async move {
            if let Err(error) = export(request, respond, &intake).await {
                intake.arrivals.broken_connection(&error.to_string());
            }
        });
    }
    Ok(())
}

async fn export(request: Request<RecvStream>, respond: SendResponse<Bytes>, intake: &Intake) -> io::Result<()> {
    let encoding = request.headers().get("grpc-encoding").cloned();
    let message = read_message(request.into_body()).await?;
    let now_ns = intake.clock.now_ns();
    let Some((prefix, body)) = message.split_first_chunk::<5>() else {
        return Err(io::Error::other("a gRPC message without its prefix"));
    };
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    if length as usize != body.len() {
        return Err(io::Error::other("a gRPC message of another length than its prefix says"));
    }
    let encoding = if prefix[0] == 1 { encoding } else { None };
    let body = decompress(encoding.as_ref().map(HeaderValue::as_bytes), body)?;
    let note = async || intake.arrivals.request(intake.exporter, &body, now_ns);
    let status = match intake.switch.handle(&intake.is_cut, note).await {
        Reply::Taken => 0,
        Reply::Status(status) => status,
        Reply::Nothing => return Ok(()),
    };
    answer(respond, status).map_err(io::Error::other)
}

/// The whole body in one piece.
async fn read_message(mut body: RecvStream) -> io::Result<Bytes> {
    let mut whole = BytesMut::new();
    let mut first = Bytes::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(io::Error::other)?;
        body.flow_control().release_capacity(data.len()).map_err(io::Error::other)?;
        if first.is_empty() && whole.is_empty() {
            first = data;
            continue;
        }
        if whole.is_empty() {
            whole.extend_from_slice(&first);
            first = Bytes::new();
        }
        whole.extend_from_slice(&data);
        if whole.len() > REQUEST_BYTES_MAX {
            return Err(io::Error::other("a request above the sink's limit"));
        }
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

fn answer(mut respond: SendResponse<Bytes>, status: u16) -> Result<(), h2::Error> {
    let mut response = Response::new(());
    let content_type = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(http::header::CONTENT_TYPE, content_type);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(status));
    if status != 0 {
        // Trailers only, as servers answer without a message.
        response.headers_mut().extend(trailers);
        return ignore_cancelled(respond.send_response(response, true).map(drop));
    }
    let sent = respond.send_response(response, false).and_then(|mut stream| {
        stream.send_data(Bytes::from_static(EMPTY_MESSAGE), false)?;
        stream.send_trailers(trailers)
    });
    ignore_cancelled(sent)
}

fn ignore_cancelled(sent: Result<(), h2::Error>) -> Result<(), h2::Error> {
    match sent {
        // The gateway gave up waiting; what was taken is noted all the same.
        Err(error) if error.reason() == Some(Reason::CANCEL) => Ok(()),
        other => other,
    }
}
