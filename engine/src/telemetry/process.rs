//! What the kernel says about this process, read from `/proc` at each scrape.
//!
//! Parsers are pure; [`read`] is the one place that reads. A kernel without `/proc` shows no process metrics and
//! changes nothing else.

use std::fs;

use super::cells::Metric;
use super::metrics;

/// One reading.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessValues {
    /// Seconds of CPU, user and system.
    pub cpu_seconds: f64,
    /// Start in seconds since 1970.
    pub start_time_seconds: f64,
    /// Seconds since the start.
    pub uptime_seconds: f64,
    /// Resident bytes.
    pub resident_bytes: u64,
    /// Resident bytes that belong to no file: heap and stacks.
    pub anonymous_bytes: u64,
    /// Address space reserved for data, touched or not.
    pub reserved_bytes: u64,
    /// Bytes of pages the kernel handed out since the start (minor faults).
    pub faulted_bytes: u64,
}

/// What `/proc` counts in, which depends on the machine.
#[derive(Clone, Copy, Debug)]
struct Units {
    ticks_per_second: u64,
    page_bytes: u64,
}

/// Reads the current values of this process; `None` where `/proc` is missing or not as expected.
pub fn read() -> Option<ProcessValues> {
    let file = |path: &str| fs::read_to_string(path).ok();
    let units = Units {
        ticks_per_second: rustix::param::clock_ticks_per_second(),
        page_bytes: rustix::param::page_size() as u64,
    };
    let texts = ProcTexts {
        stat: &file("/proc/self/stat")?,
        status: &file("/proc/self/status")?,
        system_stat: &file("/proc/stat")?,
        system_uptime: &file("/proc/uptime")?,
    };
    parse(&texts, units)
}

impl ProcessValues {
    /// The values as metrics, in the order they are shown.
    pub fn samples(&self) -> [(&'static Metric, f64); 9] {
        [
            (&metrics::PROCESS_CPU_SECONDS, self.cpu_seconds),
            (&metrics::PROCESS_MEMORY_RSS, self.resident_bytes as f64),
            (&metrics::PROCESS_RUNTIME_HEAP_ALLOC, self.anonymous_bytes as f64),
            (&metrics::PROCESS_RUNTIME_TOTAL_ALLOC, self.faulted_bytes as f64),
            (&metrics::PROCESS_RUNTIME_TOTAL_SYS, self.reserved_bytes as f64),
            (&metrics::PROCESS_UPTIME, self.uptime_seconds),
            (&metrics::PROMETHEUS_CPU_SECONDS, self.cpu_seconds),
            (&metrics::PROMETHEUS_RESIDENT_MEMORY, self.resident_bytes as f64),
            (&metrics::PROMETHEUS_START_TIME, self.start_time_seconds),
        ]
    }
}

struct ProcTexts<'a> {
    stat: &'a str,
    status: &'a str,
    system_stat: &'a str,
    system_uptime: &'a str,
}

fn parse(texts: &ProcTexts<'_>, units: Units) -> Option<ProcessValues> {
    let stat = parse_stat(texts.stat)?;
    let seconds = |ticks: u64| ticks as f64 / units.ticks_per_second as f64;
    let boot_seconds = parse_boot_seconds(texts.system_stat)? as f64;
    let since_boot: f64 = texts.system_uptime.split_ascii_whitespace().next()?.parse().ok()?;
    let started = seconds(stat.start_ticks);
    Some(ProcessValues {
        cpu_seconds: seconds(stat.user_ticks + stat.system_ticks),
        start_time_seconds: boot_seconds + started,
        uptime_seconds: (since_boot - started).max(0.0),
        resident_bytes: parse_status_bytes(texts.status, "VmRSS")?,
        anonymous_bytes: parse_status_bytes(texts.status, "RssAnon")?,
        reserved_bytes: parse_status_bytes(texts.status, "VmData")?,
        faulted_bytes: stat.minor_faults * units.page_bytes,
    })
}

/// Fields of `/proc/PID/stat` (proc_pid_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    minor_faults: u64,
    user_ticks: u64,
    system_ticks: u64,
    start_ticks: u64,
}

/// The command in field 2 may hold spaces and parentheses, so counting starts after the last closing one.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, after_command) = text.rsplit_once(')')?;
    let fields: Vec<&str> = after_command.split_ascii_whitespace().collect();
    const FIRST_FIELD: usize = 3;
    let field = |number: usize| fields.get(number - FIRST_FIELD)?.parse().ok();
    Some(Stat { minor_faults: field(10)?, user_ticks: field(14)?, system_ticks: field(15)?, start_ticks: field(22)? })
}

/// `Name:   123 kB` of `/proc/PID/status` in bytes.
fn parse_status_bytes(text: &str, name: &str) -> Option<u64> {
    let mut values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kibibytes: u64 = values.next()?.trim().strip_suffix(" kB")?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// `btime` of `/proc/stat`: boot in seconds since 1970.
fn parse_boot_seconds(text: &str) -> Option<u64> {
    let mut values = text.lines().filter_map(|line| line.strip_prefix("btime "));
    values.next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "4211 (trace) gate) S 1 4211 4211 0 -1 4194560 1500 0 3 0 250 50 0 0 20 0 5 0 90000 1 2 3 4";
    const STATUS: &str = "Name:\ttracegate\nVmData:\t  409600 kB\nVmRSS:\t   20480 kB\nRssAnon:\t   10240 kB\n";
    const SYSTEM_STAT: &str = "cpu  1 2 3\nbtime 1700000000\nprocesses 5\n";
    const UNITS: Units = Units { ticks_per_second: 100, page_bytes: 4096 };

    fn texts() -> ProcTexts<'static> {
        ProcTexts { stat: STAT, status: STATUS, system_stat: SYSTEM_STAT, system_uptime: "960.50 1800.00\n" }
    }

    #[test]
    fn a_process_with_an_odd_name_is_read_completely() {
        let values = parse(&texts(), UNITS).unwrap();
        assert_eq!(
            values,
            ProcessValues {
                cpu_seconds: 3.0,
                start_time_seconds: 1_700_000_900.0,
                uptime_seconds: 60.5,
                resident_bytes: 20 << 20,
                anonymous_bytes: 10 << 20,
                reserved_bytes: 400 << 20,
                faulted_bytes: 1500 * 4096,
            }
        );
    }

    #[test]
    fn text_cut_anywhere_gives_nothing_or_a_value_but_never_a_panic() {
        for end in 0..STAT.len() {
            let cut = ProcTexts { stat: &STAT[..end], ..texts() };
            let _ = parse(&cut, UNITS);
        }
        for end in 0..STATUS.trim_end().len() {
            let cut = ProcTexts { status: &STATUS[..end], ..texts() };
            assert_eq!(parse(&cut, UNITS), None, "{end}");
        }
    }

    #[test]
    fn this_process_has_memory_and_a_start() {
        let values = read().expect("tests run on Linux");
        assert!(values.resident_bytes > 0);
        assert!(values.start_time_seconds > 1.7e9);
        assert!(values.uptime_seconds < 86_400.0);
    }
}
