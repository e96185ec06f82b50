//! From the checked configuration to what one shard runs.
//!
//! [`Declared`] is made once per process: every series has its number before any shard starts. [`assemble`] is called on
//! each shard's own thread, because nothing it makes ever leaves that thread.

use super::ShardContext;
use super::balance::Balance;
use super::budget::{Lease, Senders};
use super::buffers::Buffers;
use super::clock::Clock;
use super::mesh::MeshEnd;
use super::pipelines::{BySignal, Feed, NodePlace, Pipelines};
use super::reconfigure::Reconfiguration;
use super::restore::Restoration;
use super::run::{Gates, Server, Shard};
use super::runtime;
use crate::auth::Authenticators;
use crate::config::checked::{
    AckMode, Config, ExporterKind, ExporterSettings, FlushSettings, HeadSettings, PipelineSettings, ProcessorKind,
    QueueSettings, ReceiverSettings, SpanMetricsConnector,
};
use crate::connector::span_metrics::{Flusher, Plan, SpanMetrics};
use crate::exporter::file::FileWriter;
use crate::exporter::{Exporter, Reasons};
use crate::pipeline::client::Clients;
use crate::pipeline::{Affinity, Crossing, Outlet, Pipeline};
use crate::processor::combinations::Combinations;
use crate::processor::failure::{FailureSeries, Failures};
use crate::processor::pending_log::{Keeping, PendingLog};
use crate::processor::{
    Processor, attributes, batch, filter, memory_limiter, probabilistic_sampler, redaction, resource, tail_sampling,
    transform,
};
use crate::queue::log::Log;
use crate::queue::{Branch, Queue};
use crate::receiver::complaint::Complaints;
use crate::receiver::door::Door;
use crate::receiver::file::reader::Feed as FileFeed;
use crate::receiver::file::{FileIntake, record_bytes_max};
use crate::receiver::otlp::OtlpReceiver;
use crate::telemetry::cells::{Cells, Counter, Schema};
use crate::telemetry::metrics::{
    BatchSeries, BookSeries, BudgetSeries, ExporterSeries, FilterSeries, HandshakeSeries, MemoryExporterSeries,
    MemoryLimiterSeries, MeshSeries, OwnExporterSeries, PendingLogSeries, ProbabilisticSamplerSeries, ProcessorSeries,
    QueueDiskSeries, ReceiverSeries, RemoteWriteSeries, ShardSeries, SpanMetricsSeries, TailSamplingSeries,
    TransformSeries, failed_items,
};
use crate::transport::Transport;
use crate::transport::gate::Gate;
use crate::transport::grpc_server::GrpcServer;
use crate::transport::http1_server::HttpServer;
use crate::transport::tls::TlsClient;
use codecs::otlp::Signal;
use sampling::sampler::{DROPPED_MEMORY_BYTES, KEPT_MEMORY_BYTES};
use sampling::{Limits, Rulebook, Sampler, SharedRates};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use tokio::sync::Notify;

/// Request buffers that a shard keeps for reuse, at most,
const KEPT_BUFFER_BYTES_MAX: u64 = 64 << 20;
/// and this part of the budget for all shards together: what is only kept must not keep requests out.
const KEPT_BUFFERS_PART: u64 = 16;

/// All series of the configured components, by the component's number in the configuration.
#[derive(Debug)]
pub struct Declared {
    /// Every series with its number.
    pub schema: Schema,
    receivers: Vec<[ReceiverSeries; 2]>,
    /// By receiver and protocol.
    complaints: Vec<[Complaints; 2]>,
    /// Per listener.
    handshakes: Vec<HandshakeSeries>,
    processors: Vec<NodeSeries>,
    exporters: Vec<ExporterSeries>,
    own_exporters: Vec<OwnExporterSeries>,
    disks: Vec<Option<QueueDiskSeries>>,
    /// By the processor's number.
    pending_disks: Vec<Option<PendingLogSeries>>,
    /// What every `span_metrics` connector counts, with the series that show it at work.
    pub span_metrics: Vec<(Arc<Plan>, SpanMetricsSeries)>,
    /// Per pipeline, one book per exporter, then one per connector.
    books: Vec<Vec<BookSeries>>,
    /// Per pipeline and processor: what its samplers on all shards spend together.
    rates: Vec<Vec<SharedRates>>,
    /// Per pipeline and processor: the combinations of client metadata that its batchers on all shards keep apart.
    combinations: Vec<Vec<Combinations>>,
    gauges: Gauges,
    /// By number: name and type of every policy that any tail sampler has or had.
    policies: Vec<(String, &'static str)>,
    /// Most cells that shards have.
    cells_max: usize,
}

/// What a shard shows of itself.
#[derive(Clone, Debug)]
pub struct Gauges {
    /// Bytes by holder.
    pub budget: BudgetSeries,
    /// What crosses shards.
    pub mesh: MeshSeries,
    /// Connections and busy share.
    pub shard: ShardSeries,
}

#[derive(Clone, Debug)]
struct NodeSeries {
    common: ProcessorSeries,
    own: OwnSeries,
}

#[derive(Clone, Debug)]
enum OwnSeries {
    MemoryLimiter(MemoryLimiterSeries),
    Batch(BatchSeries),
    ProbabilisticSampler(ProbabilisticSamplerSeries),
    TailSampling(TailSamplingSeries),
    Transform(TransformSeries),
    Filter {
        own: FilterSeries,
        failed_spans: Counter,
    },
    /// Failed spans only.
    Editor(Counter),
    None,
}

impl Declared {
    /// Declares every series of `config`.
    pub fn of(config: &Config) -> Declared {
        let mut declared = Declared::behind(Schema::default(), Vec::new(), config);
        declared.cells_max = declared.schema.cells_max();
        declared
    }

