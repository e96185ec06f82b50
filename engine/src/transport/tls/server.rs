//! TLS towards senders: certificate, key and, with `client_ca_file`, who may connect at all.
//!
//! A sender whose certificate the authority did not sign never reaches a protocol. Resumed sessions cannot outlive a
//! change of the files: tickets belong to the configuration that gave them out, and a new one knows none.

use super::Alpn;
use super::material::{self, Sources, Texts};
use super::reload::{Current, Look};
use crate::config::checked::{TlsPolicy, TlsServerSettings};
use rustls::ServerConfig;
use rustls::server::{Acceptor, WebPkiClientVerifier};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

/// A checked TLS server. Holding one proves: files were read, certificate and key fit. Cloning shares it; it may go to
/// any thread.
#[derive(Clone)]
pub struct TlsServer {
    current: Current<ServerConfig>,
    demands_certificates: bool,
}

impl std::fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsServer").field("demands_certificates", &self.demands_certificates).finish_non_exhaustive()
    }
}

/// How a handshake ended.
pub type Accepted<S> = Result<Box<TlsStream<S>>, (io::Error, Option<S>)>;

impl TlsServer {
    /// Reads and checks everything `settings` names. Blocks on files: called at start, never by a shard. The error names
    /// setting, file and remedy.
    pub fn new(settings: &TlsServerSettings, alpn: Alpn) -> Result<TlsServer, String> {
        let sources = Sources {
            authority: settings.client_ca.clone().map(|source| ("client_ca", source)),
            certificate: Some(settings.cert.clone()),
            key: Some(settings.key.clone()),
        };
        let policy = settings.policy.clone();
        let build = move |texts: &Texts| build(texts, &policy, alpn);
        let current = Current::new(sources, settings.policy.reload_interval_ns, build)?;
        Ok(TlsServer { current, demands_certificates: settings.client_ca.is_some() })
    }

    /// Whether a sender must show a certificate.
    pub fn demands_certificates(&self) -> bool {
        self.demands_certificates
    }

    /// Opens a session over an accepted stream. When that fails the stream comes back, so that the peer can be given the
    /// time to read why. Has no time limit of its own.
    pub async fn accept<S>(&self, stream: S) -> Accepted<S>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // What rustls needs for a session is allocated once the peer has said hello, with what is in force by then.
        let mut acceptor = LazyConfigAcceptor::new(Acceptor::default(), stream);
        let hello = match (&mut acceptor).await {
            Ok(hello) => hello,
            Err(error) => return Err((error, acceptor.take_io())),
        };
        let handshake = hello.into_stream(self.current.value()).into_fallible();
        handshake.await.map(Box::new).map_err(|(error, stream)| (error, Some(stream)))
    }

    pub(super) fn look_every(&self) -> Option<Duration> {
        self.current.look_every()
    }

    pub(super) fn look(&self) -> Look {
        self.current.look()
    }
}

fn build(texts: &Texts, policy: &TlsPolicy, alpn: Alpn) -> Result<ServerConfig, String> {
    let cryptography = material::cryptography(policy);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&cryptography))
        .with_protocol_versions(&material::versions(policy))
        .map_err(|error| format!("tls: {error}; widen min_version, max_version or cipher_suites"))?;
    let builder = match &texts.authority {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let roots = Arc::new(authority.authorities()?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, cryptography).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| format!("{}: {error}", authority.place))?)
        }
    };
    let certificate = texts.certificate.as_ref().expect("the settings have one");
    let key = texts.key.as_ref().expect("the settings have one");
    let mut config = builder.with_single_cert(certificate.certificates()?, key.private_key()?).map_err(|error| {
        let (certificate, key) = (&certificate.place, &key.place);
        format!("{certificate}: does not fit {key}: {error}; give the key that the certificate was made for")
    })?;
    config.alpn_protocols = alpn.names();
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::checked::PemSource;

    fn settings(own: &rcgen::CertifiedKey<rcgen::KeyPair>) -> TlsServerSettings {
        TlsServerSettings {
            cert: PemSource::Inline(own.cert.pem()),
            key: PemSource::Inline(own.signing_key.serialize_pem()),
            client_ca: None,
            policy: TlsPolicy::default(),
        }
    }

    fn check_error(settings: &TlsServerSettings, expected: &[&str]) {
        let error = TlsServer::new(settings, Alpn::Http2).unwrap_err();
        for part in expected {
            assert!(error.contains(part), "{error:?} should contain {part:?}");
        }
    }

    #[test]
    fn what_cannot_be_served_is_found_at_start_with_its_setting() {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let good = settings(&own);
        assert!(!TlsServer::new(&good, Alpn::Http2).unwrap().demands_certificates());
        let inline = |text: &str| PemSource::Inline(text.to_owned());
        check_error(&TlsServerSettings { cert: inline("no"), ..good.clone() }, &["tls.cert_pem", "BEGIN CERTIFICATE"]);
        check_error(&TlsServerSettings { key: inline("no"), ..good.clone() }, &["tls.key_pem", "private key"]);
        let key = inline(&other.signing_key.serialize_pem());
        check_error(&TlsServerSettings { key, ..good.clone() }, &["tls.cert_pem", "does not fit tls.key_pem"]);
        let nowhere = PemSource::File("/nowhere/ca.crt".into());
        let client_ca = Some(nowhere);
        check_error(&TlsServerSettings { client_ca, ..good.clone() }, &["tls.client_ca_file /nowhere/ca.crt", "read"]);
        let client_ca = Some(inline(""));
        check_error(&TlsServerSettings { client_ca, ..good }, &["tls.client_ca_pem", "no certificate"]);
    }
}
