//! Settings of `tail_sampling` and a timeline in, decisions out: what an order or an allocation in a file does to traces.
//!
//! ```text
//! policies: ...                   as it stands below `tail_sampling:`
//! ---
//! at TIME trace N: error x3       spans arrive: three that failed
//! at TIME keeps N by POLICY       the trace leaves, because of this policy
//! ```
//!
//! Every file of `cases/decided/` is one such story. Times are seconds; every trace that is not said to be kept is dropped.
//! How each policy decides is told in the same way in `sampling/tests/scenarios/`.

use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;
use codecs::otlp::SpanIndex;
use codecs::otlp::proto::{ExportTraceServiceRequest, ResourceSpans, ScopeSpans, Span, SpanStatus};
use prost::Message;
use sampling::{Release, Sampler, Select};

use super::checked::ProcessorKind;
use super::*;

const SECOND: u64 = 1_000_000_000;

/// When, which trace, by which policy.
type Kept = BTreeSet<(u64, u128, String)>;

fn settings(text: &str) -> sampling::settings::Settings {
    let text = format!(
        "receivers: {{otlp: {{protocols: {{grpc: }}}}}}\nexporters: {{nop: }}\n\
         service: {{pipelines: {{traces: {{receivers: [otlp], processors: [tail_sampling], exporters: [nop]}}}}}}\n\
         processors:\n  tail_sampling:\n    {}\n",
        text.trim_end().replace('\n', "\n    ")
    );
    let file = Source::File { name: "gateway.yaml".into(), text };
    let loaded = load(&[file], &|_| None, &Machine { memory_bytes: 4 << 30 });
    let said: Vec<_> = loaded.diagnostics.iter().filter(|said| said.is_error()).collect();
    assert!(said.is_empty(), "{said:?}");
    match &loaded.config.expect("there is a service").processors[0].kind {
        ProcessorKind::TailSampling(settings) => settings.clone(),
        other => panic!("{other:?}"),
    }
}

/// The request that one line tells of.
fn request(trace: u128, words: &str) -> Bytes {
    let (mut code, mut count) = (0, 1);
    for word in words.split_whitespace() {
        match word.strip_prefix('x') {
            Some(number) => count = number.parse().expect("a number of spans"),
            None if word == "error" => code = 2,
            None => panic!("unknown word {word}"),
        }
    }
    let span = |number: u64| Span {
        trace_id: trace.to_be_bytes().into(),
        span_id: (number + 1).to_be_bytes().into(),
        status: Some(SpanStatus { code, ..SpanStatus::default() }),
        ..Span::default()
    };
    let scope_spans = vec![ScopeSpans { spans: (0..count).map(span).collect(), ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec().into()
}

fn check(text: &str) {
    let (yaml, timeline) = text.split_once("---\n").expect("settings, then a timeline");
    let settings = settings(yaml);
    let mut sampler = Sampler::new(&settings, 1, 0);
    let (mut out, mut kept, mut expected) = (Release::default(), Kept::new(), Kept::new());
    let mut pass = |sampler: &mut Sampler, until_ns: u64| {
        while let Some(now_ns) = sampler.next_deadline_ns().filter(|due_ns| *due_ns <= until_ns) {
            while sampler.decide_due(now_ns, 1_000, &mut out) {}
            for trace in &out.traces {
                let policy = &settings.policies[usize::from(trace.reason)].name;
                kept.insert((now_ns, u128::from_be_bytes(trace.trace_id.0), policy.clone()));
            }
            out.clear();
        }
    };
    for line in timeline.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        let &["at", time, verb, rest] = &words[..] else { panic!("`at TIME` and what happens: {line}") };
        let now_ns = time.parse::<u64>().expect("seconds") * SECOND;
        let (trace, rest) = rest.split_once([':', ' ']).expect("a trace's number and more");
        let trace: u128 = trace.parse().expect("a number");
        match verb {
            "trace" => {
                pass(&mut sampler, now_ns);
                let bytes = request(trace, rest);
                let mut index = SpanIndex::default();
                index.read_request(&bytes, 0).expect("well-formed");
                sampler.insert(now_ns, &index, &[bytes], Select::All, &mut Release::default());
            }
            "keeps" => {
                let policy = rest.strip_prefix("by ").expect("by POLICY");
                expected.insert((now_ns, trace, policy.to_owned()));
            }
            _ => panic!("unknown event: {line}"),
        }
    }
    pass(&mut sampler, u64::MAX);
    assert_eq!(kept, expected, "kept on the left, told on the right");
}

#[test]
fn what_stands_in_a_file_decides_as_it_is_told() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/cases/decided");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 2, "scenarios are there");
    for file in files {
        println!("{}", file.display());
        check(&std::fs::read_to_string(&file).unwrap());
    }
}
