//! The `otlphttp` exporter: whole requests over HTTP/1.1.
//!
//! Settings plus one client per shard. Owns no queue and no retry: it makes one attempt and says what became of it.

use super::outcome::{self, HttpAnswer, Outcome};
use super::{EncodedRequest, check_duration};
use crate::auth::backend::BackendHeaders;
use crate::config::checked::{ComponentId, OtlpExporterSettings};
use crate::transport::client::http1::{HttpClient, HttpResponse};
use crate::transport::client::{PeerSettings, host_and_port};
use crate::transport::tls::{Alpn, TlsClient};
use codecs::grpc;
use std::time::SystemTime;

/// An `otlphttp` exporter on one shard.
#[derive(Debug)]
pub struct OtlpHttpExporter {
    client: HttpClient,
    /// What the backend is shown with each request.
    shown: Option<BackendHeaders>,
    /// Who answers whom, for errors.
    peer: String,
}

impl OtlpHttpExporter {
    /// Reads certificates and keys. Blocks: called once per exporter, at start. Errors name the exporter and the file.
    pub fn tls(id: &ComponentId, settings: &OtlpExporterSettings) -> Result<Option<TlsClient>, String> {
        let Some(tls) = &settings.tls else { return Ok(None) };
        let client = TlsClient::new(tls, &settings.endpoint.host, Alpn::Http1);
        client.map(Some).map_err(|error| format!("exporter {id}: {error}"))
    }

    /// `tls` is what [`OtlpHttpExporter::tls`] made, shared by all shards.
    pub fn new(
        id: &ComponentId,
        settings: &OtlpExporterSettings,
        tls: Option<TlsClient>,
        shown: Option<BackendHeaders>,
        shard: usize,
    ) -> Result<OtlpHttpExporter, String> {
        let sender = format!("exporter {id}");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let peer = PeerSettings {
            sender: sender.clone(),
            endpoint: settings.endpoint.clone(),
            tls,
            authority: None,
            headers: settings.headers.clone(),
            proxy: settings.proxy.clone(),
            timeout: check_duration(settings.timeout_ns),
            first_address: shard,
            names: settings.names,
        };
        let client =
            HttpClient::new(&peer, &settings.path, settings.format).map_err(|error| format!("{sender}: {error}"))?;
        let url = format!("{scheme}://{}{}", host_and_port(&settings.endpoint), settings.path);
        Ok(OtlpHttpExporter { client, shown, peer: format!("{sender} to {url}") })
    }

    /// Sends the request once.
    pub async fn attempt(&self, request: &EncodedRequest) -> Outcome {
        // The bytes are shared with gRPC exporters; HTTP has no use for their prefix.
        let message = request.body.slice(grpc::PREFIX_BYTES..);
        let headers = match outcome::headers(&self.peer, self.client.headers(), self.shown.as_ref(), request) {
            Ok(headers) => headers,
            Err(never) => return never,
        };
        match self.client.post(message, request.compression, headers).await {
            Ok(response) => self.judge(&response),
            Err(error) => outcome::from_client_error(error),
        }
    }

    /// Closes idle connections; attempts under way finish.
    pub async fn close(&self) {
        self.client.close().await;
    }

    fn judge(&self, response: &HttpResponse) -> Outcome {
        let header = |name| response.headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
        let answer = HttpAnswer {
            status: response.status,
            content_type: header(http::header::CONTENT_TYPE).unwrap_or_default(),
            retry_after: header(http::header::RETRY_AFTER),
            body: &response.body,
        };
        // Wall time: a date in Retry-After is the peer's.
        outcome::from_http(&self.peer, answer, SystemTime::now())
    }
}

#[cfg(test)]
mod tests {
    use super::super::outcome::ErrorWord;
    use super::*;
    use crate::config::checked::TlsClientSettings;
    use crate::shard::runtime::{Stream, spawn};
    use crate::transport::client::test_peers::*;
    use crate::transport::client::{ANSWER_BYTES_MAX, Problem};
    use codecs::compression::Compression;
    use codecs::otlp::Format;
    use std::time::Duration;
    use tokio::io::AsyncReadExt;

    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";

    fn exporter(settings: &OtlpExporterSettings) -> OtlpHttpExporter {
        let tls = OtlpHttpExporter::tls(&id("otlphttp"), settings).unwrap();
        OtlpHttpExporter::new(&id("otlphttp"), settings, tls, None, 0).unwrap()
    }

    fn request() -> EncodedRequest {
        EncodedRequest { body: framed(b"spans"), compression: Compression::None, items: 1, client: None }
    }

