//! Which traces were dropped lately, for their late spans: four bytes a trace.
//!
//! ```text
//! hash -> line of 64 bytes:  [newest mark | ... | oldest mark]     a new mark pushes the oldest out of its line
//! ```
//!
//! A mark is 30 bits of the trace's hash, the line is chosen by others, so a trace of which nothing is known is taken for
//! a dropped one with a chance of at most [`FALSE_POSITIVES_MAX`]: then it is dropped unread. One cache miss answers, and
//! only spans that begin a trace, or are late, ask.
//!
//! A late span moves its trace's mark to the front: what still has spans is forgotten last. When as many others were
//! dropped as half of the marks that fit, 1 trace in 128 is forgotten (chance fills some lines sooner than others); a
//! memory of one line forgets strictly in order.
//!
//! A memory that becomes larger or smaller cannot be moved: a mark is less than the hash that chose its line. The one before
//! stays beside it until as many traces were dropped as it could remember, or the new one can. There are two at most:
//! another change waits for that.

use super::When;

/// Marks in a cache line.
const MARKS: usize = 16;

/// Bytes of a line.
const LINE_BYTES: usize = MARKS * size_of::<u32>();

/// The chance, for each new trace, that it is taken for one that was dropped: a line's marks among all values of 30 bits.
pub const FALSE_POSITIVES_MAX: f64 = MARKS as f64 / (1u64 << 30) as f64;

/// Bytes that a dropped trace needs to be remembered until so many others were dropped, but for 1 in 128: see the head
/// of this file.
pub const BYTES_PER_DROPPED: usize = 2 * size_of::<u32>();

/// Memory comes in pages when it is first written.
const PAGE_BYTES: usize = 4_096;

/// Hashes of traces that were dropped.
#[derive(Debug)]
pub(crate) struct Dropped {
    lines: Lines,
    /// The memory before this one, and how many traces are still to be dropped before it is forgotten.
    before: Option<(Lines, usize)>,
    /// How large it is to be once that is forgotten.
    next_bytes_max: Option<usize>,
}

#[derive(Debug)]
struct Lines {
    /// Zero: no mark. Lines begin at `first`, so that each is one cache line.
    marks: Vec<u32>,
    first: usize,
    lines: usize,
    /// Lines written to, each counted again with every mark: bounds the pages that are really there.
    written: usize,
}

/// Set in the mark of a trace that was decided before its deadline because nothing could change the decision.
const EARLY: u32 = 1 << 31;
/// Set in the mark of a trace that was shed.
const SHED: u32 = 1 << 30;
/// The bits that say of which trace a mark is.
const MARK: u32 = SHED - 1;

impl Dropped {
    /// Of at most `bytes_max`, one line at least.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { lines: Lines::new(bytes_max), before: None, next_bytes_max: None }
    }

    /// The memory is as large as this from now on, or as soon as the last change of its size is forgotten.
    pub(crate) fn resize(&mut self, bytes_max: usize) {
        if self.before.is_some() {
            self.next_bytes_max = Some(bytes_max);
        } else if lines_in(bytes_max) != self.lines.lines {
            let lines = Lines::new(bytes_max);
            let needed = lines.lines.min(self.lines.lines) * MARKS;
            self.before = Some((std::mem::replace(&mut self.lines, lines), needed));
        }
    }

    /// Reads where [`Dropped::find`] will look, and no more; see [`super::index::Index::touch`].
    #[inline]
    pub(crate) fn touch(&self, hash: u64) -> u32 {
        self.lines.marks[self.lines.place_of(hash).0]
    }

    /// Whether the trace was dropped lately; if so, when.
    #[inline]
    pub(crate) fn find(&self, hash: u64) -> Option<When> {
        match &self.before {
            None => self.lines.find(hash),
            Some((before, _)) => self.lines.find(hash).or_else(|| before.find(hash)),
        }
    }

    /// The trace was dropped.
    pub(crate) fn insert(&mut self, hash: u64, when: When) {
        self.lines.insert(hash, when);
        if let Some((_, needed)) = &mut self.before {
            *needed -= 1;
            if *needed == 0 {
                self.before = None;
                if let Some(bytes_max) = self.next_bytes_max.take() {
                    self.resize(bytes_max);
                }
            }
        }
    }

    /// A span of the dropped trace came: it is the last to be forgotten.
    pub(crate) fn refresh(&mut self, hash: u64) {
        if !self.lines.refresh(hash)
            && let Some(when) = self.find(hash)
        {
            self.insert(hash, when);
        }
    }

    /// Memory that is there.
    pub(crate) fn bytes(&self) -> usize {
        self.lines.bytes() + self.before.as_ref().map_or(0, |(before, _)| before.bytes())
    }
}

impl Lines {
    fn new(bytes_max: usize) -> Self {
        let lines = lines_in(bytes_max);
        // Zeroed memory is not there before it is written.
        let marks = vec![0u32; (lines + 1) * MARKS];
        let first = marks.as_ptr().align_offset(LINE_BYTES).min(MARKS);
        Self { marks, first, lines, written: 0 }
    }

    /// Where the trace's line begins, and its mark, which is never zero.
    #[inline]
    fn place_of(&self, hash: u64) -> (usize, u32) {
        let mixed = mix(hash);
        let line = ((mixed >> 32) * self.lines as u64) >> 32;
        (self.first + line as usize * MARKS, (mixed as u32 & MARK).max(1))
    }

    #[inline]
    fn find(&self, hash: u64) -> Option<When> {
        let (line, mark) = self.place_of(hash);
        let marks = &self.marks[line..line + MARKS];
        let found = marks.iter().find(|found| **found & MARK == mark)?;
        Some(match found & !MARK {
            0 => When::Due,
            EARLY => When::Early,
            _ => When::Shed,
        })
    }

