//! Finds spans, points, records and samples in a request. The harness reads with its own few lines, not with the gateway's codec: a judge
//! that shared its reader with the judged would share its mistakes.
//!
//! Only the outer levels are read, and what says which item it is; its bytes are compared as a whole elsewhere.

use std::borrow::Cow;
use std::io::{self, Read};

use codecs::otlp::TraceId;

use super::REQUEST_BYTES_MAX;
use crate::items::SERIES_KEY;

/// Least bytes of a slice of a remote write request: some hundred samples, checked in about a tenth of a millisecond.
const WRITE_SLICE_BYTES: usize = 64 << 10;

/// One span as it arrived.
#[derive(Debug)]
pub(crate) struct ArrivedSpan<'a> {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: [u8; 8],
    /// The span message.
    pub(crate) span: &'a [u8],
    /// Every field of its ResourceSpans but the scopes.
    pub(crate) resource_envelope: &'a [u8],
    /// Every field of its ScopeSpans but the spans.
    pub(crate) scope_envelope: &'a [u8],
}

/// Why bytes are not a request of what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the request it should be")]
pub(crate) struct Malformed;

/// One data point as it arrived.
#[derive(Debug)]
pub(crate) struct ArrivedPoint<'a> {
    pub(crate) series: u64,
    pub(crate) time_unix_ns: u64,
    /// The point message.
    pub(crate) point: &'a [u8],
    pub(crate) resource_envelope: &'a [u8],
    pub(crate) scope_envelope: &'a [u8],
    /// Every field of its Metric but the data, the number of the data's field, every field of the data but the points.
    pub(crate) metric_envelope: &'a [u8],
}

/// One log record as it arrived.
#[derive(Debug)]
pub(crate) struct ArrivedRecord<'a> {
    pub(crate) trace_id: TraceId,
    /// The record message.
    pub(crate) record: &'a [u8],
    pub(crate) resource_envelope: &'a [u8],
    pub(crate) scope_envelope: &'a [u8],
}

/// One sample of a remote write request as it arrived.
#[derive(Debug)]
pub(crate) struct ArrivedSample<'a> {
    /// The value of its label `series`.
    pub(crate) series: u64,
    pub(crate) time_unix_ms: i64,
    pub(crate) value: f64,
    /// All its labels, with their tags.
    pub(crate) labels: &'a [u8],
}

/// A child of a ScopeSpans, ScopeMetrics or ScopeLogs, and what is around it.
struct Child<'a> {
    message: &'a [u8],
    /// Every field of the outermost message but the scopes.
    resource_envelope: &'a [u8],
    /// Every field of the scope's message but the children.
    scope_envelope: &'a [u8],
}

/// Calls `each` for every span of a request.
pub(crate) fn read_spans(request: &[u8], mut each: impl FnMut(ArrivedSpan<'_>)) -> Result<(), Malformed> {
    read_children(request, |child| {
        let (trace_id, span_id) = read_ids(child.message)?;
        let Child { message: span, resource_envelope, scope_envelope } = child;
        each(ArrivedSpan { trace_id, span_id, span, resource_envelope, scope_envelope });
        Ok(())
    })
}

/// Calls `each` for every log record of a request.
pub(crate) fn read_records(request: &[u8], mut each: impl FnMut(ArrivedRecord<'_>)) -> Result<(), Malformed> {
    read_children(request, |child| {
        let trace_id = field_of(child.message, 9)?.try_into().map_err(|_| Malformed)?;
        let Child { message: record, resource_envelope, scope_envelope } = child;
        each(ArrivedRecord { trace_id: TraceId(trace_id), record, resource_envelope, scope_envelope });
        Ok(())
    })
}

/// Calls `each` for every number data point of a request. Nothing else was sent, so anything else is malformed.
pub(crate) fn read_points(request: &[u8], mut each: impl FnMut(ArrivedPoint<'_>)) -> Result<(), Malformed> {
    let mut metric_envelope = Vec::new();
    read_children(request, |child| {
        let data = read_metric(child.message, &mut metric_envelope)?;
        let mut points = Fields(data);
        while let Some(field) = points.next()? {
            let Some(point) = field.child(1)? else {
                continue;
            };
            let time = field_of(point, 3)?.try_into().map_err(|_| Malformed)?;
            each(ArrivedPoint {
                series: series_of_point(point)?,
                time_unix_ns: u64::from_le_bytes(time),
                point,
                resource_envelope: child.resource_envelope,
                scope_envelope: child.scope_envelope,
                metric_envelope: &metric_envelope,
            });
        }
        Ok(())
    })
}

/// Calls `each` for every sample of a remote write request (1.0) that has a label `series`, and returns how many have
/// none: those of `target_info`.
pub(crate) fn read_samples(request: &[u8], mut each: impl FnMut(ArrivedSample<'_>)) -> Result<u64, Malformed> {
    let (mut labels, mut others) = (Vec::new(), 0);
    let mut all = Fields(request);
    while let Some(field) = all.next()? {
        // The other field is metadata.
        let Some(time_series) = field.child(1)? else {
            continue;
        };
        let mut series = None;
        labels.clear();
        let mut fields = Fields(time_series);
        while let Some(field) = fields.next()? {
            if let Some(label) = field.child(1)? {
                labels.extend_from_slice(field.whole);
                if field_of(label, 1)? == SERIES_KEY.as_bytes() {
                    series = Some(number(field_of(label, 2)?)?);
                }
            }
        }
        let mut fields = Fields(time_series);
        while let Some(field) = fields.next()? {
            let Some(sample) = field.child(2)? else {
                continue;
            };
            let Some(series) = series else {
                others += 1;
                continue;
            };
            let (value, time_unix_ms) = read_sample(sample)?;
            each(ArrivedSample { series, time_unix_ms, value, labels: &labels });
        }
    }
    Ok(others)
}

/// Parts of a remote write request, cut between two series. What cannot be read is one part, whose reader says so.
pub(crate) struct WriteSlices<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for WriteSlices<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let all = self.0;
        let mut rest = Fields(all);
        while all.len() - rest.0.len() < WRITE_SLICE_BYTES {
            match rest.next() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(Malformed) => rest = Fields(&[]),
            }
        }
        self.0 = rest.0;
        (!all.is_empty()).then(|| &all[..all.len() - rest.0.len()])
    }
}

/// Value and milliseconds since 1970; a field that is 0 need not be there.
fn read_sample(sample: &[u8]) -> Result<(f64, i64), Malformed> {
    let (mut value, mut time) = (0.0, 0);
    let mut fields = Fields(sample);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => value = f64::from_le_bytes(field.value.try_into().map_err(|_| Malformed)?),
            2 => time = Fields(field.value).varint()? as i64,
            _ => {}
        }
    }
    Ok((value, time))
}

