//! The thread that reads and writes one log's files. Everything that blocks on a disk, blocks here.
//!
//! ```text
//! directory/lock                         held by flock while the process lives
//! directory/00000000000000000001.segment  mode 0600; the highest number is written to
//! directory/....segment.damaged           one whose header is not intact: kept for whoever wants to look
//! ```
//!
//! It always starts: torn ends are cut off, damaged records passed over, both counted. It never appends to a file of an
//! earlier life.

use super::account::{Account, Bounds, Forgotten};
use super::{Adopted, Append, AppendError, COMMANDS_MAX, Command, Figures, Found, Log, NOTHING_WAITS, Place};
use crate::shard::clock::Clock;
use bytes::Bytes;
use codecs::segment::{self, Entry, HEADER_BYTES, Kind, RECORD_HEADER_BYTES, Scanned};
use rustix::fs::{FlockOperation, flock};
use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot};

/// Commands of one commit: bounds how long the first of them waits for the last.
const COMMIT_COMMANDS_MAX: usize = 256;
/// How often a held lock is tried again.
const LOCK_TRIED_EVERY: Duration = Duration::from_millis(20);
const SEGMENT_SUFFIX: &str = ".segment";
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// A log whose thread runs.
#[derive(Debug)]
pub struct FileThread {
    log: Log,
    thread: std::thread::JoinHandle<()>,
}

impl FileThread {
    /// Reads what an earlier life left and starts the thread. The error says which path could not be used, and why.
    pub fn start(place: &Place, clock: Clock) -> Result<FileThread, String> {
        let (writer, found) = Writer::open(place, clock)?;
        let (commands, asked) = mpsc::channel(COMMANDS_MAX);
        let log = Log { commands, figures: Arc::clone(&writer.figures), clock };
        debug_assert_eq!(log.found(), found);
        let body = move || {
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| writer.run(asked)));
            if ended.is_err() {
                // Not through the log of the process, whose writer ends with it.
                eprintln!("the thread of a durable log has panicked; the process stops, because nothing more is kept");
                std::process::exit(101);
            }
        };
        let thread = std::thread::Builder::new().name("durable-log".to_owned()).spawn(body);
        let thread = thread.map_err(|error| format!("the thread of a durable log cannot start: {error}"))?;
        Ok(FileThread { log, thread })
    }

    /// The shards' end.
    pub fn log(&self) -> Log {
        self.log.clone()
    }

    /// Writes what was asked for and ends the thread, also if a shard's end still exists.
    pub fn close(self) {
        // A closed channel means that it has ended.
        drop(self.log.commands.blocking_send(Command::Close));
        drop(self.thread.join());
    }
}

/// Where a request of an earlier life lies.
#[derive(Clone, Debug)]
struct Left {
    sequence: u64,
    segment: u64,
    body: Range<usize>,
}

/// Who waits for a commit.
struct Pending {
    sequence: u64,
    reply: oneshot::Sender<Result<u64, AppendError>>,
}

#[derive(Debug)]
struct Writer {
    directory: PathBuf,
    /// Holds the lock for as long as it is open.
    _lock: File,
    clock: Clock,
    account: Account,
    /// The segment that is written to, and its salt.
    active: Option<(File, u64)>,
    /// Its length with all of `buffer`.
    length: u64,
    segment_number_next: u64,
    sequence_next: u64,
    /// Records that are not written yet.
    buffer: Vec<u8>,
    left: VecDeque<Left>,
    /// How many readers each of them still waits for, where there are several.
    readers: BTreeMap<u64, usize>,
    reading: Option<(u64, File)>,
    figures: Arc<Figures>,
}

