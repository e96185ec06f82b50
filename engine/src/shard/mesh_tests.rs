//! The mesh as a whole: every parcel arrives at its owner and is answered exactly once, whatever is full.
//!
//! Most tests step several shards on one thread, so that a mesh that hangs is found by counting steps, not by waiting.
//! One runs on threads with sleeping shards: there, a lost wake-up would hang.

use std::future::poll_fn;
use std::thread;

use crate::transport::BodyEncoding;
use bytes::Bytes;
use codecs::compression::Compression;
use codecs::otlp::{ByteRange, ScopeEntry, SpanIndex, SpanItem, TraceId};

use super::buffers::Buffers;
use super::mesh::*;
use super::owner::owner;
use super::parcel::*;

/// Rings of the smallest size: they are full most of the time.
const TINY: usize = 0;

fn trace_id(random: &mut fastrand::Rng) -> TraceId {
    TraceId(random.u128(1..).to_le_bytes())
}

/// A batch of `spans` spans whose bytes are their own trace ids, in scopes of three and resources of two scopes.
fn batch(random: &mut fastrand::Rng, spans: usize) -> (SpanIndex, Vec<u8>) {
    let mut index = SpanIndex::default();
    let mut bytes = Vec::new();
    for number in 0..spans {
        if number % 6 == 0 {
            index.resources.push(envelope(&mut index.envelopes, b'r', number));
        }
        if number % 3 == 0 {
            let envelope = envelope(&mut index.envelopes, b's', number);
            index.scopes.push(ScopeEntry { resource: (index.resources.len() - 1) as u32, envelope });
        }
        let trace_id = trace_id(random);
        index.items.push(SpanItem {
            trace_id,
            offset: bytes.len() as u32,
            length: 16,
            scope: (index.scopes.len() - 1) as u32,
            start_ns: number as u64,
            ..SpanItem::default()
        });
        bytes.extend_from_slice(&trace_id.0);
    }
    (index, bytes)
}

fn envelope(envelopes: &mut Vec<u8>, letter: u8, number: usize) -> ByteRange {
    let start = envelopes.len() as u32;
    envelopes.push(letter);
    envelopes.extend_from_slice(number.to_string().as_bytes());
    ByteRange { start, end: envelopes.len() as u32 }
}

/// A shard of the test: it routes batches, takes parcels, answers them, and counts.
struct Shard {
    end: MeshEnd,
    buffers: Buffers,
    random: fastrand::Rng,
    batches_left: u32,
    next_ticket: u32,
    /// Spans of each ticket that are not answered.
    waiting: Vec<usize>,
    inbound: Vec<Inbound>,
    mine: Vec<u32>,
    counts: Counts,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    kept: usize,
    sent: usize,
    taken: usize,
    answered: usize,
}

impl Shard {
    fn new(end: MeshEnd, batches: u32) -> Shard {
        Shard {
            random: fastrand::Rng::with_seed(end.shard() as u64),
            end,
            buffers: Buffers::new(1 << 20),
            batches_left: batches,
            next_ticket: 0,
            waiting: Vec::new(),
            inbound: Vec::new(),
            mine: Vec::new(),
            counts: Counts::default(),
        }
    }

    fn drain(&mut self) {
        let mut inbound = std::mem::take(&mut self.inbound);
        self.end.drain(&mut inbound);
        for inbound in inbound.drain(..) {
            match inbound {
                Inbound::Asked { from, message } => {
                    if let Message::Parcel(parcel) = &message {
                        self.take(from, parcel);
                    }
                    self.end.answer(from, Outcome::Taken, message);
                }
                Inbound::Answered { outcome, message, .. } => {
                    assert_eq!(outcome, Outcome::Taken);
                    if let Message::Parcel(parcel) = &message {
                        for part in &parcel.parts {
                            self.waiting[part.ticket as usize] -= part.spans as usize;
                            self.counts.answered += part.spans as usize;
                        }
                    }
                    self.end.reuse(message);
                }
            }
        }
        self.inbound = inbound;
    }

    /// Every span of a parcel is whole: its bytes, its scope, its resource, and it belongs here.
    fn take(&mut self, from: usize, parcel: &Parcel) {
        assert_eq!(parcel.node, 7);
        assert_eq!(parcel.parts.iter().map(|part| part.spans as usize).sum::<usize>(), parcel.spans());
        for span in &parcel.index.items {
            assert_eq!(owner(&span.trace_id, self.end.shards()), self.end.shard());
            assert_ne!(from, self.end.shard());
            let bytes = &parcel.segments[usize::from(span.segment)][span.offset as usize..][..span.length as usize];
            assert_eq!(bytes, span.trace_id.0);
            let scope = parcel.index.scopes[span.scope as usize];
            let resource = parcel.index.resources[scope.resource as usize];
            let text = |range: ByteRange| &parcel.index.envelopes[range.start as usize..range.end as usize];
            let number = span.start_ns as usize;
            assert_eq!(text(scope.envelope), format!("s{}", number / 3 * 3).as_bytes());
            assert_eq!(text(resource), format!("r{}", number / 6 * 6).as_bytes());
        }
        self.counts.taken += parcel.spans();
    }

