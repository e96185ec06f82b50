//! Where the time of a trace went: self times, the critical path, the bottleneck.
//!
//! The idea: walk back from the end of a span. Whatever child ended last held its parent up, so the time since that end is
//! the parent's own, and the walk goes on inside the child and then before the child's start. Each nanosecond of the trace
//! is given to exactly one span, so the shares add up. Pure; no recursion, because a peer chooses the depth.

use std::collections::HashMap;

use serde::Serialize;

use crate::exporter::memory::{KeptSpan, KeptTrace};

/// A trace with what each span contributed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Analysis {
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// First start, in nanoseconds since 1970.
    pub start_ns: u64,
    /// Last end minus first start.
    pub duration_ns: u64,
    /// Time of the trace in which no root span was open: between several roots.
    pub unexplained_ns: u64,
    /// Index in `spans` of the span with the largest part of the critical path; `None` without spans.
    pub bottleneck: Option<usize>,
    /// In order of start.
    pub spans: Vec<SpanTime>,
}

/// One span's part.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SpanTime {
    /// 16 hexadecimal digits.
    pub span_id: String,
    /// 16 hexadecimal digits; empty for a root span.
    pub parent_span_id: String,
    /// Its service.
    pub service: String,
    /// Its name.
    pub name: String,
    /// Whether its status is ERROR.
    pub error: bool,
    /// Start after the trace's first start.
    pub offset_ns: u64,
    /// End minus start.
    pub duration_ns: u64,
    /// Duration over the trace's duration, in percent; 0 for a trace without duration.
    pub share_percent: f64,
    /// Duration without the time in which a child was open.
    pub self_ns: u64,
    /// Its own part of the critical path.
    pub on_path_ns: u64,
    /// The parts of the critical path that lie in it, as offsets from the trace's start, in order.
    pub path: Vec<(u64, u64)>,
}

/// Takes a trace apart.
pub fn analyze(trace: &KeptTrace) -> Analysis {
    let times: Vec<Time> = trace.spans.iter().map(|span| Time::of(span, trace.start_ns)).collect();
    let (roots, children) = family(&trace.spans);
    let mut spans: Vec<SpanTime> =
        trace.spans.iter().zip(&times).map(|(span, time)| part(span, *time, trace)).collect();
    for (at, below) in children.iter().enumerate() {
        spans[at].self_ns = times[at].length() - covered(times[at], below.iter().map(|child| times[*child]));
    }
    let unexplained_ns = walk(trace.duration_ns, &times, &roots, &children, &mut spans);
    for span in &mut spans {
        span.path.sort_unstable();
        span.on_path_ns = span.path.iter().map(|(start, end)| end - start).sum();
    }
    // Of equals the earlier one: the others waited for it.
    let bottleneck = (0..spans.len()).rev().max_by_key(|at| spans[*at].on_path_ns);
    let (trace_id, start_ns, duration_ns) = (trace.trace_id.clone(), trace.start_ns, trace.duration_ns);
    Analysis { trace_id, start_ns, duration_ns, unexplained_ns, bottleneck, spans }
}

/// A stretch of the trace, in nanoseconds after its start.
#[derive(Clone, Copy, Debug)]
struct Time {
    start: u64,
    end: u64,
}

impl Time {
    fn of(span: &KeptSpan, trace_start_ns: u64) -> Time {
        let start = span.start_ns.saturating_sub(trace_start_ns);
        Time { start, end: start.saturating_add(span.duration_ns) }
    }

    fn length(self) -> u64 {
        self.end - self.start
    }
}

fn part(span: &KeptSpan, time: Time, trace: &KeptTrace) -> SpanTime {
    let share = if trace.duration_ns == 0 { 0.0 } else { time.length() as f64 / trace.duration_ns as f64 * 100.0 };
    SpanTime {
        span_id: span.span_id.clone(),
        parent_span_id: span.parent_span_id.clone(),
        service: span.service.clone(),
        name: span.name.clone(),
        error: span.status == "error",
        offset_ns: time.start,
        duration_ns: time.length(),
        share_percent: share,
        ..SpanTime::default()
    }
}

/// Root spans, and each span's children. A span whose parent is not here is a root; so is one span of each circle of
/// parents.
fn family(spans: &[KeptSpan]) -> (Vec<usize>, Vec<Vec<usize>>) {
    let known: HashMap<&str, usize> = spans.iter().enumerate().rev().map(|(at, span)| (&*span.span_id, at)).collect();
    let parent = |at: usize| known.get(spans[at].parent_span_id.as_str()).copied().filter(|parent| *parent != at);
    let (mut roots, mut children) = (Vec::new(), vec![Vec::new(); spans.len()]);
    // 0: not looked at; n: part of the chain that began at span n - 1.
    let mut chain = vec![0; spans.len()];
    for first in 0..spans.len() {
        let mut at = first;
        while chain[at] == 0 {
            chain[at] = first + 1;
            match parent(at) {
                // The chain has come back to itself.
                Some(above) if chain[above] == first + 1 => roots.push(at),
                Some(above) => {
                    children[above].push(at);
                    at = above;
                }
                None => roots.push(at),
            }
        }
    }
    (roots, children)
}

/// How much of `whole` is covered by one part at least.
fn covered(whole: Time, parts: impl Iterator<Item = Time>) -> u64 {
    let clip = |part: Time| (part.start.max(whole.start), part.end.min(whole.end));
    let mut parts: Vec<(u64, u64)> = parts.map(clip).filter(|(start, end)| start < end).collect();
    parts.sort_unstable();
    let (mut sum, mut reached) = (0, whole.start);
    for (start, end) in parts {
        sum += end.saturating_sub(start.max(reached));
        reached = reached.max(end);
    }
    sum
}

