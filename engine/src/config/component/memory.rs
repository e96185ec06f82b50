//! `exporters.memory`, ours: the last traces, held for `tracegate traces`.

use crate::config::checked::ExporterKind;
use crate::config::section::Field;

const TRACES_MAX: u32 = 1000;
/// Traces are charged to the budget; beyond this many a backend is the better place.
const TRACES_MAX_LARGEST: i128 = 1_000_000;

/// Reads the settings.
pub(crate) fn check(field: &Field<'_>) -> Option<ExporterKind> {
    let section = field.section()?;
    let traces_max =
        section.field("traces_max").and_then(|field| field.int(1..=TRACES_MAX_LARGEST)).unwrap_or(TRACES_MAX.into());
    Some(ExporterKind::Memory { traces_max: usize::try_from(traces_max).expect("the range says so") })
}
