//! Requests one behind the other in a file, as the `file` exporter writes them: where does each begin and end?
//!
//! ```text
//! line      {"resourceSpans":[...]}\n
//! length    4 bytes (big endian), and so many bytes
//! ```
//!
//! The one idea: a [`Splitter`] is shown what has been read of a file and takes from its front, so that whoever reads
//! holds one record and never the file. A record that is too large is stepped over, whatever its size. Never looks into
//! a record.

/// What tells one record from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// The end of a line.
    Line,
    /// A length in front.
    Length,
}

/// Bytes of a length.
const LENGTH_BYTES: usize = 4;

/// What lies at the front of the bytes that a splitter was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'i> {
    /// A whole record, without its framing. `taken`: bytes to leave behind, with the framing.
    Record {
        /// Its bytes; none of an empty line.
        record: &'i [u8],
        /// At least one.
        taken: usize,
    },
    /// The beginning of a record beyond the limit, which is stepped over from here on.
    TooLarge {
        /// How long it says it is; a line does not say.
        bytes: Option<u64>,
        /// At least one.
        taken: usize,
    },
    /// More of it.
    SteppedOver {
        /// At least one.
        taken: usize,
        /// It ends here.
        ends: bool,
    },
    /// What is there is the beginning of a record, or nothing.
    More,
}

/// Cuts records from the front of a file's bytes.
#[derive(Clone, Debug)]
pub struct Splitter {
    framing: Framing,
    bytes_max: usize,
    over: Over,
    /// Bytes at the front of what was shown last that have no end of a line: a line that comes in many pieces is searched
    /// once, and not from its beginning for each.
    searched: usize,
}

/// What is left of a record that is too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Nothing,
    Bytes(u64),
    RestOfLine,
}

impl Splitter {
    /// Larger records than `bytes_max` are stepped over.
    pub fn new(framing: Framing, bytes_max: usize) -> Splitter {
        Splitter { framing, bytes_max, over: Over::Nothing, searched: 0 }
    }

    /// What is shown next was read anew: it may differ from what was shown and not taken.
    pub fn begin_again(&mut self) {
        self.searched = 0;
    }

    /// The next step into bytes that follow what was taken before. Until something is taken, they only grow.
    pub fn next<'i>(&mut self, input: &'i [u8]) -> Step<'i> {
        match self.over {
            _ if input.is_empty() => Step::More,
            Over::Bytes(left) => self.step_over(input.len(), left),
            Over::RestOfLine => match end_of_line(input) {
                Some(end) => {
                    self.over = Over::Nothing;
                    Step::SteppedOver { taken: end + 1, ends: true }
                }
                None => Step::SteppedOver { taken: input.len(), ends: false },
            },
            Over::Nothing => match self.framing {
                Framing::Line => self.line(input),
                Framing::Length => self.length(input),
            },
        }
    }

    fn step_over(&mut self, there: usize, left: u64) -> Step<'static> {
        let taken = usize::try_from(left).map_or(there, |left| left.min(there));
        let left = left - taken as u64;
        self.over = if left == 0 { Over::Nothing } else { Over::Bytes(left) };
        Step::SteppedOver { taken, ends: left == 0 }
    }

    fn line<'i>(&mut self, input: &'i [u8]) -> Step<'i> {
        let searched = std::mem::take(&mut self.searched).min(input.len());
        match end_of_line(&input[searched..]).map(|end| searched + end) {
            Some(end) if end > self.bytes_max => Step::TooLarge { bytes: Some(end as u64), taken: end + 1 },
            Some(end) => {
                let record = &input[..end];
                Step::Record { record: record.strip_suffix(b"\r").unwrap_or(record), taken: end + 1 }
            }
            None if input.len() > self.bytes_max => {
                self.over = Over::RestOfLine;
                Step::TooLarge { bytes: None, taken: input.len() }
            }
            None => {
                self.searched = input.len();
                Step::More
            }
        }
    }

    fn length<'i>(&mut self, input: &'i [u8]) -> Step<'i> {
        let Some((length, rest)) = input.split_first_chunk::<LENGTH_BYTES>() else { return Step::More };
        let length = u32::from_be_bytes(*length);
        let Ok(bytes) = usize::try_from(length) else { return Step::More };
        if bytes > self.bytes_max {
            self.over = Over::Bytes(u64::from(length));
            return Step::TooLarge { bytes: Some(u64::from(length)), taken: LENGTH_BYTES };
        }
        rest.get(..bytes).map_or(Step::More, |record| Step::Record { record, taken: LENGTH_BYTES + bytes })
    }
}

fn end_of_line(input: &[u8]) -> Option<usize> {
    input.iter().position(|byte| *byte == b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that a file gives: records, `TooLarge` as `None`; and what is left.
    fn check(framing: Framing, bytes_max: usize, file: &[u8], expected: &[Option<&[u8]>], left: usize) {
        let mut splitter = Splitter::new(framing, bytes_max);
        let (mut at, mut found) = (0, Vec::new());
        loop {
            match splitter.next(&file[at..]) {
                Step::Record { record, taken } => {
                    found.push(Some(record));
                    at += taken;
                }
                Step::TooLarge { taken, .. } => {
                    found.push(None);
                    at += taken;
                }
                Step::SteppedOver { taken, .. } => at += taken,
                Step::More => break,
            }
        }
        assert_eq!((found.as_slice(), file.len() - at), (expected, left), "{framing:?} {file:?}");
    }

    #[test]
    fn lines_are_records_and_the_last_one_waits_for_its_end() {
        check(Framing::Line, 9, b"{}\n\n{1}\r\n{2", &[Some(b"{}"), Some(b""), Some(b"{1}")], 2);
        check(Framing::Line, 9, b"", &[], 0);
    }

    #[test]
    fn a_line_that_comes_byte_by_byte_is_the_same_line_also_when_it_is_read_anew() {
        let file = b"{\"one\"}\n{\"two\"}\n";
        let mut splitter = Splitter::new(Framing::Line, 9);
        let (mut at, mut found) = (0, Vec::new());
        for end in 1..=file.len() {
            if let Step::Record { record, taken } = splitter.next(&file[at..end]) {
                found.push(record);
                at += taken;
            }
        }
        assert_eq!(found, [&file[..7], &file[8..15]]);
        assert_eq!(splitter.next(b"half"), Step::More);
        splitter.begin_again();
        assert_eq!(splitter.next(b"h\nlf\n"), Step::Record { record: b"h", taken: 2 });
    }

    #[test]
    fn lengths_are_read_and_half_a_record_waits_for_its_rest() {
        check(Framing::Length, 9, b"\0\0\0\x02ab\0\0\0\0\0\0\0\x03ab", &[Some(b"ab"), Some(b"")], 6);
        check(Framing::Length, 9, b"\0\0\0", &[], 3);
    }

    #[test]
    fn a_record_beyond_the_limit_is_stepped_over_and_the_next_one_is_found() {
        check(Framing::Line, 3, b"abc\nabcd\nab\nabcdef", &[Some(b"abc"), None, Some(b"ab"), None], 0);
        check(Framing::Length, 3, b"\0\0\0\x04abcd\0\0\0\x01e", &[None, Some(b"e")], 0);
        check(Framing::Length, 3, b"{\"resource", &[None], 0);
    }
}