    fn route(&mut self) {
        if self.batches_left == 0 {
            return;
        }
        self.batches_left -= 1;
        let (index, bytes) = batch(&mut self.random, 40);
        let mut buffer = self.buffers.take(bytes.len());
        buffer.extend_from_slice(&bytes);
        let segments = [buffer.freeze()];
        self.mine.clear();
        let source = Source { index: &index, segments: &segments };
        let sent = self.end.route(7, self.next_ticket, source, &mut self.mine);
        assert_eq!(sent + self.mine.len(), 40);
        self.next_ticket += 1;
        self.waiting.push(sent);
        self.counts.kept += self.mine.len();
        self.counts.sent += sent;
    }

    fn turn(&mut self) {
        self.drain();
        self.route();
        self.end.flush();
    }

    fn is_done(&self) -> bool {
        self.batches_left == 0 && self.end.is_idle()
    }

    fn check_at_end(&mut self) {
        assert_eq!(self.counts.sent, self.counts.answered);
        assert!(self.waiting.iter().all(|spans| *spans == 0), "every batch is answered for each of its spans");
        assert_eq!(self.buffers.out_bytes(), 0, "request buffers never leave their shard");
    }
}

/// Steps all shards until they are done; `None` if that takes more than `steps_max` rounds.
fn run(shards: &mut [Shard], turn: fn(&mut Shard), steps_max: usize) -> Option<usize> {
    (0..steps_max).find(|_| {
        shards.iter_mut().for_each(turn);
        shards.iter().all(Shard::is_done)
    })
}

fn shards(count: usize, ring_bytes_total: usize, batches: u32) -> Vec<Shard> {
    mesh(count, ring_bytes_total).into_iter().map(|end| Shard::new(end, batches)).collect()
}

#[test]
fn every_span_reaches_its_owner_whole_and_is_answered_once() {
    for count in [1, 2, 4, 7] {
        for ring_bytes in [TINY, 1 << 20] {
            let mut shards = shards(count, ring_bytes, 50);
            run(&mut shards, Shard::turn, 200).expect("each round moves what it can");
            shards.iter_mut().for_each(Shard::check_at_end);
            let sum = |of: fn(&Counts) -> usize| shards.iter().map(|shard| of(&shard.counts)).sum::<usize>();
            assert_eq!(sum(|counts| counts.sent), sum(|counts| counts.taken));
            assert_eq!(sum(|counts| counts.kept + counts.taken), count * 50 * 40);
        }
    }
}

/// Fills the rings of both directions, and the outboxes behind them, before anybody drains.
fn facing_full_rings() -> Vec<Shard> {
    let mut shards = shards(2, TINY, 50);
    for shard in &mut shards {
        for _ in 0..20 {
            shard.route();
            shard.end.flush();
        }
        assert!(shard.end.spans_waiting() > 0, "the ring is full and parcels wait behind it");
    }
    shards
}

#[test]
fn two_shards_with_full_rings_facing_each_other_make_progress() {
    let mut shards = facing_full_rings();
    run(&mut shards, Shard::turn, 100).expect("draining never waits");
    shards.iter_mut().for_each(Shard::check_at_end);
}

/// Shows that the test above can fail: this is the mistake that it is there to find.
#[test]
fn a_shard_that_drains_only_once_it_has_sent_hangs() {
    let mut shards = facing_full_rings();
    let waits_while_full = |shard: &mut Shard| {
        shard.end.flush();
        if shard.end.spans_waiting() == 0 {
            shard.turn();
        }
    };
    assert_eq!(run(&mut shards, waits_while_full, 10_000), None);
}

