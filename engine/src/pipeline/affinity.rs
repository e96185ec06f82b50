//! The place in a metrics pipeline where data points go to the shard that owns their series: in front of the first node
//! that holds batches, or at the end.
//!
//! ```text
//! batch --by resource--> what this shard owns stays in the batch
//!              |-------> the rest is copied into one message for each owner; its parts of the acks wait here
//! answer --------------> the owner has it; with the last answer the parts are settled
//! ```
//!
//! Samples of a series have to leave in the order in which they came, whichever connection brought them. So what would
//! hold some of them back, the batch processor and the queue, comes behind this place, on one shard for each series. The
//! owner follows from what becomes the labels `job` and `instance` of all series of a resource, so whoever shares a
//! series shares an owner (docs/decisions/008). Points under way belong to this shard until the answer: they are counted
//! here, and their bytes are charged here.

use super::ack::{self, Ack, Outcome};
use super::batch::Batch;
use crate::shard::mesh::MeshEnd;
use crate::shard::owner::series_owner;
use crate::shard::parcel::{Given, Points};
use codecs::grpc::Status;
use codecs::otlp::{EnvelopeMap, MetricIndex, SignalIndex};
use codecs::prometheus::write_series_identity;
use slab::Slab;
use std::cell::RefCell;
use std::rc::Rc;
use tokio::sync::Notify;

/// Points of one pipeline that may be on their way to their owners; with more the pipeline has no room. Their bytes are
/// bounded by the budget.
const POINTS_UNANSWERED_MAX: u64 = 1 << 17;

/// Owners answer within a turn or two, unless what is behind them is full. After this long the edge says so, before
/// senders give up by themselves.
const SILENCE_MAX_NS: u64 = 1_000_000_000;

/// One pipeline's affinity on one shard.
#[derive(Debug)]
pub struct Affinity {
    /// Position of the node in front of which points cross; the number of nodes if they cross at the end.
    node: usize,
    /// The pipeline's number, the same on all shards.
    pipeline: u32,
    mesh: Rc<RefCell<MeshEnd>>,
    /// Tells the mesh task that something waits to be sent.
    news: Rc<Notify>,
    tickets: Slab<Ticket>,
    points_unanswered: u64,
    /// Since when nobody has answered.
    silent_since_ns: u64,
    has_news: bool,
    is_stalled: bool,
    /// Answers take as long as backends do, so silence says nothing.
    is_patient: bool,
    /// Reused between batches: the owner of each resource, the items of each owner, and what selecting needs.
    owners: Vec<usize>,
    items: Vec<Vec<u32>>,
    identity: String,
    map: EnvelopeMap,
}

#[derive(Debug)]
struct Ticket {
    acks: Vec<Ack>,
    messages: usize,
    failure: Option<Status>,
    /// The owners know that nobody waits any more.
    is_given_up: bool,
}

impl Affinity {
    /// Points cross in front of the node at position `node` of pipeline number `pipeline`.
    pub fn new(node: usize, pipeline: usize, mesh: Rc<RefCell<MeshEnd>>, news: Rc<Notify>) -> Affinity {
        let pipeline = u32::try_from(pipeline).expect("pipelines are bounded by the configuration");
        let items = vec![Vec::new(); mesh.borrow().shards()];
        Affinity {
            node,
            pipeline,
            mesh,
            news,
            tickets: Slab::new(),
            points_unanswered: 0,
            silent_since_ns: 0,
            has_news: true,
            is_stalled: false,
            is_patient: false,
            owners: Vec::new(),
            items,
            identity: String::new(),
            map: EnvelopeMap::default(),
        }
    }

    /// The same, for senders that wait until their points are on disk or delivered.
    pub fn waiting_for_results(self, is_patient: bool) -> Affinity {
        Affinity { is_patient, ..self }
    }

    /// The node in front of which points cross.
    pub fn node(&self) -> usize {
        self.node
    }

    /// Whether more may be sent away.
    pub fn has_room(&self) -> bool {
        self.points_unanswered < POINTS_UNANSWERED_MAX && !self.is_stalled
    }

