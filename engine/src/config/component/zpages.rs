//! `extensions.zpages`: the admin pages, where people of the Collector look for them.

use crate::config::checked::{ExtensionKind, TlsServerSettings};
use crate::config::component::{endpoint, tls};
use crate::config::section::{Field, Idle};
use crate::config::service::{ADMIN_PORT, loopback};

/// Reads the settings.
pub(crate) fn check(field: &Field<'_>) -> Option<(ExtensionKind, Option<TlsServerSettings>)> {
    let section = field.section()?;
    section.unsupported(
        "auth",
        Idle::Zero,
        "authentication on the admin pages",
        "listen on loopback, and remove `auth`",
    );
    if let Some(expvar) = section.section("expvar") {
        expvar.no_effect("enabled", Idle::Bool(false), "scrape `/metrics` instead");
    }
    let tls = tls::server(&section);
    let address = match section.field("endpoint").filter(|field| !field.node.is_null()) {
        Some(field) => endpoint::listen_numeric(&field)?,
        None => loopback(ADMIN_PORT),
    };
    Some((ExtensionKind::Zpages(address), tls))
}
