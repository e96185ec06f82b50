//! Writing remote write requests, both protocols (prompb/remote.proto and types.proto; io/prometheus/write/v2/types.proto).
//!
//! ```text
//! 1.0   timeseries { labels { name value }*  samples*  exemplars*  histograms* }      metadata in requests of its own
//! 2.0   symbols*  timeseries { labels_refs  samples*  histograms*  exemplars*  metadata }
//! ```
//!
//! A writer fills one request at a time. It knows bytes, not meaning: labels come encoded from the cache.

use super::cache::{Cache, Family, LabelParts, write_label};
use super::intern::{Interner, Seed};
use super::native::write_double;
use super::settings::Protocol;
use crate::otlp::attributes::{Attribute, Fields};
use crate::wire::{write_length_field, write_length_prefix, write_varint, write_varint_field};

/// What marks a series as ended (prometheus/model/value, StaleNaN).
pub const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// A finished request, not yet compressed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteRequest {
    /// The message.
    pub body: Vec<u8>,
    /// Who sends it, below the owners of the settings.
    pub owner: u32,
    /// OTLP data points whose series are in it.
    pub points: u64,
    /// Series in it; 0 in a request of metadata.
    pub series: u64,
    /// Samples in it, those of `target_info` included.
    pub samples: u64,
    /// Native histograms in it.
    pub histograms: u64,
    /// Exemplars in it.
    pub exemplars: u64,
}

/// A number of a series.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) value: f64,
    pub(super) time_ms: i64,
    /// 0 if it has none.
    pub(super) start_ms: i64,
}

/// An exemplar whose labels are encoded as fields 1 of an Exemplar of 1.0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exemplar<'a> {
    pub(super) labels: &'a [u8],
    pub(super) value: f64,
    pub(super) time_ms: i64,
}

/// Fills requests.
#[derive(Debug)]
pub(super) struct RequestWriter {
    protocol: Protocol,
    request: WriteRequest,
    /// With 2.0: the symbols of the request, as fields.
    symbols: Vec<u8>,
    symbols_count: u32,
    /// Where each symbol of the cache stands in this request, if its stamp is the request's.
    refs: Vec<(u32, u32)>,
    stamp: u32,
    /// Texts of exemplars, which are in no cache.
    others: Interner,
    other_refs: Vec<u32>,
    /// The body of the series that is being written, and room to build parts of it.
    series: Vec<u8>,
    numbers: Vec<u8>,
    message: Vec<u8>,
    start_ms: i64,
    /// Buffers to be used again.
    spare: Vec<Vec<u8>>,
}

/// Buffers kept for later requests.
const SPARE_MAX: usize = 16;

impl RequestWriter {
    pub(super) fn new(protocol: Protocol, seed: &Seed) -> Self {
        let mut writer = Self {
            protocol,
            request: WriteRequest::default(),
            symbols: Vec::new(),
            symbols_count: 0,
            refs: Vec::new(),
            stamp: 0,
            others: Interner::new(seed.clone()),
            other_refs: Vec::new(),
            series: Vec::new(),
            numbers: Vec::new(),
            message: Vec::new(),
            start_ms: 0,
            spare: Vec::new(),
        };
        writer.start();
        writer
    }

    /// Takes back the buffer of a request that was sent.
    pub(super) fn recycle(&mut self, mut body: Vec<u8>) {
        if self.spare.len() < SPARE_MAX {
            body.clear();
            self.spare.push(body);
        }
    }

    fn start(&mut self) {
        let body = self.spare.pop().unwrap_or_default();
        self.request = WriteRequest { body, ..WriteRequest::default() };
        self.symbols.clear();
        self.others.clear();
        self.other_refs.clear();
        // Symbol 0 is the empty text.
        write_length_field(&mut self.symbols, 4, b"");
        self.symbols_count = 1;
        self.stamp = self.stamp.wrapping_add(1);
        if self.stamp == 0 {
            self.refs.clear();
            self.stamp = 1;
        }
    }

