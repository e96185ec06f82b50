//! `tracegate ottl`: tries statements on a file of spans, metrics or log records, and shows what they change.
//!
//! The statements run as in the `transform` processor: the same program on the same bytes. Nothing is started, nothing is
//! sent.

use std::fmt::Write as _;
use std::io::Read;

use ::ottl::{Context, Paths};
use bytes::Bytes;
use codecs::otlp::{Encoder, Signal, SignalIndex};
use serde_json::{Value, json};

use super::Report;
use crate::config::checked::{ErrorMode, StatementGroup, StatementText, TransformSettings};
use crate::pipeline::batch::Batch;
use crate::processor::Turn;
use crate::processor::transform::{Losses, Tally, Transform};
use crate::shard::Indexes;
use crate::shard::buffers::Buffers;
use crate::shard::clock::Clock;
use crate::telemetry::cells::{Cells, Schema};
use crate::telemetry::metrics::{ProcessorSeries, ShardSeries, TransformSeries};

/// Largest input.
const INPUT_BYTES_MAX: u64 = 64 << 20;
/// Lines of both sides whose difference is looked for; the work is their product.
const COMPARED_LINES_MAX: usize = 4000;

/// Arguments of `tracegate ottl`.
#[derive(clap::Args, Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    /// A statement, as in `transform`; may be given several times
    #[arg(long = "statement", value_name = "STATEMENT", required = true)]
    pub statements: Vec<String>,
    /// Spans, metrics or log records in OTLP/JSON: a whole request, or one of them; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    pub input: String,
    /// What the statements run on: resource, scope, span, spanevent, metric, datapoint or log [default: the span, data
    /// point or log record of the input]
    #[arg(long, value_name = "CONTEXT")]
    pub context: Option<String>,
    /// Keep values that could not be masked, as `on_mask_error: keep` does
    #[arg(long)]
    pub keep_unmasked: bool,
}

/// Exit code 1 if a statement is wrong, 2 if the input cannot be read.
pub fn run(arguments: &Arguments) -> Report {
    match read(&arguments.input) {
        Ok(text) => try_on(arguments, &text),
        Err(error) => failed(2, format!("error: {}: {error}\n", arguments.input)),
    }
}

fn read(input: &str) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match input {
        "-" => std::io::stdin().take(INPUT_BYTES_MAX + 1).read_to_end(&mut bytes)?,
        path => std::fs::File::open(path)?.take(INPUT_BYTES_MAX + 1).read_to_end(&mut bytes)?,
    };
    if bytes.len() as u64 > INPUT_BYTES_MAX {
        return Err(std::io::Error::other(format!("larger than {INPUT_BYTES_MAX} bytes; cut it down to a few spans")));
    }
    Ok(bytes)
}

fn failed(exit_code: u8, errors: String) -> Report {
    Report { exit_code, output: String::new(), errors }
}

fn try_on(arguments: &Arguments, input: &[u8]) -> Report {
    const CONTEXTS: &str = "resource, scope, span, spanevent, metric, datapoint or log";
    let named = match arguments.context.as_deref().map(|name| (name, Context::named(name))) {
        Some((found, None)) => {
            return failed(1, format!("error: --context: expected {CONTEXTS}, found `{found}`\n"));
        }
        named => named.and_then(|(_, context)| context),
    };
    let read = batch_of(input, named.and_then(Context::signal));
    // Statements are checked whatever the input is, so that one run tells all mistakes.
    let signal = read.as_ref().map_or(Signal::Traces, |batch| batch.index.signal());
    let context = named.unwrap_or(match signal {
        Signal::Metrics => Context::DataPoint,
        Signal::Traces | Signal::Logs => Context::of_items(signal),
    });
    let mut errors = String::new();
    for statement in &arguments.statements {
        if let Err(mistake) = ::ottl::check_statement(statement, context, Paths::Bare) {
            // Writing to a string cannot fail.
            let _ = writeln!(errors, "error: {}", mistake.render(statement));
        }
    }
    if !errors.is_empty() {
        return failed(1, errors);
    }
    let mut batch = match read {
        Ok(batch) => batch,
        Err(error) => return failed(2, format!("error: {}: {error}\n", arguments.input)),
    };
    let before = json_of(&batch);
    let (tallies, is_whole) = transformed(arguments, context, &mut batch);
    let after = json_of(&batch);
    let mut output = String::new();
    difference(&before, &after, &mut output);
    for (statement, tally) in arguments.statements.iter().zip(&tallies) {
        told(statement, tally, &mut output);
    }
    if is_whole {
        Report { exit_code: 0, output, errors: String::new() }
    } else {
        let errors = "error: the statements made the gateway fail; please report this with the input\n".to_owned();
        Report { exit_code: 2, output, errors }
    }
}

