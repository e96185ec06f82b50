//! What people and scrapers ask of a running gateway, over HTTP on the control thread.
//!
//! ```text
//! metrics address: /metrics
//! admin address:   /  /ledger  /traces  /traces/<id>  /ready  /live
//!                        |
//! control thread --ask--> inbox of each shard --answered between two batches--> snapshot, kept traces
//! ```
//!
//! `pages` knows what is said, `server` knows sockets. Nothing here is on the data path, and a shard that does not
//! answer costs a page, never a wait without end.

mod pages;
mod server;

use std::cell::Cell;
use std::future::Future;
use std::time::Duration;

pub use pages::{Face, Page};
pub use server::serve;

use crate::config::checked::MetricsLevel;
use crate::exporter::memory::KeptTrace;
use crate::telemetry::cells::Schema;
use crate::telemetry::logs::Logs;

/// The shards, as the control thread reaches them.
pub trait Shards {
    /// A copy of every shard's cells, in the order of the shards.
    fn snapshot(&self) -> impl Future<Output = Vec<Vec<u64>>>;

    /// The kept traces of every shard, in any order; empty without a memory exporter.
    fn traces(&self) -> impl Future<Output = Vec<KeptTrace>>;
}

/// What the pages are made of.
#[derive(Debug)]
pub struct Admin<S> {
    /// All series.
    pub schema: Schema,
    /// How to reach the shards.
    pub shards: S,
    /// How much `/metrics` shows.
    pub level: MetricsLevel,
    /// Labels of `target_info`, such as `service_name`.
    pub resource: Vec<(String, String)>,
    /// The log, for what it did not write; `None` where none was started.
    pub logs: Option<Logs>,
    /// What `/ready` says.
    pub readiness: Cell<Readiness>,
    /// A page gives up on the shards after this long; [`ANSWER_WAIT`] outside of tests.
    pub answer_wait: Duration,
}

/// How long a page waits for the shards. A shard that takes longer is not alive.
pub const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// Whether senders should send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Not all shards listen yet.
    Starting,
    /// Send.
    Ready,
    /// Finishing what was accepted; send elsewhere.
    Draining,
}
