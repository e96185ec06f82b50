//! What the table must keep: plain and unique names, labels as declared, and the same scrape as before.

use super::*;
use crate::config::checked::MetricNames;
use crate::config::checked::MetricsLevel::Detailed;
use crate::telemetry::cells::{Cells, Kind, Schema};
use crate::telemetry::exposition::Exposition;
use crate::telemetry::naming::Spelling;
use codecs::otlp::Signal;
use std::collections::BTreeSet;

/// Words in backticks that look like metric names.
fn names_in(page: &str) -> BTreeSet<&str> {
    let words = page.split('`').skip(1).step_by(2).flat_map(|code| code.split(|character: char| !is_name(character)));
    words.filter(|word| PREFIXES.iter().any(|prefix| word.starts_with(prefix))).collect()
}

const PREFIXES: [&str; 4] = ["otelcol_", "tracegate_", "process_c", "process_r"];

fn is_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

#[test]
fn the_oldest_request_on_disk_is_as_old_as_on_the_shard_with_the_oldest() {
    let mut schema = Schema::default();
    let series = QueueDiskSeries::declare(&mut schema, "otlp", Signal::Traces);
    let shard = |age: u64| {
        let cells = crate::telemetry::cells::Cells::new(&schema);
        cells.set(series.oldest_age_seconds, age);
        cells.set(series.requests, 1);
        cells.snapshot()
    };
    let total = schema.fold(&[shard(40), shard(300), shard(0)]);
    assert!(total.contains(&300) && total.contains(&3), "{total:?}");
}

#[test]
fn every_metric_has_a_row_in_its_documentation_with_its_kind_and_level() {
    let page = include_str!("../../../../docs/metrics.md");
    for metric in all() {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge | Kind::Highest => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        let level = format!("{:?}", metric.level).to_lowercase();
        let row = format!("| `{}` | {kind} | {level} | ", metric.name);
        assert!(page.contains(&row), "docs/metrics.md has no row {row:?}");
    }
}

#[test]
fn documentation_names_no_metric_that_does_not_exist() {
    let mut known: BTreeSet<&str> = all().map(|metric| metric.name).collect();
    let suffixed = Spelling::all(MetricNames::SUFFIXED).flat_map(|spelling| all().map(move |it| spelling.name(it)));
    let suffixed: Vec<_> = suffixed.collect();
    known.extend(suffixed.iter().map(|name| &**name));
    // Pages also say which of the Collector's metrics are left out.
    let left_out = ["otelcol_", "otelcol_processor_batch_metadata_cardinality"];
    for page in [include_str!("../../../../docs/metrics.md"), include_str!("../../../../docs/ledger.md")] {
        for name in names_in(page) {
            let family = name == "tracegate_" || left_out.contains(&name);
            assert!(known.contains(name) || family, "{name} is documented and does not exist");
        }
    }
}

