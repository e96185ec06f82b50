//! Changing a batch: the one place where bytes of a batch are replaced, and where items are taken out of it.
//!
//! ```text
//! node walks the batch (Order) --new bytes, dropped items--> Rewriter --apply--> the same batch
//!
//! segments:  [as they came 0][as they came 1] [new 2]        changed items point into new segments,
//! items:      ^    ^    ^     ^        ^       ^  ^          the others stay where they are
//! ```
//!
//! The idea: a node reads the batch while the rewriter collects what becomes of it, so that nothing is copied but what
//! changed. What the index notes of an item is noted anew from its new bytes, unless only its attributes differ. Segments
//! that no item needs any more are let go, so a batch that was changed as a whole is not held twice. New bytes lie in the
//! shard's request buffers, which the budget counts. It never touches a segment that came: forks of the batch may share it.

use super::batch::{Batch, SEGMENTS_MAX};
use crate::processor::Turn;
use crate::shard::buffers::{Buffer, Buffers};
use bytes::Bytes;
use codecs::otlp::{ByteRange, Index, Item, LogItem, MetricItem, Place, Signal, SpanItem};
use codecs::wire::Malformed;

use super::ack::Outcome;

/// A new segment with this many bytes takes no further item: buffers stay of a size that is used again.
const SEGMENT_BYTES_MAX: usize = 8 << 20;

/// Stands for a segment that no item needs.
const UNUSED: u16 = u16::MAX;

/// What becomes of one batch. A node keeps one and uses its memory again with every batch.
#[derive(Debug, Default)]
pub struct Rewriter<I> {
    /// New envelopes, back to back.
    envelopes: Vec<u8>,
    resources: Vec<(u32, ByteRange)>,
    scopes: Vec<(u32, ByteRange)>,
    /// Numbers of changed items, and what they become; `segment` counts from the first new segment.
    items: Vec<(u32, I)>,
    /// New items, whose `segment` counts in the same way.
    added: Vec<I>,
    dropped: Vec<u32>,
    segments: Vec<Bytes>,
    /// The new segment that is being filled.
    open: Option<Buffer>,
    /// Reused by [`let_go_of_segments`].
    numbers: Vec<u16>,
}

impl<I: Item> Rewriter<I> {
    /// Gives resource `number` the envelope that `write` appends.
    pub fn resource(&mut self, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let range = self.envelope(write);
        self.resources.push((number, range));
    }

    /// Gives scope `number` the envelope that `write` appends.
    pub fn scope(&mut self, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let range = self.envelope(write);
        self.scopes.push((number, range));
    }