    /// Bytes of the request so far.
    pub(super) fn length(&self) -> usize {
        self.request.body.len() + if self.protocol == Protocol::V2 { self.symbols.len() } else { 0 }
    }

    /// Says that `points` data points are in the request.
    pub(super) fn add_points(&mut self, points: u64) {
        self.request.points += points;
    }

    /// Hands out the request, if there is something in it, and starts another.
    pub(super) fn finish(&mut self, owner: u32, out: &mut Vec<WriteRequest>) {
        if self.request.body.is_empty() {
            return;
        }
        if self.protocol == Protocol::V2 {
            // Symbols come first, so that a reader meets them before who refers to them.
            self.symbols.extend_from_slice(&self.request.body);
            std::mem::swap(&mut self.symbols, &mut self.request.body);
        }
        self.request.owner = owner;
        let request = std::mem::take(&mut self.request);
        out.push(request);
        self.start();
    }

    /// Adds a sample to the series that is being written.
    #[inline]
    pub(super) fn sample(&mut self, sample: Sample) {
        self.message.clear();
        write_double(&mut self.message, 1, sample.value);
        write_varint_field(&mut self.message, 2, sample.time_ms as u64);
        if self.protocol == Protocol::V2 && sample.start_ms != 0 {
            write_varint_field(&mut self.message, 3, sample.start_ms as u64);
            self.start_ms = sample.start_ms;
        }
        write_length_field(&mut self.series, 2, &self.message);
        self.request.samples += 1;
    }

    /// Adds a native histogram, which has no timestamps yet, to the series that is being written.
    pub(super) fn histogram(&mut self, histogram: &[u8], time_ms: i64, start_ms: i64) {
        self.message.clear();
        self.message.extend_from_slice(histogram);
        write_varint_field(&mut self.message, 15, time_ms as u64);
        if self.protocol == Protocol::V2 && start_ms != 0 {
            write_varint_field(&mut self.message, 17, start_ms as u64);
            self.start_ms = start_ms;
        }
        let number = if self.protocol == Protocol::V1 { 4 } else { 3 };
        write_length_field(&mut self.series, number, &self.message);
        self.request.histograms += 1;
    }

    /// Adds an exemplar to the series that is being written.
    pub(super) fn exemplar(&mut self, exemplar: Exemplar<'_>, cache: &Cache) {
        let number = if self.protocol == Protocol::V1 { 3 } else { 4 };
        let mut message = std::mem::take(&mut self.message);
        message.clear();
        match self.protocol {
            Protocol::V1 => message.extend_from_slice(exemplar.labels),
            Protocol::V2 => {
                let mut refs = std::mem::take(&mut self.numbers);
                refs.clear();
                for label in Fields::of(exemplar.labels) {
                    let label = Attribute::read(label.body);
                    for text in [label.key, label.value] {
                        write_varint(&mut refs, u64::from(self.text_ref(text, cache)));
                    }
                }
                write_length_field(&mut message, 1, &refs);
                self.numbers = refs;
            }
        }
        write_double(&mut message, 2, exemplar.value);
        write_varint_field(&mut message, 3, exemplar.time_ms as u64);
        write_length_field(&mut self.series, number, &message);
        self.message = message;
        self.request.exemplars += 1;
    }

    /// Ends the series that is being written: says whose samples these were.
    pub(super) fn end_series(
        &mut self,
        parts: LabelParts<'_>,
        name: &[u8],
        extra: &[u8],
        family: &Family,
        cache: &Cache,
    ) {
        match self.protocol {
            Protocol::V1 => {
                let labels = [parts.before, name, parts.between, extra, parts.after];
                let length: usize = labels.iter().map(|part| part.len()).sum();
                write_length_prefix(&mut self.request.body, 1, length + self.series.len());
                labels.iter().for_each(|part| self.request.body.extend_from_slice(part));
            }
            Protocol::V2 => {
                self.end_series_v2([parts.before, name, parts.between, extra, parts.after], family, cache);
            }
        }
        self.request.body.extend_from_slice(&self.series);
        self.series.clear();
        self.start_ms = 0;
        self.request.series += 1;
    }

