//! The `file` exporter: requests one behind the other in a file, as the Collector writes them.
//!
//! ```text
//! format json        one OTLP/JSON request a line
//! proto, or zstd     4 bytes of length (big endian) and the request, compressed by itself
//! path-2026-01-31T08-15-00.000.json    a file that was full, where `rotation` is on
//! ```
//!
//! The idea: one thread per exporter owns the file, and shards hand it whole records. So records never mix, "delivered"
//! means "given to the kernel", and a record of which only a part could be written is cut off again. A shard that does
//! not wait for a record has no part in it: the senders are told what the disk says.

use super::debug;
use super::outcome::{ErrorWord, Outcome};
use super::{EncodedRequest, Encoding};
use crate::config::checked::{ComponentId, Config, ExporterKind, FileFormat, FileSettings, Rotation};
use bytes::Bytes;
use codecs::compression::Compression;
use codecs::grpc::PREFIX_BYTES;
use codecs::otlp::Format;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot};

/// Records of all shards that wait for the thread; beyond it shards wait.
const RECORDS_WAITING_MAX: usize = 64;
/// Of a gRPC prefix: what it has in front of its length, which is the length that records have.
const FLAG_BYTES: usize = 1;
/// Of a time in a file's name.
const STAMP_CHARS: usize = "2026-01-31T08-15-00.000".len();
const DAY: Duration = Duration::from_secs(86_400);

/// The exporter on one shard.
#[derive(Debug)]
pub struct FileExporter {
    writer: FileWriter,
    framing: Framing,
    encoding: Encoding,
}

/// What tells one record from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Line,
    Length,
}

impl FileExporter {
    /// `writer` leads to the thread that [`Files`] started.
    pub fn new(settings: &FileSettings, writer: FileWriter) -> FileExporter {
        let format = match settings.format {
            FileFormat::Json => Format::Json,
            FileFormat::Proto => Format::Protobuf,
        };
        let plain_json = settings.format == FileFormat::Json && settings.compression == Compression::None;
        FileExporter {
            writer,
            framing: if plain_json { Framing::Line } else { Framing::Length },
            encoding: Encoding { format, compression: settings.compression, level: None },
        }
    }

    /// How it wants its requests.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Writes one request. A file that takes nothing is worth another try: disks are emptied, and mounted again.
    pub async fn attempt(&self, request: &EncodedRequest) -> Outcome {
        let bytes = match self.framing {
            Framing::Line => request.body.slice(PREFIX_BYTES..),
            Framing::Length => request.body.slice(FLAG_BYTES..),
        };
        match self.writer.write(Record { bytes, framing: self.framing }).await {
            Ok(()) => Outcome::Delivered,
            Err(message) => Outcome::Retry { after: None, reason: ErrorWord::Storage, message },
        }
    }
}

/// One request on its way into the file.
#[derive(Debug)]
struct Record {
    bytes: Bytes,
    framing: Framing,
}

#[derive(Debug)]
enum Command {
    Write(Record, oneshot::Sender<Result<(), String>>),
    Close,
}

/// The shards' end of a file.
#[derive(Clone, Debug)]
pub struct FileWriter {
    commands: mpsc::Sender<Command>,
}

impl FileWriter {
    async fn write(&self, record: Record) -> Result<(), String> {
        let ended = || "the thread that writes the file has ended".to_owned();
        let (written, answer) = oneshot::channel();
        self.commands.send(Command::Write(record, written)).await.map_err(|_| ended())?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }
}

/// The files of one process: one per exporter, opened before any shard starts.
#[derive(Debug)]
pub struct Files {
    threads: Vec<(ComponentId, Thread)>,
}

#[derive(Debug)]
struct Thread {
    path: PathBuf,
    writer: FileWriter,
    handle: std::thread::JoinHandle<()>,
}

