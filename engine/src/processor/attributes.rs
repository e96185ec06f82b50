//! `attributes`: actions on attributes of those spans, data points and log records that `include` and `exclude` select.
//!
//! The one idea: what has attributes is taken apart once, all actions run on its list of attributes, and its bytes are
//! written once, if anything changed. Resource and scope are looked at only where the selection asks for them.

use super::Turn;
use super::context::fill_in;
use super::failure::{Failure, Failures, guarded, no_item};
use crate::config::checked::ActionSettings;
use crate::pipeline::batch::Batch;
use crate::pipeline::rewrite::{Rewriters, Rewritten};
use crate::shard::buffers::Buffers;
use codecs::otlp::{LogItem, MetricItem, Signal, SpanItem, item_bytes};
use ottl::{AttributeList, Child, Context, Selection, WireItem, apply, field, rewrite_parts};

/// Bytes of its own buffer that it keeps from batch to batch.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// One `attributes` processor on one shard.
#[derive(Debug)]
pub struct AttributesEditor {
    selection: Selection,
    settings: ActionSettings,
    /// Reused between items and batches.
    list: AttributeList,
    item: WireItem<'static>,
    context: Vec<Option<String>>,
    rewriters: Rewriters,
    /// A metric with changed points.
    metric: Vec<u8>,
    failures: Failures,
}

impl AttributesEditor {
    /// Runs the actions of `settings` in order on each item of `signal` that `selection` selects.
    pub fn new(signal: Signal, selection: Selection, settings: ActionSettings, failures: Failures) -> AttributesEditor {
        AttributesEditor {
            selection,
            settings,
            list: AttributeList::default(),
            item: WireItem::new(signal),
            context: Vec::new(),
            rewriters: Rewriters::default(),
            metric: Vec::new(),
            failures,
        }
    }

    /// Edits the items of the batch and passes it on.
    pub fn take(&mut self, turn: Turn<'_>, mut batch: Batch, out: &mut Vec<Batch>) {
        fill_in(&mut self.context, &self.settings.from_context, batch.client.as_deref());
        let edit = guarded(|| match batch.index.signal() {
            Signal::Traces => self.edit::<SpanItem>(turn.buffers, &batch, field::SPAN),
            Signal::Metrics => self.edit_points(turn.buffers, &batch),
            Signal::Logs => self.edit::<LogItem>(turn.buffers, &batch, field::LOG),
        });
        if let Err(failure) = edit {
            self.rewriters.abandon();
            return self.failures.stop(turn, batch, &failure);
        }
        self.rewriters.apply(&mut batch);
        out.push(batch);
    }

    /// Items whose attributes are the field `number`.
    fn edit<I: Rewritten>(&mut self, buffers: &Buffers, batch: &Batch, number: u32) -> Result<(), Failure> {
        let AttributesEditor { selection, settings, list, item, context, rewriters, .. } = self;
        let mut walk = Walk { batch, item: std::mem::take(item).recycle(), scope: None };
        let level = Context::of_items(I::SIGNAL);
        for (place, item) in (0..).zip(&batch.index_of::<I>().items) {
            if !selection.is_everything() && !selection.selects(walk.on(item), level) {
                continue;
            }
            list.begin(item_bytes(item, &batch.segments), number);
            apply(&settings.actions, context, list);
            if list.is_changed() {
                I::rewriter(rewriters).item(buffers, batch, place, |out| list.write(out)).map_err(no_item)?;
            }
        }
        *item = walk.item.recycle();
        Ok(())
    }

    /// The data points of metrics.
    fn edit_points(&mut self, buffers: &Buffers, batch: &Batch) -> Result<(), Failure> {
        let AttributesEditor { selection, settings, list, item, context, rewriters, metric, .. } = self;
        let mut walk = Walk { batch, item: std::mem::take(item).recycle(), scope: None };
        for (place, item) in (0..).zip(&batch.index_of::<MetricItem>().items) {
            if !selection.is_everything() {
                walk.on(item);
            }
            metric.clear();
            let mut number = 0;
            let mut edit = |attributes: u32, point: &[u8], out: &mut Vec<u8>| {
                if !selection.is_everything() {
                    walk.item.begin_part(number);
                    number += 1;
                    if !selection.selects(&walk.item, Context::DataPoint) {
                        return Child::Kept;
                    }
                }
                list.begin(point, attributes);
                apply(&settings.actions, context, list);
                if !list.is_changed() {
                    return Child::Kept;
                }
                list.write(out);
                Child::Written
            };
            if rewrite_parts(Signal::Metrics, item_bytes(item, &batch.segments), &mut edit, metric) {
                let write = |out: &mut Vec<u8>| out.extend_from_slice(metric);
                MetricItem::rewriter(rewriters).item(buffers, batch, place, write).map_err(no_item)?;
            }
        }
        metric.shrink_to(KEPT_BYTES_MAX);
        *item = walk.item.recycle();
        Ok(())
    }

    /// Items of batches that went no further, ever.
    pub fn spans_failed(&self) -> u64 {
        self.failures.spans_failed()
    }

    /// Memory that is kept from batch to batch.
    pub fn bytes_held(&self) -> u64 {
        (self.list.bytes_held() + self.rewriters.bytes_held() + self.metric.capacity()) as u64
    }
}

/// A view that goes from item to item.
struct Walk<'b> {
    batch: &'b Batch,
    item: WireItem<'b>,
    scope: Option<u32>,
}

impl<'b> Walk<'b> {
    fn on<I: Rewritten>(&mut self, item: &I) -> &WireItem<'b> {
        let scope = item.place().scope;
        if self.scope != Some(scope) {
            self.scope = Some(scope);
            self.item.begin_resource(self.batch.index_of::<I>().resource_envelope(scope));
            self.item.begin_scope(self.batch.index_of::<I>().scope_envelope(scope));
        }
        self.item.begin_item(item_bytes(item, &self.batch.segments));
        &self.item
    }
}
