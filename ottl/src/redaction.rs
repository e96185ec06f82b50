//! Redaction: keys that may stay, values that may not be seen.
//!
//! The rules are those of the Collector's `redaction` processor (contrib v0.156), attribute by attribute: ignored, else
//! not allowed and removed, else a value that is allowed, else a key that is blocked and masked, else a value in which what
//! is blocked is masked. The list of allowed keys fails closed. What was done is written into `redaction.*` attributes if
//! the summary asks for it. Whatever a value's bytes are, nothing of a blocked one is left.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

use crate::action::as_text;
use crate::attributes::{AttributeList, Child, field, rewrite_children};
use crate::digest::{hmac, sha3_256};
use crate::editor::VALUE_BYTES_MAX;
use crate::overlay::{read_any, write_any};
use crate::pattern::Pattern;
use crate::sanitize::{DatabaseSanitizer, UrlSanitizer, clean_span_name, cleaned_span_name, database_system};
use crate::value::{Value, hex};

/// What to redact.
#[derive(Clone, Debug, Default)]
pub struct Redaction {
    /// `allowed_keys`; `None`: all (`allow_all_keys`). Attributes of the summary are always allowed.
    pub allowed_keys: Option<BTreeSet<Vec<u8>>>,
    /// `ignored_keys`: left as they are, whatever they hold.
    pub ignored_keys: BTreeSet<Vec<u8>>,
    /// `ignored_key_patterns`.
    pub ignored_key_patterns: Vec<Pattern>,
    /// `redact_all_types`: values of other types are looked at as text. Else only text is, and of others nothing.
    pub redacts_all_types: bool,
    /// `blocked_key_patterns`: masked whole.
    pub blocked_key_patterns: Vec<Pattern>,
    /// `blocked_values`: what matches is masked.
    pub blocked_values: Vec<Pattern>,
    /// `allowed_values`: a text in which one is found is left as it is.
    pub allowed_values: Vec<Pattern>,
    /// `url_sanitizer`: after what is blocked, in the attributes that it names, in names of spans and in bodies.
    pub urls: Option<UrlSanitizer>,
    /// `db_sanitizer`: the same, after URLs.
    pub databases: Option<DatabaseSanitizer>,
    /// What stands in the place of what is masked.
    pub mask: Mask,
    /// What is told of it.
    pub summary: Summary,
}

/// `hash_function`: what stands in the place of a masked text.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Mask {
    /// `****`.
    #[default]
    Stars,
    /// Its MD5 in hexadecimal digits, as all of these.
    Md5,
    /// Its SHA-1.
    Sha1,
    /// Its SHA3-256.
    Sha3,
    /// Its HMAC with SHA-256.
    HmacSha256(HmacKey),
    /// Its HMAC with SHA-512.
    HmacSha512(HmacKey),
}

/// `hmac_key`. Never shown.
#[derive(Clone, PartialEq)]
pub struct HmacKey(pub Vec<u8>);

impl fmt::Debug for HmacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HmacKey(..)")
    }
}

/// `summary`: which attributes tell what was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Summary {
    /// None.
    #[default]
    Silent,
    /// Counts.
    Info,
    /// Counts and keys.
    Debug,
}

/// Attributes of the summary: keys, count.
const REDACTED: (&str, &str) = ("redaction.redacted.keys", "redaction.redacted.count");
const MASKED: (&str, &str) = ("redaction.masked.keys", "redaction.masked.count");
const ALLOWED: (&str, &str) = ("redaction.allowed.keys", "redaction.allowed.count");
const IGNORED: (&str, &str) = ("", "redaction.ignored.count");

/// The same of a log record's body.
const BODY_REDACTED: (&str, &str) = ("redaction.body.redacted.keys", "redaction.body.redacted.count");
const BODY_MASKED: (&str, &str) = ("redaction.body.masked.keys", "redaction.body.masked.count");
const BODY_ALLOWED: (&str, &str) = ("redaction.body.allowed.keys", "redaction.body.allowed.count");
const BODY_IGNORED: (&str, &str) = ("", "redaction.body.ignored.count");

