//! Sampling by chance, end to end: a head sampler in front and a tail sampler behind it keep whole traces, and each span
//! at the backend says how many it stands for.

mod common;

use codecs::otlp::proto::{ExportTraceServiceRequest, Span};
use common::gateway::Setup;
use common::traces::{Kind, Trace, request_of};
use common::{Answer, Engine, GrpcSender, Sink};
use prost::Message;
use std::collections::BTreeMap;

const TRACES: u64 = 2_000;
const SPANS_PER_TRACE: u32 = 3;

fn spans(sink: &Sink) -> Vec<Span> {
    let requests = sink.requests();
    let requests = requests.iter().map(|request| ExportTraceServiceRequest::decode(&request[..]).expect("sound"));
    let resources = requests.flat_map(|request| request.resource_spans);
    resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
}

/// Sends traces of which one in ten has an error; returns the trace states at the backend with their spans.
fn through(engine: Engine, setup: impl Fn(Setup<'static>) -> Setup<'static>) -> BTreeMap<String, Vec<Span>> {
    let sink = Sink::start();
    let gateway = setup(Setup::new(engine)).otlp("otlp", sink.address, "").start();
    let kind = |number| if number % 10 == 0 { Kind::ErrorIn(1) } else { Kind::Plain };
    let traces: Vec<Trace> =
        (0..TRACES).map(|number| Trace { number, spans: SPANS_PER_TRACE, kind: kind(number) }).collect();
    let sender = GrpcSender::connect(gateway.grpc);
    for some in traces.chunks(100) {
        assert_eq!(sender.send(&request_of(some)), Answer::Taken);
    }
    let ending = gateway.stop();
    ending.assert_nothing_lost();
    let mut left: BTreeMap<String, Vec<Span>> = BTreeMap::new();
    for span in spans(&sink) {
        let state = String::from_utf8(span.trace_state.clone()).expect("text");
        left.entry(state).or_default().push(span);
    }
    for spans in left.values() {
        let mut whole: BTreeMap<&[u8], u32> = BTreeMap::new();
        for span in spans {
            *whole.entry(&span.trace_id).or_default() += 1;
        }
        assert!(whole.values().all(|spans| *spans == SPANS_PER_TRACE), "traces are kept whole, all spans alike");
    }
    left
}

/// Traces of these states, which end so.
fn traces_ending(left: &BTreeMap<String, Vec<Span>>, end: &str) -> u64 {
    let found = left.iter().filter(|(state, _)| state.ends_with(end)).map(|(_, spans)| spans.len() as u64);
    found.sum::<u64>() / u64::from(SPANS_PER_TRACE)
}

#[test]
fn a_head_sampler_keeps_its_share() {
    for (settings, expected, end) in [
        ("{sampling_percentage: 25}", 400..600, ";th:c"),
        ("{sampling_percentage: 25, mode: equalizing}", 400..600, "ot=th:c"),
        ("{sampling_percentage: 50, mode: proportional}", 900..1_100, "ot=th:8"),
        ("{sampling_percentage: 100}", 2_000..2_001, ";th:0"),
        ("{sampling_percentage: 0}", 0..1, ""),
    ] {
        let left = through(Engine::epoll(1), |setup| setup.processor("probabilistic_sampler", settings));
        let kept = traces_ending(&left, end);
        assert!(expected.contains(&kept), "{settings}: {kept} traces, {:?}", left.keys().next());
        assert_eq!(kept, traces_ending(&left, ""), "{settings}: every kept span tells its threshold");
    }
}

#[test]
fn a_tail_sampler_behind_it_never_lowers_a_threshold() {
    let tail = "{decision_wait: 1h, write_threshold: true, write_reason: true, policies: [{name: errors, type: \
                status_code, status_code: {status_codes: [ERROR]}}, {name: some, type: probabilistic, probabilistic: \
                {sampling_percentage: 12.5}}]}";
    let left = through(Engine::epoll(2), |setup| {
        setup
            .processor("probabilistic_sampler", "{sampling_percentage: 50, mode: equalizing}")
            .processor("tail_sampling", tail)
    });
    let (errors, some) = (traces_ending(&left, "ot=th:8"), traces_ending(&left, "ot=th:e"));
    // Half of 200 errors, and an eighth of the other 1800.
    assert!((70..130).contains(&errors) && (180..270).contains(&some), "{errors} errors, {some} others");
    assert_eq!(errors + some, traces_ending(&left, ""), "{:?}", left.keys().take(5).collect::<Vec<_>>());
    for span in left.values().flatten() {
        let told = span.attributes.iter().any(|attribute| attribute.key == b"tailsampling.policy");
        assert_eq!(told, span.parent_span_id.is_empty(), "the root tells the reason");
    }
}
