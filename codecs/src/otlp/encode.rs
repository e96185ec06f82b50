//! Index and segments back to the bytes of one export request, of whichever signal.
//!
//! The one idea: lengths come before contents in protobuf, and the index knows every length without looking at an item.
//! One pass counts per scope, one adds up per resource, one copies. Envelopes and items are spliced as they came.
//!
//! ```text
//! items    --counting sort by scope-->     order    (arrival order kept within a scope)
//! scopes   --counting sort by resource-->  order
//! per resource: tag, length, envelope, per scope: tag, length, envelope, per item: tag, length, bytes
//! ```

use std::ops::Range;

use bytes::Bytes;

use super::index::{Index, item_bytes};
use super::item::Item;
use crate::wire::{length_field_length, write_length_prefix};

/// Which items of an index to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection<'a> {
    /// All.
    All,
    /// Those with numbers in the range, as when a batch is split.
    Range(Range<u32>),
    /// Those numbered, in this order within each scope.
    Listed(&'a [u32]),
}

/// Writes requests; holds the memory to sort in, so that a warm encoder does not allocate.
#[derive(Clone, Debug, Default)]
pub struct Encoder {
    /// Per scope of the index: what it holds.
    scopes: Vec<Group>,
    /// Per resource of the index: what it holds.
    resources: Vec<Group>,
    /// Item numbers by scope.
    item_order: Vec<u32>,
    /// Scope numbers by resource.
    scope_order: Vec<u32>,
}

/// A scope with its items, or a resource with its scopes.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    /// Children selected; scopes without any are left out, and then resources without any.
    children: u32,
    /// Where the next child goes in the order; after sorting, one past the last child.
    next: u32,
    /// Bytes of the message with its envelope, without its own tag and length.
    body_length: usize,
}

impl Group {
    fn children(&self) -> Range<usize> {
        (self.next - self.children) as usize..self.next as usize
    }

    /// Bytes of the message as a field numbered below 16; nothing without children.
    fn field_length(&self) -> usize {
        if self.children == 0 { 0 } else { length_field_length(1, self.body_length) }
    }
}

impl Encoder {
    /// Appends the selected items to `out` as one request. No items are an empty request: no bytes.
    ///
    /// # Panics
    /// `segments` are not those of the index, or a selected number is no item of it.
    pub fn encode<I: Item>(
        &mut self,
        index: &Index<I>,
        segments: &[Bytes],
        selection: &Selection<'_>,
        out: &mut Vec<u8>,
    ) {
        out.reserve(self.count(index, selection));
        self.sort(index, selection);
        for (number, resource) in self.resources.iter().enumerate() {
            if resource.children == 0 {
                continue;
            }
            write_length_prefix(out, RESOURCES, resource.body_length);
            out.extend_from_slice(index.envelope(index.resources[number]));
            for &scope in &self.scope_order[resource.children()] {
                self.write_scope(index, segments, scope, out);
            }
        }
    }

    /// Bytes that [`Self::encode`] appends for the same arguments.
    ///
    /// # Panics
    /// A selected number is no item of the index.
    #[must_use]
    pub fn encoded_length<I: Item>(&mut self, index: &Index<I>, selection: &Selection<'_>) -> usize {
        self.count(index, selection)
    }

    /// Adds up children and bytes of every scope and resource; returns the bytes of the request.
    fn count<I: Item>(&mut self, index: &Index<I>, selection: &Selection<'_>) -> usize {
        self.scopes.clear();
        self.scopes.resize(index.scopes.len(), Group::default());
        self.resources.clear();
        self.resources.resize(index.resources.len(), Group::default());
        match selection {
            Selection::All => self.count_items(index.items.iter()),
            Selection::Range(range) => self.count_items(items_of(index, range).iter()),
            Selection::Listed(numbers) => self.count_items(numbers.iter().map(|&item| &index.items[item as usize])),
        }
        for (scope, entry) in self.scopes.iter_mut().zip(&index.scopes) {
            if scope.children > 0 {
                scope.body_length += entry.envelope.len();
                let resource = &mut self.resources[entry.resource as usize];
                resource.children += 1;
                resource.body_length += scope.field_length();
            }
        }
        for (resource, envelope) in self.resources.iter_mut().zip(&index.resources) {
            resource.body_length += envelope.len();
        }
        self.resources.iter().map(Group::field_length).sum()
    }

    fn count_items<'a, I: Item + 'a>(&mut self, items: impl Iterator<Item = &'a I>) {
        for place in items.map(Item::place) {
            let scope = &mut self.scopes[place.scope as usize];
            scope.children += 1;
            scope.body_length += length_field_length(ITEMS, place.length as usize);
        }
    }

    /// Fills the two orders; `count` went before.
    fn sort<I: Item>(&mut self, index: &Index<I>, selection: &Selection<'_>) {
        let items = place(&mut self.scopes);
        self.item_order.clear();
        self.item_order.resize(items, 0);
        match selection {
            Selection::All => self.sort_items(index, 0..index.items.len() as u32),
            Selection::Range(range) => self.sort_items(index, range.clone()),
            Selection::Listed(numbers) => self.sort_items(index, numbers.iter().copied()),
        }
        let scopes = place(&mut self.resources);
        self.scope_order.clear();
        self.scope_order.resize(scopes, 0);
        for (number, entry) in index.scopes.iter().enumerate() {
            if self.scopes[number].children > 0 {
                let resource = &mut self.resources[entry.resource as usize];
                self.scope_order[resource.next as usize] = number as u32;
                resource.next += 1;
            }
        }
    }

    fn sort_items<I: Item>(&mut self, index: &Index<I>, numbers: impl Iterator<Item = u32>) {
        for number in numbers {
            let scope = &mut self.scopes[index.items[number as usize].place().scope as usize];
            self.item_order[scope.next as usize] = number;
            scope.next += 1;
        }
    }

    fn write_scope<I: Item>(&self, index: &Index<I>, segments: &[Bytes], number: u32, out: &mut Vec<u8>) {
        let scope = &self.scopes[number as usize];
        write_length_prefix(out, SCOPES, scope.body_length);
        out.extend_from_slice(index.scope_envelope(number));
        for &item in &self.item_order[scope.children()] {
            let bytes = item_bytes(&index.items[item as usize], segments);
            write_length_prefix(out, ITEMS, bytes.len());
            out.extend_from_slice(bytes);
        }
    }
}

fn items_of<'a, I>(index: &'a Index<I>, range: &Range<u32>) -> &'a [I] {
    &index.items[range.start as usize..range.end as usize]
}

/// Gives each group its place in the order; returns the number of children.
fn place(groups: &mut [Group]) -> usize {
    let mut next = 0;
    for group in groups {
        group.next = next;
        next += group.children;
    }
    next as usize
}

// The frame is the same for all signals (see `read`).
/// ExportTraceServiceRequest.resource_spans.
const RESOURCES: u32 = 1;
/// ResourceSpans.scope_spans.
const SCOPES: u32 = 2;
/// ScopeSpans.spans.
const ITEMS: u32 = 2;
