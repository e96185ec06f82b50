//! One file that a receiver follows: where it is read on, and whether it is still the file that was read.
//!
//! ```text
//! | begin ....................... end | half a record |  ...
//!   what lay in front of `position`   ^ position      ^ read_to
//! ```
//!
//! The one idea: a position is only true behind the bytes that were in front of it. So the first and the last of them are
//! kept, and compared before more is read: a file that was cut and has grown beyond the position again is another one, and
//! is read from its beginning. Never holds more of a file than these few bytes.

use codecs::records::Splitter;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Bytes that are kept of a file's beginning, and as many from in front of the position. Requests have ids and times in
/// them, so two that are alike to their last bytes, and end at the same place, are the same.
const KEPT_BYTES: usize = 256;

/// Device and inode.
pub(super) type Identity = (u64, u64);

/// The identity of a file.
pub(super) fn identity_of(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

/// What changes when somebody writes into a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// Its length in bytes.
    pub(super) bytes: u64,
    modified: (i64, i64),
}

impl Extent {
    pub(super) fn of(metadata: &Metadata) -> Extent {
        Extent { bytes: metadata.len(), modified: (metadata.mtime(), metadata.mtime_nsec()) }
    }
}

/// What was read of a file, at its beginning and in front of its position.
#[derive(Debug, Default)]
struct Kept {
    begin: Vec<u8>,
    end: Vec<u8>,
}

impl Kept {
    /// `passed` is now in front of the position too.
    fn pass(&mut self, passed: &[u8]) {
        let room = KEPT_BYTES - self.begin.len();
        self.begin.extend_from_slice(&passed[..passed.len().min(room)]);
        let passed = &passed[passed.len().saturating_sub(KEPT_BYTES)..];
        let too_many = (self.end.len() + passed.len()).saturating_sub(KEPT_BYTES);
        self.end.drain(..too_many);
        self.end.extend_from_slice(passed);
    }

    /// The same of a file of which nothing was read: for reading from `position` on.
    fn read(file: &File, position: u64) -> io::Result<Kept> {
        let bytes = usize::try_from(position).map_or(KEPT_BYTES, |position| position.min(KEPT_BYTES));
        let mut kept = Kept { begin: vec![0; bytes], end: vec![0; bytes] };
        file.read_exact_at(&mut kept.begin, 0)?;
        file.read_exact_at(&mut kept.end, position - bytes as u64)?;
        Ok(kept)
    }

