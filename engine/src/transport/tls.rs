//! TLS towards a backend: settings become one checked client configuration, shared by every shard.
//!
//! The one idea: everything that can be wrong with the files is found at start, by the thread that may block, and every
//! error names the file and the remedy; afterwards a shard only opens sessions. The cryptography is aws-lc-rs, passed
//! explicitly: nothing here reads or sets a process-wide default.

use crate::config::checked::{PemSource, TlsClientSettings};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::client::TlsStream;

/// The TLS error that an I/O error of a session stands for.
pub fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Which protocol follows the handshake; offered by ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    /// `h2`.
    Http2,
    /// `http/1.1`.
    Http1,
}

/// A checked TLS client for one backend. Holding one proves: files were read, certificate and key fit, the name to
/// verify is a name. Cloning shares it; it may go to any thread.
#[derive(Clone)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    server_name: ServerName<'static>,
    /// Where trust comes from and who we say we are, for error texts.
    trust: Arc<str>,
    identity: Option<Arc<str>>,
}

impl std::fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsClient")
            .field("server_name", &self.server_name)
            .field("trust", &self.trust)
            .finish_non_exhaustive()
    }
}

impl TlsClient {
    /// Reads and checks everything `settings` names. Blocks on files: called at start, never by a shard.
    ///
    /// `host` is the endpoint's, verified unless `server_name_override` is set. The error names setting, file and
    /// remedy.
    pub fn new(settings: &TlsClientSettings, host: &str, alpn: Alpn) -> Result<TlsClient, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let (roots, trust) = trusted_roots(settings)?;
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("tls: {error}"))?;
        let (builder, trust) = if settings.insecure_skip_verify {
            let verifier = Arc::new(AcceptAnyCertificate { provider });
            let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
            (builder, "nothing is verified (tls.insecure_skip_verify)".to_owned())
        } else {
            (builder.with_root_certificates(roots), trust)
        };
        let (mut config, identity) = match (&settings.cert, &settings.key) {
            (None, None) => (builder.with_no_client_auth(), None),
            (Some(cert), Some(key)) => {
                let chain = certificates(cert, "cert")?;
                let key = private_key(key)?;
                let identity = describe(cert, "cert");
                let config = builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| format!("{identity}: does not fit the key in tls.key_file/key_pem: {error}"))?;
                (config, Some(identity.into()))
            }
            (Some(_), None) => return Err("tls.cert_file needs tls.key_file beside it".to_owned()),
            (None, Some(_)) => return Err("tls.key_file needs tls.cert_file beside it".to_owned()),
        };
        config.alpn_protocols = match alpn {
            Alpn::Http2 => vec![b"h2".to_vec()],
            Alpn::Http1 => vec![b"http/1.1".to_vec()],
        };
        let name = settings.server_name.as_deref().unwrap_or(host);
        let server_name = ServerName::try_from(name.to_owned()).map_err(|_| {
            format!("{name:?} is no name a certificate can carry; set tls.server_name_override to the one it has")
        })?;
        Ok(TlsClient { config: Arc::new(config), server_name, trust: trust.into(), identity })
    }

    /// Opens a session over a connected stream.
    pub async fn handshake<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.config));
        connector.connect(self.server_name.clone(), stream).await
    }

    /// What `error` means for the operator: what was found, and what to change.
    pub fn explain(&self, error: &rustls::Error) -> String {
        match error {
            rustls::Error::InvalidCertificate(error) => self.explain_certificate(error),
            rustls::Error::AlertReceived(alert) => self.explain_alert(*alert),
            other => format!("TLS failed: {other}"),
        }
    }

    fn explain_certificate(&self, error: &CertificateError) -> String {
        let name = self.server_name.to_str();
        match error {
            // A bad signature is what another authority of the same name makes, as two self-signed ones often are.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
                "the peer's certificate is signed by nobody we trust ({}); set tls.ca_file to the certificate of the \
                 authority that signed it",
                self.trust
            ),
            CertificateError::NotValidForName => {
                format!("the peer's certificate is not for {name}; set tls.server_name_override to its name")
            }
            CertificateError::NotValidForNameContext { presented, .. } => {
                let mut names = String::new();
                for presented in presented.iter().take(5) {
                    write!(names, "{}{presented}", if names.is_empty() { "" } else { ", " })
                        .expect("a String takes every write");
                }
                format!(
                    "the peer's certificate is for {names}, not for {name}; correct the endpoint or set \
                     tls.server_name_override"
                )
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                format!("the certificate of {name} has expired; renew it on the peer, or check this machine's clock")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                format!("the certificate of {name} is not valid yet; check the clocks of both machines")
            }
            other => format!("the certificate of {name} is not accepted: {other}"),
        }
    }

    fn explain_alert(&self, alert: AlertDescription) -> String {
        match (alert, &self.identity) {
            (AlertDescription::CertificateRequired, None) | (AlertDescription::HandshakeFailure, None) => format!(
                "the peer refused the TLS handshake ({alert:?}); if it wants client certificates, set tls.cert_file \
                 and tls.key_file"
            ),
            (
                AlertDescription::BadCertificate
                | AlertDescription::UnknownCA
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateRequired
                | AlertDescription::DecryptError
                | AlertDescription::AccessDenied,
                Some(identity),
            ) => format!(
                "the peer refused our client certificate ({alert:?}), {identity}; give it one signed by an authority \
                 that the peer trusts"
            ),
            (AlertDescription::NoApplicationProtocol, _) => "the peer speaks TLS, but not the HTTP version that this \
                 exporter needs; is the endpoint the right port?"
                .to_owned(),
            (AlertDescription::UnrecognisedName, _) => {
                format!("the peer has no certificate for {}; set tls.server_name_override", self.server_name.to_str())
            }
            (other, _) => format!("the peer ended the TLS handshake: {other:?}"),
        }
    }
}