impl Writer {
    fn open(place: &Place, clock: Clock) -> Result<(Writer, Found), String> {
        let directory = &place.directory;
        let cannot = |what: &str, error: &io::Error| format!("{}: {what}: {error}", directory.display());
        let made = DirBuilder::new().mode(DIRECTORY_MODE).create(directory);
        if let Err(error) = made.or_else(|error| if directory.is_dir() { Ok(()) } else { Err(error) }) {
            return Err(cannot("the directory of a durable log cannot be made", &error));
        }
        // Else a host that dies could forget the directory itself.
        let parent =
            directory.parent().map_or(Ok(()), |parent| File::open(parent).and_then(|parent| parent.sync_all()));
        parent.map_err(|error| cannot("the directory above a durable log cannot be synced", &error))?;
        let lock = lock(directory, place.lock_timeout_ns)?;
        let mut recovery = Recovery::new(place.bounds, clock);
        recovery.read(directory).map_err(|error| cannot("the segments of a durable log cannot be read", &error))?;
        let Recovery { account, left, found, segment_number_next, sequence_next, .. } = recovery;
        let (bytes_max, drops_oldest) = (place.bounds.bytes_max, place.drops_oldest);
        let figures = Figures { bytes_max, drops_oldest, found, ..Figures::default() };
        let shared = if place.readers > 1 { left.len() } else { 0 };
        let readers = left.iter().take(shared).map(|left: &Left| (left.sequence, place.readers)).collect();
        let mut writer = Writer {
            directory: directory.clone(),
            _lock: lock,
            clock,
            account,
            active: None,
            length: 0,
            segment_number_next,
            sequence_next,
            buffer: Vec::new(),
            left,
            readers,
            reading: None,
            figures: Arc::new(figures),
        };
        writer.tidy();
        Ok((writer, found))
    }

    fn run(mut self, mut asked: mpsc::Receiver<Command>) {
        let mut commands = Vec::with_capacity(COMMIT_COMMANDS_MAX);
        while asked.blocking_recv_many(&mut commands, COMMIT_COMMANDS_MAX) > 0 {
            let go_on = self.obey(commands.drain(..));
            self.tidy();
            if !go_on {
                break;
            }
        }
        if self.account.waiting() == 0 {
            self.account.close();
            self.active = None;
            self.tidy();
        }
    }

    /// One group commit. Returns whether there is to be another.
    fn obey(&mut self, commands: impl Iterator<Item = Command>) -> bool {
        let mut pending = Vec::new();
        let mut go_on = true;
        for command in commands {
            match command {
                Command::Append(append, reply) => self.append(&append, reply, &mut pending),
                Command::Done(sequence) => self.mark_done(sequence, &mut pending),
                // Whoever no longer waits for it has ended; it is read again at the next start.
                Command::Adopt(reply) => drop(reply.send(self.adopt())),
                Command::ReadAfter(sequence, reply) => drop(reply.send(self.read_after(sequence))),
                Command::Close => go_on = false,
            }
        }
        self.commit(&mut pending);
        go_on
    }

    fn append(
        &mut self,
        append: &Append,
        reply: oneshot::Sender<Result<u64, AppendError>>,
        pending: &mut Vec<Pending>,
    ) {
        let sequence = self.sequence_next;
        let unix_ns = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let entry = Entry {
            signal: append.signal,
            taken_unix_ns: u64::try_from(unix_ns).unwrap_or(u64::MAX),
            pipeline: &append.pipeline,
            request: &append.request,
        };
        let size = (RECORD_HEADER_BYTES + append.request.len() + append.pipeline.len()) as u64;
        if !self.account.fits(size) {
            // What was just marked as done may make room.
            self.commit(pending);
            self.tidy();
            while self.figures.drops_oldest && !self.account.fits(size) && self.forget_oldest() {}
        }
        if append.request.len() >= segment::BODY_BYTES_MAX / 2 || !self.account.fits(size) {
            // Whoever no longer waits has been told that the process ends.
            drop(reply.send(Err(AppendError::Full)));
            return;
        }
        if let Err(error) = self.have_segment(pending) {
            drop(reply.send(Err(AppendError::Disk(error.to_string()))));
            return;
        }
        self.sequence_next += 1;
        self.record(Kind::Request, sequence, |out| entry.write(out));
        let taken_ns = i64::try_from(self.clock.now_ns()).unwrap_or(i64::MAX);
        self.account.waits(sequence, self.segment_number_next - 1, taken_ns);
        pending.push(Pending { sequence, reply });
    }

