//! The demo's own book: what was sent, what the gateway took, what arrived where, and whether that is as it should be.
//!
//! ```text
//! load --offered, taken--> Accounts <--archived, kept-- sink
//!                             |
//!                          Balance: missing, undecided, wrong, ...
//! ```
//!
//! The one idea: spans are remembered one by one, as bits under the number of their trace, so that the book knows which
//! are missing and needs nothing that the gateway says of itself. Pure: it knows no clock and no socket.

use super::shop::{Part, Reason, Trace};

/// Traces that are remembered, a quarter hour at the highest rate and hours at the usual one: 8 bytes each. Then the
/// load ends.
pub(super) const TRACES_MAX: usize = 4 << 20;

/// Which way a span arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Through the pipeline without a sampler.
    Archive,
    /// Through the one with it.
    Kept,
}

/// One trace; a bit for each span.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    taken: u16,
    archived: u16,
    kept: u16,
    /// A process that had not decided it, or not all of it, was killed.
    at_risk: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    /// By the trace's number; those that were offered.
    traces: Vec<Entry>,
    offered: u64,
    taken: u64,
    repeated: u64,
    strangers: u64,
}

/// How the book stands. All figures are spans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Balance {
    /// Sent, each once however often it was repeated.
    pub(super) offered: u64,
    /// Answered with success: the sender has forgotten them.
    pub(super) taken: u64,
    /// Arrived without sampling.
    pub(super) archived: u64,
    /// Taken, and not arrived without sampling: under way, or lost.
    pub(super) missing: u64,
    /// Arrived through the sampler, by reason.
    pub(super) kept: [u64; Reason::ALL.len()],
    /// Taken, wanted by a policy, and not arrived through the sampler: undecided, under way, or lost.
    pub(super) kept_missing: u64,
    /// The same of traces that a killed process had not decided.
    pub(super) undecided_at_kill: u64,
    /// Arrived through the sampler although no policy wants them.
    pub(super) wrong: u64,
    /// Arrived again: a request whose answer was lost is sent again.
    pub(super) repeated: u64,
    /// Never sent by the demo.
    pub(super) strangers: u64,
}

impl Balance {
    /// Whether nothing is lost, at a time when nothing is under way.
    pub(super) fn is_even(&self) -> bool {
        self.missing == 0 && self.kept_missing == 0 && self.wrong == 0 && self.strangers == 0
    }
}

impl Accounts {
    /// The next so many traces; none when as many are remembered as may be.
    pub(super) fn offer(&mut self, traces: usize) -> Vec<Trace> {
        let first = self.traces.len();
        let end = (first + traces).min(TRACES_MAX);
        self.traces.resize(end, Entry::default());
        let offered: Vec<Trace> = (first..end).map(|number| Trace(number as u64)).collect();
        self.offered += offered.iter().map(|trace| u64::from(trace.spans())).sum::<u64>();
        offered
    }

    /// Whether no trace is left to offer.
    pub(super) fn is_full(&self) -> bool {
        self.traces.len() == TRACES_MAX
    }

    /// The gateway has taken these parts.
    pub(super) fn taken(&mut self, parts: &[Part]) {
        for Part { trace, half, .. } in parts {
            let places = trace.half(*half);
            self.taken += places.len() as u64;
            self.traces[trace.0 as usize].taken |= places.fold(0, |bits, place| bits | 1 << place);
        }
    }

    /// A span has come.
    pub(super) fn arrived(&mut self, way: Way, trace_id: &[u8], span_id: &[u8]) {
        let found = Trace::of_span(trace_id, span_id);
        let entry = found.and_then(|(trace, place)| Some((self.traces.get_mut(trace.0 as usize)?, place)));
        let Some((entry, place)) = entry else {
            self.strangers += 1;
            return;
        };
        let arrived = match way {
            Way::Archive => &mut entry.archived,
            Way::Kept => &mut entry.kept,
        };
        if *arrived & 1 << place != 0 {
            self.repeated += 1;
        }
        *arrived |= 1 << place;
    }

    /// The process that decides has ended without a last word: what it had not sent on of a trace, it may have forgotten.
    pub(super) fn killed(&mut self) {
        for (number, entry) in self.traces.iter_mut().enumerate() {
            let trace = Trace(number as u64);
            entry.at_risk |= trace.reason().is_some() && entry.kept.count_ones() < trace.spans();
        }
    }