    fn is_in(&self, file: &File, position: u64) -> io::Result<bool> {
        let mut there = [0; KEPT_BYTES];
        for (kept, at) in [(&self.begin, 0), (&self.end, position.saturating_sub(self.end.len() as u64))] {
            let there = &mut there[..kept.len()];
            match file.read_exact_at(there, at) {
                Ok(()) if there == kept.as_slice() => {}
                Ok(()) => return Ok(false),
                // It is being cut right now.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// One file that is followed.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) path: PathBuf,
    pub(super) identity: Identity,
    /// Held open while it is among those that were read last: what is open can be read to its end under any name.
    file: Option<File>,
    /// The number of the look in which something of it was read.
    pub(super) read_in: u64,
    /// Where the next record begins.
    pub(super) position: u64,
    /// Lines, or records, in front of it; meaningless where reading began at the end.
    pub(super) number: u64,
    has_numbers: bool,
    /// How far it was read: what follows `position` is half a record.
    pub(super) read_to: u64,
    /// That was said.
    pub(super) half_is_said: bool,
    pub(super) splitter: Splitter,
    pub(super) taken: u64,
    pub(super) broken: u64,
    /// The last look found its name, and the file so.
    pub(super) found: Option<Extent>,
    /// Looks since one found its name.
    pub(super) missed: u32,
    /// How it was when it was read to its end.
    seen: Option<Extent>,
    kept: Kept,
}

impl Followed {
    /// Opens a file to read it from its beginning, or what comes behind its end.
    pub(super) fn open(path: PathBuf, from_end: bool, splitter: Splitter) -> Result<Followed, (PathBuf, io::Error)> {
        let opened = File::open(&path).and_then(|file| {
            let metadata = file.metadata()?;
            let position = if from_end { metadata.len() } else { 0 };
            let kept = Kept::read(&file, position)?;
            Ok((file, metadata, position, kept))
        });
        let (file, metadata, position, kept) = match opened {
            Ok(opened) => opened,
            Err(error) => return Err((path, error)),
        };
        Ok(Followed {
            path,
            identity: identity_of(&metadata),
            file: Some(file),
            read_in: 0,
            position,
            number: 0,
            has_numbers: !from_end,
            read_to: position,
            half_is_said: false,
            splitter,
            taken: 0,
            broken: 0,
            found: Some(Extent::of(&metadata)),
            missed: 0,
            seen: from_end.then(|| Extent::of(&metadata)),
            kept,
        })
    }

    /// How it is now; `None` if that is not to be known: its name is gone, and it is not open.
    pub(super) fn extent(&self) -> io::Result<Option<Extent>> {
        match &self.file {
            Some(file) => file.metadata().map(|metadata| Some(Extent::of(&metadata))),
            None => Ok(self.found),
        }
    }

    /// Whether nobody has written into it since it was read to its end.
    pub(super) fn is_as_seen(&self, now: Extent) -> bool {
        self.seen == Some(now)
    }

    /// It was read to the end that it had `then`.
    pub(super) fn was_read(&mut self, then: Extent, look: u64) {
        self.seen = Some(then);
        self.read_in = look;
    }

    /// The file, to read from it; `None` if another one has its name now, which the next look sees.
    pub(super) fn opened(&mut self) -> io::Result<Option<&File>> {
        if self.file.is_none() {
            let file = File::open(&self.path)?;
            if identity_of(&file.metadata()?) != self.identity {
                return Ok(None);
            }
            self.file = Some(file);
        }
        Ok(self.file.as_ref())
    }

    pub(super) fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// Lets the file go; it is opened again when it has grown.
    pub(super) fn let_go(&mut self) {
        self.file = None;
    }

    /// Reads into `buffer` from byte `at` on.
    pub(super) fn read_at(&mut self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.opened()?.map_or(Ok(0), |file| file.read_at(buffer, at))
    }

    /// Whether what was read is still in front of the position, in a file that has now `bytes`.
    pub(super) fn is_what_was_read(&mut self, bytes: u64) -> io::Result<bool> {
        if bytes < self.read_to {
            return Ok(false);
        }
        self.opened()?;
        self.file.as_ref().map_or(Ok(true), |file| self.kept.is_in(file, self.position))
    }

    /// `passed` lies behind it now.
    pub(super) fn pass(&mut self, passed: &[u8]) {
        self.kept.pass(passed);
        self.position += passed.len() as u64;
    }

    /// From its beginning again.
    pub(super) fn rewind(&mut self, splitter: Splitter) {
        (self.position, self.number, self.read_to) = (0, 0, 0);
        (self.has_numbers, self.half_is_said) = (true, false);
        (self.seen, self.kept) = (None, Kept::default());
        self.splitter = splitter;
    }

    /// Whether something was read that is no record yet.
    pub(super) fn is_behind(&self) -> bool {
        self.read_to > self.position
    }

    /// Whether there is more than what was taken of it.
    pub(super) fn has_more(&self) -> bool {
        self.extent().is_ok_and(|now| now.is_some_and(|now| now.bytes > self.position))
    }

    /// Where the next record is, for a person.
    pub(super) fn place(&self) -> String {
        match self.has_numbers {
            true => format!("{}:{}, byte {}", self.path.display(), self.number + 1, self.position),
            false => format!("byte {}", self.position),
        }
    }
}

/// A file as a look finds it by its name.
pub(super) fn find(path: &Path) -> Option<(Metadata, Identity)> {
    let metadata = fs::metadata(path).ok()?;
    let identity = identity_of(&metadata);
    Some((metadata, identity))
}

#[cfg(test)]
mod tests {
    use super::*;
    use codecs::records::Framing;

    /// Whether a file that held `before`, read up to `position`, is taken for the same when it holds `after`.
    fn check(before: &[u8], position: usize, after: &[u8], expected: bool) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, before).unwrap();
        let mut file = Followed::open(path.clone(), false, Splitter::new(Framing::Line, 1000)).unwrap();
        // In pieces, as records are.
        for piece in before[..position].chunks(100) {
            file.pass(piece);
        }
        file.read_to = before.len() as u64;
        fs::write(&path, after).unwrap();
        assert_eq!(file.is_what_was_read(after.len() as u64).unwrap(), expected, "{position} of {}", before.len());
    }

    #[test]
    fn a_file_is_the_same_while_what_was_read_of_it_is() {
        let text: Vec<u8> = (0..2000u32).map(|at| b'a' + (at * at % 23) as u8).collect();
        let with = |at: usize, byte: u8| {
            let mut changed = text.clone();
            changed[at] = byte;
            changed
        };
        for read in [0, 1, 200, 256, 257, 1000] {
            check(&text[..1000], read, &text, true);
            check(&text[..1000], read, &text[..1000], true);
            check(&text[..1000], read, &text[..999], false);
            if read > 0 {
                check(&text[..1000], read, &with(0, b'!'), false);
                check(&text[..1000], read, &with(read - 1, b'!'), false);
            }
            check(&text[..1000], read, &with(read, b'!'), true);
        }
    }

    #[test]
    fn a_file_that_is_begun_at_its_end_is_known_as_well() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for old in [&b"some lines\n"[..], &[b'x'; 700]] {
            fs::write(&path, old).unwrap();
            let mut file = Followed::open(path.clone(), true, Splitter::new(Framing::Line, 1000)).unwrap();
            assert!(file.is_what_was_read(old.len() as u64).unwrap());
            fs::write(&path, [b'y'; 800]).unwrap();
            assert!(!file.is_what_was_read(800).unwrap());
        }
    }
}