/// Gives every nanosecond of the trace to one span. Returns what belongs to none.
fn walk(duration: u64, times: &[Time], roots: &[usize], children: &[Vec<usize>], spans: &mut [SpanTime]) -> u64 {
    let mut unexplained = 0;
    // `None` stands for the trace itself, whose children are the roots.
    let mut open: Vec<(Option<usize>, Time)> = vec![(None, Time { start: 0, end: duration })];
    while let Some((owner, stretch)) = open.pop() {
        let below = owner.map_or(roots, |at| &children[at]);
        let mut own = |start: u64, end: u64| match owner {
            _ if start >= end => {}
            Some(at) => spans[at].path.push((start, end)),
            None => unexplained += end - start,
        };
        let mut last_first: Vec<usize> = below.to_vec();
        last_first.sort_by_key(|child| std::cmp::Reverse((times[*child].end, times[*child].start)));
        let mut cursor = stretch.end;
        for child in last_first {
            let part = Time { start: times[child].start.max(stretch.start), end: times[child].end.min(cursor) };
            if part.start >= part.end {
                continue;
            }
            own(part.end, cursor);
            open.push((Some(child), part));
            cursor = part.start;
        }
        own(stretch.start, cursor);
    }
    unexplained
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn span(id: u64, parent: u64, start: u64, end: u64) -> KeptSpan {
        let hex = |id: u64| if id == 0 { String::new() } else { format!("{id:016x}") };
        KeptSpan {
            span_id: hex(id),
            parent_span_id: hex(parent),
            name: format!("span {id}"),
            start_ns: 1_000 + start,
            duration_ns: end - start,
            ..KeptSpan::default()
        }
    }

    fn analyzed(spans: Vec<KeptSpan>) -> Analysis {
        analyze(&KeptTrace::new("07".repeat(16), String::new(), spans))
    }

    fn on_path(analysis: &Analysis) -> Vec<(&str, u64)> {
        analysis.spans.iter().map(|span| (span.name.as_str(), span.on_path_ns)).collect()
    }

    #[test]
    fn the_child_that_ends_last_holds_its_parent_up() {
        let analysis = analyzed(vec![span(1, 0, 0, 100), span(2, 1, 10, 40), span(3, 1, 20, 90)]);
        assert_eq!(on_path(&analysis), [("span 1", 20), ("span 2", 10), ("span 3", 70)]);
        assert_eq!(analysis.bottleneck, Some(2));
        assert_eq!(analysis.spans[0].path, [(0, 10), (90, 100)]);
        assert_eq!(analysis.spans[0].self_ns, 20);
        assert_eq!(analysis.spans[2].share_percent, 70.0);
    }

    #[test]
    fn children_in_a_row_are_all_on_the_path_and_the_pauses_are_their_parents() {
        let analysis = analyzed(vec![span(1, 0, 0, 100), span(2, 1, 10, 30), span(3, 1, 40, 90)]);
        assert_eq!(on_path(&analysis), [("span 1", 30), ("span 2", 20), ("span 3", 50)]);
    }

    #[test]
    fn time_between_two_roots_belongs_to_nobody() {
        let analysis = analyzed(vec![span(1, 0, 0, 30), span(2, 99, 50, 80)]);
        assert_eq!((analysis.unexplained_ns, analysis.duration_ns), (20, 80));
        assert_eq!(on_path(&analysis), [("span 1", 30), ("span 2", 30)]);
        assert_eq!(analysis.bottleneck, Some(0), "of equals the earlier one");
    }

    #[test]
    fn a_child_that_outlives_its_parent_counts_while_the_parent_is_open() {
        let analysis = analyzed(vec![span(1, 0, 0, 100), span(2, 1, 50, 70), span(3, 2, 60, 90)]);
        assert_eq!(on_path(&analysis), [("span 1", 80), ("span 2", 10), ("span 3", 10)]);
    }

    #[test]
    fn spans_that_name_each_other_as_parents_and_equal_ids_end() {
        let circle = analyzed(vec![span(1, 2, 0, 50), span(2, 1, 10, 60), span(3, 3, 0, 5), span(3, 1, 0, 5)]);
        assert_eq!(circle.spans.len(), 4);
        assert_eq!(analyzed(Vec::new()).bottleneck, None);
    }

    #[test]
    fn a_deep_chain_needs_no_stack() {
        let depth = 20_000;
        let chain = (1..=depth).map(|id| span(id, id - 1, id, 2 * depth + 1 - id)).collect();
        assert_eq!(analyzed(chain).spans.len() as u64, depth);
    }

    proptest! {
        #[test]
        fn every_nanosecond_is_given_to_one_span(
            shape in prop::collection::vec((0u64..12, 0u64..100, 0u64..100), 1..12)
        ) {
            let spans = shape.iter().enumerate().map(|(at, (parent, start, length))| {
                // A parent with a smaller number, or none.
                span(at as u64 + 1, parent % (at as u64 + 1), *start, start + length)
            });
            let analysis = analyzed(spans.collect());
            let given: u64 = analysis.spans.iter().map(|span| span.on_path_ns).sum();
            prop_assert_eq!(given + analysis.unexplained_ns, analysis.duration_ns);
            let mut path: Vec<(u64, u64)> = analysis.spans.iter().flat_map(|span| span.path.clone()).collect();
            path.sort_unstable();
            prop_assert!(path.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{:?}", path);
            prop_assert!(analysis.spans.iter().all(|span| span.self_ns <= span.duration_ns));
        }
    }
}
