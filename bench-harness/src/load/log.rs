//! What became of each request. The sink reads it for latencies, the verdict for what had to arrive.

use std::cell::{Cell, Ref, RefCell};

use crate::measure::Latency;

/// What a request's answer said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Not answered yet.
    Pending,
    /// Taken: from here on the gateway owes its spans.
    Accepted,
    /// Not now (UNAVAILABLE, 429, 503): nothing of it was taken.
    Refused,
    /// Never (any other answer): nothing of it was taken.
    Rejected,
    /// The connection ended or time ran out: nobody knows.
    Unknown,
}

/// One request. Times are the run's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    /// When it should have left.
    pub(crate) intended_ns: u64,
    /// When it was handed to its connection.
    pub(crate) sent_ns: u64,
    /// When its answer came; meaningless while pending.
    pub(crate) answered_ns: u64,
    /// What the answer said.
    pub(crate) outcome: Outcome,
}

/// All requests of a run in the order of their numbers.
#[derive(Debug)]
pub(crate) struct Log {
    records: RefCell<Vec<Record>>,
    accepted: Cell<u64>,
    answered: Cell<u64>,
    refused: Cell<u64>,
    held_back: Cell<u64>,
    ack: RefCell<Latency>,
    /// Since the progress line was last written.
    ack_recent: RefCell<Latency>,
    /// Acks before this time are not in `ack`: connections and memory are still warming up.
    measure_from_ns: Cell<u64>,
}

impl Log {
    /// An empty log.
    pub(crate) fn new() -> Log {
        Log {
            records: RefCell::new(Vec::new()),
            accepted: Cell::new(0),
            answered: Cell::new(0),
            refused: Cell::new(0),
            held_back: Cell::new(0),
            ack: RefCell::new(Latency::new()),
            ack_recent: RefCell::new(Latency::new()),
            measure_from_ns: Cell::new(0),
        }
    }

    /// Only requests intended at or after this time are measured.
    pub(crate) fn measure_from(&self, at_ns: u64) {
        self.measure_from_ns.set(at_ns);
    }

    /// The next request leaves.
    pub(crate) fn send(&self, intended_ns: u64, sent_ns: u64) {
        self.records.borrow_mut().push(Record { intended_ns, sent_ns, answered_ns: 0, outcome: Outcome::Pending });
    }

    /// A request was answered.
    pub(crate) fn answer(&self, number: u64, answered_ns: u64, outcome: Outcome) {
        let mut records = self.records.borrow_mut();
        let record = &mut records[number as usize];
        assert_eq!(record.outcome, Outcome::Pending, "a request is answered once");
        record.answered_ns = answered_ns;
        record.outcome = outcome;
        self.answered.set(self.answered.get() + 1);
        match outcome {
            Outcome::Accepted => {
                self.accepted.set(self.accepted.get() + 1);
                let latency_ns = answered_ns - record.intended_ns;
                self.ack_recent.borrow_mut().record(latency_ns);
                if record.intended_ns >= self.measure_from_ns.get() {
                    self.ack.borrow_mut().record(latency_ns);
                }
            }
            Outcome::Refused => self.refused.set(self.refused.get() + 1),
            Outcome::Pending | Outcome::Rejected | Outcome::Unknown => {}
        }
    }

    /// All requests so far. Nothing may be sent or answered while it is held.
    pub(crate) fn records(&self) -> Ref<'_, [Record]> {
        Ref::map(self.records.borrow(), Vec::as_slice)
    }

    /// One request, if it was sent.
    pub(crate) fn record(&self, number: u64) -> Option<Record> {
        self.records.borrow().get(number as usize).copied()
    }

    /// How many were sent.
    pub(crate) fn sent(&self) -> u64 {
        self.records.borrow().len() as u64
    }

    /// How many were accepted.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.get()
    }

    /// How many were refused.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.get()
    }

    /// The next request is due, but too much is under way.
    pub(crate) fn hold_back(&self) {
        self.held_back.set(self.held_back.get() + 1);
    }

    /// How many had to wait because too much was under way.
    pub(crate) fn held_back(&self) -> u64 {
        self.held_back.get()
    }

    /// How many were sent and not answered.
    pub(crate) fn in_flight(&self) -> u64 {
        self.sent() - self.answered.get()
    }

    /// From intended time to ack, of accepted requests.
    pub(crate) fn ack(&self) -> Latency {
        self.ack.borrow().clone()
    }

    /// Acks since the last call: their 99th percentile in milliseconds.
    pub(crate) fn take_ack_p99_ms(&self) -> f64 {
        let mut recent = self.ack_recent.borrow_mut();
        let p99 = recent.at(0.99);
        recent.clear();
        p99
    }
}
