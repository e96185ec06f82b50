//! OTLP in JSON: JSON <-> the protobuf bytes that everything else reads.
//!
//! ```text
//! JSON --read_request (one pass, no tree)--> protobuf --otlp::SpanIndex--> ...
//! protobuf --write_request--> JSON
//! ```
//!
//! Large bodies are for [`Transcoding`], which does the same in steps.
//!
//! The one idea: a table of messages (`schema`) says which JSON name is which field, and both directions follow it. Each
//! signal has its table. What the OTLP specification says of JSON holds (OTLP 1.x, "JSON Protobuf
//! Encoding"): trace and span ids are hex in any case, other bytes are base64, enums are numbers, 64-bit integers are
//! strings or numbers, names are in lowerCamelCase, unknown ones are ignored. Taken beside that, as the Collector does:
//! the names of the `.proto` files, names of enum values, `null` for a default, `"NaN"` and `"Infinity"`.
//!
//! No unknown field survives: JSON has none that protobuf could carry. Text is passed on as it is, UTF-8 or not.

mod cursor;
mod decode;
mod encode;
mod error;
mod logs_schema;
mod metrics_schema;
mod number;
mod schema;
mod steps;

pub use crate::compression::Step;
pub use error::JsonError;
pub use steps::Transcoding;

use crate::otlp::{PartialSuccess, Signal, read_response as read_protobuf_response};
use crate::wire::Malformed;

/// The answer that says everything was taken: an export response without fields.
pub const SUCCESS: &[u8] = b"{}";

/// Appends an export request of `signal` in JSON to `out` as protobuf. It takes at most as many bytes as the JSON, of
/// metrics at most four times as many (a count of one digit becomes eight bytes). After an error `out` is as it was.
///
/// # Errors
/// The bytes are no JSON or no such request; the error says where and what was expected.
pub fn read_request(signal: Signal, json: &[u8], out: &mut Vec<u8>) -> Result<(), JsonError> {
    decode::transcode(request(signal), json, out)
}

/// Appends an export request of `signal` to `out` as JSON. Fields that OTLP does not name are left out; text that is not
/// UTF-8 becomes the replacement character.
///
/// # Errors
/// The bytes are no such request; `out` then holds a useless beginning.
pub fn write_request(signal: Signal, protobuf: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    encode::write(request(signal), protobuf, out)
}

fn request(signal: Signal) -> &'static schema::Message {
    match signal {
        Signal::Traces => &schema::REQUEST,
        Signal::Metrics => &metrics_schema::REQUEST,
        Signal::Logs => &logs_schema::REQUEST,
    }
}

/// Reads the body of a successful answer; `None` if everything was taken without a word.
///
/// # Errors
/// The bytes are no export response in JSON.
pub fn read_response(json: &[u8]) -> Result<Option<PartialSuccess>, JsonError> {
    let mut protobuf = Vec::new();
    decode::transcode(&schema::ANY_RESPONSE, json, &mut protobuf)?;
    Ok(read_protobuf_response(&protobuf).expect("what was transcoded is well-formed"))
}

/// Appends the answer of a server that took only a part of the spans.
pub fn write_response(partial: &PartialSuccess, out: &mut Vec<u8>) {
    let mut protobuf = Vec::new();
    crate::otlp::write_response(partial, &mut protobuf);
    encode::write(&schema::RESPONSE, &protobuf, out).expect("what was just encoded is well-formed");
}

/// Reads `code` and `message` of a google.rpc.Status in JSON as protobuf. Its details are left out: their types could be
/// any, and what they say of retrying stands in a header as well.
pub(crate) fn read_status(json: &[u8], out: &mut Vec<u8>) -> Result<(), JsonError> {
    decode::transcode(&schema::STATUS, json, out)
}

/// Appends `text` in quotes, escaped.
pub(crate) fn write_text(text: &[u8], out: &mut Vec<u8>) {
    encode::text(text, out);
}

#[cfg(test)]
mod tests;
