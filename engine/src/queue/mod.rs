//! The waiting room between a pipeline and one exporter, on one shard.
//!
//! ```text
//! pipeline --offer--> waiting (bounded) --consumer task--> exporter.attempt --+--> delivered
//!                         ^                                  ^  retry, backoff |
//!                         room <------------------------------+----------------+--> failed (counted, with its reason)
//! ```
//!
//! With a durable log ([`log`]) a request is written there between `offer` and `waiting`; its sender is answered by the
//! commit, and what is delivered or failed for good is marked. A drain that runs out of time leaves the rest in the log.
//!
//! Entering the queue answers the sender, unless the exporter waits for the result (`wait_for_result`) or the pipeline does
//! (`ack: delivered`): then the ack travels with the request until the export has ended. Where the pipeline does, a request
//! whose sender has given up is given up too: the sender brings it again.
//!
//! With `batch` requests first wait for others to leave with (`gather`). A full queue stops what is in front of it, or with
//! `on_full: drop_oldest` sheds what has waited longest.
//!
//! A request that several exporters send is shared: it is encoded once per encoding, by the first that needs it. Space
//! is freed when an export has ended, as in the Collector. An exporter that several signals use has a queue for each. Nothing leaves the queue uncounted.

mod deliver;
mod gather;
pub mod log;
mod parts;
mod request;
pub mod retry;

pub use request::ExportRequest;

use crate::config::checked::{AckMode, OnFull, QueueBatchSettings, QueueSettings, RetrySettings, Sizer};
use crate::exporter::outcome::{ErrorWord, Outcome, retry_delay};
use crate::exporter::{Encoding, Exporter};
use crate::pipeline::ack::{self, Ack};
use crate::pipeline::batch::Batch;
use crate::shard::ShardContext;
use crate::shard::runtime;
use crate::telemetry::metrics::{BookSeries, ExporterSeries, QueueDiskSeries};
use codecs::compression::Compression;
use codecs::grpc::{Code, PREFIX_BYTES, Status};
use codecs::otlp::Format;
use gather::{Gathering, measure};
use log::{Adopted, Append, AppendError, Log};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// How often a shard without room for what an earlier life left looks again.
const ADOPTING_WAIT: Duration = Duration::from_millis(10);
const NANOSECONDS_PER_SECOND: u64 = 1_000_000_000;
/// Share of the soft limit above which nothing is adopted: what comes in goes first.
const ADOPTING_PRESSURE_MAX: f64 = 0.8;

/// One (pipeline, exporter) pair on one shard: where the pipeline's batches leave, and the book that counts them.
#[derive(Debug)]
pub struct Branch {
    /// The exporter's queue; several pipelines of one signal may share it.
    pub queue: Rc<Queue>,
    /// The pair's book.
    pub book: BookSeries,
    /// The pipeline's id, for the log.
    pipeline: Arc<str>,
    /// What the pipeline's senders wait for.
    ack: AckMode,
    held: Cell<u64>,
}

impl Branch {
    /// Nothing is under way yet.
    pub fn new(queue: Rc<Queue>, book: BookSeries, pipeline: &str, ack: AckMode) -> Rc<Branch> {
        Rc::new(Branch { queue, book, pipeline: pipeline.into(), ack, held: Cell::new(0) })
    }

    /// Spans, data points or log records of this pipeline that wait in the queue or are under way.
    pub fn items_held(&self) -> u64 {
        self.held.get()
    }

    fn let_go(&self, item: &Item) {
        self.held.set(self.held.get() - item.request.items());
    }
}

/// A shared request with what only this exporter's copy has.
#[derive(Debug)]
struct Item {
    request: Rc<ExportRequest>,
    branch: Rc<Branch>,
    /// Who waits for the export itself, where no queue takes ownership, or for the log's commit.
    acks: Vec<Ack>,
    /// The numbers of its requests in the log, once they are there.
    sequences: Vec<u64>,
    /// What it takes of the queue's size.
    size: usize,
    /// When it came, on the process's clock.
    came_ns: u64,
}

impl Item {
    /// Whether everybody who waited for it has given up, so that it comes again; what is on disk is delivered anyhow.
    fn is_abandoned(&self) -> bool {
        let waits = self.branch.ack == AckMode::Delivered && self.sequences.is_empty() && !self.acks.is_empty();
        waits && self.acks.iter().all(Ack::is_abandoned)
    }

