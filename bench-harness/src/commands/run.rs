//! One run: cycle, sink, gateway, load, then the books.
//!
//! ```text
//! listen (sinks) -> start (gateway) -> load -> quiet -> scrape -> SIGTERM -> compare -> report
//! ```
//!
//! Load, sink and bookkeeping share one thread on the second core; the gateway has the first. Figures of CPU are
//! taken over a window that starts when the first decisions have been made and memory is warm.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::LocalSet;

use super::books::ledger;
use super::plan::{Plan, Rate, Subject};
use super::window::{Sample, Window, watch};
use crate::gateway::{Addresses, Configuration, Ended, Gateway, Launch, Metrics, scrape};
use crate::load::{self, Log, Protocol, Source, Target};
use crate::measure::{Clock, pin_this_thread, usage};
use crate::report::Report;
use crate::sent::Sent;
use crate::sink::{Arrivals, listen};
use crate::traces::Policies;
use crate::verdict::{self, Findings, LimitFindings};

/// From this share of its core on, load and sink are what limits a closed loop or a search.
const LOAD_LIMITED_SHARE: f64 = 0.95;

/// Beyond the decision wait, until the last decision is made and counted: a tick of the sampler and half a second.
const DECISIONS: Duration = Duration::from_millis(1_500);

/// Without anything new at the sink for this long, nothing more comes.
const QUIET: Duration = Duration::from_secs(1);

/// A sink that is never quiet is not waited for longer than this.
const QUIET_MAX: Duration = Duration::from_secs(30);

/// What is shared by the tasks of a run.
pub(super) struct Run {
    pub(super) sent: Rc<Sent>,
    pub(super) log: Rc<Log>,
    pub(super) arrivals: Rc<Arrivals>,
    pub(super) clock: Clock,
    pub(super) samples: RefCell<Vec<Sample>>,
    /// The load has ended.
    pub(super) done: Cell<bool>,
    /// What must be kept; `None` without tail sampling.
    policies: Option<Policies>,
}

/// Where requests go and counters are read.
#[derive(Clone, Copy)]
struct Doors {
    receiver: SocketAddr,
    metrics: Option<SocketAddr>,
}

/// When the load started and ended.
#[derive(Clone, Copy)]
struct LoadTimes {
    start_ns: u64,
    end_ns: u64,
}

/// What was seen when everything had been delivered.
struct End {
    /// Items at the sink of each exporter when the gateway was asked for its counts.
    delivered: Vec<u64>,
    metrics: Option<Metrics>,
    rss_bytes_max: Option<u64>,
    gateway: Option<Ended>,
    broken: Vec<String>,
}

