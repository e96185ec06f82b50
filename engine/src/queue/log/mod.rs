//! A queue's durable log: requests that outlive the process until they are delivered.
//!
//! ```text
//! shards --append--> channel (bounded) --> file thread: write all that waits, one sync, answer all   (group commit)
//!        --done----->                      marks; segments whose requests are all done are removed
//!        --adopt---->                      one request of an earlier life; whoever has room takes the next
//!        --read----->                      the same where every shard needs a part of each: gone when all are done with it
//! ```
//!
//! A log belongs to a directory and to no shard: every shard appends to it, and what an earlier life left goes to
//! whichever shard has room, whatever their number. It never sends anything and knows no pipeline but by name.

mod account;
mod file;

pub use account::Bounds;
pub use file::FileThread;

use crate::shard::clock::Clock;
use bytes::Bytes;
use codecs::otlp::Signal;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use tokio::sync::{mpsc, oneshot};

/// Commands that may wait for the file thread; who comes then waits, and with it the sender.
const COMMANDS_MAX: usize = 1024;

/// Where a log lies, and what bounds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The log's own directory; its parent exists.
    pub directory: std::path::PathBuf,
    /// On disk.
    pub bounds: Bounds,
    /// How long another process may still hold it, in nanoseconds.
    pub lock_timeout_ns: u64,
    /// A full log forgets its oldest requests instead of refusing new ones.
    pub drops_oldest: bool,
    /// How many have to be done with a request of an earlier life: 1 where whoever adopts it takes all of it.
    pub readers: usize,
}

/// The shards' end of a log. Cloning it shares it.
#[derive(Clone, Debug)]
pub struct Log {
    commands: mpsc::Sender<Command>,
    figures: Arc<Figures>,
    clock: Clock,
}

/// Why a request is not in the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The bound is reached.
    #[error("the log on disk is full: its backend takes less than comes in; raise `max_size`, or wait")]
    Full,
    /// The disk said no.
    #[error("the log cannot be written: {0}")]
    Disk(String),
    /// The process ends.
    #[error("the log is closed")]
    Closed,
}

/// A request to append. The body is protobuf without compression.
#[derive(Debug)]
pub struct Append {
    /// What kind of request.
    pub signal: Signal,
    /// The pipeline whose book counts it.
    pub pipeline: Arc<str>,
    /// The message.
    pub request: Bytes,
}

/// A request of an earlier life.
#[derive(Debug, PartialEq, Eq)]
pub struct Adopted {
    /// Its number, for [`Log::done`].
    pub sequence: u64,
    /// What kind of request.
    pub signal: Signal,
    /// The pipeline that took it; it may be gone.
    pub pipeline: String,
    /// The message.
    pub request: Bytes,
}

/// What the file thread is asked to do.
#[derive(Debug)]
enum Command {
    Append(Append, oneshot::Sender<Result<u64, AppendError>>),
    Done(u64),
    Adopt(oneshot::Sender<Option<Adopted>>),
    ReadAfter(Option<u64>, oneshot::Sender<Option<Adopted>>),
    Close,
}

/// What the file thread shows. Written by it alone.
#[derive(Debug, Default)]
struct Figures {
    bytes: AtomicU64,
    bytes_max: u64,
    waiting: AtomicU64,
    /// When the oldest was taken, on the log's clock; [`NOTHING_WAITS`] if there is none.
    oldest_ns: AtomicI64,
    /// Requests forgotten to make room.
    dropped: AtomicU64,
    /// Requests with smaller numbers are not on disk any more.
    sequence_min: AtomicU64,
    drops_oldest: bool,
    found: Found,
}

const NOTHING_WAITS: i64 = i64::MAX;

/// What an earlier life left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Requests that wait.
    pub requests: u64,
    /// Ends of files that were torn, and cut off.
    pub cut: u64,
    /// Damaged records, passed over.
    pub skipped: u64,
}

impl Log {
    /// Whether a request may enter: an eighth of the bound is for those already on their way here.
    pub fn has_room(&self) -> bool {
        self.figures.drops_oldest || self.figures.bytes.load(Ordering::Relaxed) < self.figures.bytes_max / 8 * 7
    }

    /// Whether a request that was appended would survive the process.
    pub fn holds(&self, sequence: u64) -> bool {
        sequence >= self.figures.sequence_min.load(Ordering::Relaxed)
    }

    /// Requests that were forgotten to make room for newer ones.
    pub fn dropped(&self) -> u64 {
        self.figures.dropped.load(Ordering::Relaxed)
    }

    /// Returns the request's number when it is on disk.
    pub async fn append(&self, append: Append) -> Result<u64, AppendError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Append(append, reply)).await.map_err(|_| AppendError::Closed)?;
        answer.await.map_err(|_| AppendError::Closed)?
    }

    /// A request is no longer needed: delivered, or failed for good.
    pub async fn done(&self, sequence: u64) {
        // A log that is closed already repeats the request at the next start, and nothing is lost.
        drop(self.commands.send(Command::Done(sequence)).await);
    }

    /// The next request of an earlier life; `None` when all have found a shard.
    pub async fn adopt(&self) -> Option<Adopted> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Adopt(reply)).await.ok()?;
        answer.await.ok().flatten()
    }

    /// The first request of an earlier life behind this one, for a reader that looks at all of them; it stays until each
    /// reader has said [`Log::done`]. `None` when there is none.
    pub async fn read_after(&self, sequence: Option<u64>) -> Option<Adopted> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::ReadAfter(sequence, reply)).await.ok()?;
        answer.await.ok().flatten()
    }

    /// What was found at the start.
    pub fn found(&self) -> Found {
        self.figures.found
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.figures.bytes.load(Ordering::Relaxed)
    }

    /// Requests on disk that are not delivered yet.
    pub fn waiting(&self) -> u64 {
        self.figures.waiting.load(Ordering::Relaxed)
    }

    /// Seconds since the oldest of them was taken, also by an earlier life; 0 if there is none.
    pub fn oldest_age_seconds(&self) -> u64 {
        let oldest_ns = self.figures.oldest_ns.load(Ordering::Relaxed);
        let now_ns = i64::try_from(self.clock.now_ns()).unwrap_or(i64::MAX);
        let age_ns = now_ns.saturating_sub(oldest_ns).max(0);
        u64::try_from(age_ns / 1_000_000_000).unwrap_or(0)
    }
}
