//! The standard health service over gRPC (`grpc.health.v1.Health`), for the second health check.
//!
//! The empty service is the whole gateway, any other the pipeline of that name. One we do not have is NOT_FOUND to
//! `Check`; `Watch` tells SERVICE_UNKNOWN and goes on, as the protocol says. A connection is asked to leave after a while,
//! so that idle ones do not fill the few places, unless somebody watches on it: then it is asked for signs of life.

use std::cell::Cell;
use std::future::poll_fn;
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
const WATCH: &str = "/grpc.health.v1.Health/Watch";
/// Calls that watch, on all connections together: half of the places stay for others.
const WATCHERS_MAX: usize = 16;
/// How often a watcher looks whether a shard is stuck; that the gateway is ready or draining it hears at once.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Calls at the same time on one connection.
const CALLS_MAX: u32 = 16;
const HEAD_BYTES_MAX: u32 = 16 << 10;
/// A request is the name of a pipeline.
const REQUEST_BYTES_MAX: usize = 4 << 10;
/// Then a connection has to leave, or to give a sign of life if somebody watches on it.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(10);
/// From then until the server hangs up.
const LEAVE_MAX: Duration = Duration::from_secs(5);

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    /// [`SERVING`], [`NOT_SERVING`] or [`SERVICE_UNKNOWN`].
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;
const NOT_SERVING: i32 = 2;
const SERVICE_UNKNOWN: i32 = 3;

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
    let mut connection =
        tokio::time::timeout(CONNECTION_AGE_MAX, handshake).await.map_err(|_| h2::Reason::CANCEL)??;
    let mut pings = connection.ping_pong().expect("nobody else has taken it");
    let watching = Rc::new(Cell::new(0));
    let age = tokio::time::sleep(CONNECTION_AGE_MAX);
    tokio::pin!(age);
    let (mut leaving, mut awaits_pong) = (false, false);
    loop {
        tokio::select! {
            accepted = connection.accept() => {
                let Some(accepted) = accepted else { return Ok(()) };
                let (request, respond) = accepted?;
                let (view, watching) = (Rc::clone(&view), Rc::clone(&watching));
                // A peer that leaves early is no news for anybody.
                tokio::task::spawn_local(async move { call(request, respond, &view, &watching).await.ok() });
            }
            pong = poll_fn(|context| pings.poll_pong(context)), if awaits_pong => {
                pong?;
                awaits_pong = false;
            }
            () = &mut age => {
                // It had time to leave, or to say that it lives.
                if leaving || awaits_pong {
                    return Ok(());
                }
                if watching.get() == 0 {
                    leaving = true;
                    connection.graceful_shutdown();
                } else {
                    pings.send_ping(h2::Ping::opaque())?;
                    awaits_pong = true;
                }
                let wait = if leaving { LEAVE_MAX } else { CONNECTION_AGE_MAX };
                age.as_mut().reset(tokio::time::Instant::now() + wait);
            }
        }
    }
}

async fn call<S: Shards>(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    view: &View<S>,
    watching: &Cell<usize>,
) -> Result<(), h2::Error> {
    let path = request.uri().path();
    let outcome = match path {
        CHECK | WATCH => {
            let watches = path == WATCH;
            match message(request.into_body()).await? {
                Some(request) if watches => match Watcher::enter(view, watching) {
                    Some(_watcher) => return watch(view, &request.service, &mut respond).await,
                    None => Err(Status::new(Code::ResourceExhausted, format!("{WATCHERS_MAX} others watch already"))),
                },
                Some(request) => serving(view, &request.service).await,
                None => Err(Status::new(Code::InvalidArgument, "the request is no HealthCheckRequest")),
            }
        }
        _ => Err(Status::new(Code::Unimplemented, "only Check and Watch of grpc.health.v1.Health are there")),
    };
    let mut response = head();
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

fn head() -> Response<()> {
    let mut response = Response::new(());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// A call that watches: its place among all, and among those of its connection, given back when dropped.
struct Watcher<'a> {
    all: &'a Cell<usize>,
    here: &'a Cell<usize>,
}

impl<'a> Watcher<'a> {
    fn enter<S>(view: &'a View<S>, here: &'a Cell<usize>) -> Option<Watcher<'a>> {
        let all = &view.watchers;
        if all.get() >= WATCHERS_MAX {
            return None;
        }
        all.set(all.get() + 1);
        here.set(here.get() + 1);
        Some(Watcher { all, here })
    }
}

