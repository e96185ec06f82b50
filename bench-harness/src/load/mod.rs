//! Sends requests and notes what became of each.
//!
//! ```text
//! pace: when --> source: bytes with fresh ids --> connection: gRPC or HTTP --> log: intended, sent, answered, outcome
//! ```
//!
//! Open loop: a request leaves at its intended time, whether or not earlier ones were answered, and its latency counts
//! from there. Closed loop: a fixed number is always under way; it finds out what is possible and measures no latency.
//! A refused request is not sent again: its spans leave the expectation, exactly.

mod compressor;
mod grpc;
mod http;
mod log;
mod source;

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use codecs::compression::Compression;
use codecs::otlp::Signal;

#[cfg(test)]
pub(crate) use compressor::Compressor;
pub(crate) use log::{Log, Outcome};
pub(crate) use source::{Source, prepare};

use crate::measure::{Clock, Ticker};

/// Most bytes of requests under way in an open loop; beyond it the gateway is hopelessly behind and the load waits.
const IN_FLIGHT_BYTES_MAX: usize = 512 << 20;

/// How requests travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Protocol {
    /// OTLP/gRPC.
    Grpc,
    /// OTLP/HTTP with protobuf.
    Http,
}

/// When requests leave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// Request number n at n * interval, `requests` in all.
    Open {
        /// Between two requests.
        interval_ns: u64,
        /// How many.
        requests: u64,
    },
    /// As soon as an earlier one was answered.
    Closed {
        /// Always this many under way on each connection.
        in_flight: usize,
        /// No request starts after this.
        duration_ns: u64,
        /// No more than this many.
        requests: u64,
    },
}

/// Where and how to send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// The gateway's receiver.
    pub(crate) address: SocketAddr,
    /// How.
    pub(crate) protocol: Protocol,
    /// What.
    pub(crate) signal: Signal,
    /// Encoding of the requests.
    pub(crate) compression: Compression,
    /// How many connections; requests take turns.
    pub(crate) connections: usize,
}

/// One connection of either protocol.
enum Connection {
    Grpc(grpc::Connection),
    Http(http::Connection),
}

/// Everything a request needs on its way.
struct Sender {
    connections: Vec<Connection>,
    source: Source,
    log: Rc<Log>,
    clock: Clock,
    in_flight: Cell<usize>,
    /// A request was not answered: the run has failed, and a dead connection would be asked again without end.
    broken: Cell<bool>,
    answered: tokio::sync::Notify,
}

/// Connects, sends everything `pace` says and waits for all answers (bounded by each request's own timeout).
/// Must run inside a `LocalSet`.
pub(crate) async fn run(target: Target, pace: Pace, source: Source, log: Rc<Log>, clock: Clock) -> io::Result<()> {
    let mut connections = Vec::with_capacity(target.connections);
    let Target { address, signal, compression, .. } = target;
    for _ in 0..target.connections {
        connections.push(match target.protocol {
            Protocol::Grpc => Connection::Grpc(grpc::Connection::open(address, signal, compression).await?),
            Protocol::Http => Connection::Http(http::Connection::open(address, signal, compression).await?),
        });
    }
    let sender = Rc::new(Sender {
        connections,
        source,
        log,
        clock,
        in_flight: Cell::new(0),
        broken: Cell::new(false),
        answered: tokio::sync::Notify::new(),
    });
    match pace {
        Pace::Open { interval_ns, requests } => open_loop(&sender, interval_ns, requests).await?,
        Pace::Closed { in_flight, duration_ns, requests } => {
            closed_loop(&sender, in_flight, duration_ns, requests).await
        }
    }
    while sender.in_flight.get() > 0 {
        sender.answered.notified().await;
    }
    Ok(())
}

async fn open_loop(sender: &Rc<Sender>, interval_ns: u64, requests: u64) -> io::Result<()> {
    let ticker = Ticker::new(sender.clock)?;
    let requests = requests.min(sender.source.requests_max());
    let start_ns = sender.clock.now_ns();
    for number in 0..requests {
        if sender.broken.get() {
            break;
        }
        let intended_ns = start_ns + number * interval_ns;
        ticker.until(intended_ns).await?;
        let is_full = || sender.in_flight.get() * sender.source.request_bytes() > IN_FLIGHT_BYTES_MAX;
        if is_full() {
            sender.log.hold_back();
        }
        while is_full() {
            sender.answered.notified().await;
        }
        let bytes = sender.source.take(number);
        sender.log.send(intended_ns, sender.clock.now_ns());
        sender.in_flight.set(sender.in_flight.get() + 1);
        tokio::task::spawn_local(exchange(sender.clone(), number, bytes));
    }
    Ok(())
}

