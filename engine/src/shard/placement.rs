//! How many shards, on which cores, and how much memory the process may use.
//!
//! ```text
//! files of the kernel + affinity  --read-->  Machine  --plan(settings)-->  Plan, with its reason in words
//! ```
//!
//! The one idea: reading and deciding are apart. [`Machine`] says what the process was given, once, at start;
//! [`plan`] is a pure function of it and of `service.engine`, so every container platform is a test case.
//!
//! A thread is pinned only where nobody else is meant to run: two pods that share the cores of a node under a quota
//! would else pin to the same ones and leave others idle. Nothing here starts a thread or sets an affinity.

use std::path::{Path, PathBuf};

use crate::config::checked::{Cores, EngineSettings, Pin};

/// Most shards of a process: the mesh has a ring for each ordered pair of them.
pub const SHARDS_MAX: usize = 256;

/// What the kernel gives this process.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// Cores that are online, in ascending order.
    pub online: Vec<usize>,
    /// Cores that this process may run on (affinity, which the kernel keeps within the cpuset), in ascending order.
    pub allowed: Vec<usize>,
    /// CPU seconds per second that the cgroup may use: the smallest quota on the way to the root.
    pub quota: Option<f64>,
    /// Whether the kernel keeps others off the cores of our cpuset.
    pub cpuset_exclusive: bool,
    /// The smallest memory limit on the way to the root of the cgroups, in bytes.
    pub memory_limit_bytes: Option<u64>,
    /// Memory of the machine in bytes.
    pub memory_total_bytes: u64,
}

/// How the shards run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// At least 1, at most [`SHARDS_MAX`].
    pub shards: usize,
    /// The core of each shard, if they are pinned.
    pub cores: Option<Vec<usize>>,
    /// For the line at start: what decided the number, and why shards are pinned or not.
    pub why: String,
}

/// The settings ask for what this machine does not give.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Impossible {
    /// `cores` names some that are not ours.
    #[error("service.engine.cores names core {core}, but this process may only run on {allowed}")]
    CoreNotAllowed {
        /// The first such core.
        core: usize,
        /// The cores it may run on, as in `0-3,6`.
        allowed: String,
    },
    /// `pin: true` with more shards than cores.
    #[error("service.engine.pin is true, but {shards} shards cannot each have one of the cores {allowed}")]
    TooFewCores {
        /// Shards asked for.
        shards: usize,
        /// The cores it may run on, as in `0-3,6`.
        allowed: String,
    },
    /// More shards than a process can have.
    #[error("service.engine.cores asks for {shards} shards; a process has at most {SHARDS_MAX}")]
    TooManyShards {
        /// Shards asked for.
        shards: usize,
    },
}

impl Plan {
    /// Whether each shard has its core.
    pub fn is_pinned(&self) -> bool {
        self.cores.is_some()
    }
}

/// Decides how the shards run.
///
/// # Errors
/// The settings name cores, or pin to cores, that this process does not have.
pub fn plan(machine: &Machine, settings: &EngineSettings) -> Result<Plan, Impossible> {
    let (shards, counted_by) = count_shards(&settings.cores, machine)?;
    if shards > SHARDS_MAX {
        return Err(Impossible::TooManyShards { shards });
    }
    let named = match &settings.cores {
        Cores::List(cores) => Some(cores.clone()),
        Cores::Auto | Cores::Count(_) => None,
    };
    let first_allowed = || machine.allowed.get(..shards).map(<[usize]>::to_vec);
    let (cores, pinned_by) = match settings.pin {
        Pin::Never => (None, "not pinned: pin is false"),
        Pin::Always => match named.or_else(first_allowed) {
            None => return Err(Impossible::TooFewCores { shards, allowed: list(&machine.allowed) }),
            cores => (cores, "pinned: pin is true"),
        },
        Pin::Auto if named.is_some() => (named, "pinned: the cores are named"),
        Pin::Auto if !machine.has_cores_of_its_own() => (None, "not pinned: others may run on these cores"),
        Pin::Auto => match first_allowed() {
            None => (None, "not pinned: there are more shards than cores"),
            cores => (cores, "pinned: no one else runs on these cores"),
        },
    };
    let plural = if shards == 1 { "shard" } else { "shards" };
    Ok(Plan { shards, cores, why: format!("{shards} {plural} ({counted_by}), {pinned_by}") })
}

