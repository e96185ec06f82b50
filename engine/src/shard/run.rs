//! The life of a shard: sockets, mesh, turns and the inbox, each a task on the same thread.
//!
//! ```text
//! inbox task   connections, scrapes, the steps of a drain        (this function)
//! mesh task    parcels and whole requests in, answers out         before anything else when it is woken
//! turn task    every TURN, or when an export made room: what is due leaves; the lease is brought up to date
//! connections  one task each, one more per request
//! ```

use super::ShardContext;
use super::allocator;
use super::assemble::Gauges;
use super::balance::Balance;
use super::budget::Holder;
use super::inbox::{Command, DrainStep};
use super::pipelines::Pipelines;
use super::reconfigure::Reconfiguration;
use super::runtime::{self, Socket, Stream};
use crate::exporter::memory::KeptTrace;
use crate::receiver::otlp::OtlpReceiver;
use crate::telemetry::metrics::HandshakeSeries;
use crate::transport::gate::{Fault, Gate, GateStream};
use crate::transport::{grpc_server::GrpcServer, http1_server::HttpServer};
use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// One step of a shard's time: decisions are at most this late, plus what the turn itself takes.
const TURN: Duration = Duration::from_millis(10);

/// The same while no node holds a span: nothing can become due, and the first span wakes the shard.
const IDLE_TURN: Duration = Duration::from_secs(1);

/// How often freed memory is given back to the system.
const GIVE_BACK_EVERY_NS: u64 = 10_000_000_000;

/// How often a drain that ran out of time looks again whether the last attempts have ended. One whose backend stays
/// silent is told as still in flight.
const LAST_TURNS: usize = 50;

/// A listener as a shard knows it: which server speaks on it, and who handles its requests.
#[derive(Debug)]
pub enum Server {
    /// OTLP/gRPC.
    Grpc(GrpcServer, Rc<OtlpReceiver>),
    /// OTLP/HTTP.
    Http(Box<HttpServer>, Rc<OtlpReceiver>),
}

impl Server {
    fn handler(&self) -> Rc<OtlpReceiver> {
        match self {
            Server::Grpc(_, handler) | Server::Http(_, handler) => Rc::clone(handler),
        }
    }
}

/// What connections of each listener pass first, by the listener's number.
#[derive(Debug)]
pub struct Gates {
    /// Shared by all shards.
    pub gates: Arc<Vec<Gate>>,
    /// What they count.
    pub series: Vec<HandshakeSeries>,
}

/// A shard that has been put together and runs.
#[derive(Debug)]
pub struct Shard {
    context: ShardContext,
    gates: Gates,
    servers: Vec<Server>,
    pipelines: Rc<RefCell<Pipelines>>,
    balance: Rc<Balance>,
    /// Open connections of every shard; this one counts its own down, the acceptor up.
    connections: Arc<Vec<AtomicUsize>>,
    /// Set by the drain: nodes let go of what is not due yet.
    flushing: Cell<bool>,
    gauges: Gauges,
    /// What other settings of nodes are made with.
    reconfiguration: Reconfiguration,
}

impl Shard {
    /// See the fields.
    #[expect(clippy::too_many_arguments, reason = "a shard is put together in one place, of one of each")]
    pub fn new(
        context: ShardContext,
        gates: Gates,
        servers: Vec<Server>,
        pipelines: Rc<RefCell<Pipelines>>,
        balance: Rc<Balance>,
        gauges: Gauges,
        connections: Arc<Vec<AtomicUsize>>,
        reconfiguration: Reconfiguration,
    ) -> Rc<Shard> {
        let flushing = Cell::new(false);
        Rc::new(Shard { context, gates, servers, pipelines, balance, connections, flushing, gauges, reconfiguration })
    }

    /// Runs until the inbox is closed.
    pub async fn run(self: Rc<Self>, mut inbox: mpsc::Receiver<Command>) {
        let turns = Rc::clone(&self);
        runtime::spawn(async move { turns.take_turns().await });
        let mesh = Rc::clone(&self.balance);
        let pipelines = Rc::clone(&self.pipelines);
        let handlers = self.servers.iter().map(Server::handler).collect();
        runtime::spawn(async move { mesh.serve(pipelines, handlers).await });
        while let Some(command) = inbox.recv().await {
            self.obey(command);
        }
    }