    /// The same for a configuration that follows `config_before` in a running gateway, with the same components in the same
    /// pipelines: every series keeps its number, every policy that stays keeps what it has spent. The error says what
    /// there is no room for.
    pub fn following(&self, config_before: &Config, config: &Config) -> Result<Declared, String> {
        let mut declared = Declared::behind(self.schema.clone(), self.policies.clone(), config);
        declared.cells_max = self.cells_max;
        if declared.schema.cell_count() > self.cells_max || declared.policies.len() >= usize::from(u16::MAX) {
            let message = "so many policies and statements were added and renamed since the gateway started that there is \
                           no room for the metrics of more: restart to apply the new configuration";
            return Err(message.to_owned());
        }
        for (position, pipeline) in config.pipelines.iter().enumerate() {
            for (place, &processor) in pipeline.processors.iter().enumerate() {
                let kinds = (&config_before.processors[processor].kind, &config.processors[processor].kind);
                if let (ProcessorKind::TailSampling(before), ProcessorKind::TailSampling(after)) = kinds {
                    declared.rates[position][place] = self.rates[position][place].following(before, after);
                }
            }
        }
        Ok(declared)
    }

    /// Declares the series of `config` behind those that there are.
    fn behind(mut schema: Schema, mut policies: Vec<(String, &'static str)>, config: &Config) -> Declared {
        let receivers = config.receivers.iter().enumerate().map(|(number, receiver)| {
            let (id, signals) = (receiver.id.to_string(), config.signals_of(number));
            let declare = |kind: Transport| ReceiverSeries::declare(&mut schema, &id, kind.label(), &signals);
            transports_of(receiver).map(declare)
        });
        let receivers = receivers.collect();
        let complaints = config
            .receivers
            .iter()
            .map(|receiver| transports_of(receiver).map(|kind| Complaints::new(receiver.id.to_string(), kind)));
        let complaints = complaints.collect();
        let handshakes = handshake_series(config, &mut schema);
        let processors = config.processors.iter().map(|processor| {
            let id = processor.id.to_string();
            let level = config.telemetry.metrics_level;
            let signal = processor.signal;
            let common = ProcessorSeries::declare(&mut schema, &id, signal);
            let common = common.measured(&mut schema, &id, signal, level);
            let own = match &processor.kind {
                ProcessorKind::MemoryLimiter { .. } => {
                    OwnSeries::MemoryLimiter(MemoryLimiterSeries::declare(&mut schema, &id, signal))
                }
                ProcessorKind::Batch { .. } => OwnSeries::Batch(BatchSeries::declare(&mut schema, &id)),
                ProcessorKind::ProbabilisticSampler(settings) => {
                    let attribute = settings.records.from_attribute.as_deref().map(String::from_utf8_lossy);
                    OwnSeries::ProbabilisticSampler(ProbabilisticSamplerSeries::declare(
                        &mut schema,
                        signal,
                        attribute.as_deref(),
                    ))
                }
                ProcessorKind::TailSampling(settings) => {
                    let policies: Vec<String> = settings.policies.iter().map(|policy| policy.name.clone()).collect();
                    OwnSeries::TailSampling(TailSamplingSeries::declare(&mut schema, &id, &policies))
                }
                ProcessorKind::Transform(settings) => {
                    let statements = settings.groups.iter().flat_map(|group| &group.statements);
                    let names = statements.map(|statement| statement.name.as_str());
                    OwnSeries::Transform(TransformSeries::declare(&mut schema, &id, signal, names))
                }
                ProcessorKind::Filter(_) => OwnSeries::Filter {
                    own: FilterSeries::declare(&mut schema, &id, signal),
                    failed_spans: failed_items(&mut schema, &id, signal, "ottl"),
                },
                ProcessorKind::Resource(_) | ProcessorKind::Attributes { .. } | ProcessorKind::Redaction(_) => {
                    OwnSeries::Editor(failed_items(&mut schema, &id, signal, "defect"))
                }
                ProcessorKind::GroupByTrace => OwnSeries::None,
            };
            NodeSeries { common, own }
        });
        let processors = processors.collect();
        let exporters = config
            .exporters
            .iter()
            .map(|exporter| ExporterSeries::declare(&mut schema, &exporter.id.to_string(), exporter.signal));
        let exporters = exporters.collect();
        let own_exporters = config.exporters.iter().map(|exporter| {
            let id = exporter.id.to_string();
            match exporter.kind {
                ExporterKind::Memory { .. } => {
                    OwnExporterSeries::Memory(MemoryExporterSeries::declare(&mut schema, &id))
                }
                ExporterKind::RemoteWrite(_) => {
                    OwnExporterSeries::RemoteWrite(Box::new(RemoteWriteSeries::declare(&mut schema, &id)))
                }
                _ => OwnExporterSeries::None,
            }
        });
        let own_exporters = own_exporters.collect();
        let disks = config.exporters.iter().map(|exporter| {
            exporter.queue()?.storage.as_ref()?;
            Some(QueueDiskSeries::declare(&mut schema, &exporter.id.to_string(), exporter.signal))
        });
        let disks = disks.collect();
        let pending_disks = config.processors.iter().map(|processor| {
            processor.storage.as_ref()?;
            Some(PendingLogSeries::declare(&mut schema, &processor.id.to_string()))
        });
        let pending_disks = pending_disks.collect();
        let pipelines = config.pipelines.iter().map(|pipeline| {
            let id = pipeline.id.to_string();
            let exporters = pipeline.exporters.iter().map(|&exporter| config.exporters[exporter].id.to_string());
            let forwards = pipeline.forwards.iter().map(|forward| forward.id.to_string());
            let counting = pipeline.span_metrics.iter().map(|&connector| config.span_metrics[connector].id.to_string());
            let declare = |exporter: String| BookSeries::declare(&mut schema, &id, &exporter, pipeline.signal);
            exporters.chain(forwards).chain(counting).map(declare).collect()
        });
        let books = pipelines.collect();
        let span_metrics = config.span_metrics.iter().map(|connector| {
            let series = SpanMetricsSeries::declare(&mut schema, &connector.id.to_string());
            (Arc::new(Plan::new(connector.settings.clone())), series)
        });
        let span_metrics = span_metrics.collect();
        let gauges = Gauges {
            budget: BudgetSeries::declare(&mut schema),
            mesh: MeshSeries::declare(&mut schema),
            shard: ShardSeries::declare(&mut schema),
        };
        let rates_of = |processor: &usize| match &config.processors[*processor].kind {
            ProcessorKind::TailSampling(settings) => SharedRates::new(settings),
            _ => SharedRates::default(),
        };
        let rates = config.pipelines.iter().map(|pipeline| pipeline.processors.iter().map(rates_of).collect());
        let rates = rates.collect();
        let combinations_of =
            |pipeline: &PipelineSettings| pipeline.processors.iter().map(|_| Combinations::default()).collect();
        let combinations = config.pipelines.iter().map(combinations_of).collect();
        let samplers = config.pipelines.iter().flat_map(|pipeline| &pipeline.processors);
        for policy in samplers.flat_map(|&processor| policies_of(&config.processors[processor].kind)) {
            let policy = (policy.name.clone(), policy.rule.kind());
            if !policies.contains(&policy) {
                policies.push(policy);
            }
        }
        let cells_max = 0;
        Declared {
            schema,
            receivers,
            complaints,
            handshakes,
            processors,
            exporters,
            own_exporters,
            disks,
            pending_disks,
            span_metrics,
            books,
            rates,
            combinations,
            gauges,
            policies,
            cells_max,
        }
    }

    /// The numbers of a sampler's policies, under which all samplers of the process know them.
    fn numbers_of(&self, settings: &sampling::Settings) -> Vec<u16> {
        let is = |known: &(String, &str), policy: &sampling::settings::Policy| {
            known.0 == policy.name && known.1 == policy.rule.kind()
        };
        let number = |policy| self.policies.iter().position(|known| is(known, policy));
        let numbers = settings.policies.iter().map(|policy| number(policy).expect("every policy was declared"));
        numbers.map(|number| u16::try_from(number).expect("there are fewer policies than reasons")).collect()
    }

    /// Names of the reasons that spans carry, from number 1 on.
    pub fn reason_names(&self) -> Vec<String> {
        self.policies.iter().map(|(name, _)| name.clone()).collect()
    }
}

/// How requests come to a receiver; to one of files in one way only.
fn transports_of(receiver: &ReceiverSettings) -> [Transport; 2] {
    match receiver.otlp.files {
        None => [Transport::Grpc, Transport::Http],
        Some(_) => [Transport::File; 2],
    }
}

fn policies_of(kind: &ProcessorKind) -> &[sampling::settings::Policy] {
    match kind {
        ProcessorKind::TailSampling(settings) => &settings.policies,
        _ => &[],
    }
}

/// One for each listener, in the order in which shards number their servers.
fn handshake_series(config: &Config, schema: &mut Schema) -> Vec<HandshakeSeries> {
    let mut series = Vec::new();
    for receiver in &config.receivers {
        let id = receiver.id.to_string();
        let grpc = receiver.otlp.grpc.as_ref().map(|grpc| (Transport::Grpc, grpc.tls.is_some()));
        let http = receiver.otlp.http.as_ref().map(|http| (Transport::Http, http.tls.is_some()));
        for (transport, has_tls) in grpc.into_iter().chain(http) {
            series.push(HandshakeSeries::declare(schema, &id, transport.label(), has_tls));
        }
    }
    series
}

/// What a shard is given when it starts.
#[derive(Debug)]
pub struct ShardSeed {
    /// Its number, from 0.
    pub number: usize,
    /// How many shards there are.
    pub shards: usize,
    /// The checked configuration.
    pub config: Arc<Config>,
    /// All series.
    pub declared: Arc<Declared>,
    /// The process's clock.
    pub clock: Clock,
    /// Its lease of the budget.
    pub lease: Lease,
    /// Its end of the mesh.
    pub mesh: MeshEnd,
    /// What exporters trust and show, by the exporter's number.
    pub tls: Arc<Vec<Option<TlsClient>>>,
    /// Where `file` exporters write, by the exporter's number.
    pub files: Arc<Vec<Option<FileWriter>>>,
    /// What receivers of files read, where this shard takes it.
    pub feeds: Vec<FileFeed>,
    /// What senders' connections pass first, by the listener's number.
    pub gates: Arc<Vec<Gate>>,
    /// Who may send, and what backends are shown.
    pub authenticators: Authenticators,
    /// What keeps the queues of exporters, by the exporter's number.
    pub logs: Arc<Vec<Option<Log>>>,
    /// What keeps the undecided traces of samplers, by the processor's number.
    pub pending_logs: Arc<Vec<Option<Log>>>,
    /// Seeds the hash tables of this process: clients choose trace ids, but not this.
    pub hash_seed: u64,
    /// Open connections of every shard, for the acceptor.
    pub connections: Arc<Vec<AtomicUsize>>,
}

/// Puts a shard together, on its own thread. Errors name the component and what it needs.
pub fn assemble(seed: ShardSeed) -> Result<Rc<Shard>, String> {
    let ShardSeed { number, shards, config, declared, clock, lease, mesh, tls, gates, .. } = seed;
    let ShardSeed { authenticators, files, logs, pending_logs, hash_seed, connections, feeds: file_feeds, .. } = seed;
    let cells = Cells::new(&declared.schema);
    let share = lease.budget().limit_bytes() / KEPT_BUFFERS_PART / shards as u64;
    let kept_bytes_max = usize::try_from(share.min(KEPT_BUFFER_BYTES_MAX)).expect("64 MiB fit");
    let context = ShardContext::new(number, shards, clock, cells, Buffers::new(kept_bytes_max), lease);
    let mesh = Rc::new(RefCell::new(mesh));
    let news = Rc::new(Notify::new());
    let reasons: Reasons = Rc::new(RefCell::new(declared.reason_names()));
    let mut queues = Vec::new();
    for (position, exporter) in config.exporters.iter().enumerate() {
        let (tls, file) = (tls[position].clone(), files[position].clone());
        let secrets = Secrets { tls, file, authenticators: &authenticators };
        queues.push(queue_of(exporter, position, secrets, &declared, &reasons, &context)?);
    }
    let pipelines = config.pipelines.iter().enumerate().map(|(position, settings)| {
        let parts = Parts {
            config: &config,
            declared: &declared,
            context: &context,
            mesh: &mesh,
            news: &news,
            queues: &queues,
            pending_logs: &pending_logs,
            hash_seed,
        };
        parts.pipeline(position, settings)
    });
    let pipelines: Vec<Rc<RefCell<Pipeline>>> = pipelines.map(|pipeline| Rc::new(RefCell::new(pipeline))).collect();
    let span_metrics = declared.span_metrics.iter();
    let span_metrics: Vec<Rc<RefCell<SpanMetrics>>> = span_metrics
        .map(|(plan, series)| Rc::new(RefCell::new(SpanMetrics::new(Arc::clone(plan), series.clone()))))
        .collect();
    connect(&config, &declared, &pipelines, &span_metrics);
    for ((queue, log), series) in queues.iter().zip(logs.iter()).zip(&declared.disks) {
        if let (Some(log), Some(series)) = (log, series) {
            queue.keep_in(log.clone(), series.clone(), branches_to(queue, &pipelines));
        }
    }
    let fed_by = |receiver: usize, signal: Signal| -> Vec<usize> {
        let all = config.pipelines.iter().enumerate().filter(|(_, pipeline)| pipeline.signal == signal);
        all.filter(|(_, pipeline)| pipeline.receivers.contains(&receiver)).map(|(number, _)| number).collect()
    };
    let receivers = 0..config.receivers.len();
    let by_receiver: Vec<BySignal<usize>> =
        receivers.map(|receiver| Signal::ALL.map(|signal| fed_by(receiver, signal))).collect();
    let refusals = |pipelines: &Vec<usize>| refusal_counters(&config, &declared, pipelines);
    let refusals = by_receiver.iter().map(|signals| signals.each_ref().map(refusals)).collect();
    let feeds = feeds_of(&config, &declared, &pipelines, &context);
    let mut pipelines = Pipelines::new(pipelines, by_receiver, refusals, queues, span_metrics, context.clone());
    pipelines.feed(feeds);
    let pipelines = Rc::new(RefCell::new(pipelines));
    restore_pending(&config, &declared, &pending_logs, &pipelines, &context);
    let balance = Balance::new(mesh, news, declared.gauges.clone(), context.clone());
    let servers = servers_of(&config, &declared, &authenticators, &pipelines, &balance, &context);
    take_from_files(file_feeds, &config, &declared, &authenticators, &pipelines, &balance, &context);
    let gates = Gates { gates, series: declared.handshakes.clone() };
    let reconfiguration = Reconfiguration { context: context.clone(), hash_seed, reasons };
    Ok(Shard::new(context, gates, servers, pipelines, balance, declared.gauges.clone(), connections, reconfiguration))
}

/// Takes in what earlier lives left undecided on disk, for every sampler whose traces are kept there.
fn restore_pending(
    config: &Config,
    declared: &Declared,
    logs: &[Option<Log>],
    pipelines: &Rc<RefCell<Pipelines>>,
    context: &ShardContext,
) {
    for (processor, (log, series)) in logs.iter().zip(&declared.pending_disks).enumerate() {
        let (Some(log), Some(series)) = (log, series) else { continue };
        let places = config.pipelines.iter().enumerate().filter_map(|(pipeline, settings)| {
            let position = settings.processors.iter().position(|&number| number == processor)?;
            Some((settings.id.to_string(), NodePlace { pipeline, position }))
        });
        let (pipelines, shard) = (Rc::clone(pipelines), context.clone());
        let nodes = places.collect();
        let restoration = Restoration { log: log.clone(), series: series.clone(), nodes, pipelines, shard };
        runtime::spawn(restoration.run());
    }
}

/// Every way into a queue.
fn branches_to(queue: &Rc<Queue>, pipelines: &[Rc<RefCell<Pipeline>>]) -> Vec<Rc<Branch>> {
    let all = pipelines.iter().flat_map(|pipeline| pipeline.borrow().branches().to_vec());
    all.filter(|branch| Rc::ptr_eq(&branch.queue, queue)).collect()
}

/// Joins pipelines through their connectors, whose books follow those of the exporters.
fn connect(
    config: &Config,
    declared: &Declared,
    pipelines: &[Rc<RefCell<Pipeline>>],
    span_metrics: &[Rc<RefCell<SpanMetrics>>],
) {
    for ((settings, books), pipeline) in config.pipelines.iter().zip(&declared.books).zip(pipelines) {
        let forwards = settings.forwards.iter().map(|forward| {
            let targets = forward.targets.iter().map(|&target| Rc::clone(&pipelines[target]));
            (targets.collect(), None)
        });
        let counting = settings.span_metrics.iter().map(|&number| (Vec::new(), Some(Rc::clone(&span_metrics[number]))));
        let books = books[settings.exporters.len()..].iter();
        let outlets = forwards.chain(counting).zip(books);
        let outlets =
            outlets.map(|((targets, span_metrics), book)| Outlet { book: book.clone(), targets, span_metrics });
        pipeline.borrow_mut().connect(outlets.collect());
    }
}

/// The connectors whose series this shard gives to metrics pipelines, for all shards: each connector has one such shard.
fn feeds_of(
    config: &Config,
    declared: &Declared,
    pipelines: &[Rc<RefCell<Pipeline>>],
    context: &ShardContext,
) -> Vec<Feed> {
    let unix_ns = u64::try_from(context.clock.unix_ns()).unwrap_or(0);
    let clock_zero_unix_ns = unix_ns.saturating_sub(context.clock.now_ns());
    let feed = |(connector, settings): (usize, &SpanMetricsConnector)| {
        if settings.targets.is_empty() || connector % context.shards != context.number {
            return None;
        }
        let plan = Arc::clone(&declared.span_metrics[connector].0);
        let FlushSettings { temporality, interval_ns } = settings.flush;
        let flusher = Flusher::new(plan, temporality, interval_ns, context.shards, clock_zero_unix_ns);
        let targets = settings.targets.iter().map(|&target| Rc::clone(&pipelines[target])).collect();
        Some(Feed { connector, flusher, targets, has_ended: false })
    };
    config.span_metrics.iter().enumerate().filter_map(feed).collect()
}

/// Parts of the budget that one giant, and what all shards remember of kept and of dropped traces, may take.
const GIANT_PART: u64 = 8;
const KEPT_MEMORY_PART: u64 = 16;
const DROPPED_MEMORY_PART: u64 = 128;

/// Part of the budget that the label caches of an exporter may take on all shards together.
const LABEL_CACHES_PART: u64 = 8;

/// What the nodes of a pipeline are made from.
struct Parts<'a> {
    config: &'a Config,
    declared: &'a Declared,
    context: &'a ShardContext,
    mesh: &'a Rc<RefCell<MeshEnd>>,
    news: &'a Rc<Notify>,
    queues: &'a [Rc<Queue>],
    pending_logs: &'a [Option<Log>],
    hash_seed: u64,
}

impl Parts<'_> {
    fn pipeline(&self, position: usize, settings: &PipelineSettings) -> Pipeline {
        let node_parts = NodeParts {
            config: self.config,
            declared: self.declared,
            context: self.context,
            hash_seed: self.hash_seed,
        };
        let mut crossing = None;
        let nodes = settings.processors.iter().enumerate().map(|(place, &processor)| {
            let sampler = matches!(self.config.processors[processor].kind, ProcessorKind::TailSampling(_));
            if sampler && self.context.shards > 1 && crossing.is_none() {
                crossing = Some(Crossing::new(place, position, Rc::clone(self.mesh), Rc::clone(self.news)));
            }
            match node_parts.node(position, place) {
                Processor::TailSampling(node) => match self.pending_log(processor, settings) {
                    Some(log) => Processor::TailSampling(Box::new(node.kept_in(log))),
                    None => Processor::TailSampling(node),
                },
                node => node,
            }
        });
        let nodes = nodes.collect();
        let books = &self.declared.books[position];
        let id = settings.id.to_string();
        let branches = settings.exporters.iter().zip(books);
        let branch = |(&exporter, book): (&usize, &BookSeries)| {
            Branch::new(Rc::clone(&self.queues[exporter]), book.clone(), &id, settings.ack)
        };
        let items = settings.processors.iter().map(|&processor| self.declared.processors[processor].common.clone());
        Pipeline::new(settings.signal, nodes, items.collect(), branches.map(branch).collect(), crossing)
            .with_affinity(self.affinity(position, settings))
            .keeping_acks(settings.ack != AckMode::Received)
    }