#[test]
fn an_owner_that_never_answers_stops_its_own_senders_and_nobody_else() {
    let mut shards = shards(3, TINY, 50);
    for _ in 0..200 {
        shards[0].turn();
        shards[1].turn();
        let mut held = Vec::new();
        shards[2].end.drain(&mut held); // It takes all and answers nothing.
        shards[2].inbound.extend(held);
    }
    for shard in &shards[..2] {
        assert!(shard.end.spans_waiting() > 0);
        assert!(shard.counts.answered > 0, "shards 0 and 1 still serve each other");
        assert!(shard.end.held_bytes() > 0);
    }
    let held = std::mem::take(&mut shards[2].inbound);
    assert!(held.len() <= 2 * 4, "the windows bound what a peer holds: {}", held.len());
    for inbound in held {
        let Inbound::Asked { from, message } = inbound else { continue };
        shards[2].end.answer(from, Outcome::Taken, message);
    }
    run(&mut shards, Shard::turn, 200).expect("once it answers, all goes on");
}

#[test]
fn parcels_of_a_turn_are_coalesced_by_owner_and_node() {
    let mut ends = mesh(2, 1 << 20);
    let mut random = fastrand::Rng::with_seed(3);
    let mut sent = 0;
    for (node, ticket) in [(1, 10), (1, 11), (2, 12)] {
        let (index, bytes) = batch(&mut random, 20);
        let segments = [Bytes::from(bytes)];
        sent += ends[0].route(node, ticket, Source { index: &index, segments: &segments }, &mut Vec::new());
    }
    ends[0].flush();
    let mut inbound = Vec::new();
    ends[1].drain(&mut inbound);
    let parcels: Vec<&Parcel> = inbound.iter().map(parcel_of).collect();
    let tickets = |parcel: &Parcel| parcel.parts.iter().map(|part| part.ticket).collect::<Vec<_>>();
    assert_eq!(parcels.iter().map(|parcel| parcel.node).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(parcels.iter().map(|parcel| tickets(parcel)).collect::<Vec<_>>(), [vec![10, 11], vec![12]]);
    assert_eq!(parcels.iter().map(|parcel| parcel.spans()).sum::<usize>(), sent);
}

fn parcel_of(inbound: &Inbound) -> &Parcel {
    match inbound {
        Inbound::Asked { message: Message::Parcel(parcel), .. } => parcel,
        other => panic!("not a parcel: {other:?}"),
    }
}

#[test]
fn a_batch_larger_than_a_parcel_is_answered_for_all_its_spans() {
    let mut shards = shards(2, TINY, 0);
    let (index, bytes) = batch(&mut fastrand::Rng::with_seed(1), 3 * SPANS_MAX);
    let segments = [Bytes::from(bytes)];
    let sent = shards[0].end.route(7, 0, Source { index: &index, segments: &segments }, &mut Vec::new());
    assert!(sent > SPANS_MAX);
    shards[0].waiting.push(sent);
    run(&mut shards, Shard::turn, 20).unwrap();
    assert_eq!((shards[0].waiting[0], shards[0].counts.answered, shards[1].counts.taken), (0, sent, sent));
}

#[test]
fn spans_without_a_trace_id_stay_where_they_arrived() {
    for end in &mut mesh(4, TINY) {
        let mut index = batch(&mut fastrand::Rng::with_seed(1), 3).0;
        index.items.iter_mut().for_each(|span| span.trace_id = TraceId::default());
        let mut mine = Vec::new();
        let source = Source { index: &index, segments: &[Bytes::new()] };
        assert_eq!(end.route(0, 0, source, &mut mine), 0);
        assert_eq!(mine, [0, 1, 2]);
    }
}

#[test]
fn memory_of_parcels_is_reused_and_counted_to_the_byte() {
    let mut shards = shards(2, 1 << 20, 30);
    run(&mut shards, Shard::turn, 100).unwrap();
    let idle_bytes = shards[0].end.held_bytes();
    assert!(idle_bytes > 0, "shells wait for reuse");
    for _ in 0..100 {
        shards.iter_mut().for_each(|shard| shard.batches_left = 1);
        run(&mut shards, Shard::turn, 10).unwrap();
    }
    assert_eq!(shards[0].end.held_bytes(), idle_bytes, "no parcel was allocated after warm-up");
}

#[test]
fn memory_of_a_burst_is_freed_within_a_minute() {
    const SECOND_NS: u64 = 1_000_000_000;
    let mut shards = shards(2, 1 << 20, 0);
    let burst = |shards: &mut Vec<Shard>, batches: usize| {
        for shard in shards.iter_mut() {
            shard.batches_left = batches as u32;
            (0..batches).for_each(|_| {
                shard.route();
                shard.end.flush();
            });
        }
        run(shards, Shard::turn, 1000).unwrap();
    };
    burst(&mut shards, 60);
    let after_burst = shards[0].end.held_bytes();
    for second in 0..=60 {
        burst(&mut shards, 1);
        shards[0].end.shrink(second * SECOND_NS);
    }
    assert!(shards[0].end.held_bytes() * 10 < after_burst);
}

#[test]
fn a_view_that_outlives_its_parcel_stays_readable() {
    let mut shards = shards(2, TINY, 1);
    shards[0].turn();
    let mut inbound = Vec::new();
    shards[1].end.drain(&mut inbound);
    let view = parcel_of(&inbound[0]).segments[0].clone();
    let before = view.to_vec();
    let Some(Inbound::Asked { from, message }) = inbound.pop() else { panic!("the parcel arrives") };
    shards[1].end.answer(from, Outcome::Taken, message);
    shards[0].batches_left = 5;
    run(&mut shards, Shard::turn, 20).unwrap();
    assert_eq!(view, before);
}

fn request(ticket: u32) -> Box<Request> {
    Box::new(Request {
        receiver: 0,
        signal: codecs::otlp::Signal::Logs,
        body: Bytes::from_static(b"body"),
        encoding: BodyEncoding { compression: Compression::Gzip, format: codecs::otlp::Format::Json },
        ticket,
        client: None,
        wait_max: None,
    })
}

#[test]
fn a_whole_request_goes_to_the_less_busy_peer_and_its_answer_comes_back() {
    const MS: u64 = 1_000_000;
    let mut ends = mesh(3, 1 << 20);
    for (shard, busy) in [(0, 95), (1, 60), (2, 20)] {
        ends[shard].loads().publish(busy * MS, 1);
    }
    ends[0].loads().look(100 * MS);
    assert_eq!(ends[0].relief(), Some(2));
    ends[0].try_send_request(2, request(5)).unwrap();
    ends[0].flush();
    let mut inbound = Vec::new();
    ends[2].drain(&mut inbound);
    let Some(Inbound::Asked { from: 0, message }) = inbound.pop() else { panic!("the request arrives") };
    let failure = Failure { code: 14, message: "full".to_owned(), retry_after_ns: Some(1) };
    ends[2].answer(0, Outcome::Failed(Box::new(failure.clone())), message);
    ends[2].flush();
    ends[0].drain(&mut inbound);
    let Some(Inbound::Answered { from: 2, outcome, message: Message::Request(request) }) = inbound.pop() else {
        panic!("the answer arrives")
    };
    assert_eq!((outcome, request.ticket), (Outcome::Failed(Box::new(failure)), 5));
    assert!(ends.iter().all(MeshEnd::is_idle));
}

#[test]
fn requests_that_wait_for_their_answer_do_not_hold_up_parcels() {
    let mut shards = shards(2, TINY, 20);
    let mut handed = 0;
    while shards[0].end.try_send_request(1, request(0)).is_ok() {
        handed += 1;
        shards[0].end.flush();
        let mut held = Vec::new();
        shards[1].end.drain(&mut held);
        shards[1].inbound.clear();
        assert!(handed <= 4, "the window is closed after four");
        std::mem::forget(held); // Their answers are never given.
    }
    assert_eq!(handed, 4);
    for _ in 0..100 {
        shards.iter_mut().for_each(Shard::turn);
    }
    for shard in &mut shards {
        assert_eq!((shard.batches_left, shard.end.spans_waiting()), (0, 0));
        shard.check_at_end();
    }
}

/// How many spans of others each shard has to take: the batches are a function of the shard's number.
fn spans_to_take(shards: usize, batches: u32) -> Vec<usize> {
    let mut to_take = vec![0; shards];
    for shard in 0..shards {
        let mut random = fastrand::Rng::with_seed(shard as u64);
        for _ in 0..batches {
            for span in batch(&mut random, 40).0.items {
                let to = owner(&span.trace_id, shards);
                to_take[to] += usize::from(to != shard);
            }
        }
    }
    to_take
}

/// Sleeps whenever there is nothing to do, as the shard's mesh task does.
fn serve(end: MeshEnd, batches: u32, to_take: usize) {
    let mut shard = Shard::new(end, batches);
    loop {
        shard.turn();
        if shard.batches_left > 0 {
            continue;
        }
        if shard.end.is_idle() && shard.counts.taken == to_take {
            return shard.check_at_end();
        }
        futures_lite::future::block_on(poll_fn(|context| shard.end.poll_inbound(context)));
    }
}

#[test]
fn shards_on_threads_that_sleep_lose_no_wake_up_and_no_span() {
    for count in [2, 4] {
        let to_take = spans_to_take(count, 500);
        thread::scope(|scope| {
            for (end, to_take) in mesh(count, TINY).into_iter().zip(to_take) {
                scope.spawn(move || serve(end, 500, to_take));
            }
        });
    }
}
