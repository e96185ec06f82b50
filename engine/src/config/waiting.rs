//! Whether an exporter's `wait_for_result` can reach the sender: what owns batches before it has answered already.
//!
//! The one idea: the answer goes back through the processors in front, and ends at the first that took ownership. A
//! pipeline behind a connector is not followed back to those that feed it.

use super::checked::{AckMode, ComponentId, Config, PipelineSettings, ProcessorKind};
use super::conflicts;
use super::diagnostic::Report;
use super::yaml::Node;
use std::collections::BTreeSet;

/// Warns of each exporter that waits for nobody.
pub(crate) fn check(config: &Config, tree: &Node, report: &Report) {
    let mut told = BTreeSet::new();
    for pipeline in &config.pipelines {
        let Some(owner) = owner(config, pipeline) else { continue };
        for &exporter in &pipeline.exporters {
            let exporter = &config.exporters[exporter];
            let waits = exporter.queue().is_some_and(|queue| queue.wait_for_result);
            if !waits || !told.insert((exporter.id.to_string(), pipeline.id.to_string())) {
                continue;
            }
            let keys = ["exporters", &exporter.id.to_string(), "sending_queue", "wait_for_result"].map(str::to_owned);
            report.warning(
                conflicts::place(tree, &keys),
                &keys.join("."),
                format!("nobody waits in the pipeline `{}`: `{owner}` before it has answered the sender", pipeline.id),
                format!("remove `{owner}` from that pipeline, or `wait_for_result`"),
            );
        }
    }
}

/// The first processor that answers senders itself.
fn owner<'a>(config: &'a Config, pipeline: &PipelineSettings) -> Option<&'a ComponentId> {
    if pipeline.ack == AckMode::Delivered {
        // There the batch processor leaves the answer to the exporters.
        return None;
    }
    let mut processors = pipeline.processors.iter().map(|&number| &config.processors[number]);
    let owner = processors
        .find(|processor| matches!(processor.kind, ProcessorKind::Batch { .. } | ProcessorKind::TailSampling(_)));
    owner.map(|processor| &processor.id)
}