fn count_shards(cores: &Cores, machine: &Machine) -> Result<(usize, String), Impossible> {
    let allowed = machine.allowed.len().max(1);
    match cores {
        Cores::Count(count) => Ok(((*count).max(1), "cores is a number".to_owned())),
        Cores::List(cores) => {
            if let Some(&core) = cores.iter().find(|core| !machine.allowed.contains(core)) {
                return Err(Impossible::CoreNotAllowed { core, allowed: list(&machine.allowed) });
            }
            Ok((cores.len().max(1), format!("cores {}", list(cores))))
        }
        Cores::Auto => {
            // A quota of 2.5 makes 2 shards: a third would be throttled with the others, and all would wait for it.
            let whole = machine.quota.map_or(usize::MAX, |quota| (quota as usize).max(1));
            let automatic = whole.min(allowed).min(SHARDS_MAX);
            let why = match machine.quota {
                Some(quota) if whole < allowed => format!("the cgroup allows {quota} CPUs"),
                _ if allowed < machine.online.len() => format!("this process may use cores {}", list(&machine.allowed)),
                _ => format!("{allowed} cores are online"),
            };
            Ok((automatic, why))
        }
    }
}

impl Machine {
    /// Memory this process may use at most, in bytes: the cgroup's limit or what the machine has.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_limit_bytes.map_or(self.memory_total_bytes, |limit| limit.min(self.memory_total_bytes))
    }

    /// Whether pinning takes nothing from others: the kernel says so, or it looks like Kubernetes' static CPU manager,
    /// which marks nothing but gives a container part of the node's cores and a quota of exactly as many CPUs.
    fn has_cores_of_its_own(&self) -> bool {
        let is_part = self.allowed.len() < self.online.len();
        let quota_is_exact = self.quota == Some(self.allowed.len() as f64);
        is_part && (self.cpuset_exclusive || quota_is_exact)
    }

    /// Reads what the kernel gives this process. What cannot be read is taken as not limited.
    pub fn read() -> Machine {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let affinity = match rustix::thread::sched_getaffinity(None) {
            Ok(set) => (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect(),
            Err(_) => (0..count).collect(),
        };
        Machine::read_from(&|path| std::fs::read_to_string(path).ok(), affinity)
    }

    /// As [`Machine::read`], from any set of files.
    fn read_from(file: &dyn Fn(&Path) -> Option<String>, affinity: Vec<usize>) -> Machine {
        let groups = Groups::find(file);
        let online = file(Path::new("/sys/devices/system/cpu/online")).and_then(|text| parse_list(&text));
        Machine {
            online: online.unwrap_or_else(|| affinity.clone()),
            quota: groups.quota(file),
            cpuset_exclusive: groups.cpuset_exclusive(file),
            memory_limit_bytes: groups.memory_limit_bytes(file),
            memory_total_bytes: memory_total_bytes(file).unwrap_or(u64::MAX),
            allowed: affinity,
        }
    }
}

