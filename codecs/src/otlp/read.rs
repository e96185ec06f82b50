//! One pass over the bytes of an ExportTraceServiceRequest: checks all of them, appends its spans to an index.
//!
//! ```text
//! request -> each ResourceSpans:  first its own fields -> envelope;  then each ScopeSpans
//!                 ScopeSpans:     its own fields -> envelope, each span -> read_span -> item
//! ```
//!
//! All or nothing: at the first malformed byte the index goes back to what it was.

use std::ops::Range;

use super::index::{ScopeEntry, SpanIndex};
use super::message::{check_resource, check_scope};
use super::span::{SpanItem, read_span};
use crate::wire::{Fault, Malformed, Reader, WireType};

impl SpanIndex {
    /// Checks one ExportTraceServiceRequest completely and appends its spans, which lie in segment number `segment`.
    ///
    /// Resources and scopes without spans leave no entry. No allocation once the index has grown to its usual size.
    ///
    /// # Errors
    /// The first malformed byte. The index is then what it was before: nothing of the request is accepted.
    pub fn read_request(&mut self, bytes: &[u8], segment: u16) -> Result<(), Malformed> {
        let before = self.mark();
        let read = self.read_resources(bytes, segment);
        if read.is_err() {
            self.rewind(before);
        }
        read
    }

    fn read_resources(&mut self, bytes: &[u8], segment: u16) -> Result<(), Malformed> {
        let mut reader = Reader::new("request", bytes);
        // A request adds at most its own bytes to the envelopes, and fewer spans than bytes; resources and scopes are
        // never more than spans. If this sum fits, every range and every number does.
        let most = self.envelopes.len().max(self.spans.len());
        if most.saturating_add(bytes.len()) > u32::MAX as usize {
            return Err(reader.fault_at(0, Fault::TooLarge));
        }
        while let Some(tag) = reader.tag()? {
            match tag.number {
                1 => {
                    let range = reader.length_field(tag, "resource_spans")?;
                    self.read_resource_spans(reader.nested("resource spans", range), segment)?;
                }
                _ => reader.skip(tag)?,
            }
        }
        Ok(())
    }

    /// Two passes over the few fields of a ResourceSpans: its envelope must lie together, before those of its scopes,
    /// and fields may come in any order.
    fn read_resource_spans(&mut self, mut reader: Reader<'_>, segment: u16) -> Result<(), Malformed> {
        let before = self.mark();
        let mut scopes = reader.clone();
        while let Some(tag) = reader.tag()? {
            match tag.number {
                1 => {
                    let range = reader.length_field(tag, "resource")?;
                    check_resource(reader.nested("resource", range))?;
                }
                2 => {
                    reader.length_field(tag, "scope_spans")?;
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
                    let range = scopes.length_field(tag, "scope_spans")?;
                    self.read_scope_spans(scopes.nested("scope spans", range), resource, segment)?;
                }
                _ => scopes.skip(tag)?,
            }
        }
        if self.spans.len() == before.spans {
            self.rewind(before);
        }
        Ok(())
    }

    /// One pass: spans leave no bytes among the envelopes, so the parts of this envelope end up side by side.
    fn read_scope_spans(&mut self, mut reader: Reader<'_>, resource: u32, segment: u16) -> Result<(), Malformed> {
        let before = self.mark();
        let scope = self.scopes.len() as u32;
        loop {
            // Nearly every field is a span with a tag of one byte.
            while reader.take_tag(SPANS) {
                let range = reader.length_delimited()?;
                self.read_span(&reader, range, scope, segment)?;
            }
            let Some(tag) = reader.tag()? else {
                break;
            };
            match tag.number {
                2 => {
                    let range = reader.length_field(tag, "spans")?;
                    self.read_span(&reader, range, scope, segment)?;
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
        if self.spans.len() == before.spans {
            self.rewind(before);
            return Ok(());
        }
        let envelope = self.envelope_since(before.envelopes);
        self.scopes.push(ScopeEntry { resource, envelope });
        Ok(())
    }

    #[inline(always)]
    fn read_span(
        &mut self,
        reader: &Reader<'_>,
        range: Range<usize>,
        scope: u32,
        segment: u16,
    ) -> Result<(), Malformed> {
        let (offset, length) = (range.start as u32, range.len() as u32);
        let mut item = SpanItem { offset, length, scope, segment, ..SpanItem::default() };
        read_span(reader.slice(0..range.end), range.start, &mut item)?;
        self.spans.push(item);
        Ok(())
    }

    fn mark(&self) -> Mark {
        Mark {
            envelopes: self.envelopes.len(),
            resources: self.resources.len(),
            scopes: self.scopes.len(),
            spans: self.spans.len(),
        }
    }

    fn rewind(&mut self, mark: Mark) {
        self.envelopes.truncate(mark.envelopes);
        self.resources.truncate(mark.resources);
        self.scopes.truncate(mark.scopes);
        self.spans.truncate(mark.spans);
    }
}

/// ScopeSpans.spans: field 2, length-delimited.
const SPANS: u8 = 2 << 3 | 2;

/// Lengths of an index's vectors, to return to.
#[derive(Clone, Copy)]
struct Mark {
    envelopes: usize,
    resources: usize,
    scopes: usize,
    spans: usize,
}
