//! Statements and what they do, by the hundred, as text: `tests/cases/*.txt`.
//!
//! A case is a statement behind `> `, then what changed on the item below, one line each: `+ path = value` set,
//! `- path` removed, or how it ended if it did not apply. An expression behind `= ` is followed by its value. After a
//! change that is meant, `TRACEGATE_BLESS=1 cargo test -p ottl --test cases` writes what is found; read the difference.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use codecs::otlp::{Signal, proto};
use ottl::{Context, Environment, Outcome, Paths, WireItem, check_statement};
use prost::Message;

fn any(value: proto::Value) -> proto::AnyValue {
    proto::AnyValue { value: Some(value) }
}

fn text(value: &str) -> proto::AnyValue {
    any(proto::Value::String(value.into()))
}

fn int(value: i64) -> proto::AnyValue {
    any(proto::Value::Int(value))
}

fn entry(key: &str, value: proto::AnyValue) -> proto::KeyValue {
    proto::KeyValue { key: key.into(), value: Some(value) }
}

fn list(values: Vec<proto::AnyValue>) -> proto::AnyValue {
    any(proto::Value::Array(proto::ArrayValue { values }))
}

fn map(values: Vec<proto::KeyValue>) -> proto::AnyValue {
    any(proto::Value::Map(proto::KeyValueList { values }))
}

/// The item every case runs on.
fn item() -> (proto::ResourceSpans, proto::ScopeSpans, proto::Span) {
    let resource = proto::Resource {
        attributes: vec![entry("env", text("prod")), entry("service.name", text("shop"))],
        dropped_attributes_count: 1,
    };
    let scope = proto::InstrumentationScope {
        name: b"lib".to_vec(),
        version: b"1.2".to_vec(),
        attributes: vec![entry("s", text("scope"))],
        dropped_attributes_count: 0,
    };
    let span = proto::Span {
        trace_id: (1..17).collect(),
        span_id: (1..9).collect(),
        trace_state: b"vendor=x,other=y".to_vec(),
        name: b"GET /users/42".to_vec(),
        kind: 2,
        start_time_unix_nano: 1_700_000_000_000_000_000,
        end_time_unix_nano: 1_700_000_001_500_000_000,
        attributes: vec![
            entry("user.email", text("ann@example.com")),
            entry("user.phone", text("+1 415 555 2671")),
            entry("http.status", int(404)),
            entry("ratio", any(proto::Value::Double(0.5))),
            entry("flag", any(proto::Value::Bool(true))),
            entry("raw", any(proto::Value::Bytes(vec![0, 255]))),
            entry("none", proto::AnyValue::default()),
            entry("tags", list(vec![text("b"), text("a"), int(3)])),
            entry("nested", map(vec![entry("a", text("one")), entry("b", map(vec![entry("c", int(2))]))])),
        ],
        events: vec![proto::SpanEvent {
            time_unix_nano: 1_700_000_000_100_000_000,
            name: b"exception".to_vec(),
            attributes: vec![entry("message", text("boom"))],
            dropped_attributes_count: 0,
        }],
        status: Some(proto::SpanStatus { message: b"not found".to_vec(), code: 2 }),
        ..proto::Span::default()
    };
    let resource = proto::ResourceSpans { resource: Some(resource), ..Default::default() };
    (resource, proto::ScopeSpans { scope: Some(scope), ..Default::default() }, span)
}

