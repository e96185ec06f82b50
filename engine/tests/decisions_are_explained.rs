//! Why a trace was kept or dropped: what each policy said, on the admin page and on the command line, over all shards. A
//! policy that runs dry is counted and changes nothing.

mod common;

use common::gateway::{Engine, Setup, wait_until_empty};
use common::traces::{Kind, Trace, request_of};
use common::{Answer, GrpcSender, Sink};
use std::process::Command;

const TRACES: u64 = 40;

const SAMPLING: &str = "{decision_wait: 100ms, policies: [{name: errors, type: status_code, status_code: {status_codes: \
                        [ERROR]}}, {name: all, type: always_sample, dry_run: true}, {name: long, type: span_count, \
                        span_count: {min_spans: 3}, dry_run: true}]}";

fn trace(number: u64) -> Trace {
    let kind = if number.is_multiple_of(4) { Kind::ErrorIn(1) } else { Kind::Plain };
    Trace { number, spans: if number.is_multiple_of(2) { 3 } else { 2 }, kind }
}

fn hex(id: [u8; 16]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn what_each_policy_said_is_told_of_kept_and_of_dropped_traces() {
    let sink = Sink::start();
    let gateway =
        Setup::new(Engine::epoll(2)).processor("tail_sampling", SAMPLING).otlp("otlp", sink.address, "").start();
    let sender = GrpcSender::connect(gateway.grpc);
    for number in 0..TRACES {
        assert_eq!(sender.send(&request_of(&[trace(number)])), Answer::Taken);
    }
    wait_until_empty(&gateway, &["otlp"]);
    for number in 0..TRACES {
        let id = hex(trace(number).id());
        let page: serde_json::Value = serde_json::from_str(&gateway.admin_page(&format!("/explain/{id}"))).unwrap();
        let [told] = &page.as_array().unwrap()[..] else { panic!("{page}") };
        let (outcome, policy) = if number.is_multiple_of(4) { ("sampled", "errors") } else { ("not sampled", "") };
        assert_eq!((told["outcome"].as_str(), told["policy"].as_str()), (Some(outcome), Some(policy)), "{told}");
        assert_eq!(
            (told["pipeline"].as_str(), told["spans"].as_u64()),
            (Some("traces"), Some(u64::from(trace(number).spans)))
        );
        let answers: Vec<&str> =
            told["policies"].as_array().unwrap().iter().map(|said| said["answer"].as_str().unwrap()).collect();
        let yes = |wanted: bool| if wanted { "sample" } else { "no" };
        assert_eq!(answers, [yes(number.is_multiple_of(4)), "sample", yes(number.is_multiple_of(2))], "{told}");
    }
    let metrics = gateway.metrics();
    let counted = |policy: &str, sampled: bool| {
        let labels = [format!("policy=\"{policy}\""), format!("sampled=\"{sampled}\"")];
        metrics.sum("otelcol_processor_tail_sampling_count_traces_sampled", &[&labels[0], &labels[1]])
    };
    assert_eq!((counted("errors", true), counted("errors", false)), (10.0, 30.0));
    assert_eq!((counted("all", true), counted("long", true), counted("long", false)), (40.0, 20.0, 20.0));

    let asked = |id: &str| {
        let url = gateway.admin_url();
        let told = Command::new(env!("CARGO_BIN_EXE_tracegate")).args(["explain", id, "--url", &url]).output().unwrap();
        (told.status.code(), String::from_utf8(told.stdout).unwrap() + &String::from_utf8(told.stderr).unwrap())
    };
    let (code, text) = asked(&hex(trace(4).id()));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("sampled by policy \"errors\" in traces"), "{text}");
    assert!(text.contains("  all     sample  (dry run: nobody listens)\n"), "{text}");
    let (code, text) = asked("0123456789abcdef0123456789abcdef");
    assert_eq!(code, Some(1));
    assert!(text.contains("nothing is noted of a trace that begins with 0123456789abcdef"), "{text}");
    gateway.stop().assert_nothing_lost();
    assert_eq!(
        sink.spans_count() as u64,
        (0..TRACES).filter(|number| number.is_multiple_of(4)).map(|number| u64::from(trace(number).spans)).sum::<u64>()
    );
}

#[test]
fn a_trace_that_waits_is_said_to() {
    let sink = Sink::start();
    let waiting = SAMPLING.replace("100ms", "1h");
    let gateway =
        Setup::new(Engine::epoll(2)).processor("tail_sampling", waiting).otlp("otlp", sink.address, "").start();
    let sender = GrpcSender::connect(gateway.grpc);
    assert_eq!(sender.send(&request_of(&[trace(1)])), Answer::Taken);
    let id = hex(trace(1).id());
    // The answer came when the trace was in the table of the shard that owns it.
    assert!(gateway.admin_page(&format!("/explain/{id}")).contains("\"pending\""));
    gateway.stop().assert_nothing_lost();
}
