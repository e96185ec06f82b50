//! Cutting a batch to a number of items: spans, data points or log records. No byte moves, unless a metric has to be cut
//! itself.

use super::batch::Batch;
use super::client::Client;
use crate::shard::buffers::Buffers;
use bytes::Bytes;
use codecs::otlp::{Item, MetricIndex, MetricItem, Place, Signal, SignalIndex, cut_metric, item_bytes};
use std::rc::Rc;

/// A batch of this signal, without anything.
pub fn empty(signal: Signal, client: Option<Rc<Client>>) -> Batch {
    Batch { index: SignalIndex::new(signal), client, ..Batch::default() }
}

/// Cuts a pending batch to its bound, if there is one; returns what stays. A metric that does not fit whole is cut itself,
/// so that a batch has exactly as many points as it may.
pub fn split(pending: &mut Batch, bound: u32, client: Option<Rc<Client>>, buffers: &Buffers) -> Batch {
    if bound == 0 || pending.items() <= bound.into() {
        return empty(pending.index.signal(), client);
    }
    let mut segments = pending.segments.clone();
    if let SignalIndex::Metrics(index) = &mut pending.index {
        cut_to(bound, index, &mut segments, buffers);
    }
    let (first, all) = (pending.index.items_within(bound.into()), pending.index.len());
    let part = |from: usize, to: usize| {
        let chosen: Vec<u32> = (from..to).map(|item| u32::try_from(item).expect("an index holds u32 items")).collect();
        let mut part = empty(pending.index.signal(), client.clone());
        pending.index.select(&chosen, &mut part.index);
        part.segments = segments.clone();
        part
    };
    let (first, rest) = (part(0, first), part(first, all));
    (pending.index, pending.segments) = (first.index, first.segments);
    rest
}

/// Cuts the metric that has the point number `bound` of the batch, so that its first part fits and each further part
/// fills a batch. The parts lie in a segment of their own.
fn cut_to(bound: u32, index: &mut MetricIndex, segments: &mut Vec<Bytes>, buffers: &Buffers) {
    let mut room = bound;
    let crosses = |metric: &MetricItem| {
        let next = room.checked_sub(metric.points.max(1));
        room = next.unwrap_or(room);
        next.is_none()
    };
    let Some(position) = index.items.iter().position(crosses).filter(|_| room > 0) else { return };
    let metric = index.items[position];
    let mut bytes = buffers.take(metric.length as usize);
    let Some(pieces) = cut_metric(item_bytes(&metric, segments), room, bound, &mut bytes) else { return };
    let segment = u16::try_from(segments.len()).expect("who collects batches keeps them far below 65536 segments");
    let pieces = pieces.into_iter().map(|(range, points)| {
        let position = |at: usize| u32::try_from(at).expect("a metric and 1 MiB stay below 4 GiB");
        let mut piece = MetricItem { points, ..metric };
        let (offset, length) = (position(range.start), position(range.len()));
        piece.set_place(Place { offset, length, segment, ..metric.place() });
        piece
    });
    index.items.splice(position..=position, pieces);
    segments.push(bytes.freeze());
}
