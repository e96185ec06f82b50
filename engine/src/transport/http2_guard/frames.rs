//! Frames of HTTP/2 as far as they are seen from beside h2: their heads, and what a few of them settle.
//!
//! ```text
//! preface | head (9 bytes: length, kind, flags, stream) payload | head payload | ...
//! ```
//!
//! The one idea: bytes are scanned where they lie, in whatever pieces they come. Only payloads of a few bytes are read,
//! those that settle how much may be sent and how. Judges nothing: what is malformed is h2's to say.

/// What a client sends before its first frame (RFC 9113, 3.4); h2 checks it.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Head of a frame (RFC 9113, 4.1).
pub const HEAD_BYTES: usize = 9;
/// Bytes that either end may send on a new connection (RFC 9113, 6.9.2).
pub const WINDOW_BYTES_FIRST: u64 = 65_535;

/// What the head of a frame says, but for its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What it carries; the constants below.
    pub kind: u8,
    /// What they mean depends on the kind.
    pub flags: u8,
    /// 0: the connection.
    pub stream: u32,
}

impl Head {
    /// A piece of a body.
    pub const DATA: u8 = 0;
    /// The beginning or the end of a message.
    pub const HEADERS: u8 = 1;
    /// How much a stream matters; without effect since RFC 9113.
    pub const PRIORITY: u8 = 2;
    /// The end of a stream, as an error or because nobody cares any more.
    pub const RST_STREAM: u8 = 3;
    /// How an end wants to be spoken to.
    pub const SETTINGS: u8 = 4;
    /// A message that nobody asked for.
    pub const PUSH_PROMISE: u8 = 5;
    /// Asks for a sign of life, or gives it.
    pub const PING: u8 = 6;
    /// The end of the connection.
    pub const GOAWAY: u8 = 7;
    /// More may be sent.
    pub const WINDOW_UPDATE: u8 = 8;
    /// The rest of a list of headers.
    pub const CONTINUATION: u8 = 9;
    /// The flag of a PING or SETTINGS that answers one.
    pub const ACK: u8 = 0x1;
    /// The flag of the last piece of a list of headers.
    pub const END_HEADERS: u8 = 0x4;

    /// The head in front of `bytes`, with the length of its payload; `None`: fewer bytes than a head has.
    pub fn read(bytes: &[u8]) -> Option<(Head, usize)> {
        let &[a, b, c, kind, flags, ref stream @ ..] = bytes.first_chunk::<HEAD_BYTES>()?;
        let stream = u32::from_be_bytes(*stream) & 0x7fff_ffff;
        Some((Head { kind, flags, stream }, u32::from_be_bytes([0, a, b, c]) as usize))
    }

    /// Whether it answers SETTINGS.
    pub fn answers_settings(self) -> bool {
        self.kind == Head::SETTINGS && self.flags & Head::ACK != 0
    }
}

/// Appends a frame of a few bytes to `out`.
pub fn put_frame(out: &mut Vec<u8>, head: Head, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("frames of ours are short").to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[head.kind, head.flags]);
    out.extend_from_slice(&head.stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// How an end of a connection wants to be spoken to, as far as it said (RFC 9113, 6.5.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// By the setting's number; the first place is nobody's.
    values: [Option<u32>; Settings::COUNT],
    /// Bytes of the table for compression are others than they were at first.
    table_has_changed: bool,
}

impl Settings {
    /// The number of the setting that bounds the table for compression.
    pub const TABLE_BYTES: u16 = 1;
    /// Its value until something else is said.
    pub const TABLE_BYTES_FIRST: u32 = 4096;
    const COUNT: usize = 7;
    const ENTRY_BYTES: usize = 6;

    /// Whether the bound of the table for compression was ever moved.
    pub fn table_has_changed(&self) -> bool {
        self.table_has_changed
    }

    /// The payload that says all of it again.
    pub fn payload(&self) -> Vec<u8> {
        let said = (0u16..).zip(self.values).filter_map(|(number, value)| Some((number, value?)));
        said.flat_map(|(number, value)| Settings::entry(number, value)).collect()
    }

    /// One setting of a payload.
    pub fn entry(number: u16, value: u32) -> [u8; Settings::ENTRY_BYTES] {
        let ([a, b], [c, d, e, f]) = (number.to_be_bytes(), value.to_be_bytes());
        [a, b, c, d, e, f]
    }

