//! Log records as text.

use super::*;
use codecs::otlp::proto::{ExportLogsServiceRequest, LogRecord};

/// See [`super::render`].
pub(super) fn render(verbosity: Verbosity, request: &[u8]) -> String {
    let decoded = match ExportLogsServiceRequest::decode(request) {
        Ok(decoded) => decoded,
        Err(error) => return format!("Logs: {} bytes that cannot be shown: {error}\n", request.len()),
    };
    let scopes = decoded.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
    let records: usize = scopes.map(|scope| scope.log_records.len()).sum();
    let resources = decoded.resource_logs.len();
    let basic = format!("Logs\t{{\"resource logs\": {resources}, \"log records\": {records}}}\n");
    match verbosity {
        Verbosity::Basic => basic,
        Verbosity::Normal => format!("{basic}{}", Normal(&decoded)),
        Verbosity::Detailed => format!("{basic}{}", Detailed(&decoded)),
    }
}

/// One line a record.
struct Normal<'a>(&'a ExportLogsServiceRequest);

impl Display for Normal<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (number, resource) in self.0.resource_logs.iter().enumerate() {
            write_resource_line(f, "ResourceLog", number, resource.resource.as_ref(), &resource.schema_url)?;
            for (number, scope) in resource.scope_logs.iter().enumerate() {
                write_scope_line(f, "ScopeLog", number, scope.scope.as_ref(), &scope.schema_url)?;
                for record in &scope.log_records {
                    writeln!(f, "{}{}", Plain(record.body.as_ref()), Inline(&record.attributes))?;
                }
            }
        }
        Ok(())
    }
}

/// Every field.
struct Detailed<'a>(&'a ExportLogsServiceRequest);

impl Display for Detailed<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (number, resource) in self.0.resource_logs.iter().enumerate() {
            writeln!(f, "ResourceLog #{number}")?;
            write_resource(f, resource.resource.as_ref(), &resource.schema_url)?;
            for (number, scope) in resource.scope_logs.iter().enumerate() {
                writeln!(f, "ScopeLogs #{number}")?;
                writeln!(f, "ScopeLogs SchemaURL: {}", Text(&scope.schema_url))?;
                write_scope(f, scope.scope.as_ref().unwrap_or(&InstrumentationScope::default()))?;
                for (number, record) in scope.log_records.iter().enumerate() {
                    write_record(f, number, record)?;
                }
            }
        }
        Ok(())
    }
}

fn write_record(f: &mut Formatter<'_>, number: usize, record: &LogRecord) -> fmt::Result {
    writeln!(f, "LogRecord #{number}")?;
    writeln!(f, "ObservedTimestamp: {}", Time(record.observed_time_unix_nano))?;
    writeln!(f, "Timestamp: {}", Time(record.time_unix_nano))?;
    writeln!(f, "SeverityText: {}", Text(&record.severity_text))?;
    writeln!(f, "SeverityNumber: {}({})", severity(record.severity_number), record.severity_number)?;
    if !record.event_name.is_empty() {
        writeln!(f, "EventName: {}", Text(&record.event_name))?;
    }
    writeln!(f, "Body: {}", Typed(record.body.as_ref()))?;
    write_attributes(f, "Attributes:", 5, &record.attributes)?;
    write_dropped(f, "DroppedAttributesCount", record.dropped_attributes_count)?;
    writeln!(f, "Trace ID: {}", Hex(&record.trace_id))?;
    writeln!(f, "Span ID: {}", Hex(&record.span_id))?;
    writeln!(f, "Flags: {}", record.flags)
}

/// The name of a severity: six ranges of four (opentelemetry-proto, logs/v1, SeverityNumber).
fn severity(number: i32) -> String {
    const RANGES: [&str; 6] = ["Trace", "Debug", "Info", "Warn", "Error", "Fatal"];
    let Some(place) = usize::try_from(number).ok().and_then(|number| number.checked_sub(1)) else {
        return "Unspecified".to_owned();
    };
    match (RANGES.get(place / 4), place % 4) {
        (None, _) => "Unspecified".to_owned(),
        (Some(range), 0) => (*range).to_owned(),
        (Some(range), step) => format!("{range}{}", step + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use codecs::otlp::Signal;

    #[test]
    fn a_record_is_shown_in_one_line_or_with_every_field() {
        let json = br#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},
            "scopeLogs":[{"scope":{"name":"logger"},"logRecords":[{"timeUnixNano":"1","severityNumber":10,"severityText":
            "INFO2","body":{"stringValue":"order\n7"},"attributes":[{"key":"n","value":{"intValue":7}}]}]}]}]}"#;
        let mut request = Vec::new();
        codecs::json::read_request(Signal::Logs, json, &mut request).unwrap();
        let basic = "Logs\t{\"resource logs\": 1, \"log records\": 1}\n";
        assert_eq!(render(Verbosity::Basic, &request), basic);
        let normal = "ResourceLog #0 service.name=shop\nScopeLog #0 logger@\norder\\n7 n=7\n";
        assert_eq!(render(Verbosity::Normal, &request), format!("{basic}{normal}"));
        let detailed = render(Verbosity::Detailed, &request);
        for line in ["SeverityNumber: Info2(10)\n", "Body: Str(order\\n7)\n", "     -> n: Int(7)\n", "Flags: 0\n"] {
            assert!(detailed.contains(line), "{detailed}");
        }
        assert!(render(Verbosity::Basic, b"\x0a").contains("1 bytes that cannot be shown"));
    }
}
