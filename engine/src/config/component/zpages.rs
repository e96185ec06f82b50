//! `extensions.zpages`: the admin pages, where people of the Collector look for them.

use crate::config::checked::ExtensionKind;
use crate::config::component::endpoint;
use crate::config::section::{Field, Idle};
use crate::config::service::{ADMIN_PORT, loopback};

/// Reads the settings.
pub(crate) fn check(field: &Field<'_>) -> Option<ExtensionKind> {
    let section = field.section()?;
    section.unsupported("tls", Idle::Zero, "TLS on the admin pages", "listen on loopback, and remove `tls`");
    section.unsupported(
        "auth",
        Idle::Zero,
        "authentication on the admin pages",
        "listen on loopback, and remove `auth`",
    );
    if let Some(expvar) = section.section("expvar") {
        expvar.no_effect("enabled", Idle::Bool(false), "scrape `/metrics` instead");
    }
    let address = match section.field("endpoint").filter(|field| !field.node.is_null()) {
        Some(field) => endpoint::listen_numeric(&field)?,
        None => loopback(ADMIN_PORT),
    };
    Some(ExtensionKind::Zpages(address))
}
