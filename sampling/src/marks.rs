//! What kept spans are marked with: the randomness and the threshold of their trace's decision, and its reason.
//!
//! ```text
//! span arrives:    the randomness that its trace state carries, once a trace       (beside the table, by slot)
//! trace decides:   threshold                                                       (beside the table; remembered)
//! span leaves:     copied with `ot=rv:...;th:...`, and the root with its reason
//! ```
//!
//! For settings that ask for none of it nothing is kept, and spans are copied as they came. Whether a trace is marked is a
//! matter of the rules under which it began; what a late span of it is marked with, of its decision, and its reason of the
//! rules in force.

use std::collections::{HashMap, VecDeque};

use codecs::otlp::{SpanItem, TextAttribute, TraceId, span_trace_state, write_marked_span};

use crate::consistent::{Randomness, Threshold, TraceState, Update};
use crate::settings::Settings;

/// Attributes of a root span that say why its trace was kept.
const POLICY_ATTRIBUTE: &[u8] = b"tailsampling.policy";
const REASON_ATTRIBUTE: &[u8] = b"tailsampling.reason";

/// Decisions whose weight is remembered for late spans: 5 MiB. A late span of an earlier one leaves as it came, which says
/// that its weight is not known.
const REMEMBERED_MAX: usize = 65_536;

/// Where a trace's randomness comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// A span carries it.
    Explicit,
    /// A span carries a threshold and no randomness: it is the trace id's.
    TraceId,
    /// Nothing arrived: it is the policies' hash.
    Hash,
}

/// What is known of a pending trace, and of a kept one until its spans leave.
#[derive(Clone, Copy, Debug)]
struct Pending {
    arrived: Option<(Randomness, Source)>,
    threshold: Threshold,
    /// What it would have been shed below, had its randomness been less.
    survived: Threshold,
}

const NOTHING: Pending = Pending { arrived: None, threshold: Threshold::NEVER, survived: Threshold::ALWAYS };

impl Pending {
    /// `hashed` is the trace's randomness if none arrived.
    fn weight(&self, hashed: Randomness) -> Weight {
        let (randomness, source) = self.arrived.unwrap_or((hashed, Source::Hash));
        Weight { randomness, source, threshold: self.threshold }
    }
}

/// What a kept trace stands for.
#[derive(Clone, Copy, Debug)]
struct Weight {
    randomness: Randomness,
    source: Source,
    threshold: Threshold,
}

/// What kept spans are marked with, by settings.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Writes {
    pub(crate) threshold: bool,
    pub(crate) reason: bool,
}

impl Writes {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self { threshold: settings.write_threshold, reason: settings.write_reason }
    }

    pub(crate) fn is_any(self) -> bool {
        self.threshold || self.reason
    }
}

/// What the spans of one decided trace are marked with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    /// `None`: not known, or not asked for.
    weight: Option<Weight>,
    /// `None`: not asked for.
    policy: Option<u16>,
}

/// The marks of one sampler.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    /// Any rules that have traces, or are in force, write thresholds.
    are_kept: bool,
    /// Name and type of each policy, by its number, if they were ever written.
    reasons: Vec<(Box<[u8]>, &'static str)>,
    /// By slot.
    pending: Vec<Pending>,
    remembered: HashMap<TraceId, Weight>,
    /// The same in the order in which they were decided.
    order: VecDeque<TraceId>,
    /// The trace state that is being written.
    trace_state: Vec<u8>,
}

impl Marks {
    /// These settings come into force, and their policies have these numbers.
    pub(crate) fn learn(&mut self, settings: &Settings, numbers: &[u16]) {
        self.are_kept |= settings.write_threshold;
        for (policy, number) in settings.policies.iter().zip(numbers).filter(|_| settings.write_reason) {
            let place = usize::from(*number);
            if place >= self.reasons.len() {
                self.reasons.resize(place + 1, (Box::default(), ""));
            }
            self.reasons[place] = (policy.name.as_bytes().into(), policy.rule.kind());
        }
    }

    /// No rules that have traces, or are in force, write thresholds any more.
    pub(crate) fn rest(&mut self) {
        (self.are_kept, self.pending) = (false, Vec::new());
    }

    /// Whether [`Marks::begin`] is to be called for each trace, whatever its rules write.
    #[inline]
    pub(crate) fn are_kept(&self) -> bool {
        self.are_kept
    }

    /// Whether a late span may be marked whatever is written now.
    #[inline]
    pub(crate) fn remember_any(&self) -> bool {
        !self.remembered.is_empty()
    }

    /// A trace begins in this slot.
    pub(crate) fn begin(&mut self, slot: u32) {
        let slot = slot as usize;
        if slot >= self.pending.len() {
            self.pending.resize(slot + 1, NOTHING);
        }
        self.pending[slot] = NOTHING;
    }

    /// A span of the trace arrived: the first that carries randomness says what the trace's is.
    pub(crate) fn add(&mut self, slot: u32, item: &SpanItem, bytes: &[u8]) {
        let arrived = &mut self.pending[slot as usize].arrived;
        if !matches!(arrived, Some((_, Source::Explicit)))
            && let Some(found) = carried(item, bytes)
        {
            *arrived = Some(found);
        }
    }

    /// The trace in this slot reached a threshold below which it would have been shed.
    pub(crate) fn survive(&mut self, slot: u32, threshold: Threshold) {
        let survived = &mut self.pending[slot as usize].survived;
        *survived = threshold.max(*survived);
    }