impl Files {
    /// Opens the file of every `file` exporter and starts its thread. Errors name the exporter, the path and what to do.
    pub fn open(config: &Config) -> Result<Files, String> {
        let mut files = Files { threads: Vec::new() };
        for exporter in &config.exporters {
            // An exporter of several signals is listed for each, and has one file.
            if let ExporterKind::File(settings) = &exporter.kind
                && files.writer(&exporter.id).is_none()
            {
                if let Some((other, _)) = files.threads.iter().find(|(_, thread)| thread.path == settings.path) {
                    let (id, path) = (&exporter.id, settings.path.display());
                    return Err(format!(
                        "exporters {other} and {id} both write to {path}; give each a file of its own"
                    ));
                }
                let thread = start(settings).map_err(|error| format!("exporter {}: {error}", exporter.id))?;
                files.threads.push((exporter.id.clone(), thread));
            }
        }
        Ok(files)
    }

    /// The shards' ends, by the exporter's number.
    pub fn writers(&self, config: &Config) -> Arc<Vec<Option<FileWriter>>> {
        Arc::new(config.exporters.iter().map(|exporter| self.writer(&exporter.id)).collect())
    }

    fn writer(&self, id: &ComponentId) -> Option<FileWriter> {
        self.threads.iter().find(|(known, _)| known == id).map(|(_, thread)| thread.writer.clone())
    }

    /// Ends the threads, after the shards have ended: nothing waits any more.
    pub fn close(self) {
        for (_, thread) in self.threads {
            // A closed channel means that it has ended.
            drop(thread.writer.commands.blocking_send(Command::Close));
            drop(thread.handle.join());
        }
    }
}

fn start(settings: &FileSettings) -> Result<Thread, String> {
    let mut writer = OpenFile::open(settings.clone())?;
    let (commands, mut asked) = mpsc::channel(RECORDS_WAITING_MAX);
    let body = move || {
        while let Some(Command::Write(record, written)) = asked.blocking_recv() {
            // Nobody waits any more for what a drain gave up on.
            drop(written.send(writer.write(&record, SystemTime::now())));
        }
    };
    let handle = std::thread::Builder::new().name("file-exporter".to_owned()).spawn(body);
    let handle = handle.map_err(|error| format!("the thread that writes the file cannot start: {error}"))?;
    Ok(Thread { path: settings.path.clone(), writer: FileWriter { commands }, handle })
}

/// The open file.
#[derive(Debug)]
struct OpenFile {
    settings: FileSettings,
    file: File,
    length: u64,
    /// A record with what is around it.
    buffer: Vec<u8>,
}

impl OpenFile {
    fn open(settings: FileSettings) -> Result<OpenFile, String> {
        if let Some(mode) = settings.create_directory
            && let Some(directory) = settings.path.parent().filter(|path| !path.as_os_str().is_empty())
        {
            let made = DirBuilder::new().recursive(true).mode(mode).create(directory);
            made.map_err(|error| format!("the directory {} cannot be made: {error}", directory.display()))?;
        }
        // A file that is rotated is gone on with: what it holds becomes a backup, too.
        let keeps = settings.append || settings.rotation.is_some();
        let (file, length) = open_file(&settings.path, keeps).map_err(|error| {
            let remedy = "make its directory, or set `create_directory: true`, and let this user write there";
            format!("the file {} cannot be opened: {error}; {remedy}", settings.path.display())
        })?;
        Ok(OpenFile { settings, file, length, buffer: Vec::new() })
    }

    fn write(&mut self, record: &Record, now: SystemTime) -> Result<(), String> {
        self.buffer.clear();
        self.buffer.extend_from_slice(&record.bytes);
        if record.framing == Framing::Line {
            self.buffer.push(b'\n');
        }
        let written = self.make_room(now).and_then(|()| self.append());
        written.map_err(|error| format!("the file {} takes nothing: {error}", self.settings.path.display()))
    }

    fn append(&mut self) -> io::Result<()> {
        match self.file.write_all(&self.buffer) {
            Ok(()) => {
                self.length += self.buffer.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Half a record would spoil those behind it. What is no file on a disk cannot be cut, and need not be.
                drop(self.file.set_len(self.length));
                Err(error)
            }
        }
    }

