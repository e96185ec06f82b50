//! `tracegate analyze TRACE_ID|FILE`: where the time of a trace went.
//!
//! Reads one trace from a running gateway's memory, a file, Jaeger or Tempo, and prints each span's duration and share,
//! its self time, the critical path and the bottleneck: as text, JSON or a picture. What it computes is in
//! [`crate::admin::critical_path`].

use std::fmt::Write as _;
use std::path::Path;

use clap::ValueEnum;
use codecs::otlp::Signal;
use codecs::otlp::proto::ExportTraceServiceRequest;
use prost::Message;
use serde::Deserialize;

use super::traces::{ask, branches, checked_id, duration};
use super::{Report, waterfall};
use crate::admin::critical_path::{self, Analysis};
use crate::config::fetch;
use crate::exporter::memory::{KeptSpan, KeptTrace, spans_of};

/// Arguments of `tracegate analyze`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The trace: an id, or with `--from file` a path to OTLP as JSON (one request, or one a line) or protobuf
    #[arg(value_name = "TRACE_ID|FILE")]
    pub trace: String,
    /// Where the trace is
    #[arg(long, value_enum, default_value_t = Place::Memory)]
    pub from: Place,
    /// Address of the gateway's admin page, of Jaeger's or of Tempo's query API [default: the usual port on this machine]
    #[arg(long)]
    pub url: Option<String>,
    /// How it is told
    #[arg(long, value_enum, default_value_t = Form::Text)]
    pub format: Form,
    /// Which trace of a file that has several: its first digits
    #[arg(long, value_name = "TRACE_ID")]
    pub id: Option<String>,
}

/// Where a trace is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Place {
    /// The `memory` exporter of a running gateway
    Memory,
    /// A file
    File,
    /// Jaeger's query API, port 16686
    Jaeger,
    /// Tempo's query API, port 3200
    Tempo,
}

/// How an analysis is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// A tree for people
    Text,
    /// For programs
    Json,
    /// A waterfall
    Svg,
}

/// Largest file or answer read.
const TRACE_BYTES_MAX: usize = 256 << 20;

/// Reads, computes, prints.
pub fn run(arguments: &Arguments) -> Report {
    match read(arguments) {
        Ok(trace) => Report { output: told(&trace, arguments.format), ..Report::default() },
        Err(why) => Report { exit_code: 1, errors: format!("error: {why}\n"), ..Report::default() },
    }
}

fn read(arguments: &Arguments) -> Result<KeptTrace, String> {
    let url = |default: &'static str| arguments.url.as_deref().unwrap_or(default).trim_end_matches('/');
    match arguments.from {
        Place::Memory => {
            let id = checked_id(&arguments.trace)?;
            ask(url("http://127.0.0.1:55679"), &format!("/traces/{id}"))
        }
        Place::File => {
            let bytes = read_file(Path::new(&arguments.trace))?;
            chosen(traces_of_text(&bytes)?, arguments.id.as_deref())
        }
        Place::Jaeger => {
            let id = checked_id(&arguments.trace)?;
            let address = format!("{}/api/traces/{id}", url("http://127.0.0.1:16686"));
            let answer = fetch::get_as(&address, "application/json", TRACE_BYTES_MAX)
                .map_err(|why| format!("Jaeger at {address}: {why}"))?;
            chosen(jaeger_traces(&answer)?, Some(id))
        }
        Place::Tempo => {
            let id = checked_id(&arguments.trace)?;
            let address = format!("{}/api/traces/{id}", url("http://127.0.0.1:3200"));
            // Tempo's message has the fields of an export request.
            let answer = fetch::get_as(&address, "application/protobuf", TRACE_BYTES_MAX)
                .map_err(|why| format!("Tempo at {address}: {why}"))?;
            chosen(traces_of_protobuf(&answer).map_err(|why| format!("Tempo at {address}: {why}"))?, Some(id))
        }
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let name = path.display();
    let size = std::fs::metadata(path).map_err(|error| format!("{name}: {error}"))?.len();
    if size > TRACE_BYTES_MAX as u64 {
        return Err(format!("{name} has {size} bytes, at most {TRACE_BYTES_MAX} are read"));
    }
    std::fs::read(path).map_err(|error| format!("{name}: {error}"))
}

/// OTLP as JSON, whole or one request a line, or as protobuf.
fn traces_of_text(bytes: &[u8]) -> Result<Vec<KeptTrace>, String> {
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return traces_of_protobuf(bytes).map_err(|why| format!("the file is no OTLP: not JSON, and {why}"));
    }
    let mut protobuf = Vec::new();
    let Err(whole) = codecs::json::read_request(Signal::Traces, bytes, &mut protobuf) else {
        return traces_of_protobuf(&protobuf);
    };
    let mut parts = Vec::new();
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        protobuf.clear();
        codecs::json::read_request(Signal::Traces, line, &mut protobuf).map_err(|error| match number {
            0 => format!("the file is no OTLP trace request in JSON: {whole}"),
            _ => format!("line {} of the file is no OTLP trace request in JSON: {error}", number + 1),
        })?;
        parts.extend(traces_of_protobuf(&protobuf)?);
    }
    Ok(KeptTrace::join(parts))
}

