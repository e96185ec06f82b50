//! What is known about the way between the Collector and us: how a component that both have differs, and what only we
//! have.
//!
//! The idea: knowledge that `validate`, `migrate` and `print-config --for otelcol` need stands in two tables. Which
//! components run, and what to use instead of one that does not, is the table beside them (`component::COMPONENTS`). This
//! one never repeats it: a component that is not listed here and runs does the same as the Collector's.

use super::component::{self, Availability, COMPONENTS, Kind};

/// How a component that runs here differs from the Collector's of the same name, in its effect and not in its keys: keys
/// without effect are reported where they are read.
pub(crate) const DIFFERENCES: &[(Kind, &str, &str)] = &[
    (
        Kind::Processor,
        "memory_limiter",
        "counts bytes as they come and go instead of reading the heap every `check_interval`, and tells a refused sender \
         when to come back",
    ),
    (
        Kind::Processor,
        "batch",
        "every core fills batches of its own, and a batch waits for a full queue instead of being lost",
    ),
    (
        Kind::Processor,
        "tail_sampling",
        "pending traces are bounded by bytes, and by `num_traces` only where it is written; a full table decides its \
         oldest trace early instead of losing it; late spans follow their trace's decision without a `decision_cache`",
    ),
    (
        Kind::Processor,
        "transform",
        "a statement with a nil argument is skipped and is no error; a value that could not be masked is deleted unless \
         `on_mask_error` is `keep`",
    ),
    (
        Kind::Exporter,
        "prometheusremotewrite",
        "`timeout` is of each attempt and not of all, 429 is retried, and points that cannot be samples are counted by \
         reason and named in the log",
    ),
    (Kind::Receiver, "otlpjsonfile", FILES),
    (Kind::Receiver, "otlp_json_file", FILES),
    (Kind::Connector, "spanmetrics", SPAN_METRICS),
    (Kind::Connector, "span_metrics", SPAN_METRICS),
    (
        Kind::Exporter,
        "file",
        "a request counts as sent once it is in the file: nothing waits for `flush_interval`, and senders hear of a full disk",
    ),
    (Kind::Exporter, "debug", "lines go to standard error and are laid out differently"),
    (Kind::Exporter, "memory", "ours: the Collector has no such exporter"),
];

const FILES: &str = "a request that is refused is tried again until it is taken, what is broken is named with file and \
                     line, and half a line waits for its rest";
const ONLY_LINES: &str = "the Collector reads lines of JSON only";
const SPAN_METRICS: &str = "series are on /metrics too, summed over resources and bounded in number";

/// A step of a path into a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// This key.
    Key(&'static str),
    /// Components of one of these types, with and without a name.
    Type(&'static [&'static str]),
}

impl Step {
    pub(crate) fn matches(self, key: &str) -> bool {
        match self {
            Step::Key(name) => key == name,
            Step::Type(names) => component::component_id(key).is_ok_and(|id| names.contains(&id.kind.as_str())),
        }
    }
}

use Step::{Key, Type};

