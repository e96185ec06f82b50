//! What crosses the mesh: parcels of spans and data points for their owner, whole requests for a less busy shard, the
//! questions of a flush, and answers.
//!
//! The one idea: a message is a box that makes a round trip. The sender fills it, the other shard reads it, and the
//! answer brings the same box home with all its memory, so everything is freed and reused where it was allocated.
//!
//! A parcel holds copies of its spans, back to back. Copying costs the sender less than the owner would pay for fetching
//! pieces of a request from another core's cache: request buffers stay at home and warm, only bytes that cross are
//! shared between caches, and the owner reads them in order. It is also where edits are written out.

use crate::connector::span_metrics::{Ask, Snapshot};
use crate::pipeline::client::Client;
use crate::transport::BodyEncoding;
use bytes::Bytes;
use codecs::otlp::{ByteRange, MetricIndex, ScopeEntry, Signal, SpanIndex, SpanItem};

/// A parcel with this many spans is full: its index is then 256 KiB, and the owner reads it between two requests.
pub const SPANS_MAX: usize = 4096;
/// A parcel is full once its spans or its envelopes have this many bytes: it then fits into a core's own cache. The
/// span that fills it may be larger.
pub const BYTES_MAX: usize = 256 << 10;

/// A message from one shard to another.
#[derive(Debug)]
pub enum Message {
    /// Spans for the shard that owns their traces.
    Parcel(Box<Parcel>),
    /// A whole request, for balance.
    Request(Box<Request>),
    /// Data points for the shard that owns their series.
    Points(Box<Points>),
    /// What a shard is asked when the series of a connector are flushed; comes home with the answer.
    Flush(Box<Flush>),
    /// Nobody waits any more for what became of a message that was sent before.
    GivenUp(Given),
}

/// A message of this sender that waits for its answer at the other shard, which then need not be delivered: its sender
/// sends it again. It is answered in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Given {
    /// A request; or points, of this pipeline.
    pub pipeline: Option<u32>,
    /// The sender's number for who waited.
    pub ticket: u32,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The other shard owns the spans now.
    Taken,
    /// Requests: not taken, and why. Parts of a request that was admitted are never refused; of spans it says that they are
    /// taken, but not on disk, where they had to be.
    Failed(Box<Failure>),
}

/// Why a request was not taken, in the words of the connection's protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// gRPC status code; the connection's shard translates it for HTTP.
    pub code: u32,
    /// For the sender's log, bounded by who wrote it.
    pub message: String,
    /// When a retry may succeed, if one may.
    pub retry_after_ns: Option<u64>,
}

/// Spans of one or more batches on their way to the shard that owns their traces.
#[derive(Debug, Default)]
pub struct Parcel {
    /// The node that gets them, by a number that all shards agree on.
    pub node: u32,
    /// Where the spans lie.
    pub index: SpanIndex,
    /// Their bytes, once the parcel is under way: one segment.
    pub segments: Vec<Bytes>,
    /// Their bytes, as long as the parcel is being filled.
    bytes: Vec<u8>,
    /// Who waits for the answer: one entry for each batch with spans in here.
    pub parts: Vec<Part>,
    /// Memory of the parcel itself when it was sent, as charged by the sender.
    pub(super) charged_bytes: usize,
}

/// A batch's share of a parcel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The sender's number for the batch; means nothing to the owner.
    pub ticket: u32,
    /// How many of its spans are in the parcel.
    pub spans: u32,
}

/// A whole request, as it came from the connection.
#[derive(Debug)]
pub struct Request {
    /// The receiver it came to, by its number in the configuration.
    pub receiver: u32,
    /// The body as received.
    pub body: Bytes,
    /// Of what.
    pub signal: Signal,
    /// How it is written.
    pub encoding: BodyEncoding,
    /// The sender's number for who waits.
    pub ticket: u32,
    /// Who sent it, as far as somebody asks: a copy, because nothing else may leave its shard.
    pub client: Option<Box<Client>>,
    /// How long its sender waits for the answer; `None`: no limit.
    pub wait_max: Option<std::time::Duration>,
}

/// Data points of one batch on their way to the shard that owns their series.
#[derive(Debug, Default)]
pub struct Points {
    /// The pipeline that they are in, by a number that all shards agree on.
    pub pipeline: u32,
    /// Where the metrics lie: in one segment.
    pub index: MetricIndex,
    /// Their bytes.
    pub bytes: Vec<u8>,
    /// How many points they are, by the sender's count.
    pub points: u64,
    /// The sender's number for who waits.
    pub ticket: u32,
    /// Who sent them, as far as somebody asks: a copy, because nothing else may leave its shard.
    pub client: Option<Box<Client>>,
}

impl Points {
    /// Memory of the message in bytes.
    pub(super) fn own_bytes(&self) -> usize {
        size_of::<Points>() + self.index.memory_bytes() + self.bytes.capacity()
    }
}

