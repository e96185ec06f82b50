//! `span_count`: traces of so many spans, both ends included.

use super::Facts;

#[derive(Clone, Debug)]
pub(super) struct SpanCount {
    spans_min: u32,
    spans_max: u32,
}

impl SpanCount {
    pub(super) fn new(spans_min: u32, spans_max: Option<u32>) -> Self {
        Self { spans_min, spans_max: spans_max.unwrap_or(u32::MAX) }
    }

    #[inline]
    pub(super) fn samples(&self, facts: &Facts) -> bool {
        (self.spans_min..=self.spans_max).contains(&facts.spans)
    }

    /// Whether a trace can have too many spans.
    pub(super) fn is_bounded(&self) -> bool {
        self.spans_max < u32::MAX
    }

    /// Whether it has.
    pub(super) fn is_exceeded(&self, facts: &Facts) -> bool {
        facts.spans > self.spans_max
    }
}
