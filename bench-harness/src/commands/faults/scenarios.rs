//! The scenarios, each a few steps. A step that waits, waits for something that was counted.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use codecs::segment::{HEADER_BYTES, Kind, scan};

use super::KILLS;
use super::ground::{Ground, Wanted};
use crate::cli::FaultsArguments;
use crate::load::Protocol;
use crate::sink::Behaviour;

/// Requests of one step.
const REQUESTS: u64 = 20;

/// Records of one step; must be `REQUESTS` times what the ground sends in each.
const RECORDS: u64 = REQUESTS * 50;

/// Requests for each status code.
const STATUS_REQUESTS: u64 = 3;
const STATUS_RECORDS: u64 = STATUS_REQUESTS * 50;

/// How late a slow backend answers.
const SLOWLY: Duration = Duration::from_millis(20);

/// How long a backend is away in the long form.
const AWAY: Duration = Duration::from_secs(60);

/// gRPC codes after which a client sends again (OTLP specification, "Failures"); 8 only with a RetryInfo, which these
/// answers have not.
const GRPC_RETRIED: [u16; 6] = [1, 4, 10, 11, 14, 15];

/// The gRPC code of a backend that is busy.
const UNAVAILABLE: u16 = 14;

/// HTTP statuses after which a client sends again (the same, "OTLP/HTTP Response").
const HTTP_RETRIED: [u16; 4] = [429, 502, 503, 504];

/// HTTP statuses that are final. 413 makes the gateway send in halves first, down to single records.
const HTTP_FINAL: [u16; 9] = [400, 401, 403, 404, 405, 413, 415, 500, 501];

/// The least bound of a queue's files, and requests that exceed it several times.
const DISK_BYTES_MAX: u64 = 1 << 20;
const DISK_REQUESTS: u64 = 1_000;

/// Changed records of the short and of the long form.
const FLIPS: (u32, u32) = (1, 40);

/// Requests in the file that is cut: in the long form a gateway is started for each of its bytes.
const CUT_REQUESTS: u64 = 2;

/// 256 KiB: far below what those requests take, far above what a gateway says in a log.
const FILE_BLOCKS_MAX: u32 = 512;

/// Shards of one gateway after the other: a queue on disk is taken over by any number of them.
const SHARDS: [usize; 4] = [1, 3, 2, 4];

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scenario {
    /// The backend behaves so for a while, then takes everything.
    Misbehaves(Protocol, Behaviour),
    /// The backend answers every status there is.
    Statuses(Protocol),
    /// The backend is away for a while.
    Away(Protocol),
    /// The gateway is stopped while its queue is full of requests for a slow backend.
    StoppedWhileSlow(Protocol),
    /// The gateway is stopped while senders go on.
    StoppedUnderLoad,
    /// The gateway is stopped while the backend is away; the queue is on disk, and the next one has other shards.
    StoppedWhileAway,
    /// The queue's files reach their bound while the backend is away.
    DiskFull,
    /// The kernel refuses to write to files beyond a size.
    DiskRefuses,
    /// Bytes of a file change while no gateway runs.
    Flipped,
    /// The last file is cut while no gateway runs.
    Cut,
    /// The gateway is killed under load so many times; the queue is on disk, and each next one has other shards.
    Killed(u32),
}

impl Scenario {
    /// What the command line asks for.
    pub(super) fn all(arguments: &FaultsArguments) -> Vec<Scenario> {
        if let Some(kills) = arguments.kills {
            return vec![Scenario::Killed(kills)];
        }
        let mut all = Vec::new();
        for protocol in [Protocol::Grpc, Protocol::Http] {
            let behaviours = [Behaviour::TakeSlowly(SLOWLY), Behaviour::Cut, Behaviour::TakeAndCut, Behaviour::Hang];
            all.extend(behaviours.map(|behaviour| Scenario::Misbehaves(protocol, behaviour)));
            all.extend([Scenario::Statuses(protocol), Scenario::Away(protocol), Scenario::StoppedWhileSlow(protocol)]);
        }
        let kills = if arguments.long { KILLS.1 } else { KILLS.0 };
        all.extend([Scenario::StoppedUnderLoad, Scenario::StoppedWhileAway, Scenario::Killed(kills)]);
        all.extend([Scenario::DiskFull, Scenario::DiskRefuses, Scenario::Flipped, Scenario::Cut]);
        all
    }

