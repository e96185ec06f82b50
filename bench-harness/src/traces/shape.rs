//! The shape of a trace: which services it crosses, which spans they make, who called whom and when.
//!
//! ```text
//! service A   [------------ server, root ------------]
//!               [---- client ----]   [- internal -]
//! service B       [-- server --]
//! ```
//!
//! A service is entered by a server span whose parent is a client span of its caller, so parents always come first and
//! cutting spans off the end leaves a tree. Shapes carry no ids; the same shape is used by many traces.

use super::ids::TRACE_SPANS_MAX;

/// `Span.kind` numbers of opentelemetry-proto, trace/v1.
pub(crate) const KIND_INTERNAL: u8 = 1;
/// A request served.
pub(crate) const KIND_SERVER: u8 = 2;
/// A request made.
pub(crate) const KIND_CLIENT: u8 = 3;

/// How many services exist.
pub(crate) const SERVICES: usize = 12;

/// Longest root of a trace that is not slow; well below the 1,000 ms of the latency policy.
const ROOT_MS_MAX: u64 = 800;

/// One span of a shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SpanShape {
    /// Which service makes it, below [`SERVICES`].
    pub(crate) service: u8,
    /// Server, client or internal.
    pub(crate) kind: u8,
    /// Position of the parent in the shape; `None` for the root.
    pub(crate) parent: Option<u8>,
    /// Start after the trace's start.
    pub(crate) start_ns: u64,
    /// How long it lasts.
    pub(crate) duration_ns: u64,
}

/// Draws a shape of 5 to 12 spans over 3 to 5 services, 8 spans in the mean.
pub(crate) fn draw(random: &mut fastrand::Rng) -> Vec<SpanShape> {
    let services = [3, 3, 4, 4, 5][random.usize(..5)];
    let mut free: Vec<u8> = (0..SERVICES as u8).collect();
    random.shuffle(&mut free);
    let root_ns = random.u64(8_000_000..ROOT_MS_MAX * 1_000_000);
    let mut spans =
        vec![SpanShape { service: free[0], kind: KIND_SERVER, parent: None, start_ns: 0, duration_ns: root_ns }];
    for service in &free[1..services] {
        let caller = pick(&spans, random, |span| span.kind == KIND_SERVER);
        let client = child(&spans, caller, spans[usize::from(caller)].service, KIND_CLIENT, random);
        spans.push(client);
        let client = spans.len() as u8 - 1;
        spans.push(child(&spans, client, *service, KIND_SERVER, random));
    }
    for _ in 0..random.usize(..=3) {
        let parent = pick(&spans, random, |span| span.kind != KIND_CLIENT);
        let kind = if random.bool() { KIND_INTERNAL } else { KIND_CLIENT };
        spans.push(child(&spans, parent, spans[usize::from(parent)].service, kind, random));
    }
    assert!(spans.len() <= TRACE_SPANS_MAX);
    spans
}

fn pick(spans: &[SpanShape], random: &mut fastrand::Rng, wanted: impl Fn(&SpanShape) -> bool) -> u8 {
    let candidates: Vec<usize> = (0..spans.len()).filter(|at| wanted(&spans[*at])).collect();
    candidates[random.usize(..candidates.len())] as u8
}

/// A span inside its parent's time.
fn child(spans: &[SpanShape], parent: u8, service: u8, kind: u8, random: &mut fastrand::Rng) -> SpanShape {
    let outer = &spans[usize::from(parent)];
    let lead = outer.duration_ns / 16 + random.u64(..=outer.duration_ns / 8);
    let rest = outer.duration_ns - lead;
    SpanShape {
        service,
        kind,
        parent: Some(parent),
        start_ns: outer.start_ns + lead,
        duration_ns: rest / 4 + random.u64(..=rest / 2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_trees_of_about_eight_spans_over_three_to_five_services() {
        let mut random = fastrand::Rng::with_seed(1);
        let shapes: Vec<Vec<SpanShape>> = (0..10_000).map(|_| draw(&mut random)).collect();
        let mean = shapes.iter().map(Vec::len).sum::<usize>() as f64 / shapes.len() as f64;
        assert!((7.0..=9.0).contains(&mean), "{mean}");
        for shape in &shapes {
            let mut services: Vec<u8> = shape.iter().map(|span| span.service).collect();
            services.sort_unstable();
            services.dedup();
            assert!((3..=5).contains(&services.len()));
            for (at, span) in shape.iter().enumerate() {
                check_span(shape, at, span);
            }
        }
    }

    fn check_span(shape: &[SpanShape], at: usize, span: &SpanShape) {
        let Some(parent) = span.parent else {
            assert_eq!(at, 0, "only the first span is a root");
            return;
        };
        assert!(usize::from(parent) < at, "parents come first");
        let parent = &shape[usize::from(parent)];
        assert!(span.start_ns >= parent.start_ns);
        assert!(span.start_ns + span.duration_ns <= parent.start_ns + parent.duration_ns);
        if parent.service != span.service {
            assert_eq!((parent.kind, span.kind), (KIND_CLIENT, KIND_SERVER));
        }
    }
}
