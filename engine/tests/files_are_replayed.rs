//! What a `file` exporter wrote is read again: field by field the same, whatever the format; nothing is lost where the
//! gateway is full, a file is cut in the middle or moved away, and what is broken is counted, named and left behind.

mod common;

use codecs::compression::{Compression, Compressor};
use codecs::grpc::Code;
use codecs::json;
use codecs::otlp::Signal;
use codecs::otlp::proto::{
    AnyValue, ExportLogsServiceRequest, ExportMetricsServiceRequest, Gauge, KeyValue, LogRecord, Metric, MetricData,
    NumberDataPoint, NumberValue, Resource, ResourceLogs, ResourceMetrics, ScopeLogs, ScopeMetrics, Value,
};
use common::gateway::{Engine, Gateway};
use common::grpc::Call;
use common::traces::{Kind, Trace, request_of};
use common::{Answer, GrpcSender, Sink, wait_for};
use prost::Message;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

/// A gateway with these receivers and exporters (YAML below `receivers` and `exporters`) and pipelines, beside one that
/// takes OTLP and leaves it.
fn start(runtime: &str, receivers: &str, exporters: &str, pipelines: &str) -> Gateway {
    Gateway::start(
        &format!(
            "receivers:\n  otlp:\n    protocols:\n      grpc: {{endpoint: '127.0.0.1:0'}}\n      http: {{endpoint: \
             '127.0.0.1:0'}}\n{receivers}exporters:\n  nop:\n{exporters}service:\n  engine: {{cores: 2, pin: false, runtime: \
             {runtime}, shutdown_timeout: 60s, admin: '127.0.0.1:0'}}\n  telemetry: {{metrics: {{address: \
             '127.0.0.1:0', names: both}}}}\n  pipelines:\n    traces/nowhere: {{receivers: [otlp], exporters: \
             [nop]}}\n{pipelines}"
        ),
        &[],
    )
}

fn otlp(name: &str, sink: &Sink) -> String {
    let without = "sending_queue: {enabled: false}, retry_on_failure: {enabled: false}";
    format!("  {name}: {{endpoint: '{}', tls: {{insecure: true}}, compression: none, {without}}}\n", sink.address)
}

/// A receiver of one file that is read from its beginning, and often.
fn reading(id: &str, path: &Path, more: &str) -> String {
    format!("  {id}: {{include: ['{}'], start_at: beginning, poll_interval: 5ms, {more}}}\n", path.display())
}

fn traces(number: u64) -> Vec<u8> {
    request_of(&[Trace { number, spans: 3, kind: Kind::Plain }]).to_vec()
}

fn resource() -> Option<Resource> {
    let value = Some(AnyValue { value: Some(Value::String("Straße\n\"5\"".as_bytes().to_vec())) });
    Some(Resource { attributes: vec![KeyValue { key: b"service.name".to_vec(), value }], ..Resource::default() })
}

fn metrics(points: i64) -> Vec<u8> {
    let point = |value| NumberDataPoint {
        time_unix_nano: 7,
        value: Some(NumberValue::AsInt(value)),
        ..NumberDataPoint::default()
    };
    let data = MetricData::Gauge(Gauge { data_points: (0..points).map(point).collect() });
    let metric = Metric { name: b"depth".to_vec(), data: Some(data), ..Metric::default() };
    let scope_metrics = vec![ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() }];
    let group = ResourceMetrics { resource: resource(), scope_metrics, ..ResourceMetrics::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![group] }.encode_to_vec()
}

fn logs(records: u64) -> Vec<u8> {
    let record = |number| LogRecord { time_unix_nano: number, ..LogRecord::default() };
    let scope_logs = vec![ScopeLogs { log_records: (0..records).map(record).collect(), ..ScopeLogs::default() }];
    let group = ResourceLogs { resource: resource(), scope_logs, ..ResourceLogs::default() };
    ExportLogsServiceRequest { resource_logs: vec![group] }.encode_to_vec()
}

fn line(signal: Signal, message: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    json::write_request(signal, message, &mut text).expect("a request");
    text.push(b'\n');
    text
}

fn spans_line(number: u64) -> Vec<u8> {
    line(Signal::Traces, &traces(number))
}

fn length_and(record: &[u8]) -> Vec<u8> {
    [&u32::try_from(record.len()).expect("a short record").to_be_bytes()[..], record].concat()
}

fn append(path: &Path, bytes: &[u8]) {
    let mut file = OpenOptions::new().append(true).create(true).open(path).expect("a file can be made");
    file.write_all(bytes).expect("a file can be written");
}