    /// What keeps undecided traces of this processor in this pipeline beyond the process.
    fn pending_log(&self, processor: usize, pipeline: &PipelineSettings) -> Option<PendingLog> {
        let ProcessorKind::TailSampling(settings) = &self.config.processors[processor].kind else { return None };
        let (log, series) =
            self.pending_logs[processor].as_ref().zip(self.declared.pending_disks[processor].as_ref())?;
        let keeping = Keeping {
            log: log.clone(),
            pipeline: &pipeline.id.to_string(),
            is_awaited: pipeline.ack == AckMode::Durable,
            decision_wait_ns: settings.decision_wait_ns,
            series: series.clone(),
        };
        Some(PendingLog::new(keeping, self.context.clone()))
    }

    /// Where data points of this pipeline go to the owners of their series, if their order matters behind it.
    fn affinity(&self, position: usize, settings: &PipelineSettings) -> Option<Affinity> {
        if self.context.shards == 1 || !needs_order(self.config, settings) {
            return None;
        }
        let kinds = settings.processors.iter().map(|&processor| &self.config.processors[processor].kind);
        let mut holding = kinds.enumerate().filter_map(|(place, kind)| match kind {
            ProcessorKind::Batch { metadata_keys, .. } => Some((place, metadata_keys.is_empty())),
            _ => None,
        });
        let end = settings.processors.len();
        // The edge bounds the combinations of metadata that a batch processor keeps apart, so it holds what came to this
        // shard.
        let place = holding.next().map_or(end, |(place, mixes)| if mixes { place } else { end });
        let affinity = Affinity::new(place, position, Rc::clone(self.mesh), Rc::clone(self.news));
        Some(affinity.waiting_for_results(settings.ack != AckMode::Received))
    }
}