    /// How it stands now.
    pub(super) fn balance(&self) -> Balance {
        let mut balance = Balance {
            offered: self.offered,
            taken: self.taken,
            repeated: self.repeated,
            strangers: self.strangers,
            ..Balance::default()
        };
        for (number, entry) in self.traces.iter().enumerate() {
            balance.archived += u64::from(entry.archived.count_ones());
            balance.missing += u64::from((entry.taken & !entry.archived).count_ones());
            let absent = u64::from((entry.taken & !entry.kept).count_ones());
            match Trace(number as u64).reason() {
                None => balance.wrong += u64::from(entry.kept.count_ones()),
                Some(reason) => {
                    balance.kept[reason as usize] += u64::from(entry.kept.count_ones());
                    let missing =
                        if entry.at_risk { &mut balance.undecided_at_kill } else { &mut balance.kept_missing };
                    *missing += absent;
                }
            }
        }
        balance
    }
}

#[cfg(test)]
mod tests {
    use super::super::shop::{self, Half};
    use super::*;
    use codecs::otlp::proto::ExportTraceServiceRequest;
    use prost::Message;

    /// The numbers of the first trace that is kept, and of the first that is not.
    fn one_of_each() -> (usize, usize) {
        let first = |kept| (0..).find(|number| Trace(*number as u64).reason().is_some() == kept).unwrap();
        (first(true), first(false))
    }

    fn arrive(accounts: &mut Accounts, way: Way, trace: Trace, half: Half) {
        let request =
            ExportTraceServiceRequest::decode(shop::request(&[Part { trace, half, began_ns: 0 }]).as_slice()).unwrap();
        for span in request.resource_spans.iter().flat_map(|group| &group.scope_spans).flat_map(|group| &group.spans) {
            accounts.arrived(way, &span.trace_id, &span.span_id);
        }
    }

    fn taken(accounts: &mut Accounts, number: usize) -> Trace {
        let trace = Trace(number as u64);
        if accounts.traces.len() <= number {
            accounts.offer(number + 1);
        }
        accounts.taken(&[Half::First, Half::Second].map(|half| Part { trace, half, began_ns: 0 }));
        trace
    }

    #[test]
    fn the_book_is_even_once_everything_that_was_taken_has_come_where_it_belongs() {
        let (kept, other) = one_of_each();
        let mut accounts = Accounts::default();
        let (kept, other) = (taken(&mut accounts, kept), taken(&mut accounts, other));
        let spans = u64::from(kept.spans() + other.spans());
        let balance = accounts.balance();
        assert_eq!((balance.taken, balance.missing, balance.kept_missing), (spans, spans, kept.spans().into()));
        for half in [Half::First, Half::Second] {
            arrive(&mut accounts, Way::Archive, kept, half);
            arrive(&mut accounts, Way::Archive, other, half);
            assert!(!accounts.balance().is_even());
            arrive(&mut accounts, Way::Kept, kept, half);
        }
        let balance = accounts.balance();
        assert!(balance.is_even(), "{balance:?}");
        assert_eq!((balance.archived, balance.kept.iter().sum::<u64>()), (spans, kept.spans().into()));
        arrive(&mut accounts, Way::Archive, kept, Half::First);
        assert_eq!(accounts.balance().repeated, kept.half(Half::First).len() as u64);
        assert!(accounts.balance().is_even());
    }

    #[test]
    fn a_span_that_nobody_wants_or_nobody_sent_is_no_even_book() {
        let (_, other) = one_of_each();
        let mut accounts = Accounts::default();
        let other = taken(&mut accounts, other);
        for half in [Half::First, Half::Second] {
            arrive(&mut accounts, Way::Archive, other, half);
        }
        assert!(accounts.balance().is_even());
        arrive(&mut accounts, Way::Kept, other, Half::First);
        assert_eq!(accounts.balance().wrong, other.half(Half::First).len() as u64);
        let mut accounts = Accounts::default();
        arrive(&mut accounts, Way::Archive, Trace(3), Half::First);
        accounts.arrived(Way::Archive, b"short", b"");
        assert_eq!(accounts.balance().strangers, Trace(3).half(Half::First).len() as u64 + 1);
    }

    #[test]
    fn a_kill_excuses_what_was_not_decided_and_nothing_that_was_archived() {
        let (kept, _) = one_of_each();
        let mut accounts = Accounts::default();
        let trace = taken(&mut accounts, kept);
        arrive(&mut accounts, Way::Kept, trace, Half::First);
        accounts.killed();
        let balance = accounts.balance();
        assert_eq!((balance.kept_missing, balance.undecided_at_kill), (0, trace.half(Half::Second).len() as u64));
        assert_eq!(balance.missing, u64::from(trace.spans()));
    }

    #[test]
    fn no_more_traces_are_offered_than_are_remembered() {
        let mut accounts = Accounts::default();
        assert_eq!(accounts.offer(TRACES_MAX - 1).len(), TRACES_MAX - 1);
        assert_eq!((accounts.offer(3).len(), accounts.is_full(), accounts.offer(3).len()), (1, true, 0));
    }
}
