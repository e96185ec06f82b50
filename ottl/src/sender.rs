//! Who sent an item, as far as statements ask: the paths below `otelcol.`.
//!
//! A statement says what it asks for when it is read ([`crate::Statement::asks`]), so that nobody keeps what nobody wants;
//! whoever runs it fills in a [`Sender`] once per batch, never per item.

use std::borrow::Cow;

use crate::value::Value;

/// What a statement asks of the sender of its item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The values of a header, or of gRPC metadata; its name in small letters.
    Metadata(String),
    /// What the receiver's authenticator knows under this name.
    Auth(String),
    /// Where the request came from.
    Address,
}

/// The sender of the items that statements run on. Empty: nothing is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sender {
    /// Headers that were asked for, with their values.
    pub metadata: Vec<(String, Vec<Vec<u8>>)>,
    /// What the authenticator knows.
    pub auth: Vec<(String, String)>,
    /// The address, without a port.
    pub address: Option<String>,
}

impl Sender {
    /// A list of texts for a header, a text for all else; nil if it is not known.
    pub(crate) fn value(&self, ask: &Ask) -> Value<'_> {
        let found = match ask {
            Ask::Metadata(key) => self.metadata.iter().find(|(known, _)| known == key).map(|(_, values)| {
                Value::List(values.iter().map(|value| Value::Text(Cow::Borrowed(&**value))).collect())
            }),
            Ask::Auth(name) => self.auth.iter().find(|(known, _)| known == name).map(|(_, value)| Value::text(value)),
            Ask::Address => self.address.as_deref().map(Value::text),
        };
        found.unwrap_or_default()
    }
}
