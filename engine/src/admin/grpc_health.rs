//! The standard health service over gRPC (`grpc.health.v1.Health/Check`), for the second health check.
//!
//! The empty service is the whole gateway, any other the pipeline of that name; one we do not have is NOT_FOUND. `Watch`
//! is not there. A connection is asked to leave after a while, so that idle ones do not fill the few places.

use std::rc::Rc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use codecs::grpc::{Code, PREFIX_BYTES, Status, prefix, read_prefix};
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};

use super::health::Health;
use super::{Shards, View};

const CHECK: &str = "/grpc.health.v1.Health/Check";
/// Calls at the same time on one connection.
const CALLS_MAX: u32 = 16;
const HEAD_BYTES_MAX: u32 = 16 << 10;
/// A request is the name of a pipeline.
const REQUEST_BYTES_MAX: usize = 4 << 10;
/// Below the time after which the server hangs up.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(10);

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    /// [`SERVING`] or [`NOT_SERVING`].
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;
const NOT_SERVING: i32 = 2;

/// Answers calls until the peer leaves.
pub(super) async fn answer<IO, S>(io: IO, view: Rc<View<S>>) -> Result<(), h2::Error>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    S: Shards + 'static,
{
    let handshake = h2::server::Builder::new()
        .max_concurrent_streams(CALLS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX)
        .max_concurrent_reset_streams(CALLS_MAX as usize)
        .max_pending_accept_reset_streams(CALLS_MAX as usize)
        .handshake(io);
    let mut connection = handshake.await?;
    let age = tokio::time::sleep(CONNECTION_AGE_MAX);
    tokio::pin!(age);
    let mut young = true;
    loop {
        tokio::select! {
            accepted = connection.accept() => {
                let Some(accepted) = accepted else { return Ok(()) };
                let (request, respond) = accepted?;
                let view = Rc::clone(&view);
                // A peer that leaves early is no news for anybody.
                tokio::task::spawn_local(async move { call(request, respond, &view).await.ok() });
            }
            () = &mut age, if young => {
                young = false;
                connection.graceful_shutdown();
            }
        }
    }
}

async fn call<S: Shards>(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    view: &View<S>,
) -> Result<(), h2::Error> {
    let outcome = match request.uri().path() {
        CHECK => match message(request.into_body()).await? {
            Some(request) => serving(view, &request.service).await,
            None => Err(Status::new(Code::InvalidArgument, "the request is no HealthCheckRequest")),
        },
        _ => Err(Status::new(Code::Unimplemented, "only grpc.health.v1.Health/Check is there")),
    };
    let mut response = Response::new(());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    match outcome {
        Ok(status) => {
            let mut stream = respond.send_response(response, false)?;
            stream.send_data(framed(&HealthCheckResponse { status }), false)?;
            stream.send_trailers(trailers(Code::Ok, ""))
        }
        Err(status) => {
            response.headers_mut().extend(trailers(status.code, &status.percent_encoded_message()));
            respond.send_response(response, true).map(drop)
        }
    }
}

/// The one message of a call; `None` if it is too large, compressed or something else.
async fn message(mut body: RecvStream) -> Result<Option<HealthCheckRequest>, h2::Error> {
    let mut bytes = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data?;
        if bytes.len() + data.len() > REQUEST_BYTES_MAX {
            return Ok(None);
        }
        bytes.extend_from_slice(&data);
        body.flow_control().release_capacity(data.len())?;
    }
    let Some((head, message)) = bytes.split_first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    let plain = read_prefix(head) == Some((false, message.len()));
    Ok(HealthCheckRequest::decode(message).ok().filter(|_| plain))
}

async fn serving<S: Shards>(view: &View<S>, service: &str) -> Result<i32, Status> {
    if !service.is_empty() && !view.pipelines.iter().any(|pipeline| pipeline.id == service) {
        return Err(Status::new(Code::NotFound, "there is no pipeline of that name"));
    }
    Ok(if view.health().await == Health::Ok { SERVING } else { NOT_SERVING })
}

fn framed(message: &HealthCheckResponse) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_slice(&prefix(false, message.encoded_len()));
    message.encode(&mut bytes).expect("the buffer grows");
    bytes.freeze()
}

fn trailers(code: Code, message: &str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(code.number()));
    if let Ok(message) = HeaderValue::from_str(message)
        && !message.is_empty()
    {
        trailers.insert("grpc-message", message);
    }
    trailers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::Readiness;
    use crate::admin::pages::tests::view;

    /// What a call of `path` for `service` gives: the gRPC status, and the serving status if there is one.
    async fn ask(send: &mut h2::client::SendRequest<Bytes>, path: &str, service: &str) -> (u32, Option<i32>) {
        let request = Request::post(format!("http://test{path}")).body(()).unwrap();
        let (response, mut body) = send.send_request(request, false).unwrap();
        let message = HealthCheckRequest { service: service.to_owned() }.encode_to_vec();
        let framed = [&prefix(false, message.len())[..], &message].concat();
        body.send_data(framed.into(), true).unwrap();
        let (head, mut body) = response.await.unwrap().into_parts();
        let data = body.data().await.map(|data| data.unwrap());
        let trailers = body.trailers().await.unwrap().unwrap_or(head.headers);
        let code = trailers["grpc-status"].to_str().unwrap().parse().unwrap();
        (code, data.map(|data| HealthCheckResponse::decode(&data[PREFIX_BYTES..]).unwrap().status))
    }

    #[test]
    fn the_standard_health_service_tells_of_the_gateway_and_of_each_pipeline() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let view = Rc::new(view());
            let (ours, theirs) = tokio::io::duplex(64 << 10);
            tokio::task::spawn_local(answer(ours, Rc::clone(&view)));
            let (mut send, connection) = h2::client::handshake(theirs).await.unwrap();
            tokio::task::spawn_local(connection);
            assert_eq!(ask(&mut send, CHECK, "").await, (0, Some(NOT_SERVING)), "still starting");
            view.show(Readiness::Ready);
            assert_eq!(ask(&mut send, CHECK, "").await, (0, Some(SERVING)));
            assert_eq!(ask(&mut send, CHECK, "traces/out").await, (0, Some(SERVING)));
            assert_eq!(ask(&mut send, CHECK, "traces/none").await, (Code::NotFound.number(), None));
            let watch = ask(&mut send, "/grpc.health.v1.Health/Watch", "").await;
            assert_eq!(watch, (Code::Unimplemented.number(), None));
            view.show(Readiness::Draining);
            assert_eq!(ask(&mut send, CHECK, "traces/out").await, (0, Some(NOT_SERVING)));
        });
    }
}