/// What only we read, and why it can be left out with the Collector.
pub(crate) const OURS: &[(&[Step], &str)] = &[
    (
        &[Key("service"), Key("engine")],
        "the Collector has no shards to place; its memory is bounded by `memory_limiter`",
    ),
    (
        &[Key("service"), Key("pipelines"), Type(&["traces", "metrics", "logs"]), Key("ack")],
        "in the Collector a sender is answered when its request enters a queue or a batch, unless every exporter has \
         `wait_for_result` and no `batch` stands before it",
    ),
    (
        &[
            Key("exporters"),
            Type(&["otlp", "otlp_grpc", "otlphttp", "otlp_http"]),
            Key("sending_queue"),
            Key("on_full"),
        ],
        "the Collector's full queue refuses, or waits with `block_on_overflow`",
    ),
    (
        &[Key("service"), Key("telemetry"), Key("metrics"), Key("names")],
        "in the Collector the `without_...` keys of a reader decide the names",
    ),
    (
        &[Key("exporters"), Type(&["otlp", "otlp_grpc"]), Key("compression_params")],
        "the Collector's gRPC exporter has no compression levels",
    ),
    (
        &[
            Key("exporters"),
            Type(&["otlp", "otlp_grpc", "otlphttp", "otlp_http", "prometheusremotewrite", "prometheus_remote_write"]),
            Key("resolve_interval"),
        ],
        "the Collector asks for a name's addresses again only when a connection fails",
    ),
    (
        &[Key("processors"), Type(&["transform"]), Key("on_mask_error")],
        "in the Collector a value that could not be masked leaves as it is",
    ),
    (&[Key("processors"), Type(&["transform"]), Key("traces")], "`trace_statements` says the same"),
    (
        &[Key("processors"), Type(&["tail_sampling"]), Key("policies"), Key("dry_run")],
        "the Collector's policies always decide",
    ),
    (
        &[Key("connectors"), Type(&["span_metrics", "spanmetrics"]), Key("names")],
        "in the Collector `namespace`, `dimensions` and a processor behind it decide the names",
    ),
    (
        &[Key("processors"), Type(&["tail_sampling"]), Key("decide_when_certain")],
        "the Collector decides when a trace's wait is over",
    ),
    (
        &[Key("processors"), Type(&["tail_sampling"]), Key("decide_on_complete")],
        "the Collector decides when a trace's wait is over",
    ),
    (
        &[Key("processors"), Type(&["tail_sampling"]), Key("storage")],
        "the Collector keeps undecided traces in memory alone",
    ),
    (
        &[Key("processors"), Type(&["tail_sampling"]), Key("write_threshold")],
        "the Collector's tail sampler writes no thresholds",
    ),
    (
        &[Key("processors"), Type(&["tail_sampling"]), Key("stress_relief")],
        "in the Collector only `memory_limiter` answers pressure, by refusing",
    ),
    (
        &[Key("processors"), Type(&["tail_sampling"]), Key("write_reason")],
        "in the Collector the feature gate `processor.tailsamplingprocessor.recordpolicy` names the policy",
    ),
    (
        &[
            Key("exporters"),
            Type(&["prometheusremotewrite", "prometheus_remote_write"]),
            Key("promote_resource_attributes"),
        ],
        "the Collector makes labels of all resource attributes or of none",
    ),
    (
        &[Key("exporters"), Type(&["prometheusremotewrite", "prometheus_remote_write"]), Key("delta_to_cumulative")],
        "the Collector has the processor `deltatocumulative` for it",
    ),
    (&[Key("receivers"), Type(&["otlpjsonfile", "otlp_json_file"]), Key("format")], ONLY_LINES),
    (&[Key("receivers"), Type(&["otlpjsonfile", "otlp_json_file"]), Key("compression")], ONLY_LINES),
    (&[Key("exporters"), Type(&["memory"])], "the Collector keeps no traces to look at"),
];

/// Whether a component of this type runs here.
pub(crate) fn runs(kind: Kind, name: &str) -> bool {
    let known = COMPONENTS.iter().find(|component| component.kind == kind && component.name == name);
    known.is_some_and(|component| component.availability == Availability::Built)
}

/// What to use instead of a component that does not run; `None` if it runs or nobody knows it.
pub(crate) fn instead(kind: Kind, name: &str) -> Option<&'static str> {
    let known = COMPONENTS.iter().find(|component| component.kind == kind && component.name == name);
    match known?.availability {
        Availability::Built => None,
        Availability::Later(instead) | Availability::Elsewhere(instead) => Some(instead),
    }
}

/// How a component that runs differs; `None` if it does the same.
pub(crate) fn difference(kind: Kind, name: &str) -> Option<&'static str> {
    let listed = DIFFERENCES.iter().find(|(of_kind, of_name, _)| *of_kind == kind && *of_name == name);
    listed.map(|(_, _, text)| *text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_components_that_run_differ_and_each_is_listed_once() {
        let mut seen = Vec::new();
        for (kind, name, text) in DIFFERENCES {
            assert!(runs(*kind, name), "{name} does not run");
            assert!(!seen.contains(&(kind, name)), "{name} is listed twice");
            assert!(!text.ends_with('.') && !text.contains("  "), "{text}");
            seen.push((kind, name));
        }
    }

    #[test]
    fn whatever_the_reference_marks_as_ours_is_in_the_table() {
        let pages: String = crate::config::tests::reference().into_iter().map(|(_, text)| text).collect();
        let known = |key: &str| {
            OURS.iter().any(|(path, _)| match path.last() {
                Some(Key(name)) => key.split('.').any(|part| part == *name),
                Some(Type(names)) => names.contains(&key),
                None => false,
            })
        };
        let mut marked = 0;
        let is_marked = |line: &&str| line.starts_with(['|', '#']) && line.to_lowercase().contains("**ours**");
        for line in pages.lines().filter(is_marked) {
            let key = line.split('`').nth(1).unwrap_or_else(|| panic!("no key in {line}"));
            assert!(known(key), "{key} is marked as ours and not in the table of what only we read");
            marked += 1;
        }
        assert!(marked >= 3, "the reference marks {marked} keys as ours");
    }

    #[test]
    fn a_type_matches_with_and_without_a_name() {
        let step = Type(&["otlp"]);
        assert!(step.matches("otlp") && step.matches("otlp/a") && !step.matches("otlphttp"));
        assert!(Key("engine").matches("engine") && !Key("engine").matches("engines"));
    }
}
