//! What happens to a request from its turn until its end: attempts, parts, the books, and the answer to who waits.
//!
//! ```text
//! waiting --consume--> part by part: attempt, wait, attempt ... --> books, acks, marks in the log
//!                                                             \--> left on disk, where a drain gives up
//! ```
//!
//! The one idea: an item is settled exactly once, with one outcome for all of it. What is on disk is only forgotten when no
//! part of it may still be taken.

use super::parts::Parts;
use super::retry::Backoff;
use super::{Disk, ExportRequest, Item, Queue};
use crate::config::checked::{AckMode, QueueBatchSettings};
use crate::exporter::outcome::{ErrorWord, Outcome, retry_delay};
use crate::pipeline::ack;
use crate::shard::runtime;
use crate::telemetry::metrics::BookSeries;
use codecs::grpc::{Code, Status};
use std::rc::Rc;
use std::time::Duration;

/// How the export of an item ended.
#[derive(Debug)]
struct Ended {
    outcome: Outcome,
    /// What its senders are told instead, where a part of it may still be taken if they bring all of it again.
    left: Option<Status>,
    /// Whether a part of it may still be taken.
    may_come: bool,
}

/// Of a request that nobody waits for: whoever sent it has it, and has been told that it was not taken.
fn given_up() -> Outcome {
    let message = "the sender gave up before its request was delivered, and sends it again".to_owned();
    Outcome::Permanent { reason: ErrorWord::Abandoned, message }
}

impl Queue {
    /// Lets the exporter work on the request whose turn is next, while the backend works on the one before.
    pub(super) fn prepare_next(self: &Rc<Self>) {
        if !self.exporter.prepares() {
            return;
        }
        let Some(next) = self.waiting.borrow().front().map(|item| Rc::clone(&item.request)) else { return };
        let queue = Rc::clone(self);
        runtime::spawn(async move { queue.exporter.prepare(&next, &queue.shard).await });
    }

    /// One consumer: sends until nothing waits.
    pub(super) async fn consume(self: &Rc<Self>) {
        loop {
            let Some(item) = self.waiting.borrow_mut().pop_front() else { break };
            self.prepare_next();
            self.under_way.set(self.under_way.get() + 1);
            self.under_way_came_ns.borrow_mut().push(item.came_ns);
            let Ended { outcome, left, may_come } = self.deliver(&item).await;
            self.forget_when_came(item.came_ns);
            // A part that was delivered is repeated rather than one that was not, lost.
            if self.is_kept(&item) && (may_come || matches!(outcome, Outcome::DeliveredInPart { failed: 1.., .. })) {
                self.under_way.set(self.under_way.get() - 1);
                self.leave_on_disk(item);
                continue;
            }
            self.forget(&item.sequences).await;
            self.let_go(&item);
            self.under_way.set(self.under_way.get() - 1);
            self.settle_with(item, outcome, left);
            self.show_size();
            self.shard.room.notify_one();
        }
        self.consumers.set(self.consumers.get() - 1);
    }

    /// One request that came then is no longer under way.
    fn forget_when_came(&self, came_ns: u64) {
        let mut all = self.under_way_came_ns.borrow_mut();
        if let Some(place) = all.iter().position(|known| *known == came_ns) {
            all.swap_remove(place);
        }
    }

    /// Whether a drain that gives up should leave it, because it is on disk; of several requests at least one, as newer ones
    /// may have taken the place of the others.
    pub(super) fn is_kept(&self, item: &Item) -> bool {
        let survives = |disk: &Disk| item.sequences.iter().any(|sequence| disk.log.holds(*sequence));
        self.shard.giving_up.has_begun() && !item.sequences.is_empty() && self.disk.get().is_some_and(survives)
    }

    /// The next start sends it. It stays in flight in its book, because nobody else will count it in this life.
    pub(super) fn leave_on_disk(&self, item: Item) {
        self.size.set(self.size.get() - item.size);
        self.shard.cells.raise(item.branch.book.kept, item.request.items());
        // Who waits for the delivery cannot be told that it will come.
        let status = Status::new(Code::Unavailable, "the gateway stops before this request was delivered");
        ack::settle_all(item.acks, &ack::Outcome::Failed(status.retry_after(retry_delay(None))));
        self.show_size();
    }

