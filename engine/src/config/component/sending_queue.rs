//! `sending_queue` of exporters: how much waits, in what it is counted, who is answered when, what the disk keeps.

use super::file_storage;
use crate::config::checked::{ComponentId, OnFull, QueueBatchSettings, QueueSettings, Sizer};
use crate::config::section::{Idle, Section};

/// Each consumer may hold one request; more than this is a misplaced number.
const CONSUMERS_MAX: usize = 10_000;
/// A queue in items that is smaller than what senders usually put into one request.
const ITEMS_SUSPICIOUS: usize = 10_000;
/// The same in bytes: what a gRPC receiver takes by default.
const BYTES_SUSPICIOUS: usize = 4 << 20;
const SIZERS: [(&str, Sizer); 3] = [("requests", Sizer::Requests), ("items", Sizer::Items), ("bytes", Sizer::Bytes)];

const ON_FULL: [(&str, OnFull); 2] = [("refuse", OnFull::Refuse), ("drop_oldest", OnFull::DropOldest)];
/// The Collector's defaults of `batch`.
const FLUSH_TIMEOUT_NS: u64 = 200_000_000;
const BATCH_SIZE_MIN: usize = 8192;

/// `sending_queue`.
pub(crate) fn queue(exporter: &Section<'_>) -> QueueSettings {
    let default = QueueSettings::default();
    let section = exporter.section_or_empty("sending_queue");
    let enabled = section.boolean("enabled", default.enabled);
    let least = usize::from(enabled);
    let whole = |key: &'static str, default: usize| {
        let number = section.field(key).and_then(|field| field.int(least as i128..=i128::from(i64::MAX)));
        number.map_or(default, |number| usize::try_from(number).unwrap_or(usize::MAX))
    };
    let num_consumers = whole("num_consumers", default.num_consumers);
    if num_consumers > CONSUMERS_MAX
        && let Some(field) = section.field("num_consumers")
    {
        field.error(format!("more than {CONSUMERS_MAX} requests at the same time"), "10 to 100 suit most backends");
    }
    let queue_size = whole("queue_size", default.queue_size);
    let sizer = section.choice("sizer", &SIZERS, default.sizer);
    if enabled {
        check_size(&section, queue_size, sizer);
    }
    let instead =
        "remove it: what is in front waits for room, and at last the receiver refuses with a hint to come back";
    section.no_effect("block_on_overflow", Idle::Bool(false), instead);
    let storage = storage(&section, enabled);
    let wait_for_result = wait_for_result(&section, enabled, storage.is_some());
    let on_full = section.choice("on_full", &ON_FULL, default.on_full);
    let batch = batch(&section, (queue_size, sizer)).filter(|_| enabled);
    QueueSettings {
        enabled,
        num_consumers,
        queue_size,
        sizer: if enabled { sizer } else { Sizer::Requests },
        wait_for_result,
        storage,
        on_full: if enabled { on_full } else { OnFull::Refuse },
        batch,
    }
}

/// `batch` of a queue of this size.
fn batch(queue: &Section<'_>, (queue_size, queue_sizer): (usize, Sizer)) -> Option<QueueBatchSettings> {
    let field = queue.field("batch").filter(|field| !field.node.is_null())?;
    let section = field.section()?;
    // The Collector's: requests are not what a batch is measured in, unless somebody says so.
    let inherited = if queue_sizer == Sizer::Requests { Sizer::Items } else { queue_sizer };
    let sizer = section.choice("sizer", &SIZERS, inherited);
    let whole = |key: &'static str, default: usize| {
        let number = section.field(key).and_then(|field| field.int(0..=i128::from(u32::MAX)));
        number.map_or(default, |number| usize::try_from(number).unwrap_or(usize::MAX))
    };
    let (min_size, max_size) = (whole("min_size", BATCH_SIZE_MIN), whole("max_size", 0));
    if max_size > 0 && max_size < min_size {
        let help = format!("write {min_size} or more, 0 for no bound, or a smaller `min_size`");
        let message = format!("{max_size} is less than `min_size`, which is {min_size}");
        match section.field("max_size") {
            Some(field) => field.error(message, help),
            None => section.error(message, help),
        }
    }
    if sizer == queue_sizer && min_size > queue_size {
        let message = format!("a batch of {min_size} never comes together in a queue of {queue_size}");
        section.error(message, "write a smaller `min_size`, or a larger `queue_size`");
    }
    let flush_timeout_ns = section.duration_ns("flush_timeout", FLUSH_TIMEOUT_NS);
    if flush_timeout_ns == 0
        && let Some(field) = section.field("flush_timeout")
    {
        field.error("expected a time above 0", "write how long a request may wait for others, as in `200ms`");
    }
    let why = "requests are merged if nothing behind the receiver tells their senders apart";
    section.unsupported("partition", Idle::Zero, why, "use `metadata_keys` of a `batch` processor");
    Some(QueueBatchSettings { flush_timeout_ns, min_size, max_size: (max_size > 0).then_some(max_size), sizer })
}

/// Warns of a size that a single request may exceed: whoever changes the sizer easily forgets the size.
fn check_size(section: &Section<'_>, queue_size: usize, sizer: Sizer) {
    let (least, help) = match sizer {
        Sizer::Requests => return,
        Sizer::Items => (ITEMS_SUSPICIOUS, "write `queue_size` in spans, data points or log records"),
        Sizer::Bytes => (BYTES_SUSPICIOUS, "write `queue_size` in bytes"),
    };
    if queue_size >= least {
        return;
    }
    let message = "a single request may be larger than this queue, and is refused then";
    match section.field("queue_size").or_else(|| section.field("sizer")) {
        Some(field) => field.warning(message, format!("{help}: {least} or more")),
        None => section.warning(message, format!("{help}: {least} or more")),
    }
}

/// `wait_for_result` of a queue.
fn wait_for_result(queue: &Section<'_>, enabled: bool, is_stored: bool) -> bool {
    let Some(field) = queue.field("wait_for_result") else { return false };
    let wanted = field.boolean().unwrap_or(false);
    if wanted && !enabled {
        field.warning("has no effect without the queue: the export's outcome is the answer anyway", "remove it");
    }
    if wanted && is_stored {
        field.error(
            "a queue with `storage` answers when the request is on disk, and cannot wait for the export as well",
            "remove it to answer once the request is safe on disk, or remove `storage`",
        );
    }
    wanted && enabled
}

/// `storage` of a queue.
fn storage(queue: &Section<'_>, enabled: bool) -> Option<ComponentId> {
    let id = file_storage::named_by(queue)?;
    if !enabled && let Some(field) = queue.field("storage") {
        field.warning("has no effect without the queue", "remove `enabled: false`, or the storage");
    }
    Some(id).filter(|_| enabled)
}