    fn set(&mut self, entry: [u8; Settings::ENTRY_BYTES], is_first_frame: bool) {
        let [a, b, c, d, e, f] = entry;
        let (number, value) = (u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f]));
        let Some(place) = self.values.get_mut(usize::from(number)).filter(|_| number > 0) else { return };
        let before = place.replace(value);
        if number == Settings::TABLE_BYTES && !is_first_frame {
            self.table_has_changed |= before.unwrap_or(Settings::TABLE_BYTES_FIRST) != value;
        }
    }
}

/// What one end of a connection has said so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Bytes of bodies, as windows count them.
    pub data_bytes: u64,
    /// Bytes by which it has opened the connection's window to the other end.
    pub window_bytes: u64,
    /// How it wants to be spoken to.
    pub settings: Settings,
    /// SETTINGS frames of its own.
    pub settings_frames: u64,
    /// SETTINGS frames of the other end that it has answered.
    pub settings_answers: u64,
}

/// Finds the heads of frames in a stream of bytes that comes in pieces.
#[derive(Debug)]
pub struct Scanner {
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
    /// Bytes of the preface or of a payload that are still to come.
    skip: usize,
    /// A list of headers has not ended.
    inside_headers: bool,
    said: Said,
    /// A piece of a payload that is read, of which kind, and how long such pieces are; 0: the payload is not read.
    entry: [u8; Settings::ENTRY_BYTES],
    entry_kind: u8,
    entry_bytes: usize,
    entry_bytes_max: usize,
}

impl Scanner {
    /// The bytes begin with `skip` bytes that are no frame.
    pub fn new(skip: usize) -> Scanner {
        Scanner {
            head: [0; HEAD_BYTES],
            head_bytes: 0,
            skip,
            inside_headers: false,
            said: Said::default(),
            entry: [0; Settings::ENTRY_BYTES],
            entry_kind: 0,
            entry_bytes: 0,
            entry_bytes_max: 0,
        }
    }

    /// What was said in the frames that have passed.
    pub fn said(&self) -> &Said {
        &self.said
    }

    /// The connection's window was opened by a frame that has not passed here.
    pub fn open_window(&mut self, bytes: u64) {
        self.said.window_bytes += bytes;
    }

    /// Bytes that may be passed before the next place between two frames could be missed; 0: this is one.
    pub fn to_boundary(&self) -> usize {
        match (self.skip, self.head_bytes) {
            (0, 0) => 0,
            (0, head) => HEAD_BYTES - head,
            (skip, _) => skip,
        }
    }

    /// Whether a frame or a list of headers has begun and not ended.
    pub fn is_inside(&self) -> bool {
        self.to_boundary() > 0 || self.inside_headers
    }