    /// Begins a new file if the record in the buffer does not fit into this one.
    fn make_room(&mut self, now: SystemTime) -> io::Result<()> {
        let Some(rotation) = &self.settings.rotation else { return Ok(()) };
        if self.length == 0 || self.length + self.buffer.len() as u64 <= rotation.bytes_max {
            return Ok(());
        }
        let names = BackupNames::of(&self.settings.path);
        fs::rename(&self.settings.path, names.free(now))?;
        (self.file, self.length) = open_file(&self.settings.path, true)?;
        // Backups that cannot be removed now are looked at again with the next rotation.
        drop(names.prune(rotation, now));
        Ok(())
    }
}

fn open_file(path: &Path, keeps: bool) -> io::Result<(File, u64)> {
    let file = match keeps {
        true => OpenOptions::new().append(true).create(true).open(path)?,
        false => OpenOptions::new().append(true).create(true).open(path).and_then(|file| {
            // Not with the options: what is no file on a disk cannot be cut.
            if file.metadata()?.is_file() {
                file.set_len(0)?;
            }
            Ok(file)
        })?,
    };
    let length = file.metadata()?.len();
    Ok((file, length))
}

/// How the files that were full are called: the time stands in front of the suffix.
#[derive(Debug)]
struct BackupNames {
    directory: PathBuf,
    /// With the `-` behind it.
    prefix: String,
    /// With the dot in front of it; may be empty.
    suffix: String,
}

impl BackupNames {
    fn of(path: &Path) -> BackupNames {
        let text = |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned());
        BackupNames {
            directory: path.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned(),
            prefix: text(path.file_stem()).unwrap_or_default() + "-",
            suffix: text(path.extension()).map_or_else(String::new, |suffix| format!(".{suffix}")),
        }
    }

    /// A name that no file has: of this millisecond, or of the next that is free.
    fn free(&self, now: SystemTime) -> PathBuf {
        let mut time = now;
        loop {
            let path = self.directory.join(format!("{}{}{}", self.prefix, stamp(time), self.suffix));
            if !path.exists() {
                return path;
            }
            time += Duration::from_millis(1);
        }
    }

    /// Removes backups beyond the number and the age that are allowed.
    fn prune(&self, rotation: &Rotation, now: SystemTime) -> io::Result<()> {
        let mut stamps: Vec<(String, OsString)> = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let name = entry?.file_name();
            if let Some(stamp) = name.to_str().and_then(|name| self.stamp_in(name)) {
                stamps.push((stamp.to_owned(), name));
            }
        }
        // Stamps sort as their times do. The newest first.
        stamps.sort_unstable_by(|(left, _), (right, _)| right.cmp(left));
        let oldest = rotation.days_max.map(|days| stamp(now.checked_sub(DAY * days).unwrap_or(UNIX_EPOCH)));
        for (number, (stamp, name)) in stamps.iter().enumerate() {
            let too_many = rotation.backups_max.is_some_and(|most| number >= most);
            if too_many || oldest.as_ref().is_some_and(|oldest| stamp < oldest) {
                fs::remove_file(self.directory.join(name))?;
            }
        }
        Ok(())
    }

    fn stamp_in<'n>(&self, name: &'n str) -> Option<&'n str> {
        let stamp = name.strip_prefix(&self.prefix)?.strip_suffix(&self.suffix)?;
        let looks_right = |(place, byte): (usize, u8)| match place {
            4 | 7 | 13 | 16 => byte == b'-',
            10 => byte == b'T',
            19 => byte == b'.',
            _ => byte.is_ascii_digit(),
        };
        (stamp.len() == STAMP_CHARS && stamp.bytes().enumerate().all(looks_right)).then_some(stamp)
    }
}

