//! Authenticators: who may send, and what a backend is shown.
//!
//! ```text
//! sender --head--> SenderCheck: a token or a user?  --> the pipelines        (receivers)
//! client context --> BackendHeaders: what is set on a request --> backend    (exporters)
//!                        ^ files with credentials are read again by the control thread
//! ```
//!
//! The one idea: everything secret is read once per process and shared read-only by the shards; a shard looks at one
//! number to learn that a file has changed. Secrets are compared in constant time and never put into a message.

pub mod backend;
pub mod basic;
pub mod bearer;
pub mod htpasswd;
mod shared;
mod verifier;

use crate::config::checked::{AuthenticatorKind, ComponentId, Config, HeaderAction};
use backend::BackendHeaders;
use basic::{BasicClient, BasicServer};
use bearer::Bearer;
use http::HeaderMap;
use std::sync::Arc;
use std::time::Duration;

/// How often files with credentials are looked at. Symbolic links that are swapped, as Kubernetes does it, are seen too.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The authenticators of the configuration. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Authenticators(Arc<Vec<(ComponentId, Authenticator)>>);

#[derive(Debug)]
enum Authenticator {
    HeadersSetter(Arc<Vec<HeaderAction>>),
    Bearer(Bearer),
    BasicServer(BasicServer),
    BasicClient(BasicClient),
}

/// What one shard asks of senders.
#[derive(Debug)]
pub enum SenderCheck {
    /// One of some tokens.
    Bearer(bearer::BearerCheck),
    /// A user's password.
    Basic(Box<basic::BasicCheck>),
}

/// What an authenticator knows of a sender that it let in: `auth.NAME` of `from_context`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `username`.
    pub username: Option<String>,
    /// `raw`: the credential as it came. Asked for by name only.
    pub raw: Option<String>,
}

impl Identity {
    /// The attribute of this name, if it is known.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        match name {
            "username" => self.username.as_deref(),
            "raw" => self.raw.as_deref(),
            _ => None,
        }
    }
}

/// Why a sender is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Never with this credential; what the sender is told.
    Credential(String),
    /// Not now: passwords are being checked that take long to check.
    Busy,
}

impl Authenticators {
    /// Reads all files. Blocks: called once, at start. Errors name the extension and what to do.
    pub fn new(config: &Config) -> Result<Authenticators, String> {
        let read = |kind: &AuthenticatorKind| match kind {
            AuthenticatorKind::HeadersSetter(actions) => Ok(Authenticator::HeadersSetter(Arc::new(actions.clone()))),
            AuthenticatorKind::BearerToken(settings) => Bearer::new(settings).map(Authenticator::Bearer),
            AuthenticatorKind::BasicServer(settings) => BasicServer::new(settings).map(Authenticator::BasicServer),
            AuthenticatorKind::BasicClient(settings) => BasicClient::new(settings).map(Authenticator::BasicClient),
        };
        let all = config.authenticators.iter().map(|settings| {
            let made = read(&settings.kind).map_err(|error| format!("extension {}: {error}", settings.id))?;
            Ok((settings.id.clone(), made))
        });
        all.collect::<Result<Vec<_>, String>>().map(|all| Authenticators(Arc::new(all)))
    }

    /// What a receiver on this shard asks of senders.
    pub fn sender_check(&self, id: &ComponentId) -> SenderCheck {
        match self.find(id) {
            Authenticator::Bearer(bearer) => SenderCheck::Bearer(bearer.check()),
            Authenticator::BasicServer(basic) => SenderCheck::Basic(Box::new(basic.check())),
            other => unreachable!("the configuration was checked: {other:?} lets nobody in"),
        }
    }

    /// What an exporter on this shard shows its backend.
    pub fn backend_headers(&self, id: &ComponentId) -> BackendHeaders {
        match self.find(id) {
            Authenticator::HeadersSetter(actions) => BackendHeaders::Set(Arc::clone(actions)),
            Authenticator::Bearer(bearer) => bearer.show(),
            Authenticator::BasicClient(basic) => basic.show(),
            other => unreachable!("the configuration was checked: {other:?} shows nothing"),
        }
    }

    fn find(&self, id: &ComponentId) -> &Authenticator {
        let found = self.0.iter().find(|(known, _)| known == id);
        &found.expect("a checked configuration holds every authenticator that is named").1
    }

    /// Reads files again for as long as it is polled. Runs on the control thread.
    pub async fn watch(self) {
        if !self.0.iter().any(|(_, authenticator)| authenticator.has_files()) {
            return;
        }
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            for (id, authenticator) in self.0.iter() {
                authenticator.read_again(id);
            }
        }
    }
}

impl Authenticator {
    fn has_files(&self) -> bool {
        match self {
            Authenticator::HeadersSetter(_) => false,
            Authenticator::Bearer(bearer) => bearer.has_files(),
            Authenticator::BasicServer(basic) => basic.has_files(),
            Authenticator::BasicClient(basic) => basic.has_files(),
        }
    }

    /// A file that cannot be used leaves what was read before in force.
    fn read_again(&self, id: &ComponentId) {
        let changed = match self {
            Authenticator::HeadersSetter(_) => Ok(false),
            Authenticator::Bearer(bearer) => bearer.read_again(),
            Authenticator::BasicServer(basic) => basic.read_again(),
            Authenticator::BasicClient(basic) => basic.read_again(),
        };
        match changed {
            Ok(false) => {}
            Ok(true) => tracing::info!(extension = %id, "credentials have changed and are in use"),
            Err(error) => tracing::warn!(extension = %id, %error, "credentials were not read again; the old ones stay"),
        }
    }
}

impl SenderCheck {
    /// Whether the sender of a request with these headers may send. `params` are the parameters of its query that count
    /// as headers, and win over them.
    pub async fn check(&self, headers: &HeaderMap, params: &[(String, String)]) -> Result<Identity, Denied> {
        let shown = |name: &str| -> Option<Vec<u8>> {
            let param = params.iter().find(|(param, _)| param.eq_ignore_ascii_case(name));
            match param {
                Some((_, value)) => Some(value.clone().into_bytes()),
                None => headers.get(name).map(|value| value.as_bytes().to_vec()),
            }
        };
        match self {
            SenderCheck::Bearer(bearer) => {
                bearer.check(shown(bearer.header()).as_deref()).map(|()| Identity::default())
            }
            SenderCheck::Basic(basic) => basic.check(shown("authorization").as_deref()).await,
        }
    }
}

/// Whether both are the same, in a time that depends on their lengths only.
fn are_equal(one: &[u8], other: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(one, other).is_ok()
}

/// Text of a URL: `%41` is `A`, and in a query `+` is a space. What is no escape stays as it is.
pub(crate) fn percent_decoded(text: &str, in_query: bool) -> String {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|&byte| char::from(byte).to_digit(16));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).expect("two hexadecimal digits"));
                at += 3;
                continue;
            }
            (b'+', ..) if in_query => decoded.push(b' '),
            (byte, ..) => decoded.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_of_urls_are_undone() {
        for (text, expected) in [("a%20b", "a b"), ("%4", "%4"), ("%zz", "%zz"), ("a+b", "a+b"), ("%c3%a4", "ä")] {
            assert_eq!(percent_decoded(text, false), expected);
        }
        assert_eq!(percent_decoded("Bearer+x%2By", true), "Bearer x+y");
    }
}
