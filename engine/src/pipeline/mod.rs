//! Pipelines on one shard: the ordered nodes of one signal, and where their batches leave.
//!
//! ```text
//! receiver --consume--> node 0 -> node 1 -> ... -> branches (one queue per exporter)
//!                          ^                    \-> outlets (a connector: other pipelines of this shard)
//!                          turn: what has become due continues behind the node that held it
//! ```
//!
//! Only this room knows neighbours. It answers one question for everybody: is there room behind this node? A node's held
//! spans leave only when there is, so a full queue stops its input step by step until the edge refuses.

pub mod ack;
mod affinity;
pub mod batch;
pub mod client;
mod crossing;
pub mod cut;
pub mod rewrite;

pub use affinity::Affinity;
pub use crossing::Crossing;

use crate::connector::span_metrics::SpanMetrics;
use crate::processor::explanation::Explanation;
use crate::processor::{Processor, Turn};
use crate::queue::{Branch, ExportRequest};
use crate::shard::parcel::{Parcel, Points};
use crate::telemetry::metrics::{BookSeries, ProcessorSeries};
use batch::Batch;
use bytes::Bytes;
use client::Client;
use codecs::grpc::Status;
use codecs::otlp::{Signal, SignalIndex, SpanIndex};
use std::cell::RefCell;
use std::rc::Rc;

/// Batches that one node may let go in one turn of the shard, so that connections get their turn too; more if more came
/// in meanwhile, see [`Processor::releases_owed`].
const RELEASES_PER_TURN: usize = 4;

/// One pipeline on one shard.
#[derive(Debug)]
pub struct Pipeline {
    signal: Signal,
    nodes: Vec<Processor>,
    /// What goes into each node, and what comes out.
    items: Vec<ProcessorSeries>,
    branches: Vec<Rc<Branch>>,
    /// Connectors that take what leaves.
    outlets: Vec<Outlet>,
    /// Set where spans may belong to another shard.
    crossing: Option<Crossing>,
    /// Set where data points may belong to another shard.
    affinity: Option<Affinity>,
    /// Whether senders wait for what is behind the nodes.
    keeps_acks: bool,
    /// Items dropped by policy that the books already know of.
    dropped_booked: u64,
    /// The same of what nodes made.
    created_booked: u64,
    /// The same of those shed, by node.
    shed_booked: Vec<u64>,
    /// The same of spans that failed in a node.
    failed_booked: u64,
}

/// A connector as one pipeline's exporter. The checked configuration has no circle of connectors, so a pipeline that is
/// borrowed never asks for itself.
#[derive(Debug)]
pub struct Outlet {
    /// The book of the pair of pipeline and connector: delivered is what the connector was given.
    pub book: BookSeries,
    /// Each is given all that leaves; none behind a connector that only counts.
    pub targets: Vec<Rc<RefCell<Pipeline>>>,
    /// Counts all that leaves.
    pub span_metrics: Option<Rc<RefCell<SpanMetrics>>>,
}

/// What nodes let go of though it is not due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// Nothing.
    Nothing,
    /// What senders wait for, whose connections are to end.
    WhatSendersWaitFor,
    /// All that they hold.
    All,
}

impl Outlet {
    fn has_room(&self) -> bool {
        self.targets.iter().all(|target| target.borrow().has_room())
    }
}

impl Pipeline {
    /// A pipeline of one signal: everything that it is given and that leaves it is of it, but what a connector makes.
    /// `crossing` sends the spans of other owners away before the tail_sampling node; one shard needs none.
    pub fn new(
        signal: Signal,
        nodes: Vec<Processor>,
        items: Vec<ProcessorSeries>,
        branches: Vec<Rc<Branch>>,
        crossing: Option<Crossing>,
    ) -> Pipeline {
        let shed_booked = vec![0; nodes.len()];
        Pipeline {
            signal,
            nodes,
            items,
            branches,
            outlets: Vec::new(),
            crossing,
            affinity: None,
            keeps_acks: false,
            dropped_booked: 0,
            created_booked: 0,
            shed_booked,
            failed_booked: 0,
        }
    }

