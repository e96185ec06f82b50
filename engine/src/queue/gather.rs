//! `sending_queue.batch`: requests of a queue wait a while for others, and leave as one.
//!
//! ```text
//! item --same branch, same client?--> group --+-- min_size reached ------> one request
//!                                             +-- the next would exceed max_size
//!                                             +-- waited for flush_timeout
//! ```
//!
//! The one idea: only whole requests are put together, so each has one result, which is that of all senders in it. A request
//! that alone exceeds the largest size is cut when it is sent. No byte moves; requests of different clients never meet.
//!
//! It reads no clock and spawns nothing.

use super::{ExportRequest, Item};
use crate::config::checked::{QueueBatchSettings, Sizer};
use crate::pipeline::batch::SEGMENTS_MAX;
use std::collections::VecDeque;
use std::rc::Rc;

/// Requests that wait for company.
#[derive(Debug)]
pub(super) struct Gathering {
    settings: QueueBatchSettings,
    /// The oldest first.
    groups: VecDeque<Group>,
}

/// Requests that will leave together.
#[derive(Debug)]
struct Group {
    /// At least one.
    items: Vec<Item>,
    size: usize,
    segments: usize,
    deadline_ns: u64,
}

impl Group {
    fn suits(&self, item: &Item) -> bool {
        let first = &self.items[0];
        Rc::ptr_eq(&first.branch, &item.branch)
            && first.sequences.is_empty() == item.sequences.is_empty()
            // What nobody sends again is not given up with a request whose sender went away.
            && first.is_awaited_whole() == item.is_awaited_whole()
            && first.request.batch().client == item.request.batch().client
    }
}

impl Gathering {
    /// Nothing waits.
    pub(super) fn new(settings: QueueBatchSettings) -> Gathering {
        Gathering { settings, groups: VecDeque::new() }
    }

    /// Takes an item; what need not wait any longer because of it is appended to `ready`.
    pub(super) fn push(&mut self, item: Item, now_ns: u64, ready: &mut Vec<Item>) {
        let QueueBatchSettings { flush_timeout_ns, min_size, max_size, sizer } = self.settings;
        let (size, segments) = (measure(&item.request, sizer), item.request.batch().segments.len());
        let mut place = self.groups.iter().position(|group| group.suits(&item));
        if let Some(at) = place {
            let group = &self.groups[at];
            let fits = max_size.is_none_or(|max| group.size.saturating_add(size) <= max);
            if !fits || group.segments + segments > SEGMENTS_MAX / 4 {
                ready.extend(self.groups.remove(at).map(merge));
                place = None;
            }
        }
        let at = place.unwrap_or_else(|| {
            let deadline_ns = now_ns.saturating_add(flush_timeout_ns);
            self.groups.push_back(Group { items: Vec::new(), size: 0, segments: 0, deadline_ns });
            self.groups.len() - 1
        });
        let group = &mut self.groups[at];
        group.size = group.size.saturating_add(size);
        group.segments += segments;
        group.items.push(item);
        if group.size >= min_size {
            ready.extend(self.groups.remove(at).map(merge));
        }
    }

    /// When the first of them has waited long enough; `None`: nothing waits.
    pub(super) fn deadline_ns(&self) -> Option<u64> {
        self.groups.front().map(|group| group.deadline_ns)
    }

    /// What has waited long enough.
    pub(super) fn take_due(&mut self, now_ns: u64) -> Vec<Item> {
        let due = self.groups.iter().take_while(|group| group.deadline_ns <= now_ns).count();
        self.groups.drain(..due).map(merge).collect()
    }

    /// Everything.
    pub(super) fn take_all(&mut self) -> Vec<Item> {
        self.groups.drain(..).map(merge).collect()
    }

    /// The group that has waited longest.
    pub(super) fn take_oldest(&mut self) -> Option<Item> {
        self.groups.pop_front().map(merge)
    }

    /// When the one that has waited longest came.
    pub(super) fn oldest_ns(&self) -> Option<u64> {
        self.groups.iter().flat_map(|group| &group.items).map(|item| item.came_ns).min()
    }

    /// Requests that wait here.
    pub(super) fn requests(&self) -> usize {
        self.groups.iter().map(|group| group.items.len()).sum()
    }
}

/// What a request counts for in a size.
pub(super) fn measure(request: &ExportRequest, sizer: Sizer) -> usize {
    let size = match sizer {
        Sizer::Requests => 1,
        Sizer::Items => request.items(),
        Sizer::Bytes => request.bytes(),
    };
    usize::try_from(size).unwrap_or(usize::MAX)
}

/// One item of all of a group, with everybody who waits for any.
fn merge(group: Group) -> Item {
    let mut items = group.items.into_iter();
    let mut whole = items.next().expect("a group is opened for an item");
    if items.len() == 0 {
        return whole;
    }
    let mut batch = whole.request.batch().fork();
    for Item { request, acks, sequences, size, branch: _, came_ns } in items {
        batch.append(request.batch().fork());
        whole.acks.extend(acks);
        whole.sequences.extend(sequences);
        whole.size += size;
        whole.came_ns = whole.came_ns.min(came_ns);
    }
    whole.request = ExportRequest::new(batch);
    whole
}
