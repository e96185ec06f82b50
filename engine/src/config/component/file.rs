//! `exporters.file`: requests in a file.

use super::file_storage::octal_mode;
use crate::config::checked::{ExporterKind, FileFormat, FileSettings, Rotation};
use crate::config::section::{Field, Idle, Section};
use codecs::compression::Compression;
use std::path::PathBuf;

const FORMATS: [(&str, FileFormat); 2] = [("json", FileFormat::Json), ("proto", FileFormat::Proto)];
const COMPRESSIONS: [(&str, Compression); 2] = [("", Compression::None), ("zstd", Compression::Zstd)];
const ROTATED_MEGABYTES: i128 = 100;
const BACKUPS_MAX: i128 = 100;
const DIRECTORY_MODE: u32 = 0o755;

/// Reads the settings.
pub(crate) fn check(field: &Field<'_>) -> Option<ExporterKind> {
    let section = field.section()?;
    let path = section.text("path");
    let append = section.boolean("append", false);
    let format = section.choice("format", &FORMATS, FileFormat::Json);
    let compression = section.choice("compression", &COMPRESSIONS, Compression::None);
    let rotation = rotation(&section);
    let mode = octal_mode(&section, DIRECTORY_MODE);
    let create_directory = section.boolean("create_directory", false).then_some(mode);
    if append && rotation.is_some() {
        section.error("`append` and `rotation` exclude each other", "remove `append`: a rotated file is gone on with");
    }
    if append && compression != Compression::None {
        section.error("`append` and `compression` exclude each other", "remove one of them");
    }
    // What is answered is in the file.
    section.ignored(&["flush_interval"]);
    section.unsupported("encoding", Idle::Zero, "encodings of extensions", "remove it, and set `format`");
    let by_resource = "files by an attribute of the resource";
    section.unsupported("group_by", Idle::Disabled, by_resource, "route to several `file` exporters with `filter`");
    let Some(path) = path else {
        section.error("expected `path`, found none", "write `path: /var/lib/otelcol/spans.json`");
        return None;
    };
    let path = PathBuf::from(path);
    Some(ExporterKind::File(FileSettings { path, append, rotation, format, compression, create_directory }))
}

/// `rotation`, on where it is written. As in the Collector, 0 is the default size, any age and any number.
fn rotation(section: &Section<'_>) -> Option<Rotation> {
    let field = section.field("rotation").filter(|field| !field.node.is_null())?;
    let rotation = field.section()?;
    let number = |key, default| rotation.field(key).and_then(|field| field.int(0..=u32::MAX.into())).unwrap_or(default);
    let megabytes = match number("max_megabytes", ROTATED_MEGABYTES) {
        0 => ROTATED_MEGABYTES,
        written => written,
    };
    let days = number("max_days", 0);
    let backups = number("max_backups", BACKUPS_MAX);
    rotation.no_effect("localtime", Idle::Zero, "remove it: times in the names of files are UTC");
    Some(Rotation {
        bytes_max: u64::try_from(megabytes).expect("the range says so") << 20,
        days_max: u32::try_from(days).ok().filter(|days| *days > 0),
        backups_max: usize::try_from(backups).ok().filter(|backups| *backups > 0),
    })
}
