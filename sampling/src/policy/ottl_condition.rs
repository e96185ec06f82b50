//! `ottl_condition`: conditions of the transformation language, asked of every span when it arrives.
//!
//! One bit per policy, as for every other question: one span, or one event of a span, of which one of the policy's
//! conditions is true sets it. A trace that has its bit is not asked again. A condition that fails is not true.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use codecs::otlp::SpanIndex;
use ottl::{Condition, Context, Environment, Fault, Paths, WireItem, check_condition};

/// A span with what it lies in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpanWithin<'a> {
    pub(crate) index: &'a SpanIndex,
    pub(crate) scope: u32,
    pub(crate) bytes: &'a [u8],
}

/// The conditions of all policies that have some.
#[derive(Clone, Debug, Default)]
pub(super) struct OttlConditions {
    policies: Vec<Asked>,
    errors: Cell<u64>,
    environment: RefCell<Environment>,
    /// Reused between spans.
    item: RefCell<WireItem<'static>>,
}

/// The conditions of one policy.
#[derive(Clone, Debug)]
struct Asked {
    bit: u64,
    spans: Rc<[Condition]>,
    span_events: Rc<[Condition]>,
    counts_errors: bool,
}

impl OttlConditions {
    pub(super) fn add(&mut self, bit: u64, spans: &[String], span_events: &[String], counts_errors: bool) {
        let read = |texts: &[String], context| -> Rc<[Condition]> {
            let read = |text: &String| check_condition(text, context, Paths::Bare);
            texts.iter().map(|text| read(text).expect("settings hold conditions that were checked")).collect()
        };
        self.policies.push(Asked {
            bit,
            spans: read(spans, Context::Span),
            span_events: read(span_events, Context::SpanEvent),
            counts_errors,
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    pub(super) fn tell_time(&self, unix_ns: i64) {
        self.environment.borrow_mut().now_unix_ns = unix_ns;
    }

    pub(super) fn take_errors(&self) -> u64 {
        self.errors.take()
    }

    /// The bits of policies of which the span meets a condition; those `answered` are not asked.
    pub(super) fn ask(&self, span: SpanWithin<'_>, answered: u64) -> u64 {
        let open = self.policies.iter().filter(|policy| policy.bit & answered == 0);
        if open.clone().next().is_none() {
            return 0;
        }
        let mut item = self.item.take().recycle();
        item.begin_resource(span.index.resource_envelope(span.scope));
        item.begin_scope(span.index.scope_envelope(span.scope));
        item.begin_item(span.bytes);
        let mut answers = 0;
        for policy in open {
            if self.is_met(policy, &mut item) {
                answers |= policy.bit;
            }
        }
        self.item.replace(item.recycle());
        answers
    }

    fn is_met(&self, policy: &Asked, item: &mut WireItem<'_>) -> bool {
        let environment = self.environment.borrow();
        let holds = |condition: &Condition, item: &WireItem<'_>| match condition.holds(item, &environment) {
            Ok(holds) => holds,
            Err(Fault::Nil) => false,
            Err(_) => {
                self.errors.set(self.errors.get() + u64::from(policy.counts_errors));
                false
            }
        };
        if policy.spans.iter().any(|condition| holds(condition, item)) {
            return true;
        }
        if policy.span_events.is_empty() {
            return false;
        }
        (0..item.parts_count()).any(|event| {
            item.begin_part(event);
            policy.span_events.iter().any(|condition| holds(condition, item))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use codecs::otlp::proto::{ExportTraceServiceRequest, ResourceSpans, ScopeSpans, Span, SpanEvent, SpanStatus};
    use codecs::otlp::span_bytes;
    use prost::Message;

    /// What the conditions say of a failed span called `pay` with two events, below a resource with a schema.
    fn check(spans: &[&str], span_events: &[&str], expected: bool, errors: u64) {
        let event = |name: &str| SpanEvent { name: name.into(), ..SpanEvent::default() };
        let span = Span {
            name: b"pay".to_vec(),
            start_time_unix_nano: 1_000,
            events: vec![event("retry"), event("give up")],
            status: Some(SpanStatus { code: 2, ..SpanStatus::default() }),
            ..Span::default()
        };
        let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
        let resource = ResourceSpans { scope_spans, schema_url: b"s".to_vec(), ..ResourceSpans::default() };
        let request = bytes::Bytes::from(ExportTraceServiceRequest { resource_spans: vec![resource] }.encode_to_vec());
        let mut index = SpanIndex::default();
        index.read_request(&request, 0).unwrap();
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let mut conditions = OttlConditions::default();
        conditions.add(8, &texts(spans), &texts(span_events), true);
        conditions.tell_time(2_000);
        let bytes = span_bytes(&index.items[0], std::slice::from_ref(&request));
        let span = SpanWithin { index: &index, scope: 0, bytes };
        assert_eq!(conditions.ask(span, 0), if expected { 8 } else { 0 }, "{spans:?} {span_events:?}");
        assert_eq!(conditions.take_errors(), errors);
        assert_eq!(conditions.ask(span, 8), 0, "what is answered is not asked");
    }

    #[test]
    fn one_true_condition_of_a_span_is_enough() {
        check(&["name == \"other\"", "name == \"pay\" and status.code == STATUS_CODE_ERROR"], &[], true, 0);
        check(&["name == \"other\""], &[], false, 0);
    }

    #[test]
    fn conditions_see_what_the_span_lies_in_and_the_time() {
        check(&["resource.schema_url == \"s\" and Now() - start_time == Duration(\"1us\")"], &[], true, 0);
    }

    #[test]
    fn each_event_is_asked() {
        check(&[], &["name == \"give up\" and span.name == \"pay\""], true, 0);
        check(&[], &["name == \"pay\""], false, 0);
    }

    #[test]
    fn a_condition_that_fails_is_not_true_and_the_next_is_asked() {
        check(&["Int(name) / 0 == 1", "1 / (start_time_unix_nano - 1000) == 1", "true"], &[], true, 1);
        check(
            &["IsMatch(attributes[\"none\"], \"x\")", "Substring(attributes[\"none\"], 0, 1) == \"x\""],
            &[],
            false,
            0,
        );
    }
}
