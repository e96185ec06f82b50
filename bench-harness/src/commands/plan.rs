//! What a run is to do: how fast, how long, at which gateway, with which requests.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use codecs::compression::Compression;
use codecs::otlp::Signal;

use super::rate::everyday;
use crate::cli::{Out, Profile, RunArguments};
use crate::gateway::{ExporterEndpoint, PassThrough, PolicySet, Work, read_user_file, release_binary};
use crate::items::{ItemCycle, ItemSettings};
use crate::load::{self, Pace, Source};
use crate::sent::{Sent, noun};
use crate::traces::{Cycle, CycleSettings, Policies};

/// How long load is offered if nothing else is said.
const DURATION: Duration = Duration::from_secs(30);

/// Decision wait of the speed targets.
const DECISION_WAIT_S: u64 = 2;

/// Decision wait of the longer profiles.
const LONG_DECISION_WAIT_S: u64 = 10;

/// Decision waits in a run: one until decisions are made as fast as traces come, and some that are measured.
const WAITS: u32 = 4;

/// Spread of traces in a closed loop is planned for this rate.
const CLOSED_ITEMS_PER_SECOND: u64 = 1_000_000;

/// Active series of data points, at least: what a remote write exporter has to keep labels for.
const SERIES_MIN: usize = 100_000;

/// Most memory for requests that are compressed beforehand.
const PREPARED_BYTES_MAX: u64 = 6 << 30;

/// How the load is paced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Rate {
    /// Open loop.
    ItemsPerSecond(u64),
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

/// Compressed requests and what they were made from.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    sent: Rc<Sent>,
    requests: Rc<Vec<Bytes>>,
}

impl Plan {
    /// What the command line says.
    pub(super) fn new(arguments: &RunArguments) -> io::Result<Plan> {
        let signal = arguments.signal();
        let subject = match arguments.target {
            Some(address) => Subject::Running { address, metrics: arguments.target_metrics },
            None => Subject::Child {
                binary: match &arguments.gateway {
                    Some(binary) => binary.clone(),
                    None => release_binary()?,
                },
                work: match &arguments.config {
                    Some(path) => Work::File(read_user_file(path, signal)?),
                    None if signal == Signal::Traces => match arguments.profile {
                        Profile::Web => Work::three_policies(DECISION_WAIT_S),
                        Profile::Tail10 => Work::ten_policies(LONG_DECISION_WAIT_S),
                        Profile::Tail3 => Work::three_policies_long(LONG_DECISION_WAIT_S),
                    },
                    None => Work::Pass(PassThrough { signal, out: arguments.out, before_batch: None }),
                },
                wrapper: Vec::new(),
            },
        };
        let plan = Plan {
            arguments: arguments.clone(),
            rate: Rate::ItemsPerSecond(arguments.rate().unwrap_or(everyday(signal))),
            duration: DURATION,
            subject,
            memory_limit_mib: None,
            prepared: Rc::default(),
        };
        Ok(Plan { duration: plan.duration_or(DURATION), ..plan })
    }

    /// How long load is offered: what the command line says, else this, or longer where decisions wait for long.
    pub(super) fn duration_or(&self, usual: Duration) -> Duration {
        self.arguments.duration.unwrap_or(usual.max(WAITS * self.decision_wait()))
    }

    /// From a trace's first span to its decision; 0 without tail sampling.
    pub(super) fn decision_wait(&self) -> Duration {
        self.policies().map_or(Duration::ZERO, |policies| Duration::from_nanos(policies.decision_wait_ns))
    }

    /// The same with another rate and length.
    pub(super) fn at(&self, rate: Rate, duration: Duration) -> Plan {
        Plan { rate, duration, ..self.clone() }
    }

    /// The same into the discard mode.
    pub(super) fn discarding(&self) -> Plan {
        let mut plan = self.clone();
        if let Subject::Child { work, .. } = &mut plan.subject {
            *work = Work::Discard(self.signal());
        }
        plan
    }

    pub(super) fn signal(&self) -> Signal {
        self.arguments.signal()
    }

    pub(super) fn compression(&self) -> Compression {
        self.arguments.compression.into()
    }

    fn interval_ns(&self) -> u64 {
        let rate = match self.rate {
            Rate::ItemsPerSecond(rate) => rate,
            Rate::Closed | Rate::Counted { .. } => self.arguments.rate().unwrap_or(CLOSED_ITEMS_PER_SECOND),
        };
        (u64::from(self.arguments.items_per_request) * 1_000_000_000 / rate.max(1)).max(1)
    }

