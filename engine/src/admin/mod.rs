//! What people and scrapers ask of a running gateway, over HTTP on the control thread.
//!
//! ```text
//! metrics address: /metrics
//! admin address:   /  /overview  /ledger  /traces  /traces/<id>  /explain/<id>  /ready  /live
//!                  (zpages: the same, and /debug/...)
//! pprof:           /debug/pprof/...  (at the metrics address for this machine only)
//! health_check:    the configured path, /status in its second version, grpc.health.v1 over gRPC
//!                        |
//! control thread --ask--> inbox of each shard --answered between two batches--> snapshot, kept traces
//! ```
//!
//! `pages` knows what is said, `profiles` what is profiled, `server` knows sockets. Nothing here is on the data path, and a shard that does not
//! answer costs a page, never a wait without end.

pub mod critical_path;
mod grpc_health;
mod health;
mod host;
pub mod overview;
mod pages;
mod profiles;
mod server;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use overview::ConfigurationView;
pub use pages::{Face, Page};
pub use server::{BindError, Serving, serve};

use sampling::settings::Rule;
use tokio::sync::watch;

use crate::config::checked::{
    ComponentId, Config, ExtensionKind, MetricNames, MetricsLevel, ProcessorKind, ResourceLabel, Sizer,
};
use crate::connector::span_metrics::{Forgotten, Plan, Snapshot};
use crate::exporter::memory::KeptTrace;
use crate::processor::explanation::Explanation;
use crate::profile::tasks::Tasks;
use crate::telemetry::cells::Schema;
use crate::telemetry::ledger::Books;
use crate::telemetry::logs::Logs;
use crate::telemetry::{metrics, process};
use crate::transport::tls::Certificates;

/// The shards, as the control thread reaches them.
pub trait Shards {
    /// A copy of every shard's cells, in the order of the shards.
    fn snapshot(&self) -> impl Future<Output = Vec<Vec<u64>>>;

    /// The kept traces of every shard, in any order; empty without a memory exporter.
    fn traces(&self) -> impl Future<Output = Vec<KeptTrace>>;

    /// How samplers of every shard decided the traces whose ids begin with these digits, with the pipeline's number.
    fn explain(&self, digits: &str) -> impl Future<Output = Vec<(usize, Explanation)>>;

    /// Of every shard, the series of each `span_metrics` connector.
    fn span_metrics(&self) -> impl Future<Output = Vec<Vec<Snapshot>>>;

    /// The tasks of every shard, in the order of the shards.
    fn tasks(&self) -> impl Future<Output = Tasks>;

    /// Lets every shard give up series of a connector.
    fn forget(&self, connector: usize, forgotten: Forgotten);
}

/// What the pages are made of.
#[derive(Debug)]
pub struct View<S> {
    /// Grows with the configuration.
    schema: RefCell<Arc<Schema>>,
    shards: S,
    /// What each `span_metrics` connector counts.
    span_metrics: Vec<Arc<Plan>>,
    level: MetricsLevel,
    names: MetricNames,
    /// Labels of `target_info`.
    resource: Vec<(String, String)>,
    /// What extensions show, by their number.
    extensions: Vec<(ComponentId, ExtensionKind)>,
    /// Pipelines with the ids of their components.
    pipelines: Vec<PipelineNames>,
    /// Labels of policies that nobody listens to.
    dry_policies: RefCell<Vec<String>>,
    /// What the queue of each exporter counts.
    queue_units: RefCell<BTreeMap<String, &'static str>>,
    configuration: RefCell<ConfigurationView>,
    /// The log, for what it did not write; `None` where none was started.
    logs: Option<Logs>,
    /// TLS files, for how often they changed.
    certificates: Certificates,
    readiness: Cell<Readiness>,
    /// When readiness was last changed.
    since: Cell<Moment>,
    /// Tells those who watch that it was.
    changes: watch::Sender<()>,
    /// Calls of the health service that watch.
    watchers: Cell<usize>,
    started: Moment,
    /// A page gives up on the shards after this long.
    answer_wait: Duration,
}

