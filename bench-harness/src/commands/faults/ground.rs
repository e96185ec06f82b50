//! What a scenario stands on: a sender, a backend that can be told to misbehave, gateways one after the other, and what
//! is known of them. Log records are sent, 50 a request: each is known by itself, and a pipeline without processors makes
//! one request of one request.

use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use codecs::compression::Compression;
use codecs::otlp::Signal;
use tokio::task::JoinHandle;

use crate::gateway::{Addresses, Configuration, Ended, Gateway, Launch, Metrics, QueueWork, Runtime, Work};
use crate::gateway::{run_folder, scrape};
use crate::items::{ItemCycle, ItemSettings};
use crate::load::{self, Log, Pace, Protocol, Source, Target};
use crate::measure::Clock;
use crate::sent::Sent;
use crate::sink::{Arrivals, Backend, Contents};
use crate::verdict::{ExporterFindings, compare};

/// Records of each request.
const RECORDS: usize = 50;

/// Connections of the sender; each has one request under way.
const CONNECTIONS: usize = 2;

/// How long a state is waited for before it counts as never reached.
const PATIENCE: Duration = Duration::from_secs(180);

/// How often a state is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A run of the sender ends by its number of requests or with the gateway, not by this.
const FOR_EVER_NS: u64 = u64::MAX / 2;

/// Which gateways are started.
#[derive(Clone, Debug)]
pub(super) struct Launcher {
    pub(super) binary: PathBuf,
    pub(super) runtime: Runtime,
    pub(super) seed: u64,
    /// More of everything, and real outages.
    pub(super) is_long: bool,
}

/// What one gateway of a scenario is to be.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub(super) shards: usize,
    /// How long an attempt of the exporter may take; 0: for ever.
    pub(super) timeout_ms: u64,
    /// Whether the queue is kept on disk.
    pub(super) is_durable: bool,
    /// How long stopping may take; `None`: a minute.
    pub(super) shutdown: Option<&'static str>,
    /// Bytes of the queue's files together; `None`: the gateway's default.
    pub(super) disk_bytes_max: Option<u64>,
    /// Half-KiB blocks of any single file, beyond which the kernel refuses to write; `None`: no limit.
    pub(super) file_blocks_max: Option<u32>,
}

/// Records of a scenario, as we counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) accepted: u64,
    /// Each counted once.
    pub(super) arrived: u64,
    /// More arrivals of those.
    pub(super) doubled: u64,
    /// Those that the backend will never take.
    pub(super) failed: u64,
}

/// The gateway's own account, summed over its pipelines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Books {
    pub(super) accepted: u64,
    pub(super) created: u64,
    pub(super) delivered: u64,
    pub(super) dropped: u64,
    pub(super) shed: u64,
    pub(super) failed: u64,
    pub(super) in_flight: u64,
}

/// Everything a scenario may use.
pub(super) struct Ground {
    pub(super) launcher: Launcher,
    pub(super) backend: Backend,
    protocol: Protocol,
    sent: Rc<Sent>,
    log: Rc<Log>,
    arrivals: Rc<Arrivals>,
    clock: Clock,
    /// Of a durable queue; it outlives gateways.
    storage: Folder,
    /// Records that the backend refused for good.
    failed: u64,
    was_refused: bool,
    last_words: String,
}

impl Ground {
    /// A backend that takes everything, and nothing sent yet. Must run inside a `LocalSet`.
    pub(super) async fn new(launcher: &Launcher, protocol: Protocol) -> io::Result<Ground> {
        let sent = Rc::new(Sent::Items(ItemCycle::new(ItemSettings {
            signal: Signal::Logs,
            seed: launcher.seed,
            items_per_request: RECORDS,
            series_min: 1,
            connections: CONNECTIONS,
            request_interval_ns: 1_000_000,
            start_unix_ns: 1_700_000_000_000_000_000,
        })));
        let (log, clock) = (Rc::new(Log::new()), Clock::start());
        let arrivals = Rc::new(Arrivals::new(sent.clone(), log.clone(), 1, Contents::Bytes, 0));
        Ok(Ground {
            launcher: launcher.clone(),
            backend: Backend::open(0, protocol, arrivals.clone(), clock).await?,
            protocol,
            sent,
            log,
            arrivals,
            clock,
            storage: Folder(run_folder()?),
            failed: 0,
            was_refused: false,
            last_words: String::new(),
        })
    }

