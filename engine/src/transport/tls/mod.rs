//! TLS on both sides: settings become checked configurations, shared by every shard and replaced when files change.
//!
//! ```text
//! settings --material--> PEM texts --client, server--> configuration --reload--> handle that every thread may read
//!                            ^                                          |
//!                            +---- read again by the control thread ----+
//! ```
//!
//! The one idea: everything that can be wrong with the files is found by the thread that may block; a shard only opens
//! sessions, with the configuration in force when a session begins. Sessions that stand are never touched. The
//! cryptography is aws-lc-rs, passed explicitly: nothing here reads or sets a process-wide default.

mod client;
mod material;
mod reload;
mod server;

pub use client::TlsClient;
pub use reload::Certificates;
pub use server::{Accepted, TlsServer};

use std::io;

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

impl Alpn {
    /// As rustls wants it.
    fn names(self) -> Vec<Vec<u8>> {
        match self {
            Alpn::Http2 => vec![b"h2".to_vec()],
            Alpn::Http1 => vec![b"http/1.1".to_vec()],
        }
    }
}
