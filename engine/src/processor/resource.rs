//! `resource`: actions on resource attributes.
//!
//! The one idea: an index holds each resource once, so the work is done once per resource and request, and no span byte
//! is touched. A changed envelope is appended to the index's envelope bytes; the old one is left behind, unreferenced,
//! until the batch is written out.

use super::Turn;
use super::context::fill_in;
use super::failure::{Failures, guarded};
use crate::config::checked::ActionSettings;
use crate::pipeline::batch::Batch;
use crate::pipeline::rewrite::Rewriter;
use ottl::{AttributeList, apply, field};

/// One `resource` processor on one shard.
#[derive(Debug)]
pub struct ResourceEditor {
    settings: ActionSettings,
    /// Reused between resources and batches.
    list: AttributeList,
    context: Vec<Option<String>>,
    rewriter: Rewriter,
    failures: Failures,
}

impl ResourceEditor {
    /// Runs the actions of `settings` in order.
    pub fn new(settings: ActionSettings, failures: Failures) -> ResourceEditor {
        let (list, rewriter) = (AttributeList::default(), Rewriter::default());
        ResourceEditor { settings, list, context: Vec::new(), rewriter, failures }
    }

    /// Edits every resource of the batch and passes it on.
    pub fn take(&mut self, turn: Turn<'_>, mut batch: Batch, out: &mut Vec<Batch>) {
        let ResourceEditor { settings, list, context, rewriter, failures } = self;
        fill_in(context, &settings.from_context, batch.client.as_deref());
        let walk = guarded(|| {
            for (number, range) in (0..).zip(&batch.index.resources) {
                let envelope = batch.index.envelope(*range);
                list.begin_envelope(envelope, field::RESOURCE);
                apply(&settings.actions, context, list);
                if list.is_changed() {
                    rewriter.resource(number, |out| list.write_envelope(envelope, out));
                }
            }
            Ok(())
        });
        if let Err(failure) = walk {
            rewriter.abandon();
            return failures.stop(turn, batch, &failure);
        }
        rewriter.apply(&mut batch);
        out.push(batch);
    }

    /// Spans of batches that went no further, ever.
    pub fn spans_failed(&self) -> u64 {
        self.failures.spans_failed()
    }

    /// Memory that is kept from batch to batch.
    pub fn bytes_held(&self) -> u64 {
        (self.list.bytes_held() + self.rewriter.bytes_held()) as u64
    }
}
