//! What the log says of requests that are not taken: one line for each reason and minute, with who sent the request and
//! what helps.
//!
//! The one idea: a sender that is configured wrong repeats itself, and so does everybody while the gateway is full. The
//! first of a minute is said, the others are counted until the next is. Metrics count each of them as before. Never says
//! more of a peer's bytes than the answer that the peer itself got.

use crate::telemetry::metrics::{RefuseReason, RejectReason};
use crate::transport::Transport;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A reason is said again after this long.
const SAY_AGAIN_NS: u64 = 60_000_000_000;
/// Characters of the answer to a peer that are said.
const WHAT_CHARS_MAX: usize = 300;
const REASONS: usize = RejectReason::ALL.len() + RefuseReason::ALL.len();

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// For good.
    Rejected(RejectReason),
    /// For now.
    Refused(RefuseReason),
}

impl Reason {
    fn position(self) -> usize {
        match self {
            Reason::Rejected(reason) => reason as usize,
            Reason::Refused(reason) => RejectReason::ALL.len() + reason as usize,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Reason::Rejected(reason) => reason.label(),
            Reason::Refused(reason) => reason.label(),
        }
    }

    fn verb(self) -> &'static str {
        match self {
            Reason::Rejected(_) => "rejected",
            Reason::Refused(_) => "refused",
        }
    }

    /// What happened, where nothing closer is known.
    fn what(self) -> &'static str {
        match self {
            Reason::Rejected(RejectReason::Malformed) => "it is broken, or ended too early",
            Reason::Rejected(RejectReason::TooLarge) => "it is larger than this receiver allows",
            Reason::Rejected(RejectReason::Compression) => "this receiver cannot undo its compression",
            Reason::Rejected(RejectReason::Route) => "nothing is served at its path, by its method, or of its type",
            Reason::Rejected(RejectReason::Auth) => "its sender showed no credential, or a wrong one",
            Reason::Rejected(RejectReason::Internal) => "this gateway failed on it",
            Reason::Refused(RefuseReason::Memory) => "the memory budget is spent",
            Reason::Refused(RefuseReason::Share) => "memory is short, and its sender has sent more than its share",
            Reason::Refused(RefuseReason::Queue) => "a queue that it waits for is full",
            Reason::Refused(RefuseReason::Draining) => "this gateway is about to stop",
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Reason::Rejected(RejectReason::Malformed) => {
                "Look whether something other than an OTLP exporter sends to this port, or a proxy between cuts requests; \
                 else update the sender."
            }
            Reason::Rejected(RejectReason::TooLarge) => {
                "Raise `max_recv_msg_size_mib` (gRPC) or `max_request_body_size` (HTTP) of the receiver, or let the \
                 sender make smaller batches."
            }
            Reason::Rejected(RejectReason::Compression) => {
                "Let the sender use gzip, zstd, zlib, deflate, snappy, lz4 (HTTP), gzip, zstd, snappy (gRPC) or none."
            }
            Reason::Rejected(RejectReason::Route) => {
                "Compare the sender's endpoint, protocol and content type with the addresses that were logged at start; \
                 a signal that no pipeline of this receiver takes is not served either."
            }
            Reason::Rejected(RejectReason::Auth) => "Compare the sender's credential with the receiver's `auth`.",
            Reason::Rejected(RejectReason::Internal) => "Please report the error that was logged before this.",
            Reason::Refused(RefuseReason::Memory) => {
                "Senders come back by themselves. If it lasts: more memory, more replicas, or a backend that takes more."
            }
            Reason::Refused(RefuseReason::Share) => {
                "Senders come back by themselves. If it lasts: look why this one sends so much, or see `fair_share` in \
                 docs/configuration.md."
            }
            Reason::Refused(RefuseReason::Queue) => {
                "Senders come back by themselves. If it lasts: look at the exporters' errors, or raise `sending_queue`."
            }
            Reason::Refused(RefuseReason::Draining) => "Senders come back by themselves, to another replica.",
        }
    }
}

