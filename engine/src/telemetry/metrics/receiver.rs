//! What receivers count: the intake book, requests that are not taken, and why.
//!
//! The one idea: every request ends under exactly one word, accepted, refused or rejected, so that the book balances.
//! It never counts what becomes of items behind the receiver; that is the pipeline's book.

use super::bounds::REQUEST_TIME;
use crate::config::checked::MetricsLevel::{Basic, Normal};
use crate::telemetry::cells::{Cells, Counter, Gauge, Histogram, Kind, Schema};
use crate::transport::gate::FaultKind;
use codecs::otlp::Signal;

metrics! {
    RECEIVERS: "Receivers", "every receiver, for each of its protocols",
        "`transport` is `grpc`, `http` or `file`. A signal has its series where a pipeline of it names the receiver. A metric counts as its data points; one \
         without any counts as one, so that nothing goes uncounted.";
    for each signal {
        RECEIVER_OFFERED: Kind::Counter, Basic, "otelcol_receiver_offered",
            ["receiver", "transport"],
            "of requests whose items could be counted, before accept, refuse or reject.";
        RECEIVER_ACCEPTED: Kind::Counter, Basic, "otelcol_receiver_accepted",
            ["receiver", "transport"],
            "taken into a pipeline.",
            "The sender was told that it may forget them.";
        RECEIVER_REFUSED: Kind::Counter, Basic, "otelcol_receiver_refused",
            ["receiver", "transport"],
            "answered with a temporary error; the sender may retry.";
        RECEIVER_REJECTED: Kind::Counter, Basic, "otelcol_receiver_rejected",
            ["receiver", "transport"],
            "that could be counted and were answered with a permanent error.";
        RECEIVER_FAILED: Kind::Counter, Basic, "otelcol_receiver_failed",
            ["receiver", "transport"],
            "that stand for requests that could not be read, one for each: what they held is not known.",
            "Together they are the sum of `otelcol_receiver_rejected_requests`.";
        RECEIVER_UNANSWERED: Kind::Gauge, Basic, "otelcol_receiver_unanswered",
            ["receiver", "transport"],
            "that were offered and whose request has no answer yet.",
            "0 after a drain.";
    }
    for the gateway {
        RECEIVER_REFUSED_REQUESTS: Kind::Counter, Basic, "otelcol_receiver_refused_requests",
            "requests", ["receiver", "transport", "reason"],
            "Requests refused before their items could be counted.",
            "`reason`: `memory`, `share` (memory is short, and this sender brought more than its share), `queue`, \
             `draining`.";
        RECEIVER_REJECTED_REQUESTS: Kind::Counter, Basic, "otelcol_receiver_rejected_requests",
            "requests", ["receiver", "transport", "reason"],
            "Requests rejected before their items could be counted.",
            "`reason`: `malformed`, `too_large`, `compression`, `route`, `auth` (no credential, or a wrong one), \
             `internal` (a defect of ours).";
        RECEIVER_ACK: Kind::Histogram(&REQUEST_TIME), Normal, "tracegate_receiver_ack_seconds",
            "seconds", ["receiver", "transport"],
            "Seconds from the last byte of a request that was taken to its answer.",
            "Long: the first node that takes ownership waits, or without one the export. Requests that are refused or \
             rejected are not in it.";
        RECEIVER_TLS_HANDSHAKES: Kind::Counter, Normal, "tracegate_receiver_tls_handshakes",
            "sessions", ["receiver", "transport"],
            "TLS sessions that senders opened.",
            "Only of listeners with `tls`.";
        RECEIVER_WAITING_FILES: Kind::Gauge, Normal, "tracegate_receiver_waiting_files",
            "files", ["receiver", "transport"],
            "Files that match and are not read yet, since the receiver follows as many as it may.",
            "Only of receivers of files. Above 0: move away what was read, or give the files to several receivers.";
        RECEIVER_FAILED_HANDSHAKES: Kind::Counter, Normal, "tracegate_receiver_failed_handshakes",
            "connections", ["receiver", "transport", "reason"],
            "Connections refused before their first request, for a reason of TLS.",
            "`reason`: [security.md](security.md#tls).";
    }
}

/// Why a request was refused: not now, retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefuseReason {
    /// The budget is at its soft limit.
    Memory,
    /// The budget is nearly spent, and this sender has brought more than its share.
    Share,
    /// A queue that the request waits for is full.
    Queue,
    /// The gateway is draining.
    Draining,
}

impl RefuseReason {
    /// All of them; the position is the index into [`ReceiverSeries`].
    pub const ALL: [RefuseReason; 4] =
        [RefuseReason::Memory, RefuseReason::Share, RefuseReason::Queue, RefuseReason::Draining];

    /// Value of the label `reason`.
    pub fn label(self) -> &'static str {
        match self {
            RefuseReason::Memory => "memory",
            RefuseReason::Share => "share",
            RefuseReason::Queue => "queue",
            RefuseReason::Draining => "draining",
        }
    }
}

/// Why a request was rejected: malformed, never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectReason {
    /// Not the protobuf message it should be, or a broken gRPC frame.
    Malformed,
    /// Larger than the limit, before or after decompression.
    TooLarge,
    /// An encoding we do not speak, or a broken compressed body.
    Compression,
    /// An unknown path, method, service or content type.
    Route,
    /// The sender showed no credential, or a wrong one.
    Auth,
    /// A pure call on it panicked: a defect of ours.
    Internal,
}

impl RejectReason {
    /// All of them; the position is the index into [`ReceiverSeries`].
    pub const ALL: [RejectReason; 6] = [
        RejectReason::Malformed,
        RejectReason::TooLarge,
        RejectReason::Compression,
        RejectReason::Route,
        RejectReason::Auth,
        RejectReason::Internal,
    ];