    fn obey(self: &Rc<Self>, command: Command) {
        match command {
            Command::Connection { listener, socket } => self.connect(listener, socket),
            Command::Snapshot(reply) => drop(reply.send(self.snapshot())),
            Command::Traces(reply) => drop(reply.send(self.kept_traces())),
            Command::SpanMetrics(reply) => drop(reply.send(self.pipelines.borrow().span_metrics())),
            Command::Explain(digits, reply) => drop(reply.send(self.pipelines.borrow().explain(&digits))),
            Command::Forget(connector, forgotten) => self.pipelines.borrow().forget(connector, &forgotten),
            Command::Tasks(reply) => drop(reply.send(runtime::tasks::kinds())),
            Command::MayReconfigure(successor, reply) => {
                // The control thread may have ended.
                let _ = reply.send(self.reconfiguration.may_apply(&successor, &self.pipelines.borrow()));
            }
            Command::Reconfigure(successor, reply) => {
                self.reconfiguration.apply(&successor, &self.pipelines.borrow());
                let _ = reply.send(());
            }
            Command::Drain(step, reply) => {
                let shard = Rc::clone(self);
                runtime::spawn(async move { shard.drain(step, reply).await });
            }
        }
    }

    /// Serves one connection in a task of its own.
    fn connect(self: &Rc<Self>, listener: usize, socket: Socket) {
        let shard = Rc::clone(self);
        runtime::spawn(async move {
            let peer = socket.peer();
            if let Ok(stream) = Stream::from_socket(socket) {
                shard.serve(listener, stream, peer).await;
            }
            shard.open_connections().fetch_sub(1, Ordering::Relaxed);
        });
    }

    async fn serve(&self, listener: usize, stream: Stream, peer: Option<IpAddr>) {
        let draining = self.context.draining.clone();
        let gate = &self.gates.gates[listener];
        // A handshake's state is large and short-lived: in a box it is not part of every open connection.
        let entered = if gate.has_tls() { Box::pin(self.enter(gate, stream)).await } else { Ok(gate.plain(stream)) };
        let stream = match entered {
            Ok(stream) => stream,
            Err(fault) => return self.refused(listener, fault, peer),
        };
        if let Some(opened) = self.gates.series[listener].opened {
            self.context.cells.add(opened, 1);
        }
        let first = stream.first_bytes();
        match &self.servers[listener] {
            Server::Grpc(server, receiver) => server.serve(stream, receiver.connected(peer), draining).await,
            Server::Http(server, receiver) => server.serve(stream, receiver.connected(peer), draining).await,
        }
        self.refused(listener, gate.leave(&first), peer);
    }

    /// Lets a connection in, or not, within the time that the listener gives it.
    async fn enter(&self, gate: &Gate, stream: Stream) -> Result<GateStream<Stream>, Option<Fault>> {
        let until = async {
            let drained = pin!(self.context.draining.started());
            runtime::timeout(gate.handshake_max(), drained).await.is_none().then(Fault::timeout)
        };
        gate.enter(stream, until).await
    }

    /// Counts a connection that was not let in, and says why.
    fn refused(&self, listener: usize, fault: Option<Fault>, peer: Option<IpAddr>) {
        let Some(fault) = fault else { return };
        if let Some(failed) = self.gates.series[listener].failed(fault.kind) {
            self.context.cells.add(failed, 1);
        }
        self.gates.gates[listener].say(&fault, peer, self.context.clock.now_ns());
    }

    /// Counted up by the acceptor, so that two connections accepted in a row go to two shards.
    fn open_connections(&self) -> &AtomicUsize {
        &self.connections[self.context.number]
    }

    /// Time passes: nodes let go of what is due, the lease follows what is held.
    async fn take_turns(self: Rc<Self>) {
        let mut given_back_ns = self.context.clock.now_ns();
        loop {
            let now_ns = self.context.clock.now_ns();
            if now_ns - given_back_ns >= GIVE_BACK_EVERY_NS {
                given_back_ns = now_ns;
                allocator::give_back();
            }
            let more = self.pipelines.borrow_mut().turn(self.flushing.get());
            self.balance.take_arrivals(&self.pipelines);
            self.balance.flush_connectors(&self.pipelines, false);
            self.balance.end_turn(self.open_connections().load(Ordering::Relaxed) as u64);
            self.settle_lease();
            if more {
                runtime::yield_now().await;
                continue;
            }
            runtime::timeout(self.until_next_turn(), self.context.room.notified()).await;
        }
    }
}

