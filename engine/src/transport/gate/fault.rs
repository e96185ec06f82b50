//! Why a connection was not let in: a reason out of a closed list, and the words of the library or of the peer.
//!
//! Pure: an error in, a fault out; a fault in, a sentence for the operator out.

use super::Speaks;
use crate::transport::tls::{Alpn, tls_error};
use rustls::{CertificateError, Error, PeerIncompatible};
use std::io;

/// Text of a library or a peer that is passed on into logs.
const WORDS_CHARS_MAX: usize = 200;

/// Why a handshake failed, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Plain text at a port that speaks TLS.
    PlainText,
    /// TLS at a port that speaks plain text.
    TlsAtPlainPort,
    /// No version of TLS in common.
    Version,
    /// No cipher suite, key exchange or signature in common.
    NothingInCommon,
    /// The peer asks by ALPN for a protocol that is not spoken here.
    Protocol,
    /// The peer shows no certificate, and has to.
    NoCertificate,
    /// Its certificate is signed by nobody who is trusted.
    UnknownAuthority,
    /// Its certificate has expired, or is not valid yet.
    Expired,
    /// Its certificate cannot be accepted for another reason.
    BadCertificate,
    /// The peer ended the handshake with an alert: most often it does not trust our certificate.
    PeerAlert,
    /// The peer left in the middle of the handshake without a word.
    Left,
    /// The handshake took too long.
    Timeout,
    /// What the peer sends is no handshake.
    Malformed,
}

impl FaultKind {
    /// All of them; the position is the index into whatever counts them.
    pub const ALL: [FaultKind; 13] = [
        FaultKind::PlainText,
        FaultKind::TlsAtPlainPort,
        FaultKind::Version,
        FaultKind::NothingInCommon,
        FaultKind::Protocol,
        FaultKind::NoCertificate,
        FaultKind::UnknownAuthority,
        FaultKind::Expired,
        FaultKind::BadCertificate,
        FaultKind::PeerAlert,
        FaultKind::Left,
        FaultKind::Timeout,
        FaultKind::Malformed,
    ];

    /// Value of the label `reason`.
    pub fn label(self) -> &'static str {
        match self {
            FaultKind::PlainText => "plain_text",
            FaultKind::TlsAtPlainPort => "tls_at_plain_port",
            FaultKind::Version => "version",
            FaultKind::NothingInCommon => "nothing_in_common",
            FaultKind::Protocol => "protocol",
            FaultKind::NoCertificate => "no_certificate",
            FaultKind::UnknownAuthority => "unknown_authority",
            FaultKind::Expired => "expired",
            FaultKind::BadCertificate => "bad_certificate",
            FaultKind::PeerAlert => "peer_alert",
            FaultKind::Left => "left",
            FaultKind::Timeout => "timeout",
            FaultKind::Malformed => "malformed",
        }
    }
}

/// One failed handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Why.
    pub kind: FaultKind,
    /// The words of the library, or of the peer.
    words: String,
}

impl Fault {
    /// Of a handshake that ended with `error`.
    pub(super) fn of(error: &io::Error) -> Fault {
        let (kind, words) = match tls_error(error) {
            Some(error) => (kind_of(error), error.to_string()),
            None => (FaultKind::Left, error.to_string()),
        };
        Fault { kind, words: words.chars().take(WORDS_CHARS_MAX).collect() }
    }

    /// Of a handshake that did not end in time.
    pub fn timeout() -> Fault {
        Fault { kind: FaultKind::Timeout, words: String::new() }
    }

    pub(super) fn plain_text(spoken: Speaks) -> Fault {
        let words = match spoken {
            Speaks::Http1 => "HTTP/1",
            Speaks::Http2 => "HTTP/2",
            _ => "something else",
        };
        Fault { kind: FaultKind::PlainText, words: words.to_owned() }
    }

    pub(super) fn tls_at_plain_port() -> Fault {
        Fault { kind: FaultKind::TlsAtPlainPort, words: String::new() }
    }

