//! `connectors.span_metrics`: what is counted of spans, and by what. The Collector's keys, and `names` of ours.

use crate::config::checked::{
    DurationBuckets, DurationSettings, DurationUnit, FlushSettings, LabelSettings, LabelSource, SpanChoice,
    SpanMetricsSettings, Temporality,
};
use crate::config::diagnostic::nearest;
use crate::config::section::{Field, Idle, Section};
use crate::connector::span_metrics::label_name;

const MILLISECOND_NS: u64 = 1_000_000;

/// The Collector's bounds, in milliseconds.
const BOUNDS_MS: [u64; 16] = [2, 4, 6, 8, 10, 50, 100, 200, 400, 800, 1_000, 1_400, 2_000, 5_000, 10_000, 15_000];
/// Bounds of `names: http`, in milliseconds: those of Prometheus' own libraries.
const HTTP_BOUNDS_MS: [u64; 11] = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000];
/// Most bounds of a histogram; each is a number in every series and a line of the page.
const BOUNDS_MAX: usize = 256;
/// Buckets of an exponential histogram, and the most of them.
const EXPONENTIAL: i128 = 160;
const EXPONENTIAL_MAX: i128 = 1024;
/// Series of each metric and shard. The Collector has no bound unless one is written.
const SERIES: usize = 10_000;
const SERIES_MAX: u32 = 1_000_000;
/// Most labels; a label's number is written in one byte.
const LABELS_MAX: usize = 64;

/// How series are named.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    Collector,
    Http,
}

/// The Collector's interval between two flushes.
const FLUSH_NS: u64 = 60_000_000_000;
/// Shortest: ten times a shard's turn.
const FLUSH_NS_MIN: u64 = 100 * MILLISECOND_NS;

/// Reads the settings.
pub(crate) fn check(field: &Field<'_>) -> Option<(SpanMetricsSettings, FlushSettings)> {
    let section = field.section()?;
    let names = section.choice("names", &[("collector", Names::Collector), ("http", Names::Http)], Names::Collector);
    let namespace = namespace(&section, names);
    let duration = duration(&section, names, &namespace);
    let labels = labels(&section, names);
    refuse(&section);
    let limit = section.u32("aggregation_cardinality_limit", 0, 0);
    if limit > SERIES_MAX
        && let Some(field) = section.field("aggregation_cardinality_limit")
    {
        field.error(format!("more than {SERIES_MAX} series"), "take away dimensions, or write a lower number");
    }
    let expiration_ns = section.duration_ns("metrics_expiration", 0);
    let calls = match names {
        Names::Collector => format!("{namespace}calls"),
        Names::Http => "http_requests".to_owned(),
    };
    let spans = match names {
        Names::Collector => SpanChoice::All,
        Names::Http => SpanChoice::HttpServers,
    };
    let series_max = if limit == 0 { SERIES } else { limit as usize };
    let flush = flush(&section);
    let settings =
        SpanMetricsSettings { calls, duration: duration?, labels: labels?, spans, series_max, expiration_ns };
    Some((settings, flush))
}

fn flush(section: &Section<'_>) -> FlushSettings {
    let temporalities = [
        ("AGGREGATION_TEMPORALITY_CUMULATIVE", Temporality::Cumulative),
        ("AGGREGATION_TEMPORALITY_DELTA", Temporality::Delta),
    ];
    let temporality = section.choice("aggregation_temporality", &temporalities, Temporality::Cumulative);
    let interval_ns = section.duration_ns("metrics_flush_interval", FLUSH_NS);
    if interval_ns < FLUSH_NS_MIN
        && let Some(field) = section.field("metrics_flush_interval")
    {
        field.error("shorter than 100ms", "15s to 60s suit most backends");
    }
    FlushSettings { temporality, interval_ns: interval_ns.max(FLUSH_NS_MIN) }
}

/// What stands before the names, with its dot.
fn namespace(section: &Section<'_>, names: Names) -> String {
    let Some(field) = section.field("namespace") else {
        return "traces.span.metrics.".to_owned();
    };
    if names == Names::Http {
        field.error("`names: http` has names of its own", "remove `namespace`, or `names`");
    }
    match field.text() {
        Some(text) if !text.is_empty() => format!("{text}."),
        _ => String::new(),
    }
}

