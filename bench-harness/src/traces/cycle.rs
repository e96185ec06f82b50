//! A cycle: a few requests, written once, that are sent again and again with fresh ids.
//!
//! A trace starts at some place of a cycle; each of its services exports its spans a little later, so they fall into
//! other requests, and perhaps into later cycles. Because every cycle has the same shape, that is arithmetic:
//!
//! ```text
//! request number = cycle number * requests per cycle + template
//! slot (template, place): span k of shape t, whose trace started `lag` cycles ago
//! sequence number of its trace = (cycle number - lag) * shapes + t
//! ```
//!
//! `fill` writes the ids and times of one request into a copy of its template: 60 bytes of 370 for each span.
//! It never allocates, and never looks at the clock: times follow from request numbers.

use codecs::otlp::TraceId;

use super::content;
use super::ids::{Identity, TRACE_SPANS_MAX, fate};
use super::shape::{self, SpanShape};
use super::wire;

/// A request starts with the five bytes of gRPC's length-prefixed message; over HTTP they are skipped.
pub(crate) const FRAME_PREFIX: usize = 5;

/// Fewest spans of one cycle: enough that neighbouring requests differ.
const CYCLE_SPANS_MIN: usize = 4_096;

/// Fewest requests of one cycle.
const CYCLE_REQUESTS_MIN: usize = 4;

/// Longest delay between the exports of one trace. Requests lie on a raster, so the last may come a little later.
const SPREAD_NS: f64 = 400e6;

/// What a cycle is made from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct CycleSettings {
    /// The same seed makes the same bytes.
    pub(crate) seed: u64,
    /// Spans of every request, at least 1.
    pub(crate) spans_per_request: usize,
    /// Planned time between two requests.
    pub(crate) request_interval_ns: u64,
    /// Wall time of the first request, nanoseconds since 1970.
    pub(crate) start_unix_ns: u64,
    /// Some shapes have an attribute that policies about attributes want, see [`content::mark`].
    pub(crate) has_marks: bool,
}

/// Requests to send, and where each span of each trace is.
#[derive(Debug)]
pub(crate) struct Cycle {
    settings: CycleSettings,
    identity: Identity,
    templates: Vec<Template>,
    shapes: Vec<TraceShape>,
    /// Cycles that must pass before every slot belongs to a trace with a number >= 0.
    lag_max: u64,
    resource_envelopes: Vec<Vec<u8>>,
    scope_envelopes: Vec<Vec<u8>>,
}

/// One request as it is before ids are written.
#[derive(Debug, Default)]
struct Template {
    bytes: Vec<u8>,
    patches: Vec<Patch>,
}

/// Where the varying bytes of one span lie, and what they follow from. Offsets count from the request's first byte.
#[derive(Clone, Copy, Debug)]
struct Patch {
    shape: u32,
    lag: u32,
    /// First byte of the span message.
    start: u32,
    /// One past its last byte.
    end: u32,
    trace_id: u32,
    start_time: u32,
    status: u32,
    span: u8,
    spans: u8,
    service: u8,
    scope: u8,
    /// [`NO_PARENT`] for a root.
    parent: u8,
    start_ns: u64,
    duration_ns: u64,
}

const NO_PARENT: u8 = u8::MAX;

#[derive(Debug)]
struct TraceShape {
    spans: Vec<SpanShape>,
    /// For each span: its request, counted from the first request of the cycle in which the trace starts.
    requests: Vec<u32>,
    /// For each span: its place among the patches of its template.
    patches: Vec<u32>,
}

/// A span with its place; sorting these is how requests are made.
struct Slot {
    position: f64,
    shape: usize,
    span: usize,
}

/// A span of one of our traces, found by its ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Sequence number of its trace.
    pub(crate) sequence: u64,
    /// Number within the trace.
    pub(crate) span: u8,
}

/// A span as it must arrive.
#[derive(Debug)]
pub(crate) struct Expected<'a> {
    pub(crate) span: &'a [u8],
    pub(crate) resource_envelope: &'a [u8],
    pub(crate) scope_envelope: &'a [u8],
}

