//! What keeps the undecided spans of one sampler on one shard beyond the process.
//!
//! ```text
//! spans --enter--> open record --append--> log: on disk --> senders that wait are answered   (one write at a time: what
//!                                                                                            comes meanwhile shares the next)
//! trace table --> released batches, watched --> queue owns them --> marks: the log may forget
//! ```
//!
//! The one idea: a trace is decided no later than its longest decision wait after its first span, so a record needs no list
//! of its traces. It is needed until nothing is due in the table any more of the time it came; and, because what was kept
//! lies in batches on their way, until each batch that had left by then is owned by a queue or has ended.
//!
//! Spans enter the table at once and do not wait for the disk. It never reads what it wrote: a start does.

use crate::pipeline::ack::{self, Ack, Outcome};
use crate::queue::log::{Append, AppendError, Log};
use crate::shard::ShardContext;
use crate::shard::runtime;
use crate::telemetry::metrics::PendingLogSeries;
use bytes::Bytes;
use codecs::grpc::{Code, Status};
use codecs::otlp::{Signal, SpanIndex};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// A record with so many bytes is written without waiting for the one before.
const RECORD_BYTES_MAX: usize = 1 << 20;
/// Bytes that wait for the disk on one shard before the edge refuses: a disk that is slower than what comes in would
/// otherwise take memory from the trace table.
const UNWRITTEN_BYTES_MAX: usize = 32 << 20;
/// For so long after the disk said no it is not said again, and senders that wait for it are refused: what they send again
/// is in the table already.
const FAILING_NS: u64 = 1_000_000_000;
/// When they may come again, and up to as much later, so that they do not come together.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub struct PendingLog {
    writing: Rc<Writing>,
    /// The longest decision wait of any rules since the start.
    wait_ns: u64,
    /// When the last span of each record came that the table may still need, oldest first.
    came_ns: VecDeque<u64>,
    /// The number of the first of them.
    first: u64,
    /// Batches that left the table and that nobody behind it is known to own, oldest first.
    leaving: VecDeque<ack::Waiting>,
    /// Batches that ever left.
    left: u64,
    /// Records that the table no longer needs, and what they wait for. Both numbers rise.
    gone: VecDeque<Gone>,
}

/// Records below a number may be forgotten once so many batches are owned by others.
#[derive(Clone, Copy, Debug)]
struct Gone {
    records: u64,
    batches: u64,
}

/// What the task that writes shares with the node.
#[derive(Debug)]
struct Writing {
    log: Log,
    /// The pipeline's id.
    pipeline: Arc<str>,
    /// Whether senders wait for the disk.
    is_awaited: bool,
    series: PendingLogSeries,
    shard: ShardContext,
    open: RefCell<Record>,
    /// Numbers of records that are on disk and still needed, with their numbers there.
    kept: RefCell<BTreeMap<u64, u64>>,
    /// Records below it are not needed any more.
    forgotten: Cell<u64>,
    /// Records on their way to the disk.
    entering: Cell<usize>,
    /// Bytes of these.
    entering_bytes: Cell<usize>,
    /// Tasks that mark what is forgotten.
    marking: Cell<usize>,
    /// The disk has said no a moment ago.
    failed_until_ns: Cell<u64>,
}

/// Spans on their way to the disk.
#[derive(Debug, Default)]
struct Record {
    number: u64,
    spans: u64,
    /// One request after the other, which is one request.
    bytes: Vec<u8>,
    acks: Vec<Ack>,
}

impl Record {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// What a node's log is made of.
#[derive(Debug)]
pub struct Keeping<'a> {
    /// Shared by all shards, and by all pipelines with this processor.
    pub log: Log,
    /// The pipeline's id.
    pub pipeline: &'a str,
    /// Whether its senders wait for the disk: `ack: durable`.
    pub is_awaited: bool,
    /// The longest wait of its rules.
    pub decision_wait_ns: u64,
    /// What it shows.
    pub series: PendingLogSeries,
}

/// What a trace table holds, when all that it released has left the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Nothing.
    Empty,
    /// Traces whose deadline is still to come.
    NothingDue,
    /// Perhaps traces whose deadline has passed.
    Behind,
}

impl PendingLog {
    /// Nothing has come yet.
    pub fn new(keeping: Keeping<'_>, shard: ShardContext) -> PendingLog {
        let Keeping { log, pipeline, is_awaited, decision_wait_ns, series } = keeping;
        let writing = Writing {
            log,
            pipeline: pipeline.into(),
            is_awaited,
            series,
            shard,
            open: RefCell::default(),
            kept: RefCell::default(),
            forgotten: Cell::new(0),
            entering: Cell::new(0),
            entering_bytes: Cell::new(0),
            marking: Cell::new(0),
            failed_until_ns: Cell::new(0),
        };
        PendingLog {
            writing: Rc::new(writing),
            wait_ns: decision_wait_ns,
            came_ns: VecDeque::new(),
            first: 0,
            leaving: VecDeque::new(),
            left: 0,
            gone: VecDeque::new(),
        }
    }

