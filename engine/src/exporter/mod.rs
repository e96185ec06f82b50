//! The end of a pipeline: request out, outcome back.
//!
//! Every kind has the same verb: [`Exporter::attempt`] tries once and says how it went; queue and retry are not its
//! business. Kinds that need no network answer in [`Exporter::deliver_at_once`].

pub mod debug;
pub mod file;
pub mod memory;
pub mod otlp;
pub mod otlphttp;
pub mod outcome;
pub mod remote_write;

use crate::auth::Authenticators;
use crate::config::checked::{ComponentId, ExporterKind, ExporterSettings, OtlpExporterSettings, Verbosity};
use crate::pipeline::client::Client;
use crate::queue::ExportRequest;
use crate::shard::ShardContext;
use crate::telemetry::metrics::{MemoryExporterSeries, OwnExporterSeries};
use crate::transport::tls::TlsClient;
use bytes::Bytes;
use codecs::compression::Compression;
use codecs::grpc::PREFIX_BYTES;
use codecs::otlp::{Format, Signal};
use memory::{KeptTrace, MemoryBounds, MemoryTraces};
use outcome::Outcome;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// Bytes of kept traces on one shard; the oldest leave beyond it.
const KEPT_BYTES_MAX: usize = 16 << 20;

/// A request as bytes on the wire, shared by every exporter that sends it in this encoding.
#[derive(Clone, Debug)]
pub struct EncodedRequest {
    /// gRPC prefix and message; HTTP leaves the prefix away.
    pub body: Bytes,
    /// How the message is compressed.
    pub compression: Compression,
    /// Spans, data points or log records in it.
    pub items: u64,
    /// Who sent them, for headers that say so.
    pub client: Option<Rc<Client>>,
}

/// Names of the reasons that spans carry, from number 1 on: more with each change of the rules. Cloning shares them within
/// the shard.
pub type Reasons = Rc<RefCell<Vec<String>>>;

/// An exporter of one signal on one shard.
#[derive(Debug)]
pub struct Exporter {
    id: ComponentId,
    signal: Signal,
    /// Names of the reasons that spans carry, from number 1 on.
    reasons: Reasons,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    OtlpGrpc(Box<otlp::OtlpExporter>, Encoding),
    OtlpHttp(Box<otlphttp::OtlpHttpExporter>, Encoding),
    RemoteWrite(Box<remote_write::RemoteWriteExporter>),
    Debug(Verbosity),
    File(file::FileExporter),
    Memory(Box<RefCell<MemoryTraces>>, MemoryExporterSeries),
    Nop,
}

/// How an exporter wants its requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Encoding {
    /// Protobuf or JSON.
    pub format: Format,
    /// Of the whole message.
    pub compression: Compression,
    /// `None`: the codec's default.
    pub level: Option<i32>,
}

impl Encoding {
    fn of(settings: &OtlpExporterSettings) -> Encoding {
        Encoding { format: settings.format, compression: settings.compression, level: settings.compression_level }
    }

    fn of_request(self, request: &ExportRequest, shard: &ShardContext) -> EncodedRequest {
        request.encoded(self, shard)
    }
}

/// 0 is how the configuration says "no limit".
fn check_duration(limit_ns: u64) -> Option<Duration> {
    (limit_ns > 0).then(|| Duration::from_nanos(limit_ns))
}

impl Exporter {
    /// Reads the certificates and keys of an exporter; all shards share them. Blocks: called once, at start. Errors name
    /// the exporter and the file.
    pub fn tls(settings: &ExporterSettings) -> Result<Option<TlsClient>, String> {
        match &settings.kind {
            ExporterKind::OtlpGrpc(otlp) => otlp::OtlpExporter::tls(&settings.id, otlp),
            ExporterKind::OtlpHttp(otlp) => otlphttp::OtlpHttpExporter::tls(&settings.id, otlp),
            ExporterKind::RemoteWrite(remote) => otlphttp::OtlpHttpExporter::tls(&settings.id, &remote.http),
            ExporterKind::Debug { .. } | ExporterKind::File(_) | ExporterKind::Memory { .. } | ExporterKind::Nop => {
                Ok(None)
            }
        }
    }