    /// Marks wait for the next commit of a request, or for the end: losing one repeats a request and loses none.
    fn mark_done(&mut self, sequence: u64, pending: &mut Vec<Pending>) {
        if self.is_still_read(sequence) || !self.account.done(sequence) {
            return;
        }
        match self.have_segment(pending) {
            Ok(()) => self.record(Kind::Done, sequence, |_| {}),
            Err(error) => {
                tracing::warn!(sequence, %error, "A delivered request cannot be marked and may be sent again")
            }
        }
    }

    /// Puts a record into the buffer, behind the last one.
    fn record(&mut self, kind: Kind, sequence: u64, write_body: impl FnOnce(&mut Vec<u8>)) {
        let salt = self.active.as_ref().map_or(0, |(_, salt)| *salt);
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
        write_body(&mut self.buffer);
        let (head, body) = self.buffer[start..].split_at_mut(RECORD_HEADER_BYTES);
        head.copy_from_slice(&segment::record_header(salt, self.length, kind, sequence, body));
        let bytes = (self.buffer.len() - start) as u64;
        self.length += bytes;
        self.account.grown(bytes);
    }

    /// Begins a segment if the last one is full; what was meant for that one is committed first.
    fn have_segment(&mut self, pending: &mut Vec<Pending>) -> io::Result<()> {
        if self.active.is_some() && !self.account.wants_segment() {
            return Ok(());
        }
        self.commit(pending);
        let number = self.segment_number_next;
        let salt = fastrand::u64(..);
        let path = segment_path(&self.directory, number);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?;
        // Also if it cannot be written: the next attempt takes another name.
        self.segment_number_next += 1;
        let mut header = Vec::with_capacity(HEADER_BYTES);
        segment::write_header(salt, &mut header);
        file.write_all(&header)?;
        File::open(&self.directory)?.sync_all()?;
        self.active = Some((file, salt));
        self.length = HEADER_BYTES as u64;
        self.account.begin(number);
        Ok(())
    }

    /// Writes the buffer and tells everybody who waits for it.
    fn commit(&mut self, pending: &mut Vec<Pending>) {
        let written = match &mut self.active {
            _ if self.buffer.is_empty() => Ok(()),
            None => Err(io::Error::other("no segment is open")),
            Some((file, _)) => {
                let written = file.write_all(&self.buffer);
                if pending.is_empty() { written } else { written.and_then(|()| file.sync_data()) }
            }
        };
        self.buffer.clear();
        let failure = written.err().map(|error| {
            // What the file holds now is not known: nothing more goes there.
            self.active = None;
            self.account.close();
            AppendError::Disk(error.to_string())
        });
        if failure.is_some() {
            for waiting in pending.iter() {
                self.account.done(waiting.sequence);
            }
        }
        // Before anybody is told: who was answered finds his request among those that are held.
        self.show();
        for Pending { sequence, reply } in pending.drain(..) {
            drop(reply.send(failure.clone().map_or(Ok(sequence), Err)));
        }
    }