    /// Whether somebody waits for each part of it.
    fn is_awaited_whole(&self) -> bool {
        !self.acks.is_empty() && self.acks.iter().all(Ack::is_heard)
    }
}

/// What makes a queue durable.
#[derive(Debug)]
struct Disk {
    log: Log,
    series: QueueDiskSeries,
}

/// One exporter's queue on one shard.
#[derive(Debug)]
pub struct Queue {
    exporter: Exporter,
    retry: Option<RetrySettings>,
    /// Whether it is a queue, not only the place where a pipeline waits for the export.
    enabled: bool,
    /// Whether entering the queue answers the sender.
    owns: bool,
    sizer: Sizer,
    /// This shard's share, in units of the sizer.
    size_max: usize,
    /// Of all shards: what is larger never fits.
    whole_size_max: usize,
    /// What all requests here take, in units of the sizer.
    size: Cell<usize>,
    consumers_max: usize,
    on_full: OnFull,
    batch: Option<QueueBatchSettings>,
    /// Requests that wait for others to leave with; empty without `batch`.
    gathering: Option<RefCell<Gathering>>,
    /// A task looks after those that wait too long.
    is_timed: Cell<bool>,
    waiting: RefCell<VecDeque<Item>>,
    consumers: Cell<usize>,
    under_way: Cell<usize>,
    /// When each that is under way came: no longer than there are consumers.
    under_way_came_ns: RefCell<Vec<u64>>,
    /// On their way into the log.
    entering: Cell<usize>,
    disk: OnceCell<Disk>,
    series: ExporterSeries,
    shard: ShardContext,
}

impl Queue {
    /// `settings` are the process's; this shard's share of them is one part in `shards`, at least one request.
    pub fn new(
        exporter: Exporter,
        settings: &QueueSettings,
        retry: Option<RetrySettings>,
        series: ExporterSeries,
        shard: ShardContext,
    ) -> Rc<Queue> {
        let share = |total: usize| total.div_ceil(shard.shards).max(1);
        let queue = Queue {
            exporter,
            retry,
            enabled: settings.enabled,
            owns: settings.enabled && !settings.wait_for_result,
            sizer: settings.sizer,
            size_max: share(settings.queue_size),
            whole_size_max: settings.queue_size,
            size: Cell::new(0),
            consumers_max: share(settings.num_consumers),
            on_full: settings.on_full,
            batch: settings.batch,
            gathering: settings.batch.map(|batch| RefCell::new(Gathering::new(batch))),
            is_timed: Cell::new(false),
            waiting: RefCell::new(VecDeque::new()),
            consumers: Cell::new(0),
            under_way: Cell::new(0),
            under_way_came_ns: RefCell::new(Vec::with_capacity(share(settings.num_consumers))),
            entering: Cell::new(0),
            disk: OnceCell::new(),
            series,
            shard,
        };
        queue.shard.cells.set(queue.series.queue_capacity, queue.size_max as u64);
        Rc::new(queue)
    }

    /// Whether one more request may enter, whatever its size: the last one may go beyond the bound. The pipeline asks
    /// before it lets a batch go.
    pub fn has_room(&self) -> bool {
        match self.on_full {
            OnFull::Refuse => self.size.get() < self.size_max && self.disk.get().is_none_or(|disk| disk.log.has_room()),
            // What is under way is not dropped, so that a queue of nothing else is full.
            OnFull::DropOldest => self.size.get() < self.size_max || self.waits() > 0,
        }
    }

    /// Requests that wait for others or for a consumer.
    fn waits(&self) -> usize {
        let gathered = self.gathering.as_ref().map_or(0, |gathering| gathering.borrow().requests());
        self.waiting.borrow().len() + gathered
    }

    /// Requests that wait or are under way, whatever the sizer.
    fn requests(&self) -> usize {
        self.waits() + self.under_way.get() + self.entering.get()
    }

    /// Keeps all that comes in `log` until it is delivered, and takes over what an earlier life left there, as room allows.
    /// Called once, before the first request; `branches` are all that lead here.
    pub fn keep_in(self: &Rc<Self>, log: Log, series: QueueDiskSeries, branches: Vec<Rc<Branch>>) {
        assert!(self.owns, "a queue that answers by the export's result keeps nothing");
        if self.shard.number == 0 {
            let found = log.found();
            self.shard.cells.add(series.found, found.requests);
            self.shard.cells.add(series.cut, found.cut);
            self.shard.cells.add(series.skipped, found.skipped);
        }
        let before = self.disk.set(Disk { log: log.clone(), series });
        assert!(before.is_ok(), "a queue has one log");
        let queue = Rc::clone(self);
        runtime::spawn(async move { queue.adopt(&log, &branches).await });
    }