    /// Appends the start of a series of 2.0; its samples follow.
    fn end_series_v2(&mut self, labels: [&[u8]; 5], family: &Family, cache: &Cache) {
        let mut refs = std::mem::take(&mut self.numbers);
        refs.clear();
        for part in labels {
            let (symbols, _) = part.as_chunks::<4>();
            for symbol in symbols {
                write_varint(&mut refs, u64::from(self.symbol_ref(u32::from_le_bytes(*symbol), cache)));
            }
        }
        self.message.clear();
        write_varint_field(&mut self.message, 1, family.metric_type as u64);
        for (number, symbol) in [(3, family.help_symbol), (4, family.unit_symbol)] {
            let reference = self.symbol_ref(symbol, cache);
            write_varint_field(&mut self.message, number, u64::from(reference));
        }
        write_length_field(&mut self.series, 5, &self.message);
        if self.start_ms != 0 {
            // Receivers before the field moved to samples look for it here.
            write_varint_field(&mut self.series, 6, self.start_ms as u64);
        }
        self.message.clear();
        write_length_field(&mut self.message, 1, &refs);
        self.numbers = refs;
        write_length_prefix(&mut self.request.body, 5, self.message.len() + self.series.len());
        self.request.body.extend_from_slice(&self.message);
    }

    /// Where a symbol of the cache stands in this request.
    fn symbol_ref(&mut self, symbol: u32, cache: &Cache) -> u32 {
        let at = symbol as usize;
        if self.refs.len() <= at {
            self.refs.resize(cache.symbols.len().max(at + 1), (0, 0));
        }
        let (stamp, reference) = self.refs[at];
        if stamp == self.stamp {
            return reference;
        }
        let text = cache.symbols.bytes(symbol);
        let reference = if text.is_empty() {
            0
        } else if let Some(other) = self.others.find(text) {
            self.other_refs[other as usize]
        } else {
            self.push_symbol(text)
        };
        self.refs[at] = (self.stamp, reference);
        reference
    }

    /// Where a text stands in this request that may be no symbol of the cache.
    fn text_ref(&mut self, text: &[u8], cache: &Cache) -> u32 {
        if let Some(symbol) = cache.symbols.find(text) {
            return self.symbol_ref(symbol, cache);
        }
        if text.is_empty() {
            return 0;
        }
        let (number, is_new) = self.others.intern(text);
        if is_new {
            let reference = self.push_symbol(text);
            self.other_refs.push(reference);
        }
        self.other_refs[number as usize]
    }

    fn push_symbol(&mut self, text: &[u8]) -> u32 {
        write_length_field(&mut self.symbols, 4, text);
        self.symbols_count += 1;
        self.symbols_count - 1
    }

    /// Adds what is known of a metric, with 1.0: its requests of metadata hold nothing else.
    pub(super) fn metadata(&mut self, family: &Family) {
        let mut message = std::mem::take(&mut self.message);
        message.clear();
        write_varint_field(&mut message, 1, family.metric_type as u64);
        write_length_field(&mut message, 2, family.name.as_bytes());
        write_length_field(&mut message, 4, family.help.as_bytes());
        write_length_field(&mut message, 5, family.unit.as_bytes());
        write_length_field(&mut self.request.body, 3, &message);
        self.message = message;
    }
}

/// Appends the labels of an exemplar, sorted by name, as [`Exemplar`] wants them.
pub(super) fn write_exemplar_labels(labels: &[(String, String)], out: &mut Vec<u8>) {
    for (name, value) in labels {
        write_label(name.as_bytes(), value.as_bytes(), out);
    }
}