    /// How the gateway speaks to the backend.
    pub(super) fn protocol(self) -> Protocol {
        match self {
            Scenario::Misbehaves(protocol, _)
            | Scenario::Statuses(protocol)
            | Scenario::Away(protocol)
            | Scenario::StoppedWhileSlow(protocol) => protocol,
            _ => Protocol::Grpc,
        }
    }

    /// Whether the gateway cannot know that something arrived, and so has to send it again.
    pub(super) fn may_double(self) -> bool {
        // A request that hung until its time was over is one whose next attempt may be answered too late as well.
        matches!(
            self,
            Scenario::Misbehaves(_, Behaviour::TakeAndCut | Behaviour::Hang) | Scenario::Killed(_) | Scenario::Cut
        )
    }

    pub(super) fn name(self) -> String {
        let backend = match self.protocol() {
            Protocol::Grpc => "gRPC backend",
            Protocol::Http => "HTTP backend",
        };
        match self {
            Scenario::Misbehaves(_, behaviour) => match behaviour {
                Behaviour::TakeSlowly(_) => format!("{backend} answers slowly"),
                Behaviour::TakeAndCut => format!("{backend} takes and cuts the connection"),
                Behaviour::Cut => format!("{backend} cuts the connection"),
                Behaviour::Hang => format!("{backend} does not answer"),
                Behaviour::Take | Behaviour::Status(_) => format!("{backend}: {behaviour:?}"),
            },
            Scenario::Statuses(_) => format!("{backend} answers every status"),
            Scenario::Away(_) => format!("{backend} goes and comes back"),
            Scenario::StoppedWhileSlow(_) => format!("stopped, slow {backend}"),
            Scenario::StoppedUnderLoad => "stopped under load".to_owned(),
            Scenario::StoppedWhileAway => "stopped, backend away, queue on disk, other shards".to_owned(),
            Scenario::DiskFull => "queue on disk reaches its bound".to_owned(),
            Scenario::DiskRefuses => "kernel refuses to write".to_owned(),
            Scenario::Flipped => "a record on disk changes".to_owned(),
            Scenario::Cut => "the last file on disk is cut".to_owned(),
            Scenario::Killed(kills) => format!("killed {kills} times under load, queue on disk"),
        }
    }

    /// Does it. An error is a promise that was not kept, or a state that was not reached.
    pub(super) async fn play(self, ground: &mut Ground) -> io::Result<()> {
        match self {
            Scenario::Misbehaves(_, behaviour) => misbehaves(ground, behaviour).await,
            Scenario::Statuses(protocol) => statuses(ground, protocol).await,
            Scenario::Away(_) => away(ground).await,
            Scenario::StoppedWhileSlow(_) => stopped_while_slow(ground).await,
            Scenario::StoppedUnderLoad => stopped_under_load(ground).await,
            Scenario::StoppedWhileAway => stopped_while_away(ground).await,
            Scenario::Killed(kills) => killed(ground, kills).await,
            Scenario::DiskFull => disk_full(ground).await,
            Scenario::DiskRefuses => disk_refuses(ground).await,
            Scenario::Flipped => flipped(ground).await,
            Scenario::Cut => cut(ground).await,
        }
    }
}

fn in_memory(shards: usize) -> Wanted {
    Wanted { shards, ..Wanted::default() }
}

fn on_disk(shards: usize) -> Wanted {
    Wanted { is_durable: true, ..in_memory(shards) }
}

async fn misbehaves(ground: &mut Ground, behaviour: Behaviour) -> io::Result<()> {
    // Only a backend that hangs needs the exporter to give up.
    let timeout_ms = if behaviour == Behaviour::Hang { 300 } else { 0 };
    let gateway = ground.start(&Wanted { timeout_ms, ..in_memory(2) }).await?;
    ground.backend.switch().set(behaviour);
    ground.offer(&gateway, REQUESTS).await?;
    // A slow backend takes each once; the others must have been tried again at least once.
    let met = REQUESTS + u64::from(!matches!(behaviour, Behaviour::TakeSlowly(_)));
    ground.wait_for("attempts that met the fault", |ground| ground.backend.switch().met() >= met).await?;
    ground.backend.switch().set(Behaviour::Take);
    ground.offer(&gateway, REQUESTS).await?;
    ground.settle(&gateway, 2 * RECORDS, 0).await?;
    ground.stop(gateway).await.map(drop)
}

