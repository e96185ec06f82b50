//! What each policy said of the traces decided last, for people who ask why.
//!
//! The idea: a decision leaves one small entry, whose policies are bits, in a ring that never grows: one ring for the
//! traces that were sampled, one for the others, so that the many do not push out the few. What falls out of a ring is
//! kept on in a third one if its trace is one in [`SHARE`], so that an older trace has a chance to be found too.

use codecs::otlp::TraceId;

use crate::policy::{Decision, Facts, START_UNKNOWN};

/// One in so many older traces is kept on.
const SHARE: u64 = 16;

/// What became of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Kept; the first policy that wanted it, by its place in the settings.
    Sampled {
        /// Its place.
        policy: u16,
    },
    /// No policy wanted it.
    NotSampled,
    /// A policy dropped it, whatever others wanted.
    Dropped,
    /// It outgrew the largest size of a trace; no policy was asked.
    TooLarge,
    /// It was given up by chance because memory was short; no policy was asked.
    Shed,
    /// It was pending when a drain dropped what was; no policy was asked.
    Drained,
}

impl From<Decision> for Outcome {
    fn from(decision: Decision) -> Self {
        match decision {
            Decision::Sampled { policy } => Self::Sampled { policy },
            Decision::NotSampled => Self::NotSampled,
            Decision::Dropped => Self::Dropped,
        }
    }
}

/// What a policy said of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was not asked: others had decided.
    NotAsked,
    /// It wanted the trace; one that drops wanted it dropped.
    Yes,
    /// It did not.
    No,
}

/// The answers of up to 256 policies, by their places in the settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    asked: [u64; 4],
    wanted: [u64; 4],
}

impl Answers {
    /// Notes what a policy said.
    #[inline]
    pub(crate) fn note(&mut self, policy: u16, wanted: bool) {
        let (word, bit) = (usize::from(policy >> 6) % 4, policy & 63);
        self.asked[word] |= 1 << bit;
        self.wanted[word] |= u64::from(wanted) << bit;
    }

    /// What the policy at this place said.
    #[must_use]
    pub fn of(&self, policy: u16) -> Answer {
        let (word, bit) = (usize::from(policy >> 6) % 4, 1 << (policy & 63));
        match (self.asked[word] & bit != 0, self.wanted[word] & bit != 0) {
            (false, _) => Answer::NotAsked,
            (true, true) => Answer::Yes,
            (true, false) => Answer::No,
        }
    }
}

/// How one trace was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which.
    pub trace_id: TraceId,
    /// What became of it.
    pub outcome: Outcome,
    /// What each policy said.
    pub answers: Answers,
    /// Spans it had when it was decided.
    pub spans: u32,
    /// From its first start to its last end; `None` if its spans have no times.
    pub duration_ns: Option<u64>,
    /// Monotonic time of the decision.
    pub decided_ns: u64,
    /// Whose policies these are: how often the sampler's rules had changed when the trace began.
    pub revision: u32,
}

/// The entries of one sampler. Off, and without memory, until it is given a size.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    sampled: Ring,
    others: Ring,
    older: Ring,
}

impl Journal {
    /// Keeps so many entries in each of its three rings.
    pub(crate) fn new(entries_max: usize) -> Self {
        Self { sampled: Ring::new(entries_max), others: Ring::new(entries_max), older: Ring::new(entries_max) }
    }

    #[inline]
    pub(crate) fn note(&mut self, facts: &Facts, outcome: Outcome, answers: Answers, revision: u32) {
        let ring = if matches!(outcome, Outcome::Sampled { .. }) { &mut self.sampled } else { &mut self.others };
        let has_times = facts.first_start_ns != START_UNKNOWN && facts.last_end_ns != 0;
        let entry = Entry {
            trace_id: facts.trace_id,
            outcome,
            answers,
            spans: facts.spans,
            duration_ns: has_times.then(|| facts.last_end_ns.saturating_sub(facts.first_start_ns)),
            decided_ns: facts.now_ns,
            revision,
        };
        if let Some(oldest) = ring.push(entry)
            && share_of(&oldest.trace_id)
        {
            self.older.push(oldest);
        }
    }