    /// Takes what an earlier life left, one request at a time; the other half of the queue is for what comes in.
    async fn adopt(self: &Rc<Self>, log: &Log, branches: &[Rc<Branch>]) {
        while !self.shard.draining.has_begun() {
            if self.size.get() > self.size_max / 2 || self.shard.lease.pressure() > ADOPTING_PRESSURE_MAX {
                runtime::sleep(ADOPTING_WAIT).await;
                continue;
            }
            let Some(adopted) = log.adopt().await else { break };
            self.take_adopted(log, adopted, branches).await;
        }
    }

    async fn take_adopted(self: &Rc<Self>, log: &Log, adopted: Adopted, branches: &[Rc<Branch>]) {
        let Adopted { sequence, signal, pipeline, request } = adopted;
        let mut index = self.shard.indexes.take(signal);
        let request = self.shard.buffers.adopt(request);
        // Its pipeline may be gone from the configuration; the exporter is the same.
        let branch = branches.iter().find(|branch| *branch.pipeline == *pipeline).or(branches.first());
        let (Some(branch), Ok(())) = (branch, index.read_request(&request, 0)) else {
            tracing::error!(exporter = %self.exporter.id(), sequence, "A request on disk cannot be read and is passed over");
            if let Some(disk) = self.disk.get() {
                self.shard.cells.add(disk.series.skipped, 1);
            }
            return log.done(sequence).await;
        };
        let batch = Batch { index, segments: vec![request], ..Batch::default() };
        let request = ExportRequest::new(batch);
        self.shard.cells.add(branch.book.created, request.items());
        let size = measure(&request, self.sizer);
        let item = Item {
            request,
            branch: Rc::clone(branch),
            acks: Vec::new(),
            sequences: vec![sequence],
            size,
            came_ns: self.shard.clock.now_ns(),
        };
        self.take_in(&item);
        self.enqueue(item);
    }

    /// Takes a request of `branch`. The caller has seen room; an offer beyond it is taken all the same and shows in the size.
    pub fn offer(self: &Rc<Self>, request: Rc<ExportRequest>, branch: &Rc<Branch>, mut acks: Vec<Ack>) {
        let size = measure(&request, self.sizer);
        let is_refused = self.enabled && size > self.whole_size_max && acks.iter().any(Ack::is_heard);
        let answers_now = self.owns && branch.ack != AckMode::Delivered;
        if answers_now && self.disk.get().is_none() && !is_refused {
            ack::settle_all(acks.drain(..), &ack::Outcome::Taken);
        }
        let came_ns = self.shard.clock.now_ns();
        let item = Item { request, branch: Rc::clone(branch), acks, sequences: Vec::new(), size, came_ns };
        if is_refused {
            return self.refuse_too_large(item);
        }
        if let Some(outcome) = self.exporter.deliver_at_once(&item.request, &self.shard) {
            return self.settle(item, outcome);
        }
        self.shard.cells.observe(self.series.enqueue_size, item.request.items());
        self.shard.cells.observe(self.series.enqueue_size_bytes, item.request.bytes());
        if self.on_full == OnFull::DropOldest {
            self.make_room();
        }
        self.take_in(&item);
        if self.disk.get().is_some() {
            self.entering.set(self.entering.get() + 1);
            let queue = Rc::clone(self);
            return runtime::spawn(async move { queue.enter(item).await });
        }
        self.enqueue(item);
    }

    /// Writes a request to the log, answers its sender, and lets it wait.
    async fn enter(self: Rc<Self>, mut item: Item) {
        let Some(disk) = self.disk.get() else { return self.enqueue(item) };
        let plain = Encoding { format: Format::Protobuf, compression: Compression::None, level: None };
        let request = self.shard.encode(item.request.batch(), plain).body.slice(PREFIX_BYTES..);
        let signal = item.request.batch().index.signal();
        let appended = disk.log.append(Append { signal, pipeline: Arc::clone(&item.branch.pipeline), request }).await;
        self.entering.set(self.entering.get() - 1);
        match appended {
            Ok(sequence) => item.sequences.push(sequence),
            Err(error) => {
                self.shard.cells.add(disk.series.not_written, 1);
                if item.acks.iter().any(Ack::is_heard) {
                    return self.refuse(item, &error);
                }
                // Somebody before us has answered the sender, so nobody sends it again.
                tracing::error!(exporter = %self.exporter.id(), %error, "A request waits in memory only");
                // Whoever has these items on a disk keeps them there until they are delivered.
                return self.enqueue(item);
            }
        }
        if item.branch.ack != AckMode::Delivered {
            ack::settle_all(item.acks.drain(..), &ack::Outcome::Taken);
        }
        self.enqueue(item);
    }

