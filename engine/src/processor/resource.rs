//! `resource`: actions on resource attributes.
//!
//! The one idea: an index holds each resource once, so the work is done once per resource and request, and no byte of a
//! span, metric or log record is touched. A changed envelope is appended to the index's envelope bytes; the old one is left
//! behind, unreferenced,
//! until the batch is written out.

use super::Turn;
use super::context::fill_in;
use super::failure::{Failures, guarded};
use crate::config::checked::ActionSettings;
use crate::pipeline::batch::Batch;
use ottl::{AttributeList, apply, field};

/// One `resource` processor on one shard.
#[derive(Debug)]
pub struct ResourceEditor {
    settings: ActionSettings,
    /// Reused between resources and batches.
    list: AttributeList,
    context: Vec<Option<String>>,
    failures: Failures,
}

impl ResourceEditor {
    /// Runs the actions of `settings` in order.
    pub fn new(settings: ActionSettings, failures: Failures) -> ResourceEditor {
        ResourceEditor { settings, list: AttributeList::default(), context: Vec::new(), failures }
    }

    /// Edits every resource of the batch and passes it on.
    pub fn take(&mut self, turn: Turn<'_>, mut batch: Batch, out: &mut Vec<Batch>) {
        let ResourceEditor { settings, list, context, failures } = self;
        fill_in(context, &settings.from_context, batch.client.as_deref());
        let index = &mut batch.index;
        let walk = guarded(|| {
            index.edit_resources(|envelope, edited| {
                list.begin_envelope(envelope, field::RESOURCE);
                apply(&settings.actions, context, list);
                if list.is_changed() {
                    list.write_envelope(envelope, edited);
                } else {
                    edited.extend_from_slice(envelope);
                }
            });
            Ok(())
        });
        if let Err(failure) = walk {
            return failures.stop(turn, batch, &failure);
        }
        out.push(batch);
    }

    /// Spans of batches that went no further, ever.
    pub fn spans_failed(&self) -> u64 {
        self.failures.spans_failed()
    }

    /// Memory that is kept from batch to batch.
    pub fn bytes_held(&self) -> u64 {
        (self.list.bytes_held()) as u64
    }
}
