//! Another configuration for a shard that runs: nodes get other settings between two batches.
//!
//! ```text
//! control thread: may every shard?  --all say yes--> here it is --> each node that differs is changed, none is unwired
//! ```
//!
//! The one idea: listeners, connections, pipelines, trace tables and queues stay; only what a node does with the next batch
//! is another thing. What cannot be changed so was refused before it came here. A shard obeys between two batches, so each
//! batch meets one configuration at each node; shards do not wait for each other.

use super::ShardContext;
use super::assemble::{Declared, NodeParts};
use super::pipelines::Pipelines;
use crate::config::checked::Config;
use crate::exporter::Reasons;
use std::sync::Arc;

/// The configuration that follows the one in force: the same components in the same pipelines, some with other settings.
#[derive(Debug)]
pub struct Successor {
    /// All of it.
    pub config: Arc<Config>,
    /// Made from it, behind what was declared before.
    pub declared: Arc<Declared>,
    /// Numbers of the processors that differ.
    pub processors: Vec<usize>,
}

impl Successor {
    /// Each node that changes: its pipeline and its place in it.
    fn nodes(&self) -> impl Iterator<Item = (usize, usize)> {
        let pipelines = self.config.pipelines.iter().enumerate();
        let nodes = pipelines.flat_map(|(position, pipeline)| {
            let places = pipeline.processors.iter().enumerate();
            places.map(move |(place, processor)| (position, place, *processor))
        });
        nodes
            .filter(|(.., processor)| self.processors.contains(processor))
            .map(|(position, place, _)| (position, place))
    }
}

/// What a shard keeps for it.
#[derive(Debug)]
pub struct Reconfiguration {
    /// The shard's.
    pub context: ShardContext,
    /// Of new nodes.
    pub hash_seed: u64,
    /// Names that exporters know.
    pub reasons: Reasons,
}

impl Reconfiguration {
    /// Whether every node that changes can take it now.
    pub fn may_apply(&self, successor: &Successor, pipelines: &Pipelines) -> bool {
        successor.nodes().all(|(position, place)| pipelines.may_change(position, place))
    }

    /// Applies it; [`Reconfiguration::may_apply`] has said yes.
    pub fn apply(&self, successor: &Successor, pipelines: &Pipelines) {
        *self.reasons.borrow_mut() = successor.declared.reason_names();
        let parts = NodeParts {
            config: &successor.config,
            declared: &successor.declared,
            context: &self.context,
            hash_seed: self.hash_seed,
        };
        for (position, place) in successor.nodes() {
            pipelines.change_node(position, place, |node| parts.change(position, place, node));
        }
    }
}
