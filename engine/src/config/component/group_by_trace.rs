//! `processors.groupbytrace` (also `group_by_trace`): accepted, and passes everything on.
//!
//! What it is for, components that need whole traces, is here `tail_sampling`, which puts traces together itself.

use crate::config::checked::ProcessorKind;
use crate::config::section::Field;

/// The Collector's defaults.
const WAIT_DURATION_NS: u64 = 1_000_000_000;
const TRACES: u32 = 1_000_000;

/// Reads the settings.
pub(crate) fn check(field: &Field<'_>) -> Option<ProcessorKind> {
    let section = field.section()?;
    section.duration_ns("wait_duration", WAIT_DURATION_NS);
    section.u32("num_traces", 1, TRACES);
    section.u32("num_workers", 1, 1);
    for key in ["discard_orphans", "store_on_disk"] {
        if let Some(field) = section.field(key).filter(|field| field.boolean() == Some(true)) {
            field.error("the Collector does not support this either", "remove it");
        }
    }
    section.warning(
        "spans are not held back to be put together here",
        "remove it: `tail_sampling` puts traces together itself, and no other processor here needs that",
    );
    Some(ProcessorKind::GroupByTrace)
}
