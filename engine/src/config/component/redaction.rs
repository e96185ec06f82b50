//! `processors.redaction`: keys that may stay, values that may not be seen.

use std::collections::BTreeSet;

use ottl::{Database, DatabaseSanitizer, HmacKey, Mask, Pattern, Redaction, Summary, UrlSanitizer};

use super::actions;
use crate::config::checked::ProcessorKind;
use crate::config::section::{Field, Section};

/// Most keys of one list.
const KEYS_MAX: usize = 16_384;
/// Most patterns of one list; each is searched for in every attribute.
const PATTERNS_MAX: usize = 256;

/// `hash_function`.
#[derive(Clone, Copy)]
enum Hash {
    None,
    Md5,
    Sha1,
    Sha3,
    HmacSha256,
    HmacSha512,
}

const HASHES: [(&str, Hash); 6] = [
    ("", Hash::None),
    ("md5", Hash::Md5),
    ("sha1", Hash::Sha1),
    ("sha3", Hash::Sha3),
    ("hmac-sha256", Hash::HmacSha256),
    ("hmac-sha512", Hash::HmacSha512),
];

const SUMMARIES: [(&str, Summary); 4] =
    [("", Summary::Silent), ("silent", Summary::Silent), ("info", Summary::Info), ("debug", Summary::Debug)];

const DATABASES: [(&str, Database); 7] = [
    ("sql", Database::Sql),
    ("redis", Database::Redis),
    ("valkey", Database::Valkey),
    ("memcached", Database::Memcached),
    ("mongo", Database::Mongo),
    ("opensearch", Database::OpenSearch),
    ("es", Database::Elasticsearch),
];

/// Reads the settings.
pub(crate) fn check(field: &Field<'_>) -> Option<ProcessorKind> {
    let section = field.section()?;
    let allows_all = section.boolean("allow_all_keys", false);
    let allowed_keys = keys(&section, "allowed_keys");
    if !allows_all && allowed_keys.is_empty() {
        section.warning(
            "no key is allowed: every attribute is removed",
            "add `allow_all_keys: true`, or the keys that may stay to `allowed_keys`",
        );
    }
    let ignored_keys = keys(&section, "ignored_keys");
    let (ignored_key_patterns, blocked_key_patterns) =
        (patterns(&section, "ignored_key_patterns"), patterns(&section, "blocked_key_patterns"));
    let (blocked_values, allowed_values) = (patterns(&section, "blocked_values"), patterns(&section, "allowed_values"));
    let redacts_all_types = section.boolean("redact_all_types", false);
    let mask = mask(&section);
    let summary = section.choice("summary", &SUMMARIES, Summary::Silent);
    let urls = url_sanitizer(&section);
    let databases = database_sanitizer(&section);
    Some(ProcessorKind::Redaction(Redaction {
        allowed_keys: (!allows_all).then_some(allowed_keys),
        ignored_keys,
        ignored_key_patterns: ignored_key_patterns?,
        redacts_all_types,
        blocked_key_patterns: blocked_key_patterns?,
        blocked_values: blocked_values?,
        allowed_values: allowed_values?,
        urls,
        databases,
        mask: mask?,
        summary,
    }))
}

fn keys(section: &Section<'_>, key: &'static str) -> BTreeSet<Vec<u8>> {
    let Some(field) = section.field(key) else { return BTreeSet::new() };
    let texts = field.texts();
    if texts.len() > KEYS_MAX {
        field.error(format!("more than {KEYS_MAX} keys"), "shorten the list");
    }
    texts.into_iter().map(|(text, _)| text.into_bytes()).collect()
}

fn patterns(section: &Section<'_>, key: &'static str) -> Option<Vec<Pattern>> {
    let Some(field) = section.field(key) else { return Some(Vec::new()) };
    let items = field.items();
    if items.len() > PATTERNS_MAX {
        field.error(format!("more than {PATTERNS_MAX} patterns"), "combine some of them: `one|other`");
        return None;
    }
    // Each is looked at, so that one run reports everything.
    let patterns: Vec<Option<Pattern>> = items.iter().map(actions::pattern).collect();
    patterns.into_iter().collect()
}

fn mask(section: &Section<'_>) -> Option<Mask> {
    let hash = section.choice("hash_function", &HASHES, Hash::None);
    let key = section.text("hmac_key");
    let keyed = |bytes_min: usize| {
        let Some(key) = &key else {
            section.error(
                "`hmac_key` is missing",
                format!("add `hmac_key:` with {bytes_min} bytes or more, from a variable"),
            );
            return None;
        };
        if key.len() < bytes_min {
            let message = format!("`hmac_key` has {} bytes, expected {bytes_min} or more", key.len());
            section.error(message, format!("make one by `openssl rand -hex {bytes_min}`"));
            return None;
        }
        Some(HmacKey(key.clone().into_bytes()))
    };
    Some(match hash {
        Hash::None => Mask::Stars,
        Hash::Md5 => Mask::Md5,
        Hash::Sha1 => Mask::Sha1,
        Hash::Sha3 => Mask::Sha3,
        Hash::HmacSha256 => Mask::HmacSha256(keyed(32)?),
        Hash::HmacSha512 => Mask::HmacSha512(keyed(64)?),
    })
}

fn url_sanitizer(section: &Section<'_>) -> Option<UrlSanitizer> {
    let sanitizer = section.section("url_sanitizer")?;
    let is_enabled = sanitizer.boolean("enabled", false);
    let attributes = keys(&sanitizer, "attributes");
    let cleans_span_names = sanitizer.boolean("sanitize_span_name", true);
    is_enabled.then_some(UrlSanitizer { attributes, cleans_span_names })
}

/// `db_sanitizer`: one section for each kind of database.
fn database_sanitizer(section: &Section<'_>) -> Option<DatabaseSanitizer> {
    let sanitizer = section.section("db_sanitizer")?;
    let cleans_span_names = sanitizer.boolean("sanitize_span_name", true);
    // Always so here.
    sanitizer.ignored(&["allow_fallback_without_system"]);
    let mut databases = Vec::new();
    for (key, database) in DATABASES {
        let Some(one) = sanitizer.section(key) else { continue };
        let is_enabled = one.boolean("enabled", false);
        let attributes = keys(&one, "attributes");
        if is_enabled {
            databases.push((database, attributes));
        }
    }
    (!databases.is_empty()).then_some(DatabaseSanitizer { databases, cleans_span_names })
}
