//! How a call ends: code, words, and when to try again; over gRPC and as HTTP sees it.
//!
//! Codes are those of the gRPC documents; which of them an OTLP client may retry is in the OTLP specification
//! (Failures), and the mappings to and from HTTP are the Collector's.

use std::time::Duration;

use prost::Message;

use super::base64;
use crate::json;
use crate::otlp::proto::{Any, ProtoDuration, RETRY_INFO_URL, RetryInfo, RpcStatus, text};

/// A gRPC status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are those of the gRPC documents")]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

/// Codes by number, with their names on the wire.
const CODES: [(Code, &str); 17] = [
    (Code::Ok, "OK"),
    (Code::Cancelled, "CANCELLED"),
    (Code::Unknown, "UNKNOWN"),
    (Code::InvalidArgument, "INVALID_ARGUMENT"),
    (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
    (Code::NotFound, "NOT_FOUND"),
    (Code::AlreadyExists, "ALREADY_EXISTS"),
    (Code::PermissionDenied, "PERMISSION_DENIED"),
    (Code::ResourceExhausted, "RESOURCE_EXHAUSTED"),
    (Code::FailedPrecondition, "FAILED_PRECONDITION"),
    (Code::Aborted, "ABORTED"),
    (Code::OutOfRange, "OUT_OF_RANGE"),
    (Code::Unimplemented, "UNIMPLEMENTED"),
    (Code::Internal, "INTERNAL"),
    (Code::Unavailable, "UNAVAILABLE"),
    (Code::DataLoss, "DATA_LOSS"),
    (Code::Unauthenticated, "UNAUTHENTICATED"),
];

impl Code {
    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u32 {
        self as u32
    }

    /// The code of a number; those that gRPC does not have count as [`Code::Unknown`].
    #[must_use]
    pub fn from_number(number: u32) -> Self {
        CODES.get(number as usize).map_or(Self::Unknown, |(code, _)| *code)
    }

    /// The code in a `grpc-status` header; what is no number counts as [`Code::Unknown`].
    #[must_use]
    pub fn from_header(value: &[u8]) -> Self {
        let number = str::from_utf8(value).ok().and_then(|value| value.parse().ok());
        number.map_or(Self::Unknown, Self::from_number)
    }

    /// The name in the gRPC documents, such as `UNAVAILABLE`.
    #[must_use]
    pub fn name(self) -> &'static str {
        CODES[self as usize].1
    }

    /// The HTTP status of an answer that failed with this code.
    #[must_use]
    pub fn http_status(self) -> u16 {
        match self {
            Self::Ok => 200,
            Self::InvalidArgument => 400,
            Self::Unauthenticated => 401,
            Self::PermissionDenied => 403,
            Self::Unimplemented => 404,
            Self::ResourceExhausted => 429,
            Self::Cancelled
            | Self::DeadlineExceeded
            | Self::Aborted
            | Self::OutOfRange
            | Self::Unavailable
            | Self::DataLoss => 503,
            _ => 500,
        }
    }

    /// The code for the body of an answer with an HTTP error status.
    #[must_use]
    pub fn from_http_status(status: u16) -> Self {
        match status {
            200..=299 => Self::Ok,
            400 => Self::InvalidArgument,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::Unimplemented,
            429 => Self::ResourceExhausted,
            502..=504 => Self::Unavailable,
            _ => Self::Unknown,
        }
    }
}

/// Whether an OTLP/HTTP client may send the request again after this status.
#[must_use]
pub fn http_is_retryable(status: u16) -> bool {
    matches!(status, 429 | 502..=504)
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.name())]
pub struct Status {
    /// What kind of end.
    pub code: Code,
    /// For people.
    pub message: String,
    /// From a RetryInfo: wait at least this long before trying again.
    pub retry_delay: Option<Duration>,
}

