//! What arrived, by exporter: one 16-bit mask for each trace, so that every span of a long run at full rate is checked
//! against what was sent and nothing is forgotten. 2 bytes x traces x exporters; judged when the run is over.

use std::cell::{Cell, Ref, RefCell};
use std::rc::Rc;

use super::reader::{ArrivedSpan, read_spans};
use crate::load::Log;
use crate::measure::Latency;
use crate::traces::Cycle;

/// How much of a span is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Contents {
    /// Every byte of span, resource and scope must be as it was sent.
    Bytes,
    /// Only ids: for configurations that edit spans.
    Ids,
}

/// Most faults kept word for word.
const EXAMPLES_MAX: usize = 8;

/// What one exporter sent.
#[derive(Debug, Default)]
pub(crate) struct ExporterArrivals {
    /// Bit k of entry s: span k of the trace with sequence number s arrived.
    masks: Vec<u16>,
    /// All spans, those counted below included.
    pub(crate) spans: u64,
    /// Spans that had arrived before.
    pub(crate) doubled: u64,
    /// Spans whose ids were never sent.
    pub(crate) foreign: u64,
    /// Spans that differ from what was sent.
    pub(crate) altered: u64,
    /// Export requests.
    pub(crate) requests: u64,
}

/// All that arrived in a run.
pub(crate) struct Arrivals {
    cycle: Rc<Cycle>,
    log: Rc<Log>,
    contents: Contents,
    decision_wait_ns: u64,
    exporters: RefCell<Vec<ExporterArrivals>>,
    spans: Cell<u64>,
    /// From the intended send time of a span's request to its arrival, first exporter.
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
}

impl Arrivals {
    /// Nothing yet. `decision_wait_ns` is 0 without tail sampling.
    pub(crate) fn new(
        cycle: Rc<Cycle>,
        log: Rc<Log>,
        exporters: usize,
        contents: Contents,
        decision_wait_ns: u64,
    ) -> Arrivals {
        Arrivals {
            cycle,
            log,
            contents,
            decision_wait_ns,
            exporters: RefCell::new((0..exporters).map(|_| ExporterArrivals::default()).collect()),
            spans: Cell::new(0),
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
        if read_spans(body, |span| self.span(exporter, &span, now_ns)).is_err() {
            self.fault(format!("exporter {exporter} sent a request that is not OTLP"));
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

    /// Spans of all exporters.
    pub(crate) fn spans(&self) -> u64 {
        self.spans.get()
    }

    /// Spans and connections with something wrong, and some of them in words.
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

    fn span(&self, exporter: usize, span: &ArrivedSpan<'_>, now_ns: u64) {
        self.spans.set(self.spans.get() + 1);
        let mut exporters = self.exporters.borrow_mut();
        let book = &mut exporters[exporter];
        book.spans += 1;
        let Some(place) = self.cycle.find(span.trace_id, span.span_id) else {
            book.foreign += 1;
            self.fault(format!("exporter {exporter}: trace {} was never sent", hex(&span.trace_id.0)));
            return;
        };
        let sent = self.cycle.request(place).is_some_and(|request| request < self.log.sent());
        if !sent {
            book.foreign += 1;
            self.fault(format!("exporter {exporter}: a span of trace {} was never sent", hex(&span.trace_id.0)));
            return;
        }
        let at = place.sequence as usize;
        if book.masks.len() <= at {
            // Grown in steps: sequence numbers arrive roughly in order.
            book.masks.resize(at + at / 2 + 1_024, 0);
        }
        let first = book.masks[at] == 0;
        let bit = 1 << place.span;
        if book.masks[at] & bit != 0 {
            book.doubled += 1;
            self.fault(format!("exporter {exporter}: trace {}, span {} came twice", hex(&span.trace_id.0), place.span));
            return;
        }
        book.masks[at] |= bit;
        if self.contents == Contents::Bytes {
            let mut scratch = self.scratch.borrow_mut();
            let expected = self.cycle.expected(place, &mut scratch);
            let same = expected.span == span.span
                && expected.resource_envelope == span.resource_envelope
                && expected.scope_envelope == span.scope_envelope;
            if !same {
                book.altered += 1;
                self.fault(format!(
                    "exporter {exporter}: trace {}, span {} was altered",
                    hex(&span.trace_id.0),
                    place.span
                ));
            }
        }
        if exporter == 0 {
            self.measure(place, first, now_ns);
        }
    }

    fn measure(&self, place: crate::traces::Place, first: bool, now_ns: u64) {
        let intended = |request| self.log.record(request).map(|record| record.intended_ns);
        if let Some(intended_ns) = self.cycle.request(place).and_then(intended) {
            self.arrival.borrow_mut().record(now_ns.saturating_sub(intended_ns));
        }
        let started_ns = self.cycle.first_request(place.sequence).and_then(intended);
        if let (true, Some(started_ns)) = (first, started_ns) {
            let due_ns = started_ns + self.decision_wait_ns;
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
