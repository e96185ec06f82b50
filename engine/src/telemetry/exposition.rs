//! `/metrics`: the Prometheus text format 0.0.4 of one snapshot.
//!
//! Names are written as declared, without `_total`, as the Collector does by default, or as `naming` says. At level `detailed` each series
//! carries a `shard` label *instead of* its total, so that `sum()` over a metric is right at every level. Pure: values
//! in, text out.

use std::borrow::Cow;
use std::fmt::Write;

use super::cells::{Bounds, Kind, Metric, Schema, Series};
use super::naming::Spelling;
use crate::config::checked::{MetricNames, MetricsLevel};

/// Content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What to show and how.
#[derive(Clone, Debug)]
pub struct Exposition<'a> {
    /// All series.
    pub schema: &'a Schema,
    /// One snapshot per shard.
    pub shards: &'a [Vec<u64>],
    /// Values that belong to the process and not to a shard, each metric once.
    pub process: &'a [(&'static Metric, f64)],
    /// Labels of `target_info`: who is speaking.
    pub resource: &'a [(String, String)],
    /// How much is shown.
    pub level: MetricsLevel,
    /// How metrics are named; a metric whose two names are equal is written once.
    pub names: MetricNames,
}

/// The scope that all of our metrics come from, for `otel_scope_name`.
const SCOPE_LABELS: [Label; 3] = [
    ("otel_scope_name", "tracegate"),
    ("otel_scope_schema_url", ""),
    ("otel_scope_version", env!("CARGO_PKG_VERSION")),
];

impl Exposition<'_> {
    /// The whole text: series of shards in alphabetical order, then what belongs to the process.
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(256 * self.schema.series().len());
        let totals = self.schema.fold(self.shards);
        let mut series: Vec<&Series> = self.schema.series().iter().collect();
        series.retain(|series| series.metric.level <= self.level);
        series.sort_by_key(|series| series.metric.name);
        for family in series.chunk_by(|left, right| std::ptr::eq(left.metric, right.metric)) {
            for name in self.names_of(family[0].metric) {
                write_head(&mut text, &name, family[0].metric);
                for series in family {
                    self.write_series(&mut text, &name, series, &totals);
                }
            }
        }
        let shown = self.process.iter().filter(|(metric, _)| metric.level <= self.level);
        for (metric, value) in shown {
            for name in self.names_of(metric) {
                write_head(&mut text, &name, metric);
                write_sample(&mut text, &name, "", self.scope_labels(), Value::Float(*value));
            }
        }
        self.write_target_info(&mut text);
        write_handler_errors(&mut text);
        text
    }

    fn names_of(&self, metric: &Metric) -> Vec<Cow<'static, str>> {
        let mut names: Vec<Cow<'static, str>> =
            Spelling::all(self.names).map(|spelling| spelling.name(metric)).collect();
        names.dedup();
        names
    }

    fn scope_labels(&self) -> &'static [Label<'static>] {
        if self.names.scope_info { &SCOPE_LABELS } else { &[] }
    }

    fn write_series(&self, text: &mut String, name: &str, series: &Series, totals: &[u64]) {
        let own = series.labels.iter().map(|(name, value)| (*name, value.as_str()));
        let labels: Vec<Label> = own.chain(self.scope_labels().iter().copied()).collect();
        if self.level < MetricsLevel::Detailed {
            return write_values(text, name, series, &labels, totals);
        }
        for (position, snapshot) in self.shards.iter().enumerate() {
            let shard = position.to_string();
            let labels = [&labels[..], &[("shard", &shard)]].concat();
            write_values(text, name, series, &labels, snapshot);
        }
    }

    fn write_target_info(&self, text: &mut String) {
        text.push_str("# HELP target_info Who is speaking.\n# TYPE target_info gauge\n");
        let labels = self.resource.iter();
        let labels: Vec<Label> = labels.map(|(name, value)| (name.as_str(), value.as_str())).collect();
        write_sample(text, "target_info", "", &labels, Value::Whole(1));
    }
}

