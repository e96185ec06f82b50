//! The `debug` exporter: batches as text for people, in the Collector's layout.
//!
//! The one idea: rendering is a pure function of the request's bytes. This is a slow path and decodes into structs;
//! whoever configures it wants to read, not to be fast. Text of a peer is shown with its control characters escaped.

mod logs;
mod metrics;

use crate::config::checked::Verbosity;
use codecs::otlp::Signal;
use codecs::otlp::proto::{
    AnyValue, ExportTraceServiceRequest, InstrumentationScope, KeyValue, Resource, Span, SpanEvent, SpanLink, Value,
};
use prost::Message;
use std::fmt::{self, Display, Formatter};

/// The text of one batch, ending with a line feed.
///
/// `request` is an unframed, uncompressed export request of `signal`. Bytes that are none give one line saying so.
pub fn render(verbosity: Verbosity, signal: Signal, request: &[u8]) -> String {
    match signal {
        Signal::Traces => traces(verbosity, request),
        Signal::Metrics => metrics::render(verbosity, request),
        Signal::Logs => logs::render(verbosity, request),
    }
}

fn traces(verbosity: Verbosity, request: &[u8]) -> String {
    let decoded = match ExportTraceServiceRequest::decode(request) {
        Ok(decoded) => decoded,
        Err(error) => return format!("Traces: {} bytes that cannot be shown: {error}\n", request.len()),
    };
    match verbosity {
        Verbosity::Basic => basic(&decoded),
        Verbosity::Normal => format!("{}{}", basic(&decoded), Normal(&decoded)),
        Verbosity::Detailed => format!("{}{}", basic(&decoded), Detailed(&decoded)),
    }
}

/// One line a batch.
fn basic(request: &ExportTraceServiceRequest) -> String {
    let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
    let spans: usize = scopes.map(|scope| scope.spans.len()).sum();
    format!("Traces\t{{\"resource spans\": {}, \"spans\": {spans}}}\n", request.resource_spans.len())
}

/// One line a span.
struct Normal<'a>(&'a ExportTraceServiceRequest);

impl Display for Normal<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (number, resource) in self.0.resource_spans.iter().enumerate() {
            write_resource_line(f, "ResourceTraces", number, resource.resource.as_ref(), &resource.schema_url)?;
            for (number, scope) in resource.scope_spans.iter().enumerate() {
                write_scope_line(f, "ScopeTraces", number, scope.scope.as_ref(), &scope.schema_url)?;
                for span in &scope.spans {
                    let (trace_id, id) = (Hex(&span.trace_id), Hex(&span.span_id));
                    writeln!(f, "{} {trace_id} {id}{}", Text(&span.name), Inline(&span.attributes))?;
                }
            }
        }
        Ok(())
    }
}

/// A resource in one line.
fn write_resource_line(
    f: &mut Formatter<'_>,
    heading: &str,
    number: usize,
    resource: Option<&Resource>,
    schema_url: &[u8],
) -> fmt::Result {
    let attributes = resource.map_or(&[][..], |resource| &resource.attributes);
    writeln!(f, "{heading} #{number}{}{}", Schema(schema_url), Inline(attributes))
}

/// A scope in one line.
fn write_scope_line(
    f: &mut Formatter<'_>,
    heading: &str,
    number: usize,
    scope: Option<&InstrumentationScope>,
    schema_url: &[u8],
) -> fmt::Result {
    write!(f, "{heading} #{number}")?;
    if let Some(named) = scope {
        write!(f, " {}@{}", Text(&named.name), Text(&named.version))?;
    }
    let attributes = scope.map_or(&[][..], |scope| &scope.attributes);
    writeln!(f, "{}{}", Schema(schema_url), Inline(attributes))
}

/// ` [URL]`, or nothing.
struct Schema<'a>(&'a [u8]);

impl Display for Schema<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " [{}]", Text(self.0)) }
    }
}

/// ` key=value key=value`.
struct Inline<'a>(&'a [KeyValue]);

impl Display for Inline<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for attribute in self.0 {
            write!(f, " {}={}", Text(&attribute.key), Plain(attribute.value.as_ref()))?;
        }
        Ok(())
    }
}

/// Every field.
struct Detailed<'a>(&'a ExportTraceServiceRequest);