/// Keys of OTLP/JSON by signal: items, scopes, resources.
const FRAMES: [(Signal, [&str; 3], &str); 3] = [
    (Signal::Traces, ["spans", "scopeSpans", "resourceSpans"], "span"),
    (Signal::Metrics, ["metrics", "scopeMetrics", "resourceMetrics"], "metric"),
    (Signal::Logs, ["logRecords", "scopeLogs", "resourceLogs"], "log record"),
];

/// The signal that the keys of `value` speak of: those of a frame, or those that only such an item has.
fn signal_of(value: &Value) -> Option<Signal> {
    let has = |keys: &[&str]| keys.iter().any(|key| value.get(key).is_some());
    let framed = FRAMES.iter().find(|(_, keys, _)| has(keys)).map(|frame| frame.0);
    framed.or_else(|| match () {
        () if has(&["gauge", "sum", "histogram", "exponentialHistogram", "summary", "unit"]) => Some(Signal::Metrics),
        () if has(&["body", "severityNumber", "severityText", "observedTimeUnixNano", "eventName"]) => {
            Some(Signal::Logs)
        }
        () => None,
    })
}

/// The input as the gateway would take it. One item, or what lies between, is put into a request.
fn batch_of(input: &[u8], wanted: Option<Signal>) -> Result<Batch, String> {
    let mut value: Value = serde_json::from_slice(input).map_err(|error| format!("not JSON: {error}"))?;
    let signal = signal_of(&value).or(wanted).unwrap_or_default();
    if let Some(wanted) = wanted.filter(|wanted| *wanted != signal) {
        return Err(format!("it holds {signal}, and the context is one of {wanted}"));
    }
    let (_, [items, scopes, resources], name) = FRAMES[signal as usize];
    for (inside, around) in [(items, scopes), (scopes, resources)] {
        let is_around = [resources, scopes].iter().any(|key| value.get(key).is_some());
        if is_around && value.get(inside).is_none() {
            continue;
        }
        if inside == items && value.get(inside).is_none() {
            value = json!({ items: [value] });
        }
        value = json!({ around: [value] });
    }
    let text = value.to_string();
    let mut protobuf = Vec::new();
    codecs::json::read_request(signal, text.as_bytes(), &mut protobuf)
        .map_err(|error| format!("not {name}s: {error}"))?;
    let mut index = SignalIndex::new(signal);
    index.read_request(&protobuf, 0).map_err(|error| format!("not {name}s: {error}"))?;
    if index.is_empty() {
        return Err(format!("there is no {name} in it"));
    }
    Ok(Batch { index, segments: vec![Bytes::from(protobuf)], ..Batch::default() })
}

/// The batch as indented JSON.
fn json_of(batch: &Batch) -> String {
    let (mut protobuf, mut json) = (Vec::new(), Vec::new());
    batch.index.encode(&mut Encoder::default(), &batch.segments, &mut protobuf);
    codecs::json::write_request(batch.index.signal(), &protobuf, &mut json)
        .expect("every field of a batch was checked when it came");
    let value: Value = serde_json::from_slice(&json).unwrap_or_default();
    serde_json::to_string_pretty(&value).unwrap_or_default()
}

