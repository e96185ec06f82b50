//! `receivers.nop`, which receives nothing, and `exporters.nop`: the documented discard mode.

use crate::config::checked::{ExporterKind, OtlpReceiverSettings};
use crate::config::section::Field;

/// Reads the exporter's settings; there are none.
pub(crate) fn check(field: &Field<'_>) -> Option<ExporterKind> {
    field.section()?;
    Some(ExporterKind::Nop)
}

/// Reads the receiver's settings; there are none. A receiver that listens to no protocol receives nothing.
pub(crate) fn check_receiver(field: &Field<'_>) -> Option<OtlpReceiverSettings> {
    field.section()?;
    Some(OtlpReceiverSettings { grpc: None, http: None, files: None })
}