impl Display for Detailed<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (number, resource) in self.0.resource_spans.iter().enumerate() {
            writeln!(f, "ResourceSpans #{number}")?;
            write_resource(f, resource.resource.as_ref(), &resource.schema_url)?;
            for (number, scope) in resource.scope_spans.iter().enumerate() {
                writeln!(f, "ScopeSpans #{number}")?;
                writeln!(f, "ScopeSpans SchemaURL: {}", Text(&scope.schema_url))?;
                write_scope(f, scope.scope.as_ref().unwrap_or(&InstrumentationScope::default()))?;
                for (number, span) in scope.spans.iter().enumerate() {
                    write_span(f, number, span)?;
                }
            }
        }
        Ok(())
    }
}

fn write_resource(f: &mut Formatter<'_>, resource: Option<&Resource>, schema_url: &[u8]) -> fmt::Result {
    writeln!(f, "Resource SchemaURL: {}", Text(schema_url))?;
    let none = Resource::default();
    let resource = resource.unwrap_or(&none);
    write_attributes(f, "Resource attributes:", 5, &resource.attributes)?;
    write_dropped(f, "DroppedAttributesCount", resource.dropped_attributes_count)
}

fn write_scope(f: &mut Formatter<'_>, scope: &InstrumentationScope) -> fmt::Result {
    writeln!(f, "InstrumentationScope {} {}", Text(&scope.name), Text(&scope.version))?;
    write_attributes(f, "InstrumentationScope attributes:", 5, &scope.attributes)?;
    write_dropped(f, "DroppedAttributesCount", scope.dropped_attributes_count)
}

fn write_span(f: &mut Formatter<'_>, number: usize, span: &Span) -> fmt::Result {
    writeln!(f, "Span #{number}")?;
    let status = span.status.clone().unwrap_or_default();
    let lines: [(&str, &dyn Display); 11] = [
        ("Trace ID", &Hex(&span.trace_id)),
        ("Parent ID", &Hex(&span.parent_span_id)),
        ("ID", &Hex(&span.span_id)),
        ("Name", &Text(&span.name)),
        ("Kind", &named(&KINDS, span.kind)),
        ("TraceState", &Text(&span.trace_state)),
        ("Flags", &span.flags),
        ("Start time", &Time(span.start_time_unix_nano)),
        ("End time", &Time(span.end_time_unix_nano)),
        ("Status code", &named(&STATUS_CODES, status.code)),
        ("Status message", &Text(&status.message)),
    ];
    for (name, value) in lines {
        writeln!(f, "    {name:<15}: {value}")?;
    }
    write_dropped(f, "DroppedAttributesCount", span.dropped_attributes_count)?;
    write_dropped(f, "DroppedEventsCount", span.dropped_events_count)?;
    write_dropped(f, "DroppedLinksCount", span.dropped_links_count)?;
    write_attributes(f, "Attributes:", 5, &span.attributes)?;
    if !span.events.is_empty() {
        writeln!(f, "Events:")?;
    }
    for (number, event) in span.events.iter().enumerate() {
        write_event(f, number, event)?;
    }
    if !span.links.is_empty() {
        writeln!(f, "Links:")?;
    }
    for (number, link) in span.links.iter().enumerate() {
        write_link(f, number, link)?;
    }
    Ok(())
}

fn write_event(f: &mut Formatter<'_>, number: usize, event: &SpanEvent) -> fmt::Result {
    writeln!(f, "SpanEvent #{number}")?;
    writeln!(f, "     -> Name: {}", Text(&event.name))?;
    writeln!(f, "     -> Timestamp: {}", Time(event.time_unix_nano))?;
    writeln!(f, "     -> DroppedAttributesCount: {}", event.dropped_attributes_count)?;
    write_attributes(f, "     -> Attributes:", 10, &event.attributes)
}

fn write_link(f: &mut Formatter<'_>, number: usize, link: &SpanLink) -> fmt::Result {
    writeln!(f, "SpanLink #{number}")?;
    writeln!(f, "     -> Trace ID: {}", Hex(&link.trace_id))?;
    writeln!(f, "     -> ID: {}", Hex(&link.span_id))?;
    writeln!(f, "     -> TraceState: {}", Text(&link.trace_state))?;
    writeln!(f, "     -> DroppedAttributesCount: {}", link.dropped_attributes_count)?;
    write_attributes(f, "     -> Attributes:", 10, &link.attributes)
}

