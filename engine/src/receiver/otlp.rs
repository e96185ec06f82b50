//! `otlp`: takes export calls, whatever protocol brought them.
//!
//! ```text
//! body --decompress--> bytes --(JSON: to protobuf)--> index --> batch --fork per pipeline--> consume; wait for the ack
//!   |                    |
//!   refused (not now)    rejected (malformed, never)
//! ```
//!
//! A request is taken whole or not at all: admission and the whole check of its bytes come before any pipeline sees a
//! span. Decompression and indexing run under `catch_unwind`: should they ever panic on somebody's bytes, that request is
//! answered INTERNAL and nobody else notices. A large body is decompressed, and read as JSON, in steps between which other
//! tasks run.

use super::complaint::{Complaints, Reason};
use super::door::Door;
use crate::auth::Denied;
use crate::pipeline::ack::{self, Outcome};
use crate::pipeline::batch::Batch;
use crate::pipeline::client::{Client, Head};
use crate::shard::ShardContext;
use crate::shard::balance::Balance;
use crate::shard::budget::{Holder, Refusal, Senders, Share};
use crate::shard::buffers::Buffer;
use crate::shard::pipelines::Pipelines;
use crate::shard::runtime::yield_now;
use crate::telemetry::cells::Counter;
use crate::telemetry::metrics::{ReceiverSeries, RefuseReason, RejectReason};
use crate::transport::patience::Patience;
use crate::transport::{Body, BodyEncoding, ReceivedRequest, RequestHandler, Transport};
use bytes::Bytes;
use codecs::compression::{
    Compression, DecompressError, Decompressor, STEP_BYTES, Step, Unpacking, plain_length_guess,
};
use codecs::grpc::{Code, Status};
use codecs::json::{JsonError, Transcoding};
use codecs::otlp::{Format, Signal};
use std::cell::RefCell;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Mutex;

/// Senders come back after this long, plus up to as much again so that they do not come back together.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Bodies that become larger than this are read in steps: some 300 us of work.
const WHOLE_BYTES_MAX: usize = 256 << 10;

/// What decompresses the requests of a shard.
#[derive(Debug, Default)]
pub struct Unpacker {
    decompressor: RefCell<Decompressor>,
    /// Large bodies come one after the other, so that the memory of one decoder is all that they need beside their own.
    turn: Mutex<()>,
}

/// One protocol of one `otlp` receiver on one shard.
#[derive(Clone, Debug)]
pub struct OtlpReceiver {
    /// The receiver's number in the configuration.
    pub number: usize,
    /// This protocol's number among all of the configuration: shards name it to each other.
    pub handler: usize,
    /// Which protocol.
    pub transport: Transport,
    /// Largest message after decompression.
    pub bytes_max: usize,
    /// The intake book. Shared, since each connection has a receiver.
    pub series: Rc<ReceiverSeries>,
    /// Who may send, and what is kept of them.
    pub door: Rc<Door>,
    /// What the log says of requests that are not taken.
    pub complaints: Complaints,
    /// Where this connection comes from.
    pub peer: Option<IpAddr>,
    /// Whose share of the memory its requests take; `None`: nobody's.
    pub share: Option<Rc<Share>>,
    /// All senders of the shard.
    pub senders: Rc<Senders>,
    /// Panics caught around pure calls.
    pub caught_panics: Counter,
    /// Who gets the batches.
    pub pipelines: Rc<RefCell<Pipelines>>,
    /// Who may take a request instead.
    pub balance: Rc<Balance>,
    /// One per shard.
    pub unpacker: Rc<Unpacker>,
    /// The shard it runs on.
    pub shard: ShardContext,
}

impl OtlpReceiver {
    /// The same receiver for one connection, which says where its requests come from.
    pub fn connected(self: &Rc<Self>, peer: Option<IpAddr>) -> Rc<OtlpReceiver> {
        Rc::new(OtlpReceiver { peer, share: self.senders.share_of(peer), ..(**self).clone() })
    }

