//! `probabilistic_sampler`: keeps a share of the spans or log records, each decided by its own randomness.
//!
//! The one idea: nearly every kept item changes (it carries its threshold away), and few are kept, so the kept ones are
//! copied together into one buffer of the shard; the request's bytes are free when the batch is gone. What is decided,
//! and what is written, is said by [`HeadSampler`]; this file reads items for it. Spans carry what is written in their
//! trace state, log records in two attributes.

use super::Turn;
use crate::config::checked::{RecordSettings, SamplerSettings};
use crate::pipeline::ack::Outcome;
use crate::pipeline::batch::Batch;
use crate::telemetry::metrics::ProbabilisticSamplerSeries;
use codecs::otlp::TraceId;
use codecs::otlp::attributes::Value;
use codecs::otlp::{
    Item, LogItem, Place, Signal, SpanItem, item_bytes, span_attributes, span_trace_state, write_marked_span,
};
use ottl::{AttributeList, field};
use sampling::consistent::{Randomness, Threshold, TraceState, Update};
use sampling::head::{Arrived, HeadSampler, Id, Item as Candidate, Mode, Policy, Priority};

/// A span's own wish, as the Collector reads it.
const PRIORITY: &[u8] = b"sampling.priority";

/// Attributes of a log record that carry what a span has in its trace state.
const RANDOMNESS: &[u8] = b"sampling.randomness";
const THRESHOLD: &[u8] = b"sampling.threshold";

/// One `probabilistic_sampler` on one shard.
#[derive(Debug)]
pub struct ProbabilisticSampler {
    sampler: HeadSampler,
    series: ProbabilisticSamplerSeries,
    records: RecordSettings,
    /// Log records have their id hashed.
    hashes: bool,
    items_dropped: u64,
    /// The trace state or the threshold being written.
    text: Vec<u8>,
    list: AttributeList,
}

impl ProbabilisticSampler {
    /// Remembers nothing between items.
    pub fn new(settings: &SamplerSettings, series: ProbabilisticSamplerSeries) -> ProbabilisticSampler {
        ProbabilisticSampler {
            sampler: HeadSampler::new(&settings.head),
            series,
            records: settings.records.clone(),
            hashes: settings.head.mode == Mode::HashSeed,
            items_dropped: 0,
            text: Vec::new(),
            list: AttributeList::default(),
        }
    }

    /// Passes on the items that are kept; a batch without any ends here.
    pub fn take(&mut self, turn: Turn<'_>, batch: Batch, out: &mut Vec<Batch>) {
        match batch.index.signal() {
            Signal::Traces => self.sample::<SpanItem>(turn, batch, out, Self::keep),
            Signal::Logs => self.sample::<LogItem>(turn, batch, out, Self::keep_record),
            // The checked configuration has none in pipelines of metrics.
            Signal::Metrics => out.push(batch),
        }
    }

    fn sample<I: Item>(&mut self, turn: Turn<'_>, mut batch: Batch, out: &mut Vec<Batch>, keep: Keep<I>) {
        let items = batch.index_of::<I>().items.len();
        let mut counts = Counts::default();
        let mut bytes = turn.buffers.take(0);
        let mut kept = 0;
        for number in 0..items {
            let mut item = batch.index_of::<I>().items[number];
            let start = bytes.len();
            if keep(self, &item, item_bytes(&item, &batch.segments), &mut counts, &mut bytes) {
                let position = |at: usize| u32::try_from(at).expect("a batch is admitted far below 4 GiB");
                let (offset, length) = (position(start), position(bytes.len() - start));
                item.set_place(Place { segment: 0, offset, length, ..item.place() });
                item.forget_attributes();
                batch.index_of_mut::<I>().items[kept] = item;
                kept += 1;
            }
        }
        batch.index_of_mut::<I>().items.truncate(kept);
        self.items_dropped += (items - kept) as u64;
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
        let outcome =
            self.sampler.decide(&Candidate { id: Id::Trace(item.trace_id), arrived, priority: priority(span) });
        counts.0[outcome.policy as usize][usize::from(outcome.kept)] += 1;
        match (state, outcome.written) {
            _ if !outcome.kept => {}
            (Some(state), Some((randomness, threshold))) => {
                self.text.clear();
                state.write(randomness, threshold, &mut self.text);
                write_marked_span(span, Some(&self.text), &[], out);
            }
            _ => out.extend_from_slice(span),
        }
        outcome.kept
    }

