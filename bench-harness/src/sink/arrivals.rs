//! What arrived, by exporter: one bit for each span, point or record, so that every item of a long run at full rate is
//! checked against what was sent and nothing is forgotten. 2 bytes for each trace, or for 16 items that stand alone, and
//! exporter; judged when the run is over.

use std::cell::{Cell, Ref, RefCell};
use std::rc::Rc;

use codecs::otlp::Signal;

use super::reader::{ArrivedPoint, ArrivedRecord, ArrivedSample, ArrivedSpan, WriteSlices};
use super::reader::{read_points, read_records, read_samples, read_spans};
use crate::items::{ExpectedItem, ItemCycle};
use crate::load::{Log, Outcome};
use crate::measure::Latency;
use crate::sent::Sent;
use crate::traces::Cycle;

/// How much of an item is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Contents {
    /// Every byte of an item, its resource and its scope must be as it was sent.
    Bytes,
    /// Only ids: for configurations that edit items.
    Ids,
}

/// Items that stand alone share an entry of [`ExporterArrivals`] in sixteens.
const ITEM_SHIFT: u32 = 4;
const ITEM_MASK: u64 = (1 << ITEM_SHIFT) - 1;

/// Most faults kept word for word.
const EXAMPLES_MAX: usize = 8;

/// What one exporter sent.
#[derive(Debug, Default)]
pub(crate) struct ExporterArrivals {
    /// Bit k of entry s: span k of the trace with sequence number s arrived, or item number 16 s + k.
    masks: Vec<u16>,
    /// All items, those counted below included.
    pub(crate) items: u64,
    /// Items that had arrived before.
    pub(crate) doubled: u64,
    /// Items that were never sent.
    pub(crate) foreign: u64,
    /// Items that differ from what was sent.
    pub(crate) altered: u64,
    /// Samples that came behind a later one of their series.
    pub(crate) out_of_order: u64,
    /// Export requests.
    pub(crate) requests: u64,
    /// The latest sample of each series, plus one; 0: none.
    latest: Vec<u64>,
}

/// All that arrived in a run.
pub(crate) struct Arrivals {
    sent: Rc<Sent>,
    log: Rc<Log>,
    contents: Contents,
    decision_wait_ns: u64,
    exporters: RefCell<Vec<ExporterArrivals>>,
    items: Cell<u64>,
    /// From the intended send time of an item's request to its arrival, first exporter.
    arrival: RefCell<Latency>,
    /// From the moment a trace was due for its decision to its first span's arrival, first exporter.
    lateness: RefCell<Latency>,
    examples: RefCell<Vec<String>>,
    faults: Cell<u64>,
    scratch: RefCell<Vec<u8>>,
}

impl ExporterArrivals {
    /// Which spans of a trace arrived.
    pub(crate) fn mask(&self, sequence: u64) -> u16 {
        self.masks.get(sequence as usize).copied().unwrap_or(0)
    }

    /// How many of the items with these numbers arrived, which stand alone.
    pub(crate) fn arrived(&self, numbers: std::ops::Range<u64>) -> u64 {
        numbers.filter(|number| self.mask(number >> ITEM_SHIFT) >> (number & ITEM_MASK) & 1 == 1).count() as u64
    }

    /// Notes an item that was sent: `None` if it came before, else whether it is the first of its entry.
    fn note(&mut self, entry: u64, bit: u8) -> Option<bool> {
        let at = entry as usize;
        if self.masks.len() <= at {
            // Grown in steps: numbers arrive roughly in order.
            self.masks.resize(at + at / 2 + 1_024, 0);
        }
        let before = self.masks[at];
        self.masks[at] = before | 1 << bit;
        (before >> bit & 1 == 0).then_some(before == 0)
    }
}

impl Arrivals {
    /// Nothing yet. `decision_wait_ns` is 0 without tail sampling.
    pub(crate) fn new(
        sent: Rc<Sent>,
        log: Rc<Log>,
        exporters: usize,
        contents: Contents,
        decision_wait_ns: u64,
    ) -> Arrivals {
        Arrivals {
            sent,
            log,
            contents,
            decision_wait_ns,
            exporters: RefCell::new((0..exporters).map(|_| ExporterArrivals::default()).collect()),
            items: Cell::new(0),
            arrival: RefCell::new(Latency::new()),
            lateness: RefCell::new(Latency::new()),
            examples: RefCell::new(Vec::new()),
            faults: Cell::new(0),
            scratch: RefCell::new(Vec::new()),
        }
    }