async fn statuses(ground: &mut Ground, protocol: Protocol) -> io::Result<()> {
    let (retried, refused): (Vec<u16>, Vec<u16>) = match protocol {
        Protocol::Grpc => (GRPC_RETRIED.to_vec(), (1..=16).filter(|code| !GRPC_RETRIED.contains(code)).collect()),
        Protocol::Http => (HTTP_RETRIED.to_vec(), HTTP_FINAL.to_vec()),
    };
    let gateway = ground.start(&in_memory(2)).await?;
    let (mut accepted, mut failed) = (0, 0);
    for status in retried {
        let met = ground.backend.switch().met() + STATUS_REQUESTS + 1;
        ground.backend.switch().set(Behaviour::Status(status));
        ground.offer(&gateway, STATUS_REQUESTS).await?;
        let what = format!("another attempt after status {status}");
        ground.wait_for(&what, |ground| ground.backend.switch().met() >= met).await?;
        ground.backend.switch().set(Behaviour::Take);
        accepted += STATUS_RECORDS;
        ground.settle(&gateway, accepted, 0).await?;
    }
    for status in refused {
        ground.backend.switch().set(Behaviour::Status(status));
        ground.offer(&gateway, STATUS_REQUESTS).await?;
        (accepted, failed) = (accepted + STATUS_RECORDS, failed + STATUS_RECORDS);
        ground.failed_for_good(STATUS_RECORDS);
        let what = format!("records that failed for good after status {status}");
        let books = ground.books_when(&gateway, &what, |books| books.failed >= failed).await?;
        if books.failed != failed {
            return Err(io::Error::other(format!("{} records failed after status {status}: {books:?}", books.failed)));
        }
    }
    ground.backend.switch().set(Behaviour::Take);
    ground.offer(&gateway, REQUESTS).await?;
    ground.settle(&gateway, accepted + RECORDS, 0).await?;
    ground.stop(gateway).await.map(drop)
}

async fn away(ground: &mut Ground) -> io::Result<()> {
    let gateway = ground.start(&in_memory(2)).await?;
    ground.offer(&gateway, REQUESTS).await?;
    ground.settle(&gateway, RECORDS, 0).await?;
    ground.backend.leave().await;
    ground.offer(&gateway, REQUESTS).await?;
    ground.books_when(&gateway, "requests that wait", |books| books.in_flight == RECORDS).await?;
    if ground.launcher.is_long {
        tokio::time::sleep(AWAY).await;
    }
    ground.backend.come().await?;
    ground.settle(&gateway, 2 * RECORDS, 0).await?;
    ground.stop(gateway).await.map(drop)
}

async fn stopped_while_slow(ground: &mut Ground) -> io::Result<()> {
    let gateway = ground.start(&in_memory(2)).await?;
    ground.backend.switch().set(Behaviour::TakeSlowly(SLOWLY));
    ground.offer(&gateway, 5 * REQUESTS).await?;
    ground.stop(gateway).await.map(drop)
}

async fn stopped_under_load(ground: &mut Ground) -> io::Result<()> {
    for shards in SHARDS {
        let gateway = ground.start(&in_memory(shards)).await?;
        let enough = ground.accepted() + 2 * RECORDS;
        let sending = ground.sending(&gateway, u64::MAX);
        ground.wait_for("records that were accepted", |ground| ground.accepted() >= enough).await?;
        ground.stop(gateway).await?;
        sending.await.map_err(io::Error::other)??;
    }
    Ok(())
}

async fn stopped_while_away(ground: &mut Ground) -> io::Result<()> {
    let gateway = ground.start(&Wanted { shutdown: Some("1s"), ..on_disk(2) }).await?;
    ground.backend.leave().await;
    ground.offer(&gateway, REQUESTS).await?;
    let sentence = ground.stop(gateway).await?;
    let kept = format!("{} kept on disk for the next start", thousands(RECORDS));
    if !sentence.contains(&kept) {
        return Err(io::Error::other(format!("the last sentence does not say {kept}: {sentence}")));
    }
    ground.backend.come().await?;
    let gateway = ground.start(&on_disk(3)).await?;
    ground.settle(&gateway, 0, RECORDS).await?;
    ground.stop(gateway).await.map(drop)
}