fn write_attributes(f: &mut Formatter<'_>, title: &str, indent: usize, attributes: &[KeyValue]) -> fmt::Result {
    if attributes.is_empty() {
        return Ok(());
    }
    writeln!(f, "{title}")?;
    for attribute in attributes {
        writeln!(f, "{:indent$}-> {}: {}", "", Text(&attribute.key), Typed(attribute.value.as_ref()))?;
    }
    Ok(())
}

fn write_dropped(f: &mut Formatter<'_>, name: &str, count: u32) -> fmt::Result {
    if count == 0 { Ok(()) } else { writeln!(f, "    {name}: {count}") }
}

/// Names by number, from the protocol.
const KINDS: [&str; 6] = ["Unspecified", "Internal", "Server", "Client", "Producer", "Consumer"];
const STATUS_CODES: [&str; 3] = ["Unset", "Ok", "Error"];

fn named(names: &[&str], number: i32) -> String {
    let name = usize::try_from(number).ok().and_then(|number| names.get(number));
    name.map_or_else(|| number.to_string(), |name| (*name).to_owned())
}

/// A peer's text: what is not UTF-8 is replaced, control characters are escaped.
struct Text<'a>(&'a [u8]);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for letter in String::from_utf8_lossy(self.0).chars() {
            if letter.is_control() {
                write!(f, "{}", letter.escape_default())?;
            } else {
                f.write_char(letter)?;
            }
        }
        Ok(())
    }
}

/// Lower-case hexadecimal; nothing for no bytes.
struct Hex<'a>(&'a [u8]);

impl Display for Hex<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A value with its type: `Str(x)`.
struct Typed<'a>(Option<&'a AnyValue>);

impl Display for Typed<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = match self.0.and_then(|value| value.value.as_ref()) {
            None => "Empty",
            Some(Value::String(_)) => "Str",
            Some(Value::Bool(_)) => "Bool",
            Some(Value::Int(_)) => "Int",
            Some(Value::Double(_)) => "Double",
            Some(Value::Array(_)) => "Slice",
            Some(Value::Map(_)) => "Map",
            Some(Value::Bytes(_)) => "Bytes",
        };
        write!(f, "{kind}({})", Plain(self.0))
    }
}

/// A value alone. Nesting is bounded by the decoder.
struct Plain<'a>(Option<&'a AnyValue>);

impl Display for Plain<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0.and_then(|value| value.value.as_ref()) {
            None => Ok(()),
            Some(Value::String(text)) => write!(f, "{}", Text(text)),
            Some(Value::Bool(value)) => write!(f, "{value}"),
            Some(Value::Int(value)) => write!(f, "{value}"),
            Some(Value::Double(value)) => write!(f, "{value}"),
            Some(Value::Bytes(bytes)) => write!(f, "{}", Hex(bytes)),
            Some(Value::Array(array)) => {
                f.write_str("[")?;
                for (position, value) in array.values.iter().enumerate() {
                    let separator = if position == 0 { "" } else { "," };
                    write!(f, "{separator}{}", Plain(Some(value)))?;
                }
                f.write_str("]")
            }
            Some(Value::Map(map)) => {
                f.write_str("{")?;
                for (position, entry) in map.values.iter().enumerate() {
                    let separator = if position == 0 { "" } else { "," };
                    write!(f, "{separator}{}:{}", Text(&entry.key), Plain(entry.value.as_ref()))?;
                }
                f.write_str("}")
            }
        }
    }
}

/// Nanoseconds since 1970 as `2020-02-11 20:26:12.000000321 +0000 UTC`.
struct Time(u64);

impl Display for Time {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = date(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{nanos:09} +0000 UTC")
    }
}