/// What the Collector's handler of this page counts: a page that could not be made. Ours is made from values that are
/// there, so these stay 0; they are here because alerts select them.
fn write_handler_errors(text: &mut String) {
    const NAME: &str = "promhttp_metric_handler_errors_total";
    push(text, format_args!("# HELP {NAME} Pages that could not be made; stays 0.\n# TYPE {NAME} counter\n"));
    for cause in ["encoding", "gathering"] {
        write_sample(text, NAME, "", &[("cause", cause)], Value::Whole(0));
    }
}

type Label<'a> = (&'a str, &'a str);

/// A sample's value; whole numbers are written without losing digits.
enum Value {
    Whole(u64),
    Float(f64),
}

fn write_head(text: &mut String, name: &str, metric: &Metric) {
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge | Kind::Highest => "gauge",
        Kind::Histogram(_) => "histogram",
    };
    let help = metric.help.replace('\\', "\\\\").replace('\n', "\\n");
    push(text, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
}

fn write_values(text: &mut String, name: &str, series: &Series, labels: &[Label], snapshot: &[u64]) {
    let values = series.values(snapshot);
    match series.metric.kind {
        Kind::Counter | Kind::Gauge | Kind::Highest => {
            write_sample(text, name, "", labels, Value::Whole(values[0]));
        }
        Kind::Histogram(bounds) => write_histogram(text, name, bounds, labels, values),
    }
}

fn write_histogram(text: &mut String, name: &str, bounds: &Bounds, labels: &[Label], values: &[u64]) {
    let shown = |value: u64| value as f64 / bounds.per_unit as f64;
    let (buckets, sum) = values.split_at(bounds.upper.len() + 1);
    let mut count = 0;
    for (position, bucket) in buckets.iter().enumerate() {
        count += bucket;
        let upper = match bounds.upper.get(position) {
            Some(upper) => shown(*upper).to_string(),
            None => "+Inf".to_owned(),
        };
        let labels = [labels, &[("le", &upper)]].concat();
        write_sample(text, name, "_bucket", &labels, Value::Whole(count));
    }
    write_sample(text, name, "_sum", labels, Value::Float(shown(sum[0])));
    write_sample(text, name, "_count", labels, Value::Whole(count));
}

fn write_sample(text: &mut String, name: &str, suffix: &str, labels: &[Label], value: Value) {
    text.push_str(name);
    text.push_str(suffix);
    for (position, (label, value)) in labels.iter().enumerate() {
        text.push(if position == 0 { '{' } else { ',' });
        text.push_str(label);
        text.push_str("=\"");
        write_escaped(text, value);
        text.push('"');
    }
    if !labels.is_empty() {
        text.push('}');
    }
    match value {
        Value::Whole(value) => push(text, format_args!(" {value}\n")),
        Value::Float(value) => push(text, format_args!(" {value}\n")),
    }
}

