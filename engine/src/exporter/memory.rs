//! `memory`: the last kept traces of one shard, so that `tracegate traces` can show what was kept and why.
//!
//! ```text
//! batch --copy--> stored trace (bytes, ranges, reason) --asked--> KeptTrace (decoded, serialisable)
//!                   oldest leaves beyond the bound in number or bytes
//! ```
//!
//! Span bytes are copied, because a kept span must not hold the whole request it came in. Nothing is decoded until
//! somebody asks. The store never refuses a batch: what it cannot keep it counts.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use codecs::otlp::proto::{self, AnyValue, KeyValue, ResourceSpans, Span, Value};
use codecs::otlp::{ByteRange, SpanIndex, SpanItem, TraceId, span_bytes};

use prost::Message;
use serde::{Deserialize, Serialize};

use crate::telemetry::cells::Cells;
use crate::telemetry::metrics::MemoryExporterSeries;

/// Bounds of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryBounds {
    /// Traces held; at least 1.
    pub traces_max: usize,
    /// Bytes held over all traces.
    pub bytes_max: usize,
}

/// Bytes one stored span costs besides its own: its entry, rounded up.
const SPAN_OVERHEAD_BYTES: usize = 32;
/// Bytes one stored trace costs besides its spans: its entries in map and queue, rounded up.
const TRACE_OVERHEAD_BYTES: usize = 256;
/// Bytes one trace may take; its later spans are left out and counted.
const TRACE_BYTES_MAX: usize = 1 << 20;
/// Longest reason kept; policy names come from the configuration and are short.
const REASON_BYTES_MAX: usize = 128;
/// Attributes shown of one span or resource; the rest is left out of the answer.
const ATTRIBUTES_SHOWN_MAX: usize = 128;

/// The last kept traces of one shard.
#[derive(Debug)]
pub struct MemoryTraces {
    bounds: MemoryBounds,
    traces: HashMap<TraceId, StoredTrace>,
    /// Trace ids in the order their first span came.
    arrival: VecDeque<TraceId>,
    bytes: usize,
    evicted: u64,
    left_out: u64,
    /// What the shard's cells know of the two above.
    evicted_shown: u64,
    left_out_shown: u64,
}

/// One trace as it is held.
#[derive(Debug, Default)]
struct StoredTrace {
    reason: String,
    /// Resource envelopes and span messages, back to back.
    bytes: Vec<u8>,
    spans: Vec<StoredSpan>,
}

#[derive(Debug)]
struct StoredSpan {
    resource: ByteRange,
    span: ByteRange,
}

impl MemoryTraces {
    /// An empty store.
    pub fn new(bounds: MemoryBounds) -> MemoryTraces {
        assert!(bounds.traces_max > 0, "a store of no traces cannot hold one");
        MemoryTraces {
            bounds,
            traces: HashMap::new(),
            arrival: VecDeque::new(),
            bytes: 0,
            evicted: 0,
            left_out: 0,
            evicted_shown: 0,
            left_out_shown: 0,
        }
    }