/// One task per place: take the next number, send, wait. Numbers are taken in the order of sending.
async fn closed_loop(sender: &Rc<Sender>, in_flight: usize, duration_ns: u64, requests: u64) {
    let requests = requests.min(sender.source.requests_max());
    let end_ns = sender.clock.now_ns() + duration_ns;
    // A log that has requests already goes on: their numbers are never used again.
    let first = sender.log.sent();
    let (next, requests) = (Rc::new(Cell::new(first)), first.saturating_add(requests));
    let mut places = Vec::new();
    for _ in 0..in_flight * sender.connections.len() {
        let (sender, next) = (sender.clone(), next.clone());
        places.push(tokio::task::spawn_local(async move {
            while sender.clock.now_ns() < end_ns && next.get() < requests && !sender.broken.get() {
                let number = next.replace(next.get() + 1);
                let bytes = sender.source.take(number);
                let now = sender.clock.now_ns();
                sender.log.send(now, now);
                sender.in_flight.set(sender.in_flight.get() + 1);
                exchange(sender.clone(), number, bytes).await;
            }
        }));
    }
    for place in places {
        // A place that panicked leaves its request pending, which the verdict reports.
        let _ended = place.await;
    }
}

/// Sends one request, notes its answer and gives its bytes back for reuse.
async fn exchange(sender: Rc<Sender>, number: u64, bytes: Bytes) {
    let connection = &sender.connections[(number % sender.connections.len() as u64) as usize];
    let outcome = match connection {
        Connection::Grpc(connection) => connection.export(bytes.clone()).await,
        Connection::Http(connection) => connection.export(bytes.clone()).await,
    };
    if outcome == Outcome::Unknown {
        sender.broken.set(true);
    }
    sender.log.answer(number, sender.clock.now_ns(), outcome);
    sender.source.give_back(number, bytes);
    sender.in_flight.set(sender.in_flight.get() - 1);
    sender.answered.notify_one();
}

#[cfg(test)]
mod tests {
    use tokio::task::LocalSet;

    use super::*;
    use crate::items::{ItemCycle, ItemSettings};
    use crate::sent::Sent;
    use crate::sink::{Arrivals, Contents, listen};
    use crate::traces::{Cycle, CycleSettings};
    use crate::verdict::compare;

    const START_UNIX_NS: u64 = 1_700_000_000_000_000_000;

    fn traces() -> Sent {
        Sent::Traces(Cycle::new(CycleSettings {
            seed: 9,
            spans_per_request: 64,
            request_interval_ns: 1_000_000,
            start_unix_ns: START_UNIX_NS,
            has_marks: false,
        }))
    }

    fn items(signal: Signal) -> Sent {
        Sent::Items(ItemCycle::new(ItemSettings {
            signal,
            seed: 9,
            items_per_request: 64,
            series_min: 1_000,
            connections: 3,
            request_interval_ns: 1_000_000,
            start_unix_ns: START_UNIX_NS,
        }))
    }

    /// Sends to a sink that takes everything: what arrives is what was sent, each item once, byte for byte.
    fn check(sent: Sent, protocol: Protocol, compression: Compression, pace: Pace) {
        let sent = Rc::new(sent);
        let source = match compression {
            Compression::None => Source::plain(sent.clone()),
            compressed => Source::Prepared(Rc::new(prepare(&sent, 30, compressed).unwrap())),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let (clock, log) = (Clock::start(), Rc::new(Log::new()));
            let arrivals = Rc::new(Arrivals::new(sent.clone(), log.clone(), 1, Contents::Bytes, 0));
            let address = listen(0, protocol, arrivals.clone(), clock).await.unwrap();
            let target = Target { address, protocol, signal: sent.signal(), compression, connections: 3 };
            run(target, pace, source, log.clone(), clock).await.unwrap();
            assert!(log.sent() >= 1);
            assert_eq!(log.accepted(), log.sent());
            assert_eq!(log.in_flight(), 0);
            let ids = ["sink".to_owned()];
            let (expectation, findings) = compare(&sent, &log, &arrivals, None, &ids);
            assert_eq!(expectation.kept_items, log.sent() * 64);
            assert_eq!(findings[0].items, findings[0].expected_items);
            assert_eq!(findings[0].lost_traces + findings[0].partial_traces + findings[0].lost_items, 0);
            assert_eq!(findings[0].altered_items, 0);
            assert_eq!(arrivals.faults(), (0, Vec::new()));
        });
    }

    #[test]
    fn what_is_sent_arrives_by_both_protocols_in_every_encoding() {
        let open = Pace::Open { interval_ns: 200_000, requests: 30 };
        for protocol in [Protocol::Grpc, Protocol::Http] {
            for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
                check(traces(), protocol, compression, open);
                check(items(Signal::Logs), protocol, compression, open);
            }
            check(items(Signal::Metrics), protocol, Compression::None, open);
        }
    }

    #[test]
    fn a_closed_loop_reuses_its_buffers_with_fresh_ids() {
        let closed = Pace::Closed { in_flight: 2, duration_ns: 10_000_000_000, requests: 40 };
        check(traces(), Protocol::Grpc, Compression::None, closed);
        check(traces(), Protocol::Http, Compression::None, closed);
        check(items(Signal::Logs), Protocol::Grpc, Compression::None, closed);
    }
}
