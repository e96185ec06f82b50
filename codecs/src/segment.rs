//! Segments of a durable log: files that are only appended to, made of records that prove themselves.
//!
//! ```text
//! segment  = header, header again, record, record, ...
//! header   = magic 8, salt 8, crc32c 4, zero 12                                       32 bytes, little endian
//! record   = magic 4, kind 4, sequence 8, body length 4, crc32c of the body 4,
//!            crc32c of salt, offset and all of the above 4                            28 bytes, then the body
//! ```
//!
//! The one idea: a record's own checksum covers the segment's random salt and the place where it stands. So bytes that a
//! sender chose can never pass for a record, not even those of a whole older one, and a reader that has lost its way may
//! look for the next record byte by byte. Lengths are checked apart from bodies: a flipped body costs one record.
//!
//! It never reads or writes a file: [`scan`] is given a segment's bytes, and says what of them can be trusted.

use crate::otlp::Signal;
use std::ops::Range;

/// Bytes in front of a segment's first record.
pub const HEADER_BYTES: usize = 2 * HEADER_COPY_BYTES;
/// Bytes in front of a record's body.
pub const RECORD_HEADER_BYTES: usize = 28;
/// Largest body: far above any request, so that a length can be kept in 32 bits.
pub const BODY_BYTES_MAX: usize = 1 << 30;

const HEADER_COPY_BYTES: usize = 32;
const SEGMENT_MAGIC: [u8; 8] = *b"TGSEG\0\x01\n";
const RECORD_MAGIC: [u8; 4] = [0xd7, b'T', b'G', 0x9e];

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The body is a request, as [`Entry`] writes it.
    Request,
    /// The request with the record's sequence is no longer needed. No body.
    Done,
}

impl Kind {
    const fn number(self) -> u32 {
        match self {
            Kind::Request => 1,
            Kind::Done => 2,
        }
    }
}

/// A record that was found intact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it says.
    pub kind: Kind,
    /// The request's number in its log.
    pub sequence: u64,
    /// Where the body lies in the segment.
    pub body: Range<usize>,
}

/// What a segment's bytes hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Intact records, in the order in which they were written.
    pub records: Vec<Record>,
    /// Damaged places between intact records, and records whose body alone is damaged.
    pub skipped: u64,
    /// Where what can be trusted ends. Bytes behind it are a torn tail: nobody was told that they were kept.
    pub end: usize,
}

/// Neither copy of a segment's header is intact, so nothing in it can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither copy of the segment's header is intact")]
pub struct HeaderDamaged;

/// Writes the header of a segment. `salt` is random, and told to nobody.
pub fn write_header(salt: u64, out: &mut Vec<u8>) {
    let mut copy = [0; HEADER_COPY_BYTES];
    copy[..8].copy_from_slice(&SEGMENT_MAGIC);
    copy[8..16].copy_from_slice(&salt.to_le_bytes());
    let check = crc32c(0, &copy[..16]);
    copy[16..20].copy_from_slice(&check.to_le_bytes());
    out.extend_from_slice(&copy);
    out.extend_from_slice(&copy);
}

/// The salt of a segment, from whichever copy of its header is intact.
pub fn read_header(segment: &[u8]) -> Result<u64, HeaderDamaged> {
    let copies = segment.chunks_exact(HEADER_COPY_BYTES).take(2);
    let mut intact = copies.filter(|copy| copy[..8] == SEGMENT_MAGIC && crc32c(0, &copy[..16]) == u32_at(copy, 16));
    intact.next().map(|copy| u64_at(copy, 8)).ok_or(HeaderDamaged)
}

/// The bytes in front of `body`, for a record that will stand `offset` bytes into a segment with this salt. The caller
/// keeps bodies under [`BODY_BYTES_MAX`].
#[must_use]
pub fn record_header(salt: u64, offset: u64, kind: Kind, sequence: u64, body: &[u8]) -> [u8; RECORD_HEADER_BYTES] {
    debug_assert!(body.len() <= BODY_BYTES_MAX, "the caller refuses such a body");
    let mut header = [0; RECORD_HEADER_BYTES];
    header[..4].copy_from_slice(&RECORD_MAGIC);
    header[4..8].copy_from_slice(&kind.number().to_le_bytes());
    header[8..16].copy_from_slice(&sequence.to_le_bytes());
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    header[16..20].copy_from_slice(&length.to_le_bytes());
    header[20..24].copy_from_slice(&crc32c(0, body).to_le_bytes());
    let check = header_check(salt, offset, &header[..24]);
    header[24..].copy_from_slice(&check.to_le_bytes());
    header
}

