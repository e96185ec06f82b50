//! The `otlp` exporter: whole requests over gRPC.
//!
//! Settings plus one client per shard. Owns no queue and no retry: it makes one attempt and says what became of it.

use super::outcome::{self, Outcome};
use super::{EncodedRequest, check_duration};
use crate::config::checked::{ComponentId, OtlpExporterSettings};
use crate::transport::client::PeerSettings;
use crate::transport::client::grpc::GrpcClient;
use crate::transport::client::host_and_port;
use crate::transport::tls::{Alpn, TlsClient};

/// The one method of this signal (opentelemetry-proto, collector/trace/v1).
const TRACES_METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// An `otlp` exporter on one shard.
#[derive(Debug)]
pub struct OtlpExporter {
    client: GrpcClient,
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
        tls: Option<TlsClient>,
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
            timeout: check_duration(settings.timeout_ns),
            first_address: shard,
        };
        let client = GrpcClient::new(&peer).map_err(|error| format!("{sender}: {error}"))?;
        Ok(OtlpExporter { client, peer: format!("{sender} to {}", host_and_port(&settings.endpoint)) })
    }

    /// Begins to connect, so that a wrong endpoint shows before the first request.
    pub fn connect(&self) {
        self.client.connect();
    }

    /// Sends the request once.
    pub async fn attempt(&self, request: &EncodedRequest) -> Outcome {
        match self.client.call(TRACES_METHOD, request.body.clone(), request.compression).await {
            Ok(answer) => outcome::from_grpc(&self.peer, &answer.status, &answer.message),
            Err(error) => outcome::from_client_error(error),
        }
    }

    /// Finishes the attempts under way and closes the connection.
    pub async fn close(&self) {
        self.client.close().await;
    }
}
