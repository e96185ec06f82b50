//! Traces by number: what a trace looks like, and so what must become of it, is a function of its number.

use bytes::Bytes;
use codecs::otlp::proto::{
    AnyValue, ExportTraceServiceRequest, InstrumentationScope, KeyValue, Resource, ResourceSpans, ScopeSpans, Span,
    SpanStatus, Value,
};
use prost::Message;

/// Trace id and span id.
pub type SpanId = ([u8; 16], [u8; 8]);

/// Any instant; sampling asks for durations only.
const START_NS: u64 = 1_700_000_000_000_000_000;
const MS: u64 = 1_000_000;

/// What is special about a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing: no policy wants it.
    Plain,
    /// Its span number `n` has the status ERROR.
    ErrorIn(u32),
    /// Its span number `n` ends late; no span alone is slow.
    SlowIn(u32),
}

/// A trace of `spans` spans; the first is the root.
#[derive(Clone, Copy, Debug)]
pub struct Trace {
    pub number: u64,
    pub spans: u32,
    pub kind: Kind,
}

impl Trace {
    pub fn id(&self) -> [u8; 16] {
        // Ids that differ in every byte, as those of real senders do; no two numbers give the same.
        let high = self.number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let low = (high ^ (high >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mut id = [0; 16];
        id[..8].copy_from_slice(&high.to_be_bytes());
        id[8..].copy_from_slice(&low.to_be_bytes());
        id
    }

    pub fn span_id(&self, place: u32) -> [u8; 8] {
        let id = (self.number << 20) | (u64::from(place) + 1);
        id.to_be_bytes()
    }

    pub fn span_ids(&self) -> impl Iterator<Item = SpanId> {
        (0..self.spans).map(|place| (self.id(), self.span_id(place)))
    }

    /// The span at `place`, with everything that real spans have and no policy looks at.
    pub fn span(&self, place: u32) -> Span {
        // Slow traces are slow by the distance of their spans: only who has them all can tell.
        let delay_ns = if self.kind == Kind::SlowIn(place) { 10_000 * MS } else { 0 };
        let start_ns = START_NS + u64::from(place) * MS + delay_ns;
        let is_error = self.kind == Kind::ErrorIn(place);
        Span {
            trace_id: self.id().to_vec(),
            span_id: self.span_id(place).to_vec(),
            parent_span_id: if place == 0 { Vec::new() } else { self.span_id(0).to_vec() },
            name: format!("operation {place} of trace {}", self.number).into_bytes(),
            kind: 2,
            start_time_unix_nano: start_ns,
            end_time_unix_nano: start_ns + MS,
            attributes: vec![text("http.route", "/cart/{id}"), text("user.tier", "gold")],
            status: is_error.then(|| SpanStatus { code: 2, message: b"no stock".to_vec() }),
            flags: 0x101,
            ..Span::default()
        }
    }
}

pub fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::String(value.as_bytes().to_vec())) });
    KeyValue { key: key.as_bytes().to_vec(), value }
}

/// One request of one service.
pub fn request(service: &str, spans: Vec<Span>) -> Bytes {
    let scope = InstrumentationScope { name: b"tests".to_vec(), version: b"1".to_vec(), ..Default::default() };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..Default::default() }];
    let resource = Some(Resource { attributes: vec![text("service.name", service)], dropped_attributes_count: 0 });
    let resource_spans = vec![ResourceSpans { resource, scope_spans, ..Default::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec().into()
}

/// A request with whole traces.
pub fn request_of(traces: &[Trace]) -> Bytes {
    request("shop", traces.iter().flat_map(|trace| (0..trace.spans).map(|place| trace.span(place))).collect())
}

/// The ids of a request's spans, in order.
pub fn spans_of(request: &[u8]) -> Vec<SpanId> {
    let request = ExportTraceServiceRequest::decode(request).expect("the gateway sends sound requests");
    let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    let spans = scopes.flat_map(|scope| scope.spans);
    spans.map(|span| (span.trace_id.try_into().expect("16 bytes"), span.span_id.try_into().expect("8 bytes"))).collect()
}

/// The three policies of the issue, none by chance: errors, traces of a second or more, nothing else.
pub fn tail_sampling(decision_wait: &str) -> String {
    format!(
        "{{decision_wait: {decision_wait}, policies: [{{name: errors, type: status_code, status_code: {{status_codes: \
         [ERROR]}}}}, {{name: slow, type: latency, latency: {{threshold_ms: 1000}}}}, {{name: random, type: \
         probabilistic, probabilistic: {{sampling_percentage: 0}}}}]}}"
    )
}