/// Requests of traces at the sink, as lines: their fields may have come in another order.
fn replayed(sink: &Sink) -> Vec<Vec<u8>> {
    sink.requests().iter().map(|request| line(Signal::Traces, request)).collect()
}

/// Waits until the sink has these requests of traces, in this order and no others.
fn wait_for_traces(sink: &Sink, numbers: &[u64]) {
    wait_for("replayed requests", || (sink.requests().len() >= numbers.len()).then_some(()));
    let expected: Vec<Vec<u8>> = numbers.iter().map(|number| spans_line(*number)).collect();
    assert!(replayed(sink) == expected, "not these traces, in this order: {numbers:?}");
}

#[test]
fn what_was_written_in_any_format_is_replayed_field_by_field() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let sent = [(Signal::Traces, traces(1)), (Signal::Metrics, metrics(3)), (Signal::Logs, logs(2))];
    let names = ["traces", "metrics", "logs"];
    let (mut exporters, mut writing) = (String::new(), String::new());
    for (file, more) in [("lines", ""), ("packed", ", compression: zstd")] {
        exporters += &format!("  file/{file}: {{path: '{}'{more}}}\n", path(file).display());
    }
    for name in names {
        for (file, more) in [("proto", ""), ("packed_proto", ", compression: zstd")] {
            let path = path(&format!("{name}.{file}"));
            exporters += &format!("  file/{file}_{name}: {{path: '{}', format: proto{more}}}\n", path.display());
        }
        let all = format!("[file/lines, file/packed, file/proto_{name}, file/packed_proto_{name}]");
        writing += &format!("    {name}: {{receivers: [otlp], exporters: {all}}}\n");
    }
    let gateway = start("epoll", "", &exporters, &writing);
    for (signal, message) in &sent {
        let answer = GrpcSender::connect(gateway.grpc).begin(Call::plain(message).to(signal.grpc_method())).wait();
        assert_eq!(answer, Answer::Taken);
    }
    gateway.stop().assert_nothing_lost();

    let runtimes = ["epoll"].into_iter().chain(Engine::io_uring(2).map(|engine| engine.runtime));
    for runtime in runtimes {
        let sinks = [Sink::start(), Sink::start(), Sink::start(), Sink::start()];
        let (mut receivers, mut exporters, mut pipelines) = (String::new(), String::new(), String::new());
        receivers += &reading("otlp_json_file/lines", &path("lines"), "");
        receivers += &reading("otlpjsonfile/packed", &path("packed"), "compression: zstd");
        for (number, sink) in sinks.iter().enumerate() {
            exporters += &otlp(&format!("otlp/{number}"), sink);
        }
        for name in names {
            let proto = |file: &str| path(&format!("{name}.{file}"));
            receivers += &reading(&format!("otlp_json_file/proto_{name}"), &proto("proto"), "format: proto");
            let packed = "format: proto, compression: zstd";
            receivers += &reading(&format!("otlp_json_file/packed_{name}"), &proto("packed_proto"), packed);
            let all = ["otlp_json_file/lines".to_owned(), "otlpjsonfile/packed".to_owned()]
                .into_iter()
                .chain(["proto", "packed"].map(|file| format!("otlp_json_file/{file}_{name}")));
            for (number, receiver) in all.enumerate() {
                pipelines += &format!("    {name}/{number}: {{receivers: [{receiver}], exporters: [otlp/{number}]}}\n");
            }
        }
        let gateway = start(runtime, &receivers, &exporters, &pipelines);
        for (number, sink) in sinks.iter().enumerate() {
            wait_for("all that was written", || (sink.requests().len() >= sent.len()).then_some(()));
            for (signal, message) in &sent {
                let come: Vec<Vec<u8>> =
                    sink.requests_of(signal.grpc_method()).iter().map(|request| line(*signal, request)).collect();
                assert_eq!(come, [line(*signal, message)], "{signal:?} of {number}");
            }
        }
        // A record is accepted when its reader hears so, which is after it has gone on.
        let accepted = || gateway.ledger().intake_over("file", "accepted");
        wait_for("all of it in the ledger", || (accepted() == 4 * (3 + 3 + 2)).then_some(()));
        gateway.stop().assert_nothing_lost();
    }
}

