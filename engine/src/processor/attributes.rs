//! `attributes`: actions on attributes of those spans that `include` and `exclude` select.
//!
//! The one idea: a span is taken apart once, all actions run on its list of attributes, and its bytes are written once,
//! if anything changed. Resource and scope are looked at only where the selection asks for them.

use super::Turn;
use super::context::fill_in;
use super::failure::{Failure, Failures, guarded, no_span};
use crate::config::checked::ActionSettings;
use crate::pipeline::batch::Batch;
use crate::pipeline::rewrite::Rewriter;
use crate::shard::buffers::Buffers;
use codecs::otlp::{SpanItem, span_bytes};
use ottl::{AttributeList, Context, Selection, TraceItem, apply, field};

/// One `attributes` processor on one shard.
#[derive(Debug)]
pub struct AttributesEditor {
    selection: Selection,
    settings: ActionSettings,
    /// Reused between spans and batches.
    list: AttributeList,
    item: TraceItem<'static>,
    context: Vec<Option<String>>,
    rewriter: Rewriter,
    failures: Failures,
}

impl AttributesEditor {
    /// Runs the actions of `settings` in order on each span that `selection` selects.
    pub fn new(selection: Selection, settings: ActionSettings, failures: Failures) -> AttributesEditor {
        AttributesEditor {
            selection,
            settings,
            list: AttributeList::default(),
            item: TraceItem::default(),
            context: Vec::new(),
            rewriter: Rewriter::default(),
            failures,
        }
    }

    /// Edits the spans of the batch and passes it on.
    pub fn take(&mut self, turn: Turn<'_>, mut batch: Batch, out: &mut Vec<Batch>) {
        fill_in(&mut self.context, &self.settings.from_context, batch.client.as_deref());
        if let Err(failure) = guarded(|| self.edit(turn.buffers, &batch)) {
            self.rewriter.abandon();
            return self.failures.stop(turn, batch, &failure);
        }
        self.rewriter.apply(&mut batch);
        out.push(batch);
    }

    fn edit(&mut self, buffers: &Buffers, batch: &Batch) -> Result<(), Failure> {
        let AttributesEditor { selection, settings, list, item, context, rewriter, .. } = self;
        let mut walk = Walk { batch, item: std::mem::take(item).recycle(), scope: None };
        for (number, span) in (0..).zip(&batch.span_index().items) {
            if !selection.is_everything() && !selection.selects(walk.on(span), Context::Span) {
                continue;
            }
            list.begin(span_bytes(span, &batch.segments), field::SPAN);
            apply(&settings.actions, context, list);
            if list.is_changed() {
                rewriter.span(buffers, batch, number, |out| list.write(out)).map_err(no_span)?;
            }
        }
        *item = walk.item.recycle();
        Ok(())
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

/// A view that goes from span to span.
struct Walk<'b> {
    batch: &'b Batch,
    item: TraceItem<'b>,
    scope: Option<u32>,
}

impl<'b> Walk<'b> {
    fn on(&mut self, span: &SpanItem) -> &TraceItem<'b> {
        if self.scope != Some(span.scope) {
            self.scope = Some(span.scope);
            self.item.begin_resource(self.batch.span_index().resource_envelope(span.scope));
            self.item.begin_scope(self.batch.span_index().scope_envelope(span.scope));
        }
        self.item.begin_span(span_bytes(span, &self.batch.segments));
        &self.item
    }
}
