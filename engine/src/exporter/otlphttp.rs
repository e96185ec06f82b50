//! The `otlphttp` exporter: whole requests over HTTP/1.1.
//!
//! Settings plus one client per shard. Owns no queue and no retry: it makes one attempt and says what became of it.

use super::outcome::{self, HttpAnswer, Outcome};
use super::{EncodedRequest, check_duration};
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
            timeout: check_duration(settings.timeout_ns),
            first_address: shard,
        };
        let client =
            HttpClient::new(&peer, &settings.traces_path).map_err(|error| format!("{sender}: {error}"))?;
        let url = format!("{scheme}://{}{}", host_and_port(&settings.endpoint), settings.traces_path);
        Ok(OtlpHttpExporter { client, peer: format!("{sender} to {url}") })
    }

    /// Sends the request once.
    pub async fn attempt(&self, request: &EncodedRequest) -> Outcome {
        // The bytes are shared with gRPC exporters; HTTP has no use for their prefix.
        let message = request.body.slice(grpc::PREFIX_BYTES..);
        match self.client.post(message, request.compression).await {
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