impl Cycle {
    /// Draws shapes, places them and writes the requests.
    pub(crate) fn new(settings: CycleSettings) -> Cycle {
        assert!(settings.spans_per_request >= 1);
        assert!(settings.request_interval_ns >= 1);
        let mut random = fastrand::Rng::with_seed(settings.seed);
        let requests = CYCLE_REQUESTS_MIN.max(CYCLE_SPANS_MIN.div_ceil(settings.spans_per_request));
        let mut cycle = Cycle {
            settings,
            identity: Identity::new(settings.seed),
            templates: Vec::with_capacity(requests),
            shapes: draw_shapes(requests * settings.spans_per_request, &mut random),
            lag_max: 0,
            resource_envelopes: (0..shape::SERVICES as u8).map(content::resource_envelope).collect(),
            scope_envelopes: (0..content::SCOPES as u8).map(content::scope_envelope).collect(),
        };
        let slots = place(&cycle.shapes, requests, settings.request_interval_ns, &mut random);
        for (number, slots) in slots.chunks(settings.spans_per_request).enumerate() {
            let template = cycle.write_template(number, slots, requests, &mut random);
            cycle.templates.push(template);
        }
        assert_eq!(cycle.templates.len(), requests);
        let lags = cycle.templates.iter().flat_map(|template| &template.patches).map(|patch| patch.lag);
        cycle.lag_max = u64::from(lags.max().unwrap_or(0));
        cycle
    }

    /// Spans of each request.
    pub(crate) fn spans_per_request(&self) -> usize {
        self.settings.spans_per_request
    }

    /// Bytes of a span message, on average.
    pub(crate) fn span_bytes(&self) -> f64 {
        let lengths = self.templates.iter().flat_map(|template| &template.patches).map(|patch| patch.end - patch.start);
        let spans = self.templates.len() * self.settings.spans_per_request;
        f64::from(lengths.sum::<u32>()) / spans as f64
    }

    /// Which template request number `request` is written from.
    pub(crate) fn template(&self, request: u64) -> usize {
        (request % self.templates.len() as u64) as usize
    }

    /// How many templates there are.
    pub(crate) fn templates(&self) -> usize {
        self.templates.len()
    }

    /// The bytes of a template: a gRPC message with its prefix.
    pub(crate) fn template_bytes(&self, template: usize) -> &[u8] {
        &self.templates[template].bytes
    }

    /// Writes the ids and times of request number `request` into a copy of its template.
    pub(crate) fn fill(&self, request: u64, bytes: &mut [u8]) {
        let template = &self.templates[self.template(request)];
        assert_eq!(bytes.len(), template.bytes.len(), "the bytes are a copy of the template");
        let cycle = self.lag_max + request / self.templates.len() as u64;
        for patch in &template.patches {
            let started = cycle - u64::from(patch.lag);
            self.write(patch, started, bytes, 0);
        }
    }

    /// Sequence numbers of all traces that the first `requests` requests touch are below this.
    pub(crate) fn sequences(&self, requests: u64) -> u64 {
        (self.lag_max + requests.div_ceil(self.templates.len() as u64)) * self.shapes.len() as u64
    }

    /// The most requests between the first and the last of one trace.
    pub(crate) fn trace_requests_max(&self) -> u64 {
        let width = |shape: &TraceShape| {
            let last = shape.requests.iter().max().copied().unwrap_or(0);
            last - shape.requests.iter().min().copied().unwrap_or(0)
        };
        u64::from(self.shapes.iter().map(width).max().unwrap_or(0))
    }

    /// How many shapes traces have: those whose sequence numbers differ by a multiple of this are alike but for their
    /// ids, their times and what their fates say.
    pub(crate) fn trace_shapes(&self) -> usize {
        self.shapes.len()
    }

    /// How many spans the trace has.
    pub(crate) fn spans(&self, sequence: u64) -> usize {
        self.shape(sequence).spans.len()
    }

    /// The request that carries a span; `None` if that would have been before the first.
    pub(crate) fn request(&self, place: Place) -> Option<u64> {
        let offset = u64::from(self.shape(place.sequence).requests[usize::from(place.span)]);
        let started = place.sequence / self.shapes.len() as u64;
        (started * self.templates.len() as u64 + offset).checked_sub(self.lag_max * self.templates.len() as u64)
    }

    /// The first request of a trace; `None` if it was before the run.
    pub(crate) fn first_request(&self, sequence: u64) -> Option<u64> {
        let requests = &self.shape(sequence).requests;
        let first = (0..requests.len()).min_by_key(|span| requests[*span]).unwrap_or(0) as u8;
        self.request(Place { sequence, span: first })
    }

