//! `exporters.nop`: the documented discard mode.

use crate::config::checked::ExporterKind;
use crate::config::section::Field;

/// Reads the settings; there are none.
pub(crate) fn check(field: &Field<'_>) -> Option<ExporterKind> {
    field.section()?;
    Some(ExporterKind::Nop)
}
