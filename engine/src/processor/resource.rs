//! `resource`: edits resource attributes.
//!
//! The one idea: an index holds each resource once, so the edit is made once per resource and request, and no span byte
//! is touched. The edited envelope is appended to the index's envelope bytes; the old one is left behind, unreferenced,
//! until the batch is written out.

use crate::pipeline::batch::Batch;
use codecs::otlp::ByteRange;
use codecs::otlp::attributes::{Edit, edit_resource};

/// One `resource` processor on one shard.
#[derive(Debug)]
pub struct ResourceEditor {
    edits: Vec<Edit>,
    /// Reused between resources.
    edited: Vec<u8>,
}

impl ResourceEditor {
    /// Applies `edits` in order.
    pub fn new(edits: Vec<Edit>) -> ResourceEditor {
        ResourceEditor { edits, edited: Vec::new() }
    }

    /// Edits every resource of the batch and passes it on.
    pub fn take(&mut self, mut batch: Batch, out: &mut Vec<Batch>) {
        for number in 0..batch.index.resources.len() {
            let range = batch.index.resources[number];
            self.edited.clear();
            edit_resource(batch.index.envelope(range), &self.edits, &mut self.edited);
            let envelopes = &mut batch.index.envelopes;
            let start = envelopes.len();
            envelopes.extend_from_slice(&self.edited);
            let position = |at: usize| u32::try_from(at).expect("envelopes of a bounded request stay below 4 GiB");
            batch.index.resources[number] = ByteRange { start: position(start), end: position(envelopes.len()) };
        }
        out.push(batch);
    }
}