/// Runs a plan on this thread, which is kept on the core behind the gateway's meanwhile.
pub(super) fn measure(plan: &Plan) -> io::Result<Report> {
    let (sent, source) = plan.source()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores > 1 {
        pin_this_thread(&[usize::from(plan.arguments.gateway_cores).min(cores - 1)])?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = LocalSet::new().block_on(&runtime, go(plan, sent, source));
    // Listeners and connections of the run end with the runtime; compression may use all cores again.
    if cores > 1 {
        crate::measure::unpin_this_thread()?;
    }
    report
}

async fn go(plan: &Plan, sent: Rc<Sent>, source: Source) -> io::Result<Report> {
    let run = Rc::new(Run::new(plan, sent));
    let gateway = start(plan, &run).await?;
    let doors = doors(plan, gateway.as_ref())?;
    let before = match doors.metrics {
        Some(address) => Some(scrape(address).await?),
        None => None,
    };
    let times = offer(plan, &run, source, doors.receiver, gateway.as_ref().map(Gateway::pid)).await?;
    let end = finish(plan, &run, gateway, doors.metrics).await?;
    Ok(report(plan, &run, times, before.as_ref(), end))
}

impl Run {
    fn new(plan: &Plan, sent: Rc<Sent>) -> Run {
        let (log, policies) = (Rc::new(Log::new()), plan.policies());
        let wait_ns = policies.as_ref().map_or(0, |policies| policies.decision_wait_ns);
        let exporters = plan.exporters().len();
        let arrivals = Arrivals::new(sent.clone(), log.clone(), exporters, plan.arguments.contents, wait_ns);
        Run {
            sent,
            log,
            arrivals: Rc::new(arrivals),
            clock: Clock::start(),
            samples: RefCell::default(),
            done: Cell::new(false),
            policies,
        }
    }

    fn wait_ns(&self) -> u64 {
        self.policies.as_ref().map_or(0, |policies| policies.decision_wait_ns)
    }
}

/// Opens the sinks and starts the gateway that sends to them, if one is to be started.
async fn start(plan: &Plan, run: &Run) -> io::Result<Option<Gateway>> {
    let Subject::Child { binary, work, wrapper } = &plan.subject else {
        return Ok(None);
    };
    let mut sinks = Vec::new();
    for (number, exporter) in plan.exporters().iter().enumerate() {
        sinks.push(listen(number, exporter.protocol, run.arrivals.clone(), run.clock).await?);
    }
    let launch = Launch {
        binary: binary.clone(),
        wrapper: wrapper.clone(),
        configuration: Configuration {
            work: work.clone(),
            addresses: Addresses::free()?,
            sinks,
            runtime: plan.arguments.runtime,
            shards: usize::from(plan.arguments.shards),
            memory_limit_mib: plan.memory_limit_mib,
            sets: plan.arguments.set.clone(),
        },
        cores: (0..usize::from(plan.arguments.gateway_cores)).collect(),
    };
    Gateway::start(&launch).await.map(Some)
}

fn doors(plan: &Plan, gateway: Option<&Gateway>) -> io::Result<Doors> {
    if let Subject::Running { address, metrics } = plan.subject {
        return Ok(Doors { receiver: address, metrics });
    }
    let gateway = gateway.ok_or_else(|| io::Error::other("no gateway was started"))?;
    let addresses = gateway.addresses();
    let receiver = match plan.arguments.protocol {
        Protocol::Grpc => addresses.grpc,
        Protocol::Http => addresses.http,
    };
    Ok(Doors { receiver, metrics: Some(addresses.metrics) })
}

/// Sends all requests and waits for their answers.
async fn offer(
    plan: &Plan,
    run: &Rc<Run>,
    source: Source,
    address: SocketAddr,
    pid: Option<u32>,
) -> io::Result<LoadTimes> {
    let target = Target {
        address,
        protocol: plan.arguments.protocol,
        signal: plan.signal(),
        compression: plan.compression(),
        connections: usize::from(plan.arguments.connections),
    };
    let watch = tokio::task::spawn_local(watch(run.clone(), pid));
    let start_ns = run.clock.now_ns();
    run.log.measure_from(start_ns + warm_ns(plan.duration));
    load::run(target, plan.pace(), source, run.log.clone(), run.clock).await?;
    let end_ns = run.log.records().last().map_or(start_ns, |record| record.sent_ns);
    run.done.set(true);
    watch.await.map_err(io::Error::other)?;
    Ok(LoadTimes { start_ns, end_ns })
}

/// Waits for what is still to be delivered, reads the counters, and ends the gateway.
async fn finish(plan: &Plan, run: &Run, gateway: Option<Gateway>, metrics: Option<SocketAddr>) -> io::Result<End> {
    let drains_at_once = matches!(plan.rate, Rate::Counted { .. });
    if !drains_at_once {
        wait_until_quiet(run).await;
    }
    let delivered = run.arrivals.exporters().iter().map(|exporter| exporter.items).collect();
    let mut broken = Vec::new();
    let metrics = match metrics {
        // What the drain delivers is counted after the last scrape.
        _ if drains_at_once => None,
        Some(address) => {
            scrape(address).await.map_err(|error| broken.push(format!("no metrics at the end: {error}"))).ok()
        }
        None => None,
    };
    let pid = gateway.as_ref().map(Gateway::pid);
    let rss_bytes_max = pid.and_then(|pid| usage(pid).ok()).map(|usage| usage.rss_bytes_max);
    let gateway = match gateway {
        Some(gateway) => Some(gateway.stop().await?),
        None => None,
    };
    broken.extend(gateway.as_ref().and_then(how_it_broke));
    Ok(End { delivered, metrics, rss_bytes_max, gateway, broken })
}

/// Waits until all decisions are made and nothing has arrived for a while. What a long batch timeout still holds back
/// then comes with the drain.
async fn wait_until_quiet(run: &Run) {
    let decided_ns = run.clock.now_ns() + run.wait_ns() + DECISIONS.as_nanos() as u64;
    let (mut seen, mut since_ns) = (run.arrivals.items(), run.clock.now_ns());
    let end_ns = decided_ns + QUIET_MAX.as_nanos() as u64;
    loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now_ns = run.clock.now_ns();
        if run.arrivals.items() > seen {
            (seen, since_ns) = (run.arrivals.items(), now_ns);
        }
        let quiet = now_ns > decided_ns && now_ns - since_ns > QUIET.as_nanos() as u64;
        if quiet || now_ns > end_ns {
            return;
        }
    }
}