/// What a node is made from, when a shard is put together and when its settings change.
#[derive(Debug)]
pub(super) struct NodeParts<'a> {
    pub(super) config: &'a Config,
    pub(super) declared: &'a Declared,
    pub(super) context: &'a ShardContext,
    pub(super) hash_seed: u64,
}

impl NodeParts<'_> {
    /// Gives the node at this place of this pipeline the settings of this configuration: a new node, where it holds nothing
    /// but its settings.
    pub(super) fn change(&self, position: usize, place: usize, node: &mut Processor) {
        let processor = self.config.pipelines[position].processors[place];
        let settings = &self.config.processors[processor].kind;
        match (&mut *node, settings, &self.declared.processors[processor].own) {
            (Processor::TailSampling(node), ProcessorKind::TailSampling(settings), OwnSeries::TailSampling(series)) => {
                let numbers = self.declared.numbers_of(settings);
                let rates = &self.declared.rates[position][place];
                let settings = self.remembering(settings.share_of(self.context.shards));
                node.change_rules(Rulebook { settings: &settings, numbers: &numbers, rates }, series.clone());
            }
            (Processor::Batch(node), settings, _) => {
                node.change(batch_settings(settings).expect("a batch processor stays one"));
            }
            (node, ..) => *node = self.node(position, place),
        }
    }

    /// Where the failures of a processor are counted.
    fn failures(&self, processor: usize, failed_spans: Counter) -> Failures {
        let series = FailureSeries {
            failed_spans,
            lost_spans: self.declared.processors[processor].common.dropped,
            caught_panics: self.declared.gauges.shard.caught_panics,
        };
        Failures::new(self.config.processors[processor].id.to_string(), series)
    }

    fn node(&self, position: usize, place: usize) -> Processor {
        let processor = self.config.pipelines[position].processors[place];
        let series = &self.declared.processors[processor];
        match (&self.config.processors[processor].kind, &series.own) {
            (ProcessorKind::MemoryLimiter { .. }, OwnSeries::MemoryLimiter(own)) => {
                Processor::MemoryLimiter(memory_limiter::MemoryLimiter::new(own.accepted))
            }
            (kind @ ProcessorKind::Batch { .. }, OwnSeries::Batch(own)) => {
                let settings = batch_settings(kind).expect("it is one");
                let signal = self.config.processors[processor].signal;
                let batcher = batch::Batcher::new(settings, signal, own.clone());
                let pipeline = &self.config.pipelines[position];
                let before = &pipeline.processors[..place];
                // What undecided traces have on disk stays there until it is known who owns what was kept.
                let is_behind_disk = before.iter().any(|&before| self.config.processors[before].storage.is_some());
                let keeps_acks = pipeline.ack != AckMode::Received || is_behind_disk;
                let combinations = self.declared.combinations[position][place].clone();
                Processor::Batch(Box::new(batcher.sharing(combinations).keeping_acks(keeps_acks)))
            }
            (ProcessorKind::Resource(settings), OwnSeries::Editor(failed)) => Processor::Resource(Box::new(
                resource::ResourceEditor::new(settings.clone(), self.failures(processor, *failed)),
            )),
            (ProcessorKind::Attributes { selection, actions }, OwnSeries::Editor(failed)) => {
                let failures = self.failures(processor, *failed);
                let (signal, selection) = (self.config.processors[processor].signal, selection.as_ref().clone());
                let editor = attributes::AttributesEditor::new(signal, selection, actions.clone(), failures);
                Processor::Attributes(Box::new(editor))
            }
            (ProcessorKind::Filter(settings), OwnSeries::Filter { own, failed_spans }) => {
                let failures = self.failures(processor, *failed_spans);
                let signal = self.config.processors[processor].signal;
                Processor::Filter(Box::new(filter::Filter::new(signal, settings, *own, failures)))
            }
            (ProcessorKind::Redaction(settings), OwnSeries::Editor(failed)) => Processor::Redaction(Box::new(
                redaction::Redactor::new(settings.clone(), self.failures(processor, *failed)),
            )),
            (ProcessorKind::GroupByTrace, _) => Processor::GroupByTrace,
            (ProcessorKind::ProbabilisticSampler(settings), OwnSeries::ProbabilisticSampler(own)) => {
                let node = probabilistic_sampler::ProbabilisticSampler::new(settings, own.clone());
                Processor::ProbabilisticSampler(Box::new(node))
            }
            (ProcessorKind::TailSampling(settings), OwnSeries::TailSampling(own)) => {
                let numbers = self.declared.numbers_of(settings);
                let settings = settings.share_of(self.context.shards);
                let sampler = self.sampler(settings.clone(), &numbers, &self.declared.rates[position][place]);
                let budget_bytes = self.context.lease.budget().limit_bytes() / self.context.shards as u64;
                let node = tail_sampling::TailSampling::new(sampler, own.clone())
                    .numbered(&numbers)
                    .with_journal(&settings.policies, budget_bytes);
                Processor::TailSampling(Box::new(node))
            }
            (ProcessorKind::Transform(settings), OwnSeries::Transform(own)) => {
                let id = self.config.processors[processor].id.to_string();
                let signal = self.config.processors[processor].signal;
                let losses = transform::Losses {
                    items: series.common.dropped,
                    caught_panics: self.declared.gauges.shard.caught_panics,
                };
                Processor::Transform(Box::new(transform::Transform::new(id, signal, settings, own.clone(), losses)))
            }
            (kind, _) => unreachable!("{kind:?} was declared with series of its own"),
        }
    }

    /// The settings with a memory of decisions that leaves most of a small budget to what is pending, if they do not say.
    fn remembering(&self, mut settings: sampling::Settings) -> sampling::Settings {
        let budget_bytes = self.context.lease.budget().limit_bytes();
        let shards = self.context.shards as u64;
        let memory = |part: u64, default: u64| Some(default.min(budget_bytes / part / shards));
        settings.kept_memory_bytes = settings.kept_memory_bytes.or_else(|| memory(KEPT_MEMORY_PART, KEPT_MEMORY_BYTES));
        settings.dropped_memory_bytes =
            settings.dropped_memory_bytes.or_else(|| memory(DROPPED_MEMORY_PART, DROPPED_MEMORY_BYTES));
        settings
    }

    /// A sampler whose own limits leave most of a small budget to what is pending.
    fn sampler(&self, settings: sampling::Settings, numbers: &[u16], rates: &SharedRates) -> Sampler {
        let budget_bytes = self.context.lease.budget().limit_bytes();
        let settings = self.remembering(settings);
        let mut limits = Limits::default();
        limits.giant_bytes = limits.giant_bytes.min(budget_bytes / GIANT_PART);
        let book = Rulebook { settings: &settings, numbers, rates };
        Sampler::ruled_by(book, self.hash_seed, FIRST_REASON, limits)
    }
}

