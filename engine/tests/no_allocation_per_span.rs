//! Between accept and trace table nothing is allocated per span once the memory has been used before: a request of two
//! thousand spans costs as many allocations as one of ten.
//!
//! The path is the real one: receiver, index, pipeline, statements, tail sampler, trace table, on a shard's runtime. Only the socket
//! is left out, because HTTP/2 frames are allocated by their library, per frame.
//!
//! And what a connection holds that has nothing to say, counted in bytes by the same allocator; and how long, in steps, and with
//! what memory afterwards, a large body keeps its shard.

#![allow(clippy::unwrap_used, reason = "the whole file is a test; clippy only knows the functions marked as such")]

mod common;

use bytes::Bytes;
use codecs::compression::Compression;
use codecs::otlp::{Format, Signal};
use common::traces::{Kind, Trace, request_of};
use engine::auth::Authenticators;
use engine::config::checked::{
    AckMode, ComponentId, DurationBuckets, DurationSettings, DurationUnit, ErrorMode, ExporterKind, ExporterSettings,
    FairShare, HeadSettings, KeepaliveSettings, LabelSettings, LabelSource, QueueSettings, SpanChoice,
    SpanMetricsSettings, StatementGroup, StatementText, TransformSettings, Wanted,
};
use engine::connector::span_metrics::{Plan, SpanMetrics};
use engine::exporter::Exporter;
use engine::pipeline::client::{Clients, Head};
use engine::pipeline::{Outlet, Pipeline};
use engine::processor::transform::{Losses, Transform};
use engine::processor::{Processor, tail_sampling::TailSampling};
use engine::queue::{Branch, Queue};
use engine::receiver::complaint::Complaints;
use engine::receiver::door::Door;
use engine::receiver::otlp::OtlpReceiver;
use engine::shard::ShardContext;
use engine::shard::assemble::Gauges;
use engine::shard::balance::Balance;
use engine::shard::budget::{Budget, Senders};
use engine::shard::buffers::Buffers;
use engine::shard::clock::Clock;
use engine::shard::mesh::mesh;
use engine::shard::pipelines::Pipelines;
use engine::shard::runtime::{self, Runtime, Stream};
use engine::telemetry::cells::{Cells, Schema};
use engine::telemetry::metrics::{
    BookSeries, BudgetSeries, ExporterSeries, MeshSeries, OwnExporterSeries, ProcessorSeries, ReceiverSeries,
    ShardSeries, SpanMetricsSeries, TailSamplingSeries, TransformSeries,
};
use engine::transport::gate::Gate;
use engine::transport::grpc_server::GrpcServer;
use engine::transport::patience::Patience;
use engine::transport::tls::Alpn;
use engine::transport::{Body, BodyEncoding, Draining, ReceivedRequest, RequestHandler, Transport};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use sampling::Sampler;
use sampling::settings::{Policy, Rule, Settings};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::Notify;

/// The system's allocator, and a count of the calling thread's allocations.
struct Counting;

thread_local! {
    /// Constant and without a destructor, so that reading it never allocates, whatever the moment.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    /// Bytes that the thread has allocated and not freed.
    static BYTES: Cell<i64> = const { Cell::new(0) };
}

/// Counts bytes taken, or given back if there are fewer than before.
fn count_bytes(before: usize, after: usize) {
    let change = i64::try_from(after).unwrap_or(i64::MAX) - i64::try_from(before).unwrap_or(i64::MAX);
    let _ = BYTES.try_with(|bytes| bytes.set(bytes.get() + change));
}

fn count() {
    // A thread that ends has no such variable any more; its allocations are nobody's.
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
}

#[expect(unsafe_code, reason = "an allocator cannot be counted without being one")]
// SAFETY: every method passes its arguments to `System` unchanged and returns its result unchanged, so the contract of
// `GlobalAlloc` holds because it holds for `System`. Counting touches a thread-local `Cell` only: it does not allocate,
// does not unwind and does not look at the memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        count_bytes(0, layout.size());
        // SAFETY: the caller keeps the contract of `alloc`, which is that of `System.alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        count_bytes(0, layout.size());
        // SAFETY: the caller keeps the contract of `alloc_zeroed`, which is that of `System.alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        count_bytes(layout.size(), size);
        // SAFETY: `pointer` came from this allocator, so from `System`, with this layout: the caller's contract.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count_bytes(layout.size(), 0);
        // SAFETY: `pointer` came from this allocator, so from `System`, with this layout: the caller's contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SPANS_PER_TRACE: u32 = 10;
