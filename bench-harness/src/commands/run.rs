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
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use codecs::compression::Compression;
use tokio::task::LocalSet;

use super::rate::SPANS_PER_SECOND;
use crate::cli::RunArguments;
use crate::gateway::{Addresses, Configuration, Ended, Gateway, Launch, Metrics, Work, release_binary, scrape};
use crate::load::{self, Log, Pace, Source, Target};
use crate::measure::{Clock, ProcessUsage, own_cpu_seconds, pin_this_thread, stolen_seconds, usage};
use crate::output::{Moment, Progress};
use crate::report::Report;
use crate::sink::{Arrivals, listen};
use crate::traces::{Cycle, CycleSettings, Policies};
use crate::verdict::{self, Expectation, Findings, LedgerLine};

/// How long load is offered if nothing else is said.
const DURATION: Duration = Duration::from_secs(30);

/// From this share of its core on, load and sink are what limits a closed loop or a search.
const LOAD_LIMITED_SHARE: f64 = 0.95;

/// Decision wait of the speed targets.
const DECISION_WAIT_S: u64 = 2;

/// How often usage is read.
const SAMPLE_EVERY: Duration = Duration::from_millis(200);

/// Beyond the decision wait, until the last decision is made and counted: a tick of the sampler and half a second.
const DECISIONS: Duration = Duration::from_millis(1_500);

/// Without anything new at the sink for this long, nothing more comes.
const QUIET: Duration = Duration::from_secs(1);

/// A sink that is never quiet is not waited for longer than this.
const QUIET_MAX: Duration = Duration::from_secs(30);

/// Spread of traces in a closed loop is planned for this rate.
const CLOSED_SPANS_PER_SECOND: u64 = 1_000_000;

/// Most memory for requests that are compressed beforehand.
const PREPARED_BYTES_MAX: u64 = 6 << 30;

/// How the load is paced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Rate {
    /// Open loop.
    SpansPerSecond(u64),
    /// Closed loop, as fast as answers come.
    Closed,
    /// Closed loop, one request at a time, then a drain at once: the same work at any speed.
    Counted {
        /// How many.
        requests: u64,
    },
}

/// Where requests go.
#[derive(Clone, Debug)]
pub(super) enum Subject {
    /// A gateway that is started for the run.
    Child {
        /// Its binary.
        binary: PathBuf,
        /// What it does.
        work: Work,
        /// In front of the binary.
        wrapper: Vec<String>,
    },
    /// An address that answers already.
    Running {
        /// Its receiver.
        address: SocketAddr,
        /// Its metrics.
        metrics: Option<SocketAddr>,
    },
}

/// A run, ready to go.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) arguments: RunArguments,
    pub(super) rate: Rate,
    pub(super) duration: Duration,
    pub(super) subject: Subject,
    pub(super) memory_limit_mib: Option<u64>,
    /// Compressed requests, kept from one run to the next: each gateway sees them for the first time.
    pub(super) prepared: Rc<RefCell<Option<Prepared>>>,
}

/// Compressed requests and the cycle they were made from.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    cycle: Rc<Cycle>,
    requests: Rc<Vec<Bytes>>,
}

impl Plan {
    /// What the command line says.
    pub(super) fn new(arguments: &RunArguments) -> io::Result<Plan> {
        let subject = match arguments.target {
            Some(address) => Subject::Running { address, metrics: arguments.target_metrics },
            None => Subject::Child {
                binary: match &arguments.gateway {
                    Some(binary) => binary.clone(),
                    None => release_binary()?,
                },
                work: match &arguments.config {
                    Some(path) => Work::File(crate::gateway::read_user_file(path)?),
                    None => Work::Sample { decision_wait_s: DECISION_WAIT_S },
                },
                wrapper: Vec::new(),
            },
        };
        Ok(Plan {
            arguments: arguments.clone(),
            rate: Rate::SpansPerSecond(arguments.spans.unwrap_or(SPANS_PER_SECOND)),
            duration: arguments.duration.unwrap_or(DURATION),
            subject,
            memory_limit_mib: None,
            prepared: Rc::default(),
        })
    }

    /// The same with another rate and length.
    pub(super) fn at(&self, rate: Rate, duration: Duration) -> Plan {
        Plan { rate, duration, ..self.clone() }
    }