/// Text format 0.0.4: in label values a backslash, a quote and a line feed are escaped, everything else is literal.
pub(crate) fn write_escaped(text: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

fn push(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::cells::Cells;
    use crate::telemetry::metrics::{
        self, BatchSeries, ExporterSeries, ReceiverSeries, ShardSeries, TailSamplingSeries,
    };
    use codecs::otlp::Signal;

    /// Two shards of a small gateway after a little traffic.
    fn shown(level: MetricsLevel) -> String {
        named(level, MetricNames::PLAIN)
    }

    fn named(level: MetricsLevel, names: MetricNames) -> String {
        let mut schema = Schema::default();
        let receiver = ReceiverSeries::declare(&mut schema, "otlp", "grpc", &[Signal::Traces]);
        let tail = TailSamplingSeries::declare(&mut schema, "tail_sampling/eu", &["errors".to_owned()]);
        let batch = BatchSeries::declare(&mut schema, "batch");
        let exporter = ExporterSeries::declare(&mut schema, "otlp/\"odd\\name\"", Signal::Traces);
        let shard = ShardSeries::declare(&mut schema);
        let run = |spans: u64| {
            let cells = Cells::new(&schema);
            cells.add(receiver.of(Signal::Traces).accepted, spans);
            cells.add(tail.policies[0].sampled, 1);
            cells.observe(tail.decision_timer_latency_ns, spans * 1_000_000);
            cells.observe(batch.send_size, spans);
            cells.set(shard.busy_percent, spans);
            cells.set(exporter.queue_size, spans / 10);
            cells.set(exporter.queue_capacity, 500);
            cells.set(exporter.queue_fullest_percent, spans / 50);
            cells.snapshot()
        };
        Exposition {
            schema: &schema,
            shards: &[run(30), run(70)],
            process: &[(&metrics::PROCESS_UPTIME, 12.5)],
            resource: &[("service_name".to_owned(), "tracegate".to_owned())],
            level,
            names,
        }
        .text()
    }

    #[test]
    fn the_text_of_a_small_gateway_is_as_written_in_the_golden_file() {
        let golden = include_str!("golden/exposition.txt");
        let text = shown(MetricsLevel::Normal);
        if std::env::var_os("UPDATE_CASES").is_some() {
            std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/telemetry/golden/exposition.txt"), &text).unwrap();
            return;
        }
        for (written, expected) in text.lines().zip(golden.lines()) {
            assert_eq!(written, expected);
        }
        assert_eq!(text.len(), golden.len());
    }

    #[test]
    fn shards_appear_only_at_level_detailed_and_then_instead_of_the_total() {
        assert!(!shown(MetricsLevel::Normal).contains("shard=\""));
        let detailed = shown(MetricsLevel::Detailed);
        let accepted: Vec<&str> = detailed.lines().filter(|line| line.starts_with("otelcol_receiver_acc")).collect();
        assert_eq!(
            accepted,
            [
                r#"otelcol_receiver_accepted_spans{receiver="otlp",transport="grpc",shard="0"} 30"#,
                r#"otelcol_receiver_accepted_spans{receiver="otlp",transport="grpc",shard="1"} 70"#,
            ]
        );
    }

    #[test]
    fn level_basic_leaves_out_what_belongs_to_normal() {
        let basic = shown(MetricsLevel::Basic);
        assert!(basic.contains("otelcol_receiver_accepted_spans"));
        assert!(!basic.contains("tail_sampling"));
        assert!(shown(MetricsLevel::Normal).contains("tail_sampling"));
    }

    #[test]
    fn both_spellings_have_the_same_samples_and_equal_names_are_written_once() {
        let text = named(MetricsLevel::Normal, MetricNames::BOTH);
        let value = |name: &str| {
            let mut lines = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
            let line = lines.next().unwrap_or_else(|| panic!("no {name}"));
            line.rsplit_once(' ').unwrap().1.to_owned()
        };
        let accepted = "otelcol_receiver_accepted_spans";
        assert_eq!(value(accepted), "100");
        assert_eq!(value(&format!("{accepted}_total")), "100");
        assert_eq!(value("otelcol_process_uptime"), value("otelcol_process_uptime_seconds_total"));
        assert_eq!(text.matches("# TYPE otelcol_exporter_queue_size gauge").count(), 1);
        let latency = "otelcol_processor_tail_sampling_sampling_decision_timer_latency";
        assert_eq!(value(&format!("{latency}_sum")), value(&format!("{latency}_milliseconds_sum")));
    }

    #[test]
    fn a_reader_may_ask_for_scope_labels() {
        let names = MetricNames { scope_info: true, ..MetricNames::SUFFIXED };
        let text = named(MetricsLevel::Normal, names);
        // These two are not of a scope: one says who speaks, one is the page's own.
        let without = ["#", "target_info", "promhttp_"];
        for line in text.lines().filter(|line| !without.iter().any(|start| line.starts_with(start))) {
            assert!(line.contains("otel_scope_name=\"tracegate\""), "{line}");
        }
    }

    #[test]
    fn queue_size_and_capacity_have_identical_labels() {
        let text = shown(MetricsLevel::Normal);
        let labels = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line[name.len()..].rsplit_once(' ').unwrap().0.to_owned()
        };
        assert_eq!(labels("otelcol_exporter_queue_size"), labels("otelcol_exporter_queue_capacity"));
    }
}
