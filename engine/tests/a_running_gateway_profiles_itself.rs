//! A gateway at work says where its memory and its time go, in the files that `go tool pprof` reads, and at the addresses
//! that runbooks have: its `pprof` extension, and the metrics port for its own machine.
//!
//! Files are read here by an own decoder of the published message; `interop` reads them once more with another program.

mod common;

use codecs::compression::{Compression, Decompressor};
use common::gateway::Setup;
use common::traces::{Kind, Trace, request_of};
use common::{Answer, Engine, Gateway, GrpcSender, HttpSender, Sink, wait_for};
use prost::Message;
use std::collections::HashMap;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};

/// The undecided traces of the heap's test; the trace table allocates them in chunks.
const HELD_BYTES: usize = 16 << 20;
const SPANS_PER_TRACE: u32 = 200;
const PROFILE_BYTES_MAX: usize = 64 << 20;

#[derive(Clone, PartialEq, Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    kinds: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    locations: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    functions: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    texts: Vec<String>,
    #[prost(int64, tag = "10")]
    duration_ns: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    locations: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    values: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    labels: Vec<Label>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(int64, tag = "1")]
    key: i64,
    #[prost(int64, tag = "2")]
    text: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, repeated, tag = "4")]
    lines: Vec<Line>,
}

#[derive(Clone, PartialEq, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
}

/// A sample as its stack of functions, the innermost first, its values, and its labels.
type Told<'p> = (Vec<&'p str>, &'p [i64], HashMap<&'p str, &'p str>);

impl Profile {
    fn text(&self, number: i64) -> &str {
        &self.texts[usize::try_from(number).expect("a number of a text")]
    }

    /// What each value of a sample is.
    fn kinds(&self) -> Vec<(&str, &str)> {
        self.kinds.iter().map(|it| (self.text(it.kind), self.text(it.unit))).collect()
    }

    fn samples(&self) -> Vec<Told<'_>> {
        let functions: HashMap<u64, &str> = self.functions.iter().map(|it| (it.id, self.text(it.name))).collect();
        let locations: HashMap<u64, &Location> = self.locations.iter().map(|it| (it.id, it)).collect();
        let samples = self.samples.iter().map(|Sample { locations: ids, values, labels }| {
            let lines = ids.iter().flat_map(|id| &locations[id].lines);
            let labels = labels.iter().map(|label| (self.text(label.key), self.text(label.text)));
            (lines.map(|line| functions[&line.function]).collect(), values.as_slice(), labels.collect())
        });
        samples.collect()
    }
}

fn ask(address: SocketAddr, path: &str) -> (u16, Vec<u8>) {
    let response = HttpSender::connect(address).request("GET", path, &[], b"");
    (response.status, response.body)
}

fn profile(address: SocketAddr, path: &str) -> Profile {
    let (status, body) = ask(address, path);
    assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
    let mut message = Vec::new();
    let plain = Decompressor::default().decompress(Compression::Gzip, &body, PROFILE_BYTES_MAX, &mut message);
    plain.expect("it is gzip");
    Profile::decode(&*message).expect("it is a profile")
}

/// A gateway with the extension, which holds every trace for an hour.
fn gateway(engine: Engine, sink: &Sink) -> Gateway {
    let policies = "{decision_wait: 3600s, policies: [{name: all, type: always_sample}]}";
    Setup::new(engine)
        .extension("pprof", "{endpoint: '127.0.0.1:0'}")
        .processor("tail_sampling", policies)
        .otlp("otlp", sink.address, "")
        .start()
}

fn send(sender: &GrpcSender, number: u64) -> usize {
    let request = request_of(&[Trace { number, spans: SPANS_PER_TRACE, kind: Kind::Plain }]);
    assert_eq!(sender.send(&request), Answer::Taken);
    request.len()
}

#[test]
fn the_heap_names_who_holds_the_memory() {
    let sink = Sink::start();
    let gateway = gateway(Engine::epoll(1), &sink);
    let sender = GrpcSender::connect(gateway.grpc);
    let mut sent = 0;
    for number in 0.. {
        sent += send(&sender, number);
        if sent >= HELD_BYTES {
            break;
        }
    }
    for address in [gateway.address_of("pprof"), gateway.metrics_address()] {
        let heap = profile(address, "/debug/pprof/heap");
        assert_eq!(
            heap.kinds(),
            [
                ("alloc_objects", "count"),
                ("alloc_space", "bytes"),
                ("inuse_objects", "count"),
                ("inuse_space", "bytes")
            ]
        );
        let samples = heap.samples();
        let of_the_table = samples.iter().filter(|(stack, _, _)| stack.iter().any(|it| it.contains("sampling::table")));
        let held: i64 = of_the_table.map(|(_, values, _)| values[3]).sum();
        // A sample: what is held is met within a few hundred KiB, so half of it is far below anything likely.
        assert!(held as usize > HELD_BYTES / 2, "{held} bytes are held by the trace table");
        assert!(samples.iter().all(|(_, values, _)| values[1] >= values[3] && values[3] >= 0));
    }
    drop(sender);
    gateway.stop().assert_nothing_lost();
}

