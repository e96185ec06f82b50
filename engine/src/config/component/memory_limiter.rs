//! `processors.memory_limiter`: the limits, in bytes.
//!
//! `check_interval` is not needed: bytes are counted as they come and go. Its keys for garbage collection are read and
//! mean nothing here.

use crate::config::checked::ProcessorKind;
use crate::config::section::{Field, Idle, Section};

/// Of the hard limit, unless a spike is given.
const SPIKE_DEFAULT_PERCENT: u64 = 20;
const MIB: u64 = 1 << 20;

/// Reads the settings; percentages are of `memory_bytes`.
pub(crate) fn check(field: &Field<'_>, memory_bytes: u64) -> Option<ProcessorKind> {
    let section = field.section()?;
    for key in [
        "check_interval",
        "min_gc_interval_when_soft_limited",
        "min_gc_interval_when_hard_limited",
        "max_gc_interval_when_soft_limited",
        "max_gc_interval_when_hard_limited",
    ] {
        section.duration_ns(key, 0);
    }
    let limit_mib = u64::from(section.u32("limit_mib", 0, 0));
    let spike_mib = u64::from(section.u32("spike_limit_mib", 0, 0));
    let limit_percent = percent(&section, "limit_percentage");
    let spike_percent = percent(&section, "spike_limit_percentage");
    if limit_mib == 0 && limit_percent == 0 {
        section.error(
            "no limit is given",
            "add `limit_mib`, or `limit_percentage` for a share of the machine's or container's memory",
        );
        return None;
    }
    let share = |percent: u64| memory_bytes / 100 * percent;
    let (limit_bytes, spike_bytes) = match limit_mib {
        0 => (share(limit_percent), share(spike_percent)),
        _ => (limit_mib * MIB, spike_mib * MIB),
    };
    if limit_bytes < MIB {
        section.error(format!("the limit is {limit_bytes} bytes"), "give at least 1 MiB");
        return None;
    }
    if spike_bytes >= limit_bytes {
        let key = if limit_mib == 0 { "spike_limit_percentage" } else { "spike_limit_mib" };
        let message = "the spike must be smaller than the limit, or everything is refused";
        let help = "lower it, or remove it: the default is 20 % of the limit";
        match section.field(key) {
            Some(field) => field.error(message, help),
            None => section.error(message, help),
        }
        return None;
    }
    if limit_mib > 0 {
        section.no_effect("limit_percentage", Idle::Zero, "remove it: `limit_mib` wins");
    }
    Some(ProcessorKind::MemoryLimiter {
        limit_bytes,
        spike_bytes: match spike_bytes {
            0 => limit_bytes / 100 * SPIKE_DEFAULT_PERCENT,
            spike => spike,
        },
    })
}

fn percent(section: &Section<'_>, key: &'static str) -> u64 {
    let percent = section.field(key).and_then(|field| field.int(0..=100));
    percent.map_or(0, |percent| u64::try_from(percent).expect("at most 100"))
}