/// Walks resources and scopes; the children of a scope have the same field number in every signal.
fn read_children(request: &[u8], mut each: impl FnMut(Child<'_>) -> Result<(), Malformed>) -> Result<(), Malformed> {
    let (mut resource_envelope, mut scope_envelope) = (Vec::new(), Vec::new());
    let mut resources = Fields(request);
    while let Some(resource) = resources.next()? {
        let resource = resource.child(1)?.ok_or(Malformed)?;
        collect_envelope(resource, &mut resource_envelope)?;
        let mut scopes = Fields(resource);
        while let Some(field) = scopes.next()? {
            let Some(scope) = field.child(2)? else {
                continue;
            };
            collect_envelope(scope, &mut scope_envelope)?;
            let mut children = Fields(scope);
            while let Some(field) = children.next()? {
                let Some(message) = field.child(2)? else {
                    continue;
                };
                each(Child { message, resource_envelope: &resource_envelope, scope_envelope: &scope_envelope })?;
            }
        }
    }
    Ok(())
}

/// Copies what a metric says beside its points and returns the message they are in.
fn read_metric<'a>(metric: &'a [u8], envelope: &mut Vec<u8>) -> Result<&'a [u8], Malformed> {
    envelope.clear();
    let mut data = None;
    let mut fields = Fields(metric);
    while let Some(field) = fields.next()? {
        match field.number {
            5 | 7 => data = Some((field.number as u8, field.value)),
            9..=11 => return Err(Malformed),
            _ => envelope.extend_from_slice(field.whole),
        }
    }
    let (number, data) = data.ok_or(Malformed)?;
    envelope.push(number);
    let mut fields = Fields(data);
    while let Some(field) = fields.next()? {
        if field.number != 1 {
            envelope.extend_from_slice(field.whole);
        }
    }
    Ok(data)
}

/// The number in the attribute `series` of a point.
fn series_of_point(point: &[u8]) -> Result<u64, Malformed> {
    let mut fields = Fields(point);
    while let Some(field) = fields.next()? {
        if let Some(attribute) = field.child(7)?
            && field_of(attribute, 1)? == SERIES_KEY.as_bytes()
        {
            return number(field_of(field_of(attribute, 2)?, 1)?);
        }
    }
    Err(Malformed)
}

fn number(text: &[u8]) -> Result<u64, Malformed> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(Malformed)
}

/// The value of an attribute, as far as policies ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttributeValue<'a> {
    /// `string_value`.
    Text(&'a str),
    /// `int_value`.
    Integer(i64),
    /// Of another type.
    Other,
}

