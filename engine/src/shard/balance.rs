//! What a shard does with its end of the mesh: parcels and points in, answers out, and whole requests to a less busy shard.
//!
//! gRPC connections are few and last for hours, so a shard may have all the work and its neighbour none. A shard with many
//! requests in hand, or that is busy, hands whole, still compressed requests to a peer that has less; the connection
//! stays, and its shard still answers.

use super::ShardContext;
use super::assemble::Gauges;
use super::mesh::{Inbound, MeshEnd};
use super::parcel::{Failure, Flush, Message, Outcome, Parcel, Points, Request};
use super::pipelines::Pipelines;
use super::runtime;
use crate::pipeline::ack;
use crate::pipeline::client::Client;
use crate::receiver::otlp::OtlpReceiver;
use crate::transport::BodyEncoding;
use crate::transport::patience::Patience;
use bytes::Bytes;
use codecs::grpc::{Code, Status};
use codecs::otlp::Signal;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// This shard's part in the mesh.
#[derive(Debug)]
pub struct Balance {
    mesh: Rc<RefCell<MeshEnd>>,
    /// Something waits to be sent.
    news: Rc<Notify>,
    /// Who waits for requests that went away.
    away: RefCell<Slab<oneshot::Sender<Result<(), Status>>>>,
    /// Requests that this shard has taken and not answered, whichever shard their connections belong to.
    in_hand: Cell<u64>,
    /// Points of other shards that wait for room in their pipelines, with who sent them. Bounded by the windows of the
    /// mesh; their bytes are still their senders'.
    arrivals: RefCell<VecDeque<(usize, Box<Points>)>>,
    gauges: Gauges,
    shard: ShardContext,
}

/// A request in this shard's hands, until it is dropped.
#[derive(Debug)]
pub struct InHand<'a>(&'a Balance);

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.0.count_in_hand(self.0.in_hand.get() - 1);
    }
}

impl Balance {
    /// `news` is what crossings notify.
    pub fn new(mesh: Rc<RefCell<MeshEnd>>, news: Rc<Notify>, gauges: Gauges, shard: ShardContext) -> Rc<Balance> {
        let (away, in_hand, arrivals) = Default::default();
        Rc::new(Balance { mesh, news, away, in_hand, arrivals, gauges, shard })
    }

    /// Hands a request of handler number `handler` to a less busy shard, if this one is busy and there is one: the answer
    /// to wait for. Otherwise the request is the caller's to take.
    pub fn hand_over(
        &self,
        handler: usize,
        signal: Signal,
        body: &Bytes,
        encoding: BodyEncoding,
        client: Option<&Client>,
        wait_max: Option<Duration>,
    ) -> Option<oneshot::Receiver<Result<(), Status>>> {
        let mut mesh = self.mesh.borrow_mut();
        let peer = mesh.relief()?;
        let mut away = self.away.borrow_mut();
        let entry = away.vacant_entry();
        let request = Request {
            receiver: u32::try_from(handler).ok()?,
            signal,
            body: body.clone(),
            encoding,
            ticket: u32::try_from(entry.key()).ok()?,
            client: client.cloned().map(Box::new),
            wait_max,
        };
        mesh.try_send_request(peer, Box::new(request)).ok()?;
        let (reply, answer) = oneshot::channel();
        entry.insert(reply);
        self.shard.cells.add(self.gauges.mesh.balanced_requests, 1);
        self.news.notify_one();
        Some(answer)
    }