    fn insert(&mut self, hash: u64, when: When) {
        let (line, mark) = self.place_of(hash);
        let marks = &mut self.marks[line..line + MARKS];
        marks.copy_within(..MARKS - 1, 1);
        let kind = match when {
            When::Due => 0,
            When::Early => EARLY,
            When::Shed => SHED,
        };
        marks[0] = mark | kind;
        self.written += 1;
    }

    /// False: there is no mark of this trace.
    fn refresh(&mut self, hash: u64) -> bool {
        let (line, mark) = self.place_of(hash);
        let marks = &mut self.marks[line..line + MARKS];
        let position = marks.iter().position(|found| *found & MARK == mark);
        if let Some(position) = position {
            marks[..=position].rotate_right(1);
        }
        position.is_some()
    }

    fn bytes(&self) -> usize {
        self.written.saturating_mul(PAGE_BYTES).min(self.marks.capacity() * size_of::<u32>())
    }
}

fn lines_in(bytes_max: usize) -> usize {
    // A line is chosen by 32 bits of the hash.
    (bytes_max / LINE_BYTES).clamp(1, 1 << 31)
}

/// Makes each half of the hash depend on all of it: for similar trace ids a fast hash differs in some bits only, and what
/// is compared here is less than the whole.
#[inline]
fn mix(hash: u64) -> u64 {
    let mixed = (hash ^ hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 29
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [When; 3] = [When::Due, When::Early, When::Shed];

    /// SplitMix64.
    fn hash(n: u64) -> u64 {
        let mixed = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    #[test]
    fn one_line_remembers_the_last_sixteen_and_those_asked_for_longer() {
        let mut dropped = Dropped::new(0);
        for n in 0..100 {
            assert_eq!(dropped.find(hash(n)), None);
            dropped.insert(hash(n), KINDS[n as usize % 3]);
            for recent in n.saturating_sub(15)..=n {
                assert_eq!(dropped.find(hash(recent)), Some(KINDS[recent as usize % 3]));
            }
        }
        dropped.refresh(hash(84));
        dropped.insert(hash(100), When::Due);
        assert_eq!(dropped.find(hash(84)), Some(KINDS[0]), "its spans still come");
        assert_eq!(dropped.find(hash(85)), None);
    }

    /// Of a memory that becomes smaller or larger.
    #[test]
    fn what_was_dropped_before_a_change_of_size_is_remembered_as_long_as_either_could() {
        for (before, after) in [(16, 64), (64, 16)] {
            let mut dropped = Dropped::new(before * LINE_BYTES);
            let few = 16u64;
            (0..few).for_each(|n| dropped.insert(hash(n), When::Shed));
            dropped.resize(after * LINE_BYTES);
            // These wait, and the last counts.
            [1, 3, after].into_iter().for_each(|lines| dropped.resize(lines * LINE_BYTES));
            let marks = (before.min(after) * MARKS) as u64;
            for n in few..few + marks / 2 {
                dropped.insert(hash(n), When::Due);
            }
            assert!((0..few).all(|n| dropped.find(hash(n)) == Some(When::Shed)), "from {before} lines to {after}");
            dropped.refresh(hash(0));
            (few + marks / 2..few + marks).for_each(|n| dropped.insert(hash(n), When::Due));
            assert!(dropped.bytes() <= PAGE_BYTES.max((after + 1) * LINE_BYTES), "the memory before is given back");
            assert_eq!(dropped.find(hash(0)), Some(When::Shed), "its spans still came");
            assert_eq!(dropped.find(hash(1)), None);
        }
    }

    #[test]
    fn half_a_memory_later_one_trace_in_128_is_forgotten_at_most() {
        let mut dropped = Dropped::new(1 << 20);
        let half = (1 << 20) / 4 / 2;
        (0..3 * half).for_each(|n| dropped.insert(hash(n), When::Due));
        let forgotten = (2 * half..3 * half).filter(|n| dropped.find(hash(*n)).is_none()).count();
        assert!(forgotten * 128 <= half as usize, "{forgotten} of {half} forgotten");
        assert!(dropped.bytes() <= (1 << 20) + LINE_BYTES);
    }

    #[test]
    fn of_ten_million_new_traces_none_or_hardly_one_is_taken_for_a_dropped_one() {
        let mut dropped = Dropped::new(1 << 14);
        (0..100_000).for_each(|n| dropped.insert(hash(n), When::Due));
        let taken = (1_000_000..11_000_000).filter(|n| dropped.find(hash(*n)).is_some()).count();
        assert!(taken as f64 <= 10_000_000.0 * FALSE_POSITIVES_MAX + 2.0, "{taken}");
    }

    #[test]
    fn hashes_that_differ_in_some_bits_only_are_told_apart() {
        for shift in [0, 8, 20, 31, 32, 40] {
            let mut dropped = Dropped::new(1 << 20);
            (0..6_000u64).for_each(|n| dropped.insert(n << shift, When::Due));
            let taken = (6_000..60_000u64).filter(|n| dropped.find(n << shift).is_some()).count();
            assert!(taken <= 1, "{taken} for numbers from bit {shift} on");
        }
    }

    #[test]
    fn memory_that_was_never_written_is_not_charged() {
        let mut dropped = Dropped::new(1 << 22);
        assert_eq!(dropped.bytes(), 0);
        dropped.insert(hash(1), When::Due);
        assert_eq!(dropped.bytes(), PAGE_BYTES);
    }
}