    /// Starts a gateway that sends to the backend.
    pub(super) async fn start(&self, wanted: &Wanted) -> io::Result<Gateway> {
        let shutdown = wanted.shutdown.unwrap_or("60s");
        let launch = Launch {
            binary: self.launcher.binary.clone(),
            wrapper: wanted.file_blocks_max.map(limited).unwrap_or_default(),
            configuration: Configuration {
                work: Work::Queue(QueueWork {
                    signal: Signal::Logs,
                    protocol: self.protocol,
                    timeout_ms: wanted.timeout_ms,
                    storage: wanted.is_durable.then(|| self.storage.0.clone()),
                }),
                addresses: Addresses::free()?,
                sinks: vec![self.backend.address()],
                runtime: self.launcher.runtime,
                shards: wanted.shards,
                memory_limit_mib: None,
                sets: [
                    Some(format!("service.engine.shutdown_timeout={shutdown}")),
                    Some("service.engine.pin=false".to_owned()),
                    wanted.disk_bytes_max.map(|bytes| format!("extensions.file_storage/queue.max_size={bytes}")),
                ]
                .into_iter()
                .flatten()
                .collect(),
            },
            cores: (0..std::thread::available_parallelism().map_or(1, usize::from)).collect(),
        };
        Gateway::start(&launch).await
    }

    /// Sends so many requests and waits for their answers.
    pub(super) async fn offer(&self, gateway: &Gateway, requests: u64) -> io::Result<()> {
        self.sending(gateway, requests).await.map_err(io::Error::other)?
    }

    /// Sends on and on, until so many requests were answered or the gateway is gone.
    pub(super) fn sending(&self, gateway: &Gateway, requests: u64) -> JoinHandle<io::Result<()>> {
        let target = Target {
            address: gateway.addresses().grpc,
            protocol: Protocol::Grpc,
            signal: Signal::Logs,
            compression: Compression::None,
            connections: CONNECTIONS,
        };
        let pace = Pace::Closed { in_flight: 1, duration_ns: FOR_EVER_NS, requests };
        let source = Source::plain(self.sent.clone());
        tokio::task::spawn_local(load::run(target, pace, source, self.log.clone(), self.clock))
    }

    /// Records accepted so far, by all gateways.
    pub(super) fn accepted(&self) -> u64 {
        self.log.accepted() * RECORDS as u64
    }

    /// Records that gateways refused so far.
    pub(super) fn refused(&self) -> u64 {
        self.log.refused() * RECORDS as u64
    }

    /// What the gateway says of its files: a metric's name behind `tracegate_queue_disk_`.
    pub(super) async fn disk(&self, gateway: &Gateway, what: &str) -> io::Result<u64> {
        let metrics = scrape(gateway.addresses().metrics).await?;
        Ok(metrics.sum(&format!("tracegate_queue_disk_{what}"), &[]).unwrap_or(0))
    }