    /// Lets data points go to the owners of their series; for metrics, where there is more than one shard.
    pub fn with_affinity(self, affinity: Option<Affinity>) -> Pipeline {
        Pipeline { affinity, ..self }
    }

    /// Lets senders wait for what is behind its nodes.
    pub fn keeping_acks(self, keeps_acks: bool) -> Pipeline {
        Pipeline { keeps_acks, ..self }
    }

    /// Joins it to the pipelines behind its connectors, before the first batch.
    pub fn connect(&mut self, outlets: Vec<Outlet>) {
        self.outlets = outlets;
    }

    /// Gives a node other settings, between two batches.
    pub fn change_node(&mut self, turn: Turn<'_>, position: usize, change: impl FnOnce(&mut Processor)) {
        // What another node in its place counts begins at 0.
        self.book_dropped(turn);
        change(&mut self.nodes[position]);
        self.dropped_booked = self.nodes.iter().map(Processor::items_dropped).sum();
        self.created_booked = self.nodes.iter().map(Processor::items_created).sum();
        self.failed_booked = self.nodes.iter().map(Processor::spans_failed).sum();
    }

    /// Whether this node can take other rules now: none has more than a few generations of them.
    pub fn may_change(&mut self, position: usize) -> bool {
        match &mut self.nodes[position] {
            Processor::TailSampling(node) => node.may_change_rules(),
            _ => true,
        }
    }

    /// Its ways to exporters.
    pub fn branches(&self) -> &[Rc<Branch>] {
        &self.branches
    }

    /// The book of every way out.
    fn books(&self) -> impl Iterator<Item = &BookSeries> {
        let outlets = self.outlets.iter().map(|outlet| &outlet.book);
        self.branches.iter().map(|branch| &branch.book).chain(outlets)
    }

    /// Whether a request may come in now: who would own it has room for it.
    pub fn has_room(&self) -> bool {
        self.has_room_from(0)
    }

    /// Whether the first node that owns batches would take one of this client. Only the edge refuses, so it asks here.
    pub fn admits(&mut self, now_ns: u64, client: Option<&Client>) -> bool {
        match self.nodes.iter_mut().find(|node| node.owns()) {
            Some(Processor::Batch(node)) => node.admits(now_ns, client),
            Some(_) => true,
            None => {
                let mut targets = self.outlets.iter().flat_map(|outlet| &outlet.targets);
                targets.all(|target| target.borrow_mut().admits(now_ns, client))
            }
        }
    }

    /// Whether what leaves the node before `from` finds room: up to and including the next node that owns batches, and on
    /// the way to other shards.
    fn has_room_from(&self, from: usize) -> bool {
        let crosses = self.affinity.as_ref().filter(|affinity| from <= affinity.node());
        crosses.is_none_or(Affinity::has_room) && self.has_own_room_from(from)
    }

    /// The same without what other shards own.
    fn has_own_room_from(&self, from: usize) -> bool {
        match self.nodes[from..].iter().find(|node| node.owns()) {
            Some(owner) => owner.has_room(),
            None => {
                self.branches.iter().all(|branch| branch.queue.has_room()) && self.outlets.iter().all(Outlet::has_room)
            }
        }
    }

    /// Takes a batch that the edge admitted, or that a connector passes on.
    pub fn consume(&mut self, turn: Turn<'_>, batch: Batch) {
        debug_assert_eq!(batch.index.signal(), self.signal, "receivers and connectors feed pipelines of one signal");
        for book in self.books() {
            turn.cells.add(book.accepted, batch.items());
        }
        self.run(turn, 0, batch);
        self.book_dropped(turn);
    }