fn traces_of_protobuf(bytes: &[u8]) -> Result<Vec<KeptTrace>, String> {
    let request = ExportTraceServiceRequest::decode(bytes);
    let request = request.map_err(|error| format!("not a trace in OTLP's protobuf: {error}"))?;
    let parts = spans_of(&request).map(|(trace_id, span)| KeptTrace::new(trace_id, String::new(), vec![span]));
    Ok(KeptTrace::join(parts.collect()))
}

/// The one trace meant.
fn chosen(mut traces: Vec<KeptTrace>, id: Option<&str>) -> Result<KeptTrace, String> {
    if let Some(id) = id {
        let id = checked_id(id)?.to_ascii_lowercase();
        // Who asks may leave out zeros in front, as Jaeger does.
        let is_meant = |trace: &KeptTrace| {
            trace.trace_id.starts_with(&id) || trace.trace_id.trim_start_matches('0') == id.trim_start_matches('0')
        };
        traces.retain(is_meant);
    }
    match traces.len() {
        1 => Ok(traces.remove(0)),
        0 => Err("there is no such trace".to_owned()),
        several => {
            let some: Vec<&str> = traces.iter().take(5).map(|trace| trace.trace_id.as_str()).collect();
            Err(format!("there are {several} traces; choose one with --id, such as {}", some.join(", ")))
        }
    }
}

