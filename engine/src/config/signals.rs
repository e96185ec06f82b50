//! Components that stand in a pipeline of a signal that they cannot work on.

use super::check::{Definitions, Draft};
use super::checked::ProcessorKind;
use super::component::otlp_exporter::Definition;
use super::component::properties;
use super::section::Field;
use codecs::otlp::Signal;

/// Components of one signal only: section, type, and what to do.
const TRACES_ONLY: [(&str, &str); 4] = [
    ("groupbytrace", "take it out of this pipeline: only spans belong to traces"),
    ("group_by_trace", "take it out of this pipeline: only spans belong to traces"),
    ("tail_sampling", "take it out of this pipeline: only spans belong to traces"),
    ("memory", "use `debug` here: `memory` keeps traces for `tracegate traces`"),
];

/// Exporters of metrics only.
const METRICS_ONLY: [&str; 2] = ["prometheusremotewrite", "prometheus_remote_write"];

/// Processors of traces and logs only.
const NOT_METRICS: [&str; 1] = ["probabilistic_sampler"];

/// Reports processors and exporters that do not know the signal of their pipeline, and exporters without an endpoint for
/// it.
pub(crate) fn check(
    drafts: &[Draft<'_>],
    processors: &Definitions<ProcessorKind>,
    exporters: &Definitions<Definition>,
) {
    for draft in drafts {
        for (id, item) in draft.processors.iter().chain(&draft.exporters) {
            let only = TRACES_ONLY.iter().find(|(kind, _)| *kind == id.kind);
            if let Some((_, help)) = only.filter(|_| draft.signal != Signal::Traces) {
                item.error(format!("`{id}` works on traces only, and this pipeline carries {}", draft.signal), *help);
            }
        }
        for (id, item) in &draft.processors {
            if draft.signal == Signal::Metrics && NOT_METRICS.contains(&id.kind.as_str()) {
                item.error(
                    format!("`{id}` works on traces and logs only, and this pipeline carries metrics"),
                    "take it out of this pipeline: single data points are no sample of a series",
                );
            }
            let selection = match processors.get(id).and_then(|defined| defined.settings.as_ref()) {
                Some(ProcessorKind::Attributes { selection, .. }) => Some(selection.as_ref()),
                Some(ProcessorKind::Filter(settings)) => settings.keeps_of(draft.signal),
                _ => None,
            };
            if let Some(selection) = selection {
                for property in properties::of_other_signals(selection, draft.signal) {
                    item.error(
                        format!("`{id}` selects by `{property}`, which {} do not have", draft.signal),
                        "give this signal a processor of its own, as `attributes/NAME`",
                    );
                }
            }
        }
        for (id, item) in &draft.exporters {
            let definition = exporters.get(id).and_then(|defined| defined.settings.as_ref());
            if definition.is_none_or(|definition| definition.kind(draft.signal).is_some()) {
                continue;
            }
            if METRICS_ONLY.contains(&id.kind.as_str()) {
                item.error(
                    format!("`{id}` takes metrics only, and this pipeline carries {}", draft.signal),
                    "take it out of this pipeline",
                );
            } else {
                without_endpoint(draft.signal, item);
            }
        }
    }
}

fn without_endpoint(signal: Signal, item: &Field<'_>) {
    item.error(
        format!("the exporter has no endpoint for {signal}"),
        format!("add `endpoint: http://host:4318` to it, or `{signal}_endpoint` with the whole URL"),
    );
}
