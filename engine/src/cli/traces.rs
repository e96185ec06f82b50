//! `tracegate traces [TRACE_ID]`: which traces a running gateway kept, and why.
//!
//! Asks the gateway's admin address with one plain HTTP request and prints a list, or one trace as a tree. It never
//! talks to anything but that address.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::exporter::memory::{KeptSpan, KeptTrace};
use crate::telemetry::logs::timestamp;

/// Arguments of `tracegate traces`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Shows this trace as a tree; its first digits suffice. Without it: a list of all kept traces.
    pub trace_id: Option<String>,
    /// Admin address of the gateway.
    #[arg(long, default_value = "http://127.0.0.1:55679")]
    pub url: String,
}

/// How long to wait for each step of the one request.
const STEP_WAIT: Duration = Duration::from_secs(10);
/// Largest answer read.
const ANSWER_BYTES_MAX: u64 = 256 << 20;
/// Deeper spans are drawn below each other: indentation must not grow with the square of a peer's depth.
const INDENT_BYTES_MAX: usize = 256;
/// Most digits of a trace id in the path.
const TRACE_ID_DIGITS: usize = 32;

/// Prints what was asked for.
pub fn run(arguments: &Arguments) -> ExitCode {
    let text = match &arguments.trace_id {
        None => ask(&arguments.url, "/traces").map(|traces: Vec<KeptTrace>| list(&traces)),
        Some(id) => checked_id(id).and_then(|id| {
            let trace: KeptTrace = ask(&arguments.url, &format!("/traces/{id}"))?;
            Ok(tree(&trace))
        }),
    };
    match text {
        Ok(text) => {
            // A closed pipe (`| head`) is not an error of this command.
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

pub(super) fn checked_id(id: &str) -> Result<&str, String> {
    let hexadecimal = id.bytes().all(|digit| digit.is_ascii_hexdigit());
    if id.is_empty() || id.len() > TRACE_ID_DIGITS || !hexadecimal {
        return Err(format!("{id:?} is not a trace id: up to {TRACE_ID_DIGITS} hexadecimal digits"));
    }
    Ok(id)
}

/// One request, one answer.
pub(super) fn ask<T: DeserializeOwned>(url: &str, path: &str) -> Result<T, String> {
    let address = host_and_port(url)?;
    let answer = exchange(address, path).map_err(|error| unreachable_text(url, &error))?;
    let body = body_of(&answer).map_err(|why| format!("{url}{path}: {why}"))?;
    serde_json::from_slice(body).map_err(|error| format!("{url}{path} did not answer as a gateway does: {error}"))
}

fn unreachable_text(url: &str, error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::ConnectionRefused {
        return format!(
            "nothing listens at {url}.\n\
             Is the gateway running? `tracegate` starts it; its first lines say where its admin address is.\n\
             If it is elsewhere: `tracegate traces --url http://HOST:PORT`."
        );
    }
    format!("could not ask {url}: {error}")
}

/// `http://host:port` as `host:port`; the scheme and a slash at the end may be left out.
fn host_and_port(url: &str) -> Result<&str, String> {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let has_port = rest.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if !has_port || rest.contains(['/', ' ']) {
        return Err(format!("--url {url:?} is not of the form http://HOST:PORT"));
    }
    Ok(rest)
}

fn exchange(address: &str, path: &str) -> io::Result<Vec<u8>> {
    let mut stream = connect(address)?;
    stream.set_read_timeout(Some(STEP_WAIT))?;
    stream.set_write_timeout(Some(STEP_WAIT))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(answer)
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, STEP_WAIT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The body of an HTTP/1.1 answer with a Content-Length, if its status is 200.
fn body_of(answer: &[u8]) -> Result<&[u8], String> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let (head, body) = answer.split_at(end.ok_or("the answer is not HTTP")? + 4);
    let head = String::from_utf8_lossy(head);
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
    let lengths = lines.filter_map(|line| line.split_once(':'));
    let mut lengths = lengths.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = lengths.next().and_then(|(_, value)| value.trim().parse::<usize>().ok());
    if length != Some(body.len()) {
        return Err("the answer is incomplete".to_owned());
    }
    if status == "200" {
        return Ok(body);
    }
    let said: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let why = said["error"].as_str().map_or_else(|| format!("the gateway answered {status}"), str::to_owned);
    Err(why)
}

/// All kept traces as a table, youngest first.
fn list(traces: &[KeptTrace]) -> String {
    if traces.is_empty() {
        return "No trace is kept yet. A trace shows up when its decision wait is over and a policy wants it; \
                this needs a `memory` exporter, which the built-in configuration has.\n"
            .to_owned();
    }
    let head = ["TRACE ID", "KEPT BY", "DURATION", "SPANS", "ERROR", "ROOT", "SERVICES"];
    let rows = traces.iter().map(|trace| {
        [
            trace.trace_id.clone(),
            kept_by(trace),
            duration(trace.duration_ns),
            trace.span_count.to_string(),
            if trace.error { "yes" } else { "-" }.to_owned(),
            trace.root_name.clone(),
            trace.services.join(", "),
        ]
    });
    let table: Vec<[String; 7]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 7] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &table {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn kept_by(trace: &KeptTrace) -> String {
    if trace.reason.is_empty() { "(no sampler)".to_owned() } else { trace.reason.clone() }
}

/// One trace: why it was kept, then its spans as a tree.
fn tree(trace: &KeptTrace) -> String {
    let why = if trace.reason.is_empty() {
        "not sampled: no tail sampler decided".to_owned()
    } else {
        format!("kept by policy \"{}\"", trace.reason)
    };
    let mut text = format!(
        "Trace {}: {why}\n{} span{}, {}, from {}\n\n",
        trace.trace_id,
        trace.spans.len(),
        if trace.spans.len() == 1 { "" } else { "s" },
        duration(trace.duration_ns),
        timestamp(trace.start_ns / 1_000_000),
    );
    for branch in branches(&trace.spans) {
        write_span(&mut text, &branch, trace.start_ns);
    }
    text
}

/// A span and how it hangs in the tree.
struct Branch<'a> {
    span: &'a KeptSpan,
    /// Drawn before the span's line.
    first: String,
    /// Drawn before the lines below it.
    below: String,
}

/// Spans in tree order. Roots are spans without a parent and spans whose parent is not here; spans that name each other
/// as parents in a circle come last, as roots of their own.
fn branches(spans: &[KeptSpan]) -> Vec<Branch<'_>> {
    let mut children: HashMap<&str, Vec<usize>> = HashMap::new();
    let known: HashMap<&str, usize> = spans.iter().enumerate().map(|(at, span)| (span.span_id.as_str(), at)).collect();
    let is_root = |at: usize| {
        let parent = known.get(spans[at].parent_span_id.as_str());
        parent.is_none_or(|parent| *parent == at)
    };
    for (at, span) in spans.iter().enumerate().filter(|(at, _)| !is_root(*at)) {
        children.entry(&span.parent_span_id).or_default().push(at);
    }
    let mut drawn = vec![false; spans.len()];
    let mut branches = Vec::with_capacity(spans.len());
    let roots = (0..spans.len()).filter(|at| is_root(*at));
    for start in roots.chain(0..spans.len()) {
        // A stack instead of recursion: a peer may send a chain of any depth.
        let mut waiting = vec![(start, String::new(), String::new())];
        while let Some((at, first, below)) = waiting.pop() {
            if std::mem::replace(&mut drawn[at], true) {
                continue;
            }
            let span = &spans[at];
            let below_of = children.get(span.span_id.as_str()).map_or(&[][..], Vec::as_slice);
            for (position, child) in below_of.iter().enumerate().rev() {
                let last = position + 1 == below_of.len();
                let (corner, edge) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
                let edge = if below.len() < INDENT_BYTES_MAX { edge } else { "" };
                waiting.push((*child, format!("{below}{corner}"), format!("{below}{edge}")));
            }
            let edge = if below_of.is_empty() { "   " } else { "│  " };
            let below = format!("{below}{edge}");
            branches.push(Branch { span, first, below });
        }
    }
    branches
}

fn write_span(text: &mut String, branch: &Branch<'_>, trace_start_ns: u64) {
    let Branch { span, first, below } = branch;
    let service = if span.service.is_empty() { "(no service)" } else { &span.service };
    let offset = duration(span.start_ns.saturating_sub(trace_start_ns));
    let mut line =
        format!("{first}{service}  {}  [{}]  {} at +{offset}", span.name, span.kind, duration(span.duration_ns));
    if span.status == "error" {
        line.push_str("  ERROR");
    }
    if !span.status_message.is_empty() {
        write!(line, ": {}", span.status_message).expect("writing to a string cannot fail");
    }
    text.push_str(&line);
    text.push('\n');
    for (name, value) in &span.attributes {
        writeln!(text, "{below}{name} = {value}").expect("writing to a string cannot fail");
    }
}

/// Nanoseconds as people read them: `850 ns`, `12.3 us`, `1.20 s`.
fn duration(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} us", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.2} s", ns as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(id: &str, parent: &str, name: &str, start_ms: u64, duration_ms: u64) -> KeptSpan {
        KeptSpan {
            span_id: id.to_owned(),
            parent_span_id: parent.to_owned(),
            name: name.to_owned(),
            service: "shop".to_owned(),
            kind: "server".to_owned(),
            status: "unset".to_owned(),
            start_ns: 1_700_000_000_000_000_000 + start_ms * 1_000_000,
            duration_ns: duration_ms * 1_000_000,
            ..KeptSpan::default()
        }
    }

    fn trace() -> KeptTrace {
        let mut failed = span("03", "02", "charge card", 20, 900);
        failed.status = "error".to_owned();
        failed.status_message = "timed out".to_owned();
        failed.service = "payment".to_owned();
        failed.attributes = vec![("http.status_code".to_owned(), "504".to_owned())];
        let spans = vec![
            span("01", "", "POST /order", 0, 1_000),
            span("02", "01", "checkout", 10, 950),
            failed,
            span("04", "01", "render", 980, 5),
        ];
        KeptTrace::new("07".repeat(16), "errors".to_owned(), spans)
    }

    #[test]
    fn a_trace_is_drawn_as_a_tree_with_durations_and_its_reason() {
        let expected = "\
Trace 07070707070707070707070707070707: kept by policy \"errors\"
4 spans, 1.00 s, from 2023-11-14T22:13:20.000Z

shop  POST /order  [server]  1.00 s at +0 ns
├─ shop  checkout  [server]  950.0 ms at +10.0 ms
│  └─ payment  charge card  [server]  900.0 ms at +20.0 ms  ERROR: timed out
│        http.status_code = 504
└─ shop  render  [server]  5.0 ms at +980.0 ms
";
        let drawn = tree(&trace());
        let drawn: Vec<&str> = drawn.lines().map(str::trim_end).collect();
        assert_eq!(drawn, expected.lines().collect::<Vec<_>>());
    }

    #[test]
    fn the_list_says_why_each_trace_was_kept() {
        let expected = "\
TRACE ID                          KEPT BY  DURATION  SPANS  ERROR  ROOT         SERVICES
07070707070707070707070707070707  errors   1.00 s    4      yes    POST /order  payment, shop
";
        assert_eq!(list(&[trace().without_spans()]), expected);
        assert!(list(&[]).starts_with("No trace is kept yet."));
    }

    #[test]
    fn a_span_whose_parent_is_missing_is_a_root() {
        let spans = [span("05", "99", "orphan", 0, 1)];
        assert_eq!(branches(&spans).len(), 1);
        assert_eq!(branches(&spans)[0].first, "");
    }

    #[test]
    fn parents_in_a_circle_and_equal_ids_are_drawn_once_each() {
        let spans = [
            span("01", "02", "a", 0, 1),
            span("02", "01", "b", 0, 1),
            span("03", "03", "its own parent", 0, 1),
            span("02", "01", "b again", 0, 1),
        ];
        assert_eq!(branches(&spans).len(), 4);
    }

    #[test]
    fn a_long_chain_of_spans_is_drawn_without_recursion() {
        let mut spans = vec![span("0", "", "root", 0, 1)];
        spans.extend((1..2_000).map(|at| span(&at.to_string(), &(at - 1).to_string(), "next", 0, 1)));
        assert_eq!(branches(&spans).len(), 2_000);
    }

    #[test]
    fn an_answer_is_taken_only_complete_and_with_status_200() {
        let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]";
        assert_eq!(body_of(ok), Ok(&b"[]"[..]));
        for end in 0..ok.len() {
            assert!(body_of(&ok[..end]).is_err(), "{end}");
        }
        let missing = b"HTTP/1.1 404 Not Found\r\ncontent-length: 20\r\n\r\n{\"error\":\"no trace\"}";
        assert_eq!(body_of(missing), Err("no trace".to_owned()));
    }

    #[test]
    fn an_address_without_port_is_an_error_and_a_scheme_is_optional() {
        assert_eq!(host_and_port("http://127.0.0.1:55679/"), Ok("127.0.0.1:55679"));
        assert_eq!(host_and_port("[::1]:55679"), Ok("[::1]:55679"));
        assert!(host_and_port("http://127.0.0.1").is_err());
        assert!(host_and_port("https://h:1/x").is_err());
    }

    #[test]
    fn nothing_listening_is_said_with_a_way_out() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let text = unreachable_text("http://127.0.0.1:1", &refused);
        assert!(text.contains("nothing listens at http://127.0.0.1:1"));
        assert!(text.contains("--url"));
    }

    #[test]
    fn only_hexadecimal_digits_reach_the_request() {
        assert!(checked_id("0Af9").is_ok());
        for bad in ["", "xyz", "07 HTTP/1.1", &"0".repeat(33)] {
            assert!(checked_id(bad).is_err(), "{bad:?}");
        }
    }
}
