//! What the admin page and `tracegate top` show of a gateway: one snapshot, arranged by view.
//!
//! ```text
//! every shard's cells --one snapshot--> Overview --JSON--> page in a browser, `tracegate top`
//!                                          |                    |
//!                                    totals and levels      rates: two overviews and the time between them
//! ```
//!
//! The one idea: the gateway tells totals, and whoever looks makes rates of them, so that any number of people may look
//! without the gateway remembering one of them. Families of metrics are found by their names, because a metric exists
//! once for each signal. Pure: values in, values out; it counts nothing and asks nobody.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{PipelineNames, Readiness};
use crate::telemetry::cells::{Bounds, Kind, Schema, Series};
use crate::telemetry::ledger::Books;
use crate::telemetry::process::ProcessValues;

/// One look at a gateway. Counts are totals since its start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Overview {
    /// Who speaks, and since when.
    pub gateway: Identity,
    /// In the order of the configuration.
    pub pipelines: Vec<PipelineView>,
    /// Both books, as `/ledger` shows them.
    pub ledger: Value,
    /// In the order of their numbers.
    pub shards: Vec<ShardView>,
    /// Every histogram that the gateway keeps.
    pub latency: Vec<HistogramView>,
    /// The memory budget.
    pub budget: BudgetView,
    /// One per exporter and signal.
    pub queues: Vec<QueueView>,
    /// Tail sampling.
    pub policies: PoliciesView,
    /// What was not taken, not delivered or went wrong, by reason; also reasons that never occurred.
    pub refusals: Vec<Count>,
    /// The memory exporters' stores.
    pub kept: KeptView,
    /// The configuration in force, and what became of the last one that was read.
    #[serde(default)]
    pub configuration: ConfigurationView,
}

/// The configuration in force, and what became of the last one that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigurationView {
    /// 1 at the start, one more with each that is applied.
    pub generation: u64,
    /// When it was applied, in milliseconds since 1970.
    pub applied_unix_ms: u64,
    /// `applied`: it is the one that was read last. `waiting`: that one will be applied as soon as there is room.
    /// `failed`: it has errors. `refused`: only a restart applies it.
    pub state: String,
    /// Why it is not the one that was read last; empty if it is.
    pub message: String,
    /// Configurations applied while the gateway ran.
    pub reloads: u64,
    /// Configurations that had errors.
    pub failed_reloads: u64,
    /// Configurations that only a restart applies.
    pub refused_reloads: u64,
}

/// The process that was asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// Version of the program.
    pub version: String,
    /// `starting`, `ready` or `draining`.
    pub state: String,
    /// Milliseconds since it started, on a clock that is never set: rates are made with it.
    pub uptime_ms: u64,
    /// Seconds of CPU, user and system; 0 where the kernel does not tell.
    pub cpu_seconds: f64,
    /// Bytes resident in memory; 0 where the kernel does not tell.
    pub resident_bytes: u64,
}

/// A pipeline with what passes its components. A receiver or processor that several pipelines share shows the same
/// counts in each.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PipelineView {
    /// Its id.
    pub id: String,
    /// `traces`, `metrics` or `logs`.
    pub signal: String,
    /// Receivers, and connectors that lead here.
    pub receivers: Vec<ReceiverView>,
    /// In the order items pass them.
    pub processors: Vec<ProcessorView>,
    /// Exporters, and connectors that lead on.
    pub exporters: Vec<ExporterView>,
}

/// Items (spans, data points or log records) at a receiver.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReceiverView {
    /// Its id.
    pub id: String,
    /// Whether it is a connector, which counts nothing here.
    pub connector: bool,
    /// Taken.
    pub accepted: u64,
    /// Not now.
    pub refused: u64,
    /// Never.
    pub rejected: u64,
}

/// Items at a processor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessorView {
    /// Its id.
    pub id: String,
    /// Came in.
    pub incoming: u64,
    /// Went out.
    pub outgoing: u64,
}

/// Items on the way to one exporter, in the words of the ledger.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExporterView {
    /// Its id.
    pub id: String,
    /// Whether it is a connector.
    pub connector: bool,
    /// Taken by the backend or the next pipeline.
    pub delivered: u64,
    /// Dropped by policy.
    pub dropped: u64,
    /// Given up by overload.
    pub shed: u64,
    /// Could not be delivered.
    pub failed: u64,
    /// Held somewhere.
    pub in_flight: u64,
}

/// One shard.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShardView {
    /// Busy share of its time, 0 to 100.
    pub busy_percent: u64,
    /// Open connections of senders.
    pub connections: u64,
    /// Items that its receivers took.
    pub accepted: u64,
    /// Pending traces.
    pub traces: u64,
    /// Bytes charged to the budget.
    pub held_bytes: u64,
}

