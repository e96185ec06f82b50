//! What became of an export attempt, and whether another one is worth it.
//!
//! Pure tables: a peer's answer in, an [`Outcome`] out. The tables are the Collector's (otlp and otlphttp exporters):
//! what says "not now" is retried, what says "never" is dropped, and where the peer said nothing the data is still
//! ours, so it is retried.

use super::EncodedRequest;
use crate::auth::backend::BackendHeaders;
use crate::transport::client::{ClientError, Problem};
use codecs::grpc::{Code, Status, http_is_retryable};
use codecs::json;
use codecs::otlp::{Format, PartialSuccess, read_response};
use http::{HeaderMap, StatusCode};
use std::fmt::Display;
use std::time::{Duration, SystemTime};

/// A sender that waits for the result of a failed export comes back after this long at the earliest.
const RETRY_DELAY_MIN: Duration = Duration::from_secs(1);

/// Text of a peer that is passed on into logs.
const PEER_TEXT_CHARS_MAX: usize = 300;

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The peer has taken everything.
    Delivered,
    /// The peer has taken the request; it says that it will not keep some items, which must not be sent again. With 0
    /// rejected the message is a warning.
    PartiallyRejected {
        /// Spans, data points or log records it will not keep.
        rejected: u64,
        /// Why.
        message: String,
    },
    /// The peer has taken what it could be given: the rest is settled too and must not be sent again.
    DeliveredInPart {
        /// Items that could not be translated for it.
        dropped: u64,
        /// Items it will never take.
        failed: u64,
        /// Why it will not; empty if there are none.
        message: String,
    },
    /// Not now.
    Retry {
        /// The least time the peer wants to be left alone.
        after: Option<Duration>,
        /// In one word.
        reason: ErrorWord,
        /// For the operator: who, where, what to do.
        message: String,
    },
    /// Never.
    Permanent {
        /// In one word.
        reason: ErrorWord,
        /// For the operator: who, where, what to do.
        message: String,
    },
}

/// Words of backends about a request's size; RESOURCE_EXHAUSTED and 400 alone may mean anything.
const SIZE_WORDS: [&str; 6] = ["larger than", "too large", "too big", "message size", "maximum size", "max size"];

impl Outcome {
    /// What a sender is told that waits for a request that was not delivered: to come again where the backend may take it
    /// then, that its data is wrong where the backend says so, else that the fault is on our side of it. A backend that
    /// does not let the gateway in says nothing about the sender.
    pub fn status_for_sender(&self) -> Status {
        match self {
            Outcome::Delivered | Outcome::PartiallyRejected { .. } | Outcome::DeliveredInPart { .. } => {
                Status::new(Code::Ok, "")
            }
            Outcome::Retry { after, message, .. } => {
                Status::new(Code::Unavailable, message.clone()).retry_after(retry_delay(*after))
            }
            Outcome::Permanent { reason, message } => {
                let code = match reason {
                    ErrorWord::Grpc(Code::InvalidArgument) | ErrorWord::Http(400 | 422) | ErrorWord::Request => {
                        Code::InvalidArgument
                    }
                    ErrorWord::Abandoned => Code::Cancelled,
                    ErrorWord::Shutdown => Code::Unavailable,
                    _ if self.is_too_large() => Code::InvalidArgument,
                    _ => Code::Internal,
                };
                Status::new(code, message.clone())
            }
        }
    }

    /// Whether the peer would take less: HTTP 413 (RFC 9110, 15.5.14); RESOURCE_EXHAUSTED without a retry hint and 400,
    /// as gRPC's libraries and the Collector answer, if their words are about size.
    pub fn is_too_large(&self) -> bool {
        let Outcome::Permanent { reason, message } = self else { return false };
        match reason {
            ErrorWord::Http(413) => true,
            ErrorWord::Http(400) | ErrorWord::Grpc(Code::ResourceExhausted) => {
                let words = message.to_ascii_lowercase();
                SIZE_WORDS.iter().any(|word| words.contains(word))
            }
            _ => false,
        }
    }
}

