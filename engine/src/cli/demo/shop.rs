//! The traffic of the demo: traces of a shop whose verdict is known before they are sent.
//!
//! ```text
//! number --hash--> what is special about it --> spans of six services --> two requests, one after the other
//! ```
//!
//! The one idea: a trace is a function of its number, and a span's id is its trace's number and its place, so that who
//! receives a span knows what should have become of it. What makes a trace worth keeping lies in its first half: the
//! verdict does not depend on when the second half comes. Pure: the time is an argument.

use codecs::otlp::proto::{
    AnyValue, ExportTraceServiceRequest, InstrumentationScope, KeyValue, Resource, ResourceSpans, ScopeSpans, Span,
    SpanStatus, Value,
};
use prost::Message;

/// Places of a span's id that are its place in the trace.
const PLACE_BITS: u32 = 4;
/// Spans of the smallest trace, and how many more a trace may have.
const SPANS_MIN: u32 = 6;
const SPANS_SPREAD: u32 = 7;
/// Of all traces.
pub(super) const SPANS_MEAN: u32 = SPANS_MIN + (SPANS_SPREAD - 1) / 2;
const _: () = assert!(SPANS_MIN + SPANS_SPREAD <= 1 << PLACE_BITS);

const MS: u64 = 1_000_000;
/// Root spans last this long; those of slow traces longer than the policy's threshold.
const ROOT_MS: u64 = 400;
const SLOW_ROOT_MS: u64 = 1_500;
/// From when on the policy keeps a trace.
pub(super) const SLOW_THRESHOLD_MS: u64 = 1_000;
/// The tenant all of whose traces are kept.
pub(super) const TENANT_KEPT: &str = "umbrella";

const SERVICES: [&str; 6] = ["frontend", "checkout", "cart", "inventory", "payment", "shipping"];
const ROUTES: [&str; 4] = ["/cart", "/orders/{id}", "/products/{id}", "/payments"];
const TENANTS: [&str; 3] = ["acme", "globex", "initech"];

/// Why a trace is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// One of its spans failed.
    Error,
    /// It took long.
    Slow,
    /// It is of the tenant whose traces are all kept.
    Tenant,
}

impl Reason {
    /// All of them, in the order of the policies.
    pub(super) const ALL: [Reason; 3] = [Reason::Error, Reason::Slow, Reason::Tenant];

    /// The policy's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Reason::Error => "errors",
            Reason::Slow => "slow",
            Reason::Tenant => "tenant",
        }
    }
}

/// A trace, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trace(pub(super) u64);

impl Trace {
    /// The trace and the place of a span of ours; `None` if no such span is ever sent.
    pub(super) fn of_span(trace_id: &[u8], span_id: &[u8]) -> Option<(Trace, u32)> {
        let id = u64::from_be_bytes(span_id.try_into().ok()?).checked_sub(1)?;
        let (trace, place) = (Trace(id >> PLACE_BITS), (id & ((1 << PLACE_BITS) - 1)) as u32);
        (trace.id() == trace_id && place < trace.spans()).then_some((trace, place))
    }

    /// Of a hundred traces three fail, three are slow and two are of the tenant.
    pub(super) fn reason(self) -> Option<Reason> {
        match self.hash() % 100 {
            0..3 => Some(Reason::Error),
            3..6 => Some(Reason::Slow),
            6..8 => Some(Reason::Tenant),
            _ => None,
        }
    }

    /// How many it has.
    pub(super) fn spans(self) -> u32 {
        SPANS_MIN + (self.hash() >> 32) as u32 % SPANS_SPREAD
    }

    /// Places of its first or second half.
    pub(super) fn half(self, half: Half) -> std::ops::Range<u32> {
        let middle = self.spans() / 2;
        match half {
            Half::First => 0..middle,
            Half::Second => middle..self.spans(),
        }
    }

    fn hash(self) -> u64 {
        let mixed = self.0.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9).rotate_left(23)
    }

    fn id(self) -> [u8; 16] {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.0.to_be_bytes());
        id[8..].copy_from_slice(&(self.hash() | 1).to_be_bytes());
        // Ids that begin with zeros are legal and rare; real ones differ from the first byte on.
        id[..8].iter_mut().zip(self.hash().to_le_bytes()).for_each(|(byte, mixed)| *byte ^= mixed);
        id
    }

    fn span_id(self, place: u32) -> [u8; 8] {
        ((self.0 << PLACE_BITS | u64::from(place)) + 1).to_be_bytes()
    }

    fn span(self, place: u32, began_ns: u64) -> Span {
        let (hash, reason) = (self.hash() >> (place % 16), self.reason());
        let root_ms = if reason == Some(Reason::Slow) { SLOW_ROOT_MS } else { ROOT_MS };
        // Calls of calls: each within the one before it.
        let from_edge_ms = 10 * u64::from(place);
        let failed = reason == Some(Reason::Error) && place == 1;
        let tenant = match reason {
            Some(Reason::Tenant) => TENANT_KEPT,
            _ => TENANTS[hash as usize % TENANTS.len()],
        };
        let attributes = [
            ("http.request.method", ["GET", "POST"][hash as usize % 2].to_owned()),
            ("http.route", ROUTES[hash as usize % ROUTES.len()].to_owned()),
            ("http.response.status_code", if failed { "500" } else { "200" }.to_owned()),
            ("app.tenant", tenant.to_owned()),
            ("app.user.id", format!("user-{:06}", hash % 1_000_000)),
            ("server.address", format!("{}.shop.svc", service(place + 1))),
        ];
        Span {
            trace_id: self.id().to_vec(),
            span_id: self.span_id(place).to_vec(),
            parent_span_id: if place == 0 { Vec::new() } else { self.span_id(place - 1).to_vec() },
            name: format!("{} {}", service(place), ROUTES[hash as usize % ROUTES.len()]).into_bytes(),
            kind: if place == 0 { 2 } else { 3 },
            start_time_unix_nano: began_ns + from_edge_ms * MS,
            end_time_unix_nano: began_ns + (root_ms - from_edge_ms) * MS,
            attributes: attributes.into_iter().map(|(key, value)| attribute(key, &value)).collect(),
            status: failed.then(|| SpanStatus { code: 2, message: b"no stock left".to_vec() }),
            flags: 0x101,
            ..Span::default()
        }
    }
}