    /// The same into the discard mode.
    pub(super) fn discarding(&self) -> Plan {
        let mut plan = self.clone();
        if let Subject::Child { work, .. } = &mut plan.subject {
            *work = Work::Discard;
        }
        plan
    }

    fn compression(&self) -> Compression {
        self.arguments.compression.into()
    }

    fn interval_ns(&self) -> u64 {
        let rate = match self.rate {
            Rate::SpansPerSecond(rate) => rate,
            Rate::Closed | Rate::Counted { .. } => self.arguments.spans.unwrap_or(CLOSED_SPANS_PER_SECOND),
        };
        (u64::from(self.arguments.spans_per_request) * 1_000_000_000 / rate.max(1)).max(1)
    }

    fn pace(&self) -> Pace {
        let duration_ns = self.duration.as_nanos() as u64;
        match self.rate {
            Rate::SpansPerSecond(_) => {
                Pace::Open { interval_ns: self.interval_ns(), requests: (duration_ns / self.interval_ns()).max(1) }
            }
            Rate::Closed => Pace::Closed {
                // Small requests need more of them under way to keep a core busy.
                in_flight: (2_048 / self.arguments.spans_per_request as usize).clamp(4, 32),
                duration_ns,
                requests: u64::MAX,
            },
            Rate::Counted { requests } => Pace::Closed { in_flight: 1, duration_ns, requests },
        }
    }

    fn cycle(&self) -> Cycle {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Cycle::new(CycleSettings {
            seed: self.arguments.seed,
            spans_per_request: self.arguments.spans_per_request as usize,
            request_interval_ns: self.interval_ns(),
            start_unix_ns: now.as_nanos() as u64,
        })
    }

    /// The cycle and where its requests come from. Compressed requests are made for `spans_per_second_max`.
    fn source(&self) -> io::Result<(Rc<Cycle>, Source)> {
        if self.compression() == Compression::None {
            let cycle = Rc::new(self.cycle());
            return Ok((cycle.clone(), Source::plain(cycle)));
        }
        let wanted = match self.pace() {
            Pace::Open { requests, .. } => requests,
            Pace::Closed { duration_ns, requests, .. } => requests.min(2 * duration_ns / self.interval_ns()),
        };
        let mut prepared = self.prepared.borrow_mut();
        let enough = prepared.as_ref().is_some_and(|prepared| prepared.requests.len() as u64 >= wanted);
        if !enough {
            *prepared = Some(self.prepare(wanted)?);
        }
        let prepared = prepared.as_ref().ok_or_else(|| io::Error::other("prepared a line above"))?;
        Ok((prepared.cycle.clone(), Source::Prepared(prepared.requests.clone())))
    }

    fn prepare(&self, requests: u64) -> io::Result<Prepared> {
        let cycle = self.cycle();
        // About a fifth of the plain size; a run that would need more than the bound is cut short.
        let bytes = cycle.template_bytes(0).len() as u64 / 5;
        let requests = requests.min(PREPARED_BYTES_MAX / bytes.max(1));
        eprintln!("compressing {requests} requests ...");
        let made = load::prepare(&cycle, requests, self.compression())?;
        Ok(Prepared { cycle: Rc::new(cycle), requests: Rc::new(made) })
    }

    fn policies(&self) -> Option<Policies> {
        match &self.subject {
            Subject::Child { work, .. } => work.policies(),
            Subject::Running { .. } => None,
        }
    }

    fn title(&self) -> String {
        let RunArguments { spans_per_request, connections, .. } = self.arguments;
        let rate = match self.rate {
            Rate::SpansPerSecond(rate) => format!("{rate} spans/s"),
            Rate::Closed => "closed loop".to_owned(),
            Rate::Counted { requests } => format!("{requests} requests"),
        };
        let work = match &self.subject {
            Subject::Child { work: Work::Sample { .. }, .. } => "tail sampling, two exporters".to_owned(),
            Subject::Child { work: Work::Discard, .. } => "discard".to_owned(),
            Subject::Child { work: Work::File(file), .. } => file.path.display().to_string(),
            Subject::Running { address, .. } => format!("target {address}"),
        };
        format!(
            "{work}: {rate} for {:.0} s, {spans_per_request} spans a request, {:?} {:?}, {connections} connections",
            self.duration.as_secs_f64(),
            self.arguments.protocol,
            self.compression()
        )
    }
}