const ROUNDS_WARM: u64 = 40;
const ROUNDS_MEASURED: u64 = 40;

/// Allocations that the larger request may need more: a structure that doubles once again among the measured requests,
/// and a buffer that doubles because a body unpacks to more than was guessed. Far from one per span, or per trace.
const GROWTHS_MAX: f64 = 4.0;

/// Statements that change every span, and make no value of their own.
fn statements(schema: &mut Schema, losses: Losses) -> Processor {
    let texts = [
        r#"delete_key(attributes, "user.tier")"#,
        r#"set(attributes["http.route"], "hidden") where resource.attributes["service.name"] == "shop""#,
        r#"set(attributes["user.email"], SHA256(attributes["user.email"]))"#,
        r#"set(status.code, STATUS_CODE_OK) where name == "none""#,
    ];
    let statement = |text: &&str| StatementText { text: (*text).to_owned(), name: (*text).to_owned() };
    let group = StatementGroup {
        signal: Signal::Traces,
        context: ottl::Context::Span,
        paths: ottl::Paths::Bare,
        error_mode: ErrorMode::Propagate,
        conditions: vec![r#"IsMatch(name, "^operation")"#.to_owned()],
        statements: texts.iter().map(statement).collect(),
    };
    let series = TransformSeries::declare(schema, "transform", Signal::Traces, texts.into_iter());
    let settings = TransformSettings { groups: vec![group], keeps_unmasked: false };
    Processor::Transform(Box::new(Transform::new("transform".to_owned(), Signal::Traces, &settings, series, losses)))
}

/// Counted by service, kind, status and an attribute, of which there are few; names of operations are all different.
fn counted() -> SpanMetricsSettings {
    let label = |name: &str, source| LabelSettings {
        name: name.to_owned(),
        source,
        default: None,
        on_calls: true,
        on_duration: true,
        of_point: true,
        of_resource: false,
    };
    SpanMetricsSettings {
        calls: "calls".to_owned(),
        duration: Some(DurationSettings {
            name: "duration".to_owned(),
            unit: DurationUnit::Milliseconds,
            buckets: DurationBuckets::Exponential(160),
        }),
        labels: vec![
            label("service.name", LabelSource::Resource("service.name".to_owned())),
            label("span.kind", LabelSource::SpanKind),
            label("status.code", LabelSource::StatusCode),
            label("user.tier", LabelSource::Attribute(vec!["user.tier".to_owned()])),
        ],
        spans: SpanChoice::All,
        series_max: 100,
        expiration_ns: 0,
    }
}

/// A receiver in front of statements and of a tail sampler whose traces wait 0 ns, so that each turn decides and drops them, and beside it
/// a connector that counts every span.
fn receiver() -> (Rc<OtlpReceiver>, Rc<RefCell<Pipelines>>) {
    let mut schema = Schema::default();
    let policies = ["slow".to_owned()];
    let series = ReceiverSeries::declare(&mut schema, "otlp", "grpc", &[Signal::Traces]);
    let sampling = TailSamplingSeries::declare(&mut schema, "tail_sampling", &policies);
    let items = ["transform", "tail_sampling"].map(|id| ProcessorSeries::declare(&mut schema, id, Signal::Traces));
    let exporter = ExporterSeries::declare(&mut schema, "nop", Signal::Traces);
    let book = BookSeries::declare(&mut schema, "traces", "nop", Signal::Traces);
    let counted_book = BookSeries::declare(&mut schema, "traces/count", "span_metrics", Signal::Traces);
    let counters = SpanMetricsSeries::declare(&mut schema, "span_metrics");
    let gauges = Gauges {
        budget: BudgetSeries::declare(&mut schema),
        mesh: MeshSeries::declare(&mut schema),
        shard: ShardSeries::declare(&mut schema),
    };
    let losses = Losses { items: items[0].dropped, caught_panics: gauges.shard.caught_panics };
    let transform = statements(&mut schema, losses);
    let budget = Budget::new(1 << 30, 1 << 20, 1);
    let shard = ShardContext::new(0, 1, Clock::start(), Cells::new(&schema), Buffers::new(64 << 20), budget.lease());
    let settings = Settings {
        decision_wait_ns: 0,
        decide_when_certain: true,
        policies: vec![Policy {
            name: policies[0].clone(),
            rule: Rule::Latency { threshold_ms: 3_600_000, upper_threshold_ms: None },
        }],
        ..Settings::default()
    };
    let node = Processor::TailSampling(Box::new(TailSampling::new(Sampler::new(&settings, 7, 1), sampling)));
    let id = ComponentId { kind: "nop".to_owned(), name: None };
    let nop = ExporterSettings { id, signal: Signal::Traces, kind: ExporterKind::Nop };
    let nop =
        Exporter::new(&nop, None, None, &Authenticators::default(), Rc::default(), OwnExporterSeries::None, 0).unwrap();
    let queue = QueueSettings { enabled: false, num_consumers: 1, queue_size: 1, ..QueueSettings::default() };
    let queue = Queue::new(nop, &queue, None, exporter, shard.clone());
    let pipeline = Pipeline::new(
        Signal::Traces,
        vec![transform, node],
        items.to_vec(),
        vec![Branch::new(Rc::clone(&queue), book, "traces", AckMode::Received)],
        None,
    );
    let span_metrics = vec![Rc::new(RefCell::new(SpanMetrics::new(Arc::new(Plan::new(counted())), counters)))];
    let mut counting = Pipeline::new(Signal::Traces, Vec::new(), Vec::new(), Vec::new(), None);
    let outlet = Outlet { book: counted_book, targets: Vec::new(), span_metrics: Some(Rc::clone(&span_metrics[0])) };
    counting.connect(vec![outlet]);
    let pipelines = [counting, pipeline].map(|pipeline| Rc::new(RefCell::new(pipeline))).to_vec();
    let pipelines = Pipelines::new(
        pipelines,
        vec![[vec![0, 1], vec![], vec![]]],
        vec![[vec![], vec![], vec![]]],
        vec![queue],
        span_metrics,
        shard.clone(),
    );
    let pipelines = Rc::new(RefCell::new(pipelines));
    let end = Rc::new(RefCell::new(mesh(1, 1 << 20).pop().unwrap()));
    // A pipeline that asks for a header: what is known of a client is made once.
    let head = HeadSettings { include_metadata: true, ..HeadSettings::default() };
    let wanted = Wanted { metadata: vec!["x-tenant".to_owned()], ..Wanted::default() };
    let door = Door::new(&head, &wanted, &Authenticators::default(), Clients::default());
    let senders = Senders::new(FairShare::Connection, &shard.lease);
    let receiver = OtlpReceiver {
        number: 0,
        door: Rc::new(door),
        complaints: Complaints::new("otlp".to_owned(), Transport::Grpc),
        peer: None,
        share: senders.share_of(None),
        senders,
        handler: 0,
        transport: Transport::Grpc,
        bytes_max: 64 << 20,
        series: Rc::new(series),
        caught_panics: gauges.shard.caught_panics,
        pipelines: Rc::clone(&pipelines),
        balance: Balance::new(end, Rc::new(Notify::new()), gauges, shard.clone()),
        unpacker: Rc::default(),
        shard,
    };
    (Rc::new(receiver), pipelines)
}

/// Requests of so many spans, each with traces of its own.
fn requests(spans: u32, compression: Compression) -> Vec<Bytes> {
    let traces_each = u64::from(spans / SPANS_PER_TRACE);
    let request = |round: u64| {
        let numbers = round * traces_each..(round + 1) * traces_each;
        let traces: Vec<Trace> =
            numbers.map(|number| Trace { number, spans: SPANS_PER_TRACE, kind: Kind::Plain }).collect();
        let plain = request_of(&traces);
        let mut body = Vec::new();
        match compression {
            Compression::None => body.extend_from_slice(&plain),
            _ => codecs::compression::Compressor::default().compress(compression, None, &plain, &mut body),
        }
        Bytes::from(body)
    };
    (0..ROUNDS_WARM + ROUNDS_MEASURED).map(request).collect()
}

/// Allocations of one request, on average, after as many others of the same size.
fn allocations(spans: u32, compression: Compression) -> f64 {
    let requests = requests(spans, compression);
    let life = async move {
        let (receiver, pipelines) = receiver();
        let mut before = 0;
        let headers = HeaderMap::from_iter([(HeaderName::from_static("x-tenant"), HeaderValue::from_static("shop"))]);
        let uri = Uri::default();
        for (round, wire) in requests.iter().enumerate() {
            if round as u64 == ROUNDS_WARM {
                before = ALLOCATIONS.get();
            }
            // What the server does: the head, admission, a buffer of the shard, the bytes, the request.
            let client = receiver.enter(Head { headers: &headers, uri: &uri }).await.unwrap();
            assert!(client.is_some());
            receiver.admit(Signal::Traces, wire.len()).unwrap();
            let mut body = receiver.take_buffer(wire.len());
            body.extend_from_slice(wire);
            let body = Body::Gathered(body);
            receiver
                .handle(ReceivedRequest {
                    signal: Signal::Traces,
                    body,
                    compression,
                    format: Format::Protobuf,
                    transport: Transport::Grpc,
                    client,
                    patience: Patience::default(),
                })
                .await
                .unwrap();
            while pipelines.borrow_mut().turn(false) {}
        }
        let allocations = ALLOCATIONS.get() - before;
        // The path was the real one: every span is in the book, dropped by the policy.
        assert_eq!(
            receiver.shard.cells.read(receiver.series.of(Signal::Traces).accepted),
            requests.len() as u64 * u64::from(spans)
        );
        allocations as f64 / ROUNDS_MEASURED as f64
    };
    runtime::run(Runtime::Epoll, None, life).expect("the runtime starts")
}

#[test]
fn between_accept_and_trace_table() {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let (few, many) = (allocations(10, compression), allocations(2000, compression));
        eprintln!("{compression:?}: {few} allocations for a request of 10 spans, {many} for one of 2000");
        assert!(many <= few + GROWTHS_MAX, "{compression:?}: {few} for 10 spans, {many} for 2000");
    }
}