#[test]
fn cpu_time_is_told_by_thread_and_function() {
    cpu_time_is_told(Engine::epoll(1));
    if let Some(engine) = Engine::io_uring(1) {
        cpu_time_is_told(engine);
    }
}

fn cpu_time_is_told(engine: Engine) {
    let mut setup = Setup::new(engine).extension("pprof", "{endpoint: '127.0.0.1:0'}");
    setup.exporters.push(("nop", "{}".to_owned()));
    let gateway = setup.start();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let sender = GrpcSender::connect(gateway.grpc);
            for number in 0.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                send(&sender, number);
            }
        });
        // However slow the machine is, sooner or later the shard gets a hundredth of a second of CPU within one.
        wait_for("a sample of the shard's own work", || {
            let cpu = profile(gateway.address_of("pprof"), "/debug/pprof/profile?seconds=1");
            assert_eq!(cpu.kinds(), [("samples", "count"), ("cpu", "nanoseconds")]);
            assert!(cpu.duration_ns >= 1_000_000_000);
            let samples = cpu.samples();
            assert!(samples.iter().all(|(_, values, _)| values[1] == values[0] * 10_000_000));
            let found = samples.iter().any(|(stack, _, labels)| {
                labels.get("thread") == Some(&"shard-0") && stack.iter().any(|it| it.contains("engine::shard::"))
            });
            found.then_some(())
        });
        done.store(true, Ordering::Relaxed);
    });
    gateway.stop().assert_nothing_lost();
}

#[test]
fn tasks_are_told_by_shard() {
    let sink = Sink::start();
    let gateway = gateway(Engine::epoll(2), &sink);
    let sender = GrpcSender::connect(gateway.grpc);
    send(&sender, 1);
    let (status, text) = ask(gateway.metrics_address(), "/debug/pprof/goroutine?debug=1");
    let text = String::from_utf8(text).expect("text");
    assert_eq!(status, 200);
    let total = text.lines().next().and_then(|line| line.strip_prefix("goroutine profile: total "));
    let total: u64 = total.and_then(|total| total.parse().ok()).expect(&text);
    let counts = text.lines().filter_map(|line| line.split_once(" @ ")).map(|(count, _)| count.parse::<u64>().unwrap());
    assert_eq!(counts.sum::<u64>(), total);
    for shard in [0, 1] {
        assert!(text.contains(&format!("# labels: {{\"shard\":\"{shard}\"")), "{text}");
    }
    assert!(text.contains("\tengine::shard::run::Shard::connect\tengine/src/shard/run.rs:"), "{text}");

    let tasks = profile(gateway.address_of("pprof"), "/debug/pprof/goroutine");
    let samples = tasks.samples();
    let connections = samples.iter().find(|(stack, _, _)| stack == &["engine::shard::run::Shard::connect"]);
    assert_eq!(connections.map(|(_, values, _)| *values), Some(&[1][..]), "the one sender");
    drop(sender);
    gateway.stop().assert_nothing_lost();
}

#[test]
fn there_is_one_profile_at_a_time_and_none_for_a_client_that_has_left() {
    let sink = Sink::start();
    let gateway = gateway(Engine::epoll(1), &sink);
    let address = gateway.address_of("pprof");
    let waiting = wait_for("a recording that is under way", || {
        let mut waiting = TcpStream::connect(address).expect("it listens");
        waiting
            .write_all(b"GET /debug/pprof/profile?seconds=120 HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .expect("it is open");
        // Whichever of the two requests comes first is answered.
        let (status, body) = ask(address, "/debug/pprof/heap");
        assert!(status == 200 || String::from_utf8_lossy(&body).contains("another profile is being made"));
        (status == 409).then_some(waiting)
    });
    for _ in 0..2 {
        assert_eq!(ask(gateway.metrics_address(), "/debug/pprof/profile?seconds=1").0, 409);
    }
    assert_eq!(ask(address, "/debug/pprof/goroutine?debug=1").0, 200, "counting tasks disturbs nobody");
    drop(waiting);
    wait_for("the end of the recording", || (ask(address, "/debug/pprof/heap").0 == 200).then_some(()));
    gateway.stop().assert_nothing_lost();
}
