//! Spans as the load generator of `bench-harness` sends them: its own services, names, attributes, shapes and ids, written
//! as it writes them. What a gateway is measured with is what its memory is measured with here.

// Each test binary uses its own part of this file, and of the generator's.
#![allow(dead_code, unreachable_pub)]

#[path = "../../../bench-harness/src/traces/content.rs"]
mod content;
#[path = "../../../bench-harness/src/traces/ids.rs"]
mod ids;
#[path = "../../../bench-harness/src/traces/shape.rs"]
mod shape;
#[path = "../../../bench-harness/src/traces/wire.rs"]
mod wire;

use super::common::Span;
use ids::Identity;
use shape::SpanShape;

/// Spans of one request.
const REQUEST_SPANS: usize = 512;

/// Requests in which the spans of one trace arrive, about.
const SPREAD: f64 = 40.0;

/// Wall time of the first trace.
const START_NS: u64 = 1_760_000_000_000_000_000;

/// Between two traces.
const INTERVAL_NS: u64 = 40_000;

/// Requests that carry so many traces.
pub fn requests(traces: u64) -> Vec<Vec<Span>> {
    let mut random = fastrand::Rng::with_seed(7);
    let identity = Identity::new(7);
    let mut placed: Vec<(f64, (u8, u8), Span)> = Vec::new();
    let mut begins = 0.0;
    for sequence in 0..traces {
        let shape = shape::draw(&mut random);
        begins += shape.len() as f64 / REQUEST_SPANS as f64;
        let delays: Vec<f64> = (0..shape::SERVICES).map(|_| random.f64() * SPREAD).collect();
        for number in 0..shape.len() {
            let span = span(sequence, number, &shape, identity, &mut random);
            let service = shape[number].service;
            let key = (service, content::scope_of(shape[number].kind));
            placed.push((begins + delays[usize::from(service)], key, span));
        }
    }
    placed.sort_by(|one, other| one.0.total_cmp(&other.0));
    let request = |spans: &[(f64, (u8, u8), Span)]| {
        let mut spans = spans.to_vec();
        spans.sort_by_key(|(_, key, span)| (*key, span.trace_id));
        spans.into_iter().map(|(_, _, span)| span).collect()
    };
    placed.chunks(REQUEST_SPANS).map(request).collect()
}

fn span(sequence: u64, number: usize, shape: &[SpanShape], identity: Identity, random: &mut fastrand::Rng) -> Span {
    let SpanShape { service, kind, parent, start_ns, duration_ns } = shape[number].clone();
    let trace_id = identity.trace(sequence);
    let fate = ids::fate(trace_id);
    let is_slow = parent.is_none() && fate.slow_ms.is_some();
    let duration_ns = if is_slow { u64::from(fate.slow_ms.unwrap_or(0)) * 1_000_000 } else { duration_ns };
    let start_ns = START_NS + sequence * INTERVAL_NS + start_ns;
    let end_ns = start_ns + duration_ns;
    let fails = fate.error_span.is_some_and(|error| usize::from(error) % shape.len() == number);
    let status = if fails { 2 } else { 0 };

    let (name, attributes) = content::describe(service, kind, random);
    let mut bytes = Vec::with_capacity(512);
    wire::bytes(&mut bytes, 1, &trace_id.0);
    wire::bytes(&mut bytes, 2, &identity.span(sequence, number as u8));
    if let Some(parent) = parent {
        wire::bytes(&mut bytes, 4, &identity.span(sequence, parent));
    }
    wire::bytes(&mut bytes, 5, name.as_bytes());
    wire::integer(&mut bytes, 6, u64::from(kind));
    wire::fixed64(&mut bytes, 7, start_ns);
    wire::fixed64(&mut bytes, 8, end_ns);
    for (key, value) in &attributes {
        wire::attribute(&mut bytes, 9, key, value);
    }
    let mut status_message = Vec::new();
    wire::integer(&mut status_message, 3, status);
    wire::bytes(&mut bytes, 15, &status_message);
    wire::fixed32(&mut bytes, 16, 0x101);

    Span {
        trace_id: u128::from_be_bytes(trace_id.0),
        span_id: u64::from_be_bytes(identity.span(sequence, number as u8)),
        start_ns,
        end_ns,
        flags: 0x101,
        status: status as u8,
        kind,
        has_parent: parent.is_some(),
        bytes,
        resource: content::resource_envelope(service),
        scope: content::scope_envelope(content::scope_of(kind)),
    }
}