fn memory_total_bytes(file: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
    let text = file(Path::new("/proc/meminfo"))?;
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    total.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The directories of our cgroup for each controller, innermost first, up to the mount. Version 2 has one for all.
#[derive(Debug, Default, PartialEq)]
struct Groups {
    unified: Vec<PathBuf>,
    cpu: Vec<PathBuf>,
    cpuset: Vec<PathBuf>,
    memory: Vec<PathBuf>,
}

impl Groups {
    fn find(file: &dyn Fn(&Path) -> Option<String>) -> Groups {
        let memberships = file(Path::new("/proc/self/cgroup")).unwrap_or_default();
        let mounts = file(Path::new("/proc/self/mountinfo")).unwrap_or_default();
        let mounts: Vec<Mount<'_>> = mounts.lines().filter_map(Mount::parse).collect();
        let chain = |controller: Option<&str>| {
            let path = memberships.lines().find_map(|line| membership(line, controller));
            let mount = mounts.iter().find(|mount| mount.serves(controller));
            path.zip(mount).map_or_else(Vec::new, |(path, mount)| mount.directories(path))
        };
        Groups {
            unified: chain(None),
            cpu: chain(Some("cpu")),
            cpuset: chain(Some("cpuset")),
            memory: chain(Some("memory")),
        }
    }

    fn quota(&self, file: &dyn Fn(&Path) -> Option<String>) -> Option<f64> {
        let unified = self.unified.iter().filter_map(|directory| {
            let text = file(&directory.join("cpu.max"))?;
            let (quota, period) = text.trim().split_once(' ')?;
            share(quota, period)
        });
        let legacy = self.cpu.iter().filter_map(|directory| {
            let quota = file(&directory.join("cpu.cfs_quota_us"))?;
            let period = file(&directory.join("cpu.cfs_period_us"))?;
            share(quota.trim(), period.trim())
        });
        unified.chain(legacy).min_by(f64::total_cmp)
    }

    fn cpuset_exclusive(&self, file: &dyn Fn(&Path) -> Option<String>) -> bool {
        let says = |directory: Option<&PathBuf>, name: &str, words: &[&str]| {
            let text = directory.and_then(|directory| file(&directory.join(name)));
            text.is_some_and(|text| words.contains(&text.trim()))
        };
        says(self.unified.first(), "cpuset.cpus.partition", &["root", "isolated"])
            || says(self.cpuset.first(), "cpuset.cpu_exclusive", &["1"])
    }

    fn memory_limit_bytes(&self, file: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
        let read = |directory: &PathBuf, name: &str| file(&directory.join(name))?.trim().parse::<u64>().ok();
        let unified = self.unified.iter().filter_map(|directory| read(directory, "memory.max"));
        let legacy = self.memory.iter().filter_map(|directory| read(directory, "memory.limit_in_bytes"));
        // Version 1 writes "no limit" as the largest multiple of a page.
        unified.chain(legacy).filter(|limit| *limit < 1 << 60).min()
    }
}

/// Quota over period; `max` (version 2) and -1 (version 1) are no quota.
fn share(quota: &str, period: &str) -> Option<f64> {
    let quota = quota.parse::<u64>().ok().filter(|quota| *quota > 0)?;
    let period = period.parse::<u64>().ok().filter(|period| *period > 0)?;
    Some(quota as f64 / period as f64)
}

/// Our path in the hierarchy of a controller (`None`: version 2), from a line `id:controllers:path`.
fn membership<'a>(line: &'a str, controller: Option<&str>) -> Option<&'a str> {
    let mut fields = line.splitn(3, ':');
    let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    let is_it = match controller {
        Some(controller) => controllers.split(',').any(|name| name == controller),
        None => controllers.is_empty(),
    };
    is_it.then_some(path)
}

/// A mount of a cgroup hierarchy.
#[derive(Debug)]
struct Mount<'a> {
    /// The part of the hierarchy that is mounted.
    root: &'a str,
    point: &'a str,
    is_unified: bool,
    options: &'a str,
}

