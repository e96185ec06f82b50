//! Any bytes as a text that functions and sanitizers take apart.

use codecs::otlp::proto;
use prost::Message;

use crate::sanitize::{Database, DatabaseSanitizer, UrlSanitizer};
use crate::{Context, Environment, Paths, Statement, WireItem, check_statement};

/// Statements on the attribute `a`, whatever it holds.
const STATEMENTS: &[&str] = &[
    r#"set(attributes["b"], ParseCSV(attributes["a"], "x,y,z"))"#,
    r#"set(attributes["b"], ParseCSV(attributes["a"], "x|y", delimiter = ";", header_delimiter = "|", mode = "lazyQuotes"))"#,
    r#"set(attributes["b"], ParseCSV(attributes["a"], "x y", header_delimiter = " ", mode = "ignoreQuotes"))"#,
    r#"set(attributes["b"], ExtractGrokPatterns(attributes["a"], "%{COMBINEDAPACHELOG}", true))"#,
    r#"set(attributes["b"], ExtractGrokPatterns(attributes["a"], "%{SYSLOGLINE}|%{IP:ip}|%{NUMBER:n:float}"))"#,
    r#"set(time, Time(attributes["a"], "%b %e %H:%M:%S", "America/New_York"))"#,
    r#"set(time, Time(attributes["a"], "%Y-%m-%dT%H:%M:%S.%f%z"))"#,
    r#"set(time, Time(attributes["a"], "%A %d %B %y %I:%M %p %Z %j"))"#,
    r#"set(attributes["b"], ParseKeyValue(attributes["a"]))"#,
    r#"set(attributes["b"], ParseJSON(attributes["a"]))"#,
    r#"set(attributes["b"], URL(attributes["a"]))"#,
];

thread_local! {
    static READ: Vec<Statement> = STATEMENTS
        .iter()
        .map(|text| check_statement(text, Context::Log, Paths::Bare).expect("these are statements"))
        .collect();
}

const DATABASES: [Database; 7] = [
    Database::Sql,
    Database::Redis,
    Database::Valkey,
    Database::Memcached,
    Database::Mongo,
    Database::OpenSearch,
    Database::Elasticsearch,
];

/// Any bytes: no panic, a record that can be read, and of a cleaned query no value.
pub fn fuzz_texts(bytes: &[u8]) {
    let value = Some(proto::AnyValue { value: Some(proto::Value::String(bytes.to_vec())) });
    let attributes = vec![proto::KeyValue { key: b"a".to_vec(), value }];
    let record = proto::LogRecord { attributes, ..Default::default() }.encode_to_vec();
    let mut item = WireItem::new(codecs::otlp::Signal::Logs);
    READ.with(|statements| {
        for statement in statements {
            item.begin_item(&record);
            statement.run(&mut item, &mut Environment::default());
            let mut out = Vec::new();
            item.write(Context::Log, &mut out);
            proto::LogRecord::decode(&*out).expect("a written record decodes");
        }
    });
    assert!(UrlSanitizer::cleaned(bytes).len() <= bytes.len());
    for database in DATABASES {
        let keys = std::iter::once(b"q".to_vec()).collect();
        let sanitizer = DatabaseSanitizer { databases: vec![(database, keys)], cleans_span_names: true };
        sanitizer.cleaned_body(bytes);
        for system in ["", "mysql", "postgresql", "mongodb"] {
            let Some(cleaned) = sanitizer.cleaned_attribute(bytes, b"q", system.as_bytes()) else { continue };
            match database {
                Database::Sql => assert!(!cleaned.iter().any(u8::is_ascii_digit), "a number is left"),
                Database::Mongo => {
                    let json = serde_json::from_slice::<serde_json::Value>(&cleaned);
                    // Without a system nobody says that it is JSON.
                    assert!(json.is_ok_and(|json| says_nothing(&json)) || system.is_empty() || cleaned == b"?");
                }
                _ => {}
            }
        }
    }
}

fn says_nothing(json: &serde_json::Value) -> bool {
    match json {
        serde_json::Value::Array(items) => items.iter().all(says_nothing),
        serde_json::Value::Object(entries) => entries.values().all(says_nothing),
        scalar => scalar == "?",
    }
}