/// Whether an exporter behind this pipeline wants the samples of a series in order. Forwards have no cycle.
fn needs_order(config: &Config, settings: &PipelineSettings) -> bool {
    let mut exporters = settings.exporters.iter().map(|&exporter| &config.exporters[exporter].kind);
    let mut targets = settings.forwards.iter().flat_map(|forward| &forward.targets);
    settings.signal == Signal::Metrics
        && (exporters.any(|kind| matches!(kind, ExporterKind::RemoteWrite(_)))
            || targets.any(|&target| needs_order(config, &config.pipelines[target])))
}

/// Reason of spans that the policy with number 0 keeps; 0 means that no sampler looked at them.
const FIRST_REASON: u16 = 1;

/// `None` of another processor.
fn batch_settings(kind: &ProcessorKind) -> Option<batch::Settings> {
    let ProcessorKind::Batch {
        timeout_ns,
        send_batch_size,
        send_batch_max_size,
        metadata_keys,
        metadata_combinations_max,
    } = kind
    else {
        return None;
    };
    Some(batch::Settings {
        timeout_ns: *timeout_ns,
        send_batch_size: *send_batch_size,
        send_batch_max_size: *send_batch_max_size,
        metadata_keys: metadata_keys.clone(),
        metadata_combinations_max: *metadata_combinations_max,
    })
}

