//! Another configuration for a gateway that runs: rules change while traces are pending, processors while spans pass, and
//! what is wrong or needs a restart changes nothing. Nobody loses a span or a connection.

mod common;

use codecs::otlp::proto::ExportTraceServiceRequest;
use common::gateway::{Engine, Gateway, Setup, wait_until_empty};
use common::traces::{Kind, Trace, request, request_of};
use common::{Answer, GrpcSender, Sink, wait_for};
use prost::Message;
use std::collections::BTreeMap;

const ALL: &str = "{name: all, type: always_sample}";
const ERRORS: &str = "{name: errors, type: status_code, status_code: {status_codes: [ERROR]}}";

fn sampling(wait: &str, more: &str, policies: &str) -> String {
    format!("{{decision_wait: {wait}, {more} policies: [{policies}]}}")
}

fn setup(engine: Engine, sampling: String, sink: &Sink) -> String {
    Setup::new(engine).processor("tail_sampling", sampling).otlp("otlp", sink.address, "").text()
}

fn hex(id: [u8; 16]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is told of the configuration.
fn told(gateway: &Gateway) -> serde_json::Value {
    serde_json::from_str(&gateway.admin_page("/overview/configuration")).expect("JSON")
}

fn wait_for_generation(gateway: &Gateway, generation: u64) {
    let there = || (told(gateway)["generation"].as_u64() == Some(generation)).then_some(());
    wait_for(&format!("generation {generation} of the configuration"), there);
}

fn wait_for_state(gateway: &Gateway, state: &str) -> String {
    let message = |told: serde_json::Value| told["message"].as_str().expect("text").to_owned();
    wait_for(&format!("a configuration that is {state}"), || {
        Some(told(gateway)).filter(|told| told["state"] == state).map(message)
    })
}

fn send(sender: &GrpcSender, traces: &[Trace], place: u32) {
    for trace in traces {
        assert_eq!(sender.send(&request("shop", vec![trace.span(place)])), Answer::Taken);
    }
}

/// Traces wait until the drain decides them, so nothing here depends on when anything happens.
fn pending_traces_finish_on_their_rules(engine: Engine) {
    let sink = Sink::start();
    let unwatched = |text: String| text.replace("pin: false", "pin: false, reload: {watch: false}");
    let gateway = Gateway::start(&unwatched(setup(engine, sampling("1h", "", ALL), &sink)), &[]);
    // One connection, before and after.
    let sender = GrpcSender::connect(gateway.grpc);
    let kind = |number: u64| if number.is_multiple_of(2) { Kind::ErrorIn(1) } else { Kind::Plain };
    let traces: Vec<Trace> = (0..40).map(|number| Trace { number, spans: 2, kind: kind(number) }).collect();
    let (before, after) = traces.split_at(20);
    send(&sender, before, 0);

    gateway.rewrite(&unwatched(setup(engine, sampling("2h", "", ERRORS), &sink)));
    gateway.hang_up();
    wait_for_generation(&gateway, 2);
    assert_eq!(gateway.metrics().sum("tracegate_config_reloads", &[]), 1.0);

    send(&sender, &traces, 1);
    send(&sender, after, 0);
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("otelcol_processor_tail_sampling_sampling_traces_on_memory", &[]), 40.0);
    let policies = metrics.series("otelcol_processor_tail_sampling_count_traces_sampled");
    assert!(policies.iter().any(|series| series.contains("policy=\"errors\"")), "{policies:?}");
    let ending = gateway.stop();
    ending.assert_nothing_lost();

    let expected = before.iter().chain(after.iter().filter(|trace| trace.kind != Kind::Plain));
    let expected: BTreeMap<_, usize> = expected.flat_map(Trace::span_ids).map(|id| (id, 1)).collect();
    assert_eq!(sink.spans(), expected, "the old rules keep all, the new ones errors");
}

#[test]
fn pending_traces_finish_on_the_rules_under_which_they_began() {
    pending_traces_finish_on_their_rules(Engine::epoll(2));
}

#[test]
fn pending_traces_finish_on_their_rules_on_io_uring() {
    if let Some(engine) = Engine::io_uring(2) {
        pending_traces_finish_on_their_rules(engine);
    }
}

