//! What an exporter's authenticator sets on a request to its backend.
//!
//! The one idea: it is given all headers that the request would have and edits them, so that `insert` and `update` see
//! what the exporter's own `headers` set. Headers of the protocol are never touched (the configuration was checked).

use super::shared::View;
use crate::config::checked::{HeaderAction, HeaderSource, HeaderVerb};
use crate::pipeline::client::Client;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::sync::Arc;

/// One exporter's, on one shard.
#[derive(Clone, Debug)]
pub enum BackendHeaders {
    /// `headers_setter`.
    Set(Arc<Vec<HeaderAction>>),
    /// A credential.
    Credential(Credential),
}

/// A header with a secret that may change.
#[derive(Clone, Debug)]
pub struct Credential {
    header: HeaderName,
    values: View<Vec<HeaderValue>>,
}

impl BackendHeaders {
    /// Shows the first of some values, of which there is always one.
    pub(super) fn first_of(header: HeaderName, values: View<Vec<HeaderValue>>) -> BackendHeaders {
        BackendHeaders::Credential(Credential { header, values })
    }

    /// The headers of a request that carries what `client` sent. The error says which of the client's values cannot be
    /// used; repeating the request would not help.
    pub fn apply(&self, headers: &mut HeaderMap, client: Option<&Client>) -> Result<(), String> {
        match self {
            BackendHeaders::Set(actions) => actions.iter().try_for_each(|action| set(action, headers, client)),
            BackendHeaders::Credential(Credential { header, values }) => {
                let (values, _) = values.latest();
                if let Some(value) = values.first() {
                    headers.insert(header.clone(), value.clone());
                }
                Ok(())
            }
        }
    }
}

fn set(action: &HeaderAction, headers: &mut HeaderMap, client: Option<&Client>) -> Result<(), String> {
    let key = action.key.as_str();
    // An empty value counts as none, as in the Collector.
    let present = headers.get(key).is_some_and(|value| !value.is_empty());
    let wanted = match action.verb {
        HeaderVerb::Insert => !present,
        HeaderVerb::Update => present,
        HeaderVerb::Upsert => true,
        HeaderVerb::Delete => {
            headers.remove(key);
            return Ok(());
        }
    };
    let value = value_of(&action.source, client)?;
    if wanted {
        let name = HeaderName::from_bytes(key.as_bytes()).expect("a checked configuration has sound names");
        headers.insert(name, value);
    }
    Ok(())
}

fn value_of(source: &HeaderSource, client: Option<&Client>) -> Result<HeaderValue, String> {
    let or_default = |found: Option<&[u8]>, default: &str| HeaderValue::from_bytes(found.unwrap_or(default.as_bytes()));
    let value = match source {
        HeaderSource::Value(text) => or_default(None, text.reveal()),
        HeaderSource::Metadata { key, default } => {
            let values = client.map_or(&[][..], |client| client.metadata(key));
            if values.len() > 1 {
                return Err(format!("the client sent {} values of `{key}`; which one is meant?", values.len()));
            }
            or_default(values.first().map(|value| &value[..]), default.reveal())
        }
        HeaderSource::Attribute { name, default } => {
            or_default(client.and_then(|client| client.auth(name)).map(str::as_bytes), default.reveal())
        }
    };
    let mut value = value.map_err(|_| "a value of the client cannot stand in a header".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::checked::Secret;

    fn action(verb: HeaderVerb, key: &str, source: HeaderSource) -> HeaderAction {
        HeaderAction { verb, key: key.to_owned(), source }
    }

    fn text(value: &str) -> HeaderSource {
        HeaderSource::Value(Secret::new(value))
    }

    fn tenant(default: &str) -> HeaderSource {
        HeaderSource::Metadata { key: "tenant".to_owned(), default: Secret::new(default) }
    }

    fn check(actions: Vec<HeaderAction>, client: Option<Client>, expected: Result<&[(&str, &str)], &str>) {
        let mut headers = HeaderMap::new();
        headers.insert("old", HeaderValue::from_static("1"));
        headers.insert("empty", HeaderValue::from_static(""));
        let done = BackendHeaders::Set(Arc::new(actions)).apply(&mut headers, client.as_ref());
        match expected {
            Ok(expected) => {
                assert_eq!(done, Ok(()));
                let mut found: Vec<(&str, &str)> =
                    headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
                found.sort_unstable();
                assert_eq!(found, expected);
            }
            Err(part) => assert!(done.as_ref().is_err_and(|error| error.contains(part)), "{done:?}"),
        }
    }

    #[test]
    fn actions_do_what_their_names_say() {
        use HeaderVerb::{Delete, Insert, Update, Upsert};
        let both = |verb| {
            vec![action(verb, "old", text("2")), action(verb, "new", text("3")), action(verb, "empty", text("4"))]
        };
        check(both(Insert), None, Ok(&[("empty", "4"), ("new", "3"), ("old", "1")]));
        check(both(Update), None, Ok(&[("empty", ""), ("old", "2")]));
        check(both(Upsert), None, Ok(&[("empty", "4"), ("new", "3"), ("old", "2")]));
        check(both(Delete), None, Ok(&[]));
    }

    #[test]
    fn a_value_of_the_client_is_set_and_its_absence_gives_the_default() {
        let upsert = |default: &str| vec![action(HeaderVerb::Upsert, "x", tenant(default))];
        let sent = |values: &[&str]| Some(Client::with_metadata("tenant", values));
        check(upsert("d"), sent(&["a"]), Ok(&[("empty", ""), ("old", "1"), ("x", "a")]));
        check(upsert("d"), sent(&[]), Ok(&[("empty", ""), ("old", "1"), ("x", "d")]));
        check(upsert(""), None, Ok(&[("empty", ""), ("old", "1"), ("x", "")]));
        check(upsert("d"), sent(&["a", "b"]), Err("2 values of `tenant`"));
    }
}
