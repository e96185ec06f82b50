//! The durable logs of one process: one per queue with `storage`, opened before any shard starts.
//!
//! ```text
//! file_storage.directory/exporter.traces.otlp_tempo/    one directory per exporter and signal
//! ```

use crate::config::checked::{Config, ExporterSettings, OnFull, StorageSettings};
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
    threads: Vec<Option<FileThread>>,
}

impl LogsOnDisk {
    /// Opens the log of every queue that has one. Says what was found; an error names the path and what to do.
    pub(super) fn open(config: &Config) -> Result<LogsOnDisk, String> {
        let clock = Clock::start();
        let threads = config.exporters.iter().map(|exporter| {
            let id = exporter.queue().and_then(|queue| queue.storage.as_ref());
            let storage = id.and_then(|id| config.storages.iter().find(|storage| storage.id == *id));
            storage.map(|storage| open(exporter, storage, clock)).transpose()
        });
        Ok(LogsOnDisk { threads: threads.collect::<Result<_, _>>()? })
    }

    /// The shards' ends, by the exporter's number.
    pub(super) fn shared(&self) -> Arc<Vec<Option<Log>>> {
        Arc::new(self.threads.iter().map(|thread| thread.as_ref().map(FileThread::log)).collect())
    }

    /// Writes what is left to write, after the shards have ended.
    pub(super) fn close(self) {
        self.threads.into_iter().flatten().for_each(FileThread::close);
    }
}

fn open(exporter: &ExporterSettings, storage: &StorageSettings, clock: Clock) -> Result<FileThread, String> {
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
        directory: root.join(format!("exporter.{}.{}", exporter.signal.name(), file_name(&exporter.id.to_string()))),
        bounds: Bounds { bytes_max: storage.log_bytes_max, segment_bytes },
        lock_timeout_ns: storage.lock_timeout_ns,
        drops_oldest: exporter.queue().is_some_and(|queue| queue.on_full == OnFull::DropOldest),
    };
    let thread = FileThread::start(&place, clock)?;
    let found = thread.log().found();
    tracing::info!(
        exporter = %exporter.id,
        directory = %place.directory.display(),
        requests = found.requests,
        torn_ends_cut = found.cut,
        damaged_skipped = found.skipped,
        "A queue is kept on disk; its files hold what the pipeline sends, as it sends it"
    );
    Ok(thread)
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
