//! `tracegate` without a sub-command: the gateway's life from its configuration to its ledger.
//!
//! ```text
//! configuration -> plan (cores, runtime, budget) -> listeners -> shards -> accept, serve admin
//!     files change, SIGHUP -> read again, applied or refused        (`reload`)
//!     signal -> readiness off -> listeners closed -> drain, step by step -> ledger
//! ```
//!
//! Everything that can be known to be wrong is found before the first connection is taken. This thread is the control
//! thread: it runs admin pages, signals and the acceptors, and never touches a span.

use super::banner::{self, PortUse};
use super::logs_on_disk::LogsOnDisk;
use super::reload::{Origin, Reading, Reload};
use super::{ConfigArguments, port_owner};
use crate::admin::{self, Face, Readiness, Serving, View};
use crate::auth::Authenticators;
use crate::config;
use crate::config::checked::{Config, ExporterKind, ExporterSettings, ProcessorKind, ReceiverSettings, RuntimeChoice};
use crate::exporter::Exporter;
use crate::exporter::file::{FileWriter, Files};
use crate::queue::log::Log;
use crate::receiver::file::reader::{Feed, Readers};
use crate::shard::allocator;
use crate::shard::assemble::{Declared, ShardSeed};
use crate::shard::budget::Budget;
use crate::shard::clock::Clock;
use crate::shard::fleet::{Berth, Fleet};
use crate::shard::mesh::mesh;
use crate::shard::placement::{self, Machine, Plan};
use crate::shard::runtime::{self, Runtime};
use crate::telemetry::ledger::Books;
use crate::telemetry::logs::{self, Logs};
use crate::transport::acceptor::{self, ListenAddress, Listener};
use crate::transport::gate::Gate;
use crate::transport::tls::{Certificates, TlsClient};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// How long nothing may arrive before a hint is printed.
const HINT_AFTER: Duration = Duration::from_secs(30);
/// Memory of all rings together.
const RING_BYTES: usize = 8 << 20;
/// The share of a cgroup's memory that is the budget where nothing else is said.
const CGROUP_SHARE: f64 = 0.75;
/// The part of the limit that lies above the soft limit where nothing else is said: a fifth, as in the Collector.
const SPIKE_PART: u64 = 5;

/// What was decided before anything started.
#[derive(Debug)]
struct Decided {
    /// Which shards on which cores, and why.
    plan: Plan,
    runtime: Runtime,
    runtime_reason: String,
    /// The process budget: (limit, spike) in bytes, and where it comes from.
    budget: (u64, u64),
    budget_reason: &'static str,
}

/// Runs the gateway until it is told to stop.
pub fn run(
    arguments: ConfigArguments,
    look_up: fn(&str) -> Option<String>,
    machine: crate::config::Machine,
    color: bool,
) -> ExitCode {
    allocator::only_small_pages();
    let origin = Origin { arguments, look_up, machine };
    match load(&origin, color).and_then(|(config, reading)| start_and_serve(config, origin, reading)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{}", message.trim_end());
            ExitCode::FAILURE
        }
    }
}

/// The checked configuration, and what it was read from; warnings are printed, errors are the error.
fn load(origin: &Origin, color: bool) -> Result<(Config, Reading), String> {
    let mut reading = origin.read()?;
    let loaded = &mut reading.loaded;
    let rendered = config::render(&loaded.diagnostics, color);
    match loaded.config.take() {
        Some(config) => {
            eprint!("{rendered}");
            Ok((config, reading))
        }
        None if loaded.fragment && rendered.is_empty() => {
            Err("this is a valid fragment without service: merge it over a configuration with one".to_owned())
        }
        None => Err(rendered),
    }
}

