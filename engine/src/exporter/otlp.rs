//! The `otlp` exporter: whole requests over gRPC.
//!
//! Settings plus one client per shard. Owns no queue and no retry: it makes one attempt and says what became of it.

use super::outcome::{self, Outcome};
use super::{EncodedRequest, check_duration};
use crate::auth::backend::BackendHeaders;
use crate::config::checked::{ComponentId, OtlpExporterSettings};
use crate::transport::client::PeerSettings;
use crate::transport::client::grpc::GrpcClient;
use crate::transport::client::host_and_port;
use crate::transport::tls::{Alpn, TlsClient};
use codecs::otlp::Signal;

/// An `otlp` exporter on one shard.
#[derive(Debug)]
pub struct OtlpExporter {
    client: GrpcClient,
    /// What it calls.
    method: &'static str,
    /// What the backend is shown with each request.
    shown: Option<BackendHeaders>,
    /// Who answers whom, for errors.
    peer: String,
}

impl OtlpExporter {
    /// Reads certificates and keys. Blocks: called once per exporter, at start. Errors name the exporter and the file.
    pub fn tls(id: &ComponentId, settings: &OtlpExporterSettings) -> Result<Option<TlsClient>, String> {
        let Some(tls) = &settings.tls else { return Ok(None) };
        let client = TlsClient::new(tls, &settings.endpoint.host, Alpn::Http2);
        client.map(Some).map_err(|error| format!("exporter {id}: {error}"))
    }

    /// `tls` is what [`OtlpExporter::tls`] made, shared by all shards.
    pub fn new(
        id: &ComponentId,
        settings: &OtlpExporterSettings,
        signal: Signal,
        tls: Option<TlsClient>,
        shown: Option<BackendHeaders>,
        shard: usize,
    ) -> Result<OtlpExporter, String> {
        let sender = format!("exporter {id}");
        // As gRPC does: a server behind a name override is also addressed by that name.
        let authority = settings.tls.as_ref().and_then(|tls| tls.server_name.clone());
        let peer = PeerSettings {
            sender: sender.clone(),
            endpoint: settings.endpoint.clone(),
            tls,
            authority,
            headers: settings.headers.clone(),
            proxy: settings.proxy.clone(),
            timeout: check_duration(settings.timeout_ns),
            first_address: shard,
            names: settings.names,
        };
        let client = GrpcClient::new(&peer).map_err(|error| format!("{sender}: {error}"))?;
        let peer = format!("{sender} to {}", host_and_port(&settings.endpoint));
        Ok(OtlpExporter { client, method: signal.grpc_method(), shown, peer })
    }

    /// Begins to connect, so that a wrong endpoint shows before the first request.
    pub fn connect(&self) {
        self.client.connect();
    }

    /// Sends the request once.
    pub async fn attempt(&self, request: &EncodedRequest) -> Outcome {
        let headers = match outcome::headers(&self.peer, self.client.headers(), self.shown.as_ref(), request) {
            Ok(headers) => headers,
            Err(never) => return never,
        };
        match self.client.call(self.method, request.body.clone(), request.compression, headers).await {
            Ok(answer) => outcome::from_grpc(&self.peer, &answer.status, &answer.message),
            Err(error) => outcome::from_client_error(error),
        }
    }

