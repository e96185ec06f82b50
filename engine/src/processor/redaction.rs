//! `redaction`: attributes of resources, scopes, spans and their events, data points and log records, and bodies of log
//! records, reduced to what may be seen.
//!
//! Each list of attributes is taken apart once and written once, if anything changed. A batch that could not be redacted
//! goes no further: nothing of it is let out unmasked.

use super::Turn;
use super::failure::{Failure, Failures, guarded, no_item};
use crate::pipeline::batch::Batch;
use crate::pipeline::rewrite::{Rewriters, Rewritten};
use crate::shard::buffers::Buffers;
use codecs::otlp::{Index, LogItem, MetricItem, Signal, SpanItem, item_bytes};
use ottl::{AttributeList, Child, Redaction, field, rewrite_parts};

/// Bytes of each of its own buffers that it keeps from batch to batch.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// One `redaction` processor on one shard.
#[derive(Debug)]
pub struct Redactor {
    redaction: Redaction,
    /// Reused between lists and batches.
    list: AttributeList,
    /// An item whose own attributes are done.
    own: Vec<u8>,
    /// And one whose parts are, too.
    with_parts: Vec<u8>,
    rewriters: Rewriters,
    failures: Failures,
}

impl Redactor {
    /// Does what `redaction` says.
    pub fn new(redaction: Redaction, failures: Failures) -> Redactor {
        let (list, rewriters) = (AttributeList::default(), Rewriters::default());
        Redactor { redaction, list, own: Vec::new(), with_parts: Vec::new(), rewriters, failures }
    }

    /// Redacts the batch and passes it on.
    pub fn take(&mut self, turn: Turn<'_>, mut batch: Batch, out: &mut Vec<Batch>) {
        let walk = guarded(|| match batch.index.signal() {
            Signal::Traces => self.walk::<SpanItem>(turn.buffers, &batch, field::SPAN),
            Signal::Metrics => self.walk::<MetricItem>(turn.buffers, &batch, field::METRIC),
            Signal::Logs => self.walk::<LogItem>(turn.buffers, &batch, field::LOG),
        });
        if let Err(failure) = walk {
            self.rewriters.abandon();
            return self.failures.stop(turn, batch, &failure);
        }
        self.rewriters.apply(&mut batch);
        // What one huge item needed is not kept for ever.
        self.own.shrink_to(KEPT_BYTES_MAX);
        self.with_parts.shrink_to(KEPT_BYTES_MAX);
        out.push(batch);
    }

    /// Everything of a batch of items whose attributes are the field `number`.
    fn walk<I: Rewritten>(&mut self, buffers: &Buffers, batch: &Batch, number: u32) -> Result<(), Failure> {
        self.envelopes::<I>(batch.index_of());
        self.items::<I>(buffers, batch, number)
    }

    fn envelopes<I: Rewritten>(&mut self, index: &Index<I>) {
        let Redactor { redaction, list, rewriters, .. } = self;
        let rewriter = I::rewriter(rewriters);
        for (number, range) in (0..).zip(&index.resources) {
            let envelope = index.envelope(*range);
            list.begin_envelope(envelope, field::RESOURCE);
            redaction.redact(list);
            if list.is_changed() {
                rewriter.resource(number, |out| list.write_envelope(envelope, out));
            }
        }
        for (number, entry) in (0..).zip(&index.scopes) {
            let envelope = index.envelope(entry.envelope);
            list.begin_envelope(envelope, field::SCOPE);
            redaction.redact(list);
            if list.is_changed() {
                rewriter.scope(number, |out| list.write_envelope(envelope, out));
            }
        }
    }

    fn items<I: Rewritten>(&mut self, buffers: &Buffers, batch: &Batch, number: u32) -> Result<(), Failure> {
        let Redactor { redaction, list, own, with_parts, rewriters, .. } = self;
        for (place, item) in (0..).zip(&batch.index_of::<I>().items) {
            with_parts.clear();
            let message = item_bytes(item, &batch.segments);
            let is_changed = if I::SIGNAL == Signal::Logs {
                redaction.redact_record(message, list, own, with_parts)
            } else {
                own.clear();
                let own_changed = if I::SIGNAL == Signal::Traces {
                    redaction.redact_span(message, list, with_parts, own)
                } else {
                    list.begin(message, number);
                    redaction.redact(list);
                    list.write(own);
                    list.is_changed()
                };
                with_parts.clear();
                let mut part = |attributes: u32, part: &[u8], out: &mut Vec<u8>| {
                    list.begin(part, attributes);
                    redaction.redact(list);
                    if !list.is_changed() {
                        return Child::Kept;
                    }
                    list.write(out);
                    Child::Written
                };
                rewrite_parts(I::SIGNAL, own, &mut part, with_parts) || own_changed
            };
            if is_changed {
                let write = |out: &mut Vec<u8>| out.extend_from_slice(with_parts);
                I::rewriter(rewriters).item(buffers, batch, place, write).map_err(no_item)?;
            }
        }
        Ok(())
    }

    /// Items of batches that went no further, ever.
    pub fn spans_failed(&self) -> u64 {
        self.failures.spans_failed()
    }

    /// Memory that is kept from batch to batch.
    pub fn bytes_held(&self) -> u64 {
        (self.list.bytes_held() + self.own.capacity() + self.with_parts.capacity() + self.rewriters.bytes_held()) as u64
    }
}
