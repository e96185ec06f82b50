//! Any bytes as a file of records: read at once and read byte by byte, the same records are found.

use crate::records::{Framing, Splitter, Step};

/// The first byte says how records are told apart and how large they may be, the rest is the file.
pub fn fuzz_records(bytes: &[u8]) {
    let Some((&choice, file)) = bytes.split_first() else { return };
    let framing = if choice % 2 == 0 { Framing::Line } else { Framing::Length };
    let bytes_max = usize::from(choice / 2);
    let at_once = records(framing, bytes_max, file, file.len().max(1));
    let byte_by_byte = records(framing, bytes_max, file, 1);
    assert_eq!(at_once, byte_by_byte);
    assert!(at_once.iter().flatten().all(|record| record.len() <= bytes_max));
    if framing == Framing::Line && !at_once.contains(&None) {
        let lines = file.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"));
        let lines: Vec<&[u8]> = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect();
        assert_eq!(at_once.into_iter().flatten().collect::<Vec<_>>(), lines);
    }
}

/// Records of a file that is read in pieces; `None` for one that is too large.
fn records(framing: Framing, bytes_max: usize, file: &[u8], piece: usize) -> Vec<Option<Vec<u8>>> {
    let mut splitter = Splitter::new(framing, bytes_max);
    let (mut buffer, mut found) = (Vec::new(), Vec::new());
    for piece in file.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            let taken = match splitter.next(&buffer) {
                Step::Record { record, taken } => {
                    found.push(Some(record.to_vec()));
                    taken
                }
                Step::TooLarge { taken, .. } => {
                    found.push(None);
                    taken
                }
                Step::SteppedOver { taken, .. } => taken,
                Step::More => break,
            };
            assert!(taken > 0, "a step takes something");
            assert!(taken <= buffer.len(), "and no more than there is");
            buffer.drain(..taken);
        }
    }
    found
}
