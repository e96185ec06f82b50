//! What a log's files hold, counted: which requests wait in which segment, which segments may go.
//!
//! The one idea: segments leave from the front only. A mark that says "done" stands behind its request, in the same
//! segment or in a later one; so when the oldest segment goes, no mark goes whose request stays.
//!
//! It touches no file and reads no clock.

use codecs::segment::HEADER_BYTES;
use std::collections::{BTreeMap, VecDeque};

/// What bounds a log on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// All segments together; marks of what is done may go beyond it.
    pub bytes_max: u64,
    /// From here on a segment is full and the next one begins.
    pub segment_bytes: u64,
}

/// Segments and the requests in them that wait.
#[derive(Debug)]
pub(super) struct Account {
    bounds: Bounds,
    /// The last one is written to, unless `closed`.
    segments: VecDeque<Segment>,
    closed: bool,
    waiting: BTreeMap<u64, Waiting>,
    bytes: u64,
}

/// What goes with a segment that somebody still needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Forgotten {
    pub(super) segment: u64,
    pub(super) requests: u64,
    /// 0 if there were none.
    pub(super) sequence_min: u64,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    bytes: u64,
    waiting: usize,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    segment: u64,
    /// On the process's clock; before its start for requests of an earlier life.
    taken_ns: i64,
}

impl Account {
    /// Nothing is held yet.
    pub(super) fn new(bounds: Bounds) -> Account {
        Account { bounds, segments: VecDeque::new(), closed: true, waiting: BTreeMap::new(), bytes: 0 }
    }

    /// A segment that an earlier life wrote. The caller adds them by rising number, before the first [`Account::begin`].
    pub(super) fn found(&mut self, number: u64, bytes: u64) {
        debug_assert!(self.segments.back().is_none_or(|last| last.number < number), "numbers rise");
        self.segments.push_back(Segment { number, bytes, waiting: 0 });
        self.bytes += bytes;
    }

    /// A new segment is written to from now on.
    pub(super) fn begin(&mut self, number: u64) {
        self.found(number, HEADER_BYTES as u64);
        self.closed = false;
    }

    /// Nothing more is written to the last segment: it is full, or broken.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// Whether the next record needs a segment of its own first.
    pub(super) fn wants_segment(&self) -> bool {
        self.closed || self.segments.back().is_none_or(|last| last.bytes >= self.bounds.segment_bytes)
    }

    /// Whether a record of so many bytes stays within the bound.
    pub(super) fn fits(&self, bytes: u64) -> bool {
        self.bytes + bytes <= self.bounds.bytes_max
    }

    /// Bytes were appended to the last segment.
    pub(super) fn grown(&mut self, bytes: u64) {
        if let Some(last) = self.segments.back_mut() {
            last.bytes += bytes;
            self.bytes += bytes;
        }
    }

    /// A request waits in this segment.
    pub(super) fn waits(&mut self, sequence: u64, segment: u64, taken_ns: i64) {
        let before = self.waiting.insert(sequence, Waiting { segment, taken_ns });
        debug_assert!(before.is_none(), "a sequence is used once");
        if let Some(segment) = self.segment(segment) {
            segment.waiting += 1;
        }
    }

    /// A request no longer waits. Returns whether it did.
    pub(super) fn done(&mut self, sequence: u64) -> bool {
        let Some(waiting) = self.waiting.remove(&sequence) else { return false };
        if let Some(segment) = self.segment(waiting.segment) {
            segment.waiting -= 1;
        }
        true
    }

    fn segment(&mut self, number: u64) -> Option<&mut Segment> {
        self.segments.iter_mut().rev().find(|segment| segment.number == number)
    }

    /// Takes the oldest segment out if nobody needs it any more; the caller removes its file and asks again.
    pub(super) fn release(&mut self) -> Option<u64> {
        let front = self.segments.front()?;
        let written_to = self.segments.len() == 1 && !self.wants_segment();
        if front.waiting > 0 || written_to {
            return None;
        }
        let front = self.segments.pop_front()?;
        self.bytes -= front.bytes;
        Some(front.number)
    }

    /// Takes the oldest segment out whoever needs it, unless it is written to: its number, how many requests go with it, and
    /// the number that no later request is below.
    pub(super) fn forget_oldest(&mut self) -> Option<Forgotten> {
        let is_written_to = self.segments.len() == 1 && !self.closed;
        let front = self.segments.front().filter(|_| !is_written_to)?;
        let (segment, requests) = (front.number, front.waiting as u64);
        let mut sequence_min = 0;
        while let Some(first) = self.waiting.first_entry().filter(|first| first.get().segment == segment) {
            sequence_min = first.key() + 1;
            first.remove();
        }
        let front = self.segments.pop_front()?;
        self.bytes -= front.bytes;
        Some(Forgotten { segment, requests, sequence_min })
    }

    /// Bytes of all segments.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Requests that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// When the oldest of them was taken.
    pub(super) fn oldest_ns(&self) -> Option<i64> {
        self.waiting.first_key_value().map(|(_, waiting)| waiting.taken_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: u64 = HEADER_BYTES as u64;

    fn account() -> Account {
        Account::new(Bounds { bytes_max: 1000, segment_bytes: 200 })
    }

    #[test]
    fn a_segment_goes_when_all_before_it_and_all_in_it_is_done() {
        let mut account = account();
        account.begin(1);
        account.grown(200);
        account.waits(0, 1, 10);
        assert!(account.wants_segment());
        account.begin(2);
        account.grown(200);
        account.waits(1, 2, 20);
        account.begin(3);
        assert!(account.done(1));
        assert_eq!(account.release(), None, "the mark in front of it would be lost");
        assert_eq!(account.oldest_ns(), Some(10));
        assert!(account.done(0));
        assert_eq!([account.release(), account.release(), account.release()], [Some(1), Some(2), None]);
        assert_eq!((account.bytes(), account.waiting(), account.oldest_ns()), (HEADER, 0, None));
    }

    #[test]
    fn a_full_account_forgets_its_oldest_segment_and_never_the_one_that_is_written_to() {
        let mut account = account();
        account.begin(1);
        account.grown(200);
        account.waits(0, 1, 10);
        account.waits(1, 1, 11);
        account.begin(2);
        account.waits(2, 2, 20);
        assert_eq!(account.forget_oldest(), Some(Forgotten { segment: 1, requests: 2, sequence_min: 2 }));
        assert_eq!((account.waiting(), account.oldest_ns()), (1, Some(20)));
        assert!(!account.done(0), "it is gone");
        assert_eq!(account.forget_oldest(), None);
        account.close();
        assert_eq!(account.forget_oldest().map(|it| it.sequence_min), Some(3));
        assert_eq!((account.bytes(), account.waiting()), (0, 0));
    }

    #[test]
    fn a_full_segment_goes_even_if_it_is_the_only_one() {
        let mut account = account();
        account.begin(1);
        assert!(account.fits(936));
        assert!(!account.fits(937));
        account.grown(936);
        account.waits(0, 1, 0);
        assert!(!account.fits(1));
        assert_eq!(account.release(), None);
        assert!(account.done(0));
        assert!(!account.done(0), "a second mark changes nothing");
        assert_eq!(account.release(), Some(1));
        assert!(account.fits(1000));
        assert!(account.wants_segment());
    }
}
