//! A request that its backend calls too large is sent in halves, and these in halves, down to single items.
//!
//! ```text
//! [ 800 spans ] --too large--> [ 400 ][ 400 ] --taken--> [ 400 ] --too large--> [ 200 ][ 200 ] ...
//! ```
//!
//! The one idea: parts wait on a stack, so they leave in their order, and what was delivered is never sent again. Bounded:
//! n items are sent in fewer than 2n requests. Pure: outcomes in, the next part out.

use super::ExportRequest;
use crate::config::checked::Sizer;
use crate::exporter::outcome::Outcome;
use crate::pipeline::batch::{Batch, SEGMENTS_MAX};
use crate::pipeline::cut::split;
use crate::shard::buffers::Buffers;
use codecs::grpc::Status;
use codecs::otlp::SignalIndex;
use std::rc::Rc;

/// The parts of one request.
#[derive(Debug)]
pub(super) struct Parts {
    /// The next is the last.
    waiting: Vec<Rc<ExportRequest>>,
    whole: u64,
    delivered: u64,
    /// What became of the last part that was delivered, or of the first that was not.
    taken: Option<Outcome>,
    failed: Option<Outcome>,
    rejection: Option<String>,
    may_come: bool,
}

impl Parts {
    /// Nothing has been sent.
    pub(super) fn of(request: &Rc<ExportRequest>) -> Parts {
        let waiting = vec![Rc::clone(request)];
        Parts {
            waiting,
            whole: request.items(),
            delivered: 0,
            taken: None,
            failed: None,
            rejection: None,
            may_come: false,
        }
    }

    /// Nothing has been sent; no part is larger than `max`, as far as one item fits. What is too large is cut near its middle,
    /// so that each item is looked at a few times however many parts there are: items where all but the last part are
    /// full, bytes until halves fit.
    pub(super) fn within(request: &Rc<ExportRequest>, max: usize, sizer: Sizer, buffers: &Buffers) -> Parts {
        let mut parts = Parts::of(request);
        match sizer {
            // One request is as few as there can be.
            Sizer::Requests => {}
            Sizer::Items if request.items() > max as u64 => {
                parts.waiting.clear();
                let mut whole = vec![request.batch().fork()];
                while let Some(mut part) = whole.pop() {
                    let pieces = part.items().div_ceil(max as u64);
                    // A metric that is cut lies in a segment of its own, of which a batch has a bounded number.
                    if pieces < 2 || part.segments.len() >= SEGMENTS_MAX / 2 {
                        parts.waiting.push(ExportRequest::new(part));
                        continue;
                    }
                    let bound = u32::try_from(max as u64 * (pieces / 2)).unwrap_or(u32::MAX);
                    let client = part.client.clone();
                    let rest = split(&mut part, bound, client, buffers);
                    if rest.index.is_empty() {
                        parts.waiting.push(ExportRequest::new(part));
                    } else {
                        // The last part is cut first, so that the stack ends with the first.
                        whole.extend([part, rest]);
                    }
                }
            }
            Sizer::Items => {}
            Sizer::Bytes => {
                let mut whole = std::mem::take(&mut parts.waiting);
                while let Some(part) = whole.pop() {
                    if part.bytes() <= max as u64 || part.batch().index.len() < 2 {
                        parts.waiting.push(part);
                        continue;
                    }
                    // The last part is cut first, so that the stack ends with the first.
                    whole.extend(halves(part.batch()).map(ExportRequest::new));
                }
            }
        }
        parts
    }

    /// The next part to send, if any is left.
    pub(super) fn next(&mut self) -> Option<Rc<ExportRequest>> {
        self.waiting.pop()
    }

    /// What became of `part`. Returns whether it was cut in two.
    pub(super) fn ended(&mut self, part: &ExportRequest, outcome: Outcome) -> bool {
        let items = part.items();
        match outcome {
            Outcome::Delivered => {
                self.delivered += items;
                self.taken = Some(Outcome::Delivered);
            }
            Outcome::PartiallyRejected { rejected, message } => {
                self.delivered += items - rejected.min(items);
                self.rejection.get_or_insert_with(|| message.clone());
                self.taken = Some(Outcome::PartiallyRejected { rejected, message });
            }
            Outcome::DeliveredInPart { dropped, failed, message } => {
                self.delivered += items - dropped.saturating_add(failed).min(items);
                self.taken = Some(Outcome::DeliveredInPart { dropped, failed, message });
            }
            // One metric may hold many points, and is not cut.
            too_large if too_large.is_too_large() && part.batch().index.len() > 1 => {
                let [first, second] = halves(part.batch());
                self.waiting.extend([ExportRequest::new(second), ExportRequest::new(first)]);
                return true;
            }
            failed => {
                self.may_come |= matches!(failed, Outcome::Retry { .. });
                self.failed.get_or_insert(failed);
            }
        }
        false
    }