fn shown(value: Option<&proto::AnyValue>) -> String {
    use proto::Value as V;
    match value.and_then(|value| value.value.as_ref()) {
        None => "nil".to_owned(),
        Some(V::String(text)) => format!("{:?}", String::from_utf8_lossy(text)),
        Some(V::Int(value)) => value.to_string(),
        Some(V::Double(value)) => format!("{value:?}"),
        Some(V::Bool(value)) => value.to_string(),
        Some(V::Bytes(bytes)) => bytes.iter().fold("0x".to_owned(), |out, byte| out + &format!("{byte:02x}")),
        Some(V::Array(list)) => {
            let items: Vec<_> = list.values.iter().map(|item| shown(Some(item))).collect();
            format!("[{}]", items.join(", "))
        }
        Some(V::Map(map)) => {
            let entry = |entry: &proto::KeyValue| {
                format!("{:?}: {}", String::from_utf8_lossy(&entry.key), shown(entry.value.as_ref()))
            };
            format!("{{{}}}", map.values.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
    }
}

/// The log record of every case on logs.
fn record() -> proto::LogRecord {
    proto::LogRecord {
        time_unix_nano: 1_700_000_000_000_000_000,
        observed_time_unix_nano: 1_700_000_000_500_000_000,
        severity_number: 9,
        severity_text: b"Info".to_vec(),
        body: Some(map(vec![
            entry("message", text("ann@example.com logged in from 10.0.0.7")),
            entry("user", map(vec![entry("id", int(42)), entry("mail", text("ann@example.com"))])),
            entry("steps", list(vec![text("open"), text("check"), int(3)])),
        ])),
        attributes: vec![
            entry("user.email", text("ann@example.com")),
            entry("http.status", int(404)),
            entry("line", text("GET /users/42 200")),
        ],
        dropped_attributes_count: 2,
        flags: 1,
        trace_id: (1..17).collect(),
        span_id: (1..9).collect(),
        event_name: b"login".to_vec(),
    }
}

/// The metrics of cases on metrics and data points, by the word behind `# on `.
fn metric(kind: &str) -> proto::Metric {
    let attributes = || vec![entry("region", text("eu")), entry("user.email", text("ann@example.com"))];
    let (start_time_unix_nano, time_unix_nano) = (1_700_000_000_000_000_000, 1_700_000_060_000_000_000);
    let number = |value| proto::NumberDataPoint {
        attributes: attributes(),
        start_time_unix_nano,
        time_unix_nano,
        value: Some(value),
        ..Default::default()
    };
    let data = match kind {
        "gauge" => proto::MetricData::Gauge(proto::Gauge {
            data_points: vec![number(proto::NumberValue::AsDouble(1.5)), number(proto::NumberValue::AsInt(4))],
        }),
        "histogram" => proto::MetricData::Histogram(proto::Histogram {
            data_points: vec![proto::HistogramDataPoint {
                attributes: attributes(),
                start_time_unix_nano,
                time_unix_nano,
                count: 6,
                sum: Some(21.5),
                bucket_counts: vec![1, 2, 3],
                explicit_bounds: vec![1.0, 5.0],
                min: Some(0.5),
                max: Some(9.0),
                ..Default::default()
            }],
            aggregation_temporality: 1,
        }),
        "several histograms" => proto::MetricData::Histogram(proto::Histogram {
            data_points: (0..3)
                .map(|number| proto::HistogramDataPoint {
                    attributes: vec![entry("region", text("eu")), entry("host", int(number))],
                    start_time_unix_nano: start_time_unix_nano - number as u64,
                    time_unix_nano,
                    count: 1 + number as u64,
                    sum: Some(number as f64),
                    bucket_counts: vec![number as u64, 1],
                    explicit_bounds: vec![if number < 2 { 1.0 } else { 2.0 }],
                    min: Some(number as f64),
                    max: Some(9.0 + number as f64),
                    ..Default::default()
                })
                .collect(),
            aggregation_temporality: 2,
        }),
        "several exponentials" => proto::MetricData::ExponentialHistogram(proto::ExponentialHistogram {
            data_points: [(-2, vec![1, 2]), (1, vec![3]), (0, vec![])]
                .into_iter()
                .map(|(offset, bucket_counts)| proto::ExponentialHistogramDataPoint {
                    attributes: vec![entry("region", text("eu")), entry("host", int(i64::from(offset)))],
                    time_unix_nano,
                    count: 2,
                    scale: 3,
                    zero_count: 1,
                    positive: Some(proto::Buckets { offset, bucket_counts }),
                    ..Default::default()
                })
                .collect(),
            aggregation_temporality: 2,
        }),
        "exponential" => proto::MetricData::ExponentialHistogram(proto::ExponentialHistogram {
            data_points: vec![proto::ExponentialHistogramDataPoint {
                attributes: attributes(),
                time_unix_nano,
                count: 3,
                sum: Some(7.0),
                scale: -2,
                zero_count: 1,
                ..Default::default()
            }],
            aggregation_temporality: 2,
        }),
        "summary" => proto::MetricData::Summary(proto::Summary {
            data_points: vec![proto::SummaryDataPoint {
                attributes: attributes(),
                time_unix_nano,
                count: 5,
                sum: 12.5,
                quantile_values: [(0.5, 2.0), (0.99, 8.0)]
                    .map(|(quantile, value)| proto::ValueAtQuantile { quantile, value })
                    .to_vec(),
                ..Default::default()
            }],
        }),
        _ => proto::MetricData::Sum(proto::Sum {
            data_points: vec![number(proto::NumberValue::AsInt(7)), number(proto::NumberValue::AsInt(8))],
            aggregation_temporality: 2,
            is_monotonic: true,
        }),
    };
    proto::Metric {
        name: b"orders.created".to_vec(),
        description: b"Orders".to_vec(),
        unit: b"1".to_vec(),
        data: Some(data),
        metadata: vec![entry("origin", text("shop"))],
    }
}

/// Everything a log record has, by path.
fn record_paths(record: &proto::LogRecord) -> BTreeMap<String, String> {
    let shown_text = |text: &[u8]| format!("{:?}", String::from_utf8_lossy(text));
    let mut out = BTreeMap::from([
        ("time".to_owned(), record.time_unix_nano.to_string()),
        ("observed_time".to_owned(), record.observed_time_unix_nano.to_string()),
        ("severity_number".to_owned(), record.severity_number.to_string()),
        ("severity_text".to_owned(), shown_text(&record.severity_text)),
        ("dropped_attributes_count".to_owned(), record.dropped_attributes_count.to_string()),
        ("flags".to_owned(), record.flags.to_string()),
        ("trace_id".to_owned(), format!("{:02x?}", record.trace_id)),
        ("span_id".to_owned(), format!("{:02x?}", record.span_id)),
        ("event_name".to_owned(), shown_text(&record.event_name)),
    ]);
    match record.body.as_ref().and_then(|body| body.value.as_ref()) {
        Some(proto::Value::Map(body)) => {
            for entry in &body.values {
                let key = String::from_utf8_lossy(&entry.key);
                out.insert(format!("body[{key:?}]"), shown(entry.value.as_ref()));
            }
        }
        _ => drop(out.insert("body".to_owned(), shown(record.body.as_ref()))),
    }
    for entry in &record.attributes {
        let key = String::from_utf8_lossy(&entry.key);
        out.insert(format!("attributes[{key:?}]"), shown(entry.value.as_ref()));
    }
    out
}

/// Everything a metric has, by path.
fn metric_paths(metric: &proto::Metric) -> BTreeMap<String, String> {
    let shown_text = |text: &[u8]| format!("{:?}", String::from_utf8_lossy(text));
    let mut out = BTreeMap::from([
        ("metric.name".to_owned(), shown_text(&metric.name)),
        ("metric.description".to_owned(), shown_text(&metric.description)),
        ("metric.unit".to_owned(), shown_text(&metric.unit)),
    ]);
    for entry in &metric.metadata {
        out.insert(format!("metric.metadata[{:?}]", String::from_utf8_lossy(&entry.key)), shown(entry.value.as_ref()));
    }
    let mut point = |number: usize, attributes: &[proto::KeyValue], fields: &[(&str, String)]| {
        for entry in attributes {
            let key = String::from_utf8_lossy(&entry.key);
            out.insert(format!("{number}.attributes[{key:?}]"), shown(entry.value.as_ref()));
        }
        for (name, value) in fields {
            out.insert(format!("{number}.{name}"), value.clone());
        }
    };
    let mut number = |place: usize, it: &proto::NumberDataPoint| {
        let fields = [
            ("start_time", it.start_time_unix_nano.to_string()),
            ("time", it.time_unix_nano.to_string()),
            ("flags", it.flags.to_string()),
            ("value", format!("{:?}", it.value)),
        ];
        point(place, &it.attributes, &fields);
    };
    let settings = match &metric.data {
        None => String::new(),
        Some(proto::MetricData::Gauge(data)) => {
            data.data_points.iter().enumerate().for_each(|(place, it)| number(place, it));
            "gauge".to_owned()
        }
        Some(proto::MetricData::Sum(data)) => {
            data.data_points.iter().enumerate().for_each(|(place, it)| number(place, it));
            format!("sum {} {}", data.aggregation_temporality, data.is_monotonic)
        }
        Some(proto::MetricData::Histogram(data)) => {
            for (place, it) in data.data_points.iter().enumerate() {
                let fields = [
                    ("start_time", it.start_time_unix_nano.to_string()),
                    ("time", it.time_unix_nano.to_string()),
                    ("flags", it.flags.to_string()),
                    ("count", it.count.to_string()),
                    ("sum", format!("{:?}", it.sum)),
                    ("bucket_counts", format!("{:?}", it.bucket_counts)),
                    ("explicit_bounds", format!("{:?}", it.explicit_bounds)),
                    ("min", format!("{:?}", it.min)),
                    ("max", format!("{:?}", it.max)),
                ];
                point(place, &it.attributes, &fields);
            }
            format!("histogram {}", data.aggregation_temporality)
        }
        Some(proto::MetricData::ExponentialHistogram(data)) => {
            for (place, it) in data.data_points.iter().enumerate() {
                let fields = [
                    ("time", it.time_unix_nano.to_string()),
                    ("count", it.count.to_string()),
                    ("sum", format!("{:?}", it.sum)),
                    ("scale", it.scale.to_string()),
                    ("zero_count", it.zero_count.to_string()),
                    ("zero_threshold", format!("{:?}", it.zero_threshold)),
                    ("positive", format!("{:?}", it.positive)),
                ];
                point(place, &it.attributes, &fields);
            }
            format!("exponential {}", data.aggregation_temporality)
        }
        Some(proto::MetricData::Summary(data)) => {
            for (place, it) in data.data_points.iter().enumerate() {
                let fields = [
                    ("time", it.time_unix_nano.to_string()),
                    ("count", it.count.to_string()),
                    ("sum", format!("{:?}", it.sum)),
                ];
                point(place, &it.attributes, &fields);
            }
            "summary".to_owned()
        }
    };
    out.insert("metric.data".to_owned(), settings);
    out
}

/// Everything the item has, by path.
fn paths(resource: &proto::ResourceSpans, scope: &proto::ScopeSpans, span: &proto::Span) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let mut attributes = |prefix: &str, entries: &[proto::KeyValue]| {
        for entry in entries {
            let key = String::from_utf8_lossy(&entry.key);
            out.insert(format!("{prefix}[{key:?}]"), shown(entry.value.as_ref()));
        }
    };
    let resource_message = resource.resource.clone().unwrap_or_default();
    let scope_message = scope.scope.clone().unwrap_or_default();
    attributes("resource.attributes", &resource_message.attributes);
    attributes("scope.attributes", &scope_message.attributes);
    attributes("attributes", &span.attributes);
    for event in &span.events {
        attributes("event.attributes", &event.attributes);
    }
    let mut field = |name: &str, value: String| {
        out.insert(name.to_owned(), value);
    };
    let shown_text = |text: &[u8]| format!("{:?}", String::from_utf8_lossy(text));
    field("resource.dropped_attributes_count", resource_message.dropped_attributes_count.to_string());
    field("resource.schema_url", shown_text(&resource.schema_url));
    field("scope.name", shown_text(&scope_message.name));
    field("scope.version", shown_text(&scope_message.version));
    field("scope.schema_url", shown_text(&scope.schema_url));
    field("trace_id", format!("{:02x?}", span.trace_id));
    field("span_id", format!("{:02x?}", span.span_id));
    field("parent_span_id", format!("{:02x?}", span.parent_span_id));
    field("trace_state", shown_text(&span.trace_state));
    field("name", shown_text(&span.name));
    field("kind", span.kind.to_string());
    field("start", span.start_time_unix_nano.to_string());
    field("end", span.end_time_unix_nano.to_string());
    field("flags", span.flags.to_string());
    field("dropped_attributes_count", span.dropped_attributes_count.to_string());
    let status = span.status.clone().unwrap_or_default();
    field("status.code", status.code.to_string());
    field("status.message", shown_text(&status.message));
    for event in &span.events {
        field("event.name", shown_text(&event.name));
        field("event.time", event.time_unix_nano.to_string());
    }
    out
}

/// What `statement` does to the item, as lines. `kind` says which metric, where it matters.
fn run(statement: &str, context: Context, kind: &str) -> String {
    let checked = match check_statement(statement, context, Paths::Bare) {
        Ok(checked) => checked,
        Err(diagnostic) => return format!("{}\n", diagnostic.render(statement)),
    };
    let signal = context.signal().unwrap_or_default();
    let (resource, scope, span) = item();
    let (resource_bytes, scope_bytes) = (resource.encode_to_vec(), scope.encode_to_vec());
    let item_bytes = match signal {
        Signal::Traces => span.encode_to_vec(),
        Signal::Metrics => metric(kind).encode_to_vec(),
        Signal::Logs => record().encode_to_vec(),
    };
    let mut item = WireItem::new(signal);
    item.begin_resource(&resource_bytes);
    item.begin_scope(&scope_bytes);
    item.begin_item(&item_bytes);
    item.begin_part(0);
    let mut environment = Environment {
        now_unix_ns: 1_700_000_002_000_000_000,
        chance: ottl::Chance::of([7; 32]),
        sender: ottl::Sender {
            metadata: vec![("x-tenant".to_owned(), vec![b"blue".to_vec(), b"green".to_vec()])],
            auth: vec![("subject".to_owned(), "ann".to_owned())],
            address: Some("10.0.0.7".to_owned()),
        },
        ..Environment::default()
    };
    let outcome = checked.run(&mut item, &mut environment);
    item.finish_part();
    let mut out = match outcome {
        Outcome::Applied => String::new(),
        Outcome::NotMatched => "not matched\n".to_owned(),
        Outcome::Skipped => "skipped\n".to_owned(),
        Outcome::Deleted(fault) => format!("deleted: {fault}\n"),
        Outcome::Failed(fault) => format!("failed: {fault}\n"),
    };
    let created: Vec<_> = item.take_created().collect();
    for (number, created) in created.into_iter().enumerate() {
        let mut bytes = Vec::new();
        created.write(&mut bytes);
        for (path, value) in metric_paths(&proto::Metric::decode(&*bytes).expect("decodes")) {
            let _ = writeln!(out, "* made.{number}.{path} = {value}");
        }
    }
    let written = |level| {
        let mut bytes = Vec::new();
        item.write(level, &mut bytes);
        bytes
    };
    let shown = |resource: &[u8], scope: &[u8], item: &[u8]| {
        let resource = proto::ResourceSpans::decode(resource).expect("decodes");
        let scope = proto::ScopeSpans::decode(scope).expect("decodes");
        let mut out = match signal {
            Signal::Traces => {
                return paths(&resource, &scope, &proto::Span::decode(item).expect("decodes"));
            }
            Signal::Metrics => metric_paths(&proto::Metric::decode(item).expect("decodes")),
            Signal::Logs => record_paths(&proto::LogRecord::decode(item).expect("decodes")),
        };
        let around = paths(&resource, &scope, &proto::Span::default()).into_iter();
        out.extend(around.filter(|(path, _)| path.starts_with("resource.") || path.starts_with("scope.")));
        out
    };
    let before = shown(&resource_bytes, &scope_bytes, &item_bytes);
    let after = shown(&written(Context::Resource), &written(Context::Scope), &written(Context::of_items(signal)));
    for path in before.keys().filter(|path| !after.contains_key(*path)) {
        let _ = writeln!(out, "- {path}");
    }
    for (path, value) in after.iter().filter(|(path, value)| before.get(*path) != Some(value)) {
        let _ = writeln!(out, "+ {path} = {value}");
    }
    out
}

/// The value of `expression`, or why it has none.
fn evaluate(expression: &str, context: Context, kind: &str) -> String {
    // Metrics themselves have no attributes.
    let (target, shown) = match context {
        Context::Metric => ("metadata[\"=\"]", "metric.metadata[\"=\"]"),
        Context::DataPoint => ("attributes[\"=\"]", "0.attributes[\"=\"]"),
        _ => ("attributes[\"=\"]", "attributes[\"=\"]"),
    };
    let found = run(&format!("set({target}, {expression})"), context, kind);
    match found.strip_prefix(&format!("+ {shown} = ")) {
        Some(value) => value.to_owned(),
        None if found.is_empty() => "nil\n".to_owned(),
        None => found,
    }
}

/// Runs every case of a file and compares; each block is a statement and its lines.
fn check(file: &str, context: Context) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(file);
    let expected = fs::read_to_string(&path).expect("the case file is there");
    let mut found = String::new();
    let (mut count, mut kind) = (0, "");
    for line in expected.lines() {
        if line.is_empty() || line.starts_with('#') {
            // `# on NAME` says which metric the cases below it run on.
            kind = line.strip_prefix("# on ").unwrap_or(kind);
            let _ = writeln!(found, "{line}");
        } else if let Some(statement) = line.strip_prefix("> ") {
            let _ = write!(found, "{line}\n{}", run(statement, context, kind));
            count += 1;
        } else if let Some(expression) = line.strip_prefix("= ") {
            let _ = write!(found, "{line}\n{}", evaluate(expression, context, kind));
            count += 1;
        }
    }
    assert!(count > 0, "{file} has no cases");
    if std::env::var_os("TRACEGATE_BLESS").is_some() {
        fs::write(&path, found).expect("the case file can be written");
        return;
    }
    let mut statement = "";
    for (number, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
        if expected.starts_with("> ") || expected.starts_with("= ") {
            statement = expected;
        }
        assert_eq!(found, expected, "{file}:{}: {statement}", number + 1);
    }
    assert_eq!(found, expected, "{file}: the last case");
}