/// `2026-01-31T08-15-00.000`, in UTC.
fn stamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / DAY.as_secs(), since.as_secs() % DAY.as_secs());
    let (year, month, day) = debug::date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}-{minute:02}-{second:02}.{:03}", since.subsec_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(path: PathBuf, rotation: Option<Rotation>) -> FileSettings {
        let (format, compression) = (FileFormat::Json, Compression::None);
        FileSettings { path, append: false, rotation, format, compression, create_directory: None }
    }

    fn line(text: &str) -> Record {
        Record { bytes: Bytes::copy_from_slice(text.as_bytes()), framing: Framing::Line }
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_begun_anew_unless_it_is_appended_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("spans.json");
        fs::write(&path, "old\n").unwrap();
        let mut appended = settings(path.clone(), None);
        appended.append = true;
        OpenFile::open(appended).unwrap().write(&line("{}"), at(0)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old\n{}\n");
        OpenFile::open(settings(path.clone(), None)).unwrap().write(&line("[]"), at(0)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "[]\n");
    }

    #[test]
    fn a_full_file_becomes_a_backup_and_no_line_is_lost_or_cut() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("spans.json");
        let rotation = Rotation { bytes_max: 10, days_max: None, backups_max: None };
        let mut writer = OpenFile::open(settings(path.clone(), Some(rotation))).unwrap();
        for text in ["1234", "5678", "larger than ten bytes", "9"] {
            // The same millisecond three times: each backup has a name of its own all the same.
            writer.write(&line(text), at(0)).unwrap();
        }
        let kept = ["spans-2023-11-14T22-13-20.000.json", "spans-2023-11-14T22-13-20.001.json", "spans.json"];
        assert_eq!(names(directory.path()), kept);
        let texts = kept.map(|name| fs::read_to_string(directory.path().join(name)).unwrap());
        assert_eq!(texts, ["1234\n5678\n", "larger than ten bytes\n", "9\n"]);
    }

    #[test]
    fn backups_beyond_their_number_or_age_go_and_files_of_others_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("spans.json");
        for stranger in
            ["spans-old.json", "spans-2023-11-14T22-13-20.000.json.gz", "other-2023-11-14T22-13-20.000.json"]
        {
            fs::write(directory.path().join(stranger), "").unwrap();
        }
        let strangers = names(directory.path());
        let rotation = Rotation { bytes_max: 1, days_max: Some(1), backups_max: Some(2) };
        let mut writer = OpenFile::open(settings(path.clone(), Some(rotation))).unwrap();
        let backups = |directory: &Path| {
            let mut backups = names(directory);
            backups.retain(|name| name != "spans.json" && !strangers.contains(name));
            backups
        };
        for second in 0..5 {
            writer.write(&line("x"), at(second)).unwrap();
        }
        assert_eq!(
            backups(directory.path()),
            ["spans-2023-11-14T22-13-23.000.json", "spans-2023-11-14T22-13-24.000.json"],
            "the two newest"
        );
        writer.write(&line("x"), at(86_404)).unwrap();
        assert_eq!(
            backups(directory.path()),
            ["spans-2023-11-14T22-13-24.000.json", "spans-2023-11-15T22-13-24.000.json"],
            "one second more than a day ago is too old"
        );
        assert!(strangers.iter().all(|name| directory.path().join(name).exists()));
    }

    #[test]
    fn a_path_that_cannot_be_opened_is_named_with_the_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("missing/spans.json");
        let error = OpenFile::open(settings(path.clone(), None)).unwrap_err();
        assert!(error.contains(&path.display().to_string()) && error.contains("create_directory"), "{error}");
        let mut made = settings(path.clone(), None);
        made.create_directory = Some(0o755);
        OpenFile::open(made).unwrap();
        assert!(path.exists());
    }

    #[test]
    fn a_device_is_written_to_like_a_file() {
        let mut writer = OpenFile::open(settings("/dev/null".into(), None)).unwrap();
        writer.write(&line("{}"), at(0)).unwrap();
        let mut full = OpenFile::open(settings("/dev/full".into(), None)).unwrap();
        let error = full.write(&line("{}"), at(0)).unwrap_err();
        assert!(error.contains("/dev/full takes nothing"), "{error}");
    }
}