/// What an exporter shows of itself, and where it writes.
struct Secrets<'a> {
    tls: Option<TlsClient>,
    file: Option<FileWriter>,
    authenticators: &'a Authenticators,
}

fn queue_of(
    settings: &ExporterSettings,
    position: usize,
    secrets: Secrets<'_>,
    declared: &Declared,
    reasons: &Reasons,
    context: &ShardContext,
) -> Result<Rc<Queue>, String> {
    let own = declared.own_exporters[position].clone();
    let Secrets { tls, file, authenticators } = secrets;
    let mut settings = settings.clone();
    if let ExporterKind::RemoteWrite(remote) = &mut settings.kind {
        let share = context.lease.budget().limit_bytes() / LABEL_CACHES_PART / context.shards as u64;
        let cache_bytes_max = &mut remote.translation.cache_bytes_max;
        *cache_bytes_max = usize::try_from(share).map_or(*cache_bytes_max, |share| share.min(*cache_bytes_max));
    }
    let settings = &settings;
    let exporter = Exporter::new(settings, tls, file, authenticators, Rc::clone(reasons), own, context.number)?;
    let retry = settings.kind.client().and_then(|client| client.retry.clone());
    // Exporters that deliver at once need no queue, and a file takes a few requests at a time.
    let without = QueueSettings { enabled: false, num_consumers: 8, queue_size: 64, ..QueueSettings::default() };
    let queue = settings.queue().unwrap_or(&without);
    Ok(Queue::new(exporter, queue, retry, declared.exporters[position].clone(), context.clone()))
}