/// Finds every intact record. Time and memory are linear in the segment's length, whatever its bytes are.
pub fn scan(segment: &[u8]) -> Result<Scanned, HeaderDamaged> {
    let salt = read_header(segment)?;
    let mut scanned = Scanned { end: HEADER_BYTES, ..Scanned::default() };
    let mut offset = HEADER_BYTES;
    while let Some(found) = next_header(segment, salt, offset) {
        if found.offset > offset {
            scanned.skipped += 1;
        }
        let start = found.offset + RECORD_HEADER_BYTES;
        let Some(body) = segment.get(start..start.saturating_add(found.length)) else {
            // Its sender was not told that it is kept: the file ends within it.
            scanned.end = found.offset;
            return Ok(scanned);
        };
        offset = start + found.length;
        scanned.end = offset;
        if crc32c(0, body) == found.body_check {
            scanned.records.push(Record { kind: found.kind, sequence: found.sequence, body: start..offset });
        } else {
            scanned.skipped += 1;
        }
    }
    Ok(scanned)
}

/// A record's header whose checksum is right at the place where it stands.
struct Header {
    offset: usize,
    kind: Kind,
    sequence: u64,
    length: usize,
    body_check: u32,
}

/// The first intact header at `from` or behind it.
fn next_header(segment: &[u8], salt: u64, from: usize) -> Option<Header> {
    let last = segment.len().checked_sub(RECORD_HEADER_BYTES)?;
    (from..=last).find_map(|offset| header_at(segment, salt, offset))
}

fn header_at(segment: &[u8], salt: u64, offset: usize) -> Option<Header> {
    let header = segment.get(offset..offset + RECORD_HEADER_BYTES)?;
    if header[..4] != RECORD_MAGIC || header_check(salt, offset as u64, &header[..24]) != u32_at(header, 24) {
        return None;
    }
    let kind = [Kind::Request, Kind::Done].into_iter().find(|kind| kind.number() == u32_at(header, 4))?;
    let length = u32_at(header, 16) as usize;
    Some(Header { offset, kind, sequence: u64_at(header, 8), length, body_check: u32_at(header, 20) })
}

fn header_check(salt: u64, offset: u64, header: &[u8]) -> u32 {
    let check = crc32c(0, &salt.to_le_bytes());
    let check = crc32c(check, &offset.to_le_bytes());
    crc32c(check, header)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|place| bytes[at + place]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|place| bytes[at + place]))
}

/// A request as it stands in a log: what it needs to go on where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// What kind of request.
    pub signal: Signal,
    /// When it was taken, in nanoseconds since 1970 of the wall clock: it outlives the process.
    pub taken_unix_ns: u64,
    /// Whose book counts it.
    pub pipeline: &'a str,
    /// The message in protobuf, uncompressed.
    pub request: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Appends it to `out`. A pipeline's id is bounded by the configuration, far below 64 KiB; beyond that it is cut.
    pub fn write(&self, out: &mut Vec<u8>) {
        let pipeline = self.pipeline.as_bytes();
        let length = u16::try_from(pipeline.len()).unwrap_or(u16::MAX);
        out.push(self.signal as u8);
        out.extend_from_slice(&self.taken_unix_ns.to_le_bytes());
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&pipeline[..usize::from(length)]);
        out.extend_from_slice(self.request);
    }

    /// Reads a body back; `None` if it is not one that [`Entry::write`] makes.
    #[must_use]
    pub fn read(body: &'a [u8]) -> Option<Entry<'a>> {
        let (head, rest) = body.split_at_checked(11)?;
        let signal = *Signal::ALL.get(usize::from(head[0]))?;
        let length = usize::from(u16::from_le_bytes([head[9], head[10]]));
        let (pipeline, request) = rest.split_at_checked(length)?;
        let pipeline = std::str::from_utf8(pipeline).ok()?;
        Some(Entry { signal, taken_unix_ns: u64_at(head, 1), pipeline, request })
    }
}

