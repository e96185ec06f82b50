//! All shards of the process, as the control thread sees them: started together, asked together, drained step by step.
//!
//! A shard that ends or panics before the drain has asked it to takes 1/N of all traces with it, so the whole process
//! stops after one log line; whatever supervises it starts a new one.

use super::assemble::{self, ShardSeed};
use super::inbox::{Command, DrainStep, INBOX_MAX, Inbox};
use super::reconfigure::Successor;
use super::runtime::{self, Runtime, Socket};
use crate::admin::Shards;
use crate::connector::span_metrics::{Forgotten, Snapshot};
use crate::exporter::memory::KeptTrace;
use crate::processor::explanation::Explanation;
use crate::profile::tasks::Tasks;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// The control thread's handles of all shards.
#[derive(Debug)]
pub struct Fleet {
    inboxes: Vec<Inbox>,
    connections: Arc<Vec<AtomicUsize>>,
    ending: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

/// Where a shard's thread runs.
#[derive(Clone, Copy, Debug)]
pub struct Berth {
    /// Which runtime.
    pub runtime: Runtime,
    /// The core it is pinned to, if any.
    pub core: Option<usize>,
}

impl Fleet {
    /// Starts one thread per seed and waits until every shard is ready to take connections.
    pub fn start(seeds: Vec<ShardSeed>, berths: &[Berth], connections: Arc<Vec<AtomicUsize>>) -> Result<Fleet, String> {
        let ending = Arc::new(AtomicBool::new(false));
        let (ready, readiness) = std::sync::mpsc::channel();
        let mut fleet = Fleet { inboxes: Vec::new(), connections, ending: Arc::clone(&ending), threads: Vec::new() };
        for (seed, &berth) in seeds.into_iter().zip(berths) {
            let (inbox, commands) = mpsc::channel(INBOX_MAX);
            let (ready, ending) = (ready.clone(), Arc::clone(&ending));
            let number = seed.number;
            let thread = std::thread::Builder::new()
                .name(format!("shard-{number}"))
                .spawn(move || live(seed, berth, commands, &ready, &ending))
                .map_err(|error| format!("shard {number}: the thread cannot start: {error}"))?;
            fleet.inboxes.push(inbox);
            fleet.threads.push(thread);
        }
        drop(ready);
        for _ in berths {
            readiness.recv().map_err(|_| "a shard ended before it was ready".to_owned())??;
        }
        Ok(fleet)
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.inboxes.len()
    }

    /// Gives a connection to the shard with the fewest; ties go round, so that equal shards fill alike.
    pub async fn place_connection(&self, listener: usize, socket: Socket) {
        let count = |shard: usize| self.connections[shard].load(Ordering::Relaxed);
        let shard = (0..self.shards()).min_by_key(|&shard| count(shard)).expect("there is at least one shard");
        self.connections[shard].fetch_add(1, Ordering::Relaxed);
        // A closed inbox means that the process is ending; the socket closes with the command.
        drop(self.inboxes[shard].send(Command::Connection { listener, socket }).await);
    }

    async fn ask<T>(&self, command: impl Fn(oneshot::Sender<T>) -> Command) -> Vec<T> {
        let mut answers = Vec::with_capacity(self.shards());
        for inbox in &self.inboxes {
            let (reply, answer) = oneshot::channel();
            if inbox.send(command(reply)).await.is_ok() {
                answers.push(answer);
            }
        }
        let mut values = Vec::with_capacity(answers.len());
        for answer in answers {
            values.extend(answer.await.ok());
        }
        values
    }

