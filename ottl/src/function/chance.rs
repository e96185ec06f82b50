//! Converters of chance, which the environment gives.

use super::{Function, converter};
use crate::value::{Value, hex};

pub(super) const TABLE: &[Function] = &[
    converter("UUID", &[], |arguments| Ok(Value::owned_text(uuid(4, arguments.environment.chance.next())))),
    converter("UUIDv7", &[], |arguments| {
        let mut bytes = arguments.environment.chance.next();
        // Milliseconds since 1970 in 48 bits; before 1970 there are none.
        let millis = u64::try_from(arguments.environment.now_unix_ns / 1_000_000).unwrap_or(0);
        bytes[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
        Ok(Value::owned_text(uuid(7, bytes)))
    }),
];

/// The text of a UUID of this version (RFC 9562), all other bits as they are in `bytes`.
fn uuid(version: u8, mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | version << 4;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits = hex(&bytes);
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}
