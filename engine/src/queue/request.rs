//! A batch on its way out, encoded once for all exporters that send it.

use crate::config::checked::ComponentId;
use crate::exporter::remote_write::RemoteWrite;
use crate::exporter::{EncodedRequest, Encoding};
use crate::pipeline::batch::Batch;
use crate::shard::ShardContext;
use std::cell::RefCell;
use std::rc::Rc;

/// A batch on its way out, shared by the exporters of its pipeline.
#[derive(Debug)]
pub struct ExportRequest {
    batch: Batch,
    items: u64,
    /// One entry per encoding in use: fan-out never encodes or compresses twice.
    encoded: RefCell<Vec<(Encoding, EncodedRequest)>>,
    /// What exporters that do not speak OTLP made of it and have not delivered yet, by exporter.
    remote_writes: RefCell<Vec<(ComponentId, Option<RemoteWrite>)>>,
}

impl ExportRequest {
    /// Takes the batch; its acks have been taken out by the caller.
    pub fn new(batch: Batch) -> Rc<ExportRequest> {
        debug_assert!(batch.acks.is_empty(), "acks travel with the queue's items, one part per exporter");
        let items = batch.items();
        Rc::new(ExportRequest { batch, items, encoded: RefCell::new(Vec::new()), remote_writes: RefCell::default() })
    }

    /// Number of spans, data points or log records.
    pub fn items(&self) -> u64 {
        self.items
    }

    /// Bytes of its items and envelopes.
    pub fn bytes(&self) -> u64 {
        self.batch.bytes()
    }

    /// The batch itself, for exporters that do not speak OTLP.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// Takes out what `exporter` has still to deliver, if it was translated and nobody else took it.
    pub fn take_remote_write(&self, exporter: &ComponentId) -> Option<RemoteWrite> {
        let mut all = self.remote_writes.borrow_mut();
        all.iter_mut().find(|(id, _)| id == exporter).and_then(|(_, rest)| rest.take())
    }

    /// Keeps what `exporter` has still to deliver, for its next attempt.
    pub fn keep_remote_write(&self, exporter: &ComponentId, rest: RemoteWrite) {
        let mut all = self.remote_writes.borrow_mut();
        match all.iter_mut().find(|(id, _)| id == exporter) {
            Some((_, kept)) => *kept = Some(rest),
            None => all.push((exporter.clone(), Some(rest))),
        }
    }

    /// Whether `exporter` has ever kept something of it.
    pub fn was_translated(&self, exporter: &ComponentId) -> bool {
        self.remote_writes.borrow().iter().any(|(id, _)| id == exporter)
    }

    /// The request's bytes in one encoding, made at the first call.
    pub fn encoded(&self, encoding: Encoding, shard: &ShardContext) -> EncodedRequest {
        let mut encoded = self.encoded.borrow_mut();
        if let Some((_, request)) = encoded.iter().find(|(known, _)| *known == encoding) {
            return request.clone();
        }
        let request = shard.encode(&self.batch, encoding);
        encoded.push((encoding, request.clone()));
        request
    }
}