    /// Keeps a copy of every span of a batch. `reasons` names the reason number that a sampler gave its spans; 0 means
    /// that no sampler decided.
    pub fn push<'r>(&mut self, batch: &SpanIndex, segments: &[Bytes], reasons: &dyn Fn(u16) -> &'r str) {
        let mut resources = ResourceCopies::default();
        for span in &batch.items {
            self.push_span(batch, segments, span, reasons, &mut resources);
        }
    }

    fn push_span<'r>(
        &mut self,
        batch: &SpanIndex,
        segments: &[Bytes],
        span: &SpanItem,
        reasons: &dyn Fn(u16) -> &'r str,
        resources: &mut ResourceCopies,
    ) {
        let message = span_bytes(span, segments);
        let resource = batch.scopes[span.scope as usize].resource;
        let envelope = batch.resources[resource as usize];
        let envelope_bytes = &batch.envelopes[envelope.start as usize..envelope.end as usize];
        if !self.traces.contains_key(&span.trace_id) {
            self.admit(span.trace_id, reasons(span.reason));
        }
        let trace = self.traces.get_mut(&span.trace_id).expect("admitted above");
        let known = resources.find(span.trace_id, resource);
        let envelope_new = if known.is_some() { 0 } else { envelope_bytes.len() };
        let bytes_new = message.len() + envelope_new + SPAN_OVERHEAD_BYTES;
        if trace.cost() + bytes_new > TRACE_BYTES_MAX.min(self.bounds.bytes_max / 2) {
            self.left_out += 1;
            return;
        }
        let resource_range = known.unwrap_or_else(|| trace.append(envelope_bytes));
        resources.remember(span.trace_id, resource, resource_range);
        let span_range = trace.append(message);
        trace.spans.push(StoredSpan { resource: resource_range, span: span_range });
        self.bytes += bytes_new;
        self.evict_beyond_bytes(span.trace_id);
    }

    fn admit(&mut self, id: TraceId, reason: &str) {
        if self.traces.len() == self.bounds.traces_max {
            self.evict_oldest();
        }
        let reason = reason[..reason.floor_char_boundary(REASON_BYTES_MAX)].to_owned();
        let trace = StoredTrace { reason, ..StoredTrace::default() };
        self.traces.insert(id, trace);
        self.arrival.push_back(id);
        self.bytes += TRACE_OVERHEAD_BYTES;
    }

    /// `current` stays: it is below half of the bound, so older ones suffice.
    fn evict_beyond_bytes(&mut self, current: TraceId) {
        while self.bytes > self.bounds.bytes_max && self.arrival.front().is_some_and(|oldest| *oldest != current) {
            self.evict_oldest();
        }
        if self.bytes > self.bounds.bytes_max && self.arrival.len() > 1 {
            // The current trace is the oldest one: it moves behind the others, which then leave in order.
            self.arrival.rotate_left(1);
            self.evict_beyond_bytes(current);
        }
    }

    fn evict_oldest(&mut self) {
        let Some(oldest) = self.arrival.pop_front() else { return };
        let trace = self.traces.remove(&oldest).expect("every id in the queue has its trace in the map");
        self.bytes -= trace.cost();
        self.evicted += 1;
    }

    /// Traces held.
    pub fn len(&self) -> usize {
        self.traces.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.traces.is_empty()
    }

    /// Bytes held, entries included.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Traces that left for younger ones, ever.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Spans not kept because their trace was too large, ever.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Brings the shard's cells up to date.
    pub fn show(&mut self, cells: &Cells, series: &MemoryExporterSeries) {
        cells.set(series.traces, self.len() as u64);
        cells.set(series.bytes, self.bytes() as u64);
        cells.add(series.traces_evicted, self.evicted - self.evicted_shown);
        cells.add(series.spans_left_out, self.left_out - self.left_out_shown);
        (self.evicted_shown, self.left_out_shown) = (self.evicted, self.left_out);
    }

    /// Every trace held, youngest first, decoded.
    pub fn traces(&self) -> Vec<KeptTrace> {
        let held = self.arrival.iter().rev();
        held.filter_map(|id| self.trace(*id)).collect()
    }

    /// One trace, decoded; `None` if it is not held.
    pub fn trace(&self, id: TraceId) -> Option<KeptTrace> {
        let stored = self.traces.get(&id)?;
        let spans = stored.spans.iter().map(|span| stored.decode(span)).collect();
        Some(KeptTrace::new(hex(&id.0), stored.reason.clone(), spans))
    }
}

/// Where this batch's resources were copied to, so that a trace holds each of them once per batch.
///
/// Spans of a trace arrive together, so remembering the last place of each resource finds nearly all of them.
#[derive(Default)]
struct ResourceCopies(HashMap<u32, (TraceId, ByteRange)>);