    /// Rules with this decision wait are in force from now on; traces under those before may still wait.
    pub fn follow_wait(&mut self, decision_wait_ns: u64) {
        self.wait_ns = self.wait_ns.max(decision_wait_ns);
    }

    /// Whether senders wait for the disk.
    pub fn is_awaited(&self) -> bool {
        self.writing.is_awaited
    }

    /// Whether the edge may let spans in.
    pub fn has_room(&self) -> bool {
        let writing = &self.writing;
        let is_failing = writing.failed_until_ns.get() > writing.shard.clock.now_ns();
        writing.log.has_room() && !(writing.is_awaited && is_failing) && writing.unwritten_bytes() < UNWRITTEN_BYTES_MAX
    }

    /// Spans enter the table now. `acks` are settled once they are on disk; none wait where senders do not.
    pub fn enter(&mut self, now_ns: u64, index: &SpanIndex, segments: &[Bytes], acks: Vec<Ack>) {
        let mut open = self.writing.open.borrow_mut();
        if open.is_empty() {
            open.number = self.first + self.came_ns.len() as u64;
            self.came_ns.push_back(now_ns);
        } else if let Some(came_ns) = self.came_ns.back_mut() {
            *came_ns = now_ns;
        }
        open.spans += index.items.len() as u64;
        self.writing.shard.encode_spans(index, segments, &mut open.bytes);
        open.acks.extend(acks);
        let is_full = open.bytes.len() >= RECORD_BYTES_MAX;
        drop(open);
        if is_full || self.writing.entering.get() == 0 {
            self.close();
        }
    }

    /// Spans of an earlier life's record enter the table now; it has this number on disk.
    pub fn restored(&mut self, now_ns: u64, sequence: u64, spans: u64) {
        if !self.writing.open.borrow().is_empty() {
            self.close();
        }
        let number = self.first + self.came_ns.len() as u64;
        self.came_ns.push_back(now_ns);
        self.writing.kept.borrow_mut().insert(number, sequence);
        self.writing.shard.cells.add(self.writing.series.restored_spans, spans);
    }

    /// Sends the open record on its way.
    fn close(&self) {
        let record = self.writing.open.take();
        let writing = Rc::clone(&self.writing);
        writing.begin(&record);
        runtime::spawn(async move { writing.write(record).await });
    }

    /// A batch leaves the node: the part of it that tells when somebody behind owns it.
    pub fn leaves(&mut self) -> Ack {
        let (ack, waiting) = ack::watch();
        self.leaving.push_back(waiting);
        self.left += 1;
        ack
    }

    /// Time passes: what no trace in the table needs any more is forgotten, as soon as what was kept of it is owned behind.
    pub fn pass(&mut self, now_ns: u64, table: Table) {
        if self.writing.shard.giving_up.has_begun() {
            // What ends now was not delivered: it is for the next start.
            return;
        }
        let gone_until_ns = match table {
            Table::Empty => Some(now_ns),
            Table::NothingDue => now_ns.checked_sub(self.wait_ns),
            Table::Behind => None,
        };
        let before = self.first;
        // More may join the open record, which is the last.
        let closed = self.came_ns.len() - usize::from(!self.writing.open.borrow().is_empty());
        if let Some(until_ns) = gone_until_ns {
            let gone = self.came_ns.iter().take(closed).take_while(|came_ns| **came_ns <= until_ns).count();
            self.came_ns.drain(..gone);
            self.first += gone as u64;
        }
        if self.first > before {
            match self.gone.back_mut().filter(|last| last.batches == self.left) {
                Some(last) => last.records = self.first,
                None => self.gone.push_back(Gone { records: self.first, batches: self.left }),
            }
        }
        while self.leaving.front().is_some_and(ack::Waiting::is_settled) {
            self.leaving.pop_front();
        }
        let owned = self.left - self.leaving.len() as u64;
        let mut forgotten = None;
        while let Some(gone) = self.gone.front().filter(|gone| gone.batches <= owned) {
            forgotten = Some(gone.records);
            self.gone.pop_front();
        }
        if let Some(forgotten) = forgotten {
            self.writing.forget(forgotten);
        }
    }

