//! Timelines in, decisions out: every file of `scenarios/` is one story, told in a few words.
//!
//! ```text
//! policy NAME: RULE               as `rule` below reads them
//! setting NAME VALUE              after_root 2 | traces 3 | trace_bytes 100 | first_match | drop_pending
//!                                 write_threshold
//! at TIME trace N: WORDS          spans arrive; words are `error`, `root`, `200ms`, `x3`, `key="text"`, ... see `spans`
//! at TIME drain                   everything is decided
//! at TIME pending N               so many traces are undecided
//! at TIME keeps N by POLICY       spans of the trace leave, because of this policy
//! at TIME marks N                 and one of them says that the trace was decided on what was there
//! at TIME tells N TRACE-STATE     all of them with this trace state; nothing is compared for traces that are not named
//! counts POLICY: sampled A, not sampled B, dropped C
//! ```
//!
//! Times are seconds; traces wait 10. What leaves is compared with the lines that say `keeps` and `marks`, all of them; every
//! other trace is dropped, and no other is marked.

#![allow(clippy::unwrap_used, reason = "the whole file is a test; clippy only knows the functions marked as such")]

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use codecs::otlp::proto::Value;
use codecs::otlp::span_trace_state;
use common::{Attributes, SECOND, Span, contents, request, resource, settings, span, take, with_parent};
use sampling::release::CUT_MARK;
use sampling::settings::{AttributeTest, BYTES_PER_KEPT, CompositePart, Goal, Number, Pattern, Policy, Rule, Settings};
use sampling::{Counters, Limits, Release, Sampler, Select};

#[derive(Debug)]
enum Event {
    Arrive(Vec<Span>),
    Drain,
    Pending(usize),
    HasRoom(bool),
}

#[derive(Debug)]
struct Scenario {
    settings: Settings,
    /// In the order of their times.
    events: Vec<(u64, Event)>,
    /// When, which trace, and by which policy.
    kept: BTreeSet<(u64, u128, String)>,
    marked: Vec<(u64, u128)>,
    told: BTreeSet<(u64, u128, String)>,
    counts: Vec<(String, [u64; 3])>,
    totals: Vec<(String, u64)>,
    giant_bytes: u64,
}

/// A sampler whose time is told by a scenario.
struct Stage<'a> {
    settings: &'a Settings,
    sampler: Sampler,
    out: Release,
    kept: BTreeSet<(u64, u128, String)>,
    /// One for each span with a mark.
    marked: Vec<(u64, u128)>,
    told: BTreeSet<(u64, u128, String)>,
}

impl Stage<'_> {
    /// Decides what is due until then, each trace at its own time.
    fn pass(&mut self, until_ns: u64) {
        while let Some(now_ns) = self.sampler.next_deadline_ns().filter(|due_ns| *due_ns <= until_ns) {
            while self.sampler.decide_due(now_ns, 1_000, &mut self.out) {}
            self.note_kept(now_ns);
        }
    }

    fn play(&mut self, now_ns: u64, event: &Event) {
        match event {
            Event::Arrive(spans) => {
                let (index, segments) = request(spans);
                self.sampler.insert(now_ns, &index, &segments, Select::All, &mut self.out);
            }
            Event::Drain => while self.sampler.decide_all(now_ns, 1_000, &mut self.out) {},
            Event::HasRoom(expected) => assert_eq!(self.sampler.has_room(), *expected, "room at {now_ns}"),
            Event::Pending(expected) => assert_eq!(self.sampler.pending_traces(), *expected, "pending at {now_ns}"),
        }
        // A trace that was decided early, because the table was full, leaves with the next decisions.
        while self.sampler.next_deadline_ns() == Some(0) {
            self.sampler.decide_due(now_ns, 1_000, &mut self.out);
        }
        self.note_kept(now_ns);
    }

    fn note_kept(&mut self, now_ns: u64) {
        for (span, reason) in take(&mut self.out) {
            let state = String::from_utf8(span_trace_state(&span.bytes).to_vec()).unwrap();
            self.told.insert((now_ns, span.trace_id, state));
            if span.bytes.ends_with(CUT_MARK) {
                self.marked.push((now_ns, span.trace_id));
            }
            let policy = &self.settings.policies[usize::from(reason)].name;
            self.kept.insert((now_ns, span.trace_id, policy.clone()));
        }
    }
}

