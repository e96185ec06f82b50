//! What a span costs that crosses shards: CPU time of both shards, against the same work on one shard.
//!
//! Each shard makes batches of 128 spans (bytes written to a pooled buffer, as decompression does), routes them, and
//! copies the bytes of every span it owns to a chunk, as the trace table does. Alone, a shard owns all spans; of two,
//! each owns half, so half of the spans cross, in parcels of about 64. The difference in CPU time, divided by the spans
//! that crossed, is the price: index entries copied, rings, answers, and bytes fetched from another core's cache.
//!
//! Run: `cargo bench -p tracegate --bench mesh`. Needs two cores; the best of several rounds counts, because whatever
//! else runs on the machine only adds.

use std::future::poll_fn;
use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use codecs::otlp::{ByteRange, ScopeEntry, SpanIndex, SpanItem, TraceId};
use engine::shard::buffers::Buffers;
use engine::shard::mesh::{Inbound, MeshEnd, mesh};
use engine::shard::parcel::{Message, Outcome, Source};
use rustix::time::{ClockId, clock_gettime};

const SPANS_PER_BATCH: usize = 128;
const SPANS_PER_RESOURCE: usize = 32;
const ENVELOPE_BYTES: u32 = 200;
const TURNS_PER_LOOK: usize = 64;
const WARM_UP: Duration = Duration::from_millis(10);
const ROUND: Duration = Duration::from_millis(40);
const ROUNDS: usize = 15;
const CHUNK_BYTES: usize = 1 << 20;

fn main() {
    let mut prices = Vec::new();
    println!("span bytes   one shard   two shards   a span that crosses      (ns of CPU per span)");
    for span_bytes in [64, 370, 1480] {
        let alone = best(|| run(1, span_bytes));
        let together = best(|| run(2, span_bytes));
        let price = (together.ns_per_span() - alone.ns_per_span()) / together.crossing_share();
        println!(
            "{span_bytes:10}   {:9.1}   {:10.1}   {price:19.1}      {:.0} spans a parcel, {:.2} of spans cross",
            alone.ns_per_span(),
            together.ns_per_span(),
            together.crossed as f64 / together.parcels as f64,
            together.crossing_share(),
        );
        prices.push((span_bytes as f64, price));
    }
    let (first, last) = (prices[0], prices[prices.len() - 1]);
    let per_byte = (last.1 - first.1) / (last.0 - first.0);
    println!("price of crossing: {:.1} ns + {per_byte:.3} ns/B", first.1 - per_byte * first.0);
    println!("promise:           40.0 ns + 0.150 ns/B");
}

/// What a round measured, both shards together.
#[derive(Clone, Copy, Default)]
struct Measured {
    cpu_ns: u64,
    spans: u64,
    crossed: u64,
    parcels: u64,
}

impl Measured {
    fn ns_per_span(self) -> f64 {
        self.cpu_ns as f64 / self.spans as f64
    }

    fn crossing_share(self) -> f64 {
        self.crossed as f64 / self.spans as f64
    }

    fn add(self, other: Measured) -> Measured {
        Measured {
            cpu_ns: self.cpu_ns + other.cpu_ns,
            spans: self.spans + other.spans,
            crossed: self.crossed + other.crossed,
            parcels: self.parcels + other.parcels,
        }
    }
}

/// The cheapest round of those in which both shards ran at about the same pace.
fn best(round: impl Fn() -> Measured) -> Measured {
    let rounds: Vec<Measured> = (0..ROUNDS).map(|_| round()).collect();
    let even = |measured: &&Measured| measured.crossed == 0 || (0.47..0.53).contains(&measured.crossing_share());
    let cheapest = |one: &&Measured, two: &&Measured| one.ns_per_span().total_cmp(&two.ns_per_span());
    *rounds.iter().filter(even).min_by(cheapest).expect("the machine is too busy to measure on")
}

fn run(shards: usize, span_bytes: usize) -> Measured {
    let together = Together { start: Barrier::new(shards), settled: AtomicUsize::new(0) };
    std::thread::scope(|scope| {
        let serve = |(core, end)| {
            let together = &together;
            scope.spawn(move || {
                core_affinity::set_for_current(core_affinity::CoreId { id: core });
                Shard::new(end, span_bytes).run(together)
            })
        };
        let threads: Vec<_> = mesh(shards, 1 << 20).into_iter().enumerate().map(serve).collect();
        threads.into_iter().map(|thread| thread.join().expect("a shard ends")).fold(Measured::default(), Measured::add)
    })
}

/// How the shards begin and end together.
struct Together {
    start: Barrier,
    settled: AtomicUsize,
}