    /// Value of the label `reason`.
    pub fn label(self) -> &'static str {
        match self {
            RejectReason::Malformed => "malformed",
            RejectReason::TooLarge => "too_large",
            RejectReason::Compression => "compression",
            RejectReason::Route => "route",
            RejectReason::Auth => "auth",
            RejectReason::Internal => "internal",
        }
    }
}

/// What one receiver counts for one transport: an intake book for each signal that it takes, and requests.
#[derive(Clone, Debug)]
pub struct ReceiverSeries {
    /// Nanoseconds from a whole request to its answer, of those that were taken.
    pub ack_ns: Histogram,
    books: [Option<IntakeSeries>; Signal::ALL.len()],
    refused_requests: [Counter; RefuseReason::ALL.len()],
    rejected_requests: [Counter; RejectReason::ALL.len()],
    /// Files beyond those that are followed; only of a receiver of files.
    pub waiting_files: Option<Gauge>,
}

/// The intake book of one receiver, transport and signal, in spans, data points or log records:
/// `offered = accepted + refused + rejected`, and while a request waits for its answer its items are `unanswered`.
#[derive(Clone, Debug)]
pub struct IntakeSeries {
    /// Counted when the request's items are known.
    pub offered: Counter,
    /// Counted when the sender was told that it may forget them.
    pub accepted: Counter,
    /// Counted when the sender was told to come back with them.
    pub refused: Counter,
    /// Counted when the sender was told never to come back with them.
    pub rejected: Counter,
    /// Offered and not answered yet; 0 after a drain.
    pub unanswered: Gauge,
    failed: Counter,
}

impl ReceiverSeries {
    /// Declares the series of one receiver and transport (`grpc`, `http` or `file`) for the signals that it takes.
    pub fn declare(schema: &mut Schema, receiver_id: &str, transport: &str, signals: &[Signal]) -> ReceiverSeries {
        let own = [("receiver", receiver_id), ("transport", transport)];
        let because = |reason: &'static str| [own[0], own[1], ("reason", reason)];
        let mut books = [None, None, None];
        for &signal in signals {
            let at = signal as usize;
            books[at] = Some(IntakeSeries {
                offered: schema.counter(&RECEIVER_OFFERED[at], &own),
                accepted: schema.counter(&RECEIVER_ACCEPTED[at], &own),
                refused: schema.counter(&RECEIVER_REFUSED[at], &own),
                rejected: schema.counter(&RECEIVER_REJECTED[at], &own),
                unanswered: schema.gauge(&RECEIVER_UNANSWERED[at], &own),
                failed: schema.counter(&RECEIVER_FAILED[at], &own),
            });
        }
        ReceiverSeries {
            ack_ns: schema.histogram(&RECEIVER_ACK, &own),
            books,
            refused_requests: RefuseReason::ALL
                .map(|reason| schema.counter(&RECEIVER_REFUSED_REQUESTS, &because(reason.label()))),
            rejected_requests: RejectReason::ALL
                .map(|reason| schema.counter(&RECEIVER_REJECTED_REQUESTS, &because(reason.label()))),
            waiting_files: (transport == "file").then(|| schema.gauge(&RECEIVER_WAITING_FILES, &own)),
        }
    }

    /// The book of a signal that the receiver takes.
    pub fn of(&self, signal: Signal) -> &IntakeSeries {
        self.books[signal as usize].as_ref().expect("a receiver is only asked for signals of its pipelines")
    }

    /// Requests refused for `reason` before their items could be counted.
    pub fn refused_requests(&self, reason: RefuseReason) -> Counter {
        self.refused_requests[reason as usize]
    }

    /// Requests rejected for `reason` before their items could be counted.
    pub fn rejected_requests(&self, reason: RejectReason) -> Counter {
        self.rejected_requests[reason as usize]
    }

    /// Counts a request that is rejected for `reason`, under our name and under the Collector's; one whose signal nobody
    /// knows with the first signal that the receiver takes.
    pub fn count_rejected(&self, cells: &Cells, signal: Option<Signal>, reason: RejectReason) {
        cells.add(self.rejected_requests(reason), 1);
        let mut books = self.books.iter().flatten();
        if let Some(book) = signal.map(|signal| self.of(signal)).or_else(|| books.next()) {
            cells.add(book.failed, 1);
        }
    }
}

/// What a listener counts of connections that have not sent a request yet.
#[derive(Clone, Debug)]
pub struct HandshakeSeries {
    /// Sessions opened; only where TLS is spoken.
    pub opened: Option<Counter>,
    failed: [Option<Counter>; FaultKind::ALL.len()],
}

impl HandshakeSeries {
    /// Declares the series of one receiver and transport; without TLS only what can fail then.
    pub fn declare(schema: &mut Schema, receiver_id: &str, transport: &str, has_tls: bool) -> HandshakeSeries {
        let own = [("receiver", receiver_id), ("transport", transport)];
        let opened = has_tls.then(|| schema.counter(&RECEIVER_TLS_HANDSHAKES, &own));
        let failed = FaultKind::ALL.map(|kind| {
            let labels = [own[0], own[1], ("reason", kind.label())];
            let can_fail = has_tls != (kind == FaultKind::TlsAtPlainPort);
            can_fail.then(|| schema.counter(&RECEIVER_FAILED_HANDSHAKES, &labels))
        });
        HandshakeSeries { opened, failed }
    }

    /// Connections refused for this reason.
    pub fn failed(&self, kind: FaultKind) -> Option<Counter> {
        self.failed[kind as usize]
    }
}