    /// Waits until the gateway's files are smaller than this.
    pub(super) async fn disk_below(&self, gateway: &Gateway, bytes: u64) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.disk(gateway, "bytes").await? >= bytes {
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("waited {PATIENCE:?} for fewer than {bytes} bytes on disk")));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// The queue's files that hold requests, the oldest first.
    pub(super) fn segments(&self) -> io::Result<Vec<PathBuf>> {
        let mut segments = Vec::new();
        for queue in std::fs::read_dir(&self.storage.0)? {
            for file in std::fs::read_dir(queue?.path())? {
                segments.push(file?.path());
            }
        }
        segments.retain(|path| path.extension().is_some_and(|suffix| suffix == "segment"));
        segments.sort();
        Ok(segments)
    }

    /// Waits until the gateway's account is as it should be.
    pub(super) async fn books_when(
        &self,
        gateway: &Gateway,
        what: &str,
        is_so: impl Fn(&Books) -> bool,
    ) -> io::Result<Books> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let books = Books::of(&scrape(gateway.addresses().metrics).await?);
            if is_so(&books) {
                return Ok(books);
            }
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("waited {PATIENCE:?} for {what}: {books:?}")));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until something holds of the backend or the sender.
    pub(super) async fn wait_for(&self, what: &str, holds: impl Fn(&Ground) -> bool) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("waited {PATIENCE:?} for {what}")));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Waits until all that was accepted has become something, and looks whether the gateway's account says the same.
    /// `created` are records that an earlier gateway accepted and this one found.
    pub(super) async fn settle(&self, gateway: &Gateway, accepted: u64, created: u64) -> io::Result<()> {
        self.wait_for("everything that was accepted", |ground| ground.findings().lost_items <= ground.failed).await?;
        let books = self.books_when(gateway, "an empty queue", |books| books.in_flight == 0).await?;
        if !books.is_balanced() {
            return Err(io::Error::other(format!("the books do not balance: {books:?}")));
        }
        if (books.accepted, books.created) != (accepted, created) {
            let wanted = format!("{accepted} accepted and {created} found are right");
            return Err(io::Error::other(format!("the books say {books:?}; {wanted}")));
        }
        Ok(())
    }

    /// The gateway took requests that its disk then refused: it told their senders, and counts them as failed.
    pub(super) fn disk_refused(&mut self) {
        self.was_refused = true;
    }

    /// So many records were accepted and then refused by the backend for good.
    pub(super) fn failed_for_good(&mut self, records: u64) {
        self.failed += records;
    }

    /// Stops a gateway by SIGTERM; its last sentence must say that nothing was lost but what the backend refused.
    pub(super) async fn stop(&mut self, gateway: Gateway) -> io::Result<String> {
        let Ended { status, output } = gateway.stop().await?;
        let sentence = output.lines().last().unwrap_or_default().to_owned();
        self.last_words = output;
        if !status.is_some_and(|status| status.success()) {
            return Err(io::Error::other(format!("the gateway ended with {status:?}")));
        }
        let loses_nothing = self.failed == 0 && !self.was_refused;
        let is_told = if loses_nothing { sentence.ends_with("nothing lost.") } else { sentence.contains(" lost.") };
        if !is_told || sentence.contains("DOES NOT BALANCE") {
            return Err(io::Error::other(format!("the last sentence is: {sentence}")));
        }
        Ok(sentence)
    }

    /// Kills a gateway; records under way have no answer, and its output is kept.
    pub(super) fn kill(&mut self, gateway: Gateway) -> io::Result<()> {
        self.last_words = gateway.kill()?;
        Ok(())
    }

    /// What arrived, beside what had to.
    pub(super) fn findings(&self) -> ExporterFindings {
        let ids = ["backend".to_owned()];
        let (_, mut findings) = compare(&self.sent, &self.log, &self.arrivals, None, &ids);
        findings.swap_remove(0)
    }

    pub(super) fn account(&self) -> Account {
        let findings = self.findings();
        Account {
            accepted: findings.expected_items,
            arrived: findings.expected_items - findings.lost_items,
            doubled: findings.doubled_items,
            failed: self.failed,
        }
    }

    /// Everything that must never be, whatever was done.
    pub(super) fn broken_promises(&self, may_double: bool) -> Vec<String> {
        let found = self.findings();
        let lost = found.lost_items.saturating_sub(self.failed);
        let arrived_all_the_same = self.failed.saturating_sub(found.lost_items);
        let doubled = if may_double { 0 } else { found.doubled_items };
        let counts = [
            (lost, "records that were acknowledged did not arrive"),
            (arrived_all_the_same, "records counted as failed arrived"),
            (found.wrong_items, "records of refused requests arrived"),
            (doubled, "records came twice though the backend had answered"),
            (found.foreign_items, "records arrived that were never sent"),
            (found.altered_items, "records were altered"),
        ];
        let is_wrong = counts.into_iter().filter(|(count, _)| *count > 0);
        is_wrong.map(|(count, what)| format!("{count} {what}")).collect()
    }

    pub(super) fn last_words(&self) -> String {
        self.last_words.clone()
    }
}

impl Books {
    fn of(metrics: &Metrics) -> Books {
        let word = |word: &str| metrics.sum(&format!("tracegate_pipeline_{word}_log_records"), &[]).unwrap_or(0);
        Books {
            accepted: word("accepted"),
            created: word("created"),
            delivered: word("delivered"),
            dropped: word("dropped"),
            shed: word("shed"),
            failed: word("failed"),
            in_flight: word("in_flight"),
        }
    }

    fn is_balanced(&self) -> bool {
        let ended = self.delivered + self.dropped + self.shed + self.failed + self.in_flight;
        self.accepted + self.created == ended && self.dropped + self.shed == 0
    }
}

/// Starts a program that may not make any file larger, and is told so by an error instead of a signal.
fn limited(file_blocks_max: u32) -> Vec<String> {
    let script = format!("trap '' XFSZ; ulimit -f {file_blocks_max}; exec \"$0\" \"$@\"");
    vec!["sh".to_owned(), "-c".to_owned(), script]
}

/// A folder that goes with its owner.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is in the system's folder for such things.
        drop(std::fs::remove_dir_all(&self.0));
    }
}