    /// The next request of an earlier life that can still be read.
    fn adopt(&mut self) -> Option<Adopted> {
        while let Some(left) = self.left.pop_front() {
            match self.read(&left) {
                Ok(Some(adopted)) => return Some(adopted),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(sequence = left.sequence, %error, "A request of an earlier life cannot be read")
                }
            }
            self.account.done(left.sequence);
        }
        None
    }

    /// One reader is done with this request. Returns whether others are not.
    fn is_still_read(&mut self, sequence: u64) -> bool {
        let Some(readers) = self.readers.get_mut(&sequence) else {
            // The only reader may have read it without taking it out.
            self.left_behind(sequence);
            return false;
        };
        *readers -= 1;
        let is_read = *readers > 0;
        if !is_read {
            self.readers.remove(&sequence);
            self.left_behind(sequence);
        }
        is_read
    }

    /// Nobody reads this request any more.
    fn left_behind(&mut self, sequence: u64) {
        if let Ok(at) = self.left.binary_search_by_key(&sequence, |left| left.sequence) {
            self.left.remove(at);
        }
    }

    /// The first request of an earlier life behind this one that can be read.
    fn read_after(&mut self, sequence: Option<u64>) -> Option<Adopted> {
        loop {
            let at = sequence.map_or(0, |sequence| self.left.partition_point(|left| left.sequence <= sequence));
            let left = self.left.get(at)?.clone();
            match self.read(&left) {
                Ok(Some(adopted)) => return Some(adopted),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(sequence = left.sequence, %error, "A request of an earlier life cannot be read")
                }
            }
            self.readers.remove(&left.sequence);
            self.left.remove(at);
            self.account.done(left.sequence);
        }
    }

    fn read(&mut self, left: &Left) -> io::Result<Option<Adopted>> {
        if self.reading.as_ref().is_none_or(|(number, _)| *number != left.segment) {
            let file = File::open(segment_path(&self.directory, left.segment))?;
            self.reading = Some((left.segment, file));
        }
        let mut body = vec![0; left.body.len()];
        if let Some((_, file)) = &self.reading {
            file.read_exact_at(&mut body, left.body.start as u64)?;
        }
        let body = Bytes::from(body);
        Ok(Entry::read(&body).map(|entry| Adopted {
            sequence: left.sequence,
            signal: entry.signal,
            pipeline: entry.pipeline.to_owned(),
            request: body.slice_ref(entry.request),
        }))
    }

    /// Makes room for a new request at the cost of the oldest. Returns whether there was something to forget.
    fn forget_oldest(&mut self) -> bool {
        let Some(forgotten) = self.account.forget_oldest() else { return false };
        let unread = self.left.iter().take_while(|left| left.segment == forgotten.segment).count();
        self.left.drain(..unread);
        let Forgotten { segment, requests, sequence_min } = forgotten;
        if requests > 0 {
            tracing::warn!(
                requests,
                of_an_earlier_process = unread,
                "A full log forgets its oldest requests; those of an earlier process are lost, the others wait in memory only"
            );
            self.figures.dropped.fetch_add(requests, Ordering::Relaxed);
            self.figures.sequence_min.fetch_max(sequence_min, Ordering::Relaxed);
        }
        self.remove(segment);
        true
    }

    /// Removes what nobody needs, and shows what is held.
    fn tidy(&mut self) {
        debug_assert!(self.buffer.is_empty(), "a segment may go only when nothing is about to be written to it");
        while let Some(number) = self.account.release() {
            self.remove(number);
        }
        self.show();
    }

    fn remove(&mut self, number: u64) {
        if self.reading.as_ref().is_some_and(|(reading, _)| *reading == number) {
            self.reading = None;
        }
        if number + 1 == self.segment_number_next {
            self.active = None;
        }
        let path = segment_path(&self.directory, number);
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "A segment that nobody needs cannot be removed");
        }
    }

    fn show(&self) {
        let figures = &self.figures;
        figures.bytes.store(self.account.bytes(), Ordering::Relaxed);
        figures.waiting.store(self.account.waiting() as u64, Ordering::Relaxed);
        figures.oldest_ns.store(self.account.oldest_ns().unwrap_or(NOTHING_WAITS), Ordering::Relaxed);
    }
}

/// Waits for another process to let go, as at a restart.
fn lock(directory: &Path, timeout_ns: u64) -> Result<File, String> {
    let path = directory.join("lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(FILE_MODE).open(&path);
    let file =
        file.map_err(|error| format!("{}: the lock of a durable log cannot be made: {error}", path.display()))?;
    let deadline = Instant::now() + Duration::from_nanos(timeout_ns);
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(error) if Instant::now() >= deadline => {
                return Err(format!(
                    "{}: expected a durable log that is free, found one that another process uses ({error}); stop that \
                     process, or give this one another `directory`",
                    path.display()
                ));
            }
            Err(_) => std::thread::sleep(LOCK_TRIED_EVERY),
        }
    }
}