    /// Finishes the attempts under way and closes the connection.
    pub async fn close(&self) {
        self.client.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::outcome::ErrorWord;
    use super::*;
    use crate::config::checked::{PemSource, TlsClientSettings};
    use crate::shard::runtime::{Stream, spawn};
    use crate::transport::client::Problem;
    use crate::transport::client::test_peers::*;
    use codecs::compression::Compression;
    use codecs::grpc::{Code, Status};
    use codecs::otlp::{PartialSuccess, write_response};
    use std::rc::Rc;
    use std::time::Duration;
    use tokio::io::AsyncReadExt;

    fn exporter(settings: &OtlpExporterSettings) -> OtlpExporter {
        let tls = OtlpExporter::tls(&id("otlp"), settings).unwrap();
        OtlpExporter::new(&id("otlp"), settings, Signal::Traces, tls, None, 0).unwrap()
    }

    fn request() -> EncodedRequest {
        EncodedRequest { body: framed(b"spans"), compression: Compression::None, items: 1, client: None }
    }

    /// A peer that plays `script` on every connection it gets.
    fn listen(script: &Script) -> u16 {
        let listener = Listener::bind();
        let port = listener.port();
        let script = script.clone();
        spawn(async move {
            loop {
                let stream = listener.accept().await;
                let script = script.clone();
                spawn(async move { script.play(stream).await });
            }
        });
        port
    }

    /// What one attempt makes of one reply.
    fn check(reply: Reply, expected: impl Fn(Outcome) + Clone + 'static) {
        on_both(async move || {
            let port = listen(&Script::new([reply.clone()]));
            expected(exporter(&exporter_settings(port)).attempt(&request()).await);
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
    fn a_request_carries_what_a_grpc_server_expects() {
        on_both(async || {
            let script = Script::new([Reply::Ok(vec![])]);
            let mut settings = exporter_settings(listen(&script));
            settings.timeout_ns = 5_000_000_000;
            settings.headers =
                vec![("X-Tenant".to_owned(), "shop".to_owned()), ("content-type".to_owned(), "text/plain".to_owned())];
            let request = EncodedRequest { compression: Compression::Gzip, ..request() };
            assert_eq!(exporter(&settings).attempt(&request).await, Outcome::Delivered);
            let asked = script.asked.borrow();
            let head = &asked[0].head;
            let header = |name| head.headers.get(name).map(|value| value.to_str().unwrap());
            assert_eq!(head.uri.path(), "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
            assert_eq!(head.uri.authority().unwrap().as_str(), format!("127.0.0.1:{}", settings.endpoint.port));
            assert_eq!(head.method, "POST");
            assert_eq!(header("content-type"), Some("application/grpc"));
            assert_eq!(header("te"), Some("trailers"));
            assert_eq!(header("grpc-timeout"), Some("5000m"));
            assert_eq!(header("grpc-encoding"), Some("gzip"));
            assert_eq!(header("x-tenant"), Some("shop"));
            assert!(header("user-agent").unwrap().starts_with("Tracegate/"));
            assert_eq!(asked[0].body, &request.body[..]);
        });
    }

    #[test]
    fn a_status_counts_in_trailers_and_in_a_trailers_only_answer() {
        for reply in [Reply::Trailers, Reply::TrailersOnly] {
            let mut busy = Status::new(Code::Unavailable, "not now, 100 % busy");
            busy.retry_delay = Some(Duration::from_secs(7));
            check(reply(busy), |outcome| {
                let Outcome::Retry { after, message, .. } = outcome else { panic!("{outcome:?}") };
                assert_eq!(after, Some(Duration::from_secs(7)));
                assert!(message.starts_with("exporter otlp/primary to 127.0.0.1:"), "{message}");
                assert!(message.ends_with("the peer answers UNAVAILABLE: not now, 100 % busy"), "{message}");
            });
            check(reply(Status::new(Code::InvalidArgument, "bad span")), |outcome| {
                assert!(matches!(outcome, Outcome::Permanent { .. }), "{outcome:?}");
            });
        }
    }

    #[test]
    fn a_partial_success_is_read() {
        let mut message = Vec::new();
        write_response(&PartialSuccess { rejected_items: 2, error_message: "old".to_owned() }, &mut message);
        check(Reply::Ok(message), |outcome| {
            assert_eq!(outcome, Outcome::PartiallyRejected { rejected: 2, message: "old".to_owned() });
        });
    }

    #[test]
    fn a_proxys_answer_is_judged_by_its_http_status() {
        check(Reply::Http(503, "<b>no backend</b>"), |outcome| {
            let Outcome::Retry { message, .. } = outcome else { panic!("{outcome:?}") };
            assert!(message.contains("HTTP status 503 <b>no backend</b>"), "{message}");
        });
        check(Reply::Http(404, "nothing here"), |outcome| {
            assert!(matches!(outcome, Outcome::Permanent { reason: ErrorWord::Grpc(Code::Unimplemented), .. }));
        });
    }

    #[test]
    fn a_reset_stream_says_nothing_about_the_data_and_is_retried() {
        for reason in [h2::Reason::CANCEL, h2::Reason::INTERNAL_ERROR, h2::Reason::ENHANCE_YOUR_CALM] {
            check(Reply::Reset(reason), |outcome| retry(&outcome, Problem::ConnectionLost, &["connection lost"]));
        }
    }

    #[test]
    fn a_connection_lost_during_a_request_is_retried_and_the_next_attempt_reconnects() {
        on_both(async || {
            let script = Script::new([Reply::Ok(vec![]), Reply::Drop, Reply::Ok(vec![])]);
            let exporter = exporter(&exporter_settings(listen(&script)));
            assert_eq!(exporter.attempt(&request()).await, Outcome::Delivered);
            retry(&exporter.attempt(&request()).await, Problem::ConnectionLost, &["otlp/primary"]);
            assert_eq!(exporter.attempt(&request()).await, Outcome::Delivered);
        });
    }

    #[test]
    fn a_goaway_moves_calls_to_a_new_connection_without_a_failure() {
        on_both(async || {
            let script = Script::new([Reply::OkThenGoAway, Reply::Ok(vec![]), Reply::OkThenGoAway, Reply::Ok(vec![])]);
            let exporter = exporter(&exporter_settings(listen(&script)));
            for _ in 0..4 {
                assert_eq!(exporter.attempt(&request()).await, Outcome::Delivered);
            }
        });
    }

    #[test]
    fn a_stream_the_peer_refused_unseen_is_sent_once_more() {
        on_both(async || {
            let refused = || Reply::Reset(h2::Reason::REFUSED_STREAM);
            let script = Script::new([refused(), Reply::Ok(vec![]), refused(), refused()]);
            let exporter = exporter(&exporter_settings(listen(&script)));
            assert_eq!(exporter.attempt(&request()).await, Outcome::Delivered);
            retry(&exporter.attempt(&request()).await, Problem::ConnectionLost, &["refused"]);
        });
    }

    #[test]
    fn attempts_share_one_connection_and_large_bodies_pass_small_windows() {
        on_both(async || {
            let script = Script::new(vec![Reply::Ok(vec![]); 20]);
            let listener = Listener::bind();
            let exporter = Rc::new(exporter(&exporter_settings(listener.port())));
            let playing = script.clone();
            // Only one connection is ever accepted: a second one would leave its attempts without an answer.
            spawn(async move { playing.play(listener.accept().await).await });
            let (done, mut finished) = tokio::sync::mpsc::channel(20);
            for number in 0..20 {
                let (exporter, done) = (Rc::clone(&exporter), done.clone());
                spawn(async move {
                    let body = framed(&vec![number; 300_000]);
                    let request = EncodedRequest { body, compression: Compression::None, items: 1, client: None };
                    done.send(exporter.attempt(&request).await).await.unwrap();
                });
            }
            for _ in 0..20 {
                assert_eq!(finished.recv().await, Some(Outcome::Delivered));
            }
            let mut bodies: Vec<u8> = script.asked.borrow().iter().map(|asked| *asked.body.last().unwrap()).collect();
            bodies.sort_unstable();
            assert_eq!(bodies, (0..20).collect::<Vec<u8>>());
            assert!(script.asked.borrow().iter().all(|asked| asked.body.len() == 300_005));
        });
    }

    #[test]
    fn an_attempt_without_an_answer_ends_at_the_timeout_and_leaves_the_connection_usable() {
        on_both(async || {
            let script = Script::new([Reply::Ok(vec![]), Reply::Hang, Reply::Ok(vec![])]);
            let listener = Listener::bind();
            let mut settings = exporter_settings(listener.port());
            settings.timeout_ns = 300_000_000;
            let exporter = exporter(&settings);
            spawn(async move { script.play(listener.accept().await).await });
            assert_eq!(exporter.attempt(&request()).await, Outcome::Delivered);
            retry(&exporter.attempt(&request()).await, Problem::Timeout, &["no answer within 300ms"]);
            assert_eq!(exporter.attempt(&request()).await, Outcome::Delivered);
        });
    }

    #[test]
    fn a_peer_that_vanished_without_a_word_is_left_behind() {
        on_both(async || {
            let listener = Listener::bind();
            let mut settings = exporter_settings(listener.port());
            settings.timeout_ns = 50_000_000;
            let exporter = exporter(&settings);
            let script = Script::new([Reply::Ok(vec![])]);
            spawn(async move {
                // The first connection is accepted and then neither read nor closed.
                let silent = listener.accept().await;
                script.play(listener.accept().await).await;
                drop(silent);
            });
            retry(&exporter.attempt(&request()).await, Problem::Timeout, &[]);
            while exporter.attempt(&request()).await != Outcome::Delivered {}
        });
    }

    #[test]
    fn a_refused_connection_names_exporter_and_endpoint_and_rests_before_the_next() {
        on_both(async || {
            let port = Listener::bind().port();
            let exporter = exporter(&exporter_settings(port));
            let first = exporter.attempt(&request()).await;
            let start = format!("exporter otlp/primary to 127.0.0.1:{port}: connection refused: nothing listens there");
            retry(&first, Problem::Connect, &[&start]);
            assert_eq!(exporter.attempt(&request()).await, first);
        });
    }

    #[test]
    fn a_name_that_does_not_resolve_is_named() {
        on_both(async || {
            let mut settings = exporter_settings(4317);
            // No label of a name is that long: no server needs to be asked.
            settings.endpoint.host = "x".repeat(64);
            let outcome = exporter(&settings).attempt(&request()).await;
            let text = format!("the name {} cannot be resolved", settings.endpoint.host);
            retry(&outcome, Problem::Resolve, &[&text, "correct the endpoint"]);
        });
    }

    #[test]
    fn a_closed_exporter_finishes_what_is_under_way_and_takes_nothing_more() {
        on_both(async || {
            let script = Script::new([Reply::Ok(vec![])]);
            let exporter = Rc::new(exporter(&exporter_settings(listen(&script))));
            let (done, finished) = tokio::sync::oneshot::channel();
            let sending = Rc::clone(&exporter);
            spawn(async move { done.send(sending.attempt(&request()).await).unwrap() });
            while script.asked.borrow().is_empty() {
                crate::shard::runtime::yield_now().await;
            }
            exporter.close().await;
            assert_eq!(finished.await, Ok(Outcome::Delivered));
            retry(&exporter.attempt(&request()).await, Problem::Closed, &["shut down"]);
        });
    }

    /// An exporter with TLS `settings` (made from the server's certificate) against a TLS peer.
    fn check_tls(settings: fn(&Certificate) -> TlsClientSettings, expected: fn(Outcome)) {
        on_both(async move || {
            let certificate = Certificate::new(b"h2", None);
            let listener = Listener::bind();
            let mut exporting = exporter_settings(listener.port());
            exporting.endpoint.host = "localhost".to_owned();
            exporting.tls = Some(settings(&certificate));
            spawn(async move {
                if let Some(stream) = certificate.accept(listener.accept().await).await {
                    Script::new([Reply::Ok(vec![])]).play(stream).await;
                }
            });
            expected(exporter(&exporting).attempt(&request()).await);
        });
    }

    #[test]
    fn tls_delivers_to_a_trusted_peer() {
        check_tls(Certificate::trusted, |outcome| assert_eq!(outcome, Outcome::Delivered));
    }

    #[test]
    fn skipping_verification_delivers_to_anybody() {
        check_tls(
            |_| TlsClientSettings { insecure_skip_verify: true, ..tls_settings() },
            |outcome| assert_eq!(outcome, Outcome::Delivered),
        );
    }

    #[test]
    fn an_unknown_authority_is_named_with_the_remedy() {
        check_tls(
            |_| Certificate::new(b"h2", None).trusted(),
            |outcome| retry(&outcome, Problem::Tls, &["signed by nobody we trust", "tls.ca_pem", "tls.ca_file"]),
        );
    }

    #[test]
    fn a_certificate_for_another_name_shows_both_names() {
        check_tls(
            |certificate| TlsClientSettings { server_name: Some("backend".to_owned()), ..certificate.trusted() },
            |outcome| {
                retry(&outcome, Problem::Tls, &["is for", "localhost", "not for backend", "server_name_override"])
            },
        );
    }

    #[test]
    fn a_peer_that_wants_client_certificates_is_understood() {
        on_both(async || {
            let authority = Certificate::new(b"h2", None);
            let certificate = Certificate::new(b"h2", Some(&authority));
            let listener = Listener::bind();
            let mut settings = exporter_settings(listener.port());
            settings.endpoint.host = "localhost".to_owned();
            settings.tls = Some(certificate.trusted());
            spawn(async move { assert!(certificate.accept(listener.accept().await).await.is_none()) });
            let outcome = exporter(&settings).attempt(&request()).await;
            retry(&outcome, Problem::Tls, &["client certificates", "tls.cert_file"]);
        });
    }

    #[test]
    fn tls_towards_a_plain_text_peer_names_both_remedies() {
        on_both(async || {
            let mut settings = exporter_settings(listen(&Script::default()));
            settings.tls = Some(TlsClientSettings { insecure_skip_verify: true, ..tls_settings() });
            let outcome = exporter(&settings).attempt(&request()).await;
            retry(&outcome, Problem::Tls, &["answers in plain text", "tls.insecure: true here", "TLS on the peer"]);
        });
    }

    #[test]
    fn tls_towards_a_peer_that_just_closes_names_both_remedies() {
        on_both(async || {
            let listener = Listener::bind();
            let mut settings = exporter_settings(listener.port());
            settings.tls = Some(TlsClientSettings { insecure_skip_verify: true, ..tls_settings() });
            spawn(async move {
                let mut stream: Stream = listener.accept().await;
                stream.read_u8().await.unwrap();
            });
            let outcome = exporter(&settings).attempt(&request()).await;
            retry(&outcome, Problem::Tls, &["tls.insecure: true here", "TLS on the peer"]);
        });
    }

    #[test]
    fn plain_text_towards_a_tls_peer_names_both_remedies() {
        on_both(async || {
            let certificate = Certificate::new(b"h2", None);
            let listener = Listener::bind();
            let exporter = exporter(&exporter_settings(listener.port()));
            spawn(async move { assert!(certificate.accept(listener.accept().await).await.is_none()) });
            let outcome = exporter.attempt(&request()).await;
            retry(&outcome, Problem::Tls, &["the peer speaks TLS", "tls.insecure: true here", "on the peer"]);
        });
    }

    #[test]
    fn grpc_towards_an_http1_port_names_the_right_port() {
        on_both(async || {
            let listener = Listener::bind();
            let exporter = exporter(&exporter_settings(listener.port()));
            spawn(async move {
                let mut stream = listener.accept().await;
                stream.read_u8().await.unwrap();
                write_http1(&mut stream, "HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").await;
                // Closing with bytes unread would reset the connection, and the answer with it.
                stream.read_to_end(&mut Vec::new()).await.ok();
            });
            retry(&exporter.attempt(&request()).await, Problem::Protocol, &["HTTP/1.1", "4317", "otlphttp"]);
        });
    }

    #[test]
    fn files_that_cannot_be_read_name_exporter_and_file() {
        let mut settings = exporter_settings(4317);
        let ca = Some(PemSource::File("/nowhere/ca.pem".into()));
        settings.tls = Some(TlsClientSettings { ca, ..tls_settings() });
        let error = OtlpExporter::tls(&id("otlp"), &settings).unwrap_err();
        assert!(error.starts_with("exporter otlp/primary: tls.ca_file /nowhere/ca.pem"), "{error}");
    }

    #[test]
    fn a_header_that_cannot_be_sent_is_found_at_start() {
        let mut settings = exporter_settings(4317);
        settings.headers = vec![("two words".to_owned(), "x".to_owned())];
        let error = OtlpExporter::new(&id("otlp"), &settings, Signal::Traces, None, None, 0).unwrap_err();
        assert!(error.contains("\"two words\" is not a header name"), "{error}");
    }
}
