//! The rules for names and texts, for the naive twin: they have golden tests of their own. Not part of the interface.

use super::names::{NameEnd, label_name, metric_name, target_label_name};
use super::settings::Settings;
use super::text::{write_bound, write_value};

/// The name of a family; `end` is `total`, `ratio` or empty.
#[must_use]
pub fn family_name(name: &str, unit: &str, end: &str, settings: &Settings) -> Option<String> {
    let end = match end {
        "total" => NameEnd::Total,
        "ratio" => NameEnd::Ratio,
        _ => NameEnd::Plain,
    };
    metric_name(name, unit, end, &settings.namespace, settings.strategy)
}

/// The name of a label.
#[must_use]
pub fn label_of(key: &str, settings: &Settings) -> Option<String> {
    label_name(key, settings.strategy)
}

/// The name of a label of `target_info`.
#[must_use]
pub fn target_label_of(key: &str, settings: &Settings) -> Option<String> {
    target_label_name(key, settings.strategy)
}

/// The text of an AnyValue's bytes.
#[must_use]
pub fn value_text(value: &[u8]) -> String {
    let mut text = String::new();
    write_value(value, &mut text);
    text
}

/// The text of a bound or quantile.
#[must_use]
pub fn bound_text(bound: f64) -> String {
    let mut text = String::new();
    write_bound(bound, &mut text);
    text
}