/// `None` if something is wrong; `Some(None)` if there is no histogram.
fn duration(section: &Section<'_>, names: Names, namespace: &str) -> Option<Option<DurationSettings>> {
    let histogram = section.section_or_empty("histogram");
    let is_disabled = histogram.boolean("disable", false);
    let (bounds_ms, unit) = match names {
        Names::Collector => (&BOUNDS_MS[..], DurationUnit::Milliseconds),
        Names::Http => (&HTTP_BOUNDS_MS[..], DurationUnit::Seconds),
    };
    let units = [("ms", DurationUnit::Milliseconds), ("s", DurationUnit::Seconds)];
    let unit = histogram.choice("unit", &units, unit);
    let explicit = histogram.section("explicit");
    let exponential = histogram.section("exponential");
    // Its labels are read with the others.
    histogram.field("dimensions");
    if names == Names::Http && unit == DurationUnit::Milliseconds {
        histogram.error("`names: http` counts in seconds", "remove `unit`, or `names`");
    }
    let buckets = match (explicit, exponential) {
        (Some(explicit), Some(exponential)) => {
            explicit.accept_any_key();
            exponential.accept_any_key();
            histogram.error("the histogram is `explicit` and `exponential`", "remove one of them");
            return None;
        }
        (None, Some(exponential)) => {
            let most = exponential.field("max_size").and_then(|field| field.int(2..=EXPONENTIAL_MAX));
            DurationBuckets::Exponential(u32::try_from(most.unwrap_or(EXPONENTIAL)).expect("the range says so"))
        }
        (explicit, None) => {
            let written = explicit.as_ref().and_then(|explicit| explicit.field("buckets"));
            let bounds = match written.filter(|field| !field.node.is_null()) {
                Some(field) => bounds(&field)?,
                None => bounds_ms.iter().map(|bound| bound * MILLISECOND_NS).collect(),
            };
            DurationBuckets::Explicit(bounds)
        }
    };
    let name = match names {
        Names::Collector => format!("{namespace}duration"),
        Names::Http => "http_request_duration".to_owned(),
    };
    Some((!is_disabled).then_some(DurationSettings { name, unit, buckets }))
}

fn bounds(field: &Field<'_>) -> Option<Vec<u64>> {
    let items = field.items();
    let bounds: Vec<u64> = items.iter().filter_map(Field::duration_ns).collect();
    if bounds.len() < items.len() {
        // Each wrong one is reported.
        return None;
    }
    if bounds.is_empty() || bounds.len() > BOUNDS_MAX {
        field.error(format!("expected 1 to {BOUNDS_MAX} bounds, found {}", bounds.len()), "write `[10ms, 100ms, 1s]`");
        return None;
    }
    if let Some(place) = (1..bounds.len()).find(|&place| bounds[place] <= bounds[place - 1]) {
        items[place].error("bounds have to grow", "write them in ascending order, each once");
        return None;
    }
    Some(bounds)
}

/// Names of attributes that hold the same, the newer convention first.
fn attribute(names: &[&str]) -> LabelSource {
    LabelSource::Attribute(names.iter().map(|name| (*name).to_owned()).collect())
}

/// Labels that are there without being asked for.
fn standing_labels(names: Names) -> Vec<(&'static str, LabelSource)> {
    let service = ("service.name", LabelSource::Resource("service.name".to_owned()));
    match names {
        Names::Collector => vec![
            service,
            ("span.name", LabelSource::SpanName),
            ("span.kind", LabelSource::SpanKind),
            ("status.code", LabelSource::StatusCode),
        ],
        Names::Http => {
            let statuses = ["http.response.status_code", "http.status_code"].map(str::to_owned).to_vec();
            vec![
                service,
                ("method", attribute(&["http.request.method", "http.method"])),
                ("route", attribute(&["http.route"])),
                ("status", LabelSource::HttpStatus(statuses)),
            ]
        }
    }
}

