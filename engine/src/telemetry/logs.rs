//! Log lines: events of any thread become lines on standard error or in files, few and cheap.
//!
//! ```text
//! event -> least level? -> repetition bound -> line (text) -> bounded channel -> writer thread -> outputs
//!             no: gone        equal line: counted                full: counted
//! ```
//!
//! A shard never waits for the terminal: it formats a short line and tries to hand it over. Lines look like the
//! Collector's: console lines are tab separated (time, level, caller, message, fields as JSON), JSON lines have the
//! keys `level`, `ts`, `caller`, `msg`. Libraries below us speak only from `warn` on, and spans of `tracing` are off.
//! Release builds leave out every event below `info` (root Cargo.toml), ours too; we have none.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::hash::BuildHasher;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber, span};

use crate::config::checked::{LogLevel, LogOutput, LogSampling, LogSettings};

/// Lines that wait for the writer; beyond it lines are lost and counted.
const LINES_WAITING_MAX: usize = 1024;
/// Longest message or field; the rest is cut off.
const TEXT_BYTES_MAX: usize = 4096;
/// How long a flush waits for a terminal that does not read.
const FLUSH_WAIT: Duration = Duration::from_secs(2);

/// The running log: what was not written, and a way to write the rest before the process ends.
#[derive(Clone, Debug)]
pub struct Logs {
    counts: Arc<LogCounts>,
    lines: SyncSender<Message>,
}

/// Lines that were not written.
#[derive(Debug, Default)]
struct LogCounts {
    suppressed: AtomicU64,
    lost: AtomicU64,
}

enum Message {
    Line(String),
    /// Answer when everything before it is written.
    Flush(SyncSender<()>),
}

/// Installs the log of this process and starts its writer thread.
///
/// # Errors
/// If the process has a log already, a thread cannot be started, or a file of the outputs cannot be opened.
pub fn start(settings: LogSettings) -> Result<Logs, Box<dyn std::error::Error>> {
    let outputs = settings.outputs.iter().map(Output::open).collect::<Result<Vec<_>, _>>()?;
    let (lines, waiting) = sync_channel(LINES_WAITING_MAX);
    std::thread::Builder::new().name("log-writer".to_owned()).spawn(move || write_lines(&waiting, outputs))?;
    let logs = Logs { counts: Arc::default(), lines };
    tracing::subscriber::set_global_default(LogSubscriber::new(settings, logs.clone()))?;
    Ok(logs)
}

/// Where lines go.
enum Output {
    Stderr,
    Stdout,
    File(File),
}

impl Output {
    fn open(output: &LogOutput) -> Result<Output, String> {
        match output {
            LogOutput::Stderr => Ok(Output::Stderr),
            LogOutput::Stdout => Ok(Output::Stdout),
            LogOutput::File(path) => {
                let file = File::options().create(true).append(true).open(path);
                let failed = |error| {
                    let path = path.display();
                    format!("{path} of service.telemetry.logs.output_paths cannot be opened: {error}; make it writable")
                };
                file.map(Output::File).map_err(failed)
            }
        }
    }

    /// Nobody is left to tell if this fails.
    fn write(&mut self, line: &str) {
        drop(match self {
            Output::Stderr => std::io::stderr().write_all(line.as_bytes()),
            Output::Stdout => std::io::stdout().write_all(line.as_bytes()),
            Output::File(file) => file.write_all(line.as_bytes()),
        });
    }
}

impl Logs {
    /// Lines not written because equal ones were.
    pub fn suppressed(&self) -> u64 {
        self.counts.suppressed.load(Relaxed)
    }

    /// Lines lost because the writer was behind.
    pub fn lost(&self) -> u64 {
        self.counts.lost.load(Relaxed)
    }

    /// Waits until every line so far is written, but not for ever.
    pub fn flush(&self) {
        let (answer, written) = sync_channel(1);
        if self.lines.send(Message::Flush(answer)).is_ok() {
            // A terminal that does not read must not keep a process from ending.
            let _ = written.recv_timeout(FLUSH_WAIT);
        }
    }
}

fn write_lines(waiting: &Receiver<Message>, mut outputs: Vec<Output>) {
    for message in waiting {
        match message {
            Message::Line(line) => outputs.iter_mut().for_each(|output| output.write(&line)),
            Message::Flush(answer) => drop(answer.send(())),
        }
    }
}

/// Bounds equal lines as the Collector does: unless configured otherwise, per 10 s tick the first 10, then each 100th.
///
/// Equality is by hash in a fixed table, so two different lines may share a counter; then one of them is written less
/// often, never more.
#[derive(Debug)]
struct Repetition {
    sampling: LogSampling,
    counters: Vec<RepetitionCounter>,
    hasher: foldhash::fast::FixedState,
}