    fn envelope(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> ByteRange {
        let start = position(self.envelopes.len());
        write(&mut self.envelopes);
        ByteRange { start, end: position(self.envelopes.len()) }
    }

    /// Gives item `number` of `batch` the message that `write` appends. The last change of an item counts.
    ///
    /// # Errors
    /// What was written is no such message; nothing became of it. The caller lets nothing of the old bytes out either,
    /// if they were to be masked.
    pub fn item(
        &mut self,
        buffers: &Buffers,
        batch: &Batch,
        number: u32,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Malformed> {
        let old = &batch.index_of::<I>().items[number as usize];
        let (open, place) = self.write(buffers, batch, old.place(), write);
        let mut item = I::default();
        item.set_place(place);
        item.take_over(old);
        if let Err(malformed) = item.read(open, place.offset as usize) {
            open.truncate(place.offset as usize);
            return Err(malformed);
        }
        self.push(number, item);
        Ok(())
    }

    /// As [`Self::item`], of an item that got other attributes and nothing else: what the index noted of it still holds, but
    /// for where its attributes lie, and is not noted anew. The caller vouches for what `write` appends; tests look.
    pub fn item_with_other_attributes(
        &mut self,
        buffers: &Buffers,
        batch: &Batch,
        number: u32,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let mut item = batch.index_of::<I>().items[number as usize];
        let (open, place) = self.write(buffers, batch, item.place(), write);
        item.set_place(place);
        item.forget_attributes();
        debug_assert_eq!(noted_anew(&item, open), Ok(item), "other attributes change nothing that the index notes");
        self.push(number, item);
    }

    /// Adds an item to scope number `scope` of `batch`: the message that `write` appends. Returns how many data points (or
    /// spans, or log records) that is.
    ///
    /// # Errors
    /// What was written is no such message; nothing became of it.
    pub fn add_item(
        &mut self,
        buffers: &Buffers,
        batch: &Batch,
        scope: u32,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<u64, Malformed> {
        let (open, place) = self.write(buffers, batch, Place { scope, ..I::default().place() }, write);
        let mut item = I::default();
        item.set_place(place);
        if let Err(malformed) = item.read(open, place.offset as usize) {
            open.truncate(place.offset as usize);
            return Err(malformed);
        }
        let count = item.count();
        self.added.push(item);
        self.close_if_full();
        Ok(count)
    }

    /// Appends a message to the open segment, and says where it lies.
    fn write(
        &mut self,
        buffers: &Buffers,
        batch: &Batch,
        old: Place,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> (&mut Buffer, Place) {
        let segment = segment(self.segments.len());
        let open = self.open.get_or_insert_with(|| buffers.take(expected_bytes::<I>(batch)));
        let start = open.len();
        write(open);
        let place = Place { offset: position(start), length: position(open.len() - start), scope: old.scope, segment };
        (open, place)
    }

    fn push(&mut self, number: u32, item: I) {
        self.items.push((number, item));
        self.close_if_full();
    }

    fn close_if_full(&mut self) {
        if self.open.as_ref().is_some_and(|open| open.len() >= SEGMENT_BYTES_MAX) {
            self.close();
        }
    }

    /// Takes item `number` out of the batch.
    pub fn drop_item(&mut self, number: u32) {
        self.dropped.push(number);
    }

    /// Makes it so. Returns how many spans, data points or log records are there no more, of those that came and those that
    /// were added; the caller counts them under the
    /// word that fits.
    pub fn apply(&mut self, batch: &mut Batch) -> u64 {
        self.close();
        self.place_envelopes(batch.index_of_mut());
        if self.items.is_empty() && self.dropped.is_empty() && self.added.is_empty() {
            return 0;
        }
        assert!(
            batch.segments.len() + self.segments.len() <= SEGMENTS_MAX,
            "batches stop growing at half as many segments, and a new one has {SEGMENT_BYTES_MAX} bytes"
        );
        let before = batch.items() + self.added.iter().map(Item::count).sum::<u64>();
        let first = segment(batch.segments.len());
        let index = batch.index_of_mut::<I>();
        for (number, mut item) in self.items.drain(..) {
            let place = item.place();
            item.set_place(Place { segment: place.segment + first, ..place });
            index.items[number as usize] = item;
        }
        self.take_out(index);
        index.items.extend(self.added.drain(..).map(|mut item| {
            let place = item.place();
            item.set_place(Place { segment: place.segment + first, ..place });
            item
        }));
        batch.segments.append(&mut self.segments);
        let_go_of_segments::<I>(batch, &mut self.numbers);
        before.saturating_sub(batch.items())
    }

    /// Forgets what was collected, as when the batch goes no further.
    pub fn abandon(&mut self) {
        self.envelopes.clear();
        self.resources.clear();
        self.scopes.clear();
        self.items.clear();
        self.added.clear();
        self.dropped.clear();
        self.segments.clear();
        self.open = None;
    }

    /// Memory that is kept from batch to batch, in bytes; segments are request buffers.
    pub fn bytes_held(&self) -> usize {
        self.envelopes.capacity()
            + (self.resources.capacity() + self.scopes.capacity()) * size_of::<(u32, ByteRange)>()
            + self.items.capacity() * size_of::<(u32, I)>()
            + self.added.capacity() * size_of::<I>()
            + self.dropped.capacity() * size_of::<u32>()
            + self.numbers.capacity() * size_of::<u16>()
    }

    fn close(&mut self) {
        self.segments.extend(self.open.take().map(Buffer::freeze));
    }

    /// Appends the new envelopes to those of the index; the old ones are left behind until the batch is written out.
    fn place_envelopes(&mut self, index: &mut Index<I>) {
        let start = position(index.envelopes.len());
        index.envelopes.extend_from_slice(&self.envelopes);
        // The sum is checked here, so the two loops cannot overflow.
        position(index.envelopes.len());
        let moved = |range: ByteRange| ByteRange { start: range.start + start, end: range.end + start };
        for (number, range) in self.resources.drain(..) {
            index.resources[number as usize] = moved(range);
        }
        for (number, range) in self.scopes.drain(..) {
            index.scopes[number as usize].envelope = moved(range);
        }
        self.envelopes.clear();
    }

    fn take_out(&mut self, index: &mut Index<I>) {
        if self.dropped.is_empty() {
            return;
        }
        self.dropped.sort_unstable();
        let mut dropped = self.dropped.iter().peekable();
        let mut number = 0;
        index.items.retain(|_| {
            let goes = dropped.peek() == Some(&&number);
            // Twice dropped is dropped once.
            while dropped.next_if_eq(&&number).is_some() {}
            number += 1;
            !goes
        });
        self.dropped.clear();
    }
}

/// Room for all items of a batch, grown by an eighth: most statements add little.
fn expected_bytes<I: Item>(batch: &Batch) -> usize {
    let bytes: usize = batch.index_of::<I>().items.iter().map(|item| item.place().length as usize).sum();
    (bytes + bytes / 8).min(SEGMENT_BYTES_MAX)
}

/// What the index would note of an item in `bytes`, but for where its attributes lie.
fn noted_anew<I: Item>(item: &I, bytes: &[u8]) -> Result<I, Malformed> {
    let mut anew = I::default();
    anew.set_place(item.place());
    anew.take_over(item);
    anew.read(bytes, item.place().offset as usize)?;
    anew.forget_attributes();
    Ok(anew)
}

/// One rewriter for each signal. A node works in pipelines of one signal, and those of the others never hold anything.
#[derive(Debug, Default)]
pub struct Rewriters {
    spans: Rewriter<SpanItem>,
    metrics: Rewriter<MetricItem>,
    logs: Rewriter<LogItem>,
}

/// Items that can be rewritten: all of them.
pub trait Rewritten: Item {
    /// The rewriter of such items.
    fn rewriter(all: &mut Rewriters) -> &mut Rewriter<Self>;
}

impl Rewritten for SpanItem {
    fn rewriter(all: &mut Rewriters) -> &mut Rewriter<Self> {
        &mut all.spans
    }
}

impl Rewritten for MetricItem {
    fn rewriter(all: &mut Rewriters) -> &mut Rewriter<Self> {
        &mut all.metrics
    }
}

impl Rewritten for LogItem {
    fn rewriter(all: &mut Rewriters) -> &mut Rewriter<Self> {
        &mut all.logs
    }
}

impl Rewriters {
    /// [`Rewriter::apply`] for the signal of the batch.
    pub fn apply(&mut self, batch: &mut Batch) -> u64 {
        match batch.index.signal() {
            Signal::Traces => self.spans.apply(batch),
            Signal::Metrics => self.metrics.apply(batch),
            Signal::Logs => self.logs.apply(batch),
        }
    }

    /// Forgets what was collected, as when the batch goes no further.
    pub fn abandon(&mut self) {
        self.spans.abandon();
        self.metrics.abandon();
        self.logs.abandon();
    }

    /// Memory that is kept from batch to batch, in bytes; segments are request buffers.
    pub fn bytes_held(&self) -> usize {
        self.spans.bytes_held() + self.metrics.bytes_held() + self.logs.bytes_held()
    }
}

/// Passes a batch on behind a node that may have taken items out of it: nothing is left of it, its senders may forget it.
pub fn pass_on(turn: Turn<'_>, mut batch: Batch, out: &mut Vec<Batch>) {
    if batch.index.is_empty() {
        batch.settle(&Outcome::Taken);
        turn.indexes.give_back(batch.index);
    } else {
        out.push(batch);
    }
}

/// Drops the segments that no item lies in.
fn let_go_of_segments<I: Item>(batch: &mut Batch, numbers: &mut Vec<u16>) {
    let Batch { index, segments, .. } = batch;
    let Some(index) = I::index_in_mut(index) else { return };
    numbers.clear();
    numbers.resize(segments.len(), UNUSED);
    for item in &index.items {
        numbers[usize::from(item.place().segment)] = 0;
    }
    if !numbers.contains(&UNUSED) {
        return;
    }
    for (next, number) in numbers.iter_mut().filter(|number| **number != UNUSED).enumerate() {
        *number = segment(next);
    }
    let mut kept = numbers.iter().map(|number| *number != UNUSED);
    segments.retain(|_| kept.next().unwrap_or(false));
    for item in &mut index.items {
        let place = item.place();
        item.set_place(Place { segment: numbers[usize::from(place.segment)], ..place });
    }
}

fn position(at: usize) -> u32 {
    u32::try_from(at).expect("requests are bounded, and what statements add to an item is: far below 4 GiB")
}

fn segment(number: usize) -> u16 {
    u16::try_from(number).expect("a batch has at most 65535 segments")
}

/// The order of a walk over a batch in which each resource, and each scope, comes once: what is staged on a resource is
/// seen by all its items, however merging and sampling have mixed them. Reused between batches.
#[derive(Debug, Default)]
pub struct Order {
    items: Vec<u32>,
    /// Where the next item of each scope goes.
    next: Vec<u32>,
    /// Scopes by resource.
    scopes: Vec<u32>,
}

impl Order {
    /// The numbers of all items of `index`: by resource, within it by scope, within it as they came.
    pub fn of<I: Item>(&mut self, index: &Index<I>) -> &[u32] {
        self.items.clear();
        let all = 0..position(index.items.len());
        if is_in_order(index) {
            self.items.extend(all);
            return &self.items;
        }
        self.scopes.clear();
        self.scopes.extend(0..position(index.scopes.len()));
        self.scopes.sort_unstable_by_key(|&scope| (index.scopes[scope as usize].resource, scope));
        self.next.clear();
        self.next.resize(index.scopes.len(), 0);
        for item in &index.items {
            self.next[item.place().scope as usize] += 1;
        }
        let mut start = 0;
        for &scope in &self.scopes {
            let count = &mut self.next[scope as usize];
            start += std::mem::replace(count, start);
        }
        self.items.resize(index.items.len(), 0);
        for (number, item) in all.zip(&index.items) {
            let next = &mut self.next[item.place().scope as usize];
            self.items[*next as usize] = number;
            *next += 1;
        }
        &self.items
    }
}

/// Whether the items lie in this order already, as in every request.
fn is_in_order<I: Item>(index: &Index<I>) -> bool {
    index.items.is_sorted_by_key(|item| item.place().scope) && index.scopes.is_sorted_by_key(|scope| scope.resource)
}

#[cfg(test)]
mod tests {
    use super::*;
    use codecs::otlp::proto::{ExportTraceServiceRequest, KeyValue, ResourceSpans, ScopeSpans, Span, SpanStatus};
    use codecs::otlp::{Encoder, Selection, SpanIndex, StatusCode, span_bytes};
    use proptest::prelude::*;
    use prost::Message;

    fn resource(schema_url: &str, scopes: Vec<Vec<Span>>) -> ResourceSpans {
        let scope =
            |(number, spans)| ScopeSpans { spans, schema_url: format!("{number}").into(), ..Default::default() };
        let scope_spans = scopes.into_iter().enumerate().map(scope).collect();
        ResourceSpans { scope_spans, schema_url: schema_url.into(), ..Default::default() }
    }

    fn span(id: u8) -> Span {
        Span { trace_id: vec![1; 16], span_id: vec![id; 8], name: vec![b'n'; usize::from(id)], ..Span::default() }
    }

    fn batch(requests: Vec<ExportTraceServiceRequest>) -> Batch {
        let mut batch = Batch::default();
        for request in requests {
            let bytes = request.encode_to_vec();
            let mut index = SpanIndex::default();
            index.read_request(&bytes, 0).unwrap();
            batch.append(Batch { index: index.into(), segments: vec![bytes.into()], ..Batch::default() });
        }
        batch
    }

    fn request_of(batch: &Batch) -> ExportTraceServiceRequest {
        let mut out = Vec::new();
        Encoder::default().encode(batch.span_index(), &batch.segments, &Selection::All, &mut out);
        ExportTraceServiceRequest::decode(&*out).unwrap()
    }

    fn ids(batch: &Batch) -> Vec<u8> {
        batch.span_index().items.iter().map(|span| span.span_id[0]).collect()
    }

    #[test]
    fn a_span_with_other_attributes_keeps_what_was_noted_of_it() {
        let request = ExportTraceServiceRequest { resource_spans: vec![resource("a", vec![vec![span(1), span(2)]])] };
        let mut batch = batch(vec![request]);
        batch.span_index_mut().items[1].reason = 7;
        let (buffers, mut rewriter) = (Buffers::new(1 << 20), Rewriter::<SpanItem>::default());
        let before = batch.span_index().items[1];
        let changed = Span { attributes: vec![KeyValue { key: "k".into(), value: None }], ..span(2) };
        rewriter.item_with_other_attributes(&buffers, &batch, 1, |out| changed.encode(out).unwrap());
        assert_eq!(rewriter.apply(&mut batch), 0);
        let after = batch.span_index().items[1];
        assert_eq!((after.reason, after.trace_id, after.scope, after.segment), (7, before.trace_id, before.scope, 1));
        assert_eq!(request_of(&batch).resource_spans[0].scope_spans[0].spans, [span(1), changed]);
    }

    #[test]
    fn a_changed_span_lies_in_a_new_segment_and_the_index_knows_its_new_facts() {
        let request = ExportTraceServiceRequest { resource_spans: vec![resource("a", vec![vec![span(1), span(2)]])] };
        let mut batch = batch(vec![request]);
        batch.span_index_mut().items[1].reason = 7;
        let (buffers, mut rewriter) = (Buffers::new(1 << 20), Rewriter::<SpanItem>::default());
        let untouched = batch.span_index().items[0];
        let failed = Span {
            status: Some(SpanStatus { code: 2, ..SpanStatus::default() }),
            end_time_unix_nano: 9,
            parent_span_id: vec![5; 8],
            ..span(2)
        };
        rewriter.item(&buffers, &batch, 1, |out| failed.encode(out).unwrap()).unwrap();
        assert_eq!(rewriter.apply(&mut batch), 0);
        assert_eq!(batch.span_index().items[0], untouched);
        let item = &batch.span_index().items[1];
        assert_eq!((item.status, item.end_ns, item.has_parent), (StatusCode::Error, 9, true));
        assert_eq!((item.segment, item.reason), (1, 7));
        assert_eq!(span_bytes(item, &batch.segments), failed.encode_to_vec());
        assert!(buffers.out_bytes() > 0, "the budget sees the new bytes");
        let request = request_of(&batch);
        assert_eq!(request.resource_spans[0].scope_spans[0].spans, [span(1), failed]);
    }

    #[test]
    fn what_no_span_needs_any_more_is_let_go() {
        let request = |id| ExportTraceServiceRequest { resource_spans: vec![resource("a", vec![vec![span(id)]])] };
        let mut batch = batch((1..=4).map(request).collect());
        let (buffers, mut rewriter) = (Buffers::new(1 << 20), Rewriter::<SpanItem>::default());
        rewriter.drop_item(1);
        rewriter.drop_item(1);
        rewriter.item(&buffers, &batch, 0, |out| span(9).encode(out).unwrap()).unwrap();
        assert_eq!(rewriter.apply(&mut batch), 1);
        assert_eq!((batch.segments.len(), ids(&batch)), (3, vec![9, 3, 4]));
        let request = request_of(&batch);
        assert_eq!(request.resource_spans.len(), 3, "a resource without spans goes with them");
        let left = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        let left: Vec<Span> = left.flat_map(|scope| scope.spans).collect();
        assert_eq!(left, [span(9), span(3), span(4)]);
    }

    #[test]
    fn what_is_no_span_is_refused_and_leaves_nothing_behind() {
        let request = ExportTraceServiceRequest { resource_spans: vec![resource("a", vec![vec![span(1)]])] };
        let mut batch = batch(vec![request.clone()]);
        let (buffers, mut rewriter) = (Buffers::new(1 << 20), Rewriter::<SpanItem>::default());
        assert!(rewriter.item(&buffers, &batch, 0, |out| out.extend([0x0a, 200])).is_err());
        rewriter.apply(&mut batch);
        assert_eq!(request_of(&batch), request);
    }

    #[test]
    fn a_batch_of_which_nothing_is_left_answers_its_senders() {
        use crate::pipeline::ack;
        use std::pin::Pin;
        use std::task::{Context, Poll, Waker};

        let request = ExportTraceServiceRequest { resource_spans: vec![resource("a", vec![vec![span(1)]])] };
        let mut batch = batch(vec![request]);
        let (ack, mut waiting) = ack::open();
        batch.acks.push(ack);
        let mut rewriter = Rewriter::<SpanItem>::default();
        rewriter.drop_item(0);
        assert_eq!(rewriter.apply(&mut batch), 1);
        let mut out = Vec::new();
        let schema = crate::telemetry::cells::Schema::default();
        let (cells, indexes) = (crate::telemetry::cells::Cells::new(&schema), crate::shard::Indexes::default());
        let turn = Turn {
            now_ns: 0,
            memory_is_short: false,
            pressure: 0.0,
            clock: crate::shard::clock::Clock::start(),
            cells: &cells,
            buffers: &Buffers::new(0),
            indexes: &indexes,
        };
        pass_on(turn, batch, &mut out);
        assert!(out.is_empty());
        let answer = Pin::new(&mut waiting).poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(answer, Poll::Ready(ack::Outcome::Taken));
    }

    proptest! {
        /// Against structs: change and drop any spans, change any envelopes, of several requests whose spans are mixed.
        #[test]
        fn rewriting_does_to_bytes_what_it_does_to_structs(
            shape in prop::collection::vec(prop::collection::vec(prop::collection::vec(0u8..4, 0..4), 1..3), 1..4),
            swaps in prop::collection::vec((any::<usize>(), any::<usize>()), 0..6),
            resources in prop::collection::vec(any::<bool>(), 4),
        ) {
            let mut id = 0;
            let mut fates = Vec::new();
            let requests = shape.iter().enumerate().map(|(number, scopes)| {
                let scopes = scopes.iter().map(|spans| spans.iter().map(|fate| {
                    id += 1;
                    fates.push(*fate);
                    span(id)
                }).collect()).collect();
                ExportTraceServiceRequest { resource_spans: vec![resource(&number.to_string(), scopes)] }
            });
            let mut batch = batch(requests.collect());
            let spans = batch.span_index().items.len();
            for (from, to) in swaps.into_iter().filter(|_| spans > 0) {
                batch.span_index_mut().items.swap(from % spans, to % spans);
            }
            let mut order = Order::default();
            let order = order.of(batch.span_index()).to_vec();
            let mut seen = order.clone();
            seen.sort_unstable();
            prop_assert!(seen.iter().copied().eq(0..spans as u32));
            let scopes: Vec<u32> = order.iter().map(|span| batch.span_index().items[*span as usize].scope).collect();
            let owners: Vec<u32> = scopes.iter().map(|scope| batch.span_index().scopes[*scope as usize].resource).collect();
            prop_assert!(owners.is_sorted());

            let (buffers, mut rewriter) = (Buffers::new(1 << 20), Rewriter::<SpanItem>::default());
            let mut expected = request_of(&batch);
            let fate_of = |id: u8| fates[usize::from(id) - 1];
            for &number in &order {
                let id = batch.span_index().items[number as usize].span_id[0];
                match fate_of(id) {
                    1 => rewriter.drop_item(number),
                    2 => rewriter
                        .item(&buffers, &batch, number, |out| span(id + 100).encode(out).unwrap())
                        .unwrap(),
                    _ => {}
                }
            }
            let is_changed = |url: &[u8]| resources[usize::from(url[0] - b'0')];
            for number in 0..batch.span_index().resources.len() {
                let envelope = batch.span_index().envelope(batch.span_index().resources[number]);
                let mut resource = ResourceSpans::decode(envelope).unwrap();
                if is_changed(&resource.schema_url) {
                    resource.schema_url.extend(b" changed");
                    rewriter.resource(number as u32, |out| resource.encode(out).unwrap());
                }
            }
            rewriter.apply(&mut batch);
            let mut kept = Vec::new();
            for mut resource in expected.resource_spans.drain(..) {
                if is_changed(&resource.schema_url) {
                    resource.schema_url.extend(b" changed");
                }
                for scope in &mut resource.scope_spans {
                    scope.spans.retain(|span| fate_of(span.span_id[0]) != 1);
                    for left in &mut scope.spans {
                        let id = left.span_id[0];
                        if fate_of(id) == 2 {
                            *left = span(id + 100);
                        }
                    }
                }
                resource.scope_spans.retain(|scope| !scope.spans.is_empty());
                if !resource.scope_spans.is_empty() {
                    kept.push(resource);
                }
            }
            prop_assert_eq!(request_of(&batch).resource_spans, kept);
        }
    }
}
