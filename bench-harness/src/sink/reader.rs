//! Finds spans in an export request. The harness reads with its own few lines, not with the gateway's codec: a judge
//! that shared its reader with the judged would share its mistakes.
//!
//! Only the outer three levels and a span's two ids are read; a span's bytes are compared as a whole elsewhere.

use std::borrow::Cow;
use std::io::{self, Read};

use codecs::otlp::TraceId;

use super::REQUEST_BYTES_MAX;

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

/// Why bytes are not an export request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an OTLP export request")]
pub(crate) struct Malformed;

/// Calls `each` for every span of a request.
pub(crate) fn read_spans(request: &[u8], mut each: impl FnMut(ArrivedSpan<'_>)) -> Result<(), Malformed> {
    let (mut resource_envelope, mut scope_envelope) = (Vec::new(), Vec::new());
    let mut resources = Fields(request);
    while let Some(resource) = resources.next()? {
        let resource_spans = resource.child(1)?.ok_or(Malformed)?;
        collect_envelope(resource_spans, &mut resource_envelope)?;
        let mut scopes = Fields(resource_spans);
        while let Some(field) = scopes.next()? {
            let Some(scope_spans) = field.child(2)? else {
                continue;
            };
            collect_envelope(scope_spans, &mut scope_envelope)?;
            let mut spans = Fields(scope_spans);
            while let Some(field) = spans.next()? {
                let Some(span) = field.child(2)? else {
                    continue;
                };
                let (trace_id, span_id) = read_ids(span)?;
                each(ArrivedSpan {
                    trace_id,
                    span_id,
                    span,
                    resource_envelope: &resource_envelope,
                    scope_envelope: &scope_envelope,
                });
            }
        }
    }
    Ok(())
}

/// Undoes `grpc-encoding` or `content-encoding`.
pub(crate) fn decompress<'a>(encoding: Option<&[u8]>, body: &'a [u8]) -> io::Result<Cow<'a, [u8]>> {
    let limit = REQUEST_BYTES_MAX as u64;
    let mut plain = Vec::new();
    match encoding {
        None | Some(b"identity") => return Ok(Cow::Borrowed(body)),
        Some(b"gzip") => flate2::read::MultiGzDecoder::new(body).take(limit).read_to_end(&mut plain)?,
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
