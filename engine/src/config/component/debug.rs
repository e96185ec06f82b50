//! `exporters.debug`: lines on standard error.

use crate::config::checked::{ExporterKind, Verbosity};
use crate::config::section::{Field, Idle};

const VERBOSITY: [(&str, Verbosity); 3] =
    [("basic", Verbosity::Basic), ("normal", Verbosity::Normal), ("detailed", Verbosity::Detailed)];

/// Reads the settings.
pub(crate) fn check(field: &Field<'_>) -> Option<ExporterKind> {
    let section = field.section()?;
    let verbosity = section.choice("verbosity", &VERBOSITY, Verbosity::Basic);
    let every_line = "remove it: every line is shown";
    section.no_effect("sampling_initial", Idle::Int(2), every_line);
    section.no_effect("sampling_thereafter", Idle::Int(1), every_line);
    // Both of the Collector's ways end on a stream of the process.
    section.ignored(&["use_internal_logger"]);
    section.no_effect("output_paths", Idle::Zero, "remove it: lines go to standard error");
    section.no_effect("sending_queue", Idle::Disabled, "remove it: lines are written at once");
    Some(ExporterKind::Debug { verbosity })
}