/// A moment on both clocks: one to tell, one to measure with.
#[derive(Clone, Copy, Debug)]
struct Moment {
    unix_ms: u64,
    instant: Instant,
}

impl Moment {
    fn now() -> Moment {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Moment { unix_ms: u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX), instant: Instant::now() }
    }
}

/// A pipeline and its components, as health checks and zpages name them.
#[derive(Clone, Debug)]
struct PipelineNames {
    id: String,
    receivers: Vec<String>,
    processors: Vec<String>,
    exporters: Vec<String>,
}

impl PipelineNames {
    fn of(config: &Config) -> Vec<PipelineNames> {
        let connectors_into = |number: usize| {
            let forwards = config.pipelines.iter().flat_map(|pipeline| &pipeline.forwards);
            let mut ids: Vec<String> = forwards
                .filter(|forward| forward.targets.contains(&number))
                .map(|forward| forward.id.to_string())
                .collect();
            ids.dedup();
            let counting = config.span_metrics.iter().filter(|connector| connector.targets.contains(&number));
            ids.extend(counting.map(|connector| connector.id.to_string()));
            ids
        };
        let names = |(number, pipeline): (usize, &crate::config::checked::PipelineSettings)| {
            let receivers = pipeline.receivers.iter().map(|&at| config.receivers[at].id.to_string());
            let processors = pipeline.processors.iter().map(|&at| config.processors[at].id.to_string());
            let exporters = pipeline.exporters.iter().map(|&at| config.exporters[at].id.to_string());
            let forwards = pipeline.forwards.iter().map(|forward| forward.id.to_string());
            let counting = pipeline.span_metrics.iter().map(|&at| config.span_metrics[at].id.to_string());
            PipelineNames {
                id: pipeline.id.to_string(),
                receivers: receivers.chain(connectors_into(number)).collect(),
                processors: processors.collect(),
                exporters: exporters.chain(forwards).chain(counting).collect(),
            }
        };
        config.pipelines.iter().enumerate().map(names).collect()
    }
}

impl<S: Shards> View<S> {
    /// A gateway that is starting. `instance_id` is any random number: the name of this process among its equals,
    /// unless `service.telemetry.resource` says another.
    pub fn new(shards: S, schema: Schema, config: &Config, logs: Option<Logs>, instance_id: u128) -> View<S> {
        View {
            schema: RefCell::new(Arc::new(schema)),
            shards,
            span_metrics: config.span_metrics.iter().map(|it| Arc::new(Plan::new(it.settings.clone()))).collect(),
            level: config.telemetry.metrics_level,
            names: config.telemetry.metrics_names,
            resource: resource_labels(&config.telemetry.resource, instance_id),
            extensions: config.extensions.iter().map(|it| (it.id.clone(), it.kind.clone())).collect(),
            pipelines: PipelineNames::of(config),
            dry_policies: RefCell::new(dry_policies(config)),
            queue_units: RefCell::new(queue_units(config)),
            configuration: RefCell::default(),
            logs,
            certificates: Certificates::default(),
            readiness: Cell::new(Readiness::Starting),
            since: Cell::new(Moment::now()),
            changes: watch::Sender::new(()),
            watchers: Cell::new(0),
            started: Moment::now(),
            answer_wait: ANSWER_WAIT,
        }
    }

    /// The same with the TLS files of this process.
    pub fn with_certificates(self, certificates: Certificates) -> View<S> {
        View { certificates, ..self }
    }

    /// Whether gRPC is spoken at this address, and not HTTP/1.1.
    fn is_grpc(&self, face: Face) -> bool {
        let Face::Extension(number) = face else { return false };
        matches!(self.extensions[number], (_, ExtensionKind::HealthCheckGrpc(_)))
    }

    /// Changes what `/ready` says.
    pub fn show(&self, readiness: Readiness) {
        self.readiness.set(readiness);
        self.since.set(Moment::now());
        self.changes.send_replace(());
    }

