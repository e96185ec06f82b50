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
use memory::MemoryTraces;
use outcome::Outcome;
use std::cell::RefCell;

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
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    OtlpGrpc(Box<otlp::OtlpExporter>),
    OtlpHttp(Box<otlphttp::OtlpHttpExporter>),
    Debug(Verbosity),
    Memory(RefCell<MemoryTraces>),
    Nop,
}