#[test]
fn editors_change_what_they_name() {
    check("editors.txt", Context::Span);
}

#[test]
fn converters_give_what_they_say() {
    check("converters.txt", Context::Span);
}

#[test]
fn paths_are_read_and_set() {
    check("paths.txt", Context::Span);
}

#[test]
fn events_are_edited_in_their_span() {
    check("events.txt", Context::SpanEvent);
}

#[test]
fn log_records_are_read_and_set() {
    check("logs.txt", Context::Log);
}

#[test]
fn metrics_are_read_and_set() {
    check("metrics.txt", Context::Metric);
}

#[test]
fn data_points_are_edited_in_their_metric() {
    check("datapoints.txt", Context::DataPoint);
}

#[test]
fn conditions_and_arithmetic_follow_the_language() {
    check("language.txt", Context::Span);
}

#[test]
fn masking_never_leaks() {
    check("masking.txt", Context::Span);
}

#[test]
fn mistakes_are_told_with_their_place() {
    check("messages.txt", Context::Span);
}

#[test]
fn the_parity_page_names_every_function_there_is_and_every_one_there_is_not() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ottl-parity.md");
    let page = fs::read_to_string(page).expect("the page is there");
    let (there, not_there) = page.split_once("## Not there").expect("the page has both parts");
    for name in ottl::editor_names().chain(ottl::converter_names()) {
        assert!(there.contains(&format!("`{name}`")), "{name} is there and not named");
    }
    for name in ottl::NOT_SUPPORTED {
        assert!(not_there.contains(&format!("`{name}`")), "{name} is not there and not named");
    }
}