    /// Takes spans that another shard sent because their traces live here. Their sender has counted them as accepted. What
    /// the answer waits for, if they have to be on disk first.
    pub fn take_parcel(&mut self, turn: Turn<'_>, parcel: &Parcel) -> Option<ack::Waiting> {
        let position = self.crossing.as_ref().expect("parcels only reach pipelines that cross shards").node();
        let Processor::TailSampling(node) = &mut self.nodes[position] else {
            unreachable!("spans cross before a tail_sampling node only");
        };
        let waits = node.take_parcel(turn, &parcel.index, &parcel.segments);
        turn.cells.add(self.items[position].incoming_items, parcel.spans() as u64);
        self.book_dropped(turn);
        waits
    }

    /// A parcel of this pipeline has been taken by its owner, or it says why its spans are not on disk.
    pub fn parcel_answered(&mut self, parcel: &Parcel, result: &Result<(), Status>) {
        let crossing = self.crossing.as_mut().expect("only a crossing sends parcels");
        for &part in &parcel.parts {
            crossing.answered(part, result);
        }
    }

    /// Takes those spans at the tail_sampling node at this position that an earlier life left undecided on disk, and that are
    /// owned here. Their record has this number there.
    pub fn restore(
        &mut self,
        turn: Turn<'_>,
        position: usize,
        sequence: u64,
        index: &SpanIndex,
        segments: &[Bytes],
        mine: &[u32],
    ) {
        let Processor::TailSampling(node) = &mut self.nodes[position] else {
            unreachable!("only a tail_sampling node leaves undecided spans");
        };
        node.restore(turn, sequence, index, segments, mine);
        for book in self.books() {
            turn.cells.add(book.created, mine.len() as u64);
        }
        self.book_dropped(turn);
    }

    fn affinity(&self) -> &Affinity {
        self.affinity.as_ref().expect("points only reach pipelines in which they cross")
    }

    /// Whether points that another shard sent may come in now.
    pub fn has_room_for_points(&self) -> bool {
        self.has_own_room_from(self.affinity().node())
    }

    /// Takes points that another shard sent because their series are owned here. Their sender has counted them as
    /// accepted; `ack` answers it.
    pub fn take_points(&mut self, turn: Turn<'_>, points: &Points, ack: ack::Ack) {
        let position = self.affinity().node();
        let mut bytes = turn.buffers.take(points.bytes.len());
        bytes.extend_from_slice(&points.bytes);
        let mut index = turn.indexes.take(Signal::Metrics);
        if let SignalIndex::Metrics(index) = &mut index {
            index.append(&points.index, 0);
        }
        let client = points.client.as_deref().cloned().map(Rc::new);
        self.run(turn, position, Batch { index, segments: vec![bytes.freeze()], acks: vec![ack], client });
        self.book_dropped(turn);
    }

    /// Books points that the shard which sent them has counted as accepted and given up before they were taken here.
    pub fn book_given_up(&self, turn: Turn<'_>, points: &Points) {
        for book in self.books() {
            turn.cells.add(book.failed, points.points);
        }
    }

    /// Points of this pipeline have been taken by their owner, or it says why not.
    pub fn points_answered(&mut self, points: &Points, result: Result<(), Status>) {
        self.affinity.as_mut().expect("only a pipeline in which points cross sends them").answered(points, result);
    }

    /// Lets time pass at every node; downstream first, so that upstream finds the room it makes.
    ///
    /// Returns whether more is due right away.
    pub fn turn(&mut self, turn: Turn<'_>, drain: Drain) -> bool {
        if let Some(affinity) = &mut self.affinity {
            affinity.turn(turn.now_ns);
        }
        // Behind a sampler nobody waits for more than its disk.
        let is_sampler = |node: &Processor| matches!(node, Processor::TailSampling(_));
        let answered_at = self.nodes.iter().position(is_sampler).unwrap_or(self.nodes.len());
        let mut more = false;
        for position in (0..self.nodes.len()).rev() {
            let drain = match drain {
                Drain::Nothing => false,
                Drain::WhatSendersWaitFor => self.keeps_acks && position < answered_at,
                Drain::All => true,
            };
            more |= self.turn_node(turn, position, drain);
        }
        self.book_dropped(turn);
        more
    }

