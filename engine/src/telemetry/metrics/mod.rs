//! Every metric, declared once, and the groups of series that one component counts into.
//!
//! ```text
//! a row of a table here --> /metrics: HELP, TYPE, from which level on it is shown
//!                      `--> docs/metrics.md: its reference, which a test writes and compares
//! ```
//!
//! Names: `otelcol_*` are the Collector's own (or sit in one of its families), so its dashboards and alerts work;
//! `tracegate_*` are ours; `process_*` are Prometheus' conventional ones. A component declares its group of series once
//! from its id, before any shard starts, and shards count into their own cells with it. There is one file per component.
//! No series ever carries `job`, `instance` or `pod`: those belong to the scraper.

use super::cells::Metric;

/// The metrics of one component: a section of the reference.
#[derive(Debug)]
pub struct Group {
    /// Heading of the section.
    pub title: &'static str,
    /// Which component counts these.
    pub of: &'static str,
    /// What is to be said of all of them, or nothing.
    pub about: &'static str,
    /// In the order of the section.
    pub metrics: &'static [&'static Metric],
}

/// Declares the metrics of one component as statics, and the group that lists them, so that none can be forgotten in the
/// reference. A row is: kind, level, name, unit, labels, what `/metrics` says of it, and what only the reference adds. A
/// row for each signal has no unit, and its help begins with the items of each.
macro_rules! metrics {
    (
        $group:ident: $title:literal, $of:literal, $about:literal;
        $(for each signal { $(
            $by_signal:ident: $item_kind:expr, $item_level:expr, $prefix:literal,
            [$($item_label:literal),*], $item_help:literal $(, $item_more:literal)?;
        )+ })?
        $(for the gateway { $(
            $static:ident: $kind:expr, $level:expr, $name:literal,
            $unit:literal, [$($label:literal),*], $help:literal $(, $more:literal)?;
        )+ })?
    ) => {
        $($(
            #[doc = concat!("For each signal: items ", $item_help)]
            pub static $by_signal: [$crate::telemetry::cells::Metric; codecs::otlp::Signal::ALL.len()] = [
                $crate::telemetry::cells::Metric {
                    name: concat!($prefix, "_spans"),
                    help: concat!("Spans ", $item_help),
                    more: concat!($($item_more)?),
                    unit: "spans",
                    labels: &[$($item_label),*],
                    kind: $item_kind,
                    level: $item_level,
                },
                $crate::telemetry::cells::Metric {
                    name: concat!($prefix, "_metric_points"),
                    help: concat!("Data points ", $item_help),
                    more: "",
                    unit: "data points",
                    labels: &[$($item_label),*],
                    kind: $item_kind,
                    level: $item_level,
                },
                $crate::telemetry::cells::Metric {
                    name: concat!($prefix, "_log_records"),
                    help: concat!("Log records ", $item_help),
                    more: "",
                    unit: "log records",
                    labels: &[$($item_label),*],
                    kind: $item_kind,
                    level: $item_level,
                },
            ];
        )+)?
        $($(
            #[doc = $help]
            pub static $static: $crate::telemetry::cells::Metric = $crate::telemetry::cells::Metric {
                name: $name,
                help: $help,
                more: concat!($($more)?),
                unit: $unit,
                labels: &[$($label),*],
                kind: $kind,
                level: $level,
            };
        )+)?
        #[doc = concat!("The metrics of ", $of, ".")]
        pub static $group: $crate::telemetry::metrics::Group = $crate::telemetry::metrics::Group {
            title: $title,
            of: $of,
            about: $about,
            metrics: &[
                $($(&$by_signal[0], &$by_signal[1], &$by_signal[2],)+)?
                $($(&$static,)+)?
            ],
        };
    };
}

mod batch;
mod bounds;
mod budget;
mod durable_queue;
mod exporter;
mod filter;
mod head_sampling;
mod memory_exporter;
mod memory_limiter;
mod mesh;
mod pending_log;
mod pipeline;
mod process;
mod processor;
mod receiver;
#[cfg(test)]
mod reference;
mod reloads;
mod remote_write;
mod shard;
mod span_metrics;
mod tail_sampling;
#[cfg(test)]
mod tests;
mod transform;

pub use batch::*;
pub use budget::*;
pub use durable_queue::*;
pub use exporter::*;
pub use filter::*;
pub use head_sampling::*;
pub use memory_exporter::*;
pub use memory_limiter::*;
pub use mesh::*;
pub use pending_log::*;
pub use pipeline::*;
pub use process::*;
pub use processor::*;
pub use receiver::*;
pub use reloads::*;
pub use remote_write::*;
pub use shard::*;
pub use span_metrics::*;
pub use tail_sampling::*;
pub use transform::*;

/// Every group, in the order of the reference: as data flows, then what all share.
pub static GROUPS: [&Group; 20] = [
    &RECEIVERS,
    &PROCESSORS,
    &MEMORY_LIMITERS,
    &TRANSFORMS,
    &FILTERS,
    &BATCHES,
    &HEAD_SAMPLING,
    &TAIL_SAMPLING,
    &PENDING_LOGS,
    &EXPORTERS,
    &DURABLE_QUEUES,
    &PIPELINES,
    &BUDGET,
    &SHARDS,
    &MESH,
    &SPAN_METRICS,
    &REMOTE_WRITE,
    &KEPT,
    &PROCESS,
    &RELOADS,
];

/// Every metric there is.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    GROUPS.iter().flat_map(|group| group.metrics.iter().copied())
}