impl Shard {
    /// How long nothing becomes due.
    fn until_next_turn(&self) -> Duration {
        let pipelines = self.pipelines.borrow();
        if !self.context.pace.may_rest(pipelines.nodes_are_empty()) {
            return TURN;
        }
        let flush = pipelines.next_flush_ns().map(|next_ns| next_ns.saturating_sub(self.context.clock.now_ns()));
        flush.map_or(IDLE_TURN, |wait_ns| Duration::from_nanos(wait_ns).clamp(TURN, IDLE_TURN))
    }

    /// Brings the lease up to date with what is held, and shows it.
    fn settle_lease(&self) {
        let context = &self.context;
        let (tables, nodes) = self.pipelines.borrow().bytes_held();
        let now_ns = context.clock.now_ns();
        context.lease.pass(now_ns);
        context.buffers.shrink(now_ns);
        self.balance.shrink(now_ns);
        let held = [
            (Holder::Requests, context.buffers.out_bytes() as u64),
            (Holder::Buffers, context.buffers.kept_bytes() as u64),
            (Holder::Mesh, self.balance.bytes_held()),
            (Holder::TraceTable, tables),
            (Holder::Batch, nodes),
            (Holder::SpanMetrics, self.pipelines.borrow().span_metrics_bytes()),
            (Holder::Caches, self.pipelines.borrow().queues().iter().map(|queue| queue.cache_bytes()).sum()),
        ];
        for (holder, bytes) in held {
            context.lease.set(holder, bytes);
        }
        context.lease.settle();
    }

    /// All cells, with what is only known when it is asked for.
    fn snapshot(&self) -> Vec<u64> {
        self.pipelines.borrow().show_in_flight();
        let cells = &self.context.cells;
        cells.set(self.gauges.shard.connections, self.open_connections().load(Ordering::Relaxed) as u64);
        let budget = &self.gauges.budget;
        for holder in Holder::ALL {
            cells.set(budget.bytes(holder), self.context.lease.held(holder));
        }
        cells.set(budget.leased_bytes, self.context.lease.charged_bytes());
        if self.context.number == 0 {
            cells.set(budget.limit_bytes, self.context.lease.budget().limit_bytes());
        }
        cells.snapshot()
    }

    fn kept_traces(&self) -> Vec<KeptTrace> {
        self.pipelines.borrow().queues().iter().flat_map(|queue| queue.kept_traces()).collect()
    }

    /// One step of the drain; answers when it is reached.
    async fn drain(self: Rc<Self>, step: DrainStep, reached: oneshot::Sender<()>) {
        match step {
            DrainStep::Requests => {
                self.context.draining.begin();
                // A record of a file has no connection.
                let left =
                    |shard: &Shard| shard.open_connections().load(Ordering::Relaxed) as u64 + shard.balance.in_hand();
                self.until(|shard| left(shard) == 0).await;
            }
            DrainStep::Mesh => self.until(|shard| shard.balance.is_quiet()).await,
            DrainStep::Nodes => {
                self.flushing.set(true);
                self.context.room.notify_one();
                self.until(|shard| shard.pipelines.borrow().nodes_are_empty() && shard.balance.is_quiet()).await;
            }
            DrainStep::Connectors => {
                self.until(|shard| {
                    shard.balance.flush_connectors(&shard.pipelines, true);
                    shard.pipelines.borrow().flushes_have_ended()
                })
                .await;
            }
            // What came from another shard may have passed through nodes of this one meanwhile.
            DrainStep::Queues => {
                self.until(|shard| {
                    let pipelines = shard.pipelines.borrow();
                    pipelines.nodes_are_empty() && pipelines.queues_are_empty()
                })
                .await;
            }
            DrainStep::GiveUp => self.give_up().await,
        }
        // The control thread may have stopped waiting for this step.
        let _ = reached.send(());
    }

    /// Looks once a turn whether `done` holds. The drain's own time limit ends the wait from outside.
    async fn until(&self, done: impl Fn(&Shard) -> bool) {
        while !done(self) && !self.context.giving_up.has_begun() {
            runtime::sleep(TURN).await;
        }
    }

    /// Counts what is left as failed, so that the books balance.
    async fn give_up(&self) {
        self.context.giving_up.begin();
        for queue in self.pipelines.borrow().queues() {
            queue.abandon();
        }
        for _ in 0..LAST_TURNS {
            if self.balance.is_quiet() && self.pipelines.borrow().queues().iter().all(|queue| queue.is_settled()) {
                break;
            }
            runtime::sleep(TURN).await;
        }
    }
}