/// Jaeger's answer: spans refer to processes by a key, and to their parents by references.
#[derive(Deserialize)]
struct JaegerAnswer {
    #[serde(default)]
    data: Vec<JaegerTrace>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JaegerTrace {
    #[serde(rename = "traceID")]
    trace_id: String,
    #[serde(default)]
    spans: Vec<JaegerSpan>,
    #[serde(default)]
    processes: std::collections::HashMap<String, JaegerProcess>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JaegerSpan {
    #[serde(rename = "spanID")]
    span_id: String,
    operation_name: String,
    #[serde(default)]
    references: Vec<JaegerReference>,
    /// Microseconds since 1970.
    start_time: u64,
    /// Microseconds.
    duration: u64,
    #[serde(default, rename = "processID")]
    process_id: String,
    #[serde(default)]
    tags: Vec<JaegerTag>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JaegerReference {
    ref_type: String,
    #[serde(rename = "spanID")]
    span_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JaegerProcess {
    service_name: String,
}

#[derive(Deserialize)]
struct JaegerTag {
    key: String,
    value: serde_json::Value,
}

fn jaeger_traces(answer: &[u8]) -> Result<Vec<KeptTrace>, String> {
    let answer: JaegerAnswer = serde_json::from_slice(answer)
        .map_err(|error| format!("the answer is not what Jaeger's /api/traces gives: {error}"))?;
    let traces = answer.data.into_iter().map(|trace| {
        let spans = trace.spans.iter().map(|span| jaeger_span(span, &trace)).collect();
        // The zeros in front that it leaves out: elsewhere the trace is asked for by all 32 digits.
        KeptTrace::new(format!("{:0>32}", trace.trace_id), String::new(), spans)
    });
    Ok(traces.collect())
}

fn jaeger_span(span: &JaegerSpan, trace: &JaegerTrace) -> KeptSpan {
    let parent = span.references.iter().find(|reference| reference.ref_type == "CHILD_OF");
    let failed = span.tags.iter().any(|tag| tag.key == "error" && (tag.value == true || tag.value == "true"));
    KeptSpan {
        span_id: span.span_id.clone(),
        parent_span_id: parent.map(|parent| parent.span_id.clone()).unwrap_or_default(),
        name: span.operation_name.clone(),
        service: trace.processes.get(&span.process_id).map(|process| process.service_name.clone()).unwrap_or_default(),
        status: if failed { "error" } else { "unset" }.to_owned(),
        start_ns: span.start_time.saturating_mul(1_000),
        duration_ns: span.duration.saturating_mul(1_000),
        ..KeptSpan::default()
    }
}

fn told(trace: &KeptTrace, form: Form) -> String {
    let analysis = critical_path::analyze(trace);
    match form {
        Form::Text => text(trace, &analysis),
        Form::Json => {
            let json = serde_json::to_string_pretty(&analysis).expect("names and numbers are JSON");
            format!("{json}\n")
        }
        Form::Svg => {
            let places = places(trace);
            let order: Vec<(usize, usize)> =
                places.iter().map(|(at, first)| (*at, first.chars().count() / 3)).collect();
            waterfall::svg(&analysis, &order)
        }
    }
}

/// The spans as a tree draws them: which, and what stands before it.
fn places(trace: &KeptTrace) -> Vec<(usize, String)> {
    let place = |span: &KeptSpan| trace.spans.iter().position(|other| std::ptr::eq(other, span));
    let drawn = branches(&trace.spans).into_iter();
    drawn.map(|branch| (place(branch.span).expect("a tree draws the trace's spans"), branch.first)).collect()
}

fn text(trace: &KeptTrace, analysis: &Analysis) -> String {
    let mut text = format!(
        "Trace {}: {} span{}, {}\n\n{:>10} {:>7} {:>10} {:>10}\n",
        analysis.trace_id,
        analysis.spans.len(),
        if analysis.spans.len() == 1 { "" } else { "s" },
        duration(analysis.duration_ns),
        "DURATION",
        "SHARE",
        "SELF",
        "ON PATH",
    );
    for (at, first) in places(trace) {
        let span = &analysis.spans[at];
        let service = if span.service.is_empty() { "(no service)" } else { &span.service };
        let line = format!(
            "{:>10} {:>6.1}% {:>10} {:>10}  {first}{service}  {}{}\n",
            duration(span.duration_ns),
            span.share_percent,
            duration(span.self_ns),
            if span.on_path_ns == 0 { "-".to_owned() } else { duration(span.on_path_ns) },
            span.name,
            if span.error { "  ERROR" } else { "" },
        );
        text.push_str(&line);
    }
    let infallible = "writing to a string cannot fail";
    if analysis.unexplained_ns > 0 {
        let gap = duration(analysis.unexplained_ns);
        writeln!(text, "\n{gap} lie between spans without a common root.").expect(infallible);
    }
    if let Some(span) = analysis.bottleneck.map(|at| &analysis.spans[at]) {
        let percent = span.on_path_ns as f64 / analysis.duration_ns.max(1) as f64 * 100.0;
        writeln!(
            text,
            "\nBottleneck: {} {}: {} of the critical path are its own ({percent:.1} %).",
            span.service,
            span.name,
            duration(span.on_path_ns)
        )
        .expect(infallible);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const JAEGER: &str = r#"{"data":[{"traceID":"7","spans":[
        {"traceID":"7","spanID":"01","operationName":"POST /order","references":[],"startTime":1000,"duration":1000,
         "processID":"p1","tags":[]},
        {"traceID":"7","spanID":"02","operationName":"charge","references":[{"refType":"CHILD_OF","traceID":"7","spanID":"01"}],
         "startTime":1100,"duration":800,"processID":"p2","tags":[{"key":"error","type":"bool","value":true}]}],
        "processes":{"p1":{"serviceName":"shop"},"p2":{"serviceName":"payment"}}}],"errors":null}"#;

    const OTLP: &str = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},
        "scopeSpans":[{"spans":[{"traceId":"07070707070707070707070707070707","spanId":"0101010101010101","name":"GET /",
        "startTimeUnixNano":"1000","endTimeUnixNano":"2000"}]}]}]}"#;

    #[test]
    fn text_shows_share_self_time_path_and_the_bottleneck() {
        let trace = chosen(jaeger_traces(JAEGER.as_bytes()).unwrap(), Some("07")).unwrap();
        let expected = "\
Trace 00000000000000000000000000000007: 2 spans, 1.0 ms

  DURATION   SHARE       SELF    ON PATH
    1.0 ms  100.0%   200.0 us   200.0 us  shop  POST /order
  800.0 us   80.0%   800.0 us   800.0 us  └─ payment  charge  ERROR

Bottleneck: payment charge: 800.0 us of the critical path are its own (80.0 %).
";
        assert_eq!(told(&trace, Form::Text), expected);
    }

    #[test]
    fn json_and_svg_say_the_same() {
        let trace = chosen(jaeger_traces(JAEGER.as_bytes()).unwrap(), None).unwrap();
        let json: serde_json::Value = serde_json::from_str(&told(&trace, Form::Json)).unwrap();
        assert_eq!(json["bottleneck"], 1);
        assert_eq!(json["spans"][1]["on_path_ns"], 800_000);
        assert_eq!(told(&trace, Form::Svg).matches("<rect class=\"bar").count(), 2);
    }

    #[test]
    fn a_file_may_hold_one_request_or_one_a_line_or_protobuf() {
        let whole = traces_of_text(OTLP.as_bytes()).unwrap();
        assert_eq!((whole.len(), whole[0].spans.len()), (1, 1));
        let line = OTLP.replace('\n', "");
        let second = line.replace("0101010101010101", "0202020202020202");
        let lines = traces_of_text(format!("{line}\n{second}\n").as_bytes()).unwrap();
        assert_eq!((lines.len(), lines[0].spans.len()), (1, 2), "two requests, one trace");
        let mut protobuf = Vec::new();
        codecs::json::read_request(Signal::Traces, OTLP.as_bytes(), &mut protobuf).unwrap();
        assert_eq!(traces_of_text(&protobuf).unwrap(), whole);
    }

    #[test]
    fn what_is_no_trace_is_said_with_its_place() {
        let line = OTLP.replace('\n', "");
        let error = traces_of_text(format!("{line}\n{{\"resourceSpans\": 7}}\n").as_bytes()).unwrap_err();
        assert!(error.starts_with("line 2 of the file"), "{error}");
        assert!(traces_of_text(b"\xff\xff\xff").unwrap_err().contains("not JSON"));
        assert!(jaeger_traces(b"7").unwrap_err().contains("/api/traces"));
    }

    #[test]
    fn several_traces_ask_for_a_choice() {
        let traces = || {
            vec![
                KeptTrace { trace_id: "a1".into(), ..KeptTrace::default() },
                KeptTrace { trace_id: "b2".into(), ..KeptTrace::default() },
            ]
        };
        assert!(chosen(traces(), None).unwrap_err().contains("--id, such as a1, b2"));
        assert_eq!(chosen(traces(), Some("B")).unwrap().trace_id, "b2");
        assert!(chosen(traces(), Some("c")).unwrap_err().contains("no such trace"));
    }
}