/// Days since 1970 as (year, month, day) of the Gregorian calendar. u64 nanoseconds end in 2554: no negative days.
pub(super) fn date(days: u64) -> (u64, u64, u64) {
    // Years begin in March: the leap day is then the last of its year, and months have 30.6 days on average.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use codecs::otlp::proto::{ArrayValue, KeyValueList, ResourceSpans, ScopeSpans, SpanStatus};

    fn attribute(key: &str, value: Value) -> KeyValue {
        KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }) }
    }

    fn request() -> Vec<u8> {
        let span = Span {
            trace_id: (0..16).collect(),
            span_id: vec![0xab; 8],
            name: b"GET /cart\x1b[31m".to_vec(),
            kind: 2,
            start_time_unix_nano: 1_581_452_772_000_000_321,
            end_time_unix_nano: 1_581_452_773_000_000_000,
            attributes: vec![
                attribute("http.status", Value::Int(500)),
                attribute("ok", Value::Bool(false)),
                attribute(
                    "tags",
                    Value::Array(ArrayValue {
                        values: vec![AnyValue { value: Some(Value::Double(1.5)) }, AnyValue { value: None }],
                    }),
                ),
                attribute("map", Value::Map(KeyValueList { values: vec![attribute("k", Value::Bytes(vec![255]))] })),
            ],
            events: vec![SpanEvent { name: b"retry".to_vec(), time_unix_nano: 1, ..SpanEvent::default() }],
            links: vec![SpanLink { span_id: vec![1; 8], ..SpanLink::default() }],
            status: Some(SpanStatus { code: 2, message: b"boom".to_vec() }),
            dropped_events_count: 3,
            ..Span::default()
        };
        let resource = Resource {
            attributes: vec![attribute("service.name", Value::String(b"shop".to_vec()))],
            dropped_attributes_count: 0,
        };
        let scope = InstrumentationScope { name: b"lib".to_vec(), version: b"1".to_vec(), ..Default::default() };
        let scope_spans = ScopeSpans { scope: Some(scope), spans: vec![span], schema_url: Vec::new() };
        let resource_spans =
            ResourceSpans { resource: Some(resource), scope_spans: vec![scope_spans], schema_url: Vec::new() };
        ExportTraceServiceRequest { resource_spans: vec![resource_spans] }.encode_to_vec()
    }

    #[test]
    fn basic_counts_a_batch_in_one_line() {
        assert_eq!(traces(Verbosity::Basic, &request()), "Traces\t{\"resource spans\": 1, \"spans\": 1}\n");
        assert_eq!(traces(Verbosity::Basic, b""), "Traces\t{\"resource spans\": 0, \"spans\": 0}\n");
    }

    #[test]
    fn normal_shows_one_line_a_span() {
        let expected = "Traces\t{\"resource spans\": 1, \"spans\": 1}\n\
            ResourceTraces #0 service.name=shop\n\
            ScopeTraces #0 lib@1\n\
            GET /cart\\u{1b}[31m 000102030405060708090a0b0c0d0e0f abababababababab \
            http.status=500 ok=false tags=[1.5,] map={k:ff}\n";
        assert_eq!(traces(Verbosity::Normal, &request()), expected);
    }

    #[test]
    fn detailed_shows_every_field() {
        let expected = "Traces\t{\"resource spans\": 1, \"spans\": 1}
ResourceSpans #0
Resource SchemaURL: 
Resource attributes:
     -> service.name: Str(shop)
ScopeSpans #0
ScopeSpans SchemaURL: 
InstrumentationScope lib 1
Span #0
    Trace ID       : 000102030405060708090a0b0c0d0e0f
    Parent ID      : 
    ID             : abababababababab
    Name           : GET /cart\\u{1b}[31m
    Kind           : Server
    TraceState     : 
    Flags          : 0
    Start time     : 2020-02-11 20:26:12.000000321 +0000 UTC
    End time       : 2020-02-11 20:26:13.000000000 +0000 UTC
    Status code    : Error
    Status message : boom
    DroppedEventsCount: 3
Attributes:
     -> http.status: Int(500)
     -> ok: Bool(false)
     -> tags: Slice([1.5,])
     -> map: Map({k:ff})
Events:
SpanEvent #0
     -> Name: retry
     -> Timestamp: 1970-01-01 00:00:00.000000001 +0000 UTC
     -> DroppedAttributesCount: 0
Links:
SpanLink #0
     -> Trace ID: 
     -> ID: 0101010101010101
     -> TraceState: 
     -> DroppedAttributesCount: 0
";
        assert_eq!(traces(Verbosity::Detailed, &request()), expected);
    }

    #[test]
    fn bytes_that_are_no_request_give_one_line() {
        let text = traces(Verbosity::Detailed, &[0xff, 0xff]);
        assert!(text.starts_with("Traces: 2 bytes that cannot be shown"), "{text}");
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn dates_follow_the_gregorian_calendar() {
        let check = |nanos: u64, expected: &str| assert!(Time(nanos).to_string().starts_with(expected));
        check(0, "1970-01-01 00:00:00");
        check(951_782_400_000_000_000, "2000-02-29 00:00:00");
        check(4_107_542_399_000_000_000, "2100-02-28 23:59:59");
        check(4_107_542_400_000_000_000, "2100-03-01 00:00:00");
        check(u64::MAX, "2554-07-21 23:34:33");
    }
}
