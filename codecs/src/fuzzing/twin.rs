//! A naive twin of the request index: prost decodes everything, plain loops regroup it.
//!
//! Where the two may differ by design: prost counts nesting in another way, so bytes that either finds too deep are not
//! compared.

use bytes::Bytes;
use prost::{DecodeError, Message};

use crate::otlp::attributes::Attribute;
use crate::otlp::proto::{ExportTraceServiceRequest, ResourceSpans, ScopeSpans, Span};
use crate::otlp::{Encoder, Selection, Signal, SpanIndex, SpanItem, StatusCode, TraceId, span_attributes, span_bytes};
use crate::wire::{Fault, Reader, Tag, WireType, write_length_field};

/// Checks that the index accepts `bytes` exactly if the twin does, finds the same spans with the same fields, keeps
/// every byte of envelopes and spans, and writes what a naive writer writes.
///
/// # Panics
/// They disagree.
pub fn check_request(bytes: &[u8]) {
    let mut index = SpanIndex::default();
    let earlier = [(&b"\x0a\x00"[..], &b""[..])];
    for (resource, scope) in earlier {
        let resource = index.push_resource(resource);
        let scope = index.push_scope(resource, scope);
        index.push_item(SpanItem { scope, ..SpanItem::default() });
    }
    let before = index.clone();
    let read = index.read_request(bytes, 1);
    match (read, decode(bytes)) {
        (Ok(()), Ok(request)) => {
            let segments = [Bytes::new(), Bytes::copy_from_slice(bytes)];
            check_index(&index, &segments, bytes, &request);
            let written = crate::json::write_request(Signal::Traces, bytes, &mut Vec::new());
            assert_eq!(written, Ok(()), "what the index takes can be written as JSON");
        }
        (Err(malformed), decoded) => {
            assert!(malformed.offset <= bytes.len(), "{malformed}: outside the {} bytes", bytes.len());
            assert!(same(&index, &before), "a malformed request leaves nothing behind");
            let too_deep = matches!(malformed.what, Fault::TooDeep(_));
            assert!(too_deep || decoded.is_err(), "the twin accepts what we find malformed: {malformed}");
        }
        (Ok(()), Err(Twin::TooDeep)) => {}
        (Ok(()), Err(error)) => panic!("the twin rejects what we accept: {error:?}"),
    }
}

/// Checks that a part of a request's spans is written alike by selection and by a copy, and survives relocation.
///
/// # Panics
/// It is not.
pub fn check_subset(bytes: &[u8], keeps: impl Fn(u32) -> bool) {
    let mut index = SpanIndex::default();
    if index.read_request(bytes, 0).is_err() {
        return;
    }
    let segments = [Bytes::copy_from_slice(bytes)];
    let spans: Vec<u32> = (0..index.items.len() as u32).filter(|number| keeps(*number)).collect();
    let mut number = 0;
    let mut kept = naive_resources(bytes);
    for scopes in kept.iter_mut().map(|resource| &mut resource.scopes) {
        for scope in scopes {
            scope.items.retain(|_| {
                number += 1;
                keeps(number - 1)
            });
        }
    }
    let expected = naive_encode(&kept);
    assert_eq!(encode(&index, &segments, &Selection::Listed(&spans)), expected, "a selection");

    let mut copy = SpanIndex::default();
    index.select(&spans, &mut copy);
    assert_eq!(encode(&copy, &segments, &Selection::All), expected, "a copied selection");
    let kept_scopes = kept.iter().flat_map(|resource| &resource.scopes).filter(|scope| !scope.items.is_empty()).count();
    assert_eq!(copy.scopes.len(), kept_scopes, "only used envelopes are copied");

    let mut buffer = b"others".to_vec();
    copy.relocate(0, &segments, &mut buffer, 1);
    assert_eq!(encode(&copy, &[Bytes::new(), buffer.into()], &Selection::All), expected, "a relocated selection");
    check_split(&index, &segments);
}

/// A batch cut in two keeps every span once.
fn check_split(index: &SpanIndex, segments: &[Bytes]) {
    let end = index.items.len() as u32;
    let halves = [0..end / 2, end / 2..end].map(|half| encode(index, segments, &Selection::Range(half)));
    let mut both = SpanIndex::default();
    for (number, half) in halves.iter().enumerate() {
        both.read_request(half, number as u16).expect("what was written is well-formed");
    }
    let halves = halves.map(Bytes::from);
    let bytes_of = |index: &SpanIndex, segments: &[Bytes]| -> Vec<Vec<u8>> {
        index.items.iter().map(|span| span_bytes(span, segments).to_vec()).collect()
    };
    assert_eq!(bytes_of(&both, &halves), bytes_of(index, segments));
}