/// How long a sender is asked to wait before it brings a request again: what the backend asked for, at least a second, and
/// up to as much again, so that senders do not come back together.
pub fn retry_delay(asked: Option<Duration>) -> Duration {
    let least = asked.unwrap_or_default().max(RETRY_DELAY_MIN);
    least + least.mul_f64(fastrand::f64())
}

/// Why an attempt failed, as a label with few values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorWord {
    /// No answer.
    NoAnswer(Problem),
    /// A gRPC status.
    Grpc(Code),
    /// An HTTP status.
    Http(u16),
    /// The peer's answer says success but is none.
    Answer,
    /// No request could be made of it: a client's value does not fit into a header.
    Request,
    /// The gateway stops.
    Shutdown,
    /// Its sender no longer waits for it, and has it.
    Abandoned,
    /// The disk that keeps the queue, or the exporter's file, takes nothing.
    Storage,
}

impl ErrorWord {
    /// The label's value, as `error.type` spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorWord::NoAnswer(problem) => match problem {
                Problem::Resolve => "resolve",
                Problem::Connect => "connect",
                Problem::Proxy => "proxy",
                Problem::Tls => "tls",
                Problem::Timeout => "timeout",
                Problem::ConnectionLost => "connection_lost",
                Problem::Protocol => "protocol",
                Problem::Closed => "shutdown",
            },
            ErrorWord::Grpc(code) => code.name(),
            ErrorWord::Http(status) => http_word(status),
            ErrorWord::Answer => "answer",
            ErrorWord::Request => "request",
            ErrorWord::Shutdown => "shutdown",
            ErrorWord::Abandoned => "abandoned",
            ErrorWord::Storage => "storage",
        }
    }
}

fn http_word(status: u16) -> &'static str {
    match status {
        400 => "400",
        401 => "401",
        403 => "403",
        404 => "404",
        413 => "413",
        415 => "415",
        429 => "429",
        500 => "500",
        502 => "502",
        503 => "503",
        504 => "504",
        _ => match status / 100 {
            3 => "3xx",
            4 => "4xx",
            5 => "5xx",
            _ => "other",
        },
    }
}

/// The headers of a request, where an authenticator has to look at each; `None`: those that every request has. The error
/// is final, because the same request would fail in the same way.
pub fn headers(
    peer: &str,
    usual: &HeaderMap,
    shown: Option<&BackendHeaders>,
    request: &EncodedRequest,
) -> Result<Option<HeaderMap>, Outcome> {
    let Some(shown) = shown else { return Ok(None) };
    let mut headers = usual.clone();
    match shown.apply(&mut headers, request.client.as_deref()) {
        Ok(()) => Ok(Some(headers)),
        Err(why) => Err(Outcome::Permanent { reason: ErrorWord::Request, message: format!("{peer}: {why}") }),
    }
}

/// No answer came: the peer may or may not have the data, so it is sent again.
pub fn from_client_error(error: ClientError) -> Outcome {
    Outcome::Retry { after: None, reason: ErrorWord::NoAnswer(error.problem), message: error.message }
}

/// A gRPC answer; `peer` says who answered whom, `message` is the unframed response.
pub fn from_grpc(peer: &str, status: &Status, message: &[u8]) -> Outcome {
    if status.code == Code::Ok {
        return from_response(peer, read_response(message));
    }
    let reason = ErrorWord::Grpc(status.code);
    let text = format!("{peer}: the peer answers {}: {}", status.code.name(), peer_text(&status.message));
    if status.is_retryable() {
        let after = status.retry_delay.filter(|delay| !delay.is_zero());
        Outcome::Retry { after, reason, message: text }
    } else {
        Outcome::Permanent { reason, message: text }
    }
}

/// What an HTTP answer is judged by.
#[derive(Clone, Copy, Debug)]
pub struct HttpAnswer<'a> {
    /// The status line's.
    pub status: StatusCode,
    /// `Content-Type`, as it came.
    pub content_type: &'a str,
    /// `Retry-After`, as it came.
    pub retry_after: Option<&'a str>,
    /// The body, or its beginning.
    pub body: &'a [u8],
}

