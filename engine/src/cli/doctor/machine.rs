//! What the kernel and the container give a gateway with this configuration.
//!
//! The idea: [`Facts::read`] reads everything once, [`examine`] is pure, so that each container platform that somebody
//! meets is a test. Nothing here changes a limit.

use std::time::{SystemTime, UNIX_EPOCH};

use super::finding::{Finding, Level};
use crate::config::checked::{EngineSettings, RuntimeChoice};
use crate::shard::{placement, runtime};

/// The oldest kernel that the io_uring runtime works on.
const KERNEL_MIN: (u32, u32) = (5, 8);
/// Locked memory of the first ring, and of each shard where there are many: 64 shards were fine with 8 MiB, and 16 were
/// not with 512 KiB.
const MEMLOCK_BYTES_MIN: u64 = 512 << 10;
const MEMLOCK_SHARD_BYTES: u64 = 128 << 10;
/// Open files with which a gateway is not worth starting, and with which a thousand senders have room.
const OPEN_FILES_MIN: u64 = 256;
const OPEN_FILES_ENOUGH: u64 = 4096;
/// Share of the memory that the limit may be: code, stacks and kernel buffers need the rest.
const MEMORY_SHARE_MAX: f64 = 0.9;
/// 2024-01-01: no certificate of today was valid then, and spans with such times are thrown away by backends.
const UNIX_SECONDS_MIN: u64 = 1_704_067_200;
/// Clock sources that are read without asking the kernel or a slow device.
const FAST_CLOCKS: [&str; 5] =
    ["tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page", "riscv_clocksource"];

/// A limit of the process: what holds, and how far it may be raised. `u64::MAX`: none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessLimit {
    soft: u64,
    hard: u64,
}

/// What was read.
#[derive(Clone, Debug)]
pub struct Facts {
    /// `6.1.0-18-amd64`.
    kernel: String,
    /// What setting up a ring as a shard does said.
    io_uring: Result<(), String>,
    /// `kernel.io_uring_disabled`, where the kernel has it.
    io_uring_disabled: Option<u8>,
    /// `Seccomp:` of this process: 2 is a filter.
    seccomp: Option<u8>,
    memlock: Option<ProcessLimit>,
    open_files: Option<ProcessLimit>,
    clock_source: Option<String>,
    unix_seconds: u64,
    machine: placement::Machine,
}

impl Facts {
    /// Reads them. What cannot be read is left out of the findings.
    pub fn read() -> Facts {
        let file = |path: &str| std::fs::read_to_string(path).ok();
        let trimmed = |path: &str| file(path).map(|text| text.trim().to_owned());
        let limits = file("/proc/self/limits").unwrap_or_default();
        Facts {
            kernel: trimmed("/proc/sys/kernel/osrelease").unwrap_or_default(),
            io_uring: runtime::probe_io_uring(),
            io_uring_disabled: trimmed("/proc/sys/kernel/io_uring_disabled").and_then(|text| text.parse().ok()),
            seccomp: file("/proc/self/status").and_then(|status| seccomp(&status)),
            memlock: limit(&limits, "Max locked memory"),
            open_files: limit(&limits, "Max open files"),
            clock_source: trimmed("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            unix_seconds: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            machine: placement::Machine::read(),
        }
    }

    /// Memory that the process may use, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.machine.memory_bytes()
    }
}

/// `Seccomp:` of `/proc/PID/status` (proc_pid_status(5)).
fn seccomp(status: &str) -> Option<u8> {
    status.lines().find_map(|line| line.strip_prefix("Seccomp:")).and_then(|mode| mode.trim().parse().ok())
}

/// A row of `/proc/PID/limits`: name, soft, hard, unit (proc_pid_limits(5)).
fn limit(limits: &str, name: &str) -> Option<ProcessLimit> {
    let row = limits.lines().find_map(|line| line.strip_prefix(name))?;
    let mut values = row.split_ascii_whitespace().map(|word| match word {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    });
    Some(ProcessLimit { soft: values.next()??, hard: values.next()?? })
}

/// Everything about the machine, for these settings. `budget` is the memory limit in bytes and the setting it is from.
pub fn examine(facts: &Facts, engine: &EngineSettings, budget: (u64, &str)) -> Vec<Finding> {
    let mut findings = vec![kernel(facts, engine.runtime), io_uring(facts, engine.runtime)];
    let shards = cores(&facts.machine, engine, &mut findings);
    findings.extend(memlock(facts, engine.runtime, shards));
    findings.extend(facts.open_files.map(open_files));
    findings.push(memory(facts.memory_bytes(), budget));
    findings.push(clock(facts));
    findings
}

/// What lacking io_uring means: with `auto` epoll runs instead.
fn without_io_uring(choice: RuntimeChoice) -> Level {
    match choice {
        RuntimeChoice::IoUring => Level::Problem,
        RuntimeChoice::Auto => Level::Warning,
        RuntimeChoice::Epoll => Level::Ok,
    }
}