    /// The trace id of a sequence number.
    pub(crate) fn trace_id(&self, sequence: u64) -> TraceId {
        self.identity.trace(sequence)
    }

    /// Start and end of a span relative to its trace's start, in nanoseconds.
    pub(crate) fn times(&self, place: Place) -> (u64, u64) {
        let shape = &self.shape(place.sequence).spans[usize::from(place.span)];
        let slow_ms = fate(self.identity.trace(place.sequence)).slow_ms;
        let duration = duration_ns(shape.parent.is_none(), shape.duration_ns, slow_ms);
        (shape.start_ns, shape.start_ns + duration)
    }

    /// Whose span it is; `None` if the ids were never sent.
    pub(crate) fn find(&self, trace_id: TraceId, span_id: [u8; 8]) -> Option<Place> {
        let sequence = self.identity.sequence(trace_id)?;
        let (same, span) = self.identity.span_number(span_id);
        (same == sequence && usize::from(span) < self.spans(sequence)).then_some(Place { sequence, span })
    }

    /// What a span and its envelopes look like, written into `scratch`.
    pub(crate) fn expected<'a>(&'a self, place: Place, scratch: &'a mut Vec<u8>) -> Expected<'a> {
        let shape = self.shape(place.sequence);
        let span = usize::from(place.span);
        let template = &self.templates[shape.requests[span] as usize % self.templates.len()];
        let patch = &template.patches[shape.patches[span] as usize];
        scratch.clear();
        scratch.extend_from_slice(&template.bytes[patch.start as usize..patch.end as usize]);
        self.write(patch, place.sequence / self.shapes.len() as u64, scratch, patch.start);
        Expected {
            span: scratch,
            resource_envelope: &self.resource_envelopes[usize::from(patch.service)],
            scope_envelope: &self.scope_envelopes[usize::from(patch.scope)],
        }
    }

    fn shape(&self, sequence: u64) -> &TraceShape {
        &self.shapes[(sequence % self.shapes.len() as u64) as usize]
    }

    /// Writes one span's ids, times and status. `origin` is where `bytes` starts in the request.
    fn write(&self, patch: &Patch, started: u64, bytes: &mut [u8], origin: u32) {
        let sequence = started * self.shapes.len() as u64 + u64::from(patch.shape);
        let trace_id = self.identity.trace(sequence);
        let fate = fate(trace_id);
        let at = (patch.trace_id - origin) as usize;
        bytes[at..at + 16].copy_from_slice(&trace_id.0);
        bytes[at + 18..at + 26].copy_from_slice(&self.identity.span(sequence, patch.span));
        if patch.parent != NO_PARENT {
            bytes[at + 28..at + 36].copy_from_slice(&self.identity.span(sequence, patch.parent));
        }
        let cycle_ns = self.settings.request_interval_ns * self.templates.len() as u64;
        let start = self.settings.start_unix_ns + started * cycle_ns + patch.start_ns;
        let end = start + duration_ns(patch.parent == NO_PARENT, patch.duration_ns, fate.slow_ms);
        let at = (patch.start_time - origin) as usize;
        bytes[at..at + 8].copy_from_slice(&start.to_le_bytes());
        bytes[at + 9..at + 17].copy_from_slice(&end.to_le_bytes());
        let fails = fate.error_span.is_some_and(|error| error % u16::from(patch.spans) == u16::from(patch.span));
        bytes[(patch.status - origin) as usize] = if fails { STATUS_ERROR } else { 0 };
    }