    /// An exporter on shard number `shard`. `tls` is what [`Exporter::tls`] read, `writer` leads to its file, `authenticators` those of the process; `reasons` are the names that spans'
    /// reasons stand for, from number 1 on. Errors name what of its settings cannot be used.
    pub fn new(
        settings: &ExporterSettings,
        tls: Option<TlsClient>,
        writer: Option<file::FileWriter>,
        authenticators: &Authenticators,
        reasons: Reasons,
        own: OwnExporterSeries,
        shard: usize,
    ) -> Result<Exporter, String> {
        let id = &settings.id;
        let shown =
            |otlp: &OtlpExporterSettings| otlp.authenticator.as_ref().map(|id| authenticators.backend_headers(id));
        let kind = match &settings.kind {
            ExporterKind::OtlpGrpc(otlp) => {
                let exporter = otlp::OtlpExporter::new(id, otlp, settings.signal, tls, shown(otlp), shard)?;
                exporter.connect();
                Kind::OtlpGrpc(Box::new(exporter), Encoding::of(otlp))
            }
            ExporterKind::OtlpHttp(otlp) => {
                let exporter = otlphttp::OtlpHttpExporter::new(id, otlp, tls, shown(otlp), shard)?;
                Kind::OtlpHttp(Box::new(exporter), Encoding::of(otlp))
            }
            ExporterKind::RemoteWrite(remote) => {
                let OwnExporterSeries::RemoteWrite(series) = own else {
                    unreachable!("a remote write exporter was declared with series of its own");
                };
                let exporter =
                    remote_write::RemoteWriteExporter::new(id, remote, tls, shown(&remote.http), series, shard)?;
                Kind::RemoteWrite(Box::new(exporter))
            }
            ExporterKind::Debug { verbosity } => Kind::Debug(*verbosity),
            ExporterKind::File(file) => {
                let writer = writer.ok_or("its file was not opened")?;
                Kind::File(file::FileExporter::new(file, writer))
            }
            ExporterKind::Memory { traces_max } => {
                let bounds = MemoryBounds { traces_max: *traces_max, bytes_max: KEPT_BYTES_MAX };
                let OwnExporterSeries::Memory(series) = own else {
                    unreachable!("a memory exporter was declared with series of its own");
                };
                Kind::Memory(Box::new(RefCell::new(MemoryTraces::new(bounds))), series)
            }
            ExporterKind::Nop => Kind::Nop,
        };
        Ok(Exporter { id: settings.id.clone(), signal: settings.signal, reasons, kind })
    }

    /// Its id in the configuration.
    pub fn id(&self) -> &ComponentId {
        &self.id
    }

    /// Memory of what it remembers to be faster, or to add up.
    pub fn cache_bytes(&self) -> u64 {
        if let Kind::RemoteWrite(exporter) = &self.kind { exporter.cache_bytes() } else { 0 }
    }

    /// Delivers without waiting, if this kind can; otherwise the request has to go through the queue.
    pub fn deliver_at_once(&self, request: &ExportRequest, shard: &ShardContext) -> Option<Outcome> {
        match &self.kind {
            Kind::OtlpGrpc(..) | Kind::OtlpHttp(..) | Kind::RemoteWrite(..) | Kind::File(_) => None,
            Kind::Debug(verbosity) => {
                let encoded = request.encoded(Encoding::default(), shard);
                eprint!("{}", debug::render(*verbosity, self.signal, &encoded.body[PREFIX_BYTES..]));
                Some(Outcome::Delivered)
            }
            Kind::Memory(traces, series) => {
                let mut traces = traces.borrow_mut();
                let batch = request.batch();
                let index = batch.index.spans().expect("the checked configuration has memory in traces pipelines only");
                let reasons = self.reasons.borrow();
                traces.push(index, &batch.segments, &|reason| reason_name(&reasons, reason));
                traces.show(&shard.cells, series);
                Some(Outcome::Delivered)
            }
            Kind::Nop => Some(Outcome::Delivered),
        }
    }

    /// Tries once to deliver.
    pub async fn attempt(&self, request: &ExportRequest, shard: &ShardContext) -> Outcome {
        match &self.kind {
            Kind::OtlpGrpc(otlp, encoding) => otlp.attempt(&encoding.of_request(request, shard)).await,
            Kind::OtlpHttp(otlp, encoding) => otlp.attempt(&encoding.of_request(request, shard)).await,
            Kind::RemoteWrite(remote) => remote.attempt(request, shard).await,
            Kind::File(file) => file.attempt(&file.encoding().of_request(request, shard)).await,
            Kind::Debug(_) | Kind::Memory(..) | Kind::Nop => Outcome::Delivered,
        }
    }

    /// Whether this kind can work on a request before its attempt, and one consumer attempts one request after the other.
    pub fn prepares(&self) -> bool {
        matches!(self.kind, Kind::RemoteWrite(_))
    }

    /// Does what needs no backend of a request's attempt, in the order of the attempts. Nothing for kinds that have no
    /// such work.
    pub async fn prepare(&self, request: &ExportRequest, shard: &ShardContext) {
        if let Kind::RemoteWrite(remote) = &self.kind {
            remote.prepare(request, shard).await;
        }
    }

    /// Finishes what is under way and closes connections.
    pub async fn close(&self) {
        match &self.kind {
            Kind::OtlpGrpc(otlp, _) => otlp.close().await,
            Kind::OtlpHttp(otlp, _) => otlp.close().await,
            Kind::RemoteWrite(remote) => remote.close().await,
            Kind::File(_) | Kind::Debug(_) | Kind::Memory(..) | Kind::Nop => {}
        }
    }

    /// The traces that a memory exporter keeps; none for other kinds.
    pub fn kept_traces(&self) -> Vec<KeptTrace> {
        match &self.kind {
            Kind::Memory(traces, _) => traces.borrow().traces(),
            _ => Vec::new(),
        }
    }
}

/// The policy that a span's reason names; spans that no sampler decided carry reason 0.
fn reason_name(reasons: &[String], number: u16) -> &str {
    let position = usize::from(number).checked_sub(1);
    position.and_then(|position| reasons.get(position)).map_or("not sampled here", String::as_str)
}