fn how_it_broke(ended: &Ended) -> Option<String> {
    match ended.status {
        None => Some("the gateway did not end within 40 s of SIGTERM".to_owned()),
        Some(status) if !status.success() => Some(format!("the gateway ended with {status}")),
        Some(_) => None,
    }
}

/// Compares, judges and collects the figures.
fn report(plan: &Plan, run: &Run, times: LoadTimes, before: Option<&Metrics>, end: End) -> Report {
    let policies = run.policies.as_ref();
    let ids: Vec<String> = plan.exporters().into_iter().map(|exporter| exporter.id).collect();
    let load = verdict::examine_load(&run.sent, &run.log, policies);
    let (expectation, exporters) = verdict::compare(&run.sent, &run.log, &run.arrivals, policies, &ids);
    let faults = run.arrivals.faults();
    let signal = plan.signal();
    // Buckets are filled when the gateway starts, and no decision is made after this.
    let spans_max = policies.and_then(|policies| policies.limited_spans_max(run.clock.now_ns()));
    let limited = spans_max.map(|spans_max| LimitFindings { spans: expectation.limited_items, spans_max });
    let broken = end.broken;
    let mut findings = Findings { signal, load, exporters, faults, ledger: Vec::new(), limited, broken };
    if !matches!(plan.rate, Rate::ItemsPerSecond(_)) {
        // A closed loop has no schedule.
        (findings.load.late_p99_ms, findings.load.late_max_ms) = (0.0, 0.0);
    }
    if let (Some(before), Some(after)) = (before, &end.metrics) {
        let items_per_request = u64::from(plan.arguments.items_per_request);
        findings.ledger = ledger(&findings, items_per_request, &end.delivered, &expectation, policies, before, after);
    }
    let settled_ns = times.start_ns + warm_ns(plan.duration).max(settle_ns(plan.duration, run.wait_ns()));
    let window = Window::of(&run.samples.borrow(), settled_ns, times.end_ns);
    let items = window.accepted as f64 * run.sent.items_per_request() as f64;
    let harness_cpu_share = window.own_cpu_seconds / window.seconds;
    Report {
        title: plan.title(),
        verdict: verdict::judge(&findings),
        judged_by: judged_by(&findings).to_owned(),
        findings,
        policies: policies.map(|policies| policies.policies.iter().map(|policy| policy.name.clone()).collect()),
        expectation,
        items_per_second: items / window.seconds,
        items_per_cpu_second: window.cpu_seconds.map(|cpu| items / cpu.max(1e-9)),
        gateway_cpu_share: window.cpu_seconds.map(|cpu| cpu / window.seconds),
        machine_stolen_seconds: window.stolen_seconds,
        load_limited: harness_cpu_share > LOAD_LIMITED_SHARE,
        harness_cpu_share,
        gateway_rss_bytes_max: end.rss_bytes_max,
        ack: run.log.ack(),
        arrival: run.arrivals.arrival(),
        lateness: run.arrivals.lateness(),
        decided_late_p99_ms: before
            .zip(end.metrics.as_ref())
            .and_then(|(before, after)| after.below(DECISION_LATENESS, 0.99, before).map(|seconds| 1_000.0 * seconds)),
        window_seconds: window.seconds,
        backlog: window.backlog,
        item_bytes: run.sent.item_bytes(),
        gateway_output: end.gateway.map(|ended| ended.output).unwrap_or_default(),
        extra: BTreeMap::new(),
    }
}

fn judged_by(findings: &Findings) -> &'static str {
    match (findings.exporters.is_empty(), findings.ledger.is_empty()) {
        (false, false) => "every item at the sink, acks, and the gateway's own counts",
        (false, true) => "every item at the sink, and acks",
        (true, false) => "acks and the gateway's own counts only: what was exported is not seen",
        (true, true) => "acks only: what was exported is not seen, and no counts were read",
    }
}

/// What the gateway says of its decisions.
const DECISION_LATENESS: &str = "tracegate_tail_sampling_decision_lateness_seconds";

/// Acks are measured after connections and memory had this long.
fn warm_ns(duration: Duration) -> u64 {
    (duration.as_nanos() as u64 / 4).min(1_000_000_000)
}

/// CPU is measured from the time when decisions are made as fast as traces come.
fn settle_ns(duration: Duration, wait_ns: u64) -> u64 {
    (duration.as_nanos() as u64 * 2 / 5).min(wait_ns + 1_500_000_000)
}