/// What the summary calls a body that is one value.
const BODY: &[u8] = b"body";

/// Keys in a body that met the same fate, dotted: `user.mail`, `list.[0]`.
#[derive(Debug, Default)]
struct BodyFates {
    redacted: Vec<Vec<u8>>,
    masked: Vec<Vec<u8>>,
    allowed: Vec<Vec<u8>>,
    ignored: Vec<Vec<u8>>,
}

/// Places of attributes that met the same fate.
#[derive(Debug, Default)]
struct Fates {
    redacted: Vec<usize>,
    masked: Vec<usize>,
    allowed: Vec<usize>,
    ignored: Vec<usize>,
}

impl Redaction {
    /// Redacts the attributes of `list`.
    pub fn redact(&self, list: &mut AttributeList) {
        let system = self.databases.as_ref().map_or(Vec::new(), |_| database_system(list));
        self.redact_of(&system, list);
    }

    /// Appends the span with its attributes and its name redacted to `out`, and returns whether it differs. `list` and
    /// `scratch` are memory to use.
    pub fn redact_span(&self, span: &[u8], list: &mut AttributeList, scratch: &mut Vec<u8>, out: &mut Vec<u8>) -> bool {
        list.begin(span, field::SPAN);
        if self.urls.is_none() && self.databases.is_none() {
            self.redact(list);
            list.write(out);
            return list.is_changed();
        }
        // Whatever becomes of the attribute that names the database.
        let system = database_system(list);
        self.redact_of(&system, list);
        scratch.clear();
        list.write(scratch);
        let clean = |kind: u64, name: &[u8]| {
            if self.allowed_values.iter().any(|pattern| pattern.is_found_in(name)) {
                return None;
            }
            cleaned_span_name((self.urls.as_ref(), self.databases.as_ref()), (kind, name), list, &system)
        };
        clean_span_name(clean, scratch, out) || list.is_changed()
    }

    /// Redacts the attributes of `list`, which belong to a database called `system`.
    fn redact_of(&self, system: &[u8], list: &mut AttributeList) {
        let mut fates = Fates::default();
        for place in 0..list.places_end() {
            if !list.is_there(place) {
                continue;
            }
            if self.ignores(list.key(place)) {
                fates.ignored.push(place);
            } else if !self.allows_key(list.key(place)) {
                fates.redacted.push(place);
            } else {
                self.redact_value(place, system, list, &mut fates);
            }
        }
        if self.summary != Summary::Silent {
            // Keys are read before they go.
            let told = [(REDACTED, &fates.redacted), (MASKED, &fates.masked), (ALLOWED, &fates.allowed)].map(
                |(names, places)| (names, places.iter().map(|place| list.key(*place).to_vec()).collect::<Vec<_>>()),
            );
            let ignored = fates.ignored.len();
            fates.redacted.iter().for_each(|place| list.remove(*place));
            told.into_iter().for_each(|(names, keys)| self.tell(names, keys, list));
            self.tell(IGNORED, vec![Vec::new(); ignored], list);
        } else {
            fates.redacted.iter().for_each(|place| list.remove(*place));
        }
    }