#[test]
fn a_scrape_with_every_series_is_as_written_in_the_golden_file() {
    let schema = all_groups();
    let cells = Cells::new(&schema);
    let declared = |metric: &Metric| schema.series().iter().any(|series| std::ptr::eq(series.metric, metric));
    let mut process: Vec<(&'static Metric, f64)> =
        all().filter(|metric| !declared(metric)).map(|metric| (metric, 0.0)).collect();
    process.sort_by_key(|(metric, _)| metric.name);
    let exposition = Exposition {
        schema: &schema,
        shards: &[cells.snapshot()],
        process: &process,
        resource: &[],
        level: Detailed,
        names: MetricNames::BOTH,
    };
    let mut text = exposition.text();
    let mut metrics: Vec<&Metric> = all().collect();
    metrics.sort_by_key(|metric| metric.name);
    for metric in metrics {
        text += &format!("# LEVEL {} {:?}\n", metric.name, metric.level).to_lowercase();
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/telemetry/golden/every_series.txt");
    if std::env::var_os("UPDATE_CASES").is_some() {
        std::fs::write(path, &text).unwrap();
        return;
    }
    let golden = std::fs::read_to_string(path).unwrap();
    for (written, expected) in text.lines().zip(golden.lines()) {
        assert_eq!(written, expected, "UPDATE_CASES=1 writes the file; then read the difference");
    }
    assert_eq!(text.len(), golden.len());
}

#[test]
fn names_are_unique_and_plain() {
    let names: BTreeSet<&str> = all().map(|metric| metric.name).collect();
    assert_eq!(names.len(), all().count());
    for metric in all() {
        assert!(metric.name.chars().all(is_name), "{}", metric.name);
        let prometheus_own = metric.name == "process_cpu_seconds_total";
        assert!(prometheus_own || !metric.name.ends_with("_total"), "{}", metric.name);
        assert!(metric.help.ends_with('.'), "{}", metric.name);
    }
}

/// Every group of series, as a configuration with one of each component declares them.
fn all_groups() -> Schema {
    let mut schema = Schema::default();
    ReceiverSeries::declare(&mut schema, "otlp", "grpc", &Signal::ALL);
    for signal in Signal::ALL {
        let processor = ProcessorSeries::declare(&mut schema, "batch", signal);
        let _ = processor.measured(&mut schema, "batch", signal, Detailed);
        MemoryLimiterSeries::declare(&mut schema, "memory_limiter", signal);
        ExporterSeries::declare(&mut schema, "otlp/jaeger", signal);
        BookSeries::declare(&mut schema, signal.name(), "otlp/jaeger", signal);
        QueueDiskSeries::declare(&mut schema, "otlp/jaeger", signal);
        FilterSeries::declare(&mut schema, "filter", signal);
        TransformSeries::declare(&mut schema, "transform", signal, ["traces[0]"].into_iter());
        ProbabilisticSamplerSeries::declare(&mut schema, signal, Some("request.id"));
    }
    BatchSeries::declare(&mut schema, "batch");
    TailSamplingSeries::declare(&mut schema, "tail_sampling/eu", &["errors".to_owned()]);
    PendingLogSeries::declare(&mut schema, "tail_sampling/eu");
    BudgetSeries::declare(&mut schema);
    MeshSeries::declare(&mut schema);
    ShardSeries::declare(&mut schema);
    ReceiverSeries::declare(&mut schema, "otlp_json_file", "file", &[Signal::Logs]);
    HandshakeSeries::declare(&mut schema, "otlp", "grpc", true);
    HandshakeSeries::declare(&mut schema, "otlp", "http", false);
    MemoryExporterSeries::declare(&mut schema, "memory");
    SpanMetricsSeries::declare(&mut schema, "span_metrics");
    RemoteWriteSeries::declare(&mut schema, "prometheusremotewrite");
    schema
}

/// Metric and labels of every group, as the Collector's table has them.
#[test]
fn series_carry_the_collectors_names_and_labels_and_none_of_the_scrapers() {
    let schema = all_groups();
    let shown = |series: &crate::telemetry::cells::Series| {
        let labels: Vec<String> = series.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{}{{{}}}", series.metric.name, labels.join(","))
    };
    let shown_series: BTreeSet<String> = schema.series().iter().map(shown).collect();
    for expected in [
        "otelcol_receiver_accepted_spans{receiver=otlp,transport=grpc}",
        "otelcol_receiver_refused_spans{receiver=otlp,transport=grpc}",
        "otelcol_processor_incoming_items{processor=batch,otel_signal=traces}",
        "otelcol_processor_dropped_spans{processor=batch}",
        "otelcol_processor_memory_limiter_refused_spans{processor=memory_limiter}",
        "otelcol_processor_batch_timeout_trigger_send{processor=batch}",
        "otelcol_processor_tail_sampling_count_traces_sampled{policy=eu.errors,sampled=true,decision=sampled}",
        "otelcol_processor_tail_sampling_global_count_traces_sampled{sampled=false,decision=not_sampled}",
        "tracegate_processor_failed_spans{processor=transform,reason=ottl}",
        "tracegate_transform_unmasked_deleted{processor=transform,statement=traces[0]}",
        "otelcol_exporter_sent_spans{exporter=otlp/jaeger}",
        "otelcol_exporter_send_failed_spans{exporter=otlp/jaeger}",
        "otelcol_exporter_enqueue_failed_spans{exporter=otlp/jaeger}",
        "otelcol_exporter_in_flight_requests{exporter=otlp/jaeger,data_type=traces}",
        "otelcol_exporter_queue_size{exporter=otlp/jaeger,data_type=traces}",
        "otelcol_exporter_queue_capacity{exporter=otlp/jaeger,data_type=traces}",
        "otelcol_receiver_accepted_metric_points{receiver=otlp,transport=grpc}",
        "otelcol_receiver_refused_log_records{receiver=otlp,transport=grpc}",
        "otelcol_processor_incoming_items{processor=batch,otel_signal=logs}",
        "otelcol_processor_memory_limiter_accepted_metric_points{processor=memory_limiter}",
        "otelcol_exporter_sent_metric_points{exporter=otlp/jaeger}",
        "otelcol_exporter_send_failed_log_records{exporter=otlp/jaeger}",
        "otelcol_exporter_queue_size{exporter=otlp/jaeger,data_type=metrics}",
    ] {
        assert!(shown_series.contains(expected), "{expected} is missing");
    }
    for series in schema.series() {
        for label in ["job", "instance", "pod", "shard"] {
            assert_eq!(series.label(label), None, "{}", series.metric.name);
        }
    }
    for series in schema.series() {
        let labels = series.labels.iter().map(|(name, _)| *name);
        assert!(
            labels.eq(series.metric.labels.iter().copied()),
            "{} has other labels than its row",
            series.metric.name
        );
    }
    let declared: BTreeSet<&str> = schema.series().iter().map(|series| series.metric.name).collect();
    let of_process = ["otelcol_process_", "process_", "tracegate_log_", "tracegate_tls_", "tracegate_config_"];
    let process = |name: &str| of_process.iter().any(|prefix| name.starts_with(prefix));
    for metric in all().filter(|metric| !process(metric.name)) {
        assert!(declared.contains(metric.name), "no group declares {}", metric.name);
    }
}