    /// Drains all shards: each step is reached by every shard before the next begins, or its share of `timeout` is over.
    /// [`Fleet::give_up`] follows.
    pub async fn drain(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        // Open requests get a quarter of the time, held spans the second, so that queues have the longest.
        // What connectors count goes through nodes of its own.
        let shares = [
            (DrainStep::Requests, 4),
            (DrainStep::Mesh, 4),
            (DrainStep::Nodes, 2),
            (DrainStep::Connectors, 4),
            (DrainStep::Nodes, 2),
            (DrainStep::Queues, 1),
        ];
        for (step, part) in shares {
            let left = deadline.saturating_duration_since(Instant::now());
            let reached = self.ask(|reply| Command::Drain(step, reply));
            if tokio::time::timeout(left / part, reached).await.is_err() {
                tracing::warn!(?step, "the drain goes on without having reached this step everywhere");
            }
        }
    }

    /// Ends a drain: what is still held is counted as failed.
    pub async fn give_up(&self) {
        self.ask(|reply| Command::Drain(DrainStep::GiveUp, reply)).await;
    }

    /// Gives every shard another configuration; false, and none has it, where one of them cannot take it now.
    pub async fn reconfigure(&self, successor: &Arc<Successor>) -> bool {
        let may = self.ask(|reply| Command::MayReconfigure(Arc::clone(successor), reply)).await;
        // Nobody else changes rules, and time only makes room, so what all have said stays true.
        if may.len() < self.shards() || may.contains(&false) {
            return false;
        }
        self.ask(|reply| Command::Reconfigure(Arc::clone(successor), reply)).await;
        true
    }

    /// A copy of every shard's cells, in the order of the shards.
    pub async fn snapshot(&self) -> Vec<Vec<u64>> {
        self.ask(Command::Snapshot).await
    }

    /// Ends the shards after a drain.
    pub fn end(self) {
        self.ending.store(true, Ordering::Release);
        drop(self.inboxes);
        for thread in self.threads {
            // A panic has already stopped the process.
            drop(thread.join());
        }
    }
}

impl Shards for Rc<Fleet> {
    async fn snapshot(&self) -> Vec<Vec<u64>> {
        Fleet::snapshot(self).await
    }

    async fn traces(&self) -> Vec<KeptTrace> {
        self.ask(Command::Traces).await.into_iter().flatten().collect()
    }

    async fn explain(&self, digits: &str) -> Vec<(usize, Explanation)> {
        let digits: Arc<str> = digits.into();
        self.ask(|reply| Command::Explain(Arc::clone(&digits), reply)).await.into_iter().flatten().collect()
    }

    async fn span_metrics(&self) -> Vec<Vec<Snapshot>> {
        self.ask(Command::SpanMetrics).await
    }

    async fn tasks(&self) -> Tasks {
        Tasks(self.ask(Command::Tasks).await)
    }

    fn forget(&self, connector: usize, forgotten: Forgotten) {
        let forgotten = Arc::new(forgotten);
        for inbox in &self.inboxes {
            // A full inbox forgets at the next scrape.
            drop(inbox.try_send(Command::Forget(connector, Arc::clone(&forgotten))));
        }
    }
}

/// A shard's thread, from its first to its last instruction.
fn live(
    seed: ShardSeed,
    berth: Berth,
    commands: mpsc::Receiver<Command>,
    ready: &std::sync::mpsc::Sender<Result<(), String>>,
    ending: &AtomicBool,
) {
    let number = seed.number;
    let announce = ready.clone();
    let life = async move {
        match assemble::assemble(seed) {
            Ok(shard) => {
                drop(announce.send(Ok(())));
                drop(announce);
                shard.run(commands).await;
            }
            Err(error) => drop(announce.send(Err(error))),
        }
    };
    let ended =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime::run(berth.runtime, berth.core, life)));
    match ended {
        Ok(Ok(())) if ending.load(Ordering::Acquire) => {}
        Ok(Ok(())) => {
            // Either the start-up failed, which `start` reports, or the inbox was closed while the process starts to end.
        }
        Ok(Err(error)) => drop(ready.send(Err(format!("shard {number}: {error}")))),
        Err(_) => {
            // Not through the log, whose writer ends with the process.
            eprintln!("shard {number} has panicked; the process stops, because its traces are lost");
            std::process::exit(101);
        }
    }
}