#[test]
fn reasons_and_explanations_name_the_rules_under_which_a_trace_began() {
    let text = |policies: &str| {
        let settings = sampling("1h", "decide_when_certain: true,", policies);
        let mut setup = Setup::new(Engine::epoll(2)).processor("tail_sampling", settings);
        setup.exporters.push(("memory", "{}".to_owned()));
        setup.text()
    };
    let gateway = Gateway::start(&text(&format!("{ALL}, {ERRORS}")), &[]);
    let sender = GrpcSender::connect(gateway.grpc);
    let (first, second) = (trace(1, Kind::Plain), trace(2, Kind::ErrorIn(0)));
    assert_eq!(sender.send(&request_of(&[first])), Answer::Taken);
    gateway.rewrite(&text(ERRORS));
    wait_for_generation(&gateway, 2);
    assert_eq!(sender.send(&request_of(&[second])), Answer::Taken);
    wait_until_empty(&gateway, &["memory"]);
    // A late span of a trace that the old rules kept.
    assert_eq!(sender.send(&request("shop", vec![first.span(5)])), Answer::Taken);
    wait_until_empty(&gateway, &["memory"]);
    for (trace, policy, spans, asked) in [(first, "all", 2, 2), (second, "errors", 1, 1)] {
        let id = hex(trace.id());
        let kept: serde_json::Value = serde_json::from_str(&gateway.admin_page(&format!("/traces/{id}"))).unwrap();
        assert_eq!(kept["reason"], policy, "{kept}");
        assert_eq!(kept["spans"].as_array().map(Vec::len), Some(spans), "{kept}");
        let page: serde_json::Value = serde_json::from_str(&gateway.admin_page(&format!("/explain/{id}"))).unwrap();
        assert_eq!(page[0]["policy"], policy, "{page}");
        assert_eq!(page[0]["policies"].as_array().map(Vec::len), Some(asked), "{page}");
    }
    gateway.stop().assert_nothing_lost();
}

/// The number of traces, the memory of decisions, and what is written to spans.
#[test]
fn what_belongs_to_the_sampler_changes_while_traces_wait() {
    let sink = Sink::start();
    let text = |more: &str| setup(Engine::epoll(2), sampling("1h", more, ALL), &sink);
    let gateway = Gateway::start(&text(""), &[]);
    let sender = GrpcSender::connect(gateway.grpc);
    let traces: Vec<Trace> = (0..50).map(|number| Trace { number, spans: 2, kind: Kind::Plain }).collect();
    let (before, after) = traces.split_at(40);
    send(&sender, before, 0);

    let more = "num_traces: 10, write_threshold: true, write_reason: true, stress_relief: {shed: {enabled: true}}, \
                decision_cache: {sampled_cache_size: 5000, non_sampled_cache_size: 5000},";
    gateway.rewrite(&text(more));
    wait_for_generation(&gateway, 2);
    let pending = "otelcol_processor_tail_sampling_sampling_traces_on_memory";
    wait_for("no more pending traces than there may be", || {
        (gateway.metrics().sum(pending, &[]) == 10.0).then_some(())
    });
    // Late spans of thirty traces, and second ones of ten that wait; then the others make room for new ones.
    send(&sender, before, 1);
    send(&sender, after, 0);
    send(&sender, after, 1);
    let metrics = gateway.metrics();
    // A shard that has no trace of its own to decide may begin one.
    assert!((10.0..=11.0).contains(&metrics.sum(pending, &[])), "{}", metrics.sum(pending, &[]));
    gateway.stop().assert_nothing_lost();

    let expected: BTreeMap<_, usize> = traces.iter().flat_map(Trace::span_ids).map(|id| (id, 1)).collect();
    assert_eq!(sink.spans(), expected, "every trace was decided, none thrown away");
    let requests = sink.requests();
    let requests = requests.iter().map(|request| ExportTraceServiceRequest::decode(&request[..]).expect("sound"));
    let scopes = requests.flat_map(|request| request.resource_spans).flat_map(|resource| resource.scope_spans);
    let new: Vec<[u8; 16]> = after.iter().map(Trace::id).collect();
    for span in scopes.flat_map(|scope| scope.spans) {
        let is_new = new.iter().any(|id| id[..] == span.trace_id[..]);
        assert_eq!(span.trace_state.ends_with(b"th:0"), is_new, "a trace is marked as its rules say");
    }
}

