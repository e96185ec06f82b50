//! TLS towards a backend: whom we trust, who we say we are, and what an error of a session means.

use super::Alpn;
use super::material::{self, Sources, Texts};
use super::reload::{Current, Look};
use crate::config::checked::TlsClientSettings;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::client::TlsStream;

/// A checked TLS client for one backend. Holding one proves: files were read, certificate and key fit, the name to
/// verify is a name. Cloning shares it; it may go to any thread.
#[derive(Clone)]
pub struct TlsClient {
    current: Current<Session>,
    server_name: ServerName<'static>,
}

/// What sessions are opened with.
struct Session {
    config: Arc<ClientConfig>,
    /// Where trust comes from and who we say we are, for error texts.
    trust: String,
    identity: Option<String>,
}

impl std::fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsClient")
            .field("server_name", &self.server_name)
            .field("trust", &self.current.value().trust)
            .finish_non_exhaustive()
    }
}

impl TlsClient {
    /// Reads and checks everything `settings` names. Blocks on files: called at start, never by a shard.
    ///
    /// `host` is the endpoint's, verified unless `server_name_override` is set. The error names setting, file and
    /// remedy.
    pub fn new(settings: &TlsClientSettings, host: &str, alpn: Alpn) -> Result<TlsClient, String> {
        match (&settings.cert, &settings.key) {
            (Some(_), None) => return Err("tls.cert_file needs tls.key_file beside it".to_owned()),
            (None, Some(_)) => return Err("tls.key_file needs tls.cert_file beside it".to_owned()),
            (None, None) | (Some(_), Some(_)) => {}
        }
        let name = settings.server_name.as_deref().unwrap_or(host);
        let server_name = ServerName::try_from(name.to_owned()).map_err(|_| {
            format!("{name:?} is no name a certificate can carry; set tls.server_name_override to the one it has")
        })?;
        let sources = Sources {
            authority: settings.ca.clone().map(|source| ("ca", source)),
            certificate: settings.cert.clone(),
            key: settings.key.clone(),
        };
        let interval_ns = settings.policy.reload_interval_ns;
        let settings = settings.clone();
        let current = Current::new(sources, interval_ns, move |texts| build(texts, &settings, alpn))?;
        Ok(TlsClient { current, server_name })
    }

    /// Opens a session over a connected stream.
    pub async fn handshake<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.current.value().config));
        connector.connect(self.server_name.clone(), stream).await
    }

    pub(super) fn look_every(&self) -> Option<Duration> {
        self.current.look_every()
    }

    pub(super) fn look(&self) -> Look {
        self.current.look()
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
                self.current.value().trust
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
        match (alert, &self.current.value().identity) {
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

fn build(texts: &Texts, settings: &TlsClientSettings, alpn: Alpn) -> Result<Session, String> {
    let cryptography = material::cryptography(&settings.policy);
    let builder = ClientConfig::builder_with_provider(Arc::clone(&cryptography))
        .with_protocol_versions(&material::versions(&settings.policy))
        .map_err(|error| format!("tls: {error}; widen min_version, max_version or cipher_suites"))?;
    let (roots, trust) = trusted_roots(texts, settings)?;
    let (builder, trust) = if settings.insecure_skip_verify {
        let verifier = Arc::new(AcceptAnyCertificate { provider: cryptography });
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        (builder, "nothing is verified (tls.insecure_skip_verify)".to_owned())
    } else {
        (builder.with_root_certificates(roots), trust)
    };
    let (mut config, identity) = match (&texts.certificate, &texts.key) {
        (Some(certificate), Some(key)) => {
            let (chain, key) = (certificate.certificates()?, key.private_key()?);
            let identity = certificate.place.clone();
            let config = builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| format!("{identity}: does not fit the key in tls.key_file/key_pem: {error}"))?;
            (config, Some(identity))
        }
        _ => (builder.with_no_client_auth(), None),
    };
    config.alpn_protocols = alpn.names();
    Ok(Session { config: Arc::new(config), trust, identity })
}

/// The trusted roots, and where they come from in words.
fn trusted_roots(texts: &Texts, settings: &TlsClientSettings) -> Result<(RootCertStore, String), String> {
    let (mut roots, mut trust) = match &texts.authority {
        Some(authority) => (authority.authorities()?, authority.place.clone()),
        None => (RootCertStore::empty(), String::new()),
    };
    let with_system = texts.authority.is_none() || settings.include_system_roots;
    if with_system && !settings.insecure_skip_verify {
        let found = rustls_native_certs::load_native_certs();
        let (added, _unusable) = roots.add_parsable_certificates(found.certs);
        if added == 0 && texts.authority.is_none() {
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
    use crate::config::checked::PemSource;
    use std::path::PathBuf;

    fn settings() -> TlsClientSettings {
        TlsClientSettings::default()
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
