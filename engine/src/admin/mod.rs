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
pub use server::{BindError, Serving, serve};

use crate::config::checked::MetricsLevel;
use crate::exporter::memory::KeptTrace;
use crate::telemetry::cells::Schema;
use crate::telemetry::ledger::Books;
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
pub struct View<S> {
    schema: Schema,
    shards: S,
    level: MetricsLevel,
    /// Labels of `target_info`.
    resource: Vec<(String, String)>,
    /// The log, for what it did not write; `None` where none was started.
    logs: Option<Logs>,
    readiness: Cell<Readiness>,
    /// A page gives up on the shards after this long.
    answer_wait: Duration,
}

impl<S: Shards> View<S> {
    /// A gateway that is starting. `instance_id` is any random number: the name of this process among its equals.
    pub fn new(shards: S, schema: Schema, level: MetricsLevel, logs: Option<Logs>, instance_id: u128) -> View<S> {
        let resource = [
            ("service_instance_id", format!("{instance_id:032x}")),
            ("service_name", "tracegate".to_owned()),
            ("service_version", env!("CARGO_PKG_VERSION").to_owned()),
        ];
        View {
            schema,
            shards,
            level,
            resource: resource.map(|(name, value)| (name.to_owned(), value)).into(),
            logs,
            readiness: Cell::new(Readiness::Starting),
            answer_wait: ANSWER_WAIT,
        }
    }

    /// Changes what `/ready` says.
    pub fn show(&self, readiness: Readiness) {
        self.readiness.set(readiness);
    }

    /// The books of the whole process; `None` if a shard does not answer.
    pub async fn books(&self) -> Option<Books> {
        let answer = tokio::time::timeout(self.answer_wait, self.shards.snapshot()).await;
        answer.ok().map(|shards| Books::read(&self.schema, &self.schema.fold(&shards)))
    }
}

/// How long a page waits for the shards. A shard that takes longer is not alive.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

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