    /// Appends the log record to `out` as it is to leave, if it is kept.
    fn keep_record(&mut self, item: &LogItem, record: &[u8], counts: &mut Counts, out: &mut Vec<u8>) -> bool {
        self.list.begin(record, field::LOG);
        let arrived = arrived_with(&self.list);
        let source = self.source(item);
        let id = match &source {
            Source::TraceId => Id::Trace(item.trace_id),
            Source::Attribute(bytes) => Id::Attribute(bytes),
            Source::Nothing => Id::Missing,
        };
        let priority = self.record_priority();
        let outcome = self.sampler.decide(&Candidate { id, arrived, priority });
        counts.0[outcome.policy as usize][usize::from(outcome.kept)] += 1;
        if !outcome.kept {
            return false;
        }
        if let (Some(arrived), Some((randomness, threshold))) = (arrived, outcome.written) {
            self.mark(arrived, randomness, threshold);
        }
        self.list.write(out);
        true
    }

    /// What a log record's randomness comes from.
    fn source(&self, item: &LogItem) -> Source {
        // Without a hash there is but the trace id.
        if !self.hashes || (self.records.uses_trace_id && item.trace_id != TraceId::default()) {
            return Source::TraceId;
        }
        let named = self.records.from_attribute.as_deref().and_then(|key| self.list.find(key));
        match named.map(|place| self.list.value(place)) {
            Some(ottl::Value::Text(text)) if !text.is_empty() => Source::Attribute(text.into_owned()),
            Some(ottl::Value::Bytes(bytes)) if !bytes.is_empty() => Source::Attribute(bytes.into_owned()),
            Some(ottl::Value::Text(_) | ottl::Value::Bytes(_) | ottl::Value::Nil) | None => Source::Nothing,
            Some(other) => Source::Attribute(other.as_text().into_owned()),
        }
    }

    /// A percentage that the record itself asks for.
    fn record_priority(&self) -> Priority {
        let named = self.records.priority.as_deref().and_then(|key| self.list.find(key));
        match named.map(|place| self.list.value(place)) {
            Some(ottl::Value::Int(percentage)) => Priority::of_record(percentage as f64),
            Some(ottl::Value::Double(percentage)) => Priority::of_record(percentage),
            _ => Priority::Unset,
        }
    }

    /// Writes into the record what it is to carry away. A threshold that arrived is never lowered, unless it cannot be true.
    fn mark(&mut self, arrived: Arrived, randomness: Option<Randomness>, threshold: Update) {
        if let (None, Some(randomness)) = (arrived.randomness, randomness) {
            self.text.clear();
            randomness.write(&mut self.text);
            self.put(RANDOMNESS);
        }
        match threshold {
            Update::Raise(threshold) if arrived.threshold.is_some_and(|arrived| arrived > threshold) => {}
            Update::Raise(threshold) | Update::Replace(threshold) if threshold != Threshold::NEVER => {
                self.text.clear();
                threshold.write(&mut self.text);
                self.put(THRESHOLD);
            }
            Update::Raise(_) | Update::Replace(_) => {}
        }
    }

    fn put(&mut self, key: &[u8]) {
        let value = self.list.write_value(&ottl::Value::Text(self.text.as_slice().into()));
        self.list.put(key, value);
    }

    /// Items that were not kept, ever.
    pub fn items_dropped(&self) -> u64 {
        self.items_dropped
    }

    /// Memory that is kept from batch to batch.
    pub fn bytes_held(&self) -> u64 {
        (self.list.bytes_held() + self.text.capacity()) as u64
    }
}

/// Decides about one item and appends it if it is kept.
type Keep<I> = fn(&mut ProbabilisticSampler, &I, &[u8], &mut Counts, &mut Vec<u8>) -> bool;

/// See [`ProbabilisticSampler::source`].
enum Source {
    TraceId,
    Attribute(Vec<u8>),
    Nothing,
}