/// Calls `each` for the attributes of a span.
pub(crate) fn read_attributes(span: &[u8], each: impl FnMut(&[u8], AttributeValue<'_>)) -> Result<(), Malformed> {
    read_pairs(span, 9, each)
}

/// Calls `each` for the attributes of the resource in an envelope.
pub(crate) fn read_resource_attributes(
    envelope: &[u8],
    each: impl FnMut(&[u8], AttributeValue<'_>),
) -> Result<(), Malformed> {
    read_pairs(field_of(envelope, 1)?, 1, each)
}

/// Calls `each` for the `KeyValue`s in this field.
fn read_pairs(message: &[u8], number: u64, mut each: impl FnMut(&[u8], AttributeValue<'_>)) -> Result<(), Malformed> {
    let mut fields = Fields(message);
    while let Some(field) = fields.next()? {
        let Some(attribute) = field.child(number)? else {
            continue;
        };
        let value = match Fields(field_of(attribute, 2)?).next()? {
            Some(Field { number: 1, value, .. }) => {
                AttributeValue::Text(std::str::from_utf8(value).map_err(|_| Malformed)?)
            }
            Some(Field { number: 3, value, .. }) => AttributeValue::Integer(Fields(value).varint()? as i64),
            _ => AttributeValue::Other,
        };
        each(field_of(attribute, 1)?, value);
    }
    Ok(())
}

/// The value of the first field with this number.
fn field_of(message: &[u8], number: u64) -> Result<&[u8], Malformed> {
    let mut fields = Fields(message);
    while let Some(field) = fields.next()? {
        if field.number == number {
            return Ok(field.value);
        }
    }
    Err(Malformed)
}

/// Undoes `grpc-encoding` or `content-encoding`.
pub(crate) fn decompress<'a>(encoding: Option<&[u8]>, body: &'a [u8]) -> io::Result<Cow<'a, [u8]>> {
    let limit = REQUEST_BYTES_MAX as u64;
    let mut plain = Vec::new();
    match encoding {
        None | Some(b"identity") => return Ok(Cow::Borrowed(body)),
        Some(b"gzip") => flate2::read::MultiGzDecoder::new(body).take(limit).read_to_end(&mut plain)?,
        Some(b"snappy") => {
            let length = snap::raw::decompress_len(body).map_err(io::Error::other)?;
            if length > REQUEST_BYTES_MAX {
                return Err(io::Error::other("a request above the sink's limit"));
            }
            plain = snap::raw::Decoder::new().decompress_vec(body).map_err(io::Error::other)?;
            plain.len()
        }
        Some(b"zstd") => zstd::stream::read::Decoder::new(body)?.take(limit).read_to_end(&mut plain)?,
        Some(other) => {
            let name = String::from_utf8_lossy(other);
            return Err(io::Error::other(format!("the sink does not know the encoding {name}")));
        }
    };
    Ok(Cow::Owned(plain))
}

/// Copies every field but the repeated children, which have number 2 in both ResourceSpans and ScopeSpans.
fn collect_envelope(message: &[u8], envelope: &mut Vec<u8>) -> Result<(), Malformed> {
    envelope.clear();
    let mut fields = Fields(message);
    while let Some(field) = fields.next()? {
        if field.number != 2 {
            envelope.extend_from_slice(field.whole);
        }
    }
    Ok(())
}

/// The ids lead every span that SDKs and gateways write, so this ends early.
fn read_ids(span: &[u8]) -> Result<(TraceId, [u8; 8]), Malformed> {
    let (mut trace_id, mut span_id) = (None, None);
    let mut fields = Fields(span);
    while trace_id.is_none() || span_id.is_none() {
        let field = fields.next()?.ok_or(Malformed)?;
        if let Some(bytes) = field.child(1)? {
            trace_id = Some(TraceId(bytes.try_into().map_err(|_| Malformed)?));
        } else if let Some(bytes) = field.child(2)? {
            span_id = Some(bytes.try_into().map_err(|_| Malformed)?);
        }
    }
    Ok((trace_id.ok_or(Malformed)?, span_id.ok_or(Malformed)?))
}

struct Field<'a> {
    number: u64,
    wire_type: u64,
    /// With tag and length.
    whole: &'a [u8],
    /// Without.
    value: &'a [u8],
}

impl<'a> Field<'a> {
    /// The value if this is field `number`, which must be length-delimited.
    fn child(&self, number: u64) -> Result<Option<&'a [u8]>, Malformed> {
        match (self.number == number, self.wire_type) {
            (false, _) => Ok(None),
            (true, 2) => Ok(Some(self.value)),
            (true, _) => Err(Malformed),
        }
    }
}

/// The fields of a message, one after another.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Option<Field<'a>>, Malformed> {
        let whole = self.0;
        if whole.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => {
                let before = self.0;
                self.varint()?;
                &before[..before.len() - self.0.len()]
            }
            1 => self.take(8)?,
            2 => {
                let length = self.varint()?;
                self.take(usize::try_from(length).map_err(|_| Malformed)?)?
            }
            5 => self.take(4)?,
            _ => return Err(Malformed),
        };
        Ok(Some(Field { number: tag >> 3, wire_type: tag & 7, whole: &whole[..whole.len() - self.0.len()], value }))
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(Malformed)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if *byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (value, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(value)
    }
}