/// The trusted roots, and where they come from in words.
fn trusted_roots(settings: &TlsClientSettings) -> Result<(RootCertStore, String), String> {
    let mut roots = RootCertStore::empty();
    let mut trust = String::new();
    if let Some(ca) = &settings.ca {
        for certificate in certificates(ca, "ca")? {
            roots
                .add(certificate)
                .map_err(|error| format!("{}: not a usable certificate: {error}", describe(ca, "ca")))?;
        }
        trust = describe(ca, "ca");
    }
    let with_system = settings.ca.is_none() || settings.include_system_roots;
    if with_system && !settings.insecure_skip_verify {
        let found = rustls_native_certs::load_native_certs();
        let (added, _unusable) = roots.add_parsable_certificates(found.certs);
        if added == 0 && settings.ca.is_none() {
            let reason = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
            return Err(format!(
                "tls: this machine has no trusted certificates{reason}; install ca-certificates or set tls.ca_file"
            ));
        }
        let separator = if trust.is_empty() { "" } else { " and " };
        write!(trust, "{separator}{added} certificates of this machine").expect("a String takes every write");
    }
    Ok((roots, trust))
}

/// `tls.ca_file FILE` or `tls.ca_pem`.
fn describe(source: &PemSource, setting: &str) -> String {
    match source {
        PemSource::File(path) => format!("tls.{setting}_file {}", path.display()),
        PemSource::Inline(_) => format!("tls.{setting}_pem"),
    }
}

fn pem_text(source: &PemSource, setting: &str) -> Result<Vec<u8>, String> {
    match source {
        PemSource::Inline(text) => Ok(text.clone().into_bytes()),
        PemSource::File(path) => std::fs::read(path).map_err(|error| {
            format!("{}: cannot be read: {error}; correct the path or its permissions", describe(source, setting))
        }),
    }
}

fn certificates(source: &PemSource, setting: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = pem_text(source, setting)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| {
        format!("{}: is not PEM: {error}; export the certificate as PEM", describe(source, setting))
    })?;
    if found.is_empty() {
        let place = describe(source, setting);
        return Err(format!("{place}: holds no certificate (no BEGIN CERTIFICATE line)"));
    }
    Ok(found)
}

fn private_key(source: &PemSource) -> Result<PrivateKeyDer<'static>, String> {
    let text = pem_text(source, "key")?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        format!(
            "{}: holds no private key that can be used: {error}; give it unencrypted in PEM",
            describe(source, "key")
        )
    })
}

/// `insecure_skip_verify`: the peer may be anybody, but must own the key of the certificate it shows.
#[derive(Debug)]
struct AcceptAnyCertificate {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AcceptAnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn settings() -> TlsClientSettings {
        TlsClientSettings {
            ca: None,
            include_system_roots: false,
            cert: None,
            key: None,
            insecure_skip_verify: false,
            server_name: None,
        }
    }

    fn check_error(settings: TlsClientSettings, expected: &[&str]) {
        let error = TlsClient::new(&settings, "backend", Alpn::Http2).unwrap_err();
        for part in expected {
            assert!(error.contains(part), "{error:?} should contain {part:?}");
        }
    }

    fn inline(text: &str) -> Option<PemSource> {
        Some(PemSource::Inline(text.to_owned()))
    }

    #[test]
    fn a_missing_file_is_named_with_its_setting() {
        let ca = Some(PemSource::File(PathBuf::from("/nowhere/ca.pem")));
        check_error(TlsClientSettings { ca, ..settings() }, &["tls.ca_file /nowhere/ca.pem", "No such file"]);
    }

    #[test]
    fn a_file_without_a_certificate_says_what_it_lacks() {
        check_error(TlsClientSettings { ca: inline("hello"), ..settings() }, &["tls.ca_pem", "BEGIN CERTIFICATE"]);
    }

    #[test]
    fn a_broken_certificate_is_an_error_not_an_empty_trust() {
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        check_error(TlsClientSettings { ca: inline(broken), ..settings() }, &["tls.ca_pem", "certificate"]);
    }

    #[test]
    fn certificate_and_key_come_together() {
        let own = rcgen::generate_simple_self_signed(["backend".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap();
        let base = TlsClientSettings { ca: inline(&own.cert.pem()), ..settings() };
        let cert = inline(&own.cert.pem());
        check_error(TlsClientSettings { cert: cert.clone(), ..base.clone() }, &["tls.key_file"]);
        let key = inline(&other.signing_key.serialize_pem());
        check_error(TlsClientSettings { cert: cert.clone(), key, ..base.clone() }, &["tls.cert_pem", "fit"]);
        let key = inline(&own.signing_key.serialize_pem());
        TlsClient::new(&TlsClientSettings { cert, key, ..base }, "backend", Alpn::Http2).unwrap();
    }

    #[test]
    fn a_name_that_no_certificate_can_carry_is_found_at_start() {
        let own = rcgen::generate_simple_self_signed(["backend".to_owned()]).unwrap();
        let server_name = Some("not a name".to_owned());
        check_error(
            TlsClientSettings { ca: inline(&own.cert.pem()), server_name, ..settings() },
            &["not a name", "server_name_override"],
        );
    }
}
