//! The thread of a file receiver: looks for files, reads what is new in them, gives it to a shard record by record.
//!
//! ```text
//! every poll_interval:  patterns -> files, known by device and inode -> read on from where each was left
//! renamed   is the same file     replaced   the old one is read to its end, the new one from its beginning
//! cut off   from its beginning   half a record at the end   waits for its rest
//! ```
//!
//! The one idea: a file is followed for as long as its name is there, and only its position moves: forward over records
//! that were taken or found broken, so nothing is read twice and nothing is tried for ever. Files are read one after the
//! other, sorted by path, which is the order of their times for files that were rotated. Those that were read last are
//! held open, so that what is written into them while they are renamed is found.

use super::followed::{self, Extent, Followed, Identity};
use super::{Arrival, record_bytes_max};
use crate::config::checked::{Config, FileReceiverSettings};
use crate::config::glob;
use crate::telemetry::metrics::RejectReason;
use crate::transport::BodyEncoding;
use bytes::Bytes;
use codecs::compression::Compression;
use codecs::otlp::{Format, Signal};
use codecs::records::{Framing, Splitter, Step};
use std::collections::HashMap;
use std::fs::Metadata;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, oneshot};

/// Bytes read at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Files that one receiver follows: a look asks for each, and each costs up to a kilobyte.
const FILES_MAX: usize = 16_384;
/// Files that one receiver holds open; beyond it all but half of them are let go, those that were read last being kept.
const OPEN_MAX: usize = 256;
/// Looks in a row that do not find a file's name before it is let go: one may fall between two names of a file that is moved,
/// and a file that is let go too early is read again from its beginning.
const MISSED_MAX: u32 = 5;
/// Records of a file that are named when they are left out; the others are only counted.
const NAMED_MAX: u64 = 10;
/// Arrivals on their way to a shard: the thread waits for the answer to each.
const ARRIVALS_MAX: usize = 1;

/// A receiver's way to its shard.
#[derive(Debug)]
pub struct Feed {
    /// The receiver's number in the configuration.
    pub receiver: usize,
    /// What it reads.
    pub arrivals: mpsc::Receiver<Arrival>,
}

/// The threads of all file receivers. They end when the shards have ended, or this is closed.
#[derive(Debug)]
pub struct Readers {
    waiting: Vec<(usize, mpsc::Sender<Arrival>)>,
    running: Vec<(std::sync::mpsc::Sender<()>, std::thread::JoinHandle<()>)>,
}

impl Readers {
    /// One for each receiver of files, which does not read before [`Readers::start`]; and the shards' ends.
    pub fn new(config: &Config) -> (Readers, Vec<Feed>) {
        let (mut waiting, mut feeds) = (Vec::new(), Vec::new());
        let numbers = config.receivers.iter().enumerate().filter(|(_, receiver)| receiver.otlp.files.is_some());
        for (receiver, _) in numbers {
            let (sender, arrivals) = mpsc::channel(ARRIVALS_MAX);
            waiting.push((receiver, sender));
            feeds.push(Feed { receiver, arrivals });
        }
        (Readers { waiting, running: Vec::new() }, feeds)
    }

    /// Begins to read, once the shards run; `soft_bytes` of memory are theirs for what is admitted.
    pub fn start(&mut self, config: &Config, soft_bytes: u64) -> Result<(), String> {
        for (number, arrivals) in self.waiting.drain(..) {
            let receiver = &config.receivers[number];
            let settings = receiver.otlp.files.clone().expect("only receivers of files wait here");
            let signals = config.signals_of(number);
            let reader = Reader::new(receiver.id.to_string(), *settings, soft_bytes, signals, arrivals);
            let (stop, stopped) = std::sync::mpsc::channel();
            let thread = std::thread::Builder::new()
                .name("file-receiver".to_owned())
                .spawn(move || reader.run(&stopped))
                .map_err(|error| format!("receiver {}: the thread that reads cannot start: {error}", receiver.id))?;
            self.running.push((stop, thread));
        }
        Ok(())
    }