impl ResourceCopies {
    fn find(&self, trace: TraceId, resource: u32) -> Option<ByteRange> {
        let (owner, range) = self.0.get(&resource)?;
        (*owner == trace).then_some(*range)
    }

    fn remember(&mut self, trace: TraceId, resource: u32, range: ByteRange) {
        self.0.insert(resource, (trace, range));
    }
}

impl StoredTrace {
    /// Bytes this trace is charged for.
    fn cost(&self) -> usize {
        self.bytes.len() + self.spans.len() * SPAN_OVERHEAD_BYTES + TRACE_OVERHEAD_BYTES
    }

    fn append(&mut self, bytes: &[u8]) -> ByteRange {
        let position = |bytes: &Vec<u8>| u32::try_from(bytes.len()).expect("a trace is bounded by TRACE_BYTES_MAX");
        let start = position(&self.bytes);
        self.bytes.extend_from_slice(bytes);
        ByteRange { start, end: position(&self.bytes) }
    }

    fn slice(&self, range: ByteRange) -> &[u8] {
        &self.bytes[range.start as usize..range.end as usize]
    }

    /// The request was checked when it came in, so decoding cannot fail; if it did, an empty span shows it.
    fn decode(&self, stored: &StoredSpan) -> KeptSpan {
        let envelope = ResourceSpans::decode(self.slice(stored.resource)).unwrap_or_default();
        let span = Span::decode(self.slice(stored.span)).unwrap_or_default();
        KeptSpan::new(&span, &envelope.resource.unwrap_or_default().attributes)
    }
}

/// A kept trace as it is shown, or one shard's part of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KeptTrace {
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// Name of the policy that kept it; empty if no sampler decided.
    pub reason: String,
    /// Name of the root span; of the earliest span if the root is not here.
    pub root_name: String,
    /// `service.name` of its spans, sorted, each once.
    pub services: Vec<String>,
    /// First start, in nanoseconds since 1970.
    pub start_ns: u64,
    /// Last end minus first start.
    pub duration_ns: u64,
    /// Whether a span has status ERROR.
    pub error: bool,
    /// How many spans are kept of it.
    pub span_count: usize,
    /// In order of start; empty in a list of traces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spans: Vec<KeptSpan>,
}

/// A span as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KeptSpan {
    /// 16 hexadecimal digits.
    pub span_id: String,
    /// 16 hexadecimal digits; empty for a root span.
    pub parent_span_id: String,
    /// Its name.
    pub name: String,
    /// `service.name` of its resource.
    pub service: String,
    /// `internal`, `server`, `client`, `producer`, `consumer` or `unspecified`.
    pub kind: String,
    /// `unset`, `ok` or `error`.
    pub status: String,
    /// The status' message.
    pub status_message: String,
    /// Start in nanoseconds since 1970.
    pub start_ns: u64,
    /// End minus start; 0 if the clocks disagree.
    pub duration_ns: u64,
    /// Names and values as text, in the order they were sent.
    pub attributes: Vec<(String, String)>,
    /// The resource's, likewise.
    pub resource_attributes: Vec<(String, String)>,
}

impl KeptTrace {
    /// Sums up its spans.
    pub fn new(trace_id: String, reason: String, mut spans: Vec<KeptSpan>) -> KeptTrace {
        spans.sort_by_key(|span| span.start_ns);
        let start_ns = spans.first().map_or(0, |span| span.start_ns);
        let end_ns = spans.iter().map(|span| span.start_ns.saturating_add(span.duration_ns)).max();
        let root = spans.iter().find(|span| span.parent_span_id.is_empty()).or(spans.first());
        let mut services: Vec<String> = spans.iter().map(|span| span.service.clone()).collect();
        services.sort_unstable();
        services.dedup();
        KeptTrace {
            trace_id,
            reason,
            root_name: root.map(|span| span.name.clone()).unwrap_or_default(),
            services,
            start_ns,
            duration_ns: end_ns.unwrap_or(0).saturating_sub(start_ns),
            error: spans.iter().any(|span| span.status == STATUS_WORDS[2]),
            span_count: spans.len(),
            spans,
        }
    }