impl Status {
    /// A status without a retry delay.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_delay: None }
    }

    /// [`Code::Internal`]: a mistake of ours.
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, message)
    }

    /// The same status with a RetryInfo.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_delay = Some(delay);
        self
    }

    /// The status that trailers tell. Details, where they can be read, count only for the retry delay: code and message
    /// have headers of their own. No `grpc-status` at all is [`Code::Unknown`].
    #[must_use]
    pub fn from_trailers(status: Option<&[u8]>, message: Option<&[u8]>, details: Option<&[u8]>) -> Self {
        let Some(status) = status else {
            return Self::new(Code::Unknown, "the peer ended the call without a grpc-status");
        };
        let details = details.and_then(base64::decode).and_then(|bytes| Self::decode(&bytes));
        Self {
            code: Code::from_header(status),
            message: message.map(percent_decode).unwrap_or_default(),
            retry_delay: details.and_then(|details| details.retry_delay),
        }
    }

    /// Whether an OTLP client may send the request again: the code says so, or says "exhausted" with a RetryInfo.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self.code {
            Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss => true,
            Code::ResourceExhausted => self.retry_delay.is_some(),
            _ => false,
        }
    }

    /// Whole seconds for an HTTP `Retry-After`, rounded up so that nobody comes back early; only where the answer is a
    /// 429 or 503 and a delay is known.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u64> {
        let delay = self.retry_delay.filter(|_| matches!(self.code.http_status(), 429 | 503))?;
        Some(delay.as_secs() + u64::from(delay.subsec_nanos() > 0))
    }

    /// The bytes of a google.rpc.Status: the body of an HTTP error, or of `grpc-status-details-bin`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let details = self.retry_delay.map(|delay| {
            let retry_delay = ProtoDuration {
                seconds: i64::try_from(delay.as_secs()).unwrap_or(i64::MAX),
                nanos: delay.subsec_nanos() as i32,
            };
            let info = RetryInfo { retry_delay: Some(retry_delay) };
            Any { type_url: RETRY_INFO_URL.into(), value: info.encode_to_vec() }
        });
        let status = RpcStatus {
            code: i32::from(self.code as u8),
            message: self.message.clone().into_bytes(),
            details: details.into_iter().collect(),
        };
        status.encode_to_vec()
    }

    /// Reads a google.rpc.Status; `None` if the bytes are none. Details other than RetryInfo are left out.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let status = RpcStatus::decode(bytes).ok()?;
        let retry_info = status.details.iter().find(|detail| names_retry_info(&detail.type_url));
        let retry_delay = retry_info.and_then(|detail| RetryInfo::decode(&detail.value[..]).ok()).map(|info| {
            let delay = info.retry_delay.unwrap_or_default();
            let nanos = u32::try_from(delay.nanos).unwrap_or(0).min(999_999_999);
            Duration::new(u64::try_from(delay.seconds).unwrap_or(0), nanos)
        });
        Some(Self {
            code: u32::try_from(status.code).map_or(Code::Unknown, Code::from_number),
            message: text(&status.message).into_owned(),
            retry_delay,
        })
    }

    /// A google.rpc.Status in JSON: the body of an HTTP error where the request was JSON.
    #[must_use]
    pub fn encode_json(&self) -> Vec<u8> {
        let mut out = format!("{{\"code\":{},\"message\":", self.code.number()).into_bytes();
        json::write_text(self.message.as_bytes(), &mut out);
        if let Some(delay) = self.retry_delay {
            // google.protobuf.Duration in JSON: seconds, with 0 or 9 digits behind the point.
            let delay = match delay.subsec_nanos() {
                0 => format!("{}s", delay.as_secs()),
                nanos => format!("{}.{nanos:09}s", delay.as_secs()),
            };
            let details = format!(",\"details\":[{{\"@type\":\"{RETRY_INFO_URL}\",\"retryDelay\":\"{delay}\"}}]");
            out.extend_from_slice(details.as_bytes());
        }
        out.push(b'}');
        out
    }

    /// Reads a google.rpc.Status in JSON, without its details; `None` if the bytes are none.
    #[must_use]
    pub fn decode_json(bytes: &[u8]) -> Option<Self> {
        let mut protobuf = Vec::new();
        json::read_status(bytes, &mut protobuf).ok()?;
        Self::decode(&protobuf)
    }

    /// The value of `grpc-status-details-bin`.
    #[must_use]
    pub fn details_header(&self) -> String {
        base64::encode(&self.encode())
    }

    /// The value of `grpc-message`: printable ASCII except `%` stays, any other byte becomes `%XX`.
    #[must_use]
    pub fn percent_encoded_message(&self) -> String {
        let mut out = String::with_capacity(self.message.len());
        for byte in self.message.bytes() {
            match byte {
                b'%' | 0..0x20 | 0x7f.. => {
                    let digit = |nibble: u8| char::from(HEX_DIGITS[usize::from(nibble)]);
                    out.extend(['%', digit(byte >> 4), digit(byte & 15)]);
                }
                _ => out.push(char::from(byte)),
            }
        }
        out
    }
}

const HEX_DIGITS: &[u8; 16] = b"0123456789ABCDEF";

/// The type is what follows the last slash; peers differ in what stands before it.
fn names_retry_info(type_url: &[u8]) -> bool {
    type_url.rsplit(|&byte| byte == b'/').next() == Some(b"google.rpc.RetryInfo")
}