/// One reading while a run goes on.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at_ns: u64,
    accepted: u64,
    in_flight: u64,
    usage: Option<ProcessUsage>,
    own_cpu_seconds: f64,
    stolen_seconds: f64,
}

/// What is shared by the tasks of a run.
struct Run {
    cycle: Rc<Cycle>,
    log: Rc<Log>,
    arrivals: Rc<Arrivals>,
    clock: Clock,
    samples: RefCell<Vec<Sample>>,
    done: Cell<bool>,
}

/// Runs a plan on this thread, which is kept on the core behind the gateway's meanwhile.
pub(super) fn measure(plan: &Plan) -> io::Result<Report> {
    let (cycle, source) = plan.source()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores > 1 {
        pin_this_thread(&[usize::from(plan.arguments.gateway_cores).min(cores - 1)])?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = LocalSet::new().block_on(&runtime, go(plan, cycle, source));
    // Listeners and connections of the run end with the runtime; compression may use all cores again.
    if cores > 1 {
        crate::measure::unpin_this_thread()?;
    }
    report
}

async fn go(plan: &Plan, cycle: Rc<Cycle>, source: Source) -> io::Result<Report> {
    let clock = Clock::start();
    let log = Rc::new(Log::new());
    let policies = plan.policies();
    let wait_ns = policies.as_ref().map_or(0, |policies| policies.decision_wait_ns);
    let exporters = match &plan.subject {
        Subject::Child { work, .. } => work.exporters(),
        Subject::Running { .. } => Vec::new(),
    };
    let arrivals = Arrivals::new(cycle.clone(), log.clone(), exporters.len(), plan.arguments.contents, wait_ns);
    let run = Rc::new(Run {
        cycle,
        log,
        arrivals: Rc::new(arrivals),
        clock,
        samples: RefCell::default(),
        done: Cell::new(false),
    });
    let mut sinks = Vec::with_capacity(exporters.len());
    for (number, exporter) in exporters.iter().enumerate() {
        sinks.push(listen(number, exporter.protocol, run.arrivals.clone(), clock).await?);
    }
    let mut gateway = start(plan, sinks).await?;
    let (address, metrics_address) = match &plan.subject {
        Subject::Child { .. } => {
            let addresses = gateway.as_ref().map(Gateway::addresses);
            let addresses = addresses.ok_or_else(|| io::Error::other("the gateway was started a line above"))?;
            let address = match plan.arguments.protocol {
                load::Protocol::Grpc => addresses.grpc,
                load::Protocol::Http => addresses.http,
            };
            (address, Some(addresses.metrics))
        }
        Subject::Running { address, metrics } => (*address, *metrics),
    };
    let before = match metrics_address {
        Some(address) => Some(scrape(address).await?),
        None => None,
    };
    let target = Target {
        address,
        protocol: plan.arguments.protocol,
        compression: plan.compression(),
        connections: usize::from(plan.arguments.connections),
    };
    let pid = gateway.as_ref().map(Gateway::pid);
    let watch = tokio::task::spawn_local(watch(run.clone(), pid));
    let start_ns = clock.now_ns();
    run.log.measure_from(start_ns + warm_ns(plan.duration));
    load::run(target, plan.pace(), source, run.log.clone(), clock).await?;
    let load_end_ns = run.log.records().last().map_or(start_ns, |record| record.sent_ns);
    run.done.set(true);
    watch.await.map_err(io::Error::other)?;

    let ids: Vec<String> = exporters.iter().map(|exporter| exporter.id.clone()).collect();
    let drains_at_once = matches!(plan.rate, Rate::Counted { .. });
    if !drains_at_once {
        wait_until_quiet(&run, wait_ns).await;
    }
    let delivered: Vec<u64> = run.arrivals.exporters().iter().map(|exporter| exporter.spans).collect();
    let mut broken = Vec::new();
    let after = match metrics_address {
        // What the drain delivers is counted after the last scrape.
        _ if drains_at_once => None,
        Some(address) => {
            scrape(address).await.map_err(|error| broken.push(format!("no metrics at the end: {error}"))).ok()
        }
        None => None,
    };
    let rss_bytes_max = pid.and_then(|pid| usage(pid).ok()).map(|usage| usage.rss_bytes_max);
    let ended = match gateway.take() {
        Some(gateway) => Some(gateway.stop().await?),
        None => None,
    };
    broken.extend(ended.as_ref().and_then(how_it_broke));

    let load = verdict::examine_load(&run.cycle, &run.log, policies.as_ref());
    let (expectation, exporters) =
        verdict::compare_traces(&run.cycle, &run.log, &run.arrivals, policies.as_ref(), &ids);
    let mut findings = Findings { load, exporters, faults: run.arrivals.faults(), ledger: Vec::new(), broken };
    if !matches!(plan.rate, Rate::SpansPerSecond(_)) {
        (findings.load.late_p99_ms, findings.load.late_max_ms) = (0.0, 0.0);
    }
    if let (Some(before), Some(after)) = (&before, &after) {
        findings.ledger = ledger(&findings, &delivered, &expectation, policies.as_ref(), before, after);
    }
    let window =
        Window::of(&run.samples.borrow(), start_ns + warm_ns(plan.duration).max(settle_ns(plan, wait_ns)), load_end_ns);
    let spans = run.cycle.spans_per_request() as f64;
    let judged_by = match (&plan.subject, metrics_address) {
        (Subject::Child { .. }, _) if !ids.is_empty() => "every span at the sink, acks, and the gateway's own counts",
        (_, Some(_)) => "acks and the gateway's own counts only: what was exported is not seen",
        (_, None) => "acks only: what was exported is not seen, and no metrics address was given",
    };
    Ok(Report {
        title: plan.title(),
        verdict: verdict::judge(&findings),
        findings,
        expectation,
        judged_by: judged_by.to_owned(),
        spans_per_second: window.accepted as f64 * spans / window.seconds,
        spans_per_cpu_second: window.cpu_seconds.map(|cpu| window.accepted as f64 * spans / cpu.max(1e-9)),
        gateway_cpu_share: window.cpu_seconds.map(|cpu| cpu / window.seconds),
        machine_stolen_seconds: window.stolen_seconds,
        load_limited: window.own_cpu_seconds / window.seconds > LOAD_LIMITED_SHARE,
        harness_cpu_share: window.own_cpu_seconds / window.seconds,
        gateway_rss_bytes_max: rss_bytes_max,
        ack: run.log.ack(),
        arrival: run.arrivals.arrival(),
        lateness: run.arrivals.lateness(),
        window_seconds: window.seconds,
        backlog: window.backlog,
        span_bytes: run.cycle.span_bytes(),
        gateway_output: ended.map(|ended| ended.output).unwrap_or_default(),
        extra: BTreeMap::new(),
    })
}

async fn start(plan: &Plan, sinks: Vec<SocketAddr>) -> io::Result<Option<Gateway>> {
    let Subject::Child { binary, work, wrapper } = &plan.subject else {
        return Ok(None);
    };
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

/// Reads usage and shows progress until the load is done.
async fn watch(run: Rc<Run>, pid: Option<u32>) {
    let progress = Progress::new();
    let start_ns = run.clock.now_ns();
    let (mut shown_seconds, mut shown) = (0, (0, 0));
    loop {
        let now_ns = run.clock.now_ns();
        run.samples.borrow_mut().push(Sample {
            at_ns: now_ns,
            accepted: run.log.accepted(),
            in_flight: run.log.in_flight(),
            usage: pid.and_then(|pid| usage(pid).ok()),
            own_cpu_seconds: own_cpu_seconds(),
            stolen_seconds: stolen_seconds(),
        });
        let seconds = (now_ns - start_ns) / 1_000_000_000;
        if seconds > shown_seconds {
            let now = (run.log.accepted(), run.arrivals.spans());
            let passed = (seconds - shown_seconds) as f64;
            progress.show(Moment {
                seconds,
                spans_per_second: ((now.0 - shown.0) * run.cycle.spans_per_request() as u64) as f64 / passed,
                ack_p99_ms: run.log.take_ack_p99_ms(),
                in_flight: run.log.in_flight(),
                arrived_per_second: (now.1 - shown.1) as f64 / passed,
                refused: run.log.refused(),
                faults: run.arrivals.faults().0,
            });
            (shown_seconds, shown) = (seconds, now);
        }
        if run.done.get() {
            progress.done();
            return;
        }
        tokio::time::sleep(SAMPLE_EVERY).await;
    }
}

/// Waits until all decisions are made and nothing has arrived for a while. What a long batch timeout still holds back
/// then comes with the drain.
async fn wait_until_quiet(run: &Run, wait_ns: u64) {
    let decided_ns = run.clock.now_ns() + wait_ns + DECISIONS.as_nanos() as u64;
    let (mut seen, mut since_ns) = (run.arrivals.spans(), run.clock.now_ns());
    let end_ns = decided_ns + QUIET_MAX.as_nanos() as u64;
    loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now_ns = run.clock.now_ns();
        if run.arrivals.spans() > seen {
            (seen, since_ns) = (run.arrivals.spans(), now_ns);
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

/// Acks are measured after connections and memory had this long.
fn warm_ns(duration: Duration) -> u64 {
    (duration.as_nanos() as u64 / 4).min(1_000_000_000)
}

/// CPU is measured from the time when decisions are made as fast as traces come.
fn settle_ns(plan: &Plan, wait_ns: u64) -> u64 {
    (plan.duration.as_nanos() as u64 * 2 / 5).min(wait_ns + 1_500_000_000)
}

/// Figures between two readings.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    seconds: f64,
    accepted: u64,
    cpu_seconds: Option<f64>,
    own_cpu_seconds: f64,
    stolen_seconds: f64,
    backlog: (u64, u64),
}

impl Window {
    /// The window between the first reading after `from_ns` and the last before `until_ns`.
    fn of(samples: &[Sample], from_ns: u64, until_ns: u64) -> Window {
        let within: Vec<&Sample> =
            samples.iter().filter(|sample| (from_ns..=until_ns).contains(&sample.at_ns)).collect();
        let within = if within.len() < 2 { samples.iter().collect() } else { within };
        let (Some(first), Some(last)) = (within.first(), within.last()) else {
            return Window::default();
        };
        let half = within.len() / 2;
        let most = |part: &[&Sample]| part.iter().map(|sample| sample.in_flight).max().unwrap_or(0);
        Window {
            seconds: ((last.at_ns - first.at_ns) as f64 / 1e9).max(1e-9),
            accepted: last.accepted - first.accepted,
            cpu_seconds: first.usage.zip(last.usage).map(|(first, last)| last.cpu_seconds - first.cpu_seconds),
            stolen_seconds: last.stolen_seconds - first.stolen_seconds,
            own_cpu_seconds: last.own_cpu_seconds - first.own_cpu_seconds,
            backlog: (most(&within[..half]), most(&within[half..])),
        }
    }
}

/// The gateway's books beside ours: what its counters grew by in this run.
///
/// `delivered` is what each exporter's sink had when the gateway was asked.
fn ledger(
    findings: &Findings,
    delivered: &[u64],
    expectation: &Expectation,
    policies: Option<&Policies>,
    before: &Metrics,
    after: &Metrics,
) -> Vec<LedgerLine> {
    let line = |name: &str, labels: &[(&str, &str)], ours: u64| {
        let shown: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let gateway = after.sum(name, labels).map(|after| after - before.sum(name, labels).unwrap_or(0).min(after));
        LedgerLine {
            metric: if shown.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", shown.join(",")) },
            ours,
            gateway,
        }
    };
    let mut lines = vec![
        line("otelcol_receiver_accepted_spans", &[], findings.load.accepted_spans),
        line("otelcol_receiver_refused_spans", &[], findings.load.refused_spans),
    ];
    for (exporter, delivered) in findings.exporters.iter().zip(delivered) {
        let labels = [("exporter", exporter.id.as_str())];
        lines.push(line("otelcol_exporter_sent_spans", &labels, *delivered));
        lines.push(line("otelcol_exporter_send_failed_spans", &labels, 0));
    }
    let Some(policies) = policies else {
        return lines;
    };
    // Traces nobody knows the end of cannot be counted from here.
    if expectation.uncertain_traces == 0 {
        let prefix = "otelcol_processor_tail_sampling";
        let decided = format!("{prefix}_global_count_traces_sampled");
        let dropped = expectation.traces - expectation.kept_traces;
        lines.push(line(&decided, &[("sampled", "true")], expectation.kept_traces));
        lines.push(line(&decided, &[("sampled", "false")], dropped));
        for (policy, votes) in policies.policies.iter().zip(&expectation.votes) {
            let labels = [("policy", policy.name.as_str()), ("sampled", "true")];
            lines.push(line(&format!("{prefix}_count_traces_sampled"), &labels, *votes));
        }
    }
    lines
}