    /// Appends the log record with its attributes and its body redacted to `out`, and returns whether it differs. In a body
    /// that is a map, keys are treated as those of attributes are, at every depth; any other one is looked at as text.
    /// `list` and `scratch` are memory to use.
    pub fn redact_record(
        &self,
        record: &[u8],
        list: &mut AttributeList,
        scratch: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> bool {
        let mut fates = BodyFates::default();
        scratch.clear();
        let mut redact = |body: &[u8], out: &mut Vec<u8>| match self.redacted_body(read_any(body), &mut fates) {
            Some(redacted) => {
                write_any(out, &redacted);
                Child::Written
            }
            None => Child::Kept,
        };
        let is_changed = rewrite_children(record, field::LOG_BODY, &mut redact, scratch);
        list.begin(scratch, field::LOG);
        self.redact(list);
        if self.summary != Summary::Silent {
            let BodyFates { redacted, masked, allowed, ignored } = fates;
            for (names, keys) in
                [(BODY_REDACTED, redacted), (BODY_MASKED, masked), (BODY_ALLOWED, allowed), (BODY_IGNORED, ignored)]
            {
                self.tell(names, keys, list);
            }
        }
        list.write(out);
        is_changed || list.is_changed()
    }

    /// `None` if nothing in it changes.
    fn redacted_body(&self, body: Value<'_>, fates: &mut BodyFates) -> Option<Value<'static>> {
        match body {
            Value::Map(_) | Value::List(_) => {
                let mut body = body.into_owned();
                self.redact_within(&mut Vec::new(), &mut body, fates).then_some(body)
            }
            Value::Nil => None,
            single => {
                let mut single = single.into_owned();
                self.redact_single(BODY, &mut single, fates).then_some(single)
            }
        }
    }

    /// Redacts what lies in the value called `key`; whether anything changed. As deep as the value, which was checked.
    fn redact_within(&self, key: &mut Vec<u8>, value: &mut Value<'static>, fates: &mut BodyFates) -> bool {
        let length = key.len();
        let enter = |key: &mut Vec<u8>, name: &[u8]| {
            key.truncate(length);
            if length > 0 {
                key.push(b'.');
            }
            key.extend_from_slice(name);
        };
        let mut is_changed = false;
        match value {
            Value::Map(entries) => entries.retain_mut(|(name, value)| {
                enter(key, name);
                if self.ignores(name) {
                    fates.ignored.push(key.clone());
                } else if !self.allows_key(name) {
                    fates.redacted.push(key.clone());
                    is_changed = true;
                    return false;
                } else if self.blocks_key(name) {
                    *value = Value::Text(Cow::Owned(self.mask_lines(&as_text(value))));
                    fates.masked.push(key.clone());
                    is_changed = true;
                } else {
                    is_changed |= self.redact_within(key, value, fates);
                }
                true
            }),
            Value::List(items) => {
                for (number, item) in items.iter_mut().enumerate() {
                    enter(key, format!("[{number}]").as_bytes());
                    is_changed |= self.redact_within(key, item, fates);
                }
            }
            single => is_changed = self.redact_single(key, single, fates),
        }
        key.truncate(length);
        is_changed
    }

    /// Redacts a value that holds no others; whether it changed.
    fn redact_single(&self, key: &[u8], value: &mut Value<'static>, fates: &mut BodyFates) -> bool {
        let text = as_text(value);
        if self.allowed_values.iter().any(|pattern| pattern.is_found_in(&text)) {
            fates.allowed.push(key.to_vec());
            return false;
        }
        let Some(masked) = self.mask_body(&text) else { return false };
        fates.masked.push(key.to_vec());
        *value = Value::Text(Cow::Owned(masked));
        true
    }

    fn blocks_key(&self, key: &[u8]) -> bool {
        self.blocked_key_patterns.iter().any(|pattern| pattern.is_found_in(key))
    }

    fn ignores(&self, key: &[u8]) -> bool {
        self.ignored_keys.contains(key) || self.ignored_key_patterns.iter().any(|pattern| pattern.is_found_in(key))
    }

    fn allows_key(&self, key: &[u8]) -> bool {
        let is_told = || {
            let own = [REDACTED.0, REDACTED.1, MASKED.0, MASKED.1, IGNORED.1];
            own.iter().any(|name| name.as_bytes() == key)
        };
        self.allowed_keys.as_ref().is_none_or(|allowed| allowed.contains(key) || is_told())
    }

    fn redact_value(&self, place: usize, system: &[u8], list: &mut AttributeList, fates: &mut Fates) {
        let value = list.value(place);
        let text = match &value {
            Value::Text(text) => Cow::Borrowed(&**text),
            other if self.redacts_all_types => as_text(other),
            _ => Cow::Borrowed(&b""[..]),
        };
        if self.allowed_values.iter().any(|pattern| pattern.is_found_in(&text)) {
            return fates.allowed.push(place);
        }
        let key = list.key(place);
        let masked =
            if self.blocks_key(key) { Some(self.mask_lines(&text)) } else { self.mask_attribute(&text, key, system) };
        if let Some(masked) = masked {
            fates.masked.push(place);
            let masked = list.write_value(&Value::Text(Cow::Owned(masked)));
            list.replace(place, masked);
        }
    }

    /// Each line of a text masked, as the Collector's pattern `.*` takes it.
    fn mask_lines(&self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
            if number > 0 {
                out.push(b'\n');
            }
            self.mask.write(line, &mut out);
            if outgrows(&out, text) {
                return self.mask.of(text);
            }
        }
        out
    }

    /// The value of the attribute `key` with what is blocked masked, and then cleaned; `None` if nothing changed.
    fn mask_attribute(&self, text: &[u8], key: &[u8], system: &[u8]) -> Option<Vec<u8>> {
        let masked = self.mask_values(text);
        if text.is_empty() || (self.urls.is_none() && self.databases.is_none()) {
            return masked;
        }
        let mut masked = masked.map_or(Cow::Borrowed(text), Cow::Owned);
        if self.urls.as_ref().is_some_and(|urls| urls.attributes.contains(key)) {
            masked = Cow::Owned(UrlSanitizer::cleaned(&masked));
        }
        let databases = self.databases.as_ref();
        if let Some(cleaned) = databases.and_then(|databases| databases.cleaned_attribute(&masked, key, system)) {
            masked = Cow::Owned(cleaned);
        }
        match masked {
            Cow::Owned(masked) if masked != text => Some(masked),
            _ => None,
        }
    }

    /// The same of a text of a body, which may be anything.
    fn mask_body(&self, text: &[u8]) -> Option<Vec<u8>> {
        let mut masked = self.mask_values(text);
        if self.urls.is_some() {
            masked = Some(UrlSanitizer::cleaned(masked.as_deref().unwrap_or(text)));
        }
        if let Some(databases) = &self.databases {
            masked = Some(databases.cleaned_body(masked.as_deref().unwrap_or(text)));
        }
        masked.filter(|masked| *masked != text)
    }

    /// `text` with what is blocked masked, pattern after pattern; `None` if nothing changed.
    fn mask_values(&self, text: &[u8]) -> Option<Vec<u8>> {
        let mut masked = Cow::Borrowed(text);
        for pattern in &self.blocked_values {
            if let Some(replaced) = self.mask_found(pattern, &masked) {
                masked = Cow::Owned(replaced);
            }
        }
        match masked {
            Cow::Owned(masked) if masked != text => Some(masked),
            _ => None,
        }
    }

    /// `text` with each match masked; `None` if there is none.
    fn mask_found(&self, pattern: &Pattern, text: &[u8]) -> Option<Vec<u8>> {
        // A pattern that matches nothing at all does so between bytes; a letter is not taken apart for it.
        let is_inside_letter = |at: usize| text.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
        let found = pattern.regex().find_iter(text);
        let mut found = found.filter(|found| !(found.is_empty() && is_inside_letter(found.start()))).peekable();
        found.peek()?;
        let mut out = Vec::with_capacity(text.len());
        let mut kept = 0;
        for found in found {
            out.extend_from_slice(&text[kept..found.start()]);
            self.mask.write(found.as_bytes(), &mut out);
            kept = found.end();
            if outgrows(&out, text) {
                return Some(self.mask.of(text));
            }
        }
        out.extend_from_slice(&text[kept..]);
        Some(out)
    }

    /// Writes what was done to these keys, with what earlier redactions did.
    fn tell(&self, (keys_name, count_name): (&str, &str), mut keys: Vec<Vec<u8>>, list: &mut AttributeList) {
        if keys.is_empty() {
            return;
        }
        let mut count = keys.len() as i64;
        if self.summary == Summary::Debug && !keys_name.is_empty() {
            if let Some(Value::Text(earlier)) = list.find(keys_name.as_bytes()).map(|place| list.value(place))
                && !earlier.is_empty()
            {
                keys.extend(earlier.split(|byte| *byte == b',').map(<[u8]>::to_vec));
            }
            keys.sort_unstable();
            let value = list.write_value(&Value::Text(Cow::Owned(keys.join(&b','))));
            list.put(keys_name.as_bytes(), value);
        }
        if let Some(Value::Int(earlier)) = list.find(count_name.as_bytes()).map(|place| list.value(place)) {
            count = count.saturating_add(earlier);
        }
        let value = list.write_value(&Value::Int(count));
        list.put(count_name.as_bytes(), value);
    }
}

/// Whether masking made so much of a text that it is masked as a whole instead: many short matches with a hash each grow
/// a peer's text a hundredfold.
fn outgrows(out: &[u8], text: &[u8]) -> bool {
    out.len() > text.len().max(VALUE_BYTES_MAX)
}

impl Mask {
    /// What stands in the place of `text`.
    fn of(&self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(text, &mut out);
        out
    }