/// The refusal counters of every memory_limiter in these pipelines, each once.
fn refusal_counters(config: &Config, declared: &Declared, pipelines: &[usize]) -> Vec<Counter> {
    let processors = pipelines.iter().flat_map(|&pipeline| &config.pipelines[pipeline].processors);
    let mut counters: Vec<Counter> = Vec::new();
    for &processor in processors {
        if let OwnSeries::MemoryLimiter(own) = &declared.processors[processor].own
            && !counters.contains(&own.refused)
        {
            counters.push(own.refused);
        }
    }
    counters
}

/// One server per protocol of each receiver, in the order of [`super::listeners`].
fn servers_of(
    config: &Config,
    declared: &Declared,
    authenticators: &Authenticators,
    pipelines: &Rc<RefCell<Pipelines>>,
    balance: &Rc<Balance>,
    context: &ShardContext,
) -> Vec<Server> {
    let unpacker = Rc::default();
    let clients = Clients::default();
    let senders = Senders::new(config.engine.fair_share, &context.lease);
    let mut servers = Vec::new();
    for (number, receiver) in config.receivers.iter().enumerate() {
        let [grpc_series, http_series] = &declared.receivers[number];
        let handler = |servers: &Vec<Server>, transport, bytes_max, series: &ReceiverSeries, head: &HeadSettings| {
            let door = Door::new(head, &receiver.wanted, authenticators, clients.clone());
            Rc::new(OtlpReceiver {
                number,
                handler: servers.len(),
                transport,
                bytes_max,
                series: Rc::new(series.clone()),
                door: Rc::new(door),
                complaints: declared.complaints[number][transport as usize].clone(),
                peer: None,
                share: None,
                senders: Rc::clone(&senders),
                caught_panics: declared.gauges.shard.caught_panics,
                pipelines: Rc::clone(pipelines),
                balance: Rc::clone(balance),
                unpacker: Rc::clone(&unpacker),
                shard: context.clone(),
            })
        };
        let signals = config.signals_of(number);
        if let Some(grpc) = &receiver.otlp.grpc {
            let server = GrpcServer {
                signals: signals.clone(),
                message_bytes_max: grpc.message_bytes_max,
                streams_max: grpc.streams_max,
                keepalive: grpc.keepalive.clone(),
                clock: context.clock,
            };
            let handler = handler(&servers, Transport::Grpc, grpc.message_bytes_max, grpc_series, &grpc.head);
            servers.push(Server::Grpc(server, handler));
        }
        if let Some(http) = &receiver.otlp.http {
            let server = Box::new(HttpServer::new(http, &signals));
            let handler = handler(&servers, Transport::Http, http.body_bytes_max, http_series, &http.head);
            servers.push(Server::Http(server, handler));
        }
    }
    servers
}