    /// Ends the threads, after the shards have ended.
    pub fn close(self) {
        for (stop, thread) in self.running {
            drop(stop);
            drop(thread.join());
        }
    }
}

/// The shard takes nothing any more.
#[derive(Debug)]
struct Stopped;

/// Reads the files of one receiver.
#[derive(Debug)]
struct Reader {
    receiver: String,
    settings: FileReceiverSettings,
    /// What the receiver's pipelines take; at least one.
    signals: Vec<Signal>,
    encoding: BodyEncoding,
    arrivals: mpsc::Sender<Arrival>,
    followed: Vec<Followed>,
    buffer: Vec<u8>,
    /// Larger records are left out: by `max_log_size`, or because memory has no room for them.
    record_bytes_max: usize,
    /// Looks that began.
    looks: u64,
    /// Files of the last look that are not followed.
    files_waiting: u64,
    nothing_is_said: bool,
}

impl Reader {
    fn new(
        receiver: String,
        settings: FileReceiverSettings,
        soft_bytes: u64,
        signals: Vec<Signal>,
        arrivals: mpsc::Sender<Arrival>,
    ) -> Reader {
        let encoding = BodyEncoding { compression: settings.compression, format: settings.format };
        let record_bytes_max = record_bytes_max(&settings, soft_bytes);
        Reader {
            receiver,
            settings,
            signals,
            encoding,
            arrivals,
            followed: Vec::new(),
            buffer: Vec::new(),
            record_bytes_max,
            looks: 0,
            files_waiting: 0,
            nothing_is_said: false,
        }
    }

