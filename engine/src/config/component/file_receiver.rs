//! `receivers.otlp_json_file` (`otlpjsonfile`): files of requests.
//!
//! Keys and defaults are the Collector's; `format` and `compression` are those of the exporter that wrote the files.

use crate::config::checked::{FileReceiverSettings, OtlpReceiverSettings};
use crate::config::glob::Pattern;
use crate::config::section::{Field, Idle, Section};
use codecs::compression::Compression;
use codecs::otlp::Format;

const FORMATS: [(&str, Format); 2] = [("json", Format::Json), ("proto", Format::Protobuf)];
const COMPRESSIONS: [(&str, Compression); 2] = [("", Compression::None), ("zstd", Compression::Zstd)];
const STARTS: [(&str, bool); 2] = [("beginning", false), ("end", true)];
const POLL_INTERVAL_NS: u64 = 200_000_000;
/// Less would look at directories without a pause.
const POLL_INTERVAL_NS_MIN: u64 = 1_000_000;
/// The largest request that a receiver over HTTP takes by default: what was written is read.
const RECORD_BYTES_MAX: usize = 20 << 20;
/// A length has 31 bits on the wire of every other way in.
const RECORD_BYTES_LIMIT: u64 = 2047 << 20;

/// Reads the settings.
pub(crate) fn check(field: &Field<'_>) -> Option<OtlpReceiverSettings> {
    let section = field.section()?;
    let include = patterns(&section, "include");
    let exclude = patterns(&section, "exclude");
    let starts_at_end = section.choice("start_at", &STARTS, true);
    let replays = section.boolean("replay_file", false);
    let format = section.choice("format", &FORMATS, Format::Json);
    let compression = section.choice("compression", &COMPRESSIONS, Compression::None);
    let record_bytes_max = bytes(&section, "max_log_size").unwrap_or(RECORD_BYTES_MAX);
    let poll_interval_ns = section.duration_ns("poll_interval", POLL_INTERVAL_NS).max(POLL_INTERVAL_NS_MIN);
    let age_ns_max = Some(section.duration_ns("exclude_older_than", 0)).filter(|age| *age > 0);
    // Files are known by device and inode and read one after the other; what is read is a request, without a place for
    // a file's name; and half a line waits for its rest.
    section.ignored(&[
        "fingerprint_size",
        "initial_buffer_size",
        "max_concurrent_files",
        "max_batches",
        "include_file_name",
        "include_file_path",
        "include_file_name_resolved",
        "include_file_path_resolved",
        "include_file_owner_name",
        "include_file_owner_group_name",
        "include_file_permissions",
        "include_file_record_number",
        "include_file_record_offset",
        "preserve_leading_whitespaces",
        "preserve_trailing_whitespaces",
        "force_flush_period",
        "on_truncate",
        "encoding",
        "polls_to_archive",
    ]);
    let storage = "positions that outlast the process: a start reads from `start_at`";
    section.unsupported("storage", Idle::Zero, storage, "remove it, and move files away that were read");
    section.unsupported("delete_after_read", Idle::Zero, "deleting files", "remove it, and delete them yourself");
    section.unsupported("multiline", Idle::Zero, "records of several lines", "write each request into one line");
    section.unsupported("header", Idle::Zero, "files with a header", "remove the header from the files");
    section.unsupported("ordering_criteria", Idle::Zero, "an order by parts of names", "files are read by path");
    section.no_effect("acquire_fs_lock", Idle::Zero, "remove it: files are read without a lock");
    if include.is_empty() {
        section.error("expected `include` with a pattern, found none", "write `include: [/var/log/otel/*.json]`");
        return None;
    }
    if replays && starts_at_end {
        section.warning(
            "`replay_file` reads what follows `start_at` again at each look, and `start_at` is the end",
            "add `start_at: beginning`",
        );
    }
    let settings = FileReceiverSettings {
        include,
        exclude,
        starts_at_end,
        replays: replays && !starts_at_end,
        format,
        compression,
        record_bytes_max,
        poll_interval_ns,
        age_ns_max,
    };
    Some(OtlpReceiverSettings { grpc: None, http: None, files: Some(Box::new(settings)) })
}

fn patterns(section: &Section<'_>, key: &'static str) -> Vec<Pattern> {
    let texts = section.field(key).map(|field| field.texts()).unwrap_or_default();
    let mut patterns = Vec::new();
    for (text, field) in texts {
        match Pattern::read(&text) {
            Ok(read) => patterns.extend(read),
            Err(why) => field.expected("a pattern of paths", format!("{why}; write one like `/var/log/otel/*.json`")),
        }
    }
    patterns
}

/// A number of bytes, perhaps with a unit: `1048576`, `1MiB`, `2kb`.
fn bytes(section: &Section<'_>, key: &'static str) -> Option<usize> {
    let field = section.field(key).filter(|field| !field.node.is_null())?;
    let written = field.written().trim().to_ascii_lowercase();
    let digits = written.find(|character: char| !character.is_ascii_digit()).unwrap_or(written.len());
    let (number, unit) = written.split_at(digits);
    let factor = match unit.trim() {
        "" | "b" => Some(1),
        "k" | "kb" => Some(1_000),
        "ki" | "kib" => Some(1 << 10),
        "m" | "mb" => Some(1_000_000),
        "mi" | "mib" => Some(1 << 20),
        "g" | "gb" => Some(1_000_000_000),
        "gi" | "gib" => Some(1 << 30),
        _ => None,
    };
    let bytes = number.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    match bytes.filter(|bytes| (1..=RECORD_BYTES_LIMIT).contains(bytes)) {
        Some(bytes) => usize::try_from(bytes).ok(),
        None => {
            field.expected("a size from 1 byte to 2047MiB", "write it as `20MiB` or in bytes");
            None
        }
    }
}