impl Drop for Watcher<'_> {
    fn drop(&mut self) {
        self.all.set(self.all.get() - 1);
        self.here.set(self.here.get() - 1);
    }
}

/// Tells how a service is, and again when that changes, until the peer leaves.
async fn watch<S: Shards>(view: &View<S>, service: &str, respond: &mut SendResponse<Bytes>) -> Result<(), h2::Error> {
    let mut changes = view.changes.subscribe();
    let mut stream = respond.send_response(head(), false)?;
    let mut told = None;
    loop {
        changes.borrow_and_update();
        let status = serving(view, service).await.unwrap_or(SERVICE_UNKNOWN);
        if told.replace(status) != Some(status) {
            stream.send_data(framed(&HealthCheckResponse { status }), false)?;
        }
        tokio::select! {
            _ = changes.changed() => {}
            () = tokio::time::sleep(WATCH_EVERY) => {}
            _ = poll_fn(|context| stream.poll_reset(context)) => return Ok(()),
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

    /// A call that watches `service`; its answers come one after the other.
    async fn begin_watch(send: &mut h2::client::SendRequest<Bytes>, service: &str) -> (http::HeaderMap, RecvStream) {
        let request = Request::post(format!("http://test{WATCH}")).body(()).unwrap();
        let (response, mut body) = send.send_request(request, false).unwrap();
        let message = HealthCheckRequest { service: service.to_owned() }.encode_to_vec();
        body.send_data([&prefix(false, message.len())[..], &message].concat().into(), true).unwrap();
        let (head, body) = response.await.unwrap().into_parts();
        (head.headers, body)
    }

    async fn next_status(body: &mut RecvStream) -> i32 {
        let data = body.data().await.unwrap().unwrap();
        HealthCheckResponse::decode(&data[PREFIX_BYTES..]).unwrap().status
    }

    #[test]
    fn who_watches_hears_of_every_change_and_only_so_many_may() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let view = Rc::new(view());
            let (ours, theirs) = tokio::io::duplex(64 << 10);
            tokio::task::spawn_local(answer(ours, Rc::clone(&view)));
            let (mut send, connection) = h2::client::handshake(theirs).await.unwrap();
            tokio::task::spawn_local(connection);
            let (_, mut gateway) = begin_watch(&mut send, "").await;
            let (_, mut unknown) = begin_watch(&mut send, "traces/none").await;
            assert_eq!(next_status(&mut gateway).await, NOT_SERVING, "still starting");
            assert_eq!(next_status(&mut unknown).await, SERVICE_UNKNOWN);
            view.show(Readiness::Ready);
            assert_eq!(next_status(&mut gateway).await, SERVING);
            view.show(Readiness::Draining);
            assert_eq!(next_status(&mut gateway).await, NOT_SERVING);
            let (ours, theirs) = tokio::io::duplex(64 << 10);
            tokio::task::spawn_local(answer(ours, Rc::clone(&view)));
            let (mut others, connection) = h2::client::handshake(theirs).await.unwrap();
            tokio::task::spawn_local(connection);
            let mut watchers = Vec::new();
            for _ in 2..WATCHERS_MAX {
                let (_, mut body) = begin_watch(&mut others, "").await;
                assert_eq!(next_status(&mut body).await, NOT_SERVING);
                watchers.push(body);
            }
            let (refused, _) = begin_watch(&mut others, "").await;
            assert_eq!(refused["grpc-status"], HeaderValue::from(Code::ResourceExhausted.number()));
            drop(unknown);
            while view.watchers.get() == WATCHERS_MAX {
                tokio::task::yield_now().await;
            }
            let (_, mut body) = begin_watch(&mut others, "").await;
            assert_eq!(next_status(&mut body).await, NOT_SERVING);
        });
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
            let list = ask(&mut send, "/grpc.health.v1.Health/List", "").await;
            assert_eq!(list, (Code::Unimplemented.number(), None));
            view.show(Readiness::Draining);
            assert_eq!(ask(&mut send, CHECK, "traces/out").await, (0, Some(NOT_SERVING)));
        });
    }
}
