//! `redaction`: attributes of resources, scopes, spans and their events, reduced to what may be seen.
//!
//! Each list of attributes is taken apart once and written once, if anything changed. A batch that could not be redacted
//! goes no further: nothing of it is let out unmasked.

use super::Turn;
use super::failure::{Failure, Failures, guarded, no_span};
use crate::pipeline::batch::Batch;
use crate::pipeline::rewrite::Rewriter;
use crate::shard::buffers::Buffers;
use codecs::otlp::span_bytes;
use ottl::{AttributeList, Child, Redaction, field, rewrite_children};

/// Bytes of each of its own buffers that it keeps from batch to batch.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// One `redaction` processor on one shard.
#[derive(Debug)]
pub struct Redactor {
    redaction: Redaction,
    /// Reused between lists and batches.
    list: AttributeList,
    /// A span whose own attributes are done.
    span: Vec<u8>,
    /// And one whose events are, too.
    with_events: Vec<u8>,
    rewriter: Rewriter,
    failures: Failures,
}

impl Redactor {
    /// Does what `redaction` says.
    pub fn new(redaction: Redaction, failures: Failures) -> Redactor {
        let (list, rewriter) = (AttributeList::default(), Rewriter::default());
        Redactor { redaction, list, span: Vec::new(), with_events: Vec::new(), rewriter, failures }
    }

    /// Redacts the batch and passes it on.
    pub fn take(&mut self, turn: Turn<'_>, mut batch: Batch, out: &mut Vec<Batch>) {
        let walk = guarded(|| {
            self.envelopes(&batch);
            self.spans(turn.buffers, &batch)
        });
        if let Err(failure) = walk {
            self.rewriter.abandon();
            return self.failures.stop(turn, batch, &failure);
        }
        self.rewriter.apply(&mut batch);
        // What one huge span needed is not kept for ever.
        self.span.shrink_to(KEPT_BYTES_MAX);
        self.with_events.shrink_to(KEPT_BYTES_MAX);
        out.push(batch);
    }

    fn envelopes(&mut self, batch: &Batch) {
        let Redactor { redaction, list, rewriter, .. } = self;
        let index = batch.span_index();
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

    fn spans(&mut self, buffers: &Buffers, batch: &Batch) -> Result<(), Failure> {
        let Redactor { redaction, list, span, with_events, rewriter, .. } = self;
        for (number, item) in (0..).zip(&batch.span_index().items) {
            list.begin(span_bytes(item, &batch.segments), field::SPAN);
            redaction.redact(list);
            let own_changed = list.is_changed();
            span.clear();
            list.write(span);
            with_events.clear();
            let mut event = |event: &[u8], out: &mut Vec<u8>| {
                list.begin(event, field::EVENT);
                redaction.redact(list);
                if !list.is_changed() {
                    return Child::Kept;
                }
                list.write(out);
                Child::Written
            };
            if rewrite_children(span, field::SPAN_EVENTS, &mut event, with_events) || own_changed {
                rewriter.span(buffers, batch, number, |out| out.extend_from_slice(with_events)).map_err(no_span)?;
            }
        }
        Ok(())
    }

    /// Spans of batches that went no further, ever.
    pub fn spans_failed(&self) -> u64 {
        self.failures.spans_failed()
    }

    /// Memory that is kept from batch to batch.
    pub fn bytes_held(&self) -> u64 {
        (self.list.bytes_held() + self.span.capacity() + self.with_events.capacity() + self.rewriter.bytes_held())
            as u64
    }
}
