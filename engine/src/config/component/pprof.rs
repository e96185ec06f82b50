//! `extensions.pprof`: where profiles of the process are given.

use crate::config::checked::ExtensionKind;
use crate::config::component::endpoint;
use crate::config::section::{Field, Idle};
use crate::config::service::loopback;

const PORT: u16 = 1777;

/// Reads the settings.
pub(crate) fn check(field: &Field<'_>) -> Option<ExtensionKind> {
    let section = field.section()?;
    // Go's runtime samples blocking and locks; shards have no locks to wait for.
    section.ignored(&["block_profile_fraction", "mutex_profile_fraction"]);
    section.no_effect("save_to_file", Idle::Zero, "fetch /debug/pprof/profile?seconds=30 while the gateway works");
    let address = match section.field("endpoint").filter(|field| !field.node.is_null()) {
        Some(field) => endpoint::listen_numeric(&field)?,
        None => loopback(PORT),
    };
    Some(ExtensionKind::Pprof(address))
}