    /// The trace as one line of a list: everything but its spans.
    pub fn without_spans(self) -> KeptTrace {
        KeptTrace { spans: Vec::new(), ..self }
    }

    /// Joins the parts of several shards into whole traces, youngest first.
    pub fn join(parts: Vec<KeptTrace>) -> Vec<KeptTrace> {
        let mut whole: Vec<KeptTrace> = Vec::with_capacity(parts.len());
        let mut places: HashMap<String, usize> = HashMap::new();
        for part in parts {
            match places.get(&part.trace_id) {
                None => {
                    places.insert(part.trace_id.clone(), whole.len());
                    whole.push(part);
                }
                Some(place) => {
                    let first = std::mem::take(&mut whole[*place]);
                    let reason = if first.reason.is_empty() { part.reason } else { first.reason };
                    let spans = [first.spans, part.spans].concat();
                    whole[*place] = KeptTrace::new(first.trace_id, reason, spans);
                }
            }
        }
        whole.sort_by_key(|trace| std::cmp::Reverse(trace.start_ns));
        whole
    }
}

impl KeptSpan {
    fn new(span: &Span, resource: &[KeyValue]) -> KeptSpan {
        let word = |words: &[&str], number: i32| {
            let known = usize::try_from(number).ok().and_then(|number| words.get(number));
            (*known.unwrap_or(&words[0])).to_owned()
        };
        let status = span.status.clone().unwrap_or_default();
        let resource_attributes = shown_attributes(resource);
        let service = resource_attributes.iter().find(|(name, _)| name == "service.name");
        KeptSpan {
            span_id: hex(&span.span_id),
            parent_span_id: if span.parent_span_id.iter().all(|byte| *byte == 0) {
                String::new()
            } else {
                hex(&span.parent_span_id)
            },
            name: shown_text(&span.name),
            service: service.map(|(_, name)| name.clone()).unwrap_or_default(),
            kind: word(&KIND_WORDS, span.kind),
            status: word(&STATUS_WORDS, status.code),
            status_message: shown_text(&status.message),
            start_ns: span.start_time_unix_nano,
            duration_ns: span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano),
            attributes: shown_attributes(&span.attributes),
            resource_attributes,
        }
    }
}

/// Every span of a request with its trace id in hexadecimal digits, as they are shown.
pub(crate) fn spans_of(request: &proto::ExportTraceServiceRequest) -> impl Iterator<Item = (String, KeptSpan)> {
    request.resource_spans.iter().flat_map(|resource| {
        let attributes = resource.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
        let spans = resource.scope_spans.iter().flat_map(|scope| &scope.spans);
        spans.map(move |span| (hex(&span.trace_id), KeptSpan::new(span, attributes)))
    })
}

/// By the numbers of `Span.kind`; unknown ones are shown as unspecified.
const KIND_WORDS: [&str; 6] = ["unspecified", "internal", "server", "client", "producer", "consumer"];
/// By the numbers of `Status.code`; unknown ones count as unset.
const STATUS_WORDS: [&str; 3] = ["unset", "ok", "error"];

fn shown_attributes(attributes: &[KeyValue]) -> Vec<(String, String)> {
    let shown = attributes.iter().take(ATTRIBUTES_SHOWN_MAX);
    let text = |value: &Option<AnyValue>| shown_value(value.as_ref().and_then(|value| value.value.as_ref()), 0);
    shown.map(|attribute| (shown_text(&attribute.key), text(&attribute.value))).collect()
}