fn segment_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:020}{SEGMENT_SUFFIX}"))
}

/// Reads the segments of an earlier life, oldest first.
struct Recovery {
    account: Account,
    left: VecDeque<Left>,
    found: Found,
    segment_number_next: u64,
    sequence_next: u64,
    /// The clock's and the world's time now, in nanoseconds.
    now: (i64, u64),
}

impl Recovery {
    fn new(bounds: Bounds, clock: Clock) -> Recovery {
        let unix_ns = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        Recovery {
            account: Account::new(bounds),
            left: VecDeque::new(),
            found: Found::default(),
            segment_number_next: 1,
            sequence_next: 0,
            now: (i64::try_from(clock.now_ns()).unwrap_or(i64::MAX), u64::try_from(unix_ns).unwrap_or(u64::MAX)),
        }
    }

    fn read(&mut self, directory: &Path) -> io::Result<()> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(directory)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(SEGMENT_SUFFIX)).map(str::parse::<u64>);
            numbers.extend(number.and_then(Result::ok));
        }
        numbers.sort_unstable();
        for number in numbers {
            self.segment_number_next = self.segment_number_next.max(number.saturating_add(1));
            self.read_segment(&segment_path(directory, number), number)?;
        }
        self.found.requests = self.left.len() as u64;
        Ok(())
    }

    fn read_segment(&mut self, path: &Path, number: u64) -> io::Result<()> {
        let bytes = fs::read(path)?;
        let Ok(scanned) = segment::scan(&bytes) else {
            return self.set_aside(path, bytes.len());
        };
        if scanned.end < bytes.len() {
            self.found.cut += 1;
            let torn = bytes.len() - scanned.end;
            tracing::warn!(path = %path.display(), torn, "The torn end of a segment is cut off");
            OpenOptions::new().write(true).open(path)?.set_len(scanned.end as u64)?;
        }
        if scanned.skipped > 0 {
            tracing::error!(path = %path.display(), records = scanned.skipped, "Damaged records are passed over");
        }
        self.found.skipped += scanned.skipped;
        self.account.found(number, scanned.end as u64);
        self.take(number, &bytes, scanned);
        Ok(())
    }

    /// A segment without an intact header: an empty one if the process ended while it was made.
    fn set_aside(&mut self, path: &Path, length: usize) -> io::Result<()> {
        if length < HEADER_BYTES {
            self.found.cut += u64::from(length > 0);
            return fs::remove_file(path);
        }
        self.found.skipped += 1;
        let aside = PathBuf::from(format!("{}.damaged", path.display()));
        tracing::error!(path = %path.display(), aside = %aside.display(), "A segment's header is damaged; it is set aside");
        fs::rename(path, aside)
    }

    fn take(&mut self, number: u64, bytes: &[u8], scanned: Scanned) {
        for record in scanned.records {
            self.sequence_next = self.sequence_next.max(record.sequence.saturating_add(1));
            match (record.kind, Entry::read(&bytes[record.body.clone()])) {
                (Kind::Request, Some(entry)) => {
                    let age_ns = i64::try_from(self.now.1.saturating_sub(entry.taken_unix_ns)).unwrap_or(0);
                    self.account.waits(record.sequence, number, self.now.0.saturating_sub(age_ns));
                    self.left.push_back(Left { sequence: record.sequence, segment: number, body: record.body });
                }
                (Kind::Request, None) => self.found.skipped += 1,
                (Kind::Done, _) => {
                    if self.account.done(record.sequence)
                        && let Ok(at) = self.left.binary_search_by_key(&record.sequence, |left| left.sequence)
                    {
                        self.left.remove(at);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use codecs::otlp::Signal;
    use std::os::unix::fs::PermissionsExt;

    fn place(directory: &Path, bytes_max: u64) -> Place {
        let bounds = Bounds { bytes_max, segment_bytes: bytes_max / 8 };
        Place { directory: directory.join("log"), bounds, lock_timeout_ns: 0, drops_oldest: false, readers: 1 }
    }

    fn start(directory: &Path, bytes_max: u64) -> FileThread {
        FileThread::start(&place(directory, bytes_max), Clock::start()).expect("a directory for the test")
    }

    fn append(log: &Log, request: &[u8]) -> Result<u64, AppendError> {
        let request = Bytes::copy_from_slice(request);
        futures_lite::future::block_on(log.append(Append {
            signal: Signal::Traces,
            pipeline: "traces".into(),
            request,
        }))
    }

    fn adopt_all(log: &Log) -> Vec<Adopted> {
        std::iter::from_fn(|| futures_lite::future::block_on(log.adopt())).collect()
    }

    fn bodies(adopted: &[Adopted]) -> Vec<&[u8]> {
        adopted.iter().map(|adopted| &adopted.request[..]).collect()
    }

    fn segments(directory: &Path) -> Vec<PathBuf> {
        let files = fs::read_dir(directory.join("log")).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|it| it == "segment")).collect();
        files.sort();
        files
    }

    #[test]
    fn what_was_not_done_is_adopted_by_the_next_life() {
        let directory = tempfile::tempdir().unwrap();
        let first = start(directory.path(), 1 << 20);
        let log = first.log();
        let sequences: Vec<u64> = [b"a", b"b", b"c"].map(|body| append(&log, body).unwrap()).to_vec();
        futures_lite::future::block_on(log.done(sequences[1]));
        first.close();
        let mode = fs::metadata(&segments(directory.path())[0]).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let second = start(directory.path(), 1 << 20);
        let log = second.log();
        assert_eq!(log.found(), Found { requests: 2, cut: 0, skipped: 0 });
        let adopted = adopt_all(&log);
        assert_eq!(bodies(&adopted), [b"a", b"c"]);
        assert!(append(&log, b"d").unwrap() > sequences[2], "no number is used twice");
        for adopted in &adopted {
            futures_lite::future::block_on(log.done(adopted.sequence));
        }
        second.close();

        let third = start(directory.path(), 1 << 20);
        assert_eq!(bodies(&adopt_all(&third.log())), [b"d"]);
        third.close();
    }

    #[test]
    fn what_several_read_stays_until_all_of_them_are_done_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let first = start(directory.path(), 1 << 20);
        for body in [b"a", b"b"] {
            append(&first.log(), body).unwrap();
        }
        first.close();
        let shared = |readers: usize| {
            let place = Place { readers, ..place(directory.path(), 1 << 20) };
            FileThread::start(&place, Clock::start()).unwrap()
        };
        let second = shared(2);
        let log = second.log();
        let read_all = || {
            let mut all: Vec<Adopted> = Vec::new();
            let next = |after| futures_lite::future::block_on(log.read_after(after));
            while let Some(adopted) = next(all.last().map(|last: &Adopted| last.sequence)) {
                all.push(adopted);
            }
            all
        };
        let all = read_all();
        assert_eq!(bodies(&all), [b"a", b"b"]);
        assert_eq!(read_all(), all, "the other reader finds the same");
        for sequence in [all[0].sequence, all[1].sequence, all[0].sequence] {
            futures_lite::future::block_on(log.done(sequence));
        }
        assert_eq!(bodies(&read_all()), [b"b"], "one reader is not done with it");
        assert_eq!(log.waiting(), 1);
        second.close();

        let third = shared(3);
        let left = futures_lite::future::block_on(third.log().read_after(None)).expect("one is left");
        assert_eq!(&left.request[..], b"b");
        for _ in 0..3 {
            futures_lite::future::block_on(third.log().done(left.sequence));
        }
        third.close();
        assert!(segments(directory.path()).is_empty(), "nothing waits, so nothing stays");
    }

    #[test]
    fn a_log_starts_whatever_was_done_to_its_last_file() {
        let directory = tempfile::tempdir().unwrap();
        let first = start(directory.path(), 1 << 20);
        for body in [b"one", b"two"] {
            append(&first.log(), body).unwrap();
        }
        first.close();
        let path = segments(directory.path()).pop().unwrap();
        let whole = fs::read(&path).unwrap();
        for end in (0..whole.len()).step_by(3) {
            fs::write(&path, &whole[..end]).unwrap();
            let log = start(directory.path(), 1 << 20);
            let adopted = adopt_all(&log.log());
            assert!([b"one".as_slice(), b"two"].starts_with(&bodies(&adopted)), "cut at {end}");
            assert!(adopted.len() < 2, "cut at {end}");
            log.close();
            // Nobody else's file: what the life before left is gone or smaller.
            segments(directory.path()).iter().for_each(|path| fs::remove_file(path).unwrap());
        }
        for at in (0..whole.len()).step_by(3) {
            let mut flipped = whole.clone();
            flipped[at] ^= 4;
            fs::write(&path, &flipped).unwrap();
            let log = start(directory.path(), 1 << 20);
            let (adopted, found) = (adopt_all(&log.log()), log.log().found());
            assert!(
                bodies(&adopted).iter().all(|body| [b"one", b"two"].contains(&<&[u8; 3]>::try_from(*body).unwrap()))
            );
            let missing = 2 - adopted.len() as u64;
            assert_eq!(found.cut + found.skipped, missing, "flipped at {at}");
            log.close();
            segments(directory.path()).iter().for_each(|path| fs::remove_file(path).unwrap());
        }
    }

    #[test]
    fn a_full_log_refuses_until_something_is_done() {
        let directory = tempfile::tempdir().unwrap();
        let thread = start(directory.path(), 8192);
        let log = thread.log();
        let mut kept = Vec::new();
        let refused = loop {
            match append(&log, &[7; 500]) {
                Ok(sequence) => kept.push(sequence),
                Err(error) => break error,
            }
            assert!(kept.len() < 17, "16 of them are all the bytes there are");
        };
        assert_eq!(refused, AppendError::Full);
        assert!(!log.has_room());
        assert!(log.bytes() <= 8192);
        assert_eq!(log.waiting(), kept.len() as u64);
        for sequence in kept {
            futures_lite::future::block_on(log.done(sequence));
        }
        assert!(append(&log, &[7; 500]).is_ok());
        assert!(log.has_room());
        assert!(segments(directory.path()).len() <= 2, "segments of delivered requests are removed");
        thread.close();
    }

    #[test]
    fn a_log_that_drops_its_oldest_takes_everything_and_knows_what_it_still_holds() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place { drops_oldest: true, ..place(directory.path(), 8192) };
        let thread = FileThread::start(&place, Clock::start()).unwrap();
        let log = thread.log();
        let sequences: Vec<u64> = (0..60_u8).map(|number| append(&log, &[number; 500]).unwrap()).collect();
        assert!(log.has_room() && log.bytes() <= 8192);
        let held = sequences.iter().filter(|sequence| log.holds(**sequence)).count();
        assert!((8..17).contains(&held), "{held} of the newest are held");
        assert_eq!((log.dropped(), log.waiting()), (60 - held as u64, held as u64));
        thread.close();

        let second = FileThread::start(&place, Clock::start()).unwrap();
        let log = second.log();
        assert_eq!(log.found().requests, held as u64);
        // What nobody has read yet makes room as well.
        assert!((0..60_u8).all(|number| append(&log, &[100 + number; 500]).is_ok()));
        assert!(adopt_all(&log).is_empty());
        second.close();
    }

    #[test]
    fn a_log_has_one_process() {
        let directory = tempfile::tempdir().unwrap();
        let first = start(directory.path(), 1 << 20);
        let error = FileThread::start(&place(directory.path(), 1 << 20), Clock::start()).expect_err("it is held");
        assert!(error.contains("another process uses"), "{error}");
        first.close();
        start(directory.path(), 1 << 20).close();
        assert!(segments(directory.path()).is_empty(), "nothing waits, so nothing stays");
    }
}