    /// Every trace whose id starts with these hexadecimal digits, the youngest decisions first, at most `most`.
    pub(crate) fn find(&self, digits: &str, most: usize) -> Vec<Entry> {
        let rings = [&self.sampled, &self.others, &self.older];
        let mut found: Vec<Entry> = rings
            .iter()
            .flat_map(|ring| &ring.entries)
            .filter(|entry| starts_with(&entry.trace_id, digits))
            .copied()
            .collect();
        found.sort_by_key(|entry| std::cmp::Reverse(entry.decided_ns));
        found.truncate(most);
        found
    }

    pub(crate) fn bytes(&self) -> usize {
        let rings = [&self.sampled, &self.others, &self.older];
        rings.iter().map(|ring| ring.entries.capacity() * size_of::<Entry>()).sum()
    }
}

/// Random bits of the id; those of its end are the ones that are random wherever any are.
fn share_of(trace_id: &TraceId) -> bool {
    u64::from(trace_id.0[15]).is_multiple_of(SHARE)
}

fn starts_with(trace_id: &TraceId, digits: &str) -> bool {
    let nibble = |place: usize| {
        let byte = trace_id.0[place / 2];
        if place.is_multiple_of(2) { byte >> 4 } else { byte & 15 }
    };
    digits.len() <= 32
        && digits.chars().enumerate().all(|(place, digit)| digit.to_digit(16) == Some(nibble(place).into()))
}

#[derive(Debug, Default)]
struct Ring {
    entries: Vec<Entry>,
    entries_max: usize,
    /// The oldest, once it is full.
    next: usize,
}

impl Ring {
    fn new(entries_max: usize) -> Self {
        Self { entries: Vec::with_capacity(entries_max), entries_max, next: 0 }
    }

    /// Returns the oldest entry if it has to go.
    fn push(&mut self, entry: Entry) -> Option<Entry> {
        if self.entries.len() < self.entries_max {
            self.entries.push(entry);
            return None;
        }
        let oldest = std::mem::replace(self.entries.get_mut(self.next)?, entry);
        self.next = (self.next + 1) % self.entries_max;
        Some(oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::facts;

    fn note(journal: &mut Journal, last: u8, outcome: Outcome, now_ns: u64) {
        let mut trace_id = TraceId([0xab; 16]);
        trace_id.0[15] = last;
        let mut answers = Answers::default();
        answers.note(2, true);
        answers.note(255, false);
        journal.note(&Facts { trace_id, now_ns, ..facts() }, outcome, answers, 0);
    }

    #[test]
    fn the_last_decisions_are_all_there_and_of_older_ones_some() {
        let mut journal = Journal::new(4);
        note(&mut journal, 7, Outcome::Sampled { policy: 2 }, 0);
        for last in 0..40 {
            note(&mut journal, last, Outcome::NotSampled, 1 + u64::from(last));
        }
        let found = journal.find("ABAB", 100);
        let lasts: Vec<u8> = found.iter().map(|entry| entry.trace_id.0[15]).collect();
        assert_eq!(lasts, [39, 38, 37, 36, 32, 16, 0, 7], "one in sixteen of those that many pushed out");
        assert_eq!(journal.find("abab", 1).len(), 1);
        assert!(journal.find("abac", 9).is_empty() && journal.find(&"ab".repeat(17), 9).is_empty());
    }

    #[test]
    fn answers_of_every_place_are_told_apart() {
        let mut journal = Journal::new(1);
        note(&mut journal, 0, Outcome::Dropped, 5);
        let entry = journal.find("ab", 1)[0];
        let answers = [0, 2, 66, 255].map(|policy| entry.answers.of(policy));
        assert_eq!(answers, [Answer::NotAsked, Answer::Yes, Answer::NotAsked, Answer::No]);
    }

    #[test]
    fn without_a_size_nothing_is_kept() {
        let mut journal = Journal::default();
        note(&mut journal, 0, Outcome::NotSampled, 5);
        assert!(journal.find("", 9).is_empty());
        assert_eq!(journal.bytes(), 0);
    }
}