    /// Lets time pass: owners that have no room do not answer, so who sends to them has none either.
    pub fn turn(&mut self, now_ns: u64) {
        if self.points_unanswered == 0 || std::mem::take(&mut self.has_news) {
            self.silent_since_ns = now_ns;
        }
        if self.is_patient {
            self.give_up();
        }
        self.is_stalled = !self.is_patient && now_ns.saturating_sub(self.silent_since_ns) > SILENCE_MAX_NS;
    }

    /// Tells the owners of points for which nobody waits any more: their senders send them again.
    fn give_up(&mut self) {
        let mut mesh = self.mesh.borrow_mut();
        for (number, ticket) in &mut self.tickets {
            let is_awaited = ticket.acks.is_empty() || !ticket.acks.iter().all(Ack::is_abandoned);
            if ticket.is_given_up || is_awaited {
                continue;
            }
            ticket.is_given_up = true;
            let ticket = u32::try_from(number).expect("tickets are bounded by the points under way");
            for peer in (0..mesh.shards()).filter(|peer| *peer != mesh.shard()).collect::<Vec<_>>() {
                mesh.send_given_up(peer, Given { pipeline: Some(self.pipeline), ticket });
            }
            self.news.notify_one();
        }
    }

    /// Sends away what others own; what is left belongs to this shard.
    pub fn keep_own(&mut self, mut batch: Batch) -> Batch {
        let SignalIndex::Metrics(index) = &mut batch.index else {
            unreachable!("affinity is of metrics pipelines only");
        };
        let own = self.mesh.borrow().shard();
        if self.find_owners(index).all(|owner| owner == own) {
            return batch;
        }
        self.items.iter_mut().for_each(Vec::clear);
        for (number, item) in (0..).zip(&index.items) {
            let resource = index.scopes[item.scope as usize].resource;
            self.items[self.owners[resource as usize]].push(number);
        }
        let entry = self.tickets.vacant_entry();
        let number = u32::try_from(entry.key()).expect("tickets are bounded by the points under way");
        let mut ticket = Ticket {
            acks: batch.acks.iter().map(Ack::split).collect(),
            messages: 0,
            failure: None,
            is_given_up: false,
        };
        for (owner, items) in self.items.iter().enumerate().filter(|(owner, items)| *owner != own && !items.is_empty())
        {
            let mut points = Box::<Points>::default();
            index.select_with(&mut self.map, items, &mut points.index);
            points.index.relocate(0, &batch.segments, &mut points.bytes, 0);
            points.points = points.index.count();
            points.client = batch.client.as_deref().cloned().map(Box::new);
            (points.pipeline, points.ticket) = (self.pipeline, number);
            self.points_unanswered += points.points;
            ticket.messages += 1;
            self.mesh.borrow_mut().send_points(owner, points);
        }
        let mut mine = MetricIndex::default();
        index.select_with(&mut self.map, &self.items[own], &mut mine);
        *index = mine;
        if ticket.messages == 0 {
            // Only resources without metrics belong to others.
            ack::settle_all(ticket.acks, &Outcome::Taken);
            return batch;
        }
        entry.insert(ticket);
        self.news.notify_one();
        batch
    }

    /// The owner of each resource, which are kept for looking up too.
    fn find_owners(&mut self, index: &MetricIndex) -> impl Iterator<Item = usize> {
        let shards = self.items.len();
        self.owners.clear();
        for &resource in &index.resources {
            self.identity.clear();
            write_series_identity(index.envelope(resource), &mut self.identity);
            self.owners.push(series_owner(self.identity.as_bytes(), shards));
        }
        self.owners.iter().copied()
    }

    /// The owner has taken these points, or says why not.
    pub fn answered(&mut self, points: &Points, result: Result<(), Status>) {
        self.points_unanswered -= points.points;
        (self.has_news, self.is_stalled) = (true, false);
        let key = points.ticket as usize;
        let ticket = &mut self.tickets[key];
        ticket.messages -= 1;
        if let Err(status) = result {
            ticket.failure.get_or_insert(status);
        }
        if ticket.messages == 0 {
            let ticket = self.tickets.remove(key);
            ack::settle_all(ticket.acks, &ticket.failure.map_or(Outcome::Taken, Outcome::Failed));
        }
    }

    /// Points that are on their way to their owners.
    pub fn points_unanswered(&self) -> u64 {
        self.points_unanswered
    }
}
