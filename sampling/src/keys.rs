//! By which key a dynamic sampler tells traces apart: the values of a few attributes.
//!
//! A trace's value of an attribute is its root span's; if that has none, one of those of its other spans, the same
//! whatever their order. In a span the span's own attribute goes before its resource's. Values are hashed when a span
//! arrives and lie beside the table, as [`crate::sizes`] do; nothing is kept for settings that name no key.

use codecs::otlp::{SpanIndex, SpanItem, resource_attributes, span_attributes};

use crate::settings::{Rule, Settings};

/// Most different attributes that the keys of one sampler's policies may name.
pub const KEY_ATTRIBUTES_MAX: usize = 8;

/// A trace's values, hashed; [`ABSENT`] where it has none.
pub(crate) type TraceKeys = [u64; KEY_ATTRIBUTES_MAX];

const ABSENT: u64 = u64::MAX;
/// Set in values that are not of a root span, so that the smallest is a root's if there is one.
const NOT_ROOT: u64 = 1 << 62;

pub(crate) const NO_KEYS: TraceKeys = [ABSENT; KEY_ATTRIBUTES_MAX];

/// The different attributes that keys name; the position is their column.
pub(crate) fn attributes(settings: &Settings) -> Vec<String> {
    fn add(rule: &Rule, found: &mut Vec<String>) {
        match rule {
            Rule::Dynamic { keys, .. } => {
                for key in keys {
                    if !found.contains(key) {
                        found.push(key.clone());
                    }
                }
            }
            Rule::And(rules) | Rule::Drop(rules) => rules.iter().for_each(|rule| add(rule, found)),
            Rule::Not(rule) => add(rule, found),
            Rule::Composite { parts, .. } => parts.iter().for_each(|part| add(&part.rule, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    settings.policies.iter().for_each(|policy| add(&policy.rule, &mut found));
    found
}

/// One key of those in `columns`.
pub(crate) fn combined(keys: &TraceKeys, columns: u8) -> u64 {
    let mut key = 0;
    for (column, value) in keys.iter().enumerate().filter(|(column, _)| columns & 1 << column != 0) {
        let text = if *value == ABSENT { ABSENT } else { value & (NOT_ROOT - 1) };
        key = mixed(key ^ text.rotate_left(column as u32));
    }
    key
}

/// Values by the trace's slot, and of the resources of the request that is being inserted.
#[derive(Debug)]
pub(crate) struct Keys {
    names: Vec<Box<[u8]>>,
    traces: Vec<u64>,
    resources: Vec<u64>,
}

impl Keys {
    pub(crate) fn new(settings: &Settings) -> Self {
        let names: Vec<_> = attributes(settings).into_iter().map(|name| name.into_bytes().into()).collect();
        assert!(names.len() <= KEY_ATTRIBUTES_MAX, "settings name at most KEY_ATTRIBUTES_MAX attributes");
        Self { names, traces: Vec::new(), resources: Vec::new() }
    }

    #[inline]
    pub(crate) fn are_kept(&self) -> bool {
        !self.names.is_empty()
    }

    pub(crate) fn begin_request(&mut self, index: &SpanIndex) {
        self.resources.clear();
        if !self.are_kept() {
            return;
        }
        for resource in &index.resources {
            for name in &self.names {
                let found = resource_attributes(index.envelope(*resource)).find(|attribute| *attribute.key == **name);
                self.resources.push(found.map_or(ABSENT, |attribute| hashed(attribute.value)));
            }
        }
    }

    /// A trace begins in this slot.
    pub(crate) fn begin(&mut self, slot: u32) {
        let end = (slot as usize + 1) * self.names.len();
        if end > self.traces.len() {
            self.traces.resize(end, ABSENT);
        }
        self.traces[end - self.names.len()..end].fill(ABSENT);
    }

    /// A span of the trace arrived.
    pub(crate) fn add(&mut self, slot: u32, index: &SpanIndex, item: &SpanItem, bytes: &[u8]) {
        let found = self.of_span(index, item, bytes);
        let start = slot as usize * self.names.len();
        for (value, found) in self.traces[start..].iter_mut().zip(found).take(self.names.len()) {
            *value = (*value).min(found);
        }
    }

    /// The values of one span.
    pub(crate) fn of_span(&self, index: &SpanIndex, item: &SpanItem, bytes: &[u8]) -> TraceKeys {
        let mut found = NO_KEYS;
        if !self.are_kept() {
            return found;
        }
        for attribute in span_attributes(bytes) {
            let column = self.names.iter().position(|name| **name == *attribute.key);
            if let Some(column) = column.filter(|column| found[*column] == ABSENT) {
                found[column] = hashed(attribute.value);
            }
        }
        let resource = index.scopes[item.scope as usize].resource as usize * self.names.len();
        let mark = if item.has_parent { NOT_ROOT } else { 0 };
        for (column, value) in found.iter_mut().enumerate().take(self.names.len()) {
            if *value == ABSENT {
                *value = self.resources[resource + column];
            }
            if *value != ABSENT {
                *value |= mark;
            }
        }
        found
    }

    pub(crate) fn of(&self, slot: u32) -> TraceKeys {
        let mut keys = NO_KEYS;
        let start = slot as usize * self.names.len();
        for (key, value) in keys.iter_mut().zip(&self.traces[start..]).take(self.names.len()) {
            *key = *value;
        }
        keys
    }

    pub(crate) fn bytes(&self) -> usize {
        (self.traces.capacity() + self.resources.capacity()) * size_of::<u64>()
    }
}

/// A value, by its type and contents, in 62 bits.
fn hashed(any_value: &[u8]) -> u64 {
    let hash = any_value
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |state, byte| (state ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    mixed(hash) & (NOT_ROOT - 1)
}

/// All bits of the result depend on all of `bits` (the finish of SplitMix64).
fn mixed(bits: u64) -> u64 {
    let bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}
