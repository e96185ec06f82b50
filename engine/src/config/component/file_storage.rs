//! `extensions.file_storage`: where durable queues keep what waits, and samplers what is undecided.

use crate::config::checked::{ComponentId, StorageSettings};
use crate::config::component::component_id;
use crate::config::section::{Field, Idle, Section};
use std::path::PathBuf;

const DIRECTORY: &str = "/var/lib/otelcol/file_storage";
const DIRECTORY_MODE: u32 = 0o750;
const LOCK_TIMEOUT_NS: u64 = 1_000_000_000;
/// The Collector has no bound by default; a full disk hurts more than this one.
const LOG_BYTES_MAX: u64 = 4 << 30;
/// Less than this holds hardly a request.
const LOG_BYTES_LEAST: i128 = 1 << 20;

/// Reads the settings.
pub(crate) fn check(field: &Field<'_>) -> Option<StorageSettings> {
    let section = field.section()?;
    let id = component_id(field.path.split_once('.').map_or("", |(_, id)| id)).ok()?;
    let directory = section.text("directory").unwrap_or_else(|| DIRECTORY.to_owned());
    let create_directory = section.boolean("create_directory", false);
    let directory_mode = octal_mode(&section, DIRECTORY_MODE);
    let lock_timeout_ns = section.duration_ns("timeout", LOCK_TIMEOUT_NS);
    let log_bytes_max = log_bytes_max(&section);
    if let Some(field) = section.field("fsync")
        && field.boolean() == Some(false)
    {
        let why = "has no effect: what a sender is told is kept is always synced to the disk first";
        field.warning(why, "remove it; one sync serves all requests that wait");
    }
    let instead = "remove it: files whose requests are all delivered are removed by themselves";
    section.no_effect("compaction", Idle::Zero, instead);
    // Damage never keeps it from starting, which is what this asks for.
    section.ignored(&["recreate"]);
    Some(StorageSettings {
        id,
        directory: PathBuf::from(directory),
        create_directory,
        directory_mode,
        lock_timeout_ns,
        log_bytes_max,
    })
}

/// The storage that another component names with `storage`.
pub(super) fn named_by(section: &Section<'_>) -> Option<ComponentId> {
    let field: Field<'_> = section.field("storage").filter(|field| !field.node.is_null())?;
    let text = field.text().filter(|text| !text.is_empty())?;
    match component_id(&text) {
        Ok(id) if id.kind != "file_storage" => {
            field.lacking(format!("`{id}` is no storage that is built"), "use `file_storage`");
            None
        }
        Ok(id) => Some(id),
        Err(message) => {
            field.error(message, "write the id of an extension, as in `storage: file_storage/queue`");
            None
        }
    }
}

/// `directory_permissions`: octal digits, as a text or as YAML's number.
pub(super) fn octal_mode(section: &Section<'_>, default: u32) -> u32 {
    let Some(field) = section.field("directory_permissions").filter(|field| !field.node.is_null()) else {
        return default;
    };
    match u32::from_str_radix(field.written().trim_start_matches("0o"), 8) {
        Ok(mode) if mode <= 0o777 => mode,
        _ => {
            field.expected("permissions in octal digits", "write `directory_permissions: \"0750\"`");
            default
        }
    }
}

/// `max_size` in bytes; 0 is the default.
fn log_bytes_max(section: &Section<'_>) -> u64 {
    let Some(field) = section.field("max_size") else { return LOG_BYTES_MAX };
    match field.int(0..=i64::MAX.into()) {
        None | Some(0) => LOG_BYTES_MAX,
        Some(bytes) if bytes < LOG_BYTES_LEAST => {
            field.error(format!("{bytes} bytes hold hardly a request"), "write at least 1048576, which is 1 MiB");
            LOG_BYTES_MAX
        }
        Some(bytes) => u64::try_from(bytes).unwrap_or(LOG_BYTES_MAX),
    }
}