fn transformed(arguments: &Arguments, context: Context, batch: &mut Batch) -> (Vec<Tally>, bool) {
    let statement = |text: &String| StatementText { text: text.clone(), name: text.clone() };
    let signal = batch.index.signal();
    let group = StatementGroup {
        signal,
        context,
        paths: Paths::Bare,
        error_mode: ErrorMode::Ignore,
        conditions: Vec::new(),
        statements: arguments.statements.iter().map(statement).collect(),
    };
    let settings = TransformSettings { groups: vec![group], keeps_unmasked: arguments.keep_unmasked };
    let mut schema = Schema::default();
    let names = arguments.statements.iter().map(String::as_str);
    let series = TransformSeries::declare(&mut schema, "transform", signal, names);
    let losses = Losses {
        items: ProcessorSeries::declare(&mut schema, "transform", signal).dropped,
        caught_panics: ShardSeries::declare(&mut schema).caught_panics,
    };
    let (cells, buffers, indexes) = (Cells::new(&schema), Buffers::new(0), Indexes::default());
    let turn = Turn {
        now_ns: 0,
        memory_is_short: false,
        pressure: 0.0,
        clock: Clock::start(),
        cells: &cells,
        buffers: &buffers,
        indexes: &indexes,
    };
    Transform::new("transform".to_owned(), signal, &settings, series, losses).rehearse(turn, batch)
}

/// The lines of both, `-` before those that went and `+` before those that came.
fn difference(before: &str, after: &str, out: &mut String) {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let same_front = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let (old_rest, new_rest) = (&old[same_front..], &new[same_front..]);
    let same_back = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(|(old, new)| old == new).count();
    let (old_middle, new_middle) = (&old_rest[..old_rest.len() - same_back], &new_rest[..new_rest.len() - same_back]);
    let mut line = |mark: &str, line: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{mark} {line}");
    };
    old[..same_front].iter().for_each(|same| line(" ", same));
    if old_middle.len().max(new_middle.len()) > COMPARED_LINES_MAX {
        old_middle.iter().for_each(|gone| line("-", gone));
        new_middle.iter().for_each(|come| line("+", come));
    } else {
        compare(old_middle, new_middle, &mut line);
    }
    old_rest[old_rest.len() - same_back..].iter().for_each(|same| line(" ", same));
}

/// The longest common subsequence, by the book.
fn compare(old: &[&str], new: &[&str], line: &mut impl FnMut(&str, &str)) {
    let width = new.len() + 1;
    let mut common = vec![0u16; (old.len() + 1) * width];
    for (row, old_line) in old.iter().enumerate().rev() {
        for (column, new_line) in new.iter().enumerate().rev() {
            common[row * width + column] = if old_line == new_line {
                common[(row + 1) * width + column + 1] + 1
            } else {
                common[(row + 1) * width + column].max(common[row * width + column + 1])
            };
        }
    }
    let (mut row, mut column) = (0, 0);
    while row < old.len() || column < new.len() {
        if row < old.len() && column < new.len() && old[row] == new[column] {
            line(" ", old[row]);
            (row, column) = (row + 1, column + 1);
        } else if column == new.len()
            || (row < old.len() && common[(row + 1) * width + column] >= common[row * width + column + 1])
        {
            line("-", old[row]);
            row += 1;
        } else {
            line("+", new[column]);
            column += 1;
        }
    }
}

