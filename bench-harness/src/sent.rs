//! What a run sends: traces, or items that stand alone. Requests are made the same way from both; what must arrive is
//! asked of each for itself.

use codecs::otlp::Signal;

use crate::items::ItemCycle;
use crate::traces::Cycle;

/// Requests to send.
#[derive(Debug)]
pub(crate) enum Sent {
    /// Spans; what must arrive of a span depends on its trace.
    Traces(Cycle),
    /// Data points or log records; all must arrive.
    Items(ItemCycle),
}

impl Sent {
    /// Which signal it is.
    pub(crate) fn signal(&self) -> Signal {
        match self {
            Sent::Traces(_) => Signal::Traces,
            Sent::Items(cycle) => cycle.signal(),
        }
    }

    /// Items of each request.
    pub(crate) fn items_per_request(&self) -> usize {
        match self {
            Sent::Traces(cycle) => cycle.spans_per_request(),
            Sent::Items(cycle) => cycle.items_per_request(),
        }
    }

    /// Bytes of an item, on average.
    pub(crate) fn item_bytes(&self) -> f64 {
        match self {
            Sent::Traces(cycle) => cycle.span_bytes(),
            Sent::Items(cycle) => cycle.item_bytes(),
        }
    }

    /// How many templates requests are written from.
    pub(crate) fn templates(&self) -> usize {
        match self {
            Sent::Traces(cycle) => cycle.templates(),
            Sent::Items(cycle) => cycle.templates(),
        }
    }

    /// Which template request number `request` is written from.
    pub(crate) fn template(&self, request: u64) -> usize {
        match self {
            Sent::Traces(cycle) => cycle.template(request),
            Sent::Items(cycle) => cycle.template(request),
        }
    }

    /// The bytes of a template: a gRPC message with its prefix.
    pub(crate) fn template_bytes(&self, template: usize) -> &[u8] {
        match self {
            Sent::Traces(cycle) => cycle.template_bytes(template),
            Sent::Items(cycle) => cycle.template_bytes(template),
        }
    }

    /// Writes what varies of request number `request` into a copy of its template.
    pub(crate) fn fill(&self, request: u64, bytes: &mut [u8]) {
        match self {
            Sent::Traces(cycle) => cycle.fill(request, bytes),
            Sent::Items(cycle) => cycle.fill(request, bytes),
        }
    }

    /// The most requests between the first and the last of one trace; 0 where items stand alone.
    pub(crate) fn trace_requests_max(&self) -> u64 {
        match self {
            Sent::Traces(cycle) => cycle.trace_requests_max(),
            Sent::Items(_) => 0,
        }
    }
}

/// What is counted, as the report calls it.
pub(crate) fn noun(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "spans",
        Signal::Metrics => "points",
        Signal::Logs => "records",
    }
}