/// How often a request gives way to others before it is answered, and how it is.
async fn turns_of(receiver: &OtlpReceiver, body: Vec<u8>, compression: Compression, format: Format) -> (usize, bool) {
    let encoding = BodyEncoding { compression, format };
    let mut taking = pin!(receiver.take(Signal::Traces, body.into(), encoding, None, Patience::default()));
    let mut turns = 0;
    let result = poll_fn(|context| {
        turns += 1;
        taking.as_mut().poll(context)
    })
    .await;
    (turns, result.is_ok())
}

fn compressed(compression: Compression, plain: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    codecs::compression::Compressor::default().compress(compression, None, plain, &mut body);
    body
}

const COMPRESSIONS: [Compression; 7] = [
    Compression::Gzip,
    Compression::Zstd,
    Compression::Zlib,
    Compression::Deflate,
    Compression::Snappy,
    Compression::SnappyFramed,
    Compression::Lz4,
];

#[test]
fn a_large_body_gives_way_to_others_and_a_small_one_does_not() {
    let traces = |count: u64| {
        let traces: Vec<Trace> =
            (0..count).map(|number| Trace { number, spans: SPANS_PER_TRACE, kind: Kind::Plain }).collect();
        request_of(&traces)
    };
    let (small, large) = (traces(4), traces(400));
    for on in runtimes() {
        let (small, large) = (small.clone(), large.clone());
        runtime::run(on, None, async move {
            let (receiver, pipelines) = receiver();
            for compression in COMPRESSIONS {
                let body = compressed(compression, &small);
                assert_eq!(
                    turns_of(&receiver, body, compression, Format::Protobuf).await,
                    (1, true),
                    "{compression:?}"
                );
                let (turns, is_taken) =
                    turns_of(&receiver, compressed(compression, &large), compression, Format::Protobuf).await;
                assert!(is_taken, "{compression:?}");
                let turns_min = large.len() / (64 << 10);
                assert!(turns >= turns_min, "{turns} turns for {} bytes of {compression:?}", large.len());
                pipelines.borrow_mut().turn(false);
            }
            let in_json = |protobuf: &[u8]| {
                let mut json = Vec::new();
                codecs::json::write_request(Signal::Traces, protobuf, &mut json).unwrap();
                json
            };
            let none = Compression::None;
            assert_eq!(turns_of(&receiver, in_json(&small), none, Format::Json).await, (1, true));
            let json = in_json(&large);
            let turns_min = json.len() / (64 << 10);
            let (turns, is_taken) = turns_of(&receiver, json, none, Format::Json).await;
            assert!(is_taken && turns >= turns_min, "{turns} turns, at least {turns_min} expected");
        })
        .unwrap();
    }
}