    /// Delivers the request, in halves where the backend calls it too large.
    async fn deliver(&self, item: &Item) -> Ended {
        let mut parts = match self.batch {
            Some(QueueBatchSettings { max_size: Some(max), sizer, .. }) => {
                Parts::within(&item.request, max, sizer, &self.shard.buffers)
            }
            _ => Parts::of(&item.request),
        };
        let begin = || self.retry.as_ref().map(|retry| Backoff::new(retry, self.shard.clock.now_ns()));
        // Parts that wait for the same backend share its patience: it begins anew with each answer that is none to wait for.
        let mut backoff = begin();
        while let Some(part) = parts.next() {
            let outcome = self.deliver_part(&part, item, &mut backoff).await;
            match outcome {
                Outcome::Retry { .. } if self.shard.giving_up.has_begun() => {
                    parts.ended(&part, outcome);
                    break;
                }
                Outcome::Retry { .. } => {}
                _ => backoff = begin(),
            }
            if parts.ended(&part, outcome) {
                self.shard.cells.add(self.series.split, 1);
                tracing::info!(exporter = %self.exporter.id(), "The backend calls a request too large; it is sent in two halves. A `batch` processor with a smaller send_batch_max_size saves the attempt.");
            }
        }
        let left = parts.left().filter(|_| item.branch.ack == AckMode::Delivered);
        Ended { left, may_come: parts.may_come(), outcome: parts.outcome() }
    }

    /// Attempts until this part of an item is delivered, refused for good, or given up.
    async fn deliver_part(
        &self,
        request: &Rc<ExportRequest>,
        item: &Item,
        backoff: &mut Option<Backoff<'_>>,
    ) -> Outcome {
        loop {
            if item.is_abandoned() {
                return given_up();
            }
            let started_ns = self.shard.clock.now_ns();
            let outcome = self.exporter.attempt(request, &self.shard).await;
            self.shard.cells.observe(self.series.export_ns, self.shard.clock.now_ns() - started_ns);
            let Outcome::Retry { after, message, .. } = &outcome else { return outcome };
            let throttle_ns = after.map_or(0, |after| u64::try_from(after.as_nanos()).unwrap_or(u64::MAX));
            let now_ns = self.shard.clock.now_ns();
            let delay = backoff.as_mut().and_then(|backoff| backoff.next(now_ns, throttle_ns, fastrand::f64()));
            let Some(delay_ns) = delay else { return outcome };
            if self.shard.giving_up.has_begun() {
                return outcome;
            }
            let delay = Duration::from_nanos(delay_ns);
            tracing::info!(exporter = %self.exporter.id(), message, ?delay, "Exporting failed. Will retry the request after interval.");
            self.wait(delay).await;
            // Another attempt could outlive the process, and nobody would know what became of it.
            if self.shard.giving_up.has_begun() {
                return outcome;
            }
        }
    }

    /// Waits for the next attempt; a drain that runs out of time ends the wait.
    async fn wait(&self, delay: Duration) {
        let mut giving_up = std::pin::pin!(self.shard.giving_up.started());
        runtime::timeout(delay, giving_up.as_mut()).await;
    }

    /// Books the outcome and answers who waits for it.
    pub(super) fn settle(&self, item: Item, outcome: Outcome) {
        self.settle_with(item, outcome, None);
    }

    /// The same; who waits hears of what is left of the request, if something is.
    fn settle_with(&self, item: Item, outcome: Outcome, left: Option<Status>) {
        let Item { request, branch, acks, sequences: _, size: _, came_ns: _ } = item;
        let items = request.items();
        let book = &branch.book;
        let cells = &self.shard.cells;
        let answer = match outcome {
            Outcome::Delivered => {
                cells.add(self.series.sent, items);
                cells.add(book.delivered, items);
                ack::Outcome::Taken
            }
            Outcome::PartiallyRejected { rejected, message } => {
                let rejected = rejected.min(items);
                tracing::warn!(exporter = %self.exporter.id(), rejected, message, "Partial success response");
                cells.add(self.series.sent, items - rejected);
                cells.add(self.series.send_failed, rejected);
                cells.add(book.delivered, items - rejected);
                cells.add(book.failed, rejected);
                ack::Outcome::Taken
            }
            Outcome::DeliveredInPart { dropped, failed, message } => {
                let failed = failed.min(items);
                let dropped = dropped.min(items - failed);
                if failed > 0 {
                    tracing::error!(exporter = %self.exporter.id(), failed_items = failed, message, "Exporting failed. Dropping data.");
                }
                cells.add(self.series.sent, items - dropped - failed);
                cells.add(self.series.send_failed, failed);
                cells.add(book.delivered, items - dropped - failed);
                cells.add(book.dropped, dropped);
                cells.add(book.failed, failed);
                ack::Outcome::Taken
            }
            outcome => self.fail(items, book, outcome),
        };
        ack::settle_all(acks, &left.map_or(answer, ack::Outcome::Failed));
    }

    fn fail(&self, items: u64, book: &BookSeries, failure: Outcome) -> ack::Outcome {
        let status = failure.status_for_sender();
        tracing::error!(exporter = %self.exporter.id(), failed_items = items, message = status.message, "Exporting failed. Dropping data.");
        self.shard.cells.add(self.series.send_failed, items);
        self.shard.cells.add(book.failed, items);
        ack::Outcome::Failed(status)
    }
}