    /// The request takes its part of the queue from now on.
    fn take_in(&self, item: &Item) {
        self.size.set(self.size.get() + item.size);
        item.branch.held.set(item.branch.held.get() + item.request.items());
    }

    /// The request has ended, and its part of the queue is free.
    fn let_go(&self, item: &Item) {
        self.size.set(self.size.get() - item.size);
        item.branch.let_go(item);
    }

    /// Never fits, so its sender must not come back with it. Where somebody before us has answered the sender, nobody
    /// could be told, and it is taken all the same.
    fn refuse_too_large(&self, item: Item) {
        let unit = match self.sizer {
            Sizer::Requests => "requests",
            Sizer::Items => "items",
            Sizer::Bytes => "bytes",
        };
        let message = format!(
            "a request of {} {unit} is larger than the whole queue of the exporter `{}`, which takes {}: send smaller \
             requests, or raise `sending_queue.queue_size`",
            item.size,
            self.exporter.id(),
            self.whole_size_max
        );
        tracing::error!(failed_items = item.request.items(), message, "Refused a request.");
        self.shard.cells.add(self.series.enqueue_failed, item.request.items());
        self.shard.cells.add(item.branch.book.failed, item.request.items());
        ack::settle_all(item.acks, &ack::Outcome::Failed(Status::new(Code::InvalidArgument, message)));
    }

    /// What could not be written goes back to its sender.
    fn refuse(&self, item: Item, error: &AppendError) {
        self.let_go(&item);
        let message = error.to_string();
        self.settle(item, Outcome::Retry { after: None, reason: ErrorWord::Storage, message });
        self.show_size();
        self.shard.room.notify_one();
    }

    /// Sheds what has waited longest until there is room for one more request.
    fn make_room(self: &Rc<Self>) {
        let oldest = || {
            let waiting = self.waiting.borrow_mut().pop_front();
            waiting.or_else(|| self.gathering.as_ref().and_then(|gathering| gathering.borrow_mut().take_oldest()))
        };
        while self.size.get() >= self.size_max
            && let Some(item) = oldest()
        {
            self.shed(item);
        }
    }

    fn shed(self: &Rc<Self>, item: Item) {
        self.let_go(&item);
        let Item { request, branch, acks, sequences, size: _, came_ns: _ } = item;
        let (items, cells) = (request.items(), &self.shard.cells);
        tracing::warn!(exporter = %self.exporter.id(), shed_items = items, "The queue is full. Dropping its oldest request.");
        cells.add(self.series.enqueue_failed, items);
        cells.add(branch.book.shed, items);
        let status = Status::new(Code::Unavailable, "the queue is full, and newer requests took this one's place");
        ack::settle_all(acks, &ack::Outcome::Failed(status.retry_after(retry_delay(None))));
        if !sequences.is_empty() {
            let queue = Rc::clone(self);
            runtime::spawn(async move { queue.forget(&sequences).await });
        }
    }

    /// These requests are no longer needed in the log, if there is one.
    async fn forget(&self, sequences: &[u64]) {
        let Some(disk) = self.disk.get() else { return };
        for &sequence in sequences {
            disk.log.done(sequence).await;
        }
    }

    /// Lets a request wait for its turn, first for others to leave with.
    fn enqueue(self: &Rc<Self>, item: Item) {
        let Some(gathering) = &self.gathering else { return self.make_ready(item) };
        let mut ready = Vec::new();
        gathering.borrow_mut().push(item, self.shard.clock.now_ns(), &mut ready);
        // A full queue gets no company for what waits in it, and a drain wants none.
        if self.size.get() >= self.size_max || self.shard.draining.has_begun() {
            ready.append(&mut gathering.borrow_mut().take_all());
        }
        self.make_all_ready(ready);
        if gathering.borrow().requests() > 0 && !self.is_timed.replace(true) {
            let queue = Rc::clone(self);
            runtime::spawn(async move { queue.keep_time().await });
        }
        self.show_size();
    }