#[test]
fn what_a_bomb_has_grown_is_not_kept() {
    runtime::run(Runtime::Epoll, None, async {
        let (receiver, _) = receiver();
        let receiver = OtlpReceiver { bytes_max: 2 << 20, ..(*receiver).clone() };
        // What is tried in one go first, before it is known to be large, keeps its buffers: those are of usual sizes.
        let kept_max = 1 << 20;
        let zeros = vec![0; 3 << 20];
        for compression in COMPRESSIONS {
            let bomb = compressed(compression, &zeros);
            let (_, is_taken) = turns_of(&receiver, bomb, compression, Format::Protobuf).await;
            assert!(!is_taken, "{compression:?}");
            let kept = receiver.shard.buffers.kept_bytes();
            assert!(kept <= kept_max, "{kept} bytes are kept after {compression:?}");
        }
        let brackets = br#"{"resourceSpans":"#.iter().copied().chain(std::iter::repeat_n(b'[', 2 << 20)).collect();
        assert!(!turns_of(&receiver, brackets, Compression::None, Format::Json).await.1);
        assert!(receiver.shard.buffers.kept_bytes() <= kept_max);
        assert_eq!(receiver.shard.buffers.out_bytes(), 0);
    })
    .unwrap();
}

/// Heap that an idle connection may hold once it has spoken, without its socket, in a build without optimisation, where
/// tasks are largest. 10,000 of them are below 60 MiB with what the allocator and the runtime add.
const RESTING_BYTES_MAX: i64 = 2 << 10;
/// The same with its socket and what the runtime has of it.
const RESTING_BYTES_WITH_SOCKET_MAX: i64 = 4 << 10;
const CONNECTIONS: i64 = 20;
/// What the test's own end of a connection takes: two buffers of 1 KiB.
const DUPLEX_BYTES: i64 = 2 << 10;