/// A value as people write it. `depth` bounds the recursion; deeper values are left out.
fn shown_value(value: Option<&Value>, depth: usize) -> String {
    const DEPTH_MAX: usize = 4;
    if depth > DEPTH_MAX {
        return "...".to_owned();
    }
    let inner = |value: &AnyValue| shown_value(value.value.as_ref(), depth + 1);
    match value {
        None => String::new(),
        Some(Value::String(text)) => shown_text(text),
        Some(Value::Bool(truth)) => truth.to_string(),
        Some(Value::Int(number)) => number.to_string(),
        Some(Value::Double(number)) => number.to_string(),
        Some(Value::Bytes(bytes)) => hex(bytes),
        Some(Value::Array(array)) => {
            let elements: Vec<String> = array.values.iter().map(inner).collect();
            format!("[{}]", elements.join(", "))
        }
        Some(Value::Map(map)) => {
            let text = |entry: &KeyValue| {
                let value = entry.value.as_ref().map(inner).unwrap_or_default();
                format!("{}: {value}", shown_text(&entry.key))
            };
            let entries: Vec<String> = map.values.iter().map(text).collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

/// A peer's text for people: bad UTF-8 and control characters replaced, so that it cannot steer a terminal.
fn shown_text(bytes: &[u8]) -> String {
    let clean = |character: char| if character.is_control() { '\u{fffd}' } else { character };
    proto::text(bytes).chars().map(clean).collect()
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::cells::Schema;
    use codecs::otlp::proto::{ExportTraceServiceRequest, Resource, ScopeSpans, SpanStatus};

    fn attribute(key: &str, value: Value) -> KeyValue {
        KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }) }
    }

    fn span(trace: u8, id: u8, parent: u8) -> Span {
        Span {
            trace_id: vec![trace; 16],
            span_id: vec![id; 8],
            parent_span_id: if parent == 0 { Vec::new() } else { vec![parent; 8] },
            name: format!("GET /{id}").into(),
            kind: 2,
            start_time_unix_nano: 1_000 + u64::from(id),
            end_time_unix_nano: 2_000,
            attributes: vec![attribute("http.status_code", Value::Int(500))],
            status: (id == 2).then(|| SpanStatus { code: 2, message: "timed\x1bout".into() }),
            ..Span::default()
        }
    }

    /// One request with one resource per service, and its index.
    fn request(services: &[(&str, Vec<Span>)]) -> (SpanIndex, Vec<Bytes>) {
        let resource_spans = services.iter().map(|(service, spans)| ResourceSpans {
            resource: Some(Resource {
                attributes: vec![attribute("service.name", Value::String((*service).into()))],
                dropped_attributes_count: 0,
            }),
            scope_spans: vec![ScopeSpans { spans: spans.clone(), ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        });
        let request = ExportTraceServiceRequest { resource_spans: resource_spans.collect() };
        let bytes = Bytes::from(request.encode_to_vec());
        let mut index = SpanIndex::default();
        index.read_request(&bytes, 0).unwrap();
        for span in &mut index.items {
            span.reason = 1;
        }
        (index, vec![bytes])
    }

    fn reason(number: u16) -> &'static str {
        if number == 1 { "errors" } else { "" }
    }

    fn store(traces_max: usize, bytes_max: usize) -> MemoryTraces {
        MemoryTraces::new(MemoryBounds { traces_max, bytes_max })
    }

    #[test]
    fn a_kept_trace_is_shown_with_its_reason_root_services_and_spans() {
        let mut store = store(10, 1 << 20);
        let (index, segments) = request(&[("checkout", vec![span(7, 2, 1)]), ("frontend", vec![span(7, 1, 0)])]);
        store.push(&index, &segments, &reason);
        let traces = store.traces();
        assert_eq!(traces.len(), 1);
        let trace = &traces[0];
        assert_eq!(trace.trace_id, "07".repeat(16));
        assert_eq!(trace.reason, "errors");
        assert_eq!(trace.root_name, "GET /1");
        assert_eq!(trace.services, ["checkout", "frontend"]);
        assert_eq!((trace.start_ns, trace.duration_ns, trace.error), (1_001, 999, true));
        let failed = &trace.spans[1];
        assert_eq!((failed.service.as_str(), failed.status.as_str()), ("checkout", "error"));
        assert_eq!(failed.status_message, "timed\u{fffd}out", "a peer cannot steer the terminal");
        assert_eq!(failed.parent_span_id, "01".repeat(8));
        assert_eq!(failed.attributes, [("http.status_code".to_owned(), "500".to_owned())]);
    }

    #[test]
    fn spans_of_a_trace_from_two_batches_are_shown_together() {
        let mut store = store(10, 1 << 20);
        for (service, spans) in [("frontend", vec![span(7, 1, 0)]), ("checkout", vec![span(7, 2, 1)])] {
            let (index, segments) = request(&[(service, spans)]);
            store.push(&index, &segments, &reason);
        }
        assert_eq!(store.traces()[0].services, ["checkout", "frontend"]);
    }

    #[test]
    fn the_oldest_trace_leaves_beyond_the_bound_in_number() {
        let mut store = store(3, 1 << 20);
        for trace in 1..=5 {
            let (index, segments) = request(&[("frontend", vec![span(trace, 1, 0)])]);
            store.push(&index, &segments, &reason);
        }
        let ids: Vec<String> = store.traces().into_iter().map(|trace| trace.trace_id).collect();
        assert_eq!(ids, ["05", "04", "03"].map(|byte| byte.repeat(16)));
        let mut schema = Schema::default();
        let series = MemoryExporterSeries::declare(&mut schema, "memory");
        let cells = Cells::new(&schema);
        store.show(&cells, &series);
        store.show(&cells, &series);
        assert_eq!(cells.level(series.traces), 3);
        assert_eq!(cells.read(series.traces_evicted), 2, "counted once");
    }

    #[test]
    fn bytes_stay_below_their_bound_whatever_comes() {
        let bytes_max = 4 << 10;
        let mut store = store(1000, bytes_max);
        for round in 0..500u32 {
            let spans = (1..=(round % 30) as u8 + 1).map(|id| span((round * 7 % 41) as u8, id, 0));
            let (index, segments) = request(&[("frontend", spans.collect())]);
            store.push(&index, &segments, &reason);
            assert!(store.bytes() <= bytes_max, "round {round}");
            let costs: usize = store.traces.values().map(StoredTrace::cost).sum();
            assert_eq!(store.bytes(), costs);
            assert_eq!(store.arrival.len(), store.len());
        }
        assert!(store.evicted() > 0);
        assert!(store.left_out() > 0, "no trace takes more than half");
    }

    #[test]
    fn parts_of_a_trace_on_two_shards_are_joined() {
        let part = |id, parent| {
            let mut store = store(10, 1 << 20);
            let (index, segments) = request(&[("frontend", vec![span(7, id, parent)])]);
            store.push(&index, &segments, &reason);
            store.traces()
        };
        let whole = KeptTrace::join([part(2, 1), part(1, 0)].concat());
        assert_eq!(whole.len(), 1);
        assert_eq!(whole[0].root_name, "GET /1");
        assert_eq!(whole[0].spans.len(), 2);
    }

    #[test]
    fn values_are_shown_as_people_write_them_and_not_too_deep() {
        let list = |values| Value::Array(proto::ArrayValue { values });
        let of = |value| AnyValue { value: Some(value) };
        let mut deep = Value::Bool(true);
        for _ in 0..20 {
            deep = list(vec![of(deep)]);
        }
        assert_eq!(shown_value(Some(&deep), 0), "[[[[[...]]]]]");
        let mixed = list(vec![of(Value::Int(-1)), of(Value::Double(0.5)), of(Value::Bytes(vec![1, 255]))]);
        assert_eq!(shown_value(Some(&mixed), 0), "[-1, 0.5, 01ff]");
    }
}