    /// Bytes pass, with these heads among them.
    pub fn advance(&mut self, mut bytes: &[u8], mut found: impl FnMut(Head)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let count = self.skip.min(bytes.len());
                if self.entry_bytes_max > 0 {
                    self.read_payload(&bytes[..count]);
                }
                self.skip -= count;
                bytes = &bytes[count..];
                continue;
            }
            let count = (HEAD_BYTES - self.head_bytes).min(bytes.len());
            self.head[self.head_bytes..self.head_bytes + count].copy_from_slice(&bytes[..count]);
            self.head_bytes += count;
            bytes = &bytes[count..];
            if self.head_bytes == HEAD_BYTES {
                found(self.take_head());
            }
        }
    }

    fn take_head(&mut self) -> Head {
        let (head, length) = Head::read(&self.head).expect("the array is as long as a head");
        self.head_bytes = 0;
        self.skip = length;
        if matches!(head.kind, Head::HEADERS | Head::PUSH_PROMISE | Head::CONTINUATION) {
            self.inside_headers = head.flags & Head::END_HEADERS == 0;
        }
        let said = &mut self.said;
        (self.entry_kind, self.entry_bytes, self.entry_bytes_max) = (head.kind, 0, 0);
        match head.kind {
            Head::DATA => said.data_bytes += length as u64,
            Head::SETTINGS if head.answers_settings() => said.settings_answers += 1,
            Head::SETTINGS => {
                said.settings_frames += 1;
                self.entry_bytes_max = Settings::ENTRY_BYTES;
            }
            Head::WINDOW_UPDATE if head.stream == 0 => self.entry_bytes_max = size_of::<u32>(),
            _ => {}
        }
        head
    }

    fn read_payload(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.entry[self.entry_bytes] = byte;
            self.entry_bytes += 1;
            if self.entry_bytes < self.entry_bytes_max {
                continue;
            }
            self.entry_bytes = 0;
            if self.entry_kind == Head::SETTINGS {
                self.said.settings.set(self.entry, self.said.settings_frames == 1);
            } else {
                let [a, b, c, d, ..] = self.entry;
                self.said.window_bytes += u64::from(u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFACE_BYTES: usize = PREFACE.len();

    fn frame(length: usize, kind: u8, flags: u8, stream: u32) -> Vec<u8> {
        let size = u32::try_from(length).unwrap().to_be_bytes();
        let mut bytes = vec![size[1], size[2], size[3], kind, flags];
        bytes.extend(stream.to_be_bytes());
        bytes.resize(HEAD_BYTES + length, 0xee);
        bytes
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let mut bytes = vec![b'P'; PREFACE_BYTES];
        let frames = [(0, 4, 0, 0), (17, 1, 0, 1), (300, 9, 4, 1), (0, 0, 1, 1), (8, 6, 0, 0)];
        for (length, kind, flags, stream) in frames {
            bytes.extend(frame(length, kind, flags, stream));
        }
        let expected: Vec<Head> = frames.iter().map(|&(_, kind, flags, stream)| Head { kind, flags, stream }).collect();
        for piece in 1..40 {
            let mut scanner = Scanner::new(PREFACE_BYTES);
            let mut found = Vec::new();
            for part in bytes.chunks(piece) {
                scanner.advance(part, |head| found.push(head));
            }
            assert_eq!(found, expected, "in pieces of {piece}");
            assert!(!scanner.is_inside());
        }
    }

    #[test]
    fn the_end_of_a_frame_is_known_at_every_byte() {
        let bytes: Vec<u8> = [frame(5, 0, 0, 1), frame(0, 4, 1, 0)].concat();
        let mut scanner = Scanner::new(0);
        let ends: Vec<usize> = (0..bytes.len())
            .filter(|&at| {
                let between = scanner.to_boundary() == 0;
                scanner.advance(&bytes[at..=at], |_| {});
                between
            })
            .collect();
        assert_eq!(ends, [0, HEAD_BYTES + 5]);
    }

    #[test]
    fn a_list_of_headers_is_open_until_it_says_that_it_ends() {
        let mut scanner = Scanner::new(0);
        scanner.advance(&frame(3, Head::HEADERS, 0, 1), |_| {});
        assert!(scanner.is_inside());
        scanner.advance(&frame(3, Head::CONTINUATION, Head::END_HEADERS, 1), |_| {});
        assert!(!scanner.is_inside());
    }

    #[test]
    fn what_settles_how_much_may_be_sent_is_read_however_the_bytes_are_cut() {
        let mut bytes = Vec::new();
        let mut put =
            |kind, flags, stream, payload: &[u8]| put_frame(&mut bytes, Head { kind, flags, stream }, payload);
        let (table, window, unknown) = (Settings::entry(1, 100), Settings::entry(4, 7), Settings::entry(99, 5));
        put(Head::SETTINGS, 0, 0, &[table, window, unknown].concat());
        put(Head::SETTINGS, Head::ACK, 0, &[]);
        put(Head::DATA, 1, 1, &[0; 300]);
        put(Head::WINDOW_UPDATE, 0, 0, &[0x80, 0, 1, 2]);
        put(Head::WINDOW_UPDATE, 0, 1, &[0, 0, 9, 9]);
        put(Head::PING, 0, 0, &[1; 8]);
        for piece in 1..40 {
            let mut scanner = Scanner::new(0);
            bytes.chunks(piece).for_each(|part| scanner.advance(part, |_| {}));
            let said = *scanner.said();
            let settled = (said.data_bytes, said.window_bytes, said.settings_frames, said.settings_answers);
            assert_eq!(settled, (300, 258, 1, 1), "in pieces of {piece}");
            assert_eq!(said.settings.payload(), [table, window].concat());
            assert!(!said.settings.table_has_changed());
        }
    }

    #[test]
    fn a_table_whose_bound_moves_later_is_noticed() {
        let check = |first: &[u8], second: &[u8], expected| {
            let mut bytes = Vec::new();
            put_frame(&mut bytes, Head { kind: Head::SETTINGS, flags: 0, stream: 0 }, first);
            put_frame(&mut bytes, Head { kind: Head::SETTINGS, flags: 0, stream: 0 }, second);
            let mut scanner = Scanner::new(0);
            scanner.advance(&bytes, |_| {});
            assert_eq!(scanner.said().settings.table_has_changed(), expected);
        };
        check(&Settings::entry(1, 100), &Settings::entry(1, 100), false);
        check(&[], &Settings::entry(1, Settings::TABLE_BYTES_FIRST), false);
        check(&[], &Settings::entry(1, 0), true);
        check(&Settings::entry(1, 100), &Settings::entry(1, 101), true);
        check(&Settings::entry(1, 100), &Settings::entry(4, 101), false);
    }
}
