//! What an OTLP server answers to an export call: nothing, or what it did not take. The bytes are the same for all signals.

use prost::Message;

use super::proto::{ExportTracePartialSuccess, ExportTraceServiceResponse, text};
use crate::wire::{Malformed, Reader};

/// The answer that says everything was taken: an export response without fields has no bytes.
pub const SUCCESS: &[u8] = &[];

/// `ExportTracePartialSuccess` and its like: the peer answered, but did not take everything, or has a warning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartialSuccess {
    /// Spans, data points or log records the peer rejected; they must not be sent again. Negative numbers are the peer's mistake and kept.
    pub rejected_items: i64,
    /// Why, or a warning if none was rejected.
    pub error_message: String,
}

/// Reads the body of a successful answer; `None` if everything was taken without a word.
///
/// # Errors
/// The bytes are no export response.
pub fn read_response(bytes: &[u8]) -> Result<Option<PartialSuccess>, Malformed> {
    let mut reader = Reader::new("response", bytes);
    let mut partial: Option<PartialSuccess> = None;
    while let Some(tag) = reader.tag()? {
        match tag.number {
            1 => {
                let range = reader.length_field(tag, "partial_success")?;
                let nested = reader.nested("partial success", range);
                read_partial_success(nested, partial.get_or_insert_default())?;
            }
            _ => reader.skip(tag)?,
        }
    }
    Ok(partial.filter(|partial| *partial != PartialSuccess::default()))
}

fn read_partial_success(mut reader: Reader<'_>, into: &mut PartialSuccess) -> Result<(), Malformed> {
    while let Some(tag) = reader.tag()? {
        match tag.number {
            1 => into.rejected_items = reader.varint_field(tag, "rejected items")? as i64,
            2 => {
                let range = reader.length_field(tag, "error_message")?;
                into.error_message = text(reader.slice(range)).into_owned();
            }
            _ => reader.skip(tag)?,
        }
    }
    Ok(())
}

/// Appends the answer of a peer that took only a part.
pub fn write_response(partial: &PartialSuccess, out: &mut Vec<u8>) {
    let response = ExportTraceServiceResponse {
        partial_success: Some(ExportTracePartialSuccess {
            rejected_spans: partial.rejected_items,
            error_message: partial.error_message.clone().into_bytes(),
        }),
    };
    response.encode_raw(out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_answer_means_everything_was_taken() {
        assert_eq!(read_response(SUCCESS), Ok(None));
        assert_eq!(read_response(&[0x0a, 0]), Ok(None));
    }

    #[test]
    fn a_partial_success_survives_the_round_trip() {
        for rejected_items in [0, 7, -1, i64::MAX] {
            let partial = PartialSuccess { rejected_items, error_message: "ids reused".to_owned() };
            let mut bytes = Vec::new();
            write_response(&partial, &mut bytes);
            assert_eq!(read_response(&bytes), Ok(Some(partial)));
        }
    }

    #[test]
    fn a_broken_answer_names_its_place() {
        let error = read_response(&[0x0a, 2, 0x0a, 0]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "partial success: rejected items is encoded as length-delimited, expected varint at byte 2"
        );
    }
}
