//! Names of metrics and labels, from OpenTelemetry's to Prometheus'.
//!
//! The one idea: a name is a list of words; a unit adds words unless the name has them already, a counter ends in
//! `total`, and everything is joined by underscores. It never touches values, and never makes an empty name.
//!
//! Rules: OpenTelemetry specification, "Prometheus and OpenMetrics compatibility", as the Collector's exporter applies
//! them.

/// How names are translated: `translation_strategy` of the exporter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TranslationStrategy {
    /// Letters, digits and underscores only; unit and kind are part of the name.
    #[default]
    UnderscoreEscapingWithSuffixes,
    /// Letters, digits and underscores only; nothing is added.
    UnderscoreEscapingWithoutSuffixes,
    /// Any UTF-8; unit and kind are part of the name. Needs a receiver that takes such names.
    NoUtf8EscapingWithSuffixes,
    /// Names as they came.
    NoTranslation,
}

impl TranslationStrategy {
    /// The strategy that configurations call `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "UnderscoreEscapingWithSuffixes" => Some(Self::UnderscoreEscapingWithSuffixes),
            "UnderscoreEscapingWithoutSuffixes" => Some(Self::UnderscoreEscapingWithoutSuffixes),
            "NoUTF8EscapingWithSuffixes" => Some(Self::NoUtf8EscapingWithSuffixes),
            "NoTranslation" => Some(Self::NoTranslation),
            _ => None,
        }
    }

    /// Whether names may hold any UTF-8.
    #[must_use]
    pub fn is_utf8(self) -> bool {
        matches!(self, Self::NoUtf8EscapingWithSuffixes | Self::NoTranslation)
    }
}

/// What the name of a metric says about its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NameEnd {
    /// A monotonic sum: `total`.
    Total,
    /// A gauge of unit `1`: `ratio`.
    Ratio,
    /// Nothing.
    Plain,
}

impl NameEnd {
    fn word(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Ratio => "ratio",
            Self::Plain => "",
        }
    }
}

/// The name of a metric family, or `None` if nothing but underscores would be left.
pub(super) fn metric_name(
    name: &str,
    unit: &str,
    end: NameEnd,
    namespace: &str,
    strategy: TranslationStrategy,
) -> Option<String> {
    if name.is_empty() {
        return None;
    }
    let built = match strategy {
        TranslationStrategy::UnderscoreEscapingWithSuffixes => escaped_with_suffixes(name, unit, end, namespace),
        TranslationStrategy::UnderscoreEscapingWithoutSuffixes => {
            let is_kept = |letter: char| letter.is_ascii_alphanumeric() || letter == ':' || letter == '_';
            let words = name.split(|letter| !is_kept(letter)).filter(|word| !word.is_empty());
            with_namespace(&escape(namespace), words.collect::<Vec<_>>().join("_"))
        }
        TranslationStrategy::NoUtf8EscapingWithSuffixes => {
            with_namespace(namespace, utf8_with_suffixes(name, unit, end))
        }
        TranslationStrategy::NoTranslation => with_namespace(namespace, name.to_owned()),
    };
    if built.chars().all(|letter| letter == '_') {
        return None;
    }
    let needs_prefix = !strategy.is_utf8() && built.starts_with(|first: char| first.is_ascii_digit());
    Some(if needs_prefix { format!("_{built}") } else { built })
}

fn with_namespace(namespace: &str, name: String) -> String {
    if namespace.is_empty() || name.is_empty() { name } else { format!("{namespace}_{name}") }
}

fn escaped_with_suffixes(name: &str, unit: &str, end: NameEnd, namespace: &str) -> String {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || letter == ':';
    let words = name.split(|letter| !is_letter(letter)).filter(|word| !word.is_empty());
    let mut words: Vec<String> = words.map(str::to_owned).collect();
    let (main, per) = unit_words(unit);
    for word in [clean_unit(&main), clean_unit(&per)] {
        if !word.is_empty() && !words.contains(&word) {
            words.push(word);
        }
    }
    if end != NameEnd::Plain {
        words.retain(|word| word != end.word());
        words.push(end.word().to_owned());
    }
    if !namespace.is_empty() {
        words.insert(0, escape(namespace));
    }
    words.join("_")
}

/// A namespace is one word whatever it holds; what no name may hold becomes an underscore.
fn escape(namespace: &str) -> String {
    let letter = |letter: char| if letter.is_ascii_alphanumeric() || letter == ':' { letter } else { '_' };
    namespace.chars().map(letter).collect()
}