struct Shard {
    end: MeshEnd,
    buffers: Buffers,
    template: Vec<u8>,
    index: SpanIndex,
    chunk: Vec<u8>,
    inbound: Vec<Inbound>,
    mine: Vec<u32>,
    random: fastrand::Rng,
    measured: Measured,
}

impl Shard {
    fn new(end: MeshEnd, span_bytes: usize) -> Shard {
        Shard {
            random: fastrand::Rng::with_seed(end.shard() as u64),
            end,
            buffers: Buffers::new(64 << 20),
            template: (0..SPANS_PER_BATCH * span_bytes).map(|place| place as u8).collect(),
            index: index(span_bytes),
            chunk: Vec::with_capacity(CHUNK_BYTES),
            inbound: Vec::new(),
            mine: Vec::new(),
            measured: Measured::default(),
        }
    }

    fn run(mut self, together: &Together) -> Measured {
        self.run_for(WARM_UP, together);
        self.measured = Measured::default();
        self.run_for(ROUND, together);
        self.measured
    }

    /// Both shards run for the same time, so what is still under way at the end is a few parcels of millions of spans.
    fn run_for(&mut self, time: Duration, together: &Together) {
        together.start.wait();
        let (before, deadline) = (cpu_ns(), Instant::now() + time);
        while Instant::now() < deadline {
            (0..TURNS_PER_LOOK).for_each(|_| self.turn());
        }
        self.measured.cpu_ns = cpu_ns() - before;
        let measured = self.measured;
        self.settle(together);
        self.measured = measured;
    }

    /// Serves the peer until nobody waits for an answer.
    fn settle(&mut self, together: &Together) {
        let mut counted = false;
        loop {
            self.drain();
            self.end.flush();
            if self.end.is_idle() && !std::mem::replace(&mut counted, true) {
                together.settled.fetch_add(1, Ordering::SeqCst);
            }
            if counted && together.settled.load(Ordering::SeqCst).is_multiple_of(self.end.shards()) {
                break;
            }
            std::thread::yield_now();
        }
        together.start.wait();
    }

    fn turn(&mut self) {
        self.drain();
        while self.end.spans_waiting() > 0 {
            futures_lite::future::block_on(poll_fn(|context| self.end.poll_inbound(context)));
            self.drain();
        }
        self.route();
        self.end.flush();
    }

    fn drain(&mut self) {
        self.end.drain(&mut self.inbound);
        for inbound in self.inbound.drain(..) {
            match inbound {
                Inbound::Asked { from, message } => {
                    if let Message::Parcel(parcel) = &message {
                        for span in &parcel.index.items {
                            keep(&mut self.chunk, &parcel.segments[usize::from(span.segment)], span);
                        }
                        self.measured.crossed += parcel.spans() as u64;
                        self.measured.parcels += 1;
                    }
                    self.end.answer(from, Outcome::Taken, message);
                }
                Inbound::Answered { message, .. } => self.end.reuse(message),
            }
        }
    }

    fn route(&mut self) {
        let mut body = self.buffers.take(self.template.len());
        body.extend_from_slice(&self.template);
        for span in &mut self.index.items {
            span.trace_id = TraceId(self.random.u128(..).to_le_bytes());
        }
        let segments = [body.freeze()];
        self.mine.clear();
        let source = Source { index: &self.index, segments: &segments };
        black_box(self.end.route(0, 0, source, &mut self.mine));
        for &number in &self.mine {
            keep(&mut self.chunk, &segments[0], &self.index.items[number as usize]);
        }
        self.measured.spans += SPANS_PER_BATCH as u64;
    }
}

/// What the trace table does with a span's bytes.
fn keep(chunk: &mut Vec<u8>, segment: &[u8], span: &SpanItem) {
    if chunk.len() + span.length as usize > CHUNK_BYTES {
        chunk.clear();
    }
    chunk.extend_from_slice(&segment[span.offset as usize..][..span.length as usize]);
}

fn index(span_bytes: usize) -> SpanIndex {
    let mut index = SpanIndex::default();
    for number in 0..SPANS_PER_BATCH {
        if number % SPANS_PER_RESOURCE == 0 {
            let start = index.envelopes.len() as u32;
            index.envelopes.resize(index.envelopes.len() + ENVELOPE_BYTES as usize, 1);
            index.resources.push(ByteRange { start, end: start + ENVELOPE_BYTES });
            let empty = ByteRange { start: start + ENVELOPE_BYTES, end: start + ENVELOPE_BYTES };
            index.scopes.push(ScopeEntry { resource: (index.resources.len() - 1) as u32, envelope: empty });
        }
        index.items.push(SpanItem {
            offset: (number * span_bytes) as u32,
            length: span_bytes as u32,
            scope: (index.scopes.len() - 1) as u32,
            ..SpanItem::default()
        });
    }
    index
}

fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