#[derive(Debug, Default)]
struct RepetitionCounter {
    tick: AtomicU64,
    count: AtomicU64,
}

impl Repetition {
    const COUNTERS: usize = 1024;

    fn new(sampling: LogSampling) -> Repetition {
        let counters = (0..Repetition::COUNTERS).map(|_| RepetitionCounter::default());
        Repetition { sampling, counters: counters.collect(), hasher: foldhash::fast::FixedState::default() }
    }

    /// Whether this line is written, `now` after the start of the log.
    fn admits(&self, level: Level, message: &str, now: Duration) -> bool {
        let hash = self.hasher.hash_one((level_word(level), message));
        let counter = &self.counters[hash as usize % Repetition::COUNTERS];
        // Ticks count from 1, so that a fresh counter belongs to none.
        let ticks = now.as_nanos() / u128::from(self.sampling.tick_ns);
        let tick = 1 + u64::try_from(ticks).unwrap_or(u64::MAX - 1);
        // Two threads that meet at the turn of a tick may write a line more; the bound is for people, not for the books.
        if counter.tick.swap(tick, Relaxed) != tick {
            counter.count.store(0, Relaxed);
        }
        let count = 1 + counter.count.fetch_add(1, Relaxed);
        let (initial, thereafter) = (u64::from(self.sampling.initial), u64::from(self.sampling.thereafter));
        count <= initial || (thereafter > 0 && (count - initial).is_multiple_of(thereafter))
    }
}

struct LogSubscriber {
    settings: LogSettings,
    logs: Logs,
    /// `None` if equal lines are all written.
    repetition: Option<Repetition>,
    started: Instant,
}

impl LogSubscriber {
    fn new(settings: LogSettings, logs: Logs) -> LogSubscriber {
        let repetition = settings.sampling.map(Repetition::new);
        LogSubscriber { settings, logs, repetition, started: Instant::now() }
    }
}

impl Subscriber for LogSubscriber {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let ours = metadata.target().starts_with("engine") || metadata.target().starts_with("tracegate");
        let least = if ours { least_level(self.settings.level) } else { Level::WARN };
        metadata.is_event() && *metadata.level() <= least.min(least_level(self.settings.level))
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::from_level(least_level(self.settings.level)))
    }

    fn event(&self, event: &Event<'_>) {
        let mut said = Said::default();
        event.record(&mut said);
        let metadata = event.metadata();
        let admits =
            |repetition: &Repetition| repetition.admits(*metadata.level(), &said.message, self.started.elapsed());
        if !self.repetition.as_ref().is_none_or(admits) {
            self.logs.counts.suppressed.fetch_add(1, Relaxed);
            return;
        }
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let line = Line {
            unix_ms: u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX),
            level: level_word(*metadata.level()),
            caller: self.settings.caller.then(|| caller(metadata.file().unwrap_or(metadata.target()), metadata.line())),
            said: said.with_initial(&self.settings.fields),
        };
        let text = if self.settings.json { line.json() } else { line.console() };
        if self.logs.lines.try_send(Message::Line(text)).is_err() {
            self.logs.counts.lost.fetch_add(1, Relaxed);
        }
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        // Spans are never enabled; `tracing` still asks for an id in some of its paths.
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// The message and fields of one event.
#[derive(Debug, Default)]
struct Said {
    message: String,
    fields: Map<String, Value>,
}

impl Said {
    /// Puts the fields of every line before this one's own, which win.
    fn with_initial(mut self, initial: &[(String, Value)]) -> Said {
        if !initial.is_empty() {
            let mut fields: Map<String, Value> = initial.iter().cloned().collect();
            fields.extend(self.fields);
            self.fields = fields;
        }
        self
    }

    fn note(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => drop(self.fields.insert(name.to_owned(), value)),
        }
    }
}

