//! What is wrong with the way connectors join pipelines: a loose end, or a cycle.
//!
//! Only ids are looked at, so this is said of every connector, whether we have it or not.

use super::check::{Definitions, Draft};
use super::checked::ComponentId;
use super::diagnostic::Report;
use super::section::Field;
use codecs::otlp::Signal;

/// Reports connectors with a loose end, and pipelines that feed themselves.
pub(crate) fn check(drafts: &[Draft<'_>], connectors: &Definitions<()>, report: &Report) {
    let mut loose = false;
    for (id, definition) in connectors {
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

fn edges<'a>(drafts: &[Draft<'_>], connectors: &'a Definitions<()>) -> Vec<Edge<'a>> {
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