#[test]
fn half_a_record_waits_for_its_rest_and_a_last_line_needs_no_end() {
    let directory = tempfile::tempdir().unwrap();
    let (lines, lengths) = (directory.path().join("lines"), directory.path().join("lengths"));
    let (first, second) = (spans_line(1), spans_line(2));
    append(&lines, &[&first[..], &second[..second.len() / 2]].concat());
    let mut packed = Vec::new();
    Compressor::default().compress(Compression::Zstd, None, second.trim_ascii(), &mut packed);
    let packed = length_and(&packed);
    append(&lengths, &packed[..packed.len() - 1]);
    let sinks = [Sink::start(), Sink::start()];
    let receivers =
        reading("otlp_json_file/lines", &lines, "") + &reading("otlp_json_file/lengths", &lengths, "compression: zstd");
    let gateway = start(
        "epoll",
        &receivers,
        &(otlp("otlp/lines", &sinks[0]) + &otlp("otlp/lengths", &sinks[1])),
        "    traces/lines: {receivers: [otlp_json_file/lines], exporters: [otlp/lines]}\n    traces/lengths: {receivers: \
         [otlp_json_file/lengths], exporters: [otlp/lengths]}\n",
    );
    wait_for_traces(&sinks[0], &[1]);
    // Both are said once, which is after the halves have been seen.
    let middle = "The file ends in the middle of a record";
    wait_for("two halves that are said", || (gateway.said().matches(middle).count() == 2).then_some(()));
    assert!(gateway.said().contains(&format!("{}:2, byte {}", lines.display(), first.len())), "{}", gateway.said());
    append(&lines, second[second.len() / 2..].trim_ascii_end());
    append(&lengths, &packed[packed.len() - 1..]);
    wait_for_traces(&sinks[0], &[1, 2]);
    wait_for_traces(&sinks[1], &[2]);
    append(&lines, &[b"\n", &spans_line(3)[..]].concat());
    wait_for_traces(&sinks[0], &[1, 2, 3]);
    assert_eq!(gateway.said().matches(middle).count(), 2);
    gateway.stop().assert_nothing_lost();
}

#[test]
fn broken_records_are_counted_named_with_their_line_and_left_behind() {
    let directory = tempfile::tempdir().unwrap();
    let (lines, lengths) = (directory.path().join("lines"), directory.path().join("lengths"));
    let broken = b"{\"resourceSpans\": [}\n\xff\xfe not JSON\n";
    let large = [&b"{\"resourceSpans\": \""[..], &[b'x'; 4000], b"\"}\n"].concat();
    append(&lines, &[&spans_line(1)[..], broken, &large, b"\n{\"resourceLogs\":[]}\n", &spans_line(2)].concat());
    append(&lengths, &[length_and(b"no zstd"), length_and(&traces(3)), length_and(&[0xff; 9])].concat());
    // What is no file of lengths begins with a very large one.
    let wrong = directory.path().join("wrong");
    append(&wrong, &spans_line(9));
    let sink = Sink::start();
    let receivers = reading("otlp_json_file/lines", &lines, "max_log_size: 2KiB")
        + &reading("otlp_json_file/lengths", &lengths, "format: proto")
        + &reading("otlp_json_file/wrong", &wrong, "format: proto");
    let gateway = start(
        "epoll",
        &receivers,
        &otlp("otlp", &sink),
        "    traces: {receivers: [otlp_json_file/lines], exporters: [otlp]}\n    traces/lengths: {receivers: \
         [otlp_json_file/lengths, otlp_json_file/wrong], exporters: [nop]}\n",
    );
    wait_for_traces(&sink, &[1, 2]);
    let rejected = |receiver: &str, reason: &str| {
        let labels = [format!("receiver=\"otlp_json_file/{receiver}\""), format!("reason=\"{reason}\"")];
        gateway.metrics().sum("otelcol_receiver_rejected_requests", &labels.each_ref().map(String::as_str))
    };
    wait_for("the other files", || (rejected("wrong", "too_large") == 1.0).then_some(()));
    wait_for("the other files", || (rejected("lengths", "malformed") == 2.0).then_some(()));
    assert_eq!((rejected("lines", "malformed"), rejected("lines", "too_large")), (2.0, 1.0));
    let said = gateway.said();
    for place in [
        format!("{}:2, byte {}", lines.display(), spans_line(1).len()),
        format!("{}:3, byte ", lines.display()),
        format!("{}:4, byte ", lines.display()),
        format!("{}:1, byte 0", lengths.display()),
        format!("{}:3, byte ", lengths.display()),
        format!("{}:1, byte 0", wrong.display()),
    ] {
        assert_eq!(said.matches(&place).count(), 1, "{place} in {said}");
    }
    assert!(said.contains("`max_log_size`: raise it"), "{said}");
    // A look later nothing has been tried again.
    append(&lines, &spans_line(4));
    wait_for_traces(&sink, &[1, 2, 4]);
    assert_eq!((rejected("lines", "malformed"), rejected("lines", "too_large")), (2.0, 1.0));
    assert!(gateway.ledger().is_balanced());
    gateway.stop();
}