/// What one protocol of a receiver says, all shards together. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Complaints(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    receiver: String,
    transport: Transport,
    said: [Said; REASONS],
}

#[derive(Debug, Default)]
struct Said {
    /// In nanoseconds of the process's clock; 0: never.
    at_ns: AtomicU64,
    /// How often it was not, since then.
    unsaid: AtomicU64,
}

impl Complaints {
    /// Nothing was said yet.
    pub fn new(receiver: String, transport: Transport) -> Complaints {
        Complaints(Arc::new(Inner { receiver, transport, said: std::array::from_fn(|_| Said::default()) }))
    }

    /// A request was not taken. `what`: what its sender was told, if that says more than the reason.
    pub fn note(&self, reason: Reason, what: Option<&str>, peer: Option<IpAddr>, now_ns: u64) {
        if self.0.transport == Transport::File {
            // Whoever reads the file names each record with its line; a refused one is tried again.
            return;
        }
        let Some(unsaid) = self.turn_to_say(reason, now_ns) else { return };
        let what = one_line(what.unwrap_or_else(|| reason.what()));
        let peer = peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string());
        tracing::warn!(
            receiver = self.0.receiver,
            transport = self.0.transport.label(),
            peer,
            reason = reason.label(),
            unsaid,
            "A request was {}: {what}. {} The next of this kind are only counted, for a minute.",
            reason.verb(),
            reason.remedy()
        );
    }

    /// Whether it is time to say this, and how often it was not said before.
    fn turn_to_say(&self, reason: Reason, now_ns: u64) -> Option<u64> {
        let said = &self.0.said[reason.position()];
        let at_ns = said.at_ns.load(Ordering::Relaxed);
        let too_soon = at_ns != 0 && now_ns.saturating_sub(at_ns) < SAY_AGAIN_NS;
        // Of several shards at the same moment one says it.
        let is_ours = !too_soon
            && said.at_ns.compare_exchange(at_ns, now_ns.max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if !is_ours {
            said.unsaid.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(said.unsaid.swap(0, Ordering::Relaxed))
    }
}

/// Bounded, and without what would begin another line.
fn one_line(text: &str) -> String {
    let printable = |character: char| if character.is_control() { ' ' } else { character };
    text.trim_end_matches('.').chars().take(WHAT_CHARS_MAX).map(printable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_said_once_a_minute_and_what_was_not_said_is_counted() {
        let complaints = Complaints::new("otlp".to_owned(), Transport::Grpc);
        let malformed = Reason::Rejected(RejectReason::Malformed);
        assert_eq!(complaints.turn_to_say(malformed, 0), Some(0));
        for second in 1..60 {
            assert_eq!(complaints.clone().turn_to_say(malformed, second * 1_000_000_000), None);
        }
        assert_eq!(complaints.turn_to_say(malformed, SAY_AGAIN_NS + 1), Some(59));
        assert_eq!(complaints.turn_to_say(malformed, 2 * SAY_AGAIN_NS + 1), Some(0));
    }

    #[test]
    fn each_reason_has_a_minute_of_its_own() {
        let complaints = Complaints::new("otlp".to_owned(), Transport::Http);
        let rejected = RejectReason::ALL.map(Reason::Rejected);
        let refused = RefuseReason::ALL.map(Reason::Refused);
        for reason in rejected.into_iter().chain(refused) {
            assert_eq!(complaints.turn_to_say(reason, 5), Some(0), "{reason:?}");
        }
    }

    #[test]
    fn the_words_of_a_peer_stay_short_and_on_one_line() {
        assert_eq!(one_line("a\nb\u{1b}[2J."), "a b [2J");
        assert_eq!(one_line(&"x".repeat(10_000)).len(), WHAT_CHARS_MAX);
    }
}