fn start_and_serve(config: Config, origin: Origin, reading: Reading) -> Result<(), String> {
    // Before any other thread exists: glommio registers the process with the kernel.
    glommio::early_init();
    let logs =
        logs::start(config.telemetry.logs.clone()).map_err(|error| format!("the log cannot be started: {error}"))?;
    let decided = decide(&config)?;
    let config = Arc::new(config);
    let listeners = acceptor::bind_all(&config).map_err(|error| cannot_bind(&error))?;
    let declared = Arc::new(Declared::of(&config));
    let connections: Arc<Vec<AtomicUsize>> = Arc::new((0..decided.plan.shards).map(|_| AtomicUsize::new(0)).collect());
    let certificates = Certificates::default();
    let gates = Arc::new(Gate::of_receivers(&config, &certificates)?);
    let extension_gates = Gate::of_extensions(&config, &certificates)?;
    let tls = exporters_tls(&config, &certificates)?;
    let authenticators = Authenticators::new(&config)?;
    let logs_on_disk = LogsOnDisk::open(&config, decided.plan.shards)?;
    let files = Files::open(&config)?;
    let given = Given {
        tls: Arc::new(tls),
        files: files.writers(&config),
        gates,
        authenticators: authenticators.clone(),
        logs: logs_on_disk.queues(),
        pending_logs: logs_on_disk.samplers(),
    };
    let (mut readers, feeds) = Readers::new(&config);
    let fleet = Rc::new(start_shards(&config, &declared, &decided, &connections, given, feeds)?);
    readers.start(&config, decided.budget.0 - decided.budget.1)?;
    let control = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let control = control.map_err(|error| format!("the control thread cannot start: {error}"))?;
    let gateway = Gateway {
        config,
        name: origin.arguments.names(),
        declared,
        decided,
        listeners,
        extension_gates,
        certificates,
        authenticators,
        fleet: Rc::clone(&fleet),
        logs: logs.clone(),
    };
    let served = tokio::task::LocalSet::new().block_on(&control, gateway.serve(origin, reading));
    drop(control);
    if let Ok(fleet) = Rc::try_unwrap(fleet) {
        fleet.end();
    }
    readers.close();
    files.close();
    logs_on_disk.close();
    logs.flush();
    served.map(|ledger| eprintln!("{ledger}"))
}

/// What exporters trust and show, by their number.
fn exporters_tls(config: &Config, certificates: &Certificates) -> Result<Vec<Option<TlsClient>>, String> {
    let read = |settings: &ExporterSettings| {
        let tls = Exporter::tls(settings)?;
        if let Some(tls) = &tls {
            certificates.watch_client(format!("exporter {}", settings.id), tls.clone());
        }
        Ok(tls)
    };
    config.exporters.iter().map(read).collect()
}

/// Whose port it is, and what moves ours.
fn cannot_bind(error: &acceptor::BindError) -> String {
    let wanted = PortUse::Receiver { receiver: error.receiver.clone(), protocol: error.protocol };
    match &error.address {
        ListenAddress::Internet(address) => banner::cannot_listen(&wanted, *address, &error.error, port_owner::find),
        ListenAddress::Unix(path) => banner::cannot_listen_at_path(&wanted, path, &error.error),
    }
}

/// Everything that depends on the machine.
fn decide(config: &Config) -> Result<Decided, String> {
    let machine = Machine::read();
    let plan = placement::plan(&machine, &config.engine).map_err(|impossible| impossible.to_string())?;
    let (runtime, runtime_reason) = choose_runtime(config.engine.runtime)?;
    let (budget, budget_reason) = budget_of(config, machine.memory_bytes());
    Ok(Decided { plan, runtime, runtime_reason, budget, budget_reason })
}

fn choose_runtime(choice: RuntimeChoice) -> Result<(Runtime, String), String> {
    match (choice, runtime::probe_io_uring()) {
        (RuntimeChoice::Epoll, _) => Ok((Runtime::Epoll, "the configuration asks for it".to_owned())),
        (RuntimeChoice::IoUring, Ok(())) => Ok((Runtime::IoUring, "the configuration asks for it".to_owned())),
        (RuntimeChoice::IoUring, Err(why)) => Err(format!("service.engine.runtime is io_uring, but {why}")),
        (RuntimeChoice::Auto, Ok(())) => Ok((Runtime::IoUring, "this kernel and container allow it".to_owned())),
        (RuntimeChoice::Auto, Err(why)) => Ok((Runtime::Epoll, why)),
    }
}