    fn write(&self, text: &[u8], out: &mut Vec<u8>) {
        let digest = match self {
            Self::Stars => return out.extend_from_slice(b"****"),
            Self::Md5 => hex(&Md5::digest(text)),
            Self::Sha1 => hex(&Sha1::digest(text)),
            Self::Sha3 => hex(&sha3_256(text)),
            Self::HmacSha256(HmacKey(key)) => hex(&hmac::<Sha256, 64>(key, text)),
            Self::HmacSha512(HmacKey(key)) => hex(&hmac::<Sha512, 128>(key, text)),
        };
        out.extend_from_slice(digest.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attributes::field;
    use crate::sanitize::Database;

    fn list_of(entries: &[(&str, Value<'_>)]) -> AttributeList {
        let mut list = AttributeList::default();
        list.begin(&[], field::SPAN);
        for (key, value) in entries {
            let value = list.write_value(value);
            list.push(key.as_bytes(), value);
        }
        list
    }

    /// Attributes `before` are `after` once `redaction` is done.
    fn check(redaction: &Redaction, before: &[(&str, Value<'_>)], after: &[(&str, Value<'_>)]) {
        let mut list = list_of(before);
        redaction.redact(&mut list);
        let found: Vec<_> =
            list.places().map(|place| (std::str::from_utf8(list.key(place)).unwrap(), list.value(place))).collect();
        assert_eq!(found, after);
    }

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| Pattern::new(text).unwrap()).collect()
    }

    fn keys(texts: &[&str]) -> BTreeSet<Vec<u8>> {
        texts.iter().map(|text| text.as_bytes().to_vec()).collect()
    }

    fn text(text: &str) -> Value<'_> {
        Value::text(text)
    }

    #[test]
    fn only_allowed_keys_stay_and_ignored_ones_stay_untouched() {
        let redaction = Redaction {
            allowed_keys: Some(keys(&["id"])),
            ignored_keys: keys(&["safe"]),
            ignored_key_patterns: patterns(&["^k8s"]),
            blocked_values: patterns(&["4[0-9]{3}"]),
            ..Redaction::default()
        };
        let before = [
            ("id", text("card 4111 and 4222")),
            ("safe", text("4111")),
            ("name", text("x")),
            ("k8s.pod", text("4111")),
            ("id", text("again")),
        ];
        let after = [
            ("id", text("card **** and ****")),
            ("safe", text("4111")),
            ("k8s.pod", text("4111")),
            ("id", text("again")),
        ];
        check(&redaction, &before, &after);
        check(&Redaction { allowed_keys: Some(BTreeSet::new()), ..Redaction::default() }, &before, &[]);
        check(&Redaction::default(), &before, &before);
    }

    #[test]
    fn allowed_values_win_over_blocked_keys_and_values() {
        let redaction = Redaction {
            allowed_values: patterns(&["@mycompany.com$"]),
            blocked_values: patterns(&[".+@.+"]),
            blocked_key_patterns: patterns(&["token"]),
            ..Redaction::default()
        };
        let before = [("a", text("me@mycompany.com")), ("b", text("me@other.com")), ("token", text("x@mycompany.com"))];
        check(&redaction, &before, &[("a", text("me@mycompany.com")), ("b", text("****")), before[2].clone()]);
    }

    #[test]
    fn blocked_keys_are_masked_line_by_line_whatever_their_type_and_bytes() {
        let redaction = Redaction { blocked_key_patterns: patterns(&["token"]), ..Redaction::default() };
        let broken = Value::Text(Cow::Borrowed(b"ab\xff\xfecd"));
        let before =
            [("token", text("a\nb\n")), ("token2", Value::Int(1234)), ("token3", broken), ("token4", text(""))];
        let after = [
            ("token", text("****\n****\n****")),
            ("token2", text("****")),
            ("token3", text("****")),
            ("token4", text("****")),
        ];
        check(&redaction, &before, &after);
    }

    #[test]
    fn other_types_are_looked_at_only_where_asked() {
        let blocked = Redaction { blocked_values: patterns(&["4[0-9]{12}"]), ..Redaction::default() };
        let card = [("card", Value::Int(4_111_111_111_111))];
        check(&blocked, &card, &card);
        check(&Redaction { redacts_all_types: true, ..blocked }, &card, &[("card", text("****"))]);
    }

    #[test]
    fn the_mask_is_a_hash_where_asked() {
        let key = || HmacKey(b"0123456789abcdef0123456789abcdef".to_vec());
        let cases = [
            (Mask::Md5, "900150983cd24fb0d6963f7d28e17f72"),
            (Mask::Sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (Mask::Sha3, "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532"),
            (Mask::HmacSha256(key()), "a60c859a6827c5ea576a48d8d368672fbfe4667c6a927428284a0cb3859cc1d6"),
            (
                Mask::HmacSha512(key()),
                "d044797ec77ed095c210264f697d9d528ccc3b649bff12db65460ddd8c1bf636aa7a21cab24b996eb5c562452496eb5487ee4ea624ded53aa1ffb4de4d5570c5",
            ),
        ];
        for (mask, hash) in cases {
            let redaction = Redaction { blocked_values: patterns(&["abc"]), mask, ..Redaction::default() };
            check(&redaction, &[("a", text("<abc>"))], &[("a", text(&format!("<{hash}>")))]);
        }
        assert_eq!(format!("{:?}", Mask::HmacSha256(key())), "HmacSha256(HmacKey(..))");
    }

    #[test]
    fn the_summary_counts_and_names_what_was_done_now_and_before() {
        let redaction = |summary| Redaction {
            allowed_keys: Some(keys(&["b", "ok"])),
            ignored_keys: keys(&["i"]),
            blocked_values: patterns(&["secret"]),
            allowed_values: patterns(&["public"]),
            summary,
            ..Redaction::default()
        };
        let before =
            [("z", text("1")), ("a", text("2")), ("b", text("secret")), ("ok", text("public")), ("i", text("secret"))];
        let kept = [("b", text("****")), ("ok", text("public")), ("i", text("secret"))];
        let counts = [
            ("redaction.redacted.count", Value::Int(2)),
            ("redaction.masked.count", Value::Int(1)),
            ("redaction.allowed.count", Value::Int(1)),
            ("redaction.ignored.count", Value::Int(1)),
        ];
        check(&redaction(Summary::Silent), &before, &kept);
        check(&redaction(Summary::Info), &before, &[&kept[..], &counts].concat());
        let mut list = list_of(&before);
        redaction(Summary::Debug).redact(&mut list);
        let value = list.write_value(&text("more"));
        list.push(b"y", value);
        redaction(Summary::Debug).redact(&mut list);
        let told = |key: &str| list.value(list.find(key.as_bytes()).unwrap()).into_owned();
        // What the first one added beside its own names is not on its list of allowed keys.
        assert_eq!(told("redaction.redacted.keys"), text("a,redaction.allowed.count,redaction.allowed.keys,y,z"));
        assert_eq!(told("redaction.redacted.count"), Value::Int(5));
    }

    #[test]
    fn a_text_that_would_grow_without_end_is_masked_as_a_whole() {
        let many = "a".repeat(VALUE_BYTES_MAX / 2);
        let redaction = Redaction { blocked_values: patterns(&["a"]), ..Redaction::default() };
        check(&redaction, &[("k", text(&many))], &[("k", text("****"))]);
        let redaction = Redaction { blocked_key_patterns: patterns(&["k"]), ..Redaction::default() };
        check(&redaction, &[("k", text(&"\n".repeat(VALUE_BYTES_MAX)))], &[("k", text("****"))]);
    }

    #[test]
    fn bodies_of_log_records_are_redacted_at_every_depth_and_told_of() {
        use codecs::otlp::proto;
        use prost::Message;

        let redaction = Redaction {
            allowed_keys: Some(BTreeSet::from(["user", "mail", "list", "id"].map(|key| key.as_bytes().to_vec()))),
            ignored_keys: BTreeSet::from([b"id".to_vec()]),
            blocked_key_patterns: vec![Pattern::new("^mail$").unwrap()],
            blocked_values: vec![Pattern::new("[0-9]{4}").unwrap()],
            summary: Summary::Debug,
            ..Redaction::default()
        };
        let check = |body: Value<'_>, expected: Option<Value<'_>>, told: &[(&str, Value<'_>)]| {
            let mut record = vec![0x10, 9];
            let mut any = Vec::new();
            write_any(&mut any, &body);
            codecs::wire::write_length_field(&mut record, field::LOG_BODY, &any);
            let (mut list, mut scratch, mut out) = (AttributeList::default(), Vec::new(), Vec::new());
            let is_changed = redaction.redact_record(&record, &mut list, &mut scratch, &mut out);
            assert_eq!(is_changed, expected.is_some() || !told.is_empty());
            let after = proto::LogRecord::decode(&*out).unwrap();
            assert_eq!(after.severity_number, 9);
            let after_body = after.body.unwrap().encode_to_vec();
            assert_eq!(read_any(&after_body), expected.unwrap_or(body));
            list.begin(&out, field::LOG);
            let found: Vec<_> = list
                .places()
                .map(|place| (String::from_utf8_lossy(list.key(place)).into_owned(), list.value(place)))
                .collect();
            let told: Vec<_> = told.iter().map(|(key, value)| ((*key).to_owned(), value.borrowed())).collect();
            assert_eq!(found, told);
        };
        check(Value::text("all right"), None, &[]);
        check(
            Value::text("pin 1234"),
            Some(Value::text("pin ****")),
            &[("redaction.body.masked.keys", Value::text("body")), ("redaction.body.masked.count", Value::Int(1))],
        );
        check(
            Value::Int(12345),
            Some(Value::text("****5")),
            &[("redaction.body.masked.keys", Value::text("body")), ("redaction.body.masked.count", Value::Int(1))],
        );
        let map = |entries: Vec<(&'static str, Value<'static>)>| {
            Value::Map(entries.into_iter().map(|(key, value)| (Cow::Borrowed(key.as_bytes()), value)).collect())
        };
        let user = |mail: &'static str| map(vec![("mail", Value::text(mail)), ("id", Value::text("1234"))]);
        let list = |last: &'static str| Value::List(vec![Value::text("a"), Value::text(last)]);
        check(
            map(vec![("user", user("ann@example.com")), ("list", list("2345")), ("other", Value::Bool(true))]),
            Some(map(vec![("user", user("****")), ("list", list("****"))])),
            &[
                ("redaction.body.redacted.keys", Value::text("other")),
                ("redaction.body.redacted.count", Value::Int(1)),
                ("redaction.body.masked.keys", Value::text("list.[1],user.mail")),
                ("redaction.body.masked.count", Value::Int(2)),
                ("redaction.body.ignored.count", Value::Int(1)),
            ],
        );
    }

    fn sanitizers() -> Redaction {
        let attributes = keys(&["q"]);
        let all = [Database::Sql, Database::Redis, Database::Memcached, Database::Mongo];
        Redaction {
            urls: Some(UrlSanitizer { attributes: keys(&["url"]), cleans_span_names: true }),
            databases: Some(DatabaseSanitizer {
                databases: all.into_iter().map(|database| (database, attributes.clone())).collect(),
                cleans_span_names: true,
            }),
            ..Redaction::default()
        }
    }

    #[test]
    fn urls_and_queries_are_cleaned_in_the_attributes_that_are_named() {
        let redaction = Redaction { summary: Summary::Debug, ..sanitizers() };
        let check_query = |system: &str, query: &str, expected: &str| {
            let mut list = list_of(&[("db.system", text(system)), ("q", text(query)), ("other", text(query))]);
            redaction.redact(&mut list);
            let found = |key: &str| list.find(key.as_bytes()).map(|place| list.value(place).into_owned());
            assert_eq!(found("q"), Some(text(expected)), "{system}");
            assert_eq!(found("other"), Some(text(query)), "{system}");
            assert_eq!(found("redaction.masked.keys"), (query != expected).then(|| text("q")));
        };
        check_query("MySQL", "select 1", "select ?");
        check_query("mssql", "select 1", "select ?");
        check_query("redis", "SET k 1", "SET ?");
        check_query("memcached", "get k1", "get k1");
        check_query("mongodb", "{\"a\": 1}", "{\"a\":\"?\"}");
        check_query("mongodb", "no json", "?");
        check_query("elasticsearch", "{\"a\": 1}", "{\"a\": 1}");
        // Nobody says what it is: every language takes away what it takes for values.
        check_query("", "select 1, 2", "select ?");
        check(&sanitizers(), &[("url", text("/users/42?x=1"))], &[("url", text("/users/*"))]);
    }

    #[test]
    fn names_of_spans_are_cleaned_where_they_hold_urls_or_queries() {
        use codecs::otlp::proto;
        use prost::Message;

        let check = |redaction: &Redaction, kind: i32, system: &str, name: &str, expected: &str| {
            let mut span = proto::Span { name: name.into(), kind, end_time_unix_nano: 7, ..Default::default() };
            let value = Some(proto::AnyValue { value: Some(proto::Value::String(system.into())) });
            span.attributes.push(proto::KeyValue { key: b"db.system.name".to_vec(), value });
            let (mut list, mut scratch, mut out) = (AttributeList::default(), Vec::new(), Vec::new());
            let is_changed = redaction.redact_span(&span.encode_to_vec(), &mut list, &mut scratch, &mut out);
            let after = proto::Span::decode(&*out).unwrap();
            assert_eq!(String::from_utf8_lossy(&after.name), expected, "{kind} {system}");
            assert_eq!(is_changed, name != expected);
            assert_eq!(proto::Span { name: span.name.clone(), ..after }, span);
        };
        let all = sanitizers();
        check(&all, 3, "", "GET /users/42", "GET /users/*");
        check(&all, 1, "", "GET /users/42", "GET /users/42");
        check(&all, 2, "", "/42/43", "/42/43");
        check(&all, 2, "", "job 42", "job 42");
        check(&all, 3, "mysql", "select 42", "select ?");
        check(&all, 1, "redis", "SET a b", "SET ?");
        check(&all, 5, "redis", "SET a b", "SET a b");
        let allowed = Redaction { allowed_values: patterns(&["^GET /users"]), ..sanitizers() };
        check(&allowed, 3, "", "GET /users/42", "GET /users/42");
        let mut off = sanitizers();
        off.urls.as_mut().unwrap().cleans_span_names = false;
        off.databases.as_mut().unwrap().cleans_span_names = false;
        check(&off, 3, "mysql", "GET /users/42", "GET /users/42");
        // The attribute that names the database may be one that goes.
        let strict = Redaction { allowed_keys: Some(BTreeSet::new()), ..sanitizers() };
        let span = proto::Span {
            name: b"select 42".to_vec(),
            kind: 3,
            attributes: vec![proto::KeyValue {
                key: b"db.system".to_vec(),
                value: Some(proto::AnyValue { value: Some(proto::Value::String(b"mysql".to_vec())) }),
            }],
            ..Default::default()
        };
        let (mut list, mut scratch, mut out) = (AttributeList::default(), Vec::new(), Vec::new());
        assert!(strict.redact_span(&span.encode_to_vec(), &mut list, &mut scratch, &mut out));
        let after = proto::Span::decode(&*out).unwrap();
        assert_eq!((after.name, after.attributes), (b"select ?".to_vec(), Vec::new()));
    }
}
