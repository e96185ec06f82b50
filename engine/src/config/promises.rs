//! Whether a pipeline can keep what its `ack` promises its senders.
//!
//! The one idea: a promise is as strong as the weakest way out, so every exporter and every pipeline behind a `forward`
//! has to keep it, and nothing on the way may answer before. A pipeline behind a connector is looked at by itself.

use super::checked::{AckMode, Config, ExporterSettings, OnFull, PipelineSettings, ProcessorKind, ProcessorSettings};
use super::conflicts;
use super::diagnostic::Report;
use super::yaml::Node;

/// Reports each promise that would be broken.
pub(crate) fn check(config: &Config, tree: &Node, report: &Report) {
    for pipeline in config.pipelines.iter().filter(|pipeline| pipeline.ack != AckMode::Received) {
        let keys = ["service", "pipelines", &pipeline.id.to_string(), "ack"].map(str::to_owned);
        let error = |message: String, help: String| {
            report.error(conflicts::place(tree, &keys), &keys.join("."), message, help);
        };
        if let Some((message, help)) = sampler(config, pipeline) {
            error(message, help);
        }
        if pipeline.ack == AckMode::Durable {
            for exporter in pipeline.exporters.iter().map(|&exporter| &config.exporters[exporter]) {
                if exporter.queue().is_some_and(|queue| queue.on_full == OnFull::DropOldest) {
                    let id = &exporter.id;
                    report.warning(
                        conflicts::place(tree, &keys),
                        &keys.join("."),
                        format!("what senders were told is safe is dropped when the queue of `{id}` is full"),
                        format!("remove `on_full: drop_oldest` from `exporters.{id}.sending_queue`"),
                    );
                }
                if let Some((message, help)) = forgetful(exporter) {
                    error(message, help);
                }
            }
        }
        for forward in &pipeline.forwards {
            let targets = forward.targets.iter().map(|&target| &config.pipelines[target]);
            for target in targets.filter(|target| target.ack < pipeline.ack) {
                let (wanted, found) = (pipeline.ack.word(), target.ack.word());
                error(
                    format!(
                        "expected at least `{wanted}` behind `{}`, found `{found}` in the pipeline `{}`, which would \
                         answer senders before that",
                        forward.id, target.id
                    ),
                    format!("write `ack: {wanted}` in `service.pipelines.{}` too, or `ack: {found}` here", target.id),
                );
            }
        }
    }
}

/// What is wrong with a sampler in this pipeline.
fn sampler(config: &Config, pipeline: &PipelineSettings) -> Option<(String, String)> {
    let processors = pipeline.processors.iter().map(|&number| &config.processors[number]);
    let keeps = |it: &ProcessorSettings| pipeline.ack == AckMode::Durable && it.storage.is_some();
    let is_forgetful = |it: &&ProcessorSettings| matches!(it.kind, ProcessorKind::TailSampling(_)) && !keeps(it);
    let sampler = processors.into_iter().find(is_forgetful)?;
    let id = &sampler.id;
    Some(match pipeline.ack {
        AckMode::Delivered => (
            format!(
                "`{id}` keeps a trace for its whole decision wait and delivers only some of them: no sender can wait for \
                 that"
            ),
            format!("write `ack: received`, or take `{id}` out of this pipeline"),
        ),
        _ => (
            format!("`{id}` keeps undecided traces in memory only"),
            format!("add `storage: file_storage/...` to `processors.{id}`, or write `ack: received`"),
        ),
    })
}

/// Why what this exporter was given does not survive the process.
fn forgetful(exporter: &ExporterSettings) -> Option<(String, String)> {
    let id = &exporter.id;
    let elsewhere = "take it out of this pipeline, or write `ack: delivered`";
    match exporter.queue() {
        Some(queue) if queue.storage.is_some() => None,
        Some(_) => Some((
            format!("the queue of the exporter `{id}` is in memory only"),
            format!("add `sending_queue: {{storage: file_storage/...}}` to `exporters.{id}`, {elsewhere}"),
        )),
        None => Some((format!("the exporter `{id}` has no queue that could be on disk"), elsewhere.to_owned())),
    }
}