    /// Lets go what has waited for others long enough, until nothing does.
    async fn keep_time(self: &Rc<Self>) {
        let Some(gathering) = &self.gathering else { return };
        loop {
            let Some(deadline_ns) = gathering.borrow().deadline_ns() else { break };
            let wait_ns = deadline_ns.saturating_sub(self.shard.clock.now_ns());
            let mut draining = std::pin::pin!(self.shard.draining.started());
            let drains = runtime::timeout(Duration::from_nanos(wait_ns), draining.as_mut()).await.is_some();
            let now_ns = if drains { u64::MAX } else { self.shard.clock.now_ns() };
            let due = gathering.borrow_mut().take_due(now_ns);
            self.make_all_ready(due);
        }
        self.is_timed.set(false);
    }

    fn make_all_ready(self: &Rc<Self>, items: Vec<Item>) {
        for item in items {
            self.shard.cells.observe(self.series.batch_send_size, item.request.items());
            self.shard.cells.observe(self.series.batch_send_size_bytes, item.request.bytes());
            self.make_ready(item);
        }
    }

    /// Puts a request in the row before the consumers, and sees that somebody takes it.
    fn make_ready(self: &Rc<Self>, item: Item) {
        self.waiting.borrow_mut().push_back(item);
        self.show_size();
        if self.consumers.get() < self.consumers_max {
            self.consumers.set(self.consumers.get() + 1);
            let queue = Rc::clone(self);
            runtime::spawn(async move { queue.consume().await });
        } else if self.waiting.borrow().len() == 1 {
            self.prepare_next();
        }
    }

    fn show_size(&self) {
        let cells = &self.shard.cells;
        cells.set(self.series.in_flight_requests, self.under_way.get() as u64);
        let size = self.size.get();
        cells.set(self.series.queue_size, size as u64);
        // The last request may go beyond the bound.
        let percent = (size as f64 / self.size_max as f64 * 100.0).min(100.0);
        cells.set(self.series.queue_fullest_percent, percent as u64);
    }

    /// Whether nothing waits and nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.requests() == 0
    }

    /// Shows how long the oldest has been here and what the log holds, for a scrape.
    pub fn show_held(&self) {
        let waiting = self.waiting.borrow().front().map(|item| item.came_ns);
        let under_way = self.under_way_came_ns.borrow().iter().copied().min();
        let gathered = self.gathering.as_ref().and_then(|gathering| gathering.borrow().oldest_ns());
        let oldest_ns = waiting.into_iter().chain(under_way).chain(gathered).min();
        let age = |came_ns: u64| self.shard.clock.now_ns().saturating_sub(came_ns) / NANOSECONDS_PER_SECOND;
        let on_disk = self.disk.get().map_or(0, |disk| disk.log.oldest_age_seconds());
        self.shard.cells.set(self.series.queue_oldest_age_seconds, oldest_ns.map_or(0, age).max(on_disk));
        self.show_disk();
    }

    fn show_disk(&self) {
        // One shard speaks for all: gauges are summed.
        if let Some(Disk { log, series }) = self.disk.get().filter(|_| self.shard.number == 0) {
            let cells = &self.shard.cells;
            cells.set(series.bytes, log.bytes());
            cells.set(series.requests, log.waiting());
            cells.set(series.oldest_age_seconds, log.oldest_age_seconds());
            cells.add(series.dropped, log.dropped() - cells.read(series.dropped));
        }
    }

    /// Memory of what its exporter remembers to be faster, or to add up.
    pub fn cache_bytes(&self) -> u64 {
        self.exporter.cache_bytes()
    }

    /// The traces that this exporter keeps in memory, if it is of that kind.
    pub fn kept_traces(&self) -> Vec<crate::exporter::memory::KeptTrace> {
        self.exporter.kept_traces()
    }

    /// Whether no request is between its first attempt and its outcome.
    pub fn is_settled(&self) -> bool {
        self.under_way.get() == 0 && self.entering.get() == 0
    }

    /// Ends a drain that ran out of time: what still waits is counted as failed.
    pub fn abandon(&self) {
        let gathered = self.gathering.as_ref().map(|gathering| gathering.borrow_mut().take_all()).unwrap_or_default();
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        for item in waiting.into_iter().chain(gathered) {
            if self.is_kept(&item) {
                self.leave_on_disk(item);
                continue;
            }
            self.let_go(&item);
            let reason = "the shutdown timeout ended before this request could be delivered".to_owned();
            self.settle(item, Outcome::Permanent { reason: ErrorWord::Shutdown, message: reason });
        }
        self.show_size();
    }
}