#[test]
fn the_context_is_the_lowest_that_paths_name() {
    let cases: [(&[&str], Option<Context>); 9] = [
        (&["set(log.body, resource.attributes[\"a\"])"], Some(Context::Log)),
        (&["set(metric.name, \"x\") where resource.attributes[\"a\"] == 1"], Some(Context::Metric)),
        (&["set(metric.unit, \"s\")", "set(datapoint.attributes[\"a\"], metric.name)"], Some(Context::DataPoint)),
        (&["set(log.body, span.name)"], Some(Context::Log)),
        (&["set(resource.attributes[\"a\"], 1)"], Some(Context::Resource)),
        (&["set(span.name, \"x\") where resource.attributes[\"a\"] == 1"], Some(Context::Span)),
        (&["set(resource.attributes[\"a\"], 1)", "set(span.attributes[spanevent.name], 1)"], Some(Context::SpanEvent)),
        (&["set(instrumentation_scope.name, Concat([resource.schema_url], \"\"))"], Some(Context::Scope)),
        (&["set(name, \"x\")"], None),
    ];
    for (statements, expected) in cases {
        assert_eq!(ottl::infer_context(statements.iter().copied()).ok(), expected, "{statements:?}");
    }
}

#[test]
fn untouched_bytes_and_unknown_fields_leave_as_they_came() {
    let (_, _, span) = item();
    let mut bytes = span.encode_to_vec();
    // Field 100, length-delimited, which nobody knows.
    bytes.extend_from_slice(&[0xa2, 0x06, 2, 7, 7]);
    let mut item = WireItem::default();
    item.begin_item(&bytes);
    let mut environment = Environment::default();
    let mut run = |item: &mut WireItem<'_>, text: &str| {
        let statement = check_statement(text, Context::Span, Paths::Bare).expect("a statement");
        statement.run(item, &mut environment);
    };
    run(&mut item, "delete_key(attributes, \"missing\")");
    run(&mut item, "set(attributes[\"a\"], 1) where name == \"other\"");
    assert!(!item.is_changed(Context::Span), "nothing was changed");
    run(&mut item, "delete_key(attributes, \"user.email\")");
    let mut out = Vec::new();
    item.write(Context::Span, &mut out);
    let first = proto::Span { attributes: span.attributes[..1].to_vec(), ..Default::default() }.encode_to_vec();
    let at = bytes.windows(first.len()).position(|window| window == first).expect("the attribute's bytes");
    assert_eq!(out, [&bytes[..at], &bytes[at + first.len()..]].concat());
}

