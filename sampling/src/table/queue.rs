//! Who is next: slots in the order of their deadlines.
//!
//! Entries lie one behind the other and carry the deadline, so what is due is found without waiting for one record to
//! name the next. A trace that leaves early leaves its entry behind: it is `stale`, known by its record, and is taken out
//! when it comes to the front. It costs 16 bytes until then.

use std::collections::VecDeque;

use super::record::{List, Record};
use super::slab::Slab;
use super::watermark::Watermark;

#[derive(Clone, Copy, Debug)]
struct Entry {
    deadline_ns: u64,
    slot: u32,
    birth: u32,
}

/// The traces of one list. The one in front is never stale.
#[derive(Debug)]
pub(crate) struct Queue {
    list: List,
    entries: VecDeque<Entry>,
    stale: usize,
    watermark: Watermark,
}

impl Queue {
    pub(crate) fn new(list: List) -> Self {
        Self { list, entries: VecDeque::new(), stale: 0, watermark: Watermark::default() }
    }

    /// The first trace and its deadline.
    #[inline]
    pub(crate) fn first(&self) -> Option<(u64, u32)> {
        self.entries.front().map(|entry| (entry.deadline_ns, entry.slot))
    }

    /// Puts a record at the end. Its deadline must not be before that of the last.
    #[inline]
    pub(crate) fn push(&mut self, slot: u32, record: &mut Record) {
        record.list = self.list;
        self.entries.push_back(Entry { deadline_ns: record.deadline_ns, slot, birth: record.birth });
        self.watermark.observe(self.entries.len());
    }

    /// Takes the first out.
    #[inline]
    pub(crate) fn pop(&mut self, records: &mut Slab<Record>) -> Option<u32> {
        let first = self.entries.pop_front()?;
        records.at_mut(first.slot).list = List::Taken { after_root: self.list == List::AfterRoot };
        self.trim(records);
        Some(first.slot)
    }

    /// The record in `slot` went elsewhere. If it was the last to come, it leaves nothing behind.
    pub(crate) fn leave(&mut self, slot: u32, records: &Slab<Record>) {
        let last = self.entries.back().expect("a record that leaves has an entry");
        if last.slot == slot && last.birth == records.at(slot).birth {
            self.entries.pop_back();
        } else {
            self.stale += 1;
        }
        self.trim(records);
    }

    /// A record waits in one list only, and has another birth number than others that had its slot. The slot of a stale
    /// entry may be free, and its page given back.
    #[inline]
    fn trim(&mut self, records: &Slab<Record>) {
        while self.stale > 0
            && let Some(first) = self.entries.front()
        {
            let record = records.find(first.slot);
            if record.is_some_and(|record| record.list == self.list && record.birth == first.birth) {
                break;
            }
            self.entries.pop_front();
            self.stale -= 1;
        }
    }

    /// Starts a new window and gives back what no recent one needed.
    pub(crate) fn rotate_window(&mut self) {
        self.watermark.rotate(self.entries.len());
        let needed = self.watermark.needed();
        if needed * 2 < self.entries.capacity() {
            self.entries.shrink_to(needed);
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }
}