/// Checks that two merged requests are written as one after the other, if both are well-formed.
///
/// # Panics
/// They are not.
pub fn check_merge(first: &[u8], second: &[u8]) {
    let (mut merged, mut other) = (SpanIndex::default(), SpanIndex::default());
    if merged.read_request(first, 0).is_err() || other.read_request(second, 0).is_err() {
        return;
    }
    merged.append(&other, 1);
    let segments = [first, second].map(Bytes::copy_from_slice);
    let expected = [naive_resources(first), naive_resources(second)].map(|part| naive_encode(&part)).concat();
    assert_eq!(encode(&merged, &segments, &Selection::All), expected);
}

fn encode(index: &SpanIndex, segments: &[Bytes], selection: &Selection<'_>) -> Vec<u8> {
    let mut encoder = Encoder::default();
    let mut out = Vec::new();
    encoder.encode(index, segments, selection, &mut out);
    assert_eq!(out.len(), encoder.encoded_length(index, selection), "the length is known before");
    out
}

fn same(left: &SpanIndex, right: &SpanIndex) -> bool {
    let ends = |index: &SpanIndex| (index.envelopes.clone(), index.resources.clone(), index.scopes.clone());
    ends(left) == ends(right) && left.items == right.items
}

fn check_index(index: &SpanIndex, segments: &[Bytes], bytes: &[u8], request: &ExportTraceServiceRequest) {
    let naive = naive_resources(bytes);
    let mut number = 1;
    for (resource, decoded) in naive.iter().zip(&request.resource_spans) {
        let envelope = ResourceSpans::decode(&resource.envelope[..]).expect("an envelope is a message");
        check_equal(&envelope, &ResourceSpans { scope_spans: Vec::new(), ..decoded.clone() });
        for (scope, decoded) in resource.scopes.iter().zip(&decoded.scope_spans) {
            let envelope = ScopeSpans::decode(&scope.envelope[..]).expect("an envelope is a message");
            check_equal(&envelope, &ScopeSpans { spans: Vec::new(), ..decoded.clone() });
            for (span, decoded) in scope.items.iter().zip(&decoded.spans) {
                let item = &index.items[number];
                check_span(item, decoded);
                assert_eq!(span_bytes(item, segments), *span);
                check_attributes(item, span);
                assert_eq!(index.scope_envelope(item.scope), scope.envelope);
                assert_eq!(index.resource_envelope(item.scope), resource.envelope);
                number += 1;
            }
        }
    }
    assert_eq!(number, index.items.len(), "no more spans than the twin finds");
    let scopes = naive.iter().flat_map(|resource| &resource.scopes).filter(|scope| !scope.items.is_empty()).count();
    assert_eq!(index.scopes.len(), 1 + scopes, "scopes without spans leave no entry");
    let rest = Selection::Range(1..index.items.len() as u32);
    assert_eq!(encode(index, segments, &rest), naive_encode(&naive));
}

/// Equal as messages; compared as bytes, because a double that is not a number is not equal to itself.
fn check_equal<M: Message + std::fmt::Debug>(left: &M, right: &M) {
    assert_eq!(left.encode_to_vec(), right.encode_to_vec(), "{left:?}\n{right:?}");
}

fn check_span(item: &SpanItem, span: &Span) {
    let expected = SpanItem {
        trace_id: TraceId(span.trace_id.as_slice().try_into().unwrap_or_default()),
        span_id: span.span_id.as_slice().try_into().unwrap_or_default(),
        start_ns: span.start_time_unix_nano,
        end_ns: span.end_time_unix_nano,
        flags: span.flags,
        status: match span.status.as_ref().map_or(0, |status| status.code) {
            1 => StatusCode::Ok,
            2 => StatusCode::Error,
            _ => StatusCode::Unset,
        },
        has_parent: span.parent_span_id.iter().any(|byte| *byte != 0),
        segment: 1,
        ..*item
    };
    assert_eq!(*item, expected);
    let kind = if (0..=255).contains(&span.kind) { span.kind } else { 255 };
    assert_eq!(i32::from(item.kind.0), kind);
}

/// Where attributes were noted to lie together, all of them are found there, and read as they are anywhere else.
fn check_attributes(item: &SpanItem, span: &[u8]) {
    if let Some(noted) = item.attributes_at.in_span(span) {
        let noted = noted.map(|attribute| Attribute { key: attribute.key, value: attribute.value() });
        assert_eq!(noted.collect::<Vec<_>>(), span_attributes(span).collect::<Vec<_>>());
    }
}

