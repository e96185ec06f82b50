//! The place in a pipeline where spans go to the shards that own their traces: right before the tail_sampling node.
//!
//! ```text
//! batch --route--> own spans stay in the batch
//!           |----> others lie in parcels; their parts of the acks wait here under a ticket
//! answer --------> the ticket's spans are owned elsewhere; with the last of them its parts are settled: as failed, if
//!                  they had to be on disk and some are not
//! ```
//!
//! Spans in parcels belong to this shard until the answer: they are counted here, and their bytes stay charged here.

use super::ack::{self, Ack, Outcome};
use super::batch::Batch;
use crate::shard::mesh::MeshEnd;
use crate::shard::parcel::{Part, Source};
use codecs::grpc::Status;
use slab::Slab;
use std::cell::RefCell;
use std::rc::Rc;
use tokio::sync::Notify;

/// One pipeline's crossing on one shard.
#[derive(Debug)]
pub struct Crossing {
    /// Position of the node before which spans cross.
    node: usize,
    /// The pipeline's number, the same on all shards.
    pipeline: u32,
    mesh: Rc<RefCell<MeshEnd>>,
    /// Tells the mesh task that parcels wait to be sent.
    news: Rc<Notify>,
    tickets: Slab<Ticket>,
    spans_unanswered: u64,
    /// Reused between batches.
    mine: Vec<u32>,
}

#[derive(Debug)]
struct Ticket {
    acks: Vec<Ack>,
    spans: u64,
    failure: Option<Status>,
}

impl Crossing {
    /// Spans cross before the node at position `node` of pipeline number `pipeline`.
    pub fn new(node: usize, pipeline: usize, mesh: Rc<RefCell<MeshEnd>>, news: Rc<Notify>) -> Crossing {
        let pipeline = u32::try_from(pipeline).expect("pipelines are bounded by the configuration");
        Crossing { node, pipeline, mesh, news, tickets: Slab::new(), spans_unanswered: 0, mine: Vec::new() }
    }

    /// The node before which spans cross.
    pub fn node(&self) -> usize {
        self.node
    }

    /// Sends away what others own; what is left belongs to this shard, spans without a trace id included.
    pub fn keep_own(&mut self, mut batch: Batch) -> Batch {
        let Batch { index, segments, acks, .. } = &mut batch;
        let index = index.spans_mut().expect("spans cross before tail_sampling, which stands in traces pipelines only");
        let entry = self.tickets.vacant_entry();
        let number = u32::try_from(entry.key()).expect("tickets are bounded by the bytes of their batches");
        let source = Source { index, segments };
        self.mine.clear();
        let sent = self.mesh.borrow_mut().route(self.pipeline, number, source, &mut self.mine);
        if sent == 0 {
            return batch;
        }
        let spans = sent as u64;
        entry.insert(Ticket { acks: acks.iter().map(Ack::split).collect(), spans, failure: None });
        self.spans_unanswered += spans;
        self.news.notify_one();
        let all = &mut index.items;
        for (place, &number) in self.mine.iter().enumerate() {
            all[place] = all[number as usize];
        }
        all.truncate(self.mine.len());
        batch
    }

    /// The owner has taken these spans. An error says why they are not on disk, as they had to be.
    pub fn answered(&mut self, part: Part, result: &Result<(), Status>) {
        let key = part.ticket as usize;
        let spans = u64::from(part.spans);
        self.spans_unanswered -= spans;
        let ticket = &mut self.tickets[key];
        ticket.spans -= spans;
        if let Err(status) = result {
            ticket.failure.get_or_insert_with(|| status.clone());
        }
        if ticket.spans == 0 {
            let Ticket { acks, failure, .. } = self.tickets.remove(key);
            ack::settle_all(acks, &failure.map_or(Outcome::Taken, Outcome::Failed));
        }
    }

    /// Spans that are on their way to their owners.
    pub fn spans_unanswered(&self) -> u64 {
        self.spans_unanswered
    }
}
