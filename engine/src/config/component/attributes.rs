//! `processors.attributes`: actions on attributes of those spans that `include` and `exclude` select.

use super::{actions, properties};
use crate::config::checked::ProcessorKind;
use crate::config::section::Field;

/// Reads the settings.
pub(crate) fn check(field: &Field<'_>) -> Option<ProcessorKind> {
    let section = field.section()?;
    let selection = properties::selection(&section);
    let actions = actions::check(&section, "actions");
    Some(ProcessorKind::Attributes { selection: Box::new(selection?), actions: actions? })
}
