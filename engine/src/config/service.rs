//! `service.engine`, which is ours.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::checked::{Cores, EngineSettings, FairShare, Pin, RuntimeChoice};
use super::component::endpoint;
use super::scalar::Meaning;
use super::section::{Field, Section};

/// Below the 30 s after which Kubernetes kills.
const SHUTDOWN_TIMEOUT_NS: u64 = 25_000_000_000;
/// Where the admin pages are unless something else is said.
pub(crate) const ADMIN_PORT: u16 = 55679;
/// Rings grow with the square of it.
const SHARDS_MAX: usize = 256;
const CORE_NUMBER_MAX: usize = 4095;
const CORES_HELP: &str = "write `auto`, a number of shards such as `4`, or core numbers such as \"0-3,6\"";

const PIN: [(&str, Pin); 3] = [("auto", Pin::Auto), ("true", Pin::Always), ("false", Pin::Never)];
const RUNTIME: [(&str, RuntimeChoice); 3] =
    [("auto", RuntimeChoice::Auto), ("io_uring", RuntimeChoice::IoUring), ("epoll", RuntimeChoice::Epoll)];
const FAIR_SHARE: [(&str, FairShare); 3] =
    [("connection", FairShare::Connection), ("address", FairShare::Address), ("none", FairShare::Off)];

/// `127.0.0.1` and this port.
pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// Reads `service.engine`, and the admin address in it, which is `admin_default` unless it is written.
pub(crate) fn engine(service: &Section<'_>, admin_default: SocketAddr) -> (EngineSettings, Option<SocketAddr>) {
    let section = service.section_or_empty("engine");
    let cores = section.field("cores").and_then(|field| cores(&field));
    let memory_limit_mib = section.field("memory_limit_mib").and_then(|field| field.int(1..=u32::MAX.into()));
    let settings = EngineSettings {
        cores: cores.unwrap_or(Cores::Auto),
        pin: pin(&section),
        runtime: section.choice("runtime", &RUNTIME, RuntimeChoice::Auto),
        memory_limit_bytes: memory_limit_mib.map(|mib| u64::try_from(mib << 20).expect("the range says so")),
        fair_share: section.choice("fair_share", &FAIR_SHARE, FairShare::Connection),
        shutdown_timeout_ns: section.duration_ns("shutdown_timeout", SHUTDOWN_TIMEOUT_NS),
        watches_files: section.section_or_empty("reload").boolean("watch", true),
    };
    let admin = match section.field("admin").filter(|field| !field.node.is_null()) {
        None => Some(admin_default),
        Some(field) if matches!(field.meaning(), Some(Meaning::Text("none"))) => None,
        Some(field) => endpoint::listen_numeric(&field),
    };
    (settings, admin)
}

/// `auto`, or a boolean with or without quotes.
fn pin(section: &Section<'_>) -> Pin {
    match section.field("pin").and_then(|field| field.meaning()) {
        Some(Meaning::Bool(true)) => Pin::Always,
        Some(Meaning::Bool(false)) => Pin::Never,
        _ => section.choice("pin", &PIN, Pin::Auto),
    }
}

fn cores(field: &Field<'_>) -> Option<Cores> {
    let text = match field.meaning() {
        Some(Meaning::Null | Meaning::Text("auto")) => return Some(Cores::Auto),
        Some(Meaning::Int(_)) => return field.int(1..=SHARDS_MAX as i128).map(count),
        Some(Meaning::Text(text)) => text,
        _ => {
            field.expected("cores", CORES_HELP);
            return None;
        }
    };
    // A number in quotes is still a number of shards; one core by its number is written "6-6".
    if let Ok(number) = text.trim().parse::<usize>() {
        if (1..=SHARDS_MAX).contains(&number) {
            return Some(Cores::Count(number));
        }
        field.expected(&format!("from 1 to {SHARDS_MAX} shards"), CORES_HELP);
        return None;
    }
    match core_list(text) {
        Ok(list) => Some(Cores::List(list)),
        Err(problem) => {
            field.expected(&format!("cores ({problem})"), CORES_HELP);
            None
        }
    }
}

fn count(number: i128) -> Cores {
    Cores::Count(usize::try_from(number).expect("the range says so"))
}

/// Core numbers with commas and ranges, in order, without repeats.
fn core_list(text: &str) -> Result<Vec<usize>, &'static str> {
    let number = |text: &str| {
        let number: usize = text.trim().parse().map_err(|_| "a part is no core number")?;
        if number > CORE_NUMBER_MAX { Err("a core number is too large") } else { Ok(number) }
    };
    let mut list = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if last < first {
            return Err("a range ends before it starts");
        }
        for core in first..=last {
            if list.contains(&core) {
                return Err("a core is named twice");
            }
            list.push(core);
        }
        if list.len() > SHARDS_MAX {
            return Err("more than 256 cores");
        }
    }
    list.sort_unstable();
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_lists_have_ranges_and_no_repeats() {
        assert_eq!(core_list("0-3,6"), Ok(vec![0, 1, 2, 3, 6]));
        assert_eq!(core_list("6-6"), Ok(vec![6]));
        assert_eq!(core_list("5, 1"), Ok(vec![1, 5]));
        for wrong in ["", "a", "1-", "-1", "3-1", "1,1", "0-3,2", "0-4095", "5000", "1..3"] {
            assert!(core_list(wrong).is_err(), "{wrong}");
        }
    }
}