    fn write_template(
        &mut self,
        number: usize,
        slots: &[Slot],
        requests: usize,
        random: &mut fastrand::Rng,
    ) -> Template {
        let key = |slot: &&Slot| {
            let span = &self.shapes[slot.shape].spans[slot.span];
            (span.service, content::scope_of(span.kind), slot.shape, slot.span)
        };
        let mut slots: Vec<&Slot> = slots.iter().collect();
        slots.sort_unstable_by_key(key);
        let mut writer = TemplateWriter { has_marks: self.settings.has_marks, ..TemplateWriter::default() };
        for slot in slots {
            let trace = &mut self.shapes[slot.shape];
            let span = &trace.spans[slot.span];
            let lag = (slot.position / requests as f64) as u32;
            trace.requests[slot.span] = lag * requests as u32 + number as u32;
            trace.patches[slot.span] = writer.patches.len() as u32;
            let patch = Patch {
                shape: slot.shape as u32,
                lag,
                start: 0,
                end: 0,
                trace_id: 0,
                start_time: 0,
                status: 0,
                span: slot.span as u8,
                spans: trace.spans.len() as u8,
                service: span.service,
                scope: content::scope_of(span.kind),
                parent: span.parent.unwrap_or(NO_PARENT),
                start_ns: span.start_ns,
                duration_ns: span.duration_ns,
            };
            writer.add(patch, span, random);
        }
        writer.finish(&self.resource_envelopes, &self.scope_envelopes)
    }
}

/// `STATUS_CODE_ERROR`.
const STATUS_ERROR: u8 = 2;

fn duration_ns(root: bool, shape_ns: u64, slow_ms: Option<u32>) -> u64 {
    match slow_ms {
        Some(slow_ms) if root => u64::from(slow_ms) * 1_000_000,
        _ => shape_ns,
    }
}

/// As many shapes as fill `spans` places exactly; the last one is cut, from its leaves.
fn draw_shapes(spans: usize, random: &mut fastrand::Rng) -> Vec<TraceShape> {
    let mut shapes = Vec::new();
    let mut left = spans;
    while left > 0 {
        let mut shape = shape::draw(random);
        shape.truncate(left);
        left -= shape.len();
        shapes.push(TraceShape { requests: vec![0; shape.len()], patches: vec![0; shape.len()], spans: shape });
    }
    shapes
}

/// Gives each span a position, in requests from the start of the cycle its trace starts in, and orders all spans by
/// their position within a cycle: cut into equal pieces, they are the requests.
fn place(shapes: &[TraceShape], requests: usize, interval_ns: u64, random: &mut fastrand::Rng) -> Vec<Slot> {
    // One and a half requests at least: at low rates a trace still spreads, only not within half a second.
    let spread = (SPREAD_NS / interval_ns as f64).max(1.5);
    let mut slots = Vec::new();
    for (number, shape) in shapes.iter().enumerate() {
        let start = random.f64() * requests as f64;
        let mut service_delays = [0.0; shape::SERVICES];
        service_delays.fill_with(|| random.f64() * spread);
        service_delays[usize::from(shape.spans[0].service)] = spread * (0.5 + random.f64() / 2.0);
        for (span, shape) in shape.spans.iter().enumerate() {
            // Some spans miss their service's export and leave with the next.
            let late = random.u8(..) < 32;
            let delay = if late { random.f64() * spread } else { service_delays[usize::from(shape.service)] };
            slots.push(Slot { position: start + delay, shape: number, span });
        }
    }
    let within = |slot: &Slot| slot.position % requests as f64;
    slots.sort_by(|one, other| within(one).total_cmp(&within(other)));
    slots
}

/// Collects the spans of one template, sorted by service and scope, and nests them.
#[derive(Default)]
struct TemplateWriter {
    has_marks: bool,
    spans: Vec<Vec<u8>>,
    patches: Vec<Patch>,
}

impl TemplateWriter {
    /// Writes one span message; its patch's offsets count from the span until [`TemplateWriter::finish`] moves them.
    fn add(&mut self, mut patch: Patch, shape: &SpanShape, random: &mut fastrand::Rng) {
        let (name, mut attributes) = content::describe(shape.service, shape.kind, random);
        if self.has_marks && patch.parent == NO_PARENT {
            content::mark(patch.shape as usize, &mut attributes);
        }
        let mut span = Vec::with_capacity(512);
        wire::bytes(&mut span, 1, &[0; 16]);
        patch.trace_id = span.len() as u32 - 16;
        wire::bytes(&mut span, 2, &[0; 8]);
        if patch.parent != NO_PARENT {
            wire::bytes(&mut span, 4, &[0; 8]);
        }
        wire::bytes(&mut span, 5, name.as_bytes());
        wire::integer(&mut span, 6, u64::from(shape.kind));
        wire::fixed64(&mut span, 7, 0);
        patch.start_time = span.len() as u32 - 8;
        wire::fixed64(&mut span, 8, 0);
        for (key, value) in &attributes {
            wire::attribute(&mut span, 9, key, value);
        }
        let mut status = Vec::new();
        wire::integer(&mut status, 3, 0);
        wire::bytes(&mut span, 15, &status);
        patch.status = span.len() as u32 - 1;
        wire::fixed32(&mut span, 16, 0x101);
        patch.end = span.len() as u32;
        self.spans.push(span);
        self.patches.push(patch);
    }