/// An HTTP answer; `peer` says who answered whom, `now` is the wall time that a date in `Retry-After` is read against.
pub fn from_http(peer: &str, answer: HttpAnswer<'_>, now: SystemTime) -> Outcome {
    let format = Format::from_content_type(answer.content_type);
    if answer.status.is_success() {
        return match format {
            Some(Format::Protobuf) => from_response(peer, read_response(answer.body)),
            Some(Format::Json) if !answer.body.is_empty() => from_response(peer, json::read_response(answer.body)),
            // A success in another type (a proxy's empty page) is a success; its body says nothing we can use.
            _ => Outcome::Delivered,
        };
    }
    let number = answer.status.as_u16();
    let reason = ErrorWord::Http(number);
    let status = match format {
        Some(Format::Protobuf) => Status::decode(answer.body),
        Some(Format::Json) => Status::decode_json(answer.body).filter(|status| !status.message.is_empty()),
        None => None,
    };
    let said = match status {
        Some(status) => peer_text(&status.message),
        None if is_text(answer.content_type) => peer_text(&String::from_utf8_lossy(answer.body)),
        None => String::new(),
    };
    let colon = if said.is_empty() { "" } else { ": " };
    let message = format!("{peer}: the peer answers HTTP status {}{colon}{said}", answer.status);
    if !http_is_retryable(number) {
        return Outcome::Permanent { reason, message };
    }
    let hint = answer.retry_after.filter(|_| matches!(number, 429 | 503));
    Outcome::Retry { after: hint.and_then(|text| retry_after(text, now)), reason, message }
}

/// The body of a success.
fn from_response<E: Display>(peer: &str, read: Result<Option<PartialSuccess>, E>) -> Outcome {
    match read {
        Ok(None) => Outcome::Delivered,
        Ok(Some(PartialSuccess { rejected_items, error_message })) => Outcome::PartiallyRejected {
            // Negative numbers mean nothing in the protocol.
            rejected: u64::try_from(rejected_items).unwrap_or(0),
            message: peer_text(&error_message),
        },
        Err(error) => Outcome::Permanent {
            reason: ErrorWord::Answer,
            message: format!("{peer}: the peer answers success with a body that is no OTLP response: {error}"),
        },
    }
}

/// `Retry-After` (RFC 9110, 10.2.3): whole seconds or a date. A date in the past is no wait, nonsense is no hint.
pub(super) fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(u64::from(seconds)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// Whether a `Content-Type` names `expected`, whatever its parameters and its case.
pub(crate) fn is_content_type(value: &str, expected: &str) -> bool {
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(expected)
}

fn is_text(content_type: &str) -> bool {
    let kind = content_type.trim_start();
    kind.is_empty()
        || kind.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("text/"))
        || is_content_type(content_type, "application/json")
}