/// What became of one statement, in words.
fn told(statement: &str, tally: &Tally, out: &mut String) {
    let Tally { applied, not_matched, skipped, failures, unmasked_deleted, .. } = tally;
    let parts = [
        (*applied, "applied"),
        (*not_matched, "condition false"),
        (*skipped, "skipped, an argument is nil"),
        (*unmasked_deleted, "deleted, because it could not be masked"),
        (*failures, "failed"),
    ];
    let parts: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    let parts = if parts.is_empty() { "nothing to run on".to_owned() } else { parts.join(", ") };
    let why = tally.fault.as_ref().map_or(String::new(), |fault| format!(": {fault}"));
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{statement}\n    {parts}{why}");
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: &str = r#"{"traceId": "000102030405060708090a0b0c0d0e0f", "spanId": "0001020304050607", "name": "pay",
        "attributes": [{"key": "user.email", "value": {"stringValue": "ann@example.com"}},
                       {"key": "password", "value": {"stringValue": "secret"}}]}"#;

    fn tried(context: &str, statements: &[&str], input: &str) -> Report {
        let statements = statements.iter().map(|statement| (*statement).to_owned()).collect();
        let arguments =
            Arguments { statements, input: "-".to_owned(), context: Some(context.to_owned()), keep_unmasked: false };
        try_on(&arguments, input.as_bytes())
    }

    #[test]
    fn a_span_is_shown_before_and_after() {
        let statements = [
            r#"set(attributes["user.email"], SHA256(attributes["user.email"]))"#,
            r#"delete_key(attributes, "password")"#,
            r#"set(name, attributes["none"])"#,
            r#"set(attributes["n"], 1 / Int(name)) where name == "none""#,
        ];
        let report = tried("span", &statements, SPAN);
        assert_eq!((report.exit_code, report.errors.as_str()), (0, ""));
        let marked = |mark: char| report.output.lines().filter(move |line| line.starts_with(mark)).collect::<String>();
        assert!(marked('-').contains("ann@example.com") && marked('-').contains("secret"), "{}", report.output);
        assert!(marked('+').contains("55ae5bda2d4ba8b9") || marked('+').contains("stringValue"), "{}", report.output);
        assert!(!marked('+').contains("ann@example.com"));
        assert!(
            report.output.contains("1 applied") && report.output.contains("1 condition false"),
            "{}",
            report.output
        );
    }

    #[test]
    fn what_a_statement_could_not_do_is_told_with_its_reason() {
        let report = tried("span", &[r#"set(attributes["n"], 1 / 0)"#], SPAN);
        assert!(report.output.contains("1 failed: division by zero"), "{}", report.output);
        assert!(!report.output.contains("\n+ "), "{}", report.output);
    }

    #[test]
    fn a_mistake_is_shown_with_a_caret_below_it() {
        let report = tried("span", &[r#"delet_key(attributes, "password")"#], SPAN);
        assert_eq!(report.exit_code, 1);
        let lines: Vec<&str> = report.errors.lines().collect();
        let at = lines.iter().position(|line| line.contains("delet_key(")).unwrap();
        assert!(lines[at + 1].trim_start().starts_with("^^^^^^^^^"), "{}", report.errors);
        assert!(report.errors.contains("delete_key"), "{}", report.errors);
    }

    #[test]
    fn what_is_no_span_is_told() {
        for (input, said) in
            [("{", "not JSON"), (r#"{"resourceSpans": []}"#, "no span"), (r#"{"spans": 1}"#, "not spans")]
        {
            let report = tried("span", &["set(name, \"x\")"], input);
            assert_eq!(report.exit_code, 2);
            assert!(report.errors.contains(said), "{input}: {}", report.errors);
        }
        assert_eq!(tried("trace", &["set(name, \"x\")"], SPAN).exit_code, 1);
    }

    #[test]
    fn log_records_and_metrics_are_known_by_what_they_hold() {
        let tried_bare = |statement: &str, input: &str| {
            let arguments = Arguments {
                statements: vec![statement.to_owned()],
                input: "-".to_owned(),
                context: None,
                keep_unmasked: false,
            };
            try_on(&arguments, input.as_bytes())
        };
        let log = r#"{"body": {"stringValue": "hello"}, "severityNumber": 9}"#;
        let report = tried_bare(r#"set(body, Concat([body, "world"], " "))"#, log);
        assert_eq!(report.errors, "");
        assert!(
            report.output.contains(r#"+           "stringValue": "hello world""#)
                || report.output.contains("hello world")
        );
        let metric = r#"{"name": "orders", "sum": {"dataPoints": [{"asInt": "7"}], "isMonotonic": true}}"#;
        let report = tried_bare(r#"set(attributes["n"], value_int)"#, metric);
        assert_eq!(report.errors, "");
        assert!(report.output.contains("intValue"), "{}", report.output);
        let report = tried("metric", &["convert_sum_to_gauge()"], metric);
        assert!(report.output.contains("gauge"), "{}", report.output);
        let report = tried("span", &["set(name, \"x\")"], log);
        assert!(report.errors.contains("it holds logs"), "{}", report.errors);
    }

    #[test]
    fn the_difference_keeps_what_both_have() {
        let check = |before: &str, after: &str, expected: &str| {
            let mut out = String::new();
            difference(before, after, &mut out);
            assert_eq!(out, expected);
        };
        check("a\nb\nc", "a\nc", "  a\n- b\n  c\n");
        check("a\nb\nc\nd", "x\nb\nd\ny", "- a\n+ x\n  b\n- c\n  d\n+ y\n");
        check("", "a", "+ a\n");
    }
}