impl Visit for Said {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.note(field, Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.note(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.note(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.note(field, Value::from(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let mut text = BoundedText::default();
        // A full text refuses the rest; what fitted is kept.
        let _ = text.write_str(value);
        self.note(field, Value::String(text.0));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = BoundedText::default();
        let _ = write!(text, "{value:?}");
        self.note(field, Value::String(text.0));
    }
}

/// Text that stops growing at [`TEXT_BYTES_MAX`]: strings from outside end up in log lines.
#[derive(Default)]
struct BoundedText(String);

impl fmt::Write for BoundedText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = TEXT_BYTES_MAX - self.0.len();
        if text.len() <= room {
            self.0.push_str(text);
            return Ok(());
        }
        self.0.push_str(&text[..text.floor_char_boundary(room)]);
        Err(fmt::Error)
    }
}

struct Line {
    unix_ms: u64,
    level: &'static str,
    /// `None` if it is not shown.
    caller: Option<String>,
    said: Said,
}

impl Line {
    fn console(&self) -> String {
        let mut line = format!("{}\t{}\t", timestamp(self.unix_ms), self.level);
        if let Some(caller) = &self.caller {
            line.push_str(caller);
            line.push('\t');
        }
        // One event is one line, whatever a peer put into its message.
        for character in self.said.message.chars() {
            match character {
                '\n' => line.push_str("\\n"),
                '\r' => line.push_str("\\r"),
                control if control.is_control() && control != '\t' => line.push('\u{fffd}'),
                other => line.push(other),
            }
        }
        if !self.said.fields.is_empty() {
            line.push('\t');
            line.push_str(&Value::Object(self.said.fields.clone()).to_string());
        }
        line.push('\n');
        line
    }

    fn json(&self) -> String {
        let mut object = Map::new();
        object.insert("level".to_owned(), Value::from(self.level));
        object.insert("ts".to_owned(), Value::from(timestamp(self.unix_ms)));
        if let Some(caller) = &self.caller {
            object.insert("caller".to_owned(), Value::from(caller.as_str()));
        }
        object.insert("msg".to_owned(), Value::from(self.said.message.as_str()));
        object.extend(self.said.fields.clone());
        format!("{}\n", Value::Object(object))
    }
}

/// The file with its folder, and the line: `receiver/otlp.rs:120`.
fn caller(file: &str, line: Option<u32>) -> String {
    let start = file.rmatch_indices('/').nth(1).map_or(0, |(position, _)| position + 1);
    match line {
        Some(line) => format!("{}:{line}", &file[start..]),
        None => file[start..].to_owned(),
    }
}

fn least_level(level: LogLevel) -> Level {
    match level {
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Info => Level::INFO,
        LogLevel::Warn => Level::WARN,
        LogLevel::Error => Level::ERROR,
    }
}

fn level_word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG | Level::TRACE => "debug",
    }
}