    /// What one attempt makes of one answer.
    fn check(answer: &str, expected: impl Fn(Outcome) + Clone + 'static) {
        let answer = answer.to_owned();
        on_both(async move || {
            let listener = Listener::bind();
            let exporter = exporter(&exporter_settings(listener.port()));
            let answer = answer.clone();
            spawn(async move {
                let mut stream = listener.accept().await;
                read_http1(&mut stream).await;
                write_http1(&mut stream, &answer).await;
            });
            expected(exporter.attempt(&request()).await);
        });
    }

    fn retry(outcome: &Outcome, problem: Problem, parts: &[&str]) {
        let Outcome::Retry { reason, message, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(*reason, ErrorWord::NoAnswer(problem), "{message}");
        for part in parts {
            assert!(message.contains(part), "{message:?} should contain {part:?}");
        }
    }

    #[test]
    fn a_request_carries_what_an_otlp_server_expects_and_the_connection_is_kept() {
        on_both(async || {
            let listener = Listener::bind();
            let mut settings = exporter_settings(listener.port());
            settings.headers = vec![("X-Tenant".to_owned(), "shop".to_owned())];
            let exporter = exporter(&settings);
            let (done, finished) = tokio::sync::oneshot::channel();
            spawn(async move {
                let mut stream = listener.accept().await;
                let first = read_http1(&mut stream).await;
                write_http1(&mut stream, OK).await;
                let second = read_http1(&mut stream).await;
                write_http1(&mut stream, OK).await;
                done.send([first, second]).unwrap();
            });
            assert_eq!(exporter.attempt(&request()).await, Outcome::Delivered);
            let zipped = EncodedRequest { compression: Compression::Zstd, ..request() };
            assert_eq!(exporter.attempt(&zipped).await, Outcome::Delivered);
            let [(head, body), (second, _)] = finished.await.unwrap();
            assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
            for line in [
                format!("host: 127.0.0.1:{}", settings.endpoint.port),
                "content-type: application/x-protobuf".to_owned(),
                "content-length: 5".to_owned(),
                "x-tenant: shop".to_owned(),
            ] {
                assert!(head.contains(&format!("\r\n{line}\r\n")), "{head} should contain {line}");
            }
            assert!(head.contains("\r\nuser-agent: tracegate/"), "{head}");
            assert!(!head.contains("content-encoding"), "{head}");
            assert_eq!(body, b"spans");
            assert!(second.contains("\r\ncontent-encoding: zstd\r\n"), "{second}");
        });
    }

    #[test]
    fn a_request_in_json_says_so_and_its_answer_is_read() {
        on_both(async || {
            let listener = Listener::bind();
            let mut settings = exporter_settings(listener.port());
            settings.format = Format::Json;
            let exporter = exporter(&settings);
            spawn(async move {
                let mut stream = listener.accept().await;
                let (head, _) = read_http1(&mut stream).await;
                assert!(head.contains("\r\ncontent-type: application/json\r\n"), "{head}");
                let body = r#"{"partialSuccess":{"rejectedSpans":"2","errorMessage":"too old"}}"#;
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=utf-8\r\n";
                write_http1(&mut stream, &format!("{head}content-length: {}\r\n\r\n{body}", body.len())).await;
            });
            let outcome = exporter.attempt(&request()).await;
            assert_eq!(outcome, Outcome::PartiallyRejected { rejected: 2, message: "too old".to_owned() });
        });
    }

    #[test]
    fn a_host_in_the_headers_replaces_the_endpoints() {
        on_both(async || {
            let listener = Listener::bind();
            let mut settings = exporter_settings(listener.port());
            settings.headers = vec![("Host".to_owned(), "traces.example".to_owned())];
            let exporter = exporter(&settings);
            spawn(async move {
                let mut stream = listener.accept().await;
                let (head, _) = read_http1(&mut stream).await;
                assert_eq!(head.matches("host: ").count(), 1, "{head}");
                assert!(head.contains("\r\nhost: traces.example\r\n"), "{head}");
                write_http1(&mut stream, OK).await;
            });
            assert_eq!(exporter.attempt(&request()).await, Outcome::Delivered);
        });
    }

    #[test]
    fn retry_after_is_the_least_wait() {
        check("HTTP/1.1 503 Service Unavailable\r\nretry-after: 13\r\ncontent-length: 0\r\n\r\n", |outcome| {
            let Outcome::Retry { after, message, .. } = outcome else { panic!("{outcome:?}") };
            assert_eq!(after, Some(Duration::from_secs(13)));
            assert!(message.starts_with("exporter otlphttp/primary to http://127.0.0.1:"), "{message}");
            assert!(message.contains("/v1/traces: the peer answers HTTP status 503"), "{message}");
        });
    }

    #[test]
    fn a_refusal_for_good_quotes_the_peer() {
        let answer = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 8\r\n\r\nbad span";
        check(answer, |outcome| {
            let Outcome::Permanent { message, .. } = outcome else { panic!("{outcome:?}") };
            assert!(message.ends_with("400 Bad Request: bad span"), "{message}");
        });
    }

    #[test]
    fn an_answer_cut_short_is_retried() {
        check("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", |outcome| {
            retry(&outcome, Problem::ConnectionLost, &["connection lost"]);
        });
    }

    #[test]
    fn an_endless_answer_is_cut_and_judged_by_its_status() {
        let long = "x".repeat(ANSWER_BYTES_MAX + 1);
        let answer = format!("HTTP/1.1 500 Oops\r\ncontent-type: text/html\r\ncontent-length: 99999999\r\n\r\n{long}");
        check(&answer, |outcome| {
            let Outcome::Permanent { message, .. } = outcome else { panic!("{outcome:?}") };
            assert!(message.len() < 500);
        });
    }

    #[test]
    fn a_connection_that_the_peer_closed_while_idle_costs_no_failure() {
        on_both(async || {
            let listener = Listener::bind();
            let exporter = exporter(&exporter_settings(listener.port()));
            spawn(async move {
                for _ in 0..3 {
                    let mut stream: Stream = listener.accept().await;
                    read_http1(&mut stream).await;
                    write_http1(&mut stream, OK).await;
                }
            });
            for _ in 0..3 {
                assert_eq!(exporter.attempt(&request()).await, Outcome::Delivered);
                // The peer's end of the connection arrives before the next attempt, as it does when idling.
                exporter.client.all_idle_are_closed().await;
            }
        });
    }

    #[test]
    fn an_attempt_without_an_answer_ends_at_the_timeout() {
        on_both(async || {
            let listener = Listener::bind();
            let mut settings = exporter_settings(listener.port());
            settings.timeout_ns = 50_000_000;
            let outcome = exporter(&settings).attempt(&request()).await;
            retry(&outcome, Problem::Timeout, &["no answer within 50ms", "otlphttp/primary"]);
        });
    }

    #[test]
    fn a_refused_connection_names_exporter_and_endpoint() {
        on_both(async || {
            let port = Listener::bind().port();
            let outcome = exporter(&exporter_settings(port)).attempt(&request()).await;
            let start = format!("exporter otlphttp/primary to 127.0.0.1:{port}: connection refused");
            retry(&outcome, Problem::Connect, &[&start]);
        });
    }

    #[test]
    fn tls_delivers_to_a_trusted_peer() {
        on_both(async || {
            let certificate = Certificate::new(b"http/1.1", None);
            let listener = Listener::bind();
            let mut settings = exporter_settings(listener.port());
            settings.endpoint.host = "localhost".to_owned();
            settings.tls = Some(certificate.trusted());
            let exporter = exporter(&settings);
            spawn(async move {
                let mut stream = certificate.accept(listener.accept().await).await.unwrap();
                read_http1(&mut stream).await;
                write_http1(&mut stream, OK).await;
            });
            assert_eq!(exporter.attempt(&request()).await, Outcome::Delivered);
        });
    }

    #[test]
    fn tls_towards_a_plain_text_peer_names_both_remedies() {
        on_both(async || {
            let listener = Listener::bind();
            let mut settings = exporter_settings(listener.port());
            settings.tls = Some(TlsClientSettings { insecure_skip_verify: true, ..tls_settings() });
            spawn(async move {
                let mut stream = listener.accept().await;
                stream.read_u8().await.unwrap();
                write_http1(&mut stream, "HTTP/1.1 400 Bad Request\r\n\r\n").await;
                stream.read_to_end(&mut Vec::new()).await.ok();
            });
            let outcome = exporter(&settings).attempt(&request()).await;
            retry(&outcome, Problem::Tls, &["answers in plain text", "tls.insecure: true here", "TLS on the peer"]);
        });
    }

    #[test]
    fn plain_text_towards_a_tls_peer_names_both_remedies() {
        on_both(async || {
            let certificate = Certificate::new(b"http/1.1", None);
            let listener = Listener::bind();
            let exporter = exporter(&exporter_settings(listener.port()));
            spawn(async move { assert!(certificate.accept(listener.accept().await).await.is_none()) });
            let outcome = exporter.attempt(&request()).await;
            retry(&outcome, Problem::Tls, &["the peer speaks TLS", "https://", "on the peer"]);
        });
    }

    #[test]
    fn http1_towards_a_grpc_port_names_the_right_port() {
        on_both(async || {
            let listener = Listener::bind();
            let exporter = exporter(&exporter_settings(listener.port()));
            spawn(async move { Script::default().play(listener.accept().await).await });
            retry(&exporter.attempt(&request()).await, Problem::Protocol, &["HTTP/2", "4318"]);
        });
    }
}
