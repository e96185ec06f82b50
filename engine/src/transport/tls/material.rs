//! Certificates, keys and authorities as PEM texts, and what of them and of the settings rustls is given.
//!
//! The one idea: all texts of one configuration are read first and built from afterwards, so that what is compared, what
//! is checked and what is used are the same bytes. Errors name setting and file, never what is in them.

use crate::config::checked::{PemSource, TlsPolicy, TlsVersion};
use aws_lc_rs::digest;
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs as provider};
use rustls::{RootCertStore, SupportedProtocolVersion, version};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

/// Largest file: a bundle of every public authority has a quarter of it.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where the texts of one configuration come from; each with its setting without `_file` or `_pem`.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources {
    pub(super) authority: Option<(&'static str, PemSource)>,
    pub(super) certificate: Option<PemSource>,
    pub(super) key: Option<PemSource>,
}

/// The texts of one configuration.
#[derive(Default)]
pub(super) struct Texts {
    pub(super) authority: Option<Text>,
    pub(super) certificate: Option<Text>,
    pub(super) key: Option<Text>,
}

/// One PEM text and what errors call it.
pub(super) struct Text {
    /// `tls.ca_file FILE` or `tls.ca_pem`.
    pub(super) place: String,
    bytes: Vec<u8>,
}

impl Sources {
    /// Whether anything could change.
    pub(super) fn has_files(&self) -> bool {
        let authority = self.authority.as_ref().map(|(_, source)| source);
        let all = [authority, self.certificate.as_ref(), self.key.as_ref()];
        all.into_iter().flatten().any(|source| matches!(source, PemSource::File(_)))
    }

    /// Reads every text. Blocks.
    pub(super) fn read(&self) -> Result<Texts, String> {
        let read = |setting, source: &Option<PemSource>| source.as_ref().map(|it| Text::read(setting, it)).transpose();
        let authority = self.authority.as_ref().map(|(setting, source)| Text::read(setting, source)).transpose()?;
        Ok(Texts { authority, certificate: read("cert", &self.certificate)?, key: read("key", &self.key)? })
    }
}

impl Texts {
    /// A number that differs when any text does.
    pub(super) fn fingerprint(&self) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        for text in [&self.authority, &self.certificate, &self.key] {
            let bytes = text.as_ref().map_or(&[][..], |text| &text.bytes);
            // With its length in front, no text can stand in for a part of another.
            context.update(&(bytes.len() as u64).to_be_bytes());
            context.update(bytes);
        }
        context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }
}

impl Text {
    fn read(setting: &str, source: &PemSource) -> Result<Text, String> {
        match source {
            PemSource::Inline(text) => {
                Ok(Text { place: format!("tls.{setting}_pem"), bytes: text.clone().into_bytes() })
            }
            PemSource::File(path) => {
                let place = format!("tls.{setting}_file {}", path.display());
                let bytes = read_file(path)
                    .map_err(|why| format!("{place}: cannot be read: {why}; correct the path or its permissions"))?;
                Ok(Text { place, bytes })
            }
        }
    }

    /// The certificates, at least one.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let place = &self.place;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        let found = found.map_err(|error| format!("{place}: is not PEM: {error}; export the certificate as PEM"))?;
        if found.is_empty() {
            return Err(format!("{place}: holds no certificate (no BEGIN CERTIFICATE line)"));
        }
        Ok(found)
    }

    /// The private key.
    pub(super) fn private_key(&self) -> Result<PrivateKeyDer<'static>, String> {
        PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|error| {
            let place = &self.place;
            format!("{place}: holds no private key that can be used: {error}; give it unencrypted in PEM")
        })
    }

    /// Its certificates as authorities.
    pub(super) fn authorities(&self) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates()? {
            let added = roots.add(certificate);
            added.map_err(|error| format!("{}: not a usable certificate: {error}", self.place))?;
        }
        Ok(roots)
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it has more than {FILE_BYTES_MAX} bytes"));
    }
    Ok(bytes)
}

/// Cipher suites and key exchanges by these settings. Unless they are narrowed: every strong one, and X25519MLKEM768
/// first, whose secrets a quantum computer cannot read later.
pub(super) fn cryptography(policy: &TlsPolicy) -> Arc<CryptoProvider> {
    let mut narrowed = provider::default_provider();
    if !policy.cipher_suites.is_empty() {
        // They are a setting of TLS 1.2; 1.3 has none to choose from.
        narrowed.cipher_suites.retain(|suite| suite.tls13().is_some() || policy.cipher_suites.contains(&suite.suite()));
    }
    if !policy.curves.is_empty() {
        let known = |name| provider::ALL_KX_GROUPS.iter().find(|group| group.name() == name).copied();
        let chosen: Vec<&'static dyn SupportedKxGroup> = policy.curves.iter().filter_map(|name| known(*name)).collect();
        narrowed.kx_groups = chosen;
    }
    Arc::new(narrowed)
}

/// Versions by these settings.
pub(super) fn versions(policy: &TlsPolicy) -> Vec<&'static SupportedProtocolVersion> {
    let allowed = policy.min_version..=policy.max_version;
    let all = [(TlsVersion::Tls13, &version::TLS13), (TlsVersion::Tls12, &version::TLS12)];
    all.into_iter().filter(|(version, _)| allowed.contains(version)).map(|(_, known)| known).collect()
}
