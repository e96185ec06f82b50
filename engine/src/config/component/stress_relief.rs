//! `stress_relief` of `tail_sampling`: what it does as memory gets short, and from when to when.
//!
//! ```yaml
//! stress_relief:
//!   certain: {from_percentage: 80, until_percentage: 75}
//!   compress: {from_percentage: 85, until_percentage: 80}
//!   shed: {enabled: true, from_percentage: 92, until_percentage: 88, sampling_percentage_min: 1}
//! ```
//!
//! What loses nothing is on unless it is switched off; what gives traces up is off unless it is switched on.

use sampling::settings::{Relief, Shedding, StressRelief};

use crate::config::section::Section;

/// A step that is not written at all.
struct Default {
    enabled: bool,
    from: f64,
    until: f64,
}

const CERTAIN: Default = Default { enabled: true, from: 80.0, until: 75.0 };
const COMPRESS: Default = Default { enabled: true, from: 85.0, until: 80.0 };
const SHED: Default = Default { enabled: false, from: 92.0, until: 88.0 };

/// The least share of traces that is still taken, in percent.
const SAMPLING_PERCENTAGE_MIN: f64 = 1.0;
/// Below it shedding would be a way to turn tracing off.
const SAMPLING_PERCENTAGE_LEAST: f64 = 0.01;
/// Shares are halved.
const SAMPLING_PERCENTAGE_MOST: f64 = 50.0;

/// Reads the settings, from those of the processor.
pub(crate) fn check(processor: &Section<'_>, writes_threshold: bool) -> StressRelief {
    let section = processor.section_or_empty("stress_relief");
    let certain = step(&section.section_or_empty("certain"), CERTAIN);
    if writes_threshold
        && let Some(field) = section.field("certain")
        && certain.is_some()
    {
        field.warning(
            "has no effect with `write_threshold`: a later span may still change what a trace stands for",
            "write `certain: {enabled: false}`, or remove it",
        );
    }
    // A section is opened once: keys that nobody asks it for are errors.
    let shed = section.section_or_empty("shed");
    let probability_min = sampling_percentage_min(&shed) / 100.0;
    StressRelief {
        // With thresholds it does nothing, and nobody should see it begin.
        certain: certain.filter(|_| !writes_threshold),
        compress: step(&section.section_or_empty("compress"), COMPRESS),
        shed: step(&shed, SHED).map(|relief| Shedding { relief, probability_min }),
    }
}

fn step(step: &Section<'_>, default: Default) -> Option<Relief> {
    let enabled = step.boolean("enabled", default.enabled);
    let from = percentage(step, "from_percentage").unwrap_or(default.from);
    // Who moves the beginning moves the end with it.
    let until_default = default.until.min(from - (default.from - default.until)).max(1.0);
    let until = percentage(step, "until_percentage").unwrap_or(until_default);
    if until > from
        && let Some(field) = step.field("until_percentage")
    {
        field.error(
            format!("the step would end at {until} %, above {from} %, where it begins"),
            "write a percentage that is at most `from_percentage`; some percent less keep it from flapping",
        );
    }
    enabled.then_some(Relief { from: from / 100.0, until: until.min(from) / 100.0 })
}

/// A percentage of the soft limit at which nothing is refused yet.
fn percentage(step: &Section<'_>, key: &'static str) -> Option<f64> {
    let field = step.field(key)?;
    let percentage = field.float()?;
    if !(1.0..100.0).contains(&percentage) {
        field.error(
            format!("expected a percentage from 1 to below 100, found {}", field.found()),
            "it is a part of the memory limit less its spike; at 100 requests are refused",
        );
        return None;
    }
    Some(percentage)
}

fn sampling_percentage_min(shed: &Section<'_>) -> f64 {
    const KEY: &str = "sampling_percentage_min";
    let percentage = shed.float(KEY, SAMPLING_PERCENTAGE_MIN);
    if (SAMPLING_PERCENTAGE_LEAST..=SAMPLING_PERCENTAGE_MOST).contains(&percentage) {
        return percentage;
    }
    if let Some(field) = shed.field(KEY) {
        let range = format!("{SAMPLING_PERCENTAGE_LEAST} to {SAMPLING_PERCENTAGE_MOST}");
        field.error(
            format!("expected a percentage from {range}, found {percentage}"),
            "it is the least share of traces that is still taken at the soft limit, such as `1`",
        );
    }
    SAMPLING_PERCENTAGE_MIN
}
