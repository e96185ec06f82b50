//! What a `transform` counts of its statements.

use super::processor::failed_items;
use crate::config::checked::MetricsLevel::Normal;
use crate::telemetry::cells::{Counter, Kind, Schema};
use codecs::otlp::Signal;

metrics! {
    TRANSFORMS: "Transforms", "`transform`, `attributes`, `resource`, `redaction`",
        "`statement` is its place below the processor: `traces[0]`, `trace_statements[1].statements[0]`.";
    for the gateway {
        TRANSFORM_STATEMENT_FAILURES: Kind::Counter, Normal, "tracegate_transform_statement_failures",
            "items", ["processor", "statement"],
            "Items on which a statement failed and changed nothing.";
        TRANSFORM_UNMASKED_DELETED: Kind::Counter, Normal, "tracegate_transform_unmasked_deleted",
            "values", ["processor", "statement"],
            "Values that a statement deleted because it could not mask them.";
    }
}

/// What a transform counts besides [`super::ProcessorSeries`].
#[derive(Clone, Debug)]
pub struct TransformSeries {
    /// Items of batches that a failed statement stopped, reason `ottl`.
    pub failed_spans: Counter,
    /// By the statement's number.
    pub statements: Vec<StatementSeries>,
}

/// What is counted of one statement.
#[derive(Clone, Copy, Debug)]
pub struct StatementSeries {
    /// Items on which it failed.
    pub failures: Counter,
    /// Values it deleted because it could not mask them.
    pub unmasked_deleted: Counter,
}

impl TransformSeries {
    /// Declares the series of one transform with these statements.
    pub fn declare<'s>(
        schema: &mut Schema,
        processor_id: &str,
        signal: Signal,
        statements: impl Iterator<Item = &'s str>,
    ) -> TransformSeries {
        let own = ("processor", processor_id);
        let failed_spans = failed_items(schema, processor_id, signal, "ottl");
        let statements = statements.map(|statement| {
            let labels = [own, ("statement", statement)];
            StatementSeries {
                failures: schema.counter(&TRANSFORM_STATEMENT_FAILURES, &labels),
                unmasked_deleted: schema.counter(&TRANSFORM_UNMASKED_DELETED, &labels),
            }
        });
        TransformSeries { failed_spans, statements: statements.collect() }
    }
}
