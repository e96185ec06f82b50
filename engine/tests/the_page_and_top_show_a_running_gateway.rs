//! What the admin page and `tracegate top` tell of a gateway is what its senders and backends saw.
//!
//! The page asks `/overview` each second; this test asks once everything has been delivered, so that every figure is known.

mod common;

use common::gateway::{Setup, wait_until_empty};
use common::grpc::Call;
use common::traces::{Kind, Trace, request};
use common::{Answer, Engine, Gateway, GrpcSender, Sink, http, wait_for};
use serde_json::Value;
use std::process::Command;

const TRACES: u64 = 20;
const SPANS_PER_TRACE: u32 = 5;
const SPANS: u64 = TRACES * SPANS_PER_TRACE as u64;
/// Every second trace has an error.
const KEPT_TRACES: u64 = TRACES / 2;
const KEPT_SPANS: u64 = KEPT_TRACES * SPANS_PER_TRACE as u64;

/// One policy decides, one only counts.
const SAMPLING: &str = "{decision_wait: 1s, policies: [{name: errors, type: status_code, status_code: {status_codes: \
                        [ERROR]}}, {name: everything, type: always_sample, dry_run: true}]}";

fn json(gateway: &Gateway, path: &str) -> Value {
    let page = http::page(gateway.admin, path);
    serde_json::from_str(&page).unwrap_or_else(|error| panic!("{path}: {error}: {page}"))
}

fn sum(list: &Value, term: &str) -> u64 {
    list.as_array()
        .expect("a list")
        .iter()
        .map(|it| it[term].as_u64().unwrap_or_else(|| panic!("no {term}: {it}")))
        .sum()
}

#[test]
fn every_view_tells_what_passed() {
    let sink = Sink::start();
    let mut setup =
        Setup::new(Engine::epoll(2)).processor("tail_sampling", SAMPLING).otlp("otlp/backend", sink.address, "");
    setup.exporters.push(("memory", "{}".to_owned()));
    let gateway = setup.start();
    let sender = GrpcSender::connect(gateway.grpc);
    for number in 0..TRACES {
        let kind = if number % 2 == 0 { Kind::ErrorIn(1) } else { Kind::Plain };
        let trace = Trace { number, spans: SPANS_PER_TRACE, kind };
        let spans = (0..SPANS_PER_TRACE).map(|place| trace.span(place)).collect();
        assert_eq!(sender.begin(Call::plain(&request("<b>shop</b>", spans))).wait(), Answer::Taken);
    }
    let ledger = wait_until_empty(&gateway, &["otlp/backend", "memory"]);
    assert!(ledger.is_balanced());

    let all = json(&gateway, "/overview");
    assert_eq!(all["gateway"]["state"], "ready");
    assert_eq!(all["ledger"], json(&gateway, "/ledger"));
    let pipeline = &all["pipelines"][0];
    assert_eq!((&pipeline["id"], &pipeline["receivers"][0]["accepted"]), (&"traces".into(), &SPANS.into()));
    assert_eq!(pipeline["processors"][0]["incoming"], SPANS);
    assert_eq!(pipeline["processors"][0]["outgoing"], KEPT_SPANS);
    for exporter in pipeline["exporters"].as_array().unwrap() {
        assert_eq!((&exporter["delivered"], &exporter["in_flight"]), (&KEPT_SPANS.into(), &0.into()), "{exporter}");
    }
    assert_eq!(all["shards"].as_array().unwrap().len(), 2);
    assert_eq!(sum(&all["shards"], "accepted"), SPANS);
    assert_eq!(sum(&all["shards"], "connections"), 1, "the one sender");
    assert!(all["budget"]["limit_bytes"].as_u64() > Some(0));
    assert_eq!(sum(&all["budget"]["holders"], "bytes"), all["budget"]["held_bytes"].as_u64().unwrap());
    let backend = all["queues"].as_array().unwrap().iter().find(|queue| queue["exporter"] == "otlp/backend").unwrap();
    assert_eq!((&backend["sent"], &backend["size"]), (&KEPT_SPANS.into(), &0.into()));
    assert_eq!((&all["policies"]["kept"], &all["policies"]["pending"]), (&KEPT_TRACES.into(), &0.into()));
    let policies = &all["policies"]["policies"];
    for (at, name, dry_run, sampled) in [(0, "errors", false, KEPT_TRACES), (1, "everything", true, TRACES)] {
        let policy = &policies[at];
        assert_eq!(
            (&policy["policy"], &policy["dry_run"], &policy["sampled"]),
            (&name.into(), &dry_run.into(), &sampled.into())
        );
    }
    assert_eq!(all["kept"]["traces"], KEPT_TRACES);
    assert_eq!(sum(&all["refusals"], "count"), 0);
    for histogram in all["latency"].as_array().unwrap() {
        let buckets = histogram["buckets"].as_array().unwrap();
        assert_eq!(buckets.len(), histogram["bounds"].as_array().unwrap().len() + 1);
        assert_eq!(buckets.iter().map(|it| it.as_u64().unwrap()).sum::<u64>(), histogram["count"].as_u64().unwrap());
    }

    let observed = |name: &str| -> u64 {
        let all = all["latency"].as_array().unwrap().iter().filter(|it| it["name"] == name);
        all.map(|it| it["count"].as_u64().unwrap()).sum()
    };
    assert_eq!(observed("tracegate_receiver_ack_seconds"), TRACES, "each trace came in a request of its own");
    let attempts = observed("tracegate_exporter_export_seconds");
    assert!((1..=KEPT_TRACES).contains(&attempts), "{attempts} exports");
    assert_eq!(
        observed("tracegate_tail_sampling_decision_lateness_seconds"),
        TRACES,
        "each was decided when it was due"
    );
    assert_eq!(backend["oldest_age_seconds"], 0, "nothing waits");

    let traces = json(&gateway, "/traces");
    assert_eq!(traces.as_array().unwrap().len() as u64, KEPT_TRACES);
    let trace = json(&gateway, &format!("/traces/{}", traces[0]["trace_id"].as_str().unwrap()));
    let analysis = &trace["analysis"];
    assert_eq!(analysis["spans"].as_array().unwrap().len(), trace["spans"].as_array().unwrap().len());
    let explained = sum(&analysis["spans"], "on_path_ns") + analysis["unexplained_ns"].as_u64().unwrap();
    assert_eq!(Some(explained), trace["duration_ns"].as_u64(), "each nanosecond belongs to one span");
    assert!(analysis["bottleneck"].is_u64());

    top_shows_the_same(&gateway);
    gateway.stop().assert_nothing_lost();
}