/// A number below a million as the gateway says it.
fn thousands(number: u64) -> String {
    if number < 1_000 { number.to_string() } else { format!("{},{:03}", number / 1_000, number % 1_000) }
}

async fn killed(ground: &mut Ground, kills: u32) -> io::Result<()> {
    let mut random = fastrand::Rng::with_seed(ground.launcher.seed);
    for kill in 0..kills {
        let shards = SHARDS[kill as usize % SHARDS.len()];
        // One in three finds the backend refusing, so that files grow over several gateways.
        let behaviour = if kill % 3 == 1 { Behaviour::Status(UNAVAILABLE) } else { Behaviour::Take };
        ground.backend.switch().set(behaviour);
        let gateway = ground.start(&on_disk(shards)).await?;
        let enough = ground.accepted() + random.u64(1..=RECORDS);
        let sending = ground.sending(&gateway, u64::MAX);
        ground.wait_for("records that were accepted", |ground| ground.accepted() >= enough).await?;
        tokio::time::sleep(Duration::from_micros(random.u64(..5_000))).await;
        ground.kill(gateway)?;
        sending.await.map_err(io::Error::other)??;
    }
    ground.backend.switch().set(Behaviour::Take);
    let gateway = ground.start(&on_disk(2)).await?;
    ground.wait_for("everything that was acknowledged", |ground| ground.findings().lost_items == 0).await?;
    ground.books_when(&gateway, "an empty queue", |books| books.in_flight == 0).await?;
    ground.stop(gateway).await?;
    // A gateway that ended well leaves nothing to be sent again.
    let doubled = ground.findings().doubled_items;
    let gateway = ground.start(&on_disk(1)).await?;
    ground.offer(&gateway, REQUESTS).await?;
    ground.settle(&gateway, RECORDS, 0).await?;
    ground.stop(gateway).await?;
    match ground.findings().doubled_items - doubled {
        0 => Ok(()),
        again => Err(io::Error::other(format!("{again} records were sent again after a clean stop"))),
    }
}

async fn disk_full(ground: &mut Ground) -> io::Result<()> {
    let gateway = ground.start(&Wanted { disk_bytes_max: Some(DISK_BYTES_MAX), ..on_disk(2) }).await?;
    ground.backend.leave().await;
    ground.offer(&gateway, DISK_REQUESTS).await?;
    let (accepted, refused) = (ground.accepted(), ground.refused());
    if accepted == 0 || refused == 0 {
        return Err(io::Error::other(format!("{accepted} records accepted and {refused} refused by a full disk")));
    }
    let bytes = ground.disk(&gateway, "bytes").await?;
    // Marks of what is done may go beyond the bound, and nothing is done yet.
    if bytes > DISK_BYTES_MAX {
        return Err(io::Error::other(format!("{bytes} bytes on disk, {DISK_BYTES_MAX} are allowed")));
    }
    ground.backend.come().await?;
    ground.settle(&gateway, accepted, 0).await?;
    // Files go when their marks are written, a moment after the last delivery.
    ground.disk_below(&gateway, DISK_BYTES_MAX / 2).await?;
    ground.offer(&gateway, REQUESTS).await?;
    ground.settle(&gateway, accepted + RECORDS, 0).await?;
    ground.stop(gateway).await.map(drop)
}

async fn disk_refuses(ground: &mut Ground) -> io::Result<()> {
    let gateway = ground.start(&Wanted { file_blocks_max: Some(FILE_BLOCKS_MAX), ..on_disk(2) }).await?;
    ground.disk_refused();
    // A backend that is away keeps the files; so every file grows until the kernel refuses.
    ground.backend.leave().await;
    ground.offer(&gateway, DISK_REQUESTS).await?;
    let (accepted, refused) = (ground.accepted(), ground.refused());
    if accepted == 0 || refused == 0 {
        return Err(io::Error::other(format!("{accepted} records accepted and {refused} refused by the kernel")));
    }
    ground.backend.come().await?;
    ground.wait_for("everything that was accepted", |ground| ground.findings().lost_items == 0).await?;
    let books = ground.books_when(&gateway, "an empty queue", |books| books.in_flight == 0).await?;
    if (books.delivered, books.failed) != (accepted, refused) {
        let right = format!("{accepted} delivered and {refused} failed are right");
        return Err(io::Error::other(format!("the books say {books:?}; {right}")));
    }
    ground.stop(gateway).await?;
    // What was refused is in no file any more.
    let gateway = ground.start(&on_disk(1)).await?;
    let found = ground.disk(&gateway, "found_requests").await?;
    ground.kill(gateway)?;
    if found == 0 { Ok(()) } else { Err(io::Error::other(format!("{found} requests were left by a clean stop"))) }
}

