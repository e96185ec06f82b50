//! `processors.resource`: actions on resource attributes.

use super::actions;
use crate::config::checked::ProcessorKind;
use crate::config::section::Field;

/// Reads the settings.
pub(crate) fn check(field: &Field<'_>) -> Option<ProcessorKind> {
    actions::check(&field.section()?, "attributes").map(ProcessorKind::Resource)
}