#[test]
fn a_request_that_waits_in_memory_shows_its_age_until_it_has_left() {
    let sink = Sink::start();
    sink.hold();
    let gateway = Setup::new(Engine::epoll(1)).otlp("otlp/backend", sink.address, "").start();
    let sender = GrpcSender::connect(gateway.grpc);
    let trace = Trace { number: 1, spans: 1, kind: Kind::Plain };
    assert_eq!(sender.begin(Call::plain(&request("shop", vec![trace.span(0)]))).wait(), Answer::Taken);
    let oldest = || json(&gateway, "/overview/queues")[0]["oldest_age_seconds"].as_u64().expect("an age");
    wait_for("a request that has waited for a second", || (oldest() >= 1).then_some(()));
    let shown = gateway.metrics().sum("tracegate_exporter_queue_oldest_age_seconds", &["exporter=\"otlp/backend\""]);
    assert!(shown >= 1.0, "{shown}");
    sink.take();
    wait_until_empty(&gateway, &["otlp/backend"]);
    assert_eq!(oldest(), 0);
    gateway.stop().assert_nothing_lost();
}

/// Without a terminal it prints one screen.
fn top_shows_the_same(gateway: &Gateway) {
    let url = format!("http://{}", gateway.admin);
    let output = Command::new(env!("CARGO_BIN_EXE_tracegate")).args(["top", "--once", "--url", &url]).output();
    let output = output.expect("it starts");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for expected in [
        &format!("Received {SPANS} spans: {KEPT_SPANS} kept and delivered to each of")[..],
        "traces: otlp 0/s > tail_sampling 0/s > otlp/backend 0/s, memory 0/s",
        &format!("0 traces pending; of {TRACES} decided {KEPT_TRACES} kept"),
        "[....................] otlp/backend 0 of",
        &format!("errors: wanted kept {KEPT_TRACES} (50.0 %)"),
        &format!("everything: would have kept {TRACES} (100.0 %)"),
    ] {
        assert!(text.contains(expected), "{expected}\nis not in\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "no colours where nobody sees them");
}

#[test]
fn top_says_what_to_do_when_nothing_listens() {
    let output = Command::new(env!("CARGO_BIN_EXE_tracegate")).args(["top", "--url", "http://127.0.0.1:1"]).output();
    let output = output.unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("nothing listens at http://127.0.0.1:1") && said.contains("--url"), "{said}");
}
