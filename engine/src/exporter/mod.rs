//! The end of a pipeline: request out, outcome back.
//!
//! Every kind has the same verb: [`Exporter::attempt`] tries once and says how it went; queue and retry are not its
//! business. Kinds that need no network answer in [`Exporter::deliver_at_once`].

pub mod debug;
pub mod memory;
pub mod otlp;
pub mod otlphttp;
pub mod outcome;

use crate::config::checked::{ComponentId, ExporterKind, ExporterSettings, Verbosity};
use crate::queue::ExportRequest;
use crate::shard::ShardContext;
use bytes::Bytes;
use codecs::compression::Compression;
use codecs::grpc::PREFIX_BYTES;
use crate::telemetry::metrics::MemoryExporterSeries;
use memory::{KeptTrace, MemoryBounds, MemoryTraces};
use outcome::Outcome;
use std::cell::RefCell;
use std::rc::Rc;

/// Bytes of kept traces on one shard; the oldest leave beyond it.
const KEPT_BYTES_MAX: usize = 16 << 20;

/// A request as bytes on the wire, shared by every exporter that sends it in this encoding.
#[derive(Clone, Debug)]
pub struct EncodedRequest {
    /// gRPC prefix and message; HTTP leaves the prefix away.
    pub body: Bytes,
    /// How the message is encoded.
    pub compression: Compression,
    /// Spans in it.
    pub spans: u64,
}

/// An exporter on one shard.
#[derive(Debug)]
pub struct Exporter {
    id: ComponentId,
    /// Names of the reasons that spans carry, from number 1 on.
    reasons: Rc<[String]>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    OtlpGrpc(Box<otlp::OtlpExporter>),
    OtlpHttp(Box<otlphttp::OtlpHttpExporter>),
    Debug(Verbosity),
    Memory(Box<RefCell<MemoryTraces>>, MemoryExporterSeries),
    Nop,
}

impl Exporter {
    /// An exporter on the shard of `context`. Errors name what of its settings cannot be had (a certificate file).
    pub fn new(settings: &ExporterSettings, reasons: Rc<[String]>, memory: Option<MemoryExporterSeries>) -> Result<Exporter, String> {
        let kind = match &settings.kind {
            ExporterKind::OtlpGrpc(otlp) => Kind::OtlpGrpc(Box::new(otlp::OtlpExporter::new(&settings.id, otlp)?)),
            ExporterKind::OtlpHttp(otlp) => Kind::OtlpHttp(Box::new(otlphttp::OtlpHttpExporter::new(&settings.id, otlp)?)),
            ExporterKind::Debug { verbosity } => Kind::Debug(*verbosity),
            ExporterKind::Memory { traces_max } => {
                let bounds = MemoryBounds { traces_max: *traces_max, bytes_max: KEPT_BYTES_MAX };
                let series = memory.expect("a memory exporter was declared with series of its own");
                Kind::Memory(Box::new(RefCell::new(MemoryTraces::new(bounds))), series)
            }
            ExporterKind::Nop => Kind::Nop,
        };
        Ok(Exporter { id: settings.id.clone(), reasons, kind })
    }

    /// Its id in the configuration.
    pub fn id(&self) -> &ComponentId {
        &self.id
    }

    /// Delivers without waiting, if this kind can; otherwise the request has to go through the queue.
    pub fn deliver_at_once(&self, request: &ExportRequest, shard: &ShardContext) -> Option<Outcome> {
        match &self.kind {
            Kind::OtlpGrpc(_) | Kind::OtlpHttp(_) => None,
            Kind::Debug(verbosity) => {
                let encoded = request.encoded(Compression::None, None, shard);
                eprint!("{}", debug::render(*verbosity, &self.id, &encoded.body[PREFIX_BYTES..]));
                Some(Outcome::Delivered)
            }
            Kind::Memory(traces, series) => {
                let mut traces = traces.borrow_mut();
                let batch = request.batch();
                traces.push(&batch.index, &batch.segments, &|reason| self.reason(reason));
                shard.cells.set(series.traces, traces.len() as u64);
                shard.cells.set(series.bytes, traces.bytes() as u64);
                Some(Outcome::Delivered)
            }
            Kind::Nop => Some(Outcome::Delivered),
        }
    }

    /// Tries once to deliver.
    pub async fn attempt(&self, request: &ExportRequest, shard: &ShardContext) -> Outcome {
        match &self.kind {
            Kind::OtlpGrpc(otlp) => {
                let (compression, level) = otlp.encoding();
                otlp.attempt(&request.encoded(compression, level, shard)).await
            }
            Kind::OtlpHttp(otlp) => {
                let (compression, level) = otlp.encoding();
                otlp.attempt(&request.encoded(compression, level, shard)).await
            }
            Kind::Debug(_) | Kind::Memory(..) | Kind::Nop => Outcome::Delivered,
        }
    }

    /// The traces that a memory exporter keeps; none for other kinds.
    pub fn kept_traces(&self) -> Vec<KeptTrace> {
        match &self.kind {
            Kind::Memory(traces, _) => traces.borrow().traces(),
            _ => Vec::new(),
        }
    }

    /// The policy that a span's reason names; spans that no sampler decided carry reason 0.
    fn reason(&self, number: u16) -> &str {
        let position = usize::from(number).checked_sub(1);
        position.and_then(|position| self.reasons.get(position)).map_or("not sampled here", String::as_str)
    }
}
