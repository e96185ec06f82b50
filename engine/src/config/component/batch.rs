//! `processors.batch`: when a batch leaves.

use crate::config::checked::ProcessorKind;
use crate::config::section::{Field, Idle};

const TIMEOUT_NS: u64 = 200_000_000;
const SEND_BATCH_SIZE: u32 = 8192;

/// Reads the settings.
pub(crate) fn check(field: &Field<'_>) -> Option<ProcessorKind> {
    let section = field.section()?;
    let timeout_ns = section.duration_ns("timeout", TIMEOUT_NS);
    let send_batch_size = section.u32("send_batch_size", 0, SEND_BATCH_SIZE);
    let send_batch_max_size = section.u32("send_batch_max_size", 0, 0);
    section.unsupported(
        "metadata_keys",
        Idle::Zero,
        "batches by client metadata; data of several tenants would be mixed",
        "remove it, or give each tenant a receiver and a pipeline of its own",
    );
    section.u32("metadata_cardinality_limit", 0, 0);
    if send_batch_max_size != 0 && send_batch_max_size < send_batch_size {
        let message =
            format!("the largest batch ({send_batch_max_size}) is smaller than `send_batch_size` ({send_batch_size})");
        let help = format!("raise it to at least {send_batch_size}, or lower `send_batch_size`; 0 is no bound");
        match section.field("send_batch_max_size") {
            Some(field) => field.error(message, help),
            None => section.error(message, help),
        }
        return None;
    }
    Some(ProcessorKind::Batch { timeout_ns, send_batch_size, send_batch_max_size })
}
