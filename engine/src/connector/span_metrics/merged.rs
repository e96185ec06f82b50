//! The series of all shards as one: summed on the control thread, when somebody asks.
//!
//! Here it is also found out which series have had no span for long. A shard cannot tell alone: senders move between
//! shards, and a series that one shard gave up while another still counts it would fall, which nobody who computes a rate
//! expects. So a series is forgotten by all shards at once, if none of them has seen a span of it.

use super::{Plan, Snapshot, Table};

/// The series of one connector in the whole process.
#[derive(Debug)]
pub struct Merged {
    pub(super) tables: Vec<Table>,
    now_ns: u64,
}

/// Series that every shard gives up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forgotten {
    /// By table.
    pub(super) keys: Vec<Vec<Box<[u8]>>>,
    /// Monotonic time: those that have had a span since stay.
    pub(super) idle_since_ns: u64,
}

impl Merged {
    /// The sum of one connector's copies from all shards.
    pub fn of(shards: impl IntoIterator<Item = Snapshot>) -> Merged {
        let mut merged = Merged { tables: Vec::new(), now_ns: 0 };
        for shard in shards {
            merged.now_ns = merged.now_ns.max(shard.now_ns);
            if merged.tables.is_empty() {
                merged.tables = shard.tables;
                continue;
            }
            for (table, more) in merged.tables.iter_mut().zip(shard.tables) {
                table.merge(more);
            }
        }
        merged
    }

    /// Takes out the series without spans for longer than the settings allow; `None` if there are none.
    pub fn forget_idle(&mut self, plan: &Plan) -> Option<Forgotten> {
        let expiration_ns = plan.settings.expiration_ns;
        let idle_since_ns = self.now_ns.checked_sub(expiration_ns).filter(|_| expiration_ns > 0)?;
        let keys: Vec<Vec<Box<[u8]>>> = self.tables.iter_mut().map(|table| table.take_idle(idle_since_ns)).collect();
        keys.iter().any(|keys| !keys.is_empty()).then_some(Forgotten { keys, idle_since_ns })
    }
}

impl Table {
    fn merge(&mut self, more: Table) {
        for (key, series) in more.series {
            match self.series.get_mut(&key) {
                Some(known) => known.merge(&series),
                None => {
                    self.series.insert(key, series);
                }
            }
        }
        match (&mut self.overflow, more.overflow) {
            (Some(known), Some(more)) => known.merge(&more),
            (overflow @ None, more) => *overflow = more,
            (Some(_), None) => {}
        }
    }

    fn take_idle(&mut self, idle_since_ns: u64) -> Vec<Box<[u8]>> {
        self.series.extract_if(|_, series| series.last_ns <= idle_since_ns).map(|(key, _)| key).collect()
    }
}