    /// What happened and what to do, for the operator. `demands`: this listener asks for client certificates.
    pub(super) fn sentence(&self, demands: bool, alpn: Alpn) -> String {
        let words = &self.words;
        match self.kind {
            FaultKind::PlainText => {
                format!("it speaks plain text ({words}) at a port with TLS; give the sender an https:// endpoint.")
            }
            FaultKind::TlsAtPlainPort => "it speaks TLS at a port of plain text; configure `tls` on the receiver, or \
                                          give the sender an http:// endpoint (insecure: true)."
                .to_owned(),
            FaultKind::Version => {
                format!("it speaks no version of TLS that is allowed here ({words}); update it, or lower min_version.")
            }
            FaultKind::NothingInCommon => format!(
                "there is no cipher suite or key exchange in common ({words}); update it, or widen cipher_suites and \
                 curve_preferences."
            ),
            FaultKind::Protocol => {
                let ours = match alpn {
                    Alpn::Http2 => "HTTP/2 (gRPC)",
                    Alpn::Http1 => "HTTP/1.1",
                };
                format!(
                    "it asks for another protocol than {ours}, which is spoken here ({words}); give it the other port."
                )
            }
            FaultKind::NoCertificate => format!(
                "it shows no client certificate ({words}); give it one signed by the authority of client_ca_file, with \
                 its key."
            ),
            FaultKind::UnknownAuthority => format!(
                "no authority of client_ca_file signed its certificate ({words}); give it one that is, or add the \
                 authority to that file."
            ),
            FaultKind::Expired => {
                format!("its certificate is out of date ({words}); renew it, or check the clocks of both machines.")
            }
            FaultKind::BadCertificate => format!("its certificate is not accepted ({words}); give it another."),
            FaultKind::PeerAlert => format!(
                "it ended the handshake ({words}); most often it does not trust the certificate of cert_file: give it \
                 the authority that signed it, and a name that the certificate has."
            ),
            FaultKind::Left if demands => format!(
                "it left in the middle of the handshake ({words}); its log says why. Has it a client certificate?"
            ),
            FaultKind::Left => format!("it left in the middle of the handshake ({words}); its log says why."),
            FaultKind::Timeout => "its TLS handshake took too long.".to_owned(),
            FaultKind::Malformed => format!("what it sends is no TLS handshake ({words})."),
        }
    }
}

fn kind_of(error: &Error) -> FaultKind {
    match error {
        Error::InvalidCertificate(error) => match error {
            // A bad signature is what another authority of the same name makes.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => FaultKind::UnknownAuthority,
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => FaultKind::Expired,
            _ => FaultKind::BadCertificate,
        },
        Error::NoCertificatesPresented => FaultKind::NoCertificate,
        Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => FaultKind::Version,
        Error::PeerIncompatible(_) => FaultKind::NothingInCommon,
        Error::NoApplicationProtocol => FaultKind::Protocol,
        Error::AlertReceived(_) => FaultKind::PeerAlert,
        _ => FaultKind::Malformed,
    }
}

/// What a peer is told that speaks plain text at a port with TLS, in the protocol it speaks.
pub(super) fn answer_to_plain_text(spoken: Speaks) -> Vec<u8> {
    const TEXT: &str = "this port speaks TLS: use https://";
    match spoken {
        Speaks::Http1 => format!(
            "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{TEXT}",
            TEXT.len()
        )
        .into_bytes(),
        Speaks::Http2 => {
            // RFC 9113, 4.1, 6.5 and 6.8: empty SETTINGS, then GOAWAY of no stream with INADEQUATE_SECURITY (12).
            let mut frames = vec![0, 0, 0, 4, 0, 0, 0, 0, 0];
            let length = u8::try_from(8 + TEXT.len()).expect("the text is short");
            frames.extend([0, 0, length, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12]);
            frames.extend(TEXT.bytes());
            frames
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_label_of_its_own_in_the_order_of_its_number() {
        for (position, kind) in FaultKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, position);
            assert!(FaultKind::ALL[..position].iter().all(|other| other.label() != kind.label()));
        }
    }

    #[test]
    fn an_error_of_no_library_is_a_peer_that_left() {
        let error = io::Error::new(io::ErrorKind::UnexpectedEof, "tls handshake eof");
        let fault = Fault::of(&error);
        assert_eq!(fault.kind, FaultKind::Left);
        assert!(fault.sentence(true, Alpn::Http2).contains("client certificate"));
    }

    #[test]
    fn the_words_of_the_peer_are_passed_on_but_not_without_end() {
        let error = io::Error::new(io::ErrorKind::InvalidData, Error::General("x".repeat(10_000)));
        let fault = Fault::of(&error);
        assert_eq!(fault.kind, FaultKind::Malformed);
        assert!(fault.sentence(false, Alpn::Http1).len() < 300);
        let error =
            io::Error::new(io::ErrorKind::InvalidData, Error::AlertReceived(rustls::AlertDescription::UnknownCA));
        assert!(Fault::of(&error).sentence(false, Alpn::Http1).contains("UnknownCA"));
    }
}
