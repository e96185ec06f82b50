//! Requests made by hand: spans with their resource and scope, and the index over them.

// Each test binary uses its own part of this file, and nobody else sees it.
#![allow(dead_code, unreachable_pub)]

pub mod twin;

use bytes::Bytes;
use codecs::otlp::proto::{self, AnyValue, KeyValue, Value};
use codecs::otlp::{ByteRange, ScopeEntry, SpanIndex, SpanItem, SpanKind, StatusCode, TraceId};
use prost::Message;
use sampling::Release;
use sampling::settings::{Policy, Rule, Settings};

pub const SECOND: u64 = 1_000_000_000;

/// A span and all that must still be true of it when it is released.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    pub trace_id: u128,
    pub span_id: u64,
    pub start_ns: u64,
    pub end_ns: u64,
    pub flags: u32,
    /// As in OTLP: 0, 1, 2.
    pub status: u8,
    pub kind: u8,
    pub has_parent: bool,
    pub bytes: Vec<u8>,
    pub resource: Vec<u8>,
    pub scope: Vec<u8>,
}

pub fn span(trace_id: u128, span_id: u64) -> Span {
    Span {
        trace_id,
        span_id,
        start_ns: 1_000 * SECOND,
        end_ns: 1_000 * SECOND + 1_000,
        flags: 0x101,
        status: 0,
        kind: 2,
        has_parent: true,
        bytes: format!("span {span_id} of {trace_id}").into_bytes(),
        resource: b"resource".to_vec(),
        scope: b"scope".to_vec(),
    }
}

/// Attributes by name.
pub type Attributes = Vec<(String, Value)>;

fn key_values(attributes: &Attributes) -> Vec<KeyValue> {
    let key_value = |(key, value): &(String, Value)| KeyValue {
        key: key.clone().into_bytes(),
        value: Some(AnyValue { value: Some(value.clone()) }),
    };
    attributes.iter().map(key_value).collect()
}

/// The bytes of a span message with these contents; `name_bytes` make it large.
pub fn contents(attributes: &Attributes, trace_state: &str, name_bytes: usize) -> Vec<u8> {
    let span = proto::Span {
        name: vec![b'n'; name_bytes],
        trace_state: trace_state.into(),
        attributes: key_values(attributes),
        ..proto::Span::default()
    };
    span.encode_to_vec()
}

/// A span message that says who its parent is; 0: nobody.
pub fn with_parent(mut span: Vec<u8>, parent_id: u64) -> Vec<u8> {
    const PARENT_SPAN_ID: u8 = 4 << 3 | 2;
    span.extend_from_slice(&[PARENT_SPAN_ID, 8]);
    span.extend_from_slice(&parent_id.to_be_bytes());
    span
}

/// The traces that a release names: id, reason, and whether it was cut.
pub fn named(release: &Release) -> Vec<(u128, u16, bool)> {
    let named = |trace: &sampling::KeptTrace| (u128::from_be_bytes(trace.trace_id.0), trace.reason, trace.is_cut);
    release.traces.iter().map(named).collect()
}

/// The envelope of a resource with these attributes.
pub fn resource(attributes: &Attributes) -> Vec<u8> {
    let resource = proto::Resource { attributes: key_values(attributes), ..proto::Resource::default() };
    proto::ResourceSpans { resource: Some(resource), ..proto::ResourceSpans::default() }.encode_to_vec()
}

/// A request over `spans`, in two segments. Spans next to each other with equal envelopes share them.
pub fn request(spans: &[Span]) -> (SpanIndex, Vec<Bytes>) {
    let mut index = SpanIndex::default();
    let mut segments = [Vec::new(), Vec::new()];
    let mut last: Option<&Span> = None;
    for span in spans {
        if last.is_none_or(|last| last.resource != span.resource) {
            let envelope = push_envelope(&mut index, &span.resource);
            index.resources.push(envelope);
        }
        if last.is_none_or(|last| (&last.resource, &last.scope) != (&span.resource, &span.scope)) {
            let envelope = push_envelope(&mut index, &span.scope);
            index.scopes.push(ScopeEntry { resource: index.resources.len() as u32 - 1, envelope });
        }
        last = Some(span);
        let segment = usize::from(span.span_id % 2 == 1);
        segments[segment].extend_from_slice(b"tag");
        index.items.push(SpanItem {
            trace_id: TraceId(span.trace_id.to_be_bytes()),
            span_id: span.span_id.to_be_bytes(),
            start_ns: span.start_ns,
            end_ns: span.end_ns,
            offset: segments[segment].len() as u32,
            length: span.bytes.len() as u32,
            scope: index.scopes.len() as u32 - 1,
            flags: span.flags,
            segment: segment as u16,
            reason: 0,
            status: [StatusCode::Unset, StatusCode::Ok, StatusCode::Error][usize::from(span.status)],
            kind: SpanKind(span.kind),
            has_parent: span.has_parent,
            attributes_at: SpanItem::of_message(&span.bytes).map(|item| item.attributes_at).unwrap_or_default(),
        });
        segments[segment].extend_from_slice(&span.bytes);
    }
    (index, segments.map(Bytes::from).to_vec())
}

fn push_envelope(index: &mut SpanIndex, envelope: &[u8]) -> ByteRange {
    let start = index.envelopes.len() as u32;
    index.envelopes.extend_from_slice(envelope);
    ByteRange { start, end: index.envelopes.len() as u32 }
}

/// The spans of a release with their reasons, in its order. Empties it.
pub fn take(release: &mut Release) -> Vec<(Span, u16)> {
    let index = &release.index;
    let envelope = |range: ByteRange| index.envelopes[range.start as usize..range.end as usize].to_vec();
    let spans = index.items.iter().map(|item| {
        assert_eq!(item.segment, 0);
        let scope = index.scopes[item.scope as usize];
        let span = Span {
            trace_id: u128::from_be_bytes(item.trace_id.0),
            span_id: u64::from_be_bytes(item.span_id),
            start_ns: item.start_ns,
            end_ns: item.end_ns,
            flags: item.flags,
            status: item.status as u8,
            kind: item.kind.0,
            has_parent: item.has_parent,
            bytes: release.bytes[item.offset as usize..(item.offset + item.length) as usize].to_vec(),
            resource: envelope(index.resources[scope.resource as usize]),
            scope: envelope(scope.envelope),
        };
        (span, item.reason)
    });
    let spans = spans.collect();
    release.clear();
    spans
}

pub fn settings(rules: &[Rule]) -> Settings {
    Settings {
        decision_wait_ns: 10 * SECOND,
        policies: rules
            .iter()
            .enumerate()
            .map(|(position, rule)| Policy { name: format!("policy {position}"), rule: rule.clone() })
            .collect(),
        ..Settings::default()
    }
}

pub const ERRORS: Rule = Rule::StatusCode { ok: false, error: true, unset: false };

pub fn slower_than_ms(threshold_ms: u64) -> Rule {
    Rule::Latency { threshold_ms, upper_threshold_ms: None }
}
