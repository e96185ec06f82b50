//! What the control thread may ask of a shard. Asked through a bounded queue, answered between two batches.

use super::reconfigure::Successor;
use super::runtime::Socket;
use super::runtime::tasks::TaskKind;
use crate::connector::span_metrics::{Forgotten, Snapshot};
use crate::exporter::memory::KeptTrace;
use crate::processor::explanation::Explanation;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Requests that may wait for a shard; the control thread waits when there are more.
pub const INBOX_MAX: usize = 1024;

/// One request of the control thread.
#[derive(Debug)]
pub enum Command {
    /// A connection that the acceptor gives to this shard.
    Connection {
        /// Which listener accepted it.
        listener: usize,
        /// The socket.
        socket: Socket,
    },
    /// All cells, as they are between two batches.
    Snapshot(oneshot::Sender<Vec<u64>>),
    /// The traces kept in memory.
    Traces(oneshot::Sender<Vec<KeptTrace>>),
    /// The series of every `span_metrics` connector, by its number in the configuration.
    SpanMetrics(oneshot::Sender<Vec<Snapshot>>),
    /// Series that no shard needs any more: the connector's number, and which.
    Forget(usize, Arc<Forgotten>),
    /// How traces were decided whose ids begin with these digits, with the number of the pipeline.
    Explain(Arc<str>, oneshot::Sender<Vec<(usize, Explanation)>>),
    /// The tasks under way, by kind.
    Tasks(oneshot::Sender<Vec<TaskKind>>),
    /// Whether every node that another configuration changes can take it now.
    MayReconfigure(Arc<Successor>, oneshot::Sender<bool>),
    /// Another configuration; answered when it is in force. Asked only after all shards have said that they may.
    Reconfigure(Arc<Successor>, oneshot::Sender<()>),
    /// A step of the drain; answered when the shard has reached it.
    Drain(DrainStep, oneshot::Sender<()>),
}

/// The steps of a drain, in order; every shard reaches one before the next begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainStep {
    /// Connections are told to leave; every request that came in is answered.
    Requests,
    /// Nothing is under way on the mesh.
    Mesh,
    /// Every held span has left its node: samplers have decided, batches are flushed.
    Nodes,
    /// What connectors have counted has gone into the pipelines that they feed.
    Connectors,
    /// Every queue is empty.
    Queues,
    /// Time is over: what is still held is counted as failed.
    GiveUp,
}

/// The control thread's end.
pub type Inbox = mpsc::Sender<Command>;