impl<'a> Mount<'a> {
    /// From a line of mountinfo: `id parent device root point options [tags...] - type source super-options`.
    fn parse(line: &'a str) -> Option<Mount<'a>> {
        let (front, back) = line.split_once(" - ")?;
        let mut front = front.split(' ').skip(3);
        let (root, point) = (front.next()?, front.next()?);
        let mut back = back.split(' ');
        let is_unified = match back.next()? {
            "cgroup2" => true,
            "cgroup" => false,
            _ => return None,
        };
        Some(Mount { root, point, is_unified, options: back.nth(1).unwrap_or("") })
    }

    fn serves(&self, controller: Option<&str>) -> bool {
        match controller {
            Some(controller) => !self.is_unified && self.options.split(',').any(|option| option == controller),
            None => self.is_unified,
        }
    }

    /// The directory of our group and those above it, as far as they are mounted. In a container the path may be the
    /// host's while the mount shows only our own group: then that is the mount point itself.
    fn directories(&self, path: &str) -> Vec<PathBuf> {
        let below = Path::new(path).strip_prefix(self.root).unwrap_or(Path::new(""));
        let steps_up = below.components().any(|component| !matches!(component, std::path::Component::Normal(_)));
        let below = if steps_up { Path::new("") } else { below };
        below.ancestors().map(|ancestor| Path::new(self.point).join(ancestor)).collect()
    }
}

/// `0-3,6` as numbers in ascending order; bounded, because a range is only as long as the kernel's count of cores.
fn parse_list(text: &str) -> Option<Vec<usize>> {
    const CORES_MAX: usize = 1 << 16;
    let mut cores = Vec::new();
    for range in text.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        if first > last || last >= CORES_MAX {
            return None;
        }
        cores.extend(first..=last);
    }
    Some(cores)
}

