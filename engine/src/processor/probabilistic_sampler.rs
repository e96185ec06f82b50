//! `probabilistic_sampler`: keeps a share of the spans, each decided by its own randomness.
//!
//! The one idea: nearly every kept span changes (it carries its threshold away), and few are kept, so the kept ones are
//! copied together into one buffer of the shard; the request's bytes are free when the batch is gone. What is decided,
//! and what is written, is said by [`HeadSampler`]; this file reads spans for it.

use super::Turn;
use crate::pipeline::ack::Outcome;
use crate::pipeline::batch::Batch;
use crate::telemetry::metrics::ProbabilisticSamplerSeries;
use codecs::otlp::attributes::Value;
use codecs::otlp::{SpanItem, span_attributes, span_bytes, span_trace_state, write_marked_span};
use sampling::consistent::TraceState;
use sampling::head::{Arrived, HeadSampler, HeadSettings, Id, Item, Policy, Priority};

/// A span's own wish, as the Collector reads it.
const PRIORITY: &[u8] = b"sampling.priority";

/// One `probabilistic_sampler` on one shard.
#[derive(Debug)]
pub struct ProbabilisticSampler {
    sampler: HeadSampler,
    series: ProbabilisticSamplerSeries,
    spans_dropped: u64,
    /// The trace state being written.
    trace_state: Vec<u8>,
}

impl ProbabilisticSampler {
    /// Remembers nothing between spans.
    pub fn new(settings: &HeadSettings, series: ProbabilisticSamplerSeries) -> ProbabilisticSampler {
        let sampler = HeadSampler::new(settings);
        ProbabilisticSampler { sampler, series, spans_dropped: 0, trace_state: Vec::new() }
    }

    /// Passes on the spans that are kept; a batch without any ends here.
    pub fn take(&mut self, turn: Turn<'_>, mut batch: Batch, out: &mut Vec<Batch>) {
        let spans = batch.span_index().items.len();
        let mut counts = Counts::default();
        let mut bytes = turn.buffers.take(0);
        let mut kept = 0;
        for number in 0..spans {
            let item = batch.span_index().items[number];
            let span = span_bytes(&item, &batch.segments);
            let start = bytes.len();
            if self.keep(&item, span, &mut counts, &mut bytes) {
                let position = |at: usize| u32::try_from(at).expect("a batch is admitted far below 4 GiB");
                let (offset, length) = (position(start), position(bytes.len() - start));
                batch.span_index_mut().items[kept] = SpanItem { segment: 0, offset, length, ..item };
                kept += 1;
            }
        }
        batch.span_index_mut().items.truncate(kept);
        self.spans_dropped += (spans - kept) as u64;
        for (counters, counts) in self.series.decisions.iter().zip(counts.0) {
            turn.cells.add(counters.sampled, counts[1]);
            turn.cells.add(counters.not_sampled, counts[0]);
        }
        if kept == 0 {
            batch.settle(&Outcome::Taken);
            turn.indexes.give_back(batch.index);
            return;
        }
        batch.segments.clear();
        batch.segments.push(bytes.freeze());
        out.push(batch);
    }

    /// Appends the span to `out` as it is to leave, if it is kept.
    fn keep(&mut self, item: &SpanItem, span: &[u8], counts: &mut Counts, out: &mut Vec<u8>) -> bool {
        let state = TraceState::read(span_trace_state(span));
        let arrived = state.map(|state| Arrived { randomness: state.randomness(), threshold: state.threshold() });
        let outcome = self.sampler.decide(&Item { id: Id::Trace(item.trace_id), arrived, priority: priority(span) });
        counts.0[outcome.policy as usize][usize::from(outcome.kept)] += 1;
        match (state, outcome.written) {
            _ if !outcome.kept => {}
            (Some(state), Some((randomness, threshold))) => {
                self.trace_state.clear();
                state.write(randomness, threshold, &mut self.trace_state);
                write_marked_span(span, Some(&self.trace_state), &[], out);
            }
            _ => out.extend_from_slice(span),
        }
        outcome.kept
    }

    /// Spans that were not kept, ever.
    pub fn spans_dropped(&self) -> u64 {
        self.spans_dropped
    }
}

/// Decisions of one batch, by policy: dropped, kept.
#[derive(Default)]
struct Counts([[u64; 2]; Policy::ALL.len()]);

/// What the first attribute of that name says: a number, or a text that is one.
fn priority(span: &[u8]) -> Priority {
    let found = span_attributes(span).find(|attribute| attribute.key == PRIORITY);
    let number = match found.map(|attribute| Value::read(attribute.value)) {
        Some(Value::Int(number)) => Some(number as f64),
        Some(Value::Double(number)) => Some(number),
        Some(Value::String(text)) => std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()),
        _ => None,
    };
    number.map_or(Priority::Unset, Priority::of_span)
}

#[cfg(test)]
mod tests {
    use super::*;
    use codecs::otlp::proto::{AnyValue, KeyValue, Span, Value};
    use prost::Message;

    fn check(value: Value, expected: Priority) {
        let attribute = KeyValue { key: PRIORITY.into(), value: Some(AnyValue { value: Some(value) }) };
        let other = KeyValue { key: b"other".into(), value: None };
        let span = Span { attributes: vec![other, attribute], ..Span::default() };
        assert_eq!(priority(&span.encode_to_vec()), expected);
    }

    #[test]
    fn a_priority_is_a_number_of_any_type() {
        check(Value::Int(0), Priority::Never);
        check(Value::Int(2), Priority::Always);
        check(Value::Int(-1), Priority::Unset);
        check(Value::Double(0.0), Priority::Never);
        check(Value::Double(0.3), Priority::Always);
        check(Value::String("0".into()), Priority::Never);
        check(Value::String("0.5".into()), Priority::Always);
        check(Value::String("high".into()), Priority::Unset);
        check(Value::Bool(true), Priority::Unset);
        assert_eq!(priority(&[]), Priority::Unset);
    }
}