fn utf8_with_suffixes(name: &str, unit: &str, end: NameEnd) -> String {
    let (main, per) = unit_words(unit);
    let suffixes = [main.as_str(), per.as_str(), end.word()];
    let mut rest = name;
    for suffix in suffixes.iter().rev().filter(|suffix| !suffix.is_empty()) {
        rest = without_suffix(rest, suffix);
    }
    let mut built = rest.to_owned();
    for suffix in suffixes.iter().filter(|suffix| !suffix.is_empty()) {
        built.push('_');
        built.push_str(suffix);
    }
    built
}

/// `name` without a last word `suffix` and the letter that parts them.
fn without_suffix<'a>(name: &'a str, suffix: &str) -> &'a str {
    let Some(front) = name.strip_suffix(suffix) else {
        return name;
    };
    match front.char_indices().next_back() {
        Some((at, letter)) if at > 0 && !letter.is_alphanumeric() => &front[..at],
        _ => name,
    }
}

/// The words a unit adds: its own, and the one after its first slash. Parts in braces add nothing (UCUM annotations).
fn unit_words(unit: &str) -> (String, String) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let part = |part: &str| {
        let part = part.trim();
        if part.contains(['{', '}']) { String::new() } else { part.to_owned() }
    };
    let main = main_unit(&part(main)).to_owned();
    let per = match per_unit(&part(per)) {
        "" => String::new(),
        word => format!("per_{word}"),
    };
    (main, per)
}

/// A unit's word as part of a name: other letters become one underscore, none leads or trails.
fn clean_unit(word: &str) -> String {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || letter == ':';
    let words = word.split(|letter| !is_letter(letter)).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("_")
}

fn main_unit(unit: &str) -> &str {
    match unit {
        "d" => "days",
        "h" => "hours",
        "min" => "minutes",
        "s" => "seconds",
        "ms" => "milliseconds",
        "us" => "microseconds",
        "ns" => "nanoseconds",
        "By" => "bytes",
        "KiBy" => "kibibytes",
        "MiBy" => "mebibytes",
        "GiBy" => "gibibytes",
        "TiBy" => "tebibytes",
        "KBy" => "kilobytes",
        "MBy" => "megabytes",
        "GBy" => "gigabytes",
        "TBy" => "terabytes",
        "m" => "meters",
        "V" => "volts",
        "A" => "amperes",
        "J" => "joules",
        "W" => "watts",
        "g" => "grams",
        "Cel" => "celsius",
        "Hz" => "hertz",
        "1" => "",
        "%" => "percent",
        other => other,
    }
}

fn per_unit(unit: &str) -> &str {
    match unit {
        "s" => "second",
        "m" => "minute",
        "h" => "hour",
        "d" => "day",
        "w" => "week",
        "mo" => "month",
        "y" => "year",
        other => other,
    }
}

/// The name of a label, or `None` if nothing but underscores would be left.
pub(super) fn label_name(key: &str, strategy: TranslationStrategy) -> Option<String> {
    if strategy.is_utf8() {
        return (!key.is_empty()).then(|| key.to_owned());
    }
    let mut name = String::with_capacity(key.len() + 4);
    for letter in key.chars() {
        if letter.is_ascii_alphanumeric() {
            name.push(letter);
        } else if !name.ends_with('_') {
            name.push('_');
        }
    }
    match name.as_bytes() {
        [] | [b'_'] => None,
        [b'0'..=b'9', ..] => Some(format!("key_{name}")),
        [b'_', ..] => Some(format!("key{name}")),
        _ => Some(name),
    }
}

