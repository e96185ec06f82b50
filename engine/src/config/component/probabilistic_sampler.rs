//! `processors.probabilistic_sampler`: which share of the spans or log records is kept, and how the share is drawn.

use sampling::consistent::{DIGITS_MAX, PROBABILITY_MIN};
use sampling::head::{HeadSampler, HeadSettings, Mode};

use crate::config::checked::{ProcessorKind, RecordSettings, SamplerSettings};
use crate::config::section::{Field, Section};

const MODES: [(&str, Mode); 3] =
    [("hash_seed", Mode::HashSeed), ("equalizing", Mode::Equalizing), ("proportional", Mode::Proportional)];

/// Reads the settings.
pub(crate) fn check(field: &Field<'_>) -> Option<ProcessorKind> {
    let section = field.section()?;
    let defaults = HeadSettings::default();
    let percentage = percentage(&section);
    let precision = section.field("sampling_precision").and_then(|field| field.int(1..=DIGITS_MAX.into()));
    let settings = HeadSettings {
        percentage: percentage.unwrap_or(defaults.percentage),
        mode: section.choice("mode", &MODES, defaults.mode),
        hash_seed: section.u32("hash_seed", 0, defaults.hash_seed),
        fails_closed: section.boolean("fail_closed", defaults.fails_closed),
        precision: precision.map_or(defaults.precision, |digits| u8::try_from(digits).expect("the range says so")),
    };
    if settings.mode != Mode::HashSeed
        && settings.hash_seed != 0
        && let Some(field) = section.field("hash_seed")
    {
        field.warning(
            "has no effect: only the mode `hash_seed` hashes trace ids",
            "remove it, or write `mode: hash_seed`",
        );
    }
    if percentage.is_some_and(|percentage| percentage > 0.0)
        && HeadSampler::new(&settings).keeps_nothing()
        && let Some(field) = section.field("sampling_percentage")
    {
        field.warning(
            format!("{} percent is less than one of the 16384 steps of `mode: hash_seed`", settings.percentage),
            "nothing will be kept: raise it to 0.0062 or more, or write `mode: proportional`",
        );
    }
    let records = for_log_records(&section);
    Some(ProcessorKind::ProbabilisticSampler(SamplerSettings { head: settings, records }))
}

fn percentage(section: &Section<'_>) -> Option<f32> {
    let Some(field) = section.field("sampling_percentage").filter(|field| !field.node.is_null()) else {
        section.warning(
            "`sampling_percentage` is missing; only spans with a priority are kept",
            "add `sampling_percentage:`, from 0 to 100",
        );
        return None;
    };
    // The Collector computes with 32-bit floats, and the same spans are to be kept.
    let percentage = field.float()? as f32;
    if percentage < 0.0 || percentage.is_nan() {
        field.error(format!("expected a percentage of 0 or more, found {percentage}"), "write a number from 0 to 100");
    } else if percentage > 0.0 && f64::from(percentage) / 100.0 < PROBABILITY_MIN {
        field.error(
            format!("{percentage} percent is less than one in 2^56, the least there is"),
            "raise it, or write 0 to keep nothing",
        );
    } else if percentage > 100.0 {
        field.warning(format!("{percentage} percent counts as 100"), "write a number from 0 to 100");
    }
    Some(percentage)
}

/// Keys that only matter to log records; in a traces pipeline they change nothing, as in the Collector.
fn for_log_records(section: &Section<'_>) -> RecordSettings {
    let named = |key| section.text(key).filter(|text| !text.is_empty()).map(String::into_bytes);
    RecordSettings {
        uses_trace_id: section.choice("attribute_source", &[("traceID", true), ("record", false)], true),
        from_attribute: named("from_attribute"),
        priority: named("sampling_priority"),
    }
}