/// Milliseconds since 1970 as `2026-11-23T05:29:52.123Z`, in the proleptic Gregorian calendar.
pub fn timestamp(unix_ms: u64) -> String {
    let (days, ms_of_day) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    // Years are counted from March, so that the leap day is the last day of a year; 400 years are 146,097 days, and
    // day 0 of 1970 is day 719,468 counted from 0000-03-01.
    let day = days + 719_468;
    let (era, day_of_era) = (day / 146_097, day % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March take 153 days for each five of them.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (ms_of_day / 3_600_000, ms_of_day / 60_000 % 60);
    let (second, ms) = (ms_of_day / 1_000 % 60, ms_of_day % 1_000);
    format!("{year:04}-{month:02}-{day_of_month:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(message: &str) -> Line {
        let mut fields = Map::new();
        fields.insert("spans".to_owned(), Value::from(3));
        Line {
            unix_ms: 1_700_000_000_123,
            level: "warn",
            caller: Some(caller("engine/src/receiver/otlp.rs", Some(12))),
            said: Said { message: message.to_owned(), fields },
        }
    }

    /// A log that writes nowhere, and what it would have written.
    fn recorded(json: bool, level: LogLevel, speak: impl FnOnce()) -> (Vec<String>, Logs) {
        recorded_with(LogSettings { json, level, ..settings() }, speak)
    }

    fn settings() -> LogSettings {
        LogSettings {
            level: LogLevel::Info,
            json: false,
            caller: true,
            sampling: Some(LogSampling::default()),
            fields: Vec::new(),
            outputs: vec![LogOutput::Stderr],
        }
    }

    fn recorded_with(settings: LogSettings, speak: impl FnOnce()) -> (Vec<String>, Logs) {
        let (lines, waiting) = sync_channel(64);
        let counts = Arc::default();
        let logs = Logs { counts, lines };
        let subscriber = LogSubscriber::new(settings, logs.clone());
        tracing::subscriber::with_default(subscriber, speak);
        let written = waiting.try_iter().map(|message| match message {
            Message::Line(line) => line,
            Message::Flush(_) => "flush".to_owned(),
        });
        (written.collect(), logs)
    }

    #[test]
    fn a_console_line_is_tab_separated_like_the_collectors() {
        assert_eq!(
            line("queue full").console(),
            "2023-11-14T22:13:20.123Z\twarn\treceiver/otlp.rs:12\tqueue full\t{\"spans\":3}\n"
        );
    }

    #[test]
    fn a_json_line_has_the_collectors_keys() {
        let value: Value = serde_json::from_str(&line("queue \"full\"").json()).unwrap();
        assert_eq!(value["level"], "warn");
        assert_eq!(value["ts"], "2023-11-14T22:13:20.123Z");
        assert_eq!(value["caller"], "receiver/otlp.rs:12");
        assert_eq!(value["msg"], "queue \"full\"");
        assert_eq!(value["spans"], 3);
    }

    #[test]
    fn a_message_from_a_peer_cannot_forge_a_second_line() {
        let text = line("bad\n2023\tinfo\x1b[2J").console();
        assert_eq!(text.matches('\n').count(), 1);
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn events_below_the_level_and_from_libraries_are_not_shown() {
        let (lines, _) = recorded(false, LogLevel::Info, || {
            tracing::debug!(target: "engine::receiver", "too quiet");
            tracing::info!(target: "h2::codec", "a library's own business");
            tracing::info!(target: "engine::receiver", port = 4317u64, "listening");
            tracing::warn!(target: "h2::codec", "a library's worry");
        });
        assert_eq!(lines.len(), 2);
        assert!(lines[0].ends_with("listening\t{\"port\":4317}\n"));
        assert!(lines[1].contains("a library's worry"));
    }

    #[test]
    fn equal_messages_are_written_ten_times_then_each_hundredth_and_counted() {
        let (lines, logs) = recorded(false, LogLevel::Info, || {
            for attempt in 0..210u64 {
                tracing::warn!(target: "engine::exporter", attempt, "backend does not answer");
            }
        });
        assert_eq!(lines.len(), 12);
        assert_eq!(logs.suppressed(), 198);
    }

    #[test]
    fn sampling_is_as_configured_or_off() {
        let lines = |sampling| {
            let speak = || (0..20u64).for_each(|attempt| tracing::warn!(target: "engine::exporter", attempt, "again"));
            recorded_with(LogSettings { sampling, ..settings() }, speak).0.len()
        };
        let second_ns = 1_000_000_000;
        assert_eq!(lines(Some(LogSampling { tick_ns: 100 * second_ns, initial: 2, thereafter: 6 })), 2 + 3);
        assert_eq!(lines(Some(LogSampling { tick_ns: 100 * second_ns, initial: 2, thereafter: 0 })), 2);
        assert_eq!(lines(None), 20);
    }

    #[test]
    fn initial_fields_are_on_every_line_and_the_callers_place_can_be_left_out() {
        let fields = vec![("cluster".to_owned(), Value::from("eu")), ("port".to_owned(), Value::from(1))];
        let speak = || tracing::info!(target: "engine::receiver", port = 4317u64, "listening");
        let (lines, _) = recorded_with(LogSettings { caller: false, fields, ..settings() }, speak);
        assert!(lines[0].ends_with("Z\tinfo\tlistening\t{\"cluster\":\"eu\",\"port\":4317}\n"), "{lines:?}");
    }

    #[test]
    fn lines_go_to_every_output_and_a_file_that_cannot_be_opened_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.log");
        std::fs::write(&path, "before\n").unwrap();
        let open = |path: &std::path::Path| Output::open(&LogOutput::File(path.to_owned()));
        let (lines, waiting) = sync_channel(2);
        lines.send(Message::Line("a line\n".to_owned())).unwrap();
        drop(lines);
        write_lines(&waiting, vec![open(&path).unwrap(), open(&path).unwrap()]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "before\na line\na line\n");
        let error = open(&folder.path().join("missing/gateway.log")).err().unwrap();
        assert!(error.contains("missing/gateway.log") && error.contains("output_paths"), "{error}");
    }

    #[test]
    fn the_next_tick_starts_counting_again() {
        let repetition = Repetition::new(LogSampling::default());
        let admitted = |now_s| {
            let admits = |_: &u32| repetition.admits(Level::WARN, "again", Duration::from_secs(now_s));
            (0..50).filter(admits).count()
        };
        assert_eq!(admitted(0), 10);
        assert_eq!(admitted(9), 0);
        assert_eq!(admitted(10), 10);
    }

    #[test]
    fn a_full_channel_loses_lines_without_waiting_and_counts_them() {
        let (_, logs) = recorded(true, LogLevel::Info, || {
            for number in 0..70 {
                tracing::error!(target: "engine::shard", "message number {number}");
            }
        });
        assert_eq!(logs.lost(), 6, "64 fit");
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let (lines, _) = recorded(false, LogLevel::Info, || {
            tracing::error!(target: "engine::shard", text = "é".repeat(9000).as_str(), "long");
        });
        assert!(lines[0].len() < TEXT_BYTES_MAX + 200);
    }

    #[test]
    fn timestamps_agree_with_the_calendar() {
        for (unix_s, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(timestamp(unix_s * 1000), text);
        }
    }
}
