//! `resource`: edits resource attributes.
//!
//! The one idea: an index holds each resource once, so the edit is made once per resource and request, and no byte of a
//! span, metric or log record is touched. The edited envelope is appended to the index's envelope bytes; the old one is left behind, unreferenced,
//! until the batch is written out.

use crate::config::checked::{ContextSource, ContextValue};
use crate::pipeline::batch::Batch;
use crate::pipeline::client::Client;
use codecs::otlp::attributes::{Edit, edit_resource};
use codecs::otlp::{EditChange, EditSource, Scalar};

/// One `resource` processor on one shard.
#[derive(Debug)]
pub struct ResourceEditor {
    edits: Vec<Edit>,
    /// Which of them take their value from the client.
    from_context: Vec<ContextValue>,
}

impl ResourceEditor {
    /// Applies `edits` in order; `from_context` says where values of the client belong.
    pub fn new(edits: Vec<Edit>, from_context: Vec<ContextValue>) -> ResourceEditor {
        ResourceEditor { edits, from_context }
    }

    /// Edits every resource of the batch and passes it on.
    pub fn take(&mut self, mut batch: Batch, out: &mut Vec<Batch>) {
        self.fill_in(batch.client.as_deref());
        batch.index.edit_resources(|envelope, edited| edit_resource(envelope, &self.edits, edited));
        out.push(batch);
    }

    /// Puts the client's values where they belong.
    fn fill_in(&mut self, client: Option<&Client>) {
        for ContextValue { place, source, default } in &self.from_context {
            let found = value_of(source, client).map(Scalar::String).or_else(|| default.clone());
            let value = found.map_or(EditSource::Nothing, EditSource::Value);
            if let EditChange::Insert(source) | EditChange::Update(source) | EditChange::Upsert(source) =
                &mut self.edits[*place].change
            {
                *source = value;
            }
        }
    }
}

/// As an attribute's text; several values of a header have `;` between them, as in the Collector.
fn value_of(source: &ContextSource, client: Option<&Client>) -> Option<String> {
    match source {
        ContextSource::Metadata(key) => {
            let values = client?.metadata(key);
            let texts: Vec<_> = values.iter().map(|value| String::from_utf8_lossy(value)).collect();
            (!texts.is_empty()).then(|| texts.join(";"))
        }
        ContextSource::Auth(name) => client?.auth(name).map(str::to_owned),
        ContextSource::Address => client?.address().map(|address| address.to_string()),
    }
}