/// `memory_limit_mib`, else the smallest memory_limiter's, else a share of what the process may use.
pub(super) fn budget_of(config: &Config, memory_bytes: u64) -> ((u64, u64), &'static str) {
    let limiters = config.processors.iter().filter_map(|processor| match processor.kind {
        ProcessorKind::MemoryLimiter { limit_bytes, spike_bytes } => Some((limit_bytes, spike_bytes)),
        _ => None,
    });
    match (config.engine.memory_limit_bytes, limiters.min()) {
        (Some(limit), limiter) => {
            let spike = limiter.map(|(_, spike)| spike).filter(|&spike| spike < limit);
            ((limit, spike.unwrap_or(limit / SPIKE_PART)), "service.engine.memory_limit_mib")
        }
        (None, Some(limits)) => (limits, "the smallest memory_limiter"),
        (None, None) => {
            let limit = (memory_bytes as f64 * CGROUP_SHARE) as u64;
            ((limit, limit / SPIKE_PART), "75 % of the memory this process may use")
        }
    }
}

/// What every shard is given of what the process has opened.
struct Given {
    /// By the exporter's number.
    tls: Arc<Vec<Option<TlsClient>>>,
    /// By the exporter's number.
    files: Arc<Vec<Option<FileWriter>>>,
    /// By the listener's number.
    gates: Arc<Vec<Gate>>,
    authenticators: Authenticators,
    /// By the exporter's number.
    logs: Arc<Vec<Option<Log>>>,
    /// By the processor's number.
    pending_logs: Arc<Vec<Option<Log>>>,
}

fn start_shards(
    config: &Arc<Config>,
    declared: &Arc<Declared>,
    decided: &Decided,
    connections: &Arc<Vec<AtomicUsize>>,
    given: Given,
    feeds: Vec<Feed>,
) -> Result<Fleet, String> {
    let shards = decided.plan.shards;
    let (limit_bytes, spike_bytes) = decided.budget;
    let budget = Budget::new(limit_bytes, spike_bytes, shards);
    let clock = Clock::start();
    let hash_seed = fastrand::u64(..);
    let mut feeds_of: Vec<Vec<Feed>> = (0..shards).map(|_| Vec::new()).collect();
    for feed in feeds {
        feeds_of[feed.receiver % shards].push(feed);
    }
    let seeds = mesh(shards, RING_BYTES).into_iter().enumerate().map(|(number, mesh)| ShardSeed {
        number,
        shards,
        config: Arc::clone(config),
        declared: Arc::clone(declared),
        clock,
        lease: budget.lease(),
        mesh,
        tls: Arc::clone(&given.tls),
        files: Arc::clone(&given.files),
        feeds: std::mem::take(&mut feeds_of[number]),
        gates: Arc::clone(&given.gates),
        authenticators: given.authenticators.clone(),
        logs: Arc::clone(&given.logs),
        pending_logs: Arc::clone(&given.pending_logs),
        hash_seed,
        connections: Arc::clone(connections),
    });
    let core = |shard: usize| decided.plan.cores.as_ref().map(|cores| cores[shard]);
    let berths: Vec<Berth> = (0..shards).map(|shard| Berth { runtime: decided.runtime, core: core(shard) }).collect();
    Fleet::start(seeds.collect(), &berths, Arc::clone(connections))
}

/// A gateway whose shards run and whose ports are bound.
struct Gateway {
    config: Arc<Config>,
    /// What the configuration is called.
    name: String,
    declared: Arc<Declared>,
    decided: Decided,
    listeners: Vec<Listener>,
    extension_gates: Vec<Gate>,
    certificates: Certificates,
    authenticators: Authenticators,
    fleet: Rc<Fleet>,
    logs: Logs,
}