/// A histogram since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HistogramView {
    /// Its metric.
    pub name: String,
    /// What is observed.
    pub help: String,
    /// Labels of the series.
    pub labels: BTreeMap<String, String>,
    /// `s`, `ms`, `bytes` or `items`.
    pub unit: String,
    /// Observations.
    pub count: u64,
    /// Sum of all observations, in the unit.
    pub sum: f64,
    /// Largest value of each bucket, in the unit; a last bucket without a bound follows.
    pub bounds: Vec<f64>,
    /// Observations of each bucket, one more than `bounds`.
    pub buckets: Vec<u64>,
}

impl HistogramView {
    /// The bound below which a share (0 to 1) of all observations lie; `None` without observations, or beyond the last
    /// bound.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let wanted = share * self.count as f64;
        let mut seen = 0;
        self.buckets.iter().zip(&self.bounds).find_map(|(bucket, bound)| {
            seen += bucket;
            (seen > 0 && seen as f64 >= wanted).then_some(*bound)
        })
    }
}

/// The budget of the process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BudgetView {
    /// The whole.
    pub limit_bytes: u64,
    /// What shards leased of it; never below what is held.
    pub leased_bytes: u64,
    /// Sum over the holders.
    pub held_bytes: u64,
    /// By holder, in the order data meets them.
    pub holders: Vec<HolderView>,
}

/// Bytes of one holder.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HolderView {
    /// Its name.
    pub holder: String,
    /// Charged bytes.
    pub bytes: u64,
}

/// The queue before an exporter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QueueView {
    /// The exporter's id.
    pub exporter: String,
    /// `traces`, `metrics` or `logs`.
    pub signal: String,
    /// What waits or is under way, in `unit`.
    pub size: u64,
    /// What may, in `unit`.
    pub capacity: u64,
    /// What the queue's sizer counts: `requests`, `items` or `bytes`.
    #[serde(default = "requests")]
    pub unit: String,
    /// Fill of the fullest shard's part, 0 to 100.
    pub fullest_percent: u64,
    /// Requests sent and not yet answered.
    pub under_way: u64,
    /// Age of the oldest request that waits, in memory or on disk, or is under way; 0 if there is none.
    #[serde(default)]
    pub oldest_age_seconds: u64,
    /// Items the backend took.
    pub sent: u64,
    /// Items given up.
    pub failed: u64,
}

/// What queues count if nobody says otherwise.
fn requests() -> String {
    "requests".to_owned()
}

/// What tail sampling decided.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PoliciesView {
    /// Traces that wait for their decision.
    pub pending: u64,
    /// Traces seen.
    pub seen: u64,
    /// Decisions: kept.
    pub kept: u64,
    /// Decisions: nobody asked for it, or a policy dropped it.
    pub not_kept: u64,
    /// Verdicts of each policy, in the order they are asked.
    pub policies: Vec<PolicyView>,
}

/// Verdicts of one policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PolicyView {
    /// Its name.
    pub policy: String,
    /// Whether nobody listens to it: what it wanted kept it would have kept.
    pub dry_run: bool,
    /// Traces it wanted kept.
    pub sampled: u64,
    /// Traces it did not ask for.
    pub not_sampled: u64,
    /// Traces it wanted dropped, whoever else asked for them.
    pub dropped: u64,
}

/// One counter with its reason.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Count {
    /// The metric.
    pub name: String,
    /// What it counts.
    pub help: String,
    /// Labels of the series.
    pub labels: BTreeMap<String, String>,
    /// Since the start.
    pub count: u64,
}

/// What memory exporters hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KeptView {
    /// Traces.
    pub traces: u64,
    /// Bytes.
    pub bytes: u64,
    /// Traces given up for younger ones.
    pub evicted: u64,
}

/// What an overview is read from.
pub(super) struct Sources<'a> {
    pub(super) schema: &'a Schema,
    pub(super) shards: &'a [Vec<u64>],
    pub(super) pipelines: &'a [PipelineNames],
    /// Labels of policies that nobody listens to.
    pub(super) dry_policies: &'a [String],
    /// What the queue of each exporter counts.
    pub(super) queue_units: &'a BTreeMap<String, &'static str>,
    pub(super) process: Option<ProcessValues>,
    pub(super) readiness: Readiness,
    pub(super) uptime_ms: u64,
    pub(super) configuration: ConfigurationView,
}