    /// Whether the backend may still take some of it: what is on disk must stay there while nobody else can send it.
    pub(super) fn may_come(&self) -> bool {
        self.may_come
    }

    /// What a sender is told that waits for the delivery of all of it, if some of it was delivered and some may still be: to
    /// bring all of it again, so that it arrives twice in part rather than never.
    pub(super) fn left(&self) -> Option<Status> {
        let may_come = self.taken.is_some() && matches!(self.failed, Some(Outcome::Retry { .. }));
        self.failed.as_ref().filter(|_| may_come).map(Outcome::status_for_sender)
    }

    /// What became of the whole. Where only some of it was delivered, the rest counts as rejected: a sender that is told
    /// to come back would bring again what has arrived.
    pub(super) fn outcome(self) -> Outcome {
        let rejected = self.whole - self.delivered;
        match (self.taken, self.failed) {
            (None, Some(failed)) => failed,
            (Some(_), Some(failed)) => {
                let message = match failed {
                    Outcome::Retry { message, .. } | Outcome::Permanent { message, .. } => message,
                    Outcome::Delivered | Outcome::PartiallyRejected { .. } | Outcome::DeliveredInPart { .. } => {
                        String::new()
                    }
                };
                Outcome::PartiallyRejected { rejected, message }
            }
            (Some(taken), None) => match self.rejection {
                Some(message) => Outcome::PartiallyRejected { rejected, message },
                None => taken,
            },
            (None, None) => Outcome::Delivered,
        }
    }
}