/// Undoes [`Status::percent_encoded_message`]. A `%` without two hex digits stays, as the gRPC document asks; what is
/// not UTF-8 then becomes the replacement character.
fn percent_decode(value: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((&first, after)) = rest.split_first() {
        let escaped = match after {
            [high, low, ..] if first == b'%' => hex_digit(*high).zip(hex_digit(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                bytes.push(high << 4 | low);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    text(&bytes).into_owned()
}

fn hex_digit(character: u8) -> Option<u8> {
    char::from(character).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_in_json_is_what_protobuf_s_mapping_says() {
        let status = Status::new(Code::InvalidArgument, "no \"request\"\n");
        assert_eq!(status.encode_json(), br#"{"code":3,"message":"no \"request\"\n"}"#);
        assert_eq!(Status::decode_json(&status.encode_json()), Some(status));
        let status = Status::new(Code::Unavailable, "later").retry_after(Duration::from_millis(1500));
        let json = concat!(
            r#"{"code":14,"message":"later","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","#,
            r#""retryDelay":"1.500000000s"}]}"#
        );
        assert_eq!(String::from_utf8(status.encode_json()).unwrap(), json);
        let read = Status::decode_json(json.as_bytes()).unwrap();
        assert_eq!((read.code, &read.message[..], read.retry_delay), (Code::Unavailable, "later", None));
        assert_eq!(Status::decode_json(b"<html>"), None);
    }

    #[test]
    fn codes_have_the_numbers_of_grpc() {
        for (number, (code, _)) in CODES.iter().enumerate() {
            assert_eq!(code.number() as usize, number);
            assert_eq!(Code::from_number(number as u32), *code);
            assert_eq!(Code::from_header(number.to_string().as_bytes()), *code);
        }
        assert_eq!(Code::from_number(17), Code::Unknown);
        assert_eq!(Code::from_header(b"no"), Code::Unknown);
    }

    #[test]
    fn exactly_the_codes_of_otlp_are_retryable() {
        let retryable: Vec<u32> = CODES
            .iter()
            .filter(|(code, _)| Status::new(*code, "").is_retryable())
            .map(|(code, _)| code.number())
            .collect();
        assert_eq!(retryable, [1, 4, 10, 11, 14, 15]);
        assert!(Status::new(Code::ResourceExhausted, "").retry_after(Duration::ZERO).is_retryable());
        assert!(!Status::new(Code::Internal, "").retry_after(Duration::ZERO).is_retryable());
    }

    #[test]
    fn http_sees_the_codes_as_the_collector_maps_them() {
        let statuses: Vec<u16> = CODES.iter().map(|(code, _)| code.http_status()).collect();
        let expected = [200, 503, 500, 400, 503, 500, 500, 403, 429, 500, 503, 503, 404, 500, 503, 503, 401];
        assert_eq!(statuses, expected);
        for (status, code) in
            [(400, 3), (401, 16), (403, 7), (404, 12), (429, 8), (502, 14), (503, 14), (504, 14), (500, 2), (418, 2)]
        {
            assert_eq!(Code::from_http_status(status).number(), code, "{status}");
        }
        let retryable: Vec<u16> = (100..600).filter(|status| http_is_retryable(*status)).collect();
        assert_eq!(retryable, [429, 502, 503, 504]);
    }

    #[test]
    fn a_status_survives_the_round_trip() {
        for delay in [None, Some(Duration::ZERO), Some(Duration::from_millis(1500)), Some(Duration::from_nanos(1))] {
            let status = Status { code: Code::Unavailable, message: "full: 100 % \u{e9}\n".into(), retry_delay: delay };
            assert_eq!(Status::decode(&status.encode()), Some(status.clone()));
            let trailers = Status::from_trailers(
                Some(b"14"),
                Some(status.percent_encoded_message().as_bytes()),
                Some(status.details_header().as_bytes()),
            );
            assert_eq!(trailers, status);
        }
    }

    #[test]
    fn messages_are_percent_encoded_as_the_grpc_document_says() {
        let encoded = |message: &str| Status::new(Code::Unknown, message).percent_encoded_message();
        assert_eq!(encoded("plain ~ text"), "plain ~ text");
        assert_eq!(encoded("100%\t\u{e9}\u{7f}"), "100%25%09%C3%A9%7F");
        assert_eq!(percent_decode(b"50% off %zz %4"), "50% off %zz %4");
        assert_eq!(percent_decode(b"%41%c3%A9"), "A\u{e9}");
        assert_eq!(percent_decode(b"%ff"), "\u{fffd}");
    }

    #[test]
    fn retry_after_is_whole_seconds_where_http_knows_it() {
        let seconds = |code, delay| Status::new(code, "").retry_after(delay).retry_after_seconds();
        assert_eq!(seconds(Code::Unavailable, Duration::ZERO), Some(0));
        assert_eq!(seconds(Code::Unavailable, Duration::from_millis(1001)), Some(2));
        assert_eq!(seconds(Code::ResourceExhausted, Duration::from_secs(3)), Some(3));
        assert_eq!(seconds(Code::Internal, Duration::from_secs(3)), None);
        assert_eq!(Status::new(Code::Unavailable, "").retry_after_seconds(), None);
    }

    #[test]
    fn broken_details_are_no_details() {
        let status = Status::from_trailers(Some(b"8"), None, Some(b"!!!"));
        assert_eq!(status, Status::new(Code::ResourceExhausted, ""));
        assert_eq!(Status::decode(&[0x08]), None);
        assert_eq!(Status::from_trailers(None, None, None).code, Code::Unknown);
    }
}