    /// Returns whether the node stopped at its share of the turn, not for want of room or of due spans.
    fn turn_node(&mut self, turn: Turn<'_>, position: usize, drain: bool) -> bool {
        let mut out = Vec::new();
        if !self.has_room_from(position + 1) {
            return false;
        }
        for _ in 0..RELEASES_PER_TURN.max(self.nodes[position].releases_owed()) {
            let more = self.nodes[position].turn(turn, drain, &mut out);
            self.count_outgoing(turn, position, &out);
            for batch in out.drain(..) {
                self.run(turn, position + 1, batch);
            }
            if !more || !self.has_room_from(position + 1) {
                return false;
            }
        }
        true
    }

    /// Passes a batch on from node `from` until a node holds it or it leaves through the branches.
    fn run(&mut self, turn: Turn<'_>, from: usize, mut batch: Batch) {
        let mut out = Vec::new();
        for position in from..self.nodes.len() {
            if let Some(crossing) = &mut self.crossing
                && crossing.node() == position
            {
                batch = crossing.keep_own(batch);
            }
            batch = self.cross(position, batch);
            if batch.index.is_empty() {
                batch.settle(&ack::Outcome::Taken);
                return;
            }
            turn.cells.add(self.items[position].incoming_items, batch.items());
            let started = self.items[position].internal_duration_ns.map(|series| (series, turn.clock.now_ns()));
            let node = &mut self.nodes[position];
            node.take(turn, batch, &mut out);
            if let Some((series, start_ns)) = started {
                turn.cells.observe(series, turn.clock.now_ns() - start_ns);
            }
            if node.owns() && self.has_room_from(position + 1) {
                self.nodes[position].leave_if_full(turn, &mut out);
            }
            self.count_outgoing(turn, position, &out);
            if out.len() > 1 {
                for batch in out.drain(..) {
                    self.run(turn, position + 1, batch);
                }
                return;
            }
            match out.pop() {
                Some(next) => batch = next,
                None => return,
            }
        }
        let batch = self.cross(self.nodes.len(), batch);
        self.leave(turn, batch);
    }

    /// Sends points away that others own, if this is the place for it.
    fn cross(&mut self, position: usize, batch: Batch) -> Batch {
        match &mut self.affinity {
            Some(affinity) if affinity.node() == position => affinity.keep_own(batch),
            _ => batch,
        }
    }

    fn count_outgoing(&self, turn: Turn<'_>, position: usize, out: &[Batch]) {
        turn.cells.add(self.items[position].outgoing_items, out.iter().map(Batch::items).sum());
    }

    /// Fans out: one shared request for all exporters, a batch for each pipeline behind a connector, and one part of
    /// each ack for each of them.
    fn leave(&self, turn: Turn<'_>, mut batch: Batch) {
        if self.affinity.is_some() && batch.index.is_empty() {
            // All of it belongs to others.
            return batch.settle(&ack::Outcome::Taken);
        }
        for outlet in &self.outlets {
            turn.cells.add(outlet.book.delivered, batch.items());
            if let Some(span_metrics) = &outlet.span_metrics {
                span_metrics.borrow_mut().take(turn.now_ns, turn.cells, &batch);
            }
        }
        let mut targets = self.outlets.iter().flat_map(|outlet| &outlet.targets).peekable();
        while let Some(target) = targets.next() {
            if targets.peek().is_none() && self.branches.is_empty() {
                return target.borrow_mut().consume(turn, batch);
            }
            target.borrow_mut().consume(turn, batch.fork());
        }
        let Some((last, others)) = self.branches.split_last() else {
            // Nothing behind it holds spans: they have been counted, and that was all.
            batch.settle(&ack::Outcome::Taken);
            return turn.indexes.give_back(batch.index);
        };
        let mut acks = std::mem::take(&mut batch.acks);
        let request = ExportRequest::new(batch);
        for branch in others {
            let parts = acks.iter().map(ack::Ack::split).collect();
            branch.queue.offer(Rc::clone(&request), branch, parts);
        }
        last.queue.offer(request, last, std::mem::take(&mut acks));
    }

