//! A receiver's door: the head of a request says who sends it. May they, and what of it do the pipelines want to know?
//!
//! Asked once per request, before a byte of its body is looked at. A receiver without authenticator whose pipelines ask
//! for nothing has an open door that costs nothing.

use crate::auth::{Authenticators, Denied, SenderCheck, percent_decoded};
use crate::config::checked::{HeadSettings, Wanted};
use crate::pipeline::client::{Client, Clients, Head};
use std::net::IpAddr;
use std::rc::Rc;

/// The door of one protocol of one receiver on one shard.
#[derive(Debug)]
pub struct Door {
    check: Option<SenderCheck>,
    request_params: Vec<String>,
    wanted: Wanted,
    clients: Clients,
}

impl Door {
    /// `wanted` is what the receiver's pipelines ask for; headers only where the protocol includes them.
    pub fn new(settings: &HeadSettings, wanted: &Wanted, authenticators: &Authenticators, clients: Clients) -> Door {
        let mut wanted = wanted.clone();
        if !settings.include_metadata {
            wanted.metadata.clear();
        }
        if settings.authenticator.is_none() {
            wanted.auth.clear();
        }
        let check = settings.authenticator.as_ref().map(|id| authenticators.sender_check(id));
        Door { check, request_params: settings.request_params.clone(), wanted, clients }
    }

    /// Whether somebody wants to know where requests come from.
    pub fn wants_address(&self) -> bool {
        self.wanted.address
    }

    /// Lets the request in, with what is kept of its sender.
    pub async fn enter(&self, head: Head<'_>, address: Option<IpAddr>) -> Result<Option<Rc<Client>>, Denied> {
        let identity = match &self.check {
            None => None,
            Some(check) => Some(check.check(head.headers, &self.params(head)).await?),
        };
        Ok(self.clients.of(&self.wanted, head, identity.as_ref(), address))
    }

    /// The parameters of the query that count as headers; the first of a name.
    fn params(&self, head: Head<'_>) -> Vec<(String, String)> {
        let Some(query) = head.uri.query().filter(|_| !self.request_params.is_empty()) else { return Vec::new() };
        let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let decoded = pairs.map(|(name, value)| (percent_decoded(name, true), percent_decoded(value, true)));
        decoded.filter(|(name, _)| self.request_params.contains(name)).collect()
    }
}