/// All labels, without those that are excluded; `None` if something is wrong.
fn labels(section: &Section<'_>, names: Names) -> Option<Vec<LabelSettings>> {
    let keys = resource_keys(section);
    let standing = standing_labels(names);
    let excluded = excluded(section, &standing);
    let label = |name: &str, source| LabelSettings {
        name: name.to_owned(),
        source,
        default: None,
        on_calls: true,
        on_duration: true,
        of_point: true,
        of_resource: false,
    };
    let mut complete = true;
    let mut labels = Labels(Vec::new());
    for (name, source) in standing {
        if !excluded.iter().any(|excluded| excluded == name) {
            let of_resource = matches!(source, LabelSource::Resource(_));
            labels.0.push(LabelSettings { of_resource, ..label(name, source) });
        }
    }
    for (key, item) in &keys {
        if labels.0.iter().any(|known| known.name == *key && known.of_resource) {
            continue;
        }
        let source = LabelSource::Resource(key.clone());
        complete &=
            labels.add(LabelSettings { of_resource: true, of_point: false, ..label(key, source) }, item).is_some();
    }
    let histogram = section.section("histogram");
    let of_histogram = histogram.as_ref().and_then(|histogram| histogram.field("dimensions"));
    if let Some(histogram) = &histogram {
        // Its keys have been looked at by whoever reads the histogram.
        histogram.accept_any_key();
    }
    let lists = [
        (section.field("dimensions"), true, true),
        (section.field("calls_dimensions"), true, false),
        (of_histogram, false, true),
    ];
    for (field, on_calls, on_duration) in lists {
        for item in field.iter().flat_map(Field::items) {
            let Some((name, default)) = dimension(&item) else {
                complete = false;
                continue;
            };
            let source = attribute(&[&name]);
            let added = LabelSettings { default, on_calls, on_duration, ..label(&name, source) };
            complete &= labels.add(added, &item).is_some();
        }
    }
    if labels.0.len() > LABELS_MAX {
        section.error(format!("more than {LABELS_MAX} dimensions"), "remove some; each multiplies the series");
        return None;
    }
    complete.then_some(labels.0)
}

struct Labels(Vec<LabelSettings>);

impl Labels {
    /// Two labels may have one name if they stand on different metrics.
    fn add(&mut self, label: LabelSettings, item: &Field<'_>) -> Option<()> {
        let shares = |known: &&LabelSettings| {
            let metrics = known.on_calls && label.on_calls || known.on_duration && label.on_duration;
            metrics && label_name(&known.name) == label_name(&label.name)
        };
        match self.0.iter().find(shares) {
            Some(known) if known.name == label.name => {
                item.error(format!("the dimension `{}` is there already", label.name), "remove one of the two");
            }
            Some(known) => {
                let (name, known) = (&label.name, &known.name);
                item.error(
                    format!("`{name}` and `{known}` are the same label on /metrics, where dots become `_`"),
                    "remove one of the two",
                );
            }
            None => {
                self.0.push(label);
                return Some(());
            }
        }
        None
    }
}

fn dimension(item: &Field<'_>) -> Option<(String, Option<String>)> {
    let section = item.section()?;
    let default = section.field("default").and_then(|field| field.text());
    let Some(name) = section.text("name") else {
        section.error("a dimension needs a name", "write `- {name: http.request.method}`");
        return None;
    };
    Some((name, default))
}

fn excluded(section: &Section<'_>, standing: &[(&'static str, LabelSource)]) -> Vec<String> {
    let mut excluded = Vec::new();
    for (text, item) in section.field("exclude_dimensions").iter().flat_map(Field::texts) {
        let names = standing.iter().map(|(name, _)| *name);
        // The Collector's own id, which we have none of.
        if text != "collector.instance.id" && !names.clone().any(|name| name == text) {
            let help = match nearest(&text, names.clone()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("one of these can be left out: {}", names.collect::<Vec<_>>().join(", ")),
            };
            item.warning(format!("`{text}` is none of the dimensions that are there unasked"), help);
        }
        excluded.push(text);
    }
    excluded
}

fn resource_keys<'a>(section: &Section<'a>) -> Vec<(String, Field<'a>)> {
    let mut keys: Vec<(String, Field<'a>)> = Vec::new();
    for (text, item) in section.field("resource_metrics_key_attributes").iter().flat_map(Field::texts) {
        if !keys.iter().any(|(known, _)| *known == text) {
            keys.push((text, item));
        }
    }
    keys
}

/// Keys of the Collector that are not built, and those that change nothing here.
fn refuse(section: &Section<'_>) {
    section.unsupported("exemplars", Idle::Disabled, "exemplars", "remove it; the `trace_id` is in the traces kept");
    section.unsupported("events", Idle::Disabled, "a metric of span events", "remove it, or keep a Collector for it");
    let scope = "remove it; `dimensions` name attributes of spans and resources";
    section.unsupported("include_instrumentation_scope", Idle::Zero, "series by instrumentation scope", scope);
    let keys = "`resource_metrics_key_attributes` tells series of several resources apart";
    section.unsupported("add_resource_attributes", Idle::Bool(false), "all attributes of a resource", keys);
    let before = "put the connector before sampling, where it sees every span, and remove it";
    section.unsupported("enable_metrics_sampling_method", Idle::Bool(false), "counts weighted by thresholds", before);
    section.unsupported("series_expiration", Idle::Zero, "an expiration by series", "use `metrics_expiration`");
    // Caches are bounded by the number of series.
    section.ignored(&["resource_metrics_cache_size", "dimensions_cache_size"]);
    section.ignored(&["metric_timestamp_cache_size", "delta_temporality"]);
}