    /// Books what policies dropped, what nodes made, what was shed, and what failed in a node, since the last time, for each exporter that will never see
    /// it.
    fn book_dropped(&mut self, turn: Turn<'_>) {
        let dropped: u64 = self.nodes.iter().map(Processor::items_dropped).sum();
        let news = dropped - self.dropped_booked;
        self.dropped_booked = dropped;
        let created: u64 = self.nodes.iter().map(Processor::items_created).sum();
        let created_news = created - self.created_booked;
        self.created_booked = created;
        let shed_news = self.book_shed(turn);
        let failed: u64 = self.nodes.iter().map(Processor::spans_failed).sum();
        let failed_news = failed - self.failed_booked;
        self.failed_booked = failed;
        if news > 0 || created_news > 0 || shed_news > 0 || failed_news > 0 {
            for book in self.books() {
                turn.cells.add(book.dropped, news);
                turn.cells.add(book.created, created_news);
                turn.cells.add(book.shed, shed_news);
                turn.cells.add(book.failed, failed_news);
            }
        }
    }

    /// Counts what each node shed since the last time. Returns the sum.
    fn book_shed(&mut self, turn: Turn<'_>) -> u64 {
        let mut sum = 0;
        for ((node, booked), series) in self.nodes.iter().zip(&mut self.shed_booked).zip(&self.items) {
            let news = node.spans_shed() - *booked;
            if news > 0 {
                *booked += news;
                turn.cells.add(series.dropped, news);
                sum += news;
            }
        }
        sum
    }

    /// Shows what is in flight, counted from those who hold it.
    pub fn show_in_flight(&self, turn: Turn<'_>) {
        let crossing = self.crossing.as_ref().map_or(0, Crossing::spans_unanswered);
        let crossing = crossing + self.affinity.as_ref().map_or(0, Affinity::points_unanswered);
        let nodes: u64 = self.nodes.iter().map(Processor::items_held).sum();
        for branch in &self.branches {
            turn.cells.set(branch.book.in_flight, nodes + crossing + branch.items_held());
        }
        for outlet in &self.outlets {
            turn.cells.set(outlet.book.in_flight, nodes + crossing);
        }
        for node in &self.nodes {
            if let Processor::TailSampling(node) = node {
                node.show_log();
            }
        }
    }

    /// Trace tables, or every other node.
    fn nodes_of(&self, tables: bool) -> impl Iterator<Item = &Processor> {
        self.nodes.iter().filter(move |node| matches!(node, Processor::TailSampling(_)) == tables)
    }

    /// Memory held by nodes, beside request buffers: (trace tables, other nodes).
    pub fn bytes_held(&self) -> (u64, u64) {
        let held = |tables: bool| self.nodes_of(tables).map(Processor::bytes_held).sum();
        (held(true), held(false))
    }

    /// How its samplers decided the traces whose ids begin with these digits.
    pub fn explain(&self, digits: &str, now_ns: u64) -> Vec<Explanation> {
        let samplers = self.nodes.iter().filter_map(|node| match node {
            Processor::TailSampling(node) => Some(node.explain(digits, now_ns)),
            _ => None,
        });
        samplers.flatten().collect()
    }

    /// Whether no node holds anything, in memory or on disk.
    pub fn is_empty(&self) -> bool {
        self.nodes.iter().all(|node| node.items_held() == 0 && node.is_settled())
    }
}