/// Numbers as the kernel writes them: `0-3,6`.
fn list(cores: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &core in cores {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == core => *last = core,
            _ => ranges.push((core, core)),
        }
    }
    let write = |(first, last): &(usize, usize)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    ranges.iter().map(write).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::checked::RuntimeChoice;

    fn machine(online: usize, allowed: &str, quota: Option<f64>) -> Machine {
        Machine {
            online: (0..online).collect(),
            allowed: parse_list(allowed).unwrap(),
            quota,
            cpuset_exclusive: false,
            memory_limit_bytes: None,
            memory_total_bytes: 1 << 34,
        }
    }

    fn settings(cores: Cores, pin: Pin) -> EngineSettings {
        let runtime = RuntimeChoice::Auto;
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

    fn check(cores: Cores, pin: Pin, machine: &Machine, expected: (usize, Option<&str>, &str)) {
        let plan = plan(machine, &settings(cores, pin)).unwrap();
        let cores = plan.cores.as_deref().map(list);
        assert_eq!((plan.shards, cores.as_deref(), plan.why.as_str()), expected);
    }

    #[test]
    fn auto_takes_every_core_of_a_machine_of_its_own_and_does_not_pin() {
        let expected = (4, None, "4 shards (4 cores are online), not pinned: others may run on these cores");
        check(Cores::Auto, Pin::Auto, &machine(4, "0-3", None), expected);
    }

    #[test]
    fn two_pods_under_a_quota_are_not_pinned_to_the_same_core() {
        let expected = (2, None, "2 shards (the cgroup allows 2.5 CPUs), not pinned: others may run on these cores");
        check(Cores::Auto, Pin::Auto, &machine(8, "0-7", Some(2.5)), expected);
        let expected = (1, None, "1 shard (the cgroup allows 0.5 CPUs), not pinned: others may run on these cores");
        check(Cores::Auto, Pin::Auto, &machine(8, "0-7", Some(0.5)), expected);
    }

    #[test]
    fn an_exclusive_cpuset_is_pinned() {
        let own = Machine { cpuset_exclusive: true, ..machine(8, "2-4,7", None) };
        let expected =
            (4, Some("2-4,7"), "4 shards (this process may use cores 2-4,7), pinned: no one else runs on these cores");
        check(Cores::Auto, Pin::Auto, &own, expected);
        let static_manager = machine(8, "5-6", Some(2.0));
        let expected =
            (2, Some("5-6"), "2 shards (this process may use cores 5-6), pinned: no one else runs on these cores");
        check(Cores::Auto, Pin::Auto, &static_manager, expected);
    }

    #[test]
    fn the_shared_pool_of_a_node_is_not_pinned() {
        let expected =
            (6, None, "6 shards (this process may use cores 0-5), not pinned: others may run on these cores");
        check(Cores::Auto, Pin::Auto, &machine(8, "0-5", None), expected);
    }

    #[test]
    fn named_cores_are_pinned_in_their_order_unless_told_otherwise() {
        let named = || Cores::List(vec![3, 1]);
        let expected = (2, Some("3,1"), "2 shards (cores 3,1), pinned: the cores are named");
        check(named(), Pin::Auto, &machine(4, "0-3", None), expected);
        let expected = (2, None, "2 shards (cores 3,1), not pinned: pin is false");
        check(named(), Pin::Never, &machine(4, "0-3", None), expected);
    }

    #[test]
    fn a_number_of_shards_is_taken_as_it_is() {
        let machine = machine(2, "0-1", None);
        let expected = (4, None, "4 shards (cores is a number), not pinned: others may run on these cores");
        check(Cores::Count(4), Pin::Auto, &machine, expected);
        let expected = (1, Some("0"), "1 shard (cores is a number), pinned: pin is true");
        check(Cores::Count(1), Pin::Always, &machine, expected);
    }

    #[test]
    fn what_the_machine_does_not_have_is_named() {
        let machine = machine(4, "0-1", None);
        let error = |cores, pin| plan(&machine, &settings(cores, pin)).unwrap_err().to_string();
        assert_eq!(
            error(Cores::List(vec![1, 2]), Pin::Auto),
            "service.engine.cores names core 2, but this process may only run on 0-1"
        );
        assert_eq!(
            error(Cores::Count(3), Pin::Always),
            "service.engine.pin is true, but 3 shards cannot each have one of the cores 0-1"
        );
        assert_eq!(
            error(Cores::Count(257), Pin::Auto),
            "service.engine.cores asks for 257 shards; a process has at most 256"
        );
    }

    /// Files as `path: text` blocks; a text may have several lines, indented.
    fn read(files: &[(&str, &str)], affinity: &str) -> Machine {
        let file = |path: &Path| {
            let found = files.iter().find(|(name, _)| Path::new(name) == path);
            found.map(|(_, text)| (*text).to_owned())
        };
        Machine::read_from(&file, parse_list(affinity).unwrap())
    }

    const MEMINFO: (&str, &str) =
        ("/proc/meminfo", "MemTotal:       16384256 kB\nMemFree:         8123456 kB\nMemAvailable:   12345678 kB\n");
    const ONLINE: (&str, &str) = ("/sys/devices/system/cpu/online", "0-7\n");

    #[test]
    fn a_container_with_its_own_cgroup_namespace_on_version_2() {
        let machine = read(
            &[
                MEMINFO,
                ONLINE,
                ("/proc/self/cgroup", "0::/\n"),
                (
                    "/proc/self/mountinfo",
                    "1532 1441 0:146 / / rw,relatime - overlay overlay rw,lowerdir=/a\n\
                     1540 1535 0:29 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw,nsdelegate\n",
                ),
                ("/sys/fs/cgroup/cpu.max", "150000 100000\n"),
                ("/sys/fs/cgroup/memory.max", "2147483648\n"),
                ("/sys/fs/cgroup/cpuset.cpus.partition", "member\n"),
            ],
            "0-7",
        );
        assert_eq!((machine.quota, machine.memory_bytes()), (Some(1.5), 2 << 30));
        assert_eq!((machine.online.len(), machine.cpuset_exclusive), (8, false));
    }

    #[test]
    fn a_service_below_slices_gets_the_smallest_limit_on_the_way_up() {
        let machine = read(
            &[
                MEMINFO,
                ("/proc/self/cgroup", "0::/system.slice/tracegate.service\n"),
                ("/proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n"),
                ("/sys/fs/cgroup/system.slice/tracegate.service/cpu.max", "max 100000\n"),
                ("/sys/fs/cgroup/system.slice/cpu.max", "300000 100000\n"),
                ("/sys/fs/cgroup/system.slice/tracegate.service/memory.max", "max\n"),
                ("/sys/fs/cgroup/system.slice/memory.max", "1073741824\n"),
                ("/sys/fs/cgroup/system.slice/tracegate.service/cpuset.cpus.partition", "isolated\n"),
            ],
            "2-3",
        );
        assert_eq!((machine.quota, machine.memory_limit_bytes), (Some(3.0), Some(1 << 30)));
        assert_eq!((machine.online, machine.allowed, machine.cpuset_exclusive), (vec![2, 3], vec![2, 3], true));
    }

    #[test]
    fn a_container_on_version_1_that_sees_the_paths_of_its_host() {
        let mountinfo = "712 705 0:30 /docker/4f2c /sys/fs/cgroup/cpu,cpuacct ro master:12 - cgroup cgroup rw,cpu,cpuacct\n\
                         713 705 0:31 /docker/4f2c /sys/fs/cgroup/memory ro master:13 - cgroup cgroup rw,memory\n\
                         714 705 0:32 /docker/4f2c /sys/fs/cgroup/cpuset ro master:14 - cgroup cgroup rw,cpuset\n";
        let cgroup = "12:cpuset:/docker/4f2c\n8:memory:/docker/4f2c\n4:cpu,cpuacct:/docker/4f2c\n1:name=systemd:/x\n";
        let machine = read(
            &[
                MEMINFO,
                ONLINE,
                ("/proc/self/cgroup", cgroup),
                ("/proc/self/mountinfo", mountinfo),
                ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "400000\n"),
                ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
                ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n"),
                ("/sys/fs/cgroup/cpuset/cpuset.cpu_exclusive", "0\n"),
            ],
            "0-7",
        );
        assert_eq!((machine.quota, machine.memory_bytes(), machine.cpuset_exclusive), (Some(4.0), 512 << 20, false));
    }

    #[test]
    fn no_limit_is_no_limit_in_every_spelling() {
        let machine = read(
            &[
                MEMINFO,
                ("/proc/self/cgroup", "4:cpu:/\n3:memory:/a\n0::/\n"),
                (
                    "/proc/self/mountinfo",
                    "1 0 0:1 / /c/cpu rw - cgroup none rw,cpu\n2 0 0:2 / /c/memory rw - cgroup none rw,memory\n\
                     3 0 0:3 / /c/unified rw - cgroup2 none rw\n",
                ),
                ("/c/cpu/cpu.cfs_quota_us", "-1\n"),
                ("/c/cpu/cpu.cfs_period_us", "100000\n"),
                ("/c/memory/a/memory.limit_in_bytes", "9223372036854771712\n"),
                ("/c/unified/cpu.max", "max 100000\n"),
            ],
            "0",
        );
        assert_eq!((machine.quota, machine.memory_limit_bytes), (None, None));
        assert_eq!(machine.memory_bytes(), 16_384_256 << 10);
    }

    #[test]
    fn files_that_are_missing_or_make_no_sense_limit_nothing() {
        let machine = read(&[("/proc/self/cgroup", "::\n0\n"), ("/proc/self/mountinfo", "- cgroup2\n")], "0-1");
        assert_eq!((machine.quota, machine.memory_limit_bytes, machine.allowed.len()), (None, None, 2));
    }

    #[test]
    fn the_real_machine_can_be_read() {
        let machine = Machine::read();
        assert!(!machine.allowed.is_empty());
        assert!(machine.memory_bytes() > 1 << 20);
        assert!(plan(&machine, &settings(Cores::Auto, Pin::Auto)).is_ok());
    }

    #[test]
    fn lists_of_cores_are_read_and_written_as_the_kernel_does() {
        for text in ["0", "0-3", "0-3,6", "1,3,5-7"] {
            assert_eq!(list(&parse_list(text).unwrap()), text);
        }
        for wrong in ["", "a", "3-1", "0-", "0-99999999999"] {
            assert_eq!(parse_list(wrong), None, "{wrong}");
        }
    }
}