impl Gateway {
    /// The control thread's part, from the first connection to the ledger, which is returned.
    async fn serve(self, origin: Origin, reading: Reading) -> Result<String, String> {
        // Before anybody is told that it is up: who ends it right then asks, and is answered with the ledger.
        let mut asked = Asked::listen()?;
        let (stop, stopped) = watch::channel(false);
        let schema = self.declared.schema.clone();
        let logs = Some(self.logs.clone());
        let view = View::new(Rc::clone(&self.fleet), schema, &self.config, logs, fastrand::u128(..));
        let view = Rc::new(view.with_certificates(self.certificates.clone()));
        let serving = admin::serve(&self.config, &self.extension_gates, &view).await.map_err(|error| {
            let wanted = match error.face {
                Face::Metrics => PortUse::Metrics,
                Face::Admin => PortUse::Admin,
                Face::Extension(number) => PortUse::Extension(Box::new(self.config.extensions[number].clone())),
            };
            banner::cannot_listen(&wanted, error.address, &error.error, port_owner::find)
        })?;
        let facts = self.facts(serving);
        tokio::task::spawn_local(self.authenticators.watch());
        tokio::task::spawn_local(self.certificates.watch());
        for listener in self.listeners {
            tokio::task::spawn_local(acceptor::accept(listener, Rc::clone(&self.fleet), stopped.clone()));
        }
        let (config, declared) = (Arc::clone(&self.config), Arc::clone(&self.declared));
        let reload = Reload::new(origin, reading, config, declared, Rc::clone(&self.fleet), Rc::clone(&view))?;
        view.show(Readiness::Ready);
        eprint!("{}", banner::start(&facts));
        tokio::task::spawn_local(hint_if_silent(Rc::clone(&view), facts));
        tokio::select! {
            () = asked.again() => {}
            () = reload.follow() => {}
        }
        view.show(Readiness::Draining);
        // Nobody listens where no listener is left.
        let _ = stop.send(true);
        tokio::select! {
            () = self.fleet.drain(Duration::from_nanos(self.config.engine.shutdown_timeout_ns)) => {}
            // Whoever asks twice does not want to wait; what is given up is counted.
            () = asked.again() => {}
        }
        self.fleet.give_up().await;
        let totals = self.declared.schema.fold(&self.fleet.snapshot().await);
        Ok(Books::read(&self.declared.schema, &totals).sentence())
    }

    /// What the first lines say.
    fn facts(&self, serving: Serving) -> banner::Start {
        let keeps_traces =
            self.config.exporters.iter().any(|exporter| matches!(exporter.kind, ExporterKind::Memory { .. }));
        let wall_time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        banner::Start {
            receivers: self.listeners.iter().map(Listener::listening).collect(),
            files: self.config.receivers.iter().filter_map(reading).collect(),
            metrics: serving.metrics,
            admin: serving.admin,
            extensions: serving.extensions,
            runtime: self.decided.runtime.name().to_owned(),
            runtime_reason: self.decided.runtime_reason.clone(),
            shards: self.decided.plan.shards,
            pinned_cores: self.decided.plan.cores.clone(),
            pin_reason: self.decided.plan.why.clone(),
            memory_limit_bytes: self.decided.budget.0,
            memory_reason: self.decided.budget_reason.to_owned(),
            configuration: self.name.clone(),
            keeps_traces,
            unix_ns: u64::try_from(wall_time.as_nanos()).unwrap_or(u64::MAX),
            seed: fastrand::u64(..),
        }
    }
}

/// What a receiver of files reads.
fn reading(receiver: &ReceiverSettings) -> Option<banner::Reading> {
    let files = receiver.otlp.files.as_ref()?;
    let patterns = files.include.iter().map(|pattern| pattern.to_string()).collect();
    Some(banner::Reading { receiver: receiver.id.to_string(), patterns, starts_at_end: files.starts_at_end })
}

/// Prints a hint when nothing has been received for a while after the start.
async fn hint_if_silent(view: Rc<View<Rc<Fleet>>>, facts: banner::Start) {
    tokio::time::sleep(HINT_AFTER).await;
    let books = view.books().await;
    if books.is_some_and(|books| books.is_silent()) {
        eprintln!("{}", banner::nothing_received(&facts));
    }
}

/// Who asks the gateway to end: Ctrl-C, or whoever runs it.
struct Asked {
    interrupt: Signal,
    terminate: Signal,
}

impl Asked {
    /// From here on a signal no longer ends the process where it stands.
    fn listen() -> Result<Asked, String> {
        let listen = |kind| signal(kind).map_err(|error| format!("signals cannot be received: {error}"));
        Ok(Asked { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Returns when it is asked once more.
    async fn again(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
