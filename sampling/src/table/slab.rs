//! Small records by number, in pages that never move.
//!
//! A `Vec` that grows copies everything and holds both copies meanwhile; with half a million records that is a pause and
//! a spike. Here growth adds one page. Freed slots are reused last in, first out, so the memory in use stays warm.

use super::watermark::Watermark;

const PAGE_BITS: u32 = 10;
const PAGE_SLOTS: usize = 1 << PAGE_BITS;

/// `None` where the page was given back.
type Page<T> = Option<Box<[T; PAGE_SLOTS]>>;

/// Numbered slots of `T`. A slot keeps its last value after it was freed.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    pages: Vec<Page<T>>,
    /// Slots in use, by page.
    used: Vec<u16>,
    /// Slots not in use, over all pages.
    free: Vec<u32>,
    pages_vacant: usize,
    in_use: usize,
    watermark: Watermark,
}

const _: () = assert!(PAGE_SLOTS <= u16::MAX as usize, "a page's count fits 16 bits");

impl<T: Copy + Default> Slab<T> {
    pub(crate) fn new() -> Self {
        Self {
            pages: Vec::new(),
            used: Vec::new(),
            free: Vec::new(),
            pages_vacant: 0,
            in_use: 0,
            watermark: Watermark::default(),
        }
    }

    /// A slot that nobody else holds.
    #[inline]
    pub(crate) fn allocate(&mut self) -> u32 {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => self.grow(),
        };
        self.used[page_of(slot)] += 1;
        self.in_use += 1;
        self.watermark.observe(self.in_use);
        slot
    }

    #[inline]
    pub(crate) fn release(&mut self, slot: u32) {
        self.used[page_of(slot)] -= 1;
        self.in_use -= 1;
        self.free.push(slot);
    }

    #[inline]
    pub(crate) fn at(&self, slot: u32) -> &T {
        match &self.pages[page_of(slot)] {
            Some(page) => &page[slot as usize % PAGE_SLOTS],
            None => vacant(),
        }
    }

    #[inline]
    pub(crate) fn at_mut(&mut self, slot: u32) -> &mut T {
        match &mut self.pages[page_of(slot)] {
            Some(page) => &mut page[slot as usize % PAGE_SLOTS],
            None => vacant(),
        }
    }

    /// All slots are below this.
    pub(crate) fn slots(&self) -> u32 {
        (self.pages.len() * PAGE_SLOTS) as u32
    }

    /// What a slot that may have been freed holds; `None` if its page was given back since.
    #[inline]
    pub(crate) fn find(&self, slot: u32) -> Option<&T> {
        self.pages[page_of(slot)].as_ref().map(|page| &page[slot as usize % PAGE_SLOTS])
    }

    /// As [`Slab::find`], to change it.
    #[inline]
    pub(crate) fn find_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.pages[page_of(slot)].as_mut().map(|page| &mut page[slot as usize % PAGE_SLOTS])
    }

    #[cold]
    fn grow(&mut self) -> u32 {
        let items: Box<[T]> = vec![T::default(); PAGE_SLOTS].into_boxed_slice();
        let Ok(items) = items.try_into() else { unreachable!("a page has PAGE_SLOTS slots") };
        let page = if self.pages_vacant == 0 {
            self.pages.push(None);
            self.used.push(0);
            self.pages.len() - 1
        } else {
            self.pages_vacant -= 1;
            let vacant = self.pages.iter().position(|page| page.is_none());
            vacant.expect("pages_vacant counts the pages that are None")
        };
        self.pages[page] = Some(items);
        let first = u32::try_from(page << PAGE_BITS).expect("memory ends long before 2^32 records");
        self.free.extend((first..first + PAGE_SLOTS as u32).rev());
        self.free.pop().expect("a page has slots")
    }

    pub(crate) fn bytes(&self) -> usize {
        (self.pages.len() - self.pages_vacant) * size_of::<[T; PAGE_SLOTS]>()
            + self.pages.capacity() * size_of::<Page<T>>()
            + self.used.capacity() * size_of::<u16>()
            + self.free.capacity() * size_of::<u32>()
    }

    pub(crate) fn rotate_window(&mut self) {
        self.watermark.rotate(self.in_use);
    }

    /// Gives back pages without a used slot that no recent window needed.
    pub(crate) fn shrink(&mut self) {
        let needed = self.watermark.needed().div_ceil(PAGE_SLOTS);
        let mut surplus = (self.pages.len() - self.pages_vacant).saturating_sub(needed);
        if surplus == 0 {
            return;
        }
        for (page, used) in self.pages.iter_mut().zip(&self.used).rev() {
            if surplus > 0 && *used == 0 && page.is_some() {
                *page = None;
                self.pages_vacant += 1;
                surplus -= 1;
            }
        }
        let pages = &self.pages;
        self.free.retain(|slot| pages[page_of(*slot)].is_some());
        self.free.shrink_to(self.free.len() * 2);
    }
}

#[inline]
fn page_of(slot: u32) -> usize {
    (slot >> PAGE_BITS) as usize
}

#[cold]
fn vacant() -> ! {
    panic!("a slot was used after its page was given back")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_reused_before_the_slab_grows() {
        let mut slab = Slab::<u64>::new();
        let slots: Vec<u32> = (0..3_000).map(|_| slab.allocate()).collect();
        let bytes = slab.bytes();
        for slot in &slots {
            slab.release(*slot);
        }
        for _ in 0..3_000 {
            slab.allocate();
        }
        assert!(slab.bytes() <= bytes + 4 * 4_096, "only the list of free slots may have grown");
    }

    #[test]
    fn pages_that_two_windows_did_not_need_are_given_back_and_used_slots_stay() {
        let mut slab = Slab::<u64>::new();
        let slots: Vec<u32> = (0..10_000).map(|_| slab.allocate()).collect();
        let bytes = slab.bytes();
        *slab.at_mut(slots[5_000]) = 7;
        for slot in slots.iter().filter(|slot| **slot != slots[5_000]) {
            slab.release(*slot);
        }
        slab.rotate_window();
        slab.shrink();
        assert_eq!(slab.pages_vacant, 0, "the burst was just now");
        slab.rotate_window();
        slab.shrink();
        assert!(slab.bytes() < bytes / 4);
        assert_eq!(*slab.at(slots[5_000]), 7);
        let mut again: Vec<u32> = (0..10_000).map(|_| slab.allocate()).collect();
        again.push(slots[5_000]);
        again.sort_unstable();
        again.dedup();
        assert_eq!(again.len(), 10_001, "no slot was handed out twice");
    }
}