/// What a log record carries; `None` if that is malformed.
fn arrived_with(list: &AttributeList) -> Option<Arrived> {
    let text = |key| match list.find(key).map(|place| list.value(place)) {
        Some(ottl::Value::Text(text)) => Some(text.into_owned()),
        _ => None,
    };
    let (randomness, threshold) = (text(RANDOMNESS), text(THRESHOLD));
    Some(Arrived {
        randomness: randomness.map(|text| Randomness::parse(&text).ok_or(())).transpose().ok()?,
        threshold: threshold.map(|text| Threshold::parse(&text).ok_or(())).transpose().ok()?,
    })
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
    use crate::telemetry::cells::Schema;
    use codecs::otlp::proto::{AnyValue, KeyValue, LogRecord, Span, Value};
    use prost::Message;
    use sampling::head::HeadSettings;

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

    /// What becomes of a log record at this percentage: the texts of its two marks, if it is kept.
    fn check_record(
        percentage: f32,
        mode: Mode,
        records: RecordSettings,
        record: LogRecord,
        expected: Option<[Option<&str>; 2]>,
    ) {
        let head = HeadSettings { percentage, mode, ..HeadSettings::default() };
        let mut schema = Schema::default();
        let series = ProbabilisticSamplerSeries::declare(&mut schema, Signal::Logs, Some("id"));
        let mut sampler = ProbabilisticSampler::new(&SamplerSettings { head, records }, series);
        let trace_id = record.trace_id.as_slice().try_into().map_or(TraceId::default(), TraceId);
        let item = LogItem { trace_id, ..LogItem::default() };
        let (mut counts, mut out) = (Counts::default(), Vec::new());
        let kept = sampler.keep_record(&item, &record.encode_to_vec(), &mut counts, &mut out);
        let found = kept.then(|| {
            let after = LogRecord::decode(&*out).unwrap();
            [RANDOMNESS, THRESHOLD].map(|key| {
                let found = after.attributes.iter().find(|entry| entry.key == key)?;
                match found.value.clone()?.value? {
                    Value::String(text) => Some(String::from_utf8(text).unwrap()),
                    other => panic!("{other:?}"),
                }
            })
        });
        let expected = expected.map(|texts| texts.map(|text| text.map(str::to_owned)));
        assert_eq!(found, expected, "{record:?}");
    }

    fn traced(id: u128) -> LogRecord {
        LogRecord { trace_id: id.to_be_bytes().to_vec(), body: None, ..LogRecord::default() }
    }

    fn with(key: &str, value: Value) -> LogRecord {
        let attribute = KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }) };
        LogRecord { attributes: vec![attribute], ..LogRecord::default() }
    }

    /// Of the vectors of hashes: kept and not kept at 50 %.
    const KEPT: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
    const NOT_KEPT: u128 = 0xe9eb_5481_0fcc_669c_1c65_58c1_0ba3_50ab;

    #[test]
    fn a_log_record_is_drawn_by_its_trace_id_and_carries_its_threshold_away() {
        let by_trace = || RecordSettings { uses_trace_id: true, from_attribute: None, priority: None };
        let marks = Some([Some("fdc80d0b42008d"), Some("8")]);
        check_record(50.0, Mode::HashSeed, by_trace(), traced(KEPT), marks);
        check_record(50.0, Mode::HashSeed, by_trace(), traced(NOT_KEPT), None);
        check_record(50.0, Mode::HashSeed, by_trace(), traced(0), None);
        check_record(100.0, Mode::Proportional, by_trace(), traced(NOT_KEPT), Some([None, Some("0")]));
        check_record(100.0, Mode::Proportional, by_trace(), traced(0), None);
        // 0xce929d0e0e4736 of 2^56 is above the rejected half; what arrived is never lowered.
        check_record(50.0, Mode::Equalizing, by_trace(), traced(KEPT), Some([None, Some("8")]));
        let arrived =
            LogRecord { attributes: with("sampling.threshold", Value::String("c".into())).attributes, ..traced(KEPT) };
        check_record(50.0, Mode::Equalizing, by_trace(), arrived.clone(), Some([None, Some("c")]));
        check_record(50.0, Mode::HashSeed, by_trace(), arrived, None);
        let broken =
            LogRecord { attributes: with("sampling.threshold", Value::String("x".into())).attributes, ..traced(KEPT) };
        check_record(100.0, Mode::Equalizing, by_trace(), broken, None);
    }

    #[test]
    fn a_log_record_is_drawn_by_an_attribute_where_it_has_no_trace_id_or_that_is_not_asked() {
        let by = |uses_trace_id| RecordSettings { uses_trace_id, from_attribute: Some(b"id".to_vec()), priority: None };
        let id = |id: u128| with("id", Value::Bytes(id.to_be_bytes().to_vec()));
        let marks = Some([Some("fdc80d0b42008d"), Some("8")]);
        check_record(50.0, Mode::HashSeed, by(true), id(KEPT), marks);
        check_record(50.0, Mode::HashSeed, by(true), id(NOT_KEPT), None);
        let both = LogRecord { attributes: id(KEPT).attributes, ..traced(NOT_KEPT) };
        check_record(50.0, Mode::HashSeed, by(false), both.clone(), marks);
        check_record(50.0, Mode::HashSeed, by(true), both, None);
        check_record(50.0, Mode::HashSeed, by(true), with("id", Value::String(Vec::new())), None);
        check_record(50.0, Mode::HashSeed, by(false), traced(KEPT), None);
    }

    #[test]
    fn a_log_records_own_percentage_goes_before_the_configured_one() {
        let by = || RecordSettings { uses_trace_id: true, from_attribute: None, priority: Some(b"rate".to_vec()) };
        let asks = |id: u128, value| LogRecord { attributes: with("rate", value).attributes, ..traced(id) };
        check_record(0.0, Mode::HashSeed, by(), asks(NOT_KEPT, Value::Int(100)), Some([None, Some("0")]));
        check_record(100.0, Mode::HashSeed, by(), asks(NOT_KEPT, Value::Double(10.0)), None);
        check_record(0.0, Mode::HashSeed, by(), asks(KEPT, Value::Int(0)), None);
        check_record(0.0, Mode::HashSeed, by(), asks(KEPT, Value::String("100".into())), None);
    }
}