/// Both halves of a batch of more than one item, over the same bytes.
fn halves(batch: &Batch) -> [Batch; 2] {
    let items = u32::try_from(batch.index.len()).expect("an index numbers its items in 32 bits");
    let cut = |from: u32, to: u32| {
        let chosen: Vec<u32> = (from..to).collect();
        let mut index = SignalIndex::new(batch.index.signal());
        batch.index.select(&chosen, &mut index);
        Batch { index, segments: batch.segments.clone(), acks: Vec::new(), client: batch.client.clone() }
    };
    [cut(0, items / 2), cut(items / 2, items)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exporter::outcome::ErrorWord;
    use codecs::grpc::Code;
    use codecs::otlp::proto::{ExportTraceServiceRequest, ResourceSpans, ScopeSpans, Span};
    use codecs::otlp::span_bytes;
    use prost::Message;

    fn request(spans: u8) -> Rc<ExportRequest> {
        let spans = (1..=spans).map(|number| Span { span_id: vec![number; 8], ..Span::default() }).collect();
        let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
        let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
        let bytes: bytes::Bytes = ExportTraceServiceRequest { resource_spans }.encode_to_vec().into();
        let mut index = SignalIndex::default();
        index.read_request(&bytes, 0).unwrap();
        ExportRequest::new(Batch { index, segments: vec![bytes], ..Batch::default() })
    }

    fn numbers(part: &ExportRequest) -> Vec<u8> {
        let Batch { index, segments, .. } = part.batch();
        index
            .spans()
            .unwrap()
            .items
            .iter()
            .map(|span| Span::decode(span_bytes(span, segments)).unwrap().span_id[0])
            .collect()
    }

    fn too_large() -> Outcome {
        let message = "received message larger than max (9 vs. 8)".to_owned();
        Outcome::Permanent { reason: ErrorWord::Grpc(Code::ResourceExhausted), message }
    }

    /// Sends to a backend; returns what it took, how often it was asked, and what became of the whole.
    fn send(spans: u8, backend: impl Fn(&[u8]) -> Outcome) -> (Vec<u8>, usize, Outcome) {
        let mut parts = Parts::of(&request(spans));
        let (mut taken, mut asked) = (Vec::new(), 0);
        while let Some(part) = parts.next() {
            let outcome = backend(&numbers(&part));
            asked += 1;
            if matches!(outcome, Outcome::Delivered | Outcome::PartiallyRejected { .. }) {
                taken.extend(numbers(&part));
            }
            parts.ended(&part, outcome);
        }
        (taken, asked, parts.outcome())
    }

    #[test]
    fn every_item_arrives_once_and_in_order_whatever_the_bound() {
        for spans in 1..=40 {
            for bound in 1..=40 {
                let all: Vec<u8> = (1..=spans).collect();
                let backend = |part: &[u8]| if part.len() > bound { too_large() } else { Outcome::Delivered };
                let (taken, asked, outcome) = send(spans, backend);
                assert_eq!((taken, outcome), (all, Outcome::Delivered), "{spans} spans, at most {bound}");
                assert!(asked < 2 * usize::from(spans), "{asked} requests for {spans} spans");
            }
        }
    }

    #[test]
    fn parts_within_a_bound_are_all_items_in_order() {
        let buffers = Buffers::new(0);
        for spans in 1..=20 {
            for max in 1..=20 {
                let whole = request(spans);
                let each = whole.bytes() as usize / usize::from(spans);
                let all = usize::from(spans);
                let bounds = [(Sizer::Items, max, max), (Sizer::Bytes, max * each, max), (Sizer::Requests, 1, all)];
                for (sizer, max_size, bound) in bounds {
                    let mut parts = Parts::within(&whole, max_size, sizer, &buffers);
                    let mut all = Vec::new();
                    while let Some(part) = parts.next() {
                        let items = numbers(&part);
                        assert!((1..=bound).contains(&items.len()), "{items:?} of {spans}, at most {max} {sizer:?}");
                        all.extend(items);
                    }
                    assert_eq!(all, (1..=spans).collect::<Vec<u8>>(), "at most {max} {sizer:?}");
                }
            }
        }
    }

    /// A drain that gives up asks this before it forgets what is on disk.
    #[test]
    fn what_the_backend_may_still_take_is_known_whatever_became_of_other_parts() {
        let late =
            || Outcome::Retry { after: None, reason: ErrorWord::Grpc(Code::Unavailable), message: "late".to_owned() };
        let denied =
            || Outcome::Permanent { reason: ErrorWord::Grpc(Code::PermissionDenied), message: "no".to_owned() };
        for (outcomes, may_come) in [
            ([Outcome::Delivered, late(), late()], true),
            ([denied(), late(), Outcome::Delivered], true),
            ([late(), Outcome::Delivered, denied()], true),
            ([Outcome::Delivered, denied(), Outcome::Delivered], false),
        ] {
            let mut parts = Parts::within(&request(6), 2, Sizer::Items, &Buffers::new(0));
            for outcome in outcomes.clone() {
                let part = parts.next().expect("three parts of two");
                assert!(!parts.ended(&part, outcome));
            }
            assert!(parts.next().is_none());
            assert_eq!(parts.may_come(), may_come, "{outcomes:?}");
        }
    }

    #[test]
    fn an_item_that_is_too_large_alone_fails_alone() {
        let backend = |part: &[u8]| if part.contains(&7) { too_large() } else { Outcome::Delivered };
        let (taken, _, outcome) = send(10, backend);
        assert_eq!(taken, [1, 2, 3, 4, 5, 6, 8, 9, 10]);
        assert!(matches!(outcome, Outcome::PartiallyRejected { rejected: 1, message } if message.contains("larger")));
        assert_eq!(send(1, |_| too_large()), (vec![], 1, too_large()));
    }

    #[test]
    fn another_failure_is_not_cut_and_what_was_delivered_is_not_asked_for_again() {
        let denied =
            || Outcome::Permanent { reason: ErrorWord::Grpc(Code::PermissionDenied), message: "no".to_owned() };
        assert_eq!(send(8, |_| denied()), (vec![], 1, denied()));
        let retry = |part: &[u8]| match part.len() {
            8 => too_large(),
            _ if part[0] == 1 => Outcome::Delivered,
            _ => Outcome::Retry { after: None, reason: ErrorWord::Grpc(Code::Unavailable), message: "late".to_owned() },
        };
        let (taken, asked, outcome) = send(8, retry);
        assert_eq!((taken, asked), (vec![1, 2, 3, 4], 3));
        assert_eq!(outcome, Outcome::PartiallyRejected { rejected: 4, message: "late".to_owned() });
        let partial = |part: &[u8]| match part.len() {
            8 => too_large(),
            _ => Outcome::PartiallyRejected { rejected: 1, message: "old".to_owned() },
        };
        assert_eq!(send(8, partial).2, Outcome::PartiallyRejected { rejected: 2, message: "old".to_owned() });
    }
}