    /// Nests the spans into ResourceSpans and ScopeSpans and moves the patches to where their spans landed.
    fn finish(mut self, resource_envelopes: &[Vec<u8>], scope_envelopes: &[Vec<u8>]) -> Template {
        let mut message = Vec::new();
        let mut next = 0;
        while next < self.patches.len() {
            let service = self.patches[next].service;
            let count = self.patches[next..].iter().take_while(|patch| patch.service == service).count();
            let group = next..next + count;
            let mut resource_spans = resource_envelopes[usize::from(service)].clone();
            let mut moves = Vec::with_capacity(count);
            self.nest_scopes(group.clone(), scope_envelopes, &mut resource_spans, &mut moves);
            let end = message.len();
            wire::bytes(&mut message, 1, &resource_spans);
            let header = message.len() - end - resource_spans.len();
            for (patch, offset) in self.patches[group].iter_mut().zip(moves) {
                shift(patch, (end + header + offset + FRAME_PREFIX) as u32);
            }
            next += count;
        }
        let mut bytes = vec![0];
        bytes.extend_from_slice(&(message.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&message);
        Template { bytes, patches: self.patches }
    }

    /// Appends the ScopeSpans of one service; notes for each span where its message starts in `resource_spans`.
    fn nest_scopes(
        &self,
        group: std::ops::Range<usize>,
        scope_envelopes: &[Vec<u8>],
        resource_spans: &mut Vec<u8>,
        moves: &mut Vec<usize>,
    ) {
        let mut next = group.start;
        while next < group.end {
            let scope = self.patches[next].scope;
            let count = self.patches[next..group.end].iter().take_while(|patch| patch.scope == scope).count();
            let mut scope_spans = scope_envelopes[usize::from(scope)].clone();
            let mut offsets = Vec::with_capacity(count);
            for span in &self.spans[next..next + count] {
                wire::bytes(&mut scope_spans, 2, span);
                offsets.push(scope_spans.len() - span.len());
            }
            let end = resource_spans.len();
            wire::bytes(resource_spans, 2, &scope_spans);
            let header = resource_spans.len() - end - scope_spans.len();
            moves.extend(offsets.iter().map(|offset| end + header + offset));
            next += count;
        }
    }
}

fn shift(patch: &mut Patch, by: u32) {
    for offset in [&mut patch.start, &mut patch.end, &mut patch.trace_id, &mut patch.start_time, &mut patch.status] {
        *offset += by;
    }
}

const _: () = assert!(TRACE_SPANS_MAX < NO_PARENT as usize, "a parent's number is never the mark of a root");

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use codecs::compression::Compression;

    use super::*;
    use crate::load::Compressor;
    use crate::sink::read_spans;

    fn cycle(seed: u64, spans_per_request: usize, spans_per_second: u64) -> Cycle {
        Cycle::new(CycleSettings {
            seed,
            spans_per_request,
            request_interval_ns: spans_per_request as u64 * 1_000_000_000 / spans_per_second,
            start_unix_ns: 1_700_000_000_000_000_000,
            has_marks: false,
        })
    }

    fn request(cycle: &Cycle, number: u64) -> Vec<u8> {
        let mut bytes = cycle.template_bytes(cycle.template(number)).to_vec();
        cycle.fill(number, &mut bytes);
        bytes
    }

