//! `tls` of servers, and what it has in common with that of clients: versions, cipher suites, curves, files.

use crate::config::checked::{PemSource, TlsPolicy, TlsServerSettings, TlsVersion};
use crate::config::section::{Idle, Section};
use rustls::{CipherSuite, NamedGroup};
use std::path::PathBuf;

/// The suites of TLS 1.2 that are offered, in Go's names: forward secrecy and authenticated encryption.
const SUITES: [(&str, CipherSuite); 6] = [
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];
/// Names of TLS 1.3, whose suites are always offered.
const SUITES_OF_13: [&str; 3] = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];
const CURVES: [(&str, NamedGroup); 5] = [
    ("X25519MLKEM768", NamedGroup::X25519MLKEM768),
    ("X25519", NamedGroup::X25519),
    ("P256", NamedGroup::secp256r1),
    ("P384", NamedGroup::secp384r1),
    ("SecP256r1MLKEM768", NamedGroup::secp256r1MLKEM768),
];
/// Known to the Collector, not to our library of cryptography.
const CURVES_NOT_BUILT: [&str; 2] = ["P521", "SecP384r1MLKEM1024"];

/// Reads `tls` of a server; `None` where it is absent, and after an error.
pub(crate) fn server(server: &Section<'_>) -> Option<TlsServerSettings> {
    let field = server.field("tls").filter(|field| !field.node.is_null())?;
    let section = field.section()?;
    let cert = pem(&section, "cert_file", "cert_pem");
    let key = pem(&section, "key_file", "key_pem");
    let client_ca = section.text("client_ca_file").map(|path| PemSource::File(PathBuf::from(path)));
    // Every file is looked at, this one too.
    section.ignored(&["client_ca_file_reload"]);
    for key in ["ca_file", "ca_pem"] {
        if let Some(field) = section.field(key).filter(|field| !field.node.is_null()) {
            field.warning(
                "has no effect on a server: senders are not checked with it",
                "write `client_ca_file` instead",
            );
        }
    }
    section.ignored(&["include_system_ca_certs_pool"]);
    let policy = policy(&section);
    match (cert, key) {
        (Some(cert), Some(key)) => return Some(TlsServerSettings { cert, key, client_ca, policy }),
        (Some(_), None) => section.error("a certificate is given without its key", "add `key_file` or `key_pem`"),
        (None, Some(_)) => section.error("a key is given without its certificate", "add `cert_file` or `cert_pem`"),
        (None, None) => section.error(
            "a server needs a certificate and its key",
            "add `cert_file` and `key_file`, or remove `tls` for plain text",
        ),
    }
    None
}

/// What the `tls` of servers and of clients have in common.
pub(crate) fn policy(section: &Section<'_>) -> TlsPolicy {
    const VERSIONS: [(&str, Option<TlsVersion>); 5] = [
        ("", None),
        ("1.0", Some(TlsVersion::Tls12)),
        ("1.1", Some(TlsVersion::Tls12)),
        ("1.2", Some(TlsVersion::Tls12)),
        ("1.3", Some(TlsVersion::Tls13)),
    ];
    // Newer than asked for is safe; 1.0 and 1.1 as the newest would leave nothing to speak.
    let min_version = version(section, "min_version", &VERSIONS).unwrap_or(TlsVersion::Tls12);
    let max_version = version(section, "max_version", &VERSIONS).unwrap_or(TlsVersion::Tls13);
    if let Some(field) = section.field("max_version") {
        match field.written() {
            "1.0" | "1.1" => field.error("TLS 1.0 and 1.1 are broken and not spoken", "write \"1.2\" or \"1.3\""),
            _ if max_version < min_version => {
                field.error("the newest version is older than the least", "remove it, or lower `min_version`");
            }
            _ => {}
        }
    }
    section.ignored(&["include_insecure_cipher_suites"]);
    section.unsupported("tpm", Idle::Disabled, "keys in a TPM", "give the key with `key_file`");
    TlsPolicy {
        min_version,
        max_version: max_version.max(min_version),
        cipher_suites: cipher_suites(section, min_version, max_version),
        curves: curves(section),
        reload_interval_ns: section.duration_ns("reload_interval", 0),
    }
}

fn version(section: &Section<'_>, key: &'static str, versions: &[(&str, Option<TlsVersion>)]) -> Option<TlsVersion> {
    let field = section.field(key).filter(|field| !field.node.is_null())?;
    // 1.2 without quotes is a number, and means the same.
    let written = field.meaning().map(|_| field.written());
    match versions.iter().find(|(word, _)| Some(*word) == written) {
        Some((_, version)) => *version,
        None => {
            field.expected("a version of TLS: \"1.2\" or \"1.3\"", "write \"1.2\", or remove it");
            None
        }
    }
}

fn cipher_suites(section: &Section<'_>, min_version: TlsVersion, max_version: TlsVersion) -> Vec<CipherSuite> {
    let Some(field) = section.field("cipher_suites") else { return Vec::new() };
    let mut chosen = Vec::new();
    let listed = field.texts();
    for (name, item) in &listed {
        match SUITES.iter().find(|(known, _)| known == name) {
            Some((_, suite)) => chosen.push(*suite),
            None if SUITES_OF_13.contains(&name.as_str()) => {}
            None if name.starts_with("TLS_") => {
                item.warning("is not offered: it lacks forward secrecy or authenticated encryption", "remove it");
            }
            None => item.expected("the name of a cipher suite", format!("write one such as `{}`", SUITES[0].0)),
        }
    }
    // Without one for 1.2 only 1.3 is left, which the versions have to say.
    if chosen.is_empty() && !listed.is_empty() && min_version == TlsVersion::Tls12 {
        let help = match max_version {
            TlsVersion::Tls12 => format!("add one such as `{}`", SUITES[0].0),
            TlsVersion::Tls13 => format!("add one such as `{}`, or write `min_version: \"1.3\"`", SUITES[0].0),
        };
        field.error("TLS 1.2 would have no cipher suite", help);
    }
    chosen
}

fn curves(section: &Section<'_>) -> Vec<NamedGroup> {
    let Some(field) = section.field("curve_preferences") else { return Vec::new() };
    let names: Vec<&str> = CURVES.iter().map(|(name, _)| *name).collect();
    let listed = field.texts();
    let mut chosen = Vec::new();
    for (name, item) in &listed {
        match CURVES.iter().find(|(known, _)| known == name) {
            Some((_, group)) => chosen.push(*group),
            None if CURVES_NOT_BUILT.contains(&name.as_str()) => {
                item.warning("is not offered", format!("remove it, or use one of {}", names.join(", ")));
            }
            None => item.expected(&format!("one of {}", names.join(", ")), "remove it, or `curve_preferences`"),
        }
    }
    if chosen.is_empty() && !listed.is_empty() {
        field.error("no key exchange would be left", format!("add one of {}", names.join(", ")));
    }
    chosen
}

/// A text or the file that holds it.
pub(crate) fn pem(section: &Section<'_>, file_key: &'static str, inline_key: &'static str) -> Option<PemSource> {
    let file = section.text(file_key).map(|path| PemSource::File(PathBuf::from(path)));
    let inline = section.text(inline_key).map(PemSource::Inline);
    if file.is_some() && inline.is_some() {
        section.error(format!("both `{file_key}` and `{inline_key}` are given"), "remove one of them");
    }
    file.or(inline)
}