impl Sources<'_> {
    /// Reads all views from the one snapshot.
    pub(super) fn overview(&self) -> Overview {
        let folded = self.schema.fold(self.shards);
        let whole = Reading { schema: self.schema, values: &folded };
        Overview {
            gateway: self.identity(),
            pipelines: self.pipelines.iter().map(|pipeline| whole.pipeline(pipeline)).collect(),
            ledger: ledger(&Books::read(self.schema, &folded)),
            shards: self.shards.iter().map(|values| Reading { schema: self.schema, values }.shard()).collect(),
            latency: whole.histograms(),
            budget: whole.budget(),
            queues: whole.queues(self.queue_units),
            policies: whole.policies(self.dry_policies),
            refusals: whole.refusals(),
            kept: whole.kept(),
            configuration: self.configuration.clone(),
        }
    }

    fn identity(&self) -> Identity {
        let process = self.process.unwrap_or_default();
        let state = match self.readiness {
            Readiness::Starting => "starting",
            Readiness::Ready => "ready",
            Readiness::Draining => "draining",
        };
        Identity {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: state.to_owned(),
            uptime_ms: self.uptime_ms,
            cpu_seconds: process.cpu_seconds,
            resident_bytes: process.resident_bytes,
        }
    }
}

/// Both books as JSON, with what does not balance.
pub(super) fn ledger(books: &Books) -> Value {
    json!({
        "balanced": books.imbalance() == 0,
        "sentence": books.sentence_so_far(),
        "disagreements": books.disagreements(),
        "intake": books.intake,
        "accounts": books.accounts,
    })
}

/// What a name of a family ends with, for each signal.
const ITEMS: [(&str, &str); 3] = [("traces", "_spans"), ("metrics", "_metric_points"), ("logs", "_log_records")];

/// Metrics that a view adds up, by the part of the name before the signal's items.
mod family {
    pub(super) const ACCEPTED: &str = "otelcol_receiver_accepted";
    pub(super) const REFUSED: &str = "otelcol_receiver_refused";
    pub(super) const REJECTED: &str = "otelcol_receiver_rejected";
    pub(super) const DELIVERED: &str = "tracegate_pipeline_delivered";
    pub(super) const DROPPED: &str = "tracegate_pipeline_dropped";
    pub(super) const SHED: &str = "tracegate_pipeline_shed";
    pub(super) const FAILED: &str = "tracegate_pipeline_failed";
    pub(super) const IN_FLIGHT: &str = "tracegate_pipeline_in_flight";
    pub(super) const SENT: &str = "otelcol_exporter_sent";
    pub(super) const SEND_FAILED: &str = "otelcol_exporter_send_failed";
    #[cfg(test)]
    pub(super) const ALL: [&str; 10] =
        [ACCEPTED, REFUSED, REJECTED, DELIVERED, DROPPED, SHED, FAILED, IN_FLIGHT, SENT, SEND_FAILED];
}

/// Parts of names that say that something was not taken, not delivered or went wrong.
const ADVERSITIES: [&str; 14] = [
    "_refused",
    "_rejected",
    "_failed",
    "_failures",
    "_error",
    "_shed",
    "_lost",
    "_left_out",
    "_evicted",
    "_panics",
    "_too_early",
    "_too_large",
    "_overflowed",
    "processor_dropped",
];

/// Values in the order of a schema: one shard's, or the fold of all.
struct Reading<'a> {
    schema: &'a Schema,
    values: &'a [u64],
}

type Labels<'l> = &'l [(&'l str, &'l str)];

impl<'a> Reading<'a> {
    fn value(&self, series: &Series) -> u64 {
        self.values[series.cell]
    }

