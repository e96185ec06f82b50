//! What a shard is: one thread and all it owns. Everything that may wait, waits through this room.
//!
//! ```text
//! placement   which cores, and so how many shards        runtime   io_uring or epoll behind one seam
//! inbox       what the control thread may ask            clock     the one place that reads it
//! mesh, ring  spans for their owners, answers back       owner     trace id -> shard
//! budget      memory leased from the process             buffers   request bytes, reused
//! run         the loop: sockets, mesh, turns, inbox      balance   whole requests to a less busy shard
//! allocator   small pages, and freed memory goes back to the system
//! reconfigure other settings for nodes that run
//! ```

pub mod allocator;
pub mod assemble;
pub mod balance;
pub mod budget;
pub mod buffers;
pub mod clock;
pub mod fleet;
pub mod hyper_io;
pub mod inbox;
pub mod load;
pub mod mesh;
#[cfg(test)]
mod mesh_tests;
pub mod owner;
pub mod parcel;
pub mod pipelines;
pub mod placement;
pub mod reconfigure;
pub mod ring;
#[cfg(test)]
mod ring_model;
pub mod run;
pub mod runtime;
mod sync;

use crate::exporter::{EncodedRequest, Encoding};
use crate::pipeline::batch::Batch;
use crate::telemetry::cells::Cells;
use crate::transport::Draining;
use budget::Lease;
use buffers::Buffers;
use clock::Clock;
use codecs::compression::{Compression, Compressor};
use codecs::grpc;
use codecs::otlp::{Encoder, Format, Signal, SignalIndex, SpanIndex};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use tokio::sync::Notify;

/// What every room of one shard shares. Cloning it shares it; it never leaves its thread.
#[derive(Clone, Debug)]
pub struct ShardContext {
    /// This shard's number.
    pub number: usize,
    /// How many there are.
    pub shards: usize,
    /// Monotonic time.
    pub clock: Clock,
    /// Counters and gauges.
    pub cells: Cells,
    /// Request buffers.
    pub buffers: Buffers,
    /// This shard's lease of the process budget.
    pub lease: Rc<Lease>,
    /// Somebody made room: an export ended. The next turn comes at once.
    pub room: Rc<Notify>,
    /// Whether turns come often or seldom.
    pub pace: Pace,
    /// A drain has begun.
    pub draining: Draining,
    /// A drain ran out of time: nothing waits any more.
    pub giving_up: Draining,
    /// Memory of indexes.
    pub indexes: Indexes,
    /// What requests are encoded with.
    writers: Rc<RefCell<Writers>>,
}

/// Reused between requests.
#[derive(Debug, Default)]
struct Writers {
    encoder: Encoder,
    compressor: Compressor,
    plain: Vec<u8>,
    json: Vec<u8>,
}

/// How soon the next turn comes: soon while there is work, seldom while there is none. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Pace(Rc<PaceState>);

#[derive(Debug, Default)]
struct PaceState {
    worked: Cell<bool>,
    resting: Cell<bool>,
}

impl Pace {
    /// A batch has come. Returns whether the shard rests, and so has to be woken.
    pub fn work(&self) -> bool {
        self.0.worked.set(true);
        self.0.resting.replace(false)
    }

    /// Whether the next turn may be far away: no node holds a span, and none has come since the last turn.
    fn may_rest(&self, nodes_are_empty: bool) -> bool {
        let rest = !self.0.worked.replace(false) && nodes_are_empty;
        self.0.resting.set(rest);
        rest
    }
}

/// Indexes whose memory is used again. Cloning shares them within the shard.
#[derive(Clone, Debug, Default)]
pub struct Indexes(Rc<RefCell<[Vec<SignalIndex>; Signal::ALL.len()]>>);

/// Indexes of one signal kept for reuse; more are freed. A shard has few batches in hand at the same time.
const INDEXES_MAX: usize = 64;

impl Indexes {
    /// An empty index of this signal with the memory of an earlier one.
    pub fn take(&self, signal: Signal) -> SignalIndex {
        self.0.borrow_mut()[signal as usize].pop().unwrap_or_else(|| SignalIndex::new(signal))
    }

    /// The same for spans.
    pub fn take_spans(&self) -> SpanIndex {
        match self.take(Signal::Traces) {
            SignalIndex::Spans(index) => index,
            _ => unreachable!("an index is kept with those of its signal"),
        }
    }

    /// Keeps an index's memory for the next batch.
    pub fn give_back(&self, mut index: SignalIndex) {
        let kept = &mut self.0.borrow_mut()[index.signal() as usize];
        if kept.len() < INDEXES_MAX {
            index.clear();
            kept.push(index);
        }
    }
}

impl ShardContext {
    /// A shard's own, with nothing in it.
    pub fn new(
        number: usize,
        shards: usize,
        clock: Clock,
        cells: Cells,
        buffers: Buffers,
        lease: Lease,
    ) -> ShardContext {
        ShardContext {
            number,
            shards,
            clock,
            cells,
            buffers,
            lease: Rc::new(lease),
            room: Rc::default(),
            pace: Pace::default(),
            draining: Draining::default(),
            giving_up: Draining::default(),
            indexes: Indexes::default(),
            writers: Rc::default(),
        }
    }

    /// The whole batch as one request, framed for gRPC; HTTP leaves the prefix away.
    pub fn encode(&self, batch: &Batch, encoding: Encoding) -> EncodedRequest {
        let Encoding { format, compression, level } = encoding;
        let mut writers = self.writers.borrow_mut();
        let Writers { encoder, compressor, plain, json } = &mut *writers;
        plain.clear();
        batch.index.encode(encoder, &batch.segments, plain);
        let plain = match format {
            Format::Protobuf => &*plain,
            Format::Json => {
                json.clear();
                let signal = batch.index.signal();
                codecs::json::write_request(signal, plain, json)
                    .expect("every field of a batch was checked when it came");
                &*json
            }
        };
        let mut body = self.buffers.take(grpc::PREFIX_BYTES + plain.len());
        body.extend_from_slice(&[0; grpc::PREFIX_BYTES]);
        match compression {
            Compression::None => body.extend_from_slice(plain),
            _ => compressor.compress(compression, level, plain, &mut body),
        }
        let length = body.len() - grpc::PREFIX_BYTES;
        body[..grpc::PREFIX_BYTES].copy_from_slice(&grpc::prefix(compression != Compression::None, length));
        EncodedRequest { body: body.freeze(), compression, items: batch.items(), client: batch.client.clone() }
    }
}