fn check(text: &str) {
    let scenario = read(text);
    let settings = &scenario.settings;
    let limits = Limits { giant_bytes: scenario.giant_bytes, ..Limits::default() };
    let sampler = Sampler::with_limits(settings, 3, 0, limits);
    let (kept, marked, told) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
    let mut stage = Stage { settings, sampler, out: Release::default(), kept, marked, told };
    for (now_ns, event) in &scenario.events {
        stage.pass(*now_ns);
        stage.play(*now_ns, event);
    }
    stage.pass(u64::MAX);
    assert_eq!(stage.kept, scenario.kept, "kept on the left, told on the right");
    assert_eq!(stage.marked, scenario.marked, "marked on the left, told on the right");
    let is_told = |(at, trace, _): &&(u64, u128, String)| {
        scenario.told.iter().any(|(told_at, told, _)| (at, trace) == (told_at, told))
    };
    let told: BTreeSet<_> = stage.told.iter().filter(is_told).cloned().collect();
    assert_eq!(told, scenario.told, "trace states on the left, told on the right");
    assert_eq!(stage.sampler.pending_spans(), 0);
    for (name, expected) in &scenario.counts {
        let position = settings.policies.iter().position(|policy| policy.name == *name).expect("a policy's name");
        let verdicts = &stage.sampler.counters().policies[position];
        assert_eq!([verdicts.sampled, verdicts.not_sampled, verdicts.dropped], *expected, "counts of {name}");
    }
    for (name, expected) in &scenario.totals {
        assert_eq!(total(stage.sampler.counters(), name), *expected, "{name}");
    }
}

fn total(counters: &Counters, name: &str) -> u64 {
    match name {
        "traces" => counters.traces_new,
        "traces certainly kept" => counters.traces_certainly_sampled,
        "traces certainly dropped" => counters.traces_certainly_dropped,
        "traces complete" => counters.traces_complete,
        "traces cut" => counters.traces_cut,
        "traces too large" => counters.traces_too_large,
        "traces early in a full table" => counters.traces_decided_early,
        "late spans kept" => counters.late_spans_kept,
        "late spans dropped" => counters.late_spans_dropped,
        "spans after an early decision" => counters.early_spans_kept + counters.early_spans_dropped,
        "spans dropped" => counters.spans_dropped,
        "evaluation errors" => counters.evaluation_errors,
        _ => panic!("unknown total {name}"),
    }
}

fn read(text: &str) -> Scenario {
    let mut scenario = Scenario {
        settings: settings(&[]),
        events: Vec::new(),
        kept: BTreeSet::new(),
        marked: Vec::new(),
        counts: Vec::new(),
        totals: Vec::new(),
        giant_bytes: Limits::default().giant_bytes,
        told: BTreeSet::new(),
    };
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (verb, rest) = line.split_once(' ').expect("a verb and more");
        match verb {
            "policy" => {
                let (name, text) = rest.split_once(": ").expect("NAME: RULE");
                scenario.settings.policies.push(Policy { name: name.into(), rule: rule(text) });
            }
            "setting" => match rest.split_once(' ') {
                Some(("giant_bytes", bytes)) => scenario.giant_bytes = bytes.parse().unwrap(),
                _ => set(&mut scenario.settings, rest),
            },
            "total" => {
                let (name, number) = rest.split_once(": ").expect("NAME: NUMBER");
                scenario.totals.push((name.into(), number.parse().unwrap()));
            }
            "counts" => {
                let (name, numbers) = rest.split_once(": ").expect("NAME: NUMBERS");
                let mut numbers = numbers.split(", ").map(|part| part.rsplit(' ').next().unwrap().parse().unwrap());
                scenario.counts.push((name.into(), [0; 3].map(|_| numbers.next().expect("three numbers"))));
            }
            "at" => at(&mut scenario, rest),
            _ => panic!("unknown verb in {line}"),
        }
    }
    assert!(scenario.events.is_sorted_by_key(|(now_ns, _)| *now_ns), "events are told in their order");
    scenario
}

fn set(settings: &mut Settings, text: &str) {
    let (name, value) = text.split_once(' ').unwrap_or((text, ""));
    match name {
        "after_root" => settings.decision_wait_after_root_ns = Some(time_ns(value)),
        "traces" => settings.traces_max = Some(value.parse().unwrap()),
        "trace_bytes" => settings.trace_bytes_max = Some(value.parse().unwrap()),
        "first_match" => settings.sample_on_first_match = true,
        "when_certain" => settings.decide_when_certain = true,
        "quiet" => settings.complete_quiet_ns = Some(time_ns(value)),
        "block" => settings.block_on_overflow = true,
        "kept_memory" => settings.kept_memory_bytes = Some(value.parse::<u64>().unwrap() * BYTES_PER_KEPT as u64),
        "dropped_memory_bytes" => settings.dropped_memory_bytes = Some(value.parse().unwrap()),
        "drop_pending" => settings.drop_pending_in_drain = true,
        "write_threshold" => settings.write_threshold = true,
        _ => panic!("unknown setting {name}"),
    }
}