fn kernel(facts: &Facts, choice: RuntimeChoice) -> Finding {
    let mut numbers = facts.kernel.split(['.', '-', '+']).map_while(|number| number.parse::<u32>().ok());
    let version = numbers.next().zip(numbers.next());
    let (major, minor) = KERNEL_MIN;
    match version {
        Some(version) if version < KERNEL_MIN && choice != RuntimeChoice::Epoll => Finding::new(
            without_io_uring(choice),
            "kernel",
            [
                format!("Linux {major}.{minor} or newer, for io_uring"),
                facts.kernel.clone(),
                "a newer kernel, or service.engine.runtime: epoll".to_owned(),
            ],
        ),
        _ => Finding::ok("kernel", &facts.kernel),
    }
}

fn io_uring(facts: &Facts, choice: RuntimeChoice) -> Finding {
    let why = match &facts.io_uring {
        Ok(()) => {
            let filter = if facts.seccomp == Some(2) { " through this container's seccomp filter" } else { "" };
            return Finding::ok("io_uring", format!("a ring can be set up{filter}"));
        }
        Err(why) => why.clone(),
    };
    if choice == RuntimeChoice::Epoll {
        return Finding::ok("io_uring", "not allowed here, and not asked for: service.engine.runtime is epoll");
    }
    let remedy = match (facts.io_uring_disabled, facts.seccomp) {
        (Some(disabled @ 1..), _) => {
            format!("kernel.io_uring_disabled is {disabled}: `sysctl kernel.io_uring_disabled=0` on the node")
        }
        (_, Some(2)) => "a seccomp filter is on: allow io_uring_setup, io_uring_enter and io_uring_register in it \
             (securityContext.seccompProfile, docker --security-opt seccomp=FILE)"
            .to_owned(),
        _ => "raise the limit of locked memory (`ulimit -l`, LimitMEMLOCK=), or take a newer kernel".to_owned(),
    };
    let instead = match choice {
        RuntimeChoice::Auto => "; until then epoll runs, which works too",
        RuntimeChoice::IoUring | RuntimeChoice::Epoll => "; or service.engine.runtime: auto",
    };
    let expected = "a ring can be set up".to_owned();
    Finding::new(without_io_uring(choice), "io_uring", [expected, why, format!("{remedy}{instead}")])
}

fn memlock(facts: &Facts, choice: RuntimeChoice, shards: usize) -> Option<Finding> {
    let limit = facts.memlock.filter(|_| choice != RuntimeChoice::Epoll)?;
    let wanted = MEMLOCK_BYTES_MIN.max(shards as u64 * MEMLOCK_SHARD_BYTES);
    if limit.soft >= wanted {
        return Some(Finding::ok("locked memory", shown(limit.soft)));
    }
    let remedy = match limit.hard >= wanted {
        true => format!("`ulimit -l {}` before the start", wanted >> 10),
        false => "LimitMEMLOCK=infinity (systemd), --ulimit memlock=-1 (docker); root and CAP_IPC_LOCK are not bound \
                  by it"
            .to_owned(),
    };
    let expected = format!("{} for the rings of {shards} shards", shown(wanted));
    Some(Finding::new(Level::Warning, "locked memory", [expected, shown(limit.soft), remedy]))
}

/// Says how shards would run, and returns how many.
fn cores(machine: &placement::Machine, engine: &EngineSettings, findings: &mut Vec<Finding>) -> usize {
    let plan = match placement::plan(machine, engine) {
        Ok(plan) => plan,
        Err(impossible) => {
            let said = ["cores that this process may run on".to_owned(), impossible.to_string()];
            let [expected, found] = said;
            let remedy = "correct service.engine.cores and pin, or give the container these cores".to_owned();
            findings.push(Finding::new(Level::Problem, "cores", [expected, found, remedy]));
            return 1;
        }
    };
    let given = machine.quota.unwrap_or(f64::INFINITY).min(machine.allowed.len() as f64);
    if plan.shards as f64 > given.max(1.0) {
        let expected = format!("at most {} shards", given.max(1.0).floor());
        let found = format!("{} shards on {given} CPUs: all of them wait when one is throttled", plan.shards);
        let remedy = "service.engine.cores: auto, or a larger CPU limit".to_owned();
        findings.push(Finding::new(Level::Warning, "cores", [expected, found, remedy]));
    } else if given.is_finite() && given.fract() > 0.0 {
        let found = format!("a quota of {given} CPUs: {}", plan.why);
        let remedy = format!(
            "resources.limits.cpu: {} or {}; a part of a core cannot have a shard",
            given.floor().max(1.0),
            given.ceil()
        );
        findings.push(Finding::new(Level::Warning, "cores", ["whole CPUs".to_owned(), found, remedy]));
    } else {
        findings.push(Finding::ok("cores", &plan.why));
    }
    plan.shards
}