    /// Takes a request on this shard, whichever shard its connection belongs to.
    pub async fn take(
        &self,
        signal: Signal,
        body: Bytes,
        encoding: BodyEncoding,
        client: Option<Rc<Client>>,
        patience: Patience,
    ) -> Result<(), Status> {
        let _in_hand = self.balance.take_in_hand();
        let mut batch = self.read(signal, body, encoding).await?;
        batch.client = client;
        let items = batch.items();
        if items == 0 {
            return Ok(());
        }
        let cells = &self.shard.cells;
        let series = self.series.of(signal);
        cells.add(series.offered, items);
        cells.raise(series.unanswered, items);
        let result = self.deliver(signal, batch, patience).await;
        cells.lower(series.unanswered, items);
        let term = match &result {
            Ok(()) => series.accepted,
            Err(status) if status.is_retryable() => series.refused,
            Err(_) => series.rejected,
        };
        cells.add(term, items);
        result
    }

    /// Bytes -> checked batch. What fails here fails for ever, and is counted as rejected.
    async fn read(&self, signal: Signal, body: Bytes, encoding: BodyEncoding) -> Result<Batch, Status> {
        let plain = match encoding.compression {
            Compression::None => body,
            compression => match self.decompress(signal, compression, &body)? {
                Some(plain) => plain,
                // In a box: the task of a request that is small must not be as large as that of one that is not.
                None => Box::pin(self.unpack(signal, compression, &body)).await?,
            },
        };
        let plain = match encoding.format {
            Format::Protobuf => plain,
            Format::Json if plain.len() <= WHOLE_BYTES_MAX => self.transcode(signal, &plain)?,
            Format::Json => Box::pin(self.transcode_in_steps(signal, &plain)).await?,
        };
        self.index(signal, plain)
    }

    fn index(&self, signal: Signal, plain: Bytes) -> Result<Batch, Status> {
        let mut index = self.shard.indexes.take(signal);
        let read = catch_unwind(AssertUnwindSafe(|| index.read_request(&plain, 0)));
        match read {
            Ok(Ok(())) => Ok(Batch { index, segments: vec![plain], ..Batch::default() }),
            Ok(Err(malformed)) => {
                let message = format!("not an {}: {malformed}", signal.request());
                Err(self.reject(signal, RejectReason::Malformed, Status::new(Code::InvalidArgument, message)))
            }
            Err(_) => Err(self.our_fault(signal, "reading")),
        }
    }

    fn reject(&self, signal: Signal, reason: RejectReason, status: Status) -> Status {
        self.count_rejected(Some(signal), reason, Some(&status.message));
        status
    }

    fn count_rejected(&self, signal: Option<Signal>, reason: RejectReason, what: Option<&str>) {
        self.series.count_rejected(&self.shard.cells, signal, reason);
        self.complain(Reason::Rejected(reason), what);
    }

    fn complain(&self, reason: Reason, what: Option<&str>) {
        self.complaints.note(reason, what, self.peer, self.shard.clock.now_ns());
    }

    /// A body that is small once plain; `None`: it is not.
    fn decompress(&self, signal: Signal, compression: Compression, body: &[u8]) -> Result<Option<Bytes>, Status> {
        let guess = plain_length_guess(compression, body);
        if guess > WHOLE_BYTES_MAX {
            return Ok(None);
        }
        // A wrong guess only costs one growth.
        let mut plain = self.shard.buffers.take(guess.min(self.bytes_max));
        let mut decompressor = self.unpacker.decompressor.borrow_mut();
        let bytes_max = self.bytes_max.min(WHOLE_BYTES_MAX);
        let result =
            catch_unwind(AssertUnwindSafe(|| decompressor.decompress(compression, body, bytes_max, &mut plain)));
        match result {
            Ok(Ok(())) => Ok(Some(plain.freeze())),
            Ok(Err(DecompressError::TooLarge { bytes_max })) if bytes_max < self.bytes_max => Ok(None),
            Ok(Err(error)) => Err(self.decompress_status(signal, compression, &error)),
            Err(_) => Err(self.our_fault(signal, "decompressing")),
        }
    }