/// A resource as its raw parts.
pub(super) struct NaiveResource<'a> {
    pub(super) envelope: Vec<u8>,
    pub(super) scopes: Vec<NaiveScope<'a>>,
}

pub(super) struct NaiveScope<'a> {
    pub(super) envelope: Vec<u8>,
    pub(super) items: Vec<&'a [u8]>,
}

pub(super) fn naive_resources(bytes: &[u8]) -> Vec<NaiveResource<'_>> {
    let (_, resources) = split(bytes, 1);
    let scope = |body| {
        let (envelope, items) = split(body, 2);
        NaiveScope { envelope, items }
    };
    let resource = |body| {
        let (envelope, scopes) = split(body, 2);
        NaiveResource { envelope, scopes: scopes.into_iter().map(scope).collect() }
    };
    resources.into_iter().map(resource).collect()
}

/// A checked message as the bytes of its other fields, and the bodies of the fields called `child`.
fn split(message: &[u8], child: u32) -> (Vec<u8>, Vec<&[u8]>) {
    let (mut others, mut children) = (Vec::new(), Vec::new());
    let mut reader = Reader::new("naive", message);
    while let Some(tag) = reader.tag().expect("checked before") {
        let Tag { number, wire_type, offset } = tag;
        if number == child && wire_type == WireType::Length {
            let range = reader.length_delimited().expect("checked before");
            children.push(reader.slice(range));
        } else {
            reader.skip(tag).expect("checked before");
            others.extend_from_slice(reader.slice(offset..reader.position()));
        }
    }
    (others, children)
}

pub(super) fn naive_encode(resources: &[NaiveResource<'_>]) -> Vec<u8> {
    let mut request = Vec::new();
    for resource in resources {
        let mut body = resource.envelope.clone();
        for scope in resource.scopes.iter().filter(|scope| !scope.items.is_empty()) {
            let mut scope_body = scope.envelope.clone();
            scope.items.iter().for_each(|item| write_length_field(&mut scope_body, 2, item));
            write_length_field(&mut body, 2, &scope_body);
        }
        if resource.scopes.iter().any(|scope| !scope.items.is_empty()) {
            write_length_field(&mut request, 1, &body);
        }
    }
    request
}

#[derive(Debug)]
#[allow(dead_code, reason = "shown when the twins disagree")]
pub(super) enum Twin {
    Malformed(DecodeError),
    TooDeep,
    IdLength(usize),
}

impl From<DecodeError> for Twin {
    fn from(error: DecodeError) -> Self {
        if error.to_string().contains("recursion limit") { Self::TooDeep } else { Self::Malformed(error) }
    }
}

fn decode(bytes: &[u8]) -> Result<ExportTraceServiceRequest, Twin> {
    let request = ExportTraceServiceRequest::decode(bytes)?;
    let ids = AllIdsRequest::decode(bytes)?;
    let spans = ids.resource_spans.iter().flat_map(|resource| &resource.scope_spans).flat_map(|scope| &scope.spans);
    for span in spans {
        check_ids(&span.trace_ids, 16)?;
        check_ids(&span.span_ids, 8)?;
        check_ids(&span.parent_span_ids, 8)?;
        for link in &span.links {
            check_ids(&link.trace_ids, 16)?;
            check_ids(&link.span_ids, 8)?;
        }
    }
    Ok(request)
}

pub(super) fn check_ids(ids: &[Vec<u8>], expected: usize) -> Result<(), Twin> {
    match ids.iter().find(|id| !id.is_empty() && id.len() != expected) {
        Some(id) => Err(Twin::IdLength(id.len())),
        None => Ok(()),
    }
}

// The same messages with ids as repeated fields, so that each occurrence is seen and not only the last.

#[derive(Clone, PartialEq, Message)]
struct AllIdsRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<AllIdsResource>,
}

#[derive(Clone, PartialEq, Message)]
struct AllIdsResource {
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<AllIdsScope>,
}

#[derive(Clone, PartialEq, Message)]
struct AllIdsScope {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<AllIdsSpan>,
}

#[derive(Clone, PartialEq, Message)]
struct AllIdsSpan {
    #[prost(bytes = "vec", repeated, tag = "1")]
    trace_ids: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    span_ids: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "4")]
    parent_span_ids: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = "13")]
    links: Vec<AllIdsLink>,
}

#[derive(Clone, PartialEq, Message)]
struct AllIdsLink {
    #[prost(bytes = "vec", repeated, tag = "1")]
    trace_ids: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    span_ids: Vec<Vec<u8>>,
}