#[test]
fn a_record_that_is_refused_is_tried_again_until_it_is_taken_and_the_next_waits() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lines");
    let numbers: Vec<u64> = (1..=20).collect();
    append(&path, &numbers.iter().flat_map(|number| spans_line(*number)).collect::<Vec<u8>>());
    let sink = Sink::start();
    sink.refuse(Code::Unavailable);
    let gateway = start(
        "epoll",
        &reading("otlp_json_file", &path, ""),
        &otlp("otlp", &sink),
        "    traces: {receivers: [otlp_json_file], exporters: [otlp]}\n",
    );
    sink.wait_for_asked(3);
    assert!(sink.requests().is_empty());
    assert!(gateway.ledger().intake_over("file", "refused") >= 2 * 3);
    sink.take();
    wait_for_traces(&sink, &numbers);
    let accepted = || gateway.ledger().intake_over("file", "accepted");
    wait_for("all of it in the ledger", || (accepted() == 20 * 3).then_some(()));
    let ending = gateway.stop();
    assert_eq!(ending.status.code(), Some(0), "{}", ending.said);
}

#[test]
fn a_gateway_stops_while_nobody_takes_what_it_reads() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lines");
    append(&path, &[spans_line(1), spans_line(2)].concat());
    let sink = Sink::start();
    sink.refuse(Code::Unavailable);
    let gateway = start(
        "epoll",
        &reading("otlp_json_file", &path, ""),
        &otlp("otlp", &sink),
        "    traces: {receivers: [otlp_json_file], exporters: [otlp]}\n",
    );
    sink.wait_for_asked(2);
    let ending = gateway.stop();
    assert_eq!(ending.status.code(), Some(0), "{}", ending.said);
    assert!(ending.said.contains("Stopped before the end of this file"), "{}", ending.said);
}

#[test]
fn files_that_are_moved_replaced_or_cut_are_followed_and_what_is_old_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    append(&path("old.json"), &spans_line(1));
    append(&path("excluded.json"), &spans_line(2));
    let sink = Sink::start();
    let receivers = format!(
        "  otlp_json_file: {{include: ['{}/*.json'], exclude: ['**/excluded.*'], poll_interval: 5ms}}\n",
        directory.path().display()
    );
    let pipelines = "    traces: {receivers: [otlp_json_file], exporters: [otlp]}\n";
    let gateway = start("epoll", &receivers, &otlp("otlp", &sink), pipelines);
    // What is written before the first look would be as old as the rest.
    let third = spans_line(3);
    let mut written = 0;
    wait_for("the first look", || {
        append(&path("old.json"), &third);
        written += 1;
        (!sink.requests().is_empty()).then_some(())
    });
    // The last of those lines may come after what is written next to another file.
    let last = || replayed(&sink).into_iter().rfind(|come| *come != third);
    append(&path("new.json"), &spans_line(4));
    wait_for("a new file", || (last()? == spans_line(4)).then_some(()));
    // Written and moved to a name that is not looked for, with another file in its place.
    append(&path("new.json"), &spans_line(5));
    fs::rename(path("new.json"), path("new.json.1")).unwrap();
    append(&path("new.json"), &spans_line(6));
    wait_for("both files", || (last()? == spans_line(6)).then_some(()));
    // Cut off, as by `copytruncate`.
    append(&path("new.json"), &spans_line(7));
    wait_for("the seventh", || (last()? == spans_line(7)).then_some(()));
    OpenOptions::new().write(true).open(path("new.json")).unwrap().set_len(0).unwrap();
    wait_for("a file that was cut off", || gateway.said().contains("The file was cut off").then_some(()));
    append(&path("new.json"), &spans_line(8));
    wait_for("the eighth", || (last()? == spans_line(8)).then_some(()));
    let (old, new): (Vec<_>, Vec<_>) = replayed(&sink).into_iter().partition(|come| *come == third);
    assert!(old.len() <= written, "each line once");
    assert!(new == [4, 5, 6, 7, 8].map(spans_line), "each of the others once, in order");
    gateway.stop().assert_nothing_lost();
}