#[test]
fn input_that_waits_for_room_goes_on_when_there_may_be_more_traces() {
    let sink = Sink::start();
    let text = |traces_max: u32| {
        let more = format!("num_traces: {traces_max}, block_on_overflow: true,");
        setup(Engine::epoll(1), sampling("1h", &more, ALL), &sink)
    };
    let gateway = Gateway::start(&text(4), &[]);
    let sender = GrpcSender::connect(gateway.grpc);
    let traces: Vec<Trace> = (0..8).map(|number| trace(number, Kind::Plain)).collect();
    send(&sender, &traces[..4], 0);
    let refused = sender.send(&request_of(&traces[4..5]));
    assert!(matches!(refused, Answer::Status(_)), "a fifth trace is to come again: {refused:?}");
    gateway.rewrite(&text(8));
    wait_for_generation(&gateway, 2);
    send(&sender, &traces[4..], 0);
    let pending = "otelcol_processor_tail_sampling_sampling_traces_on_memory";
    wait_for("eight traces that wait", || (gateway.metrics().sum(pending, &[]) == 8.0).then_some(()));
    assert_eq!(gateway.metrics().sum("tracegate_tail_sampling_traces_decided_early", &[]), 0.0);
    gateway.stop().assert_nothing_lost();
    assert_eq!(sink.spans_count(), 8);
}

fn trace(number: u64, kind: Kind) -> Trace {
    Trace { number, spans: 1, kind }
}

#[test]
fn a_bad_file_changes_nothing_and_says_where() {
    let sink = Sink::start();
    let text = |more: &str, policies: &str| setup(Engine::epoll(2), sampling("1h", more, policies), &sink);
    let gateway = Gateway::start(&text("", ALL), &[]);
    let sender = GrpcSender::connect(gateway.grpc);

    gateway.rewrite(&text("", "{name: all, type: always_samlpe}"));
    let message = wait_for_state(&gateway, "failed");
    assert!(message.contains("processors.tail_sampling.policies[0].type"), "{message}");
    assert!(message.contains(".yaml:"), "it says in which file and line: {message}");

    gateway.rewrite(&text("", ERRORS).replace("pin: false", "pin: true"));
    let message = wait_for_state(&gateway, "refused");
    assert!(message.contains("`service.engine.pin`"), "{message}");
    assert!(message.contains("restart to apply"), "{message}");

    let metrics = gateway.metrics();
    for (name, value) in [("reloads", 0.0), ("failed_reloads", 1.0), ("refused_reloads", 1.0), ("is_current", 0.0)] {
        assert_eq!(metrics.sum(&format!("tracegate_config_{name}"), &[]), value, "{name}");
    }
    let plain = trace(3, Kind::Plain);
    assert_eq!(sender.send(&request_of(&[plain])), Answer::Taken);

    gateway.rewrite(&text("", ALL));
    assert_eq!(wait_for_state(&gateway, "applied"), "");
    assert_eq!(told(&gateway)["generation"], 1);
    let ending = gateway.stop();
    ending.assert_nothing_lost();
    assert_eq!(sink.spans_count(), 1, "the rules that were half of a refused file were not applied");
    assert!(ending.said.contains("always_samlpe"), "{}", ending.said);
}

