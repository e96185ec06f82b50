//! `processors.batch`: when a batch leaves.

use crate::config::checked::ProcessorKind;
use crate::config::section::{Field, Section};

const TIMEOUT_NS: u64 = 200_000_000;
const SEND_BATCH_SIZE: u32 = 8192;
const METADATA_COMBINATIONS: u32 = 1000;
/// Where none is configured: each costs some hundred bytes for as long as it is in use.
const METADATA_COMBINATIONS_MAX: usize = 100_000;
/// Each is looked up in the head of each request.
const METADATA_KEYS_MAX: usize = 32;

/// Reads the settings.
pub(crate) fn check(field: &Field<'_>) -> Option<ProcessorKind> {
    let section = field.section()?;
    let timeout_ns = section.duration_ns("timeout", TIMEOUT_NS);
    let send_batch_size = section.u32("send_batch_size", 0, SEND_BATCH_SIZE);
    let send_batch_max_size = section.u32("send_batch_max_size", 0, 0);
    let metadata_keys = metadata_keys(&section);
    let limit = section.u32("metadata_cardinality_limit", 0, METADATA_COMBINATIONS);
    let metadata_combinations_max = match limit {
        0 => METADATA_COMBINATIONS_MAX,
        limit => usize::try_from(limit).unwrap_or(METADATA_COMBINATIONS_MAX).min(METADATA_COMBINATIONS_MAX),
    };
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
    Some(ProcessorKind::Batch {
        timeout_ns,
        send_batch_size,
        send_batch_max_size,
        metadata_keys,
        metadata_combinations_max,
    })
}

/// Names of headers, in small letters, because theirs have no case.
fn metadata_keys(section: &Section<'_>) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    for (text, item) in section.field("metadata_keys").iter().flat_map(|field| field.texts()) {
        let key = text.to_ascii_lowercase();
        if keys.contains(&key) {
            item.error(format!("`{key}` is here twice; capital letters make no difference"), "remove one");
        } else {
            keys.push(key);
        }
    }
    if keys.len() > METADATA_KEYS_MAX
        && let Some(field) = section.field("metadata_keys")
    {
        field.error(format!("more than {METADATA_KEYS_MAX} keys"), "remove some; each request is looked at for each");
    }
    keys
}