    /// The greatest threshold that the trace in this slot had to reach so far.
    pub(crate) fn survived(&self, slot: u32) -> Threshold {
        self.pending.get(slot as usize).map_or(Threshold::ALWAYS, |pending| pending.survived)
    }

    /// The randomness that arrived with the trace in this slot.
    pub(crate) fn arrived(&self, slot: u32) -> Option<Randomness> {
        let (randomness, _) = self.pending.get(slot as usize)?.arrived?;
        Some(randomness)
    }

    /// The trace in this slot was kept; `hashed` is its randomness if none arrived.
    pub(crate) fn decide(&mut self, slot: u32, trace_id: &TraceId, threshold: Threshold, hashed: Randomness) {
        let pending = &mut self.pending[slot as usize];
        pending.threshold = threshold;
        let weight = pending.weight(hashed);
        if self.order.len() == REMEMBERED_MAX
            && let Some(first) = self.order.pop_front()
        {
            self.remembered.remove(&first);
        }
        if self.remembered.insert(*trace_id, weight).is_none() {
            self.order.push_back(*trace_id);
        }
    }

    /// The trace was kept under rules that write no threshold.
    pub(crate) fn forget(&mut self, trace_id: &TraceId) {
        if self.remembered.remove(trace_id).is_some() {
            self.order.retain(|known| known != trace_id);
        }
    }

    /// What spans of the kept trace in this slot leave with; `hashed` is its randomness if none arrived.
    pub(crate) fn of(&self, slot: u32, policy: u16, hashed: Randomness, writes: Writes) -> Mark {
        let pending = self.pending.get(slot as usize).filter(|_| writes.threshold);
        Mark { weight: pending.map(|pending| pending.weight(hashed)), policy: Some(policy).filter(|_| writes.reason) }
    }

    /// What a late span leaves with.
    pub(crate) fn of_late(&self, trace_id: &TraceId, policy: u16, writes: Writes) -> Mark {
        let weight = self.remembered.get(trace_id).copied();
        Mark { weight, policy: Some(policy).filter(|_| writes.reason) }
    }

    /// What a span without a trace id leaves with, which was decided alone. Without randomness of its own all such spans
    /// have the same, so of those that chance kept nobody knows what they stand for.
    pub(crate) fn of_lone(item: &SpanItem, bytes: &[u8], policy: u16, threshold: Threshold, writes: Writes) -> Mark {
        let arrived = carried(item, bytes).filter(|(_, source)| *source == Source::Explicit);
        let certain = Some((Randomness::MAX, Source::TraceId)).filter(|_| threshold == Threshold::ALWAYS);
        let known = arrived.or(certain).filter(|_| writes.threshold);
        let weight = known.map(|(randomness, source)| Weight { randomness, source, threshold });
        Mark { weight, policy: Some(policy).filter(|_| writes.reason) }
    }

    /// Appends the span to `out` with its mark.
    pub(crate) fn write(&mut self, mark: &Mark, item: &SpanItem, bytes: &[u8], out: &mut Vec<u8>) {
        let weight = mark.weight;
        let state = weight.and_then(|_| TraceState::read(span_trace_state(bytes)));
        self.trace_state.clear();
        if let Some((weight, state)) = weight.zip(state) {
            weight.write(state, &mut self.trace_state);
        }
        // One that was decided before reasons were written may have a policy whose name is not known.
        let reason = mark.policy.filter(|_| !item.has_parent).and_then(|policy| self.reasons.get(usize::from(policy)));
        let trace_state = state.map(|_| &*self.trace_state);
        if let Some((policy, kind)) = reason.filter(|(policy, _)| !policy.is_empty()) {
            let attributes = [
                TextAttribute { key: POLICY_ATTRIBUTE, text: policy },
                TextAttribute { key: REASON_ATTRIBUTE, text: kind.as_bytes() },
            ];
            write_marked_span(bytes, trace_state, &attributes, out);
        } else if trace_state.is_some() {
            write_marked_span(bytes, trace_state, &[], out);
        } else {
            // Nothing to say, or what is malformed stays as it came.
            out.extend_from_slice(bytes);
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.pending.capacity() * size_of::<Pending>()
            + self.remembered.capacity() * size_of::<(TraceId, Weight)>()
            + self.order.capacity() * size_of::<TraceId>()
            + self.trace_state.capacity()
    }
}

impl Weight {
    fn write(&self, state: TraceState<'_>, out: &mut Vec<u8>) {
        let is_true = state.threshold().is_none_or(|arrived| arrived.admits(self.randomness));
        // A span that should not be here is not believed in what it says of itself.
        let update = if is_true { Update::Raise(self.threshold) } else { Update::Replace(self.threshold) };
        // What everybody reads in the trace id need not be written.
        let randomness = Some(self.randomness).filter(|_| self.source != Source::TraceId);
        state.write(randomness, update, out);
    }
}

/// The randomness that arrived with this span.
pub(crate) fn arrived_with(item: &SpanItem, bytes: &[u8]) -> Option<Randomness> {
    let (randomness, _) = carried(item, bytes)?;
    Some(randomness)
}

/// The randomness that a span's trace state speaks of. A threshold without randomness was compared with the trace id's.
fn carried(item: &SpanItem, bytes: &[u8]) -> Option<(Randomness, Source)> {
    let text = span_trace_state(bytes);
    let state = if text.is_empty() { None } else { TraceState::read(text) }?;
    match (state.randomness(), state.threshold()) {
        (Some(randomness), _) => Some((randomness, Source::Explicit)),
        (None, Some(_)) => Some((Randomness::of_trace_id(&item.trace_id), Source::TraceId)),
        (None, None) => None,
    }
}
