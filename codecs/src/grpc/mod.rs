//! What gRPC adds to HTTP/2: the prefix of each message, and a status at the end.
//!
//! From the gRPC protocol document (PROTOCOL-HTTP2): a message is one flag byte, four bytes of length, big endian, and
//! the bytes; the status travels as `grpc-status`, `grpc-message` and `grpc-status-details-bin`. HTTP/2 itself is not
//! here.

pub mod base64;
mod status;

pub use status::{Code, Status, http_is_retryable};

/// Bytes before each message.
pub const PREFIX_BYTES: usize = 5;

/// The prefix of a message of `length` bytes.
///
/// # Panics
/// The message has 4 GiB or more: requests are bounded far below.
#[must_use]
pub fn prefix(compressed: bool, length: usize) -> [u8; PREFIX_BYTES] {
    let length = u32::try_from(length).expect("a message stays below 4 GiB");
    let [a, b, c, d] = length.to_be_bytes();
    [u8::from(compressed), a, b, c, d]
}

/// Whether the message is compressed, and its length in bytes; `None` if the flag is neither 0 nor 1.
#[must_use]
pub fn read_prefix(prefix: &[u8; PREFIX_BYTES]) -> Option<(bool, usize)> {
    let [flag, a, b, c, d] = *prefix;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    match flag {
        0 => Some((false, length)),
        1 => Some((true, length)),
        _ => None,
    }
}

/// What a [`Deframer`] saw before a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Whether the message is compressed.
    pub compressed: bool,
    /// Bytes of the message, within the bound.
    pub length: usize,
}

/// Why a message cannot follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// gRPC answers this INTERNAL.
    #[error("message flag {0:#04x} is neither 0 (plain) nor 1 (compressed)")]
    Flag(u8),
    /// gRPC answers this RESOURCE_EXHAUSTED.
    #[error("received message larger than max ({length} vs. {length_max})")]
    TooLarge {
        /// Bytes announced.
        length: usize,
        /// Bytes allowed.
        length_max: usize,
    },
}

/// Gathers a prefix from pieces, since frames may cut it anywhere.
#[derive(Clone, Debug)]
pub struct Deframer {
    length_max: usize,
    bytes: [u8; PREFIX_BYTES],
    filled: usize,
}

impl Deframer {
    /// Takes messages of at most `length_max` bytes.
    #[must_use]
    pub fn new(length_max: usize) -> Self {
        Self { length_max, bytes: [0; PREFIX_BYTES], filled: 0 }
    }

    /// Takes what it needs from the front of `input`. `Some` once the prefix is whole: the message starts at the new
    /// front of `input`, and the deframer is ready for the prefix after it.
    ///
    /// # Errors
    /// An unknown flag or a message beyond the bound; the deframer is of no further use.
    pub fn take(&mut self, input: &mut &[u8]) -> Result<Option<Prefix>, PrefixError> {
        let (taken, rest) = input.split_at(input.len().min(PREFIX_BYTES - self.filled));
        self.bytes[self.filled..self.filled + taken.len()].copy_from_slice(taken);
        self.filled += taken.len();
        *input = rest;
        if self.filled < PREFIX_BYTES {
            return Ok(None);
        }
        self.filled = 0;
        let Some((compressed, length)) = read_prefix(&self.bytes) else {
            return Err(PrefixError::Flag(self.bytes[0]));
        };
        if length > self.length_max {
            return Err(PrefixError::TooLarge { length, length_max: self.length_max });
        }
        Ok(Some(Prefix { compressed, length }))
    }

    /// Whether a prefix has begun and not ended: a stream must not end here.
    #[must_use]
    pub fn is_inside_prefix(&self) -> bool {
        self.filled > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_cut_anywhere_is_put_together() {
        let bytes = [&prefix(true, 300)[..], b"body"].concat();
        for cut in 0..=PREFIX_BYTES {
            let mut deframer = Deframer::new(300);
            let (mut first, mut second) = bytes.split_at(cut);
            let before = deframer.take(&mut first).unwrap();
            assert!(first.is_empty());
            assert_eq!(deframer.is_inside_prefix(), cut > 0 && cut < PREFIX_BYTES);
            let found = before.or(deframer.clone().take(&mut second).unwrap());
            assert_eq!(found, Some(Prefix { compressed: true, length: 300 }), "cut at {cut}");
            if cut < PREFIX_BYTES {
                assert_eq!(second, b"body");
            }
        }
    }

    #[test]
    fn messages_beyond_the_bound_and_unknown_flags_are_errors() {
        let take = |bytes: [u8; PREFIX_BYTES]| Deframer::new(10).take(&mut &bytes[..]);
        assert_eq!(take(prefix(false, 10)), Ok(Some(Prefix { compressed: false, length: 10 })));
        assert_eq!(take(prefix(false, 11)), Err(PrefixError::TooLarge { length: 11, length_max: 10 }));
        assert_eq!(take([2, 0, 0, 0, 0]), Err(PrefixError::Flag(2)));
        assert_eq!(read_prefix(&[0xff; PREFIX_BYTES]), None);
        assert_eq!(read_prefix(&[1, 0xff, 0xff, 0xff, 0xff]), Some((true, u32::MAX as usize)));
    }
}