    fn run(mut self, stopped: &std::sync::mpsc::Receiver<()>) {
        let pause = Duration::from_nanos(self.settings.poll_interval_ns);
        let mut is_first = true;
        while self.poll(is_first).is_ok() {
            is_first = false;
            if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) || self.arrivals.is_closed() {
                break;
            }
        }
        for file in self.followed.iter().filter(|file| file.has_more()) {
            tracing::info!(
                receiver = self.receiver,
                file = %file.path.display(),
                byte = file.position,
                "Stopped before the end of this file; the rest of it was not read."
            );
        }
    }

    /// One look at all files.
    fn poll(&mut self, is_first: bool) -> Result<(), Stopped> {
        self.look(is_first)?;
        let mut followed = std::mem::take(&mut self.followed);
        let read = self.read_all(&mut followed);
        let is_gone = |file: &Followed| file.missed >= MISSED_MAX;
        let mut halves = followed.iter().filter(|file| is_gone(file) && file.is_behind());
        let read = read.and_then(|()| halves.try_for_each(|file| self.half_is_lost(file)));
        if read.is_ok() {
            // Of a file whose name is gone everything has been read.
            followed.retain(|file| !is_gone(file));
        }
        self.followed = followed;
        // Memory of a large record is not kept while nothing comes.
        self.buffer = Vec::new();
        read
    }

    fn read_all(&mut self, followed: &mut [Followed]) -> Result<(), Stopped> {
        let mut open = followed.iter().filter(|file| file.is_open()).count();
        for at in 0..followed.len() {
            let was_open = followed[at].is_open();
            self.read(&mut followed[at])?;
            open += usize::from(followed[at].is_open() && !was_open);
            if open > OPEN_MAX {
                open = let_go(followed, OPEN_MAX / 2);
            }
        }
        Ok(())
    }

    /// Brings the list of files up to date.
    fn look(&mut self, is_first: bool) -> Result<(), Stopped> {
        self.looks += 1;
        let (paths, saw_all) = glob::find(&self.settings.include, &self.settings.exclude);
        let splitter = self.splitter_of();
        for file in &mut self.followed {
            file.found = None;
            if self.settings.replays {
                let half_is_said = file.half_is_said;
                file.rewind(splitter.clone());
                file.half_is_said = half_is_said;
            }
        }
        if paths.is_empty() && !self.nothing_is_said {
            self.nothing_is_said = true;
            tracing::warn!(
                receiver = self.receiver,
                "No file matches `include` yet. The receiver goes on looking; compare the patterns with the paths."
            );
        }
        let waiting = self.find_again(paths, is_first);
        for file in &mut self.followed {
            match file.found {
                Some(_) => file.missed = 0,
                // A look that could not see everything says nothing of what it did not find.
                None => file.missed += u32::from(saw_all),
            }
        }
        // A file whose name changed has another place among the others.
        self.followed.sort_by(|one, other| one.path.cmp(&other.path));
        self.say_waiting(waiting)
    }

    /// Finds the files that are followed under these names, and follows the others. How many have to wait.
    fn find_again(&mut self, paths: Vec<PathBuf>, is_first: bool) -> u64 {
        let places = self.followed.iter().enumerate().map(|(place, file)| (file.identity, place));
        let mut places: HashMap<Identity, usize> = places.collect();
        let mut waiting = 0;
        for path in paths {
            let Some((metadata, identity)) = followed::find(&path) else { continue };
            if let Some(place) = places.get(&identity) {
                let known = &mut self.followed[*place];
                if known.found.is_none() {
                    known.path = path;
                }
                known.found = Some(Extent::of(&metadata));
            } else if self.is_too_old(&metadata) {
                continue;
            } else if self.followed.len() == FILES_MAX {
                waiting += 1;
            } else if let Some(identity) = self.follow(path, is_first) {
                places.insert(identity, self.followed.len() - 1);
            }
        }
        waiting
    }

    /// Files beyond the limit are counted at each look that finds another number of them, and named once.
    fn say_waiting(&mut self, waiting: u64) -> Result<(), Stopped> {
        let before = std::mem::replace(&mut self.files_waiting, waiting);
        if before == 0 && waiting > 0 {
            tracing::warn!(
                receiver = self.receiver,
                waiting,
                "More than {FILES_MAX} files match: the others are read as soon as some of these are gone. Move away \
                 what was read, or give the files to several receivers."
            );
        }
        match before == waiting {
            true => Ok(()),
            false => self.arrivals.blocking_send(Arrival::Waiting(waiting)).map_err(|_| Stopped),
        }
    }

    fn is_too_old(&self, metadata: &Metadata) -> bool {
        let age = metadata.modified().ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
        self.settings.age_ns_max.is_some_and(|most| age.is_some_and(|age| age > Duration::from_nanos(most)))
    }

    /// Begins to follow a file: at the end only what was there at the start.
    fn follow(&mut self, path: PathBuf, is_first: bool) -> Option<Identity> {
        let from_end = is_first && self.settings.starts_at_end;
        match Followed::open(path, from_end, self.splitter_of()) {
            Ok(mut file) => {
                if self.followed.len() >= OPEN_MAX {
                    // It is opened again when it is read.
                    file.let_go();
                }
                let identity = file.identity;
                self.followed.push(file);
                Some(identity)
            }
            Err((path, error)) => {
                self.cannot_read(&path, &error);
                None
            }
        }
    }

    fn splitter_of(&self) -> Splitter {
        Splitter::new(self.framing(), self.record_bytes_max)
    }

    /// Reads a file to the end that it has now.
    fn read(&mut self, file: &mut Followed) -> Result<(), Stopped> {
        let now = match self.to_be_read(file) {
            Ok(Some(now)) => now,
            Ok(None) => return Ok(()),
            Err(error) => {
                self.cannot_read(&file.path, &error);
                return Ok(());
            }
        };
        let (taken, broken) = (file.taken, file.broken);
        self.buffer.clear();
        file.splitter.begin_again();
        let mut is_whole = true;
        loop {
            self.take_records(file)?;
            file.read_to = file.position + self.buffer.len() as u64;
            if file.read_to >= now.bytes {
                break;
            }
            match self.read_chunk(file) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    self.cannot_read(&file.path, &error);
                    is_whole = false;
                    break;
                }
            }
        }
        self.take_last_line(file)?;
        if is_whole {
            file.was_read(now, self.looks);
        }
        self.say_how_far(file, file.taken - taken, file.broken - broken);
        Ok(())
    }

    /// The extent that a file has, if there is something to read in it; where it is not what was read, from its beginning.
    fn to_be_read(&self, file: &mut Followed) -> io::Result<Option<Extent>> {
        let Some(now) = file.extent()? else { return Ok(None) };
        if file.is_as_seen(now) {
            self.half_is_late(file);
            return Ok(None);
        }
        if !file.is_what_was_read(now.bytes)? {
            let again = if now.bytes < file.read_to { "" } else { " and written anew" };
            tracing::info!(
                receiver = self.receiver,
                file = %file.path.display(),
                "The file was cut off{again}; it is read from its beginning."
            );
            file.rewind(self.splitter_of());
        }
        Ok(Some(now))
    }

    /// More of the file behind what is in the buffer: how many bytes.
    fn read_chunk(&mut self, file: &mut Followed) -> io::Result<usize> {
        let before = self.buffer.len();
        self.buffer.resize(before + CHUNK_BYTES, 0);
        let read = file.read_at(&mut self.buffer[before..], file.position + before as u64);
        self.buffer.truncate(before + *read.as_ref().unwrap_or(&0));
        read
    }

    /// Gives every whole record in the buffer away.
    fn take_records(&mut self, file: &mut Followed) -> Result<(), Stopped> {
        let mut at = 0;
        loop {
            let step = file.splitter.next(&self.buffer[at..]);
            let (taken, ends) = match step {
                Step::Record { record, taken } => {
                    let record = Bytes::copy_from_slice(record);
                    self.take(file, record)?;
                    (taken, true)
                }
                Step::TooLarge { bytes, taken } => {
                    self.too_large(file, bytes)?;
                    (taken, false)
                }
                Step::SteppedOver { taken, .. } => (taken, false),
                Step::More => break,
            };
            // The record that is too large counts where it begins.
            file.number += u64::from(ends || matches!(step, Step::TooLarge { .. }));
            file.pass(&self.buffer[at..at + taken]);
            at += taken;
        }
        self.buffer.drain(..at);
        Ok(())
    }

    /// A last line without an end is a record if it is a whole one: nothing could follow it on its line.
    fn take_last_line(&mut self, file: &mut Followed) -> Result<(), Stopped> {
        let ends = self.buffer.trim_ascii_end().ends_with(b"}");
        if self.framing() == Framing::Length || !ends || self.buffer.len() > self.record_bytes_max {
            return Ok(());
        }
        let read = || codecs::json::read_request(self.signals[0], &self.buffer, &mut Vec::new()).is_ok();
        // Should it ever panic on somebody's bytes, the line waits for its end like any other.
        if !catch_unwind(AssertUnwindSafe(read)).unwrap_or(false) {
            return Ok(());
        }
        let record = Bytes::from(std::mem::take(&mut self.buffer));
        self.take(file, record.clone())?;
        // The rest of the line, once it comes, is an empty one and counts as the line.
        file.pass(&record);
        Ok(())
    }

    /// Gives one record to the shard and waits until it has it.
    fn take(&self, file: &mut Followed, record: Bytes) -> Result<(), Stopped> {
        let signals = self.signals_in(&record);
        if signals.is_empty() {
            return Ok(());
        }
        let (taken, answer) = oneshot::channel();
        let arrival = Arrival::Record { bytes: record, signals, encoding: self.encoding, taken };
        self.arrivals.blocking_send(arrival).map_err(|_| Stopped)?;
        match answer.blocking_recv().map_err(|_| Stopped)? {
            Ok(()) => file.taken += 1,
            Err(why) => self.left_out(file, &why),
        }
        Ok(())
    }

    /// What a record may hold of what the pipelines take; nothing of an empty line, or of one that is of another signal.
    fn signals_in(&self, record: &[u8]) -> Vec<Signal> {
        if record.trim_ascii().is_empty() {
            return Vec::new();
        }
        if self.framing() == Framing::Length {
            return self.signals.clone();
        }
        let named = |signal: &Signal| names_of(*signal).iter().any(|name| contains(record, name.as_bytes()));
        let found: Vec<Signal> = self.signals.iter().copied().filter(named).collect();
        match found.is_empty() && !Signal::ALL.iter().any(named) {
            // It is nothing that anybody knows: whoever reads it says what is wrong with it.
            true => vec![self.signals[0]],
            false => found,
        }
    }

    fn too_large(&self, file: &mut Followed, bytes: Option<u64>) -> Result<(), Stopped> {
        let most = self.record_bytes_max;
        let (limit, what) = match most < self.settings.record_bytes_max {
            true => (
                "that the memory limit has room for, half of what may be admitted",
                "raise `service.engine.memory_limit_mib` or `limit_mib` of the memory_limiter",
            ),
            false => ("of `max_log_size`", "raise it"),
        };
        let why = match (bytes, self.framing()) {
            (Some(bytes), Framing::Length) => format!(
                "it would have {bytes} bytes, more than the {most} {limit}: {what}, or set `format` and \
                 `compression` to those with which the file was written"
            ),
            _ => format!("it has more than the {most} bytes {limit}: {what}"),
        };
        self.lost(RejectReason::TooLarge)?;
        self.left_out(file, &why);
        Ok(())
    }

    fn framing(&self) -> Framing {
        match (self.encoding.format, self.encoding.compression) {
            (Format::Json, Compression::None) => Framing::Line,
            _ => Framing::Length,
        }
    }

    fn lost(&self, reason: RejectReason) -> Result<(), Stopped> {
        self.arrivals.blocking_send(Arrival::Lost(reason)).map_err(|_| Stopped)
    }

    /// Names a record that nobody took.
    fn left_out(&self, file: &mut Followed, why: &str) {
        file.broken += 1;
        if file.broken <= NAMED_MAX {
            let place = file.place();
            let (receiver, file) = (&self.receiver, file.path.display());
            tracing::warn!(receiver, file = %file, place, "A record was left out: {}.", why.trim_end_matches('.'));
        }
    }

    fn say_how_far(&self, file: &Followed, taken: u64, broken: u64) {
        let unnamed = file.broken.saturating_sub(NAMED_MAX).min(broken);
        if unnamed > 0 && !self.settings.replays {
            tracing::warn!(
                receiver = self.receiver,
                file = %file.path.display(),
                unnamed,
                "More records of this file were left out; they are counted and not named."
            );
        }
        tracing::debug!(receiver = self.receiver, file = %file.path.display(), taken, broken, "Read to its end.");
    }

    /// A file that has not grown since half a record was found at its end.
    fn half_is_late(&self, file: &mut Followed) {
        if file.is_behind() && !std::mem::replace(&mut file.half_is_said, true) {
            tracing::warn!(
                receiver = self.receiver,
                file = %file.path.display(),
                place = file.place(),
                "The file ends in the middle of a record; the rest is waited for."
            );
        }
    }

    /// A file that is gone, and half a record with it.
    fn half_is_lost(&self, file: &Followed) -> Result<(), Stopped> {
        tracing::warn!(
            receiver = self.receiver,
            file = %file.path.display(),
            place = file.place(),
            "A record was left out: the file is gone, and ended in the middle of it."
        );
        self.lost(RejectReason::Malformed)
    }

    fn cannot_read(&self, path: &Path, error: &io::Error) {
        tracing::warn!(
            receiver = self.receiver,
            file = %path.display(),
            "The file cannot be read: {error}. It is tried again; let this user read it, or `exclude` it."
        );
    }
}

/// Lets files go until so many are held open; those that were read last, and those whose name is gone, stay. How many do.
fn let_go(followed: &mut [Followed], kept: usize) -> usize {
    let mut open: Vec<&mut Followed> = followed.iter_mut().filter(|file| file.is_open()).collect();
    // A file without a name could not be opened again.
    open.sort_by_key(|file| (file.found.is_some(), std::cmp::Reverse(file.read_in)));
    for file in open.iter_mut().skip(kept) {
        file.let_go();
    }
    open.len().min(kept)
}

/// Names of the field that holds what a request of this signal is for.
fn names_of(signal: Signal) -> [&'static str; 2] {
    match signal {
        Signal::Traces => ["resourceSpans", "resource_spans"],
        Signal::Metrics => ["resourceMetrics", "resource_metrics"],
        Signal::Logs => ["resourceLogs", "resource_logs"],
    }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}
