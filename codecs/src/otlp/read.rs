//! One pass over the bytes of an export request: checks all of them, appends its items to an index.
//!
//! ```text
//! request -> each ResourceSpans:  first its own fields -> envelope;  then each ScopeSpans
//!                 ScopeSpans:     its own fields -> envelope, each span -> Item::read -> item
//! ```
//!
//! Requests of all signals have this frame, with the same field numbers: 1 resources; 1 resource, 2 scopes, 3 schema
//! URL; 1 scope, 2 items, 3 schema URL (opentelemetry-proto trace/v1, metrics/v1, logs/v1).
//!
//! All or nothing: at the first malformed byte the index goes back to what it was.

use std::ops::Range;

use super::index::{Index, ScopeEntry};
use super::item::{Item, Place};
use super::message::{check_resource, check_scope};
use crate::wire::{Fault, Malformed, Reader, WireType};

impl<I: Item> Index<I> {
    /// Checks one export request completely and appends its items, which lie in segment number `segment`.
    ///
    /// Resources and scopes without items leave no entry. No allocation once the index has grown to its usual size.
    ///
    /// # Errors
    /// The first malformed byte. The index is then what it was before: nothing of the request is accepted.
    pub fn read_request(&mut self, bytes: &[u8], segment: u16) -> Result<(), Malformed> {
        let before = self.mark();
        let read = self.read_frame(bytes, segment);
        if read.is_err() {
            self.rewind(before);
        }
        read
    }

    fn read_frame(&mut self, bytes: &[u8], segment: u16) -> Result<(), Malformed> {
        let mut reader = Reader::new("request", bytes);
        // A request adds at most its own bytes to the envelopes, and fewer items than bytes; resources and scopes are
        // never more than items. If this sum fits, every range and every number does.
        let most = self.envelopes.len().max(self.items.len());
        if most.saturating_add(bytes.len()) > u32::MAX as usize {
            return Err(reader.fault_at(0, Fault::TooLarge));
        }
        while let Some(tag) = reader.tag()? {
            match tag.number {
                1 => {
                    let range = reader.length_field(tag, I::NAMES.resources)?;
                    self.read_resource(reader.nested(I::NAMES.resource, range), segment)?;
                }
                _ => reader.skip(tag)?,
            }
        }
        Ok(())
    }

    /// Two passes over the few fields of a ResourceSpans, ResourceMetrics or ResourceLogs: its envelope must lie together, before those of its scopes,
    /// and fields may come in any order.
    fn read_resource(&mut self, mut reader: Reader<'_>, segment: u16) -> Result<(), Malformed> {
        let before = self.mark();
        let mut scopes = reader.clone();
        while let Some(tag) = reader.tag()? {
            match tag.number {
                1 => {
                    let range = reader.length_field(tag, "resource")?;
                    check_resource(reader.nested("resource", range))?;
                }
                2 => {
                    reader.length_field(tag, I::NAMES.scopes)?;
                    continue;
                }
                3 => reader.check_field(tag, "schema_url", WireType::Length)?,
                _ => reader.skip(tag)?,
            }
            self.envelopes.extend_from_slice(reader.slice(tag.offset..reader.position()));
        }
        let resource = self.resources.len() as u32;
        let envelope = self.envelope_since(before.envelopes);
        self.resources.push(envelope);
        while let Some(tag) = scopes.tag()? {
            match tag.number {
                2 => {
                    let range = scopes.length_field(tag, I::NAMES.scopes)?;
                    self.read_scope(scopes.nested(I::NAMES.scope, range), resource, segment)?;
                }
                _ => scopes.skip(tag)?,
            }
        }
        if self.items.len() == before.items {
            self.rewind(before);
        }
        Ok(())
    }

    /// One pass: items leave no bytes among the envelopes, so the parts of this envelope end up side by side.
    fn read_scope(&mut self, mut reader: Reader<'_>, resource: u32, segment: u16) -> Result<(), Malformed> {
        let before = self.mark();
        let scope = self.scopes.len() as u32;
        loop {
            // Nearly every field is an item with a tag of one byte.
            while reader.take_tag(ITEMS) {
                let range = reader.length_delimited()?;
                self.read_item(&reader, range, scope, segment)?;
            }
            let Some(tag) = reader.tag()? else {
                break;
            };
            match tag.number {
                2 => {
                    let range = reader.length_field(tag, I::NAMES.items)?;
                    self.read_item(&reader, range, scope, segment)?;
                    continue;
                }
                1 => {
                    let range = reader.length_field(tag, "scope")?;
                    check_scope(reader.nested("scope", range))?;
                }
                3 => reader.check_field(tag, "schema_url", WireType::Length)?,
                _ => reader.skip(tag)?,
            }
            self.envelopes.extend_from_slice(reader.slice(tag.offset..reader.position()));
        }
        if self.items.len() == before.items {
            self.rewind(before);
            return Ok(());
        }
        let envelope = self.envelope_since(before.envelopes);
        self.scopes.push(ScopeEntry { resource, envelope });
        Ok(())
    }

    #[inline(always)]
    fn read_item(
        &mut self,
        reader: &Reader<'_>,
        range: Range<usize>,
        scope: u32,
        segment: u16,
    ) -> Result<(), Malformed> {
        let (offset, length) = (range.start as u32, range.len() as u32);
        let mut item = I::default();
        item.set_place(Place { offset, length, scope, segment });
        item.read(reader.slice(0..range.end), range.start)?;
        self.items.push(item);
        Ok(())
    }

    fn mark(&self) -> Mark {
        Mark {
            envelopes: self.envelopes.len(),
            resources: self.resources.len(),
            scopes: self.scopes.len(),
            items: self.items.len(),
        }
    }

    fn rewind(&mut self, mark: Mark) {
        self.envelopes.truncate(mark.envelopes);
        self.resources.truncate(mark.resources);
        self.scopes.truncate(mark.scopes);
        self.items.truncate(mark.items);
    }
}

/// ScopeSpans.spans, ScopeMetrics.metrics, ScopeLogs.log_records: field 2, length-delimited.
const ITEMS: u8 = 2 << 3 | 2;

/// Lengths of an index's vectors, to return to.
#[derive(Clone, Copy)]
struct Mark {
    envelopes: usize,
    resources: usize,
    scopes: usize,
    items: usize,
}