/// A flush of the series of one connector.
#[derive(Debug)]
pub struct Flush {
    /// Its number in the configuration.
    pub connector: u32,
    /// What every shard is asked.
    pub ask: Ask,
    /// The answer, on the way home.
    pub answer: Option<Snapshot>,
}

/// Spans to be routed: an index and the segments it speaks of.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Where the spans lie.
    pub index: &'a SpanIndex,
    /// Their bytes.
    pub segments: &'a [Bytes],
}

/// Where the last span's scope and resource of a source went in the open parcel, so that its neighbours share
/// them. Spans of a request lie together by scope, so remembering one is enough.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Carried {
    scope: Option<Moved>,
    resource: Option<Moved>,
    part: bool,
}

/// A number in the source and the number it became.
#[derive(Clone, Copy, Debug)]
struct Moved {
    from: u32,
    to: u32,
}

impl Moved {
    /// The number that `from` became, moving it by `carry` if it is not the one that was moved last.
    fn once(last: &mut Option<Moved>, from: u32, carry: impl FnOnce() -> u32) -> u32 {
        match last {
            Some(moved) if moved.from == from => moved.to,
            _ => last.insert(Moved { from, to: carry() }).to,
        }
    }
}

impl Parcel {
    /// Number of spans.
    pub fn spans(&self) -> usize {
        self.index.items.len()
    }

    /// Whether another span fits.
    pub fn has_room(&self) -> bool {
        self.index.items.len() < SPANS_MAX && self.bytes.len() < BYTES_MAX && self.index.envelopes.len() < BYTES_MAX
    }

    /// Memory of the parcel in bytes, as long as it is being filled.
    pub(super) fn own_bytes(&self) -> usize {
        let index = &self.index;
        size_of::<Parcel>()
            + index.envelopes.capacity()
            + index.resources.capacity() * size_of::<ByteRange>()
            + index.scopes.capacity() * size_of::<ScopeEntry>()
            + index.items.capacity() * size_of::<SpanItem>()
            + self.segments.capacity() * size_of::<Bytes>()
            + self.bytes.capacity()
            + self.parts.capacity() * size_of::<Part>()
    }

    /// Turns the bytes into the segment that the owner reads. Nothing is appended from here on.
    pub(super) fn seal(&mut self) {
        self.charged_bytes = self.own_bytes();
        self.segments.push(Bytes::from(std::mem::take(&mut self.bytes)));
    }

    /// Lets go of all spans and keeps the memory: that of the bytes too, unless somebody still holds a view of them.
    pub(super) fn clear(&mut self) {
        if let Some(Ok(mut bytes)) = self.segments.pop().map(Bytes::try_into_mut) {
            bytes.clear(); // Else the conversion moves them, to where they are.
            self.bytes = Vec::from(bytes);
        }
        self.index.envelopes.clear();
        self.index.resources.clear();
        self.index.scopes.clear();
        self.index.items.clear();
        self.segments.clear();
        self.bytes.clear();
        self.parts.clear();
    }

    /// Appends one span of a source. `carried` belongs to this source and this parcel and begins empty.
    #[inline]
    pub(super) fn append(&mut self, carried: &mut Carried, source: Source<'_>, span: &SpanItem, ticket: u32) {
        let Parcel { index, bytes, parts, .. } = self;
        let scope = Moved::once(&mut carried.scope, span.scope, || {
            let entry = source.index.scopes[span.scope as usize];
            let resource = Moved::once(&mut carried.resource, entry.resource, || {
                let envelope = source.index.resources[entry.resource as usize];
                let envelope = copy_envelope(index, source, envelope);
                index.resources.push(envelope);
                last(index.resources.len())
            });
            let envelope = copy_envelope(index, source, entry.envelope);
            index.scopes.push(ScopeEntry { resource, envelope });
            last(index.scopes.len())
        });
        let offset = position(bytes.len());
        let whole = &source.segments[usize::from(span.segment)];
        bytes.extend_from_slice(&whole[span.offset as usize..][..span.length as usize]);
        index.items.push(SpanItem { scope, offset, segment: 0, ..*span });
        if !std::mem::replace(&mut carried.part, true) {
            parts.push(Part { ticket, spans: 0 });
        }
        if let Some(part) = parts.last_mut() {
            part.spans += 1;
        }
    }
}

/// Number of the entry just added.
fn last(count: usize) -> u32 {
    u32::try_from(count - 1).expect("a parcel is full long before, and each span adds one entry at most")
}

fn copy_envelope(index: &mut SpanIndex, source: Source<'_>, range: ByteRange) -> ByteRange {
    let bytes = &source.index.envelopes[range.start as usize..range.end as usize];
    let start = index.envelopes.len();
    index.envelopes.extend_from_slice(bytes);
    ByteRange { start: position(start), end: position(index.envelopes.len()) }
}

fn position(place: usize) -> u32 {
    u32::try_from(place).expect("a parcel takes nothing beyond 256 KiB, and a request is far below 4 GiB")
}

const _: () = assert!(size_of::<Message>() == 16, "a message in a ring is a tag and a pointer");