    /// Checks and notes one export request.
    pub(crate) fn request(&self, exporter: usize, body: &[u8], now_ns: u64) {
        self.exporters.borrow_mut()[exporter].requests += 1;
        let read = match (&*self.sent, self.sent.signal()) {
            (Sent::Traces(cycle), _) => read_spans(body, |span| self.span(cycle, exporter, &span, now_ns)),
            (Sent::Items(cycle), Signal::Logs) => {
                read_records(body, |record| self.record(cycle, exporter, &record, now_ns))
            }
            (Sent::Items(cycle), _) => read_points(body, |point| self.point(cycle, exporter, &point, now_ns)),
        };
        if read.is_err() {
            self.fault(format!("exporter {exporter} sent a request that is not OTLP, or not of what was sent"));
        }
    }

    /// Checks and notes one remote write request of protocol 1.0, in slices between which the load, on the same thread,
    /// sends and hears its answers: a request of some megabytes would show as latency of the gateway's acks.
    pub(crate) async fn write_request(&self, exporter: usize, body: &[u8], now_ns: u64) {
        self.exporters.borrow_mut()[exporter].requests += 1;
        let Sent::Items(cycle) = &*self.sent else {
            self.fault(format!("exporter {exporter} sent a remote write request, and no points were sent"));
            return;
        };
        for slice in WriteSlices(body) {
            if read_samples(slice, |sample| self.sample(cycle, exporter, &sample, now_ns)).is_err() {
                self.fault(format!("exporter {exporter} sent a request that is not remote write 1.0"));
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// A connection from the gateway ended in the middle of something.
    pub(crate) fn broken_connection(&self, why: &str) {
        self.fault(format!("a connection to the sink broke: {why}"));
    }

    /// What each exporter sent.
    pub(crate) fn exporters(&self) -> Ref<'_, [ExporterArrivals]> {
        Ref::map(self.exporters.borrow(), Vec::as_slice)
    }

    /// Items of all exporters.
    pub(crate) fn items(&self) -> u64 {
        self.items.get()
    }

    /// Items and connections with something wrong, and some of them in words.
    pub(crate) fn faults(&self) -> (u64, Vec<String>) {
        (self.faults.get(), self.examples.borrow().clone())
    }

    /// From intended send to arrival.
    pub(crate) fn arrival(&self) -> Latency {
        self.arrival.borrow().clone()
    }

    /// Of decisions.
    pub(crate) fn lateness(&self) -> Latency {
        self.lateness.borrow().clone()
    }

    fn span(&self, cycle: &Cycle, exporter: usize, span: &ArrivedSpan<'_>, now_ns: u64) {
        let name = || format!("trace {}", hex(&span.trace_id.0));
        let place = cycle.find(span.trace_id, span.span_id);
        let request = place.and_then(|place| cycle.request(place));
        let (Some(place), Some(request)) = (place, self.count(exporter, request, name)) else {
            return;
        };
        let name = || format!("trace {}, span {}", hex(&span.trace_id.0), place.span);
        let Some(first) = self.note(exporter, place.sequence, place.span, name) else {
            return;
        };
        if self.contents == Contents::Bytes {
            let mut scratch = self.scratch.borrow_mut();
            let expected = cycle.expected(place, &mut scratch);
            let same = expected.span == span.span
                && expected.resource_envelope == span.resource_envelope
                && expected.scope_envelope == span.scope_envelope;
            self.compared(exporter, same, name);
        }
        self.measure_arrival(exporter, request, now_ns);
        if exporter == 0 && first {
            self.measure_lateness(cycle.first_request(place.sequence), now_ns);
        }
    }

    fn point(&self, cycle: &ItemCycle, exporter: usize, point: &ArrivedPoint<'_>, now_ns: u64) {
        let number = cycle.point(point.series, point.time_unix_ns);
        let name = || format!("series {}, the point of {} ns", point.series, point.time_unix_ns);
        self.item(cycle, exporter, number, now_ns, name, |expected| {
            expected.item == point.point
                && expected.resource_envelope == point.resource_envelope
                && expected.scope_envelope == point.scope_envelope
                && expected.metric_envelope == point.metric_envelope
        });
    }

    fn record(&self, cycle: &ItemCycle, exporter: usize, record: &ArrivedRecord<'_>, now_ns: u64) {
        let number = cycle.record(record.trace_id);
        let name = || format!("record {}", hex(&record.trace_id.0));
        self.item(cycle, exporter, number, now_ns, name, |expected| {
            expected.item == record.record
                && expected.resource_envelope == record.resource_envelope
                && expected.scope_envelope == record.scope_envelope
        });
    }

    /// An item that stands alone, with what tells whether it is as it was sent.
    fn item(
        &self,
        cycle: &ItemCycle,
        exporter: usize,
        number: Option<u64>,
        now_ns: u64,
        name: impl Fn() -> String,
        is_same: impl Fn(&ExpectedItem<'_>) -> bool,
    ) {
        let request = number.map(|number| cycle.request(number));
        let (Some(number), Some(request)) = (number, self.count(exporter, request, &name)) else {
            return;
        };
        if self.note(exporter, number >> ITEM_SHIFT, (number & ITEM_MASK) as u8, &name).is_none() {
            return;
        }
        if self.contents == Contents::Bytes {
            let mut scratch = self.scratch.borrow_mut();
            let same = is_same(&cycle.expected(number, &mut scratch));
            self.compared(exporter, same, name);
        }
        self.measure_arrival(exporter, request, now_ns);
    }

    fn sample(&self, cycle: &ItemCycle, exporter: usize, sample: &ArrivedSample<'_>, now_ns: u64) {
        let number = cycle.sample(sample.series, sample.time_unix_ms);
        let name = || format!("series {}, the sample of {} ms", sample.series, sample.time_unix_ms);
        let request = number.map(|number| cycle.request(number));
        let (Some(number), Some(request)) = (number, self.count(exporter, request, name)) else {
            return;
        };
        if self.note(exporter, number >> ITEM_SHIFT, (number & ITEM_MASK) as u8, name).is_none() {
            return;
        }
        self.check_order(cycle, exporter, number, name);
        if self.contents == Contents::Bytes {
            let same = sample.value.to_bits() == cycle.value(number).to_bits()
                && sample.labels == cycle.labels(cycle.series_of(number));
            self.compared(exporter, same, name);
        }
        self.measure_arrival(exporter, request, now_ns);
    }

    /// Prometheus refuses a sample that is older than one it has. Of two requests that were under way at the same time
    /// nobody knows which came first.
    fn check_order(&self, cycle: &ItemCycle, exporter: usize, number: u64, name: impl Fn() -> String) {
        let mut exporters = self.exporters.borrow_mut();
        let book = &mut exporters[exporter];
        book.latest.resize(cycle.series() as usize, 0);
        let latest = &mut book.latest[cycle.series_of(number) as usize];
        if number < *latest && self.was_answered_before(cycle.request(number), cycle.request(*latest - 1)) {
            book.out_of_order += 1;
            self.fault(format!("exporter {exporter}: {} came behind a later one", name()));
        }
        *latest = (*latest).max(number + 1);
    }

    /// Whether a request had its answer when the other one left.
    fn was_answered_before(&self, earlier: u64, later: u64) -> bool {
        let records = self.log.record(earlier).zip(self.log.record(later));
        records
            .is_some_and(|(earlier, later)| earlier.outcome != Outcome::Pending && earlier.answered_ns <= later.sent_ns)
    }

    /// Counts an item that arrived; gives its request back if that was sent.
    fn count(&self, exporter: usize, request: Option<u64>, name: impl Fn() -> String) -> Option<u64> {
        self.items.set(self.items.get() + 1);
        let book = &mut self.exporters.borrow_mut()[exporter];
        book.items += 1;
        let sent = request.filter(|request| *request < self.log.sent());
        if sent.is_none() {
            book.foreign += 1;
            self.fault(format!("exporter {exporter}: {} was never sent", name()));
        }
        sent
    }

    fn note(&self, exporter: usize, entry: u64, bit: u8, name: impl Fn() -> String) -> Option<bool> {
        let book = &mut self.exporters.borrow_mut()[exporter];
        let noted = book.note(entry, bit);
        if noted.is_none() {
            book.doubled += 1;
            self.fault(format!("exporter {exporter}: {} came twice", name()));
        }
        noted
    }

    fn compared(&self, exporter: usize, same: bool, name: impl Fn() -> String) {
        if !same {
            self.exporters.borrow_mut()[exporter].altered += 1;
            self.fault(format!("exporter {exporter}: {} was altered", name()));
        }
    }

    fn measure_arrival(&self, exporter: usize, request: u64, now_ns: u64) {
        if let (0, Some(record)) = (exporter, self.log.record(request)) {
            self.arrival.borrow_mut().record(now_ns.saturating_sub(record.intended_ns));
        }
    }

    /// The first span of a trace arrived whose first request was this.
    fn measure_lateness(&self, request: Option<u64>, now_ns: u64) {
        if let Some(record) = request.and_then(|request| self.log.record(request)) {
            let due_ns = record.intended_ns + self.decision_wait_ns;
            self.lateness.borrow_mut().record(now_ns.saturating_sub(due_ns));
        }
    }

    fn fault(&self, what: String) {
        self.faults.set(self.faults.get() + 1);
        let mut examples = self.examples.borrow_mut();
        if examples.len() < EXAMPLES_MAX {
            examples.push(what);
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