fn open_files(limit: ProcessLimit) -> Finding {
    let level = match limit.soft {
        ..OPEN_FILES_MIN => Level::Problem,
        OPEN_FILES_MIN..OPEN_FILES_ENOUGH => Level::Warning,
        OPEN_FILES_ENOUGH.. => return Finding::ok("open files", count(limit.soft)),
    };
    let remedy = match limit.hard >= OPEN_FILES_ENOUGH {
        true => format!("`ulimit -n {}` before the start, or LimitNOFILE= (systemd)", limit.hard.min(1 << 16)),
        false => "LimitNOFILE=65536 (systemd), --ulimit nofile=65536 (docker)".to_owned(),
    };
    let expected = format!("{OPEN_FILES_ENOUGH}: each connection is one");
    Finding::new(level, "open files", [expected, count(limit.soft), remedy])
}

fn memory(memory_bytes: u64, (limit_bytes, setting): (u64, &str)) -> Finding {
    let share = limit_bytes as f64 / memory_bytes.max(1) as f64;
    let found = format!(
        "a limit of {} ({setting}), {:.0} % of the {} that this process may use",
        shown(limit_bytes),
        share * 100.0,
        shown(memory_bytes)
    );
    let level = match share {
        ..=MEMORY_SHARE_MAX => return Finding::ok("memory", found),
        ..=1.0 => Level::Warning,
        _ => Level::Problem,
    };
    let expected =
        format!("at most {:.0} %, so that the gateway refuses before the kernel kills it", MEMORY_SHARE_MAX * 100.0);
    let most = (memory_bytes as f64 * MEMORY_SHARE_MAX) as u64 >> 20;
    let remedy =
        format!("a limit of at most {most} MiB (limit_mib, memory_limit_mib), or more memory for the container");
    Finding::new(level, "memory", [expected, found, remedy])
}

fn clock(facts: &Facts) -> Finding {
    if facts.unix_seconds < UNIX_SECONDS_MIN {
        let found = format!("{} seconds since 1970", facts.unix_seconds);
        let remedy = "set the clock (chrony, systemd-timesyncd)".to_owned();
        return Finding::new(Level::Problem, "clock", ["a time after 2024".to_owned(), found, remedy]);
    }
    match &facts.clock_source {
        Some(source) if !FAST_CLOCKS.contains(&source.as_str()) => Finding::new(
            Level::Warning,
            "clock",
            [
                format!("one that is read quickly: {}", FAST_CLOCKS[..3].join(", ")),
                source.clone(),
                "`echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource`, if the machine has it"
                    .to_owned(),
            ],
        ),
        Some(source) => Finding::ok("clock", source),
        None => Finding::ok("clock", "set"),
    }
}

fn count(limit: u64) -> String {
    if limit == u64::MAX { "unlimited".to_owned() } else { limit.to_string() }
}

