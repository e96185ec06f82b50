//! What a metric is called on `/metrics`: its plain name, or the name with its unit and `_total`.
//!
//! ```text
//! plain      otelcol_process_uptime                   as declared, the Collector's default
//! suffixed   otelcol_process_uptime_seconds_total     what the Collector writes where `readers` are written
//! ```
//!
//! A suffix that a name has already is not added again. Pure: a metric in, a name out.

use std::borrow::Cow;

use super::cells::{Kind, Metric};
use crate::config::checked::MetricNames;

/// Units that stand behind a name. Things that are counted (spans, traces, times) do not.
const UNITS: [&str; 3] = ["seconds", "milliseconds", "bytes"];

/// One way to name all metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spelling {
    type_suffix: bool,
    units: bool,
}

impl Spelling {
    const PLAIN: Spelling = Spelling { type_suffix: false, units: false };

    /// The one or two spellings that a page has.
    pub fn all(names: MetricNames) -> impl Iterator<Item = Spelling> {
        let plain = names.plain.then_some(Spelling::PLAIN);
        let suffixed = Spelling { type_suffix: names.type_suffix, units: names.units };
        let suffixed = (suffixed != Spelling::PLAIN || !names.plain).then_some(suffixed);
        plain.into_iter().chain(suffixed)
    }

    /// The metric's name.
    pub fn name(self, metric: &Metric) -> Cow<'static, str> {
        let plain = metric.name.strip_suffix("_total").unwrap_or(metric.name);
        let is_missing = UNITS.contains(&metric.unit) && !plain.ends_with(metric.unit);
        let with_unit = match metric.unit {
            unit if is_missing && self.units => Cow::from(format!("{}_{unit}", metric.name)),
            _ => Cow::from(metric.name),
        };
        match metric.kind {
            Kind::Counter if self.type_suffix && !with_unit.ends_with("_total") => {
                Cow::from(format!("{with_unit}_total"))
            }
            _ => with_unit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics;

    fn names(metric: &Metric, names: MetricNames) -> Vec<String> {
        Spelling::all(names).map(|spelling| spelling.name(metric).into_owned()).collect()
    }

    #[test]
    fn suffixes_are_those_that_the_collector_writes_for_a_reader() {
        for (metric, expected) in [
            (&metrics::EXPORTER_SENT[0], "otelcol_exporter_sent_spans_total"),
            (&metrics::EXPORTER_SENT[1], "otelcol_exporter_sent_metric_points_total"),
            (&metrics::EXPORTER_SENT[2], "otelcol_exporter_sent_log_records_total"),
            (&metrics::PROCESS_UPTIME, "otelcol_process_uptime_seconds_total"),
            (&metrics::PROCESS_CPU_SECONDS, "otelcol_process_cpu_seconds_total"),
            (&metrics::PROCESS_MEMORY_RSS, "otelcol_process_memory_rss_bytes"),
            (&metrics::PROCESS_RUNTIME_HEAP_ALLOC, "otelcol_process_runtime_heap_alloc_bytes"),
            (&metrics::EXPORTER_QUEUE_SIZE, "otelcol_exporter_queue_size"),
            (
                &metrics::TAIL_DECISION_TIMER_LATENCY,
                "otelcol_processor_tail_sampling_sampling_decision_timer_latency_milliseconds",
            ),
            (&metrics::PROMETHEUS_CPU_SECONDS, "process_cpu_seconds_total"),
        ] {
            assert_eq!(names(metric, MetricNames::SUFFIXED), [expected]);
            assert_eq!(names(metric, MetricNames::PLAIN), [metric.name]);
            assert_eq!(names(metric, MetricNames::BOTH), [metric.name, expected]);
        }
    }

    #[test]
    fn unit_and_type_are_left_out_one_by_one() {
        let uptime = |type_suffix, units| {
            names(&metrics::PROCESS_UPTIME, MetricNames { plain: false, type_suffix, units, scope_info: true })
        };
        assert_eq!(uptime(true, false), ["otelcol_process_uptime_total"]);
        assert_eq!(uptime(false, true), ["otelcol_process_uptime_seconds"]);
        assert_eq!(uptime(false, false), ["otelcol_process_uptime"]);
    }

    #[test]
    fn no_metric_of_ours_needs_a_unit_that_its_name_has() {
        let suffixed = Spelling { type_suffix: false, units: true };
        for metric in metrics::all().filter(|metric| suffixed.name(metric) != metric.name) {
            assert!(metric.name.starts_with("otelcol_"), "{}", metric.name);
        }
    }
}
