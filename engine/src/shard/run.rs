//! The life of a shard: sockets, mesh, turns and the inbox, each a task on the same thread.
//!
//! ```text
//! inbox task   connections, scrapes, the steps of a drain        (this function)
//! mesh task    parcels and whole requests in, answers out         before anything else when it is woken
//! turn task    every TURN, or when an export made room: what is due leaves; the lease is brought up to date
//! connections  one task each, one more per request
//! ```

use super::balance::Balance;
use super::inbox::{Command, DrainStep};
use super::pipelines::Pipelines;
use super::runtime::{self, Stream};
use super::{ShardContext, assemble};
use crate::transport::{RequestHandler, grpc_server::GrpcServer, http1_server::Http1Server};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// One step of a shard's time: decisions are at most this late, plus what the turn itself takes.
const TURN: Duration = Duration::from_millis(10);

/// A listener as a shard knows it: which server speaks on it, and who handles its requests.
#[derive(Debug)]
pub enum Server {
    /// OTLP/gRPC.
    Grpc(GrpcServer, Rc<crate::receiver::otlp::OtlpReceiver>),
    /// OTLP/HTTP.
    Http(Http1Server, Rc<crate::receiver::otlp::OtlpReceiver>),
}

/// A shard that has been put together and runs.
#[derive(Debug)]
pub struct Shard {
    context: ShardContext,
    servers: Vec<Server>,
    pipelines: Rc<RefCell<Pipelines>>,
    balance: Rc<Balance>,
    connections: Rc<Cell<usize>>,
    /// Set by the drain: nodes let go of what is not due yet.
    flushing: Cell<bool>,
    seed: assemble::Gauges,
}

impl Shard {
    /// See the fields.
    pub fn new(
        context: ShardContext,
        servers: Vec<Server>,
        pipelines: Rc<RefCell<Pipelines>>,
        balance: Rc<Balance>,
        seed: assemble::Gauges,
    ) -> Rc<Shard> {
        let (connections, flushing) = (Rc::default(), Cell::new(false));
        Rc::new(Shard { context, servers, pipelines, balance, connections, flushing, seed })
    }

    /// Runs until the inbox is closed.
    pub async fn run(self: Rc<Self>, mut inbox: mpsc::Receiver<Command>) {
        let turns = Rc::clone(&self);
        runtime::spawn(async move { turns.take_turns().await });
        let mesh = Rc::clone(&self.balance);
        let pipelines = Rc::clone(&self.pipelines);
        runtime::spawn(async move { mesh.serve_mesh(pipelines).await });
        while let Some(command) = inbox.recv().await {
            self.obey(command);
        }
    }

    fn obey(self: &Rc<Self>, command: Command) {
        match command {
            Command::Connection { listener, socket } => self.connect(listener, socket),
            Command::Snapshot(reply) => drop(reply.send(self.snapshot())),
            Command::Traces(reply) => drop(reply.send(self.kept_traces())),
            Command::Drain(step, reply) => {
                let shard = Rc::clone(self);
                runtime::spawn(async move { shard.drain(step, reply).await });
            }
        }
    }

    /// Serves one connection in a task of its own.
    fn connect(self: &Rc<Self>, listener: usize, socket: std::net::TcpStream) {
        let shard = Rc::clone(self);
        runtime::spawn(async move {
            let Ok(stream) = Stream::from_std(socket) else { return };
            shard.count_connections(1);
            let draining = shard.context.draining.clone();
            match &shard.servers[listener] {
                Server::Grpc(server, receiver) => server.serve(stream, Rc::clone(receiver), draining).await,
                Server::Http(server, receiver) => server.serve(stream, Rc::clone(receiver), draining).await,
            }
            shard.count_connections(-1);
        });
    }

    fn count_connections(&self, change: isize) {
        self.connections.set(self.connections.get().wrapping_add_signed(change));
        self.context.cells.set(self.seed.shard.connections, self.connections.get() as u64);
    }

    /// Time passes: nodes let go of what is due, the lease follows what is held.
    async fn take_turns(self: Rc<Self>) {
        loop {
            let more = self.pipelines.borrow_mut().turn(self.flushing.get());
            self.balance.end_turn();
            self.settle_lease();
            if more {
                runtime::yield_now().await;
            } else {
                runtime::timeout(TURN, self.context.room.notified()).await;
            }
        }
    }
}
