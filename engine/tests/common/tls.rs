//! Authorities, certificates as files that can be swapped, and clients that speak TLS.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Identity {
    pub cert: String,
    pub key: String,
}

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    Now,
    Over,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// For `localhost` and 127.0.0.1, to serve and to connect with.
    pub fn sign(&self, name: &str, validity: Validity) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        if validity == Validity::Over {
            (params.not_before, params.not_after) = (date_time_ymd(2000, 1, 1), date_time_ymd(2001, 1, 1));
        }
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        Identity { cert: cert.pem(), key: key.serialize_pem() }
    }
}

/// A folder as Kubernetes mounts a secret: files are links through `..data`, which is swapped as a whole.
pub struct Mount {
    folder: tempfile::TempDir,
    versions: u32,
}

impl Mount {
    pub fn new(identity: &Identity, authority: &str) -> Mount {
        let mut mount = Mount { folder: tempfile::tempdir().expect("a temporary folder"), versions: 0 };
        mount.swap(identity, authority);
        for name in ["tls.crt", "tls.key", "ca.crt"] {
            let target = Path::new("..data").join(name);
            std::os::unix::fs::symlink(target, mount.path(name)).expect("a link");
        }
        mount
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Other files, all at once.
    pub fn swap(&mut self, identity: &Identity, authority: &str) {
        self.versions += 1;
        let version = format!("..version-{}", self.versions);
        std::fs::create_dir(self.path(&version)).expect("a folder");
        for (name, text) in [("tls.crt", &*identity.cert), ("tls.key", &*identity.key), ("ca.crt", authority)] {
            std::fs::write(self.path(&version).join(name), text).expect("a file");
        }
        let next = self.path("..next");
        std::os::unix::fs::symlink(version, &next).expect("a link");
        std::fs::rename(next, self.path("..data")).expect("a link can be replaced");
    }

    /// `tls` of a receiver, with or without client certificates.
    pub fn server(&self, mutual: bool) -> String {
        let path = |name| self.path(name).display().to_string();
        let client_ca = if mutual { format!(", client_ca_file: '{}'", path("ca.crt")) } else { String::new() };
        format!("cert_file: '{}', key_file: '{}'{client_ca}", path("tls.crt"), path("tls.key"))
    }

    /// `tls` of an exporter that shows this certificate.
    pub fn client(&self) -> String {
        let path = |name| self.path(name).display().to_string();
        let (cert, key, ca) = (path("tls.crt"), path("tls.key"), path("ca.crt"));
        format!("cert_file: '{cert}', key_file: '{key}', ca_file: '{ca}'")
    }
}

/// A client that trusts `authority`, speaks `alpn` and shows `identity`.
pub fn client(authority: &str, identity: Option<&Identity>, alpn: &str) -> Arc<ClientConfig> {
    client_of(authority, identity, alpn, &[&version::TLS13, &version::TLS12])
}

pub fn client_of(
    authority: &str,
    identity: Option<&Identity>,
    alpn: &str,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        roots.add(certificate.expect("a certificate")).expect("an authority");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).expect("versions");
    let builder = builder.with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = vec![CertificateDer::from_pem_slice(identity.cert.as_bytes()).expect("a certificate")];
            let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("a key");
            builder.with_client_auth_cert(chain, key).expect("certificate and key fit")
        }
    };
    // Each handshake is a whole one: what a test changes is seen at once.
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    Arc::new(config)
}