#[test]
fn a_file_is_replayed_again_and_again_if_that_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lines");
    append(&path, &[spans_line(1), spans_line(2)].concat());
    let sink = Sink::start();
    let gateway = start(
        "epoll",
        &reading("otlp_json_file", &path, "replay_file: true"),
        &otlp("otlp", &sink),
        "    traces: {receivers: [otlp_json_file], exporters: [otlp]}\n",
    );
    wait_for("three rounds", || (sink.requests().len() >= 6).then_some(()));
    assert!(replayed(&sink)[..6] == [1, 2, 1, 2, 1, 2].map(spans_line), "one round after the other");
    gateway.stop().assert_nothing_lost();
}

#[test]
fn a_file_that_was_cut_and_has_grown_again_between_two_looks_is_read_from_its_beginning() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    append(&path("b.json"), &spans_line(1));
    let sink = Sink::start();
    let gateway = start(
        "epoll",
        &reading("otlp_json_file", &path("*.json"), ""),
        &otlp("otlp", &sink),
        "    traces: {receivers: [otlp_json_file], exporters: [otlp]}\n",
    );
    wait_for_traces(&sink, &[1]);
    // While a record of one file is not taken, nobody looks at the other.
    sink.refuse(Code::Unavailable);
    append(&path("a.json"), &spans_line(2));
    sink.wait_for_asked(2);
    fs::write(path("b.json"), [3, 4, 5].map(spans_line).concat()).unwrap();
    sink.take();
    wait_for_traces(&sink, &[1, 2, 3, 4, 5]);
    assert!(gateway.said().contains("cut off and written anew"), "{}", gateway.said());
    append(&path("b.json"), &spans_line(6));
    wait_for_traces(&sink, &[1, 2, 3, 4, 5, 6]);
    let ending = gateway.stop();
    assert_eq!(ending.status.code(), Some(0), "{}", ending.said);
}

#[test]
fn more_files_are_followed_than_are_held_open() {
    const FILES: u64 = 700;
    let directory = tempfile::tempdir().unwrap();
    let path = |number: u64| directory.path().join(format!("{number:04}.json"));
    let numbers: Vec<u64> = (0..FILES).collect();
    for number in &numbers {
        append(&path(*number), &spans_line(*number));
    }
    let sink = Sink::start();
    let gateway = start(
        "epoll",
        &reading("otlp_json_file", &directory.path().join("*.json"), ""),
        &otlp("otlp", &sink),
        "    traces: {receivers: [otlp_json_file], exporters: [otlp]}\n",
    );
    wait_for_traces(&sink, &numbers);
    let gone = directory.path().join("gone");
    for (come, number) in [0, 350, 699, 1].into_iter().enumerate() {
        // A name that nobody looks for, of a file that is held open: it was read last.
        append(&path(number), &spans_line(FILES + come as u64));
        wait_for("what was added", || (sink.requests().len() == 700 + 2 * come + 1).then_some(()));
        fs::rename(path(number), &gone).unwrap();
        append(&gone, &spans_line(2 * FILES + come as u64));
        wait_for("what was added later", || (sink.requests().len() == 700 + 2 * come + 2).then_some(()));
    }
    let last: Vec<Vec<u8>> = (0..4).flat_map(|come| [FILES + come, 2 * FILES + come].map(spans_line)).collect();
    assert!(replayed(&sink)[700..] == last, "each once, in order");
    gateway.stop().assert_nothing_lost();
}

#[test]
fn a_record_that_memory_could_never_hold_is_counted_named_and_left_behind() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lines");
    let large = [&b"{\"resourceSpans\": \""[..], &vec![b'x'; 30 << 20], b"\"}\n"].concat();
    append(&path, &[&spans_line(1)[..], &large, &spans_line(2)].concat());
    let sink = Sink::start();
    let gateway = start(
        "epoll",
        &reading("otlp_json_file", &path, "max_log_size: 100MiB"),
        &otlp("otlp", &sink),
        "    traces: {receivers: [otlp_json_file], processors: [memory_limiter], exporters: [otlp]}\n\
         processors: {memory_limiter: {check_interval: 1s, limit_mib: 64}}\n",
    );
    wait_for_traces(&sink, &[1, 2]);
    let rejected = gateway.metrics().sum("otelcol_receiver_rejected_requests", &["reason=\"too_large\""]);
    assert_eq!(rejected, 1.0);
    let place = format!("{}:2, byte {}", path.display(), spans_line(1).len());
    let said = gateway.said();
    assert!(said.contains(&place) && said.contains("that the memory limit has room for"), "{said}");
    assert!(said.contains(&format!("{}   (otlp_json_file, from the beginning)", path.display())), "{said}");
    gateway.stop().assert_nothing_lost();
}