/// Keeps so many requests on disk and ends the gateway. Returns the only file that holds them.
async fn kept(ground: &mut Ground, requests: u64) -> io::Result<(PathBuf, Vec<u8>)> {
    let gateway = ground.start(&on_disk(2)).await?;
    ground.backend.leave().await;
    ground.offer(&gateway, requests).await?;
    ground.kill(gateway)?;
    let path = ground.segments()?.pop().ok_or_else(|| io::Error::other("no file holds what was acknowledged"))?;
    let bytes = std::fs::read(&path)?;
    Ok((path, bytes))
}

/// Where the requests of a segment lie.
fn requests_in(segment: &[u8]) -> io::Result<Vec<Range<usize>>> {
    let scanned = scan(segment).map_err(io::Error::other)?;
    let requests = scanned.records.into_iter().filter(|record| record.kind == Kind::Request);
    Ok(requests.map(|record| record.body).collect())
}

async fn flipped(ground: &mut Ground) -> io::Result<()> {
    let mut random = fastrand::Rng::with_seed(ground.launcher.seed);
    let rounds = if ground.launcher.is_long { FLIPS.1 } else { FLIPS.0 };
    for _ in 0..rounds {
        let (path, mut bytes) = kept(ground, REQUESTS).await?;
        let requests = requests_in(&bytes)?;
        // The last record's end is an end of file too, so what is behind it proves nothing: not that one.
        let body = requests[random.usize(..requests.len() - 1)].clone();
        bytes[random.usize(body)] ^= 1 << random.u8(..8);
        std::fs::write(&path, bytes)?;
        ground.failed_for_good(RECORDS / REQUESTS);
        ground.backend.come().await?;
        let gateway = ground.start(&on_disk(1)).await?;
        ground.settle(&gateway, 0, RECORDS - RECORDS / REQUESTS).await?;
        let skipped = ground.disk(&gateway, "skipped_records").await?;
        if skipped != 1 {
            return Err(io::Error::other(format!("one record was changed, and {skipped} were passed over")));
        }
        ground.stop(gateway).await?;
    }
    Ok(())
}

async fn cut(ground: &mut Ground) -> io::Result<()> {
    let (path, whole) = kept(ground, CUT_REQUESTS).await?;
    let requests = requests_in(&whole)?;
    let cuts: Vec<usize> = match ground.launcher.is_long {
        true => (0..=whole.len()).collect(),
        false => {
            let near = |at: usize| [at - 1, at, at + 1];
            let ends = requests.iter().flat_map(|body| near(body.end)).chain(near(HEADER_BYTES));
            let mut cuts: Vec<usize> = ends.chain([0, 1]).filter(|at| *at <= whole.len()).collect();
            cuts.sort_unstable();
            cuts
        }
    };
    ground.backend.come().await?;
    for at in cuts {
        for left in ground.segments()? {
            std::fs::remove_file(left)?;
        }
        std::fs::write(&path, &whole[..at])?;
        let expected = requests.iter().filter(|body| body.end <= at).count() as u64;
        let gateway = ground.start(&on_disk(1)).await?;
        let found = ground.disk(&gateway, "found_requests").await?;
        if found != expected {
            return Err(io::Error::other(format!("cut at {at}: {found} requests were found, {expected} are whole")));
        }
        let created = expected * RECORDS / REQUESTS;
        let what = format!("what was found after a cut at {at}");
        ground.books_when(&gateway, &what, |books| (books.created, books.delivered) == (created, created)).await?;
        ground.kill(gateway)?;
    }
    // The last cut left all of it.
    ground.wait_for("everything that was acknowledged", |ground| ground.findings().lost_items == 0).await
}
