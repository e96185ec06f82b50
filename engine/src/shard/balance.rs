//! What a shard does with its end of the mesh: parcels and points in, answers out, and whole requests to a less busy shard.
//!
//! gRPC connections are few and last for hours, so a shard may have all the work and its neighbour none. A shard with many
//! requests in hand, or that is busy, hands whole, still compressed requests to a peer that has less; the connection
//! stays, and its shard still answers.

use super::ShardContext;
use super::assemble::Gauges;
use super::mesh::{Inbound, MeshEnd};
use super::parcel::{Failure, Flush, Given, Message, Outcome, Parcel, Points, Request};
use super::pipelines::Pipelines;
use super::runtime;
use crate::pipeline::ack;
use crate::pipeline::client::Client;
use crate::receiver::otlp::OtlpReceiver;
use crate::transport::BodyEncoding;
use crate::transport::patience::{Patience, Presence};
use bytes::Bytes;
use codecs::grpc::{Code, Status};
use codecs::otlp::Signal;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
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
    /// Messages of other shards, by who sent them, whose answers wait for what is behind this shard's pipelines: dropping one
    /// says that nobody waits for it any more. Bounded by the windows of the mesh.
    awaited: RefCell<BTreeMap<(usize, Given), Presence>>,
    /// Requests that this shard has taken and not answered, whichever shard their connections belong to.
    in_hand: Cell<u64>,
    /// Points of other shards that wait for room in their pipelines, with who sent them. Bounded by the windows of the
    /// mesh; their bytes are still their senders'.
    arrivals: RefCell<VecDeque<(usize, Box<Points>)>>,
    gauges: Gauges,
    shard: ShardContext,
}

/// A request that another shard has taken, until its answer.
#[derive(Debug)]
pub struct Away {
    peer: usize,
    given: Given,
    answer: oneshot::Receiver<Result<(), Status>>,
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
        let (away, awaited, in_hand, arrivals) = Default::default();
        Rc::new(Balance { mesh, news, away, awaited, in_hand, arrivals, gauges, shard })
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
    ) -> Option<Away> {
        let mut mesh = self.mesh.borrow_mut();
        let peer = mesh.relief()?;
        let mut away = self.away.borrow_mut();
        let entry = away.vacant_entry();
        let given = Given { pipeline: None, ticket: u32::try_from(entry.key()).ok()? };
        let request = Request {
            receiver: u32::try_from(handler).ok()?,
            signal,
            body: body.clone(),
            encoding,
            ticket: given.ticket,
            client: client.cloned().map(Box::new),
            wait_max,
        };
        mesh.try_send_request(peer, Box::new(request)).ok()?;
        let (reply, answer) = oneshot::channel();
        entry.insert(reply);
        self.shard.cells.add(self.gauges.mesh.balanced_requests, 1);
        self.news.notify_one();
        Some(Away { peer, given, answer })
    }

    /// Waits for the answer to a request that was handed over, as long as its sender does; then the peer is told.
    pub async fn answer(&self, away: Away, patience: Patience) -> Result<(), Status> {
        let Away { peer, given, answer } = away;
        match patience.during(answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => {
                let again = Duration::from_secs(1).mul_f64(1.0 + fastrand::f64());
                Err(Status::new(Code::Unavailable, "the gateway is shutting down").retry_after(again))
            }
            Err(status) => {
                self.mesh.borrow_mut().send_given_up(peer, given);
                self.news.notify_one();
                Err(status)
            }
        }
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
                runtime::spawn(async move { balance.answer_settled(from, message, Ok(waiting.await)) });
            }
            Inbound::Asked { from, message: Message::Request(request) } => {
                let handler = Rc::clone(&handlers[request.receiver as usize]);
                let given = Given { pipeline: None, ticket: request.ticket };
                let patience = self.await_for(from, given, request.wait_max);
                let balance = Rc::clone(self);
                runtime::spawn(async move { balance.take_for_peer(from, request, &handler, patience).await });
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
            Inbound::Asked { from, message: Message::GivenUp(given) } => {
                self.give_up(from, given, pipelines);
                self.mesh.borrow_mut().answer(from, Outcome::Taken, Message::GivenUp(given));
            }
            Inbound::Answered { message: Message::GivenUp(_), .. } => {}
        }
    }

    /// The patience of who sent this message to the shard that it comes from, which says when they are gone.
    fn await_for(&self, from: usize, given: Given, wait_max: Option<Duration>) -> Patience {
        let (patience, presence) = Patience::of_sender(wait_max);
        self.awaited.borrow_mut().insert((from, given), presence);
        patience
    }

    /// Lets go of a message of another shard, unless it is answered already. What waits outside the pipelines goes home.
    fn give_up(&self, from: usize, given: Given, pipelines: &RefCell<Pipelines>) {
        drop(self.awaited.borrow_mut().remove(&(from, given)));
        let is_it = |points: &Points| given == Given { pipeline: Some(points.pipeline), ticket: points.ticket };
        let mut arrivals = self.arrivals.borrow_mut();
        let place = arrivals.iter().position(|(sender, points)| *sender == from && is_it(points));
        if let Some((from, points)) = place.and_then(|place| arrivals.remove(place)) {
            let outcome = failed(Status::new(Code::Cancelled, "the sender went away before the answer"));
            pipelines.borrow().book_given_up(&points);
            self.mesh.borrow_mut().answer(from, outcome, Message::Points(points));
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
            let given = Given { pipeline: Some(points.pipeline), ticket: points.ticket };
            let answer = self.await_for(from, given, None).during(answer);
            let balance = Rc::clone(self);
            let message = Message::Points(points);
            runtime::spawn(async move {
                let answer = answer.await;
                balance.awaited.borrow_mut().remove(&(from, given));
                balance.answer_settled(from, message, answer);
            });
        }
        self.arrivals.replace(waiting);
    }

    /// Sends the answer home: it comes at once, if a node or a queue owns what came now.
    fn answer_settled(&self, from: usize, message: Message, answer: Result<ack::Outcome, Status>) {
        let outcome = match answer {
            Ok(ack::Outcome::Taken) => Outcome::Taken,
            Ok(ack::Outcome::Failed(status)) | Err(status) => failed(status),
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
    async fn take_for_peer(&self, from: usize, request: Box<Request>, handler: &OtlpReceiver, patience: Patience) {
        let client = request.client.as_deref().cloned().map(Rc::new);
        let result = handler.take(request.signal, request.body.clone(), request.encoding, client, patience).await;
        let outcome = match result {
            Ok(()) => Outcome::Taken,
            Err(status) => failed(status),
        };
        self.awaited.borrow_mut().remove(&(from, Given { pipeline: None, ticket: request.ticket }));
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