/// What a request carries of one trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The trace.
    pub(super) trace: Trace,
    /// Which half of it.
    pub(super) half: Half,
    /// When the trace began, in nanoseconds since 1970: the same in both halves, or the wait between them would make it
    /// slow.
    pub(super) began_ns: u64,
}

/// The halves of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    /// The root, and all that decides.
    First,
    /// The rest.
    Second,
}

/// One request with these parts, as an agent sends it: by service.
pub(super) fn request(parts: &[Part]) -> Vec<u8> {
    let mut spans: [Vec<Span>; SERVICES.len()] = Default::default();
    for Part { trace, half, began_ns } in parts {
        for place in trace.half(*half) {
            spans[place as usize % SERVICES.len()].push(trace.span(place, *began_ns));
        }
    }
    let of_services = spans.into_iter().zip(SERVICES).filter(|(spans, _)| !spans.is_empty());
    let resource_spans = of_services.map(|(spans, service)| {
        let attributes = vec![
            attribute("service.name", service),
            attribute("service.version", "1.4.2"),
            attribute("k8s.pod.name", &format!("{service}-7d9f6c4-x2k2p")),
        ];
        let scope = InstrumentationScope { name: b"shop.demo".to_vec(), version: b"1".to_vec(), ..Default::default() };
        ResourceSpans {
            resource: Some(Resource { attributes, dropped_attributes_count: 0 }),
            scope_spans: vec![ScopeSpans { scope: Some(scope), spans, ..Default::default() }],
            ..Default::default()
        }
    });
    ExportTraceServiceRequest { resource_spans: resource_spans.collect() }.encode_to_vec()
}

fn service(place: u32) -> &'static str {
    SERVICES[place as usize % SERVICES.len()]
}

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::String(value.as_bytes().to_vec())) });
    KeyValue { key: key.as_bytes().to_vec(), value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_says_which_trace_it_is_of() {
        for number in 0..1_000 {
            let trace = Trace(number);
            for place in 0..trace.spans() {
                assert_eq!(Trace::of_span(&trace.id(), &trace.span_id(place)), Some((trace, place)));
            }
            assert_eq!(Trace::of_span(&trace.id(), &trace.span_id(trace.spans())), None);
            assert_eq!(Trace::of_span(&Trace(number + 1).id(), &trace.span_id(0)), None);
        }
        assert_eq!(Trace::of_span(&[0; 16], &[0; 8]), None);
    }

    #[test]
    fn some_traces_are_kept_for_each_reason_and_most_for_none() {
        let of = |reason| (0..10_000).filter(|number| Trace(*number).reason() == reason).count();
        for (reason, percent) in
            [(Some(Reason::Error), 3), (Some(Reason::Slow), 3), (Some(Reason::Tenant), 2), (None, 92)]
        {
            let (count, expected) = (of(reason), percent * 100);
            assert!(count.abs_diff(expected) < expected / 4, "{reason:?}: {count}");
        }
    }

    #[test]
    fn what_decides_comes_in_the_first_half() {
        for number in 0..1_000 {
            let trace = Trace(number);
            let spans: Vec<Span> = (0..trace.spans()).map(|place| trace.span(place, 0)).collect();
            let first = &spans[..trace.half(Half::First).end as usize];
            let is_slow = |spans: &[Span]| spans[0].end_time_unix_nano >= SLOW_THRESHOLD_MS * MS;
            assert_eq!(is_slow(first), trace.reason() == Some(Reason::Slow));
            let failed = |spans: &[Span]| spans.iter().any(|span| span.status.is_some());
            assert_eq!(failed(first), trace.reason() == Some(Reason::Error));
            assert!(!failed(&spans[first.len()..]));
            assert!(spans.iter().all(|span| span.end_time_unix_nano <= spans[0].end_time_unix_nano));
        }
    }

    #[test]
    fn the_two_requests_of_a_trace_hold_all_its_spans_once() {
        let trace = Trace(7);
        let mut found = Vec::new();
        for half in [Half::First, Half::Second] {
            let request =
                ExportTraceServiceRequest::decode(request(&[Part { trace, half, began_ns: 1 }]).as_slice()).unwrap();
            let spans =
                request.resource_spans.iter().flat_map(|group| &group.scope_spans).flat_map(|group| &group.spans);
            found.extend(spans.map(|span| Trace::of_span(&span.trace_id, &span.span_id).unwrap()));
        }
        found.sort_unstable_by_key(|(_, place)| *place);
        assert_eq!(found, (0..trace.spans()).map(|place| (trace, place)).collect::<Vec<_>>());
    }
}