    /// A large body, in steps between which others have their turn.
    async fn unpack(&self, signal: Signal, compression: Compression, body: &[u8]) -> Result<Bytes, Status> {
        let _turn = self.unpacker.turn.lock().await;
        let guess = plain_length_guess(compression, body).min(self.bytes_max);
        // A step may have room for more than it gives.
        let mut plain = self.shard.buffers.take(guess + STEP_BYTES);
        let mut unpacking = Unpacking::begin(compression, body, self.bytes_max);
        let mut has_grown = false;
        loop {
            if plain.capacity() - plain.len() < STEP_BYTES {
                // Growing again and again would copy all of it in one go, each time.
                let room = self.bytes_max + STEP_BYTES - plain.len();
                plain.reserve_exact(room);
                has_grown = true;
            }
            let error = match catch_unwind(AssertUnwindSafe(|| unpacking.step(&mut plain))) {
                Ok(Ok(Step::Done)) if has_grown => return Ok(self.fitting(plain).freeze()),
                Ok(Ok(Step::Done)) => return Ok(plain.freeze()),
                Ok(Ok(Step::More)) => {
                    yield_now().await;
                    continue;
                }
                Ok(Err(error)) => self.decompress_status(signal, compression, &error),
                Err(_) => self.our_fault(signal, "decompressing"),
            };
            plain.discard();
            return Err(error);
        }
    }

    /// The same bytes with no more room than they need: a batch is charged for its room as long as it lives.
    fn fitting(&self, large: Buffer) -> Buffer {
        let mut fitting = self.shard.buffers.take(large.len());
        fitting.extend_from_slice(&large);
        large.discard();
        fitting
    }

    /// JSON -> the protobuf that the index reads; it takes more bytes only where counts of buckets do.
    fn transcode(&self, signal: Signal, json: &[u8]) -> Result<Bytes, Status> {
        // Names of fields are most of the JSON that SDKs write.
        let mut protobuf = self.shard.buffers.take(json.len() / 2);
        match catch_unwind(AssertUnwindSafe(|| codecs::json::read_request(signal, json, &mut protobuf))) {
            Ok(Ok(())) => Ok(protobuf.freeze()),
            Ok(Err(error)) => Err(self.json_status(signal, &error)),
            Err(_) => Err(self.our_fault(signal, "reading")),
        }
    }

    /// The same of a large body, in steps between which others have their turn.
    async fn transcode_in_steps(&self, signal: Signal, json: &[u8]) -> Result<Bytes, Status> {
        let mut protobuf = self.shard.buffers.take(json.len() / 2);
        let mut transcoding = Transcoding::begin(signal, json);
        loop {
            let error = match catch_unwind(AssertUnwindSafe(|| transcoding.step(&mut protobuf))) {
                Ok(Ok(Step::Done)) => return Ok(protobuf.freeze()),
                Ok(Ok(Step::More)) => {
                    yield_now().await;
                    continue;
                }
                Ok(Err(error)) => self.json_status(signal, &error),
                Err(_) => self.our_fault(signal, "reading"),
            };
            protobuf.discard();
            return Err(error);
        }
    }

    fn json_status(&self, signal: Signal, error: &JsonError) -> Status {
        let message = format!("not an {} in JSON: {error}", signal.request());
        self.reject(signal, RejectReason::Malformed, Status::new(Code::InvalidArgument, message))
    }

    /// Over HTTP the Collector answers 400 for both; over gRPC the size has a code of its own.
    fn decompress_status(&self, signal: Signal, compression: Compression, error: &DecompressError) -> Status {
        let (reason, code) = match (error, self.transport) {
            (DecompressError::TooLarge { .. }, Transport::Grpc) => (RejectReason::TooLarge, Code::ResourceExhausted),
            (DecompressError::TooLarge { .. }, Transport::Http | Transport::File) => {
                (RejectReason::TooLarge, Code::InvalidArgument)
            }
            (DecompressError::Broken(_), _) => (RejectReason::Compression, Code::InvalidArgument),
        };
        self.reject(signal, reason, Status::new(code, format!("{} body: {error}", compression.name())))
    }

    /// A panic in pure code: the request is lost for its sender to repeat elsewhere, the process goes on.
    fn our_fault(&self, signal: Signal, verb: &str) -> Status {
        tracing::error!(
            receiver = self.number,
            "a request made {verb} it fail; please report this with the request's bytes"
        );
        self.shard.cells.add(self.caught_panics, 1);
        self.reject(
            signal,
            RejectReason::Internal,
            Status::internal(format!("{verb} this request failed inside the gateway")),
        )
    }