    /// Counts a request as being in this shard's hands for as long as the value lives.
    pub fn take_in_hand(&self) -> InHand<'_> {
        self.count_in_hand(self.in_hand.get() + 1);
        InHand(self)
    }

    /// Requests that wait for their answer on this shard.
    pub fn in_hand(&self) -> u64 {
        self.in_hand.get()
    }

    fn count_in_hand(&self, requests: u64) {
        self.in_hand.set(requests);
        self.mesh.borrow_mut().loads().publish_in_hand(requests);
    }

    /// Serves the mesh for as long as the shard lives. Never waits for anything but news.
    pub async fn serve(self: Rc<Self>, pipelines: Rc<RefCell<Pipelines>>, handlers: Vec<Rc<OtlpReceiver>>) {
        let mut inbound = Vec::new();
        loop {
            self.until_news().await;
            self.mesh.borrow_mut().drain(&mut inbound);
            for message in inbound.drain(..) {
                self.obey(message, &pipelines, &handlers);
            }
            self.mesh.borrow_mut().flush();
        }
    }

    async fn until_news(&self) {
        let mut news = pin!(self.news.notified());
        poll_fn(|context| {
            if news.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
            self.mesh.borrow_mut().poll_inbound(context)
        })
        .await;
    }

    fn obey(self: &Rc<Self>, inbound: Inbound, pipelines: &Rc<RefCell<Pipelines>>, handlers: &[Rc<OtlpReceiver>]) {
        match inbound {
            Inbound::Asked { from, message: Message::Parcel(parcel) } => {
                self.shard.cells.add(self.gauges.mesh.received_spans, parcel.spans() as u64);
                let waiting = pipelines.borrow_mut().take_parcel(&parcel);
                let message = Message::Parcel(parcel);
                let Some(waiting) = waiting else {
                    return self.mesh.borrow_mut().answer(from, Outcome::Taken, message);
                };
                let balance = Rc::clone(self);
                runtime::spawn(async move { balance.answer_once_settled(from, message, waiting).await });
            }
            Inbound::Asked { from, message: Message::Request(request) } => {
                let handler = Rc::clone(&handlers[request.receiver as usize]);
                let balance = Rc::clone(self);
                runtime::spawn(async move { balance.take_for_peer(from, request, &handler).await });
            }
            Inbound::Answered { outcome, message: Message::Parcel(parcel), .. } => {
                self.count_sent(&parcel);
                pipelines.borrow_mut().parcel_answered(&parcel, &result_of(outcome));
                self.mesh.borrow_mut().reuse(Message::Parcel(parcel));
            }
            Inbound::Answered { outcome, message: Message::Request(request), .. } => {
                let waiting = self.away.borrow_mut().remove(request.ticket as usize);
                // A connection that is gone has nobody waiting any more.
                drop(waiting.send(result_of(outcome)));
            }
            Inbound::Asked { from, message: Message::Points(points) } => {
                self.shard.cells.add(self.gauges.mesh.received_points, points.points);
                self.arrivals.borrow_mut().push_back((from, points));
                self.take_arrivals(pipelines);
            }
            Inbound::Answered { outcome, message: Message::Points(points), .. } => {
                self.shard.cells.add(self.gauges.mesh.sent_points, points.points);
                self.shard.cells.add(self.gauges.mesh.sent_bytes, points.bytes.len() as u64);
                pipelines.borrow_mut().points_answered(&points, result_of(outcome));
            }
            Inbound::Asked { from, message: Message::Flush(mut flush) } => {
                flush.answer = Some(pipelines.borrow().answer_flush(flush.connector as usize, &flush.ask));
                self.mesh.borrow_mut().answer(from, Outcome::Taken, Message::Flush(flush));
            }
            Inbound::Answered { message: Message::Flush(flush), .. } => {
                let answer = flush.answer.expect("a shard that is asked answers");
                pipelines.borrow_mut().flush_answered(flush.connector as usize, answer);
            }
        }
    }

    /// Takes what other shards sent into the pipelines that have room, in the order in which it came.
    pub fn take_arrivals(self: &Rc<Self>, pipelines: &RefCell<Pipelines>) {
        if self.arrivals.borrow().is_empty() {
            return;
        }
        let mut full = Vec::new();
        let mut waiting = VecDeque::new();
        for (from, points) in self.arrivals.take() {
            if full.contains(&points.pipeline) || !pipelines.borrow().has_room_for(&points) {
                full.push(points.pipeline);
                waiting.push_back((from, points));
                continue;
            }
            let (ack, answer) = ack::open();
            pipelines.borrow_mut().take_points(&points, ack);
            let balance = Rc::clone(self);
            let message = Message::Points(points);
            runtime::spawn(async move { balance.answer_once_settled(from, message, answer).await });
        }
        self.arrivals.replace(waiting);
    }

    /// Sends the answer home once there is one: at once, if a node or a queue owns what came.
    async fn answer_once_settled(&self, from: usize, message: Message, answer: ack::Waiting) {
        let outcome = match answer.await {
            ack::Outcome::Taken => Outcome::Taken,
            ack::Outcome::Failed(status) => failed(status),
        };
        self.mesh.borrow_mut().answer(from, outcome, message);
        self.news.notify_one();
    }

    /// Flushes the connectors that are due, or with `is_last` all that this shard feeds: asks every other shard.
    pub fn flush_connectors(&self, pipelines: &RefCell<Pipelines>, is_last: bool) {
        for (connector, ask) in pipelines.borrow_mut().begin_flushes(is_last) {
            let connector = u32::try_from(connector).expect("connectors are bounded by the configuration");
            let flush = || Message::Flush(Box::new(Flush { connector, ask: ask.clone(), answer: None }));
            if self.mesh.borrow_mut().ask_all(flush) > 0 {
                self.news.notify_one();
            }
        }
    }

    /// Takes a peer's request as if it had come here, and sends the answer home.
    async fn take_for_peer(&self, from: usize, request: Box<Request>, handler: &OtlpReceiver) {
        let client = request.client.as_deref().cloned().map(Rc::new);
        let patience = Patience::limited(request.wait_max);
        let result = handler.take(request.signal, request.body.clone(), request.encoding, client, patience).await;
        let outcome = match result {
            Ok(()) => Outcome::Taken,
            Err(status) => failed(status),
        };
        self.mesh.borrow_mut().answer(from, outcome, Message::Request(request));
        self.news.notify_one();
    }

    fn count_sent(&self, parcel: &Parcel) {
        let bytes: u64 = parcel.index.items.iter().map(|span| u64::from(span.length)).sum();
        self.shard.cells.add(self.gauges.mesh.sent_spans, parcel.spans() as u64);
        self.shard.cells.add(self.gauges.mesh.sent_bytes, bytes);
    }

    /// Publishes how busy this shard is and looks at the others. Once a turn.
    pub fn end_turn(&self, connections: u64) {
        let mut mesh = self.mesh.borrow_mut();
        let loads = mesh.loads();
        loads.publish(runtime::busy_ns(), connections);
        loads.look(self.shard.clock.now_ns());
        let percent = (loads.share(self.shard.number) * 100.0) as u64;
        self.shard.cells.set(self.gauges.shard.busy_percent, percent.min(100));
        if mesh.spans_waiting() > 0 {
            self.shard.cells.add(self.gauges.mesh.waits, 1);
        }
    }

    /// Frees parcels that a burst has left behind.
    pub fn shrink(&self, now_ns: u64) {
        self.mesh.borrow_mut().shrink(now_ns);
    }

    /// Memory of this shard's parcels.
    pub fn bytes_held(&self) -> u64 {
        self.mesh.borrow().held_bytes() as u64
    }

    /// Whether nothing is under way from or to this shard.
    pub fn is_quiet(&self) -> bool {
        self.mesh.borrow().is_idle() && self.away.borrow().is_empty()
    }
}

fn failed(status: Status) -> Outcome {
    Outcome::Failed(Box::new(Failure {
        code: status.code.number(),
        message: status.message,
        retry_after_ns: status.retry_delay.map(|delay| u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX)),
    }))
}

fn result_of(outcome: Outcome) -> Result<(), Status> {
    match outcome {
        Outcome::Taken => Ok(()),
        Outcome::Failed(failure) => {
            let mut status = Status::new(Code::from_number(failure.code), failure.message);
            status.retry_delay = failure.retry_after_ns.map(Duration::from_nanos);
            Err(status)
        }
    }
}