fn shown(bytes: u64) -> String {
    match bytes {
        u64::MAX => "unlimited".to_owned(),
        0..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::checked::{Cores, Pin};

    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
        Max open files            1024                 524288               files     \n\
        Max locked memory         unlimited            unlimited            bytes     \n";

    fn facts() -> Facts {
        Facts {
            kernel: "6.1.0-18-amd64".into(),
            io_uring: Ok(()),
            io_uring_disabled: Some(0),
            seccomp: Some(0),
            memlock: Some(ProcessLimit { soft: 8 << 20, hard: 8 << 20 }),
            open_files: Some(ProcessLimit { soft: 65_536, hard: 65_536 }),
            clock_source: Some("tsc".into()),
            unix_seconds: UNIX_SECONDS_MIN,
            machine: placement::Machine {
                online: vec![0, 1, 2, 3],
                allowed: vec![0, 1, 2, 3],
                quota: None,
                cpuset_exclusive: false,
                memory_limit_bytes: Some(2 << 30),
                memory_total_bytes: 8 << 30,
            },
        }
    }

    fn settings(runtime: RuntimeChoice) -> EngineSettings {
        let (cores, pin) = (Cores::Auto, Pin::Auto);
        EngineSettings {
            cores,
            pin,
            runtime,
            memory_limit_bytes: None,
            fair_share: crate::config::checked::FairShare::Off,
            shutdown_timeout_ns: 0,
            watches_files: true,
        }
    }

    /// The one finding that is not fine.
    fn check(facts: &Facts, runtime: RuntimeChoice, place: &str, level: Level, words: &str) {
        let findings = examine(facts, &settings(runtime), (1 << 30, "limit_mib"));
        let bad: Vec<&Finding> = findings.iter().filter(|finding| finding.level != Level::Ok).collect();
        let [finding] = bad[..] else { panic!("{findings:#?}") };
        assert_eq!((finding.place.as_str(), finding.level), (place, level));
        assert!(format!("{finding:?}").contains(words), "{finding:?}");
        assert!(!finding.remedy.is_empty());
    }

    #[test]
    fn a_machine_that_has_everything_is_fine() {
        let findings = examine(&facts(), &settings(RuntimeChoice::IoUring), (1 << 30, "limit_mib"));
        assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:#?}");
        assert_eq!(findings.len(), 7);
    }

    #[test]
    fn io_uring_that_is_not_allowed_names_who_forbids_it() {
        let denied = Facts { io_uring: Err("not permitted".into()), ..facts() };
        let filtered = Facts { seccomp: Some(2), ..denied.clone() };
        let disabled = Facts { io_uring_disabled: Some(2), ..filtered.clone() };
        check(&filtered, RuntimeChoice::Auto, "io_uring", Level::Warning, "seccompProfile");
        check(&filtered, RuntimeChoice::IoUring, "io_uring", Level::Problem, "seccompProfile");
        check(&disabled, RuntimeChoice::Auto, "io_uring", Level::Warning, "sysctl kernel.io_uring_disabled=0");
        check(&denied, RuntimeChoice::Auto, "io_uring", Level::Warning, "ulimit -l");
        let asked = examine(&denied, &settings(RuntimeChoice::Epoll), (1 << 30, "limit_mib"));
        assert!(asked.iter().all(|finding| finding.level == Level::Ok), "{asked:#?}");
    }

    #[test]
    fn low_limits_say_how_to_raise_them() {
        let low = |limit| Some(ProcessLimit { soft: limit, hard: 1 << 20 });
        check(
            &Facts { memlock: low(65_536), ..facts() },
            RuntimeChoice::Auto,
            "locked memory",
            Level::Warning,
            "ulimit -l 512",
        );
        check(
            &Facts { open_files: low(1024), ..facts() },
            RuntimeChoice::Auto,
            "open files",
            Level::Warning,
            "ulimit -n",
        );
        check(
            &Facts { open_files: low(64), ..facts() },
            RuntimeChoice::Auto,
            "open files",
            Level::Problem,
            "ulimit -n",
        );
    }

    #[test]
    fn a_memory_limit_that_the_container_does_not_have_is_a_problem() {
        for (memory_bytes, level) in [(1 << 29, Level::Problem), ((1 << 30) + (1 << 26), Level::Warning)] {
            let mut facts = facts();
            facts.machine.memory_limit_bytes = Some(memory_bytes);
            check(&facts, RuntimeChoice::Auto, "memory", level, "at most");
        }
    }

    #[test]
    fn a_part_of_a_core_and_more_shards_than_cores_are_said() {
        let mut facts = facts();
        facts.machine.quota = Some(2.5);
        check(&facts, RuntimeChoice::Auto, "cores", Level::Warning, "resources.limits.cpu: 2 or 3");
        let engine = EngineSettings { cores: Cores::Count(4), ..settings(RuntimeChoice::Auto) };
        let findings = examine(&facts, &engine, (1 << 30, "limit_mib"));
        assert!(findings.iter().any(|finding| finding.found.contains("4 shards on 2.5 CPUs")), "{findings:#?}");
        let engine = EngineSettings { cores: Cores::List(vec![9]), ..settings(RuntimeChoice::Auto) };
        let findings = examine(&facts, &engine, (1 << 30, "limit_mib"));
        assert!(findings.iter().any(|finding| finding.level == Level::Problem && finding.found.contains("core 9")));
    }

    #[test]
    fn old_kernels_and_bad_clocks_are_said() {
        let old = Facts { kernel: "4.18.0-553.el8".into(), ..facts() };
        check(&old, RuntimeChoice::Auto, "kernel", Level::Warning, "5.8");
        check(&Facts { unix_seconds: 5, ..facts() }, RuntimeChoice::Auto, "clock", Level::Problem, "5 seconds");
        let slow = Facts { clock_source: Some("hpet".into()), ..facts() };
        check(&slow, RuntimeChoice::Auto, "clock", Level::Warning, "hpet");
    }

    #[test]
    fn the_kernels_tables_are_read_and_cut_anywhere_without_a_panic() {
        assert_eq!(limit(LIMITS, "Max open files"), Some(ProcessLimit { soft: 1024, hard: 524_288 }));
        assert_eq!(limit(LIMITS, "Max locked memory"), Some(ProcessLimit { soft: u64::MAX, hard: u64::MAX }));
        for end in 0..LIMITS.len() {
            let _ = limit(&LIMITS[..end], "Max locked memory");
        }
        assert_eq!(seccomp("Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n"), Some(2));
        assert_eq!(seccomp("Seccomp:\tx\n"), None);
    }
}