    /// Another configuration is in force, with the same components in the same pipelines; its schema goes on from the one
    /// before.
    pub fn reconfigured(&self, schema: Schema, config: &Config) {
        self.schema.replace(Arc::new(schema));
        self.dry_policies.replace(dry_policies(config));
        self.queue_units.replace(queue_units(config));
    }

    /// Changes what is told of the configuration.
    pub fn tell(&self, configuration: ConfigurationView) {
        self.configuration.replace(configuration);
    }

    /// Every series that there is now. To be asked after a snapshot, which has at least these.
    fn schema(&self) -> Arc<Schema> {
        Arc::clone(&self.schema.borrow())
    }

    /// Every view of the whole process, from one snapshot; `None` if a shard does not answer.
    async fn overview(&self) -> Option<overview::Overview> {
        let shards = tokio::time::timeout(self.answer_wait, self.shards.snapshot()).await.ok()?;
        let (schema, dry_policies) = (self.schema(), self.dry_policies.borrow().clone());
        let queue_units = self.queue_units.borrow().clone();
        let sources = overview::Sources {
            schema: &schema,
            shards: &shards,
            pipelines: &self.pipelines,
            dry_policies: &dry_policies,
            queue_units: &queue_units,
            configuration: self.configuration.borrow().clone(),
            process: process::read(),
            readiness: self.readiness.get(),
            uptime_ms: u64::try_from(self.started.instant.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        Some(sources.overview())
    }

    /// The books of the whole process; `None` if a shard does not answer.
    pub async fn books(&self) -> Option<Books> {
        let answer = tokio::time::timeout(self.answer_wait, self.shards.snapshot()).await;
        let schema = self.schema();
        answer.ok().map(|shards| Books::read(&schema, &schema.fold(&shards)))
    }
}

/// The unit of each exporter's queue.
fn queue_units(config: &Config) -> BTreeMap<String, &'static str> {
    let unit = |sizer| match sizer {
        Sizer::Requests => "requests",
        Sizer::Items => "items",
        Sizer::Bytes => "bytes",
    };
    let named = config.exporters.iter().filter_map(|exporter| Some((exporter.id.to_string(), exporter.queue()?.sizer)));
    named.map(|(id, sizer)| (id, unit(sizer))).collect()
}

fn dry_policies(config: &Config) -> Vec<String> {
    let samplers = config.processors.iter().filter_map(|processor| match &processor.kind {
        ProcessorKind::TailSampling(settings) => Some((processor.id.to_string(), &settings.policies)),
        _ => None,
    });
    let dry = samplers.flat_map(|(id, policies)| {
        let dry = policies.iter().filter(|policy| matches!(policy.rule, Rule::DryRun(_)));
        dry.map(|policy| metrics::policy_label(&id, &policy.name)).collect::<Vec<_>>()
    });
    dry.collect()
}

/// Ours, and those of the configuration, which win; a label without a value is left out. Prometheus knows no dots.
fn resource_labels(configured: &[ResourceLabel], instance_id: u128) -> Vec<(String, String)> {
    let mut labels = vec![
        ("service_instance_id".to_owned(), format!("{instance_id:032x}")),
        ("service_name".to_owned(), "tracegate".to_owned()),
        ("service_version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    ];
    let allowed = |character: char| if character.is_ascii_alphanumeric() { character } else { '_' };
    for ResourceLabel { name, value } in configured {
        let mut name: String = name.chars().map(allowed).collect();
        if !name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') {
            name.insert(0, '_');
        }
        labels.retain(|(known, _)| *known != name);
        labels.extend(value.clone().map(|value| (name, value)));
    }
    labels
}

/// How long a page waits for the shards. A shard that takes longer is not alive.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// Whether senders should send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Not all shards listen yet.
    Starting,
    /// Send.
    Ready,
    /// Finishing what was accepted; send elsewhere.
    Draining,
}
