//! What is wrong with the way connectors join pipelines: a loose end, or a cycle.
//!
//! Only ids are looked at, so this is said of every connector, whether we have it or not.

use super::check::{ConnectorKind, Definitions, Draft};
use super::checked::{ComponentId, Config};
use super::diagnostic::Report;
use super::section::Field;
use crate::connector::span_metrics::metric_names;
use codecs::otlp::Signal;

/// Whether a connector takes spans and gives metrics.
pub(crate) fn makes_metrics(id: &ComponentId) -> bool {
    matches!(id.kind.as_str(), "spanmetrics" | "span_metrics")
}

/// Reports connectors with a loose end, and pipelines that feed themselves.
pub(crate) fn check(drafts: &[Draft<'_>], connectors: &Definitions<ConnectorKind>, report: &Report) {
    let mut loose = false;
    for (id, definition) in connectors {
        if makes_metrics(id) {
            loose |= spans_where_metrics_are(drafts, id);
            if drafts.iter().any(|draft| names(&draft.exporters, id)) {
                // What it counts is on /metrics, whether a pipeline receives it or not.
                continue;
            }
        }
        for signal in signals_of(id) {
            let of_signal = || drafts.iter().filter(|draft| signal.is_none_or(|signal| draft.signal == signal));
            let exporting = of_signal().any(|draft| names(&draft.exporters, id));
            let receiving = of_signal().any(|draft| names(&draft.receivers, id));
            let (message, help) = match (exporting, receiving) {
                (true, false) => ("receives from", "`receivers` of a second pipeline"),
                (false, true) => ("exports to", "`exporters` of a first pipeline"),
                _ => continue,
            };
            loose = true;
            let (message, help) = match signal {
                None | Some(Signal::Traces) => (format!("no pipeline {message} this connector"), help.to_owned()),
                Some(signal) => {
                    (format!("no {signal} pipeline {message} this connector"), format!("{help} of {signal}"))
                }
            };
            report.error(&definition.place, &format!("connectors.{id}"), message, format!("name `{id}` in {help}"));
        }
    }
    if loose {
        return;
    }
    let edges = edges(drafts, connectors);
    if let Some((at, connector)) = cycle(drafts.len(), &edges) {
        let (_, item) = drafts[at].exporters.iter().find(|(id, _)| id == connector).expect("the edge was made from it");
        item.error(
            format!("through `{connector}` the pipeline `{}` feeds itself", drafts[at].id),
            "take the connector out of one of the pipelines in this circle",
        );
    }
}

/// Reports pipelines on the wrong side of a connector that makes metrics of spans.
fn spans_where_metrics_are(drafts: &[Draft<'_>], id: &ComponentId) -> bool {
    let mut wrong = false;
    for draft in drafts {
        let signal = &draft.id.kind;
        if signal != "traces"
            && let Some((_, item)) = draft.exporters.iter().find(|(named, _)| named == id)
        {
            wrong = true;
            let message = format!("`{id}` counts spans, and this pipeline has {signal}");
            item.error(message, "name it among the `exporters` of a traces pipeline");
        }
        if signal != "metrics"
            && let Some((_, item)) = draft.receivers.iter().find(|(named, _)| named == id)
        {
            wrong = true;
            let message = format!("`{id}` gives metrics, and this pipeline has {signal}");
            item.error(message, "name it among the `receivers` of a metrics pipeline; it is on /metrics too");
        }
    }
    wrong
}

/// Reports connectors whose metrics have the same names: on /metrics they could not be told apart.
pub(crate) fn check_names(config: &Config, connectors: &Definitions<ConnectorKind>, report: &Report) {
    for (number, connector) in config.span_metrics.iter().enumerate() {
        let name = |at: usize| metric_names(&config.span_metrics[at].settings).0;
        let Some(other) = (0..number).find(|&other| name(other) == name(number)) else {
            continue;
        };
        let (id, other) = (&connector.id, &config.span_metrics[other].id);
        let Some(definition) = connectors.get(id) else {
            continue;
        };
        let message = format!("its metrics have the same names as those of `{other}`: {}", name(number));
        let help = "give one of the two a `namespace`, or let pipelines share one connector";
        report.error(&definition.place, &format!("connectors.{id}"), message, help);
    }
}

/// Whether what goes in comes out; other connectors make one signal of another.
fn keeps_signal(connector: &ComponentId) -> bool {
    connector.kind == "forward"
}

/// The signals for which both ends have to be there; `None`: whatever the signals.
fn signals_of(connector: &ComponentId) -> Vec<Option<Signal>> {
    if keeps_signal(connector) { Signal::ALL.map(Some).to_vec() } else { vec![None] }
}

fn names(references: &[(ComponentId, Field<'_>)], id: &ComponentId) -> bool {
    references.iter().any(|(named, _)| named == id)
}

/// From one pipeline to another, through a connector.
struct Edge<'a> {
    source: usize,
    target: usize,
    connector: &'a ComponentId,
}

fn edges<'a>(drafts: &[Draft<'_>], connectors: &'a Definitions<ConnectorKind>) -> Vec<Edge<'a>> {
    let mut edges = Vec::new();
    for connector in connectors.keys() {
        for (source, _) in drafts.iter().enumerate().filter(|(_, draft)| names(&draft.exporters, connector)) {
            let passes = |draft: &Draft<'_>| !keeps_signal(connector) || draft.signal == drafts[source].signal;
            let fed = |draft: &Draft<'_>| passes(draft) && names(&draft.receivers, connector);
            for (target, _) in drafts.iter().enumerate().filter(|(_, draft)| fed(draft)) {
                edges.push(Edge { source, target, connector });
            }
        }
    }
    edges
}

/// A pipeline in a circle, and the connector by which it leaves. Pipelines that feed only pipelines outside of any
/// circle are taken away until none is left, or only circles and what leads to them.
fn cycle<'a>(pipelines: usize, edges: &[Edge<'a>]) -> Option<(usize, &'a ComponentId)> {
    let mut left: Vec<bool> = vec![true; pipelines];
    loop {
        let ends = |at: &usize| left[*at] && !edges.iter().any(|edge| edge.source == *at && left[edge.target]);
        match (0..pipelines).find(ends) {
            Some(end) => left[end] = false,
            None => break,
        }
    }
    // Following any edge among those that are left, one comes around after at most all of them.
    let next = |at: usize| edges.iter().find(|edge| edge.source == at && left[edge.target]);
    let mut edge = next((0..pipelines).find(|&at| left[at])?)?;
    for _ in 0..pipelines {
        edge = next(edge.target)?;
    }
    Some((edge.source, edge.connector))
}
