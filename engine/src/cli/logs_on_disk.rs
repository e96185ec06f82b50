//! The durable logs of one process: one per queue and per sampler with `storage`, opened before any shard starts.
//!
//! ```text
//! file_storage.directory/exporter.traces.otlp_2ftempo/          one directory per exporter and signal
//! file_storage.directory/processor.traces.tail_5fsampling/      one directory per tail_sampling
//! ```

use crate::config::checked::{ComponentId, Config, OnFull, StorageSettings};
use crate::queue::log::{Bounds, FileThread, Log, Place};
use crate::shard::clock::Clock;
use std::fmt::Write;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;

/// A log has about so many files when it is full.
const SEGMENTS: u64 = 16;
/// Largest file: read whole at a start.
const SEGMENT_BYTES_MAX: u64 = 64 << 20;

/// Every log of the process.
#[derive(Debug)]
pub(super) struct LogsOnDisk {
    /// By the exporter's number.
    queues: Vec<Option<FileThread>>,
    /// By the processor's number.
    samplers: Vec<Option<FileThread>>,
}

/// What a log is opened for.
struct Wanted {
    /// Its own directory.
    name: String,
    drops_oldest: bool,
    readers: usize,
}

impl LogsOnDisk {
    /// Opens the log of every queue and every sampler that has one, for so many shards. Says what was found; an error names
    /// the path and what to do.
    pub(super) fn open(config: &Config, shards: usize) -> Result<LogsOnDisk, String> {
        let clock = Clock::start();
        let storage_of = |id: Option<&ComponentId>| config.storages.iter().find(|storage| Some(&storage.id) == id);
        let queues = config.exporters.iter().map(|exporter| {
            let queue = exporter.queue();
            let Some(storage) = storage_of(queue.and_then(|queue| queue.storage.as_ref())) else { return Ok(None) };
            let wanted = Wanted {
                name: format!("exporter.{}.{}", exporter.signal.name(), file_name(&exporter.id.to_string())),
                drops_oldest: queue.is_some_and(|queue| queue.on_full == OnFull::DropOldest),
                // Whichever shard has room takes a request.
                readers: 1,
            };
            let (thread, directory) = open(&wanted, storage, clock)?;
            let found = thread.log().found();
            tracing::info!(
                exporter = %exporter.id,
                directory,
                requests = found.requests,
                torn_ends_cut = found.cut,
                damaged_skipped = found.skipped,
                "A queue is kept on disk; its files hold what the pipeline sends, as it sends it"
            );
            Ok(Some(thread))
        });
        let queues = queues.collect::<Result<_, String>>()?;
        let samplers = config.processors.iter().map(|processor| {
            let Some(storage) = storage_of(processor.storage.as_ref()) else { return Ok(None) };
            let wanted = Wanted {
                name: format!("processor.{}.{}", processor.signal.name(), file_name(&processor.id.to_string())),
                drops_oldest: false,
                // Each shard takes the spans that it owns.
                readers: shards,
            };
            let (thread, directory) = open(&wanted, storage, clock)?;
            let found = thread.log().found();
            tracing::info!(
                processor = %processor.id,
                directory,
                records = found.requests,
                torn_ends_cut = found.cut,
                damaged_skipped = found.skipped,
                "Undecided traces are kept on disk; the files hold spans as they reach the sampler, before anything behind \
                 it masks them, and also those of traces that nobody will keep"
            );
            Ok(Some(thread))
        });
        let samplers = samplers.collect::<Result<_, String>>()?;
        Ok(LogsOnDisk { queues, samplers })
    }

    /// The shards' ends of those of queues, by the exporter's number.
    pub(super) fn queues(&self) -> Arc<Vec<Option<Log>>> {
        shared(&self.queues)
    }

    /// The shards' ends of those of samplers, by the processor's number.
    pub(super) fn samplers(&self) -> Arc<Vec<Option<Log>>> {
        shared(&self.samplers)
    }

    /// Writes what is left to write, after the shards have ended.
    pub(super) fn close(self) {
        self.queues.into_iter().chain(self.samplers).flatten().for_each(FileThread::close);
    }
}

fn shared(threads: &[Option<FileThread>]) -> Arc<Vec<Option<Log>>> {
    Arc::new(threads.iter().map(|thread| thread.as_ref().map(FileThread::log)).collect())
}

/// Returns its directory as well, for people.
fn open(wanted: &Wanted, storage: &StorageSettings, clock: Clock) -> Result<(FileThread, String), String> {
    let root = &storage.directory;
    let shown = root.display();
    if storage.create_directory {
        let made = DirBuilder::new().recursive(true).mode(storage.directory_mode).create(root);
        made.map_err(|error| format!("extension {}: the directory {shown} cannot be made: {error}", storage.id))?;
    }
    if !root.is_dir() {
        return Err(format!(
            "extension {}: expected the directory {shown}, found none; make it, or set `create_directory: true`",
            storage.id
        ));
    }
    let segment_bytes = (storage.log_bytes_max / SEGMENTS).min(SEGMENT_BYTES_MAX);
    let place = Place {
        directory: root.join(&wanted.name),
        bounds: Bounds { bytes_max: storage.log_bytes_max, segment_bytes },
        lock_timeout_ns: storage.lock_timeout_ns,
        drops_oldest: wanted.drops_oldest,
        readers: wanted.readers,
    };
    Ok((FileThread::start(&place, clock)?, place.directory.display().to_string()))
}

/// An id as a name of a directory that no other id has: letters, digits and `-` stay, anything else is `_` and its
/// bytes in hexadecimal digits.
fn file_name(id: &str) -> String {
    let mut name = String::with_capacity(id.len());
    for byte in id.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => name.push(char::from(byte)),
            // Writing to a text cannot fail.
            _ => drop(write!(name, "_{byte:02x}")),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exporter_has_a_directory_of_its_own() {
        assert_eq!(file_name("otlp/eu-1"), "otlp_2feu-1");
        assert_eq!(file_name("otlp_grpc"), "otlp_5fgrpc");
        assert_ne!(file_name("otlp/_2f"), file_name("otlp//"));
    }
}