    #[test]
    fn every_span_is_where_the_arithmetic_says_and_as_the_sink_expects_it() {
        for spans_per_request in [1, 10, 100, 512] {
            let cycle = cycle(1, spans_per_request, 50_000);
            let requests = 3 * cycle.templates() as u64 + 1;
            let mut seen = HashMap::new();
            let mut scratch = Vec::new();
            for number in 0..requests {
                let bytes = request(&cycle, number);
                let mut spans = 0;
                let read = read_spans(&bytes[FRAME_PREFIX..], |span| {
                    let place = cycle.find(span.trace_id, span.span_id).unwrap();
                    assert_eq!(cycle.request(place), Some(number));
                    assert!(place.sequence < cycle.sequences(requests));
                    let expected = cycle.expected(place, &mut scratch);
                    assert_eq!(expected.span, span.span);
                    assert_eq!(expected.resource_envelope, span.resource_envelope);
                    assert_eq!(expected.scope_envelope, span.scope_envelope);
                    assert_eq!(seen.insert((place.sequence, place.span), ()), None, "a span was sent twice");
                    spans += 1;
                });
                read.unwrap();
                assert_eq!(spans, spans_per_request);
            }
        }
    }

    #[test]
    fn parents_are_spans_of_the_same_trace_and_every_trace_has_one_root() {
        let cycle = cycle(2, 512, 50_000);
        let sequence = cycle.sequences(0) + 5;
        let mut scratch = Vec::new();
        let ids: Vec<[u8; 8]> =
            (0..cycle.spans(sequence) as u8).map(|span| cycle.identity.span(sequence, span)).collect();
        let mut roots = 0;
        for span in 0..cycle.spans(sequence) as u8 {
            let bytes = cycle.expected(Place { sequence, span }, &mut scratch).span.to_vec();
            match bytes[28..30] {
                [0x22, 8] => assert!(ids.contains(&bytes[30..38].try_into().unwrap())),
                _ => roots += 1,
            }
        }
        assert_eq!(roots, 1);
    }

    #[test]
    fn sizes_and_attributes_are_those_of_real_spans() {
        let cycle = cycle(3, 512, 50_000);
        let mean = cycle.span_bytes();
        assert!((360.0..=380.0).contains(&mean), "{mean}");
        for template in &cycle.templates {
            for patch in &template.patches {
                let span = &template.bytes[patch.start as usize..patch.end as usize];
                assert!((300..=450).contains(&span.len()), "{}", span.len());
            }
        }
        let mut random = fastrand::Rng::with_seed(1);
        for kind in [shape::KIND_SERVER, shape::KIND_CLIENT, shape::KIND_INTERNAL] {
            for service in 0..shape::SERVICES as u8 {
                let (_, attributes) = content::describe(service, kind, &mut random);
                assert!((8..=12).contains(&attributes.len()));
            }
        }
    }

    #[test]
    fn requests_shrink_to_a_fourth_to_a_seventh_by_gzip() {
        let cycle = cycle(4, 512, 50_000);
        let mut compressor = Compressor::new(Compression::Gzip);
        for number in 0..cycle.templates() as u64 {
            let bytes = request(&cycle, number);
            let ratio = bytes.len() as f64 / compressor.compress(&bytes).len() as f64;
            assert!((4.0..=7.0).contains(&ratio), "{ratio}");
        }
    }

    #[test]
    fn traces_are_spread_over_requests_and_connections_within_half_a_second() {
        for (spans_per_request, rate) in [(512, 50_000), (512, 2_000_000), (100, 500_000), (10, 300_000)] {
            let cycle = cycle(5, spans_per_request, rate);
            let interval_ns = cycle.settings.request_interval_ns;
            assert!(cycle.trace_requests_max() * interval_ns <= 500_000_000, "{spans_per_request} {rate}");
            let (mut requests, mut connections) = (0, 0);
            for shape in &cycle.shapes {
                let distinct = |divisor: u32| {
                    let mut numbers: Vec<u32> = shape.requests.iter().map(|request| request % divisor).collect();
                    numbers.sort_unstable();
                    numbers.dedup();
                    numbers.len()
                };
                requests += usize::from(distinct(u32::MAX) >= 3);
                connections += usize::from(distinct(4) >= 2);
            }
            assert!(requests * 10 >= cycle.shapes.len() * 9, "{requests} of {}", cycle.shapes.len());
            assert!(connections * 10 >= cycle.shapes.len() * 9, "{connections} of {}", cycle.shapes.len());
        }
    }

    #[test]
    fn the_same_seed_makes_the_same_bytes_and_another_seed_others() {
        let bytes = |seed| request(&cycle(seed, 100, 50_000), 17);
        assert_eq!(bytes(1), bytes(1));
        assert_ne!(bytes(1), bytes(2));
    }
}