#[test]
fn a_later_statement_reads_what_an_earlier_one_did_and_the_cache() {
    let (_, _, span) = item();
    let bytes = span.encode_to_vec();
    let mut item = WireItem::default();
    item.begin_item(&bytes);
    let mut environment = Environment::default();
    for text in [
        "set(cache[\"mail\"], attributes[\"user.email\"])",
        "delete_key(attributes, \"user.email\")",
        "set(attributes[\"count\"], attributes[\"http.status\"])",
        "set(attributes[\"count\"], attributes[\"count\"] + 1)",
        "set(attributes[\"count\"], attributes[\"count\"] * 2)",
        "set(attributes[\"mail\"], cache[\"mail\"])",
    ] {
        if let Ok(statement) = check_statement(text, Context::Span, Paths::Bare) {
            assert_eq!(statement.run(&mut item, &mut environment), Outcome::Applied, "{text}");
        }
    }
    let mut out = Vec::new();
    item.write(Context::Span, &mut out);
    let after = proto::Span::decode(&*out).expect("decodes");
    let value = |key: &str| {
        let entry = after.attributes.iter().find(|entry| entry.key == key.as_bytes());
        entry.map(|entry| shown(entry.value.as_ref()))
    };
    assert_eq!(value("count"), Some("810".to_owned()));
    assert_eq!(value("mail"), Some("\"ann@example.com\"".to_owned()));
    assert_eq!(value("user.email"), None);
}