#[test]
fn a_fifth_generation_of_rules_waits_until_the_oldest_has_no_trace() {
    let sink = Sink::start();
    let text = |generation: u64| {
        let errors = ERRORS.replace("errors", &format!("errors {generation}"));
        setup(Engine::epoll(2), sampling("1h", "decide_when_certain: true,", &errors), &sink)
    };
    let gateway = Gateway::start(&text(1), &[]);
    let sender = GrpcSender::connect(gateway.grpc);
    // Each generation has a trace that waits on every shard.
    let traces = |generation: u64| {
        (0..32).map(move |number| Trace { number: generation * 32 + number, spans: 2, kind: Kind::ErrorIn(1) })
    };
    for generation in 1..=4 {
        if generation > 1 {
            gateway.rewrite(&text(generation));
            wait_for_generation(&gateway, generation);
        }
        send(&sender, &traces(generation).collect::<Vec<_>>(), 0);
    }
    gateway.rewrite(&text(5));
    let message = wait_for_state(&gateway, "waiting");
    assert!(message.contains("four generations"), "{message}");
    send(&sender, &traces(5).collect::<Vec<_>>(), 0);
    // An error decides each of the first traces, and the rules that waited come into force.
    send(&sender, &traces(1).collect::<Vec<_>>(), 1);
    wait_for_generation(&gateway, 5);
    for generation in 2..=5 {
        send(&sender, &traces(generation).collect::<Vec<_>>(), 1);
    }
    gateway.stop().assert_nothing_lost();
    let expected: BTreeMap<_, usize> =
        (1..=5).flat_map(traces).flat_map(|trace| trace.span_ids().collect::<Vec<_>>()).map(|id| (id, 1)).collect();
    assert_eq!(sink.spans(), expected);
}

#[test]
fn processors_take_other_settings_while_spans_pass() {
    let sink = Sink::start();
    let text = |version: &str, dropped: &str, timeout: &str| {
        Setup::new(Engine::epoll(1))
            .processor("attributes", format!("{{actions: [{{key: version, value: {version}, action: upsert}}]}}"))
            .processor("filter", format!("{{traces: {{span: ['name == \"{dropped}\"']}}}}"))
            .processor("transform", format!("{{trace_statements: ['set(span.attributes[\"also\"], \"{version}\")']}}"))
            .processor("batch", format!("{{timeout: {timeout}, send_batch_size: 1000}}"))
            .otlp("otlp", sink.address, "")
            .text()
    };
    let gateway = Gateway::start(&text("one", "operation 0 of trace 1", "20ms"), &[]);
    let sender = GrpcSender::connect(gateway.grpc);
    let (first, second) = (trace(1, Kind::Plain), trace(2, Kind::Plain));
    assert_eq!(sender.send(&request_of(&[first, second])), Answer::Taken);
    wait_until_empty(&gateway, &["otlp"]);
    // A batch that waits for an hour leaves with the drain.
    gateway.rewrite(&text("two", "operation 0 of trace 2", "1h"));
    wait_for_generation(&gateway, 2);
    assert_eq!(sender.send(&request_of(&[first, second])), Answer::Taken);
    let ledger = gateway.ledger();
    assert_eq!((ledger.account("otlp", "dropped"), ledger.account("otlp", "in_flight")), (2, 1));
    // It keeps its deadline, and what comes after it would have another.
    gateway.rewrite(&text("two", "operation 0 of trace 2", "2h"));
    wait_for_generation(&gateway, 3);
    let ledger = gateway.ledger();
    assert_eq!((ledger.account("otlp", "delivered"), ledger.account("otlp", "in_flight")), (1, 1));
    assert!(ledger.is_balanced());
    gateway.stop().assert_nothing_lost();
    let requests = sink.requests();
    let requests = requests.iter().map(|request| ExportTraceServiceRequest::decode(&request[..]).expect("sound"));
    let scopes = requests.flat_map(|request| request.resource_spans).flat_map(|resource| resource.scope_spans);
    let tags = scopes.flat_map(|scope| scope.spans).map(|span| {
        let value = |key: &str| {
            let found = span.attributes.iter().find(|attribute| attribute.key == key.as_bytes());
            format!("{:?}", found.and_then(|attribute| attribute.value.as_ref()?.value.clone()))
        };
        (String::from_utf8(span.name.clone()).expect("text"), value("version"), value("also"))
    });
    let tags: Vec<_> = tags.collect();
    for (tag, (name, version)) in
        tags.iter().zip([("operation 0 of trace 2", "one"), ("operation 0 of trace 1", "two")])
    {
        let bytes = format!("{:?}", Some(codecs::otlp::proto::Value::String(version.as_bytes().to_vec())));
        assert_eq!(tag, &(name.to_owned(), bytes.clone(), bytes));
    }
}
