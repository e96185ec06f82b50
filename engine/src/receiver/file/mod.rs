//! `otlp_json_file`: reads files of requests, as the `file` exporter of the Collector writes them, and follows what is
//! added.
//!
//! ```text
//! thread: look for files -> read -> cut into records --arrival--> shard: admit -> take -> pipelines
//!                                        ^------------- taken / broken, and why ----+  (refused: again, later)
//! ```
//!
//! The one idea: one record at a time. The thread that reads waits until the shard has the record in its pipelines, and a
//! shard that is full takes it later, so nothing is lost, the order of a file stays, and memory is that of one record. A
//! record that is broken is counted, named with its file and line, and left behind, and so is one that memory could never hold.

mod followed;
pub mod reader;

use super::otlp::OtlpReceiver;
use crate::config::checked::FileReceiverSettings;
use crate::shard::runtime;
use crate::telemetry::metrics::RejectReason;
use crate::transport::patience::Patience;
use crate::transport::{BodyEncoding, RequestHandler};
use bytes::Bytes;
use codecs::grpc::Status;
use codecs::otlp::Signal;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// A record that was refused is tried again after this long,
const AGAIN_AFTER: Duration = Duration::from_millis(20);
/// twice as long each time, and at most this long.
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(1);

/// What the thread that reads gives to a shard.
#[derive(Debug)]
pub enum Arrival {
    /// A record of a file.
    Record {
        /// Without its framing.
        bytes: Bytes,
        /// What it may hold; the pipelines of each take their part.
        signals: Vec<Signal>,
        /// How it is written.
        encoding: BodyEncoding,
        /// Answered when the file may be read on. The error says what is wrong with the record.
        taken: oneshot::Sender<Result<(), String>>,
    },
    /// A record that could not even be read, for this reason: it is counted.
    Lost(RejectReason),
    /// So many files wait to be followed, as of this look.
    Waiting(u64),
}

/// The largest record in bytes that a receiver takes: `max_log_size`, or half of the `soft_bytes` that the edge admits, since
/// a record stands in memory as it was written beside what is made of it. A larger one would be refused again and again,
/// and everything behind it would wait for ever.
pub fn record_bytes_max(settings: &FileReceiverSettings, soft_bytes: u64) -> usize {
    let half = usize::try_from(soft_bytes / 2).unwrap_or(usize::MAX);
    settings.record_bytes_max.min(half)
}

/// A file receiver's part on its shard.
#[derive(Debug)]
pub struct FileIntake {
    receiver: Rc<OtlpReceiver>,
}

impl FileIntake {
    /// `receiver` takes the records.
    pub fn new(receiver: Rc<OtlpReceiver>) -> FileIntake {
        FileIntake { receiver }
    }

    /// Takes records until a drain begins. What was not taken then stays in the file.
    pub async fn follow(self, mut arrivals: mpsc::Receiver<Arrival>) {
        let draining = self.receiver.shard.draining.clone();
        loop {
            let arrival = tokio::select! {
                biased;
                () = draining.started() => return,
                arrival = arrivals.recv() => arrival,
            };
            match arrival {
                Some(Arrival::Record { bytes, signals, encoding, taken }) => {
                    let Some(result) = self.take(&bytes, &signals, encoding).await else { return };
                    // The thread may have ended.
                    drop(taken.send(result));
                }
                Some(Arrival::Lost(reason)) => self.receiver.rejected(None, reason),
                Some(Arrival::Waiting(files)) => {
                    if let Some(waiting) = self.receiver.series.waiting_files {
                        self.receiver.shard.cells.set(waiting, files);
                    }
                }
                None => return,
            }
        }
    }

    /// Each signal's part of a record; `None` if a drain came between.
    async fn take(&self, bytes: &Bytes, signals: &[Signal], encoding: BodyEncoding) -> Option<Result<(), String>> {
        let mut result = Ok(());
        for &signal in signals {
            let mut again_after = AGAIN_AFTER;
            while let Err(status) = self.attempt(signal, bytes, encoding).await {
                if !status.is_retryable() {
                    result = Err(status.message);
                    break;
                }
                let drained = self.receiver.shard.draining.started();
                if runtime::timeout(again_after, drained).await.is_some() {
                    return None;
                }
                again_after = (again_after * 2).min(AGAIN_AFTER_MAX);
            }
        }
        Some(result)
    }

    async fn attempt(&self, signal: Signal, bytes: &Bytes, encoding: BodyEncoding) -> Result<(), Status> {
        self.receiver.admit(signal, bytes.len())?;
        let body = self.receiver.shard.buffers.adopt(bytes.clone());
        self.receiver.take(signal, body, encoding, None, Patience::default()).await
    }
}