    /// Whether nothing of this shard's is needed on disk, and the disk knows.
    pub fn is_settled(&self) -> bool {
        let writing = &self.writing;
        let is_idle = writing.entering.get() == 0 && writing.marking.get() == 0;
        self.came_ns.is_empty() && self.leaving.is_empty() && self.gone.is_empty() && is_idle
    }

    /// Memory of what waits for the disk, and of what is known of the rest.
    pub fn bytes_held(&self) -> usize {
        let known = self.came_ns.capacity() * size_of::<u64>() + self.leaving.capacity() * size_of::<ack::Waiting>();
        // A map's node is about half full.
        let kept = self.writing.kept.borrow().len() * 4 * size_of::<u64>();
        self.writing.unwritten_bytes() + known + kept
    }

    /// Shows what the log holds, for a scrape.
    pub fn show(&self) {
        let Writing { log, series, shard, .. } = &*self.writing;
        // One shard speaks for all: gauges are summed.
        if shard.number == 0 {
            shard.cells.set(series.bytes, log.bytes());
            shard.cells.set(series.records, log.waiting());
            shard.cells.set(series.oldest_age_seconds, log.oldest_age_seconds());
        }
    }
}

impl Writing {
    fn unwritten_bytes(&self) -> usize {
        self.entering_bytes.get() + self.open.borrow().bytes.len()
    }

    fn begin(&self, record: &Record) {
        self.entering.set(self.entering.get() + 1);
        self.entering_bytes.set(self.entering_bytes.get() + record.bytes.len());
    }

    /// Writes this record and all that open meanwhile.
    async fn write(self: Rc<Self>, mut record: Record) {
        loop {
            self.write_one(record).await;
            record = self.open.take();
            if record.is_empty() {
                return;
            }
            self.begin(&record);
        }
    }

    async fn write_one(&self, record: Record) {
        let Record { number, spans, bytes, acks } = record;
        let length = bytes.len();
        let request = Bytes::from(bytes);
        let append = Append { signal: Signal::Traces, pipeline: Arc::clone(&self.pipeline), request };
        let appended = self.log.append(append).await;
        self.entering_bytes.set(self.entering_bytes.get() - length);
        match appended {
            Ok(sequence) => {
                ack::settle_all(acks, &Outcome::Taken);
                if number < self.forgotten.get() {
                    self.log.done(sequence).await;
                } else {
                    self.kept.borrow_mut().insert(number, sequence);
                }
            }
            Err(error) => self.not_written(spans, acks, &error),
        }
        self.entering.set(self.entering.get() - 1);
    }

    /// The spans are in memory only; who waits for the disk hears of it.
    fn not_written(&self, spans: u64, acks: Vec<Ack>, error: &AppendError) {
        self.shard.cells.add(self.series.not_written_spans, spans);
        let now_ns = self.shard.clock.now_ns();
        if now_ns >= self.failed_until_ns.get() {
            tracing::error!(pipeline = %self.pipeline, spans, %error, "Undecided spans are in memory only");
            self.failed_until_ns.set(now_ns + FAILING_NS);
        }
        let message = format!("undecided spans are not safe on disk: {error}");
        let delay = RETRY_AFTER + RETRY_AFTER.mul_f64(fastrand::f64());
        let status = Status::new(Code::Unavailable, message).retry_after(delay);
        ack::settle_all(acks, &Outcome::Failed(status));
    }