/// The name of a label of `target_info`: runs of underscores stay, and none gets a prefix.
pub(super) fn target_label_name(key: &str, strategy: TranslationStrategy) -> Option<String> {
    if strategy.is_utf8() {
        return (!key.is_empty()).then(|| key.to_owned());
    }
    let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '_' };
    let name: String = key.chars().map(letter).collect();
    match name.as_bytes().first() {
        _ if name.bytes().all(|letter| letter == b'_') => None,
        // Names that start so belong to Prometheus itself.
        Some(b'_') if name.starts_with("__") => Some(format!("key{name}")),
        Some(b'0'..=b'9') => Some(format!("key_{name}")),
        _ => Some(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(strategy: TranslationStrategy, cases: &[(&str, &str, NameEnd, &str)]) {
        for (name, unit, end, expected) in cases {
            let found = metric_name(name, unit, *end, "", strategy).unwrap_or_default();
            assert_eq!(found, *expected, "{name:?} in {unit:?}, {end:?}, {strategy:?}");
        }
    }

    #[test]
    fn a_metric_is_named_after_its_words_its_unit_and_its_kind() {
        use NameEnd::{Plain, Ratio, Total};
        check(
            TranslationStrategy::UnderscoreEscapingWithSuffixes,
            &[
                ("http.server.request.duration", "s", Plain, "http_server_request_duration_seconds"),
                ("system.memory.usage", "By", Plain, "system_memory_usage_bytes"),
                ("requests.total.count", "1", Total, "requests_count_total"),
                ("cpu.utilization", "1", Ratio, "cpu_utilization_ratio"),
                ("cpu.ratio.used", "1", Ratio, "cpu_used_ratio"),
                ("jvm.gc.pause", "ms", Plain, "jvm_gc_pause_milliseconds"),
                ("network.io", "By", Total, "network_io_bytes_total"),
                ("foo.bytes", "By", Total, "foo_bytes_total"),
                ("queue.length", "{items}", Plain, "queue_length"),
                ("speed_meters", "m/s", Plain, "speed_meters_per_second"),
                ("rate", "{requests}/s", Plain, "rate_per_second"),
                ("rate", "By/{op}", Plain, "rate_bytes"),
                ("fuel", "l/km", Plain, "fuel_l_per_km"),
                ("a..b--c", "", Plain, "a_b_c"),
                (".hidden.", "", Plain, "hidden"),
                ("1st.place", "", Plain, "_1st_place"),
                ("job:rate", "", Plain, "job:rate"),
                ("naïve", "", Plain, "na_ve"),
                ("heat", " Cel ", Plain, "heat_celsius"),
                ("x", "weird unit!", Plain, "x_weird_unit"),
                ("", "s", Plain, ""),
                ("...", "", Plain, ""),
            ],
        );
    }

    #[test]
    fn without_suffixes_only_letters_are_replaced() {
        use NameEnd::{Plain, Total};
        check(
            TranslationStrategy::UnderscoreEscapingWithoutSuffixes,
            &[
                ("network.io", "By", Total, "network_io"),
                ("a__b.c", "s", Plain, "a__b_c"),
                ("1st", "", Plain, "_1st"),
                ("___", "", Plain, ""),
            ],
        );
    }

    #[test]
    fn utf8_names_keep_their_letters_and_get_suffixes_once() {
        use NameEnd::{Plain, Total};
        check(
            TranslationStrategy::NoUtf8EscapingWithSuffixes,
            &[
                ("http.server.duration", "s", Plain, "http.server.duration_seconds"),
                ("network.io_bytes_total", "By", Total, "network.io_bytes_total"),
                ("größe", "By/s", Plain, "größe_bytes_per_second"),
                ("total", "", Total, "total_total"),
                ("subtotal", "", Total, "subtotal_total"),
            ],
        );
        check(TranslationStrategy::NoTranslation, &[("a.b", "By", Total, "a.b"), ("1", "", Plain, "1")]);
    }

    #[test]
    fn a_namespace_comes_first() {
        let name = |namespace, strategy| metric_name("4xx.count", "", NameEnd::Total, namespace, strategy);
        let escaping = TranslationStrategy::UnderscoreEscapingWithSuffixes;
        assert_eq!(name("shop", escaping).as_deref(), Some("shop_4xx_count_total"));
        assert_eq!(name("my-shop", escaping).as_deref(), Some("my_shop_4xx_count_total"));
        assert_eq!(name("shop", TranslationStrategy::NoTranslation).as_deref(), Some("shop_4xx.count"));
    }

    #[test]
    fn labels_hold_letters_digits_and_single_underscores() {
        let check = |key: &str, expected: &str, of_target: &str| {
            let strategy = TranslationStrategy::default();
            assert_eq!(label_name(key, strategy).unwrap_or_default(), expected, "{key:?}");
            assert_eq!(target_label_name(key, strategy).unwrap_or_default(), of_target, "{key:?} of target_info");
        };
        check("http.status_code", "http_status_code", "http_status_code");
        check("a..b", "a_b", "a__b");
        check("2xx", "key_2xx", "key_2xx");
        check("_private", "key_private", "_private");
        check("__name__", "key_name_", "key__name__");
        check("...", "", "");
        check("", "", "");
        check("größe", "gr_e", "gr__e");
        assert_eq!(label_name("a.b", TranslationStrategy::NoTranslation).as_deref(), Some("a.b"));
    }
}