/// Follows what receivers of files read, for those whose shard this is.
fn take_from_files(
    feeds: Vec<FileFeed>,
    config: &Config,
    declared: &Declared,
    authenticators: &Authenticators,
    pipelines: &Rc<RefCell<Pipelines>>,
    balance: &Rc<Balance>,
    context: &ShardContext,
) {
    for FileFeed { receiver: number, arrivals } in feeds {
        let receiver = &config.receivers[number];
        let soft_bytes = context.lease.budget().soft_bytes();
        let files = receiver.otlp.files.as_ref();
        let bytes_max = files.map_or(0, |files| record_bytes_max(files, soft_bytes));
        let door = Door::new(&HeadSettings::default(), &receiver.wanted, authenticators, Clients::default());
        let intake = FileIntake::new(Rc::new(OtlpReceiver {
            number,
            // No other shard is ever given a record: a file has an order.
            handler: usize::MAX,
            transport: Transport::File,
            bytes_max,
            series: Rc::new(declared.receivers[number][0].clone()),
            door: Rc::new(door),
            complaints: declared.complaints[number][0].clone(),
            peer: None,
            share: None,
            senders: Senders::new(config.engine.fair_share, &context.lease),
            caught_panics: declared.gauges.shard.caught_panics,
            pipelines: Rc::clone(pipelines),
            balance: Rc::clone(balance),
            unpacker: Rc::default(),
            shard: context.clone(),
        }));
        runtime::spawn(intake.follow(arrivals));
    }
}