    /// Records below this number are not needed any more.
    fn forget(self: &Rc<Self>, below: u64) {
        self.forgotten.set(below);
        let mut kept = self.kept.borrow_mut();
        let still_kept = kept.split_off(&below);
        let forgotten = std::mem::replace(&mut *kept, still_kept);
        if forgotten.is_empty() {
            return;
        }
        self.marking.set(self.marking.get() + 1);
        let writing = Rc::clone(self);
        runtime::spawn(async move {
            for sequence in forgotten.into_values() {
                writing.log.done(sequence).await;
            }
            writing.marking.set(writing.marking.get() - 1);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::log::{Bounds, FileThread, Place};
    use crate::shard::budget::Budget;
    use crate::shard::buffers::Buffers;
    use crate::shard::clock::Clock;
    use crate::shard::runtime::Runtime;
    use crate::telemetry::cells::{Cells, Schema};

    const WAIT_NS: u64 = 100;

    /// A log over files in `directory`, and a request of one span without a trace id: `ResourceSpans.scope_spans.spans`.
    fn start(directory: &std::path::Path) -> (FileThread, PendingLog, SpanIndex, Vec<Bytes>) {
        let bounds = Bounds { bytes_max: 1 << 20, segment_bytes: 1 << 16 };
        let directory = directory.join("log");
        let place = Place { directory, bounds, lock_timeout_ns: 0, drops_oldest: false, readers: 1 };
        let thread = FileThread::start(&place, Clock::start()).expect("a directory for the test");
        let mut schema = Schema::default();
        let series = PendingLogSeries::declare(&mut schema, "tail_sampling");
        let (cells, lease) = (Cells::new(&schema), Budget::new(1 << 30, 1 << 20, 1).lease());
        let shard = ShardContext::new(0, 1, Clock::start(), cells, Buffers::new(1 << 20), lease);
        let log = thread.log();
        let keeping = Keeping { log, pipeline: "traces", is_awaited: true, decision_wait_ns: WAIT_NS, series };
        let request = Bytes::from_static(&[0x0a, 4, 0x12, 2, 0x12, 0]);
        let mut index = SpanIndex::default();
        index.read_request(&request, 0).expect("it is one");
        (thread, PendingLog::new(keeping, shard), index, vec![request])
    }

    /// Runs `steps` where tasks can be spawned, and returns how many records the log holds at the end.
    fn check(steps: impl AsyncFnOnce(&mut PendingLog, &SpanIndex, &[Bytes]) + 'static, expected: u64) {
        let directory = tempfile::tempdir().unwrap();
        let (thread, mut log, index, segments) = start(directory.path());
        let left = runtime::run(Runtime::Epoll, None, async move {
            steps(&mut log, &index, &segments).await;
            while log.writing.marking.get() > 0 || log.writing.entering.get() > 0 {
                runtime::yield_now().await;
            }
            // The first answer may come in the middle of a commit, the second comes behind all marks.
            for _ in 0..2 {
                assert_eq!(log.writing.log.adopt().await, None);
            }
            log.writing.log.waiting()
        });
        thread.close();
        assert_eq!(left.unwrap(), expected);
    }

    /// One record that is on disk.
    async fn enter(log: &mut PendingLog, now_ns: u64, index: &SpanIndex, segments: &[Bytes]) {
        let (ack, waiting) = ack::open();
        log.enter(now_ns, index, segments, vec![ack]);
        assert_eq!(waiting.await, Outcome::Taken);
    }

    #[test]
    fn a_record_stays_until_its_longest_wait_is_over_and_nothing_is_due() {
        let steps = async |log: &mut PendingLog, index: &SpanIndex, segments: &[Bytes]| {
            enter(log, 10, index, segments).await;
            enter(log, 20, index, segments).await;
            enter(log, 30, index, segments).await;
            log.pass(1_000, Table::Behind);
            log.pass(9 + WAIT_NS, Table::NothingDue);
            assert_eq!(log.came_ns.len(), 3);
            log.pass(20 + WAIT_NS, Table::NothingDue);
        };
        check(steps, 1);
        let steps = async |log: &mut PendingLog, index: &SpanIndex, segments: &[Bytes]| {
            enter(log, 10, index, segments).await;
            log.pass(10, Table::Empty);
        };
        check(steps, 0);
    }

    #[test]
    fn a_longer_wait_holds_records_for_longer_and_a_shorter_one_frees_none() {
        let steps = async |log: &mut PendingLog, index: &SpanIndex, segments: &[Bytes]| {
            enter(log, 10, index, segments).await;
            log.follow_wait(3 * WAIT_NS);
            log.follow_wait(1);
            log.pass(10 + 2 * WAIT_NS, Table::NothingDue);
            assert!(!log.is_settled());
        };
        check(steps, 1);
    }

    #[test]
    fn a_record_stays_until_every_batch_that_had_left_by_then_is_owned() {
        for (last_is_owned, expected) in [(false, 1), (true, 0)] {
            let steps = async move |log: &mut PendingLog, index: &SpanIndex, segments: &[Bytes]| {
                enter(log, 10, index, segments).await;
                let [first, second] = [log.leaves(), log.leaves()];
                log.pass(20, Table::Empty);
                second.settle(Outcome::Taken);
                log.pass(30, Table::Empty);
                if last_is_owned {
                    first.settle(Outcome::Taken);
                    log.pass(40, Table::Empty);
                } else {
                    assert!(!log.is_settled());
                    std::mem::forget(first);
                }
            };
            check(steps, expected);
        }
    }

    #[test]
    fn what_comes_while_a_record_is_written_shares_the_next_and_is_not_forgotten_with_it() {
        let steps = async |log: &mut PendingLog, index: &SpanIndex, segments: &[Bytes]| {
            // Nothing is written before somebody waits.
            for now_ns in [10, 20, 30] {
                log.enter(now_ns, index, segments, Vec::new());
            }
            assert_eq!(log.came_ns, [10, 30], "one on its way, and one for all others");
            log.pass(40, Table::Empty);
            assert_eq!(log.came_ns, [30], "more may join it");
        };
        check(steps, 1);
    }
}