    /// Hands the batch to every pipeline of this receiver and its signal, and waits until the sender may forget it.
    async fn deliver(&self, signal: Signal, mut batch: Batch, patience: Patience) -> Result<(), Status> {
        let waiting = {
            let mut pipelines = self.pipelines.borrow_mut();
            if !pipelines.have_room(self.number, signal) {
                self.complain(Reason::Refused(RefuseReason::Queue), None);
                return Err(busy("the exporters of this gateway do not keep up and its queues are full"));
            }
            if !pipelines.admit(self.number, signal, batch.client.as_deref()) {
                // The Collector's words and code: permanent, because the sender's next request has the same values.
                return Err(Status::internal("too many batcher metadata-value combinations"));
            }
            let (ack, waiting) = ack::open();
            batch.acks.push(ack);
            pipelines.consume(self.number, signal, batch);
            waiting
        };
        match patience.during(waiting).await? {
            Outcome::Taken => Ok(()),
            Outcome::Failed(status) => Err(status),
        }
    }
}

/// Not now: the sender keeps the request and comes back.
fn busy(why: &str) -> Status {
    let jitter = RETRY_AFTER.mul_f64(fastrand::f64());
    Status::new(Code::Unavailable, why.to_owned()).retry_after(RETRY_AFTER + jitter)
}

impl RequestHandler for OtlpReceiver {
    async fn enter(&self, head: Head<'_>) -> Result<Option<Rc<Client>>, Status> {
        self.door.enter(head, self.peer).await.map_err(|denied| match denied {
            Denied::Credential(why) => {
                self.count_rejected(None, RejectReason::Auth, Some(&why));
                Status::new(Code::Unauthenticated, why)
            }
            Denied::Busy => {
                self.shard.cells.add(self.series.refused_requests(RefuseReason::Queue), 1);
                self.complain(Reason::Refused(RefuseReason::Queue), Some("too many passwords wait to be checked"));
                busy("too many passwords wait to be checked")
            }
        })
    }

    fn admit(&self, signal: Signal, bytes: usize) -> Result<(), Status> {
        let bytes = bytes as u64;
        let admitted = match &self.share {
            Some(share) => share.admit(Holder::Requests, bytes),
            None => self.shard.lease.try_charge(Holder::Requests, bytes).map_err(|_| Refusal::Budget),
        };
        let (reason, why) = match admitted {
            Ok(()) => return Ok(()),
            Err(Refusal::Budget) => (RefuseReason::Memory, "data refused due to high memory usage"),
            Err(Refusal::Share) => {
                (RefuseReason::Share, "data refused due to high memory usage: this sender has sent more than its share")
            }
        };
        self.shard.cells.add(self.series.refused_requests(reason), 1);
        self.complain(Reason::Refused(reason), None);
        // Its items are not known yet; one is the least it has, and an alert on the limiter sees it.
        self.pipelines.borrow().count_refused(self.number, signal, 1);
        Err(busy(why))
    }

    fn take_buffer(&self, bytes: usize) -> Buffer {
        self.shard.buffers.take(bytes)
    }

    fn rejected(&self, signal: Option<Signal>, reason: RejectReason) {
        self.count_rejected(signal, reason, None);
    }

    async fn handle(&self, request: ReceivedRequest) -> Result<(), Status> {
        let body = match request.body {
            Body::Gathered(buffer) => buffer.freeze(),
            Body::Whole(bytes) => self.shard.buffers.adopt(bytes),
        };
        let ReceivedRequest { signal, compression, format, client, patience, .. } = request;
        let encoding = BodyEncoding { compression, format };
        let whole_ns = self.shard.clock.now_ns();
        let handed =
            self.balance.hand_over(self.handler, signal, &body, encoding, client.as_deref(), patience.wait_max);
        let result = match handed {
            None => self.take(signal, body, encoding, client, patience).await,
            Some(away) => self.balance.answer(away, patience).await,
        };
        if result.is_ok() {
            self.shard.cells.observe(self.series.ack_ns, self.shard.clock.now_ns() - whole_ns);
        }
        result
    }
}
