//! OTLP over HTTP/1.1 for `otlphttp` exporters, and remote write 1.0 for `prometheusremotewrite`.

use std::convert::Infallible;
use std::io;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use tokio::net::TcpStream;

use super::reader::decompress;
use super::switch::Reply;
use super::{Intake, REQUEST_BYTES_MAX};
use crate::io::HyperStream;

/// Where remote write requests go; Prometheus' own.
pub(crate) const WRITE_PATH: &str = "/api/v1/write";

pub(super) async fn serve(socket: TcpStream, intake: Intake) -> io::Result<()> {
    let service = service_fn(move |request| {
        let intake = intake.clone();
        async move { Ok::<_, Infallible>(export(request, &intake).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(HyperStream(socket), service);
    match connection.await {
        Err(error) if !error.is_incomplete_message() => Err(io::Error::other(error)),
        _ => Ok(()),
    }
}

async fn export(request: Request<Incoming>, intake: &Intake) -> Response<Full<Bytes>> {
    let status = match take(request, intake).await {
        Ok(Reply::Taken) => StatusCode::OK,
        Ok(Reply::Status(status)) => StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        // The connection ends, or the gateway gives up: hyper drops this either way.
        Ok(Reply::Nothing) => std::future::pending().await,
        Err(error) => {
            intake.arrivals.broken_connection(&error.to_string());
            StatusCode::BAD_REQUEST
        }
    };
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static("application/x-protobuf");
    response.headers_mut().insert(http::header::CONTENT_TYPE, content_type);
    response
}

async fn take(request: Request<Incoming>, intake: &Intake) -> io::Result<Reply> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, REQUEST_BYTES_MAX).collect().await.map_err(io::Error::other)?.to_bytes();
    let now_ns = intake.clock.now_ns();
    let encoding = head.headers.get("content-encoding").map(HeaderValue::as_bytes);
    let body = decompress(encoding, &body)?;
    let is_write = head.uri.path() == WRITE_PATH;
    if is_write {
        check_write_headers(&head.headers)?;
    }
    let note = async || match is_write {
        true => intake.arrivals.write_request(intake.exporter, &body, now_ns).await,
        false => intake.arrivals.request(intake.exporter, &body, now_ns),
    };
    Ok(intake.switch.handle(&intake.is_cut, note).await)
}

/// What the protocol asks for beside the body (Prometheus remote write specification 1.0, "Protocol").
fn check_write_headers(headers: &HeaderMap) -> io::Result<()> {
    let wanted = [
        ("content-encoding", "snappy"),
        ("content-type", "application/x-protobuf"),
        ("x-prometheus-remote-write-version", "0.1.0"),
    ];
    match wanted.iter().find(|(name, value)| headers.get(*name).is_none_or(|found| found != value)) {
        None => Ok(()),
        Some((name, value)) => Err(io::Error::other(format!("a remote write request whose {name} is not {value}"))),
    }
}