    /// Series of which a metric's name and these labels are true.
    fn found(&self, is: impl Fn(&str) -> bool, labels: Labels<'_>) -> impl Iterator<Item = &'a Series> {
        let has = |series: &&Series| labels.iter().all(|(name, value)| series.label(name) == Some(value));
        let series = self.schema.series().iter();
        series.filter(|series| is(series.metric.name)).filter(has).collect::<Vec<_>>().into_iter()
    }

    fn sum(&self, name: &str, labels: Labels<'_>) -> u64 {
        self.found(|known| known == name, labels).map(|series| self.value(series)).sum()
    }

    /// Sum of one signal's metric of a family.
    fn items(&self, family: &str, signal: &str, labels: Labels<'_>) -> u64 {
        let suffix = ITEMS.iter().find(|(known, _)| *known == signal).map_or("", |(_, suffix)| *suffix);
        self.found(|name| name.strip_prefix(family) == Some(suffix), labels).map(|series| self.value(series)).sum()
    }

    fn pipeline(&self, names: &PipelineNames) -> PipelineView {
        let signal = names.id.split('/').next().unwrap_or_default();
        let receiver = |id: &String| {
            let of = |family: &str| self.items(family, signal, &[("receiver", id)]);
            ReceiverView {
                id: id.clone(),
                connector: self.found(|name| name.starts_with(family::ACCEPTED), &[("receiver", id)]).next().is_none(),
                accepted: of(family::ACCEPTED),
                refused: of(family::REFUSED),
                rejected: of(family::REJECTED),
            }
        };
        let processor = |id: &String| {
            let own = [("processor", id.as_str()), ("otel_signal", signal)];
            ProcessorView {
                id: id.clone(),
                incoming: self.sum("otelcol_processor_incoming_items", &own),
                outgoing: self.sum("otelcol_processor_outgoing_items", &own),
            }
        };
        let exporter = |id: &String| {
            let of = |family: &str| self.items(family, signal, &[("pipeline", &names.id), ("exporter", id)]);
            ExporterView {
                id: id.clone(),
                connector: self.found(|name| name.starts_with(family::SENT), &[("exporter", id)]).next().is_none(),
                delivered: of(family::DELIVERED),
                dropped: of(family::DROPPED),
                shed: of(family::SHED),
                failed: of(family::FAILED),
                in_flight: of(family::IN_FLIGHT),
            }
        };
        PipelineView {
            id: names.id.clone(),
            signal: signal.to_owned(),
            receivers: names.receivers.iter().map(receiver).collect(),
            processors: names.processors.iter().map(processor).collect(),
            exporters: names.exporters.iter().map(exporter).collect(),
        }
    }

    fn shard(&self) -> ShardView {
        ShardView {
            busy_percent: self.sum("tracegate_shard_busiest_percent", &[]),
            connections: self.sum("tracegate_shard_connections", &[]),
            accepted: ITEMS.iter().map(|(signal, _)| self.items(family::ACCEPTED, signal, &[])).sum(),
            traces: self.sum(PENDING, &[]),
            held_bytes: self.sum("tracegate_budget_bytes", &[]),
        }
    }

    fn histograms(&self) -> Vec<HistogramView> {
        let histogram = |series: &Series| match series.metric.kind {
            Kind::Histogram(bounds) => Some(histogram(series, bounds, series.values(self.values))),
            Kind::Counter | Kind::Gauge | Kind::Highest => None,
        };
        self.schema.series().iter().filter_map(histogram).collect()
    }

    fn budget(&self) -> BudgetView {
        let holders = self.found(|name| name == "tracegate_budget_bytes", &[]).map(|series| HolderView {
            holder: series.label("holder").unwrap_or_default().to_owned(),
            bytes: self.value(series),
        });
        BudgetView {
            limit_bytes: self.sum("tracegate_budget_limit_bytes", &[]),
            leased_bytes: self.sum("tracegate_budget_leased_bytes", &[]),
            held_bytes: self.sum("tracegate_budget_bytes", &[]),
            holders: holders.collect(),
        }
    }

    fn queues(&self, units: &BTreeMap<String, &'static str>) -> Vec<QueueView> {
        let queue = |series: &Series| {
            let [exporter, signal] = ["exporter", "data_type"].map(|name| series.label(name).unwrap_or_default());
            let own = [("exporter", exporter), ("data_type", signal)];
            QueueView {
                exporter: exporter.to_owned(),
                signal: signal.to_owned(),
                size: self.sum("otelcol_exporter_queue_size", &own),
                capacity: self.value(series),
                unit: units.get(exporter).map_or_else(requests, |unit| (*unit).to_owned()),
                fullest_percent: self.sum("tracegate_exporter_queue_fullest_shard_percent", &own),
                under_way: self.sum("otelcol_exporter_in_flight_requests", &own),
                oldest_age_seconds: self.sum("tracegate_exporter_queue_oldest_age_seconds", &own),
                sent: self.items(family::SENT, signal, &own[..1]),
                failed: self.items(family::SEND_FAILED, signal, &own[..1]),
            }
        };
        self.found(|name| name == "otelcol_exporter_queue_capacity", &[]).map(queue).collect()
    }

    fn policies(&self, dry: &[String]) -> PoliciesView {
        let mut policies: Vec<PolicyView> = Vec::new();
        for series in self.found(|name| name == VERDICTS, &[("decision", "sampled")]) {
            let policy = series.label("policy").unwrap_or_default();
            let said = |decision: &str| self.sum(VERDICTS, &[("policy", policy), ("decision", decision)]);
            policies.push(PolicyView {
                policy: policy.to_owned(),
                dry_run: dry.iter().any(|name| name == policy),
                sampled: said("sampled"),
                not_sampled: said("not_sampled"),
                dropped: said("dropped"),
            });
        }
        PoliciesView {
            pending: self.sum(PENDING, &[]),
            seen: self.sum("otelcol_processor_tail_sampling_new_trace_id_received", &[]),
            kept: self.sum(DECISIONS, &[("sampled", "true")]),
            not_kept: self.sum(DECISIONS, &[("sampled", "false")]),
            policies,
        }
    }

    fn refusals(&self) -> Vec<Count> {
        let adverse = |name: &str| ADVERSITIES.iter().any(|word| name.contains(word));
        let counters = self.found(adverse, &[]).filter(|series| series.metric.kind == Kind::Counter);
        let counts = counters.map(|series| Count {
            name: series.metric.name.to_owned(),
            help: series.metric.help.to_owned(),
            labels: labels(series),
            count: self.value(series),
        });
        counts.collect()
    }

    fn kept(&self) -> KeptView {
        KeptView {
            traces: self.sum("tracegate_kept_traces", &[]),
            bytes: self.sum("tracegate_kept_bytes", &[]),
            evicted: self.sum("tracegate_kept_traces_evicted", &[]),
        }
    }
}

const PENDING: &str = "otelcol_processor_tail_sampling_sampling_traces_on_memory";
const VERDICTS: &str = "otelcol_processor_tail_sampling_count_traces_sampled";
const DECISIONS: &str = "otelcol_processor_tail_sampling_global_count_traces_sampled";

fn labels(series: &Series) -> BTreeMap<String, String> {
    series.labels.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

fn histogram(series: &Series, bounds: &Bounds, values: &[u64]) -> HistogramView {
    let shown = |value: u64| value as f64 / bounds.per_unit as f64;
    let (buckets, sum) = values.split_at(bounds.upper.len() + 1);
    let name = series.metric.name;
    let unit = match bounds.per_unit {
        1_000_000_000 => "s",
        1_000_000 => "ms",
        _ if name.ends_with("bytes") => "bytes",
        _ => "items",
    };
    HistogramView {
        name: name.to_owned(),
        help: series.metric.help.to_owned(),
        labels: labels(series),
        unit: unit.to_owned(),
        count: buckets.iter().sum(),
        sum: shown(sum[0]),
        bounds: bounds.upper.iter().map(|upper| shown(*upper)).collect(),
        buckets: buckets.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics;

    #[test]
    fn every_name_that_a_view_reads_is_a_metric() {
        let known = |name: &str| metrics::all().any(|metric| metric.name == name);
        for family in family::ALL {
            assert!(known(&format!("{family}_spans")), "{family}");
        }
        // Every name in quotes of this file, so that none can be mistyped.
        let code = include_str!("overview.rs").split("#[cfg(test)]\nmod tests").next().unwrap();
        let names = code.split('"').skip(1).step_by(2);
        let families = family::ALL;
        let names = names.filter(|name| name.starts_with("otelcol_") || name.starts_with("tracegate_"));
        for name in names.filter(|name| !families.contains(name)) {
            assert!(known(name), "{name}");
        }
    }

    #[test]
    fn every_word_of_adversity_finds_a_counter_and_none_finds_what_a_policy_dropped() {
        let found = |name: &str| ADVERSITIES.iter().any(|word| name.contains(word));
        assert!(found("otelcol_exporter_send_failed_spans"));
        assert!(found("otelcol_receiver_refused_requests"));
        assert!(!found("tracegate_pipeline_dropped_spans"));
        assert!(!found("otelcol_processor_tail_sampling_count_traces_sampled"));
    }

    #[test]
    fn a_quantile_is_the_bound_of_the_bucket_it_falls_into() {
        let histogram = |buckets: &[u64]| HistogramView {
            count: buckets.iter().sum(),
            bounds: vec![1.0, 5.0, 10.0],
            buckets: buckets.to_vec(),
            ..HistogramView::default()
        };
        assert_eq!(histogram(&[0, 0, 0, 0]).quantile(0.5), None, "nothing was observed");
        assert_eq!(histogram(&[1, 0, 0, 0]).quantile(0.99), Some(1.0));
        assert_eq!(histogram(&[50, 49, 1, 0]).quantile(0.5), Some(1.0));
        assert_eq!(histogram(&[50, 49, 1, 0]).quantile(0.99), Some(5.0));
        assert_eq!(histogram(&[1, 0, 0, 9]).quantile(0.99), None, "beyond the last bound");
    }
}