/// A peer's words, cut and on one line: they end in logs.
pub(super) fn peer_text(text: &str) -> String {
    let one_line = text.trim().chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    let mut cut: String = one_line.take(PEER_TEXT_CHARS_MAX).collect();
    if cut.len() < text.trim().len() {
        cut.push_str("...");
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use codecs::otlp::write_response;

    const PEER: &str = "exporter otlp to backend:4317";

    /// `None` is permanent, `Some(after)` a retry.
    fn verdict(outcome: Outcome) -> Option<Option<Duration>> {
        match outcome {
            Outcome::Retry { after, .. } => Some(after),
            Outcome::Permanent { .. } => None,
            other => panic!("expected a failure, got {other:?}"),
        }
    }

    fn check_grpc(code: Code, retry_delay: Option<Duration>, expected: Option<Option<Duration>>) {
        let status = Status { retry_delay, ..Status::new(code, "because") };
        let outcome = from_grpc(PEER, &status, b"");
        assert_eq!(verdict(outcome), expected, "{code:?} with {retry_delay:?}");
    }

    #[test]
    fn grpc_codes_that_say_not_now_are_retried_and_the_others_never() {
        use Code::*;
        for code in [Cancelled, DeadlineExceeded, Aborted, OutOfRange, Unavailable, DataLoss] {
            check_grpc(code, None, Some(None));
        }
        for code in [
            Unknown,
            InvalidArgument,
            NotFound,
            AlreadyExists,
            PermissionDenied,
            ResourceExhausted,
            FailedPrecondition,
            Unimplemented,
            Internal,
            Unauthenticated,
        ] {
            check_grpc(code, None, None);
        }
    }

    #[test]
    fn retry_info_is_the_least_wait_and_opens_resource_exhausted_only() {
        let delay = Duration::from_millis(13_500);
        check_grpc(Code::Unavailable, Some(delay), Some(Some(delay)));
        check_grpc(Code::ResourceExhausted, Some(delay), Some(Some(delay)));
        check_grpc(Code::ResourceExhausted, Some(Duration::ZERO), Some(None));
        check_grpc(Code::Internal, Some(delay), None);
    }

    #[test]
    fn a_sender_hears_whether_to_come_again_and_whether_its_data_is_at_fault() {
        let permanent = |reason| Outcome::Permanent { reason, message: "no".to_owned() }.status_for_sender();
        for word in [ErrorWord::Grpc(Code::InvalidArgument), ErrorWord::Http(400), ErrorWord::Http(413)] {
            assert_eq!(permanent(word).code, Code::InvalidArgument, "{word:?}");
        }
        for word in [ErrorWord::Grpc(Code::PermissionDenied), ErrorWord::Http(401), ErrorWord::Answer] {
            assert_eq!(permanent(word).code, Code::Internal, "{word:?}");
        }
        assert!(permanent(ErrorWord::Shutdown).is_retryable());
        let after = Some(Duration::from_secs(7));
        let reason = ErrorWord::Http(503);
        let status = Outcome::Retry { after, reason, message: "late".to_owned() }.status_for_sender();
        assert_eq!((status.code, status.message.as_str()), (Code::Unavailable, "late"));
        assert!(status.retry_delay.is_some_and(|delay| (7..=14).contains(&delay.as_secs())), "{status:?}");
    }

    #[test]
    fn a_grpc_failure_names_peer_code_and_message() {
        let status = Status::new(Code::PermissionDenied, "token\nexpired");
        let Outcome::Permanent { reason, message } = from_grpc(PEER, &status, b"") else { panic!() };
        assert_eq!(reason.as_str(), "PERMISSION_DENIED");
        assert_eq!(message, "exporter otlp to backend:4317: the peer answers PERMISSION_DENIED: token expired");
    }

    fn partial(rejected_items: i64) -> Vec<u8> {
        let mut bytes = Vec::new();
        let error_message = "too old".to_owned();
        write_response(&PartialSuccess { rejected_items, error_message }, &mut bytes);
        bytes
    }

    #[test]
    fn a_partial_success_is_delivered_but_for_what_was_rejected() {
        let ok = Status::new(Code::Ok, "");
        assert_eq!(from_grpc(PEER, &ok, b""), Outcome::Delivered);
        for (said, rejected) in [(3, 3), (0, 0), (-1, 0)] {
            let expected = Outcome::PartiallyRejected { rejected, message: "too old".to_owned() };
            assert_eq!(from_grpc(PEER, &ok, &partial(said)), expected);
            assert_eq!(http(200, "application/x-protobuf", None, &partial(said)), expected);
        }
    }

    fn http(status: u16, content_type: &str, retry_after: Option<&str>, body: &[u8]) -> Outcome {
        let status = StatusCode::from_u16(status).unwrap();
        from_http(PEER, HttpAnswer { status, content_type, retry_after, body }, now())
    }

    /// Sun, 06 Nov 1994 08:49:37 GMT.
    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)
    }

    #[test]
    fn http_statuses_are_retried_as_the_specification_lists_them() {
        for status in [429, 502, 503, 504] {
            assert_eq!(verdict(http(status, "", None, b"")), Some(None), "{status}");
        }
        for status in [301, 400, 401, 402, 403, 404, 405, 408, 413, 414, 431, 500, 501, 505] {
            assert_eq!(verdict(http(status, "", None, b"")), None, "{status}");
        }
        for status in [200, 202, 204] {
            assert_eq!(http(status, "", None, b""), Outcome::Delivered, "{status}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_nonsense_is_no_hint() {
        let after = |status, text| verdict(http(status, "", Some(text), b"")).unwrap();
        let seconds = |count| Some(Duration::from_secs(count));
        assert_eq!(after(503, "13"), seconds(13));
        assert_eq!(after(429, " 0 "), seconds(0));
        assert_eq!(after(503, "Sun, 06 Nov 1994 08:50:07 GMT"), seconds(30));
        assert_eq!(after(503, "Sunday, 06-Nov-94 08:50:07 GMT"), seconds(30));
        assert_eq!(after(503, "Sun Nov  6 08:50:07 1994"), seconds(30));
        assert_eq!(after(503, "Sun, 06 Nov 1994 08:00:00 GMT"), seconds(0));
        for nonsense in ["", "-5", "1.5", "soon", "99999999999999999999"] {
            assert_eq!(after(503, nonsense), None, "{nonsense:?}");
        }
        assert_eq!(after(502, "13"), None, "only 429 and 503 carry it");
    }

    #[test]
    fn an_http_failure_quotes_a_status_body_or_a_text_on_one_line() {
        let message = |content_type, body: &[u8]| match http(400, content_type, None, body) {
            Outcome::Permanent { message, .. } => message,
            other => panic!("{other:?}"),
        };
        let status = Status::new(Code::InvalidArgument, "bad span").encode();
        let start = "exporter otlp to backend:4317: the peer answers HTTP status 400 Bad Request";
        assert_eq!(message("application/x-protobuf", &status), format!("{start}: bad span"));
        assert_eq!(message("text/plain", b"a\r\nb"), format!("{start}: a  b"));
        assert_eq!(message("image/png", b"\x89PNG"), start);
        assert!(message("text/html", &[b'x'; 5000]).ends_with("x..."));
        assert!(message("text/html", &[b'x'; 5000]).len() < 500);
    }

    #[test]
    fn a_success_that_is_no_otlp_response_is_permanent() {
        assert_eq!(verdict(http(200, "application/x-protobuf", None, b"\x0a\x05")), None);
        assert_eq!(http(200, "text/html", None, b"<html>"), Outcome::Delivered);
    }

    #[test]
    fn no_answer_is_retried() {
        let error = ClientError { problem: Problem::Connect, message: "refused".to_owned() };
        let Outcome::Retry { after: None, reason, message } = from_client_error(error) else { panic!() };
        assert_eq!((reason.as_str(), message.as_str()), ("connect", "refused"));
    }

    #[test]
    fn what_is_too_large_is_told_from_a_quota_that_is_used_up() {
        let grpc = |code, text: &str| from_grpc("exporter otlp", &Status::new(code, text.to_owned()), b"");
        // grpc-go, gRPC Java, C-core, ours.
        for text in [
            "grpc: received message larger than max (5000000 vs. 4194304)",
            "gRPC message exceeds maximum size 4194304: 5000000",
            "Received message larger than max (5000000 vs. 4194304)",
            &codecs::grpc::PrefixError::TooLarge { length: 9, length_max: 8 }.to_string(),
        ] {
            assert!(grpc(Code::ResourceExhausted, text).is_too_large(), "{text}");
            assert!(!grpc(Code::Unavailable, text).is_too_large(), "{text}");
        }
        assert!(!grpc(Code::ResourceExhausted, "ingestion quota exceeded").is_too_large());
        let http = |status, body: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            let answer = HttpAnswer { status, content_type: "text/plain", retry_after: None, body: body.as_bytes() };
            from_http("exporter otlphttp", answer, SystemTime::UNIX_EPOCH)
        };
        assert!(http(413, "").is_too_large());
        assert!(http(400, "http: request body too large").is_too_large());
        assert!(!http(400, "not protobuf").is_too_large() && !http(503, "too large").is_too_large());
    }
}