/// Frames of a gRPC client: its beginning, a call, and the answer to the server's first SETTINGS.
fn first_call() -> Vec<u8> {
    let mut block = Vec::new();
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", Signal::Traces.grpc_method()),
        ("content-type", "application/grpc"),
        ("user-agent", "OTel-OTLP-Exporter-Python/1.30.0 grpc-python/1.70.0"),
    ];
    for (name, value) in fields {
        // Literals that go into the table for compression (RFC 7541, 6.2.1).
        block.push(0x40);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.bytes());
        }
    }
    let call = [frame(1, 4, 1, &block), frame(0, 1, 1, &[0; 5])].concat();
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[]), call, frame(4, 1, 0, &[])].concat()
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[length[1], length[2], length[3], kind, flags], &stream.to_be_bytes()[..], payload].concat()
}

/// Reads until these bytes have come.
async fn read_until(stream: &mut (impl AsyncRead + Unpin), expected: &[u8]) {
    let (mut read, mut piece) = (Vec::new(), [0; 256]);
    while !read.windows(expected.len()).any(|window| window == expected) {
        let count = stream.read(&mut piece).await.unwrap();
        assert_ne!(count, 0, "the gateway has closed the connection");
        read.extend_from_slice(&piece[..count]);
    }
}

/// A client's end of a connection, which holds no memory.
struct Near(TcpStream);