    pub(super) fn pace(&self) -> Pace {
        let duration_ns = self.duration.as_nanos() as u64;
        match self.rate {
            Rate::ItemsPerSecond(_) => {
                Pace::Open { interval_ns: self.interval_ns(), requests: (duration_ns / self.interval_ns()).max(1) }
            }
            Rate::Closed => Pace::Closed {
                // Small requests need more of them under way to keep a core busy.
                in_flight: (2_048 / self.arguments.items_per_request as usize).clamp(4, 32),
                duration_ns,
                requests: u64::MAX,
            },
            Rate::Counted { requests } => Pace::Closed { in_flight: 1, duration_ns, requests },
        }
    }

    fn sent(&self) -> Sent {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        match self.signal() {
            Signal::Traces => Sent::Traces(Cycle::new(CycleSettings {
                seed: self.arguments.seed,
                spans_per_request: self.arguments.items_per_request as usize,
                request_interval_ns: self.interval_ns(),
                start_unix_ns: now.as_nanos() as u64,
                has_marks: self.arguments.profile != Profile::Web,
            })),
            signal => Sent::Items(self.items(signal, now)),
        }
    }

    fn items(&self, signal: Signal, now: Duration) -> ItemCycle {
        let cycle = ItemCycle::new(ItemSettings {
            signal,
            seed: self.arguments.seed,
            items_per_request: self.arguments.items_per_request as usize,
            series_min: SERIES_MIN,
            connections: usize::from(self.arguments.connections),
            request_interval_ns: self.interval_ns(),
            start_unix_ns: now.as_millis() as u64 * 1_000_000,
        });
        if self.arguments.out == Out::RemoteWrite {
            // Now, and not when the first sample arrives: load and sink share a thread.
            cycle.make_labels();
        }
        cycle
    }

    /// What is sent, and where its requests come from.
    pub(super) fn source(&self) -> io::Result<(Rc<Sent>, Source)> {
        if self.compression() == Compression::None {
            let sent = Rc::new(self.sent());
            return Ok((sent.clone(), Source::plain(sent)));
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
        Ok((prepared.sent.clone(), Source::Prepared(prepared.requests.clone())))
    }

    fn prepare(&self, requests: u64) -> io::Result<Prepared> {
        let sent = self.sent();
        // About a fifth of the plain size; a run that would need more than the bound is cut short.
        let bytes = sent.template_bytes(0).len() as u64 / 5;
        let requests = requests.min(PREPARED_BYTES_MAX / bytes.max(1));
        eprintln!("compressing {requests} requests ...");
        let made = load::prepare(&sent, requests, self.compression())?;
        Ok(Prepared { sent: Rc::new(sent), requests: Rc::new(made) })
    }

    /// The exporters a sink is needed for.
    pub(super) fn exporters(&self) -> Vec<ExporterEndpoint> {
        match &self.subject {
            Subject::Child { work, .. } => work.exporters(),
            Subject::Running { .. } => Vec::new(),
        }
    }

    /// What must be kept; `None` without tail sampling.
    pub(super) fn policies(&self) -> Option<Policies> {
        match &self.subject {
            Subject::Child { work, .. } => work.policies(),
            Subject::Running { .. } => None,
        }
    }

    pub(super) fn title(&self) -> String {
        let RunArguments { items_per_request, connections, .. } = self.arguments;
        let noun = noun(self.signal());
        let rate = match self.rate {
            Rate::ItemsPerSecond(rate) => format!("{rate} {noun}/s"),
            Rate::Closed => "closed loop".to_owned(),
            Rate::Counted { requests } => format!("{requests} requests"),
        };
        let work = match &self.subject {
            Subject::Child { work: Work::Sample(sampling), .. } => {
                match (sampling.policies, sampling.decision_wait_s) {
                    (PolicySet::Three, DECISION_WAIT_S) => "tail sampling, two exporters".to_owned(),
                    (PolicySet::Three, wait) => {
                        format!("tail sampling by three policies after {wait} s, two exporters")
                    }
                    (PolicySet::Ten, wait) => format!("tail sampling by ten policies after {wait} s, two exporters"),
                }
            }
            Subject::Child { work: Work::Discard(_), .. } => "discard".to_owned(),
            Subject::Child { work: Work::Pass(PassThrough { out: Out::Otlp, .. }), .. } => "pass through".to_owned(),
            Subject::Child { work: Work::Pass(_), .. } => "remote write".to_owned(),
            Subject::Child { work: Work::Queue(_), .. } => "queue".to_owned(),
            Subject::Child { work: Work::File(file), .. } => file.path.display().to_string(),
            Subject::Running { address, .. } => format!("target {address}"),
        };
        format!(
            "{work}: {rate} for {:.0} s, {items_per_request} {noun} a request, {:?} {:?}, {connections} connections",
            self.duration.as_secs_f64(),
            self.arguments.protocol,
            self.compression()
        )
    }
}
