//! `memory`: the last kept traces of one shard, so that `tracegate traces` can show what was kept and why.
//!
//! ```text
//! batch --copy--> stored trace (bytes, ranges, reason) --asked--> KeptTrace (decoded, serialisable)
//!                   oldest leaves beyond the bound in number or bytes
//! ```
//!
//! Span bytes are copied, because a kept span must not hold the whole request it came in. Nothing is decoded until
//! somebody asks. The store never refuses a batch: what it cannot keep it counts.

use std::collections::VecDeque;

use bytes::Bytes;
use codecs::otlp::{ByteRange, SpanIndex, SpanItem, StatusCode, TraceId};
use hashbrown::HashMap;
use prost::Message;
use serde::{Deserialize, Serialize};

use super::span_message::{ResourceMessage, SpanMessage};

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
        }
    }

    /// Keeps a copy of every span of a batch. `reasons` names the reason number that a sampler gave its spans; 0 means
    /// that no sampler decided.
    pub fn push<'r>(&mut self, batch: &SpanIndex, segments: &[Bytes], reasons: &dyn Fn(u16) -> &'r str) {
        let mut resources = ResourceCopies::default();
        for span in &batch.spans {
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
        let start = span.offset as usize;
        let message = &segments[span.segment as usize][start..start + span.length as usize];
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
        if trace.bytes.len() + bytes_new > TRACE_BYTES_MAX.min(self.bounds.bytes_max / 2) {
            self.left_out += 1;
            return;
        }
        let resource_range = known.unwrap_or_else(|| trace.append(envelope_bytes));
        resources.remember(span.trace_id, resource, resource_range);
        let span_range = trace.append(message);
        trace.spans.push(StoredSpan {
            resource: resource_range,
            span: span_range,
        });
        self.bytes += bytes_new;
        self.evict_beyond_bytes(span.trace_id);
    }

    fn admit(&mut self, id: TraceId, reason: &str) {
        if self.traces.len() == self.bounds.traces_max {
            self.evict_oldest();
        }
        let reason = reason[..reason.floor_char_boundary(REASON_BYTES_MAX)].to_owned();
        let trace = StoredTrace {
            reason,
            ..StoredTrace::default()
        };
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
        ByteRange {
            start,
            end: position(&self.bytes),
        }
    }

    fn slice(&self, range: ByteRange) -> &[u8] {
        &self.bytes[range.start as usize..range.end as usize]
    }

    /// The request was checked when it came in, so decoding cannot fail; if it did, an empty span shows it.
    fn decode(&self, stored: &StoredSpan) -> KeptSpan {
        let resource = ResourceMessage::decode(self.slice(stored.resource)).unwrap_or_default();
        let span = SpanMessage::decode(self.slice(stored.span)).unwrap_or_default();
        span.shown(&resource)
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
    /// In order of start.
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
            error: spans.iter().any(|span| span.status == status_word(StatusCode::Error)),
            spans,
        }
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

/// The word for a status.
pub fn status_word(status: StatusCode) -> &'static str {
    match status {
        StatusCode::Unset => "unset",
        StatusCode::Ok => "ok",
        StatusCode::Error => "error",
    }
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
