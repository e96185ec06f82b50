//! What goroutines are to a Collector, tasks are to a gateway: how many of each kind are under way, on each shard.
//!
//! Two forms of the same: text for people, as Go writes it with `debug=1`, and `profile.proto`.

use super::proto::{Line, Profile, Sample};
use crate::shard::runtime::tasks::TaskKind;
use std::collections::HashMap;
use std::fmt::Write;
use std::time::{Duration, SystemTime};

/// The tasks of each shard, in the order of the shards.
#[derive(Clone, Debug)]
pub struct Tasks(pub Vec<Vec<TaskKind>>);

impl Tasks {
    /// Kinds with their shard's number, those with the most tasks first.
    fn sorted(&self) -> Vec<(usize, &TaskKind)> {
        let shards = self.0.iter().enumerate();
        let kinds = shards.flat_map(|(shard, kinds)| kinds.iter().map(move |kind| (shard, kind)));
        let mut kinds: Vec<_> = kinds.filter(|(_, kind)| kind.live > 0).collect();
        kinds.sort_by(|(one_shard, one), (other_shard, other)| {
            other.live.cmp(&one.live).then(one_shard.cmp(other_shard)).then(one.name.cmp(&other.name))
        });
        kinds
    }

    /// For people, and for programs that read Go's text.
    pub fn text(&self) -> String {
        let kinds = self.sorted();
        let total: u64 = kinds.iter().map(|(_, kind)| kind.live).sum();
        let mut out = format!("goroutine profile: total {total}\n");
        for (shard, kinds) in self.0.iter().enumerate() {
            let live: u64 = kinds.iter().map(|kind| kind.live).sum();
            let _ = writeln!(out, "# shard {shard}: {live} tasks");
        }
        for (shard, kind) in kinds {
            let TaskKind { name, file, line, address, live, started } = kind;
            let _ = write!(
                out,
                "\n{live} @ {address:#x}\n# labels: {{\"shard\":\"{shard}\", \"started\":\"{started}\"}}\n\
                 #\t{address:#x}\t{name}\t{file}:{line}\n"
            );
        }
        out
    }

    /// For `go tool pprof`, as a file.
    pub fn encode(&self) -> Vec<u8> {
        let kinds = self.sorted();
        // Two kinds may share their code where that is the same, so an address is made for each: they are names only.
        let numbered = || kinds.iter().zip(1_u64..);
        let names: HashMap<u64, Vec<Line>> = numbered()
            .map(|((_, kind), address)| {
                let line = Line { function: kind.name.clone(), file: kind.file.to_owned(), line: kind.line };
                (address, vec![line])
            })
            .collect();
        let samples = numbered().map(|((shard, kind), address)| Sample {
            addresses: vec![address],
            values: vec![i64::try_from(kind.live).unwrap_or(i64::MAX)],
            labels: vec![("shard", shard.to_string())],
        });
        let profile = Profile {
            kinds: &[("goroutine", "count")],
            shown: None,
            period: (("goroutine", "count"), 1),
            taken: SystemTime::now(),
            duration: Duration::ZERO,
            frames_dropped: None,
            comments: vec!["tasks of each shard, by the function that they run".to_owned()],
            samples: samples.collect(),
        };
        profile.encode_with(&names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(name: &str, live: u64) -> TaskKind {
        TaskKind { name: name.to_owned(), file: "engine/src/a.rs", line: 7, address: 0x1234, live, started: live + 1 }
    }

    #[test]
    fn the_text_is_what_go_writes() {
        let tasks =
            Tasks(vec![vec![kind("engine::turns", 1), kind("engine::gone", 0)], vec![kind("engine::connect", 12)]]);
        let expected = "goroutine profile: total 13\n# shard 0: 1 tasks\n# shard 1: 12 tasks\n\n\
            12 @ 0x1234\n# labels: {\"shard\":\"1\", \"started\":\"13\"}\n#\t0x1234\tengine::connect\tengine/src/a.rs:7\n\n\
            1 @ 0x1234\n# labels: {\"shard\":\"0\", \"started\":\"2\"}\n#\t0x1234\tengine::turns\tengine/src/a.rs:7\n";
        assert_eq!(tasks.text(), expected);
    }

    #[test]
    fn the_file_is_gzip() {
        assert_eq!(Tasks(vec![vec![kind("a", 1)]]).encode()[..2], [0x1f, 0x8b]);
    }
}