/// CRC-32C (Castagnoli, RFC 3720 section 12.1 and appendix B.4) of `bytes`, going on from the checksum of what stands
/// before them (0 at the start). Eight bytes a step by eight tables.
#[must_use]
pub fn crc32c(before: u32, bytes: &[u8]) -> u32 {
    let mut check = !before;
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let word = u64_at(chunk, 0) ^ u64::from(check);
        check = (0..8).fold(0, |sum, place| sum ^ TABLES[7 - place][(word >> (8 * place)) as usize & 0xff]);
    }
    for &byte in chunks.remainder() {
        check = TABLES[0][((check ^ u32::from(byte)) & 0xff) as usize] ^ (check >> 8);
    }
    !check
}

const POLYNOMIAL: u32 = 0x82f6_3b78;
static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut check = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            check = if check & 1 == 1 { (check >> 1) ^ POLYNOMIAL } else { check >> 1 };
            bit += 1;
        }
        tables[0][byte] = check;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[table - 1][byte];
            tables[table][byte] = (before >> 8) ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::{check_segment_damage, fuzz_segment, segment_of};
    use proptest::prelude::*;

    #[test]
    fn the_checksum_is_the_one_of_the_rfc() {
        assert_eq!(crc32c(0, &[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(0, &[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(0, b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(crc32c(0, b"1234"), b"56789"), 0xe306_9283);
    }

    #[test]
    fn a_segment_without_an_intact_header_is_not_read() {
        let mut segment = segment_of(7, &[b"one".as_slice()]).0;
        assert_eq!(scan(&segment[..40]).map(|scanned| scanned.records.len()), Ok(0));
        segment[9] ^= 1;
        assert_eq!(scan(&segment).map(|scanned| scanned.records.len()), Ok(1), "the second copy is intact");
        segment[41] ^= 1;
        assert_eq!(scan(&segment), Err(HeaderDamaged));
        assert_eq!(scan(&[]), Err(HeaderDamaged));
    }

    #[test]
    fn a_record_inside_a_body_is_no_record() {
        // A sender that knows the format, and even the salt, still cannot know the place.
        let inner = segment_of(7, &[b"inner".as_slice()]).0;
        let (mut segment, _) = segment_of(7, &[&inner[HEADER_BYTES..], b"after".as_slice()]);
        segment[HEADER_BYTES] ^= 0xff;
        let scanned = scan(&segment).unwrap();
        let bodies: Vec<&[u8]> = scanned.records.iter().map(|record| &segment[record.body.clone()]).collect();
        assert_eq!(bodies, [b"after".as_slice()]);
        assert_eq!(scanned.skipped, 1);
    }

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let entry = Entry { signal: Signal::Logs, taken_unix_ns: 5, pipeline: "logs/eu", request: b"request" };
        let mut body = Vec::new();
        entry.write(&mut body);
        assert_eq!(Entry::read(&body), Some(entry));
        for end in 0..body.len() - b"request".len() {
            assert_eq!(Entry::read(&body[..end]), None, "{end}");
        }
    }

    #[test]
    fn a_segment_may_be_cut_at_every_byte() {
        let bodies: [&[u8]; 4] = [b"first", b"", b"the third is longer", b"4"];
        let (segment, _) = segment_of(99, &bodies);
        for end in HEADER_BYTES..=segment.len() {
            check_segment_damage(99, &bodies, Some(end), None);
        }
    }

    #[test]
    fn every_byte_of_a_segment_may_be_flipped() {
        let bodies: [&[u8]; 4] = [b"first", b"", b"the third is longer", b"4"];
        let (segment, _) = segment_of(99, &bodies);
        for at in 0..segment.len() {
            check_segment_damage(99, &bodies, None, Some(at));
        }
    }

    proptest! {
        #[test]
        fn a_file_cut_or_flipped_anywhere_gives_what_is_intact_and_nothing_else(
            salt: u64,
            bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 1..8),
            cut in proptest::option::of(any::<prop::sample::Index>()),
            flip in proptest::option::of(any::<prop::sample::Index>()),
        ) {
            let bodies: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
            let length = segment_of(salt, &bodies).0.len();
            let cut = cut.map(|cut| HEADER_BYTES + cut.index(length - HEADER_BYTES + 1));
            check_segment_damage(salt, &bodies, cut, flip.map(|flip| flip.index(length)));
        }

        #[test]
        fn any_bytes_are_read_without_inventing_a_record(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            fuzz_segment(&bytes);
        }
    }
}