fn at(scenario: &mut Scenario, text: &str) {
    let (time, rest) = text.split_once(' ').expect("TIME and what happens");
    let now_ns = time_ns(time);
    let (verb, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    match verb {
        "trace" => {
            let (trace, words) = rest.split_once(':').expect("N: WORDS");
            scenario.events.push((now_ns, Event::Arrive(spans(trace.parse().unwrap(), words))));
        }
        "drain" => scenario.events.push((now_ns, Event::Drain)),
        "room" => scenario.events.push((now_ns, Event::HasRoom(rest == "yes"))),
        "pending" => scenario.events.push((now_ns, Event::Pending(rest.parse().unwrap()))),
        "keeps" => {
            let (trace, policy) = rest.split_once(" by ").expect("N by POLICY");
            scenario.kept.insert((now_ns, trace.parse().unwrap(), policy.into()));
        }
        "marks" => scenario.marked.push((now_ns, rest.parse().unwrap())),
        "tells" => {
            let (trace, state) = rest.split_once(' ').expect("N TRACE-STATE");
            scenario.told.insert((now_ns, trace.parse().unwrap(), state.into()));
        }
        _ => panic!("unknown event {verb}"),
    }
}

fn time_ns(text: &str) -> u64 {
    (text.parse::<f64>().expect("seconds") * SECOND as f64).round() as u64
}

/// `error ok root sampled 200ms x3 id:7 parent:6 bytes:100 state:a=1 key="text" key=5 key=0.5 key=true resource.key=...`
fn spans(trace_id: u128, words: &str) -> Vec<Span> {
    let mut arriving = span(trace_id, 1);
    let (mut own, mut of_resource, mut state) = (Attributes::new(), Attributes::new(), "");
    let (mut count, mut name_bytes, mut parent) = (1, 0, None);
    for word in words.split_whitespace() {
        if word == "error" {
            arriving.status = 2;
        } else if word == "ok" {
            arriving.status = 1;
        } else if word == "root" {
            arriving.has_parent = false;
        } else if word == "sampled" {
            arriving.flags |= 1;
        } else if let Some(id) = word.strip_prefix("id:") {
            arriving.span_id = id.parse().unwrap();
        } else if let Some(id) = word.strip_prefix("parent:") {
            parent = Some(id.parse().unwrap());
        } else if let Some(found) = word.strip_prefix("state:") {
            state = found;
        } else if let Some(bytes) = word.strip_prefix("bytes:") {
            // A name has a tag and a length before it.
            let bytes: usize = bytes.parse().unwrap();
            name_bytes = bytes - if bytes < 130 { 2 } else { 3 };
        } else if let Some((key, value)) = word.split_once('=') {
            match key.strip_prefix("resource.") {
                Some(key) => of_resource.push((key.into(), value_of(value))),
                None => own.push((key.into(), value_of(value))),
            }
        } else if let Some(duration) = word.strip_suffix("ms") {
            arriving.end_ns = arriving.start_ns + duration.parse::<u64>().unwrap() * 1_000_000;
        } else if let Some(number) = word.strip_prefix('x') {
            count = number.parse().unwrap();
        } else {
            panic!("unknown word {word}");
        }
    }
    arriving.flags &= if words.contains("sampled") { !0 } else { !1 };
    arriving.bytes = contents(&own, state, name_bytes);
    if let Some(parent) = parent {
        arriving.bytes = with_parent(arriving.bytes, parent);
    }
    arriving.resource = resource(&of_resource);
    (0..count).map(|number| Span { span_id: arriving.span_id + number, ..arriving.clone() }).collect()
}

fn value_of(text: &str) -> Value {
    match text {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ if text.starts_with('"') => Value::String(text.trim_matches('"').into()),
        _ if text.contains('.') => Value::Double(text.parse().unwrap()),
        _ => Value::Int(text.parse().unwrap()),
    }
}

/// One rule: its Collector's name, then its settings; rules of rules stand in brackets, with `;` between them.
fn rule(text: &str) -> Rule {
    let (name, rest) = text.split_once(' ').unwrap_or((text, ""));
    let words: Vec<&str> = rest.split(' ').collect();
    let number = |word: &str| -> Option<u64> {
        let at = words.iter().position(|found| *found == word)?;
        Some(words[at + 1].parse().expect("a whole number"))
    };
    match name {
        "always_sample" => Rule::AlwaysSample,
        "trace_flags" => Rule::TraceFlags,
        "latency" => Rule::Latency { threshold_ms: number("over").unwrap(), upper_threshold_ms: number("upto") },
        "probabilistic" => {
            Rule::Probabilistic { hash_salt: String::new(), sampling_percentage: words[0].parse().unwrap() }
        }
        "status_code" => Rule::StatusCode {
            ok: words.contains(&"OK"),
            error: words.contains(&"ERROR"),
            unset: words.contains(&"UNSET"),
        },
        "numeric_attribute" | "string_attribute" | "boolean_attribute" => attribute(name, &words),
        "trace_state" => Rule::TraceState {
            key: words[0].into(),
            values: words[2..].iter().map(|value| (*value).to_owned()).collect(),
        },
        "span_count" => Rule::SpanCount {
            spans_min: number("min").unwrap_or(0) as u32,
            spans_max: number("max").map(|most| most as u32),
        },
        "rate_limiting" => {
            Rule::RateLimiting { spans_per_second: words[0].parse().unwrap(), burst_spans: number("burst").unwrap() }
        }
        "bytes_limiting" => {
            Rule::BytesLimiting { bytes_per_second: words[0].parse().unwrap(), burst_bytes: number("burst").unwrap() }
        }
        "dynamic" | "throughput" => {
            let goal: f64 = words[0].parse().unwrap();
            let goal = if name == "dynamic" { Goal::OneOf(goal) } else { Goal::SpansPerSecond(goal) };
            let keys = words[2..].iter().map(|key| (*key).to_owned()).collect();
            Rule::Dynamic { goal, keys, interval_ns: 15 * SECOND, keys_max: 500 }
        }
        "ottl_condition" => Rule::OttlCondition {
            spans: inner(rest).iter().map(|text| (*text).to_owned()).collect(),
            span_events: Vec::new(),
            counts_errors: true,
        },
        "and" => Rule::And(inner(rest).iter().map(|text| rule(text)).collect()),
        "drop" => Rule::Drop(inner(rest).iter().map(|text| rule(text)).collect()),
        "dry_run" => Rule::DryRun(Box::new(rule(inner(rest)[0]))),
        "not" => Rule::Not(Box::new(rule(inner(rest)[0]))),
        "composite" => {
            let part = |text: &str| {
                let (spans_per_second, text) = text.split_once(' ').expect("RATE RULE");
                CompositePart { rule: rule(text), spans_per_second: spans_per_second.parse().unwrap() }
            };
            Rule::Composite {
                spans_per_second_max: words[0].parse().unwrap(),
                parts: inner(rest).into_iter().map(part).collect(),
            }
        }
        _ => panic!("unknown rule {name}"),
    }
}

/// `KEY min 1 max 2.5`, `KEY in a b`, `KEY matching a b`, `KEY is true`; `inverted` at the end.
fn attribute(name: &str, words: &[&str]) -> Rule {
    let invert_match = words.last() == Some(&"inverted");
    let words = &words[..words.len() - usize::from(invert_match)];
    let bound = |word: &str| {
        let at = words.iter().position(|found| *found == word)?;
        Some(match value_of(words[at + 1]) {
            Value::Int(number) => Number::Int(number),
            Value::Double(number) => Number::Double(number),
            other => panic!("{other:?} is no number"),
        })
    };
    let test = match (name, words[1]) {
        ("numeric_attribute", _) => AttributeTest::Number { min: bound("min"), max: bound("max") },
        ("boolean_attribute", "is") => AttributeTest::Bool(words[2] == "true"),
        ("string_attribute", "in") => AttributeTest::Text(words[2..].iter().map(|text| (*text).into()).collect()),
        ("string_attribute", "matching") => {
            AttributeTest::Pattern(words[2..].iter().map(|text| Pattern::new(text).unwrap()).collect())
        }
        other => panic!("unknown test {other:?}"),
    };
    Rule::Attribute { key: words[0].into(), test, invert_match }
}

/// What is between the outermost brackets, divided at the semicolons outside of others.
fn inner(text: &str) -> Vec<&str> {
    let text = &text[text.find('[').expect("[") + 1..text.rfind(']').expect("]")];
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, found) in text.char_indices() {
        match found {
            '[' => depth += 1,
            ']' => depth -= 1,
            ';' if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts
}

#[test]
fn every_scenario_ends_as_it_is_told() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 15, "scenarios are there");
    for file in files {
        println!("{}", file.display());
        check(&std::fs::read_to_string(&file).unwrap());
    }
}
