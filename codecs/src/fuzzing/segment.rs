//! Promises of a durable log's segments: whatever happens to a file, every record before the damage is found, the others
//! are found where they are intact, and nothing is found that was not written.

use crate::segment::{Entry, HEADER_BYTES, Kind, RECORD_HEADER_BYTES, record_header, scan, write_header};
use std::ops::Range;

/// A segment with one request record per body, numbered from 0, and where each record stands.
#[must_use]
pub fn segment_of(salt: u64, bodies: &[&[u8]]) -> (Vec<u8>, Vec<Range<usize>>) {
    let mut segment = Vec::new();
    let mut places = Vec::new();
    write_header(salt, &mut segment);
    for (sequence, body) in (0..).zip(bodies) {
        let start = segment.len();
        segment.extend_from_slice(&record_header(salt, start as u64, Kind::Request, sequence, body));
        segment.extend_from_slice(body);
        places.push(start..segment.len());
    }
    (segment, places)
}

/// A segment of these bodies, cut to `end` bytes and with one bit of byte `flipped` turned, is read as far as it is intact.
pub fn check_segment_damage(salt: u64, bodies: &[&[u8]], end: Option<usize>, flipped: Option<usize>) {
    let (mut segment, places) = segment_of(salt, bodies);
    let end = end.unwrap_or(segment.len());
    segment.truncate(end);
    let flipped = flipped.filter(|&at| at < end);
    if let Some(at) = flipped {
        segment[at] ^= 1 << (at % 8);
    }
    let intact = places.iter().enumerate().filter(|(_, place)| {
        let whole = place.end <= end;
        whole && !flipped.is_some_and(|at| place.contains(&at))
    });
    let scanned = scan(&segment).expect("one bit spoils one copy of the header at most");
    let found: Vec<(u64, &[u8])> =
        scanned.records.iter().map(|record| (record.sequence, &segment[record.body.clone()])).collect();
    let expected: Vec<(u64, &[u8])> = intact.map(|(number, _)| (number as u64, bodies[number])).collect();
    assert_eq!(found, expected);
    assert!(scanned.end <= end);
    assert!(scanned.skipped <= u64::from(flipped.is_some()), "one damage is counted once");
}

/// Any bytes as a segment, as the records of one, and as a record's body.
pub fn fuzz_segment(bytes: &[u8]) {
    if let Ok(scanned) = scan(bytes) {
        assert!(scanned.end <= bytes.len());
        for record in &scanned.records {
            assert!(bytes.get(record.body.clone()).is_some());
            let entry = Entry::read(&bytes[record.body.clone()]);
            check_entry(entry, &bytes[record.body.clone()]);
        }
    }
    check_entry(Entry::read(bytes), bytes);
    // Behind a header whose salt they do not know, no bytes are a record.
    let salt = crate::segment::crc32c(0, bytes).into();
    let mut segment = Vec::new();
    write_header(salt, &mut segment);
    segment.extend_from_slice(bytes);
    let scanned = scan(&segment).expect("its header is intact");
    assert!(scanned.records.len() <= bytes.len() / RECORD_HEADER_BYTES);
    assert!(scanned.end >= HEADER_BYTES);
    // As bodies, and damaged where they say.
    let bodies: Vec<&[u8]> = bytes.chunks(64).collect();
    let place = usize::from(bytes.first().copied().unwrap_or_default()) * 7;
    let length = segment_of(salt, &bodies).0.len();
    check_segment_damage(salt, &bodies, None, Some(place % length));
    check_segment_damage(salt, &bodies, Some(HEADER_BYTES + place % (length - HEADER_BYTES + 1)), None);
}

fn check_entry(entry: Option<Entry<'_>>, body: &[u8]) {
    if let Some(entry) = entry {
        let mut written = Vec::new();
        entry.write(&mut written);
        assert_eq!(written, body);
    }
}