impl Near {
    /// What a nonblocking socket said; if it has nothing to say, the task asks again.
    fn poll<T>(context: &mut Context<'_>, said: io::Result<T>) -> Poll<io::Result<T>> {
        match said {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            said => Poll::Ready(said),
        }
    }
}

impl AsyncRead for Near {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = self.0.read(buffer.initialize_unfilled());
        Near::poll(context, read).map_ok(|count| buffer.advance(count))
    }
}

impl AsyncWrite for Near {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.0.write(bytes);
        Near::poll(context, written)
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Bytes that a gRPC connection holds when it has spoken and rests, between the ends that `connect` makes.
async fn resting_bytes<N, F>(connect: impl Fn() -> (N, F)) -> i64
where
    N: AsyncRead + AsyncWrite + Unpin,
    F: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (receiver, pipelines) = receiver();
    // The shortest look, so that nobody waits long for what must come.
    let keepalive = KeepaliveSettings { ping_timeout_ns: 1, ..KeepaliveSettings::default() };
    let server = Rc::new(GrpcServer {
        signals: vec![Signal::Traces],
        message_bytes_max: 4 << 20,
        streams_max: None,
        keepalive,
        clock: Clock::start(),
    });
    let mut clients = Vec::with_capacity(usize::try_from(CONNECTIONS).unwrap() + 1);
    let mut before = BYTES.get();
    for number in 0..=CONNECTIONS {
        let (mut near, far) = connect();
        let (server, receiver) = (Rc::clone(&server), receiver.connected(None));
        runtime::spawn(async move { server.serve(far, receiver, Draining::default()).await });
        near.write_all(&first_call()).await.unwrap();
        // It asks for an empty table before it rests, and after the answer to this ping it does.
        read_until(&mut near, &frame(4, 0, 0, &[0, 1, 0, 0, 0, 0])).await;
        near.write_all(&[frame(4, 1, 0, &[]), frame(6, 0, 0, &[7; 8])].concat()).await.unwrap();
        read_until(&mut near, &frame(6, 1, 0, &[7; 8])).await;
        clients.push(near);
        // Requests without spans keep nothing; a turn lets go of what the receiver did.
        pipelines.borrow_mut().turn(false);
        if number == 0 {
            // With its first connection a shard gets the room in which it reads ahead for all.
            before = BYTES.get();
        }
    }
    (BYTES.get() - before) / CONNECTIONS
}

/// Where this machine lets a thread run both.
fn runtimes() -> impl Iterator<Item = Runtime> {
    let both = [Runtime::Epoll, Runtime::IoUring].into_iter();
    both.filter(|on| *on == Runtime::Epoll || runtime::probe_io_uring().is_ok())
}

#[test]
fn a_connection_that_has_spoken_and_is_idle_holds_little() {
    for on in runtimes() {
        runtime::run(on, None, async move {
            let each = resting_bytes(|| tokio::io::duplex(1 << 10)).await - DUPLEX_BYTES;
            println!("{each} bytes for each idle connection on {on:?}");
            assert!(each <= RESTING_BYTES_MAX, "{each} bytes for each idle connection on {on:?}");
        })
        .unwrap();
    }
}

#[test]
fn with_its_socket_an_idle_connection_holds_little_too() {
    for on in runtimes() {
        runtime::run(on, None, async move {
            let gate = Gate::open("gRPC".to_owned(), Alpn::Http2);
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let each = resting_bytes(|| {
                let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                near.set_nonblocking(true).unwrap();
                let far = Stream::from_std(listener.accept().unwrap().0).unwrap();
                (Near(near), gate.plain(far))
            })
            .await;
            println!("{each} bytes for each idle connection with its socket on {on:?}");
            assert!(each <= RESTING_BYTES_WITH_SOCKET_MAX, "{each} bytes for each with its socket on {on:?}");
        })
        .unwrap();
    }
}
