//! `tracegate` without a sub-command: the gateway's life from its configuration to its ledger.
//!
//! ```text
//! configuration -> plan (cores, runtime, budget) -> listeners -> shards -> accept, serve admin
//!     signal -> readiness off -> listeners closed -> drain, step by step -> ledger
//! ```
//!
//! Everything that can be known to be wrong is found before the first connection is taken. This thread is the control
//! thread: it runs admin pages, signals and the acceptors, and never touches a span.

use crate::admin;
use crate::cli::banner;
use crate::config::checked::{Config, ProcessorKind, RuntimeChoice};
use crate::shard::assemble::{Declared, ShardSeed};
use crate::shard::budget::Budget;
use crate::shard::clock::Clock;
use crate::shard::fleet::{Berth, Fleet};
use crate::shard::mesh::mesh;
use crate::shard::placement::{self, Machine, Plan};
use crate::shard::runtime::{self, Runtime};
use crate::telemetry::ledger::Books;
use crate::exporter::Exporter;
use crate::transport::tls::TlsClient;
use crate::transport::acceptor::{self, Listener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;
use tokio::sync::watch;

/// How long nothing may arrive before a hint is printed.
const HINT_AFTER: Duration = Duration::from_secs(30);
/// Memory of all rings together.
const RING_BYTES: usize = 8 << 20;
/// The share of a cgroup's memory that is the budget where nothing else is said.
const CGROUP_SHARE: f64 = 0.75;

/// What was decided before anything started.
#[derive(Debug)]
pub struct Decided {
    /// Which shards on which cores, and why.
    pub plan: Plan,
    /// Which runtime.
    pub runtime: Runtime,
    /// Why that one, in words for the operator.
    pub runtime_reason: String,
    /// The process budget: (limit, spike) in bytes.
    pub budget: (u64, u64),
}

/// Runs the gateway until it is told to stop; returns the exit code.
pub fn run(config: Config) -> i32 {
    match start_and_serve(config) {
        Ok(()) => 0,
        Err(message) => {
            eprintln!("{message}");
            1
        }
    }
}

fn start_and_serve(config: Config) -> Result<(), String> {
    let decided = decide(&config)?;
    let config = Arc::new(config);
    let listeners = acceptor::bind_all(&config).map_err(|error| banner::port_taken(&error))?;
    let declared = Arc::new(Declared::of(&config));
    let connections: Arc<Vec<AtomicUsize>> = Arc::new((0..decided.plan.shards).map(|_| AtomicUsize::new(0)).collect());
    let tls = config.exporters.iter().map(Exporter::tls).collect::<Result<Vec<_>, _>>()?;
    let fleet = start_shards(&config, &declared, &decided, &connections, Arc::new(tls))?;
    let control = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let control = control.map_err(|error| format!("the control thread cannot start: {error}"))?;
    tokio::task::LocalSet::new().block_on(&control, serve(config, declared, decided, listeners, fleet))
}

/// Everything that depends on the machine.
fn decide(config: &Config) -> Result<Decided, String> {
    let machine = Machine::read();
    let plan = placement::plan(&machine, &config.engine)?;
    let (runtime, runtime_reason) = choose_runtime(config.engine.runtime)?;
    let budget = budget_of(config, machine.memory_bytes);
    Ok(Decided { plan, runtime, runtime_reason, budget })
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
fn budget_of(config: &Config, memory_bytes: u64) -> (u64, u64) {
    let smallest = config.processors.iter().filter_map(|processor| match processor.kind {
        ProcessorKind::MemoryLimiter { limit_bytes, spike_bytes } => Some((limit_bytes, spike_bytes)),
        _ => None,
    });
    let smallest = smallest.min();
    match (config.engine.memory_limit_bytes, smallest) {
        (Some(limit), Some((_, spike))) if spike < limit => (limit, spike),
        (Some(limit), _) => (limit, limit / 5),
        (None, Some(limits)) => limits,
        (None, None) => {
            let limit = (memory_bytes as f64 * CGROUP_SHARE) as u64;
            (limit, limit / 5)
        }
    }
}

fn start_shards(
    config: &Arc<Config>,
    declared: &Arc<Declared>,
    decided: &Decided,
    connections: &Arc<Vec<AtomicUsize>>,
    tls: Arc<Vec<Option<TlsClient>>>,
) -> Result<Fleet, String> {
    let shards = decided.plan.shards;
    let (limit_bytes, spike_bytes) = decided.budget;
    let budget = Budget::new(limit_bytes, spike_bytes, shards);
    let clock = Clock::start();
    let hash_seed = fastrand::u64(..);
    let seeds = mesh(shards, RING_BYTES).into_iter().enumerate().map(|(number, mesh)| ShardSeed {
        number,
        shards,
        config: Arc::clone(config),
        declared: Arc::clone(declared),
        clock,
        lease: budget.lease(),
        mesh,
        tls: Arc::clone(&tls),
        hash_seed,
        connections: Arc::clone(connections),
    });
    let core = |shard: usize| decided.plan.cores.as_ref().filter(|_| decided.plan.pinned).map(|cores| cores[shard]);
    let berths: Vec<Berth> = (0..shards).map(|shard| Berth { runtime: decided.runtime, core: core(shard) }).collect();
    Fleet::start(seeds.collect(), &berths, Arc::clone(connections))
}

/// The control thread's part: from the first connection to the last line.
async fn serve(
    config: Arc<Config>,
    declared: Arc<Declared>,
    decided: Decided,
    listeners: Vec<Listener>,
    fleet: Fleet,
) -> Result<(), String> {
    let fleet = Rc::new(fleet);
    let (stop, stopped) = watch::channel(false);
    let view = Rc::new(admin::View::new(Rc::clone(&fleet), Arc::clone(&declared)));
    admin::serve(&config.telemetry, Rc::clone(&view)).await.map_err(|error| banner::port_taken(&error))?;
    eprint!("{}", banner::started(&config, &decided, &listeners));
    for listener in listeners {
        tokio::task::spawn_local(acceptor::accept(listener, Rc::clone(&fleet), stopped.clone()));
    }
    tokio::task::spawn_local(hint_if_silent(Rc::clone(&view)));
    wait_for_signal().await?;
    view.draining();
    drop(stop.send(true));
    fleet.drain(Duration::from_nanos(config.engine.shutdown_timeout_ns)).await;
    let totals = declared.schema.fold(&fleet.snapshot().await);
    eprintln!("{}", Books::read(&declared.schema, &totals).sentence());
    Ok(())
}

/// Prints a hint when nothing has been received for a while after the start.
async fn hint_if_silent(view: Rc<admin::View>) {
    tokio::time::sleep(HINT_AFTER).await;
    if view.spans_offered().await == 0 {
        eprintln!("{}", banner::nothing_received(HINT_AFTER));
    }
}

async fn wait_for_signal() -> Result<(), String> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).map_err(|error| format!("signals cannot be received: {error}"));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
