//! Cleaning of URLs and of database queries, so that their shape stays and what people put into them goes.
//!
//! The rules are those of the Collector's `redaction` processor (`url_sanitizer`, `db_sanitizer`), with one idea on top:
//! where a text can be read in two ways, the reading that shows less counts.

mod command;
mod json;
mod sql;
mod url;

use std::collections::BTreeSet;

use codecs::otlp::attributes::Fields;

use crate::attributes::{AttributeList, Child, rewrite_children};
use crate::editor::VALUE_BYTES_MAX;
use crate::value::Value;

/// `url_sanitizer`.
#[derive(Clone, Debug, Default)]
pub struct UrlSanitizer {
    /// Attributes that hold URLs.
    pub attributes: BTreeSet<Vec<u8>>,
    /// `sanitize_span_name`.
    pub cleans_span_names: bool,
}

/// `db_sanitizer`.
#[derive(Clone, Debug, Default)]
pub struct DatabaseSanitizer {
    /// What is enabled, in this order, and the attributes that hold its queries.
    pub databases: Vec<(Database, BTreeSet<Vec<u8>>)>,
    /// `sanitize_span_name`.
    pub cleans_span_names: bool,
}

/// A kind of query language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    /// SQL, of every system that is none of the others.
    Sql,
    /// Redis.
    Redis,
    /// Valkey.
    Valkey,
    /// Memcached.
    Memcached,
    /// MongoDB, as JSON.
    Mongo,
    /// OpenSearch, as JSON.
    OpenSearch,
    /// Elasticsearch, as JSON.
    Elasticsearch,
}

/// Attributes that name the database, the first of which counts.
const SYSTEM_KEYS: [&[u8]; 2] = [b"db.system.name", b"db.system"];
/// Attributes of which a span of HTTP has one.
const HTTP_KEYS: [&[u8]; 9] = [
    b"http.route",
    b"http.request.method",
    b"http.request.method_original",
    b"http.response.status_code",
    b"url.full",
    b"http.scheme",
    b"http.target",
    b"http.method",
    b"http.url",
];
const INTERNAL: u64 = 1;
const SERVER: u64 = 2;
const CLIENT: u64 = 3;

/// The name of a span and what says of which kind it is.
const SPAN_NAME: u32 = 5;
const SPAN_KIND: u32 = 6;

impl UrlSanitizer {
    /// A text that is a URL, without what differs from one request to the next.
    pub(crate) fn cleaned(text: &[u8]) -> Vec<u8> {
        url::cleaned(text)
    }

    /// A span's name, if it changes. One that would say nothing any more stays.
    fn cleaned_name(&self, kind: u64, name: &[u8], list: &AttributeList) -> Option<Vec<u8>> {
        let is_http = || HTTP_KEYS.iter().any(|key| list.find(key).is_some());
        if !self.cleans_span_names || !matches!(kind, CLIENT | SERVER) || !(name.contains(&b'/') || is_http()) {
            return None;
        }
        let cleaned = url::cleaned(name);
        let says_nothing = cleaned.contains(&b'*') && cleaned.iter().all(|byte| matches!(byte, b'*' | b'/'));
        (!says_nothing && !cleaned.is_empty() && cleaned != name).then_some(cleaned)
    }
}

impl DatabaseSanitizer {
    /// A value of the attribute `key` without literals; `None` if it is none of a query. Without a system, what every
    /// enabled language takes for a literal goes.
    pub(crate) fn cleaned_attribute(&self, text: &[u8], key: &[u8], system: &[u8]) -> Option<Vec<u8>> {
        let mut own = self.databases.iter().filter(|(database, keys)| database.is_of(system) && keys.contains(key));
        let first = own.next()?;
        let cleaned = first.0.cleaned(text, system, true);
        Some(if system.is_empty() {
            own.fold(cleaned, |text, one| one.0.cleaned(&text, system, true))
        } else {
            cleaned
        })
    }

    /// A text of a log record's body: every enabled language has its turn.
    pub(crate) fn cleaned_body(&self, text: &[u8]) -> Vec<u8> {
        self.databases.iter().fold(text.to_vec(), |text, (database, _)| database.cleaned(&text, b"", false))
    }

    fn cleaned_name(&self, kind: u64, name: &[u8], system: &[u8]) -> Option<Vec<u8>> {
        if !self.cleans_span_names || !matches!(kind, CLIENT | SERVER | INTERNAL) || system.is_empty() {
            return None;
        }
        let (database, _) = self.databases.iter().find(|(database, _)| database.is_of(system))?;
        let cleaned = database.cleaned(name, system, false);
        (cleaned != name && !cleaned.is_empty()).then_some(cleaned)
    }
}

impl Database {
    /// Whether the system, in lower case, speaks this language; one that nobody names may speak any.
    fn is_of(self, system: &[u8]) -> bool {
        match system {
            b"" => true,
            b"redis" => self == Self::Redis,
            b"valkey" => self == Self::Valkey,
            b"memcached" => self == Self::Memcached,
            b"mongodb" => self == Self::Mongo,
            b"opensearch" => self == Self::OpenSearch,
            b"elasticsearch" => self == Self::Elasticsearch,
            _ => self == Self::Sql,
        }
    }

    /// `is_query`: it is one for sure, so that what is none in its language hides.
    fn cleaned(self, text: &[u8], system: &[u8], is_query: bool) -> Vec<u8> {
        match self {
            Self::Sql => sql::cleaned(text, system),
            Self::Redis | Self::Valkey => command::without_arguments(text),
            Self::Memcached => command::first_line(text),
            Self::Mongo | Self::OpenSearch | Self::Elasticsearch => match json::cleaned(text) {
                // Of numbers with one digit it makes three bytes each.
                Some(cleaned) if cleaned.len() > text.len().max(VALUE_BYTES_MAX) => b"?".to_vec(),
                Some(cleaned) => cleaned,
                None if is_query && !system.is_empty() => b"?".to_vec(),
                None => text.to_vec(),
            },
        }
    }
}

/// The database that a list of attributes names, in lower case; empty if it names none.
pub(crate) fn database_system(list: &AttributeList) -> Vec<u8> {
    for key in SYSTEM_KEYS {
        if let Some(Value::Text(system)) = list.find(key).map(|place| list.value(place))
            && !system.is_empty()
        {
            return system.to_ascii_lowercase();
        }
    }
    Vec::new()
}

/// Appends a span with the name that `clean` makes of its kind and name to `out`, and returns whether it differs.
pub(crate) fn clean_span_name(clean: impl Fn(u64, &[u8]) -> Option<Vec<u8>>, span: &[u8], out: &mut Vec<u8>) -> bool {
    let kind = Fields::of(span).filter(|field| field.tag.number == SPAN_KIND).last().map_or(0, |field| field.number);
    let mut write = |name: &[u8], out: &mut Vec<u8>| {
        let Some(cleaned) = clean(kind, name) else { return Child::Kept };
        out.extend_from_slice(&cleaned);
        Child::Written
    };
    rewrite_children(span, SPAN_NAME, &mut write, out)
}

/// The name of a span of such a kind and with such attributes, if it changes.
pub(crate) fn cleaned_span_name(
    (urls, databases): (Option<&UrlSanitizer>, Option<&DatabaseSanitizer>),
    (kind, name): (u64, &[u8]),
    list: &AttributeList,
    system: &[u8],
) -> Option<Vec<u8>> {
    let url = urls.and_then(|urls| urls.cleaned_name(kind, name, list));
    url.or_else(|| databases.and_then(|databases| databases.cleaned_name(kind, name, system)))
}
