//! What a process used, from /proc, and which core a thread runs on.

use std::io;

use rustix::thread::{CpuSet, sched_setaffinity};

/// CPU time and memory of a process since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ProcessUsage {
    /// User and system time of all its threads.
    pub(crate) cpu_seconds: f64,
    /// Resident now.
    pub(crate) rss_bytes: u64,
    /// Most ever resident.
    pub(crate) rss_bytes_max: u64,
}

/// Reads the usage of a process that still exists (a zombie has CPU time but no memory).
pub(crate) fn usage(pid: u32) -> io::Result<ProcessUsage> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let ticks = cpu_ticks(&stat).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat is not as expected")))?;
    Ok(ProcessUsage {
        cpu_seconds: ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
        rss_bytes: status_bytes(&status, "VmRSS:").unwrap_or(0),
        rss_bytes_max: status_bytes(&status, "VmHWM:").unwrap_or(0),
    })
}

/// CPU seconds of the calling thread: load and sink share one, and what it can do bounds every figure.
pub(crate) fn own_cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// CPU seconds, over all cores, that the hypervisor gave to someone else although this machine wanted them; 0 where
/// that is not known. Latencies and wall rates of a run with much of it are not those of the gateway.
pub(crate) fn stolen_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    stolen_ticks(&stat).unwrap_or(0) as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// Keeps the calling thread, and processes it starts from now on, on these cores.
pub(crate) fn pin_this_thread(cores: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    Ok(sched_setaffinity(None, &set)?)
}

/// Lets the calling thread run on every core again.
pub(crate) fn unpin_this_thread() -> io::Result<()> {
    let mut cores = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|core| cores.set(core));
    Ok(sched_setaffinity(None, &cores)?)
}

/// utime + stime: fields 14 and 15, counted after the command name, which may hold anything but ends with the last ')'.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// The eighth figure of the first line (proc_stat(5): steal).
fn stolen_ticks(stat: &str) -> Option<u64> {
    stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace().nth(7)?.parse().ok()
}

fn status_bytes(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_command_name() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 120 30 0 0 20";
        assert_eq!(cpu_ticks(stat), Some(150));
        assert_eq!(cpu_ticks("nonsense"), None);
    }

    #[test]
    fn stolen_time_is_the_eighth_figure_of_all_cores_together() {
        assert_eq!(stolen_ticks("cpu  1 2 3 4 5 6 7 80 9 10\ncpu0 1 2 3 4 5 6 7 40 9 10\n"), Some(80));
        assert_eq!(stolen_ticks("cpu0 1 2 3"), None);
    }

    #[test]
    fn this_process_has_memory() {
        let usage = usage(std::process::id()).unwrap();
        assert!(usage.rss_bytes > 0 && usage.rss_bytes_max >= usage.rss_bytes);
    }
}
